//! Real reports and certificates, from `tests/vectors/snp` (see its `PROVENANCE.md` for where each is from).

mod common;

use common::{NOW, SAMPLES, appraise, ark, certificates, failed, found, named, of_their_time, read};
use postern_attestation::{Launch, ReportData, SigningKey, Time, TrustAnchor, UnverifiedReport, Verifier};
use postern_shared::{
    check::Check,
    ids::{ChipId, Measurement},
    message::{Certificates, Evidence},
    policy::{AllowedMeasurement, KeyDigest, Revocation},
    snp::{Cpuid, Product, RawTcb, TcbVersion},
};

/// In the middle of the only years of which AMD's lists have been kept.
const THEN: Time = Time::At(1_672_531_200); // 2023-01-01

#[test]
fn every_real_report_gets_the_verdict_of_its_provenance() {
    for sample in &SAMPLES {
        let appraisal = sample.appraise();
        assert_eq!(failed(&appraisal), sample.fails, "{}: {:#?}", sample.name, appraisal.findings);
        assert_eq!(appraisal.is_clean(), sample.fails.is_empty());
        assert_eq!(appraisal.product, Some(sample.product), "{}", sample.name);
        assert!(!appraisal.simulated);
        // What was accepted by the floors of its time is refused for nothing else.
        let then = appraise(&sample.evidence(), of_their_time(), Time::At(NOW));
        let accepted = ["confai-siena", "msft-tav-turin"].contains(&sample.name);
        assert_eq!(then.is_clean(), accepted, "{}: {:#?}", sample.name, then.findings);
    }
}

#[test]
fn every_real_report_reads_as_documented() {
    for sample in &SAMPLES {
        let (name, fields) = (sample.name, sample.fields());
        let [bootloader, tee, snp, microcode] = sample.tcb;
        let fmc = (sample.product == Product::Turin).then_some(1);
        let tcb = TcbVersion { fmc, bootloader, tee, snp, microcode };
        assert_eq!(fields.reported_tcb.decode(sample.product), Some(tcb), "{name}");
        assert_eq!(fields.version, sample.version, "{name}");
        assert_eq!(fields.policy.0, sample.policy, "{name}");
        assert_eq!(fields.platform_info, sample.platform_info, "{name}");
        assert_eq!((fields.vmpl, fields.signature_algorithm, fields.reserved), (0, 1, None), "{name}");
        assert_eq!(fields.report_id_ma, [0xFF; 32], "{name}");
        assert_eq!(fields.key_flags.signing_key(), SigningKey::Vcek, "{name}");
        assert_eq!(fields.cpuid.is_some(), sample.version >= 3, "{name}");
        assert_eq!(fields.launch_mitigations.is_some(), sample.version == 5, "{name}");
    }
    let siena = named("confai-siena").fields();
    assert_eq!(siena.cpuid, Some(Cpuid { family: 0x19, model: 0xA0, stepping: 2 }));
    assert_eq!(siena.launch_mitigations, Some(0x0B));
    assert_eq!(siena.current_firmware.to_string(), "1.55.49");
    let dstack = named("dstack-milan").fields();
    let snp = |tcb: RawTcb| tcb.decode(Product::Milan).unwrap().snp;
    assert_eq!((snp(dstack.reported_tcb), snp(dstack.current_tcb)), (23, 24));
    assert_eq!((snp(dstack.committed_tcb), snp(dstack.launch_tcb)), (24, 24));
    let enarx = named("enarx-milan-idblock").fields();
    assert!(enarx.key_flags.author_key());
    assert_eq!(hex::encode(&enarx.id_key_digest[..4]), "d71a4d1d");
    assert_eq!(hex::encode(&enarx.author_key_digest[..4]), "7dc22240");
    assert_eq!(enarx.guest_svn, 1);
    assert_eq!(named("msft-tav-turin").fields().chip_id[8..], [0; 56]);
}

