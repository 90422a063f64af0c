//! Proof that a member's enclave cheated, which anybody can check who knows the ceremony's terms and roster.

use crate::bls;
use crate::codec;
use crate::identity::{Identity, Roster};
use crate::ids::{CeremonyId, Digest, MemberId};
use crate::keygen::{self, Commit, Confirm, KeygenTerms, OpenDeal, PartialDeposit, Verdict};
use crate::message::{Broadcast, SignedDigest, Step};
use crate::pairwise::{Opening, Pair};
use crate::presign::{self, Acknowledge, PresignTerms};
use alloc::{boxed::Box, vec::Vec};
use serde::{Deserialize, Serialize};

/// Who cheated, and how one knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The cheat.
    pub culprit: MemberId,
    /// The proof.
    pub proof: Proof,
}

/// The ways to cheat that leave a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// Two different statements in one slot.
    Equivocation(SignedDigest, SignedDigest),
    /// A deal that is not the one committed to.
    BrokenCommitment {
        /// The commitment.
        commit: Broadcast,
        /// Something else.
        deal: Broadcast,
    },
    /// A statement that is wrong by itself: it does not decode, or fails a check that needs no secret.
    InvalidStatement(Broadcast),
    /// An encrypted share that does not decrypt, or lies on another polynomial.
    BadShare {
        /// The deal or split.
        statement: Broadcast,
        /// Whose share it is.
        recipient: MemberId,
        /// The key of this one ciphertext.
        opening: Opening,
    },
    /// A confirmation or partial signature that does not fit the deals which its own speaker accepted.
    InvalidPartial {
        /// All deals, in the order of the terms.
        deals: Vec<Broadcast>,
        /// The speaker's acceptance of just these: without it an equivocating dealer could frame an honest member.
        verdict: Box<Broadcast>,
        /// The confirmation or partial signature.
        statement: Broadcast,
    },
    /// An accusation that does not hold.
    FalseAccusation(Box<Broadcast>),
}

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the accusation of {0} is not proved")]
pub struct Unproved(pub MemberId);

/// The terms by which statements are judged.
#[derive(Debug, Clone, Copy)]
pub enum TermsRef<'a> {
    /// Of a keygen.
    Keygen(&'a KeygenTerms),
    /// Of a presign.
    Presign(&'a PresignTerms),
}

/// What a proof is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Court<'a> {
    /// The ceremony.
    pub ceremony: CeremonyId,
    /// Its terms.
    pub terms: TermsRef<'a>,
    /// Its participants.
    pub roster: &'a Roster,
}

impl Fault {
    /// Checks the proof.
    pub fn verify(&self, court: &Court<'_>) -> Result<(), Unproved> {
        if court.proves(self) { Ok(()) } else { Err(Unproved(self.culprit)) }
    }
}

