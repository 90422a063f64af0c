//! The enclave's VM, booted in emulation: what is in it, what can't be done in it, and that it works.
//!
//! Slow, and needs what `tests/vm.sh` gets. There is no SEV-SNP in emulation: the launch digest is compared with another
//! tool's, and never seen in a report.

mod independent;
mod machine;

use machine::{Setup, Vm, emulated, init, inputs, inputs_for, intruder, production, root, served, simulated};
use postern_host::link::{Connection, EnclaveAddress};
use postern_host::measure::{CpuModel, Firmware, GuestFeatures, KernelHashes, Launch};
use postern_image::{ANY_PORT, COMMAND_LINE, Inputs, Purpose, initramfs};
use postern_shared::identity::Identity;
use postern_shared::ids::{Measurement, MemberId};
use postern_shared::wire::{Hello, Reply, Request, Standing, encode_frame};
use postern_simulation::process::describe;
use postern_simulation::{Machine, SoftwarePsp};
use postern_tests::cluster::manifest;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn digest(inputs: &Inputs, image: &[u8], command_line: &str, vcpus: u32, cpu: &str) -> Measurement {
    let firmware = Firmware::parse(inputs.firmware.clone()).unwrap();
    let hashes = KernelHashes::new(&inputs.kernel, image, command_line).unwrap();
    let cpu: CpuModel = cpu.parse().unwrap();
    Launch::new(&firmware, Some(&hashes)).unwrap().digest(vcpus, cpu, GuestFeatures(1)).unwrap()
}

/// Runs a command of ours to its end: what it printed.
fn run(program: &Path, arguments: &[&str], folder: &Path) -> String {
    let run = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        // Would have two folders share what they build.
        .env_remove("CARGO_TARGET_DIR")
        .stderr(Stdio::inherit())
        .output();
    let run = run.expect("a program");
    assert!(run.status.success(), "{} {arguments:?}", program.display());
    String::from_utf8(run.stdout).unwrap()
}

/// The release binary; `cargo build --release` makes it.
fn postern() -> PathBuf {
    let built = root().join("target/release/postern");
    let binary = std::env::var_os("POSTERN_BIN").map_or(built, PathBuf::from);
    assert!(binary.exists(), "{} is missing: run `cargo build --release` first", binary.display());
    binary
}

/// The hashes of all files of an image that is built in a folder with the sources.
fn build_in(folder: &Path) -> [sha2::digest::Output<Sha256>; 6] {
    let (inputs, out) = (root().join("target/image-inputs"), folder.join("target/vm-image"));
    let arguments = ["image", "build", "--inputs", inputs.to_str().unwrap(), "--out", out.to_str().unwrap()];
    print!("{}", run(&postern(), &arguments, folder));
    ["image.cpio", "vmlinuz", "firmware.fd", "cmdline", "measurements.json", "manifest-fragment.toml"]
        .map(|file| Sha256::digest(std::fs::read(out.join(file)).unwrap()))
}

