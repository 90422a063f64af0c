//! Stores of earlier versions, opened by this build. Their tables are what those builds made; `versions/` says what the rows are.

use super::super::database::Database;
use super::super::migration::{self, STEPS, run_step, upgrade};
use super::super::{schema, sqlite};
use super::log::numbers;
use super::*;
use crate::chain::beacon::ValidatorStatus;
use postern_shared::ethereum::{SignedVoluntaryExit, VoluntaryExit};
use postern_shared::message::Step as Said;
use postern_shared::wire::Artifact;
use std::path::Path;

const VERSION_1: &str = include_str!("versions/version-1.sql");
const VERSION_2: &str = include_str!("versions/version-2.sql");
const VERSION_3_EARLY: &str = include_str!("versions/version-3-early.sql");
const VERSION_3: &str = include_str!("versions/version-3.sql");

const POOLS: NumberedPools = NumberedPools { chain: 1, contract: Address([0xcc; 20]) };

fn named(number: u32) -> PoolId {
    PoolId::new(POOLS.chain, POOLS.contract, number)
}

fn exit() -> SignedVoluntaryExit {
    let message = VoluntaryExit { epoch: 3, validator_index: 12 };
    SignedVoluntaryExit { message, signature: postern_shared::bls::Signature([0xe1; 96]) }
}

fn upgraded(home: &Home, sql: &str) -> Store {
    home.fill(sql);
    let store = Store::open_of(&home.place(), POOLS).unwrap();
    assert_eq!(store.with(Database::version).unwrap(), schema::VERSION);
    store
}

/// What is wrong with a log of three records that an enclave of another version has written: all of it.
fn of_version(found: u16) -> [LogFault; 2] {
    [LogFault::SlotVersion { found }, LogFault::Version { number: 1, found }]
}

/// What the versions from 1 to 3 have in common.
fn holds_what_all_held(store: &Store) {
    let source = |block, log_index| EventSource { block: Digest([block; 32]), log_index };
    let deposit = ChainEvent::DepositRequested(DepositRequest { source: source(0xb1, 3), pool: named(7) });
    let indexed =
        ChainEvent::ValidatorIndexed { pool: named(7), pubkey: PublicKey([0xa1; 48]), validator_index: 12 };
    let exit_requested = ChainEvent::ExitRequested { source: source(0xb2, 4), pool: named(7) };
    let mut events: Vec<ChainEvent> =
        store.events_after(0).unwrap().into_iter().map(|stored| stored.event).collect();
    events.sort_unstable();
    assert_eq!(events, [deposit, indexed, exit_requested]);
    let cursor = Cursor { block: 1234, hash: Digest([0xc0; 32]) };
    assert_eq!(store.cursor(POOLS.contract).unwrap(), Some(cursor));

    let statements = |step, speaker| {
        let said = store.records(CeremonyId([7; 32]), step, MemberId(speaker)).unwrap();
        said.into_iter().map(|statement| statement.body).collect::<Vec<_>>()
    };
    assert_eq!(statements(Said::Deal, 2), [b"a deal"]);
    assert_eq!(statements(Said::Authorise, 3), [b"go on"]);

    let pool = store.pool(named(7)).unwrap().unwrap();
    assert_eq!((pool.pool_id, pool.exit), (named(7), Some(exit())));
    assert!(pool.exit_requested && pool.validator_index == Some(12) && !pool.is_over());

    let open: Vec<Artifact> =
        store.open_artifacts().unwrap().into_iter().map(|stored| stored.artifact).collect();
    assert_eq!(open[0], Artifact::Exit { pool: named(7), exit: exit() });

    // What comes next is numbered on.
    store.begin_incarnation(&enclave(9)).unwrap();
    let results = [
        Output::Publish(open[0].clone()),
        Output::Send { to: Recipient::One(MemberId(3)), message: b"new".to_vec() },
    ];
    let outputs = results.into_iter().zip(1..).map(|(output, sequence)| NumberedOutput { sequence, output });
    store.keep_outputs(&enclave(9), &outputs.collect::<Vec<_>>()).unwrap();
    assert_eq!(store.open_artifacts().unwrap().len(), open.len() + 1);
    assert_eq!(waiting(store, 3).last().unwrap(), b"new");
}

fn numbered_pools_have_names(store: &Store) {
    let pools = store.pools().unwrap();
    let [seven, ten] = &pools[..] else { panic!("{pools:?}") };
    assert_eq!((seven.beacon_status, ten.beacon_status), (Some(ValidatorStatus::ActiveExiting), None));
    assert_eq!((ten.pool_id, &seven.faults[..]), (named(10), &[MemberId(3)][..]));
    assert_eq!(seven.transcripts.keygen.as_deref(), Some(Path::new("/data/transcripts/keygen-pool-7.json")));
    let open = store.open_artifacts().unwrap();
    assert!(matches!(&open[1].artifact, Artifact::Deposit { pool, operators, .. }
        if *pool == named(10) && *operators == [1, 3].map(MemberId)));
    // No nonce is spent twice.
    let rows: Vec<_> = store.load().unwrap().into_iter().map(|row| (row.key, row.nonce, row.state)).collect();
    let mined = TransactionState::Mined { hash: Digest([0x55; 32]), block: 100 };
    let sent = ("deposit-10".to_owned(), 1, TransactionState::Sent);
    assert_eq!(rows, [sent, ("deposit-7".to_owned(), 0, mined)]);
}

