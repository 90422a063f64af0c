//! Breadth-first search of all states of a [`Model`], so that what it finds is told in the fewest steps.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

/// What can happen, and what must not.
pub trait Model {
    /// All that is remembered at one moment.
    type State;
    /// What leads from one state to the next: for people.
    type Step: Copy + fmt::Display;

    /// The state at the beginning.
    fn start(&self) -> Self::State;

    /// All that can happen.
    fn next(&self, state: &Self::State) -> Vec<(Self::Step, Self::State)>;

    /// A name for each state: the same only if no difference between them ever matters.
    fn name(&self) -> impl Fn(&Self::State) -> u128;

    /// Whether what must never happen has happened.
    fn is_bad(&self, state: &Self::State) -> bool;

    /// Why what must always remain possible is not, if that is so.
    fn stuck(&self, state: &Self::State) -> Option<String>;
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every state that can be reached was seen, and none is bad.
    Holds,
    /// What must never happen does, by these steps.
    Refuted(Vec<String>),
    /// What must always remain possible is not, after these steps.
    Stuck(Vec<String>),
    /// There are more states than were allowed for. None that was seen is bad.
    Unfinished,
}

/// The result of a search.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found.
    pub verdict: Verdict,
    /// How many states were seen.
    pub states: usize,
    /// How many steps the longest way to one of them has.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Whether all states were seen, and none is bad.
    pub fn holds(&self) -> bool {
        self.verdict == Verdict::Holds
    }

    /// Whether what must never happen does.
    pub fn refuted(&self) -> bool {
        matches!(self.verdict, Verdict::Refuted(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, steps): (_, &[String]) = match &self.verdict {
            Verdict::Holds => ("holds, exhausted", &[]),
            Verdict::Refuted(steps) => ("REFUTED", steps),
            Verdict::Stuck(steps) => ("STUCK", steps),
            Verdict::Unfinished => ("unfinished", &[]),
        };
        write!(
            out,
            "{verdict}: {} states, depth {}, {:.1} s",
            self.states,
            self.depth,
            self.took.as_secs_f32()
        )?;
        for (number, step) in steps.iter().enumerate() {
            write!(out, "\n  {:>2}. {step}", number + 1)?;
        }
        Ok(())
    }
}

/// The set of fingerprints: they are hashes already.
type Seen = HashSet<u128, BuildHasherDefault<Low>>;

/// The lower half of a fingerprint.
#[derive(Default)]
struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u128(&mut self, print: u128) {
        self.0 = print as u64;
    }
}

/// How each state but the first was reached first.
struct Ways<S>(Vec<(u32, S)>);

impl<S: Copy + fmt::Display> Ways<S> {
    fn add(&mut self, parent: u32, step: S) -> u32 {
        self.0.push((parent, step));
        self.0.len() as u32
    }

    fn tell(&self, mut state: u32) -> Vec<String> {
        let mut steps = Vec::new();
        while state != 0 {
            let (parent, step) = &self.0[state as usize - 1];
            steps.push(step.to_string());
            state = *parent;
        }
        steps.reverse();
        steps
    }
}

/// Looks at all states that can be reached, but at no more than `limit`.
pub fn search<M: Model>(model: &M, limit: usize) -> Outcome {
    let began = Instant::now();
    let name = model.name();
    let start = model.start();
    let mut seen = Seen::default();
    seen.insert(name(&start));
    let mut ways = Ways(Vec::new());
    let mut layer: Vec<(u32, M::State)> = vec![(0, start)];
    let mut depth = 0;
    let outcome = |verdict, states, depth| Outcome { verdict, states, depth, took: began.elapsed() };
    while !layer.is_empty() {
        let mut following = Vec::new();
        for (way, state) in layer {
            if let Some(why) = model.stuck(&state) {
                let mut steps = ways.tell(way);
                steps.push(why);
                return outcome(Verdict::Stuck(steps), seen.len(), depth);
            }
            for (step, state) in model.next(&state) {
                if !seen.insert(name(&state)) {
                    continue;
                }
                let way = ways.add(way, step);
                if model.is_bad(&state) {
                    return outcome(Verdict::Refuted(ways.tell(way)), seen.len(), depth + 1);
                }
                following.push((way, state));
            }
            if seen.len() > limit {
                return outcome(Verdict::Unfinished, seen.len(), depth);
            }
        }
        depth += usize::from(!following.is_empty());
        layer = following;
    }
    outcome(Verdict::Holds, seen.len(), depth)
}

/// Takes the steps that are written down, one after the other. If one cannot be taken, tells which could.
pub fn follow<M: Model>(model: &M, steps: &[&str]) -> Result<M::State, String> {
    steps.iter().try_fold(model.start(), |state, step| {
        let possible = model.next(&state);
        let others: Vec<String> = possible.iter().map(|(other, _)| other.to_string()).collect();
        let found = possible.into_iter().zip(&others).find(|(_, other)| other == step);
        found.map(|((_, state), _)| state).ok_or_else(|| format!("no \"{step}\", but {others:#?}"))
    })
}

/// A name for a state that was written down. Two independent lanes of 64 bits: with some ten million states, two of them meet by chance once in 10^24 runs.
pub fn digest(bytes: &[u8]) -> u128 {
    let lanes = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f].map(|seed| lane(bytes, seed));
    u128::from(lanes[0]) << 64 | u128::from(lanes[1])
}

fn lane(bytes: &[u8], seed: u64) -> u64 {
    let start = seed ^ (bytes.len() as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bytes.chunks(8).fold(start, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        fold((state ^ u64::from_le_bytes(word)).wrapping_add(seed), 0xa076_1d64_78bd_642f ^ seed)
    })
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product >> 64) as u64 ^ product as u64
}
