//! The ID block, by which an image's publisher says what the image is, and the ID authentication information, which proves
//! it (56860, ID block structure and ID authentication information structure).
//!
//! The id key signs the block; an author key, if there is one, signs the id key. The secure processor refuses to launch a
//! guest whose digest or policy is not the block's, and shows the digests of both keys in its reports.

use p384::SecretKey;
use p384::ecdsa::{Signature, SigningKey, signature::Signer};
use p384::elliptic_curve::sec1::ToSec1Point;
use postern_attestation::{GuestPolicy, Hex};
use postern_shared::ids::Measurement;
use sha2::{Digest, Sha384};

/// Length of an ID block.
pub const ID_BLOCK_LEN: usize = 96;
/// Length of ID authentication information.
pub const ID_AUTH_LEN: usize = 4096;
/// Length of a public key in it.
pub const PUBLIC_KEY_LEN: usize = 1028;
/// Length of a signature in it.
const SIGNATURE_LEN: usize = 512;
/// Room for a number of the curve's field: little-endian, more than P-384 needs.
const NUMBER_LEN: usize = 72;

/// The only version of the block.
const VERSION: u32 = 1;
/// ECDSA P-384 with SHA-384 (56860, table of signing algorithms).
const ECDSA_P384_SHA384: u32 = 1;
/// P-384 (56860, table of curves).
const CURVE_P384: u32 = 2;

/// Where the id key is in ID authentication information, and the author's.
const ID_KEY: usize = 0x240;
const AUTHOR_KEY: usize = 0x880;

/// Policy bits 63:26 are reserved.
const POLICY_RESERVED: u64 = !0 << 26;

/// Why there can be no such ID block.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdBlockError {
    /// The secure processor would refuse the policy.
    #[error("policy {found:#x}: bit 17 must be one, bits 63:26 zero")]
    PolicyFormat {
        /// The policy given.
        found: u64,
    },
    /// Every Postern enclave would refuse the guest.
    #[error("policy {found:#x} allows the host to debug the guest or to migrate it")]
    PolicyUnsafe {
        /// The policy given.
        found: u64,
    },
    /// A file that is too long or too short.
    #[error("an {what} of {found} bytes")]
    Length {
        /// What it should be.
        what: &'static str,
        /// Its length.
        found: usize,
    },
    /// A version that is not known.
    #[error("an ID block of version {found}, where {VERSION} is the only one")]
    Version {
        /// As the block says.
        found: u32,
    },
    /// The file has no private key.
    #[error("no private key in PEM found: expected `EC PRIVATE KEY` or `PRIVATE KEY`")]
    NoPrivateKey,
    /// The file has one that only its owner can read.
    #[error("the private key is encrypted: expected one without a password")]
    EncryptedKey,
    /// The file has a private key, but of another curve, or broken.
    #[error("not a sound private key of ECDSA P-384")]
    NotP384,
}

/// What a guest is, according to its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdBlock {
    launch_digest: Measurement,
    policy: GuestPolicy,
    family_id: [u8; 16],
    image_id: [u8; 16],
    guest_svn: u32,
}

impl IdBlock {
    /// A block for this digest and policy; both ids are the publisher's to choose, `guest_svn` is the image's security
    /// version.
    pub fn new(
        launch_digest: Measurement,
        policy: GuestPolicy,
        family_id: [u8; 16],
        image_id: [u8; 16],
        guest_svn: u32,
    ) -> Result<Self, IdBlockError> {
        if policy.0 & GuestPolicy::RESERVED_ONE == 0 || policy.0 & POLICY_RESERVED != 0 {
            return Err(IdBlockError::PolicyFormat { found: policy.0 });
        }
        if policy.0 & (GuestPolicy::DEBUG | GuestPolicy::MIGRATE_MA | GuestPolicy::CXL) != 0 {
            return Err(IdBlockError::PolicyUnsafe { found: policy.0 });
        }
        Ok(Self { launch_digest, policy, family_id, image_id, guest_svn })
    }

    /// Reads a block that was made before.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdBlockError> {
        let block: &[u8; ID_BLOCK_LEN] =
            bytes.try_into().map_err(|_| IdBlockError::Length { what: "ID block", found: bytes.len() })?;
        let version = u32::from_le_bytes(field(block, 0x50));
        if version != VERSION {
            return Err(IdBlockError::Version { found: version });
        }
        let policy = GuestPolicy(u64::from_le_bytes(field(block, 0x58)));
        let (launch_digest, guest_svn) =
            (Measurement(field(block, 0)), u32::from_le_bytes(field(block, 0x54)));
        Self::new(launch_digest, policy, field(block, 0x30), field(block, 0x40), guest_svn)
    }

    /// Of the guest that it is for.
    pub fn launch_digest(&self) -> Measurement {
        self.launch_digest
    }

    /// That the guest must be launched with.
    pub fn policy(&self) -> GuestPolicy {
        self.policy
    }

    /// The image's security version.
    pub fn guest_svn(&self) -> u32 {
        self.guest_svn
    }

    /// The block as the secure processor reads it.
    pub fn to_bytes(&self) -> [u8; ID_BLOCK_LEN] {
        let mut block = [0; ID_BLOCK_LEN];
        put(&mut block, 0x00, &self.launch_digest.0);
        put(&mut block, 0x30, &self.family_id);
        put(&mut block, 0x40, &self.image_id);
        put(&mut block, 0x50, &VERSION.to_le_bytes());
        put(&mut block, 0x54, &self.guest_svn.to_le_bytes());
        put(&mut block, 0x58, &self.policy.0.to_le_bytes());
        block
    }
}

