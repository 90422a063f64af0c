//! What a confidential VM is about to be started from, held against what its peers will want to see: before it exists, since
//! afterwards it says nothing.

use super::VmError;
use crate::image::files;
use crate::measure::command::Row;
use crate::measure::id_block::{IdBlock, key_digests};
use crate::measure::policy::launch_policy;
use crate::measure::{CpuModel, Firmware, GuestFeatures, KernelHashes, Launch};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_attestation::GuestPolicy;
use postern_image::VCPUS;
use postern_shared::ids::Measurement;
use postern_shared::manifest::Manifest;
use postern_shared::policy::KeyDigest;
use std::path::Path;

/// `SEV_FEATURES`: SNPActive, and nothing else.
const GUEST_FEATURES: GuestFeatures = GuestFeatures(1);

/// Why peers would refuse the VM, however well it starts.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Its launch digest may not take part.
    #[error("launch digest {digest} with {cpu} is none of those that may take part in epoch {epoch}")]
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
    /// It was signed for another launch.
    #[error(
        "the ID block is for guest policy {found}; the manifest wants {expected} (`postern image build --manifest`)"
    )]
    Policy {
        /// The block's.
        found: GuestPolicy,
        /// What follows from the manifest.
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
    /// `id-block` and `id-auth`, base64.
    pub(super) id_block: Option<(String, String)>,
}

/// The terms that the manifest wants, and what peers would still object to.
pub(super) fn examine(
    folder: &Path,
    cpu: CpuModel,
    command_line: &str,
    manifest: &Manifest,
) -> Result<(Terms, Vec<Objection>), VmError> {
    let digest = measure(folder, cpu, command_line)?;
    let measured: Vec<Row> = serde_json::from_slice(&read(&folder.join(files::MEASUREMENTS))?)
        .map_err(|source| VmError::Measurements { path: folder.join(files::MEASUREMENTS), source })?;
    let text = hex::encode(digest.0);
    if !measured.iter().any(|row| row.digest == text) {
        return Err(VmError::OtherThanMeasured { digest, cpu });
    }
    let rules = &manifest.attestation;
    let policy = launch_policy(&rules.guest_policy);
    let mut objections = Vec::new();
    if !rules.measurements_at(manifest.epoch).any(|listed| listed.digest == digest) {
        objections.push(Objection::NotListed { digest, cpu, epoch: manifest.epoch });
    }
    let block = find_block(folder, digest)?;
    match &block {
        None if rules.id_keys.is_empty() => {}
        None => objections.push(Objection::Unsigned),
        Some(_) if rules.id_keys.is_empty() => objections.push(Objection::Signed),
        Some(signed) => {
            let (block, (id, author)) = (signed.block, signed.keys);
            if block.policy() != policy {
                objections.push(Objection::Policy { found: block.policy(), expected: policy });
            }
            if block.guest_svn() < rules.guest_svn {
                objections.push(Objection::Svn { found: block.guest_svn(), least: rules.guest_svn });
            }
            if !rules.id_keys.contains(&id) {
                objections.push(Objection::Key { which: "id", found: id });
            }
            let may_sign = if rules.author_keys.is_empty() {
                author == NONE
            } else {
                rules.author_keys.contains(&author)
            };
            if !may_sign {
                objections.push(Objection::Key { which: "author", found: author });
            }
        }
    }
    Ok((Terms { policy, id_block: block.map(|signed| signed.text) }, objections))
}

/// No author.
const NONE: KeyDigest = KeyDigest([0; 48]);

/// The launch digest of what is in the folder, as it is now.
fn measure(folder: &Path, cpu: CpuModel, command_line: &str) -> Result<Measurement, VmError> {
    let file = |name: &str| read(&folder.join(name));
    let firmware = Firmware::parse(file(files::FIRMWARE)?)?;
    let hashes = KernelHashes::new(&file(files::KERNEL)?, &file(files::IMAGE)?, command_line)?;
    Ok(Launch::new(&firmware, Some(&hashes))?.digest(VCPUS, cpu, GUEST_FEATURES)?)
}

/// An ID block, and who signed it.
struct Signed {
    text: (String, String),
    block: IdBlock,
    keys: (KeyDigest, KeyDigest),
}

/// The image's ID block for this digest, whatever CPU model its file is named after: several models have one digest. If there
/// are only others, the secure processor would refuse the launch with any of them, and peers without.
fn find_block(folder: &Path, digest: Measurement) -> Result<Option<Signed>, VmError> {
    let failed = |source| VmError::File { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(files::ID_BLOCK)).map(str::to_owned));
    }
    names.sort();
    for name in &names {
        let path = folder.join(format!("{name}{}", files::ID_BLOCK));
        let (text, bytes) = base64(&path)?;
        let wrong = |source| VmError::IdBlock { path: path.clone(), source };
        let block = IdBlock::parse(&bytes).map_err(wrong)?;
        if block.launch_digest() == digest {
            let (auth, bytes) = base64(&folder.join(format!("{name}{}", files::ID_AUTH)))?;
            let (id, author) = key_digests(&bytes).map_err(wrong)?;
            let keys = (KeyDigest(id.0), KeyDigest(author.0));
            return Ok(Some(Signed { text: (text, auth), block, keys }));
        }
    }
    if names.is_empty() { Ok(None) } else { Err(VmError::NoFittingBlock { digest }) }
}

fn base64(path: &Path) -> Result<(String, Vec<u8>), VmError> {
    let text = String::from_utf8_lossy(&read(path)?).trim().to_owned();
    let bytes = STANDARD.decode(&text).map_err(|_| VmError::Base64 { path: path.to_owned() })?;
    Ok((text, bytes))
}

fn read(path: &Path) -> Result<Vec<u8>, VmError> {
    std::fs::read(path).map_err(|source| VmError::File { path: path.to_owned(), source })
}
