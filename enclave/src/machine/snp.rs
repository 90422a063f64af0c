//! The platform of a real SEV-SNP guest: the secure processor behind `/dev/sev-guest`, and the kernel's randomness.
//!
//! Both devices are opened once, before anything else: a guest that may open no files later can still attest. The crate
//! `sev` makes the ioctls and does nothing else for us. In particular it never asks for an extended report, whose
//! certificate table is written by the host and read without bounds; certificates come from the host as ordinary bytes.

use crate::machine::platform::{DerivedKey, KeyRequest, Platform, PlatformError};
use crate::machine::stack;
use postern_attestation::{REPORT_LEN, ReportData, ReportError, TrustAnchor, UnverifiedReport};
use postern_shared::snp::RawTcb;
use sev::error::{FirmwareError, SevError, UserApiError, VmmError};
use sev::firmware::guest::{self, Firmware, GuestFieldSelect};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

/// The guest's way to the secure processor.
const DEVICE: &str = "/dev/sev-guest";
/// The kernel's generator, by file: the one behind `getrandom`, and no crate or `unsafe` is needed for it.
const RANDOM: &str = "/dev/random";
/// Number of that device (major 1, minor 8).
const RANDOM_NUMBER: u64 = 0x108;

/// Version of all messages to the firmware. Version 2 of a key request adds a field that Linux does not pass on.
const MESSAGE_VERSION: Option<u32> = Some(1);
/// The most privileged level, where our kernel runs and what verifiers demand. `sev` would take 1 for none.
const VMPL: u32 = 0;
/// How often a report is asked for that can't be refused before the way to the secure processor is lost.
///
/// The key by which the kernel speaks to it is wiped after most failures, since a number that went into a message must not go
/// into another, and there is no second key (Linux, `snp_disable_vmpck`). While the host holds requests back, the kernel
/// itself asks again, for a minute: then it wipes the key. What passes by itself is a lack of memory.
const PROBES: usize = 3;
/// `sev`'s name for the VCEK as the root of derived keys.
const VCEK: bool = false;

/// Why this machine can't be used.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No device: the kernel has the driver, or it would not have come so far (`enclave/image/kernel`).
    #[error(
        "can't open {DEVICE}: {0}; this machine is no SEV-SNP guest, or the kernel's driver found no secure processor: the lines \
         with sev-guest, SNP or SEV in what the debug image's kernel says have its reason (enclave/image/DEPLOYING.md)"
    )]
    Missing(#[source] io::Error),
    /// A device that can't be opened.
    #[error("can't open {DEVICE}: {0}")]
    Device(#[source] io::Error),
    /// A device that does not work.
    #[error("{DEVICE} does not work: {0}")]
    Report(#[source] PlatformError),
    /// No randomness, or not yet.
    #[error("can't use {RANDOM}: {0}")]
    Random(#[source] io::Error),
    /// Something else lies there.
    #[error("{RANDOM} is not the kernel's device of that name")]
    NotRandom,
}

/// An SEV-SNP guest, seen from inside.
pub struct Snp {
    firmware: Firmware,
    random: File,
    anchor: TrustAnchor,
    lost: bool,
}

impl Snp {
    /// Opens the devices and tries them: one report, one random byte.
    pub fn open() -> Result<Self, StartError> {
        let firmware = Firmware::open().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StartError::Missing(error),
            _ => StartError::Device(error),
        })?;
        let mut snp = Self { firmware, random: open_random()?, anchor: TrustAnchor::amd(), lost: false };
        snp.committed_tcb().map_err(StartError::Report)?;
        Ok(snp)
    }

    /// After a request that failed: by its own fault, or as all after it will?
    fn look_whether_lost(&mut self) {
        let firmware = &mut self.firmware;
        self.lost = is_lost(|| firmware.get_report(MESSAGE_VERSION, Some([0; 64]), Some(VMPL)).is_ok());
    }

    /// The TCB below which this machine can't be rolled back, now: hosts may commit newer firmware at any time. Of a report of
    /// one's own that is a field which every version has in the same place, so a later version does as well.
    fn committed_tcb(&mut self) -> Result<RawTcb, PlatformError> {
        let report = self.report(&ReportData([0; 64]))?;
        Ok(UnverifiedReport::parse(&report)?.committed_tcb)
    }
}

impl Platform for Snp {
    fn report(&mut self, data: &ReportData) -> Result<Vec<u8>, PlatformError> {
        let report = self.firmware.get_report(MESSAGE_VERSION, Some(data.0), Some(VMPL));
        let report = report.map_err(|error| {
            self.look_whether_lost();
            refused(&error, |status| PlatformError::Report { status })
        })?;
        match report.len() {
            REPORT_LEN => Ok(report),
            found => Err(ReportError::Length { expected: REPORT_LEN, found }.into()),
        }
    }

    fn derive_key(&mut self, request: &KeyRequest) -> Result<DerivedKey, PlatformError> {
        request.check_tcb(self.committed_tcb()?)?;
        // `sev` keeps the firmware's answer in its own frame, wipes nothing, and returns the key by value. The request says
        // which key, and is no secret. The kernel's driver wipes its own copies.
        DerivedKey::from_firmware(|key| {
            let taken = stack::take(key, || self.firmware.get_derived_key(MESSAGE_VERSION, message(request)));
            taken.map_err(|error| {
                self.look_whether_lost();
                refused(&error, |status| PlatformError::Key { status })
            })
        })
    }

    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), PlatformError> {
        self.random.read_exact(out).map_err(|_| PlatformError::Randomness)
    }

    fn trust_anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    fn is_lost(&self) -> bool {
        self.lost
    }
}

