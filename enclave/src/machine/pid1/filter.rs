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

/// How long the one host may keep the enclave waiting: all that is ever set of a socket.
const TIMEOUTS: [u64; 2] = [libc::SO_RCVTIMEO as u64, libc::SO_SNDTIMEO as u64];

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
    let condition = |argument, operation, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)
    };
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_executable = condition(2, SeccompCmpOp::MaskedEq(PROT_EXEC), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![not_executable])?]);
    }
    let request = |request| SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?]);
    rules.insert(libc::SYS_ioctl, SECURE_PROCESSOR.map(request).into_iter().collect::<Result<_, _>>()?);
    let timeout = |option| {
        let of_a_socket = condition(1, SeccompCmpOp::Eq, libc::SOL_SOCKET as u64)?;
        SeccompRule::new(vec![of_a_socket, condition(2, SeccompCmpOp::Eq, option)?])
    };
    rules.insert(libc::SYS_setsockopt, TIMEOUTS.map(timeout).into_iter().collect::<Result<_, _>>()?);
    // Whatever is not listed; whatever is.
    let (otherwise, listed) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, otherwise, listed, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Core;
    use crate::machine::platform::{DerivedKey, KeyRequest, Platform, PlatformError};
    use crate::shell::{Late, Limits, ServeError, Stream, serve};
    use postern_attestation::{ReportData, TrustAnchor};
    use postern_shared::codec;
    use postern_shared::wire::{Hello, Request, encode_frame};
    use rustix::thread::set_no_new_privs;
    use std::io::{self, Read, Write};
    use std::mem::ManuallyDrop;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

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
        let by_argument = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_ioctl, libc::SYS_setsockopt];
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

    #[test]
    fn of_a_socket_only_the_deadlines_are_set() {
        let program = program().unwrap();
        let allowed = |level: i32, option: u64| {
            let arguments = [3, level as u64, option, 0x7fff_0000, 16, 0];
            allows(&program, X86_64, libc::SYS_setsockopt, arguments)
        };
        for option in 0..128 {
            let is_timeout = TIMEOUTS.contains(&option);
            assert_eq!(allowed(libc::SOL_SOCKET, option), is_timeout, "{option}");
            for level in [0, libc::IPPROTO_TCP, libc::AF_VSOCK] {
                assert!(!allowed(level, option), "{option} of {level}");
            }
        }
        assert_eq!(TIMEOUTS, [20, 21]);
    }

    /// Knows nothing, so that whatever is asked of the core is refused, and answers.
    struct NoMachine(TrustAnchor);

    impl Platform for NoMachine {
        fn report(&mut self, _: &ReportData) -> Result<Vec<u8>, PlatformError> {
            Err(PlatformError::Unreachable)
        }

        fn derive_key(&mut self, _: &KeyRequest) -> Result<DerivedKey, PlatformError> {
            Err(PlatformError::Unreachable)
        }

        fn fill_random(&mut self, _: &mut [u8]) -> Result<(), PlatformError> {
            Err(PlatformError::Randomness)
        }

        fn trust_anchor(&self) -> &TrustAnchor {
            &self.0
        }
    }

    /// Not closed: libraries that are built for tests look first whether it is open, with a call that is not listed. Its
    /// clock stands still, so that no deadline passes but the kernel's.
    struct Unclosed(ManuallyDrop<UnixStream>, Instant);

    impl Read for Unclosed {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0.read(out)
        }
    }

    impl Write for Unclosed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl Stream for Unclosed {
        fn set_read_timeout(&mut self, limit: Duration) -> io::Result<()> {
            Stream::set_read_timeout(&mut *self.0, limit)
        }

        fn set_write_timeout(&mut self, limit: Duration) -> io::Result<()> {
            Stream::set_write_timeout(&mut *self.0, limit)
        }

        fn now(&self) -> Instant {
            // A call that shells make.
            Instant::now().min(self.1)
        }
    }

    /// Set for the copy of this test that the kernel may kill.
    const FILTERED: &str = "POSTERN_TEST_FILTERED";

    /// Serves a host that asks and falls silent, with nothing but the calls that are listed; then ends the process.
    fn serve_filtered(forbidden: bool) -> ! {
        let (mut host, theirs) = UnixStream::pair().unwrap();
        let theirs = Unclosed(ManuallyDrop::new(theirs), Instant::now());
        let asked = [Hello::OURS.encode(), codec::encode(&Request::Status), codec::encode(&Request::Tick)];
        for body in asked {
            host.write_all(&encode_frame(&body).unwrap()).unwrap();
        }
        let mut core = Core::new(NoMachine(TrustAnchor::amd()));
        let short = Duration::from_millis(10);
        let limits = Limits { request: short, ..Limits::default() };
        set_no_new_privs(true).unwrap();
        apply().unwrap();
        if forbidden {
            let _ = UnixStream::pair();
        }
        let ended = serve(&mut core, &limits, theirs);
        let mut answers = vec![0; 1 << 16];
        let count = host.read(&mut answers).unwrap();
        let well = matches!(ended, Err(ServeError::Late(Late::Request))) && count > 20;
        std::process::exit(if well { SERVED } else { 1 })
    }

    const SERVED: i32 = 77;

    #[test]
    fn a_host_is_served_with_deadlines_and_nothing_but_what_is_listed() {
        if let Some(how) = std::env::var_os(FILTERED) {
            serve_filtered(how == "and forbidden");
        }
        let run = |how| {
            // As the test runner knows it: without the crate.
            let name =
                concat!(module_path!(), "::a_host_is_served_with_deadlines_and_nothing_but_what_is_listed");
            let (_, name) = name.split_once("::").unwrap();
            let mut copy = Command::new(std::env::current_exe().unwrap());
            copy.args(["--exact", name, "--nocapture"]).env(FILTERED, how);
            copy.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
        };
        assert_eq!(run("only").code(), Some(SERVED));
        // The control: the filter is there.
        assert_eq!(run("and forbidden").signal(), Some(libc::SIGSYS));
    }
}
