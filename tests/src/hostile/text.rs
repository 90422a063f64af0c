//! Runs as text, an event a line: what a failing run is printed as, and replayed from. `#` begins a comment.

use super::event::{Alteration, Carry, Event, Fate, Forgery, Script, Setup};
use super::generate::AIMS;
use postern_shared::ids::MemberId;
use std::fmt::{Display, Formatter, Result as Written};
use std::str::FromStr;

/// A line that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl Display for Unreadable {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        write!(f, "not an event of a run: {}", self.0)
    }
}

impl Display for Script {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        writeln!(f, "{}", self.setup)?;
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl FromStr for Script {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let mut lines = lines.filter(|line| !line.is_empty());
        let setup = lines.next().unwrap_or_default().parse()?;
        Ok(Self { setup, events: lines.map(str::parse).collect::<Result<_, _>>()? })
    }
}

impl Display for Setup {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        let Self { seed, members, operator, guardian, pools, .. } = self;
        write!(f, "seed {seed} members {members} operator {operator} guardian {guardian} pools {pools}")?;
        if !self.corrupt.is_empty() {
            write!(f, " corrupt {}", list(&self.corrupt))?;
        }
        if let Some(aim) = self.aim {
            write!(f, " aim {aim:?}")?;
        }
        if let Some(bytes) = self.snapshots {
            write!(f, " snapshots {bytes}")?;
        }
        if self.acquainted { write!(f, " acquainted yes") } else { Ok(()) }
    }
}

impl FromStr for Setup {
    type Err = Unreadable;

    fn from_str(line: &str) -> Result<Self, Unreadable> {
        let mut setup = Self {
            seed: 0,
            members: 3,
            operator: 2,
            guardian: 2,
            pools: 1,
            corrupt: Vec::new(),
            aim: None,
            acquainted: false,
            snapshots: None,
        };
        for pair in line.split_whitespace().collect::<Vec<_>>().chunks(2) {
            match pair {
                ["seed", seed] => setup.seed = number(seed)?,
                ["members", count] => setup.members = number(count)?,
                ["operator", count] => setup.operator = number(count)?,
                ["guardian", count] => setup.guardian = number(count)?,
                ["pools", count] => setup.pools = number(count)?,
                ["corrupt", ids] => setup.corrupt = unlist(ids)?,
                ["aim", aim] => {
                    let step = AIMS.into_iter().find(|step| format!("{step:?}") == *aim);
                    setup.aim = Some(step.ok_or_else(|| Unreadable((*aim).to_owned()))?);
                }
                ["snapshots", bytes] => setup.snapshots = Some(number(bytes)?),
                ["acquainted", "yes"] => setup.acquainted = true,
                _ => return Err(Unreadable(line.to_owned())),
            }
        }
        Ok(setup)
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        match self {
            Self::Tell(id) => write!(f, "tell {}", id.0),
            Self::Tick(id) => write!(f, "tick {}", id.0),
            Self::Cut(id) => write!(f, "cut {}", id.0),
            Self::Carry(carry) => write!(f, "{carry}"),
            Self::Replay { pick, to: None } => write!(f, "replay {pick}"),
            Self::Replay { pick, to: Some(to) } => write!(f, "replay {pick} to {}", to.0),
            Self::Alter(Alteration::Cut(length)) => write!(f, "alter cut {length}"),
            Self::Alter(Alteration::Longer(byte)) => write!(f, "alter longer {byte}"),
            Self::Alter(Alteration::Flipped(bit)) => write!(f, "alter flipped {bit}"),
            Self::Forge { pick, other, how, to } => {
                write!(f, "forge {pick} with {other} to {} ", to.0)?;
                match how {
                    Forgery::Speaker(id) => write!(f, "speaker {}", id.0),
                    Forgery::Step => write!(f, "step"),
                    Forgery::Ceremony => write!(f, "ceremony"),
                    Forgery::Body => write!(f, "body"),
                }
            }
            Self::Speak { pick, to, lie } => write!(f, "speak {pick} to {} lie {lie}", to.0),
            Self::Crash(id) => write!(f, "crash {}", id.0),
            Self::Lose(id) => write!(f, "lose {}", id.0),
            Self::RollBack { member, records } => write!(f, "roll-back {} to {records}", member.0),
            Self::Twin(id) => write!(f, "twin {}", id.0),
            Self::SwapTwins(pick) => write!(f, "swap-twins {pick}"),
            Self::FeedAlone { member, times } => write!(f, "feed-alone {} times {times}", member.0),
            Self::Branch { member, pick } => write!(f, "branch {pick} at {}", member.0),
            Self::Rival { member, packets } => write!(f, "rival {} packets {packets}", member.0),
            Self::PowerLoss => write!(f, "power-loss"),
            Self::GoOnWithout { member, away } if away.is_empty() => write!(f, "go-on {}", member.0),
            Self::GoOnWithout { member, away } => write!(f, "go-on {} without {}", member.0, list(away)),
            Self::GiveUp(id) => write!(f, "give-up {}", id.0),
            Self::Sign { twice: false } => write!(f, "sign"),
            Self::Sign { twice: true } => write!(f, "sign twice"),
            Self::Land { member, pick } => write!(f, "land {pick} at {}", member.0),
            Self::Reattest { member, about: None } => write!(f, "reattest {}", member.0),
            Self::Reattest { member, about: Some(about) } => {
                write!(f, "reattest {} about {}", member.0, about.0)
            }
            Self::Attest { member, nonce } => write!(f, "attest {} nonce {nonce}", member.0),
            Self::WantExits => write!(f, "want-exits"),
            Self::HonestRound(None) => write!(f, "honest-round"),
            Self::HonestRound(Some(lies)) => write!(f, "honest-round lies {lies}"),
            Self::Finish(None) => write!(f, "finish"),
            Self::Finish(Some(lies)) => write!(f, "finish lies {lies}"),
        }
    }
}

