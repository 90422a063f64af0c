//! What silicon must reach, on real reports and on such as are made of them by changing a field (whose signature is then
//! wrong, which is another check's matter).

mod common;

use common::{NOW, appraise, failed, found, named, of_their_time, strict};
use postern_attestation::{Appraisal, Requirements, Time, built_in, requirements};
use postern_shared::{
    check::Check,
    message::Evidence,
    policy::{AttestationRules, Floor},
    snp::{Cpuid, FirmwareVersion, Product, TcbVersion},
};

const SIENA: Cpuid = Cpuid { family: 0x19, model: 0xA0, stepping: 2 };
const GENOA: Cpuid = Cpuid { family: 0x19, model: 0x11, stepping: 1 };
const TURIN: Cpuid = Cpuid { family: 0x1A, model: 0x02, stepping: 1 };
const DENSE: Cpuid = Cpuid { family: 0x1A, model: 0x11, stepping: 0 };
const VENICE: Cpuid = Cpuid { family: 0x1A, model: 0x50, stepping: 0 };

/// A sample whose report is changed.
fn changed(name: &str, rules: AttestationRules, change: impl FnOnce(&mut Vec<u8>)) -> Appraisal {
    let Evidence { mut report, certificates } = named(name).evidence();
    change(&mut report);
    appraise(&Evidence { report, certificates }, rules, Time::At(NOW))
}

fn silicon(cpuid: Cpuid) -> impl FnOnce(&mut Vec<u8>) {
    move |report| report[0x188..0x18B].copy_from_slice(&[cpuid.family, cpuid.model, cpuid.stepping])
}

fn required(rules: &AttestationRules, cpuid: Cpuid) -> Requirements {
    requirements(rules, cpuid).expect("listed")
}

/// Golden: raising one of these refuses machines, lowering one accepts them. `src/floors.rs` says where each is from.
#[test]
fn the_table_says_what_its_sources_say() {
    let table: Vec<String> = built_in()
        .iter()
        .map(|kind| {
            let Requirements { tcb, firmware, mitigations, platform } = kind.requirements;
            let firmware = firmware.expect("every line has one");
            format!("{} {} {tcb} {firmware} {mitigations:#x} {platform:#x}", kind.name, kind.first)
        })
        .collect();
    assert_eq!(
        table,
        [
            "Milan 19/01/1 4/0/29/222 1.55.35 0x16 0x0",
            "Milan-X 19/01/2 4/0/29/71 1.55.35 0x16 0x0",
            "Genoa 19/11/1 10/0/27/86 1.55.49 0x7 0x0",
            "Genoa-X 19/11/2 10/0/27/81 1.55.49 0x7 0x0",
            "Bergamo, Siena 19/a0/2 10/0/27/27 1.55.49 0x7 0x0",
            "Turin 1a/02/1 1/1/1/4/90 1.55.65 0x37 0x40",
            "Turin Dense 1a/11/0 0/0/0/4/84 1.55.65 0x37 0x40",
        ]
    );
    for kind in built_in() {
        let product = kind.first.product().expect("a line that is supported");
        assert!(kind.requirements.tcb.encode(product).is_some(), "{}", kind.name);
        assert!(kind.first.stepping <= kind.last_stepping && !kind.answers.is_empty());
        assert_eq!(kind.compared.len(), "2026-11-30".len());
        assert!(kind.covers(kind.first));
        let beyond = Cpuid { stepping: kind.last_stepping + 1, ..kind.first };
        assert!(!kind.covers(beyond) && !kind.covers(Cpuid { model: 0x7F, ..kind.first }));
        // No processor is of two kinds.
        assert_eq!(built_in().iter().filter(|other| other.covers(kind.first)).count(), 1);
    }
}

