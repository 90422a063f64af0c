//! What is settled: silent operators and second presigns hold nothing up, and what a minority sends stays bounded.

use postern_shared::codec;
use postern_shared::events::ChainEvent;
use postern_shared::ids::{Digest, MemberId, PoolId};
use postern_shared::message::{MAX_BODY, PeerMessage, Slot, Step};
use postern_shared::record::{LogHead, RecordKind};
use postern_shared::wire::{MAX_FRAME, Reply, Request};
use postern_shared::witness::{Advance, InForce, Note, Place, Witness};
use postern_tests::attack::{STEPS, message, statement};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, exit_requested, manifest, pool};
use postern_tests::corruption::Corrupt;

const POOL: PoolId = pool(1);
const SILENT: MemberId = MemberId(5);

fn settled(cluster: &Cluster, id: MemberId) -> usize {
    let records = &cluster.node(id).records;
    records.iter().filter(|record| record.header.kind == RecordKind::Vault).count()
}

/// Lets every log grow until a snapshot is due, by what changes nothing else.
fn grow(cluster: &mut Cluster) {
    for _ in 0..300 {
        for id in cluster.ids() {
            for without in [vec![MemberId(1); 1_000], vec![]] {
                cluster.ask(id, Request::GoOnWithout(without));
            }
        }
    }
}

fn is_split(packet: &Packet, of: MemberId) -> bool {
    statement(packet).is_some_and(|said| (said.slot.from, said.slot.step) == (of, Step::Split))
}

/// A key, and its exit presigned without one operator's split; every change is followed by a snapshot. Gives that split.
fn presigned_without_one() -> (Cluster, Vec<Packet>) {
    let mut cluster = Cluster::launch_with(manifest(5, 3, 3), 71, Some(1));
    cluster.run(1);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    cluster.index(POOL);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut idle = 0;
        while idle <= cluster.packets.len() {
            let Some(packet) = cluster.packets.pop_front() else { break };
            if is_split(&packet, SILENT) {
                held.push(packet);
                continue;
            }
            let waits = matches!(cluster.deliver(packet), Reply::Rejected(reason) if reason.is_transient());
            idle = if waits { idle + 1 } else { 0 };
        }
        for id in cluster.ids() {
            cluster.ask(id, Request::Tick);
        }
    }
    assert_eq!(held.len(), 4);
    grow(&mut cluster);
    (cluster, held)
}

#[test]
fn a_silent_operator_keeps_no_pool_from_being_settled_and_is_heard_when_it_speaks() {
    let (mut cluster, held) = presigned_without_one();
    let before: Vec<usize> = cluster.ids().into_iter().map(|id| settled(&cluster, id)).collect();
    assert!(before.iter().all(|count| *count == 1), "{before:?}");
    // Heard now, it is acknowledged once, and packed; heard again, or in other words, it changes nothing.
    let corrupt = Corrupt::of(cluster.node(SILENT));
    for packet in &held {
        assert_eq!(cluster.ask(packet.to, Request::Deliver(packet.bytes.clone())), Reply::Done);
        let other = corrupt.keys.sign(statement(packet).unwrap().slot, vec![1]);
        let records = cluster.node(packet.to).records.len();
        assert_eq!(cluster.ask(packet.to, Request::Deliver(packet.bytes.clone())), Reply::Done);
        assert_eq!(cluster.ask(packet.to, Request::Deliver(message(other))), Reply::Done);
        assert_eq!(cluster.node(packet.to).records.len(), records);
    }
    cluster.run(2);
    grow(&mut cluster);
    let slots = cluster.said.iter().filter(|said| {
        said.slot.step == Step::Acknowledge && said.slot.item == SILENT.0 && said.slot.from != SILENT
    });
    assert_eq!(slots.count(), 4, "each guardian has said so, once");
    for id in cluster.ids().into_iter().filter(|id| *id != SILENT) {
        assert_eq!(settled(&cluster, id), 2, "{id}: packed again, with that split");
    }
    // Through a restart, too.
    cluster.crash(MemberId(2), 5);
    cluster.run(3);
    cluster.observe(exit_requested(POOL.number));
    cluster.run(2);
    assert_eq!(cluster.exits(POOL).len(), 1);
}

#[test]
fn a_wrong_late_split_of_a_settled_pool_convicts_nobody_honest_and_leaves_no_trace_twice() {
    let (mut cluster, held) = presigned_without_one();
    let corrupt = Corrupt::of(cluster.node(SILENT));
    let to = held[0].to;
    let slot = statement(&held[0]).unwrap().slot;
    let wrong = message(corrupt.keys.sign(slot, vec![0xff; 100]));
    cluster.ask(to, Request::Deliver(wrong.clone()));
    let records = cluster.node(to).records.len();
    for _ in 0..50 {
        cluster.ask(to, Request::Deliver(wrong.clone()));
    }
    assert_eq!(cluster.node(to).records.len(), records);
}

