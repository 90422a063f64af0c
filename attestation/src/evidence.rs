//! Report and chain together: who signed, and is it what the verifier wants?

use crate::{
    anchor::TrustAnchor,
    binding::ReportData,
    chain::{CertificateChain, VerifiedChain},
    error::{EvidenceError, Hex, Mismatch},
    product::{Cpuid, Product},
    report::{Measurement, SigningKey, UnverifiedReport},
    signature::p384_verifies,
    tcb::{RawTcb, TcbVersion},
};

/// What a verifier demands of a peer's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// All 64 bytes: identity, both members, manifest, nonce (see [`crate::Binding`]).
    pub report_data: ReportData,
    /// Acceptable code. An empty list accepts nothing.
    pub measurements: &'a [Measurement],
    /// What the host must have given at launch: which DAO the enclave was started for.
    pub host_data: [u8; 32],
    /// The member's own machine.
    pub chip_id: [u8; 64],
}

/// A report that the chip of a verified chain signed. It may still be that of a debug guest, or of other
/// code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticReport {
    report: UnverifiedReport,
    product: Product,
    reported_tcb: TcbVersion,
    current_tcb: TcbVersion,
    committed_tcb: TcbVersion,
    launch_tcb: TcbVersion,
}

/// A report that met all that its verifier expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReport {
    report: AuthenticReport,
    cpuid: Cpuid,
}

/// Judges a peer's evidence; `at` is a time in unix seconds, if one is known.
pub fn verify(
    report: &[u8],
    chain: &CertificateChain,
    anchor: &TrustAnchor,
    expected: &Expected<'_>,
    at: Option<u64>,
) -> Result<VerifiedReport, EvidenceError> {
    let report = UnverifiedReport::parse(report)?;
    VerifiedChain::verify(chain, anchor, at)?.authenticate(report)?.accept(expected)
}

impl VerifiedChain {
    /// Checks that this chain's chip, at this chain's TCB, signed the report.
    pub fn authenticate(&self, report: UnverifiedReport) -> Result<AuthenticReport, EvidenceError> {
        let found = report.key_flags.signing_key();
        if found != SigningKey::Vcek {
            return Err(EvidenceError::SigningKey { expected: SigningKey::Vcek, found });
        }
        if report.key_flags.mask_chip_key() {
            return Err(EvidenceError::ChipKeyMasked);
        }
        if !p384_verifies(&self.key, &report.signed_digest, &report.signature_r, &report.signature_s) {
            return Err(EvidenceError::Signature);
        }

        let product = self.product();
        if let Some(cpuid) = report.cpuid {
            let found = cpuid.product().ok_or(EvidenceError::UnknownProcessor { cpuid })?;
            if found != product {
                return Err(EvidenceError::Product { expected: product, found });
            }
        }
        if report.chip_id == [0; 64] {
            return Err(EvidenceError::ChipIdMasked);
        }
        if report.chip_id != *self.chip_id() {
            return Err(EvidenceError::HardwareId(Mismatch::boxed(
                Hex(*self.chip_id()),
                Hex(report.chip_id),
            )));
        }
        let decode = |field, raw: RawTcb| {
            raw.decode(product).ok_or(EvidenceError::TcbReserved { field, product, found: raw })
        };
        let reported_tcb = decode("reported", report.reported_tcb)?;
        if reported_tcb != self.tcb() {
            return Err(EvidenceError::ReportedTcb { expected: self.tcb(), found: report.reported_tcb });
        }
        Ok(AuthenticReport {
            product,
            reported_tcb,
            current_tcb: decode("current", report.current_tcb)?,
            committed_tcb: decode("committed", report.committed_tcb)?,
            launch_tcb: decode("launch", report.launch_tcb)?,
            report,
        })
    }
}

impl AuthenticReport {
    /// Holds the report against what its verifier expects.
    pub fn accept(self, expected: &Expected<'_>) -> Result<VerifiedReport, EvidenceError> {
        let report = &self.report;
        let cpuid = report.cpuid.ok_or(EvidenceError::NoCpuid { version: report.version })?;
        if report.vmpl != 0 {
            return Err(EvidenceError::Vmpl { expected: 0, found: report.vmpl });
        }
        let policy = report.policy;
        if !policy.reserved_one() {
            return Err(EvidenceError::PolicyReservedOne { found: policy.0 });
        }
        if policy.debug_allowed() {
            return Err(EvidenceError::DebugAllowed { found: policy.0 });
        }
        if policy.migration_allowed() {
            return Err(EvidenceError::MigrationAllowed { found: policy.0 });
        }
        if !expected.measurements.contains(&report.measurement) {
            let (expected, found) = (expected.measurements.into(), report.measurement);
            return Err(EvidenceError::Measurement { expected, found });
        }
        if report.host_data != expected.host_data {
            return Err(EvidenceError::HostData(Mismatch::boxed(
                Hex(expected.host_data),
                Hex(report.host_data),
            )));
        }
        if report.chip_id != expected.chip_id {
            return Err(EvidenceError::ChipId(Mismatch::boxed(Hex(expected.chip_id), Hex(report.chip_id))));
        }
        let found = ReportData(report.report_data);
        if found != expected.report_data {
            return Err(EvidenceError::ReportData(Mismatch::boxed(expected.report_data, found)));
        }
        Ok(VerifiedReport { cpuid, report: self })
    }

    /// The report's fields, as the chip signed them.
    pub fn fields(&self) -> &UnverifiedReport {
        &self.report
    }

    /// Product line of the chip.
    pub fn product(&self) -> Product {
        self.product
    }

    /// TCB that the signing key was derived from; the host may set it lower than the current one.
    pub fn reported_tcb(&self) -> TcbVersion {
        self.reported_tcb
    }

    /// TCB in use.
    pub fn current_tcb(&self) -> TcbVersion {
        self.current_tcb
    }

    /// TCB below which the platform can't go back.
    pub fn committed_tcb(&self) -> TcbVersion {
        self.committed_tcb
    }

    /// TCB when the guest was launched.
    pub fn launch_tcb(&self) -> TcbVersion {
        self.launch_tcb
    }
}

impl VerifiedReport {
    /// The code that the guest was launched with.
    pub fn measurement(&self) -> Measurement {
        self.report.report.measurement
    }

    /// The chip that the guest runs on.
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.report.report.chip_id
    }

    /// The guest instance: another one after each launch.
    pub fn report_id(&self) -> &[u8; 32] {
        &self.report.report.report_id
    }

    /// What the host gave at launch.
    pub fn host_data(&self) -> &[u8; 32] {
        &self.report.report.host_data
    }

    /// What the guest bound itself to.
    pub fn report_data(&self) -> ReportData {
        ReportData(self.report.report.report_data)
    }

    /// TCB that the signing key was derived from.
    pub fn reported_tcb(&self) -> TcbVersion {
        self.report.reported_tcb
    }

    /// Product line of the chip.
    pub fn product(&self) -> Product {
        self.report.product
    }

    /// Silicon: TCB floors are kept by it, not by product line.
    pub fn cpuid(&self) -> Cpuid {
        self.cpuid
    }

    /// All of the report, for rules that come on top.
    pub fn authentic(&self) -> &AuthenticReport {
        &self.report
    }
}
