//! The pools' deposits: compared with what the chains have taken, and handed in with the enclaves' proof.

use super::alerts::{self, Alert};
use super::calls::{self, Turn};
use super::proofs::collect;
use super::{DaemonError, Shared, council, events, files, line};
use crate::chain::beacon::{BeaconError, Found, StateId};
use crate::chain::execution::{ChainError, Execution, Pool, PoolStatus as OnChain};
use crate::chain::profile::PoolEventKind;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::{DepositData, DepositMessage, ForkVersion, WithdrawalCredentials};
use postern_shared::ids::{Digest, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::proof::{ATTEMPT, Council, Proof, ProofRequest, Provable, ProvenDeposit};
use postern_shared::wire::Artifact;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

/// Sees to all that are not made for good, for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let mut rounds = 0_usize;
    loop {
        rounds = rounds.wrapping_add(1);
        if let Err(error) = round(&shared, rounds).await {
            return error;
        }
        tokio::time::sleep(shared.poll).await;
    }
}

/// A deposit that the enclave has published.
struct Open {
    /// In the store.
    artifact: i64,
    pool: PoolId,
    data: DepositData,
}

/// One that this host is to hand in now.
struct Proven {
    pool: PoolId,
    data: DepositData,
    turn: Turn,
    proof: Proof,
}

/// Each round begins with another node.
async fn round(shared: &Shared, turn: usize) -> Result<(), DaemonError> {
    let artifacts = shared.store.open_artifacts()?.into_iter();
    let open: Vec<Open> = artifacts
        .filter_map(|stored| match stored.artifact {
            Artifact::Deposit { pool, data, .. } => Some(Open { artifact: stored.id, pool, data }),
            _ => None,
        })
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let manifests = council::in_force(shared).await;
    let mut proven = Vec::new();
    let take = |one| {
        proven.push(one);
        std::future::ready(Ok(ControlFlow::Continue(())))
    };
    line::see_to(open, |open| see_to(shared, manifests, turn, open), take).await?;
    hand_in(shared, proven).await
}

/// Compares what the pool manager has taken with what the enclaves made; proves it, if this host is to hand it in.
async fn see_to(
    shared: &Shared,
    manifests: &[Manifest],
    turn: usize,
    Open { artifact, pool, data }: Open,
) -> Result<Option<Proven>, DaemonError> {
    let made = data.message.pubkey;
    shared.store.change_pool(pool, |status| {
        status.pubkey = Some(made);
        status.deposit = Some(data);
    })?;
    let (for_good, now) = match both(&shared.execution, pool, made, turn).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%pool, %error, "the pool can't be read");
            return Ok(None);
        }
    };
    let is_said = match other(&now, made).or_else(|| other(&for_good, made)) {
        Some(found) => {
            let alert = |transaction| Alert::OtherValidator { pool, found, made, transaction };
            // The logs are searched once, not in every round until the block is final.
            alerts::is_raised(&shared.data_dir, &alert(None))
                || alerts::raise(&shared.data_dir, &alert(transaction(shared, pool).await))
        }
        None => true,
    };
    if now.status > OnChain::Ready {
        let begins = name(pool);
        shared.turns.made_by_another(|known| known.starts_with(&begins), Instant::now());
    }
    if for_good.status > OnChain::Ready {
        shared.turns.forget(&name(pool));
        if is_said {
            shared.store.close_artifact(artifact)?;
        }
        return Ok(None);
    }
    // Nothing more is paid for a validator whose stake goes elsewhere.
    if now.status != OnChain::Ready || alerts::is_of_other_credentials(&shared.data_dir, pool) {
        return Ok(None);
    }
    prove(shared, manifests, pool, data).await
}

/// What the pool manager says of a pool for good, and now. One node's word ends nothing, and accuses nobody: most must say so.
pub(super) async fn both(
    execution: &Execution,
    pool: PoolId,
    made: PublicKey,
    turn: usize,
) -> Result<(Pool, Pool), ChainError> {
    let mut for_good = execution.pool_in_turn(pool, true, turn).await?;
    if for_good.status > OnChain::Ready || other(&for_good, made).is_some() {
        for_good = execution.pool_for_good(pool).await?;
    }
    let mut now = execution.pool_in_turn(pool, false, turn).await?;
    if other(&now, made).is_some() {
        now = execution.pool_as_most_say(pool).await?;
    }
    Ok((for_good, now))
}

/// Whether a pool waits for its deposit, as most nodes say: one node's word would have it paid for again and again.
pub(super) async fn is_wanted(execution: &Execution, pool: PoolId) -> Result<bool, ChainError> {
    Ok(execution.pool_as_most_say(pool).await?.status == OnChain::Ready)
}

/// The pool's validator, if it is not the one that was made for it.
fn other(pool: &Pool, made: PublicKey) -> Option<PublicKey> {
    pool.pubkey.filter(|found| *found != made)
}

/// Begins the name of a pool's deposit, in whatever epoch.
fn name(pool: PoolId) -> String {
    format!("deposit-{}-", pool.text())
}

