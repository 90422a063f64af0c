//! The epochs that a host keeps: `epochs/N.epoch` in its data directory.

use super::{ManifestFileError, Proposal, read_epoch, replace, write_new};
use crate::whole_file;
use postern_shared::epoch::{EpochError, SignedEpoch, chain, check_returns, pool_managers};
use postern_shared::ids::ManifestHash;
use postern_shared::manifest::Manifest;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("epochs")
}

fn file(data_dir: &Path, epoch: u64) -> PathBuf {
    folder(data_dir).join(format!("{epoch}.epoch"))
}

/// Whose being there has the enclave wait for a cut.
fn marker(data_dir: &Path) -> PathBuf {
    data_dir.join("await-cut")
}

/// Whether the enclave is to take no part until an epoch makes a cut.
pub fn awaits_cut(data_dir: &Path) -> bool {
    marker(data_dir).exists()
}

/// Has the enclave wait for a cut. Doing it again changes nothing.
pub fn await_cut(data_dir: &Path) -> Result<(), ManifestFileError> {
    replace(&marker(data_dir), b"")
}

/// What a host keeps, verified.
#[derive(Debug, Clone)]
pub struct KeptEpochs {
    /// As they were signed.
    pub epochs: Vec<SignedEpoch>,
    /// The manifest before them, then the epochs'.
    pub manifests: Vec<Manifest>,
    /// The last of these.
    pub newest: Manifest,
}

/// Reads the epochs in a data directory that come after `genesis`, and verifies them all. Without any, `genesis` is the newest
/// manifest. It may be of a later epoch too: earlier files are then passed over.
pub fn load_epochs(data_dir: &Path, genesis: &Manifest) -> Result<KeptEpochs, ManifestFileError> {
    let numbers = numbers(&folder(data_dir))?;
    let mut epochs = Vec::new();
    for (number, due) in
        numbers.into_iter().filter(|number| *number > genesis.epoch).zip(genesis.epoch.saturating_add(1)..)
    {
        if number != due {
            return Err(ManifestFileError::Gap { missing: due, found: number });
        }
        epochs.push(read_epoch(&file(data_dir, number))?);
    }
    let manifests = chain(genesis, &epochs)
        .map_err(|source| ManifestFileError::Chain { path: folder(data_dir), source })?;
    let newest = manifests.last().unwrap_or(genesis).clone();
    Ok(KeptEpochs { epochs, manifests, newest })
}

/// Refuses what is the next manifest of a chain and brings something back.
pub(super) fn must_not_return(chain: &[Manifest], next: &Manifest) -> Result<(), EpochError> {
    let Some(current) = chain.last() else { return Ok(()) };
    let known = chain.iter().flat_map(Manifest::identities);
    check_returns(known, &pool_managers(chain), current, next)
}

/// The epochs for which there is a file, ascending. Files that are not named like epochs are somebody else's.
fn numbers(folder: &Path) -> Result<Vec<u64>, ManifestFileError> {
    let failed = |source| ManifestFileError::Read { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".epoch")) else { continue };
        match stem.parse::<u64>() {
            // No two names for one number.
            Ok(number) if number > 0 && number.to_string() == stem => numbers.push(number),
            _ => return Err(ManifestFileError::StrangeFile { path: folder.join(&name) }),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Keeps a proposal as the next epoch, if a quorum signed it and it follows the newest that is kept; where it is kept.
/// Doing it again changes nothing.
pub fn apply(proposal: &Proposal, data_dir: &Path, genesis: &Manifest) -> Result<PathBuf, ManifestFileError> {
    let KeptEpochs { epochs, manifests, newest } = load_epochs(data_dir, genesis)?;
    let epoch = proposal.manifest.epoch;
    let path = file(data_dir, epoch);
    if epoch <= genesis.epoch {
        return Err(ManifestFileError::NotAfter { start: genesis.epoch, found: epoch });
    }
    if epoch <= newest.epoch {
        let position = usize::try_from(epoch - genesis.epoch - 1).unwrap_or(usize::MAX);
        let kept = epochs.get(position).map_or(&[][..], |kept| &kept.manifest);
        return settled(proposal, kept).map(|()| path);
    }
    if epoch - 1 != newest.epoch {
        return Err(ManifestFileError::Gap { missing: newest.epoch + 1, found: epoch });
    }
    let refused = |source| ManifestFileError::Epoch { path: path.clone(), source };
    proposal.signed.verify(&newest).map_err(refused)?;
    must_not_return(&manifests, &proposal.manifest).map_err(refused)?;
    whole_file::make_folder(&folder(data_dir))
        .map_err(|source| ManifestFileError::Write { path: folder(data_dir), source })?;
    match write_new(&path, &proposal.signed.to_bytes()) {
        // Another process was faster.
        Err(ManifestFileError::Exists { .. }) => {
            settled(proposal, &read_epoch(&path)?.manifest)?;
        }
        written => written?,
    }
    // The cut is made, or the DAO goes another way.
    match std::fs::remove_file(marker(data_dir)) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(ManifestFileError::Write { path: marker(data_dir), source })
        }
        _ => Ok(path),
    }
}

/// Whether what is kept for an epoch is what is proposed.
fn settled(proposal: &Proposal, kept: &[u8]) -> Result<(), ManifestFileError> {
    if kept == proposal.signed.manifest {
        return Ok(());
    }
    let kept = Manifest::from_canonical(kept).map_or(ManifestHash([0; 32]), |kept| kept.hash());
    Err(ManifestFileError::Fork { epoch: proposal.manifest.epoch, kept, proposed: proposal.manifest.hash() })
}
