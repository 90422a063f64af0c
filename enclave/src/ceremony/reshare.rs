//! Reshare: holders of a key's shares deal the key again (`dealing`), to operators that may be others. See
//! `postern_shared::reshare`.
//!
//! # Phases
//! Those of [`dealing`](super::dealing). A dealer deals its share of the generation in force; whoever is no operator of the
//! new generation gets nothing and looks on. When the members have agreed on the run ([`Reshare::count`]), the new share is
//! the one in force, and the transcript is published.
//!
//! A run whose dealer is silent never ends by itself: each tick lists whose statements are missing, and members leave the attempt.
//! A dealer that cheats is convicted with proof, as in keygen. An operator that is silent is listed, and waited for only if
//! too few others confirm.
//!
//! # What others can make this enclave do
//! Beside what a dealing has it do, nothing. It deals only the key that it is handed as the one in force, and only if the
//! terms name that very certificate: terms of another generation, or of what was never in force, begin nothing. What it
//! deals in two attempts has the same constant term and other coefficients that are independent: recipients of both know
//! no more than its share lets them.
//!
//! # State and restart
//! All is in the dealing's state, but the share that is dealt: whoever restores a run hands it in again. It is asked for
//! only as long as the own deal is not shown.

use super::dealing::{Deals, HeldKey, JointDealing, SavedDealing};
use super::keygen::ValidatorKey;
use super::{Ceremony, Scene};
use postern_shared::bls::Scalar;
use postern_shared::court::Conviction;
use postern_shared::dealing::DealingTerms as _;
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, ManifestHash, MemberId, PoolId};
use postern_shared::message::{Broadcast, Step};
use postern_shared::reshare::{
    KeyCertificate, ReshareCertificate, ReshareError, ReshareProceedings, ReshareTerms,
};
use postern_shared::transcript::Proceedings;
use postern_shared::wire::{CeremonyKind, Rejection};
use serde::{Deserialize, Serialize};

/// A key that was dealt again, as this enclave knows it.
pub type ResharedKey = HeldKey<ReshareCertificate>;

/// The key that is in force, and this enclave's share of it, if it has one.
pub struct KeyInForce<'a> {
    certificate: KeyCertificate,
    share: Option<&'a Scalar>,
}

impl<'a> From<&'a ValidatorKey> for KeyInForce<'a> {
    fn from(key: &'a ValidatorKey) -> Self {
        let certificate = KeyCertificate::Keygen(key.public.certificate.clone());
        Self { certificate, share: key.share.as_ref() }
    }
}

impl<'a> From<&'a ResharedKey> for KeyInForce<'a> {
    fn from(key: &'a ResharedKey) -> Self {
        let certificate = KeyCertificate::Reshare(key.public.certificate.clone());
        Self { certificate, share: key.share.as_ref() }
    }
}

impl KeyInForce<'_> {
    /// What certifies it.
    pub fn certificate(&self) -> &KeyCertificate {
        &self.certificate
    }
}

/// A run as snapshots keep it, beside its statements.
#[derive(Serialize, Deserialize)]
pub struct SavedReshare(SavedDealing<ReshareTerms>);

/// One run.
pub struct Reshare(JointDealing<ReshareTerms>);

impl Deals for ReshareTerms {
    const KIND: CeremonyKind = CeremonyKind::Reshare;
    const COINS: &'static str = "postern-reshare-polynomial-v1";

    fn manifest(&self) -> ManifestHash {
        self.manifest
    }

    fn conviction(record: Conviction<Self>) -> Proceedings {
        Proceedings::ReshareFault(record)
    }
}

impl Ceremony for Reshare {
    fn id(&self) -> CeremonyId {
        self.0.label().ceremony
    }

    fn pool(&self) -> PoolId {
        self.0.label().pool
    }
}

