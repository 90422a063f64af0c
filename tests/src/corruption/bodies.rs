//! What each step's statement may falsely say: something made up, or something that somebody else has said.

use super::{Corrupt, Scene};
use crate::attack;
use fastrand::Rng;
use postern_shared::agreement::{Adopted, Choice, Content, Proposal, Said};
use postern_shared::bls::{G1, G2, PublicKey, Scalar, Signature};
use postern_shared::codec;
use postern_shared::dealing::Deal;
use postern_shared::ids::{Digest, MemberId};
use postern_shared::message::{Broadcast, Slot, Step};
use postern_shared::presign::Split;
use postern_shared::sealed_shares::{EncryptedShare, SealedShares};

/// The parts of a deal or a split of somebody else's, to be passed off as one's own.
struct Stolen {
    commitments: Vec<PublicKey>,
    possession: Option<Signature>,
    sealed: SealedShares,
}

/// A deal or split of somebody else's, from this ceremony or any other that hosts have seen.
fn stolen(liar: &Corrupt, scene: &Scene<'_>, rng: &mut fastrand::Rng) -> Option<Stolen> {
    let own = liar.keys.identity().member;
    let dealt =
        |said: &&Broadcast| said.slot.from != own && matches!(said.slot.step, Step::Deal | Step::Split);
    let found: Vec<&Broadcast> = scene.heard.values().filter(dealt).collect();
    let said = rng.choice(found)?;
    if said.slot.step == Step::Deal {
        let Deal { commitments, possession, sealed } = codec::decode(&said.body).ok()?;
        return Some(Stolen { commitments, possession: Some(possession), sealed });
    }
    let Split { commitments, sealed } = codec::decode(&said.body).ok()?;
    Some(Stolen { commitments, possession: None, sealed })
}

/// How a liar seals what it deals.
enum Sealing {
    /// With a key that it knows, and a proof of that.
    Known(Scalar),
    /// As it is: with a proof that may be about something else.
    AsItIs,
    /// Under the key that somebody else has made, who has proved to know it.
    Stolen(SealedShares),
}

impl Sealing {
    /// With its enclave's key, or another that it knows: its shares are then rubbish.
    fn own(liar: &Corrupt, slot: Slot, rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..8) {
            0 => Self::AsItIs,
            1 => Self::Known(Scalar::from_u64(rng.u64(1..))),
            _ => Self::Known(attack::ephemeral(liar, slot)),
        }
    }

    fn apply(
        self,
        sealed: SealedShares,
        liar: &Corrupt,
        slot: Slot,
        rest: &impl serde::Serialize,
        rng: &mut fastrand::Rng,
    ) -> SealedShares {
        match self {
            Self::AsItIs => sealed,
            Self::Known(ephemeral) => attack::proved(liar, slot, rest, &ephemeral, sealed.shares),
            Self::Stolen(stolen) if rng.bool() => SealedShares { shares: sealed.shares, ..stolen },
            Self::Stolen(stolen) => SealedShares { ephemeral: stolen.ephemeral, ..sealed },
        }
    }
}

/// Another deal than promised, in ways that a careless recipient would take.
pub(super) fn distort_deal(
    mut deal: Deal,
    slot: Slot,
    liar: &Corrupt,
    scene: &Scene<'_>,
    rng: &mut fastrand::Rng,
) -> Deal {
    let mut sealing = Sealing::own(liar, slot, rng);
    match (rng.u8(..12), stolen(liar, scene, rng)) {
        (6 | 7, Some(stolen)) => sealing = Sealing::Stolen(stolen.sealed),
        (8, Some(stolen)) => deal.commitments = stolen.commitments,
        (9, Some(stolen)) => deal.possession = stolen.possession.unwrap_or(deal.possession),
        (10, Some(stolen)) => deal.sealed = stolen.sealed,
        (11, Some(stolen)) => {
            deal.commitments = stolen.commitments;
            deal.possession = stolen.possession.unwrap_or(deal.possession);
        }
        (0, _) => drop(deal.commitments.pop()),
        (1, _) => deal.commitments.push(point(rng)),
        (2, _) => set_first(&mut deal.commitments, point(rng)),
        (3, _) => set_last(&mut deal.commitments, G1::identity().encode()),
        (4, _) => deal.possession = signature(rng),
        _ => distort_shares(&mut deal.sealed.shares, rng),
    }
    let rest = deal.rest();
    deal.sealed = sealing.apply(deal.sealed, liar, slot, &rest, rng);
    deal
}

