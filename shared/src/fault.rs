//! Proof that a member's enclave cheated, which anybody can check who knows the ceremony's terms and roster, and has the
//! statements that the proof names.
//!
//! A proof names statements by digest and signature, and does not contain them: so an accusation is a few hundred bytes
//! whatever it is about, always fits a message, and an accusation of an accusation is no longer than the first. Whoever
//! judges finds the statements among those that it has heard ([`Statements`]); what it lacks, the accuser's host has.
//! A published fault brings them along ([`Court::evidence`]).

use crate::bls;
use crate::codec;
use crate::identity::{Identity, Roster};
use crate::ids::{CeremonyId, Digest, MemberId};
use crate::keygen::{self, Commit, Confirm, KeygenTerms, OpenDeal, PartialDeposit, Verdict};
use crate::message::{Broadcast, SignedDigest, Slot, Step};
use crate::presign::{self, Acknowledge, PresignTerms};
use crate::sealed_shares::{Opening, Pair};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Who cheated, and how one knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The cheat. All statements that the proof names are its own.
    pub culprit: MemberId,
    /// The proof.
    pub proof: Proof,
}

/// The ways to cheat that leave a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// Two different statements in one slot.
    Equivocation(SignedDigest, SignedDigest),
    /// A deal that is not the one committed to.
    BrokenCommitment {
        /// The commitment.
        commit: SignedDigest,
        /// Something else.
        deal: SignedDigest,
    },
    /// A statement that is wrong by itself: it does not decode, or fails a check that needs no secret.
    InvalidStatement(SignedDigest),
    /// An encrypted share that does not decrypt, or lies on another polynomial.
    BadShare {
        /// The deal or split.
        statement: SignedDigest,
        /// Whose share it is.
        recipient: MemberId,
        /// The key of this one ciphertext.
        opening: Opening,
    },
    /// A confirmation or partial signature that does not fit the deals which its own speaker accepted.
    InvalidPartial {
        /// The speaker's acceptance of all deals: without it an equivocating dealer could frame an honest member.
        verdict: SignedDigest,
        /// The confirmation or partial signature.
        statement: SignedDigest,
    },
    /// An accusation that does not hold.
    FalseAccusation(SignedDigest),
}

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the accusation of {0} is not proved")]
pub struct Unproved(pub MemberId);

/// What becomes of an accusation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The accused has cheated.
    Proved,
    /// The accuser has.
    Refuted,
    /// Nobody knows without the statement in this slot.
    Lacks(Slot),
}

/// The terms by which statements are judged.
#[derive(Debug, Clone, Copy)]
pub enum TermsRef<'a> {
    /// Of a keygen.
    Keygen(&'a KeygenTerms),
    /// Of a presign.
    Presign(&'a PresignTerms),
}

/// Where the statements are that proofs name.
pub trait Statements {
    /// The statement with this digest in this slot. Its signature may be another, as good: who has a key can sign the same
    /// in more ways than one.
    fn find(&self, said: &SignedDigest) -> Option<&Broadcast>;
}

/// Statements by slot and digest, as a published fault brings them along.
#[derive(Debug, Default)]
pub struct Exhibits<'a>(BTreeMap<(Slot, Digest), &'a Broadcast>);

impl<'a> Exhibits<'a> {
    /// Hashes each once.
    pub fn new(statements: &'a [Broadcast]) -> Self {
        let key = |said: &Broadcast| (said.slot, Broadcast::digest_of(&said.body));
        Self(statements.iter().map(|said| (key(said), said)).collect())
    }
}

impl Statements for Exhibits<'_> {
    fn find(&self, said: &SignedDigest) -> Option<&Broadcast> {
        self.0.get(&(said.slot, said.digest)).copied()
    }
}

/// What a proof is judged by.
#[derive(Clone, Copy)]
pub struct Court<'a> {
    /// The ceremony.
    pub ceremony: CeremonyId,
    /// Its terms.
    pub terms: TermsRef<'a>,
    /// Its participants.
    pub roster: &'a Roster,
    /// What was said.
    pub statements: &'a dyn Statements,
}

