//! From version 3 to 4: rows grow only with what is open.

use super::super::database::{Database, values};
use super::super::{StoreError, decode, prune};
use super::NumberedPools;
use postern_shared::bls::PublicKey;
use postern_shared::bytes::variable;
use postern_shared::codec;
use postern_shared::ethereum::{SignedVoluntaryExit, WithdrawalCredentials};
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::hash::Transcriber;
use postern_shared::ids::{CeremonyId, MemberId, PoolId};
use postern_shared::message::{Attestation, Broadcast};
use postern_shared::presign::PresignTerms;
use postern_shared::transcript::{Proceedings, Transcript};
use postern_shared::wire::Artifact;
use serde::{Deserialize, Serialize};

const CEREMONIES: &str = "
CREATE TABLE ceremonies (ceremony BLOB PRIMARY KEY, pool TEXT NOT NULL) STRICT;
CREATE INDEX ceremonies_by_pool ON ceremonies (pool);
";

const RECORDS: &str = "
CREATE TABLE records (
    ceremony BLOB NOT NULL,
    step BLOB NOT NULL,
    speaker INTEGER NOT NULL,
    item INTEGER NOT NULL,
    digest BLOB NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (ceremony, step, speaker, item, digest)
) STRICT;
";

/// A result that is a transcript, as it was while a release had a leader.
#[derive(Serialize, Deserialize)]
enum EarlyArtifact {
    Transcript(EarlyTranscript),
}

#[derive(Serialize, Deserialize)]
struct EarlyTranscript {
    #[serde(with = "variable")]
    manifest: Vec<u8>,
    roster: Vec<Attestation>,
    record: EarlyRecord,
}

/// Of the first two nothing has changed: they are read as they are now.
#[derive(Serialize, Deserialize)]
enum EarlyRecord {
    Keygen,
    Presign,
    Release(Box<EarlyRelease>),
}

#[derive(Serialize, Deserialize)]
struct EarlyRelease {
    terms: EarlyReleaseTerms,
    statements: Vec<Broadcast>,
    exit: SignedVoluntaryExit,
}

#[derive(Serialize, Deserialize)]
struct EarlyReleaseTerms {
    presign: PresignTerms,
    source: EventSource,
    leader: MemberId,
}

impl EarlyReleaseTerms {
    fn ceremony(&self) -> CeremonyId {
        let terms = Transcriber::new("postern-release-v1")
            .bytes(&self.presign.ceremony().0)
            .bytes(&codec::encode(&self.source))
            .number(self.leader.0.into());
        CeremonyId(terms.finish().0)
    }
}

/// An event, as it was at first: with credentials, which follow from the pool.
#[derive(Serialize, Deserialize)]
pub(super) enum EarlyEvent {
    DepositRequested { source: EventSource, pool: PoolId, credentials: WithdrawalCredentials },
    ValidatorIndexed { pool: PoolId, pubkey: PublicKey, validator_index: u64 },
    ExitRequested { source: EventSource, pool: PoolId },
}

pub(super) fn run(database: &mut Database, _: Option<NumberedPools>) -> Result<(), StoreError> {
    if !database.has_column("records", "digest")? {
        digest_records(database)?;
    }
    shorten_events(database)?;
    database.define(CEREMONIES)?;
    close_artifacts(database)?;
    database.define("ALTER TABLE artifacts DROP COLUMN done")
}

fn digest_records(database: &mut Database) -> Result<(), StoreError> {
    let rows = database.query("SELECT ceremony, step, speaker, item, statement FROM records", values![])?;
    database.define("DROP TABLE records")?;
    database.define(RECORDS)?;
    for row in rows {
        let statement: Broadcast = decode("records", row.bytes(4)?)?;
        let digest = Broadcast::digest_of(&statement.body);
        let (ceremony, step, speaker, item) =
            (row.bytes(0)?, row.bytes(1)?, row.integer(2)?, row.integer(3)?);
        database.execute(
            "INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            values![ceremony, step, speaker, item, &digest.0[..], row.bytes(4)?],
        )?;
    }
    Ok(())
}

fn shorten_events(database: &mut Database) -> Result<(), StoreError> {
    for row in database.query("SELECT id, event FROM events ORDER BY id", values![])? {
        let (id, bytes) = (row.integer(0)?, row.bytes(1)?);
        if codec::decode::<ChainEvent>(bytes).is_ok() {
            continue;
        }
        let EarlyEvent::DepositRequested { source, pool, credentials: _ } = decode("events", bytes)? else {
            return Err(StoreError::Damaged { table: "events" });
        };
        let event = codec::encode(&ChainEvent::DepositRequested(DepositRequest { source, pool }));
        // A later build may have read it again and written it down beside.
        let known = database.query("SELECT id FROM events WHERE event = ?1", values![event.as_slice()])?;
        match known.is_empty() {
            true => database.execute("UPDATE events SET event = ?2 WHERE id = ?1", values![id, event])?,
            false => database.execute("DELETE FROM events WHERE id = ?1", values![id])?,
        };
    }
    Ok(())
}

/// Forgets results that are done with. Of which pool their ceremonies were is said by transcripts only.
fn close_artifacts(database: &mut Database) -> Result<(), StoreError> {
    for row in database.query("SELECT id, done FROM artifacts ORDER BY id", values![])? {
        let (id, is_open) = (row.integer(0)?, row.integer(1)? == 0);
        // One after the other: together they may be larger than memory.
        let rows = database.query("SELECT artifact FROM artifacts WHERE id = ?1", values![id])?;
        let Some(row) = rows.first() else { continue };
        let bytes = row.bytes(0)?;
        match codec::decode(bytes) {
            Ok(Artifact::Transcript(transcript)) => {
                let (ceremony, pool) = ceremony(&transcript);
                prune::note_ceremony(database, ceremony, pool)?;
            }
            Err(_) if is_open => return Err(StoreError::Unfinished { id }),
            Err(_) => {
                if let Ok(EarlyArtifact::Transcript(EarlyTranscript { record, .. })) = codec::decode(bytes) {
                    let EarlyRecord::Release(release) = record else { continue };
                    prune::note_ceremony(database, release.terms.ceremony(), release.terms.presign.pool)?;
                }
            }
            Ok(_) => {}
        }
    }
    database.execute("DELETE FROM artifacts WHERE done <> 0", values![])?;
    Ok(())
}

fn ceremony(transcript: &Transcript) -> (CeremonyId, PoolId) {
    match &transcript.record {
        Proceedings::Keygen(of) => (of.terms.ceremony(), of.terms.request.pool),
        Proceedings::KeygenFault(of) => (of.terms.ceremony(), of.terms.request.pool),
        Proceedings::Presign(of) => (of.terms.ceremony(), of.terms.pool),
        Proceedings::PresignFault(of) => (of.terms.ceremony(), of.terms.pool),
        Proceedings::Release(of) => (of.terms.ceremony(), of.terms.presign.pool),
        Proceedings::Reshare(of) => (of.terms.ceremony(), of.terms.pool),
        Proceedings::ReshareFault(of) => (of.terms.ceremony(), of.terms.pool),
    }
}
