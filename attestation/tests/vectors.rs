//! Real reports and certificates, from `tests/vectors/snp` (see its `PROVENANCE.md` for where each is from).

use postern_attestation::{
    AuthenticReport, CertificateChain, CertificateRole, ChainError, EvidenceError, Expected, Measurement,
    Product, ReportData, ReportError, SigningKey, TcbVersion, TrustAnchor, UnverifiedReport, VerifiedChain,
    verify,
};

fn read(name: &str) -> Vec<u8> {
    let path = format!("{}/../tests/vectors/snp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn ark(product: Product) -> Vec<u8> {
    let index =
        [Product::Milan, Product::Genoa, Product::Turin].iter().position(|&other| other == product).unwrap();
    TrustAnchor::amd().roots().nth(index).unwrap().to_vec()
}

fn chain(product: Product, vcek: &str) -> CertificateChain {
    let ask = read(&format!("amd-{}-ask.der", product.name().to_lowercase()));
    CertificateChain { ark: ark(product), ask, vcek: read(vcek) }
}

/// A report with its leaf, and what `PROVENANCE.md` says about it.
struct Sample {
    report: &'static str,
    vcek: &'static str,
    product: Product,
    version: u32,
    policy: u64,
    tcb: [u8; 4],
    platform_info: u64,
}

const fn sample(
    report: &'static str,
    vcek: &'static str,
    product: Product,
    version: u32,
    policy: u64,
    tcb: [u8; 4],
    platform_info: u64,
) -> Sample {
    Sample { report, vcek, product, version, policy, tcb, platform_info }
}

#[rustfmt::skip]
const SAMPLES: [Sample; 10] = [
    sample("gosev-attestation.bin", "gosev-vcek.der", Product::Milan, 2, 0xb0000, [2, 0, 5, 68], 0x1),
    sample("virtee-report-milan.bin", "virtee-vcek-milan.der", Product::Milan, 2, 0x30000, [3, 0, 8, 115], 0x1),
    sample("enarx-milan-idblock-report.bin", "enarx-milan-idblock-vcek.der", Product::Milan, 2, 0x30133, [2, 0, 6, 93], 0x1),
    sample("dstack-milan-report.bin", "dstack-milan-vcek.der", Product::Milan, 3, 0x30000, [4, 0, 23, 213], 0x25),
    sample("msft-tav-milan-report.bin", "msft-tav-milan-vcek.der", Product::Milan, 3, 0x3001f, [4, 0, 24, 219], 0x25),
    sample("oak-milan-rk-release-report.bin", "oak-milan-rk-release-vcek.der", Product::Milan, 3, 0x30000, [4, 0, 24, 219], 0x25),
    sample("msft-tav-genoa-report.bin", "msft-tav-genoa-vcek.der", Product::Genoa, 3, 0x3001f, [10, 0, 23, 84], 0x27),
    sample("veraison-genoa-report.bin", "veraison-genoa-vcek.der", Product::Genoa, 3, 0x30000, [10, 0, 23, 84], 0x25),
    sample("confai-siena-report.bin", "confai-siena-vcek.der", Product::Genoa, 5, 0x30000, [10, 0, 27, 27], 0x25),
    sample("msft-tav-turin-report.bin", "msft-tav-turin-vcek.der", Product::Turin, 5, 0x3001f, [1, 1, 4, 0x51], 0x65),
];

impl Sample {
    fn chain(&self) -> CertificateChain {
        chain(self.product, self.vcek)
    }

    fn authenticate(&self) -> Result<AuthenticReport, EvidenceError> {
        authenticate(&read(self.report), &self.chain(), None)
    }
}

fn authenticate(
    report: &[u8],
    chain: &CertificateChain,
    at: Option<u64>,
) -> Result<AuthenticReport, EvidenceError> {
    let report = UnverifiedReport::parse(report)?;
    VerifiedChain::verify(chain, &TrustAnchor::amd(), at)?.authenticate(report)
}

/// What a verifier would expect that wants exactly this report.
fn matching<'a>(report: &UnverifiedReport, measurements: &'a [Measurement]) -> Expected<'a> {
    Expected {
        report_data: ReportData(report.report_data),
        measurements,
        host_data: report.host_data,
        chip_id: report.chip_id,
    }
}

