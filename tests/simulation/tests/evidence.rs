//! Simulated evidence takes the production path: right evidence passes under the simulation's root only, and
//! each misbehaviour is refused for its own reason.

use postern_attestation::{
    CertificateChain, CertificateRole, ChainError, Cpuid, EvidenceError, Expected, Hex, Measurement, Product,
    RawTcb, ReportData, ReportError, SigningKey, TcbVersion, TrustAnchor, VerifiedReport, verify,
};
use postern_enclave::platform::{Platform, PlatformError};
use postern_simulation::{Machine, ReportFields, SoftwarePsp, Vcek, trust_anchor};

const DATA: ReportData = ReportData([0x5A; 64]);
/// 2026-11-20.
const NOW: Option<u64> = Some(1_795_132_800);

fn machine() -> Machine {
    Machine { chip_seed: [7; 32], measurement: [8; 48], host_data: [9; 32], ..Machine::default() }
}

fn judge(
    psp: &mut SoftwarePsp,
    chain: &CertificateChain,
    anchor: &TrustAnchor,
) -> Result<VerifiedReport, EvidenceError> {
    let report = psp.report(&DATA).unwrap();
    let measurements = [Measurement(psp.machine().measurement)];
    let expected = Expected {
        report_data: DATA,
        measurements: &measurements,
        host_data: psp.machine().host_data,
        chip_id: psp.chip_id(),
    };
    verify(&report, chain, anchor, &expected, NOW)
}

/// What comes of a report with `change` made to it.
fn tampered(change: impl FnMut(&mut ReportFields) + Send + 'static) -> Result<VerifiedReport, EvidenceError> {
    let mut psp = SoftwarePsp::new(machine()).tamper(change);
    let chain = psp.certificate_chain();
    judge(&mut psp, &chain, &trust_anchor())
}

/// What comes of a leaf with `change` made to it.
fn misissued(change: impl FnOnce(&mut Vcek)) -> EvidenceError {
    let mut psp = SoftwarePsp::new(machine());
    let mut vcek = psp.vcek();
    change(&mut vcek);
    let chain = psp.certificate_chain_with(&vcek);
    judge(&mut psp, &chain, &trust_anchor()).unwrap_err()
}

#[test]
fn an_honest_machine_of_each_product_line_is_verified() {
    let milan = Machine { cpuid: Cpuid { family: 0x19, model: 0x01, stepping: 1 }, ..machine() };
    for (machine, product) in [
        (machine(), Product::Genoa),
        (Machine { chip_seed: [7; 32], ..Machine::turin() }, Product::Turin),
        (milan, Product::Milan),
    ] {
        let mut psp = SoftwarePsp::new(machine);
        let chain = psp.certificate_chain();
        let report =
            judge(&mut psp, &chain, &trust_anchor()).unwrap_or_else(|error| panic!("{product}: {error}"));
        assert_eq!(report.product(), product);
        assert_eq!(report.chip_id(), &psp.chip_id());
        assert_eq!(report.reported_tcb(), machine.tcb);
        assert_eq!(report.host_data(), &machine.host_data);
        assert_eq!(report.measurement(), Measurement(machine.measurement));
    }
}

#[test]
fn simulated_evidence_is_nothing_under_amds_roots() {
    let mut psp = SoftwarePsp::new(machine());
    let chain = psp.certificate_chain();
    let error = judge(&mut psp, &chain, &TrustAnchor::amd()).unwrap_err();
    assert!(matches!(error, EvidenceError::Chain(ChainError::UnknownRoot { .. })), "{error}");

    // Nor with AMD's root in front.
    for ark in TrustAnchor::amd().roots() {
        let chain = CertificateChain { ark: ark.to_vec(), ..chain.clone() };
        let error = judge(&mut psp, &chain, &TrustAnchor::amd()).unwrap_err();
        assert_eq!(error, ChainError::Issuer { role: CertificateRole::Ask }.into());
    }
    assert!(!trust_anchor().is_amd());
    assert_eq!(psp.trust_anchor(), &trust_anchor());
}

#[test]
fn an_older_report_version_with_a_cpuid_is_verified() {
    tampered(|fields| fields.version = 3).unwrap();
}

