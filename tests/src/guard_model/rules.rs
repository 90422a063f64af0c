//! The rules of the guard: what a copy takes, what it answers, what it learns, when it acts, and when something leaves.

use super::setup::{Change, Setup};
use super::state::{
    Answer, Ballot, Cut, End, Ends, MEMBERS, Memory, Place, State, Twin, Word, X, age, first_ballot,
};

impl Setup {
    /// Whether a claim with this history contains the accepted note.
    pub fn contains(&self, claim: &Twin, accepted: &Option<Place>) -> bool {
        let Some(accepted) = accepted else { return true };
        if accepted.ballot == claim.ballot || age(accepted.ballot) < age(claim.ballot) {
            return true;
        }
        if self.rules.by_number {
            let same = accepted.number == claim.number() && accepted.log == claim.log;
            return accepted.number < claim.number() || same;
        }
        in_ends(accepted, &claim.ends)
    }

    /// Whether what a copy goes on from is the listed one's place.
    pub fn goes_on(&self, cut: &Cut, ends: &Ends) -> bool {
        let floor = cut.floor.filter(|_| self.rules.heed_floor);
        floor.is_none_or(|floor| ends.contains(&floor))
    }

    /// Whether a claim of X goes against what is known of it.
    fn goes_against(&self, memory: &Memory, claim: &Twin, cut: Option<&Cut>) -> bool {
        match (memory.accepted, cut.filter(|_| claim.epoch > 0)) {
            (None, Some(cut)) => claim.ballot != LISTED && !self.goes_on(cut, &claim.ends),
            _ => !self.contains(claim, &memory.accepted),
        }
    }

    /// A claim reaches a copy that remembers `memory`. Returns whether it is taken.
    pub fn hear_claim(&self, memory: &mut Memory, claim: &Twin, cut: Option<&Cut>) -> bool {
        let member = claim.member;
        if claim.ballot < memory.promised[member] {
            return false;
        }
        if member == X {
            if self.goes_against(memory, claim, cut) {
                return false;
            }
            memory.joined = true;
            if self.rules.one_note {
                memory.accepted = Some(claim.place(claim.number()));
            }
        }
        memory.promised[member] = claim.ballot;
        true
    }

    /// A note of X reaches a copy that acts. Returns whether it is taken. If not, it is refused, or its history is asked
    /// for.
    pub fn hear_note(&self, memory: &mut Memory, speaker: &Twin, note: Place) -> bool {
        let promised = memory.promised[X];
        if note.ballot < promised || !self.known_history(memory, speaker, note) {
            return false;
        }
        if memory.accepted.is_none_or(|old| (old.ballot, old.number) < (note.ballot, note.number)) {
            memory.accepted = Some(note);
            memory.promised[X] = note.ballot;
            memory.joined = true;
        }
        true
    }

    fn known_history(&self, memory: &Memory, speaker: &Twin, note: Place) -> bool {
        if self.rules.one_note {
            return self.contains(speaker, &memory.accepted);
        }
        let Some(accepted) = memory.accepted else {
            // After a cut its ballot must have been promised: whoever did so first has looked at its place.
            let cut = self.is_cut() && speaker.epoch > 0;
            return !cut || note.ballot == memory.promised[X];
        };
        let checked = memory.joined || accepted.ballot == note.ballot || !self.rules.heed_joined;
        note.ballot == memory.promised[X] && checked
    }

    /// What a copy answers, with the memory that it had before.
    pub fn answer(&self, speaker: &Twin, before: &Memory, noted: Option<u8>) -> Answer {
        let mut promised = before.promised;
        promised[speaker.member] = speaker.ballot;
        let own = speaker.acting.then(|| speaker.place(speaker.number()));
        let place = if speaker.member == X { own } else { before.accepted };
        let word = Word { ballot: speaker.ballot, acting: speaker.acting, number: noted.unwrap_or_default() };
        // An acknowledgement shows promises only.
        let place = if noted.is_some() { None } else { place };
        Answer { from: speaker.member, epoch: speaker.epoch, word, noted: noted.is_some(), place, promised }
    }

    /// A copy takes an answer or an acknowledgement: it learns at once, and counts.
    pub fn take(&self, state: &mut State, asker: usize, answer: &Answer) {
        let twin = &mut state.twins[asker];
        if twin.acting != answer.noted || !self.counts(twin.epoch, answer.epoch) {
            return;
        }
        self.learn(twin, answer);
        twin.words[answer.from] = Some(answer.word);
        self.settle(state, asker);
    }

