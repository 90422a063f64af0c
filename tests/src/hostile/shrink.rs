//! Shortens a run that breaks an invariant, as long as the same invariant breaks.

use super::event::{Carry, Event, Fate, Script, Setup};
use super::invariants::Invariant;
use super::{Failure, Planted, replay};

/// So many runs are tried at most.
const MOST_RUNS: usize = 1_000;

/// A run that breaks an invariant, and of which nothing can be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The run.
    pub script: Script,
    /// What it breaks.
    pub failure: Failure,
    /// How many runs it took to find.
    pub runs: usize,
}

/// Shortens a failing run. None if it does not fail.
pub fn shrink(script: &Script, planted: Option<Planted<'_>>) -> Option<Shrunk> {
    let failure = replay(script, planted).err()?;
    let invariant = failure.broken.invariant;
    let mut best = Search { best: Shrunk { script: script.clone(), failure, runs: 1 }, invariant, planted };
    best.end_where_it_breaks();
    loop {
        let before = best.best.script.clone();
        best.drop_events();
        best.simplify_events();
        best.simplify_setup();
        if best.best.script == before || best.best.runs >= MOST_RUNS {
            return Some(best.best);
        }
    }
}

struct Search<'a> {
    best: Shrunk,
    invariant: Invariant,
    planted: Option<Planted<'a>>,
}

impl Search<'_> {
    /// Takes another run in place of the best, if it breaks the same.
    fn take(&mut self, script: Script) -> bool {
        if self.best.runs >= MOST_RUNS || script == self.best.script {
            return false;
        }
        self.best.runs += 1;
        match replay(&script, self.planted) {
            Err(failure) if failure.broken.invariant == self.invariant => {
                self.best.script = script;
                self.best.failure = failure;
                true
            }
            _ => false,
        }
    }

    fn with_events(&mut self, events: Vec<Event>) -> bool {
        let setup = self.best.script.setup.clone();
        self.take(Script { setup, events })
    }

    /// What follows the break has no part in it; honest hosts that were to finish have only as many rounds as it takes.
    fn end_where_it_breaks(&mut self) {
        let mut events = self.best.script.events.clone();
        events.truncate(self.best.failure.event + 1);
        self.with_events(events.clone());
        if let (Some(Event::Finish(lies)), Some(round)) =
            (events.last().cloned(), self.best.failure.broken.round)
        {
            events.pop();
            let lies = |round| lies.map(|lies| lies.wrapping_add(round));
            events.extend((0..=round as u32).map(|round| Event::HonestRound(lies(round))));
            self.with_events(events);
        }
    }

    /// Leaves out ever smaller parts, to single events.
    fn drop_events(&mut self) {
        let mut size = self.best.script.events.len() / 2;
        while size > 0 {
            // From the end: what comes late depends on what comes early.
            let mut end = self.best.script.events.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let mut events = self.best.script.events.clone();
                events.drain(start..end.min(events.len()));
                self.with_events(events);
                end = start.min(self.best.script.events.len());
            }
            size /= 2;
        }
    }

    fn simplify_events(&mut self) {
        for position in 0..self.best.script.events.len() {
            while let Some(event) = self.best.script.events.get(position).cloned() {
                let taken = simpler(&event).into_iter().any(|simpler| {
                    let mut events = self.best.script.events.clone();
                    events[position] = simpler;
                    self.with_events(events)
                });
                if !taken {
                    break;
                }
            }
        }
    }

    fn simplify_setup(&mut self) {
        loop {
            let Script { setup, events } = self.best.script.clone();
            let taken = simpler_setups(&setup)
                .into_iter()
                .any(|setup| self.take(Script { setup, events: events.clone() }));
            if !taken {
                return;
            }
        }
    }
}

/// Simpler events to try in place of one, the simplest first. Each is nearer to an end: this can't go on for ever.
fn simpler(event: &Event) -> Vec<Event> {
    match event {
        Event::Carry(carry) => simpler_carry(carry).into_iter().map(Event::Carry).collect(),
        Event::Replay { pick, to } => {
            let elsewhere = to.map(|_| Event::Replay { pick: *pick, to: None });
            let fewer = fewer(*pick).into_iter().map(|pick| Event::Replay { pick, to: *to });
            elsewhere.into_iter().chain(fewer).collect()
        }
        Event::Speak { pick, to, lie } => {
            fewer(*lie).into_iter().map(|lie| Event::Speak { pick: *pick, to: *to, lie }).collect()
        }
        Event::RollBack { member, records } => {
            let fewer = fewer((*records).into()).into_iter();
            fewer.map(|records| Event::RollBack { member: *member, records: records as u16 }).collect()
        }
        Event::FeedAlone { member, times } => {
            let fewer = fewer((*times).into()).into_iter();
            fewer.map(|times| Event::FeedAlone { member: *member, times: times as u8 }).collect()
        }
        Event::Rival { member, packets } => {
            let fewer = fewer((*packets).into()).into_iter();
            fewer.map(|packets| Event::Rival { member: *member, packets: packets as u8 }).collect()
        }
        Event::GoOnWithout { member, away } => (0..away.len())
            .map(|left| {
                let mut away = away.clone();
                away.remove(left);
                Event::GoOnWithout { member: *member, away }
            })
            .collect(),
        Event::Finish(Some(_)) => vec![Event::Finish(None)],
        Event::HonestRound(Some(lies)) => {
            let fewer = fewer(*lies).into_iter().map(|lies| Event::HonestRound(Some(lies)));
            std::iter::once(Event::HonestRound(None)).chain(fewer).collect()
        }
        _ => Vec::new(),
    }
}

fn simpler_carry(carry: &Carry) -> Vec<Carry> {
    let mut found = Vec::new();
    if carry.fate != Fate::Arrives {
        found.push(Carry { fate: Fate::Arrives, ..*carry });
    }
    if carry.lie.is_some() {
        found.push(Carry { lie: None, ..*carry });
    }
    if carry.far {
        found.push(Carry { far: false, ..*carry });
    }
    found.extend(fewer(carry.pick.into()).into_iter().map(|pick| Carry { pick: pick as u16, ..*carry }));
    let lies = carry.lie.map(fewer).unwrap_or_default();
    found.extend(lies.into_iter().map(|lie| Carry { lie: Some(lie), ..*carry }));
    found
}

/// A few smaller numbers.
fn fewer(number: u32) -> Vec<u32> {
    match number {
        0..8 => (0..number).collect(),
        _ => vec![0, 1, 2, 3, number % 8, number % 64, number % 1024]
            .into_iter()
            .filter(|n| *n < number)
            .collect(),
    }
}

fn simpler_setups(setup: &Setup) -> Vec<Setup> {
    let mut found = Vec::new();
    if setup.pools > 1 {
        found.push(Setup { pools: 1, ..setup.clone() });
    }
    for left in 0..setup.corrupt.len() {
        let mut corrupt = setup.corrupt.clone();
        corrupt.remove(left);
        found.push(Setup { corrupt, ..setup.clone() });
    }
    if setup.snapshots.is_some() {
        found.push(Setup { snapshots: None, ..setup.clone() });
    }
    if !setup.acquainted {
        found.push(Setup { acquainted: true, ..setup.clone() });
    }
    let members = setup.members - 1;
    if members >= 3 && setup.corrupt.iter().all(|id| id.0 <= members) {
        let (operator, guardian) = (setup.operator.min(members), setup.guardian.min(members));
        found.push(Setup { members, operator, guardian, ..setup.clone() });
    }
    found
}
