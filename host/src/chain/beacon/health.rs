//! Which nodes count: a node answers for the chain only while it is known to be of the network, synced and with the others.
//!
//! Pure: what was seen goes in, and the time with it. Time decides only when a node is asked again, never what is believed.
//!
//! # States
//! A node is `Unchecked` until its first check ends. A check that it passes makes it `Fit`; a check or a question that it
//! fails sends it to rest, for twice as long each time until it has answered a question again. After the rest it is checked
//! as a whole. Whether its finality is far behind the others' is worked out from what all have shown, whenever that is asked.

use super::NodeError;
use super::node::{Identity, Progress, Spec};
use crate::backoff::{LONGEST_REST, rest};
use postern_shared::ethereum::Network;
use std::time::Instant;

/// How far finality may be behind the median of the nodes, in epochs. What is compared may be an epoch old.
const TOLERANCE: u64 = 3;
/// A fork that is further away than this many epochs is not near: about a day.
const FAR_EPOCHS: u64 = 256;
/// After so many exits in a row that it did not answer, a node is handed none for a while.
const MOST_UNANSWERED: u32 = 3;

/// Why a node does not count.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It was not asked yet.
    #[error("not checked yet")]
    Unchecked,
    /// It can't be reached, or is no beacon node.
    #[error("{0}")]
    Unreachable(NodeError),
    /// It is of another network.
    #[error("is of another network: its {field} is {found}, the manifest's {expected}")]
    WrongNetwork {
        /// What differs.
        field: &'static str,
        /// The manifest's.
        expected: String,
        /// The node's.
        found: String,
    },
    /// It does not have all blocks yet, or has not executed them.
    #[error("is syncing")]
    Syncing,
    /// Its finalised block is far older than the others'.
    #[error("is behind: its finalised slot is {own}, the others' {others}")]
    Behind {
        /// The node's.
        own: u64,
        /// The median of all.
        others: u64,
    },
    /// It does not show validators.
    #[error("does not show validators: {0}")]
    NoStates(NodeError),
}

impl Unfit {
    /// Whether it has answered, and what no beacon node of the manifest's network would: waiting does not help. A server that is busy, or a
    /// node that begins, says something else.
    pub fn is_wrong_answer(&self) -> bool {
        match self {
            Self::WrongNetwork { .. } => true,
            Self::Unreachable(NodeError::Unreadable(_) | NodeError::TooLarge(_)) => true,
            // A beacon node that knows no genesis yet says so in the words of its API.
            Self::Unreachable(NodeError::Status { status: 404, message }) => message.is_none(),
            Self::Unreachable(NodeError::Status { status: 400 | 401 | 403 | 405 | 410, .. }) => true,
            _ => false,
        }
    }

    /// Whether an exit may be handed to it all the same: it is of the network and can be reached.
    pub(super) fn may_take_exits(&self) -> bool {
        match self {
            Self::Unchecked | Self::Unreachable(_) | Self::WrongNetwork { .. } => false,
            Self::Syncing | Self::Behind { .. } | Self::NoStates(_) => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Health {
    Unchecked,
    Fit,
    Resting { until: Instant, why: Unfit },
}

/// What is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Everything.
    Whole,
    /// How far it is.
    Progress,
}

/// What is known of one node.
#[derive(Debug)]
pub(super) struct Watch {
    health: Health,
    /// Since it last answered a question.
    failures: u32,
    is_checking: bool,
    checked: Option<Instant>,
    progress: Option<Progress>,
    spec: Option<Spec>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            health: Health::Unchecked,
            failures: 0,
            is_checking: false,
            checked: None,
            progress: None,
            spec: None,
        }
    }
}

impl Watch {
    /// The check that is due, if one is. It counts as begun.
    pub(super) fn begin_check(&mut self, now: Instant) -> Option<Check> {
        let epoch = self.spec.map_or(LONGEST_REST, |spec| spec.epoch());
        let due = match &self.health {
            _ if self.is_checking => None,
            Health::Unchecked => Some(Check::Whole),
            Health::Resting { until, .. } => (*until <= now).then_some(Check::Whole),
            Health::Fit => {
                let is_old = self.checked.is_none_or(|checked| now.duration_since(checked) >= epoch);
                is_old.then_some(Check::Progress)
            }
        };
        self.is_checking |= due.is_some();
        due
    }

    /// It has passed a check.
    pub(super) fn pass(&mut self, now: Instant, spec: Option<Spec>, progress: Progress) {
        self.health = Health::Fit;
        self.spec = spec.or(self.spec);
        (self.is_checking, self.checked, self.progress) = (false, Some(now), Some(progress));
    }

