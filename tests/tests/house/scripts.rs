//! What scripts leave behind.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// `tests/vm.sh` in a tree in which all that it begins takes very long, and says that it has begun.
struct Preparation {
    root: TempDir,
}

impl Preparation {
    fn new() -> Self {
        let this = Self { root: tempfile::tempdir().expect("a folder") };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm.sh");
        this.write("tests/vm.sh", &std::fs::read_to_string(script).expect("the script"));
        let begun = this.path("begun");
        let long = format!("#!/bin/sh\necho $$ >> '{}'\nsleep 600\n", begun.display());
        for name in ["enclave/image/fetch.sh", "enclave/image/init.sh", "bin/cargo"] {
            this.write(name, &long);
        }
        // It is not to install any.
        for name in ["bin/bc", "bin/xz", "bin/patch"] {
            this.write(name, "#!/bin/sh\n");
        }
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a program");
    }

    /// Runs it until all three are there; with their processes.
    fn begin(&self) -> (Child, Vec<String>) {
        let _ = std::fs::remove_file(self.path("begun"));
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").expect("a path"));
        let script = Command::new(self.path("tests/vm.sh")).env("PATH", path).stderr(Stdio::null()).spawn();
        let begun = || {
            let text = std::fs::read_to_string(self.path("begun")).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        until("all three have begun", || begun().len() == 3);
        (script.expect("bash"), begun())
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(120), "not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kill(signal: &str, target: &str) {
    let killed = Command::new("kill").args([signal, "--", target]).status().expect("kill");
    assert!(killed.success(), "{signal} {target}");
}

/// Whether it runs. One that has ended stays a zombie until it is reaped, and not every container's first process does that.
fn is_there(process: &String) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).unwrap_or_default();
    // The state comes after the name, which may have brackets in it.
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

#[test]
fn what_prepares_vms_takes_all_with_it_and_keeps_nobody_waiting_when_it_is_killed() {
    let preparation = Preparation::new();
    let (mut script, begun) = preparation.begin();
    kill("-TERM", &script.id().to_string());
    assert!(!script.wait().expect("an end").success());
    until("all that it began has ended", || !begun.iter().any(is_there));

    let (mut script, begun) = preparation.begin();
    kill("-KILL", &script.id().to_string());
    script.wait().expect("an end");
    let lock = preparation.path("target/tools/lock");
    let free = Command::new("flock").arg("--nonblock").arg(lock).arg("true").status().expect("flock");
    let left = begun.iter().filter(|process| is_there(process)).count();
    // Each in its group, with what it has begun.
    let groups =
        Command::new("ps").args(["-o", "pgid=", "-p", &begun.join(",")]).output().expect("ps").stdout;
    for group in String::from_utf8(groups).expect("numbers").split_whitespace() {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status();
    }
    assert_eq!(left, 3, "nothing could have ended them");
    assert!(free.success(), "the lock is still held");
}
