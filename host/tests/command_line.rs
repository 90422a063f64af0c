//! The command line under bad input: one clear line on standard error, an exit code that is not 0, no panic.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MANIFEST: &str = r#"
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
measurements = [{ name = "test", digest = "MEASUREMENT" }]
[[members]]
id = 1
name = "one"
wallet = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
governance = "0x1111111111111111111111111111111111111111"
host_key = "HOST1"
chip_ids = ["CHIP1"]
[[members]]
id = 2
name = "two"
wallet = "0x2b5ad5c4795c026514f8317c7a215e218dccd6cf"
governance = "0x1212121212121212121212121212121212121212"
host_key = "HOST2"
chip_ids = ["CHIP2"]
[[members]]
id = 3
name = "three"
wallet = "0x0303030303030303030303030303030303030303"
governance = "0x1313131313131313131313131313131313131313"
host_key = "HOST3"
chip_ids = ["CHIP3"]
"#;

const HOST_SEED: [u8; 32] = [7; 32];

fn manifest() -> String {
    let mut seed = HOST_SEED;
    let secret = libp2p::identity::ed25519::SecretKey::try_from_bytes(&mut seed).unwrap();
    let own = hex::encode(libp2p::identity::ed25519::Keypair::from(secret).public().to_bytes());
    MANIFEST
        .replace("MEASUREMENT", &format!("0x{}", "11".repeat(48)))
        .replace("HOST1", &format!("0x{own}"))
        .replace("HOST2", &format!("0x{}", "22".repeat(32)))
        .replace("HOST3", &format!("0x{}", "33".repeat(32)))
        .replace("CHIP1", &format!("0x{}", "c1".repeat(64)))
        .replace("CHIP2", &format!("0x{}", "c2".repeat(64)))
        .replace("CHIP3", &format!("0x{}", "c3".repeat(64)))
}

const CONFIG: &str = r#"
manifest = "manifest.toml"
member = 1
data_dir = "data"
enclave = "unix:enclave.sock"
host_key = "host.key"
wallet_key = "wallet.key"
listen = "/ip4/127.0.0.1/tcp/0"
[certificates]
folder = "certificates"
[peers]
2 = "/ip4/127.0.0.1/tcp/1"
[execution]
urls = ["http://127.0.0.1:1"]
[beacon]
urls = ["http://127.0.0.1:1"]
"#;

/// A member's folder with everything in place but for the chains.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = std::fs::OpenOptions::new();
        file.write(true).create_new(true).mode(0o600);
        file.open(folder.path().join(name)).unwrap().write_all(content.as_bytes()).unwrap();
    };
    write("manifest.toml", &manifest());
    write("config.toml", CONFIG);
    write("host.key", &hex::encode(HOST_SEED));
    // Secret key 1: its address is member 1's wallet.
    write("wallet.key", &format!("{:064x}", 1));
    std::fs::create_dir(folder.path().join("certificates")).unwrap();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/snp");
    for (name, vector) in [("ask", "amd-genoa-ask"), ("vcek", "msft-tav-genoa-vcek")] {
        let to = folder.path().join(format!("certificates/{name}.der"));
        std::fs::copy(vectors.join(format!("{vector}.der")), to).unwrap();
    }
    folder
}

fn postern(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern")).args(arguments).current_dir(folder).output().unwrap()
}

/// Fails with one line that contains these words, and nothing secret.
#[track_caller]
fn assert_refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let output = postern(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(!text.contains("panicked"), "{text}");
    let line = text.lines().last().unwrap_or_default();
    for word in words {
        assert!(line.contains(word), "`{word}` is not in `{line}`");
    }
    assert!(!text.contains(&hex::encode(HOST_SEED)), "a secret is shown: {text}");
}

