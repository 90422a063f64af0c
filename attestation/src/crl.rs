//! AMD's revocation lists (57230; RFC 5280 section 5): which intermediates count no more.
//!
//! All of AMD's leaves have the serial number 0, so none can be revoked by it; a chip's answer to a leaked key is a new
//! TCB.

use x509_cert::{
    Version,
    crl::TbsCertList,
    der::{Decode, Encode, asn1::ObjectIdentifier},
};

use crate::{
    certificate::{Certificate, Signed, is_pss},
    error::{CertificateRole, CrlError},
    signature::{rsa_key, rsa_verifies},
    time::{Period, Time},
};

/// AMD's are about a kilobyte long; this bounds what a stranger can make us parse.
const MAX_LEN: usize = 64 << 10;

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// A list in force, by what it says of a chain.
#[derive(Debug)]
pub(crate) struct List {
    /// When it is in force.
    pub(crate) period: Period,
    /// Which certificate of the chain it names, the lowest if several.
    pub(crate) revoked: Option<CertificateRole>,
}

/// Checks that `der` is a list of `ark` in force, and looks for `ark` and `ask` in it.
pub(crate) fn read(
    der: &[u8],
    ark: &Certificate<'_>,
    ask: &Certificate<'_>,
    time: Time,
) -> Result<List, CrlError> {
    if der.len() > MAX_LEN {
        return Err(CrlError::Length { limit: MAX_LEN, found: der.len() });
    }
    let signed = Signed::split(der).ok_or(CrlError::Encoding)?;
    let list = TbsCertList::from_der(signed.content).map_err(|_| CrlError::Encoding)?;
    let inner = list.signature.to_der().map_err(|_| CrlError::Encoding)?;
    // As for certificates: in the one form that DER has for it.
    if list.to_der().map_err(|_| CrlError::Encoding)? != signed.content {
        return Err(CrlError::Encoding);
    }
    if list.version != Version::V2 || inner != signed.algorithm || !is_pss(signed.algorithm) {
        return Err(CrlError::Encoding);
    }
    if list.issuer != *ark.body.subject() {
        return Err(CrlError::Issuer);
    }
    let key = rsa_key(ark.body.subject_public_key_info()).ok_or(CrlError::Signature)?;
    if !rsa_verifies(&key, signed.content, signed.signature) {
        return Err(CrlError::Signature);
    }
    // Any other extension may narrow the list to a part, or to changes since another one.
    let unknown = list
        .crl_extensions
        .iter()
        .flatten()
        .find(|extension| ![CRL_NUMBER, AUTHORITY_KEY_IDENTIFIER].contains(&extension.extn_id));
    if let Some(extension) = unknown {
        return Err(CrlError::Extension { oid: extension.extn_id });
    }
    let period = Period {
        not_before: list.this_update.to_unix_duration().as_secs(),
        not_after: list.next_update.ok_or(CrlError::NoNextUpdate)?.to_unix_duration().as_secs(),
    };
    if !period.may_hold(time) {
        return Err(CrlError::Stale { period, time });
    }
    let names = |certificate: &&Certificate<'_>| {
        let serial = certificate.body.serial_number();
        list.revoked_certificates.iter().flatten().any(|revoked| revoked.serial_number == *serial)
    };
    let revoked = [ask, ark].into_iter().find(names).map(|certificate| certificate.role);
    Ok(List { period, revoked })
}
