//! The two signature schemes of the chain of trust, verification only.

use p384::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use rsa::{BoxedUint, Pss, RsaPublicKey};
use sha2::{Digest, Sha384};
use x509_cert::{
    der::{
        Decode, Reader, SliceReader,
        asn1::{AnyRef, ObjectIdentifier, UintRef},
    },
    spki::SubjectPublicKeyInfoOwned,
};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Bytes of a 4096-bit modulus.
const MODULUS_LEN: usize = 512;
/// 65537, the exponent of all of AMD's keys. Others are refused: a large one would cost us time for a
/// stranger.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// Uncompressed point: tag and two coordinates.
const POINT_LEN: usize = 97;
/// Salt of AMD's PSS signatures.
const SALT_LEN: usize = 48;

/// An RSA key of 4096 bits; none if it is anything else.
pub(crate) fn rsa_key(info: &SubjectPublicKeyInfoOwned) -> Option<RsaPublicKey> {
    let parameters = info.algorithm.parameters.as_ref()?;
    if info.algorithm.oid != RSA_ENCRYPTION || !parameters.is_null() {
        return None;
    }
    let mut reader = SliceReader::new(info.subject_public_key.as_bytes()?).ok()?;
    let (modulus, exponent) = reader
        .sequence(|reader| {
            Ok::<_, x509_cert::der::Error>((UintRef::decode(reader)?, UintRef::decode(reader)?))
        })
        .ok()?;
    reader.finish().ok()?;
    let (modulus, exponent) = (modulus.as_bytes(), exponent.as_bytes());
    if modulus.len() != MODULUS_LEN || modulus.first()? & 0x80 == 0 || exponent != EXPONENT {
        return None;
    }
    let modulus = BoxedUint::from_be_slice(modulus, 4096).ok()?;
    RsaPublicKey::new(modulus, BoxedUint::from(65_537_u64)).ok()
}

/// Whether `signature` is RSASSA-PSS over `message` with SHA-384, MGF1-SHA-384 and 48 bytes of salt.
pub(crate) fn rsa_verifies(key: &RsaPublicKey, message: &[u8], signature: &[u8]) -> bool {
    let scheme = Pss::<Sha384>::new_with_salt(SALT_LEN);
    key.verify(scheme, &Sha384::digest(message), signature).is_ok()
}

/// A P-384 key as an uncompressed point; none if it is anything else.
pub(crate) fn p384_key(info: &SubjectPublicKeyInfoOwned) -> Option<VerifyingKey> {
    let curve = AnyRef::from(info.algorithm.parameters.as_ref()?).decode_as::<ObjectIdentifier>().ok()?;
    let point = info.subject_public_key.as_bytes()?;
    if info.algorithm.oid != EC_PUBLIC_KEY || curve != SECP384R1 || point.len() != POINT_LEN {
        return None;
    }
    VerifyingKey::from_sec1_bytes(point).ok()
}

/// Whether `r` and `s` (big-endian) are an ECDSA signature over `digest`. Zero and unreduced scalars are
/// refused.
pub(crate) fn p384_verifies(key: &VerifyingKey, digest: &[u8; 48], r: &[u8; 48], s: &[u8; 48]) -> bool {
    Signature::from_scalars(*r, *s).is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
}
