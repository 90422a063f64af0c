//! What `postern run --config FILE` reads: one TOML file, paths in it relative to its folder.

use crate::certificates::cache::Cache;
use crate::certificates::folder::FolderError;
use crate::certificates::kds::{AMD_KDS, Kds, Patience};
use crate::certificates::{self, CertificateSources};
use crate::chain::transactions::{FeeRules, Wallet};
use crate::chain::url::NodeUrl;
use crate::key_file;
use crate::link::EnclaveAddress;
use crate::manifest::addresses::{self, MistypedError};
use crate::manifest::{KeptEpochs, load_epochs};
use crate::network::address::{dialable, listenable};
use crate::network::peer_of;
use crate::store::{Place, PostgresPlace};
use libp2p::Multiaddr;
use libp2p::identity::{Keypair, ed25519};
use postern_shared::epoch::SignedEpoch;
use postern_shared::ids::MemberId;
use postern_shared::manifest::{Manifest, ManifestError, Member};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

mod fees;
mod wallet;

pub use fees::{Amount, FeesConfig};
pub use wallet::WalletConfig;

/// The file, as written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The DAO's manifest, TOML.
    pub manifest: PathBuf,
    /// Which member this host serves.
    pub member: u16,
    /// Where the host keeps its state.
    pub data_dir: PathBuf,
    /// Where the host keeps what must survive, if not in a file of its own in `data_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresConfig>,
    /// `vsock:CID:PORT`, `unix:PATH` or `unix-connect:PATH:PORT`.
    pub enclave: String,
    /// How to reach the enclave, with newer code, that is to take over from that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
    /// Where the certificates for the enclave's reports come from.
    #[serde(default)]
    pub certificates: CertificatesConfig,
    /// File with the host's Ed25519 seed, 32 bytes in hexadecimal.
    pub host_key: PathBuf,
    /// File with the wallet's secp256k1 secret key, 32 bytes in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_key: Option<PathBuf>,
    /// Who signs for the wallet, if its key is in no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<WalletConfig>,
    /// The multiaddr to listen on for other members' hosts.
    pub listen: String,
    /// Where the other members' hosts are: member number to multiaddr.
    pub peers: BTreeMap<String, String>,
    /// The execution nodes.
    pub execution: ExecutionConfig,
    /// The beacon nodes.
    pub beacon: BeaconConfig,
    /// What transactions may cost.
    #[serde(default)]
    pub fees: FeesConfig,
    /// How often to ask the chains, in milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
    /// How often to let the enclave look for what it misses, in milliseconds.
    #[serde(default = "default_tick_ms")]
    pub tick_ms: u64,
    /// How often to ask all members for fresh evidence, in seconds. SIGHUP asks at once.
    #[serde(default = "default_reattest_s")]
    pub reattest_s: u64,
    /// How long to wait for members that are not admitted before going on without them, in seconds.
    #[serde(default = "default_patience_s")]
    pub patience_s: u64,
    /// How long to wait for each host whose turn it is before this one to make a call of the pool manager, in seconds.
    #[serde(default = "default_turn_s")]
    pub turn_s: u64,
}

/// Where the certificates for the enclave's reports come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CertificatesConfig {
    /// Directory with `ark`, `ask` and `vcek`, each `.der` or `.pem`, as `snpguest fetch` leaves them. It counts before
    /// everything else.
    pub folder: Option<PathBuf>,
    /// File with the certificate table that came with an extended report, as the firmware wrote it.
    pub table: Option<PathBuf>,
    /// Where fetched ones are kept; `certificates` in `data_dir` if not said otherwise.
    pub cache: Option<PathBuf>,
    /// AMD's Key Distribution Service, or a mirror: what comes before `/vcek/v1/`.
    pub kds: String,
    /// Whether to ask nobody.
    pub offline: bool,
}

impl Default for CertificatesConfig {
    fn default() -> Self {
        Self { folder: None, table: None, cache: None, kds: AMD_KDS.to_owned(), offline: false }
    }
}

/// A PostgreSQL database, which may be replicated; this member's alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// As in `postgres://postern@db.example.org/postern`. TLS is used unless the server is on this machine, or the URL says
    /// `sslmode=disable`.
    pub url: String,
    /// Of the tables; made if it is not there.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// File with the password, if it is not to be in the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PathBuf>,
    /// File with the authorities that the server's certificate may be of, PEM; the operating system's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// The execution nodes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionConfig {
    /// Their JSON-RPC endpoints, at least one: the first that works is asked, the others confirm what it says.
    pub urls: Vec<String>,
}

/// The beacon nodes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeaconConfig {
    /// Their Beacon API endpoints, at least one.
    pub urls: Vec<String>,
}

/// A month: whoever waits longer has forgotten something, and no sum of times gets near a limit.
const MAX_SECONDS: u64 = 30 * 24 * 60 * 60;

fn default_schema() -> String {
    "postern".to_owned()
}

fn default_poll_ms() -> u64 {
    6_000
}

fn default_tick_ms() -> u64 {
    5_000
}

