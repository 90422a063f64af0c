//! The state in pieces: what a snapshot holds, and how it becomes a state again.

use crate::ceremony::keygen::{Keygen, SavedKeygen};
use crate::ceremony::presign::{Presign, SavedPresign};
use crate::ceremony::release::{Release, SavedRelease};
use crate::change::{Admitted, Genesis};
use crate::session::Session;
use crate::vault::Vault;
use crate::witness::Notes;
use postern_attestation::TrustAnchor;
use postern_shared::events::ChainEvent;
use postern_shared::identity::{Roster, SigningKey};
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::wire::{Output, RefusedMember};
use serde::{Deserialize, Serialize};

/// One piece. Sealed only; some hold secrets.
#[derive(Serialize, Deserialize)]
pub(crate) enum Item {
    /// The first.
    Begin(Box<Genesis>),
    /// An earlier manifest, in canonical form.
    Manifest(Vec<u8>),
    Notes(Notes),
    Dead(SigningKey),
    HandedOver(bool),
    Without(Vec<MemberId>),
    Attempts(PoolId, u32),
    Confirmed(PoolId),
    Event(ChainEvent),
    Admitted(Box<Admitted>),
    Refused(RefusedMember),
    Roster(Roster),
    Keygen(Box<SavedKeygen>),
    Presign(Box<SavedPresign>),
    Release(Box<SavedRelease>),
    Held(Box<Output>),
}

impl Session {
    /// All but the vault.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> {
        let genesis = Genesis {
            manifest: self.canonical().to_vec(),
            member: self.own(),
            machine: self.machine,
            seed: self.seed.clone(),
            nonce: self.notes.own().nonce,
            pool_managers: self.pool_managers.iter().copied().collect(),
        };
        [
            Item::Begin(Box::new(genesis)),
            Item::Notes(self.notes.clone()),
            Item::HandedOver(self.handed_over),
            Item::Without(self.without.iter().copied().collect()),
        ]
        .into_iter()
        .chain(self.manifests.values().cloned().map(Item::Manifest))
        .chain(self.admission.dead().copied().map(Item::Dead))
        .chain(self.attempts.iter().map(|(pool, attempts)| Item::Attempts(*pool, *attempts)))
        .chain(self.confirmed.iter().copied().map(Item::Confirmed))
        .chain(self.ledger.events().map(Item::Event))
        .chain(self.admission.enclaves().map(|admitted| Item::Admitted(Box::new(admitted.clone()))))
        .chain(self.admission.refused().filter(|refused| refused.cut_off).cloned().map(Item::Refused))
        .chain(self.vault.rosters().cloned().map(Item::Roster))
        .chain(self.keygens.values().map(|keygen| Item::Keygen(Box::new(keygen.save()))))
        .chain(self.presigns.values().map(|presign| Item::Presign(Box::new(presign.save()))))
        .chain(self.releases.values().map(|release| Item::Release(Box::new(release.save()))))
        .chain(self.held.iter().map(|output| Item::Held(Box::new(output.clone()))))
    }

    /// The state that these pieces and this vault make. `None` if they make none.
    pub(crate) fn restore(items: Vec<Item>, vault: Vault, anchor: TrustAnchor) -> Option<Self> {
        let mut items = items.into_iter();
        let Some(Item::Begin(genesis)) = items.next() else { return None };
        let mut session = Self::begin(&genesis, anchor)?;
        session.vault = vault;
        for item in items {
            session.add(item)?;
        }
        session.index_releases();
        Some(session)
    }

    fn add(&mut self, item: Item) -> Option<()> {
        match item {
            Item::Begin(_) => return None,
            Item::Manifest(canonical) => {
                let manifest = Manifest::from_canonical(&canonical).ok()?;
                self.manifests.insert(manifest.hash(), canonical);
            }
            Item::Dead(enclave) => self.admission.bury(enclave),
            Item::Notes(notes) => self.notes = notes,
            Item::HandedOver(handed_over) => self.handed_over = handed_over,
            Item::Without(members) => self.without = members.into_iter().collect(),
            Item::Attempts(pool, attempts) => {
                self.attempts.insert(pool, attempts);
            }
            Item::Confirmed(pool) => {
                self.confirmed.insert(pool);
            }
            Item::Event(event) => {
                self.ledger.observe(event, 0).ok()?;
            }
            Item::Admitted(admitted) => self.admission.admit(*admitted),
            Item::Refused(refused) => self.admission.cut_off(refused),
            Item::Roster(roster) => self.vault.keep_roster(&roster),
            Item::Keygen(saved) => {
                let keygen = Keygen::restore(*saved, &self.me())?;
                self.keygens.insert(keygen.terms().request.pool, keygen);
            }
            Item::Presign(saved) => {
                let presign = Presign::restore(*saved, &self.me())?;
                self.presigns.insert(presign.terms().ceremony(), presign);
            }
            Item::Release(saved) => {
                let release = Release::restore(*saved)?;
                self.releases.insert(release.terms().ceremony(), release);
            }
            Item::Held(output) => self.held.push_back(*output),
        }
        Some(())
    }
}
