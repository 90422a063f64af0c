//! Derived keys mean what the firmware's mean: which differences make another key, which don't, and what is refused.

use postern_enclave::platform::{KeyFields, KeyRequest, Platform, PlatformError};
use postern_shared::snp::{Cpuid, RawTcb, TcbVersion};
use postern_simulation::{KeyAnswer, Machine, SoftwarePsp};

const NONE: KeyFields = KeyFields {
    policy: false,
    image_id: false,
    family_id: false,
    measurement: false,
    guest_svn: false,
    tcb: false,
};
const ALL: KeyFields = KeyFields {
    policy: true,
    image_id: true,
    family_id: true,
    measurement: true,
    guest_svn: true,
    tcb: true,
};

fn machine() -> Machine {
    Machine {
        chip_seed: [7; 32],
        measurement: [8; 48],
        host_data: [9; 32],
        family_id: [10; 16],
        image_id: [11; 16],
        guest_svn: 5,
        ..Machine::default()
    }
}

/// The machine's TCB as in its reports.
fn tcb(machine: &Machine) -> RawTcb {
    machine.tcb.encode(machine.product()).unwrap()
}

fn request(fields: KeyFields) -> KeyRequest {
    KeyRequest { fields, guest_svn: 5, tcb: tcb(&machine()) }
}

fn derive(machine: Machine, request: KeyRequest) -> Result<[u8; 32], PlatformError> {
    SoftwarePsp::new(machine).derive_key(&request).map(|key| *key.expose())
}

fn key(machine: Machine, fields: KeyFields) -> [u8; 32] {
    derive(machine, request(fields)).unwrap()
}

#[test]
fn the_same_guest_gets_the_same_key_again() {
    for fields in [NONE, ALL] {
        let first = key(machine(), fields);
        assert_ne!(first, [0; 32]);
        let mut psp = SoftwarePsp::new(machine()).seeded([1; 32]);
        assert_eq!(psp.derive_key(&request(fields)).unwrap().expose(), &first);
        assert_eq!(psp.derive_key(&request(fields)).unwrap().expose(), &first);
        // After another launch: the root is not the VMRK.
        assert_eq!(key(Machine { launch: 1, ..machine() }, fields), first);
    }
}

#[test]
fn a_selected_field_makes_the_key_and_another_does_not() {
    let others: [(&str, Machine, KeyFields); 4] = [
        ("policy", Machine { policy: 0x2_0000, ..machine() }, KeyFields { policy: true, ..NONE }),
        ("image id", Machine { image_id: [1; 16], ..machine() }, KeyFields { image_id: true, ..NONE }),
        ("family id", Machine { family_id: [1; 16], ..machine() }, KeyFields { family_id: true, ..NONE }),
        (
            "measurement",
            Machine { measurement: [1; 48], ..machine() },
            KeyFields { measurement: true, ..NONE },
        ),
    ];
    for (name, other, selected) in others {
        assert_eq!(key(machine(), NONE), key(other, NONE), "{name}");
        assert_ne!(key(machine(), selected), key(other, selected), "{name}");
        assert_ne!(key(machine(), ALL), key(other, ALL), "{name}");
        assert_ne!(key(machine(), selected), key(machine(), NONE), "{name}");
    }
}

#[test]
fn a_selected_value_of_the_request_makes_the_key_and_another_does_not() {
    let lower_tcb = tcb(&Machine { tcb: TcbVersion { snp: 26, ..machine().tcb }, ..machine() });
    let by_svn = KeyFields { guest_svn: true, ..NONE };
    let by_tcb = KeyFields { tcb: true, ..NONE };
    let with = |fields, guest_svn, tcb| derive(machine(), KeyRequest { fields, guest_svn, tcb }).unwrap();
    let own = tcb(&machine());

    assert_eq!(with(NONE, 5, own), with(NONE, 4, own));
    assert_ne!(with(by_svn, 5, own), with(by_svn, 4, own));
    assert_eq!(with(NONE, 5, own), with(NONE, 5, lower_tcb));
    assert_ne!(with(by_tcb, 5, own), with(by_tcb, 5, lower_tcb));
    // The request's version makes the key, not that of the launch.
    let newer = Machine { guest_svn: 6, ..machine() };
    assert_eq!(derive(newer, request(by_svn)).unwrap(), with(by_svn, 5, own));
}

