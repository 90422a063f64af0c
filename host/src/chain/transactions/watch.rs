//! What this process has seen of the newest version of a transaction.

use super::decision::Watched;
use super::refusal::SendRefusal;
use postern_shared::ids::Digest;

/// See the module. It begins again with each version, and when the host starts.
#[derive(Debug)]
pub(super) struct Watch {
    version: Digest,
    /// The head when it was first seen.
    first: u64,
    /// The head when a node was last told of it.
    told: u64,
    /// The head when it was last looked at.
    looked_at: Option<u64>,
    /// The head since which a receipt has been shown.
    shown_at: Option<u64>,
    is_taken: bool,
    is_reminded: bool,
    refusal: Option<SendRefusal>,
}

impl Watch {
    pub(super) fn new(version: Digest, head: u64) -> Self {
        Self {
            version,
            first: head,
            told: head,
            looked_at: None,
            shown_at: None,
            is_taken: false,
            is_reminded: false,
            refusal: None,
        }
    }

    /// Whether it is of this version.
    pub(super) fn is_of(&self, version: Digest) -> bool {
        self.version == version
    }

    /// What it says with this head. A head that went back, or had been a lie, does not make the host wait for it.
    pub(super) fn look(&mut self, head: u64) -> Watched {
        self.first = self.first.min(head);
        self.told = self.told.min(head);
        Watched {
            is_taken: self.is_taken,
            is_reminded: self.is_reminded,
            is_looked_at: self.looked_at == Some(head),
            refusal: self.refusal.clone(),
            waited: head.saturating_sub(self.told),
            age: head.saturating_sub(self.first),
        }
    }

    /// A node was asked about it, or was told of it, and this is done with for this head.
    pub(super) fn looked_at(&mut self, head: u64) {
        self.looked_at = Some(head);
    }

    /// Whether a node shows a receipt, and for how many blocks one has been shown.
    pub(super) fn shown(&mut self, is_shown: bool, head: u64) -> u64 {
        self.shown_at = is_shown.then(|| self.shown_at.map_or(head, |since| since.min(head)));
        self.shown_at.map_or(0, |since| head.saturating_sub(since))
    }

    /// A node has it.
    pub(super) fn taken(&mut self, head: u64) {
        self.is_reminded = self.is_taken;
        self.is_taken = true;
        self.refusal = None;
        self.told = head;
    }

    /// A node does not want it. Patience goes on: else a node that refuses at each head would keep it from ever being over.
    pub(super) fn refused(&mut self, refusal: SendRefusal) {
        self.is_taken = false;
        self.refusal = Some(refusal);
    }

    /// Whether a node said last that the nonce is used.
    pub(super) fn is_nonce_used(&self) -> bool {
        self.refusal == Some(SendRefusal::NonceTooLow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_from_when_a_node_was_last_told() {
        let mut watch = Watch::new(Digest([1; 32]), 100);
        let seen = watch.look(103);
        assert_eq!((seen.is_taken, seen.is_looked_at, seen.waited, seen.age), (false, false, 3, 3));
        watch.taken(103);
        watch.looked_at(103);
        let seen = watch.look(103);
        assert_eq!((seen.is_taken, seen.is_reminded, seen.is_looked_at), (true, false, true));
        let seen = watch.look(108);
        assert_eq!((seen.is_looked_at, seen.waited, seen.age), (false, 5, 8));
        watch.taken(108);
        let seen = watch.look(109);
        assert_eq!((seen.is_reminded, seen.waited, seen.age), (true, 1, 9));
    }

    #[test]
    fn blocks_count_as_long_as_a_receipt_is_shown() {
        let mut watch = Watch::new(Digest([1; 32]), 100);
        for (is_shown, head, blocks) in [
            (false, 100, 0),
            (true, 103, 0),
            (true, 110, 7),
            (false, 120, 0),
            (true, 130, 0),
            (true, 125, 0),
            (true, 131, 6),
        ] {
            assert_eq!(watch.shown(is_shown, head), blocks, "{head}");
        }
    }

    #[test]
    fn a_refusal_does_not_begin_patience_again() {
        let mut watch = Watch::new(Digest([1; 32]), 100);
        watch.refused(SendRefusal::ReplacementUnderpriced);
        watch.refused(SendRefusal::ReplacementUnderpriced);
        assert_eq!(watch.look(105).waited, 5);
    }

    #[test]
    fn a_head_that_was_a_lie_is_not_waited_for() {
        let mut watch = Watch::new(Digest([1; 32]), u64::MAX);
        assert_eq!(watch.look(100).waited, 0);
        assert_eq!(watch.look(105).waited, 5);
    }
}
