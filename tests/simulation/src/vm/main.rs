//! The simulated enclave as the first process of a VM: the production set-up with a processor that pretends. NO SECURITY.
//!
//! `/machine.txt` in the image says which machine it pretends to be. If there is a `/probe.txt`, it does not serve, but looks
//! or tries what that says, and tells whoever connects.

mod probe;

use postern_enclave::core::Core;
use postern_enclave::pid1;
use postern_enclave::platform::Platform;
use postern_enclave::shell::{self, Limits};
use postern_enclave::vsock::{DEFAULT_PORT, Door, Listener};
use postern_simulation::SoftwarePsp;
use postern_simulation::process::parse;
use std::error::Error;
use std::process::ExitCode;

const MACHINE: &str = "/machine.txt";
const PROBE: &str = "/probe.txt";

fn main() -> ExitCode {
    match run() {
        Ok(()) => {}
        Err(error) => eprintln!("simulated enclave: {error}"),
    }
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn Error>> {
    if !pid1::is_first() {
        return Err("runs as the first process of a VM only".into());
    }
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let door = Door::asked_for(&words).ok_or("unknown words on the kernel's command line")?;
    pid1::begin()?;
    let listener = Listener::bind(DEFAULT_PORT, door)?;
    if let Ok(probe) = std::fs::read_to_string(PROBE) {
        return probe::run(probe.trim(), &listener);
    }
    let (machine, misbehaviour) = parse(&std::fs::read_to_string(MACHINE)?)?;
    let mut psp = SoftwarePsp::new(machine);
    // Its randomness comes from a file, which is opened when it is first asked.
    psp.fill_random(&mut [0])?;
    let mut core = Core::new(match misbehaviour {
        Some(misbehaviour) => psp.tamper(misbehaviour.lies()),
        None => psp,
    });
    pid1::close()?;
    Err(shell::serve_each(&mut core, &Limits::default(), || listener.accept(), |_| {}).into())
}
