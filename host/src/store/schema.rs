//! Tables, and how the file is kept.

use super::StoreError;
use rusqlite::Connection;

const VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
-- Messages on their way to other members' enclaves. The same message waits once only: enclaves repeat themselves.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    member INTEGER NOT NULL,
    digest BLOB NOT NULL,
    message BLOB NOT NULL,
    -- Whether it can be had again if it is forgotten.
    replaceable INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (member, digest)
) STRICT;
CREATE INDEX outbox_by_member ON outbox (member, id);
-- Public statements, to serve to hosts whose copy was lost.
CREATE TABLE records (
    ceremony BLOB NOT NULL,
    step BLOB NOT NULL,
    speaker INTEGER NOT NULL,
    item INTEGER NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (ceremony, step, speaker, item)
) STRICT;
-- The enclave's sealed state: its log, and the keys to it, of which the newest opens it.
CREATE TABLE log (number INTEGER PRIMARY KEY, vault INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE TABLE slots (id INTEGER PRIMARY KEY AUTOINCREMENT, slot BLOB NOT NULL) STRICT;
-- Results, done when everything that follows from them was done.
CREATE TABLE artifacts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    artifact BLOB NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
) STRICT;
-- What has happened on the chains, in order.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event BLOB NOT NULL UNIQUE
) STRICT;
CREATE TABLE pools (pool INTEGER PRIMARY KEY, status TEXT NOT NULL) STRICT;
CREATE TABLE transactions (key TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
";

/// Makes the tables in a new file; refuses another version's.
pub(super) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    // FULL: a commit that returned survives a power cut, not only a kill.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;")?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match found {
        VERSION => Ok(()),
        0 => {
            Ok(connection
                .execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?)
        }
        found => Err(StoreError::Schema { expected: VERSION, found }),
    }
}
