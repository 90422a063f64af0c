//! Evidence, and what goes into it: what is checked of it, launch digests and ID blocks, beside other tools' verdicts.

mod attestation_checklist;
mod id_block;
#[path = "../independent/mod.rs"]
mod independent;
#[cfg(feature = "oracles")]
mod launch_measurement;
mod policy_document;
mod real_snpguest;
