//! Calls of pool managers that anybody may make, since each carries its proof: whose turn it is, and that each is made once.
//!
//! The leader's host makes them; if it does not, the other members' hosts do, one after the other. That is for custom and for
//! fees only: of two hosts that make one call, one pays for nothing.

use super::{DaemonError, Shared};
use crate::chain::profile::UnsupportedCall;
use crate::chain::transactions::{TransactionError, TransactionState};
use postern_shared::ids::{Address, MemberId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a call is made that is reverted each time, though it is still due.
const MAX_TRIES: usize = 5;

/// Since when things are due, by name, and until when those are let be that would be refused. Kept in memory only: a host that
/// starts again waits again.
#[derive(Default)]
pub(super) struct Turns(Mutex<BTreeMap<String, Instant>>);

impl Turns {
    fn since(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
}

/// This host's turn to make a call that is due, if it has come, and it has not made it.
pub(super) async fn turn(shared: &Shared, name: &str) -> Option<Turn> {
    let place = place(shared.member, shared.manifest.leader, shared.manifest.members.len());
    if !shared.turns.has_waited(name, shared.turn * place, Instant::now()) {
        return None;
    }
    for number in 1..=MAX_TRIES {
        let key = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        match shared.transactions.state(&key).await {
            None => return Some(Turn { name: name.to_owned(), key }),
            // What it said no to is due all the same: blocks were reorganised, or another call came first.
            Some(TransactionState::Reverted { .. }) => {}
            Some(_) => return None,
        }
    }
    None
}

/// Makes the call. What keeps it from being made now is said, and it is tried again.
pub(super) async fn make(
    shared: &Shared,
    Turn { name, key }: &Turn,
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
    match shared.transactions.submit(key, contract, calldata).await {
        Ok(_) => tracing::info!(key, "a call is made"),
        Err(error @ TransactionError::Store(_)) => return Err(error.into()),
        Err(error @ TransactionError::WouldRevert { .. }) => {
            tracing::warn!(key, %error, "a call would be refused");
            shared.turns.put_off(name, Instant::now() + shared.turn);
        }
        Err(error) => tracing::warn!(key, %error, "a call can't be made now"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
