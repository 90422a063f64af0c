//! Looks after the members that pool managers know: puts epochs in force there, and objects to others in the enclaves' place.

use super::alerts::{self, Alert};
use super::calls;
use super::proofs::collect;
use super::{DaemonError, RETRY, Shared};
use crate::chain::execution::{InForce, Recovery};
use crate::chain::profile::UnsupportedCall;
use postern_shared::epoch::{EpochMessage, SignedEpoch, pool_managers};
use postern_shared::ids::Address;
use postern_shared::manifest::Manifest;
use postern_shared::proof::{Council, Proof, ProofRequest, Provable};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Does so for ever.
pub(super) async fn follow(shared: Arc<Shared>) -> DaemonError {
    let mut rest = None;
    let mut looks = 0_usize;
    loop {
        let in_force = in_force(&shared).await;
        if is_over(rest, in_force.len(), shared.beacon.pace().epoch, Instant::now()) {
            looks = looks.wrapping_add(1);
            rest = match look_after(&shared, in_force, looks).await {
                Ok(true) => Some(Rest { in_force: in_force.len(), since: Instant::now() }),
                Ok(false) => None,
                Err(error) => return error,
            };
        }
        tokio::time::sleep(shared.poll.max(RETRY)).await;
    }
}

/// Nothing was to be done for any pool manager.
#[derive(Debug, Clone, Copy)]
struct Rest {
    /// How many manifests the own enclave had then.
    in_force: usize,
    since: Instant,
}

/// Whether to look again: after an epoch, since what wallets want without the enclaves takes longer by far; and at once when the own
/// enclave goes by another manifest.
fn is_over(rest: Option<Rest>, in_force: usize, epoch: Duration, now: Instant) -> bool {
    rest.is_none_or(|rest| rest.in_force != in_force || now.saturating_duration_since(rest.since) >= epoch)
}

/// Does what is due now; whether nothing is. Each look begins with another node: one that leaves out what wallets want hides it for
/// one look only.
async fn look_after(shared: &Shared, in_force: &[Manifest], looks: usize) -> Result<bool, DaemonError> {
    let mut is_at_rest = true;
    for manager in pool_managers(&shared.manifests).into_iter().filter(|manager| manager.epoch > 0) {
        let contract = manager.contract;
        let Some(there) = read(shared, contract, looks).await else {
            is_at_rest = false;
            continue;
        };
        let unknown = format!("council-{contract}");
        if known(&shared.manifests, &there).is_some() {
            shared.turns.forget(&unknown);
        }
        for due in due(&shared.manifests, in_force, contract, &there) {
            is_at_rest = false;
            match due {
                Due::Say(alert) => say(shared, contract, &there, &alert).await,
                // This host may be told of the epoch yet.
                Due::SayLater(alert) if shared.turns.has_waited(&unknown, shared.turn, Instant::now()) => {
                    say(shared, contract, &there, &alert).await;
                }
                Due::SayLater(_) => {}
                Due::Object(current, recovery) => object(shared, contract, current, recovery).await?,
                Due::Found => found(shared, in_force, contract).await?,
                Due::Advance(current) => advance(shared, in_force, current).await?,
            }
        }
    }
    Ok(is_at_rest)
}

