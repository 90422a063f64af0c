//! How often others have this enclave prove itself. A report takes the secure processor milliseconds, evidence is several
//! kilobytes, and whoever asks chooses when.
//!
//! So between two ticks each member is answered twice at most: once the enclave that is admitted for it, and once any
//! other, because a member that was launched again has new keys. A question that is repeated is answered by the same
//! evidence. What is kept for that is two attestations for each member, with this enclave's own certificates.

use postern_shared::ids::MemberId;
use postern_shared::message::{Attestation, Challenge};
use postern_shared::wire::Rejection;
use std::collections::BTreeMap;

/// What was answered last, to whom.
#[derive(Default)]
pub(crate) struct Answers(BTreeMap<(MemberId, Asker), Answered>);

/// Which enclave of a member asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    /// The one that is admitted.
    Admitted,
    /// One that is not, yet.
    Other,
}

#[derive(Default)]
struct Answered {
    /// Whether anything was since the last tick, be it in vain.
    used: bool,
    last: Option<Attestation>,
}

/// What a question calls for.
pub(crate) enum Due {
    /// Nothing: its answer is on its way.
    Nothing,
    /// The same answer once more.
    Again(Box<Attestation>),
    /// A new one.
    Report,
}

impl Answers {
    /// What to answer now; refuses a question too many.
    pub(crate) fn due(&mut self, asker: Asker, challenge: &Challenge) -> Result<Due, Rejection> {
        let answered = self.0.entry((challenge.from.member, asker)).or_default();
        let repeated = answered
            .last
            .as_ref()
            .filter(|last| last.verifier == Some(challenge.from) && last.challenge == challenge.nonce);
        match (repeated, core::mem::replace(&mut answered.used, true)) {
            (Some(_), true) => Ok(Due::Nothing),
            (Some(last), false) => Ok(Due::Again(Box::new(last.clone()))),
            (None, true) => Err(Rejection::TooOften),
            (None, false) => Ok(Due::Report),
        }
    }

    /// Keeps a new answer.
    pub(crate) fn keep(&mut self, asker: Asker, to: MemberId, attestation: Attestation) {
        self.0.entry((to, asker)).or_default().last = Some(attestation);
    }

    /// From now on everybody may ask again.
    pub(crate) fn on_tick(&mut self) {
        self.0.values_mut().for_each(|answered| answered.used = false);
    }

    /// Answers from now on are made with other certificates.
    pub(crate) fn forget(&mut self) {
        self.0.values_mut().for_each(|answered| answered.last = None);
    }
}
