//! What to do next with a transaction: a function of its row and of what the chain shows. No I/O.

use super::{FeeRules, TransactionRow};
use postern_shared::ids::Digest;

/// What the chain shows of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    /// The head's number.
    pub(super) head: u64,
    /// The newest finalised block's number.
    pub(super) finalised: u64,
    /// Of whichever version was mined.
    pub(super) receipt: Option<Receipt>,
    /// For how many blocks the wallet's finalised nonce has been above the row's; `None` when it is not.
    pub(super) displaced_for: Option<u64>,
    /// Whether this process has sent the newest version.
    pub(super) sent_by_us: bool,
}

/// Of a mined version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Which version.
    pub(super) hash: Digest,
    /// The block's number.
    pub(super) block: u64,
    /// Whether the call succeeded.
    pub(super) success: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    Wait,
    /// Send the newest version, again or for the first time.
    Send,
    /// Sign and send a version with higher fees, same nonce.
    Raise,
    /// Another transaction of the wallet took the nonce for good: sign again under a new one.
    Renumber,
    /// It is final.
    Conclude(Receipt),
}

/// What a version offers, in wei for each gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fees {
    /// At most, all together.
    pub(super) max: u128,
    /// To the block's maker.
    pub(super) priority: u128,
}

/// See the module.
pub(super) fn decide(row: &TransactionRow, seen: &Observation, rules: &FeeRules) -> Action {
    if row.state.is_final() {
        return Action::Wait;
    }
    if let Some(receipt) = seen.receipt {
        return if receipt.block <= seen.finalised { Action::Conclude(receipt) } else { Action::Wait };
    }
    if let Some(blocks) = seen.displaced_for {
        // Behind one address there may be several nodes, one of them ahead: renumbering too early would call twice.
        return if blocks >= rules.raise_after_blocks { Action::Renumber } else { Action::Wait };
    }
    let Some(newest) = row.versions.last() else { return Action::Renumber };
    match newest.sent_at_block {
        None => Action::Send,
        Some(_) if !seen.sent_by_us => Action::Send,
        Some(block) if seen.head.saturating_sub(block) < rules.raise_after_blocks => Action::Wait,
        Some(_) if newest.max_fee_per_gas >= rules.max_fee_per_gas => Action::Send,
        Some(_) => Action::Raise,
    }
}

/// Fees for the next block: the base fee may double before the offer fails.
pub(super) fn market_fees(base_fee: u128, rewards: &[u128], rules: &FeeRules) -> Fees {
    let mut rewards = rewards.to_vec();
    rewards.sort_unstable();
    let median = rewards.get(rewards.len() / 2).copied().unwrap_or_default();
    let priority = median.max(rules.min_priority_fee_per_gas).min(rules.max_fee_per_gas);
    let max = base_fee.saturating_mul(2).saturating_add(priority).min(rules.max_fee_per_gas);
    Fees { max, priority: priority.min(max) }
}

/// Fees that replace others: both up by an eighth at least, which is what nodes ask for (10 %) and some. `None` when
/// the rules' limit leaves no room for that.
pub(super) fn raised_fees(old: Fees, market: Fees, rules: &FeeRules) -> Option<Fees> {
    let raise = |fee: u128| fee.saturating_add(fee.div_ceil(8)).max(fee.saturating_add(1));
    let max = raise(old.max).max(market.max);
    let priority = raise(old.priority).max(market.priority);
    let capped = max.min(rules.max_fee_per_gas);
    (capped >= raise(old.max)).then_some(Fees { max: capped, priority: priority.min(capped) })
}

#[cfg(test)]
mod tests {
    use super::super::{SignedVersion, TransactionState};
    use super::*;
    use postern_shared::ids::Address;

    const RULES: FeeRules =
        FeeRules { raise_after_blocks: 5, max_fee_per_gas: 1000, min_priority_fee_per_gas: 2 };
    const SEEN: Observation =
        Observation { head: 100, finalised: 90, receipt: None, displaced_for: None, sent_by_us: true };

