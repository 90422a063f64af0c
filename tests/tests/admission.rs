//! Enclaves talk only to enclaves whose evidence they have verified against the manifest, freshly (invariant I4).

use postern_attestation::{Binding, Launch, ReportData, Time, Verifier};
use postern_enclave::coins::Coins;
use postern_enclave::core::Core;
use postern_enclave::keys::IdentityKeys;
use postern_enclave::platform::{Platform, PlatformError};
use postern_shared::bls::PublicKey;
use postern_shared::check::{Check, Decider};
use postern_shared::codec;
use postern_shared::identity::Identity;
use postern_shared::ids::{Digest, MemberId, Nonce};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, Certificates, Challenge, Evidence, PeerMessage};
use postern_shared::policy::{Revocation, TcbFloor, Trust};
use postern_shared::snp::{Cpuid, FirmwareVersion};
use postern_shared::wire::{
    Notice, Output, Recipient, RefusedMember, Rejection, Reply, Request, Standing, Status,
};
use postern_simulation::{Machine, ReportFields, RevocationList, SoftwarePsp, Vcek, another_ask, asvk};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, manifest, pool};
use postern_tests::wallets::next;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeroize::Zeroizing;

const VERIFIER: MemberId = MemberId(1);
const PROVER: MemberId = MemberId(2);

/// A DAO in which only challenges have been exchanged so far: the prover's answer is made, and not delivered.
fn challenged() -> (Cluster, Attestation) {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    let challenge = cluster
        .packets
        .iter()
        .find(|packet| packet.from == VERIFIER && packet.to == PROVER)
        .expect("the verifier challenges")
        .clone();
    cluster.packets.clear();
    cluster.deliver(challenge);
    let answer = cluster
        .packets
        .iter()
        .find_map(|packet| match codec::decode(&packet.bytes) {
            Ok(PeerMessage::Evidence(answer)) => Some(*answer),
            _ => None,
        })
        .expect("the prover answers");
    cluster.packets.clear();
    (cluster, answer)
}

fn show(cluster: &mut Cluster, to: MemberId, answer: Attestation) -> Reply {
    cluster.ask(to, Request::Deliver(codec::encode(&PeerMessage::Evidence(Box::new(answer)))))
}

/// After a tick the verifier asks again, by itself: the prover's answer.
fn asked_again(cluster: &mut Cluster) -> Attestation {
    cluster.packets.clear();
    cluster.ask(PROVER, Request::Tick);
    cluster.packets.clear();
    cluster.ask(VERIFIER, Request::Tick);
    answered(cluster)
}

/// The prover's answer to the verifier's challenge that is on its way; all else that is on its way is lost.
fn answered(cluster: &mut Cluster) -> Attestation {
    let is_challenge = |packet: &Packet| {
        (packet.from, packet.to) == (VERIFIER, PROVER)
            && matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Challenge(_)))
    };
    let challenge = cluster.packets.iter().find(|packet| is_challenge(packet)).expect("a challenge").clone();
    cluster.packets.clear();
    assert_eq!(cluster.deliver(challenge), Reply::Done);
    let mut packets = std::mem::take(&mut cluster.packets).into_iter();
    let answer = packets.find_map(|packet| match codec::decode(&packet.bytes) {
        Ok(PeerMessage::Evidence(answer)) => Some(*answer),
        _ => None,
    });
    answer.expect("an answer")
}

fn status(cluster: &mut Cluster, id: MemberId) -> Status {
    match cluster.ask(id, Request::Status) {
        Reply::Status(status) => *status,
        other => panic!("no status: {other:?}"),
    }
}

fn admitted(cluster: &mut Cluster, id: MemberId) -> Vec<MemberId> {
    status(cluster, id).admitted
}

#[track_caller]
fn assert_refused(change: impl FnOnce(&mut Attestation), expected: Rejection) {
    let (mut cluster, honest) = challenged();
    let mut answer = honest.clone();
    change(&mut answer);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(expected));
    assert_eq!(admitted(&mut cluster, VERIFIER), [VERIFIER], "nobody was let in");
    if matches!(expected, Rejection::Evidence | Rejection::Malformed) {
        assert_eq!(
            show(&mut cluster, VERIFIER, honest),
            Reply::Rejected(Rejection::StaleEvidence),
            "one question is good for one look at an answer"
        );
        let honest = asked_again(&mut cluster);
        assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done, "an honest answer still counts");
    } else {
        assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done, "the honest answer still counts");
    }
    assert_eq!(admitted(&mut cluster, VERIFIER), [VERIFIER, PROVER]);
}

