//! One SQLite file, written through to the disk.

use super::database::{Answer, Row, Value};
use super::{StoreError, migration, schema};
use crate::file_lock;
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};
use std::fs::{File, TryLockError};
use std::path::Path;

/// The open file.
pub(super) struct Sqlite {
    connection: Connection,
    /// Held for as long as the store is open; the operating system lets go of it when the process dies.
    _lock: File,
}

impl Sqlite {
    /// Opens or makes the file `postern.sqlite` in a directory, which one process at a time may do.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Directory { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(directory.join("postern.lock")).map_err(failed)?;
        file_lock::take(&lock).map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse { place: directory.display().to_string() },
            TryLockError::Error(source) => failed(source),
        })?;
        let connection = Connection::open(directory.join("postern.sqlite"))?;
        // FULL: a commit that returned survives a power cut, not only a kill.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;",
        )?;
        match connection.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            0 => {
                let (tables, version) = (schema::TABLES, schema::VERSION);
                connection
                    .execute_batch(&format!("BEGIN; {tables} PRAGMA user_version = {version}; COMMIT;"))?;
            }
            found => migration::check_version(found)?,
        }
        Ok(Self { connection, _lock: lock })
    }

    pub(super) fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<Answer, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let width = statement.column_count();
        let parameters = rusqlite::params_from_iter(values);
        if width == 0 {
            let changed = statement.execute(parameters)? as u64;
            return Ok(Answer { rows: Vec::new(), changed });
        }
        let mut found = statement.query(parameters)?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let columns = (0..width).map(|column| value(row.get_ref(column)?, column));
            rows.push(Row(columns.collect::<Result<_, _>>()?));
        }
        Ok(Answer { rows, changed: 0 })
    }

    /// SQLite waits for another program's lock only at the beginning of a transaction: a deferred one, which reads before
    /// it writes, would fail at once.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        self.batch("BEGIN IMMEDIATE")
    }

    pub(super) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch(sql)?)
    }

    /// What SQLite finds wrong with its own file.
    pub(super) fn damage(&mut self) -> Result<Option<String>, StoreError> {
        let verdict: String = self.connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok(Some(verdict).filter(|verdict| verdict != "ok"))
    }
}

fn value(found: ValueRef<'_>, column: usize) -> Result<Value, StoreError> {
    Ok(match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(_) => {
            Value::Text(found.as_str().map_err(|_| StoreError::Column { column })?.to_owned())
        }
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_owned()),
        ValueRef::Real(_) => return Err(StoreError::Column { column }),
    })
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
