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
    /// More than half of the nodes that answered say this, and so many of them that it is at least half of the configured ones: its
    /// status, or a later one.
    Agreed(Vote, usize),
    /// More than half of those that answered say the same, but they are fewer than half of the configured ones.
    TooFew,
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

/// Weighs the answers of the nodes that answered: one that is down has no vote, but is one of those that are configured.
pub(super) fn decide(votes: &[Vote], configured: usize) -> Verdict {
    let agreeing = |vote: &Vote| votes.iter().filter(|other| identity(vote) == identity(other)).count();
    let most = votes.iter().map(|vote| (vote, agreeing(vote))).find(|(_, agreed)| 2 * agreed > votes.len());
    let Some((vote, agreed)) = most else { return Verdict::Split };
    if 2 * agreed < configured {
        return Verdict::TooFew;
    }
    let Some(validator) = vote else { return Verdict::Agreed(None, agreed) };
    let same = votes.iter().filter(|other| identity(other) == identity(vote)).flatten();
    let mut statuses: Vec<ValidatorStatus> = same.map(|validator| validator.status).collect();
    statuses.sort_unstable_by(|one, other| other.cmp(one));
    // The one in the middle of all votes, the furthest first: it and those before it are more than half.
    let status = statuses.get(votes.len() / 2).copied().unwrap_or(validator.status);
    let agreed = statuses.iter().filter(|reached| **reached >= status).count();
    Verdict::Agreed(Some(Validator { status, ..validator.clone() }), agreed)
}

/// Whether more than half of all that are configured say exactly the same already: the others can change nothing.
pub(super) fn is_settled(votes: &[Vote], configured: usize) -> bool {
    votes.iter().any(|vote| 2 * votes.iter().filter(|other| *other == vote).count() > configured)
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
        let agreed = |status| Some(own(status));
        let cases: Vec<(Vec<Vote>, Option<Vote>)> = vec![
            (vec![], None),
            (vec![None], Some(None)),
            (vec![ongoing()], agreed(ActiveOngoing)),
            (vec![ongoing(), None], None),
            (vec![ongoing(), None, None], Some(None)),
            (vec![ongoing(), None, ongoing()], agreed(ActiveOngoing)),
            // Another index, or other credentials.
            (vec![ongoing(), there(8, 1, ActiveOngoing)], None),
            (vec![ongoing(), there(7, 2, ActiveOngoing)], None),
            (vec![ongoing(), there(8, 1, ActiveOngoing), ongoing()], agreed(ActiveOngoing)),
            (vec![ongoing(), there(7, 2, ActiveOngoing), ongoing()], agreed(ActiveOngoing)),
            (vec![ongoing(), there(7, 2, ActiveOngoing), there(8, 1, ActiveOngoing)], None),
            (vec![ongoing(), ongoing(), there(8, 1, ActiveOngoing), there(8, 1, ActiveOngoing)], None),
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
            let found = match decide(&votes, votes.len()) {
                Verdict::Agreed(vote, _) => Some(vote),
                Verdict::TooFew | Verdict::Split => None,
            };
            assert_eq!(found, expected, "{votes:?}");
        }
    }

    #[test]
    fn at_least_half_of_the_configured_nodes_are_needed_and_how_many_there_are_is_said() {
        let own = |status| there(7, 1, status);
        let agreed = |status, votes| Verdict::Agreed(own(status), votes);
        let (ongoing, done) = (own(ActiveOngoing), own(WithdrawalDone));
        for (votes, configured, expected) in [
            (vec![ongoing.clone()], 2, agreed(ActiveOngoing, 1)),
            (vec![ongoing.clone()], 3, Verdict::TooFew),
            (vec![None], 2, Verdict::Agreed(None, 1)),
            (vec![None], 3, Verdict::TooFew),
            (vec![done.clone()], 2, agreed(WithdrawalDone, 1)),
            (vec![done.clone(), done.clone()], 3, agreed(WithdrawalDone, 2)),
            (vec![done.clone(), ongoing.clone()], 3, agreed(ActiveOngoing, 2)),
            (vec![done.clone(), ongoing.clone(), done.clone()], 4, agreed(WithdrawalDone, 2)),
            (vec![done.clone(), done, ongoing], 5, agreed(WithdrawalDone, 2)),
        ] {
            assert_eq!(decide(&votes, configured), expected, "{votes:?} of {configured}");
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
