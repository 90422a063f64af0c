//! Enclaves talk only to enclaves whose evidence they have verified against the manifest, freshly (invariant I4).

use postern_attestation::ReportData;
use postern_enclave::core::Core;
use postern_enclave::platform::{Platform, PlatformError};
use postern_shared::codec;
use postern_shared::ids::{Digest, MemberId, Nonce, PoolId};
use postern_shared::manifest::{Manifest, Trust};
use postern_shared::message::{Certificates, EvidenceMessage, PeerMessage};
use postern_shared::wire::{Notice, Rejection, Reply, Request, Status};
use postern_simulation::{Machine, ReportFields, SoftwarePsp};
use postern_tests::cluster::{Cluster, MEASUREMENT, Packet, deposit_requested, manifest};

const VERIFIER: MemberId = MemberId(1);
const PROVER: MemberId = MemberId(2);

/// A DAO in which only challenges have been exchanged so far: the prover's answer is made, and not delivered.
fn challenged() -> (Cluster, EvidenceMessage) {
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
            Ok(PeerMessage::Evidence(answer)) => Some(answer),
            _ => None,
        })
        .expect("the prover answers");
    cluster.packets.clear();
    (cluster, answer)
}

fn show(cluster: &mut Cluster, to: MemberId, answer: EvidenceMessage) -> Reply {
    cluster.ask(to, Request::Deliver(codec::encode(&PeerMessage::Evidence(answer))))
}

fn admitted(cluster: &mut Cluster, id: MemberId) -> Vec<MemberId> {
    match cluster.ask(id, Request::Status) {
        Reply::Status(Status { admitted, .. }) => admitted,
        other => panic!("no status: {other:?}"),
    }
}

#[track_caller]
fn assert_refused(change: impl FnOnce(&mut EvidenceMessage), expected: Rejection) {
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
) -> impl FnOnce(&mut EvidenceMessage) {
    move |answer| {
        let data = ReportData(report_data(&answer.evidence.report));
        let mut psp = SoftwarePsp::new(machine).tamper(tamper);
        answer.evidence.report = psp.report(&data).expect("a report");
        let chain = psp.certificate_chain();
        answer.evidence.certificates = Certificates { ark: chain.ark, ask: chain.ask, vcek: chain.vcek };
    }
}

fn report_data(report: &[u8]) -> [u8; 64] {
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
    assert_refused(|answer| answer.evidence.certificates.vcek.clear(), Rejection::Evidence);
    assert_refused(|answer| answer.evidence.certificates.ark[100] ^= 1, Rejection::Evidence);
}

#[test]
fn other_keys_under_the_same_evidence_are_refused() {
    let keys = Cluster::launch(manifest(3, 2, 2), 6).node(PROVER).keys();
    let other = *keys.identity();
    assert_refused(|answer| answer.identity.signing = other.signing, Rejection::Evidence);
    assert_refused(|answer| answer.identity.agreement = other.agreement, Rejection::Evidence);
    assert_refused(|answer| answer.identity.dealing = other.dealing, Rejection::Evidence);
}

#[test]
fn evidence_must_answer_the_open_challenge_and_be_meant_for_the_verifier() {
    assert_refused(|answer| answer.nonce = Nonce([7; 32]), Rejection::StaleEvidence);
    assert_refused(|answer| answer.identity.member = MemberId(3), Rejection::StaleEvidence);
    assert_refused(|answer| answer.identity.member = MemberId(9), Rejection::StaleEvidence);
    assert_refused(|answer| answer.to = MemberId(3), Rejection::Misdirected);
    // The verifier's own evidence, mirrored.
    assert_refused(|answer| answer.identity.member = VERIFIER, Rejection::Misdirected);
}

