//! The log: one chain of sealed records, written by [`Journal`] and read again, in a new life of the enclave, by
//! [`Reader`].
//!
//! A record holds a [`Change`], something settled for good ([`Settled`]), or a part of a snapshot ([`Item`]s). None is longer
//! than a quarter of a frame, whatever others have made this enclave keep. Reading
//! them in order gives the state again: the state is a function of its changes, and only the very build that wrote a
//! record can open it, so the function is the same.
//!
//! # Compaction
//! A snapshot is [`RecordKind::Vault`] records for what has been settled since the last one, [`RecordKind::Part`]s for all
//! that is still going on, and a [`RecordKind::Snapshot`] that ends it. Until its host has stored the last of them, the
//! records before are as good as ever, and parts without an end are passed over.
//!
//! # Hand-over
//! A successor's log goes on behind its predecessor's, numbers and digests too, with a snapshot under another name and key.
//! Only vault records of the logs before it are still read.

use crate::log::change::Change;
use crate::log::seal::{LogKeys, OwnLaunch};
use crate::log::snapshot::{Item, Joiner};
use crate::machine::platform::{Platform, PlatformError};
use crate::pools::vault::{Settled, VaultHead};
use postern_shared::codec;
use postern_shared::ids::{ManifestHash, MemberId};
use postern_shared::record::{
    LogHead, LogId, RECORD_VERSION, RecordHeader, RecordKind, Salt, SealedError, SealedRecord, SlotHeader,
};
use postern_shared::wire::{MAX_FRAME, Output, Record, Rejection};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Most bytes that a record may have as it is sealed: with everything around it, less than a quarter of a frame. What does
/// not fit is refused before it changes anything; a record that no frame held would stop the enclave for good.
pub(crate) const MAX_CONTENT: usize = (MAX_FRAME >> 2) - 1024;

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogName {
    pub(crate) dao: ManifestHash,
    pub(crate) member: MemberId,
    pub(crate) log: LogId,
}

impl LogName {
    pub(crate) fn of(header: &SlotHeader) -> Self {
        Self { dao: header.dao, member: header.member, log: header.log }
    }
}

/// Writes records.
pub(crate) struct Journal {
    keys: LogKeys,
    name: LogName,
    head: LogHead,
    /// Size of the records since the last snapshot, and of that.
    grown: usize,
    snapshot: usize,
}

/// What a vault record holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct VaultContent {
    /// All that were settled before: so that none can be left out.
    pub(crate) follows: VaultHead,
    pub(crate) settled: Vec<Settled>,
}

/// What ends a snapshot.
#[derive(Serialize, Deserialize)]
struct SnapshotContent {
    vault: VaultHead,
}

/// What a record says.
pub(crate) enum Content {
    Change(Box<Change>),
    Vault(VaultContent),
    /// A whole snapshot, to begin with.
    Snapshot(Vec<Item>),
    /// What is known already.
    Nothing,
}

impl Journal {
    /// Goes on after `head`.
    pub(crate) fn new(keys: LogKeys, name: LogName, head: LogHead) -> Self {
        Self { keys, name, head, grown: 0, snapshot: 0 }
    }

    /// A log of this name that goes on where this one ends, under another key.
    pub(crate) fn succeeded(self, log: LogId, platform: &mut impl Platform) -> Result<Self, PlatformError> {
        let keys = self.keys.succeeded(self.name.log, platform)?;
        Ok(Self::new(keys, LogName { log, ..self.name }, self.head))
    }

    /// The keys to the log, sealed to this enclave.
    pub(crate) fn make_slot(&self, platform: &mut impl Platform) -> Result<Output, Rejection> {
        let own = OwnLaunch::read(platform).map_err(|_| Rejection::Platform)?;
        let LogName { dao, member, log } = self.name;
        let header = SlotHeader {
            version: RECORD_VERSION,
            dao,
            member,
            log,
            measurement: own.measurement,
            policy: own.policy,
            tcb: own.committed_tcb,
            salt: fresh_salt(platform)?,
        };
        let slot = self.keys.to_slot(header, platform).map_err(|_| Rejection::Platform)?;
        Ok(Output::Store(Record::Slot(Box::new(slot))))
    }

    pub(crate) fn keys(&self) -> &LogKeys {
        &self.keys
    }

