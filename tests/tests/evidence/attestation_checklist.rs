//! Everything that an enclave checks of a peer's evidence: each violated alone, each named, and each relaxation lets through
//! just what it says. Evidence is the software secure processor's; the verifier is the one that judges AMD's.

use postern_attestation::{Launch, ReportData, Time, TrustAnchor, Verifier};
use postern_shared::check::Check;
use postern_shared::ids::{ChipId, Digest, Measurement};
use postern_shared::message::{Certificates, Evidence};
use postern_shared::policy::{
    AllowedMeasurement, AttestationRules, Floor, KeyDigest, Revocation, Rule, Trust,
};
use postern_shared::snp::{Cpuid, FirmwareVersion, Product, RawTcb, TcbVersion};
use postern_simulation::{
    Machine, Misbehaviour, ReportFields, RevocationList, SoftwarePsp, Vcek, asvk, trust_anchor,
};

const DATA: ReportData = ReportData([0x5A; 64]);
const NOW: Time = Time::At(1_795_132_800); // 2026-11-20

/// A peer's evidence and what it is judged by, all of it good until a test changes it.
struct Case {
    psp: SoftwarePsp,
    fields: ReportFields,
    vcek: Vcek,
    ask: Option<Vec<u8>>,
    crl: Option<RevocationList>,
    rules: AttestationRules,
    chips: Vec<ChipId>,
    epoch: u64,
    anchor: TrustAnchor,
    time: Time,
}

impl Case {
    fn on(machine: Machine) -> Self {
        let psp = SoftwarePsp::new(machine);
        let anchor = trust_anchor();
        let mut rules = AttestationRules::strict(Trust::Simulation { root: Digest(anchor.fingerprint()) });
        rules.measurements = vec![AllowedMeasurement::new("enclave", Measurement(machine.measurement))];
        Self {
            fields: ReportFields::honest(&machine, &DATA),
            vcek: psp.vcek(),
            ask: None,
            crl: None,
            chips: vec![ChipId(psp.chip_id())],
            rules,
            epoch: 0,
            anchor,
            time: NOW,
            psp,
        }
    }

    fn good() -> Self {
        Self::on(Machine {
            chip_seed: [7; 32],
            measurement: [8; 48],
            host_data: [9; 32],
            ..Machine::default()
        })
    }

    /// Relaxes a part of the silicon's floor.
    fn relax(&mut self, part: impl FnOnce(&mut Floor)) {
        let mut floor = Floor::of(self.psp.machine().cpuid);
        part(&mut floor);
        self.rules.relax.floors = vec![floor];
    }

    /// The checks that fail.
    fn judge(&self) -> Vec<Check> {
        let certificates = Certificates {
            leaf: self.vcek.issue(),
            crl: self.crl.as_ref().map(RevocationList::issue),
            ..self.psp.certificates()
        };
        let certificates =
            Certificates { ask: self.ask.clone().unwrap_or(certificates.ask.clone()), ..certificates };
        let evidence = Evidence { report: self.psp.sign(&self.fields), certificates };
        let host_data = self.psp.machine().host_data;
        let launch = Launch { epoch: self.epoch, host_data, chip_ids: &self.chips };
        let mut verifier = Verifier::new(self.anchor.clone(), self.rules.clone(), self.time);
        match verifier.verify(&evidence, &launch, &DATA) {
            Ok(_) => Vec::new(),
            Err(refusal) => refusal.failed().iter().map(|finding| finding.check).collect(),
        }
    }
}

/// Changes good evidence and says which checks fail.
fn with(change: impl FnOnce(&mut Case)) -> Vec<Check> {
    let mut case = Case::good();
    change(&mut case);
    case.judge()
}

#[test]
fn good_evidence_of_each_product_line_passes() {
    let milan = Machine {
        cpuid: Cpuid { family: 0x19, model: 0x01, stepping: 1 },
        tcb: TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 0x1D, microcode: 0xDE },
        ..Machine::default()
    };
    assert_eq!(with(|_| {}), []);
    assert_eq!(Case::on(Machine { chip_seed: [7; 32], ..Machine::turin() }).judge(), []);
    let mut case = Case::on(milan);
    assert_eq!(case.judge(), [Check::Product], "Milan is for those who say so");
    case.rules.products.push(Product::Milan);
    assert_eq!(case.judge(), []);
}

