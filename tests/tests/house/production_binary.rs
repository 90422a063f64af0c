//! The binary that is shipped, as cargo builds it for shipping: it starts on no machine but an SEV-SNP guest, and
//! nothing of the simulation is in it.
//!
//! The search is tried on this test's own binary too, which links the simulation. What is searched for is therefore read
//! from files and never written here: else the control would find the test instead of the simulation.

use aho_corasick::AhoCorasick;
use postern_attestation::ReportData;
use postern_enclave::platform::Platform;
use postern_simulation::{Machine, SoftwarePsp};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const NAME: &str = "postern-enclave";
const DEVICE: &str = "/dev/sev-guest";

/// A certificate ends with its `AlgorithmIdentifier` and the `BIT STRING` of its RSA-4096 signature: their lengths.
const ALGORITHM: usize = 67;
const BIT_STRING: usize = 517;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let run = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(run.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("text")
}

/// The binary, built for itself alone, so that no other crate's features are in it. Cargo has let go of its lock when it
/// runs tests, and says where the binary is.
fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut arguments = vec![
            "build",
            "--package",
            NAME,
            "--bin",
            NAME,
            "--locked",
            "--offline",
            "--message-format",
            "json",
        ];
        if !cfg!(debug_assertions) {
            arguments.push("--release");
        }
        let messages = cargo(&arguments);
        let mut messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let executable = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
        executable.expect("cargo names the executable")
    })
}

/// Runs the binary to its end, which must come soon.
fn run(arguments: &[&str]) -> Output {
    let mut child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("a child");
            panic!("it serves: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("output")
}

/// What it said: one line, on standard error, and it did not end well.
fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.ends_with('\n') && said.lines().count() == 1, "{said}");
    said
}

#[test]
fn it_starts_on_no_machine_but_an_snp_guest_and_says_why() {
    assert!(!Path::new(DEVICE).exists(), "this test wants a machine without {DEVICE}");
    for arguments in [&[][..], &["5000"], &["6000"]] {
        let said = refusal(arguments);
        assert!(said.starts_with("postern-enclave: "), "{said}");
        assert!(said.contains(DEVICE) && said.contains("No such file or directory"), "{said}");
    }
}

#[test]
fn it_has_no_option_but_the_port() {
    for arguments in [&["--simulate"][..], &["--help"], &["4294967295"], &["-1"], &[""], &["5000", "5000"]] {
        let said = refusal(arguments);
        assert!(said.starts_with("postern-enclave: usage: postern-enclave [PORT]"), "{arguments:?}: {said}");
    }
}

/// What gives the simulation away, by name.
fn traces() -> Vec<(String, Vec<u8>)> {
    let simulation = root().join("tests/simulation");
    let mut traces = Vec::new();

    // Every 32 bytes of its certificates and keys, but for the name of the signature algorithm, which is AMD's too.
    let is_algorithm = {
        let root = std::fs::read(simulation.join("keys/simulation-ark-no-security.crt.der")).expect("a root");
        let (signed, _) = root.split_at(root.len() - BIT_STRING);
        let algorithm = signed[signed.len() - ALGORITHM..].to_vec();
        move |piece: &[u8]| algorithm.windows(piece.len()).any(|window| window == piece)
    };
    for entry in std::fs::read_dir(simulation.join("keys")).expect("keys") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "der") {
            continue;
        }
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).expect("a key");
        let pieces = bytes.chunks_exact(32).enumerate().filter(|(_, piece)| !is_algorithm(piece));
        traces.extend(pieces.map(|(number, piece)| (format!("{name}, piece {number}"), piece.to_vec())));
    }

    // Its sources' paths, which panics carry, and its domains: `b"postern-…"` in them.
    let files = |folder: &str| {
        let entries = std::fs::read_dir(simulation.join(folder)).expect("sources");
        let paths = entries.map(|entry| entry.expect("a file").path()).filter(|path| path.is_file());
        paths.collect::<Vec<_>>()
    };
    for file in [files("src"), files("src/vm")].concat() {
        let path = file.strip_prefix(root()).expect("ours").display().to_string();
        traces.push((path.clone(), path.into()));
        let text = std::fs::read_to_string(&file).expect("a source");
        for domain in text.split("b\"").skip(1).filter(|rest| rest.starts_with("postern-")) {
            let domain = domain.split('"').next().unwrap_or_default();
            traces.push((domain.to_owned(), domain.into()));
        }
    }
    // Its root's name, and the warning in it.
    let anchor = postern_simulation::trust_anchor();
    let (_, warning) = anchor.name().split_once(", ").expect("the name warns");
    traces.extend([anchor.name(), warning].map(|name| (name.to_owned(), name.into())));
    traces
}

/// Names of the traces that a file has.
fn found_in(path: &Path, traces: &[(String, Vec<u8>)]) -> BTreeSet<String> {
    let bytes = std::fs::read(path).expect("a binary");
    let search = AhoCorasick::new(traces.iter().map(|(_, trace)| trace)).expect("a search");
    search.find_overlapping_iter(&bytes).map(|found| traces[found.pattern().as_usize()].0.clone()).collect()
}

#[test]
fn it_holds_nothing_of_the_simulation() {
    let traces = traces();
    let found = found_in(binary(), &traces);
    assert!(found.is_empty(), "{found:?}");

    // The control: with the simulation linked in, the search finds it. But for the root's private key, which is in no
    // program; and of the domains not all need to be found, since optimisers take short strings apart.
    let mut psp = SoftwarePsp::new(Machine::default()).seeded([0; 32]);
    psp.report(&ReportData([0; 64])).expect("a report");
    psp.fill_random(&mut [0; 32]).expect("randomness");
    let own = std::env::current_exe().expect("this test");
    let found = found_in(&own, &traces);
    let is_embedded = |name: &str| name.contains(".der") && !name.contains("ark-no-security.pkcs8");
    let embedded = traces.iter().map(|(name, _)| name).filter(|name| is_embedded(name));
    let missed: Vec<_> = embedded.filter(|name| !found.contains(*name)).collect();
    assert!(missed.is_empty(), "the search misses {missed:?}");
    for kind in ["ark-no-security.crt", "ask-no-security.crt", "ask-no-security.pkcs8"] {
        assert!(found.iter().filter(|name| name.contains(kind)).count() >= 40, "{kind}: {found:?}");
    }
    assert!(found.contains(postern_simulation::trust_anchor().name()), "{found:?}");
    for start in ["postern-simulation-", "tests/simulation/src/"] {
        assert!(found.iter().any(|name| name.starts_with(start)), "{start}: {found:?}");
    }
}

#[test]
fn its_tree_has_no_test_crate() {
    let tree = |package: &str| {
        let arguments = [
            "tree",
            "--package",
            package,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--offline",
            "--locked",
        ];
        let lines = cargo(&arguments);
        let ours = lines.lines().filter_map(|line| line.split(' ').next());
        ours.filter(|name| name.starts_with("postern-")).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(tree(NAME), ["postern-attestation", NAME, "postern-shared"].map(str::to_owned).into());
    // The control: where there are some, they show.
    assert!(
        tree("postern-host").is_superset(&["postern-devnet", "postern-simulation"].map(str::to_owned).into())
    );
}