impl Display for Carry {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        write!(f, "carry {}{}", if self.far { "far " } else { "" }, self.pick)?;
        match self.fate {
            Fate::Arrives => {}
            Fate::Dropped => write!(f, " dropped")?,
            Fate::Twice => write!(f, " twice")?,
            Fate::AlsoTo(id) => write!(f, " also-to {}", id.0)?,
        }
        self.lie.map_or(Ok(()), |lie| write!(f, " lie {lie}"))
    }
}

impl FromStr for Event {
    type Err = Unreadable;

    fn from_str(line: &str) -> Result<Self, Unreadable> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["tell", id] => Self::Tell(member(id)?),
            ["tick", id] => Self::Tick(member(id)?),
            ["cut", id] => Self::Cut(member(id)?),
            ["carry", how @ ..] => Self::Carry(carry(how).ok_or_else(|| Unreadable(line.to_owned()))?),
            ["replay", pick] => Self::Replay { pick: number(pick)?, to: None },
            ["replay", pick, "to", to] => Self::Replay { pick: number(pick)?, to: Some(member(to)?) },
            ["alter", "cut", length] => Self::Alter(Alteration::Cut(number(length)?)),
            ["alter", "longer", byte] => Self::Alter(Alteration::Longer(number(byte)?)),
            ["alter", "flipped", bit] => Self::Alter(Alteration::Flipped(number(bit)?)),
            ["forge", pick, "with", other, "to", to, how @ ..] => {
                let how = match how {
                    ["speaker", id] => Forgery::Speaker(member(id)?),
                    ["step"] => Forgery::Step,
                    ["ceremony"] => Forgery::Ceremony,
                    ["body"] => Forgery::Body,
                    _ => return Err(Unreadable(line.to_owned())),
                };
                Self::Forge { pick: number(pick)?, other: number(other)?, how, to: member(to)? }
            }
            ["speak", pick, "to", to, "lie", lie] => {
                Self::Speak { pick: number(pick)?, to: member(to)?, lie: number(lie)? }
            }
            ["crash", id] => Self::Crash(member(id)?),
            ["lose", id] => Self::Lose(member(id)?),
            ["roll-back", id, "to", records] => {
                Self::RollBack { member: member(id)?, records: number(records)? }
            }
            ["twin", id] => Self::Twin(member(id)?),
            ["swap-twins", pick] => Self::SwapTwins(number(pick)?),
            ["feed-alone", id, "times", times] => {
                Self::FeedAlone { member: member(id)?, times: number(times)? }
            }
            ["branch", pick, "at", id] => Self::Branch { member: member(id)?, pick: number(pick)? },
            ["rival", id, "packets", packets] => {
                Self::Rival { member: member(id)?, packets: number(packets)? }
            }
            ["power-loss"] => Self::PowerLoss,
            ["go-on", id] => Self::GoOnWithout { member: member(id)?, away: Vec::new() },
            ["go-on", id, "without", away] => Self::GoOnWithout { member: member(id)?, away: unlist(away)? },
            ["give-up", id] => Self::GiveUp(member(id)?),
            ["sign"] => Self::Sign { twice: false },
            ["sign", "twice"] => Self::Sign { twice: true },
            ["land", pick, "at", id] => Self::Land { member: member(id)?, pick: number(pick)? },
            ["reattest", id] => Self::Reattest { member: member(id)?, about: None },
            ["reattest", id, "about", about] => {
                Self::Reattest { member: member(id)?, about: Some(member(about)?) }
            }
            ["attest", id, "nonce", nonce] => Self::Attest { member: member(id)?, nonce: number(nonce)? },
            ["want-exits"] => Self::WantExits,
            ["honest-round"] => Self::HonestRound(None),
            ["honest-round", "lies", lies] => Self::HonestRound(Some(number(lies)?)),
            ["finish"] => Self::Finish(None),
            ["finish", "lies", lies] => Self::Finish(Some(number(lies)?)),
            _ => return Err(Unreadable(line.to_owned())),
        })
    }
}

