//! What an enclave has sealed is its state, whole and in order, or it is refused by name (invariant I6).

use postern_enclave::core::Core;
use postern_shared::codec;
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::message::Broadcast;
use postern_shared::record::{KeySlot, LogId, RecordKind, SealedError, SealedRecord};
use postern_shared::snp::TcbVersion;
use postern_shared::wire::{Output, Record, Rejection, Reply, Request, Standing};
use postern_simulation::{Machine, SoftwarePsp};
use postern_tests::cluster::{Cluster, Node, deposit_requested, exit_requested, manifest, pool};
use std::collections::BTreeMap;

const OWN: MemberId = MemberId(2);
const POOL: PoolId = pool(1);

/// A DAO of three, from nothing to a released exit. `between` may do something to it after each step.
fn life(snapshots_after: Option<usize>, mut between: impl FnMut(&mut Cluster, usize)) -> Cluster {
    let mut manifest = manifest(3, 2, 2);
    // All of them may die at once.
    manifest.agreement.automatic_return = true;
    let mut cluster = Cluster::launch_with(manifest, 21, snapshots_after);
    cluster.run(1);
    between(&mut cluster, 0);
    cluster.observe(deposit_requested(POOL.number));
    between(&mut cluster, 1);
    cluster.run(2);
    cluster.index(POOL);
    between(&mut cluster, 2);
    cluster.run(2);
    cluster.observe(exit_requested(POOL.number));
    between(&mut cluster, 3);
    cluster.run(2);
    cluster
}

/// A life in which more pools come, so that there are snapshots with the first one settled.
fn long_life() -> Cluster {
    let mut cluster = life(Some(2_000), |_, _| {});
    for number in 2..=4 {
        cluster.observe(deposit_requested(number));
        cluster.run(2);
        cluster.index(pool(number));
        cluster.run(2);
    }
    cluster
}

/// No slot has two fillings, and the exit is out.
fn assert_whole(cluster: &Cluster, what: &str) {
    let mut slots: BTreeMap<_, &Broadcast> = BTreeMap::new();
    for said in &cluster.said {
        let first = slots.entry(said.slot).or_insert(said);
        assert_eq!(first.body, said.body, "{what}: two statements in {:?}", said.slot);
    }
    let exits = cluster.exits(POOL);
    assert!(!exits.is_empty() && exits.iter().all(|exit| *exit == exits[0]), "{what}");
}

/// Runs a life in which an enclave dies when its log has come to each of these numbers, and is restored.
fn dies_at(numbers: impl IntoIterator<Item = usize>, snapshots_after: Option<usize>) {
    for number in numbers {
        let mut cluster = Cluster::launch_with(manifest(3, 2, 2), 21, snapshots_after);
        let mut died = false;
        let mut rounds = 0;
        let steps: [fn(&mut Cluster); 4] = [
            |_| {},
            |cluster| cluster.observe(deposit_requested(POOL.number)),
            |cluster| cluster.index(POOL),
            |cluster| cluster.observe(exit_requested(POOL.number)),
        ];
        for step in steps {
            step(&mut cluster);
            // Packet by packet, so that it dies between any two.
            for _ in 0..3 {
                while let Some(packet) = cluster.packets.pop_front() {
                    if !died && cluster.node(OWN).records.len() >= number {
                        died = true;
                        let kept = cluster.kept(OWN);
                        let records = if number % 2 == 0 { kept } else { cluster.node(OWN).records.clone() };
                        assert_eq!(cluster.restore(OWN, number as u64, &records), Reply::Done);
                        cluster.packets.push_front(packet);
                        cluster.run(1);
                        for event in [deposit_requested(POOL.number)].into_iter().filter(|_| rounds >= 1) {
                            cluster.ask(OWN, Request::Observe(event));
                        }
                        continue;
                    }
                    let carried = matches!(cluster.deliver(packet), Reply::Rejected(rejection) if rejection.is_transient());
                    if carried && cluster.packets.len() < 4 {
                        break;
                    }
                }
                cluster.run(1);
            }
            rounds += 1;
        }
        assert!(died, "the log never comes to record {number}");
        assert_whole(&cluster, &format!("restored at record {number}"));
    }
}

#[test]
fn an_enclave_may_die_at_any_record_of_its_life() {
    let records = life(None, |_, _| {}).node(OWN).records.len();
    dies_at((1..records - 2).step_by(records / 8), None);
}

#[test]
#[ignore = "long: run in release by the slow suites"]
fn an_enclave_may_die_at_every_record_of_its_life_with_and_without_snapshots() {
    let records = life(None, |_, _| {}).node(OWN).records.len();
    dies_at(1..records - 2, None);
    dies_at(1..records - 2, Some(3_000));
    println!("restored at {} records, twice", records - 3);
}

