//! Looks after the members that pool managers know: puts epochs in force there, and objects to others in the enclaves' place.

use super::alerts::{self, Alert};
use super::calls::{self, Turn};
use super::proofs::collect;
use super::{DaemonError, RETRY, Shared};
use crate::chain::execution::{InForce, Recovery};
use crate::chain::profile::UnsupportedCall;
use postern_shared::epoch::{EpochMessage, PoolManager, SignedEpoch, pool_managers};
use postern_shared::ids::Address;
use postern_shared::manifest::Manifest;
use postern_shared::proof::{Council, Proof, ProofRequest, Provable};
use std::sync::Arc;
use std::time::Instant;

/// Does so for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    loop {
        if let Err(error) = look_after(&shared).await {
            return error;
        }
        tokio::time::sleep(shared.poll.max(RETRY)).await;
    }
}

async fn look_after(shared: &Shared) -> Result<(), DaemonError> {
    let manifests = in_force(shared).await;
    for manager in pool_managers(manifests).iter().filter(|manager| manager.epoch > 0) {
        match shared.execution.in_force_at(manager.contract).await {
            Ok(there) => look_at(shared, manifests, manager, there).await?,
            Err(error) => {
                tracing::warn!(contract = %manager.contract, %error, "the pool manager can't be read");
            }
        }
    }
    Ok(())
}

/// All manifests up to the one that the own enclave goes by: it proves what follows from these, and not from an epoch that it
/// does not take, or not yet.
pub(super) async fn in_force(shared: &Shared) -> &[Manifest] {
    let newest = shared.enclave.status().await.ok().and_then(|status| status.manifest);
    let place = shared.manifests.iter().position(|manifest| Some(manifest.hash()) == newest);
    place.and_then(|place| shared.manifests.get(..=place)).unwrap_or_default()
}

/// Which of these manifests a pool manager goes by.
pub(super) fn known<'a>(manifests: &'a [Manifest], there: &InForce) -> Option<&'a Manifest> {
    manifests.iter().find(|manifest| (manifest.epoch, manifest.hash()) == (there.epoch, there.manifest))
}

async fn look_at(
    shared: &Shared,
    manifests: &[Manifest],
    &PoolManager { contract, epoch: last, .. }: &PoolManager,
    there: InForce,
) -> Result<(), DaemonError> {
    if let Some(recovery) = there.recovery {
        alerts::raise(&shared.data_dir, &Alert::Recovery { contract, recovery });
    }
    let unknown = format!("council-{contract}");
    if there.epoch == 0 {
        return found(shared, manifests, contract).await;
    }
    let Some(current) = known(manifests, &there) else {
        // This host may be told of the epoch yet.
        if shared.turns.has_waited(&unknown, shared.turn, Instant::now()) {
            let InForce { epoch, manifest, .. } = there;
            alerts::raise(&shared.data_dir, &Alert::OtherCouncil { contract, epoch, manifest });
        }
        return Ok(());
    };
    shared.turns.forget(&unknown);
    if let Some(recovery) = there.recovery {
        object(shared, contract, current, recovery).await?;
    }
    if there.epoch < last {
        advance(shared, manifests, current).await?;
    }
    Ok(())
}

/// Has the enclaves object to others in their place. A DAO whose enclaves are there changes members by an epoch.
async fn object(
    shared: &Shared,
    contract: Address,
    current: &Manifest,
    recovery: Recovery,
) -> Result<(), DaemonError> {
    let Recovery { number, manifest, council, .. } = recovery;
    let Some(turn) = calls::turn(shared, &format!("cancel-{contract}-{number}-{manifest}")).await else {
        return Ok(());
    };
    let what = Provable::CancelRecovery { contract, number, manifest, council };
    let asked = ProofRequest { epoch: current.epoch, what };
    let Some(proof) = collect(shared, asked, &Council::of(current)).await else { return Ok(()) };
    let call = shared.execution.profile().cancel_call(&proof);
    make(shared, &turn, contract, call).await
}

