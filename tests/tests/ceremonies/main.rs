//! Keygen, presign and release as they ought to go: who takes part, what is signed, and what the world can verify of it.

mod committees;
mod consensus_vectors;
mod contracts;
mod round_trip;
mod statements;
mod transcripts;
#[cfg(feature = "oracles")]
mod typed_data;
