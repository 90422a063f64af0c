//! What follows from what the enclave published: files for people, the leader's transactions, exits for the beacon chain.

use super::alerts::{self, Alert};
use super::council::{self, Wanted};
use super::{DaemonError, RETRY, Shared};
use crate::chain::beacon::Validator;
use crate::chain::execution::{ChainError, Execution, Pool, PoolStatus as OnChain};
use crate::chain::transactions::{TransactionError, TransactionState};
use crate::store::{StoreError, StoredArtifact};
use postern_shared::agreement::Fork;
use postern_shared::codec;
use postern_shared::eip712::Domain;
use postern_shared::ethereum::{DepositData, DepositMessage, SignedVoluntaryExit};
use postern_shared::ids::PoolId;
use postern_shared::message::Broadcast;
use postern_shared::proof::{Council, ProvenDeposit, Statement};
use postern_shared::transcript::{Record, Transcript};
use postern_shared::wire::{Artifact, Provable};
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
        Artifact::Deposit { pool, data, .. } => {
            shared.store.change_pool(*pool, |status| {
                status.pubkey = Some(data.message.pubkey);
                status.deposit = Some(*data);
            })?;
            see_deposited(shared, *pool, data).await
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
pub(super) fn write(shared: &Shared, folder: &str, name: &str, result: &impl Serialize) -> Option<PathBuf> {
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

/// Watches until the deposit is made for good, and compares it with what the enclaves made. The leader's host hands it in.
async fn see_deposited(shared: &Shared, pool: PoolId, data: &DepositData) -> Result<bool, DaemonError> {
    let (there, now) = match both(&shared.execution, pool).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%pool, %error, "the pool can't be read");
            return Ok(false);
        }
    };
    if let Some(found) = now.pubkey.filter(|found| *found != data.message.pubkey) {
        let transaction = shared.execution.deposit_transaction(pool, shared.start_block).await.ok().flatten();
        let made = data.message.pubkey;
        alerts::raise(shared, &Alert::OtherValidator { pool, found, made, transaction });
    }
    if !is_own(shared, pool, data).await {
        return Ok(false);
    }
    if there.status > OnChain::Ready {
        return Ok(true);
    }
    if now.status == OnChain::Ready && shared.is_leader() {
        hand_in(shared, pool, data).await?;
    }
    Ok(false)
}

/// Whether the beacon chain knows no validator of this key whose stake goes elsewhere: then nothing more is paid for it.
async fn is_own(shared: &Shared, pool: PoolId, data: &DepositData) -> bool {
    let DepositMessage { pubkey: validator, withdrawal_credentials: made, .. } = data.message;
    match shared.beacon.head_validator(&validator).await {
        Ok(Some(Validator { withdrawal_credentials: found, .. })) if found != made => {
            alerts::raise(shared, &Alert::OtherCredentials { pool, validator, found, made });
            false
        }
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%pool, %error, "the beacon chain can't be read");
            false
        }
    }
}

/// What the pool manager says of a pool for good, and now.
async fn both(execution: &Execution, pool: PoolId) -> Result<(Pool, Pool), ChainError> {
    Ok((execution.pool(pool, true).await?, execution.pool(pool, false).await?))
}

/// Calls the pool's own pool manager with the deposit and the proof that it is the pool's, once in each epoch.
async fn hand_in(shared: &Shared, pool: PoolId, data: &DepositData) -> Result<(), DaemonError> {
    let Some(manifest) = council::known_to(shared, pool.contract) else { return Ok(()) };
    let (epoch, council) = (manifest.epoch, Council::of(&manifest));
    let key = format!("deposit-{}-{epoch}", pool.text());
    if shared.transactions.state(&key).await.is_some() {
        return Ok(());
    }
    // It takes proofs of its own epoch only.
    match shared.execution.epoch_of(pool.contract).await {
        Ok(there) if there == epoch => {}
        _ => return Ok(()),
    }
    let root = data.hash_tree_root();
    let statement = Statement::Deposit { pool: pool.number, attempt: 0, root };
    let wanted = Wanted {
        what: Provable::Deposit { pool, data: *data },
        statement,
        domain: Domain { chain_id: pool.chain, verifying_contract: pool.contract },
        epoch,
        council: &council,
    };
    let Some(proof) = council::collect(shared, &wanted).await else {
        tracing::warn!(%pool, "too few enclaves prove the deposit so far");
        return Ok(());
    };
    let file = ProvenDeposit {
        manifest: manifest.to_canonical(),
        pool,
        attempt: 0,
        data: *data,
        proof: proof.as_bytes().to_vec(),
    };
    if write(shared, "proofs", &format!("deposit-pool-{}.json", pool.text()), &file).is_none() {
        return Ok(());
    }
    let calldata = match shared.execution.profile().deposit_call(pool.number, data, &proof) {
        Ok(calldata) => calldata,
        Err(error) => {
            tracing::error!(%pool, %error, "the deposit can't be handed in");
            return Ok(());
        }
    };
    match shared.transactions.submit(&key, pool.contract, calldata).await {
        Ok(_) => Ok(()),
        Err(TransactionError::Store(error)) => Err(TransactionError::Store(error).into()),
        Err(error) => {
            tracing::warn!(%pool, %error, "the deposit can't be handed in now");
            Ok(())
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
