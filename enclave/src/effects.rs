//! What the core wants done, collected while a request is handled and handed out in one safe order.

use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::message::{Broadcast, PeerMessage};
use postern_shared::record::SealedRecord;
use postern_shared::wire::{Artifact, Notice, NumberedOutput, Output, Recipient, Record, Rejection};
use std::collections::VecDeque;

/// Most outputs that may wait for the host's acknowledgement, and most bytes of them.
const MAX_WAITING: usize = 100_000;
const MAX_WAITING_BYTES: usize = 64 << 20;

/// What one change of state causes.
#[derive(Default)]
pub(crate) struct Effects {
    /// Whether the state is another than before: then the change goes into the log.
    changed: bool,
    /// What others may rely on: leaves only when enough members remember that the log has come so far.
    gated: Vec<Output>,
    free: Vec<Output>,
}

/// What one request causes: groups of outputs, each to be stored whole.
#[derive(Default)]
pub(crate) struct Outbox(Vec<Vec<Output>>);

/// One request while it is served: the machine that helps to judge it, and what it causes.
pub(crate) struct Turn<'a, P> {
    pub(crate) platform: &'a mut P,
    pub(crate) outbox: &'a mut Outbox,
}

/// All outputs that the host has not acknowledged.
#[derive(Default)]
pub(crate) struct OutputQueue {
    waiting: VecDeque<Group>,
    bytes: usize,
    newest: u64,
    /// The newest that was handed out since a host last asked for everything: what follows it is next.
    cursor: u64,
    /// The newest that was handed out on this connection: no later one can have been stored by its host.
    handed: u64,
}

struct Group {
    outputs: Vec<NumberedOutput>,
    size: usize,
}

impl Effects {
    /// Notes that the state is another than before.
    pub(crate) fn change(&mut self) {
        self.changed = true;
    }

    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Does something; says whether that has changed the state.
    pub(crate) fn changed_by(&mut self, work: impl FnOnce(&mut Self)) -> bool {
        let before = core::mem::take(&mut self.changed);
        work(self);
        let changed = self.changed;
        self.changed |= before;
        changed
    }

    /// Keeps somebody's statement for peers that lack it.
    pub(crate) fn store(&mut self, statement: &Broadcast) {
        self.changed = true;
        self.free.push(Output::Store(Record::Broadcast(statement.clone())));
    }

    /// Says a statement to everybody, after it is stored.
    pub(crate) fn broadcast(&mut self, statement: &Broadcast) {
        self.gate(Output::Store(Record::Broadcast(statement.clone())));
        self.gate(send(Recipient::Everyone, &PeerMessage::Broadcast(statement.clone())));
    }

    /// Sends a secret to one member.
    pub(crate) fn send_to(&mut self, member: MemberId, message: &PeerMessage) {
        self.gate(send(Recipient::One(member), message));
    }

    /// Makes a result public.
    pub(crate) fn publish(&mut self, artifact: Artifact) {
        self.gate(Output::Publish(artifact));
    }

    /// Tells people something.
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.free.push(Output::Notice(notice));
    }

    /// Tells others what proves itself. Nobody relies on the state behind it.
    pub(crate) fn tell(&mut self, to: Recipient, message: &PeerMessage) {
        self.free.push(send(to, message));
    }

    /// Lets out what was gated before, in another change.
    pub(crate) fn let_out(&mut self, output: Output) {
        self.changed = true;
        self.free.push(output);
    }

    fn gate(&mut self, output: Output) {
        self.changed = true;
        self.gated.push(output);
    }

    /// What to hold back, and what not.
    pub(crate) fn into_parts(self) -> (Vec<Output>, Vec<Output>) {
        (self.gated, self.free)
    }
}

impl Outbox {
    /// What came of a change, behind the record of it.
    pub(crate) fn record(&mut self, record: SealedRecord, outputs: Vec<Output>) {
        let record = Output::Store(Record::Sealed(Box::new(record)));
        self.0.push(core::iter::once(record).chain(outputs).collect());
    }

    /// What has nothing to do with the state.
    pub(crate) fn output(&mut self, output: Output) {
        self.0.push(vec![output]);
    }

    pub(crate) fn outputs(&mut self, outputs: Vec<Output>) {
        if !outputs.is_empty() {
            self.0.push(outputs);
        }
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.output(Output::Notice(notice));
    }

    /// Sends a message to one member. Nobody relies on the state behind it.
    pub(crate) fn send_to(&mut self, member: MemberId, message: &PeerMessage) {
        self.output(send(Recipient::One(member), message));
    }

    /// Sends a message to all others. Nobody relies on the state behind it.
    pub(crate) fn send_all(&mut self, message: &PeerMessage) {
        self.output(send(Recipient::Everyone, message));
    }
}

fn send(to: Recipient, message: &PeerMessage) -> Output {
    Output::Send { to, message: codec::encode(message) }
}

impl OutputQueue {
    /// Whether there is room for what one more request may cause.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.bytes < MAX_WAITING_BYTES
    }

    /// Numbers what a request caused.
    pub(crate) fn append(&mut self, outbox: Outbox) {
        for outputs in outbox.0 {
            let numbered: Vec<NumberedOutput> = outputs
                .into_iter()
                .zip(self.newest.saturating_add(1)..)
                .map(|(output, sequence)| NumberedOutput { sequence, output })
                .collect();
            let size = codec::encode(&numbered).len();
            self.newest = numbered.last().map_or(self.newest, |last| last.sequence);
            self.bytes = self.bytes.saturating_add(size);
            self.waiting.push_back(Group { outputs: numbered, size });
        }
    }

    /// A host has connected: it has been handed nothing yet, whatever the one before was.
    pub(crate) fn connect(&mut self) {
        (self.cursor, self.handed) = (0, 0);
    }

    /// Forgets what the host has stored, which it can have stored only if it was handed it.
    pub(crate) fn acknowledge(&mut self, through: u64) -> Result<(), Rejection> {
        if through > self.handed {
            return Err(Rejection::NotHandedOut);
        }
        while self.waiting.front().is_some_and(|group| group.newest() <= through) {
            if let Some(group) = self.waiting.pop_front() {
                self.bytes = self.bytes.saturating_sub(group.size);
            }
        }
        Ok(())
    }

    /// Hands out everything not acknowledged once more.
    pub(crate) fn repeat(&mut self) {
        self.cursor = 0;
    }

    /// What was not handed out yet, up to `budget` bytes but never half a group; and whether there is more.
    pub(crate) fn next(&mut self, budget: usize) -> (Vec<NumberedOutput>, bool) {
        let (mut outputs, mut left) = (Vec::new(), budget);
        // Numbers ascend: what was handed out is at the front.
        let cursor = self.cursor;
        let begin = self.waiting.partition_point(|group| group.newest() <= cursor);
        for group in self.waiting.range(begin..) {
            if group.size > left && !outputs.is_empty() {
                return (outputs, true);
            }
            left = left.saturating_sub(group.size);
            self.cursor = group.newest();
            self.handed = self.handed.max(self.cursor);
            outputs.extend(group.outputs.iter().cloned());
        }
        (outputs, false)
    }

    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }
}

impl Group {
    fn newest(&self) -> u64 {
        self.outputs.last().map_or(0, |last| last.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_is_told_from_what_does() {
        let mut effects = Effects::default();
        assert!(!effects.changed_by(|effects| effects.notice(Notice::Returned(1))));
        assert!(!effects.has_changed());
        assert!(effects.changed_by(Effects::change));
        assert!(!effects.changed_by(|_| {}), "only what it does itself counts");
        assert!(effects.has_changed(), "what was changed before stays so");
    }
}
