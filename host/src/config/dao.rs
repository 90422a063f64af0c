//! Which DAO the host serves, which member of it, and where it keeps what it knows.

use super::fault::{Faults, FieldError, Reported};
use super::read_manifest;
use super::section::Section;
use crate::manifest::{KeptEpochs, load_epochs};
use postern_shared::ids::MemberId;
use postern_shared::manifest::{Manifest, Member};
use std::path::{Path, PathBuf};

/// As far as it could be read.
pub(super) struct Dao {
    /// The manifest before all epochs.
    pub(super) first: Result<Manifest, Reported>,
    /// The epochs after it.
    pub(super) kept: Result<KeptEpochs, Reported>,
    pub(super) member: Result<MemberId, Reported>,
    /// What the newest manifest says of the member.
    entry: Result<Member, Reported>,
    pub(super) data_dir: Result<PathBuf, Reported>,
}

impl Dao {
    pub(super) fn data_dir(&self) -> Result<&Path, Reported> {
        self.data_dir.as_deref().map_err(|reported| *reported)
    }

    /// The newest manifest.
    pub(super) fn manifest(&self) -> Result<&Manifest, Reported> {
        self.kept.as_ref().map(|kept| &kept.newest).map_err(|reported| *reported)
    }

    /// What that says of the member.
    pub(super) fn entry(&self) -> Result<&Member, Reported> {
        self.entry.as_ref().map_err(|reported| *reported)
    }
}

pub(super) fn read(file: &mut Section, faults: &mut Faults) -> Dao {
    let first = manifest(file, faults);
    let data_dir = file.path("data_dir", faults);
    let kept = match (&first, &data_dir) {
        (Ok(first), Ok(data_dir)) => {
            let kept = load_epochs(data_dir, first);
            faults.check("data_dir", kept.map_err(|error| FieldError::Epochs(Box::new(error))))
        }
        (Err(reported), _) | (_, Err(reported)) => Err(*reported),
    };
    let member = file.required("member", faults).map(MemberId);
    let entry = match (&kept, &member) {
        (Ok(kept), Ok(member)) => {
            let entry = kept.newest.member(*member).cloned();
            entry.ok_or_else(|| faults.report("member", FieldError::NoMember(*member)))
        }
        (Err(reported), _) | (_, Err(reported)) => Err(*reported),
    };
    Dao { first, kept, member, entry, data_dir }
}

fn manifest(file: &mut Section, faults: &mut Faults) -> Result<Manifest, Reported> {
    let path = file.path("manifest", faults)?;
    let manifest = read_manifest(&path).map_err(|error| FieldError::Manifest(Box::new(error)));
    let manifest = faults.check("manifest", manifest)?;
    if manifest.history.is_some() {
        return Err(faults.report("manifest", FieldError::LaterEpoch(manifest.epoch)));
    }
    Ok(manifest)
}
