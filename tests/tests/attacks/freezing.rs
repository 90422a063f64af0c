//! A minority of corrupted enclaves makes no honest one wait for ever, and clogs no link to a host.

use postern_shared::agreement::Subject;
use postern_shared::codec;
use postern_shared::dealing::{Commit, Verdict};
use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::message::{MAX_BODY, Slot, Step};
use postern_shared::wire::{MAX_FRAME, Notice, Rejection, Reply, Request, Response};
use postern_tests::attack::{
    culprits, deliver_through, deposits, keygen_terms, message, named, say, statement,
};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, manifest, pool};
use postern_tests::corruption::Corrupt;

const CULPRIT: MemberId = MemberId(2);
const VICTIM: MemberId = MemberId(4);
const POOL: PoolId = pool(1);

fn beginning() -> Cluster {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 31);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    cluster
}

/// Delivers until the victim has accepted all deals, and holds back what it and others say from then on.
fn until_the_victim_accepts(cluster: &mut Cluster) -> Vec<Packet> {
    let mut held = Vec::new();
    while let Some(packet) = cluster.packets.pop_front() {
        let late = statement(&packet).is_some_and(|said| said.slot.step >= Step::Verdict);
        if late {
            held.push(packet);
        } else {
            cluster.deliver(packet);
        }
    }
    assert!(held.iter().any(|packet| packet.from == VICTIM), "the victim has said its verdict");
    held
}

#[test]
fn a_second_commitment_after_the_verdict_freezes_nobody() {
    let mut cluster = beginning();
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    let terms = keygen_terms(&cluster, POOL);
    let held = until_the_victim_accepts(&mut cluster);
    // Only the victim hears it, and its one verdict is said already.
    let second = say(&corrupt, &terms, Step::Commit, &Commit { deal: Digest([9; 32]) });
    cluster.ask(VICTIM, Request::Deliver(message(second)));
    assert_eq!(named(&cluster, VICTIM), [CULPRIT]);
    cluster.packets.extend(held);
    cluster.run(1);
    finish_or_retry(&mut cluster);
    assert_eq!(culprits(&cluster), [CULPRIT]);
}

#[test]
fn an_invalid_verdict_to_one_member_alone_freezes_nobody() {
    let mut cluster = beginning();
    deliver_through(&mut cluster, &[CULPRIT], |corrupt, said, to| {
        let odd = to == VICTIM && said.slot.step == Step::Verdict;
        // Invalid first; the good one comes another way.
        let invalid = odd.then(|| corrupt.keys.sign(said.slot, vec![0xff]));
        invalid.into_iter().chain([said.clone()]).collect()
    });
    finish_or_retry(&mut cluster);
    assert_eq!(culprits(&cluster), [CULPRIT]);
}

/// Once the culprit behaves, honest hosts that repeat, tick and retry bring every enclave to the one key.
#[track_caller]
fn finish_or_retry(cluster: &mut Cluster) {
    for _ in 0..2 {
        if deposits(cluster) < 5 {
            for id in cluster.ids() {
                cluster.ask(id, Request::GiveUp(Subject::Key(POOL)));
            }
            cluster.run(1);
        }
    }
    assert_eq!(deposits(cluster), 5);
    let first = cluster.pubkey(POOL);
    for node in &cluster.nodes {
        assert_eq!(postern_tests::cluster::pubkey(node, POOL), first, "{} has another key", node.id);
    }
}

#[test]
fn what_is_longer_than_any_honest_statement_is_not_heard_and_convicts_nobody() {
    let mut cluster = beginning();
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    let ceremony = keygen_terms(&cluster, POOL).ceremony();
    let long =
        |length| message(corrupt.keys.sign(Slot::of(ceremony, CULPRIT, Step::Commit), vec![0xff; length]));
    for length in [MAX_BODY + 1, 90_000, 1 << 20] {
        let reply = cluster.ask(VICTIM, Request::Deliver(long(length)));
        assert_eq!(reply, Reply::Rejected(Rejection::TooLong), "{length} bytes");
    }
    // Nobody had to prove it, so the key is made.
    cluster.run(1);
    assert_eq!(deposits(&cluster), 5);
    assert!(culprits(&cluster).is_empty());
}

#[test]
fn the_longest_wrong_statement_is_proved_to_everybody() {
    let mut cluster = beginning();
    deliver_through(&mut cluster, &[CULPRIT], |corrupt, said, to| {
        let long = said.slot.step == Step::Commit && to == VICTIM;
        vec![if long { corrupt.keys.sign(said.slot, vec![0xff; MAX_BODY]) } else { said.clone() }]
    });
    assert_eq!(culprits(&cluster), [CULPRIT]);
    for id in cluster.ids().into_iter().filter(|id| *id != CULPRIT) {
        assert_eq!(named(&cluster, id), [CULPRIT], "{id}");
    }
    finish_or_retry(&mut cluster);
}

