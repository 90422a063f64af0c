//! The enclave's sealed log.

use super::super::log::{keep_record, keep_slot};
use super::*;
use postern_shared::ids::Measurement;
use postern_shared::record::{KeySlot, SlotHeader};
use postern_shared::snp::RawTcb;

/// A key to the log, told from others by its number.
pub(super) fn slot(number: u8) -> KeySlot {
    slot_of(LOG, number)
}

const LOG: LogId = LogId([2; 32]);
/// Of a successor, and of another one.
const NEXT: LogId = LogId([4; 32]);
const OTHER: LogId = LogId([5; 32]);

fn slot_of(log: LogId, number: u8) -> KeySlot {
    let header = SlotHeader {
        version: RECORD_VERSION,
        dao: ManifestHash([1; 32]),
        member: OWN,
        log,
        measurement: Measurement([3; 48]),
        policy: 0,
        tcb: RawTcb([0; 8]),
        salt: Salt([number; 32]),
    };
    KeySlot { header, ciphertext: vec![number; 48] }
}

fn two_slots_are_kept(home: &Home) {
    let store = store(home);
    for number in 1..=4 {
        keep_key(&store, &slot(number));
    }
    assert_eq!(store.slots().unwrap(), [slot(4), slot(3)]);
}

fn record(log: LogId, previous: LogHead, kind: RecordKind) -> SealedRecord {
    let header = RecordHeader {
        version: RECORD_VERSION,
        dao: ManifestHash([1; 32]),
        member: OWN,
        log,
        number: previous.number + 1,
        previous: previous.digest,
        kind,
        salt: Salt([previous.number as u8; 32]),
    };
    SealedRecord { header, ciphertext: vec![previous.number as u8 ^ log.0[0]; 40] }
}

pub(super) fn sealed(sequence: u64, record: &SealedRecord) -> NumberedOutput {
    NumberedOutput { sequence, output: Output::Store(Record::Sealed(Box::new(record.clone()))) }
}

/// The first records of a log, of these kinds.
pub(super) fn log(kinds: &[RecordKind]) -> Vec<SealedRecord> {
    going_on(LOG, LogHead::START, kinds)
}

/// Records of this log after that place.
fn going_on(log: LogId, after: LogHead, kinds: &[RecordKind]) -> Vec<SealedRecord> {
    let next = |head: &mut LogHead, kind: &RecordKind| {
        let record = record(log, *head, *kind);
        *head = record.head();
        Some(record)
    };
    kinds.iter().scan(after, next).collect()
}

fn keep(store: &Store, records: &[SealedRecord]) -> Result<(), StoreError> {
    records.iter().try_for_each(|one| store.transaction(|database| keep_record(database, one)))
}

fn keep_key(store: &Store, slot: &KeySlot) {
    store.transaction(|database| keep_slot(database, slot)).unwrap();
}

pub(super) fn numbers(store: &Store) -> Vec<u64> {
    store.log(0, usize::MAX).unwrap().iter().map(|record| record.header.number).collect()
}

fn a_snapshot_takes_the_place_of_what_it_repeats(home: &Home) {
    use RecordKind::{Change, Part, Snapshot, Vault};
    let store = store(home);
    store.begin_incarnation(&enclave(7)).unwrap();
    let kinds = [Change, Change, Vault, Part, Part, Snapshot { first: 4 }, Change];
    for (records, expected) in [(5, vec![1, 2, 3, 4, 5]), (6, vec![3, 4, 5, 6]), (7, vec![3, 4, 5, 6, 7])] {
        let outputs: Vec<_> =
            log(&kinds[..records]).iter().zip(1..).map(|(one, at)| sealed(at, one)).collect();
        store.keep_outputs(&enclave(7), &outputs).unwrap();
        assert_eq!(numbers(&store), expected);
    }
    assert_eq!(store.log_head().unwrap(), log(&kinds)[6].head());
    let pages: Vec<u64> = [0, 3, 4, 7].map(|after| store.log(after, 1).unwrap().len() as u64).to_vec();
    assert_eq!(pages, [1, 1, 1, 0], "at least one, if there is one");
}

