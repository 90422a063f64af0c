//! The enclave's sealed log.

use super::*;
use postern_shared::ids::Measurement;
use postern_shared::record::{KeySlot, SlotHeader};
use postern_shared::snp::RawTcb;

/// A key to the log, told from others by its number.
pub(super) fn slot(number: u8) -> KeySlot {
    let header = SlotHeader {
        version: RECORD_VERSION,
        dao: ManifestHash([1; 32]),
        member: OWN,
        log: LogId([2; 32]),
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
        store.transaction(|database| super::super::log::keep_slot(database, &slot(number))).unwrap();
    }
    assert_eq!(store.slots().unwrap(), [slot(4), slot(3)]);
}

fn record(previous: LogHead, kind: RecordKind) -> SealedRecord {
    let header = RecordHeader {
        version: RECORD_VERSION,
        dao: ManifestHash([1; 32]),
        member: OWN,
        log: LogId([2; 32]),
        number: previous.number + 1,
        previous: previous.digest,
        kind,
        salt: Salt([previous.number as u8; 32]),
    };
    SealedRecord { header, ciphertext: vec![previous.number as u8; 40] }
}

pub(super) fn sealed(sequence: u64, record: &SealedRecord) -> NumberedOutput {
    NumberedOutput { sequence, output: Output::Store(Record::Sealed(Box::new(record.clone()))) }
}

/// The first records of a log, of these kinds.
pub(super) fn log(kinds: &[RecordKind]) -> Vec<SealedRecord> {
    let next = |head: &mut LogHead, kind: &RecordKind| {
        let record = record(*head, *kind);
        *head = record.head();
        Some(record)
    };
    kinds.iter().scan(LogHead::START, next).collect()
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
    assert_eq!(with(6, Some(codec::encode(&records[5]))), []);
    store.execute("DELETE FROM log WHERE number > 4", values![]).unwrap();
    assert_eq!(store.check_log().unwrap().faults, [LogFault::NoSlot, LogFault::Snapshot]);
}

on_both!(
    a_snapshot_takes_the_place_of_what_it_repeats,
    a_log_that_does_not_go_on_where_the_stored_one_ends_is_refused,
    a_log_is_checked_record_by_record,
    two_slots_are_kept,
);
