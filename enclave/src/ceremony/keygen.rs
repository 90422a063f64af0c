//! Keygen: the operators deal each other a new key (`dealing`), and sign the pool's deposit with it. See
//! `postern_shared::keygen`.
//!
//! # Phases
//! Those of [`dealing`](super::dealing), until there is a key. Then:
//!
//! | phase | leaves when | by saying |
//! | --- | --- | --- |
//! | Made | the members have agreed that it is the pool's (`agreement`) | a partial signature over the deposit |
//! | InForce | t partial signatures hold | the signed deposit and the transcript |
//!
//! # What others can make this enclave do
//! Beside what a dealing has it do, it signs the deposit, once. The deposit's message follows from the terms, which all
//! operators' hosts have to agree on.
//!
//! # State and restart
//! All is in the dealing's state: the deposit is a function of what was heard.

use super::dealing::{Deals, HeldKey, JointDealing, SavedDealing};
use super::{Ceremony, Scene, Taken};
use crate::crypto::keys::Me;
use crate::crypto::secret::SecretBytes;
use crate::crypto::sharing;
use crate::effects::Effects;
use postern_shared::bls::{Commitments, G2, PublicKey, Scalar};
use postern_shared::codec;
use postern_shared::court::Conviction;
use postern_shared::dealing::DealtKey;
use postern_shared::ethereum::{DepositData, DepositMessage};
use postern_shared::events::DepositRequest;
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, ManifestHash, MemberId, PoolId};
use postern_shared::keygen::{KeygenCertificate, KeygenProceedings, KeygenTerms, PartialDeposit};
use postern_shared::message::{Broadcast, Step};
use postern_shared::transcript::Proceedings;
use postern_shared::wire::{Artifact, CeremonyKind};
use serde::{Deserialize, Serialize};

/// A validator's key as this enclave knows it, once all operators have confirmed it.
pub type ValidatorKey = HeldKey<KeygenCertificate>;

/// A run as snapshots keep it, beside its statements.
pub(crate) type SavedKeygen = SavedDealing<KeygenTerms>;

/// A key that is made, as the vault keeps it.
#[derive(Serialize, Deserialize)]
pub(crate) struct SettledKeygen {
    terms: KeygenTerms,
    certificate: KeygenCertificate,
    share: Option<SecretBytes>,
}

impl SettledKeygen {
    pub(crate) fn ceremony(&self) -> CeremonyId {
        self.certificate.ceremony
    }

    pub(crate) fn request(&self) -> &DepositRequest {
        &self.terms.request
    }

    pub(crate) fn pubkey(&self) -> PublicKey {
        self.certificate.pubkey()
    }

    pub(crate) fn deposit_message(&self) -> DepositMessage {
        self.terms.deposit_message(self.pubkey())
    }

    /// The key as it was.
    pub(crate) fn key(&self) -> Option<ValidatorKey> {
        let certificate = self.certificate.clone();
        let polynomial = Commitments::decode(&certificate.commitments, self.terms.threshold.into()).ok()?;
        let share = match &self.share {
            Some(bytes) => Some(Scalar::from_bytes(bytes.expose().try_into().ok()?)?),
            None => None,
        };
        Some(ValidatorKey { public: DealtKey { certificate, polynomial }, share })
    }
}

/// One run.
pub struct Keygen(JointDealing<KeygenTerms>);

impl Deals for KeygenTerms {
    const KIND: CeremonyKind = CeremonyKind::Keygen;
    const COINS: &'static str = "postern-keygen-polynomial-v1";

    fn manifest(&self) -> ManifestHash {
        self.manifest
    }

    fn conviction(record: Conviction<Self>) -> Proceedings {
        Proceedings::KeygenFault(record)
    }
}

impl Ceremony for Keygen {
    fn id(&self) -> CeremonyId {
        self.0.label().ceremony
    }

    fn pool(&self) -> PoolId {
        self.0.label().pool
    }
}

/// The own part of the new key.
fn secret(terms: &KeygenTerms, me: &Me<'_>) -> Scalar {
    me.coins.scalar("postern-keygen-secret-v1", &terms.ceremony().0)
}

impl Keygen {
    /// Begins with the own commit.
    pub(crate) fn start(terms: KeygenTerms, roster: Roster, scene: &mut Scene<'_>) -> Self {
        let secret = secret(&terms, &scene.me());
        Self(JointDealing::start(terms, roster, None, Some(secret), scene))
    }

    /// What snapshots keep.
    pub(crate) fn save(&self) -> SavedKeygen {
        self.0.save()
    }

    /// What was said in it.
    pub(crate) fn statements(&self) -> impl Iterator<Item = &Broadcast> {
        self.0.statements().iter()
    }

