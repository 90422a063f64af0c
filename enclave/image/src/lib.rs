//! The enclave's VM image: what it is made of, and how. Same inputs, same bytes.
//!
//! The image is an initramfs that holds the enclave as `/init`, the few kernel modules that it needs as the distribution
//! signed them, and nothing else. Kernel and firmware are the distribution's, named by their digests ([`Inputs`]). All of it,
//! and the kernel's command line, is in the launch digest, which is what peers check.

mod cpio;

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What the kernel is told.
///
/// - `quiet console=null 8250.nr_uarts=0`: the console would be the host's to read, and a panic prints registers;
/// - `panic=-1 oops=panic`: whatever goes wrong ends the VM;
/// - `lockdown=confidentiality module.sig_enforce=1`: nothing in the guest reads or changes the kernel, and only modules with
///   the distribution's signature are loaded;
/// - `acpi=off`: ACPI tables come from the host, unmeasured, and hold code for the kernel to run. It costs all vCPUs but one;
/// - `efi=noruntime`: nothing of the firmware runs once the kernel does;
/// - `random.trust_cpu=on random.trust_bootloader=off`: seeds come from the processor, not from the host;
/// - the rest hardens the kernel against itself.
pub const COMMAND_LINE: &str = "quiet console=null 8250.nr_uarts=0 panic=-1 oops=panic lockdown=confidentiality \
    module.sig_enforce=1 acpi=off efi=noruntime random.trust_cpu=on random.trust_bootloader=off slab_nomerge \
    init_on_alloc=1 init_on_free=1 page_alloc.shuffle=1 randomize_kstack_offset=on vsyscall=none ia32_emulation=0 \
    debugfs=off ipv6.disable=1 nohibernate mitigations=auto,nosmt";

/// A word for the enclave at the end of the kernel's command line, in emulation only: it then lets its host in from any
/// vsock port. Production's command line, and so its launch digest, is without it.
pub const ANY_PORT: &str = "any-port";

/// How many vCPUs the VM has: without ACPI, the kernel finds no others.
pub const VCPUS: u32 = 1;

/// Digests of all that the image is made of, besides the enclave; as `sha256sum` writes them.
const DIGESTS: &str = include_str!("../inputs.sha256");
const KERNEL: &str = "vmlinuz";
const FIRMWARE: &str = "firmware.fd";

/// In the order in which they are loaded: each needs those before it.
const MODULES: [&str; 6] = [
    "configfs.ko.xz",
    "tsm.ko.xz",
    "sev-guest.ko.xz",
    "vsock.ko.xz",
    "vmw_vsock_virtio_transport_common.ko.xz",
    "vmw_vsock_virtio_transport.ko.xz",
];

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
    /// The kernel, `bzImage`.
    pub kernel: Vec<u8>,
    /// OVMF, of the kind that checks kernel, initramfs and command line.
    pub firmware: Vec<u8>,
    /// Modules, with their names in the image.
    pub modules: Vec<(String, Vec<u8>)>,
}

impl Inputs {
    /// Reads what `fetch.sh` leaves in a directory; nothing that is not pinned is taken.
    pub fn read(directory: &Path) -> Result<Self, ImageError> {
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
        let module = |(number, name): (usize, &&str)| Ok((format!("{number}-{name}"), read(name)?));
        Ok(Self {
            kernel: read(KERNEL)?,
            firmware: read(FIRMWARE)?,
            modules: MODULES.iter().enumerate().map(module).collect::<Result<_, _>>()?,
        })
    }
}

/// The initramfs. `others` are further files, by their names in the root: the production image has none.
pub fn initramfs(init: &[u8], modules: &[(String, Vec<u8>)], others: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = cpio::Archive::default();
    for directory in ["dev", "modules", "proc"] {
        archive.directory(directory);
    }
    // Before the enclave's own code runs, Rust's runtime wants three open files: the kernel offers the console, which is off.
    archive.character_device("dev/console", 0o600, (5, 1));
    archive.character_device("dev/null", 0o666, (1, 3));
    for (name, content) in modules {
        archive.file(&format!("modules/{name}"), 0o400, content);
    }
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
        let modules = [("0-a.ko.xz".to_owned(), vec![7; 5])];
        let image = initramfs(b"ELF", &modules, &[]);
        assert_eq!(image, initramfs(b"ELF", &modules, &[]));
        assert_eq!(image.len() % 512, 0);
        let digest: String = Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "65182cf748e2fa7b1b02f00368aa74f184a9d2f1c20719033c9fa32300bb8870");
    }

    #[test]
    fn production_lets_only_privileged_ports_in() {
        assert!(!COMMAND_LINE.contains(ANY_PORT));
    }

    #[test]
    fn every_input_is_pinned() {
        let listed: Vec<&str> =
            DIGESTS.lines().filter_map(|line| line.split_once("  ")).map(|pair| pair.1).collect();
        for name in MODULES.iter().chain([&KERNEL, &FIRMWARE]) {
            assert!(listed.contains(name), "{name}");
        }
        assert_eq!(listed.len(), MODULES.len() + 2);
    }

    #[test]
    fn what_is_not_pinned_is_not_taken() {
        let directory = std::env::temp_dir().join(format!("postern-image-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let refused = Inputs::read(&directory).unwrap_err();
        assert!(matches!(refused, ImageError::Read { .. }), "{refused}");
        std::fs::write(directory.join(KERNEL), b"another kernel").unwrap();
        let refused = Inputs::read(&directory).unwrap_err();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(matches!(refused, ImageError::Digest { .. }), "{refused}");
    }
}
