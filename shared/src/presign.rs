//! Presign in public: the verifiable splitting of an exit signature that nobody ever sees whole.
//!
//! Operator j has a partial exit signature `S_j = x_j·H(m)`, valid under `X_j = x_j·G`. It draws `r_1…r_{t-1}`, gives
//! guardian i the point `S_ji = S_j + Σ r_k i^k·H(m)` and publishes `C_jk = r_k·G` ([`Split`]). Guardian i accepts iff
//! `e(G, S_ji) = e(X_j + Σ i^k C_jk, H(m))`: its share is an ordinary BLS signature under a key that anybody can
//! compute. It says so ([`Acknowledge`]), or proves that the share is bad. Over any t operators the guardian's shares
//! combine by Lagrange into a share of the whole exit, with commitments that combine likewise.

use crate::bls::{self, Commitments, CommitmentsError, ETHEREUM_DST, G2, PublicKey, Scalar};
use crate::codec;
use crate::ethereum::{Network, VoluntaryExit};
use crate::hash::Transcriber;
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId, PoolId};
use crate::keygen::KeygenCertificate;
use crate::lagrange;
use crate::message::{SignedDigest, Slot, Step};
use crate::sealed_shares::{CheckedShares, Opening, SealedShares, SealedSharesError};
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

/// The public keys of the guardians' shares of the whole exit, over the splits of a set of operators: their
/// polynomials weighted by Lagrange. The constant is the validator's public key, if there are enough operators.
pub fn combine_polynomials(splits: &[(MemberId, &Commitments)]) -> Option<Commitments> {
    let members: Vec<MemberId> = splits.iter().map(|(member, _)| *member).collect();
    let weights: Vec<Scalar> = lagrange::at_zero(&members)?;
    let scaled: Vec<Commitments> =
        splits.iter().zip(&weights).map(|((_, polynomial), weight)| polynomial.scale(weight)).collect();
    Some(Commitments::sum(&scaled))
}
