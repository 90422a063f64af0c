//! Who a member is: one enclave, that is known by its keys, and one guest.

use super::{PROVER, VERIFIER, acquainted, admitted, asked_again, judged, reported_by, show};
use postern_attestation::ReportData;
use postern_enclave::platform::Platform;
use postern_shared::check::Check;
use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::message::PeerMessage;
use postern_shared::wire::{Notice, Rejection, Reply, Request};
use postern_simulation::{Machine, ReportFields, SoftwarePsp};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, manifest, pool};

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
