//! What is wrong for now, for people: said once, then rarely, and gone by itself as soon as it is right again. What stays
//! until a person has looked at it is an [alert](super::alerts).

use crate::clock;
use crate::status::{Subject, Trouble};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the log says again what is still wrong.
const SAY_AGAIN: Duration = Duration::from_hours(1);

/// All that is wrong now.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<BTreeMap<Subject, Open>>);

#[derive(Debug)]
struct Open {
    /// By the clock that people go by.
    since: u64,
    reason: String,
    said: Instant,
}

impl Troubles {
    fn open(&self) -> MutexGuard<'_, BTreeMap<Subject, Open>> {
        // Nothing is done under the lock that could leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is wrong, and why. `reason` holds no secret.
    pub(super) fn set(&self, subject: Subject, reason: impl Display) {
        let reason = reason.to_string();
        let mut open = self.open();
        match open.get_mut(&subject) {
            Some(known) if known.reason == reason && known.said.elapsed() < SAY_AGAIN => {}
            Some(known) => {
                tracing::warn!(?subject, %reason, "still wrong");
                (known.reason, known.said) = (reason, Instant::now());
            }
            None => {
                tracing::warn!(?subject, %reason, "wrong");
                open.insert(subject, Open { since: clock::now(), reason, said: Instant::now() });
            }
        }
    }

    /// This is right.
    pub(super) fn clear(&self, subject: &Subject) {
        if self.open().remove(subject).is_some() {
            tracing::info!(?subject, "right again");
        }
    }

    /// This is wrong for this reason, or right.
    pub(super) fn show(&self, subject: Subject, reason: Option<impl Display>) {
        match reason {
            Some(reason) => self.set(subject, reason),
            None => self.clear(&subject),
        }
    }

    /// For the status file.
    pub(super) fn all(&self) -> Vec<Trouble> {
        let open = self.open();
        let said = open.iter().map(|(subject, open)| Trouble {
            subject: subject.clone(),
            since: open.since,
            reason: open.reason.clone(),
        });
        said.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_shown_since_when_until_it_is_right() {
        let troubles = Troubles::default();
        troubles.set(Subject::Wallet, "empty");
        let first = troubles.all();
        troubles.set(Subject::Wallet, "still empty");
        let second = troubles.all();
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_eq!((first[0].since, second[0].reason.as_str()), (second[0].since, "still empty"));
        troubles.clear(&Subject::Wallet);
        assert_eq!(troubles.all(), []);
    }
}