/// What is to be done about a pool manager.
#[derive(Debug, PartialEq)]
enum Due<'a> {
    Say(Alert),
    /// If it stays so.
    SayLater(Alert),
    /// By the enclaves of this manifest.
    Object(&'a Manifest, Recovery),
    Found,
    /// To the epoch after this one.
    Advance(&'a Manifest),
}

/// Of `all` manifests that this host has, the own enclave proves what follows from those `in_force`. What a person has to look at
/// does not depend on it: it may be what was lost.
fn due<'a>(all: &[Manifest], in_force: &'a [Manifest], contract: Address, there: &InForce) -> Vec<Due<'a>> {
    let InForce { epoch, manifest, recovery } = *there;
    let mut due: Vec<Due<'a>> =
        recovery.map(|recovery| Due::Say(Alert::Recovery { contract, recovery })).into_iter().collect();
    if epoch == 0 {
        due.push(Due::Found);
        return due;
    }
    if known(all, there).is_none() {
        due.push(Due::SayLater(Alert::OtherCouncil { contract, epoch, manifest }));
    }
    if let Some(current) = known(in_force, there) {
        due.extend(recovery.map(|recovery| Due::Object(current, recovery)));
        let managers = pool_managers(in_force);
        let last = managers.iter().find(|manager| manager.contract == contract);
        due.extend(last.is_some_and(|last| epoch < last.epoch).then_some(Due::Advance(current)));
    }
    due
}

/// All manifests up to the one that the own enclave goes by: it proves what follows from these, and not from an epoch that it
/// does not take, or not yet.
pub(super) async fn in_force(shared: &Shared) -> &[Manifest] {
    let Ok(status) = shared.enclave.status().await else { return &[] };
    let place = shared.manifests.iter().position(|manifest| Some(manifest.hash()) == status.manifest);
    if place.is_none() && status.manifest.is_some() {
        tracing::warn!(
            epoch = status.epoch,
            "the enclave goes by an epoch that this host does not have, or has another of"
        );
    }
    place.and_then(|place| shared.manifests.get(..=place)).unwrap_or_default()
}

/// Has a person look at what one node has said of a pool manager, if most say the same.
async fn say(shared: &Shared, contract: Address, there: &InForce, alert: &Alert) {
    if alerts::is_raised(&shared.data_dir, alert) {
        return;
    }
    match shared.execution.in_force_as_most_say(contract).await {
        Ok(found) if found == *there => drop(alerts::raise(&shared.data_dir, alert)),
        Ok(_) => tracing::debug!(%contract, "the members at a pool manager are others than a moment ago"),
        Err(error) => tracing::warn!(%contract, %error, "one node's word for the members at a pool manager"),
    }
}

async fn read(shared: &Shared, contract: Address, turn: usize) -> Option<InForce> {
    match shared.execution.in_force_in_turn(contract, turn).await {
        Ok(there) => Some(there),
        Err(error) => {
            tracing::warn!(%contract, %error, "the pool manager can't be read");
            None
        }
    }
}

/// By which of these manifests a pool manager goes now, if it can be read.
pub(super) async fn of<'a>(
    shared: &Shared,
    manifests: &'a [Manifest],
    contract: Address,
) -> Option<&'a Manifest> {
    known(manifests, &read(shared, contract, 0).await?)
}

