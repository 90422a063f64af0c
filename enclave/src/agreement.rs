//! One agreement, for what must never be decided in two ways: which keygen makes a pool's key, which epoch follows on a
//! manifest. Later: which generation of shares is in force.
//!
//! Secrecy holds against t-1 broken enclaves. What members *agree* on holds for as many as the quorum q tolerates:
//! b = 2q-n-1 ([`Quorum`](postern_shared::manifest::Quorum)).
//!
//! # The rules
//! Members vote in attempts, ordered by [`Attempt`]: the *generation* stands for who votes (it is the epoch since which
//! just these enclaves and this q are in force), the number counts their attempts. In each attempt an enclave says each of
//! these at most once, and never anything in an attempt before one in which it has said something:
//!
//! 1. *Propose*, by the attempt's proposer, naming q members that have quit the attempt before, by their statements. The
//!    newest choice that one of those had adopted is the proposal; if none had any, it is a fresh one. The first attempt of a
//!    generation needs no proposal: it is for whatever comes up first at each member, which mostly is the same.
//! 2. *Vote*: for what is proposed; for a fresh epoch once its wallets' signatures are here, for a fresh key once a run has
//!    made it and all of that run's members have confirmed it.
//! 3. *Adopt* what q have voted for.
//! 4. What q have adopted is decided. Only then is it used: the epoch's rules are in force, shares sign a deposit.
//! 5. *Quit* on the own host's word (it is impatient), when a run can't end well, or when the generation changes. The
//!    statement has the newest choice adopted, with the q votes for it.
//! 6. Who has voted in an earlier generation, or has come past its first attempt, quits the first one of the next.
//! 7. *Who joins late.* An enclave that takes a lost machine's place does not know what that one has adopted. The members
//!    that let it in ([`guard`](crate::witness::guard)) show it up to which pools they know of adopted keys ([`Mark`]). About these it
//!    says nothing until it accepts a proposal that needed a quorum to quit: what matters of earlier attempts is in that.
//!
//! A member that has quit stays where it is until a quorum has, or until it hears a proposal that shows that.
//!
//! # Why that is enough
//! Say v was decided in attempt A: q have adopted it. Q quits open a later attempt of A's generation: 2q-n members have done
//! both, of whom one is honest. It quit after it had adopted, so it names v, or something newer, which by induction is v.
//! Quits of a later generation are said under it. Of A's adopters, r may have been replaced since. The first of those who
//! took their places was let in by q others of the n-r that were not, who had left A's generation; these share 2q-n
//! members with the q-r adopters that are left, so an honest one showed it the mark, and it is silent. So are those after
//! it, in the order in which they came, since it shows its marks to them. So those who quit were A's voters, and the case
//! is the one before. The first attempt of a later generation needs q votes: one of those members has adopted v, and says
//! nothing in it (6). In one attempt, q votes for two choices would share an honest member. If epochs change q, b is the
//! least of all.
//!
//! A pool stands still for good if more than n-q machines are replaced before those who know have quit: nobody is left who
//! may say that no key was adopted. Its stake is not lost with it, as no deposit was signed.
//!
//! That a choice is fresh is not enough to vote for it, and that it is certified is not enough to use it: 'all confirm, and
//! who has confirmed never abandons' freezes when the last machine dies; 'who has confirmed may abandon' makes two keys.
//!
//! # What others can make this enclave do
//! Keep: for each subject one statement of each member and step of the current attempt, and its quits of three attempts.
//! Sign: only about subjects that its own host has told it of, or that follow on its manifest. Nothing said here is secret.
//!
//! # State and restart
//! All of an [`Agreement`] is a function of the changes of the session; it is sealed with it as it stands.

use crate::crypto::keys::Me;
use crate::effects::Effects;
use postern_shared::agreement::{
    Adopted, Attempt, Choice, Content, Decision, Made, Proof, Proposal, Propose, Said, Signatures, Subject,
    Voters,
};
use postern_shared::codec;
use postern_shared::ids::{Digest, MemberId};
use postern_shared::message::{Broadcast, PeerMessage, Step};
use postern_shared::wire::{Notice, Recipient, Rejection};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One subject, as far as this enclave is.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Agreement {
    subject: Subject,
    /// The attempt that it is in: it says nothing in any before.
    at: Attempt,
    /// Whether it may say nothing, since it does not know what the machine before this one has said.
    unknowing: bool,
    /// Whether it has voted in an earlier generation than the current attempt's, or knows of others that have.
    voted_before: bool,
    adopted: Option<Adopted>,
    /// What it has voted for last.
    voted: Option<Choice>,
    /// What was said in the current attempt, and quits of it and of those beside it.
    heard: BTreeMap<(Attempt, Step, MemberId), Broadcast>,
    /// Who has said two things in one place: what they say next, others may have heard otherwise.
    two_faced: BTreeSet<MemberId>,
    decision: Option<Decision>,
    /// Whether it has told others.
    is_told: bool,
}

