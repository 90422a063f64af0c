//! One certificate of the chain: X.509 as far as AMD uses it, and no further.

use alloc::string::{String, ToString};

use x509_cert::{
    TbsCertificate, Version,
    der::{
        Decode, Encode, Reader, SliceReader,
        asn1::{BitStringRef, ObjectIdentifier},
    },
    ext::{
        Extension,
        pkix::{BasicConstraints, KeyUsage},
    },
    name::Name,
};

use crate::{
    error::{CertificateRole as Role, ChainError},
    time::{Period, Time},
};

/// AMD's are about 1700 bytes long; this bounds what a stranger can make us parse.
pub(crate) const MAX_LEN: usize = 4096;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");

/// `AlgorithmIdentifier` of RSASSA-PSS, SHA-384, MGF1-SHA-384, 48 bytes of salt (57230, certificate formats).
/// One value, compared as bytes, instead of a parser for parameters that may have only one value.
const PSS: &[u8] = &[
    0x30, 0x41, // AlgorithmIdentifier
    0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A, // id-RSASSA-PSS
    0x30, 0x34, // parameters
    0xA0, 0x0F, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, // SHA-384
    0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08, // MGF1
    0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, // with SHA-384
    0xA2, 0x03, 0x02, 0x01, 0x30, // 48 bytes of salt
];
/// The same with the default trailer field spelled out, which DER forbids and AMD's ARKs and ASKs do.
const PSS_WITH_TRAILER: &[u8] = &[
    0x30, 0x46, // AlgorithmIdentifier
    0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A, // id-RSASSA-PSS
    0x30, 0x39, // parameters
    0xA0, 0x0F, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, // SHA-384
    0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08, // MGF1
    0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, // with SHA-384
    0xA2, 0x03, 0x02, 0x01, 0x30, // 48 bytes of salt
    0xA3, 0x03, 0x02, 0x01, 0x01, // trailer field 1
];

/// What certificates and revocation lists are: content, algorithm, signature. All as received.
pub(crate) struct Signed<'a> {
    pub(crate) content: &'a [u8],
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes the three apart; none if that is not what `der` is, to its last byte.
    pub(crate) fn split(der: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(der).ok()?;
        let (content, algorithm, signature) = reader
            .sequence(|reader| {
                Ok::<_, x509_cert::der::Error>((
                    reader.tlv_bytes()?,
                    reader.tlv_bytes()?,
                    BitStringRef::decode(reader)?,
                ))
            })
            .ok()?;
        reader.finish().ok()?;
        Some(Self { content, algorithm, signature: signature.as_bytes()? })
    }
}

/// Whether an `AlgorithmIdentifier` is the one that AMD signs with.
pub(crate) fn is_pss(algorithm: &[u8]) -> bool {
    algorithm == PSS || algorithm == PSS_WITH_TRAILER
}