#[test]
fn simulated_evidence_is_nothing_under_amds_roots() {
    assert_eq!(with(|case| case.anchor = TrustAnchor::amd()), [Check::Chain]);
    // Nor with another simulation's root.
    let other = TrustAnchor::custom("other", vec![SoftwarePsp::new(Machine::default()).certificates().ask]);
    assert_eq!(with(|case| case.anchor = other), [Check::Chain]);
}

#[test]
fn every_misbehaviour_is_found_by_its_check() {
    for how in Misbehaviour::ALL {
        let mut lies = how.lies();
        lies(&mut Case::good().fields);
        let failed = with(|case| lies(&mut case.fields));
        match how.name() {
            "old-tcb" => assert_eq!(failed, [how.expected_check(), Check::TcbFloor]),
            name => assert_eq!(failed, [how.expected_check()], "{name}"),
        }
    }
}

#[test]
fn row_1_versions_without_cpuid_or_unknown_are_refused() {
    for version in [3, 4] {
        // They have no mitigation vectors, of which Genoa needs some.
        assert_eq!(with(|case| case.fields.version = version), [Check::Mitigations], "{version}");
        let relaxed = |case: &mut Case| {
            case.fields.version = version;
            case.relax(|floor| floor.mitigations = Some(0));
        };
        assert_eq!(with(relaxed), [], "{version}");
    }
    assert_eq!(with(|case| case.fields.version = 2), [Check::Product, Check::TcbFloor]);
    for version in [0, 1, 6, 7] {
        assert_eq!(with(|case| case.fields.version = version), [Check::ReportFormat], "{version}");
    }
}

#[test]
fn rows_2_and_3_algorithm_and_reserved_bits() {
    assert_eq!(with(|case| case.fields.signature_algo = 2), [Check::SignatureAlgorithm]);
    for place in [0x04C, 0x18B, 0x1EB, 0x208, 0x2D0, 0x318, 0x49F] {
        assert_eq!(with(|case| case.fields.flips.push((place, 1))), [Check::Reserved], "{place:#x}");
    }
    assert_eq!(with(|case| case.fields.policy |= 1 << 26), [Check::Reserved]);
    assert_eq!(with(|case| case.fields.key_flags |= 1 << 5), [Check::Reserved]);
    assert_eq!(with(|case| case.fields.policy &= !(1 << 17)), [Check::GuestPolicy], "must be one");
    // A report of an older version that uses fields of a later one.
    assert_eq!(
        with(|case| {
            case.fields.version = 3;
            case.fields.flips.push((0x1F8, 1));
            case.relax(|floor| floor.mitigations = Some(0));
        }),
        [Check::Reserved]
    );
}

#[test]
fn row_4_the_signature_is_over_the_bytes_received() {
    for place in [0x2A0, 0x2CF, 0x2E8, 0x317] {
        assert_eq!(
            with(|case| case.fields.flips.push((place, 0x5A))),
            [Check::ReportSignature],
            "{place:#x}"
        );
    }
}

#[test]
fn rows_6_and_7_certificates_are_shaped_and_named_as_amd_does() {
    type Change = fn(&mut Vcek);
    let refused: [Change; 10] = [
        |vcek| vcek.common_name = "SEV-ASK".into(),
        |vcek| vcek.common_name = "SEV-VLEK".into(),
        |vcek| vcek.public_key.truncate(60),
        |vcek| vcek.struct_version = 1,
        |vcek| vcek.product_name = "Naples".into(),
        |vcek| vcek.hardware_id.truncate(8),
        |vcek| vcek.tcb.retain(|(number, _)| *number != 8),
        |vcek| vcek.tcb.push((8, 1)),
        // The default spelt out, which is not DER.
        |vcek| vcek.extra_extensions.push((vec![0x2A, 0x03], Some(false), vec![5, 0])),
        // Unknown and critical.
        |vcek| vcek.extra_extensions.push((vec![0x2A, 0x03], Some(true), vec![5, 0])),
    ];
    for (index, change) in refused.into_iter().enumerate() {
        let failed = with(|case| change(&mut case.vcek));
        assert!(failed.contains(&Check::Chain), "{index}: {failed:?}");
    }
    // Unknown and not critical is harmless; a stepping in the product's name too.
    assert_eq!(with(|case| case.vcek.extra_extensions.push((vec![0x2A, 0x03], None, vec![5, 0]))), []);
    assert_eq!(with(|case| case.vcek.product_name = "Genoa-B1".into()), []);
    // An intermediate that signed nothing of it.
    assert!(with(|case| case.ask = Some(asvk())).contains(&Check::Chain));
    assert!(with(|case| case.ask = Some(case.psp.certificates().ark)).contains(&Check::Chain));
}

