//! What the model remembers: copies of enclaves, their memories, and what has left.

use crate::search::digest;
use std::ops::Deref;

/// The most members that a run may have.
pub const MEMBERS: usize = 5;

/// The member whose log is looked at.
pub const X: usize = 0;

/// One copy of one member that has run: its age in the upper half, its place in the order in the lower half.
///
/// Only the order of a member's ballots ever matters, so incarnation and nonce are one number here. So are machine and
/// era, of which a run changes at most one for each member.
pub type Ballot = u8;

/// Ballots of one age.
const SPAN: Ballot = 16;

/// The first ballot of an age.
pub const fn first_ballot(age: u8) -> Ballot {
    age * SPAN
}

/// The age of a ballot: its machine, or its era.
pub const fn age(ballot: Ballot) -> u8 {
    ballot / SPAN
}

/// A short list without a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row<T, const N: usize> {
    items: [T; N],
    len: u8,
}

impl<T: Copy + Default, const N: usize> Default for Row<T, N> {
    fn default() -> Self {
        Self { items: [T::default(); N], len: 0 }
    }
}

impl<T: Copy + Default, const N: usize> Row<T, N> {
    /// Appends `item`.
    pub fn push(&mut self, item: T) {
        self.items[usize::from(self.len)] = item;
        self.len += 1;
    }

    /// The first `len` items.
    pub fn first(&self, len: u8) -> Self {
        let mut row = Self::default();
        self.iter().take(usize::from(len)).for_each(|item| row.push(*item));
        row
    }

    /// The number of items.
    pub fn count(&self) -> u8 {
        self.len
    }
}

impl<T, const N: usize> Deref for Row<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..usize::from(self.len)]
    }
}

/// The content of a log: for each entry the ballot that wrote it. Whoever wrote it had one log, so this tells all.
pub type Log = Row<Ballot, 4>;

/// Where the log of an earlier ballot ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// The ballot that acted.
    pub ballot: Ballot,
    /// The last entry that it wrote or took over, counted from the beginning of its log.
    pub number: u8,
}

/// The ends of all earlier ballots of a log that acted.
pub type Ends = Row<End, 8>;

/// A place in a log, as a note names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The ballot that stands there.
    pub ballot: Ballot,
    /// The entries of its log up to there.
    pub number: u8,
    /// The content up to there: the digest of the real protocol.
    pub log: Log,
}

/// What a copy knows about all members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// The highest ballot of each member that asked or acted.
    pub promised: [Ballot; MEMBERS],
    /// The newest note of X that acts. In a copy of X: the one of its dead machine.
    pub accepted: Option<Place>,
    /// Whether it has itself checked that `accepted` is contained in the history of X's promised ballot.
    pub joined: bool,
}

impl Memory {
    /// Whether it was checked, and makes a difference.
    fn heeds_joined(&self) -> bool {
        self.joined && self.accepted.is_some_and(|accepted| accepted.ballot != self.promised[X])
    }
}

/// An answer or an acknowledgement that waits to be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// The ballot of the speaker.
    pub ballot: Ballot,
    /// Whether it acts.
    pub acting: bool,
    /// The entries that it has noted.
    pub number: u8,
}

/// One copy of a member's enclave: it runs, or lies still until its host likes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Twin {
    /// Whose copy.
    pub member: usize,
    /// The how many-th copy of this member: for people only.
    pub name: u8,
    /// Its ballot.
    pub ballot: Ballot,
    /// Whether it acts. Otherwise it asks.
    pub acting: bool,
    /// Whether it waits for a cut, and asks nobody.
    pub awaits: bool,
    /// The epoch that it has taken.
    pub epoch: u8,
    /// How often an honest host has restarted it.
    pub restarts: u8,
    /// The earlier ballots of its log.
    pub ends: Ends,
    /// The content of its log, that of its predecessor included.
    pub log: Log,
    /// Where the log of this name begins within `log`.
    pub base: u8,
    /// What it knows.
    pub memory: Memory,
    /// Answers while it asks, acknowledgements while it acts.
    pub words: [Option<Word>; MEMBERS],
}

