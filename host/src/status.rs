//! What a host shows of itself: `DATA_DIR/status.json`, replaced whole whenever something changes.

use postern_shared::bls::PublicKey;
use postern_shared::ethereum::{DepositData, SignedVoluntaryExit};
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::wire::RefusedMember;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The file's name in the data directory.
pub const STATUS_FILE: &str = "status.json";

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Which member's host.
    pub member: u16,
    /// Members whose evidence the enclave has accepted, itself included.
    pub admitted: Vec<MemberId>,
    /// Members whose evidence the enclave has refused, and what is wrong with it.
    pub refused: Vec<RefusedMember>,
    /// By ascending id.
    pub pools: Vec<PoolStatus>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its number.
    pub pool_id: PoolId,
    /// The validator's key, once made.
    pub pubkey: Option<PublicKey>,
    /// The signed deposit.
    pub deposit: Option<DepositData>,
    /// The validator's index, once finalised.
    pub validator_index: Option<u64>,
    /// Whether the DAO has asked for the exit.
    pub exit_requested: bool,
    /// The released exit.
    pub exit: Option<SignedVoluntaryExit>,
    /// What the beacon chain says of the validator.
    pub beacon_status: Option<String>,
    /// Where the transcripts are.
    pub transcripts: TranscriptFiles,
    /// What the enclave is doing.
    pub progress: Option<Progress>,
    /// Members that were caught cheating.
    pub faults: Vec<MemberId>,
}

/// The latest of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptFiles {
    /// Of the keygen.
    pub keygen: Option<PathBuf>,
    /// Of the presign.
    pub presign: Option<PathBuf>,
    /// Of the release; only the leader has it.
    pub release: Option<PathBuf>,
    /// Of a cheat.
    pub fault: Option<PathBuf>,
}

/// How far a step of a ceremony is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which protocol.
    pub kind: String,
    /// Which step of it.
    pub step: String,
    /// Statements heard.
    pub have: u16,
    /// Statements wanted.
    pub of: u16,
}

impl PoolStatus {
    /// A pool of which nothing is known yet.
    pub fn new(pool_id: PoolId) -> Self {
        Self {
            pool_id,
            pubkey: None,
            deposit: None,
            validator_index: None,
            exit_requested: false,
            exit: None,
            beacon_status: None,
            transcripts: TranscriptFiles::default(),
            progress: None,
            faults: Vec::new(),
        }
    }
}
