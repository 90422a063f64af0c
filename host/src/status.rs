//! What a host shows of itself: `DATA_DIR/status.json`, replaced whole whenever something changes.

use crate::chain::beacon::ValidatorStatus;
use postern_shared::bls::PublicKey;
use postern_shared::check::Check;
use postern_shared::epoch::Waiting;
use postern_shared::ethereum::{DepositData, SignedVoluntaryExit};
use postern_shared::identity::Identity;
use postern_shared::ids::{Address, Digest, MemberId, PoolId};
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter, Result as Written};
use std::path::{Path, PathBuf};

/// The file's name in the data directory.
pub const STATUS_FILE: &str = "status.json";

/// Why there is no status.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The file can't be read.
    #[error("{path}: {source} (is the host running?)", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is no status.
    #[error("{path}: {source}", path = path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What and where.
        source: serde_json::Error,
    },
}

/// Reads the status that a host has left in its data directory.
pub fn read(data_dir: &Path) -> Result<HostStatus, StatusError> {
    let path = data_dir.join(STATUS_FILE);
    let text = std::fs::read(&path).map_err(|source| StatusError::Read { path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| StatusError::Format { path, source })
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Which member's host.
    pub member: u16,
    /// Whether the manifest trusts a simulated root: then nothing is protected.
    pub simulated: bool,
    /// Whether the enclave answers. If not, what is said of members is what it last said.
    pub enclave_answers: bool,
    /// Whether the enclave takes part, in words.
    pub standing: String,
    /// Number of the newest record of its log.
    pub log: u64,
    /// How often it was restored from it.
    pub incarnation: u64,
    /// The epoch of the manifest that it goes by.
    pub epoch: u64,
    /// The enclave's identity: a candidate's is what the DAO has to name.
    pub enclave: Option<Identity>,
    /// What people compare of it before they sign.
    pub fingerprint: Option<Digest>,
    /// While it waits for a cut: the copy that this must name, and what it remembers of others.
    pub waiting: Option<Box<Waiting>>,
    /// Members whose evidence the enclave has accepted, itself included.
    pub admitted: Vec<MemberId>,
    /// Members whose evidence the enclave has refused, and what is wrong with it.
    pub refused: Vec<Refused>,
    /// What a person has to look at: the names of files in `alerts/`.
    pub alerts: Vec<String>,
    /// What is wrong for now.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
    /// By ascending id.
    pub pools: Vec<PoolStatus>,
}

/// Something that is wrong, and is no more once it is right again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What it is about.
    pub subject: Subject,
    /// Seconds since 1970, by the host's clock.
    pub since: u64,
    /// For people.
    pub reason: String,
}

/// What can be wrong for a while.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The own enclave.
    Enclave,
    /// An execution node, by the name of its URL: scheme, host and port.
    ExecutionNode(String),
    /// A beacon node, likewise.
    BeaconNode(String),
    /// A pool manager, whose events are not as it says itself, or can't be read.
    Events(Address),
    /// Whether the wallet can pay.
    Wallet,
    /// A transaction that does not get on, by its key.
    Transaction(String),
    /// A pool's released exit that does not get on.
    Exit(PoolId),
    /// Another member's host.
    Peer(MemberId),
}

/// A member that the enclave does not talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Who.
    pub member: MemberId,
    /// Whether it had been admitted before.
    pub cut_off: bool,
    /// Every check that its evidence failed, by its stable name.
    pub checks: Vec<Check>,
    /// The same with what was expected and found, if this host has seen the evidence.
    pub reasons: Vec<String>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its full name.
    pub pool_id: PoolId,
    /// The validator's key, once made.
    pub pubkey: Option<PublicKey>,
    /// The signed deposit.
    pub deposit: Option<DepositData>,
    /// The validator's index, once finalised.
    pub validator_index: Option<u64>,
    /// Whether the pool manager has asked for the deposit.
    #[serde(default)]
    pub deposit_requested: bool,
    /// Whether the DAO has asked for the exit.
    pub exit_requested: bool,
    /// The released exit.
    pub exit: Option<SignedVoluntaryExit>,
    /// What the beacon chain says of the validator.
    pub beacon_status: Option<ValidatorStatus>,
    /// Whether the validator has left, for good.
    #[serde(default)]
    pub has_left: bool,
    /// Whether its pool manager has that on record, for good.
    #[serde(default)]
    pub exit_reported: bool,
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

