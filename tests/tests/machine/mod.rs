//! A VM that is booted as `postern vm run` boots it, but for its console, which is kept, and its life, which ends with this
//! value.

pub mod intruder;

use postern_host::link::{Connection, EnclaveAddress};
use postern_host::measure::policy::launch_policy;
use postern_host::measure::{Firmware, KernelHashes};
use postern_host::vm::{self, Device, Machine, wait_for_driver};
use postern_image::{ANY_PORT, COMMAND_LINE, Inputs, Purpose, initramfs};
use postern_shared::policy::GuestPolicyRules;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PORT: u32 = 5000;
/// A boot takes two or three seconds, and longer when other work shares the processors.
const PATIENCE: Duration = Duration::from_secs(60);

/// As `postern vm run` tells the kernel in emulation, where a host's port says nothing.
pub fn emulated() -> String {
    format!("{COMMAND_LINE} {ANY_PORT}")
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace")
}

/// Kernel and firmware; `tests/vm.sh` gets them.
pub fn inputs() -> Inputs {
    inputs_for(Purpose::Production)
}

pub fn inputs_for(purpose: Purpose) -> Inputs {
    Inputs::read(&root().join("target/image-inputs"), purpose).expect("run under tests/vm.sh")
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
    initramfs(&init, others)
}

/// A running VM.
pub struct Vm {
    folder: TempDir,
    qemu: Child,
    vsock: Child,
    pub started: Instant,
}

/// What is booted.
pub struct Setup<'a> {
    pub image: &'a [u8],
    pub command_line: String,
    pub kernel: PathBuf,
    /// QEMU's own, unless another is named; and that of the image starts nothing without a table of hashes.
    pub firmware: Option<PathBuf>,
    /// Left in memory where QEMU would leave it for a confidential VM. The firmware is the same there, and compares the same;
    /// only nothing has measured the table here.
    pub hashes: Option<KernelHashes>,
    /// Whatever else a host may tell QEMU.
    pub more: Vec<String>,
}

impl<'a> Setup<'a> {
    /// As `postern vm run` boots it in emulation.
    pub fn new(image: &'a [u8]) -> Self {
        let kernel = input("vmlinuz");
        Self { image, command_line: emulated(), kernel, firmware: None, hashes: None, more: Vec::new() }
    }

    /// With the image's firmware, and the hashes of what is there.
    pub fn measured(image: &'a [u8]) -> Self {
        Self::told(image, Purpose::Production, emulated())
    }

    /// With the image's firmware, the kernel for a purpose, and another command line.
    pub fn told(image: &'a [u8], purpose: Purpose, command_line: String) -> Self {
        let kernel = match purpose {
            Purpose::Production => input("vmlinuz"),
            Purpose::Debug => input("vmlinuz-debug"),
        };
        let hashes = KernelHashes::new(&served(&inputs_for(purpose).kernel, image), image, &command_line);
        let hashes = Some(hashes.expect("a short command line"));
        Self { kernel, command_line, firmware: Some(input("firmware.fd")), hashes, ..Self::new(image) }
    }
}

fn input(name: &str) -> PathBuf {
    root().join("target/image-inputs").join(name)
}

/// The kernel as QEMU hands it over where there is no SEV: it notes in a Linux kernel's header where it has put the rest, as
/// a boot loader would (Linux's x86 boot protocol; QEMU 10.0, `hw/i386/x86-common.c`).
pub fn served(kernel: &[u8], image: &[u8]) -> Vec<u8> {
    const MEMORY: u32 = 512 << 20;
    const TABLES: u32 = 0x28000;
    let mut kernel = kernel.to_vec();
    if kernel.get(0x202..0x206) != Some(b"HdrS") {
        return kernel;
    }
    let size = u32::try_from(image.len()).expect("an image");
    let address = (MEMORY - TABLES - 1 - size) & !0xfff;
    kernel[0x210] = 0xb0;
    kernel[0x211] |= 0x80;
    kernel[0x218..0x21c].copy_from_slice(&address.to_le_bytes());
    kernel[0x21c..0x220].copy_from_slice(&size.to_le_bytes());
    kernel[0x224..0x226].copy_from_slice(&0xfe00u16.to_le_bytes());
    kernel[0x228..0x22c].copy_from_slice(&0x20000u32.to_le_bytes());
    kernel
}

