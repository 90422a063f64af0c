//! Sealing: how state leaves the enclave so that only the same enclave can read it again.
//!
//! Two steps. The **log key**, drawn once, seals the records. The **slot** seals the log key to this measured build under
//! this guest policy on this chip: its key is derived by the secure processor, which also mixes in `HOST_DATA`, so the
//! DAO. A firmware update costs one new slot and leaves the log as it is. Another build that takes over is given the key to
//! read the log, and writes a log of its own, under a key that the build before never has.
//!
//! # Nonces
//! Every sealing has a key of its own: HKDF-SHA256 of log key or derived key, salted with 32 fresh random bytes, over the
//! purpose and the whole header. So the nonce is always zero, and no key and nonce ever meet twice: not after a restart,
//! not after a rollback, not in two enclaves that run from the same records.
//!
//! # The TCB
//! The slot names, in clear and authenticated, the TCB that its key was derived at. Later firmware derives it too; once it
//! is committed, the next slot is sealed at the new one.

use crate::crypto::secret::SecretBytes;
use crate::machine::platform::{KeyFields, KeyRequest, Platform, PlatformError};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Nonce, Payload};
use hkdf::Hkdf;
use postern_attestation::{ReportData, UnverifiedReport};
use postern_shared::codec;
use postern_shared::ids::{ManifestHash, Measurement};
use postern_shared::record::{
    KeySlot, LogId, RECORD_VERSION, RecordHeader, Salt, SealedError, SealedRecord, SlotHeader,
};
use postern_shared::snp::RawTcb;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Seals the records of one log.
pub(crate) struct LogKey(Zeroizing<[u8; 32]>);

/// What opens a log, and what of earlier ones is still read: their vault records.
pub(crate) struct LogKeys {
    own: LogKey,
    /// Of the logs that were handed over before this one, in their order.
    earlier: Vec<(LogId, LogKey)>,
}

/// The keys as they are sealed, or handed over.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedKeys {
    own: SecretBytes,
    earlier: Vec<(LogId, SecretBytes)>,
}

/// What the own report says of this guest: what a slot is sealed to. From the own secure processor, so not verified, and
/// nothing but what every version of a report says, so that firmware with a later one takes nobody's log away.
pub(crate) struct OwnLaunch {
    pub(crate) dao: ManifestHash,
    pub(crate) measurement: Measurement,
    pub(crate) policy: u64,
    pub(crate) committed_tcb: RawTcb,
}

impl OwnLaunch {
    pub(crate) fn read(platform: &mut impl Platform) -> Result<Self, PlatformError> {
        // Over zeros, which no identity hashes to.
        let report = UnverifiedReport::parse(&platform.report(&ReportData([0; 64]))?)?;
        Ok(Self {
            dao: ManifestHash(report.host_data),
            measurement: report.measurement,
            policy: report.policy.0,
            committed_tcb: report.committed_tcb,
        })
    }
}

impl LogKey {
    /// A new key.
    pub(crate) fn draw(platform: &mut impl Platform) -> Result<Self, PlatformError> {
        let mut key = Zeroizing::new([0; 32]);
        platform.fill_random(&mut key[..])?;
        Ok(Self(key))
    }

    fn restore(key: &SecretBytes) -> Option<Self> {
        key.expose().try_into().ok().map(|key| Self(Zeroizing::new(key)))
    }

    fn save(&self) -> SecretBytes {
        SecretBytes::of(&self.0[..])
    }

    /// Seals a record's content. `None` only for content longer than AES-GCM allows.
    pub(crate) fn seal(&self, header: RecordHeader, content: &[u8]) -> Option<SealedRecord> {
        let associated = codec::encode(&header);
        let key = derive(&self.0, &header.salt, RECORD_PURPOSE, &associated);
        let ciphertext = encrypt(&key, &associated, content)?;
        Some(SealedRecord { header, ciphertext })
    }

    /// Opens a record, wherever it stands.
    pub(crate) fn open(&self, record: &SealedRecord) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let header = &record.header;
        if header.version != RECORD_VERSION {
            return Err(SealedError::Version { found: header.version });
        }
        let associated = codec::encode(header);
        let key = derive(&self.0, &header.salt, RECORD_PURPOSE, &associated);
        decrypt(&key, &associated, &record.ciphertext).ok_or(SealedError::Altered { number: header.number })
    }
}

impl LogKeys {
    /// Of a log that begins.
    pub(crate) fn draw(platform: &mut impl Platform) -> Result<Self, PlatformError> {
        Ok(Self { own: LogKey::draw(platform)?, earlier: Vec::new() })
    }

