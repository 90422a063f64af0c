//! The least that firmware, microcode and mitigations must be, by silicon.
//!
//! A floor belongs to a family, model and stepping, never to a product line: the microcode component is the low byte of a
//! patch number that each kind of silicon counts for itself, and AMD numbers mitigations for each family. What is not
//! listed has no floor, and is refused.
//!
//! AMD publishes no signed status of TCBs; its bulletins (`amd.com/en/resources/product-security/bulletin/amd-sb-NNNN.html`)
//! say in tables which values answer what. They could not be read directly here. Each value below was read in public
//! sources that quote them, by these letters:
//!
//! - **L**: Linux, `arch/x86/kernel/cpu/amd.c` (`zen5_rdseed_microcode`) and `drivers/crypto/ccp/sev-dev.c`
//!   (`sev_firmware_allows_es`), both by AMD's engineers.
//! - **R**: `yaxitech/routex-client-swift`, which has the tables of AMD-SB-3020 and 3023 by silicon.
//! - **P**: `ariofrio/pi-tee`, an audit that quotes AMD-SB-3019, 3020 and 3027 as of 2026-10-08.
//! - **C**: `agentrust-io/trace-spec`, which quotes AMD-SB-3016 (SNP, and mitigation bit 2, for Milan and Genoa).
//! - **A**: `automata-network/automata-tee-workload-measurement`, which has the bits of AMD-SB-3016, 3020, 3030 and 3034
//!   for Milan.
//! - **S**: `Ayoshiss/sentinel-subnet`, which quotes AMD-SB-3030 (SNP for Milan).
//! - **T**: `tinfoilsh/tinfoil-go`, which demands platform bit 6 of Turin, and forbids it to Genoa.
//! - **V**: real reports, `tests/vectors/snp`: what a machine has, which is not what a bulletin demands.
//!
//! A value that none of these gives is not guessed: it is what V has, or nothing, and [`Silicon::unconfirmed`] says so.
//! AMD-SB-3034 once gave TCBs (Genoa: SNP 0x1C) and withdrew them on 2026-09-24, so none is taken from there; what
//! AMD-SB-3030 and 3039 want of boot loader and TEE on Genoa and Turin was found nowhere. A manifest may raise each value.

use postern_shared::{
    policy::{AttestationRules, Floor},
    snp::{Cpuid, FirmwareVersion, TcbVersion},
};

/// What a machine must reach to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements {
    /// Component by component: reported, at launch, and committed.
    pub tcb: TcbVersion,
    /// SNP firmware, running and committed.
    pub firmware: Option<FirmwareVersion>,
    /// Bits that must be set in the mitigation vectors, at launch and now.
    pub mitigations: u64,
    /// Bits that must be set in the platform information, besides what the rules say of all silicon.
    pub platform: u64,
}

/// One kind of silicon, and what is required of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silicon {
    /// What people call it.
    pub name: &'static str,
    /// Family, model and first stepping.
    pub first: Cpuid,
    /// Last stepping.
    pub last_stepping: u8,
    /// What it must reach.
    pub requirements: Requirements,
    /// The bulletins that this answers.
    pub answers: &'static str,
    /// What no public source confirms.
    pub unconfirmed: &'static str,
    /// When this was last compared with the sources.
    pub compared: &'static str,
}

impl Silicon {
    /// Whether a processor is of this kind.
    pub const fn covers(&self, cpuid: Cpuid) -> bool {
        let Cpuid { family, model, stepping } = self.first;
        family == cpuid.family
            && model == cpuid.model
            && stepping <= cpuid.stepping
            && cpuid.stepping <= self.last_stepping
    }
}

/// AMD-SB-3020: Milan SEV firmware 1.55.35, Genoa 1.55.49, Turin 1.55.65 (R; Genoa P too, V for Siena and Turin).
const MILAN_FIRMWARE: FirmwareVersion = firmware(35);
const GENOA_FIRMWARE: FirmwareVersion = firmware(49);
const TURIN_FIRMWARE: FirmwareVersion = firmware(65);

