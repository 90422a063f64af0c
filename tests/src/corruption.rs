//! Enclaves whose attested keys are in the attacker's hands: they say valid-looking, well-signed, wrong things.

use crate::cluster::Node;
use postern_enclave::coins::Coins;
use postern_enclave::keys::IdentityKeys;
use postern_shared::bls::{G1, G2, PublicKey, Scalar, Signature};
use postern_shared::codec;
use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::{Digest, MemberId};
use postern_shared::keygen::{Commit, Confirm, Deal, PartialDeposit, Verdict};
use postern_shared::message::{Broadcast, Envelope, PeerMessage, Step};
use postern_shared::presign::{Acknowledge, Split};
use postern_shared::release::{Authorise, ReleaseRequest};
use postern_shared::sealed_shares::EncryptedShare;
use serde::Serialize;

/// The keys of a corrupted enclave.
pub struct Corrupt {
    /// Its identity keys.
    pub keys: IdentityKeys,
    /// Its coins, with which its other secrets can be computed.
    pub coins: Coins,
}

impl Corrupt {
    /// Breaks an enclave open.
    pub fn of(node: &Node) -> Self {
        Self { keys: node.keys(), coins: node.coins() }
    }

    /// The same statement with another body, properly signed.
    pub fn restate<T: Serialize>(&self, statement: &Broadcast, body: &T) -> Broadcast {
        self.keys.sign(statement.slot, codec::encode(body))
    }

    /// A message of its enclave, made wrong in one of the ways that its step allows.
    pub fn distort(&self, message: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
        let distorted = match codec::decode(message) {
            Ok(PeerMessage::Broadcast(statement)) => {
                self.distort_statement(&statement, rng).map(PeerMessage::Broadcast)
            }
            Ok(PeerMessage::Envelope(envelope)) => {
                Some(PeerMessage::Envelope(distort_envelope(envelope, rng)))
            }
            _ => None,
        };
        distorted.map_or_else(|| message.to_vec(), |message| codec::encode(&message))
    }

    fn distort_statement(&self, statement: &Broadcast, rng: &mut fastrand::Rng) -> Option<Broadcast> {
        let body = &statement.body;
        Some(match statement.slot.step {
            Step::Commit => self.restate(statement, &Commit { deal: digest(rng) }),
            Step::Deal => self.restate(statement, &distort_deal(codec::decode(body).ok()?, rng)),
            Step::Verdict => self.restate(statement, &self.distort_verdict(statement, rng)?),
            Step::Confirm => {
                let mut confirm: Confirm = codec::decode(body).ok()?;
                if rng.bool() {
                    confirm.partial = signature(rng);
                } else {
                    confirm.certificate = digest(rng);
                }
                self.restate(statement, &confirm)
            }
            Step::Deposit => self.restate(statement, &PartialDeposit { partial: signature(rng) }),
            Step::Split => self.restate(statement, &distort_split(codec::decode(body).ok()?, rng)),
            Step::Acknowledge => {
                let wrong =
                    if rng.bool() { Acknowledge::Good(digest(rng)) } else { Acknowledge::Good(digest(rng)) };
                self.restate(statement, &wrong)
            }
            Step::Request => {
                let mut request: ReleaseRequest = codec::decode(body).ok()?;
                request.operators.reverse();
                self.restate(statement, &request)
            }
            Step::Authorise => self.restate(statement, &Authorise { request: digest(rng) }),
            // Not a statement of any ceremony.
            Step::HandOver => return None,
        })
    }

    fn distort_verdict(&self, statement: &Broadcast, rng: &mut fastrand::Rng) -> Option<Verdict> {
        let Verdict::Accept(mut deals) = codec::decode(&statement.body).ok()? else {
            return Some(Verdict::Accept(Vec::new()));
        };
        // What was distorted before may have nothing left to distort.
        if deals.is_empty() {
            return None;
        }
        let victim = rng.usize(..deals.len());
        Some(match rng.u8(..3) {
            0 => Verdict::Reject(baseless(statement, deals[victim].slot.from)),
            1 => {
                deals[victim].digest = digest(rng);
                Verdict::Accept(deals)
            }
            _ => {
                deals.pop();
                Verdict::Accept(deals)
            }
        })
    }
}

/// An accusation of somebody honest.
fn baseless(statement: &Broadcast, culprit: MemberId) -> Fault {
    Fault { culprit, proof: Proof::InvalidStatement(statement.signed_digest()) }
}

fn distort_envelope(mut envelope: Envelope, rng: &mut fastrand::Rng) -> Envelope {
    if envelope.ciphertext.is_empty() {
        return envelope;
    }
    let position = rng.usize(..envelope.ciphertext.len());
    envelope.ciphertext[position] ^= 1 << rng.u8(..8);
    envelope
}

/// Another deal than promised, in ways that a careless recipient would take.
fn distort_deal(mut deal: Deal, rng: &mut fastrand::Rng) -> Deal {
    match rng.u8(..7) {
        0 => drop(deal.commitments.pop()),
        1 => deal.commitments.push(point(rng)),
        2 => set_first(&mut deal.commitments, point(rng)),
        3 => distort_shares(&mut deal.sealed.shares, rng),
        4 => deal.commitments.iter_mut().rev().take(1).for_each(|last| *last = G1::identity().encode()),
        5 => deal.possession = signature(rng),
        _ => deal.sealed.ephemeral = point(rng),
    }
    deal
}

fn distort_split(mut split: Split, rng: &mut fastrand::Rng) -> Split {
    match rng.u8(..5) {
        0 => drop(split.commitments.pop()),
        1 => split.commitments.push(point(rng)),
        2 => set_first(&mut split.commitments, point(rng)),
        3 => split.sealed.ephemeral = point(rng),
        _ => distort_shares(&mut split.sealed.shares, rng),
    }
    split
}

fn distort_shares(shares: &mut Vec<EncryptedShare>, rng: &mut fastrand::Rng) {
    if shares.is_empty() {
        return;
    }
    match rng.u8(..3) {
        0 => drop(shares.pop()),
        1 => shares.rotate_left(1),
        _ => {
            let victim = rng.usize(..shares.len());
            shares[victim].0.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        }
    }
}

fn set_first(points: &mut [PublicKey], point: PublicKey) {
    points.iter_mut().take(1).for_each(|first| *first = point);
}

fn digest(rng: &mut fastrand::Rng) -> Digest {
    Digest(core::array::from_fn(|_| rng.u8(..)))
}

fn point(rng: &mut fastrand::Rng) -> PublicKey {
    (G1::generator() * &Scalar::from_u64(rng.u64(1..))).encode()
}

fn signature(rng: &mut fastrand::Rng) -> Signature {
    (G2::generator() * &Scalar::from_u64(rng.u64(1..))).encode()
}
