//! Liveness: once all is delivered, and whoever is stuck quits, something is decided.

use super::setup::{Generation, Setup};
use super::state::{ATTEMPTS, Choice, Enclave, Newest, State, fresh, newer};
use super::steps::{answer, learn, may_speak};

/// Why nothing is decided, though from this state on everything is delivered, all go by the newest epoch, and whoever
/// waits in vain quits. Broken enclaves say nothing more, nor do as many others as the run says, whichever they are.
pub fn undecided(setup: &Setup, state: &State) -> Option<String> {
    let away = setup.away?;
    let last = setup.generations.len() as u8 - 1;
    let voters: Vec<usize> = setup.honest(last).collect();
    let mut setup = setup.clone();
    let room = ATTEMPTS - setup.attempt(last, 0);
    setup.generations[usize::from(last)].attempts = room;
    let few = |silent: &u32| silent.count_ones() as usize == away && silent >> voters.len() == 0;
    (0..1u32 << voters.len()).filter(few).find_map(|silent| {
        let here = voters.iter().enumerate().filter(|(place, _)| silent >> place & 1 == 0);
        let here: Vec<usize> = here.map(|(_, voter)| *voter).collect();
        let mut run = Run { setup: &setup, state: *state, generation: last, here };
        (!run.decides()).then(|| {
            let at: Vec<u8> = run.here.iter().map(|voter| run.state.enclaves[*voter].at).collect();
            format!("nothing is decided with the enclaves {:?}, which come to attempts {at:?}", run.here)
        })
    })
}

/// What happens when all goes well.
struct Run<'a> {
    setup: &'a Setup,
    state: State,
    generation: u8,
    /// Who is here.
    here: Vec<usize>,
}

