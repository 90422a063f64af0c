//! What the enclave wants done.

use super::database::{Database, values};
use super::{News, Store, StoreError, decode, log, prune};
use crate::status::Progress;
use postern_shared::codec;
use postern_shared::identity::SigningKey;
use postern_shared::ids::{CeremonyId, MemberId};
use postern_shared::message::{Broadcast, Envelope, PeerMessage, Step};
use postern_shared::wire::{Artifact, Notice, NumberedOutput, Output, Recipient, Record, RefusedMember};
use std::sync::PoisonError;
use std::time::Duration;

/// Most replaceable messages that wait for one member. Beyond, the oldest are forgotten: a member that was away for so
/// long fetches statements from the records, and enclaves repeat challenges. Envelopes are said once, so they stay.
pub(super) const MAX_WAITING: u32 = 10_000;

/// Longest that a message is put off.
pub const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Where what was handed over is kept.
const INHERITANCE: &str = "inheritance";

/// One life of an enclave: from its start, or from when it was restored, to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Incarnation {
    /// Which enclave.
    pub signing: SigningKey,
    /// How often it was restored.
    pub number: u64,
}

/// A message to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its row.
    pub id: i64,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Whether it can be had again if it is forgotten.
    pub replaceable: bool,
    /// The message.
    pub message: Vec<u8>,
}

/// A result, with its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredArtifact {
    /// Its row.
    pub id: i64,
    /// The result.
    pub artifact: Artifact,
}

impl Store {
    /// Notes which incarnation of which enclave speaks from now on: the numbers of its outputs start again with each.
    pub fn begin_incarnation(&self, incarnation: &Incarnation) -> Result<(), StoreError> {
        self.transaction(|database| {
            if meta(database, "incarnation")? != Some(codec::encode(incarnation)) {
                set_meta(database, "incarnation", &codec::encode(incarnation))?;
                set_meta(database, "sequence", &0u64.to_le_bytes())?;
            }
            Ok(())
        })
    }

    /// Who the other members are: a message for everyone goes to each of them.
    pub fn set_members(&self, own: MemberId, members: &[MemberId]) -> Result<(), StoreError> {
        let others: Vec<MemberId> = members.iter().copied().filter(|member| *member != own).collect();
        self.transaction(|database| set_meta(database, "others", &codec::encode(&others)))
    }

    /// Stores outputs, all or none, each once: numbers that were stored before are passed over.
    pub fn keep_outputs(
        &self,
        incarnation: &Incarnation,
        outputs: &[NumberedOutput],
    ) -> Result<(), StoreError> {
        self.transaction(|database| {
            if meta(database, "incarnation")? != Some(codec::encode(incarnation)) {
                return Err(StoreError::Damaged { table: "meta" });
            }
            let newest = meta(database, "sequence")?.and_then(|bytes| bytes.try_into().ok());
            let newest = newest.map_or(0, u64::from_le_bytes);
            let others: Vec<MemberId> = match meta(database, "others")? {
                Some(bytes) => decode("meta", &bytes)?,
                None => Vec::new(),
            };
            for numbered in outputs.iter().filter(|numbered| numbered.sequence > newest) {
                keep(database, &numbered.output, &others)?;
            }
            if outputs.iter().any(|numbered| matches!(numbered.output, Output::Send { .. })) {
                forget_oldest(database, &others)?;
            }
            if let Some(last) = outputs.last().filter(|last| last.sequence > newest) {
                set_meta(database, "sequence", &last.sequence.to_le_bytes())?;
            }
            Ok(())
        })?;
        self.note(outputs);
        Ok(())
    }

