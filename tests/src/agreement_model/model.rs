//! What is searched for.

use super::names::Namer;
use super::reach;
use super::setup::Setup;
use super::state::State;
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
        let namer = Namer::new(self);
        move |state| namer.name(state)
    }

    fn is_bad(&self, state: &State) -> bool {
        self.decided(state).len() > 1
    }

    fn stuck(&self, state: &State) -> Option<String> {
        reach::undecided(self, state)
    }
}
