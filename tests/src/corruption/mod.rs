//! Enclaves whose attested keys are in the attacker's hands: they say valid-looking, well-signed, wrong things.
//!
//! - [`bodies`]: what each step's statement may falsely say.
//! - [`complaints`]: accusations that do not hold.
//! - [`disclosed`]: what an adversary gets out of the complaints of honest enclaves.

mod bodies;
mod complaints;
pub mod disclosed;

use crate::attack;
use crate::cluster::{Cluster, Node, pool};
use bodies::{digest, distort_deal, distort_said, distort_split, signature};
use complaints::{complaint, complaint_about_split};
use fastrand::Rng;
use postern_enclave::coins::Coins;
use postern_enclave::keys::IdentityKeys;
use postern_shared::bls::{G2, Scalar};
use postern_shared::codec;
use postern_shared::dealing::{Commit, Confirm, Verdict};
use postern_shared::ids::{CeremonyId, Digest, MemberId};
use postern_shared::keygen::{KeygenTerms, PartialDeposit};
use postern_shared::message::{Broadcast, Envelope, MAX_BODY, PeerMessage, Slot, Step};
use postern_shared::presign::{Acknowledge, Split};
use postern_shared::release::Released;
use serde::Serialize;
use std::collections::BTreeMap;

/// The longest body that any enclave may hear of.
const LONGEST_BODY: usize = MAX_BODY;
/// How many different things a liar says in one slot at a time, at most.
const MOST_AT_A_TIME: usize = 6;

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
}

/// What liars know besides their own keys: all that hosts do.
pub struct Scene<'a> {
    /// The DAO; of honest enclaves only what is public.
    pub cluster: &'a Cluster,
    /// What was said in every slot so far.
    pub heard: &'a BTreeMap<Slot, Broadcast>,
    /// What liars have said instead.
    pub lies: &'a BTreeMap<(Slot, Digest), Broadcast>,
}

/// A corrupted enclave, and what it has made up its mind to say. What it is told to do is in a number: the same number in
/// the same place is the same lie.
pub struct Liar {
    corrupt: Corrupt,
    /// The only step that it lies at, if it does not lie at every one.
    aim: Option<Step>,
    /// What it says in these slots, unless it changes its mind: what it has said there first, or means to say.
    plans: BTreeMap<Slot, Broadcast>,
}

impl Liar {
    /// Breaks an enclave open.
    pub fn of(node: &Node, aim: Option<Step>) -> Self {
        Self { corrupt: Corrupt::of(node), aim, plans: BTreeMap::new() }
    }

    /// Whether it lies at a step. What it means to deal it has to promise first.
    fn lies_at(&self, step: Step) -> bool {
        let promises = (step, self.aim) == (Step::Commit, Some(Step::Deal));
        promises || self.aim.is_none_or(|aim| aim == step)
    }

    fn id(&self) -> MemberId {
        self.corrupt.keys.identity().member
    }

    /// What is said in place of a message of its enclave.
    pub fn say(&mut self, message: &[u8], scene: &Scene<'_>, lie: Option<u32>) -> Vec<Vec<u8>> {
        let mut rng = lie.map(|lie| Rng::with_seed(lie.into()));
        match (codec::decode(message), &mut rng) {
            (Ok(PeerMessage::Broadcast(statement)), rng) => {
                let said = self.state(&statement, scene, rng.as_mut());
                said.into_iter().map(attack::message).collect()
            }
            (Ok(PeerMessage::Envelope(envelope)), Some(rng)) => {
                let lies = self.aim.is_none() && rng.u8(..4) == 0;
                let said = if lies { self.distort_envelope(envelope, scene, rng) } else { envelope };
                vec![codec::encode(&PeerMessage::Envelope(said))]
            }
            _ => vec![message.to_vec()],
        }
    }

    /// Something in a slot that its enclave has not filled, or has filled otherwise.
    pub fn volunteer(&mut self, scene: &Scene<'_>, lie: u32) -> Option<Vec<u8>> {
        let rng = &mut Rng::with_seed(lie.into());
        let aimed: Vec<&Broadcast> =
            scene.heard.values().filter(|said| self.lies_at(said.slot.step)).collect();
        let like = rng.choice(aimed)?;
        let members = scene.cluster.manifest.members.len() as u16;
        let item = if like.slot.step == Step::Acknowledge { rng.u16(1..=members) } else { 0 };
        let slot = Slot { from: self.id(), item, ..like.slot };
        let copied = self.corrupt.keys.sign(slot, like.body.clone());
        let said = if rng.bool() { self.lie(&copied, scene, rng).unwrap_or(copied) } else { copied };
        Some(attack::message(said))
    }

