//! `postern attest` and `postern status` as people and scripts meet them: real reports of AMD's machines, and evidence of
//! a simulated enclave.
#![cfg(feature = "devnet")]

use postern_attestation::Binding;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::{ForkVersion, Network, Root};
use postern_shared::identity::{AgreementKey, EnclaveKeys, SigningKey};
use postern_shared::ids::{Address, ChipId, Digest, Measurement, MemberId, Nonce};
use postern_shared::manifest::{
    Agreement, Contracts, History, HostKey, MANIFEST_VERSION, Manifest, Member, Thresholds,
};
use postern_shared::message::{Attestation, Evidence};
use postern_shared::policy::{AllowedMeasurement, AttestationRules, Trust};
use postern_simulation::{Machine, ReportFields, SoftwarePsp, trust_anchor};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NOW: [&str; 2] = ["--at", "2026-11-20T00:00:00Z"];

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/snp").join(name)
}

/// A folder as `snpguest` leaves it, without the root, which is compiled in.
fn certificates(line: &str, leaf: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(vector(&format!("amd-{line}-ask.der")), folder.path().join("ask.der")).unwrap();
    std::fs::copy(vector(leaf), folder.path().join("vcek.der")).unwrap();
    folder
}

fn postern(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    for argument in arguments {
        command.arg(argument);
    }
    command.output().unwrap()
}

fn verify(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> (bool, Value) {
    let run =
        postern(&[&[&"attest" as &dyn AsRef<std::ffi::OsStr>, &"verify", &"--json"], arguments].concat());
    let text = String::from_utf8(run.stdout).unwrap();
    let verdict = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&run.stderr)));
    (run.status.success(), verdict)
}

