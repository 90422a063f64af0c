//! What the machine has of what a confidential VM takes, and says of itself. Everything is tried, not only looked for.

use super::qemu;
use crate::measure::policy::{KernelVersion, first_kernel};
use postern_attestation::GuestPolicy;
use postern_shared::snp::{Cpuid, FirmwareVersion, TcbVersion};
use sev::firmware::host::Firmware;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::process::Command;

/// What SEV-SNP guests need of their host.
const DEVICES: [(&str, &str); 3] = [
    ("/dev/kvm", "hardware virtualisation"),
    ("/dev/sev", "SEV, in BIOS and kernel"),
    ("/dev/vhost-vsock", "the module vhost_vsock"),
];
const SNP_ENABLED: &str = "/sys/module/kvm_amd/parameters/sev_snp";
const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// What this machine lacks for a confidential VM with this policy, in words.
pub(super) fn missing(policy: GuestPolicy) -> Vec<String> {
    let mut missing: Vec<String> =
        DEVICES.into_iter().filter_map(|(path, what)| device(path, what)).collect();
    if !std::fs::read_to_string(SNP_ENABLED).is_ok_and(|text| text.trim() == "Y") {
        missing.push(format!("{SNP_ENABLED} is not Y"));
    }
    missing.extend(kernel(&std::fs::read_to_string(RELEASE).unwrap_or_default(), policy));
    missing
}

/// Whether it can be used by whoever runs this.
fn device(path: &str, what: &str) -> Option<String> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => Some(format!("{path} is missing ({what})")),
        Err(error) => Some(format!("{path} can't be opened: {error} (host/systemd/90-postern.rules)")),
    }
}

fn kernel(release: &str, policy: GuestPolicy) -> Option<String> {
    let wanted = first_kernel(policy);
    let found = KernelVersion::parse(release)?;
    let release = release.trim();
    (found < wanted)
        .then(|| format!("KVM launches guest policy {policy} from {wanted} on, and this is Linux {release}"))
}

/// What the machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Platform {
    /// If the processor is AMD's.
    pub(super) cpuid: Option<Cpuid>,
    /// Patch level, whose low byte is what TCBs have of it.
    pub(super) microcode: Option<u32>,
    /// Of the SNP firmware that runs, and the TCB that reports will show; or why that can't be had.
    pub(super) firmware: Result<(FirmwareVersion, TcbVersion), String>,
}

impl Platform {
    /// Of this machine.
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self { cpuid: cpuid(), microcode: microcode(&text), firmware: firmware() }
    }
}

/// `SNP_PLATFORM_STATUS` (56860). Not run: it needs the hardware.
fn firmware() -> Result<(FirmwareVersion, TcbVersion), String> {
    let mut firmware = Firmware::open().map_err(|error| format!("/dev/sev: {error}"))?;
    let status = firmware.snp_platform_status().map_err(|error| format!("/dev/sev: {error}"))?;
    let (major, minor) = status.version;
    let build = status.build_id.to_le_bytes()[0];
    let sev::firmware::host::TcbVersion { fmc, bootloader, tee, snp, microcode, .. } =
        status.reported_tcb_version;
    Ok((FirmwareVersion { major, minor, build }, TcbVersion { fmc, bootloader, tee, snp, microcode }))
}

/// Of the first processor; all of a machine have the same.
fn microcode(cpuinfo: &str) -> Option<u32> {
    let value = cpuinfo.lines().find_map(|line| line.strip_prefix("microcode")?.split_once("0x"))?.1;
    u32::from_str_radix(value.trim(), 16).ok()
}

/// Family, model and stepping of this processor, if it is AMD's.
fn cpuid() -> Option<Cpuid> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;
        let vendor = __cpuid(0);
        let is_amd = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD";
        is_amd.then(|| silicon(__cpuid(1).eax))
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// As function 1 of CPUID says it in EAX (24594, CPUID Fn0000_0001_EAX).
fn silicon(eax: u32) -> Cpuid {
    let [stepping, model, family, extended_model] = [0, 4, 8, 16].map(|shift| (eax >> shift & 0xf) as u8);
    let extended_family = (eax >> 20) as u8;
    Cpuid { family: family.saturating_add(extended_family), model: extended_model << 4 | model, stepping }
}

