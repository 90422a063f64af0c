//! What can be seen and done in the VM, for tests that boot it.

use postern_enclave::pid1;
use postern_enclave::vsock::{Door, Listener};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{MemfdFlags, inotify, memfd_create};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::system::finit_module;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use std::error::Error;
use std::fmt::{Debug, Display, Write as _};
use std::fs;
use std::io::{Read, Write};

/// Kinds of sockets, by what Linux calls them.
const SOCKETS: [(&str, AddressFamily); 8] = [
    // The kernel's ciphers for programs, which `rustix` does not name.
    ("ALG", AddressFamily::from_raw(38)),
    ("INET", AddressFamily::INET),
    ("INET6", AddressFamily::INET6),
    ("NETLINK", AddressFamily::NETLINK),
    ("PACKET", AddressFamily::PACKET),
    ("UNIX", AddressFamily::UNIX),
    ("VSOCK", AddressFamily::VSOCK),
    ("XDP", AddressFamily::XDP),
];

pub(crate) fn run(probe: &str, listener: &Listener) -> Result<(), Box<dyn Error>> {
    match probe.split_once(' ') {
        None if probe == "facts" => {
            let facts = facts()?;
            say(&mut listener.accept()?, &facts)
        }
        Some(("call", name)) => {
            let module = fs::File::open("/init")?;
            pid1::close()?;
            let mut host = listener.accept()?;
            say(&mut host, "about to; ")?;
            let done = call(name, &module);
            say(&mut host, &format!("survived: {done}"))
        }
        _ => Err(format!("no probe `{probe}`").into()),
    }
}

/// Says it, and waits until all of it came back: what is still on its way is lost with the VM.
fn say(host: &mut (impl Read + Write), text: &str) -> Result<(), Box<dyn Error>> {
    host.write_all(text.as_bytes())?;
    Ok(host.read_exact(&mut vec![0; text.len()])?)
}

fn outcome<T, E: Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

/// Something that an enclave never does.
fn call(name: &str, module: &fs::File) -> String {
    match name {
        "open" => outcome(fs::File::open("/init")),
        "list" => outcome(fs::read_dir("/")),
        "dial" => outcome(std::net::TcpStream::connect("127.0.0.1:1")),
        "listen" => outcome(Listener::bind(6000, Door::AnyPort)),
        "local" => outcome(std::os::unix::net::UnixStream::pair()),
        "thread" => outcome(std::thread::Builder::new().spawn(|| {}).map(drop)),
        "program" => outcome(std::process::Command::new("/init").spawn().map(drop)),
        "module" => outcome(finit_module(module, c"", 0)),
        "nothing" => "done".to_owned(),
        other => format!("no call `{other}`"),
    }
}

/// A line for each.
fn facts() -> Result<String, Box<dyn Error>> {
    let mut facts = String::new();
    let mut say = |name: &str, value: &dyn Debug| writeln!(facts, "{name}: {value:?}");
    let read = |path: &str| {
        fs::read_to_string(path).map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
    };

    let interfaces = fs::read_to_string("/proc/net/dev")?;
    let interfaces: Vec<&str> =
        interfaces.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    say("interfaces", &interfaces)?;
    let made = |&(name, family)| {
        let kinds = [SocketType::STREAM, SocketType::DGRAM, SocketType::RAW, SocketType::SEQPACKET];
        kinds.iter().any(|&kind| socket(family, kind, None).is_ok()).then_some(name)
    };
    say("sockets", &SOCKETS.iter().filter_map(made).collect::<Vec<_>>())?;
    let mut programs = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let command = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        if path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok())
            && !command.is_empty()
        {
            programs.push(command.trim_end_matches('\0').to_owned());
        }
    }
    say("programs", &programs)?;
    say("command line", &read("/proc/cmdline"))?;
    for path in ["/proc/kcore", "/dev/mem", "/dev/console", "/proc/modules", "/proc/sys"] {
        say(path, &outcome(fs::metadata(path)))?;
    }
    say("module", &outcome(finit_module(fs::File::open("/init")?, c"", 0)))?;
    say("epoll", &outcome(epoll::create(epoll::CreateFlags::empty())))?;
    say("eventfd", &outcome(eventfd(0, EventfdFlags::empty())))?;
    say("inotify", &outcome(inotify::init(inotify::CreateFlags::empty())))?;
    say("memfd", &outcome(memfd_create("", MemfdFlags::empty())))?;
    say("timerfd", &outcome(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty())))?;
    say("ciphers", &ciphers()?)?;
    let interrupts = fs::read_to_string("/proc/interrupts")?;
    let kinds = interrupts.lines().map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" "));
    say(
        "interrupts",
        &kinds.filter(|kind| kind.contains("timer") || kind.contains("virtio")).collect::<Vec<_>>(),
    )?;
    for (name, folder) in [("files", "/"), ("devices", "/dev")] {
        let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path().display().to_string()));
        let mut paths = entries.collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        say(name, &paths)?;
    }
    let memory = fs::read_to_string("/proc/meminfo")?;
    say("memory", &memory.lines().take(3).collect::<Vec<_>>())?;

    let mut status = String::new();
    pid1::shut()?.read_to_string(&mut status)?;
    let told = ["Cap", "NoNewPrivs", "Threads", "VmLck", "VmRSS"];
    for line in status.lines().filter(|line| told.iter().any(|name| line.starts_with(name))) {
        writeln!(facts, "{}", line.replace('\t', " "))?;
    }
    writeln!(facts, "proc: {:?}", outcome(fs::metadata("/proc/self")))?;
    writeln!(facts, "dev: {:?}", outcome(fs::metadata("/dev/random")))?;
    Ok(facts)
}

/// What the kernel has for the messages to the secure processor: the implementation that it would take.
fn ciphers() -> Result<Option<String>, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/crypto")?;
    let field = |block: &str, name: &str| {
        let mut lines = block.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let fitting = text.split("\n\n").filter(|block| field(block, "name").as_deref() == Some("gcm(aes)"));
    let preferred =
        fitting.max_by_key(|block| field(block, "priority").and_then(|text| text.parse::<u32>().ok()));
    Ok(preferred.and_then(|block| field(block, "driver")))
}
