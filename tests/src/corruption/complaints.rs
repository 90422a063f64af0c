//! Accusations that do not hold, each as near to the truth as what the liar has heard allows.

use super::disclosed::dealt;
use super::{Corrupt, Scene};
use postern_shared::bls::{G1, Scalar};
use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::{CeremonyId, MemberId};
use postern_shared::message::{Broadcast, Slot, Step};
use postern_shared::presign::Acknowledge;
use postern_shared::sealed_shares::{Opening, Pair};

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
            let statement = heard.of(rng, |_| true)?;
            by(&statement, Proof::InvalidStatement(statement.signed_digest()))
        }
        // The same said twice, or two different things that it said in two places.
        1 => {
            let first = heard.of(rng, |_| true)?;
            let second = heard.of(rng, |slot| slot.from == first.slot.from)?;
            by(&first, Proof::Equivocation(first.signed_digest(), second.signed_digest()))
        }
        // Another thing in the same place, in the liar's hand.
        2 => {
            let first = heard.of(rng, |_| true)?;
            let forged = liar.keys.sign(first.slot, vec![rng.u8(..)]);
            by(&first, Proof::Equivocation(first.signed_digest(), forged.signed_digest()))
        }
        3 => {
            let deal = heard.of(rng, |slot| slot.step == Step::Deal)?;
            let commit = heard.of(rng, |slot| slot.step == Step::Commit && slot.from == deal.slot.from)?;
            let (commit, named) = (commit.signed_digest(), deal.signed_digest());
            by(&deal, Proof::BrokenCommitment { commit, deal: named })
        }
        4 | 5 => {
            let dealing = heard.of(rng, |slot| matches!(slot.step, Step::Deal | Step::Split))?;
            let (recipient, opening) = opening(liar, &dealing, scene, rng)?;
            by(&dealing, Proof::BadShare { statement: dealing.signed_digest(), recipient, opening })
        }
        6 => {
            let said = heard.of(rng, |slot| matches!(slot.step, Step::Confirm | Step::Deposit))?;
            let verdict = heard.of(rng, |slot| slot.step == Step::Verdict && slot.from == said.slot.from)?;
            let (verdict, statement) = (verdict.signed_digest(), said.signed_digest());
            by(&said, Proof::InvalidPartial { verdict, statement })
        }
        // Of an acceptance, of an accusation, or of an accusation of an accusation.
        _ => {
            let said = heard.of(rng, |slot| matches!(slot.step, Step::Verdict | Step::Acknowledge))?;
            by(&said, Proof::FalseAccusation(said.signed_digest()))
        }
    };
    let another = MemberId(rng.u16(1..=scene.cluster.manifest.members.len() as u16));
    Some(if rng.u8(..8) == 0 { Fault { culprit: another, ..fault } } else { fault })
}

/// A guardian's complaint about a share that may be good.
pub(super) fn complaint_about_split(
    liar: &Corrupt,
    slot: Slot,
    scene: &Scene<'_>,
    rng: &mut fastrand::Rng,
) -> Option<Acknowledge> {
    let heard = Heard { ceremony: slot.ceremony, scene };
    let anybodys = rng.u8(..4) == 0;
    let split = heard.of(rng, |said| said.step == Step::Split && (anybodys || said.from.0 == slot.item))?;
    let (_, opening) = opening(liar, &split, scene, rng)?;
    Some(Acknowledge::Bad { split: split.signed_digest(), opening })
}

fn by(statement: &Broadcast, proof: Proof) -> Fault {
    Fault { culprit: statement.slot.from, proof }
}

/// The true key of the liar's own share, or one that is false in some way.
fn opening(
    liar: &Corrupt,
    statement: &Broadcast,
    scene: &Scene<'_>,
    rng: &mut fastrand::Rng,
) -> Option<(MemberId, Opening)> {
    let (shares, _) = dealt(statement)?;
    let recipient = liar.keys.identity();
    let keys = scene.cluster.node(statement.slot.from).keys();
    let pair = Pair { slot: statement.slot, dealer: keys.identity(), recipient };
    let mut opening = liar.keys.disclose(&liar.coins, &pair, &shares);
    match rng.u8(..3) {
        0 => opening.shared = (G1::generator() * &Scalar::from_u64(rng.u64(1..))).encode(),
        1 => return Some((MemberId(rng.u16(1..8)), opening)),
        _ => {}
    }
    Some((recipient.member, opening))
}

/// What was said in a ceremony, and elsewhere.
struct Heard<'a> {
    ceremony: CeremonyId,
    scene: &'a Scene<'a>,
}

impl Heard<'_> {
    /// Some statement of this ceremony that fits, honest or not; rarely of another ceremony.
    fn of(&self, rng: &mut fastrand::Rng, fits: impl Fn(&Slot) -> bool) -> Option<Broadcast> {
        let elsewhere = rng.u8(..8) == 0;
        let heard = self.scene.heard.values().chain(self.scene.lies.values());
        let fitting: Vec<&Broadcast> = heard
            .filter(|said| fits(&said.slot) && (elsewhere || said.slot.ceremony == self.ceremony))
            .collect();
        rng.choice(fitting).cloned()
    }
}
