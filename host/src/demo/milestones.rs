//! How far each pool is, and when it got there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The steps of a pool's life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Milestone {
    /// 32 ETH are staked: the contract asks for a validator.
    Staked,
    /// The operators made its key and signed its deposit.
    KeyMade,
    /// The contract paid the deposit.
    Deposited,
    /// The beacon chain activated the validator.
    Active,
    /// Enough guardians hold good shares of its exit.
    Presigned,
    /// The contract asks for the exit.
    ExitRequested,
    /// The guardians put the exit together.
    Released,
    /// The beacon chain took the exit.
    Exiting,
    /// The beacon chain paid the validator's balance to the pool.
    PaidOut,
    /// The contract has on record that the validator has left.
    Reported,
    /// The pool's stakers got their ether back.
    Claimed,
}

impl Milestone {
    /// All, in order.
    pub(super) const ALL: [Self; 11] = [
        Self::Staked,
        Self::KeyMade,
        Self::Deposited,
        Self::Active,
        Self::Presigned,
        Self::ExitRequested,
        Self::Released,
        Self::Exiting,
        Self::PaidOut,
        Self::Reported,
        Self::Claimed,
    ];

    /// What to show when it is reached.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Staked => "32 ETH staked, the contract asks for a validator",
            Self::KeyMade => "operators made a key that nobody holds, and signed the deposit",
            Self::Deposited => {
                "the deposit was handed in with the enclaves' proof, the deposit contract took it"
            }
            Self::Active => "the validator is active on the beacon chain",
            Self::Presigned => "guardians hold verified shares of the presigned exit",
            Self::ExitRequested => "the contract asks for the exit",
            Self::Released => "guardians released the exit",
            Self::Exiting => "the beacon chain took the exit: the validator is leaving",
            Self::PaidOut => "the beacon chain paid the validator's balance to the pool",
            Self::Reported => "the enclaves have proved to the contract that the validator has left",
            Self::Claimed => "both stakers claimed, and each got back all that it brought, to the wei",
        }
    }
}

/// One pool's milestones.
#[derive(Debug, Clone, Default)]
pub(super) struct Track {
    reached: BTreeMap<Milestone, Instant>,
}

impl Track {
    /// Notes a milestone; whether it is news.
    pub(super) fn reach(&mut self, milestone: Milestone, now: Instant) -> bool {
        let mut news = false;
        self.reached.entry(milestone).or_insert_with(|| {
            news = true;
            now
        });
        news
    }

    /// Whether it is reached.
    pub(super) fn has(&self, milestone: Milestone) -> bool {
        self.reached.contains_key(&milestone)
    }

    /// How many are reached.
    pub(super) fn count(&self) -> usize {
        self.reached.len()
    }
}

/// When the last pool reached a milestone; `None` while one has not.
pub(super) fn last(tracks: &[Track], milestone: Milestone) -> Option<Instant> {
    let times: Option<Vec<Instant>> =
        tracks.iter().map(|track| track.reached.get(&milestone).copied()).collect();
    times?.into_iter().max()
}

/// From the last pool's one milestone to the last pool's other; zero when they came in another order.
pub(super) fn between(tracks: &[Track], from: Milestone, to: Milestone) -> Duration {
    match (last(tracks, from), last(tracks, to)) {
        (Some(from), Some(to)) => to.saturating_duration_since(from),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milestone_is_news_once() {
        let (mut track, now) = (Track::default(), Instant::now());
        assert!(track.reach(Milestone::Staked, now));
        assert!(!track.reach(Milestone::Staked, now + Duration::from_secs(1)));
        assert!(track.has(Milestone::Staked) && !track.has(Milestone::Active));
        assert_eq!(track.count(), 1);
    }

    #[test]
    fn times_are_those_of_the_slowest_pool() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut tracks = vec![Track::default(), Track::default()];
        tracks[0].reach(Milestone::Staked, at(0));
        tracks[1].reach(Milestone::Staked, at(1));
        tracks[0].reach(Milestone::KeyMade, at(5));
        assert_eq!(last(&tracks, Milestone::KeyMade), None);
        tracks[1].reach(Milestone::KeyMade, at(3));
        assert_eq!(between(&tracks, Milestone::Staked, Milestone::KeyMade), Duration::from_secs(4));
        assert_eq!(between(&tracks, Milestone::KeyMade, Milestone::Staked), Duration::ZERO);
    }
}
