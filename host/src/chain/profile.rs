//! Contract profiles: how the pool manager words its events and calls.
//!
//! The same flow exists in several vocabularies. The rest of the host speaks of [`PoolEventKind`] only; everything that
//! depends on a contract's wording is in this file. Topic 0 is the same whether an argument is indexed or not, so the
//! decoder takes both forms.

use alloy::primitives::{Address, B256, Bytes, FixedBytes, LogData, U256, keccak256};
use alloy::sol_types::SolCall;
use postern_shared::epoch::EpochMessage;
use postern_shared::ethereum::DepositData;
use postern_shared::proof::{Council, Proof};
use serde::{Deserialize, Serialize};

pub use contract::PoolManager;

// The macro writes what it is told: a call with eight arguments is a function with eight arguments.
#[allow(clippy::too_many_arguments, missing_docs)]
mod contract {
    use alloy::sol;

    sol! {
        /// The pool manager of the `documents` profile.
        #[sol(rpc)]
        #[derive(Debug)]
        interface PoolManager {
            struct Terms {
                uint16 quorum;
                uint16 walletQuorum;
                address[] wallets;
                address[] signers;
            }

            struct EpochChange {
                string dao;
                uint64 epoch;
                bytes32 predecessor;
                bytes32 manifest;
                Terms terms;
                string changes;
            }

            struct Delays {
                uint64 exit;
                uint64 refund;
                uint64 recovery;
            }

            error NotFounded();
            error ZeroDelay();
            error RecoveryTooSoon(uint64 refund, uint64 recovery);
            error DelayTooLong(uint64 most);
            error RecoveryPending(uint32 number);
            error WrongEpoch(uint64 expected, uint64 actual);
            error WrongPredecessor(bytes32 expected, bytes32 actual);
            error SurplusProof();
            error ProofLength(uint256 expected, uint256 actual);
            error ProofSignerCount(uint256 expected, uint256 actual);
            error ProofBeyondMembers(uint256 bitmap, uint256 members);
            error ProofSignature(uint256 member);
            error MemberCount(uint256 count);
            error SignerCount(uint256 expected, uint256 actual);
            error QuorumOutOfRange(uint256 quorum);
            error WalletQuorumOutOfRange(uint256 walletQuorum);
            error WalletRefused(address wallet);
            error SignerRefused(address signer);
            error RecoveryAlreadyPending(uint32 number);
            error NoSuchRecovery();
            error TooEarly(uint256 readyAt);
            error OnlyGovernor(address caller);
            error ZeroAddress();
            error ZeroAmount();
            error UnstakeAboveContribution(uint256 contribution);
            error WrongStatus(uint32 poolId, uint8 actual);
            error PublicKeyLength(uint256 length);
            error SignatureLength(uint256 length);
            error PublicKeyAlreadyUsed(bytes publicKey);
            error ExitNotRequested(uint32 poolId);
            error NothingToClaim(uint32 poolId, address staker);
            error TransferFailed();
            error OnlyManager(address caller);
            error NoWithdrawalRequests();
            error FeeAboveMaximum(uint256 fee, uint256 maximum);
            error RequestFailed();

            function stake() external payable;
            function unstake(uint256 amount) external;
            function depositPool(
                uint32 poolId,
                bytes calldata publicKey,
                bytes calldata signature,
                bytes calldata proof
            ) external;
            function requestPoolExits(
                uint32[] calldata poolIds,
                string calldata reason,
                bytes calldata walletProof
            ) external;
            function triggerExit(uint32 poolId, bytes calldata proof) external payable;
            function reportPoolExited(uint32 poolId, bytes calldata proof) external;
            function claim(uint32 poolId) external;
            function claimable(uint32 poolId, address staker) external view returns (uint256);
            function contributionOf(uint32 poolId, address staker) external view returns (uint256);
            function advanceEpoch(
                EpochChange calldata change,
                bytes calldata walletProof,
                bytes calldata enclaveProof
            ) external;
            function epoch() external view returns (uint64);
            function pendingRecovery()
                external
                view
                returns (uint32 number, uint64 readyAt, uint64 epoch, bytes32 manifest, bytes32 council);
            function cancelRecovery(bytes calldata proof) external;
            function manifestHash() external view returns (bytes32);
            function depositContract() external view returns (address);
            function poolCodeHash() external view returns (bytes32);
            function poolCount() external view returns (uint32);
            function getPoolAddress(uint32 poolId) external view returns (address);
            function getPool(uint32 poolId) external view returns (address pool, uint8 status, bytes memory publicKey);
            function blocksOf(uint32 poolId) external view returns (uint64 readyAt, uint64 exitRequestedAt);
        }
    }
}

/// The vocabulary of the pool manager that a host serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Profile {
    /// The product documents' names, and our own pool manager's.
    #[default]
    #[serde(rename = "documents")]
    Documents,
    /// The contracts released in January 2024. Events only; its calls are not served yet.
    #[serde(rename = "casimir-v1")]
    CasimirV1,
}

