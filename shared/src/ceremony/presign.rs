//! Presign in public: the verifiable splitting of an exit signature that nobody ever sees whole.
//!
//! Operator j has a partial exit signature `S_j = x_j·H(m)`, valid under `X_j = x_j·G`. It draws `r_1…r_{t-1}`, gives
//! guardian i the point `S_ji = S_j + Σ r_k i^k·H(m)` and publishes `C_jk = r_k·G` ([`Split`]). Guardian i accepts iff
//! `e(G, S_ji) = e(X_j + Σ i^k C_jk, H(m))`: its share is an ordinary BLS signature under a key that anybody can
//! compute. It says so ([`Acknowledge`]), or proves that the share is bad. Over any t operators the guardian's shares
//! combine by Lagrange into a share of the whole exit, with commitments that combine likewise.

use super::basis::{Basis, TranscriptError, at_least, require};
use super::court::{Court, Protocol};
use super::fault::{Fault, Proof};
use super::keygen::KeygenCertificate;
use super::reader::{Reader, says};
use crate::bls::{self, Commitments, CommitmentsError, ETHEREUM_DST, G2, PublicKey};
use crate::codec;
use crate::ethereum::{Network, VoluntaryExit};
use crate::hash::Transcriber;
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId, PoolId};
use crate::lagrange;
use crate::message::{Broadcast, SignedDigest, Slot, Step};
use crate::sealed_shares::{CheckedShares, Opening, Pair, SealedShares, SealedSharesError};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Size of a share of an exit signature.
pub const EXIT_SHARE_SIZE: usize = 96;

/// What all participants must agree on before they start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignTerms {
    /// The DAO.
    pub manifest: ManifestHash,
    /// The operators' and guardians' enclaves.
    pub roster: Digest,
    /// The chain that the exit is for.
    pub network: Network,
    /// The pool.
    pub pool: PoolId,
    /// The validator's key.
    pub certificate: KeygenCertificate,
    /// Who has shares of the key, ascending.
    pub operators: Vec<MemberId>,
    /// Who gets shares of the exit, ascending.
    pub guardians: Vec<MemberId>,
    /// How many of them release.
    pub guardian_threshold: u16,
    /// What is presigned.
    pub exit: VoluntaryExit,
}

/// One operator's partial exit signature, split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// `r_k·G` for k from 1, exactly one fewer than the guardians' threshold.
    pub commitments: Vec<PublicKey>,
    /// `S_ji` for each guardian i.
    pub sealed: SealedShares,
}

/// What a guardian thinks of its share of one operator's split.
#[expect(clippy::large_enum_variant, reason = "decoded, looked at and dropped; never many at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acknowledge {
    /// It holds a good share of the split with this digest.
    Good(Digest),
    /// Its share of this split is not good.
    Bad {
        /// The split.
        split: SignedDigest,
        /// The key of the guardian's ciphertext, which proves it.
        opening: Opening,
    },
}

/// An exit was signed and split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignProceedings {
    /// What they had agreed on.
    pub terms: PresignTerms,
    /// Operators whose splits count.
    pub operators: Vec<MemberId>,
    /// Their splits, and guardians' acknowledgements.
    pub statements: Vec<Broadcast>,
}

/// A split that passes every check that needs no secret.
#[derive(Debug, Clone)]
pub struct OpenSplit {
    /// The public keys of the shares as a polynomial: the operator's `X_j`, then `C_jk`.
    pub polynomial: Commitments,
    /// Encrypted shares, as many as guardians.
    pub shares: CheckedShares,
}