/// Tells a pool manager that was told of none yet of the first epoch on top of its own that all wallets have signed: it takes
/// no other.
async fn found(shared: &Shared, manifests: &[Manifest], contract: Address) -> Result<(), DaemonError> {
    let mut steps = steps(shared, manifests).filter(|step| step.before.contracts.pool_manager == contract);
    let founding = steps.find_map(|step| {
        let message = step.message()?;
        let wallets = step.wallets(&message, step.before.members.len())?;
        Some((step, message, wallets))
    });
    let Some((step, message, wallets)) = founding else {
        tracing::warn!(%contract, "no epoch that all wallets have signed follows on the one that names this pool manager");
        return Ok(());
    };
    let Some(turn) = calls::turn(shared, &step.key()).await else { return Ok(()) };
    make(shared, &turn, contract, step.call(shared, &message, &wallets, None)).await
}

/// Tells a pool manager of the epoch after the one that it goes by.
async fn advance(shared: &Shared, manifests: &[Manifest], current: &Manifest) -> Result<(), DaemonError> {
    let Some(step) = steps(shared, manifests).find(|step| step.before.epoch == current.epoch) else {
        return Ok(());
    };
    let Some(turn) = calls::turn(shared, &step.key()).await else { return Ok(()) };
    let contract = current.contracts.pool_manager;
    let (council, after) = (Council::of(current), Council::of(step.next).digest());
    let what = Provable::EpochApplied { contract, manifest: step.next.hash(), council: after };
    let asked = ProofRequest { epoch: step.next.epoch, what };
    let Some(message) = step.message() else { return Ok(()) };
    let Some(wallets) = step.wallets(&message, council.wallet_quorum.into()) else { return Ok(()) };
    let Some(enclaves) = collect(shared, asked, &council).await else { return Ok(()) };
    make(shared, &turn, contract, step.call(shared, &message, &wallets, Some(&enclaves))).await
}

async fn make(
    shared: &Shared,
    turn: &Turn,
    contract: Address,
    call: Result<Vec<u8>, UnsupportedCall>,
) -> Result<(), DaemonError> {
    match call {
        Ok(calldata) => calls::make(shared, turn, contract, calldata).await,
        Err(error) => {
            tracing::error!(%contract, %error, "the pool manager can't be told");
            Ok(())
        }
    }
}

/// An epoch, between the manifests before and after it.
#[derive(Clone, Copy)]
struct Step<'a> {
    before: &'a Manifest,
    epoch: &'a SignedEpoch,
    next: &'a Manifest,
}

fn steps<'a>(shared: &'a Shared, manifests: &'a [Manifest]) -> impl Iterator<Item = Step<'a>> {
    manifests.windows(2).zip(&shared.epochs).filter_map(|(pair, epoch)| match pair {
        [before, next] => Some(Step { before, epoch, next }),
        _ => None,
    })
}

impl Step<'_> {
    fn key(&self) -> String {
        format!("epoch-{}-{}", self.before.contracts.pool_manager, self.next.epoch)
    }

    /// What the wallets have signed. Whoever has loaded the epoch has had it.
    fn message(&self) -> Option<EpochMessage> {
        EpochMessage::new(self.before, self.next).ok()
    }

    /// The wallets' proof, if that many have signed.
    fn wallets(&self, message: &EpochMessage, wanted: usize) -> Option<Proof> {
        let signatures = self.epoch.signatures.iter().map(|signed| (signed.member, signed.signature));
        Proof::collect(&message.digest(), &Council::of(self.before).wallets, wanted, &signatures.collect())
    }

    fn call(
        &self,
        shared: &Shared,
        message: &EpochMessage,
        wallets: &Proof,
        enclaves: Option<&Proof>,
    ) -> Result<Vec<u8>, UnsupportedCall> {
        shared.execution.profile().epoch_call(message, &Council::of(self.next), wallets, enclaves)
    }
}
