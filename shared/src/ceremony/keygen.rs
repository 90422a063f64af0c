//! Keygen in public: its terms, its statements, and every check of them that needs no secret.
//!
//! The operators deal each other a new key ([`dealing`](super::dealing)); all of their confirmations make it, fewer make
//! nothing. Then each signs the deposit with its share ([`PartialDeposit`]), once the members have agreed that this is the
//! pool's key (`crate::agreement`).

use super::basis::{Basis, TranscriptError, at_least, require};
use super::dealing::{self, Certificate, CertificateError, Dealing, DealingTerms, DealtKey};
use super::reader::{Reader, says};
use super::signing::Signing;
use crate::agreement::Attempt;
use crate::bls::{Commitments, CommitmentsError, ETHEREUM_DST, G2, PublicKey, Signature};
use crate::codec;
use crate::ethereum::{DepositData, DepositMessage, Network, VALIDATOR_STAKE_GWEI, WithdrawalCredentials};
use crate::events::DepositRequest;
use crate::hash::Transcriber;
use crate::ids::{CeremonyId, Digest, ManifestHash, MemberId, PoolId};
use crate::manifest::Contracts;
use crate::message::{Broadcast, Step};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

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
}

impl DealtKey<KeygenCertificate> {
    /// The deposit that these terms ask for, and with which shares it is signed.
    pub fn depositing(&self, terms: &KeygenTerms) -> Signing<'_> {
        Signing { message: terms.deposit_hash(self.certificate.pubkey()), polynomial: &self.polynomial }
    }
}

impl DealingTerms for KeygenTerms {
    type Certificate = KeygenCertificate;

    const LAST: Step = Step::Deposit;

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

    fn dealing(&self) -> Dealing<'_> {
        Dealing {
            dealers: &self.operators,
            recipients: &self.operators,
            threshold: self.threshold,
            confirmations: self.operators.len(),
            previous: None,
        }
    }

    fn certify(
        &self,
        deals: &[Digest],
        polynomial: &Commitments,
    ) -> Result<KeygenCertificate, CertificateError> {
        let start = Transcriber::new("postern-keygen-deals-v1");
        let deals = deals.iter().fold(start, |hash, digest| hash.bytes(&digest.0)).finish();
        let (ceremony, operators, commitments) =
            (self.ceremony(), self.operators.clone(), polynomial.encode());
        Ok(KeygenCertificate { ceremony, operators, deals, commitments })
    }

    fn is_malformed(&self, statement: &Broadcast) -> bool {
        statement.slot.step != Step::Deposit || codec::decode::<PartialDeposit>(&statement.body).is_err()
    }

    fn signature_holds(&self, key: &DealtKey<KeygenCertificate>, said: &Broadcast) -> Option<bool> {
        let deposit = (said.slot.step == Step::Deposit).then(|| codec::decode::<PartialDeposit>(&said.body));
        Some(key.depositing(self).is_partial(said.slot.from, &deposit?.ok()?.partial))
    }
}

impl KeygenProceedings {
    /// Checks everything but attestation evidence; gives the key that was made.
    pub(super) fn verify(&self, basis: &Basis<'_>) -> Result<KeygenCertificate, TranscriptError> {
        let Self { terms, statements, deposit } = self;
        DealingTerms::check(terms, basis)?;
        let mut reader = Reader::new(basis, terms.ceremony(), statements)?;
        let key = dealing::verify(terms, &mut reader, &terms.operators)?;
        // The deposit is the one of the terms, signed by the new key and by at least a threshold of operators.
        let depositing = key.depositing(terms);
        let mut depositors = Vec::new();
        for member in terms.operators.iter().copied() {
            let signs = |deposit: PartialDeposit| depositing.is_partial(member, &deposit.partial);
            depositors.extend(reader.read(member, Step::Deposit, 0, |deposit| says(deposit, signs))?);
        }
        reader.finish()?;
        at_least(terms.threshold.into(), depositors.len())?;
        let asked = deposit.message == terms.deposit_message(key.certificate.pubkey());
        if !asked || !depositing.is_whole(&deposit.signature) {
            return Err(TranscriptError::Result);
        }
        Ok(key.certificate)
    }
}

impl Certificate for KeygenCertificate {
    fn digest(&self) -> Digest {
        self.digest()
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
}
