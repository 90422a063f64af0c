//! Machines that lie: each in one way, to others only.

use crate::ReportFields;
use postern_shared::check::Check;

/// One way for a machine to be unacceptable, and the check that finds it.
#[derive(Debug, Clone, Copy)]
pub struct Misbehaviour {
    name: &'static str,
    check: Check,
    change: fn(&mut ReportFields),
}

impl PartialEq for Misbehaviour {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Misbehaviour {}

impl Misbehaviour {
    /// All that there are.
    pub const ALL: [Self; 12] = [
        Self::new("debug-policy", Check::GuestPolicy, |fields| fields.policy |= 1 << 19),
        Self::new("migration-policy", Check::GuestPolicy, |fields| fields.policy |= 1 << 18),
        Self::new("vmpl-1", Check::Vmpl, |fields| fields.vmpl = 1),
        Self::new("other-measurement", Check::Measurement, |fields| fields.measurement[0] ^= 1),
        Self::new("other-host-data", Check::HostData, |fields| fields.host_data[0] ^= 1),
        Self::new("old-tcb", Check::LeafTcb, |fields| fields.reported_tcb.0[7] -= 1),
        Self::new("provisional-firmware", Check::FirmwareCommitted, |fields| {
            fields.committed_firmware[0] -= 1;
        }),
        Self::new("no-alias-check", Check::PlatformInfo, |fields| fields.platform_info &= !(1 << 5)),
        Self::new("masked-chip-id", Check::ChipId, |fields| fields.chip_id = [0; 64]),
        Self::new("migration-agent", Check::MigrationAgent, |fields| fields.report_id_ma = [0; 32]),
        Self::new("other-report-data", Check::ReportData, |fields| fields.report_data[0] ^= 1),
        // Behind what is signed: the first byte of `r`.
        Self::new("bad-signature", Check::ReportSignature, |fields| fields.flips.push((0x2A0, 0x5A))),
    ];

    const fn new(name: &'static str, check: Check, change: fn(&mut ReportFields)) -> Self {
        Self { name, check, change }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The check that finds it; others may, too.
    pub fn expected_check(&self) -> Check {
        self.check
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name == name)
    }

    /// Changes reports for others. The enclave looks at its own evidence before it starts, and a machine that could not
    /// pass that would meet nobody: so the first report over anything is honest, and those over zeros always are.
    pub fn lies(self) -> impl FnMut(&mut ReportFields) + Send + 'static {
        let mut looked_at_itself = false;
        move |fields| {
            if fields.report_data != [0; 64] && std::mem::replace(&mut looked_at_itself, true) {
                (self.change)(fields);
            }
        }
    }
}
