//! What a VCEK certificate says about its chip (57230, VCEK certificate extensions).

use alloc::string::ToString;

use x509_cert::der::{
    Decode,
    asn1::{Ia5StringRef, ObjectIdentifier, OctetStringRef},
};

use crate::{certificate::Certificate, error::ChainError, product::Product, tcb::TcbVersion};

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

/// The chip and the TCB that a VCEK was derived for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endorsement {
    pub(crate) product: Product,
    pub(crate) tcb: TcbVersion,
    /// The hardware id as a report's `CHIP_ID` has it: padded with zeros to 64 bytes.
    pub(crate) hardware_id: [u8; 64],
}

impl Endorsement {
    /// Reads AMD's extensions. All must be there and well-formed: a missing one that counted as zero would be
    /// a way around the check that it feeds.
    pub(crate) fn read(vcek: &Certificate<'_>) -> Result<Self, ChainError> {
        let product = vcek
            .extension(PRODUCT_NAME)
            .and_then(|content| Ia5StringRef::from_der(content).ok())
            .and_then(|name| Product::from_certificate_name(name.as_str()))
            .ok_or_else(|| malformed(PRODUCT_NAME))?;
        if number(vcek, STRUCT_VERSION)? != product.struct_version() {
            return Err(malformed(STRUCT_VERSION));
        }

        // Parts of the TCB that no product line uses yet: the reserved bytes of a report's TCB.
        let (fmc, unused): (_, &[_]) = match product {
            Product::Milan | Product::Genoa => (None, &[SPL_4, SPL_5, SPL_6, SPL_7]),
            Product::Turin => (Some(number(vcek, FMC)?), &[SPL_5, SPL_6, SPL_7]),
        };
        for &oid in unused {
            if number(vcek, oid)? != 0 {
                return Err(malformed(oid));
            }
        }
        let tcb = TcbVersion {
            fmc,
            bootloader: number(vcek, BOOTLOADER)?,
            tee: number(vcek, TEE)?,
            snp: number(vcek, SNP)?,
            microcode: number(vcek, MICROCODE)?,
        };
        let hardware_id = vcek
            .extension(HARDWARE_ID)
            .and_then(|content| hardware_id(product, content))
            .ok_or_else(|| malformed(HARDWARE_ID))?;
        Ok(Self { product, tcb, hardware_id })
    }
}

/// An extension that is one DER INTEGER from 0 to 255; 0x80 and above take two bytes of content.
fn number(vcek: &Certificate<'_>, oid: ObjectIdentifier) -> Result<u8, ChainError> {
    vcek.extension(oid).and_then(|content| u8::from_der(content).ok()).ok_or_else(|| malformed(oid))
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
    ChainError::VcekExtension { oid: oid.to_string() }
}