    /// Takes the notices among outputs to heart, without keeping them.
    pub fn note(&self, outputs: &[NumberedOutput]) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        for numbered in outputs {
            if let Output::Notice(notice) = &numbered.output {
                news.take(notice);
            }
        }
        drop(news);
        self.changed.notify_waiters();
    }

    /// The oldest messages for a member that are due at `now` (milliseconds), at most `limit`. What is put off longer than
    /// anything ever is, a clock has put off that was ahead: it is due.
    pub fn due(&self, member: MemberId, now: i64, limit: usize) -> Result<Vec<Outgoing>, StoreError> {
        let sql = "SELECT id, attempts, replaceable, message FROM outbox \
             WHERE member = ?1 AND (next_at <= ?2 OR next_at > ?3) ORDER BY id LIMIT ?4";
        let longest = i64::try_from(LONGEST_DELAY.as_millis()).unwrap_or(i64::MAX);
        let (latest, limit) = (now.saturating_add(longest), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.query(sql, values![member.0, now, latest, limit])?;
        rows.iter()
            .map(|row| {
                Ok(Outgoing {
                    id: row.integer(0)?,
                    attempts: u32::try_from(row.integer(1)?).unwrap_or(u32::MAX),
                    replaceable: row.integer(2)? != 0,
                    message: row.bytes(3)?.to_owned(),
                })
            })
            .collect()
    }

    /// When the next message for a member is due, if there is one.
    pub fn next_due(&self, member: MemberId) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT min(next_at) FROM outbox WHERE member = ?1";
        let row = self.query_one(sql, values![member.0])?;
        Ok(row.map(|row| row.optional_integer(0)).transpose()?.flatten())
    }

    /// Forgets messages that arrived (or never will be accepted), and puts others off.
    pub fn settle(&self, delivered: &[i64], postponed: &[(i64, i64)]) -> Result<(), StoreError> {
        self.transaction(|database| {
            for id in delivered {
                database.execute("DELETE FROM outbox WHERE id = ?1", values![*id])?;
            }
            for (id, next_at) in postponed {
                let sql = "UPDATE outbox SET attempts = attempts + 1, next_at = ?2 WHERE id = ?1";
                database.execute(sql, values![*id, *next_at])?;
            }
            Ok(())
        })
    }

    /// Statements of a speaker at a step, for a host that lacks them.
    pub fn records(
        &self,
        ceremony: CeremonyId,
        step: Step,
        speaker: MemberId,
    ) -> Result<Vec<Broadcast>, StoreError> {
        let sql =
            "SELECT statement FROM records WHERE ceremony = ?1 AND step = ?2 AND speaker = ?3 ORDER BY item";
        let rows = self.query(sql, values![&ceremony.0[..], codec::encode(&step), speaker.0])?;
        rows.iter().map(|row| decode("records", row.bytes(0)?)).collect()
    }

    /// Results that something is still to be done about, oldest first.
    pub fn open_artifacts(&self) -> Result<Vec<StoredArtifact>, StoreError> {
        let rows = self.query("SELECT id, artifact FROM artifacts ORDER BY id", values![])?;
        rows.iter()
            .map(|row| {
                Ok(StoredArtifact { id: row.integer(0)?, artifact: decode("artifacts", row.bytes(1)?)? })
            })
            .collect()
    }

    /// Nothing more is to be done about a result: it is forgotten.
    pub fn close_artifact(&self, id: i64) -> Result<(), StoreError> {
        self.execute("DELETE FROM artifacts WHERE id = ?1", values![id])?;
        Ok(())
    }
}

impl Store {
    /// What the enclave has handed over, for its successor.
    pub fn inheritance(&self) -> Result<Option<Envelope>, StoreError> {
        self.with(|database| meta(database, INHERITANCE))?.map(|bytes| decode("meta", &bytes)).transpose()
    }

    /// Forgets what was handed over: to another successor than the one that is there, or taken over.
    pub fn forget_inheritance(&self) -> Result<(), StoreError> {
        self.execute("DELETE FROM meta WHERE key = ?1", values![INHERITANCE])?;
        Ok(())
    }

    /// Keeps in mind what was wrong with a member's latest evidence.
    pub fn explain_refusal(&self, member: MemberId, reasons: Vec<String>) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).reasons.insert(member, reasons);
        self.changed.notify_waiters();
    }
}

impl News {
    fn take(&mut self, notice: &Notice) {
        match notice {
            &Notice::Progress { kind, pool, step, have, of, .. } => {
                let (kind, step) = (format!("{kind:?}").to_lowercase(), format!("{step:?}").to_lowercase());
                self.progress.insert(pool, Progress { kind, step, have, of });
            }
            &Notice::Missing { ceremony, step, member } => {
                // A tick says all again; what was not asked for since is not worth keeping.
                if self.missing.len() < 1024 && !self.missing.contains(&(ceremony, step, member)) {
                    self.missing.push((ceremony, step, member));
                }
            }
            &Notice::Fault { pool, culprit, aborted, ceremony, kind } => {
                tracing::warn!(%pool, %culprit, ?kind, %ceremony, aborted, "a member was caught cheating");
                let faults = self.faults.entry(pool).or_default();
                if !faults.contains(&culprit) {
                    faults.push(culprit);
                }
            }
            Notice::Finished { kind, pool, ceremony } => {
                tracing::info!(%pool, ?kind, %ceremony, "ceremony finished");
            }
            Notice::Returned(incarnation) => tracing::info!(incarnation, "the enclave takes part again"),
            Notice::Stale(stale) => tracing::error!(
                kind = ?stale.kind, own = stale.own, known = stale.known,
                told_by = %stale.told_by, "the enclave was restored from records that are not the newest"
            ),
            Notice::StalePeer(stale) => tracing::warn!(
                member = %stale.member, kind = ?stale.kind, claimed = stale.own,
                known = stale.known, "a peer was restored from records that are not the newest"
            ),
            Notice::Withheld(member) => tracing::warn!(
                %member, "a secret was withheld: the manifest has declared the enclave dead that it was sealed to"
            ),
            Notice::TwoFaced(member) => {
                tracing::error!(%member, "a member has said two things in one place of an agreement");
            }
            Notice::Admitted(member) => tracing::info!(%member, "admitted"),
            Notice::Refused(RefusedMember { member, checks, cut_off }) => {
                let checks: Vec<&str> = checks.iter().map(|check| check.name()).collect();
                tracing::warn!(%member, ?checks, cut_off, "refused");
            }
        }
    }
}

