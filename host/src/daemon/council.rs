//! What the pool manager wants proved: collects enclaves' signatures from members' hosts, and puts epochs in force there.
//!
//! The leader's host does it, by custom alone: every call carries its proof, and gives whoever makes it no right.

use super::alerts::{self, Alert};
use super::{DaemonError, RETRY, Shared};
use crate::chain::transactions::TransactionError;
use crate::network::{Answer, Question};
use futures::StreamExt;
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::eip712::Domain;
use postern_shared::epoch::{EpochMessage, PoolManager, SignedEpoch, chain, pool_managers};
use postern_shared::ids::{Address, MemberId};
use postern_shared::manifest::Manifest;
use postern_shared::proof::{Council, Proof, Statement};
use postern_shared::wire::{Provable, Reply, Request};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long hosts have to answer; who has not by then is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be proved, and who can: the enclaves that the pool manager knows.
pub(super) struct Wanted<'a> {
    pub(super) what: Provable,
    pub(super) statement: Statement,
    pub(super) domain: Domain,
    pub(super) epoch: u64,
    pub(super) council: &'a Council,
}

/// The proof, if enough enclaves sign. Hosts that answer nothing or nonsense keep nobody from it.
pub(super) async fn collect(shared: &Shared, wanted: &Wanted<'_>) -> Option<Proof> {
    let Wanted { what, statement, domain, epoch, council } = wanted;
    let digest = statement.digest(domain, *epoch);
    let members: Vec<MemberId> = (1..).map(MemberId).take(council.signers.len()).collect();
    let mut answers: futures::stream::FuturesUnordered<_> = members
        .into_iter()
        .map(|member| async move { (member, signature(shared, member, what).await) })
        .collect();
    let mut signatures = BTreeMap::new();
    let mut proof = None;
    let gather = async {
        while let Some((member, signature)) = answers.next().await {
            signatures.extend(signature.map(|signature| (member, signature)));
            proof = Proof::collect(&digest, &council.signers, council.quorum.into(), &signatures);
            if proof.is_some() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, gather).await;
    proof
}

async fn signature(shared: &Shared, member: MemberId, what: &Provable) -> Option<EthereumSignature> {
    if member == shared.member {
        return match shared.enclave.ask(&Request::Prove(what.clone())).await {
            Ok(Reply::Proved(signature)) => Some(signature),
            _ => None,
        };
    }
    match shared.network.ask(member, Question::Prove(what.clone())).await {
        Ok(Answer::Proved(signature)) => Some(signature),
        _ => None,
    }
}

/// Looks after the pool managers' councils, for ever: puts epochs in force, and objects to others in the enclaves' place.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    loop {
        if let Err(error) = look_after(&shared).await {
            return error;
        }
        tokio::time::sleep(shared.poll.max(RETRY)).await;
    }
}

async fn look_after(shared: &Shared) -> Result<(), DaemonError> {
    let Ok(manifests) = chain(&shared.first, &shared.epochs) else { return Ok(()) };
    for manager in pool_managers(&manifests).iter().filter(|manager| manager.epoch > 0) {
        if shared.is_leader() {
            advance_at(shared, &manifests, manager).await?;
        }
        object_at(shared, manager.contract).await?;
    }
    Ok(())
}

/// Every host says that wallets want others in the enclaves' place; the leader's has the enclaves object. A DAO whose enclaves are
/// there changes members by an epoch.
async fn object_at(shared: &Shared, contract: Address) -> Result<(), DaemonError> {
    let recovery = match shared.execution.recovery_at(contract).await {
        Ok(Some(recovery)) => recovery,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!(%contract, %error, "the pool manager can't be read");
            return Ok(());
        }
    };
    alerts::raise(shared, &Alert::Recovery { contract, recovery });
    let number = recovery.number;
    let key = format!("cancel-{contract}-{number}");
    if !shared.is_leader() || shared.transactions.state(&key).await.is_some() {
        return Ok(());
    }
    let Some(manifest) = known_to(shared, contract) else { return Ok(()) };
    let wanted = Wanted {
        what: Provable::CancelRecovery { contract, number },
        statement: Statement::CancelRecovery { number },
        domain: Domain { chain_id: manifest.network.chain_id, verifying_contract: contract },
        epoch: manifest.epoch,
        council: &Council::of(&manifest),
    };
    let Some(proof) = collect(shared, &wanted).await else { return Ok(()) };
    let Ok(calldata) = shared.execution.profile().cancel_call(&proof) else { return Ok(()) };
    match shared.transactions.submit(&key, contract, calldata).await {
        Ok(_) => tracing::info!(%contract, number, "the enclaves object to a recovery"),
        Err(TransactionError::Store(error)) => return Err(TransactionError::Store(error).into()),
        Err(error) => tracing::warn!(%contract, number, %error, "the enclaves can't object now"),
    }
    Ok(())
}

