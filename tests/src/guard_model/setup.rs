//! The parts of the rule, each of which can be switched off, and who takes part in a run.

use super::rules::after_cut;
use super::state::{State, Twin, age, first_ballot};

/// The parts of the rule. [`Rules::DESIGN`] has all that hold the guard up.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Answers count only while their speaker is not known to be superseded.
    pub filter_answers: bool,
    /// So do acknowledgements.
    pub filter_acknowledgements: bool,
    /// A note is taken without its history only if the history of its ballot was checked.
    pub heed_joined: bool,
    /// Answers and acknowledgements are given and counted within one epoch only.
    pub one_epoch: bool,
    /// A dead machine takes no part in the epoch that calls it dead.
    pub bury_the_dead: bool,
    /// The accepted note of a dead machine is kept.
    pub keep_the_dead: bool,
    /// After a cut, X may go on from the very place of its listed copy only.
    pub heed_floor: bool,
    /// The DAO lists copies that wait for it only, and so have asked nobody.
    pub listed_wait: bool,
    /// The DAO lists a claim of X that contains all that has left.
    pub released_listed: bool,
    /// The DAO lists a claim of X that contains what the copies that it lists with it have noted of X.
    pub noted_listed: bool,
    /// When the DAO lists claims, nothing happens under the old epoch any more: see [the cut](super#the-cut).
    pub old_epoch_over: bool,
    /// Control: histories are compared by the number of entries only.
    pub by_number: bool,
    /// Control: a claim takes the place of the accepted note.
    pub one_note: bool,
}

impl Rules {
    /// The rules as they are meant.
    pub const DESIGN: Self = Self {
        filter_answers: true,
        filter_acknowledgements: true,
        heed_joined: true,
        one_epoch: true,
        bury_the_dead: true,
        keep_the_dead: true,
        heed_floor: true,
        listed_wait: true,
        released_listed: true,
        noted_listed: false,
        old_epoch_over: true,
        by_number: false,
        one_note: false,
    };

    /// One note of each member, compared by number, and nothing filtered: the rule that this one replaces.
    pub const FORMER: Self = Self { filter_answers: false, filter_acknowledgements: false, ..Self::ONE_NOTE };

    /// The former rule with filters.
    pub const ONE_NOTE: Self = Self { by_number: true, one_note: true, ..Self::DESIGN };
}

/// What the second epoch of a run is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// There is only one epoch.
    Nothing,
    /// The last members join, so many.
    Growth(usize),
    /// This member gets another machine.
    Replacement(usize),
    /// The DAO lists a copy of each member, after a loss of power, say; but of none whose machine it replaces: this one, and
    /// not X.
    Cut(Option<usize>),
}

/// Who takes part in a run, and how much may happen in it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// All members, those that join later included.
    pub members: usize,
    /// The agreement quorum. When members join, it is each epoch's majority instead.
    pub quorum: usize,
    /// The answers that a return needs, if not as many as the quorum.
    pub answers: Option<usize>,
    /// Whose hosts are hostile. The others restart their enclave from its newest log only, and run one copy.
    pub hostile: Vec<bool>,
    /// How many copies each member may have.
    pub copies: Vec<usize>,
    /// Whose enclaves are broken.
    pub broken: Vec<bool>,
    /// The entries that X's copies may write.
    pub entries: u8,
    /// The restarts of each member with an honest host.
    pub restarts: u8,
    /// Whether answers of all others suffice though they do not act.
    pub automatic: bool,
    /// Whether X's log may be handed over, to any number of heirs.
    pub heirs: bool,
    /// Whether answers and acknowledgements may be taken later than they are given.
    pub delays: bool,
    /// Whether steps are left out that can only forbid others: see [the reductions](super#reductions).
    pub reduced: bool,
    /// What the second epoch is for.
    pub change: Change,
    /// Whether every state is checked for honest members that could not come back.
    pub returns: bool,
    /// The rules.
    pub rules: Rules,
}

impl Setup {
    /// All hosts hostile, majority, two entries, no change; so many copies of each member.
    pub fn new(copies: &[usize]) -> Self {
        let members = copies.len();
        Self {
            members,
            quorum: members / 2 + 1,
            answers: None,
            hostile: vec![true; members],
            copies: copies.to_vec(),
            broken: vec![false; members],
            entries: 2,
            restarts: 1,
            automatic: false,
            heirs: false,
            delays: false,
            reduced: false,
            change: Change::Nothing,
            returns: false,
            rules: Rules::DESIGN,
        }
    }

    /// The state at the beginning: all act, and have noted nothing.
    pub fn start(&self) -> State {
        let mut state = State::default();
        for member in 0..self.members {
            let mut twin = Twin::new(member, 0);
            twin.epoch = u8::from(member >= self.size(0));
            twin.acting = twin.epoch == 0;
            state.twins.push(twin);
        }
        if let Some(member) = self.replaced() {
            let mut twin = Twin::new(member, first_ballot(1));
            twin.epoch = 1;
            if self.is_cut() {
                twin.memory = after_cut();
            }
            twin.name = self.copies[member] as u8;
            state.twins.push(twin);
        }
        state
    }

    /// Whether the second epoch makes a cut.
    pub fn is_cut(&self) -> bool {
        matches!(self.change, Change::Cut(_))
    }

    /// Who gets another machine.
    pub fn replaced(&self) -> Option<usize> {
        match self.change {
            Change::Replacement(member) => Some(member),
            Change::Cut(replaced) => replaced,
            _ => None,
        }
    }

    /// The members of an epoch.
    pub fn size(&self, epoch: u8) -> usize {
        match self.change {
            Change::Growth(more) if epoch == 0 => self.members - more,
            _ => self.members,
        }
    }

    fn quorum(&self, epoch: u8) -> usize {
        match self.change {
            Change::Growth(_) => self.size(epoch) / 2 + 1,
            _ => self.quorum,
        }
    }

    /// The acknowledgements without which nothing leaves.
    pub fn to_act(&self, epoch: u8) -> usize {
        self.quorum(epoch) - 1
    }

    /// The answers without which nobody returns.
    pub fn to_return(&self, epoch: u8) -> usize {
        self.answers.unwrap_or(self.quorum(epoch))
    }

    /// Whether the manifest of `epoch` has this identity.
    pub fn names(&self, epoch: u8, member: usize, machine: u8) -> bool {
        let dead = machine < epoch && self.rules.bury_the_dead;
        let replaced = self.replaced() == Some(member);
        member < self.size(epoch) && !(replaced && (dead || machine > epoch))
    }

    /// Whether two copies take each other for members, and for such of the same era.
    pub fn acquainted(&self, left: &Twin, right: &Twin) -> bool {
        left.member != right.member
            && (left.epoch == right.epoch || !self.is_cut())
            && self.names(right.epoch, left.member, age(left.ballot))
            && self.names(left.epoch, right.member, age(right.ballot))
    }

    /// Whether what a copy says in `said` counts for one in `epoch`.
    pub fn counts(&self, epoch: u8, said: u8) -> bool {
        epoch == said || !self.rules.one_epoch
    }
}
