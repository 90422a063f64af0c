//! The ceremonies: each a small state machine in its own file, all of the same shape.
//!
//! `start` begins with terms that all participants must share (their hash is the ceremony's id), `on_statement` takes an
//! authentic statement, `on_tick` says what is missing, and the result is read from the machine. A driver MUST hand in
//! only statements whose signature it has verified under the ceremony's roster, MAY hand them in any order and any
//! number of times, and MUST deliver the collected effects in their order.

pub mod dealing;
pub mod keygen;
pub mod presign;
#[cfg(test)]
mod rehearsal;
pub mod release;
pub mod reshare;
mod sealing;
mod statements;

use crate::crypto::keys::Me;
use crate::dao::Dao;
use crate::effects::Effects;
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, ManifestHash, MemberId, PoolId};
use postern_shared::message::Step;
use postern_shared::transcript::{Proceedings, Transcript};
use postern_shared::wire::{Artifact, CeremonyKind, Notice, Rejection};
use statements::Statements;

/// A run of a ceremony, as whoever keeps runs knows it.
pub(crate) trait Ceremony {
    fn id(&self) -> CeremonyId;

    fn pool(&self) -> PoolId;
}

/// One change, as a ceremony sees it: what everything goes by, and what comes of it.
pub struct Scene<'a> {
    pub(crate) dao: &'a Dao,
    pub(crate) effects: &'a mut Effects,
}

impl<'a> Scene<'a> {
    pub(crate) fn me(&self) -> Me<'a> {
        self.dao.me()
    }

    /// Publishes the transcript of a ceremony that began under this manifest, among these.
    pub(crate) fn publish(&mut self, manifest: ManifestHash, roster: &Roster, record: Proceedings) {
        let manifest = self.dao.manifests.get(&manifest).cloned().unwrap_or_default();
        let roster = self.dao.admission.attested(roster);
        let transcript = Transcript { manifest, roster, record };
        self.effects.publish(Artifact::Transcript(Box::new(transcript)));
    }
}

/// Which ceremony of what kind for which pool: what notices say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) ceremony: CeremonyId,
    pub(crate) kind: CeremonyKind,
    pub(crate) pool: PoolId,
}

impl Label {
    pub(crate) fn progress(&self, step: Step, have: usize, of: usize) -> Notice {
        let Self { ceremony, kind, pool } = *self;
        // Members are few: `postern_shared::manifest::MAX_MEMBERS`.
        Notice::Progress { ceremony, kind, pool, step, have: have as u16, of: of as u16 }
    }

    pub(crate) fn finished(&self) -> Notice {
        Notice::Finished { ceremony: self.ceremony, kind: self.kind, pool: self.pool }
    }

    pub(crate) fn fault(&self, culprit: MemberId, aborted: bool) -> Notice {
        Notice::Fault { ceremony: self.ceremony, kind: self.kind, pool: self.pool, culprit, aborted }
    }
}

/// Says which statements a step lacks.
pub(crate) fn report_missing(
    label: &Label,
    statements: &Statements,
    step: Step,
    members: &[MemberId],
    effects: &mut Effects,
) {
    for member in statements.missing(step, members) {
        effects.notice(Notice::Missing { ceremony: label.ceremony, step, member });
    }
}

/// What a ceremony makes of a statement.
pub(crate) type Taken = Result<(), Rejection>;