/// The proof that the deposit is the pool's, if it is this host's turn; kept for whoever wants to see it.
async fn prove(
    shared: &Shared,
    manifests: &[Manifest],
    pool: PoolId,
    data: DepositData,
) -> Result<Option<Proven>, DaemonError> {
    // It takes proofs of its own epoch only.
    let Some(manifest) = council::of(shared, manifests, pool.contract).await else { return Ok(None) };
    let Some(turn) = calls::turn(shared, &format!("{}{}", name(pool), manifest.epoch)).await else {
        return Ok(None);
    };
    if calls::is_left(shared, &turn) {
        return Ok(None);
    }
    let asked = ProofRequest { epoch: manifest.epoch, what: Provable::Deposit { pool, data } };
    let Some(proof) = collect(shared, asked, &Council::of(manifest)).await else { return Ok(None) };
    let file = ProvenDeposit {
        manifest: manifest.to_canonical(),
        pool,
        attempt: ATTEMPT,
        data,
        proof: proof.as_bytes().to_vec(),
    };
    let written =
        files::write(&shared.data_dir, "proofs", &format!("deposit-pool-{}.json", pool.text()), &file);
    Ok(written.map(|_| Proven { pool, data, turn, proof }))
}

/// Has the pools' own pool managers make the deposits, if the stake will come back to the pools.
async fn hand_in(shared: &Shared, proven: Vec<Proven>) -> Result<(), DaemonError> {
    if proven.is_empty() {
        return Ok(());
    }
    let keys: BTreeSet<PublicKey> = proven.iter().map(|one| one.data.message.pubkey).collect();
    // Once for all: on mainnet the list can have tens of megabytes. And in this order: what waits no more is a validator then.
    let waiting = match shared.beacon.pending_deposits(&keys).await {
        Ok(waiting) => waiting,
        Err(error) => {
            hold_back(shared, &proven, error);
            return Ok(());
        }
    };
    let keys: Vec<PublicKey> = keys.into_iter().collect();
    let found = match shared.beacon.validators(StateId::Finalized, &keys).await {
        Ok(found) => found,
        Err(error) => {
            hold_back(shared, &proven, error);
            return Ok(());
        }
    };
    for one in proven {
        if calls::is_left(shared, &one.turn) {
            continue;
        }
        let Some(found) = found.get(&one.data.message.pubkey) else { continue };
        if !is_own(shared, &one, found, &waiting) {
            continue;
        }
        let Proven { pool, data, turn, proof } = one;
        match is_wanted(&shared.execution, pool).await {
            Ok(true) => {
                let call = shared.execution.profile().deposit_call(pool.number, &data, &proof);
                calls::make(shared, &turn, pool.contract, call).await?;
            }
            Ok(false) => tracing::debug!(%pool, "most nodes say that the pool waits for no deposit"),
            Err(error) => calls::hold_back(shared, &turn, error),
        }
    }
    Ok(())
}

/// Says of deposits that are due why they are not made now.
fn hold_back(shared: &Shared, proven: &[Proven], error: BeaconError) {
    for Proven { turn, .. } in proven {
        calls::hold_back(shared, turn, format_args!("not made before the beacon chain can be read: {error}"));
    }
}

fn is_own(shared: &Shared, proven: &Proven, found: &Found, waiting: &[DepositData]) -> bool {
    let (pool, own) = (proven.pool, &proven.data.message);
    let DepositMessage { pubkey: validator, withdrawal_credentials: made, .. } = *own;
    let fork = shared.manifest.network.genesis_fork_version;
    match other_credentials(found, fork, own, waiting) {
        Ok(None) => true,
        Ok(Some(found)) => {
            let alert = Alert::OtherCredentials { pool, validator, found, made };
            alerts::raise(&shared.data_dir, &alert);
            false
        }
        Err(Disputed(answers)) => {
            let reason = format!("not made as long as beacon nodes disagree on its validator: {answers}");
            calls::hold_back(shared, &proven.turn, reason);
            false
        }
    }
}

/// More than half of the beacon nodes do not say the same: who says what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disputed(pub(super) String);

/// Where the stake of this key goes, or will once a deposit that waits is applied, if that is elsewhere. The first deposit
/// that a key has signed decides; the chain drops what it has not signed, and adds later ones to the first.
pub(super) fn other_credentials(
    found: &Found,
    fork: ForkVersion,
    own: &DepositMessage,
    waiting: &[DepositData],
) -> Result<Option<WithdrawalCredentials>, Disputed> {
    match found {
        Found::There(validator, _) => {
            let found = validator.withdrawal_credentials;
            return Ok((found != own.withdrawal_credentials).then_some(found));
        }
        Found::NotThere => {}
        Found::Disputed(answers) => return Err(Disputed(answers.clone())),
    }
    let of_the_key = waiting.iter().filter(|deposit| deposit.message.pubkey == own.pubkey);
    let signed = of_the_key.filter(|deposit| deposit.is_signed(fork));
    let mut found = signed.map(|deposit| deposit.message.withdrawal_credentials);
    Ok(found.find(|found| *found != own.withdrawal_credentials))
}

/// The transaction that made a pool's deposit, for people.
pub(super) async fn transaction(shared: &Shared, pool: PoolId) -> Option<Digest> {
    let first = events::start_block(shared, pool.contract);
    match shared.execution.transaction_of(PoolEventKind::Deposited, pool, first).await {
        Ok(transaction) => transaction,
        Err(error) => {
            tracing::warn!(%pool, %error, "which transaction made the deposit can't be read");
            None
        }
    }
}