    fn learn(&self, twin: &mut Twin, answer: &Answer) {
        let before = twin.memory;
        let epoch = twin.epoch;
        for (member, shown) in answer.promised.iter().enumerate().take(self.members) {
            let known = &mut twin.memory.promised[member];
            // With an acknowledgement, of the speaker itself nothing is kept but what it has noted.
            let kept = member != twin.member && !(answer.noted && member == answer.from);
            if kept && self.verifiable(epoch, member, *shown) {
                *known = (*known).max(*shown);
            }
        }
        let place = answer.place.filter(|place| self.verifiable(epoch, X, place.ballot));
        // Of itself, X only needs what its dead machine has left behind.
        let place = place.filter(|place| twin.member != X || age(place.ballot) < age(twin.ballot));
        if let Some(place) = place {
            let newer = |old: Place| (old.ballot, old.number) < (place.ballot, place.number);
            if twin.memory.accepted.is_none_or(newer) {
                twin.memory.accepted = Some(place);
            }
        }
        if twin.member != X && twin.memory != before {
            twin.rejoin(&before);
        }
    }

    /// Notes of a machine that the epoch does not have yet are not signed by anybody known.
    fn verifiable(&self, epoch: u8, member: usize, ballot: u8) -> bool {
        age(ballot) == 0 || self.names(epoch, member, age(ballot))
    }

    /// Drops what can never count again, and draws the consequences of what does.
    pub fn settle(&self, state: &mut State, index: usize) {
        let twin = &mut state.twins[index];
        let filtered =
            if twin.acting { self.rules.filter_acknowledgements } else { self.rules.filter_answers };
        for (word, promised) in twin.words.iter_mut().zip(&twin.memory.promised) {
            *word = word.filter(|word| !filtered || word.ballot >= *promised);
            *word = word.filter(|word| word.acting || self.automatic);
        }
        if twin.acting {
            self.release(state, index);
        } else if self.may_act(twin) {
            act(twin);
        }
    }

    fn may_act(&self, twin: &Twin) -> bool {
        let words = twin.words.iter().flatten();
        let acting = words.clone().filter(|word| word.acting).count();
        let all = self.automatic && words.count() >= self.size(twin.epoch) - 1;
        acting >= self.to_return(twin.epoch) || all
    }

    fn release(&self, state: &mut State, index: usize) {
        let twin = &state.twins[index];
        let noted = |number: u8| twin.words.iter().flatten().filter(|word| word.number >= number).count();
        let number = (0..=twin.number()).rev().find(|number| noted(*number) >= self.to_act(twin.epoch));
        let log = number.map(|number| twin.place(number).log).unwrap_or_default();
        if log.starts_with(&state.released) {
            state.released = log;
        } else if !state.released.starts_with(&log) {
            state.clash = true;
        }
        let released = state.released;
        let twin = &mut state.twins[index];
        // What has left already can't leave again.
        let copy = *twin;
        let news = |word: &Word| !released.starts_with(&copy.place(word.number).log);
        twin.words.iter_mut().for_each(|word| *word = word.filter(news));
    }

    /// A copy takes the second epoch, which makes no cut.
    pub fn take_epoch(&self, twin: &mut Twin) {
        twin.epoch = 1;
        if self.rules.one_epoch {
            twin.forget_words();
        }
        if !self.rules.keep_the_dead && self.change == Change::Replacement(X) && twin.member != X {
            twin.memory.accepted = None;
        }
    }
}

/// The ballot in the new era of a copy that a cut has let in. Later ones ask as any other copy.
pub const LISTED: Ballot = first_ballot(1);

/// What a copy knows when it has taken a cut: the listed copies.
pub fn after_cut() -> Memory {
    Memory { promised: [LISTED; MEMBERS], ..Memory::default() }
}

/// A copy takes a cut that lists it.
pub fn let_in(twin: &mut Twin) {
    twin.epoch = 1;
    twin.memory = after_cut();
    twin.ballot = LISTED;
    twin.awaits = false;
    act(twin);
}

/// The place at which the log last acted that a copy of X goes on with.
pub fn floor(claim: &Twin) -> Option<End> {
    claim.ends.last().copied()
}

impl Twin {
    fn rejoin(&mut self, before: &Memory) {
        let memory = &mut self.memory;
        if memory.promised[X] != before.promised[X] || memory.accepted != before.accepted {
            memory.joined = memory.accepted.is_some_and(|accepted| accepted.ballot == memory.promised[X]);
        }
    }
}

/// Whether the history that `ends` tell contains `place`.
fn in_ends(place: &Place, ends: &Ends) -> bool {
    ends.iter().any(|end| end.ballot == place.ballot && place.number <= end.number)
}

/// A copy begins to act. X on a new machine goes on where the dead one is known to have stood.
fn act(twin: &mut Twin) {
    twin.acting = true;
    twin.forget_words();
    if twin.member == X && twin.ends.is_empty() && age(twin.ballot) > 0 {
        twin.log = twin.memory.accepted.map(|place| place.log).unwrap_or_default();
        twin.base = twin.log.count();
    }
}
