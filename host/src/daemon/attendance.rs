//! Who is with us: asks for fresh evidence on a schedule and on SIGHUP, publishes the own enclave's, and tells it whom to
//! go on without.

use super::{DaemonError, RETRY, Shared, credentials};
use crate::whole_file;
use postern_shared::agreement::{Attempt, Subject};
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
            Err(Failed::Final(error)) => return error,
            Err(Failed::Again(reason)) => {
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
enum Failed {
    Again(String),
    Final(DaemonError),
}

async fn renew(shared: &Shared) -> Result<(), Failed> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| Failed::Again(error.to_string()))?;
    let requests = [Request::Reattest(None), Request::Attest(Nonce(nonce))];
    let replies = shared.enclave.ask_all(&requests).await.map_err(|error| {
        if error.is_lasting() {
            Failed::Final(DaemonError::Enclave(error))
        } else {
            Failed::Again(error.to_string())
        }
    })?;
    let Some(Reply::Attestation(attestation)) = replies.last() else {
        return Err(Failed::Again("the enclave gives no evidence".to_owned()));
    };
    let path = shared.data_dir.join(EVIDENCE_FILE);
    serde_json::to_vec_pretty(attestation)
        .map_err(std::io::Error::from)
        .and_then(|text| whole_file::replace(&path, &text))
        .map_err(|error| Failed::Again(format!("{}: {error}", path.display())))
}

/// Most doublings of the patience with a decision.
const MAX_DOUBLINGS: u32 = 6;

/// Since when members have been away, by this host's clock. Only progress hangs on it, never safety: the enclave leaves
/// out nobody whom it has admitted, and goes on only with enough others.
#[derive(Default)]
pub(super) struct Attendance {
    since: BTreeMap<MemberId, Instant>,
    told: Vec<MemberId>,
    deciding: Deciding,
}

/// Since when the enclave has been in its attempts at decisions.
#[derive(Default)]
struct Deciding {
    since: BTreeMap<Subject, (Attempt, Instant)>,
}

impl Deciding {
    /// Those that take too long. The patience doubles with each attempt, so that one is long enough in the end, however slow
    /// the members are.
    fn overdue(
        &mut self,
        undecided: &[(Subject, Attempt)],
        now: Instant,
        patience: Duration,
    ) -> Vec<Subject> {
        let earlier = std::mem::take(&mut self.since);
        for (subject, attempt) in undecided {
            let known = earlier.get(subject).filter(|(known, _)| known == attempt);
            self.since.insert(*subject, known.copied().unwrap_or((*attempt, now)));
        }
        let overdue = self.since.iter_mut().filter(|(_, (attempt, since))| {
            let patience = patience.saturating_mul(1 << attempt.number.min(MAX_DOUBLINGS));
            now.saturating_duration_since(*since) >= patience
        });
        overdue
            .map(|(subject, (_, since))| {
                *since = now;
                *subject
            })
            .collect()
    }
}

impl Attendance {
    /// Tells the enclave whom to go on without, if that has changed or may have been forgotten.
    pub(super) async fn check(&mut self, shared: &Shared) -> Result<(), DaemonError> {
        let Ok(status) = shared.enclave.status().await else { return Ok(()) };
        let members = shared.manifest.members.iter().map(|member| member.id);
        let absent = members.filter(|member| !status.admitted.contains(member));
        let away = self.away(absent, Instant::now(), shared.patience);
        for subject in self.deciding.overdue(&status.undecided, Instant::now(), shared.patience) {
            tracing::warn!(?subject, "no decision yet: this host wants another attempt");
            match shared.enclave.ask(&Request::GiveUp(subject)).await {
                Ok(_) => {}
                Err(error) if error.is_lasting() => return Err(DaemonError::Enclave(error)),
                Err(error) => tracing::debug!(%error, "the enclave can't be told"),
            }
        }
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
    fn an_attempt_that_takes_too_long_is_left_and_the_next_may_take_twice_as_long() {
        let (start, patience) = (Instant::now(), Duration::from_secs(10));
        let subject = Subject::Epoch(postern_shared::ids::ManifestHash([1; 32]));
        let mut deciding = Deciding::default();
        let mut look = |number: Option<u32>, seconds| {
            let undecided: Vec<_> =
                number.map(|number| (subject, Attempt { generation: 1, number })).into_iter().collect();
            !deciding.overdue(&undecided, start + Duration::from_secs(seconds), patience).is_empty()
        };
        assert!(!look(Some(0), 0) && !look(Some(0), 9));
        assert!(look(Some(0), 10));
        assert!(!look(Some(0), 11), "it was said, and is said again when as much time has passed");
        assert!(look(Some(0), 20));
        assert!(!look(Some(1), 21) && !look(Some(1), 40) && look(Some(1), 41));
        assert!(!look(None, 42) && !look(Some(0), 100) && look(Some(0), 110), "another decision");
    }

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