fn replace(path: PathBuf, from: &str, to: &str) {
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_good_manifest_has_a_hash() {
    let folder = folder();
    let output = postern(folder.path(), &["manifest", "check", "manifest.toml"]);
    assert!(output.status.success());
    let hash = String::from_utf8(output.stdout).unwrap();
    assert_eq!((hash.len(), &hash[..2]), (67, "0x"));
}

#[test]
fn floors_are_written_by_silicon() {
    let folder = folder();
    let floors = "[[attestation.floors]]\nsilicon = { family = 0x19, model = 0xA0, stepping = 2 }\nmitigations = 0x17\n\
                  [[attestation.relax.floors]]\nsilicon = { family = 0x19, model = 0x11, stepping = 1 }\n\
                  tcb = { bootloader = 9, tee = 0, snp = 23, microcode = 84 }\n[[members]]\nid = 1";
    replace(folder.path().join("manifest.toml"), "[[members]]\nid = 1", floors);
    let output = postern(folder.path(), &["attest", "floors", "--manifest", "manifest.toml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("bits 0, 1, 2, 4  (stricter than built in)"), "{text}");
    assert!(text.contains("9/0/23/84  (LAXER than built in)"), "{text}");
}

#[test]
fn a_bad_manifest_is_refused_with_file_and_field() {
    let cases = [
        // As version 4 had it: one mask for all silicon.
        ("[attestation]", "[attestation]\nmitigations = 1", "mitigations"),
        ("[attestation]", "[attestation]\nrevocation = \"required\"", "attestation.not_before"),
        ("version = 6", "version = 9", "version"),
        ("operator = 2", "operator = 4", "thresholds.operator"),
        ("guardian = 2", "guardian = 1", "thresholds.guardian"),
        ("quorum = 2", "quorum = 1", "agreement.quorum"),
        ("quorum = 2", "quorum = 3", "agreement.quorum"),
        (
            "governance = \"0x1212121212121212121212121212121212121212\"",
            "governance = \"0x2b5ad5c4795c026514f8317c7a215e218dccd6cf\"",
            "members[1].wallet",
        ),
        ("id = 2", "id = 1", "members[1].id"),
        ("name = \"two\"", "name = \"one\"", "members[1].name"),
        ("leader = 1", "leader = 7", "leader"),
        ("epoch = 0", "epoch = 0\nsurprise = 1", "surprise"),
        ("version = 6", "version = ", "TOML"),
    ];
    for (from, to, field) in cases {
        let folder = folder();
        replace(folder.path().join("manifest.toml"), from, to);
        let words = if field == "TOML" { vec!["manifest.toml"] } else { vec!["manifest.toml", field] };
        assert_refused(folder.path(), &["manifest", "check", "manifest.toml"], &words);
        assert_refused(folder.path(), &["run", "--config", "config.toml"], &words);
    }
    let folder = folder();
    assert_refused(folder.path(), &["manifest", "check", "nothing.toml"], &["nothing.toml"]);
}

#[test]
fn a_bad_configuration_is_refused_with_its_field() {
    let cases = [
        ("member = 1", "member = 9", "member"),
        ("unix:enclave.sock", "tcp:1:2", "enclave"),
        ("/ip4/127.0.0.1/tcp/0", "somewhere", "listen"),
        ("2 = \"/ip4", "9 = \"/ip4", "peers.9"),
        ("2 = \"/ip4", "1 = \"/ip4", "peers.1"),
        ("[execution]\nurls = [\"http://127.0.0.1:1\"]", "[execution]\nurls = []", "execution.urls"),
        ("[beacon]\nurls = [\"http://127.0.0.1:1\"]", "[beacon]\nurls = []", "beacon.urls"),
        ("host.key", "missing.key", "host_key"),
        ("wallet.key", "manifest.toml", "wallet_key"),
        ("folder = \"certificates\"", "folder = \"nowhere\"", "nowhere/vcek"),
        ("folder = \"certificates\"", "folder = \"certificates\"\nkds = \"x\"", "certificates.kds"),
        ("member = 1", "member = 1\nsurprise = 2", "surprise"),
    ];
    for (from, to, field) in cases {
        let folder = folder();
        replace(folder.path().join("config.toml"), from, to);
        assert_refused(folder.path(), &["run", "--config", "config.toml"], &[field]);
    }
    let folder = folder();
    std::fs::write(folder.path().join("host.key"), hex::encode([8; 32])).unwrap();
    assert_refused(folder.path(), &["run", "--config", "config.toml"], &["host_key", "member 1"]);
    std::fs::write(folder.path().join("host.key"), "short").unwrap();
    assert_refused(folder.path(), &["run", "--config", "config.toml"], &["host_key"]);
    assert_refused(folder.path(), &["run", "--config", "nothing.toml"], &["nothing.toml"]);
}

/// Answers every request with this body.
fn serve(body: &'static str) -> String {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 8192];
            let _ = stream.read(&mut buffer);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
        }
    });
    url
}

