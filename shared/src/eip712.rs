//! Typed data (EIP-712): what wallets and enclaves sign for the pool manager, which computes the same.

use crate::ids::Address;
use alloc::vec::Vec;
use sha3::{Digest as _, Keccak256};

/// For whom something is signed: one contract on one chain, and nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The pool manager.
    pub verifying_contract: Address,
}

impl Domain {
    /// `name` of the domain.
    pub const NAME: &str = "Postern";
    /// `version` of the domain.
    pub const VERSION: &str = "1";
    /// The domain's type, as EIP-712 encodes it.
    pub const TYPE: &str =
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

    /// What goes into the signature of a structure: its type, and its fields, a word each.
    pub fn digest(&self, kind: &str, fields: &[[u8; 32]]) -> [u8; 32] {
        let domain = [
            keccak(Self::NAME.as_bytes()),
            keccak(Self::VERSION.as_bytes()),
            word(&self.chain_id.to_be_bytes()),
            word(&self.verifying_contract.0),
        ];
        let (domain, message) = (structure(Self::TYPE, &domain), structure(kind, fields));
        keccak(&[&[0x19, 0x01], &domain[..], &message[..]].concat())
    }
}

fn structure(kind: &str, fields: &[[u8; 32]]) -> [u8; 32] {
    let words: Vec<[u8; 32]> = [&[keccak(kind.as_bytes())], fields].concat();
    keccak(&words.concat())
}

/// Keccak-256, as Ethereum uses it.
pub fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// A number or an address as a word: it fills the word from its end.
pub(crate) fn word<const N: usize>(bytes: &[u8; N]) -> [u8; 32] {
    let mut word = [0; 32];
    for (to, from) in word.iter_mut().rev().zip(bytes.iter().rev()) {
        *to = *from;
    }
    word
}
