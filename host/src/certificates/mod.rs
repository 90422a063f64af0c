//! The certificates that lead from the key that signs an enclave's reports to AMD's root, and what AMD revoked of them.
//!
//! An enclave has no network, so its host brings them. Nobody believes the host: every enclave judges them by
//! `postern_attestation`. What is checked here is for the host's own good: certificates that are damaged, outdated or of
//! another chip are noticed where better ones can still be had, and with words that help.
//!
//! # Where they come from
//! In this order ([`obtain`]):
//! 1. a folder that the configuration names ([`folder`]): the user's word, so what is wrong with it is an error;
//! 2. the table that came with an extended report ([`table`]);
//! 3. the host's own cache ([`cache`]);
//! 4. AMD's Key Distribution Service or a mirror ([`kds`]).
//!
//! What comes from 2 to 4 must lead to one of AMD's compiled-in roots and fit the report, or it is passed over.

pub mod cache;
mod encoding;
pub mod folder;
pub mod kds;
mod sources;
pub mod table;
#[cfg(test)]
mod vectors;

pub use encoding::EncodingError;
pub use kds::{EndorsementKey, VcekId, VcekIdError};
pub use sources::{CertificateSources, CertificatesError, obtain};

use encoding::{Crl, Names};
use postern_attestation::{Certified, ChainError, SigningKey, TrustAnchor, UnverifiedReport, certified};
use postern_shared::message::Certificates;
use postern_shared::snp::{Cpuid, Product, RawTcb, TcbVersion};

/// What a report says about the key that signed it. Nobody has checked the signature: that takes the certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFacts {
    /// The chip's product line.
    pub product: Product,
    /// Which chip.
    pub chip_id: [u8; 64],
    /// What the signing key was derived from.
    pub reported_tcb: TcbVersion,
    /// Whose key signed.
    pub key: EndorsementKey,
}

/// Why no certificates can belong to a report.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// Versions before 3 don't say what silicon they are from.
    #[error("a report of version {version} does not say what processor it is from; version 3 does")]
    NoCpuid {
        /// The report's.
        version: u32,
    },
    /// Silicon that we know nothing about.
    #[error("processor {0} is of no product line known here")]
    UnknownProcessor(Cpuid),
    /// A TCB that the product line can't have.
    #[error("reported TCB {found} has reserved bytes set for {product}")]
    Tcb {
        /// The line.
        product: Product,
        /// As in the report.
        found: RawTcb,
    },
    /// Nothing to certify.
    #[error("the report is not signed by a chip's or a provider's key, but by {0}")]
    Unsigned(SigningKey),
    /// The platform was told to leave reports unsigned.
    #[error("the platform leaves its reports unsigned (MASK_CHIP_KEY)")]
    KeyMasked,
}

impl ReportFacts {
    /// Takes them from a report.
    pub fn of(report: &UnverifiedReport) -> Result<Self, FactsError> {
        if report.key_flags.mask_chip_key() {
            return Err(FactsError::KeyMasked);
        }
        let key = match report.key_flags.signing_key() {
            SigningKey::Vcek => EndorsementKey::Vcek,
            SigningKey::Vlek => EndorsementKey::Vlek,
            other => return Err(FactsError::Unsigned(other)),
        };
        let cpuid = report.cpuid.ok_or(FactsError::NoCpuid { version: report.version })?;
        let product = cpuid.product().ok_or(FactsError::UnknownProcessor(cpuid))?;
        let found = report.reported_tcb;
        let reported_tcb = found.decode(product).ok_or(FactsError::Tcb { product, found })?;
        Ok(Self { product, chip_id: report.chip_id, reported_tcb, key })
    }
}

/// Why certificates don't belong to a report, or with each other.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// They don't lead from the leaf to the root.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// One of them can't be read.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// The leaf is of the other kind.
    #[error("the report is signed by a {expected}, the leaf is a {found}")]
    Key {
        /// The report's.
        expected: EndorsementKey,
        /// The leaf's.
        found: EndorsementKey,
    },
    /// The leaf is of another product line.
    #[error("the leaf is of {found}, the report of {expected}")]
    Product {
        /// The report's.
        expected: Product,
        /// The leaf's.
        found: Product,
    },
    /// The leaf is of another chip.
    #[error("the leaf is of another chip than the report")]
    Chip,
    /// The leaf is of another TCB, as after a firmware update.
    #[error(
        "the leaf is for TCB {found}, the report says {expected}: after a firmware update another VCEK is needed"
    )]
    Tcb {
        /// The report's.
        expected: TcbVersion,
        /// The leaf's.
        found: TcbVersion,
    },
    /// AMD withdrew the issuer.
    #[error("the issuer of the leaf was revoked by AMD")]
    Revoked,
}

