//! What KDS said, on disk: `LINE/vcek-CHIP-TCB.der`, `LINE/{ask,asvk}.der`, `LINE/{vcek,vlek}-crl.der`.
//!
//! The key that a VCEK certifies depends on line, chip and every component of the TCB, and on nothing else: it is kept
//! for ever, and so is its issuer. A revocation list is asked for anew once a day, and kept for when KDS is down, until
//! the day by which its issuer promised the next.
//!
//! # State and restart
//! Files are written whole or not at all, so processes may share the folder and die at any moment. What does not read,
//! or does not fit, counts as absent and is replaced. A cache that can't be written costs time, not correctness.

use super::encoding::{self, Crl, EncodingError};
use super::folder::read_bounded;
use super::{EndorsementKey, VcekId};
use crate::{blocking, whole_file};
use postern_shared::snp::Product;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// After this time a revocation list is asked for anew. AMD's say that they are good for a year.
const CRL_REFRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder that the host may fill, empty and share.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// A revocation list that was kept, and is still good.
pub(super) struct KeptCrl {
    pub(super) crl: Crl,
    /// Whether it is too early to ask for another.
    pub(super) is_fresh: bool,
}

impl Cache {
    /// Nothing is read or written yet; the folder need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The VCEK, if it is here.
    pub(super) fn vcek(&self, id: &VcekId) -> Option<Vec<u8>> {
        read(&self.vcek_file(id), encoding::certificate)
    }

    /// Keeps a VCEK.
    pub(super) fn keep_vcek(&self, id: &VcekId, der: &[u8]) {
        keep(&self.vcek_file(id), der);
    }

    /// The issuer of a product line's leaves, if it is here.
    pub(super) fn issuer(&self, product: Product, key: EndorsementKey) -> Option<Vec<u8>> {
        read(&self.issuer_file(product, key), encoding::certificate)
    }

    /// Keeps the issuer of a product line's leaves.
    pub(super) fn keep_issuer(&self, product: Product, key: EndorsementKey, der: &[u8]) {
        keep(&self.issuer_file(product, key), der);
    }

    /// The revocation list, if it is here and there need not be a newer one.
    pub(super) fn crl(&self, product: Product, key: EndorsementKey, now: SystemTime) -> Option<KeptCrl> {
        let path = self.crl_file(product, key);
        let crl = read(&path, Crl::read).filter(|crl| !crl.is_out_of_date(now))?;
        // The file's time is when KDS sent it. One in the future says nothing.
        let sent = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
        let is_fresh = now.duration_since(sent).is_ok_and(|age| age < CRL_REFRESH);
        Some(KeptCrl { crl, is_fresh })
    }

    /// Keeps a revocation list.
    pub(super) fn keep_crl(&self, product: Product, key: EndorsementKey, der: &[u8]) {
        keep(&self.crl_file(product, key), der);
    }

    fn vcek_file(&self, id: &VcekId) -> PathBuf {
        self.folder.join(id.product().name()).join(id.file_name())
    }

    fn issuer_file(&self, product: Product, key: EndorsementKey) -> PathBuf {
        self.folder.join(product.name()).join(key.issuer_name()).with_extension("der")
    }

    fn crl_file(&self, product: Product, key: EndorsementKey) -> PathBuf {
        self.folder.join(product.name()).join(format!("{}-crl.der", key.name()))
    }
}

/// What a file holds, if it is there and whole.
fn read<T>(path: &Path, decode: impl Fn(&[u8]) -> Result<T, EncodingError>) -> Option<T> {
    let bytes = match blocking::run(|| read_bounded(path)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a kept certificate can't be read");
            return None;
        }
    };
    match decode(&bytes) {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a kept certificate is damaged; it will be replaced");
            None
        }
    }
}

fn keep(path: &Path, der: &[u8]) {
    // Certificates are public; that others can write here would let them waste our time.
    let folder = path.parent().map_or(Ok(()), whole_file::make_folder);
    if let Err(error) = folder.and_then(|()| whole_file::replace(path, der)) {
        tracing::warn!(path = %path.display(), %error, "a certificate can't be kept");
    }
}

#[cfg(test)]
mod tests;
