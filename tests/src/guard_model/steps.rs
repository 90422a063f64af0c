//! What can happen next.

use std::fmt;

use super::rules::{LISTED, after_cut, floor, let_in};
use super::setup::{Change, Setup};
use super::state::{Answer, Ballot, Cut, Letter, MEMBERS, Memory, State, Twin, X, age};

/// A copy, as people call it: X0, A0, A1…
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who {
    member: u8,
    name: u8,
}

impl Who {
    fn of(twin: &Twin) -> Self {
        Self { member: twin.member as u8, name: twin.name }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", letter(self.member), self.name)
    }
}

fn letter(member: u8) -> char {
    "XABCD".chars().nth(usize::from(member)).unwrap_or('?')
}

/// One step, for people.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A copy is made of another one: old state is kept, and started some time.
    Fork(Who, Who),
    /// The same, and it begins a log of its own.
    Inherit(Who, Who),
    /// An honest host restarts its enclave.
    Restart(Who),
    /// A copy stops acting, and waits for a cut.
    Await(Who),
    /// A copy takes the second epoch; now it acts, or does not.
    Epoch(Who, bool),
    /// The DAO lists these copies.
    Cut([Option<Who>; MEMBERS]),
    /// An entry is written.
    Write(Who),
    /// A copy asks another one; now it acts, or does not.
    Ask(Who, Who, bool),
    /// A note is acknowledged; something leaves, or does not.
    Note(Who, Who, u8, bool, bool),
    /// A history is shown.
    Show(Who, Who),
    /// An answer is given, or an entry noted, and the word of it is on its way.
    Give(Who, Who, Option<u8>),
    /// It arrives; the copy acts, or does not.
    Take(Who, bool),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = |yes: &bool, what: &'static str| if *yes { what } else { "" };
        match self {
            Self::Fork(who, new) => write!(out, "{new} is a copy of {who}"),
            Self::Inherit(who, new) => write!(out, "{new} is an heir of {who}"),
            Self::Restart(who) => write!(out, "{who} is restarted by its honest host"),
            Self::Await(who) => write!(out, "{who} stops acting and waits for a cut"),
            Self::Epoch(who, acts) => write!(out, "{who} takes the epoch{}", then(acts, " and acts")),
            Self::Cut(whom) => {
                write!(out, "the DAO lists")?;
                whom.iter().flatten().try_for_each(|who| write!(out, " {who}"))
            }
            Self::Write(who) => write!(out, "{who} writes an entry"),
            Self::Ask(who, whom, acts) => write!(out, "{who} asks {whom}{}", then(acts, " and acts")),
            Self::Note(who, whom, number, writes, leaves) => {
                let (writes, leaves) = (then(writes, "writes an entry and "), then(leaves, " and RELEASES"));
                write!(out, "{who} {writes}has entry {number} noted by {whom}{leaves}")
            }
            Self::Show(who, whom) => write!(out, "{who} shows its history to {whom}"),
            Self::Give(who, whom, None) => write!(out, "{whom} answers {who}, which does not hear it yet"),
            Self::Give(who, whom, Some(number)) => {
                write!(out, "{whom} notes entry {number} of {who}, which does not hear of it yet")
            }
            Self::Take(who, news) => {
                write!(out, "{who} hears an old answer{}", then(news, " and ACTS ON IT"))
            }
        }
    }
}

/// All that can happen in `state`.
pub fn next(setup: &Setup, state: &State) -> Vec<(Step, State)> {
    let mut steps = Vec::new();
    let over = state.cut.is_some() && setup.rules.old_epoch_over;
    for index in 0..state.twins.len() {
        let twin = &state.twins[index];
        restart(setup, state, index, &mut steps);
        epoch(setup, state, index, &mut steps);
        if over && twin.epoch == 0 {
            continue;
        }
        forks(setup, state, index, &mut steps);
        for other in 0..state.twins.len() {
            if !setup.acquainted(twin, &state.twins[other]) || setup.broken[twin.member] {
                continue;
            }
            if twin.acting && twin.member == X {
                note(setup, state, index, other, &mut steps);
                show(setup, state, index, other, &mut steps);
            } else if !twin.acting && !twin.awaits {
                ask(setup, state, index, other, &mut steps);
            }
        }
        write(setup, state, index, &mut steps);
    }
    if setup.is_cut() && state.cut.is_none() {
        awaits(state, &mut steps);
        cuts(setup, state, &mut steps);
    }
    letters(setup, state, &mut steps);
    steps
}

