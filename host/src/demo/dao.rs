//! The demo's DAO: keys, manifest, and each member's directory.

use super::{DemoArguments, DemoError, Liar, MemberNodes, write_file};
use crate::image::write_machine;
use crate::link::ENCLAVE_PORT;
use crate::manifest::{ManifestFileError, Proposal, apply, with_statuses};
use crate::status::STATUS_FILE;
use alloy::primitives::{Address as AlloyAddress, B256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use libp2p::identity::ed25519;
use postern_image::{Inputs, Purpose, initramfs};
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::ethereum::Network;
use postern_shared::ids::{Address, ChipId, Digest, Measurement, MemberId};
use postern_shared::manifest::{
    Agreement, Contracts, History, HostKey, MANIFEST_VERSION, Manifest, Member, Thresholds,
};
use postern_shared::policy::{AllowedMeasurement, AttestationRules, Trust};
use postern_simulation::{Machine, SoftwarePsp, trust_anchor};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// The launch digest that simulated enclaves report.
const MEASUREMENT: [u8; 48] = *b"postern demo: simulated enclaves, no security...";

/// How often enclaves look for what they miss.
const TICK_MS: i64 = 1_000;
/// Slots for which a host waits for another that should make a call.
const TURN_SLOTS: u64 = 15;
/// What each wallet may spend on fees, in ether: enough for many pools.
const FEES_ETHER: i64 = 10;
/// How long hosts wait for members that are not admitted: long, for slow machines, unless one is known not to be.
const PATIENCE_S: i64 = 60;
const PATIENCE_WITH_A_LIAR_S: i64 = 8;
/// How often evidence is made anew: seen in a demo that is kept.
const REATTEST_S: i64 = 60;

/// Everything secret of one member, made for this run.
pub(super) struct MemberKeys {
    /// Makes the chip of its server.
    chip_seed: [u8; 32],
    /// Ed25519 seed of its host.
    host_seed: [u8; 32],
    /// Secret key of its account.
    wallet: [u8; 32],
    /// Secret key of the account that governs. In a demo it is here; anywhere else it is on no host.
    governance: [u8; 32],
}

/// Where a member's files are.
#[derive(Debug, Clone)]
pub struct MemberFiles {
    /// Which member.
    pub id: MemberId,
    /// All of them.
    pub directory: PathBuf,
    /// The host's configuration.
    pub config: PathBuf,
    /// The host's data.
    pub data: PathBuf,
    /// Between host and enclave.
    pub socket: PathBuf,
    /// Describes the simulated machine.
    pub machine: PathBuf,
    /// What the enclave's VM is started from, if it has one.
    pub vm: Option<PathBuf>,
    /// What the host says.
    pub host_log: PathBuf,
    /// What the enclave says.
    pub enclave_log: PathBuf,
}

impl MemberKeys {
    /// For every member.
    pub(super) fn make(members: u16) -> Result<Vec<Self>, DemoError> {
        (0..members)
            .map(|_| {
                let (wallet, governance) = (wallet_key()?, wallet_key()?);
                Ok(Self { chip_seed: random()?, host_seed: random()?, wallet, governance })
            })
            .collect()
    }

    /// The account's address.
    pub(super) fn wallet_address(&self) -> Result<AlloyAddress, DemoError> {
        Ok(signer(&self.wallet)?.address())
    }

    /// The account that governs.
    pub(super) fn governance_address(&self) -> Result<AlloyAddress, DemoError> {
        Ok(signer(&self.governance)?.address())
    }

    fn host_key(&self) -> Result<HostKey, DemoError> {
        let mut seed = self.host_seed;
        let secret = ed25519::SecretKey::try_from_bytes(&mut seed);
        let secret = secret.map_err(|error| DemoError::Randomness(error.to_string()))?;
        Ok(HostKey(ed25519::Keypair::from(secret).public().to_bytes()))
    }

    fn machine(&self, manifest: Option<&Manifest>) -> Machine {
        let host_data = manifest.map_or([0; 32], |manifest| manifest.hash().0);
        Machine { chip_seed: self.chip_seed, measurement: MEASUREMENT, host_data, ..Machine::default() }
    }
}

/// Writes the DAO's constitution.
pub(super) fn manifest(
    arguments: &DemoArguments,
    network: Network,
    contracts: Contracts,
    keys: &[MemberKeys],
) -> Result<Manifest, DemoError> {
    let mut members = Vec::with_capacity(keys.len());
    for (id, keys) in (1u16..).zip(keys) {
        members.push(Member {
            id: MemberId(id),
            name: format!("member-{id}"),
            wallet: Address(keys.wallet_address()?.into_array()),
            governance: Address(keys.governance_address()?.into_array()),
            host_key: keys.host_key()?,
            machine: 0,
            enclave: None,
            chip_ids: vec![ChipId(keys.machine(None).chip_id())],
            operator: true,
            guardian: true,
        });
    }
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: "postern demo".to_owned(),
        epoch: 0,
        leader: MemberId(1),
        history: None,
        network,
        contracts,
        thresholds: Thresholds {
            operator: arguments.operator_threshold,
            guardian: arguments.guardian_threshold,
            proof: arguments
                .operator_threshold
                .max(arguments.guardian_threshold)
                .max(arguments.members / 2 + 1),
        },
        // So that a demo finds back whichever enclaves are killed at a time.
        agreement: Agreement { quorum: arguments.members / 2 + 1, automatic_return: true, cut: None },
        attestation: AttestationRules {
            measurements: vec![AllowedMeasurement::new("simulated enclave", Measurement(MEASUREMENT))],
            ..AttestationRules::strict(Trust::Simulation { root: Digest(trust_anchor().fingerprint()) })
        },
        members,
    };
    manifest.validate()?;
    Ok(manifest)
}

