//! What is searched for.

use super::returns;
use super::setup::{Change, Setup};
use super::state::{MEMBERS, State};
use super::steps::{Step, next};
use crate::search::Model;

impl Model for Setup {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        Self::start(self)
    }

    fn next(&self, state: &State) -> Vec<(Step, State)> {
        next(self, state)
    }

    fn name(&self) -> impl Fn(&State) -> u128 {
        let orders = orders(self);
        let contents = matches!(self.change, Change::Replacement(_));
        move |state| state.fingerprint(&orders, self.members, contents)
    }

    fn is_bad(&self, state: &State) -> bool {
        state.clash
    }

    fn stuck(&self, state: &State) -> Option<String> {
        self.returns.then(|| returns::stuck(self, state)).flatten()
    }
}

/// All orders of the members that differ only by an exchange of members that are alike.
fn orders(setup: &Setup) -> Vec<[usize; MEMBERS]> {
    let mut start = [0; MEMBERS];
    start.iter_mut().enumerate().for_each(|(place, member)| *member = place);
    let mut orders = vec![start];
    // X stands alone.
    for place in 1..setup.members {
        let swapped: Vec<_> = orders
            .iter()
            .flat_map(|order| (place + 1..setup.members).map(move |other| (order, other)))
            .filter(|(order, other)| alike(setup, order[place], order[*other]))
            .map(|(order, other)| {
                let mut order = *order;
                order.swap(place, other);
                order
            })
            .collect();
        orders.extend(swapped);
    }
    orders
}

fn alike(setup: &Setup, left: usize, right: usize) -> bool {
    let kind = |member: usize| {
        let newcomer = matches!(setup.change, Change::Growth(more) if member >= setup.members - more);
        let replaced = setup.replaced() == Some(member);
        (setup.hostile[member], setup.copies[member], setup.broken[member], newcomer, replaced)
    };
    kind(left) == kind(right)
}