impl Twin {
    /// A copy that knows nothing.
    pub fn new(member: usize, ballot: Ballot) -> Self {
        Self {
            member,
            name: 0,
            ballot,
            acting: false,
            awaits: false,
            epoch: 0,
            restarts: 0,
            ends: Ends::default(),
            log: Log::default(),
            base: 0,
            memory: Memory::default(),
            words: [None; MEMBERS],
        }
    }

    /// The entries of its log.
    pub fn number(&self) -> u8 {
        self.log.count() - self.base
    }

    /// Where its log stands, or stood at entry `number`.
    pub fn place(&self, number: u8) -> Place {
        Place { ballot: self.ballot, number, log: self.log.first(self.base + number) }
    }

    /// Drops the answers or acknowledgements that wait.
    pub fn forget_words(&mut self) {
        self.words = [None; MEMBERS];
    }

    /// Begins a new ballot: what acted gets an end, what waited is lost.
    pub fn restore(&mut self, ballot: Ballot) {
        if self.acting && self.member == X {
            self.ends.push(End { ballot: self.ballot, number: self.number() });
        }
        self.ballot = ballot;
        (self.acting, self.awaits) = (false, false);
        self.forget_words();
    }
}

/// The copies that the DAO lets act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Their ballots, of all members whose machine is not replaced.
    pub ballots: [Option<Ballot>; MEMBERS],
    /// The place at which X's log last acted, if it ever did.
    pub floor: Option<End>,
}

/// An answer or an acknowledgement on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// The member that asked.
    pub to: usize,
    /// The ballot that asked.
    pub ballot: Ballot,
    /// What it will be told.
    pub answer: Answer,
}

/// What a copy says of itself and of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The member that speaks.
    pub from: usize,
    /// Its epoch.
    pub epoch: u8,
    /// Itself.
    pub word: Word,
    /// Whether it acknowledges a note. Otherwise it answers a claim.
    pub noted: bool,
    /// The newest place of X that it knows, its own if it is X.
    pub place: Option<Place>,
    /// The ballots that it knows.
    pub promised: [Ballot; MEMBERS],
}

/// Everything at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// All copies.
    pub twins: Vec<Twin>,
    /// The longest log of X of which something has left.
    pub released: Log,
    /// Whether something has left from two logs of which neither is part of the other.
    pub clash: bool,
    /// The entries that X's copies have written.
    pub entries: u8,
    /// What the DAO has decided, if it has.
    pub cut: Option<Cut>,
    /// Answers that were given and not yet taken.
    pub letters: Vec<Letter>,
}

impl State {
    /// Calls `see` with each ballot and the member whose ballot it is.
    fn each_ballot(&mut self, see: &mut impl FnMut(usize, &mut Ballot)) {
        for twin in &mut self.twins {
            twin_ballots(twin, see);
        }
        log_ballots(&mut self.released, see);
        if let Some(cut) = &mut self.cut {
            for (member, ballot) in cut.ballots.iter_mut().enumerate() {
                ballot.iter_mut().for_each(|ballot| see(member, ballot));
            }
            cut.floor.iter_mut().for_each(|floor| see(X, &mut floor.ballot));
        }
        for letter in &mut self.letters {
            see(letter.to, &mut letter.ballot);
            see(letter.answer.from, &mut letter.answer.word.ballot);
            letter.answer.place.iter_mut().for_each(|place| place_ballots(place, see));
            letter.answer.promised.iter_mut().enumerate().for_each(|(member, ballot)| see(member, ballot));
        }
    }

    /// The ballots of each member that anybody remembers.
    fn used(&mut self) -> [Used; MEMBERS] {
        let mut used = [Used::default(); MEMBERS];
        self.each_ballot(&mut |member, ballot| used[member].add(*ballot));
        used
    }

