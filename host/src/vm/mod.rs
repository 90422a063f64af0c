//! `postern vm`: starts the enclave's VM, confidential where its address is of the kernel's vsock, else in emulation.

mod driver;
mod launch;
mod preflight;
mod qemu;
mod this_machine;

pub use driver::wait_for_driver;
pub use launch::Objection;
pub use preflight::PreflightArguments;
pub use qemu::{Device, IdBlockFiles, Machine, control};

use crate::attest::AttestError;
use crate::config::{ConfigError, read_data_dir, read_enclave, read_manifest_of};
use crate::image::files;
use crate::link::{ENCLAVE_PORT, EnclaveAddress};
use crate::manifest::{ManifestFileError, load_epochs};
use crate::measure::command::bits;
use crate::measure::id_block::IdBlockError;
use crate::measure::policy::launch_policy;
use crate::measure::{CpuModel, FirmwareError, KernelError, VcpuError};
use crate::output::say;
use launch::{Terms, examine};
use postern_attestation::GuestPolicy;
use postern_image::ANY_PORT;
use postern_shared::ids::Measurement;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// The vsock device in user space, for emulation.
const USER_SPACE_VSOCK: &str = "vhost-device-vsock";
/// Larger packets are lost on the way through it: its library reads a packet's first descriptor only.
const MAX_PACKET: &str = "28672";
/// How long it may take to make its socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// In MiB.
const DEFAULT_MEMORY: u32 = 512;

/// Context ids that stand for the hypervisor, the machine itself, its host, and any.
const RESERVED_CIDS: [u32; 4] = [0, 1, 2, u32::MAX];
/// The encryption bit of EPYC 7003 and later, if this machine's processor says nothing of it.
const USUAL_CBITPOS: u32 = 51;

/// Starts the enclave's VM.
#[derive(Debug, clap::Subcommand)]
pub enum VmCommand {
    /// Runs the VM until it ends, or this process is told to.
    Run(RunArguments),
    /// Say what the manifest will say of this machine, and what to do about it.
    Preflight(PreflightArguments),
}

/// Arguments of `postern vm run`.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The host's configuration: whose VM, for which DAO, and where the enclave is to listen. With a vsock address the VM is
    /// confidential; with unix-connect it is emulated, and protects nothing.
    #[arg(long)]
    config: PathBuf,
    /// What `postern image build` made.
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// The VM's memory, in MiB; what the firmware starts with is even, at least 256 and less than 2816.
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_MEMORY, value_parser = memory)]
    memory: u32,
    /// CPU model of QEMU's: the launch digest depends on it.
    #[arg(long, value_name = "MODEL", default_value = "EPYC-v4")]
    cpu: CpuModel,
    /// Position of the encryption bit, if it is not what CPUID 0x8000001F says (EBX, bits 0 to 5).
    #[arg(long, value_name = "BIT", value_parser = clap::value_parser!(u32).range(32..=63))]
    cbitpos: Option<u32>,
    /// The guest policy, if it is not the first manifest's, or, where the newest does not accept that, the newest's. The key to an
    /// enclave's log is sealed to the policy with which it was launched.
    #[arg(long, value_name = "BITS", value_parser = bits)]
    policy: Option<u64>,
    /// Let the VM talk on its serial port, to standard output, and start it whatever its peers will object to: for an image
    /// that was built with --debug.
    #[arg(long)]
    debug: bool,
    /// Print QEMU's command line and start nothing. What this machine lacks is a warning then.
    #[arg(long)]
    dry_run: bool,
}

