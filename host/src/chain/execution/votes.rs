//! What several nodes' answers amount to.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Two epochs: a node whose finalised block is so many blocks behind another's stands still, or does not follow the chain.
const STANDSTILL: u64 = 64;

/// What other nodes' answers say about one node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More than half of all say what it says.
    Agreed,
    /// More than half say something that it does not.
    Contradicted,
    /// Neither.
    Split,
}

/// Everything that more than half of the answers contain.
pub(super) fn majority<T: Copy + Eq + Hash>(answers: &[HashSet<T>]) -> HashSet<T> {
    let counted = count(answers).into_iter();
    counted.filter(|(_, votes)| 2 * votes > answers.len()).map(|(item, _)| *item).collect()
}

/// Holds a node's answer against others'. A node that has not got what was asked about is none of the others: it has no vote.
pub(super) fn judge<T: Copy + Eq + Hash>(own: &HashSet<T>, others: &[HashSet<T>]) -> Verdict {
    let voters = others.len() + 1;
    let counted = count(others);
    let mut verdict = Verdict::Agreed;
    for item in own.iter().chain(counted.keys().copied()) {
        let for_it = counted.get(item).copied().unwrap_or_default() + usize::from(own.contains(item));
        let with_own = if own.contains(item) { for_it } else { voters - for_it };
        if 2 * with_own < voters {
            return Verdict::Contradicted;
        }
        if 2 * with_own == voters {
            verdict = Verdict::Split;
        }
    }
    verdict
}

fn count<T: Eq + Hash>(answers: &[HashSet<T>]) -> HashMap<&T, usize> {
    let mut counted = HashMap::new();
    for item in answers.iter().flatten() {
        *counted.entry(item).or_default() += 1;
    }
    counted
}

/// The newest block that more than half of the nodes have finalised. Half of them are enough if the others are so far behind
/// that they stand still: else one of two nodes could hold everything up.
pub(super) fn finalised_by_most(mut blocks: Vec<u64>) -> Option<u64> {
    blocks.sort_unstable_by(|left, right| right.cmp(left));
    let by_most = *blocks.get(blocks.len() / 2)?;
    let by_half = blocks.len().is_multiple_of(2).then(|| blocks.get(blocks.len() / 2 - 1).copied()).flatten();
    Some(by_half.filter(|block| block.saturating_sub(by_most) > STANDSTILL).unwrap_or(by_most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(answers: &[&[u8]]) -> Vec<HashSet<u8>> {
        answers.iter().map(|answer| answer.iter().copied().collect()).collect()
    }

    #[test]
    fn an_answer_stands_if_more_than_half_of_all_say_the_same() {
        for (own, others, verdict) in [
            (&[1][..], &[][..], Verdict::Agreed),
            (&[], &[], Verdict::Agreed),
            (&[1], &[&[1][..]], Verdict::Agreed),
            // A log that only one node shows.
            (&[1], &[&[]], Verdict::Split),
            (&[1], &[&[], &[]], Verdict::Contradicted),
            (&[1, 2], &[&[1], &[1]], Verdict::Contradicted),
            (&[1], &[&[1], &[]], Verdict::Agreed),
            // A log that one node leaves out.
            (&[], &[&[1]], Verdict::Split),
            (&[1], &[&[1, 2], &[1, 2]], Verdict::Contradicted),
            (&[1], &[&[1, 2], &[1]], Verdict::Agreed),
            // Another block.
            (&[1], &[&[2]], Verdict::Split),
            (&[1], &[&[2], &[1]], Verdict::Agreed),
            (&[1], &[&[2], &[2]], Verdict::Contradicted),
            (&[1], &[&[2], &[3]], Verdict::Contradicted),
        ] {
            let own = own.iter().copied().collect();
            assert_eq!(judge(&own, &sets(others)), verdict, "{own:?} {others:?}");
        }
    }

    #[test]
    fn what_more_than_half_of_the_answers_contain_counts() {
        for (answers, expected) in [
            (&[][..], &[][..]),
            (&[&[1][..]], &[1]),
            (&[&[1], &[]], &[]),
            (&[&[1, 2], &[1], &[2]], &[1, 2]),
            (&[&[1, 2], &[1], &[]], &[1]),
            (&[&[9], &[1], &[1]], &[1]),
        ] {
            assert_eq!(majority(&sets(answers)), expected.iter().copied().collect());
        }
    }

    #[test]
    fn a_block_is_final_once_more_than_half_of_the_nodes_say_so() {
        for (blocks, expected) in [
            (vec![], None),
            (vec![7], Some(7)),
            // One that runs ahead convinces nobody, one that stands still stops nobody.
            (vec![900, 7, 8], Some(8)),
            (vec![9, 0, 8], Some(8)),
            (vec![39, 7], Some(7)),
            (vec![900, 7], Some(900)),
            (vec![900, 900, 7, 7], Some(900)),
            (vec![900, 8, 7, 7], Some(7)),
        ] {
            assert_eq!(finalised_by_most(blocks.clone()), expected, "{blocks:?}");
        }
    }
}