    /// All ways to place a new ballot of the age of `above` after it: between any two that are remembered.
    pub fn new_ballots(&self, member: usize, above: Ballot) -> Vec<(Ballot, State)> {
        let used = self.clone().used()[member];
        let end = first_ballot(age(above) + 1);
        (above..end)
            .filter(|ballot| used.has(*ballot))
            .map(|ballot| {
                let new = ballot + 1;
                let mut next = self.clone();
                if new < end && used.has(new) {
                    next.make_room(member, new, end);
                }
                (new, next)
            })
            .collect()
    }

    fn make_room(&mut self, member: usize, new: Ballot, end: Ballot) {
        self.each_ballot(&mut |whose, ballot| {
            if whose == member && (new..end).contains(ballot) {
                *ballot += 1;
                assert!(*ballot < end, "too many ballots");
            }
        });
    }

    /// This state with the ballots of each age numbered without gaps: what is remembered, not how it came about.
    fn ranked(&self) -> State {
        let mut ranked = self.clone();
        ranked.tidy();
        let used = ranked.used();
        ranked.each_ballot(&mut |member, ballot| *ballot = used[member].rank(*ballot));
        ranked.twins.sort_by_key(|twin| (twin.member, twin.ballot));
        ranked
    }

    /// Drops what nobody can make use of: letters to copies that are gone, and places in the list of such.
    fn tidy(&mut self) {
        let Self { twins, cut, letters, .. } = self;
        letters.retain(|letter| {
            let addressed = |twin: &Twin| (twin.member, twin.ballot) == (letter.to, letter.ballot);
            twins.iter().any(|twin| addressed(twin) && twin.acting == letter.answer.noted)
        });
        let Some(cut) = cut else { return };
        for (member, listed) in cut.ballots.iter_mut().enumerate() {
            let waits = |twin: &Twin| twin.member == member && !twin.acting && Some(twin.ballot) == *listed;
            *listed = listed.filter(|_| twins.iter().any(waits));
        }
    }

    /// A name of this state that is the same for all states that differ by an exchange of members in `orders` only.
    ///
    /// The content of a place that is remembered is part of it only if `contents` says so: it makes a difference only where
    /// a machine goes on from it.
    pub fn fingerprint(&self, orders: &[[usize; MEMBERS]], members: usize, contents: bool) -> u128 {
        let ranked = self.ranked();
        let mut bytes = Vec::with_capacity(256);
        let prints = orders.iter().map(|order| {
            bytes.clear();
            Writer { bytes: &mut bytes, order, members, contents }.state(&ranked);
            digest(&bytes)
        });
        prints.min().unwrap_or_default()
    }
}

fn twin_ballots(twin: &mut Twin, see: &mut impl FnMut(usize, &mut Ballot)) {
    see(twin.member, &mut twin.ballot);
    let ends = usize::from(twin.ends.len);
    twin.ends.items[..ends].iter_mut().for_each(|end| see(X, &mut end.ballot));
    log_ballots(&mut twin.log, see);
    for (member, ballot) in twin.memory.promised.iter_mut().enumerate() {
        see(member, ballot);
    }
    twin.memory.accepted.iter_mut().for_each(|place| place_ballots(place, see));
    for (member, word) in twin.words.iter_mut().enumerate() {
        word.iter_mut().for_each(|word| see(member, &mut word.ballot));
    }
}

fn place_ballots(place: &mut Place, see: &mut impl FnMut(usize, &mut Ballot)) {
    see(X, &mut place.ballot);
    log_ballots(&mut place.log, see);
}

fn log_ballots(log: &mut Log, see: &mut impl FnMut(usize, &mut Ballot)) {
    let len = usize::from(log.len);
    log.items[..len].iter_mut().for_each(|ballot| see(X, ballot));
}

/// A set of ballots of one member: a bit for each.
#[derive(Clone, Copy)]
struct Used(u32);

impl Default for Used {
    /// The first ballot of an age stands for "nothing known" too, so it keeps its number.
    fn default() -> Self {
        Self(1 | 1 << SPAN)
    }
}