fn inheritance() -> Option<Envelope> {
    let slot = Slot { ceremony: CeremonyId([7; 32]), from: MemberId(1), step: Said::HandOver, item: 0 };
    let header = EnvelopeHeader { slot, to: MemberId(2) };
    Some(Envelope { header, encapsulated: EncapsulatedKey([5; 32]), ciphertext: vec![6; 20] })
}

#[test]
fn a_store_of_version_1_is_upgraded() {
    let home = Home::directory();
    let store = upgraded(&home, VERSION_1);
    assert!(waiting(&store, 2).is_empty(), "whom it was for is gone");
    assert_eq!((numbers(&store), store.slots().unwrap()), (vec![], vec![]));
    numbered_pools_have_names(&store);
    holds_what_all_held(&store);
}

fn a_store_of_version_2_is_upgraded(home: &Home) {
    let store = upgraded(home, VERSION_2);
    assert_eq!(waiting(&store, 2), [b"said once"]);
    assert_eq!(waiting(&store, 3), [b"can be had again"]);
    assert_eq!((numbers(&store), store.slots().unwrap().len()), (vec![1, 2, 3], 2));
    let check = store.check_log().unwrap();
    assert_eq!((check.records, check.settled), (3, 1));
    // It was upgraded, and the log in it is none for this build's enclave.
    assert_eq!(check.faults, of_version(1));
    assert_eq!(store.inheritance().unwrap(), inheritance());
    numbered_pools_have_names(&store);
    holds_what_all_held(&store);
}

fn an_early_store_of_version_3_is_upgraded(home: &Home) {
    let store = upgraded(home, VERSION_3_EARLY);
    assert_eq!(waiting(&store, 2), [b"said once"]);
    assert_eq!((numbers(&store), store.slots().unwrap().len()), (vec![1, 2, 3], 1));
    assert_eq!(store.check_log().unwrap().faults, of_version(2));
    assert_eq!(store.inheritance().unwrap(), inheritance());
    let rows: Vec<_> = store.load().unwrap().into_iter().map(|row| (row.key, row.state)).collect();
    assert_eq!(rows, [(format!("deposit-{}", named(7).text()), TransactionState::Prepared)]);
    holds_what_all_held(&store);
}

fn a_store_of_version_3_is_upgraded(home: &Home) {
    let store = upgraded(home, VERSION_3);
    store.prune().unwrap();
    let pools = store.pools().unwrap();
    let [first, second] = &pools[..] else { panic!("{pools:?}") };
    assert!(!first.is_over() && second.is_over());
    assert_eq!((first.validator_index, second.validator_index), (Some(16), Some(17)));
    assert!(first.deposit.is_some() && first.exit.is_some() && first.is_released_here);
    assert_eq!(waiting(&store, 2), [b"said once"]);
    assert_eq!((numbers(&store), store.slots().unwrap().len()), (vec![1, 2, 3], 1));
    assert_eq!(store.check_log().unwrap().faults, of_version(5));
    let open = store.open_artifacts().unwrap();
    assert!(matches!(&open[..], [stored] if matches!(stored.artifact, Artifact::Exit { .. })));
    let counts = |sql| store.query(sql, values![]).unwrap()[0].integer(0).unwrap();
    // The transcript of the second pool's release said which statements were its own: five of eight.
    assert_eq!(counts("SELECT count(*) FROM records"), 3);
    assert_eq!(counts("SELECT count(*) FROM ceremonies"), 0);
    let steps = store.query("SELECT DISTINCT step FROM records ORDER BY step", values![]).unwrap();
    let steps: Vec<&[u8]> = steps.iter().map(|row| row.bytes(0).unwrap()).collect();
    assert_eq!(steps, [codec::encode(&Said::Authorise), codec::encode(&Said::Decide)]);
    assert_eq!(store.events_after(0).unwrap().len(), 6);
    assert!(store.cursor(first.pool_id.contract).unwrap().is_some());
    let rows = store.load().unwrap();
    assert!(matches!(&rows[..], [row] if row.key.starts_with("exited-") && row.conclusion.is_some()));
}