fn a_log_that_does_not_go_on_where_the_stored_one_ends_is_refused(home: &Home) {
    let store = store(home);
    store.begin_incarnation(&enclave(7)).unwrap();
    let records = log(&[RecordKind::Change; 4]);
    store.keep_outputs(&enclave(7), &[sealed(1, &records[0]), sealed(2, &records[1])]).unwrap();
    let gap = store.keep_outputs(&enclave(7), &[sealed(3, &records[3])]);
    assert!(matches!(gap, Err(StoreError::Log(SealedError::Order { expected: 3, found: 4 }))));
    let mut fork = records[2].clone();
    fork.header.previous.0[0] ^= 1;
    let fork = store.keep_outputs(&enclave(7), &[sealed(3, &fork)]);
    assert!(matches!(fork, Err(StoreError::Log(SealedError::Chain { number: 3 }))));
    let mut other = records[1].clone();
    other.ciphertext[0] ^= 1;
    let other = store.keep_outputs(&enclave(7), &[sealed(3, &other)]);
    assert!(matches!(other, Err(StoreError::OtherRecord { number: 2 })));
    store.keep_outputs(&enclave(7), &[sealed(3, &records[2])]).unwrap();
    assert_eq!(numbers(&store), [1, 2, 3]);
}

fn a_log_is_checked_record_by_record(home: &Home) {
    use RecordKind::{Change, Part, Snapshot, Vault};
    let store = store(home);
    store.begin_incarnation(&enclave(7)).unwrap();
    assert_eq!(store.check_log().unwrap().faults, [LogFault::NoSlot], "an enclave that was never started");
    let kinds = [Change, Vault, Change, Part, Snapshot { first: 4 }, Change];
    let records = log(&kinds);
    let outputs: Vec<_> = records.iter().zip(1..).map(|(one, at)| sealed(at, one)).collect();
    store.keep_outputs(&enclave(7), &outputs).unwrap();
    let found = store.check_log().unwrap();
    assert_eq!((found.records, found.settled, found.head), (4, 1, records[5].head()));
    let row = |record: &SealedRecord| {
        let header = &record.header;
        values![header.number as i64, header.kind == Vault, codec::encode(record)]
    };
    let with = |number: i64, instead: Option<Vec<u8>>| {
        store.execute("DELETE FROM log WHERE number >= ?1", values![number]).unwrap();
        if let Some(bytes) = instead {
            store.execute("INSERT INTO log VALUES (?1, 0, ?2)", values![number, bytes]).unwrap();
        }
        for record in records.iter().filter(|record| record.header.number as i64 > number) {
            store.execute("INSERT INTO log VALUES (?1, ?2, ?3)", row(record)).unwrap();
        }
        let mut faults = store.check_log().unwrap().faults;
        store.execute("DELETE FROM log WHERE number = ?1", values![number]).unwrap();
        store.execute("INSERT INTO log VALUES (?1, ?2, ?3)", row(&records[number as usize - 1])).unwrap();
        faults.retain(|fault| *fault != LogFault::NoSlot);
        faults
    };
    let gap = LogFault::Record(SealedError::Order { expected: 5, found: 6 });
    assert_eq!(with(5, None), [gap, LogFault::Snapshot]);
    assert_eq!(with(4, None), [LogFault::Begin { number: 5 }]);
    let mut altered = records[4].clone();
    altered.ciphertext[0] ^= 1;
    assert_eq!(with(5, Some(codec::encode(&altered))), [LogFault::Record(SealedError::Chain { number: 6 })]);
    assert_eq!(with(6, Some(vec![0])), [LogFault::Undecodable { after: 5 }]);
    let elsewhere = with(6, Some(codec::encode(&records[4])));
    assert_eq!(elsewhere, [LogFault::Undecodable { after: 5 }], "a record in another's place");
    let mut earlier = records[5].clone();
    earlier.header.version -= 1;
    let version = LogFault::Version { number: 6, found: RECORD_VERSION - 1 };
    assert_eq!(with(6, Some(codec::encode(&earlier))), [version]);
    assert_eq!(with(6, Some(codec::encode(&records[5]))), []);
    store.execute("DELETE FROM log WHERE number > 4", values![]).unwrap();
    assert_eq!(store.check_log().unwrap().faults, [LogFault::NoSlot, LogFault::Snapshot]);
}

