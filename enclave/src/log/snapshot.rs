//! The state in pieces: what a snapshot holds, and how it becomes a state again.
//!
//! A snapshot is one stream of bytes, each piece behind its length, cut into parts of one size wherever that falls: so no
//! record grows with what is in it, whatever others have made this enclave keep.

use crate::agreement::Agreement;
use crate::ceremony::keygen::{Keygen, SavedKeygen};
use crate::ceremony::presign::{Presign, SavedPresign};
use crate::ceremony::release::{Release, SavedRelease};
use crate::epochs::{Agreed, Candidate};
use crate::log::change::{Admitted, Genesis};
use crate::pools::vault::Vault;
use crate::state::State;
use crate::witness::Notes;
use postern_attestation::TrustAnchor;
use postern_shared::agreement::Mark;
use postern_shared::codec;
use postern_shared::epoch::SignedEpoch;
use postern_shared::events::ChainEvent;
use postern_shared::identity::Roster;
use postern_shared::ids::{Address, CeremonyId, ManifestHash, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::Broadcast;
use postern_shared::wire::{Output, RefusedMember};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of a part.
pub(crate) const PART_SIZE: usize = 256 << 10;

/// Size of the length before each piece.
const LENGTH_SIZE: usize = 4;

/// One piece. Sealed only; some hold secrets.
#[derive(Serialize, Deserialize)]
pub(crate) enum Item {
    /// The first.
    Begin(Box<Genesis>),
    /// An earlier manifest, in canonical form.
    Manifest(Vec<u8>),
    Notes(Notes),
    HandedOver(bool),
    Without(Vec<MemberId>),
    Epoch(Box<SignedEpoch>),
    Agreed(ManifestHash, Box<Agreed>),
    Succession(Box<Agreement>),
    Agreement(PoolId, Box<Agreement>),
    Mark(Box<Mark>),
    Unknown {
        before: Vec<(Address, u32)>,
        is_newcomer: bool,
    },
    Convicted(PoolId, Vec<MemberId>),
    Event(ChainEvent),
    Admitted(Box<Admitted>),
    /// An enclave that was replaced.
    Former(Box<Admitted>),
    Refused(RefusedMember),
    Roster(Roster),
    /// Of the ceremony that follows.
    Statement(Box<Broadcast>),
    Keygen(Box<SavedKeygen>),
    /// A keygen of an earlier attempt.
    Parked(Box<SavedKeygen>),
    Presign(Box<SavedPresign>),
    Release(Box<SavedRelease>),
    /// A split that came after its presign was settled.
    Late(CeremonyId, Box<Broadcast>),
    Held(Box<Output>),
}

/// Puts pieces together to a stream, and cuts it into parts.
#[derive(Default)]
pub(crate) struct Cutter {
    part: Zeroizing<Vec<u8>>,
    full: Vec<Zeroizing<Vec<u8>>>,
}

impl Cutter {
    pub(crate) fn add(&mut self, item: &Item) {
        let bytes = codec::encode_secret(item);
        // No piece has 2^32 bytes; one that had would not be found again, and the snapshot refused.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        for mut rest in [&length[..], &bytes] {
            while !rest.is_empty() {
                // Whole from the start: a buffer that grew would leave secrets behind.
                if self.part.capacity() < PART_SIZE {
                    self.part = Zeroizing::new(Vec::with_capacity(PART_SIZE));
                }
                let room = PART_SIZE.saturating_sub(self.part.len()).min(rest.len());
                let (now, later) = rest.split_at(room);
                self.part.extend_from_slice(now);
                rest = later;
                if self.part.len() >= PART_SIZE {
                    self.full.push(core::mem::take(&mut self.part));
                }
            }
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Zeroizing<Vec<u8>>> {
        if !self.part.is_empty() {
            self.full.push(self.part);
        }
        self.full
    }
}

/// Takes the parts of a stream, and gives its pieces again.
#[derive(Default)]
pub(crate) struct Joiner {
    items: Vec<Item>,
    /// A piece that has begun.
    rest: Zeroizing<Vec<u8>>,
}

impl Joiner {
    /// The next part. `None` if there is something in it that is not a piece.
    pub(crate) fn add(&mut self, part: &[u8]) -> Option<()> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.rest.len().saturating_add(part.len())));
        bytes.extend_from_slice(&self.rest);
        bytes.extend_from_slice(part);
        let mut rest = &bytes[..];
        while let Some((length, more)) = rest.split_first_chunk::<LENGTH_SIZE>()
            && let Some((piece, more)) = more.split_at_checked(u32::from_le_bytes(*length) as usize)
        {
            self.items.push(postcard::from_bytes(piece).ok()?);
            rest = more;
        }
        self.rest = Zeroizing::new(rest.to_vec());
        Some(())
    }

    /// All pieces, if the stream has ended with one.
    pub(crate) fn finish(self) -> Option<Vec<Item>> {
        self.rest.is_empty().then_some(self.items)
    }
}