impl Court<'_> {
    /// Accusations of accusations are followed to their end, in a loop: each turns the judgement round. A limit would
    /// make it depend on where one begins, so that an honest accuser could be framed; a message's length is limit enough.
    fn proves(&self, fault: &Fault) -> bool {
        let mut inner: Fault;
        let (mut fault, mut turned) = (fault, false);
        while let Proof::FalseAccusation(accusation) = &fault.proof {
            let said = self
                .roster
                .get(fault.culprit)
                .is_some_and(|culprit| self.said(culprit, accusation, accusation.slot.step));
            let Some(accused) = accused(accusation).filter(|_| said) else { return turned };
            inner = accused;
            (fault, turned) = (&inner, !turned);
        }
        self.proves_by_itself(fault) != turned
    }

    /// Judges a proof of any kind but accusations of accusations.
    fn proves_by_itself(&self, fault: &Fault) -> bool {
        let Some(culprit) = self.roster.get(fault.culprit) else {
            return false;
        };
        match &fault.proof {
            Proof::Equivocation(first, second) => {
                first.slot == second.slot
                    && first.digest != second.digest
                    && [first, second].iter().all(|said| self.said_digest(culprit, said))
            }
            Proof::BrokenCommitment { commit, deal } => {
                self.said(culprit, commit, Step::Commit)
                    && self.said(culprit, deal, Step::Deal)
                    && codec::decode::<Commit>(&commit.body)
                        .is_ok_and(|promised| promised.deal != deal.signed_digest().digest)
            }
            Proof::InvalidStatement(statement) => {
                self.said(culprit, statement, statement.slot.step) && self.is_invalid(statement)
            }
            Proof::BadShare { statement, recipient, opening } => {
                self.said(culprit, statement, statement.slot.step)
                    && self.roster.get(*recipient).is_some_and(|to| self.share_is_bad(statement, to, opening))
            }
            Proof::InvalidPartial { deals, verdict, statement } => {
                let signed: Vec<SignedDigest> = deals.iter().map(Broadcast::signed_digest).collect();
                self.said(culprit, verdict, Step::Verdict)
                    && codec::decode(&verdict.body).is_ok_and(|said: Verdict| said.accepts(&signed))
                    && self.said(culprit, statement, statement.slot.step)
                    && self.partial_is_invalid(deals, statement)
            }
            Proof::FalseAccusation(_) => false,
        }
    }

    fn said_digest(&self, speaker: &Identity, said: &SignedDigest) -> bool {
        said.slot.ceremony == self.ceremony && said.verify(speaker)
    }

    fn said(&self, speaker: &Identity, statement: &Broadcast, step: Step) -> bool {
        statement.slot.step == step && self.said_digest(speaker, &statement.signed_digest())
    }

    /// Whether a statement fails a check that needs nothing but terms and roster.
    pub fn is_invalid(&self, statement: &Broadcast) -> bool {
        let body = &statement.body;
        match (self.terms, statement.slot.step) {
            (TermsRef::Keygen(_), Step::Commit) => codec::decode::<Commit>(body).is_err(),
            (TermsRef::Keygen(terms), Step::Deal) => terms.check_deal(statement.slot.from, body).is_err(),
            (TermsRef::Keygen(terms), Step::Verdict) => match codec::decode::<Verdict>(body) {
                Ok(Verdict::Accept(deals)) => !self.are_deals(terms, &deals),
                Ok(Verdict::Reject(_)) => false,
                Err(_) => true,
            },
            (TermsRef::Keygen(_), Step::Confirm) => codec::decode::<Confirm>(body).is_err(),
            (TermsRef::Keygen(_), Step::Deposit) => codec::decode::<PartialDeposit>(body).is_err(),
            (TermsRef::Presign(terms), Step::Split) => terms.check_split(statement.slot.from, body).is_err(),
            (TermsRef::Presign(_), Step::Acknowledge) => codec::decode::<Acknowledge>(body).is_err(),
            // A step of another protocol under this ceremony's id.
            _ => true,
        }
    }

    /// Whether an acceptance lists one authentic deal of each operator, in order.
    fn are_deals(&self, terms: &KeygenTerms, deals: &[SignedDigest]) -> bool {
        deals.len() == terms.operators.len()
            && deals.iter().zip(&terms.operators).all(|(deal, operator)| {
                (deal.slot.step, deal.slot.from, deal.slot.item) == (Step::Deal, *operator, 0)
                    && self.roster.get(*operator).is_some_and(|dealer| self.said_digest(dealer, deal))
            })
    }

    fn share_is_bad(&self, statement: &Broadcast, recipient: &Identity, opening: &Opening) -> bool {
        let pair = Pair { ceremony: self.ceremony, dealer: statement.slot.from, recipient: recipient.member };
        match (self.terms, statement.slot.step) {
            (TermsRef::Keygen(terms), Step::Deal) => {
                let Ok(deal) = terms.check_deal(statement.slot.from, &statement.body) else {
                    return false;
                };
                let Some(shared) = pair.check_opening(opening, &recipient.dealing, &deal.ephemeral) else {
                    return false;
                };
                let Some(share) = terms.position(recipient.member).and_then(|at| deal.shares.get(at)) else {
                    return false;
                };
                pair.open(&shared, share)
                    .and_then(|plain| keygen::share_is_good(&plain, recipient.member, &deal.commitments))
                    .is_none()
            }
            (TermsRef::Presign(terms), Step::Split) => {
                let Ok(split) = terms.check_split(statement.slot.from, &statement.body) else {
                    return false;
                };
                let Some(shared) = pair.check_opening(opening, &recipient.dealing, &split.ephemeral) else {
                    return false;
                };
                let Some(share) = terms.position(recipient.member).and_then(|at| split.shares.get(at)) else {
                    return false;
                };
                let message = terms.exit_message();
                pair.open(&shared, share)
                    .and_then(|plain| {
                        presign::exit_share_is_good(&plain, recipient.member, &split.polynomial, &message)
                    })
                    .is_none()
            }
            _ => false,
        }
    }

    fn partial_is_invalid(&self, deals: &[Broadcast], statement: &Broadcast) -> bool {
        let TermsRef::Keygen(terms) = self.terms else {
            return false;
        };
        let open: Result<Vec<OpenDeal>, _> =
            deals.iter().map(|deal| terms.check_deal(deal.slot.from, &deal.body)).collect();
        let Ok(open) = open else { return false };
        let digests: Vec<(Digest, &bls::Commitments)> = deals
            .iter()
            .map(|deal| Broadcast::digest_of(&deal.body))
            .zip(open.iter().map(|deal| &deal.commitments))
            .collect();
        let certificate = terms.certificate(&digests);
        let key =
            bls::Commitments::sum(open.iter().map(|deal| &deal.commitments)).evaluate(statement.slot.from);
        match statement.slot.step {
            Step::Confirm => codec::decode::<Confirm>(&statement.body).is_ok_and(|confirm| {
                confirm.certificate != certificate.digest()
                    || !partial_is_good(&key, &certificate.confirm_message(), &confirm.partial)
            }),
            Step::Deposit => codec::decode::<PartialDeposit>(&statement.body).is_ok_and(|deposit| {
                !partial_is_good(&key, &terms.deposit_hash(certificate.pubkey()), &deposit.partial)
            }),
            _ => false,
        }
    }
}

/// Whether a partial signature is one under the public key of its share.
pub fn partial_is_good(key: &bls::G1, message: &bls::G2, partial: &bls::Signature) -> bool {
    partial.decode().is_ok_and(|partial| bls::verify_point(key, message, &partial).is_ok())
}

/// Whom a statement accuses.
pub fn accused(statement: &Broadcast) -> Option<Fault> {
    match statement.slot.step {
        Step::Verdict => match codec::decode(&statement.body).ok()? {
            Verdict::Reject(fault) => Some(*fault),
            Verdict::Accept(_) => None,
        },
        Step::Acknowledge => match codec::decode(&statement.body).ok()? {
            Acknowledge::Bad(fault) => Some(*fault),
            Acknowledge::Good(_) => None,
        },
        _ => None,
    }
}