    fn state(&mut self, honest: &Broadcast, scene: &Scene<'_>, rng: Option<&mut Rng>) -> Vec<Broadcast> {
        let slot = honest.slot;
        let planned = self.plans.get(&slot).cloned();
        let Some(rng) = rng.filter(|_| self.lies_at(slot.step)) else {
            return vec![self.plans.entry(slot).or_insert_with(|| honest.clone()).clone()];
        };
        // Who says something else to each recipient is convicted of that; who sticks to a lie gets further.
        let changes_mind = rng.u8(..8) == 0;
        if let Some(planned) = planned {
            let other = if changes_mind { self.lie(honest, scene, rng) } else { None };
            return vec![other.unwrap_or(planned)];
        }
        let promises = slot.step == Step::Commit && (self.aim == Some(Step::Deal) || rng.bool());
        let count = if changes_mind { rng.usize(2..=MOST_AT_A_TIME) } else { 1 };
        let mut said: Vec<Broadcast> = if promises {
            self.plan_deal(honest, scene, rng).into_iter().collect()
        } else {
            (0..count).filter_map(|_| self.lie(honest, scene, rng)).collect()
        };
        if said.is_empty() {
            said.push(honest.clone());
        }
        self.plans.extend(said.last().map(|last| (slot, last.clone())));
        said
    }

    /// Promises a deal that is wrong in some way, to keep the promise later: then its commitment proves nothing.
    fn plan_deal(&mut self, commit: &Broadcast, scene: &Scene<'_>, rng: &mut Rng) -> Option<Broadcast> {
        let terms = self.terms(commit.slot.ceremony, scene)?;
        let coefficients: Vec<Scalar> =
            (0..terms.threshold).map(|_| Scalar::from_u64(rng.u64(1..))).collect();
        let mut deal = attack::deal(scene.cluster, &terms, &self.corrupt, &coefficients);
        if rng.u8(..8) != 0 {
            deal = distort_deal(deal, Slot { step: Step::Deal, ..commit.slot }, &self.corrupt, scene, rng);
        }
        let slot = Slot { step: Step::Deal, ..commit.slot };
        let deal = self.corrupt.keys.sign(slot, codec::encode(&deal));
        let promise = self.corrupt.restate(commit, &Commit { deal: deal.signed_digest().digest });
        self.plans.insert(slot, deal);
        Some(promise)
    }

    fn terms(&self, ceremony: CeremonyId, scene: &Scene<'_>) -> Option<KeygenTerms> {
        let own = &scene.cluster.node(self.id()).core;
        let keygens = (1..=4).filter_map(|number| own.keygen(pool(number)));
        keygens.map(|keygen| keygen.terms()).find(|terms| terms.ceremony() == ceremony).cloned()
    }

    /// Its enclave's statement, made wrong in one of the ways that any step or its own allows.
    fn lie(&self, honest: &Broadcast, scene: &Scene<'_>, rng: &mut Rng) -> Option<Broadcast> {
        match rng.u8(..32) {
            // The longest that may be heard, and one byte more: of nothing, or of something that begins well.
            0 => Some(self.padded(honest, LONGEST_BODY + rng.usize(..2), rng.bool())),
            1 => Some(self.corrupt.keys.sign(honest.slot, vec![rng.u8(..); rng.usize(..64)])),
            // What somebody else has said at this step, in this ceremony or another.
            2..5 => {
                let like =
                    |said: &&Broadcast| said.slot.step == honest.slot.step && said.slot.from != self.id();
                let said: Vec<&Broadcast> = scene.heard.values().filter(like).collect();
                Some(self.corrupt.keys.sign(honest.slot, rng.choice(said)?.body.clone()))
            }
            _ => self.lie_of_step(honest, scene, rng),
        }
    }

    fn padded(&self, honest: &Broadcast, length: usize, well_begun: bool) -> Broadcast {
        let mut body = if well_begun { honest.body.clone() } else { Vec::new() };
        body.resize(length, 0xff);
        self.corrupt.keys.sign(honest.slot, body)
    }