#[test]
fn each_misreport_is_refused_for_its_own_reason() {
    use EvidenceError as E;

    let tcb = machine().tcb;
    let raw = tcb.encode(Product::Genoa).unwrap();
    let lower = TcbVersion { snp: 26, ..tcb }.encode(Product::Genoa).unwrap();
    let (mine, other) = (SoftwarePsp::new(machine()).chip_id(), [3; 64]);
    let unknown = Cpuid { family: 0x1A, model: 0x50, stepping: 0 };

    let refusal = |change: fn(&mut ReportFields)| tampered(change).unwrap_err();
    assert_eq!(refusal(|f| f.version = 4), E::Report(ReportError::Version { found: 4 }));
    assert_eq!(refusal(|f| f.version = 6), E::Report(ReportError::Version { found: 6 }));
    assert_eq!(refusal(|f| f.version = 2), E::NoCpuid { version: 2 });
    assert_eq!(
        refusal(|f| f.signature_algo = 0),
        E::Report(ReportError::SignatureAlgorithm { expected: 1, found: 0 })
    );
    assert_eq!(refusal(|f| f.vmpl = 1), E::Vmpl { expected: 0, found: 1 });
    assert_eq!(refusal(|f| f.vmpl = u32::MAX), E::Vmpl { expected: 0, found: u32::MAX });
    assert_eq!(refusal(|f| f.policy = 0x1_0000), E::PolicyReservedOne { found: 0x1_0000 });
    assert_eq!(refusal(|f| f.policy |= 1 << 19), E::DebugAllowed { found: 0xB_0000 });
    assert_eq!(refusal(|f| f.policy |= 1 << 18), E::MigrationAllowed { found: 0x7_0000 });
    assert_eq!(refusal(|f| f.policy |= 1 << 26), E::Report(ReportError::Reserved { offset: 0x008 }));
    assert_eq!(refusal(|f| f.key_flags = 2), E::ChipKeyMasked);
    let key = |found| E::SigningKey { expected: SigningKey::Vcek, found };
    assert_eq!(refusal(|f| f.key_flags = 1 << 2), key(SigningKey::Vlek));
    assert_eq!(refusal(|f| f.key_flags = 7 << 2), key(SigningKey::None));
    assert_eq!(refusal(|f| f.key_flags = 3 << 2), key(SigningKey::Reserved(3)));
    assert_eq!(refusal(|f| f.key_flags = 1 << 5), E::Report(ReportError::Reserved { offset: 0x048 }));
    assert_eq!(refusal(|f| f.chip_id = [0; 64]), E::ChipIdMasked);
    let error = tampered(move |f| f.chip_id = other).unwrap_err();
    assert!(
        matches!(&error, E::HardwareId(m) if m.expected == Hex(mine) && m.found == Hex(other)),
        "{error}"
    );
    assert_eq!(
        tampered(move |f| f.reported_tcb = lower),
        Err(E::ReportedTcb { expected: tcb, found: lower })
    );
    assert_eq!(tampered(move |f| f.cpuid = unknown), Err(E::UnknownProcessor { cpuid: unknown }));
    assert_eq!(
        tampered(|f| f.cpuid = Machine::turin().cpuid),
        Err(E::Product { expected: Product::Genoa, found: Product::Turin })
    );
    let mut strange = raw.0;
    strange[2] = 1;
    let found = RawTcb(strange);
    let reserved = |field| Err(E::TcbReserved { field, product: Product::Genoa, found });
    assert_eq!(tampered(move |f| f.reported_tcb = found), reserved("reported"));
    assert_eq!(tampered(move |f| f.current_tcb = found), reserved("current"));
    assert_eq!(tampered(move |f| f.committed_tcb = found), reserved("committed"));
    assert_eq!(tampered(move |f| f.launch_tcb = found), reserved("launch"));
    let found = Measurement([1; 48]);
    let expected = [Measurement([8; 48])].into();
    assert_eq!(tampered(|f| f.measurement = [1; 48]), Err(E::Measurement { expected, found }));
    assert!(matches!(refusal(|f| f.report_data[63] ^= 1), E::ReportData(_)));
    assert!(matches!(refusal(|f| f.host_data[0] ^= 1), E::HostData(_)));
    // In the signed part before signing, and in both halves of the signature after it.
    assert_eq!(refusal(|f| f.patches = vec![(0x29F, 1)]), E::Report(ReportError::Reserved { offset: 0x29F }));
    assert_eq!(refusal(|f| f.patches = vec![(0x49F, 1)]), E::Report(ReportError::Reserved { offset: 0x49F }));
    assert_eq!(refusal(|f| f.patches = (0x2A0..0x2D0).map(|at| (at, 0)).collect()), E::Signature);
    assert_eq!(refusal(|f| f.patches = (0x2E8..0x318).map(|at| (at, 0xFF)).collect()), E::Signature);
}

