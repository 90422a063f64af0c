//! What a leaf certificate says about its key (57230, VCEK and VLEK certificate extensions).

use alloc::string::{String, ToString};

use x509_cert::der::{
    Decode,
    asn1::{Ia5StringRef, ObjectIdentifier, OctetStringRef},
};

use postern_shared::snp::{Product, TcbVersion};

use crate::{certificate::Certificate, error::ChainError, report::SigningKey};

const STRUCT_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1");
const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const BOOTLOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const SPL_4: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.4");
const SPL_5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.5");
const SPL_6: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.6");
const SPL_7: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.7");
const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const HARDWARE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

/// The TCB that a key was derived for, and whose key it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endorsement {
    pub(crate) product: Product,
    pub(crate) tcb: TcbVersion,
    pub(crate) holder: Holder,
}

/// Whose key a leaf certifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A chip's (VCEK). Its hardware id as a report's `CHIP_ID` has it: padded with zeros to 64 bytes.
    Chip([u8; 64]),
    /// A cloud provider's (VLEK), by its `CSP_ID`.
    Provider(String),
}

impl Holder {
    /// The common name of such a leaf.
    pub(crate) const VCEK_NAME: &str = "SEV-VCEK";
    pub(crate) const VLEK_NAME: &str = "SEV-VLEK";

    /// How reports call such a key.
    pub(crate) fn key(&self) -> SigningKey {
        match self {
            Self::Chip(_) => SigningKey::Vcek,
            Self::Provider(_) => SigningKey::Vlek,
        }
    }
}

impl Endorsement {
    /// Reads AMD's extensions. All must be there and well-formed: a missing one that counted as zero would be
    /// a way around the check that it feeds.
    pub(crate) fn read(leaf: &Certificate<'_>) -> Result<Self, ChainError> {
        let product = leaf
            .extension(PRODUCT_NAME)
            .and_then(|content| Ia5StringRef::from_der(content).ok())
            .and_then(|name| Product::from_certificate_name(name.as_str()))
            .ok_or_else(|| malformed(PRODUCT_NAME))?;
        if number(leaf, STRUCT_VERSION)? != product.struct_version() {
            return Err(malformed(STRUCT_VERSION));
        }

        // Parts of the TCB that no product line uses yet: the reserved bytes of a report's TCB.
        let (fmc, unused): (_, &[_]) = match product {
            Product::Milan | Product::Genoa => (None, &[SPL_4, SPL_5, SPL_6, SPL_7]),
            Product::Turin => (Some(number(leaf, FMC)?), &[SPL_5, SPL_6, SPL_7]),
        };
        for &oid in unused {
            if number(leaf, oid)? != 0 {
                return Err(malformed(oid));
            }
        }
        let tcb = TcbVersion {
            fmc,
            bootloader: number(leaf, BOOTLOADER)?,
            tee: number(leaf, TEE)?,
            snp: number(leaf, SNP)?,
            microcode: number(leaf, MICROCODE)?,
        };
        Ok(Self { product, tcb, holder: holder(product, leaf)? })
    }
}

/// A leaf is one or the other by its name, and must say what its kind demands and nothing of the other's.
fn holder(product: Product, leaf: &Certificate<'_>) -> Result<Holder, ChainError> {
    let (hardware, provider) = (leaf.extension(HARDWARE_ID), leaf.extension(CSP_ID));
    match leaf.common_name() {
        Some(Holder::VCEK_NAME) => match (hardware, provider) {
            (_, Some(_)) => Err(malformed(CSP_ID)),
            (hardware, None) => hardware
                .and_then(|content| hardware_id(product, content))
                .map(Holder::Chip)
                .ok_or_else(|| malformed(HARDWARE_ID)),
        },
        Some(Holder::VLEK_NAME) => match (hardware, provider) {
            (Some(_), _) => Err(malformed(HARDWARE_ID)),
            (None, provider) => provider
                .and_then(|content| Ia5StringRef::from_der(content).ok())
                .filter(|name| !name.is_empty())
                .map(|name| Holder::Provider(name.as_str().to_string()))
                .ok_or_else(|| malformed(CSP_ID)),
        },
        other => Err(ChainError::CommonName {
            role: leaf.role,
            expected: alloc::format!("{} or {}", Holder::VCEK_NAME, Holder::VLEK_NAME),
            found: other.unwrap_or_default().to_string(),
        }),
    }
}

/// An extension that is one DER INTEGER from 0 to 255; 0x80 and above take two bytes of content.
fn number(leaf: &Certificate<'_>, oid: ObjectIdentifier) -> Result<u8, ChainError> {
    leaf.extension(oid).and_then(|content| u8::from_der(content).ok()).ok_or_else(|| malformed(oid))
}

/// The id stands bare in AMD's certificates; an OCTET STRING around it is accepted as others do.
fn hardware_id(product: Product, content: &[u8]) -> Option<[u8; 64]> {
    let len = product.hardware_id_len();
    let bare =
        if content.len() == len { content } else { <&OctetStringRef>::from_der(content).ok()?.as_bytes() };
    if bare.len() != len {
        return None;
    }
    let mut padded = [0; 64];
    padded.get_mut(..len)?.copy_from_slice(bare);
    Some(padded)
}

fn malformed(oid: ObjectIdentifier) -> ChainError {
    ChainError::LeafExtension { oid: oid.to_string() }
}
