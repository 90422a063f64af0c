//! A DAO of which a test has every key. What its wallets and enclaves sign is written here once more, with alloy's
//! EIP-712 and not with the project's own code, so that the two can be compared.

use super::{Council, PoolManager};
use alloy::primitives::{Address, B256, Bytes, keccak256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Eip712Domain, SolStruct, SolValue as _, eip712_domain};
use std::cell::RefCell;
use std::collections::HashMap;

alloy::sol! {
    struct ManifestEpoch {
        string dao;
        uint64 epoch;
        bytes32 predecessor;
        bytes32 manifest;
        bytes32 council;
        string changes;
    }
    struct Recovery {
        uint64 epoch;
        uint32 number;
        uint64 next;
        bytes32 manifest;
        bytes32 council;
    }
    struct EpochApplied {
        uint64 epoch;
        bytes32 manifest;
        bytes32 council;
    }
    struct Deposit {
        uint64 epoch;
        uint32 pool;
        uint16 attempt;
        bytes32 depositDataRoot;
    }
    struct RaiseAttempt {
        uint64 epoch;
        uint32 pool;
        uint16 attempt;
    }
    struct TriggerExit {
        uint64 epoch;
        uint32 pool;
    }
    struct PoolExited {
        uint64 epoch;
        uint32 pool;
    }
    struct CancelRecovery {
        uint64 epoch;
        uint32 number;
        bytes32 manifest;
        bytes32 council;
    }
    struct RequestExits {
        uint64 epoch;
        uint32[] pools;
        string reason;
    }
}

pub type Key = PrivateKeySigner;

/// The secret key with this number. Enclaves have numbers from 1000 on, wallets from 2000 on.
pub fn key(number: u64) -> Key {
    thread_local! {
        static KEYS: RefCell<HashMap<u64, Key>> = RefCell::default();
    }
    KEYS.with_borrow_mut(|keys| {
        let made = || Key::from_bytes(&keccak256(number.to_be_bytes())).unwrap();
        keys.entry(number).or_insert_with(made).clone()
    })
}

/// r ‖ s ‖ v. Signatures are deterministic, and the long tests ask for the same ones often.
pub fn sign(key: &Key, digest: B256) -> [u8; 65] {
    thread_local! {
        static MADE: RefCell<HashMap<(Address, B256), [u8; 65]>> = RefCell::default();
    }
    MADE.with_borrow_mut(|made| {
        if made.len() > 200_000 {
            made.clear();
        }
        let sign = || key.sign_hash_sync(&digest).unwrap().as_bytes();
        *made.entry((key.address(), digest)).or_insert_with(sign)
    })
}

/// A proof with the signatures of these members, counted from 0, in this order.
pub fn prove(digest: B256, signers: &[(usize, Key)]) -> Bytes {
    let bits = signers.iter().fold(0, |bits, (index, _)| bits | 1u128 << index);
    encode(bits, signers.iter().map(|(_, key)| sign(key, digest)))
}

/// A proof of these bytes, whatever they are.
pub fn encode(bits: u128, signatures: impl IntoIterator<Item = [u8; 65]>) -> Bytes {
    let mut proof = vec![0; 32];
    proof[16..].copy_from_slice(&bits.to_be_bytes());
    signatures.into_iter().for_each(|signature| proof.extend(signature));
    proof.into()
}

/// What a statement is about, besides its own contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub chain_id: u64,
    pub manager: Address,
    pub epoch: u64,
    pub pool: u32,
    pub attempt: u16,
}

impl Place {
    pub fn of(chain_id: u64, manager: Address, dao: &Dao) -> Self {
        Self { chain_id, manager, epoch: dao.epoch, pool: 0, attempt: 0 }
    }

    pub fn pool(self, pool: u32) -> Self {
        Self { pool, ..self }
    }

    pub fn attempt(self, attempt: u16) -> Self {
        Self { attempt, ..self }
    }

    pub fn digest(&self, statement: &impl SolStruct) -> B256 {
        statement.eip712_signing_hash(&self.domain())
    }

    pub fn deposit(&self, root: B256) -> B256 {
        let Self { epoch, pool, attempt, .. } = *self;
        self.digest(&Deposit { epoch, pool, attempt, depositDataRoot: root })
    }

    pub fn raise_attempt(&self) -> B256 {
        let Self { epoch, pool, attempt, .. } = *self;
        self.digest(&RaiseAttempt { epoch, pool, attempt })
    }

    pub fn trigger_exit(&self) -> B256 {
        self.digest(&TriggerExit { epoch: self.epoch, pool: self.pool })
    }

    pub fn pool_exited(&self) -> B256 {
        self.digest(&PoolExited { epoch: self.epoch, pool: self.pool })
    }

    pub fn request_exits(&self, pools: &[u32], reason: &str) -> B256 {
        self.digest(&RequestExits { epoch: self.epoch, pools: pools.to_vec(), reason: reason.into() })
    }

    pub fn cancel_recovery(&self, number: u32, proposed: &Dao) -> B256 {
        let (manifest, council) = (proposed.manifest, proposed.council());
        self.digest(&CancelRecovery { epoch: self.epoch, number, manifest, council })
    }

