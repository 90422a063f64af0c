//! The status file.

use super::files::write_whole;
use super::{DaemonError, Shared, alerts};
use crate::status::{HostStatus, Refused, STATUS_FILE, Subject};
use crate::store::StoreError;
use postern_shared::policy::Trust;
use postern_shared::wire::{RefusedMember, Standing, Status};
use std::sync::Arc;
use std::time::Duration;

/// Shortest time between two versions of the file.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest time without a look.
const LONGEST: Duration = Duration::from_secs(1);

/// Writes whenever something has changed, for ever.
pub(super) async fn write(shared: Arc<Shared>) -> DaemonError {
    let path = shared.data_dir.join(STATUS_FILE);
    let (mut written, mut last) = (None, None);
    loop {
        let mut changed = std::pin::pin!(shared.store.changed.notified());
        changed.as_mut().enable();
        let status = match status(&shared, &mut last).await {
            Ok(status) => status,
            Err(error) => return error.into(),
        };
        if written.as_ref() != Some(&status) {
            let text = serde_json::to_vec_pretty(&status).unwrap_or_default();
            match write_whole(&path, &text) {
                Ok(()) => written = Some(status),
                Err(error) => tracing::warn!(path = %path.display(), %error, "the status can't be written"),
            }
        }
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(LONGEST) => {}
        }
    }
}

/// `last` is what the enclave said when it last answered.
async fn status(shared: &Shared, last: &mut Option<Status>) -> Result<HostStatus, StoreError> {
    let mut pools = shared.store.pools()?;
    let news = shared.store.news();
    for pool in &mut pools {
        pool.progress = news.progress.get(&pool.pool_id).cloned();
        pool.faults.extend(news.faults.get(&pool.pool_id).into_iter().flatten());
        pool.faults.sort_unstable();
        pool.faults.dedup();
        pool.posts = shared.posts.of(pool.pool_id);
    }
    let answer = shared.enclave.status().await.ok();
    let enclave_answers = answer.is_some();
    if enclave_answers {
        shared.troubles.clear(&Subject::Enclave);
    } else {
        shared.troubles.set(Subject::Enclave, "does not answer");
    }
    *last = answer.or(last.take());
    let (admitted, refused) =
        last.as_ref().map(|last| (last.admitted.clone(), last.refused.clone())).unwrap_or_default();
    let enclave = last.as_ref().map(|last| (last.standing, last.head.number, last.incarnation, last.epoch));
    let (standing, log, incarnation, epoch) = enclave.unwrap_or((Standing::Idle, 0, 0, 0));
    let identity = last.as_ref().and_then(|last| last.identity);
    let refused = refused.into_iter().map(|RefusedMember { member, checks, cut_off }| Refused {
        member,
        cut_off,
        checks,
        reasons: news.reasons.get(&member).cloned().unwrap_or_default(),
    });
    Ok(HostStatus {
        member: shared.member.0,
        simulated: shared.manifest.attestation.trust != Trust::Amd,
        enclave_answers,
        standing: standing.to_string(),
        log,
        incarnation,
        epoch,
        enclave: identity,
        fingerprint: identity.map(|identity| identity.fingerprint()),
        waiting: last.as_ref().and_then(|last| last.waiting.clone()),
        admitted,
        refused: refused.collect(),
        alerts: alerts::all(&shared.data_dir),
        troubles: shared.troubles.all(),
        pools,
    })
}
