//! The contracts by themselves, on revm: who may do what, and whose the ether is.

mod chain;
mod epochs;
mod flaws;
mod gas;
mod model;
mod proofs;
mod sequences;
mod stakes;
