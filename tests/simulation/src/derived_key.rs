//! Keys that the firmware derives for its guest (56860, `MSG_KEY_REQ` version 1).

use crate::machine::Machine;
use postern_enclave::platform::{DerivedKey, KeyRequest, PlatformError};
use postern_shared::snp::RawTcb;
use sha2::{Digest, Sha256};

/// `INVALID_PARAM` of the firmware.
const INVALID_PARAM: u64 = 0x16;

/// How a processor answers requests for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAnswer {
    /// As the specification says.
    Honest,
    /// With this firmware status.
    Status(u64),
    /// With success and zeros, as some firmware answers a TCB that is too high.
    Zeros,
}

/// What the processor of `machine` answers.
pub(crate) fn derive(
    machine: &Machine,
    request: &KeyRequest,
    answer: KeyAnswer,
) -> Result<DerivedKey, PlatformError> {
    let committed =
        machine.tcb.encode(machine.product()).expect("the machine's TCB is one of its product line");
    request.check_tcb(committed)?;
    match answer {
        KeyAnswer::Honest if request.guest_svn > machine.guest_svn => {
            Err(PlatformError::Key { status: INVALID_PARAM })
        }
        KeyAnswer::Honest => DerivedKey::from_firmware(|answer| {
            *answer = key(machine, request);
            Ok(())
        }),
        KeyAnswer::Status(status) => Err(PlatformError::Key { status }),
        KeyAnswer::Zeros => DerivedKey::from_firmware(|_| Ok(())),
    }
}

/// SHA-256 over the chip's secret, `HOST_DATA`, and the selected fields; the others count as zeros.
fn key(machine: &Machine, request: &KeyRequest) -> [u8; 32] {
    let KeyRequest { fields, guest_svn, tcb: RawTcb(tcb) } = *request;
    let selected = |select: bool, value: &[u8]| if select { value.to_vec() } else { vec![0; value.len()] };
    Sha256::new()
        .chain_update(b"postern-simulation-derived-key")
        .chain_update(machine.chip_seed)
        .chain_update(machine.product().name())
        .chain_update(fields.bits().to_le_bytes())
        .chain_update(machine.host_data)
        .chain_update(selected(fields.policy, &machine.policy.to_le_bytes()))
        .chain_update(selected(fields.image_id, &machine.image_id))
        .chain_update(selected(fields.family_id, &machine.family_id))
        .chain_update(selected(fields.measurement, &machine.measurement))
        .chain_update(selected(fields.guest_svn, &guest_svn.to_le_bytes()))
        .chain_update(selected(fields.tcb, &tcb))
        .finalize()
        .into()
}
