//! A verdict that scripts read.

use super::Judgement;
use postern_attestation::Finding;
use serde::Serialize;

/// See the README: field names and check names are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Of this format.
    pub version: u32,
    /// `accept` or `refuse`.
    pub verdict: &'static str,
    /// Product line, if it is known.
    pub product: Option<&'static str>,
    /// Version of the report, if it is one.
    pub report_version: Option<u32>,
    /// Whether a simulated root was trusted. Then nothing is protected.
    pub simulated: bool,
    /// Every check that was made.
    pub checks: Vec<CheckVerdict>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckVerdict {
    /// Its stable name.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was wanted.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl From<&Judgement> for Verdict {
    fn from(judgement: &Judgement) -> Self {
        let appraisal = &judgement.appraisal;
        Self {
            version: 1,
            verdict: if judgement.accepts() { "accept" } else { "refuse" },
            product: appraisal.product.map(|product| product.name()),
            report_version: appraisal.report.as_ref().map(|report| report.version),
            simulated: appraisal.simulated,
            checks: appraisal.findings.iter().map(CheckVerdict::from).collect(),
        }
    }
}

impl From<&Finding> for CheckVerdict {
    fn from(finding: &Finding) -> Self {
        Self {
            name: finding.check.name(),
            ok: finding.ok,
            expected: finding.expected.clone(),
            found: finding.found.clone(),
        }
    }
}