/// Whether nothing comes of requests that can't be refused.
fn is_lost(mut probe: impl FnMut() -> bool) -> bool {
    !(0..PROBES).any(|_| probe())
}

/// The kernel's generator. Until it is ready it says so, instead of making us wait without a word.
fn open_random() -> Result<File, StartError> {
    let open = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(RANDOM);
    let mut random = open().map_err(StartError::Random)?;
    let metadata = random.metadata().map_err(StartError::Random)?;
    if !metadata.file_type().is_char_device() || metadata.rdev() != RANDOM_NUMBER {
        return Err(StartError::NotRandom);
    }
    random.read_exact(&mut [0]).map_err(StartError::Random)?;
    Ok(random)
}

/// The request as `sev` takes it.
fn message(request: &KeyRequest) -> guest::DerivedKey {
    let fields = GuestFieldSelect(request.fields.bits());
    let tcb = u64::from_le_bytes(request.tcb.0);
    guest::DerivedKey::new(VCEK, fields, VMPL, request.guest_svn, tcb, None)
}

/// `sev`'s error as the status word that it was made of, if there was one.
fn refused(error: &UserApiError, status: impl FnOnce(u64) -> PlatformError) -> PlatformError {
    match error {
        // What `sev` makes of no status at all, or of one that it has no name for.
        UserApiError::FirmwareError(FirmwareError::KnownSevError(SevError::UnknownError))
        | UserApiError::FirmwareError(FirmwareError::UnknownSevError(0)) => PlatformError::Unreachable,
        UserApiError::FirmwareError(FirmwareError::KnownSevError(known)) => status(*known as u32 as u64),
        UserApiError::FirmwareError(FirmwareError::UnknownSevError(unknown)) => status(u64::from(*unknown)),
        UserApiError::VmmError(VmmError::InvalidCertificatePageLength) => status(1 << 32),
        UserApiError::VmmError(VmmError::RateLimitRetryRequest) => status(2 << 32),
        // Among them all ones, which Linux leaves where no firmware was called.
        _ => PlatformError::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::platform::KeyFields;

    #[test]
    fn a_key_request_reaches_the_firmware_as_specified() {
        let fields = KeyFields { policy: true, measurement: true, tcb: true, ..KeyFields::default() };
        let tcb = RawTcb([10, 1, 0, 0, 0, 0, 27, 86]);
        let message = message(&KeyRequest { fields, guest_svn: 7, tcb });
        // 0 is the VCEK, 1 would be the VMRK.
        assert_eq!(message.get_root_key_select(), 0);
        assert_eq!(message.guest_field_select.0, 0b10_1001);
        assert_eq!((message.vmpl, message.guest_svn), (0, 7));
        assert_eq!(message.tcb_version, 0x561B_0000_0000_010A);
        assert_eq!(message.launch_mit_vector, None);
    }

    #[test]
    fn the_firmwares_status_is_kept() {
        let status = |error: UserApiError| refused(&error, |status| PlatformError::Key { status });
        let firmware = |status: u32| UserApiError::from(FirmwareError::from(status));
        for code in (0x01..=0x1D).chain(0x1F..=0x26).chain([0x27, 0x28, 0xFFFF]) {
            assert_eq!(status(firmware(code)), PlatformError::Key { status: code.into() }, "{code:#x}");
        }
        for (host, code) in [(1_u32, 1_u64 << 32), (2, 2 << 32)] {
            assert_eq!(status(VmmError::from(host).into()), PlatformError::Key { status: code });
        }
        let nothing = [
            FirmwareError::UnknownSevError(0).into(),
            VmmError::from(u32::MAX).into(),
            UserApiError::Unknown,
        ];
        for error in nothing {
            assert_eq!(status(error), PlatformError::Unreachable);
        }
    }

    #[test]
    fn a_fault_passes_if_anything_comes_after_it() {
        let after = |answers: &[bool]| {
            let mut answers = answers.iter();
            let lost = is_lost(|| *answers.next().expect("no more than three"));
            (lost, answers.len())
        };
        assert_eq!(after(&[true]), (false, 0));
        assert_eq!(after(&[false, true, false]), (false, 1));
        assert_eq!(after(&[false, false, true]), (false, 0));
        assert_eq!(after(&[false, false, false]), (true, 0));
    }

    #[test]
    fn the_kernel_gives_randomness_of_any_length() {
        let mut random = open_random().unwrap();
        let (mut one, mut two) = (vec![0; 100_000], vec![0; 100_000]);
        random.read_exact(&mut one).unwrap();
        random.read_exact(&mut two).unwrap();
        assert_ne!(one, two);
        // Filled to the end.
        assert_ne!(one[99_968..], [0; 32]);
        random.read_exact(&mut []).unwrap();
    }
}
