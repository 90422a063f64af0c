//! What hostile or broken neighbours can hand in: manifests, frames, versions, garbage; and the encodings that others
//! rely on.

use postern_enclave::core::Core;
use postern_enclave::shell::{ServeError, serve};
use postern_shared::bls::{Commitments, DleqProof, G1, G2, Scalar, pairings_equal};
use postern_shared::codec::{self, DecodeError};
use postern_shared::hash::Transcriber;
use postern_shared::ids::{Address, CeremonyId, ChipId, MemberId};
use postern_shared::manifest::{Manifest, ManifestError};
use postern_shared::message::{PeerMessage, Slot, Step};
use postern_shared::pairwise::Pair;
use postern_shared::transcript::Transcript;
use postern_shared::wire::{Hello, MAX_FRAME, Reply, Request, Response, encode_frame};
use postern_simulation::{Machine, SoftwarePsp};
use postern_tests::cluster::manifest;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

#[test]
fn a_manifest_error_names_its_field() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 20] = [
        ("version", |manifest| manifest.version = 2),
        ("name", |manifest| manifest.name.clear()),
        ("name", |manifest| manifest.name = "a\nb".into()),
        ("name", |manifest| manifest.name = "x".repeat(65)),
        ("leader", |manifest| manifest.leader = MemberId(9)),
        ("leader", |manifest| manifest.members[0].guardian = false),
        ("members", |manifest| manifest.members.truncate(1)),
        ("members", |manifest| manifest.members = vec![manifest.members[0].clone(); 41]),
        ("members[1].id", |manifest| manifest.members[1].id = MemberId(0)),
        ("members[2].id", |manifest| manifest.members[2].id = MemberId(2)),
        ("members[3].wallet", |manifest| manifest.members[3].wallet = manifest.members[0].wallet),
        ("members[3].host_key", |manifest| manifest.members[3].host_key = manifest.members[0].host_key),
        ("members[3].chip_ids", |manifest| {
            manifest.members[3].chip_ids = manifest.members[0].chip_ids.clone();
        }),
        ("members[3].chip_ids", |manifest| manifest.members[3].chip_ids[0].0 = [0; 64]),
        ("members[3].chip_ids", |manifest| manifest.members[3].chip_ids.clear()),
        ("members[3].chip_ids", |manifest| manifest.members[3].chip_ids = vec![ChipId([7; 64]); 9]),
        ("thresholds.operator", |manifest| manifest.thresholds.operator = 1),
        ("thresholds.guardian", |manifest| manifest.thresholds.guardian = 6),
        ("attestation.measurements", |manifest| manifest.attestation.measurements.clear()),
        ("contracts.pool_manager", |manifest| manifest.contracts.pool_manager = manifest.contracts.deposit),
    ];
    for (expected, change) in cases {
        let mut wrong = manifest(5, 3, 3);
        change(&mut wrong);
        match Manifest::from_canonical(&wrong.to_canonical()) {
            Err(ManifestError::Field { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
        let text = wrong.to_toml().unwrap();
        assert!(Manifest::from_toml(&text).unwrap_err().to_string().contains(expected));
    }
}

#[test]
fn a_manifest_is_the_same_in_both_forms_and_refuses_what_it_does_not_know() {
    let good = manifest(5, 3, 3);
    let text = good.to_toml().unwrap();
    assert_eq!(Manifest::from_toml(&text).unwrap().hash(), good.hash());
    assert_eq!(Manifest::from_canonical(&good.to_canonical()).unwrap(), good);
    for wrong in [format!("surprise = 1\n{text}"), text.replace("leader = 1\n", ""), "not toml".to_owned()] {
        assert!(matches!(Manifest::from_toml(&wrong), Err(ManifestError::Text(_))));
    }
    let canonical = good.to_canonical();
    for cut in 0..canonical.len() {
        assert!(Manifest::from_canonical(&canonical[..cut]).is_err());
    }
}

/// Golden bytes. If one of these changes, enclaves of two builds no longer understand each other: say so in the protocol
/// version, and think of every DAO that runs the old one.
#[test]
fn encodings_that_others_rely_on_have_not_changed() {
    let mut fixed = manifest(2, 2, 2);
    for (member, byte) in fixed.members.iter_mut().zip(1..) {
        member.chip_ids = vec![ChipId([byte; 64])];
    }
    fixed.attestation.trust = postern_shared::policy::Trust::Amd;
    let digest = |bytes: &[u8]| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
    assert_eq!(digest(&fixed.to_canonical()), GOLDEN_MANIFEST);
    assert_eq!(fixed.hash().to_string(), GOLDEN_HASH);
    let slot = Slot { ceremony: CeremonyId([7; 32]), from: MemberId(300), step: Step::Authorise, item: 2 };
    assert_eq!(hex::encode(codec::encode(&slot)), format!("{}ac020802", "07".repeat(32)));
    assert_eq!(hex::encode(Hello::OURS.encode()), "706f737465726e000100");
    assert_eq!(hex::encode(codec::encode(&Request::Acknowledge(300))), "07ac02");
    let labelled = Transcriber::new("label").bytes(b"x").number(1).finish();
    assert_eq!(labelled.to_string(), GOLDEN_LABELLED);
}

/// A shell on one end of a socket, its verdict when the other end is done.
fn with_shell(talk: impl FnOnce(&mut UnixStream)) -> Result<(), ServeError> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let shell = std::thread::spawn(move || {
        let mut core = Core::new(SoftwarePsp::new(Machine::default()));
        serve(&mut core, theirs)
    });
    talk(&mut ours);
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = ours.read_to_end(&mut rest);
    shell.join().expect("the shell never panics")
}

fn hello(stream: &mut UnixStream) {
    stream.write_all(&encode_frame(&Hello::OURS.encode()).unwrap()).unwrap();
}

#[test]
fn a_host_that_talks_nonsense_ends_its_connection_only() {
    let unknown = with_shell(|host| {
        host.write_all(&encode_frame(&Hello { version: 99 }.encode()).unwrap()).unwrap();
    });
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "this side speaks protocol version 1, the other side version 99"
    );
    let foreign = with_shell(|host| host.write_all(&encode_frame(b"GET / HTTP/1.1").unwrap()).unwrap());
    assert!(matches!(foreign, Err(ServeError::Hello(_))));
    let oversized = with_shell(|host| {
        hello(host);
        host.write_all(&(MAX_FRAME as u32 + 1).to_le_bytes()).unwrap();
    });
    assert!(matches!(oversized, Err(ServeError::Frame(_))));
    let truncated = with_shell(|host| {
        hello(host);
        host.write_all(&[10, 0, 0, 0, 1, 2]).unwrap();
    });
    assert!(matches!(truncated, Err(ServeError::Truncated)), "{truncated:?}");
    let garbage = with_shell(|host| {
        hello(host);
        host.write_all(&encode_frame(&[0xff; 40]).unwrap()).unwrap();
    });
    assert!(matches!(garbage, Err(ServeError::Request(DecodeError::Malformed))));
    assert!(with_shell(|_| {}).is_ok(), "a host may come and go");
}

