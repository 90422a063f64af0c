//! What enclaves sign for the pool manager, and what it knows of them.
//!
//! The contract believes no wallet: whoever calls it carries a [`Proof`] that as many enclaves as the manifest wants
//! (`thresholds.proof`) have signed what is to be done. A statement says itself what it is about (which pool, which attempt,
//! which epoch), so none can be used twice or for anything else, and one that never lands holds up no other.
//!
//! What fewer broken enclaves than that can do with it is nothing; so many can have the pool manager do whatever a proof
//! allows, but pay anybody: ether goes to the deposit contract, to a pool, or to whoever staked it.

use crate::bytes::variable;
use crate::ecdsa::{EthereumSignature, recover};
use crate::eip712::{Domain, keccak, word};
use crate::epoch;
use crate::ethereum::{DepositData, Root, VALIDATOR_STAKE_GWEI, WithdrawalCredentials};
use crate::identity::EnclaveKeys;
use crate::ids::{Address, Digest, ManifestHash, MemberId, PoolId};
use crate::manifest::{Contracts, MAX_MEMBERS, Manifest, ManifestError};
use alloc::{collections::BTreeMap, vec::Vec};
use serde::{Deserialize, Serialize};

/// Bytes of a signature in a proof.
const SIGNATURE: usize = 65;
/// Bytes of a proof before its signatures: which members have signed, a bit each.
const BITMAP: usize = 32;

/// What a manifest says that the pool manager has to know: who governs, and which enclaves prove what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Council {
    /// How many enclaves prove something.
    pub quorum: u16,
    /// How many wallets sign the next epoch.
    pub wallet_quorum: u16,
    /// Who governs, by member.
    pub wallets: Vec<Address>,
    /// The members' enclaves; zero where none is named.
    pub signers: Vec<Address>,
}

impl Council {
    /// Of this manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let signer = |enclave: Option<EnclaveKeys>| enclave.map_or(Address([0; 20]), |keys| keys.signer);
        Self {
            quorum: manifest.thresholds.proof,
            // Members are few.
            wallet_quorum: u16::try_from(epoch::quorum(manifest)).unwrap_or(u16::MAX),
            wallets: manifest.members.iter().map(|member| member.governance).collect(),
            signers: manifest.members.iter().map(|member| signer(member.enclave)).collect(),
        }
    }

    /// With which account a member's enclave signs, if one is named.
    pub fn signer(&self, member: MemberId) -> Option<Address> {
        signer(&self.signers, member)
    }

    /// `keccak256(abi.encode(quorum, walletQuorum, wallets, signers))`.
    pub fn digest(&self) -> Digest {
        // Where an array begins, in bytes from the start: behind the four words at the head.
        let place = |words: usize| word(&(32_u64.saturating_mul(words as u64)).to_be_bytes());
        let array = |addresses: &[Address]| {
            let length = word(&(addresses.len() as u64).to_be_bytes());
            let items = addresses.iter().map(|address| word(&address.0));
            core::iter::once(length).chain(items).collect::<Vec<_>>()
        };
        let (wallets, signers) = (array(&self.wallets), array(&self.signers));
        let head = [
            word(&self.quorum.to_be_bytes()),
            word(&self.wallet_quorum.to_be_bytes()),
            place(4),
            place(wallets.len().saturating_add(4)),
        ];
        Digest(keccak(&[&head[..], &wallets, &signers].concat().concat()))
    }
}

/// Something that enclaves sign for the pool manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// This deposit is the pool's: of the enclaves' key, to the pool's credentials, and signed.
    Deposit {
        /// The pool's number.
        pool: u32,
        /// Which of the pool's keys it is of.
        attempt: u16,
        /// `hash_tree_root` of the deposit data.
        root: Root,
    },
    /// The DAO wants the pool's validator out, now.
    TriggerExit {
        /// The pool's number.
        pool: u32,
    },
    /// This manifest is the one that follows, and in force.
    EpochApplied {
        /// Its hash.
        manifest: ManifestHash,
        /// [`Council::digest`] of it.
        council: Digest,
    },
    /// The enclaves are there: nobody has to be put in their place. It says who would be: nobody can have had it signed before
    /// that was known, to use it once the enclaves are lost.
    CancelRecovery {
        /// Which proposal.
        number: u32,
        /// The manifest that it wants.
        manifest: ManifestHash,
        /// [`Council::digest`] of that.
        council: Digest,
    },
    /// The pool's validator has left the beacon chain.
    PoolExited {
        /// The pool's number.
        pool: u32,
    },
}

/// Which of a pool's keys: no pool has had a second one so far.
pub const ATTEMPT: u16 = 0;

