//! What the tests of the development network share: wallets, the compiled contracts, validator keys, REST requests.
#![allow(
    dead_code,
    missing_docs,
    clippy::too_many_arguments,
    reason = "each test binary uses a part, and bindings come from the ABI"
)]

pub mod dao;

use alloy::network::EthereumWallet;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{DynProvider, Provider as _, ProviderBuilder};
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::local::PrivateKeySigner;
use dao::{Dao, Place};
use postern_devnet::{Clock, Config, Devnet};
use postern_shared::bls::{ETHEREUM_DST, G1, G2, PublicKey, Scalar, Signature};
use postern_shared::ethereum::{
    DepositData, DepositMessage, ForkVersion, Root, SignedVoluntaryExit, VoluntaryExit, WithdrawalCredentials,
};
use serde_json::{Value, json};
use std::time::Duration;

alloy::sol!(
    #[sol(rpc)]
    PoolManager,
    "../../host/contracts/artifacts/PoolManager.json"
);
alloy::sol!(
    #[sol(rpc)]
    DepositContract,
    "../../host/contracts/artifacts/DepositContract.json"
);
alloy::sol!(
    #[sol(rpc)]
    Pool,
    "../../host/contracts/artifacts/Pool.json"
);

pub const ETHER: u128 = 1_000_000_000_000_000_000;
pub const STAKE_GWEI: u64 = 32_000_000_000;

/// A development network with wallets. The clock is manual unless a test wants otherwise.
pub struct Net {
    pub devnet: Devnet,
    pub config: Config,
    pub owner: PrivateKeySigner,
    pub stranger: PrivateKeySigner,
    http: reqwest::Client,
}

impl Net {
    pub async fn start() -> Self {
        Self::start_with(Config { clock: Clock::Manual, ..Config::default() }).await
    }

    pub async fn start_with(mut config: Config) -> Self {
        let [owner, stranger] =
            [1u8, 2].map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap());
        config.prefunded = vec![
            (owner.address(), U256::from(10_000 * ETHER)),
            (stranger.address(), U256::from(100 * ETHER)),
        ];
        let devnet = Devnet::start(config.clone()).await.unwrap();
        Self { devnet, config, owner, stranger, http: reqwest::Client::new() }
    }

    /// A provider that signs for one wallet. It polls quickly, because blocks come quickly.
    pub fn provider(&self, signer: &PrivateKeySigner) -> DynProvider {
        let provider = ProviderBuilder::new()
            .with_simple_nonce_management()
            .wallet(EthereumWallet::from(signer.clone()))
            .connect_http(self.devnet.execution_url().parse().unwrap());
        provider.client().set_poll_interval(Duration::from_millis(20));
        provider.erased()
    }

    /// A manager with the owner as governor, and the DAO of three that it is founded for.
    pub async fn deploy_manager(&self) -> (PoolManager::PoolManagerInstance<DynProvider>, Dao) {
        let provider = self.provider(&self.owner);
        let dao = Dao::new(3);
        let delays = PoolManager::Delays { exit: 10, refund: 20, recovery: 40 };
        let builder = PoolManager::deploy_builder(
            provider.clone(),
            self.config.deposit_contract,
            self.owner.address(),
            dao.wallet_addresses(),
            delays,
        );
        let pending = builder.send().await.unwrap();
        self.devnet.advance(1);
        let receipt = pending.get_receipt().await.unwrap();
        assert!(receipt.status());
        let manager = PoolManager::new(receipt.contract_address.unwrap(), provider);
        let founded = dao.next();
        let call = dao.advance_rightly(Place::of(self.config.chain_id, *manager.address(), &dao), &founded);
        self.mined(manager.call_builder(&call)).await;
        (manager, founded)
    }

    /// The manager as a stranger calls it.
    pub fn as_stranger(
        &self,
        manager: &PoolManager::PoolManagerInstance<DynProvider>,
    ) -> PoolManager::PoolManagerInstance<DynProvider> {
        PoolManager::new(*manager.address(), self.provider(&self.stranger))
    }

    /// Sends a transaction that must succeed and makes its block.
    pub async fn mined<C: alloy::contract::CallDecoder>(
        &self,
        call: alloy::contract::CallBuilder<&DynProvider, C>,
    ) -> TransactionReceipt {
        let pending = call.send().await.unwrap();
        self.devnet.advance(1);
        let receipt = pending.get_receipt().await.unwrap();
        assert!(receipt.status());
        receipt
    }

    /// Epochs until the finalised state shows what happens now.
    pub fn advance_epochs(&self, epochs: u64) {
        self.devnet.advance(epochs * self.config.slots_per_epoch);
    }

    pub async fn beacon(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(format!("{}{path}", self.devnet.beacon_url())).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null))
    }

    pub async fn post_beacon(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.devnet.beacon_url());
        let response = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null))
    }

    /// A raw JSON-RPC body, for what a client library would not send.
    pub async fn rpc_body(&self, body: String) -> Value {
        let request = self.http.post(self.devnet.execution_url()).header("content-type", "application/json");
        let text = request.body(body).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub async fn rpc(&self, method: &str, params: Value) -> Value {
        self.rpc_body(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string())
            .await
    }

    pub async fn status(&self, validator: &str) -> String {
        let (_, answer) = self.beacon(&format!("/eth/v1/beacon/states/head/validators/{validator}")).await;
        answer["data"]["status"].as_str().unwrap_or("none").to_owned()
    }
}