/// The names of the checks that failed.
fn failed(verdict: &Value) -> Vec<&str> {
    let checks = verdict["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["ok"] == false).map(|check| check["name"].as_str().unwrap()).collect()
}

#[test]
fn real_reports_get_their_verdicts() {
    for (name, line, expected) in [
        ("confai-siena", "genoa", &["mitigations"][..]),
        ("msft-tav-turin", "turin", &["tcb_floor"]),
        ("veraison-genoa", "genoa", &["tcb_floor", "firmware_version", "mitigations"]),
        ("dstack-milan", "milan", &["product", "tcb_floor", "firmware_version", "mitigations"]),
    ] {
        let folder = certificates(line, &format!("{name}-vcek.der"));
        let report = vector(&format!("{name}-report.bin"));
        let (success, verdict) =
            verify(&[&"--report", &report, &"--certs", &folder.path(), &NOW[0], &NOW[1]]);
        assert_eq!(failed(&verdict), expected, "{name}");
        assert_eq!(success, expected.is_empty(), "{name}");
        assert_eq!(verdict["verdict"], if success { "accept" } else { "refuse" });
        assert_eq!((&verdict["version"], &verdict["simulated"]), (&1.into(), &false.into()));
        assert_eq!(verdict["product"].as_str().unwrap().to_lowercase(), line);
    }
}

#[test]
fn the_verdict_names_every_check_that_can_be_made() {
    let folder = certificates("genoa", "confai-siena-vcek.der");
    let report = vector("confai-siena-report.bin");
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"--report", &report, &"--certs", &folder.path(), &NOW[0], &NOW[1]];
    let (_, verdict) = verify(&arguments);
    let names: Vec<&str> =
        verdict["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    let always = [
        "report_signature",
        "chain",
        "validity",
        "crl",
        "product",
        "chip_id",
        "leaf_tcb",
        "tcb_floor",
        "firmware_committed",
        "vmpl",
        "guest_policy",
        "platform_info",
        "reserved",
    ];
    let by_manifest = ["measurement", "report_data", "host_data"];
    assert!(always.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(by_manifest.iter().all(|name| !names.contains(name)), "only a manifest can answer them");
    // The report data of a bare report is what its maker chose: here a text.
    let data = hex::encode("hello-attestation");
    let (_, verdict) = verify(&[&arguments[..], &[&"--nonce", &data]].concat());
    assert_eq!(failed(&verdict), ["mitigations"], "the machine is below today's floor");
    let (success, verdict) = verify(&[&arguments[..], &[&"--nonce", &"00"]].concat());
    assert!(!success);
    assert_eq!(failed(&verdict), ["mitigations", "report_data"]);
}

#[test]
fn all_failures_are_said_at_once() {
    let folder = certificates("milan", "gosev-vcek.der");
    let report = vector("gosev-attestation.bin");
    let (success, verdict) = verify(&[&"--report", &report, &"--certs", &folder.path(), &"--at", &"0"]);
    assert!(!success);
    assert_eq!(
        failed(&verdict),
        ["validity", "product", "tcb_floor", "guest_policy", "platform_info"],
        "{verdict:#}"
    );
}

#[test]
fn a_report_is_read_in_every_form_that_people_have_it_in() {
    let folder = certificates("genoa", "confai-siena-vcek.der");
    let report = std::fs::read(vector("confai-siena-report.bin")).unwrap();
    let lines: Vec<String> = hex::encode(&report)
        .as_bytes()
        .chunks(60)
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect();
    let mut answer = [&[0; 4], &1184_u32.to_le_bytes()[..], &[0; 24], &report].concat();
    answer.resize(4000, 0);
    let hcl = [b"HCLA", &[0; 28][..], &report, &[0; 8], &[2, 0, 0, 0], b"{\"keys\":[]}"].concat();
    for (name, content) in [("xxd", lines.join("\n").into_bytes()), ("answer", answer), ("hcl", hcl)] {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let (_, verdict) = verify(&[&"--report", &file, &"--certs", &folder.path(), &NOW[0], &NOW[1]]);
        assert_eq!(failed(&verdict), ["mitigations"], "{name}: {verdict:#}");
    }
    let file = folder.path().join("refused");
    std::fs::write(&file, [&[0x16, 0, 0, 0][..], &[0; 3996]].concat()).unwrap();
    let run = postern(&[&"attest", &"show", &file]);
    assert!(!run.status.success());
    assert!(String::from_utf8(run.stderr).unwrap().contains("MSG_REPORT_RSP"));
}

#[test]
fn the_floors_are_printed_and_every_value_that_is_too_low() {
    let run = postern(&[&"attest", &"floors"]);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success());
    assert!(text.contains("Bergamo, Siena (19/a0/2)") && text.contains("Turin Dense (1a/11/0)"), "{text}");
    let run = postern(&[&"attest", &"floors", &vector("veraison-genoa-report.bin")]);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(!run.status.success());
    let low: Vec<&str> = text.lines().filter(|line| line.starts_with("TOO LOW")).collect();
    assert_eq!(low.len(), 10, "{text}");
    assert!(low.contains(&"TOO LOW  reported_tcb: SNP 23, 27 wanted"));
    assert!(text.ends_with("10 of the report's values are too low for 19/11/1\n"), "{text}");
    // And shown field by field.
    let run = postern(&[&"attest", &"show", &vector("veraison-genoa-report.bin")]);
    let text = String::from_utf8(run.stdout).unwrap();
    for field in ["reported_tcb", "committed_tcb", "launch_tcb", "current_firmware", "launch_mitigations"] {
        let line = text.lines().find(|line| line.starts_with(field)).expect(field);
        assert!(line.contains("REFUSED") && line.contains("TOO LOW"), "{line}");
    }
}

#[test]
fn a_report_of_a_later_version_is_shown_and_refused() {
    let folder = certificates("genoa", "confai-siena-vcek.der");
    let mut report = std::fs::read(vector("confai-siena-report.bin")).unwrap();
    report[0] = 6;
    let file = folder.path().join("later");
    std::fs::write(&file, report).unwrap();
    let (success, verdict) = verify(&[&"--report", &file, &"--certs", &folder.path(), &NOW[0], &NOW[1]]);
    assert!(!success);
    assert_eq!(failed(&verdict), ["report_format"]);
    let text = String::from_utf8(postern(&[&"attest", &"show", &file]).stdout).unwrap();
    assert!(text.contains("10/0/27/27"), "{text}");
}

/// A simulated enclave's evidence for an auditor, and its DAO's manifest, as files.
struct Files {
    folder: tempfile::TempDir,
    manifest: Manifest,
    attestation: Attestation,
}

fn machine(id: u8) -> Machine {
    Machine { chip_seed: [id; 32], measurement: [0x33; 48], ..Machine::default() }
}

