//! A simulated server with one guest on it.

use postern_shared::snp::{Cpuid, Product, TcbVersion};
use sha2::{Digest, Sha256, Sha512};

/// What a simulated machine is made of. The default is a well-kept Genoa server with a well-behaved guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Makes the chip: its id, the root of derived keys and, with the TCB, its signing key.
    pub chip_seed: [u8; 32],
    /// Launch digest of the guest.
    pub measurement: [u8; 48],
    /// What the host gave at launch.
    pub host_data: [u8; 32],
    /// Guest policy; bit 17 must be one.
    pub policy: u64,
    /// Family id of the guest's ID block; zero without one.
    pub family_id: [u8; 16],
    /// Image id of the guest's ID block; zero without one.
    pub image_id: [u8; 16],
    /// Security version of the guest's ID block; zero without one.
    pub guest_svn: u32,
    /// Silicon, which decides the product line.
    pub cpuid: Cpuid,
    /// Firmware: current, committed, launch and reported TCB at once.
    pub tcb: TcbVersion,
    /// Platform information: by default SMT, ECC and a completed memory alias check.
    pub platform_info: u64,
    /// Version of its reports.
    pub report_version: u32,
    /// Tells one launch of the guest from the next: makes the report id.
    pub launch: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            chip_seed: [0; 32],
            measurement: [0; 48],
            host_data: [0; 32],
            policy: 0x3_0000,
            family_id: [0; 16],
            image_id: [0; 16],
            guest_svn: 0,
            cpuid: Cpuid { family: 0x19, model: 0x11, stepping: 1 },
            tcb: TcbVersion { fmc: None, bootloader: 10, tee: 0, snp: 27, microcode: 86 },
            platform_info: 0x25,
            report_version: 5,
            launch: 0,
        }
    }
}

impl Machine {
    /// A well-kept Turin server, which has another TCB layout and a short chip id.
    pub fn turin() -> Self {
        Self {
            cpuid: Cpuid { family: 0x1A, model: 0x02, stepping: 1 },
            tcb: TcbVersion { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x5A },
            platform_info: 0x65,
            ..Self::default()
        }
    }

    /// Product line of the silicon.
    ///
    /// # Panics
    ///
    /// If there is none: use [`crate::SoftwarePsp::tamper`] to report an unknown processor.
    pub fn product(&self) -> Product {
        self.cpuid.product().expect("the machine's CPUID is of a known product line")
    }

    /// Build of the SNP firmware, one above the line's floor, and the mitigations that repaired machines have.
    pub(crate) fn firmware(&self) -> (u8, u64) {
        match self.product() {
            Product::Milan => (36, 0x1F),
            Product::Genoa => (50, 0x0F),
            Product::Turin => (66, 0x3F),
        }
    }

    /// The chip's id as in reports: 64 bytes, on Turin 8 and zeros.
    pub fn chip_id(&self) -> [u8; 64] {
        let mut id: [u8; 64] = Sha512::new()
            .chain_update(b"postern-simulation-chip-id")
            .chain_update(self.chip_seed)
            .finalize()
            .into();
        id[self.product().hardware_id_len()..].fill(0);
        id
    }

    /// The guest instance's id.
    pub(crate) fn report_id(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"postern-simulation-report-id")
            .chain_update(self.chip_seed)
            .chain_update(self.launch.to_le_bytes())
            .finalize()
            .into()
    }
}
