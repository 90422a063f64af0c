//! The house rules that a compiler does not check: which crate may see which, what the enclave trusts, where `unsafe` is,
//! and what lies where.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).current_dir(root()).output();
    let run = run.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    assert!(run.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("text")
}

fn metadata() -> Value {
    let cargo = env!("CARGO");
    serde_json::from_str(&output(cargo, &["metadata", "--format-version", "1", "--no-deps", "--offline"]))
        .expect("JSON")
}

/// Our crates that each of ours depends on, without development dependencies; optional ones apart.
fn arrows() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let (mut always, mut optional) = (BTreeSet::new(), BTreeSet::new());
            for dependency in package["dependencies"].as_array().expect("dependencies") {
                let name = text(&dependency["name"]);
                if name.starts_with("postern-") && dependency["kind"] != "dev" {
                    let into = if dependency["optional"] == true { &mut optional } else { &mut always };
                    into.insert(name);
                }
            }
            (text(&package["name"]), (always, optional))
        })
        .collect()
}

#[test]
fn arrows_point_one_way() {
    let arrows = arrows();
    let allowed: [(&str, &[&str], &[&str]); 8] = [
        ("postern-shared", &[], &[]),
        ("postern-attestation", &["postern-shared"], &[]),
        ("postern-enclave", &["postern-attestation", "postern-shared"], &[]),
        (
            "postern-host",
            &["postern-attestation", "postern-image", "postern-shared"],
            &["postern-devnet", "postern-simulation"],
        ),
        // What makes the image sees nothing of what is in it.
        ("postern-image", &[], &[]),
        ("postern-simulation", &["postern-attestation", "postern-enclave", "postern-shared"], &[]),
        ("postern-devnet", &["postern-shared"], &[]),
        (
            "postern-tests",
            &[
                "postern-attestation",
                "postern-enclave",
                "postern-shared",
                "postern-simulation",
                "postern-host",
            ],
            &[],
        ),
    ];
    assert_eq!(arrows.len(), allowed.len(), "a crate without a rule: {:?}", arrows.keys());
    for (name, always_allowed, optional_allowed) in allowed {
        let (always, optional) = &arrows[name];
        for other in always {
            assert!(always_allowed.contains(&other.as_str()), "{name} must not see {other}");
        }
        for other in optional {
            assert!(
                optional_allowed.contains(&other.as_str()),
                "{name} must not see {other}, even optionally"
            );
        }
    }
}

#[test]
fn the_trusted_crates_have_no_switches() {
    for package in metadata()["packages"].as_array().expect("packages") {
        let features = package["features"].as_object().expect("features");
        let names: Vec<&String> = features.keys().collect();
        match package["name"].as_str().expect("a name") {
            // A feature that unification could turn on behind our back.
            "postern-enclave" | "postern-attestation" => assert!(names.is_empty(), "{names:?}"),
            "postern-shared" => {
                assert!(names.iter().all(|name| ["default", "toml"].contains(&name.as_str())))
            }
            _ => {}
        }
    }
}

#[test]
fn the_enclave_trusts_what_its_list_says() {
    let arguments = [
        "tree",
        "-p",
        "postern-enclave",
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--offline",
        "--target",
        "x86_64-unknown-linux-gnu",
        "--format",
        "{p}",
    ];
    let tree = output(env!("CARGO"), &arguments);
    let resolved: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let list = std::fs::read_to_string(root().join("enclave/DEPENDENCIES.md")).expect("the list");
    let mut listed = BTreeSet::new();
    for line in list.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (name, reason) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        assert!(!reason.is_empty(), "{name} is listed without a reason");
        assert!(listed.insert(name), "{name} is listed twice");
    }
    let unlisted: Vec<_> = resolved.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&resolved).collect();
    assert!(unlisted.is_empty() && stale.is_empty(), "not listed: {unlisted:?}; listed in vain: {stale:?}");
    for refused in
        ["tokio", "hyper", "rustls", "reqwest", "serde_json", "openssl", "alloy", "postern-simulation"]
    {
        assert!(!resolved.contains(refused), "{refused} has no place in the enclave");
    }
}

/// Files that git knows.
fn files() -> Vec<String> {
    output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])
        .lines()
        .map(str::to_owned)
        .collect()
}

fn sources() -> impl Iterator<Item = (String, String)> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    rust.filter_map(|path| Some((path.clone(), std::fs::read_to_string(root().join(path)).ok()?)))
}

#[test]
fn unsafe_code_is_in_one_module() {
    // Split, so that this file does not find itself.
    let allowing = concat!("allow(", "unsafe_code)");
    let found: Vec<String> =
        sources().filter(|(_, text)| text.contains(allowing)).map(|(path, _)| path).collect();
    assert_eq!(found, ["shared/src/bls/group.rs"]);
}

#[test]
fn no_source_file_is_too_long_to_read() {
    let long: Vec<_> = sources()
        .filter(|(path, text)| path.contains("/src/") && text.lines().count() > 800)
        .map(|(path, _)| path)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn the_top_level_holds_what_the_design_says() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "attestation",
        "clippy.toml",
        "deny.toml",
        "enclave",
        "host",
        "rustfmt.toml",
        "shared",
        "tests",
    ];
    let top: BTreeSet<String> =
        files().iter().filter_map(|path| path.split('/').next()).map(str::to_owned).collect();
    let extra: Vec<_> =
        top.iter().filter(|name| !name.starts_with('.') && !allowed.contains(&name.as_str())).collect();
    assert!(extra.is_empty(), "{extra:?}");
}

/// No suite builds the debug image's kernel: it takes minutes. So whoever changes what it is made of has to say that it was built.
#[test]
fn the_debug_kernel_was_built_of_what_is_here() {
    let folder = "enclave/image/kernel/";
    let others = ["debug.built", "LICENSE"].map(|name| format!("{folder}{name}"));
    let mut made_of = Sha256::new();
    for path in files().iter().filter(|path| path.starts_with(folder) && !others.contains(path)) {
        let content = std::fs::read(root().join(path)).expect("a file that git knows");
        made_of.update(format!("{path} {}\n", content.len()));
        made_of.update(content);
    }
    let inputs = std::fs::read_to_string(root().join("enclave/image/inputs.sha256")).expect("the inputs");
    let kernel = inputs.lines().find_map(|line| line.strip_suffix("  vmlinuz-debug")).expect("the kernel");
    let wanted = format!("{}  {kernel}", hex::encode(made_of.finalize()));
    let built = std::fs::read_to_string(root().join(&others[0])).unwrap_or_default();
    assert_eq!(
        built.trim(),
        wanted,
        "build the debug kernel (enclave/image/fetch.sh DIR debug), and say so in {}",
        others[0]
    );
}
