//! What the model remembers: what each enclave has said, and what it goes by.

/// The most enclaves that a run may have.
pub const ENCLAVES: usize = 8;

/// The most attempts that a run may have, of all generations together.
pub const ATTEMPTS: usize = 10;

/// A choice: [`fresh`] says of which attempt it is. 0 stands for none.
pub type Choice = u8;

/// One of the choices that may come up in an attempt, of which there are two at most.
pub fn fresh(attempt: usize, which: u8) -> Choice {
    2 * attempt as u8 + which + 1
}

/// The attempt in which a choice came up.
pub fn origin(choice: Choice) -> usize {
    usize::from(choice - 1) / 2
}

/// A choice that somebody has adopted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Newest {
    /// In which attempt.
    pub attempt: u8,
    /// Which.
    pub choice: Choice,
}

/// The later one.
pub fn newer(one: Option<Newest>, other: Option<Newest>) -> Option<Newest> {
    match (one, other) {
        (Some(first), Some(second)) if second.attempt > first.attempt => other,
        (None, _) => other,
        _ => one,
    }
}

/// An enclave that is not broken. Of a broken one nothing is remembered, since it says everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Enclave {
    /// By which epoch it goes.
    pub generation: u8,
    /// Whether it acts. Otherwise it is a newcomer that asks to.
    pub acting: bool,
    /// Whether it was told, when it asked, that something was adopted.
    pub told: bool,
    /// Whether it says nothing, since it does not know what the machine before it has said.
    pub unknowing: bool,
    /// Whether it takes no part in the first attempt of its generation.
    pub kept_out: bool,
    /// Whether it has voted or adopted.
    pub has_voted: bool,
    /// The number of the attempt that it is in.
    pub at: u8,
    /// What the proposal says that it has accepted in this attempt.
    pub accepted: Choice,
    /// The newest choice that it has adopted, or taken over from others.
    pub newest: Option<Newest>,
    /// The newcomers that it has answered: a bit for each.
    pub answered: u8,
    /// What it has voted for, in each attempt.
    pub votes: [Choice; ATTEMPTS],
    /// What it has adopted, in each attempt.
    pub adopts: [Choice; ATTEMPTS],
    /// The attempts that it has quit, and what it said then.
    pub quits: [Option<Option<Newest>>; ATTEMPTS],
}

/// Everything at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// As in [`Setup::enclaves`](super::setup::Setup::enclaves).
    pub enclaves: [Enclave; ENCLAVES],
}
