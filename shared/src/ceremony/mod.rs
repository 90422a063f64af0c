//! Ceremonies in public: what is said in them, and every judgement of it that needs no secret. Enclaves judge by it while a
//! ceremony goes on, and anybody can afterwards.
//!
//! [`keygen`], [`reshare`], [`presign`] and [`release`] are the ceremonies: each a file with its terms, its statements, and its
//! [`Protocol`](court::Protocol). They are made of parts: joint dealing ([`dealing`]), sealed shares
//! ([`sealed_shares`](crate::sealed_shares)) and partial signatures ([`signing`]). [`fault`], [`court`] and [`transcript`] know none of them by name, but for the list in
//! `transcript`.

pub mod basis;
pub mod court;
pub mod dealing;
pub mod fault;
pub mod keygen;
pub mod presign;
mod reader;
pub mod release;
pub mod reshare;
pub mod signing;
pub mod transcript;
