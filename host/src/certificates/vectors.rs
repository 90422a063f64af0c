//! Real certificates for tests, from `tests/vectors/snp` (see its `PROVENANCE.md`).

use super::encoding::Names;
use super::{ReportFacts, pinned_root};
use postern_attestation::UnverifiedReport;
use postern_shared::message::Certificates;
use postern_shared::snp::{Product, TcbVersion};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_cert::der::{Decode, Encode, Reader, SliceReader, asn1::BitString};

pub(super) fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/../tests/vectors/snp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(super) fn ark(product: Product) -> Vec<u8> {
    pinned_root(&format!("ARK-{product}")).unwrap()
}

/// What a vector's report says of its key. Reports of version 2 don't say their product line.
pub(super) fn facts(name: &str) -> ReportFacts {
    ReportFacts::of(&UnverifiedReport::parse(&vector(&format!("{name}-report.bin"))).unwrap()).unwrap()
}

/// The certificates that belong to a vector's report, without a revocation list.
pub(super) fn set(name: &str) -> Certificates {
    let product = facts(name).product;
    let ask = format!("amd-{}-ask.der", product.name().to_lowercase());
    let leaf = vector(&format!("{name}-vcek.der"));
    Certificates { ark: ark(product), ask: vector(&ask), leaf, crl: None }
}

/// A TCB in the order of its components, with or without the first.
pub(super) fn tcb(fmc: Option<u8>, [bootloader, tee, snp, microcode]: [u8; 4]) -> TcbVersion {
    TcbVersion { fmc, bootloader, tee, snp, microcode }
}

/// Noon, UTC, of a day within the validity of Milan's real list of 2022 and Genoa's.
pub(super) fn when_lists_were_good() -> SystemTime {
    // 2023-01-01.
    UNIX_EPOCH + Duration::from_secs(1_672_574_400)
}

/// Something that calls itself a VLEK by this issuer: no real one is at hand. A real VCEK under other names, signed by
/// nobody.
pub(super) fn made_up_vlek(issuer: &str) -> Vec<u8> {
    let sequence = |content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82][..], &length, content].concat()
    };
    let vcek = vector("msft-tav-milan-vcek.der");
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let (algorithm, signature) = SliceReader::new(&vcek)
        .unwrap()
        .sequence(|reader| {
            reader.sequence(|body| {
                while !body.is_finished() {
                    parts.push(body.tlv_bytes()?.to_vec());
                }
                Ok::<_, x509_cert::der::Error>(())
            })?;
            Ok::<_, x509_cert::der::Error>((reader.tlv_bytes()?.to_vec(), BitString::decode(reader)?))
        })
        .unwrap();
    // Version, serial number, algorithm, issuer, validity, subject, …
    parts[3] = Names::read(&vector(issuer)).unwrap().subject.to_der().unwrap();
    let name = parts[5].windows(4).position(|window| window == b"VCEK").unwrap();
    parts[5][name..name + 4].copy_from_slice(b"VLEK");
    sequence(&[sequence(&parts.concat()), algorithm, signature.to_der().unwrap()].concat())
}
