//! How far the members' hosts are, by what they write down.

use super::dao::MemberFiles;
use crate::status::{HostStatus, PoolStatus, STATUS_FILE};
use postern_shared::ids::PoolId;
use std::path::PathBuf;

/// What the hosts' files say about one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PoolProgress {
    /// The keygen's transcript.
    pub(super) keygen: Option<PathBuf>,
    /// The presign's transcript.
    pub(super) presign: Option<PathBuf>,
    /// The release's transcript.
    pub(super) release: Option<PathBuf>,
    /// What is going on, for people.
    pub(super) activity: String,
}

/// Reads what the members know about a pool: the first member that has a transcript counts.
pub(super) fn read(members: &[MemberFiles], pool: PoolId) -> PoolProgress {
    let mut progress = PoolProgress::default();
    for status in members.iter().filter_map(|member| read_one(member, pool)) {
        progress.keygen = progress.keygen.or(status.transcripts.keygen);
        progress.presign = progress.presign.or(status.transcripts.presign);
        progress.release = progress.release.or(status.transcripts.release);
        if let Some(step) = status.progress
            && progress.activity.is_empty()
        {
            progress.activity = format!("{}: {} {}/{}", step.kind, step.step, step.have, step.of);
        }
    }
    progress
}

/// A host that has not written its file yet, or writes it right now, knows nothing.
fn read_one(member: &MemberFiles, pool: PoolId) -> Option<PoolStatus> {
    let text = std::fs::read(member.data.join(STATUS_FILE)).ok()?;
    let status: HostStatus = serde_json::from_slice(&text).ok()?;
    status.pools.into_iter().find(|known| known.pool_id == pool)
}
