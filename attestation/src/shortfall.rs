//! Which values of a report are too low for its silicon: each of them, by the field that it stands in.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use postern_shared::{check::Check, snp::Product};

use crate::{floors::Requirements, report::UnverifiedReport};

/// A value of a report that does not reach what its silicon must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// The check that it fails.
    pub check: Check,
    /// The report's field, by its usual name.
    pub field: &'static str,
    /// What of it is too low.
    pub found: String,
    /// What it should be at least.
    pub least: String,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, found, least, .. } = self;
        write!(f, "{field}: {found}, {least} wanted")
    }
}

/// All that is too low. A TCB that can't be read is no matter of numbers, and is left out.
pub(crate) fn shortfalls(
    report: &UnverifiedReport,
    product: Option<Product>,
    required: &Requirements,
) -> Vec<Shortfall> {
    let mut found = tcbs(report, product, required);
    found.extend(firmware(report, required));
    let vectors = [
        ("launch_mitigations", report.launch_mitigations),
        ("current_mitigations", report.current_mitigations),
    ];
    for (field, vector) in vectors {
        let check = Check::Mitigations;
        found.extend(missing(check, field, vector, required.mitigations));
    }
    found.extend(missing(
        Check::PlatformInfo,
        "platform_info",
        Some(report.platform_info),
        required.platform,
    ));
    found
}

fn tcbs(report: &UnverifiedReport, product: Option<Product>, required: &Requirements) -> Vec<Shortfall> {
    // What certificates, launch and all later launches stand on.
    let tcbs = [
        ("reported_tcb", report.reported_tcb),
        ("launch_tcb", report.launch_tcb),
        ("committed_tcb", report.committed_tcb),
    ];
    let number = |value: Option<u8>| value.map_or("none".to_string(), |value| value.to_string());
    tcbs.into_iter()
        .filter_map(|(field, raw)| Some((field, raw.decode(product?)?)))
        .flat_map(|(field, tcb)| {
            tcb.below(&required.tcb).map(move |(part, found, least)| Shortfall {
                check: Check::TcbFloor,
                field,
                found: format!("{part} {}", number(found)),
                least: number(least),
            })
        })
        .collect()
}

fn firmware(report: &UnverifiedReport, required: &Requirements) -> impl Iterator<Item = Shortfall> {
    let versions =
        [("current_firmware", report.current_firmware), ("committed_firmware", report.committed_firmware)];
    let least = required.firmware;
    versions.into_iter().filter_map(move |(field, version)| {
        let least = least.filter(|least| version < *least)?;
        let (found, least) = (version.to_string(), least.to_string());
        Some(Shortfall { check: Check::FirmwareVersion, field, found, least })
    })
}

/// Sets of bits, not numbers: a higher number may lack a bit. Without a vector all are missing.
fn missing(check: Check, field: &'static str, vector: Option<u64>, wanted: u64) -> Option<Shortfall> {
    let missing = wanted & !vector.unwrap_or(0);
    (missing != 0).then(|| Shortfall {
        check,
        field,
        found: vector.map_or("none".to_string(), |vector| format!("{vector:#x}")),
        least: BitNumbers(missing).to_string(),
    })
}

/// The numbers of the bits of a mask, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitNumbers(pub u64);

impl fmt::Display for BitNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = (0..u64::BITS)
            .filter(|bit| self.0.checked_shr(*bit).is_some_and(|rest| rest & 1 == 1))
            .map(|bit| bit.to_string())
            .collect();
        match numbers.as_slice() {
            [] => f.write_str("no bit"),
            [one] => write!(f, "bit {one}"),
            several => write!(f, "bits {}", several.join(", ")),
        }
    }
}