impl Used {
    fn add(&mut self, ballot: Ballot) {
        self.0 |= 1 << ballot;
    }

    fn has(self, ballot: Ballot) -> bool {
        self.0 >> ballot & 1 == 1
    }

    /// The number that this ballot has if those of its age are numbered without gaps.
    fn rank(self, ballot: Ballot) -> Ballot {
        let first = first_ballot(age(ballot));
        let below = (1 << ballot) - (1 << first);
        first + (self.0 & below).count_ones() as Ballot
    }
}

/// Writes a state down with its members in a given order.
struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    order: &'a [usize; MEMBERS],
    members: usize,
    contents: bool,
}

impl Writer<'_> {
    fn state(&mut self, state: &State) {
        self.bytes.extend([state.entries, u8::from(state.clash), state.released.len]);
        self.bytes.extend(state.released.iter());
        for member in self.order.iter().take(self.members) {
            let twins = state.twins.iter().filter(|twin| twin.member == *member);
            twins.for_each(|twin| self.twin(twin));
            self.bytes.push(u8::MAX);
        }
        self.bytes.push(u8::from(state.cut.is_some()));
        if let Some(cut) = &state.cut {
            for member in self.order.iter().take(self.members) {
                self.bytes.push(cut.ballots[*member].unwrap_or(u8::MAX));
            }
            self.end(&cut.floor.unwrap_or_default());
        }
        self.letters(&state.letters);
    }

    fn twin(&mut self, twin: &Twin) {
        let flags = u8::from(twin.acting)
            | twin.epoch << 1
            | u8::from(twin.memory.heeds_joined()) << 2
            | twin.restarts << 3
            | u8::from(twin.awaits) << 7;
        self.bytes.extend([twin.ballot, flags]);
        if twin.member == X {
            self.history(twin);
        }
        self.ballots(&twin.memory.promised);
        self.place(&twin.memory.accepted);
        for member in self.order.iter().take(self.members) {
            self.word(&twin.words[*member]);
        }
    }

    fn history(&mut self, twin: &Twin) {
        self.bytes.extend([twin.base, twin.log.len, twin.ends.len]);
        self.bytes.extend(twin.log.iter());
        twin.ends.iter().for_each(|end| self.end(end));
    }

    fn end(&mut self, end: &End) {
        self.bytes.extend([end.ballot, end.number]);
    }

    fn ballots(&mut self, ballots: &[Ballot; MEMBERS]) {
        for member in self.order.iter().take(self.members) {
            self.bytes.push(ballots[*member]);
        }
    }

    fn place(&mut self, place: &Option<Place>) {
        let Some(place) = place else { return self.bytes.push(u8::MAX) };
        self.bytes.extend([place.ballot, place.number]);
        if self.contents {
            self.bytes.push(place.log.len);
            self.bytes.extend(place.log.iter());
        }
    }

    fn word(&mut self, word: &Option<Word>) {
        match word {
            None => self.bytes.push(u8::MAX),
            Some(word) => self.bytes.extend([word.ballot, u8::from(word.acting) | word.number << 1]),
        }
    }

    fn letters(&mut self, letters: &[Letter]) {
        let place = |member: usize| self.order.iter().position(|other| *other == member);
        let mut sorted: Vec<&Letter> = letters.iter().collect();
        sorted.sort_by_key(|letter| {
            (place(letter.to), letter.ballot, place(letter.answer.from), letter.answer.noted)
        });
        for letter in sorted {
            let to = place(letter.to).unwrap_or_default() as u8;
            let from = place(letter.answer.from).unwrap_or_default() as u8;
            self.bytes.extend([
                to,
                letter.ballot,
                from,
                letter.answer.epoch << 1 | u8::from(letter.answer.noted),
            ]);
            self.word(&Some(letter.answer.word));
            self.place(&letter.answer.place);
            self.ballots(&letter.answer.promised);
        }
    }
}
