//! A place for a store, gone with the test.

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
