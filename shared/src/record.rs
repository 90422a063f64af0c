//! What an enclave has its host keep so that nothing is lost: sealed records in one numbered chain, and the slot that
//! holds the key to them.
//!
//! Hosts see headers and ciphertext. Each record names the one before by digest, so the order is part of what is
//! authenticated; what is in them is the enclave's business (`postern-enclave`, `journal`).
//!
//! # What a host must keep
//! All [`RecordKind::Vault`] records for ever, everything from the number on that the newest complete
//! [`RecordKind::Snapshot`] names, and the newest [`KeySlot`] with the one before it.

use crate::bytes::{byte_newtype, variable};
use crate::codec;
use crate::hash::Transcriber;
use crate::ids::{Digest, ManifestHash, Measurement, MemberId};
use crate::snp::RawTcb;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The only version of records and slots that this build writes and reads.
pub const RECORD_VERSION: u16 = 7;

byte_newtype!(
    /// One enclave's log, for all its life: drawn at random when the enclave first starts.
    LogId, 32
);
byte_newtype!(
    /// Drawn at random for each sealing, so that no key ever seals two texts.
    Salt, 32
);

/// What a record is for, as far as its host must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordKind {
    /// A change of state.
    Change,
    /// What is settled for good: snapshots don't repeat it.
    Vault,
    /// A part of a snapshot, of no use without the [`RecordKind::Snapshot`] that ends it.
    Part,
    /// Ends a snapshot: everything before `first` is of no use any more, but for [`RecordKind::Vault`].
    Snapshot {
        /// Number of the snapshot's first part, or its own if it has none.
        first: u64,
    },
}

/// In clear, and authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordHeader {
    /// [`RECORD_VERSION`].
    pub version: u16,
    /// The DAO: its first manifest.
    pub dao: ManifestHash,
    /// Whose enclave.
    pub member: MemberId,
    /// Which log.
    pub log: LogId,
    /// Counts from 1, without gaps.
    pub number: u64,
    /// Digest of the record before; zeros in the first.
    pub previous: Digest,
    /// What it is for.
    pub kind: RecordKind,
    /// Of its key.
    pub salt: Salt,
}

/// AES-256-GCM under a key of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRecord {
    /// Associated data.
    pub header: RecordHeader,
    /// With the tag at its end.
    #[serde(with = "variable")]
    pub ciphertext: Vec<u8>,
}

/// The log's key, sealed to one measured build on one chip.
///
/// The enclave writes a new one after a firmware update; the log itself stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// In clear, and authenticated.
    pub header: SlotHeader,
    /// With the tag at its end.
    #[serde(with = "variable")]
    pub ciphertext: Vec<u8>,
}

/// In clear, and authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotHeader {
    /// [`RECORD_VERSION`].
    pub version: u16,
    /// The DAO: its first manifest.
    pub dao: ManifestHash,
    /// Whose enclave.
    pub member: MemberId,
    /// Which log.
    pub log: LogId,
    /// The launch measurement of the build that can open it.
    pub measurement: Measurement,
    /// The guest policy under which it can, which the measurement does not cover.
    pub policy: u64,
    /// The TCB that the key was derived at: a later one derives it too.
    pub tcb: RawTcb,
    /// Of its key.
    pub salt: Salt,
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogHead {
    /// Of the newest record; 0 before the first.
    pub number: u64,
    /// Of the newest record; zeros before the first.
    pub digest: Digest,
}

impl LogHead {
    /// Before the first record.
    pub const START: Self = Self { number: 0, digest: Digest([0; 32]) };
}

/// Why sealed state is refused.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SealedError {
    /// Written by another version of Postern.
    #[error("sealed state of version {found}, this build reads {RECORD_VERSION}")]
    Version {
        /// What it says.
        found: u16,
    },
    /// For another DAO: another first manifest.
    #[error("sealed state of another DAO")]
    OtherDao,
    /// For another member.
    #[error("sealed state of {0}")]
    OtherMember(MemberId),
    /// By another build.
    #[error("sealed by a build with another launch measurement")]
    OtherMeasurement,
    /// Under another guest policy.
    #[error("sealed under another guest policy")]
    OtherPolicy,
    /// At a TCB that this machine has not committed to.
    #[error("sealed at a TCB above this machine's")]
    OtherTcb,
    /// The slot does not open: altered, or of another chip.
    #[error("the key slot does not open: altered, or of another chip")]
    Slot,
    /// Of another log than the slot's.
    #[error("record {number} is of another log")]
    OtherLog {
        /// The record's.
        number: u64,
    },
    /// Not the record that is due.
    #[error("record {found} where {expected} is due")]
    Order {
        /// Due.
        expected: u64,
        /// Given.
        found: u64,
    },
    /// The record does not follow on the one before.
    #[error("record {number} does not follow on the one before")]
    Chain {
        /// The record's.
        number: u64,
    },
    /// The record does not open.
    #[error("record {number} was altered")]
    Altered {
        /// The record's.
        number: u64,
    },
    /// The record opens, but says nothing that this build understands.
    #[error("record {number} does not decode")]
    Content {
        /// The record's.
        number: u64,
    },
    /// Vault records are missing or out of order.
    #[error("{found} vault records where the snapshot counts {expected}")]
    Vault {
        /// Counted by the snapshot.
        expected: u64,
        /// Given.
        found: u64,
    },
    /// There is no beginning: neither record 1 nor a snapshot.
    #[error("the records end before the state is whole")]
    Incomplete,
    /// The records do not end where the log was handed over.
    #[error("the log was handed over at record {expected}, these records end at {found}")]
    HandedOverAt {
        /// Number of the record at the end of what was handed over.
        expected: u64,
        /// Of the last record given.
        found: u64,
    },
}

impl SealedRecord {
    /// What the next record names.
    pub fn digest(&self) -> Digest {
        Transcriber::new("postern-record-v1")
            .bytes(&codec::encode(&self.header))
            .bytes(&self.ciphertext)
            .finish()
    }

    /// Where the log stands with this record.
    pub fn head(&self) -> LogHead {
        LogHead { number: self.header.number, digest: self.digest() }
    }

    /// Whether this record follows on `head`.
    pub fn follows(&self, head: LogHead) -> Result<(), SealedError> {
        let number = self.header.number;
        match head.number.checked_add(1) {
            Some(expected) if expected != number => Err(SealedError::Order { expected, found: number }),
            Some(_) if self.header.previous == head.digest => Ok(()),
            _ => Err(SealedError::Chain { number }),
        }
    }
}
