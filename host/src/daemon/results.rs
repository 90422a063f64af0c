//! What follows from what the enclave published: files for people, the leader's transactions, exits for the beacon chain.

use super::{DaemonError, RETRY, Shared};
use crate::chain::execution::{Execution, PoolStatus as OnChain};
use crate::chain::transactions::{TransactionError, TransactionState, Transactions};
use crate::store::{StoreError, StoredArtifact};
use postern_shared::agreement::Fork;
use postern_shared::codec;
use postern_shared::ethereum::{DepositData, SignedVoluntaryExit};
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::message::Broadcast;
use postern_shared::transcript::{Record, Transcript};
use postern_shared::wire::Artifact;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Acts for ever.
pub(super) async fn act(shared: Arc<Shared>) -> DaemonError {
    loop {
        let mut changed = std::pin::pin!(shared.store.changed.notified());
        changed.as_mut().enable();
        let open = match shared.store.open_artifacts() {
            Ok(open) => open,
            Err(error) => return error.into(),
        };
        for StoredArtifact { id, artifact } in open {
            match act_on(&shared, &artifact).await {
                Ok(true) => {
                    if let Err(error) = shared.store.close_artifact(id) {
                        return error.into();
                    }
                }
                Ok(false) => {}
                Err(error) => return error,
            }
        }
        if let Err(error) = drive(&shared).await {
            return error;
        }
        tokio::select! {
            () = changed => tokio::time::sleep(RETRY.min(shared.poll)).await,
            () = tokio::time::sleep(shared.poll) => {}
        }
    }
}

/// Does the next thing that follows from a result; whether all is done.
async fn act_on(shared: &Shared, artifact: &Artifact) -> Result<bool, DaemonError> {
    match artifact {
        Artifact::Transcript(transcript) => publish(shared, transcript),
        Artifact::Deposit { pool, data, operators } => {
            shared.store.change_pool(*pool, |status| {
                status.pubkey = Some(data.message.pubkey);
                status.deposit = Some(*data);
            })?;
            if !shared.is_leader() {
                return Ok(true);
            }
            hand_in(&shared.execution, &shared.transactions, *pool, data, operators).await
        }
        Artifact::Exit { pool, exit } => {
            shared.store.change_pool(*pool, |status| status.exit = Some(*exit))?;
            post(shared, *pool, exit).await
        }
        Artifact::Fork(fork) => report(shared, fork),
    }
}

/// Writes down which wallets have signed two epochs in one's place, with the epochs that prove it.
fn report(shared: &Shared, fork: &Fork) -> Result<bool, DaemonError> {
    let name = Broadcast::digest_of(&codec::encode(fork));
    let Some(path) = write(shared, "forks", &format!("{name}.json"), fork) else { return Ok(false) };
    let culprits = fork.culprits();
    tracing::error!(?culprits, path = %path.display(), "members have signed two epochs in one's place");
    Ok(true)
}

/// Writes a result into a folder of the data directory, so that it survives a power cut: the store forgets what is done.
fn write(shared: &Shared, folder: &str, name: &str, result: &impl Serialize) -> Option<PathBuf> {
    let folder = shared.data_dir.join(folder);
    let path = folder.join(name);
    let write = || {
        let text = serde_json::to_string_pretty(result)?;
        write_whole(&path, text.as_bytes())?;
        // The new name too.
        std::fs::File::open(&folder)?.sync_all()
    };
    let written: std::io::Result<()> = write();
    if let Err(error) = written {
        tracing::error!(path = %path.display(), %error, "a result can't be written; trying again");
        return None;
    }
    Some(path)
}