/// A log of three records with its key, and what a successor writes behind it.
fn with_a_successor(home: &Home, kinds: &[RecordKind]) -> (Store, Vec<SealedRecord>, Vec<SealedRecord>) {
    use RecordKind::{Change, Vault};
    let store = store(home);
    let own = log(&[Change, Vault, Change]);
    keep_key(&store, &slot(1));
    keep(&store, &own).unwrap();
    let successor = going_on(NEXT, own[2].head(), kinds);
    keep(&store, &successor).unwrap();
    (store, own, successor)
}

fn a_successors_log_that_never_brought_its_key_gives_way(home: &Home) {
    use RecordKind::{Change, Part, Snapshot, Vault};
    let (store, own, begun) = with_a_successor(home, &[Part, Part]);
    assert_eq!(numbers(&store), [1, 2, 3, 4, 5]);
    // It may be said again for as long as it goes on.
    keep(&store, &begun).unwrap();
    assert_eq!(numbers(&store), [1, 2, 3, 4, 5]);
    // Another successor begins in its place, and does not get far either.
    let other = going_on(OTHER, own[2].head(), &[Part]);
    keep(&store, &other).unwrap();
    assert_eq!(store.log(0, usize::MAX).unwrap(), [&own[..], &other].concat());
    // The enclave itself goes on.
    let on = going_on(LOG, own[2].head(), &[Change, Vault]);
    keep(&store, &on).unwrap();
    assert_eq!(store.log(0, usize::MAX).unwrap(), [&own[..], &on].concat());
    assert_eq!(store.check_log().unwrap().faults, []);
    // Later one brings its key, and the log before it is there no more but for what is settled.
    let whole = going_on(NEXT, on[1].head(), &[Part, Snapshot { first: 6 }]);
    keep(&store, &whole).unwrap();
    keep_key(&store, &slot_of(NEXT, 2));
    assert_eq!(numbers(&store), [2, 5, 6, 7]);
    let more = going_on(NEXT, whole[1].head(), &[Change]);
    keep(&store, &more).unwrap();
    assert_eq!(numbers(&store), [2, 5, 6, 7, 8]);
}

fn a_repeated_record_of_the_log_that_counts_is_not_taken_for_another(home: &Home) {
    let (store, own, _) = with_a_successor(home, &[RecordKind::Part]);
    // An enclave repeats what was not acknowledged: what its successor has begun goes, what it has written stays.
    keep(&store, &own[2..]).unwrap();
    assert_eq!(store.log(0, usize::MAX).unwrap(), own);
}

fn settled_pools_of_a_log_that_was_handed_over_belong_to_the_next(home: &Home) {
    use RecordKind::{Change, Part, Snapshot, Vault};
    let (store, own, _) = with_a_successor(home, &[Vault, Part, Snapshot { first: 5 }, Change]);
    keep_key(&store, &slot_of(NEXT, 2));
    assert_eq!(numbers(&store), [2, 4, 5, 6, 7]);
    let found = store.check_log().unwrap();
    assert_eq!((found.faults, found.records, found.settled), (vec![], 5, 2));
    // What stands behind it of another log is none of it; what comes after that has nothing to go on from.
    let header = RecordHeader { log: OTHER, ..going_on(NEXT, own[2].head(), &[Change])[0].header };
    let last = store.log(6, usize::MAX).unwrap().remove(0);
    let header = RecordHeader { number: 7, previous: last.header.previous, ..header };
    let stranger = codec::encode(&SealedRecord { header, ..last });
    store.execute("DELETE FROM log WHERE number = ?1", values![7i64]).unwrap();
    store.execute("INSERT INTO log VALUES (?1, 0, ?2)", values![7i64, stranger]).unwrap();
    let found = store.check_log().unwrap();
    assert_eq!((found.faults, found.records, found.head.number), (vec![], 4, 6));
}

on_both!(
    a_snapshot_takes_the_place_of_what_it_repeats,
    a_log_that_does_not_go_on_where_the_stored_one_ends_is_refused,
    a_log_is_checked_record_by_record,
    two_slots_are_kept,
    a_successors_log_that_never_brought_its_key_gives_way,
    a_repeated_record_of_the_log_that_counts_is_not_taken_for_another,
    settled_pools_of_a_log_that_was_handed_over_belong_to_the_next,
);
