//! Transcripts verify offline, evidence included, and no part of one can be changed unnoticed.

use postern_host::verify::{Proved, VerifyError, describe, verify_files};
use postern_shared::events::ChainEvent;
use postern_shared::ids::ManifestHash;
use postern_shared::proof::ProvenDeposit;
use postern_shared::transcript::{Claim, Transcript};
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, kind, manifest, pool};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Keygen, presign and release of a DAO of this many members, of which three are needed.
fn transcripts(members: u16, seed: u64) -> Vec<Transcript> {
    let pool = pool(1);
    let mut cluster = Cluster::launch(manifest(members, 3, 3), seed);
    cluster.run(0);
    cluster.observe(deposit_requested(1));
    cluster.run(0);
    let pubkey = cluster.pubkey(pool).unwrap();
    cluster.observe(ChainEvent::ValidatorIndexed { pool, pubkey, validator_index: 17 });
    cluster.run(0);
    cluster.observe(exit_requested(1));
    cluster.run(0);
    let transcripts: Vec<Transcript> = cluster.nodes[0].transcripts().cloned().collect();
    assert_eq!(transcripts.iter().map(kind).collect::<Vec<_>>(), ["keygen", "presign", "release"]);
    transcripts
}

fn write(folder: &Path, name: &str, transcript: &impl serde::Serialize) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, serde_json::to_vec_pretty(transcript).unwrap()).unwrap();
    path
}

#[test]
fn the_life_of_a_pool_verifies_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let transcripts = transcripts(3, 1);
    let paths: Vec<PathBuf> =
        transcripts.iter().map(|transcript| write(folder.path(), kind(transcript), transcript)).collect();
    let hash = transcripts[0].manifest().unwrap().hash();
    let verified = verify_files(&paths, &[hash]).unwrap();
    assert!(verified.iter().all(|verified| verified.simulated && verified.manifest == hash));
    let words: Vec<String> = verified.iter().map(|verified| describe(&verified.claim)).collect();
    assert!(words[0].contains("made by members 1, 2, 3 together; 3 of them"));
    assert!(words[1].contains("validator 17 is presigned; members 1, 2, 3"));
    assert!(words[2].contains("was released by members 1, 2, 3"));
    assert!(matches!(verified[2].claim, Proved::Claim(Claim::Released { .. })));

    let another = verify_files(&paths, &[ManifestHash([1; 32])]);
    assert!(matches!(another, Err(VerifyError::OtherManifest { .. })), "{another:?}");
    // One of several epochs will do.
    assert!(verify_files(&paths, &[ManifestHash([1; 32]), hash]).is_ok());
}

#[test]
fn transcripts_of_two_keys_contradict_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (transcripts(3, 1), transcripts(3, 2));
    let keygen = write(folder.path(), "keygen", &one[0]);
    let presign = write(folder.path(), "presign", &other[1]);
    let release = write(folder.path(), "release", &other[2]);
    for paths in [vec![keygen.clone(), presign], vec![keygen, release]] {
        let refused = verify_files(&paths, &[]);
        assert!(matches!(refused, Err(VerifyError::Contradiction { .. })), "{refused:?}");
    }
}