/// The founding epoch: names the enclave of each member, as its host's status says now.
pub(super) fn named(first: &Manifest, members: &[MemberFiles]) -> Result<Manifest, ManifestFileError> {
    let history = History { genesis: first.hash(), predecessor: first.hash() };
    let next = Manifest { epoch: 1, history: Some(history), ..first.clone() };
    let statuses: Vec<PathBuf> = members.iter().map(|member| member.data.join(STATUS_FILE)).collect();
    with_statuses(first, next, &statuses)
}

/// Founds the DAO: every member compares its enclave's fingerprint, and all sign.
pub(super) fn found(
    first: &Manifest,
    manifest: Manifest,
    keys: &[MemberKeys],
    members: &[MemberFiles],
) -> Result<Manifest, DemoError> {
    let refused = |reason: String| DemoError::Unproved { what: "the founding epoch".to_owned(), reason };
    let mut proposal =
        Proposal::new(first.clone(), manifest.clone()).map_err(|error| refused(error.to_string()))?;
    let digest = proposal.message.digest();
    for (member, keys) in members.iter().zip(keys) {
        let signature = signer(&keys.governance)?.sign_hash_sync(&B256::from(digest));
        let signature = signature.map_err(|error| refused(error.to_string()))?;
        proposal
            .add(member.id, EthereumSignature(signature.as_bytes()))
            .map_err(|error| refused(error.to_string()))?;
    }
    for member in members {
        apply(&proposal, &member.data, first).map_err(|error| refused(error.to_string()))?;
    }
    Ok(manifest)
}

/// A fresh account.
pub(super) fn fresh_signer() -> Result<PrivateKeySigner, DemoError> {
    signer(&wallet_key()?)
}

fn signer(key: &[u8; 32]) -> Result<PrivateKeySigner, DemoError> {
    PrivateKeySigner::from_slice(key).map_err(|error| DemoError::Randomness(error.to_string()))
}

fn random() -> Result<[u8; 32], DemoError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| DemoError::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// A random scalar of secp256k1.
fn wallet_key() -> Result<[u8; 32], DemoError> {
    let mut key = random()?;
    // Below the group's order, which begins with ones, and not zero.
    key[0] &= 0x7f;
    key[31] |= 1;
    Ok(key)
}