    /// Of a log that goes on from this one, `log`, under a key that nobody has had.
    pub(crate) fn succeeded(
        mut self,
        log: LogId,
        platform: &mut impl Platform,
    ) -> Result<Self, PlatformError> {
        let own = LogKey::draw(platform)?;
        self.earlier.push((log, self.own));
        Ok(Self { own, earlier: self.earlier })
    }

    /// The keys that were sealed or handed over. `None` if they are none.
    pub(crate) fn restore(saved: &SavedKeys) -> Option<Self> {
        let earlier = saved.earlier.iter().map(|(log, key)| Some((*log, LogKey::restore(key)?)));
        Some(Self { own: LogKey::restore(&saved.own)?, earlier: earlier.collect::<Option<_>>()? })
    }

    /// For what is sealed, or for the one that takes the log over.
    pub(crate) fn save(&self) -> SavedKeys {
        let earlier = self.earlier.iter().map(|(log, key)| (*log, key.save()));
        SavedKeys { own: self.own.save(), earlier: earlier.collect() }
    }

    /// The log's own key.
    pub(crate) fn own(&self) -> &LogKey {
        &self.own
    }

    /// The key of a log that was handed over.
    pub(crate) fn earlier(&self, log: LogId) -> Option<&LogKey> {
        self.earlier.iter().find(|(known, _)| *known == log).map(|(_, key)| key)
    }

    /// Seals these keys to the guest that `header` describes, which must be this one.
    pub(crate) fn to_slot(
        &self,
        header: SlotHeader,
        platform: &mut impl Platform,
    ) -> Result<KeySlot, PlatformError> {
        let associated = codec::encode(&header);
        let key = slot_key(&header, &associated, platform)?;
        let content = codec::encode_secret(&self.save());
        let ciphertext = encrypt(&key, &associated, &content).unwrap_or_default();
        Ok(KeySlot { header, ciphertext })
    }

    /// Opens a slot, if it is this guest's.
    pub(crate) fn from_slot(
        slot: &KeySlot,
        own: &OwnLaunch,
        platform: &mut impl Platform,
    ) -> Result<Self, SealedError> {
        let header = &slot.header;
        let refused = if header.version != RECORD_VERSION {
            Some(SealedError::Version { found: header.version })
        } else if header.dao != own.dao {
            Some(SealedError::OtherDao)
        } else if header.measurement != own.measurement {
            Some(SealedError::OtherMeasurement)
        } else if header.policy != own.policy {
            Some(SealedError::OtherPolicy)
        } else {
            None
        };
        if let Some(refused) = refused {
            return Err(refused);
        }
        let associated = codec::encode(header);
        let key = slot_key(header, &associated, platform).map_err(|error| match error {
            PlatformError::TcbNotCommitted { .. } => SealedError::OtherTcb,
            _ => SealedError::Slot,
        })?;
        let opened = decrypt(&key, &associated, &slot.ciphertext).ok_or(SealedError::Slot)?;
        let saved: SavedKeys = postcard::from_bytes(&opened).map_err(|_| SealedError::Slot)?;
        Self::restore(&saved).ok_or(SealedError::Slot)
    }
}

/// What the keys derived from one secret are for: one label for each purpose.
const RECORD_PURPOSE: &[u8] = b"postern-record-key-v1";
const SLOT_PURPOSE: &[u8] = b"postern-slot-key-v1";

fn slot_key(
    header: &SlotHeader,
    associated: &[u8],
    platform: &mut impl Platform,
) -> Result<Zeroizing<[u8; 32]>, PlatformError> {
    // The policy too: the launch measurement does not cover it, and a debug guest of the same image must not have the key.
    let fields = KeyFields { policy: true, measurement: true, tcb: true, ..KeyFields::default() };
    let derived = platform.derive_key(&KeyRequest { fields, guest_svn: 0, tcb: header.tcb })?;
    Ok(derive(derived.expose(), &header.salt, SLOT_PURPOSE, associated))
}

fn derive(secret: &[u8; 32], salt: &Salt, purpose: &[u8], associated: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let hkdf = Hkdf::<Sha256>::new(Some(&salt.0), secret);
    // Fails only beyond 255 blocks.
    let expanded = hkdf.expand_multi_info(&[purpose, associated], &mut key[..]);
    debug_assert!(expanded.is_ok());
    key
}

fn encrypt(key: &[u8; 32], associated: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let payload = Payload { msg: content, aad: associated };
    Aes256Gcm::new(key.into()).encrypt(&Nonce::<Aes256Gcm>::default(), payload).ok()
}

fn decrypt(key: &[u8; 32], associated: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let payload = Payload { msg: ciphertext, aad: associated };
    Aes256Gcm::new(key.into()).decrypt(&Nonce::<Aes256Gcm>::default(), payload).ok().map(Zeroizing::new)
}