/// The prover's answer, but reported by another machine, or by its own with other fields.
fn reported_by(
    machine: Machine,
    tamper: impl FnMut(&mut ReportFields) + Send + 'static,
) -> impl FnOnce(&mut Attestation) {
    move |answer| {
        let data = ReportData(report_data_of(&answer.evidence.report));
        let mut psp = SoftwarePsp::new(machine).tamper(tamper);
        answer.evidence.report = psp.report(&data).expect("a report");
        answer.evidence.certificates = psp.certificates();
    }
}

fn report_data_of(report: &[u8]) -> [u8; 64] {
    report[0x50..0x90].try_into().expect("64 bytes")
}

fn provers_machine() -> Machine {
    Cluster::launch(manifest(3, 2, 2), 5).node(PROVER).machine
}

#[test]
fn evidence_of_another_chip_code_or_dao_is_refused() {
    let machine = provers_machine();
    assert_refused(reported_by(Machine { chip_seed: [0x99; 32], ..machine }, |_| {}), Rejection::Evidence);
    assert_refused(reported_by(Machine { measurement: [1; 48], ..machine }, |_| {}), Rejection::Evidence);
    assert_refused(reported_by(Machine { host_data: [1; 32], ..machine }, |_| {}), Rejection::Evidence);
}

#[test]
fn a_debuggable_guest_or_one_beside_the_measured_code_is_refused() {
    let machine = provers_machine();
    assert_refused(reported_by(machine, |fields| fields.policy |= 1 << 19), Rejection::Evidence);
    assert_refused(reported_by(machine, |fields| fields.vmpl = 1), Rejection::Evidence);
    assert_refused(reported_by(machine, |fields| fields.version = 6), Rejection::Evidence);
}

#[test]
fn altered_or_missing_evidence_is_refused() {
    assert_refused(|answer| answer.evidence.report[0x90] ^= 1, Rejection::Evidence);
    assert_refused(|answer| answer.evidence.report.truncate(1183), Rejection::Evidence);
    assert_refused(|answer| answer.evidence.report.clear(), Rejection::Evidence);
    assert_refused(|answer| answer.evidence.certificates.leaf.clear(), Rejection::Evidence);
    assert_refused(|answer| answer.evidence.certificates.ark[100] ^= 1, Rejection::Evidence);
}

#[test]
fn other_keys_under_the_same_evidence_are_refused() {
    let keys = Cluster::launch(manifest(3, 2, 2), 6).node(PROVER).keys();
    let other = *keys.identity();
    let refused = Rejection::OtherEnclave(PROVER);
    assert_refused(|answer| answer.identity.signing = other.signing, refused);
    assert_refused(|answer| answer.identity.agreement = other.agreement, refused);
    assert_refused(|answer| answer.identity.dealing = other.dealing, refused);
    assert_refused(|answer| answer.identity.machine = 1, refused);
    let no_point = PublicKey([0; 48]);
    assert_refused(|answer| answer.identity.dealing = no_point, refused);
}

#[test]
fn evidence_must_answer_the_open_challenge_and_be_meant_for_the_verifier() {
    let (cluster, _) = challenged();
    let (verifier, prover) =
        (*cluster.node(VERIFIER).keys().identity(), *cluster.node(PROVER).keys().identity());
    let third = *cluster.node(MemberId(3)).keys().identity();
    assert_refused(|answer| answer.challenge = Nonce([7; 32]), Rejection::StaleEvidence);
    for member in [3, 9].map(MemberId) {
        assert_refused(|answer| answer.identity.member = member, Rejection::OtherEnclave(member));
    }
    assert_refused(|answer| answer.response = Nonce([7; 32]), Rejection::Evidence);
    // Meant for another, for anybody, for the prover itself.
    for other in [Some(third), None, Some(prover)] {
        assert_refused(|answer| answer.verifier = other, Rejection::Misdirected);
    }
    // The verifier's own identity, mirrored.
    assert_refused(|answer| answer.identity = verifier, Rejection::Misdirected);
    assert_refused(
        |answer| (answer.identity, answer.verifier) = (verifier, Some(answer.identity)),
        Rejection::Misdirected,
    );
}

