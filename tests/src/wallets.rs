//! Members' governance wallets, and the epochs of a manifest that they sign.

use k256::ecdsa::SigningKey;
use postern_shared::ecdsa::{EthereumSignature, recover};
use postern_shared::epoch::{SignedEpoch, WalletSignature};
use postern_shared::ids::{Address, MemberId};
use postern_shared::manifest::{History, Manifest};

fn key(member: MemberId) -> SigningKey {
    let mut secret = [0x11; 32];
    secret[30..].copy_from_slice(&member.0.to_be_bytes());
    SigningKey::from_slice(&secret).expect("a scalar")
}

/// A digest, signed by a member's wallet.
pub fn sign(member: MemberId, digest: &[u8; 32]) -> EthereumSignature {
    let (signature, recovery) = key(member).sign_prehash_recoverable(digest);
    let mut bytes = [0; 65];
    bytes[..64].copy_from_slice(&signature.to_bytes());
    bytes[64] = 27 + recovery.to_byte();
    EthereumSignature(bytes)
}

/// A member's account that governs.
pub fn address(member: MemberId) -> Address {
    recover(&[7; 32], &sign(member, &[7; 32])).expect("a signature of its own")
}

/// The manifest after this one, with what `change` makes of it.
pub fn next(manifest: &Manifest, change: impl FnOnce(&mut Manifest)) -> Manifest {
    let mut next = manifest.clone();
    next.epoch += 1;
    next.history = Some(History { genesis: manifest.genesis(), predecessor: manifest.hash() });
    change(&mut next);
    next
}

/// That epoch, signed by these members.
pub fn signed(
    predecessor: &Manifest,
    manifest: &Manifest,
    signers: impl IntoIterator<Item = MemberId>,
) -> SignedEpoch {
    let mut epoch = SignedEpoch::unsigned(manifest);
    let digest = epoch.message(predecessor).expect("it may follow").digest();
    let signatures =
        signers.into_iter().map(|member| WalletSignature { member, signature: sign(member, &digest) });
    epoch.signatures = signatures.collect();
    epoch
}
