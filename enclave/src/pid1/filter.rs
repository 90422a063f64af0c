//! The system calls that an enclave makes while it serves; at any other the kernel kills it, and the VM ends.
//!
//! There is none that opens a path, makes a socket, starts a process or a thread, or makes memory executable.

use super::Pid1Error;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;

/// Whatever their arguments.
const ALLOWED: [i64; 26] = [
    // Devices, and the one host.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_close,
    // The status is measured before it is read.
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_lseek,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // What Rust's and C's libraries do by themselves.
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    // The end.
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// `SNP_GET_REPORT` and `SNP_GET_DERIVED_KEY` (Linux, `include/uapi/linux/sev-guest.h`). Not `SNP_GET_EXT_REPORT`.
const SECURE_PROCESSOR: [u64; 2] = [0xC020_5300, 0xC020_5301];

const PROT_EXEC: u64 = libc::PROT_EXEC as u64;

/// From here on.
pub(super) fn apply() -> Result<(), Pid1Error> {
    let failed = |error: &dyn std::fmt::Display| Pid1Error::Filter(error.to_string());
    let program = program().map_err(|error| failed(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.into_iter().map(|call| (call, Vec::new())).collect();
    let only = |argument, operation, value| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?;
        SeccompRule::new(vec![condition])
    };
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![only(2, SeccompCmpOp::MaskedEq(PROT_EXEC), 0)?]);
    }
    let requests = SECURE_PROCESSOR.map(|request| only(1, SeccompCmpOp::Eq, request));
    rules.insert(libc::SYS_ioctl, requests.into_iter().collect::<Result<_, _>>()?);
    // Whatever is not listed; whatever is.
    let (otherwise, listed) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, otherwise, listed, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: u32 = 0xC000_003E;
    const I386: u32 = 0x4000_0003;
    /// Marks the calls of the x32 ABI.
    const X32: i64 = 0x4000_0000;

    /// What the kernel does with a call: a classic BPF machine, as far as filters of system calls use it
    /// (Linux, `Documentation/userspace-api/seccomp_filter.rst`).
    fn allows(program: &BpfProgram, architecture: u32, call: i64, arguments: [u64; 6]) -> bool {
        // `struct seccomp_data`.
        let mut data = Vec::new();
        data.extend((call as u32).to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = &program[at];
            let k = instruction.k;
            let jump = |condition| usize::from(if condition { instruction.jt } else { instruction.jf });
            at += 1;
            match instruction.code {
                0x20 => value = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
                0x54 => value &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(value == k),
                0x25 => at += jump(value > k),
                0x35 => at += jump(value >= k),
                0x45 => at += jump(value & k != 0),
                0x06 => match k {
                    0x7FFF_0000 => return true,
                    0x8000_0000 => return false,
                    other => panic!("returns {other:#x}"),
                },
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let program = program().unwrap();
        // The kernel takes at most so many instructions.
        assert!(program.len() < 4096);
        let by_argument = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_ioctl];
        for call in 0..1024 {
            let listed = ALLOWED.contains(&call);
            if !by_argument.contains(&call) {
                assert_eq!(allows(&program, X86_64, call, [0; 6]), listed, "{call}");
            }
            for (architecture, call) in [(I386, call), (X86_64, call | X32)] {
                assert!(!allows(&program, architecture, call, [0; 6]), "{call:#x} of {architecture:#x}");
            }
        }
    }

    #[test]
    fn memory_is_never_executable() {
        let program = program().unwrap();
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            for protection in 0..8 {
                // The kernel looks at the lower half, so whatever is in the upper one must not matter.
                for argument in [protection, protection | 1 << 32] {
                    let allowed = allows(&program, X86_64, call, [0, 4096, argument, 0x22, u64::MAX, 0]);
                    assert_eq!(allowed, protection & PROT_EXEC == 0, "{call} {argument:#x}");
                }
            }
        }
    }

    #[test]
    fn a_device_is_asked_for_reports_and_keys_only() {
        let program = program().unwrap();
        let allowed = |request: u64| allows(&program, X86_64, libc::SYS_ioctl, [3, request, 0, 0, 0, 0]);
        assert!(allowed(0xC020_5300) && allowed(0xC020_5301));
        // An extended report, a terminal's input, and neighbours.
        for request in [0xC020_5302, 0x5412, 0, 0xC020_5400, 0x4020_5300, 0xC040_5300] {
            assert!(!allowed(request), "{request:#x}");
        }
    }
}
