//! Ethereum's signatures, of wallets and of enclaves: whose account made one.

use crate::bytes::byte_newtype;
use crate::eip712::keccak;
use crate::ids::Address;
use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};

byte_newtype!(
    /// `r`, `s` and `v`, as wallets give them and contracts take them: 32 bytes, 32 bytes, and 27 or 28.
    EthereumSignature, 65
);

/// What is wrong with a signature, whoever made it.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The last byte is not one of the two that Ethereum knows.
    #[error("v is {0}, not 27 or 28")]
    V(u8),
    /// `r` or `s` is zero or not below the group's order.
    #[error("r or s is out of range")]
    Range,
    /// The other of the two signatures that anybody can make from one: Ethereum accepts only that with the lower `s`.
    #[error("s is in the upper half")]
    HighS,
    /// No key makes this signature.
    #[error("no account makes such a signature")]
    NoKey,
}

/// The account that made a signature of a digest.
pub fn recover(digest: &[u8; 32], signature: &EthereumSignature) -> Result<Address, SignatureFault> {
    let [scalars @ .., v] = &signature.0;
    let odd = match v {
        27 => false,
        28 => true,
        other => return Err(SignatureFault::V(*other)),
    };
    let signature = Signature::from_slice(scalars).map_err(|_| SignatureFault::Range)?;
    if signature.normalize_s() != signature {
        return Err(SignatureFault::HighS);
    }
    let key = VerifyingKey::recover_from_prehash(digest, &signature, RecoveryId::new(odd, false))
        .map_err(|_| SignatureFault::NoKey)?;
    address(&key).ok_or(SignatureFault::NoKey)
}

/// The account of a key: the end of the hash of both coordinates, without the byte that says that there are two.
pub fn address(key: &VerifyingKey) -> Option<Address> {
    let point = key.to_sec1_point(false);
    let [_, coordinates @ ..] = point.as_bytes() else { return None };
    let [_, _, _, _, _, _, _, _, _, _, _, _, address @ ..] = keccak(coordinates);
    Some(Address(address))
}
