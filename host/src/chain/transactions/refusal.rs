//! What execution nodes say when they refuse a raw transaction. JSON-RPC fixes no codes for it, so texts are read.

/// Why a node did not take a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SendRefusal {
    /// It has it already.
    #[error("known already")]
    AlreadyKnown,
    /// Some transaction with this nonce is mined, perhaps a version of ours.
    #[error("the nonce is used")]
    NonceTooLow,
    /// It has another one with this nonce and similar fees.
    #[error("another transaction with this nonce offers as much")]
    ReplacementUnderpriced,
    /// The fees are below what it accepts now.
    #[error("the fees are too low: {0}")]
    FeesTooLow(String),
    /// The wallet can't pay.
    #[error("the wallet can't pay: {0}")]
    InsufficientFunds(String),
    /// Anything else, in the node's words.
    #[error("{0}")]
    Other(String),
}

/// Longest text of a node that is kept.
const MAX_WORDS: usize = 200;

impl SendRefusal {
    /// Whether higher fees may help.
    pub(super) fn may_want_more(&self) -> bool {
        matches!(self, Self::ReplacementUnderpriced | Self::FeesTooLow(_) | Self::Other(_))
    }

    /// Reads a node's message, of which no more is kept than of what may be `shown`. Geth, Nethermind, Besu, Erigon and Reth word it
    /// differently.
    pub(super) fn from_message(message: &str, shown: &str) -> Self {
        let plain: String = message
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect();
        // What is unknown is not known.
        let plain = plain.replace("unknown", "");
        let words = || shown.chars().take(MAX_WORDS).collect::<String>();
        let says = |wordings: &[&str]| wordings.iter().any(|wording| plain.contains(wording));
        if says(&[
            "alreadyknown",
            "knowntransaction",
            "alreadyimported",
            "alreadyexists",
            "alreadyinmempool",
            "existingtxwithsamehash",
        ]) {
            Self::AlreadyKnown
        } else if says(&["noncetoolow", "oldnonce", "noncealreadyused", "nonceisbelow"]) {
            Self::NonceTooLow
        } else if says(&[
            "replacementtransactionunderpriced",
            "replacementnotallowed",
            "feetoolowtocompete",
            "couldnotreplaceexistingtx",
        ]) {
            Self::ReplacementUnderpriced
        } else if says(&["insufficientfunds", "upfrontcostexceeds", "insufficientbalance"]) {
            Self::InsufficientFunds(words())
        } else if says(&[
            "underpriced",
            "lessthanblockbasefee",
            "feetoolow",
            "gaspricebelow",
            "belowconfiguredminimum",
        ]) {
            Self::FeesTooLow(words())
        } else {
            Self::Other(words())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> SendRefusal {
        SendRefusal::from_message(message, message)
    }

    #[test]
    fn the_wordings_of_clients_are_understood() {
        let cases = [
            ("already known", SendRefusal::AlreadyKnown),
            ("Known transaction", SendRefusal::AlreadyKnown),
            ("AlreadyKnown", SendRefusal::AlreadyKnown),
            ("existing tx with same hash", SendRefusal::AlreadyKnown),
            ("nonce too low: next nonce 5, tx nonce 4", SendRefusal::NonceTooLow),
            ("Nonce too low", SendRefusal::NonceTooLow),
            ("OldNonce, Current nonce: 5, nonce of rejected tx: 4", SendRefusal::NonceTooLow),
            ("replacement transaction underpriced", SendRefusal::ReplacementUnderpriced),
            ("ReplacementNotAllowed", SendRefusal::ReplacementUnderpriced),
            ("could not replace existing tx", SendRefusal::ReplacementUnderpriced),
        ];
        for (message, expected) in cases {
            assert_eq!(read(message), expected, "{message}");
        }
    }

    #[test]
    fn refusals_with_numbers_keep_the_nodes_words() {
        let low = "max fee per gas less than block base fee: address 0x0, maxFeePerGas: 1";
        assert_eq!(read(low), SendRefusal::FeesTooLow(low.to_owned()));
        let poor = "insufficient funds for gas * price + value: balance 0";
        assert_eq!(read(poor), SendRefusal::InsufficientFunds(poor.to_owned()));
        for other in ["no", "unknown transaction type", "Unknown transaction"] {
            assert_eq!(read(other), SendRefusal::Other(other.to_owned()));
        }
        let long = read(&"é".repeat(1_000));
        assert_eq!(long, SendRefusal::Other("é".repeat(MAX_WORDS)), "a node can't fill the host");
        assert_eq!(
            read("transaction underpriced"),
            SendRefusal::FeesTooLow("transaction underpriced".to_owned())
        );
    }
}