#[test]
fn row_8_validity() {
    assert_eq!(with(|case| case.vcek.not_after = "261119235959Z".into()), [Check::Validity]);
    assert_eq!(with(|case| case.vcek.not_before = "261121000000Z".into()), [Check::Validity]);
    // Without a clock, only what has expired before the rules were written is known.
    let expired = |time| {
        with(|case| {
            case.vcek.not_after = "261119235959Z".into();
            case.time = time;
        })
    };
    assert_eq!(expired(Time::NotBefore(0)), []);
    assert_eq!(expired(Time::NotBefore(1_795_132_800)), [Check::Validity]);
}

#[test]
fn row_9_revocation() {
    type Change = fn(&mut RevocationList);
    let list = |change: Change| {
        let mut list = RevocationList::default();
        change(&mut list);
        with(|case| case.crl = Some(list))
    };
    assert_eq!(list(|_| {}), []);
    assert_eq!(list(|list| list.revoked.push(vec![0x7F, 0x33])), [], "somebody else's");
    assert_eq!(list(|list| list.revoked.push(RevocationList::serial_of_ask())), [Check::Revocation]);
    let refused: [Change; 8] = [
        |list| list.by_ark = false,
        |list| list.next_update = None,
        |list| list.next_update = Some("261119235959Z".into()),
        |list| list.this_update = "261121000000Z".into(),
        |list| list.version = 0,
        // A delta: what changed since another one (RFC 5280 5.2.4).
        |list| list.extensions.push((vec![0x55, 0x1D, 0x1B], Some(true), vec![2, 1, 1])),
        // For a part of the certificates only (5.2.5).
        |list| list.extensions.push((vec![0x55, 0x1D, 0x1C], None, vec![0x30, 0])),
        // The default spelt out, which is not DER.
        |list| list.extensions[0].1 = Some(false),
    ];
    for (index, change) in refused.into_iter().enumerate() {
        assert_eq!(list(change), [Check::Crl], "{index}");
    }
    assert_eq!(with(|case| case.rules.revocation = Revocation::Required), [Check::Crl]);
    let both = |case: &mut Case| {
        case.rules.revocation = Revocation::Required;
        case.crl = Some(RevocationList::default());
    };
    assert_eq!(with(both), []);
    // What names the chain counts only as long as its list is one.
    let named = |change: Change| {
        let mut list =
            RevocationList { revoked: vec![RevocationList::serial_of_ask()], ..Default::default() };
        change(&mut list);
        with(|case| case.crl = Some(list))
    };
    assert_eq!(named(|list| list.next_update = Some("261119235959Z".into())), [Check::Crl]);
    assert_eq!(named(|list| list.by_ark = false), [Check::Crl]);
}

#[test]
fn row_10_the_leaf_is_for_the_reported_tcb() {
    for (number, value) in [(1, 9), (1, 11), (2, 1), (3, 26), (3, 28), (8, 85), (8, 87)] {
        let failed = with(|case| {
            case.vcek.tcb.iter_mut().filter(|(part, _)| *part == number).for_each(|(_, part)| *part = value);
        });
        assert_eq!(failed, [Check::LeafTcb], "{number}: {value}");
    }
}

