//! `postern verify`: checks transcripts offline, evidence included, and proofs of deposits, which hold by a manifest.

use postern_attestation::{Binding, Launch, Refusal, Time, TrustAnchor, Verifier};
use postern_shared::ethereum::DepositData;
use postern_shared::ids::{Digest, ManifestHash, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::Attestation;
use postern_shared::policy::Trust;
use postern_shared::proof::{ProvenDeposit, ProvenDepositError};
use postern_shared::reshare::KeyCertificate;
use postern_shared::transcript::{Claim, Transcript, TranscriptError};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Why a file is not accepted.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is neither a transcript nor a proof of a deposit.
    #[error("{path}: neither a transcript nor a deposit's proof: {source}", path = path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What and where.
        source: serde_json::Error,
    },
    /// The transcript proves nothing.
    #[error("{path}: {source}", path = path.display())]
    Transcript {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: TranscriptError,
    },
    /// The deposit is not proved.
    #[error("{path}: {source}", path = path.display())]
    Deposit {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: ProvenDepositError,
    },
    /// A deposit's proof holds by the signers that the DAO has named, so it takes a manifest that the verifier trusts.
    #[error(
        "{path}: a deposit is proved by the enclaves that the DAO's manifest names, here {found}: \
         `--config` or `--manifest` and `--data-dir` must say that this is the DAO's",
        path = path.display()
    )]
    NoManifest {
        /// Which file.
        path: PathBuf,
        /// The file's.
        found: ManifestHash,
    },
    /// Of a manifest that is none of the DAO's.
    #[error("{path}: of the manifest {found}, which is none of the DAO's that were given", path = path.display())]
    OtherManifest {
        /// Which file.
        path: PathBuf,
        /// The file's.
        found: ManifestHash,
    },
    /// A participant's evidence does not hold.
    #[error("{path}: evidence of {member}: {source}", path = path.display())]
    Evidence {
        /// Which file.
        path: PathBuf,
        /// Whose.
        member: MemberId,
        /// What is wrong.
        source: Refusal,
    },
    /// A participant that the manifest does not know.
    #[error("{path}: {member} is not in the manifest", path = path.display())]
    Stranger {
        /// Which file.
        path: PathBuf,
        /// Who.
        member: MemberId,
    },
    /// The manifest trusts a simulated root, and this build knows none, or another.
    #[error("{path}: the manifest trusts the simulated root {root}, which this build does not know", path = path.display())]
    UnknownRoot {
        /// Which file.
        path: PathBuf,
        /// SHA-256 of the root certificate.
        root: Digest,
    },
    /// Two of the files contradict each other.
    #[error("{path}: {what}", path = path.display())]
    Contradiction {
        /// The later file.
        path: PathBuf,
        /// In what.
        what: &'static str,
    },
}

/// One file's result.
#[derive(Debug)]
pub struct Verified {
    /// Which file.
    pub path: PathBuf,
    /// What it proves.
    pub claim: Proved,
    /// The DAO.
    pub manifest: ManifestHash,
    /// The DAO: its first manifest.
    pub dao: ManifestHash,
    /// Whether the enclaves were simulated: then nothing was protected.
    pub simulated: bool,
}

/// What a file proves.
#[derive(Debug, Serialize)]
pub enum Proved {
    /// As many enclaves as the pool manager wants have signed that this deposit is the pool's.
    Deposit {
        /// The pool.
        pool: PoolId,
        /// Which of the pool's keys it is of.
        attempt: u16,
        /// The deposit.
        data: DepositData,
        /// Who.
        signers: Vec<MemberId>,
    },
    /// What a ceremony came to.
    #[serde(untagged)]
    Claim(Claim),
}

/// Verifies files, in their order, and against each other: a presign's key must be the one that the keygen certified,
/// a released exit the one that was presigned.
///
/// All must be of `expected` manifests, unless there are none. What holds by the manifest alone then proves nothing.
pub fn verify_files(paths: &[PathBuf], expected: &[ManifestHash]) -> Result<Vec<Verified>, VerifyError> {
    let mut results: Vec<Verified> = Vec::new();
    for path in paths {
        let verified = verify_file(path, expected)?;
        if let Some(what) = results.iter().find_map(|earlier| contradiction(earlier, &verified)) {
            return Err(VerifyError::Contradiction { path: path.clone(), what });
        }
        results.push(verified);
    }
    Ok(results)
}

