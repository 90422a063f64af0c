//! The manifest's way from one epoch to the next, by the command line: a whole round, what wallets sign, and what is refused.

use alloy::primitives::{B256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use postern_host::manifest::{Proposal, load_epochs};
use postern_shared::epoch::{WalletSignatureBytes, recover};
use postern_shared::manifest::Manifest;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HEAD: &str = r#"
version = 2
name = "test"
epoch = 0
leader = 1
[network]
chain_id = 1
genesis_fork_version = "0x00000000"
capella_fork_version = "0x03000000"
genesis_validators_root = "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"
[contracts]
pool_manager = "0x0101010101010101010101010101010101010101"
deposit = "0x0202020202020202020202020202020202020202"
[thresholds]
operator = 2
guardian = 2
[attestation]
trust = "amd"
"#;

fn wallet(id: u8) -> PrivateKeySigner {
    let mut key = [0; 32];
    key[31] = id;
    PrivateKeySigner::from_slice(&key).unwrap()
}

/// Three members; the keys of their wallets are 1, 2, 3.
fn manifest() -> String {
    let measurement =
        format!("measurements = [{{ name = \"first\", digest = \"0x{}\" }}]\n", "11".repeat(48));
    let members = (1..=3u8).map(|id| {
        let (host_key, chip) = (hex::encode([id; 32]), hex::encode([id; 64]));
        format!(
            "[[members]]\nid = {id}\nname = \"member-{id}\"\nwallet = \"{:#x}\"\nhost_key = \"0x{host_key}\"\n\
             chip_ids = [\"0x{chip}\"]\n",
            wallet(id).address()
        )
    });
    format!("{HEAD}{measurement}{}", members.collect::<String>())
}

struct Folder(tempfile::TempDir);

impl Folder {
    /// A manifest, its edition, and the members' keys.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("manifest.toml", manifest());
        folder.write("new.toml", manifest().replace("leader = 1", "leader = 2"));
        for id in 1..=4u8 {
            folder.write(&format!("{id}.key"), format!("0x{id:064x}\n"));
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("manifest").args(line.split(' ')).current_dir(self.0.path()).output().unwrap()
    }

    #[track_caller]
    fn does(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Fails with one line that contains these words.
    #[track_caller]
    fn refuses(&self, line: &str, words: &[&str]) {
        let output = self.run(line);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{line} succeeded");
        assert!(!text.contains("panicked"), "{text}");
        for word in words {
            assert!(
                text.trim().lines().last().unwrap().contains(word),
                "{line}: `{word}` is not in `{text}`"
            );
        }
    }

    fn propose(&self) {
        self.does("propose --manifest manifest.toml --data-dir data --new new.toml --out proposal.json");
    }

    fn sign(&self, id: u8) -> String {
        self.does(&format!("sign proposal.json --member {id} --key-file {id}.key"))
    }

    fn genesis(&self) -> Manifest {
        Manifest::from_toml(&self.text("manifest.toml")).unwrap()
    }

    fn newest(&self) -> Manifest {
        load_epochs(&self.path("data"), &self.genesis()).unwrap().1
    }
}

const APPLY: &str = "apply proposal.json --manifest manifest.toml --data-dir data";

#[test]
fn a_manifest_goes_from_epoch_to_epoch() {
    let folder = Folder::new();
    let said = folder.does("propose --manifest manifest.toml --new new.toml --out proposal.json");
    assert!(said.starts_with("leader: member 2\nepoch 1, manifest 0x"), "{said}");
    assert!(said.contains("2 of 3 members must sign proposal.json"), "{said}");
    assert!(folder.sign(3).contains("1 of 2 needed signatures"));
    let once = folder.text("proposal.json");
    assert!(folder.sign(3).contains("member 3 had signed already"));
    assert_eq!(folder.text("proposal.json"), once);
    folder.refuses(APPLY, &["1.epoch", "signed by 1 members, 2 are needed"]);
    assert!(!folder.path("data").exists(), "a refusal leaves nothing behind");

    // Member 1 signs elsewhere, what its wallet is shown, and counts v from 0.
    let proposal = Proposal::read(&folder.path("proposal.json")).unwrap();
    let mut signature = wallet(1).sign_hash_sync(&B256::from(proposal.message.digest())).unwrap().as_bytes();
    signature[64] -= 27;
    folder.does(&format!("sign proposal.json --member 1 --signature 0x{}", hex::encode(signature)));
    let shown: Value = serde_json::from_str(&folder.does("show proposal.json --json")).unwrap();
    let checked = &shown["signatures"]["checked"];
    assert_eq!(checked["signed"], serde_json::json!([1, 3]));
    assert_eq!((&checked["missing"], &checked["enough"]), (&serde_json::json!([2]), &Value::Bool(true)));
    assert_eq!(folder.does(APPLY).trim(), "data/epochs/1.epoch");
    assert_eq!((folder.newest().epoch, folder.newest().leader.0), (1, 2));

    // The same again changes nothing.
    let kept = std::fs::read(folder.path("data/epochs/1.epoch")).unwrap();
    folder.does(APPLY);
    folder.sign(2);
    folder.does(APPLY);
    assert_eq!(std::fs::read(folder.path("data/epochs/1.epoch")).unwrap(), kept);

    // A lost machine is replaced. What is edited now is what is in force.
    let toml = folder.does("show data/epochs/1.epoch --toml");
    assert!(toml.contains("[history]") && toml.contains("machine = 0"), "{toml}");
    folder.write("new.toml", toml.replacen("machine = 0", "machine = 1", 1));
    std::fs::rename(folder.path("proposal.json"), folder.path("first.json")).unwrap();
    folder.propose();
    folder.sign(1);
    folder.sign(2);
    assert_eq!(folder.does(APPLY).trim(), "data/epochs/2.epoch");
    let newest = folder.newest();
    assert_eq!((newest.epoch, newest.members[0].machine), (2, 1));
    assert_eq!(newest.genesis(), folder.genesis().hash());

    let unchecked = folder.does("show data/epochs/2.epoch");
    assert!(unchecked.contains("NOT CHECKED, said to be member 1, member 2"), "{unchecked}");
    let checked = folder.does("show data/epochs/2.epoch --manifest manifest.toml");
    assert!(checked.contains("change       member 1: machine lost, replaced by number 1"), "{checked}");
    assert!(checked.contains("missing      member 3"), "{checked}");
    // The first proposal is in force too, for ever.
    folder.does("apply first.json --manifest manifest.toml --data-dir data");
    assert!(folder.does("show manifest.toml").starts_with("test, epoch 0\nhash         0x"));
}

#[test]
fn a_configuration_names_manifest_and_data_directory() {
    let folder = Folder::new();
    let config = "manifest = \"manifest.toml\"\nmember = 1\ndata_dir = \"data\"\nenclave = \"unix:x\"\n\
                  host_key = \"x\"\nwallet_key = \"x\"\nlisten = \"x\"\n[peers]\n[execution]\nurl = \"x\"\n\
                  [beacon]\nurls = []\n";
    folder.write("config.toml", config);
    folder.does("propose --config config.toml --new new.toml --out proposal.json");
    folder.sign(1);
    folder.sign(2);
    folder.does("apply proposal.json --config config.toml");
    assert_eq!(folder.newest().epoch, 1);
    folder.does("show data/epochs/1.epoch --config config.toml");
}

/// Two implementations of recovery (`libsecp256k1`'s rules by way of alloy, and ours), on signatures good and bad.
#[test]
fn wallets_are_recovered_as_alloy_recovers_them() {
    for number in 0..200u32 {
        let digest = keccak256(number.to_be_bytes());
        let mut bytes = wallet(1 + (number % 7) as u8).sign_hash_sync(&digest).unwrap().as_bytes();
        if number % 3 == 1 {
            bytes[(number % 64) as usize] ^= 1 << (number % 8);
        }
        if number % 5 == 1 {
            bytes[64] ^= 27 ^ 28;
        }
        let theirs =
            alloy::primitives::Signature::from_raw(&bytes).ok().filter(|it| it.normalize_s().is_none());
        let theirs = theirs.and_then(|it| it.recover_address_from_prehash(&digest).ok());
        let ours = recover(&digest.0, &WalletSignatureBytes(bytes)).ok();
        assert_eq!(ours.map(|it| it.0), theirs.map(|it| it.into_array()), "{number}");
    }
}

#[test]
fn editions_that_can_not_follow_are_refused() {
    let folder = Folder::new();
    let propose = "propose --manifest manifest.toml --new new.toml --out proposal.json";
    let cases = [
        ("leader = 1", "leader = 1", "changes nothing"),
        ("chain_id = 1", "chain_id = 2", "`network`"),
        ("0x0202", "0x0303", "`contracts.deposit`"),
        ("0x1111", "0x1112", "measurement `first` is missing"),
        ("leader = 1", "leader = 9", "leader"),
        ("epoch = 0", "epoch = 5", "of epoch 5"),
        ("leader = 1", "leader = ", "not a manifest"),
        (
            "name = \"member-3\"",
            "name = \"member-3\"\nmachine = 2",
            "machine 2 of member 3 where 0 to 1 may be",
        ),
    ];
    for (from, to, word) in cases {
        assert!(manifest().contains(from));
        folder.write("new.toml", manifest().replacen(from, to, 1));
        folder.refuses(propose, &["new.toml", word]);
        assert!(!folder.path("proposal.json").exists());
    }
    folder.write("new.toml", "");
    folder.refuses(propose, &["new.toml", "not a manifest"]);
    folder.write("new.toml", [0xff, 0xfe]);
    folder.refuses(propose, &["new.toml", "not a manifest"]);
    folder.refuses("propose --manifest manifest.toml --new none.toml --out proposal.json", &["none.toml"]);
    folder.refuses("propose --manifest none.toml --new new.toml --out proposal.json", &["none.toml"]);
    // Somebody's signatures are in the way.
    folder.write("new.toml", manifest().replace("leader = 1", "leader = 2"));
    folder.write("proposal.json", "mine");
    folder.refuses(propose, &["proposal.json", "is there already"]);
    assert_eq!(folder.text("proposal.json"), "mine");
}

#[test]
fn signatures_that_are_none_leave_a_proposal_as_it_is() {
    let folder = Folder::new();
    folder.propose();
    let before = folder.text("proposal.json");
    let cases: [(&str, &[&str]); 10] = [
        ("--member 1 --key-file 2.key", &["signature of member 1", "not by 0x7e5f"]),
        ("--member 4 --key-file 4.key", &["member 4 is no member"]),
        ("--member 0 --key-file 1.key", &["member 0 is no member"]),
        ("--member 1 --key-file none.key", &["none.key"]),
        ("--member 1 --key-file manifest.toml", &["manifest.toml", "not a wallet's key"]),
        ("--member 1 --key-file empty.key", &["empty.key", "not a wallet's key"]),
        ("--member 1 --key-file zero.key", &["zero.key", "not a wallet's key"]),
        ("--member 1 --signature 0x00", &["--signature", "130"]),
        ("--member 1 --signature hello", &["--signature"]),
        ("--member 1 --signature ZEROS", &["signature of member 1", "out of range"]),
    ];
    folder.write("empty.key", "");
    folder.write("zero.key", "0".repeat(64));
    for (arguments, words) in cases {
        let arguments = arguments.replace("ZEROS", &"00".repeat(65));
        folder.refuses(&format!("sign proposal.json {arguments}"), words);
        assert_eq!(folder.text("proposal.json"), before);
    }
}

#[test]
fn altered_proposals_are_refused() {
    let folder = Folder::new();
    folder.propose();
    folder.sign(1);
    folder.sign(2);
    let good = folder.text("proposal.json");
    let mut value: Value = serde_json::from_str(&good).unwrap();
    let predecessor = value["predecessor"].clone();
    let alterations: [(&str, Value, &str); 8] = [
        ("/changes/0", "leader: member 1".into(), "`changes`"),
        ("/typed_data/message/changes", "leader: member 1".into(), "`typed_data`"),
        ("/typed_data/domain/chainId", 5.into(), "`typed_data`"),
        ("/manifest", predecessor, "epoch 0 where 1 is due"),
        ("/manifest", "0x0200".into(), "malformed"),
        ("/signatures/0/member", 3.into(), "signature of member 3"),
        ("/signatures/1/member", 1.into(), "member 1 signed twice"),
        ("/signatures/0/signature", "0x00".into(), "not a proposal"),
    ];
    for (place, altered, word) in alterations {
        let kept = std::mem::replace(value.pointer_mut(place).unwrap(), altered);
        folder.write("proposal.json", value.to_string());
        *value.pointer_mut(place).unwrap() = kept;
        for command in ["show proposal.json", "sign proposal.json --member 3 --key-file 3.key", APPLY] {
            folder.refuses(command, &["proposal.json", word]);
        }
    }
    for broken in ["", "{", "{}", "[]", &good[..good.len() / 2]] {
        folder.write("proposal.json", broken);
        folder.refuses(APPLY, &["proposal.json", "not a proposal"]);
    }
    folder.write("proposal.json", vec![b'{'; 2 << 20]);
    folder.refuses(APPLY, &["proposal.json", "longer than"]);
    assert!(!folder.path("data").exists());
}

#[test]
fn gaps_and_forks_are_refused() {
    let folder = Folder::new();
    folder.propose();
    folder.sign(1);
    folder.sign(2);
    // Another manifest for the same epoch, by as many.
    folder.write("new.toml", manifest().replace("leader = 1", "leader = 3"));
    folder.does("propose --manifest manifest.toml --new new.toml --out fork.json");
    folder.does("sign fork.json --member 2 --key-file 2.key");
    folder.does("sign fork.json --member 3 --key-file 3.key");
    folder.does(APPLY);
    let fork = APPLY.replace("proposal", "fork");
    folder.refuses(&fork, &["epoch 1 is manifest 0x", "a fork"]);
    assert_eq!(folder.newest().leader.0, 2);

    // A second epoch, for a host that missed the first.
    folder.write(
        "new.toml",
        folder.does("show data/epochs/1.epoch --toml").replace("leader = 2", "leader = 1"),
    );
    folder.does("propose --manifest manifest.toml --data-dir data --new new.toml --out second.json");
    folder.does("sign second.json --member 2 --key-file 2.key");
    folder.does("sign second.json --member 3 --key-file 3.key");
    folder.refuses(
        "apply second.json --manifest manifest.toml --data-dir late",
        &["epoch 1 is missing before epoch 2"],
    );
    // Or that took the other road.
    folder.does(&fork.replace("data", "fork").replace("--fork-dir", "--data-dir"));
    folder.refuses(
        "apply second.json --manifest manifest.toml --data-dir fork",
        &["2.epoch", "the predecessor is"],
    );
    folder.does("apply second.json --manifest manifest.toml --data-dir data");

    // The kept files are nobody's word either.
    let kept = |number: u8| folder.path(&format!("data/epochs/{number}.epoch"));
    let first = std::fs::read(kept(1)).unwrap();
    std::fs::remove_file(kept(1)).unwrap();
    let again = "apply second.json --manifest manifest.toml --data-dir data";
    folder.refuses(again, &["epoch 1 is missing before epoch 2"]);
    for (bytes, word) in [
        (&first[..first.len() - 1], "malformed"),
        (&[], "malformed"),
        (&std::fs::read(kept(2)).unwrap()[..], "epoch 1: epoch 2 where 1 is due"),
    ] {
        std::fs::write(kept(1), bytes).unwrap();
        folder.refuses(again, &["data/epochs", word]);
    }
    std::fs::write(kept(1), &first).unwrap();
    // Somebody else's file is no matter, one that could be meant as an epoch is.
    folder.write("data/epochs/.tmpfile", "");
    folder.does(again);
    for name in ["01.epoch", "0.epoch", "x.epoch"] {
        folder.write(&format!("data/epochs/{name}"), "");
        folder.refuses(again, &[name, "named by its number"]);
        std::fs::remove_file(folder.path(&format!("data/epochs/{name}"))).unwrap();
    }
    // A host that starts from a later manifest needs only what comes after.
    folder.write("later.toml", folder.does("show data/epochs/1.epoch --toml"));
    let later = Manifest::from_toml(&folder.text("later.toml")).unwrap();
    let (epochs, newest) = load_epochs(Path::new(&folder.path("data")), &later).unwrap();
    assert_eq!((epochs.len(), newest.epoch), (1, 2));
    folder.refuses(
        "apply proposal.json --manifest later.toml --data-dir data",
        &["does not come after epoch 1"],
    );
}
