//! Who signs the wallet's transactions: a key in this process, or a remote signer, which may lie like anybody else.

use crate::chain::transport::Http;
use crate::chain::url::{NodeUrl, UrlError};
use crate::chain::{describe_error, describe_node_error};
use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::{Decodable2718, Encodable2718};
use alloy::network::TxSignerSync;
use alloy::primitives::{Address as AlloyAddress, B256, Bytes};
use alloy::rpc::client::RpcClient;
use alloy::signers::local::PrivateKeySigner;
use alloy::transports::TransportError;
use postern_shared::ids::Address;
use serde::Deserialize;
use serde_json::json;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a remote signer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a remote signer that did not answer is let be, so that the other transactions go on meanwhile.
const PAUSE: Duration = Duration::from_secs(30);
/// Most bytes of an answer of a remote signer: a list of 20,000 accounts. A signed transaction is much shorter.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why nothing was signed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The secret key is none.
    #[error("the wallet's secret key is not a secp256k1 scalar")]
    Key,
    /// The remote signer's URL is none.
    #[error("the remote signer's URL: {0}")]
    Url(#[from] UrlError),
    /// There is no client to ask it with.
    #[error("the remote signer can't be asked: {0}")]
    Client(String),
    /// The key did not sign.
    #[error("signing failed: {0}")]
    Local(String),
    /// The remote signer can't be reached, or refused.
    #[error("the remote signer, {request}: {reason}")]
    Remote {
        /// What was asked.
        request: &'static str,
        /// What came instead of an answer.
        reason: String,
    },
    /// It did not answer a moment ago, and is asked again later.
    #[error("the remote signer did not answer a moment ago")]
    Resting,
    /// It does not hold the wallet's key.
    #[error("the remote signer does not sign for {0}")]
    NotHeld(Address),
    /// What it answered is no EIP-1559 transaction.
    #[error("the remote signer's answer is no EIP-1559 transaction: {0}")]
    Unreadable(&'static str),
    /// It signed something else than it was asked to.
    #[error("the remote signer signed another transaction than it was asked to: `{0}` is another")]
    Other(&'static str),
    /// It signed with another key than the wallet's.
    #[error("the remote signer's signature is not one of {0} that nodes take")]
    Signature(Address),
}

/// The account that pays for transactions.
pub enum Wallet {
    /// Its key is here.
    Local(PrivateKeySigner),
    /// Its key is elsewhere.
    Remote(RemoteSigner),
}

/// A signer behind the Ethereum API of web3signer.
pub struct RemoteSigner {
    url: NodeUrl,
    client: RpcClient,
    address: AlloyAddress,
    /// Until when it is let be.
    resting: Mutex<Option<Instant>>,
}

/// What `eth_signTransaction` answers: web3signer the bytes alone, others an object with them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Answer {
    Bytes(Bytes),
    Object { raw: Bytes },
}

impl Wallet {
    /// With the account's secret key.
    pub fn local(key: &[u8; 32]) -> Result<Self, SigningError> {
        let signer = PrivateKeySigner::from_bytes(&B256::from(*key));
        signer.map(Self::Local).map_err(|_| SigningError::Key)
    }

    /// Whose account it is.
    pub(super) fn address(&self) -> AlloyAddress {
        match self {
            Self::Local(signer) => signer.address(),
            Self::Remote(signer) => signer.address,
        }
    }

    /// Whether it can sign now, as far as that shows without signing.
    pub(super) async fn check(&self) -> Result<(), SigningError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Remote(signer) => signer.check().await,
        }
    }

    pub(super) async fn sign(&self, asked: TxEip1559) -> Result<TxEnvelope, SigningError> {
        match self {
            Self::Local(signer) => {
                let mut asked = asked;
                let signature = signer.sign_transaction_sync(&mut asked);
                let signature = signature.map_err(|error| SigningError::Local(error.to_string()))?;
                Ok(asked.into_signed(signature).into())
            }
            Self::Remote(signer) => signer.sign(asked).await,
        }
    }
}

impl RemoteSigner {
    /// At a URL, for an account.
    pub fn new(url: &str, address: Address) -> Result<Self, SigningError> {
        Self::with_timeout(url, address, TIMEOUT)
    }

