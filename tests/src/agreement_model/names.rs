//! A name for each state, the same for all that differ only in what nobody can tell, or use any more: see
//! [the reductions](super#reductions).

use super::setup::Setup;
use super::state::{ATTEMPTS, Choice, ENCLAVES, Enclave, Newest, State, fresh, origin};
use crate::search::digest;

/// Gives states names.
pub struct Namer<'a> {
    setup: &'a Setup,
    /// Which enclaves are alike.
    kinds: Vec<usize>,
    any_alike: bool,
    any_liar: bool,
    /// Generation and number of each attempt.
    attempts: Vec<(u8, u8)>,
}

/// Whether somebody may yet vote or adopt in an attempt, and whether somebody may yet enter the next by quits of it.
#[derive(Clone, Copy)]
struct Open {
    speech: bool,
    quits: bool,
}

/// The most bytes of a row.
const ROW: usize = 6 + 5 * ATTEMPTS;

/// An enclave, written down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    kind: usize,
    bytes: [u8; ROW],
}

/// What choices are called instead.
type Renaming = [Choice; 2 * ATTEMPTS + 1];

impl<'a> Namer<'a> {
    /// For the states of this run.
    pub fn new(setup: &'a Setup) -> Self {
        // Who has answered which newcomer is remembered, so newcomers are told apart.
        let kind = |index: usize| {
            let place = &setup.enclaves[index];
            (place.until, place.broken, (place.since > 0).then_some(index))
        };
        let alike = |index: usize| (0..=index).find(|other| kind(*other) == kind(index)).unwrap_or(index);
        let place = |attempt: usize| {
            let generation = setup.generations_of(attempt).next().unwrap_or_default();
            (generation, (attempt - setup.attempt(generation, 0)) as u8)
        };
        let kinds: Vec<usize> = (0..setup.enclaves.len()).map(alike).collect();
        Self {
            setup,
            any_alike: kinds.iter().enumerate().any(|(index, kind)| index != *kind),
            kinds,
            any_liar: setup.enclaves.iter().any(|place| place.broken),
            attempts: (0..setup.attempts()).map(place).collect(),
        }
    }

    /// The name of a state.
    pub fn name(&self, state: &State) -> u128 {
        let count = self.setup.enclaves.len();
        let mut open = [Open { speech: true, quits: true }; ATTEMPTS];
        if self.setup.rules.generations {
            for (attempt, open) in open.iter_mut().enumerate().take(self.attempts.len()) {
                *open = self.open(state, attempt);
            }
        }
        let mut writer = Writer { bytes: [0; ROW], len: 0, choices: [0; ROW], count: 0 };
        let mut rows = [Row { kind: 0, bytes: [0; ROW] }; ENCLAVES];
        for (index, row) in rows.iter_mut().enumerate().take(count) {
            (writer.len, writer.count) = (0, 0);
            writer.enclave(&state.enclaves[index], &open[..self.attempts.len()]);
            *row = Row { kind: self.kinds[index], bytes: writer.bytes };
        }
        let choices = &writer.choices[..writer.count];
        let mut outcome = Vec::new();
        for attempt in (0..self.attempts.len()).filter(|attempt| !open[*attempt].speech) {
            self.outcome(state, attempt, &mut outcome);
        }
        // Once without regard to which of two choices it is, then with the names that follow from that order.
        let mut order = [0; ENCLAVES];
        order.iter_mut().enumerate().for_each(|(place, index)| *index = place);
        let order = &mut order[..count];
        if self.any_alike {
            sort(order, &rows, choices, |choice| fresh(origin(choice), 0));
            let names = names(&rows, order, choices, &outcome);
            sort(order, &rows, choices, |choice| names[usize::from(choice)]);
        }
        let names = names(&rows, order, choices, &outcome);
        let mut bytes = [0; ROW * ENCLAVES + 8 * ATTEMPTS];
        let mut len = 0;
        for index in &*order {
            let row = renamed(&rows[*index], choices, |choice| names[usize::from(choice)]);
            bytes[len..len + writer.len].copy_from_slice(&row.bytes[..writer.len]);
            len += writer.len;
        }
        for choice in outcome {
            bytes[len] = names[usize::from(choice)];
            len += 1;
        }
        digest(&bytes[..len])
    }

