//! What silicon must reach, for people: the built-in table, and what a manifest makes of it.

use postern_attestation::{BitNumbers, Requirements, Silicon, built_in, requirements};
use postern_shared::policy::AttestationRules;
use postern_shared::snp::Cpuid;
use std::fmt::Write;

/// Writes what is required of each kind of silicon under `rules`.
pub fn floors(rules: &AttestationRules) -> String {
    let mut text =
        String::from("TCB: [FMC/]bootloader/TEE/SNP/microcode; reported, at launch and committed.\n");
    for kind in built_in() {
        let Silicon { name, first, last_stepping, answers, unconfirmed, compared, .. } = kind;
        for stepping in first.stepping..=*last_stepping {
            let silicon = Cpuid { stepping, ..*first };
            let accepted = silicon.product().is_some_and(|product| rules.products.contains(&product));
            let remark = if accepted { "" } else { ", of no accepted product line" };
            let _ = writeln!(text, "\n{name} ({silicon}){remark}");
            if let Some(required) = requirements(rules, silicon) {
                write_required(&mut text, &required, Some(&kind.requirements));
            }
        }
        let _ = writeln!(text, "  answers      {answers}");
        let _ = writeln!(text, "  unconfirmed  {unconfirmed}");
        let _ = writeln!(text, "  compared     {compared}");
    }
    // What a manifest has accepted beyond the table.
    let mut others: Vec<Cpuid> =
        rules.floors.iter().chain(&rules.relax.floors).map(|floor| floor.silicon).collect();
    others.retain(|silicon| !built_in().iter().any(|kind| kind.covers(*silicon)));
    others.sort_unstable();
    others.dedup();
    for silicon in others {
        let _ = writeln!(text, "\nnot built in ({silicon})");
        match requirements(rules, silicon) {
            Some(required) => write_required(&mut text, &required, None),
            None => text.push_str("  refused: the manifest gives it no TCB to reach\n"),
        }
    }
    text
}

fn write_required(text: &mut String, required: &Requirements, built_in: Option<&Requirements>) {
    let Requirements { tcb, firmware, mitigations, platform } = *required;
    let version = firmware.map_or("any".to_owned(), |version| version.to_string());
    let bits = |mask: u64| if mask == 0 { "any".to_owned() } else { BitNumbers(mask).to_string() };
    // Each part: what it is, whether it is at least and at most what is built in.
    let against = |at_least: fn(&Requirements, &Requirements) -> bool| {
        let Some(built_in) = built_in else { return "" };
        match (at_least(required, built_in), at_least(built_in, required)) {
            (true, true) => "",
            (true, false) => "  (stricter than built in)",
            (false, _) => "  (LAXER than built in)",
        }
    };
    let rows = [
        ("TCB", tcb.to_string(), against(|one, other| one.tcb.reaches(&other.tcb))),
        ("firmware", version, against(|one, other| one.firmware >= other.firmware)),
        (
            "mitigations",
            bits(mitigations),
            against(|one, other| one.mitigations & other.mitigations == other.mitigations),
        ),
        ("platform", bits(platform), against(|one, other| one.platform & other.platform == other.platform)),
    ];
    for (name, value, remark) in rows {
        let _ = writeln!(text, "  {name:<12} {value}{remark}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::policy::{Floor, Trust};
    use postern_shared::snp::TcbVersion;

    const GENOA: Cpuid = Cpuid { family: 0x19, model: 0x11, stepping: 1 };

    #[test]
    fn every_kind_of_silicon_is_there_with_all_that_is_asked_of_it() {
        let text = floors(&AttestationRules::strict(Trust::Amd));
        for expected in [
            "Genoa (19/11/1)\n  TCB          10/0/27/86\n  firmware     1.55.49\n  mitigations  bits 0, 1, 2\n  \
             platform     any\n  answers      AMD-SB-3016, 3019",
            "Turin (1a/02/1)\n  TCB          1/1/1/4/90\n",
            "  platform     bit 6\n",
            "Turin Dense (1a/11/0)",
            "Milan (19/01/1), of no accepted product line",
            "  unconfirmed  ",
            "  compared     2026-11-30",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("LAXER") && !text.contains("stricter"));
    }

    #[test]
    fn what_a_manifest_changes_is_said_loudly() {
        let mut rules = AttestationRules::strict(Trust::Amd);
        rules.floors = vec![Floor { mitigations: Some(0x10), ..Floor::of(GENOA) }];
        let tcb = TcbVersion { fmc: None, bootloader: 12, tee: 0, snp: 0, microcode: 0 };
        let unlisted = Cpuid { family: 0x19, model: 0x12, stepping: 3 };
        rules.relax.floors = vec![
            Floor { tcb: Some(tcb), platform: Some(4), ..Floor::of(GENOA) },
            Floor { mitigations: Some(1), ..Floor::of(unlisted) },
        ];
        let text = floors(&rules);
        for expected in [
            "  TCB          12/0/0/0  (LAXER than built in)\n",
            "  mitigations  bits 0, 1, 2, 4  (stricter than built in)\n",
            "  platform     bit 2  (stricter than built in)\n",
            "not built in (19/12/3)\n  refused: the manifest gives it no TCB to reach\n",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
