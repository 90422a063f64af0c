//! Joint dealing in public: the part of every ceremony in which members deal shares of a key to members.
//!
//! Broadcast-everything Feldman: commit, open, confirm, all or blame. Each dealer
//! 1. signs a hash of its deal ([`Commit`]), so that nobody can choose a polynomial after seeing the others';
//! 2. opens it ([`Deal`], [`PinnedDeal`]): commitments and encrypted shares, the same bytes for everybody;
//!
//! and each recipient
//! 3. says whether all deals are good ([`Verdict`]); a refusal carries a proof that anybody can check;
//! 4. confirms with its new share ([`Confirm`]). As many confirmations as the terms want make a key; fewer make nothing.
//!
//! Either the key is new: then dealers choose the constant terms of their polynomials, prove that they know them, and the
//! polynomials are added. Or it is one that there is ([`Dealing::previous`]): then dealers are holders of its shares, their
//! constant terms are these shares, which everybody can check against the key's polynomial, and the polynomials are
//! weighted by Lagrange, so that the key stays what it is. commonware's `Info { previous: Option<Output> }` is the same thought;
//! what comes before a dealing and after it (terms, deposit, generations) stays with the ceremony.

use super::basis::{Basis, TranscriptError};
use super::court::{Court, Protocol};
use super::fault::Fault;
use super::reader::{Reader, says};
use super::signing::Signing;
use crate::bls::{self, Commitments, CommitmentsError, G1, G2, PublicKey, Scalar, Signature};
use crate::codec;
use crate::hash::Transcriber;
use crate::ids::{CeremonyId, Digest, MemberId, PoolId};
use crate::lagrange;
use crate::message::{Broadcast, SignedDigest, Slot, Step};
use crate::sealed_shares::{CheckedShares, Opening, Pair, SealedShares, SealedSharesError};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;
use serde::{Deserialize, Serialize};

/// Hash-to-curve domain of proofs of possession: no other message is ever hashed under it.
const POSSESSION_DST: &[u8] = b"POSTERN_V1_POSSESSION_BLS12381G2_XMD:SHA-256_SSWU_RO_";
/// Hash-to-curve domain of confirmations: what they sign can't be a deposit or an exit.
const CONFIRM_DST: &[u8] = b"POSTERN_V1_CONFIRM_BLS12381G2_XMD:SHA-256_SSWU_RO_";

/// Size of a share of a key.
pub const SHARE_SIZE: usize = 32;

/// Who deals to whom.
#[derive(Debug, Clone, Copy)]
pub struct Dealing<'a> {
    /// Who deals, ascending.
    pub dealers: &'a [MemberId],
    /// Who gets a share, ascending.
    pub recipients: &'a [MemberId],
    /// How many shares sign.
    pub threshold: u16,
    /// How many recipients have to accept all deals and to confirm the key.
    pub confirmations: usize,
    /// The polynomial, in the exponent, of the key that is dealt again; none if the key is new.
    pub previous: Option<&'a [PublicKey]>,
}

/// The hash of the deal to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// [`crate::message::Broadcast::digest_of`] the deal's body.
    pub deal: Digest,
}

/// One dealer's polynomial, in public and in parts; its constant term is the dealer's choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deal {
    /// `a_k·G`, exactly as many as the threshold.
    pub commitments: Vec<PublicKey>,
    /// Signature with `a_0` over ceremony, dealer and `a_0·G`.
    pub possession: Signature,
    /// `f(i)` for each recipient i.
    pub sealed: SealedShares,
}

/// One dealer's polynomial, in public and in parts; its constant term is the dealer's share of a key that there is. That
/// was confirmed, so nobody has to prove that it knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedDeal {
    /// `a_k·G`, exactly as many as the threshold.
    pub commitments: Vec<PublicKey>,
    /// `f(i)` for each recipient i.
    pub sealed: SealedShares,
}

/// What a recipient thinks of all deals.
#[expect(clippy::large_enum_variant, reason = "decoded, looked at and dropped; never many at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// These deals, in the order of the terms, are good.
    Accept(Vec<SignedDigest>),
    /// Somebody cheated, and this proves it.
    Reject(Fault),
}

/// The new share works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// Digest of the certificate.
    pub certificate: Digest,
    /// Signature with the share over the certificate's digest.
    pub partial: Signature,
}

/// A deal that passes every check that needs no secret.
#[derive(Debug, Clone)]
pub struct OpenDeal {
    /// Decoded commitments.
    pub commitments: Commitments,
    /// Encrypted shares, as many as recipients.
    pub shares: CheckedShares,
}

