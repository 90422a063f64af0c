//! Dry runs: what `postern vm run` says before there is a VM.

use super::*;
use crate::config::tests::{CONFIG, manifest};
use crate::image::CPU_MODELS;
use crate::measure::command::Row;
use crate::measure::id_block::{IdBlock, PublisherKey, id_auth};
use crate::measure::{Firmware, KernelHashes, Launch};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use p384::SecretKey;
use p384::pkcs8::{EncodePrivateKey, LineEnding};
use postern_attestation::GuestPolicy;
use postern_shared::manifest::Manifest;
use postern_shared::policy::{AllowedMeasurement, AttestationRules, KeyDigest, Rule};
use tempfile::TempDir;

const WORDS: &str = "quiet panic=-1";
/// Of a CPU model's digest in the manifest.
const GENOA: &str = "EPYC-Genoa";

/// `postern vm run`'s arguments alone.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    run: RunArguments,
}

/// A member's folder, with an image that its manifest lists for Genoa.
struct Bench {
    folder: TempDir,
    manifest: Manifest,
}

fn key(seed: u8) -> PublisherKey {
    let secret = SecretKey::from_slice(&[seed; 48]).unwrap();
    PublisherKey::from_pem(&secret.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap()
}

fn digest_of(key: &PublisherKey) -> KeyDigest {
    KeyDigest(key.digest().0)
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { folder: tempfile::tempdir().unwrap(), manifest: manifest() };
        let vector = format!("{}/../tests/vectors/snp/ovmf_AmdSev_suffix.bin", env!("CARGO_MANIFEST_DIR"));
        bench.write("image/firmware.fd", &std::fs::read(vector).unwrap());
        bench.write("image/vmlinuz", &[7; 5000]);
        bench.write("image/image.cpio", &[8; 6000]);
        bench.write("image/cmdline", WORDS.as_bytes());
        bench.measure(&CPU_MODELS);
        let listed = AllowedMeasurement::new("listed", bench.digest(GENOA));
        bench.rules(|rules| rules.measurements = vec![listed]);
        bench.address("vsock:3:5000");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn digest(&self, cpu: &str) -> Measurement {
        let file = |name| std::fs::read(self.path(name)).unwrap();
        let firmware = Firmware::parse(file("image/firmware.fd")).unwrap();
        let hashes = KernelHashes::new(&file("image/vmlinuz"), &file("image/image.cpio"), WORDS).unwrap();
        let launch = Launch::new(&firmware, Some(&hashes)).unwrap();
        launch.digest(1, cpu.parse().unwrap(), crate::measure::GuestFeatures(1)).unwrap()
    }

    fn measure(&self, models: &[&str]) {
        let rows = models.iter().map(|model| Row {
            vcpus: 1,
            cpu: (*model).to_owned(),
            guest_features: 1,
            digest: hex::encode(self.digest(model).0),
        });
        let rows: Vec<Row> = rows.collect();
        self.write("image/measurements.json", &serde_json::to_vec(&rows).unwrap());
    }

    fn rules(&mut self, edit: impl FnOnce(&mut AttestationRules)) {
        edit(&mut self.manifest.attestation);
        self.write("manifest.toml", self.manifest.to_toml().unwrap().as_bytes());
    }

    fn address(&self, address: &str) {
        self.write("config.toml", CONFIG.replace("unix:enclave.sock", address).as_bytes());
    }

    /// Signs the image for this model's digest, and has the manifest know the keys.
    fn sign(&mut self, model: &str, policy: u64, svn: u32) {
        let (id, author) = (key(1), key(2));
        let digest = self.digest(model);
        let block = IdBlock::new(digest, GuestPolicy(policy), [0; 16], [0; 16], svn).unwrap();
        let auth = id_auth(&block, &id, Some(&author));
        self.write(&format!("image/{model}.id-block.base64"), STANDARD.encode(block.to_bytes()).as_bytes());
        self.write(&format!("image/{model}.id-auth.base64"), STANDARD.encode(auth).as_bytes());
        self.rules(|rules| {
            (rules.id_keys, rules.author_keys) = (vec![digest_of(&id)], vec![digest_of(&author)]);
        });
    }

    fn arguments(&self, more: &[&str]) -> Result<RunArguments, clap::Error> {
        let (config, image) = (self.path("config.toml"), self.path("image"));
        let words = ["run", "--config", config.to_str().unwrap(), "--image", image.to_str().unwrap()];
        Cli::try_parse_from(words.into_iter().chain(more.iter().copied())).map(|cli| cli.run)
    }

    fn plan_with(&self, more: &[&str]) -> Result<Machine, VmError> {
        self.arguments(more).unwrap().plan()
    }

    fn plan(&self) -> Result<Machine, VmError> {
        self.plan_with(&["--cpu", GENOA])
    }

    fn objections(&self) -> Vec<Objection> {
        match self.plan().unwrap_err() {
            VmError::Objections(objections) => objections,
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_peers_accept_is_started_as_the_manifest_wants_it() {
    let mut bench = Bench::new();
    let machine = bench.plan().unwrap();
    assert_eq!((machine.policy, &machine.id_block, machine.serial), (GuestPolicy(0x3_0000), &None, false));
    assert_eq!(machine.host_data, bench.manifest.hash().0);
    assert_eq!(machine.command_line, WORDS);
    bench.rules(|rules| {
        rules.guest_policy.smt = Rule::Forbidden;
        rules.guest_policy.page_swap_disable = Rule::Required;
    });
    let arguments = bench.plan().unwrap().arguments().join(" ");
    assert!(arguments.contains("policy=0x2020000,"), "{arguments}");
}

#[test]
fn an_epoch_that_allows_more_keeps_the_policy_to_which_logs_are_sealed() {
    let mut bench = Bench::new();
    let strict = |rules: &mut AttestationRules| rules.guest_policy.smt = Rule::Forbidden;
    bench.rules(strict);
    let genesis = bench.manifest.clone();
    let later = |edit: fn(&mut AttestationRules)| {
        let mut later = genesis.clone();
        edit(&mut later.attestation);
        let examined = examine(&bench.path("image"), GENOA.parse().unwrap(), WORDS, (&genesis, &later), None);
        let (terms, objections) = examined.unwrap();
        (terms.policy.0, objections)
    };
    assert_eq!(later(|rules| rules.guest_policy.smt = Rule::Any), (0x2_0000, vec![]));
    // It accepts the first one's no more.
    assert_eq!(later(|rules| rules.guest_policy.smt = Rule::Required), (0x3_0000, vec![]));
    assert_eq!(later(|rules| rules.guest_policy.single_socket = Rule::Required), (0x12_0000, vec![]));
}

#[test]
fn another_policy_can_be_asked_for_if_peers_accept_it() {
    let mut bench = Bench::new();
    let asked = |bench: &Bench, policy| bench.plan_with(&["--cpu", GENOA, "--policy", policy]);
    assert_eq!(asked(&bench, "0x20000").unwrap().policy, GuestPolicy(0x2_0000));
    bench.rules(|rules| rules.guest_policy.smt = Rule::Required);
    let (found, expected) = (GuestPolicy(0x2_0000), GuestPolicy(0x3_0000));
    let refused = asked(&bench, "0x20000").unwrap_err();
    assert!(
        matches!(&refused, VmError::Objections(all) if *all == [Objection::Policy { found, expected }]),
        "{refused}"
    );
    // A block is for one policy.
    bench.sign(GENOA, 0x3_0000, 0);
    assert!(bench.plan().is_ok());
    assert!(matches!(asked(&bench, "0x20000"), Err(VmError::Objections(_))));
    assert!(bench.arguments(&["--policy=strict"]).is_err());
}

#[test]
fn an_id_block_without_an_author_is_launched_without() {
    let mut bench = Bench::new();
    bench.sign(GENOA, 0x3_0000, 0);
    let with_author = |bench: &Bench| bench.plan().unwrap().arguments().join(" ");
    assert!(with_author(&bench).contains("author-key-enabled=on"));
    let (id, digest) = (key(1), bench.digest(GENOA));
    let block = IdBlock::new(digest, GuestPolicy(0x3_0000), [0; 16], [0; 16], 0).unwrap();
    let auth = STANDARD.encode(id_auth(&block, &id, None));
    bench.write(&format!("image/{GENOA}.id-auth.base64"), auth.as_bytes());
    assert!(matches!(bench.objections()[..], [Objection::Key { which: "author", .. }]));
    bench.rules(|rules| rules.author_keys = vec![]);
    assert!(with_author(&bench).contains("author-key-enabled=off"));
}

#[test]
fn a_model_that_starts_alike_has_the_same_id_block_however_it_is_spelt() {
    let mut bench = Bench::new();
    bench.sign(GENOA, 0x3_0000, 0);
    let block = bench.plan().unwrap().id_block;
    assert!(block.is_some());
    for spelling in ["EPYC-Genoa-v1", "EPYC-Genoa-v2"] {
        assert_eq!(bench.plan_with(&["--cpu", spelling]).unwrap().id_block, block, "{spelling}");
    }
}

#[test]
fn arguments_that_no_machine_has_are_refused() {
    let bench = Bench::new();
    for (argument, values) in [
        ("--cpu", &["host", "EPYC-Venus", "EPYC-Genoa-v9", "epyc-genoa", ""][..]),
        ("--cbitpos", &["0", "31", "64", "99", "-1", "fifty"]),
        ("--memory", &["0", "128", "513", "2816", "512M"]),
    ] {
        for value in values {
            let refused = bench.arguments(&[&format!("{argument}={value}")]).unwrap_err().to_string();
            assert!(refused.contains(argument), "{argument} {value}: {refused}");
        }
    }
    let known = bench.arguments(&["--cpu=host"]).unwrap_err().to_string();
    assert!(known.contains(GENOA) && known.contains("EPYC-v4"), "{known}");
}

#[test]
fn addresses_that_no_vm_has_are_refused() {
    let bench = Bench::new();
    for address in [
        "vsock:0:5000",
        "vsock:1:5000",
        "vsock:2:5000",
        "vsock:4294967295:5000",
        "vsock:3:6000",
        "unix-connect:enclave.sock:6000",
        "unix:enclave.sock",
    ] {
        bench.address(address);
        assert!(matches!(bench.plan(), Err(VmError::Address { .. })), "{address}");
    }
}

#[test]
fn a_command_line_is_what_was_measured_or_nothing() {
    let bench = Bench::new();
    for words in ["quiet panic=-1\n", "quiet\tpanic=-1", "quiet\0", "\u{1b}quiet"] {
        bench.write("image/cmdline", words.as_bytes());
        assert!(matches!(bench.plan(), Err(VmError::CommandLine(_))), "{words:?}");
    }
    for words in [" quiet panic=-1", "quiet panic=-1 "] {
        bench.write("image/cmdline", words.as_bytes());
        assert!(matches!(bench.plan(), Err(VmError::Kernel(_))), "{words:?}");
    }
    bench.write("image/cmdline", b"quiet panic=-1 debug");
    assert!(matches!(bench.plan(), Err(VmError::OtherThanMeasured { .. })));
}

#[test]
fn an_image_that_is_not_what_was_measured_is_refused() {
    for name in ["vmlinuz", "image.cpio", "firmware.fd"] {
        let bench = Bench::new();
        let path = bench.path(&format!("image/{name}"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(bench.plan(), Err(VmError::OtherThanMeasured { .. })), "{name}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(bench.plan(), Err(VmError::File { .. })), "{name}");
    }
    let bench = Bench::new();
    bench.write("image/firmware.fd", &[0; 4096]);
    assert!(matches!(bench.plan(), Err(VmError::Firmware(_))));
    // Nobody has measured it for that processor, or for any.
    let bench = Bench::new();
    assert!(matches!(bench.plan_with(&["--cpu", "EPYC-Rome"]), Err(VmError::OtherThanMeasured { .. })));
    bench.write("image/measurements.json", b"[]");
    assert!(matches!(bench.plan(), Err(VmError::OtherThanMeasured { .. })));
    bench.write("image/measurements.json", b"{");
    assert!(matches!(bench.plan(), Err(VmError::Measurements { .. })));
    std::fs::remove_file(bench.path("image/measurements.json")).unwrap();
    assert!(matches!(bench.plan(), Err(VmError::File { .. })));
}

#[test]
fn an_image_that_the_manifest_does_not_list_is_refused_unless_it_is_looked_at() {
    let bench = Bench::new();
    let refused = |more: &[&str]| match bench.plan_with(more) {
        Err(VmError::Objections(objections)) => objections,
        other => panic!("{other:?}"),
    };
    let [Objection::NotListed { digest, epoch: 0, .. }] = refused(&["--cpu", "EPYC-Milan"])[..] else {
        panic!()
    };
    assert_eq!(digest, bench.digest("EPYC-Milan"));
    let looked_at = bench.plan_with(&["--cpu", "EPYC-Milan", "--debug"]).unwrap();
    assert!(looked_at.serial && looked_at.arguments().join(" ").contains("-serial stdio"));

    // In this epoch.
    let mut bench = Bench::new();
    let milan = AllowedMeasurement::new("other", bench.digest("EPYC-Milan"));
    bench.rules(|rules| {
        rules.measurements[0].from_epoch = 1;
        rules.measurements.push(milan);
    });
    assert!(matches!(bench.objections()[..], [Objection::NotListed { .. }]));
}

#[test]
fn an_id_block_that_peers_would_refuse_is_refused() {
    let mut bench = Bench::new();
    bench.sign(GENOA, 0x3_0000, 3);
    bench.rules(|rules| rules.guest_svn = 3);
    assert!(bench.plan().is_ok());

    bench.rules(|rules| rules.guest_svn = 4);
    assert_eq!(bench.objections(), [Objection::Svn { found: 3, least: 4 }]);
    bench.rules(|rules| {
        rules.guest_svn = 0;
        rules.guest_policy.smt = Rule::Forbidden;
    });
    let (found, expected) = (GuestPolicy(0x3_0000), GuestPolicy(0x2_0000));
    assert_eq!(bench.objections(), [Objection::Policy { found, expected }]);
    bench.rules(|rules| {
        rules.guest_policy.smt = Rule::Any;
        rules.id_keys = vec![KeyDigest([9; 48])];
        rules.author_keys = vec![KeyDigest([9; 48])];
    });
    let strange = |which, seed| Objection::Key { which, found: digest_of(&key(seed)) };
    assert_eq!(bench.objections(), [strange("id", 1), strange("author", 2)]);
    bench.rules(|rules| (rules.id_keys, rules.author_keys) = (vec![digest_of(&key(1))], vec![]));
    assert_eq!(bench.objections(), [strange("author", 2)]);
    bench.rules(|rules| rules.id_keys = vec![]);
    assert_eq!(bench.objections(), [Objection::Signed]);
}

#[test]
fn an_image_without_the_id_block_that_the_manifest_wants_is_refused() {
    let mut bench = Bench::new();
    bench.rules(|rules| rules.id_keys = vec![KeyDigest([9; 48])]);
    assert_eq!(bench.objections(), [Objection::Unsigned]);
    // There are some, for others.
    bench.sign("EPYC-Milan", 0x3_0000, 0);
    assert!(matches!(bench.plan(), Err(VmError::NoFittingBlock { .. })));
}

#[test]
fn an_id_block_that_can_not_be_read_is_refused() {
    let mut bench = Bench::new();
    bench.sign(GENOA, 0x3_0000, 0);
    let [block, auth] = ["block", "auth"].map(|part| format!("image/{GENOA}.id-{part}.base64"));
    let good = [&block, &auth].map(|name| std::fs::read(bench.path(name)).unwrap());
    for (name, bad) in [(&block, &b"QQ=="[..]), (&block, b"?"), (&auth, b"QQ=="), (&auth, b"?")] {
        bench.write(&block, &good[0]);
        bench.write(&auth, &good[1]);
        assert!(bench.plan().is_ok());
        bench.write(name, bad);
        assert!(matches!(bench.plan(), Err(VmError::IdBlock { .. } | VmError::Base64 { .. })), "{name}");
    }
    bench.write(&auth, &good[1]);
    std::fs::remove_file(bench.path(&auth)).unwrap();
    // The block is read first.
    bench.write(&block, &good[0]);
    assert!(matches!(bench.plan(), Err(VmError::File { .. })));
    let mut later = STANDARD.decode(&good[0]).unwrap();
    later[0x50] = 2;
    bench.write(&block, STANDARD.encode(&later).as_bytes());
    assert!(matches!(bench.plan(), Err(VmError::IdBlock { source: IdBlockError::Version { found: 2 }, .. })));
}

#[test]
fn an_emulated_vm_is_nobodys_secret_and_held_against_nothing() {
    let bench = Bench::new();
    bench.address("unix-connect:enclave.sock:5000");
    std::fs::remove_file(bench.path("image/measurements.json")).unwrap();
    let machine = bench.plan().unwrap();
    assert!(matches!(machine.device, Device::UserSpace { .. }));
    assert_eq!(machine.command_line, format!("{WORDS} {ANY_PORT}"));
}

#[test]
fn only_an_emulated_vm_lets_any_port_in() {
    assert_eq!(told("quiet", &Device::Kernel { cid: 3 }), "quiet");
    let emulated = Device::UserSpace { socket: "s".into(), listener: "l".into() };
    assert_eq!(told("quiet", &emulated), "quiet any-port");
}

#[test]
fn memory_is_what_the_firmware_starts_with() {
    assert_eq!(memory("512"), Ok(512));
    assert_eq!(memory("256"), Ok(256));
    assert_eq!(memory("2814"), Ok(2814));
    for refused in ["", "0", "254", "513", "2816", "-512", "512M", "4294967296"] {
        assert!(memory(refused).is_err(), "{refused}");
    }
}