impl Statement {
    /// What goes into signatures. `epoch` is the one in force at the contract; of [`Self::EpochApplied`] the one that follows.
    pub fn digest(&self, domain: &Domain, epoch: u64) -> [u8; 32] {
        let epoch = word(&epoch.to_be_bytes());
        match *self {
            Self::Deposit { pool, attempt, root } => domain.digest(
                "Deposit(uint64 epoch,uint32 pool,uint16 attempt,bytes32 depositDataRoot)",
                &[epoch, word(&pool.to_be_bytes()), word(&attempt.to_be_bytes()), root.0],
            ),
            Self::TriggerExit { pool } => {
                domain.digest("TriggerExit(uint64 epoch,uint32 pool)", &[epoch, word(&pool.to_be_bytes())])
            }
            Self::EpochApplied { manifest, council } => domain.digest(
                "EpochApplied(uint64 epoch,bytes32 manifest,bytes32 council)",
                &[epoch, manifest.0, council.0],
            ),
            Self::CancelRecovery { number, manifest, council } => domain.digest(
                "CancelRecovery(uint64 epoch,uint32 number,bytes32 manifest,bytes32 council)",
                &[epoch, word(&number.to_be_bytes()), manifest.0, council.0],
            ),
            Self::PoolExited { pool } => {
                domain.digest("PoolExited(uint64 epoch,uint32 pool)", &[epoch, word(&pool.to_be_bytes())])
            }
        }
    }
}

/// What is to be proved, in an epoch that the pool manager goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofRequest {
    /// The pool manager's epoch, which may be behind the enclaves'; of [`Provable::EpochApplied`] the one that follows.
    pub epoch: u64,
    /// Statement, and what an enclave needs to see that it is so.
    pub what: Provable,
}

/// What an enclave signs for a pool manager, with what it needs to see that it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Provable {
    /// This is a pool's deposit: its key is the one that the members agreed on, and the key has signed it.
    Deposit {
        /// The pool.
        pool: PoolId,
        /// To hand in.
        data: DepositData,
    },
    /// The DAO wants this pool's validator out, as the host has said ([`ChainEvent::ExitRequested`]).
    TriggerExit(PoolId),
    /// This epoch is one of those that this enclave has gone by.
    EpochApplied {
        /// To whom it is to be told.
        contract: Address,
        /// The epoch's.
        manifest: ManifestHash,
        /// [`Council::digest`] of it.
        council: Digest,
    },
    /// The enclaves are there: nobody has to be put in their place. Of a recovery that the host says somebody has proposed.
    CancelRecovery {
        /// Where.
        contract: Address,
        /// Which proposal.
        number: u32,
        /// The manifest that it wants.
        manifest: ManifestHash,
        /// [`Council::digest`] of that.
        council: Digest,
    },
    /// This pool's validator has left, as the host says by asking.
    PoolExited(PoolId),
}

impl Provable {
    /// The pool manager that is to take it.
    pub fn contract(&self) -> Address {
        match *self {
            Self::Deposit { pool, .. } | Self::TriggerExit(pool) | Self::PoolExited(pool) => pool.contract,
            Self::EpochApplied { contract, .. } | Self::CancelRecovery { contract, .. } => contract,
        }
    }

    /// What is signed.
    pub fn statement(&self) -> Statement {
        match *self {
            Self::Deposit { pool, data } => {
                Statement::Deposit { pool: pool.number, attempt: ATTEMPT, root: data.hash_tree_root() }
            }
            Self::TriggerExit(pool) => Statement::TriggerExit { pool: pool.number },
            Self::EpochApplied { manifest, council, .. } => Statement::EpochApplied { manifest, council },
            Self::CancelRecovery { number, manifest, council, .. } => {
                Statement::CancelRecovery { number, manifest, council }
            }
            Self::PoolExited(pool) => Statement::PoolExited { pool: pool.number },
        }
    }
}

/// Signatures of one digest by as many members as are wanted, as the contract reads them: a word in which each of them has a
/// bit, the lowest for member 1, then their signatures in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof(Vec<u8>);

/// Why bytes prove nothing.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not a bitmap and as many signatures as it has bits.
    #[error("a proof of {0} bytes")]
    Length(usize),
    /// Too few, or too many.
    #[error("{found} signatures where {wanted} are wanted")]
    Count {
        /// How many it takes.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// Nobody by that number.
    #[error("there is no {0}")]
    NoMember(MemberId),
    /// Not that member's signature.
    #[error("the signature of {0} is not its own")]
    Signature(MemberId),
}

impl Proof {
    /// Of the signatures that are there, the first that are theirs, if they are enough.
    pub fn collect(
        digest: &[u8; 32],
        accounts: &[Address],
        wanted: usize,
        signatures: &BTreeMap<MemberId, EthereumSignature>,
    ) -> Option<Self> {
        let good = signatures.iter().filter(|(member, signature)| {
            signer(accounts, **member).is_some_and(|signer| recover(digest, signature) == Ok(signer))
        });
        let chosen: Vec<(MemberId, EthereumSignature)> =
            good.take(wanted).map(|(member, signature)| (*member, *signature)).collect();
        (chosen.len() == wanted).then(|| Self::of(&chosen))
    }

    fn of(chosen: &[(MemberId, EthereumSignature)]) -> Self {
        let bitmap = chosen.iter().fold(0_u128, |bitmap, (member, _)| bitmap | bit(*member));
        let mut bytes = word(&bitmap.to_be_bytes()).to_vec();
        bytes.extend(chosen.iter().flat_map(|(_, signature)| signature.0));
        Self(bytes)
    }

