//! `postern vm preflight`: what a manifest will say of this machine, on one screen, before there is a VM on it; and what to do
//! about each red line.
//!
//! What only a guest's report tells (mitigations, what the platform says of itself) is judged on a saved report, from whatever
//! guest of this machine it is.

use super::this_machine::{self, Platform};
use super::{RunArguments, VmError};
use crate::attest::evidence::Subject;
use crate::attest::{Question, judge};
use crate::clock::now;
use crate::config::{read_data_dir, read_manifest_of};
use crate::manifest::load_epochs;
use crate::measure::CpuModel;
use crate::measure::policy::launch_policy;
use crate::output::say;
use postern_attestation::{LATEST_VERSION, Requirements, Time, requirements};
use postern_shared::check::Check;
use postern_shared::manifest::Manifest;
use postern_shared::policy::{AttestationRules, Trust};
use postern_shared::snp::{Cpuid, Product};
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `postern vm preflight`.
#[derive(Debug, clap::Args)]
pub struct PreflightArguments {
    /// The host's configuration: the newest manifest's rules apply. Without it, the built-in ones.
    #[arg(long, requires = "image")]
    config: Option<PathBuf>,
    /// What `postern image build` made: whether peers would accept the VM.
    #[arg(long, value_name = "DIR", requires = "config")]
    image: Option<PathBuf>,
    /// CPU model of QEMU's.
    #[arg(long, value_name = "MODEL", default_value = "EPYC-v4")]
    cpu: CpuModel,
    /// A report of a guest of this machine, raw or in hexadecimal, to judge by the same rules.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Red,
    /// It can't be told from here.
    Unknown,
}

/// One line of the screen, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    mark: Mark,
    what: String,
    found: String,
    remedy: &'static str,
}

const FIRMWARE: &str =
    "install the board's newest BIOS; `postern attest floors` says which bulletins it must answer";
const BIOS: &str = "BIOS settings: enclave/image/DEPLOYING.md, 1";
const HOST: &str = "the host's kernel: enclave/image/DEPLOYING.md, 2";
const SILICON: &str = "this processor can't take part: another machine, or another manifest";
const GUEST: &str = "show a report of a guest here: --report";

impl PreflightArguments {
    /// Prints the screen; whether no line is red.
    pub(super) fn run(self) -> Result<bool, VmError> {
        let manifest = match &self.config {
            Some(config) => Some(load_epochs(&read_data_dir(config)?, &read_manifest_of(config)?)?.newest),
            None => None,
        };
        let rules = manifest.as_ref().map(|manifest| &manifest.attestation);
        let strict = AttestationRules::strict(Trust::Amd);
        let rules = rules.unwrap_or(&strict);
        let mut lines = of_platform(&Platform::read(), rules);
        let policy = launch_policy(&rules.guest_policy);
        lines.extend(all_of("devices and kernel", this_machine::missing(policy), HOST));
        let lacks = this_machine::qemu_lacks(&self.cpu.to_string(), true);
        lines.extend(all_of(
            "QEMU",
            lacks,
            "install QEMU 9.1 or later, or name another --cpu that the image lists",
        ));
        if let (Some(config), Some(image)) = (&self.config, &self.image) {
            let run = RunArguments::new(config.clone(), image.clone(), self.cpu);
            let refused = run.plan().err().map(|error| error.to_string());
            let remedy = "build the image again, or let an epoch list it";
            lines.extend(all_of("image", refused.into_iter().collect(), remedy));
        }
        match &self.report {
            Some(path) => lines.extend(of_report(&Subject::read_report(path)?, manifest.as_ref())?),
            None => lines.push(line(
                Mark::Unknown,
                "mitigations, platform, TCB",
                "of launch and committed: only a report tells".into(),
                GUEST,
            )),
        }
        say(format_args!("{}", screen(&lines)))?;
        Ok(lines.iter().all(|line| line.mark != Mark::Red))
    }
}

fn line(mark: Mark, what: impl Into<String>, found: String, remedy: &'static str) -> Line {
    Line { mark, what: what.into(), found, remedy }
}

/// A good line, or a red one for each thing that is wrong.
fn all_of(what: &str, wrong: Vec<String>, remedy: &'static str) -> Vec<Line> {
    if wrong.is_empty() {
        return vec![line(Mark::Good, what, "all that it takes".to_owned(), "")];
    }
    wrong.into_iter().map(|wrong| line(Mark::Red, what, wrong, remedy)).collect()
}

