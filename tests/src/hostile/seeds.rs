//! Many seeds at a time, on as many threads as there are cores.

use super::event::Script;
use super::shrink::{Shrunk, shrink};
use super::{Failure, Mishaps, Outcome, run};
use std::collections::BTreeSet;
use std::fmt::{Display, Formatter, Result as Written};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The first of many seeds that breaks an invariant.
#[derive(Debug, Clone)]
pub struct FirstBroken {
    /// Which one.
    pub seed: u64,
    /// How many seeds it took to find it, with this one.
    pub count: u64,
    /// What it breaks.
    pub failure: Failure,
    /// How long it took.
    pub seconds: f64,
}

impl Display for FirstBroken {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        let Self { seed, count, failure, seconds } = self;
        write!(
            f,
            "seed {seed}, the {count}th, breaks {}, after {seconds:.0} s: {failure}",
            failure.broken.invariant
        )
    }
}

/// Runs seeds until one breaks an invariant, and says what they came to.
///
/// # Errors
/// The first seed that breaks one.
pub fn run_all(seeds: Range<u64>) -> Result<Report, Box<FirstBroken>> {
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    // Seeds are taken in order, and none after one that breaks: so the first that breaks is found, whatever is faster.
    let end = AtomicU64::new(seeds.end);
    let work = || {
        let mut good = Vec::new();
        let mut broken = None;
        while broken.is_none() {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= end.load(Ordering::SeqCst) {
                break;
            }
            match run(seed) {
                Ok(outcome) => good.push(outcome),
                Err(failure) => {
                    end.fetch_min(seed, Ordering::SeqCst);
                    broken = Some((seed, failure));
                }
            }
        }
        (good, broken)
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("runs catch their panics")).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    let (good, broken): (Vec<Vec<Outcome>>, Vec<_>) = done.into_iter().unzip();
    match broken.into_iter().flatten().min_by_key(|(seed, _)| *seed) {
        Some((seed, failure)) => {
            Err(Box::new(FirstBroken { seed, count: seed - seeds.start + 1, failure, seconds }))
        }
        None => Ok(Report { outcomes: good.concat(), seconds }),
    }
}

/// The shortest run that was found to break what this one breaks, as it is replayed.
pub fn shortest(script: &Script) -> String {
    match shrink(script, None) {
        Some(Shrunk { script, failure, runs }) => {
            let count = script.events.len();
            format!(
                "shrunk to {count} events in {runs} runs; to replay, give POSTERN_REPLAY a file that says:\n# {failure}\n{script}"
            )
        }
        None => "it does not break again\n".into(),
    }
}

/// What seeds came to that broke nothing.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of each.
    pub outcomes: Vec<Outcome>,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// How many of the runs were such.
    pub fn count(&self, of: fn(&Outcome) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| of(outcome)).count()
    }

    /// How often it happened in all runs.
    pub fn sum(&self, of: fn(&Mishaps) -> usize) -> usize {
        self.outcomes.iter().map(|outcome| of(&outcome.mishaps)).sum()
    }

    fn most(&self, of: fn(&Outcome) -> usize) -> usize {
        self.outcomes.iter().map(of).max().unwrap_or_default()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        let count = self.outcomes.len();
        let cheats: BTreeSet<_> = self.outcomes.iter().flat_map(|outcome| &outcome.culprits).collect();
        writeln!(
            f,
            "{count} seeds in {:.1} s, {:.1} seeds/s: {} released ({} had to), {} convicted cheats, of {} different members",
            self.seconds,
            count as f64 / self.seconds,
            self.count(|of| of.released == of.pools),
            self.count(|of| of.must_finish),
            self.count(|of| !of.culprits.is_empty()),
            cheats.len()
        )?;
        writeln!(
            f,
            "  {} crashes, {} with what was answered last; {} rollbacks, {} second enclaves, {} power losses; {} were named stale",
            self.sum(|of| of.crashes),
            self.sum(|of| of.losses),
            self.sum(|of| of.rollbacks),
            self.sum(|of| of.twins),
            self.sum(|of| of.power_losses),
            self.sum(|of| of.stale),
        )?;
        writeln!(
            f,
            "  {} were fed alone, {} given another log; {} members had a second first enclave",
            self.sum(|of| of.fed_alone),
            self.sum(|of| of.branches),
            self.sum(|of| of.rivals),
        )?;
        writeln!(
            f,
            "  the longest record of an honest enclave had {} bytes, the longest log {}",
            self.most(|of| of.sizes.record),
            self.most(|of| of.sizes.log)
        )
    }
}
