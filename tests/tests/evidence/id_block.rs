//! ID blocks and ID authentication information: layout, signatures, keys, and against `snp-create-id-block`.
//!
//! Offsets are those of 56860, not of our code.

use super::independent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p384::SecretKey;
use p384::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use p384::pkcs8::{EncodePrivateKey, LineEnding};
use postern_attestation::GuestPolicy;
use postern_host::measure::id_block::{ID_AUTH_LEN, IdBlock, IdBlockError, PublisherKey, id_auth};
use postern_shared::ids::Measurement;
use sha2::{Digest, Sha384};
use std::ops::Range;

const DIGEST: Measurement = Measurement([0xD1; 48]);
const POLICY: GuestPolicy = GuestPolicy(0x30000);

const ID_BLOCK_SIGNATURE: usize = 0x040;
const ID_KEY: usize = 0x240;
const ID_KEY_SIGNATURE: usize = 0x680;
const AUTHOR_KEY: usize = 0x880;
const KEY_LEN: usize = 0x404;

/// A key of another curve, in both forms.
const SEC1_P256: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABoAoGCCqGSM49
AwEHoUQDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/
m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END EC PRIVATE KEY-----";
const PKCS8_P256: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAGhRANCAARrF9Hy4SxCR/i85uVjpEDydwN9gS3r
M6D0oTlF2JjClk/jQuL+Gn+bjufrSnwPnhYrzjNXazFezsu2QGg3v1H1
-----END PRIVATE KEY-----";

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_slice(&[seed; 48]).expect("a scalar")
}

fn sec1(seed: u8) -> String {
    secret(seed).to_sec1_pem(LineEnding::LF).expect("PEM").to_string()
}

fn pkcs8(seed: u8) -> String {
    secret(seed).to_pkcs8_pem(LineEnding::LF).expect("PEM").to_string()
}

fn key(seed: u8) -> PublisherKey {
    PublisherKey::from_pem(&sec1(seed)).expect("a key")
}

