//! Judges evidence by a DAO's rules: all of it, each time, so that whoever is refused learns everything that is wrong.

use alloc::{sync::Arc, vec::Vec};

use postern_shared::{
    check::Check,
    ids::{ChipId, Measurement},
    message::{Certificates, Evidence},
    policy::AttestationRules,
    snp::Product,
};

use crate::{
    anchor::TrustAnchor,
    binding::ReportData,
    chain::Chain,
    checks::{Findings, Subject},
    finding::{Finding, Refusal},
    floors::requirements,
    report::UnverifiedReport,
    shortfall::{Shortfall, shortfalls},
    time::Time,
};

/// Chains that are remembered: two for each of the most members that a DAO has.
const MAX_CHAINS: usize = 80;

/// Judges evidence under one anchor and one set of rules. Remembers the chains that it has judged.
#[derive(Debug)]
pub struct Verifier {
    anchor: TrustAnchor,
    rules: AttestationRules,
    time: Time,
    chains: Vec<(Certificates, Arc<Chain>)>,
}

/// What only a manifest can tell of a member's enclave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch<'a> {
    /// The manifest's epoch, which decides about measurements.
    pub epoch: u64,
    /// What the host must have given at launch: which DAO the enclave was started for.
    pub host_data: [u8; 32],
    /// The member's machines. Empty only where the rules let chips hide.
    pub chip_ids: &'a [ChipId],
}

/// Evidence with everything that was found about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// Each check once, in the order of [`Check`]; those that nobody could answer are left out.
    pub findings: Vec<Finding>,
    /// The report, if it is one.
    pub report: Option<UnverifiedReport>,
    /// Every value of the report that is too low for its silicon.
    pub shortfalls: Vec<Shortfall>,
    /// The product line: by the silicon, or by the leaf if the report does not say what silicon it is from.
    pub product: Option<Product>,
    /// Whether other roots than AMD's were asked. Then nothing is protected.
    pub simulated: bool,
}

/// A report that met everything that its verifier expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReport(UnverifiedReport);

impl Verifier {
    /// A verifier that has seen nothing yet.
    pub fn new(anchor: TrustAnchor, rules: AttestationRules, time: Time) -> Self {
        Self { anchor, rules, time, chains: Vec::new() }
    }

    /// Accepts a peer's evidence, or says all that is wrong with it.
    pub fn verify(
        &mut self,
        evidence: &Evidence,
        launch: &Launch<'_>,
        report_data: &ReportData,
    ) -> Result<VerifiedReport, Refusal> {
        self.appraise(evidence, Some(launch), Some(report_data)).into_verified()
    }

    /// Accepts evidence of the secure processor that this enclave runs on itself, by the same rules but for one: its report
    /// may be of a later version than is known here. That processor is trusted already, and new firmware must not stop
    /// the enclave that it carries. What every version says is judged; what a later one has more is not.
    pub fn verify_own(
        &mut self,
        evidence: &Evidence,
        launch: &Launch<'_>,
        report_data: &ReportData,
    ) -> Result<VerifiedReport, Refusal> {
        self.judge(evidence, Some(launch), Some(report_data), Origin::Own).into_verified()
    }

    /// Looks at all of the evidence. What is not given (a manifest's part, the report data) is not judged.
    pub fn appraise(
        &mut self,
        evidence: &Evidence,
        launch: Option<&Launch<'_>>,
        report_data: Option<&ReportData>,
    ) -> Appraisal {
        self.judge(evidence, launch, report_data, Origin::Anybody)
    }

    fn judge(
        &mut self,
        evidence: &Evidence,
        launch: Option<&Launch<'_>>,
        report_data: Option<&ReportData>,
        origin: Origin,
    ) -> Appraisal {
        let chain = judge(&mut self.chains, &evidence.certificates, &self.anchor, self.time);
        let mut findings = Findings::default();
        findings.certificates(&chain, &self.anchor, &self.rules);
        let report = UnverifiedReport::parse(&evidence.report);
        findings.format(&report, origin);
        let report = report.ok();
        let leaf = chain.leaf.as_ref();
        // What says of what silicon it is must not be shown in another's layout, known or not.
        let product = match report.as_ref().and_then(|report| report.cpuid) {
            Some(cpuid) => cpuid.product(),
            None => leaf.map(|leaf| leaf.endorsement.product),
        };
        let required = report
            .as_ref()
            .and_then(|report| report.cpuid)
            .and_then(|cpuid| requirements(&self.rules, cpuid));
        let low = match (&report, &required) {
            (Some(report), Some(required)) => shortfalls(report, product, required),
            _ => Vec::new(),
        };
        // Of a report that may mean something else, nothing is said.
        if let Some(report) = report.as_ref().filter(|report| origin == Origin::Own || report.is_known()) {
            let rules = &self.rules;
            let subject = Subject { report, product, leaf, rules, required, shortfalls: &low };
            findings.signature(&subject);
            findings.platform(&subject);
            findings.guest(&subject);
            findings.chip(&subject, launch);
            if let Some(launch) = launch {
                findings.launch(&subject, launch);
            }
            if let Some(expected) = report_data {
                let found = ReportData(report.report_data);
                findings.add(Check::ReportData, found == *expected, expected, found);
            }
        }
        Appraisal {
            findings: findings.sorted(),
            report,
            shortfalls: low,
            product,
            simulated: !self.anchor.is_amd(),
        }
    }
}

/// Whose secure processor made a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The one that the verifier runs on.
    Own,
    /// Any.
    Anybody,
}

/// The judgement on these certificates, from memory if they were seen before. Only good ones are remembered, so that what
/// strangers send takes no lasting room; the oldest is forgotten first.
fn judge(
    chains: &mut Vec<(Certificates, Arc<Chain>)>,
    certificates: &Certificates,
    anchor: &TrustAnchor,
    time: Time,
) -> Arc<Chain> {
    if let Some((_, chain)) = chains.iter().find(|(known, _)| known == certificates) {
        return Arc::clone(chain);
    }
    let chain = Arc::new(Chain::judge(certificates, anchor, time));
    if chain.is_good() {
        if chains.len() >= MAX_CHAINS {
            chains.remove(0);
        }
        chains.push((certificates.clone(), Arc::clone(&chain)));
    }
    chain
}

impl Appraisal {
    /// Whether every check that was made holds.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.ok)
    }

    fn into_verified(self) -> Result<VerifiedReport, Refusal> {
        match (self.report, Refusal::among(self.findings)) {
            (Some(report), None) => Ok(VerifiedReport(report)),
            (_, refusal) => Err(refusal.unwrap_or_default()),
        }
    }
}

impl VerifiedReport {
    /// The code that the guest was launched with.
    pub fn measurement(&self) -> Measurement {
        self.0.measurement
    }

    /// The chip that the guest runs on; zero if the rules let it hide.
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.0.chip_id
    }

    /// The guest instance: another one after each launch.
    pub fn report_id(&self) -> &[u8; 32] {
        &self.0.report_id
    }

    /// All of the report.
    pub fn fields(&self) -> &UnverifiedReport {
        &self.0
    }
}
