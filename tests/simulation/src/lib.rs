//! A software stand-in for the AMD secure processor: **PROVIDES NO SECURITY**.
//!
//! Every key in here is public: the simulation's root and intermediate are committed in `keys/`, chip keys
//! are derived from seeds that tests choose. Nothing that this crate signs means anything. It is for tests,
//! simulations and devnets, and its name and its certificates (`… SIMULATION NO SECURITY`) say so wherever
//! they turn up.
//!
//! # Why it is safe to have
//!
//! There is no simulation mode in `postern-attestation` or `postern-enclave`. A simulated machine differs
//! from a real one only by the root that its platform names ([`trust_anchor`]); its evidence takes the whole
//! production path, and an enclave on real hardware, whose platform names AMD's roots, refuses it like any
//! stranger's.
//!
//! # Use
//!
//! ```
//! use postern_attestation::{Launch, ReportData, Time, Verifier};
//! use postern_enclave::platform::Platform;
//! use postern_shared::ids::{ChipId, Digest, Measurement};
//! use postern_shared::message::Evidence;
//! use postern_shared::policy::{AllowedMeasurement, AttestationRules, Trust};
//! use postern_simulation::{Machine, SoftwarePsp, trust_anchor};
//!
//! let mut psp = SoftwarePsp::new(Machine { chip_seed: [7; 32], ..Machine::default() }).seeded([1; 32]);
//! let report_data = ReportData([3; 64]);
//! let evidence = Evidence { report: psp.report(&report_data)?, certificates: psp.certificates() };
//!
//! let anchor = trust_anchor();
//! let mut rules = AttestationRules::strict(Trust::Simulation { root: Digest(anchor.fingerprint()) });
//! let digest = Measurement(psp.machine().measurement);
//! rules.measurements.push(AllowedMeasurement::new("the enclave", digest));
//! let launch = Launch { epoch: 0, host_data: [0; 32], chip_ids: &[ChipId(psp.chip_id())] };
//! Verifier::new(anchor, rules, Time::NotBefore(0)).verify(&evidence, &launch, &report_data)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To misbehave: [`SoftwarePsp::tamper`] changes the fields of reports before they are signed, [`Vcek`] makes
//! leaf certificates as wrong as one likes, [`SoftwarePsp::refuse_reports`] and [`SoftwarePsp::answer_keys`] make the
//! firmware fail.
//!
//! # Speed
//!
//! Signing with the intermediate (RSA-4096) is slow, so chains are cached for the life of the process, by
//! chip seed and TCB. Ten thousand enclaves on ten chips cost ten of them. A report costs one P-384
//! signature.
//!
//! # Determinism
//!
//! Same machine, same report data: same report, same chain, same derived keys, byte for byte. Randomness is the operating
//! system's, unless the processor is [`SoftwarePsp::seeded`].

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod ark;
mod der;
mod derived_key;
mod fields;
mod keys;
mod machine;
mod misbehaviour;
pub mod process;
mod psp;
mod randomness;
mod vcek;

pub use ark::{RevocationList, another_ask, asvk};
pub use derived_key::KeyAnswer;
pub use fields::ReportFields;
pub use keys::trust_anchor;
pub use machine::Machine;
pub use misbehaviour::Misbehaviour;
pub use psp::SoftwarePsp;
pub use vcek::{TcbParts, Vcek};
