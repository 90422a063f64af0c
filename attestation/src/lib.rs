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
//! A [`Verifier`] holds a [`TrustAnchor`] (whose roots count), the manifest's `AttestationRules` and what is known of the
//! [`Time`]. [`Verifier::verify`] takes evidence as it came from a stranger and gives a [`VerifiedReport`], or a
//! [`Refusal`] that names every `Check` that failed. [`Verifier::appraise`] is the same for people: all findings, and
//! no verdict that code could mistake for one.
//!
//! Every check looks at the bytes received: nothing is encoded anew before it is hashed or compared. `POLICY.md` explains
//! the rules, field by field.
//!
//! # Time
//!
//! The enclave has no clock that it trusts: see [`Time`].
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
mod checks;
mod crl;
mod endorsement;
mod error;
mod finding;
mod floors;
mod layout;
mod report;
mod revoked;
mod shortfall;
mod signature;
mod time;
mod verifier;

pub use anchor::TrustAnchor;
pub use binding::{Binding, ReportData};
pub use chain::{Certified, certified};
pub use error::{CertificateRole, ChainError, CrlError, Hex, ReportError};
pub use finding::{Finding, Refusal};
pub use floors::{Requirements, Silicon, built_in, requirements};
pub use report::{
    GuestPolicy, KeyFlags, LATEST_VERSION, REPORT_LEN, SIGNED_LEN, SigningKey, UnverifiedReport,
};
pub use shortfall::{BitNumbers, Shortfall};
pub use time::{Period, Time};
pub use verifier::{Appraisal, Launch, VerifiedReport, Verifier};
