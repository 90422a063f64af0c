//! The certificates for the own enclave's reports: found before it is started, and looked for again from time to time,
//! since firmware updates ask for new ones and revocation lists run out.

use super::{DaemonError, RETRY, Shared};
use crate::certificates::{CertificateSources, CertificatesError, ReportFacts, obtain};
use crate::link::{Connection, EnclaveAddress, LinkError};
use postern_attestation::UnverifiedReport;
use postern_shared::message::Certificates;
use postern_shared::wire::{Rejection, Reply, Request};
use std::time::SystemTime;

/// Waits for an enclave that is not there yet, and for AMD's service; gives up when only a person can help.
pub(super) async fn find(
    address: &EnclaveAddress,
    sources: &CertificateSources,
) -> Result<Certificates, DaemonError> {
    loop {
        let found = match report(address).await {
            Ok(report) => certificates_for(&report, sources).await,
            Err(error) => {
                tracing::warn!(%address, %error, "no report from the enclave; waiting");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        match found {
            Err(DaemonError::Certificates(CertificatesError::Kds(error))) => {
                tracing::warn!(%error, "no certificates yet; trying again");
                tokio::time::sleep(RETRY * 20).await;
            }
            found => return found,
        }
    }
}

/// Looks again, and hands the enclave what is new. What it has stays good if nothing better is found.
pub(super) async fn renew(shared: &Shared) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let reply = shared.enclave.ask(&Request::Report).await.map_err(|error| text(&error))?;
    let Reply::Report(report) = reply else { return Err("the enclave gives no report".to_owned()) };
    let certificates = certificates_for(&report, &shared.certificates).await.map_err(|error| text(&error))?;
    if shared.enclave.certificates() == Some(certificates.clone()) {
        return Ok(());
    }
    match shared.enclave.ask(&Request::Renew(certificates.clone())).await.map_err(|error| text(&error))? {
        Reply::Rejected(rejection) => Err(format!("the enclave refuses the new certificates: {rejection}")),
        _ => {
            tracing::info!("the enclave has new certificates");
            shared.enclave.set_certificates(certificates);
            Ok(())
        }
    }
}

pub(super) async fn certificates_for(
    report: &[u8],
    sources: &CertificateSources,
) -> Result<Certificates, DaemonError> {
    let report = UnverifiedReport::parse(report)?;
    let facts = ReportFacts::of(&report)?;
    Ok(obtain(&facts, sources, SystemTime::now()).await?)
}

/// Why an enclave that is not started gave no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReport {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{0}")]
    Rejected(Rejection),
    #[error("an answer to another question")]
    Protocol,
}

pub(super) async fn report(address: &EnclaveAddress) -> Result<Vec<u8>, NoReport> {
    let mut connection = Connection::open(address).await?;
    match connection.call(&Request::Report).await?.reply {
        Reply::Report(report) => Ok(report),
        Reply::Rejected(rejection) => Err(NoReport::Rejected(rejection)),
        _ => Err(NoReport::Protocol),
    }
}
