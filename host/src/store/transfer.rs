//! The whole store in one file: for another kind of database, another machine, or a backup.
//!
//! # Format
//! [`MAGIC`], then entries ([`Entry`], postcard) with their length before them (four bytes, little-endian), and at the end
//! SHA-256 of all that comes before.
//!
//! An enclave that is restored from an old backup finds out from its peers that it is old, and does not act.

use super::database::{Database, Value};
use super::schema::{self, Table};
use super::{Store, StoreError};
use postern_shared::codec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

/// What a file begins with; the number is the format's version.
const MAGIC: &[u8; 16] = b"postern store 1\n";
/// More than any row has.
const MAX_ENTRY: usize = 1 << 23;
/// More than any table has ever numbered.
const MAX_ID: i64 = 1 << 48;
/// Rows that are copied together.
const PAGE: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    /// Version of the tables; the first entry.
    Schema(i64),
    /// Of which table the rows that follow are, and what their columns are called.
    Table {
        name: String,
        columns: Vec<String>,
    },
    Row(Vec<Value>),
    /// The last entry: how many rows there were.
    End {
        rows: u64,
    },
}

/// Why a store was not copied.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file can't be read or written.
    #[error("the file: {0}")]
    File(#[from] io::Error),
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It does not begin as exported stores do.
    #[error("not an exported store, or one of another version")]
    Magic,
    /// It ends in its middle.
    #[error("the file is cut off")]
    CutOff,
    /// Its checksum is not that of its content.
    #[error("the file is damaged: its checksum does not fit")]
    Checksum,
    /// It has a right checksum, and is still nothing that was ever exported.
    #[error("the file holds {0}")]
    Content(&'static str),
    /// Its tables are of another version: only a build that has these imports it, and a later one upgrades that store.
    #[error(
        "the file has tables of version {found}, this build has version {expected}: import it with a build of the file's version; \
         a later build upgrades the store when it opens it"
    )]
    Schema {
        /// This build's.
        expected: i64,
        /// The file's.
        found: i64,
    },
    /// Nothing is ever overwritten.
    #[error("the store is not empty: `{table}` has rows")]
    NotEmpty {
        /// Which table.
        table: &'static str,
    },
}

impl Store {
    /// Writes everything that the store holds; says how many rows that is.
    pub fn export(&self, to: &mut impl Write) -> Result<u64, TransferError> {
        self.with(|database| give(database, to))
    }

    /// Takes over everything that was exported, or nothing; the store must be empty. Says how many rows that is.
    pub fn import(&self, from: &mut impl Read) -> Result<u64, TransferError> {
        self.with(|database| database.transaction(|database| take(database, from)))
    }
}

fn give(database: &mut Database, to: &mut impl Write) -> Result<u64, TransferError> {
    let mut writer = Hashing { inner: to, hash: Sha256::new() };
    writer.write_all(MAGIC)?;
    put(&mut writer, &Entry::Schema(schema::VERSION))?;
    let mut rows = 0;
    for table in &schema::ALL {
        let columns = table.columns.iter().map(|&column| column.to_owned()).collect();
        put(&mut writer, &Entry::Table { name: table.name.to_owned(), columns })?;
        let mut last: Option<Vec<Value>> = None;
        loop {
            let page = read_page(database, table, last)?;
            last = page.last().cloned();
            for row in page {
                rows += 1;
                put(&mut writer, &Entry::Row(row))?;
            }
            if last.is_none() {
                break;
            }
        }
    }
    put(&mut writer, &Entry::End { rows })?;
    let Hashing { inner, hash } = writer;
    inner.write_all(&hash.finalize())?;
    inner.flush()?;
    Ok(rows)
}

/// The rows after `last`, in the primary key's order.
fn read_page(
    database: &mut Database,
    table: &Table,
    last: Option<Vec<Value>>,
) -> Result<Vec<Vec<Value>>, StoreError> {
    let keys = table.columns[..table.key].join(", ");
    let (after, values) = match last {
        None => (String::new(), Vec::new()),
        Some(mut row) => {
            row.truncate(table.key);
            (format!("WHERE ({keys}) > ({})", parameters(table.key)), row)
        }
    };
    let (name, columns) = (table.name, table.columns.join(", "));
    let sql = format!("SELECT {columns} FROM {name} {after} ORDER BY {keys} LIMIT {PAGE}");
    Ok(database.query(&sql, values)?.into_iter().map(|row| row.0).collect())
}