#[test]
fn rows_11_and_12_product_and_hardware_id() {
    let turin = Case::on(Machine { chip_seed: [7; 32], ..Machine::turin() });
    let failed = with(|case| {
        case.vcek = Vcek { public_key: case.vcek.public_key.clone(), ..turin.vcek.clone() };
    });
    assert_eq!(failed, [Check::Product, Check::ChipId, Check::LeafTcb]);
    let unknown = |case: &mut Case| case.fields.cpuid = Cpuid { family: 0x1B, model: 0, stepping: 0 };
    // Nor can its TCBs be read, in a layout that is nobody's.
    let unreadable = [Check::Product, Check::LeafTcb, Check::TcbOrder, Check::TcbFloor];
    assert_eq!(with(unknown), unreadable);
    assert_eq!(with(|case| case.vcek.hardware_id[63] ^= 1), [Check::ChipId]);
    // Wrapped in an OCTET STRING it is the same.
    assert_eq!(with(|case| case.vcek.hardware_id = [&[4, 64], &case.vcek.hardware_id[..]].concat()), []);
    // Of Turin's id 8 bytes count, and all of the others must be zero.
    let mut case = turin;
    case.fields.chip_id[8] = 1;
    assert_eq!(case.judge(), [Check::ChipId]);
}

#[test]
fn row_13_the_kind_of_key() {
    // Masked; a provider's; none; reserved.
    for flags in [1 << 1, 1 << 2, 7 << 2, 3 << 2] {
        assert_eq!(with(|case| case.fields.key_flags = flags), [Check::SigningKey], "{flags:#x}");
    }
}

/// A machine whose reports are signed with a key that AMD lent to a provider.
fn lend(case: &mut Case) {
    case.vcek = case.vcek.clone().lent_to("a cloud");
    case.ask = Some(asvk());
    case.fields.key_flags = 1 << 2;
}

#[test]
fn row_14_lent_keys_are_for_listed_providers_only() {
    assert_eq!(with(lend), [Check::SigningKey]);
    let allowed = |providers: &[&str]| {
        with(|case| {
            lend(case);
            case.rules.relax.vlek_providers = providers.iter().map(|name| (*name).into()).collect();
        })
    };
    assert_eq!(allowed(&["another cloud"]), [Check::SigningKey]);
    assert_eq!(allowed(&["another cloud", "a cloud"]), []);
    let lent = |change: fn(&mut Case)| {
        with(|case| {
            lend(case);
            case.rules.relax.vlek_providers = vec!["a cloud".into()];
            change(case);
        })
    };
    // Such a key is of no chip, and a member with such a key need list none. A chip of a list must show itself and be on it.
    assert_eq!(lent(|case| case.chips.clear()), []);
    assert_eq!(lent(|case| (case.chips, case.fields.chip_id) = (Vec::new(), [0; 64])), []);
    assert_eq!(lent(|case| case.fields.chip_id = [3; 64]), [Check::ChipId]);
    assert_eq!(lent(|case| case.fields.chip_id = [0; 64]), [Check::ChipId]);
}

#[test]
fn lent_keys_let_no_chips_own_key_in() {
    let owned = |change: fn(&mut Case)| {
        with(|case| {
            case.rules.relax.vlek_providers = vec!["a cloud".into()];
            change(case);
        })
    };
    assert_eq!(owned(|_| ()), [], "on the member's chip, as ever");
    assert_eq!(owned(|case| case.chips.clear()), [Check::ChipId], "any chip that AMD made");
    assert_eq!(owned(|case| case.fields.chip_id = [0; 64]), [Check::ChipId]);
}

#[test]
fn row_15_chips_are_the_members() {
    assert_eq!(with(|case| case.chips = vec![ChipId([1; 64])]), [Check::ChipId]);
    assert_eq!(with(|case| case.chips.clear()), [Check::ChipId]);
    assert_eq!(with(|case| case.fields.chip_id = [0; 64]), [Check::ChipId]);
    let relaxed = |case: &mut Case| {
        case.fields.chip_id = [0; 64];
        case.rules.relax.masked_chip_id = true;
    };
    assert_eq!(with(relaxed), []);
    // The certificate still names the chip: hiding in the report takes nothing off a member's list.
    let elsewhere = |case: &mut Case| {
        relaxed(case);
        case.chips = vec![ChipId([1; 64])];
    };
    assert_eq!(with(elsewhere), [Check::ChipId]);
    // A member that lists none may hide, and no more.
    let unlisted = |case: &mut Case| {
        relaxed(case);
        case.chips.clear();
    };
    assert_eq!(with(unlisted), []);
    let shown = |case: &mut Case| {
        case.rules.relax.masked_chip_id = true;
        case.chips.clear();
    };
    assert_eq!(with(shown), [Check::ChipId]);
    // What is let through is hiding, not lying.
    let lying = |case: &mut Case| {
        case.fields.chip_id = [3; 64];
        case.rules.relax.masked_chip_id = true;
    };
    assert_eq!(with(lying), [Check::ChipId]);
}

