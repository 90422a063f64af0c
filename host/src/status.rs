//! What a host shows of itself: `DATA_DIR/status.json`, replaced whole whenever something changes, and every few seconds: so that
//! it shows that the host lives.

use crate::chain::beacon::ValidatorStatus;
use crate::clock;
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
    let failed = |source| StatusError::Read { path: path.clone(), source };
    let text = std::fs::read(&path).map_err(failed)?;
    let modified = std::fs::metadata(&path).and_then(|file| file.modified()).map_err(failed)?;
    let mut status: HostStatus =
        serde_json::from_slice(&text).map_err(|source| StatusError::Format { path: path.clone(), source })?;
    // While nothing changes, the host says only that it lives.
    status.written_at = status.written_at.max(clock::seconds(modified));
    Ok(status)
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Which member's host.
    pub member: u16,
    /// When this was last so, in seconds since 1970 by the host's clock.
    #[serde(default)]
    pub written_at: u64,
    /// By which process.
    #[serde(default)]
    pub pid: u32,
    /// Of which version.
    #[serde(default)]
    pub version: String,
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
    /// Another member's host, which is not reached.
    Peer(MemberId),
    /// What another member's host gives as a pool's released exit, and is none.
    WrongExit(MemberId),
    /// A pool with which nothing goes on.
    Pool(PoolId),
    /// A command that has to wait, by the name of its file.
    Command(String),
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
    /// Whether the own enclave has released it: then this host hands it to the others.
    #[serde(default)]
    pub is_released_here: bool,
    /// What became of it at each beacon node, since the host was started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub posts: Vec<ExitPost>,
    /// What the head of the beacon chain says of the validator: for showing.
    pub beacon_status: Option<ValidatorStatus>,
    /// What its newest finalised state says.
    #[serde(default)]
    pub final_status: Option<ValidatorStatus>,
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

/// What became of a pool's exit at one beacon node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitPost {
    /// The node.
    pub node: String,
    /// Whether it has the exit.
    pub taken: bool,
    /// Why not, when it was last asked.
    pub refusal: Option<String>,
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
            Self::WrongExit(member) => write!(f, "exit from the host of {member}"),
            Self::Pool(pool) => write!(f, "pool {pool}"),
            Self::Command(name) => write!(f, "command {name}"),
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
        let stage = match (&self.exit, self.exit_requested) {
            (Some(_), _) => self.describe_exit(),
            (None, true) => "exit requested".to_owned(),
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

    /// How far a released exit is: by what is final, and until then by what nodes say.
    fn describe_exit(&self) -> String {
        match self.final_status {
            Some(ValidatorStatus::WithdrawalDone) => return "exit released; withdrawn".to_owned(),
            Some(status) if status.has_exited() => return "exit released; exited".to_owned(),
            Some(status) if status.is_leaving() => return "exit released; leaving (final)".to_owned(),
            _ => {}
        }
        let status = self.beacon_status.map(|status| format!(", {status}")).unwrap_or_default();
        let mut parts = vec![format!("exit released{status}")];
        if !self.posts.is_empty() {
            let taken = self.posts.iter().filter(|post| post.taken).count();
            parts.push(format!("posted to {taken} of {} nodes", self.posts.len()));
        }
        let refusal = |post: &ExitPost| Some(format!("{}: {}", post.node, post.refusal.as_ref()?));
        parts.extend(self.posts.iter().filter_map(refusal));
        parts.join("; ")
    }

    /// Whether nothing will come of it any more: its validator is withdrawn for good, and its pool manager has that on record.
    pub fn is_over(&self) -> bool {
        self.final_status == Some(ValidatorStatus::WithdrawalDone) && self.exit_reported
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
            is_released_here: false,
            posts: Vec::new(),
            beacon_status: None,
            final_status: None,
            has_left: false,
            exit_reported: false,
            transcripts: TranscriptFiles::default(),
            progress: None,
            faults: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::bls::Signature;
    use postern_shared::ethereum::VoluntaryExit;

    #[test]
    fn a_released_exit_is_shown_with_who_has_it_and_who_refuses_it_until_the_validator_leaves_for_good() {
        let message = VoluntaryExit { epoch: 3, validator_index: 12 };
        let exit = Some(SignedVoluntaryExit { message, signature: Signature([1; 96]) });
        let post = |node: &str, refusal: Option<&str>| ExitPost {
            node: node.to_owned(),
            taken: refusal.is_none(),
            refusal: refusal.map(str::to_owned),
        };
        let posts = vec![post("a", None), post("b", Some("the signature is invalid")), post("c", None)];
        let new = || PoolStatus::new(PoolId::new(1, Address([2; 20]), 3));
        let pool = |head, final_status| PoolStatus {
            exit,
            posts: posts.clone(),
            beacon_status: head,
            final_status,
            ..new()
        };
        use ValidatorStatus::{ActiveExiting, ActiveOngoing, ExitedUnslashed, WithdrawalDone};
        let posted = "posted to 2 of 3 nodes; b: the signature is invalid";
        let cases = [
            (PoolStatus { exit, ..new() }, "exit released".to_owned()),
            (pool(None, None), format!("exit released; {posted}")),
            (
                pool(Some(ActiveExiting), Some(ActiveOngoing)),
                format!("exit released, active_exiting; {posted}"),
            ),
            (pool(Some(ActiveExiting), Some(ActiveExiting)), "exit released; leaving (final)".to_owned()),
            (pool(None, Some(ExitedUnslashed)), "exit released; exited".to_owned()),
            (pool(None, Some(WithdrawalDone)), "exit released; withdrawn".to_owned()),
        ];
        for (pool, expected) in cases {
            assert_eq!(pool.describe(), expected);
        }
    }
}
