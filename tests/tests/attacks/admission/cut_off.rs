//! Who is cut off, by what its own secure processor signed; and that nobody else can do that to it.

use super::{
    PROVER, VERIFIER, acquainted, admitted, answered, asked_again, challenged, judged, provers_machine,
    reported_by, show, status,
};
use postern_shared::check::{Check, Decider};
use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, Certificates, PeerMessage};
use postern_shared::policy::{Floor, Revocation};
use postern_shared::snp::{Cpuid, FirmwareVersion};
use postern_shared::wire::{Notice, RefusedMember, Rejection, Reply, Request};
use postern_simulation::{Machine, ReportFields, RevocationList, SoftwarePsp, Vcek, another_ask, asvk};
use postern_tests::cluster::{Cluster, deposit_requested, manifest, pool};
use postern_tests::wallets::next;

#[test]
fn refusals_name_the_member_and_every_check_that_failed() {
    let (mut cluster, mut answer) = challenged();
    let machine = Machine { measurement: [1; 48], ..provers_machine() };
    reported_by(machine, |fields| fields.vmpl = 2)(&mut answer);
    show(&mut cluster, VERIFIER, answer);
    let checks = vec![Check::Vmpl, Check::Measurement];
    let refused = RefusedMember { member: PROVER, checks, cut_off: false };
    assert!(cluster.node(VERIFIER).notices.contains(&Notice::Refused(refused.clone())));
    assert_eq!(status(&mut cluster, VERIFIER).refused, [refused]);
    let honest = asked_again(&mut cluster);
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done);
    assert!(status(&mut cluster, VERIFIER).refused.is_empty());
}

/// An answer to a new challenge, after all were admitted.
fn reattested() -> (Cluster, Attestation) {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    cluster.run(1);
    assert_eq!(cluster.ask(VERIFIER, Request::Reattest(Some(PROVER))), Reply::Done);
    let challenge = cluster.packets.pop_front().expect("a new challenge");
    cluster.deliver(challenge);
    let answer = cluster.packets.pop_front().expect("a new answer");
    cluster.packets.clear();
    match codec::decode(&answer.bytes) {
        Ok(PeerMessage::Evidence(answer)) => (cluster, *answer),
        other => panic!("no evidence: {other:?}"),
    }
}

#[test]
fn a_peer_that_proves_to_be_unacceptable_is_cut_off_at_once() {
    let (mut cluster, mut answer) = reattested();
    reported_by(Machine { measurement: [1; 48], ..provers_machine() }, |_| {})(&mut answer);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence));
    let refused = RefusedMember { member: PROVER, checks: vec![Check::Measurement], cut_off: true };
    assert_eq!(status(&mut cluster, VERIFIER).refused, std::slice::from_ref(&refused));
    assert!(cluster.node(VERIFIER).notices.contains(&Notice::Refused(refused)));
    assert_eq!(admitted(&mut cluster, VERIFIER), [VERIFIER, MemberId(3)]);
    // Nothing that it says counts any more.
    cluster.observe(deposit_requested(1));
    cluster.run(0);
    assert!(cluster.node(VERIFIER).core.keygen(pool(1)).is_none());
    // Bad evidence that anybody could have made does not change that, and good evidence does.
    let waiting = std::mem::take(&mut cluster.packets);
    let mut forged = asked_again(&mut cluster);
    forged.evidence.report[0x2A0] ^= 1;
    show(&mut cluster, VERIFIER, forged);
    assert!(status(&mut cluster, VERIFIER).refused[0].cut_off);
    let honest = asked_again(&mut cluster);
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done);
    cluster.packets.extend(waiting);
    cluster.run(1);
    assert!(cluster.pubkey(pool(1)).is_some());
}

#[test]
fn a_running_keygen_stands_still_when_an_operator_is_cut_off() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    cluster.run(1);
    cluster.observe(deposit_requested(1));
    cluster.remember();
    // All commitments have been exchanged, and nothing else.
    let commits = cluster.packets.split_off(0);
    assert_eq!(cluster.ask(VERIFIER, Request::Reattest(Some(PROVER))), Reply::Done);
    let challenge = cluster.packets.pop_back().expect("a new challenge");
    cluster.packets.clear();
    cluster.deliver(challenge);
    let answer = cluster.packets.pop_front().expect("a new answer");
    let Ok(PeerMessage::Evidence(mut answer)) = codec::decode(&answer.bytes) else { panic!("no evidence") };
    reported_by(provers_machine(), |fields| fields.policy |= 1 << 19)(&mut answer);
    show(&mut cluster, VERIFIER, *answer);
    cluster.packets.clear();
    for packet in commits {
        let reply = cluster.deliver(packet.clone());
        if packet.to == VERIFIER {
            assert_eq!(reply, Reply::Rejected(Rejection::NotAdmitted(PROVER)));
        }
    }
    cluster.remember();
    assert!(cluster.packets.iter().all(|packet| packet.from != VERIFIER), "the verifier deals nothing");
}