#[test]
fn mirrored_evidence_is_refused() {
    // The host reflects the verifier's challenge back at it, as if the prover had asked, and shows it its own answer.
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    let challenge = cluster
        .packets
        .iter()
        .find_map(|packet| match codec::decode(&packet.bytes) {
            Ok(PeerMessage::Challenge(challenge)) if challenge.to == PROVER => Some(challenge),
            _ => None,
        })
        .expect("the verifier challenges");
    let mut mirrored = challenge;
    (mirrored.from.member, mirrored.to) = (PROVER, VERIFIER);
    cluster.packets.clear();
    let ask = |cluster: &mut Cluster, challenge| {
        cluster.ask(VERIFIER, Request::Deliver(codec::encode(&PeerMessage::Challenge(challenge))))
    };
    assert_eq!(ask(&mut cluster, mirrored), Reply::Rejected(Rejection::NotAuthentic));
    // Nor does it prove anything if the prover itself asks the same.
    let mirrored =
        cluster.node(PROVER).keys().sign_challenge(cluster.manifest.genesis(), VERIFIER, challenge.nonce);
    assert_eq!(ask(&mut cluster, mirrored), Reply::Done);
    let own = cluster.packets.iter().find_map(|packet| match codec::decode(&packet.bytes) {
        Ok(PeerMessage::Evidence(answer)) => Some(*answer),
        _ => None,
    });
    let own: Attestation = own.expect("it proves who it is to whoever asks");
    for (identity, verifier) in [
        (own.identity, own.verifier),
        (mirrored.from, Some(own.identity)),
        (own.identity, Some(own.identity)),
    ] {
        let shown = Attestation { identity, verifier, ..own.clone() };
        assert!(matches!(show(&mut cluster, VERIFIER, shown), Reply::Rejected(_)));
    }
    assert_eq!(admitted(&mut cluster, VERIFIER), [VERIFIER]);
}

#[test]
fn evidence_is_good_once_and_for_one_verifier() {
    let (mut cluster, answer) = challenged();
    assert_eq!(show(&mut cluster, VERIFIER, answer.clone()), Reply::Done);
    assert_eq!(show(&mut cluster, VERIFIER, answer.clone()), Reply::Done, "a duplicate is harmless");
    // To another verifier it was never addressed, and its challenge is another.
    let third = *cluster.node(MemberId(3)).keys().identity();
    let redirected = Attestation { verifier: Some(third), ..answer.clone() };
    assert_eq!(show(&mut cluster, MemberId(3), redirected), Reply::Rejected(Rejection::StaleEvidence));
    // A verifier that was restored remembers it, and is told nothing new by it: it asks again.
    cluster.crash(VERIFIER, 1);
    assert_eq!(show(&mut cluster, VERIFIER, answer.clone()), Reply::Done);
    let asked = |packet: &Packet| {
        packet.to == PROVER && matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Challenge(_)))
    };
    cluster.packets.clear();
    cluster.ask(VERIFIER, Request::Tick);
    assert!(cluster.packets.iter().any(asked), "the prover has not proved itself to this launch");
}

#[test]
fn a_peer_keeps_its_identity_when_it_is_restored_and_proves_itself_anew() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    cluster.run(1);
    let identity = *cluster.node(PROVER).keys().identity();
    let before = cluster.node(VERIFIER).notices.len();
    cluster.crash(PROVER, 1);
    cluster.run(1);
    assert!(
        cluster.node(VERIFIER).notices[before..].contains(&Notice::Admitted(PROVER)),
        "on fresh evidence"
    );
    cluster.observe(deposit_requested(1));
    cluster.run(1);
    assert!(cluster.pubkey(pool(1)).is_some(), "the DAO goes on with it");
    let transcript = cluster.node(VERIFIER).transcripts().next().expect("a transcript");
    assert!(transcript.roster().iter().any(|attested| attested.identity == identity));
}

