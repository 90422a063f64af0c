//! Proofs with one thing wrong.

use crate::support::PoolManager;
use crate::support::dao::{Dao, Key, Place, encode, key, prove, sign};
use alloy::primitives::{Address, B256, Bytes, U256, uint};
use alloy::sol_types::SolError as _;

const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

/// Who may sign a statement, and who would like to.
#[derive(Debug, Clone)]
pub struct Signers {
    pub members: Vec<Option<Key>>,
    pub wanted: usize,
    /// The members' keys of the other kind: wallets in place of enclaves, or the other way round.
    pub others: Vec<Option<Key>>,
    /// A member and a key that it had before.
    pub retired: Option<(usize, Key)>,
}

impl Signers {
    pub fn enclaves(dao: &Dao, retired: Option<(usize, Key)>) -> Self {
        let wallets = dao.wallets.iter().cloned().map(Some).collect();
        Self { members: dao.enclaves.clone(), wanted: dao.quorum.into(), others: wallets, retired }
    }

    pub fn wallets(dao: &Dao) -> Self {
        let wallets = dao.wallets.iter().cloned().map(Some).collect();
        let wanted = dao.wallet_quorum.into();
        Self { members: wallets, wanted, others: dao.enclaves.clone(), retired: None }
    }

    pub fn able(&self) -> Vec<(usize, Key)> {
        named(&self.members)
    }

    pub fn right(&self, digest: B256) -> Bytes {
        prove(digest, &self.able()[..self.wanted])
    }
}

fn named(members: &[Option<Key>]) -> Vec<(usize, Key)> {
    members.iter().enumerate().filter_map(|(index, key)| Some((index, key.clone()?))).collect()
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    Empty,
    NoBits,
    TooFew,
    TooMany,
    Missing,
    ExtraBit,
    Trailing,
    DoubledOneBit,
    DoubledTwoBits,
    Reordered,
    ByStranger,
    BeyondMembers,
    HighS,
    V0,
    V29,
    Zeros,
    UnnamedMember,
    Retired,
    OtherKeys,
    OtherPool,
    OtherAttempt,
    PastEpoch,
    LaterEpoch,
    OtherChain,
    OtherManager,
}

impl Flaw {
    pub const ALL: [Self; 25] = [
        Self::Empty,
        Self::NoBits,
        Self::TooFew,
        Self::TooMany,
        Self::Missing,
        Self::ExtraBit,
        Self::Trailing,
        Self::DoubledOneBit,
        Self::DoubledTwoBits,
        Self::Reordered,
        Self::ByStranger,
        Self::BeyondMembers,
        Self::HighS,
        Self::V0,
        Self::V29,
        Self::Zeros,
        Self::UnnamedMember,
        Self::Retired,
        Self::OtherKeys,
        Self::OtherPool,
        Self::OtherAttempt,
        Self::PastEpoch,
        Self::LaterEpoch,
        Self::OtherChain,
        Self::OtherManager,
    ];

    /// The error that refuses it.
    pub fn error(self) -> [u8; 4] {
        match self {
            Self::Empty | Self::TooFew | Self::TooMany | Self::Missing | Self::Trailing => {
                PoolManager::ProofLength::SELECTOR
            }
            Self::NoBits | Self::ExtraBit | Self::DoubledOneBit => PoolManager::ProofSignerCount::SELECTOR,
            Self::BeyondMembers => PoolManager::ProofBeyondMembers::SELECTOR,
            _ => PoolManager::ProofSignature::SELECTOR,
        }
    }

