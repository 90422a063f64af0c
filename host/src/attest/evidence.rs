//! Where evidence comes from.

use super::AttestError;
use super::container::report_in;
use crate::link::{Connection, EnclaveAddress};
use postern_shared::ids::Nonce;
use postern_shared::message::{Attestation, Certificates, Evidence};
use postern_shared::wire::{Rejection, Reply, Request};
use std::io::Read;
use std::path::Path;

/// More than any evidence needs: reports are 1184 bytes, certificates and lists a few KiB.
const MAX_FILE: u64 = 1 << 20;

/// What is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A report alone, or with certificates that somebody found for it.
    Report {
        /// As the secure processor gave it.
        report: Vec<u8>,
        /// What vouches for it.
        certificates: Option<Certificates>,
    },
    /// An identity with its evidence.
    Attestation(Box<Attestation>),
}

impl Subject {
    /// The report as received.
    pub fn report(&self) -> &[u8] {
        match self {
            Self::Report { report, .. } => report,
            Self::Attestation(attestation) => &attestation.evidence.report,
        }
    }

    /// Report and certificates, if there are any.
    pub fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::Report { report, certificates } => {
                certificates.clone().map(|certificates| Evidence { report: report.clone(), certificates })
            }
            Self::Attestation(attestation) => Some(attestation.evidence.clone()),
        }
    }

    /// Judges by these certificates, whatever came with the report.
    pub fn with_certificates(self, certificates: Certificates) -> Self {
        match self {
            Self::Report { report, .. } => Self::Report { report, certificates: Some(certificates) },
            Self::Attestation(mut attestation) => {
                attestation.evidence.certificates = certificates;
                Self::Attestation(attestation)
            }
        }
    }

    /// Reads a report in any form that people have it in, or evidence in JSON.
    pub fn read(path: &Path) -> Result<Self, AttestError> {
        let bytes = read_bounded(path)?;
        let container = |source| AttestError::Container { path: path.to_owned(), source };
        match report_in(&bytes).map_err(container)? {
            Some(report) => Ok(Self::Report { report, certificates: None }),
            None => serde_json::from_slice(&bytes)
                .map(|attestation| Self::Attestation(Box::new(attestation)))
                .map_err(|error| AttestError::NoEvidence {
                    path: path.to_owned(),
                    reason: error.to_string(),
                }),
        }
    }

    /// Reads a report of any length: what is wrong with it is for the verdict to say.
    pub fn read_report(path: &Path) -> Result<Self, AttestError> {
        match Self::read(path) {
            Err(AttestError::NoEvidence { .. }) => {
                Ok(Self::Report { report: read_bounded(path)?, certificates: None })
            }
            other => other,
        }
    }

    /// Asks an enclave, which serves one host at a time: with its own host connected, this waits in vain.
    pub async fn ask(address: &EnclaveAddress) -> Result<Self, AttestError> {
        let at = || address.to_string();
        let link = |source| AttestError::Link { address: at(), source };
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| AttestError::Randomness(error.to_string()))?;
        let mut connection = Connection::open(address).await.map_err(link)?;
        match connection.call(&Request::Attest(Nonce(nonce))).await.map_err(link)?.reply {
            Reply::Attestation(attestation) if attestation.challenge == Nonce(nonce) => {
                return Ok(Self::Attestation(attestation));
            }
            // It has no identity yet, but a machine.
            Reply::Rejected(Rejection::NotStarted) => {}
            Reply::Rejected(rejection) => return Err(AttestError::Rejected { address: at(), rejection }),
            _ => return Err(AttestError::Protocol { address: at() }),
        }
        match connection.call(&Request::Report).await.map_err(link)?.reply {
            Reply::Report(report) => Ok(Self::Report { report, certificates: None }),
            Reply::Rejected(rejection) => Err(AttestError::Rejected { address: at(), rejection }),
            _ => Err(AttestError::Protocol { address: at() }),
        }
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, AttestError> {
    let failed = |source| AttestError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    let found = bytes.len() as u64;
    if found > MAX_FILE {
        return Err(AttestError::TooLong { path: path.to_owned(), limit: MAX_FILE, found });
    }
    Ok(bytes)
}