/// When the rules of [`strict`] were written: 2026-11-20. Enclaves know that it is not earlier.
const WRITTEN: u64 = 1_795_132_800;

/// A DAO whose rules have something to say to every check.
fn strict() -> Manifest {
    let mut manifest = manifest(3, 2, 2);
    let Machine { cpuid, tcb, .. } = Machine::default();
    let rules = &mut manifest.attestation;
    rules.not_before = WRITTEN;
    let firmware = Some(FirmwareVersion { major: 1, minor: 55, build: 50 });
    rules.floors = vec![Floor { tcb: Some(tcb), firmware, ..Floor::of(cpuid) }];
    manifest
}

type Change = Box<dyn FnOnce(&mut Attestation)>;
type Lie = fn(&mut ReportFields);

/// How a machine itself fails a check, by what it signs; none where it has no say in it.
fn lie_of(check: Check) -> Option<Lie> {
    Some(match check {
        Check::ReportFormat => |fields| fields.version = 6,
        Check::SignatureAlgorithm => |fields| fields.signature_algo = 2,
        Check::Reserved => |fields| fields.policy |= 1 << 26,
        Check::Product => |fields| fields.cpuid = Cpuid { family: 0x19, model: 0x01, stepping: 1 },
        Check::SigningKey => |fields| fields.key_flags = 1 << 1,
        // Behind what is signed: the first byte of `r`.
        Check::ReportSignature => |fields| fields.flips.push((0x2A0, 0x5A)),
        Check::ChipId => |fields| fields.chip_id = [0; 64],
        Check::LeafTcb => |fields| fields.reported_tcb.0[7] -= 1,
        Check::TcbOrder => |fields| fields.current_tcb.0[7] -= 1,
        Check::TcbFloor => |fields| fields.launch_tcb.0[7] -= 1,
        Check::FirmwareVersion => |fields| {
            fields.current_firmware[0] -= 1;
            fields.committed_firmware[0] -= 1;
        },
        Check::FirmwareCommitted => |fields| fields.committed_firmware[0] -= 1,
        Check::Mitigations => |fields| fields.current_mitigations = 2,
        Check::Vmpl => |fields| fields.vmpl = 1,
        Check::GuestPolicy => |fields| fields.policy |= 1 << 19,
        Check::PlatformInfo => |fields| fields.platform_info &= !(1 << 5),
        Check::MigrationAgent => |fields| fields.report_id_ma = [0; 32],
        Check::IdBlock => |fields| fields.id_key_digest = [5; 48],
        Check::Measurement => |fields| fields.measurement[0] ^= 1,
        Check::HostData => |fields| fields.host_data[0] ^= 1,
        Check::ReportData => |fields| fields.report_data[0] ^= 1,
        // The rules would have to become stricter: see `who_no_longer_satisfies_stricter_rules_is_cut_off`.
        Check::GuestSvn => return None,
        // Only with chips that hide: see `one_guest_is_not_two_members`.
        Check::Distinct => return None,
        Check::Chain | Check::Validity | Check::Crl | Check::Revocation => return None,
    })
}