fn keep(database: &mut Database, output: &Output, others: &[MemberId]) -> Result<(), StoreError> {
    match output {
        Output::Store(Record::Broadcast(statement)) => {
            let slot = statement.slot;
            let (ceremony, step) = (&slot.ceremony.0[..], codec::encode(&slot.step));
            let digest = Broadcast::digest_of(&statement.body);
            let sql = "INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
            let statement = codec::encode(statement);
            database
                .execute(sql, values![ceremony, step, slot.from.0, slot.item, &digest.0[..], statement])?;
        }
        Output::Send { to, message } => {
            let digest = Broadcast::digest_of(message);
            let worth = Worth::of(message);
            let recipients = match to {
                Recipient::Everyone => others,
                Recipient::One(member) => std::slice::from_ref(member),
            };
            let sql = "INSERT INTO outbox (member, digest, message, replaceable) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO NOTHING";
            for member in recipients {
                if worth.only_the_newest() {
                    let sql = "DELETE FROM outbox WHERE member = ?1 AND replaceable = ?2 AND digest <> ?3";
                    database.execute(sql, values![member.0, worth as u16, &digest.0[..]])?;
                }
                let values = values![member.0, &digest.0[..], message.as_slice(), worth as u16];
                database.execute(sql, values)?;
            }
        }
        Output::Store(Record::Sealed(record)) => log::keep_record(database, record)?,
        Output::Store(Record::Slot(slot)) => log::keep_slot(database, slot)?,
        Output::Publish(artifact) => {
            let sql = "INSERT INTO artifacts (artifact) VALUES (?1)";
            database.execute(sql, values![codec::encode(artifact)])?;
        }
        Output::HandOver(envelope) => set_meta(database, INHERITANCE, &codec::encode(envelope))?,
        // Whoever says a statement says how far its ceremony is.
        Output::Notice(
            Notice::Progress { ceremony, pool, .. }
            | Notice::Finished { ceremony, pool, .. }
            | Notice::Fault { ceremony, pool, .. },
        ) => prune::note_ceremony(database, *ceremony, *pool)?,
        Output::Notice(_) => {}
    }
    Ok(())
}

/// What is lost with a message that waits: the table's `replaceable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// It is said once, so it stays.
    Once = 0,
    /// It can be had again.
    Replaceable = 1,
    /// The same, and an older one is worth nothing: whoever asked has asked something else since.
    Evidence = 2,
    /// Likewise: an enclave has one open question to another.
    Challenge = 3,
}

impl Worth {
    fn of(message: &[u8]) -> Self {
        match codec::decode(message) {
            Ok(PeerMessage::Evidence(_)) => Self::Evidence,
            Ok(PeerMessage::Challenge(_)) => Self::Challenge,
            Ok(PeerMessage::Broadcast(_) | PeerMessage::Epoch(_)) => Self::Replaceable,
            Ok(PeerMessage::Envelope(_) | PeerMessage::Witness(_)) | Err(_) => Self::Once,
        }
    }

    fn only_the_newest(self) -> bool {
        matches!(self, Self::Evidence | Self::Challenge)
    }
}

/// Keeps the outbox bounded, however long a member is away.
fn forget_oldest(database: &mut Database, others: &[MemberId]) -> Result<(), StoreError> {
    let sql = "DELETE FROM outbox WHERE member = ?1 AND replaceable = 1 AND id <= \
         (SELECT id FROM outbox WHERE member = ?1 AND replaceable = 1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    for member in others {
        let forgotten = database.execute(sql, values![member.0, MAX_WAITING])?;
        if forgotten > 0 {
            tracing::warn!(%member, forgotten, "too many messages wait for a member; the oldest are forgotten");
        }
    }
    Ok(())
}

fn meta(database: &mut Database, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let row = database.query_one("SELECT value FROM meta WHERE key = ?1", values![key])?;
    row.map(|row| row.bytes(0).map(<[u8]>::to_vec)).transpose()
}

fn set_meta(database: &mut Database, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
    database.execute(sql, values![key, value])?;
    Ok(())
}
