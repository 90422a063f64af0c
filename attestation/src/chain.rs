//! From a pinned root to the key of one chip: ARK → ASK → VCEK (57230, certificate chain).

use alloc::{string::ToString, vec::Vec};
use core::fmt;

use sha2::{Digest, Sha256};

use crate::{
    anchor::TrustAnchor,
    certificate::Certificate,
    error::{CertificateRole as Role, ChainError, Hex},
    product::Product,
    signature::{p384_key, rsa_key, rsa_verifies},
    tcb::TcbVersion,
    vcek::Endorsement,
};

/// The three certificates as they came, DER. Whoever delivers them is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateChain {
    /// AMD Root Key.
    pub ark: Vec<u8>,
    /// AMD SEV Key.
    pub ask: Vec<u8>,
    /// Versioned Chip Endorsement Key.
    pub vcek: Vec<u8>,
}

/// The key of one chip at one TCB, led back to a pinned root.
#[derive(Clone)]
pub struct VerifiedChain {
    pub(crate) key: p384::ecdsa::VerifyingKey,
    pub(crate) endorsement: Endorsement,
}

impl VerifiedChain {
    /// Verifies a chain under `anchor`, and its validity periods if the caller knows a time (`at`, unix
    /// seconds).
    ///
    /// The root's signature over itself is not checked: it is trusted because it is pinned. Its shape is.
    pub fn verify(
        chain: &CertificateChain,
        anchor: &TrustAnchor,
        at: Option<u64>,
    ) -> Result<Self, ChainError> {
        let root = anchor.find(&chain.ark).ok_or_else(|| ChainError::UnknownRoot {
            anchor: anchor.name().to_string(),
            found: Hex(Sha256::digest(&chain.ark).into()),
        })?;
        let ark = Certificate::parse(Role::Ark, &chain.ark)?;
        let ask = Certificate::parse(Role::Ask, &chain.ask)?;
        let vcek = Certificate::parse(Role::Vcek, &chain.vcek)?;

        check_names(&ark, &ask, &vcek)?;
        check_signature(&ark, &ask)?;
        check_signature(&ask, &vcek)?;
        if let Some(at) = at {
            [&ark, &ask, &vcek].into_iter().try_for_each(|certificate| certificate.check_validity(at))?;
        }

        let key = p384_key(vcek.body.subject_public_key_info())
            .ok_or(ChainError::PublicKey { role: Role::Vcek, expected: "P-384" })?;
        let endorsement = Endorsement::read(&vcek)?;
        match root.product {
            Some(expected) if expected != endorsement.product => {
                Err(ChainError::Product { expected, found: endorsement.product })
            }
            _ => Ok(Self { key, endorsement }),
        }
    }

    /// Product line of the chip.
    pub fn product(&self) -> Product {
        self.endorsement.product
    }

    /// TCB that the key was derived from.
    pub fn tcb(&self) -> TcbVersion {
        self.endorsement.tcb
    }

    /// The chip's id, padded with zeros as in a report.
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.endorsement.hardware_id
    }
}

impl fmt::Debug for VerifiedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedChain").field("endorsement", &self.endorsement).finish_non_exhaustive()
    }
}

/// Issuers chain to subjects, and each subject is what its place demands: `ARK-<line>`, `SEV-<line>`,
/// `SEV-VCEK`. So a provider's intermediate (`SEV-VLEK-<line>`) and leaf (`SEV-VLEK`) can't stand in for a
/// chip's.
fn check_names(
    ark: &Certificate<'_>,
    ask: &Certificate<'_>,
    vcek: &Certificate<'_>,
) -> Result<(), ChainError> {
    for (issuer, issued) in [(ark, ark), (ark, ask), (ask, vcek)] {
        if issued.body.issuer() != issuer.body.subject() {
            return Err(ChainError::Issuer { role: issued.role });
        }
    }
    let root = ark.common_name().unwrap_or_default();
    let line = root.strip_prefix("ARK-").ok_or_else(|| ChainError::CommonName {
        role: Role::Ark,
        expected: "ARK-<product line>".to_string(),
        found: root.to_string(),
    })?;
    ask.expect_common_name(&alloc::format!("SEV-{line}"))?;
    vcek.expect_common_name("SEV-VCEK")
}

/// `issuer` signed `issued` with an RSA key of 4096 bits.
fn check_signature(issuer: &Certificate<'_>, issued: &Certificate<'_>) -> Result<(), ChainError> {
    let key = rsa_key(issuer.body.subject_public_key_info())
        .ok_or(ChainError::PublicKey { role: issuer.role, expected: "RSA-4096 with exponent 65537" })?;
    rsa_verifies(&key, issued.signed, issued.signature)
        .then_some(())
        .ok_or(ChainError::Signature { role: issued.role })
}
