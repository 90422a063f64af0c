//! Which run a seed stands for.

use super::event::{Alteration, Carry, Event, Fate, Forgery, Script, Setup};
use crate::attack::STEPS;
use fastrand::Rng;
use postern_shared::ids::MemberId;
use postern_shared::message::Step;

/// Steps that hosts are hostile for.
const HOSTILE_STEPS: usize = 400;

/// Members of a DAO: small ones more often, since a run costs about the square of them.
const SIZES: [u16; 8] = [3, 3, 4, 4, 5, 5, 6, 7];

/// Steps that liars may aim at. Who lies wherever it can is found out early, and gets no further.
pub(super) const AIMS: [Step; 10] = STEPS;

/// The run of a seed: hostile hosts, then honest ones.
pub fn script(seed: u64) -> Script {
    let mut rng = Rng::with_seed(seed);
    let setup = setup(seed, &mut rng);
    let mut hosts = Hosts {
        members: setup.members,
        liars: !setup.corrupt.is_empty(),
        divisive: false,
        schemers: Vec::new(),
        rng,
    };
    hosts.divisive = hosts.rng.u8(..4) == 0;
    let schemers = hosts.rng.usize(..4).saturating_sub(1);
    hosts.schemers = (0..schemers).map(|_| hosts.member()).collect();
    let mut events = Vec::with_capacity(HOSTILE_STEPS);
    for _ in 0..HOSTILE_STEPS {
        if hosts.rng.u8(..64) == 0 {
            events.push(Event::WantExits);
        }
        hosts.step(&mut events);
    }
    let lies = hosts.liars.then(|| hosts.rng.u32(..));
    events.push(Event::Finish(lies));
    Script { setup, events }
}

fn setup(seed: u64, rng: &mut Rng) -> Setup {
    let members = SIZES[rng.usize(..SIZES.len())];
    let (operator, guardian) = (rng.u16(2..=members), rng.u16(2..=members));
    let most = operator.min(guardian) - 1;
    let aim = if rng.bool() { rng.choice(AIMS) } else { None };
    let corrupted = if rng.bool() { rng.u16(0..=most) } else { 0 };
    let mut ids: Vec<MemberId> = (1..=members).map(MemberId).collect();
    rng.shuffle(&mut ids);
    Setup {
        seed,
        members,
        operator,
        guardian,
        pools: if rng.u8(..8) == 0 { 2 } else { 1 },
        corrupt: ids.into_iter().take(corrupted.into()).collect(),
        aim,
        // Most of a run is then about ceremonies.
        acquainted: rng.bool(),
        snapshots: (rng.u8(..4) == 0).then_some(64 << 10),
    }
}

/// Hosts that choose without looking: what a choice comes to is found out when it is made.
struct Hosts {
    members: u16,
    liars: bool,
    /// Whether they tell their enclaves to go on without members.
    divisive: bool,
    /// Who works on its own enclave's memory all the time: what has been seen to take it back needs several steps in a row.
    schemers: Vec<MemberId>,
    rng: Rng,
}

impl Hosts {
    fn member(&mut self) -> MemberId {
        MemberId(self.rng.u16(1..=self.members))
    }

    fn step(&mut self, events: &mut Vec<Event>) {
        if self.rng.u8(..24) == 0
            && let Some(member) = self.rng.choice(&self.schemers).copied()
        {
            events.push(self.scheme(member));
            return;
        }
        events.push(match self.rng.u16(..1000) {
            0..150 => Event::Tell(self.member()),
            150..190 => Event::Tick(self.member()),
            190..200 => Event::Cut(self.member()),
            200..203 => Event::Crash(self.member()),
            203..206 => Event::Lose(self.member()),
            206..209 => self.roll_back(),
            209 => Event::Twin(self.member()),
            210..213 => Event::SwapTwins(self.rng.u16(..)),
            213 if self.rng.bool() => {
                events.push(Event::PowerLoss);
                for _ in 0..self.rng.usize(..3) {
                    let roll_back = self.roll_back();
                    events.push(roll_back);
                }
                return;
            }
            213..230 => {
                let (pick, elsewhere) = (self.rng.u32(..), self.rng.bool());
                Event::Replay { pick, to: elsewhere.then(|| self.member()) }
            }
            230..260 => Event::Alter(match self.rng.u8(..4) {
                0 => Alteration::Cut(self.rng.u32(..)),
                1 => Alteration::Longer(self.rng.u8(..)),
                _ => Alteration::Flipped(self.rng.u32(..)),
            }),
            260..290 => {
                let how = match self.rng.u8(..4) {
                    0 => Forgery::Speaker(self.member()),
                    1 => Forgery::Step,
                    2 => Forgery::Ceremony,
                    _ => Forgery::Body,
                };
                Event::Forge { pick: self.rng.u32(..), other: self.rng.u32(..), how, to: self.member() }
            }
            290..300 if self.divisive => {
                let away = (1..=self.members).map(MemberId).filter(|_| self.rng.u8(..3) == 0).collect();
                Event::GoOnWithout { member: self.member(), away }
            }
            // Seldom, or nothing is ever decided.
            290..296 => Event::GiveUp(self.member()),
            296 => Event::Sign { twice: self.rng.bool() },
            297..300 => Event::Land { member: self.member(), pick: self.rng.u16(..) },
            300..305 => match (self.member(), self.rng.u8(..3)) {
                (member, 0) => Event::Reattest { member, about: None },
                (member, 1) => Event::Reattest { member, about: Some(self.member()) },
                (member, _) => Event::Attest { member, nonce: self.rng.u8(..) },
            },
            305..325 if self.liars => {
                Event::Speak { pick: self.rng.u16(..), to: self.member(), lie: self.rng.u32(..) }
            }
            325..329 => Event::FeedAlone { member: self.member(), times: self.rng.u8(1..=8) },
            329..333 => Event::Branch { member: self.member(), pick: self.rng.u16(..) },
            333..338 => Event::Rival { member: self.member(), packets: self.rng.u8(..8) },
            // Nothing moved for so long that all have lost patience, but perhaps one, which knows more.
            338..342 => {
                let patient = self.member();
                let all = (1..=self.members).map(MemberId).filter(|id| *id != patient);
                events.extend(all.map(Event::GiveUp));
                return;
            }
            _ => self.carry(),
        });
    }

    fn scheme(&mut self, member: MemberId) -> Event {
        match self.rng.u8(..8) {
            0 => Event::Twin(member),
            1 => Event::SwapTwins(self.rng.u16(..)),
            2 => Event::FeedAlone { member, times: self.rng.u8(1..=8) },
            3 => Event::Branch { member, pick: self.rng.u16(..) },
            4 => Event::RollBack { member, records: self.rng.u16(..) },
            5 => Event::Crash(member),
            // Time for what was begun to come to something.
            6 => Event::Reattest { member, about: None },
            _ => Event::Tick(member),
        }
    }

    fn roll_back(&mut self) -> Event {
        Event::RollBack { member: self.member(), records: self.rng.u16(..) }
    }

    fn carry(&mut self) -> Event {
        // Mostly near the front, so that a run gets somewhere.
        let far = self.rng.u8(..4) == 0;
        let pick = self.rng.u16(..);
        let fate = match self.rng.u8(..40) {
            0 => Fate::Dropped,
            1 => Fate::Twice,
            2 => Fate::AlsoTo(self.member()),
            _ => Fate::Arrives,
        };
        let lies = self.liars && self.rng.bool();
        Event::Carry(Carry { pick, far, fate, lie: lies.then(|| self.rng.u32(..)) })
    }
}
