//! When an emulated VM can be reached.
//!
//! The vsock device in user space does not take connections that come before the guest's driver (it says "backend event before
//! vring initialization"), and after some of those none at all, for ever. So nobody finds its socket before.
//!
//! QEMU is asked in its human monitor: a request of QMP that comes while it ends can leave it waiting for itself, for ever (seen
//! with 10.0, in `monitor_cleanup`).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// For QEMU to make its socket, and to answer, on a machine that does much else.
const ANSWER: Duration = Duration::from_secs(30);
/// For a kernel that is emulated to load its driver, likewise.
const DRIVER: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(50);

/// What the monitor ends each answer with.
const PROMPT: &[u8] = b"(qemu) ";

/// Waits until the guest's driver has taken the vsock device over; `control` is where QEMU's monitor listens.
///
/// # Errors
/// QEMU has ended, or does not know what it is asked; `TimedOut` if the guest has no driver after five minutes.
pub fn wait_for_driver(control: &Path) -> io::Result<()> {
    let begun = Instant::now();
    let mut monitor = loop {
        match UnixStream::connect(control) {
            Ok(stream) => break stream,
            Err(error) if begun.elapsed() > ANSWER => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    monitor.set_read_timeout(Some(ANSWER))?;
    answer(&mut monitor)?;
    let devices = ask(&mut monitor, "info virtio")?;
    // A line for each: `PATH [NAME]`.
    let mut paths = devices.lines().filter_map(|line| line.split_once(' '));
    let Some((path, _)) = paths.find(|(path, name)| path.starts_with('/') && name.contains("vsock")) else {
        return Err(io::Error::other(format!("no vsock device: {devices}")));
    };
    let question = format!("info virtio-status {path}");
    while !ask(&mut monitor, &question)?.contains("DRIVER_OK") {
        if begun.elapsed() > DRIVER {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the guest's driver does not come"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn ask(monitor: &mut UnixStream, question: &str) -> io::Result<String> {
    monitor.write_all(format!("{question}\n").as_bytes())?;
    answer(monitor)
}

/// All up to the next prompt; the question, as if it had been typed, is part of it.
fn answer(monitor: &mut UnixStream) -> io::Result<String> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while !text.ends_with(PROMPT) {
        match monitor.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => text.extend(&buffer[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
