//! Holds evidence against a manifest, or against the built-in rules.

use super::AttestError;
use super::evidence::Subject;
use crate::verify::trust_anchor;
use postern_attestation::{
    Appraisal, Binding, Finding, Launch, ReportData, Time, TrustAnchor, UnverifiedReport, Verifier,
    requirements,
};
use postern_shared::check::Check;
use postern_shared::identity::Identity;
use postern_shared::ids::{ChipId, Nonce};
use postern_shared::manifest::{Manifest, Member};
use postern_shared::message::{Attestation, Certificates, Evidence};
use postern_shared::policy::{AttestationRules, Trust};

/// By what evidence is judged.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The DAO. Without it the built-in rules apply, and what only a manifest can answer is left out.
    pub manifest: Option<&'a Manifest>,
    /// What must have been signed: the verifier's nonce, or for a bare report the begin of its report data.
    pub nonce: Option<&'a [u8]>,
    /// What is known of the time.
    pub time: Time,
}

/// Evidence with everything that was found about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Checks, report, product line.
    pub appraisal: Appraisal,
    /// Whether there were certificates. Without them only the report's own fields are judged.
    pub complete: bool,
}

/// Judges. A refusal is no error.
pub fn judge(subject: &Subject, question: &Question<'_>) -> Result<Judgement, AttestError> {
    let (anchor, rules) = match question.manifest {
        Some(manifest) => (trust_anchor(manifest.attestation.trust)?, manifest.attestation.clone()),
        None => (TrustAnchor::amd(), AttestationRules::strict(Trust::Amd)),
    };
    let evidence = subject.evidence();
    let complete = evidence.is_some();
    let evidence =
        evidence.unwrap_or_else(|| Evidence { report: subject.report().to_vec(), certificates: NONE });
    let entry = question.manifest.map(|manifest| entry(subject, manifest)).transpose()?.flatten();
    let chip_ids: &[ChipId] = entry.map_or(&[], |entry| &entry.chip_ids);
    let launch = question.manifest.map(|manifest| Launch {
        epoch: manifest.epoch,
        host_data: manifest.genesis().0,
        chip_ids,
    });
    let report_data = report_data(subject, question)?;
    let mut verifier = Verifier::new(anchor, rules, question.time);
    let mut appraisal = verifier.appraise(&evidence, launch.as_ref(), report_data.as_ref());
    if !complete {
        appraisal.findings.retain(|finding| !needs_certificates(finding.check));
    }
    if let Some((named, found)) = other_enclave(subject, question.manifest) {
        // Whatever the report is bound to, it is not the enclave that the DAO has named.
        appraisal.findings.retain(|finding| finding.check != Check::ReportData);
        appraisal.findings.push(Finding {
            check: Check::ReportData,
            ok: false,
            expected: format!("the enclave that the manifest names, {}", named.fingerprint()),
            found: format!("another's, {}", found.fingerprint()),
        });
        appraisal.findings.sort_by_key(|finding| finding.check);
    }
    Ok(Judgement { appraisal, complete })
}

/// The enclave that the manifest names for the member, and that of the evidence, if they differ. The genesis names none.
fn other_enclave(subject: &Subject, manifest: Option<&Manifest>) -> Option<(Identity, Identity)> {
    let Subject::Attestation(attestation) = subject else { return None };
    let named = manifest?.identity(attestation.identity.member)?;
    (named != attestation.identity).then_some((named, attestation.identity))
}

/// What an enclave must have found about evidence that it was given.
pub fn explain(manifest: &Manifest, attestation: &Attestation) -> Result<Vec<Finding>, AttestError> {
    let question = Question {
        manifest: Some(manifest),
        nonce: None,
        time: Time::NotBefore(manifest.attestation.not_before),
    };
    let judgement = judge(&Subject::Attestation(Box::new(attestation.clone())), &question)?;
    Ok(judgement.appraisal.findings.into_iter().filter(|finding| !finding.ok).collect())
}

impl Judgement {
    /// Whether nothing is wrong, and everything was there to be judged.
    pub fn accepts(&self) -> bool {
        self.complete && self.appraisal.is_clean()
    }

    /// What of the report is too low for its silicon, in words; and whether nothing is.
    pub(super) fn by_floors(&self, rules: &AttestationRules) -> (String, bool) {
        let Some(report) = &self.appraisal.report else {
            return ("no attestation report\n".to_owned(), false);
        };
        let Some(silicon) = report.cpuid else {
            return (
                format!("a report of version {} does not say what silicon it is from\n", report.version),
                false,
            );
        };
        if requirements(rules, silicon).is_none() {
            let line = silicon.unsupported_line().unwrap_or("this silicon");
            return (format!("{line} ({silicon}) has no floor, and is refused\n"), false);
        }
        let low = &self.appraisal.shortfalls;
        let said: String = low.iter().map(|low| format!("TOO LOW  {low}\n")).collect();
        let findings = &self.appraisal.findings;
        let is_held = findings.iter().any(|finding| finding.check == Check::TcbFloor && finding.ok);
        match low.len() {
            0 if !is_held => (format!("the report's TCB can't be read as one of {silicon}\n"), false),
            0 => (format!("the report reaches the floor of {silicon}\n"), true),
            count => (format!("{said}{count} of the report's values are too low for {silicon}\n"), false),
        }
    }
}

const NONE: Certificates = Certificates { ark: Vec::new(), ask: Vec::new(), leaf: Vec::new(), crl: None };

/// What says nothing about a report without certificates.
fn needs_certificates(check: Check) -> bool {
    use Check::*;
    matches!(
        check,
        Chain | Validity | Crl | Revocation | Product | SigningKey | ReportSignature | ChipId | LeafTcb
    )
}

/// Whose evidence it is: by its identity, or by its chip.
fn entry<'a>(subject: &Subject, manifest: &'a Manifest) -> Result<Option<&'a Member>, AttestError> {
    match subject {
        Subject::Attestation(attestation) => {
            let member = attestation.identity.member;
            manifest.member(member).map(Some).ok_or(AttestError::NotAMember(member))
        }
        Subject::Report { report, .. } => {
            let chip = UnverifiedReport::parse(report).ok().map(|report| ChipId(report.chip_id));
            Ok(manifest
                .members
                .iter()
                .find(|member| chip.is_some_and(|chip| member.chip_ids.contains(&chip))))
        }
    }
}

/// What the report data should be, as far as anybody can know.
fn report_data(subject: &Subject, question: &Question<'_>) -> Result<Option<ReportData>, AttestError> {
    let length = |nonce: &[u8]| AttestError::NonceLength { found: nonce.len() };
    match (subject, question.nonce, question.manifest) {
        (Subject::Report { .. }, None, _) => Ok(None),
        (Subject::Report { .. }, Some(nonce), _) => {
            let mut data = [0; 64];
            match data.get_mut(..nonce.len()) {
                Some(begin) if !nonce.is_empty() => begin.copy_from_slice(nonce),
                _ => return Err(length(nonce)),
            }
            Ok(Some(ReportData(data)))
        }
        // Without the manifest's hash nobody knows what was hashed.
        (Subject::Attestation(_), _, None) => Ok(None),
        (Subject::Attestation(attestation), nonce, Some(manifest)) => {
            let mut binding = Binding::of(manifest.genesis(), attestation);
            if let Some(nonce) = nonce {
                binding.challenge = Nonce(nonce.try_into().map_err(|_| length(nonce))?);
            }
            Ok(Some(binding.report_data()))
        }
    }
}