fn parameters(count: usize) -> String {
    (1..=count).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ")
}

fn take(database: &mut Database, from: &mut impl Read) -> Result<u64, TransferError> {
    for Table { name, .. } in &schema::ALL {
        let count = database.query_one(&format!("SELECT count(*) FROM {name}"), Vec::new())?;
        if count.map(|row| row.integer(0)).transpose()? != Some(0) {
            return Err(TransferError::NotEmpty { table: name });
        }
    }
    let mut reader = Hashing { inner: from, hash: Sha256::new() };
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic).map_err(cut_off)?;
    if magic != *MAGIC {
        return Err(TransferError::Magic);
    }
    match get(&mut reader)? {
        Entry::Schema(schema::VERSION) => {}
        Entry::Schema(found) => {
            return Err(TransferError::Schema { expected: schema::VERSION, found });
        }
        _ => return Err(TransferError::Content("no version of its tables")),
    }
    let (mut rows, mut table) = (0, None);
    loop {
        match get(&mut reader)? {
            Entry::Schema(_) => return Err(TransferError::Content("two versions of its tables")),
            Entry::Table { name, columns } => {
                let known = schema::ALL.iter().find(|table| table.name == name && *table.columns == columns);
                table = Some(known.ok_or(TransferError::Content("a table that is not known"))?);
            }
            Entry::Row(values) => {
                let table = table.ok_or(TransferError::Content("a row of no table"))?;
                if values.len() != table.columns.len() {
                    return Err(TransferError::Content("a row with too few columns, or too many"));
                }
                // Rows that come later are numbered on from there.
                let numbers = 1..=MAX_ID;
                if table.numbered
                    && !matches!(values.first(), Some(Value::Integer(id)) if numbers.contains(id))
                {
                    return Err(TransferError::Content("a row with an impossible number"));
                }
                let (name, columns) = (table.name, table.columns.join(", "));
                let parameters = parameters(values.len());
                database.execute(&format!("INSERT INTO {name} ({columns}) VALUES ({parameters})"), values)?;
                rows += 1;
            }
            Entry::End { rows: all } if all == rows => break,
            Entry::End { .. } => return Err(TransferError::Content("another number of rows than it says")),
        }
    }
    let Hashing { inner, hash } = reader;
    let mut checksum = [0; 32];
    inner.read_exact(&mut checksum).map_err(cut_off)?;
    if checksum[..] != hash.finalize()[..] {
        return Err(TransferError::Checksum);
    }
    if inner.read(&mut [0])? != 0 {
        return Err(TransferError::Content("more than a store"));
    }
    for table in schema::ALL.iter().filter(|table| table.numbered) {
        database.number_on(table.name)?;
    }
    Ok(rows)
}

/// Passes bytes on and hashes them.
struct Hashing<'a, T> {
    inner: &'a mut T,
    hash: Sha256,
}

impl<T: Write> Write for Hashing<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

fn put(writer: &mut impl Write, entry: &Entry) -> Result<(), TransferError> {
    let bytes = codec::encode(entry);
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_ENTRY);
    let length = length.ok_or(TransferError::Content("a row that is too long"))?;
    writer.write_all(&length.to_le_bytes())?;
    Ok(writer.write_all(&bytes)?)
}

fn get(reader: &mut impl Read) -> Result<Entry, TransferError> {
    let mut length = [0; 4];
    reader.read_exact(&mut length).map_err(cut_off)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_ENTRY {
        return Err(TransferError::Content("a row that is too long"));
    }
    let mut bytes = Vec::new();
    if reader.take(length as u64).read_to_end(&mut bytes)? != length {
        return Err(TransferError::CutOff);
    }
    codec::decode(&bytes).map_err(|_| TransferError::Content("what is no row"))
}

fn cut_off(error: io::Error) -> TransferError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TransferError::CutOff,
        _ => TransferError::File(error),
    }
}