fn forks(setup: &Setup, state: &State, index: usize, steps: &mut Vec<(Step, State)>) {
    let twin = &state.twins[index];
    let member = twin.member;
    let own = |other: &&Twin| other.member == member;
    let copies = state.twins.iter().filter(own).filter(|other| same_machine(setup, other, twin)).count();
    if !setup.hostile[member] || setup.broken[member] || copies >= setup.copies[member] {
        return;
    }
    let last = state.twins.iter().filter(own).map(|other| other.name).max().unwrap_or_default();
    for (ballot, mut next) in state.new_ballots(member, twin.ballot) {
        let mut new = Twin { name: last + 1, ..next.twins[index] };
        new.restore(ballot);
        next.twins.push(new);
        steps.push((Step::Fork(Who::of(twin), Who::of(&new)), next.clone()));
        if setup.heirs && member == X && twin.acting {
            if let Some(heir) = next.twins.last_mut() {
                heir.base = heir.log.count();
            }
            steps.push((Step::Inherit(Who::of(twin), Who::of(&new)), next));
        }
    }
}

/// Whether the copies of both are counted together: those of a lost machine are not.
fn same_machine(setup: &Setup, left: &Twin, right: &Twin) -> bool {
    setup.replaced() != Some(left.member) || age(left.ballot) == age(right.ballot)
}

fn restart(setup: &Setup, state: &State, index: usize, steps: &mut Vec<(Step, State)>) {
    let twin = &state.twins[index];
    if setup.hostile[twin.member] || setup.broken[twin.member] || twin.restarts >= setup.restarts {
        return;
    }
    if let Some(mut next) = restarted(state, index) {
        next.twins[index].restarts += 1;
        steps.push((Step::Restart(Who::of(twin)), next));
    }
}

/// The newest ballot of all for one copy.
pub fn restarted(state: &State, index: usize) -> Option<State> {
    let twin = &state.twins[index];
    let (ballot, mut next) = state.new_ballots(twin.member, twin.ballot).pop()?;
    next.twins[index].restore(ballot);
    Some(next)
}

/// The next ballot after its own, for one copy of several.
fn restored(state: &State, index: usize) -> Option<State> {
    let twin = &state.twins[index];
    let (ballot, mut next) = state.new_ballots(twin.member, twin.ballot).into_iter().next()?;
    next.twins[index].restore(ballot);
    Some(next)
}

fn epoch(setup: &Setup, state: &State, index: usize, steps: &mut Vec<(Step, State)>) {
    let twin = &state.twins[index];
    if twin.epoch > 0 || !setup.names(1, twin.member, age(twin.ballot)) {
        return;
    }
    match (setup.change, &state.cut) {
        (Change::Nothing, _) | (Change::Cut(_), None) => {}
        (Change::Cut(_), Some(cut)) => take_cut(setup, state, index, cut, steps),
        (Change::Growth(_) | Change::Replacement(_), _) => {
            let mut next = state.clone();
            setup.take_epoch(&mut next.twins[index]);
            steps.push((Step::Epoch(Who::of(twin), false), next));
        }
    }
}

/// The listed copy acts. Another one begins a ballot of the new era, if it goes on from the listed place. If it does not, it
/// is stale; then it may as well go on under the old epoch.
fn take_cut(setup: &Setup, state: &State, index: usize, cut: &Cut, steps: &mut Vec<(Step, State)>) {
    let who = Who::of(&state.twins[index]);
    let mut next = state.clone();
    let twin = &mut next.twins[index];
    if !twin.acting && cut.ballots[twin.member] == Some(twin.ballot) {
        let_in(twin);
        return steps.push((Step::Epoch(who, true), next));
    }
    let (member, ballot) = (twin.member, twin.ballot);
    twin.restore(ballot);
    if member == X && !setup.goes_on(cut, &twin.ends) {
        return;
    }
    (twin.epoch, twin.memory) = (1, after_cut());
    for (ballot, mut next) in next.new_ballots(member, LISTED) {
        next.twins[index].ballot = ballot;
        steps.push((Step::Epoch(who, false), next));
    }
}

