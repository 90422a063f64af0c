//! Released exits on their way to all members' hosts: an exit is public, and every host posts it to its own beacon nodes.
//!
//! The host whose enclave released an exit hands it to the others until they have it. A host that knows of a wish to exit,
//! and has no exit, asks the others for it: its machine may have been replaced since. Nobody's word is taken: an exit is kept
//! only if the pool's validator has signed it. A bad one is the fault of the host that sent it, and says nothing of the pool.
//!
//! # State and restart
//! Exits are in the store. Who has which is known in memory only: a host that starts again hands them out again.

use super::troubles::Troubles;
use super::{DaemonError, Shared};
use crate::chain::beacon::{BeaconNodes, ExitError, Found, StateId, ValidatorStatus, verify_exit};
use crate::network::{Answer, MAX_EXITS, Question, ReleasedExit};
use crate::status::Subject;
use crate::store::{Store, StoreError};
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::Network;
use postern_shared::ids::{MemberId, PoolId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Offers that may wait to be verified.
const QUEUE: usize = 16;
/// Longest wait before a host is offered exits again that it does not take.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// So many of each member's bad exits are kept in mind.
const MOST_REFUSED: usize = 1_024;

/// Exits that another host wants to be kept here.
pub(super) struct Offer {
    from: MemberId,
    exits: Vec<ReleasedExit>,
    answer: oneshot::Sender<Answer>,
}

/// Where offers wait: verifying them takes time that ceremonies' messages do not have.
pub(super) struct Offers(mpsc::Sender<Offer>);

impl Offers {
    pub(super) fn new() -> (Self, mpsc::Receiver<Offer>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Hands an offer on. If too many wait, its sender tries again later.
    pub(super) fn hand_on(&self, from: MemberId, exits: Vec<ReleasedExit>, answer: oneshot::Sender<Answer>) {
        if let Err(error) = self.0.try_send(Offer { from, exits, answer }) {
            drop(error.into_inner().answer.send(Answer::Unavailable));
        }
    }
}

/// The exits of these pools that are here.
pub(super) fn known(store: &Store, pools: &[PoolId]) -> Result<Vec<ReleasedExit>, StoreError> {
    let mut exits = Vec::new();
    for pool in pools.iter().take(MAX_EXITS) {
        let exit = store.pool(*pool)?.and_then(|known| known.exit);
        exits.extend(exit.map(|exit| ReleasedExit { pool: *pool, exit }));
    }
    Ok(exits)
}

/// Keeps what others offer, for ever.
pub(super) async fn keep(shared: Arc<Shared>, mut offers: mpsc::Receiver<Offer>) -> DaemonError {
    while let Some(Offer { from, exits, answer }) = offers.recv().await {
        match take(&shared, from, exits).await {
            Ok(kept) => drop(answer.send(Answer::Kept(kept))),
            Err(error) => return error,
        }
    }
    DaemonError::Task("nobody offers exits any more".to_owned())
}

/// Keeps those exits that are good; the pools whose exits are here then.
async fn take(shared: &Shared, from: MemberId, exits: Vec<ReleasedExit>) -> Result<Vec<PoolId>, DaemonError> {
    let keys = keys_on_chain(shared, &exits).await?;
    let Shared { store, beacon, troubles, refused, .. } = shared;
    Keeper { store, beacon, troubles, refused, network: shared.manifest.network }
        .take(from, exits, &keys)
        .await
}

/// The keys of those pools that this host knows no key of: a new machine's enclave was never told of the deposit, but the pool
/// manager was.
async fn keys_on_chain(
    shared: &Shared,
    exits: &[ReleasedExit],
) -> Result<BTreeMap<PoolId, PublicKey>, StoreError> {
    let mut keys = BTreeMap::new();
    for ReleasedExit { pool, .. } in exits.iter().take(MAX_EXITS) {
        let is_unknown =
            shared.store.pool(*pool)?.is_some_and(|known| known.pubkey.is_none() && known.exit.is_none());
        if is_unknown && let Ok(found) = shared.execution.pool_for_good(*pool).await {
            keys.extend(found.pubkey.map(|key| (*pool, key)));
        }
    }
    Ok(keys)
}

/// The bad exits of each member, the newest last: they are not looked at again, so that one of them keeps no others out.
#[derive(Default)]
pub(super) struct Refused(Mutex<BTreeMap<MemberId, VecDeque<Unverified>>>);

impl Refused {
    fn known(&self) -> MutexGuard<'_, BTreeMap<MemberId, VecDeque<Unverified>>> {
        // Nothing is done under the lock that could leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has not been refused before, held against the same key and index.
    fn without(&self, from: MemberId, unverified: Vec<Unverified>) -> Vec<Unverified> {
        let known = self.known();
        let Some(refused) = known.get(&from) else { return unverified };
        unverified.into_iter().filter(|one| !refused.contains(one)).collect()
    }

    fn add(&self, from: MemberId, bad: Unverified) {
        let mut known = self.known();
        let refused = known.entry(from).or_default();
        if refused.len() >= MOST_REFUSED {
            refused.pop_front();
        }
        refused.push_back(bad);
    }
}

/// What keeping exits has to do with.
struct Keeper<'a> {
    store: &'a Store,
    beacon: &'a BeaconNodes,
    troubles: &'a Troubles,
    refused: &'a Refused,
    network: Network,
}

impl Keeper<'_> {
    async fn take(
        &self,
        from: MemberId,
        exits: Vec<ReleasedExit>,
        keys: &BTreeMap<PoolId, PublicKey>,
    ) -> Result<Vec<PoolId>, DaemonError> {
        let (mut kept, mut unknown, is_empty) = (Vec::new(), Vec::new(), exits.is_empty());
        for offered in exits.into_iter().take(MAX_EXITS) {
            match self.store.pool(offered.pool)? {
                Some(known) if known.exit.is_some() => kept.push(offered.pool),
                Some(known) => {
                    let pubkey = known.pubkey.or_else(|| keys.get(&offered.pool).copied());
                    unknown.extend(pubkey.map(|pubkey| (offered, pubkey, known.validator_index)));
                }
                None => {
                    tracing::debug!(%from, pool = %offered.pool, "an exit of a pool that is not known here")
                }
            }
        }
        let completed = self.complete(unknown).await;
        let completed_count = completed.len();
        let unverified = self.refused.without(from, completed);
        let is_all_new = unverified.len() == completed_count;
        let network = self.network;
        let verified = tokio::task::spawn_blocking(move || verify(unverified, &network)).await;
        let Verified { good, bad } = verified.map_err(|error| DaemonError::Task(error.to_string()))?;
        for Unverified { offered: ReleasedExit { pool, exit }, pubkey, .. } in good {
            self.store.change_pool(pool, |status| {
                status.exit = status.exit.or(Some(exit));
                status.pubkey = status.pubkey.or(Some(pubkey));
            })?;
            tracing::info!(%pool, %from, "the released exit is here");
            kept.push(pool);
        }
        if let Some((bad, error)) = bad {
            let reason = format!("sends an exit that is not the validator's: {}: {error}", bad.offered.pool);
            self.refused.add(from, bad);
            self.troubles.set(Subject::WrongExit(from), reason);
        } else if is_all_new && !is_empty {
            self.troubles.clear(&Subject::WrongExit(from));
        }
        Ok(kept)
    }

    /// Finds the indices of validators by this host's own nodes. Exits whose validator is not final yet are left out: they are
    /// offered again.
    async fn complete(&self, unknown: Vec<(ReleasedExit, PublicKey, Option<u64>)>) -> Vec<Unverified> {
        let without_index = unknown.iter().filter(|(.., index)| index.is_none());
        let keys: Vec<PublicKey> = without_index.map(|(_, pubkey, _)| *pubkey).collect();
        let found = self.beacon.validators(StateId::Finalized, &keys).await.unwrap_or_default();
        let unverified = unknown.into_iter().filter_map(|(offered, pubkey, index)| {
            let found = match found.get(&pubkey) {
                Some(Found::There(validator, _)) => Some(validator.index),
                _ => None,
            };
            Some(Unverified { offered, pubkey, index: index.or(found)? })
        });
        unverified.collect()
    }
}

