//! What can happen next.

use std::fmt;

use super::setup::Setup;
use super::state::{ATTEMPTS, Choice, Enclave, Newest, State, fresh, newer};

/// An enclave, as people call it: A, B… and A', A''… in their place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who {
    member: u8,
    machine: u8,
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", char::from(b'A' + self.member))?;
        (0..self.machine).try_for_each(|_| write!(out, "'"))
    }
}

/// An attempt, for people: generation and number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At(u8, u8);

impl fmt::Display for At {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.0, self.1)
    }
}

/// A choice, for people: the attempt in which it came up, and which of that attempt's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct What(At, u8);

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", char::from(b'v' + self.1), self.0)
    }
}

/// One step, for people.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// An enclave learns of the next epoch.
    Learn(Who, u8),
    /// A newcomer is answered. Is it told that something was adopted? Does it act now?
    Answer(Who, Who, bool, bool),
    /// A proposal is accepted: of something that was adopted in this attempt, or fresh.
    Accept(Who, At, What, Option<At>),
    /// It says what it wants.
    Vote(Who, At, What),
    /// It says what a quorum wants.
    Adopt(Who, At, What),
    /// It leaves, and names what it has adopted.
    Quit(Who, At, Option<What>),
    /// It goes where a quorum has gone.
    Enter(Who, At),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Learn(who, generation) => write!(out, "{who} learns of generation {generation}"),
            Self::Answer(who, by, told, acts) => {
                let told = if *told { "that something was adopted" } else { "of nothing" };
                write!(out, "{who} is told {told} by {by}{}", if *acts { " and acts" } else { "" })
            }
            Self::Accept(who, at, what, Some(adopted)) => {
                write!(out, "{who} accepts in {at} that {what} is proposed, which was adopted in {adopted}")
            }
            Self::Accept(who, at, what, None) => {
                write!(out, "{who} accepts in {at} that {what} is proposed, afresh")
            }
            Self::Vote(who, at, what) => write!(out, "{who} votes in {at} for {what}"),
            Self::Adopt(who, at, what) => write!(out, "{who} adopts in {at} {what}"),
            Self::Quit(who, at, Some(what)) => write!(out, "{who} quits {at}, naming {what}"),
            Self::Quit(who, at, None) => write!(out, "{who} quits {at}, naming nothing"),
            Self::Enter(who, at) => write!(out, "{who} enters {at}"),
        }
    }
}

impl Setup {
    fn who(&self, index: usize) -> Who {
        let place = &self.enclaves[index];
        Who { member: place.member as u8, machine: place.machine as u8 }
    }

    fn at(&self, attempt: usize) -> At {
        let generation = self.generations_of(attempt).next().unwrap_or_default();
        At(generation, (attempt - self.attempt(generation, 0)) as u8)
    }

    fn what(&self, choice: Choice) -> What {
        What(self.at(usize::from(choice - 1) / 2), (choice - 1) % 2)
    }
}

/// The steps from one state.
struct Steps<'a> {
    setup: &'a Setup,
    state: &'a State,
    steps: Vec<(Step, State)>,
    /// What opens each attempt, once it was asked for.
    openings: [Option<Openings>; ATTEMPTS],
}

/// What proposals of an attempt may have to repeat, and what else those name who have quit the one before.
#[derive(Clone)]
struct Openings {
    again: Vec<Option<Newest>>,
    named: Vec<Newest>,
}

/// All that can happen in `state`.
pub fn next(setup: &Setup, state: &State) -> Vec<(Step, State)> {
    let mut steps = Steps { setup, state, steps: Vec::new(), openings: [const { None }; ATTEMPTS] };
    for (index, place) in setup.enclaves.iter().enumerate().filter(|(_, place)| !place.broken) {
        let enclave = &state.enclaves[index];
        if enclave.generation < place.until {
            steps.learn(index);
        }
        if !enclave.acting {
            steps.ask(index);
        } else if enclave.generation > 0 || !setup.only_seed {
            steps.speak(index);
            steps.quit(index);
            steps.enter(index);
            steps.accept(index);
        }
    }
    steps.steps
}

