//! What the core wants done, collected while a request is handled and handed out in one safe order.

use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::message::{Broadcast, PeerMessage};
use postern_shared::wire::{Artifact, Notice, NumberedOutput, Output, Recipient, Record};
use std::collections::VecDeque;

/// Most outputs that may wait for the host's acknowledgement.
const MAX_WAITING: usize = 100_000;

/// Collects effects of one request.
#[derive(Default)]
pub(crate) struct Effects {
    store: Vec<Output>,
    send: Vec<Output>,
    publish: Vec<Output>,
}

/// All outputs that the host has not acknowledged.
#[derive(Default)]
pub(crate) struct OutputQueue {
    waiting: VecDeque<NumberedOutput>,
    newest: u64,
}

impl Effects {
    /// Keeps a statement for peers that lack it.
    pub(crate) fn store(&mut self, statement: &Broadcast) {
        self.store.push(Output::Store(Record::Broadcast(statement.clone())));
    }

    /// Says a statement to everybody, after it is stored.
    pub(crate) fn broadcast(&mut self, statement: &Broadcast) {
        self.store(statement);
        self.send(Recipient::Everyone, &PeerMessage::Broadcast(statement.clone()));
    }

    /// Sends a message to one member.
    pub(crate) fn send_to(&mut self, member: MemberId, message: &PeerMessage) {
        self.send(Recipient::One(member), message);
    }

    fn send(&mut self, to: Recipient, message: &PeerMessage) {
        self.send.push(Output::Send { to, message: codec::encode(message) });
    }

    /// Makes a result public.
    pub(crate) fn publish(&mut self, artifact: Artifact) {
        self.publish.push(Output::Publish(artifact));
    }

    /// Tells people something.
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.publish.push(Output::Notice(notice));
    }
}

impl OutputQueue {
    /// Whether there is room for what one more request may cause.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Numbers the effects of one request: what to store before what to send, what to send before what to publish.
    pub(crate) fn append(&mut self, effects: Effects) -> Vec<NumberedOutput> {
        let ordered = effects.store.into_iter().chain(effects.send).chain(effects.publish);
        let numbered: Vec<NumberedOutput> = ordered
            .zip(self.newest + 1..)
            .map(|(output, sequence)| NumberedOutput { sequence, output })
            .collect();
        self.newest = numbered.last().map_or(self.newest, |last| last.sequence);
        self.waiting.extend(numbered.iter().cloned());
        numbered
    }

    /// Forgets what the host has stored.
    pub(crate) fn acknowledge(&mut self, through: u64) {
        while self.waiting.front().is_some_and(|output| output.sequence <= through) {
            self.waiting.pop_front();
        }
    }

    /// Everything not acknowledged, up to what fits a frame; the host acknowledges and asks again for the rest.
    pub(crate) fn repeat(&self, budget: usize) -> Vec<NumberedOutput> {
        let mut left = budget;
        let fits = |output: &&NumberedOutput| {
            let size = codec::encode(*output).len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        };
        self.waiting.iter().take_while(fits).cloned().collect()
    }

    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }
}