/// What all deals make together, whether or not it is confirmed. `C` is the ceremony's certificate of it.
#[derive(Debug, Clone)]
pub struct DealtKey<C> {
    /// The public side.
    pub certificate: C,
    /// The shared polynomial, decoded.
    pub polynomial: Commitments,
}

/// The public side of a key, as a ceremony certifies it.
pub trait Certificate: Debug + Clone {
    /// Identifies the certificate; confirmations sign it.
    fn digest(&self) -> Digest;

    /// What confirmations sign, hashed to the curve under a domain of its own.
    fn confirm_message(&self) -> G2 {
        G2::hash(&self.digest().0, CONFIRM_DST)
    }
}

/// The terms of a ceremony that begins with a joint dealing: what is particular to it. Its [`Protocol`] follows.
pub trait DealingTerms: Debug + Clone {
    /// What certifies the key that is made.
    type Certificate: Certificate;

    /// The ceremony's last step: [`Step::Confirm`], unless more is signed with the new shares.
    const LAST: Step;

    /// The run's id: the hash of its terms.
    fn ceremony(&self) -> CeremonyId;

    /// The pool that it is about.
    fn pool(&self) -> PoolId;

    /// Refuses terms that do not follow from manifest and roster.
    fn check(&self, basis: &Basis<'_>) -> Result<(), TranscriptError>;

    /// Who deals to whom.
    fn dealing(&self) -> Dealing<'_>;

    /// Certifies what these deals, in the order of the dealers, make together.
    fn certify(
        &self,
        deals: &[Digest],
        polynomial: &Commitments,
    ) -> Result<Self::Certificate, CertificateError>;

    /// Whether a statement of a step after the confirmations fails a check that needs nothing but terms. So does one of a
    /// step that is not the ceremony's.
    fn is_malformed(&self, _: &Broadcast) -> bool {
        true
    }

    /// Whether what a member has signed with its new share after it was confirmed is good. `None` of what is no such
    /// statement.
    fn signature_holds(&self, _: &DealtKey<Self::Certificate>, _: &Broadcast) -> Option<bool> {
        None
    }

    /// Whether what a member has signed with its new share is good. `None` of what is no such statement.
    fn partial_holds(&self, key: &DealtKey<Self::Certificate>, said: &Broadcast) -> Option<bool> {
        if said.slot.step != Step::Confirm {
            return self.signature_holds(key, said);
        }
        let confirm = codec::decode::<Confirm>(&said.body).ok()?;
        Some(key.is_confirmed(said.slot.from, &confirm))
    }

    /// Checks a deal's body in every way that needs no secret.
    fn check_deal(&self, dealer: MemberId, body: &[u8]) -> Result<OpenDeal, DealError> {
        let previous = self.dealing().decode_previous()?;
        self.check_deal_after(previous.as_ref(), dealer, body)
    }

    /// The same, by the polynomial that [`Dealing::decode_previous`] gives: whoever checks many decodes it once.
    fn check_deal_after(
        &self,
        previous: Option<&Commitments>,
        dealer: MemberId,
        body: &[u8],
    ) -> Result<OpenDeal, DealError> {
        let slot = Slot::of(self.ceremony(), dealer, Step::Deal);
        let dealing = self.dealing();
        let (threshold, count) = (usize::from(dealing.threshold), dealing.recipients.len());
        let Some(previous) = previous else {
            let deal: Deal = codec::decode(body).map_err(|_| DealError::Malformed)?;
            let rest = deal.rest();
            let commitments = Commitments::decode(&deal.commitments, threshold)?;
            let shares = deal.sealed.check(slot, &rest, count, SHARE_SIZE)?;
            let constant = commitments.constant();
            let hashed = possession_message(slot.ceremony, dealer, &constant);
            let possession = deal.possession.decode().map_err(|_| DealError::Possession)?;
            bls::verify_point(&constant, &hashed, &possession).map_err(|_| DealError::Possession)?;
            return Ok(OpenDeal { commitments, shares });
        };
        let deal: PinnedDeal = codec::decode(body).map_err(|_| DealError::Malformed)?;
        let commitments = Commitments::decode(&deal.commitments, threshold)?;
        if commitments.constant() != previous.evaluate(dealer) {
            return Err(DealError::OtherShare);
        }
        let shares = deal.sealed.check(slot, &deal.commitments, count, SHARE_SIZE)?;
        Ok(OpenDeal { commitments, shares })
    }

    /// The key that a full set of deals makes. `deals` in the order of the dealers.
    fn add_up(
        &self,
        deals: &[(Digest, &Commitments)],
    ) -> Result<DealtKey<Self::Certificate>, CertificateError> {
        let dealing = self.dealing();
        let commitments = deals.iter().map(|(_, commitments)| *commitments);
        let polynomial = if dealing.previous.is_some() {
            let dealt: Vec<_> = dealing.dealers.iter().copied().zip(commitments).collect();
            lagrange::combine(&dealt).ok_or(CertificateError::Dealers)?
        } else {
            Commitments::sum(commitments)
        };
        let digests: Vec<Digest> = deals.iter().map(|(digest, _)| *digest).collect();
        Ok(DealtKey { certificate: self.certify(&digests, &polynomial)?, polynomial })
    }
}

/// Why a deal is refused.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DealError {
    /// Not the encoding of a deal.
    #[error("the deal does not decode")]
    Malformed,
    /// The commitments do not match a polynomial of the threshold's degree.
    #[error(transparent)]
    Commitments(#[from] CommitmentsError),
    /// The proof of possession does not hold: a rogue key.
    #[error("the proof of possession does not hold")]
    Possession,
    /// The constant term is not the dealer's share of the key that is dealt again.
    #[error("the constant term is not the dealer's share of the key")]
    OtherShare,
    /// The encrypted shares are not as they must be.
    #[error(transparent)]
    Shares(#[from] SealedSharesError),
}

/// Why deals make no key. Terms that were checked and deals that were checked always make one.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The dealers can't be weighted: one of them is there twice.
    #[error("the dealers can't be weighted")]
    Dealers,
    /// The key that is dealt again would become another.
    #[error("the deals make another key than the one that is dealt again")]
    OtherKey,
    /// There is no generation of shares after the one in force.
    #[error("there is no further generation")]
    Generation,
}

impl<'a> Dealing<'a> {
    /// The place of a member among the recipients.
    pub fn position(&self, member: MemberId) -> Option<usize> {
        self.recipients.iter().position(|recipient| *recipient == member)
    }