fn siena() -> (Vec<u8>, CertificateChain, UnverifiedReport) {
    let bytes = read("confai-siena-report.bin");
    let report = UnverifiedReport::parse(&bytes).unwrap();
    (bytes, chain(Product::Genoa, "confai-siena-vcek.der"), report)
}

#[test]
fn every_real_report_is_authentic_and_reads_as_documented() {
    for sample in SAMPLES {
        let report = sample.authenticate().unwrap_or_else(|error| panic!("{}: {error}", sample.report));
        let fields = report.fields();
        let [bootloader, tee, snp, microcode] = sample.tcb;
        let fmc = (sample.product == Product::Turin).then_some(1);
        assert_eq!(report.product(), sample.product, "{}", sample.report);
        assert_eq!(fields.version, sample.version, "{}", sample.report);
        assert_eq!(fields.policy.0, sample.policy, "{}", sample.report);
        assert_eq!(
            report.reported_tcb(),
            TcbVersion { fmc, bootloader, tee, snp, microcode },
            "{}",
            sample.report
        );
        assert_eq!(fields.platform_info, sample.platform_info, "{}", sample.report);
        assert_eq!(fields.vmpl, 0, "{}", sample.report);
        assert_eq!(fields.report_id_ma, [0xFF; 32], "{}", sample.report);
        assert_eq!(fields.key_flags.signing_key(), SigningKey::Vcek, "{}", sample.report);
        assert_eq!(fields.cpuid.is_some(), sample.version >= 3, "{}", sample.report);
        assert_eq!(fields.launch_mitigations.is_some(), sample.version == 5, "{}", sample.report);
    }
}

#[test]
fn details_of_single_samples_are_read_from_the_right_places() {
    let by_name =
        |name| SAMPLES.iter().find(|sample| sample.report.starts_with(name)).unwrap().authenticate().unwrap();

    let siena = by_name("confai-siena");
    let cpuid = siena.fields().cpuid.unwrap();
    assert_eq!((cpuid.family, cpuid.model, cpuid.stepping), (0x19, 0xA0, 2));
    assert_eq!(siena.fields().launch_mitigations, Some(0x0B));
    let firmware = siena.fields().current_firmware;
    assert_eq!((firmware.major, firmware.minor, firmware.build), (1, 55, 49));

    let dstack = by_name("dstack-milan");
    assert_eq!((dstack.reported_tcb().snp, dstack.current_tcb().snp), (23, 24));
    assert_eq!((dstack.committed_tcb().snp, dstack.launch_tcb().snp), (24, 24));

    let enarx = by_name("enarx");
    assert!(enarx.fields().key_flags.author_key());
    assert_eq!(hex::encode(&enarx.fields().id_key_digest[..4]), "d71a4d1d");
    assert_eq!(hex::encode(&enarx.fields().author_key_digest[..4]), "7dc22240");
    assert_eq!(enarx.fields().guest_svn, 1);

    let turin = by_name("msft-tav-turin");
    assert_eq!(turin.fields().chip_id[8..], [0; 56]);
}