async fn advance_at(
    shared: &Shared,
    manifests: &[Manifest],
    &PoolManager { contract, epoch: last, .. }: &PoolManager,
) -> Result<(), DaemonError> {
    let there = match shared.execution.epoch_of(contract).await {
        Ok(there) => there,
        Err(error) => {
            tracing::warn!(%contract, %error, "the pool manager's epoch can't be read");
            return Ok(());
        }
    };
    // One that is not founded is so by the first epoch that follows on a manifest which names it.
    let mut steps = manifests.windows(2).zip(&shared.epochs).filter_map(|(pair, epoch)| match pair {
        [before, next] => Some((before, epoch, next)),
        _ => None,
    });
    let follows = |before: &Manifest| {
        before.contracts.pool_manager == contract && (there == 0 || before.epoch == there)
    };
    let due = (there < last).then(|| steps.find(|(before, ..)| follows(before))).flatten();
    let Some((before, epoch, next)) = due else { return Ok(()) };
    let key = format!("epoch-{contract}-{}", next.epoch);
    if shared.transactions.state(&key).await.is_some() {
        return Ok(());
    }
    let Some(calldata) = call(shared, there == 0, before, epoch, next).await else { return Ok(()) };
    match shared.transactions.submit(&key, contract, calldata).await {
        Ok(_) => tracing::info!(%contract, epoch = next.epoch, "the epoch is handed in to the pool manager"),
        Err(TransactionError::Store(error)) => return Err(TransactionError::Store(error).into()),
        Err(error) => {
            tracing::warn!(%contract, epoch = next.epoch, %error, "the epoch can't be handed in now");
        }
    }
    Ok(())
}

/// The last manifest that a pool manager can be told of.
pub(super) fn known_to(shared: &Shared, contract: Address) -> Option<Manifest> {
    let manifests = chain(&shared.first, &shared.epochs).ok()?;
    let managers = pool_managers(&manifests);
    let epoch = managers.iter().find(|manager| manager.contract == contract)?.epoch;
    manifests.into_iter().find(|manifest| manifest.epoch == epoch).filter(|_| epoch > 0)
}

async fn call(
    shared: &Shared,
    founds: bool,
    before: &Manifest,
    epoch: &SignedEpoch,
    next: &Manifest,
) -> Option<Vec<u8>> {
    let message = EpochMessage::new(before, next).ok()?;
    let (council, after) = (Council::of(before), Council::of(next));
    let wallets = if founds { council.wallets.len() } else { council.wallet_quorum.into() };
    let signatures = epoch.signatures.iter().map(|signed| (signed.member, signed.signature)).collect();
    let wallets = Proof::collect(&message.digest(), &council.wallets, wallets, &signatures)?;
    let enclaves = if founds {
        None
    } else {
        let statement = Statement::EpochApplied { manifest: next.hash(), council: after.digest() };
        let wanted = Wanted {
            what: Provable::EpochApplied(epoch.clone()),
            statement,
            domain: before.domain(),
            epoch: next.epoch,
            council: &council,
        };
        Some(collect(shared, &wanted).await?)
    };
    let call = shared.execution.profile().epoch_call(&message, &after, &wallets, enclaves.as_ref());
    call.inspect_err(|error| tracing::error!(%error, "epochs can't be handed in")).ok()
}
