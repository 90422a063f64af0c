//! What only PostgreSQL has: other hosts that want the same store, connections that break, settings that lose data.

use super::log::{log, numbers, sealed, slot};
use super::*;
use crate::blocking::tests::{is_free, one_worker};
use std::sync::Arc;

/// Ends the store's own connection, as a network that breaks would, and waits until the server has noticed.
fn cut(home: &Home) {
    let holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid::bigint = \
         (SELECT oid::bigint FROM pg_namespace WHERE nspname = current_schema())";
    let holder = home.beside(holders).remove(0);
    home.beside(&format!("SELECT pg_terminate_backend({holder})"));
    while !home.beside(holders).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn a_host_that_lost_its_connection_does_nothing_after_another_took_over() {
    let home = Home::schema();
    let first = store(&home);
    first.begin_incarnation(&enclave(1)).unwrap();
    first.keep_outputs(&enclave(1), &[send(1, Recipient::One(MemberId(2)))]).unwrap();
    cut(&home);
    let second = store(&home);
    let refused = first.keep_outputs(&enclave(1), &[send(2, Recipient::One(MemberId(2)))]);
    assert!(matches!(refused, Err(StoreError::Postgres(_))), "{refused:?}");
    assert!(first.due(MemberId(2), 0, 10).is_err(), "it does not connect again by itself");
    assert!(matches!(home.open(), Err(StoreError::InUse { .. })));
    assert_eq!(waiting(&second, 2), [[1]]);
    second.keep_outputs(&enclave(1), &[send(2, Recipient::One(MemberId(2)))]).unwrap();
    assert_eq!(waiting(&second, 2), [[1], [2]]);
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn an_older_generation_writes_nothing() {
    let home = Home::schema();
    let store = store(&home);
    store.begin_incarnation(&enclave(1)).unwrap();
    // As if the lock had been lost without the connection, by some proxy between, and another host had begun.
    home.beside("UPDATE postern SET generation = 7");
    let refused = store.keep_outputs(&enclave(1), &[send(1, Recipient::Everyone)]).unwrap_err();
    assert!(matches!(refused, StoreError::TakenOver { own: 1, found: 7 }), "{refused}");
    assert!(waiting(&store, 2).is_empty());
    home.beside("UPDATE postern SET generation = 1");
    store.keep_outputs(&enclave(1), &[send(1, Recipient::Everyone)]).unwrap();
    assert_eq!(waiting(&store, 2), [[1]]);
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn a_connection_that_breaks_in_a_transaction_leaves_nothing_of_it() {
    let home = Home::schema();
    let first = store(&home);
    first.begin_incarnation(&enclave(1)).unwrap();
    let records = log(&[RecordKind::Change; 2]);
    first.keep_outputs(&enclave(1), &[sealed(1, &records[0])]).unwrap();
    let outputs = [sealed(2, &records[1]), send(3, Recipient::Everyone)];
    // The rows that it needs are locked, and it waits; then its connection is gone.
    let refused = std::thread::scope(|scope| {
        let waits = {
            let home = &home;
            scope.spawn(move || {
                home.beside("BEGIN; LOCK TABLE outbox; SELECT pg_sleep(5)");
            })
        };
        while home.beside("SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'outbox'::regclass").is_empty() {}
        let storing = scope.spawn(|| first.keep_outputs(&enclave(1), &outputs));
        while home.beside("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'postern'").is_empty() {}
        cut(&home);
        waits.join().unwrap();
        storing.join().unwrap()
    });
    assert!(matches!(refused, Err(StoreError::Postgres(_))), "{refused:?}");
    let again = store(&home);
    assert_eq!(numbers(&again), [1]);
    again.keep_outputs(&enclave(1), &[sealed(2, &records[1])]).unwrap();
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn a_server_that_hangs_keeps_only_those_waiting_who_ask_it() {
    let runtime = one_worker();
    let home = Home::schema();
    let store = Arc::new(store(&home));
    std::thread::scope(|scope| {
        let holding = scope.spawn(|| home.beside("BEGIN; LOCK TABLE pools; SELECT pg_sleep(50)"));
        let holder = loop {
            let locks = "SELECT pid FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'pools'::regclass";
            if let Some(holder) = home.beside(locks).pop() {
                break holder;
            }
        };
        let asks = Arc::clone(&store);
        let waiting =
            runtime.spawn(async move { asks.change_pool(pool(1), |status| status.exit_requested = true) });
        let blocked = format!("SELECT 1 FROM pg_stat_activity WHERE {holder} = ANY(pg_blocking_pids(pid))");
        while home.beside(&blocked).is_empty() {}
        assert!(is_free(&runtime));
        assert!(!waiting.is_finished());
        home.beside(&format!("SELECT pg_cancel_backend({holder})"));
        assert!(holding.join().is_err(), "it was cancelled");
        runtime.block_on(waiting).unwrap().unwrap();
    });
    assert!(store.pool(pool(1)).unwrap().is_some_and(|status| status.exit_requested));
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn two_slots_are_kept_however_rows_are_numbered() {
    let home = Home::schema();
    let store = store(&home);
    for number in 1..=3 {
        store.transaction(|database| super::super::log::keep_slot(database, &slot(number))).unwrap();
        // Numbers are lost with transactions that fail, and more of them with a server that does.
        home.beside("SELECT nextval('slots_id_seq') FROM generate_series(1, 33)");
    }
    assert_eq!(store.slots().unwrap(), [slot(3), slot(2)]);
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn a_server_that_does_not_answer_costs_its_connection() {
    let home = Home::schema();
    let store = store(&home);
    // As the standby that a commit waits for, and that is gone.
    let stuck = store.transaction(|database| database.query("SELECT pg_sleep(0.01)::text", values![]));
    stuck.unwrap();
    let warns = "DO $$ BEGIN RAISE WARNING 'canceling wait for synchronous replication'; END $$";
    store.transaction(|database| database.execute(warns, values![])).unwrap();
    home.beside(
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'not on the standby'; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON slots DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn()",
    );
    let refused = store.transaction(|database| super::super::log::keep_slot(database, &slot(1))).unwrap_err();
    assert!(matches!(refused, StoreError::Postgres(_)), "{refused}");
    assert!(store.slots().is_err(), "the connection is not used again");
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn a_schema_may_have_a_name_that_sql_has_too() {
    let home = Home::schema();
    let Home::Schema { url, .. } = &home else { unreachable!() };
    for name in ["default", "user", "1a"] {
        for _ in 0..2 {
            Store::open(&in_schema(url, name, None, Authorities::System)).unwrap();
        }
        home.beside(&format!("DROP SCHEMA \"{name}\" CASCADE"));
    }
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn tables_of_another_version_are_refused() {
    let home = Home::schema();
    drop(store(&home));
    home.beside("UPDATE postern SET version = 99");
    let refused = home.open().map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused, "store: its tables have version 99, this build reads versions 1 to 4");
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn what_is_committed_is_on_the_disk_whatever_the_database_says() {
    let home = Home::schema();
    home.beside("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$");
    let store = store(&home);
    let row = store.query_one("SELECT current_setting('synchronous_commit')", values![]).unwrap().unwrap();
    assert_eq!(row.text(0).unwrap(), "on");
    home.beside("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET synchronous_commit', current_database()); END $$");
}

#[test]
#[ignore = "needs PostgreSQL, set up badly: tests/postgres.sh"]
fn a_server_that_could_lose_commits_is_refused() {
    let home = Home::schema();
    let refused = home.open().map(|_| ()).unwrap_err();
    assert!(matches!(refused, StoreError::Setting { setting: "full_page_writes", .. }), "{refused}");
}

#[test]
#[ignore = "needs PostgreSQL: tests/postgres.sh"]
fn a_server_proves_who_it_is() {
    let variable = |name| std::env::var(name).expect("run under tests/postgres.sh");
    let (url, ca) =
        (variable("POSTERN_POSTGRES_TLS"), std::fs::read(variable("POSTERN_POSTGRES_CA")).unwrap());
    let open = |ca: Option<&[u8]>| {
        let authorities = ca.map_or(Authorities::System, |pem| Authorities::parse(pem).unwrap());
        Store::open(&in_schema(&url, "tls", None, authorities)).map(|_| ()).map_err(|error| error.to_string())
    };
    open(Some(&ca)).unwrap();
    let stranger = include_bytes!("../../../../tests/vectors/snp/amd-genoa-vcek-ask-ark.pem");
    for wrong in [Some(&stranger[..]), None] {
        let refused = open(wrong).unwrap_err();
        assert!(refused.contains("UnknownIssuer"), "{refused}");
    }
}

#[test]
fn who_leaves_the_machine_uses_tls() {
    let uses_tls = |url: &str| {
        let place = format!("{:?}", in_schema(url, "postern", None, Authorities::System));
        place.contains("ssl_mode: Require") && place.contains("tls: Some")
    };
    for url in [
        "postgres://u@db.example/p",
        "postgres://u@10.0.0.1/p",
        "postgres://u@localhost,db.example/p",
        "postgres://u@localhost/p?sslmode=require",
        "host=localhost hostaddr=10.0.0.1 user=u",
    ] {
        assert!(uses_tls(url), "{url}");
    }
    for url in [
        "postgres://u@localhost/p",
        "postgres://u@127.0.0.1/p",
        "postgres://u@[::1]/p",
        "postgres://u@%2Frun%2Fpostgresql/p",
        "postgres://u@db.example/p?sslmode=disable",
    ] {
        assert!(!uses_tls(url), "{url}");
    }
}

#[test]
fn a_password_is_never_shown() {
    for (url, refused) in [
        ("postgres://u:hunter2@db.example/p?no_such_option=hunter2", PlaceError::Url),
        ("postgres://u:a@b/hunter2@db.example/p", PlaceError::TwoAts),
        ("postgres://u:a@b?hunter2=1", PlaceError::Url),
        ("postgres://u@h/p?hunter2=1", PlaceError::Url),
    ] {
        assert_eq!(DatabaseUrl::parse(url).unwrap_err(), refused);
        assert!(!refused.to_string().contains("hunter2"));
    }
    let url = "postgres://u:hunter2@db.example/p";
    let place = in_schema(url, "s", Some("hunter2"), Authorities::System);
    assert!(!format!("{place:?} {place}").contains("hunter2"));
    assert_eq!(place.to_string(), "schema s of PostgreSQL database p");
}

#[test]
fn names_that_could_be_sql_are_refused() {
    for name in ["", "a b", "a;drop", "Postern", "\"a\"", &"a".repeat(64)] {
        assert_eq!(Schema::parse(name), Err(PlaceError::Schema), "{name}");
    }
    assert_eq!(Authorities::parse(b"nothing").unwrap_err(), PlaceError::NoAuthority);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let url = "postgres://u@127.0.0.1:1/p";
    let place = in_schema(url, "s", None, Authorities::System);
    let refused = Store::open(&place).map(|_| ()).unwrap_err().to_string();
    assert!(refused.starts_with("store: schema s of PostgreSQL database p: error connecting"), "{refused}");
}