#[test]
fn a_member_has_one_enclave_however_well_measured_another_is() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    cluster.run(1);
    let identity = *cluster.node(PROVER).keys().identity();
    cluster.launch_anew(PROVER, 1);
    assert_ne!(*cluster.node(PROVER).keys().identity(), identity);
    while let Some(packet) = cluster.packets.pop_front() {
        let evidence = matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Evidence(_)));
        let reply = cluster.ask(packet.to, Request::Deliver(packet.bytes));
        if evidence && packet.from == PROVER {
            assert_eq!(reply, Reply::Rejected(Rejection::OtherEnclave(PROVER)));
        }
    }
    assert_eq!(cluster.node(VERIFIER).core.enclave(PROVER), Some(&identity));
}

#[test]
fn nothing_is_said_to_members_that_are_not_admitted() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    // Member 3's evidence never arrives anywhere.
    let mut held: Vec<Packet> = Vec::new();
    cluster.observe(deposit_requested(1));
    while let Some(packet) = cluster.packets.pop_front() {
        if packet.from == MemberId(3) {
            held.push(packet);
        } else {
            cluster.deliver(packet);
        }
    }
    assert!(
        cluster.node(VERIFIER).core.keygen(pool(1)).is_none(),
        "no ceremony without all operators admitted"
    );
    held.into_iter().for_each(|packet| cluster.packets.push_back(packet));
    cluster.run(1);
    assert!(cluster.pubkey(pool(1)).is_some());
}

/// A core on a machine, not started yet.
fn fresh(machine: Machine) -> (Core<SoftwarePsp>, Certificates) {
    let psp = SoftwarePsp::new(machine);
    let certificates = psp.certificates();
    (Core::new(psp), certificates)
}

fn start(
    core: &mut Core<impl Platform>,
    manifest: &Manifest,
    member: MemberId,
    certificates: &Certificates,
) -> Reply {
    let manifest = manifest.to_canonical();
    core.handle(Request::Start { manifest, epochs: Vec::new(), member, certificates: certificates.clone() })
        .reply
}

#[test]
fn an_enclave_starts_only_for_the_dao_chip_and_root_that_it_was_launched_for() {
    let good = manifest(3, 2, 2);
    let machine = provers_machine();
    let (mut core, certificates) = fresh(machine);
    assert_eq!(core.handle(Request::Tick).reply, Reply::Rejected(Rejection::NotStarted));
    let mut other = good.clone();
    other.name = "another DAO".into();
    assert_eq!(start(&mut core, &other, PROVER, &certificates), Reply::Rejected(Rejection::OwnEvidence));
    assert_eq!(start(&mut core, &good, MemberId(3), &certificates), Reply::Rejected(Rejection::OwnEvidence));
    let stranger = MemberId(4);
    assert_eq!(
        start(&mut core, &good, stranger, &certificates),
        Reply::Rejected(Rejection::NotAMember(stranger))
    );
    let mut amd = good.clone();
    amd.attestation.trust = Trust::Amd;
    assert_eq!(start(&mut core, &amd, PROVER, &certificates), Reply::Rejected(Rejection::WrongTrust));
    let mut another_root = good.clone();
    another_root.attestation.trust = Trust::Simulation { root: Digest([1; 32]) };
    assert_eq!(
        start(&mut core, &another_root, PROVER, &certificates),
        Reply::Rejected(Rejection::WrongTrust)
    );
    let garbage = Request::Start {
        manifest: vec![1, 2, 3],
        epochs: Vec::new(),
        member: PROVER,
        certificates: certificates.clone(),
    };
    assert_eq!(core.handle(garbage).reply, Reply::Rejected(Rejection::InvalidManifest));
    // None of this has left a trace.
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Done);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Done, "the same again is harmless");
    assert_eq!(start(&mut core, &other, PROVER, &certificates), Reply::Rejected(Rejection::StartedOtherwise));
    assert_eq!(
        start(&mut core, &good, MemberId(3), &certificates),
        Reply::Rejected(Rejection::StartedOtherwise)
    );
}

