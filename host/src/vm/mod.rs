//! `postern vm`: starts the enclave's VM, confidential where the machine can, else in emulation.

mod driver;
mod qemu;

pub use driver::wait_for_driver;
pub use qemu::{Device, Machine, control};

use crate::config::{ConfigError, read_enclave, read_manifest_of};
use crate::image::files;
use crate::link::EnclaveAddress;
use postern_image::ANY_PORT;
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

/// What SEV-SNP guests need of their host.
const NEEDED: [(&str, &str); 3] = [
    ("/dev/kvm", "hardware virtualisation"),
    ("/dev/sev", "SEV, in BIOS and kernel"),
    ("/dev/vhost-vsock", "the module vhost_vsock"),
];
const SNP_ENABLED: &str = "/sys/module/kvm_amd/parameters/sev_snp";

/// Starts the enclave's VM.
#[derive(Debug, clap::Subcommand)]
pub enum VmCommand {
    /// Runs the VM until it ends, or this process is told to.
    Run(RunArguments),
}

/// Arguments of `postern vm run`.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The host's configuration: whose VM, for which DAO, and where the enclave is to listen.
    #[arg(long)]
    config: PathBuf,
    /// What `postern image build` made.
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// The VM's memory, in MiB; what the firmware starts with is even, at least 256 and less than 2816.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = memory)]
    memory: u32,
    /// CPU model of QEMU's: the launch digest depends on it.
    #[arg(long, value_name = "MODEL", default_value = "EPYC-v4")]
    cpu: String,
    /// Position of the encryption bit: CPUID 0x8000001F, EBX, bits 0 to 5.
    #[arg(long, value_name = "BIT", default_value_t = 51)]
    cbitpos: u32,
    /// Emulate, although this machine could do better.
    #[arg(long)]
    tcg: bool,
    /// Print QEMU's command line and start nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Why there is no VM.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The enclave's address is not one that such a VM has.
    #[error("the configuration says enclave = \"{address}\"; {how} has {wanted}")]
    Address {
        /// As configured.
        address: String,
        /// Which kind of VM.
        how: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The image is not there.
    #[error("{path}: {source}", path = path.display())]
    Image {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
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

impl VmCommand {
    /// Returns when the VM has ended.
    pub async fn run(self) -> Result<(), VmError> {
        let Self::Run(arguments) = self;
        arguments.run().await
    }
}

impl RunArguments {
    async fn run(self) -> Result<(), VmError> {
        let missing = missing();
        // Whoever only wants to see the command line may do so anywhere.
        let emulated = self.tcg || !missing.is_empty() && !self.dry_run;
        if emulated {
            let why = if missing.is_empty() { vec!["--tcg was given".to_owned()] } else { missing };
            tracing::warn!(
                "EMULATED, nothing is protected: {}. Enclaves for production refuse to serve in it",
                why.join("; ")
            );
        }
        let address = read_enclave(&self.config)?;
        let device = device(&address, emulated)?;
        let command_line = command_line(&self.read(files::COMMAND_LINE)?, &device);
        let machine = Machine {
            kernel: self.existing(files::KERNEL)?,
            image: self.existing(files::IMAGE)?,
            firmware: self.existing(files::FIRMWARE)?,
            command_line,
            memory_mib: self.memory,
            cpu: self.cpu.clone(),
            device,
            cbitpos: self.cbitpos,
            host_data: read_manifest_of(&self.config)?.hash().0,
            id_block: self.id_block()?,
        };
        let arguments = machine.arguments();
        if self.dry_run {
            println!(
                "{} {}",
                qemu::PROGRAM,
                arguments.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(" ")
            );
            return Ok(());
        }
        match &machine.device {
            // This process becomes QEMU: whoever supervises it, supervises the VM.
            Device::Kernel { .. } => {
                let source = std::process::Command::new(qemu::PROGRAM).args(&arguments).exec();
                Err(VmError::Start { program: qemu::PROGRAM, source })
            }
            Device::UserSpace { socket, listener } => emulate(&arguments, socket, listener).await,
        }
    }

    fn existing(&self, name: &str) -> Result<PathBuf, VmError> {
        let path = self.image.join(name);
        std::fs::metadata(&path).map_err(|source| VmError::Image { path: path.clone(), source })?;
        Ok(path)
    }

    fn read(&self, name: &str) -> Result<String, VmError> {
        let path = self.image.join(name);
        std::fs::read_to_string(&path).map_err(|source| VmError::Image { path, source })
    }

    /// For this CPU model, if the image was signed.
    fn id_block(&self) -> Result<Option<(String, String)>, VmError> {
        let name = |name| format!("{}.{name}", self.cpu);
        match (self.read(&name(files::ID_BLOCK)), self.read(&name(files::ID_AUTH))) {
            (Ok(block), Ok(auth)) => Ok(Some((block, auth))),
            (Err(block), Err(auth)) if block.is_missing() && auth.is_missing() => Ok(None),
            // Half of it would be a launch that others refuse.
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

impl VmError {
    fn is_missing(&self) -> bool {
        matches!(self, Self::Image { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What this machine lacks for confidential VMs, in words.
fn missing() -> Vec<String> {
    let mut missing: Vec<String> = NEEDED
        .into_iter()
        .filter(|(path, _)| !Path::new(path).exists())
        .map(|(path, what)| format!("{path} is missing ({what})"))
        .collect();
    if !std::fs::read_to_string(SNP_ENABLED).is_ok_and(|text| text.trim() == "Y") {
        missing.push(format!("{SNP_ENABLED} is not Y"));
    }
    missing
}

fn device(address: &EnclaveAddress, emulated: bool) -> Result<Device, VmError> {
    match (address, emulated) {
        (&EnclaveAddress::Vsock { cid, .. }, false) => Ok(Device::Kernel { cid }),
        (EnclaveAddress::UnixConnect { path, .. }, true) => {
            Ok(Device::UserSpace { socket: path.with_extension("vhost"), listener: path.clone() })
        }
        (address, true) => Err(VmError::Address {
            address: address.to_string(),
            how: "an emulated VM",
            wanted: "unix-connect:PATH:5000",
        }),
        (address, false) => Err(VmError::Address {
            address: address.to_string(),
            how: "a confidential VM",
            wanted: "vsock:CID:5000",
        }),
    }
}

/// What the kernel is told: in emulation, where connections come from high ports, one word more than is measured.
fn command_line(image: &str, device: &Device) -> String {
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
                return Err(VmError::Image { path: path.to_owned(), source: error });
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
            Err(source) => VmError::Image { path: listener.to_owned(), source },
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

/// For a shell, if it needs that.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_emulated_vm_lets_any_port_in() {
        assert_eq!(command_line("quiet", &Device::Kernel { cid: 3 }), "quiet");
        let emulated = Device::UserSpace { socket: "s".into(), listener: "l".into() };
        assert_eq!(command_line("quiet", &emulated), "quiet any-port");
    }

    #[test]
    fn memory_is_what_the_firmware_starts_with() {
        assert_eq!(memory("512"), Ok(512));
        assert_eq!(memory("256"), Ok(256));
        assert_eq!(memory("2814"), Ok(2814));
        for refused in ["", "0", "254", "513", "2816", "-512", "512M", "4294967296"] {
            assert!(memory(refused).is_err(), "{refused}");
        }
    }
}
