//! Whether an enclave could be restored from the log that is stored, as far as that can be seen without its key.

use super::database::Database;
use super::log::newest_slot;
use super::{Store, StoreError};
use postern_shared::ids::{ManifestHash, MemberId};
use postern_shared::record::{LogHead, LogId, RECORD_VERSION, RecordKind, SealedError, SealedRecord};

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
    /// The newest key is of another version than this build's enclave reads.
    #[error(
        "the newest key slot is of version {found}; this build's enclave opens version {RECORD_VERSION} only"
    )]
    SlotVersion {
        /// The slot's.
        found: u16,
    },
    /// Records of another version than this build's enclave reads: said once for all that follow on each other.
    #[error(
        "from record {number} on the log is of version {found}; this build's enclave reads version {RECORD_VERSION} only"
    )]
    Version {
        /// The first one's number.
        number: u64,
        /// Theirs.
        found: u16,
    },
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
    /// Of the record before.
    version: Option<u16>,
    head: Option<LogHead>,
    /// The first part of a snapshot that has not ended yet.
    open: Option<u64>,
}

impl Store {
    /// Looks at every record.
    pub fn check_log(&self) -> Result<LogCheck, StoreError> {
        let mut check = LogCheck { records: 0, settled: 0, head: LogHead::START, faults: Vec::new() };
        check.faults.extend(self.with(Database::damage)?.map(LogFault::Database));
        let slot = self.with(newest_slot)?.map(|slot| slot.header);
        match slot.map(|slot| slot.version) {
            None => check.faults.push(LogFault::NoSlot),
            Some(RECORD_VERSION) => {}
            Some(found) => check.faults.push(LogFault::SlotVersion { found }),
        }
        let mut reading = Reading { counts: slot.map(|slot| slot.log), ..Reading::default() };
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
                check.faults.extend(reading.version(record));
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

    /// A version that this build's enclave does not read, where it begins.
    fn version(&mut self, record: &SealedRecord) -> Option<LogFault> {
        let (number, found) = (record.header.number, record.header.version);
        let before = self.version.replace(found);
        (found != RECORD_VERSION && before != Some(found)).then_some(LogFault::Version { number, found })
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