/// Writes a transcript where people find it.
fn publish(shared: &Shared, transcript: &Transcript) -> Result<bool, DaemonError> {
    let (kind, pool) = match &transcript.record {
        Record::Keygen { terms, .. } => ("keygen", terms.request.pool),
        Record::Presign { terms, .. } => ("presign", terms.pool),
        Record::Release { terms, .. } => ("release", terms.presign.pool),
        Record::KeygenFault { terms, .. } => ("keygen-fault", terms.request.pool),
        Record::PresignFault { terms, .. } => ("presign-fault", terms.pool),
    };
    let name = format!("{kind}-pool-{}.json", pool.text());
    let Some(path) = write(shared, "transcripts", &name, transcript) else { return Ok(false) };
    let culprit = match &transcript.record {
        Record::KeygenFault { fault, .. } | Record::PresignFault { fault, .. } => Some(fault.culprit),
        _ => None,
    };
    shared.store.change_pool(pool, |status| {
        status.faults.extend(culprit.filter(|culprit| !status.faults.contains(culprit)));
        let place: &mut Option<PathBuf> = match kind {
            "keygen" => &mut status.transcripts.keygen,
            "presign" => &mut status.transcripts.presign,
            "release" => &mut status.transcripts.release,
            _ => &mut status.transcripts.fault,
        };
        *place = Some(path.clone());
    })?;
    Ok(true)
}

/// Replaces a file by a whole other one.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// Calls the pool's own pool manager with the deposit, once.
pub(super) async fn hand_in(
    execution: &Execution,
    transactions: &Transactions,
    pool: PoolId,
    data: &DepositData,
    operators: &[MemberId],
) -> Result<bool, DaemonError> {
    let key = format!("deposit-{}", pool.text());
    if transactions.state(&key).await.is_some() {
        return Ok(true);
    }
    match execution.pool(pool, false).await {
        Ok(found) if found.status > OnChain::Ready => {
            if found.pubkey != Some(data.message.pubkey) {
                tracing::error!(%pool, "the pool was given another validator than its enclaves made");
            }
            return Ok(true);
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%pool, %error, "the pool can't be read");
            return Ok(false);
        }
    }
    let calldata = match execution.profile().deposit_call(data, operators) {
        Ok(calldata) => calldata,
        Err(error) => {
            tracing::error!(%pool, %error, "the deposit can't be handed in");
            return Ok(true);
        }
    };
    match transactions.submit(&key, pool.contract, calldata).await {
        Ok(_) => Ok(true),
        Err(TransactionError::Store(error)) => Err(TransactionError::Store(error).into()),
        Err(error) => {
            tracing::warn!(%pool, %error, "the deposit can't be handed in now");
            Ok(false)
        }
    }
}

/// Advances open transactions and reports those that ended.
async fn drive(shared: &Shared) -> Result<(), DaemonError> {
    match shared.transactions.drive().await {
        Ok(outcomes) => {
            for outcome in outcomes {
                match outcome.state {
                    TransactionState::Reverted { reason, hash, .. } => {
                        tracing::error!(key = outcome.key, %hash, reason, "a transaction was reverted");
                    }
                    state => tracing::info!(key = outcome.key, ?state, "a transaction ended"),
                }
            }
            Ok(())
        }
        Err(error @ TransactionError::Store(_)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "transactions can't be advanced now");
            Ok(())
        }
    }
}

/// Posts an exit until the validator is seen leaving.
async fn post(shared: &Shared, pool: PoolId, exit: &SignedVoluntaryExit) -> Result<bool, DaemonError> {
    let status: Result<_, StoreError> = shared.store.pools();
    let known = status?.into_iter().find(|status| status.pool_id == pool);
    if let Some(pubkey) = known.and_then(|status| status.pubkey) {
        match shared.beacon.head_validator(&pubkey).await {
            Ok(Some(validator)) if validator.status.is_leaving() => {
                shared.store.change_pool(pool, |status| {
                    status.beacon_status = Some(validator.status.to_string());
                })?;
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%pool, %error, "the beacon chain can't be read"),
        }
    }
    match shared.beacon.post_exit(exit).await {
        Ok(posted) => tracing::info!(%pool, nodes = posted.accepted.len(), "the exit is posted"),
        Err(error) => tracing::warn!(%pool, %error, "the exit is not taken; trying again"),
    }
    Ok(false)
}
