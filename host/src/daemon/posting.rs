//! Released exits on their way to the beacon chain, through every node that this host has.
//!
//! # State and restart
//! What became of each exit at each node is known in memory only: a host that starts again posts again, and nodes take a
//! repetition for what it is. Only the finalised state ends it, and that is in the store.

use super::alerts::{self, Alert};
use super::troubles::Troubles;
use super::{DaemonError, Shared};
use crate::backoff::doubled;
use crate::chain::beacon::{
    BeaconNodes, ExitOutcome, ExitRefusal, NodeError, Pace, ValidatorStatus, verify_exit,
};
use crate::status::{ExitPost, PoolStatus, Subject};
use crate::store::{Store, StoreError};
use futures::StreamExt;
use postern_shared::ethereum::{Network, SignedVoluntaryExit};
use postern_shared::ids::PoolId;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Exits on their way to one node at a time.
const AT_ONCE: usize = 32;
/// How many epochs pass between two posts once the finalised state shows the validator leaving: if that was a lie, it goes on.
const LEAVING_EPOCHS: u32 = 8;
/// The same once that shows it exited.
const EXITED_EPOCHS: u32 = 64;
/// After so many epochs an exit that nodes have taken should be on the chain.
const OVERDUE_EPOCHS: u32 = 32;
/// How long exits are handed to one node in a pass, if a slot is not shorter: a slow one keeps the others waiting no longer.
const LONGEST_PASS: Duration = Duration::from_secs(10);

/// What became of all exits, for the status file.
#[derive(Debug, Default)]
pub(super) struct Posts(Mutex<BTreeMap<PoolId, Vec<ExitPost>>>);

impl Posts {
    /// Of one pool.
    pub(super) fn of(&self, pool: PoolId) -> Vec<ExitPost> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&pool).cloned().unwrap_or_default()
    }

    fn replace(&self, posts: BTreeMap<PoolId, Vec<ExitPost>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = posts;
    }
}

/// What is known of one exit at one node.
#[derive(Debug)]
struct Posting {
    attempts: u32,
    /// When the node took it first.
    taken: Option<Instant>,
    last: Instant,
    outcome: Result<ExitOutcome, NodeError>,
}

/// What is to be done with an exit at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Post,
    Wait,
    /// The exit is not the validator's: no node will ever take it.
    Stop,
    /// The validator is gone for good.
    Done,
}

/// One pool's exit at all nodes.
#[derive(Debug, Default)]
struct Exit {
    nodes: BTreeMap<String, Posting>,
    /// It is not the validator's.
    is_invalid: bool,
}

/// Decides by the finalised state alone. A node that has taken it may forget it, so that ends nothing.
fn next(
    posting: Option<&Posting>,
    is_invalid: bool,
    status: Option<ValidatorStatus>,
    pace: Pace,
    now: Instant,
) -> Next {
    if status == Some(ValidatorStatus::WithdrawalDone) {
        return Next::Done;
    }
    if is_invalid {
        return Next::Stop;
    }
    let Some(posting) = posting else { return Next::Post };
    let pause = match status {
        Some(status) if status.has_exited() => pace.epoch.saturating_mul(EXITED_EPOCHS),
        Some(status) if status.is_leaving() => pace.epoch.saturating_mul(LEAVING_EPOCHS),
        _ => back_off(posting.attempts, pace),
    };
    if now.duration_since(posting.last) >= pause { Next::Post } else { Next::Wait }
}

/// One slot, two, four, up to an epoch.
fn back_off(attempts: u32, pace: Pace) -> Duration {
    doubled(pace.slot, attempts.saturating_sub(1), pace.epoch)
}

