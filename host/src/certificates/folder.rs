//! A folder in the layout of `snpguest`: `ark`, `ask` and `vcek`, or `asvk` and `vlek`, perhaps `crl`; each `.pem` or
//! `.der`.
//!
//! Where there are both, `.pem` counts, as for `snpguest verify`. What stands in a file decides how it is read, not its
//! name. A chain as KDS sends it (`cert_chain.pem`: issuer, then ARK) fills in for either. AMD's roots are compiled in,
//! so a missing ARK is no loss.

use super::encoding::{self, Crl, EncodingError, MAX_CRL, Names, to_pem};
use super::{EndorsementKey, pinned_root};
use postern_shared::message::Certificates;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What is called how in PEM.
const CERTIFICATE: &str = "CERTIFICATE";
const X509_CRL: &str = "X509 CRL";

/// Why a folder can't be read or written.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file does not hold what its name says.
    #[error("{path}: {source}", path = path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: EncodingError,
    },
    /// Neither form of a file is there.
    #[error("{path}: neither .pem nor .der is there", path = path.display())]
    Missing {
        /// Without its extension.
        path: PathBuf,
    },
    /// Leaves of both kinds.
    #[error("{path}: holds a VCEK and a VLEK; only one of them can sign a report", path = path.display())]
    TwoLeaves {
        /// The folder.
        path: PathBuf,
    },
    /// No root, and none is known for this issuer.
    #[error("{path}: neither .pem nor .der is there, and no root of AMD's is called `{issuer}`", path = path.display())]
    NoRoot {
        /// The ARK's file, without its extension.
        path: PathBuf,
        /// Who signed the ASK, by its own word.
        issuer: String,
    },
    /// A root where the issuer of leaves should be.
    #[error(
        "{path}: certificates in the wrong order: expected the issuer of the leaf (ASK or ASVK), then its root (ARK); \
         found `{first}`, then `{second}`",
        path = path.display()
    )]
    Order {
        /// The folder.
        path: PathBuf,
        /// Common name of what is where the issuer should be.
        first: String,
        /// Common name of what is where the root should be.
        second: String,
    },
    /// There is something in the folder that one would have to write over.
    #[error("{path}: not empty; nothing was written", path = path.display())]
    NotEmpty {
        /// Which.
        path: PathBuf,
    },
}

/// Reads a set, each part of it a certificate by its form. Nothing is verified.
pub fn read(folder: &Path) -> Result<Certificates, FolderError> {
    let part = |name: &str| read_either(&folder.join(name), encoding::certificate);
    let (key, leaf) = match (part("vcek")?, part("vlek")?) {
        (Some(vcek), None) => (EndorsementKey::Vcek, vcek),
        (None, Some(vlek)) => (EndorsementKey::Vlek, vlek),
        (Some(_), Some(_)) => return Err(FolderError::TwoLeaves { path: folder.to_owned() }),
        (None, None) => return Err(FolderError::Missing { path: folder.join("vcek") }),
    };
    let chain = read_either(&folder.join("cert_chain"), encoding::certificates::<2>)?;
    let (issuer_of_chain, root_of_chain) = match chain {
        Some([issuer, root]) => (Some(issuer), Some(root)),
        None => (None, None),
    };
    let path = folder.join(key.issuer_name());
    let ask = part(key.issuer_name())?.or(issuer_of_chain).ok_or(FolderError::Missing { path })?;
    let ark = match part("ark")?.or(root_of_chain) {
        Some(ark) => ark,
        None => root_for(&ask, folder.join("ark"))?,
    };
    check_order(folder, &ask, &ark)?;
    let crl = read_either(&folder.join("crl"), |bytes| Crl::read(bytes).map(|crl| crl.der))?;
    Ok(Certificates { ark, ask, leaf, crl })
}

/// A root is called so by its name; as the issuer of a leaf it would fail every check that a chain can fail.
fn check_order(folder: &Path, ask: &[u8], ark: &[u8]) -> Result<(), FolderError> {
    let name = |der: &[u8]| Names::read(der).map(|names| names.common_name).unwrap_or_default();
    let (first, second) = (name(ask), name(ark));
    if first.starts_with("ARK-") {
        return Err(FolderError::Order { path: folder.to_owned(), first, second });
    }
    Ok(())
}

/// The compiled-in root that the issuer of leaves names as its own issuer.
fn root_for(ask: &[u8], path: PathBuf) -> Result<Vec<u8>, FolderError> {
    let issuer = Names::read(ask).map(|names| names.issuer_common_name).unwrap_or_default();
    pinned_root(&issuer).ok_or(FolderError::NoRoot { path, issuer })
}

/// `path` with one of the two extensions, if there is such a file.
fn read_either<T>(
    path: &Path,
    decode: impl Fn(&[u8]) -> Result<T, EncodingError>,
) -> Result<Option<T>, FolderError> {
    for extension in ["pem", "der"] {
        let path = path.with_extension(extension);
        match read_bounded(&path) {
            Ok(bytes) => {
                return decode(&bytes).map(Some).map_err(|source| FolderError::Content { path, source });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(FolderError::Io { path, source }),
        }
    }
    Ok(None)
}

/// A file's content, cut off where nothing that is wanted can still be whole.
pub(super) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_CRL as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a report and its certificates as `snpguest verify attestation DIR DIR/report.bin` wants them: a new folder, or
/// one that is empty. All of it appears at once, or nothing does: a folder in which the leaf of one machine meets the
/// report of another would accuse an honest one.
pub fn export(folder: &Path, report: &[u8], set: &Certificates) -> Result<(), FolderError> {
    let failed = |path: &Path, source| FolderError::Io { path: path.to_owned(), source };
    let parent = match folder.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let fresh = tempfile::Builder::new()
        .prefix(".postern-export-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(|source| failed(parent, source))?;

    let key = EndorsementKey::of(&set.leaf);
    let mut files = vec![("report.bin".to_owned(), report.to_vec())];
    let mut add = |name: &str, label, der: &[u8]| {
        files.push((format!("{name}.pem"), to_pem(label, der).into_bytes()));
    };
    add("ark", CERTIFICATE, &set.ark);
    add(key.issuer_name(), CERTIFICATE, &set.ask);
    add(key.name(), CERTIFICATE, &set.leaf);
    if let Some(crl) = &set.crl {
        add("crl", X509_CRL, crl);
    }
    for (name, content) in files {
        let path = fresh.path().join(name);
        write_through(&path, &content).map_err(|source| failed(&path, source))?;
    }
    // POSIX: renaming onto a folder succeeds only if that is empty.
    match std::fs::rename(fresh.path(), folder) {
        Ok(()) => {
            // Its name is gone; there is nothing to remove.
            let _ = fresh.keep();
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(|source| failed(parent, source))
        }
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            Err(FolderError::NotEmpty { path: folder.to_owned() })
        }
        Err(source) => Err(failed(folder, source)),
    }
}

fn write_through(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
