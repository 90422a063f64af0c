//! Enclaves talk only to enclaves whose evidence they have verified against the manifest, freshly (invariant I4).

mod cut_off;
mod evidence;
mod flooding;
mod members;
mod starting;

use postern_attestation::ReportData;
use postern_enclave::platform::Platform;
use postern_shared::check::Check;
use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, PeerMessage};
use postern_shared::wire::{Notice, RefusedMember, Rejection, Reply, Request, Status};
use postern_simulation::{Machine, ReportFields, SoftwarePsp};
use postern_tests::cluster::{Cluster, Packet, manifest};

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