    /// As the contract takes it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Who has signed, if these bytes prove something: as the contract judges it.
    pub fn verify(
        bytes: &[u8],
        digest: &[u8; 32],
        accounts: &[Address],
        wanted: usize,
    ) -> Result<Vec<MemberId>, ProofError> {
        let length = ProofError::Length(bytes.len());
        let (bitmap, signatures) = bytes.split_at_checked(BITMAP).ok_or(length)?;
        let members: Vec<MemberId> = bits(bitmap).collect();
        if members.len() != wanted {
            return Err(ProofError::Count { wanted, found: members.len() });
        }
        let (signatures, rest) = signatures.as_chunks::<SIGNATURE>();
        if signatures.len() != wanted || !rest.is_empty() {
            return Err(length);
        }
        for (member, signature) in members.iter().zip(signatures) {
            let account = signer(accounts, *member).ok_or(ProofError::NoMember(*member))?;
            if recover(digest, &EthereumSignature(*signature)) != Ok(account) {
                return Err(ProofError::Signature(*member));
            }
        }
        Ok(members)
    }
}

/// A deposit with the proof that it is the pool's: anybody can check it, knowing nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenDeposit {
    /// The manifest that the pool manager goes by, in canonical form.
    #[serde(with = "variable")]
    pub manifest: Vec<u8>,
    /// The pool.
    pub pool: PoolId,
    /// Which of the pool's keys it is of.
    pub attempt: u16,
    /// What the deposit contract takes.
    pub data: DepositData,
    /// As the pool manager takes it.
    #[serde(with = "variable")]
    pub proof: Vec<u8>,
}

/// Why a file does not prove a deposit.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvenDepositError {
    /// The manifest inside is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The pool is of another chain than the manifest's.
    #[error("{0} is of another chain than the manifest's")]
    Chain(PoolId),
    /// The stake would not come back to the pool.
    #[error("the withdrawal credentials are not those of the pool")]
    Credentials,
    /// Not what one validator takes.
    #[error("{0} Gwei where {VALIDATOR_STAKE_GWEI} are deposited")]
    Amount(u64),
    /// The beacon chain would drop it.
    #[error("the validator's key has not signed the deposit")]
    Unsigned,
    /// The enclaves have not signed it.
    #[error("the enclaves' proof: {0}")]
    Proof(#[from] ProofError),
}

impl ProvenDeposit {
    /// The manifest, and which of its members' enclaves have signed.
    pub fn verify(&self) -> Result<(Manifest, Vec<MemberId>), ProvenDepositError> {
        let manifest = Manifest::from_canonical(&self.manifest)?;
        let Self { pool, attempt, data, .. } = *self;
        let Contracts { pool_manager, pool_code, .. } = &manifest.contracts;
        if pool.chain != manifest.network.chain_id {
            return Err(ProvenDepositError::Chain(pool));
        }
        // Of a pool manager before this one, an earlier manifest says what pools are made by; the enclaves knew that one.
        let expected = WithdrawalCredentials::execution(pool.address(pool_code));
        if pool.contract == *pool_manager && data.message.withdrawal_credentials != expected {
            return Err(ProvenDepositError::Credentials);
        }
        if data.message.amount != VALIDATOR_STAKE_GWEI {
            return Err(ProvenDepositError::Amount(data.message.amount));
        }
        if !data.is_signed(manifest.network.genesis_fork_version) {
            return Err(ProvenDepositError::Unsigned);
        }
        let statement = Statement::Deposit { pool: pool.number, attempt, root: data.hash_tree_root() };
        let domain = Domain { chain_id: pool.chain, verifying_contract: pool.contract };
        let council = Council::of(&manifest);
        let digest = statement.digest(&domain, manifest.epoch);
        let signers = Proof::verify(&self.proof, &digest, &council.signers, council.quorum.into())?;
        Ok((manifest, signers))
    }
}

/// With which account a member signs, if any.
fn signer(accounts: &[Address], member: MemberId) -> Option<Address> {
    let account = *accounts.get(usize::from(member.0).checked_sub(1)?)?;
    (account != Address([0; 20])).then_some(account)
}

/// Ids count from 1 and there are at most 40 of them; the bitmap has 256 bits, of which 128 will do.
fn bit(member: MemberId) -> u128 {
    const _: () = assert!(MAX_MEMBERS <= 128);
    1_u128.checked_shl(u32::from(member.0).wrapping_sub(1)).unwrap_or_default()
}

/// The members whose bits are set, ascending.
fn bits(bitmap: &[u8]) -> impl Iterator<Item = MemberId> {
    let bytes = bitmap.iter().rev().zip(0_u16..);
    bytes.flat_map(|(byte, place)| {
        let set = (0_u16..8).filter(move |bit| byte >> bit & 1 == 1);
        set.map(move |bit| MemberId(place.saturating_mul(8).saturating_add(bit).saturating_add(1)))
    })
}
