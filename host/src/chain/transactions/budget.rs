//! What is left of the day's budget for fees. The clock decides only when something may be spent again, never whether it is safe.

use super::fees::FeeRules;
use super::{Displaced, TransactionRow};

/// How long what a transaction has cost counts, in seconds.
const DAY: u64 = 24 * 60 * 60;

/// What `own`, or a new row, may cost at most: the budget without what the others have cost within a day, or may cost, and without what
/// was signed for it under other nonces.
pub(super) fn left<'a>(
    rows: impl Iterator<Item = &'a TransactionRow>,
    own: Option<&TransactionRow>,
    now: u64,
    rules: &FeeRules,
) -> u128 {
    let others = rows.filter(|row| own.is_none_or(|own| row.key != own.key));
    let others = others.map(|row| counts(row, now).saturating_add(given_up(row, now)));
    let all = others.chain(own.map(|own| given_up(own, now))).fold(0, u128::saturating_add);
    rules.budget_per_day.saturating_sub(all)
}

/// Whether something that happened `at` a time still counts. If the clock was ahead then, it may lie ahead, by no more than a day.
pub(super) fn is_of_a_day(at: u64, now: u64) -> bool {
    at.abs_diff(now) < DAY
}

/// What was signed under nonces that were given up.
fn given_up(row: &TransactionRow, now: u64) -> u128 {
    let counted = row.displaced.iter().filter(|displaced| is_of_a_day(displaced.at, now));
    counted.map(Displaced::worst_case).fold(0, u128::saturating_add)
}

fn counts(row: &TransactionRow, now: u64) -> u128 {
    match row.conclusion {
        // A node could say that it was dearer than it can have been.
        Some(conclusion) if is_of_a_day(conclusion.at, now) => conclusion.cost.min(row.worst_case()),
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

    fn displaced(row: TransactionRow, at: u64, offers: &[u128]) -> TransactionRow {
        let versions = open("", offers).versions;
        TransactionRow { displaced: vec![Displaced { at, nonce: None, versions }], ..row }
    }

    #[test]
    fn what_was_given_up_is_kept_for_a_day() {
        let mut row = displaced(open("a", &[5]), NOW - 1, &[3]);
        row.displace(NOW);
        assert_eq!(row.displaced.iter().map(|displaced| displaced.at).collect::<Vec<_>>(), [NOW - 1, NOW]);
        row.displace(NOW + DAY - 1);
        assert_eq!(row.displaced.iter().map(|displaced| displaced.at).collect::<Vec<_>>(), [NOW]);
    }

    #[test]
    fn open_rows_count_with_their_worst_case_and_concluded_ones_with_their_cost_for_a_day() {
        let rules = FeeRules { budget_per_day: 1000, ..FeeRules::default() };
        let own = open("own", &[]);
        for (rows, left_over) in [
            (vec![], 1000),
            (vec![open("a", &[5, 9, 7])], 910),
            (vec![open("a", &[5]), open("own", &[50])], 950),
            (vec![concluded("a", NOW - 1, 30)], 970),
            (vec![concluded("a", NOW + 500, 30)], 970),
            (vec![concluded("a", NOW - DAY, 30)], 1000),
            // The clock was far ahead.
            (vec![concluded("a", NOW + DAY, 30)], 1000),
            (vec![concluded("a", NOW, 500)], 800),
            (vec![open("a", &[u128::MAX]), open("b", &[1])], 0),
            // What was signed under other nonces may be mined beside.
            (vec![displaced(open("a", &[5]), NOW - 1, &[3, 2])], 920),
            (vec![displaced(open("a", &[5]), NOW - DAY, &[3])], 950),
            (vec![displaced(concluded("a", NOW - DAY, 30), NOW, &[3])], 970),
        ] {
            assert_eq!(left(rows.iter(), Some(&own), NOW, &rules), left_over, "{rows:?}");
        }
        // Of the row itself what was signed under other nonces counts alone.
        let own = displaced(open("own", &[50]), NOW, &[7]);
        assert_eq!(left([&own].into_iter(), Some(&own), NOW, &rules), 930);
        assert_eq!(left([&own].into_iter(), None, NOW, &rules), 430);
    }
}