#[test]
fn all_enclaves_of_a_dao_may_die_at_once_in_every_phase() {
    let mut launches = 100;
    let cluster = life(Some(2_000), |cluster, _| {
        for id in cluster.ids() {
            launches += 1;
            let kept = cluster.kept(id);
            assert_eq!(cluster.restore(id, launches, &kept), Reply::Done);
        }
        cluster.run(2);
    });
    assert_whole(&cluster, "all died");
    for node in &cluster.nodes {
        let secrets = node.long_lived_secrets();
        for record in &node.records {
            let bytes = codec::encode(record);
            let shown = |secret: &Vec<u8>| bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!secrets.iter().any(shown), "a record shows a secret");
        }
    }
}

#[test]
fn hosts_keep_little_and_the_rest_is_the_same() {
    let cluster = long_life();
    let whole = cluster.node(OWN).records.len();
    let kept = cluster.kept(OWN);
    assert!(kept.len() < whole / 2, "{} of {whole} records", kept.len());
    assert!(kept.iter().any(|record| record.header.kind == RecordKind::Vault), "the pool is settled");
    // A snapshot that was not stored to its end: the one before and what follows it are as good as ever.
    let records = &cluster.node(OWN).records;
    let parts = records.iter().positions(|record| record.header.kind == RecordKind::Part);
    assert!(!parts.is_empty(), "no snapshot was made");
    for part in parts {
        let mut again = life(None, |_, _| {});
        again.node_mut(OWN).slot = cluster.node(OWN).slot.clone();
        assert_eq!(again.restore(OWN, 50, &records[..=part]), Reply::Done, "up to part {part}");
    }
}

trait Positions: Iterator + Sized {
    fn positions(self, mut wanted: impl FnMut(Self::Item) -> bool) -> Vec<usize> {
        self.enumerate().filter_map(|(position, item)| wanted(item).then_some(position)).collect()
    }
}

impl<I: Iterator> Positions for I {}

/// What an enclave on this machine says to a slot and records.
fn restore(machine: Machine, slot: &KeySlot, records: &[SealedRecord]) -> Result<(), Rejection> {
    let psp = SoftwarePsp::new(machine).seeded([9; 32]);
    let certificates = SoftwarePsp::new(machine).certificates();
    let mut core = Core::new(psp);
    let requests = [
        Request::Restore { slot: Box::new(slot.clone()), certificates: certificates.clone() },
        Request::Records(records.to_vec()),
        Request::Restored,
    ];
    for request in requests {
        let response = core.handle(request);
        if let Reply::Rejected(rejection) = response.reply {
            // Nothing has happened, and nothing is in the way of the right ones.
            assert!(!response.outputs.iter().any(|one| matches!(one.output, Output::Send { .. })));
            let Reply::Status(status) = core.handle(Request::Status).reply else { panic!("no status") };
            assert_eq!((status.standing, status.identity), (Standing::Idle, None));
            return Err(rejection);
        }
    }
    Ok(())
}

#[track_caller]
fn assert_refused(node: &Node, slot: &KeySlot, records: &[SealedRecord], expected: SealedError) {
    assert_eq!(restore(node.machine, slot, records), Err(Rejection::Sealed(expected)));
}

#[test]
fn slots_open_for_the_same_build_on_the_same_chip_for_the_same_dao_only() {
    let cluster = life(None, |_, _| {});
    let node = cluster.node(OWN);
    let (slot, records) = (node.slot.clone().expect("a slot"), &node.records);
    assert_eq!(restore(node.machine, &slot, records), Ok(()));
    let refused = |machine: Machine, expected| {
        assert_eq!(restore(machine, &slot, records), Err(Rejection::Sealed(expected)));
    };
    let own = node.machine;
    refused(Machine { measurement: [1; 48], ..own }, SealedError::OtherMeasurement);
    // A guest that may be debugged, of the very same image.
    refused(Machine { policy: own.policy | 1 << 19, ..own }, SealedError::OtherPolicy);
    refused(Machine { host_data: [1; 32], ..own }, SealedError::OtherDao);
    refused(Machine { chip_seed: [0x99; 32], ..own }, SealedError::Slot);
    let older = TcbVersion { snp: own.tcb.snp - 1, ..own.tcb };
    refused(Machine { tcb: older, ..own }, SealedError::OtherTcb);
    type Change = fn(&mut KeySlot);
    let changes: [(Change, SealedError); 6] = [
        (|slot| slot.header.version = 9, SealedError::Version { found: 9 }),
        (|slot| slot.header.salt.0[0] ^= 1, SealedError::Slot),
        (|slot| slot.header.member = MemberId(3), SealedError::Slot),
        (|slot| slot.header.log = LogId([1; 32]), SealedError::Slot),
        (|slot| slot.ciphertext[5] ^= 1, SealedError::Slot),
        (|slot| slot.ciphertext.truncate(3), SealedError::Slot),
    ];
    for (change, expected) in changes {
        let mut altered = slot.clone();
        change(&mut altered);
        assert_refused(node, &altered, records, expected);
    }
}

