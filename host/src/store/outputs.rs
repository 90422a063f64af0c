//! What the enclave wants done.

use super::{News, Store, StoreError, decode, log};
use crate::status::Progress;
use postern_shared::codec;
use postern_shared::identity::SigningKey;
use postern_shared::ids::{CeremonyId, MemberId};
use postern_shared::message::{Broadcast, Envelope, PeerMessage, Step};
use postern_shared::wire::{Artifact, Notice, NumberedOutput, Output, Recipient, Record, RefusedMember};
use rusqlite::{OptionalExtension, Transaction, params};
use std::sync::PoisonError;

/// Most replaceable messages that wait for one member. Beyond, the oldest are forgotten: a member that was away for so
/// long fetches statements from the records, and enclaves repeat challenges. Envelopes are said once, so they stay.
pub(super) const MAX_WAITING: u32 = 10_000;

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
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let known: Option<Vec<u8>> = meta(&transaction, "incarnation")?;
        if known != Some(codec::encode(incarnation)) {
            set_meta(&transaction, "incarnation", &codec::encode(incarnation))?;
            set_meta(&transaction, "sequence", &0u64.to_le_bytes())?;
            transaction.commit()?;
        }
        Ok(())
    }

    /// Who the other members are: a message for everyone goes to each of them.
    pub fn set_members(&self, own: MemberId, members: &[MemberId]) -> Result<(), StoreError> {
        let others: Vec<MemberId> = members.iter().copied().filter(|member| *member != own).collect();
        set_meta(&self.lock(), "others", &codec::encode(&others))
    }

    /// Stores outputs, all or none, each once: numbers that were stored before are passed over.
    pub fn keep_outputs(
        &self,
        incarnation: &Incarnation,
        outputs: &[NumberedOutput],
    ) -> Result<(), StoreError> {
        {
            let mut connection = self.lock();
            let transaction = connection.transaction()?;
            if meta(&transaction, "incarnation")? != Some(codec::encode(incarnation)) {
                return Err(StoreError::Damaged { table: "meta" });
            }
            let newest = meta(&transaction, "sequence")?.and_then(|bytes| bytes.try_into().ok());
            let newest = newest.map_or(0, u64::from_le_bytes);
            let others: Vec<MemberId> = match meta(&transaction, "others")? {
                Some(bytes) => decode("meta", &bytes)?,
                None => Vec::new(),
            };
            for numbered in outputs.iter().filter(|numbered| numbered.sequence > newest) {
                keep(&transaction, &numbered.output, &others)?;
            }
            if outputs.iter().any(|numbered| matches!(numbered.output, Output::Send { .. })) {
                forget_oldest(&transaction, &others)?;
            }
            if let Some(last) = outputs.last().filter(|last| last.sequence > newest) {
                set_meta(&transaction, "sequence", &last.sequence.to_le_bytes())?;
            }
            transaction.commit()?;
        }
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

    /// The oldest messages for a member that are due at `now` (milliseconds), at most `limit`.
    pub fn due(&self, member: MemberId, now: i64, limit: usize) -> Result<Vec<Outgoing>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT id, attempts, replaceable, message FROM outbox \
             WHERE member = ?1 AND next_at <= ?2 ORDER BY id LIMIT ?3",
        )?;
        let rows = statement.query_map(params![member.0, now, limit as i64], |row| {
            Ok(Outgoing {
                id: row.get(0)?,
                attempts: row.get(1)?,
                replaceable: row.get(2)?,
                message: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// When the next message for a member is due, if there is one.
    pub fn next_due(&self, member: MemberId) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT min(next_at) FROM outbox WHERE member = ?1";
        Ok(self.lock().query_row(sql, params![member.0], |row| row.get(0))?)
    }

    /// Forgets messages that arrived (or never will be accepted), and puts others off.
    pub fn settle(&self, delivered: &[i64], postponed: &[(i64, i64)]) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for id in delivered {
            transaction.execute("DELETE FROM outbox WHERE id = ?1", params![id])?;
        }
        for (id, next_at) in postponed {
            let sql = "UPDATE outbox SET attempts = attempts + 1, next_at = ?2 WHERE id = ?1";
            transaction.execute(sql, params![id, next_at])?;
        }
        Ok(transaction.commit()?)
    }

    /// Statements of a speaker at a step, for a host that lacks them.
    pub fn records(
        &self,
        ceremony: CeremonyId,
        step: Step,
        speaker: MemberId,
    ) -> Result<Vec<Broadcast>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT statement FROM records WHERE ceremony = ?1 AND step = ?2 AND speaker = ?3 ORDER BY item",
        )?;
        let rows = statement.query_map(params![&ceremony.0[..], codec::encode(&step), speaker.0], |row| {
            row.get::<_, Vec<u8>>(0)
        })?;
        rows.map(|row| decode("records", &row?)).collect()
    }

    /// Results that something is still to be done about, oldest first.
    pub fn open_artifacts(&self) -> Result<Vec<StoredArtifact>, StoreError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT id, artifact FROM artifacts WHERE done = 0 ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        rows.map(|row| {
            let (id, bytes) = row?;
            Ok(StoredArtifact { id, artifact: decode("artifacts", &bytes)? })
        })
        .collect()
    }

    /// Nothing more is to be done about a result.
    pub fn close_artifact(&self, id: i64) -> Result<(), StoreError> {
        self.lock().execute("UPDATE artifacts SET done = 1 WHERE id = ?1", params![id])?;
        Ok(())
    }
}

