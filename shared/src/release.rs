//! Release in public: the leader asks, guardians authorise, the exit appears.

use crate::codec;
use crate::events::EventSource;
use crate::hash::Transcriber;
use crate::ids::{CeremonyId, Digest, MemberId};
use crate::presign::PresignTerms;
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
        let ascending = self.operators.windows(2).all(|pair| pair.first() < pair.last());
        let known = self.operators.iter().all(|operator| terms.operators.contains(operator));
        ascending && known && self.operators.len() == terms.operator_threshold()
    }
}
