//! The pools' validators on the beacon chain: their index once final, and how they are.
//!
//! All are asked for together. Those that something is to come of are asked for often, those at rest rarely, and those that
//! are gone for good never again.

use super::alerts::{self, Alert};
use super::troubles::Troubles;
use super::{DaemonError, Shared};
use crate::chain::beacon::{
    BeaconError, BeaconNodes, Found, NodeStanding, Pace, StateId, Validator, ValidatorStatus, Votes,
};
use crate::status::{PoolStatus, Subject};
use crate::store::{Store, StoreError};
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::DepositData;
use postern_shared::events::ChainEvent;
use postern_shared::ids::PoolId;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many that something is to come of may be asked for at every look; more of them only as often as finality moves.
const FEW: usize = 64;
/// Epochs between two looks at those at rest.
const REST_EPOCHS: u32 = 8;
/// For so many epochs nodes may disagree on a validator without anybody being told: they are at different checkpoints.
const DISPUTE_EPOCHS: u32 = 3;

/// How often a validator is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    /// It has no key yet, or it is gone for good.
    None,
    /// It does its duty, and nobody wants it to leave.
    Rare,
    /// Something is to come of it.
    Often,
}

fn interest(pool: &PoolStatus) -> Interest {
    let ongoing = Some(ValidatorStatus::ActiveOngoing);
    if pool.pubkey.is_none() || pool.final_status == Some(ValidatorStatus::WithdrawalDone) {
        return Interest::None;
    }
    let is_at_rest = pool.validator_index.is_some()
        && !pool.exit_requested
        && pool.exit.is_none()
        && (pool.beacon_status, pool.final_status) == (ongoing, ongoing);
    if is_at_rest { Interest::Rare } else { Interest::Often }
}

/// When validators were last looked at.
#[derive(Debug, Default)]
struct Looks {
    often: Option<Instant>,
    rare: Option<Instant>,
    /// Of which pools' validators nodes say different things for now: since when, and what.
    disputes: BTreeMap<PoolId, (Instant, String)>,
}

/// Whom to look at now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    often: bool,
    rare: bool,
}

impl Looks {
    /// `often` is the number of validators that something is to come of.
    fn due(&self, often: usize, poll: Duration, pace: Pace, now: Instant) -> Due {
        let often_pause = if often <= FEW { poll } else { poll.max(pace.epoch / 2) };
        let rare_pause = poll.max(pace.epoch.saturating_mul(REST_EPOCHS));
        let is_due = |last: Option<Instant>, pause| last.is_none_or(|last| now.duration_since(last) >= pause);
        Due { often: is_due(self.often, often_pause), rare: is_due(self.rare, rare_pause) }
    }

    fn done(&mut self, Due { often, rare }: Due, now: Instant) {
        self.often = if often { Some(now) } else { self.often };
        self.rare = if rare { Some(now) } else { self.rare };
    }

    /// Takes note of what the nodes say of a pool's validator.
    fn note(&mut self, pool: PoolId, found: Option<&Found>, now: Instant) {
        let Some(Found::Disputed(answers)) = found else {
            self.disputes.remove(&pool);
            return;
        };
        self.disputes.entry(pool).or_insert_with(|| (now, String::new())).1.clone_from(answers);
    }

    /// What nodes have disagreed on for long.
    fn disputed(&self, pace: Pace, now: Instant) -> Option<String> {
        let long = pace.epoch.saturating_mul(DISPUTE_EPOCHS);
        let mut old = self.disputes.iter().filter(|(_, (since, _))| now.duration_since(*since) >= long);
        let (pool, (_, answers)) = old.next()?;
        let more = match old.count() {
            0 => String::new(),
            more => format!(", and of {more} more pools"),
        };
        Some(format!("too few say the same of the validator of pool {pool}{more}: {answers}"))
    }
}

impl Due {
    fn covers(self, interest: Interest) -> bool {
        match interest {
            Interest::None => false,
            Interest::Rare => self.rare,
            Interest::Often => self.often,
        }
    }
}

/// Looks for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let Shared { store, beacon, troubles, data_dir, .. } = &*shared;
    let watcher = Watcher { store, beacon, data_dir };
    let mut looks = Looks::default();
    loop {
        match watcher.look(&mut looks, shared.poll).await {
            Ok(()) => {}
            Err(LookError::Store(error)) => return error.into(),
            Err(LookError::Beacon(error)) => tracing::debug!(%error, "the beacon chain can't be read"),
        }
        show(troubles, beacon.standings());
        // Who of them is right nobody can say.
        let all = Subject::BeaconNode(beacon.names().join(", "));
        match looks.disputed(beacon.pace(), Instant::now()) {
            Some(reason) => troubles.set(all, reason),
            None if beacon.names().len() > 1 => troubles.clear(&all),
            None => {}
        }
        tokio::time::sleep(shared.poll).await;
    }
}