#[test]
fn the_siena_machine_lacks_a_mitigation_and_is_refused_by_default() {
    let appraisal = named("confai-siena").appraise();
    assert_eq!(failed(&appraisal), [Check::Mitigations]);
    assert_eq!(
        found(&appraisal, Check::Mitigations),
        "0xb at launch, 0xb now; too low: launch_mitigations: 0xb, bit 2 wanted; \
         current_mitigations: 0xb, bit 2 wanted"
    );
    // With it, at launch and now, nothing but the signature over what was changed is wrong.
    let repaired = changed("confai-siena", strict(), |report| (report[0x1F8], report[0x200]) = (0x0F, 0x0F));
    assert_eq!(failed(&repaired), [Check::ReportSignature]);
    let late = changed("confai-siena", strict(), |report| report[0x200] = 0x0F);
    assert_eq!(failed(&late), [Check::ReportSignature, Check::Mitigations]);
    assert_eq!(late.shortfalls.len(), 1, "launched without: {:?}", late.shortfalls);
}

#[test]
fn all_that_is_too_low_is_said() {
    let appraisal = named("veraison-genoa").appraise();
    let said: Vec<String> = appraisal.shortfalls.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "reported_tcb: SNP 23, 27 wanted",
            "reported_tcb: microcode 84, 86 wanted",
            "launch_tcb: SNP 23, 27 wanted",
            "launch_tcb: microcode 84, 86 wanted",
            "committed_tcb: SNP 23, 27 wanted",
            "committed_tcb: microcode 84, 86 wanted",
            "current_firmware: 1.55.40, 1.55.49 wanted",
            "committed_firmware: 1.55.40, 1.55.49 wanted",
            "launch_mitigations: none, bits 0, 1, 2 wanted",
            "current_mitigations: none, bits 0, 1, 2 wanted",
        ]
    );
    for check in [Check::TcbFloor, Check::FirmwareVersion, Check::Mitigations] {
        let too_low = appraisal.shortfalls.iter().any(|low| low.check == check);
        assert_eq!(failed(&appraisal).contains(&check), too_low, "{check}");
    }
    assert_eq!(failed(&appraisal), named("veraison-genoa").fails);
}

#[test]
fn turin_must_have_its_microcode_its_mitigations_and_its_platform_bit() {
    let turin = |change: fn(&mut Vec<u8>)| {
        let mut failed = failed(&changed("msft-tav-turin", of_their_time(), change));
        failed.retain(|check| *check != Check::ReportSignature);
        failed
    };
    assert_eq!(turin(|_| ()), []);
    assert_eq!(turin(|report| report[0x40] &= !0x40), [Check::PlatformInfo], "IOMMU write safe");
    for bit in [0, 1, 2, 4, 5] {
        let report = changed("msft-tav-turin", of_their_time(), |report| report[0x1F8] &= !(1 << bit));
        assert!(failed(&report).contains(&Check::Mitigations), "bit {bit}");
    }
    assert_eq!(turin(|report| (report[0x1F8], report[0x200]) = (0x37, 0x37)), [], "bit 3 is nobody's");
    assert_eq!(failed(&named("msft-tav-turin").appraise()), [Check::TcbFloor], "microcode 0x51, 0x5A wanted");
    // The platform bit is asked of Turin alone.
    assert!(!failed(&named("confai-siena").appraise()).contains(&Check::PlatformInfo));
}

#[test]
fn turin_dense_has_a_floor_of_its_own() {
    let dense = |microcode: u8| {
        let appraisal = changed("msft-tav-turin", strict(), |report| {
            silicon(DENSE)(report);
            [0x38, 0x180, 0x1E0, 0x1F0].into_iter().for_each(|tcb| report[tcb + 7] = microcode);
        });
        assert_eq!(appraisal.product, Some(Product::Turin));
        !failed(&appraisal).contains(&Check::TcbFloor)
    };
    assert!(dense(0x54) && !dense(0x53));
    // Another stepping is no silicon that anybody has compared.
    let unlisted = changed("msft-tav-turin", strict(), silicon(Cpuid { stepping: 1, ..DENSE }));
    assert!(found(&unlisted, Check::TcbFloor).contains("reported"));
    assert!(failed(&unlisted).contains(&Check::TcbFloor));
    assert_eq!(requirements(&strict(), Cpuid { stepping: 1, ..DENSE }), None);
}