impl Display for Subject {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        match self {
            Self::Enclave => f.write_str("enclave"),
            Self::ExecutionNode(name) => write!(f, "execution node {name}"),
            Self::BeaconNode(name) => write!(f, "beacon node {name}"),
            Self::Events(contract) => write!(f, "pool manager {contract}"),
            Self::Wallet => f.write_str("wallet"),
            Self::Transaction(key) => write!(f, "transaction {key}"),
            Self::Exit(pool) => write!(f, "exit of pool {pool}"),
            Self::Peer(member) => write!(f, "host of {member}"),
        }
    }
}

impl HostStatus {
    /// The status for people.
    pub fn describe(&self) -> String {
        let numbers = |members: &[MemberId]| {
            members.iter().map(|member| member.0.to_string()).collect::<Vec<_>>().join(", ")
        };
        let simulated = if self.simulated { ": SIMULATED ENCLAVES, nothing is protected" } else { "" };
        let mut lines = vec![
            format!("member {}{simulated}", self.member),
            format!("  enclave: {}", if self.enclave_answers { "answers" } else { "DOES NOT ANSWER" }),
            format!("    {}; log at record {}, epoch {}", self.standing, self.log, self.epoch),
            format!("  admitted: members {}", numbers(&self.admitted)),
        ];
        lines.extend(
            self.fingerprint.map(|fingerprint| format!("  fingerprint of the enclave: {fingerprint}")),
        );
        for refused in &self.refused {
            let names: Vec<&str> = refused.checks.iter().map(|check| check.name()).collect();
            let how = if refused.cut_off { "CUT OFF" } else { "REFUSED" };
            lines.push(format!("  {how}: {}: {}", refused.member, names.join(", ")));
            lines.extend(refused.reasons.iter().map(|reason| format!("    {reason}")));
        }
        lines.extend(self.alerts.iter().map(|name| format!("  ALERT: alerts/{name}.json")));
        let wrong = |trouble: &Trouble| format!("  WRONG: {}: {}", trouble.subject, trouble.reason);
        lines.extend(self.troubles.iter().map(wrong));
        for pool in &self.pools {
            lines.push(format!("  {}: {}", pool.pool_id, pool.describe()));
            if !pool.faults.is_empty() {
                lines.push(format!("    caught cheating: members {}", numbers(&pool.faults)));
            }
        }
        lines.join("\n")
    }
}

impl PoolStatus {
    fn describe(&self) -> String {
        let stage = match (&self.beacon_status, &self.exit, self.exit_requested) {
            (Some(status), Some(_), _) => format!("exit released, {status}"),
            (None, Some(_), _) => "exit released".to_owned(),
            (_, None, true) => "exit requested".to_owned(),
            _ if self.transcripts.presign.is_some() => "exit presigned".to_owned(),
            _ if self.deposit.is_some() => "deposit signed".to_owned(),
            _ => "no key yet".to_owned(),
        };
        let doing = self.progress.as_ref().filter(|progress| progress.have < progress.of);
        let doing = doing.map_or(String::new(), |progress| {
            format!("; {} {}: {} of {}", progress.kind, progress.step, progress.have, progress.of)
        });
        let key = self.pubkey.map_or(String::new(), |pubkey| format!("; validator {pubkey}"));
        format!("{stage}{doing}{key}")
    }

    /// A pool of which nothing is known yet.
    pub fn new(pool_id: PoolId) -> Self {
        Self {
            pool_id,
            pubkey: None,
            deposit: None,
            validator_index: None,
            deposit_requested: false,
            exit_requested: false,
            exit: None,
            beacon_status: None,
            has_left: false,
            exit_reported: false,
            transcripts: TranscriptFiles::default(),
            progress: None,
            faults: Vec::new(),
        }
    }
}
