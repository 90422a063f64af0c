//! What only SQLite has: a file.

use super::log::{log, numbers, sealed};
use super::*;
use crate::blocking::tests::{GENEROUS, is_free, one_worker};
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, mpsc};

#[test]
fn another_programs_lock_is_waited_for() {
    let home = Home::directory();
    let store = store(&home);
    let other = rusqlite::Connection::open(home.path().join("postern.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(other);
    });
    store.begin_incarnation(&enclave(7)).unwrap();
    release.join().unwrap();
}

#[test]
fn a_database_that_hangs_keeps_only_those_waiting_who_ask_it() {
    // Ends last: until the other program has let go, tasks wait.
    let runtime = one_worker();
    let home = Home::directory();
    let store = Arc::new(store(&home));
    store.with(|database| database.define("PRAGMA busy_timeout = 600000")).unwrap();
    let other = rusqlite::Connection::open(home.path().join("postern.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (begun, has_begun) = mpsc::channel();
    // The first waits for the other program, the second for the first, the third for what both may change.
    let waiting = [1, 2, 3].map(|number| {
        let (store, begun) = (Arc::clone(&store), begun.clone());
        runtime.spawn(async move {
            begun.send(()).unwrap();
            match number {
                3 => store.pools().map(drop),
                _ => store.change_pool(pool(number), |pool| pool.exit_requested = true),
            }
        })
    });
    for _ in &waiting {
        has_begun.recv_timeout(GENEROUS).unwrap();
    }
    assert!(is_free(&runtime));
    assert!(waiting.iter().take(2).all(|waiting| !waiting.is_finished()));
    other.execute_batch("ROLLBACK").unwrap();
    for waiting in waiting {
        runtime.block_on(waiting).unwrap().unwrap();
    }
    assert_eq!(store.pools().unwrap().len(), 2);
}

#[test]
fn a_file_of_another_version_is_refused() {
    let home = Home::directory();
    drop(store(&home));
    let connection = Connection::open(home.path().join("postern.sqlite")).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    let refused = home.open().map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused, "store: its tables have version 99, this build reads versions 1 to 4");
}

#[test]
fn a_torn_write_loses_the_last_transaction_or_nothing() {
    tear(211);
}

#[test]
#[ignore = "long: run in release by the slow suites"]
fn a_write_torn_at_many_bytes_loses_the_last_transaction_or_nothing() {
    // At every byte it takes two minutes, and more where the disk is slow.
    let step = std::env::var("POSTERN_TEAR_STEP").ok().and_then(|step| step.parse().ok());
    tear(step.unwrap_or(29));
}

/// Power fails while the last transaction is on its way to the disk: SQLite's log ends at any byte, or in nonsense.
fn tear(step: usize) {
    let home = Home::directory();
    let wal = |folder: &Path| folder.join("postern.sqlite-wal");
    let store = store(&home);
    store.begin_incarnation(&enclave(7)).unwrap();
    let records = log(&[RecordKind::Change; 6]);
    for (record, sequence) in records[..5].iter().zip(1..) {
        store.keep_outputs(&enclave(7), &[sealed(sequence, record)]).unwrap();
    }
    let before = std::fs::metadata(wal(home.path())).unwrap().len() as usize;
    store.keep_outputs(&enclave(7), &[sealed(6, &records[5]), send(7, Recipient::Everyone)]).unwrap();
    // As the disk has it, before anything is tidied up.
    let database = std::fs::read(home.path().join("postern.sqlite")).unwrap();
    let whole = std::fs::read(wal(home.path())).unwrap();
    assert!(whole.len() > before, "the last transaction is in the log's new part");
    let torn = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("postern.sqlite"), &database).unwrap();
        std::fs::write(wal(folder.path()), bytes).unwrap();
        let store = Store::open(&Place::Directory(folder.path().to_owned())).unwrap();
        let (numbers, messages) = (numbers(&store), waiting(&store, 2).len());
        match numbers.len() {
            5 => assert_eq!(messages, 0, "nothing of it"),
            6 => assert_eq!(messages, 1, "all of it"),
            other => panic!("{other} records"),
        }
        numbers.len()
    };
    assert_eq!(torn(&whole), 6);
    let mut lost = 0;
    for end in (before..whole.len()).step_by(step) {
        lost += usize::from(torn(&whole[..end]) == 5);
        let mut nonsense = whole.clone();
        nonsense[end..].iter_mut().for_each(|byte| *byte ^= 0xa5);
        lost += usize::from(torn(&nonsense) == 5);
    }
    let most = 2 * (whole.len() - before).div_ceil(step);
    assert!(lost > most / 2, "{lost} of {most}: only what comes after the commit is of no consequence");
}