/// Why there is no VM.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// What was to be said could not be written.
    #[error("{0}")]
    Output(#[from] crate::output::OutputError),
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A report can't be read or judged.
    #[error(transparent)]
    Report(#[from] AttestError),
    /// The manifest's epochs can't be read.
    #[error(transparent)]
    Manifest(#[from] ManifestFileError),
    /// The enclave's address is not one that a VM has.
    #[error("the configuration says enclave = \"{address}\"; {wanted}")]
    Address {
        /// As configured.
        address: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A file of the image, or of the machine.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The firmware can't be measured.
    #[error("the image's firmware: {0}")]
    Firmware(#[from] FirmwareError),
    /// Kernel and command line can't be measured.
    #[error("the image's kernel: {0}")]
    Kernel(#[from] KernelError),
    /// QEMU's command line could not say it.
    #[error("the kernel's command line has a control character: {0:?}")]
    CommandLine(String),
    /// The vCPUs can't be measured.
    #[error(transparent)]
    Vcpus(#[from] VcpuError),
    /// The list of measurements can't be read.
    #[error("{path}: {source}", path = path.display())]
    Measurements {
        /// Which file.
        path: PathBuf,
        /// What and where.
        source: serde_json::Error,
    },
    /// The files are not those that were measured.
    #[error(
        "launch digest {digest} with {cpu} is none of those in {}: something in the image has changed",
        files::MEASUREMENTS
    )]
    OtherThanMeasured {
        /// Of what would run.
        digest: Measurement,
        /// The CPU model.
        cpu: CpuModel,
    },
    /// An ID block, or who signed it, can't be read.
    #[error("{path}: {source}", path = path.display())]
    IdBlock {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: IdBlockError,
    },
    /// A file is not base64.
    #[error("{path}: not base64", path = path.display())]
    Base64 {
        /// Which file.
        path: PathBuf,
    },
    /// The image was signed for other launches.
    #[error("the image has ID blocks, and none is for launch digest {digest}")]
    NoFittingBlock {
        /// Of what would run.
        digest: Measurement,
    },
    /// No peer would accept it.
    #[error("peers would refuse this VM: {}", lines(.0))]
    Objections(Vec<Objection>),
    /// The machine can't.
    #[error("this machine can't start it: {}", .0.join("; "))]
    Machine(Vec<String>),
    /// A program can't be started.
    #[error("can't start {program}: {source}")]
    Start {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ended, or did not become ready.
    #[error("{program} {how}")]
    Ended {
        /// Which.
        program: &'static str,
        /// How.
        how: String,
    },
}

fn lines(objections: &[Objection]) -> String {
    objections.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl VmCommand {
    /// Returns when the VM has ended, or with whether the machine will do.
    pub async fn run(self) -> Result<bool, VmError> {
        match self {
            Self::Run(arguments) => arguments.run().await.map(|()| true),
            Self::Preflight(arguments) => arguments.run(),
        }
    }
}

impl RunArguments {
    /// With everything else as it is by default.
    fn new(config: PathBuf, image: PathBuf, cpu: CpuModel) -> Self {
        Self {
            config,
            image,
            memory: DEFAULT_MEMORY,
            cpu,
            cbitpos: None,
            policy: None,
            debug: false,
            dry_run: false,
        }
    }

    async fn run(self) -> Result<(), VmError> {
        let machine = self.plan()?;
        let lacks = self.lacks(&machine);
        if self.dry_run {
            for what in lacks {
                tracing::warn!("this machine can't start it: {what}");
            }
            say(format_args!("{} {}\n", qemu::PROGRAM, shell(&machine.arguments())))?;
            return Ok(());
        }
        if !lacks.is_empty() {
            return Err(VmError::Machine(lacks));
        }
        let arguments = machine.arguments();
        match &machine.device {
            // This process becomes QEMU: whoever supervises it, supervises the VM.
            Device::Kernel { .. } => {
                let source = std::process::Command::new(qemu::PROGRAM).args(&arguments).exec();
                Err(VmError::Start { program: qemu::PROGRAM, source })
            }
            Device::UserSpace { socket, listener } => {
                tracing::warn!(
                    "EMULATED, nothing is protected. Enclaves for production refuse to serve in it"
                );
                emulate(&arguments, socket, listener).await
            }
        }
    }

    /// The VM that would be started, wherever that is asked.
    ///
    /// # Errors
    /// Whatever can be known of it beforehand that keeps it from starting, or its peers from accepting it; the machine's own
    /// faults are not among them.
    pub fn plan(&self) -> Result<Machine, VmError> {
        let device = device(&read_enclave(&self.config)?)?;
        let command_line = self.command_line()?;
        let genesis = read_manifest_of(&self.config)?;
        let terms = match device {
            Device::Kernel { .. } => {
                let newest = load_epochs(&read_data_dir(&self.config)?, &genesis)?.newest;
                let asked = self.policy.map(GuestPolicy);
                let (terms, objections) =
                    examine(&self.image, self.cpu, &command_line, (&genesis, &newest), asked)?;
                for objection in &objections {
                    tracing::warn!("peers would refuse this VM: {objection}");
                }
                if !objections.is_empty() && !self.debug {
                    return Err(VmError::Objections(objections));
                }
                terms
            }
            // It is not measured, and nobody believes it.
            Device::UserSpace { .. } => {
                Terms { policy: launch_policy(&genesis.attestation.guest_policy), id_block: None }
            }
        };
        Ok(Machine {
            kernel: self.existing(files::KERNEL)?,
            image: self.existing(files::IMAGE)?,
            firmware: self.existing(files::FIRMWARE)?,
            command_line: told(&command_line, &device),
            memory_mib: self.memory,
            cpu: self.cpu.to_string(),
            device,
            serial: self.debug,
            cbitpos: self.cbitpos.or_else(this_machine::cbitpos).unwrap_or(USUAL_CBITPOS),
            policy: terms.policy,
            host_data: genesis.hash().0,
            id_block: terms.id_block,
        })
    }

    /// What this machine lacks for it, in words.
    fn lacks(&self, machine: &Machine) -> Vec<String> {
        let confidential = matches!(machine.device, Device::Kernel { .. });
        let mut lacks = this_machine::qemu_lacks(&machine.cpu, confidential);
        if confidential {
            lacks.extend(this_machine::missing(machine.policy));
            let found = this_machine::cbitpos().filter(|found| *found != machine.cbitpos);
            lacks
                .extend(found.map(|found| format!("its encryption bit is {found}, not {}", machine.cbitpos)));
        }
        lacks
    }

    fn existing(&self, name: &str) -> Result<PathBuf, VmError> {
        let path = self.image.join(name);
        std::fs::metadata(&path).map_err(|source| VmError::File { path: path.clone(), source })?;
        Ok(path)
    }

    /// The image's, as it was measured.
    fn command_line(&self) -> Result<String, VmError> {
        let path = self.image.join(files::COMMAND_LINE);
        let text = std::fs::read_to_string(&path).map_err(|source| VmError::File { path, source })?;
        if text.contains(char::is_control) { Err(VmError::CommandLine(text)) } else { Ok(text) }
    }
}

fn device(address: &EnclaveAddress) -> Result<Device, VmError> {
    let wrong = |wanted| Err(VmError::Address { address: address.to_string(), wanted });
    match address {
        EnclaveAddress::Vsock { cid, .. } if RESERVED_CIDS.contains(cid) => {
            wrong("that context id is reserved: from 3 on they are VMs'")
        }
        EnclaveAddress::Vsock { port, .. } | EnclaveAddress::UnixConnect { port, .. }
            if *port != ENCLAVE_PORT =>
        {
            wrong("the enclave listens on port 5000")
        }
        EnclaveAddress::Vsock { cid, .. } => Ok(Device::Kernel { cid: *cid }),
        EnclaveAddress::UnixConnect { path, .. } => {
            Ok(Device::UserSpace { socket: path.with_extension("vhost"), listener: path.clone() })
        }
        EnclaveAddress::Unix(_) => {
            wrong("a confidential VM has vsock:CID:5000, an emulated one unix-connect:PATH:5000")
        }
    }
}

/// What the kernel is told: in emulation, where a connection's port says nothing, one word more than is measured.
fn told(image: &str, device: &Device) -> String {
    match device {
        Device::Kernel { .. } => image.to_owned(),
        Device::UserSpace { .. } => format!("{image} {ANY_PORT}"),
    }
}

/// Runs the vsock device and QEMU, until one of them ends or this process is told to.
async fn emulate(arguments: &[String], socket: &Path, listener: &Path) -> Result<(), VmError> {
    let (control, early) = (qemu::control(socket), listener.with_extension("early"));
    for path in [socket, listener, &control, &early] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(VmError::File { path: path.to_owned(), source: error });
            }
            _ => {}
        }
    }
    let mut vsock = start(
        USER_SPACE_VSOCK,
        Command::new(USER_SPACE_VSOCK)
            .args(["--guest-cid", qemu::EMULATED_CID, "--tx-buffer-size", MAX_PACKET])
            .arg("--socket")
            .arg(socket)
            .arg("--uds-path")
            .arg(&early),
    )?;
    let waited = tokio::time::timeout(PATIENCE, async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    if waited.await.is_err() {
        return Err(VmError::Ended { program: USER_SPACE_VSOCK, how: "makes no socket".to_owned() });
    }
    let mut qemu = start(qemu::PROGRAM, Command::new(qemu::PROGRAM).args(arguments))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|source| VmError::Start { program: qemu::PROGRAM, source })?;
    // Whichever is left is killed when it is dropped.
    tokio::select! {
        error = show(early, listener, control) => Err(error),
        ended = qemu.wait() => ended_of(qemu::PROGRAM, ended),
        ended = vsock.wait() => ended_of(USER_SPACE_VSOCK, ended),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Puts the device's socket where the hosts look for it, once it can be used. Returns only if that fails.
async fn show(early: PathBuf, listener: &Path, control: PathBuf) -> VmError {
    let waited = tokio::task::spawn_blocking(move || wait_for_driver(&control)).await;
    match waited {
        Ok(Ok(())) => match std::fs::rename(early, listener) {
            Ok(()) => std::future::pending().await,
            Err(source) => VmError::File { path: listener.to_owned(), source },
        },
        // QEMU has ended, or says nothing of use: whoever waits for it says more.
        Ok(Err(error)) => {
            tracing::warn!("the VM can't be reached: {error}");
            std::future::pending().await
        }
        Err(error) => VmError::Ended { program: qemu::PROGRAM, how: error.to_string() },
    }
}

fn start(program: &'static str, command: &mut Command) -> Result<Child, VmError> {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().map_err(|source| VmError::Start { program, source })
}

fn ended_of(program: &'static str, ended: io::Result<std::process::ExitStatus>) -> Result<(), VmError> {
    let how = match ended {
        Ok(status) => format!("ended ({status}): an enclave that can't go on ends its VM"),
        Err(error) => error.to_string(),
    };
    Err(VmError::Ended { program, how })
}

/// With other sizes the image's firmware stops, and says nothing: from 2816 on, QEMU puts some of it above 4 GiB.
fn memory(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(mib) if (256..2816).contains(&mib) && mib % 2 == 0 => Ok(mib),
        _ => Err("the image's firmware wants an even number, at least 256 and less than 2816".to_owned()),
    }
}

/// As a shell takes it.
fn shell(arguments: &[String]) -> String {
    arguments.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(" ")
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