fn ask(setup: &Setup, state: &State, index: usize, other: usize, steps: &mut Vec<(Step, State)>) {
    let (twin, speaker) = (&state.twins[index], &state.twins[other]);
    let known = twin.words[speaker.member].is_some() || !speaker.acting && !setup.automatic;
    if setup.reduced && known {
        return;
    }
    let mut next = state.clone();
    let mut answers = Vec::new();
    if setup.broken[speaker.member] {
        answers = lies(setup, state, speaker, None);
    } else {
        if !setup.hear_claim(&mut next.twins[other].memory, twin, state.cut.as_ref()) {
            return;
        }
        answers.push(setup.answer(speaker, &speaker.memory, None));
    }
    for answer in answers {
        if setup.delays {
            give(&next, index, other, &answer, steps);
        }
        let mut taken = next.clone();
        setup.take(&mut taken, index, &answer);
        let acts = taken.twins[index].acting;
        steps.push((Step::Ask(Who::of(twin), Who::of(speaker), acts), taken));
    }
}

/// A broken enclave forgets all, and shows any true note of X or none.
fn lies(setup: &Setup, state: &State, speaker: &Twin, noted: Option<u8>) -> Vec<Answer> {
    let mut answers = vec![setup.answer(speaker, &Memory::default(), noted)];
    if noted.is_none() {
        for x in state.twins.iter().filter(|twin| twin.member == X && twin.acting) {
            let mut answer = answers[0].clone();
            answer.place = Some(x.place(x.number()));
            answer.promised[X] = x.ballot;
            answers.push(answer);
        }
    }
    answers
}

fn write(setup: &Setup, state: &State, index: usize, steps: &mut Vec<(Step, State)>) {
    let twin = &state.twins[index];
    if setup.reduced {
        return;
    }
    if let Some(next) = written(setup, state, index) {
        steps.push((Step::Write(Who::of(twin)), next));
    }
}

fn written(setup: &Setup, state: &State, index: usize) -> Option<State> {
    let twin = &state.twins[index];
    (twin.member == X && twin.acting && state.entries < setup.entries).then(|| {
        let mut next = state.clone();
        next.entries += 1;
        next.twins[index].log.push(twin.ballot);
        next
    })
}

fn note(setup: &Setup, state: &State, index: usize, other: usize, steps: &mut Vec<(Step, State)>) {
    let (twin, speaker) = (&state.twins[index], &state.twins[other]);
    if !speaker.acting || !setup.counts(twin.epoch, speaker.epoch) {
        return;
    }
    note_newest(setup, state, index, other, false, steps);
    if let Some(written) = written(setup, state, index).filter(|_| setup.reduced) {
        note_newest(setup, &written, index, other, true, steps);
    }
}

fn note_newest(
    setup: &Setup,
    state: &State,
    index: usize,
    other: usize,
    writes: bool,
    steps: &mut Vec<(Step, State)>,
) {
    let (twin, speaker) = (&state.twins[index], &state.twins[other]);
    let place = twin.place(twin.number());
    let mut next = state.clone();
    let answer = if setup.broken[speaker.member] {
        setup.answer(speaker, &Memory::default(), Some(place.number))
    } else {
        if !setup.hear_note(&mut next.twins[other].memory, twin, place) {
            return;
        }
        setup.answer(speaker, &next.twins[other].memory, Some(place.number))
    };
    if setup.delays {
        give(&next, index, other, &answer, steps);
    }
    setup.take(&mut next, index, &answer);
    let leaves = next.released != state.released || next.clash;
    steps.push((Step::Note(Who::of(twin), Who::of(speaker), place.number, writes, leaves), next));
}

/// X, asked for the history of its ballot, shows it. What it is told in return it may as well not hear.
fn show(setup: &Setup, state: &State, index: usize, other: usize, steps: &mut Vec<(Step, State)>) {
    let (twin, speaker) = (&state.twins[index], &state.twins[other]);
    if setup.broken[speaker.member] || setup.rules.one_note {
        return;
    }
    let mut next = state.clone();
    if setup.hear_claim(&mut next.twins[other].memory, twin, state.cut.as_ref()) && next != *state {
        steps.push((Step::Show(Who::of(twin), Who::of(speaker)), next));
    }
}

fn give(next: &State, index: usize, other: usize, answer: &Answer, steps: &mut Vec<(Step, State)>) {
    let (twin, speaker) = (&next.twins[index], &next.twins[other]);
    let mut given = next.clone();
    let letter = Letter { to: twin.member, ballot: twin.ballot, answer: answer.clone() };
    let same = |old: &Letter| {
        (old.to, old.ballot, old.answer.from, old.answer.noted)
            == (letter.to, letter.ballot, letter.answer.from, letter.answer.noted)
    };
    if !given.letters.iter().any(same) {
        given.letters.push(letter);
        let noted = answer.noted.then_some(answer.word.number);
        steps.push((Step::Give(Who::of(twin), Who::of(speaker), noted), given));
    }
}