/// SHA-384 of a public key of 1028 bytes: `ID_KEY_DIGEST` or `AUTHOR_KEY_DIGEST` of a report.
pub type KeyDigest = Hex<48>;

/// A publisher's id key or author key.
pub struct PublisherKey(SigningKey);

impl PublisherKey {
    /// Reads a private key, SEC1 or PKCS#8 in PEM; what else is in the text (`EC PARAMETERS`, say) is skipped.
    pub fn from_pem(text: &str) -> Result<Self, IdBlockError> {
        let block = |label: &str| {
            let start = text.find(&format!("-----BEGIN {label}-----"))?;
            let end = format!("-----END {label}-----");
            let block = text.get(start..)?;
            block.get(..block.find(&end)? + end.len())
        };
        let Some(key) = block("EC PRIVATE KEY").or_else(|| block("PRIVATE KEY")) else {
            let encrypted = text.contains("BEGIN ENCRYPTED PRIVATE KEY");
            return Err(if encrypted { IdBlockError::EncryptedKey } else { IdBlockError::NoPrivateKey });
        };
        // The cause is left out: it could only quote the key.
        let key = SecretKey::from_pem(key).map_err(|_| IdBlockError::NotP384)?;
        Ok(Self(key.into()))
    }

    /// The public key as it stands in ID authentication information.
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        let point = self.0.verifying_key().as_affine().to_sec1_point(false);
        let mut key = [0; PUBLIC_KEY_LEN];
        put(&mut key, 0, &CURVE_P384.to_le_bytes());
        if let (Some(x), Some(y)) = (point.x(), point.y()) {
            put_number(&mut key, 4, x);
            put_number(&mut key, 4 + NUMBER_LEN, y);
        }
        key
    }

    /// The digest of the public key that reports show.
    pub fn digest(&self) -> KeyDigest {
        Hex(Sha384::digest(self.public_key()).into())
    }

    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signature: Signature = self.0.sign(message);
        let (r, s) = signature.split_bytes();
        let mut bytes = [0; SIGNATURE_LEN];
        put_number(&mut bytes, 0, &r);
        put_number(&mut bytes, NUMBER_LEN, &s);
        bytes
    }
}

/// The ID authentication information of a block. Signatures are deterministic (RFC 6979).
pub fn id_auth(block: &IdBlock, id_key: &PublisherKey, author: Option<&PublisherKey>) -> [u8; ID_AUTH_LEN] {
    let public_key = id_key.public_key();
    let mut auth = [0; ID_AUTH_LEN];
    put(&mut auth, 0x000, &ECDSA_P384_SHA384.to_le_bytes());
    put(&mut auth, 0x040, &id_key.sign(&block.to_bytes()));
    put(&mut auth, ID_KEY, &public_key);
    if let Some(author) = author {
        put(&mut auth, 0x004, &ECDSA_P384_SHA384.to_le_bytes());
        put(&mut auth, 0x680, &author.sign(&public_key));
        put(&mut auth, AUTHOR_KEY, &author.public_key());
    }
    auth
}

/// The digests that reports will show of a guest with this authentication information: of its id key, and of its author's if
/// there is one.
pub fn key_digests(auth: &[u8]) -> Result<(KeyDigest, Option<KeyDigest>), IdBlockError> {
    let auth: &[u8; ID_AUTH_LEN] = auth
        .try_into()
        .map_err(|_| IdBlockError::Length { what: "ID authentication information", found: auth.len() })?;
    let [id, author] = [ID_KEY, AUTHOR_KEY].map(|offset| field::<PUBLIC_KEY_LEN>(auth, offset));
    let digest = |key: [u8; PUBLIC_KEY_LEN]| Hex(Sha384::digest(key).into());
    Ok((digest(id), (author != [0; PUBLIC_KEY_LEN]).then(|| digest(author))))
}

/// Of a structure that is long enough.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[offset + index])
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// Puts a number, given big-endian, in little-endian.
fn put_number(bytes: &mut [u8], offset: usize, value: &[u8]) {
    let little_endian: Vec<u8> = value.iter().rev().copied().collect();
    put(bytes, offset, &little_endian);
}