/// Makes every member's directory; `nodes` in the order of the members.
pub(super) fn write_members(
    data_dir: &Path,
    manifest: &Manifest,
    keys: &[MemberKeys],
    nodes: &[MemberNodes],
    arguments: &DemoArguments,
) -> Result<Vec<MemberFiles>, DemoError> {
    // Schemas of this demo, which no other one has used.
    let [a, b, c, d, ..] = random()?;
    let setting = Setting {
        data_dir,
        manifest,
        slot_ms: arguments.slot_ms,
        ports: free_ports(keys.len())?,
        liar: arguments.liar,
        postgres: arguments.postgres.as_deref(),
        schemas: format!("demo_{}", hex::encode([a, b, c, d])),
        vm: arguments.vm.zip(arguments.vm_init.as_deref()).map(|(id, init)| Vm {
            member: MemberId(id),
            init,
            inputs: &arguments.vm_inputs,
        }),
    };
    let members = (1u16..).zip(keys).zip(nodes);
    members.map(|((id, keys), nodes)| write_member(&setting, MemberId(id), keys, nodes)).collect()
}

/// What all members have in common.
struct Setting<'a> {
    data_dir: &'a Path,
    manifest: &'a Manifest,
    slot_ms: u64,
    ports: Vec<u16>,
    liar: Option<Liar>,
    postgres: Option<&'a str>,
    /// What the names of their schemas begin with.
    schemas: String,
    vm: Option<Vm<'a>>,
}

/// Whose enclave runs in a VM, and what that is made of.
#[derive(Clone, Copy)]
struct Vm<'a> {
    member: MemberId,
    init: &'a Path,
    inputs: &'a Path,
}

impl Vm<'_> {
    /// The image, in which the machine that it pretends to be is described.
    fn write(&self, folder: &Path, machine: &str) -> Result<(), DemoError> {
        let failed = |reason: String| DemoError::Unproved { what: "the VM's image".to_owned(), reason };
        let inputs =
            Inputs::read(self.inputs, Purpose::Production).map_err(|error| failed(error.to_string()))?;
        let init = std::fs::read(self.init)
            .map_err(|source| DemoError::File { path: self.init.to_owned(), source })?;
        let image = initramfs(&init, &[("machine.txt", machine.as_bytes())]);
        write_machine(folder, &inputs, &image).map_err(|error| failed(error.to_string()))
    }
}