#[test]
fn evidence_is_good_once_and_for_one_verifier() {
    let (mut cluster, answer) = challenged();
    assert_eq!(show(&mut cluster, VERIFIER, answer.clone()), Reply::Done);
    assert_eq!(show(&mut cluster, VERIFIER, answer.clone()), Reply::Done, "a duplicate is harmless");
    // To another verifier it was never addressed, and its challenge is another.
    let redirected = EvidenceMessage { to: MemberId(3), ..answer.clone() };
    assert_eq!(show(&mut cluster, MemberId(3), redirected), Reply::Rejected(Rejection::StaleEvidence));
    // After the verifier has forgotten everything, old evidence says nothing.
    cluster.crash(VERIFIER, 1);
    assert_eq!(show(&mut cluster, VERIFIER, answer), Reply::Rejected(Rejection::StaleEvidence));
}

#[test]
fn a_peer_that_forgot_everything_is_admitted_again_under_its_new_keys() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    cluster.run(1);
    let old = *cluster.node(PROVER).keys().identity();
    cluster.crash(PROVER, 1);
    cluster.run(1);
    let new = *cluster.node(PROVER).keys().identity();
    assert_ne!(old, new);
    cluster.observe(deposit_requested(1));
    cluster.run(1);
    assert!(cluster.pubkey(PoolId(1)).is_some(), "the DAO goes on with the new enclave");
    let transcript = cluster.node(VERIFIER).transcripts().next().expect("a transcript");
    let identities: Vec<_> = transcript.roster().iter().map(|attested| attested.identity).collect();
    assert!(identities.contains(&new) && !identities.contains(&old));
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
        cluster.node(VERIFIER).core.keygen(PoolId(1)).is_none(),
        "no ceremony without all operators admitted"
    );
    held.into_iter().for_each(|packet| cluster.packets.push_back(packet));
    cluster.run(1);
    assert!(cluster.pubkey(PoolId(1)).is_some());
}

/// A core on a machine, not started yet.
fn fresh(machine: Machine) -> (Core<SoftwarePsp>, Certificates) {
    let psp = SoftwarePsp::new(machine);
    let chain = psp.certificate_chain();
    (Core::new(psp), Certificates { ark: chain.ark, ask: chain.ask, vcek: chain.vcek })
}

fn start(
    core: &mut Core<impl Platform>,
    manifest: &Manifest,
    member: MemberId,
    certificates: &Certificates,
) -> Reply {
    let manifest = manifest.to_canonical();
    core.handle(Request::Start { manifest, member, certificates: certificates.clone() }).reply
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
    let garbage =
        Request::Start { manifest: vec![1, 2, 3], member: PROVER, certificates: certificates.clone() };
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
    let chain = debuggable.certificate_chain();
    let certificates = Certificates { ark: chain.ark, ask: chain.ask, vcek: chain.vcek };
    let mut core = Core::new(debuggable);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Rejected(Rejection::OwnEvidence));
    let mut silent = SoftwarePsp::new(provers_machine());
    silent.refuse_reports(Some(0x15));
    assert_eq!(silent.report(&ReportData([0; 64])), Err(PlatformError::Report { status: 0x15 }));
    let mut core = Core::new(silent);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Rejected(Rejection::Platform));
}

#[test]
fn refusals_are_noticed_by_name() {
    let (mut cluster, mut answer) = challenged();
    reported_by(Machine { measurement: [1; 48], ..provers_machine() }, |_| {})(&mut answer);
    show(&mut cluster, VERIFIER, answer);
    assert!(cluster.node(VERIFIER).notices.contains(&Notice::Refused(PROVER, Rejection::Evidence)));
    assert_eq!(MEASUREMENT, provers_machine().measurement);
}

#[test]
fn garbage_is_refused_and_changes_nothing() {
    let (mut cluster, honest) = challenged();
    let valid = codec::encode(&PeerMessage::Evidence(honest.clone()));
    for bytes in
        [vec![], vec![0], vec![0xff; 100], valid[..valid.len() - 1].to_vec(), [valid, vec![0]].concat()]
    {
        assert_eq!(cluster.ask(VERIFIER, Request::Deliver(bytes)), Reply::Rejected(Rejection::Malformed));
    }
    let oversized = vec![0; (1 << 20) + 1];
    assert_eq!(cluster.ask(VERIFIER, Request::Deliver(oversized)), Reply::Rejected(Rejection::Malformed));
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done);
}
