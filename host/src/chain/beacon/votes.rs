//! What several nodes' answers about one validator amount to.
//!
//! Nodes agree on a validator's index and where its stake goes, or on that it is not there: honest ones at different
//! checkpoints differ in its status only. Of the status, that counts which more than half of all have reached.

use super::{Validator, ValidatorStatus};
use postern_shared::ethereum::WithdrawalCredentials;

/// What one node says: `None` if the validator is not there.
pub(super) type Vote = Option<Validator>;

/// What all of it amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More than half of the nodes that answered say this.
    Agreed(Vote),
    /// No answer has more than half behind it.
    Split,
}

/// Which validator it is, and whose.
fn identity(vote: &Vote) -> Option<(u64, WithdrawalCredentials)> {
    vote.as_ref().map(|validator| (validator.index, validator.withdrawal_credentials))
}

/// Whether two nodes can't both be right, at whatever checkpoints they are.
pub(super) fn contradict(one: &Vote, other: &Vote) -> bool {
    one.is_some() && other.is_some() && identity(one) != identity(other)
}

/// Weighs the answers of the nodes that answered: one that is down has no vote.
pub(super) fn decide(votes: &[Vote]) -> Verdict {
    let most = |agree: &dyn Fn(&Vote, &Vote) -> bool| {
        let agreeing = |vote: &&Vote| votes.iter().filter(|other| agree(vote, other)).count();
        votes.iter().find(|vote| 2 * agreeing(vote) > votes.len())
    };
    let Some(vote) = most(&|one, other| identity(one) == identity(other)) else { return Verdict::Split };
    let Some(validator) = vote else { return Verdict::Agreed(None) };
    let same = votes.iter().filter(|other| identity(other) == identity(vote)).flatten();
    let mut statuses: Vec<ValidatorStatus> = same.map(|validator| validator.status).collect();
    statuses.sort_unstable_by(|one, other| other.cmp(one));
    // The one in the middle of all votes, the furthest first: it and those before it are more than half.
    let status = statuses.get(votes.len() / 2).copied().unwrap_or(validator.status);
    Verdict::Agreed(Some(Validator { status, ..validator.clone() }))
}

/// Whether more than half of those that were asked say exactly the same already: the others can change nothing.
pub(super) fn is_settled(votes: &[Vote], asked: usize) -> bool {
    votes.iter().any(|vote| 2 * votes.iter().filter(|other| *other == vote).count() > asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ValidatorStatus::{ActiveExiting, ActiveOngoing, ExitedUnslashed, WithdrawalDone};

    fn there(index: u64, credentials: u8, status: ValidatorStatus) -> Vote {
        let withdrawal_credentials = WithdrawalCredentials([credentials; 32]);
        Some(Validator { index, status, withdrawal_credentials })
    }

    #[test]
    fn index_and_credentials_are_decided_by_more_than_half_and_the_status_by_what_more_than_half_have_reached()
     {
        let own = |status| there(7, 1, status);
        let ongoing = || own(ActiveOngoing);
        let agreed = |status| Verdict::Agreed(own(status));
        let cases: Vec<(Vec<Vote>, Verdict)> = vec![
            (vec![], Verdict::Split),
            (vec![None], Verdict::Agreed(None)),
            (vec![ongoing()], agreed(ActiveOngoing)),
            (vec![ongoing(), None], Verdict::Split),
            (vec![ongoing(), None, None], Verdict::Agreed(None)),
            (vec![ongoing(), None, ongoing()], agreed(ActiveOngoing)),
            // Another index, or other credentials.
            (vec![ongoing(), there(8, 1, ActiveOngoing)], Verdict::Split),
            (vec![ongoing(), there(7, 2, ActiveOngoing)], Verdict::Split),
            (vec![ongoing(), there(8, 1, ActiveOngoing), ongoing()], agreed(ActiveOngoing)),
            (vec![ongoing(), there(7, 2, ActiveOngoing), ongoing()], agreed(ActiveOngoing)),
            (vec![ongoing(), there(7, 2, ActiveOngoing), there(8, 1, ActiveOngoing)], Verdict::Split),
            (
                vec![ongoing(), ongoing(), there(8, 1, ActiveOngoing), there(8, 1, ActiveOngoing)],
                Verdict::Split,
            ),
            // Statuses: no single node makes it further, or holds it back, against two.
            (vec![ongoing(), own(WithdrawalDone)], agreed(ActiveOngoing)),
            (vec![own(WithdrawalDone), ongoing()], agreed(ActiveOngoing)),
            (vec![own(WithdrawalDone), ongoing(), ongoing()], agreed(ActiveOngoing)),
            (vec![own(ActiveExiting), ongoing(), own(ActiveExiting)], agreed(ActiveExiting)),
            (vec![own(ActiveExiting), ongoing(), own(ExitedUnslashed)], agreed(ActiveExiting)),
            // Of three votes one is another validator's: two say `exited`, and both are needed.
            (vec![own(ExitedUnslashed), own(ExitedUnslashed), None], agreed(ExitedUnslashed)),
            (vec![own(ExitedUnslashed), ongoing(), None], agreed(ActiveOngoing)),
        ];
        for (votes, expected) in cases {
            assert_eq!(decide(&votes), expected, "{votes:?}");
        }
    }

    #[test]
    fn a_question_is_settled_when_the_others_can_change_nothing() {
        let (ongoing, leaving) = (there(7, 1, ActiveOngoing), there(7, 1, ActiveExiting));
        let cases: [(&[Vote], usize, bool); 7] = [
            (&[], 1, false),
            (&[None], 1, true),
            (&[None], 2, false),
            (&[None, None], 3, true),
            (&[None, None], 4, false),
            (&[ongoing.clone(), leaving.clone()], 3, false),
            (&[ongoing.clone(), leaving, ongoing], 3, true),
        ];
        for (votes, asked, expected) in cases {
            assert_eq!(is_settled(votes, asked), expected, "{votes:?} of {asked}");
        }
    }

    #[test]
    fn only_two_that_know_a_validator_contradict_each_other() {
        let (one, later, other) =
            (there(7, 1, ActiveOngoing), there(7, 1, ActiveExiting), there(8, 1, ActiveOngoing));
        assert!(contradict(&one, &other) && contradict(&one, &there(7, 2, ActiveOngoing)));
        assert!(!contradict(&one, &later) && !contradict(&one, &None) && !contradict(&None, &None));
    }
}