fn verify_file(path: &Path, expected: &[ManifestHash]) -> Result<Verified, VerifyError> {
    let path = path.to_owned();
    let text = std::fs::read(&path).map_err(|source| VerifyError::Read { path: path.clone(), source })?;
    let format = |source| VerifyError::Format { path: path.clone(), source };
    // A transcript has a record, and a deposit's proof its data: which one it is decides what is wrong with it.
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(format)?;
    if value.get("data").is_some() {
        let deposit = serde_json::from_value(value).map_err(format)?;
        return verify_deposit(path, &deposit, expected);
    }
    let transcript: Transcript = serde_json::from_value(value).map_err(format)?;
    let broken = |source| VerifyError::Transcript { path: path.clone(), source };
    let claim = transcript.verify().map_err(broken)?;
    let manifest = transcript.manifest().map_err(broken)?;
    must_be_of(expected, &path, manifest.hash())?;
    let trust = manifest.attestation.trust;
    let anchor = trust_anchor(trust)
        .map_err(|UnknownSimulation(root)| VerifyError::UnknownRoot { path: path.clone(), root })?;
    let simulated = !anchor.is_amd();
    // A transcript is older than its verification; certificates may have expired since.
    let time = Time::NotBefore(manifest.attestation.not_before);
    let mut verifier = Verifier::new(anchor, manifest.attestation.clone(), time);
    for attestation in transcript.roster() {
        verify_evidence(&path, &manifest, &mut verifier, attestation)?;
    }
    let (manifest, dao) = (manifest.hash(), manifest.genesis());
    Ok(Verified { path, claim: Proved::Claim(claim), manifest, dao, simulated })
}

fn must_be_of(expected: &[ManifestHash], path: &Path, found: ManifestHash) -> Result<(), VerifyError> {
    if expected.is_empty() || expected.contains(&found) {
        return Ok(());
    }
    Err(VerifyError::OtherManifest { path: path.to_owned(), found })
}

/// The signers are whom the expected manifest names: what the file says of them would prove nothing.
fn verify_deposit(
    path: PathBuf,
    deposit: &ProvenDeposit,
    expected: &[ManifestHash],
) -> Result<Verified, VerifyError> {
    let (manifest, signers) =
        deposit.verify().map_err(|source| VerifyError::Deposit { path: path.clone(), source })?;
    let (found, simulated) = (manifest.hash(), manifest.attestation.trust != Trust::Amd);
    if expected.is_empty() {
        return Err(VerifyError::NoManifest { path, found });
    }
    must_be_of(expected, &path, found)?;
    let ProvenDeposit { pool, attempt, data, .. } = *deposit;
    let claim = Proved::Deposit { pool, attempt, data, signers };
    Ok(Verified { path, claim, manifest: found, dao: manifest.genesis(), simulated })
}

fn verify_evidence(
    path: &Path,
    manifest: &Manifest,
    verifier: &mut Verifier,
    attestation: &Attestation,
) -> Result<(), VerifyError> {
    let member = attestation.identity.member;
    let entry =
        manifest.member(member).ok_or_else(|| VerifyError::Stranger { path: path.to_owned(), member })?;
    let launch = Launch { epoch: manifest.epoch, host_data: manifest.genesis().0, chip_ids: &entry.chip_ids };
    let report_data = Binding::of(manifest.genesis(), attestation).report_data();
    verifier
        .verify(&attestation.evidence, &launch, &report_data)
        .map(|_| ())
        .map_err(|source| VerifyError::Evidence { path: path.to_owned(), member, source })
}

/// A simulation that this build does not know.
#[derive(Debug, thiserror::Error)]
#[error("this build does not know the simulated root {0}")]
pub struct UnknownSimulation(pub Digest);

/// The roots that a manifest trusts.
pub fn trust_anchor(trust: Trust) -> Result<TrustAnchor, UnknownSimulation> {
    match trust {
        Trust::Amd => Ok(TrustAnchor::amd()),
        Trust::Simulation { root } => simulated_anchor(root).ok_or(UnknownSimulation(root)),
    }
}

#[cfg(feature = "devnet")]
fn simulated_anchor(root: Digest) -> Option<TrustAnchor> {
    let anchor = postern_simulation::trust_anchor();
    (anchor.fingerprint() == root.0).then_some(anchor)
}

#[cfg(not(feature = "devnet"))]
fn simulated_anchor(_root: Digest) -> Option<TrustAnchor> {
    None
}

