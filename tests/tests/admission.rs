//! Enclaves talk only to enclaves whose evidence they have verified against the manifest, freshly (invariant I4).

use postern_attestation::{Binding, Launch, ReportData, Time, Verifier};
use postern_enclave::core::Core;
use postern_enclave::platform::{Platform, PlatformError};
use postern_shared::bls::PublicKey;
use postern_shared::check::Check;
use postern_shared::codec;
use postern_shared::ids::{Digest, MemberId, Nonce};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, Certificates, PeerMessage};
use postern_shared::policy::Trust;
use postern_shared::wire::{Notice, RefusedMember, Rejection, Reply, Request, Status};
use postern_simulation::{Machine, ReportFields, SoftwarePsp};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, manifest, pool};

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
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done, "the honest answer still counts");
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
    assert_refused(|answer| answer.identity.signing = other.signing, Rejection::Evidence);
    assert_refused(|answer| answer.identity.agreement = other.agreement, Rejection::Evidence);
    assert_refused(|answer| answer.identity.dealing = other.dealing, Rejection::Evidence);
    let no_point = PublicKey([0; 48]);
    assert_refused(|answer| answer.identity.dealing = no_point, Rejection::Malformed);
}

#[test]
fn evidence_must_answer_the_open_challenge_and_be_meant_for_the_verifier() {
    let (cluster, _) = challenged();
    let (verifier, prover) =
        (*cluster.node(VERIFIER).keys().identity(), *cluster.node(PROVER).keys().identity());
    let third = *cluster.node(MemberId(3)).keys().identity();
    assert_refused(|answer| answer.challenge = Nonce([7; 32]), Rejection::StaleEvidence);
    assert_refused(|answer| answer.identity.member = MemberId(3), Rejection::StaleEvidence);
    assert_refused(|answer| answer.identity.member = MemberId(9), Rejection::StaleEvidence);
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
    cluster.ask(VERIFIER, Request::Deliver(codec::encode(&PeerMessage::Challenge(mirrored))));
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
    cluster.launch_anew(PROVER, 1, &[]);
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
    let (mut cluster, honest) = challenged();
    let mut answer = honest.clone();
    let machine = Machine { measurement: [1; 48], ..provers_machine() };
    reported_by(machine, |fields| fields.vmpl = 2)(&mut answer);
    show(&mut cluster, VERIFIER, answer);
    let checks = vec![Check::Vmpl, Check::Measurement];
    let refused = RefusedMember { member: PROVER, checks, cut_off: false };
    assert!(cluster.node(VERIFIER).notices.contains(&Notice::Refused(refused.clone())));
    assert_eq!(status(&mut cluster, VERIFIER).refused, [refused]);
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
    let (mut cluster, honest) = reattested();
    let mut answer = honest.clone();
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
    let mut forged = honest.clone();
    forged.evidence.report[0x2A0] ^= 1;
    show(&mut cluster, VERIFIER, forged);
    assert!(status(&mut cluster, VERIFIER).refused[0].cut_off);
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done);
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

#[test]
fn nobody_can_cut_off_a_peer_with_evidence_that_is_not_its_own() {
    type Forgery = fn(&mut Attestation);
    let forgeries: [Forgery; 6] = [
        |answer| answer.evidence.report[0x90] ^= 1,
        |answer| answer.evidence.report.clear(),
        |answer| answer.evidence.certificates.leaf.clear(),
        |answer| answer.evidence.certificates.ark[100] ^= 1,
        |answer| answer.identity.signing.0[0] ^= 1,
        // Another member's chip, with another guest's debuggable report.
        |answer| {
            let machine = Machine { chip_seed: [0x99; 32], ..provers_machine() };
            reported_by(machine, |fields| fields.policy |= 1 << 19)(answer);
        },
    ];
    for forge in forgeries {
        let (mut cluster, honest) = reattested();
        let mut answer = honest;
        forge(&mut answer);
        assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence));
        assert_eq!(admitted(&mut cluster, VERIFIER), [VERIFIER, PROVER, MemberId(3)]);
        assert!(status(&mut cluster, VERIFIER).refused.is_empty());
    }
}

#[test]
fn one_guest_is_not_two_members() {
    let (mut cluster, honest) = challenged();
    let own = cluster.node(VERIFIER).machine;
    let report_id =
        SoftwarePsp::new(own).report(&ReportData([0; 64])).expect("a report")[0x140..0x160].to_vec();
    let mut answer = honest;
    reported_by(provers_machine(), move |fields| fields.report_id.copy_from_slice(&report_id))(&mut answer);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::Evidence));
    assert_eq!(status(&mut cluster, VERIFIER).refused[0].checks, [Check::Distinct]);
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
    let launch = Launch { epoch: 0, host_data: manifest.hash().0, chip_ids };
    let rules = manifest.attestation.clone();
    let mut verifier = Verifier::new(postern_simulation::trust_anchor(), rules, Time::NotBefore(0));
    let report_data = Binding::of(manifest.hash(), &shown).report_data();
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
    let oversized = vec![0; (1 << 20) + 1];
    assert_eq!(cluster.ask(VERIFIER, Request::Deliver(oversized)), Reply::Rejected(Rejection::Malformed));
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done);
}
