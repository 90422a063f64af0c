//! The real samples, and the rules that they are held against.

#![allow(dead_code)] // each test uses a part

use postern_attestation::{Appraisal, Time, TrustAnchor, UnverifiedReport, Verifier};
use postern_shared::{
    check::Check,
    message::{Certificates, Evidence},
    policy::{AttestationRules, Floor, Trust},
    snp::{Cpuid, Product, TcbVersion},
};

/// 2026-11-20T00:00:00Z: the leaves of all samples are valid, but for none has AMD's list of then been kept.
pub const NOW: u64 = 1_795_132_800;

pub fn read(name: &str) -> Vec<u8> {
    let path = format!("{}/../tests/vectors/snp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn ark(product: Product) -> Vec<u8> {
    let index =
        [Product::Milan, Product::Genoa, Product::Turin].iter().position(|&other| other == product).unwrap();
    TrustAnchor::amd().roots().nth(index).unwrap().to_vec()
}

pub fn certificates(product: Product, leaf: &str) -> Certificates {
    let ask = read(&format!("amd-{}-ask.der", product.name().to_lowercase()));
    Certificates { ark: ark(product), ask, leaf: read(leaf), crl: None }
}

/// A report with its leaf, what `PROVENANCE.md` says about it, and the checks that it fails under the built-in rules.
pub struct Sample {
    pub name: &'static str,
    pub product: Product,
    pub version: u32,
    pub policy: u64,
    /// Bootloader, TEE, SNP, microcode.
    pub tcb: [u8; 4],
    pub platform_info: u64,
    pub fails: &'static [Check],
}

const fn sample(
    name: &'static str,
    product: Product,
    version: u32,
    policy: u64,
    tcb: [u8; 4],
    platform_info: u64,
    fails: &'static [Check],
) -> Sample {
    Sample { name, product, version, policy, tcb, platform_info, fails }
}

use Check::{FirmwareVersion, GuestPolicy, Mitigations, PlatformInfo, Product as ProductLine, TcbFloor};
use Product::{Genoa, Milan, Turin};

#[rustfmt::skip]
pub const SAMPLES: [Sample; 10] = [
    // Without a CPUID the floor is unknown; a debug guest; no memory alias check.
    sample("gosev", Milan, 2, 0xb0000, [2, 0, 5, 68], 0x1, &[ProductLine, TcbFloor, GuestPolicy, PlatformInfo]),
    sample("virtee-milan", Milan, 2, 0x30000, [3, 0, 8, 115], 0x1, &[ProductLine, TcbFloor, PlatformInfo]),
    sample("enarx-milan-idblock", Milan, 2, 0x30133, [2, 0, 6, 93], 0x1, &[ProductLine, TcbFloor, PlatformInfo]),
    // Milan by default not; microcode below what answers EntrySign. Version 3 has no mitigation vectors.
    sample("dstack-milan", Milan, 3, 0x30000, [4, 0, 23, 213], 0x25, &[ProductLine, TcbFloor, FirmwareVersion, Mitigations]),
    sample("msft-tav-milan", Milan, 3, 0x3001f, [4, 0, 24, 219], 0x25, &[ProductLine, TcbFloor, FirmwareVersion, Mitigations]),
    sample("oak-milan-rk-release", Milan, 3, 0x30000, [4, 0, 24, 219], 0x25, &[ProductLine, TcbFloor, FirmwareVersion, Mitigations]),
    // At the level of AMD-SB-3019, below today's.
    sample("msft-tav-genoa", Genoa, 3, 0x3001f, [10, 0, 23, 84], 0x27, &[TcbFloor, FirmwareVersion, Mitigations]),
    sample("veraison-genoa", Genoa, 3, 0x30000, [10, 0, 23, 84], 0x25, &[TcbFloor, FirmwareVersion, Mitigations]),
    // Microcode of Zen 4c counts otherwise: 27 reaches the floor. Mitigation 2 (AMD-SB-3016) is off.
    sample("confai-siena", Genoa, 5, 0x30000, [10, 0, 27, 27], 0x25, &[Mitigations]),
    // Microcode below what answers AMD-SB-7055.
    sample("msft-tav-turin", Turin, 5, 0x3001f, [1, 1, 4, 0x51], 0x65, &[TcbFloor]),
];

pub fn named(name: &str) -> &'static Sample {
    SAMPLES.iter().find(|sample| sample.name == name).unwrap()
}

impl Sample {
    pub fn report(&self) -> Vec<u8> {
        read(&match self.name {
            "gosev" => "gosev-attestation.bin".to_owned(),
            "virtee-milan" => "virtee-report-milan.bin".to_owned(),
            name => format!("{name}-report.bin"),
        })
    }

    pub fn certificates(&self) -> Certificates {
        certificates(
            self.product,
            &match self.name {
                "virtee-milan" => "virtee-vcek-milan.der".to_owned(),
                name => format!("{name}-vcek.der"),
            },
        )
    }

    pub fn evidence(&self) -> Evidence {
        Evidence { report: self.report(), certificates: self.certificates() }
    }

    pub fn fields(&self) -> UnverifiedReport {
        UnverifiedReport::parse(&self.report()).unwrap()
    }

    /// Under the built-in rules, now.
    pub fn appraise(&self) -> Appraisal {
        appraise(&self.evidence(), strict(), Time::At(NOW))
    }
}

pub fn strict() -> AttestationRules {
    AttestationRules::strict(Trust::Amd)
}

/// The rules that were built in when the Siena and Turin samples were taken: without mitigation 2 of AMD-SB-3016 (Siena
/// 19/a0/2), with the microcode of AMD-SB-3027 (Turin 1a/02/1). Both machines are below today's floors; whatever is not
/// about floors is tested on them nevertheless.
pub fn of_their_time() -> AttestationRules {
    let mut rules = strict();
    let siena = Cpuid { family: 0x19, model: 0xA0, stepping: 2 };
    let turin = Cpuid { family: 0x1A, model: 0x02, stepping: 1 };
    let tcb = TcbVersion { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x51 };
    rules.relax.floors = vec![
        Floor { mitigations: Some(0b011), ..Floor::of(siena) },
        Floor { tcb: Some(tcb), ..Floor::of(turin) },
    ];
    rules
}

pub fn appraise(evidence: &Evidence, rules: AttestationRules, time: Time) -> Appraisal {
    Verifier::new(TrustAnchor::amd(), rules, time).appraise(evidence, None, None)
}

/// The checks that failed, in their order.
pub fn failed(appraisal: &Appraisal) -> Vec<Check> {
    appraisal.findings.iter().filter(|finding| !finding.ok).map(|finding| finding.check).collect()
}

pub fn found(appraisal: &Appraisal, check: Check) -> &str {
    &appraisal.findings.iter().find(|finding| finding.check == check).expect("checked").found
}