impl Proof {
    /// The statements that the proof names, all of them the culprit's.
    pub fn named(&self) -> impl Iterator<Item = &SignedDigest> + Clone {
        let (one, other) = match self {
            Self::Equivocation(one, other) => (one, Some(other)),
            Self::BrokenCommitment { commit, deal } => (commit, Some(deal)),
            Self::InvalidPartial { verdict, statement } => (verdict, Some(statement)),
            Self::BadShare { statement, .. } => (statement, None),
            Self::InvalidStatement(said) | Self::FalseAccusation(said) => (said, None),
        };
        core::iter::once(one).chain(other)
    }

    /// Whether the named statements are of the steps that such a proof is about.
    fn fits(&self) -> bool {
        match self {
            Self::Equivocation(one, other) => one.slot == other.slot && one.digest != other.digest,
            Self::BrokenCommitment { commit, deal } => {
                (commit.slot.step, deal.slot.step) == (Step::Commit, Step::Deal)
            }
            Self::InvalidStatement(_) => true,
            Self::BadShare { statement, .. } => matches!(statement.slot.step, Step::Deal | Step::Split),
            Self::InvalidPartial { verdict, statement } => {
                verdict.slot.step == Step::Verdict
                    && matches!(statement.slot.step, Step::Confirm | Step::Deposit)
            }
            Self::FalseAccusation(said) => matches!(said.slot.step, Step::Verdict | Step::Acknowledge),
        }
    }
}

impl Fault {
    /// Checks the proof.
    pub fn verify(&self, court: &Court<'_>) -> Result<(), Unproved> {
        match court.judge(self) {
            Judgement::Proved => Ok(()),
            Judgement::Refuted | Judgement::Lacks(_) => Err(Unproved(self.culprit)),
        }
    }
}

impl Judgement {
    fn of(proved: bool) -> Self {
        if proved { Self::Proved } else { Self::Refuted }
    }

    fn turned(self, turned: bool) -> Self {
        match self {
            Self::Proved if turned => Self::Refuted,
            Self::Refuted if turned => Self::Proved,
            same => same,
        }
    }
}

