//! The pools' deposits: handed in with the enclaves' proof, and compared with what the chains have taken, at every host.

use super::alerts::{self, Alert};
use super::calls;
use super::proofs::collect;
use super::{DaemonError, Shared, council, files};
use crate::chain::beacon::{BeaconError, BeaconNodes};
use crate::chain::execution::{ChainError, Execution, Pool, PoolStatus as OnChain};
use futures::StreamExt;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::{DepositData, DepositMessage, ForkVersion, WithdrawalCredentials};
use postern_shared::ids::PoolId;
use postern_shared::manifest::Manifest;
use postern_shared::proof::{ATTEMPT, Council, ProofRequest, Provable, ProvenDeposit};
use postern_shared::wire::Artifact;
use std::sync::Arc;
use std::time::Instant;

/// How many are seen to at a time: others' hosts may take seconds to answer for each.
const AT_ONCE: usize = 8;

/// Sees to all that are not made for good, for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    loop {
        let open = match shared.store.open_artifacts() {
            Ok(open) => open,
            Err(error) => return error.into(),
        };
        let deposits = open.into_iter().filter_map(|stored| match stored.artifact {
            Artifact::Deposit { pool, data, .. } => Some((stored.id, pool, data)),
            _ => None,
        });
        let manifests = council::in_force(&shared).await;
        let mut done = futures::stream::iter(deposits)
            .map(|(id, pool, data)| {
                let shared = &shared;
                async move { (id, see_to(shared, manifests, pool, &data).await) }
            })
            .buffer_unordered(AT_ONCE);
        while let Some((id, is_done)) = done.next().await {
            let closed = match is_done {
                Ok(true) => shared.store.close_artifact(id),
                Ok(false) => Ok(()),
                Err(error) => return error,
            };
            if let Err(error) = closed {
                return error.into();
            }
        }
        if let Err(error) = look_for_strangers(&shared).await {
            return error;
        }
        tokio::time::sleep(shared.poll).await;
    }
}

/// Compares what the pool manager has taken with what the enclaves made, and has it taken. Whether it is made for good.
async fn see_to(
    shared: &Shared,
    manifests: &[Manifest],
    pool: PoolId,
    data: &DepositData,
) -> Result<bool, DaemonError> {
    let (for_good, now) = match both(&shared.execution, pool).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%pool, %error, "the pool can't be read");
            return Ok(false);
        }
    };
    let made = data.message.pubkey;
    let other = |pool: &Pool| pool.pubkey.filter(|found| *found != made);
    let is_said = match other(&now).or_else(|| other(&for_good)) {
        Some(found) => say_other(shared, pool, found, Some(made)).await,
        None => true,
    };
    if for_good.status > OnChain::Ready {
        shared.turns.forget(&name(pool));
        return Ok(is_said);
    }
    if now.status == OnChain::Ready {
        hand_in(shared, manifests, pool, data).await?;
    }
    Ok(false)
}

/// What the pool manager says of a pool for good, and now.
async fn both(execution: &Execution, pool: PoolId) -> Result<(Pool, Pool), ChainError> {
    Ok((execution.pool(pool, true).await?, execution.pool(pool, false).await?))
}

/// Begins the name of a pool's deposit, in whatever epoch.
fn name(pool: PoolId) -> String {
    format!("deposit-{}-", pool.text())
}

