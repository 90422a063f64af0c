//! What each step's statement may falsely say: something made up, or something that somebody else has said.

use super::Scene;
use postern_shared::bls::{G1, G2, PublicKey, Scalar, Signature};
use postern_shared::codec;
use postern_shared::ids::{Digest, MemberId};
use postern_shared::keygen::Deal;
use postern_shared::message::{Broadcast, Step};
use postern_shared::pairwise::EncryptedShare;
use postern_shared::presign::Split;

/// What a deal or a split of somebody else's is good for: its parts, to be passed off as one's own.
struct Stolen {
    commitments: Vec<PublicKey>,
    possession: Option<Signature>,
    ephemeral: PublicKey,
    shares: Vec<EncryptedShare>,
}

/// A deal or split of somebody else's, from this ceremony or any other that hosts have seen.
fn stolen(liar: MemberId, scene: &Scene<'_>, rng: &mut fastrand::Rng) -> Option<Stolen> {
    let dealt =
        |said: &&Broadcast| said.slot.from != liar && matches!(said.slot.step, Step::Deal | Step::Split);
    let found: Vec<&Broadcast> = scene.heard.values().filter(dealt).collect();
    let said = rng.choice(found)?;
    if said.slot.step == Step::Deal {
        let Deal { commitments, possession, ephemeral, shares } = codec::decode(&said.body).ok()?;
        return Some(Stolen { commitments, possession: Some(possession), ephemeral, shares });
    }
    let Split { commitments, ephemeral, shares } = codec::decode(&said.body).ok()?;
    Some(Stolen { commitments, possession: None, ephemeral, shares })
}

/// Another deal than promised, in ways that a careless recipient would take.
pub(super) fn distort_deal(
    mut deal: Deal,
    liar: MemberId,
    scene: &Scene<'_>,
    rng: &mut fastrand::Rng,
) -> Deal {
    match (rng.u8(..13), stolen(liar, scene, rng)) {
        (7, Some(stolen)) => deal.ephemeral = stolen.ephemeral,
        (8, Some(stolen)) => deal.commitments = stolen.commitments,
        (9, Some(stolen)) => deal.possession = stolen.possession.unwrap_or(deal.possession),
        (10, Some(stolen)) => deal.shares = stolen.shares,
        (11, Some(stolen)) => {
            deal.ephemeral = stolen.ephemeral;
            deal.shares = stolen.shares;
        }
        (12, Some(stolen)) => {
            deal.commitments = stolen.commitments;
            deal.possession = stolen.possession.unwrap_or(deal.possession);
        }
        (0, _) => drop(deal.commitments.pop()),
        (1, _) => deal.commitments.push(point(rng)),
        (2, _) => set_first(&mut deal.commitments, point(rng)),
        (3, _) => distort_shares(&mut deal.shares, rng),
        (4, _) => set_last(&mut deal.commitments, G1::identity().encode()),
        (5, _) => deal.possession = signature(rng),
        _ => deal.ephemeral = point(rng),
    }
    deal
}

/// A split that some guardian can't use, in ways that a careless one would take.
pub(super) fn distort_split(
    mut split: Split,
    liar: MemberId,
    scene: &Scene<'_>,
    rng: &mut fastrand::Rng,
) -> Split {
    match (rng.u8(..9), stolen(liar, scene, rng)) {
        (5, Some(stolen)) => split.ephemeral = stolen.ephemeral,
        (6, Some(stolen)) => split.commitments = stolen.commitments,
        (7, Some(stolen)) => split.shares = stolen.shares,
        (8, Some(stolen)) => {
            split.ephemeral = stolen.ephemeral;
            split.shares = stolen.shares;
        }
        (0, _) => drop(split.commitments.pop()),
        (1, _) => split.commitments.push(point(rng)),
        (2, _) => set_first(&mut split.commitments, point(rng)),
        (3, _) => split.ephemeral = point(rng),
        _ => distort_shares(&mut split.shares, rng),
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