fn carry(words: &[&str]) -> Option<Carry> {
    let (far, words) = match words {
        ["far", rest @ ..] => (true, rest),
        _ => (false, words),
    };
    let (pick, words) = words.split_first()?;
    let (fate, words) = match words {
        ["dropped", rest @ ..] => (Fate::Dropped, rest),
        ["twice", rest @ ..] => (Fate::Twice, rest),
        ["also-to", id, rest @ ..] => (Fate::AlsoTo(member(id).ok()?), rest),
        _ => (Fate::Arrives, words),
    };
    let lie = match words {
        [] => None,
        ["lie", lie] => Some(lie.parse().ok()?),
        _ => return None,
    };
    Some(Carry { pick: pick.parse().ok()?, far, fate, lie })
}

fn number<T: FromStr>(word: &str) -> Result<T, Unreadable> {
    word.parse().map_err(|_| Unreadable(word.to_owned()))
}

fn member(word: &str) -> Result<MemberId, Unreadable> {
    number(word).map(MemberId)
}

fn list(ids: &[MemberId]) -> String {
    ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",")
}

fn unlist(words: &str) -> Result<Vec<MemberId>, Unreadable> {
    words.split(',').map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::super::generate::script;
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_read() {
        for seed in 0..200 {
            let script = script(seed);
            assert_eq!(script.to_string().parse(), Ok(script));
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let setup = "seed 1 members 5 operator 3 guardian 3 pools 1";
        for line in ["", "tell", "tell x", "carry", "carry 1 lie", "carry 1 twice dropped", "go-on 1 without"]
        {
            let text = format!("{setup}\n{line}\n");
            let read = text.parse::<Script>();
            assert!(read.is_err() || line.is_empty(), "{line}");
        }
        assert!("members".parse::<Setup>().is_err());
    }
}
