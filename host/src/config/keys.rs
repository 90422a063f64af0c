//! The host's two keys, each in a file, and who signs for the wallet if that is not one of them.

use super::fault::{Faults, FieldError, Reported};
use super::section::Section;
use crate::chain::transactions::{RemoteSigner, SigningError, Wallet};
use crate::key_file::{self, KeyFileError};
use alloy::signers::local::PrivateKeySigner;
use libp2p::identity::{Keypair, ed25519};
use postern_shared::ids::Address;
use postern_shared::manifest::Member;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Reads 32 secret bytes; a fault never shows what was read.
fn secret(field: &str, path: &Path, faults: &mut Faults) -> Result<Zeroizing<[u8; 32]>, Reported> {
    let key = key_file::read(path);
    let key = key.map_err(|error| match error {
        KeyFileError::Read(source) => FieldError::unread(path, source),
        source => FieldError::KeyFile { path: path.to_owned(), source },
    });
    faults.check(field, key)
}

/// `host_key`: the host's Ed25519 seed, whose public key the manifest names.
pub(super) fn host(
    file: &mut Section,
    entry: Result<&Member, Reported>,
    faults: &mut Faults,
) -> Result<Keypair, Reported> {
    let path = file.path("host_key", faults)?;
    let mut seed = secret("host_key", &path, faults)?;
    let secret = ed25519::SecretKey::try_from_bytes(&mut *seed).map_err(|_| FieldError::NoHostKey);
    let pair = ed25519::Keypair::from(faults.check("host_key", secret)?);
    let entry = entry?;
    if pair.public().to_bytes() != entry.host_key.0 {
        return Err(faults.report("host_key", FieldError::OtherHost(entry.id)));
    }
    Ok(pair.into())
}

/// `wallet_key`, a file with a secp256k1 key, or `[wallet]`, a remote signer. It must be the wallet that the manifest names.
pub(super) fn wallet(
    file: &mut Section,
    entry: Result<&Member, Reported>,
    faults: &mut Faults,
) -> Result<Wallet, Reported> {
    let key = file.optional_path("wallet_key", faults);
    let signer = file.optional_section("wallet", faults);
    match (key?, signer?) {
        (Some(path), None) => local(path, entry, faults),
        (None, Some(section)) => remote(section, entry, faults),
        (Some(_), Some(_)) => Err(faults.report("wallet", FieldError::TwoWallets)),
        (None, None) => Err(faults.report("wallet_key", FieldError::NoWallet)),
    }
}

fn local(path: PathBuf, entry: Result<&Member, Reported>, faults: &mut Faults) -> Result<Wallet, Reported> {
    let key = secret("wallet_key", &path, faults)?;
    let signer = PrivateKeySigner::from_slice(&*key).map_err(|_| FieldError::Signer(SigningError::Key));
    let signer = faults.check("wallet_key", signer)?;
    let Member { wallet, id: member, .. } = *entry?;
    if signer.address().into_array() != wallet.0 {
        let other = FieldError::OtherWallet { is_key: true, wallet, member };
        return Err(faults.report("wallet_key", other));
    }
    Ok(Wallet::Local(signer))
}

fn remote(
    mut section: Section,
    entry: Result<&Member, Reported>,
    faults: &mut Faults,
) -> Result<Wallet, Reported> {
    let url = section.required::<String>("url", faults);
    let address = section.required::<Address>("address", faults);
    section.end(faults);
    // The URL is judged whatever account it is for.
    let signer = url.and_then(|url| {
        let signer = RemoteSigner::new(&url, address.unwrap_or(Address([0; 20])));
        faults.check("wallet.url", signer.map_err(FieldError::Signer))
    });
    let Member { wallet, id: member, .. } = *entry?;
    if address? != wallet {
        let other = FieldError::OtherWallet { is_key: false, wallet, member };
        return Err(faults.report("wallet.address", other));
    }
    Ok(Wallet::Remote(signer?))
}
