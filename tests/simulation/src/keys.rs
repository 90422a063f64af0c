//! The simulation's root and intermediate. NO SECURITY: their private keys are committed in `keys/`.

use std::sync::OnceLock;

use postern_attestation::TrustAnchor;
use rsa::{
    BoxedUint, Pss, RsaPrivateKey,
    rand_core::{TryCryptoRng, TryRng},
};
use sha2::{Digest, Sha384};
use x509_cert::der::{
    Decode, Error, Reader, SliceReader,
    asn1::{AnyRef, OctetStringRef, UintRef},
};

/// Root certificate of the simulation, DER.
pub(crate) const ARK: &[u8] = include_bytes!("../keys/simulation-ark-no-security.crt.der");
/// Intermediate certificate of the simulation, DER.
pub(crate) const ASK: &[u8] = include_bytes!("../keys/simulation-ask-no-security.crt.der");
const ARK_KEY: &[u8] = include_bytes!("../keys/simulation-ark-no-security.pkcs8.der");
const ASK_KEY: &[u8] = include_bytes!("../keys/simulation-ask-no-security.pkcs8.der");

/// The root of all simulated machines. Only simulated platforms may name it.
pub fn trust_anchor() -> TrustAnchor {
    TrustAnchor::custom("SIMULATION, NO SECURITY", vec![ARK.to_vec()])
}

/// Signs as the intermediate.
pub(crate) fn sign_as_ask(message: &[u8]) -> Vec<u8> {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    sign(KEY.get_or_init(|| private_key(ASK_KEY).expect("the committed key is PKCS#8")), message)
}

/// Signs as the root.
pub(crate) fn sign_as_ark(message: &[u8]) -> Vec<u8> {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    sign(KEY.get_or_init(|| private_key(ARK_KEY).expect("the committed key is PKCS#8")), message)
}

/// RSASSA-PSS as AMD signs. The salt is a hash of the message, so that certificates come out the same in each run.
fn sign(key: &RsaPrivateKey, message: &[u8]) -> Vec<u8> {
    let hash: [u8; 48] = Sha384::digest(message).into();
    // Blinding hides the key's timing, and this key is no secret.
    let scheme = Pss::<Sha384> { blinded: false, ..Pss::new_with_salt(48) };
    key.sign_with_rng(&mut Salt(hash), scheme, &hash).expect("a sound key signs")
}

/// Reads PKCS#8 around PKCS#1. By hand, because the `rsa` crate's own reader is a feature, and features that
/// a workspace build switches on for one crate it switches on for the enclave as well.
fn private_key(pkcs8: &[u8]) -> Result<RsaPrivateKey, Error> {
    let mut reader = SliceReader::new(pkcs8)?;
    let inner = reader.sequence(|reader| {
        let (_version, _algorithm) = (UintRef::decode(reader)?, AnyRef::decode(reader)?);
        <&OctetStringRef>::decode(reader)
    })?;
    let mut reader = SliceReader::new(inner.as_bytes())?;
    let numbers = reader
        .sequence(|reader| (0..9).map(|_| UintRef::decode(reader)).collect::<Result<Vec<_>, Error>>())?;
    let number = |index: usize| BoxedUint::from_be_slice_vartime(numbers[index].as_bytes());
    // version, n, e, d, p, q, and what follows from them.
    Ok(RsaPrivateKey::from_components(number(1), number(2), number(3), vec![number(4), number(5)])
        .expect("the committed key is sound"))
}

/// Not random at all: gives out one salt.
struct Salt([u8; 48]);

impl TryRng for Salt {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("the salt is asked for as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("the salt is asked for as bytes")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        out.copy_from_slice(&self.0[..out.len()]);
        Ok(())
    }
}

impl TryCryptoRng for Salt {}
