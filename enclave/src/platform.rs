//! What the enclave needs from the machine that it runs on: three calls, no clock, no network, no disk.

use postern_attestation::{ReportData, TrustAnchor};

/// The hardware below the core.
///
/// The trust anchor comes from here and not from a flag, so that a simulated machine runs the production verifier, and
/// production code can't end up trusting a simulated root.
pub trait Platform {
    /// Asks for an attestation report over `data` at VMPL 0: the 1184 bytes as the secure processor returns them.
    fn report(&mut self, data: &ReportData) -> Result<Vec<u8>, PlatformError>;

    /// Fills `out` with randomness fit for long-lived keys.
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), PlatformError>;

    /// The root certificates by which peers' reports are judged.
    fn trust_anchor(&self) -> &TrustAnchor;
}

/// Why the machine could not answer.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The secure processor refused or failed.
    #[error("the secure processor gave no report (firmware status {status:#x})")]
    Report {
        /// The status word of the firmware.
        status: u64,
    },
    /// No randomness could be had.
    #[error("the machine gave no randomness")]
    Randomness,
}