/// An exit with what it is to be held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unverified {
    offered: ReleasedExit,
    pubkey: PublicKey,
    /// By this host's own beacon nodes.
    index: u64,
}

/// Which of some exits are good. After one bad one the rest of the offer is not looked at: it costs time, and the next offer is.
#[derive(Debug)]
struct Verified {
    good: Vec<Unverified>,
    bad: Option<(Unverified, ExitError)>,
}

fn verify(unverified: Vec<Unverified>, network: &Network) -> Verified {
    let mut good = Vec::new();
    for one in unverified {
        match verify_exit(&one.offered.exit, &one.pubkey, Some(one.index), network) {
            Ok(()) => good.push(one),
            Err(error) => return Verified { good, bad: Some((one, error)) },
        }
    }
    Verified { good, bad: None }
}

/// What another host has of this one's exits.
#[derive(Debug)]
struct Recipient {
    has: BTreeSet<PoolId>,
    pause: Duration,
    due: Instant,
}

impl Recipient {
    /// What to offer it now.
    fn wants(&self, exits: &[ReleasedExit], now: Instant) -> Vec<ReleasedExit> {
        if now < self.due {
            return Vec::new();
        }
        exits.iter().filter(|exit| !self.has.contains(&exit.pool)).take(MAX_EXITS).copied().collect()
    }

