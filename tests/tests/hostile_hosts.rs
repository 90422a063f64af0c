//! Seeded simulations of keygen, presign and release under hostile hosts and corrupted enclaves.
//!
//! `POSTERN_SEED=n` runs one seed, `POSTERN_REPLAY=file` a run that is written down. `POSTERN_SEEDS=n` sets how many the
//! long suite runs, `POSTERN_FIRST_SEED=n` from where. A run that breaks an invariant is shortened and printed; kept under
//! `regressions/`, it is replayed by every test run.

use postern_shared::ids::MemberId;
use postern_tests::hostile::event::{Event, Script};
use postern_tests::hostile::invariants::Invariant;
use postern_tests::hostile::seeds::{run_all, shortest};
use postern_tests::hostile::shrink::shrink;
use postern_tests::hostile::{World, generate, replay, run};
use std::path::Path;

/// Runs seeds and reports; one that breaks an invariant is shortened and printed.
fn run_seeds(seeds: std::ops::Range<u64>) {
    let report = run_all(seeds)
        .unwrap_or_else(|broken| panic!("{broken}\n{}", shortest(&generate::script(broken.seed))));
    print!("{report}");
    assert!(report.count(|of| of.must_finish) > 0, "nothing had to finish");
    assert!(report.sum(|of| of.stale) > 0 || report.sum(|of| of.rollbacks) == 0);
}

fn read(path: &Path) -> Script {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}

#[test]
fn no_seed_breaks_an_invariant() {
    if let Some(path) = std::env::var_os("POSTERN_REPLAY") {
        let outcome = replay(&read(Path::new(&path)), None);
        println!("{:?}", outcome.unwrap_or_else(|failure| panic!("{failure}")));
    } else if let Some(seed) = number("POSTERN_SEED") {
        let broken = |failure| panic!("{failure}\n{}", shortest(&generate::script(seed)));
        println!("{:?}", run(seed).unwrap_or_else(broken));
    } else {
        run_seeds(0..18);
    }
}

#[test]
fn runs_that_once_broke_an_invariant_break_none() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let mut count = 0;
    for file in std::fs::read_dir(kept).expect("kept runs") {
        let path = file.expect("a kept run").path();
        if path.extension().is_some_and(|extension| extension == "run") {
            count += 1;
            let outcome = replay(&read(&path), None);
            outcome.unwrap_or_else(|failure| panic!("{}: {failure}", path.display()));
        }
    }
    assert!(count > 0);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 4] {
        assert_eq!(run(seed), run(seed));
    }
}

/// Fails as soon as an enclave whose host has told it something was restored.
fn told_and_restored(world: &World) -> Result<(), String> {
    let restored = |id: &MemberId| world.cluster.node(*id).machine.launch > 0 && world.told(*id) > 0;
    match world.cluster.ids().into_iter().find(restored) {
        Some(id) => Err(format!("{id} was told something and restored")),
        None => Ok(()),
    }
}

#[test]
fn a_failing_run_shrinks_to_what_makes_it_fail() {
    let mut found = 0;
    for seed in 0..2 {
        let Some(shrunk) = shrink(&generate::script(seed), Some(&told_and_restored)) else { continue };
        found += 1;
        assert_eq!(shrunk.failure.broken.invariant, Invariant::Planted);
        let events = &shrunk.script.events;
        let told = events.iter().any(|event| matches!(event, Event::Tell(_) | Event::Carry(_)));
        assert!(told && events.len() == 2, "{events:?}");
        assert_eq!(shrunk.script.setup.corrupt, []);
        // What is printed fails in the same way when it is replayed.
        let again = shrunk.script.to_string().parse().expect("what is printed can be read");
        assert_eq!(replay(&again, Some(&told_and_restored)), Err(shrunk.failure));
    }
    assert!(found > 0);
}

#[test]
#[ignore = "long: run in release by the slow suites"]
fn ten_thousand_seeds_break_no_invariant() {
    let first = number("POSTERN_FIRST_SEED").unwrap_or(0);
    run_seeds(first..first + number("POSTERN_SEEDS").unwrap_or(10_000));
}
