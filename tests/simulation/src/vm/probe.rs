//! What can be seen and done in the VM, for tests that boot it.

use postern_enclave::pid1;
use postern_enclave::vsock::{Door, Listener};
use std::error::Error;
use std::fmt::{Debug, Display, Write as _};
use std::fs;
use std::io::{Read, Write};

/// A module beside those that are loaded.
const MODULE: &str = "/probe.ko.xz";

pub(crate) fn run(probe: &str, listener: &Listener) -> Result<(), Box<dyn Error>> {
    match probe.split_once(' ') {
        None if probe == "facts" => {
            let facts = facts()?;
            say(&mut listener.accept()?, &facts)
        }
        None if probe == "module" => {
            let loaded = outcome(load());
            say(&mut listener.accept()?, &loaded)
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

fn load() -> std::io::Result<()> {
    pid1::load_module(&fs::File::open(MODULE)?)
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
        "module" => outcome(pid1::load_module(module)),
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
    // An interface that is up has addresses, and addresses have routes.
    say("routes", &fs::read_to_string("/proc/net/fib_trie")?.lines().collect::<Vec<_>>())?;
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
    let modules = fs::read_to_string("/proc/modules")?;
    say("modules", &modules.lines().filter_map(|line| line.split(' ').next()).rev().collect::<Vec<_>>())?;
    say("tainted", &read("/proc/sys/kernel/tainted"))?;
    say("command line", &read("/proc/cmdline"))?;
    for path in ["/proc/kcore", "/dev/mem"] {
        say(path, &outcome(fs::File::open(path).and_then(|mut file| file.read_exact(&mut [0]))))?;
    }
    let mut root: Vec<String> = Vec::new();
    for folder in ["/", "/modules"] {
        for entry in fs::read_dir(folder)? {
            root.push(entry?.path().display().to_string());
        }
    }
    root.sort();
    say("files", &root)?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    say("memory", &memory.lines().take(3).collect::<Vec<_>>())?;

    let mut status = String::new();
    pid1::shut()?.read_to_string(&mut status)?;
    let told = ["Cap", "NoNewPrivs", "Threads", "VmLck", "VmRSS"];
    for line in status.lines().filter(|line| told.iter().any(|name| line.starts_with(name))) {
        writeln!(facts, "{}", line.replace('\t', " "))?;
    }
    writeln!(facts, "late module: {:?}", outcome(load()))?;
    writeln!(facts, "proc: {:?}", outcome(fs::metadata("/proc/self")))?;
    writeln!(facts, "sysctl: {:?}", outcome(fs::read("/proc/sys/kernel/modules_disabled")))?;
    Ok(facts)
}
