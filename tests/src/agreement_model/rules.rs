//! What counts: certificates, decisions, and what opens an attempt.

use super::setup::{Generation, Setup};
use super::state::{Choice, ENCLAVES, Enclave, Newest, State};

impl Setup {
    /// What those who go by the voters of `generation` may adopt: a quorum of them has voted for it.
    pub fn certified(&self, state: &State, attempt: usize, generation: u8) -> Vec<Choice> {
        self.agreed(state, generation, |enclave| enclave.votes[attempt])
    }

    /// What a quorum has adopted in an attempt.
    pub fn decided_in(&self, state: &State, attempt: usize) -> Vec<Choice> {
        let adopted = |by| self.agreed(state, by, |enclave| enclave.adopts[attempt]);
        self.generations_of(attempt).flat_map(adopted).collect()
    }

    /// Everything that is decided.
    pub fn decided(&self, state: &State) -> Vec<Choice> {
        let mut decided: Vec<Choice> =
            (0..self.attempts()).flat_map(|attempt| self.decided_in(state, attempt)).collect();
        decided.sort_unstable();
        decided.dedup();
        decided
    }

    /// What a quorum has said. Broken enclaves have said everything; alone they are never enough.
    fn agreed(&self, state: &State, generation: u8, said: impl Fn(&Enclave) -> Choice) -> Vec<Choice> {
        let Generation { voters, quorum, .. } = &self.generations[usize::from(generation)];
        let (mut words, mut count, mut needed) = ([0; ENCLAVES], 0, *quorum);
        for voter in voters {
            if self.enclaves[*voter].broken {
                needed -= 1;
                continue;
            }
            words[count] = said(&state.enclaves[*voter]);
            count += usize::from(words[count] > 0);
        }
        let mut choices = Vec::new();
        for (place, word) in words[..count].iter().enumerate() {
            let met = words[..place].contains(word);
            if !met && words[place..count].iter().filter(|other| *other == word).count() >= needed {
                choices.push(*word);
            }
        }
        choices
    }

    /// What those say who have quit an attempt of this generation and are not broken.
    pub fn quits(
        &self,
        state: &State,
        generation: u8,
        attempt: usize,
    ) -> impl Iterator<Item = Option<Newest>> {
        self.honest(generation).filter_map(move |voter| state.enclaves[voter].quits[attempt])
    }

    /// What anybody can show of what was adopted, when it has quit this attempt.
    pub fn named(&self, state: &State, generation: u8, attempt: usize) -> Vec<Newest> {
        let mut named: Vec<Newest> = self.quits(state, generation, attempt).flatten().collect();
        if self.rules.carry && self.liars(generation) > 0 {
            for earlier in 0..=attempt {
                for by in
                    self.generations_of(earlier).filter(|by| self.rules.generations || *by == generation)
                {
                    let certified = self.certified(state, earlier, by).into_iter();
                    named.extend(certified.map(|choice| Newest { attempt: earlier as u8, choice }));
                }
            }
        }
        named.sort_unstable();
        named.dedup();
        named
    }

    /// What the proposals may have to repeat that open an attempt, which is not the first: one for each way to take a quorum
    /// of those who have quit the one before. `None` where something fresh is proposed.
    pub fn openings(&self, state: &State, generation: u8, number: u8) -> Vec<Option<Newest>> {
        let before = self.attempt(generation, number - 1);
        let (quorum, liars) = (self.quorum(generation), self.liars(generation));
        let quits: Vec<Option<Newest>> = self.quits(state, generation, before).collect();
        let fit = |newest: Option<Newest>| {
            let counts = |quit: &&Option<Newest>| {
                let is_newer =
                    quit.is_some_and(|quit| newest.is_none_or(|newest| quit.attempt > newest.attempt));
                !is_newer || newest.is_some() && !self.rules.repeat_newest
            };
            quits.iter().filter(counts).count() + liars >= quorum
        };
        let named = self.named(state, generation, before).into_iter().map(Some);
        named.chain([None]).filter(|newest| fit(*newest)).collect()
    }
}
