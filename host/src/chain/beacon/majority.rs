//! Agreement among answers of several nodes.

use std::collections::HashMap;
use std::hash::Hash;

/// What several nodes' answers amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    /// More than half say the same; the others are named.
    Agreed {
        /// What they say.
        answer: T,
        /// Who says something else, and what.
        dissenters: Vec<(String, T)>,
    },
    /// No answer has more than half behind it.
    Split,
}

/// Weighs answers. `answers` is of the nodes that answered only: one that is down has no vote.
pub(super) fn decide<T: Clone + Eq + Hash>(answers: &[(String, T)]) -> Verdict<T> {
    let mut votes: HashMap<&T, usize> = HashMap::new();
    for (_, answer) in answers {
        *votes.entry(answer).or_default() += 1;
    }
    let winner = votes.into_iter().find(|(_, count)| 2 * count > answers.len());
    let Some((winner, _)) = winner else { return Verdict::Split };
    let dissenters = answers.iter().filter(|(_, answer)| answer != winner).cloned().collect();
    Verdict::Agreed { answer: winner.clone(), dissenters }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(values: &[u64]) -> Vec<(String, u64)> {
        values.iter().enumerate().map(|(node, value)| (format!("node {node}"), *value)).collect()
    }

    #[test]
    fn one_node_decides_alone() {
        assert_eq!(decide(&answers(&[7])), Verdict::Agreed { answer: 7, dissenters: vec![] });
    }

    #[test]
    fn the_liar_among_three_is_named() {
        let dissenters = vec![("node 1".to_owned(), 9)];
        assert_eq!(decide(&answers(&[7, 9, 7])), Verdict::Agreed { answer: 7, dissenters });
    }

    #[test]
    fn half_is_no_majority() {
        assert_eq!(decide(&answers(&[7, 9])), Verdict::Split);
        assert_eq!(decide(&answers(&[7, 7, 9, 9])), Verdict::Split);
        assert_eq!(decide(&answers(&[1, 2, 3])), Verdict::Split);
        assert_eq!(decide::<u64>(&[]), Verdict::Split);
    }
}