#[test]
fn an_enclave_whose_own_report_would_not_do_does_not_start() {
    let good = manifest(3, 2, 2);
    let debuggable = SoftwarePsp::new(provers_machine()).tamper(|fields| fields.policy |= 1 << 19);
    let certificates = debuggable.certificates();
    let mut core = Core::new(debuggable);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Rejected(Rejection::OwnEvidence));
    let mut silent = SoftwarePsp::new(provers_machine());
    silent.refuse_reports(Some(0x15));
    assert_eq!(silent.report(&ReportData([0; 64])), Err(PlatformError::Report { status: 0x15 }));
    let mut core = Core::new(silent);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Rejected(Rejection::Platform));
}

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
    rules.mitigations = 1;
    let firmware = Some(FirmwareVersion { major: 1, minor: 55, build: 49 });
    rules.tcb_floors = vec![TcbFloor { silicon: cpuid, tcb, firmware }];
    manifest
}

/// All are admitted; the prover's machine.
fn acquainted(manifest: Manifest) -> (Cluster, Machine) {
    let mut cluster = Cluster::launch(manifest, 5);
    cluster.run(1);
    let machine = cluster.node(PROVER).machine;
    (cluster, machine)
}

/// Asks for the prover's evidence, and lets `change` happen to it on its way. Gives what the verifier finds wrong with it,
/// and whether it cuts the prover off. Afterwards all is as before, by honest evidence.
fn judged(cluster: &mut Cluster, change: impl FnOnce(&mut Attestation)) -> (Vec<Check>, bool) {
    cluster.ask(PROVER, Request::Tick);
    cluster.packets.clear();
    assert_eq!(cluster.ask(VERIFIER, Request::Reattest(Some(PROVER))), Reply::Done);
    let mut answer = answered(cluster);
    change(&mut answer);
    let before = cluster.node(VERIFIER).notices.len();
    assert_eq!(show(cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence));
    let found = cluster.node(VERIFIER).notices[before..].iter().find_map(|notice| match notice {
        Notice::Refused(refused) => Some(refused.clone()),
        _ => None,
    });
    let RefusedMember { member, checks, cut_off } = found.expect("a refusal");
    assert_eq!(member, PROVER);
    assert_eq!(admitted(cluster, VERIFIER).contains(&PROVER), !cut_off);
    let honest = asked_again(cluster);
    assert_eq!(show(cluster, VERIFIER, honest), Reply::Done);
    assert!(admitted(cluster, VERIFIER).contains(&PROVER));
    (checks, cut_off)
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
    let epoch = cluster.sign(&second);
    assert_eq!(cluster.ask(VERIFIER, Request::Amend(epoch)), Reply::Done);
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

/// The id of the guest that a machine reports.
fn report_id(machine: Machine) -> [u8; 32] {
    let report = SoftwarePsp::new(machine).report(&ReportData([0; 64])).expect("a report");
    report[0x140..0x160].try_into().expect("32 bytes")
}

#[test]
fn one_guest_is_not_two_members() {
    let mut hidden = manifest(3, 2, 2);
    hidden.attestation.relax.masked_chip_id = true;
    let (mut cluster, machine) = acquainted(hidden);
    let copied = report_id(cluster.node(VERIFIER).machine);
    let copy = move |fields: &mut ReportFields| {
        (fields.report_id, fields.chip_id) = (copied, [0; 64]);
    };
    // Where chips hide it may be one guest, and it may be a broken chip's copy: that proves nothing against anybody.
    assert_eq!(judged(&mut cluster, reported_by(machine, copy)), (vec![Check::Distinct], false));
    // Nobody is let in by it.
    cluster.replace(VERIFIER, 0);
    cluster.packets.clear();
    let mut answer = asked_again(&mut cluster);
    reported_by(machine, copy)(&mut answer);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence));
    assert_eq!(admitted(&mut cluster, VERIFIER), [VERIFIER]);
}

#[test]
fn a_broken_chip_keeps_no_other_member_out_by_copying_its_report_id() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    cluster.packets.clear();
    let (honest, broken) = (MemberId(3), PROVER);
    let copied = report_id(cluster.node(honest).machine);
    let machine = cluster.node(broken).machine;
    let mut answer = asked_again(&mut cluster);
    reported_by(machine, move |fields| fields.report_id = copied)(&mut answer);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Done, "it is another chip's guest");
    cluster.run(1);
    assert_eq!(admitted(&mut cluster, VERIFIER), [VERIFIER, broken, honest]);
}