/// What a pool event says, in whatever words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PoolEventKind {
    /// A pool is full: make a validator for it.
    DepositRequested,
    /// The pool's deposit was made.
    Deposited,
    /// The pool's operators are to change. Not supported yet.
    ReshareRequested,
    /// The DAO wants the pool's validator out.
    ExitRequested,
    /// The pool's validator has left.
    Exited,
}

/// A log of the pool manager that can't be what its topic says.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum LogError {
    /// Neither one indexed argument without data nor one word of data.
    #[error("{event:?} log with {topics} topics and {data} bytes of data")]
    Shape {
        /// What topic 0 says.
        event: PoolEventKind,
        /// Topics found.
        topics: usize,
        /// Bytes of data found.
        data: usize,
    },
    /// A pool number above 32 bits.
    #[error("{event:?} log whose pool number exceeds 32 bits")]
    PoolNumber {
        /// What topic 0 says.
        event: PoolEventKind,
    },
}

/// A call that the profile does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("contract profile {profile:?} does not serve {call}")]
pub struct UnsupportedCall {
    /// The configured profile.
    pub profile: Profile,
    /// The call wanted.
    pub call: &'static str,
}

impl Profile {
    /// The profile's events: signature and meaning.
    fn events(self) -> &'static [(&'static str, PoolEventKind)] {
        match self {
            Self::Documents => &[
                ("PoolDepositRequested(uint32)", PoolEventKind::DepositRequested),
                ("PoolDeposited(uint32)", PoolEventKind::Deposited),
                ("PoolReshareRequested(uint32)", PoolEventKind::ReshareRequested),
                ("PoolExitRequested(uint32)", PoolEventKind::ExitRequested),
                ("PoolExited(uint32)", PoolEventKind::Exited),
            ],
            Self::CasimirV1 => &[
                ("InitiationRequested(uint32)", PoolEventKind::DepositRequested),
                ("PoolActivated(uint32)", PoolEventKind::Deposited),
                ("ExitRequested(uint32)", PoolEventKind::ExitRequested),
            ],
        }
    }

    /// Topic 0 of every event to ask nodes for.
    pub fn topics(self) -> Vec<B256> {
        self.events().iter().map(|(signature, _)| keccak256(signature)).collect()
    }

    /// Reads a log of a pool manager, with the number that it has for the pool. `None` for an event that is none of ours.
    pub fn decode(self, log: &LogData) -> Result<Option<(PoolEventKind, u32)>, LogError> {
        let Some(topic) = log.topics().first() else { return Ok(None) };
        let known = self.events().iter().find(|(signature, _)| keccak256(signature) == *topic);
        let Some((_, event)) = known else { return Ok(None) };
        let event = *event;
        let word = match (log.topics(), log.data.as_ref()) {
            ([_, indexed], []) => *indexed,
            ([_], data) if data.len() == 32 => B256::from_slice(data),
            (topics, data) => return Err(LogError::Shape { event, topics: topics.len(), data: data.len() }),
        };
        let number =
            u32::try_from(U256::from_be_bytes(word.0)).map_err(|_| LogError::PoolNumber { event })?;
        Ok(Some((event, number)))
    }

    /// Calldata that has a pool's signed deposit made, with the proof that it is the pool's.
    pub fn deposit_call(
        self,
        number: u32,
        deposit: &DepositData,
        proof: &Proof,
    ) -> Result<Vec<u8>, UnsupportedCall> {
        self.documents_only("depositPool")?;
        let call = PoolManager::depositPoolCall {
            poolId: number,
            publicKey: Bytes::copy_from_slice(&deposit.message.pubkey.0),
            signature: Bytes::copy_from_slice(&deposit.signature.0),
            proof: Bytes::copy_from_slice(proof.as_bytes()),
        };
        Ok(call.abi_encode())
    }

    /// Calldata that puts an epoch in force at the pool manager. The first one of all needs no proof of enclaves.
    pub fn epoch_call(
        self,
        message: &EpochMessage,
        council: &Council,
        wallets: &Proof,
        enclaves: Option<&Proof>,
    ) -> Result<Vec<u8>, UnsupportedCall> {
        self.documents_only("advanceEpoch")?;
        let accounts = |of: &[postern_shared::ids::Address]| of.iter().copied().map(to_alloy).collect();
        let call = PoolManager::advanceEpochCall {
            change: PoolManager::EpochChange {
                dao: message.dao.clone(),
                epoch: message.epoch,
                predecessor: FixedBytes(message.predecessor.0),
                manifest: FixedBytes(message.manifest.0),
                terms: PoolManager::Terms {
                    quorum: council.quorum,
                    walletQuorum: council.wallet_quorum,
                    wallets: accounts(&council.wallets),
                    signers: accounts(&council.signers),
                },
                changes: message.changes.clone(),
            },
            walletProof: Bytes::copy_from_slice(wallets.as_bytes()),
            enclaveProof: enclaves.map(|proof| Bytes::copy_from_slice(proof.as_bytes())).unwrap_or_default(),
        };
        Ok(call.abi_encode())
    }

    /// Calldata by which the enclaves object to others in their place.
    pub fn cancel_call(self, proof: &Proof) -> Result<Vec<u8>, UnsupportedCall> {
        self.documents_only("cancelRecovery")?;
        let proof = Bytes::copy_from_slice(proof.as_bytes());
        Ok(PoolManager::cancelRecoveryCall { proof }.abi_encode())
    }

    /// Calldata that puts on record that a pool's validator has left.
    pub fn exited_call(self, number: u32, proof: &Proof) -> Result<Vec<u8>, UnsupportedCall> {
        self.documents_only("reportPoolExited")?;
        let proof = Bytes::copy_from_slice(proof.as_bytes());
        Ok(PoolManager::reportPoolExitedCall { poolId: number, proof }.abi_encode())
    }

    fn documents_only(self, call: &'static str) -> Result<(), UnsupportedCall> {
        match self {
            Self::Documents => Ok(()),
            Self::CasimirV1 => Err(UnsupportedCall { profile: self, call }),
        }
    }
}