    fn lie_of_step(&self, honest: &Broadcast, scene: &Scene<'_>, rng: &mut Rng) -> Option<Broadcast> {
        let (body, liar) = (&honest.body, &self.corrupt);
        Some(match honest.slot.step {
            Step::Commit => liar.restate(honest, &Commit { deal: digest(rng) }),
            Step::Deal => {
                liar.restate(honest, &distort_deal(codec::decode(body).ok()?, honest.slot, liar, scene, rng))
            }
            Step::Verdict => liar.restate(honest, &self.distort_verdict(honest, scene, rng)?),
            Step::Confirm => {
                let mut confirm: Confirm = codec::decode(body).ok()?;
                if rng.bool() {
                    confirm.partial = signature(rng);
                } else {
                    confirm.certificate = digest(rng);
                }
                liar.restate(honest, &confirm)
            }
            Step::Deposit => liar.restate(honest, &PartialDeposit { partial: signature(rng) }),
            Step::Split => {
                let split: Split = codec::decode(body).ok()?;
                liar.restate(honest, &distort_split(split, honest.slot, liar, scene, rng))
            }
            Step::Acknowledge => {
                let wrong = if rng.u8(..4) == 0 {
                    Acknowledge::Good(digest(rng))
                } else {
                    complaint_about_split(liar, honest.slot, scene, rng)?
                };
                liar.restate(honest, &wrong)
            }
            // Nothing can be said in these but that they are said.
            Step::Call | Step::Authorise => liar.keys.sign(honest.slot, vec![rng.u8(..)]),
            Step::Released => {
                let mut released: Released = codec::decode(body).ok()?;
                match rng.u8(..4) {
                    0 => released.signature = signature(rng),
                    1 => drop(released.authorised.pop()),
                    2 => released.authorised.reverse(),
                    _ => released.authorised.extend(released.authorised.clone()),
                }
                liar.restate(honest, &released)
            }
            Step::Propose | Step::Vote | Step::Adopt | Step::Quit | Step::Decide => {
                liar.restate(honest, &distort_said(codec::decode(body).ok()?, scene, rng)?)
            }
            // Not statements of any ceremony.
            Step::HandOver | Step::Share => return None,
        })
    }

    fn distort_verdict(&self, honest: &Broadcast, scene: &Scene<'_>, rng: &mut Rng) -> Option<Verdict> {
        let complaint = |rng: &mut Rng| complaint(&self.corrupt, honest.slot.ceremony, scene, rng);
        let Verdict::Accept(mut deals) = codec::decode(&honest.body).ok()? else {
            return Some(if rng.bool() {
                Verdict::Accept(Vec::new())
            } else {
                Verdict::Reject(complaint(rng)?)
            });
        };
        // What was distorted before may have nothing left to distort.
        if deals.is_empty() {
            return None;
        }
        let victim = rng.usize(..deals.len());
        match rng.u8(..8) {
            0 => deals[victim].digest = digest(rng),
            1 => drop(deals.pop()),
            2 => deals.swap(0, victim),
            // Longer than any honest one.
            3 => {
                deals = deals
                    .iter()
                    .cycle()
                    .take(LONGEST_BODY / codec::encode(&deals[0]).len())
                    .copied()
                    .collect()
            }
            _ => return Some(Verdict::Reject(complaint(rng)?)),
        }
        Some(Verdict::Accept(deals))
    }

    /// Bytes that do not open, or shares that do and are not good.
    fn distort_envelope(&self, mut envelope: Envelope, scene: &Scene<'_>, rng: &mut Rng) -> Envelope {
        let header = envelope.header;
        if header.slot.step == Step::Share && rng.bool() {
            let members = scene.cluster.manifest.members.len() as u16;
            let mut given = Vec::new();
            for operator in 1..=rng.u16(1..=members + 1) {
                given.extend(operator.to_be_bytes());
                given.extend((G2::generator() * &Scalar::from_u64(rng.u64(1..))).encode().0);
            }
            given.truncate(given.len() - usize::from(rng.u8(..8) == 0));
            let to = scene.cluster.node(header.to).keys();
            let Corrupt { keys, coins } = &self.corrupt;
            return keys.seal(coins, header, to.identity(), &given).unwrap_or(envelope);
        }
        if !envelope.ciphertext.is_empty() {
            let position = rng.usize(..envelope.ciphertext.len());
            envelope.ciphertext[position] ^= 1 << rng.u8(..8);
        }
        envelope
    }
}