/// Whom an agreement is among, at the moment.
pub(crate) struct Electorate<'a> {
    pub(crate) me: Me<'a>,
    /// By generation, the newest last: all that this DAO has had so far.
    pub(crate) voters: &'a BTreeMap<u64, Voters>,
    /// Whose turn to propose would be first; in each attempt it is the next member's.
    pub(crate) leader: MemberId,
}

impl Electorate<'_> {
    fn now(&self) -> Option<&Voters> {
        self.voters.last_key_value().map(|(_, voters)| voters)
    }

    /// Those that voted in an attempt; an error if this enclave does not know them yet.
    fn voters(&self, attempt: Attempt) -> Result<&Voters, Rejection> {
        self.voters.get(&attempt.generation).ok_or(Rejection::TooEarly)
    }

    /// Whether nobody has voted before an attempt's voters.
    fn are_the_first(&self, attempt: Attempt) -> bool {
        self.voters.first_key_value().is_some_and(|(first, _)| *first == attempt.generation)
    }

    fn proposer(&self, attempt: Attempt) -> Option<MemberId> {
        let members: Vec<MemberId> = self.now()?.enclaves.members().collect();
        let leader = members.iter().position(|member| *member == self.leader)?;
        let turn = leader.checked_add(usize::try_from(attempt.number).ok()?)?;
        members.get(turn.checked_rem(members.len())?).copied()
    }
}

/// What opens the attempt that an enclave is to propose in.
pub(crate) struct Opening {
    quits: Vec<(MemberId, Digest)>,
    /// What has to be proposed again.
    again: Option<Choice>,
}

impl Agreement {
    /// Nothing has been said about it; `at` is the first attempt. `unknowing`: see rule 7.
    pub(crate) fn new(subject: Subject, at: Attempt, unknowing: bool) -> Self {
        Self {
            subject,
            at,
            unknowing,
            voted_before: false,
            adopted: None,
            voted: None,
            heard: BTreeMap::new(),
            two_faced: BTreeSet::new(),
            decision: None,
            is_told: false,
        }
    }

    pub(crate) fn subject(&self) -> Subject {
        self.subject
    }

    /// The attempt that this enclave is in.
    pub(crate) fn at(&self) -> Attempt {
        self.at
    }