/// So that whoever builds it, wherever, gets the same.
#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn the_image_is_the_one_that_the_readme_tells_of() {
    build_in(root());
    let size = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let image = std::fs::metadata(root().join("target/vm-image/image.cpio")).unwrap().len();
    let binary = production().len() as u64;
    println!("image {:.2} MiB, enclave binary {:.2} MiB", size(image), size(binary));
    assert!(image < 8 << 20 && binary < 4 << 20);

    let measured = std::fs::read_to_string(root().join("target/vm-image/measurements.json")).unwrap();
    let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for row in measured.as_array().unwrap() {
        let digest = row["digest"].as_str().unwrap();
        assert!(readme.contains(digest), "the README does not have {row}");
    }
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn the_launch_digest_is_another_tools() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let inputs = inputs();
    let bytes = initramfs(&production(), &[]);
    std::fs::write(&image, &bytes).unwrap();
    let input = |name: &str| root().join("target/image-inputs").join(name).display().to_string();
    let (kernel, firmware) = (input("vmlinuz"), input("firmware.fd"));
    for cpu in ["EPYC-v4", "EPYC-Milan", "EPYC-Genoa"] {
        let theirs = independent::run(
            "sev-snp-measure",
            &[
                "--mode",
                "snp",
                "--vcpus",
                "1",
                "--vcpu-type",
                cpu,
                "--ovmf",
                &firmware,
                "--kernel",
                &kernel,
                "--initrd",
                image.to_str().unwrap(),
                "--append",
                COMMAND_LINE,
            ],
        );
        let ours = digest(&inputs, &bytes, COMMAND_LINE, 1, cpu);
        assert_eq!(theirs.as_deref(), Ok(hex::encode(ours.0).as_str()), "{cpu}");
    }
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn whatever_is_changed_changes_the_digest() {
    let inputs = inputs();
    let image = initramfs(b"an enclave", &[]);
    let mut seen = BTreeSet::new();
    let mut other = |image: &[u8], command_line: &str, vcpus, cpu| {
        assert!(
            seen.insert(digest(&inputs, image, command_line, vcpus, cpu).0),
            "{command_line} {vcpus} {cpu}"
        );
    };
    other(&image, COMMAND_LINE, 1, "EPYC-v4");
    // Each word left out.
    for word in COMMAND_LINE.split(' ') {
        let without: Vec<&str> = COMMAND_LINE.split(' ').filter(|other| *other != word).collect();
        other(&image, &without.join(" "), 1, "EPYC-v4");
    }
    for more in ["nolapic", "init=/bin/sh", "random.trust_bootloader=on", ANY_PORT] {
        other(&image, &format!("{COMMAND_LINE} {more}"), 1, "EPYC-v4");
    }
    other(&image, COMMAND_LINE, 2, "EPYC-v4");
    other(&image, COMMAND_LINE, 1, "EPYC-Genoa");
    other(&initramfs(b"an Enclave", &[]), COMMAND_LINE, 1, "EPYC-v4");
    other(&initramfs(b"an enclave", &[("machine.txt", b"")]), COMMAND_LINE, 1, "EPYC-v4");
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn there_is_nothing_in_the_vm_but_the_enclave() {
    let mut vm = Vm::boot(&simulated(&[("probe.txt", b"facts")]));
    let facts = vm.hear();
    print!("{facts}");
    for expected in [
        r#"interfaces: ["lo"]"#,
        // Netlink comes with sockets as such. The enclave can make neither when it serves.
        r#"sockets: ["NETLINK", "VSOCK"]"#,
        // Told that it may serve any port, as nothing but an emulated one is.
        r#"programs: ["/init\0any-port"]"#,
        // What comes with memory, randomness and vsock. On SEV-SNP, one more.
        r#"devices: ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/vsock", "/dev/zero"]"#,
        r#"files: ["/dev", "/init", "/probe.txt", "/proc", "/root"]"#,
        "CapInh: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 1",
        "Threads: 1",
    ] {
        assert!(facts.lines().any(|line| line == expected), "{expected}");
    }
    // Not there at all, but for the last two, which were there until the doors were shut.
    for path in ["/proc/kcore", "/dev/mem", "/dev/console", "/proc/modules", "/proc/sys", "proc", "dev"] {
        let expected = format!("{path}: \"No such file or directory (os error 2)\"");
        assert!(facts.lines().any(|line| line == expected), "{expected}");
    }
    // There are no such calls, whoever makes them; the first would load a module.
    for call in ["module", "epoll", "eventfd", "inotify", "memfd", "timerfd"] {
        let expected = format!("{call}: \"Function not implemented (os error 38)\"");
        assert!(facts.lines().any(|line| line == expected), "{expected}");
    }
    // As `COMMAND_LINE` says: the older timer, and messages for the device.
    let told = facts.lines().find(|line| line.starts_with("interrupts: ")).unwrap_or_default();
    for interrupt in ["\"XT-PIC timer\"", "PCI-MSIX-", " virtio0-virtqueues\""] {
        assert!(told.contains(interrupt), "{interrupt}");
    }
    // All that the driver of the secure processor asks the kernel for, and by the processor's instructions. That it is there in
    // time shows in every boot: without it the kernel ends (`enclave/image/kernel/patches`).
    assert!(
        facts.contains("ciphers: Some(\"generic-gcm-aesni"),
        "the kernel has no AES-GCM for the secure processor"
    );
    assert!(facts.contains(COMMAND_LINE));
    vm.wait();
    assert_eq!(vm.console(), "", "nothing is written to the console, not even by the panic that ends the VM");
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn a_forbidden_system_call_ends_the_vm() {
    let told = |call: &str| {
        let mut vm = Vm::boot(&simulated(&[("probe.txt", format!("call {call}").as_bytes())]));
        let told = vm.hear();
        vm.wait();
        assert_eq!(vm.console(), "");
        told
    };
    assert_eq!(told("nothing"), "about to; survived: done", "what is allowed is survived");
    for call in ["open", "list", "dial", "listen", "local", "thread", "program", "module"] {
        assert_eq!(told(call), "about to; ", "{call}");
    }
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn the_production_image_serves_in_confidential_vms_only() {
    let image = initramfs(&production(), &[]);
    let mut vm = Vm::boot(&image);
    assert!(!vm.serves(), "it serves without a secure processor");
    assert_eq!(vm.console(), "");
}

/// The way back if the local APIC does not work on hardware: the interrupt controller for which the firmware leads the
/// interrupts, by two words that need no other kernel and firmware.
#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn the_kernel_takes_the_older_interrupts_if_it_is_told() {
    let image = simulated(&[("machine.txt", describe(&Machine::default(), None).as_bytes())]);
    for word in ["nolapic", "pci=nomsi"] {
        let command_line = format!("{} {word}", emulated());
        assert!(Vm::start(Setup::told(&image, Purpose::Production, command_line)).serves(), "{word}");
    }
}

#[test]
fn image_and_enclave_mean_the_same_word() {
    assert_eq!(ANY_PORT, postern_enclave::vsock::ANY_PORT);
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn hosts_that_come_from_open_ports_are_closed_unread() {
    let image = simulated(&[("machine.txt", describe(&Machine::default(), None).as_bytes())]);
    let mut vm = Vm::start(Setup { command_line: COMMAND_LINE.to_owned(), ..Setup::new(&image) });
    // The device in user space numbers its connections: so many come from ports that count as privileged.
    for _ in 0..1024 {
        vm.dial(5000).expect("the VM lives");
    }
    for _ in 0..10 {
        // The kernel has taken the connection before the enclave has seen it.
        let mut stranger = vm.dial(5000).expect("the VM lives");
        let mut said = Vec::new();
        match std::io::Read::read_to_end(&mut stranger, &mut said) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => assert!(said.is_empty(), "the enclave says hello to whoever it serves"),
        }
    }
    assert!(vm.is_running());
    assert_eq!(vm.console(), "");
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn an_enclave_that_is_told_what_it_does_not_know_does_not_serve() {
    let image = simulated(&[("machine.txt", describe(&Machine::default(), None).as_bytes())]);
    let command_line = format!("{COMMAND_LINE} any-host");
    let mut vm = Vm::start(Setup { command_line, ..Setup::new(&image) });
    assert!(!vm.serves());
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn a_host_that_falls_silent_does_not_keep_the_vms_next_one_out() {
    let image = simulated(&[("machine.txt", describe(&Machine::default(), None).as_bytes())]);
    let mut vm = Vm::boot(&image);
    let silent = vm.dial(5000).expect("the VM lives");
    let mut next = vm.dial(5000).expect("the VM lives");
    let hello = encode_frame(&Hello::OURS.encode()).unwrap();
    next.write_all(&hello).unwrap();
    let mut said = vec![0; hello.len()];
    std::io::Read::read_exact(&mut next, &mut said).expect("its turn comes when the first has said nothing");
    assert_eq!(said, hello);
    drop(silent);
}

async fn identity(connection: &mut Connection) -> Option<Identity> {
    match connection.call(&Request::Status).await.unwrap().reply {
        Reply::Status(status) => status.identity,
        reply => panic!("{reply:?}"),
    }
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn the_firmware_starts_the_image_that_was_measured_only() {
    let machine = describe(&Machine::default(), None);
    let image = simulated(&[("machine.txt", machine.as_bytes())]);
    assert!(Vm::start(Setup::measured(&image)).serves(), "what was measured");

    // With the hashes of something else than is there, or where nothing was measured, it ends the VM.
    let hashes = |kernel: &[u8], image: &[u8], command_line: &str| {
        Some(KernelHashes::new(&served(kernel, image), image, command_line).unwrap())
    };
    let kernel = inputs().kernel;
    let other_image = simulated(&[("machine.txt", format!("{machine}\n").as_bytes())]);
    let other_kernel = [&kernel[..], &[0]].concat();
    for (what, hashes) in [
        ("another initramfs", hashes(&kernel, &other_image, &emulated())),
        // That of production.
        ("another command line", hashes(&kernel, &image, COMMAND_LINE)),
        ("another kernel", hashes(&other_kernel, &image, &emulated())),
        ("nothing", None),
    ] {
        let mut vm = Vm::start(Setup { hashes, ..Setup::measured(&image) });
        assert!(!vm.serves(), "{what} was measured");
        assert_eq!(vm.console(), "", "{what} was measured");
    }
}

/// What Debian's build of the firmware, and OVMF at large, did: see `enclave/image/firmware`.
#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn the_firmware_runs_nothing_of_the_hosts_before_the_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let program = intruder::program();
    let shim = file("shim", &program);
    let rom = file("rom", &intruder::option_rom());
    let device = format!("virtio-rng-pci,romfile={}", rom.display());
    let drive = format!("file={},format=raw,if=virtio,readonly=on", shim.display());
    let more = ["-shim", shim.to_str().unwrap(), "-device", &device, "-drive", &drive].map(str::to_owned);

    // The program runs where it is the kernel that was measured, and in the ROM where firmware runs ROMs: or what follows
    // would show nothing.
    let hashes = Some(KernelHashes::new(&served(&program, &[]), &[], &emulated()).unwrap());
    let mut vm = Vm::start(Setup { kernel: shim.clone(), hashes, ..Setup::measured(&[]) });
    vm.wait();
    assert_eq!(vm.console(), intruder::CRY, "as the kernel");
    let ovmf = Some(root().join("target/tools/OVMF.fd"));
    let image = simulated(&[("machine.txt", describe(&Machine::default(), None).as_bytes())]);
    let mut vm = Vm::start(Setup { firmware: ovmf, more: more[2..4].to_vec(), ..Setup::new(&image) });
    assert!(vm.serves());
    assert!(vm.console().contains(intruder::CRY), "in a ROM, with another firmware: {}", vm.console());

    let mut vm = Vm::start(Setup { more: more.to_vec(), ..Setup::measured(&image) });
    assert!(vm.serves());
    assert_eq!(vm.console(), "", "beside the kernel");
    // Nor if there is nothing else to start.
    let no_kernel = [0; 4096];
    let kernel = file("no kernel", &no_kernel);
    let hashes = Some(KernelHashes::new(&served(&no_kernel, &[]), &[], &emulated()).unwrap());
    let mut vm = Vm::start(Setup { more: more.to_vec(), kernel, hashes, ..Setup::measured(&[]) });
    vm.wait();
    assert_eq!(vm.console(), "", "without a kernel");
}

/// To say, before anything runs, that the machine resumes from S3: firmware then starts what it finds in memory.
#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn the_firmware_does_not_resume_because_the_host_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let ports = folder.path().join("ports");
    let server = format!("unix:{},server=on,wait=off", ports.display());
    let more = ["-S", "-qtest", &server, "-qtest-log", "none"].map(str::to_owned).to_vec();
    let image = simulated(&[("machine.txt", describe(&Machine::default(), None).as_bytes())]);
    let mut vm = Vm::start(Setup { more, ..Setup::measured(&image) });
    say(&ports, &["outb 0x70 0x0f", "outb 0x71 0xfe", "inb 0x71"], "OK 0x00fe");
    say(&vm.control(), &["cont", "info status"], "VM status: running");
    assert!(vm.serves());
}

/// Tells QEMU something, until it says what is awaited.
fn say(socket: &Path, lines: &[&str], awaited: &str) {
    let begun = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let mut answers = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(answers.any(|answer| answer.contains(awaited)), "QEMU does not say {awaited}");
}

/// Medians of small requests and of 1 MiB frames, in seconds.
async fn measure(connection: &mut Connection) -> (f64, f64) {
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        let begun = Instant::now();
        let reply = connection.call(&Request::Status).await.unwrap().reply;
        times.0.push(begun.elapsed().as_secs_f64());
        let Reply::Status(status) = reply else { panic!("{reply:?}") };
        assert_eq!(status.standing, Standing::Idle);
    }
    let large = Request::Deliver(vec![7; 1 << 20]);
    for _ in 0..20 {
        let begun = Instant::now();
        let reply = connection.call(&large).await.unwrap().reply;
        times.1.push(begun.elapsed().as_secs_f64());
        assert!(matches!(reply, Reply::Rejected(_)), "{reply:?}");
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (median(&mut times.0), median(&mut times.1))
}

#[tokio::test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
async fn the_vm_serves_one_host_after_the_other() {
    let dao = manifest(5, 3, 3);
    let measurement = dao.attestation.measurements[0].digest.0;
    let processor =
        Machine { chip_seed: [1; 32], measurement, host_data: dao.hash().0, ..Machine::default() };
    let machine = describe(&processor, None);
    let mut vm = Vm::boot(&simulated(&[("machine.txt", machine.as_bytes())]));
    let mut first = vm.connect().await;
    first.call(&Request::Status).await.unwrap();
    let boot = vm.started.elapsed();
    let (ping, large) = measure(&mut first).await;

    // A second host waits until the first is gone, and then is served by the same enclave.
    let address = vm.address();
    let waiting = tokio::spawn(async move { Connection::open(&address).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "one host at a time");
    let start = Request::Start {
        manifest: dao.to_canonical(),
        epochs: Vec::new(),
        member: MemberId(1),
        certificates: SoftwarePsp::new(processor).certificates(),
    };
    assert_eq!(first.call(&start).await.unwrap().reply, Reply::Done);
    assert!(!waiting.is_finished(), "one host at a time, and the enclave has answered that one meanwhile");
    let identity = identity(&mut first).await;
    assert!(identity.is_some());
    drop(first);
    let mut second = waiting.await.unwrap().unwrap();
    assert_eq!(self::identity(&mut second).await, identity, "the same enclave, with all that it knows");
    // A host that talks nonsense is not served, and the next one is.
    drop(second);
    let mut nonsense = vm.dial(5000).expect("the VM lives");
    std::io::Write::write_all(&mut nonsense, &[0xff; 64]).unwrap();
    drop(nonsense);
    assert_eq!(self::identity(&mut vm.connect().await).await, identity);
    assert_eq!(vm.console(), "");

    // The same over a Unix socket, without a VM.
    let folder = tempfile::tempdir().unwrap();
    let (socket, file) = (folder.path().join("enclave.sock"), folder.path().join("machine.txt"));
    std::fs::write(&file, &machine).unwrap();
    let path = socket.clone();
    std::thread::spawn(move || postern_simulation::process::run(&path, &file));
    while !socket.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut direct = Connection::open(&EnclaveAddress::Unix(socket)).await.unwrap();
    let (direct_ping, direct_large) = measure(&mut direct).await;
    println!("from QEMU's start to the first answer: {:.1} s", boot.as_secs_f64());
    println!(
        "median of 1,000 small requests: {:.0} µs; without a VM {:.0} µs",
        ping * 1e6,
        direct_ping * 1e6
    );
    println!("frames of 1 MiB: {:.0} MiB/s; without a VM {:.0} MiB/s", 1.0 / large, 1.0 / direct_large);
}

#[test]
#[ignore = "boots VMs: run under tests/vm.sh by the slow suites"]
fn a_dao_with_one_enclave_in_a_vm_takes_a_validator_from_deposit_to_exit() {
    // Built, whatever else ran before.
    let binary = init("postern-simulation", "postern-simulated-vm");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("init");
    std::fs::write(&file, binary).unwrap();
    let inputs = root().join("target/image-inputs");
    let data = folder.path().join("demo");
    let arguments = [
        "demo",
        "--json",
        "--vm",
        "2",
        "--vm-init",
        file.to_str().unwrap(),
        "--vm-inputs",
        inputs.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let output = run(&postern(), &arguments, folder.path());
    let report: serde_json::Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    println!("with one VM: {}", report["timings_ms"]);
    assert_eq!(report["pools"][0]["beacon_status"], "withdrawal_done");
    let operators: Vec<u64> = report["pools"][0]["operators"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .collect();
    // On a machine this busy another may come too late.
    assert!(operators.contains(&2), "the one in the VM is one of {operators:?}");
    let log = std::fs::read_to_string(data.join("member-2/enclave.log")).unwrap();
    assert!(log.contains("EMULATED"), "{log}");
}

/// What takes minutes more: the debug image, whose kernel is built apart, and the same image in another folder, which each machine
/// that runs [`the_image_is_the_one_that_the_readme_tells_of`] shows too. `POSTERN_DEBUG_IMAGE=1 tests/vm.sh cargo test
/// --workspace --test vm by_hand -- --ignored --nocapture`.
mod by_hand {
    use super::*;

    #[test]
    #[ignore = "takes minutes more: run under tests/vm.sh by hand"]
    fn a_copy_of_the_sources_makes_the_same_image() {
        // Another folder, with nothing built in it, and other times.
        let copy = tempfile::tempdir().unwrap();
        let files = run(Path::new("git"), &["ls-files"], root());
        for file in files.lines().filter(|file| root().join(file).exists()) {
            let to = copy.path().join(file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(root().join(file), to).unwrap();
        }
        assert_eq!(build_in(root()), build_in(copy.path()));
    }

    #[test]
    #[ignore = "takes minutes more: run under tests/vm.sh by hand"]
    fn the_debug_image_has_other_digests() {
        let (production, debug) = (inputs(), inputs_for(Purpose::Debug));
        let image = initramfs(b"an enclave", &[]);
        let told = Purpose::Debug.command_line();
        let digests = [
            digest(&production, &image, COMMAND_LINE, 1, "EPYC-v4").0,
            digest(&debug, &image, COMMAND_LINE, 1, "EPYC-v4").0,
            digest(&debug, &image, &told, 1, "EPYC-v4").0,
        ];
        assert_eq!(BTreeSet::from(digests).len(), 3);
    }

    #[test]
    #[ignore = "takes minutes more: run under tests/vm.sh by hand"]
    fn the_debug_image_is_another_one_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (init, out) = (folder.path().join("init"), folder.path().join("image"));
        std::fs::write(&init, production()).unwrap();
        let build = |debug: &[&str], out: &Path| {
            let inputs = root().join("target/image-inputs");
            let mut build = Command::new(postern());
            build.args(["image", "build"]).args(debug).arg("--inputs").arg(inputs).arg("--init").arg(&init);
            build.arg("--out").arg(out).output().unwrap()
        };
        let read = |out: &Path, file: &str| std::fs::read_to_string(out.join(file)).unwrap();
        let production = folder.path().join("production");
        assert!(build(&[], &production).status.success());
        assert!(build(&["--debug"], &out).status.success());
        assert_eq!(read(&out, "cmdline"), Purpose::Debug.command_line());
        let digests = |out: &Path| {
            let rows: serde_json::Value = serde_json::from_str(&read(out, "measurements.json")).unwrap();
            let rows = rows.as_array().unwrap().iter().map(|row| row["digest"].as_str().unwrap().to_owned());
            rows.collect::<BTreeSet<_>>()
        };
        assert!(digests(&out).is_disjoint(&digests(&production)));
        let fragment = read(&out, "manifest-fragment.toml");
        assert!(
            fragment.contains("no manifest\n# in production may list it")
                && fragment.contains("\"DEBUG EPYC-v4\"")
        );

        // Neither comes into the other's folder, where one would be taken for the other.
        for (debug, out) in [(&["--debug"][..], &production), (&[][..], &out)] {
            let refused = build(debug, out);
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && said.contains("holds another kind of image"), "{said}");
        }
    }

    /// The production enclave says why if it has a console.
    #[test]
    #[ignore = "takes minutes more: run under tests/vm.sh by hand"]
    fn an_enclave_says_what_it_does_not_know() {
        let image = initramfs(&production(), &[]);
        let command_line = format!("{} any-host", Purpose::Debug.command_line());
        let mut vm = Vm::start(Setup::told(&image, Purpose::Debug, command_line));
        vm.wait();
        assert!(vm.console().contains("nothing but `any-port`, it says `any-host`"), "{}", vm.console());
    }

    /// The same image with the kernel that has a voice: what is said on a machine where it does not start.
    #[test]
    #[ignore = "takes minutes more: run under tests/vm.sh by hand"]
    fn the_debug_image_says_how_far_it_came() {
        let image = initramfs(&production(), &[]);
        let mut vm = Vm::start(Setup::told(&image, Purpose::Debug, Purpose::Debug.command_line()));
        vm.wait();
        let console = vm.console();
        for said in [
            // From its first moment on, before there is a driver of the serial port.
            "printk: legacy bootconsole [earlyser0] enabled",
            // What SNP guests hang without, before they can say a word.
            "x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT",
            // The cipher, when the driver asks for it.
            "sev-guest: gcm(aes) is generic-gcm-aesni",
            "sev-guest: no device: this is no SEV-SNP guest",
            "Run /init as init process",
            "postern-enclave: can't open /dev/sev-guest: No such file or directory",
            "this machine is no SEV-SNP guest, or the kernel's driver found no secure processor",
            "Kernel panic - not syncing: Attempted to kill init",
        ] {
            assert!(console.contains(said), "`{said}` is not in:\n{console}");
        }
    }
}
