//! The contracts in a bare EVM: no node, no gas price, every call at once.

use crate::support::dao::{Dao, Place};
use crate::support::{DepositContract, ETHER, PoolManager};
use alloy::eips::eip7002::{
    WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS as WITHDRAWALS, WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
};
use alloy::primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy::sol_types::{SolCall, SolConstructor as _, SolError};
use revm::bytecode::Bytecode;
use revm::context::result::ExecutionResult;
use revm::context::{BlockEnv, Context, TxEnv};
use revm::database::{AccountState, InMemoryDB};
use revm::primitives::TxKind;
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{DatabaseCommit as _, DatabaseRef as _, MainBuilder as _, MainContext as _};
use revm::{ExecuteEvm as _, SystemCallCommitEvm as _};
use sha2::{Digest as _, Sha256};

pub const CHAIN_ID: u64 = 70_700;
pub const GOVERNOR: Address = Address::repeat_byte(0x60);
pub const STRANGER: Address = Address::repeat_byte(0x57);
const BLOCK_GAS: u64 = 36_000_000;

/// What a call that succeeded did.
#[derive(Debug)]
pub struct Done {
    pub logs: Vec<Log>,
    pub gas: u64,
    pub output: Bytes,
}

/// The data of a revert.
#[derive(Debug)]
pub struct Reverted(pub Bytes);

impl Reverted {
    pub fn is<E: SolError>(&self) -> bool {
        self.0.starts_with(&E::SELECTOR)
    }
}

/// Accounts and the block that calls run in. A copy goes its own way.
#[derive(Debug, Clone)]
pub struct Chain {
    accounts: InMemoryDB,
    pub id: u64,
    pub number: u64,
}

impl Chain {
    /// A chain with the contract of EIP-7002 and nothing else.
    pub fn new() -> Self {
        let mut accounts = InMemoryDB::default();
        let code = Bytecode::new_raw(WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone());
        accounts
            .insert_account_info(WITHDRAWALS, AccountInfo { nonce: 1, ..AccountInfo::from_bytecode(code) });
        Self { accounts, id: CHAIN_ID, number: 1 }
    }

    /// Calls a contract and keeps what that did.
    pub fn send<C: SolCall>(
        &mut self,
        from: Address,
        to: Address,
        wei: u128,
        call: &C,
    ) -> Result<Done, Reverted> {
        self.send_raw(from, TxKind::Call(to), wei, call.abi_encode().into())
    }

    pub fn send_raw(&mut self, from: Address, to: TxKind, wei: u128, data: Bytes) -> Result<Done, Reverted> {
        let (result, state) = self.transact(from, to, wei, data);
        self.accounts.commit(state);
        result
    }

    /// Asks a contract and forgets what that did.
    pub fn ask<C: SolCall>(&mut self, to: Address, call: &C) -> C::Return {
        let (result, _) = self.transact(STRANGER, TxKind::Call(to), 0, call.abi_encode().into());
        C::abi_decode_returns(&result.unwrap().output).unwrap()
    }

    /// What a contract answers to an empty call.
    pub fn read(&mut self, to: Address) -> Bytes {
        self.transact(STRANGER, TxKind::Call(to), 0, Bytes::new()).0.unwrap().output
    }

    /// What a call would be refused with.
    pub fn refusal<C: SolCall>(&mut self, from: Address, to: Address, wei: u128, call: &C) -> Reverted {
        self.transact(from, TxKind::Call(to), wei, call.abi_encode().into()).0.unwrap_err()
    }

    pub fn deploy(&mut self, code: Bytes) -> Address {
        let nonce = self.accounts.basic_ref(STRANGER).unwrap().unwrap_or_default().nonce;
        self.send_raw(STRANGER, TxKind::Create, 0, code).unwrap();
        STRANGER.create(nonce)
    }

    pub fn balance(&self, address: Address) -> u128 {
        self.accounts.basic_ref(address).unwrap().unwrap_or_default().balance.to()
    }

    /// Lets ether appear without a call, as withdrawals of the beacon chain do.
    pub fn credit(&mut self, address: Address, wei: u128) {
        let account = self.accounts.load_account(address).unwrap();
        account.info.balance += U256::from(wei);
        if account.account_state == AccountState::NotExisting {
            account.account_state = AccountState::Touched;
        }
    }

    /// Takes an account's code away.
    pub fn remove(&mut self, address: Address) {
        self.accounts.insert_account_info(address, AccountInfo::default());
    }

