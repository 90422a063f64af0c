//! When an emulated VM can be reached.
//!
//! The vsock device in user space does not take connections that come before the guest's driver (it says "backend event before
//! vring initialization"), and after some of those none at all, for ever. So nobody finds its socket before.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// For QEMU to make its socket, and for a kernel that is emulated to load its driver: on a machine that does much else.
const SOCKET_PATIENCE: Duration = Duration::from_secs(30);
const DRIVER_PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until the guest's driver has taken the vsock device over; `control` is where QEMU listens for QMP.
///
/// # Errors
/// QEMU has ended, or does not know what it is asked; `TimedOut` if the guest has no driver after five minutes.
pub fn wait_for_driver(control: &Path) -> io::Result<()> {
    let begun = Instant::now();
    let stream = loop {
        match UnixStream::connect(control) {
            Ok(stream) => break stream,
            Err(error) if begun.elapsed() > SOCKET_PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    let mut qemu = BufReader::new(stream);
    ask(&mut qemu, &json!({"execute": "qmp_capabilities"}))?;
    let devices = ask(&mut qemu, &json!({"execute": "x-query-virtio"}))?;
    let name = |device: &Value| device["name"].as_str().is_some_and(|name| name.contains("vsock"));
    let vsock = devices.as_array().and_then(|devices| devices.iter().find(|device| name(device)));
    let Some(path) = vsock.map(|device| &device["path"]) else {
        return Err(io::Error::other(format!("no vsock device in {devices}")));
    };
    loop {
        let status =
            ask(&mut qemu, &json!({"execute": "x-query-virtio-status", "arguments": {"path": path}}))?;
        let statuses = status["status"]["statuses"].as_array().map_or(&[][..], Vec::as_slice);
        if statuses.iter().any(|status| status.as_str().is_some_and(|status| status.contains("DRIVER_OK"))) {
            return Ok(());
        }
        if begun.elapsed() > DRIVER_PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the guest's driver does not come"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// What QEMU returns; events and greetings are passed over.
fn ask(qemu: &mut BufReader<UnixStream>, command: &Value) -> io::Result<Value> {
    qemu.get_mut().write_all(format!("{command}\n").as_bytes())?;
    loop {
        let mut line = String::new();
        if qemu.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut answer: Value = serde_json::from_str(&line)?;
        if let Some(error) = answer.get("error") {
            return Err(io::Error::other(error.to_string()));
        }
        if let Some(returned) = answer.get_mut("return") {
            return Ok(returned.take());
        }
    }
}
