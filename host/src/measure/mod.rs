//! What a confidential VM's launch digest will be, worked out beforehand from what it is started with.
//!
//! The secure processor hashes everything that QEMU puts into an SNP guest before its first instruction (56860,
//! `SNP_LAUNCH_UPDATE`), page by page and in this order:
//!
//! 1. the firmware image, which ends at 4 GiB ([`Firmware`]);
//! 2. the pages that the firmware's metadata asks for, among them one with hashes of kernel, initrd and command line
//!    ([`KernelHashes`]), if the firmware checks such hashes;
//! 3. the initial registers of each vCPU, which depend on the CPU model and on `SEV_FEATURES` ([`CpuModel`], [`GuestFeatures`]).
//!
//! The result is what reports of that guest show as measurement and what a manifest lists. It does not depend on the guest
//! policy or on `HOST_DATA`; [`id_block`] is how an image's publisher binds a policy to it.
//!
//! This is the offline side: files from anywhere, so all of it is checked, and what other tools would read in two ways is
//! refused rather than measured. In comments, 56860 is AMD's publication on the SEV-SNP firmware ABI, 24593 volume 2 of the
//! AMD64 manual.

pub mod command;
mod firmware;
pub mod id_block;
mod kernel;
mod page_chain;
pub mod policy;
mod vcpu;

pub use firmware::{Firmware, FirmwareError};
pub use kernel::{KernelError, KernelHashes};
pub use vcpu::{CpuModel, GuestFeatures, UnknownCpuModel, VcpuError};

use firmware::SectionKind;
use page_chain::{PAGE, PageChain};
use postern_shared::ids::Measurement;

/// A guest as far as it does not depend on its vCPUs: cheap to finish for many combinations of them.
#[derive(Debug, Clone)]
pub struct Launch {
    pages: PageChain,
    reset_address: u32,
}

impl Launch {
    /// Measures the firmware and its metadata pages. Without a kernel, the page for hashes stays empty, as QEMU leaves it
    /// with `kernel-hashes=off`.
    pub fn new(firmware: &Firmware, kernel: Option<&KernelHashes>) -> Result<Self, FirmwareError> {
        let hashes_page = match kernel {
            Some(hashes) => Some(hashes.page(firmware.hashes_offset(kernel::TABLE_LEN)?)),
            None => None,
        };
        let mut pages = PageChain::default();
        pages.normal(firmware.address(), firmware.image());
        for section in firmware.sections() {
            let address = u64::from(section.address);
            match (section.kind, &hashes_page) {
                (SectionKind::Secrets, _) => pages.secrets(address),
                (SectionKind::Cpuid, _) => pages.cpuid(address),
                (SectionKind::KernelHashes, Some(page)) => pages.normal(address, page),
                (SectionKind::SecMemory | SectionKind::SvsmCaa | SectionKind::KernelHashes, _) => {
                    pages.zero(address, section.size as usize / PAGE)
                }
            }
        }
        Ok(Self { pages, reset_address: firmware.reset_address() })
    }

    /// The launch digest of this guest with so many vCPUs.
    pub fn digest(
        &self,
        vcpus: u32,
        cpu: CpuModel,
        features: GuestFeatures,
    ) -> Result<Measurement, VcpuError> {
        let mut pages = self.pages.clone();
        for page in vcpu::save_areas(vcpus, self.reset_address, cpu, features)? {
            pages.vmsa(&page);
        }
        Ok(pages.digest())
    }
}
