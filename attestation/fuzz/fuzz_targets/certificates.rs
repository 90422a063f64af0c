//! One certificate or revocation list made of any bytes, in a chain that is real but for it: so parsers see it, and names
//! and signatures are looked at wherever it can be read.
//!
//! The input is the number of a sample, a byte of flags, the time (`u64`, little-endian), then the bytes.
#![no_main]

mod der;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use postern_attestation::{Time, TrustAnchor, Verifier, certified};
use postern_attestation_fuzz::{
    Sample, assert_real_evidence_is_accepted, check, check_findings, holds, rules,
};
use postern_shared::{check::Check, message::Evidence, policy::AttestationRules};
use std::sync::LazyLock;

static RULES: LazyLock<[AttestationRules; 2]> = LazyLock::new(rules);

/// Sample, flags, time.
const HEAD: usize = 10;

// Bits 1:0 of the flags say whose place the bytes take.
const PLACE: u8 = 3;
const ARK: u8 = 0;
const ASK: u8 = 1;
const LEAF: u8 = 2;
/// The real report comes too.
const WITH_REPORT: u8 = 1 << 2;
/// The real revocation list comes too.
const WITH_CRL: u8 = 1 << 3;
/// It is the time, not just that or later.
const CLOCK: u8 = 1 << 4;
const LAX: u8 = 1 << 5;

fuzz_target!(init: assert_real_evidence_is_accepted(), |bytes: &[u8]| {
    let Some((&[number, flags, ref time @ ..], bytes)) = bytes.split_first_chunk::<HEAD>() else { return };
    let has = |flag| flags & flag != 0;
    let sample = Sample::at(number);
    let mut certificates = sample.certificates();
    certificates.crl.take_if(|_| !has(WITH_CRL));
    let place = match flags & PLACE {
        ARK => &mut certificates.ark,
        ASK => &mut certificates.ask,
        LEAF => &mut certificates.leaf,
        _ => certificates.crl.get_or_insert_default(),
    };
    *place = bytes.to_vec();
    // An altered root is pinned, or nothing behind it would be reached.
    let pinned = certificates.ark != sample.ark;
    let roots = || vec![certificates.ark.clone()];
    let anchor = if pinned { TrustAnchor::custom("altered", roots()) } else { TrustAnchor::amd() };
    let time = u64::from_le_bytes(*time);
    let time = if has(CLOCK) { Time::At(time) } else { Time::NotBefore(time) };
    let report = if has(WITH_REPORT) { sample.report.to_vec() } else { Vec::new() };

    let evidence = Evidence { report, certificates };
    let rules = RULES[usize::from(has(LAX))].clone();
    let appraisal = Verifier::new(anchor.clone(), rules, time).appraise(&evidence, None, None);
    if pinned {
        check_findings(&appraisal);
    } else {
        check(&evidence, &appraisal);
    }
    // What keeps certificates for later judges them as what verifies evidence does.
    if holds(&appraisal, Check::Chain) {
        assert!(certified(&evidence.certificates, &anchor).is_ok());
    }
});

// One alteration in four is of any bytes, the head's among them; the others leave DER what it is.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let altered =
        data.get(HEAD..size).filter(|_| !seed.is_multiple_of(4)).and_then(|bytes| der::alter(bytes, seed));
    match (altered, data.get_mut(HEAD..max_size)) {
        (Some(altered), Some(place)) if altered.len() <= place.len() => {
            place[..altered.len()].copy_from_slice(&altered);
            HEAD + altered.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});
