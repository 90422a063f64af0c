//! All configured nodes at once.

use super::health::{Check, Taking, Unfit, Watch, check_network};
use super::node::{Node, Progress, Spec};
use super::votes::{self, Verdict, Vote};
use super::{BeaconError, ExitOutcome, Found, NodeError, Pace, StateId, Validator, Votes};
use crate::chain::url::NodeUrl;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::{DepositData, Network, SignedVoluntaryExit};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// Validators asked for in one request.
pub(super) const CHUNK: usize = 2000;

/// How long nodes may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For an answer.
    pub(super) request: Duration,
    /// To accept a connection.
    pub(super) connect: Duration,
    /// For a whole check.
    pub(super) check: Duration,
    /// For the list of deposits that wait, once more than half have sent theirs.
    pub(super) stragglers: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            connect: Duration::from_secs(3),
            check: Duration::from_secs(15),
            stragglers: Duration::from_secs(5),
        }
    }
}

/// The configured beacon nodes. Clones share what is known of them.
#[derive(Debug, Clone)]
pub struct BeaconNodes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    network: Network,
    members: Vec<Member>,
    patience: Patience,
    /// A check has ended.
    checked: Notify,
}

#[derive(Debug)]
struct Member {
    node: Node,
    watch: Mutex<Watch>,
    lies: Mutex<Lies>,
    taking: Mutex<Taking>,
}

/// For so many epochs people are shown what a node has said that can't be so: twice as many as pass between two questions about
/// validators at rest. Of others nobody may ever ask again.
const SHOWN_EPOCHS: u32 = 16;

/// What a node says that can't be so.
#[derive(Debug, Default)]
struct Lies {
    of_validators: Option<Told>,
    of_exits: Option<Told>,
    of_deposits: Option<Told>,
}

#[derive(Debug, Clone)]
struct Told {
    lie: String,
    at: Instant,
}

impl Told {
    fn now(lie: String) -> Self {
        Self { lie, at: Instant::now() }
    }
}

impl Lies {
    /// One that was told lately.
    fn shown(&self, epoch: Duration, now: Instant) -> Option<&str> {
        let long = epoch.saturating_mul(SHOWN_EPOCHS);
        let mut told = [&self.of_validators, &self.of_exits, &self.of_deposits].into_iter().flatten();
        told.find(|told| now.saturating_duration_since(told.at) < long).map(|told| told.lie.as_str())
    }
}

