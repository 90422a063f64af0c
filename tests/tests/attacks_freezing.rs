//! A minority of corrupted enclaves makes no honest one wait for ever, and clogs no link to a host.

use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::keygen::Commit;
use postern_shared::message::{Broadcast, Step};
use postern_shared::presign::Acknowledge;
use postern_shared::wire::{MAX_FRAME, Output, Reply, Request};
use postern_tests::attack::{
    culprits, deliver_through, deposits, keygen_terms, message, named, say, statement,
};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, exit_requested, manifest, pool};
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
                cluster.ask(id, Request::Retry(POOL));
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

fn before_presign(members: u16, operator: u16) -> Cluster {
    let mut cluster = Cluster::launch(manifest(members, operator, 3), 32);
    cluster.run(0);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(0);
    let pubkey = cluster.pubkey(POOL).unwrap();
    cluster.observe(ChainEvent::ValidatorIndexed { pool: POOL, pubkey, validator_index: 9 });
    cluster
}

#[test]
fn lengthy_complaints_do_not_clog_the_link_to_the_host() {
    let mut cluster = before_presign(6, 5);
    deliver_through(&mut cluster, &[CULPRIT], |corrupt, said, _| {
        if said.slot.step != Step::Acknowledge || said.slot.item == CULPRIT.0 {
            return vec![said.clone()];
        }
        // As long as a message may be, about every operator.
        let padding = Broadcast { body: vec![0x55; 1_000_000], ..said.clone() };
        let proof = Proof::InvalidStatement(padding);
        let fault = Fault { culprit: MemberId(said.slot.item), proof };
        vec![corrupt.restate(said, &Acknowledge::Bad(Box::new(fault)))]
    });
    cluster.run(1);
    assert_eq!(culprits(&cluster), [CULPRIT]);
    cluster.observe(exit_requested(POOL.number));
    cluster.run(1);
    assert_eq!(cluster.exits(POOL).len(), 1);
    for node in &cluster.nodes {
        for artifact in &node.artifacts {
            let size = codec::encode(&Output::Publish(artifact.clone())).len();
            // What is longer than half a frame is never repeated to a host that lost it.
            assert!(size <= MAX_FRAME / 2, "{} publishes {size} bytes at once", node.id);
        }
    }
}

#[test]
fn a_response_that_no_frame_holds_is_repeated_in_parts() {
    let mut cluster = beginning();
    let (corrupt, terms) = (Corrupt::of(cluster.node(CULPRIT)), keygen_terms(&cluster, POOL));
    let padding = Broadcast {
        body: vec![0x55; 1_000_000],
        ..say(&corrupt, &terms, Step::Commit, &Commit { deal: Digest([9; 32]) })
    };
    let fault = Box::new(Fault { culprit: VICTIM, proof: Proof::InvalidStatement(padding) });
    let accusation = say(&corrupt, &terms, Step::Verdict, &postern_shared::keygen::Verdict::Reject(fault));
    let core = &mut cluster.node_mut(VICTIM).core;
    let response = core.handle(Request::Deliver(message(accusation)));
    let expected = response.outputs;
    assert!(!expected.is_empty());
    // The host never got that response: it asks again until it has everything.
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
