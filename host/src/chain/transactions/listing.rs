//! Transactions for people: what `postern tx` shows of them.

use super::{SignedVersion, TransactionRow, TransactionState, Waiting, Why};
use postern_shared::ids::{Address, Digest};
use serde::{Deserialize, Serialize};

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The intent's name.
    pub key: String,
    /// Whom it calls.
    pub to: Address,
    /// The wallet's nonce that it uses.
    pub nonce: u64,
    /// How far it is.
    pub state: TransactionState,
    /// Everything signed for it, oldest first, also under nonces that were given up.
    pub versions: Vec<ListedVersion>,
    /// Seconds since 1970 when it was submitted; 0 if that is not known.
    pub since: u64,
    /// What keeps it from being final.
    pub waits_for: Option<String>,
    /// Whether a person should know of that.
    pub is_wrong: bool,
    /// Wei that it has cost, once it is final.
    pub cost: Option<u128>,
    /// Whether a person wants it cancelled.
    pub cancel: bool,
    /// Whether a person wants the call made again.
    pub retried: bool,
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedVersion {
    /// Its hash.
    pub hash: Digest,
    /// Its nonce; `None` if it was given up by a host that did not write it down.
    #[serde(default)]
    pub nonce: Option<u64>,
    /// Gas that it may use.
    pub gas_limit: u64,
    /// Wei.
    pub max_fee_per_gas: u128,
    /// Wei.
    pub max_priority_fee_per_gas: u128,
    /// The head's number when a node first took it.
    pub sent_at_block: Option<u64>,
    /// Why it was signed.
    pub why: Why,
}

impl Listed {
    pub(super) fn new(row: &TransactionRow, waiting: Option<&Waiting>) -> Self {
        let waiting = waiting.filter(|_| !row.state.is_final());
        let displaced = row.displaced.iter().map(|displaced| (displaced.nonce, &displaced.versions));
        let versions = displaced.chain([(Some(row.nonce), &row.versions)]);
        let versions = versions.flat_map(|(nonce, versions)| {
            versions.iter().map(move |version| ListedVersion::new(version, nonce))
        });
        Self {
            key: row.key.clone(),
            to: row.to,
            nonce: row.nonce,
            state: row.state.clone(),
            versions: versions.collect(),
            since: row.submitted_at,
            waits_for: waiting.map(Waiting::to_string),
            is_wrong: waiting.is_some_and(Waiting::is_wrong),
            cost: row.conclusion.map(|conclusion| conclusion.cost),
            cancel: row.cancel,
            retried: row.retried,
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let state = match &self.state {
            TransactionState::Prepared => "prepared".to_owned(),
            TransactionState::Sent => "sent".to_owned(),
            TransactionState::Mined { block, .. } => format!("mined in block {block}"),
            TransactionState::Reverted { block, reason, .. } => {
                format!("reverted in block {block}: {reason}")
            }
            TransactionState::Cancelled { block } => format!("cancelled, by block {block}"),
        };
        let waits = self.waits_for.as_ref().map(|waits| format!("; waits: {waits}")).unwrap_or_default();
        let cost = self.cost.map(|cost| format!("; has cost {} gwei", gwei(cost))).unwrap_or_default();
        let asked = match (self.cancel, self.retried) {
            (true, _) if !self.state.is_final() => "; is being cancelled",
            (_, true) => "; may be made again",
            _ => "",
        };
        format!("{}: nonce {}, {state}{waits}{cost}{asked}", self.key, self.nonce)
    }

    /// Everything, for people.
    pub fn describe_whole(&self) -> String {
        let mut lines = vec![self.describe(), format!("  to {}", self.to)];
        lines.extend((self.since > 0).then(|| format!("  submitted {} seconds after 1970", self.since)));
        lines.extend(self.versions.iter().map(ListedVersion::describe));
        lines.join("\n")
    }
}

impl ListedVersion {
    fn new(version: &SignedVersion, nonce: Option<u64>) -> Self {
        Self {
            hash: version.hash,
            nonce,
            gas_limit: version.gas_limit,
            max_fee_per_gas: version.max_fee_per_gas,
            max_priority_fee_per_gas: version.max_priority_fee_per_gas,
            sent_at_block: version.sent_at_block,
            why: version.why,
        }
    }

