//! Starts, watches, restarts and ends the members' processes.

use super::dao::MemberFiles;
use super::{DemoError, write_file};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Most restarts of one process that died by itself: beyond, something is wrong that a restart does not mend.
const MAX_RESTARTS: u32 = 20;
/// How long children may take to end when asked to.
const GRACE: Duration = Duration::from_secs(2);

/// All members' processes. Dropping it kills them.
pub(super) struct Processes {
    /// `postern`.
    program: PathBuf,
    members: Vec<MemberProcesses>,
    pids_file: PathBuf,
    /// Highest resident size seen, by process id, in KiB.
    peaks: BTreeMap<u32, u64>,
}

struct MemberProcesses {
    files: MemberFiles,
    host: Supervised,
    enclave: Supervised,
}

/// A process that is started again when it dies.
struct Supervised {
    kind: Kind,
    child: Child,
    restarts: u32,
}

/// Which of a member's two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The untrusted one.
    Host,
    /// The trusted one.
    Enclave,
}

/// A process of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Victim {
    /// Whose.
    pub member: u16,
    /// Which of its two.
    pub kind: Kind,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Enclave => "enclave",
        })
    }
}

impl Supervised {
    fn start(kind: Kind, program: &Path, files: &MemberFiles) -> Result<Self, DemoError> {
        Ok(Self { kind, child: kind.start(program, files)?, restarts: 0 })
    }

    /// Starts it again if it is dead; whether it was.
    fn look_after(&mut self, program: &Path, files: &MemberFiles) -> Result<bool, DemoError> {
        let status = self.child.try_wait().map_err(|source| DemoError::Process {
            what: format!("waiting for a member's {}", self.kind),
            source,
        })?;
        let Some(status) = status else { return Ok(false) };
        self.restarts += 1;
        if self.restarts > MAX_RESTARTS {
            return Err(DemoError::KeepsDying {
                what: self.kind,
                member: files.id.0,
                times: self.restarts,
                status: status.to_string(),
                log: self.kind.log(files).to_owned(),
            });
        }
        self.child = self.kind.start(program, files)?;
        Ok(true)
    }
}

impl Kind {
    fn start(self, program: &Path, files: &MemberFiles) -> Result<Child, DemoError> {
        match self {
            Self::Host => start_host(program, files),
            Self::Enclave => start_enclave(program, files),
        }
    }

    fn log(self, files: &MemberFiles) -> &Path {
        match self {
            Self::Host => &files.host_log,
            Self::Enclave => &files.enclave_log,
        }
    }
}

#[derive(serde::Serialize)]
struct Pids {
    demo: u32,
    members: Vec<MemberPids>,
}

#[derive(serde::Serialize)]
struct MemberPids {
    member: u16,
    host: Option<u32>,
    enclave: Option<u32>,
}

impl Processes {
    /// Starts every enclave, then every host. MUST be called on a thread that lives as long: children die with it.
    pub(super) fn start(
        program: &Path,
        members: &[MemberFiles],
        pids_file: PathBuf,
    ) -> Result<Self, DemoError> {
        let start = |kind: Kind, files: &MemberFiles| Supervised::start(kind, program, files);
        let enclaves: Vec<Supervised> =
            members.iter().map(|files| start(Kind::Enclave, files)).collect::<Result<_, _>>()?;
        let mut started = Vec::with_capacity(members.len());
        for (files, enclave) in members.iter().zip(enclaves) {
            let host = start(Kind::Host, files)?;
            started.push(MemberProcesses { files: files.clone(), host, enclave });
        }
        let program = program.to_owned();
        let processes = Self { program, members: started, pids_file, peaks: BTreeMap::new() };
        processes.write_pids()?;
        Ok(processes)
    }

    /// Starts dead processes again, and says which they were. Samples memory.
    pub(super) fn look_after(&mut self) -> Result<Vec<Victim>, DemoError> {
        self.sample_memory();
        let mut restarted = Vec::new();
        for member in &mut self.members {
            let id = member.files.id.0;
            for process in [&mut member.enclave, &mut member.host] {
                if process.look_after(&self.program, &member.files)? {
                    restarted.push(Victim { member: id, kind: process.kind });
                }
            }
        }
        if !restarted.is_empty() {
            self.write_pids()?;
        }
        Ok(restarted)
    }