fn letters(setup: &Setup, state: &State, steps: &mut Vec<(Step, State)>) {
    for (place, letter) in state.letters.iter().enumerate() {
        let asker =
            state.twins.iter().position(|twin| twin.member == letter.to && twin.ballot == letter.ballot);
        let mut next = state.clone();
        next.letters.remove(place);
        let Some(index) = asker else { continue };
        let before = state.twins[index];
        // An answer to a claim is of no use to a copy that acts.
        if before.acting == letter.answer.noted {
            setup.take(&mut next, index, &letter.answer);
        }
        let after = &next.twins[index];
        let news = after.acting != before.acting || next.released != state.released || next.clash;
        steps.push((Step::Take(Who::of(&before), news), next));
    }
}

/// A host has its enclave wait for a cut.
fn awaits(state: &State, steps: &mut Vec<(Step, State)>) {
    for (index, twin) in state.twins.iter().enumerate() {
        if let Some(mut next) = restored(state, index).filter(|_| twin.epoch == 0 && !twin.awaits) {
            next.twins[index].awaits = true;
            steps.push((Step::Await(Who::of(twin)), next));
        }
    }
}

/// The DAO lists a claim of each member, as far as it may.
fn cuts(setup: &Setup, state: &State, steps: &mut Vec<(Step, State)>) {
    let allowed = |claim: &&Twin| !setup.rules.released_listed || claim.log.starts_with(&state.released);
    for claim in claims(setup, state, X).filter(allowed) {
        for ballots in lists(setup, state, claim) {
            let mut next = State { cut: Some(Cut { ballots, floor: floor(claim) }), ..state.clone() };
            if setup.rules.old_epoch_over {
                end_epoch(setup, &mut next);
            }
            steps.push((Step::Cut(who(state, &ballots)), next));
        }
    }
}

/// All lists with this claim of X.
fn lists(setup: &Setup, state: &State, claim: &Twin) -> Vec<Ballots> {
    let mut lists = vec![[None; MEMBERS]];
    lists[0][X] = Some(claim.ballot);
    let noted = |twin: &&Twin| !setup.rules.noted_listed || setup.contains(claim, &twin.memory.accepted);
    for member in (1..setup.members).filter(|member| setup.replaced() != Some(*member)) {
        let with = |list: Ballots| {
            claims(setup, state, member).filter(noted).map(move |twin| {
                let mut list = list;
                list[member] = Some(twin.ballot);
                list
            })
        };
        lists = lists.into_iter().flat_map(with).collect();
    }
    lists
}

/// Drops what is of no use when nothing happens under the old epoch any more: what copies know, and those that are stale.
fn end_epoch(setup: &Setup, state: &mut State) {
    let Some(cut) = &state.cut else { return };
    for twin in state.twins.iter_mut().filter(|twin| twin.epoch == 0) {
        twin.memory = Memory::default();
        twin.forget_words();
        if cut.ballots[twin.member] == Some(twin.ballot) {
            continue;
        }
        twin.restore(twin.ballot);
        let stale = twin.member == X && !setup.goes_on(cut, &twin.ends);
        if stale || twin.member != X {
            let Twin { member, name, restarts, .. } = *twin;
            *twin = Twin { name, restarts, ..Twin::new(member, 0) };
        }
    }
    state.letters.clear();
}

fn who(state: &State, ballots: &Ballots) -> [Option<Who>; MEMBERS] {
    let mut names = [None; MEMBERS];
    for twin in state.twins.iter().filter(|twin| ballots[twin.member] == Some(twin.ballot)) {
        names[twin.member] = Some(Who::of(twin));
    }
    names
}

type Ballots = [Option<Ballot>; MEMBERS];

/// The copies of a member that may be listed.
fn claims<'a>(setup: &Setup, state: &'a State, member: usize) -> impl Iterator<Item = &'a Twin> {
    let waits = setup.rules.listed_wait;
    let claims = move |twin: &&Twin| twin.member == member && !twin.acting && (twin.awaits || !waits);
    state.twins.iter().filter(claims)
}