/// Which of these manifests a pool manager goes by.
fn known<'a>(manifests: &'a [Manifest], there: &InForce) -> Option<&'a Manifest> {
    manifests.iter().find(|manifest| (manifest.epoch, manifest.hash()) == (there.epoch, there.manifest))
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
    calls::make(shared, &turn, contract, shared.execution.profile().cancel_call(&proof)).await
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
    if let Some((step, message, wallets)) = founding {
        let Some(turn) = calls::turn(shared, &step.key()).await else { return Ok(()) };
        let call = step.call(shared, &message, &wallets, None);
        return calls::make(shared, &turn, contract, call).await;
    }
    let unfounded = format!("unfounded-{contract}");
    if shared.turns.has_waited(&unfounded, shared.turn, Instant::now()) {
        tracing::warn!(%contract, "no epoch that all wallets have signed follows on the one that names this pool manager");
        shared.turns.forget(&unfounded);
    }
    Ok(())
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
    let call = step.call(shared, &message, &wallets, Some(&enclaves));
    calls::make(shared, &turn, contract, call).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{manifest, next};
    use postern_shared::ids::{Digest, ManifestHash};

    const FIRST: Address = Address([5; 20]);
    const SECOND: Address = Address([3; 20]);

    /// Epochs 1 to 4, of which the third names another pool manager.
    fn manifests() -> Vec<Manifest> {
        let mut before = manifest();
        assert_eq!(before.contracts.pool_manager, FIRST);
        (1..=4)
            .map(|epoch| {
                before = next(&before, |next| {
                    next.name = format!("DAO in epoch {epoch}");
                    next.contracts.pool_manager = if epoch < 3 { FIRST } else { SECOND };
                });
                before.clone()
            })
            .collect()
    }

    fn at(manifest: &Manifest) -> InForce {
        InForce { epoch: manifest.epoch, manifest: manifest.hash(), recovery: None }
    }

    fn recovery() -> Recovery {
        let (manifest, council) = (ManifestHash([9; 32]), Digest([9; 32]));
        Recovery { number: 1, ready_at: 100, epoch: 9, manifest, council }
    }

    #[test]
    fn a_pool_manager_is_told_of_each_epoch_up_to_the_one_that_replaces_it() {
        let all = manifests();
        let unfounded = InForce { epoch: 0, manifest: ManifestHash([0; 32]), recovery: None };
        assert_eq!(due(&all, &all, FIRST, &unfounded), [Due::Found]);
        assert_eq!(due(&all, &all, FIRST, &at(&all[0])), [Due::Advance(&all[0])]);
        assert_eq!(due(&all, &all, FIRST, &at(&all[1])), [Due::Advance(&all[1])]);
        assert_eq!(due(&all, &all, FIRST, &at(&all[2])), [], "it has been told that another takes its place");
        assert_eq!(due(&all, &all, SECOND, &at(&all[3])), []);
    }

    #[test]
    fn nothing_follows_from_epochs_that_the_own_enclave_does_not_go_by() {
        let all = manifests();
        // The enclave is behind, or takes no more of them: what is in force at the pool manager can't be proved here.
        assert_eq!(due(&all, &all[..2], FIRST, &at(&all[0])), [Due::Advance(&all[0])]);
        assert_eq!(due(&all, &all[..2], FIRST, &at(&all[1])), []);
        assert_eq!(due(&all, &all[..2], FIRST, &at(&all[2])), [], "and that is no alarm");
        assert_eq!(due(&all, &[], FIRST, &at(&all[0])), []);
    }

    #[test]
    fn a_pool_manager_is_looked_at_again_after_an_epoch_or_when_the_enclave_goes_by_another_manifest() {
        let (epoch, start) = (Duration::from_secs(384), Instant::now());
        let rest = Some(Rest { in_force: 2, since: start });
        assert!(is_over(None, 2, epoch, start));
        assert!(!is_over(rest, 2, epoch, start + epoch / 2));
        assert!(is_over(rest, 3, epoch, start), "there may be an epoch to tell it of");
        assert!(is_over(rest, 0, epoch, start), "an enclave that does not answer");
        assert!(is_over(rest, 2, epoch, start + epoch));
    }

    #[test]
    fn a_person_is_told_of_a_recovery_whatever_became_of_the_own_enclave() {
        let all = manifests();
        let there = InForce { recovery: Some(recovery()), ..at(&all[0]) };
        let said = || Due::Say(Alert::Recovery { contract: FIRST, recovery: recovery() });
        assert_eq!(due(&all, &[], FIRST, &there), [said()]);
        let objected = [said(), Due::Object(&all[0], recovery()), Due::Advance(&all[0])];
        assert_eq!(due(&all, &all, FIRST, &there), objected);
    }

    #[test]
    fn a_person_is_told_of_members_that_no_epoch_names() {
        let all = manifests();
        let manifest = ManifestHash([9; 32]);
        for epoch in [2, 9] {
            let there = InForce { epoch, manifest, recovery: None };
            let said = [Due::SayLater(Alert::OtherCouncil { contract: FIRST, epoch, manifest })];
            assert_eq!(due(&all, &all, FIRST, &there), said);
            assert_eq!(due(&all, &[], FIRST, &there), said);
        }
    }
}