/// Bit 1 AMD-SB-3020 (R, A), 2 AMD-SB-3016 (C, A), 4 AMD-SB-3030 and 3034 (A).
const MILAN_MITIGATIONS: u64 = bits([1, 2, 4]);
/// Bit 0 AMD-SB-3023 (R, P), 1 AMD-SB-3020 (R, P), 2 AMD-SB-3016 (C, P). The bits of AMD-SB-3030 and 3034 were found for
/// Milan only, and families are numbered separately.
const GENOA_MITIGATIONS: u64 = bits([0, 1, 2]);
/// Bit 0 AMD-SB-3020 (R); 1, 2, 4 and 5 AMD-SB-3023 (R). V has them all.
const TURIN_MITIGATIONS: u64 = bits([0, 1, 2, 4, 5]);
/// Bit 6, the IOMMU can't write to guests: AMD-SB-3016 on Turin (T; V has it).
const TURIN_PLATFORM: u64 = bits([6]);

const GENOA_UNCONFIRMED: &str =
    "bootloader (AMD-SB-3030, 3039: as seen on machines); mitigations of AMD-SB-3030, 3034";
const TURIN_UNCONFIRMED: &str = "FMC, bootloader, TEE (AMD-SB-3030, 3039: as seen on machines)";

/// In order of the silicon.
const TABLE: [Silicon; 7] = [
    // Milan is refused unless a manifest lists it: its root seed was extracted by software (arXiv 2605.12990). If it is:
    // SNP 0x1D AMD-SB-3030 (S); microcode 0xDE AMD-SB-3020 (R) and 3027.
    Silicon {
        name: "Milan",
        first: cpuid(0x19, 0x01, 1),
        last_stepping: 1,
        requirements: Requirements {
            tcb: tcb(None, [4, 0, 0x1D, 0xDE]),
            firmware: Some(MILAN_FIRMWARE),
            mitigations: MILAN_MITIGATIONS,
            platform: 0,
        },
        answers: "AMD-SB-3016, 3020, 3023, 3027, 3030, 3034",
        unconfirmed: "bootloader (as seen on machines)",
        compared: COMPARED,
    },
    // As Milan; microcode 0x47 AMD-SB-3023 (R) and 3027.
    Silicon {
        name: "Milan-X",
        first: cpuid(0x19, 0x01, 2),
        last_stepping: 2,
        requirements: Requirements {
            tcb: tcb(None, [4, 0, 0x1D, 0x47]),
            firmware: Some(MILAN_FIRMWARE),
            mitigations: MILAN_MITIGATIONS,
            platform: 0,
        },
        answers: "AMD-SB-3016, 3020, 3023, 3027, 3030, 3034",
        unconfirmed: "bootloader (as seen on machines)",
        compared: COMPARED,
    },
    // SNP 0x1B AMD-SB-3016 (C), 3020 (R, P), 3023 (L); microcode 0x56 AMD-SB-3020 (R, P), 3027 (P).
    Silicon {
        name: "Genoa",
        first: cpuid(0x19, 0x11, 1),
        last_stepping: 1,
        requirements: Requirements {
            tcb: tcb(None, [10, 0, 0x1B, 0x56]),
            firmware: Some(GENOA_FIRMWARE),
            mitigations: GENOA_MITIGATIONS,
            platform: 0,
        },
        answers: "AMD-SB-3016, 3019, 3020, 3023, 3027",
        unconfirmed: GENOA_UNCONFIRMED,
        compared: COMPARED,
    },
    // As Genoa; microcode 0x51 AMD-SB-3020 (R, P), 3027 (P).
    Silicon {
        name: "Genoa-X",
        first: cpuid(0x19, 0x11, 2),
        last_stepping: 2,
        requirements: Requirements {
            tcb: tcb(None, [10, 0, 0x1B, 0x51]),
            firmware: Some(GENOA_FIRMWARE),
            mitigations: GENOA_MITIGATIONS,
            platform: 0,
        },
        answers: "AMD-SB-3016, 3019, 3020, 3023, 3027",
        unconfirmed: GENOA_UNCONFIRMED,
        compared: COMPARED,
    },
    // As Genoa; microcode 0x1B AMD-SB-3020 (R; V has it).
    Silicon {
        name: "Bergamo, Siena",
        first: cpuid(0x19, 0xA0, 2),
        last_stepping: 2,
        requirements: Requirements {
            tcb: tcb(None, [10, 0, 0x1B, 0x1B]),
            firmware: Some(GENOA_FIRMWARE),
            mitigations: GENOA_MITIGATIONS,
            platform: 0,
        },
        answers: "AMD-SB-3016, 3019, 3020, 3023",
        unconfirmed: "microcode of AMD-SB-3027; bootloader (AMD-SB-3030, 3039: as seen on machines); \
                      mitigations of AMD-SB-3030, 3034",
        compared: COMPARED,
    },
    // SNP 4 AMD-SB-3020 (R, P), 3023 (L); microcode 0x50 AMD-SB-3020 (R, P), 0x51 AMD-SB-3023 (R), 3027 (P), and 0x5A
    // AMD-SB-7055 (L: 0x0b00215a): the guest's own random numbers.
    Silicon {
        name: "Turin",
        first: cpuid(0x1A, 0x02, 1),
        last_stepping: 1,
        requirements: Requirements {
            tcb: tcb(Some(1), [1, 1, 0x04, 0x5A]),
            firmware: Some(TURIN_FIRMWARE),
            mitigations: TURIN_MITIGATIONS,
            platform: TURIN_PLATFORM,
        },
        answers: "AMD-SB-3016, 3020, 3023, 3027, 7055",
        unconfirmed: TURIN_UNCONFIRMED,
        compared: COMPARED,
    },
    // As Turin; microcode 0x4D AMD-SB-3020 (R), 0x4E AMD-SB-3023 (R), 0x54 AMD-SB-7055 (L: 0x0b101054). No real report of
    // one was found.
    Silicon {
        name: "Turin Dense",
        first: cpuid(0x1A, 0x11, 0),
        last_stepping: 0,
        requirements: Requirements {
            tcb: tcb(Some(0), [0, 0, 0x04, 0x54]),
            firmware: Some(TURIN_FIRMWARE),
            mitigations: TURIN_MITIGATIONS,
            platform: TURIN_PLATFORM,
        },
        answers: "AMD-SB-3016, 3020, 3023, 7055",
        unconfirmed: "FMC, bootloader, TEE (none was seen: nothing is demanded); microcode of AMD-SB-3027",
        compared: COMPARED,
    },
];

