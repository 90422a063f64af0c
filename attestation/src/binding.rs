//! What a report says about the identity that asked for it.

use core::fmt;

use postern_shared::{
    identity::Identity,
    ids::{ManifestHash, Nonce},
    message::Attestation,
};
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
/// Both identities are in it, each in its role: a verifier can neither pass a report on as if the prover had meant it for
/// a third, nor show a prover its own. Both nonces are in it: neither side alone can make an old report fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The manifest that both act under.
    pub manifest: ManifestHash,
    /// Who proves.
    pub prover: &'a Identity,
    /// To whom: an enclave, or anybody else. No enclave accepts what was meant for anybody.
    pub verifier: Option<&'a Identity>,
    /// Fresh randomness of the verifier.
    pub challenge: Nonce,
    /// Fresh randomness of the prover.
    pub response: Nonce,
}

impl<'a> Binding<'a> {
    /// The binding that an attestation claims.
    pub fn of(manifest: ManifestHash, attestation: &'a Attestation) -> Self {
        Self {
            manifest,
            prover: &attestation.identity,
            verifier: attestation.verifier.as_ref(),
            challenge: attestation.challenge,
            response: attestation.response,
        }
    }

    /// SHA-512 over the domain, the manifest's hash, then "prover", its identity and its nonce, then "verifier", its
    /// identity (nothing for anybody) and its nonce; each part after its length (`u64`, little-endian).
    pub fn report_data(&self) -> ReportData {
        let (prover, verifier) = (self.prover.to_bytes(), self.verifier.map(Identity::to_bytes));
        let parts: [&[u8]; 8] = [
            DOMAIN,
            &self.manifest.0,
            b"prover",
            &prover,
            &self.response.0,
            b"verifier",
            verifier.as_deref().unwrap_or_default(),
            &self.challenge.0,
        ];
        let mut hash = Sha512::new();
        for part in parts {
            // `usize` is at most 64 bits wide on every target of Rust.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        ReportData(hash.finalize().into())
    }
}