#[test]
fn a_manifest_is_held_against_every_part() {
    let sample = named("confai-siena");
    let (evidence, fields) = (sample.evidence(), sample.fields());
    let mut rules = of_their_time();
    rules.measurements = vec![
        AllowedMeasurement { until_epoch: Some(6), ..AllowedMeasurement::new("old", Measurement([0; 48])) },
        AllowedMeasurement {
            from_epoch: 5,
            until_epoch: Some(7),
            ..AllowedMeasurement::new("new", fields.measurement)
        },
    ];
    let mut verifier = Verifier::new(TrustAnchor::amd(), rules.clone(), Time::NotBefore(0));
    let chips = [ChipId([1; 64]), ChipId(fields.chip_id)];
    let launch = Launch { epoch: 5, host_data: fields.host_data, chip_ids: &chips };
    let report_data = ReportData(fields.report_data);
    let verified = verifier.verify(&evidence, &launch, &report_data).unwrap();
    assert_eq!(verified.measurement(), fields.measurement);
    assert_eq!((verified.chip_id(), verified.report_id()), (&fields.chip_id, &fields.report_id));

    let mut refused = |launch: &Launch<'_>, report_data: &ReportData| -> Vec<Check> {
        let refusal = verifier.verify(&evidence, launch, report_data).unwrap_err();
        refusal.failed().iter().map(|finding| finding.check).collect()
    };
    for index in [0, 31, 32, 63] {
        let mut other = report_data;
        other.0[index] ^= 1;
        assert_eq!(refused(&launch, &other), [Check::ReportData]);
    }
    let mut host_data = launch.host_data;
    host_data[31] ^= 1;
    assert_eq!(refused(&Launch { host_data, ..launch }, &report_data), [Check::HostData]);
    for chip_ids in [&chips[..1], &[]] {
        assert_eq!(refused(&Launch { chip_ids, ..launch }, &report_data), [Check::ChipId]);
    }
    // Listed, but not for this epoch.
    for epoch in [4, 8] {
        assert_eq!(refused(&Launch { epoch, ..launch }, &report_data), [Check::Measurement]);
    }
    let both = Launch { epoch: 4, host_data, ..launch };
    assert_eq!(
        refused(&both, &report_data),
        [Check::Measurement, Check::HostData],
        "all, not just the first"
    );
}

#[test]
fn an_id_block_must_be_by_listed_keys() {
    let sample = named("enarx-milan-idblock");
    let fields = sample.fields();
    let (id, author) = (KeyDigest(fields.id_key_digest), KeyDigest(fields.author_key_digest));
    let other = KeyDigest([9; 48]);
    let judge = |id_keys: &[KeyDigest], author_keys: &[KeyDigest]| {
        let mut rules = of_their_time();
        (rules.id_keys, rules.author_keys) = (id_keys.to_vec(), author_keys.to_vec());
        let launch = Launch { epoch: 0, host_data: fields.host_data, chip_ids: &[ChipId(fields.chip_id)] };
        let mut verifier = Verifier::new(TrustAnchor::amd(), rules, Time::At(NOW));
        let appraisal = verifier.appraise(&sample.evidence(), Some(&launch), None);
        !failed(&appraisal).contains(&Check::IdBlock)
    };
    assert!(judge(&[other, id], &[author, other]));
    assert!(!judge(&[], &[]), "an ID block that nobody has asked for");
    assert!(!judge(&[id], &[]), "an author that nobody knows");
    assert!(!judge(&[other], &[author]));
    assert!(!judge(&[id], &[other]));
    // Without an ID block there is no key to list.
    let plain = named("confai-siena");
    let launch = Launch { epoch: 0, host_data: plain.fields().host_data, chip_ids: &[] };
    for (keys, expected) in [(vec![], true), (vec![id], false)] {
        let mut rules = of_their_time();
        rules.id_keys = keys;
        let mut verifier = Verifier::new(TrustAnchor::amd(), rules, Time::At(NOW));
        let appraisal = verifier.appraise(&plain.evidence(), Some(&launch), None);
        assert_eq!(!failed(&appraisal).contains(&Check::IdBlock), expected);
    }
}

#[test]
fn certificates_of_another_product_line_are_refused() {
    let evidence = named("confai-siena").evidence();
    let milan = named("msft-tav-milan").certificates();
    let with = |certificates: Certificates| {
        failed(&appraise(&Evidence { certificates, ..evidence.clone() }, of_their_time(), Time::At(NOW)))
    };
    let good = evidence.certificates.clone();
    assert_eq!(with(Certificates { ask: milan.ask.clone(), ..good.clone() }), [Check::Chain]);
    let all = with(milan.clone());
    for check in [Check::Product, Check::ReportSignature, Check::ChipId, Check::LeafTcb] {
        assert!(all.contains(&check), "{check}");
    }
    assert!(!all.contains(&Check::Chain), "Milan's chain is good in itself");
    assert!(with(Certificates { leaf: milan.leaf, ..good }).contains(&Check::Chain));

    // The same line, another chip.
    let neighbour = with(named("veraison-genoa").certificates());
    assert_eq!(neighbour, [Check::ReportSignature, Check::ChipId, Check::LeafTcb]);
}

