//! What to do next with a transaction: a function of its row and of what the chain shows. No I/O.
//!
//! An offer follows the market and never runs ahead of it: whatever a node answers, no version offers more than the limits,
//! nor more than two and a quarter times the highest market that was seen (a test tries); one that cancels, an eighth more.

use super::fees::{FeeRules, Fees, Market};
use super::refusal::SendRefusal;
use super::waiting::Waiting;
use super::{SignedVersion, TRANSFER_GAS, TransactionRow, Why};
use postern_shared::ids::Digest;
use std::cmp::Ordering;

/// After this many times the patience of [`FeeRules::raise_after_blocks`], a transaction that offers enough is stuck.
const STUCK_AFTER: u64 = 10;

/// What the chain shows of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observation {
    /// The newest finalised block's number.
    pub(super) finalised: u64,
    /// Of whichever version was mined.
    pub(super) receipt: Option<Receipt>,
    /// For how many blocks a receipt has been shown.
    pub(super) shown_for: u64,
    /// For how many blocks the wallet's finalised nonce has been above the row's; `None` when it is not.
    pub(super) displaced_for: Option<u64>,
    /// Whether it is the wallet's lowest open nonce: no other transaction has to be mined before.
    pub(super) is_next: bool,
    /// What this process has seen of the newest version.
    pub(super) newest: Watched,
    /// What the row may cost at most, so that the day's budget holds.
    pub(super) affordable: u128,
    /// The answers to what [`asks`] wants to know.
    pub(super) asked: Option<Asked>,
}

/// What this process has seen of a row's newest version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Watched {
    /// Whether a node has taken it from this process.
    pub(super) is_taken: bool,
    /// Whether a node was told of it again because it had forgotten it.
    pub(super) is_reminded: bool,
    /// Whether this was looked at since the head is as it is.
    pub(super) is_looked_at: bool,
    /// What a node said when it did not take it.
    pub(super) refusal: Option<SendRefusal>,
    /// Blocks since a node was last told of it.
    pub(super) waited: u64,
    /// Blocks since it is there.
    pub(super) age: u64,
}

/// What is asked only of transactions that take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// Whether the node knows the newest version.
    pub(super) is_known: bool,
    /// What it takes to be mined.
    pub(super) market: Market,
    /// The wallet's nonce in the newest block's state.
    pub(super) nonce: u64,
    /// Whether an open transaction of this host has a nonce from that one on, before the row's.
    pub(super) is_gap_own: bool,
}

/// Of a mined version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Which version.
    pub(super) hash: Digest,
    /// The block's number.
    pub(super) block: u64,
    /// Whether the call succeeded.
    pub(super) success: bool,
    /// Gas that it took.
    pub(super) gas_used: u64,
    /// Wei paid for each gas.
    pub(super) price: u128,
}

impl Observation {
    /// What a row waits for that has lost its nonce as one node says, and not as most do.
    pub(super) fn doubted(&self) -> Waiting {
        match self.asked {
            Some(asked) => Waiting::Gap { nonce: asked.nonce },
            None => Waiting::Nonce { blocks: self.displaced_for.unwrap_or_default() },
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing, for this reason.
    Wait(Waiting),
    /// Nothing: it waits for what it waited for before.
    Stay,
    /// Send the newest version, again or for the first time.
    Send,
    /// Sign and send a version with other fees, same nonce.
    Raise(Raise),
    /// Another transaction of the wallet took the nonce for good, or it is too high: sign again under a new one.
    Renumber,
    /// It is final.
    Conclude(Receipt),
    /// It was to be cancelled, and another transaction took the nonce for good, or it is too high: nothing more is done for it.
    Drop,
}

/// A version that replaces the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raise {
    pub(super) fees: Fees,
    pub(super) gas_limit: u64,
    pub(super) why: Why,
    /// Whether it does not make the call, but takes its nonce.
    pub(super) cancels: bool,
}

/// Whether [`Observation::asked`] is needed: for the next transaction only, once patience is over, once for each head; and to
/// cancel one.
pub(super) fn asks(row: &TransactionRow, seen: &Observation, rules: &FeeRules) -> bool {
    if row.state.is_final() || seen.receipt.is_some() || seen.displaced_for.is_some() {
        return false;
    }
    let is_late = seen.is_next && seen.newest.waited >= rules.raise_after_blocks;
    !seen.newest.is_looked_at && (is_late || is_to_be_cancelled(row))
}

/// See the module.
pub(super) fn decide(row: &TransactionRow, seen: &Observation, rules: &FeeRules) -> Action {
    if row.state.is_final() {
        return Action::Stay;
    }
    if let Some(receipt) = seen.receipt {
        let is_final = receipt.block <= seen.finalised;
        let waiting = Waiting::Finality { blocks: seen.shown_for };
        return if is_final { Action::Conclude(receipt) } else { Action::Wait(waiting) };
    }
    if let Some(blocks) = seen.displaced_for {
        // Behind one address there may be several nodes, one of them ahead: renumbering too early would call twice.
        return match blocks >= rules.raise_after_blocks {
            true if row.cancel => Action::Drop,
            true => Action::Renumber,
            false => Action::Wait(Waiting::Nonce { blocks }),
        };
    }
    let Some(newest) = row.versions.last() else { return Action::Renumber };
    let offer = Offer { row, newest, seen, rules };
    match seen.asked {
        Some(asked) if is_to_be_cancelled(row) => offer.raised(asked.market, Why::Cancel, u128::MAX),
        asked if !seen.newest.is_taken => offer.not_taken(asked),
        _ if !seen.is_next => Action::Wait(Waiting::Turn),
        Some(asked) => offer.late(asked),
        None if seen.newest.waited < rules.raise_after_blocks => {
            Action::Wait(on_its_way(seen.newest.age, rules))
        }
        None => Action::Stay,
    }
}

/// What a transaction waits for that a node has, so many blocks after it was signed.
pub(super) fn on_its_way(age: u64, rules: &FeeRules) -> Waiting {
    let is_stuck = age >= rules.raise_after_blocks.saturating_mul(STUCK_AFTER);
    if is_stuck { Waiting::Stuck { blocks: age } } else { Waiting::Block }
}

/// Whether a person wants it cancelled, and its newest version does not do that.
fn is_to_be_cancelled(row: &TransactionRow) -> bool {
    row.cancel && row.versions.last().is_some_and(|newest| !newest.cancels)
}

/// What the newest version offers, and what there is to say about it.
struct Offer<'a> {
    row: &'a TransactionRow,
    newest: &'a SignedVersion,
    seen: &'a Observation,
    rules: &'a FeeRules,
}

