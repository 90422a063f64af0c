//! One report's certificates from whatever source has them.

use super::cache::Cache;
use super::encoding::{self, Crl};
use super::kds::{Kds, KdsError};
use super::table::CertificateTable;
use super::{EndorsementKey, Misfit, ReportFacts, VcekId, VcekIdError, check, pinned_root};
use postern_shared::message::Certificates;
use postern_shared::snp::Product;
use std::time::{Duration, SystemTime};

/// All the time that a revocation list may take: one can go on without it, and a start must not wait for it.
const CRL_PATIENCE: Duration = Duration::from_secs(10);

/// What every error about missing certificates ends with.
const ADVICE: &str = "fetch the certificates where there is a network (`snpguest fetch`) and give the folder";

/// Where to look.
#[derive(Debug, Clone)]
pub struct CertificateSources {
    /// What the user's folder holds ([`super::folder::read`]).
    pub given: Option<Certificates>,
    /// The table that came with an extended report, as it came.
    pub table: Option<Vec<u8>>,
    /// The host's cache.
    pub cache: Cache,
    /// None if the host must not ask.
    pub kds: Option<Kds>,
}

/// Why there are no certificates for a report.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificatesError {
    /// The given folder holds the wrong ones.
    #[error("the certificates in the given folder don't fit the enclave's report: {0}")]
    Given(Misfit),
    /// The report names no chip and level that a VCEK could be of.
    #[error("the enclave's report names no VCEK: {0}")]
    Vcek(#[from] VcekIdError),
    /// No root is compiled in.
    #[error("no root of AMD's is known for {0}")]
    NoRoot(Product),
    /// Nothing is at hand, and asking is forbidden.
    #[error("{wanted} is not at hand, and the host is offline by its configuration; {ADVICE}")]
    Offline {
        /// What is missing, in words.
        wanted: String,
    },
    /// Nothing is at hand, and nobody gives any.
    #[error("{0}; {ADVICE}")]
    Kds(#[from] KdsError),
    /// A VLEK is neither in a folder nor in a table.
    #[error(
        "the report is signed by a VLEK, which only the machine's provider has: it must be in the extended report's table or in a given folder"
    )]
    NoVlek,
    /// Even what KDS sent does not fit.
    #[error("KDS sent certificates that don't fit the enclave's report: {0}")]
    Misfit(Misfit),
}

/// Finds the certificates for a report.
///
/// The revocation list is found on its own, since it has a life of its own: a set may be without one, and then a warning
/// says so.
pub async fn obtain(
    facts: &ReportFacts,
    sources: &CertificateSources,
    now: SystemTime,
) -> Result<Certificates, CertificatesError> {
    let table = sources.table.as_deref().map(CertificateTable::parse).transpose();
    let table = table.unwrap_or_else(|error| {
        tracing::warn!(%error, "the extended report's certificate table is passed over");
        None
    });
    let table = table.unwrap_or_default();

    if let Some(given) = &sources.given {
        let mut set = given.clone();
        // A root that is not AMD's has lists of its own, if any.
        if EndorsementKey::of(&set.leaf) == facts.key && root_of(facts.product).as_ref() == Ok(&set.ark) {
            set.crl = revocations(facts, sources, &table, &set.ark, now).await;
        }
        check(&set, facts).map_err(CertificatesError::Given)?;
        return Ok(set);
    }

    let ark = root_of(facts.product)?;
    let crl = revocations(facts, sources, &table, &ark, now).await;
    let mut found = Found { facts, ark, crl, leaves: Vec::new(), issuers: Vec::new(), misfit: None };
    let set = search(&mut found, sources, &table).await?;
    keep(&set, facts, &sources.cache);
    Ok(set)
}

fn root_of(product: Product) -> Result<Vec<u8>, CertificatesError> {
    pinned_root(&format!("ARK-{product}")).ok_or(CertificatesError::NoRoot(product))
}

/// Parts found so far.
struct Found<'a> {
    facts: &'a ReportFacts,
    ark: Vec<u8>,
    crl: Option<Vec<u8>>,
    leaves: Vec<Vec<u8>>,
    issuers: Vec<Vec<u8>>,
    /// Why the last set did not fit.
    misfit: Option<Misfit>,
}

impl Found<'_> {
    /// The first leaf and issuer that belong together and to the report.
    fn choose(&mut self) -> Option<Certificates> {
        for leaf in &self.leaves {
            for ask in &self.issuers {
                let set = Certificates {
                    ark: self.ark.clone(),
                    ask: ask.clone(),
                    leaf: leaf.clone(),
                    crl: self.crl.clone(),
                };
                match check(&set, self.facts) {
                    Ok(()) => return Some(set),
                    Err(misfit) => self.misfit = Some(misfit),
                }
            }
        }
        None
    }
}