/// Puts a reverted call's data into words: our contracts' errors by name, Solidity's own, else hexadecimal.
pub fn describe_revert(data: &[u8]) -> String {
    use alloy::sol_types::{ContractError, SolInterface};
    if data.is_empty() {
        return "no reason given".to_owned();
    }
    match ContractError::<PoolManager::PoolManagerErrors>::abi_decode(data) {
        Ok(ContractError::CustomError(error)) => describe_own(&error),
        Ok(ContractError::Revert(revert)) => revert.reason,
        Ok(ContractError::Panic(panic)) => panic.to_string(),
        Err(_) => Bytes::copy_from_slice(data).to_string(),
    }
}

fn describe_own(error: &PoolManager::PoolManagerErrors) -> String {
    // `Debug` of a generated variant reads `Name(Name { field: value })`; people need the inner part only.
    let text = format!("{error:?}");
    let inner =
        text.split_once('(').map_or(text.as_str(), |(_, inner)| inner.strip_suffix(')').unwrap_or(inner));
    inner.to_owned()
}

/// Our address type as alloy's.
pub fn to_alloy(address: postern_shared::ids::Address) -> Address {
    Address::from(address.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::hex;

    fn log(topics: Vec<B256>, data: &[u8]) -> LogData {
        LogData::new_unchecked(topics, Bytes::copy_from_slice(data))
    }

    fn word(number: u64) -> B256 {
        B256::from(U256::from(number))
    }

    #[test]
    fn topics_are_those_of_the_facts() {
        let topics = Profile::Documents.topics();
        let expected = [
            hex!("9c4fa875061af0612b826bf054911923fe2290caad360c3f362731c00260699d"),
            hex!("01576f705b4878299c14505859c064516ad75371331883a70152b056ffc0a06e"),
            hex!("a45dc830b54ec9c4274f9f8eb7dc56eba1fae173ab91b27beaaa0808c279e4c6"),
        ];
        assert!(expected.iter().all(|topic| topics.contains(&B256::from(*topic))));
    }

    #[test]
    fn indexed_and_plain_arguments_read_the_same() {
        for profile in [Profile::Documents, Profile::CasimirV1] {
            let topic = profile.topics()[0];
            let plain = profile.decode(&log(vec![topic], &word(7).0));
            let indexed = profile.decode(&log(vec![topic, word(7)], &[]));
            assert_eq!(plain, Ok(Some((PoolEventKind::DepositRequested, 7))));
            assert_eq!(plain, indexed);
        }
    }

    #[test]
    fn a_log_of_another_shape_is_refused() {
        let topic = Profile::Documents.topics()[0];
        let event = PoolEventKind::DepositRequested;
        for (topics, data) in
            [(vec![topic], vec![0; 31]), (vec![topic, word(1)], vec![0; 32]), (vec![topic], vec![])]
        {
            let expected = LogError::Shape { event, topics: topics.len(), data: data.len() };
            assert_eq!(Profile::Documents.decode(&log(topics, &data)), Err(expected));
        }
        let large = log(vec![topic], &word(1 << 32).0);
        assert_eq!(Profile::Documents.decode(&large), Err(LogError::PoolNumber { event }));
    }

    #[test]
    fn other_events_are_nobodys_business() {
        assert_eq!(Profile::Documents.decode(&log(vec![word(1)], &[])), Ok(None));
        assert_eq!(Profile::Documents.decode(&log(vec![], &[])), Ok(None));
        let foreign = Profile::CasimirV1.topics()[0];
        assert_eq!(Profile::Documents.decode(&log(vec![foreign], &word(1).0)), Ok(None));
    }

    #[test]
    fn reverts_are_put_into_words() {
        use alloy::sol_types::{Revert, SolError};
        let own = PoolManager::WrongEpoch { expected: 1, actual: 2 }.abi_encode();
        assert_eq!(describe_revert(&own), "WrongEpoch { expected: 1, actual: 2 }");
        assert_eq!(describe_revert(&Revert::from("DepositContract: no").abi_encode()), "DepositContract: no");
        assert_eq!(describe_revert(&[]), "no reason given");
        assert_eq!(describe_revert(&[1, 2, 3, 4]), "0x01020304");
    }
}
