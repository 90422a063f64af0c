//! Where all randomness of ceremonies comes from: HKDF-SHA256 of one seed, a label and the full context of the use.
//!
//! The same seed in the same ceremony gives the same bytes, so an enclave that runs a step twice (after a crash, or
//! because its host replays) says the same thing twice and can't be made to equivocate. Another ceremony, another
//! recipient list or another message is another context and gives unrelated bytes.

use core::convert::Infallible;
use hkdf::Hkdf;
use postern_shared::bls::Scalar;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The seed. It never leaves the enclave.
pub struct Coins {
    seed: Zeroizing<[u8; 32]>,
}

/// A deterministic generator for libraries that want one.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct CoinStream {
    key: [u8; 32],
    counter: u64,
}

impl Coins {
    /// Coins from a uniform seed.
    pub fn new(seed: Zeroizing<[u8; 32]>) -> Self {
        Self { seed }
    }

    /// 32 bytes for one use.
    pub fn bytes(&self, label: &'static str, context: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        self.expand(label, context, &mut out[..]);
        out
    }

    /// A uniform scalar for one use.
    pub fn scalar(&self, label: &'static str, context: &[u8]) -> Scalar {
        let mut wide = Zeroizing::new([0; 64]);
        self.expand(label, context, &mut wide[..]);
        Scalar::from_wide(&wide)
    }

    /// A generator for one use.
    pub fn stream(&self, label: &'static str, context: &[u8]) -> CoinStream {
        CoinStream { key: *self.bytes(label, context), counter: 0 }
    }

    fn expand(&self, label: &'static str, context: &[u8], out: &mut [u8]) {
        let hkdf = Hkdf::<Sha256>::new(Some(label.as_bytes()), &self.seed[..]);
        // Fails only beyond 255 blocks; every caller asks for at most two.
        let expanded = hkdf.expand(&Sha256::digest(context), out);
        debug_assert!(expanded.is_ok());
    }
}

impl rand_core::TryRng for CoinStream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for block in out.chunks_mut(32) {
            let mut bytes = Zeroizing::new([0; 32]);
            let hkdf = Hkdf::<Sha256>::new(Some(b"postern-coin-stream-v1"), &self.key);
            let expanded = hkdf.expand(&self.counter.to_le_bytes(), &mut bytes[..]);
            debug_assert!(expanded.is_ok());
            block.iter_mut().zip(bytes.iter()).for_each(|(to, from)| *to = *from);
            self.counter += 1;
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for CoinStream {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_use_gives_the_same_coins_and_another_use_others() {
        let coins = Coins::new(Zeroizing::new([7; 32]));
        assert_eq!(coins.bytes("a", b"x"), coins.bytes("a", b"x"));
        assert_ne!(coins.bytes("a", b"x"), coins.bytes("b", b"x"));
        assert_ne!(coins.bytes("a", b"x"), coins.bytes("a", b"y"));
        assert_ne!(coins.bytes("a", b"x"), Coins::new(Zeroizing::new([8; 32])).bytes("a", b"x"));
    }
}