#[test]
fn host_data_and_the_chip_are_in_every_key() {
    for fields in [NONE, ALL] {
        let own = key(machine(), fields);
        assert_ne!(own, key(Machine { host_data: [1; 32], ..machine() }, fields));
        assert_ne!(own, key(Machine { chip_seed: [1; 32], ..machine() }, fields));
        let milan = Cpuid { family: 0x19, model: 0x01, stepping: 1 };
        assert_ne!(own, key(Machine { cpuid: milan, ..machine() }, fields));
    }
}

#[test]
fn after_a_firmware_update_the_old_tcbs_key_can_still_be_had() {
    let updated = Machine { tcb: TcbVersion { snp: 28, microcode: 90, ..machine().tcb }, ..machine() };
    let at = |tcb| KeyRequest { tcb, ..request(ALL) };
    let old = key(machine(), ALL);
    assert_eq!(derive(updated, at(tcb(&machine()))).unwrap(), old);
    assert_ne!(derive(updated, at(tcb(&updated))).unwrap(), old);
    // Not the other way round.
    let refused = derive(machine(), at(tcb(&updated))).unwrap_err();
    let (requested, committed) = (tcb(&updated), tcb(&machine()));
    assert_eq!(refused, PlatformError::TcbNotCommitted { requested, committed });
}

#[test]
fn a_tcb_above_the_committed_one_in_any_component_is_refused() {
    for machine in [machine(), Machine { guest_svn: 5, ..Machine::turin() }] {
        let committed = tcb(&machine);
        for place in 0..8 {
            // All other components as low as can be; selected or not.
            let mut requested = RawTcb([0; 8]);
            requested.0[place] = committed.0[place] + 1;
            for fields in [NONE, ALL] {
                let refused = derive(machine, KeyRequest { tcb: requested, ..request(fields) }).unwrap_err();
                assert_eq!(refused, PlatformError::TcbNotCommitted { requested, committed });
            }
        }
        for lowest in [RawTcb([0; 8]), committed] {
            derive(machine, KeyRequest { tcb: lowest, ..request(ALL) }).unwrap();
        }
    }
}

#[test]
fn a_security_version_above_the_guests_is_refused() {
    for (fields, guest_svn) in [(ALL, 6), (NONE, 6), (ALL, u32::MAX)] {
        let refused = derive(machine(), KeyRequest { guest_svn, ..request(fields) }).unwrap_err();
        assert_eq!(refused, PlatformError::Key { status: 0x16 });
    }
    // Without an ID block there is only 0.
    let without = Machine { guest_svn: 0, ..machine() };
    assert!(derive(without, KeyRequest { guest_svn: 1, ..request(ALL) }).is_err());
    derive(without, KeyRequest { guest_svn: 0, ..request(ALL) }).unwrap();
}

#[test]
fn a_processor_can_refuse_keys_or_answer_with_zeros() {
    let mut psp = SoftwarePsp::new(machine());
    psp.answer_keys(KeyAnswer::Status(0x15));
    assert_eq!(psp.derive_key(&request(ALL)).unwrap_err(), PlatformError::Key { status: 0x15 });
    psp.answer_keys(KeyAnswer::Zeros);
    assert_eq!(psp.derive_key(&request(ALL)).unwrap_err(), PlatformError::ZeroKey);
    // Reports are another matter.
    psp.report(&postern_attestation::ReportData([0; 64])).unwrap();
    psp.answer_keys(KeyAnswer::Honest);
    psp.derive_key(&request(ALL)).unwrap();
}
