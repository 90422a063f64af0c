//! Exported evidence against a verifier that is not ours: `snpguest`.
//!
//! Slow to install: `cargo install snpguest --version 0.11.0 --locked --root target/tools`, then `target/tools/bin` in
//! `PATH`. Fails when the tool is missing.

use postern_attestation::TrustAnchor;
use postern_host::certificates::folder;
use postern_shared::message::Certificates;
use std::path::Path;
use std::process::Command;

fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/vectors/snp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Writes the evidence of a vector, whose root is the one of this number.
fn export(folder: &Path, name: &str, line: &str, root: usize) {
    let ark = TrustAnchor::amd().roots().nth(root).expect("three roots").to_vec();
    let (ask, leaf) = (vector(&format!("amd-{line}-ask.der")), vector(&format!("{name}-vcek.der")));
    let set = Certificates { ark, ask, leaf, crl: None };
    folder::export(folder, &vector(&format!("{name}-report.bin")), &set).expect("a new folder");
}

/// Whether it is content, and what it says.
fn snpguest(arguments: &[&Path]) -> (bool, String) {
    let mut command = Command::new("snpguest");
    let run = command.arg("verify").args(arguments).output();
    let run = run.unwrap_or_else(|error| panic!("snpguest is needed for this test: {error}"));
    let text = [run.stdout, run.stderr].concat();
    (run.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
#[ignore = "needs snpguest, which takes minutes to install"]
fn what_is_exported_is_accepted_by_snpguest() {
    let parent = tempfile::tempdir().expect("a directory");
    for (name, line, root) in [
        ("dstack-milan", "milan", 0),
        ("msft-tav-milan", "milan", 0),
        ("msft-tav-genoa", "genoa", 1),
        ("confai-siena", "genoa", 1),
        ("msft-tav-turin", "turin", 2),
    ] {
        let folder = parent.path().join(name);
        export(&folder, name, line, root);
        for arguments in [
            vec![Path::new("certs"), &folder],
            vec![Path::new("attestation"), &folder, &folder.join("report.bin")],
        ] {
            let (accepted, text) = snpguest(&arguments);
            assert!(accepted, "{name}: {text}");
        }
    }
    // It does look: another machine's report is refused.
    let report = parent.path().join("msft-tav-genoa/report.bin");
    let (accepted, text) =
        snpguest(&[Path::new("attestation"), &parent.path().join("confai-siena"), &report]);
    assert!(!accepted, "{text}");
}