impl Steps<'_> {
    /// Another state of one enclave.
    fn add(&mut self, step: Step, index: usize, change: impl FnOnce(&mut Enclave)) {
        let mut state = *self.state;
        change(&mut state.enclaves[index]);
        self.steps.push((step, state));
    }

    fn learn(&mut self, index: usize) {
        let mut state = *self.state;
        learn(self.setup, &mut state, index);
        let step = Step::Learn(self.setup.who(index), state.enclaves[index].generation);
        self.steps.push((step, state));
    }

    fn ask(&mut self, index: usize) {
        for helper in self.setup.honest(self.state.enclaves[index].generation) {
            let mut state = *self.state;
            if answer(self.setup, &mut state, index, helper) {
                let told = self.setup.rules.tell_newcomers && self.state.enclaves[helper].knows();
                let (who, by) = (self.setup.who(index), self.setup.who(helper));
                self.steps.push((Step::Answer(who, by, told, state.enclaves[index].acting), state));
            }
        }
    }

    fn speak(&mut self, index: usize) {
        let enclave = &self.state.enclaves[index];
        if enclave.at >= self.setup.numbers(enclave.generation) {
            return;
        }
        let attempt = self.setup.attempt(enclave.generation, enclave.at);
        if !may_speak(self.setup, enclave) {
            return;
        }
        let (who, at) = (self.setup.who(index), self.setup.at(attempt));
        if enclave.votes[attempt] == 0 {
            let votes = match enclave.at {
                0 => (0..self.setup.fresh).map(|which| fresh(attempt, which)).collect(),
                _ if enclave.accepted > 0 => vec![enclave.accepted],
                _ => Vec::new(),
            };
            for choice in votes {
                let step = Step::Vote(who, at, self.setup.what(choice));
                self.add(step, index, |enclave| enclave.vote(attempt, choice));
            }
        }
        if enclave.adopts[attempt] == 0 {
            for choice in self.setup.certified(self.state, attempt, enclave.generation) {
                let step = Step::Adopt(who, at, self.setup.what(choice));
                self.add(step, index, |enclave| enclave.adopt(attempt, choice));
            }
        }
    }

    fn quit(&mut self, index: usize) {
        let setup = self.setup;
        let enclave = &self.state.enclaves[index];
        // Nothing follows from it that the last attempt is quit.
        let is_last = enclave.at + 1 >= setup.numbers(enclave.generation);
        let attempt = setup.attempt(enclave.generation, enclave.at);
        if is_last || enclave.unknowing || enclave.quits[attempt].is_some() {
            return;
        }
        let names = enclave.newest.filter(|_| setup.rules.carry).map(|newest| setup.what(newest.choice));
        let step = Step::Quit(setup.who(index), setup.at(attempt), names);
        self.add(step, index, |enclave| {
            enclave.quit(setup, attempt);
            if !setup.rules.wait_for_quorum {
                (enclave.at, enclave.accepted) = (enclave.at + 1, 0);
            }
        });
    }

    fn enter(&mut self, index: usize) {
        let setup = self.setup;
        let Enclave { generation, at, .. } = self.state.enclaves[index];
        for number in at + 1..setup.numbers(generation) {
            if !has_left(setup, self.state, generation, number - 1) {
                continue;
            }
            let step = Step::Enter(setup.who(index), setup.at(setup.attempt(generation, number)));
            self.add(step, index, |enclave| enclave.enter(setup, number));
        }
    }

    fn accept(&mut self, index: usize) {
        let setup = self.setup;
        let Enclave { generation, at, accepted, newest, .. } = self.state.enclaves[index];
        for number in at.max(1)..setup.numbers(generation) {
            if number == at && accepted > 0 {
                continue;
            }
            let attempt = setup.attempt(generation, number);
            // If generations make no difference, others may be meant in each.
            let known = self.openings[attempt].take().filter(|_| setup.rules.generations);
            let openings = known.unwrap_or_else(|| Openings {
                again: setup.openings(self.state, generation, number),
                named: setup.named(self.state, generation, setup.attempt(generation, number - 1)),
            });
            for opening in &openings.again {
                let choices = match opening {
                    Some(again) => vec![again.choice],
                    None => (0..setup.fresh).map(|which| fresh(attempt, which)).collect(),
                };
                let least = newer(newest, *opening);
                // It takes over what other quits name that it happens to know.
                let is_newer = |named: &Newest| least.is_none_or(|least| named.attempt > least.attempt);
                let mut inherited = vec![least];
                inherited.extend(openings.named.iter().filter(|named| is_newer(named)).copied().map(Some));
                for choice in choices {
                    let adopted = opening.map(|opening| setup.at(usize::from(opening.attempt)));
                    let (who, at) = (setup.who(index), setup.at(attempt));
                    let step = Step::Accept(who, at, setup.what(choice), adopted);
                    for inherited in &inherited {
                        self.add(step, index, |enclave| enclave.accept(number, choice, *inherited));
                    }
                }
            }
            self.openings[attempt] = Some(openings);
        }
    }
}

