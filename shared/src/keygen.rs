//! Keygen in public: its terms, its statements, and every check of them that needs no secret.
//!
//! Broadcast-everything Joint-Feldman: commit, open, confirm, all or blame. Each operator
//! 1. signs a hash of its deal ([`Commit`]), so that nobody can choose a polynomial after seeing the others';
//! 2. opens it ([`Deal`]): commitments, proof of possession, encrypted shares, the same bytes for everybody;
//! 3. says whether all deals are good ([`Verdict`]); a refusal carries a proof that anybody can check;
//! 4. confirms with its new share ([`Confirm`]). All confirmations make a key; fewer make nothing;
//! 5. signs the deposit with its share ([`PartialDeposit`]), once the members have agreed that this is the pool's key
//!    (`crate::agreement`).

use crate::agreement::Attempt;
use crate::bls::{self, Commitments, CommitmentsError, ETHEREUM_DST, G1, G2, PublicKey, Scalar, Signature};
use crate::codec;
use crate::ethereum::{DepositMessage, Network, VALIDATOR_STAKE_GWEI, WithdrawalCredentials};
use crate::events::DepositRequest;
use crate::fault::Fault;
use crate::hash::Transcriber;
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId};
use crate::message::{SignedDigest, Slot, Step};
use crate::sealed_shares::{CheckedShares, SealedShares, SealedSharesError};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Hash-to-curve domain of proofs of possession: no other message is ever hashed under it.
const POSSESSION_DST: &[u8] = b"POSTERN_V1_POSSESSION_BLS12381G2_XMD:SHA-256_SSWU_RO_";
/// Hash-to-curve domain of confirmations: what they sign can't be a deposit or an exit.
const CONFIRM_DST: &[u8] = b"POSTERN_V1_CONFIRM_BLS12381G2_XMD:SHA-256_SSWU_RO_";

/// Size of a share of the key.
pub const SHARE_SIZE: usize = 32;

/// What all operators must agree on before they start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeygenTerms {
    /// The DAO.
    pub manifest: ManifestHash,
    /// The operators' enclaves.
    pub roster: Digest,
    /// The chain that the deposit is for.
    pub network: Network,
    /// What the key is for.
    pub request: DepositRequest,
    /// What the pool's manager creates pools by, as the manifest that has named it says.
    pub pool_code: Digest,
    /// Who gets a share, ascending.
    pub operators: Vec<MemberId>,
    /// How many shares sign.
    pub threshold: u16,
    /// The attempt at an agreement on the pool's key that this is.
    pub attempt: Attempt,
}

/// The hash of the deal to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// [`crate::message::Broadcast::digest_of`] the deal's body.
    pub deal: Digest,
}

/// One operator's polynomial, in public and in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deal {
    /// `a_k·G`, exactly as many as the threshold.
    pub commitments: Vec<PublicKey>,
    /// Signature with `a_0` over ceremony, dealer and `a_0·G`.
    pub possession: Signature,
    /// `f(i)` for each operator i.
    pub sealed: SealedShares,
}

/// What an operator thinks of all deals.
#[expect(clippy::large_enum_variant, reason = "decoded, looked at and dropped; never many at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// These deals, in the order of the terms, are good.
    Accept(Vec<SignedDigest>),
    /// Somebody cheated, and this proves it.
    Reject(Fault),
}

impl Deal {
    /// All but the encrypted shares: what these are bound to.
    pub fn rest(&self) -> (Vec<PublicKey>, Signature) {
        (self.commitments.clone(), self.possession)
    }
}

impl Verdict {
    /// Whether this accepts just these deals. Their signatures may be others: who has a key can sign the same deal in
    /// more ways than one.
    pub fn accepts(&self, deals: &[SignedDigest]) -> bool {
        let same = |(one, other): (&SignedDigest, &SignedDigest)| {
            (one.slot, one.digest) == (other.slot, other.digest)
        };
        matches!(self, Self::Accept(accepted)
            if accepted.len() == deals.len() && accepted.iter().zip(deals).all(same))
    }
}

/// The new share works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// Digest of the certificate.
    pub certificate: Digest,
    /// Signature with the share over the certificate's digest.
    pub partial: Signature,
}

/// A partial signature over the deposit message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialDeposit {
    /// With the share, over the signing root.
    pub partial: Signature,
}

/// What keygen made: the public side of a validator's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeygenCertificate {
    /// The ceremony.
    pub ceremony: CeremonyId,
    /// Who has shares, ascending: whoever uses the key, or takes shares of what it has signed, goes by these and not by the
    /// roles that a later manifest gives.
    pub operators: Vec<MemberId>,
    /// Hash over all deals, in the order of the terms.
    pub deals: Digest,
    /// The shared polynomial in the exponent; the first is the validator's public key.
    pub commitments: Vec<PublicKey>,
}