#[test]
fn every_report_with_a_known_processor_is_verified_unless_its_policy_forbids() {
    for sample in SAMPLES {
        let bytes = read(sample.report);
        let report = UnverifiedReport::parse(&bytes).unwrap();
        let measurements = [report.measurement];
        let result =
            verify(&bytes, &sample.chain(), &TrustAnchor::amd(), &matching(&report, &measurements), None);
        if sample.version == 2 {
            assert_eq!(result, Err(EvidenceError::NoCpuid { version: 2 }), "{}", sample.report);
            continue;
        }
        let verified = result.unwrap_or_else(|error| panic!("{}: {error}", sample.report));
        assert_eq!(verified.measurement(), report.measurement);
        assert_eq!(verified.chip_id(), &report.chip_id);
        assert_eq!(verified.report_id(), &report.report_id);
        assert_eq!(verified.host_data(), &report.host_data);
        assert_eq!(verified.product(), sample.product);
        assert_eq!(Some(verified.cpuid()), report.cpuid);
    }
}

#[test]
fn a_debug_guest_is_seen_in_a_real_report() {
    let report = SAMPLES[0].authenticate().unwrap();
    assert!(report.fields().policy.debug_allowed());
}

#[test]
fn no_bit_of_a_report_can_be_flipped() {
    // Every byte is tried; the bit in it varies. The chain is verified once: it is not what is tested.
    for name in ["confai-siena", "msft-tav-turin"] {
        let sample = SAMPLES.iter().find(|sample| sample.report.starts_with(name)).unwrap();
        let chain = VerifiedChain::verify(&sample.chain(), &TrustAnchor::amd(), None).unwrap();
        let original = read(sample.report);
        for index in 0..original.len() {
            let mut bytes = original.clone();
            bytes[index] ^= 1 << ((index * 5 + index / 8) % 8);
            let accepted =
                UnverifiedReport::parse(&bytes).is_ok_and(|report| chain.authenticate(report).is_ok());
            assert!(!accepted, "{name}: byte {index:#x}");
        }
    }
}

#[test]
fn no_bit_of_a_leaf_can_be_flipped() {
    let (report, good, _) = siena();
    for index in (0..good.vcek.len()).step_by(7) {
        let mut chain = good.clone();
        chain.vcek[index] ^= 1 << (index % 8);
        assert!(authenticate(&report, &chain, None).is_err(), "byte {index:#x}");
    }
}