/// Has the pool's own pool manager make the deposit, with the proof that it is the pool's.
async fn hand_in(
    shared: &Shared,
    manifests: &[Manifest],
    pool: PoolId,
    data: &DepositData,
) -> Result<(), DaemonError> {
    let there = match shared.execution.in_force_at(pool.contract).await {
        Ok(there) => there,
        Err(error) => {
            tracing::warn!(%pool, %error, "the pool manager can't be read");
            return Ok(());
        }
    };
    // It takes proofs of its own epoch only.
    let Some(manifest) = council::known(manifests, &there) else { return Ok(()) };
    let Some(turn) = calls::turn(shared, &format!("{}{}", name(pool), manifest.epoch)).await else {
        return Ok(());
    };
    if !is_own(shared, pool, data).await {
        return Ok(());
    }
    let asked = ProofRequest { epoch: manifest.epoch, what: Provable::Deposit { pool, data: *data } };
    let Some(proof) = collect(shared, asked, &Council::of(manifest)).await else { return Ok(()) };
    let file = ProvenDeposit {
        manifest: manifest.to_canonical(),
        pool,
        attempt: ATTEMPT,
        data: *data,
        proof: proof.as_bytes().to_vec(),
    };
    if files::write(&shared.data_dir, "proofs", &format!("deposit-pool-{}.json", pool.text()), &file)
        .is_none()
    {
        return Ok(());
    }
    match shared.execution.profile().deposit_call(pool.number, data, &proof) {
        Ok(calldata) => calls::make(shared, &turn, pool.contract, calldata).await,
        Err(error) => {
            tracing::error!(%pool, %error, "the deposit can't be handed in");
            Ok(())
        }
    }
}

/// Whether the stake will come back to the pool, as far as the beacon chain knows: then it is paid.
async fn is_own(shared: &Shared, pool: PoolId, data: &DepositData) -> bool {
    let DepositMessage { pubkey: validator, withdrawal_credentials: made, .. } = data.message;
    let fork = shared.manifest.network.genesis_fork_version;
    match other_credentials(&shared.beacon, fork, &data.message).await {
        Ok(None) => true,
        Ok(Some(found)) => {
            let alert = Alert::OtherCredentials { pool, validator, found, made };
            alerts::raise(&shared.data_dir, &alert);
            false
        }
        Err(error) => {
            tracing::warn!(%pool, %error, "the beacon chain can't be read");
            false
        }
    }
}

/// Where the stake of this key goes, or will once a deposit that waits is applied, if that is elsewhere. The first deposit
/// that a key has signed decides; the chain drops what it has not signed, and adds later ones to the first.
pub(super) async fn other_credentials(
    beacon: &BeaconNodes,
    fork: ForkVersion,
    own: &DepositMessage,
) -> Result<Option<WithdrawalCredentials>, BeaconError> {
    let there = beacon.finalized_validator(&own.pubkey).await?;
    if let Some(validator) = there {
        let found = validator.withdrawal_credentials;
        return Ok((found != own.withdrawal_credentials).then_some(found));
    }
    let waiting = beacon.pending_deposits(&own.pubkey).await?;
    let signed = waiting.into_iter().filter(|deposit| deposit.is_signed(fork));
    let mut found = signed.map(|deposit| deposit.message.withdrawal_credentials);
    Ok(found.find(|found| *found != own.withdrawal_credentials))
}

/// Looks for pools whose deposit was made, and of whose key the own enclave knows nothing, long after the others.
async fn look_for_strangers(shared: &Shared) -> Result<(), DaemonError> {
    let patience = shared.turn * u32::try_from(shared.manifest.members.len()).unwrap_or(u32::MAX);
    for pool in shared.store.pools()?.into_iter().filter(|pool| pool.deposit.is_none()) {
        let pool = pool.pool_id;
        let found = match shared.execution.pool(pool, true).await {
            Ok(found) => found.pubkey,
            Err(error) => {
                tracing::debug!(%pool, %error, "the pool can't be read");
                continue;
            }
        };
        if let Some(found) = found
            && shared.turns.has_waited(&format!("stranger-{}", pool.text()), patience, Instant::now())
        {
            say_other(shared, pool, found, None).await;
        }
    }
    Ok(())
}

/// Says that the pool manager has taken another key. Whether it is written down.
async fn say_other(shared: &Shared, pool: PoolId, found: PublicKey, made: Option<PublicKey>) -> bool {
    let alert = |transaction| Alert::OtherValidator { pool, found, made, transaction };
    if alert(None).is_raised(&shared.data_dir) {
        return true;
    }
    let transaction = shared.execution.deposit_transaction(pool, shared.start_block).await;
    let transaction = transaction.inspect_err(|error| tracing::warn!(%pool, %error, "no logs")).ok();
    alerts::raise(&shared.data_dir, &alert(transaction.flatten()))
}
