//! What people have a report in: tools and clouds wrap it, and terminals carry text.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use postern_attestation::REPORT_LEN;
use postern_shared::bytes::from_hex;

/// Length of the firmware's answer as Linux hands it out (`struct snp_report_resp`).
const RESPONSE_LEN: usize = 4000;
/// Where the report stands in it, behind status and size (56860, `MSG_REPORT_RSP`); and in Azure's blob, behind its header.
const REPORT_OFFSET: usize = 0x20;
/// What Azure's paravisor (HCL) begins its blobs with.
const HCL_MAGIC: &[u8] = b"HCLA";
/// Where such a blob says what kind of report it has, and the number for SEV-SNP.
const HCL_KIND_OFFSET: usize = REPORT_OFFSET + REPORT_LEN + 8;
const HCL_SNP: u32 = 2;

/// Why there is no report in what should have one.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// The firmware refused.
    #[error("a firmware's answer (MSG_REPORT_RSP) with status {status:#x} instead of a report")]
    Refused {
        /// Its status; 0 is success.
        status: u32,
    },
    /// The firmware's answer has something else than a report.
    #[error("a firmware's answer (MSG_REPORT_RSP) with {found} bytes, expected a report of {REPORT_LEN}")]
    Size {
        /// The size that it gives.
        found: u32,
    },
    /// A blob of Azure's, cut off.
    #[error("a blob of Azure's HCL with {found} bytes: too short for a report")]
    HclLength {
        /// Its length.
        found: usize,
    },
    /// A blob of Azure's, for another kind of machine.
    #[error("a blob of Azure's HCL with a report of kind {found}, expected {HCL_SNP} (SEV-SNP; 4 is TDX)")]
    HclKind {
        /// The kind.
        found: u32,
    },
    /// Certificates instead of a report.
    #[error("a certificate in PEM, not a report: a folder of certificates is given by --certs")]
    Pem,
}

/// Takes the report out of `bytes`, as binary, hexadecimal or base64, by itself or wrapped. None if they are nothing of the
/// kind. What is hexadecimal is taken for a report whatever its length: the verdict says what is wrong with it.
pub(super) fn report_in(bytes: &[u8]) -> Result<Option<Vec<u8>>, ContainerError> {
    if let Some(report) = unwrapped(bytes)? {
        return Ok(Some(report));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(None) };
    if text.trim_start().starts_with("-----BEGIN ") {
        return Err(ContainerError::Pem);
    }
    // Tools break lines where they like.
    let text: String = text.split_whitespace().collect();
    if let Ok(decoded) = from_hex(&text)
        && !decoded.is_empty()
    {
        return Ok(Some(unwrapped(&decoded)?.unwrap_or(decoded)));
    }
    for alphabet in [STANDARD, URL_SAFE] {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        if let Ok(decoded) = GeneralPurpose::new(&alphabet, config).decode(&text) {
            return unwrapped(&decoded);
        }
    }
    Ok(None)
}

fn unwrapped(bytes: &[u8]) -> Result<Option<Vec<u8>>, ContainerError> {
    if bytes.starts_with(HCL_MAGIC) {
        return hcl(bytes).map(Some);
    }
    match bytes.len() {
        REPORT_LEN => Ok(Some(bytes.to_vec())),
        RESPONSE_LEN => response(bytes).map(Some),
        _ => Ok(None),
    }
}

fn response(bytes: &[u8]) -> Result<Vec<u8>, ContainerError> {
    let (status, size) = (number(bytes, 0), number(bytes, 4));
    match (status, size, report_at(bytes)) {
        (Some(0), Some(size), Some(report)) if size as usize == REPORT_LEN => Ok(report),
        (Some(0), size, _) => Err(ContainerError::Size { found: size.unwrap_or_default() }),
        (status, ..) => Err(ContainerError::Refused { status: status.unwrap_or_default() }),
    }
}

fn hcl(bytes: &[u8]) -> Result<Vec<u8>, ContainerError> {
    match (report_at(bytes), number(bytes, HCL_KIND_OFFSET)) {
        (Some(report), Some(HCL_SNP)) => Ok(report),
        (Some(_), Some(found)) => Err(ContainerError::HclKind { found }),
        _ => Err(ContainerError::HclLength { found: bytes.len() }),
    }
}

fn report_at(bytes: &[u8]) -> Option<Vec<u8>> {
    bytes.get(REPORT_OFFSET..REPORT_OFFSET + REPORT_LEN).map(<[u8]>::to_vec)
}

fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose;

    fn report() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/snp/confai-siena-report.bin");
        std::fs::read(path).expect("a vector")
    }

    /// What firmware answers, as Linux hands it out.
    fn answer(status: u32, size: u32) -> Vec<u8> {
        let mut answer = vec![0; RESPONSE_LEN];
        answer[..4].copy_from_slice(&status.to_le_bytes());
        answer[4..8].copy_from_slice(&size.to_le_bytes());
        answer[REPORT_OFFSET..REPORT_OFFSET + REPORT_LEN].copy_from_slice(&report());
        answer
    }

    /// What Azure's vTPM gives out: header, report, kind, and claims of any length.
    fn blob(kind: u32) -> Vec<u8> {
        let header = [HCL_MAGIC, &[0; REPORT_OFFSET - 4]].concat();
        [header, report(), vec![0; 8], kind.to_le_bytes().to_vec(), vec![b'{'; 500]].concat()
    }

    /// As lines of so many characters.
    fn lines(text: &str, width: usize) -> Vec<u8> {
        let lines: Vec<String> =
            text.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("{}\r\n", lines.join("\n")).into_bytes()
    }

    #[test]
    fn a_report_is_found_in_whatever_people_have_it_in() {
        for container in [report(), answer(0, 1184), blob(2)] {
            let hexadecimal = hex::encode(&container);
            let standard = general_purpose::STANDARD.encode(&container);
            let forms = [
                container.clone(),
                lines(&hexadecimal, 60), // xxd -p
                lines(&hexadecimal.to_uppercase(), 4000),
                format!("0x{hexadecimal}").into_bytes(),
                lines(&standard, 76), // base64
                standard.into_bytes(),
                general_purpose::URL_SAFE_NO_PAD.encode(&container).into_bytes(),
            ];
            for (number, form) in forms.iter().enumerate() {
                assert_eq!(report_in(form), Ok(Some(report())), "form {number} of {} bytes", container.len());
            }
        }
        // Hexadecimal of another length: the verdict says what is wrong with it.
        assert_eq!(report_in(b"00ff"), Ok(Some(vec![0, 0xFF])));
    }

    #[test]
    fn what_has_no_report_is_named() {
        for (bytes, expected) in [
            (answer(0x16, 0), ContainerError::Refused { status: 0x16 }),
            (answer(0, 0), ContainerError::Size { found: 0 }),
            (answer(0, 1185), ContainerError::Size { found: 1185 }),
            (blob(4), ContainerError::HclKind { found: 4 }),
            (blob(2)[..1200].to_vec(), ContainerError::HclLength { found: 1200 }),
            (HCL_MAGIC.to_vec(), ContainerError::HclLength { found: 4 }),
            (b"\n-----BEGIN CERTIFICATE-----\nMIIB\n".to_vec(), ContainerError::Pem),
        ] {
            assert_eq!(report_in(&bytes), Err(expected.clone()), "{expected}");
        }
        for nothing in [&b""[..], b"{}", b" \n", b"hello, world", b"aGVsbG8=", &[0xFF; 100]] {
            assert_eq!(report_in(nothing), Ok(None), "{nothing:?}");
        }
    }
}