impl State {
    /// All but the vault.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> {
        let genesis = Genesis {
            manifest: self.dao.canonical().to_vec(),
            member: self.dao.own(),
            machine: self.dao.keys.identity().machine,
            seed: self.dao.seed.clone(),
            nonce: self.notes.own().ballot.nonce,
            log: self.notes.own().place.log,
            pool_managers: self.dao.pool_managers.clone(),
            voters: self.dao.voters.values().cloned().collect(),
            identities: self.dao.identities.values().copied().collect(),
        };
        let before = self.pools.unknown.iter().map(|(contract, number)| (*contract, *number)).collect();
        [
            Item::Begin(Box::new(genesis)),
            Item::Notes(self.notes.clone()),
            Item::HandedOver(self.handed_over),
            Item::Unknown { before, is_newcomer: self.is_newcomer },
            Item::Without(self.dao.without.iter().copied().collect()),
        ]
        .into_iter()
        .chain(self.dao.manifests.values().cloned().map(Item::Manifest))
        .chain(self.epochs.candidates.iter().map(|known| Item::Epoch(Box::new(known.epoch.clone()))))
        .chain(
            self.epochs.agreed.iter().map(|(before, agreed)| Item::Agreed(*before, Box::new(agreed.clone()))),
        )
        .chain(self.pools.marks.values().map(|mark| Item::Mark(Box::new(mark.clone()))))
        .chain(self.epochs.agreement.iter().map(|agreement| Item::Succession(Box::new(agreement.clone()))))
        .chain(
            self.pools
                .agreements
                .iter()
                .map(|(pool, agreement)| Item::Agreement(*pool, Box::new(agreement.clone()))),
        )
        .chain(
            self.pools
                .convicted
                .iter()
                .map(|(pool, members)| Item::Convicted(*pool, members.iter().copied().collect())),
        )
        .chain(self.pools.ledger.events().map(Item::Event))
        .chain(self.dao.admission.enclaves().map(|admitted| Item::Admitted(Box::new(admitted.clone()))))
        .chain(self.dao.admission.former().map(|admitted| Item::Former(Box::new(admitted.clone()))))
        .chain(self.dao.admission.refused().filter(|refused| refused.cut_off).cloned().map(Item::Refused))
        .chain(self.pools.vault.rosters().cloned().map(Item::Roster))
        .chain(self.pools.keygens.all_current().flat_map(|keygen| {
            statements(keygen.statements()).chain([Item::Keygen(Box::new(keygen.save()))])
        }))
        .chain(self.pools.keygens.all_parked().flat_map(|keygen| {
            statements(keygen.statements()).chain([Item::Parked(Box::new(keygen.save()))])
        }))
        .chain(self.pools.presigns.iter().flat_map(|presign| {
            statements(presign.statements()).chain([Item::Presign(Box::new(presign.save()))])
        }))
        .chain(self.pools.releases.iter().flat_map(|release| {
            statements(release.statements()).chain([Item::Release(Box::new(release.save()))])
        }))
        .chain(self.pools.late.iter().flat_map(|(ceremony, late)| {
            late.iter().map(|statement| Item::Late(*ceremony, Box::new(statement.clone())))
        }))
        .chain(self.held.iter().map(|output| Item::Held(Box::new(output.clone()))))
    }

    /// The state that these pieces and this vault make. `None` if they make none.
    pub(crate) fn restore(items: Vec<Item>, vault: Vault, anchor: TrustAnchor) -> Option<Self> {
        let mut items = items.into_iter();
        let Some(Item::Begin(genesis)) = items.next() else { return None };
        let mut state = Self::begin(&genesis, anchor)?;
        state.pools.vault = vault;
        let mut heard = Vec::new();
        for item in items {
            state.add(item, &mut heard)?;
        }
        state.pools.restored();
        heard.is_empty().then_some(state)
    }

    /// Takes a piece; `heard` are the statements before it, of the ceremony that it is.
    fn add(&mut self, item: Item, heard: &mut Vec<Broadcast>) -> Option<()> {
        match item {
            Item::Begin(_) => return None,
            Item::Statement(statement) => heard.push(*statement),
            Item::Manifest(canonical) => {
                let manifest = Manifest::from_canonical(&canonical).ok()?;
                self.dao.manifests.insert(manifest.hash(), canonical);
            }
            Item::Notes(notes) => self.notes = notes,
            Item::HandedOver(handed_over) => self.handed_over = handed_over,
            Item::Without(members) => self.dao.without = members.into_iter().collect(),
            Item::Epoch(epoch) => self.epochs.candidates.push(Candidate::new(*epoch)?),
            Item::Agreed(before, agreed) => {
                self.epochs.agreed.insert(before, *agreed);
            }
            Item::Succession(agreement) => self.epochs.agreement = Some(*agreement),
            Item::Agreement(pool, agreement) => {
                self.pools.agreements.insert(pool, *agreement);
            }
            Item::Mark(mark) => {
                self.pools.marks.insert(mark.pool.contract, *mark);
            }
            Item::Unknown { before, is_newcomer } => {
                (self.pools.unknown, self.is_newcomer) = (before.into_iter().collect(), is_newcomer);
            }
            Item::Convicted(pool, members) => {
                self.pools.convicted.insert(pool, members.into_iter().collect());
            }
            Item::Event(event) => {
                self.pools.ledger.observe(event, 0, false).ok()?;
            }
            Item::Admitted(admitted) => self.dao.admission.admit(*admitted),
            Item::Former(admitted) => self.dao.admission.remember(*admitted),
            Item::Refused(refused) => self.dao.admission.cut_off(refused),
            Item::Roster(roster) => self.pools.vault.keep_roster(&roster),
            Item::Keygen(saved) => {
                let keygen = Keygen::restore(*saved, core::mem::take(heard), &self.dao.me())?;
                self.pools.keygens.begin(keygen);
            }
            Item::Parked(saved) => {
                let keygen = Keygen::restore(*saved, core::mem::take(heard), &self.dao.me())?;
                self.pools.keygens.add_parked(keygen);
            }
            Item::Presign(saved) => {
                let presign = Presign::restore(*saved, core::mem::take(heard), &self.dao.me())?;
                self.pools.presigns.insert(presign);
            }
            Item::Release(saved) => {
                let release = Release::restore(*saved, core::mem::take(heard))?;
                self.pools.releases.insert(release);
            }
            Item::Late(ceremony, statement) => self.pools.late.entry(ceremony).or_default().push(*statement),
            Item::Held(output) => self.held.push_back(*output),
        }
        Some(())
    }
}

fn statements<'a>(statements: impl Iterator<Item = &'a Broadcast> + 'a) -> impl Iterator<Item = Item> + 'a {
    statements.map(|statement| Item::Statement(Box::new(statement.clone())))
}