/// In what two files about one pool contradict each other.
fn contradiction(earlier: &Verified, later: &Verified) -> Option<&'static str> {
    if earlier.dao != later.dao {
        return None;
    }
    match (&earlier.claim, &later.claim) {
        (Proved::Claim(earlier), Proved::Claim(later)) => contradicting_claims(earlier, later),
        (Proved::Claim(claim), Proved::Deposit { pool, data, .. })
        | (Proved::Deposit { pool, data, .. }, Proved::Claim(claim)) => {
            let (of, pubkey) = match claim {
                Claim::Key { pool, certificate, .. } | Claim::Presigned { pool, certificate, .. } => {
                    (pool, certificate.pubkey())
                }
                Claim::Released { pool, pubkey, .. } => (pool, *pubkey),
                Claim::Reshared { pool, certificate, .. } => (pool, certificate.pubkey()),
                Claim::Cheated { .. } => return None,
            };
            (pool == of && pubkey != data.message.pubkey)
                .then_some("a deposit of another key than the pool's")
        }
        (
            Proved::Deposit { pool, data, attempt, .. },
            Proved::Deposit { pool: of, data: other, attempt: again, .. },
        ) => ((pool, attempt) == (of, again) && data.message != other.message)
            .then_some("two deposits for one pool: as many enclaves as prove one are broken"),
    }
}

fn contradicting_claims(earlier: &Claim, later: &Claim) -> Option<&'static str> {
    match (earlier, later) {
        (Claim::Key { pool, certificate, .. }, Claim::Presigned { pool: of, certificate: used, .. }) => {
            (pool == of && certificate != used).then_some("presigned with another key than keygen certified")
        }
        (Claim::Key { pool, certificate, .. }, Claim::Released { pool: of, pubkey, .. }) => (pool == of
            && certificate.pubkey() != *pubkey)
            .then_some("released for another key than keygen certified"),
        (Claim::Key { pool, certificate, .. }, Claim::Reshared { pool: of, before, .. }) => {
            let other = match before {
                KeyCertificate::Keygen(before) => before != certificate,
                KeyCertificate::Reshare(_) => before.pubkey() != Some(certificate.pubkey()),
            };
            (pool == of && other).then_some("another key was dealt again than keygen certified")
        }
        (Claim::Reshared { pool, certificate, .. }, Claim::Reshared { pool: of, before, .. }) => {
            let follows = before.generation() == certificate.generation;
            let other = match before {
                KeyCertificate::Reshare(before) if follows => before != certificate,
                _ => before.pubkey() != Some(certificate.pubkey()),
            };
            (pool == of && other).then_some("other shares were dealt again than the reshare before has made")
        }
        (Claim::Presigned { pool, exit, .. }, Claim::Released { pool: of, exit: released, .. }) => {
            (pool == of && *exit != released.message).then_some("released another exit than was presigned")
        }
        _ => None,
    }
}

/// What a claim says, for people.
pub fn describe(claim: &Proved) -> String {
    let names = |members: &[MemberId]| {
        members.iter().map(|member| member.0.to_string()).collect::<Vec<_>>().join(", ")
    };
    let claim = match claim {
        Proved::Claim(claim) => claim,
        Proved::Deposit { pool, data, signers, .. } => {
            return format!(
                "{pool}: the enclaves of members {} have signed that the deposit for validator key {} is the pool's; its \
                 root is {}, and its stake comes back to {}",
                names(signers),
                data.message.pubkey,
                data.hash_tree_root(),
                data.message.withdrawal_credentials
            );
        }
    };
    match claim {
        Claim::Key { pool, certificate, operators, threshold, .. } => format!(
            "{pool}: validator key {} was made by members {} together; {threshold} of them are needed to use it, and its \
             deposit is signed",
            certificate.pubkey(),
            names(operators)
        ),
        Claim::Presigned { pool, exit, guardians, threshold, .. } => format!(
            "{pool}: the exit of validator {} is presigned; members {} hold good shares, {threshold} release it",
            exit.validator_index,
            names(guardians)
        ),
        Claim::Released { pool, exit, guardians, .. } => format!(
            "{pool}: the exit of validator {} was released by members {} and is valid",
            exit.message.validator_index,
            names(guardians)
        ),
        Claim::Reshared { pool, certificate, confirmed, threshold, operators, .. } => format!(
            "{pool}: validator key {} was dealt again, for the {}th time, to members {}; members {} have confirmed their \
             shares, and {threshold} of them are needed to use it",
            certificate.pubkey(),
            certificate.generation,
            names(operators),
            names(confirmed)
        ),
        Claim::Cheated { pool, culprit } => format!("{pool}: {culprit} cheated, and this proves it"),
    }
}