#[test]
fn a_pool_with_two_presigns_is_settled_with_both() {
    let mut cluster = Cluster::launch_with(manifest(3, 2, 2), 72, Some(1));
    cluster.run(1);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    let pubkey = cluster.pubkey(POOL).unwrap();
    // One host was told a wrong index, and corrects it.
    let erring = MemberId(3);
    cluster.ask(
        erring,
        Request::Observe(ChainEvent::ValidatorIndexed { pool: POOL, pubkey, validator_index: 666 }),
    );
    cluster.index(POOL);
    cluster.run(3);
    grow(&mut cluster);
    for id in cluster.ids() {
        assert_eq!(settled(&cluster, id), 1, "{id}");
    }
    cluster.crash(erring, 6);
    cluster.run(3);
    cluster.observe(exit_requested(POOL.number));
    cluster.run(2);
    let exits = cluster.exits(POOL);
    assert_eq!((exits.len(), exits[0].message.validator_index), (1, 1001));
}

/// Bytes of what an honest host keeps of an enclave's log.
fn retained(cluster: &Cluster, id: MemberId) -> usize {
    cluster.kept(id).iter().map(|record| codec::encode(record).len()).sum()
}

/// Makes `pools` keys and presigns, and lets two of five enclaves send whatever they can think of in between.
fn with_flood(pools: u32, flood: bool) -> Cluster {
    let culprits = [2, 3].map(MemberId);
    let mut cluster = Cluster::launch_with(manifest(5, 3, 3), 73, Some(16 << 10));
    cluster.run(1);
    for number in 1..=pools {
        cluster.observe(deposit_requested(number));
        cluster.run(0);
        if flood {
            send_everything(&mut cluster, culprits);
        }
        cluster.run(1);
        cluster.index(pool(number));
        cluster.run(0);
        if flood {
            send_everything(&mut cluster, culprits);
        }
        cluster.run(2);
    }
    cluster
}

/// Wrong and long statements in every slot of every ceremony that there is, and notes without end.
fn send_everything(cluster: &mut Cluster, culprits: [MemberId; 2]) {
    let dao = cluster.manifest.genesis();
    let in_force = InForce { epoch: cluster.manifest.epoch, manifest: cluster.manifest.hash() };
    let mut ceremonies: Vec<_> = cluster.said.iter().map(|said| said.slot.ceremony).collect();
    ceremonies.sort();
    ceremonies.dedup();
    for culprit in culprits {
        let corrupt = Corrupt::of(cluster.node(culprit));
        for ceremony in &ceremonies {
            for step in STEPS {
                for (item, length) in [(0, MAX_BODY), (1, MAX_BODY), (4, 33), (0, 1), (9, MAX_BODY + 1)] {
                    let slot = Slot { ceremony: *ceremony, from: culprit, step, item };
                    let said = message(corrupt.keys.sign(slot, vec![item as u8; length]));
                    for to in [1, 4, 5].map(MemberId) {
                        cluster.ask(to, Request::Deliver(said.clone()));
                    }
                }
            }
        }
        for to in [1, 4, 5].map(MemberId) {
            let Some(known) = cluster.node(to).core.memory(culprit).and_then(|memory| memory.accepted) else {
                continue;
            };
            let Note { place, .. } = known.note;
            for more in 1..100 {
                let head = LogHead { number: place.head.number + more, digest: Digest([more as u8; 32]) };
                let place = Place { head, ..place };
                let note = corrupt.keys.sign_note(dao, Note { place, ..known.note });
                let advance = Advance { note, in_force, ballots: Vec::new() };
                let witness = corrupt.keys.sign_witness(dao, Witness::Advance(advance));
                let bytes = codec::encode(&PeerMessage::Witness(Box::new(witness)));
                cluster.ask(to, Request::Deliver(bytes));
            }
        }
    }
}

#[test]
fn whatever_a_minority_sends_an_enclave_keeps_little_more_than_if_it_had_been_honest() {
    let pools = 3;
    let (honest, flooded) = (with_flood(pools, false), with_flood(pools, true));
    for id in [1, 4, 5].map(MemberId) {
        let (without, with) = (retained(&honest, id), retained(&flooded, id));
        println!(
            "{id}: {without} bytes of log with honest others, {with} under everything that two of five can send"
        );
        // A fault for each of the two in each ceremony, and what the log may grow by before it is compacted: three times
        // the state, or sixteen KiB in this test.
        let most = 3 * without + (16 << 10) + 2 * (2 * pools as usize) * 1024;
        assert!(with <= most, "{id}: {with} bytes, at most {most} were stated");
        let records = flooded.node(id).records.iter();
        let longest = records.map(|record| codec::encode(record).len()).max().unwrap();
        assert!(longest < MAX_FRAME / 4, "{id}: a record of {longest} bytes");
    }
}