/// All the ways in which somebody that carries the prover's evidence, and has no key of its chip, makes it fail a check.
fn spoilt(check: Check, machine: Machine) -> Vec<Change> {
    let leaf = move |change: fn(&mut Vcek)| -> Change {
        Box::new(move |answer| {
            let mut leaf = SoftwarePsp::new(machine).vcek();
            change(&mut leaf);
            answer.evidence.certificates.leaf = leaf.issue();
        })
    };
    let list = |change: fn(&mut RevocationList)| -> Change {
        Box::new(move |answer| {
            let mut list = RevocationList::default();
            change(&mut list);
            answer.evidence.certificates.crl = Some(list.issue());
        })
    };
    let mut ways: Vec<Change> = match check {
        Check::ReportFormat => vec![
            Box::new(|answer| answer.evidence.report.truncate(1183)),
            Box::new(|answer| answer.evidence.report[0] = 6),
        ],
        Check::SignatureAlgorithm => vec![Box::new(|answer| answer.evidence.report[0x34] = 2)],
        Check::Reserved => vec![Box::new(|answer| answer.evidence.report[0x318] ^= 1)],
        Check::Chain => vec![
            Box::new(|answer| answer.evidence.certificates.leaf.clear()),
            Box::new(|answer| answer.evidence.certificates.ark[100] ^= 1),
            Box::new(|answer| answer.evidence.certificates.ask = asvk()),
        ],
        // Another genuine leaf of the same key.
        Check::Validity => vec![leaf(|leaf| leaf.not_after = "261119235959Z".into())],
        Check::Crl => vec![
            Box::new(|answer| answer.evidence.certificates.crl = Some(vec![1, 2, 3, 4, 5])),
            Box::new(|answer| {
                let mut list = RevocationList::default().issue();
                list.pop();
                answer.evidence.certificates.crl = Some(list);
            }),
            list(|list| list.by_ark = false),
            list(|list| list.version = 0),
            // Genuine, and out of date, whatever it names.
            list(|list| list.next_update = Some("261119235959Z".into())),
            list(|list| {
                list.next_update = Some("261119235959Z".into());
                list.revoked = vec![RevocationList::serial_of_ask()];
            }),
        ],
        // Another genuine intermediate of the same key, which the root has revoked; it is not the prover's.
        Check::Revocation => vec![Box::new(|answer| {
            let list = RevocationList { revoked: vec![vec![42]], ..RevocationList::default() };
            let certificates = &mut answer.evidence.certificates;
            (certificates.ask, certificates.crl) = (another_ask(42), Some(list.issue()));
        })],
        Check::SigningKey => vec![Box::new(move |answer| {
            let certificates = &mut answer.evidence.certificates;
            certificates.leaf = SoftwarePsp::new(machine).vcek().lent_to("a cloud").issue();
            certificates.ask = asvk();
        })],
        Check::ReportSignature => vec![Box::new(|answer| answer.evidence.report[0x2A0] ^= 1)],
        // Another chip will sign anything.
        Check::ChipId => vec![Box::new(reported_by(Machine { chip_seed: [0x99; 32], ..machine }, |_| {}))],
        Check::LeafTcb => vec![leaf(|leaf| leaf.tcb.iter_mut().for_each(|(_, part)| *part = 0))],
        Check::ReportData => vec![Box::new(|answer| answer.response.0[0] ^= 1)],
        _ => Vec::new(),
    };
    if let Some(lie) = lie_of(check) {
        // Signed by another chip, under its own certificates; and written into what the prover has signed.
        ways.push(Box::new(reported_by(Machine { chip_seed: [0x99; 32], ..machine }, lie)));
        ways.push(Box::new(move |answer| {
            let honest = answer.evidence.clone();
            reported_by(machine, lie)(answer);
            answer.evidence.report[0x2A0..].copy_from_slice(&honest.report[0x2A0..]);
            answer.evidence.report[0x2A0] ^= u8::from(check == Check::ReportSignature);
        }));
    }
    ways
}

#[test]
fn whoever_carries_evidence_cuts_nobody_off_by_any_check() {
    let (mut cluster, machine) = acquainted(strict());
    for check in Check::ALL {
        let ways = spoilt(check, machine);
        assert_eq!(ways.is_empty(), matches!(check, Check::GuestSvn | Check::Distinct), "{check}");
        for (number, way) in ways.into_iter().enumerate() {
            let (failed, cut_off) = judged(&mut cluster, way);
            // What is no report is not looked at any further.
            let no_report = failed.contains(&Check::ReportFormat);
            assert!(failed.contains(&check) || no_report, "{check}, {number}: {failed:?}");
            // Genuine certificates and lists: nothing else is wrong.
            let beside = [Check::Validity, Check::Crl, Check::Revocation].contains(&check);
            assert!(!beside || failed == [check], "{check}, {number}: {failed:?}");
            assert!(!cut_off, "{check}, {number}: {failed:?}");
        }
    }
    assert!(status(&mut cluster, VERIFIER).refused.is_empty());
}

#[test]
fn a_prover_is_cut_off_by_each_check_that_it_alone_decides() {
    let (mut cluster, machine) = acquainted(strict());
    for check in Check::ALL {
        let Some(lie) = lie_of(check) else { continue };
        let (failed, cut_off) = judged(&mut cluster, reported_by(machine, lie));
        assert!(failed.contains(&check), "{check}: {failed:?}");
        assert_eq!(cut_off, check.decided_by() == Decider::Prover, "{check}: {failed:?}");
    }
}

#[test]
fn evidence_that_may_be_forged_proves_nothing_by_what_else_is_wrong_with_it() {
    let (mut cluster, machine) = acquainted(strict());
    let (failed, cut_off) = judged(&mut cluster, |answer| {
        reported_by(machine, |fields| fields.vmpl = 1)(answer);
        answer.evidence.certificates.crl = Some(vec![0]);
    });
    assert_eq!((failed, cut_off), (vec![Check::Crl, Check::Vmpl], false));
}

