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
//! - [`ceremony`]: each ceremony's own state: a key share, shares of exits; `pools::vault`: the same, once settled.
//! - `log::seal`: the key of the log, and what is sealed with it before it leaves.
//!
//! All are wiped on drop, none has a `Debug` or `Serialize` that shows it, and the only types that leave the core are
//! those of `postern-shared`, which has no type for a secret in clear.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod admission;
mod agreement;
pub mod ceremony;
pub mod core;
mod crypto;
mod dao;
mod effects;
mod epochs;
mod life;
mod log;
mod machine;
mod pools;
mod proofs;
pub mod shell;
mod state;
mod witness;

pub use crypto::{coins, keys, sharing};
pub use machine::platform;
#[cfg(target_os = "linux")]
pub use machine::{pid1, snp, vsock};