    fn row(sent_at_block: Option<u64>, max_fee_per_gas: u128) -> TransactionRow {
        let version = SignedVersion {
            hash: Digest([1; 32]),
            raw: vec![2],
            gas_limit: 21_000,
            max_fee_per_gas,
            max_priority_fee_per_gas: 1,
            sent_at_block,
        };
        let state = if sent_at_block.is_some() { TransactionState::Sent } else { TransactionState::Prepared };
        let (key, to) = ("key".to_owned(), Address([3; 20]));
        TransactionRow { key, to, calldata: vec![], nonce: 4, versions: vec![version], state }
    }

    #[test]
    fn a_prepared_transaction_is_sent() {
        assert_eq!(decide(&row(None, 10), &SEEN, &RULES), Action::Send);
    }

    #[test]
    fn after_a_restart_the_same_bytes_are_sent_again() {
        let seen = Observation { sent_by_us: false, ..SEEN };
        assert_eq!(decide(&row(Some(100), 10), &seen, &RULES), Action::Send);
    }

    #[test]
    fn patience_ends_after_the_configured_blocks() {
        assert_eq!(decide(&row(Some(96), 10), &SEEN, &RULES), Action::Wait);
        assert_eq!(decide(&row(Some(95), 10), &SEEN, &RULES), Action::Raise);
        assert_eq!(decide(&row(Some(95), 1000), &SEEN, &RULES), Action::Send, "no fee above the limit");
        assert_eq!(decide(&row(Some(200), 10), &SEEN, &RULES), Action::Wait, "the node went back");
    }

    #[test]
    fn only_a_finalised_receipt_concludes() {
        let receipt = |block| Receipt { hash: Digest([1; 32]), block, success: true };
        let at = |block| Observation { receipt: Some(receipt(block)), ..SEEN };
        assert_eq!(decide(&row(Some(1), 10), &at(91), &RULES), Action::Wait);
        assert_eq!(decide(&row(Some(1), 10), &at(90), &RULES), Action::Conclude(receipt(90)));
        let both = Observation { displaced_for: Some(9), ..at(90) };
        assert_eq!(decide(&row(Some(1), 10), &both, &RULES), Action::Conclude(receipt(90)));
    }

    #[test]
    fn a_lost_nonce_is_given_up_only_after_patience() {
        let after = |blocks| Observation { displaced_for: Some(blocks), ..SEEN };
        assert_eq!(decide(&row(Some(1), 10), &after(4), &RULES), Action::Wait);
        assert_eq!(decide(&row(Some(1), 10), &after(5), &RULES), Action::Renumber);
    }

    #[test]
    fn a_final_transaction_is_left_alone() {
        let state = TransactionState::Mined { hash: Digest([1; 32]), block: 5 };
        let done = TransactionRow { state, ..row(Some(1), 10) };
        assert_eq!(decide(&done, &SEEN, &RULES), Action::Wait);
    }

    #[test]
    fn market_fees_survive_a_doubled_base_fee_and_keep_the_limit() {
        assert_eq!(market_fees(100, &[9, 1, 5], &RULES), Fees { max: 205, priority: 5 });
        assert_eq!(market_fees(100, &[], &RULES), Fees { max: 202, priority: 2 });
        assert_eq!(market_fees(u128::MAX, &[u128::MAX], &RULES), Fees { max: 1000, priority: 1000 });
    }

    #[test]
    fn a_replacement_offers_an_eighth_more_or_the_market() {
        let old = Fees { max: 100, priority: 3 };
        let cheap = Fees { max: 50, priority: 1 };
        assert_eq!(raised_fees(old, cheap, &RULES), Some(Fees { max: 113, priority: 4 }));
        assert_eq!(
            raised_fees(old, Fees { max: 400, priority: 9 }, &RULES),
            Some(Fees { max: 400, priority: 9 })
        );
        assert_eq!(raised_fees(Fees { max: 950, priority: 3 }, cheap, &RULES), None);
        assert_eq!(
            raised_fees(Fees { max: 0, priority: 0 }, cheap, &RULES),
            Some(Fees { max: 50, priority: 1 })
        );
    }
}