/// Takes what is at hand, and asks KDS for no more than what is missing.
async fn search(
    found: &mut Found<'_>,
    sources: &CertificateSources,
    table: &CertificateTable<'_>,
) -> Result<Certificates, CertificatesError> {
    let ReportFacts { product, chip_id, reported_tcb, key } = found.facts.clone();
    // A provider's key says nothing of the chip, whose id may be masked then.
    let vcek = match key {
        EndorsementKey::Vcek => Some(VcekId::new(product, &chip_id, reported_tcb)?),
        EndorsementKey::Vlek => None,
    };

    let leaf = match key {
        EndorsementKey::Vcek => table.vcek,
        EndorsementKey::Vlek => table.vlek,
    };
    found.leaves.extend(leaf.and_then(from_table));
    found.leaves.extend(vcek.as_ref().and_then(|vcek| sources.cache.vcek(vcek)));
    found.issuers.extend(table.ask.and_then(from_table));
    found.issuers.extend(sources.cache.issuer(product, key));
    if let Some(set) = found.choose() {
        return Ok(set);
    }
    if vcek.is_none() && found.leaves.is_empty() {
        return Err(CertificatesError::NoVlek);
    }
    if let Some(misfit) = &found.misfit {
        tracing::info!(%misfit, "the certificates at hand don't fit the enclave's report");
    }

    let Some(kds) = &sources.kds else {
        let issuer = || format!("the issuer of {product}'s {key}s");
        let wanted = vcek.map_or_else(issuer, |vcek| vcek.to_string());
        return Err(CertificatesError::Offline { wanted });
    };
    let mut issuer_is_new = false;
    if found.issuers.is_empty() {
        found.issuers.push(kds.issuer(product, key, &found.ark).await?);
        issuer_is_new = true;
        if let Some(set) = found.choose() {
            return Ok(set);
        }
    }
    if let Some(vcek) = vcek {
        found.leaves.push(kds.vcek(&vcek).await?);
        if let Some(set) = found.choose() {
            return Ok(set);
        }
    }
    // The issuer that was at hand may be the wrong one.
    if !issuer_is_new {
        found.issuers.push(kds.issuer(product, key, &found.ark).await?);
        if let Some(set) = found.choose() {
            return Ok(set);
        }
    }
    Err(found.misfit.take().map_or(CertificatesError::NoVlek, CertificatesError::Misfit))
}

/// One certificate of a table.
fn from_table(bytes: &[u8]) -> Option<Vec<u8>> {
    encoding::certificate(bytes)
        .inspect_err(
            |error| tracing::warn!(%error, "a certificate of the extended report's table is passed over"),
        )
        .ok()
}

/// Keeps what the cache does not have, or has otherwise.
fn keep(set: &Certificates, facts: &ReportFacts, cache: &Cache) {
    let ReportFacts { product, chip_id, reported_tcb, key } = facts;
    if cache.issuer(*product, *key).as_ref() != Some(&set.ask) {
        cache.keep_issuer(*product, *key, &set.ask);
    }
    if let (EndorsementKey::Vcek, Ok(vcek)) = (key, VcekId::new(*product, chip_id, *reported_tcb))
        && cache.vcek(&vcek).as_ref() != Some(&set.leaf)
    {
        cache.keep_vcek(&vcek, &set.leaf);
    }
}

/// The newest good revocation list that can be had: the user's, the table's, one kept since less than a day, KDS's, or
/// one kept for longer.
async fn revocations(
    facts: &ReportFacts,
    sources: &CertificateSources,
    table: &CertificateTable<'_>,
    ark: &[u8],
    now: SystemTime,
) -> Option<Vec<u8>> {
    let ReportFacts { product, key, .. } = facts;
    let given = sources.given.as_ref().and_then(|given| given.crl.as_deref());
    for bytes in [given, table.crl].into_iter().flatten() {
        match Crl::read(bytes) {
            Ok(crl) if crl.is_of(ark) && !crl.is_out_of_date(now) => return Some(crl.der),
            Ok(_) => {
                tracing::warn!("a given revocation list is passed over: out of date, or another issuer's")
            }
            Err(error) => tracing::warn!(%error, "a given revocation list is passed over"),
        }
    }
    let kept = sources.cache.crl(*product, *key, now).filter(|kept| kept.crl.is_of(ark));
    if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh) {
        return Some(kept.crl.der.clone());
    }
    if let Some(kds) = &sources.kds {
        match kds.crl(*product, *key, ark, CRL_PATIENCE).await {
            Ok(crl) if !crl.is_out_of_date(now) => {
                sources.cache.keep_crl(*product, *key, &crl.der);
                return Some(crl.der);
            }
            Ok(_) => tracing::warn!("KDS sent a revocation list that is out of date"),
            Err(error) => tracing::warn!(%error, "no new revocation list"),
        }
    }
    if kept.is_none() {
        tracing::warn!(%product, %key, "there is no revocation list; enclaves that want one will refuse this one");
    }
    kept.map(|kept| kept.crl.der)
}

#[cfg(test)]
mod tests;
