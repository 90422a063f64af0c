//! Why bytes are no report, certificates no chain, and a list no revocation list.

use alloc::string::String;
use core::fmt;

use postern_shared::snp::Product;
use x509_cert::der::asn1::ObjectIdentifier;

use crate::time::{Period, Time};

/// Bytes that print as hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why 1184 bytes are not a report.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Too short or too long.
    #[error("expected a report of {expected} bytes, found {found}")]
    Length {
        /// The one right length.
        expected: usize,
        /// The length received.
        found: usize,
    },
    /// A version from before SEV-SNP's reports.
    #[error("expected report version 2 or later, found {found}")]
    Version {
        /// The version received.
        found: u32,
    },
}

/// A certificate's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRole {
    /// AMD Root Key.
    Ark,
    /// AMD SEV Key, or ASVK: the intermediate of a product line.
    Ask,
    /// Versioned Chip (or Loaded) Endorsement Key.
    Leaf,
}

impl fmt::Display for CertificateRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Leaf => "leaf",
        })
    }
}

/// Why a certificate chain is refused.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Longer than any certificate of AMD's.
    #[error("{role}: expected at most {limit} bytes, found {found}")]
    Length {
        /// Whose certificate.
        role: CertificateRole,
        /// The limit.
        limit: usize,
        /// The length received.
        found: usize,
    },
    /// Not DER to its last bit, or not a certificate.
    #[error("{role}: not a DER certificate")]
    Encoding {
        /// Whose certificate.
        role: CertificateRole,
    },
    /// Not an X.509 version 3 certificate.
    #[error("{role}: not an X.509 version 3 certificate")]
    Version {
        /// Whose certificate.
        role: CertificateRole,
    },
    /// Other than RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of salt, inside or outside.
    #[error("{role}: expected RSASSA-PSS with SHA-384, MGF1-SHA-384 and 48 bytes of salt")]
    SignatureAlgorithm {
        /// Whose certificate.
        role: CertificateRole,
    },
    /// The root is none of those pinned.
    #[error("the ARK is no root of {anchor}: its SHA-256 is {found}")]
    UnknownRoot {
        /// Name of the trust anchor.
        anchor: String,
        /// SHA-256 of the certificate received.
        found: Hex<32>,
    },
    /// Issuer and subject don't chain.
    #[error("{role}: its issuer is not the subject of the certificate above it")]
    Issuer {
        /// The certificate with the wrong issuer.
        role: CertificateRole,
    },
    /// Subject without exactly one common name, or one that the place in the chain doesn't allow.
    #[error("{role}: expected the common name {expected:?}, found {found:?}")]
    CommonName {
        /// Whose certificate.
        role: CertificateRole,
        /// What it should be.
        expected: String,
        /// What it is, empty if there is none or there are several. Written by whoever sent it.
        found: String,
    },
    /// A key other than RSA-4096 with exponent 65537 (ARK, ASK) or P-384 (leaf).
    #[error("{role}: expected a key of the kind {expected}")]
    PublicKey {
        /// Whose certificate.
        role: CertificateRole,
        /// The kind.
        expected: &'static str,
    },
    /// Not signed by the certificate above it.
    #[error("{role}: its signature is not valid under the key above it")]
    Signature {
        /// The certificate with the wrong signature.
        role: CertificateRole,
    },
    /// An extension of which there are two.
    #[error("{role}: extension {oid} occurs twice")]
    DuplicateExtension {
        /// Whose certificate.
        role: CertificateRole,
        /// The extension.
        oid: String,
    },
    /// An extension that must be understood, and isn't.
    #[error("{role}: unknown critical extension {oid}")]
    CriticalExtension {
        /// Whose certificate.
        role: CertificateRole,
        /// The extension.
        oid: String,
    },
    /// An ARK or ASK that may not sign certificates, or a leaf that may.
    #[error("{role}: basic constraints or key usage do not fit its place in the chain")]
    Constraints {
        /// Whose certificate.
        role: CertificateRole,
    },
    /// Outside its validity period, by what the caller knows of the time.
    #[error("{role}: valid {period}, but {time}")]
    Validity {
        /// Whose certificate.
        role: CertificateRole,
        /// Its validity.
        period: Period,
        /// The caller's time.
        time: Time,
    },
    /// One of AMD's extensions is missing, or is not what it should be.
    #[error("leaf: extension {oid} is missing, malformed, or not of its kind")]
    LeafExtension {
        /// The extension.
        oid: String,
    },
    /// The leaf is for another product line than the root.
    #[error("leaf: made for {found}, under the root of {expected}")]
    Product {
        /// The root's product line.
        expected: Product,
        /// The leaf's.
        found: Product,
    },
}

/// Why a revocation list is refused.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Longer than any list of AMD's.
    #[error("expected at most {limit} bytes, found {found}")]
    Length {
        /// The limit.
        limit: usize,
        /// The length received.
        found: usize,
    },
    /// Not DER to its last bit, not a version 2 list, or not signed as AMD does.
    #[error("not a revocation list of X.509 version 2, signed with RSASSA-PSS and SHA-384")]
    Encoding,
    /// There is no readable chain to check it against.
    #[error("the certificates can't be read")]
    NoIssuer,
    /// Of another issuer than the ARK.
    #[error("its issuer is not the ARK")]
    Issuer,
    /// Not signed by the ARK.
    #[error("its signature is not valid under the ARK")]
    Signature,
    /// An extension that may narrow it.
    #[error("unknown extension {oid}")]
    Extension {
        /// The extension.
        oid: ObjectIdentifier,
    },
    /// Valid for ever, it says: then it could never be outdated.
    #[error("it does not say when the next one is due")]
    NoNextUpdate,
    /// Not in force.
    #[error("in force {period}, but {time}")]
    Stale {
        /// When it is.
        period: Period,
        /// The caller's time.
        time: Time,
    },
}