    /// What came of an attempt in which nobody says anything any more: what broken enclaves can show of it, and what was
    /// decided.
    fn outcome(&self, state: &State, attempt: usize, outcome: &mut Vec<Choice>) {
        if self.any_liar {
            outcome.extend(self.setup.certified(state, attempt, self.attempts[attempt].0));
        }
        outcome.push(0);
        outcome.extend(self.setup.decided_in(state, attempt));
        outcome.push(0);
    }

    /// Who can still use what was said in an attempt.
    fn open(&self, state: &State, attempt: usize) -> Open {
        let (generation, number) = self.attempts[attempt];
        let is_last = number + 1 >= self.setup.numbers(generation);
        let mut open = Open { speech: false, quits: false };
        for voter in self.setup.honest(generation) {
            let enclave = &state.enclaves[voter];
            let (is_early, is_now) = (enclave.generation < generation, enclave.generation == generation);
            let has_quit = self.setup.rules.quit_ends && enclave.quits[attempt].is_some();
            open.speech |= is_early || is_now && enclave.at <= number && !has_quit;
            let is_there = enclave.at > number + 1 || enclave.at == number + 1 && enclave.accepted > 0;
            open.quits |= !is_last && (is_early || is_now && !is_there);
        }
        open
    }
}

/// Calls choices as they would be called if, of each attempt, the one that is met first were the first.
fn names(rows: &[Row], order: &[usize], choices: &[u8], outcome: &[Choice]) -> Renaming {
    let mut names: Renaming = [0; 2 * ATTEMPTS + 1];
    let mut meet = |choice: Choice| {
        if choice > 0 && names[usize::from(choice)] == 0 {
            let first = fresh(origin(choice), 0);
            let other = if choice == first { first + 1 } else { first };
            names[usize::from(choice)] = first + u8::from(names[usize::from(other)] > 0);
        }
    };
    for index in order {
        choices.iter().for_each(|place| meet(rows[*index].bytes[usize::from(*place)]));
    }
    outcome.iter().for_each(|choice| meet(*choice));
    names
}

/// Sorts enclaves that are alike by what they are with these names.
fn sort(order: &mut [usize], rows: &[Row], choices: &[u8], name: impl Fn(Choice) -> Choice) {
    let mut named = [Row { kind: 0, bytes: [0; ROW] }; ENCLAVES];
    for index in &*order {
        named[*index] = renamed(&rows[*index], choices, &name);
    }
    order.sort_by(|one, other| named[*one].cmp(&named[*other]));
}

fn renamed(row: &Row, choices: &[u8], name: impl Fn(Choice) -> Choice) -> Row {
    let mut row = *row;
    for place in choices {
        let choice = &mut row.bytes[usize::from(*place)];
        if *choice > 0 {
            *choice = name(*choice);
        }
    }
    row
}

/// Writes an enclave down, and where in it there are choices: these are the same places for all enclaves of a state.
struct Writer {
    bytes: [u8; ROW],
    len: usize,
    choices: [u8; ROW],
    count: usize,
}

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn choice(&mut self, choice: Choice) {
        self.choices[self.count] = self.len as u8;
        self.count += 1;
        self.byte(choice);
    }

    fn newest(&mut self, newest: Option<Newest>) {
        let (attempt, choice) = newest.map_or((0, 0), |newest| (newest.attempt + 1, newest.choice));
        self.byte(attempt);
        self.choice(choice);
    }

    fn enclave(&mut self, enclave: &Enclave, open: &[Open]) {
        let Enclave { acting, told, unknowing, kept_out, has_voted, .. } = *enclave;
        let flags = [acting, told, unknowing, kept_out, has_voted];
        self.byte(flags.into_iter().fold(0, |flags, flag| flags << 1 | u8::from(flag)));
        self.byte(enclave.generation << 4 | enclave.at);
        self.byte(enclave.answered);
        self.choice(enclave.accepted);
        self.newest(enclave.newest);
        for (attempt, open) in open.iter().enumerate() {
            if open.speech {
                self.choice(enclave.votes[attempt]);
                self.choice(enclave.adopts[attempt]);
            }
            if open.speech || open.quits {
                let quit = enclave.quits[attempt];
                self.byte(u8::from(quit.is_some()));
                self.newest(quit.flatten());
            }
        }
    }
}