    /// It was offered something, and keeps these.
    fn keeps(&mut self, offered: usize, kept: &[PoolId], poll: Duration, now: Instant) {
        self.has.extend(kept);
        let is_all = kept.len() >= offered;
        self.pause = if is_all { poll } else { (self.pause * 2).min(LONGEST_PAUSE) };
        self.due = if is_all { now } else { now + self.pause };
    }
}

/// Hands out what the own enclave has released, for ever.
pub(super) async fn hand_out(shared: Arc<Shared>) -> DaemonError {
    let new = || Recipient { has: BTreeSet::new(), pause: shared.poll, due: Instant::now() };
    let mut recipients: BTreeMap<MemberId, Recipient> =
        others(&shared).into_iter().map(|member| (member, new())).collect();
    loop {
        let exits = match released_here(&shared.store) {
            Ok(exits) => exits,
            Err(error) => return error.into(),
        };
        let open: BTreeSet<PoolId> = exits.iter().map(|exit| exit.pool).collect();
        let offers = recipients.iter_mut().map(|(member, recipient)| {
            recipient.has.retain(|pool| open.contains(pool));
            offer(&shared, *member, recipient, &exits)
        });
        futures::future::join_all(offers).await;
        tokio::time::sleep(shared.poll).await;
    }
}

fn others(shared: &Shared) -> Vec<MemberId> {
    let members = shared.manifest.members.iter().map(|member| member.id);
    members.filter(|member| *member != shared.member).collect()
}

/// The exits that this host is to hand out.
fn released_here(store: &Store) -> Result<Vec<ReleasedExit>, StoreError> {
    let pools = store.pools_that(|pool| {
        pool.is_released_here && pool.final_status != Some(ValidatorStatus::WithdrawalDone)
    })?;
    Ok(pools
        .into_iter()
        .filter_map(|pool| Some(ReleasedExit { pool: pool.pool_id, exit: pool.exit? }))
        .collect())
}

/// Offers a host what it lacks, as long as it takes everything.
async fn offer(shared: &Shared, member: MemberId, recipient: &mut Recipient, exits: &[ReleasedExit]) {
    loop {
        let wanted = recipient.wants(exits, Instant::now());
        if wanted.is_empty() {
            return;
        }
        let kept = match shared.network.ask(member, Question::Exits(wanted.clone())).await {
            Ok(Answer::Kept(kept)) => kept,
            Ok(answer) => {
                tracing::debug!(%member, ?answer, "exits are not taken");
                Vec::new()
            }
            Err(error) => {
                tracing::debug!(%member, %error, "exits can't be handed over");
                Vec::new()
            }
        };
        // Only what was offered: nobody can say that it has others.
        let kept: Vec<PoolId> =
            wanted.iter().map(|exit| exit.pool).filter(|pool| kept.contains(pool)).collect();
        recipient.keeps(wanted.len(), &kept, shared.poll, Instant::now());
    }
}

/// Asks the others for exits that should be there, for ever.
pub(super) async fn fetch(shared: Arc<Shared>) -> DaemonError {
    let others = others(&shared);
    let mut round = 0;
    loop {
        tokio::time::sleep(shared.poll).await;
        let wanted = match shared.store.pools_that(|pool| pool.exit_requested && pool.exit.is_none()) {
            Ok(wanted) => wanted,
            Err(error) => return error.into(),
        };
        let wanted: Vec<PoolId> = wanted.into_iter().map(|pool| pool.pool_id).collect();
        let Some((member, pools)) = turn(&others, &wanted, round) else { continue };
        round += 1;
        if let Ok(Answer::Exits(exits)) =
            shared.network.ask(member, Question::FetchExits(pools.clone())).await
        {
            let asked = exits.into_iter().filter(|exit| pools.contains(&exit.pool)).collect();
            if let Err(error) = take(&shared, member, asked).await {
                return error;
            }
        }
    }
}

/// Whom to ask for what in a round: every member for some pools, then every member for the next.
fn turn(others: &[MemberId], wanted: &[PoolId], round: usize) -> Option<(MemberId, Vec<PoolId>)> {
    let windows: Vec<&[PoolId]> = wanted.chunks(MAX_EXITS).collect();
    let member = others.get(round.checked_rem(others.len())?)?;
    let window = windows.get((round / others.len()).checked_rem(windows.len())?)?;
    Some((*member, window.to_vec()))
}

#[cfg(test)]
mod tests;