#[test]
fn a_question_is_good_for_one_look_and_the_next_tick_asks_another() {
    let (mut cluster, _) = acquainted(manifest(3, 2, 2));
    cluster.ask(PROVER, Request::Tick);
    cluster.packets.clear();
    cluster.ask(VERIFIER, Request::Reattest(Some(PROVER)));
    let honest = answered(&mut cluster);
    let mut spoilt = honest.clone();
    spoilt.evidence.certificates.crl = Some(vec![1, 2, 3, 4, 5]);
    assert_eq!(show(&mut cluster, VERIFIER, spoilt.clone()), Reply::Rejected(Rejection::Evidence));
    let stale = Reply::Rejected(Rejection::StaleEvidence);
    assert_eq!(show(&mut cluster, VERIFIER, spoilt), stale);
    assert_eq!(show(&mut cluster, VERIFIER, honest.clone()), stale);
    // It is admitted and has proved itself before; it is asked nevertheless.
    let again = asked_again(&mut cluster);
    assert_ne!(again.challenge, honest.challenge);
    assert_eq!(show(&mut cluster, VERIFIER, again), Reply::Done);
    cluster.packets.clear();
    cluster.ask(VERIFIER, Request::Tick);
    assert!(cluster.packets.is_empty(), "then no more");
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

/// Member 1's enclave by itself, whose processor counts its reports; member 2's is admitted to it.
struct Counted {
    core: Core<SoftwarePsp>,
    reports: Arc<AtomicUsize>,
    cluster: Cluster,
}

impl Counted {
    fn launch() -> Self {
        let cluster = Cluster::launch_candidates(manifest(3, 2, 2), 5, None);
        let reports = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reports);
        let psp = SoftwarePsp::new(cluster.node(VERIFIER).machine).seeded([9; 32]);
        let psp = psp.tamper(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let certificates = psp.certificates();
        let mut counted = Self { core: Core::new(psp), reports, cluster };
        let manifest = counted.cluster.manifest.to_canonical();
        let (reply, _) =
            counted.ask(Request::Start { manifest, epochs: Vec::new(), member: VERIFIER, certificates });
        assert_eq!(reply, Reply::Done);
        // This one is the member's.
        let (Reply::Status(status), _) = counted.ask(Request::Status) else { panic!("no status") };
        let mut founding = counted.cluster.founding();
        founding.members[usize::from(VERIFIER.0) - 1].enclave = status.identity.map(|own| own.keys());
        counted.cluster.amend(&founding);
        let epoch = counted.cluster.epochs[0].clone();
        let (reply, sent) = counted.ask(Request::Amend(epoch));
        assert_eq!(reply, Reply::Done);
        let challenge = sent.into_iter().find_map(|(to, message)| match message {
            PeerMessage::Challenge(challenge) if to == Recipient::One(PROVER) => Some(challenge),
            _ => None,
        });
        let challenge = PeerMessage::Challenge(challenge.expect("a challenge"));
        counted.cluster.packets.clear();
        counted.cluster.ask(PROVER, Request::Deliver(codec::encode(&challenge)));
        let mut packets = std::mem::take(&mut counted.cluster.packets).into_iter();
        let is_evidence = |bytes: &[u8]| matches!(codec::decode(bytes), Ok(PeerMessage::Evidence(_)));
        let answer = packets.find(|packet| is_evidence(&packet.bytes)).expect("an answer");
        assert_eq!(counted.ask(Request::Deliver(answer.bytes)).0, Reply::Done);
        counted.ask(Request::Tick);
        counted
    }

    /// Asks, and gives what is sent because of it.
    fn ask(&mut self, request: Request) -> (Reply, Vec<(Recipient, PeerMessage)>) {
        let response = self.core.handle(request);
        if let Some(last) = response.outputs.last() {
            self.core.handle(Request::Acknowledge(last.sequence));
        }
        let sent = response.outputs.into_iter().filter_map(|numbered| match numbered.output {
            Output::Send { to, message } => Some((to, codec::decode(&message).expect("a message"))),
            _ => None,
        });
        (response.reply, sent.collect())
    }

    /// Delivers the prover's challenges; gives what came of them, and the last reply.
    fn flood(&mut self, challenges: impl Iterator<Item = Challenge>) -> (Cost, Reply) {
        let before = self.reports.load(Ordering::Relaxed);
        let (mut cost, mut last) = (Cost::default(), Reply::Done);
        for challenge in challenges {
            let message = codec::encode(&PeerMessage::Challenge(challenge));
            let (reply, sent) = self.ask(Request::Deliver(message));
            for (to, _) in sent {
                let count = if to == Recipient::One(PROVER) { &mut cost.back } else { &mut cost.to_others };
                *count += 1;
            }
            last = reply;
        }
        cost.reports = self.reports.load(Ordering::Relaxed) - before;
        (cost, last)
    }
}

/// What messages made an enclave do: reports, and what it sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cost {
    reports: usize,
    back: usize,
    to_others: usize,
}

