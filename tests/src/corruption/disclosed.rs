//! What a passive adversary does with what honest enclaves publish: tries it on everything that it has ever heard.
//!
//! An honest recipient publishes the key of a ciphertext only to convict the dealer. If a key that one has published opens
//! what an *honest* dealer has dealt to it, in whatever ceremony, then complaints decrypt for whoever provokes them.

use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::fault::{Fault, Proof, accused};
use postern_shared::ids::{CeremonyId, MemberId};
use postern_shared::keygen::Deal;
use postern_shared::message::{Broadcast, Step};
use postern_shared::pairwise::{EncryptedShare, Pair};
use postern_shared::presign::Split;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter, Result as Written};

/// A key that a statement makes public: the recipient whose it is, and the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disclosed {
    /// Whose ciphertexts it is meant to open.
    pub recipient: MemberId,
    /// The shared point.
    pub shared: PublicKey,
}

/// The keys that a statement makes public, in its own accusation and in those that it accuses.
pub fn disclosed(statement: &Broadcast) -> Vec<Disclosed> {
    let mut found = Vec::new();
    let mut next = accused(statement);
    while let Some(Fault { proof, .. }) = next {
        next = match proof {
            Proof::BadShare { recipient, opening, .. } => {
                found.push(Disclosed { recipient, shared: opening.shared });
                None
            }
            Proof::FalseAccusation(accusation) => accused(&accusation),
            _ => None,
        };
    }
    found
}

/// The ciphertexts of a deal or split.
pub fn dealt(statement: &Broadcast) -> Vec<EncryptedShare> {
    match statement.slot.step {
        Step::Deal => codec::decode::<Deal>(&statement.body).map_or_else(|_| Vec::new(), |deal| deal.shares),
        Step::Split => {
            codec::decode::<Split>(&statement.body).map_or_else(|_| Vec::new(), |split| split.shares)
        }
        _ => Vec::new(),
    }
}

/// Ciphertexts of one deal or split, for whichever recipients.
struct Dealt {
    ceremony: CeremonyId,
    dealer: MemberId,
    shares: Vec<EncryptedShare>,
}

impl Dealt {
    /// Whether a disclosed key opens one of the ciphertexts.
    fn opens(&self, disclosed: &Disclosed) -> bool {
        let pair = Pair { ceremony: self.ceremony, dealer: self.dealer, recipient: disclosed.recipient };
        let Ok(shared) = disclosed.shared.decode() else { return false };
        self.shares.iter().any(|share| pair.open(&shared, share).is_some())
    }
}

/// Everything that honest enclaves have published and dealt so far.
pub struct Adversary {
    corrupt: BTreeSet<MemberId>,
    disclosed: Vec<Disclosed>,
    dealt: BTreeMap<(CeremonyId, MemberId), Dealt>,
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
    pub fn new(corrupt: BTreeSet<MemberId>) -> Self {
        Self { corrupt, disclosed: Vec::new(), dealt: BTreeMap::new() }
    }

    /// Hears a statement; tries what is new on what it knows.
    pub fn learn(&mut self, statement: &Broadcast) -> Option<Opened> {
        if self.corrupt.contains(&statement.slot.from) {
            return None;
        }
        for key in disclosed(statement) {
            // What a corrupted recipient gets is the adversary's anyway.
            if self.corrupt.contains(&key.recipient) || self.disclosed.contains(&key) {
                continue;
            }
            if let Some(dealt) = self.dealt.values().find(|dealt| dealt.opens(&key)) {
                return Some(Opened { recipient: key.recipient, dealer: dealt.dealer });
            }
            self.disclosed.push(key);
        }
        let shares = dealt(statement);
        if shares.is_empty() {
            return None;
        }
        let (ceremony, dealer) = (statement.slot.ceremony, statement.slot.from);
        let dealt = Dealt { ceremony, dealer, shares };
        let opening = self.disclosed.iter().find(|key| dealt.opens(key)).copied();
        self.dealt.insert((ceremony, dealer), dealt);
        opening.map(|key| Opened { recipient: key.recipient, dealer })
    }
}
