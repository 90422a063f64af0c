//! Tools that are not ours, from `tests/independent/requirements.txt`.

use std::path::Path;
use std::process::Command;

/// Runs an installed tool: what it printed, or what it complained of. A suite that is asked for and lacks its tool fails.
pub fn run(tool: &str, arguments: &[&str]) -> Result<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("independent");
    let program = folder.join("venv/bin").join(tool);
    assert!(
        program.exists(),
        "{} is missing: make a virtual environment there with requirements.txt, or run tests/slow.sh, which does",
        program.display()
    );
    let output = Command::new(&program).args(arguments).output().expect("a program that starts");
    let text = |bytes| String::from_utf8(bytes).expect("text").trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
