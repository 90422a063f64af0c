//! From version 1 to 2: the enclave has a log.

use super::super::StoreError;
use super::super::database::{Database, values};
use super::NumberedPools;

const TABLES: &str = "
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    member INTEGER NOT NULL,
    digest BLOB NOT NULL,
    message BLOB NOT NULL,
    replaceable INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (member, digest)
) STRICT;
CREATE INDEX outbox_by_member ON outbox (member, id);
CREATE TABLE log (number INTEGER PRIMARY KEY, vault INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE TABLE slots (id INTEGER PRIMARY KEY AUTOINCREMENT, slot BLOB NOT NULL) STRICT;
";

pub(super) fn run(database: &mut Database, _: Option<NumberedPools>) -> Result<(), StoreError> {
    // The enclave that this store was for had no log, so it is gone, and so are those that messages were for. In the first hour there
    // was another table for these.
    database.define("DROP TABLE outbox")?;
    database.define(TABLES)?;
    database.execute("DELETE FROM meta WHERE key IN ('incarnation', 'sequence')", values![])?;
    Ok(())
}