    pub(crate) fn name(&self) -> LogName {
        self.name
    }

    pub(crate) fn head(&self) -> LogHead {
        self.head
    }

    /// Whether the log has grown enough since the last snapshot for another to be worth its writing: then all that is
    /// ever written is at most a few times what is new.
    pub(crate) fn wants_snapshot(&self, least: usize) -> bool {
        self.grown > self.snapshot.saturating_mul(2).max(least)
    }

    /// The content of a change's record, if it fits one.
    pub(crate) fn content(change: &Change) -> Result<Zeroizing<Vec<u8>>, Rejection> {
        let content = codec::encode_secret(change);
        if content.len() <= MAX_CONTENT { Ok(content) } else { Err(Rejection::TooLong) }
    }

    pub(crate) fn change(&mut self, content: &[u8], salt: Salt) -> Result<SealedRecord, Rejection> {
        self.write(RecordKind::Change, content, salt)
    }

    pub(crate) fn vault(&mut self, content: &VaultContent, salt: Salt) -> Result<SealedRecord, Rejection> {
        self.write(RecordKind::Vault, &codec::encode_secret(content), salt)
    }

    /// A part of a snapshot's stream.
    pub(crate) fn part(&mut self, part: &[u8], salt: Salt) -> Result<SealedRecord, Rejection> {
        self.write(RecordKind::Part, part, salt)
    }

    /// Ends a snapshot whose parts begin with record `first` and have `size` bytes.
    pub(crate) fn snapshot(
        &mut self,
        first: u64,
        size: usize,
        vault: VaultHead,
        salt: Salt,
    ) -> Result<SealedRecord, Rejection> {
        let content = codec::encode_secret(&SnapshotContent { vault });
        let record = self.write(RecordKind::Snapshot { first }, &content, salt)?;
        (self.grown, self.snapshot) = (0, size);
        Ok(record)
    }

    fn write(&mut self, kind: RecordKind, content: &[u8], salt: Salt) -> Result<SealedRecord, Rejection> {
        if content.len() > MAX_CONTENT {
            return Err(Rejection::TooLong);
        }
        let LogName { dao, member, log } = self.name;
        let number = self.head.number.checked_add(1).ok_or(Rejection::Busy)?;
        let previous = self.head.digest;
        let header = RecordHeader { version: RECORD_VERSION, dao, member, log, number, previous, kind, salt };
        let record = self.keys.own().seal(header, content).ok_or(Rejection::Busy)?;
        self.head = record.head();
        self.grown = self.grown.saturating_add(record.ciphertext.len());
        Ok(record)
    }
}

/// A salt for one record.
pub(crate) fn fresh_salt(platform: &mut impl Platform) -> Result<Salt, Rejection> {
    let mut salt = [0; 32];
    platform.fill_random(&mut salt).map_err(|_| Rejection::Platform)?;
    Ok(Salt(salt))
}

/// Reads records in their order, and refuses what is not the log.
pub(crate) struct Reader {
    keys: LogKeys,
    name: LogName,
    begun: Begun,
    /// The newest record that was read.
    head: LogHead,
    vault: VaultHead,
    /// As [`Journal`] counts them.
    grown: usize,
    snapshot: usize,
    /// Size of the parts that were read last.
    parts: usize,
}

enum Begun {
    /// Vault records, before a snapshot.
    No,
    /// Within the first snapshot.
    Snapshot { first: u64, joiner: Joiner },
    /// The state is there and grows.
    Yes,
}

impl Reader {
    pub(crate) fn new(keys: LogKeys, name: LogName) -> Self {
        let vault = VaultHead::START;
        Self { keys, name, begun: Begun::No, head: LogHead::START, vault, grown: 0, snapshot: 0, parts: 0 }
    }

    /// Number of the record that is due, as far as that is known.
    pub(crate) fn next(&self) -> u64 {
        self.head.number.saturating_add(1)
    }