    /// Whether a member has a part in it.
    pub fn includes(&self, member: MemberId) -> bool {
        self.dealers.contains(&member) || self.recipients.contains(&member)
    }

    /// Whose statements a step waits for.
    pub fn speakers(&self, step: Step) -> &'a [MemberId] {
        if matches!(step, Step::Commit | Step::Deal) { self.dealers } else { self.recipients }
    }

    /// Whether it is for a member to speak at a step. A dealer that gets no share may accuse, like anybody.
    pub fn may_speak(&self, member: MemberId, step: Step) -> bool {
        self.speakers(step).contains(&member) || (step == Step::Verdict && self.dealers.contains(&member))
    }

    /// The polynomial of the key that is dealt again, decoded.
    pub fn decode_previous(&self) -> Result<Option<Commitments>, CommitmentsError> {
        self.previous.map(|points| Commitments::decode(points, points.len())).transpose()
    }

    /// What the dealers' polynomials, and a recipient's shares of them, are weighted with. `None` if the dealers are none.
    pub fn weights(&self) -> Option<Vec<Scalar>> {
        match self.previous {
            Some(_) => lagrange::at_zero(self.dealers),
            None => Some(vec![Scalar::from_u64(1); self.dealers.len()]),
        }
    }

    /// Whether an acceptance lists one authentic deal of each dealer, in order.
    fn are_deals(&self, deals: &[SignedDigest], court: &Court<'_>) -> bool {
        deals.len() == self.dealers.len()
            && deals.iter().zip(self.dealers).all(|(deal, dealer)| {
                (deal.slot.step, deal.slot.from, deal.slot.item) == (Step::Deal, *dealer, 0)
                    && court.roster.get(*dealer).is_some_and(|dealer| court.said(dealer, deal))
            })
    }
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

    /// What is in a verdict, if a statement is one.
    fn in_statement(statement: &Broadcast) -> Option<Self> {
        (statement.slot.step == Step::Verdict).then(|| codec::decode(&statement.body).ok())?
    }
}

impl<C: Certificate> DealtKey<C> {
    /// What confirmations sign, and with which shares.
    pub fn confirming(&self) -> Signing<'_> {
        Signing { message: self.certificate.confirm_message(), polynomial: &self.polynomial }
    }

    /// Whether a member has confirmed this key with its share.
    pub fn is_confirmed(&self, by: MemberId, said: &Confirm) -> bool {
        said.certificate == self.certificate.digest() && self.confirming().is_partial(by, &said.partial)
    }
}

impl<T: DealingTerms> Protocol for T {
    fn ceremony(&self) -> CeremonyId {
        DealingTerms::ceremony(self)
    }

    fn pool(&self) -> PoolId {
        DealingTerms::pool(self)
    }

