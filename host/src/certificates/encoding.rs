//! DER and PEM, one certificate or list at a time: is it one at all, and what does it say of itself?

use base64::Engine;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::time::{SystemTime, UNIX_EPOCH};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode;
use x509_cert::name::Name;

/// Bytes of a certificate, or of a chain of two: AMD's are about 1700 bytes long, a third longer in PEM.
pub(super) const MAX_CERTIFICATES: usize = 16 * 1024;
/// Bytes of a revocation list: AMD's have less than 1000.
pub(super) const MAX_CRL: usize = 256 * 1024;

/// Characters in a line of PEM (RFC 7468, section 2).
const PEM_LINE: usize = 64;

/// Why bytes are not what they should be.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// More than anything of this kind needs.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The most that is read.
        limit: usize,
    },
    /// PEM that can't be decoded.
    #[error("damaged PEM: {0}")]
    Pem(String),
    /// PEM with too little or too much in it.
    #[error("PEM with {found} sections `{label}`, expected {expected}")]
    Count {
        /// What the sections are called.
        label: &'static str,
        /// How many there must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Not what X.509 says.
    #[error("not an X.509 {kind}: {reason}")]
    Der {
        /// What it should be.
        kind: &'static str,
        /// Where it went wrong.
        reason: String,
    },
}

/// One certificate, DER or PEM, as DER.
pub(super) fn certificate(bytes: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let [der] = certificates(bytes)?;
    Ok(der)
}

/// Exactly so many certificates, DER or PEM, as DER in their order.
pub(super) fn certificates<const N: usize>(bytes: &[u8]) -> Result<[Vec<u8>; N], EncodingError> {
    let ders = sections::<CertificateDer<'_>>(bytes, MAX_CERTIFICATES)?;
    ders.iter().try_for_each(|der| parse(der).map(drop))?;
    let found = ders.len();
    ders.try_into().map_err(|_| EncodingError::Count { label: "CERTIFICATE", expected: N, found })
}

/// The bytes themselves if they are DER, else what their PEM holds.
fn sections<T: PemObject + AsRef<[u8]>>(bytes: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, EncodingError> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    if bytes.len() > limit {
        return Err(EncodingError::TooLarge { limit });
    }
    if !bytes.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Ok(vec![bytes.to_vec()]);
    }
    T::pem_slice_iter(bytes)
        .map(|section| match section {
            Ok(der) => Ok(der.as_ref().to_vec()),
            Err(error) => Err(EncodingError::Pem(error.to_string())),
        })
        .collect()
}

fn parse(der: &[u8]) -> Result<Certificate, EncodingError> {
    Certificate::from_der(der)
        .map_err(|error| EncodingError::Der { kind: "certificate", reason: error.to_string() })
}

/// PEM of one section (RFC 7468, section 2).
pub(super) fn to_pem(label: &str, der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = body.as_bytes().chunks(PEM_LINE).map(String::from_utf8_lossy);
    let body: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
}

/// What a certificate says of itself.
#[derive(Clone)]
pub(super) struct Names {
    pub(super) subject: Name,
    /// The subject's common name; empty if it has none.
    pub(super) common_name: String,
    /// The issuer's.
    pub(super) issuer_common_name: String,
}

impl Names {
    pub(super) fn read(der: &[u8]) -> Result<Self, EncodingError> {
        let certificate = parse(der)?;
        let body = certificate.tbs_certificate();
        let common_name = |name: &Name| {
            let found = name.common_name().ok().flatten();
            found.map(|found| found.value().into_owned()).unwrap_or_default()
        };
        Ok(Self {
            subject: body.subject().clone(),
            common_name: common_name(body.subject()),
            issuer_common_name: common_name(body.issuer()),
        })
    }
}

/// A revocation list that has the right shape. Whether AMD signed it is for `postern_attestation` to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crl {
    pub(super) der: Vec<u8>,
    list: CertificateList,
}