/// How one node is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStanding {
    /// Its name.
    pub name: String,
    /// Why it does not count, or what it says that can't be so.
    pub wrong: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is done under these locks that could leave anything half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BeaconNodes {
    /// Does not connect yet.
    pub fn new(urls: &[NodeUrl], network: Network) -> Result<Self, BeaconError> {
        Self::with_patience(urls, network, Patience::default())
    }

    pub(super) fn with_patience(
        urls: &[NodeUrl],
        network: Network,
        patience: Patience,
    ) -> Result<Self, BeaconError> {
        if urls.is_empty() {
            return Err(BeaconError::NoNodes);
        }
        let client = reqwest::Client::builder()
            .timeout(patience.request)
            .connect_timeout(patience.connect)
            .redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| BeaconError::Client(error.to_string()))?;
        let mut members: Vec<Member> = Vec::new();
        for (place, url) in (1..).zip(urls) {
            // Of one provider there may be several.
            let is_double = members.iter().any(|member| member.node.name == url.name());
            let name = if is_double { format!("{url} ({place})") } else { url.to_string() };
            let node = Node::new(name, url.clone(), client.clone());
            let (watch, lies, taking) = (Mutex::default(), Mutex::default(), Mutex::default());
            members.push(Member { node, watch, lies, taking });
        }
        Ok(Self(Arc::new(Inner { network, members, patience, checked: Notify::new() })))
    }

    /// Looks at every node that has not been looked at. Why each does not count, by its name and in the order of the configuration;
    /// nothing if it does.
    pub async fn check(&self) -> Vec<(String, Option<Unfit>)> {
        self.first_checks().await;
        let slots = self.0.finalized_slots();
        let why = |member: &Member| (member.node.name.clone(), lock(&member.watch).unfit(&slots));
        self.0.members.iter().map(why).collect()
    }

    /// How all nodes are. Begins the checks that are due, and does not wait for them.
    pub fn standings(&self) -> Vec<NodeStanding> {
        self.0.begin_checks();
        let (slots, epoch, now) = (self.0.finalized_slots(), self.pace().epoch, Instant::now());
        let standing = |member: &Member| {
            let unfit = lock(&member.watch).unfit(&slots).filter(|why| *why != Unfit::Unchecked);
            let lie = lock(&member.lies).shown(epoch, now).map(str::to_owned);
            NodeStanding { name: member.node.name.clone(), wrong: unfit.map(|why| why.to_string()).or(lie) }
        };
        self.0.members.iter().map(standing).collect()
    }

    /// How long slots and epochs last, by the nodes that are known: their median.
    pub fn pace(&self) -> Pace {
        let mut specs: Vec<Spec> =
            self.0.members.iter().filter_map(|member| lock(&member.watch).spec()).collect();
        specs.sort_unstable_by_key(Spec::epoch);
        let median = specs.len().checked_sub(1).and_then(|last| specs.get(last / 2));
        median.map_or_else(Pace::default, |spec| Pace { slot: spec.slot, epoch: spec.epoch() })
    }

    /// The validators with these keys, as more than half of the nodes that answer say, and at least half of all. Does not wait for nodes that can change
    /// nothing any more. Every key has an entry.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn validators(
        &self,
        state: StateId,
        keys: &[PublicKey],
    ) -> Result<HashMap<PublicKey, Found>, BeaconError> {
        let keys: Vec<PublicKey> = keys.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let fit = self.fit().await?;
        let chunks: Arc<Vec<Vec<PublicKey>>> = Arc::new(keys.chunks(CHUNK).map(<[_]>::to_vec).collect());
        let (sender, mut answers) = mpsc::channel(fit.len());
        for position in &fit {
            let (inner, chunks, sender) = (Arc::clone(&self.0), Arc::clone(&chunks), sender.clone());
            tokio::spawn(inner.ask_for_validators(*position, state, chunks, sender));
        }
        drop(sender);
        let mut tally = Tally { configured: self.0.members.len(), answers: vec![Vec::new(); chunks.len()] };
        let mut open: BTreeSet<usize> = (0..chunks.len()).collect();
        while !open.is_empty()
            && let Some(Answer { position, chunk, found }) = answers.recv().await
        {
            tally.take(position, chunk, found);
            if chunks.get(chunk).is_some_and(|keys| tally.is_settled(chunk, keys)) {
                open.remove(&chunk);
            }
        }
        if tally.answers.iter().any(Vec::is_empty) {
            return Err(BeaconError::NoneFit(self.0.unfit()));
        }
        if state == StateId::Finalized {
            self.0.name_liars(&chunks, &tally);
        }
        let found = chunks.iter().enumerate().flat_map(|(chunk, keys)| {
            keys.iter().map(|key| (*key, self.0.found(&tally, chunk, key))).collect::<Vec<_>>()
        });
        Ok(found.collect())
    }

    /// One validator.
    pub async fn validator(
        &self,
        state: StateId,
        pubkey: &PublicKey,
    ) -> Result<Option<Validator>, BeaconError> {
        match self.validators(state, &[*pubkey]).await?.remove(pubkey) {
            Some(Found::There(validator, _)) => Ok(Some(validator)),
            Some(Found::NotThere) | None => Ok(None),
            Some(Found::Disputed(answers)) => {
                Err(BeaconError::Disagreement { subject: format!("validator {pubkey}"), answers })
            }
        }
    }

    /// The deposits of these keys that wait at the head, or in the newest finalised state: a deposit is applied once it is final, so
    /// what this does not show is a final validator by the time that it returns, if it ever was there. As any node says: whether a key
    /// has signed them is for the caller to see, so no node can make one up. That a node does not know the question, which came with
    /// Electra, is an answer only if its network is far from that.
    ///
    /// # Errors
    /// If fewer than half of the configured nodes answer: stake depends on it.
    pub async fn pending_deposits(&self, of: &BTreeSet<PublicKey>) -> Result<Vec<DepositData>, BeaconError> {
        let configured = self.0.members.len();
        let fit = self.fit().await?;
        let members = fit.iter().filter_map(|position| self.0.members.get(*position));
        let mut asked: FuturesUnordered<_> =
            members.map(|member| async move { (member, member.node.pending_deposits(of).await) }).collect();
        let (mut answered, mut found) = (0, Vec::new());
        let mut until = None;
        loop {
            let next = match until {
                None => asked.next().await,
                Some(until) => tokio::time::timeout_at(until, asked.next()).await.ok().flatten(),
            };
            let Some((member, answer)) = next else { break };
            match answer {
                Ok(Some(deposits)) => {
                    answered += 1;
                    found.extend(deposits);
                    lock(&member.lies).of_deposits = None;
                }
                Ok(None) if lock(&member.watch).is_before_electra() => answered += 1,
                Ok(None) => {
                    let lie = "does not say which deposits wait: it does not know `pending_deposits`";
                    lock(&member.lies).of_deposits = Some(Told::now(lie.to_owned()));
                }
                Err(error) => {
                    tracing::warn!(node = member.node.name, %error, "which deposits wait can't be read");
                }
            }
            if 2 * answered > fit.len() {
                until = until.or(Some(tokio::time::Instant::now() + self.0.patience.stragglers));
            }
        }
        if 2 * answered < configured {
            return Err(BeaconError::TooFew { answered, configured });
        }
        Ok(found)
    }

    /// Whether exits may be handed to a node now.
    pub fn is_taker(&self, name: &str) -> bool {
        let slots = self.0.finalized_slots();
        let now = Instant::now();
        let mut members = self.0.members.iter().filter(|member| member.node.name == name);
        members.any(|member| {
            let may_take = lock(&member.watch).unfit(&slots).is_none_or(|why| why.may_take_exits());
            may_take && !lock(&member.taking).rests(now)
        })
    }

    /// The names of all, in the order of the configuration.
    pub fn names(&self) -> Vec<String> {
        self.0.members.iter().map(|member| member.node.name.clone()).collect()
    }

    /// Hands an exit to one node, by its name.
    ///
    /// # Errors
    /// If the node does not answer, or with what says nothing of the exit.
    pub async fn post_exit(&self, name: &str, exit: &SignedVoluntaryExit) -> Result<ExitOutcome, NodeError> {
        let member = self.0.members.iter().find(|member| member.node.name == name);
        let Some(member) = member else { return Err(NodeError::Unreachable("not configured".to_owned())) };
        let answer = member.node.post_exit(exit).await;
        match &answer {
            Err(error @ NodeError::Unreachable(_)) => {
                lock(&member.watch).fail_question(Instant::now(), Unfit::Unreachable(error.clone()));
            }
            Ok(_) => {
                lock(&member.watch).answer_question();
                lock(&member.taking).answered();
            }
            // It may know all about validators all the same.
            Err(_) => lock(&member.taking).failed(Instant::now()),
        }
        answer
    }

    /// A node says of an exit what can't be so: `None` if it does no more.
    pub fn name_liar(&self, name: &str, lie: Option<String>) {
        for member in self.0.members.iter().filter(|member| member.node.name == name) {
            lock(&member.lies).of_exits = lie.clone().map(Told::now);
        }
    }

    /// Waits until every node has been looked at once.
    async fn first_checks(&self) {
        loop {
            let mut checked = std::pin::pin!(self.0.checked.notified());
            checked.as_mut().enable();
            self.0.begin_checks();
            if !self.0.members.iter().any(|member| lock(&member.watch).is_unchecked()) {
                return;
            }
            checked.await;
        }
    }

    /// The nodes that count. If none does, waits for the checks that are on their way.
    async fn fit(&self) -> Result<Vec<usize>, BeaconError> {
        self.first_checks().await;
        loop {
            let mut checked = std::pin::pin!(self.0.checked.notified());
            checked.as_mut().enable();
            self.0.begin_checks();
            let slots = self.0.finalized_slots();
            let members = self.0.members.iter().enumerate();
            let fit = members.filter(|(_, member)| lock(&member.watch).unfit(&slots).is_none());
            let fit: Vec<usize> = fit.map(|(position, _)| position).collect();
            if !fit.is_empty() {
                return Ok(fit);
            }
            if !self.0.members.iter().any(|member| lock(&member.watch).is_checking()) {
                return Err(BeaconError::NoneFit(self.0.unfit()));
            }
            checked.await;
        }
    }
}