impl Store {
    /// What the enclave has handed over, for its successor.
    pub fn inheritance(&self) -> Result<Option<Envelope>, StoreError> {
        meta(&self.lock(), INHERITANCE)?.map(|bytes| decode("meta", &bytes)).transpose()
    }

    /// Forgets what was handed over: to another successor than the one that is there, or taken over.
    pub fn forget_inheritance(&self) -> Result<(), StoreError> {
        self.lock().execute("DELETE FROM meta WHERE key = ?1", params![INHERITANCE])?;
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
                kind = ?stale.kind, own = stale.own.head.number, known = stale.known.head.number,
                told_by = %stale.told_by, "the enclave was restored from records that are not the newest"
            ),
            Notice::StalePeer(stale) => tracing::warn!(
                member = %stale.own.member, kind = ?stale.kind, claimed = stale.own.head.number,
                known = stale.known.head.number, "a peer was restored from records that are not the newest"
            ),
            Notice::Admitted(member) => tracing::info!(%member, "admitted"),
            Notice::Refused(RefusedMember { member, checks, cut_off }) => {
                let checks: Vec<&str> = checks.iter().map(|check| check.name()).collect();
                tracing::warn!(%member, ?checks, cut_off, "refused");
            }
        }
    }
}

fn keep(transaction: &Transaction<'_>, output: &Output, others: &[MemberId]) -> Result<(), StoreError> {
    match output {
        Output::Store(Record::Broadcast(statement)) => {
            let slot = statement.slot;
            transaction.execute(
                "INSERT OR IGNORE INTO records VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    &slot.ceremony.0[..],
                    codec::encode(&slot.step),
                    slot.from.0,
                    slot.item,
                    codec::encode(statement)
                ],
            )?;
        }
        Output::Send { to, message } => {
            let digest = Broadcast::digest_of(message);
            let replaceable = is_replaceable(message);
            let recipients = match to {
                Recipient::Everyone => others,
                Recipient::One(member) => std::slice::from_ref(member),
            };
            for member in recipients {
                transaction.execute(
                    "INSERT OR IGNORE INTO outbox (member, digest, message, replaceable) VALUES (?1, ?2, ?3, ?4)",
                    params![member.0, &digest.0[..], message, replaceable],
                )?;
            }
        }
        Output::Store(Record::Sealed(record)) => log::keep_record(transaction, record)?,
        Output::Store(Record::Slot(slot)) => log::keep_slot(transaction, slot)?,
        Output::Publish(artifact) => {
            let sql = "INSERT INTO artifacts (artifact) VALUES (?1)";
            transaction.execute(sql, params![codec::encode(artifact)])?;
        }
        Output::HandOver(envelope) => set_meta(transaction, INHERITANCE, &codec::encode(envelope))?,
        Output::Notice(_) => {}
    }
    Ok(())
}

fn is_replaceable(message: &[u8]) -> bool {
    use PeerMessage::{Broadcast, Challenge, Evidence};
    matches!(codec::decode(message), Ok(Challenge(_) | Evidence(_) | Broadcast(_)))
}

/// Keeps the outbox bounded, however long a member is away.
fn forget_oldest(transaction: &Transaction<'_>, others: &[MemberId]) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "DELETE FROM outbox WHERE member = ?1 AND replaceable AND id <= \
         (SELECT id FROM outbox WHERE member = ?1 AND replaceable ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    for member in others {
        let forgotten = statement.execute(params![member.0, MAX_WAITING])?;
        if forgotten > 0 {
            tracing::warn!(%member, forgotten, "too many messages wait for a member; the oldest are forgotten");
        }
    }
    Ok(())
}

fn meta(connection: &rusqlite::Connection, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    Ok(connection.query_row(sql, params![key], |row| row.get(0)).optional()?)
}

fn set_meta(connection: &rusqlite::Connection, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
    connection.execute(sql, params![key, value])?;
    Ok(())
}