    pub(crate) fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }

    /// Whether this enclave has voted, in whatever attempt, or knows what others have.
    pub(crate) fn has_voted(&self) -> bool {
        self.voted_before || self.newest_vote().is_some()
    }

    /// That a choice was adopted, if it was.
    pub(crate) fn proof(&self) -> Option<Proof> {
        let adopted = self.adopted.clone().map(Proof::Adopted);
        self.decision.clone().map(Proof::Decided).or(adopted)
    }

    /// What this enclave has adopted, or voted for last.
    pub(crate) fn newest_vote(&self) -> Option<Choice> {
        let decided = self.decision.as_ref().map(|decision| decision.choice);
        decided.or(self.adopted.as_ref().map(|adopted| adopted.choice)).or(self.voted)
    }

    /// What is proposed in the current attempt.
    pub(crate) fn proposal(&self) -> Option<Proposal> {
        let mut proposals = self.heard.range(range(self.at, Step::Propose));
        let (_, statement) = proposals.next()?;
        match Said::of(statement)?.content {
            Content::Propose(propose) => Some(propose.proposal),
            _ => None,
        }
    }

    /// What this enclave is to propose on, if it is its turn and it has not proposed yet.
    pub(crate) fn opening(&self, electorate: &Electorate<'_>) -> Option<Opening> {
        let own = electorate.me.id();
        let is_turn = electorate.proposer(self.at) == Some(own) && !self.is_said(Step::Propose, own);
        if !is_turn || self.decision.is_some() {
            return None;
        }
        let before = self.at.before()?;
        let quits: Vec<(MemberId, Digest)> = self
            .heard
            .range(range(before, Step::Quit))
            .map(|((.., member), quit)| (*member, Broadcast::digest_of(&quit.body)))
            .collect();
        let quorum = usize::from(electorate.now()?.quorum);
        let of_honest = quits.iter().filter(|(member, _)| !self.two_faced.contains(member)).copied();
        let of_honest: Vec<(MemberId, Digest)> = of_honest.collect();
        let quits = if of_honest.len() >= quorum { of_honest } else { quits };
        let enough = quits.len() >= quorum;
        let again = enough.then(|| self.newest(before, &quits)).flatten()?.map(|adopted| adopted.choice);
        Some(Opening { quits, again })
    }

    /// Says what to vote for: what has to be proposed again, or else something fresh, if there is anything.
    pub(crate) fn propose(
        &mut self,
        opening: Opening,
        fresh: Option<Proposal>,
        electorate: &Electorate<'_>,
        effects: &mut Effects,
    ) {
        let Opening { quits, again } = opening;
        if let Some(proposal) = again.map(Proposal::Again).or(fresh) {
            self.accept(self.at);
            self.say(Content::Propose(Propose { quits, proposal }), electorate, effects);
        }
    }

    /// Votes for what is proposed, or what has come up in the first attempt, which is this.
    pub(crate) fn vote(&mut self, choice: Choice, electorate: &Electorate<'_>, effects: &mut Effects) {
        let own = electorate.me.id();
        if self.may_speak(own) && self.decision.is_none() && !self.is_said(Step::Vote, own) {
            self.voted = Some(choice);
            self.say(Content::Vote(choice), electorate, effects);
            self.advance(electorate, effects);
        }
    }

    /// Leaves the current attempt.
    pub(crate) fn quit(
        &mut self,
        electorate: &Electorate<'_>,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        // The next begins when a quorum has left this one: a single host does not drive its enclave away from the others.
        if !self.may_quit(electorate.me.id()) {
            return Err(Rejection::NothingToLeave);
        }
        self.say(Content::Quit(self.adopted.clone()), electorate, effects);
        self.advance(electorate, effects);
        Ok(())
    }

    /// Others vote now, or with another quorum.
    pub(crate) fn change_voters(&mut self, electorate: &Electorate<'_>, effects: &mut Effects) {
        let Some(voters) = electorate.now().filter(|voters| voters.since > self.at.generation) else {
            return;
        };
        if self.decision.is_some() {
            return;
        }
        effects.change();
        self.voted_before = self.at.number > 0 || self.has_voted();
        self.heard.clear();
        self.at = Attempt::first(voters);
        if self.voted_before {
            // It may be that nobody else begins.
            let _ = self.quit(electorate, effects);
        }
    }

    /// Takes a statement whose speaker's signature was checked: by the enclave of now.
    pub(crate) fn hear(
        &mut self,
        statement: &Broadcast,
        electorate: &Electorate<'_>,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        let from = statement.slot.from;
        let Said { subject, attempt, content } = Said::of(statement).ok_or(Rejection::Invalid)?;
        if subject != self.subject {
            return Err(Rejection::Invalid);
        }
        if self.decision.is_some() {
            return Ok(());
        }
        let now = electorate.now().ok_or(Rejection::TooEarly)?.since;
        // Those whom a manifest names agree on what follows on it, and nobody else.
        if matches!(subject, Subject::Epoch(_)) && attempt.generation < now {
            return Err(Rejection::Invalid);
        }
        if let Content::Decide(decision, _) = content {
            if !decision.holds(self.subject, electorate.voters(attempt)?) {
                return Err(Rejection::Invalid);
            }
            effects.store(statement);
            self.decide(decision, effects);
            return Ok(());
        }
        if attempt.generation > now {
            return Err(Rejection::TooEarly);
        }
        // Said among others: it counts no more.
        if attempt.generation < now {
            return Ok(());
        }
        let place = (attempt, statement.slot.step, from);
        if let Some(known) = self.heard.get(&place) {
            if known.body != statement.body {
                if self.two_faced.insert(from) {
                    effects.change();
                    effects.notice(Notice::TwoFaced(from));
                }
                return Err(Rejection::Invalid);
            }
            return Ok(());
        }
        match content {
            // Two members may think that it is their turn, if they go by other epochs: the first counts.
            Content::Propose(_) if attempt < self.at || attempt == self.at && self.proposal().is_some() => {
                return Ok(());
            }
            Content::Propose(propose) => {
                self.check_proposal(from, attempt, &propose, electorate)?;
                self.accept(attempt);
            }
            // What may be of use: who is further behind goes on attempt by attempt.
            Content::Quit(_) if attempt < self.at.before().unwrap_or(self.at) => return Ok(()),
            Content::Quit(_) if Some(attempt) > self.at.next() => return Err(Rejection::TooEarly),
            Content::Quit(adopted) => self.check_quit(attempt, adopted.as_ref(), electorate)?,
            Content::Vote(choice) | Content::Adopt(choice) => match attempt.cmp(&self.at) {
                _ if choice.origin > attempt => return Err(Rejection::Invalid),
                core::cmp::Ordering::Less => return Ok(()),
                core::cmp::Ordering::Equal => {}
                core::cmp::Ordering::Greater => return Err(Rejection::TooEarly),
            },
            Content::Decide(..) => return Err(Rejection::Invalid),
        }
        self.heard.insert(place, statement.clone());
        self.forget();
        effects.store(statement);
        self.advance(electorate, effects);
        Ok(())
    }

    /// Says whose statements would help.
    pub(crate) fn on_tick(&self, electorate: &Electorate<'_>, effects: &mut Effects) {
        if self.decision.is_some() {
            return;
        }
        let own = electorate.me.id();
        let Some(voters) = electorate.now() else { return };
        let others = || voters.enclaves.members().filter(|member| *member != own);
        let mut missing = |attempt: Attempt, step, member| {
            if !self.heard.contains_key(&(attempt, step, member)) {
                effects.notice(Notice::Missing { ceremony: self.subject.attempt(attempt), step, member });
            }
        };
        if let Some(before) = self.at.before() {
            others().for_each(|member| missing(before, Step::Quit, member));
            let proposer = electorate.proposer(self.at).filter(|proposer| *proposer != own);
            proposer.into_iter().for_each(|proposer| missing(self.at, Step::Propose, proposer));
        }
        if self.at.number == 0 || self.proposal().is_some() {
            others().for_each(|member| missing(self.at, Step::Vote, member));
            others().for_each(|member| missing(self.at, Step::Adopt, member));
        }
        if self.is_said(Step::Quit, own) {
            others().for_each(|member| missing(self.at, Step::Quit, member));
        }
        // Who has decided in an earlier attempt says no more in this one; and whoever goes by an old epoch may have missed all.
        let is_first = self.at.number == 0 && electorate.are_the_first(self.at);
        if !is_first || matches!(self.subject, Subject::Epoch(_)) {
            ask_for_decision(self.subject, electorate, effects);
        }
    }

    /// Leaves the current attempt if the member whose turn it is to propose is one of these, and has not done so.
    pub(crate) fn leave_if_away(
        &mut self,
        away: &[MemberId],
        electorate: &Electorate<'_>,
        effects: &mut Effects,
    ) {
        let waits = self.at.number > 0 && self.decision.is_none() && self.proposal().is_none();
        if waits && electorate.proposer(self.at).is_some_and(|proposer| away.contains(&proposer)) {
            // Whoever may not leave it waits.
            let _ = self.quit(electorate, effects);
        }
    }

    /// Whether it may vote and adopt in the current attempt.
    fn may_speak(&self, own: MemberId) -> bool {
        let may_begin = self.at.number > 0 || !self.voted_before;
        may_begin && !self.unknowing && !self.is_said(Step::Quit, own)
    }

    fn check_proposal(
        &self,
        from: MemberId,
        attempt: Attempt,
        propose: &Propose,
        electorate: &Electorate<'_>,
    ) -> Result<(), Rejection> {
        // Under another epoch's manifest it may be another's turn.
        if electorate.proposer(attempt) != Some(from) {
            return Err(Rejection::TooEarly);
        }
        let Propose { quits, proposal } = propose;
        let fits = matches!(
            (self.subject, proposal),
            (_, Proposal::Again(_))
                | (Subject::Epoch(_), Proposal::Epoch(_))
                | (Subject::Key(_), Proposal::Run(_))
        );
        let before = attempt.before().ok_or(Rejection::Invalid)?;
        // Each member once.
        let ascending = quits.is_sorted_by(|(one, _), (next, _)| one < next);
        let enough = quits.len() >= usize::from(electorate.now().ok_or(Rejection::TooEarly)?.quorum);
        if !fits || !ascending || !enough {
            return Err(Rejection::Invalid);
        }
        // Those that are not here may still come.
        let newest = self.newest(before, quits).ok_or(Rejection::TooEarly)?;
        let must = newest.map(|adopted| adopted.choice);
        let proposed = match proposal {
            Proposal::Again(choice) => Some(*choice),
            _ => None,
        };
        if must == proposed { Ok(()) } else { Err(Rejection::Invalid) }
    }

    fn check_quit(
        &self,
        attempt: Attempt,
        adopted: Option<&Adopted>,
        electorate: &Electorate<'_>,
    ) -> Result<(), Rejection> {
        let Some(adopted) = adopted else { return Ok(()) };
        let of_now =
            matches!(self.subject, Subject::Key(_)) || adopted.attempt.generation == attempt.generation;
        let holds = of_now
            && adopted.attempt <= attempt
            && adopted.holds(self.subject, electorate.voters(adopted.attempt)?);
        if holds { Ok(()) } else { Err(Rejection::Invalid) }
    }

    /// The newest choice that one of these had adopted who have quit this attempt. `None` if one of their statements is not
    /// here.
    fn newest(&self, attempt: Attempt, quits: &[(MemberId, Digest)]) -> Option<Option<Adopted>> {
        let mut newest: Option<Adopted> = None;
        for (member, digest) in quits {
            let quit = self.heard.get(&(attempt, Step::Quit, *member))?;
            if Broadcast::digest_of(&quit.body) != *digest {
                return None;
            }
            let Some(Content::Quit(adopted)) = Said::of(quit).map(|said| said.content) else { return None };
            newest = newer(newest, adopted);
        }
        Some(newest)
    }

    /// A valid proposal has come, of this attempt.
    fn accept(&mut self, attempt: Attempt) {
        if attempt > self.at {
            self.enter(attempt);
        }
        // Whoever accepts it knows what matters of the attempts before.
        self.unknowing = false;
        self.inherit();
    }

    /// Takes over what those had adopted who have quit the attempt before.
    fn inherit(&mut self) {
        let Some(before) = self.at.before() else { return };
        let quits = self.heard.range(range(before, Step::Quit));
        let adopted = quits.filter_map(|(_, quit)| match Said::of(quit)?.content {
            Content::Quit(adopted) => adopted,
            _ => None,
        });
        self.adopted = adopted.fold(self.adopted.take(), |newest, next| newer(newest, Some(next)));
    }

    /// Goes on to a later attempt of this generation.
    fn enter(&mut self, attempt: Attempt) {
        self.at = attempt;
        self.inherit();
        self.forget();
    }

    /// Keeps what was said in the current attempt, and quits of those beside it.
    fn forget(&mut self) {
        let (at, before) = (self.at, self.at.before().unwrap_or(self.at));
        self.heard.retain(
            |(attempt, step, _), _| {
                if *step == Step::Quit { *attempt >= before } else { *attempt == at }
            },
        );
    }

    /// Does what the statements allow.
    fn advance(&mut self, electorate: &Electorate<'_>, effects: &mut Effects) {
        if self.decision.is_some() {
            return;
        }
        let Some(quorum) = electorate.now().map(|voters| usize::from(voters.quorum)) else { return };
        if let Some((choice, adopts)) = self.agreed(Step::Adopt, quorum) {
            let decision = Decision { attempt: self.at, choice, adopts };
            self.decide(decision, effects);
            return;
        }
        let own = electorate.me.id();
        if self.may_speak(own)
            && !self.is_said(Step::Adopt, own)
            && let Some((choice, votes)) = self.agreed(Step::Vote, quorum)
        {
            self.adopted = newer(self.adopted.take(), Some(Adopted { attempt: self.at, choice, votes }));
            self.say(Content::Adopt(choice), electorate, effects);
            self.advance(electorate, effects);
            return;
        }
        // Nothing will come of the first attempt of a later generation if somebody has voted in an earlier one.
        let somebody_left = self.heard.range(range(self.at, Step::Quit)).next().is_some();
        if self.at.number == 0
            && !electorate.are_the_first(self.at)
            && somebody_left
            && !self.is_said(Step::Vote, own)
            && self.quit(electorate, effects).is_ok()
        {
            return;
        }
        // Whoever was left behind goes where a quorum has gone.
        let left = self.left_by(quorum);
        if let Some(attempt) = left.filter(|attempt| *attempt >= self.at) {
            if !self.unknowing && !self.is_said_in(attempt, Step::Quit, own) {
                let said =
                    Said { subject: self.subject, attempt, content: Content::Quit(self.adopted.clone()) };
                self.state_and_keep(&said, electorate, effects);
            }
            if let Some(next) = attempt.next() {
                effects.change();
                self.enter(next);
                self.advance(electorate, effects);
            }
        }
    }

    /// The latest attempt that a quorum has quit.
    fn left_by(&self, quorum: usize) -> Option<Attempt> {
        let mut counts: BTreeMap<Attempt, usize> = BTreeMap::new();
        for (attempt, ..) in self.heard.keys().filter(|(_, step, _)| *step == Step::Quit) {
            let count = counts.entry(*attempt).or_default();
            *count = count.saturating_add(1);
        }
        counts.into_iter().rev().find(|(_, count)| *count >= quorum).map(|(attempt, _)| attempt)
    }

    /// What a quorum has said at this step of the current attempt, and their signatures.
    fn agreed(&self, step: Step, quorum: usize) -> Option<(Choice, Signatures)> {
        let mut by_choice: BTreeMap<Choice, Signatures> = BTreeMap::new();
        for ((.., member), statement) in self.heard.range(range(self.at, step)) {
            if let Some(Content::Vote(choice) | Content::Adopt(choice)) =
                Said::of(statement).map(|said| said.content)
            {
                by_choice.entry(choice).or_default().push((*member, statement.signature));
            }
        }
        by_choice.into_iter().find(|(_, signatures)| signatures.len() >= quorum)
    }

    fn decide(&mut self, decision: Decision, effects: &mut Effects) {
        effects.change();
        self.decision = Some(decision);
        self.heard.clear();
        self.adopted = None;
    }

    /// Tells others what is decided, once; of a key, how it was made.
    pub(crate) fn tell(&mut self, made: Option<Made>, electorate: &Electorate<'_>, effects: &mut Effects) {
        let Some(decision) = self.decision.clone().filter(|_| !self.is_told) else { return };
        self.is_told = true;
        let statement = told(self.subject, decision, made, &electorate.me);
        // It proves itself, and need not wait until others remember this enclave's log: that may never be, if they still go
        // by the manifest before.
        effects.store(&statement);
        effects.tell(Recipient::Everyone, &PeerMessage::Broadcast(statement));
    }

    /// Whether it has told others what is decided.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }

    /// Whether it may leave the current attempt.
    pub(crate) fn may_quit(&self, own: MemberId) -> bool {
        self.decision.is_none() && !self.unknowing && !self.is_said(Step::Quit, own)
    }

    /// Has it told once more.
    pub(crate) fn tell_again(&mut self) {
        self.is_told = false;
    }

    fn say(&mut self, content: Content, electorate: &Electorate<'_>, effects: &mut Effects) {
        let said = Said { subject: self.subject, attempt: self.at, content };
        self.state_and_keep(&said, electorate, effects);
    }

    fn state_and_keep(&mut self, said: &Said, electorate: &Electorate<'_>, effects: &mut Effects) {
        let statement = sign(said, &electorate.me);
        effects.broadcast(&statement);
        self.heard.insert((said.attempt, statement.slot.step, electorate.me.id()), statement);
    }

    fn is_said(&self, step: Step, member: MemberId) -> bool {
        self.is_said_in(self.at, step, member)
    }

    fn is_said_in(&self, attempt: Attempt, step: Step, member: MemberId) -> bool {
        self.heard.contains_key(&(attempt, step, member))
    }
}

