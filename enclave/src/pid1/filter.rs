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

    #[test]
    fn nothing_that_opens_connects_or_starts_is_allowed() {
        for call in [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fork,
            libc::SYS_execve,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_finit_module,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
        ] {
            assert!(!ALLOWED.contains(&call), "{call}");
        }
        // The kernel takes at most 4096 instructions.
        let length = program().unwrap().len();
        assert!((50..4096).contains(&length), "{length}");
    }
}
