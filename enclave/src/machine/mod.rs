//! The machine below the core: what it gives, and the only one there is in here, an SEV-SNP guest on Linux.

#[cfg(target_os = "linux")]
pub mod pid1;
pub mod platform;
#[cfg(target_os = "linux")]
pub mod snp;
#[cfg(target_os = "linux")]
mod stack;
#[cfg(target_os = "linux")]
pub mod vsock;
