//! Any evidence: judged without a panic, and nothing counts as signed but what a real chip and AMD signed.
//!
//! The input is the number of a sample, two bytes of flags, then report, ARK, ASK, leaf and revocation list, each after its
//! 16-bit length. A part of length zero is the sample's own, so that each can be altered while the others are good and
//! what lies behind them is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_attestation::{Launch, ReportData, Time, TrustAnchor, Verifier};
use postern_attestation_fuzz::{Sample, assert_real_evidence_is_accepted, check, rules};
use postern_shared::ids::ChipId;
use postern_shared::message::{Certificates, Evidence};
use std::cell::RefCell;

/// With and without a clock: all certificates are valid in 2026, lists only until 2023. `certificates` tries all other
/// times, which cost more: only good chains are remembered.
const TIMES: [Time; 4] = [
    Time::NotBefore(0),
    Time::NotBefore(1_795_132_800), // 2026-11-20
    Time::At(1_795_132_800),
    Time::At(1_672_531_200), // 2023-01-01
];

// Of the first byte of flags; bits 1:0 choose the time.
const LAX: u8 = 1 << 2;
const WITH_CRL: u8 = 1 << 3;
// Of the second.
const WITH_LAUNCH: u8 = 1 << 0;
const WITH_DATA: u8 = 1 << 1;
/// Launch and report data are not the sample's.
const FOREIGN: u8 = 1 << 2;

thread_local! {
    /// One verifier for each time and set of rules: it remembers chains, as in an enclave.
    static VERIFIERS: RefCell<Vec<Verifier>> = RefCell::new(
        TIMES
            .into_iter()
            .flat_map(|time| rules().map(|rules| Verifier::new(TrustAnchor::amd(), rules, time)))
            .collect(),
    );
}

fuzz_target!(init: assert_real_evidence_is_accepted(), |bytes: &[u8]| {
    let Some((&[number, judge, ask], mut rest)) = bytes.split_first_chunk::<3>() else { return };
    let sample = Sample::at(number);
    let mut part = |real: &[u8]| {
        let length = rest.split_off(..2).map_or(0, |two| usize::from(two[0]) | usize::from(two[1]) << 8);
        let taken = rest.split_off(..length.min(rest.len())).unwrap_or_default();
        if taken.is_empty() { real.to_vec() } else { taken.to_vec() }
    };
    let report = part(sample.report);
    let (ark, ask_certificate, leaf) = (part(sample.ark), part(sample.ask), part(sample.leaf));
    let crl = (judge & WITH_CRL != 0).then(|| part(sample.crl.unwrap_or_default()));
    let evidence = Evidence { report, certificates: Certificates { ark, ask: ask_certificate, leaf, crl } };

    let mut fields = sample.fields();
    if ask & FOREIGN != 0 {
        (fields.host_data, fields.chip_id, fields.report_data) = ([1; 32], [1; 64], [1; 64]);
    }
    let chips = [ChipId([2; 64]), ChipId(fields.chip_id)];
    let launch = Launch { epoch: 0, host_data: fields.host_data, chip_ids: &chips };
    let launch = (ask & WITH_LAUNCH != 0).then_some(&launch);
    let data = ReportData(fields.report_data);
    let data = (ask & WITH_DATA != 0).then_some(&data);
    VERIFIERS.with_borrow_mut(|verifiers| {
        let index = usize::from(judge & 3) * 2 + usize::from(judge & LAX != 0);
        let verifier = &mut verifiers[index];
        let appraisal = verifier.appraise(&evidence, launch, data);
        check(&evidence, &appraisal);
        if appraisal.is_clean() {
            assert!(ask & FOREIGN == 0 || (launch, data) == (None, None), "accepted for somebody else");
            if let (Some(launch), Some(data)) = (launch, data) {
                assert!(verifier.verify(&evidence, launch, data).is_ok());
            }
        }
    });
});
