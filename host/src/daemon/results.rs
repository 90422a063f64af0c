//! What follows from what the enclave published: files for people, and exits to keep.

use super::{DaemonError, RETRY, Shared, files};
use crate::store::StoredArtifact;
use postern_shared::agreement::Fork;
use postern_shared::codec;
use postern_shared::message::Broadcast;
use postern_shared::transcript::Transcript;
use postern_shared::wire::Artifact;
use std::path::PathBuf;
use std::sync::Arc;

/// Acts for ever.
pub(super) async fn act(shared: Arc<Shared>) -> DaemonError {
    loop {
        let mut changed = std::pin::pin!(shared.store.changed.notified());
        changed.as_mut().enable();
        let open = match shared.store.open_artifacts() {
            Ok(open) => open,
            Err(error) => return error.into(),
        };
        for StoredArtifact { id, artifact } in open {
            match act_on(&shared, &artifact) {
                Ok(true) => {
                    if let Err(error) = shared.store.close_artifact(id) {
                        return error.into();
                    }
                }
                Ok(false) => {}
                Err(error) => return error,
            }
        }
        tokio::select! {
            () = changed => tokio::time::sleep(RETRY.min(shared.poll)).await,
            () = tokio::time::sleep(shared.poll) => {}
        }
    }
}

/// Does the next thing that follows from a result; whether all is done.
fn act_on(shared: &Shared, artifact: &Artifact) -> Result<bool, DaemonError> {
    match artifact {
        Artifact::Transcript(transcript) => publish(shared, transcript),
        // `deposits` sees to it.
        Artifact::Deposit { .. } => Ok(false),
        Artifact::Exit { pool, exit } => {
            // `posting` and `released` see to it.
            shared.store.change_pool(*pool, |status| {
                (status.exit, status.is_released_here) = (Some(*exit), true);
            })?;
            Ok(true)
        }
        Artifact::Fork(fork) => report(shared, fork),
    }
}

/// Writes down which wallets have signed two epochs in one's place, with the epochs that prove it.
fn report(shared: &Shared, fork: &Fork) -> Result<bool, DaemonError> {
    let name = Broadcast::digest_of(&codec::encode(fork));
    let Some(path) = files::write(&shared.data_dir, "forks", &format!("{name}.json"), fork) else {
        return Ok(false);
    };
    let culprits = fork.culprits();
    tracing::error!(?culprits, path = %path.display(), "members have signed two epochs in one's place");
    Ok(true)
}

/// Writes a transcript where people find it.
fn publish(shared: &Shared, transcript: &Transcript) -> Result<bool, DaemonError> {
    let (kind, pool) = (transcript.record.name(), transcript.record.terms().pool());
    let name = format!("{kind}-pool-{}.json", pool.text());
    let Some(path) = files::write(&shared.data_dir, "transcripts", &name, transcript) else {
        return Ok(false);
    };
    let culprit = transcript.record.fault().map(|fault| fault.culprit);
    shared.store.change_pool(pool, |status| {
        status.faults.extend(culprit.filter(|culprit| !status.faults.contains(culprit)));
        let place: &mut Option<PathBuf> = match kind {
            "keygen" => &mut status.transcripts.keygen,
            "presign" => &mut status.transcripts.presign,
            "release" => &mut status.transcripts.release,
            _ => &mut status.transcripts.fault,
        };
        *place = Some(path.clone());
    })?;
    Ok(true)
}