#[test]
fn an_execution_node_of_another_chain_is_refused_with_both_ids() {
    let folder = folder();
    let url = serve(r#"{"jsonrpc":"2.0","id":0,"result":"0x539"}"#);
    let config = folder.path().join("config.toml");
    let (from, to) =
        ("[execution]\nurls = [\"http://127.0.0.1:1\"]", format!("[execution]\nurls = [\"{url}\"]"));
    replace(config, from, &to);
    assert_refused(folder.path(), &["run", "--config", "config.toml"], &["chain 1337", "chain 1"]);
}

#[test]
fn a_check_names_everything_that_is_wrong_and_begins_nothing() {
    let folder = folder();
    let check = || {
        let output = postern(folder.path(), &["run", "--check", "--config", "config.toml"]);
        assert_eq!(output.status.code(), Some(1));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (said, _) = check();
    for layer in ["execution", "beacon"] {
        let line = format!("no answer: config field `{layer}.urls[0]`, http://127.0.0.1:1: ");
        assert!(said.contains(&line), "{said}");
    }
    let url = serve(r#"{"jsonrpc":"2.0","id":0,"result":"0x539"}"#);
    let config = folder.path().join("config.toml");
    replace(config.clone(), "urls = [\"http://127.0.0.1:1\"]", &format!("urls = [\"{url}\"]"));
    let (said, _) = check();
    let mut lines = said.lines();
    let wrong = format!("WRONG: config field `execution.urls[0]`, {url}: ");
    assert!(
        lines.next().is_some_and(|line| line.starts_with(&wrong) && line.contains("chain 1337")),
        "{said}"
    );
    assert!(
        lines.next().is_some_and(|line| line.starts_with("no answer: config field `beacon.urls[0]`")),
        "{said}"
    );
    // What is wrong with the file itself comes first, a line each.
    replace(config.clone(), "member = 1", "member = 9\nsurprise = 2");
    replace(config, "unix:enclave.sock", "https://user:hunter2@enclave.example");
    let (said, refused) = check();
    let expected = [
        "postern: config field `member`: the manifest has no member 9",
        "postern: config field `enclave`: none of vsock:CID:PORT, unix:PATH, unix-connect:PATH:PORT",
        "postern: config field `surprise`: unknown",
    ];
    assert_eq!((said.as_str(), refused.lines().collect::<Vec<_>>()), ("", expected.to_vec()));
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_rescan_is_left_for_the_host() {
    let folder = folder();
    let left = postern(folder.path(), &["rescan", "--config", "config.toml", "--from", "7"]);
    assert!(left.status.success());
    let commands: Vec<_> = std::fs::read_dir(folder.path().join("data/commands")).unwrap().collect();
    let [Ok(command)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(std::fs::read_to_string(command.path()).unwrap(), r#"{"rescan":{"from":7}}"#);
    assert!(String::from_utf8_lossy(&left.stdout).starts_with("data/commands/"));
}

#[test]
fn files_that_are_no_transcripts_are_refused() {
    let folder = folder();
    std::fs::write(folder.path().join("empty.json"), "").unwrap();
    assert_refused(folder.path(), &["verify", "empty.json"], &["empty.json", "neither a transcript"]);
    assert_refused(folder.path(), &["verify", "missing.json"], &["missing.json"]);
    assert_refused(folder.path(), &["verify", "manifest.toml"], &["manifest.toml", "neither a transcript"]);
}

#[test]
fn demos_that_can_not_be_are_refused() {
    let folder = folder();
    for (flag, value) in [
        ("--members", "1"),
        ("--operator-threshold", "1"),
        ("--operator-threshold", "6"),
        ("--guardian-threshold", "0"),
        ("--pools", "0"),
    ] {
        assert_refused(folder.path(), &["demo", flag, value], &[flag]);
    }
    // Somebody's files are in the way.
    assert_refused(folder.path(), &["demo", "--data-dir", "certificates"], &["certificates"]);
}

#[test]
fn a_reader_that_is_gone_and_a_full_disk_are_no_panic() {
    let folder = folder();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(arguments).current_dir(folder.path());
        command
    };
    for arguments in [
        &["manifest", "check", "manifest.toml"][..],
        &["manifest", "show", "manifest.toml"],
        &["manifest", "show", "--json", "manifest.toml"],
        &["attest", "floors"],
        &["vm", "preflight"],
    ] {
        let mut gone = command(arguments)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        drop(gone.stdout.take());
        let code = gone.wait().unwrap().code();
        // This machine may be no SEV-SNP host, and nobody reads that.
        assert!(code == Some(0) || arguments[0] == "vm" && code == Some(1), "{arguments:?}: {code:?}");

        let unwritten = command(arguments).stdout(full()).output().unwrap();
        let text = String::from_utf8_lossy(&unwritten.stderr);
        assert_eq!(unwritten.status.code(), Some(1), "{arguments:?}");
        assert!(text.contains("postern: standard output: No space left on device"), "{arguments:?}: {text}");

        let unsaid = command(arguments).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(unsaid.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn a_log_that_can_not_be_written_ends_no_host() {
    let folder = folder();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    // It waits for its execution node, and says so again and again.
    let mut host = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["run", "--config", "config.toml"])
        .current_dir(folder.path())
        .stderr(full)
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let ended = host.try_wait().unwrap();
    host.kill().unwrap();
    host.wait().unwrap();
    assert_eq!(ended, None);
}

#[test]
fn a_host_that_waits_for_a_node_says_so_in_its_status() {
    let folder = folder();
    let mut host = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["run", "--config", "config.toml"])
        .current_dir(folder.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let status = || postern(folder.path(), &["status", "--config", "config.toml"]);
    let start = std::time::Instant::now();
    while status().status.code() != Some(6) && start.elapsed() < std::time::Duration::from_secs(20) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let waiting = status();
    host.kill().unwrap();
    host.wait().unwrap();
    let dead = status();
    let text = String::from_utf8(waiting.stdout).unwrap();
    assert_eq!(waiting.status.code(), Some(6), "{text}");
    assert!(text.contains("starting") && text.contains("execution node http://127.0.0.1:1: "), "{text}");
    assert_eq!(dead.status.code(), Some(3));
}

#[test]
fn a_log_in_a_file_has_no_colours() {
    let folder = folder();
    let path = folder.path().join("log");
    let mut host = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["run", "--config", "config.toml"])
        .current_dir(folder.path())
        .stderr(std::fs::File::create(&path).unwrap())
        .spawn()
        .unwrap();
    let log = || std::fs::read_to_string(&path).unwrap();
    let start = std::time::Instant::now();
    while !log().contains("waiting") && start.elapsed() < std::time::Duration::from_secs(20) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    host.kill().unwrap();
    host.wait().unwrap();
    assert!(log().contains("waiting") && !log().contains('\x1b'), "{}", log());
}

#[test]
fn the_program_says_its_own_name_and_version() {
    let folder = folder();
    let said = postern(folder.path(), &["--version"]);
    assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("postern {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_status_of_a_host_that_is_dead_or_in_trouble_is_told_by_the_code() {
    use postern_host::status::{HostStatus, Subject, Trouble};
    let folder = folder();
    let data_dir = folder.path().join("data");
    std::fs::create_dir_all(&data_dir).unwrap();
    let status = |json: bool| {
        let json = if json { &["--json"][..] } else { &[] };
        let output = postern(folder.path(), &[&["status", "--config", "config.toml"], json].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(status(false), (Some(1), String::new()), "there is none");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let write = |status: &HostStatus| {
        std::fs::write(data_dir.join("status.json"), serde_json::to_vec(status).unwrap()).unwrap();
    };
    let well = HostStatus { member: 1, written_at: now, enclave_answers: true, ..HostStatus::default() };
    write(&well);
    let (code, text) = status(false);
    assert!(code == Some(3) && text.contains("WRONG (3): the host is not running"), "{code:?}: {text}");

    let presence = postern_host::presence::take(&data_dir).unwrap();
    assert_eq!(status(false).0, Some(0));
    let reason = "no ether".to_owned();
    write(&HostStatus {
        troubles: vec![Trouble { subject: Subject::Wallet, since: now, reason }],
        ..well.clone()
    });
    let (code, text) = status(false);
    assert!(code == Some(7) && text.contains("WRONG (7): wallet: no ether"), "{code:?}: {text}");
    let (code, text) = status(true);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["exit_code"], &json["running"]), (Some(7), &7.into(), &true.into()));
    write(&HostStatus { written_at: now - 100, ..well });
    assert_eq!(status(false).0, Some(0), "the file's time says that the host lives");
    let file = std::fs::File::options().write(true).open(data_dir.join("status.json")).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
    file.set_modified(long_ago).unwrap();
    assert_eq!(status(false).0, Some(4));
    drop(presence);
    assert_eq!(status(false).0, Some(3));
}