    /// It has failed a check.
    pub(super) fn fail_check(&mut self, now: Instant, why: Unfit) {
        self.is_checking = false;
        // What it showed then is no measure for the others.
        self.progress = None;
        self.rest(now, why);
    }

    /// It has failed a question. One that rests already fails nothing more.
    pub(super) fn fail_question(&mut self, now: Instant, why: Unfit) {
        if self.health == Health::Fit {
            self.rest(now, why);
        }
    }

    /// It has answered a question.
    pub(super) fn answer_question(&mut self) {
        self.failures = 0;
    }

    fn rest(&mut self, now: Instant, why: Unfit) {
        let until = now + rest(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.health = Health::Resting { until, why };
    }

    /// Whether its first check has not ended.
    pub(super) fn is_unchecked(&self) -> bool {
        self.health == Health::Unchecked
    }

    /// Whether a check is on its way.
    pub(super) fn is_checking(&self) -> bool {
        self.is_checking
    }

    /// What it has said of its network.
    pub(super) fn spec(&self) -> Option<Spec> {
        self.spec
    }

    /// Its finalised slot, if it counts for the others.
    pub(super) fn finalized_slot(&self) -> Option<u64> {
        self.progress.map(|progress| progress.finalized_slot)
    }

    /// Why it does not count, if so. `finalized` has what all nodes have shown, its own slot too.
    pub(super) fn unfit(&self, finalized: &[u64]) -> Option<Unfit> {
        match &self.health {
            Health::Unchecked => Some(Unfit::Unchecked),
            Health::Resting { why, .. } => Some(why.clone()),
            Health::Fit => {
                let (own, others) = (self.finalized_slot()?, median(finalized)?);
                let tolerance = self.spec.map_or(0, |spec| spec.slots_per_epoch * TOLERANCE);
                (own.saturating_add(tolerance) < others).then_some(Unfit::Behind { own, others })
            }
        }
    }

    /// Whether its network has no list of deposits that wait, which came with Electra, and will not have one soon.
    pub(super) fn is_before_electra(&self) -> bool {
        let (Some(spec), Some(progress)) = (self.spec, self.progress) else { return false };
        let head = progress.head_slot / spec.slots_per_epoch;
        spec.electra_epoch.is_none_or(|electra| electra > head.saturating_add(FAR_EPOCHS))
    }
}

/// Whether a node answers exits, apart from all else that it is asked.
#[derive(Debug, Default)]
pub(super) struct Taking {
    unanswered: u32,
    rests_until: Option<Instant>,
}

impl Taking {
    /// It has said something of an exit.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// It has not. What was on its way to it before it began to rest counts no more.
    pub(super) fn failed(&mut self, now: Instant) {
        if self.rests(now) {
            return;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        if let Some(more) = self.unanswered.checked_sub(MOST_UNANSWERED) {
            self.rests_until = now.checked_add(rest(more));
        }
    }

    /// Whether it is handed none.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

/// The lower one of two in the middle: one node that is far ahead makes nobody late.
fn median(slots: &[u64]) -> Option<u64> {
    let mut slots = slots.to_vec();
    slots.sort_unstable();
    slots.get(slots.len().checked_sub(1)? / 2).copied()
}

/// Compares a node's network with the manifest's.
pub(super) fn check_network(identity: &Identity, network: &Network) -> Result<(), Unfit> {
    let fields = [
        (
            "genesis_validators_root",
            network.genesis_validators_root.to_string(),
            identity.genesis_validators_root.to_string(),
        ),
        (
            "genesis_fork_version",
            network.genesis_fork_version.to_string(),
            identity.genesis_fork_version.to_string(),
        ),
        (
            "CAPELLA_FORK_VERSION",
            network.capella_fork_version.to_string(),
            identity.capella_fork_version.to_string(),
        ),
    ];
    let other = fields.into_iter().find(|(_, expected, found)| expected != found);
    other.map_or(Ok(()), |(field, expected, found)| Err(Unfit::WrongNetwork { field, expected, found }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::FIRST_REST;
    use std::time::Duration;

    const SPEC: Spec = Spec { slots_per_epoch: 32, slot: Duration::from_secs(12), electra_epoch: Some(0) };

    #[test]
    fn a_node_that_does_not_answer_exits_is_handed_none_for_longer_and_longer() {
        let (mut taking, mut now) = (Taking::default(), Instant::now());
        for _ in 1..MOST_UNANSWERED {
            taking.failed(now);
            assert!(!taking.rests(now));
        }
        for rest in [1, 2, 4, 8, 16, 32, 64, 120, 120].map(Duration::from_secs) {
            (0..32).for_each(|_| taking.failed(now));
            assert!(taking.rests(now) && taking.rests(now + rest / 2) && !taking.rests(now + rest));
            now += rest;
        }
        taking.answered();
        taking.failed(now);
        assert!(!taking.rests(now));
    }

    fn progress(finalized_slot: u64) -> Progress {
        Progress { is_syncing: false, head_slot: finalized_slot + 64, finalized_slot }
    }

    fn fit(now: Instant, finalized_slot: u64) -> Watch {
        let mut watch = Watch::default();
        assert_eq!(watch.begin_check(now), Some(Check::Whole));
        watch.pass(now, Some(SPEC), progress(finalized_slot));
        watch
    }

    #[test]
    fn a_node_counts_after_its_check_and_is_looked_at_again_each_epoch() {
        let now = Instant::now();
        let mut watch = Watch::default();
        assert_eq!(watch.unfit(&[]), Some(Unfit::Unchecked));
        assert_eq!(watch.begin_check(now), Some(Check::Whole));
        assert_eq!(watch.begin_check(now), None, "one check at a time");
        watch.pass(now, Some(SPEC), progress(320));
        assert_eq!(watch.unfit(&[320]), None);
        assert_eq!(watch.begin_check(now + SPEC.epoch() - SPEC.slot), None);
        assert_eq!(watch.begin_check(now + SPEC.epoch()), Some(Check::Progress));
    }

    #[test]
    fn who_fails_rests_twice_as_long_each_time_and_is_checked_as_a_whole() {
        let mut now = Instant::now();
        let mut watch = fit(now, 320);
        let why = || Unfit::NoStates(NodeError::Incomplete);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 120, 120] {
            watch.fail_question(now, why());
            watch.fail_question(now, why());
            assert_eq!(watch.unfit(&[320]), Some(why()));
            let rest = Duration::from_secs(seconds);
            assert_eq!(watch.begin_check(now + rest - Duration::from_millis(1)), None, "{seconds}");
            now += rest;
            assert_eq!(watch.begin_check(now), Some(Check::Whole), "{seconds}");
            watch.pass(now, Some(SPEC), progress(320));
        }
        watch.answer_question();
        watch.fail_question(now, why());
        assert_eq!(watch.begin_check(now + FIRST_REST), Some(Check::Whole), "an answer ends the doubling");
    }

    #[test]
    fn far_behind_the_median_does_not_count_and_a_liar_far_ahead_makes_nobody_late() {
        let now = Instant::now();
        let (behind, edge) = (3200 - 32 * 4, 3200 - 32 * 3);
        let cases: [(u64, &[u64], bool); 7] = [
            (3200, &[3200], true),
            (3200, &[3200, 9_999_999], true),
            (3200, &[3200, 3200, u64::MAX], true),
            (edge, &[edge, 3200, 3200], true),
            (behind, &[behind, 3200, 3200], false),
            (behind, &[behind, 3200, 3200, 3200], false),
            // Of two, nobody can say which one is wrong: they will disagree, and nothing is believed.
            (behind, &[behind, 3200], true),
        ];
        for (own, all, expected) in cases {
            assert_eq!(fit(now, own).unfit(all).is_none(), expected, "{own} of {all:?}");
        }
    }

    #[test]
    fn a_network_without_a_near_electra_has_no_list_of_deposits() {
        let now = Instant::now();
        for (electra_epoch, expected) in [
            (None, true),
            (Some(0), false),
            (Some(12), false),
            (Some(12 + 256), false),
            (Some(13 + 256), true),
        ] {
            let mut watch = Watch::default();
            assert!(!watch.is_before_electra(), "nothing is known");
            watch.pass(now, Some(Spec { electra_epoch, ..SPEC }), progress(320));
            assert_eq!(watch.is_before_electra(), expected, "{electra_epoch:?}");
        }
    }

    #[test]
    fn an_exit_is_handed_to_whoever_is_of_the_network_and_can_be_reached() {
        let error = NodeError::Incomplete;
        let network = || Unfit::WrongNetwork { field: "x", expected: String::new(), found: String::new() };
        let cases = [
            (Unfit::Unchecked, false),
            (Unfit::Unreachable(error.clone()), false),
            (network(), false),
            (Unfit::Syncing, true),
            (Unfit::Behind { own: 1, others: 2 }, true),
            (Unfit::NoStates(error), true),
        ];
        for (unfit, expected) in cases {
            assert_eq!(unfit.may_take_exits(), expected, "{unfit}");
        }
    }
}
