//! The rules of one agreement as a model, all of whose states can be looked at.
//!
//! It shares no code with the enclave: `postern-enclave`'s `agreement` says the rules for people, this says them once more for
//! a search, and each part of them can be switched off ([`Rules`]). A part without which nothing breaks is not needed.
//!
//! - [`setup`]: who takes part in a run, and which parts of the rules hold.
//! - [`state`]: what each enclave has said, and what it goes by.
//! - [`rules`]: what counts: certificates, decisions, and what opens an attempt.
//! - [`steps`]: what can happen next.
//! - [`names`]: which states are the same.
//! - [`reach`]: whether something is decided in the end.
//! - [`model`]: what the [search](crate::search) looks at.
//!
//! # What is looked for
//! Two choices that are decided. Where a run asks for it: a state from which nothing is ever decided, though from then on
//! everything is delivered, all go by the newest epoch, and whoever waits in vain quits. Broken enclaves are silent then, and
//! so are any so many others as the run says.
//!
//! # What may happen
//! All hosts are hostile. What was said once may be heard by anybody at any time, or never, in any order. Enclaves vote, adopt
//! and quit whenever the rules let them. Each goes on to the next generation when its host likes; one whose machine was
//! replaced never does, and goes on as before. A newcomer asks whom it likes, and takes each answer at any time after it was
//! given. Broken enclaves say everything to everybody: they propose, vote for and adopt whatever helps, and quit with
//! whatever was certified, or with nothing.
//!
//! Whoever accepts a proposal takes over what it repeats, and besides that whatever other quits name that it happens to
//! know. It may vote at once, later, or never.
//!
//! # What is left out, and why nothing is lost by it
//! - *Who proposes*, and to whom: each enclave accepts any proposal for which there are quits, and there may be two fresh
//!   choices in each attempt, though its proposer be honest. In the first attempt of a generation any fresh choice may be
//!   voted for. That is more than in truth.
//! - *What is heard and forgotten*. To have heard something only ever allows more, so it is enough that an enclave looks at
//!   what was said when it does something. That a second version of a statement is refused, and that only the last two quits
//!   of each member are kept, forbids more.
//! - *That a decision is told*. Who hears of it says no more: it might as well lie still.
//! - *Quitting early* in the first attempt of a later generation, and why anybody quits: an enclave may quit at any time.
//! - *How epochs come about*. Any enclave may go by the next one at any time, whoever has voted for it.
//! - *Other pools*. A newcomer that is told of a higher one is silent about this one too. That forbids more.
//! - *Proof and signatures*: whatever a quorum with the broken ones could have said is a certificate.
//! - *Restarts*. Each enclave is one process with a memory: that is the guard's doing ([`guard_model`](crate::guard_model)).
//! - *A newcomer that a cut lets in, or that acts because all others have answered.* Here it acts when a quorum of others that
//!   act has told it what they know. Nothing holds for one that was told by nobody: that is the run without
//!   [`Rules::tell_newcomers`].
//! - *Members that join*. Enclaves take no epoch that adds some.
//!
//! # Reductions
//! These are made in all runs. Enclaves that are named in the same epochs may be exchanged, and so may the two fresh choices
//! of an attempt. What was said in an attempt in which nobody can say anything any more is left out when states
//! are compared, but for what was decided and what broken enclaves can show of it; quits are, when all are where they lead
//! to. The last attempt of a generation that is looked at is not quit: nothing follows from it. States that are the same may
//! still have two names, never the other way round.
//!
//! # Runs
//! n, q, b where enclaves are broken, and the attempts of each generation. All were looked at to the end where the rules hold.
//! After a decision: A and B, or as many others as decide, have adopted one choice when the run begins. The tests are
//! `tests/durability/agreement_model.rs`.
//!
//! | run | found | states | steps |
//! |---|---|---|---|
//! | q too small for b: 4, 2, b = 1, and 5, 3, b = 2 | broken | 87 | 4 |
//! | quits carry nothing: 3, 2: 2 | broken | 1,684 | 12 |
//! | the same: 4, 3, b = 1: 2 | broken | 1,850 | 12 |
//! | votes and adoptions after the own quit: 3, 2: 2 | broken | 6,777 | 12 |
//! | the same: 4, 3, b = 1: 2 | broken | 11,482 | 12 |
//! | any choice that is named is repeated: 3, 2: 3 | broken | 65,027 | 20 |
//! | newcomers are not told: 3, 2: 1, 2, A replaced | broken | 9,523 | 12 |
//! | the first attempt of a later generation is open to all: 3, 2: 1, 1, A replaced | broken | 1,208 | 10 |
//! | what was taken over does not count for that: 3, 2: 1, 2, 1, A, then B replaced, one choice | broken | 145,477 | 17 |
//! | no generations: 3, 2: 2, A replaced | broken | 628,559 | 16 |
//! | the same: 4, 3, b = 1 | broken | 1,586,744 | 16 |
//! | 3, 2: 2 | holds | 2,145 | 15 |
//! | 3, 2: 3 | holds | 60,411 | 24 |
//! | 4, 3, b = 1, and 5, 4, b = 2: 2 | holds | 3,275 | 15 |
//! | 4, 3, b = 1, and 5, 4, b = 2: 3 | holds | 142,870 | 24 |
//! | A replaced: 3, 2: 1, 2 | holds | 37,409 | 22 |
//! | A replaced: 3, 2: 2, 2 | holds | 883,984 | 30 |
//! | the same, a lone quit leads to the next attempt | holds | 315,292 | 30 |
//! | A replaced: 4, 3, b = 1: 1, 2 | holds | 105,565 | 22 |
//! | A replaced: 4, 3, b = 1: 2, 2 | holds | 3,664,428 | 30 |
//! | A replaced, which is broken: 4, 3, b = 1: 1, 2, one choice | holds | 43,560 | 28 |
//! | A and B replaced at once, after a decision: 5, 3: 1, 2 | holds | 400,043 | 31 |
//! | A and then B replaced: 3, 2: 1, 1, 2 | holds | 332,087 | 27 |
//! | A and then B replaced: 3, 2: 1, 2, 2, one choice | holds | 5,628,304 | 37 |
//! | A and then B replaced, after a decision: 4, 3, b = 1: 1, 2, 2 | holds | 105,728 | 32 |
//! | A, B and C replaced one after the other, after a decision: 3, 2: 1, 2, 2, 2 | holds | 4,347,273 | 47 |
//! | q from 3 to 4: 5: 1, 2 | holds | 271,205 | 33 |
//! | q from 4 to 3: 5: 1, 2 | holds | 1,615,588 | 32 |
//! | q from 3 to 4, and A replaced: 5: 1, 2, one choice | holds | 583,006 | 37 |
//! | something is decided, with one away: 4, 3: 2 | holds | 9,172 | 21 |
//! | something is decided, the broken one silent: 4, 3, b = 1: 2 | holds | 3,275 | 15 |
//! | something is decided, A replaced: 3, 2: 1, 2 | holds | 37,409 | 22 |
//! | something is decided, A replaced: 4, 3: 1, 2 | holds | 241,864 | 29 |
//!
//! That a member which has come past the first attempt of a generation takes no part in the first one of the next
//! ([`Rules::past_first_counts`]) was not found to be needed beside the others, nor that a lone quit does not lead to the next
//! attempt ([`Rules::wait_for_quorum`]): nothing breaks without them in the sizes that were looked at.

pub mod model;
pub mod names;
pub mod reach;
pub mod rules;
pub mod setup;
pub mod state;
pub mod steps;

pub use crate::search::{Verdict, follow};
pub use setup::{Rules, Setup};
