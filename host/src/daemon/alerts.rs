//! What a person has to look at: files in `alerts/`, each said once.

use super::files;
use crate::blocking;
use crate::chain::execution::Recovery;
use crate::chain::profile::LogError;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::{SignedVoluntaryExit, WithdrawalCredentials};
use postern_shared::ids::{Address, Digest, ManifestHash, PoolId};
use serde::Serialize;
use std::path::Path;

/// Where they are, in the data directory.
pub(super) const FOLDER: &str = "alerts";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Alert {
    /// The pool manager has taken another key than the pool's enclaves have made: as many as prove a deposit are broken.
    OtherValidator {
        /// The pool.
        pool: PoolId,
        /// What it was given.
        found: PublicKey,
        /// What the enclaves made.
        made: PublicKey,
        /// The transaction that did it, if the node knows.
        transaction: Option<Digest>,
    },
    /// The pool manager has taken a key that the own enclave knows nothing of, though it takes part. It may have missed how the key was
    /// made; or as many as prove a deposit are broken. Other members' hosts may know more.
    UnknownValidator {
        /// The pool.
        pool: PoolId,
        /// What it was given.
        found: PublicKey,
        /// The transaction that did it, if the node knows.
        transaction: Option<Digest>,
    },
    /// The stake of the pool's validator goes, or would go, elsewhere than to the pool: as many operators as sign have signed
    /// another deposit before.
    OtherCredentials {
        /// The pool.
        pool: PoolId,
        /// Its validator.
        validator: PublicKey,
        /// Where its stake goes.
        found: WithdrawalCredentials,
        /// Where it was to go.
        made: WithdrawalCredentials,
    },
    /// The pool's released exit is not its validator's: enclaves were deceived, or this host has another network's manifest.
    InvalidExit {
        /// The pool.
        pool: PoolId,
        /// Its validator.
        validator: PublicKey,
        /// What was released.
        exit: SignedVoluntaryExit,
    },
    /// Wallets want other members at a pool manager, without their enclaves.
    Recovery {
        /// Which pool manager.
        contract: Address,
        /// What they want.
        recovery: Recovery,
    },
    /// A pool manager goes by members that no epoch here names: a recovery was carried out, or this host lacks epochs.
    OtherCouncil {
        /// Which pool manager.
        contract: Address,
        /// The epoch that it goes by.
        epoch: u64,
        /// The manifest of that.
        manifest: ManifestHash,
    },
    /// A call of a pool manager is still due and has failed as often as it is tried by itself: `postern tx retry` has it made once
    /// more.
    CallFailed {
        /// Its name, which the keys of its transactions begin with.
        call: String,
        /// Why it failed last.
        reason: String,
    },
    /// A pool manager's log is not what its topic says, as more than half of the nodes show it. Its events are not read until a
    /// rescan from a later block.
    MalformedLog {
        /// Which pool manager.
        contract: Address,
        /// Where.
        block: u64,
        /// What is wrong.
        error: LogError,
    },
    /// A block that was final is another, as more than half of the nodes say: they lie, or finality was broken. The pool
    /// manager's events are not read until a rescan.
    FinalisedBlockChanged {
        /// Which pool manager.
        contract: Address,
        /// Up to which block its events were read.
        block: u64,
        /// What it was.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
}

impl Alert {
    fn name(&self) -> String {
        match self {
            Self::OtherValidator { pool, .. } => format!("other-validator-pool-{}", pool.text()),
            Self::UnknownValidator { pool, .. } => format!("unknown-validator-pool-{}", pool.text()),
            Self::OtherCredentials { pool, .. } => of_credentials(*pool),
            Self::InvalidExit { pool, .. } => format!("invalid-exit-pool-{}", pool.text()),
            // The same number may come again with something else, should the chain be reorganised.
            Self::Recovery { contract, recovery } => {
                format!("recovery-{contract}-{}-{}", recovery.number, recovery.manifest)
            }
            Self::OtherCouncil { contract, epoch, manifest } => {
                format!("other-council-{contract}-{epoch}-{manifest}")
            }
            Self::MalformedLog { contract, block, .. } => format!("malformed-log-{contract}-{block}"),
            Self::FinalisedBlockChanged { contract, block, found, .. } => {
                format!("finalised-block-changed-{contract}-{block}-{found}")
            }
            Self::CallFailed { call, .. } => format!("call-failed-{call}"),
        }
    }
}

fn of_credentials(pool: PoolId) -> String {
    format!("other-credentials-pool-{}", pool.text())
}

fn is_named(data_dir: &Path, name: &str) -> bool {
    let path = data_dir.join(FOLDER).join(format!("{name}.json"));
    blocking::run(|| path.exists())
}

/// Whether it was said.
pub(super) fn is_raised(data_dir: &Path, alert: &Alert) -> bool {
    is_named(data_dir, &alert.name())
}

/// Whether it was ever said of this pool that its stake would go elsewhere, and nobody has taken that away.
pub(super) fn is_of_other_credentials(data_dir: &Path, pool: PoolId) -> bool {
    is_named(data_dir, &of_credentials(pool))
}

/// Says it, if it was not said before. Whether it is written down: who forgets what it is about must wait for that.
pub(super) fn raise(data_dir: &Path, alert: &Alert) -> bool {
    if is_raised(data_dir, alert) {
        return true;
    }
    tracing::error!(?alert, "ALERT");
    files::write(data_dir, FOLDER, &format!("{}.json", alert.name()), alert).is_some()
}

/// The names of all that were ever raised, ascending.
pub(super) fn all(data_dir: &Path) -> Vec<String> {
    blocking::run(|| {
        let Ok(entries) = std::fs::read_dir(data_dir.join(FOLDER)) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> =
            names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
        names.sort_unstable();
        names
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_said_once_and_found_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path();
        assert_eq!(all(data_dir), [""; 0]);
        let pool = PoolId::new(1, Address([2; 20]), 3);
        let made = PublicKey([9; 48]);
        let alert = |found| Alert::OtherValidator { pool, found, made, transaction: None };
        assert!(raise(data_dir, &alert(PublicKey([1; 48]))));
        assert!(!is_of_other_credentials(data_dir, pool));
        let [found, made] = [[1; 32], [2; 32]].map(WithdrawalCredentials);
        let credentials = Alert::OtherCredentials { pool, validator: PublicKey([9; 48]), found, made };
        assert!(raise(data_dir, &credentials));
        assert!(is_of_other_credentials(data_dir, pool));
        assert!(!is_of_other_credentials(data_dir, PoolId { number: 30, ..pool }));
        let names = all(data_dir);
        let named =
            ["other-credentials-pool-", "other-validator-pool-"].map(|name| format!("{name}{}", pool.text()));
        assert_eq!(names, named);
        // The first word counts: what is repeated with other words is the same matter.
        assert!(raise(data_dir, &alert(PublicKey([4; 48]))));
        let text = std::fs::read_to_string(data_dir.join(FOLDER).join(format!("{}.json", names[1]))).unwrap();
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said["other_validator"]["found"], serde_json::json!(PublicKey([1; 48])));
    }

    #[test]
    fn what_can_not_be_written_was_not_said() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FOLDER), "in the way").unwrap();
        let contract = Address([2; 20]);
        assert!(!raise(
            folder.path(),
            &Alert::OtherCouncil { contract, epoch: 7, manifest: ManifestHash([9; 32]) }
        ));
        assert_eq!(all(folder.path()), [""; 0]);
    }
}
