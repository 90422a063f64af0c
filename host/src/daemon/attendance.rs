//! Who is with us: asks for fresh evidence on a schedule and on SIGHUP, publishes the own enclave's, and tells it whom to
//! go on without.

use super::results::write_whole;
use super::{DaemonError, RETRY, Shared, credentials};
use postern_shared::ids::{MemberId, Nonce};
use postern_shared::wire::{Reply, Request};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// The own enclave's evidence in the data directory, for anybody to look at (`postern attest`).
pub const EVIDENCE_FILE: &str = "evidence.json";

/// Has all evidence made anew, at once and for ever after.
pub(super) async fn attest(shared: Arc<Shared>) -> DaemonError {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return DaemonError::Task(format!("SIGHUP can't be listened for: {error}")),
    };
    loop {
        if let Err(reason) = credentials::renew(&shared).await {
            tracing::warn!(reason, "the enclave's certificates stay as they are");
        }
        let pause = match renew(&shared).await {
            Ok(()) => shared.reattest,
            Err(Attempt::Final(error)) => return error,
            Err(Attempt::Again(reason)) => {
                tracing::warn!(reason, "no fresh evidence; trying again");
                RETRY.max(shared.tick)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = hangup.recv() => tracing::info!("asking all members for fresh evidence"),
        }
    }
}

/// Why there is no fresh evidence.
enum Attempt {
    Again(String),
    Final(DaemonError),
}

async fn renew(shared: &Shared) -> Result<(), Attempt> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| Attempt::Again(error.to_string()))?;
    let requests = [Request::Reattest(None), Request::Attest(Nonce(nonce))];
    let replies = shared.enclave.ask_all(&requests).await.map_err(|error| {
        if error.is_lasting() {
            Attempt::Final(DaemonError::Enclave(error))
        } else {
            Attempt::Again(error.to_string())
        }
    })?;
    let Some(Reply::Attestation(attestation)) = replies.last() else {
        return Err(Attempt::Again("the enclave gives no evidence".to_owned()));
    };
    let path = shared.data_dir.join(EVIDENCE_FILE);
    serde_json::to_vec_pretty(attestation)
        .map_err(std::io::Error::from)
        .and_then(|text| write_whole(&path, &text))
        .map_err(|error| Attempt::Again(format!("{}: {error}", path.display())))
}

/// Since when members have been away, by this host's clock. Only progress hangs on it, never safety: the enclave leaves
/// out nobody whom it has admitted, and goes on only with enough others.
#[derive(Default)]
pub(super) struct Attendance {
    since: BTreeMap<MemberId, Instant>,
    told: Vec<MemberId>,
}

impl Attendance {
    /// Tells the enclave whom to go on without, if that has changed or may have been forgotten.
    pub(super) async fn check(&mut self, shared: &Shared) -> Result<(), DaemonError> {
        let Ok(status) = shared.enclave.status().await else { return Ok(()) };
        let members = shared.manifest.members.iter().map(|member| member.id);
        let absent = members.filter(|member| !status.admitted.contains(member));
        let away = self.away(absent, Instant::now(), shared.patience);
        if away.is_empty() && self.told.is_empty() {
            return Ok(());
        }
        if away != self.told {
            tracing::warn!(members = ?away, "going on without these members, as far as enough others are there");
        }
        match shared.enclave.ask(&Request::GoOnWithout(away.clone())).await {
            Ok(_) => self.told = away,
            Err(error) if error.is_lasting() => return Err(DaemonError::Enclave(error)),
            Err(error) => tracing::debug!(%error, "the enclave can't be told"),
        }
        Ok(())
    }

    /// Those of the absent that have been so for longer than the patience.
    fn away(
        &mut self,
        absent: impl Iterator<Item = MemberId>,
        now: Instant,
        patience: Duration,
    ) -> Vec<MemberId> {
        let earlier = std::mem::take(&mut self.since);
        self.since = absent.map(|member| (member, earlier.get(&member).copied().unwrap_or(now))).collect();
        let long = |since: Instant| now.saturating_duration_since(since) >= patience;
        self.since.iter().filter(|(_, since)| long(**since)).map(|(member, _)| *member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_away_all_the_time_is_gone_on_without() {
        let (start, patience) = (Instant::now(), Duration::from_secs(10));
        let mut attendance = Attendance::default();
        let mut look = |absent: &[u16], seconds| {
            let now = start + Duration::from_secs(seconds);
            attendance.away(absent.iter().copied().map(MemberId), now, patience)
        };
        assert_eq!(look(&[2, 5], 0), []);
        assert_eq!(look(&[2, 5], 9), []);
        assert_eq!(look(&[5], 10), [MemberId(5)]);
        // Member 2 came back, and its time begins anew.
        assert_eq!(look(&[2, 5], 12), [MemberId(5)]);
        assert_eq!(look(&[2, 5], 22), [MemberId(2), MemberId(5)]);
        assert_eq!(look(&[], 23), []);
    }
}
