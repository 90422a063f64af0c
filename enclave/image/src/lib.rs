//! The enclave's VM image: what it is made of, and how. Same inputs, same bytes.
//!
//! The image is an initramfs that holds the enclave as `/init`, and nothing else. Kernel and firmware are built from the
//! distribution's sources, with a configuration of our own, and named by their digests ([`Inputs`]). All of it, and the
//! kernel's command line, is in the launch digest, which is what peers check.

mod cpio;

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What the kernel is told: the few things that its configuration (`kernel/config`) can't say.
///
/// - `page_alloc.shuffle=1`: free pages in an order that is not known before; the configuration only makes it possible;
/// - `random.trust_bootloader=off`: seeds come from the processor, not from the host;
/// - `no-kvmapf`: the host gets no page through which it could have the kernel wait for memory (`KVM_GUEST` brings the clock,
///   which is wanted, and this).
///
/// Nothing is said of interrupts. Without tables the kernel knows of no I/O APIC and takes what it takes then: the timer is the
/// PIT, which comes through the 8259 and the local APIC in virtual-wire mode, and the device's interrupts are messages (MSI-X).
/// Of the ways that work in emulation this is the one of which most was seen in SNP guests: libkrun's have no tables either and
/// so the same timer, all others have messages; and the firmware has set up the local APIC before. `pci=nomsi` (the device by the
/// 8259 too) and `nolapic` (the 8259 alone, in whatever mode the local APIC was left) are the ways back, should hardware
/// not agree: the firmware leads the interrupts for both, and `DEPLOYING.md` says when to try them.
pub const COMMAND_LINE: &str = "page_alloc.shuffle=1 random.trust_bootloader=off no-kvmapf";

/// What the debug image's kernel is told besides: to say all that it does on the first serial port, from its first moment on.
const DEBUG_WORDS: &str = "console=ttyS0,115200 earlyprintk=serial,ttyS0,115200 ignore_loglevel";

/// A word for the enclave at the end of the kernel's command line, in emulation only: it then lets its host in from any
/// vsock port. Production's command line, and so its launch digest, is without it.
pub const ANY_PORT: &str = "any-port";

/// How many vCPUs the VM has: without ACPI, the kernel finds no others.
pub const VCPUS: u32 = 1;

/// Digests of all that images are made of, besides the enclave; as `sha256sum` writes them.
const DIGESTS: &str = include_str!("../inputs.sha256");
const FIRMWARE: &str = "firmware.fd";

/// What an image is for. They differ in kernel and command line, and so in their launch digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For use: the kernel has no console, since the host would read it.
    Production,
    /// For a machine on which the other one does not start: the same kernel and enclave, and they say on the serial port how
    /// far they came.
    Debug,
}

impl Purpose {
    /// The kernel, among what `fetch.sh` leaves.
    const fn kernel(self) -> &'static str {
        match self {
            Self::Production => "vmlinuz",
            Self::Debug => "vmlinuz-debug",
        }
    }

    /// The kernel's command line.
    pub fn command_line(self) -> String {
        match self {
            Self::Production => COMMAND_LINE.to_owned(),
            Self::Debug => format!("{COMMAND_LINE} {DEBUG_WORDS}"),
        }
    }
}

/// Why there is no image.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is another one than that which was pinned.
    #[error("{path}: its SHA-256 is {found}, pinned is {expected}", path = path.display())]
    Digest {
        /// Which.
        path: PathBuf,
        /// As pinned.
        expected: String,
        /// Of the file.
        found: String,
    },
}

/// What the image is made of, besides the enclave.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// What the image is for.
    pub purpose: Purpose,
    /// The kernel, `bzImage`.
    pub kernel: Vec<u8>,
    /// OVMF, of the kind that checks kernel, initramfs and command line.
    pub firmware: Vec<u8>,
}

impl Inputs {
    /// Reads what `fetch.sh` leaves in a directory; nothing that is not pinned is taken.
    pub fn read(directory: &Path, purpose: Purpose) -> Result<Self, ImageError> {
        let pinned: BTreeMap<&str, &str> = DIGESTS
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(digest, name)| (name, digest))
            .collect();
        let read = |name: &str| {
            let path = directory.join(name);
            let bytes =
                std::fs::read(&path).map_err(|source| ImageError::Read { path: path.clone(), source })?;
            let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            // A file that is not listed has no digest that would fit.
            let expected = pinned.get(name).copied().unwrap_or_default();
            match found == expected {
                true => Ok(bytes),
                false => Err(ImageError::Digest { path, expected: expected.to_owned(), found }),
            }
        };
        Ok(Self { purpose, kernel: read(purpose.kernel())?, firmware: read(FIRMWARE)? })
    }
}

