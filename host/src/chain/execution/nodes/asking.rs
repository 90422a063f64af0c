//! Whom to ask, one node after the other or all beside one, and what their answers together say.

use super::super::error::{ChainError, conclude};
use super::super::node::Node;
use super::super::votes::{Verdict, judge};
use super::{Execution, VOTE_TIMEOUT};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a node is asked for beside others, in words.
pub(super) const CONFIRMATION: &str = "confirmation";

/// What other nodes answer.
pub(super) struct Answers<T> {
    pub(super) given: Vec<(Arc<Node>, T)>,
    /// Those that answer, but have not got what was asked about.
    pub(super) silent: Vec<Arc<Node>>,
}

impl<T> Answers<T> {
    /// Takes one node's answer in, or says why there is none.
    fn take(&mut self, node: &Arc<Node>, answer: Result<T, ChainError>) -> Result<(), ChainError> {
        match answer {
            Ok(answer) => self.given.push((Arc::clone(node), answer)),
            // It is only behind, or has not looked everywhere.
            Err(ChainError::MissingBlock(_) | ChainError::TooFar(_)) => self.silent.push(Arc::clone(node)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl<T: Copy + Eq + Hash> Answers<HashSet<T>> {
    /// What they say of one node's answer.
    pub(super) fn judge(&self, own: &HashSet<T>, already_final: u64, configured: usize) -> Verdict {
        let others: Vec<&HashSet<T>> = self.given.iter().map(|(_, answer)| answer).collect();
        judge(own, &others, voices(&self.silent, already_final), configured)
    }
}

impl Execution {
    /// What holds at the head, where honest nodes may be a block apart: nobody is a liar who says something else than most.
    pub(super) async fn as_most_say<T: Copy + Eq + Hash, A: Future<Output = Result<T, ChainError>>>(
        &self,
        what: &str,
        timeout: Duration,
        ask: impl Fn(Arc<Node>) -> A,
    ) -> Result<T, ChainError> {
        let ask = &ask;
        self.with_node(|node| async move {
            let own = ask(Arc::clone(&node)).await?;
            let said = HashSet::from([own]);
            let vote = |other| async move { Ok(HashSet::from([ask(other).await?])) };
            let judged = |others: &Answers<HashSet<T>>| others.judge(&said, 0, self.nodes.len());
            let is_settled = |others: &Answers<HashSet<T>>| judged(others).is_settled();
            let others = self.others_within(timeout, &node, vote, is_settled).await;
            self.refuse(judged(&others), what, || what.to_owned())?;
            Ok(own)
        })
        .await
    }

    /// Has the first node do something that can; who can't is let alone for a while. Those that rest come last.
    pub(super) async fn with_node<T, A: Future<Output = Result<T, ChainError>>>(
        &self,
        ask: impl Fn(Arc<Node>) -> A,
    ) -> Result<T, ChainError> {
        self.with_node_of(0, ask).await
    }

    /// Likewise, but beginning with another node each turn.
    pub(super) async fn with_node_of<T, A: Future<Output = Result<T, ChainError>>>(
        &self,
        turn: usize,
        ask: impl Fn(Arc<Node>) -> A,
    ) -> Result<T, ChainError> {
        let now = Instant::now();
        let mut nodes = self.nodes.clone();
        let turn = turn.checked_rem(nodes.len()).unwrap_or_default();
        nodes.rotate_left(turn);
        // The sort is stable: of those that don't rest, the first one.
        nodes.sort_by_cached_key(|node| node.health().rests_until(now));
        let mut errors = Vec::new();
        for node in nodes {
            let asked = async {
                node.check_chain().await?;
                ask(Arc::clone(&node)).await
            };
            match asked.await {
                Ok(answer) => {
                    node.health().worked();
                    return Ok(answer);
                }
                // Who is right is open. The next one would decide without this one, or not even be asked about what it leaves out.
                Err(error @ (ChainError::Disagreement(_) | ChainError::TooFew { .. })) => return Err(error),
                // Most nodes say so.
                Err(error @ ChainError::FinalisedBlockChanged { .. }) => return Err(error),
                // Another one may give more at a time.
                Err(error @ ChainError::TooFar(_)) => errors.push(error),
                Err(error) => {
                    tracing::debug!(node = node.name(), %error, "an execution node does not do");
                    node.failed(&error);
                    errors.push(error);
                }
            }
        }
        Err(conclude(errors))
    }

    /// What other nodes say to hold one node's answer against; for who is asked see [`Self::others`].
    pub(super) async fn votes<T: Copy + Eq + Hash, A: Future<Output = Result<HashSet<T>, ChainError>>>(
        &self,
        leading: &Arc<Node>,
        own: &HashSet<T>,
        already_final: u64,
        ask: impl Fn(Arc<Node>) -> A,
    ) -> Answers<HashSet<T>> {
        let configured = self.nodes.len();
        self.others(leading, ask, |others| others.judge(own, already_final, configured).is_settled()).await
    }

    /// Asks all other nodes that don't rest, at once; then those that rest, until what all have said is settled. Else nothing would be
    /// believed while one of three rests that has lied, and another one lies. One that is down is not in the answer.
    pub(super) async fn others<T, A: Future<Output = Result<T, ChainError>>>(
        &self,
        leading: &Arc<Node>,
        ask: impl Fn(Arc<Node>) -> A,
        is_settled: impl Fn(&Answers<T>) -> bool,
    ) -> Answers<T> {
        self.others_within(VOTE_TIMEOUT, leading, ask, is_settled).await
    }

    /// Likewise, but they may take so long; not to show that they are of the right chain.
    pub(super) async fn others_within<T, A: Future<Output = Result<T, ChainError>>>(
        &self,
        timeout: Duration,
        leading: &Arc<Node>,
        ask: impl Fn(Arc<Node>) -> A,
        is_settled: impl Fn(&Answers<T>) -> bool,
    ) -> Answers<T> {
        let begun = Instant::now();
        let others = self.nodes.iter().filter(|node| !Arc::ptr_eq(node, leading));
        let (awake, resting): (Vec<&Arc<Node>>, Vec<&Arc<Node>>) =
            others.partition(|node| node.health().rests_until(begun).is_none());
        let asked = |node: &Arc<Node>| {
            let (ask, node) = (&ask, Arc::clone(node));
            async move {
                let answer = async {
                    in_time(CONFIRMATION, VOTE_TIMEOUT, node.check_chain()).await?;
                    ask(Arc::clone(&node)).await
                };
                let answer = in_time(CONFIRMATION, timeout, answer).await;
                (node, answer)
            }
        };
        let mut answers = Answers { given: Vec::new(), silent: Vec::new() };
        for (node, answer) in join_all(awake.into_iter().map(&asked)).await {
            if let Err(error) = answers.take(&node, answer) {
                node.failed(&error);
            }
        }
        if is_settled(&answers) {
            return answers;
        }
        let woken = Instant::now();
        let resting = resting.into_iter().filter(|node| node.health().may_be_woken(woken));
        let mut resting: FuturesUnordered<_> = resting.map(&asked).collect();
        while let Some((node, answer)) = resting.next().await {
            if let Err(error) = answers.take(&node, answer) {
                tracing::debug!(node = node.name(), %error, "an execution node that rests does not answer");
                node.health().woken_in_vain(woken, Instant::now());
            }
            if is_settled(&answers) {
                break;
            }
        }
        answers
    }

    /// Holds a node's answer against the others'. Those that most contradict are let alone for a while.
    pub(super) fn confirm<T: Copy + Eq + Hash>(
        &self,
        leading: &Node,
        own: &HashSet<T>,
        others: Answers<HashSet<T>>,
        already_final: u64,
        what: &str,
    ) -> Result<(), ChainError> {
        let verdict = others.judge(own, already_final, self.nodes.len());
        let Answers { given, silent } = others;
        self.refuse(verdict, what, || {
            let silent = silent.iter().map(|node| format!("{} (has nothing yet)", node.name()));
            let names = given.iter().map(|(node, _)| node.name()).chain([leading.name()]);
            let names = names.map(str::to_owned).chain(silent).collect::<Vec<_>>().join(", ");
            format!("{what}: {names}")
        })?;
        for (node, answer) in &given {
            if answer == own {
                node.health().worked();
            } else {
                node.failed(&ChainError::Contradicted(what.to_owned()));
            }
        }
        Ok(())
    }

    /// Refuses what others do not say too; `split` says who says what, if that is open.
    pub(super) fn refuse(
        &self,
        verdict: Verdict,
        what: &str,
        split: impl FnOnce() -> String,
    ) -> Result<(), ChainError> {
        match verdict {
            Verdict::Agreed => Ok(()),
            Verdict::Contradicted => Err(ChainError::Contradicted(what.to_owned())),
            Verdict::Split => Err(ChainError::Disagreement(split())),
            Verdict::TooFew { agreed } => Err(self.too_few(what, agreed)),
        }
    }

    pub(super) fn too_few(&self, what: &str, agreed: usize) -> ChainError {
        ChainError::TooFew { what: what.to_owned(), agreed, configured: self.nodes.len() }
    }
}

/// How many of the nodes that have not got something yet are waited for.
pub(super) fn voices(silent: &[Arc<Node>], already_final: u64) -> usize {
    silent.iter().filter(|node| node.health().is_waited_for(already_final)).count()
}

/// An answer that does not take long: who takes longer has no vote.
pub(super) async fn in_time<T>(
    request: &'static str,
    timeout: Duration,
    answer: impl Future<Output = Result<T, ChainError>>,
) -> Result<T, ChainError> {
    tokio::time::timeout(timeout, answer).await.map_err(|_| late(request))?
}

pub(super) fn late(request: &'static str) -> ChainError {
    ChainError::Node { request, reason: "no answer in time".to_owned() }
}