#[test]
fn row_16_only_the_measured_code_may_ask() {
    for vmpl in [1, 2, 3, 4, u32::MAX] {
        assert_eq!(with(|case| case.fields.vmpl = vmpl), [Check::Vmpl]);
    }
}

#[test]
fn rows_17_to_19_code_binding_and_dao() {
    assert_eq!(with(|case| case.fields.measurement[47] ^= 1), [Check::Measurement]);
    assert_eq!(with(|case| case.fields.host_data[31] ^= 1), [Check::HostData]);
    for place in [0, 31, 32, 63] {
        assert_eq!(with(|case| case.fields.report_data[place] ^= 1), [Check::ReportData], "{place}");
    }
    let limited = |epoch| {
        with(|case| {
            let listed = &mut case.rules.measurements[0];
            (listed.from_epoch, listed.until_epoch) = (3, Some(4));
            case.epoch = epoch;
        })
    };
    assert_eq!(limited(2), [Check::Measurement]);
    assert_eq!(limited(3), []);
    assert_eq!(limited(4), []);
    assert_eq!(limited(5), [Check::Measurement]);
}

#[test]
fn rows_20_and_21_id_block() {
    let (id, author) = (KeyDigest([5; 48]), KeyDigest([6; 48]));
    let judge = |signed: bool, authored: bool, ids: &[KeyDigest], authors: &[KeyDigest]| {
        with(|case| {
            if signed {
                case.fields.id_key_digest = id.0;
            }
            if authored {
                case.fields.author_key_digest = author.0;
                case.fields.key_flags |= 1;
            }
            (case.rules.id_keys, case.rules.author_keys) = (ids.to_vec(), authors.to_vec());
        })
    };
    assert_eq!(judge(true, false, &[], &[]), [Check::IdBlock], "by default there is none");
    assert_eq!(judge(true, false, &[id], &[]), []);
    assert_eq!(judge(true, true, &[id], &[author]), []);
    assert_eq!(judge(true, true, &[id], &[]), [Check::IdBlock]);
    assert_eq!(judge(true, false, &[id], &[author]), [Check::IdBlock], "an author is demanded");
    assert_eq!(judge(false, false, &[id], &[]), [Check::IdBlock]);
    assert_eq!(judge(true, false, &[author], &[]), [Check::IdBlock]);
    // A digest counts only where the flag says that there is an author.
    let unflagged = |case: &mut Case| {
        case.fields.id_key_digest = id.0;
        case.fields.author_key_digest = author.0;
        (case.rules.id_keys, case.rules.author_keys) = (vec![id], vec![author]);
    };
    assert_eq!(with(unflagged), [Check::IdBlock]);
    assert_eq!(with(|case| case.rules.guest_svn = 1), [Check::GuestSvn]);
    let newer = |case: &mut Case| (case.rules.guest_svn, case.fields.guest_svn) = (1, 2);
    assert_eq!(with(newer), []);
}

#[test]
fn row_22_no_migration_agent() {
    for id in [[0; 32], [0xFE; 32]] {
        assert_eq!(with(|case| case.fields.report_id_ma = id), [Check::MigrationAgent]);
    }
}

