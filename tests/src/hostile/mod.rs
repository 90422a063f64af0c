//! All hosts at their worst: they drop, delay, reorder, duplicate, replay, alter, forge and cut off; they lose what
//! enclaves want stored, give them old state back, and run two of them from the same state; the power fails everywhere at
//! once; up to t-1 enclaves are corrupted, and lie in every way that their keys allow.
//!
//! A run is data: a [`event::Script`], which a seed stands for ([`generate`]), which is written an event a line
//! ([`text`]), and which decides all that happens ([`replay`]). After every event the blueprint's invariants I1 to I7 are
//! checked on what the enclaves have said and made ([`invariants`]). A run that breaks one is shortened until nothing
//! in it can be left out ([`shrink`]).
//!
//! Of n hosts at most ⌊n/2⌋ have taken their enclaves back at a time, and corrupted enclaves count among them: what that
//! bound is for, `postern-enclave`'s `witness` explains.

pub mod event;
pub mod generate;
mod hosts;
pub mod invariants;
mod logs;
pub mod seeds;
pub mod shrink;
pub mod text;
mod world;

pub use world::World;

use event::Script;
use invariants::{Broken, Invariant, Sizes};
use postern_shared::ids::{Digest, MemberId};
use std::collections::BTreeSet;
use std::fmt::{Display, Formatter, Result as Written};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Hash over everything that happened, in order.
    pub trace: Digest,
    /// Pools whose exit was released.
    pub released: usize,
    /// Pools that there were.
    pub pools: usize,
    /// Whether every enclave was honest and none was left out: then honest hosts must have brought it to an end.
    pub must_finish: bool,
    /// Who was proved to have cheated.
    pub culprits: BTreeSet<MemberId>,
    /// What enclaves went through.
    pub mishaps: Mishaps,
    /// The most that an honest enclave made its host keep.
    pub sizes: Sizes,
}

/// How often what happened to enclaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// Restored from all that their hosts had stored.
    pub crashes: usize,
    /// Restored before their hosts had stored what they had answered last.
    pub losses: usize,
    /// Restored from less.
    pub rollbacks: usize,
    /// Two from one log at a time.
    pub twins: usize,
    /// Lengthened in private.
    pub fed_alone: usize,
    /// Restored from another log than their newest.
    pub branches: usize,
    /// First enclaves beside the one that the DAO has named.
    pub rivals: usize,
    /// All restored at once.
    pub power_losses: usize,
    /// Found to be old, and said so.
    pub stale: usize,
}

/// A run that broke an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which, and how that shows.
    pub broken: Broken,
    /// Counts the event that did it, from 0.
    pub event: usize,
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        write!(f, "event {}", self.event)?;
        if let Some(round) = self.broken.round {
            write!(f, ", honest round {round}")?;
        }
        write!(f, ": {}", self.broken)
    }
}

/// An invariant that a test adds.
pub type Planted<'a> = &'a (dyn Fn(&World) -> Result<(), String> + Sync);

/// Runs a seed to its end and checks the invariants all along.
///
/// # Errors
/// The first broken invariant.
pub fn run(seed: u64) -> Result<Outcome, Failure> {
    replay(&generate::script(seed), None)
}

/// Runs what is written, and nothing else: the same script is the same run.
///
/// # Errors
/// The first broken invariant.
pub fn replay(script: &Script, planted: Option<Planted<'_>>) -> Result<Outcome, Failure> {
    let mut world = World::new(&script.setup);
    for (event, next) in script.events.iter().enumerate() {
        let done = catch_unwind(AssertUnwindSafe(|| world.apply(next)))
            .unwrap_or_else(|_| Err(Invariant::Panic.broken("something panicked")));
        let done = done.and_then(|()| match planted.map(|check| check(&world)) {
            Some(Err(what)) => Err(Invariant::Planted.broken(what)),
            _ => Ok(()),
        });
        done.map_err(|broken| Failure { broken, event })?;
    }
    Ok(world.outcome(script))
}
