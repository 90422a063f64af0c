//! Postern's untrusted side: the daemon that serves a member's enclave, and the command line.
//!
//! Nothing in here is trusted with anything: it holds no secret of a ceremony, and every lie that it could tell ends in
//! a refusal by some enclave. What it must be is robust: it may be killed at any moment and goes on where it was.
//!
//! - [`attest`]: looks at evidence.
//! - [`certificates`]: what vouches for the enclave's reports.
//! - [`config`]: what `postern run` reads.
//! - [`link`]: to the own enclave.
//! - [`store`]: what survives.
//! - [`network`]: to the other members' hosts.
//! - [`chain`]: execution layer and beacon nodes.
//! - [`daemon`]: ties them together.
//! - [`status`]: what it shows.
//! - [`tx`]: looks at its transactions.
//! - [`verify`]: checks transcripts offline.
//! - [`manifest`]: changes the DAO's manifest.
//! - [`measure`]: foretells launch digests, signs ID blocks.
//! - [`image`]: makes the VM's image.
//! - [`vm`]: starts the VM.

pub mod attest;
mod backoff;
mod blocking;
pub mod certificates;
pub mod chain;
mod clock;
pub mod config;
pub mod daemon;
#[cfg(feature = "devnet")]
pub mod demo;
mod file_lock;
pub mod image;
pub mod key_file;
pub mod link;
pub mod manifest;
pub mod measure;
pub mod network;
pub mod output;
pub mod presence;
pub mod status;
pub mod store;
pub mod tx;
pub mod verdict;
pub mod verify;
pub mod vm;
mod whole_file;
