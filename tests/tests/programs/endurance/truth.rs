//! What is so, by the embedded chains' own nodes, of which none lies.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use postern_devnet::Devnet;
use postern_host::chain::profile::PoolManager;
use postern_shared::manifest::Manifest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

alloy::sol! {
    event DepositEvent(bytes pubkey, bytes withdrawal_credentials, bytes amount, bytes signature, bytes index);
}

/// An honest look at both chains.
pub struct Truth {
    provider: DynProvider,
    beacon: String,
    client: reqwest::Client,
    manager: Address,
    deposits: Address,
}

/// A validator on the beacon chain, in the newest state.
#[derive(Debug, Clone)]
pub struct Validator {
    pub status: String,
    pub balance: u64,
    pub credentials: Vec<u8>,
}

/// What the pool manager says of a pool.
#[derive(Debug, Clone)]
pub struct Pool {
    pub address: Address,
    pub key: Vec<u8>,
}

/// A member's transactions that are in blocks.
#[derive(Debug, Default, Clone, Copy)]
pub struct Paid {
    pub transactions: usize,
    pub failed: usize,
    /// In wei.
    pub cost: u128,
    /// The highest that was offered for a unit of gas, and of that for the block's maker, in wei.
    pub max_fee: u128,
    pub max_priority_fee: u128,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value).trim_start_matches("0x")).expect("hexadecimal")
}

impl Truth {
    pub fn new(devnet: &Devnet, manifest: &Manifest) -> Self {
        let url = devnet.execution_url().parse().expect("a URL");
        Self {
            provider: ProviderBuilder::new().connect_http(url).erased(),
            beacon: devnet.beacon_url(),
            client: reqwest::Client::new(),
            manager: Address::from(manifest.contracts.pool_manager.0),
            deposits: Address::from(manifest.contracts.deposit.0),
        }
    }

    async fn logs(&self, contract: Address, event: B256) -> Vec<Log> {
        let filter = Filter::new().address(contract).event_signature(event).from_block(0);
        self.provider.get_logs(&filter).await.expect("logs")
    }

    /// The pools of which the pool manager has logged this event, each as often as it has.
    pub async fn pools_with(&self, event: &str) -> Vec<u32> {
        let number = |log: &Log| {
            let word = log.topics().get(1).map_or_else(|| log.data().data.to_vec(), |word| word.to_vec());
            U256::from_be_slice(&word).to::<u32>()
        };
        self.logs(self.manager, keccak256(event)).await.iter().map(number).collect()
    }

    /// Every deposit that the deposit contract has taken: the key, and whose the stake is.
    pub async fn deposits(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let logs = self.logs(self.deposits, DepositEvent::SIGNATURE_HASH).await;
        let decoded = logs.iter().map(|log| DepositEvent::decode_log_data(log.data()).expect("a deposit"));
        decoded.map(|event| (event.pubkey.to_vec(), event.withdrawal_credentials.to_vec())).collect()
    }

    pub async fn pool(&self, number: u32) -> Pool {
        let found = PoolManager::new(self.manager, &self.provider).getPool(number).call().await;
        let found = found.expect("the pool manager answers");
        Pool { address: found.pool, key: found.publicKey.to_vec() }
    }

    pub async fn balance(&self, address: Address) -> U256 {
        self.provider.get_balance(address).await.expect("a balance")
    }

    /// All validators but those of the genesis, by their keys.
    pub async fn validators(&self) -> BTreeMap<Vec<u8>, Validator> {
        let url = format!("{}/eth/v1/beacon/states/head/validators", self.beacon);
        let answer = self.client.get(url).send().await.expect("the beacon node answers");
        let answer: Value = answer.json().await.expect("JSON");
        let all = answer["data"].as_array().expect("validators").iter();
        all.map(|found| {
            let validator = Validator {
                status: text(&found["status"]),
                balance: text(&found["balance"]).parse().expect("a number"),
                credentials: bytes(&found["validator"]["withdrawal_credentials"]),
            };
            (bytes(&found["validator"]["pubkey"]), validator)
        })
        .collect()
    }

    /// Whether there is one in the newest block.
    pub async fn has_transactions(&self) -> bool {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await.expect("a block");
        block.is_some_and(|block| !block.transactions.is_empty())
    }

    /// How many exits the beacon node has that are in no block yet.
    pub async fn waiting_exits(&self) -> usize {
        let url = format!("{}/eth/v1/beacon/pool/voluntary_exits", self.beacon);
        let answer = self.client.get(url).send().await.expect("the beacon node answers");
        let answer: Value = answer.json().await.expect("JSON");
        answer["data"].as_array().map_or(0, Vec::len)
    }

    /// What each of these wallets has paid, by all blocks that there are.
    pub async fn paid(&self, wallets: &BTreeSet<Address>) -> BTreeMap<Address, Paid> {
        let mut paid: BTreeMap<Address, Paid> =
            wallets.iter().map(|wallet| (*wallet, Paid::default())).collect();
        let head = self.provider.get_block_number().await.expect("the head");
        for number in 0..=head {
            let at = BlockNumberOrTag::Number(number);
            let block =
                self.provider.get_block_by_number(at).full().await.expect("a block").expect("a block");
            for transaction in block.transactions.txns() {
                use alloy::consensus::Transaction as _;
                let Some(paid) = paid.get_mut(&transaction.inner.signer()) else { continue };
                let receipt = self.provider.get_transaction_receipt(*transaction.inner.tx_hash()).await;
                let receipt = receipt.expect("a receipt").expect("a receipt");
                paid.transactions += 1;
                paid.failed += usize::from(!receipt.status());
                paid.cost += receipt.effective_gas_price * u128::from(receipt.gas_used);
                paid.max_fee = paid.max_fee.max(transaction.max_fee_per_gas());
                let priority =
                    transaction.max_priority_fee_per_gas().unwrap_or(transaction.max_fee_per_gas());
                paid.max_priority_fee = paid.max_priority_fee.max(priority);
            }
        }
        paid
    }
}
