//! The enclave's sealed state: its log and the key to it, as `postern_shared::record` says what to keep of them.

use super::database::{Database, Row, values};
use super::{Store, StoreError, decode};
use postern_shared::codec;
use postern_shared::record::{KeySlot, LogHead, LogId, RecordKind, SealedRecord};

/// Slots that are kept: the newest, and the one before it.
const SLOTS: i64 = 2;
/// Records that are looked at together, at most.
const AT_A_TIME: i64 = 1024;

const NEWEST: &str = "SELECT record FROM log ORDER BY number DESC LIMIT 1";

impl Store {
    /// The keys to the log, the newest first.
    pub fn slots(&self) -> Result<Vec<KeySlot>, StoreError> {
        let rows = self.query("SELECT slot FROM slots ORDER BY id DESC", values![])?;
        rows.iter().map(|row| decode("slots", row.bytes(0)?)).collect()
    }

    /// The log that the newest key opens: what a successor has begun to write counts from when its key is here.
    pub fn log_that_counts(&self) -> Result<Option<LogId>, StoreError> {
        self.with(log_that_counts)
    }

    /// The next records after a number, in their order: at least one if there is one, and about `max_bytes` of them.
    pub fn log(&self, after: u64, max_bytes: usize) -> Result<Vec<SealedRecord>, StoreError> {
        let after = number(after)?;
        let rows = self.with(|database| rows_after(database, after, max_bytes))?;
        let record = |row: &Row| {
            let record: SealedRecord = decode("log", row.bytes(1)?)?;
            // Whoever goes on after the last record's own number must get on.
            let in_place = number(record.header.number)? == row.integer(0)?;
            if in_place { Ok(record) } else { Err(StoreError::Damaged { table: "log" }) }
        };
        rows.iter().map(record).collect()
    }

    /// The newest record's number, whatever it holds; 0 without any.
    pub(super) fn newest_number(&self) -> Result<u64, StoreError> {
        let newest = self.query_one("SELECT max(number) FROM log", values![])?;
        let newest = newest.map(|row| row.optional_integer(0)).transpose()?.flatten();
        Ok(newest.unwrap_or(0).unsigned_abs())
    }

    /// Where the stored log ends.
    pub fn log_head(&self) -> Result<LogHead, StoreError> {
        self.with(head)
    }
}

/// Numbers and records. Not all that there are: a log may be larger than what this host has of memory.
fn rows_after(database: &mut Database, after: i64, max_bytes: usize) -> Result<Vec<Row>, StoreError> {
    let sql =
        "SELECT number, CAST(length(record) AS BIGINT) FROM log WHERE number > ?1 ORDER BY number LIMIT ?2";
    let (mut last, mut size) = (after, 0);
    for row in database.query(sql, values![after, AT_A_TIME])? {
        if size >= max_bytes {
            break;
        }
        last = row.integer(0)?;
        size = size.saturating_add(usize::try_from(row.integer(1)?).unwrap_or(usize::MAX));
    }
    let sql = "SELECT number, record FROM log WHERE number > ?1 AND number <= ?2 ORDER BY number";
    database.query(sql, values![after, last])
}

fn head(database: &mut Database) -> Result<LogHead, StoreError> {
    Ok(newest(database)?.map_or(LogHead::START, |newest| newest.head()))
}

fn newest(database: &mut Database) -> Result<Option<SealedRecord>, StoreError> {
    database.query_one(NEWEST, values![])?.map(|row| decode("log", row.bytes(0)?)).transpose()
}

pub(super) fn newest_slot(database: &mut Database) -> Result<Option<KeySlot>, StoreError> {
    let slot = database.query_one("SELECT slot FROM slots ORDER BY id DESC LIMIT 1", values![])?;
    slot.map(|row| decode("slots", row.bytes(0)?)).transpose()
}

/// The log that the newest slot opens.
fn log_that_counts(database: &mut Database) -> Result<Option<LogId>, StoreError> {
    Ok(newest_slot(database)?.map(|slot| slot.header.log))
}

/// Keeps a slot, and forgets those that two newer ones have replaced.
pub(super) fn keep_slot(database: &mut Database, slot: &KeySlot) -> Result<(), StoreError> {
    database.execute("INSERT INTO slots (slot) VALUES (?1)", values![codec::encode(slot)])?;
    // Not by arithmetic: numbers that were given to rows which never came to be are missing between.
    let sql = "DELETE FROM slots WHERE id NOT IN (SELECT id FROM slots ORDER BY id DESC LIMIT ?1)";
    database.execute(sql, values![SLOTS])?;
    Ok(())
}

/// Keeps a record; one that ends a snapshot takes the place of what it repeats.
pub(super) fn keep_record(database: &mut Database, record: &SealedRecord) -> Result<(), StoreError> {
    let header = &record.header;
    let own = number(header.number)?;
    let bytes = codec::encode(record);
    let mut before = newest(database)?;
    if before.as_ref().is_some_and(|before| before.header.log != header.log) {
        before = drop_unfinished(database, before)?;
    }
    if let Some(known) = database.query_one("SELECT record FROM log WHERE number = ?1", values![own])? {
        let same = known.bytes(0)? == bytes;
        return if same { Ok(()) } else { Err(StoreError::OtherRecord { number: header.number }) };
    }
    // An enclave that lives on while its host was given an older store would leave a gap that nothing could fill.
    record.follows(before.map_or(LogHead::START, |before| before.head())).map_err(StoreError::Log)?;
    let vault = header.kind == RecordKind::Vault;
    database.execute("INSERT INTO log VALUES (?1, ?2, ?3)", values![own, vault, bytes])?;
    if let RecordKind::Snapshot { first } = header.kind {
        let sql = "DELETE FROM log WHERE number < ?1 AND vault = 0";
        database.execute(sql, values![number(first)?])?;
    }
    Ok(())
}

/// A successor's log counts from when its slot is here. What one has begun to write that never brought it is in the way of
/// what the enclave, or another successor, writes in its place. Gives the newest record that is left.
fn drop_unfinished(
    database: &mut Database,
    mut last: Option<SealedRecord>,
) -> Result<Option<SealedRecord>, StoreError> {
    let Some(counts) = log_that_counts(database)? else { return Ok(last) };
    // All of it stands behind the last record of the log that counts. Not all at a time: a log may be larger than memory.
    while let Some(record) = last.as_ref().filter(|record| record.header.log != counts) {
        database.execute("DELETE FROM log WHERE number = ?1", values![number(record.header.number)?])?;
        last = newest(database)?;
    }
    Ok(last)
}

/// Databases count to 2^63.
fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Damaged { table: "log" })
}