/// The initramfs. `others` are further files, by their names in the root: the production image has none.
pub fn initramfs(init: &[u8], others: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = cpio::Archive::default();
    for directory in ["dev", "proc"] {
        archive.directory(directory);
    }
    // Before the enclave's own code runs, Rust's runtime wants three open files. The kernel offers the console, which the debug
    // image's has; without one the runtime takes the other.
    archive.character_device("dev/console", 0o600, (5, 1));
    archive.character_device("dev/null", 0o666, (1, 3));
    for (name, content) in others {
        archive.file(name, 0o400, content);
    }
    archive.file("init", 0o500, init);
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_inputs_make_the_same_bytes() {
        let others: [(&str, &[u8]); 1] = [("a.txt", &[7; 5])];
        let image = initramfs(b"ELF", &others);
        assert_eq!(image, initramfs(b"ELF", &others));
        assert_eq!(image.len() % 512, 0);
        let digest: String = Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "4b1992bee3bd2e0a36a7a3fc22b256934fc0e09b9dcc06bac9f8029707bc2a3c");
    }

    #[test]
    fn production_lets_only_privileged_ports_in() {
        assert!(!COMMAND_LINE.contains(ANY_PORT));
    }

    #[test]
    fn only_the_debug_image_has_a_console() {
        assert_eq!(Purpose::Production.command_line(), COMMAND_LINE);
        assert!(!COMMAND_LINE.contains("console") && !COMMAND_LINE.contains("printk"));
        let debug = Purpose::Debug.command_line();
        assert_eq!(debug.strip_prefix(COMMAND_LINE).map(str::trim_start), Some(DEBUG_WORDS));
        assert_ne!(Purpose::Production.kernel(), Purpose::Debug.kernel());
    }

    #[test]
    fn every_input_is_pinned() {
        let listed: Vec<&str> =
            DIGESTS.lines().filter_map(|line| line.split_once("  ")).map(|pair| pair.1).collect();
        assert_eq!(listed, [Purpose::Production.kernel(), FIRMWARE, Purpose::Debug.kernel()]);
    }

    #[test]
    fn what_is_not_pinned_is_not_taken() {
        let directory = std::env::temp_dir().join(format!("postern-image-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let refused = Inputs::read(&directory, Purpose::Production).unwrap_err();
        assert!(matches!(refused, ImageError::Read { .. }), "{refused}");
        std::fs::write(directory.join(Purpose::Production.kernel()), b"another kernel").unwrap();
        let refused = Inputs::read(&directory, Purpose::Production).unwrap_err();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(matches!(refused, ImageError::Digest { .. }), "{refused}");
    }

    /// The lines of `kernel/config` and its like that decide something: an option's name, and its line.
    fn options(fragment: &str) -> BTreeMap<&str, &str> {
        let named = |line| {
            let name = str::strip_prefix(line, "# ").unwrap_or(line);
            let name = name.split([' ', '=']).next().filter(|name| name.starts_with("CONFIG_"))?;
            Some((name, line))
        };
        fragment.lines().filter_map(named).collect()
    }

    #[test]
    fn the_kernel_has_what_only_an_snp_guest_misses() {
        // Each was left out once, here or by others, and nothing in emulation told: `kernel/config` says what happens then. That
        // the lines hold is looked at when the kernel is built.
        let options = options(include_str!("../kernel/config"));
        for name in
            ["AMD_MEM_ENCRYPT", "EFI_STUB", "SEV_GUEST", "CRYPTO_AES_NI_INTEL", "SMP", "MTRR", "X86_PAT"]
        {
            let name = format!("CONFIG_{name}");
            let wanted = format!("{name}=y");
            assert_eq!(options.get(name.as_str()), Some(&wanted.as_str()), "{name}");
        }
    }

    #[test]
    fn the_debug_kernel_is_productions_with_a_voice() {
        let production = options(include_str!("../kernel/config"));
        let debug = options(include_str!("../kernel/debug.config"));
        // It only adds, and what it contradicts are consoles.
        assert!(debug.values().all(|line| line.ends_with("=y")));
        let contradicted: Vec<&str> = debug.keys().filter_map(|name| production.get(name).copied()).collect();
        assert_eq!(contradicted, ["# CONFIG_PRINTK is not set", "# CONFIG_TTY is not set"]);
    }
}