/// Why a split is refused.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Not the encoding of a split.
    #[error("the split does not decode")]
    Malformed,
    /// Not by an operator of these terms.
    #[error("{0} is not an operator")]
    NotAnOperator(MemberId),
    /// The commitments are none to a polynomial of the threshold's degree.
    #[error(transparent)]
    Commitments(#[from] CommitmentsError),
    /// The encrypted shares are not as they must be.
    #[error(transparent)]
    Shares(#[from] SealedSharesError),
}

impl PresignTerms {
    /// The ceremony's id: the hash of its terms.
    pub fn ceremony(&self) -> CeremonyId {
        CeremonyId(Transcriber::new("postern-presign-v1").bytes(&codec::encode(self)).finish().0)
    }

    /// The place of a member among the guardians.
    pub fn position(&self, member: MemberId) -> Option<usize> {
        self.guardians.iter().position(|guardian| *guardian == member)
    }

    /// How many operators sign together.
    pub fn operator_threshold(&self) -> usize {
        self.certificate.commitments.len()
    }

    /// `H(m)`: the exit's signing root, hashed to the curve.
    pub fn exit_message(&self) -> G2 {
        let network = &self.network;
        let root = self.exit.signing_root(network.capella_fork_version, network.genesis_validators_root);
        G2::hash(&root.0, ETHEREUM_DST)
    }

    /// Checks a split's body in every way that needs no secret.
    pub fn check_split(&self, operator: MemberId, body: &[u8]) -> Result<OpenSplit, SplitError> {
        if !self.operators.contains(&operator) {
            return Err(SplitError::NotAnOperator(operator));
        }
        let Split { commitments, sealed } = codec::decode(body).map_err(|_| SplitError::Malformed)?;
        let rest = Commitments::decode(&commitments, usize::from(self.guardian_threshold).saturating_sub(1))?;
        let slot = Slot::of(self.ceremony(), operator, Step::Split);
        let shares = sealed.check(slot, &commitments, self.guardians.len(), EXIT_SHARE_SIZE)?;
        let key = self.certificate.polynomial()?.evaluate(operator);
        Ok(OpenSplit { polynomial: Commitments::with_constant(key, &rest), shares })
    }

    /// Whether these are operators of the terms, ascending, exactly as many as sign together.
    pub fn sign_together(&self, operators: &[MemberId]) -> bool {
        let ascending = operators.windows(2).all(|pair| pair.first() < pair.last());
        let known = operators.iter().all(|operator| self.operators.contains(operator));
        ascending && known && operators.len() == self.operator_threshold()
    }

    /// Whether these are operators who can sign together: holders of the key's shares, ascending, at least as many as its
    /// own threshold. What roles a manifest gives them now does not matter: the shares are theirs.
    pub fn operators_can_sign(&self) -> bool {
        let holders = &self.certificate.operators;
        let ascending = self.operators.windows(2).all(|pair| pair.first() < pair.last());
        ascending
            && self.operators.iter().all(|operator| holders.contains(operator))
            && self.operators.len() >= self.operator_threshold()
            && self.operator_threshold() > 1
    }
}

impl Protocol for PresignTerms {
    fn ceremony(&self) -> CeremonyId {
        self.ceremony()
    }

    fn pool(&self) -> PoolId {
        self.pool
    }

    fn check(&self, basis: &Basis<'_>) -> Result<(), TranscriptError> {
        basis.require(self.manifest, &self.network, self.roster, self.pool)?;
        // A key's own holders and threshold judge it: roles may have changed since it was made.
        require(self.operators_can_sign(), "operators")?;
        require(basis.manifest.is_guardian_committee(&self.guardians), "guardians")?;
        require(self.guardian_threshold == basis.manifest.thresholds.guardian, "guardian threshold")?;
        let participants: BTreeSet<MemberId> =
            self.operators.iter().chain(&self.guardians).copied().collect();
        require(basis.roster.members().eq(participants), "participants")
    }

    fn is_invalid(&self, statement: &Broadcast, court: &Court<'_>) -> bool {
        let (slot, body) = (statement.slot, &statement.body);
        match slot.step {
            Step::Split => self.check_split(slot.from, body).is_err(),
            Step::Acknowledge => match codec::decode::<Acknowledge>(body) {
                Ok(Acknowledge::Good(_)) => false,
                Ok(Acknowledge::Bad { split, .. }) => {
                    let about = (split.slot.step, split.slot.from, split.slot.item);
                    let operator = court.roster.get(split.slot.from);
                    about != (Step::Split, MemberId(slot.item), 0)
                        || !operator.is_some_and(|operator| court.said(operator, &split))
                }
                Err(_) => true,
            },
            _ => true,
        }
    }

    fn accusation_in(&self, statement: &Broadcast) -> Option<Fault> {
        if statement.slot.step != Step::Acknowledge {
            return None;
        }
        let Ok(Acknowledge::Bad { split, opening }) = codec::decode(&statement.body) else { return None };
        let proof = Proof::BadShare { statement: split, recipient: statement.slot.from, opening };
        Some(Fault { culprit: split.slot.from, proof })
    }

    fn share_is_bad(&self, dealt: &Broadcast, pair: &Pair<'_>, opening: &Opening) -> bool {
        let recipient = pair.recipient.member;
        let Some(position) = self.position(recipient).filter(|_| dealt.slot.step == Step::Split) else {
            return false;
        };
        self.check_split(dealt.slot.from, &dealt.body).is_ok_and(|OpenSplit { polynomial, shares }| {
            let good = |plain: &[u8]| exit_share_is_good(plain, recipient, &polynomial, &self.exit_message());
            shares.shows_bad(pair, position, opening, good)
        })
    }
}

impl PresignProceedings {
    /// Checks everything but attestation evidence; says which guardians hold good shares of all that count.
    pub(super) fn verify(&self, basis: &Basis<'_>) -> Result<Vec<MemberId>, TranscriptError> {
        let Self { terms, operators, statements } = self;
        terms.check(basis)?;
        require(terms.sign_together(operators), "operators of the splits")?;
        let mut reader = Reader::new(basis, terms.ceremony(), statements)?;
        let mut splits = Vec::new();
        let mut digests = Vec::new();
        for operator in operators.iter().copied() {
            let (digest, open) = reader.need(operator, Step::Split, |split| {
                Some((split.signed_digest().digest, terms.check_split(operator, &split.body).ok()?))
            })?;
            splits.push((operator, open));
            digests.push((operator, digest));
        }
        let mut guardians = Vec::new();
        for guardian in terms.guardians.iter().copied() {
            let held = digests.iter().map(|(operator, digest)| {
                let good = |said: Acknowledge| said == Acknowledge::Good(*digest);
                reader.read(guardian, Step::Acknowledge, operator.0, |said| says(said, good))
            });
            let held = held.collect::<Result<Vec<Option<()>>, TranscriptError>>()?;
            if held.iter().all(Option::is_some) {
                guardians.push(guardian);
            } else if held.iter().any(Option::is_some) {
                // Shares of some splits are no share of the exit.
                return Err(TranscriptError::Unused { step: Step::Acknowledge, member: guardian });
            }
        }
        reader.finish()?;
        // The operators' keys must combine to the validator's: what the guardians hold is a split of its exit.
        let polynomials: Vec<_> = splits.iter().map(|(member, split)| (*member, &split.polynomial)).collect();
        let key = lagrange::combine(&polynomials).map(|combined| combined.constant().encode());
        require(key == Some(terms.certificate.pubkey()), "validator's key")?;
        at_least(terms.guardian_threshold.into(), guardians.len())?;
        Ok(guardians)
    }
}

/// The decrypted share, if it is a signature under the key that the split's polynomial gives its recipient.
pub fn exit_share_is_good(
    plaintext: &[u8],
    recipient: MemberId,
    polynomial: &Commitments,
    message: &G2,
) -> Option<G2> {
    let share = G2::from_bytes(plaintext.try_into().ok()?).ok()?;
    bls::verify_point(&polynomial.evaluate(recipient), message, &share).is_ok().then_some(share)
}