#[test]
fn row_23_guest_policy() {
    for bit in [18, 19, 21] {
        assert_eq!(with(|case| case.fields.policy |= 1 << bit), [Check::GuestPolicy], "bit {bit}");
    }
    type Field = fn(&mut AttestationRules) -> &mut Rule;
    let rules: [(u32, Field); 6] = [
        (16, |rules| &mut rules.guest_policy.smt),
        (20, |rules| &mut rules.guest_policy.single_socket),
        (22, |rules| &mut rules.guest_policy.mem_aes_256_xts),
        (23, |rules| &mut rules.guest_policy.rapl_dis),
        (24, |rules| &mut rules.guest_policy.ciphertext_hiding),
        (25, |rules| &mut rules.guest_policy.page_swap_disable),
    ];
    for (bit, field) in rules {
        held(Check::GuestPolicy, field, |case, set| {
            case.fields.policy = case.fields.policy & !(1 << bit) | u64::from(set) << bit;
        });
    }
    let abi = |least| with(|case| case.rules.guest_policy.abi = least);
    assert_eq!(abi((1, 55)), [Check::GuestPolicy]);
    let demanded = |case: &mut Case| {
        case.fields.policy |= 0x0137;
        case.rules.guest_policy.abi = (1, 55);
    };
    assert_eq!(with(demanded), []);
}

#[test]
fn row_24_platform_information() {
    type Field = fn(&mut AttestationRules) -> &mut Rule;
    let rules: [(u32, Field); 7] = [
        (0, |rules| &mut rules.platform.smt),
        (1, |rules| &mut rules.platform.tsme),
        (2, |rules| &mut rules.platform.ecc),
        (3, |rules| &mut rules.platform.rapl_disabled),
        (4, |rules| &mut rules.platform.ciphertext_hiding),
        (6, |rules| &mut rules.platform.iommu_write_safe),
        (7, |rules| &mut rules.platform.tio),
    ];
    for (bit, field) in rules {
        held(Check::PlatformInfo, field, |case, set| {
            case.fields.platform_info = case.fields.platform_info & !(1 << bit) | u64::from(set) << bit;
        });
    }
    assert_eq!(with(|case| case.fields.platform_info &= !(1 << 5)), [Check::PlatformInfo]);
    let relaxed = |case: &mut Case| {
        case.fields.platform_info &= !(1 << 5);
        case.rules.relax.missing_alias_check = true;
    };
    assert_eq!(with(relaxed), []);
    assert_eq!(with(|case| case.fields.platform_info |= 1 << 9), [Check::PlatformInfo], "unknown");
    let known = |bits| {
        with(|case| {
            case.fields.platform_info |= 1 << 9;
            case.rules.relax.unknown_platform_bits = bits;
        })
    };
    assert_eq!(known(1 << 8), [Check::PlatformInfo]);
    assert_eq!(known(1 << 9), []);
}

/// A bit is held to its rule, and to no other.
fn held(check: Check, field: fn(&mut AttestationRules) -> &mut Rule, set: impl Fn(&mut Case, bool)) {
    for (rule, allowed) in
        [(Rule::Any, [true, true]), (Rule::Required, [false, true]), (Rule::Forbidden, [true, false])]
    {
        for (value, allowed) in [(false, allowed[0]), (true, allowed[1])] {
            let failed = with(|case| {
                set(case, value);
                *field(&mut case.rules) = rule;
            });
            assert_eq!(failed, if allowed { vec![] } else { vec![check] }, "{rule:?}, {value}");
        }
    }
}

#[test]
fn row_25_tcbs_are_in_order_and_reach_the_floor() {
    let tcb = |snp, microcode| RawTcb([10, 0, 0, 0, 0, 0, snp, microcode]);
    // Reported above current: only a liar's firmware does that.
    assert_eq!(
        with(|case| case.fields.current_tcb = tcb(26, 86)),
        [Check::TcbOrder, Check::FirmwareCommitted]
    );
    assert_eq!(with(|case| case.fields.current_tcb = tcb(28, 86)), [Check::FirmwareCommitted]);
    // A higher part excuses no lower one.
    let one_up_one_down = |case: &mut Case| case.fields.current_tcb = tcb(28, 85);
    assert_eq!(with(one_up_one_down), [Check::TcbOrder, Check::FirmwareCommitted]);
    assert_eq!(with(|case| case.fields.launch_tcb = tcb(26, 86)), [Check::TcbFloor]);
    assert_eq!(
        with(|case| case.fields.committed_tcb = tcb(26, 86)),
        [Check::TcbFloor, Check::FirmwareCommitted]
    );
    assert_eq!(
        with(|case| case.fields.launch_tcb = RawTcb([10, 0, 1, 0, 0, 0, 27, 86])),
        [Check::LeafTcb, Check::TcbOrder, Check::TcbFloor],
        "reserved bytes"
    );
    let provisional = |case: &mut Case| {
        case.fields.committed_firmware[0] -= 1;
        case.rules.relax.provisional_firmware = true;
    };
    assert_eq!(with(provisional), []);
}

