//! The rules of the rollback guard as a model, all of whose states can be looked at.
//!
//! It shares no code with the enclave: `postern-enclave`'s `witness` says the rules for people, this says them once more for
//! a search, and each part of them can be switched off ([`Rules`]). A part without which nothing breaks is not needed; that
//! each of them is, the tests show by breaking what is left.
//!
//! - [`setup`]: who takes part in a run, and which parts of the rule hold.
//! - [`state`]: what is remembered at one moment.
//! - [`rules`]: what a copy takes, answers, learns, and when it acts.
//! - [`steps`]: what can happen next.
//! - [`returns`]: whether an honest member that restarts comes back.
//! - [`model`]: what the [search](crate::search) looks at.
//!
//! # What is looked for
//! One member, X, has a log whose entries leave when enough others have noted them. Nothing may ever leave from two logs of
//! which neither is part of the other. Where a run asks for it: whenever so many others act that nobody knows to be
//! superseded, an honest member that restarts from its newest log comes back, and X's next note is acknowledged.
//!
//! # What may happen
//! A hostile host copies its enclave at any time, and runs all copies, or lets them lie for as long as it likes: that is
//! every restore from an old log, since a copy that has lain still is an old log. Each copy has a ballot of its own, with any
//! place in the order after its origin's. Any copy talks to any other at any time, or never. An honest host runs one copy,
//! and restarts it from its newest log. X's log may be handed over to several heirs. A broken enclave remembers nothing,
//! takes everything, and shows any true note of X. In a second epoch, which each copy takes when its host likes, members
//! join, a machine is replaced, or the DAO makes a cut.
//!
//! # The cut
//! A copy that waits for the cut has a ballot of its own, with which it asks nobody. The DAO lists one such copy of each
//! member, any of a hostile host's. Two things are assumed of the DAO: the claim of X that it lists contains all that has
//! left ([`Rules::released_listed`]), and nothing happens under the old epoch any more ([`Rules::old_epoch_over`]).
//! The second is more than it looks. Without it one hostile host is enough to break the guard: it withholds an
//! acknowledgement from its running copy, has another one listed, which contains all that has left so far, and then delivers
//! it. With [`Rules::noted_listed`] in place of both assumptions, the guard holds for fewer than q hostile hosts: the listed
//! claim of X contains the newest place of X that each enclave listed with it has noted. For of the members that note what
//! may still leave under the old epoch, one has an honest host; its enclave noted it before it began to wait, and goes on
//! from its newest log. q hostile hosts with hidden copies that act go on without anybody, and nothing helps.
//!
//! If nothing happens under the old epoch any more, its copies do nothing but take the cut. Nothing is lost by that: what they
//! did later without anything leaving, they could have done before the DAO listed any. What they know is forgotten at the
//! cut, so it is dropped when it is made.
//!
//! # What is left out, and why nothing is lost by it
//! - *Incarnation and nonce* are one number, of which only the order matters; a new ballot is put anywhere among those that
//!   anybody remembers. The numbers are closed up before states are compared.
//! - *Machine and era* are one number too: a run changes one of them for each member.
//! - *Places of others than X*. Nobody checks them here, so all old states of the others may return: more than in truth. That
//!   is so for their claims after a cut, too.
//! - *A request and its answer* are one step. Whoever asks does nothing before it has enough answers that would be
//!   otherwise if it took some of them later. With [`Setup::delays`] answers and acknowledgements are taken at any time after
//!   they were given.
//! - *Who is shown a later ballot of its own stops*: left out, since to stop is no help to a hostile host. Such a copy may
//!   as well never be shown it.
//! - *Proof, signatures, sealing*: what is said is genuine, and of a member's identity there are only its enclave's copies.
//!   Notes of machines that an epoch does not name count for nothing.
//! - *A note of a ballot that was promised, but not after a claim*, is taken if nothing was accepted, as enclaves do.
//! - *Only one cut*, and one more epoch. What copies do that take a second cut and have missed the first was not looked at.
//! - *A cut that replaces X's own machine*: the others forget what X had them note, so its new machine begins with nothing. What
//!   has left of the old one's log is then for the DAO to heed.
//!
//! # Reductions
//! With [`Setup::reduced`] fewer states are looked at. A member is not asked again while its answer counts, and copies that
//! do not act are not asked if only answers of such as act count: what else that would do is add promises and knowledge, and
//! these only ever forbid. An entry is written with its first note: nobody can tell an entry that nobody has noted from
//! none, and two copies that would have inherited it write two that contradict each other, which is worse. That is so only
//! where histories are compared as they should be. It is not used where X's new machine goes on from what it has learnt,
//! nor where returns are looked at.
//!
//! # Runs
//! Copies of each member, X first. Hosts are hostile if not said otherwise; entries are two, and restarts none where hosts are
//! honest, if not said otherwise. All were looked at to the end where the rule holds. The tests are `tests/guard_model.rs`.
//!
//! | run | found | states | steps |
//! |---|---|---|---|
//! | the former rule, one note and nothing filtered: 2,2,1 | broken | 6,787 | 10 |
//! | one note, one hostile host: 4,1,1, three entries | broken | 20,085 | 11 |
//! | compared by number, one hostile host: 3,1,1, three entries | broken | 8,006 | 11 |
//! | answers not filtered: 2,2,1, reduced | broken | 2,900 | 8 |
//! | acknowledgements not filtered: 2,2,1, reduced | broken | 2,747 | 8 |
//! | n = 4, return with 2: 2,2,1,1, reduced | broken | 54,141 | 10 |
//! | one broken, majority, n = 3: 2,1,1 | broken | 197 | 7 |
//! | one broken, majority, n = 5: 2,1,1,1,1, reduced | broken | 1,271 | 8 |
//! | the dead machine's note forgotten: 2,1,1 | broken | 1,824 | 8 |
//! | automatic return, two hostile hosts: 2,2,1 | broken | 7,450 | 8 |
//! | n = 3: 2,2,1 | holds | 16,118 | 13 |
//! | n = 3: 2,2,2 | holds | 1,332,012 | 19 |
//! | n = 3: 3,2,2, reduced | holds | 5,283,645 | 22 |
//! | n = 3, one hostile host: 4,1,1, three entries, reduced | holds | 21,769 | 14 |
//! | n = 3, answers and acknowledgements late: 2,2,1, reduced | holds | 1,876,481 | 20 |
//! | n = 4: 2,2,2,1, reduced | holds | 5,576,138 | 23 |
//! | n = 5: 2,2,1,1,1, reduced | holds | 492,838 | 19 |
//! | one broken, n = 4, q = 3: 2,2,2,1, reduced | holds | 4,784,143 | 22 |
//! | one broken, n = 5, q = 4: 2,2,1,1,1, reduced | holds | 584,827 | 19 |
//! | heirs: 2,2,2 | holds | 2,240,312 | 19 |
//! | X's machine replaced, two hostile hosts: 2,2,1 | holds | 13,562,418 | 24 |
//! | another machine replaced, two hostile hosts: 2,2,1, reduced | holds | 1,625,404 | 22 |
//! | growth from 3 to 4: 2,2,1,1, reduced | holds | 3,597,708 | 24 |
//! | automatic return, one hostile host: 2,1,1, a restart of each other | holds | 87,216 | 15 |
//! | restarts come back, X and one more hostile: 2,1,2, a restart | holds | 436,839 | 17 |
//! | restarts come back, X honest: 1,2,2, a restart | holds | 408,795 | 18 |
//!
//! | run with a cut | found | states | steps |
//! |---|---|---|---|
//! | the listed place not heeded, one hostile host: 2,1,1 | broken | 6,249 | 14 |
//! | an old state listed, one hostile host: 2,1,1 | broken | 4,609 | 11 |
//! | the old epoch goes on, acknowledgements late, one hostile host: 2,1,1, reduced | broken | 14,694 | 10 |
//! | what was noted is listed, and no more assumed, two hostile hosts: 2,2,1, reduced | broken | 75,175 | 10 |
//! | one hostile host: 2,1,1 | holds | 5,797 | 17 |
//! | one hostile host: 3,1,1, three entries, reduced | holds | 73,336 | 24 |
//! | two hostile hosts: 2,2,1 | holds | 1,002,101 | 22 |
//! | two hostile hosts: 2,2,1, a restart, reduced | holds | 1,495,408 | 28 |
//! | all hosts hostile: 2,2,2, reduced | holds | 9,159,668 | 30 |
//! | n = 4, q = 3, two hostile hosts: 2,2,1,1, reduced | holds | 2,336,169 | 27 |
//! | a machine replaced with it, two hostile hosts: 2,2,1, reduced | holds | 284,947 | 21 |
//! | what was noted is listed, and no more assumed, late, one hostile host: 2,1,1 | holds | 251,139 | 22 |
//! | the same, n = 4, q = 3: 2,1,1,1, reduced | holds | 1,233,917 | 28 |
//! | what was noted is listed, and no more assumed, n = 4, q = 3, two hostile hosts: 2,2,1,1, reduced | holds | 6,769,735 | 28 |
//! | restarts come back, X honest: 1,2,1, a restart | holds | 3,551,637 | 23 |
//!
//! The check that a ballot's history was seen before its note is taken ([`Rules::heed_joined`]), that answers and
//! acknowledgements count in one epoch only when members join ([`Rules::one_epoch`]), that a lost machine's copies are not
//! heard ([`Rules::bury_the_dead`]), and that a listed copy has asked nobody ([`Rules::listed_wait`]) were not found to be
//! needed: nothing breaks without them in the sizes that were looked at.

pub mod model;
pub mod returns;
pub mod rules;
pub mod setup;
pub mod state;
pub mod steps;

pub use crate::search::{Verdict, follow};
pub use setup::{Change, Rules, Setup};