#[test]
fn venice_is_refused_by_its_own_name_and_read_in_no_others_layout() {
    let appraisal = changed("msft-tav-turin", strict(), silicon(VENICE));
    for check in [Check::Product, Check::TcbFloor, Check::LeafTcb, Check::TcbOrder] {
        assert!(failed(&appraisal).contains(&check), "{check}");
    }
    assert_eq!(
        found(&appraisal, Check::Product),
        "Venice (1a/50/0), which is not supported, certified for Turin"
    );
    assert_eq!(appraisal.product, None, "although its leaf says Turin");
    for check in [Check::TcbFloor, Check::LeafTcb, Check::TcbOrder] {
        assert_eq!(found(&appraisal, check), "reserved bytes in a TCB, or an unknown product line");
    }
    assert!(appraisal.shortfalls.is_empty());
    // A report that does not say what silicon it is from is shown as its leaf says.
    assert_eq!(named("virtee-milan").appraise().product, Some(Product::Milan));
}

#[test]
fn a_manifest_raises_each_part_by_itself() {
    let built_in = required(&strict(), SIENA);
    let raised = |floor: Floor| {
        let mut rules = strict();
        rules.floors = vec![floor];
        required(&rules, SIENA)
    };
    let of = Floor::of(SIENA);
    let low = TcbVersion { fmc: None, bootloader: 0, tee: 0, snp: 0, microcode: 0 };
    let firmware = |build| Some(FirmwareVersion { major: 1, minor: 55, build });
    // What is lower changes nothing.
    for floor in [
        Floor { tcb: Some(low), ..of },
        Floor { firmware: firmware(1), ..of },
        Floor { mitigations: Some(0), ..of },
        Floor { platform: Some(0), ..of },
    ] {
        assert_eq!(raised(floor), built_in, "{floor:?}");
    }
    let tcb = TcbVersion { bootloader: 12, ..low };
    let higher = TcbVersion { bootloader: 12, ..built_in.tcb };
    assert_eq!(raised(Floor { tcb: Some(tcb), ..of }), Requirements { tcb: higher, ..built_in });
    let newer = Requirements { firmware: firmware(99), ..built_in };
    assert_eq!(raised(Floor { firmware: firmware(99), ..of }), newer);
    let more = Requirements { mitigations: 0b1_0111, ..built_in };
    assert_eq!(raised(Floor { mitigations: Some(0b1_0000), ..of }), more);
    assert_eq!(raised(Floor { platform: Some(0x40), ..of }), Requirements { platform: 0x40, ..built_in });
    // And is enforced.
    let mut rules = of_their_time();
    rules.floors = vec![Floor { platform: Some(0x40), ..of }];
    let appraisal = appraise(&named("confai-siena").evidence(), rules, Time::At(NOW));
    assert_eq!(failed(&appraisal), [Check::PlatformInfo]);
    assert_eq!(found(&appraisal, Check::PlatformInfo), "0x25: no IOMMU write safe");
}

