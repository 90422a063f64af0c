//! What a report says about the identity that asked for it.

use core::fmt;

use sha2::{Digest, Sha512};

use crate::error::Hex;

/// Separates report data from all other hashes. Changing it makes every enclave refuse every older one.
const DOMAIN: &[u8] = b"postern-report-data-v1";

/// The 64 bytes that the guest puts into its report.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReportData(pub [u8; 64]);

impl fmt::Debug for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportData({})", Hex(self.0))
    }
}

impl fmt::Display for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(self.0).fmt(f)
    }
}

/// Everything that one report vouches for: who proves what to whom, under which manifest, and when.
///
/// Both members are named, so that a verifier can't pass a report on as if the prover had meant it for a
/// third; the nonce is the verifier's, so that an old report can't be shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The prover's public identity, in its one canonical encoding.
    pub identity: &'a [u8],
    /// Member id of the prover.
    pub prover: u16,
    /// Member id of the verifier.
    pub verifier: u16,
    /// Hash of the manifest that both act under.
    pub manifest_hash: [u8; 32],
    /// Fresh randomness of the verifier.
    pub nonce: [u8; 32],
}

impl Binding<'_> {
    /// SHA-512 over domain ‖ length of identity (`u64`) ‖ identity ‖ prover ‖ verifier ‖ manifest hash ‖
    /// nonce; integers little-endian.
    pub fn report_data(&self) -> ReportData {
        let mut hash = Sha512::new();
        hash.update(DOMAIN);
        // `usize` is at most 64 bits wide on every target of Rust.
        hash.update((self.identity.len() as u64).to_le_bytes());
        hash.update(self.identity);
        hash.update(self.prover.to_le_bytes());
        hash.update(self.verifier.to_le_bytes());
        hash.update(self.manifest_hash);
        hash.update(self.nonce);
        ReportData(hash.finalize().into())
    }
}