/// What the machine itself says of its silicon, firmware and microcode.
fn of_platform(platform: &Platform, rules: &AttestationRules) -> Vec<Line> {
    let Some(silicon) = platform.cpuid else {
        return vec![line(Mark::Red, "processor", "not AMD's".to_owned(), SILICON)];
    };
    let product = silicon.product().filter(|product| rules.products.contains(product));
    let required = requirements(rules, silicon);
    let mut lines = vec![of_silicon(silicon, product, required.as_ref())];
    let (Some(product), Some(required)) = (product, required) else { return lines };
    let microcode = platform.microcode.map(|level| [(level & 0xff) as u8, required.tcb.microcode]);
    lines.push(match microcode {
        Some([found, least]) => {
            let mark = if found >= least { Mark::Good } else { Mark::Red };
            line(mark, "microcode", format!("{found:#x}, at least {least:#x} wanted"), FIRMWARE)
        }
        None => line(Mark::Unknown, "microcode", "/proc/cpuinfo does not say it".to_owned(), GUEST),
    });
    match &platform.firmware {
        Ok((version, tcb)) => {
            let least = required.firmware.map_or("any".to_owned(), |least| least.to_string());
            let mark =
                if required.firmware.is_none_or(|least| *version >= least) { Mark::Good } else { Mark::Red };
            lines.push(line(mark, "SNP firmware", format!("{version}, at least {least} wanted"), FIRMWARE));
            let mark = if tcb.reaches(&required.tcb) { Mark::Good } else { Mark::Red };
            let found = format!("{tcb} reported, at least {} on {product}", required.tcb);
            lines.push(line(mark, "TCB", found, FIRMWARE));
        }
        Err(error) => lines.push(line(Mark::Unknown, "TCB", error.clone(), HOST)),
    }
    lines
}

fn of_silicon(silicon: Cpuid, product: Option<Product>, required: Option<&Requirements>) -> Line {
    let (mark, found) = match (product, required) {
        (Some(product), Some(_)) => (Mark::Good, format!("{product} ({silicon})")),
        (Some(product), None) => {
            (Mark::Red, format!("{product} ({silicon}) has no floor that it could reach"))
        }
        (None, _) => match (silicon.product(), silicon.unsupported_line()) {
            (Some(product), _) => {
                (Mark::Red, format!("{product} ({silicon}), which the rules do not accept"))
            }
            (None, Some(line)) => (Mark::Red, format!("{line} ({silicon}), which is not supported")),
            (None, None) => (Mark::Red, format!("{silicon} is of no product line that has SEV-SNP")),
        },
    };
    line(mark, "processor", found, SILICON)
}

/// What peers will refuse of a guest like the one that has this report. Only what is the machine's: the guest was another.
fn of_report(report: &Subject, manifest: Option<&Manifest>) -> Result<Vec<Line>, VmError> {
    let judgement = judge(report, &Question { manifest, nonce: None, time: Time::At(now()) })?;
    let mut lines = Vec::new();
    if let Some(report) = &judgement.appraisal.report {
        let mark = if report.version <= LATEST_VERSION { Mark::Good } else { Mark::Red };
        let found = format!("version {}, up to {LATEST_VERSION} known", report.version);
        lines.push(line(
            mark,
            "report",
            found,
            "update Postern before firmware, everywhere: peers refuse what they don't know",
        ));
    }
    for finding in judgement.appraisal.findings {
        let Some(remedy) = remedy(finding.check) else { continue };
        let mark = if finding.ok { Mark::Good } else { Mark::Red };
        let found = if finding.ok {
            finding.found
        } else {
            format!("{}; {} wanted", finding.found, finding.expected)
        };
        lines.push(line(mark, format!("report: {}", finding.check.name()), found, remedy));
    }
    Ok(lines)
}

/// What to do about what a report says of the machine.
fn remedy(check: Check) -> Option<&'static str> {
    match check {
        Check::TcbFloor | Check::FirmwareVersion | Check::Mitigations => Some(FIRMWARE),
        Check::PlatformInfo => Some(BIOS),
        Check::FirmwareCommitted => Some("commit the firmware (`snphost commit`), once it is known to run"),
        Check::ChipId => Some("let an epoch list this chip for the member"),
        _ => None,
    }
}

