//! Runs seeds of the hostile simulation until one breaks an invariant: `seeds COUNT [FIRST]`. Exits with 1 if one does.
//!
//! The test `hostile_hosts` does the same. This needs a small part of what tests are built with: enough for a tree that is
//! built only to see what the simulation finds in it (`mutants.sh`).

use postern_tests::hostile::generate;
use postern_tests::hostile::seeds::{run_all, shortest};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let (Some(Ok(count)), first) = (numbers.next(), numbers.next()) else {
        eprintln!("seeds COUNT [FIRST]");
        return ExitCode::from(2);
    };
    let first = first.and_then(Result::ok).unwrap_or_default();
    // What panics is reported as what it breaks, and shortened: once is enough.
    std::panic::set_hook(Box::new(|_| {}));
    match run_all(first..first + count) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{broken}");
            print!("{}", shortest(&generate::script(broken.seed)));
            ExitCode::FAILURE
        }
    }
}
