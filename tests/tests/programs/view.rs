//! What a demo's host has stored, seen from beside it: in its file, or in its schema in PostgreSQL.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// A connection beside the host's.
pub enum View {
    Sqlite(Connection),
    Postgres { client: tokio_postgres::Client, runtime: tokio::runtime::Runtime },
}

impl View {
    /// A member's store, if there is one already.
    pub fn open(demo: &Path, member: u16) -> Option<Self> {
        let folder = demo.join(format!("member-{member}"));
        let config = std::fs::read_to_string(folder.join("config.toml")).ok()?;
        let config: toml::Table = config.parse().expect("a configuration");
        let Some(postgres) = config.get("postgres") else {
            let path = folder.join("data/postern.sqlite");
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
            return Some(Self::Sqlite(connection));
        };
        let text = |key: &str| postgres[key].as_str().expect("a text");
        let (url, schema) = (text("url"), text("schema"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("a server");
            tokio::spawn(connection);
            client.batch_execute(&format!("SET search_path TO {schema}")).await.expect("a schema");
            client
        });
        Some(Self::Postgres { client, runtime })
    }

    /// One column of text or bytes; nothing while there is no such table.
    pub fn column(&mut self, sql: &str) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql).ok()?;
                let rows = statement.query_map([], |row| match row.get_ref(0)? {
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(bytes.to_owned()),
                    other => panic!("{other:?}"),
                });
                rows.ok()?.collect::<Result<_, _>>().ok()
            }
            Self::Postgres { client, runtime } => {
                let rows = runtime.block_on(client.query(sql, &[])).ok()?;
                let bytes = |row: &tokio_postgres::Row| {
                    row.try_get::<_, String>(0).map_or_else(|_| row.get(0), String::into_bytes)
                };
                Some(rows.iter().map(bytes).collect())
            }
        }
    }

    /// Keeps the host from storing anything until this view is dropped.
    pub fn lock(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.execute_batch("BEGIN IMMEDIATE").expect("the lock"),
            Self::Postgres { client, runtime } => {
                let sql = "BEGIN; SELECT 1 FROM postern FOR UPDATE";
                // Not there yet: then the host has nothing to store either.
                let _ = runtime.block_on(client.batch_execute(sql));
            }
        }
    }
}
