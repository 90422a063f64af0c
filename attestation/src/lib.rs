//! AMD SEV-SNP evidence: parse it, verify it, bind it to an identity.
//!
//! # Overview
//!
//! An enclave proves what it is with an attestation report that the secure processor signs, and the
//! certificates that lead from the signing key (VCEK) over an intermediate (ASK) to AMD's root (ARK). This
//! crate judges that evidence. It is part of the enclave's trusted tree: no I/O, no network, no clock, no
//! simulation, and no panic on hostile bytes.
//!
//! # Flow
//!
//! Each step consumes the one before, so that a report can't be used under a name that it has not earned:
//!
//! 1. [`UnverifiedReport::parse`]: 1184 bytes, strictly. Reserved bytes must be zero.
//! 2. [`VerifiedChain::verify`]: ARK pinned by the [`TrustAnchor`], ASK and VCEK signed, shaped and named as
//!    AMD does.
//! 3. [`VerifiedChain::authenticate`]: the chip of that VCEK signed these bytes: an [`AuthenticReport`]. It
//!    may still be that of a debug guest.
//! 4. [`AuthenticReport::accept`]: what the caller [`Expected`]: a [`VerifiedReport`].
//!
//! [`verify`] is the four in a row. A caller that sees one peer often may keep its [`VerifiedChain`].
//!
//! # Time
//!
//! The enclave has no clock that it trusts. Whoever has a bound on the time (a manifest, a finalised block)
//! passes it; without one, validity periods are not looked at.
//!
//! # What is not checked yet
//!
//! TCB floors, revocation lists, ID blocks, platform information (memory alias check), provisional firmware
//! (`committed < current`), CXL and SMT in the guest policy, mitigation vectors. VLEKs are refused
//! altogether.
//!
//! In comments, 56860 is AMD's publication on the SEV-SNP firmware ABI, 57230 that on VCEK certificates and
//! KDS.

#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;

mod anchor;
mod binding;
mod certificate;
mod chain;
mod error;
mod evidence;
mod layout;
mod product;
mod report;
mod signature;
mod tcb;
mod vcek;

pub use anchor::TrustAnchor;
pub use binding::{Binding, ReportData};
pub use chain::{CertificateChain, VerifiedChain};
pub use error::{CertificateRole, ChainError, EvidenceError, Hex, Mismatch, ReportError};
pub use evidence::{AuthenticReport, Expected, VerifiedReport, verify};
pub use product::{Cpuid, Product};
pub use report::{
    FirmwareVersion, GuestPolicy, KeyFlags, Measurement, REPORT_LEN, SIGNED_LEN, SigningKey, UnverifiedReport,
};
pub use tcb::{RawTcb, TcbVersion};