/// One node's answer about one chunk.
struct Answer {
    position: usize,
    chunk: usize,
    found: HashMap<PublicKey, Validator>,
}

/// All answers, by chunk.
struct Tally {
    configured: usize,
    answers: Vec<Vec<(usize, HashMap<PublicKey, Validator>)>>,
}

impl Tally {
    fn take(&mut self, position: usize, chunk: usize, found: HashMap<PublicKey, Validator>) {
        if let Some(answers) = self.answers.get_mut(chunk) {
            answers.push((position, found));
        }
    }

    /// Who says what of a validator.
    fn votes(&self, chunk: usize, key: &PublicKey) -> Vec<(usize, Vote)> {
        let answers = self.answers.get(chunk).into_iter().flatten();
        answers.map(|(position, found)| (*position, found.get(key).cloned())).collect()
    }

    fn is_settled(&self, chunk: usize, keys: &[PublicKey]) -> bool {
        keys.iter().all(|key| {
            let votes: Vec<Vote> = self.votes(chunk, key).into_iter().map(|(_, vote)| vote).collect();
            votes::is_settled(&votes, self.configured)
        })
    }
}

impl Inner {
    /// Begins the checks that are due, each in a task of its own: nobody waits for a node that hangs.
    fn begin_checks(self: &Arc<Self>) {
        for (position, member) in self.members.iter().enumerate() {
            if let Some(check) = lock(&member.watch).begin_check(Instant::now()) {
                tokio::spawn(Arc::clone(self).check(position, check));
            }
        }
    }