/// A certificate of the right shape. Its signature has not been checked.
pub(crate) struct Certificate<'a> {
    pub(crate) role: Role,
    /// The signed part, as received.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) body: TbsCertificate,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate and checks what can be checked without its neighbours.
    pub(crate) fn parse(role: Role, der: &'a [u8]) -> Result<Self, ChainError> {
        if der.len() > MAX_LEN {
            return Err(ChainError::Length { role, limit: MAX_LEN, found: der.len() });
        }
        let encoding = |_| ChainError::Encoding { role };
        let Signed { content: signed, algorithm, signature } =
            Signed::split(der).ok_or(ChainError::Encoding { role })?;
        let body = TbsCertificate::from_der(signed).map_err(encoding)?;
        // The decoder is more patient than DER: it takes a default that is spelt out, `critical = FALSE` for one. A second
        // form of the same content is nobody's.
        if body.to_der().map_err(encoding)? != signed {
            return Err(ChainError::Encoding { role });
        }

        if body.version() != Version::V3 {
            return Err(ChainError::Version { role });
        }
        // RFC 5280 4.1.1.2: inside as outside.
        let inner = body.signature().to_der().map_err(encoding)?;
        if inner != algorithm || !is_pss(algorithm) {
            return Err(ChainError::SignatureAlgorithm { role });
        }
        let certificate = Self { role, signed, signature, body };
        certificate.check_extensions()?;
        Ok(certificate)
    }

    pub(crate) fn extensions(&self) -> &[Extension] {
        self.body.extensions().map_or(&[], |extensions| extensions.as_slice())
    }

    /// Content of the extension `oid`, if there is one. There are never two.
    pub(crate) fn extension(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        self.extensions()
            .iter()
            .find(|extension| extension.extn_id == oid)
            .map(|found| found.extn_value.as_bytes())
    }

    /// The one common name of the subject; none if it has none or several.
    pub(crate) fn common_name(&self) -> Option<&str> {
        common_name(self.body.subject())
    }

    /// Refuses the certificate unless its common name is `expected`.
    pub(crate) fn expect_common_name(&self, expected: &str) -> Result<(), ChainError> {
        if self.common_name() == Some(expected) {
            return Ok(());
        }
        let found = self.common_name().unwrap_or_default().to_string();
        Err(ChainError::CommonName { role: self.role, expected: String::from(expected), found })
    }

    /// Refuses the certificate if it is known to be outside its validity period, both ends inclusive (RFC 5280
    /// 4.1.2.5).
    pub(crate) fn check_validity(&self, time: Time) -> Result<(), ChainError> {
        let validity = self.body.validity();
        let period = Period {
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
        };
        if period.may_hold(time) {
            return Ok(());
        }
        Err(ChainError::Validity { role: self.role, period, time })
    }

    /// No extension twice, none critical that we don't check, and those we check as the role demands.
    fn check_extensions(&self) -> Result<(), ChainError> {
        let role = self.role;
        let mut rest = self.extensions();
        while let Some((extension, tail)) = rest.split_first() {
            rest = tail;
            let oid = extension.extn_id;
            if tail.iter().any(|other| other.extn_id == oid) {
                return Err(ChainError::DuplicateExtension { role, oid: oid.to_string() });
            }
            if extension.critical && oid != KEY_USAGE && oid != BASIC_CONSTRAINTS {
                return Err(ChainError::CriticalExtension { role, oid: oid.to_string() });
            }
        }
        self.check_constraints().then_some(()).ok_or(ChainError::Constraints { role })
    }

    /// ARK and ASK may sign certificates, the ASK only leaves; a leaf may not.
    fn check_constraints(&self) -> bool {
        let constraints = self.extension(BASIC_CONSTRAINTS).map(BasicConstraints::from_der);
        let usage = self.extension(KEY_USAGE).map(KeyUsage::from_der);
        match (self.role, constraints, usage) {
            (Role::Ark, Some(Ok(constraints)), Some(Ok(usage))) => constraints.ca && usage.key_cert_sign(),
            (Role::Ask, Some(Ok(constraints)), Some(Ok(usage))) => {
                constraints.ca && constraints.path_len_constraint == Some(0) && usage.key_cert_sign()
            }
            (Role::Leaf, constraints, usage) => {
                // AMD's leaves have neither extension; one that says the same in words is as good.
                constraints.is_none_or(|constraints| constraints.is_ok_and(|constraints| !constraints.ca))
                    && usage.is_none_or(|usage| {
                        usage.is_ok_and(|usage| usage.digital_signature() && !usage.key_cert_sign())
                    })
            }
            _ => false,
        }
    }
}

/// The one common name in `name`, a UTF-8 or printable string.
fn common_name(name: &Name) -> Option<&str> {
    use x509_cert::der::{Tag, Tagged};

    let mut found = name.iter().filter(|attribute| attribute.oid == COMMON_NAME);
    let (first, second) = (found.next()?, found.next());
    let text = matches!(first.value.tag(), Tag::Utf8String | Tag::PrintableString);
    (second.is_none() && text).then(|| core::str::from_utf8(first.value.value()).ok()).flatten()
}
