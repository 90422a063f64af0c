//! Judges faults, whatever the ceremony: what is particular to one is its [`Protocol`].

use super::basis::Basis;
pub use super::basis::{TranscriptError, Unproved};
use super::fault::{Fault, Proof};
use crate::identity::{Identity, Roster};
use crate::ids::{CeremonyId, Digest, PoolId};
use crate::message::{Broadcast, SignedDigest, Slot};
use crate::sealed_shares::{Opening, Pair};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt::Debug;
use serde::{Deserialize, Serialize};

/// What is particular to a ceremony, as its terms tell it: all that faults, transcripts and their verifiers need.
///
/// Whatever a ceremony does not have (shares that are dealt, say) nobody can be convicted of in it.
pub trait Protocol: Debug {
    /// The run's id: the hash of its terms.
    fn ceremony(&self) -> CeremonyId;

    /// The pool that it is about.
    fn pool(&self) -> PoolId;

    /// Refuses terms that do not follow from manifest and roster.
    fn check(&self, basis: &Basis<'_>) -> Result<(), TranscriptError>;

    /// Whether a statement fails a check that needs nothing but terms and roster. So does one of a step that is not the
    /// protocol's.
    fn is_invalid(&self, statement: &Broadcast, court: &Court<'_>) -> bool;

    /// What a statement accuses somebody of, if it does.
    fn accusation_in(&self, _: &Broadcast) -> Option<Fault> {
        None
    }

    /// The deals that a statement accepts, if it does.
    fn accepted_in(&self, _: &Broadcast) -> Vec<SignedDigest> {
        Vec::new()
    }

    /// Whether a deal is another than the one that its dealer has committed to.
    fn breaks_commitment(&self, _commit: &Broadcast, _deal: &SignedDigest) -> bool {
        false
    }

    /// Whether an opening shows that the recipient's share in a dealer's statement is not good.
    fn share_is_bad(&self, _dealt: &Broadcast, _: &Pair<'_>, _: &Opening) -> bool {
        false
    }

    /// Whether what its speaker has signed with its share does not fit the deals that it has accepted in its verdict. An error
    /// says which statement it takes to tell.
    fn partial_is_invalid(
        &self,
        _verdict: &SignedDigest,
        _partial: &SignedDigest,
        _: &Court<'_>,
    ) -> Result<bool, Slot> {
        Ok(false)
    }
}

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
        let mut exhibits = Self::default();
        statements.iter().for_each(|said| _ = exhibits.add(said));
        exhibits
    }

    /// Adds a statement. Says whether it was not there yet.
    pub fn add(&mut self, said: &'a Broadcast) -> bool {
        self.0.insert((said.slot, Broadcast::digest_of(&said.body)), said).is_none()
    }

    /// The statements, as they are published.
    pub fn to_statements(&self) -> Vec<Broadcast> {
        self.0.values().copied().cloned().collect()
    }

    /// Those of a published fault, if all are authentic and none is there twice.
    fn read(
        statements: &'a [Broadcast],
        ceremony: CeremonyId,
        basis: &Basis<'_>,
    ) -> Result<Self, TranscriptError> {
        let mut exhibits = Self::default();
        for statement in statements {
            basis.authenticate(ceremony, statement)?;
            if !exhibits.add(statement) {
                return Err(TranscriptError::twice(&statement.slot));
            }
        }
        Ok(exhibits)
    }

    /// A statement that is not among others.
    fn outside(&self, others: &Self) -> Option<&Slot> {
        self.0.keys().find(|said| !others.0.contains_key(said)).map(|(slot, _)| slot)
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
    pub terms: &'a dyn Protocol,
    /// Its participants.
    pub roster: &'a Roster,
    /// What was said.
    pub statements: &'a dyn Statements,
}

/// A fault, published: with the terms and the statements that it takes to judge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conviction<T> {
    /// What the participants had agreed on.
    pub terms: T,
    /// Who, and the proof.
    pub fault: Fault,
    /// What [`Court::evidence`] says.
    pub statements: Vec<Broadcast>,
}

impl<T: Protocol + Clone> Conviction<T> {
    /// A fault with its evidence: what the court has heard, and a statement that the proof names and that the court was not
    /// given.
    pub fn new(terms: &T, fault: Fault, court: &Court<'_>, refused: Option<&Broadcast>) -> Self {
        let mut evidence = court.evidence(&fault);
        if let Some(refused) = refused {
            evidence.add(refused);
        }
        Self { terms: terms.clone(), fault, statements: evidence.to_statements() }
    }
}

