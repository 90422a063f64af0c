//! What enclaves and hosts keep, and that nobody takes them back in time: restarts, hand-overs, copies, and the guard
//! against them; and what they agree on.

mod agreement_model;
mod explore;
mod guard_model;
mod link;
mod rollback;
mod sealed_log;
mod serving;
mod succession;