/// A deal that passes every check that needs no secret.
#[derive(Debug, Clone)]
pub struct OpenDeal {
    /// Decoded commitments.
    pub commitments: Commitments,
    /// Encrypted shares, as many as operators.
    pub shares: CheckedShares,
}

/// Why a deal is refused.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DealError {
    /// Not the encoding of a deal.
    #[error("the deal does not decode")]
    Malformed,
    /// The commitments are none to a polynomial of the threshold's degree.
    #[error(transparent)]
    Commitments(#[from] CommitmentsError),
    /// The proof of possession does not hold: a rogue key.
    #[error("the proof of possession does not hold")]
    Possession,
    /// The encrypted shares are not as they must be.
    #[error(transparent)]
    Shares(#[from] SealedSharesError),
}

impl KeygenTerms {
    /// The ceremony's id: the hash of its terms.
    pub fn ceremony(&self) -> CeremonyId {
        CeremonyId(Transcriber::new("postern-keygen-v1").bytes(&codec::encode(self)).finish().0)
    }

    /// The place of a member among the operators.
    pub fn position(&self, member: MemberId) -> Option<usize> {
        self.operators.iter().position(|operator| *operator == member)
    }

    /// What the new key shall sign first.
    pub fn deposit_message(&self, pubkey: PublicKey) -> DepositMessage {
        DepositMessage {
            pubkey,
            withdrawal_credentials: WithdrawalCredentials::execution(
                self.request.pool.address(&self.pool_code),
            ),
            amount: VALIDATOR_STAKE_GWEI,
        }
    }

    /// The deposit's signing root, hashed to the curve.
    pub fn deposit_hash(&self, pubkey: PublicKey) -> G2 {
        let root = self.deposit_message(pubkey).signing_root(self.network.genesis_fork_version);
        G2::hash(&root.0, ETHEREUM_DST)
    }

    /// Checks a deal's body in every way that needs no secret.
    pub fn check_deal(&self, dealer: MemberId, body: &[u8]) -> Result<OpenDeal, DealError> {
        let deal: Deal = codec::decode(body).map_err(|_| DealError::Malformed)?;
        let (ceremony, rest) = (self.ceremony(), deal.rest());
        let commitments = Commitments::decode(&deal.commitments, usize::from(self.threshold))?;
        let slot = Slot::of(ceremony, dealer, Step::Deal);
        let shares = deal.sealed.check(slot, &rest, self.operators.len(), SHARE_SIZE)?;
        let constant = commitments.constant();
        let hashed = possession_message(ceremony, dealer, &constant);
        let possession = deal.possession.decode().map_err(|_| DealError::Possession)?;
        bls::verify_point(&constant, &hashed, &possession).map_err(|_| DealError::Possession)?;
        Ok(OpenDeal { commitments, shares })
    }

    /// The certificate that a full set of deals makes. `deals` in the order of the operators.
    pub fn certificate(&self, deals: &[(Digest, &Commitments)]) -> KeygenCertificate {
        let start = Transcriber::new("postern-keygen-deals-v1");
        let digest = deals.iter().fold(start, |hash, (digest, _)| hash.bytes(&digest.0)).finish();
        let sum = Commitments::sum(deals.iter().map(|(_, commitments)| *commitments));
        let operators = self.operators.clone();
        KeygenCertificate { ceremony: self.ceremony(), operators, deals: digest, commitments: sum.encode() }
    }
}

impl KeygenCertificate {
    /// Identifies the certificate; confirmations sign it.
    pub fn digest(&self) -> Digest {
        Transcriber::new("postern-keygen-certificate-v1").bytes(&codec::encode(self)).finish()
    }

    /// The validator's public key: the first commitment.
    pub fn pubkey(&self) -> PublicKey {
        self.commitments.first().copied().unwrap_or(PublicKey([0; 48]))
    }

    /// Decodes the polynomial.
    pub fn polynomial(&self) -> Result<Commitments, CommitmentsError> {
        Commitments::decode(&self.commitments, self.commitments.len())
    }

    /// What confirmations sign, hashed to the curve under a domain of its own.
    pub fn confirm_message(&self) -> G2 {
        G2::hash(&self.digest().0, CONFIRM_DST)
    }
}

/// What a proof of possession signs, hashed to the curve: bound to ceremony and dealer, so it can't be replayed.
pub fn possession_message(ceremony: CeremonyId, dealer: MemberId, constant: &G1) -> G2 {
    let message = Transcriber::new("postern-possession-v1")
        .bytes(&ceremony.0)
        .number(dealer.0.into())
        .bytes(&constant.encode().0)
        .finish();
    G2::hash(&message.0, POSSESSION_DST)
}

/// The decrypted share, if it lies on the dealer's polynomial.
pub fn share_is_good(plaintext: &[u8], recipient: MemberId, commitments: &Commitments) -> Option<Scalar> {
    let share = Scalar::from_bytes(plaintext.try_into().ok()?)?;
    (!share.is_zero() && G1::generator() * &share == commitments.evaluate(recipient)).then_some(share)
}
