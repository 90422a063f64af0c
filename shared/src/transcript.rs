//! The public record of a ceremony, which anybody can check offline, knowing nothing secret.
//!
//! A transcript holds its manifest, the attested identities of its participants, and their signed statements.
//! [`Transcript::verify`] checks all but the attestation evidence itself, which is `postern-attestation`'s matter:
//! [`Transcript::roster`] hands it out. What a verifier must bring is the manifest's hash; everything else follows.

use crate::bytes::variable;
use crate::codec;
use crate::ethereum::{DepositData, SignedVoluntaryExit, VoluntaryExit};
use crate::fault::{Court, Exhibits, Fault, Statements, TermsRef, partial_is_good};
use crate::identity::{Identity, Roster};
use crate::ids::{CeremonyId, MemberId, PoolId};
use crate::keygen::{Commit, Confirm, KeygenCertificate, KeygenTerms, PartialDeposit, Verdict};
use crate::manifest::{Contracts, Manifest, ManifestError};
use crate::message::{Attestation, Broadcast, SignedDigest, Step};
use crate::presign::{Acknowledge, PresignTerms, combine_polynomials};
use crate::release::{Authorise, ReleaseRequest, ReleaseTerms};
use crate::{bls, bls::PublicKey};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The record of one ceremony.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// Canonical form of the manifest in force.
    #[serde(with = "variable")]
    pub manifest: Vec<u8>,
    /// The participants, with the evidence by which an enclave admitted them.
    pub roster: Vec<Attestation>,
    /// What they did.
    pub record: Proceedings,
}

/// What the participants did, by protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proceedings {
    /// A key was made and its deposit signed.
    Keygen {
        /// What they had agreed on.
        terms: KeygenTerms,
        /// Every operator's commit, deal, verdict and confirmation, and partial deposit signatures.
        statements: Vec<Broadcast>,
        /// The result.
        deposit: DepositData,
    },
    /// An exit was signed and split.
    Presign {
        /// What they had agreed on.
        terms: PresignTerms,
        /// Operators whose splits count.
        operators: Vec<MemberId>,
        /// Their splits, and guardians' acknowledgements.
        statements: Vec<Broadcast>,
    },
    /// An exit was released.
    Release {
        /// What they had agreed on.
        terms: ReleaseTerms,
        /// The request, and guardians' authorisations.
        statements: Vec<Broadcast>,
        /// The result.
        exit: SignedVoluntaryExit,
    },
    /// A keygen ended because somebody cheated.
    KeygenFault {
        /// What they had agreed on.
        terms: KeygenTerms,
        /// Who, and the proof.
        fault: Fault,
        /// The statements that the proof names, and those that these name.
        statements: Vec<Broadcast>,
    },
    /// Somebody cheated in a presign.
    PresignFault {
        /// What they had agreed on.
        terms: PresignTerms,
        /// Who, and the proof.
        fault: Fault,
        /// The statements that the proof names, and those that these name.
        statements: Vec<Broadcast>,
    },
}

/// What a transcript proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// These operators made this key together; t of them are needed to use it.
    Key {
        /// The pool.
        pool: PoolId,
        /// The key.
        certificate: KeygenCertificate,
        /// Who has shares.
        operators: Vec<MemberId>,
        /// How many sign.
        threshold: u16,
        /// The signed deposit.
        deposit: DepositData,
    },
    /// These guardians hold good shares of this exit.
    Presigned {
        /// The pool.
        pool: PoolId,
        /// The key that signed, as keygen certified it.
        certificate: KeygenCertificate,
        /// The exit.
        exit: VoluntaryExit,
        /// Who said that its share is good.
        guardians: Vec<MemberId>,
        /// How many release.
        threshold: u16,
    },
    /// This exit was released and is valid.
    Released {
        /// The pool.
        pool: PoolId,
        /// The validator's key.
        pubkey: PublicKey,
        /// The exit.
        exit: SignedVoluntaryExit,
        /// Who authorised it.
        guardians: Vec<MemberId>,
    },
    /// This member cheated.
    Cheated {
        /// The pool.
        pool: PoolId,
        /// Who.
        culprit: MemberId,
    },
}

