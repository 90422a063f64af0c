//! A place for a store, gone with the test.

use super::super::database::Database;
use super::super::{postgres, schema, sqlite};
use super::*;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Names the server for the tests that need one; `tests/postgres.sh` starts one and sets it.
const VARIABLE: &str = "POSTERN_POSTGRES";

pub(super) enum Home {
    Directory(TempDir),
    Schema { url: String, schema: String },
}

impl Home {
    pub(super) fn directory() -> Self {
        Self::Directory(tempfile::tempdir().unwrap())
    }

    /// A schema of its own.
    pub(super) fn schema() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Ok(url) = std::env::var(VARIABLE) else {
            panic!("{VARIABLE} names no PostgreSQL for this test; run it under tests/postgres.sh");
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::Schema { url, schema: format!("store_{}_{number}", std::process::id()) }
    }

    pub(super) fn place(&self) -> Place {
        match self {
            Self::Directory(directory) => Place::Directory(directory.path().to_owned()),
            Self::Schema { url, schema } => in_schema(url, schema, None, Authorities::System),
        }
    }

    pub(super) fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.place())
    }

    /// The database alone, without what a store does when it opens one.
    pub(super) fn database(&self) -> Database {
        match self.place() {
            Place::Directory(directory) => Database::Sqlite(sqlite::Sqlite::open(&directory).unwrap()),
            Place::Postgres(place) => Database::Postgres(postgres::Server::open(&place).unwrap()),
        }
    }

    /// Makes the store of an earlier version that is written down as what SQLite has to do for it.
    pub(super) fn fill(&self, sql: &str) {
        match self {
            Self::Directory(directory) => {
                let connection = rusqlite::Connection::open(directory.path().join("postern.sqlite")).unwrap();
                connection.execute_batch(&format!("BEGIN; {sql} COMMIT;")).unwrap();
            }
            Self::Schema { schema, .. } => {
                let (tables, version) = sql.split_once("PRAGMA user_version = ").unwrap();
                let version = version.trim_end().trim_end_matches(';');
                let tables = schema::in_postgres(tables).replace("X'", "'\\x");
                // Rows that come later are numbered on from these.
                let numbered = ["outbox", "slots", "artifacts", "events"].map(|table| {
                    format!("SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}));")
                });
                self.beside(&format!(
                    "CREATE SCHEMA {schema}; {tables} {} \
                     CREATE TABLE postern (version BIGINT NOT NULL, generation BIGINT NOT NULL); \
                     INSERT INTO postern VALUES ({version}, 0)",
                    numbered.concat()
                ));
            }
        }
    }

    pub(super) fn path(&self) -> &std::path::Path {
        match self {
            Self::Directory(directory) => directory.path(),
            Self::Schema { .. } => panic!("not in a directory"),
        }
    }

    /// Does something over a connection beside the store's; what the first column of the answer holds.
    pub(super) fn beside(&self, sql: &str) -> Vec<String> {
        let Self::Schema { url, schema } = self else { panic!("no server") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client
                .batch_execute(&format!("SET search_path TO \"{schema}\"; SET lock_timeout = '5s'"))
                .await
                .unwrap();
            let messages = client.simple_query(sql).await.unwrap();
            let rows = messages.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            rows.collect()
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test that failed may have left the store open; the whole server goes away anyway.
        if let Self::Schema { schema, .. } = &*self
            && !std::thread::panicking()
        {
            self.beside(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE"));
        }
    }
}

/// The same tests of a store in a file and of one in PostgreSQL.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod in_a_file {
            $(#[test] fn $name() { super::$name(&$crate::store::tests::home::Home::directory()); })*
        }
        mod in_postgres {
            $(#[test] #[ignore = "needs PostgreSQL: tests/postgres.sh"] fn $name() {
                super::$name(&$crate::store::tests::home::Home::schema());
            })*
        }
    };
}
pub(super) use on_both;

/// A schema in a database.
pub(super) fn in_schema(url: &str, schema: &str, password: Option<&str>, authorities: Authorities) -> Place {
    let (database, schema) = (DatabaseUrl::parse(url).unwrap(), Schema::parse(schema).unwrap());
    Place::Postgres(Box::new(PostgresPlace::new(database, schema, password, authorities)))
}
