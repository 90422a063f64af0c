//! The one door: a request in, a response out.
//!
//! Whoever drives the core MUST store the outputs of a response durably, all of them in one transaction, before it acts on
//! them, MUST act on them in their order, and MAY repeat any request at any time. A refusal changes nothing but what it
//! says in a notice.
//!
//! # How a request becomes a change
//! It is judged, with the machine's help where that is needed, and becomes a [`Change`] or is refused. The change is
//! applied to the [`State`]; if that is another than before, the change is sealed into the log, and its record goes out
//! first. What others may rely on is held back until enough of them remember the record (`witness`).

use crate::ceremony::keygen::Keygen;
use crate::effects::{Outbox, OutputQueue, Turn};
use crate::life::{Life, Started};
#[cfg(doc)]
use crate::log::change::Change;
use crate::machine::platform::Platform;
#[cfg(doc)]
use crate::state::State;
use postern_shared::identity::Identity;
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::wire::{MAX_FRAME, Rejection, Reply, Request, Response};
use postern_shared::witness::Memory;

/// Bytes that the log grows by at least between two snapshots, unless told otherwise.
const SNAPSHOT_AFTER: usize = 4 << 20;

/// An enclave.
pub struct Core<P> {
    platform: P,
    life: Life,
    outputs: OutputQueue,
    snapshot_after: usize,
}

impl<P: Platform> Core<P> {
    /// A core that waits to be started or restored.
    pub fn new(platform: P) -> Self {
        let (life, outputs, snapshot_after) = (Life::Idle, OutputQueue::default(), SNAPSHOT_AFTER);
        Self { platform, life, outputs, snapshot_after }
    }

    /// Writes a snapshot when the log has grown by so many bytes, and by twice the size of the last.
    pub fn with_snapshots_after(self, bytes: usize) -> Self {
        Self { snapshot_after: bytes, ..self }
    }

    /// A host's connection begins: whoever drives the core MUST say so before the first request that comes over it. What
    /// was handed out before, perhaps to another host, can't be acknowledged on it until it was handed out on it too.
    pub fn connected(&mut self) {
        self.outputs.connect();
    }

    /// Whether this machine is of no more use ([`Platform::is_lost`]): whoever drives the core ends it then.
    pub fn is_lost(&self) -> bool {
        self.platform.is_lost()
    }

    /// Applies one request. Never blocks, never panics; bounded work, bounded output.
    pub fn handle(&mut self, request: Request) -> Response {
        let Self { platform, life, outputs, snapshot_after } = self;
        let mut outbox = Outbox::default();
        let reply = match request {
            Request::Status => Ok(Reply::Status(Box::new(life.status(outputs.newest())))),
            Request::Resume => {
                outputs.repeat();
                Ok(Reply::Done)
            }
            Request::Acknowledge(through) => outputs.acknowledge(through).map(|()| Reply::Done),
            _ if !outputs.has_room() => Err(Rejection::Busy),
            request => life.serve(request, *snapshot_after, &mut Turn { platform, outbox: &mut outbox }),
        };
        outputs.append(outbox);
        // Half a frame leaves room for everything else in it, and for one group that is longer.
        let (outputs, more) = outputs.next(MAX_FRAME / 2);
        Response { reply: reply.unwrap_or_else(Reply::Rejected), outputs, more }
    }

    /// The keygen of a pool, to look at.
    pub fn keygen(&self, pool: PoolId) -> Option<&Keygen> {
        self.started()?.state.pools.keygens.current(pool)
    }

    /// The manifest that this enclave goes by, to look at.
    pub fn manifest(&self) -> Option<&Manifest> {
        Some(&self.started()?.state.dao.manifest)
    }

    /// What this enclave remembers of a member's log, to look at.
    pub fn memory(&self, member: MemberId) -> Option<&Memory> {
        self.started()?.state.notes.memory(member)
    }

    /// The enclave that was admitted for a member, to look at.
    pub fn enclave(&self, member: MemberId) -> Option<&Identity> {
        self.started()?.state.dao.admission.enclave(member)
    }

    fn started(&self) -> Option<&Started> {
        match &self.life {
            Life::Started(started) => Some(started),
            _ => None,
        }
    }
}
