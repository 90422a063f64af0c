//! The least that firmware and microcode must be, by silicon, as of November 2026.
//!
//! A floor belongs to a family, model and stepping, never to a product line: the microcode component is the low byte of a
//! patch number that each kind of silicon counts for itself. What is not listed has no floor, and is refused.
//!
//! AMD publishes no signed status of TCBs. These values were read in other projects' code and advisories' summaries, and
//! should be compared with AMD's bulletins before a release; a manifest may raise each of them.

use postern_shared::{
    policy::{AttestationRules, TcbFloor},
    snp::{Cpuid, TcbVersion},
};

/// In order of the silicon.
const FLOORS: [TcbFloor; 6] = [
    // Milan is refused unless a manifest lists it: its root seed was extracted by software (arXiv 2605.12990). If it is:
    // SNP 0x1D answers BreakFAST (AMD-SB-3030), microcode 0xDE StackWarp (AMD-SB-3027, complete only without SMT).
    floor([0x19, 0x01, 1], None, [4, 0, 0x1D, 0xDE]),
    // Milan-X: the same advisories.
    floor([0x19, 0x01, 2], None, [4, 0, 0x1D, 0x47]),
    // Genoa. SNP 0x1B answers RMPocalypse (AMD-SB-3020), the batch of AMD-SB-3023, and IOMMU writes (AMD-SB-3016);
    // microcode 0x54 EntrySign (AMD-SB-3019), 0x56 StackWarp (AMD-SB-3027).
    floor([0x19, 0x11, 1], None, [10, 0, 0x1B, 0x56]),
    // Genoa-X: the same advisories; EntrySign 0x4F, StackWarp 0x51.
    floor([0x19, 0x11, 2], None, [10, 0, 0x1B, 0x51]),
    // Bergamo and Siena (Zen 4c): SNP as above; microcode 0x19 EntrySign, and 0x1B is what repaired machines have.
    floor([0x19, 0xA0, 2], None, [10, 0, 0x1B, 0x1B]),
    // Turin. SNP 0x04 answers RMPocalypse (AMD-SB-3020) and AMD-SB-3023; microcode 0x51 StackWarp (AMD-SB-3027).
    floor([0x1A, 0x02, 1], Some(1), [1, 1, 0x04, 0x51]),
];

const fn floor(
    [family, model, stepping]: [u8; 3],
    fmc: Option<u8>,
    [bootloader, tee, snp, microcode]: [u8; 4],
) -> TcbFloor {
    TcbFloor {
        silicon: Cpuid { family, model, stepping },
        tcb: TcbVersion { fmc, bootloader, tee, snp, microcode },
        firmware: None,
    }
}

/// The floors that are built in.
pub fn built_in() -> &'static [TcbFloor] {
    &FLOORS
}

/// The floor of some silicon under `rules`: what they relax it to, or else the higher of what they say and what is built
/// in. None if there is none: such silicon is refused.
pub fn floor_for(rules: &AttestationRules, silicon: Cpuid) -> Option<TcbFloor> {
    let of = |floors: &[TcbFloor]| floors.iter().find(|floor| floor.silicon == silicon).copied();
    of(&rules.relax.tcb_floors).or_else(|| match (of(&FLOORS), of(&rules.tcb_floors)) {
        (Some(built_in), Some(raised)) => Some(TcbFloor {
            silicon,
            tcb: built_in.tcb.raised_to(&raised.tcb),
            firmware: built_in.firmware.max(raised.firmware),
        }),
        (built_in, raised) => built_in.or(raised),
    })
}
