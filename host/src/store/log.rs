//! The enclave's sealed state: its log and the key to it, as `postern_shared::record` says what to keep of them.

use super::{Store, StoreError, decode};
use postern_shared::codec;
use postern_shared::record::{KeySlot, LogHead, RecordKind, SealedRecord};
use rusqlite::{OptionalExtension, Transaction, params};

/// Slots that are kept: the newest, and the one before it.
const SLOTS: i64 = 2;

impl Store {
    /// The keys to the log, the newest first.
    pub fn slots(&self) -> Result<Vec<KeySlot>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT slot FROM slots ORDER BY id DESC")?;
        let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        rows.map(|row| decode("slots", &row?)).collect()
    }

    /// The next records after a number, in their order: at least one if there is one, and about `max_bytes` of them.
    pub fn log(&self, after: u64, max_bytes: usize) -> Result<Vec<SealedRecord>, StoreError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT record FROM log WHERE number > ?1 ORDER BY number")?;
        let mut rows = statement.query(params![number(after)?])?;
        let (mut records, mut size) = (Vec::new(), 0);
        while size < max_bytes {
            let Some(row) = rows.next()? else { break };
            let bytes: Vec<u8> = row.get(0)?;
            size += bytes.len();
            records.push(decode("log", &bytes)?);
        }
        Ok(records)
    }

    /// The newest record's number, whatever it holds; 0 without any.
    pub(super) fn newest_number(&self) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(max(number), 0) FROM log";
        let newest: i64 = self.lock().query_row(sql, [], |row| row.get(0))?;
        Ok(newest.unsigned_abs())
    }

    /// Where the stored log ends.
    pub fn log_head(&self) -> Result<LogHead, StoreError> {
        let sql = "SELECT record FROM log ORDER BY number DESC LIMIT 1";
        let newest: Option<Vec<u8>> = self.lock().query_row(sql, [], |row| row.get(0)).optional()?;
        let newest: Option<SealedRecord> = newest.map(|bytes| decode("log", &bytes)).transpose()?;
        Ok(newest.map_or(LogHead::START, |record| record.head()))
    }
}

/// Keeps a slot, and forgets those that two newer ones have replaced.
pub(super) fn keep_slot(transaction: &Transaction<'_>, slot: &KeySlot) -> Result<(), StoreError> {
    transaction.execute("INSERT INTO slots (slot) VALUES (?1)", params![codec::encode(slot)])?;
    let sql = "DELETE FROM slots WHERE id <= (SELECT max(id) FROM slots) - ?1";
    transaction.execute(sql, params![SLOTS])?;
    Ok(())
}

/// Keeps a record; one that ends a snapshot takes the place of what it repeats.
pub(super) fn keep_record(transaction: &Transaction<'_>, record: &SealedRecord) -> Result<(), StoreError> {
    let header = &record.header;
    let own = number(header.number)?;
    let bytes = codec::encode(record);
    let sql = "SELECT record FROM log WHERE number = ?1";
    let known: Option<Vec<u8>> = transaction.query_row(sql, params![own], |row| row.get(0)).optional()?;
    if let Some(known) = known {
        return if known == bytes { Ok(()) } else { Err(StoreError::OtherRecord { number: header.number }) };
    }
    // An enclave that lives on while its host was given an older store would leave a gap that nothing could fill.
    let sql = "SELECT record FROM log ORDER BY number DESC LIMIT 1";
    let newest: Option<Vec<u8>> = transaction.query_row(sql, [], |row| row.get(0)).optional()?;
    let newest: Option<SealedRecord> = newest.map(|bytes| decode("log", &bytes)).transpose()?;
    let head = newest.map_or(LogHead::START, |record| record.head());
    record.follows(head).map_err(StoreError::Log)?;
    let vault = header.kind == RecordKind::Vault;
    transaction.execute("INSERT INTO log VALUES (?1, ?2, ?3)", params![own, vault, bytes])?;
    if let RecordKind::Snapshot { first } = header.kind {
        let sql = "DELETE FROM log WHERE number < ?1 AND NOT vault";
        transaction.execute(sql, params![number(first)?])?;
    }
    Ok(())
}

/// SQLite counts to 2^63.
fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Damaged { table: "log" })
}
