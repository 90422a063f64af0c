//! The launch digest as a chain of pages (56860, `PAGE_INFO` structure): each page's hash is hashed with the digest so far.

use postern_shared::ids::Measurement;
use sha2::{Digest, Sha384};

/// Size of a page.
pub(super) const PAGE: usize = 4096;
/// Length of a `PAGE_INFO`.
const PAGE_INFO_LEN: u16 = 0x70;
/// KVM places every VMSA page at -1; measured of that is the page, in 48 bits.
const VMSA_ADDRESS: u64 = 0xFFFF_FFFF_F000;
/// Contents of a page that is not hashed.
const NO_CONTENTS: [u8; 48] = [0; 48];

/// `PAGE_TYPE` of `SNP_LAUNCH_UPDATE`.
#[derive(Clone, Copy)]
enum PageType {
    Normal = 1,
    Vmsa = 2,
    Zero = 3,
    Secrets = 5,
    Cpuid = 6,
}

/// The digest of the pages so far; zero before the first.
#[derive(Debug, Clone)]
pub(super) struct PageChain([u8; 48]);

impl Default for PageChain {
    fn default() -> Self {
        Self([0; 48])
    }
}

impl PageChain {
    /// Pages with contents, from this guest-physical address on.
    pub(super) fn normal(&mut self, address: u64, contents: &[u8]) {
        for (page, address) in contents.chunks(PAGE).zip((address..).step_by(PAGE)) {
            self.extend(PageType::Normal, address, Sha384::digest(page).into());
        }
    }

    /// Pages of zeros.
    pub(super) fn zero(&mut self, address: u64, count: usize) {
        for address in (address..).step_by(PAGE).take(count) {
            self.extend(PageType::Zero, address, NO_CONTENTS);
        }
    }

    /// The page that the secure processor fills with the guest's secrets.
    pub(super) fn secrets(&mut self, address: u64) {
        self.extend(PageType::Secrets, address, NO_CONTENTS);
    }

    /// The page with CPUID values, which the secure processor checks instead of measuring them.
    pub(super) fn cpuid(&mut self, address: u64) {
        self.extend(PageType::Cpuid, address, NO_CONTENTS);
    }

    /// The initial registers of a vCPU.
    pub(super) fn vmsa(&mut self, contents: &[u8; PAGE]) {
        self.extend(PageType::Vmsa, VMSA_ADDRESS, Sha384::digest(contents).into());
    }

    /// The launch digest, if that was all.
    pub(super) fn digest(&self) -> Measurement {
        Measurement(self.0)
    }

    fn extend(&mut self, kind: PageType, address: u64, contents: [u8; 48]) {
        // Not an initial migration image, and no permissions for VMPLs 3 to 1; the last byte is reserved.
        let [imi_page, vmpl3, vmpl2, vmpl1, reserved] = [0; 5];
        let hash = Sha384::new()
            .chain_update(self.0)
            .chain_update(contents)
            .chain_update(PAGE_INFO_LEN.to_le_bytes())
            .chain_update([kind as u8, imi_page, vmpl3, vmpl2, vmpl1, reserved])
            .chain_update(address.to_le_bytes());
        self.0 = hash.finalize().into();
    }
}