fn nonce(number: u32) -> Nonce {
    let mut nonce = [0x77; 32];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    Nonce(nonce)
}

fn made_up(number: u32, member: MemberId) -> IdentityKeys {
    IdentityKeys::derive(&Coins::new(Zeroizing::new(nonce(number).0)), member, 0)
}

#[test]
fn a_member_makes_no_other_enclave_report_for_a_third_one_or_often_for_itself() {
    let mut counted = Counted::launch();
    let dao = counted.cluster.manifest.genesis();
    let (own, third) = (counted.cluster.node(PROVER).keys(), counted.cluster.node(MemberId(3)).keys());
    // In the third one's name: it would be sent evidence.
    let forged = |number| {
        let challenge = own.sign_challenge(dao, VERIFIER, nonce(number));
        Challenge { from: *third.identity(), ..challenge }
    };
    let not_authentic = Reply::Rejected(Rejection::NotAuthentic);
    let nothing = Cost::default;
    assert_eq!(counted.flood((0..4_000).map(forged)), (nothing(), not_authentic.clone()));
    // In its own name.
    let too_often = Reply::Rejected(Rejection::TooOften);
    let asked = |number| own.sign_challenge(dao, VERIFIER, nonce(number));
    let one = || Cost { reports: 1, back: 1, to_others: 0 };
    assert_eq!(counted.flood((0..3_000).map(asked)), (one(), too_often.clone()));
    // With keys that it makes up: one is answered, like its own after it was launched again; and is asked itself.
    let other = |number| made_up(number % 7, PROVER).sign_challenge(dao, VERIFIER, nonce(number));
    assert_eq!(counted.flood((0..2_000).map(other)), (Cost { back: 2, ..one() }, too_often));
    // The same again, which was answered.
    assert_eq!(counted.flood((0..1_000).map(|_| asked(0))), (nothing(), Reply::Done));
    // After a tick what was asked before is answered by what was reported before, and anything else by a new report.
    counted.ask(Request::Tick);
    assert_eq!(counted.flood((0..100).map(|_| asked(0))), (Cost { reports: 0, ..one() }, Reply::Done));
    counted.ask(Request::Tick);
    assert_eq!(counted.flood([asked(5_000)].into_iter()), (one(), Reply::Done));
    // Without a right signature nothing is.
    let altered = |number| Challenge { nonce: nonce(number + 1), ..asked(number) };
    counted.ask(Request::Tick);
    assert_eq!(counted.flood((0..10).map(altered)), (nothing(), not_authentic));
}

/// Puts ahead of everything that is on its way what a member's host makes up in all others' names.
fn flood(cluster: &mut Cluster, flooding: MemberId, first: u32) {
    let (dao, keys) = (cluster.manifest.genesis(), cluster.node(flooding).keys());
    let identities: Vec<Identity> = cluster.nodes.iter().map(|node| *node.keys().identity()).collect();
    for number in first..first + 10 {
        for (name, to) in identities.iter().flat_map(|name| identities.iter().map(move |to| (name, to))) {
            if name.member == to.member || name.member == flooding || to.member == flooding {
                continue;
            }
            let other = made_up(number, name.member);
            let evidence = Attestation {
                identity: *other.identity(),
                verifier: Some(*to),
                challenge: nonce(number),
                response: nonce(number),
                evidence: Evidence {
                    report: vec![0; 1184],
                    certificates: cluster.node(to.member).certificates(),
                },
            };
            for message in [
                PeerMessage::Challenge(other.sign_challenge(dao, to.member, nonce(number))),
                PeerMessage::Challenge(Challenge {
                    from: *name,
                    ..keys.sign_challenge(dao, to.member, nonce(number))
                }),
                PeerMessage::Evidence(Box::new(evidence)),
            ] {
                let bytes = codec::encode(&message);
                cluster.packets.push_front(Packet { from: flooding, to: to.member, bytes });
            }
        }
    }
}

