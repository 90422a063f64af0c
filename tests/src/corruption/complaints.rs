//! Accusations that do not hold, each as near to the truth as what the liar has heard allows.

use super::{Corrupt, Scene};
use postern_shared::bls::{G1, Scalar};
use postern_shared::codec;
use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::{CeremonyId, MemberId};
use postern_shared::keygen::{Deal, Verdict};
use postern_shared::message::{Broadcast, Slot, Step};
use postern_shared::pairwise::{Opening, Pair};
use postern_shared::presign::{Acknowledge, Split};

/// How deep accusations of accusations go at most.
const DEEPEST: usize = 12;

/// An accusation in a ceremony, with some kind of proof.
pub(super) fn complaint(
    liar: &Corrupt,
    ceremony: CeremonyId,
    scene: &Scene<'_>,
    rng: &mut fastrand::Rng,
) -> Option<Fault> {
    let heard = Heard { ceremony, scene };
    let fault = match rng.u8(..8) {
        0 => {
            let statement = heard.any(rng)?;
            by(&statement, Proof::InvalidStatement(statement.clone()))
        }
        // The same said twice, or two different things that it said in two places.
        1 => {
            let first = heard.any(rng)?;
            let second = heard.of(rng, |slot| slot.from == first.slot.from)?;
            by(&first, Proof::Equivocation(first.signed_digest(), second.signed_digest()))
        }
        // Its own signature over another digest.
        2 => {
            let first = heard.any(rng)?;
            let forged = liar.keys.sign(first.slot, vec![rng.u8(..)]);
            by(&first, Proof::Equivocation(first.signed_digest(), forged.signed_digest()))
        }
        3 => {
            let deal = heard.step(rng, Step::Deal)?;
            let commit = heard.of(rng, |slot| slot.step == Step::Commit && slot.from == deal.slot.from)?;
            by(&deal, Proof::BrokenCommitment { commit, deal: deal.clone() })
        }
        4 | 5 => {
            let statement = heard.of(rng, |slot| matches!(slot.step, Step::Deal | Step::Split))?;
            let (recipient, opening) = opening(liar, &statement, rng)?;
            by(&statement, Proof::BadShare { statement: statement.clone(), recipient, opening })
        }
        6 => {
            let statement = heard.of(rng, |slot| matches!(slot.step, Step::Confirm | Step::Deposit))?;
            let verdict =
                heard.of(rng, |slot| slot.step == Step::Verdict && slot.from == statement.slot.from)?;
            let deals = heard.all(Step::Deal);
            by(
                &statement,
                Proof::InvalidPartial { deals, verdict: Box::new(verdict), statement: statement.clone() },
            )
        }
        _ => {
            let said = heard.of(rng, |slot| matches!(slot.step, Step::Verdict | Step::Acknowledge))?;
            let mut fault = by(&said, Proof::FalseAccusation(Box::new(said.clone())));
            for _ in 0..rng.usize(..DEEPEST) {
                fault = accuse_again(liar, said.slot, fault);
            }
            fault
        }
    };
    let another = MemberId(rng.u16(1..=scene.cluster.manifest.members.len() as u16));
    Some(if rng.u8(..8) == 0 { Fault { culprit: another, ..fault } } else { fault })
}

fn by(statement: &Broadcast, proof: Proof) -> Fault {
    Fault { culprit: statement.slot.from, proof }
}

/// An accusation that the liar makes, accused by itself.
fn accuse_again(liar: &Corrupt, like: Slot, fault: Fault) -> Fault {
    let from = liar.keys.identity().member;
    let body = match like.step {
        Step::Verdict => codec::encode(&Verdict::Reject(Box::new(fault))),
        _ => codec::encode(&Acknowledge::Bad(Box::new(fault))),
    };
    let accusation = liar.keys.sign(Slot { from, ..like }, body);
    by(&accusation, Proof::FalseAccusation(Box::new(accusation.clone())))
}

/// The true key of the liar's own share, or one that is false in some way.
fn opening(liar: &Corrupt, statement: &Broadcast, rng: &mut fastrand::Rng) -> Option<(MemberId, Opening)> {
    let ephemeral = match statement.slot.step {
        Step::Deal => codec::decode::<Deal>(&statement.body).ok()?.ephemeral,
        _ => codec::decode::<Split>(&statement.body).ok()?.ephemeral,
    };
    let own = liar.keys.identity().member;
    let pair = Pair { ceremony: statement.slot.ceremony, dealer: statement.slot.from, recipient: own };
    let mut opening = liar.keys.disclose(&liar.coins, &pair, &ephemeral.decode().ok()?);
    match rng.u8(..3) {
        0 => opening.shared = (G1::generator() * &Scalar::from_u64(rng.u64(1..))).encode(),
        1 => return Some((MemberId(rng.u16(1..8)), opening)),
        _ => {}
    }
    Some((own, opening))
}

/// What was said in a ceremony, and elsewhere.
struct Heard<'a> {
    ceremony: CeremonyId,
    scene: &'a Scene<'a>,
}

impl Heard<'_> {
    /// Some statement of this ceremony that fits; rarely of another one.
    fn of(&self, rng: &mut fastrand::Rng, fits: impl Fn(&Slot) -> bool) -> Option<Broadcast> {
        let elsewhere = rng.u8(..8) == 0;
        let heard = self.scene.heard.values();
        let fitting: Vec<&Broadcast> = heard
            .filter(|said| fits(&said.slot) && (elsewhere || said.slot.ceremony == self.ceremony))
            .collect();
        rng.choice(fitting).cloned()
    }

    fn any(&self, rng: &mut fastrand::Rng) -> Option<Broadcast> {
        self.of(rng, |_| true)
    }

    fn step(&self, rng: &mut fastrand::Rng, step: Step) -> Option<Broadcast> {
        self.of(rng, |slot| slot.step == step)
    }

    fn all(&self, step: Step) -> Vec<Broadcast> {
        let here = |said: &&Broadcast| said.slot.ceremony == self.ceremony && said.slot.step == step;
        self.scene.heard.values().filter(here).cloned().collect()
    }
}