    /// Kills processes with `kill -9`, and when all are dead starts them again.
    pub(super) async fn kill(&mut self, victims: &[Victim]) -> Result<(), DemoError> {
        for victim in victims {
            let process = |source| DemoError::Process {
                what: format!("killing the {} of member {}", victim.kind, victim.member),
                source,
            };
            if let Some((_, killed)) = self.find(victim) {
                killed.child.kill().await.map_err(process)?;
            }
        }
        let program = self.program.clone();
        for victim in victims {
            if let Some((files, killed)) = self.find(victim) {
                killed.child = victim.kind.start(&program, files)?;
            }
        }
        if victims.is_empty() { Ok(()) } else { self.write_pids() }
    }

    fn find(&mut self, victim: &Victim) -> Option<(&MemberFiles, &mut Supervised)> {
        let member = self.members.iter_mut().find(|member| member.files.id.0 == victim.member)?;
        let process = match victim.kind {
            Kind::Host => &mut member.host,
            Kind::Enclave => &mut member.enclave,
        };
        Some((&member.files, process))
    }

    /// Sum of the highest resident sizes of this process and all children so far, in KiB.
    pub(super) fn peak_memory(&mut self) -> u64 {
        self.sample_memory();
        self.peaks.values().sum()
    }

    /// Asks all to end, waits, kills the rest, reaps all.
    pub(super) async fn stop(mut self) {
        self.sample_memory();
        for member in &mut self.members {
            terminate(&member.host.child);
            terminate(&member.enclave.child);
        }
        let deadline = tokio::time::Instant::now() + GRACE;
        for member in &mut self.members {
            for child in [&mut member.host.child, &mut member.enclave.child] {
                if tokio::time::timeout_at(deadline, child.wait()).await.is_err() {
                    let _ = child.kill().await;
                }
            }
        }
    }

    fn sample_memory(&mut self) {
        let children = self
            .members
            .iter()
            .flat_map(|member| [member.host.child.id(), member.enclave.child.id()])
            .flatten();
        let pids: Vec<u32> = children.chain([std::process::id()]).collect();
        // A restarted process counts once, as its latest.
        self.peaks.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            if let Some(peak) = peak_resident_kib(pid) {
                self.peaks.insert(pid, peak);
            }
        }
    }

    fn write_pids(&self) -> Result<(), DemoError> {
        let members = self.members.iter().map(|member| MemberPids {
            member: member.files.id.0,
            host: member.host.child.id(),
            enclave: member.enclave.child.id(),
        });
        let pids = Pids { demo: std::process::id(), members: members.collect() };
        // Whole or not at all: tests read it while the demo runs.
        let partial = self.pids_file.with_extension("json.partial");
        write_file(&partial, serde_json::to_vec_pretty(&pids).unwrap_or_default())?;
        std::fs::rename(&partial, &self.pids_file)
            .map_err(|source| DemoError::File { path: self.pids_file.clone(), source })
    }
}

fn start_enclave(program: &Path, files: &MemberFiles) -> Result<Child, DemoError> {
    if let Some(vm) = &files.vm {
        let arguments: [&Path; 6] =
            ["vm".as_ref(), "run".as_ref(), "--config".as_ref(), &files.config, "--image".as_ref(), vm];
        return start(program, &arguments, &files.directory, &files.enclave_log);
    }
    let arguments: [&Path; 5] = [
        "simulated-enclave".as_ref(),
        "--socket".as_ref(),
        &files.socket,
        "--machine".as_ref(),
        &files.machine,
    ];
    start(program, &arguments, &files.directory, &files.enclave_log)
}

fn start_host(program: &Path, files: &MemberFiles) -> Result<Child, DemoError> {
    let arguments: [&Path; 3] = ["run".as_ref(), "--config".as_ref(), &files.config];
    start(program, &arguments, &files.directory, &files.host_log)
}

fn start(program: &Path, arguments: &[&Path], directory: &Path, log: &Path) -> Result<Child, DemoError> {
    let process =
        |source| DemoError::Process { what: format!("starting `{}`", arguments[0].display()), source };
    let open = || File::options().create(true).append(true).open(log);
    let file = |source| DemoError::File { path: log.to_owned(), source };
    Command::new(program)
        .args(["demo", "--child-of", &std::process::id().to_string(), "--"])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(open().map_err(file)?)
        .stderr(open().map_err(file)?)
        // So that Ctrl-C reaches the demo only, which ends the children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(process)
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile; it is not reaped yet, so the id is still its own.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// `VmHWM` of a process.
fn peak_resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_a_peak() {
        assert!(peak_resident_kib(std::process::id()).unwrap() > 100);
        assert_eq!(peak_resident_kib(u32::MAX), None);
    }
}
