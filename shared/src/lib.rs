//! What both sides of Postern speak: names, the manifest, the wire between host and enclave, the messages between
//! enclaves, Ethereum's signing roots, and the public transcripts of ceremonies with their verification.
//!
//! No I/O, no clock, no secret of its own. Everything here decodes hostile bytes, so nothing here panics.
#![no_std]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

extern crate alloc;

pub mod agreement;
pub mod bls;
pub mod bytes;
pub mod ceremony;
pub mod check;
pub mod codec;
pub mod committee;
pub mod ecdsa;
pub mod eip712;
pub mod epoch;
pub mod ethereum;
pub mod events;
pub mod hash;
pub mod identity;
pub mod ids;
pub mod lagrange;
pub mod manifest;
pub mod message;
pub mod policy;
pub mod proof;
pub mod record;
pub mod sealed_shares;
pub mod snp;
#[cfg(feature = "toml")]
pub mod toml_fault;
pub mod wire;
pub mod witness;

pub use ceremony::{court, dealing, fault, keygen, presign, release, reshare, transcript};