/// Why a transcript proves nothing.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// The manifest inside is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Terms that the manifest or the roster does not give.
    #[error("the terms do not follow from manifest and roster: {what}")]
    Terms {
        /// Which part.
        what: &'static str,
    },
    /// A statement that is not there.
    #[error("{step:?} of {member} is missing")]
    Missing {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// A statement that its speaker did not sign, or that is wrong.
    #[error("{step:?} of {member} is invalid")]
    Invalid {
        /// Which step.
        step: Step,
        /// Whose.
        member: MemberId,
    },
    /// Fewer than the threshold.
    #[error("{found} members took part where {expected} are needed")]
    TooFew {
        /// The threshold.
        expected: usize,
        /// Members found.
        found: usize,
    },
    /// The result does not verify under the validator's key.
    #[error("the result's signature is invalid")]
    Result,
    /// The accusation does not hold.
    #[error(transparent)]
    Unproved(#[from] crate::fault::Unproved),
}

impl Transcript {
    /// The manifest inside.
    pub fn manifest(&self) -> Result<Manifest, TranscriptError> {
        Ok(Manifest::from_canonical(&self.manifest)?)
    }

    /// The participants, to check their evidence.
    pub fn roster(&self) -> &[Attestation] {
        &self.roster
    }

    /// Checks everything but attestation evidence, and whether the manifest is the DAO's.
    pub fn verify(&self) -> Result<Claim, TranscriptError> {
        let manifest = self.manifest()?;
        let roster = Roster::new(self.roster.iter().map(|attested| attested.identity).collect());
        let named = |identity: &Identity| manifest.identity(identity.member) == Some(*identity);
        require(roster.identities().iter().all(named), "enclaves")?;
        let basis = Basis { manifest: &manifest, roster: &roster };
        match &self.record {
            Proceedings::Keygen { terms, statements, deposit } => basis.keygen(terms, statements, deposit),
            Proceedings::Presign { terms, operators, statements } => {
                basis.presign(terms, operators, statements)
            }
            Proceedings::Release { terms, statements, exit } => basis.release(terms, statements, exit),
            Proceedings::KeygenFault { terms, fault, statements } => {
                basis.keygen_terms(terms)?;
                let exhibits = Exhibits::new(statements);
                fault.verify(&basis.court(terms.ceremony(), TermsRef::Keygen(terms), &exhibits))?;
                Ok(Claim::Cheated { pool: terms.request.pool, culprit: fault.culprit })
            }
            Proceedings::PresignFault { terms, fault, statements } => {
                basis.presign_terms(terms)?;
                let exhibits = Exhibits::new(statements);
                fault.verify(&basis.court(terms.ceremony(), TermsRef::Presign(terms), &exhibits))?;
                Ok(Claim::Cheated { pool: terms.pool, culprit: fault.culprit })
            }
        }
    }
}

/// What a transcript is checked against.
struct Basis<'a> {
    manifest: &'a Manifest,
    roster: &'a Roster,
}

fn require(holds: bool, what: &'static str) -> Result<(), TranscriptError> {
    if holds { Ok(()) } else { Err(TranscriptError::Terms { what }) }
}

