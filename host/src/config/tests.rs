use super::*;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use libp2p::identity::ed25519;
use postern_shared::bls::PublicKey;
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::epoch::{WalletSignature, pool_managers};
use postern_shared::identity::{AgreementKey, EnclaveKeys, SigningKey};
use postern_shared::ids::Address;
use postern_shared::manifest::History;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

mod faults;

const HOST_SEED: [u8; 32] = [5; 32];
const WALLET: [u8; 32] = [6; 32];

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../tests/vectors/snp/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The account with which a member governs: its key is on no host.
fn governance(id: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_slice(&[0x10 | id; 32]).unwrap()
}

/// Before its enclaves are named.
pub(crate) fn manifest_text() -> String {
    let public = |mut seed: [u8; 32]| {
        let secret = ed25519::SecretKey::try_from_bytes(&mut seed).unwrap();
        hex::encode(ed25519::Keypair::from(secret).public().to_bytes())
    };
    let wallet = PrivateKeySigner::from_slice(&WALLET).unwrap().address();
    let bytes = |byte: &str, length| format!("\"0x{}\"", byte.repeat(length));
    let member = |id: u8, wallet: String, seed: [u8; 32]| {
        let governance = governance(id).address();
        let chip = bytes(&format!("{id:02x}"), 64);
        let host_key = public(seed);
        format!(
            "[[members]]\nid = {id}\nname = \"{id}\"\nwallet = \"{wallet}\"\ngovernance = \"{governance}\"\nhost_key = \"0x{host_key}\"\nchip_ids = [{chip}]\n"
        )
    };
    format!(
        "version = 6\nname = \"test\"\nepoch = 0\nleader = 1\n[network]\nchain_id = 1\n\
         genesis_fork_version = {}\ncapella_fork_version = {}\ngenesis_validators_root = {}\n\
         [contracts]\npool_manager = {}\npool_code = {}\nstart_block = 22000000\ndeposit = {}\n[thresholds]\noperator = 2\nguardian = 2\nproof = 2\n\
         [agreement]\nquorum = 2\n[attestation]\ntrust = \"amd\"\nmeasurements = [{{ name = \"test\", digest = {} }}]\n{}{}{}",
        bytes("00", 4),
        bytes("03", 4),
        bytes("04", 32),
        bytes("05", 20),
        bytes("c0", 32),
        bytes("06", 20),
        bytes("07", 48),
        member(1, wallet.to_string(), HOST_SEED),
        member(2, format!("0x{}", "08".repeat(20)), [9; 32]),
        member(3, format!("0x{}", "0a".repeat(20)), [10; 32]),
    )
}

/// See [`manifest_text`].
pub(crate) fn manifest() -> Manifest {
    Manifest::from_toml(&manifest_text()).unwrap()
}

/// The one after it, which names all enclaves, with something edited.
pub(crate) fn next(before: &Manifest, edit: impl FnOnce(&mut Manifest)) -> Manifest {
    let history = Some(History { genesis: before.genesis(), predecessor: before.hash() });
    let mut next = Manifest { epoch: before.epoch + 1, history, ..before.clone() };
    for (member, id) in next.members.iter_mut().zip(1..) {
        let (signing, agreement, dealing, signer) =
            (SigningKey([id; 32]), AgreementKey([id; 32]), PublicKey([id; 48]), Address([0x80 | id; 20]));
        member.enclave = Some(EnclaveKeys { signing, agreement, dealing, signer });
    }
    edit(&mut next);
    next.validate().unwrap();
    next
}

/// A folder with everything that a configuration of member 1 names.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("manifest.toml", manifest_text().as_bytes());
    write("host.key", hex::encode(HOST_SEED).as_bytes());
    write("wallet.key", format!("0x{}\n", hex::encode(WALLET)).as_bytes());
    std::fs::create_dir(folder.path().join("certificates")).unwrap();
    write("certificates/ask.der", &vector("amd-turin-ask.der"));
    write("certificates/vcek.der", &vector("msft-tav-turin-vcek.der"));
    write("config.toml", CONFIG.as_bytes());
    folder
}

pub(crate) const CONFIG: &str = r#"manifest = "manifest.toml"
member = 1
data_dir = "data"
enclave = "unix:enclave.sock"
host_key = "host.key"
wallet_key = "wallet.key"
listen = "/ip4/127.0.0.1/tcp/0"
tick_ms = 250
[certificates]
folder = "certificates"
[peers]
2 = "/ip4/127.0.0.1/tcp/9000"
[execution]
urls = ["http://127.0.0.1:8545"]
[beacon]
urls = ["http://127.0.0.1:5052"]
"#;

fn read_from(folder: &TempDir) -> Result<Config, ConfigError> {
    Config::read(&folder.path().join("config.toml"))
}

#[test]
fn a_configuration_is_read_with_paths_from_its_own_folder() {
    let folder = folder();
    let config = read_from(&folder).unwrap();
    assert_eq!(config.member, MemberId(1));
    assert_eq!(config.data_dir, folder.path().join("data"));
    assert_eq!(config.enclave, EnclaveAddress::Unix(folder.path().join("enclave.sock")));
    let given = config.certificates.given.unwrap();
    assert_eq!(given.leaf, vector("msft-tav-turin-vcek.der"));
    assert!(config.certificates.kds.is_some(), "a host may ask unless it is told not to");
    assert!(matches!(config.wallet, Wallet::Local(_)));
    assert_eq!(config.fees, FeeRules::default());
    assert_eq!(config.peers.keys().copied().collect::<Vec<_>>(), [MemberId(2)]);
    assert_eq!((config.tick.as_millis(), config.poll.as_millis()), (250, 6_000));
}