fn manifest() -> Manifest {
    let member = |id: u8| Member {
        id: MemberId(id.into()),
        name: format!("member {id}"),
        wallet: Address([id; 20]),
        governance: Address([0x10 | id; 20]),
        host_key: HostKey([id; 32]),
        machine: 0,
        enclave: None,
        chip_ids: vec![ChipId(machine(id).chip_id())],
        operator: true,
        guardian: true,
    };
    Manifest {
        version: MANIFEST_VERSION,
        name: "test".into(),
        epoch: 0,
        leader: MemberId(1),
        history: None,
        network: Network {
            chain_id: 1,
            genesis_fork_version: ForkVersion([0; 4]),
            capella_fork_version: ForkVersion([3; 4]),
            genesis_validators_root: Root([4; 32]),
        },
        contracts: Contracts {
            pool_manager: Address([1; 20]),
            pool_code: Digest([5; 32]),
            start_block: 22_000_000,
            deposit: Address([2; 20]),
        },
        thresholds: Thresholds { operator: 2, guardian: 2, proof: 2 },
        agreement: Agreement { quorum: 2, automatic_return: false, cut: None },
        attestation: AttestationRules {
            measurements: vec![AllowedMeasurement::new("enclave", Measurement(machine(1).measurement))],
            ..AttestationRules::strict(Trust::Simulation { root: Digest(trust_anchor().fingerprint()) })
        },
        members: (1..=3).map(member).collect(),
    }
}

/// Made-up keys of an enclave.
fn keys(byte: u8) -> EnclaveKeys {
    EnclaveKeys {
        signing: SigningKey([byte; 32]),
        agreement: AgreementKey([byte; 32]),
        dealing: PublicKey([byte; 48]),
        signer: Address([0x80 | byte; 20]),
    }
}

fn evidence() -> Files {
    let manifest = manifest();
    let identity = keys(1).identity(MemberId(2), 0);
    let (challenge, response) = (Nonce([1; 32]), Nonce([2; 32]));
    let binding =
        Binding { manifest: manifest.hash(), prover: &identity, verifier: None, challenge, response };
    let psp = SoftwarePsp::new(Machine { host_data: manifest.hash().0, ..machine(2) });
    let report = psp.sign(&ReportFields::honest(psp.machine(), &binding.report_data()));
    let evidence = Evidence { report, certificates: psp.certificates() };
    let attestation = Attestation { identity, verifier: None, challenge, response, evidence };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("manifest.toml"), manifest.to_toml().unwrap()).unwrap();
    std::fs::write(folder.path().join("evidence.json"), serde_json::to_vec(&attestation).unwrap()).unwrap();
    Files { folder, manifest, attestation }
}

impl Files {
    fn verify(&self, more: &[&dyn AsRef<std::ffi::OsStr>]) -> (bool, Value) {
        let (evidence, manifest) =
            (self.folder.path().join("evidence.json"), self.folder.path().join("manifest.toml"));
        verify(&[&[&"--evidence" as &dyn AsRef<_>, &evidence, &"--manifest", &manifest], more].concat())
    }
}

#[test]
fn evidence_is_held_against_the_manifest_and_the_nonce() {
    let files = evidence();
    let (success, verdict) = files.verify(&[&"--nonce", &"01".repeat(32)]);
    assert!(success, "{verdict:#}");
    assert_eq!(verdict["simulated"], true, "and it is said that nothing is protected");
    assert!(files.verify(&[]).0);
    let (success, verdict) = files.verify(&[&"--nonce", &"09".repeat(32)]);
    assert!(!success);
    assert_eq!(failed(&verdict), ["report_data"]);

    // Under another manifest nothing of it is right.
    let mut other = files.manifest.clone();
    other.name = "another DAO".into();
    other.attestation.measurements[0].digest.0 = [7; 48];
    std::fs::write(files.folder.path().join("manifest.toml"), other.to_toml().unwrap()).unwrap();
    assert_eq!(failed(&files.verify(&[]).1), ["measurement", "host_data", "report_data"]);

    // The enclave that the manifest names for the member is another one.
    let mut named = files.manifest.clone();
    named.epoch = 1;
    named.history = Some(History { genesis: files.manifest.hash(), predecessor: files.manifest.hash() });
    for (member, byte) in named.members.iter_mut().zip(10..) {
        member.enclave = Some(keys(byte));
    }
    let own = named.members[1].enclave.replace(keys(1));
    std::fs::write(files.folder.path().join("manifest.toml"), named.to_toml().unwrap()).unwrap();
    let (success, verdict) = files.verify(&[]);
    assert!(success, "the one that it names: {verdict:#}");
    named.members[1].enclave = own;
    std::fs::write(files.folder.path().join("manifest.toml"), named.to_toml().unwrap()).unwrap();
    let (success, verdict) = files.verify(&[]);
    assert!(!success);
    assert_eq!(failed(&verdict), ["report_data"]);
    assert!(verdict.to_string().contains("the enclave that the manifest names"), "{verdict:#}");

    // Without a manifest there is no simulated root to believe in.
    let file = files.folder.path().join("evidence.json");
    let (success, verdict) = verify(&[&"--evidence", &file]);
    assert!(!success);
    assert!(failed(&verdict).contains(&"chain"));
}

