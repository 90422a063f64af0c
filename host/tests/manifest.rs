//! The manifest's way from one epoch to the next, by the command line: a whole round, what wallets sign, and what is refused.

use alloy::primitives::{B256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use libp2p::identity::ed25519;
use postern_host::manifest::{KeptEpochs, Proposal, awaits_cut, load_epochs};
use postern_host::status::HostStatus;
use postern_shared::bls::PublicKey;
use postern_shared::ecdsa::{EthereumSignature, recover};
use postern_shared::epoch::Waiting;
use postern_shared::identity::{AgreementKey, EnclaveKeys, IdentitySignature, SigningKey};
use postern_shared::ids::{Address, Digest, ManifestHash, MemberId, Nonce};
use postern_shared::manifest::{Cut, Manifest};
use postern_shared::record::{LogHead, LogId};
use postern_shared::witness::{Ballot, Claim, End, Note, Place, SignedNote};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HEAD: &str = r#"
version = 6
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
pool_code = "0xc0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"
start_block = 22000000
deposit = "0x0202020202020202020202020202020202020202"
[thresholds]
operator = 2
guardian = 2
proof = 2
[agreement]
quorum = 2
[attestation]
trust = "amd"
"#;

fn wallet(id: u8) -> PrivateKeySigner {
    let mut key = [0; 32];
    key[31] = id;
    PrivateKeySigner::from_slice(&key).unwrap()
}

/// With which a member's enclave on one of its machines signs.
fn signing(id: u8, machine: u8) -> ed25519::Keypair {
    let mut seed = [id << 2 | machine; 32];
    ed25519::SecretKey::try_from_bytes(&mut seed).unwrap().into()
}

/// Of a member's enclave on one of its machines.
fn enclave(id: u8, machine: u8) -> EnclaveKeys {
    let byte = |kind: u8| kind << 4 | id << 2 | machine;
    EnclaveKeys {
        signing: SigningKey(signing(id, machine).public().to_bytes()),
        agreement: AgreementKey([byte(0xb); 32]),
        dealing: PublicKey([byte(0xc); 48]),
        signer: Address([byte(0xd); 20]),
    }
}

/// Three members; the keys of the wallets with which they govern are 1, 2, 3.
fn manifest() -> String {
    let measurement =
        format!("measurements = [{{ name = \"first\", digest = \"0x{}\" }}]\n", "11".repeat(48));
    let members = (1..=3u8).map(|id| {
        let (host_key, chip) = (hex::encode([id; 32]), hex::encode([id; 64]));
        format!(
            "[[members]]\nid = {id}\nname = \"member-{id}\"\nwallet = \"{:#x}\"\n\
             governance = \"{:#x}\"\nhost_key = \"0x{host_key}\"\n\
             chip_ids = [\"0x{chip}\"]\n",
            wallet(0x10 | id).address(),
            wallet(id).address()
        )
    });
    format!("{HEAD}{measurement}{}", members.collect::<String>())
}

/// The same with the members' enclaves, and another leader.
fn founding() -> String {
    let text = manifest().replace("leader = 1", "leader = 2");
    (1..=3u8).fold(text, |text, id| {
        let EnclaveKeys { signing, agreement, dealing, signer } = enclave(id, 0);
        let name = format!("name = \"member-{id}\"\n");
        let keys = format!(
            "enclave = {{ signing = \"{signing}\", agreement = \"{agreement}\", dealing = \"{dealing}\", signer = \"{signer}\" }}\n"
        );
        text.replace(&name, &format!("{name}{keys}"))
    })
}

struct Folder(tempfile::TempDir);

impl Folder {
    /// A manifest, the edition that founds the DAO, and the members' keys.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("manifest.toml", manifest());
        folder.write("new.toml", founding());
        for id in 1..=4u8 {
            folder.write(&format!("{id}.key"), format!("0x{id:064x}\n"));
        }
        folder
    }

    /// Where epoch 1 is in force, and the edition gives member 3 the lead.
    fn founded() -> Self {
        let folder = Self::new();
        folder.propose();
        folder.all_sign();
        folder.does(APPLY);
        std::fs::remove_file(folder.path("proposal.json")).unwrap();
        folder.write("new.toml", folder.in_force().replace("leader = 2", "leader = 3"));
        folder
    }

    /// The manifest of epoch 1.
    fn in_force(&self) -> String {
        self.does("show data/epochs/1.epoch --toml")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
        // Where keys may be: for nobody else.
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
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

    fn all_sign(&self) {
        (1..=3).for_each(|id| drop(self.sign(id)));
    }

    fn genesis(&self) -> Manifest {
        Manifest::from_toml(&self.text("manifest.toml")).unwrap()
    }

    fn newest(&self) -> Manifest {
        load_epochs(&self.path("data"), &self.genesis()).unwrap().newest
    }
}

const APPLY: &str = "apply proposal.json --manifest manifest.toml --data-dir data";

#[test]
fn a_manifest_goes_from_epoch_to_epoch() {
    let folder = Folder::new();
    let said = folder.does("propose --manifest manifest.toml --new new.toml --out proposal.json");
    let fingerprint = enclave(3, 0).identity(MemberId(3), 0).fingerprint();
    assert!(said.starts_with("leader: member 2\nmember 1: enclave 0x"), "{said}");
    assert!(said.contains(&format!("member 3: enclave {fingerprint}\nepoch 1, manifest 0x")), "{said}");
    assert!(said.contains("3 of 3 members must sign proposal.json"), "{said}");
    assert!(folder.sign(3).contains("1 of 3 needed signatures"));
    let once = folder.text("proposal.json");
    assert!(folder.sign(3).contains("member 3 had signed already"));
    assert_eq!(folder.text("proposal.json"), once);
    folder.refuses(APPLY, &["1.epoch", "signed by 1 members, 3 are needed"]);
    assert!(!folder.path("data").exists(), "a refusal leaves nothing behind");

    // Member 1 signs elsewhere, what its wallet is shown, and counts v from 0.
    let proposal = Proposal::read(&folder.path("proposal.json")).unwrap();
    let mut signature = wallet(1).sign_hash_sync(&B256::from(proposal.message.digest())).unwrap().as_bytes();
    signature[64] -= 27;
    folder.does(&format!("sign proposal.json --member 1 --signature 0x{}", hex::encode(signature)));
    let shown: Value = serde_json::from_str(&folder.does("show proposal.json --json")).unwrap();
    let checked = &shown["signatures"]["checked"];
    assert_eq!(checked["signed"], serde_json::json!([1, 3]));
    assert_eq!((&checked["missing"], &checked["enough"]), (&serde_json::json!([2]), &Value::Bool(false)));
    folder.refuses(APPLY, &["1.epoch", "signed by 2 members, 3 are needed"]);
    folder.sign(2);
    assert_eq!(folder.does(APPLY).trim(), "data/epochs/1.epoch");
    assert_eq!((folder.newest().epoch, folder.newest().leader.0), (1, 2));

    // A lost machine is replaced, and its enclave with it. What is edited now is what is in force.
    let toml = folder.in_force();
    assert!(toml.contains("[history]") && toml.contains("machine = 0"), "{toml}");
    let (old, new) = (enclave(1, 0), enclave(1, 1));
    let toml = toml
        .replacen("machine = 0", "machine = 1", 1)
        .replace(&old.signing.to_string(), &new.signing.to_string())
        .replace(&old.agreement.to_string(), &new.agreement.to_string())
        .replace(&old.dealing.to_string(), &new.dealing.to_string())
        .replace(&old.signer.to_string(), &new.signer.to_string());
    folder.write("new.toml", toml);
    std::fs::rename(folder.path("proposal.json"), folder.path("first.json")).unwrap();
    folder.propose();
    folder.sign(1);
    folder.sign(2);
    assert_eq!(folder.does(APPLY).trim(), "data/epochs/2.epoch");
    let newest = folder.newest();
    assert_eq!((newest.epoch, newest.members[0].machine), (2, 1));
    assert_eq!(newest.identity(MemberId(1)), Some(new.identity(MemberId(1), 1)));
    assert_eq!(newest.genesis(), folder.genesis().hash());

    let unchecked = folder.does("show data/epochs/2.epoch");
    assert!(unchecked.contains("NOT CHECKED, said to be member 1, member 2"), "{unchecked}");
    let checked = folder.does("show data/epochs/2.epoch --manifest manifest.toml");
    assert!(checked.contains("change       member 1: machine lost, replaced by number 1"), "{checked}");
    assert!(checked.contains("missing      member 3"), "{checked}");
    // The same again changes nothing, not even with one signature more.
    let kept = std::fs::read(folder.path("data/epochs/2.epoch")).unwrap();
    folder.does(APPLY);
    folder.sign(3);
    folder.does(APPLY);
    assert_eq!(std::fs::read(folder.path("data/epochs/2.epoch")).unwrap(), kept);
    // The first proposal is in force too, for ever.
    folder.does("apply first.json --manifest manifest.toml --data-dir data");
    let shown = folder.does("show manifest.toml");
    assert!(shown.starts_with("test, epoch 0\nhash         0x"));
    assert!(
        shown.contains("\npool manager 0x0101010101010101010101010101010101010101, from block 22000000\n")
    );
}

#[test]
fn a_configuration_names_manifest_and_data_directory() {
    let folder = Folder::new();
    let config = "manifest = \"manifest.toml\"\nmember = 1\ndata_dir = \"data\"\nenclave = \"unix:x\"\n\
                  host_key = \"x\"\nwallet_key = \"x\"\nlisten = \"x\"\n[peers]\n[execution]\nurls = [\"x\"]\n\
                  [beacon]\nurls = []\n";
    folder.write("config.toml", config);
    folder.does("propose --config config.toml --new new.toml --out proposal.json");
    folder.all_sign();
    folder.does("apply proposal.json --config config.toml");
    assert_eq!(folder.newest().epoch, 1);
    folder.does("show data/epochs/1.epoch --config config.toml");
    folder.does("await-cut --config config.toml");
    assert!(awaits_cut(&folder.path("data")));
}

/// What a member's host says of its enclave.
fn status(id: u8, waiting: Option<Waiting>) -> String {
    let enclave = Some(enclave(id, 0).identity(MemberId(id.into()), 0));
    let waiting = waiting.map(Box::new);
    let member = id.into();
    let status = HostStatus { member, enclave_answers: true, enclave, waiting, ..HostStatus::default() };
    serde_json::to_string(&status).unwrap()
}

fn place(id: u8, number: u64) -> Place {
    Place { log: LogId([0x70 | id; 32]), head: LogHead { number, digest: Digest([0x60 | id; 32]) } }
}

fn ballot(id: u8, incarnation: u64) -> Ballot {
    Ballot { machine: 0, era: 0, incarnation, nonce: Nonce([0x50 | id; 32]) }
}

/// Signed by the enclave of its member.
fn sign_note(dao: ManifestHash, note: Note) -> SignedNote {
    let signature = signing(note.member.0 as u8, 0).sign(&SignedNote::signed_bytes(dao, &note));
    SignedNote { note, signature: IdentitySignature(signature.try_into().unwrap()) }
}

/// A copy that was restored once after it had come to record 70 and its member's number.
fn waiting(dao: ManifestHash, id: u8) -> Waiting {
    let place = place(id, 70 + u64::from(id));
    let ends = vec![End { ballot: ballot(id, 1), place }];
    let (member, ballot) = (MemberId(id.into()), ballot(id, 2));
    let note = Note { member, ballot, place, acting: false, ends: End::digest(&ends) };
    Waiting { claim: Claim { note: sign_note(dao, note), ends }, noted: vec![] }
}

/// What an earlier copy of member 1's enclave has signed of how far it had come.
fn noted(dao: ManifestHash, number: u64) -> SignedNote {
    let (ballot, place) = (ballot(1, 1), place(1, number));
    let note = Note { member: MemberId(1), ballot, place, acting: true, ends: End::digest(&[]) };
    sign_note(dao, note)
}

const STATUSES: &str = "--status 3.json --status 1.json --status 2.json";

#[test]
fn a_dao_is_founded_from_what_its_hosts_say_of_their_enclaves() {
    let folder = Folder::new();
    for id in 1..=3 {
        folder.write(&format!("{id}.json"), status(id, None));
    }
    let propose = "propose --manifest manifest.toml --out proposal.json";
    let said = folder.does(&format!("{propose} {STATUSES}"));
    assert!(said.starts_with("member 1: enclave 0x"), "{said}");
    folder.all_sign();
    folder.does(APPLY);
    let newest = folder.newest();
    for id in 1..=3u8 {
        let member = MemberId(id.into());
        assert_eq!(newest.identity(member), Some(enclave(id, 0).identity(member, 0)));
    }
    assert_eq!((newest.epoch, newest.leader.0, newest.agreement.cut), (1, 1, None), "nothing else changes");

    // All are wanted, and each of a member that has an enclave.
    std::fs::remove_file(folder.path("proposal.json")).unwrap();
    folder.refuses(&format!("{propose} --status 1.json --status 2.json"), &["members[2].enclave"]);
    let nobody = HostStatus { member: 3, enclave_answers: true, ..HostStatus::default() };
    let silent = HostStatus { enclave_answers: false, ..nobody.clone() };
    let stranger = status(3, None).replacen("\"member\":3", "\"member\":9", 2);
    for (content, word) in [
        (serde_json::to_string(&nobody).unwrap(), "it has no enclave"),
        (serde_json::to_string(&silent).unwrap(), "its enclave does not answer"),
        (stranger, "member 9 is no member"),
        ("{}".to_owned(), "a host's status"),
        (String::new(), "a host's status"),
        (status(2, None).replace("\"member\":2", "\"member\":3"), "another member has the same"),
    ] {
        folder.write("3.json", content);
        folder.refuses(&format!("{propose} {STATUSES}"), &[word]);
        assert!(!folder.path("proposal.json").exists(), "{word}");
    }
    folder.refuses(&format!("{propose} --status none.json"), &["none.json"]);
    assert!(!folder.run(propose).status.success(), "neither an edition nor a status");
}

#[test]
fn a_cut_names_the_copies_that_wait_for_it_and_ends_the_waiting() {
    let folder = Folder::founded();
    let data = folder.path("data");
    assert!(!awaits_cut(&data));
    for _ in 0..2 {
        folder.does("await-cut --manifest manifest.toml --data-dir data");
        assert!(awaits_cut(&data));
    }
    let dao = folder.genesis().hash();
    for id in 1..=3 {
        folder.write(&format!("{id}.json"), status(id, Some(waiting(dao, id))));
    }
    let propose = "propose --manifest manifest.toml --data-dir data --out proposal.json";
    let few = format!("{propose} --status 1.json --status 2.json");
    folder.refuses(&few, &["the cut of epoch 2 must name the enclave of member 3"]);
    // What others have noted must be in what a copy goes on from, and all must be signed.
    let forged = |mut waiting: Waiting| {
        waiting.claim.note.signature.0[0] ^= 1;
        waiting
    };
    for (waiting, word) in [
        (
            Waiting { noted: vec![noted(dao, 72)], ..waiting(dao, 2) },
            "the copy of member 1 lacks what the enclave of member 2 has noted of it",
        ),
        (forged(waiting(dao, 2)), "what is said of member 2 was not signed by its enclave"),
        (waiting(ManifestHash([9; 32]), 2), "what is said of member 2 was not signed by its enclave"),
    ] {
        folder.write("2.json", status(2, Some(waiting)));
        folder.refuses(&format!("{propose} {STATUSES}"), &["no cut can be made of these", word]);
    }
    let up_to_date = Waiting { noted: vec![noted(dao, 71)], ..waiting(dao, 2) };
    folder.write("2.json", status(2, Some(up_to_date)));
    let said = folder.does(&format!("{propose} {STATUSES}"));
    let line = "member 1: acts again from record 71 (616161616161616161616161..) of log \
                717171717171717171717171.., as incarnation 2, 515151515151515151515151..";
    assert!(said.starts_with(line), "{said}");
    folder.sign(1);
    folder.refuses(APPLY, &["signed by 1 members, 2 are needed"]);
    assert!(awaits_cut(&data), "it is not made yet");
    folder.sign(2);
    folder.does(APPLY);
    assert!(!awaits_cut(&data));
    let members = [1, 2, 3].map(|id| waiting(dao, id).resumed()).to_vec();
    assert_eq!(folder.newest().agreement.cut, Some(Cut { epoch: 2, members }));
    // What is edited goes together with what hosts say.
    folder.write(
        "new.toml",
        folder.does("show data/epochs/2.epoch --toml").replace("leader = 2", "leader = 3"),
    );
    let both = propose.replace("proposal", "both");
    // Here, copies that the cut has let in already.
    let stale = "the cut of epoch 3 must name the enclave of member 1 as it is";
    folder.refuses(&format!("{both} --new new.toml {STATUSES}"), &[stale]);
    for id in 1..=3 {
        folder.write(&format!("{id}.json"), status(id, None));
    }
    let said = folder.does(&format!("{both} --new new.toml {STATUSES}"));
    assert!(said.starts_with("leader: member 3\nepoch 3"), "{said}");
}

#[test]
fn what_a_quorum_comes_to_is_shown() {
    let folder = Folder::founded();
    let shown = folder.does("show data/epochs/1.epoch");
    let fingerprint = enclave(2, 0).identity(MemberId(2), 0).fingerprint();
    for line in [
        "agreement    2 members agree; what they agree on holds for 0 broken enclaves\n",
        "             1 may be away, 0 while one restarts\n",
        "             for as many as the thresholds are about it would need a quorum of 3\n",
        &format!("             enclave {fingerprint}\n"),
        &format!("governance wallet {:#x}, wallet {:#x}", wallet(2).address(), wallet(0x12).address()),
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("automatic return"), "{shown}");
    let lax = manifest().replace("quorum = 2", "quorum = 2\nautomatic_return = true");
    folder.write("lax.toml", lax);
    let shown = folder.does("show lax.toml");
    let line = "automatic return: half of all hosts and one more can take everything back\n";
    assert!(shown.contains(line) && !shown.contains("enclave 0x"), "{shown}");
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
        let ours = recover(&digest.0, &EthereumSignature(bytes)).ok();
        assert_eq!(ours.map(|it| it.0), theirs.map(|it| it.into_array()), "{number}");
    }
}

