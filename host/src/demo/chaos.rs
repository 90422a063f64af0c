//! `--chaos-kills`: hosts and enclaves are killed at random moments and started again, and nothing may come of it.

use super::arguments::DemoArguments;
use super::processes::{Kind, Victim};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Shortest and longest time between two kills, in milliseconds: shorter than a ceremony's step, and long enough for a
/// member to be back now and then.
const PAUSE: std::ops::Range<u64> = 50..700;

/// Who was killed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChaosReport {
    /// Hosts, with `kill -9`.
    pub kills_host: u32,
    /// Enclaves, with `kill -9`.
    pub kills_enclave: u32,
}

/// Decides who is killed, and when.
pub(super) struct Chaos {
    rng: fastrand::Rng,
    members: u16,
    left: u32,
    /// Kills that are kept for later.
    reserve: u32,
    next: Instant,
    report: ChaosReport,
}

impl Chaos {
    /// As many kills as asked for; half of them are for the way out.
    pub(super) fn new(arguments: &DemoArguments) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(arguments.chaos_seed),
            members: arguments.members,
            left: arguments.chaos_kills,
            reserve: arguments.chaos_kills / 2,
            next: Instant::now(),
            report: ChaosReport::default(),
        }
    }

    /// From now on nothing is kept for later.
    pub(super) fn last_act(&mut self) {
        self.reserve = 0;
    }

    /// Whether all kills of this part of the demo are done.
    pub(super) fn is_over(&self) -> bool {
        self.left <= self.reserve
    }

    /// Who is to be killed now: a host, an enclave, or both of a member.
    pub(super) fn victims(&mut self) -> Vec<Victim> {
        if self.is_over() || Instant::now() < self.next {
            return Vec::new();
        }
        self.next = Instant::now() + Duration::from_millis(self.rng.u64(PAUSE));
        let member = self.rng.u16(1..=self.members);
        let mut kinds = match self.rng.u8(..5) {
            0..2 => vec![Kind::Host],
            2..4 => vec![Kind::Enclave],
            _ => vec![Kind::Host, Kind::Enclave],
        };
        kinds.truncate((self.left - self.reserve) as usize);
        for kind in &kinds {
            self.left -= 1;
            match kind {
                Kind::Host => self.report.kills_host += 1,
                Kind::Enclave => self.report.kills_enclave += 1,
            }
        }
        kinds.into_iter().map(|kind| Victim { member, kind }).collect()
    }

    /// What was done.
    pub(super) fn report(&self) -> ChaosReport {
        self.report
    }
}