impl Court<'_> {
    /// Judges an accusation.
    ///
    /// Accusations of accusations are followed to their end, in a loop: each turns the judgement round. A limit would make
    /// it depend on where one begins, so that an honest accuser could be framed. Each names the next by its digest, so
    /// there are no circles, and there are no more of them than statements.
    pub fn judge(&self, fault: &Fault) -> Judgement {
        let (mut fault, mut turned) = (*fault, false);
        loop {
            if !self.is_well_formed(&fault) {
                return Judgement::Refuted.turned(turned);
            }
            let Proof::FalseAccusation(accusation) = &fault.proof else {
                return self.judge_by_itself(&fault).turned(turned);
            };
            let Some(said) = self.statements.find(accusation) else {
                return Judgement::Lacks(accusation.slot);
            };
            let Some(accused) = accusation_in(said) else { return Judgement::Refuted.turned(turned) };
            (fault, turned) = (accused, !turned);
        }
    }

    /// Whether the culprit has signed all that the proof names, and the proof is about such statements. Takes one or two
    /// signatures, and no statement: so an accusation that is not even this convicts its accuser at once.
    pub fn is_well_formed(&self, fault: &Fault) -> bool {
        let said = |culprit: &Identity| fault.proof.named().all(|said| self.said(culprit, said));
        fault.proof.fits() && self.roster.get(fault.culprit).is_some_and(said)
    }

    /// All statements that it takes to judge a fault, as far as they are here: what publishes it brings them along.
    pub fn evidence(&self, fault: &Fault) -> Vec<Broadcast> {
        let mut found = Vec::new();
        let mut wanted: Vec<SignedDigest> = fault.proof.named().copied().collect();
        let partial = matches!(fault.proof, Proof::InvalidPartial { .. });
        while let Some(next) = wanted.pop() {
            let Some(said) = self.statements.find(&next) else { continue };
            match accusation_in(said) {
                Some(accused) => wanted.extend(accused.proof.named()),
                None if partial && said.slot.step == Step::Verdict => {
                    if let Ok(Verdict::Accept(deals)) = codec::decode(&said.body) {
                        wanted.extend(deals);
                    }
                }
                None => {}
            }
            found.push(said.clone());
        }
        found
    }

    /// Judges a proof of any kind but accusations of accusations.
    fn judge_by_itself(&self, fault: &Fault) -> Judgement {
        let judged = match &fault.proof {
            // All of the proof is in its form.
            Proof::Equivocation(..) => Ok(true),
            Proof::BrokenCommitment { commit, deal } => self.find(commit).map(|said| {
                codec::decode::<Commit>(&said.body).is_ok_and(|promised| promised.deal != deal.digest)
            }),
            Proof::InvalidStatement(said) => self.find(said).map(|said| self.is_invalid(said)),
            Proof::BadShare { statement, recipient, opening } => self.find(statement).map(|said| {
                self.roster.get(*recipient).is_some_and(|to| self.share_is_bad(said, to, opening))
            }),
            Proof::InvalidPartial { verdict, statement } => self.partial_is_invalid(verdict, statement),
            Proof::FalseAccusation(_) => Ok(false),
        };
        judged.map_or_else(Judgement::Lacks, Judgement::of)
    }

    fn find(&self, said: &SignedDigest) -> Result<&Broadcast, Slot> {
        self.statements.find(said).ok_or(said.slot)
    }

    fn said(&self, speaker: &Identity, said: &SignedDigest) -> bool {
        said.slot.ceremony == self.ceremony && said.verify(speaker)
    }

    /// Whether a statement fails a check that needs nothing but terms and roster.
    pub fn is_invalid(&self, statement: &Broadcast) -> bool {
        let (slot, body) = (statement.slot, &statement.body);
        match (self.terms, slot.step) {
            (TermsRef::Keygen(_), Step::Commit) => codec::decode::<Commit>(body).is_err(),
            (TermsRef::Keygen(terms), Step::Deal) => terms.check_deal(slot.from, body).is_err(),
            (TermsRef::Keygen(terms), Step::Verdict) => match codec::decode::<Verdict>(body) {
                Ok(Verdict::Accept(deals)) => !self.are_deals(terms, &deals),
                // What is said after the verdicts is judged by each for itself. And who names what it can't have heard
                // would hold up all others: every statement of these steps is either here, or contradicted, or missing.
                Ok(Verdict::Reject(fault)) => {
                    let slots = fault.proof.named().map(|said| said.slot);
                    // Nor does anybody accuse itself.
                    let itself = fault.culprit == slot.from;
                    let heard = |slot: Slot| slot.step <= Step::Verdict && slot.item == 0;
                    itself || !slots.clone().all(heard) || !self.is_well_formed(&fault)
                }
                Err(_) => true,
            },
            (TermsRef::Keygen(_), Step::Confirm) => codec::decode::<Confirm>(body).is_err(),
            (TermsRef::Keygen(_), Step::Deposit) => codec::decode::<PartialDeposit>(body).is_err(),
            (TermsRef::Presign(terms), Step::Split) => terms.check_split(slot.from, body).is_err(),
            (TermsRef::Presign(_), Step::Acknowledge) => match codec::decode::<Acknowledge>(body) {
                Ok(Acknowledge::Good(_)) => false,
                Ok(Acknowledge::Bad { split, .. }) => {
                    let about = (split.slot.step, split.slot.from, split.slot.item);
                    let operator = self.roster.get(split.slot.from);
                    about != (Step::Split, MemberId(slot.item), 0)
                        || !operator.is_some_and(|operator| self.said(operator, &split))
                }
                Err(_) => true,
            },
            // A step of another protocol under this ceremony's id.
            _ => true,
        }
    }

    /// Whether an acceptance lists one authentic deal of each operator, in order.
    fn are_deals(&self, terms: &KeygenTerms, deals: &[SignedDigest]) -> bool {
        deals.len() == terms.operators.len()
            && deals.iter().zip(&terms.operators).all(|(deal, operator)| {
                (deal.slot.step, deal.slot.from, deal.slot.item) == (Step::Deal, *operator, 0)
                    && self.roster.get(*operator).is_some_and(|dealer| self.said(dealer, deal))
            })
    }

    fn share_is_bad(&self, statement: &Broadcast, recipient: &Identity, opening: &Opening) -> bool {
        let Some(dealer) = self.roster.get(statement.slot.from) else { return false };
        let pair = Pair { slot: statement.slot, dealer, recipient };
        match (self.terms, statement.slot.step) {
            (TermsRef::Keygen(terms), Step::Deal) => {
                let Some(position) = terms.position(recipient.member) else { return false };
                terms.check_deal(dealer.member, &statement.body).is_ok_and(|deal| {
                    deal.shares.disclosed(&pair, position, opening).is_some_and(|plain| {
                        let share =
                            |plain: &[u8]| keygen::share_is_good(plain, recipient.member, &deal.commitments);
                        plain.and_then(|plain| share(&plain)).is_none()
                    })
                })
            }
            (TermsRef::Presign(terms), Step::Split) => {
                let Some(position) = terms.position(recipient.member) else { return false };
                terms.check_split(dealer.member, &statement.body).is_ok_and(|split| {
                    split.shares.disclosed(&pair, position, opening).is_some_and(|plain| {
                        let (polynomial, message) = (&split.polynomial, terms.exit_message());
                        let share = |plain: &[u8]| {
                            presign::exit_share_is_good(plain, recipient.member, polynomial, &message)
                        };
                        plain.and_then(|plain| share(&plain)).is_none()
                    })
                })
            }
            _ => false,
        }
    }

    fn partial_is_invalid(&self, verdict: &SignedDigest, statement: &SignedDigest) -> Result<bool, Slot> {
        let TermsRef::Keygen(terms) = self.terms else { return Ok(false) };
        let (verdict, statement) = (self.find(verdict)?, self.find(statement)?);
        let Ok(Verdict::Accept(accepted)) = codec::decode(&verdict.body) else { return Ok(false) };
        if !self.are_deals(terms, &accepted) {
            return Ok(false);
        }
        let deals = accepted.iter().map(|deal| self.find(deal)).collect::<Result<Vec<&Broadcast>, Slot>>()?;
        let open: Result<Vec<OpenDeal>, _> =
            deals.iter().map(|deal| terms.check_deal(deal.slot.from, &deal.body)).collect();
        let Ok(open) = open else { return Ok(false) };
        let digests: Vec<(Digest, &bls::Commitments)> =
            accepted.iter().map(|deal| deal.digest).zip(open.iter().map(|deal| &deal.commitments)).collect();
        let certificate = terms.certificate(&digests);
        let key =
            bls::Commitments::sum(open.iter().map(|deal| &deal.commitments)).evaluate(statement.slot.from);
        Ok(match statement.slot.step {
            Step::Confirm => codec::decode::<Confirm>(&statement.body).is_ok_and(|confirm| {
                confirm.certificate != certificate.digest()
                    || !partial_is_good(&key, &certificate.confirm_message(), &confirm.partial)
            }),
            Step::Deposit => codec::decode::<PartialDeposit>(&statement.body).is_ok_and(|deposit| {
                !partial_is_good(&key, &terms.deposit_hash(certificate.pubkey()), &deposit.partial)
            }),
            _ => false,
        })
    }
}

/// Whether a partial signature is one under the public key of its share.
pub fn partial_is_good(key: &bls::G1, message: &bls::G2, partial: &bls::Signature) -> bool {
    partial.decode().is_ok_and(|partial| bls::verify_point(key, message, &partial).is_ok())
}

/// What a statement accuses somebody of, if it does.
pub fn accusation_in(statement: &Broadcast) -> Option<Fault> {
    match statement.slot.step {
        Step::Verdict => match codec::decode(&statement.body).ok()? {
            Verdict::Reject(fault) => Some(fault),
            Verdict::Accept(_) => None,
        },
        Step::Acknowledge => match codec::decode(&statement.body).ok()? {
            Acknowledge::Bad { split, opening } => {
                let proof = Proof::BadShare { statement: split, recipient: statement.slot.from, opening };
                Some(Fault { culprit: split.slot.from, proof })
            }
            Acknowledge::Good(_) => None,
        },
        _ => None,
    }
}
