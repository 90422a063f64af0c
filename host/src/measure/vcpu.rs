//! The registers that a vCPU starts with, as QEMU and KVM set them: one page for each (24593, state save area of SEV-ES).

use super::page_chain::PAGE;
use std::fmt;
use std::str::FromStr;

/// As many as KVM can be built for.
const MAX_VCPUS: u32 = 4096;
/// Where the first vCPU starts; the others start where the firmware says.
const RESET_VECTOR: u32 = 0xFFFF_FFF0;

/// QEMU's EPYC models: name, number of versions (`-v1` to `-vN`), and what CPUID says of family, model and stepping, which
/// is the same for all versions.
const MODELS: [(&str, u32, Signature); 6] = [
    ("EPYC", 5, Signature { family: 23, model: 1, stepping: 2 }),
    // An old name of EPYC-v2.
    ("EPYC-IBPB", 0, Signature { family: 23, model: 1, stepping: 2 }),
    ("EPYC-Rome", 5, Signature { family: 23, model: 49, stepping: 0 }),
    ("EPYC-Milan", 3, Signature { family: 25, model: 1, stepping: 1 }),
    ("EPYC-Genoa", 2, Signature { family: 25, model: 17, stepping: 0 }),
    ("EPYC-Turin", 2, Signature { family: 26, model: 0, stepping: 0 }),
];

/// Why there is no such set of vCPUs.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VcpuError {
    /// None, or more than KVM has.
    #[error("expected 1 to {MAX_VCPUS} vCPUs, found {found}")]
    Count {
        /// The number given.
        found: u32,
    },
    /// Without bit 0 it is no SNP guest.
    #[error("guest features {found:#x} lack bit 0, SNPActive")]
    NotSnp {
        /// The features given.
        found: u64,
    },
}

/// A name that is no CPU model of QEMU's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown CPU model `{found}`, known: {}", known_models())]
pub struct UnknownCpuModel {
    /// The name.
    pub found: String,
}

/// `SEV_FEATURES` of the guest. QEMU sets bit 0 (SNPActive) and what its options and KVM add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestFeatures(pub u64);

/// A CPU model of QEMU's, `-cpu`. Its signature is in a register when a vCPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuModel {
    base: &'static str,
    version: Option<u32>,
    signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    family: u32,
    model: u32,
    stepping: u32,
}

impl Signature {
    /// CPUID function 1, EAX (24594, CPUID Fn0000_0001_EAX).
    const fn eax(self) -> u32 {
        let (base, extended) = if self.family > 0xF { (0xF, self.family - 0xF) } else { (self.family, 0) };
        extended << 20 | (self.model >> 4) << 16 | base << 8 | (self.model & 0xF) << 4 | self.stepping
    }
}

impl CpuModel {
    /// All that are known.
    pub fn all() -> impl Iterator<Item = Self> {
        MODELS.into_iter().flat_map(|(base, versions, signature)| {
            let version = std::iter::once(None).chain((1..=versions).map(Some));
            version.map(move |version| Self { base, version, signature })
        })
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base)?;
        self.version.map_or(Ok(()), |version| write!(f, "-v{version}"))
    }
}

impl FromStr for CpuModel {
    type Err = UnknownCpuModel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownCpuModel { found: text.to_owned() };
        Self::all().find(|model| model.to_string() == text).ok_or_else(unknown)
    }
}

fn known_models() -> String {
    CpuModel::all().map(|model| model.to_string()).collect::<Vec<_>>().join(", ")
}

/// The pages of all vCPUs, in their order.
pub(super) fn save_areas(
    vcpus: u32,
    reset_address: u32,
    cpu: CpuModel,
    features: GuestFeatures,
) -> Result<impl Iterator<Item = Box<[u8; PAGE]>>, VcpuError> {
    if !(1..=MAX_VCPUS).contains(&vcpus) {
        return Err(VcpuError::Count { found: vcpus });
    }
    if features.0 & 1 == 0 {
        return Err(VcpuError::NotSnp { found: features.0 });
    }
    let first = save_area(RESET_VECTOR, cpu, features);
    let other = save_area(reset_address, cpu, features);
    Ok(std::iter::once(first).chain(std::iter::repeat_n(other, vcpus as usize - 1)))
}

/// A vCPU in real mode, about to run its first instruction at `start`.
fn save_area(start: u32, cpu: CpuModel, features: GuestFeatures) -> Box<[u8; PAGE]> {
    let mut area = Box::new([0; PAGE]);
    let mut set = |offset: usize, value: &[u8]| area[offset..offset + value.len()].copy_from_slice(value);

    // Segments: selector, attributes, limit, base (which stays zero but for CS).
    let mut segment = |offset: usize, attributes: u16| {
        set(offset + 2, &attributes.to_le_bytes());
        set(offset + 4, &0xFFFF_u32.to_le_bytes());
    };
    segment(0x00, 0x93); // ES
    segment(0x10, 0x9B); // CS
    segment(0x20, 0x93); // SS
    segment(0x30, 0x93); // DS
    segment(0x40, 0x93); // FS
    segment(0x50, 0x93); // GS
    segment(0x60, 0x00); // GDTR
    segment(0x70, 0x82); // LDTR
    segment(0x80, 0x00); // IDTR
    segment(0x90, 0x8B); // TR
    set(0x10, &0xF000_u16.to_le_bytes()); // selector of CS
    set(0x18, &u64::from(start & 0xFFFF_0000).to_le_bytes()); // base of CS

    let mut register = |offset: usize, value: u64| set(offset, &value.to_le_bytes());
    register(0x0D0, 0x1000); // EFER: KVM sets SVME
    register(0x148, 0x40); // CR4: KVM sets MCE
    register(0x158, 0x10); // CR0
    register(0x160, 0x400); // DR7
    register(0x168, 0xFFFF_0FF0); // DR6
    register(0x170, 0x2); // RFLAGS
    register(0x178, u64::from(start & 0xFFFF)); // RIP
    register(0x268, 0x0007_0406_0007_0406); // PAT
    register(0x310, u64::from(cpu.signature.eax())); // RDX
    register(0x3B0, features.0); // SEV_FEATURES
    register(0x3E8, 0x1); // XCR0
    set(0x408, &0x1F80_u32.to_le_bytes()); // MXCSR
    set(0x410, &0x037F_u16.to_le_bytes()); // x87 control word
    area
}
