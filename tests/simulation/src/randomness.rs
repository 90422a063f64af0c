//! Where a simulated machine has its randomness from.

use postern_enclave::platform::PlatformError;
use sha2::{Digest, Sha256};

/// A source of random bytes.
#[derive(Debug)]
pub(crate) enum Randomness {
    /// The operating system's.
    System,
    /// SHA-256 over a seed and a counter: the same bytes in every run.
    Seeded { seed: [u8; 32], blocks: u64 },
}

impl Randomness {
    pub(crate) fn fill(&mut self, out: &mut [u8]) -> Result<(), PlatformError> {
        match self {
            Self::System => getrandom::fill(out).map_err(|_| PlatformError::Randomness),
            Self::Seeded { seed, blocks } => {
                for chunk in out.chunks_mut(32) {
                    let block = Sha256::new()
                        .chain_update(b"postern-simulation-randomness")
                        .chain_update(*seed)
                        .chain_update(blocks.to_le_bytes())
                        .finalize();
                    chunk.copy_from_slice(&block[..chunk.len()]);
                    *blocks += 1;
                }
                Ok(())
            }
        }
    }
}