#[test]
fn a_simulation_is_shown_as_one() {
    let files = evidence();
    let (evidence, manifest) =
        (files.folder.path().join("evidence.json"), files.folder.path().join("manifest.toml"));
    let run = postern(&[&"attest", &"show", &evidence, &"--manifest", &manifest]);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success());
    assert!(text.starts_with("SIMULATED: judged by a simulated root. Nothing is protected."), "{text}");
    assert!(text.contains("SMT on, ECC, memory alias check done") && text.ends_with("every check holds\n"));
}

#[test]
fn a_bare_report_is_shown_but_never_accepted() {
    let files = evidence();
    let report = files.folder.path().join("report.bin");
    std::fs::write(&report, &files.attestation.evidence.report).unwrap();
    let run = postern(&[&"attest", &"show", &report]);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success());
    assert!(
        text.ends_with("not verified: there are no certificates (--certs) to say who signed it\n"),
        "{text}"
    );
    // What is wrong with it by itself is said without any.
    let run = postern(&[&"attest", &"show", &vector("confai-siena-report.bin")]);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success() && text.ends_with("REFUSED: one check fails\n"), "{text}");
}

#[test]
fn what_is_exported_can_be_read_again() {
    let files = evidence();
    let (evidence, out) = (files.folder.path().join("evidence.json"), files.folder.path().join("out"));
    assert!(postern(&[&"attest", &"export", &evidence, &"--dir", &out]).status.success());
    assert_eq!(std::fs::read(out.join("report.bin")).unwrap(), files.attestation.evidence.report);
    let manifest = files.folder.path().join("manifest.toml");
    let (success, verdict) =
        verify(&[&"--report", &out.join("report.bin"), &"--certs", &out, &"--manifest", &manifest]);
    assert!(success, "{verdict:#}");
    let again = postern(&[&"attest", &"export", &evidence, &"--dir", &out]);
    assert!(!again.status.success(), "nothing is written over");
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let files = evidence();
    let folder = files.folder.path();
    let good = std::fs::read_to_string(folder.join("evidence.json")).unwrap();
    for (name, content) in [
        ("empty", Vec::new()),
        ("cut", good.as_bytes()[..good.len() / 2].to_vec()),
        ("more", [good.as_bytes(), b"x"].concat()),
        ("huge", vec![b' '; (1 << 20) + 1]),
        ("binary", vec![0xff; 100]),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, content).unwrap();
        let run = postern(&[&"attest", &"verify", &"--evidence", &file]);
        let text = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success() && text.lines().count() == 1 && text.contains(name), "{name}: {text}");
    }
    // What is short or long is for the verdict to say, with the certificates' own.
    let certs = certificates("genoa", "confai-siena-vcek.der");
    for (name, length) in [("empty", 0), ("short", 1183), ("long", 1185)] {
        let file = folder.join(name);
        std::fs::write(&file, vec![0; length]).unwrap();
        let (success, verdict) = verify(&[&"--report", &file, &"--certs", &certs.path(), &NOW[0], &NOW[1]]);
        assert!(!success);
        assert_eq!(failed(&verdict), ["report_format"]);
        assert_eq!(verdict["report_version"], Value::Null);
    }
    let mut stranger = files.attestation.clone();
    stranger.identity.member = MemberId(9);
    std::fs::write(folder.join("evidence.json"), serde_json::to_vec(&stranger).unwrap()).unwrap();
    let (evidence, manifest) = (folder.join("evidence.json"), folder.join("manifest.toml"));
    let run = postern(&[&"attest", &"verify", &"--evidence", &evidence, &"--manifest", &manifest]);
    assert!(String::from_utf8(run.stderr).unwrap().contains("the manifest has no member 9"));
    let length = postern(&[&"attest", &"verify", &"--evidence", &evidence, &"--nonce", &"0"]);
    assert!(!length.status.success());
}