impl Vm {
    pub fn boot(image: &[u8]) -> Self {
        Self::start(Setup::new(image))
    }

    pub fn start(setup: Setup<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("image"), setup.image).expect("a file");
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
        let machine = Machine {
            kernel: setup.kernel,
            image: at("image"),
            firmware: input("firmware.fd"),
            command_line: setup.command_line,
            memory_mib: 512,
            cpu: "EPYC-v4".to_owned(),
            device: Device::UserSpace { socket, listener },
            serial: false,
            cbitpos: 51,
            policy: launch_policy(&GuestPolicyRules::default()),
            host_data: [0; 32],
            id_block: None,
        };
        let mut arguments = machine.arguments();
        let console = arguments.iter().position(|word| word == "-serial").expect("no console") + 1;
        arguments[console] = format!("file:{}", at("console").display());
        if let Some(firmware) = &setup.firmware {
            arguments.extend(["-bios".to_owned(), firmware.display().to_string()]);
        }
        if let Some(hashes) = setup.hashes {
            let table = at("table");
            std::fs::write(&table, hashes.table()).expect("a file");
            let bytes = std::fs::read(&machine.firmware).expect("firmware");
            let address = Firmware::parse(bytes).expect("firmware").hash_table_address().expect("a table");
            let loader = format!("loader,file={},addr={address},force-raw=on", table.display());
            arguments.extend(["-device".to_owned(), loader]);
        }
        if setup.image.is_empty() {
            let initrd = arguments.iter().position(|word| word == "-initrd").expect("no image");
            arguments.drain(initrd..initrd + 2);
        }
        arguments.extend(setup.more);
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

    /// Where QEMU takes orders.
    pub fn control(&self) -> PathBuf {
        vm::control(&self.folder.path().join("vhost"))
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
        let begun = Instant::now();
        while self.is_running() {
            assert!(begun.elapsed() < PATIENCE, "the VM does not end: {}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A connection to whatever listens; none if the VM ends before anything does.
    pub fn dial(&mut self, port: u32) -> Option<UnixStream> {
        self.wait_for_driver();
        let begun = Instant::now();
        while self.is_running() {
            if let Ok(stream) = self.try_dial(port) {
                return Some(stream);
            }
            assert!(begun.elapsed() < PATIENCE, "nobody listens: {}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Until the VM can be reached, or has ended.
    fn wait_for_driver(&mut self) {
        if let Err(error) = wait_for_driver(&self.control()) {
            println!("no driver: {error}");
            self.wait();
        }
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

    /// Whether anybody listens before the VM ends.
    pub fn serves(&mut self) -> bool {
        self.dial(PORT).is_some()
    }

    /// All that a probe says before it or the VM ends. It wants to see that it was heard.
    pub fn hear(&mut self) -> String {
        let mut stream = self.dial(PORT).unwrap_or_else(|| panic!("the VM ended: {}", self.console()));
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        // A VM that is gone resets the connection; what it said before counts.
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let said = &buffer[..count];
            text.extend(said);
            let _ = stream.write_all(said);
        }
        String::from_utf8(text).expect("text")
    }

    /// Waits for the enclave's first answer.
    pub async fn connect(&mut self) -> Connection {
        self.wait_for_driver();
        let begun = Instant::now();
        loop {
            match Connection::open(&self.address()).await {
                Ok(connection) => return connection,
                Err(error) => {
                    assert!(begun.elapsed() < PATIENCE && self.is_running(), "{error}: {}", self.console());
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