#[test]
fn another_machine_of_the_same_make_is_refused() {
    let mut neighbour = SoftwarePsp::new(Machine { chip_seed: [6; 32], ..machine() });
    let report = neighbour.report(&DATA).unwrap();
    let chain = neighbour.certificate_chain();
    let measurements = [Measurement([8; 48])];
    let wanted = SoftwarePsp::new(machine()).chip_id();
    let expected =
        Expected { report_data: DATA, measurements: &measurements, host_data: [9; 32], chip_id: wanted };
    let error = verify(&report, &chain, &trust_anchor(), &expected, NOW).unwrap_err();
    assert!(matches!(error, EvidenceError::ChipId(_)), "{error}");
    // Its report with the wanted machine's chain: that key did not sign it.
    let chain = SoftwarePsp::new(machine()).certificate_chain();
    assert_eq!(verify(&report, &chain, &trust_anchor(), &expected, NOW), Err(EvidenceError::Signature));
}

#[test]
fn each_misissued_leaf_is_refused_for_its_own_reason() {
    use ChainError as C;

    const CSP_ID: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x9C, 0x78, 0x01, 0x05];
    let role = CertificateRole::Vcek;
    let refusal = |change: fn(&mut Vcek)| misissued(change);
    let extension = |oid: &str| C::VcekExtension { oid: format!("1.3.6.1.4.1.3704.1.{oid}") }.into();

    for name in ["SEV-VLEK", "VCEK", "SEV-VCEK2", ""] {
        let error = misissued(|vcek| vcek.common_name = name.into());
        assert_eq!(error, C::CommonName { role, expected: "SEV-VCEK".into(), found: name.into() }.into());
    }
    let error = refusal(|v| v.not_after = "260101000000Z".into());
    assert!(
        matches!(error, EvidenceError::Chain(C::Validity { role: CertificateRole::Vcek, .. })),
        "{error}"
    );
    let error = refusal(|v| v.not_before = "270101000000Z".into());
    assert!(
        matches!(error, EvidenceError::Chain(C::Validity { role: CertificateRole::Vcek, .. })),
        "{error}"
    );
    let key = EvidenceError::from(C::PublicKey { role, expected: "P-384" });
    assert_eq!(refusal(|v| v.public_key[96] ^= 1), key);
    assert_eq!(refusal(|v| v.public_key = vec![0]), key);
    assert_eq!(refusal(|v| v.public_key.truncate(49)), key);

    assert_eq!(refusal(|v| v.struct_version = 1), extension("1"));
    assert_eq!(refusal(|v| v.product_name = "Venice".into()), extension("2"));
    assert_eq!(refusal(|v| v.product_name = "Genoa2".into()), extension("2"));
    assert_eq!(refusal(|v| v.tcb.retain(|part| part.0 != 3)), extension("3.3"));
    assert_eq!(refusal(|v| v.tcb.retain(|part| part.0 != 4)), extension("3.4"));
    assert_eq!(refusal(|v| v.tcb[3].1 = 1), extension("3.4"));
    assert_eq!(refusal(|v| v.hardware_id.truncate(63)), extension("4"));
    assert_eq!(refusal(|v| v.hardware_id.clear()), extension("4"));
    assert_eq!(refusal(|v| v.hardware_id.truncate(8)), extension("4"));
    let error = refusal(|v| v.hardware_id[0] ^= 1);
    assert!(matches!(error, EvidenceError::HardwareId(_)), "{error}");
    let error = refusal(|v| v.tcb[2].1 += 1);
    assert!(matches!(error, EvidenceError::ReportedTcb { .. }), "{error}");

    let error = refusal(|v| v.tcb.push((3, 27)));
    let oid = "1.3.6.1.4.1.3704.1.3.3".into();
    assert_eq!(error, C::DuplicateExtension { role, oid }.into());
    let error = refusal(|v| v.extra_extensions.push((CSP_ID.to_vec(), true, vec![0x16, 0])));
    let oid = "1.3.6.1.4.1.3704.1.5".into();
    assert_eq!(error, C::CriticalExtension { role, oid }.into());
    // Basic constraints that make the leaf an authority, and key usage for signing certificates.
    let error = refusal(|v| {
        v.extra_extensions.push((vec![0x55, 0x1D, 0x13], true, vec![0x30, 0x03, 0x01, 0x01, 0xFF]));
    });
    assert_eq!(error, C::Constraints { role }.into());
    let error =
        refusal(|v| v.extra_extensions.push((vec![0x55, 0x1D, 0x0F], true, vec![0x03, 0x02, 0x02, 0x04])));
    assert_eq!(error, C::Constraints { role }.into());
    // Far longer than any of AMD's.
    let error = refusal(|v| v.extra_extensions.push((CSP_ID.to_vec(), false, vec![0; 4096])));
    assert!(matches!(error, EvidenceError::Chain(C::Length { limit: 4096, .. })), "{error}");
}

