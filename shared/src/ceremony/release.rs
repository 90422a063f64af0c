//! Release in public: the leader asks, guardians authorise, the exit appears.

use super::basis::{Basis, TranscriptError, at_least};
use super::court::{Court, Protocol};
use super::presign::PresignTerms;
use super::reader::{Reader, says};
use crate::codec;
use crate::ethereum::SignedVoluntaryExit;
use crate::events::EventSource;
use crate::hash::Transcriber;
use crate::ids::{CeremonyId, Digest, MemberId, PoolId};
use crate::message::{Broadcast, Step};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What all participants must agree on before they start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseTerms {
    /// What was presigned, for whom.
    pub presign: PresignTerms,
    /// The DAO's wish on chain.
    pub source: EventSource,
    /// Whose enclave combines the shares.
    pub leader: MemberId,
}

/// The leader asks for shares over the splits of these operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// Exactly as many as the operators' threshold, ascending.
    pub operators: Vec<MemberId>,
}

/// A guardian's public word that it has given its share; the share itself goes to the leader in an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorise {
    /// Digest of the request's body.
    pub request: Digest,
}

/// An exit was released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseProceedings {
    /// What they had agreed on.
    pub terms: ReleaseTerms,
    /// The request, and guardians' authorisations.
    pub statements: Vec<Broadcast>,
    /// The result.
    pub exit: SignedVoluntaryExit,
}

impl ReleaseTerms {
    /// The ceremony's id.
    pub fn ceremony(&self) -> CeremonyId {
        let terms = Transcriber::new("postern-release-v1")
            .bytes(&self.presign.ceremony().0)
            .bytes(&codec::encode(&self.source))
            .number(self.leader.0.into());
        CeremonyId(terms.finish().0)
    }
}

impl ReleaseRequest {
    /// Whether it names operators of the terms, ascending, as many as sign together.
    pub fn fits(&self, terms: &PresignTerms) -> bool {
        terms.sign_together(&self.operators)
    }
}

impl Protocol for ReleaseTerms {
    fn ceremony(&self) -> CeremonyId {
        self.ceremony()
    }

    fn pool(&self) -> PoolId {
        self.presign.pool
    }

    fn check(&self, basis: &Basis<'_>) -> Result<(), TranscriptError> {
        // Who led does not matter, as long as it is a participant, whom its request shows: if the leader of then was lost, a
        // later manifest has named another.
        self.presign.check(basis)
    }

    fn is_invalid(&self, statement: &Broadcast, _: &Court<'_>) -> bool {
        match statement.slot.step {
            Step::Request => !codec::decode::<ReleaseRequest>(&statement.body)
                .is_ok_and(|request| request.fits(&self.presign)),
            Step::Authorise => codec::decode::<Authorise>(&statement.body).is_err(),
            _ => true,
        }
    }
}

impl ReleaseProceedings {
    /// Checks everything but attestation evidence; says which guardians have authorised the release.
    pub(super) fn verify(&self, basis: &Basis<'_>) -> Result<Vec<MemberId>, TranscriptError> {
        let Self { terms, statements, exit } = self;
        terms.check(basis)?;
        let presign = &terms.presign;
        let mut reader = Reader::new(basis, terms.ceremony(), statements)?;
        let request = reader.need(terms.leader, Step::Request, |request| {
            says(request, |said: ReleaseRequest| said.fits(presign))?;
            Some(request.signed_digest().digest)
        })?;
        let mut guardians = Vec::new();
        for guardian in presign.guardians.iter().copied() {
            let authorises = |said: Authorise| said.request == request;
            let said = reader.read(guardian, Step::Authorise, 0, |said| says(said, authorises))?;
            guardians.extend(said.map(|()| guardian));
        }
        reader.finish()?;
        at_least(presign.guardian_threshold.into(), guardians.len())?;
        let network = &presign.network;
        let root = exit.message.signing_root(network.capella_fork_version, network.genesis_validators_root);
        let pubkey = presign.certificate.pubkey();
        if exit.message != presign.exit || pubkey.verify(&root.0, &exit.signature).is_err() {
            return Err(TranscriptError::Result);
        }
        Ok(guardians)
    }
}
