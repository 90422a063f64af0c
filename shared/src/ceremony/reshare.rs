//! Reshare in public: holders of a key's shares deal the key again, to a committee and with a threshold that may be others.
//! The key stays what it is; shares of two generations don't combine. A refresh is a reshare to those who hold the shares,
//! with the threshold that they have: nothing here treats it otherwise.
//!
//! # Who decides what
//! The operators and the threshold are those of the manifest under which it runs, the key is that of a certificate
//! ([`KeyCertificate`]) that each participant has in force itself. Nothing comes from whoever proposes a run but which
//! operators take part, which holders deal, and which attempt it is; [`ReshareTerms::new`] derives all else, and a verifier
//! derives it again.
//!
//! # Who deals
//! Exactly t holders, named before anybody deals. All of them have to deal, so every further one could hold up a run by silence,
//! and adds nothing: among t there is an honest one, whose polynomial hides all others', as long as fewer than t are
//! broken, and with more the key is lost anyway. If one is silent or cheats, the attempt is left, and another set deals in the
//! next.
//!
//! # Who confirms
//! As many as [`committee::least`] of the operators, so that a few that are silent hold up nothing. The proceedings say who it
//! was. That a certificate is confirmed does not put it in force: two attempts may each come so far. The members decide on one
//! (`crate::agreement`).

use super::basis::{Basis, TranscriptError, at_least};
use super::dealing::{self, Certificate, CertificateError, Dealing, DealingTerms};
use super::reader::Reader;
use crate::agreement::Attempt;
use crate::bls::{Commitments, CommitmentsError, PublicKey};
use crate::codec;
use crate::committee;
use crate::ethereum::Network;
use crate::hash::Transcriber;
use crate::identity::Roster;
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId, PoolId};
use crate::keygen::KeygenCertificate;
use crate::manifest::Manifest;
use crate::message::{Broadcast, Step};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The public side of a validator's key, with its shares as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyCertificate {
    /// As keygen made them.
    Keygen(KeygenCertificate),
    /// As they were dealt again.
    Reshare(ReshareCertificate),
}

/// What a reshare made: the public side of the shares of a key that there was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReshareCertificate {
    /// The ceremony.
    pub ceremony: CeremonyId,
    /// How often the key was dealt again. In here, it is bound in all that names the certificate.
    pub generation: u32,
    /// Who has shares, ascending, or may have them: whoever has not confirmed reads its share from the deals.
    pub operators: Vec<MemberId>,
    /// Hash over all deals, in the order of the dealers.
    pub deals: Digest,
    /// The shared polynomial in the exponent; the first is the validator's public key.
    pub commitments: Vec<PublicKey>,
}

/// What all participants must agree on before they start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReshareTerms {
    /// The DAO.
    pub manifest: ManifestHash,
    /// The enclaves of dealers and operators.
    pub roster: Digest,
    /// The chain that the validator is on.
    pub network: Network,
    /// What the key is for.
    pub pool: PoolId,
    /// The key, with the shares that are in force.
    pub before: KeyCertificate,
    /// Who deals: as many holders of these shares as sign, ascending.
    pub dealers: Vec<MemberId>,
    /// Who gets a share, ascending.
    pub operators: Vec<MemberId>,
    /// How many of the new shares sign.
    pub threshold: u16,
    /// How many operators have to confirm.
    pub confirmations: u16,
    /// The attempt at an agreement on the next generation that this is.
    pub attempt: Attempt,
}

/// Shares were dealt again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReshareProceedings {
    /// What they had agreed on.
    pub terms: ReshareTerms,
    /// Operators that have confirmed, ascending.
    pub confirmed: Vec<MemberId>,
    /// The dealers' commits and deals, and the verdicts and confirmations of those who have confirmed.
    pub statements: Vec<Broadcast>,
}

