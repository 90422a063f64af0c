//! Why evidence is refused: one variant for each check, saying what was expected and what was found.

use alloc::{boxed::Box, string::String};
use core::fmt;

use crate::{
    binding::ReportData,
    product::{Cpuid, Product},
    report::{Measurement, SigningKey},
    tcb::{RawTcb, TcbVersion},
};

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

/// Two values that should have been one. Boxed in errors, so that the long ones don't widen every result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch<T> {
    /// What the verifier wanted.
    pub expected: T,
    /// What the evidence has.
    pub found: T,
}

impl<T> Mismatch<T> {
    pub(crate) fn boxed(expected: T, found: T) -> Box<Self> {
        Box::new(Self { expected, found })
    }
}

impl<T: fmt::Display> fmt::Display for Mismatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
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
    /// A version whose fields we don't know.
    #[error("expected report version 2, 3 or 5, found {found}")]
    Version {
        /// The version received.
        found: u32,
    },
    /// A bit that the specification reserves is set: it may mean anything in a later firmware.
    #[error("reserved byte or bits at {offset:#x} are not zero")]
    Reserved {
        /// Place of the first such byte, or of the field that has such bits.
        offset: usize,
    },
    /// Not ECDSA P-384 with SHA-384.
    #[error("expected signature algorithm {expected}, found {found}")]
    SignatureAlgorithm {
        /// ECDSA P-384 with SHA-384.
        expected: u32,
        /// The number received.
        found: u32,
    },
}

/// A certificate's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRole {
    /// AMD Root Key.
    Ark,
    /// AMD SEV Key: the intermediate of a product line.
    Ask,
    /// Versioned Chip Endorsement Key: the leaf.
    Vcek,
}

impl fmt::Display for CertificateRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Vcek => "VCEK",
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
    /// Not DER, or not a certificate.
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
    /// A key other than RSA-4096 with exponent 65537 (ARK, ASK) or P-384 (VCEK).
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
    /// An ARK or ASK that may not sign certificates, or a VCEK that may.
    #[error("{role}: basic constraints or key usage do not fit its place in the chain")]
    Constraints {
        /// Whose certificate.
        role: CertificateRole,
    },
    /// Outside its validity period at the time that the caller gave.
    #[error("{role}: valid from {not_before} to {not_after}, but it is {at} (unix seconds)")]
    Validity {
        /// Whose certificate.
        role: CertificateRole,
        /// Begin of validity.
        not_before: u64,
        /// End of validity, inclusive.
        not_after: u64,
        /// The caller's time.
        at: u64,
    },
    /// One of AMD's VCEK extensions is missing, or is not what it should be.
    #[error("VCEK: extension {oid} is missing or malformed")]
    VcekExtension {
        /// The extension.
        oid: String,
    },
    /// The VCEK is for another product line than the root.
    #[error("VCEK: made for {found}, under the root of {expected}")]
    Product {
        /// The root's product line.
        expected: Product,
        /// The leaf's.
        found: Product,
    },
}

/// Why evidence is refused.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Not a report.
    #[error("report: {0}")]
    Report(#[from] ReportError),
    /// Not a chain from a pinned root.
    #[error("certificate chain: {0}")]
    Chain(#[from] ChainError),
    /// The report does not say which silicon made it: versions before 3.
    #[error("report version {version} carries no CPUID: expected at least version 3")]
    NoCpuid {
        /// The report's version.
        version: u32,
    },
    /// Silicon of no known product line.
    #[error("processor {cpuid} is of no known product line")]
    UnknownProcessor {
        /// Family, model, stepping.
        cpuid: Cpuid,
    },
    /// A report of one product line with the certificates of another.
    #[error("product line: the certificates are for {expected}, the report is from {found}")]
    Product {
        /// The certificates' product line.
        expected: Product,
        /// The report's.
        found: Product,
    },
    /// Signed with a key of another kind than the VCEK.
    #[error("signing key: expected {expected}, found {found}")]
    SigningKey {
        /// Always the VCEK.
        expected: SigningKey,
        /// The report's.
        found: SigningKey,
    },
    /// The firmware was told not to sign (`MaskChipKey`).
    #[error("the chip key is masked: expected MASK_CHIP_KEY 0, found 1")]
    ChipKeyMasked,
    /// The chip's key did not sign these bytes.
    #[error("the report's signature is not valid under the VCEK")]
    Signature,
    /// The chip id is masked (`MaskChipId`) or never was there.
    #[error("the chip id is zero: masked, or signed with a key that belongs to no chip")]
    ChipIdMasked,
    /// The VCEK belongs to another chip than the one in the report.
    #[error("hardware id of the VCEK against the report's chip id: {0}")]
    HardwareId(Box<Mismatch<Hex<64>>>),
    /// The VCEK is for another TCB than the report's.
    #[error("reported TCB: the VCEK is for {expected}, the report has {found}")]
    ReportedTcb {
        /// The certificate's.
        expected: TcbVersion,
        /// The report's, byte for byte.
        found: RawTcb,
    },
    /// A reserved byte of a TCB is set.
    #[error("{field} TCB {found}: reserved bytes are not zero on {product}")]
    TcbReserved {
        /// Which of the report's four.
        field: &'static str,
        /// The product line, whose layout was read.
        product: Product,
        /// The bytes.
        found: RawTcb,
    },
    /// Not asked for by the code that was measured, or asked for by the host (0xFFFFFFFF).
    #[error("expected VMPL {expected}, found {found}")]
    Vmpl {
        /// Always 0.
        expected: u32,
        /// The report's.
        found: u32,
    },
    /// Bit 17 of the guest policy, which the specification fixes at one.
    #[error("guest policy {found:#x}: expected bit 17 to be one")]
    PolicyReservedOne {
        /// The policy.
        found: u64,
    },
    /// The host may read and write the guest's memory.
    #[error("guest policy {found:#x}: expected debugging to be forbidden")]
    DebugAllowed {
        /// The policy.
        found: u64,
    },
    /// A migration agent may copy the guest elsewhere.
    #[error("guest policy {found:#x}: expected migration agents to be forbidden")]
    MigrationAllowed {
        /// The policy.
        found: u64,
    },
    /// Other code than any that is acceptable.
    #[error("expected one of {} measurements, found {found}", .expected.len())]
    Measurement {
        /// What would have been acceptable.
        expected: Box<[Measurement]>,
        /// The report's.
        found: Measurement,
    },
    /// Bound to another identity, verifier, manifest or nonce.
    #[error("report data: {0}")]
    ReportData(Box<Mismatch<ReportData>>),
    /// Launched for another manifest.
    #[error("host data: {0}")]
    HostData(Box<Mismatch<Hex<32>>>),
    /// Another machine than the member's.
    #[error("chip id: {0}")]
    ChipId(Box<Mismatch<Hex<64>>>),
}
