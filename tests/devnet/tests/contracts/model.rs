//! What the sequences know of a pool, and their random numbers.

use crate::support::ETHER;
use alloy::primitives::U256;

pub const STAKERS: usize = 4;
pub const CAPACITY: u128 = 32 * ETHER;

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below the limit.
    pub fn below(&mut self, limit: u128) -> u128 {
        let wide = u128::from(self.next()) << 64 | u128::from(self.next());
        wide % limit
    }

    pub fn index(&mut self, limit: usize) -> usize {
        self.below(limit as u128) as usize
    }

    pub fn chance(&mut self, percent: u128) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())].clone()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Not full yet.
    #[default]
    None,
    Ready,
    Deposited,
    ExitRequested,
    Refunded,
}

#[derive(Debug, Clone, Default)]
pub struct PoolModel {
    pub status: Status,
    pub contributions: [u128; STAKERS],
    pub claimed: [u128; STAKERS],
    pub attempt: u16,
    pub ready_at: u64,
    pub exit_requested_at: Option<u64>,
    /// Everything that ever came to the pool's address.
    pub income: u128,
    pub key: Option<[u8; 48]>,
}

impl PoolModel {
    pub fn staked(&self) -> u128 {
        self.contributions.iter().sum()
    }

    pub fn paid(&self) -> u128 {
        self.claimed.iter().sum()
    }

    pub fn has_validator(&self) -> bool {
        matches!(self.status, Status::Deposited | Status::ExitRequested)
    }

    pub fn claimable(&self, staker: usize) -> u128 {
        if !self.has_validator() && self.status != Status::Refunded {
            return 0;
        }
        let share = U256::from(self.contributions[staker]) * U256::from(self.income) / U256::from(CAPACITY);
        share.to::<u128>() - self.claimed[staker]
    }
}