impl Reshare {
    /// Begins with the own commit, if this enclave deals. Refuses terms of another key than the one in force.
    pub fn start(
        terms: ReshareTerms,
        roster: Roster,
        key: &KeyInForce<'_>,
        scene: &mut Scene<'_>,
    ) -> Result<Self, ReshareError> {
        if terms.before != key.certificate {
            return Err(ReshareError::NotInForce);
        }
        if terms.roster != roster.digest() {
            return Err(ReshareError::Roster);
        }
        let previous = terms.dealing().decode_previous()?;
        Ok(Self(JointDealing::start(terms, roster, previous, key.share.cloned(), scene)))
    }

    /// What snapshots keep.
    pub fn save(&self) -> SavedReshare {
        SavedReshare(self.0.save())
    }

    /// What was said in it.
    pub fn statements(&self) -> impl Iterator<Item = &Broadcast> {
        self.0.statements().iter()
    }

    /// The run as it was saved, with what was said in it, and the key that it deals again.
    pub fn restore(
        saved: SavedReshare,
        statements: Vec<Broadcast>,
        key: &KeyInForce<'_>,
        scene: &Scene<'_>,
    ) -> Option<Self> {
        let SavedReshare(saved) = saved;
        let share = key.share.filter(|_| saved.terms.before == key.certificate).cloned();
        let previous = saved.terms.dealing().decode_previous().ok()?;
        JointDealing::restore(saved, statements, previous, share, &scene.me()).map(Self)
    }

    /// What was agreed on.
    pub fn terms(&self) -> &ReshareTerms {
        self.0.terms()
    }

    /// The enclaves of dealers and operators.
    pub fn roster(&self) -> &Roster {
        self.0.roster()
    }

    /// The certificate that this run has made, whether or not it counts.
    pub fn made(&self) -> Option<&ReshareCertificate> {
        Some(&self.0.made()?.public.certificate)
    }

    /// The key with its new shares, once the members have agreed that they count.
    pub fn key(&self) -> Option<&ResharedKey> {
        self.0.in_force()
    }

    /// Operators that have accepted the deals and confirmed the new shares, so far. Others need repair, or come late.
    pub fn confirmed(&self) -> Vec<MemberId> {
        self.0.confirmed()
    }

    /// Whether nothing can come of it any more.
    pub fn is_aborted(&self) -> bool {
        self.0.is_aborted()
    }

    /// Who has cheated in it.
    pub fn convicted(&self) -> impl Iterator<Item = MemberId> {
        self.0.convicted()
    }

    /// Whether this enclave has said what depends on what it has heard: of such a run it may not forget that, as long as it may
    /// enter it again.
    pub fn has_judged(&self, own: MemberId) -> bool {
        self.0.has_judged(own)
    }

    /// Whether this enclave has said its confirmation, or an observer could: then others may decide on this run.
    pub fn has_confirmed(&self) -> bool {
        self.0.has_confirmed()
    }

    /// Takes an authentic statement.
    pub fn on_statement(&mut self, statement: Broadcast, scene: &mut Scene<'_>) -> Result<(), Rejection> {
        self.0.on_statement(statement, scene).map(|_| ())
    }

    /// Says what the current phase waits for.
    pub fn on_tick(&self, scene: &mut Scene<'_>) {
        self.0.on_tick(scene.effects);
    }

    /// Made → InForce → Finished, when the members have agreed on this run: from here on the new share is the one in force, and
    /// nothing is signed with the old one any more.
    pub fn count(&mut self, scene: &mut Scene<'_>) {
        if !self.0.enter_force(scene.effects) {
            return;
        }
        let confirmed = self.confirmed();
        // What others than those who have confirmed have said proves nothing.
        let proves = |said: &&Broadcast| {
            matches!(said.slot.step, Step::Commit | Step::Deal) || confirmed.contains(&said.slot.from)
        };
        let statements = self.statements().filter(proves).cloned().collect();
        let record = ReshareProceedings { terms: self.terms().clone(), confirmed, statements };
        self.0.finish(scene, Proceedings::Reshare(record));
        scene.effects.notice(self.0.label().finished());
    }
}

#[cfg(test)]
mod tests;
