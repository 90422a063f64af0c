//! `postern measure`: its output, and one clear line for bad input.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DIGEST: &str =
    "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d";

/// A key of P-384: the scalar 1.
const KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MIGkAgEBBDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAGgBwYFK4EEACKhZANiAASqh8oivosFN46xxx7zIK10bh07Younm5hZ
90HgglQqOFUC8l2/VSlsOlReOHJ2Crc2F95KliYsb12emL+Sktwp+PQdvSiaFHzp
2jETtfC4wApgsc4dfoGdekMdfJDqDl8=
-----END EC PRIVATE KEY-----
";

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/snp").join(name)
}

/// A folder with two firmware images, a kernel and a key.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::copy(vector("ovmf_AmdSev_suffix.bin"), path("amdsev.fd")).unwrap();
    std::fs::copy(vector("ovmf_OvmfX64_suffix.bin"), path("plain.fd")).unwrap();
    std::fs::write(path("kernel"), [0; 4096]).unwrap();
    std::fs::write(path("initrd"), [1; 4096]).unwrap();
    std::fs::write(path("key.pem"), KEY).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    folder
}

fn postern(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("measure")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[track_caller]
fn printed(folder: &Path, arguments: &[&str]) -> String {
    let output = postern(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn assert_refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let output = postern(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(output.stdout.is_empty(), "{arguments:?} printed a result");
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in `{text}`");
    }
}

#[test]
fn one_line_for_each_combination() {
    let folder = folder();
    let alone = printed(folder.path(), &["--firmware", "amdsev.fd"]);
    assert_eq!(alone, format!("{DIGEST} vcpus=1 cpu=EPYC-v4 guest-features=0x1\n"));
    let kernel = ["--kernel", "kernel", "--initrd", "initrd", "--append", "console=ttyS0"];
    let several = ["--vcpus", "1", "--vcpus", "2", "--cpu", "EPYC-v4", "--cpu", "EPYC-Milan"];
    let text = printed(folder.path(), &[&["--firmware", "amdsev.fd"][..], &kernel, &several].concat());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    for (line, start, end) in [
        (lines[0], "bc10bba618c48178", "vcpus=1 cpu=EPYC-v4 guest-features=0x1"),
        (lines[1], "df7c314eee6d396f", "vcpus=1 cpu=EPYC-Milan guest-features=0x1"),
        (lines[2], "28976e470513d397", "vcpus=2 cpu=EPYC-v4 guest-features=0x1"),
        (lines[3], "035382f572bd0a1b", "vcpus=2 cpu=EPYC-Milan guest-features=0x1"),
    ] {
        assert!(line.starts_with(start) && line.ends_with(end), "{line}");
    }
}

#[test]
fn json_says_the_same() {
    let folder = folder();
    let arguments = ["--firmware", "amdsev.fd", "--vcpus", "1", "--guest-features", "0x1", "--json"];
    let rows: Value = serde_json::from_str(&printed(folder.path(), &arguments)).unwrap();
    assert_eq!(rows, json!([{"vcpus": 1, "cpu": "EPYC-v4", "guest_features": 1, "digest": DIGEST}]));
}

#[test]
fn bad_launches_are_refused() {
    let folder = folder();
    let firmware = ["--firmware", "amdsev.fd"];
    let with_kernel = ["--firmware", "amdsev.fd", "--kernel", "kernel"];
    let refused = |arguments: &[&[&str]], words: &[&str]| {
        assert_refused(folder.path(), &arguments.concat(), words);
    };
    refused(&[&[]], &["--firmware"]);
    refused(&[&["--vcpus", "2"]], &["--firmware"]);
    refused(&[&["--firmware", "missing.fd"]], &["missing.fd"]);
    refused(&[&["--firmware", "."]], &["directory"]);
    refused(&[&["--firmware", "empty"]], &["empty", "0 bytes"]);
    refused(&[&["--firmware", "kernel"]], &["kernel", "no OVMF table"]);
    refused(&[&["--firmware", "/dev/zero"]], &["/dev/zero", "at most"]);
    refused(&[&["--firmware", "plain.fd", "--kernel", "kernel"]], &["plain.fd", "SNP_KERNEL_HASHES"]);
    refused(&[&firmware, &["--kernel", "missing"]], &["missing"]);
    refused(&[&firmware, &["--kernel", "empty"]], &["kernel is empty"]);
    refused(&[&with_kernel, &["--initrd", "missing"]], &["missing"]);
    refused(&[&with_kernel, &["--append", "quiet "]], &["white space"]);
    refused(&[&firmware, &["--initrd", "initrd"]], &["--kernel"]);
    refused(&[&firmware, &["--append", "quiet"]], &["--kernel"]);
    refused(&[&firmware, &["--vcpus", "0"]], &["1 to 4096", "found 0"]);
    refused(&[&firmware, &["--vcpus", "4097"]], &["1 to 4096", "found 4097"]);
    refused(&[&firmware, &["--vcpus", "-1"]], &["-1"]);
    refused(&[&firmware, &["--cpu", "host"]], &["`host`", "EPYC-v4", "EPYC-Turin-v2"]);
    refused(&[&firmware, &["--guest-features", "0x20"]], &["SNPActive"]);
    refused(&[&firmware, &["--guest-features", "0x10000000000000001"]], &["--guest-features"]);
    refused(&[&firmware, &["id-block"]], &["id-block"]);
}

#[test]
fn an_id_block_is_signed_and_written() {
    let folder = folder();
    let arguments = ["id-block", "--digest", DIGEST, "--id-key", "key.pem", "--author-key", "key.pem"];
    let others = ["--guest-svn", "3", "--family-id", &"fa".repeat(16), "--image-id", &"1a".repeat(16)];
    let text = printed(folder.path(), &[&arguments[..], &others, &["--out", "a/b"]].concat());
    let json = printed(folder.path(), &[&arguments[..], &others, &["--json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    assert_eq!(line("id-block="), json["id_block"]);
    assert_eq!(line("id-auth="), json["id_auth"]);
    assert_eq!(line("author-key-enabled="), "on");
    assert_eq!(json["author_key_enabled"], true);
    assert_eq!(line("id-key-digest="), json["id_key_digest"]);
    assert_eq!(line("author-key-digest="), json["id_key_digest"]);
    let written = |name: &str| std::fs::read_to_string(folder.path().join("a/b").join(name)).unwrap();
    assert_eq!(written("id-block.base64"), line("id-block="));
    assert_eq!(written("id-auth.base64"), line("id-auth="));
    assert_eq!((line("id-block=").len(), line("id-auth=").len()), (128, 5464));

    let alone = printed(folder.path(), &arguments[..5]);
    assert!(alone.contains("author-key-enabled=off") && !alone.contains("author-key-digest"), "{alone}");
}

#[test]
fn bad_id_blocks_are_refused() {
    let folder = folder();
    let refused = |digest: &str, key: &str, others: &[&str], words: &[&str]| {
        let arguments = ["id-block", "--digest", digest, "--id-key", key];
        assert_refused(folder.path(), &[&arguments, others].concat(), words);
    };
    std::fs::write(folder.path().join("wrong.pem"), KEY.replace("MIGk", "MIGl")).unwrap();
    refused("", "key.pem", &[], &["--digest", "expected 96", "found 0"]);
    refused(&DIGEST[2..], "key.pem", &[], &["--digest", "expected 96", "found 94"]);
    refused(&DIGEST.replace('f', "g"), "key.pem", &[], &["--digest", "not a hexadecimal digit"]);
    refused(DIGEST, "missing.pem", &[], &["missing.pem"]);
    refused(DIGEST, "empty", &[], &["empty", "no private key"]);
    refused(DIGEST, "amdsev.fd", &[], &["amdsev.fd", "no private key"]);
    refused(DIGEST, "/dev/zero", &[], &["/dev/zero", "at most"]);
    refused(DIGEST, "wrong.pem", &[], &["wrong.pem", "P-384"]);
    refused(DIGEST, "key.pem", &["--author-key", "wrong.pem"], &["wrong.pem", "P-384"]);
    refused(DIGEST, "key.pem", &["--policy", "0x10000"], &["0x10000", "bit 17"]);
    refused(DIGEST, "key.pem", &["--policy", "0xb0000"], &["0xb0000", "debug"]);
    refused(DIGEST, "key.pem", &["--image-id", "1234"], &["--image-id", "expected 32"]);
    refused(DIGEST, "key.pem", &["--guest-svn", "4294967296"], &["--guest-svn"]);
    refused(DIGEST, "key.pem", &["--out", "key.pem/x"], &["key.pem/x"]);
}