impl Offer<'_> {
    /// No node has taken the newest version from this process. The text of a node's refusal moves the offer only after patience,
    /// and not beyond twice the market; a replacement may offer an eighth more than what a node may hold, once.
    fn not_taken(&self, asked: Option<Asked>) -> Action {
        let Observation { newest, is_next, .. } = self.seen;
        let wants_more = newest.refusal.as_ref().is_some_and(SendRefusal::may_want_more);
        if newest.is_looked_at {
            return Action::Stay;
        }
        match asked {
            Some(asked) if wants_more && *is_next => {
                let market = asked.market.offer(self.rules);
                let taken = self.row.versions.iter().filter(|version| version.sent_at_block.is_some());
                let held = taken.map(|version| version.fees().bumped().max).max();
                let held = held.filter(|_| !self.went_above(asked.market)).unwrap_or_default();
                let raised = self.raised(asked.market, Why::Refusal, market.max.saturating_mul(2).max(held));
                if matches!(raised, Action::Raise(..)) { raised } else { Action::Send }
            }
            _ => Action::Send,
        }
    }

    /// A node has taken it, it is the next one, and it is not mined. A node that forgot it is told again, and as long as it does not
    /// know it, each time that patience is over.
    fn late(&self, asked: Asked) -> Action {
        let Watched { is_reminded, age, .. } = self.seen.newest;
        let waiting = on_its_way(age, self.rules);
        let is_stuck = waiting != Waiting::Block;
        match asked.nonce.cmp(&self.row.nonce) {
            // A node has said of it that it is mined, and this one does not. Under another nonce the call might be made twice.
            Ordering::Less if asked.is_gap_own => return Action::Wait(Waiting::Turn),
            // The nonce was too high from the start, by a lie: the call goes out again before that one can be mined.
            Ordering::Less if is_stuck && self.row.cancel => return Action::Drop,
            Ordering::Less if is_stuck => return Action::Renumber,
            Ordering::Less => return Action::Wait(Waiting::Gap { nonce: asked.nonce }),
            Ordering::Greater if is_stuck => return Action::Wait(waiting),
            Ordering::Greater => return Action::Wait(Waiting::Nonce { blocks: age }),
            Ordering::Equal => {}
        }
        let raised = match is_reminded || asked.is_known {
            true => self.followed(asked.market, is_stuck),
            false => None,
        };
        match raised {
            Some(raise @ Action::Raise(_)) => raise,
            _ if !asked.is_known => Action::Send,
            Some(limit) => limit,
            None => Action::Wait(waiting),
        }
    }

    /// What follows from the market: an offer below it is raised to it, and one that was enough for long by one step.
    fn followed(&self, market: Market, is_stuck: bool) -> Option<Action> {
        let offered = self.newest.fees();
        if !offered.reaches(&market, self.rules) && offered.max <= market.offer(self.rules).max {
            return Some(self.raised(market, Why::Market, u128::MAX));
        }
        let step = || self.raised(market, Why::Step, u128::MAX);
        (is_stuck && !self.went_above(market)).then(step).filter(|step| matches!(step, Action::Raise(_)))
    }

    /// Whether it went one step above the market, or beyond twice the market, already since it last followed it.
    fn went_above(&self, market: Market) -> bool {
        let twice = market.offer(self.rules).max.saturating_mul(2);
        let mut since = self.row.versions.iter().rev().take_while(|version| version.why.is_above_market());
        since.any(|version| version.why == Why::Step || version.max_fee_per_gas > twice)
    }

    /// A version that replaces the newest one and follows the market, if limits, ceiling and budget leave room for it.
    fn raised(&self, market: Market, why: Why, ceiling: u128) -> Action {
        let gas_limit = if self.row.cancel { TRANSFER_GAS } else { self.newest.gas_limit };
        let limit = Waiting::Limit { offered: self.newest.max_fee_per_gas };
        match self.newest.fees().raised(market.offer(self.rules), self.rules) {
            Some(fees) if fees.max > ceiling => Action::Wait(limit),
            Some(fees) if fees.worst_case(gas_limit) > self.seen.affordable => Action::Wait(Waiting::Budget),
            Some(fees) => Action::Raise(Raise { fees, gas_limit, why, cancels: self.row.cancel }),
            None => Action::Wait(limit),
        }
    }
}

#[cfg(test)]
mod tests;
