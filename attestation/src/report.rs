//! The attestation report (56860, table of `ATTESTATION_REPORT`), read from the bytes received.
//!
//! Reading is not accepting. Firmware counts the version up when it adds a field, and has moved none so far: so a report of
//! a later version than [`LATEST_VERSION`] can be read, as far as it says what earlier ones do. For what its own secure
//! processor says, an enclave needs no more. Of anybody else's, [`crate::Verifier`] refuses a version that it does not know.

use core::fmt;

use sha2::{Digest, Sha384};

use postern_shared::{
    ids::Measurement,
    snp::{Cpuid, FirmwareVersion, RawTcb},
};

use crate::{
    error::ReportError,
    layout::{array, first_non_zero, u32_at, u64_at},
};

/// Length of a report.
pub const REPORT_LEN: usize = 0x4A0;
/// How many of its bytes are signed.
pub const SIGNED_LEN: usize = 0x2A0;
/// ECDSA P-384 with SHA-384 (56860, table of signing algorithms).
pub(crate) const ECDSA_P384_SHA384: u32 = 1;
/// The first version with all fields that every reader needs.
pub(crate) const FIRST_VERSION: u32 = 2;
/// The last version of which every bit is known.
pub const LATEST_VERSION: u32 = 5;
/// Policy bits 63:26 are reserved.
const POLICY_RESERVED: u64 = !0 << 26;
/// Key flags 31:5 are reserved.
const KEY_FLAGS_RESERVED: u32 = !0 << 5;

/// The guest policy that the host launched the guest with and the firmware enforces (56860, guest policy
/// structure).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Bit 17, which must be one.
    pub const RESERVED_ONE: u64 = 1 << 17;
    /// Bit 18: a migration agent may copy the guest elsewhere.
    pub const MIGRATE_MA: u64 = 1 << 18;
    /// Bit 19: the host may read and write the guest's memory.
    pub const DEBUG: u64 = 1 << 19;
    /// Bit 21: devices on a CXL bus may reach the guest's memory.
    pub const CXL: u64 = 1 << 21;

    /// Lowest ABI version, major and minor, of the firmware that the guest may run on.
    pub const fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }
}

impl fmt::Display for GuestPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Which key signed a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKey {
    /// Versioned Chip Endorsement Key: belongs to one chip.
    Vcek,
    /// Versioned Loaded Endorsement Key: belongs to a cloud provider, works on any of its chips.
    Vlek,
    /// No key: the signature is zero.
    None,
    /// A number that the specification reserves.
    Reserved(u8),
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcek => f.write_str("VCEK"),
            Self::Vlek => f.write_str("VLEK"),
            Self::None => f.write_str("no key"),
            Self::Reserved(number) => write!(f, "reserved key {number}"),
        }
    }
}

/// How the report is signed, and whether an ID block has an author (offset 0x48).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFlags(pub u32);

impl KeyFlags {
    /// Whether the author key digest means anything.
    pub const fn author_key(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the firmware was told to leave reports unsigned.
    pub const fn mask_chip_key(self) -> bool {
        self.0 & 2 != 0
    }

    /// The key that signed.
    pub const fn signing_key(self) -> SigningKey {
        match (self.0 >> 2) & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            number => SigningKey::Reserved(number as u8),
        }
    }
}

/// A report whose form is right. Nobody has checked who signed it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedReport {
    /// Version of the report: 2 or later.
    pub version: u32,
    /// Security version of the guest, from its ID block.
    pub guest_svn: u32,
    /// What the guest allows its host.
    pub policy: GuestPolicy,
    /// Family id of the guest's ID block.
    pub family_id: [u8; 16],
    /// Image id of the guest's ID block.
    pub image_id: [u8; 16],
    /// Privilege level that asked; 0xFFFFFFFF if the host did.
    pub vmpl: u32,
    /// TCB in use.
    pub current_tcb: RawTcb,
    /// Platform information, bit by bit as in the specification.
    pub platform_info: u64,
    /// How the report is signed.
    pub key_flags: KeyFlags,
    /// What the guest wants to be known.
    pub report_data: [u8; 64],
    /// Launch digest.
    pub measurement: Measurement,
    /// What the host gave at launch.
    pub host_data: [u8; 32],
    /// SHA-384 of the key that signed the ID block.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the author's key.
    pub author_key_digest: [u8; 48],
    /// Number of this guest instance.
    pub report_id: [u8; 32],
    /// Report id of the migration agent; all ones if there is none.
    pub report_id_ma: [u8; 32],
    /// TCB that the VCEK was derived from.
    pub reported_tcb: RawTcb,
    /// Silicon; none before version 3.
    pub cpuid: Option<Cpuid>,
    /// Number of the chip; zero if masked.
    pub chip_id: [u8; 64],
    /// TCB below which the platform can't go back.
    pub committed_tcb: RawTcb,
    /// Firmware in use.
    pub current_firmware: FirmwareVersion,
    /// Firmware below which the platform can't go back.
    pub committed_firmware: FirmwareVersion,
    /// TCB at launch.
    pub launch_tcb: RawTcb,
    /// Mitigations at launch; none before version 5.
    pub launch_mitigations: Option<u64>,
    /// Mitigations now; none before version 5.
    pub current_mitigations: Option<u64>,
    /// Algorithm of the signature; 1 is ECDSA P-384 with SHA-384.
    pub signature_algorithm: u32,
    /// Place of the first byte that is reserved up to version 5 and not zero, or of a field with such bits: in a later
    /// firmware they may mean anything. The bytes after the signed part count too, so that a report can't carry anything
    /// else.
    pub reserved: Option<usize>,
    /// SHA-384 over the signed bytes as received: never over an encoding of our own, which would hide what we
    /// don't know.
    pub(crate) signed_digest: [u8; 48],
    /// `r` of the signature, big-endian.
    pub(crate) signature_r: [u8; 48],
    /// `s` of the signature, big-endian.
    pub(crate) signature_s: [u8; 48],
}

