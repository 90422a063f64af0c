//! SQL in the words that SQLite and PostgreSQL share, and what they answer.
//!
//! Statements have numbered parameters (`?1`). Numbers are 64 bits long, truth is 0 or 1.

use super::postgres::Server;
use super::sqlite::Sqlite;
use super::{StoreError, schema};
use serde::{Deserialize, Serialize};

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Values for the parameters of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::database::Value::from($value)),*] };
}
pub(super) use values;

macro_rules! value_from {
    ($($type:ty => $value:expr),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                $value(value.into())
            }
        })*
    };
}
value_from!(
    i64 => Value::Integer, u32 => Value::Integer, u16 => Value::Integer, bool => Value::Integer,
    &str => Value::Text, String => Value::Text,
    &[u8] => Value::Bytes, Vec<u8> => Value::Bytes,
);

/// A row of an answer.
#[derive(Debug)]
pub(super) struct Row(pub(super) Vec<Value>);

impl Row {
    pub(super) fn integer(&self, column: usize) -> Result<i64, StoreError> {
        self.optional_integer(column)?.ok_or(StoreError::Column { column })
    }

    pub(super) fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Value::Integer(number)) => Ok(Some(*number)),
            Some(Value::Null) => Ok(None),
            _ => Err(StoreError::Column { column }),
        }
    }

    pub(super) fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(StoreError::Column { column }),
        }
    }

    pub(super) fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        match self.0.get(column) {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            _ => Err(StoreError::Column { column }),
        }
    }
}

/// What a statement did.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// How many rows it changed, if it is of that kind.
    pub(super) changed: u64,
}

/// An open database that nobody else writes to.
pub(super) enum Database {
    Sqlite(Sqlite),
    Postgres(Server),
}

impl Database {
    pub(super) fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        Ok(self.run(sql, values)?.rows)
    }

    pub(super) fn query_one(&mut self, sql: &str, values: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, values)?.into_iter().next())
    }

    /// How many rows it changed.
    pub(super) fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, StoreError> {
        Ok(self.run(sql, values)?.changed)
    }

    fn run(&mut self, sql: &str, values: Vec<Value>) -> Result<Answer, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.run(sql, values),
            Self::Postgres(server) => server.run(sql, values),
        }
    }

    /// Does several things, all or none; they are on the disk when this returns.
    pub(super) fn transaction<T, E: From<StoreError>>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin()?,
            Self::Postgres(server) => server.begin()?,
        }
        let open = Open(self);
        let done = body(open.0)?;
        open.0.batch("COMMIT")?;
        // There is nothing to undo any more.
        core::mem::forget(open);
        Ok(done)
    }

    /// Of the tables.
    pub(super) fn version(&mut self) -> Result<i64, StoreError> {
        let sql = match self {
            Self::Sqlite(_) => "PRAGMA user_version",
            Self::Postgres(_) => "SELECT version FROM postern",
        };
        self.query_one(sql, values![])?.ok_or(StoreError::Damaged { table: "postern" })?.integer(0)
    }

    /// Within a transaction, with what makes the tables of this version.
    pub(super) fn set_version(&mut self, version: i64) -> Result<(), StoreError> {
        match self {
            // It takes no parameters.
            Self::Sqlite(sqlite) => sqlite.batch(&format!("PRAGMA user_version = {version}")),
            Self::Postgres(_) => self.execute("UPDATE postern SET version = ?1", values![version]).map(drop),
        }
    }

    pub(super) fn has_column(&mut self, table: &str, column: &str) -> Result<bool, StoreError> {
        let sql = match self {
            Self::Sqlite(_) => "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2",
            Self::Postgres(_) => {
                "SELECT count(*) FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = ?1 AND column_name = ?2"
            }
        };
        let found = self.query_one(sql, values![table, column])?;
        Ok(found.map(|row| row.integer(0)).transpose()?.is_some_and(|count| count > 0))
    }

    /// Numbers rows on from the highest number that a table has.
    pub(super) fn number_on(&mut self, table: &str) -> Result<(), StoreError> {
        match self {
            // It does so by itself.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(server) => server.number_on(table),
        }
    }

    /// What the database finds wrong with its own files, if it can tell.
    pub(super) fn damage(&mut self) -> Result<Option<String>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.damage(),
            Self::Postgres(_) => Ok(None),
        }
    }

    /// Does several things that have no parameters, in SQLite's words: those that make tables have others in PostgreSQL.
    pub(super) fn define(&mut self, sql: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.batch(sql),
            Self::Postgres(server) => server.batch(&schema::in_postgres(sql)),
        }
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.batch(sql),
            Self::Postgres(server) => server.batch(sql),
        }
    }
}

/// A transaction that is undone unless it comes to its end.
struct Open<'a>(&'a mut Database);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // If this fails, there is none any more, or no connection that it could be in.
        let _ = self.0.batch("ROLLBACK");
    }
}