    /// Ends this many blocks. Gives who asked by EIP-7002 for which validator's exit.
    pub fn advance(&mut self, blocks: u64) -> Vec<(Address, Bytes)> {
        let mut requests = Vec::new();
        for _ in 0..blocks {
            let block = self.block();
            let result = Context::mainnet()
                .with_db(&mut self.accounts)
                .modify_cfg_chained(|cfg| cfg.set_spec_and_mainnet_gas_params(SpecId::PRAGUE))
                .with_block(block)
                .build_mainnet()
                .system_call_commit(WITHDRAWALS, Bytes::new())
                .unwrap();
            let output = result.output().cloned().unwrap_or_default();
            requests.extend(output.chunks(76).map(|request| {
                assert_eq!(request[68..], [0; 8], "only full exits");
                (Address::from_slice(&request[..20]), Bytes::copy_from_slice(&request[20..68]))
            }));
            self.number += 1;
        }
        requests
    }

    fn block(&self) -> BlockEnv {
        BlockEnv { number: U256::from(self.number), gas_limit: BLOCK_GAS, ..BlockEnv::default() }
    }

    fn transact(
        &mut self,
        from: Address,
        to: TxKind,
        wei: u128,
        data: Bytes,
    ) -> (Result<Done, Reverted>, revm::state::EvmState) {
        let (id, block) = (self.id, self.block());
        let transaction = TxEnv {
            caller: from,
            gas_limit: BLOCK_GAS,
            kind: to,
            value: U256::from(wei),
            data,
            chain_id: Some(id),
            ..TxEnv::default()
        };
        let outcome = Context::mainnet()
            .with_db(&mut self.accounts)
            .modify_cfg_chained(|cfg| {
                cfg.chain_id = id;
                cfg.disable_nonce_check = true;
                cfg.disable_eip3607 = true;
                cfg.tx_gas_limit_cap = Some(u64::MAX);
                cfg.limit_contract_code_size = Some(24_576);
                cfg.set_spec_and_mainnet_gas_params(SpecId::PRAGUE);
            })
            .with_block(block)
            .build_mainnet()
            .transact(transaction)
            .unwrap();
        let gas = outcome.result.tx_gas_used();
        let result = match outcome.result {
            ExecutionResult::Success { logs, output, .. } => {
                Ok(Done { logs, gas, output: output.into_data() })
            }
            ExecutionResult::Revert { output, .. } => Err(Reverted(output)),
            ExecutionResult::Halt { reason, .. } => panic!("{reason:?}"),
        };
        (result, outcome.state)
    }
}

/// How long things take in these tests, in blocks.
pub const DELAYS: PoolManager::Delays = PoolManager::Delays { exit: 5, refund: 4, recovery: 8 };

/// A manager with the DAO that it was founded for, and who stakes.
#[derive(Debug, Clone)]
pub struct Bench {
    pub chain: Chain,
    pub deposits: Address,
    pub manager: Address,
    pub dao: Dao,
}

impl Bench {
    pub fn new(members: u16) -> Self {
        let (mut bench, dao) = (Self::unfounded(members), Dao::new(members).next());
        let call = bench.dao.advance_rightly(bench.place(0), &dao);
        bench.send(STRANGER, 0, &call).unwrap();
        Self { dao, ..bench }
    }

    /// The manager as it is deployed, and the DAO that may found it.
    pub fn unfounded(members: u16) -> Self {
        let mut chain = Chain::new();
        for account in [GOVERNOR, STRANGER, staker(0), staker(1), staker(2), staker(3)] {
            chain.credit(account, 1_000_000 * ETHER);
        }
        let deposits = chain.deploy(DepositContract::BYTECODE.clone());
        let dao = Dao::new(members);
        let manager = deploy_manager(&mut chain, deposits, dao.wallet_addresses());
        Self { chain, deposits, manager, dao }
    }

    pub fn place(&self, pool: u32) -> Place {
        Place::of(self.chain.id, self.manager, &self.dao).pool(pool)
    }

    pub fn send<C: SolCall>(&mut self, from: Address, wei: u128, call: &C) -> Result<Done, Reverted> {
        self.chain.send(from, self.manager, wei, call)
    }

    pub fn ask<C: SolCall>(&mut self, call: &C) -> C::Return {
        self.chain.ask(self.manager, call)
    }