fn default_reattest_s() -> u64 {
    6 * 60 * 60
}

fn default_patience_s() -> u64 {
    10 * 60
}

/// A transaction takes some blocks to be mined.
fn default_turn_s() -> u64 {
    90
}

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
    /// How to reach the one that is to take over from it.
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
    /// JSON-RPC, at least one.
    pub execution_urls: Vec<NodeUrl>,
    /// Beacon API.
    pub beacon_urls: Vec<NodeUrl>,
    /// Between looks at the chains.
    pub poll: std::time::Duration,
    /// Between ticks.
    pub tick: std::time::Duration,
    /// Between rounds of fresh evidence.
    pub reattest: std::time::Duration,
    /// With members that are not admitted.
    pub patience: std::time::Duration,
    /// How long to wait for each host whose turn it is before this one.
    pub turn: std::time::Duration,
}

/// Why a configuration can't be used.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or has not the right fields.
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
    /// The folder with certificates can't be used.
    #[error(transparent)]
    Certificates(#[from] FolderError),
    /// A field with a value that can't be.
    #[error("config field `{field}`: {reason}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

fn field<T>(field: &str, reason: impl std::fmt::Display) -> Result<T, ConfigError> {
    Err(ConfigError::Field { field: field.to_owned(), reason: reason.to_string() })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let reason = "not UTF-8 text".to_owned();
    String::from_utf8(read(path)?).map_err(|_| ConfigError::Text { path: path.to_owned(), reason })
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
    let (file, folder) = read_file(path)?;
    read_manifest(&folder.join(file.manifest))
}

/// The data directory that a configuration names.
pub fn read_data_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    let (file, folder) = read_file(path)?;
    Ok(folder.join(file.data_dir))
}

/// Where a configuration says that the enclave listens.
pub fn read_enclave(path: &Path) -> Result<EnclaveAddress, ConfigError> {
    let (file, folder) = read_file(path)?;
    EnclaveAddress::parse(&file.enclave, folder).or_else(|error| field("enclave", error))
}

/// Where a configuration says that the host's store is.
pub fn read_store(path: &Path) -> Result<Place, ConfigError> {
    let (file, folder) = read_file(path)?;
    store(file.postgres.as_ref(), folder, &folder.join(file.data_dir))
}

fn store(postgres: Option<&PostgresConfig>, folder: &Path, data_dir: &Path) -> Result<Place, ConfigError> {
    let Some(PostgresConfig { url, schema, password, ca }) = postgres else {
        return Ok(Place::Directory(data_dir.to_owned()));
    };
    let password = password.as_ref().map(|path| read_text(&folder.join(path))).transpose()?;
    let password = password.as_deref().map(|text| text.trim_end_matches(['\r', '\n']));
    let ca = ca.as_ref().map(|path| read(&folder.join(path))).transpose()?;
    let place = PostgresPlace::new(url, schema, password, ca.as_deref());
    place.map(|place| Place::Postgres(Box::new(place))).or_else(|reason| field("postgres", reason))
}

/// The file as written, and the folder that paths in it are relative to.
fn read_file(path: &Path) -> Result<(ConfigFile, &Path), ConfigError> {
    let text = read_text(path)?;
    let file = toml::from_str(&text)
        .map_err(|error| ConfigError::Text { path: path.to_owned(), reason: describe(&text, &error) })?;
    Ok((file, path.parent().unwrap_or(Path::new(""))))
}

/// What is wrong with a file, and where, without a word of it: URLs in it may hold passwords.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    // The parser quotes what it found instead of what it wanted.
    let message = error.message();
    let shown = match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            let (head, tail) = (message.get(..first), message.get(last..));
            format!("{}\"…{}", head.unwrap_or_default(), tail.unwrap_or_default())
        }
        _ => message.to_owned(),
    };
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let is_key = |key: &&str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let of = key.filter(is_key).map_or(String::new(), |key| format!(", `{key}`"));
    format!("line {line}, column {column}{of}: {shown}")
}