/// Whether this is a chain under its own root, whose leaf is of the report's key, chip and TCB. Whether the root is
/// anyone's, and whether that leaf signed the report, is for `postern_attestation` to say.
pub fn check(certificates: &Certificates, facts: &ReportFacts) -> Result<(), Misfit> {
    let found = EndorsementKey::of(&certificates.leaf);
    if found != facts.key {
        return Err(Misfit::Key { expected: facts.key, found });
    }
    let crl = certificates.crl.as_deref().map(Crl::read).transpose()?;
    if crl.is_some_and(|crl| crl.revokes(&certificates.ask)) {
        return Err(Misfit::Revoked);
    }
    let root = TrustAnchor::custom("the certificates' own", vec![certificates.ark.clone()]);
    let Certified { product, tcb, chip_id } = certified(certificates, &root)?;
    if product != facts.product {
        return Err(Misfit::Product { expected: facts.product, found: product });
    }
    if chip_id.is_some_and(|chip_id| chip_id != facts.chip_id) {
        return Err(Misfit::Chip);
    }
    if tcb != facts.reported_tcb {
        return Err(Misfit::Tcb { expected: facts.reported_tcb, found: tcb });
    }
    Ok(())
}

impl EndorsementKey {
    /// The kind of a leaf, by its name (57230: `SEV-VCEK`, `SEV-VLEK`).
    pub fn of(leaf: &[u8]) -> Self {
        match Names::read(leaf) {
            Ok(names) if names.common_name == "SEV-VLEK" => Self::Vlek,
            _ => Self::Vcek,
        }
    }
}

/// AMD's root of this common name, of those compiled in.
fn pinned_root(common_name: &str) -> Option<Vec<u8>> {
    let amd = TrustAnchor::amd();
    amd.roots()
        .find(|root| Names::read(root).is_ok_and(|names| names.common_name == common_name))
        .map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::vectors::{facts, tcb, vector};
    use super::*;

    fn of(bytes: &[u8]) -> Result<ReportFacts, FactsError> {
        ReportFacts::of(&UnverifiedReport::parse(bytes).unwrap())
    }

    #[test]
    fn a_report_says_which_key_signed_it() {
        let siena = facts("confai-siena");
        assert_eq!((siena.product, siena.key), (Product::Genoa, EndorsementKey::Vcek));
        assert_eq!(siena.reported_tcb, tcb(None, [10, 0, 27, 27]));
        assert_eq!(facts("msft-tav-turin").reported_tcb, tcb(Some(1), [1, 1, 4, 81]));
        assert_eq!(facts("dstack-milan").reported_tcb, tcb(None, [4, 0, 23, 213]), "reported, not current");
    }

    #[test]
    fn a_report_that_does_not_say_enough_is_refused() {
        let good = vector("confai-siena-report.bin");
        let with = |place: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[place] = value;
            of(&bytes)
        };
        assert_eq!(with(0x48, 1 << 2).unwrap().key, EndorsementKey::Vlek);
        assert_eq!(with(0x48, 7 << 2), Err(FactsError::Unsigned(SigningKey::None)));
        assert_eq!(with(0x48, 3 << 2), Err(FactsError::Unsigned(SigningKey::Reserved(3))));
        assert_eq!(with(0x48, 1 << 1), Err(FactsError::KeyMasked));
        let unknown = Cpuid { family: 0x1B, model: 0xA0, stepping: 2 };
        assert_eq!(with(0x188, 0x1B), Err(FactsError::UnknownProcessor(unknown)));
        assert!(matches!(with(0x182, 1), Err(FactsError::Tcb { product: Product::Genoa, .. })));
        let old = vector("virtee-report-milan.bin");
        assert_eq!(of(&old), Err(FactsError::NoCpuid { version: 2 }));
    }
}