#[test]
fn after_a_firmware_update_there_is_a_new_slot_that_older_firmware_does_not_open() {
    let mut cluster = life(None, |_, _| {});
    let (own, old) = (cluster.node(OWN).machine, cluster.node(OWN).slot.clone().expect("a slot"));
    let newer = Machine { tcb: TcbVersion { snp: own.tcb.snp + 1, ..own.tcb }, ..own };
    cluster.node_mut(OWN).machine = newer;
    cluster.crash(OWN, 5);
    let slot = cluster.node(OWN).slot.clone().expect("a slot");
    assert_ne!(slot.header.tcb, old.header.tcb);
    let records = cluster.node(OWN).records.clone();
    assert_eq!(restore(newer, &slot, &records), Ok(()));
    assert_eq!(restore(own, &slot, &records), Err(Rejection::Sealed(SealedError::OtherTcb)));
}

#[test]
fn records_that_are_not_the_log_are_refused_by_name() {
    let cluster = long_life();
    let node = cluster.node(OWN);
    let slot = node.slot.clone().expect("a slot");
    let whole = &node.records;
    let refused = |change: &dyn Fn(&mut Vec<SealedRecord>), expected| {
        let mut records = whole.clone();
        change(&mut records);
        assert_refused(node, &slot, &records, expected);
    };
    refused(&|records| records.clear(), SealedError::Incomplete);
    refused(&|records| records[4].header.version = 6, SealedError::Version { found: 6 });
    refused(&|records| records[4].ciphertext[0] ^= 1, SealedError::Altered { number: 5 });
    refused(&|records| records[4].ciphertext.truncate(4), SealedError::Altered { number: 5 });
    refused(&|records| records[4].header.salt.0[0] ^= 1, SealedError::Altered { number: 5 });
    refused(&|records| records[4].header.member = MemberId(1), SealedError::OtherMember(MemberId(1)));
    refused(&|records| records[4].header.dao.0[0] ^= 1, SealedError::OtherDao);
    refused(&|records| records[4].header.log.0[0] ^= 1, SealedError::OtherLog { number: 5 });
    refused(&|records| records[4].header.previous.0[0] ^= 1, SealedError::Chain { number: 5 });
    refused(&|records| records[4].header.number = 6, SealedError::Order { expected: 5, found: 6 });
    refused(&|records| drop(records.remove(4)), SealedError::Order { expected: 5, found: 6 });
    refused(&|records| records.swap(4, 5), SealedError::Order { expected: 5, found: 6 });
    refused(&|records| records.insert(4, records[3].clone()), SealedError::Order { expected: 5, found: 4 });
    // Another member's.
    let other = &cluster.node(MemberId(1)).records;
    assert_refused(node, &slot, other, SealedError::OtherMember(MemberId(1)));
    let kept = cluster.kept(OWN);
    let without = |wanted: RecordKind| -> Vec<SealedRecord> {
        let first = kept.iter().position(|record| record.header.kind == wanted).expect("there is one");
        let rest = kept.iter().enumerate().filter(|(position, _)| *position != first);
        rest.map(|(_, record)| record.clone()).collect()
    };
    assert_refused(node, &slot, &without(RecordKind::Vault), SealedError::Vault { expected: 2, found: 0 });
    assert_refused(node, &slot, &without(RecordKind::Part), SealedError::Incomplete);
    assert_eq!(restore(node.machine, &slot, &kept), Ok(()));
}

#[test]
fn two_enclaves_with_one_log_never_use_one_key_twice() {
    let cluster = life(None, |_, _| {});
    let node = cluster.node(OWN);
    let slot = node.slot.clone().expect("a slot");
    let salts = |seed: u8| {
        let certificates = node.certificates();
        let mut core = Core::new(SoftwarePsp::new(node.machine).seeded([seed; 32]));
        core.handle(Request::Restore { slot: Box::new(slot.clone()), certificates });
        core.handle(Request::Records(node.records.clone()));
        let outputs = core.handle(Request::Restored).outputs;
        let salts = outputs.into_iter().filter_map(|one| match one.output {
            Output::Store(Record::Sealed(record)) => Some((record.header.number, record.header.salt)),
            _ => None,
        });
        salts.collect::<Vec<_>>()
    };
    let (one, other) = (salts(1), salts(2));
    assert!(!one.is_empty());
    assert_eq!(one.len(), other.len());
    assert!(one.iter().zip(&other).all(|(one, other)| one.0 == other.0 && one.1 != other.1));
}
