//! What hostile or broken neighbours can hand in: manifests, frames, versions, garbage.
//!
//! What any bytes do to decoders is in `shared/tests/encodings.rs`.

use postern_enclave::core::Core;
use postern_enclave::shell::{Limits, ServeError, serve};
use postern_shared::codec::{self, DecodeError};
use postern_shared::ids::{ChipId, MemberId};
use postern_shared::manifest::{Manifest, ManifestError};
use postern_shared::wire::{Hello, MAX_FRAME, PROTOCOL_VERSION, Reply, Request, Response, encode_frame};
use postern_simulation::{Machine, SoftwarePsp};
use postern_tests::cluster::manifest;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

#[test]
fn a_manifest_error_names_its_field() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 32] = [
        ("version", |manifest| manifest.version = 1),
        ("name", |manifest| manifest.name.clear()),
        ("name", |manifest| manifest.name = "a\nb".into()),
        ("name", |manifest| manifest.name = "x".repeat(65)),
        ("leader", |manifest| manifest.leader = MemberId(0)),
        ("leader", |manifest| manifest.leader = MemberId(9)),
        ("members", |manifest| manifest.members.clear()),
        ("members", |manifest| manifest.members.truncate(1)),
        ("members", |manifest| manifest.members = vec![manifest.members[0].clone(); 41]),
        ("history", |manifest| manifest.epoch = 1),
        ("members[1].id", |manifest| manifest.members[1].id = MemberId(0)),
        ("members[2].id", |manifest| manifest.members[2].id = MemberId(2)),
        ("members[0].name", |manifest| manifest.members[0].name.clear()),
        ("members[2].name", |manifest| manifest.members[2].name = "tab\t".into()),
        ("members[2].name", |manifest| manifest.members[2].name = "ä".repeat(33)),
        ("members[4].name", |manifest| manifest.members[4].name = manifest.members[1].name.clone()),
        ("members[1].operator", |manifest| {
            (manifest.members[1].operator, manifest.members[1].guardian) = (false, false);
        }),
        ("members[3].wallet", |manifest| manifest.members[3].wallet = manifest.members[0].wallet),
        ("members[3].host_key", |manifest| manifest.members[3].host_key = manifest.members[0].host_key),
        ("members[3].chip_ids", |manifest| {
            manifest.members[3].chip_ids = manifest.members[0].chip_ids.clone();
        }),
        ("members[3].chip_ids", |manifest| manifest.members[3].chip_ids[0].0 = [0; 64]),
        ("members[3].chip_ids", |manifest| manifest.members[3].chip_ids.clear()),
        ("members[3].chip_ids", |manifest| manifest.members[3].chip_ids = vec![ChipId([7; 64]); 9]),
        ("thresholds.operator", |manifest| manifest.thresholds.operator = 1),
        // Enough members, but too few in the role.
        ("thresholds.operator", |manifest| {
            manifest.members.iter_mut().skip(2).for_each(|member| member.operator = false);
        }),
        ("thresholds.guardian", |manifest| manifest.thresholds.guardian = 0),
        ("thresholds.guardian", |manifest| manifest.thresholds.guardian = 6),
        // One enclave fewer than sign with a key, or than more than half; or more than there are.
        ("thresholds.proof", |manifest| manifest.thresholds.proof = 2),
        ("thresholds.proof", |manifest| {
            (manifest.thresholds.operator, manifest.thresholds.guardian, manifest.thresholds.proof) =
                (2, 2, 2);
        }),
        ("thresholds.proof", |manifest| manifest.thresholds.proof = 6),
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
    // Another version is refused by its number, whatever fields it has.
    let canonical = good.to_canonical();
    let older = [&[5][..], &canonical[1..canonical.len() / 2]].concat();
    let refused = "manifest field `version`: this build reads version 6, not 5";
    assert_eq!(Manifest::from_canonical(&older).unwrap_err().to_string(), refused);
    let older = text.replacen("version = 6", "version = 5", 1).replace("start_block = 1\n", "");
    assert_eq!(Manifest::from_toml(&older).unwrap_err().to_string(), refused);
    for cut in 0..canonical.len() {
        assert!(Manifest::from_canonical(&canonical[..cut]).is_err());
    }
}

/// A golden hash, of version 6: if it changes, no enclave that was launched for a manifest starts for it any more.
#[test]
fn the_hash_of_a_manifest_has_not_changed() {
    let mut fixed = manifest(3, 2, 2);
    for (member, byte) in fixed.members.iter_mut().zip(1..) {
        member.chip_ids = vec![ChipId([byte; 64])];
    }
    fixed.attestation.trust = postern_shared::policy::Trust::Amd;
    let expected = "0xe996ea0cbfe76009b9f891198e512a9c58736f2f44b440d597fa237e48d10387";
    assert_eq!(fixed.hash().to_string(), expected);
}

/// A shell on one end of a socket, its verdict when the other end is done.
fn with_shell(talk: impl FnOnce(&mut UnixStream)) -> Result<(), ServeError> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let shell = std::thread::spawn(move || {
        let mut core = Core::new(SoftwarePsp::new(Machine::default()));
        serve(&mut core, &Limits::default(), theirs)
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
        format!("this side speaks protocol version {PROTOCOL_VERSION}, the other side version 99")
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
        assert!(matches!(serve(&mut core, &Limits::default(), theirs), Err(ServeError::Truncated)));
        let mut answers = Vec::new();
        ours.read_to_end(&mut answers).unwrap();
        let mut frames = postern_shared::wire::FrameDecoder::default();
        frames.push(&answers);
        Hello::check(&frames.next_frame().unwrap().unwrap()).unwrap();
        let response: Response = codec::decode(&frames.next_frame().unwrap().unwrap()).unwrap();
        assert!(matches!(response.reply, Reply::Status(_)));
    }
}