fn write_member(
    setting: &Setting<'_>,
    id: MemberId,
    keys: &MemberKeys,
    nodes: &MemberNodes,
) -> Result<MemberFiles, DemoError> {
    let &Setting { data_dir, manifest, slot_ms, ref ports, liar, postgres, ref schemas, vm } = setting;
    let directory = data_dir.join(format!("member-{}", id.0));
    let mut files = MemberFiles {
        id,
        vm: None,
        config: directory.join("config.toml"),
        data: directory.join("data"),
        socket: directory.join("enclave.sock"),
        machine: directory.join("machine.txt"),
        host_log: directory.join("host.log"),
        enclave_log: directory.join("enclave.log"),
        directory,
    };
    std::fs::create_dir(&files.directory)
        .map_err(|source| DemoError::File { path: files.directory.clone(), source })?;
    let machine = keys.machine(Some(manifest));
    let how = liar.filter(|liar| liar.member == id.0).map(|liar| liar.how);
    let patience_s = if liar.is_some() { PATIENCE_WITH_A_LIAR_S } else { PATIENCE_S };
    let description = postern_simulation::process::describe(&machine, how);
    if let Some(vm) = vm.filter(|vm| vm.member == id) {
        let folder = files.directory.join("vm");
        vm.write(&folder, &description)?;
        files.vm = Some(folder);
    }
    write_file(&files.machine, description)?;
    let chain = SoftwarePsp::new(machine).certificates();
    let certificates = files.directory.join("certificates");
    std::fs::create_dir(&certificates)
        .map_err(|source| DemoError::File { path: certificates.clone(), source })?;
    for (name, der) in [("ark", chain.ark), ("ask", chain.ask), ("vcek", chain.leaf)] {
        write_file(&certificates.join(format!("{name}.der")), der)?;
    }
    write_secret(&files.directory.join("host.key"), &keys.host_seed)?;
    write_secret(&files.directory.join("wallet.key"), &keys.wallet)?;
    let (enclave, listen) = (enclave_address(&files), address(ports, id)?);
    let mut config = toml::toml! {
        manifest = "../manifest.toml"
        data_dir = "data"
        host_key = "host.key"
        wallet_key = "wallet.key"
        [certificates]
        folder = "certificates"
        offline = true
    };
    // A little more often than blocks come.
    let poll_ms = whole(slot_ms * 3 / 4);
    let turn_s = whole((TURN_SLOTS * slot_ms).div_ceil(1000));
    let others = manifest.members.iter().filter(|member| member.id != id);
    let peers = others.map(|member| Ok((member.id.0.to_string(), address(ports, member.id)?.into())));
    let peers: toml::Table = peers.collect::<Result<_, DemoError>>()?;
    let urls = |urls: &[String]| toml::Table::from_iter([("urls".to_owned(), urls.to_vec().into())]);
    let fees = toml::Table::from_iter([("budget_per_day_eth".to_owned(), FEES_ETHER.into())]);
    config.extend([
        ("member".to_owned(), i64::from(id.0).into()),
        ("enclave".to_owned(), enclave.into()),
        ("listen".to_owned(), listen.into()),
        ("peers".to_owned(), peers.into()),
        ("execution".to_owned(), urls(&nodes.execution).into()),
        ("beacon".to_owned(), urls(&nodes.beacon).into()),
        ("fees".to_owned(), fees.into()),
        ("poll_ms".to_owned(), poll_ms.into()),
        ("tick_ms".to_owned(), TICK_MS.into()),
        ("reattest_s".to_owned(), REATTEST_S.into()),
        ("patience_s".to_owned(), patience_s.into()),
        ("turn_s".to_owned(), turn_s.into()),
    ]);
    if let Some(url) = postgres {
        let schema = format!("{schemas}_{}", id.0);
        let table = [("url".to_owned(), url.into()), ("schema".to_owned(), schema.into())];
        config.insert("postgres".to_owned(), toml::Table::from_iter(table).into());
    }
    let text = toml::to_string(&config).map_err(|error| DemoError::Unproved {
        what: files.config.display().to_string(),
        reason: error.to_string(),
    })?;
    write_file(&files.config, text)?;
    Ok(files)
}

/// A number of TOML's, which are signed.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn enclave_address(files: &MemberFiles) -> String {
    match files.vm {
        Some(_) => format!("unix-connect:enclave.sock:{ENCLAVE_PORT}"),
        None => "unix:enclave.sock".to_owned(),
    }
}

fn address(ports: &[u16], id: MemberId) -> Result<String, DemoError> {
    let port = ports.get(usize::from(id.0).wrapping_sub(1));
    let port = port.ok_or_else(|| DemoError::Randomness(format!("no port for {id}")))?;
    Ok(format!("/ip4/127.0.0.1/tcp/{port}"))
}

/// Readable by nobody else, from its first moment on.
fn write_secret(path: &Path, secret: &[u8; 32]) -> Result<(), DemoError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(hex::encode(secret).as_bytes()))
        .map_err(|source| DemoError::File { path: path.to_owned(), source })
}

/// Ports that were free a moment ago, one for each member. Not those that Linux gives to whoever wants any (from 32768 on):
/// others take them before a host has started, or while it restarts. Demos that run side by side look in different places.
fn free_ports(count: usize) -> Result<Vec<u16>, DemoError> {
    const PORTS: std::ops::Range<u16> = 16_384..32_768;
    let start = usize::try_from(std::process::id()).unwrap_or_default() * count;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports: Vec<u16> =
        PORTS.cycle().skip(start % PORTS.len()).take(PORTS.len()).filter(is_free).take(count).collect();
    if ports.len() < count {
        let source = std::io::ErrorKind::AddrInUse.into();
        return Err(DemoError::Process { what: "finding free ports".to_owned(), source });
    }
    Ok(ports)
}