impl Run<'_> {
    fn decides(&mut self) -> bool {
        self.learn();
        loop {
            if self.is_decided() {
                return true;
            }
            if self.ask() || self.enter() || self.propose() || self.speak() {
                continue;
            }
            if !self.quit() {
                return false;
            }
        }
    }

    /// Whether a quorum of enclaves that are not broken has adopted a choice.
    fn is_decided(&self) -> bool {
        (0..self.setup.attempts()).any(|attempt| {
            let adopted = |voter: &usize| self.state.enclaves[*voter].adopts[attempt];
            self.setup.generations_of(attempt).any(|generation| {
                let Generation { voters, quorum, .. } = &self.setup.generations[usize::from(generation)];
                let same = |choice| voters.iter().filter(|voter| adopted(voter) == choice).count();
                voters.iter().map(adopted).any(|choice| choice > 0 && same(choice) >= *quorum)
            })
        })
    }

    fn learn(&mut self) {
        for voter in self.here.clone() {
            while self.state.enclaves[voter].generation < self.generation {
                learn(self.setup, &mut self.state, voter);
            }
        }
    }

    fn ask(&mut self) -> bool {
        let mut changed = false;
        for (voter, helper) in self.pairs() {
            if !self.state.enclaves[voter].acting && voter != helper {
                changed |= answer(self.setup, &mut self.state, voter, helper);
            }
        }
        changed
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let pair = |voter: &usize| self.here.iter().map(move |helper| (*voter, *helper)).collect::<Vec<_>>();
        self.here.iter().flat_map(pair).collect()
    }

    fn quits(&self, number: u8) -> Vec<Option<Newest>> {
        let attempt = self.setup.attempt(self.generation, number);
        self.setup.quits(&self.state, self.generation, attempt).collect()
    }

    /// All go where a quorum has gone. Where anybody is, it was shown that a quorum has left the attempt before.
    fn enter(&mut self) -> bool {
        let numbers = self.setup.numbers(self.generation);
        let quorum = self.setup.quorum(self.generation);
        let there = self.here.iter().map(|voter| self.state.enclaves[*voter].at).max().unwrap_or_default();
        let left = (1..numbers).rev().find(|number| self.quits(number - 1).len() >= quorum);
        let number = left.unwrap_or_default().max(there);
        let mut changed = false;
        for voter in self.here.clone() {
            let enclave = &mut self.state.enclaves[voter];
            if enclave.acting && enclave.at < number {
                enclave.enter(self.setup, number);
                changed = true;
            }
        }
        changed
    }

    /// Whoever's turn it is proposes, unless that was done; all accept it who can.
    fn propose(&mut self) -> bool {
        let here = self.here.clone();
        let Some(number) = here.iter().map(|voter| self.state.enclaves[*voter].at).max() else {
            return false;
        };
        let attempt = self.setup.attempt(self.generation, number);
        let voters = &self.setup.generations[usize::from(self.generation)].voters;
        let proposer = voters[usize::from(number) % voters.len()];
        let enclaves = &self.state.enclaves;
        let proposed = |voter: &usize| {
            let enclave = &enclaves[*voter];
            let said = if number == 0 { enclave.votes[attempt] } else { enclave.accepted };
            (enclave.generation == self.generation && enclave.at == number && said > 0).then_some(said)
        };
        let newest = match number {
            0 => None,
            _ => self.quits(number - 1).into_iter().fold(None, newer),
        };
        let enclave = &enclaves[proposer];
        let can = here.contains(&proposer) && enclave.acting && enclave.at == number;
        let new = (can && (number > 0 || may_speak(self.setup, enclave)))
            .then(|| newest.map_or(fresh(attempt, 0), |newest| newest.choice));
        let Some(choice) = voters.iter().find_map(proposed).or(new) else { return false };
        let mut changed = false;
        for voter in here {
            let enclave = &mut self.state.enclaves[voter];
            if !enclave.acting || enclave.at != number {
                continue;
            }
            if number > 0 && enclave.accepted == 0 {
                enclave.accept(number, choice, newer(enclave.newest, newest));
                changed = true;
            } else if number == 0 && enclave.votes[attempt] == 0 && may_speak(self.setup, enclave) {
                enclave.vote(attempt, choice);
                changed = true;
            }
        }
        changed
    }

    /// All vote and adopt what they can.
    fn speak(&mut self) -> bool {
        let mut changed = false;
        for voter in self.here.clone() {
            let enclave = &self.state.enclaves[voter];
            let attempt = self.setup.attempt(self.generation, enclave.at);
            if !enclave.acting || !may_speak(self.setup, enclave) {
                continue;
            }
            // What somebody has adopted can be adopted by all.
            let voters = &self.setup.generations[usize::from(self.generation)].voters;
            let mut certified = self.setup.certified(&self.state, attempt, self.generation);
            certified.retain(|choice| {
                let says = |said: fn(&Enclave) -> &[Choice; ATTEMPTS]| {
                    voters
                        .iter()
                        .filter(|voter| said(&self.state.enclaves[**voter])[attempt] == *choice)
                        .count()
                };
                says(|enclave| &enclave.votes) >= self.setup.quorum(self.generation)
                    || says(|enclave| &enclave.adopts) > 0
            });
            let enclave = &mut self.state.enclaves[voter];
            if enclave.votes[attempt] == 0 && enclave.at > 0 && enclave.accepted > 0 {
                enclave.vote(attempt, enclave.accepted);
                changed = true;
            } else if let (0, Some(choice)) = (enclave.adopts[attempt], certified.first()) {
                enclave.adopt(attempt, *choice);
                changed = true;
            }
        }
        changed
    }

    /// All lose patience.
    fn quit(&mut self) -> bool {
        let mut changed = false;
        for voter in self.here.clone() {
            let enclave = &mut self.state.enclaves[voter];
            let attempt = self.setup.attempt(self.generation, enclave.at);
            let is_last = enclave.at + 1 >= self.setup.numbers(self.generation);
            if enclave.acting && !is_last && !enclave.unknowing && enclave.quits[attempt].is_none() {
                enclave.quit(self.setup, attempt);
                changed = true;
            }
        }
        changed
    }
}
