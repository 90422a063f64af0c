//! What the enclave needs from the machine that it runs on: no clock, no network, no disk.

use core::fmt;
use postern_attestation::{ReportData, ReportError, TrustAnchor};
use postern_shared::snp::RawTcb;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The hardware below the core.
///
/// The trust anchor comes from here and not from a flag, so that a simulated machine runs the production verifier, and
/// production code can't end up trusting a simulated root.
pub trait Platform {
    /// Asks for an attestation report over `data` at VMPL 0: the 1184 bytes as the secure processor returns them.
    fn report(&mut self, data: &ReportData) -> Result<Vec<u8>, PlatformError>;

    /// Derives a key that only this guest on this chip can have: the same request gives the same key again, after a
    /// restart of the guest and of the machine too.
    ///
    /// The root is the chip's VCEK, at VMPL 0 (56860, `MSG_KEY_REQ` version 1: no mitigation vector). Never the VMRK:
    /// that one is new for each launch. The firmware mixes `HOST_DATA` in, whatever the request selects.
    fn derive_key(&mut self, request: &KeyRequest) -> Result<DerivedKey, PlatformError>;

    /// Fills `out` with randomness fit for long-lived keys.
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), PlatformError>;

    /// The root certificates by which peers' reports are judged.
    fn trust_anchor(&self) -> &TrustAnchor;

    /// Whether no request will reach the secure processor any more: only another VM has a way to it.
    fn is_lost(&self) -> bool {
        false
    }
}

/// Which key to derive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRequest {
    /// What else tells this guest's key from another's.
    pub fields: KeyFields,
    /// Security version to derive at, at most that of the guest's ID block (0 without one). Only in the key if selected.
    pub guest_svn: u32,
    /// TCB to derive at, at most the committed one in any component. Only in the key if selected.
    pub tcb: RawTcb,
}

impl KeyRequest {
    /// Refuses a TCB above the committed one. The firmware would answer it with an error or with zeros, which says less.
    ///
    /// Byte by byte: each component is one byte in every product line's layout, and the rest is zero.
    pub fn check_tcb(&self, committed: RawTcb) -> Result<(), PlatformError> {
        let requested = self.tcb;
        let above = requested.0.iter().zip(&committed.0).any(|(requested, committed)| requested > committed);
        if above { Err(PlatformError::TcbNotCommitted { requested, committed }) } else { Ok(()) }
    }
}

/// What the firmware mixes into a derived key (56860, `GUEST_FIELD_SELECT`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyFields {
    /// The guest policy, which the launch measurement does not cover.
    pub policy: bool,
    /// The ID block's image id.
    pub image_id: bool,
    /// The ID block's family id.
    pub family_id: bool,
    /// The launch measurement.
    pub measurement: bool,
    /// The request's security version.
    pub guest_svn: bool,
    /// The request's TCB.
    pub tcb: bool,
}

impl KeyFields {
    /// The bits of the request.
    pub fn bits(self) -> u64 {
        let Self { policy, image_id, family_id, measurement, guest_svn, tcb } = self;
        let fields = [policy, image_id, family_id, measurement, guest_svn, tcb];
        fields.into_iter().rev().fold(0, |bits, field| bits << 1 | u64::from(field))
    }
}

/// A key from the secure processor. Wiped on drop; run it through a KDF with a label for each use.
///
/// Boxed: whoever has it moves a pointer, and leaves no copies where it was.
pub struct DerivedKey(Box<Zeroizing<[u8; 32]>>);

impl DerivedKey {
    /// What the firmware answered, written where it will stay; unless it is no key: some firmware answers a bad request
    /// with zeros.
    pub fn from_firmware(
        answer: impl FnOnce(&mut [u8; 32]) -> Result<(), PlatformError>,
    ) -> Result<Self, PlatformError> {
        let mut key = Box::new(Zeroizing::new([0; 32]));
        answer(&mut key)?;
        if bool::from(key.ct_eq(&[0; 32])) { Err(PlatformError::ZeroKey) } else { Ok(Self(key)) }
    }