fn block() -> IdBlock {
    IdBlock::new(DIGEST, POLICY, [0; 16], [0; 16], 0).expect("a block")
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

/// A number of P-384 in a field of 72 bytes, little-endian: big-endian, and the rest is zero.
#[track_caller]
fn number(bytes: &[u8], offset: usize) -> [u8; 48] {
    assert_eq!(bytes[offset + 48..offset + 72], [0; 24]);
    reversed(&bytes[offset..offset + 48]).try_into().expect("48 bytes")
}

/// Reads a key structure as the secure processor does.
#[track_caller]
fn verifying_key(structure: &[u8]) -> VerifyingKey {
    assert_eq!(structure[..4], [2, 0, 0, 0], "P-384");
    assert_eq!(structure[0x94..], [0; KEY_LEN - 0x94]);
    let point = [&[4][..], &number(structure, 4), &number(structure, 4 + 72)].concat();
    VerifyingKey::from_sec1_bytes(&point).expect("a point")
}

#[track_caller]
fn assert_signed(auth: &[u8], signature: usize, signer: usize, message: &[u8]) {
    let field = &auth[signature..signature + 512];
    assert_eq!(field[144..], [0; 368]);
    let signature = Signature::from_scalars(number(field, 0), number(field, 72)).expect("a signature");
    let signer = verifying_key(&auth[signer..signer + KEY_LEN]);
    signer.verify(message, &signature).expect("a good signature");
    assert!(signer.verify(&message[1..], &signature).is_err());
}

#[track_caller]
fn assert_zero(bytes: &[u8], range: Range<usize>) {
    assert!(bytes[range.clone()].iter().all(|byte| *byte == 0), "{range:x?}");
}

#[test]
fn the_block_has_every_field_in_its_place() {
    let block = IdBlock::new(DIGEST, GuestPolicy(0x3_0133), [0xFA; 16], [0x1A; 16], 0x0403_0201).unwrap();
    let mut expected = vec![0xD1; 48];
    expected.extend([0xFA; 16]);
    expected.extend([0x1A; 16]);
    expected.extend([1, 0, 0, 0]);
    expected.extend([1, 2, 3, 4]);
    expected.extend([0x33, 0x01, 0x03, 0, 0, 0, 0, 0]);
    assert_eq!(block.to_bytes().to_vec(), expected);
}

#[test]
fn the_id_key_signs_the_block_and_the_author_signs_the_id_key() {
    let auth = id_auth(&block(), &key(7), Some(&key(9)));
    assert_eq!(auth[..8], [1, 0, 0, 0, 1, 0, 0, 0], "ECDSA P-384 with SHA-384, twice");
    assert_signed(&auth, ID_BLOCK_SIGNATURE, ID_KEY, &block().to_bytes());
    assert_signed(&auth, ID_KEY_SIGNATURE, AUTHOR_KEY, &auth[ID_KEY..ID_KEY + KEY_LEN]);
    for range in [0x008..0x040, 0x644..0x680, 0xC84..ID_AUTH_LEN] {
        assert_zero(&auth, range);
    }
    for (seed, offset) in [(7, ID_KEY), (9, AUTHOR_KEY)] {
        let structure = &auth[offset..offset + KEY_LEN];
        assert_eq!(verifying_key(structure), secret(seed).public_key().into());
        assert_eq!(structure, key(seed).public_key());
        assert_eq!(key(seed).digest().0, *Sha384::digest(structure));
    }
}

#[test]
fn without_an_author_its_fields_are_empty() {
    let (alone, with_author) = (id_auth(&block(), &key(7), None), id_auth(&block(), &key(7), Some(&key(9))));
    assert_signed(&alone, ID_BLOCK_SIGNATURE, ID_KEY, &block().to_bytes());
    assert_zero(&alone, 0x004..0x040);
    assert_zero(&alone, 0x644..ID_AUTH_LEN);
    assert_eq!(alone[0x040..0x644], with_author[0x040..0x644]);
}

#[test]
fn policies_that_no_guest_may_have_are_refused() {
    for found in [0, 0x1_0000, 0x403_0000, 1 << 63 | 0x3_0000] {
        let error = IdBlock::new(DIGEST, GuestPolicy(found), [0; 16], [0; 16], 0).unwrap_err();
        assert_eq!(error, IdBlockError::PolicyFormat { found });
    }
    for found in [0xB_0000, 0x7_0000] {
        let error = IdBlock::new(DIGEST, GuestPolicy(found), [0; 16], [0; 16], 0).unwrap_err();
        assert_eq!(error, IdBlockError::PolicyUnsafe { found });
    }
}

#[test]
fn keys_are_read_from_both_forms_of_pem() {
    // What `openssl ecparam -genkey` writes before the key.
    let parameters = "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n";
    let with_parameters = parameters.to_owned() + &sec1(7) + "\nremarks";
    for text in [sec1(7), pkcs8(7), with_parameters, sec1(7).replace('\n', "\r\n")] {
        assert_eq!(PublisherKey::from_pem(&text).unwrap().digest(), key(7).digest(), "{text}");
    }
    assert_ne!(key(8).digest(), key(7).digest());
}

#[test]
fn what_is_no_private_key_is_refused() {
    let read = |text: &str| PublisherKey::from_pem(text).err();
    let public = "-----BEGIN PUBLIC KEY-----\nMHYw\n-----END PUBLIC KEY-----\n";
    let encrypted = pkcs8(7).replace("PRIVATE", "ENCRYPTED PRIVATE");
    for text in
        ["", "key", public, &sec1(7)[..100], "-----END EC PRIVATE KEY----------BEGIN EC PRIVATE KEY-----"]
    {
        assert_eq!(read(text), Some(IdBlockError::NoPrivateKey), "{text}");
    }
    assert_eq!(read(&encrypted), Some(IdBlockError::EncryptedKey));
    let broken = sec1(7).replace("MIGk", "MIGl");
    let of_another_public_key = sec1(7).replace("AASwG", "AASwH");
    assert_ne!(of_another_public_key, sec1(7));
    let unfinished = "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----".to_owned();
    for text in [
        SEC1_P256.to_owned(),
        PKCS8_P256.to_owned(),
        broken,
        of_another_public_key,
        unfinished,
        sec1(7).replace("EC PRIVATE", "PRIVATE"),
    ] {
        assert_eq!(read(&text), Some(IdBlockError::NotP384), "{text}");
    }
}

/// A tool that signs with OpenSSL: blocks and key digests are the same, and its signatures verify as ours do.
#[test]
#[ignore = "needs sev-snp-measure from PyPI; run by the slow suites"]
fn snp_create_id_block_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.into_os_string().into_string().expect("text")
    };
    let (id_key, author) = (file("id.pem", sec1(7)), file("author.pem", pkcs8(9)));
    let digest = STANDARD.encode(DIGEST.0);
    let arguments = ["--measurement", &digest, "--idkey", &id_key, "--authorkey", &author];
    let output = independent::run("snp-create-id-block", &arguments).expect("an ID block");

    let field = |name: &str| {
        let value = output.split(['\n', ',']).find_map(|part| part.strip_prefix(name));
        STANDARD.decode(value.expect("a field")).expect("base64")
    };
    assert_eq!(field("id-block="), block().to_bytes());
    assert_eq!(field("id_key_hash: "), key(7).digest().0);
    assert_eq!(field("author_key: "), key(9).digest().0);

    let (theirs, ours) = (field("id-auth="), id_auth(&block(), &key(7), Some(&key(9))));
    assert_eq!(theirs.len(), ours.len());
    // All but the signatures, which are random there.
    for range in [0..0x040, 0x240..0x680, 0x880..ID_AUTH_LEN] {
        assert_eq!(theirs[range.clone()], ours[range.clone()], "{range:x?}");
    }
    assert_signed(&theirs, ID_BLOCK_SIGNATURE, ID_KEY, &block().to_bytes());
    assert_signed(&theirs, ID_KEY_SIGNATURE, AUTHOR_KEY, &theirs[ID_KEY..ID_KEY + KEY_LEN]);
}