    /// A proof with this flaw, if these members can make one.
    pub fn make(self, signers: &Signers, place: Place, digest: &dyn Fn(&Place) -> B256) -> Option<Bytes> {
        let right = digest(&place);
        let able = signers.able();
        let chosen = &able[..signers.wanted];
        let bits = chosen.iter().fold(0, |bits, (index, _)| bits | 1u128 << index);
        let signatures: Vec<[u8; 65]> = chosen.iter().map(|(_, key)| sign(key, right)).collect();
        // One signature in another form; members take turns.
        let changed = |change: &dyn Fn(&mut [u8; 65])| {
            let mut signatures = signatures.clone();
            let turn = usize::from(right[0]) % signatures.len();
            change(&mut signatures[turn]);
            Some(encode(bits, signatures))
        };
        // The right members sign something else.
        let elsewhere = |other: Place| {
            let digest = digest(&other);
            (digest != right).then(|| signers.right(digest))
        };
        match self {
            Self::Empty => Some(Bytes::new()),
            Self::NoBits => Some(encode(0, signatures)),
            Self::TooFew => Some(prove(right, &able[..signers.wanted - 1])),
            Self::TooMany => Some(prove(right, able.get(..=signers.wanted)?)),
            Self::Missing => Some(encode(bits, signatures[1..].to_vec())),
            Self::ExtraBit => Some(encode(bits | 1 << able.get(signers.wanted)?.0, signatures)),
            Self::Trailing => Some([&encode(bits, signatures)[..], &[0]].concat().into()),
            Self::DoubledOneBit => {
                let mut doubled = signatures.clone();
                doubled[1] = doubled[0];
                Some(encode(bits & !(1 << chosen[1].0), doubled))
            }
            Self::DoubledTwoBits => {
                let mut doubled = signatures.clone();
                doubled[1] = doubled[0];
                Some(encode(bits, doubled))
            }
            Self::Reordered => {
                let mut reordered = signatures.clone();
                reordered.swap(0, 1);
                Some(encode(bits, reordered))
            }
            Self::ByStranger => changed(&|signature| *signature = sign(&key(9_999), right)),
            Self::BeyondMembers => {
                let bits = (bits & !(1 << chosen[0].0)) | 1 << signers.members.len();
                Some(encode(bits, [&signatures[1..], &[sign(&key(9_999), right)]].concat()))
            }
            Self::HighS => changed(&|signature| {
                let high = ORDER - U256::from_be_slice(&signature[32..64]);
                signature[32..64].copy_from_slice(&high.to_be_bytes::<32>());
                signature[64] = 55 - signature[64];
            }),
            Self::V0 => changed(&|signature| signature[64] -= 27),
            Self::V29 => changed(&|signature| signature[64] += 2),
            Self::Zeros => changed(&|signature| *signature = [0; 65]),
            Self::UnnamedMember => {
                let unnamed = signers.members.iter().position(Option::is_none)?;
                let mut members = chosen[1..].to_vec();
                members.push((unnamed, key(9_999)));
                members.sort_by_key(|(index, _)| *index);
                let bits = members.iter().fold(0, |bits, (index, _)| bits | 1u128 << index);
                let signature = |(index, key): &(usize, Key)| match *index == unnamed {
                    // Recovery fails, which gives the address that unnamed members have.
                    true => [[0; 64].as_slice(), &[27]].concat().try_into().unwrap(),
                    false => sign(key, right),
                };
                Some(encode(bits, members.iter().map(signature)))
            }
            Self::Retired => {
                let (member, old) = signers.retired.clone()?;
                let mut members: Vec<_> = able.into_iter().filter(|(index, _)| *index != member).collect();
                members.truncate(signers.wanted - 1);
                members.push((member, old));
                members.sort_by_key(|(index, _)| *index);
                Some(prove(right, &members))
            }
            Self::OtherKeys => Some(prove(right, named(&signers.others).get(..signers.wanted)?)),
            Self::OtherPool => elsewhere(Place { pool: place.pool + 1, ..place }),
            Self::OtherAttempt => elsewhere(Place { attempt: place.attempt + 1, ..place }),
            Self::PastEpoch => elsewhere(Place { epoch: place.epoch.checked_sub(1)?, ..place }),
            Self::LaterEpoch => elsewhere(Place { epoch: place.epoch + 1, ..place }),
            Self::OtherChain => elsewhere(Place { chain_id: place.chain_id + 1, ..place }),
            Self::OtherManager => elsewhere(Place { manager: Address::repeat_byte(9), ..place }),
        }
    }
}
