//! Any evidence: judged without a panic, and accepted only if its signed bytes are those that a real chip signed.
//!
//! The input is cut into report, ARK, ASK, leaf and revocation list by 16-bit lengths. A part of length zero is the real
//! one, so that each can be altered while the others are good and what lies behind them is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_attestation::{Launch, ReportData, SIGNED_LEN, Time, TrustAnchor, Verifier};
use postern_shared::ids::ChipId;
use postern_shared::message::{Certificates, Evidence};
use postern_shared::policy::{AttestationRules, Revocation, Trust};
use postern_shared::snp::Product;
use std::cell::RefCell;
use std::sync::LazyLock;

const REPORT: &[u8] = include_bytes!("../../../tests/vectors/snp/confai-siena-report.bin");
const ARK: &[u8] = include_bytes!("../../roots/ark-genoa.der");
const ASK: &[u8] = include_bytes!("../../../tests/vectors/snp/amd-genoa-ask.der");
const LEAF: &[u8] = include_bytes!("../../../tests/vectors/snp/confai-siena-vcek.der");
const CRL: &[u8] = include_bytes!("../../../tests/vectors/snp/amd-genoa-crl-2022.der");

const TURIN_REPORT: &[u8] = include_bytes!("../../../tests/vectors/snp/msft-tav-turin-report.bin");
const TURIN_ARK: &[u8] = include_bytes!("../../roots/ark-turin.der");

/// The strictest rules, and rules that let through what they can.
static RULES: LazyLock<[AttestationRules; 2]> = LazyLock::new(|| {
    let strict = AttestationRules::strict(Trust::Amd);
    let mut lax = strict.clone();
    lax.products = vec![Product::Milan, Product::Genoa, Product::Turin];
    lax.revocation = Revocation::Required;
    lax.relax.masked_chip_id = true;
    lax.relax.provisional_firmware = true;
    lax.relax.missing_alias_check = true;
    lax.relax.unknown_platform_bits = !0;
    lax.relax.vlek_providers = vec!["any".into()];
    [strict, lax]
});

thread_local! {
    /// One verifier for each set of rules and kind of time: it remembers chains, as in an enclave.
    static VERIFIERS: RefCell<Vec<Verifier>> = RefCell::new(
        [Time::At(1_795_132_800), Time::NotBefore(0), Time::NotBefore(u64::MAX)]
            .into_iter()
            .flat_map(|time| RULES.iter().map(move |rules| Verifier::new(TrustAnchor::amd(), rules.clone(), time)))
            .collect(),
    );
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, mut rest)) = bytes.split_first() else { return };
    let mut part = |real: &[u8]| {
        let length = rest.split_off(..2).map_or(0, |two| usize::from(two[0]) | usize::from(two[1]) << 8);
        let taken = rest.split_off(..length.min(rest.len())).unwrap_or_default();
        if taken.is_empty() { real.to_vec() } else { taken.to_vec() }
    };
    let report = part(REPORT);
    let (ark, ask, leaf) = (part(ARK), part(ASK), part(LEAF));
    let crl = (choice & 0x10 != 0).then(|| part(CRL));
    let evidence = Evidence { report, certificates: Certificates { ark, ask, leaf, crl } };
    VERIFIERS.with_borrow_mut(|verifiers| {
        let index = usize::from(choice & 0x0F) % verifiers.len();
        let launch = Launch { epoch: 0, host_data: [0; 32], chip_ids: &[ChipId([0xB5; 64])] };
        let launch = (choice & 0x20 != 0).then_some(&launch);
        let data = (choice & 0x40 != 0).then_some(&ReportData([0; 64]));
        let appraisal = verifiers[index].appraise(&evidence, launch, data);
        for finding in &appraisal.findings {
            assert!(!finding.to_string().is_empty());
        }
        if appraisal.is_clean() {
            // The corpus has the Turin sample as well.
            let signed = [(REPORT, ARK), (TURIN_REPORT, TURIN_ARK)];
            let real = signed.iter().any(|(report, ark)| {
                evidence.report[..SIGNED_LEN] == report[..SIGNED_LEN] && evidence.certificates.ark == *ark
            });
            assert!(real, "nobody signed that");
        }
    });
});
