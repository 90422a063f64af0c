//! What a confidential VM is about to be started from, held against what its peers will want to see: before it exists, since
//! afterwards it says nothing.

use super::VmError;
use super::qemu::IdBlockFiles;
use crate::image::{GUEST_FEATURES, files};
use crate::measure::command::Row;
use crate::measure::id_block::{IdBlock, key_digests};
use crate::measure::policy::{launch_policy, satisfies};
use crate::measure::{CpuModel, Firmware, GuestFeatures, KernelHashes, Launch};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_attestation::GuestPolicy;
use postern_image::VCPUS;
use postern_shared::ids::Measurement;
use postern_shared::manifest::Manifest;
use postern_shared::policy::{GuestPolicyRules, KeyDigest};
use std::path::Path;

/// Why peers would refuse the VM, however well it starts.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Its launch digest may not take part.
    #[error(
        "launch digest {digest} with {cpu} is none of those that may take part in epoch {epoch}, the newest in the data directory \
         (a new one wants the others' `epochs`)"
    )]
    NotListed {
        /// Of what would run.
        digest: Measurement,
        /// The CPU model.
        cpu: CpuModel,
        /// Of the manifest.
        epoch: u64,
    },
    /// The DAO wants its publisher's signature.
    #[error("the manifest lists id_keys, and the image has no ID block")]
    Unsigned,
    /// The DAO wants none.
    #[error("the image has ID blocks, and the manifest lists no id_keys")]
    Signed,
    /// The policy is not what the manifest's rules want, or not what was asked for.
    #[error("guest policy {found} (of the ID block, if there is one), where {expected} is wanted")]
    Policy {
        /// What it would be launched with.
        found: GuestPolicy,
        /// What was asked for, or follows from the manifest.
        expected: GuestPolicy,
    },
    /// The DAO does not know who signed.
    #[error("the ID block's {which} key {found} is none of the manifest's")]
    Key {
        /// Which key.
        which: &'static str,
        /// SHA-384 of it.
        found: KeyDigest,
    },
    /// The DAO wants a newer image.
    #[error("the ID block says security version {found}, the manifest wants {least} at least")]
    Svn {
        /// The block's.
        found: u32,
        /// The manifest's.
        least: u32,
    },
}

/// How a VM is to be launched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) policy: GuestPolicy,
    pub(super) id_block: Option<IdBlockFiles>,
}

/// The terms that the manifest wants, and what peers would still object to.
pub(super) fn examine(
    folder: &Path,
    cpu: CpuModel,
    command_line: &str,
    (genesis, manifest): (&Manifest, &Manifest),
    asked: Option<GuestPolicy>,
) -> Result<(Terms, Vec<Objection>), VmError> {
    let digest = measure(folder, cpu, command_line)?;
    let measured: Vec<Row> = serde_json::from_slice(&read(&folder.join(files::MEASUREMENTS))?)
        .map_err(|source| VmError::Measurements { path: folder.join(files::MEASUREMENTS), source })?;
    let text = hex::encode(digest.0);
    if !measured.iter().any(|row| row.digest == text) {
        return Err(VmError::OtherThanMeasured { digest, cpu });
    }
    let rules = &manifest.attestation;
    let mut objections = Vec::new();
    if !rules.measurements_at(manifest.epoch).any(|listed| listed.digest == digest) {
        objections.push(Objection::NotListed { digest, cpu, epoch: manifest.epoch });
    }
    let block = find_block(folder, digest, &rules.guest_policy)?;
    match &block {
        None if rules.id_keys.is_empty() => {}
        None => objections.push(Objection::Unsigned),
        Some(_) if rules.id_keys.is_empty() => objections.push(Objection::Signed),
        Some(Signed { block, keys: (id, author), .. }) => {
            if block.guest_svn() < rules.guest_svn {
                objections.push(Objection::Svn { found: block.guest_svn(), least: rules.guest_svn });
            }
            if !rules.id_keys.contains(id) {
                objections.push(Objection::Key { which: "id", found: *id });
            }
            let may_sign = match author {
                Some(author) => rules.author_keys.contains(author),
                None => rules.author_keys.is_empty(),
            };
            if !may_sign {
                objections
                    .push(Objection::Key { which: "author", found: author.unwrap_or(KeyDigest([0; 48])) });
            }
        }
    }
    // The secure processor takes no other policy than the block's.
    let policy = match (&block, asked) {
        (Some(signed), _) => signed.block.policy(),
        (None, Some(asked)) => asked,
        (None, None) => by_default(genesis, manifest),
    };
    let wanted = launch_policy(&rules.guest_policy);
    let expected = if satisfies(policy, &rules.guest_policy) { asked.unwrap_or(policy) } else { wanted };
    if policy != expected {
        objections.push(Objection::Policy { found: policy, expected });
    }
    let id_block = block.map(|signed| IdBlockFiles {
        block: signed.text.0,
        auth: signed.text.1,
        has_author: signed.keys.1.is_some(),
    });
    Ok((Terms { policy, id_block }, objections))
}

