//! What transactions may cost: the rules, the market, and how an offer follows it.

/// A node replaces a transaction by one that offers a tenth more; Postern offers an eighth, so that rounding does not matter.
const BUMP_DIVISOR: u128 = 8;

/// What transactions may cost. All in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeRules {
    /// Never offer more than this for a unit of gas.
    pub max_fee_per_gas: u128,
    /// Never offer the block's maker more than this for a unit of gas.
    pub max_priority_fee_per_gas: u128,
    /// Offer the block's maker at least this for a unit of gas.
    pub min_priority_fee_per_gas: u128,
    /// Blocks to wait for a version to be mined before anything is done about it.
    pub raise_after_blocks: u64,
    /// What concluded transactions of the last day have cost and open ones may cost stays within this.
    pub budget_per_day: u128,
}

impl Default for FeeRules {
    fn default() -> Self {
        Self {
            max_fee_per_gas: 200_000_000_000,
            max_priority_fee_per_gas: 5_000_000_000,
            min_priority_fee_per_gas: 100_000_000,
            raise_after_blocks: 5,
            budget_per_day: 100_000_000_000_000_000,
        }
    }
}

/// What a version offers, in wei for each gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fees {
    /// At most, all together.
    pub(super) max: u128,
    /// To the block's maker.
    pub(super) priority: u128,
}

/// What it takes now to be mined, in wei for each gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Market {
    /// What the next block burns.
    pub(super) base: u128,
    /// What blocks' makers get, as the middle one of what was paid.
    pub(super) priority: u128,
}

impl Market {
    /// Of the base fee for the next block and what was paid to the makers of the last ones.
    pub(super) fn new(base: u128, rewards: &[u128]) -> Self {
        Self { base, priority: median(rewards.to_vec()).unwrap_or_default() }
    }

    /// The middle one of what several nodes say.
    pub(super) fn middle(markets: &[Self]) -> Option<Self> {
        let base = median(markets.iter().map(|market| market.base).collect())?;
        let priority = median(markets.iter().map(|market| market.priority).collect())?;
        Some(Self { base, priority })
    }

    /// An offer for the next blocks, within the limits: the base fee may double before it fails.
    pub(super) fn offer(&self, rules: &FeeRules) -> Fees {
        let priority = self.priority.max(rules.min_priority_fee_per_gas);
        let max = self.base.saturating_mul(2).saturating_add(priority);
        Fees { max, priority }.within(rules)
    }
}

impl Fees {
    fn within(self, rules: &FeeRules) -> Self {
        let max = self.max.min(rules.max_fee_per_gas);
        Self { max, priority: self.priority.min(rules.max_priority_fee_per_gas).min(max) }
    }

    /// The least that replaces it at nodes.
    pub(super) fn bumped(self) -> Self {
        let bump = |fee: u128| fee.saturating_add(fee.div_ceil(BUMP_DIVISOR).max(1));
        Self { max: bump(self.max), priority: bump(self.priority) }
    }

    /// Whether the next block's maker would get what others pay, within the limits.
    pub(super) fn reaches(self, market: &Market, rules: &FeeRules) -> bool {
        let offered = self.max.saturating_sub(market.base).min(self.priority);
        self.max > market.base && offered >= market.offer(rules).priority
    }

    /// What replaces it and is at least `market`; `None` if the limits leave no room for that.
    pub(super) fn raised(self, market: Self, rules: &FeeRules) -> Option<Self> {
        let least = self.bumped();
        let wanted = Self { max: least.max.max(market.max), priority: least.priority.max(market.priority) };
        let found = wanted.within(rules);
        (found.max >= least.max && found.priority >= least.priority).then_some(found)
    }

    /// What a transaction costs if it uses all of its gas at the highest price.
    pub(super) fn worst_case(self, gas_limit: u64) -> u128 {
        self.max.saturating_mul(gas_limit.into())
    }
}

/// The middle one; of two, the lower one.
fn median(mut values: Vec<u128>) -> Option<u128> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: FeeRules = FeeRules {
        max_fee_per_gas: 1000,
        max_priority_fee_per_gas: 50,
        min_priority_fee_per_gas: 2,
        raise_after_blocks: 5,
        budget_per_day: u128::MAX,
    };

    #[test]
    fn an_offer_survives_a_doubled_base_fee_and_keeps_the_limits() {
        for (base, rewards, max, priority) in [
            (100, &[9, 1, 5][..], 205, 5),
            (100, &[], 202, 2),
            (100, &[80], 280, 50),
            (600, &[5], 1000, 5),
            (u128::MAX, &[u128::MAX], 1000, 50),
        ] {
            assert_eq!(
                Market::new(base, rewards).offer(&RULES),
                Fees { max, priority },
                "{base} {rewards:?}"
            );
        }
    }

    #[test]
    fn one_node_that_lies_does_not_make_the_market() {
        let market = |base, priority| Market { base, priority };
        let said = [market(u128::MAX, 3), market(100, u128::MAX), market(101, 2)];
        assert_eq!(Market::middle(&said), Some(market(101, 3)));
        assert_eq!(Market::middle(&said[2..]), Some(market(101, 2)));
        assert_eq!(Market::middle(&said[..2]), Some(market(100, 3)), "of two, the lower one");
        assert_eq!(Market::middle(&[]), None);
    }

    #[test]
    fn a_replacement_offers_an_eighth_more_or_the_market() {
        let fees = |max, priority| Fees { max, priority };
        for (old, market, raised) in [
            (fees(100, 3), fees(50, 2), Some(fees(113, 4))),
            (fees(100, 3), fees(400, 9), Some(fees(400, 9))),
            (fees(0, 0), fees(50, 2), Some(fees(50, 2))),
            (fees(950, 3), fees(50, 2), None),
            (fees(100, 49), fees(50, 2), None),
            (fees(880, 40), fees(2000, 90), Some(fees(1000, 50))),
        ] {
            assert_eq!(old.raised(market, &RULES), raised, "{old:?} {market:?}");
        }
    }

    #[test]
    fn an_offer_reaches_the_market_if_the_next_block_s_maker_gets_as_much_as_of_others() {
        let market = Market { base: 100, priority: 5 };
        for (max, priority, reaches) in
            [(105, 5, true), (104, 5, false), (900, 4, false), (100, 100, false), (50, 50, false)]
        {
            assert_eq!(Fees { max, priority }.reaches(&market, &RULES), reaches, "{max} {priority}");
        }
        // What is above the limits can't be reached, and is not wanted.
        let dear = Market { base: 100, priority: 500 };
        assert!(Fees { max: 150, priority: 50 }.reaches(&dear, &RULES));
    }
}