    async fn check(self: Arc<Self>, position: usize, check: Check) {
        let Some(member) = self.members.get(position) else { return };
        let examined = tokio::time::timeout(self.patience.check, self.examine(member, check)).await;
        let no_answer = || Unfit::Unreachable(NodeError::Unreachable("no answer in time".to_owned()));
        let result = examined.unwrap_or_else(|_| Err(no_answer()));
        let now = Instant::now();
        match result {
            Ok((spec, progress)) => lock(&member.watch).pass(now, spec, progress),
            Err(why) => lock(&member.watch).fail_check(now, why),
        }
        self.checked.notify_waiters();
    }

    /// The network comes first: all else counts only if that is right.
    async fn examine(&self, member: &Member, check: Check) -> Result<(Option<Spec>, Progress), Unfit> {
        let spec = match check {
            Check::Progress => None,
            Check::Whole => {
                let identity = member.node.identity().await.map_err(Unfit::Unreachable)?;
                check_network(&identity, &self.network)?;
                Some(identity.spec)
            }
        };
        let progress = member.node.progress().await.map_err(Unfit::NoStates)?;
        if progress.is_syncing {
            return Err(Unfit::Syncing);
        }
        if check == Check::Whole {
            member.node.validators(StateId::Finalized, &[]).await.map_err(Unfit::NoStates)?;
        }
        Ok((spec, progress))
    }

