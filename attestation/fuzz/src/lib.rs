//! What the targets share: real evidence, and what must hold of every judgement on what was made of it.

use postern_attestation::{Appraisal, SIGNED_LEN, Time, TrustAnchor, UnverifiedReport, Verifier};
use postern_shared::{
    check::Check,
    message::{Certificates, Evidence},
    policy::{AllowedMeasurement, AttestationRules, Floor, Relaxations, Trust},
    snp::{Cpuid, FirmwareVersion, Product, TcbVersion},
};

/// A real report with its chain (`tests/vectors/snp/PROVENANCE.md`).
pub struct Sample {
    pub report: &'static [u8],
    pub ark: &'static [u8],
    pub ask: &'static [u8],
    pub leaf: &'static [u8],
    /// AMD's list for the product line, in force from 2022 to 2023.
    pub crl: Option<&'static [u8]>,
}

macro_rules! vector {
    ($($name:literal),+) => {
        include_bytes!(concat!("../../../tests/vectors/snp/", $($name),+))
    };
}

macro_rules! sample {
    ($report:literal, $leaf:literal, $line:literal, $crl:expr) => {
        Sample {
            report: vector!($report),
            ark: include_bytes!(concat!("../../roots/ark-", $line, ".der")),
            ask: vector!("amd-", $line, "-ask.der"),
            leaf: vector!($leaf),
            crl: $crl,
        }
    };
}

const MILAN_CRL: Option<&[u8]> = Some(vector!("amd-milan-crl-2022.der"));
const GENOA_CRL: Option<&[u8]> = Some(vector!("amd-genoa-crl-2022.der"));

/// Those that the floors of their time accept come first.
pub static SAMPLES: [Sample; 10] = [
    sample!("confai-siena-report.bin", "confai-siena-vcek.der", "genoa", GENOA_CRL),
    sample!("msft-tav-turin-report.bin", "msft-tav-turin-vcek.der", "turin", None),
    sample!("msft-tav-genoa-report.bin", "msft-tav-genoa-vcek.der", "genoa", GENOA_CRL),
    sample!("veraison-genoa-report.bin", "veraison-genoa-vcek.der", "genoa", GENOA_CRL),
    sample!("dstack-milan-report.bin", "dstack-milan-vcek.der", "milan", MILAN_CRL),
    sample!("msft-tav-milan-report.bin", "msft-tav-milan-vcek.der", "milan", MILAN_CRL),
    sample!("oak-milan-rk-release-report.bin", "oak-milan-rk-release-vcek.der", "milan", MILAN_CRL),
    sample!("enarx-milan-idblock-report.bin", "enarx-milan-idblock-vcek.der", "milan", MILAN_CRL),
    sample!("virtee-report-milan.bin", "virtee-vcek-milan.der", "milan", MILAN_CRL),
    sample!("gosev-attestation.bin", "gosev-vcek.der", "milan", MILAN_CRL),
];

impl Sample {
    /// One of the samples, whatever the number.
    pub fn at(number: u8) -> &'static Self {
        &SAMPLES[usize::from(number) % SAMPLES.len()]
    }

    /// With the revocation list, if there is one of the line.
    pub fn certificates(&self) -> Certificates {
        Certificates {
            ark: self.ark.to_vec(),
            ask: self.ask.to_vec(),
            leaf: self.leaf.to_vec(),
            crl: self.crl.map(<[u8]>::to_vec),
        }
    }

    /// What the report says.
    pub fn fields(&self) -> UnverifiedReport {
        UnverifiedReport::parse(self.report).expect("a real report")
    }
}

/// Fails unless real evidence is accepted. Without that, it would mean nothing that nothing else is.
pub fn assert_real_evidence_is_accepted() {
    let accepted = |rules: AttestationRules| {
        let mut verifier = Verifier::new(TrustAnchor::amd(), rules, Time::NotBefore(0));
        let clean = |sample: &Sample| {
            let evidence = Evidence { report: sample.report.to_vec(), certificates: sample.certificates() };
            let appraisal = verifier.appraise(&evidence, None, None);
            assert!(holds(&appraisal, Check::Chain) && holds(&appraisal, Check::ReportSignature));
            appraisal.is_clean()
        };
        SAMPLES.iter().map(clean).collect::<Vec<_>>()
    };
    let [of_their_time, lax] = rules().map(accepted);
    assert_eq!(of_their_time, [[true; 2].as_slice(), &[false; 8]].concat());
    // Reports of version 2 do not say what silicon they are from: no rule lets them through.
    assert_eq!(lax, [[true; 7].as_slice(), &[false; 3]].concat());
}

