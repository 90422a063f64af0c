//! Calls of pool managers that anybody may make, since each carries its proof: whose turn it is, and that each is made once.
//!
//! The leader's host makes them; if it does not, the other members' hosts do, one after the other. That is for custom and for
//! fees only: of two hosts that make one call, one pays for nothing. One that makes many is left to it ([`super::line`]).

use super::alerts::{self, Alert};
use super::line::MadeByOthers;
use super::{DaemonError, Shared};
use crate::chain::profile::UnsupportedCall;
use crate::chain::transactions::{
    GasMargin, TransactionError, TransactionRow, TransactionState, is_out_of_gas,
};
use crate::status::Subject;
use postern_shared::ids::{Address, MemberId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a call is made that fails each time, though it is still due.
const MAX_TRIES: usize = 5;

/// A call that a node has shown as mined, and that is still due after so many more final blocks, was not made: two epochs.
const SWALLOWED_AFTER: u64 = 64;

/// A call that would be refused again and again, so often in a row, though it is due: a person should know.
const MOST_REFUSALS: u32 = 5;

/// Since when things are due, by name, and until when those are let be that would be refused. Kept in memory only: a host that
/// starts again waits again.
#[derive(Default)]
pub(super) struct Turns {
    since: Mutex<BTreeMap<String, Instant>>,
    /// When it was last found that a call is due and can't be made.
    wrong: Mutex<BTreeMap<String, Instant>>,
    /// How often in a row it was found that a call would be refused.
    refusals: Mutex<BTreeMap<String, u32>>,
    /// Which this host has made itself.
    own: Mutex<BTreeSet<String>>,
    others: Mutex<MadeByOthers>,
}

impl Turns {
    fn since(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call would be refused. Whether it was so too often in a row.
    fn is_refused_too_often(&self, name: &str) -> bool {
        let mut refusals = self.refusals();
        let count = refusals.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count >= MOST_REFUSALS
    }

    /// A call was made. Whether something had kept it from that.
    fn is_righted(&self, name: &str) -> bool {
        self.refusals().remove(name);
        self.wrong().remove(name).is_some()
    }

    /// Those that could not be made, and are due no more: nothing was heard of them for so long.
    pub(super) fn take_settled(&self, silence: Duration, now: Instant) -> Vec<String> {
        let is_settled =
            |at: &Instant| now.checked_duration_since(*at).is_some_and(|silent| silent >= silence);
        self.wrong().extract_if(.., |_, at| is_settled(at)).map(|(name, _)| name).collect()
    }

    /// Whether what is due has been for so long. It begins with the first question.
    pub(super) fn has_waited(&self, name: &str, how_long: Duration, now: Instant) -> bool {
        let begun = *self.since().entry(name.to_owned()).or_insert(now);
        now.checked_duration_since(begun).is_some_and(|waited| waited >= how_long)
    }

    /// Has it wait anew, until it has waited for so long beyond this moment.
    pub(super) fn put_off(&self, name: &str, until: Instant) {
        self.since().insert(name.to_owned(), until);
    }

    /// What begins with this name is due no more.
    pub(super) fn forget(&self, name: &str) {
        self.since().retain(|known, _| !known.starts_with(name));
        self.refusals().retain(|known, _| !known.starts_with(name));
        self.own().retain(|known| !known.starts_with(name));
    }

    /// What has such a name was made, by another host unless it was this one.
    pub(super) fn made_by_another(&self, is: impl Fn(&str) -> bool, now: Instant) {
        let mut since = self.since();
        let due = since.extract_if(.., |known, _| is(known) && !self.own().contains(known));
        if let Some(due) = due.map(|(_, due)| due).min() {
            self.others.lock().unwrap_or_else(PoisonError::into_inner).note(due, now);
        }
    }

    /// Whether a call that is due is left to other hosts, though its turn has come: they are at work on those before it.
    pub(super) fn leaves_to_others(&self, name: &str, wait: Duration, now: Instant) -> bool {
        let due = self.since().get(name).copied();
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        due.is_some_and(|due| others.are_at_work(due, wait, now))
    }
}

/// How many members come before this one, beginning with the leader.
fn place(member: MemberId, leader: MemberId, members: usize) -> u32 {
    let members = u32::try_from(members).unwrap_or(u32::MAX).max(1);
    (u32::from(member.0) + members - u32::from(leader.0) % members) % members
}

/// That it is this host's turn to make a call that is due.
pub(super) struct Turn {
    name: String,
    /// Under which its transaction is kept.
    key: String,
    margin: GasMargin,
}

/// What an earlier transaction means for a call that is still due.
#[derive(Debug, PartialEq, Eq)]
enum Try {
    /// It is on its way, or was a moment ago; or a person has cancelled it.
    Stands,
    /// It did not do it.
    Failed {
        reason: String,
        /// What it used, if that was all that it had.
        ran_out_of: Option<u64>,
    },
    /// It did not do it, and a person wants the call made again.
    Forgiven,
}

/// `finalised` is the newest finalised block. What a call is still due after is not its own making: blocks were reorganised,
/// another call came first, or what a node said of its block was a lie.
fn judge(row: &TransactionRow, finalised: u64) -> Try {
    match &row.state {
        _ if row.retried => Try::Forgiven,
        TransactionState::Mined { block, .. } if finalised >= block.saturating_add(SWALLOWED_AFTER) => {
            let reason =
                format!("the node has shown it in block {block}, and the contract does not know of it");
            Try::Failed { reason, ran_out_of: None }
        }
        TransactionState::Reverted { hash, reason, .. } => {
            let version = row.versions.iter().find(|version| version.hash == *hash);
            let used = row.conclusion.map(|conclusion| conclusion.gas_used);
            let ran_out_of =
                used.zip(version).filter(|(used, version)| is_out_of_gas(*used, version.gas_limit));
            Try::Failed { reason: reason.clone(), ran_out_of: ran_out_of.map(|(used, _)| used) }
        }
        _ => Try::Stands,
    }
}

/// More gas with each try that failed, and at least twice what was too little.
fn margin(failures: usize, ran_out_of: u64) -> GasMargin {
    let GasMargin { percent, .. } = GasMargin::default();
    let doublings = u32::try_from(failures.min(MAX_TRIES)).unwrap_or_default();
    GasMargin { percent: percent << doublings, at_least: ran_out_of.saturating_mul(2) }
}

/// This host's turn to make a call that is due, if it has come, and it has not made it.
pub(super) async fn turn(shared: &Shared, name: &str) -> Option<Turn> {
    if !shared.turns.has_waited(name, wait(shared), Instant::now()) {
        return None;
    }
    let mut tries = Tries::default();
    for number in 1_u32.. {
        let key = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        let Some(row) = shared.transactions.row(&key).await else {
            return match tries.next() {
                Ok(margin) => Some(Turn { name: name.to_owned(), key, margin }),
                Err(last) => {
                    give_up(shared, name, last);
                    None
                }
            };
        };
        if !tries.has_failed(judge(&row, finalised(shared, &row).await)) {
            shared.turns.own().insert(name.to_owned());
            return None;
        }
    }
    None
}

/// The tries that a call has had.
#[derive(Debug, Default)]
struct Tries {
    failures: usize,
    /// The most gas that was too little.
    ran_out_of: u64,
    /// Why the last one failed.
    last: String,
}

impl Tries {
    /// One more. Whether another one may follow.
    fn has_failed(&mut self, judged: Try) -> bool {
        match judged {
            Try::Stands => return false,
            Try::Forgiven => {}
            Try::Failed { reason, ran_out_of } => {
                self.failures += 1;
                self.ran_out_of = self.ran_out_of.max(ran_out_of.unwrap_or_default());
                self.last = reason;
            }
        }
        true
    }

    /// With how much gas to try again; why not, if it has failed too often.
    fn next(self) -> Result<GasMargin, String> {
        if self.failures >= MAX_TRIES {
            return Err(self.last);
        }
        Ok(margin(self.failures, self.ran_out_of))
    }
}

/// How long this host waits for those that come before it.
fn wait(shared: &Shared) -> Duration {
    shared.turn * place(shared.member, shared.manifest.leader, shared.manifest.members.len())
}

/// Whether a call is left to other hosts, which are at work on those before it.
pub(super) fn is_left(shared: &Shared, turn: &Turn) -> bool {
    shared.turns.leaves_to_others(&turn.name, wait(shared), Instant::now())
}

/// The newest finalised block, where it matters; 0 if it can't be read. By one node's word calls would be made twice.
async fn finalised(shared: &Shared, row: &TransactionRow) -> u64 {
    if !matches!(row.state, TransactionState::Mined { .. }) {
        return 0;
    }
    shared.execution.finalised_as_most_say().await.unwrap_or_default()
}

/// Says that a call is not made again by itself.
fn give_up(shared: &Shared, name: &str, reason: String) {
    cannot(
        shared,
        name,
        Instant::now(),
        format_args!("failed {MAX_TRIES} times and is still due; last: {reason}"),
    );
    alerts::raise(&shared.data_dir, &Alert::CallFailed { call: name.to_owned(), reason });
}

/// Says what keeps a call that is due from being made; until `at` nothing more is heard of it.
fn cannot(shared: &Shared, name: &str, at: Instant, reason: impl Display) {
    shared.turns.wrong().insert(name.to_owned(), at);
    shared.troubles.set(Subject::Transaction(name.to_owned()), reason);
}

/// Says why a call is not made though it is this host's turn.
pub(super) fn hold_back(shared: &Shared, turn: &Turn, reason: impl Display) {
    cannot(shared, &turn.name, Instant::now(), reason);
}

/// Makes the call. What keeps it from being made now is said, and it is tried again.
pub(super) async fn make(
    shared: &Shared,
    Turn { name, key, margin }: &Turn,
    contract: Address,
    call: Result<Vec<u8>, UnsupportedCall>,
) -> Result<(), DaemonError> {
    let calldata = match call {
        Ok(calldata) => calldata,
        Err(error) => {
            tracing::error!(key, %error, "a call can't be made");
            return Ok(());
        }
    };
    match shared.transactions.submit_with(key, contract, calldata, *margin).await {
        Ok(_) => {
            tracing::info!(key, "a call is made");
            shared.turns.own().insert(name.clone());
            if shared.turns.is_righted(name) {
                shared.troubles.clear(&Subject::Transaction(name.clone()));
            }
        }
        Err(error @ TransactionError::Store(_)) => return Err(error.into()),
        Err(error @ TransactionError::WouldRevert { .. }) => {
            tracing::warn!(key, %error, "a call would be refused");
            let until = Instant::now() + shared.turn;
            shared.turns.put_off(name, until);
            if shared.turns.is_refused_too_often(name) {
                cannot(shared, name, until + wait(shared), error);
            }
        }
        Err(error) => cannot(shared, name, Instant::now(), error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::transactions::{Conclusion, SignedVersion, Why};
    use postern_shared::ids::Digest;

    const HASH: Digest = Digest([7; 32]);
    const TURN: Duration = Duration::from_secs(90);

    #[test]
    fn the_leader_comes_first_and_the_others_after_it_in_a_circle() {
        let places = |leader| [1, 2, 3, 4, 5].map(|member| place(MemberId(member), MemberId(leader), 5));
        assert_eq!(places(1), [0, 1, 2, 3, 4]);
        assert_eq!(places(4), [2, 3, 4, 0, 1]);
        assert_eq!(places(5), [1, 2, 3, 4, 0]);
    }

    #[test]
    fn a_turn_comes_after_the_wait_and_begins_anew_once_forgotten() {
        let (turns, start) = (Turns::default(), Instant::now());
        assert!(turns.has_waited("leader", Duration::ZERO, start));
        assert!(!turns.has_waited("call", TURN, start));
        assert!(!turns.has_waited("call", TURN, start + TURN / 2));
        assert!(!turns.has_waited("other", TURN, start + TURN));
        assert!(turns.has_waited("call", TURN, start + TURN));
        turns.forget("call");
        assert!(!turns.has_waited("call", TURN, start + TURN));
        turns.put_off("leader", start + TURN);
        assert!(!turns.has_waited("leader", Duration::ZERO, start));
        assert!(turns.has_waited("leader", Duration::ZERO, start + TURN));
    }

    #[test]
    fn what_was_wrong_is_settled_once_nothing_more_is_heard_of_it() {
        let (turns, start) = (Turns::default(), Instant::now());
        turns.wrong().insert("old".to_owned(), start);
        turns.wrong().insert("new".to_owned(), start + TURN);
        assert_eq!(turns.take_settled(TURN, start), [""; 0]);
        assert_eq!(turns.take_settled(TURN, start + TURN), ["old"]);
        assert_eq!(turns.take_settled(TURN, start + TURN), [""; 0]);
    }

    #[test]
    fn a_call_that_would_be_refused_again_and_again_is_a_trouble_until_it_is_made() {
        let turns = Turns::default();
        let refused =
            || (1..=MOST_REFUSALS + 1).map(|_| turns.is_refused_too_often("call")).collect::<Vec<_>>();
        assert_eq!(refused(), [false, false, false, false, true, true]);
        assert!(!turns.is_righted("call"), "nothing was said of it yet");
        assert!(!turns.is_refused_too_often("call"), "in a row");
        turns.forget("ca");
        assert_eq!(refused(), [false, false, false, false, true, true]);
        // What is said of one that was put off stays until it is looked at again.
        let now = Instant::now();
        turns.wrong().insert("call".to_owned(), now + TURN);
        assert_eq!(turns.take_settled(Duration::ZERO, now), [""; 0]);
        assert!(turns.is_righted("call"));
    }

    fn row(state: TransactionState, gas_used: u64) -> TransactionRow {
        let version = SignedVersion {
            hash: HASH,
            raw: vec![],
            gas_limit: 64_000,
            max_fee_per_gas: 1,
            max_priority_fee_per_gas: 1,
            sent_at_block: Some(1),
            why: Why::First,
            cancels: false,
        };
        let conclusion = state.is_final().then_some(Conclusion { at: 1, gas_used, cost: 1 });
        let row = TransactionRow::new("call", Address([1; 20]), vec![], 0);
        TransactionRow { state, versions: vec![version], conclusion, ..row }
    }

    #[test]
    fn a_call_that_is_still_due_is_made_again_if_its_transaction_did_not_do_it() {
        let mined = || TransactionState::Mined { hash: HASH, block: 100 };
        let reverted = || TransactionState::Reverted { hash: HASH, block: 100, reason: "no".to_owned() };
        let failed = |ran_out_of| Try::Failed { reason: "no".to_owned(), ran_out_of };
        let swallowed = "the node has shown it in block 100, and the contract does not know of it".to_owned();
        for (row, finalised, judged) in [
            (row(TransactionState::Prepared, 0), u64::MAX, Try::Stands),
            (row(TransactionState::Sent, 0), u64::MAX, Try::Stands),
            (row(TransactionState::Cancelled { block: 100 }, 21_000), u64::MAX, Try::Stands),
            (row(mined(), 50_000), 163, Try::Stands),
            (row(mined(), 50_000), 164, Try::Failed { reason: swallowed, ran_out_of: None }),
            (row(reverted(), 50_000), 0, failed(None)),
            (row(reverted(), 64_000), 0, failed(Some(64_000))),
            (row(reverted(), 63_500), 0, failed(Some(63_500))),
            (TransactionRow { retried: true, ..row(reverted(), 50_000) }, 0, Try::Forgiven),
            (
                TransactionRow { retried: true, ..row(TransactionState::Cancelled { block: 1 }, 1) },
                0,
                Try::Forgiven,
            ),
        ] {
            assert_eq!(judge(&row, finalised), judged, "{row:?}");
        }
    }

    #[test]
    fn a_call_is_made_five_times_and_again_for_each_that_a_person_forgives() {
        let failed = |ran_out_of| Try::Failed { reason: format!("{ran_out_of:?}"), ran_out_of };
        let five = || [None, Some(7), None, None, Some(9)].map(failed);
        let after = |judged: Vec<Try>| {
            let mut tries = Tries::default();
            assert!(judged.into_iter().all(|judged| tries.has_failed(judged)));
            tries.next()
        };
        assert_eq!(after(vec![]), Ok(margin(0, 0)));
        assert_eq!(after(five().into_iter().take(4).collect()), Ok(margin(4, 7)));
        assert_eq!(after(five().into()), Err("Some(9)".to_owned()));
        let forgiven = [Try::Forgiven, failed(None), Try::Forgiven].into_iter();
        assert_eq!(after(forgiven.chain(five().into_iter().take(3)).collect()), Ok(margin(4, 7)));
        assert!(!Tries::default().has_failed(Try::Stands));
    }

    #[test]
    fn each_try_has_more_gas_and_twice_what_was_too_little() {
        for (failures, ran_out_of, percent, at_least) in [
            (0, 0, 25, 0),
            (1, 0, 50, 0),
            (2, 64_000, 100, 128_000),
            (4, 0, 400, 0),
            (1, u64::MAX, 50, u64::MAX),
        ] {
            assert_eq!(margin(failures, ran_out_of), GasMargin { percent, at_least });
        }
    }
}