/// Tells people of nodes that can't be used.
fn show(troubles: &Troubles, standings: Vec<NodeStanding>) {
    for NodeStanding { name, wrong } in standings {
        troubles.show(Subject::BeaconNode(name), wrong);
    }
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Beacon(#[from] BeaconError),
}

/// What looking has to do with.
struct Watcher<'a> {
    store: &'a Store,
    beacon: &'a BeaconNodes,
    data_dir: &'a Path,
}

impl Watcher<'_> {
    /// Looks at all that are due.
    async fn look(&self, looks: &mut Looks, poll: Duration) -> Result<(), LookError> {
        let often = self.store.pools_that(|pool| interest(pool) == Interest::Often)?.len();
        let now = Instant::now();
        let due = looks.due(often, poll, self.beacon.pace(), now);
        let pools = self.store.pools_that(|pool| due.covers(interest(pool)))?;
        let keys: Vec<PublicKey> = pools.iter().filter_map(|pool| pool.pubkey).collect();
        let finalized = self.beacon.validators(StateId::Finalized, &keys).await?;
        for pool in &pools {
            looks.note(pool.pool_id, pool.pubkey.and_then(|pubkey| finalized.get(&pubkey)), now);
            self.see_finalized(pool, &finalized)?;
        }
        let head = self.beacon.validators(StateId::Head, &keys).await?;
        for pool in &pools {
            if let Some(status) = there(pool, &head).map(|(validator, _)| validator.status)
                && pool.beacon_status != Some(status)
            {
                self.store.change_pool(pool.pool_id, |pool| pool.beacon_status = Some(status))?;
            }
        }
        looks.done(due, now);
        Ok(())
    }

    /// Takes over what the finalised state says of a pool's validator.
    fn see_finalized(
        &self,
        pool: &PoolStatus,
        finalized: &HashMap<PublicKey, Found>,
    ) -> Result<(), StoreError> {
        let Some(((validator, votes), pubkey)) = there(pool, finalized).zip(pool.pubkey) else {
            return Ok(());
        };
        if pool.validator_index.is_none() && self.is_own(pool, validator) {
            let validator_index = validator.index;
            let event = ChainEvent::ValidatorIndexed { pool: pool.pool_id, pubkey, validator_index };
            tracing::info!(pool = %pool.pool_id, validator_index, "the validator has its index");
            self.store.keep_events(&[event], None)?;
        }
        // It is never looked at again after that: half of the nodes are not enough.
        let status = validator.status;
        if status == ValidatorStatus::WithdrawalDone && !votes.are_most() {
            return Ok(());
        }
        let has_left = pool.has_left || (status.has_exited() && votes.are_most());
        if (pool.final_status, pool.has_left) != (Some(status), has_left) {
            self.store.change_pool(pool.pool_id, |pool| {
                (pool.final_status, pool.has_left) = (Some(status), has_left);
            })?;
        }
        Ok(())
    }

    /// Whether a validator's stake goes where the enclaves wanted it to, by all that this host has ever seen. Otherwise
    /// nothing goes on with it.
    fn is_own(&self, pool: &PoolStatus, validator: &Validator) -> bool {
        let Some(DepositData { message, .. }) = pool.deposit else { return false };
        let (found, made) = (validator.withdrawal_credentials, message.withdrawal_credentials);
        if found != made {
            let (pool, validator) = (pool.pool_id, message.pubkey);
            alerts::raise(self.data_dir, &Alert::OtherCredentials { pool, validator, found, made });
        }
        found == made && !alerts::is_of_other_credentials(self.data_dir, pool.pool_id)
    }
}

fn there<'a>(pool: &PoolStatus, found: &'a HashMap<PublicKey, Found>) -> Option<(&'a Validator, Votes)> {
    match found.get(&pool.pubkey?)? {
        Found::There(validator, votes) => Some((validator, *votes)),
        // Who contradicts the others is named as a trouble, and that they disagree for long.
        Found::NotThere | Found::Disputed(_) => None,
    }
}

#[cfg(test)]
mod tests;