fn a_store_that_numbers_its_pools_takes_to_know_whose_they_are(home: &Home) {
    home.fill(VERSION_2);
    assert!(matches!(home.open(), Err(StoreError::Nameless)));
    // Nothing was changed.
    let store = Store::open_of(&home.place(), POOLS).unwrap();
    numbered_pools_have_names(&store);
}

fn a_result_that_waits_in_an_unknown_form_is_refused(home: &Home) {
    let sql =
        VERSION_3_EARLY.replace("X'0061207472616e736372697074', 1)", "X'0061207472616e736372697074', 0)");
    assert_ne!(sql, VERSION_3_EARLY);
    home.fill(&sql);
    for _ in 0..2 {
        let refused = home.open().map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::Unfinished { id: 1 }), "{refused}");
    }
}

/// The last step, and then something goes wrong.
fn fails(database: &mut Database, pools: Option<NumberedPools>) -> Result<(), StoreError> {
    let [.., last] = &STEPS;
    (last.run)(database, pools)?;
    Err(StoreError::Unfinished { id: 0 })
}

fn a_step_that_fails_at_its_end_was_never_begun(home: &Home) {
    home.fill(VERSION_3_EARLY);
    let mut database = home.database();
    let step = migration::Step { from: 3, run: fails };
    assert!(matches!(run_step(&mut database, &step, None), Err(StoreError::Unfinished { id: 0 })));
    assert_eq!(database.version().unwrap(), 3);
    assert!(!database.has_column("records", "digest").unwrap());
    assert!(database.has_column("artifacts", "done").unwrap());
    upgrade(&mut database, None).unwrap();
    assert_eq!(database.version().unwrap(), schema::VERSION);
    drop(database);
    holds_what_all_held(&home.open().unwrap());
}

fn upgraded_tables_are_those_of_a_new_store(home: &Home) {
    drop(upgraded(home, VERSION_2));
    let mut database = home.database();
    for table in &schema::ALL {
        for column in table.columns {
            assert!(database.has_column(table.name, column).unwrap(), "{}.{column}", table.name);
        }
    }
    assert!(!database.has_column("artifacts", "done").unwrap());
}

on_both!(
    a_store_of_version_2_is_upgraded,
    an_early_store_of_version_3_is_upgraded,
    a_store_of_version_3_is_upgraded,
    a_store_that_numbers_its_pools_takes_to_know_whose_they_are,
    a_result_that_waits_in_an_unknown_form_is_refused,
    a_step_that_fails_at_its_end_was_never_begun,
    upgraded_tables_are_those_of_a_new_store,
);

/// A definition without its comments, spaces and quotes.
fn bare(definition: &str) -> String {
    let lines = definition.lines().map(|line| line.split("--").next().unwrap());
    lines.flat_map(str::chars).filter(|letter| !letter.is_whitespace() && *letter != '"').collect()
}

#[test]
fn upgraded_files_have_the_definitions_of_new_ones() {
    let new = Home::directory();
    drop(store(&new));
    // Types, keys, uniqueness, defaults and strictness: all that a definition says. Columns are given by their names everywhere
    // but where a whole row is written, so that their order counts too.
    let definitions = |home: &Home| {
        let connection = rusqlite::Connection::open(home.path().join("postern.sqlite")).unwrap();
        let sql = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, bare(&row.get::<_, String>(1)?))));
        rows.unwrap().collect::<Result<Vec<(String, String)>, _>>().unwrap()
    };
    let expected = definitions(&new);
    assert_eq!(expected.len(), schema::ALL.len() + 2, "tables and indices");
    for sql in [VERSION_1, VERSION_2, VERSION_3_EARLY, VERSION_3] {
        let old = Home::directory();
        drop(upgraded(&old, sql));
        assert_eq!(definitions(&old), expected);
    }
}

#[test]
fn a_host_that_is_killed_in_a_step_finds_the_old_version() {
    for (sql, from) in [(VERSION_1, 1), (VERSION_2, 2), (VERSION_3_EARLY, 3), (VERSION_3, 3)] {
        let (home, killed) = (Home::directory(), Home::directory());
        home.fill(sql);
        let mut database = Database::Sqlite(sqlite::Sqlite::open(home.path()).unwrap());
        let step = STEPS.iter().find(|step| step.from == from).unwrap();
        let done: Result<(), StoreError> = database.transaction(|database| {
            (step.run)(database, Some(POOLS))?;
            database.set_version(from + 1)?;
            // What the disk has now is what a host that is started again finds.
            for name in ["postern.sqlite", "postern.sqlite-wal"] {
                std::fs::copy(home.path().join(name), killed.path().join(name)).unwrap();
            }
            Ok(())
        });
        done.unwrap();
        let mut found = Database::Sqlite(sqlite::Sqlite::open(killed.path()).unwrap());
        assert_eq!(found.version().unwrap(), from);
        upgrade(&mut found, Some(POOLS)).unwrap();
        assert_eq!(found.version().unwrap(), schema::VERSION);
    }
}
