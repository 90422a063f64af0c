//! The chains, as the host sees them through nodes that may be down, behind or lying.
//!
//! - [`profile`]: the pool manager's events and calls, in each contract's own words.
//! - [`execution`]: pool events from finalised blocks, in order, each exactly once.
//! - [`transactions`]: sends this host's transactions; survives restarts without ever sending one twice.
//! - [`beacon`]: validators, the network's identity, and posting of exits, over several beacon nodes.
//! - [`url`]: URLs of nodes, which may hold a secret.

pub mod beacon;
pub mod execution;
pub mod profile;
pub mod transactions;
pub mod url;

#[cfg(test)]
pub(crate) mod test_server;

use std::error::Error;

/// Most characters of a node's words that are passed on: it can say anything, and it ends in logs and in the status.
const MOST_WORDS: usize = 300;

/// An error in words, without the node's URL: it may hold a provider's access key, and logs travel.
pub(crate) fn describe_error(error: &(dyn Error + 'static)) -> String {
    let (mut innermost, mut transport) = (error, error.downcast_ref::<reqwest::Error>());
    while let Some(cause) = innermost.source() {
        innermost = cause;
        transport = transport.or(cause.downcast_ref());
    }
    match transport {
        Some(transport) if transport.is_timeout() => "no answer in time".to_owned(),
        Some(_) => innermost.to_string(),
        None => error.to_string().chars().take(MOST_WORDS).collect(),
    }
}
