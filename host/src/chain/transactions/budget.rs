//! What is left of the day's budget for fees. The clock decides only when something may be spent again, never whether it is safe.

use super::TransactionRow;
use super::fees::FeeRules;

/// How long what a transaction has cost counts, in seconds.
const DAY: u64 = 24 * 60 * 60;

/// What the row with the key `except`, or a new one, may cost at most: the budget without what the others have cost within a day, or
/// may cost.
pub(super) fn left<'a>(
    rows: impl Iterator<Item = &'a TransactionRow>,
    except: &str,
    now: u64,
    rules: &FeeRules,
) -> u128 {
    let others = rows.filter(|row| row.key != except).map(|row| counts(row, now));
    rules.budget_per_day.saturating_sub(others.fold(0, u128::saturating_add))
}

fn counts(row: &TransactionRow, now: u64) -> u128 {
    match row.conclusion {
        // A node could say that it was dearer than it can have been.
        Some(conclusion) if now.saturating_sub(conclusion.at) < DAY => conclusion.cost.min(row.worst_case()),
        None if !row.state.is_final() => row.worst_case(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Conclusion, SignedVersion, TransactionState, Why};
    use super::*;
    use postern_shared::ids::{Address, Digest};

    const NOW: u64 = 1_000_000;

    fn open(key: &str, offers: &[u128]) -> TransactionRow {
        let version = |max_fee_per_gas: &u128| SignedVersion {
            hash: Digest([1; 32]),
            raw: vec![],
            gas_limit: 10,
            max_fee_per_gas: *max_fee_per_gas,
            max_priority_fee_per_gas: 1,
            sent_at_block: None,
            why: Why::First,
            cancels: false,
        };
        let versions = offers.iter().map(version).collect();
        TransactionRow { versions, ..TransactionRow::new(key, Address([3; 20]), vec![], 0) }
    }

    fn concluded(key: &str, at: u64, cost: u128) -> TransactionRow {
        let state = TransactionState::Mined { hash: Digest([1; 32]), block: 1 };
        TransactionRow { state, conclusion: Some(Conclusion { at, gas_used: 1, cost }), ..open(key, &[20]) }
    }

    #[test]
    fn open_rows_count_with_their_worst_case_and_concluded_ones_with_their_cost_for_a_day() {
        let rules = FeeRules { budget_per_day: 1000, ..FeeRules::default() };
        for (rows, left_over) in [
            (vec![], 1000),
            (vec![open("a", &[5, 9, 7])], 910),
            (vec![open("a", &[5]), open("own", &[50])], 950),
            (vec![concluded("a", NOW - 1, 30)], 970),
            (vec![concluded("a", NOW + 500, 30)], 970),
            (vec![concluded("a", NOW - DAY, 30)], 1000),
            (vec![concluded("a", NOW, 500)], 800),
            (vec![open("a", &[u128::MAX]), open("b", &[1])], 0),
        ] {
            assert_eq!(left(rows.iter(), "own", NOW, &rules), left_over, "{rows:?}");
        }
    }
}