impl Basis<'_> {
    fn court<'b>(
        &'b self,
        ceremony: CeremonyId,
        terms: TermsRef<'b>,
        statements: &'b dyn Statements,
    ) -> Court<'b> {
        Court { ceremony, terms, roster: self.roster, statements }
    }

    /// Its contract may be an earlier manifest's, so the claim names it and a verifier judges it.
    fn pool(&self, pool: PoolId) -> Result<(), TranscriptError> {
        require(pool.chain == self.manifest.network.chain_id, "chain of the pool")
    }

    fn keygen_terms(&self, terms: &KeygenTerms) -> Result<(), TranscriptError> {
        require(terms.manifest == self.manifest.hash(), "manifest")?;
        require(terms.network == self.manifest.network, "network")?;
        self.pool(terms.request.pool)?;
        // Of a pool manager that an earlier manifest has named, that one says.
        let Contracts { pool_manager, pool_code, .. } = &self.manifest.contracts;
        let of_now = terms.request.pool.contract == *pool_manager;
        require(!of_now || terms.pool_code == *pool_code, "pool code")?;
        require(terms.roster == self.roster.digest(), "roster")?;
        require(self.manifest.is_operator_committee(&terms.operators), "operators")?;
        require(self.roster.members().eq(terms.operators.iter().copied()), "participants")?;
        require(terms.threshold == self.manifest.thresholds.operator, "operator threshold")
    }

    fn presign_terms(&self, terms: &PresignTerms) -> Result<(), TranscriptError> {
        require(terms.manifest == self.manifest.hash(), "manifest")?;
        require(terms.network == self.manifest.network, "network")?;
        self.pool(terms.pool)?;
        require(terms.roster == self.roster.digest(), "roster")?;
        // A key's own holders and threshold judge it: roles may have changed since it was made.
        require(terms.operators_can_sign(), "operators")?;
        require(self.manifest.is_guardian_committee(&terms.guardians), "guardians")?;
        require(terms.guardian_threshold == self.manifest.thresholds.guardian, "guardian threshold")
    }

    /// The authentic statement of a member at a step.
    fn statement<'b>(
        &self,
        statements: &'b [Broadcast],
        ceremony: CeremonyId,
        member: MemberId,
        step: Step,
        item: u16,
    ) -> Result<&'b Broadcast, TranscriptError> {
        let slot = crate::message::Slot { ceremony, from: member, step, item };
        let statement = statements
            .iter()
            .find(|statement| statement.slot == slot)
            .ok_or(TranscriptError::Missing { step, member })?;
        let authentic =
            self.roster.get(member).is_some_and(|speaker| statement.signed_digest().verify(speaker));
        if authentic { Ok(statement) } else { Err(TranscriptError::Invalid { step, member }) }
    }

    fn keygen(
        &self,
        terms: &KeygenTerms,
        statements: &[Broadcast],
        deposit: &DepositData,
    ) -> Result<Claim, TranscriptError> {
        self.keygen_terms(terms)?;
        let ceremony = terms.ceremony();
        let mut deals = Vec::new();
        for member in &terms.operators {
            let find = |step| self.statement(statements, ceremony, *member, step, 0);
            let invalid = |step| TranscriptError::Invalid { step, member: *member };
            let deal = find(Step::Deal)?;
            let open = terms.check_deal(*member, &deal.body).map_err(|_| invalid(Step::Deal))?;
            let commit: Commit =
                codec::decode(&find(Step::Commit)?.body).map_err(|_| invalid(Step::Commit))?;
            if commit.deal != deal.signed_digest().digest {
                return Err(invalid(Step::Commit));
            }
            deals.push((deal.signed_digest(), open));
        }
        let digests: Vec<_> = deals.iter().map(|(signed, open)| (signed.digest, &open.commitments)).collect();
        let certificate = terms.certificate(&digests);
        let polynomial = bls::Commitments::sum(deals.iter().map(|(_, open)| &open.commitments));
        let signed: Vec<SignedDigest> = deals.iter().map(|(signed, _)| *signed).collect();
        let (message, digest) = (certificate.confirm_message(), certificate.digest());
        for member in &terms.operators {
            let find = |step| self.statement(statements, ceremony, *member, step, 0);
            let invalid = |step| TranscriptError::Invalid { step, member: *member };
            let verdict = codec::decode::<Verdict>(&find(Step::Verdict)?.body);
            if !verdict.is_ok_and(|verdict| verdict.accepts(&signed)) {
                return Err(invalid(Step::Verdict));
            }
            let confirm: Confirm =
                codec::decode(&find(Step::Confirm)?.body).map_err(|_| invalid(Step::Confirm))?;
            let good = partial_is_good(&polynomial.evaluate(*member), &message, &confirm.partial);
            if confirm.certificate != digest || !good {
                return Err(invalid(Step::Confirm));
            }
        }
        self.deposit(terms, &certificate, &polynomial, statements, deposit)?;
        Ok(Claim::Key {
            pool: terms.request.pool,
            certificate,
            operators: terms.operators.clone(),
            threshold: terms.threshold,
            deposit: *deposit,
        })
    }

    /// The deposit is the one of the terms, signed by the new key and by at least a threshold of operators.
    fn deposit(
        &self,
        terms: &KeygenTerms,
        certificate: &KeygenCertificate,
        polynomial: &bls::Commitments,
        statements: &[Broadcast],
        deposit: &DepositData,
    ) -> Result<(), TranscriptError> {
        let ceremony = terms.ceremony();
        let hashed = terms.deposit_hash(certificate.pubkey());
        let signed = |member: &&MemberId| {
            self.statement(statements, ceremony, **member, Step::Deposit, 0)
                .ok()
                .and_then(|statement| codec::decode::<PartialDeposit>(&statement.body).ok())
                .is_some_and(|said| partial_is_good(&polynomial.evaluate(**member), &hashed, &said.partial))
        };
        let (found, expected) = (terms.operators.iter().filter(signed).count(), usize::from(terms.threshold));
        if found < expected {
            return Err(TranscriptError::TooFew { expected, found });
        }
        let good = deposit.message == terms.deposit_message(certificate.pubkey())
            && partial_is_good(&polynomial.constant(), &hashed, &deposit.signature);
        if good { Ok(()) } else { Err(TranscriptError::Result) }
    }

    fn presign(
        &self,
        terms: &PresignTerms,
        operators: &[MemberId],
        statements: &[Broadcast],
    ) -> Result<Claim, TranscriptError> {
        self.presign_terms(terms)?;
        let ceremony = terms.ceremony();
        require(ReleaseRequest { operators: operators.to_vec() }.fits(terms), "operators of the splits")?;
        let mut splits = Vec::new();
        let mut guardians = terms.guardians.clone();
        for operator in operators {
            let split = self.statement(statements, ceremony, *operator, Step::Split, 0)?;
            let invalid = TranscriptError::Invalid { step: Step::Split, member: *operator };
            splits.push((*operator, terms.check_split(*operator, &split.body).map_err(|_| invalid)?));
            let good = Acknowledge::Good(split.signed_digest().digest);
            guardians.retain(|guardian| {
                self.statement(statements, ceremony, *guardian, Step::Acknowledge, operator.0)
                    .is_ok_and(|said| codec::decode(&said.body).is_ok_and(|said: Acknowledge| said == good))
            });
        }
        // The operators' keys must combine to the validator's: what the guardians hold is a split of its exit.
        let polynomials: Vec<_> = splits.iter().map(|(member, split)| (*member, &split.polynomial)).collect();
        let key = combine_polynomials(&polynomials).map(|combined| combined.constant().encode());
        require(key == Some(terms.certificate.pubkey()), "validator's key")?;
        let expected = usize::from(terms.guardian_threshold);
        if guardians.len() < expected {
            return Err(TranscriptError::TooFew { expected, found: guardians.len() });
        }
        Ok(Claim::Presigned {
            pool: terms.pool,
            certificate: terms.certificate.clone(),
            exit: terms.exit,
            guardians,
            threshold: terms.guardian_threshold,
        })
    }

    fn release(
        &self,
        terms: &ReleaseTerms,
        statements: &[Broadcast],
        exit: &SignedVoluntaryExit,
    ) -> Result<Claim, TranscriptError> {
        let presign = &terms.presign;
        self.presign_terms(presign)?;
        // Who led does not matter, as long as it is a participant, whom its request shows: if the leader of then was lost, a
        // later manifest has named another.
        let ceremony = terms.ceremony();
        let request = self.statement(statements, ceremony, terms.leader, Step::Request, 0)?;
        let fits = codec::decode::<ReleaseRequest>(&request.body).is_ok_and(|said| said.fits(presign));
        if !fits {
            return Err(TranscriptError::Invalid { step: Step::Request, member: terms.leader });
        }
        let authorised = Authorise { request: request.signed_digest().digest };
        let mut guardians = presign.guardians.clone();
        guardians.retain(|guardian| {
            self.statement(statements, ceremony, *guardian, Step::Authorise, 0)
                .is_ok_and(|said| codec::decode(&said.body).is_ok_and(|said: Authorise| said == authorised))
        });
        let expected = usize::from(presign.guardian_threshold);
        if guardians.len() < expected {
            return Err(TranscriptError::TooFew { expected, found: guardians.len() });
        }
        let pubkey = presign.certificate.pubkey();
        let network = &presign.network;
        let root = exit.message.signing_root(network.capella_fork_version, network.genesis_validators_root);
        if exit.message != presign.exit || pubkey.verify(&root.0, &exit.signature).is_err() {
            return Err(TranscriptError::Result);
        }
        Ok(Claim::Released { pool: presign.pool, pubkey, exit: *exit, guardians })
    }
}