    pub fn recovery(&self, number: u32, next: &Dao) -> B256 {
        let (manifest, council) = (next.manifest, next.council());
        self.digest(&Recovery { epoch: self.epoch, number, next: next.epoch, manifest, council })
    }

    /// The epoch is the one in force; what is signed names the next one.
    pub fn epoch_applied(&self, next: &Dao) -> B256 {
        let (manifest, council) = (next.manifest, next.council());
        self.digest(&EpochApplied { epoch: self.epoch + 1, manifest, council })
    }

    pub fn manifest_epoch(&self, predecessor: B256, next: &Dao) -> B256 {
        self.digest(&ManifestEpoch {
            dao: DAO.into(),
            epoch: self.epoch + 1,
            predecessor,
            manifest: next.manifest,
            council: next.council(),
            changes: next.changes(),
        })
    }

    fn domain(&self) -> Eip712Domain {
        eip712_domain! {
            name: "Postern",
            version: "1",
            chain_id: self.chain_id,
            verifying_contract: self.manager,
        }
    }
}

const DAO: &str = "Example DAO";

/// Members of one epoch. A DAO in epoch 0 is not founded yet.
#[derive(Debug, Clone)]
pub struct Dao {
    pub epoch: u64,
    pub manifest: B256,
    pub quorum: u16,
    pub wallet_quorum: u16,
    pub wallets: Vec<Key>,
    pub enclaves: Vec<Option<Key>>,
}

impl Dao {
    /// Quorums are the smallest majorities.
    pub fn new(members: u16) -> Self {
        let majority = members / 2 + 1;
        let numbers = 0..u64::from(members);
        Self {
            epoch: 0,
            manifest: B256::ZERO,
            quorum: majority,
            wallet_quorum: majority,
            wallets: numbers.clone().map(|number| key(2000 + number)).collect(),
            enclaves: numbers.map(|number| Some(key(1000 + number))).collect(),
        }
    }

    /// The same members in the next epoch.
    pub fn next(&self) -> Self {
        let epoch = self.epoch + 1;
        Self { epoch, manifest: keccak256(format!("manifest of epoch {epoch}")), ..self.clone() }
    }

    pub fn wallet_addresses(&self) -> Vec<Address> {
        self.wallets.iter().map(Key::address).collect()
    }

    pub fn signer_addresses(&self) -> Vec<Address> {
        self.enclaves.iter().map(|key| key.as_ref().map(Key::address).unwrap_or_default()).collect()
    }

    pub fn terms(&self) -> Council::Terms {
        Council::Terms {
            quorum: self.quorum,
            walletQuorum: self.wallet_quorum,
            wallets: self.wallet_addresses(),
            signers: self.signer_addresses(),
        }
    }

    pub fn council(&self) -> B256 {
        let members = (self.quorum, self.wallet_quorum, self.wallet_addresses(), self.signer_addresses());
        keccak256(members.abi_encode_params())
    }

    fn changes(&self) -> String {
        format!("epoch {} begins", self.epoch)
    }

    /// The members whose enclave can sign.
    pub fn able(&self) -> Vec<(usize, Key)> {
        let able = self.enclaves.iter().enumerate();
        able.filter_map(|(index, key)| Some((index, key.clone()?))).collect()
    }

    /// These members as a recovery proposes them.
    pub fn proposal(&self) -> Council::RecoveryTerms {
        Council::RecoveryTerms { epoch: self.epoch, manifest: self.manifest, terms: self.terms() }
    }

    /// The proof of the first enclaves that make a quorum.
    pub fn enclave_proof(&self, digest: B256) -> Bytes {
        prove(digest, &self.able()[..usize::from(self.quorum)])
    }

    /// The proof of the first wallets, as many as are said.
    pub fn wallet_proof(&self, digest: B256, count: usize) -> Bytes {
        let wallets: Vec<_> = self.wallets.iter().cloned().enumerate().take(count).collect();
        prove(digest, &wallets)
    }

    /// The call with which this DAO is founded, or the next one put in force, with these proofs.
    pub fn advance(&self, next: &Dao, wallets: Bytes, enclaves: Bytes) -> PoolManager::advanceEpochCall {
        PoolManager::advanceEpochCall {
            change: Council::EpochChange {
                dao: DAO.into(),
                epoch: next.epoch,
                predecessor: self.manifest,
                manifest: next.manifest,
                terms: next.terms(),
                changes: next.changes(),
            },
            walletProof: wallets,
            enclaveProof: enclaves,
        }
    }

    /// The same with the proofs that are wanted.
    pub fn advance_rightly(&self, place: Place, next: &Dao) -> PoolManager::advanceEpochCall {
        let digest = place.manifest_epoch(self.manifest, next);
        let (count, enclaves) = if self.epoch == 0 {
            (self.wallets.len(), Bytes::new())
        } else {
            (usize::from(self.wallet_quorum), self.enclave_proof(place.epoch_applied(next)))
        };
        self.advance(next, self.wallet_proof(digest, count), enclaves)
    }
}