#[test]
fn who_is_known_by_a_certificate_that_the_root_revokes_is_cut_off_by_its_list() {
    let (mut cluster, _) = acquainted(strict());
    let named =
        RevocationList { revoked: vec![RevocationList::serial_of_ask()], ..RevocationList::default() };
    let with_list = |answer: &mut Attestation| answer.evidence.certificates.crl = Some(named.issue());
    assert_eq!(judged(&mut cluster, with_list), (vec![Check::Revocation], true));
    // With a certificate that is spoilt too it proves nothing.
    let spoilt = |answer: &mut Attestation| {
        with_list(answer);
        answer.evidence.report[0x90] ^= 1;
    };
    assert!(!judged(&mut cluster, spoilt).1);
}

#[test]
fn a_list_that_is_dropped_on_the_way_cuts_nobody_off() {
    let (mut cluster, _) = acquainted(strict());
    for id in cluster.ids() {
        let list = Some(RevocationList::default().issue());
        let certificates = Certificates { crl: list, ..cluster.node(id).certificates() };
        assert_eq!(cluster.ask(id, Request::Renew(certificates)), Reply::Done);
    }
    let second = next(&cluster.manifest, |manifest| manifest.attestation.revocation = Revocation::Required);
    cluster.amend(&second);
    // Those who were admitted without a list show one now.
    cluster.run(2);
    let stripped = judged(&mut cluster, |answer| answer.evidence.certificates.crl = None);
    assert_eq!(stripped, (vec![Check::Crl], false));
}

#[test]
fn who_no_longer_satisfies_stricter_rules_is_cut_off() {
    let (mut cluster, machine) = acquainted(strict());
    let second = next(&cluster.manifest, |manifest| manifest.attestation.guest_svn = 1);
    cluster.amend(&second);
    // By what it has shown before; so is the third one.
    let refused = |member| RefusedMember { member, checks: vec![Check::GuestSvn], cut_off: true };
    assert_eq!(status(&mut cluster, VERIFIER).refused, [PROVER, MemberId(3)].map(refused));
    // What it shows now changes nothing.
    let answer = asked_again(&mut cluster);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence));
    assert_eq!(status(&mut cluster, VERIFIER).refused, [PROVER, MemberId(3)].map(refused));
    // Another chip that says so proves nothing against a member.
    let mut answer = asked_again(&mut cluster);
    reported_by(machine, |fields| fields.guest_svn = 1)(&mut answer);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Done);
    cluster.ask(PROVER, Request::Tick);
    cluster.packets.clear();
    cluster.ask(VERIFIER, Request::Reattest(Some(PROVER)));
    let mut answer = answered(&mut cluster);
    reported_by(Machine { chip_seed: [0x99; 32], ..machine }, |_| {})(&mut answer);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence));
    assert!(admitted(&mut cluster, VERIFIER).contains(&PROVER));
}

#[test]
fn nobody_can_cut_off_a_peer_in_another_name() {
    let (mut cluster, _) = acquainted(manifest(3, 2, 2));
    cluster.ask(PROVER, Request::Tick);
    cluster.packets.clear();
    cluster.ask(VERIFIER, Request::Reattest(Some(PROVER)));
    let mut answer = answered(&mut cluster);
    answer.identity.signing.0[0] ^= 1;
    let refused = Reply::Rejected(Rejection::OtherEnclave(PROVER));
    assert_eq!(show(&mut cluster, VERIFIER, answer), refused);
    assert!(admitted(&mut cluster, VERIFIER).contains(&PROVER));
}

#[test]
fn two_hundred_bad_answers_of_a_member_that_is_cut_off_seal_one_record() {
    let (mut cluster, machine) = acquainted(manifest(3, 2, 2));
    let records = cluster.node(VERIFIER).records.len();
    let notices = cluster.node(VERIFIER).notices.len();
    cluster.ask(PROVER, Request::Tick);
    cluster.packets.clear();
    cluster.ask(VERIFIER, Request::Reattest(Some(PROVER)));
    let mut answer = answered(&mut cluster);
    for round in 0..200 {
        let lie: Lie = |fields| fields.vmpl = 1;
        reported_by(machine, lie)(&mut answer);
        assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence), "{round}");
        answer = asked_again(&mut cluster);
    }
    let node = cluster.node(VERIFIER);
    assert_eq!(node.records.len() - records, 1);
    assert_eq!(node.notices.len() - notices, 1, "{:?}", &node.notices[notices..]);
    // Other failures are told, and not sealed.
    reported_by(machine, |fields| fields.policy |= 1 << 19)(&mut answer);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence));
    let refused = RefusedMember { member: PROVER, checks: vec![Check::GuestPolicy], cut_off: true };
    assert_eq!(cluster.node(VERIFIER).notices.last(), Some(&Notice::Refused(refused)));
    assert_eq!(cluster.node(VERIFIER).records.len() - records, 1);
    let honest = asked_again(&mut cluster);
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done, "and good evidence still lets it in");
}
