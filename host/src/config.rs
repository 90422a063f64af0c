//! What `postern run --config FILE` reads: one TOML file, paths in it relative to its folder.
//!
//! All of it is looked at, whatever is wrong with some of it: [`ConfigError::Faults`] lists every fault by its field. What can't be
//! judged because something else is wrong is left out. Each part of the file has a module, which takes its fields of a [`section`] and
//! gives what they say, or reports why they say nothing ([`fault`]).

use self::dao::Dao;
use self::fault::Reported;
use self::section::Section;
use crate::certificates::CertificateSources;
use crate::chain::transactions::{FeeRules, Wallet};
use crate::chain::url::NodeUrl;
use crate::link::EnclaveAddress;
use crate::manifest::addresses::{self, MistypedError};
use crate::network::address::listenable;
use crate::store::Place;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use postern_shared::epoch::SignedEpoch;
use postern_shared::ids::MemberId;
use postern_shared::manifest::{Manifest, ManifestError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod certificates;
mod dao;
mod fault;
mod fees;
mod keys;
mod nodes;
mod peers;
mod section;
mod store;

pub use fault::{Fault, Faults, FieldError};

/// A month: whoever waits longer has forgotten something, and no sum of times gets near a limit.
const MAX_SECONDS: u64 = 30 * 24 * 60 * 60;

/// Everything that the daemon needs, read and checked.
pub struct Config {
    /// The DAO, as it is now.
    pub manifest: Manifest,
    /// As the configuration's file says, before all epochs.
    pub first: Manifest,
    /// What has changed since.
    pub epochs: Vec<SignedEpoch>,
    /// All manifests with the first.
    pub manifests: Vec<Manifest>,
    /// Which member.
    pub member: MemberId,
    /// Existing or to be made.
    pub data_dir: PathBuf,
    /// For what must survive.
    pub store: Place,
    /// How to reach the enclave.
    pub enclave: EnclaveAddress,
    /// How to reach the one, with newer code, that is to take over from it.
    pub successor: Option<EnclaveAddress>,
    /// Where the chip's chain comes from.
    pub certificates: CertificateSources,
    /// The host's network identity.
    pub host_key: Keypair,
    /// Who signs for the wallet.
    pub wallet: Wallet,
    /// What transactions may cost.
    pub fees: FeeRules,
    /// For other hosts.
    pub listen: Multiaddr,
    /// Other hosts.
    pub peers: BTreeMap<MemberId, Multiaddr>,
    /// JSON-RPC, at least one: the first that works is asked, the others confirm what it says.
    pub execution_urls: Vec<NodeUrl>,
    /// Beacon API, at least one.
    pub beacon_urls: Vec<NodeUrl>,
    /// Between looks at the chains.
    pub poll: Duration,
    /// Between ticks, by which the enclave looks for what it misses.
    pub tick: Duration,
    /// Between rounds of fresh evidence.
    pub reattest: Duration,
    /// With members that are not admitted.
    pub patience: Duration,
    /// How long to wait for each host whose turn it is before this one.
    pub turn: Duration,
}

/// Why a configuration, or a manifest, can't be used.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: {reason}", path = path.display())]
    Text {
        /// Which file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// The manifest can't be used.
    #[error("{path}: {source}", path = path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The manifest has an address or a key that nobody can have meant.
    #[error("{path}: {source}", path = path.display())]
    Mistyped {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: MistypedError,
    },
    /// Fields of the configuration, or files that they name, can't be used.
    #[error(transparent)]
    Faults(#[from] Faults),
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let reason = "not UTF-8 text".to_owned();
    String::from_utf8(bytes).map_err(|_| ConfigError::Text { path: path.to_owned(), reason })
}

/// Reads and checks a manifest in TOML.
pub fn read_manifest(path: &Path) -> Result<Manifest, ConfigError> {
    let text = read_text(path)?;
    let manifest = Manifest::from_toml(&text)
        .map_err(|source| ConfigError::Manifest { path: path.to_owned(), source })?;
    addresses::check(&text, &manifest)
        .map_err(|source| ConfigError::Mistyped { path: path.to_owned(), source })?;
    Ok(manifest)
}

/// Reads the manifest that a configuration names.
pub fn read_manifest_of(path: &Path) -> Result<Manifest, ConfigError> {
    read_manifest(&read_part(path, |file, faults| file.path("manifest", faults))?)
}

/// The data directory that a configuration names.
pub fn read_data_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    read_part(path, |file, faults| file.path("data_dir", faults))
}

/// Where a configuration says that the enclave listens.
pub fn read_enclave(path: &Path) -> Result<EnclaveAddress, ConfigError> {
    read_part(path, enclave)
}

/// Where a configuration says that the host's store is.
pub fn read_store(path: &Path) -> Result<Place, ConfigError> {
    read_part(path, |file, faults| {
        let data_dir = file.path("data_dir", faults);
        store::read(file, data_dir.as_deref().map_err(|reported| *reported), faults)
    })
}

/// Reads the file for some of its fields. The others are not looked at.
fn read_part<T>(
    path: &Path,
    read: impl FnOnce(&mut Section, &mut Faults) -> Result<T, Reported>,
) -> Result<T, ConfigError> {
    let (text, mut faults) = (read_text(path)?, Faults::default());
    match read(&mut Section::whole(path, &text)?, &mut faults) {
        Ok(part) if faults.is_empty() => Ok(part),
        _ => Err(faults.into()),
    }
}

fn enclave(file: &mut Section, faults: &mut Faults) -> Result<EnclaveAddress, Reported> {
    let text: String = file.required("enclave", faults)?;
    faults.check("enclave", EnclaveAddress::parse(&text, file.folder()))
}

fn successor(file: &mut Section, faults: &mut Faults) -> Result<Option<EnclaveAddress>, Reported> {
    let Some(text) = file.optional::<String>("successor", faults)? else { return Ok(None) };
    faults.check("successor", EnclaveAddress::parse(&text, file.folder())).map(Some)
}

fn listen(file: &mut Section, faults: &mut Faults) -> Result<Multiaddr, Reported> {
    let text: String = file.required("listen", faults)?;
    faults.check("listen", listenable(&text))
}

/// A time of this many units, of which a second has `per_second`; `default` if it is left out.
fn time(
    file: &mut Section,
    key: &str,
    per_second: u64,
    default: u64,
    faults: &mut Faults,
) -> Result<Duration, Reported> {
    let (count, most) = (file.optional(key, faults)?.unwrap_or(default), MAX_SECONDS * per_second);
    if !(1..=most).contains(&count) {
        return Err(faults.report(key, FieldError::OutOfRange(most)));
    }
    Ok(Duration::from_millis(count * 1_000 / per_second))
}

impl Config {
    /// Reads the file and everything that it names.
    ///
    /// # Errors
    /// All that is wrong with it, as far as the file is TOML.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        read_part(path, |file, faults| {
            let config = Self::read_all(file, faults);
            file.end(faults);
            config
        })
    }

    fn read_all(file: &mut Section, faults: &mut Faults) -> Result<Self, Reported> {
        // Every part is read before any is missed.
        let dao = dao::read(file, faults);
        let entry = dao.entry();
        let host_key = keys::host(file, entry, faults);
        let wallet = keys::wallet(file, entry, faults);
        let (enclave, successor) = (enclave(file, faults), successor(file, faults));
        let certificates = certificates::read(file, dao.data_dir(), faults);
        let store = store::read(file, dao.data_dir(), faults);
        let (listen, peers) = (listen(file, faults), peers::read(file, &dao, faults));
        let execution_urls = nodes::execution(file, faults);
        let beacon_urls = nodes::beacon(file, faults);
        let fees = fees::read(file, faults);
        let poll = time(file, "poll_ms", 1_000, 6_000, faults);
        let tick = time(file, "tick_ms", 1_000, 5_000, faults);
        let reattest = time(file, "reattest_s", 1, 6 * 60 * 60, faults);
        let patience = time(file, "patience_s", 1, 10 * 60, faults);
        // A transaction takes some blocks to be mined.
        let turn = time(file, "turn_s", 1, 90, faults);
        let Dao { first, kept, member, data_dir, .. } = dao;
        let kept = kept?;
        Ok(Self {
            manifest: kept.newest,
            first: first?,
            epochs: kept.epochs,
            manifests: kept.manifests,
            member: member?,
            data_dir: data_dir?,
            store: store?,
            enclave: enclave?,
            successor: successor?,
            certificates: certificates?,
            host_key: host_key?,
            wallet: wallet?,
            fees: fees?,
            listen: listen?,
            peers: peers?,
            execution_urls: execution_urls?,
            beacon_urls: beacon_urls?,
            poll: poll?,
            tick: tick?,
            reattest: reattest?,
            patience: patience?,
            turn: turn?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