#[test]
fn an_enclave_that_starts_again_is_admitted_by_all_while_another_floods_in_its_name() {
    let (flooding, victim) = (MemberId(4), PROVER);
    for is_new_machine in [false, true] {
        let mut cluster = Cluster::launch(manifest(4, 2, 2), 5);
        cluster.run(2);
        let before: Vec<usize> = cluster.nodes.iter().map(|node| node.notices.len()).collect();
        if is_new_machine {
            cluster.replace(victim, 9);
        } else {
            cluster.crash(victim, 1);
        }
        for round in 0..5 {
            for id in cluster.ids() {
                cluster.ask(id, Request::Tick);
            }
            flood(&mut cluster, flooding, round * 1_000);
            cluster.run(0);
        }
        assert_eq!(status(&mut cluster, victim).standing, Standing::Acting, "{is_new_machine}");
        for id in [1, 3].map(MemberId) {
            let since = before[usize::from(id.0) - 1];
            let admitted = &cluster.node(id).notices[since..];
            assert!(admitted.contains(&Notice::Admitted(victim)), "{id}, {is_new_machine}");
            let identity = *cluster.node(victim).keys().identity();
            assert_eq!(cluster.node(id).core.enclave(victim), Some(&identity));
        }
    }
}

#[test]
fn who_is_no_enclave_gets_evidence_that_admits_nowhere() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    cluster.packets.clear();
    let challenge = Nonce([0x42; 32]);
    let Reply::Attestation(shown) = cluster.ask(PROVER, Request::Attest(challenge)) else {
        panic!("no attestation")
    };
    let manifest = cluster.manifest.clone();
    let chip_ids = &manifest.member(PROVER).expect("a member").chip_ids;
    let launch = Launch { epoch: 1, host_data: manifest.genesis().0, chip_ids };
    let rules = manifest.attestation.clone();
    let mut verifier = Verifier::new(postern_simulation::trust_anchor(), rules, Time::NotBefore(0));
    let report_data = Binding::of(manifest.genesis(), &shown).report_data();
    assert_eq!(shown.challenge, challenge);
    verifier.verify(&shown.evidence, &launch, &report_data).expect("an auditor is convinced");
    let own = *cluster.node(VERIFIER).keys().identity();
    for verifier in [None, Some(own)] {
        let answer = Attestation { verifier, ..(*shown).clone() };
        assert!(matches!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(_)));
    }
    // A host can't choose what a report is over.
    let Reply::Report(report) = cluster.ask(PROVER, Request::Report) else { panic!("no report") };
    assert_eq!(report_data_of(&report), [0; 64]);
}

#[test]
fn new_certificates_are_taken_only_if_they_still_satisfy_the_manifest() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    let good = cluster.node(PROVER).certificates();
    let foreign = cluster.node(VERIFIER).certificates();
    assert_eq!(cluster.ask(PROVER, Request::Renew(foreign)), Reply::Rejected(Rejection::OwnEvidence));
    assert_eq!(cluster.ask(PROVER, Request::Renew(good)), Reply::Done);
    cluster.run(1);
    assert_eq!(admitted(&mut cluster, VERIFIER).len(), 3, "the refused ones are not handed on");
}

#[test]
fn garbage_is_refused_and_changes_nothing() {
    let (mut cluster, honest) = challenged();
    let valid = codec::encode(&PeerMessage::Evidence(Box::new(honest.clone())));
    for bytes in
        [vec![], vec![0], vec![0xff; 100], valid[..valid.len() - 1].to_vec(), [valid, vec![0]].concat()]
    {
        assert_eq!(cluster.ask(VERIFIER, Request::Deliver(bytes)), Reply::Rejected(Rejection::Malformed));
    }
    let oversized = vec![0; (96 << 10) + 1];
    assert_eq!(cluster.ask(VERIFIER, Request::Deliver(oversized)), Reply::Rejected(Rejection::TooLong));
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done);
}
