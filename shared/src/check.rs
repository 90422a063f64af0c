//! What is checked of an enclave's evidence. `postern-attestation` checks it; everybody else only names it.

use core::fmt;
use serde::{Deserialize, Serialize};

/// One thing that is checked. Names are stable: people's scripts read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A report of a version of which we know every bit, of the right length.
    ReportFormat,
    /// ECDSA P-384 with SHA-384.
    SignatureAlgorithm,
    /// Reserved bits and bytes are zero.
    Reserved,
    /// The certificates lead from a pinned root to the leaf.
    Chain,
    /// No certificate has expired, or is not valid yet.
    Validity,
    /// The revocation list is the root's own and in force; or there is none, and the rules don't ask for one.
    Crl,
    /// No certificate is revoked: such a list names none, and none is known to be.
    Revocation,
    /// Silicon, certificates and root are of one product line, and of one that is accepted.
    Product,
    /// Signed with a kind of key that is accepted, the one that the leaf certifies.
    SigningKey,
    /// The leaf's key signed the report as received.
    ReportSignature,
    /// The leaf is that chip's, and the chip is the member's.
    ChipId,
    /// The leaf was made for the reported TCB.
    LeafTcb,
    /// The reported TCB is not above the current one.
    TcbOrder,
    /// Reported, launch and committed TCB reach the floor of the silicon.
    TcbFloor,
    /// The SNP firmware is not older than the floor of the silicon.
    FirmwareVersion,
    /// The host can't go back to older firmware than what runs.
    FirmwareCommitted,
    /// The mitigations that the silicon needs are on, and were at launch.
    Mitigations,
    /// Asked for by the most privileged code of the guest, which is what was measured.
    Vmpl,
    /// What the guest allows its host.
    GuestPolicy,
    /// How the platform is set up.
    PlatformInfo,
    /// No migration agent is attached.
    MigrationAgent,
    /// The guest's security version is not below the lowest.
    GuestSvn,
    /// Launched without an ID block, or with one by listed keys.
    IdBlock,
    /// The code is listed in the manifest.
    Measurement,
    /// Launched for this manifest.
    HostData,
    /// Bound to identities, roles, manifest and nonces.
    ReportData,
    /// No other member's enclave is the same guest.
    Distinct,
}

impl Check {
    /// All of them, in their order.
    pub const ALL: [Self; 27] = [
        Self::ReportFormat,
        Self::SignatureAlgorithm,
        Self::Reserved,
        Self::Chain,
        Self::Validity,
        Self::Crl,
        Self::Revocation,
        Self::Product,
        Self::SigningKey,
        Self::ReportSignature,
        Self::ChipId,
        Self::LeafTcb,
        Self::TcbOrder,
        Self::TcbFloor,
        Self::FirmwareVersion,
        Self::FirmwareCommitted,
        Self::Mitigations,
        Self::Vmpl,
        Self::GuestPolicy,
        Self::PlatformInfo,
        Self::MigrationAgent,
        Self::GuestSvn,
        Self::IdBlock,
        Self::Measurement,
        Self::HostData,
        Self::ReportData,
        Self::Distinct,
    ];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReportFormat => "report_format",
            Self::SignatureAlgorithm => "signature_algorithm",
            Self::Reserved => "reserved",
            Self::Chain => "chain",
            Self::Validity => "validity",
            Self::Crl => "crl",
            Self::Revocation => "revocation",
            Self::Product => "product",
            Self::SigningKey => "signing_key",
            Self::ReportSignature => "report_signature",
            Self::ChipId => "chip_id",
            Self::LeafTcb => "leaf_tcb",
            Self::TcbOrder => "tcb_order",
            Self::TcbFloor => "tcb_floor",
            Self::FirmwareVersion => "firmware_version",
            Self::FirmwareCommitted => "firmware_committed",
            Self::Mitigations => "mitigations",
            Self::Vmpl => "vmpl",
            Self::GuestPolicy => "guest_policy",
            Self::PlatformInfo => "platform_info",
            Self::MigrationAgent => "migration_agent",
            Self::GuestSvn => "guest_svn",
            Self::IdBlock => "id_block",
            Self::Measurement => "measurement",
            Self::HostData => "host_data",
            Self::ReportData => "report_data",
            Self::Distinct => "distinct",
        }
    }

    /// Who can make it fail, although the prover is a genuine enclave. What anybody can bring about proves nothing against
    /// the prover.
    pub const fn decided_by(self) -> Decider {
        match self {
            // Whoever carries a report can cut it off, or send other bytes in its place.
            Self::ReportFormat => Decider::Anybody,
            // Of another kind, the signature was not checked as what it is.
            Self::SignatureAlgorithm => Decider::Anybody,
            // Some of the reserved bytes are behind the part that is signed.
            Self::Reserved => Decider::Anybody,
            // Certificates come beside the report, and nothing in it says which.
            Self::Chain => Decider::Anybody,
            // One key may have several genuine certificates, of which one has expired.
            Self::Validity => Decider::Anybody,
            // A list comes beside the report: whoever carries it can drop it, replace it by bytes, or by an older one.
            Self::Crl => Decider::Anybody,
            // Only the root signs lists; and what is known without one was on one.
            Self::Revocation => Decider::Root,
            // The silicon is in the signed report; and AMD certifies a chip's key for one product line.
            Self::Product => Decider::Prover,
            // A masked key signs nothing, and a lent one signs for any chip of its provider.
            Self::SigningKey => Decider::Anybody,
            // Without it, no byte of the report is the prover's word.
            Self::ReportSignature => Decider::Anybody,
            // Every owner of a chip can have it report whatever data it likes.
            Self::ChipId => Decider::Anybody,
            // Such a report is not what this key is for: it may have been extracted.
            Self::LeafTcb => Decider::Anybody,
            // From here on: fields of the report, signed by the member's chip over this very question.
            Self::TcbOrder
            | Self::TcbFloor
            | Self::FirmwareVersion
            | Self::FirmwareCommitted
            | Self::Mitigations
            | Self::Vmpl
            | Self::GuestPolicy
            | Self::PlatformInfo
            | Self::MigrationAgent
            | Self::GuestSvn
            | Self::IdBlock
            | Self::Measurement
            | Self::HostData => Decider::Prover,
            // What is not bound to this question may be older, or of another guest on the chip.
            Self::ReportData => Decider::Anybody,
            // A broken chip can copy the id of an honest member's guest into its own report.
            Self::Distinct => Decider::Anybody,
        }
    }
}

/// Who decides whether evidence passes a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// The prover alone, provided that whatever anybody can decide is in order.
    Prover,
    /// The root of trust alone, by what it says of the certificates that came with the evidence. Whoever carries evidence
    /// chooses those, so this concerns a prover only if they are the ones that it is known by.
    Root,
    /// Whoever carries the evidence, or another member.
    Anybody,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn all_checks_are_listed_once_and_in_order() {
        for (number, check) in Check::ALL.into_iter().enumerate() {
            assert_eq!(codec::decode::<Check>(&[number as u8]), Ok(check));
        }
        assert!(codec::decode::<Check>(&[Check::ALL.len() as u8]).is_err(), "one is not listed");
    }
}