    /// Takes the next record.
    pub(crate) fn read(&mut self, record: &SealedRecord) -> Result<Content, SealedError> {
        let header = &record.header;
        let number = header.number;
        if header.dao != self.name.dao {
            return Err(SealedError::OtherDao);
        }
        if header.member != self.name.member {
            return Err(SealedError::OtherMember(header.member));
        }
        let own = header.log == self.name.log;
        let key = if own { Some(self.keys.own()) } else { self.keys.earlier(header.log) };
        // Of logs that were handed over, only what is settled for good is not in the snapshot that this one begins with.
        let settled = header.kind == RecordKind::Vault && matches!(self.begun, Begun::No);
        let key = key.filter(|_| own || settled);
        let key = key.ok_or(SealedError::OtherLog { number })?;
        match (&self.begun, header.kind) {
            // The log from its beginning, or older than the snapshot: then there may be gaps between.
            (Begun::No, RecordKind::Change) => record.follows(LogHead::START)?,
            (Begun::No, RecordKind::Part | RecordKind::Vault) if number > self.head.number => {}
            (Begun::No, RecordKind::Snapshot { first }) if first == number && number > self.head.number => {}
            (Begun::No, RecordKind::Snapshot { .. }) => return Err(SealedError::Incomplete),
            _ => record.follows(self.head)?,
        }
        let content = key.open(record)?;
        let content = self.understand(number, header.kind, &content)?;
        self.head = record.head();
        self.count(header.kind, record.ciphertext.len());
        Ok(content)
    }

    /// Like the journal that wrote it, however much of the log is still there.
    fn count(&mut self, kind: RecordKind, size: usize) {
        let parts = core::mem::take(&mut self.parts);
        self.grown = self.grown.saturating_add(size);
        match kind {
            RecordKind::Part => self.parts = parts.saturating_add(size),
            RecordKind::Snapshot { .. } => (self.grown, self.snapshot) = (0, parts),
            RecordKind::Change | RecordKind::Vault => {}
        }
    }

    fn understand(&mut self, number: u64, kind: RecordKind, bytes: &[u8]) -> Result<Content, SealedError> {
        match kind {
            RecordKind::Change => {
                if matches!(self.begun, Begun::Snapshot { .. }) {
                    return Err(SealedError::Incomplete);
                }
                let change = decode(number, bytes)?;
                self.begun = Begun::Yes;
                Ok(Content::Change(Box::new(change)))
            }
            RecordKind::Vault => {
                let content: VaultContent = decode(number, bytes)?;
                if content.follows != self.vault {
                    let (expected, found) = (content.follows.count, self.vault.count);
                    return Err(SealedError::Vault { expected, found });
                }
                self.vault = self.vault.with(&content.settled);
                Ok(Content::Vault(content))
            }
            RecordKind::Part => {
                if matches!(self.begun, Begun::No) {
                    self.begun = Begun::Snapshot { first: number, joiner: Joiner::default() };
                }
                if let Begun::Snapshot { joiner, .. } = &mut self.begun {
                    joiner.add(bytes).ok_or(SealedError::Content { number })?;
                }
                Ok(Content::Nothing)
            }
            RecordKind::Snapshot { first } => {
                let SnapshotContent { vault } = decode(number, bytes)?;
                if vault != self.vault {
                    let (expected, found) = (vault.count, self.vault.count);
                    return Err(SealedError::Vault { expected, found });
                }
                match core::mem::replace(&mut self.begun, Begun::Yes) {
                    Begun::Snapshot { first: begun, joiner } if begun == first => {
                        joiner.finish().map(Content::Snapshot).ok_or(SealedError::Incomplete)
                    }
                    Begun::Yes => Ok(Content::Nothing),
                    _ => Err(SealedError::Incomplete),
                }
            }
        }
    }

    /// All records were read: goes on writing.
    pub(crate) fn finish(self) -> Result<(Journal, VaultHead), SealedError> {
        match self.begun {
            Begun::Yes => {
                let Self { keys, name, head, grown, snapshot, .. } = self;
                Ok((Journal { keys, name, head, grown, snapshot }, self.vault))
            }
            Begun::No | Begun::Snapshot { .. } => Err(SealedError::Incomplete),
        }
    }

    /// Where the log stands with what was read.
    pub(crate) fn head(&self) -> LogHead {
        self.head
    }
}

/// What is sealed is authentic: nobody chose another encoding.
fn decode<T: DeserializeOwned>(number: u64, bytes: &[u8]) -> Result<T, SealedError> {
    postcard::from_bytes(bytes).map_err(|_| SealedError::Content { number })
}