    /// The secret.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DerivedKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DerivedKey").finish_non_exhaustive()
    }
}

/// Why the machine could not answer.
///
/// A `status` is the word with which a request to the firmware ends (`SW_EXITINFO2` of the GHCB specification): the
/// firmware's in its low half, the host's in its high half.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The secure processor refused or failed.
    #[error("the secure processor gave no report (firmware status {status:#x})")]
    Report {
        /// The status word of the firmware.
        status: u64,
    },
    /// What the secure processor gave is no report.
    #[error("the secure processor gave something else than a report: {0}")]
    ReportForm(#[from] ReportError),
    /// The secure processor refused or failed.
    #[error("the secure processor derived no key (firmware status {status:#x})")]
    Key {
        /// The status word of the firmware.
        status: u64,
    },
    /// The secure processor answered with zeros.
    #[error("the secure processor gave zeros for a key")]
    ZeroKey,
    /// A key for a TCB that this machine could still be rolled back below.
    #[error("a key was asked for at TCB {requested}, above the committed {committed}")]
    TcbNotCommitted {
        /// The request's.
        requested: RawTcb,
        /// The machine's.
        committed: RawTcb,
    },
    /// The request did not reach the secure processor.
    #[error("the request reached no secure processor")]
    Unreachable,
    /// No randomness could be had.
    #[error("the machine gave no randomness")]
    Randomness,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(tcb: [u8; 8]) -> KeyRequest {
        KeyRequest { fields: KeyFields::default(), guest_svn: 0, tcb: RawTcb(tcb) }
    }

    #[test]
    fn fields_have_the_specified_bits() {
        let none = KeyFields::default();
        for (fields, bits) in [
            (none, 0),
            (KeyFields { policy: true, ..none }, 1 << 0),
            (KeyFields { image_id: true, ..none }, 1 << 1),
            (KeyFields { family_id: true, ..none }, 1 << 2),
            (KeyFields { measurement: true, ..none }, 1 << 3),
            (KeyFields { guest_svn: true, ..none }, 1 << 4),
            (KeyFields { tcb: true, ..none }, 1 << 5),
            (KeyFields { policy: true, measurement: true, tcb: true, ..none }, 0b10_1001),
        ] {
            assert_eq!(fields.bits(), bits, "{fields:?}");
        }
    }

    #[test]
    fn a_tcb_is_committed_if_every_component_is() {
        let committed = RawTcb([10, 1, 0, 0, 0, 0, 27, 86]);
        for below in [[10, 1, 0, 0, 0, 0, 27, 86], [0; 8], [10, 0, 0, 0, 0, 0, 27, 85]] {
            assert_eq!(request(below).check_tcb(committed), Ok(()));
        }
        // One component too high, however low the others are; and reserved bytes.
        for above in
            [[11, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 87], [0, 0, 1, 0, 0, 0, 0, 0], [255; 8]]
        {
            let requested = RawTcb(above);
            let expected = PlatformError::TcbNotCommitted { requested, committed };
            assert_eq!(request(above).check_tcb(committed), Err(expected));
        }
    }

    #[test]
    fn zeros_are_no_key_and_a_key_is_not_shown() {
        assert_eq!(DerivedKey::from_firmware(|_| Ok(())).unwrap_err(), PlatformError::ZeroKey);
        let failed = DerivedKey::from_firmware(|_| Err(PlatformError::Unreachable));
        assert_eq!(failed.unwrap_err(), PlatformError::Unreachable);
        let key = DerivedKey::from_firmware(|key| {
            *key = [0xAB; 32];
            Ok(())
        });
        let key = key.unwrap();
        assert_eq!(key.expose(), &[0xAB; 32]);
        assert_eq!(format!("{key:?}"), "DerivedKey { .. }");
    }
}