/// A split that some guardian can't use, in ways that a careless one would take.
pub(super) fn distort_split(
    mut split: Split,
    slot: Slot,
    liar: &Corrupt,
    scene: &Scene<'_>,
    rng: &mut fastrand::Rng,
) -> Split {
    let mut sealing = Sealing::own(liar, slot, rng);
    match (rng.u8(..8), stolen(liar, scene, rng)) {
        (4 | 5, Some(stolen)) => sealing = Sealing::Stolen(stolen.sealed),
        (6, Some(stolen)) => split.commitments = stolen.commitments,
        (7, Some(stolen)) => split.sealed = stolen.sealed,
        (0, _) => drop(split.commitments.pop()),
        (1, _) => split.commitments.push(point(rng)),
        (2, _) => set_first(&mut split.commitments, point(rng)),
        _ => distort_shares(&mut split.sealed.shares, rng),
    }
    split.sealed = sealing.apply(split.sealed, liar, slot, &split.commitments, rng);
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

fn set_last(points: &mut [PublicKey], point: PublicKey) {
    points.iter_mut().rev().take(1).for_each(|last| *last = point);
}

pub(super) fn digest(rng: &mut fastrand::Rng) -> Digest {
    Digest(core::array::from_fn(|_| rng.u8(..)))
}

fn point(rng: &mut fastrand::Rng) -> PublicKey {
    (G1::generator() * &Scalar::from_u64(rng.u64(1..))).encode()
}

pub(super) fn signature(rng: &mut fastrand::Rng) -> Signature {
    (G2::generator() * &Scalar::from_u64(rng.u64(1..))).encode()
}

/// Something else in an agreement, of the same kind.
pub(super) fn distort_said(mut said: Said, scene: &Scene<'_>, rng: &mut Rng) -> Option<Said> {
    // What others have said of the same decision: choices, and proofs of them.
    let others: Vec<Said> = scene.heard.values().filter_map(Said::of).collect();
    let like = |other: &&Said| other.subject == said.subject;
    let of_subject: Vec<&Said> = others.iter().filter(like).collect();
    let choices = of_subject.iter().filter_map(|other| match &other.content {
        Content::Vote(choice) | Content::Adopt(choice) => Some(*choice),
        _ => None,
    });
    let choices: Vec<Choice> = choices.collect();
    let choice = rng.choice(choices).unwrap_or(Choice { value: digest(rng), origin: said.attempt });
    match &mut said.content {
        Content::Vote(other) | Content::Adopt(other) => {
            *other =
                if *other != choice && rng.bool() { choice } else { Choice { value: digest(rng), ..*other } };
        }
        Content::Quit(adopted) => {
            let votes = of_subject.iter().filter_map(|other| match &other.content {
                Content::Quit(Some(adopted)) => Some(adopted.votes.clone()),
                _ => None,
            });
            let votes = rng.choice(votes.collect::<Vec<_>>()).unwrap_or_default();
            *adopted = match adopted.take() {
                Some(_) if rng.bool() => None,
                _ => Some(Adopted { attempt: said.attempt, choice, votes }),
            };
        }
        Content::Propose(propose) => match &mut propose.proposal {
            _ if rng.u8(..4) == 0 => drop(propose.quits.pop()),
            Proposal::Run(run) if rng.bool() => drop(run.operators.pop()),
            Proposal::Run(run) => run.operators.push(MemberId(rng.u16(..9))),
            proposal => *proposal = Proposal::Again(choice),
        },
        Content::Decide(decision, _) => match rng.u8(..3) {
            0 => decision.choice.value = digest(rng),
            1 => drop(decision.adopts.pop()),
            _ => decision.adopts.iter_mut().for_each(|(member, _)| *member = MemberId(rng.u16(..9))),
        },
    }
    Some(said)
}
