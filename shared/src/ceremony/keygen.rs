//! Keygen in public: its terms, its statements, and every check of them that needs no secret.
//!
//! Broadcast-everything Joint-Feldman: commit, open, confirm, all or blame. Each operator
//! 1. signs a hash of its deal ([`Commit`]), so that nobody can choose a polynomial after seeing the others';
//! 2. opens it ([`Deal`]): commitments, proof of possession, encrypted shares, the same bytes for everybody;
//! 3. says whether all deals are good ([`Verdict`]); a refusal carries a proof that anybody can check;
//! 4. confirms with its new share ([`Confirm`]). All confirmations make a key; fewer make nothing;
//! 5. signs the deposit with its share ([`PartialDeposit`]), once the members have agreed that this is the pool's key
//!    (`crate::agreement`).

use super::basis::{Basis, TranscriptError, at_least, require};
use super::court::{Court, Protocol};
use super::fault::Fault;
use super::reader::{Reader, says};
use super::signing::Signing;
use crate::agreement::Attempt;
use crate::bls::{self, Commitments, CommitmentsError, ETHEREUM_DST, G1, G2, PublicKey, Scalar, Signature};
use crate::codec;
use crate::ethereum::{DepositData, DepositMessage, Network, VALIDATOR_STAKE_GWEI, WithdrawalCredentials};
use crate::events::DepositRequest;
use crate::hash::Transcriber;
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId, PoolId};
use crate::manifest::Contracts;
use crate::message::{Broadcast, SignedDigest, Slot, Step};
use crate::sealed_shares::{CheckedShares, Opening, Pair, SealedShares, SealedSharesError};
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

/// What all deals make together, whether or not everybody has confirmed it.
#[derive(Debug, Clone)]
pub struct DealtKey {
    /// The public side.
    pub certificate: KeygenCertificate,
    /// The shared polynomial, decoded.
    pub polynomial: Commitments,
}

/// A key was made and its deposit signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeygenProceedings {
    /// What they had agreed on.
    pub terms: KeygenTerms,
    /// Every operator's commit, deal, verdict and confirmation, and partial deposit signatures.
    pub statements: Vec<Broadcast>,
    /// The result.
    pub deposit: DepositData,
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

    /// The key that a full set of deals makes. `deals` in the order of the operators.
    pub fn add_up(&self, deals: &[(Digest, &Commitments)]) -> DealtKey {
        let start = Transcriber::new("postern-keygen-deals-v1");
        let digest = deals.iter().fold(start, |hash, (digest, _)| hash.bytes(&digest.0)).finish();
        let polynomial = Commitments::sum(deals.iter().map(|(_, commitments)| *commitments));
        let (ceremony, operators, commitments) =
            (self.ceremony(), self.operators.clone(), polynomial.encode());
        let certificate = KeygenCertificate { ceremony, operators, deals: digest, commitments };
        DealtKey { certificate, polynomial }
    }

    /// Whether an acceptance lists one authentic deal of each operator, in order.
    fn are_deals(&self, deals: &[SignedDigest], court: &Court<'_>) -> bool {
        deals.len() == self.operators.len()
            && deals.iter().zip(&self.operators).all(|(deal, operator)| {
                (deal.slot.step, deal.slot.from, deal.slot.item) == (Step::Deal, *operator, 0)
                    && court.roster.get(*operator).is_some_and(|dealer| court.said(dealer, deal))
            })
    }
}

impl DealtKey {
    /// What confirmations sign, and with which shares.
    pub fn confirming(&self) -> Signing<'_> {
        Signing { message: self.certificate.confirm_message(), polynomial: &self.polynomial }
    }

    /// The deposit that these terms ask for, and with which shares it is signed.
    pub fn depositing(&self, terms: &KeygenTerms) -> Signing<'_> {
        Signing { message: terms.deposit_hash(self.certificate.pubkey()), polynomial: &self.polynomial }
    }

    /// Whether a member has confirmed this key with its share.
    pub fn is_confirmed(&self, by: MemberId, said: &Confirm) -> bool {
        said.certificate == self.certificate.digest() && self.confirming().is_partial(by, &said.partial)
    }
}

impl Protocol for KeygenTerms {
    fn ceremony(&self) -> CeremonyId {
        self.ceremony()
    }

    fn pool(&self) -> PoolId {
        self.request.pool
    }

    fn check(&self, basis: &Basis<'_>) -> Result<(), TranscriptError> {
        let Basis { manifest, roster } = *basis;
        basis.require(self.manifest, &self.network, self.roster, self.request.pool)?;
        // Of a pool manager that an earlier manifest has named, that one says.
        let Contracts { pool_manager, pool_code, .. } = &manifest.contracts;
        let of_now = self.request.pool.contract == *pool_manager;
        require(!of_now || self.pool_code == *pool_code, "pool code")?;
        require(manifest.is_operator_committee(&self.operators), "operators")?;
        require(roster.members().eq(self.operators.iter().copied()), "participants")?;
        require(self.threshold == manifest.thresholds.operator, "operator threshold")
    }

    fn is_invalid(&self, statement: &Broadcast, court: &Court<'_>) -> bool {
        let (slot, body) = (statement.slot, &statement.body);
        match slot.step {
            Step::Commit => codec::decode::<Commit>(body).is_err(),
            Step::Deal => self.check_deal(slot.from, body).is_err(),
            Step::Verdict => match codec::decode::<Verdict>(body) {
                Ok(Verdict::Accept(deals)) => !self.are_deals(&deals, court),
                // What is said after the verdicts is judged by each for itself. And who names what it can't have heard
                // would hold up all others: every statement of these steps is either here, or contradicted, or missing.
                Ok(Verdict::Reject(fault)) => {
                    let slots = fault.proof.named().map(|said| said.slot);
                    // Nor does anybody accuse itself.
                    let itself = fault.culprit == slot.from;
                    let heard = |slot: Slot| slot.step <= Step::Verdict && slot.item == 0;
                    itself || !slots.clone().all(heard) || !court.is_well_formed(&fault)
                }
                Err(_) => true,
            },
            Step::Confirm => codec::decode::<Confirm>(body).is_err(),
            Step::Deposit => codec::decode::<PartialDeposit>(body).is_err(),
            _ => true,
        }
    }

