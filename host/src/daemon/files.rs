//! Files for people, in folders of the data directory.

use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes one, so that it survives a power cut: the store forgets what is done. Where it is; `None` if that failed.
pub(super) fn write(data_dir: &Path, folder: &str, name: &str, content: &impl Serialize) -> Option<PathBuf> {
    let folder = data_dir.join(folder);
    let path = folder.join(name);
    let write = || {
        let text = serde_json::to_string_pretty(content)?;
        write_whole(&path, text.as_bytes())?;
        // The new name too.
        std::fs::File::open(&folder)?.sync_all()
    };
    let written: std::io::Result<()> = write();
    if let Err(error) = written {
        tracing::error!(path = %path.display(), %error, "a file can't be written; trying again");
        return None;
    }
    Some(path)
}

/// Replaces a file by a whole other one.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