#[test]
fn a_relaxation_replaces_the_part_that_it_names_and_no_other() {
    let built_in = required(&strict(), SIENA);
    let relaxed = |floor: Floor| {
        let mut rules = strict();
        rules.relax.floors = vec![floor];
        // Of other silicon nothing changes.
        assert_eq!(required(&rules, TURIN), required(&strict(), TURIN));
        required(&rules, SIENA)
    };
    let of = Floor::of(SIENA);
    let tcb = TcbVersion { fmc: None, bootloader: 1, tee: 0, snp: 2, microcode: 3 };
    let firmware = Some(FirmwareVersion { major: 1, minor: 55, build: 1 });
    assert_eq!(relaxed(Floor { tcb: Some(tcb), ..of }), Requirements { tcb, ..built_in });
    assert_eq!(relaxed(Floor { firmware, ..of }), Requirements { firmware, ..built_in });
    assert_eq!(relaxed(Floor { mitigations: Some(1), ..of }), Requirements { mitigations: 1, ..built_in });
    assert_eq!(relaxed(Floor { platform: Some(4), ..of }), Requirements { platform: 4, ..built_in });
    // It counts more than what the same manifest raises.
    let mut rules = strict();
    rules.floors = vec![Floor { mitigations: Some(0xFF), ..of }];
    rules.relax.floors = vec![Floor { mitigations: Some(1), ..of }];
    assert_eq!(required(&rules, SIENA).mitigations, 1);
    // Without the alias check nobody is accepted by a floor.
    let mut rules = strict();
    rules.relax.floors = vec![Floor { platform: Some(0), mitigations: Some(0), ..of }];
    let unaliased = changed("confai-siena", rules, |report| report[0x40] &= !0x20);
    assert_eq!(failed(&unaliased), [Check::ReportSignature, Check::PlatformInfo]);
}

#[test]
fn floors_belong_to_silicon() {
    let siena = named("confai-siena");
    let [bootloader, tee, snp, microcode] = siena.tcb;
    let own = TcbVersion { fmc: None, bootloader, tee, snp, microcode };
    let floor = |silicon, tcb| Floor { tcb: Some(tcb), ..Floor::of(silicon) };
    let judge = |name: &str, raised: Vec<Floor>, relaxed: Vec<Floor>| {
        let mut rules = strict();
        rules.products.push(Product::Milan);
        (rules.floors, rules.relax.floors) = (raised, relaxed);
        !failed(&appraise(&named(name).evidence(), rules, Time::At(NOW))).contains(&Check::TcbFloor)
    };
    assert!(judge("confai-siena", vec![floor(SIENA, own)], vec![]));
    for higher in [
        TcbVersion { bootloader: bootloader + 1, ..own },
        TcbVersion { tee: tee + 1, ..own },
        TcbVersion { snp: snp + 1, ..own },
        TcbVersion { microcode: microcode + 1, ..own },
    ] {
        assert!(!judge("confai-siena", vec![floor(SIENA, higher)], vec![]), "{higher}");
        assert!(judge("confai-siena", vec![floor(SIENA, higher)], vec![floor(SIENA, own)]));
        assert!(judge("confai-siena", vec![floor(GENOA, higher)], vec![]), "another's");
    }
    let low = TcbVersion { fmc: None, bootloader: 0, tee: 0, snp: 0, microcode: 0 };
    assert!(!judge("veraison-genoa", vec![floor(GENOA, low)], vec![]));
    assert!(judge("veraison-genoa", vec![], vec![floor(GENOA, low)]));
    // A floor with components of another product line is reached by nobody.
    let foreign = TcbVersion { fmc: Some(0), ..low };
    assert!(!judge("veraison-genoa", vec![], vec![floor(GENOA, foreign)]));
    // What is reported counts, and what is committed and was at launch: dstack's is reported lower than it is.
    let milan = Cpuid { family: 0x19, model: 0x01, stepping: 1 };
    let between = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 213 };
    assert!(!judge("dstack-milan", vec![], vec![floor(milan, between)]));
    assert!(judge("dstack-milan", vec![], vec![floor(milan, TcbVersion { snp: 23, ..between })]));
    // Silicon without a floor is refused until somebody gives it one: one with a TCB.
    let unlisted = Cpuid { family: 0x19, model: 0x12, stepping: 0 };
    let mut rules = strict();
    rules.floors = vec![Floor { mitigations: Some(1), ..Floor::of(unlisted) }];
    assert_eq!(requirements(&rules, unlisted), None);
    rules.floors = vec![floor(unlisted, own)];
    let expected = Requirements { tcb: own, firmware: None, mitigations: 0, platform: 0 };
    assert_eq!(requirements(&rules, unlisted), Some(expected));
}