impl Crl {
    /// Reads a list, DER or PEM.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, EncodingError> {
        let ders = sections::<CertificateRevocationListDer<'_>>(bytes, MAX_CRL)?;
        let [der]: [Vec<u8>; 1] = ders.try_into().map_err(|ders: Vec<_>| EncodingError::Count {
            label: "X509 CRL",
            expected: 1,
            found: ders.len(),
        })?;
        let list = CertificateList::from_der(&der)
            .map_err(|error| EncodingError::Der { kind: "revocation list", reason: error.to_string() })?;
        Ok(Self { der, list })
    }

    /// Whether its issuer, by its own word, is this certificate's subject.
    pub(super) fn is_of(&self, issuer: &[u8]) -> bool {
        Names::read(issuer).is_ok_and(|names| names.subject == self.list.tbs_cert_list.issuer)
    }

    /// Whether there must be a newer one by now. A list that does not say is never good.
    pub(super) fn is_out_of_date(&self, now: SystemTime) -> bool {
        let next = self.list.tbs_cert_list.next_update;
        next.is_none_or(|next| UNIX_EPOCH + next.to_unix_duration() < now)
    }

    /// Whether it lists this certificate.
    pub(super) fn revokes(&self, certificate: &[u8]) -> bool {
        let Ok(certificate) = parse(certificate) else { return false };
        let body = certificate.tbs_certificate();
        let list = &self.list.tbs_cert_list;
        let mut revoked = list.revoked_certificates.iter().flatten();
        list.issuer == *body.issuer() && revoked.any(|entry| entry.serial_number == *body.serial_number())
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{ark, made_up_vlek, vector, when_lists_were_good};
    use super::*;
    use postern_shared::snp::Product;
    use std::time::Duration;

    #[test]
    fn pem_and_der_of_a_certificate_are_the_same() {
        let chain: [Vec<u8>; 2] = certificates(&vector("amd-genoa-vcek-ask-ark.pem")).unwrap();
        assert_eq!(chain, [vector("amd-genoa-ask.der"), ark(Product::Genoa)]);
        for der in chain {
            assert_eq!(certificate(&der).unwrap(), der);
            assert_eq!(certificate(to_pem("CERTIFICATE", &der).as_bytes()).unwrap(), der);
        }
    }

    #[test]
    fn pem_is_read_with_other_line_ends_and_text_around_it() {
        let der = vector("msft-tav-turin-vcek.der");
        let pem = to_pem("CERTIFICATE", &der);
        assert!(pem.lines().all(|line| line.len() <= PEM_LINE));
        for text in
            [pem.replace('\n', "\r\n"), format!("subject=CN = SEV-VCEK\n{pem}\n"), format!("\n\n{pem}")]
        {
            assert_eq!(certificate(text.as_bytes()).unwrap(), der);
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused_with_a_reason() {
        let der = vector("amd-genoa-ask.der");
        let pem = to_pem("CERTIFICATE", &der);
        let twice = [pem.as_bytes(), pem.as_bytes()].concat();
        let trailing = [&der[..], &[0]].concat();
        let not_a_certificate = Err(());
        for bytes in
            [&b""[..], b"<html>", &der[..der.len() - 1], &trailing, &vector("amd-genoa-crl-2022.der")]
        {
            let result = certificate(bytes).map_err(|error| match error {
                EncodingError::Der { kind: "certificate", .. } => (),
                error => panic!("{error}"),
            });
            assert_eq!(result, not_a_certificate);
        }
        let count = |found| EncodingError::Count { label: "CERTIFICATE", expected: 1, found };
        assert_eq!(certificate(&twice), Err(count(2)));
        assert_eq!(certificate(to_pem("X509 CRL", &der).as_bytes()), Err(count(0)));
        let cut = &pem.as_bytes()[..pem.len() / 2];
        assert!(matches!(certificate(cut), Err(EncodingError::Pem(_))));
        assert!(matches!(certificate(pem.replace('M', "?").as_bytes()), Err(EncodingError::Pem(_))));
        let huge = vec![b' '; MAX_CERTIFICATES + 1];
        assert_eq!(certificate(&huge), Err(EncodingError::TooLarge { limit: MAX_CERTIFICATES }));
    }

    #[test]
    fn a_revocation_list_says_whose_it_is_until_when_and_what_it_lists() {
        let now = when_lists_were_good();
        let genoa = Crl::read(&vector("amd-genoa-crl-2022.der")).unwrap();
        assert!(genoa.is_of(&ark(Product::Genoa)) && !genoa.is_of(&ark(Product::Milan)));
        assert!(!genoa.is_of(b"no certificate"));
        assert!(!genoa.is_out_of_date(now));
        assert!(genoa.is_out_of_date(now + Duration::from_secs(365 * 86_400)));
        assert!(genoa.revokes(&vector("amd-genoa-ask-revoked.der")));
        assert!(!genoa.revokes(&vector("amd-genoa-ask.der")));

        let milan = Crl::read(to_pem("X509 CRL", &vector("amd-milan-crl-2022.der")).as_bytes()).unwrap();
        assert_eq!(milan.der, vector("amd-milan-crl-2022.der"));
        assert!(!milan.revokes(&vector("amd-genoa-ask-revoked.der")), "another issuer's serial numbers");
        assert!(Crl::read(&ark(Product::Milan)).is_err());
        assert_eq!(Crl::read(&vec![0; MAX_CRL + 1]), Err(EncodingError::TooLarge { limit: MAX_CRL }));
    }

    #[test]
    fn certificates_say_their_names() {
        let names = Names::read(&vector("amd-turin-asvk.der")).unwrap();
        assert_eq!((&*names.common_name, &*names.issuer_common_name), ("SEV-VLEK-Turin", "ARK-Turin"));
        assert_eq!(Names::read(&made_up_vlek("amd-turin-asvk.der")).unwrap().common_name, "SEV-VLEK");
    }
}