    pub fn refusal<C: SolCall>(&mut self, from: Address, call: &C) -> Reverted {
        self.chain.refusal(from, self.manager, 0, call)
    }

    pub fn stake(&mut self, from: Address, wei: u128) {
        self.send(from, wei, &PoolManager::stakeCall {}).unwrap();
    }

    pub fn pool(&self, pool: u32) -> Address {
        pool_address(self.manager, pool)
    }

    /// The call that hands a pool's deposit in, with the proof that is wanted.
    pub fn deposit_call(&self, pool: u32, attempt: u16) -> PoolManager::depositPoolCall {
        let deposit = DepositBytes::of(self.manager, pool, attempt);
        let proof = self.dao.enclave_proof(self.place(pool).attempt(attempt).deposit(deposit.root()));
        deposit.call(pool, proof)
    }

    /// A pool with a validator.
    pub fn deposited(members: u16) -> Self {
        let mut bench = Self::new(members);
        bench.stake(staker(0), 32 * ETHER);
        let call = bench.deposit_call(1, 0);
        bench.send(STRANGER, 0, &call).unwrap();
        bench
    }

    /// Puts the next members in force.
    pub fn advance(&mut self, next: Dao) {
        let call = self.dao.advance_rightly(self.place(0), &next);
        self.send(STRANGER, 0, &call).unwrap();
        self.dao = next;
    }
}

pub fn staker(number: u8) -> Address {
    Address::repeat_byte(0xa0 + number)
}

/// `POSTERN_MANAGER_CODE` names a file with other creation code in hex, to see these tests fail.
pub fn deploy_manager(chain: &mut Chain, deposits: Address, wallets: Vec<Address>) -> Address {
    chain.deploy(manager_code(deposits, wallets, DELAYS))
}

/// What deploys a manager.
pub fn manager_code(deposits: Address, wallets: Vec<Address>, delays: PoolManager::Delays) -> Bytes {
    let arguments = PoolManager::constructorCall {
        depositContract_: deposits,
        governor_: GOVERNOR,
        wallets_: wallets,
        delays,
    };
    let code: Bytes = match std::env::var("POSTERN_MANAGER_CODE") {
        Ok(path) => std::fs::read_to_string(path).unwrap().trim().parse().unwrap(),
        Err(_) => PoolManager::BYTECODE.clone(),
    };
    [&code[..], &arguments.abi_encode()].concat().into()
}

/// The address of a pool, from the rule and not from the contract.
pub fn pool_address(manager: Address, pool: u32) -> Address {
    thread_local! {
        static CODE_HASH: B256 = keccak256(&*crate::support::Pool::BYTECODE);
    }
    manager.create2(B256::from(U256::from(pool)), CODE_HASH.with(|hash| *hash))
}

/// A deposit as the enclaves would make it for a pool. The EVM does not look into keys and signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositBytes {
    pub key: [u8; 48],
    pub credentials: [u8; 32],
    pub signature: [u8; 96],
}

impl DepositBytes {
    pub fn of(manager: Address, pool: u32, attempt: u16) -> Self {
        let mut key = [0x8a; 48];
        key[..4].copy_from_slice(&pool.to_be_bytes());
        key[4..6].copy_from_slice(&attempt.to_be_bytes());
        let mut signature = [0x95; 96];
        signature[..48].copy_from_slice(&key);
        Self { key, credentials: crate::support::credentials(pool_address(manager, pool)), signature }
    }

    /// `hash_tree_root(DepositData)`.
    pub fn root(&self) -> B256 {
        let pair = |left: &[u8], right: &[u8]| -> [u8; 32] {
            Sha256::new().chain_update(left).chain_update(right).finalize().into()
        };
        let key = pair(&self.key, &[0; 16]);
        let signature = pair(&pair(&self.signature[..64], &[]), &pair(&self.signature[64..], &[0; 32]));
        let mut amount = [0; 32];
        amount[..8].copy_from_slice(&32_000_000_000u64.to_le_bytes());
        pair(&pair(&key, &self.credentials), &pair(&amount, &signature)).into()
    }

    pub fn call(&self, pool: u32, proof: Bytes) -> PoolManager::depositPoolCall {
        PoolManager::depositPoolCall {
            poolId: pool,
            publicKey: Bytes::copy_from_slice(&self.key),
            signature: Bytes::copy_from_slice(&self.signature),
            proof,
        }
    }
}