    fn with_timeout(url: &str, address: Address, timeout: Duration) -> Result<Self, SigningError> {
        let url = NodeUrl::parse(url)?;
        let client =
            reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| SigningError::Client(describe_error(&error)))?;
        let client = RpcClient::new(Http::new(client, url.expose().clone(), MAX_ANSWER), false);
        Ok(Self { url, client, address: AlloyAddress::from(address.0), resting: Mutex::new(None) })
    }

    async fn check(&self) -> Result<(), SigningError> {
        let held = self.client.request_noparams::<Vec<AlloyAddress>>("eth_accounts").await;
        let held = held.map_err(|error| self.failed("eth_accounts", &error))?;
        if held.contains(&self.address) { Ok(()) } else { Err(SigningError::NotHeld(self.own())) }
    }

    async fn sign(&self, asked: TxEip1559) -> Result<TxEnvelope, SigningError> {
        if self.lock().is_some_and(|until| Instant::now() < until) {
            return Err(SigningError::Resting);
        }
        let answer: Result<Answer, _> =
            self.client.request("eth_signTransaction", [self.request(&asked)]).await;
        *self.lock() = answer.is_err().then(|| Instant::now() + PAUSE);
        let raw = match answer.map_err(|error| self.failed("eth_signTransaction", &error))? {
            Answer::Bytes(raw) | Answer::Object { raw } => raw,
        };
        verify(&raw, &asked, self.address)
    }

    fn request(&self, asked: &TxEip1559) -> serde_json::Value {
        json!({
            "from": self.address,
            "to": asked.to.to(),
            "gas": format!("{:#x}", asked.gas_limit),
            "maxFeePerGas": format!("{:#x}", asked.max_fee_per_gas),
            "maxPriorityFeePerGas": format!("{:#x}", asked.max_priority_fee_per_gas),
            "nonce": format!("{:#x}", asked.nonce),
            "value": format!("{:#x}", asked.value),
            "data": asked.input,
            "chainId": format!("{:#x}", asked.chain_id),
        })
    }

    /// Without what of the URL may be an access key: some servers repeat it.
    fn failed(&self, request: &'static str, error: &TransportError) -> SigningError {
        SigningError::Remote { request, reason: describe_node_error(&self.url, error) }
    }

    fn own(&self) -> Address {
        Address(self.address.into_array())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether bytes are exactly what was to be signed, signed by this account.
fn verify(raw: &[u8], asked: &TxEip1559, signer: AlloyAddress) -> Result<TxEnvelope, SigningError> {
    let mut rest = raw;
    let envelope = TxEnvelope::decode_2718(&mut rest).map_err(|_| SigningError::Unreadable("not decoded"))?;
    if !rest.is_empty() || envelope.encoded_2718() != raw {
        return Err(SigningError::Unreadable("more bytes than it needs"));
    }
    let TxEnvelope::Eip1559(signed) = &envelope else {
        return Err(SigningError::Unreadable("another type"));
    };
    if let Some(field) = difference(signed.tx(), asked) {
        return Err(SigningError::Other(field));
    }
    let signature = signed.signature();
    // Nodes refuse the higher one of the two values that a signature can have (EIP-2).
    let is_low = signature.normalize_s().is_none();
    match signature.recover_address_from_prehash(&signed.signature_hash()) {
        Ok(found) if found == signer && is_low => Ok(envelope),
        _ => Err(SigningError::Signature(Address(signer.into_array()))),
    }
}

/// The first field in which two transactions differ.
fn difference(signed: &TxEip1559, asked: &TxEip1559) -> Option<&'static str> {
    let TxEip1559 {
        chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas,
        max_priority_fee_per_gas,
        to,
        value,
        access_list,
        input,
    } = signed;
    let fields = [
        ("chainId", *chain_id == asked.chain_id),
        ("nonce", *nonce == asked.nonce),
        ("gas", *gas_limit == asked.gas_limit),
        ("maxFeePerGas", *max_fee_per_gas == asked.max_fee_per_gas),
        ("maxPriorityFeePerGas", *max_priority_fee_per_gas == asked.max_priority_fee_per_gas),
        ("to", *to == asked.to),
        ("value", *value == asked.value),
        ("accessList", *access_list == asked.access_list),
        ("data", *input == asked.input),
    ];
    fields.into_iter().find_map(|(name, is_same)| (!is_same).then_some(name))
}

#[cfg(test)]
mod tests;