/// Where this processor's encryption bit is, if it has SEV-SNP (24594, CPUID Fn8000_001F).
pub(super) fn cbitpos() -> Option<u32> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;
        const ENCRYPTION: u32 = 0x8000_001f;
        let snp = (__cpuid(0x8000_0000).eax >= ENCRYPTION)
            .then(|| __cpuid(ENCRYPTION))
            .filter(|leaf| leaf.eax & 1 << 4 != 0);
        snp.map(|leaf| leaf.ebx & 0x3f)
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// What QEMU lacks for this VM, in words; it is asked itself.
pub(super) fn qemu_lacks(cpu: &str, confidential: bool) -> Vec<String> {
    let ask = |arguments: &[&str]| match Command::new(qemu::PROGRAM).args(arguments).output() {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => Err(format!("{} can't be started: {error}", qemu::PROGRAM)),
    };
    let models = match ask(&["-cpu", "help"]) {
        Ok(models) => models,
        Err(error) => return vec![error],
    };
    let mut lacks = Vec::new();
    if !lists(&models, cpu) {
        lacks.push(format!("{} does not know the CPU model {cpu}", qemu::PROGRAM));
    }
    if confidential && !ask(&["-object", "help"]).is_ok_and(|objects| lists(&objects, "sev-snp-guest")) {
        lacks.push(format!("{} has no sev-snp-guest: 9.1 is the first that does", qemu::PROGRAM));
    }
    lacks
}

/// Whether a word begins a line of QEMU's help, or follows on the architecture's name, with which versions before 9 begin it.
fn lists(help: &str, word: &str) -> bool {
    help.lines().any(|line| line.split_whitespace().find(|part| *part != "x86") == Some(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_can_not_be_opened_is_as_good_as_none() {
        assert_eq!(device("/dev/null", "nothing"), None);
        let missing = device("/dev/no-such-device", "what it is for").unwrap();
        assert_eq!(missing, "/dev/no-such-device is missing (what it is for)");
        // It is there, and nobody can write to it.
        assert!(device("/proc/self", "nothing").unwrap().contains("can't be opened"));
    }

    #[test]
    fn a_kernel_that_can_not_launch_the_policy_is_named() {
        let old = kernel("6.12.117-cloud-amd64\n", GuestPolicy(0x2_0000)).unwrap();
        assert!(old.contains("0x20000") && old.contains("Linux 6.17") && old.contains("6.12.117"), "{old}");
        assert_eq!(kernel("6.12.117", GuestPolicy(0x3_0000)), None);
        assert!(kernel("6.8.0-31-generic", GuestPolicy(0x3_0000)).is_some());
        assert!(kernel("6.18.0", GuestPolicy(0x203_0000)).is_some());
        assert_eq!(kernel("6.19.0", GuestPolicy(0x203_0000)), None);
        assert_eq!(kernel("", GuestPolicy(0x3_0000)), None, "whoever can't tell says nothing");
    }

    #[test]
    fn silicon_and_microcode_are_read_as_processors_and_linux_say_them() {
        for (eax, family, model, stepping) in
            [(0x00a1_0f11, 0x19, 0x11, 1), (0x00aa_0f02, 0x19, 0xa0, 2), (0x00b0_0f21, 0x1a, 0x02, 1)]
        {
            assert_eq!(silicon(eax), Cpuid { family, model, stepping }, "{eax:#x}");
        }
        let info = "processor\t: 0\nmicrocode\t: 0xa101148\ncpu MHz\t: 3\nprocessor\t: 1\nmicrocode\t: 0x1\n";
        assert_eq!(microcode(info), Some(0x0a10_1148));
        assert_eq!(microcode("microcode\t: high\n"), None);
        assert_eq!(microcode(""), None);
    }

    #[test]
    fn models_are_read_as_qemu_prints_them() {
        // QEMU 10.0.
        let help = "Available CPUs:\n  EPYC                  (alias configured by machine type)\n  EPYC-Genoa-v1         \
            AMD EPYC-Genoa Processor\n  EPYC-v4               AMD EPYC Processor\n";
        assert!(lists(help, "EPYC-Genoa-v1") && lists(help, "EPYC") && lists(help, "EPYC-v4"));
        assert!(lists("x86 EPYC-Rome-v1          AMD EPYC-Rome Processor\n", "EPYC-Rome-v1"), "7.2");
        assert!(!lists(help, "EPYC-Genoa") && !lists(help, "EPYC-Turin") && !lists(help, "AMD"));
    }
}
