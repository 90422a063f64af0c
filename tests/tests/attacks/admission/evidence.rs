//! What evidence must be, and whom it must be meant for.

use super::{
    PROVER, VERIFIER, acquainted, admitted, answered, asked_again, challenged, provers_machine,
    report_data_of, reported_by, show,
};
use postern_attestation::{Binding, Launch, Time, Verifier};
use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::epoch::MAX_SIGNED_EPOCH;
use postern_shared::ids::{MemberId, Nonce};
use postern_shared::message::{Attestation, PeerMessage};
use postern_shared::wire::{Rejection, Reply, Request};
use postern_simulation::Machine;
use postern_tests::cluster::{Cluster, Packet, manifest};

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
fn garbage_is_refused_and_changes_nothing() {
    let (mut cluster, honest) = challenged();
    let valid = codec::encode(&PeerMessage::Evidence(Box::new(honest.clone())));
    for bytes in
        [vec![], vec![0], vec![0xff; 100], valid[..valid.len() - 1].to_vec(), [valid, vec![0]].concat()]
    {
        assert_eq!(cluster.ask(VERIFIER, Request::Deliver(bytes)), Reply::Rejected(Rejection::Malformed));
    }
    let oversized = vec![0; MAX_SIGNED_EPOCH + 65];
    assert_eq!(cluster.ask(VERIFIER, Request::Deliver(oversized)), Reply::Rejected(Rejection::TooLong));
    assert_eq!(show(&mut cluster, VERIFIER, honest), Reply::Done);
}
