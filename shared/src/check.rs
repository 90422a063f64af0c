//! What is checked of an enclave's evidence. `postern-attestation` checks it; everybody else only names it.

use core::fmt;
use serde::{Deserialize, Serialize};

/// One thing that is checked. Names are stable: people's scripts read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A report of a version that we know, of the right length.
    ReportFormat,
    /// ECDSA P-384 with SHA-384.
    SignatureAlgorithm,
    /// Reserved bits and bytes are zero.
    Reserved,
    /// The certificates lead from a pinned root to the leaf.
    Chain,
    /// No certificate has expired, or is not valid yet.
    Validity,
    /// AMD's revocation list is in force and names none of them.
    Crl,
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
    /// Required mitigations are on, and were at launch.
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
    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReportFormat => "report_format",
            Self::SignatureAlgorithm => "signature_algorithm",
            Self::Reserved => "reserved",
            Self::Chain => "chain",
            Self::Validity => "validity",
            Self::Crl => "crl",
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

    /// Whether evidence that fails this check may not be the prover's at all. Who fails only others has shown, freshly and
    /// in its own name, that it is not acceptable.
    pub const fn proves_origin(self) -> bool {
        matches!(
            self,
            Self::ReportFormat
                | Self::SignatureAlgorithm
                | Self::Reserved
                | Self::Chain
                | Self::SigningKey
                | Self::ReportSignature
                | Self::ChipId
                | Self::LeafTcb
                | Self::ReportData
        )
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