/// What is wrong with a pool's exit, if something is.
fn trouble(exit: &Exit, status: Option<ValidatorStatus>, pace: Pace, now: Instant) -> Option<String> {
    if exit.is_invalid {
        return Some("it is not signed by the validator's key: see the alerts".to_owned());
    }
    if status.is_some_and(ValidatorStatus::is_leaving) {
        return None;
    }
    let taken = exit.nodes.values().filter(|posting| is_taken(posting)).count();
    if taken == 0 {
        let said =
            exit.nodes.iter().filter_map(|(node, posting)| Some(format!("{node}: {}", refusal(posting)?)));
        let said = said.collect::<Vec<_>>().join("; ");
        let nobody = "no beacon node can be reached to post it to".to_owned();
        return Some(if said.is_empty() { nobody } else { said });
    }
    let first =
        exit.nodes.values().filter(|posting| is_taken(posting)).filter_map(|posting| posting.taken).min()?;
    let is_overdue = now.duration_since(first) >= pace.epoch.saturating_mul(OVERDUE_EPOCHS);
    let overdue =
        || format!("{taken} nodes have taken it for {OVERDUE_EPOCHS} epochs, and it is not on the chain");
    is_overdue.then(overdue)
}

fn is_taken(posting: &Posting) -> bool {
    matches!(posting.outcome, Ok(ExitOutcome::Taken))
}

/// Why a node has not taken it, in words.
fn refusal(posting: &Posting) -> Option<String> {
    match &posting.outcome {
        Ok(ExitOutcome::Taken) => None,
        Ok(ExitOutcome::Refused(refusal)) => Some(refusal.to_string()),
        Err(error) => Some(format!("no answer: {error}")),
    }
}

/// Posts for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let Shared { store, beacon, troubles, posts, data_dir, manifest, .. } = &*shared;
    let poster = Poster { store, beacon, troubles, posts, data_dir, network: &manifest.network };
    let mut exits = BTreeMap::new();
    loop {
        if let Err(error) = poster.pass(&mut exits).await {
            return error.into();
        }
        tokio::time::sleep(shared.poll.min(beacon.pace().slot)).await;
    }
}

/// What posting has to do with.
struct Poster<'a> {
    store: &'a Store,
    beacon: &'a BeaconNodes,
    troubles: &'a Troubles,
    posts: &'a Posts,
    data_dir: &'a Path,
    network: &'a Network,
}

/// An exit and what a node made of it.
struct Posted<'a> {
    node: &'a str,
    pool: PoolId,
    exit: SignedVoluntaryExit,
    outcome: Result<ExitOutcome, NodeError>,
}