/// Why a key can't be dealt again so.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReshareError {
    /// The polynomial of the key in force is none.
    #[error("the certificate of the key in force holds no polynomial: {0}")]
    Polynomial(#[from] CommitmentsError),
    /// The holders of its shares are not members, ascending, at least as many as sign.
    #[error("the certificate of the key in force names no holders")]
    Holders,
    /// The dealers are not as many holders as sign, ascending.
    #[error("{expected} holders of shares, ascending, have to deal; {found} of those named are")]
    Dealers {
        /// The threshold of the shares in force.
        expected: usize,
        /// Dealers that hold shares, if they ascend.
        found: usize,
    },
    /// The operators are not enough of the manifest's, ascending.
    #[error("the operators are not a committee of the manifest's")]
    Operators,
    /// A threshold of 0 or 1 shares nothing, and one above the number of shares could never be met.
    #[error("a threshold of {threshold} of {operators}")]
    Threshold {
        /// How many sign.
        threshold: u16,
        /// How many get a share.
        operators: usize,
    },
    /// The roster is not that of dealers and operators.
    #[error("the roster is not that of dealers and operators")]
    Roster,
    /// There is no generation of shares after the one in force.
    #[error("there is no further generation")]
    Generation,
    /// The key that is named is not the one that is in force.
    #[error("another key, or another generation of its shares, is in force")]
    NotInForce,
}

impl KeyCertificate {
    /// How often the key was dealt again.
    pub fn generation(&self) -> u32 {
        match self {
            Self::Keygen(_) => 0,
            Self::Reshare(certificate) => certificate.generation,
        }
    }

    /// Who has shares, ascending.
    pub fn operators(&self) -> &[MemberId] {
        match self {
            Self::Keygen(certificate) => &certificate.operators,
            Self::Reshare(certificate) => &certificate.operators,
        }
    }

    /// The shared polynomial in the exponent.
    pub fn commitments(&self) -> &[PublicKey] {
        match self {
            Self::Keygen(certificate) => &certificate.commitments,
            Self::Reshare(certificate) => &certificate.commitments,
        }
    }

    /// How many shares sign.
    pub fn threshold(&self) -> usize {
        self.commitments().len()
    }

    /// The validator's public key, if there is one.
    pub fn pubkey(&self) -> Option<PublicKey> {
        self.commitments().first().copied()
    }

    /// The generation of shares after this one.
    fn next_generation(&self) -> Option<u32> {
        self.generation().checked_add(1)
    }

    /// Refuses what can't be the certificate of a key.
    fn check(&self) -> Result<(), ReshareError> {
        Commitments::decode(self.commitments(), self.threshold())?;
        let (holders, threshold) = (self.operators(), self.threshold());
        let members = ascends(holders) && holders.first().is_some_and(|first| first.0 != 0);
        if members && threshold > 1 && threshold <= holders.len() {
            Ok(())
        } else {
            Err(ReshareError::Holders)
        }
    }
}

impl ReshareTerms {
    /// The terms by which these operators of a manifest are dealt a pool's key by these holders of its shares. Everything else
    /// follows.
    pub fn new(
        manifest: &Manifest,
        roster: &Roster,
        pool: PoolId,
        before: KeyCertificate,
        dealers: Vec<MemberId>,
        operators: Vec<MemberId>,
        attempt: Attempt,
    ) -> Result<Self, ReshareError> {
        before.check()?;
        before.next_generation().ok_or(ReshareError::Generation)?;
        let expected = before.threshold();
        let hold = dealers.iter().filter(|dealer| before.operators().contains(dealer)).count();
        let found = if ascends(&dealers) { hold } else { 0 };
        if found != expected || dealers.len() != expected {
            return Err(ReshareError::Dealers { expected, found });
        }
        let threshold = manifest.thresholds.operator;
        if threshold < 2 || usize::from(threshold) > operators.len() {
            return Err(ReshareError::Threshold { threshold, operators: operators.len() });
        }
        if !manifest.is_operator_committee(&operators) {
            return Err(ReshareError::Operators);
        }
        let participants: BTreeSet<MemberId> = dealers.iter().chain(&operators).copied().collect();
        if !roster.members().eq(participants) {
            return Err(ReshareError::Roster);
        }
        // Not more than there are operators, which a manifest counts in 16 bits.
        let confirmations = committee::least(operators.len(), threshold.into()) as u16;
        Ok(Self {
            manifest: manifest.hash(),
            roster: roster.digest(),
            network: manifest.network,
            pool,
            before,
            dealers,
            operators,
            threshold,
            confirmations,
            attempt,
        })
    }

