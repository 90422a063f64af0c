//! What came of checking evidence.

use alloc::{string::String, vec::Vec};
use core::fmt;

use postern_shared::check::{Check, Decider};

/// What came of one check. The texts hold nothing secret, and nothing of a stranger's but numbers and escaped names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub check: Check,
    /// Whether it holds.
    pub ok: bool,
    /// What the verifier wanted.
    pub expected: String,
    /// What the evidence has.
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.check, self.expected, self.found)
    }
}

/// Evidence that is refused, with every check that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    failed: Vec<Finding>,
}

impl Refusal {
    /// The failures among findings, if there are any.
    pub(crate) fn among(findings: Vec<Finding>) -> Option<Self> {
        let failed: Vec<Finding> = findings.into_iter().filter(|finding| !finding.ok).collect();
        (!failed.is_empty()).then_some(Self { failed })
    }

    /// All that failed, in the order of [`Check`].
    pub fn failed(&self) -> &[Finding] {
        &self.failed
    }

    /// Whether a check failed.
    pub fn names(&self, check: Check) -> bool {
        self.failed.iter().any(|finding| finding.check == check)
    }

    /// Whether this proves that the prover is not acceptable: nobody else can have made this evidence, nor spoilt it.
    /// `known_issuers` says whether the certificates above the leaf are those that the prover was accepted with.
    ///
    /// One failure that anybody can bring about is enough to prove nothing: without a list that its verifier wants, say,
    /// all may be forged with an intermediate's key that leaked and was revoked.
    pub fn convicts(&self, known_issuers: bool) -> bool {
        let concerns_it = |finding: &Finding| match finding.check.decided_by() {
            Decider::Prover => true,
            Decider::Root => known_issuers,
            Decider::Anybody => false,
        };
        !self.failed.is_empty() && self.failed.iter().all(concerns_it)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, finding) in self.failed.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{finding}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Refusal {}
