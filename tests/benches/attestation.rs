//! What verifying evidence costs an enclave, beside the one P-384 verification that it can't do without, of the same library
//! and in the same run.
//!
//! `cargo bench -p postern-tests --bench attestation` prints medians. Samples of the sides alternate.

use p384::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use postern_attestation::{Launch, ReportData, SIGNED_LEN, Time, TrustAnchor, Verifier};
use postern_shared::ids::{ChipId, Measurement};
use postern_shared::message::{Certificates, Evidence};
use postern_shared::policy::{AllowedMeasurement, AttestationRules, Trust};
use sha2::{Digest, Sha384};
use std::hint::black_box;
use std::time::{Duration, Instant};
use x509_cert::Certificate;
use x509_cert::der::Decode;

const SAMPLES: usize = 400;

fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/vectors/snp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    black_box(work());
    started.elapsed()
}

fn median(mut samples: Vec<Duration>) -> f64 {
    samples.sort();
    samples[samples.len() / 2].as_secs_f64() * 1e6
}

fn main() {
    // A real machine of AMD's: Turin.
    let report = vector("msft-tav-turin-report.bin");
    let leaf = vector("msft-tav-turin-vcek.der");
    let ark = TrustAnchor::amd().roots().nth(2).expect("Turin's root").to_vec();
    let certificates = Certificates { ark, ask: vector("amd-turin-ask.der"), leaf: leaf.clone(), crl: None };
    let evidence = Evidence { report: report.clone(), certificates };

    let chips = [ChipId(report[0x1A0..0x1E0].try_into().expect("64 bytes"))];
    let measurement = Measurement(report[0x90..0xC0].try_into().expect("48 bytes"));
    let mut rules = AttestationRules::strict(Trust::Amd);
    rules.measurements = vec![AllowedMeasurement::new("sample", measurement)];
    rules.id_keys =
        vec![postern_shared::policy::KeyDigest(report[0xE0..0x110].try_into().expect("48 bytes"))];
    let launch =
        Launch { epoch: 0, host_data: report[0xC0..0xE0].try_into().expect("32 bytes"), chip_ids: &chips };
    let data = ReportData(report[0x50..0x90].try_into().expect("64 bytes"));
    let fresh = || Verifier::new(TrustAnchor::amd(), rules.clone(), Time::At(1_795_132_800));
    let mut warm = fresh();
    warm.verify(&evidence, &launch, &data).expect("a good sample");

    let info = Certificate::from_der(&leaf).expect("a certificate");
    let point = info.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes().to_vec();
    let key = VerifyingKey::from_sec1_bytes(&point).expect("a key");
    let half = |place: usize| {
        let mut bytes: [u8; 48] = report[place..place + 48].try_into().expect("48 bytes");
        bytes.reverse();
        bytes
    };
    let signature = Signature::from_scalars(half(0x2A0), half(0x2E8)).expect("a signature");
    let digest = Sha384::digest(&report[..SIGNED_LEN]);

    let (mut bare, mut kept, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        bare.push(time(|| key.verify_prehash(&digest, &signature).expect("it verifies")));
        kept.push(time(|| warm.verify(&evidence, &launch, &data).expect("it verifies")));
        let mut verifier = fresh();
        cold.push(time(|| verifier.verify(&evidence, &launch, &data).expect("it verifies")));
    }
    let (bare, kept, cold) = (median(bare), median(kept), median(cold));
    println!("bare P-384 verification        {bare:8.1} µs");
    println!("evidence, chain remembered     {kept:8.1} µs  {:.2} of it", kept / bare);
    println!("evidence, chain seen first     {cold:8.1} µs  {:.2} of it", cold / bare);
    println!("(medians of {SAMPLES} samples each)");
}