#[test]
fn a_pile_of_wrong_statements_leaves_one_trace() {
    let mut cluster = beginning();
    let corrupt = Corrupt::of(cluster.node(CULPRIT));
    let ceremony = keygen_terms(&cluster, POOL).ceremony();
    let records = |cluster: &Cluster| cluster.node(VICTIM).records.len();
    let mut after_first = 0;
    for round in 0..200_u16 {
        for step in [Step::Commit, Step::Deal, Step::Verdict, Step::Confirm, Step::Deposit] {
            let wrong = corrupt.keys.sign(Slot::of(ceremony, CULPRIT, step), round.to_be_bytes().to_vec());
            cluster.ask(VICTIM, Request::Deliver(message(wrong)));
        }
        if round == 0 {
            after_first = records(&cluster);
        }
    }
    assert_eq!(records(&cluster), after_first);
    let faults = |notice: &&Notice| matches!(notice, Notice::Fault { .. });
    assert_eq!(cluster.node(VICTIM).notices.iter().filter(faults).count(), 1);
}

/// An accusation that names what nobody else will ever hear: the accuser's words stand in the way of the key, and are named.
#[test]
fn an_accusation_that_nobody_can_judge_freezes_nobody_for_good() {
    let accomplice = MemberId(3);
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 31);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    let other = Corrupt::of(cluster.node(accomplice));
    let ceremony = keygen_terms(&cluster, POOL).ceremony();
    // The accomplice says nothing but commitments, so the deal that is named is neither here nor contradicted.
    let hidden = other.keys.sign(Slot::of(ceremony, accomplice, Step::Deal), vec![1]).signed_digest();
    deliver_through(&mut cluster, &[CULPRIT, accomplice], |corrupt, said, _| {
        match (said.slot.from, said.slot.step) {
            (MemberId(3), step) if step > Step::Commit => vec![],
            (CULPRIT, Step::Deal) => {
                let fault = Fault { culprit: accomplice, proof: Proof::InvalidStatement(hidden) };
                let slot = Slot::of(ceremony, CULPRIT, Step::Verdict);
                vec![said.clone(), corrupt.keys.sign(slot, codec::encode(&Verdict::Reject(fault)))]
            }
            (CULPRIT, step) if step > Step::Deal => vec![],
            _ => vec![said.clone()],
        }
    });
    assert_eq!(deposits(&cluster), 0);
    cluster.ask(VICTIM, Request::Tick);
    let missing = |member: MemberId| {
        cluster.node(VICTIM).notices.iter().any(
            |notice| matches!(notice, Notice::Missing { step: Step::Deal, member: named, .. } if *named == member),
        )
    };
    assert!(missing(accomplice), "whose statement it lacks is said");
    // From now on everybody behaves; the run is known to be lost, and another is made.
    for id in cluster.ids() {
        if id != accomplice && id != CULPRIT {
            assert_eq!(cluster.ask(id, Request::GiveUp(Subject::Key(POOL))), Reply::Done, "{id}");
        }
    }
}

#[test]
fn accusing_oneself_or_of_what_comes_after_the_verdicts_convicts_the_accuser_at_once() {
    for itself in [true, false] {
        let mut cluster = beginning();
        let other = Corrupt::of(cluster.node(MemberId(3)));
        deliver_through(&mut cluster, &[CULPRIT], |corrupt, said, _| {
            if said.slot.step != Step::Verdict {
                return vec![said.clone()];
            }
            let by = if itself { corrupt } else { &other };
            let (culprit, step) = if itself { (CULPRIT, Step::Deal) } else { (MemberId(3), Step::Confirm) };
            let hidden = by.keys.sign(Slot::of(said.slot.ceremony, culprit, step), vec![1]);
            let proof = Proof::InvalidStatement(hidden.signed_digest());
            vec![corrupt.restate(said, &Verdict::Reject(Fault { culprit, proof }))]
        });
        assert_eq!(culprits(&cluster), [CULPRIT]);
        for id in cluster.ids().into_iter().filter(|id| *id != CULPRIT) {
            assert_eq!(named(&cluster, id), [CULPRIT], "{id}");
            assert_eq!(cluster.ask(id, Request::GiveUp(Subject::Key(POOL))), Reply::Done, "{id}");
        }
    }
}

#[test]
fn a_response_that_no_frame_holds_is_repeated_in_parts() {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 31);
    cluster.run(0);
    // More than a frame holds, and never acknowledged.
    let core = &mut cluster.node_mut(VICTIM).core;
    let mut expected = Vec::new();
    let mut size = 0;
    while size <= MAX_FRAME {
        let Response { outputs, .. } = core.handle(Request::Reattest(None));
        size += outputs.iter().map(|output| codec::encode(output).len()).sum::<usize>();
        expected.extend(outputs);
    }
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let response = core.handle(Request::Resume);
        assert_eq!(response.reply, Reply::Done);
        assert!(codec::encode(&response).len() <= MAX_FRAME);
        let last = response.outputs.last().expect("the enclave goes on").sequence;
        seen.extend(response.outputs);
        core.handle(Request::Acknowledge(last));
    }
    assert_eq!(seen, expected);
}