#[test]
fn nothing_shorter_or_longer_than_a_report_is_one() {
    let (bytes, ..) = siena();
    for len in [0, 1, 0x187, 0x29F, 0x2A0, 1183] {
        let expected = Err(ReportError::Length { expected: 1184, found: len });
        assert_eq!(UnverifiedReport::parse(&bytes[..len]), expected);
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(UnverifiedReport::parse(&longer), Err(ReportError::Length { expected: 1184, found: 1185 }));
}

#[test]
fn what_we_do_not_know_in_a_report_is_refused() {
    let (bytes, ..) = siena();
    for version in [0_u32, 1, 4, 6, u32::MAX] {
        let mut other = bytes.clone();
        other[..4].copy_from_slice(&version.to_le_bytes());
        assert_eq!(UnverifiedReport::parse(&other), Err(ReportError::Version { found: version }));
    }
    // The last two are behind the signature: nobody else notices them.
    for offset in [0x04C, 0x18B, 0x19F, 0x1EB, 0x1EF, 0x208, 0x29F, 0x2D0, 0x318, 0x330, 0x49F] {
        let mut other = bytes.clone();
        other[offset] = 1;
        assert_eq!(UnverifiedReport::parse(&other), Err(ReportError::Reserved { offset }));
    }
    for (at, field) in [(0x00B, 0x008), (0x048, 0x048), (0x04B, 0x048)] {
        let mut other = bytes.clone();
        other[at] |= 0x80;
        assert_eq!(UnverifiedReport::parse(&other), Err(ReportError::Reserved { offset: field }));
    }
    let mut other = bytes.clone();
    other[0x34] = 2;
    let expected = Err(ReportError::SignatureAlgorithm { expected: 1, found: 2 });
    assert_eq!(UnverifiedReport::parse(&other), expected);
    // Mitigation vectors are reserved before version 5, and so is the CPUID before version 3.
    let mut other = bytes.clone();
    other[0] = 3;
    assert_eq!(UnverifiedReport::parse(&other), Err(ReportError::Reserved { offset: 0x1F8 }));
    other[0] = 2;
    assert_eq!(UnverifiedReport::parse(&other), Err(ReportError::Reserved { offset: 0x188 }));
}

#[test]
fn certificates_of_another_product_line_are_refused() {
    let (report, good, _) = siena();
    let milan = chain(Product::Milan, "msft-tav-milan-vcek.der");

    let mixed = CertificateChain { ask: milan.ask.clone(), ..good.clone() };
    let issuer = |role| Err(EvidenceError::Chain(ChainError::Issuer { role }));
    assert_eq!(authenticate(&report, &mixed, None), issuer(CertificateRole::Ask));
    let mixed = CertificateChain { vcek: milan.vcek.clone(), ..good.clone() };
    assert_eq!(authenticate(&report, &mixed, None), issuer(CertificateRole::Vcek));
    assert_eq!(authenticate(&report, &milan, None), Err(EvidenceError::Signature));

    // The same line, another chip: only the signature tells.
    let neighbour = chain(Product::Genoa, "veraison-genoa-vcek.der");
    assert_eq!(authenticate(&report, &neighbour, None), Err(EvidenceError::Signature));
}

#[test]
fn a_providers_intermediate_does_not_pass_as_a_chips() {
    for (product, asvk) in [(Product::Milan, "milan"), (Product::Genoa, "genoa"), (Product::Turin, "turin")] {
        let vcek = SAMPLES.iter().find(|sample| sample.product == product).unwrap().vcek;
        let chain = CertificateChain { ask: read(&format!("amd-{asvk}-asvk.der")), ..chain(product, vcek) };
        let error = VerifiedChain::verify(&chain, &TrustAnchor::amd(), None).unwrap_err();
        // The leaf names the ASK as its issuer, so names stop it before anything else does.
        assert_eq!(error, ChainError::Issuer { role: CertificateRole::Vcek });
    }
}

#[test]
fn an_older_intermediate_of_the_same_name_signed_other_leaves() {
    let chain = CertificateChain { ask: read("amd-genoa-ask-revoked.der"), ..siena().1 };
    let error = VerifiedChain::verify(&chain, &TrustAnchor::amd(), None).unwrap_err();
    assert_eq!(error, ChainError::Signature { role: CertificateRole::Vcek });
}

#[test]
fn a_turin_leaf_without_a_report_verifies() {
    let chain =
        VerifiedChain::verify(&chain(Product::Turin, "virtee-vcek-turin.der"), &TrustAnchor::amd(), None);
    let chain = chain.unwrap();
    assert_eq!(chain.product(), Product::Turin);
    assert_eq!(chain.tcb(), TcbVersion { fmc: Some(0), bootloader: 0, tee: 0, snp: 0, microcode: 9 });
    assert_eq!(hex::encode(&chain.chip_id()[..8]), "1e550a8ee5cf9f4d");
    assert_eq!(chain.chip_id()[8..], [0; 56]);
}

#[test]
fn only_the_very_bytes_of_a_root_are_that_root() {
    let (_, good, _) = siena();
    for (ark, name) in [
        (Vec::new(), "nothing"),
        (good.ask.clone(), "the intermediate"),
        ([good.ark.as_slice(), &[0]].concat(), "a longer root"),
        (good.ark[..good.ark.len() - 1].to_vec(), "a shorter root"),
    ] {
        let chain = CertificateChain { ark, ..good.clone() };
        let error = VerifiedChain::verify(&chain, &TrustAnchor::amd(), None).unwrap_err();
        assert!(matches!(error, ChainError::UnknownRoot { .. }), "{name}: {error}");
    }
    let other = TrustAnchor::custom("other", vec![ark(Product::Milan)]);
    let error = VerifiedChain::verify(&good, &other, None).unwrap_err();
    assert!(matches!(error, ChainError::UnknownRoot { ref anchor, .. } if anchor == "other"));
}

#[test]
fn amds_roots_are_the_published_ones() {
    use sha2::Digest;

    let anchor = TrustAnchor::amd();
    let digests: Vec<_> = anchor.roots().map(|root| hex::encode(sha2::Sha256::digest(root))).collect();
    assert_eq!(
        digests,
        [
            "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
            "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
            "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
        ]
    );
    assert!(anchor.is_amd());
    let renamed = TrustAnchor::custom("AMD", anchor.roots().map(<[u8]>::to_vec).collect());
    assert!(!renamed.is_amd());
    assert_eq!(renamed.fingerprint(), anchor.fingerprint());
    assert_ne!(TrustAnchor::custom("none", Vec::new()).fingerprint(), anchor.fingerprint());
}

#[test]
fn validity_counts_only_when_the_caller_knows_a_time() {
    // The leaf is valid from 2026-02-17T23:01:36Z to 2033-02-17T23:01:36Z, both inclusive.
    const NOT_BEFORE: u64 = 1_771_369_296;
    const NOT_AFTER: u64 = 1_992_294_096;
    let (report, chain, _) = siena();
    for at in [None, Some(NOT_BEFORE), Some(NOT_AFTER)] {
        authenticate(&report, &chain, at).unwrap();
    }
    for at in [0, NOT_BEFORE - 1, NOT_AFTER + 1, u64::MAX] {
        let error = authenticate(&report, &chain, Some(at)).unwrap_err();
        assert!(matches!(error, EvidenceError::Chain(ChainError::Validity { .. })), "{at}: {error}");
    }
}

#[test]
fn each_expectation_is_held() {
    let (bytes, chain, report) = siena();
    let right = [Measurement([0; 48]), report.measurement];
    let expected = matching(&report, &right);
    let judge = |expected: &Expected<'_>| verify(&bytes, &chain, &TrustAnchor::amd(), expected, None);
    judge(&expected).unwrap();

    for index in [0, 31, 32, 63] {
        let mut report_data = expected.report_data;
        report_data.0[index] ^= 1;
        let error = judge(&Expected { report_data, ..expected }).unwrap_err();
        assert!(matches!(error, EvidenceError::ReportData(_)), "{error}");
    }
    let mut host_data = expected.host_data;
    host_data[31] ^= 1;
    let error = judge(&Expected { host_data, ..expected }).unwrap_err();
    assert!(matches!(error, EvidenceError::HostData(_)), "{error}");
    let mut chip_id = expected.chip_id;
    chip_id[0] ^= 1;
    let error = judge(&Expected { chip_id, ..expected }).unwrap_err();
    assert!(matches!(error, EvidenceError::ChipId(_)), "{error}");
    let mut measurement = report.measurement;
    measurement.0[47] ^= 1;
    for measurements in [&[][..], &[measurement]] {
        let error = judge(&Expected { measurements, ..expected }).unwrap_err();
        assert_eq!(
            error,
            EvidenceError::Measurement { expected: measurements.into(), found: report.measurement },
            "{error}"
        );
    }
}

#[test]
fn hostile_certificates_do_not_panic() {
    let (report, good, _) = siena();
    let attempts = [
        vec![0x30; 64],
        vec![0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
        vec![0xFF; 4096],
        vec![0; 4097],
        good.vcek[..good.vcek.len() / 2].to_vec(),
        [good.vcek.as_slice(), &[0x05, 0x00]].concat(),
    ];
    for bytes in attempts {
        for chain in [
            CertificateChain { vcek: bytes.clone(), ..good.clone() },
            CertificateChain { ask: bytes.clone(), ..good.clone() },
        ] {
            let error = authenticate(&report, &chain, None).unwrap_err();
            assert!(
                matches!(
                    error,
                    EvidenceError::Chain(ChainError::Encoding { .. } | ChainError::Length { .. })
                ),
                "{error}"
            );
        }
    }
}
