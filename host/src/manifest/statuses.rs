//! What members' hosts say of their enclaves, put into a manifest: which enclaves there are, and which copies a cut names.
//!
//! A host can say what it likes here. So each member compares its own enclave's fingerprint with the line that its wallet
//! shows, before it signs.

use super::{ManifestFileError, read};
use crate::status::HostStatus;
use postern_shared::epoch::{Waiting, cut};
use postern_shared::manifest::Manifest;
use std::path::Path;

/// The manifest, which comes after the current one, with all that these status files add to it.
pub fn with_statuses(
    current: &Manifest,
    mut manifest: Manifest,
    files: &[impl AsRef<Path>],
) -> Result<Manifest, ManifestFileError> {
    let mut copies: Vec<Waiting> = Vec::new();
    for path in files.iter().map(AsRef::as_ref) {
        let wrong = |reason: String| ManifestFileError::Text {
            path: path.to_owned(),
            what: "a host's status",
            reason,
        };
        let status: HostStatus =
            serde_json::from_slice(&read(path)?).map_err(|error| wrong(error.to_string()))?;
        if !status.enclave_answers {
            return Err(wrong("its enclave does not answer, so it may say what was long ago".to_owned()));
        }
        let enclave = status.enclave.ok_or_else(|| wrong("it has no enclave".to_owned()))?;
        let member = manifest.members.iter_mut().find(|member| member.id == enclave.member);
        let member = member.ok_or_else(|| wrong(format!("{} is no member", enclave.member)))?;
        (member.enclave, member.machine) = (Some(enclave.keys()), enclave.machine);
        copies.extend(status.waiting.map(|waiting| *waiting));
    }
    if !copies.is_empty() {
        manifest.agreement.cut = Some(cut(current, &copies)?);
    }
    Ok(manifest)
}