    fn describe(&self) -> String {
        let sent = self.sent_at_block.map_or("not sent".to_owned(), |block| format!("sent at block {block}"));
        let why = match self.why {
            Why::First => "the first",
            Why::Market => "the market rose",
            Why::Refusal => "a node refused the one before",
            Why::Step => "the one before was not mined",
            Why::Cancel => "cancels it",
        };
        let nonce = self.nonce.map_or("nonce not known".to_owned(), |nonce| format!("nonce {nonce}"));
        format!(
            "  {}: {nonce}, gas {}, at most {} gwei, tip {} gwei, {sent} ({why})",
            self.hash,
            self.gas_limit,
            gwei(self.max_fee_per_gas),
            gwei(self.max_priority_fee_per_gas)
        )
    }
}

/// Wei in gwei, exactly.
fn gwei(wei: u128) -> String {
    let (whole, part) = (wei / 1_000_000_000, wei % 1_000_000_000);
    let text = format!("{whole}.{part:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Displaced;
    use super::*;

    #[test]
    fn gwei_are_shown_exactly() {
        for (wei, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (2_500_000_000, "2.5"),
            (10_000_000_000, "10"),
            (1_000, "0.000001"),
        ] {
            assert_eq!(gwei(wei), text);
        }
    }

    #[test]
    fn every_signed_transaction_is_shown_with_its_nonce() {
        let version = |hash, why| SignedVersion {
            hash: Digest([hash; 32]),
            raw: vec![],
            gas_limit: 90_000,
            max_fee_per_gas: 2_500_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            sent_at_block: None,
            why,
            cancels: false,
        };
        let mut row = TransactionRow::new("deposit-1", Address([3; 20]), vec![], 4);
        row.displaced = vec![Displaced { at: 1, nonce: None, versions: vec![version(0, Why::First)] }];
        row.versions = vec![version(1, Why::First), version(2, Why::Market)];
        row.displace(60);
        row.nonce = 7;
        row.versions = vec![version(3, Why::First)];
        let whole = Listed::new(&row, None).describe_whole();
        let rest = "gas 90000, at most 2.5 gwei, tip 1 gwei, not sent";
        let shown: Vec<String> = [
            (0, "nonce not known", "the first"),
            (1, "nonce 4", "the first"),
            (2, "nonce 4", "the market rose"),
            (3, "nonce 7", "the first"),
        ]
        .map(|(hash, nonce, why)| format!("  {}: {nonce}, {rest} ({why})", Digest([hash; 32])))
        .to_vec();
        assert_eq!(whole.lines().skip(2).collect::<Vec<_>>(), shown, "{whole}");
    }

    #[test]
    fn a_transaction_is_a_line_and_says_what_it_waits_for() {
        let mut row = TransactionRow::new("deposit-1", Address([3; 20]), vec![], 4);
        let waits = Waiting::Stuck { blocks: 50 };
        let listed = Listed::new(&row, Some(&waits));
        assert!(listed.is_wrong);
        assert_eq!(
            listed.describe(),
            "deposit-1: nonce 4, prepared; waits: stuck: it offers what others offer, and is not mined for 50 blocks"
        );
        row.cancel = true;
        assert_eq!(
            Listed::new(&row, Some(&Waiting::Block)).describe(),
            "deposit-1: nonce 4, prepared; waits: to be mined; is being cancelled"
        );
        row.state = TransactionState::Cancelled { block: 9 };
        assert_eq!(Listed::new(&row, Some(&waits)).describe(), "deposit-1: nonce 4, cancelled, by block 9");
    }
}
