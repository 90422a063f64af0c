//! What several nodes' answers amount to.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// What other nodes' answers say about one node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More than half of those that have a vote say what it says, and they are at least half of the configured nodes.
    Agreed,
    /// More than half say something that it does not.
    Contradicted,
    /// Neither.
    Split,
    /// All that can be asked say the same, but so few are fewer than half of the configured nodes.
    TooFew {
        /// How many there are.
        agreed: usize,
    },
}

impl Verdict {
    /// Whether it is clear who is right: more votes are not needed.
    pub(super) fn is_settled(self) -> bool {
        matches!(self, Self::Agreed | Self::Contradicted)
    }
}

/// Everything that more than half of those with a vote show, and at least half of the configured nodes. For `silent` see [`judge`].
pub(super) fn majority<T: Copy + Eq + Hash>(
    answers: &[HashSet<T>],
    silent: usize,
    configured: usize,
) -> HashSet<T> {
    let needed = |votes: usize| 2 * votes > answers.len() + silent && 2 * votes >= configured;
    count(answers).into_iter().filter(|(_, votes)| needed(*votes)).map(|(item, _)| *item).collect()
}

/// Holds a node's answer against others'. `silent` nodes answer, but have not got what was asked about yet: their votes are wanted.
pub(super) fn judge<T: Copy + Eq + Hash>(
    own: &HashSet<T>,
    others: &[impl Borrow<HashSet<T>>],
    silent: usize,
    configured: usize,
) -> Verdict {
    let answered = others.len() + 1;
    let voters = answered + silent;
    let counted = count(others);
    // Of each thing that anybody shows: who shows it as the node does, or leaves it out as the node does.
    let agreed = own.iter().chain(counted.keys().copied()).map(|item| {
        let others = counted.get(item).copied().unwrap_or_default();
        if own.contains(item) { others + 1 } else { answered - others }
    });
    let agreed = agreed.min().unwrap_or(answered);
    if 2 * (answered - agreed) > voters {
        Verdict::Contradicted
    } else if 2 * agreed <= voters {
        Verdict::Split
    } else if 2 * agreed < configured {
        Verdict::TooFew { agreed }
    } else {
        Verdict::Agreed
    }
}

fn count<T: Eq + Hash>(answers: &[impl Borrow<HashSet<T>>]) -> HashMap<&T, usize> {
    let mut counted = HashMap::new();
    for item in answers.iter().flat_map(Borrow::borrow) {
        *counted.entry(item).or_default() += 1;
    }
    counted
}

/// How far more than half of these nodes have come, of two the one that is behind; and how many of them have.
pub(crate) fn reached_by_most(mut reached: Vec<u64>) -> Option<(u64, usize)> {
    reached.sort_unstable_by(|left, right| right.cmp(left));
    let by_most = *reached.get(reached.len() / 2)?;
    Some((by_most, reached.iter().filter(|number| **number >= by_most).count()))
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
            assert_eq!(judge(&own, &sets(others), 0, others.len() + 1), verdict, "{own:?} {others:?}");
        }
    }

    #[test]
    fn the_vote_of_a_node_that_has_nothing_yet_is_waited_for_and_half_of_all_nodes_are_needed() {
        let too_few = |agreed| Verdict::TooFew { agreed };
        for (others, silent, configured, verdict) in [
            (&[][..], 1, 2, Verdict::Split),
            (&[], 2, 3, Verdict::Split),
            (&[&[1][..]], 1, 3, Verdict::Agreed),
            (&[&[2]], 1, 3, Verdict::Split),
            (&[&[2], &[2]], 1, 4, Verdict::Split),
            (&[&[2], &[2], &[2]], 1, 5, Verdict::Contradicted),
            // The others are down.
            (&[], 0, 1, Verdict::Agreed),
            (&[], 0, 2, Verdict::Agreed),
            (&[], 0, 3, too_few(1)),
            (&[&[1]], 0, 4, Verdict::Agreed),
            (&[&[1]], 0, 5, too_few(2)),
            (&[&[2]], 0, 5, Verdict::Split),
        ] {
            let found = judge(&HashSet::from([1]), &sets(others), silent, configured);
            assert_eq!(found, verdict, "{others:?}, {silent} of {configured}");
        }
    }

    #[test]
    fn what_more_than_half_of_the_answers_contain_counts() {
        for (answers, silent, configured, expected) in [
            (&[][..], 0, 1, &[][..]),
            (&[&[1][..]], 0, 1, &[1]),
            (&[&[1]], 0, 2, &[1]),
            (&[&[1]], 1, 2, &[]),
            (&[&[1]], 0, 3, &[]),
            (&[&[1], &[1]], 1, 3, &[1]),
            (&[&[1], &[]], 0, 2, &[]),
            (&[&[1, 2], &[1], &[2]], 0, 3, &[1, 2]),
            (&[&[1, 2], &[1], &[]], 0, 3, &[1]),
            (&[&[9], &[1], &[1]], 0, 3, &[1]),
        ] {
            let found = majority(&sets(answers), silent, configured);
            assert_eq!(found, expected.iter().copied().collect(), "{answers:?}, {silent} of {configured}");
        }
    }

    #[test]
    fn a_block_is_final_once_more_than_half_of_the_nodes_say_so() {
        for (blocks, expected) in [
            (vec![], None),
            (vec![7], Some((7, 1))),
            // One that runs ahead convinces nobody, of however many.
            (vec![900, 7, 8], Some((8, 2))),
            (vec![9, 0, 8], Some((8, 2))),
            (vec![39, 7], Some((7, 2))),
            (vec![900, 7], Some((7, 2))),
            (vec![7, 900], Some((7, 2))),
            (vec![900, 900, 7, 7], Some((7, 4))),
            (vec![900, 8, 7, 7], Some((7, 4))),
        ] {
            assert_eq!(reached_by_most(blocks.clone()), expected, "{blocks:?}");
        }
    }
}
