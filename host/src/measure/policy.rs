//! The policy that a guest is launched with, as a manifest's rules want it, and which KVM can launch it.

use postern_attestation::GuestPolicy;
use postern_shared::policy::{GuestPolicyRules, Rule};
use std::fmt;

const SMT: u64 = 1 << 16;
const SINGLE_SOCKET: u64 = 1 << 20;
const ABI: u64 = 0xffff;

/// The policy by which peers accept a guest (56860, guest policy structure). What the rules leave open is as the oldest KVM
/// launches it: simultaneous multithreading allowed, nothing else demanded.
pub fn launch_policy(rules: &GuestPolicyRules) -> GuestPolicy {
    let (major, minor) = rules.abi;
    let abi = u64::from(u16::from_be_bytes([major, minor]));
    let smt = if rules.smt == Rule::Forbidden { 0 } else { SMT };
    let demanded = bits(rules).into_iter().filter(|(_, rule)| *rule == Rule::Required);
    let demanded = demanded.fold(0, |demanded, (bit, _)| demanded | bit);
    GuestPolicy(GuestPolicy::RESERVED_ONE | smt | demanded | abi)
}

/// Whether peers accept a guest with this policy.
pub fn satisfies(policy: GuestPolicy, rules: &GuestPolicyRules) -> bool {
    let holds = |(bit, rule): (u64, Rule)| match (policy.0 & bit != 0, rule) {
        (_, Rule::Any) | (true, Rule::Required) | (false, Rule::Forbidden) => true,
        (true, Rule::Forbidden) | (false, Rule::Required) => false,
    };
    bits(rules).into_iter().all(holds) && policy.abi() >= rules.abi
}

/// Each bit that there are rules about.
fn bits(rules: &GuestPolicyRules) -> [(u64, Rule); 6] {
    [
        (SMT, rules.smt),
        (SINGLE_SOCKET, rules.single_socket),
        (1 << 22, rules.mem_aes_256_xts),
        (1 << 23, rules.rapl_dis),
        (1 << 24, rules.ciphertext_hiding),
        (1 << 25, rules.page_swap_disable),
    ]
}

/// A version of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u16, pub u16);

impl KernelVersion {
    /// The first that launches SEV-SNP guests at all.
    pub const SNP: Self = Self(6, 11);

    /// From what `uname -r` says.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(['.', '-', '+']).map(|part| part.trim().parse().ok());
        Some(Self(numbers.next()??, numbers.next()??))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}.{}", self.0, self.1)
    }
}

/// The first kernel whose KVM takes this policy, by the checks in its `snp_launch_start`: distributions may have brought them
/// to older ones. From which release on the second and third group is taken was read, not tried.
pub fn first_kernel(policy: GuestPolicy) -> KernelVersion {
    match policy.0 & !ABI {
        bits if bits == GuestPolicy::RESERVED_ONE | SMT => KernelVersion::SNP,
        bits if bits & !(GuestPolicy::RESERVED_ONE | SMT | SINGLE_SOCKET) == 0 => KernelVersion(6, 17),
        _ => KernelVersion(6, 19),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_what_the_rules_demand_and_no_more() {
        let required = Rule::Required;
        let rules = GuestPolicyRules::default();
        for (rules, policy, kernel) in [
            (rules, 0x3_0000, KernelVersion(6, 11)),
            (GuestPolicyRules { smt: required, ..rules }, 0x3_0000, KernelVersion(6, 11)),
            (GuestPolicyRules { abi: (1, 55), ..rules }, 0x3_0137, KernelVersion(6, 11)),
            (GuestPolicyRules { smt: Rule::Forbidden, ..rules }, 0x2_0000, KernelVersion(6, 17)),
            (GuestPolicyRules { single_socket: required, ..rules }, 0x13_0000, KernelVersion(6, 17)),
            (GuestPolicyRules { mem_aes_256_xts: required, ..rules }, 0x43_0000, KernelVersion(6, 19)),
            (GuestPolicyRules { rapl_dis: required, ..rules }, 0x83_0000, KernelVersion(6, 19)),
            (GuestPolicyRules { ciphertext_hiding: required, ..rules }, 0x103_0000, KernelVersion(6, 19)),
            (GuestPolicyRules { page_swap_disable: required, ..rules }, 0x203_0000, KernelVersion(6, 19)),
        ] {
            assert_eq!(launch_policy(&rules), GuestPolicy(policy), "{rules:?}");
            assert!(satisfies(GuestPolicy(policy), &rules), "{rules:?}");
            assert_eq!(first_kernel(GuestPolicy(policy)), kernel, "{rules:?}");
        }
    }

    #[test]
    fn a_policy_that_rules_forbid_does_not_satisfy_them_and_a_stricter_one_does() {
        let strictest = GuestPolicyRules {
            smt: Rule::Forbidden,
            single_socket: Rule::Required,
            mem_aes_256_xts: Rule::Required,
            rapl_dis: Rule::Required,
            ciphertext_hiding: Rule::Required,
            page_swap_disable: Rule::Required,
            abi: (1, 55),
        };
        let policy = launch_policy(&strictest);
        assert!(satisfies(policy, &strictest) && satisfies(policy, &GuestPolicyRules::default()));
        for bit in [16, 20, 22, 23, 24, 25] {
            assert!(!satisfies(GuestPolicy(policy.0 ^ 1 << bit), &strictest), "bit {bit}");
        }
        assert!(!satisfies(GuestPolicy(policy.0 - 1), &strictest), "an older ABI");
    }

    #[test]
    fn kernels_are_compared_by_number() {
        let release = |text| KernelVersion::parse(text);
        assert_eq!(release("6.12.117+deb12-cloud-amd64\n"), Some(KernelVersion(6, 12)));
        assert_eq!(release("7.3-rc1"), Some(KernelVersion(7, 3)));
        assert!(release("6.9.1") < release("6.11.0"));
        for text in ["", "6", "six.one", "6.x"] {
            assert_eq!(release(text), None, "{text}");
        }
    }
}