#[test]
fn keys_are_checked_against_the_manifest_and_never_shown() {
    let folder = folder();
    let other = hex::encode([0x5a; 32]);
    for name in ["host_key", "wallet_key"] {
        let path = folder.path().join(name.replace('_', "."));
        let right = std::fs::read(&path).unwrap();
        for wrong in [other.as_str(), "5a5a", "not hexadecimal", ""] {
            std::fs::write(&path, wrong).unwrap();
            let error = read_from(&folder).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config field `{name}`: ")), "{error}");
            assert!(!error.contains("5a5a"), "{error}");
        }
        std::fs::write(&path, right).unwrap();
    }
}

#[test]
fn a_remote_signer_stands_for_the_key_of_the_manifest_s_wallet_only() {
    let folder = folder();
    let own = PrivateKeySigner::from_slice(&WALLET).unwrap().address();
    let read_with = |url: &str, address: &str| {
        let remote = format!("[wallet]\nurl = \"{url}\"\naddress = \"{address}\"\n[beacon]");
        let text = CONFIG.replace("wallet_key = \"wallet.key\"\n", "").replace("[beacon]", &remote);
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        read_from(&folder).map(|config| config.wallet).map_err(|error| error.to_string())
    };
    assert!(matches!(read_with("http://127.0.0.1:9000", &own.to_string()), Ok(Wallet::Remote(_))));
    let other = format!("0x{}", "07".repeat(20));
    for (url, address, said) in [
        ("http://127.0.0.1:9000", other.as_str(), "config field `wallet.address`: not 0x"),
        (
            "ws://user:secret@signer",
            &own.to_string(),
            "config field `wallet.url`: the remote signer's URL: a node's URL begins with",
        ),
    ] {
        let error = read_with(url, address).err().unwrap();
        assert!(error.starts_with(said) && !error.contains("secret"), "{error}");
    }
}

/// Whoever has a quorum of them could have all state handed over: so not one is to lie on a host.
#[test]
fn a_key_that_governs_is_no_wallet_key() {
    let folder = folder();
    let wallet = PrivateKeySigner::from_slice(&WALLET).unwrap().address();
    for id in 1..=3 {
        let key = hex::encode(governance(id).to_bytes());
        std::fs::write(folder.path().join("wallet.key"), &key).unwrap();
        let error = read_from(&folder).map(|_| ()).unwrap_err().to_string();
        let expected = format!("config field `wallet_key`: not the key of {wallet:#x}, the wallet");
        assert!(error.starts_with(&expected) && !error.contains(&key), "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = folder();
    for name in ["manifest.toml", "host.key", "wallet.key", "certificates/ask.der"] {
        let path = folder.path().join(name);
        let kept = path.with_extension("kept");
        std::fs::rename(&path, &kept).unwrap();
        let error = read_from(&folder).map(|_| ()).unwrap_err().to_string();
        // Of a key the field is named: its path may be the key.
        let named = match name {
            "host.key" | "wallet.key" => format!("`{}`: the file that it names", name.replace('.', "_")),
            _ => path.with_extension("").to_str().unwrap().to_owned(),
        };
        assert!(error.contains(&named), "{error}");
        std::fs::rename(&kept, &path).unwrap();
    }
    std::fs::write(folder.path().join("certificates/vcek.pem"), "no PEM").unwrap();
    let error = read_from(&folder).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("vcek.pem: not an X.509 certificate"), "{error}");
}

#[test]
fn a_host_without_a_folder_looks_elsewhere_and_one_that_is_offline_asks_nobody() {
    let folder = folder();
    let with = |section: &str| {
        let text = CONFIG.replacen("folder = \"certificates\"", section, 1);
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        read_from(&folder).unwrap().certificates
    };
    let sources = with("cache = \"kept\"\nkds = \"http://mirror.example/amd\"");
    assert!(sources.given.is_none() && sources.kds.is_some());
    // What an address that is not asked looks like is nobody's business.
    assert!(with("offline = true\nkds = \"\"").kds.is_none());
}

fn managers(config: &Config) -> Vec<Address> {
    pool_managers(&config.manifests).iter().map(|manager| manager.contract).collect()
}

#[test]
fn every_pool_manager_that_an_epoch_has_named_is_served_and_each_once() {
    let folder = folder();
    let first = read_manifest(&folder.path().join("manifest.toml")).unwrap();
    let (a, b) = (first.contracts.pool_manager, Address([0xbb; 20]));
    assert_eq!(managers(&read_from(&folder).unwrap()), [a]);
    std::fs::create_dir_all(folder.path().join("data/epochs")).unwrap();
    let mut before = first;
    for number in 1..=2 {
        let manifest = next(&before, |next| {
            next.contracts.pool_manager = b;
            next.name = format!("epoch {number}");
        });
        let mut epoch = SignedEpoch::unsigned(&manifest);
        let digest = epoch.message(&before).unwrap().digest().into();
        epoch.signatures = (1..=3)
            .map(|id| WalletSignature {
                member: MemberId(id.into()),
                signature: EthereumSignature(governance(id).sign_hash_sync(&digest).unwrap().as_bytes()),
            })
            .collect();
        std::fs::write(folder.path().join(format!("data/epochs/{number}.epoch")), epoch.to_bytes()).unwrap();
        let config = read_from(&folder).unwrap();
        assert_eq!((config.manifest.contracts.pool_manager, managers(&config)), (b, vec![a, b]));
        before = manifest;
    }
}
