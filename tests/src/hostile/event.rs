//! A run as data: how a DAO is set up, and what its hosts then do, one small event after the other.
//!
//! Events name packets, members and positions by numbers that are taken modulo what is there. So any part of a run's
//! events is a run too, which is what makes a failing one easy to shorten.

use postern_shared::ids::MemberId;
use postern_shared::message::Step;

/// A run: nothing else decides what happens in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The DAO.
    pub setup: Setup,
    /// What happens, in order.
    pub events: Vec<Event>,
}

/// The DAO that a run is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// What all machines' randomness comes from.
    pub seed: u64,
    /// How many members.
    pub members: u16,
    /// How many operators sign.
    pub operator: u16,
    /// How many guardians release.
    pub guardian: u16,
    /// Pools to make keys for.
    pub pools: u32,
    /// Members whose enclaves' keys are in the attacker's hands.
    pub corrupt: Vec<MemberId>,
    /// The only step that they lie at; at every one, if none.
    pub aim: Option<Step>,
    /// Whether the enclaves get to know each other before anything hostile happens.
    pub acquainted: bool,
    /// After how many bytes enclaves write snapshots, if not after as many as by default.
    pub snapshots: Option<usize>,
}

/// One thing that hosts do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A host tells its enclave what it has not yet told it.
    Tell(MemberId),
    /// A host lets time pass for its enclave.
    Tick(MemberId),
    /// A member is cut off from all others, or connected again.
    Cut(MemberId),
    /// Some packet is carried: any, not the oldest.
    Carry(Carry),
    /// A packet of long ago comes again.
    Replay {
        /// Which of all that were ever carried.
        pick: u32,
        /// To somebody else than it was for.
        to: Option<MemberId>,
    },
    /// The oldest packet comes once more, altered.
    Alter(Alteration),
    /// A statement comes that nobody has signed.
    Forge {
        /// Which packet of long ago it is made from.
        pick: u32,
        /// Which other one it takes a part of.
        other: u32,
        /// What is false.
        how: Forgery,
        /// Who gets it.
        to: MemberId,
    },
    /// A corrupted enclave says something that nothing has prompted.
    Speak {
        /// Which of the corrupted ones.
        pick: u16,
        /// Who gets it.
        to: MemberId,
        /// Decides what.
        lie: u32,
    },
    /// An enclave loses its memory, and gets back all that its host has stored.
    Crash(MemberId),
    /// An enclave answers, and loses its memory before its host has stored the answer.
    Lose(MemberId),
    /// A host gives its enclave an earlier state.
    RollBack {
        /// Whose.
        member: MemberId,
        /// How many records it has left.
        records: u16,
    },
    /// A host starts a second enclave from what it has stored, and lets the first run.
    Twin(MemberId),
    /// A host that runs two turns to the other.
    SwapTwins(u16),
    /// A host tells its enclave, and nobody else, of what never was, so that its log grows; nothing that it says leaves.
    FeedAlone {
        /// Whose.
        member: MemberId,
        /// How often.
        times: u8,
    },
    /// A host gives its enclave another of the logs that it has.
    Branch {
        /// Whose.
        member: MemberId,
        /// Which.
        pick: u16,
    },
    /// A host lets a second first enclave of its own speak for a while, which the DAO has never named.
    Rival {
        /// Whose.
        member: MemberId,
        /// How many of the packets that wait for the member it gets too.
        packets: u8,
    },
    /// The power fails everywhere.
    PowerLoss,
    /// A host wants its enclave to go on without some members, who may be there or not.
    GoOnWithout {
        /// Whose.
        member: MemberId,
        /// Without whom.
        away: Vec<MemberId>,
    },
    /// A host is impatient: its enclave shall leave all attempts at decisions that it is in.
    GiveUp(MemberId),
    /// The DAO signs the next epoch; if some wallets sign twice, another in its place, too.
    Sign {
        /// Whether they do.
        twice: bool,
    },
    /// A host gets an epoch that was signed, and hands it to its enclave.
    Land {
        /// Whose.
        member: MemberId,
        /// Which of all that were signed.
        pick: u16,
    },
    /// A host wants its enclave to ask for evidence again.
    Reattest {
        /// Whose.
        member: MemberId,
        /// Of one, or of everybody.
        about: Option<MemberId>,
    },
    /// A host wants evidence of its enclave.
    Attest {
        /// Whose.
        member: MemberId,
        /// The challenge.
        nonce: u8,
    },
    /// The DAO wants all pools out, if their validators have indices.
    WantExits,
    /// All hosts are honest for a while. The number decides what corrupted enclaves say meanwhile, if they lie.
    HonestRound(Option<u32>),
    /// All hosts are honest from now on, for as long as it takes; then all must act, and what nobody has spoiled must be
    /// done.
    Finish(Option<u32>),
}

/// How a packet is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carry {
    /// Which one.
    pub pick: u16,
    /// Among all, or among the oldest few.
    pub far: bool,
    /// What becomes of it.
    pub fate: Fate,
    /// What a corrupted enclave says instead, if it is one's: decides which lie.
    pub lie: Option<u32>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It is lost, until hosts are honest.
    Dropped,
    /// It arrives, and comes again.
    Twice,
    /// It arrives, and at somebody else's too.
    AlsoTo(MemberId),
}

/// How a packet is altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alteration {
    /// Only so many bytes are left.
    Cut(u32),
    /// A byte more.
    Longer(u8),
    /// One bit flips.
    Flipped(u32),
}

/// What is false about a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// It is in somebody else's name.
    Speaker(MemberId),
    /// It is of another step.
    Step,
    /// It is of another ceremony.
    Ceremony,
    /// It says what another one says.
    Body,
}
