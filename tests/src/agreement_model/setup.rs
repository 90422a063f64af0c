//! The parts of the rules, each of which can be switched off, and who takes part in a run.

use super::state::{ATTEMPTS, ENCLAVES, Enclave, Newest, State};

/// The parts of the rules. [`Rules::DESIGN`] has all.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Quits name the newest choice that was adopted.
    pub carry: bool,
    /// Of those that are named, the newest is proposed again. Without it, any of them is.
    pub repeat_newest: bool,
    /// Newcomers are told whether anything was adopted, and then say nothing until a quorum has quit an attempt.
    pub tell_newcomers: bool,
    /// Attempts of other voters are other attempts, and certificates are judged by the voters of their attempt.
    pub generations: bool,
    /// Who has voted before takes no part in the first attempt of a later generation.
    pub keep_out: bool,
    /// So does who has taken over from others what they had adopted.
    pub inherited_counts: bool,
    /// So does who has come past the first attempt of an earlier generation.
    pub past_first_counts: bool,
    /// Who has quit an attempt neither votes nor adopts in it.
    pub quit_ends: bool,
    /// Who has quit an attempt is in the next one only when a quorum has quit it too.
    pub wait_for_quorum: bool,
}

impl Rules {
    /// The rules as they are meant.
    pub const DESIGN: Self = Self {
        carry: true,
        repeat_newest: true,
        tell_newcomers: true,
        generations: true,
        keep_out: true,
        inherited_counts: true,
        past_first_counts: true,
        quit_ends: true,
        wait_for_quorum: true,
    };
}

/// The same voters, and how many decide.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The enclave of each member.
    pub voters: Vec<usize>,
    /// How many decide.
    pub quorum: usize,
    /// How many attempts are looked at.
    pub attempts: usize,
}

/// An enclave, over all generations.
#[derive(Clone, Debug)]
pub struct Place {
    /// Whose it is.
    pub member: usize,
    /// The how many-th of this member.
    pub machine: usize,
    /// The first generation in which it votes.
    pub since: u8,
    /// The last one. It learns of none after it: it is a hidden machine that goes on as before.
    pub until: u8,
    /// Whether it says whatever helps to break the agreement.
    pub broken: bool,
}

/// Who takes part in a run, and how much may happen in it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// One after the other. Each enclave goes on to the next one when its host likes.
    pub generations: Vec<Generation>,
    /// Those of the first generation in the order of the members, then those that take others' places.
    pub enclaves: Vec<Place>,
    /// In the beginning these have adopted a choice in the first attempt.
    pub seeded: Vec<usize>,
    /// Whether nothing else happens in the first generation of a run that begins so.
    pub only_seed: bool,
    /// The fresh choices that may come up in an attempt.
    pub fresh: u8,
    /// Whether it is asked of every state if a decision can be reached from there when so many members, whichever they
    /// are, say no more.
    pub away: Option<usize>,
    /// The rules.
    pub rules: Rules,
}

impl Setup {
    /// One generation; two fresh choices in each attempt.
    pub fn new(members: usize, quorum: usize, attempts: usize) -> Self {
        let enclaves =
            (0..members).map(|member| Place { member, machine: 0, since: 0, until: 0, broken: false });
        Self {
            generations: vec![Generation { voters: (0..members).collect(), quorum, attempts }],
            enclaves: enclaves.collect(),
            seeded: Vec::new(),
            only_seed: false,
            fresh: 2,
            away: None,
            rules: Rules::DESIGN,
        }
    }

    /// One more generation: these members have other machines.
    pub fn replacing(self, members: &[usize], attempts: usize) -> Self {
        let quorum = self.last().quorum;
        self.then(members, quorum, attempts)
    }

    /// One more generation: the same voters, of whom so many decide.
    pub fn with_quorum(self, quorum: usize, attempts: usize) -> Self {
        self.then(&[], quorum, attempts)
    }

    /// One more generation: these members have other machines, and so many decide.
    pub fn then(mut self, replaced: &[usize], quorum: usize, attempts: usize) -> Self {
        let now = self.generations.len() as u8;
        let mut voters = self.last().voters.clone();
        for member in replaced.iter().copied() {
            let machine = self.enclaves[voters[member]].machine + 1;
            voters[member] = self.enclaves.len();
            self.enclaves.push(Place { member, machine, since: now, until: now, broken: false });
        }
        voters.iter().for_each(|voter| self.enclaves[*voter].until = now);
        self.generations.push(Generation { voters, quorum, attempts });
        self
    }

    /// This enclave is broken.
    pub fn broken(mut self, enclave: usize) -> Self {
        self.enclaves[enclave].broken = true;
        self
    }

    /// These have adopted one choice in the first attempt.
    pub fn seeded(self, seeded: &[usize]) -> Self {
        Self { seeded: seeded.to_vec(), ..self }
    }

    /// Under other rules.
    pub fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// The state at the beginning: nobody has said anything.
    pub fn start(&self) -> State {
        assert!(self.enclaves.len() <= ENCLAVES && self.attempts() <= ATTEMPTS, "too large a run");
        let mut state = State { enclaves: [Enclave::default(); ENCLAVES] };
        for (enclave, place) in state.enclaves.iter_mut().zip(&self.enclaves) {
            (enclave.generation, enclave.acting) = (place.since, place.since == 0);
        }
        for index in &self.seeded {
            let enclave = &mut state.enclaves[*index];
            (enclave.votes[0], enclave.adopts[0], enclave.has_voted) = (1, 1, true);
            enclave.newest = Some(Newest { attempt: 0, choice: 1 });
        }
        state
    }

    /// The last generation.
    pub fn last(&self) -> &Generation {
        self.generations.last().expect("there is one")
    }

    /// All attempts of all generations are counted through. If generations make no difference, those of the same number are
    /// the same.
    pub fn attempt(&self, generation: u8, number: u8) -> usize {
        let before = &self.generations[..usize::from(generation)];
        let before: usize = before.iter().map(|generation| generation.attempts).sum();
        usize::from(number) + if self.rules.generations { before } else { 0 }
    }

    /// How many attempts are looked at.
    pub fn attempts(&self) -> usize {
        self.attempt(self.generations.len() as u8 - 1, self.last().attempts as u8)
    }

    /// The generations whose voters may vote in an attempt: one, but if generations make no difference.
    pub fn generations_of(&self, attempt: usize) -> impl Iterator<Item = u8> {
        (0..self.generations.len() as u8).filter(move |generation| {
            !self.rules.generations
                || (self.attempt(*generation, 0)..self.attempt(generation + 1, 0)).contains(&attempt)
        })
    }

    /// Who votes in this generation and is not broken.
    pub fn honest(&self, generation: u8) -> impl Iterator<Item = usize> {
        let voters = self.generations[usize::from(generation)].voters.iter().copied();
        voters.filter(|voter| !self.enclaves[*voter].broken)
    }

    /// How many broken enclaves vote in this generation.
    pub fn liars(&self, generation: u8) -> usize {
        self.generations[usize::from(generation)].voters.len() - self.honest(generation).count()
    }

    /// How many decide.
    pub fn quorum(&self, generation: u8) -> usize {
        self.generations[usize::from(generation)].quorum
    }

    /// The attempts of this generation that are looked at.
    pub fn numbers(&self, generation: u8) -> u8 {
        self.generations[usize::from(generation)].attempts as u8
    }
}