/// Neither proposed nor kept: the pool manager before has missed what was told since.
#[test]
fn an_earlier_pool_manager_is_not_named_again() {
    let folder = Folder::founded();
    let first = folder.in_force();
    let (before, after) =
        ("0x0101010101010101010101010101010101010101", "0x0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    folder.write("new.toml", first.replace(before, after).replace("22000000", "22000001"));
    folder.propose();
    let line =
        format!("pool manager: {after}, pools of code c0c0c0c0c0c0c0c0c0c0c0c0.., from block 22000001");
    assert!(folder.does("show proposal.json").contains(&line));
    folder.all_sign();
    folder.does(APPLY);
    std::fs::remove_file(folder.path("proposal.json")).unwrap();
    let second = folder.does("show data/epochs/2.epoch --toml");
    folder.write("new.toml", second.replace(after, before));
    let propose = "propose --manifest manifest.toml --data-dir data --new new.toml --out proposal.json";
    folder.refuses(propose, &["was the pool manager before"]);
    // Whoever proposes it without the epochs before is told when it is to be kept.
    folder.write("second.toml", second);
    folder.does("propose --manifest second.toml --new new.toml --out proposal.json");
    folder.all_sign();
    folder.refuses(APPLY, &["was the pool manager before"]);
    assert_eq!(folder.newest().epoch, 2);
}

#[test]
fn editions_that_can_not_follow_are_refused() {
    let folder = Folder::founded();
    let (in_force, propose) = (
        folder.in_force(),
        "propose --manifest manifest.toml --data-dir data --new new.toml --out proposal.json",
    );
    let third = format!("host_key = \"0x{}\"\nmachine = 0", "03".repeat(32));
    let keys = enclave(3, 0).signing.to_string();
    let (pays, governs) = (wallet(0x12).address(), wallet(3).address());
    let cases = [
        ("leader = 2", "leader = 2", "changes nothing"),
        ("chain_id = 1", "chain_id = 2", "`network`"),
        ("0x0202", "0x0303", "`contracts.deposit`"),
        ("start_block = 22000000", "start_block = 1", "`contracts.start_block without the pool manager`"),
        ("start_block = 22000000\n", "", "start_block"),
        ("0x1111", "0x1112", "measurement `first` is missing"),
        ("leader = 2", "leader = 9", "leader"),
        ("epoch = 1", "epoch = 5", "of epoch 5"),
        ("leader = 2", "leader = ", "not a manifest"),
        (&third, &third.replace("machine = 0", "machine = 2"), "machine 2 of member 3 where 0 to 1 may be"),
        (
            &third,
            &third.replace("machine = 0", "machine = 1"),
            "the enclave of member 3 changes with its machine",
        ),
        (&keys, &enclave(3, 1).signing.to_string(), "the enclave of member 3 changes with its machine"),
        (&keys, &enclave(2, 0).signing.to_string(), "members[2].enclave"),
        (&format!("{pays:#x}"), &format!("{governs:#x}"), "members[1].wallet"),
        ("quorum = 2", "quorum = 3", "agreement.quorum"),
    ];
    for (from, to, word) in cases {
        assert!(in_force.contains(from), "{from}");
        folder.write("new.toml", in_force.replacen(from, to, 1));
        folder.refuses(propose, &["new.toml", word]);
        assert!(!folder.path("proposal.json").exists());
    }
    folder.write("new.toml", "");
    folder.refuses(propose, &["new.toml", "not a manifest"]);
    folder.write("new.toml", [0xff, 0xfe]);
    folder.refuses(propose, &["new.toml", "not a manifest"]);
    // Nobody founds a DAO without enclaves.
    folder.write("new.toml", manifest().replace("leader = 1", "leader = 2"));
    let founding = propose.replace("--data-dir data ", "");
    folder.refuses(&founding, &["members[0].enclave", "every epoch but the first names all enclaves"]);
    folder.refuses("propose --manifest manifest.toml --new none.toml --out proposal.json", &["none.toml"]);
    folder.refuses("propose --manifest none.toml --new new.toml --out proposal.json", &["none.toml"]);
    // Somebody's signatures are in the way.
    folder.write("new.toml", in_force.replace("leader = 2", "leader = 3"));
    folder.write("proposal.json", "mine");
    folder.refuses(propose, &["proposal.json", "is there already"]);
    assert_eq!(folder.text("proposal.json"), "mine");
}

#[test]
fn signatures_that_are_none_leave_a_proposal_as_it_is() {
    let folder = Folder::founded();
    folder.propose();
    let before = folder.text("proposal.json");
    let cases: [(&str, &[&str]); 11] = [
        ("--member 1 --key-file 2.key", &["signature of member 1", "not by 0x7e5f"]),
        // The account that pays for member 1 does not govern.
        ("--member 1 --key-file paying.key", &["signature of member 1", "not by 0x7e5f"]),
        ("--member 4 --key-file 4.key", &["member 4 is no member"]),
        ("--member 0 --key-file 1.key", &["member 0 is no member"]),
        ("--member 1 --key-file none.key", &["none.key"]),
        ("--member 1 --key-file manifest.toml", &["manifest.toml", "no hexadecimal digit"]),
        ("--member 1 --key-file empty.key", &["empty.key", "0 hexadecimal digits"]),
        ("--member 1 --key-file zero.key", &["zero.key", "not a wallet's key"]),
        ("--member 1 --signature 0x00", &["--signature", "130"]),
        ("--member 1 --signature hello", &["--signature"]),
        ("--member 1 --signature ZEROS", &["signature of member 1", "out of range"]),
    ];
    folder.write("paying.key", format!("{:064x}", 0x11));
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
    let folder = Folder::founded();
    folder.propose();
    folder.sign(1);
    folder.sign(2);
    let good = folder.text("proposal.json");
    let mut value: Value = serde_json::from_str(&good).unwrap();
    let predecessor = value["predecessor"].clone();
    let alterations: [(&str, Value, &str); 9] = [
        ("/changes/0", "leader: member 1".into(), "`changes`"),
        ("/typed_data/message/changes", "leader: member 1".into(), "`typed_data`"),
        ("/typed_data/domain/chainId", 5.into(), "`typed_data`"),
        ("/manifest", predecessor, "epoch 1 where 2 is due"),
        ("/manifest", "0x0300".into(), "reads version 6, not 3"),
        ("/manifest", "0x0600".into(), "malformed"),
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
    assert!(!folder.path("data/epochs/2.epoch").exists());
}

#[test]
fn gaps_and_forks_are_refused() {
    let folder = Folder::new();
    folder.propose();
    folder.all_sign();
    // Another manifest for the same epoch, by as many.
    folder.write("new.toml", founding().replace("leader = 2", "leader = 3"));
    folder.does("propose --manifest manifest.toml --new new.toml --out fork.json");
    for id in 1..=3 {
        folder.does(&format!("sign fork.json --member {id} --key-file {id}.key"));
    }
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
    let KeptEpochs { epochs, newest, .. } = load_epochs(Path::new(&folder.path("data")), &later).unwrap();
    assert_eq!((epochs.len(), newest.epoch), (1, 2));
    folder.refuses(
        "apply proposal.json --manifest later.toml --data-dir data",
        &["does not come after epoch 1"],
    );
}
