//! Breadth-first search of all states, and what it found.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use super::returns;
use super::setup::{Change, Setup};
use super::state::{MEMBERS, State};
use super::steps::{Step, next};

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every state that can be reached was seen, and none is bad.
    Holds,
    /// Something left from two logs of which neither is part of the other, by these steps.
    Refuted(Vec<String>),
    /// An honest member cannot come back, or not be heard, after these steps.
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

    /// Whether two logs contradict each other.
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

/// How each state was reached first.
struct Ways(Vec<(u32, Step)>);

impl Ways {
    fn add(&mut self, parent: u32, step: Step) -> u32 {
        self.0.push((parent, step));
        self.0.len() as u32 - 1
    }

    fn tell(&self, mut state: u32) -> Vec<String> {
        let mut steps = Vec::new();
        while state != 0 {
            let (parent, step) = &self.0[state as usize];
            steps.push(step.to_string());
            state = *parent;
        }
        steps.reverse();
        steps
    }
}

/// Looks at all states that can be reached, but at no more than `limit`.
pub fn search(setup: &Setup, limit: usize) -> Outcome {
    let began = Instant::now();
    let orders = orders(setup);
    let contents = matches!(setup.change, Change::Replacement(_));
    let start = setup.start();
    let mut seen = Seen::default();
    seen.insert(start.fingerprint(&orders, setup.members, contents));
    let mut ways = Ways(vec![(0, Step::Start)]);
    let mut layer: Vec<(u32, State)> = vec![(0, start)];
    let mut depth = 0;
    let outcome = |verdict, states, depth| Outcome { verdict, states, depth, took: began.elapsed() };
    while !layer.is_empty() {
        let mut following = Vec::new();
        for (way, state) in layer {
            if let Some(why) = setup.returns.then(|| returns::stuck(setup, &state)).flatten() {
                let mut steps = ways.tell(way);
                steps.push(why);
                return outcome(Verdict::Stuck(steps), seen.len(), depth);
            }
            for (step, state) in next(setup, &state) {
                if !seen.insert(state.fingerprint(&orders, setup.members, contents)) {
                    continue;
                }
                let way = ways.add(way, step);
                if state.clash {
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
pub fn follow(setup: &Setup, steps: &[&str]) -> Result<State, String> {
    steps.iter().try_fold(setup.start(), |state, step| {
        let possible = next(setup, &state);
        let others: Vec<String> = possible.iter().map(|(other, _)| other.to_string()).collect();
        let found = possible.into_iter().zip(&others).find(|(_, other)| other == step);
        found.map(|((_, state), _)| state).ok_or_else(|| format!("no \"{step}\", but {others:#?}"))
    })
}

/// All orders of the members that differ only by an exchange of members that are alike.
fn orders(setup: &Setup) -> Vec<[usize; MEMBERS]> {
    let mut start = [0; MEMBERS];
    start.iter_mut().enumerate().for_each(|(place, member)| *member = place);
    let mut orders = vec![start];
    // X stands alone.
    for place in 1..setup.members {
        let swapped: Vec<_> = orders
            .iter()
            .flat_map(|order| (place + 1..setup.members).map(move |other| (order, other)))
            .filter(|(order, other)| alike(setup, order[place], order[*other]))
            .map(|(order, other)| {
                let mut order = *order;
                order.swap(place, other);
                order
            })
            .collect();
        orders.extend(swapped);
    }
    orders
}

fn alike(setup: &Setup, left: usize, right: usize) -> bool {
    let kind = |member: usize| {
        let newcomer = matches!(setup.change, Change::Growth(more) if member >= setup.members - more);
        let replaced = setup.replaced() == Some(member);
        (setup.hostile[member], setup.copies[member], setup.broken[member], newcomer, replaced)
    };
    kind(left) == kind(right)
}
