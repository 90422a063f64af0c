//! From version 2 to 3: pools have full names.

use super::super::database::{Database, values};
use super::super::{StoreError, decode, to_json};
use super::NumberedPools;
use crate::chain::beacon::ValidatorStatus;
use crate::status::PoolStatus;
use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::ethereum::{DepositData, SignedVoluntaryExit, WithdrawalCredentials};
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::ids::MemberId;
use postern_shared::wire::Artifact;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// An event, as it was.
#[derive(Serialize, Deserialize)]
pub(super) enum NumberedEvent {
    DepositRequested { source: EventSource, pool: u32, credentials: WithdrawalCredentials },
    ValidatorIndexed { pool: u32, pubkey: PublicKey, validator_index: u64 },
    ExitRequested { source: EventSource, pool: u32 },
}

/// A result, as it was.
#[derive(Serialize, Deserialize)]
pub(super) enum NumberedArtifact {
    /// What follows in there says which pool it is about: nothing of it can be changed, since it is signed.
    Transcript,
    Deposit {
        pool: u32,
        data: DepositData,
        operators: Vec<MemberId>,
    },
    Exit {
        pool: u32,
        exit: SignedVoluntaryExit,
    },
}

pub(super) fn run(database: &mut Database, pools: Option<NumberedPools>) -> Result<(), StoreError> {
    let pools = pools.ok_or(StoreError::Nameless)?;
    name_events(database, pools)?;
    name_artifacts(database, pools)?;
    name_pools(database, pools)?;
    database.define("CREATE TABLE cursors (contract BLOB PRIMARY KEY, cursor BLOB NOT NULL) STRICT")?;
    if let Some(row) = database.query_one("SELECT value FROM meta WHERE key = 'cursor'", values![])? {
        let values = values![&pools.contract.0[..], row.bytes(0)?];
        database.execute("INSERT INTO cursors VALUES (?1, ?2)", values)?;
    }
    database.execute("DELETE FROM meta WHERE key = 'cursor'", values![])?;
    Ok(())
}

fn name_events(database: &mut Database, pools: NumberedPools) -> Result<(), StoreError> {
    for row in database.query("SELECT id, event FROM events ORDER BY id", values![])? {
        let event = match decode("events", row.bytes(1)?)? {
            // The credentials are not repeated: they follow from the pool.
            NumberedEvent::DepositRequested { source, pool, credentials: _ } => {
                ChainEvent::DepositRequested(DepositRequest { source, pool: pools.name(pool) })
            }
            NumberedEvent::ValidatorIndexed { pool, pubkey, validator_index } => {
                ChainEvent::ValidatorIndexed { pool: pools.name(pool), pubkey, validator_index }
            }
            NumberedEvent::ExitRequested { source, pool } => {
                ChainEvent::ExitRequested { source, pool: pools.name(pool) }
            }
        };
        let values = values![row.integer(0)?, codec::encode(&event)];
        database.execute("UPDATE events SET event = ?2 WHERE id = ?1", values)?;
    }
    Ok(())
}

/// Those that something is still to be done about; nobody reads the others.
fn name_artifacts(database: &mut Database, pools: NumberedPools) -> Result<(), StoreError> {
    for row in database.query("SELECT id, artifact FROM artifacts WHERE done = 0", values![])? {
        let id = row.integer(0)?;
        let artifact = match codec::decode(row.bytes(1)?) {
            Ok(NumberedArtifact::Deposit { pool, data, operators }) => {
                Artifact::Deposit { pool: pools.name(pool), data, operators }
            }
            Ok(NumberedArtifact::Exit { pool, exit }) => Artifact::Exit { pool: pools.name(pool), exit },
            Ok(NumberedArtifact::Transcript) | Err(_) => return Err(StoreError::Unfinished { id }),
        };
        let values = values![id, codec::encode(&artifact)];
        database.execute("UPDATE artifacts SET artifact = ?2 WHERE id = ?1", values)?;
    }
    Ok(())
}

fn name_pools(database: &mut Database, pools: NumberedPools) -> Result<(), StoreError> {
    let rows = database.query("SELECT status FROM pools", values![])?;
    database.define("DROP TABLE pools")?;
    database.define("CREATE TABLE pools (pool TEXT PRIMARY KEY, status TEXT NOT NULL) STRICT")?;
    for row in rows {
        let status = name_pool(row.text(0)?, pools)?;
        let values = values![status.pool_id.text(), to_json("pools", &status)?];
        database.execute("INSERT INTO pools VALUES (?1, ?2)", values)?;
    }
    Ok(())
}

fn name_pool(text: &str, pools: NumberedPools) -> Result<PoolStatus, StoreError> {
    let damaged = || StoreError::Damaged { table: "pools" };
    let mut status: Json = serde_json::from_str(text).map_err(|_| damaged())?;
    let fields = status.as_object_mut().ok_or_else(damaged)?;
    let number = fields.get("pool_id").and_then(Json::as_u64).and_then(|number| u32::try_from(number).ok());
    let name = pools.name(number.ok_or_else(damaged)?).text();
    fields.insert("pool_id".to_owned(), Json::String(name));
    // It was whatever a node had said, and is asked for again.
    let known = fields
        .get("beacon_status")
        .cloned()
        .and_then(|said| serde_json::from_value::<ValidatorStatus>(said.clone()).ok().map(|_| said));
    fields.insert("beacon_status".to_owned(), known.unwrap_or(Json::Null));
    serde_json::from_value(status).map_err(|_| damaged())
}