/// What the pool manager takes is a file that anybody can check, and of which no part can be another.
#[test]
fn a_deposit_is_proved_by_its_file_and_no_part_of_it_can_be_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::launch(manifest(3, 3, 3), 1);
    cluster.run(0);
    cluster.observe(deposit_requested(1));
    cluster.run(0);
    let data = cluster.deposit(pool(1)).unwrap();
    let proof = cluster.prove_deposit(pool(1), &data).unwrap().as_bytes().to_vec();
    let good =
        ProvenDeposit { manifest: cluster.manifest.to_canonical(), pool: pool(1), attempt: 0, data, proof };
    let keygen = write(folder.path(), "keygen", cluster.nodes[0].transcripts().next().unwrap());
    let file = write(folder.path(), "deposit", &good);
    let hash = cluster.manifest.hash();
    let verified = verify_files(&[keygen.clone(), file.clone()], &[hash]).unwrap();
    assert!(describe(&verified[1].claim).contains("the enclaves of members 1, 2, 3 have signed"));
    let refused = verify_files(std::slice::from_ref(&file), &[ManifestHash([1; 32])]);
    assert!(matches!(refused, Err(VerifyError::OtherManifest { .. })), "{refused:?}");
    // Anybody makes up a manifest with signers of their own.
    let refused = verify_files(std::slice::from_ref(&file), &[]);
    assert!(matches!(refused, Err(VerifyError::NoManifest { .. })), "{refused:?}");

    let edits: [fn(&mut ProvenDeposit); 9] = [
        |deposit| deposit.pool.number = 2,
        |deposit| deposit.pool.contract.0[0] ^= 1,
        |deposit| deposit.pool.chain += 1,
        |deposit| deposit.attempt = 1,
        |deposit| deposit.data.message.withdrawal_credentials.0[31] ^= 1,
        |deposit| deposit.data.message.amount = 1_000_000_000,
        |deposit| deposit.data.signature.0[95] ^= 1,
        |deposit| deposit.proof[40] ^= 1,
        |deposit| deposit.manifest.push(0),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let mut other = good.clone();
        edit(&mut other);
        let refused = verify_files(&[write(folder.path(), "other", &other)], &[hash]);
        assert!(matches!(refused, Err(VerifyError::Deposit { .. })), "{number}: {refused:?}");
    }
}

#[test]
fn files_that_are_no_transcripts_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.json");
    assert!(verify_files(&[missing], &[]).unwrap_err().to_string().contains("missing.json"));
    let good = std::fs::read(write(folder.path(), "good", &transcripts(3, 1)[0])).unwrap();
    for content in [b"".to_vec(), b"{}".to_vec(), b"not json".to_vec(), good[..good.len() / 2].to_vec()] {
        let path = folder.path().join("bad.json");
        std::fs::write(&path, content).unwrap();
        assert!(matches!(verify_files(&[path], &[]), Err(VerifyError::Format { .. })));
    }
}

/// The paths of all texts and numbers in a document.
fn leaves(value: &Value, path: String, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            items.iter().zip(0..).for_each(|(item, index)| leaves(item, format!("{path}/{index}"), into));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| leaves(field, format!("{path}/{name}"), into));
        }
        _ => into.push(path),
    }
}

/// Another value of the same kind: one hexadecimal digit, one letter, or one number further.
fn other(value: &Value, position: usize) -> Value {
    match value {
        Value::String(text) if text.starts_with("0x") && text.len() > 2 => {
            let at = 2 + position % (text.len() - 2);
            let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
            Value::from(format!("{}{digit}{}", &text[..at], &text[at + 1..]))
        }
        Value::String(text) => Value::from(format!("{text}x")),
        Value::Number(number) => Value::from(number.as_u64().unwrap_or_default() + 1),
        // A revocation list where there is none.
        Value::Null => Value::from("0x00"),
        other => panic!("a transcript holds no {other}"),
    }
}

#[test]
fn no_part_of_a_transcript_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    // What one member more has said could be spared, and can't be changed either.
    for transcript in transcripts(4, 1) {
        let good = serde_json::to_value(&transcript).unwrap();
        let mut paths = Vec::new();
        leaves(&good, String::new(), &mut paths);
        assert!(paths.len() > 60, "{} has only {} parts", kind(&transcript), paths.len());
        for (path, position) in paths.iter().zip((0..).step_by(13)) {
            let mut changed = good.clone();
            let leaf = changed.pointer_mut(path).unwrap();
            *leaf = other(leaf, position);
            let file = write(folder.path(), "changed.json", &changed);
            assert!(verify_files(&[file], &[]).is_err(), "{}: {path} can be changed", kind(&transcript));
        }
    }
}