impl Poster<'_> {
    /// Posts what is due, at all nodes at once.
    async fn pass(&self, exits: &mut BTreeMap<PoolId, Exit>) -> Result<(), StoreError> {
        let pools = self.store.pools_that(|pool| pool.exit.is_some())?;
        let is_open = |pool: &PoolStatus| pool.final_status != Some(ValidatorStatus::WithdrawalDone);
        let (open, done): (Vec<PoolStatus>, Vec<PoolStatus>) = pools.into_iter().partition(is_open);
        for pool in done.iter().filter(|pool| exits.remove(&pool.pool_id).is_some()) {
            self.troubles.clear(&Subject::Exit(pool.pool_id));
        }
        let names = self.beacon.names();
        let due = due(&open, exits, &names, |name| self.beacon.is_taker(name), self.beacon.pace());
        let posted = due.into_iter().map(|(node, due)| self.post_all(node, due));
        for Posted { node, pool, exit, outcome } in
            futures::future::join_all(posted).await.into_iter().flatten()
        {
            record(exits.entry(pool).or_default(), node, outcome, Instant::now());
            self.check_refusal(exits, &open, pool, &exit, node);
        }
        self.show(exits, &open, &names);
        Ok(())
    }

    /// Posts to one node, until it can't be reached any more or takes too long. What is left stays due.
    async fn post_all<'a>(&self, node: &'a str, due: Vec<(PoolId, SignedVoluntaryExit)>) -> Vec<Posted<'a>> {
        let (begun, longest) = (Instant::now(), self.beacon.pace().slot.min(LONGEST_PASS));
        let posted = futures::stream::iter(due).map(|(pool, exit)| async move {
            if begun.elapsed() >= longest || !self.beacon.is_taker(node) {
                return None;
            }
            Some(Posted { node, pool, exit, outcome: self.beacon.post_exit(node, &exit).await })
        });
        posted.buffer_unordered(AT_ONCE).filter_map(|posted| async { posted }).collect().await
    }

    /// Of an exit that a node says is wrongly signed, either the exit is bad or the node is: this host can tell.
    fn check_refusal(
        &self,
        exits: &mut BTreeMap<PoolId, Exit>,
        open: &[PoolStatus],
        pool: PoolId,
        signed: &SignedVoluntaryExit,
        node: &str,
    ) {
        let Some(exit) = exits.get_mut(&pool) else { return };
        match exit.nodes.get(node).map(|posting| &posting.outcome) {
            Some(Ok(ExitOutcome::Taken)) => return self.beacon.name_liar(node, None),
            Some(Ok(ExitOutcome::Refused(ExitRefusal::InvalidSignature))) => {}
            _ => return,
        }
        let known =
            open.binary_search_by_key(&pool, |known| known.pool_id).ok().and_then(|found| open.get(found));
        let known = known.and_then(|known| Some((known.pubkey?, known.validator_index)));
        let Some((validator, index)) = known else { return };
        match verify_exit(signed, &validator, index, self.network) {
            Ok(()) => {
                let lie = format!("says that the exit of pool {pool} is wrongly signed, and it is not");
                self.beacon.name_liar(node, Some(lie));
            }
            Err(error) => {
                tracing::error!(%pool, %error, "a released exit is not the validator's");
                alerts::raise(self.data_dir, &Alert::InvalidExit { pool, validator, exit: *signed });
                exit.is_invalid = true;
            }
        }
    }

    /// Tells people what became of all of them.
    fn show(&self, exits: &BTreeMap<PoolId, Exit>, open: &[PoolStatus], names: &[String]) {
        let (pace, now) = (self.beacon.pace(), Instant::now());
        let nothing = Exit::default();
        let mut posts = BTreeMap::new();
        for pool in open {
            let exit = exits.get(&pool.pool_id).unwrap_or(&nothing);
            let subject = Subject::Exit(pool.pool_id);
            self.troubles.show(subject, trouble(exit, pool.final_status, pace, now));
            posts.insert(pool.pool_id, names.iter().map(|name| post(name, exit.nodes.get(name))).collect());
        }
        self.posts.replace(posts);
    }
}

/// What is to be posted now, by node.
fn due<'a>(
    open: &[PoolStatus],
    exits: &BTreeMap<PoolId, Exit>,
    names: &'a [String],
    is_taker: impl Fn(&str) -> bool,
    pace: Pace,
) -> Vec<(&'a str, Vec<(PoolId, SignedVoluntaryExit)>)> {
    let now = Instant::now();
    let is_due = |name: &str, pool: &PoolStatus| {
        let exit = exits.get(&pool.pool_id);
        let posting = exit.and_then(|exit| exit.nodes.get(name));
        let is_invalid = exit.is_some_and(|exit| exit.is_invalid);
        next(posting, is_invalid, pool.final_status, pace, now) == Next::Post
    };
    let of = |name: &str| {
        let due = open.iter().filter(|pool| is_due(name, pool));
        due.filter_map(|pool| Some((pool.pool_id, pool.exit?))).collect()
    };
    names.iter().filter(|name| is_taker(name)).map(|name| (name.as_str(), of(name))).collect()
}

fn record(exit: &mut Exit, node: &str, outcome: Result<ExitOutcome, NodeError>, now: Instant) {
    let known = exit.nodes.remove(node);
    let attempts = known.as_ref().map_or(0, |known| known.attempts).saturating_add(1);
    let posting = Posting { attempts, taken: known.and_then(|known| known.taken), last: now, outcome };
    let taken = posting.taken.or(is_taken(&posting).then_some(now));
    exit.nodes.insert(node.to_owned(), Posting { taken, ..posting });
}

fn post(name: &str, posting: Option<&Posting>) -> ExitPost {
    ExitPost {
        node: name.to_owned(),
        taken: posting.is_some_and(is_taken),
        refusal: posting.and_then(refusal),
    }
}

#[cfg(test)]
mod tests;