const COMPARED: &str = "2026-11-30";

const fn cpuid(family: u8, model: u8, stepping: u8) -> Cpuid {
    Cpuid { family, model, stepping }
}

const fn tcb(fmc: Option<u8>, [bootloader, tee, snp, microcode]: [u8; 4]) -> TcbVersion {
    TcbVersion { fmc, bootloader, tee, snp, microcode }
}

const fn firmware(build: u8) -> FirmwareVersion {
    FirmwareVersion { major: 1, minor: 55, build }
}

/// A mask of these bits.
const fn bits<const N: usize>(numbers: [u32; N]) -> u64 {
    let (mut mask, mut rest): (u64, &[u32]) = (0, &numbers);
    while let [number, tail @ ..] = rest {
        // A number that is no bit is found when this is compiled.
        #[allow(clippy::arithmetic_side_effects)]
        {
            mask |= 1 << *number;
        }
        rest = tail;
    }
    mask
}

/// The floors that are built in.
pub const fn built_in() -> &'static [Silicon] {
    &TABLE
}

/// What is required of some silicon under `rules`: the higher of what they say and what is built in, and where they relax a
/// part of it, that part as they relax it. None without a TCB to reach: such silicon is refused.
pub fn requirements(rules: &AttestationRules, silicon: Cpuid) -> Option<Requirements> {
    let of = |floors: &[Floor]| floors.iter().find(|floor| floor.silicon == silicon).copied();
    let nothing = Floor::of(silicon);
    let built_in = TABLE.iter().find(|kind| kind.covers(silicon)).map_or(nothing, |kind| {
        let Requirements { tcb, firmware, mitigations, platform } = kind.requirements;
        let (mitigations, platform) = (Some(mitigations), Some(platform));
        Floor { silicon, tcb: Some(tcb), firmware, mitigations, platform }
    });
    let raised = of(&rules.floors).unwrap_or(nothing);
    let relaxed = of(&rules.relax.floors).unwrap_or(nothing);
    let both = |one: Option<u64>, other: Option<u64>| one.unwrap_or(0) | other.unwrap_or(0);
    let tcb = match (built_in.tcb, raised.tcb) {
        (Some(built_in), Some(raised)) => Some(built_in.raised_to(&raised)),
        (built_in, raised) => built_in.or(raised),
    };
    Some(Requirements {
        tcb: relaxed.tcb.or(tcb)?,
        firmware: relaxed.firmware.or(built_in.firmware.max(raised.firmware)),
        mitigations: relaxed.mitigations.unwrap_or(both(built_in.mitigations, raised.mitigations)),
        platform: relaxed.platform.unwrap_or(both(built_in.platform, raised.platform)),
    })
}
