//! Where the certificates for the enclave's reports come from.

use super::fault::{Faults, FieldError, Reported};
use super::section::Section;
use crate::certificates::cache::Cache;
use crate::certificates::kds::{AMD_KDS, Kds, Patience};
use crate::certificates::{CertificateSources, folder};
use std::path::Path;

/// `[certificates]`, all of which may be left out:
/// - `folder`, with `ark`, `ask` and `vcek`, each `.der` or `.pem`, as `snpguest fetch` leaves them; it counts before all else;
/// - `table`, a file with the certificate table that came with an extended report, as the firmware wrote it;
/// - `cache`, where fetched ones are kept, if not in `data_dir`;
/// - `kds`, AMD's Key Distribution Service or a mirror: what comes before `/vcek/v1/`; not asked if `offline`.
pub(super) fn read(
    file: &mut Section,
    data_dir: Result<&Path, Reported>,
    faults: &mut Faults,
) -> Result<CertificateSources, Reported> {
    let mut section = file.section("certificates", faults)?;
    let given = section.optional_path("folder", faults).and_then(|path| {
        path.map(|path| faults.check("certificates.folder", folder::read(&path))).transpose()
    });
    let table = section.optional_path("table", faults).and_then(|path| {
        let file = |path: &Path| {
            std::fs::read(path).map_err(|source| FieldError::File { path: path.to_owned(), source })
        };
        path.map(|path| faults.check("certificates.table", file(&path))).transpose()
    });
    let cache = section.optional_path("cache", faults);
    let url = section.optional::<String>("kds", faults);
    let is_offline = section.optional::<bool>("offline", faults).map(Option::unwrap_or_default);
    let kds = match is_offline {
        Ok(true) => Ok(None),
        _ => url.and_then(|url| {
            let kds = Kds::new(url.as_deref().unwrap_or(AMD_KDS), Patience::default());
            faults.check("certificates.kds", kds).map(Some)
        }),
    };
    section.end(faults);
    let cache = match cache? {
        Some(cache) => cache,
        None => data_dir?.join("certificates"),
    };
    is_offline?;
    Ok(CertificateSources { given: given?, table: table?, cache: Cache::new(cache), kds: kds? })
}