    fn check(&self, basis: &Basis<'_>) -> Result<(), TranscriptError> {
        DealingTerms::check(self, basis)
    }

    fn is_invalid(&self, statement: &Broadcast, court: &Court<'_>) -> bool {
        let (slot, body) = (statement.slot, &statement.body);
        let dealing = self.dealing();
        if !dealing.may_speak(slot.from, slot.step) {
            return true;
        }
        match slot.step {
            Step::Commit => codec::decode::<Commit>(body).is_err(),
            Step::Deal => self.check_deal(slot.from, body).is_err(),
            Step::Verdict => match codec::decode::<Verdict>(body) {
                Ok(Verdict::Accept(deals)) => !dealing.are_deals(&deals, court),
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
            _ => self.is_malformed(statement),
        }
    }

    fn accusation_in(&self, statement: &Broadcast) -> Option<Fault> {
        match Verdict::in_statement(statement)? {
            Verdict::Reject(fault) => Some(fault),
            Verdict::Accept(_) => None,
        }
    }

    fn accepted_in(&self, statement: &Broadcast) -> Vec<SignedDigest> {
        match Verdict::in_statement(statement) {
            Some(Verdict::Accept(deals)) => deals,
            _ => Vec::new(),
        }
    }

    fn breaks_commitment(&self, commit: &Broadcast, deal: &SignedDigest) -> bool {
        codec::decode::<Commit>(&commit.body).is_ok_and(|promised| promised.deal != deal.digest)
    }

    fn share_is_bad(&self, dealt: &Broadcast, pair: &Pair<'_>, opening: &Opening) -> bool {
        let recipient = pair.recipient.member;
        let position = self.dealing().position(recipient);
        let Some(position) = position.filter(|_| dealt.slot.step == Step::Deal) else {
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
        let dealing = self.dealing();
        if !dealing.are_deals(&accepted, court) {
            return Ok(false);
        }
        let deals =
            accepted.iter().map(|deal| court.find(deal)).collect::<Result<Vec<&Broadcast>, Slot>>()?;
        let Ok(previous) = dealing.decode_previous() else { return Ok(false) };
        let check = |deal: &&Broadcast| self.check_deal_after(previous.as_ref(), deal.slot.from, &deal.body);
        let Ok(open) = deals.iter().map(check).collect::<Result<Vec<OpenDeal>, DealError>>() else {
            return Ok(false);
        };
        let digests: Vec<(Digest, &Commitments)> =
            accepted.iter().map(|deal| deal.digest).zip(open.iter().map(|deal| &deal.commitments)).collect();
        Ok(self.add_up(&digests).is_ok_and(|key| self.partial_holds(&key, partial) == Some(false)))
    }
}

/// Checks that all dealers have opened what they had committed to, that the deals are good as far as no secret is needed to
/// tell, and that these members have accepted them and confirmed the key that they make. Gives the key.
pub(super) fn verify<T: DealingTerms>(
    terms: &T,
    reader: &mut Reader<'_>,
    confirmed: &[MemberId],
) -> Result<DealtKey<T::Certificate>, TranscriptError> {
    let dealing = terms.dealing();
    let previous = dealing.decode_previous().map_err(|_| TranscriptError::Terms { what: "certificate" })?;
    let mut deals = Vec::new();
    for member in dealing.dealers.iter().copied() {
        let (deal, open) = reader.need(member, Step::Deal, |deal| {
            let open = terms.check_deal_after(previous.as_ref(), member, &deal.body).ok()?;
            Some((deal.signed_digest(), open))
        })?;
        let promised = |commit: Commit| commit.deal == deal.digest;
        reader.need(member, Step::Commit, |commit| says(commit, promised))?;
        deals.push((deal, open));
    }
    let digests: Vec<_> = deals.iter().map(|(signed, open)| (signed.digest, &open.commitments)).collect();
    let key = terms.add_up(&digests).map_err(|_| TranscriptError::Result)?;
    let signed: Vec<SignedDigest> = deals.iter().map(|(signed, _)| *signed).collect();
    // Hashed once.
    let (confirming, digest) = (key.confirming(), key.certificate.digest());
    for member in confirmed.iter().copied() {
        let accepts = |verdict: Verdict| verdict.accepts(&signed);
        reader.need(member, Step::Verdict, |verdict| says(verdict, accepts))?;
        let confirms = |confirm: Confirm| {
            confirm.certificate == digest && confirming.is_partial(member, &confirm.partial)
        };
        reader.need(member, Step::Confirm, |confirm| says(confirm, confirms))?;
    }
    Ok(key)
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
