//! Files for people, in folders of the data directory.

use crate::whole_file;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Writes one, so that it survives a power cut: the store forgets what is done. Where it is; `None` if that failed.
pub(super) fn write(data_dir: &Path, folder: &str, name: &str, content: &impl Serialize) -> Option<PathBuf> {
    let folder = data_dir.join(folder);
    let path = folder.join(name);
    let write = || {
        let text = serde_json::to_vec_pretty(content)?;
        whole_file::make_folder(&folder)?;
        whole_file::replace(&path, &text)
    };
    let written: std::io::Result<()> = write();
    if let Err(error) = written {
        tracing::error!(path = %path.display(), %error, "a file can't be written; trying again");
        return None;
    }
    Some(path)
}
