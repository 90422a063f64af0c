//! Published vectors: Ethereum's BLS suite, and the signing roots of four networks.

use postern_shared::bls::{ETHEREUM_DST, G2, PublicKey, Scalar, Signature};
use postern_shared::bytes::{from_hex, to_hex};
use postern_shared::ethereum::{ForkVersion, Root, VoluntaryExit, compute_domain};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/eth")
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// All cases of a suite: there must be as many as there were.
fn cases(suite: &str, count: usize) -> Vec<(String, Value)> {
    let directory = folder().join("bls12-381-tests").join(suite);
    let mut cases: Vec<(String, Value)> = std::fs::read_dir(&directory)
        .expect("the suite")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.display().to_string(), read(&path)))
        .collect();
    cases.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(cases.len(), count, "{suite}");
    cases
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    from_hex(text(value, name)).expect("hexadecimal")
}

#[test]
fn signing_gives_the_published_signatures() {
    for (name, case) in cases("sign", 7) {
        let secret = Scalar::from_bytes(&bytes(&case["input"], "privkey").try_into().expect("32 bytes"));
        let secret = secret.filter(|secret| !secret.is_zero());
        let message = bytes(&case["input"], "message");
        let signature = secret.map(|secret| to_hex(&(G2::hash(&message, ETHEREUM_DST) * &secret).encode().0));
        assert_eq!(signature.as_deref(), case["output"].as_str(), "{name}");
    }
}

#[test]
fn verification_gives_the_published_verdicts() {
    for (name, case) in cases("verify", 20) {
        let input = &case["input"];
        let key: Option<PublicKey> = text(input, "pubkey").parse().ok();
        let signature: Option<Signature> = text(input, "signature").parse().ok();
        let valid = key
            .zip(signature)
            .is_some_and(|(key, signature)| key.verify(&bytes(input, "message"), &signature).is_ok());
        assert_eq!(Some(valid), case["output"].as_bool(), "{name}");
    }
}

#[test]
fn points_are_accepted_and_refused_as_published() {
    use postern_shared::bls::G1;
    for (name, case) in cases("deserialization_G1", 11) {
        let key: Option<PublicKey> = text(&case["input"], "pubkey").parse().ok();
        let point = key.and_then(|key| Some((key, G1::decode(&key).ok()?)));
        assert_eq!(Some(point.is_some()), case["output"].as_bool(), "{name}");
        assert!(point.is_none_or(|(key, point)| point.encode() == key), "{name}");
    }
    for (name, case) in cases("deserialization_G2", 12) {
        let signature: Option<Signature> = text(&case["input"], "signature").parse().ok();
        let point = signature.and_then(|signature| Some((signature, signature.decode().ok()?)));
        assert_eq!(Some(point.is_some()), case["output"].as_bool(), "{name}");
        assert!(point.is_none_or(|(signature, point)| point.encode() == signature), "{name}");
    }
}

#[test]
fn hashing_to_the_curve_gives_the_published_points() {
    for (name, case) in cases("hash_to_G2", 3) {
        // The vectors are RFC 9380's, with its domain; coordinates are written `real,imaginary`.
        let domain = b"QUUX-V01-CS02-with-BLS12381G2_XMD:SHA-256_SSWU_RO_";
        let point = G2::hash(text(&case["input"], "msg").as_bytes(), domain);
        let (real, imaginary) = text(&case["output"], "x").split_once(',').expect("two coordinates");
        // Compressed form: imaginary part first, flags in the top three bits.
        let mut expected = [from_hex(imaginary).unwrap(), from_hex(real).unwrap()].concat();
        let mut found = point.encode().0;
        found[0] &= 0x1f;
        expected[0] &= 0x1f;
        assert_eq!(found[..], expected[..], "{name}");
    }
}

#[test]
fn domains_and_signing_roots_are_those_of_the_networks() {
    let vectors = read(&folder().join("signing_roots.json"));
    let networks = vectors["domains"].as_object().expect("domains");
    assert_eq!(networks.len(), 4);
    for (name, network) in networks {
        let version = |field| -> ForkVersion { text(network, field).parse().expect("a version") };
        let root: Root = text(network, "genesis_validators_root").parse().expect("a root");
        let deposit = compute_domain([3, 0, 0, 0], version("genesis_fork_version"), Root([0; 32]));
        let exit = compute_domain([4, 0, 0, 0], version("capella_fork_version"), root);
        assert_eq!(to_hex(&deposit.0)[2..], *text(network, "deposit_domain"), "{name}");
        assert_eq!(to_hex(&exit.0)[2..], *text(network, "voluntary_exit_domain"), "{name}");
    }
    let exits = vectors["exits"].as_array().expect("exits");
    assert!(!exits.is_empty());
    for case in exits {
        let network = &networks[text(case, "network")];
        let number = |field| text(case, field).parse().expect("a number");
        let exit = VoluntaryExit { epoch: number("epoch"), validator_index: number("validator_index") };
        let capella = text(network, "capella_fork_version").parse().expect("a version");
        let root = text(network, "genesis_validators_root").parse().expect("a root");
        assert_eq!(to_hex(&exit.hash_tree_root().0)[2..], *text(case, "object_root"));
        assert_eq!(to_hex(&exit.signing_root(capella, root).0)[2..], *text(case, "signing_root"));
    }
}