    /// The run as it was saved, with what was said in it.
    pub(crate) fn restore(saved: SavedKeygen, statements: Vec<Broadcast>, me: &Me<'_>) -> Option<Self> {
        let secret = secret(&saved.terms, me);
        JointDealing::restore(saved, statements, None, Some(secret), me).map(Self)
    }

    /// What the vault keeps, once the key is made and its deposit signed.
    pub(crate) fn settle(&self) -> Option<SettledKeygen> {
        let key = self.0.in_force().filter(|_| self.0.is_finished())?;
        Some(SettledKeygen {
            terms: self.terms().clone(),
            certificate: key.public.certificate.clone(),
            share: key.share.as_ref().map(|share| SecretBytes::of(&share.to_secret_bytes())),
        })
    }

    /// What was agreed on.
    pub fn terms(&self) -> &KeygenTerms {
        self.0.terms()
    }

    /// The key that this run has made, whether or not it counts.
    pub(crate) fn made(&self) -> Option<&KeygenCertificate> {
        Some(&self.0.made()?.public.certificate)
    }

    /// The key, once all operators have confirmed it and the members have agreed on it.
    pub fn key(&self) -> Option<&ValidatorKey> {
        self.0.in_force()
    }

    /// Whether nothing can come of it any more.
    pub(crate) fn is_aborted(&self) -> bool {
        self.0.is_aborted()
    }

    /// Who has cheated in it.
    pub(crate) fn convicted(&self) -> impl Iterator<Item = MemberId> {
        self.0.convicted()
    }

    /// See [`JointDealing::has_judged`].
    pub(crate) fn has_judged(&self, own: MemberId) -> bool {
        self.0.has_judged(own)
    }

    /// See [`JointDealing::has_confirmed`].
    pub(crate) fn has_confirmed(&self) -> bool {
        self.0.has_confirmed()
    }

    pub(crate) fn roster(&self) -> &Roster {
        self.0.roster()
    }

    /// Takes an authentic statement.
    pub(crate) fn on_statement(&mut self, statement: Broadcast, scene: &mut Scene<'_>) -> Taken {
        if self.0.on_statement(statement, scene)? {
            self.sign(scene);
        }
        Ok(())
    }

    /// Says what the current phase waits for.
    pub(crate) fn on_tick(&self, effects: &mut Effects) {
        self.0.on_tick(effects);
    }

    /// Made → InForce, when the members have agreed that this is the pool's key: from here on it counts.
    pub(crate) fn count(&mut self, scene: &mut Scene<'_>) {
        if !self.0.enter_force(scene.effects) {
            return;
        }
        let partial = self.0.in_use().and_then(|key| {
            let message = key.public.depositing(self.terms()).message;
            key.share.as_ref().map(|share| message * share)
        });
        if let Some(partial) = partial {
            let deposit = PartialDeposit { partial: partial.encode() };
            self.0.say(scene.me().state(self.id(), Step::Deposit, 0, &deposit), scene.effects);
        }
        self.sign(scene);
    }

    /// InForce → Finished, with the first t good partial signatures.
    fn sign(&mut self, scene: &mut Scene<'_>) {
        let threshold = usize::from(self.terms().threshold);
        if self.0.in_use().is_none() || self.0.heard(Step::Deposit) < threshold {
            return;
        }
        self.0.drop_bad(Step::Deposit, scene);
        let Some(deposit) = self.deposit() else { return };
        // All statements count: each operator's commit, deal, acceptance and confirmation made the key, and of the partial
        // deposits those that do not hold were just dropped.
        let record = KeygenProceedings {
            terms: self.terms().clone(),
            statements: self.statements().cloned().collect(),
            deposit,
        };
        self.0.finish(scene, Proceedings::Keygen(record));
        let (pool, operators) = (self.pool(), self.terms().operators.clone());
        scene.effects.publish(Artifact::Deposit { pool, data: deposit, operators });
        scene.effects.notice(self.0.label().finished());
    }

    /// The signed deposit, of the first t partial signatures.
    fn deposit(&self) -> Option<DepositData> {
        let (terms, key) = (self.terms(), self.0.in_use()?);
        let said =
            terms.operators.iter().filter_map(|member| self.0.statements().get(Step::Deposit, *member, 0));
        let partials = said.filter_map(|said| {
            let partial = codec::decode::<PartialDeposit>(&said.body).ok()?.partial.decode().ok()?;
            Some((said.slot.from, partial))
        });
        let threshold = usize::from(terms.threshold);
        let partials: Vec<(MemberId, G2)> = partials.take(threshold).collect();
        let signature = sharing::combine(&partials, threshold).ok()?.encode();
        let message = terms.deposit_message(key.public.certificate.pubkey());
        key.public.depositing(terms).is_whole(&signature).then_some(DepositData { message, signature })
    }
}
