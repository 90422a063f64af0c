//! Liveness: whoever restarts honestly comes back, and is heard.

use super::setup::Setup;
use super::state::{State, Twin, X};
use super::steps::restarted;

/// Why an honest member that restarts now from its newest log cannot come back, or X's note not be acknowledged, though
/// enough others act that nobody knows to be superseded.
pub fn stuck(setup: &Setup, state: &State) -> Option<String> {
    (0..state.twins.len()).find_map(|index| {
        let twin = &state.twins[index];
        let alone = state.twins.iter().filter(|other| other.member == twin.member).count() == 1;
        let honest = !setup.hostile[twin.member] && !setup.broken[twin.member];
        if alone && honest { member_stuck(setup, state, index) } else { None }
    })
}

fn member_stuck(setup: &Setup, state: &State, index: usize) -> Option<String> {
    let twin = &state.twins[index];
    let helpers = helpers(setup, state, twin);
    if helpers.len() < setup.to_return(twin.epoch) {
        return None;
    }
    let cut = state.cut.clone();
    let mut state = restarted(state, index)?;
    for helper in &helpers {
        let (asker, speaker) = (state.twins[index], state.twins[*helper]);
        if asker.acting {
            break;
        }
        if !setup.hear_claim(&mut state.twins[*helper].memory, &asker, cut.as_ref()) {
            return Some(format!("member {} is refused by member {}", asker.member, speaker.member));
        }
        let answer = setup.answer(&speaker, &speaker.memory, None);
        setup.take(&mut state, index, &answer);
    }
    let twin = &state.twins[index];
    if !twin.acting {
        return Some(format!("member {} cannot return though {} others act", twin.member, helpers.len()));
    }
    if twin.member == X { unheard(setup, state, index, &helpers) } else { None }
}

/// X's first note after its return, said to those that let it in: with its history if they ask for that.
fn unheard(setup: &Setup, mut state: State, index: usize, helpers: &[usize]) -> Option<String> {
    let (mut heard, cut) = (Vec::new(), state.cut.clone());
    for helper in helpers {
        let x = state.twins[index];
        let place = x.place(x.number());
        let memory = &mut state.twins[*helper].memory;
        let noted = setup.hear_note(memory, &x, place)
            || setup.hear_claim(memory, &x, cut.as_ref()) && setup.hear_note(memory, &x, place);
        if noted {
            let speaker = state.twins[*helper];
            heard.push(speaker);
            let answer = setup.answer(&speaker, &speaker.memory, Some(place.number));
            setup.take(&mut state, index, &answer);
        }
    }
    let x = &state.twins[index];
    let heard = heard.iter().filter(|speaker| speaker.ballot >= x.memory.promised[speaker.member]).count();
    (heard < setup.to_act(x.epoch)).then(|| format!("X's note is acknowledged by {heard} only"))
}

/// For each other member a copy that acts in the same epoch and is not known to be superseded.
fn helpers(setup: &Setup, state: &State, twin: &Twin) -> Vec<usize> {
    let known = |member: usize| {
        let others = state.twins.iter().filter(|other| other.member != member);
        others.map(|other| other.memory.promised[member]).max().unwrap_or_default()
    };
    let helps = |other: &Twin| {
        setup.acquainted(twin, other)
            && other.acting
            && other.epoch == twin.epoch
            && other.ballot >= known(other.member)
            && !setup.broken[other.member]
    };
    let mut helpers: Vec<usize> = Vec::new();
    for (index, other) in state.twins.iter().enumerate().filter(|(_, other)| helps(other)) {
        if helpers.iter().all(|helper| state.twins[*helper].member != other.member) {
            helpers.push(index);
        }
    }
    helpers
}