/// All that was said at this step of an attempt.
fn range(attempt: Attempt, step: Step) -> core::ops::RangeInclusive<(Attempt, Step, MemberId)> {
    (attempt, step, MemberId(0))..=(attempt, step, MemberId(u16::MAX))
}

fn newer(one: Option<Adopted>, other: Option<Adopted>) -> Option<Adopted> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.attempt > one.attempt { other } else { one }),
        (one, other) => one.or(other),
    }
}

fn sign(said: &Said, me: &Me<'_>) -> Broadcast {
    me.keys.sign(said.slot(me.id()), codec::encode(said))
}

/// The statement that tells a decision.
pub(crate) fn told(subject: Subject, decision: Decision, made: Option<Made>, me: &Me<'_>) -> Broadcast {
    let attempt = decision.attempt;
    sign(&Said { subject, attempt, content: Content::Decide(decision, made) }, me)
}

/// Says that it would help if any of the others told the decision.
pub(crate) fn ask_for_decision(subject: Subject, electorate: &Electorate<'_>, effects: &mut Effects) {
    let ceremony = subject.ceremony();
    let members = electorate.now().into_iter().flat_map(|voters| voters.enclaves.members());
    for member in members.filter(|member| *member != electorate.me.id()) {
        effects.notice(Notice::Missing { ceremony, step: Step::Decide, member });
    }
}