/// The policy of the first manifest as long as it is accepted. The key to the enclave's log is sealed to the policy that it was
/// launched with, so an epoch that allows more must not change it.
fn by_default(genesis: &Manifest, newest: &Manifest) -> GuestPolicy {
    let first = launch_policy(&genesis.attestation.guest_policy);
    let rules = &newest.attestation.guest_policy;
    if satisfies(first, rules) { first } else { launch_policy(rules) }
}

/// The launch digest of what is in the folder, as it is now.
fn measure(folder: &Path, cpu: CpuModel, command_line: &str) -> Result<Measurement, VmError> {
    let file = |name: &str| read(&folder.join(name));
    let firmware = Firmware::parse(file(files::FIRMWARE)?)?;
    let hashes = KernelHashes::new(&file(files::KERNEL)?, &file(files::IMAGE)?, command_line)?;
    Ok(Launch::new(&firmware, Some(&hashes))?.digest(VCPUS, cpu, GuestFeatures(GUEST_FEATURES))?)
}

/// An ID block, and who signed it.
struct Signed {
    text: (String, String),
    block: IdBlock,
    /// Id key, and author if there is one.
    keys: (KeyDigest, Option<KeyDigest>),
}

/// The image's ID block for this digest, whatever CPU model its file is named after: several models have one digest. If there
/// are only others, the secure processor would refuse the launch with any of them, and peers without. Of several, one with a
/// policy that the rules accept.
fn find_block(
    folder: &Path,
    digest: Measurement,
    rules: &GuestPolicyRules,
) -> Result<Option<Signed>, VmError> {
    let failed = |source| VmError::File { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(files::ID_BLOCK)).map(str::to_owned));
    }
    names.sort();
    let mut found: Option<Signed> = None;
    for name in &names {
        let path = folder.join(format!("{name}{}", files::ID_BLOCK));
        let (text, bytes) = base64(&path)?;
        let wrong = |source| VmError::IdBlock { path: path.clone(), source };
        let block = IdBlock::parse(&bytes).map_err(wrong)?;
        let better = found.as_ref().is_none_or(|found| !satisfies(found.block.policy(), rules));
        if block.launch_digest() == digest && better {
            let (auth, bytes) = base64(&folder.join(format!("{name}{}", files::ID_AUTH)))?;
            let (id, author) = key_digests(&bytes).map_err(wrong)?;
            let keys = (KeyDigest(id.0), author.map(|author| KeyDigest(author.0)));
            found = Some(Signed { text: (text, auth), block, keys });
        }
    }
    if found.is_none() && !names.is_empty() {
        return Err(VmError::NoFittingBlock { digest });
    }
    Ok(found)
}

fn base64(path: &Path) -> Result<(String, Vec<u8>), VmError> {
    let text = String::from_utf8_lossy(&read(path)?).trim().to_owned();
    let bytes = STANDARD.decode(&text).map_err(|_| VmError::Base64 { path: path.to_owned() })?;
    Ok((text, bytes))
}

fn read(path: &Path) -> Result<Vec<u8>, VmError> {
    std::fs::read(path).map_err(|source| VmError::File { path: path.to_owned(), source })
}