impl Config {
    /// Reads the file and everything that it names.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let (file, folder) = read_file(path)?;
        let first = read_manifest(&folder.join(&file.manifest))?;
        if first.history.is_some() {
            let reason =
                format!("epoch {} is not the first: enclaves follow all epochs from 0 on", first.epoch);
            return field("manifest", reason);
        }
        let data_dir = folder.join(&file.data_dir);
        let KeptEpochs { epochs, manifests, newest: manifest } =
            load_epochs(&data_dir, &first).or_else(|error| field("data_dir", error))?;
        let member = MemberId(file.member);
        let Some(entry) = manifest.member(member) else {
            return field("member", format_args!("the manifest has no {member}"));
        };
        let host_key = host_key(&folder.join(&file.host_key), entry)?;
        for (name, value, most) in [
            ("poll_ms", file.poll_ms, MAX_SECONDS * 1_000),
            ("tick_ms", file.tick_ms, MAX_SECONDS * 1_000),
            ("reattest_s", file.reattest_s, MAX_SECONDS),
            ("patience_s", file.patience_s, MAX_SECONDS),
            ("turn_s", file.turn_s, MAX_SECONDS),
        ] {
            if !(1..=most).contains(&value) {
                return field(name, format_args!("must be from 1 to {most}"));
            }
        }
        let address = |name: &str, text: &String| {
            EnclaveAddress::parse(text, folder).or_else(|error| field(name, error))
        };
        Ok(Self {
            member,
            enclave: address("enclave", &file.enclave)?,
            successor: file.successor.map(|text| address("successor", &text)).transpose()?,
            certificates: certificate_sources(&file.certificates, folder, &data_dir)?,
            store: store(file.postgres.as_ref(), folder, &data_dir)?,
            data_dir,
            host_key,
            wallet: wallet::read(file.wallet_key.as_deref(), file.wallet.as_ref(), folder, entry)?,
            fees: file.fees.read()?,
            listen: listenable(&file.listen).or_else(|error| field("listen", error))?,
            peers: peers(&file.peers, &manifest, member)?,
            execution_urls: node_urls("execution.urls", &file.execution.urls)?,
            beacon_urls: beacon_urls(&file.beacon.urls)?,
            poll: std::time::Duration::from_millis(file.poll_ms),
            tick: std::time::Duration::from_millis(file.tick_ms),
            reattest: std::time::Duration::from_secs(file.reattest_s),
            turn: std::time::Duration::from_secs(file.turn_s),
            patience: std::time::Duration::from_secs(file.patience_s),
            manifest,
            first,
            epochs,
            manifests,
        })
    }
}

/// Reads the URLs of nodes. There must be one, and none twice: it would have two votes.
fn node_urls(name: &str, listed: &[String]) -> Result<Vec<NodeUrl>, ConfigError> {
    if listed.is_empty() {
        return field(name, "at least one is needed");
    }
    let mut urls = Vec::with_capacity(listed.len());
    for (position, text) in listed.iter().enumerate() {
        let name = format!("{name}[{position}]");
        let url = NodeUrl::parse(text).or_else(|error| field(&name, error))?;
        if urls.contains(&url) {
            return field(&name, format_args!("{url} is listed twice"));
        }
        urls.push(url);
    }
    Ok(urls)
}

/// Reads the URLs of beacon nodes.
fn beacon_urls(listed: &[String]) -> Result<Vec<NodeUrl>, ConfigError> {
    let urls = node_urls("beacon.urls", listed)?;
    match urls.iter().position(|url| url.ends_with("eth/v1")) {
        Some(position) => {
            field(&format!("beacon.urls[{position}]"), "must end before `/eth/v1`, which every request adds")
        }
        None => Ok(urls),
    }
}

fn peers(
    listed: &BTreeMap<String, String>,
    manifest: &Manifest,
    own: MemberId,
) -> Result<BTreeMap<MemberId, Multiaddr>, ConfigError> {
    let mut peers = BTreeMap::new();
    for (number, address) in listed {
        let name = format!("peers.{number}");
        let id = number.parse().map(MemberId).or_else(|_| field(&name, "not a member's number"))?;
        let Some(member) = manifest.member(id) else {
            return field(&name, format_args!("the manifest has no {id}"));
        };
        if id == own {
            return field(&name, "that is this member itself");
        }
        let peer = peer_of(member).or_else(|error| field(&name, error))?;
        peers.insert(id, dialable(address, peer).or_else(|error| field(&name, error))?);
    }
    Ok(peers)
}

/// Reads 32 secret bytes; the error never shows what was read.
fn secret(name: &str, path: &Path) -> Result<Zeroizing<[u8; 32]>, ConfigError> {
    key_file::read(path).or_else(|error| field(name, format_args!("{}: {error}", path.display())))
}

fn host_key(path: &Path, entry: &Member) -> Result<Keypair, ConfigError> {
    let mut seed = secret("host_key", path)?;
    let secret = ed25519::SecretKey::try_from_bytes(&mut *seed).or_else(|error| field("host_key", error))?;
    let pair = ed25519::Keypair::from(secret);
    if pair.public().to_bytes() != entry.host_key.0 {
        return field("host_key", format_args!("not the key that the manifest names for {}", entry.id));
    }
    Ok(pair.into())
}

fn certificate_sources(
    file: &CertificatesConfig,
    folder: &Path,
    data_dir: &Path,
) -> Result<CertificateSources, ConfigError> {
    let given = file.folder.as_ref().map(|given| certificates::folder::read(&folder.join(given)));
    let given = given.transpose()?;
    let cache = file.cache.as_ref().map_or_else(|| data_dir.join("certificates"), |cache| folder.join(cache));
    let kds = match file.offline {
        true => None,
        false => {
            Some(Kds::new(&file.kds, Patience::default()).or_else(|error| field("certificates.kds", error))?)
        }
    };
    let table = file.table.as_ref().map(|table| read(&folder.join(table))).transpose()?;
    Ok(CertificateSources { given, table, cache: Cache::new(cache), kds })
}

#[cfg(test)]
pub(crate) mod tests;