impl<T: Protocol> Conviction<T> {
    /// Checks terms and proof, and that it comes with no other statements than it takes.
    pub(super) fn verify(&self, basis: &Basis<'_>) -> Result<(), TranscriptError> {
        let Self { terms, fault, statements } = self;
        terms.check(basis)?;
        let ceremony = terms.ceremony();
        let exhibits = &Exhibits::read(statements, ceremony, basis)?;
        let court = Court { ceremony, terms, roster: basis.roster, statements: exhibits };
        fault.verify(&court)?;
        let unused = exhibits.outside(&court.evidence(fault)).map(TranscriptError::unused);
        unused.map_or(Ok(()), Err)
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

impl<'a> Court<'a> {
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
            let Some(accused) = self.terms.accusation_in(said) else {
                return Judgement::Refuted.turned(turned);
            };
            (fault, turned) = (accused, !turned);
        }
    }

    /// Whether the culprit has signed all that the proof names, and the proof is about such statements. Takes one or two
    /// signatures, and no statement: so an accusation that is not even this convicts its accuser at once.
    pub fn is_well_formed(&self, fault: &Fault) -> bool {
        let said = |culprit: &Identity| fault.proof.named().all(|said| self.said(culprit, said));
        fault.proof.fits() && self.roster.get(fault.culprit).is_some_and(said)
    }

    /// The statements that a fault is judged by, as far as they are here; what publishes it brings them along. They are those
    /// that the proof names. What is more, it takes for an accusation that does not hold what that one is judged by, and for a
    /// partial signature the deals that its speaker has accepted.
    pub fn evidence(&self, fault: &Fault) -> Exhibits<'a> {
        let mut evidence = Exhibits::default();
        let mut judged = Some(*fault);
        // What an accusation names that is not even well-formed, nobody looks at: it may be anything.
        while let Some(Fault { proof, .. }) = judged.take().filter(|fault| self.is_well_formed(fault)) {
            for said in proof.named().filter_map(|said| self.statements.find(said)) {
                evidence.add(said);
                match proof {
                    Proof::FalseAccusation(_) => judged = self.terms.accusation_in(said),
                    Proof::InvalidPartial { .. } => {
                        let deals = self.terms.accepted_in(said);
                        let deals = deals.iter().filter_map(|deal| self.statements.find(deal));
                        deals.for_each(|deal| _ = evidence.add(deal));
                    }
                    _ => {}
                }
            }
        }
        evidence
    }

    /// Judges a proof of any kind but accusations of accusations.
    fn judge_by_itself(&self, fault: &Fault) -> Judgement {
        let judged = match &fault.proof {
            // All of the proof is in its form.
            Proof::Equivocation(..) => Ok(true),
            Proof::BrokenCommitment { commit, deal } => {
                self.find(commit).map(|said| self.terms.breaks_commitment(said, deal))
            }
            Proof::InvalidStatement(said) => self.find(said).map(|said| self.is_invalid(said)),
            Proof::BadShare { statement, recipient, opening } => self.find(statement).map(|said| {
                self.roster.get(*recipient).is_some_and(|to| self.share_is_bad(said, to, opening))
            }),
            Proof::InvalidPartial { verdict, statement } => {
                self.terms.partial_is_invalid(verdict, statement, self)
            }
            Proof::FalseAccusation(_) => Ok(false),
        };
        judged.map_or_else(Judgement::Lacks, Judgement::of)
    }

    /// A statement that a proof names; an error says which is lacking.
    pub fn find(&self, said: &SignedDigest) -> Result<&Broadcast, Slot> {
        self.statements.find(said).ok_or(said.slot)
    }

    /// Whether this was signed, in this ceremony.
    pub fn said(&self, speaker: &Identity, said: &SignedDigest) -> bool {
        said.slot.ceremony == self.ceremony && said.verify(speaker)
    }

    /// Whether a statement fails a check that needs nothing but terms and roster.
    pub fn is_invalid(&self, statement: &Broadcast) -> bool {
        self.terms.is_invalid(statement, self)
    }

    fn share_is_bad(&self, statement: &Broadcast, recipient: &Identity, opening: &Opening) -> bool {
        let Some(dealer) = self.roster.get(statement.slot.from) else { return false };
        self.terms.share_is_bad(statement, &Pair { slot: statement.slot, dealer, recipient }, opening)
    }
}
