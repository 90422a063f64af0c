//! The chains, as the host sees them through nodes that may be down, behind or lying.
//!
//! - [`profile`]: the pool manager's events and calls, in each contract's own words.
//! - [`execution`]: pool events from finalised blocks, in order, each exactly once.
//! - [`transactions`]: sends this host's transactions; survives restarts without ever sending one twice.
//! - [`beacon`]: validators, the network's identity, and posting of exits, over several beacon nodes.
//! - [`url`]: URLs of nodes, which may hold a secret; `transport` and `body`: what is read of their answers, and no more.
//! - [`survey`]: what all configured nodes say before anything is begun.

pub mod beacon;
pub(crate) mod body;
pub mod execution;
pub mod profile;
pub mod survey;
pub mod transactions;
mod transport;
pub mod url;

#[cfg(test)]
pub(crate) mod test_server;

use self::url::NodeUrl;
use std::error::Error;

/// Most characters of a node's words that are passed on: it can say anything, and it ends in logs and in the status.
pub(crate) const MOST_WORDS: usize = 300;

/// An error in words, without the node's URL: it may hold a provider's access key, and logs travel.
pub(crate) fn describe_error(error: &(dyn Error + 'static)) -> String {
    shorten(&words(error))
}

/// Likewise of a node whose answer may repeat parts of its URL. They go before the words are cut, which would leave halves of them.
pub(crate) fn describe_node_error(url: &NodeUrl, error: &(dyn Error + 'static)) -> String {
    shorten(&url.redact(&words(error)))
}

/// As much of a node's words as is passed on.
pub(crate) fn shorten(words: &str) -> String {
    words.chars().filter(|letter| !letter.is_control()).take(MOST_WORDS).collect()
}

fn words(error: &(dyn Error + 'static)) -> String {
    let (mut innermost, mut transport) = (error, error.downcast_ref::<reqwest::Error>());
    while let Some(cause) = innermost.source() {
        innermost = cause;
        transport = transport.or(cause.downcast_ref());
    }
    match transport {
        Some(transport) if transport.is_timeout() => "no answer in time".to_owned(),
        Some(_) => innermost.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(String);

    #[test]
    fn a_nodes_words_are_redacted_before_they_are_cut() {
        let url = NodeUrl::parse("http://a/v3/SECRETSECRET?key=TOKENTOKEN").unwrap();
        for before in 0..MOST_WORDS + 20 {
            let said = Said(format!("{}SECRETSECRET\u{1b} TOKENTOKEN", ".".repeat(before)));
            let shown = describe_node_error(&url, &said);
            assert!(!shown.contains("SEC") && !shown.contains("TOK"), "{before}: {shown}");
            assert!(shown.chars().count() <= MOST_WORDS && !shown.contains('\u{1b}'));
        }
    }
}
