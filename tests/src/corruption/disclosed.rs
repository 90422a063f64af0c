//! What a passive adversary does with what honest enclaves publish: tries it on everything that it has ever heard.
//!
//! An honest recipient publishes the key of a ciphertext only to convict the dealer. If a key that one has published opens
//! what an *honest* dealer has dealt to it, in whatever ceremony, then complaints decrypt for whoever provokes them.

use crate::cluster::Cluster;
use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::dealing::{Deal, Verdict};
use postern_shared::fault::{Fault, Proof};
use postern_shared::identity::Identity;
use postern_shared::ids::MemberId;
use postern_shared::message::{Broadcast, Slot, Step};
use postern_shared::presign::{Acknowledge, Split};
use postern_shared::sealed_shares::{CheckedShares, Opening, Pair, TAG_SIZE};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter, Result as Written};

/// A key that a statement makes public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disclosed {
    /// Whose ciphertexts it is meant to open.
    recipient: MemberId,
    /// The shared point.
    shared: PublicKey,
}

/// The key that a statement makes public, if it is a complaint.
fn disclosed(statement: &Broadcast) -> Option<Disclosed> {
    let (recipient, Opening { shared, .. }) = match statement.slot.step {
        Step::Verdict => match codec::decode(&statement.body) {
            Ok(Verdict::Reject(Fault { proof: Proof::BadShare { recipient, opening, .. }, .. })) => {
                (recipient, opening)
            }
            _ => return None,
        },
        Step::Acknowledge => match codec::decode(&statement.body) {
            Ok(Acknowledge::Bad { opening, .. }) => (statement.slot.from, opening),
            _ => return None,
        },
        _ => return None,
    };
    Some(Disclosed { recipient, shared })
}

/// The ciphertexts of a deal or split that is well-formed, and how many there are.
pub(super) fn dealt(statement: &Broadcast) -> Option<(CheckedShares, usize)> {
    let check = |sealed: postern_shared::sealed_shares::SealedShares, rest: Rest| {
        let count = sealed.shares.len();
        let size = sealed.shares.first()?.0.len().checked_sub(TAG_SIZE)?;
        let checked = match rest {
            Rest::Deal(rest) => sealed.check(statement.slot, &rest, count, size),
            Rest::Split(rest) => sealed.check(statement.slot, &rest, count, size),
        };
        Some((checked.ok()?, count))
    };
    match statement.slot.step {
        Step::Deal => {
            let deal: Deal = codec::decode(&statement.body).ok()?;
            let rest = Rest::Deal(deal.rest());
            check(deal.sealed, rest)
        }
        Step::Split => {
            let split: Split = codec::decode(&statement.body).ok()?;
            check(split.sealed, Rest::Split(split.commitments))
        }
        _ => None,
    }
}

/// What the ciphertexts of a statement are bound to.
enum Rest {
    Deal((Vec<PublicKey>, postern_shared::bls::Signature)),
    Split(Vec<PublicKey>),
}

/// Everything that honest enclaves have published and dealt so far.
pub struct Adversary {
    corrupt: BTreeSet<MemberId>,
    identities: BTreeMap<MemberId, Identity>,
    disclosed: Vec<Disclosed>,
    dealt: BTreeMap<Slot, (CheckedShares, usize)>,
}

/// A share of an honest dealer that a key opens which an honest recipient has published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Whose share it is.
    pub recipient: MemberId,
    /// Who has dealt it.
    pub dealer: MemberId,
}

impl Display for Opened {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        write!(f, "a complaint of {} opens its share of honest {}'s", self.recipient, self.dealer)
    }
}

impl Adversary {
    /// One that holds these enclaves' keys.
    pub fn new(cluster: &Cluster, corrupt: BTreeSet<MemberId>) -> Self {
        let identities = cluster.nodes.iter().map(|node| (node.id, *node.keys().identity())).collect();
        Self { corrupt, identities, disclosed: Vec::new(), dealt: BTreeMap::new() }
    }

    /// Hears a statement; tries what is new on what it knows.
    pub fn learn(&mut self, statement: &Broadcast) -> Option<Opened> {
        let slot = statement.slot;
        if self.corrupt.contains(&slot.from) {
            return None;
        }
        // What a corrupted recipient gets is the adversary's anyway.
        let key = disclosed(statement).filter(|key| !self.corrupt.contains(&key.recipient));
        if let Some(key) = key.filter(|key| !self.disclosed.contains(key)) {
            self.disclosed.push(key);
            let opened = self.dealt.iter().find(|(slot, dealt)| self.opens(&key, **slot, dealt));
            return opened.map(|(slot, _)| Opened { recipient: key.recipient, dealer: slot.from });
        }
        let dealt = dealt(statement)?;
        let opening = self.disclosed.iter().find(|key| self.opens(key, slot, &dealt));
        let opened = opening.map(|key| Opened { recipient: key.recipient, dealer: slot.from });
        self.dealt.insert(slot, dealt);
        opened
    }

    /// Whether a key opens one of the ciphertexts of a statement.
    fn opens(&self, key: &Disclosed, slot: Slot, (shares, count): &(CheckedShares, usize)) -> bool {
        let (Some(dealer), Some(recipient), Ok(shared)) =
            (self.identities.get(&slot.from), self.identities.get(&key.recipient), key.shared.decode())
        else {
            return false;
        };
        let pair = Pair { slot, dealer, recipient };
        (0..*count).any(|position| shares.open(&pair, position, |_| shared.clone()).is_some())
    }
}