#[test]
fn a_providers_intermediate_does_not_pass_as_a_chips() {
    for name in ["msft-tav-milan", "confai-siena", "msft-tav-turin"] {
        let sample = named(name);
        let asvk = format!("amd-{}-asvk.der", sample.product.name().to_lowercase());
        let certificates = Certificates { ask: read(&asvk), ..sample.certificates() };
        let evidence = Evidence { certificates, ..sample.evidence() };
        let appraisal = appraise(&evidence, of_their_time(), Time::At(NOW));
        assert!(failed(&appraisal).contains(&Check::Chain));
        // The leaf names the ASK as its issuer, so names stop it before anything else does.
        assert!(found(&appraisal, Check::Chain).contains("issuer"), "{}", found(&appraisal, Check::Chain));
    }
}

#[test]
fn an_older_intermediate_of_the_same_name_signed_other_leaves() {
    let sample = named("confai-siena");
    let certificates = Certificates { ask: read("amd-genoa-ask-revoked.der"), ..sample.certificates() };
    let appraisal = appraise(&Evidence { certificates, ..sample.evidence() }, of_their_time(), Time::At(NOW));
    // It is the one that AMD revoked, too.
    assert_eq!(failed(&appraisal), [Check::Chain, Check::Revocation]);
    assert_eq!(found(&appraisal, Check::Chain), "leaf: its signature is not valid under the key above it");
}

type Said = (bool, String);

/// The checks of the list and what they say, with AMD's real lists: of the list itself, and of what is revoked.
fn lists(certificates: Certificates, rule: Revocation, time: Time) -> (Said, Said) {
    let mut rules = of_their_time();
    rules.revocation = rule;
    let report = named("confai-siena").report();
    let appraisal = appraise(&Evidence { report, certificates }, rules, time);
    let said = |check: Check| {
        let finding = appraisal.findings.iter().find(|finding| finding.check == check).expect("always made");
        (finding.ok, finding.found.clone())
    };
    (said(Check::Crl), said(Check::Revocation))
}

#[test]
fn the_intermediate_that_amd_revoked_is_refused() {
    let crl = read("amd-genoa-crl-2022.der");
    let now = Certificates { crl: Some(crl.clone()), ..named("confai-siena").certificates() };
    let revoked = Certificates { ask: read("amd-genoa-ask-revoked.der"), ..now.clone() };
    for rule in [Revocation::WhenSupplied, Revocation::Required] {
        let (list, named) = lists(revoked.clone(), rule, THEN);
        assert!(list.0, "the list itself is good: {}", list.1);
        assert_eq!(named, (false, "the ASK is revoked".into()));
        let (list, named) = lists(now.clone(), rule, THEN);
        assert!(list.0, "{}", list.1);
        assert_eq!(named, (true, "none".into()));
    }
    // An enclave without a clock knows it as well, and knows a list that was replaced before its rules were written.
    assert!(!lists(revoked.clone(), Revocation::WhenSupplied, Time::NotBefore(0)).1.0);
    let (list, named) = lists(now.clone(), Revocation::Required, Time::NotBefore(0));
    assert!(list.0 && named.0);
    for time in [Time::NotBefore(NOW), Time::At(NOW), Time::At(0)] {
        let (list, named) = lists(now.clone(), Revocation::WhenSupplied, time);
        assert!(!list.0 && list.1.starts_with("in force from 2022-10-31T"), "{}", list.1);
        assert!(named.0, "a list that is not in force names nobody");
    }
}

#[test]
fn what_is_known_to_be_revoked_needs_no_list() {
    let good = named("confai-siena").certificates();
    let revoked = Certificates { ask: read("amd-genoa-ask-revoked.der"), ..good.clone() };
    let known = (false, "the ASK is known to be revoked".to_owned());
    // No list, one from before the revocation (Milan's stands for it: it is not Genoa's), or one that is out of date.
    let lists_of_hosts = [None, Some(read("amd-milan-crl-2022.der")), Some(read("amd-genoa-crl-2022.der"))];
    for crl in lists_of_hosts {
        for time in [Time::At(NOW), Time::NotBefore(NOW)] {
            let with =
                |certificates: &Certificates| Certificates { crl: crl.clone(), ..certificates.clone() };
            assert_eq!(lists(with(&revoked), Revocation::WhenSupplied, time).1, known);
            assert!(lists(with(&good), Revocation::WhenSupplied, time).1.0, "today's has another number");
        }
    }
    // The number is Genoa's root's: under another root it is another certificate's.
    for line in ["milan", "turin"] {
        let product = if line == "milan" { Product::Milan } else { Product::Turin };
        let other = Certificates { ark: ark(product), ..revoked.clone() };
        assert!(lists(other, Revocation::WhenSupplied, Time::At(NOW)).1.0, "{line}");
    }
}

