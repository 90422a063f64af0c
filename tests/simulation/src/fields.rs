//! A report before it is bytes: every field may be set, also to what no firmware would report.

use postern_attestation::{REPORT_LEN, ReportData, SIGNED_LEN};
use postern_shared::snp::{Cpuid, RawTcb};

use crate::machine::Machine;

/// The fields of an attestation report (56860, table of `ATTESTATION_REPORT`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // named as in the specification
pub struct ReportFields {
    pub version: u32,
    pub guest_svn: u32,
    pub policy: u64,
    pub family_id: [u8; 16],
    pub image_id: [u8; 16],
    pub vmpl: u32,
    pub signature_algo: u32,
    pub current_tcb: RawTcb,
    pub platform_info: u64,
    /// Bit 0 author key, bit 1 masked chip key, bits 4:2 signing key.
    pub key_flags: u32,
    pub report_data: [u8; 64],
    pub measurement: [u8; 48],
    pub host_data: [u8; 32],
    pub id_key_digest: [u8; 48],
    pub author_key_digest: [u8; 48],
    pub report_id: [u8; 32],
    pub report_id_ma: [u8; 32],
    pub reported_tcb: RawTcb,
    /// Written from version 3 on.
    pub cpuid: Cpuid,
    pub chip_id: [u8; 64],
    pub committed_tcb: RawTcb,
    /// Build, minor, major.
    pub current_firmware: [u8; 3],
    /// Build, minor, major.
    pub committed_firmware: [u8; 3],
    pub launch_tcb: RawTcb,
    /// Written from version 5 on.
    pub launch_mitigations: u64,
    /// Written from version 5 on.
    pub current_mitigations: u64,
    /// Bits to turn over anywhere at last, before signing if they are in the signed part: (offset, bits). Turned over and
    /// not set: what is signed, and where it is, differs from report to report, and may be what one would set already.
    pub flips: Vec<(usize, u8)>,
}

impl ReportFields {
    /// What a well-behaved processor reports of `machine`.
    ///
    /// # Panics
    ///
    /// If the machine's TCB is not one of its product line.
    pub fn honest(machine: &Machine, data: &ReportData) -> Self {
        let tcb =
            machine.tcb.encode(machine.product()).expect("the machine's TCB is one of its product line");
        let (build, mitigations) = machine.firmware();
        Self {
            version: machine.report_version,
            guest_svn: machine.guest_svn,
            policy: machine.policy,
            family_id: machine.family_id,
            image_id: machine.image_id,
            vmpl: 0,
            signature_algo: 1,
            current_tcb: tcb,
            platform_info: machine.platform_info,
            key_flags: 0,
            report_data: data.0,
            measurement: machine.measurement,
            host_data: machine.host_data,
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: machine.report_id(),
            report_id_ma: [0xFF; 32],
            reported_tcb: tcb,
            cpuid: machine.cpuid,
            chip_id: machine.chip_id(),
            committed_tcb: tcb,
            current_firmware: [build, 55, 1],
            committed_firmware: [build, 55, 1],
            launch_tcb: tcb,
            launch_mitigations: mitigations,
            current_mitigations: mitigations,
            flips: Vec::new(),
        }
    }

    /// The report without its signature.
    pub(crate) fn encode(&self) -> [u8; REPORT_LEN] {
        let mut report = [0; REPORT_LEN];
        let mut put =
            |offset: usize, bytes: &[u8]| report[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0x000, &self.version.to_le_bytes());
        put(0x004, &self.guest_svn.to_le_bytes());
        put(0x008, &self.policy.to_le_bytes());
        put(0x010, &self.family_id);
        put(0x020, &self.image_id);
        put(0x030, &self.vmpl.to_le_bytes());
        put(0x034, &self.signature_algo.to_le_bytes());
        put(0x038, &self.current_tcb.0);
        put(0x040, &self.platform_info.to_le_bytes());
        put(0x048, &self.key_flags.to_le_bytes());
        put(0x050, &self.report_data);
        put(0x090, &self.measurement);
        put(0x0C0, &self.host_data);
        put(0x0E0, &self.id_key_digest);
        put(0x110, &self.author_key_digest);
        put(0x140, &self.report_id);
        put(0x160, &self.report_id_ma);
        put(0x180, &self.reported_tcb.0);
        if self.version >= 3 {
            put(0x188, &[self.cpuid.family, self.cpuid.model, self.cpuid.stepping]);
        }
        put(0x1A0, &self.chip_id);
        put(0x1E0, &self.committed_tcb.0);
        put(0x1E8, &self.current_firmware);
        put(0x1EC, &self.committed_firmware);
        put(0x1F0, &self.launch_tcb.0);
        if self.version >= 5 {
            put(0x1F8, &self.launch_mitigations.to_le_bytes());
            put(0x200, &self.current_mitigations.to_le_bytes());
        }
        for &(offset, bits) in self.flips.iter().filter(|(offset, _)| *offset < SIGNED_LEN) {
            report[offset] ^= bits;
        }
        report
    }

    /// Puts the signature (big-endian halves) in place, and turns over bits behind the signed part.
    pub(crate) fn complete(&self, report: &mut [u8; REPORT_LEN], r: &[u8], s: &[u8]) {
        for (offset, half) in [(0x2A0, r), (0x2E8, s)] {
            for (place, byte) in report[offset..].iter_mut().zip(half.iter().rev()) {
                *place = *byte;
            }
        }
        for &(offset, bits) in self.flips.iter().filter(|(offset, _)| *offset >= SIGNED_LEN) {
            report[offset] ^= bits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Machine, Misbehaviour};

    #[test]
    fn a_bad_signature_is_bad_whatever_the_good_one_was() {
        let honest = ReportFields::honest(&Machine::default(), &ReportData([0; 64]));
        let mut lying = honest.clone();
        let mut lies = Misbehaviour::named("bad-signature").expect("there is one").lies();
        lying.report_data = [1; 64];
        lies(&mut lying);
        lies(&mut lying);
        for byte in 0..=u8::MAX {
            let mut reports = [[0; REPORT_LEN]; 2];
            for (fields, report) in [&honest, &lying].into_iter().zip(&mut reports) {
                fields.complete(report, &[byte; 48], &[byte; 48]);
            }
            assert!(reports[0] != reports[1], "{byte:#x}");
        }
    }
}
