//! How far the members' hosts are, by what they write down.

use super::dao::MemberFiles;
use crate::status::{HostStatus, PoolStatus, STATUS_FILE};
use postern_shared::ids::PoolId;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the hosts' files say about one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolProgress {
    /// The keygen's transcript.
    pub keygen: Option<PathBuf>,
    /// The presign's transcript.
    pub presign: Option<PathBuf>,
    /// The release's transcript.
    pub release: Option<PathBuf>,
    /// What is going on, for people.
    pub activity: String,
}

/// Reads what the members know about all pools: the first member that has a transcript counts.
pub(super) fn read(members: &[MemberFiles]) -> BTreeMap<PoolId, PoolProgress> {
    let mut all: BTreeMap<PoolId, PoolProgress> = BTreeMap::new();
    for PoolStatus { pool_id, transcripts, progress, .. } in members.iter().flat_map(read_one) {
        let known = all.entry(pool_id).or_default();
        known.keygen = known.keygen.take().or(transcripts.keygen);
        known.presign = known.presign.take().or(transcripts.presign);
        known.release = known.release.take().or(transcripts.release);
        if let Some(step) = progress
            && known.activity.is_empty()
        {
            known.activity = format!("{}: {} {}/{}", step.kind, step.step, step.have, step.of);
        }
    }
    all
}

/// A host that has not written its file yet, or writes it right now, knows nothing.
fn read_one(member: &MemberFiles) -> Vec<PoolStatus> {
    let text = std::fs::read(member.data.join(STATUS_FILE)).unwrap_or_default();
    serde_json::from_slice(&text).map_or(Vec::new(), |status: HostStatus| status.pools)
}
