//! Whole demos in which one member is not as it should be. Its machine lies about itself, in each way that there is: the others go
//! on without it, and each of their hosts says who was refused and why. Or its host can pay for nothing, and others do.

use super::kill::binary;
use postern_simulation::Misbehaviour;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

const LIAR: u16 = 5;
/// Demos at a time: each is eleven processes that mostly wait.
const AT_ONCE: usize = 4;

#[test]
#[ignore = "many demos, each some fifteen seconds"]
fn others_go_on_without_a_machine_that_lies() {
    let open = Mutex::new(Misbehaviour::ALL.to_vec());
    let next = || open.lock().expect("no panic while it was held").pop();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(how) = next() {
                    lie(how);
                }
            });
        }
    });
}

/// What a demo with these arguments reports.
fn demo(arguments: [&str; 2], folder: &Path) -> Value {
    let run = Command::new(binary())
        .args(["demo", "--json"])
        .args(arguments)
        .arg("--data-dir")
        .arg(folder)
        .stderr(Stdio::inherit())
        .output()
        .expect("the demo starts");
    assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stdout));
    let text = String::from_utf8(run.stdout).expect("text");
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

/// The leader's host calls nobody, for want of ether: the pool manager learns of the epoch, and the deposit is made, all the same.
#[test]
#[ignore = "a demo of half a minute"]
fn others_make_the_calls_of_a_leader_that_can_not_pay() {
    let folder = tempfile::tempdir().expect("a directory");
    let report = demo(["--poor", "1"], folder.path());
    assert_eq!(report["pools"][0]["beacon_status"], "withdrawal_done");
    let proofs = |member: u16| folder.path().join(format!("member-{member}/data/proofs")).exists();
    assert!((2..=5).any(proofs), "nobody but the leader has handed a deposit in");
    for member in 1..=5 {
        let alerts = folder.path().join(format!("member-{member}/data/alerts"));
        assert!(!alerts.exists(), "a false alarm of member {member}");
    }
}

fn lie(how: Misbehaviour) {
    let folder = tempfile::tempdir().expect("a directory");
    let liar = format!("{LIAR}={}", how.name());
    let report = demo(["--liar", &liar], folder.path());
    let pool = &report["pools"][0];
    assert_eq!(pool["beacon_status"], "withdrawal_done", "{liar}");
    for committee in [&pool["operators"], &pool["guardians"]] {
        // On a machine this busy another may come too late, too.
        let committee = committee.as_array().expect("members");
        assert!(committee.len() >= 3 && !committee.contains(&LIAR.into()), "{liar}: {committee:?}");
    }
    // Who came too late to be one of them may have ended before it had seen anything.
    for member in pool["operators"].as_array().expect("members") {
        let status = Command::new(binary())
            .args(["status", "--config"])
            .arg(folder.path().join(format!("member-{member}/config.toml")))
            .output()
            .expect("the status");
        let text = String::from_utf8(status.stdout).expect("text");
        let refused = text.lines().find(|line| line.contains(&format!("REFUSED: member {LIAR}: ")));
        let refused = refused.unwrap_or_else(|| panic!("{liar}: member {member} says nothing: {text}"));
        assert!(refused.contains(how.expected_check().name()), "{liar}: {refused}");
        assert!(text.contains(&format!("{}: expected ", how.expected_check())), "{liar}: {text}");
    }
    println!("{liar}: {} ms", report["timings_ms"]["total"]);
}
