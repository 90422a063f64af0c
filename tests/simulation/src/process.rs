//! A simulated enclave as a process of its own: the production core and shell behind a Unix socket.

use crate::{Machine, Misbehaviour, SoftwarePsp};
use postern_enclave::core::Core;
use postern_enclave::shell::{self, Ended, Limits};
use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Why a simulated enclave could not serve.
#[non_exhaustive]
#[derive(Debug)]
pub enum ProcessError {
    /// The file that describes the machine can't be read.
    MachineFile(io::Error),
    /// A line of it is not understood.
    MachineLine(usize),
    /// A way to misbehave that nobody knows.
    Misbehaviour(String),
    /// The socket can't be had.
    Socket(io::Error),
    /// It served, and can no more.
    Ended(Ended),
}

impl core::fmt::Display for ProcessError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::MachineFile(error) => write!(f, "machine file: {error}"),
            Self::MachineLine(line) => {
                write!(f, "machine file, line {line}: not a known name and its hexadecimal value")
            }
            Self::Misbehaviour(name) => {
                let known = Misbehaviour::ALL.map(|one| one.name()).join(", ");
                write!(f, "machine file: no misbehaviour `{name}`; known are {known}")
            }
            Self::Socket(error) => write!(f, "socket: {error}"),
            Self::Ended(ended) => ended.fmt(f),
        }
    }
}

impl std::error::Error for ProcessError {}

/// Writes what [`run`] reads: `name = hexadecimal`, a line for each, and `misbehave = NAME` for a machine that does.
pub fn describe(machine: &Machine, misbehaviour: Option<Misbehaviour>) -> String {
    let hex = postern_shared::bytes::to_hex;
    let misbehave = misbehaviour.map_or(String::new(), |how| format!("misbehave = {}\n", how.name()));
    format!(
        "chip_seed = {}\nmeasurement = {}\nhost_data = {}\n{misbehave}",
        hex(&machine.chip_seed),
        hex(&machine.measurement),
        hex(&machine.host_data)
    )
}

/// Reads a machine from its description; what is not named keeps its default.
pub fn parse(text: &str) -> Result<(Machine, Option<Misbehaviour>), ProcessError> {
    fn set<const N: usize>(field: &mut [u8; N], value: &str) -> Option<()> {
        *field = postern_shared::bytes::from_hex(value).ok()?.try_into().ok()?;
        Some(())
    }
    let (mut machine, mut misbehaviour) = (Machine::default(), None);
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (name, value) = line.split_once('=').ok_or(ProcessError::MachineLine(index + 1))?;
        let value = value.trim();
        let known = match name.trim() {
            "chip_seed" => set(&mut machine.chip_seed, value),
            "measurement" => set(&mut machine.measurement, value),
            "host_data" => set(&mut machine.host_data, value),
            "misbehave" => {
                let known = Misbehaviour::named(value);
                misbehaviour = Some(known.ok_or_else(|| ProcessError::Misbehaviour(value.to_owned()))?);
                Some(())
            }
            _ => None,
        };
        known.ok_or(ProcessError::MachineLine(index + 1))?;
    }
    Ok((machine, misbehaviour))
}

/// Serves one host at a time, for ever. All state is in memory: when the process ends, it is gone.
pub fn run(socket: &Path, machine: &Path) -> Result<(), ProcessError> {
    let (machine, misbehaviour) = parse(&fs::read_to_string(machine).map_err(ProcessError::MachineFile)?)?;
    let mut psp = SoftwarePsp::new(machine);
    if let Some(misbehaviour) = misbehaviour {
        psp = psp.tamper(misbehaviour.lies());
    }
    let mut core = Core::new(psp);
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ProcessError::Socket(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(ProcessError::Socket)?;
    let accept = || listener.accept().map(|(stream, _)| stream);
    let ended = |error: &_| eprintln!("simulated enclave: {error}");
    Err(ProcessError::Ended(shell::serve_each(&mut core, &Limits::default(), accept, ended)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_survives_its_description() {
        let machine =
            Machine { chip_seed: [3; 32], measurement: [4; 48], host_data: [5; 32], ..Machine::default() };
        let (read, misbehaviour) = parse(&describe(&machine, None)).unwrap();
        assert_eq!(misbehaviour, None);
        assert_eq!((read.chip_seed, read.measurement, read.host_data), ([3; 32], [4; 48], [5; 32]));
        assert!(matches!(parse("chip_seed = 0x00"), Err(ProcessError::MachineLine(1))));
        let liar = Misbehaviour::ALL[3];
        assert_eq!(parse(&describe(&machine, Some(liar))).unwrap().1, Some(liar));
        let error = parse("misbehave = badly").unwrap_err().to_string();
        assert!(error.contains("`badly`") && error.contains("vmpl-1"), "{error}");
        assert!(matches!(parse("\nnonsense"), Err(ProcessError::MachineLine(2))));
    }
}