fn screen(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { mark, what, found, remedy } in lines {
        let mark = match mark {
            Mark::Good => "ok ",
            Mark::Red => "RED",
            Mark::Unknown => "?  ",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{mark} {what:<26} {found}");
        if mark != "ok " {
            let _ = writeln!(text, "    {:<26} -> {remedy}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::snp::{FirmwareVersion, TcbVersion};
    use std::path::Path;

    const GENOA: Cpuid = Cpuid { family: 0x19, model: 0x11, stepping: 1 };

    fn rules() -> AttestationRules {
        AttestationRules::strict(Trust::Amd)
    }

    /// Just what the built-in table wants of Genoa.
    fn genoa() -> Platform {
        let required = requirements(&rules(), GENOA).unwrap();
        Platform {
            cpuid: Some(GENOA),
            microcode: Some(0x0a10_1100 | u32::from(required.tcb.microcode)),
            firmware: Ok((required.firmware.unwrap(), required.tcb)),
        }
    }

    fn marks(platform: &Platform) -> Vec<(Mark, String)> {
        of_platform(platform, &rules()).into_iter().map(|line| (line.mark, line.what)).collect()
    }

    /// What is not good.
    fn bad(platform: &Platform) -> Vec<(Mark, String)> {
        marks(platform).into_iter().filter(|(mark, _)| *mark != Mark::Good).collect()
    }

    #[test]
    fn a_machine_that_just_will_do_has_no_red_line() {
        assert_eq!(bad(&genoa()), []);
        let said = ["processor", "microcode", "SNP firmware", "TCB"].map(str::to_owned);
        assert_eq!(marks(&genoa()).into_iter().map(|(_, what)| what).collect::<Vec<_>>(), said);
    }

    #[test]
    fn everything_that_is_too_low_or_of_another_kind_is_red() {
        let red = |what: &str| vec![(Mark::Red, what.to_owned())];
        let with = |edit: fn(&mut Platform)| {
            let mut platform = genoa();
            edit(&mut platform);
            bad(&platform)
        };
        assert_eq!(with(|platform| platform.cpuid = None), red("processor"));
        // Milan, Venice, one that nobody knows.
        for (family, model) in [(0x19, 0x01), (0x1a, 0x50), (0x17, 0x31)] {
            let platform = Platform { cpuid: Some(Cpuid { family, model, stepping: 1 }), ..genoa() };
            assert_eq!(bad(&platform), red("processor"), "{family:#x}/{model:#x}");
        }
        assert_eq!(with(|platform| platform.microcode = Some(0x0a10_1101)), red("microcode"));
        let old = |platform: &mut Platform| {
            let (version, _) = platform.firmware.as_mut().unwrap();
            *version = FirmwareVersion { build: version.build - 1, ..*version };
        };
        assert_eq!(with(old), red("SNP firmware"));
        let low = |platform: &mut Platform| {
            let (_, tcb) = platform.firmware.as_mut().unwrap();
            *tcb = TcbVersion { snp: tcb.snp - 1, ..*tcb };
        };
        assert_eq!(with(low), red("TCB"));
    }

    #[test]
    fn what_can_not_be_told_is_neither_good_nor_red() {
        let platform = Platform { microcode: None, firmware: Err("/dev/sev: no".to_owned()), ..genoa() };
        let unknown = ["microcode", "TCB"].map(|what| (Mark::Unknown, what.to_owned()));
        assert_eq!(bad(&platform), unknown);
    }

    #[test]
    fn a_saved_report_is_judged_as_peers_would_judge_the_machine() {
        let report =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/snp/confai-siena-report.bin");
        let lines = of_report(&Subject::read_report(&report).unwrap(), None).unwrap();
        let red: Vec<&str> =
            lines.iter().filter(|line| line.mark == Mark::Red).map(|line| line.what.as_str()).collect();
        assert_eq!(red, ["report: mitigations"], "{}", screen(&lines));
        assert!(lines.iter().any(|line| line.what == "report" && line.found.starts_with("version ")));
        // The code that the guest ran, and whom it spoke to, is no matter of the machine's.
        assert!(!lines.iter().any(|line| line.what.contains("measurement")));
    }

    #[test]
    fn every_red_line_has_something_to_do() {
        let lines = all_of("QEMU", vec!["not there".to_owned(), "too old".to_owned()], "get one");
        let text = screen(&lines);
        assert_eq!(text.matches("RED QEMU").count(), 2);
        assert_eq!(text.matches("-> get one").count(), 2);
        let good = screen(&all_of("QEMU", vec![], "get one"));
        assert!(good.starts_with("ok  QEMU") && !good.contains("->"), "{good}");
    }
}