#[test]
fn variations_that_amd_has_are_accepted() {
    let mut psp = SoftwarePsp::new(machine());
    let honest = psp.vcek();
    let wrapped = [&[0x04, 0x40], honest.hardware_id.as_slice()].concat();
    for vcek in [
        Vcek { product_name: "Genoa-B1".into(), ..honest.clone() },
        Vcek { hardware_id: wrapped, ..honest.clone() },
        Vcek { extra_extensions: vec![(vec![0x2B, 0x06, 0x01], false, vec![5, 0])], ..honest.clone() },
    ] {
        let chain = psp.certificate_chain_with(&vcek);
        judge(&mut psp, &chain, &trust_anchor()).unwrap();
    }
    // Values from 0x80 on take two bytes.
    let tcb = TcbVersion { microcode: 0xDB, ..machine().tcb };
    let mut psp = SoftwarePsp::new(Machine { tcb, ..machine() });
    let chain = psp.certificate_chain();
    judge(&mut psp, &chain, &trust_anchor()).unwrap();
}

#[test]
fn a_leaf_does_not_pass_as_an_intermediate() {
    let mut psp = SoftwarePsp::new(machine());
    let honest = psp.certificate_chain();
    let chain = CertificateChain { ask: honest.vcek.clone(), ..honest.clone() };
    let error = judge(&mut psp, &chain, &trust_anchor()).unwrap_err();
    assert_eq!(error, ChainError::Constraints { role: CertificateRole::Ask }.into());
    let chain = CertificateChain { ask: honest.ark.clone(), ..honest };
    let error = judge(&mut psp, &chain, &trust_anchor()).unwrap_err();
    assert_eq!(error, ChainError::Constraints { role: CertificateRole::Ask }.into());
}

#[test]
fn the_same_machine_gives_the_same_bytes() {
    let make = || {
        let mut psp = SoftwarePsp::new(machine()).seeded([1; 32]);
        let mut random = [0; 70];
        psp.fill_random(&mut random).unwrap();
        (psp.report(&DATA).unwrap(), psp.certificate_chain(), psp.vcek().issue(), random)
    };
    let (first, second) = (make(), make());
    assert_eq!(first, second);
    // The cached leaf is the one that would be made now.
    assert_eq!(first.1.vcek, first.2);

    let mut psp = SoftwarePsp::new(machine()).seeded([1; 32]);
    let (mut one, mut two) = ([0; 32], [0; 32]);
    psp.fill_random(&mut one).unwrap();
    psp.fill_random(&mut two).unwrap();
    assert_ne!(one, two);
    assert_eq!(first.3[..32], one);
    let mut other = SoftwarePsp::new(machine()).seeded([2; 32]);
    other.fill_random(&mut two).unwrap();
    assert_ne!(one, two);
    // Without a seed, the operating system's.
    let mut system = SoftwarePsp::new(machine());
    system.fill_random(&mut one).unwrap();
    system.fill_random(&mut two).unwrap();
    assert_ne!(one, two);
}

#[test]
fn each_launch_has_its_report_id_and_each_tcb_its_key() {
    let psp = SoftwarePsp::new(machine());
    let updated = SoftwarePsp::new(Machine { tcb: TcbVersion { snp: 28, ..machine().tcb }, ..machine() });
    assert_eq!(psp.chip_id(), updated.chip_id());
    assert_ne!(psp.vcek().public_key, updated.vcek().public_key);

    let id = |launch| {
        let mut psp = SoftwarePsp::new(Machine { launch, ..machine() });
        let chain = psp.certificate_chain();
        *judge(&mut psp, &chain, &trust_anchor()).unwrap().report_id()
    };
    assert_ne!(id(0), id(1));
}

#[test]
fn a_processor_can_refuse() {
    let mut psp = SoftwarePsp::new(machine());
    psp.refuse_reports(Some(0x16));
    assert_eq!(psp.report(&DATA), Err(PlatformError::Report { status: 0x16 }));
    psp.refuse_reports(None);
    psp.report(&DATA).unwrap();
}
