//! A report for people: field, value, meaning, verdict.

use super::Judgement;
use postern_attestation::{Appraisal, GuestPolicy, Hex, UnverifiedReport};
use postern_shared::check::Check;
use postern_shared::snp::{Cpuid, Product, RawTcb};
use std::fmt::Write;

/// Values that are longer get a line of their own.
const VALUE_WIDTH: usize = 26;

/// Writes a report's fields, then what was found about it.
pub fn show(judgement: &Judgement) -> String {
    let appraisal = &judgement.appraisal;
    let mut text = String::new();
    if appraisal.simulated {
        text.push_str("SIMULATED: judged by a simulated root. Nothing is protected.\n\n");
    }
    if let Some(report) = &appraisal.report {
        for row in rows(report, appraisal.product) {
            write_row(&mut text, &row, judgement);
        }
        text.push('\n');
    }
    for finding in &appraisal.findings {
        let mark = if finding.ok { "ok     " } else { "REFUSED" };
        let _ = writeln!(text, "{mark} {:<19} {}", finding.check.name(), finding.found);
        if !finding.ok {
            let _ = writeln!(text, "        expected            {}", finding.expected);
        }
    }
    let failures = appraisal.findings.iter().filter(|finding| !finding.ok).count();
    let verdict = match (failures, judgement.complete) {
        (0, true) => "accepted: every check holds".to_owned(),
        (0, false) => "not verified: there are no certificates (--certs) to say who signed it".to_owned(),
        (1, _) => "REFUSED: one check fails".to_owned(),
        (failures, _) => format!("REFUSED: {failures} checks fail"),
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

/// A field, and the check that is about it.
struct Row {
    field: &'static str,
    value: String,
    meaning: String,
    check: Option<Check>,
}

fn write_row(text: &mut String, row: &Row, judgement: &Judgement) {
    let Row { field, value, meaning, check } = row;
    let Appraisal { findings, shortfalls, .. } = &judgement.appraisal;
    let low: Vec<String> = shortfalls
        .iter()
        .filter(|low| low.field == *field)
        .map(|low| format!("{}, {} wanted", low.found, low.least))
        .collect();
    let finding = check.and_then(|check| findings.iter().find(|finding| finding.check == check));
    let verdict = match finding {
        _ if !low.is_empty() => "REFUSED",
        Some(finding) if finding.ok => "ok",
        // Another field is what fails the check.
        Some(finding) if shortfalls.iter().any(|low| low.check == finding.check) => "ok",
        Some(_) => "REFUSED",
        None => "",
    };
    let low = if low.is_empty() { String::new() } else { format!("; TOO LOW: {}", low.join(", ")) };
    let meaning = format!("{meaning}{low}");
    let line = if value.len() <= VALUE_WIDTH {
        format!("{field:<19} {value:<VALUE_WIDTH$} {verdict:<8}{meaning}")
    } else {
        format!("{field:<19} {:<VALUE_WIDTH$} {verdict:<8}{meaning}\n    {value}", "")
    };
    let _ = writeln!(text, "{}", line.trim_end());
}

fn rows(report: &UnverifiedReport, product: Option<Product>) -> Vec<Row> {
    let row = |field, value: String, meaning: &str, check: Option<Check>| Row {
        field,
        value,
        meaning: meaning.to_owned(),
        check,
    };
    let tcb = |raw: RawTcb| match product.and_then(|product| raw.decode(product)) {
        Some(tcb) => tcb.to_string(),
        None => raw.to_string(),
    };
    let parts = match product {
        Some(Product::Turin) => "FMC/bootloader/TEE/SNP/microcode",
        Some(Product::Milan | Product::Genoa) => "bootloader/TEE/SNP/microcode",
        None => "in a layout that is not known here",
    };
    let hex = |bytes: &[u8]| postern_shared::bytes::to_hex(bytes);
    let vector = |bits: Option<u64>| bits.map_or("none".to_owned(), |bits| format!("{bits:#x}"));
    let silicon = report.cpuid.map_or("not in this version".to_owned(), |cpuid| cpuid.to_string());
    let unsupported = report.cpuid.and_then(Cpuid::unsupported_line);
    let named = match (product, unsupported) {
        (Some(product), _) => product.to_string(),
        (None, Some(line)) => format!("{line}, which is not supported"),
        (None, None) => "unknown product line".to_owned(),
    };
    vec![
        row("version", report.version.to_string(), "of the report's layout", Some(Check::ReportFormat)),
        row(
            "measurement",
            hex(&report.measurement.0),
            "the code that the guest was started with",
            Some(Check::Measurement),
        ),
        row(
            "host_data",
            hex(&report.host_data),
            "given by the host at launch: the manifest's hash",
            Some(Check::HostData),
        ),
        row(
            "report_data",
            hex(&report.report_data),
            "said by the guest: hash of identities, manifest, nonces",
            Some(Check::ReportData),
        ),
        row("chip_id", hex(&report.chip_id), "which processor", Some(Check::ChipId)),
        row("cpuid", silicon, &format!("family/model/stepping: {named}"), Some(Check::Product)),
        row("vmpl", report.vmpl.to_string(), "privilege of who asked: 0 is the highest", Some(Check::Vmpl)),
        row("policy", report.policy.to_string(), &policy(report.policy), Some(Check::GuestPolicy)),
        row(
            "platform_info",
            format!("{:#x}", report.platform_info),
            &platform(report.platform_info),
            Some(Check::PlatformInfo),
        ),
        row(
            "reported_tcb",
            tcb(report.reported_tcb),
            &format!("{parts}, of which the key was derived"),
            Some(Check::LeafTcb),
        ),
        row("current_tcb", tcb(report.current_tcb), "in use", Some(Check::TcbOrder)),
        row(
            "committed_tcb",
            tcb(report.committed_tcb),
            "the host can't go below",
            Some(Check::FirmwareCommitted),
        ),
        row("launch_tcb", tcb(report.launch_tcb), "when the guest was started", Some(Check::TcbFloor)),
        row("current_firmware", report.current_firmware.to_string(), "in use", Some(Check::FirmwareVersion)),
        row(
            "committed_firmware",
            report.committed_firmware.to_string(),
            "the host can't go below",
            Some(Check::FirmwareCommitted),
        ),
        row(
            "launch_mitigations",
            vector(report.launch_mitigations),
            "at launch, as bits",
            Some(Check::Mitigations),
        ),
        row(
            "current_mitigations",
            vector(report.current_mitigations),
            "now, as bits",
            Some(Check::Mitigations),
        ),
        row(
            "signing_key",
            report.key_flags.signing_key().to_string(),
            "which kind of key signed",
            Some(Check::SigningKey),
        ),
        row(
            "guest_svn",
            report.guest_svn.to_string(),
            "security version, from the ID block",
            Some(Check::GuestSvn),
        ),
        row("family_id", hex(&report.family_id), "from the ID block", None),
        row("image_id", hex(&report.image_id), "from the ID block", None),
        row("id_key_digest", hex(&report.id_key_digest), "who signed the ID block", Some(Check::IdBlock)),
        row(
            "author_key_digest",
            hex(&report.author_key_digest),
            "who certified that key",
            Some(Check::IdBlock),
        ),
        row("report_id", Hex(report.report_id).to_string(), "this guest, until it is started again", None),
        row(
            "report_id_ma",
            Hex(report.report_id_ma).to_string(),
            "its migration agent; all ones is none",
            Some(Check::MigrationAgent),
        ),
    ]
}

fn policy(policy: GuestPolicy) -> String {
    let bit = |mask: u64| policy.0 & mask != 0;
    let (major, minor) = policy.abi();
    let mut said = vec![format!("ABI {major}.{minor} or later")];
    let names = [
        (1 << 16, "SMT allowed"),
        (GuestPolicy::MIGRATE_MA, "MIGRATION ALLOWED"),
        (GuestPolicy::DEBUG, "DEBUGGING ALLOWED"),
        (1 << 20, "single socket"),
        (GuestPolicy::CXL, "CXL ALLOWED"),
        (1 << 22, "AES-256-XTS required"),
        (1 << 23, "RAPL must be off"),
        (1 << 24, "ciphertext hiding required"),
        (1 << 25, "page swapping disabled"),
    ];
    said.extend(names.into_iter().filter(|(mask, _)| bit(*mask)).map(|(_, name)| name.to_owned()));
    said.join(", ")
}

fn platform(info: u64) -> String {
    let names = [
        "SMT on",
        "TSME on",
        "ECC",
        "RAPL off",
        "ciphertext hiding",
        "memory alias check done",
        "IOMMU write safe",
        "trusted I/O",
    ];
    let set = |bit: usize| info.checked_shr(bit as u32).is_some_and(|shifted| shifted & 1 == 1);
    let said: Vec<&str> =
        names.into_iter().enumerate().filter(|(bit, _)| set(*bit)).map(|(_, name)| name).collect();
    said.join(", ")
}