    /// What all have shown of finality.
    fn finalized_slots(&self) -> Vec<u64> {
        self.members.iter().filter_map(|member| lock(&member.watch).finalized_slot()).collect()
    }

    /// The nodes that do not count, and why.
    fn unfit(&self) -> Vec<(String, Unfit)> {
        let slots = self.finalized_slots();
        let why = |member: &Member| Some((member.node.name.clone(), lock(&member.watch).unfit(&slots)?));
        self.members.iter().filter_map(why).collect()
    }

    /// Asks one node for all chunks, until it fails or nobody wants to know any more.
    async fn ask_for_validators(
        self: Arc<Self>,
        position: usize,
        state: StateId,
        chunks: Arc<Vec<Vec<PublicKey>>>,
        sender: mpsc::Sender<Answer>,
    ) {
        let Some(member) = self.members.get(position) else { return };
        for (chunk, keys) in chunks.iter().enumerate() {
            match member.node.validators(state, keys).await {
                Ok(found) => {
                    lock(&member.watch).answer_question();
                    if sender.send(Answer { position, chunk, found }).await.is_err() {
                        return;
                    }
                }
                Err(NodeError::Optimistic) => {
                    return lock(&member.watch).fail_question(Instant::now(), Unfit::Syncing);
                }
                Err(error) => {
                    return lock(&member.watch).fail_question(Instant::now(), Unfit::NoStates(error));
                }
            }
        }
    }

    /// What the answers about one validator amount to.
    fn found(&self, tally: &Tally, chunk: usize, key: &PublicKey) -> Found {
        let votes = tally.votes(chunk, key);
        let configured = tally.configured;
        match votes::decide(&votes.iter().map(|(_, vote)| vote.clone()).collect::<Vec<_>>(), configured) {
            Verdict::Agreed(Some(validator), agreed) => Found::There(validator, Votes { agreed, configured }),
            Verdict::Agreed(None, _) => Found::NotThere,
            Verdict::TooFew => {
                let answered = votes.len();
                Found::Disputed(format!("only {answered} of {configured} answer: {}", self.describe(&votes)))
            }
            Verdict::Split => Found::Disputed(self.describe(&votes)),
        }
    }

    /// Who says what of a validator.
    fn describe(&self, votes: &[(usize, Vote)]) -> String {
        let said = |(position, vote): &(usize, Vote)| {
            let name = self.members.get(*position).map_or("", |member| member.node.name.as_str());
            format!("{name}: {}", describe(vote.as_ref()))
        };
        votes.iter().map(said).collect::<Vec<_>>().join("; ")
    }

    /// Names the nodes that can't be right, and takes that back of those that are with the others again.
    fn name_liars(&self, chunks: &[Vec<PublicKey>], tally: &Tally) {
        let mut lies: HashMap<usize, Option<String>> = HashMap::new();
        for (chunk, keys) in chunks.iter().enumerate() {
            for key in keys {
                let votes = tally.votes(chunk, key);
                for (position, vote) in &votes {
                    let other = votes.iter().find(|(_, other)| votes::contradict(vote, other));
                    let against = votes.iter().filter(|(_, other)| votes::contradict(vote, other)).count();
                    // Against fewer than half it is the others that lie.
                    let lie = other.filter(|_| 2 * against >= votes.len()).map(|(_, other)| {
                        let (own, other) = (describe(vote.as_ref()), describe(other.as_ref()));
                        format!("says of validator {key}: {own}; others: {other}")
                    });
                    let known = lies.entry(*position).or_default();
                    *known = known.take().or(lie);
                }
            }
        }
        for (position, lie) in lies {
            if let Some(member) = self.members.get(position) {
                lock(&member.lies).of_validators = lie.map(Told::now);
            }
        }
    }
}

fn describe(validator: Option<&Validator>) -> String {
    validator.map_or_else(
        || "not there".to_owned(),
        |Validator { index, status, withdrawal_credentials }| {
            format!("index {index}, {status}, credentials {withdrawal_credentials}")
        },
    )
}

#[cfg(test)]
mod tests;