/// The strictest rules that accept anything real, and rules that let through whatever rules can. No sample reaches today's
/// floors: the first two reach those of their time.
pub fn rules() -> [AttestationRules; 2] {
    let floor = |family, model, stepping, fmc| Floor {
        silicon: Cpuid { family, model, stepping },
        tcb: Some(TcbVersion { fmc, bootloader: 0, tee: 0, snp: 0, microcode: 0 }),
        firmware: Some(FirmwareVersion { major: 0, minor: 0, build: 0 }),
        mitigations: Some(0),
        platform: Some(0),
    };
    let mut of_their_time = AttestationRules::strict(Trust::Amd);
    let siena = Cpuid { family: 0x19, model: 0xA0, stepping: 2 };
    let turin = Cpuid { family: 0x1A, model: 0x02, stepping: 1 };
    let tcb = TcbVersion { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x51 };
    of_their_time.relax.floors = vec![
        Floor { mitigations: Some(0b011), ..Floor::of(siena) },
        Floor { tcb: Some(tcb), ..Floor::of(turin) },
    ];
    let lax = AttestationRules {
        measurements: SAMPLES
            .iter()
            .map(|sample| AllowedMeasurement::new("a sample's", sample.fields().measurement))
            .collect(),
        products: vec![Product::Milan, Product::Genoa, Product::Turin],
        relax: Relaxations {
            masked_chip_id: true,
            vlek_providers: vec!["provider".into()],
            provisional_firmware: true,
            missing_alias_check: true,
            unknown_platform_bits: !0,
            floors: vec![
                floor(0x19, 0x01, 1, None),
                floor(0x19, 0x11, 1, None),
                floor(0x19, 0xA0, 2, None),
                floor(0x1A, 0x02, 1, Some(0)),
            ],
        },
        ..of_their_time.clone()
    };
    [of_their_time, lax]
}

/// Holds a judgement under AMD's roots against what only AMD's keys can make.
///
/// Stronger than that nothing forged is accepted: no signature counts but over the bytes that were signed, whatever else
/// is wrong with the evidence.
pub fn check(evidence: &Evidence, appraisal: &Appraisal) {
    let Certificates { ark, ask, leaf, crl } = &evidence.certificates;
    check_findings(appraisal);
    if holds(appraisal, Check::Chain) {
        let real = |sample: &Sample| (sample.ark, sample.ask, sample.leaf) == (ark, ask, leaf);
        assert!(SAMPLES.iter().any(real), "a chain that nobody signed");
    }
    if holds(appraisal, Check::Crl) && crl.is_some() {
        let real = |sample: &Sample| sample.crl == crl.as_deref();
        assert!(SAMPLES.iter().any(real), "a revocation list that nobody signed");
    }
    // What is known to be revoked needs no list, wherever the certificates can be read.
    let judged = appraisal.findings.iter().any(|finding| finding.check == Check::Revocation);
    assert!(judged || !holds(appraisal, Check::Chain), "a chain that may be revoked");
    if holds(appraisal, Check::ReportSignature) {
        let signed = evidence.report.get(..SIGNED_LEN);
        let real = |sample: &Sample| sample.report.get(..SIGNED_LEN) == signed;
        assert!(SAMPLES.iter().any(real), "a report that nobody signed");
    }
    if appraisal.is_clean() {
        // Nothing is clean by not having been looked at.
        for made in [Check::ReportFormat, Check::Chain, Check::Validity, Check::Crl, Check::ReportSignature] {
            assert!(holds(appraisal, made), "clean without {made}");
        }
    }
}

/// Each check at most once, in order, and all of it in words.
pub fn check_findings(appraisal: &Appraisal) {
    let findings = &appraisal.findings;
    assert!(findings.windows(2).all(|pair| pair[0].check < pair[1].check));
    assert!(findings.iter().all(|finding| !finding.to_string().is_empty()));
}

/// Whether a check was made and holds.
pub fn holds(appraisal: &Appraisal, check: Check) -> bool {
    appraisal.findings.iter().any(|finding| finding.check == check && finding.ok)
}
