//! Real evidence against a verifier that is not ours: `snpguest`. What it refuses, we refuse; what of it is authentic to
//! us, it accepts.
//!
//! Slow to install: `cargo install snpguest --version 0.11.0 --locked --root target/tools`, then `target/tools/bin` in
//! `PATH`. Fails when the tool is missing.

use postern_attestation::{Appraisal, Time, TrustAnchor, Verifier};
use postern_host::certificates::folder;
use postern_shared::check::{Check, Decider};
use postern_shared::message::{Certificates, Evidence};
use postern_shared::policy::{AttestationRules, Floor, Trust};
use postern_shared::snp::{Cpuid, TcbVersion};
use std::path::Path;
use std::process::Command;

/// Report and leaf of each vector, its product line, and whether the floors of its time accept it: none reaches today's.
const VECTORS: [(&str, &str, &str, bool); 10] = [
    ("gosev-attestation.bin", "gosev-vcek.der", "milan", false),
    ("virtee-report-milan.bin", "virtee-vcek-milan.der", "milan", false),
    ("enarx-milan-idblock-report.bin", "enarx-milan-idblock-vcek.der", "milan", false),
    ("dstack-milan-report.bin", "dstack-milan-vcek.der", "milan", false),
    ("msft-tav-milan-report.bin", "msft-tav-milan-vcek.der", "milan", false),
    ("oak-milan-rk-release-report.bin", "oak-milan-rk-release-vcek.der", "milan", false),
    ("msft-tav-genoa-report.bin", "msft-tav-genoa-vcek.der", "genoa", false),
    ("veraison-genoa-report.bin", "veraison-genoa-vcek.der", "genoa", false),
    ("confai-siena-report.bin", "confai-siena-vcek.der", "genoa", true),
    ("msft-tav-turin-report.bin", "msft-tav-turin-vcek.der", "turin", true),
];

fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/vectors/snp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn evidence(report: &str, leaf: &str, line: &str) -> Evidence {
    let root = ["milan", "genoa", "turin"].iter().position(|other| *other == line).expect("a line");
    let ark = TrustAnchor::amd().roots().nth(root).expect("three roots").to_vec();
    let (ask, leaf) = (vector(&format!("amd-{line}-ask.der")), vector(leaf));
    Evidence { report: vector(report), certificates: Certificates { ark, ask, leaf, crl: None } }
}

fn appraise(evidence: &Evidence) -> Appraisal {
    let mut rules = AttestationRules::strict(Trust::Amd);
    let siena = Cpuid { family: 0x19, model: 0xA0, stepping: 2 };
    let turin = Cpuid { family: 0x1A, model: 0x02, stepping: 1 };
    let tcb = TcbVersion { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x51 };
    rules.relax.floors = vec![
        Floor { mitigations: Some(0b011), ..Floor::of(siena) },
        Floor { tcb: Some(tcb), ..Floor::of(turin) },
    ];
    Verifier::new(TrustAnchor::amd(), rules, Time::At(1_795_132_800)).appraise(evidence, None, None)
}

/// Whether the chip of the certificates made the report, and the report says what chip that is: neither of us guesses.
fn is_authentic(appraisal: &Appraisal) -> bool {
    let named = appraisal.report.as_ref().is_some_and(|report| report.cpuid.is_some());
    let made_by_it = |check: Check| check.decided_by() != Decider::Anybody;
    named && appraisal.findings.iter().all(|finding| finding.ok || made_by_it(finding.check))
}

/// What the other verifier says of certificates and report.
fn snpguest(folder: &Path) -> (bool, String) {
    let report = folder.join("report.bin");
    let (mut accepted, mut text) = (true, String::new());
    for arguments in [vec![Path::new("certs"), folder], vec![Path::new("attestation"), folder, &report]] {
        let run = Command::new("snpguest").arg("verify").args(arguments).output();
        let run = run.unwrap_or_else(|error| panic!("snpguest is needed for this test: {error}"));
        accepted &= run.status.success();
        text += &String::from_utf8_lossy(&[run.stdout, run.stderr].concat());
    }
    (accepted, text)
}

/// Asks both; gives their verdicts: ours by the rules, ours on origin alone, theirs.
fn ask(name: &str, evidence: &Evidence) -> [bool; 3] {
    let parent = tempfile::tempdir().expect("a directory");
    let folder = parent.path().join("exported");
    folder::export(&folder, &evidence.report, &evidence.certificates).expect("a new folder");
    let appraisal = appraise(evidence);
    let (theirs, text) = snpguest(&folder);
    let (ours, authentic) = (appraisal.is_clean(), is_authentic(&appraisal));
    println!("{name}: ours {ours}, authentic {authentic}, snpguest {theirs}");
    assert!(theirs || !ours, "{name}: we accept what snpguest refuses: {text}");
    assert!(theirs || !authentic, "{name}: authentic to us, refused by snpguest: {text}");
    [ours, authentic, theirs]
}

#[test]
#[ignore = "needs snpguest, which takes minutes to install"]
fn snpguest_accepts_what_is_authentic_and_we_are_stricter() {
    for (report, leaf, line, accepted) in VECTORS {
        let evidence = evidence(report, leaf, line);
        // Version 2 does not say what silicon it is from.
        let authentic = evidence.report[0] > 2;
        assert_eq!(ask(report, &evidence), [accepted, authentic, authentic], "{report}");
    }
}

#[test]
#[ignore = "needs snpguest, which takes minutes to install"]
fn we_refuse_whatever_snpguest_refuses() {
    let good = evidence("confai-siena-report.bin", "confai-siena-vcek.der", "genoa");
    let change = |name: &str, change: fn(&mut Evidence)| {
        let mut evidence = good.clone();
        change(&mut evidence);
        let [ours, authentic, theirs] = ask(name, &evidence);
        assert!(!ours && !authentic, "{name}");
        theirs
    };
    // Both see these.
    for theirs in [
        change("a bit of the report", |evidence| evidence.report[0x90] ^= 1),
        change("a bit of the signature", |evidence| evidence.report[0x2A0] ^= 1),
        change("another machine's report", |evidence| {
            evidence.report = vector("veraison-genoa-report.bin");
        }),
        change("another machine's leaf", |evidence| {
            evidence.certificates.leaf = vector("veraison-genoa-vcek.der");
        }),
        change("another line's intermediate", |evidence| {
            evidence.certificates.ask = vector("amd-turin-ask.der");
        }),
        change("the revoked intermediate", |evidence| {
            evidence.certificates.ask = vector("amd-genoa-ask-revoked.der");
        }),
    ] {
        assert!(!theirs);
    }
    // What only we see: bytes behind the signature, which nothing signs.
    assert!(change("a byte behind the signature", |evidence| evidence.report[0x330] = 1));
}
