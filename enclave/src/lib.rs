//! Postern's trusted core.
//!
//! [`core::Core`] is a pure state machine: one [`postern_shared::wire::Request`] in, one
//! [`postern_shared::wire::Response`] out. It has no sockets, files, threads or clocks; what it needs of the machine is
//! [`platform::Platform`]. [`shell`] is the thin loop around it that reads and writes frames.
//!
//! The binary `postern-enclave` is that core on real hardware: `snp`, served over `vsock`, as `pid1` of its VM. There is no
//! other platform in here.
//!
//! # Where the secrets are
//! - [`coins`]: the seed of all randomness; everything below derives from it.
//! - [`keys`]: the identity's three secret keys.
//! - [`sharing`]: polynomials and key shares while a ceremony needs them.
//! - [`ceremony`]: each ceremony's own state: a key share, shares of exits; `vault`: the same, once settled.
//! - `seal`: the key of the log, and what is sealed with it before it leaves.
//!
//! All are wiped on drop, none has a `Debug` or `Serialize` that shows it, and the only types that leave the core are
//! those of `postern-shared`, which has no type for a secret in clear.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod admission;
mod agreement;
mod answers;
pub mod ceremony;
mod change;
pub mod coins;
pub mod core;
mod dao;
mod dealing;
mod effects;
mod epochs;
mod guard;
mod journal;
pub mod keys;
mod life;
#[cfg(target_os = "linux")]
pub mod pid1;
pub mod platform;
mod pools;
mod proofs;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod scale;
mod seal;
mod secret;
pub mod sharing;
pub mod shell;
mod snapshot;
#[cfg(target_os = "linux")]
pub mod snp;
#[cfg(target_os = "linux")]
mod stack;
mod state;
mod statements;
#[cfg(target_os = "linux")]
pub mod vsock;
mod witness;
