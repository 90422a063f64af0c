//! Who signs for the wallet, as the file says it: a key in a file, or a remote signer.

use super::{ConfigError, field, secret};
use crate::chain::transactions::{RemoteSigner, Wallet};
use alloy::signers::local::PrivateKeySigner;
use postern_shared::ids::Address;
use postern_shared::manifest::Member;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `[wallet]`: a remote signer, instead of `wallet_key`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletConfig {
    /// Where it answers `eth_signTransaction`, as web3signer's Ethereum API does.
    pub url: String,
    /// The account that it signs for.
    pub address: Address,
}

/// The wallet that the file says, which must be the manifest's.
pub(super) fn read(
    key: Option<&Path>,
    remote: Option<&WalletConfig>,
    folder: &Path,
    entry: &Member,
) -> Result<Wallet, ConfigError> {
    match (key, remote) {
        (Some(path), None) => local(&folder.join(path), entry),
        (None, Some(config)) => self::remote(config, entry),
        (Some(_), Some(_)) => field("wallet", "not both `wallet_key` and `[wallet]`"),
        (None, None) => field("wallet_key", "either this or `[wallet]` is needed"),
    }
}

fn local(path: &Path, entry: &Member) -> Result<Wallet, ConfigError> {
    let key = secret("wallet_key", path)?;
    // The error never shows the key.
    let signer =
        PrivateKeySigner::from_slice(&*key).or_else(|_| field("wallet_key", "not a secp256k1 key"))?;
    if signer.address().into_array() != entry.wallet.0 {
        let reason = format_args!(
            "not the key of {}, the wallet that the manifest names for {}",
            entry.wallet, entry.id
        );
        return field("wallet_key", reason);
    }
    Ok(Wallet::Local(signer))
}

fn remote(config: &WalletConfig, entry: &Member) -> Result<Wallet, ConfigError> {
    if config.address != entry.wallet {
        let reason =
            format_args!("not {}, the wallet that the manifest names for {}", entry.wallet, entry.id);
        return field("wallet.address", reason);
    }
    let signer =
        RemoteSigner::new(&config.url, config.address).or_else(|error| field("wallet.url", error))?;
    Ok(Wallet::Remote(signer))
}