#[test]
fn the_floor_is_the_higher_of_built_in_and_manifest_unless_relaxed() {
    let silicon = Machine::default().cpuid;
    let own = Machine::default().tcb;
    let floor = |tcb| Floor { tcb: Some(tcb), ..Floor::of(silicon) };
    let higher = TcbVersion { microcode: own.microcode + 1, ..own };
    assert_eq!(with(|case| case.rules.floors = vec![floor(higher)]), [Check::TcbFloor]);
    assert_eq!(with(|case| case.rules.relax.floors = vec![floor(higher)]), [Check::TcbFloor]);
    let old = TcbVersion { microcode: own.microcode - 1, ..own };
    let old_machine = |rules: fn(&mut AttestationRules, Floor)| {
        let mut case = Case::on(Machine { tcb: old, ..Machine::default() });
        rules(&mut case.rules, floor(old));
        case.judge()
    };
    assert_eq!(old_machine(|_, _| {}), [Check::TcbFloor]);
    assert_eq!(old_machine(|rules, floor| rules.floors = vec![floor]), [Check::TcbFloor]);
    assert_eq!(old_machine(|rules, floor| rules.relax.floors = vec![floor]), []);
    // Silicon that has no floor is refused until somebody gives it one.
    let unlisted = Machine { cpuid: Cpuid { family: 0x19, model: 0x12, stepping: 0 }, ..Machine::default() };
    let mut case = Case::on(unlisted);
    assert_eq!(case.judge(), [Check::TcbFloor]);
    case.rules.floors = vec![Floor { tcb: Some(own), ..Floor::of(unlisted.cpuid) }];
    assert_eq!(case.judge(), []);
}

#[test]
fn row_26_firmware_builds() {
    let least = |build| {
        with(|case| {
            let firmware = Some(FirmwareVersion { major: 1, minor: 55, build });
            case.rules.floors = vec![Floor { firmware, ..Floor::of(Machine::default().cpuid) }];
        })
    };
    assert_eq!(least(50), []);
    assert_eq!(least(51), [Check::FirmwareVersion]);
    // Built in for Genoa: 49, for what runs and for what the host can go back to.
    let built = |current: u8, committed: u8| {
        with(|case| {
            case.fields.current_firmware[0] = current;
            case.fields.committed_firmware[0] = committed;
            case.rules.relax.provisional_firmware = true;
        })
    };
    assert_eq!(built(49, 49), []);
    assert_eq!(built(48, 48), [Check::FirmwareVersion]);
    assert_eq!(built(49, 48), [Check::FirmwareVersion]);
}

#[test]
fn row_27_mitigations_are_sets_of_bits() {
    // Built in for Genoa: bits 0 to 2. The machine has 0 to 3.
    let has = |launch: u64, current: u64| {
        with(|case| (case.fields.launch_mitigations, case.fields.current_mitigations) = (launch, current))
    };
    assert_eq!(has(0x07, 0x07), []);
    // As a number each of these is greater; a bit is missing nevertheless.
    for lacking in [0x0B, 0x0D, 0x0E, 0xFFF8] {
        assert_eq!(has(lacking, 0x0F), [Check::Mitigations], "{lacking:#x} at launch");
        assert_eq!(has(0x0F, lacking), [Check::Mitigations], "{lacking:#x} now");
    }
    let wanted = |bits| {
        with(|case| {
            case.rules.floors =
                vec![Floor { mitigations: Some(bits), ..Floor::of(Machine::default().cpuid) }];
        })
    };
    assert_eq!(wanted(0x08), []);
    assert_eq!(wanted(0x10), [Check::Mitigations]);
    // Of another silicon.
    let others = |case: &mut Case| {
        let silicon = Machine::turin().cpuid;
        case.rules.floors = vec![Floor { mitigations: Some(0x10), ..Floor::of(silicon) }];
    };
    assert_eq!(with(others), []);
    let relaxed = |case: &mut Case| {
        case.relax(|floor| floor.mitigations = Some(0x03));
        case.fields.current_mitigations = 0x03;
    };
    assert_eq!(with(relaxed), []);
}

