//! `kill -9` of hosts at any moment of the demo: every pool still completes, and nothing is sent twice.
//!
//! Slow; runs the release binary (`cargo build --release` first, or `POSTERN_BIN`). `POSTERN_KILL_RUNS` sets how many
//! demos.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn binary() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/postern");
    let binary = std::env::var_os("POSTERN_BIN").map_or(built, PathBuf::from);
    assert!(binary.exists(), "{} is missing: run `cargo build --release` first", binary.display());
    binary
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Kills a member's host as it stands in the demo's list of processes; whether there was one.
fn kill_host(data: &Path, member: u64) -> bool {
    let Some(pids) = json(&data.join("pids.json")) else { return false };
    let members = pids["members"].as_array().cloned().unwrap_or_default();
    let host =
        members.iter().find(|entry| entry["member"] == member).and_then(|entry| entry["host"].as_u64());
    host.is_some_and(|pid| {
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|kill| kill.success())
    })
}

/// The leader's transactions: (key, versions signed, state).
fn transactions(data: &Path) -> Vec<(String, usize, Value)> {
    let database = data.join("member-1/data/postern.sqlite");
    let connection = rusqlite::Connection::open(database).expect("the leader's store");
    let mut statement = connection.prepare("SELECT body FROM transactions ORDER BY key").expect("a table");
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    rows.map(|row| {
        let row: Value = serde_json::from_str(&row.expect("a row")).expect("JSON");
        let versions = row["versions"].as_array().map_or(0, Vec::len);
        (row["key"].as_str().unwrap_or_default().to_owned(), versions, row["state"].clone())
    })
    .collect()
}

/// One demo under fire; how many hosts were killed.
fn demo_under_fire(seed: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("demo");
    let started = Instant::now();
    let mut demo = Command::new(binary())
        .args(["demo", "--json", "--pools", "2", "--data-dir"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the demo starts");
    let mut kills = 0;
    while demo.try_wait().expect("the demo is ours").is_none() {
        assert!(started.elapsed() < Duration::from_secs(180), "seed {seed}: the demo hangs");
        std::thread::sleep(Duration::from_millis(rng.u64(50..900)));
        // The leader more often than others: it is the one that sends transactions.
        let member = if rng.u8(..3) == 0 { 1 } else { rng.u64(1..=5) };
        if kills < 18 && kill_host(&data, member) {
            kills += 1;
        }
    }
    let output = demo.wait_with_output().expect("the demo is ours");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "seed {seed}: the demo failed: {text}");
    let report: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("a JSON report");
    for pool in report["pools"].as_array().expect("pools") {
        assert_eq!(pool["beacon_status"], "active_exiting", "seed {seed}");
    }
    let sent = transactions(&data);
    let keys: Vec<&str> = sent.iter().map(|(key, ..)| key.as_str()).collect();
    assert_eq!(keys, ["deposit-1", "deposit-2"], "seed {seed}");
    // Fees may have been raised under the same nonce; what is final is one success.
    assert!(
        sent.iter().all(|(_, versions, state)| *versions >= 1 && state.get("reverted").is_none()),
        "{sent:?}"
    );
    println!("seed {seed}: {kills} hosts killed, {:.1} s", started.elapsed().as_secs_f64());
    kills
}

#[test]
#[ignore = "long: run by the slow suites"]
fn hosts_may_be_killed_at_any_moment() {
    let runs = std::env::var("POSTERN_KILL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(4);
    let kills: usize = (0..runs).map(demo_under_fire).sum();
    println!("{kills} hosts killed in {runs} demos; every pool completed, nothing was sent twice");
    assert!(kills >= runs as usize * 5, "too few kills to mean anything");
}
