//! What the tests of both models have in common.

use postern_tests::search::{Model, Outcome, search};

/// No run here has more states.
const STATES: usize = 40_000_000;

pub fn run(model: &impl Model) -> Outcome {
    let outcome = search(model, STATES);
    println!("{outcome}");
    outcome
}

pub fn holds(model: &impl Model) {
    let outcome = run(model);
    assert!(outcome.holds(), "{outcome}");
}
