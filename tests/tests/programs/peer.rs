//! Real nodes as children of a test.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Kills the whole process group, itself with it, when the standard input ends: when the test is over, or is killed. It
/// lets go of the standard output, so that the program's end shows. SIGKILL: beacon nodes take minutes over SIGTERM.
const KEEPER: &str = r#""$@" & exec > /dev/null; cat; kill -KILL 0"#;

/// A program and its children. They end with this value, or with the test's process, whatever ends that.
pub struct Peer {
    keeper: Child,
    leash: Option<ChildStdin>,
}

impl Peer {
    /// Starts a program, gives what `ready` finds in its first line of standard output that has it.
    pub fn start<T>(
        program: &Path,
        arguments: &[&str],
        patience: Duration,
        ready: impl Fn(&str) -> Option<T>,
    ) -> (Self, T) {
        let name = program.display();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(program)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let leash = keeper.stdin.take();
        let output = BufReader::new(keeper.stdout.take().expect("a pipe"));
        let peer = Self { keeper, leash };

        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut output = output;
            let mut line = String::new();
            while matches!(output.read_line(&mut line), Ok(1..)) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    // Nobody listens any more, but the program must be able to go on talking.
                    let _ = std::io::copy(&mut output.by_ref(), &mut std::io::sink());
                    return;
                }
            }
        });
        let deadline = Instant::now() + patience;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(found) = ready(&line) {
                        return (peer, found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("{name} is not ready within {patience:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("{name} ended before it was ready"),
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.keeper.wait();
    }
}

/// A file or directory of a peer's folder. A suite that is asked for and lacks its peer fails.
pub fn installed(peer: &str, path: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer);
    let found = folder.join(path);
    assert!(
        found.exists(),
        "{} is missing: run `npm ci --ignore-scripts --prefix tests/peers/{peer}`, or tests/slow.sh, which does",
        found.display()
    );
    found
}
