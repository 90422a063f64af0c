use super::*;
use postern_shared::identity::SigningKey;
use postern_shared::ids::CeremonyId;
use postern_shared::message::Step;
use postern_shared::wire::{CeremonyKind, Notice, NumberedOutput, Output, Recipient};

const OWN: MemberId = MemberId(1);

fn store(directory: &Path) -> Store {
    let store = Store::open(directory).unwrap();
    store.set_members(OWN, &[1, 2, 3].map(MemberId)).unwrap();
    store
}

fn send(sequence: u64, to: Recipient) -> NumberedOutput {
    NumberedOutput { sequence, output: Output::Send { to, message: vec![sequence as u8] } }
}

fn waiting(store: &Store, member: u16) -> Vec<Vec<u8>> {
    store.due(MemberId(member), i64::MAX, 100).unwrap().into_iter().map(|row| row.message).collect()
}

#[test]
fn outputs_are_kept_once_and_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let incarnation = SigningKey([7; 32]);
    let outputs = [send(1, Recipient::Everyone), send(2, Recipient::One(MemberId(3)))];
    {
        let store = store(directory.path());
        assert!(!store.begin_incarnation(&incarnation).unwrap(), "the first is no change");
        store.keep_outputs(&incarnation, &outputs).unwrap();
    }
    let store = store(directory.path());
    assert!(!store.begin_incarnation(&incarnation).unwrap());
    store.keep_outputs(&incarnation, &outputs).unwrap();
    assert_eq!(waiting(&store, 2), [[1]]);
    assert_eq!(waiting(&store, 3), [[1], [2]]);
    assert!(waiting(&store, 1).is_empty(), "nothing to oneself");
}

#[test]
fn a_new_incarnation_counts_from_one_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    store.begin_incarnation(&SigningKey([1; 32])).unwrap();
    store.keep_outputs(&SigningKey([1; 32]), &[send(1, Recipient::One(MemberId(2)))]).unwrap();
    assert!(store.begin_incarnation(&SigningKey([2; 32])).unwrap());
    store.keep_outputs(&SigningKey([2; 32]), &[send(1, Recipient::One(MemberId(2)))]).unwrap();
    assert_eq!(waiting(&store, 2).len(), 2);
    let stale = store.keep_outputs(&SigningKey([1; 32]), &[send(2, Recipient::Everyone)]);
    assert!(matches!(stale, Err(StoreError::Damaged { .. })));
}

#[test]
fn a_postponed_message_blocks_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let incarnation = SigningKey([7; 32]);
    store.begin_incarnation(&incarnation).unwrap();
    store.keep_outputs(&incarnation, &[1, 2, 3].map(|n| send(n, Recipient::One(MemberId(2))))).unwrap();
    let rows = store.due(MemberId(2), 0, 100).unwrap();
    store.settle(&[rows[1].id], &[(rows[0].id, 1_000)]).unwrap();
    let due: Vec<i64> = store.due(MemberId(2), 999, 100).unwrap().iter().map(|row| row.id).collect();
    assert_eq!(due, [rows[2].id]);
    assert_eq!(store.due(MemberId(2), 1_000, 100).unwrap()[0].attempts, 1);
    assert_eq!(store.next_due(MemberId(2)).unwrap(), Some(0));
}

#[test]
fn a_file_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(store(directory.path()));
    let connection = Connection::open(directory.path().join("postern.sqlite")).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    let refused = Store::open(directory.path()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused, "store: its schema has version 99, this build reads version 1");
}

#[test]
fn news_are_taken_to_heart_but_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let (ceremony, pool) = (CeremonyId([1; 32]), PoolId(4));
    let progress =
        Notice::Progress { ceremony, kind: CeremonyKind::Keygen, pool, step: Step::Deal, have: 2, of: 5 };
    let missing = Notice::Missing { ceremony, step: Step::Deal, member: MemberId(2) };
    let outputs = [progress, missing, missing]
        .map(|notice| NumberedOutput { sequence: 1, output: Output::Notice(notice) });
    store.note(&outputs);
    assert_eq!(store.news().progress[&pool].have, 2);
    assert_eq!(store.take_missing().len(), 1);
    assert!(store.take_missing().is_empty());
}