    fn accusation_in(&self, statement: &Broadcast) -> Option<Fault> {
        match verdict_in(statement)? {
            Verdict::Reject(fault) => Some(fault),
            Verdict::Accept(_) => None,
        }
    }

    fn accepted_in(&self, statement: &Broadcast) -> Vec<SignedDigest> {
        match verdict_in(statement) {
            Some(Verdict::Accept(deals)) => deals,
            _ => Vec::new(),
        }
    }

    fn breaks_commitment(&self, commit: &Broadcast, deal: &SignedDigest) -> bool {
        codec::decode::<Commit>(&commit.body).is_ok_and(|promised| promised.deal != deal.digest)
    }

    fn share_is_bad(&self, dealt: &Broadcast, pair: &Pair<'_>, opening: &Opening) -> bool {
        let recipient = pair.recipient.member;
        let Some(position) = self.position(recipient).filter(|_| dealt.slot.step == Step::Deal) else {
            return false;
        };
        self.check_deal(dealt.slot.from, &dealt.body).is_ok_and(|OpenDeal { commitments, shares }| {
            shares.shows_bad(pair, position, opening, |plain| share_is_good(plain, recipient, &commitments))
        })
    }

    fn partial_is_invalid(
        &self,
        verdict: &SignedDigest,
        partial: &SignedDigest,
        court: &Court<'_>,
    ) -> Result<bool, Slot> {
        let (verdict, partial) = (court.find(verdict)?, court.find(partial)?);
        let Ok(Verdict::Accept(accepted)) = codec::decode(&verdict.body) else { return Ok(false) };
        if !self.are_deals(&accepted, court) {
            return Ok(false);
        }
        let deals =
            accepted.iter().map(|deal| court.find(deal)).collect::<Result<Vec<&Broadcast>, Slot>>()?;
        let open = deals.iter().map(|deal| self.check_deal(deal.slot.from, &deal.body));
        let Ok(open) = open.collect::<Result<Vec<OpenDeal>, DealError>>() else { return Ok(false) };
        let digests: Vec<(Digest, &Commitments)> =
            accepted.iter().map(|deal| deal.digest).zip(open.iter().map(|deal| &deal.commitments)).collect();
        let key = self.add_up(&digests);
        let by = partial.slot.from;
        Ok(match partial.slot.step {
            Step::Confirm => {
                codec::decode::<Confirm>(&partial.body).is_ok_and(|said| !key.is_confirmed(by, &said))
            }
            Step::Deposit => codec::decode::<PartialDeposit>(&partial.body)
                .is_ok_and(|said| !key.depositing(self).is_partial(by, &said.partial)),
            _ => false,
        })
    }
}

/// What is in a verdict, if a statement is one.
fn verdict_in(statement: &Broadcast) -> Option<Verdict> {
    (statement.slot.step == Step::Verdict).then(|| codec::decode(&statement.body).ok())?
}

impl KeygenProceedings {
    /// Checks everything but attestation evidence; gives the key that was made.
    pub(super) fn verify(&self, basis: &Basis<'_>) -> Result<KeygenCertificate, TranscriptError> {
        let Self { terms, statements, deposit } = self;
        terms.check(basis)?;
        let mut reader = Reader::new(basis, terms.ceremony(), statements)?;
        let mut deals = Vec::new();
        for member in terms.operators.iter().copied() {
            let (deal, open) = reader.need(member, Step::Deal, |deal| {
                Some((deal.signed_digest(), terms.check_deal(member, &deal.body).ok()?))
            })?;
            let promised = |commit: Commit| commit.deal == deal.digest;
            reader.need(member, Step::Commit, |commit| says(commit, promised))?;
            deals.push((deal, open));
        }
        let digests: Vec<_> = deals.iter().map(|(signed, open)| (signed.digest, &open.commitments)).collect();
        let key = terms.add_up(&digests);
        let signed: Vec<SignedDigest> = deals.iter().map(|(signed, _)| *signed).collect();
        // Hashed once.
        let (confirming, digest) = (key.confirming(), key.certificate.digest());
        let depositing = key.depositing(terms);
        let mut depositors = Vec::new();
        for member in terms.operators.iter().copied() {
            let accepts = |verdict: Verdict| verdict.accepts(&signed);
            reader.need(member, Step::Verdict, |verdict| says(verdict, accepts))?;
            let confirms = |confirm: Confirm| {
                confirm.certificate == digest && confirming.is_partial(member, &confirm.partial)
            };
            reader.need(member, Step::Confirm, |confirm| says(confirm, confirms))?;
            let signs = |deposit: PartialDeposit| depositing.is_partial(member, &deposit.partial);
            depositors.extend(reader.read(member, Step::Deposit, 0, |deposit| says(deposit, signs))?);
        }
        reader.finish()?;
        // The deposit is the one of the terms, signed by the new key and by at least a threshold of operators.
        at_least(terms.threshold.into(), depositors.len())?;
        let asked = deposit.message == terms.deposit_message(key.certificate.pubkey());
        if !asked || !depositing.is_whole(&deposit.signature) {
            return Err(TranscriptError::Result);
        }
        Ok(key.certificate)
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