impl UnverifiedReport {
    /// Reads a report.
    ///
    /// It is malleable as every ECDSA signature is: compare [`Self::signed_digest`], not whole reports.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let found = bytes.len();
        if found != REPORT_LEN {
            return Err(ReportError::Length { expected: REPORT_LEN, found });
        }
        // The length is known now, so a field can't be missing.
        Self::read(bytes).ok_or(ReportError::Length { expected: REPORT_LEN, found })?
    }

    /// Whether every bit of such a report is known. Of a later one, some may mean what only later code understands.
    pub const fn is_known(&self) -> bool {
        self.version <= LATEST_VERSION
    }

    /// SHA-384 over the signed bytes, as received: the report's name.
    pub fn signed_digest(&self) -> &[u8; 48] {
        &self.signed_digest
    }

    fn read(bytes: &[u8]) -> Option<Result<Self, ReportError>> {
        let version = u32_at(bytes, 0x000)?;
        if version < FIRST_VERSION {
            return Some(Err(ReportError::Version { found: version }));
        }
        let policy = u64_at(bytes, 0x008)?;
        let key_flags = u32_at(bytes, 0x048)?;
        let [family, model, stepping] = array(bytes, 0x188)?;
        let mitigations = |offset| if version >= 5 { u64_at(bytes, offset).map(Some) } else { Some(None) };
        Some(Ok(Self {
            version,
            guest_svn: u32_at(bytes, 0x004)?,
            policy: GuestPolicy(policy),
            family_id: array(bytes, 0x010)?,
            image_id: array(bytes, 0x020)?,
            vmpl: u32_at(bytes, 0x030)?,
            current_tcb: RawTcb(array(bytes, 0x038)?),
            platform_info: u64_at(bytes, 0x040)?,
            key_flags: KeyFlags(key_flags),
            report_data: array(bytes, 0x050)?,
            measurement: Measurement(array(bytes, 0x090)?),
            host_data: array(bytes, 0x0C0)?,
            id_key_digest: array(bytes, 0x0E0)?,
            author_key_digest: array(bytes, 0x110)?,
            report_id: array(bytes, 0x140)?,
            report_id_ma: array(bytes, 0x160)?,
            reported_tcb: RawTcb(array(bytes, 0x180)?),
            cpuid: (version >= 3).then_some(Cpuid { family, model, stepping }),
            chip_id: array(bytes, 0x1A0)?,
            committed_tcb: RawTcb(array(bytes, 0x1E0)?),
            current_firmware: firmware(bytes, 0x1E8)?,
            committed_firmware: firmware(bytes, 0x1EC)?,
            launch_tcb: RawTcb(array(bytes, 0x1F0)?),
            launch_mitigations: mitigations(0x1F8)?,
            current_mitigations: mitigations(0x200)?,
            signature_algorithm: u32_at(bytes, 0x034)?,
            reserved: reserved(bytes, version, policy, key_flags),
            signed_digest: Sha384::digest(bytes.get(..SIGNED_LEN)?).into(),
            signature_r: big_endian(bytes, 0x2A0)?,
            signature_s: big_endian(bytes, 0x2E8)?,
        }))
    }
}

/// Place of the first reserved byte or field that is not zero.
fn reserved(bytes: &[u8], version: u32, policy: u64, key_flags: u32) -> Option<usize> {
    if policy & POLICY_RESERVED != 0 {
        return Some(0x008);
    }
    if key_flags & KEY_FLAGS_RESERVED != 0 {
        return Some(0x048);
    }
    // Version 2 has no CPUID, versions before 5 no mitigation vectors: those bytes are reserved there. What version 4 has
    // more than 3 is reserved here: such a report is refused if it uses it.
    let after_reported_tcb = if version >= 3 { 0x18B } else { 0x188 };
    let after_launch_tcb = if version >= 5 { 0x208 } else { 0x1F8 };
    [
        (0x04C, 0x050),
        (after_reported_tcb, 0x1A0),
        (0x1EB, 0x1EC),
        (0x1EF, 0x1F0),
        (after_launch_tcb, SIGNED_LEN),
        // Each of r and s has 72 bytes for its 48; behind them nothing is signed.
        (0x2D0, 0x2E8),
        (0x318, REPORT_LEN),
    ]
    .into_iter()
    .find_map(|(start, end)| first_non_zero(bytes, start, end))
}

/// A version in the report's order: build, minor, major.
fn firmware(bytes: &[u8], offset: usize) -> Option<FirmwareVersion> {
    let [build, minor, major] = array(bytes, offset)?;
    Some(FirmwareVersion { major, minor, build })
}

/// Half a signature: 48 bytes, little-endian in the report.
fn big_endian(bytes: &[u8], offset: usize) -> Option<[u8; 48]> {
    let mut half: [u8; 48] = array(bytes, offset)?;
    half.reverse();
    Some(half)
}