#[test]
fn a_list_counts_only_as_its_issuer_made_it() {
    let good =
        Certificates { crl: Some(read("amd-genoa-crl-2022.der")), ..named("confai-siena").certificates() };
    let refused = |crl: Vec<u8>| {
        let ((ok, found), _) = lists(
            Certificates { crl: Some(crl), ..good.clone() },
            Revocation::WhenSupplied,
            Time::NotBefore(0),
        );
        assert!(!ok);
        found
    };
    let list = good.crl.clone().unwrap();
    assert_eq!(refused(read("amd-milan-crl-2022.der")), "its issuer is not the ARK");
    for index in 0..list.len() {
        let mut crl = list.clone();
        crl[index] ^= 1 << (index % 8);
        refused(crl);
    }
    refused(list[..list.len() - 1].to_vec());
    refused([list.as_slice(), &[0]].concat());
    assert_eq!(refused(vec![0; (64 << 10) + 1]), "expected at most 65536 bytes, found 65537");
    let none = Certificates { crl: None, ..good };
    assert!(lists(none.clone(), Revocation::WhenSupplied, THEN).0.0);
    assert_eq!(lists(none, Revocation::Required, THEN).0, (false, "no list".into()));
}

#[test]
fn only_the_very_bytes_of_a_root_are_that_root() {
    let evidence = named("confai-siena").evidence();
    let good = &evidence.certificates;
    for ark in [
        Vec::new(),
        good.ask.clone(),
        ark(Product::Milan),
        [good.ark.as_slice(), &[0]].concat(),
        good.ark[..good.ark.len() - 1].to_vec(),
    ] {
        let certificates = Certificates { ark, ..good.clone() };
        let appraisal =
            appraise(&Evidence { certificates, ..evidence.clone() }, of_their_time(), Time::At(NOW));
        assert!(failed(&appraisal).contains(&Check::Chain));
    }
    let other = TrustAnchor::custom("other", vec![ark(Product::Milan)]);
    let appraisal = Verifier::new(other, of_their_time(), Time::At(NOW)).appraise(&evidence, None, None);
    assert_eq!(failed(&appraisal), [Check::Chain]);
    assert!(found(&appraisal, Check::Chain).contains("no root of other"));
    assert!(appraisal.simulated, "whatever is not judged by AMD's roots is not protected");
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
fn validity_is_judged_by_what_is_known_of_the_time() {
    // The leaf is valid from 2026-02-17T23:01:36Z to 2033-02-17T23:01:36Z, both inclusive.
    const NOT_BEFORE: u64 = 1_771_369_296;
    const NOT_AFTER: u64 = 1_992_294_096;
    let evidence = named("confai-siena").evidence();
    let valid = |time| !failed(&appraise(&evidence, of_their_time(), time)).contains(&Check::Validity);
    for at in [NOT_BEFORE, NOW, NOT_AFTER] {
        assert!(valid(Time::At(at)), "{at}");
    }
    for at in [0, NOT_BEFORE - 1, NOT_AFTER + 1, u64::MAX] {
        assert!(!valid(Time::At(at)), "{at}");
    }
    // Who knows only that it is not earlier can prove that one has expired, and nothing else.
    for bound in [0, NOT_BEFORE - 1, NOT_AFTER] {
        assert!(valid(Time::NotBefore(bound)), "{bound}");
    }
    assert!(!valid(Time::NotBefore(NOT_AFTER + 1)));
}

#[test]
fn a_turin_leaf_without_its_report_is_read_in_turins_layout() {
    let certificates = certificates(Product::Turin, "virtee-vcek-turin.der");
    let report = named("msft-tav-turin").report();
    let appraisal = appraise(&Evidence { report, certificates }, of_their_time(), Time::At(NOW));
    assert_eq!(failed(&appraisal), [Check::ReportSignature, Check::ChipId, Check::LeafTcb]);
    let leaf = |check| &appraisal.findings.iter().find(|finding| finding.check == check).unwrap().expected;
    assert_eq!(leaf(Check::LeafTcb), "0/0/0/0/9, as the leaf");
    assert!(leaf(Check::ChipId).starts_with(&format!("1e550a8ee5cf9f4d{}", "00".repeat(56))));
}

#[test]
fn nothing_shorter_or_longer_than_a_report_and_no_unknown_version_is_one() {
    let bytes = named("confai-siena").report();
    for len in [0, 1, 0x187, 0x29F, 0x2A0, 1183] {
        let error = UnverifiedReport::parse(&bytes[..len]).unwrap_err();
        assert_eq!(error.to_string(), format!("expected a report of 1184 bytes, found {len}"));
    }
    assert!(UnverifiedReport::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
    for version in [0_u32, 1, 6, u32::MAX] {
        let mut other = bytes.clone();
        other[..4].copy_from_slice(&version.to_le_bytes());
        let read = UnverifiedReport::parse(&other);
        assert_eq!(read.is_ok(), version >= 2, "{version}");
        if let Err(error) = read {
            assert_eq!(error.to_string(), format!("expected report version 2 or later, found {version}"));
        }
        let certificates = named("confai-siena").certificates();
        let appraisal = appraise(&Evidence { report: other, certificates }, of_their_time(), Time::At(NOW));
        assert_eq!(failed(&appraisal), [Check::ReportFormat]);
        assert!(
            found(&appraisal, Check::ReportFormat).contains(&format!("version {version}")) || version < 2
        );
        // Nothing is said of what may mean something else.
        assert!(appraisal.findings.iter().all(|finding| finding.check != Check::ReportSignature));
    }
}

#[test]
fn a_later_report_says_what_every_version_does() {
    let known = named("confai-siena").fields();
    let mut bytes = named("confai-siena").report();
    bytes[0] = 6;
    // A field that version 6 may have added.
    bytes[0x208..0x210].fill(0xAA);
    let later = UnverifiedReport::parse(&bytes).unwrap();
    assert!(known.is_known() && !later.is_known());
    assert_eq!((later.measurement, later.host_data), (known.measurement, known.host_data));
    assert_eq!((later.policy, later.committed_tcb), (known.policy, known.committed_tcb));
    assert_eq!((later.chip_id, later.reported_tcb), (known.chip_id, known.reported_tcb));
    assert_eq!((later.cpuid, later.key_flags), (known.cpuid, known.key_flags));
}

#[test]
fn what_is_reserved_must_be_zero() {
    let bytes = named("confai-siena").report();
    let reserved = |bytes: &[u8]| UnverifiedReport::parse(bytes).unwrap().reserved;
    assert_eq!(reserved(&bytes), None);
    // From 0x2D0 on nothing is signed: nobody else notices those.
    for offset in [0x04C, 0x18B, 0x19F, 0x1EB, 0x1EF, 0x208, 0x29F, 0x2D0, 0x318, 0x330, 0x49F] {
        let mut other = bytes.clone();
        other[offset] = 1;
        assert_eq!(reserved(&other), Some(offset));
        let certificates = named("confai-siena").certificates();
        let appraisal = appraise(&Evidence { report: other, certificates }, of_their_time(), Time::At(NOW));
        assert!(failed(&appraisal).contains(&Check::Reserved), "{offset:#x}");
    }
    for (at, field) in [(0x00B, 0x008), (0x048, 0x048), (0x04B, 0x048)] {
        let mut other = bytes.clone();
        other[at] |= 0x80;
        assert_eq!(reserved(&other), Some(field));
    }
    // Mitigation vectors are reserved before version 5, and so is the CPUID before version 3.
    let mut other = bytes.clone();
    for (version, offset) in [(4, 0x1F8), (3, 0x1F8), (2, 0x188)] {
        other[0] = version;
        assert_eq!(reserved(&other), Some(offset));
    }
    let mut other = bytes;
    other[0x34] = 2;
    assert_eq!(UnverifiedReport::parse(&other).unwrap().signature_algorithm, 2);
}

#[test]
fn hostile_certificates_do_not_panic() {
    let evidence = named("confai-siena").evidence();
    let good = &evidence.certificates;
    let attempts = [
        vec![],
        vec![0x30; 64],
        vec![0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
        vec![0xFF; 4096],
        vec![0; 4097],
        good.leaf[..good.leaf.len() / 2].to_vec(),
        [good.leaf.as_slice(), &[0x05, 0x00]].concat(),
    ];
    for bytes in attempts {
        for certificates in [
            Certificates { leaf: bytes.clone(), ..good.clone() },
            Certificates { ask: bytes.clone(), ..good.clone() },
        ] {
            let appraisal =
                appraise(&Evidence { certificates, ..evidence.clone() }, of_their_time(), Time::At(NOW));
            assert!(failed(&appraisal).contains(&Check::Chain));
        }
    }
}
