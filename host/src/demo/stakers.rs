//! The stakers: bring the ether in at the beginning and take it out at the end.

use super::DemoError;
use super::account::{Account, Call, failed};
use crate::chain::profile::PoolManager;
use alloy::primitives::utils::format_ether;
use alloy::primitives::{Address, TxKind, U256, uint};
use alloy::sol_types::SolCall;
use postern_shared::ids::PoolId;
use serde::{Deserialize, Serialize};

/// One validator's stake, in wei.
pub(super) const POOL_CAPACITY: U256 = uint!(32_000_000_000_000_000_000_U256);
/// What each staker brings into each pool, in ether. Together they fill it.
pub(super) const SHARES: [u64; 2] = [20, 12];

/// Somebody who stakes, with an account of its own.
pub(super) struct Staker {
    account: Account,
    pool_manager: Address,
    share: U256,
}

/// What a staker brought into a pool and got out of it. Wei are text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StakerReport {
    /// Whose.
    pub address: postern_shared::ids::Address,
    /// What the pool manager noted when the ether came in.
    pub contribution_wei: String,
    /// What `claim` paid: the account's balance after it less that before, and the gas on top.
    pub claimed_wei: String,
}

impl Staker {
    pub(super) fn new(account: Account, pool_manager: Address, share: U256) -> Self {
        Self { account, pool_manager, share }
    }

    pub(super) fn address(&self) -> Address {
        self.account.address()
    }

    /// What it brings into each pool, in wei.
    pub(super) fn share(&self) -> U256 {
        self.share
    }

    /// Claims its part of a pool to which the beacon chain has paid this much, and checks what it gets, to the wei.
    pub(super) async fn claim(&self, pool: PoolId, paid: U256) -> Result<StakerReport, DemoError> {
        const WHAT: &str = "claiming";
        let manager = PoolManager::new(self.pool_manager, self.account.provider());
        let address = self.address();
        let contribution = manager.contributionOf(pool.number, address).call().await;
        let contribution = contribution.map_err(|error| failed(WHAT, error))?;
        let claimable = manager.claimable(pool.number, address).call().await;
        let claimable = claimable.map_err(|error| failed(WHAT, error))?;

        let before = self.account.balance(WHAT).await?;
        let call = PoolManager::claimCall { poolId: pool.number };
        let receipt = self.account.send(&self.call(WHAT, call, U256::ZERO)).await?;
        let gas = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
        let claimed = (self.account.balance(WHAT).await? + gas).saturating_sub(before);

        check(self.share, contribution, paid, claimable, claimed).map_err(|reason| DemoError::Unproved {
            what: format!("what {address} got of {pool}"),
            reason,
        })?;
        Ok(StakerReport {
            address: postern_shared::ids::Address(address.into_array()),
            contribution_wei: contribution.to_string(),
            claimed_wei: claimed.to_string(),
        })
    }

    fn call(&self, what: &'static str, call: impl SolCall, value: U256) -> Call {
        Call { what, to: TxKind::Call(self.pool_manager), input: call.abi_encode(), value }
    }
}

/// Stakes for this many pools, so that everybody has its share of each. All transactions are handed in before the first is
/// waited for: the pools' events then share a block. Of those that pay the same, a block takes first what came first.
pub(super) async fn stake(stakers: &[Staker], pools: u32) -> Result<(), DemoError> {
    const WHAT: &str = "staking";
    let mut queues = Vec::new();
    for staker in stakers {
        // Who fills a pool also makes its contract: enough gas for that.
        let whole = staker.call(WHAT, PoolManager::stakeCall {}, POOL_CAPACITY);
        let (gas, nonce) = (staker.account.gas(&whole).await?, staker.account.nonce(WHAT).await?);
        queues.push((staker, Call { value: staker.share, ..whole }, gas, nonce));
    }
    let mut waiting = Vec::new();
    for pool in 0..u64::from(pools) {
        for (staker, call, gas, nonce) in &queues {
            waiting.push((staker, staker.account.submit(call, nonce + pool, *gas).await?));
        }
    }
    for (staker, hash) in waiting {
        staker.account.mined(WHAT, hash).await?;
    }
    Ok(())
}

/// Whether a staker got what is its own: all of its contribution, and its part of what the pool was paid above that.
fn check(share: U256, contribution: U256, paid: U256, claimable: U256, claimed: U256) -> Result<(), String> {
    let require = |holds: bool, reason: String| if holds { Ok(()) } else { Err(reason) };
    require(contribution == share, format!("contributed {contribution} wei and not {share}"))?;
    let part = contribution * paid / POOL_CAPACITY;
    require(claimable == part, format!("could claim {claimable} wei, and its part is {part}"))?;
    require(claimed == claimable, format!("got {claimed} wei, and could claim {claimable}"))?;
    require(claimed >= contribution, format!("got {claimed} wei of {contribution} back"))
}

/// Ether in wei.
pub(super) fn wei(ether: u64) -> U256 {
    U256::from(ether) * uint!(1_000_000_000_000_000_000_U256)
}

/// Wei in ether, without zeros at the end.
pub(super) fn ether(wei: U256) -> String {
    format_ether(wei).trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_fill_a_pool() {
        assert_eq!(wei(SHARES.iter().sum()), POOL_CAPACITY);
    }

    #[test]
    fn a_staker_gets_its_contribution_and_its_part_of_the_rest() {
        let (share, more) = (wei(12), wei(40));
        check(share, share, POOL_CAPACITY, share, share).unwrap();
        check(share, share, more, wei(15), wei(15)).unwrap();
        let refused = |contribution, paid, claimable, claimed| {
            check(share, contribution, paid, claimable, claimed).unwrap_err()
        };
        assert!(refused(wei(13), POOL_CAPACITY, wei(13), wei(13)).starts_with("contributed"));
        assert!(refused(share, more, share, share).starts_with("could claim"));
        assert!(refused(share, more, wei(15), wei(15) - U256::ONE).ends_with(&format!("claim {}", wei(15))));
        assert!(refused(share, wei(24), wei(9), wei(9)).ends_with("back"));
    }

    #[test]
    fn ether_is_shown_without_needless_zeros() {
        assert_eq!(ether(wei(20)), "20");
        assert_eq!(ether(wei(12) + wei(1) / U256::from(4)), "12.25");
        assert_eq!(ether(U256::ZERO), "0");
    }
}