#[test]
fn a_core_outlives_its_hosts() {
    let mut core = Core::new(SoftwarePsp::new(Machine::default()));
    for _ in 0..3 {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        hello(&mut ours);
        ours.write_all(&encode_frame(&codec::encode(&Request::Status)).unwrap()).unwrap();
        ours.write_all(&[9]).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(serve(&mut core, theirs), Err(ServeError::Truncated)));
        let mut answers = Vec::new();
        ours.read_to_end(&mut answers).unwrap();
        let mut frames = postern_shared::wire::FrameDecoder::default();
        frames.push(&answers);
        Hello::check(&frames.next_frame().unwrap().unwrap()).unwrap();
        let response: Response = codec::decode(&frames.next_frame().unwrap().unwrap()).unwrap();
        assert!(matches!(response.reply, Reply::Status(_)));
    }
}

fn scalar() -> impl Strategy<Value = Scalar> {
    any::<[u8; 32]>().prop_map(|half| {
        let mut wide = [0; 64];
        wide[..32].copy_from_slice(&half);
        Scalar::from_wide(&wide)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Manifest::from_canonical(&bytes);
        let _ = Hello::check(&bytes);
        let _ = serde_json::from_slice::<Transcript>(&bytes);
        // What decodes at all encodes to the very same bytes.
        if let Ok(request) = codec::decode::<Request>(&bytes) {
            prop_assert_eq!(codec::encode(&request), bytes.clone());
        }
        if let Ok(message) = codec::decode::<PeerMessage>(&bytes) {
            prop_assert_eq!(codec::encode(&message), bytes);
        }
    }

    #[test]
    fn what_follows_a_value_or_spells_it_otherwise_is_refused(number in 0u64..1 << 40, extra in any::<u8>()) {
        let mut bytes = codec::encode(&Request::Acknowledge(number));
        bytes.push(extra);
        prop_assert!(codec::decode::<Request>(&bytes).is_err());
        // 0x80 0x00 spells zero in two bytes.
        prop_assert_eq!(codec::decode::<Request>(&[7, 0x80, 0x00]), Err(DecodeError::NotCanonical));
    }

    #[test]
    fn names_survive_their_text(bytes in any::<[u8; 20]>()) {
        let address = Address(bytes);
        prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        prop_assert_eq!(serde_json::from_str::<Address>(&serde_json::to_string(&address).unwrap()).unwrap(), address);
        prop_assert!(address.to_string()[..41].parse::<Address>().is_err());
    }

    #[test]
    fn scalars_are_a_field_and_points_its_modules(a in scalar(), b in scalar(), c in scalar()) {
        prop_assert_eq!((a.clone() + &b) * &c, a.clone() * &c + b.clone() * &c);
        prop_assert_eq!(a.clone() * &b, b.clone() * &a);
        prop_assert_eq!(a.clone() - &b + &b, a.clone());
        prop_assert_eq!(Scalar::from_bytes(&a.to_bytes()), Some(a.clone()));
        if let Some(inverse) = a.invert() {
            prop_assert_eq!(inverse * &a, Scalar::from_u64(1));
        }
        let (g1, g2) = (G1::generator(), G2::generator());
        prop_assert_eq!(g1 * &a + g1 * &b, g1 * &(a.clone() + &b));
        prop_assert_eq!(g2 * &a * &b, g2 * &(a.clone() * &b));
        prop_assert_eq!((g1 * &a).encode().decode(), Ok(g1 * &a));
        prop_assert!(pairings_equal(&(g1 * &a), &(g2 * &b), &(g1 * &b), &(g2 * &a)));
        prop_assert!(!pairings_equal(&(g1 * &a), &(g2 * &b), &g1, &g2) || a.clone() * &b == Scalar::from_u64(1));
    }

    #[test]
    fn small_multiples_are_sums(a in scalar(), number in 0u16..200) {
        let point = G1::generator() * &a;
        let mut sum = G1::identity();
        (0..number).for_each(|_| sum += point);
        prop_assert_eq!(point.times(number), sum);
    }

    #[test]
    fn committed_polynomials_evaluate_like_their_secrets(
        coefficients in proptest::collection::vec(scalar(), 2..6),
        member in 1u16..100,
    ) {
        let points: Vec<_> = coefficients.iter().map(|one| (G1::generator() * one).encode()).collect();
        let value = coefficients.iter().rev().fold(Scalar::zero(), |sum, one| sum * Scalar::from_u64(member.into()) + one);
        let commitments = Commitments::decode(&points, points.len()).unwrap();
        prop_assert_eq!(commitments.evaluate(MemberId(member)), G1::generator() * &value);
    }

    #[test]
    fn equality_of_logarithms_is_proved_for_what_it_is_only(secret in scalar(), base in scalar(), blinding in scalar()) {
        let (key, base) = (G1::generator() * &secret, G1::generator() * &base);
        let proof = DleqProof::prove(&secret, &base, &blinding, b"context");
        let shared = base * &secret;
        prop_assert!(proof.verify(&key, &base, &shared, b"context"));
        prop_assert!(!proof.verify(&key, &base, &shared, b"another"));
        prop_assert!(!proof.verify(&key, &base, &(shared + G1::generator()), b"context"));
        prop_assert!(!proof.verify(&(key + G1::generator()), &base, &shared, b"context"));
        prop_assert!(!proof.verify(&key, &(base + G1::generator()), &shared, b"context"));
    }

    #[test]
    fn a_dealt_share_opens_for_its_pair_only(point in scalar(), share in any::<[u8; 32]>(), flip in 0usize..48) {
        let shared = G1::generator() * &point;
        let pair = Pair { ceremony: CeremonyId([1; 32]), dealer: MemberId(1), recipient: MemberId(2) };
        let sealed = pair.seal(&shared, &share);
        prop_assert_eq!(&pair.open(&shared, &sealed).unwrap()[..], &share[..]);
        let other = Pair { recipient: MemberId(3), ..pair };
        prop_assert!(other.open(&shared, &sealed).is_none());
        prop_assert!(pair.open(&(shared + G1::generator()), &sealed).is_none());
        let mut altered = sealed;
        altered.0[flip] ^= 1;
        prop_assert!(pair.open(&shared, &altered).is_none());
    }
}

const GOLDEN_MANIFEST: &str = "5bd0fc0a0ca80583878bfe33949855aecb5a036e00f40ea84ade75c3008cf97b";
const GOLDEN_HASH: &str = "0x9c74ac7dc1874116ea28a678b13bf8261d321b003687b7d8ec265de3315b9d5d";
const GOLDEN_LABELLED: &str = "0x1dfe6c3edd9d14196cb3f5b416118acbef3227e5e3e52407cce34c508b86b8b1";
