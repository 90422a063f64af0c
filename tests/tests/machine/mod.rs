//! A VM that is booted as `postern vm run` boots it, but for its console, which is kept, and its life, which ends with this
//! value.

use postern_host::link::{Connection, EnclaveAddress};
use postern_host::measure::{Firmware, KernelHashes};
use postern_host::vm::{Device, Machine};
use postern_image::{COMMAND_LINE, Inputs, initramfs};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PORT: u32 = 5000;
/// A boot takes four seconds, and longer when other work shares the processors.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace")
}

/// Kernel, firmware and modules; `tests/vm.sh` gets them.
pub fn inputs() -> Inputs {
    Inputs::read(&root().join("target/image-inputs")).expect("run under tests/vm.sh")
}

/// A static binary as the image wants it, built if need be.
pub fn init(package: &str, binary: &str) -> Vec<u8> {
    let script = root().join("enclave/image/init.sh");
    let run =
        Command::new(script).args([package, binary]).stderr(Stdio::inherit()).output().expect("a script");
    assert!(run.status.success(), "{package} was not built");
    std::fs::read(String::from_utf8(run.stdout).expect("a path").trim()).expect("a binary")
}

pub fn production() -> Vec<u8> {
    init("postern-enclave", "postern-enclave")
}

/// The image of the simulated enclave, with these files beside it.
pub fn simulated(others: &[(&str, &[u8])]) -> Vec<u8> {
    let init = init("postern-simulation", "postern-simulated-vm");
    initramfs(&init, &inputs().modules, others)
}

/// A running VM.
pub struct Vm {
    folder: TempDir,
    qemu: Child,
    vsock: Child,
    pub started: Instant,
}

impl Vm {
    pub fn boot(image: &[u8]) -> Self {
        Self::boot_with(image, COMMAND_LINE)
    }

    pub fn boot_with(image: &[u8], command_line: &str) -> Self {
        Self::start(image, command_line, None)
    }

    /// With the image's own firmware, and in memory what QEMU would leave there for a confidential VM: the table of hashes.
    /// The firmware is the same and compares the same; only nothing has measured the table.
    pub fn boot_measured(image: &[u8], command_line: &str, hashes: &KernelHashes) -> Self {
        Self::start(image, command_line, Some(hashes))
    }

    fn start(image: &[u8], command_line: &str, hashes: Option<&KernelHashes>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("image"), image).expect("a file");
        let (socket, listener) = (at("vhost"), at("vsock"));
        let vsock = Command::new("vhost-device-vsock")
            .args(["--guest-cid", "42", "--tx-buffer-size", "28672"])
            .arg("--socket")
            .arg(&socket)
            .arg("--uds-path")
            .arg(&listener)
            .stdin(Stdio::null())
            .spawn()
            .expect("run under tests/vm.sh");
        let started = Instant::now();
        while !socket.exists() {
            assert!(started.elapsed() < PATIENCE, "the vsock device makes no socket");
            std::thread::sleep(Duration::from_millis(5));
        }
        let inputs = root().join("target/image-inputs");
        let machine = Machine {
            kernel: inputs.join("vmlinuz"),
            image: at("image"),
            firmware: inputs.join("firmware.fd"),
            command_line: command_line.to_owned(),
            memory_mib: 512,
            cpu: "EPYC-v4".to_owned(),
            device: Device::UserSpace { socket, listener },
            cbitpos: 51,
            host_data: [0; 32],
            id_block: None,
        };
        let mut arguments = machine.arguments();
        let console = arguments.iter().position(|word| word == "-serial").expect("no console") + 1;
        arguments[console] = format!("file:{}", at("console").display());
        if let Some(hashes) = hashes {
            let table = at("table");
            std::fs::write(&table, hashes.table()).expect("a file");
            let bytes = std::fs::read(&machine.firmware).expect("firmware");
            let address = Firmware::parse(bytes).expect("firmware").hash_table_address().expect("a table");
            let loader = format!("loader,file={},addr={address},force-raw=on", table.display());
            let firmware = machine.firmware.display().to_string();
            arguments.extend(["-bios", &firmware, "-device", &loader].map(str::to_owned));
        }
        let qemu = Command::new("qemu-system-x86_64")
            .args(arguments)
            .stdin(Stdio::null())
            // What the emulation lacks of the CPU model.
            .stderr(Stdio::null())
            .spawn()
            .expect("run under tests/vm.sh");
        Self { folder, qemu, vsock, started }
    }

    fn listener(&self) -> PathBuf {
        self.folder.path().join("vsock")
    }

    /// Where hosts find the enclave.
    pub fn address(&self) -> EnclaveAddress {
        EnclaveAddress::UnixConnect { path: self.listener(), port: PORT }
    }

    /// What the VM has written to its console.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("console")).unwrap_or_default())
            .into_owned()
    }

    pub fn is_running(&mut self) -> bool {
        self.qemu.try_wait().expect("a child").is_none()
    }

    /// Waits until the VM ends by itself.
    pub fn wait(&mut self) {
        while self.is_running() {
            assert!(self.started.elapsed() < PATIENCE, "the VM does not end: {}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A connection to whatever listens; none if the VM ends before anything does.
    pub fn dial(&mut self, port: u32) -> Option<UnixStream> {
        while self.is_running() {
            assert!(self.started.elapsed() < PATIENCE, "nobody listens: {}", self.console());
            if let Ok(stream) = self.try_dial(port) {
                return Some(stream);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// The device wants its line whole, and answers with a line before the bytes of whoever listens.
    fn try_dial(&self, port: u32) -> std::io::Result<UnixStream> {
        let mut stream = UnixStream::connect(self.listener())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        let answer = String::from_utf8_lossy(&line).into_owned();
        if answer.starts_with("OK ") { Ok(stream) } else { Err(std::io::Error::other(answer)) }
    }

    /// Whether anybody listens within so much time since the start.
    pub fn serves_within(&mut self, time: Duration) -> bool {
        while self.is_running() && self.started.elapsed() < time {
            if self.try_dial(PORT).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// All that a probe says before it or the VM ends.
    pub fn hear(&mut self) -> String {
        let mut stream = self.dial(PORT).unwrap_or_else(|| panic!("the VM ended: {}", self.console()));
        let mut text = Vec::new();
        // A VM that is gone resets the connection; what it said before counts.
        let _ = stream.read_to_end(&mut text);
        String::from_utf8(text).expect("text")
    }

    /// Waits for the enclave's first answer.
    pub async fn connect(&mut self) -> Connection {
        loop {
            match Connection::open(&self.address()).await {
                Ok(connection) => return connection,
                Err(error) => {
                    assert!(
                        self.started.elapsed() < PATIENCE && self.is_running(),
                        "{error}: {}",
                        self.console()
                    );
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        for child in [&mut self.qemu, &mut self.vsock] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
