//! Whether an enclave could be restored from the log that is stored, as far as that can be seen without its key.

use super::database::Database;
use super::{Store, StoreError};
use postern_shared::ids::{ManifestHash, MemberId};
use postern_shared::record::{LogHead, LogId, RecordKind, SealedError, SealedRecord};

/// Bytes of records that are looked at together.
const AT_A_TIME: usize = 1 << 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCheck {
    /// How many records there are.
    pub records: u64,
    /// How many of them hold settled pools.
    pub settled: u64,
    /// Where the log ends.
    pub head: LogHead,
    /// What is wrong; nothing, if it is whole.
    pub faults: Vec<LogFault>,
}

/// What is wrong with a log.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// SQLite finds its file damaged; of its own, PostgreSQL tells nobody but its administrator.
    #[error("the database is damaged: {0}")]
    Database(String),
    /// There is no key to the log.
    #[error("there is no key slot: nothing opens the log")]
    NoSlot,
    /// The first record that counts is none to begin with.
    #[error("the log begins in the middle, with record {number}")]
    Begin {
        /// Its number.
        number: u64,
    },
    /// Records that do not follow on each other.
    #[error(transparent)]
    Record(SealedError),
    /// A record of somebody else's log.
    #[error("record {number} is of another log, member or DAO than those before")]
    Stranger {
        /// Its number.
        number: u64,
    },
    /// The snapshot that the log begins with has no end.
    #[error("the snapshot that the log begins with is not whole")]
    Snapshot,
    /// Bytes that are no record.
    #[error("what comes after record {after} is no record")]
    Undecodable {
        /// The last that is one.
        after: u64,
    },
}

type Name = (ManifestHash, MemberId);

/// How far the log is read.
#[derive(Default)]
struct Reading {
    name: Option<Name>,
    /// The log that the newest slot opens.
    counts: Option<LogId>,
    log: Option<LogId>,
    head: Option<LogHead>,
    /// The first part of a snapshot that has not ended yet.
    open: Option<u64>,
}

impl Store {
    /// Looks at every record.
    pub fn check_log(&self) -> Result<LogCheck, StoreError> {
        let mut check = LogCheck { records: 0, settled: 0, head: LogHead::START, faults: Vec::new() };
        check.faults.extend(self.with(Database::damage)?.map(LogFault::Database));
        let counts = self.log_that_counts()?;
        if counts.is_none() {
            check.faults.push(LogFault::NoSlot);
        }
        let mut reading = Reading { counts, ..Reading::default() };
        let mut last = 0;
        loop {
            let records = match self.log(last, AT_A_TIME) {
                Ok(records) => records,
                Err(StoreError::Damaged { .. }) => self.log(last, 1).unwrap_or_default(),
                Err(error) => return Err(error),
            };
            for record in &records {
                last = record.header.number;
                if reading.is_unfinished(record) {
                    continue;
                }
                check.records += 1;
                check.settled += u64::from(record.header.kind == RecordKind::Vault);
                check.faults.extend(reading.read(record));
                check.head = record.head();
            }
            if records.is_empty() {
                break;
            }
        }
        if self.newest_number()? > last {
            check.faults.push(LogFault::Undecodable { after: last });
        }
        if reading.open.is_some() {
            check.faults.push(LogFault::Snapshot);
        }
        Ok(check)
    }
}

impl Reading {
    /// What a successor has begun to write, and of which it has not brought the slot, stands behind the log that counts.
    fn is_unfinished(&self, record: &SealedRecord) -> bool {
        let log = Some(record.header.log);
        self.counts.is_some() && self.log == self.counts && log != self.counts
    }

    fn read(&mut self, record: &SealedRecord) -> Option<LogFault> {
        let header = &record.header;
        let number = header.number;
        let name = (header.dao, header.member);
        if *self.name.get_or_insert(name) != name {
            return Some(LogFault::Stranger { number });
        }
        // Settled pools of a log that was handed over stay where they are.
        if header.kind != RecordKind::Vault && *self.log.get_or_insert(header.log) != header.log {
            return Some(LogFault::Stranger { number });
        }
        let fault = match (self.head, header.kind) {
            (Some(head), _) => record.follows(head).err().map(LogFault::Record),
            // Settled pools from before the snapshot: what lay between is gone.
            (None, RecordKind::Vault) => return None,
            (None, RecordKind::Part) => {
                self.open = Some(number);
                None
            }
            (None, RecordKind::Snapshot { first }) if first == number => None,
            (None, RecordKind::Change) => {
                record.follows(LogHead::START).err().map(|_| LogFault::Begin { number })
            }
            (None, RecordKind::Snapshot { .. }) => Some(LogFault::Begin { number }),
        };
        if matches!(header.kind, RecordKind::Snapshot { first } if Some(first) == self.open) {
            self.open = None;
        }
        self.head = Some(record.head());
        fault
    }
}
