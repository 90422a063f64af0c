//! `attestation/POLICY.md` explains every field of the rules, and no other.

use postern_shared::ids::{Digest, Measurement};
use postern_shared::policy::{AllowedMeasurement, AttestationRules, Floor, KeyDigest, Trust};
use postern_shared::snp::{Cpuid, FirmwareVersion, TcbVersion};
use serde_json::Value;
use std::collections::BTreeSet;

/// Rules in which every list has an entry and every option a value.
fn full() -> AttestationRules {
    let mut rules = AttestationRules::strict(Trust::Simulation { root: Digest([1; 32]) });
    rules.measurements = vec![AllowedMeasurement {
        until_epoch: Some(9),
        ..AllowedMeasurement::new("x", Measurement([1; 48]))
    }];
    let floor = Floor {
        silicon: Cpuid { family: 0x19, model: 0x11, stepping: 1 },
        tcb: Some(TcbVersion { fmc: None, bootloader: 0, tee: 0, snp: 0, microcode: 0 }),
        firmware: Some(FirmwareVersion { major: 1, minor: 55, build: 0 }),
        mitigations: Some(1),
        platform: Some(1),
    };
    rules.floors = vec![floor];
    rules.id_keys = vec![KeyDigest([1; 48])];
    rules.author_keys = vec![KeyDigest([2; 48])];
    rules
}

/// The fields as the document writes them, down to what is explained in one line.
fn fields(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    let whole = ["trust", "floors[].silicon", "floors[].tcb", "floors[].firmware", "relax.floors"];
    match value {
        Value::Object(entries) if !whole.contains(&path) => {
            for (name, value) in entries {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                fields(value, &path, into);
            }
        }
        Value::Array(entries) if entries.iter().any(Value::is_object) && !whole.contains(&path) => {
            into.insert(path.to_owned());
            entries.iter().for_each(|entry| fields(entry, &format!("{path}[]"), into));
        }
        _ => drop(into.insert(path.to_owned())),
    }
}

#[test]
fn every_field_has_its_line() {
    let mut expected = BTreeSet::new();
    fields(&serde_json::to_value(full()).expect("JSON"), "", &mut expected);
    let document = include_str!("../../../attestation/POLICY.md");
    let explained: BTreeSet<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(field, _)| field.to_owned())
        .collect();
    assert_eq!(explained, expected);
}

#[test]
fn defaults_need_not_be_written() {
    let text = "trust = \"amd\"\nmeasurements = [{ name = \"x\", digest = \"0x".to_owned()
        + &"11".repeat(48)
        + "\" }]";
    let manifest = postern_tests::cluster::manifest(3, 2, 2).to_toml().expect("TOML");
    let (head, _) = manifest.split_once("[attestation]").expect("a section");
    let members = &manifest[manifest.find("[[members]]").expect("members")..];
    let read =
        postern_shared::manifest::Manifest::from_toml(&format!("{head}[attestation]\n{text}\n{members}"));
    let mut strict = AttestationRules::strict(Trust::Amd);
    strict.measurements = vec![AllowedMeasurement::new("x", Measurement([0x11; 48]))];
    assert_eq!(read.expect("a manifest").attestation, strict);
}

#[test]
fn a_manifest_survives_its_text() {
    let mut manifest = postern_tests::cluster::manifest(3, 2, 2);
    manifest.attestation = full();
    let text = manifest.to_toml().expect("TOML");
    assert_eq!(postern_shared::manifest::Manifest::from_toml(&text), Ok(manifest));
}