// Row 28 (one machine posing as several members) is the enclave's matter: `attacks/admission`.

/// What other verifiers once overlooked.
mod holes_found_elsewhere {
    use super::*;

    #[test]
    fn the_chip_id_is_compared_although_the_leaf_is_called_sev_vcek() {
        // Two verifiers compared it only for leaves of another name.
        let other = SoftwarePsp::new(Machine { chip_seed: [9; 32], ..Machine::default() });
        assert_eq!(with(|case| case.vcek.hardware_id = other.chip_id().to_vec()), [Check::ChipId]);
    }

    #[test]
    fn a_missing_hardware_id_does_not_skip_the_check() {
        let failed = with(|case| case.vcek.hardware_id.clear());
        assert!(failed.contains(&Check::Chain) && failed.contains(&Check::ChipId), "{failed:?}");
    }

    #[test]
    fn a_shorter_hardware_id_is_no_prefix_that_fits() {
        let failed = with(|case| {
            case.vcek.hardware_id.truncate(16);
            case.fields.chip_id[16..].fill(0);
        });
        assert!(failed.contains(&Check::Chain) && failed.contains(&Check::ChipId), "{failed:?}");
    }

    #[test]
    fn a_lent_key_does_not_pass_as_a_chips() {
        // The provider's chain, and a report that says VCEK.
        let failed = with(|case| {
            lend(case);
            case.fields.key_flags = 0;
        });
        assert_eq!(failed, [Check::SigningKey]);
        // The provider's leaf under the chips' intermediate, and the other way round.
        let crossed = with(|case| {
            lend(case);
            case.ask = None;
        });
        assert!(crossed.contains(&Check::Chain), "{crossed:?}");
        assert!(with(|case| case.ask = Some(asvk())).contains(&Check::Chain));
    }

    #[test]
    fn a_missing_tcb_part_is_not_zero_and_large_ones_are_read_whole() {
        for number in [1, 2, 3, 4, 8] {
            let failed = with(|case| case.vcek.tcb.retain(|(part, _)| *part != number));
            assert!(failed.contains(&Check::Chain), "{number}: {failed:?}");
        }
        // 0xDB takes two bytes of DER; only the last was read.
        let mut case = Case::on(Machine {
            tcb: TcbVersion { microcode: 0xDB, ..Machine::default().tcb },
            ..Machine::default()
        });
        assert_eq!(case.judge(), []);
        case.vcek.tcb.iter_mut().filter(|(part, _)| *part == 8).for_each(|(_, part)| *part = 0xDA);
        assert_eq!(case.judge(), [Check::LeafTcb]);
    }

    #[test]
    fn stale_lists_are_refused_and_turins_platform_bit_6_is_known() {
        let stale = RevocationList { next_update: Some("261119000000Z".into()), ..RevocationList::default() };
        assert_eq!(with(|case| case.crl = Some(stale)), [Check::Crl]);
        let mut turin = Case::on(Machine { platform_info: 0x65, ..Machine::turin() });
        turin.rules.platform.iommu_write_safe = Rule::Required;
        assert_eq!(turin.judge(), []);
    }

    #[test]
    fn the_leaf_must_equal_the_reported_tcb_and_not_just_stay_below() {
        let failed = with(|case| {
            case.vcek.tcb.iter_mut().filter(|(part, _)| *part == 8).for_each(|(_, part)| *part = 85);
        });
        assert_eq!(failed, [Check::LeafTcb]);
    }

    #[test]
    fn all_64_bytes_of_report_data_count() {
        for place in 32..64 {
            assert_eq!(with(|case| case.fields.report_data[place] ^= 0x80), [Check::ReportData]);
        }
    }

    #[test]
    fn expired_certificates_and_foreign_roots_are_noticed() {
        assert_eq!(with(|case| case.vcek.not_after = "210101000000Z".into()), [Check::Validity]);
        assert_eq!(with(|case| case.anchor = TrustAnchor::custom("none", vec![])), [Check::Chain]);
    }
}