/// Whether an enclave may vote and adopt in the attempt that it is in.
pub fn may_speak(setup: &Setup, enclave: &Enclave) -> bool {
    let attempt = setup.attempt(enclave.generation, enclave.at);
    let has_quit = setup.rules.quit_ends && enclave.quits[attempt].is_some();
    !(enclave.unknowing || has_quit || enclave.at == 0 && enclave.kept_out)
}

/// Whether a quorum has quit an attempt.
fn has_left(setup: &Setup, state: &State, generation: u8, number: u8) -> bool {
    let quits = setup.quits(state, generation, setup.attempt(generation, number)).count();
    quits + setup.liars(generation) >= setup.quorum(generation)
}

/// An enclave goes by the next epoch.
pub fn learn(setup: &Setup, state: &mut State, index: usize) {
    let enclave = &mut state.enclaves[index];
    enclave.generation += 1;
    if !enclave.acting {
        // What it was answered under the epoch before does not count.
        state.enclaves.iter_mut().for_each(|helper| helper.answered &= !(1 << index));
    } else if setup.rules.generations {
        let rules = setup.rules;
        enclave.kept_out = rules.keep_out
            && (enclave.has_voted
                || rules.inherited_counts && enclave.newest.is_some()
                || rules.past_first_counts && enclave.at > 0
                || enclave.kept_out && rules.past_first_counts);
        (enclave.at, enclave.accepted) = (0, 0);
    }
}

/// `helper` answers a newcomer, if that counts.
pub fn answer(setup: &Setup, state: &mut State, index: usize, helper: usize) -> bool {
    let (asker, speaker) = (state.enclaves[index], &mut state.enclaves[helper]);
    let counts =
        speaker.acting && speaker.generation == asker.generation && speaker.answered >> index & 1 == 0;
    if !counts {
        return false;
    }
    speaker.answered |= 1 << index;
    let knows = speaker.knows();
    let answers = state.enclaves.iter().filter(|enclave| enclave.answered >> index & 1 == 1).count();
    let newcomer = &mut state.enclaves[index];
    newcomer.told |= knows && setup.rules.tell_newcomers;
    if answers + setup.liars(newcomer.generation) >= setup.quorum(newcomer.generation) {
        (newcomer.acting, newcomer.unknowing) = (true, newcomer.told);
        state.enclaves.iter_mut().for_each(|helper| helper.answered &= !(1 << index));
    }
    true
}

impl Enclave {
    /// Whether it tells newcomers that something was adopted.
    fn knows(&self) -> bool {
        self.newest.is_some() || self.told
    }

    /// Says what it wants.
    pub fn vote(&mut self, attempt: usize, choice: Choice) {
        (self.votes[attempt], self.has_voted) = (choice, true);
    }

    /// Says what a quorum wants.
    pub fn adopt(&mut self, attempt: usize, choice: Choice) {
        (self.adopts[attempt], self.has_voted) = (choice, true);
        self.newest = newer(self.newest, Some(Newest { attempt: attempt as u8, choice }));
    }

    /// Leaves.
    pub fn quit(&mut self, setup: &Setup, attempt: usize) {
        self.quits[attempt] = Some(self.newest.filter(|_| setup.rules.carry));
    }

    /// Goes where a quorum has gone: it has left the attempt before, too.
    pub fn enter(&mut self, setup: &Setup, number: u8) {
        let before = setup.attempt(self.generation, number - 1);
        if !self.unknowing && self.quits[before].is_none() {
            self.quit(setup, before);
        }
        (self.at, self.accepted) = (number, 0);
    }

    /// Takes a proposal of an attempt, and what those have adopted who have quit the one before.
    pub fn accept(&mut self, number: u8, choice: Choice, inherited: Option<Newest>) {
        (self.at, self.accepted, self.newest) = (number, choice, inherited);
        self.unknowing = false;
    }
}
