//! What an epoch changes in the rules of attestation. They may become laxer too, but never without a line that says so.

use super::change::{Begin, Quoted};
use super::{Change, EpochError};
use crate::policy::{
    AttestationRules, Floor, GuestPolicyRules, KeyDigest, PlatformRules, Relaxations, Revocation, Rule,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

pub(super) fn compare(
    old: &AttestationRules,
    new: &AttestationRules,
    found: &mut Vec<Change>,
) -> Result<(), EpochError> {
    // Trust never changes, and measurements have their own changes.
    let AttestationRules {
        trust: _,
        measurements: _,
        products,
        floors,
        guest_policy,
        platform,
        guest_svn,
        id_keys,
        author_keys,
        revocation,
        not_before,
        relax,
    } = new;
    // By their meaning these only grow.
    if *guest_svn < old.guest_svn {
        return Err(EpochError::Downgrade(format!("guest_svn {guest_svn} is below {}", old.guest_svn)));
    }
    if *not_before < old.not_before {
        return Err(EpochError::Downgrade(format!("not_before {not_before} is before {}", old.not_before)));
    }
    let mut rule = |field: &str, differs: bool, to: String| {
        if differs {
            found.push(Change::Rule { field: field.into(), to });
        }
    };
    rule("products", *products != old.products, list(products.iter().map(ToString::to_string)));
    rule("guest_svn", *guest_svn != old.guest_svn, guest_svn.to_string());
    rule("id_keys", *id_keys != old.id_keys, keys(id_keys));
    rule("author_keys", *author_keys != old.author_keys, keys(author_keys));
    let revocation_text = match revocation {
        Revocation::WhenSupplied => "when supplied",
        Revocation::Required => "required",
    };
    rule("revocation", *revocation != old.revocation, revocation_text.into());
    rule("not_before", *not_before != old.not_before, not_before.to_string());
    compare_guest_policy(&old.guest_policy, guest_policy, &mut rule);
    compare_platform(&old.platform, platform, &mut rule);
    compare_floors("floors", &old.floors, floors, "", &mut rule);
    compare_relaxations(&old.relax, relax, &mut rule);
    Ok(())
}

fn compare_guest_policy(
    old: &GuestPolicyRules,
    new: &GuestPolicyRules,
    rule: &mut impl FnMut(&str, bool, String),
) {
    let GuestPolicyRules {
        smt,
        single_socket,
        mem_aes_256_xts,
        rapl_dis,
        ciphertext_hiding,
        page_swap_disable,
        abi,
    } = new;
    let bits = [
        ("smt", old.smt, smt),
        ("single_socket", old.single_socket, single_socket),
        ("mem_aes_256_xts", old.mem_aes_256_xts, mem_aes_256_xts),
        ("rapl_dis", old.rapl_dis, rapl_dis),
        ("ciphertext_hiding", old.ciphertext_hiding, ciphertext_hiding),
        ("page_swap_disable", old.page_swap_disable, page_swap_disable),
    ];
    for (name, before, after) in bits {
        rule(&format!("guest_policy.{name}"), before != *after, bit(*after).into());
    }
    rule("guest_policy.abi", old.abi != *abi, format!("{}.{}", abi.0, abi.1));
}

fn compare_platform(old: &PlatformRules, new: &PlatformRules, rule: &mut impl FnMut(&str, bool, String)) {
    let PlatformRules { smt, tsme, ecc, rapl_disabled, ciphertext_hiding, iommu_write_safe, tio } = new;
    let bits = [
        ("smt", old.smt, smt),
        ("tsme", old.tsme, tsme),
        ("ecc", old.ecc, ecc),
        ("rapl_disabled", old.rapl_disabled, rapl_disabled),
        ("ciphertext_hiding", old.ciphertext_hiding, ciphertext_hiding),
        ("iommu_write_safe", old.iommu_write_safe, iommu_write_safe),
        ("tio", old.tio, tio),
    ];
    for (name, before, after) in bits {
        rule(&format!("platform.{name}"), before != *after, bit(*after).into());
    }
}

fn compare_relaxations(old: &Relaxations, new: &Relaxations, rule: &mut impl FnMut(&str, bool, String)) {
    let Relaxations {
        masked_chip_id,
        vlek_providers,
        provisional_firmware,
        missing_alias_check,
        unknown_platform_bits,
        floors,
    } = new;
    let switches = [
        ("masked_chip_id", old.masked_chip_id, masked_chip_id),
        ("provisional_firmware", old.provisional_firmware, provisional_firmware),
        ("missing_alias_check", old.missing_alias_check, missing_alias_check),
    ];
    for (name, before, after) in switches {
        let to = if *after { "on (LAXER)" } else { "off" };
        rule(&format!("relax.{name}"), before != *after, to.into());
    }
    let providers = list(vlek_providers.iter().map(|provider| Quoted(provider).to_string()));
    rule("relax.vlek_providers", *vlek_providers != old.vlek_providers, providers);
    let bits = format!("{unknown_platform_bits:#x}");
    rule("relax.unknown_platform_bits", *unknown_platform_bits != old.unknown_platform_bits, bits);
    compare_floors("relax.floors", &old.floors, floors, " (LAXER)", rule);
}

/// One line for each kind of silicon. No two floors of a list are for the same, and their order means nothing.
fn compare_floors(
    name: &str,
    old: &[Floor],
    new: &[Floor],
    remark: &str,
    rule: &mut impl FnMut(&str, bool, String),
) {
    for after in new {
        let Floor { silicon, tcb, firmware, mitigations, platform } = after;
        let parts = [
            tcb.map(|tcb| tcb.to_string()),
            firmware.map(|version| format!("firmware {version}")),
            mitigations.map(|bits| format!("mitigations {bits:#x}")),
            platform.map(|bits| format!("platform {bits:#x}")),
        ];
        let to = list(parts.into_iter().flatten());
        rule(&format!("{name} {silicon}"), !old.contains(after), format!("{to}{remark}"));
    }
    for before in old {
        let gone = !new.iter().any(|after| after.silicon == before.silicon);
        rule(&format!("{name} {}", before.silicon), gone, "none".into());
    }
}

fn bit(rule: Rule) -> &'static str {
    match rule {
        Rule::Any => "any",
        Rule::Required => "required",
        Rule::Forbidden => "forbidden",
    }
}

fn keys(keys: &[KeyDigest]) -> String {
    list(keys.iter().map(|key| Begin(&key.0).to_string()))
}

fn list(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "none".into() } else { parts.join(", ") }
}