    /// The ceremony's id: the hash of its terms.
    pub fn ceremony(&self) -> CeremonyId {
        CeremonyId(Transcriber::new("postern-reshare-v1").bytes(&codec::encode(self)).finish().0)
    }
}

impl DealingTerms for ReshareTerms {
    type Certificate = ReshareCertificate;

    const LAST: Step = Step::Confirm;

    fn ceremony(&self) -> CeremonyId {
        self.ceremony()
    }

    fn pool(&self) -> PoolId {
        self.pool
    }

    fn check(&self, basis: &Basis<'_>) -> Result<(), TranscriptError> {
        basis.require(self.manifest, &self.network, self.roster, self.pool)?;
        let Self { pool, before, dealers, operators, attempt, .. } = self.clone();
        let derived = Self::new(basis.manifest, basis.roster, pool, before, dealers, operators, attempt)?;
        super::basis::require(*self == derived, "thresholds")
    }

    fn dealing(&self) -> Dealing<'_> {
        Dealing {
            dealers: &self.dealers,
            recipients: &self.operators,
            threshold: self.threshold,
            confirmations: self.confirmations.into(),
            previous: Some(self.before.commitments()),
        }
    }

    fn certify(
        &self,
        deals: &[Digest],
        polynomial: &Commitments,
    ) -> Result<ReshareCertificate, CertificateError> {
        let generation = self.before.next_generation().ok_or(CertificateError::Generation)?;
        let commitments = polynomial.encode();
        if commitments.first().copied() != self.before.pubkey() {
            return Err(CertificateError::OtherKey);
        }
        let start = Transcriber::new("postern-reshare-deals-v1");
        let deals = deals.iter().fold(start, |hash, digest| hash.bytes(&digest.0)).finish();
        let (ceremony, operators) = (self.ceremony(), self.operators.clone());
        Ok(ReshareCertificate { ceremony, generation, operators, deals, commitments })
    }
}

impl ReshareCertificate {
    /// The validator's public key: the first commitment.
    pub fn pubkey(&self) -> PublicKey {
        self.commitments.first().copied().unwrap_or(PublicKey([0; 48]))
    }
}

impl Certificate for ReshareCertificate {
    fn digest(&self) -> Digest {
        Transcriber::new("postern-reshare-certificate-v1").bytes(&codec::encode(self)).finish()
    }
}

impl ReshareProceedings {
    /// Checks everything but attestation evidence, and whether the key that was dealt again was in force; gives the
    /// certificate of its new shares.
    pub(super) fn verify(&self, basis: &Basis<'_>) -> Result<ReshareCertificate, TranscriptError> {
        let Self { terms, confirmed, statements } = self;
        DealingTerms::check(terms, basis)?;
        let operators = confirmed.iter().filter(|member| terms.operators.contains(member)).count();
        super::basis::require(ascends(confirmed) && operators == confirmed.len(), "who has confirmed")?;
        at_least(terms.confirmations.into(), operators)?;
        let mut reader = Reader::new(basis, terms.ceremony(), statements)?;
        let key = dealing::verify(terms, &mut reader, confirmed)?;
        reader.finish()?;
        Ok(key.certificate)
    }
}

fn ascends(members: &[MemberId]) -> bool {
    members.windows(2).all(|pair| pair.first() < pair.last())
}
