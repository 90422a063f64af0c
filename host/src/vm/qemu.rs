//! QEMU's command line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_attestation::GuestPolicy;
use std::path::{Path, PathBuf};

/// 9.1 or later for confidential VMs.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";
/// Nobody asks for it: the device in user space has one guest.
pub(super) const EMULATED_CID: &str = "42";

/// How the VM's only device reaches the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// Through the host's kernel; the VM is confidential.
    Kernel {
        /// The VM's context id.
        cid: u32,
    },
    /// Through a process of the host's; the VM is emulated.
    UserSpace {
        /// Where that process listens for QEMU.
        socket: PathBuf,
        /// Where it listens for whoever wants to reach the VM.
        listener: PathBuf,
    },
}

/// Where QEMU takes orders from its user when it emulates, beside the vsock device's socket.
pub fn control(socket: &Path) -> PathBuf {
    socket.with_extension("control")
}

/// A VM that is to be started.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub image: PathBuf,
    /// OVMF.
    pub firmware: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// Memory.
    pub memory_mib: u32,
    /// CPU model of QEMU's.
    pub cpu: String,
    /// How it is reached, and so whether it is confidential.
    pub device: Device,
    /// Whether it talks on its serial port, to QEMU's standard output.
    pub serial: bool,
    /// Position of the encryption bit.
    pub cbitpos: u32,
    /// Guest policy.
    pub policy: GuestPolicy,
    /// The hash of the first manifest.
    pub host_data: [u8; 32],
    /// Who has signed it.
    pub id_block: Option<IdBlockFiles>,
}

/// An ID block as QEMU takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdBlockFiles {
    /// `id-block`, base64.
    pub block: String,
    /// `id-auth`, base64.
    pub auth: String,
    /// Whether an author has signed the id key.
    pub has_author: bool,
}

impl Machine {
    /// Without the program's name. There is no network, no disk, no display, no console, and, unless it is emulated, no
    /// monitor.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
        let memory =
            format!("memory-backend-memfd,id=memory,size={}M,share=on,prealloc=off", self.memory_mib);
        add(&["-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none", "-display", "none"]);
        let serial = if self.serial { "stdio" } else { "none" };
        add(&["-serial", serial, "-monitor", "none", "-smp", "1", "-m", &format!("{}M", self.memory_mib)]);
        add(&["-object", &memory, "-cpu", &self.cpu]);
        match &self.device {
            Device::Kernel { cid } => {
                let machine =
                    "q35,accel=kvm,memory-backend=memory,confidential-guest-support=snp,vmport=off,smm=off";
                add(&["-machine", machine, "-object", &self.snp()]);
                add(&["-bios", &self.firmware.display().to_string()]);
                let device = format!("vhost-vsock-pci,guest-cid={cid},disable-legacy=on,iommu_platform=true");
                add(&["-device", &device]);
            }
            // The firmware boots only what it finds in the table of hashes that confidential VMs have: QEMU's own does here.
            Device::UserSpace { socket, .. } => {
                add(&["-machine", "q35,accel=tcg,memory-backend=memory"]);
                add(&["-chardev", &format!("socket,id=vsock,path={}", socket.display())]);
                add(&["-device", "vhost-user-vsock-pci,chardev=vsock"]);
                let monitor =
                    format!("socket,id=monitor,path={},server=on,wait=off", control(socket).display());
                add(&["-chardev", &monitor, "-mon", "chardev=monitor,mode=readline"]);
            }
        }
        add(&["-kernel", &self.kernel.display().to_string(), "-initrd", &self.image.display().to_string()]);
        add(&["-append", &self.command_line]);
        arguments
    }

    fn snp(&self) -> String {
        let host_data = STANDARD.encode(self.host_data);
        let object = format!(
            "sev-snp-guest,id=snp,cbitpos={},reduced-phys-bits=1,policy={},kernel-hashes=on,host-data={host_data}",
            self.cbitpos, self.policy
        );
        match &self.id_block {
            None => object,
            Some(IdBlockFiles { block, auth, has_author }) => {
                let author = if *has_author { "on" } else { "off" };
                format!("{object},author-key-enabled={author},id-block={block},id-auth={auth}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(device: Device) -> Vec<String> {
        Machine {
            kernel: "k".into(),
            image: "i".into(),
            firmware: "f".into(),
            command_line: "a b".to_owned(),
            memory_mib: 512,
            cpu: "EPYC-v4".to_owned(),
            device,
            serial: false,
            cbitpos: 51,
            policy: GuestPolicy(0x2_0000),
            host_data: [1; 32],
            id_block: Some(IdBlockFiles {
                block: "QkxPQ0s=".to_owned(),
                auth: "QVVUSA==".to_owned(),
                has_author: true,
            }),
        }
        .arguments()
    }

    #[test]
    fn a_confidential_vm_is_bound_to_dao_image_and_publisher() {
        let arguments = machine(Device::Kernel { cid: 3 }).join(" ");
        for part in [
            "confidential-guest-support=snp",
            "policy=0x20000",
            "kernel-hashes=on",
            "host-data=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            "author-key-enabled=on,id-block=QkxPQ0s=,id-auth=QVVUSA==",
            "-bios f -device vhost-vsock-pci,guest-cid=3,disable-legacy=on,iommu_platform=true",
            "-kernel k -initrd i -append a b",
        ] {
            assert!(arguments.contains(part), "{part}: {arguments}");
        }
    }

    #[test]
    fn no_vm_has_a_network_a_console_or_a_second_processor() {
        let user_space = Device::UserSpace { socket: "s".into(), listener: "l".into() };
        for device in [Device::Kernel { cid: 3 }, user_space] {
            let arguments = machine(device).join(" ");
            for part in [
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-nic none",
                "-serial none",
                "-monitor none",
                "-smp 1",
            ] {
                assert!(arguments.contains(part), "{part}: {arguments}");
            }
        }
    }
}