/// A validator key that a test knows.
pub struct Key(pub Scalar);

impl Key {
    pub fn new(number: u64) -> Self {
        Self(Scalar::from_u64(1_000_000 + number))
    }

    pub fn public(&self) -> PublicKey {
        (G1::generator() * &self.0).encode()
    }

    pub fn sign(&self, root: Root) -> Signature {
        (G2::hash(&root.0, ETHEREUM_DST) * &self.0).encode()
    }

    pub fn deposit(&self, config: &Config, credentials: [u8; 32], amount: u64) -> DepositData {
        let message = DepositMessage {
            pubkey: self.public(),
            withdrawal_credentials: WithdrawalCredentials(credentials),
            amount,
        };
        let signature = self.sign(message.signing_root(ForkVersion(config.genesis_fork_version)));
        DepositData { message, signature }
    }

    pub fn exit(&self, net: &Net, epoch: u64, validator_index: u64) -> SignedVoluntaryExit {
        self.exit_under(net.config.capella_fork_version, net, epoch, validator_index)
    }

    /// An exit signed in the domain of this fork.
    pub fn exit_under(
        &self,
        fork: [u8; 4],
        net: &Net,
        epoch: u64,
        validator_index: u64,
    ) -> SignedVoluntaryExit {
        let message = VoluntaryExit { epoch, validator_index };
        let root = message.signing_root(ForkVersion(fork), Root(net.devnet.genesis_validators_root()));
        SignedVoluntaryExit { message, signature: self.sign(root) }
    }
}

pub fn exit_json(exit: &SignedVoluntaryExit) -> Value {
    json!({
        "message": {
            "epoch": exit.message.epoch.to_string(),
            "validator_index": exit.message.validator_index.to_string(),
        },
        "signature": Bytes::copy_from_slice(&exit.signature.0).to_string(),
    })
}

pub fn credentials(pool: Address) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes[12..].copy_from_slice(pool.as_slice());
    bytes
}

/// The call that hands a deposit in, with a proof of the enclaves.
pub fn deposit<'a>(
    manager: &'a PoolManager::PoolManagerInstance<DynProvider>,
    pool: u32,
    data: &DepositData,
    proof: Bytes,
) -> alloy::contract::SolCallBuilder<&'a DynProvider, PoolManager::depositPoolCall> {
    let key = Bytes::copy_from_slice(&data.message.pubkey.0);
    manager.depositPool(pool, key, Bytes::copy_from_slice(&data.signature.0), proof)
}
