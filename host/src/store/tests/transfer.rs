//! The store in one file.

use super::log::{log, numbers, sealed};
use super::*;
use sha2::{Digest as _, Sha256};

/// A row in each table.
fn filled(home: &Home) -> Store {
    let store = store(home);
    let incarnation = enclave(7);
    store.begin_incarnation(&incarnation).unwrap();
    let slot = Slot { ceremony: CeremonyId([1; 32]), from: MemberId(1), step: Step::Deal, item: 0 };
    let statement = |item| Broadcast {
        slot: Slot { item, ..slot },
        body: vec![1],
        signature: IdentitySignature([0; 64]),
    };
    let mut outputs: Vec<_> =
        log(&[RecordKind::Change; 100]).iter().zip(1..).map(|(one, at)| sealed(at, one)).collect();
    for item in 0..70 {
        let output = Output::Store(Record::Broadcast(statement(item)));
        outputs.push(NumberedOutput { sequence: 101, output });
    }
    outputs.push(send(102, Recipient::Everyone));
    outputs.push(send(103, Recipient::Everyone));
    store.keep_outputs(&incarnation, &outputs).unwrap();
    let gone = store.due(MemberId(2), 0, 1).unwrap()[0].id;
    store.settle(&[gone], &[]).unwrap();
    let source = EventSource { block: Digest([1; 32]), log_index: 3 };
    let cursor = Cursor { block: 9, hash: Digest([9; 32]) };
    let events = [ChainEvent::ExitRequested { source, pool: pool(4) }];
    store.keep_events(&events, Some((pool(4).contract, cursor))).unwrap();
    store.save(&TransactionRow::new("deposit-1 \u{1f512}", Address([1; 20]), vec![1], 7)).unwrap();
    store
}

fn exported(store: &Store) -> Vec<u8> {
    let mut file = Vec::new();
    store.export(&mut file).unwrap();
    file
}

fn imported(home: &Home, mut file: &[u8]) -> Result<Store, TransferError> {
    let store = home.open().unwrap();
    store.import(&mut file).map(|_| store)
}

fn a_copy_is_the_same_and_goes_on(home: &Home) {
    let first = filled(home);
    let file = exported(&first);
    let homes = [Home::directory()].into_iter();
    let homes = homes.chain(matches!(home, Home::Schema { .. }).then(Home::schema));
    for other in homes {
        let copy = imported(&other, &file).unwrap();
        assert_eq!(exported(&copy), file);
        assert_eq!(numbers(&copy), numbers(&first));
        assert_eq!(copy.load().unwrap(), first.load().unwrap());
        assert_eq!(waiting(&copy, 2), waiting(&first, 2));
        // Rows are numbered on: none takes the place of one that was there.
        copy.keep_outputs(&enclave(7), &[send(104, Recipient::Everyone)]).unwrap();
        assert_eq!(waiting(&copy, 2), [[103], [104]]);
    }
}

fn a_store_with_anything_in_it_is_not_overwritten(home: &Home) {
    let file = exported(&filled(&Home::directory()));
    let store = store(home);
    let refused = store.import(&mut &file[..]).unwrap_err();
    assert!(matches!(refused, TransferError::NotEmpty { table: "meta" }), "{refused}");
}

/// The checksum made to fit.
fn resealed(file: &[u8]) -> Vec<u8> {
    let content = &file[..file.len() - 32];
    [content, &Sha256::digest(content)[..]].concat()
}

fn files_that_are_not_whole_leave_the_store_empty(home: &Home) {
    let file = exported(&filled(&Home::directory()));
    let mut flipped = file.clone();
    flipped[file.len() - 40] ^= 1;
    let mut long = file.clone();
    long.push(0);
    let mut newer = file.clone();
    newer[14] = b'2';
    let mut schema = file.clone();
    // Schema(4), after the magic and the entry's length.
    assert_eq!(schema[16..22], [2, 0, 0, 0, 0, 8]);
    schema[21] = 10;
    let mut huge = file.clone();
    huge[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    type Expected = fn(&TransferError) -> bool;
    let cases: [(Vec<u8>, Expected); 9] = [
        (Vec::new(), |error| matches!(error, TransferError::CutOff)),
        (file[..15].to_vec(), |error| matches!(error, TransferError::CutOff)),
        (file[..file.len() / 2].to_vec(), |error| matches!(error, TransferError::CutOff)),
        (file[..file.len() - 1].to_vec(), |error| matches!(error, TransferError::CutOff)),
        (flipped, |error| matches!(error, TransferError::Checksum | TransferError::Content(_))),
        (long, |error| matches!(error, TransferError::Content("more than a store"))),
        (newer, |error| matches!(error, TransferError::Magic)),
        (resealed(&schema), |error| matches!(error, TransferError::Schema { expected: 4, found: 5 })),
        (huge, |error| matches!(error, TransferError::Content("a row that is too long"))),
    ];
    for (number, (bytes, expected)) in cases.into_iter().enumerate() {
        let error = imported(home, &bytes).map(|_| ()).unwrap_err();
        assert!(expected(&error), "{number}: {error}");
    }
    // At any byte: nothing of it stays.
    for end in (0..file.len()).step_by(997) {
        assert!(imported(home, &file[..end]).is_err());
    }
    imported(home, &file).unwrap();
}

on_both!(
    a_copy_is_the_same_and_goes_on,
    a_store_with_anything_in_it_is_not_overwritten,
    files_that_are_not_whole_leave_the_store_empty,
);

#[test]
fn all_tables_and_columns_are_copied() {
    let home = Home::directory();
    let store = store(&home);
    let tables =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let names = |sql: &str| -> Vec<String> {
        let rows = store.query(sql, values![]).unwrap();
        rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect()
    };
    let mut copied: Vec<_> = schema::ALL.iter().map(|table| table.name).collect();
    copied.sort_unstable();
    assert_eq!(names(tables), copied);
    for table in &schema::ALL {
        assert_eq!(
            names(&format!("SELECT name FROM pragma_table_info('{}') ORDER BY cid", table.name)),
            table.columns
        );
        let keys =
            names(&format!("SELECT name FROM pragma_table_info('{}') WHERE pk > 0 ORDER BY pk", table.name));
        assert_eq!(keys, table.columns[..table.key]);
    }
}
