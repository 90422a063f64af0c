//! How much a node is asked for at a time. Nodes refuse what is too much for them, each by its own measure and in its own words.

use crate::chain::transport::is_too_long;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};

/// Blocks that are read again behind the cursor: what a node had left out is then found by itself.
const OVERLAP: u64 = 64;
/// So many answers of the full width in a row, and the next one may be wider.
const SUCCESSES: u32 = 10;

/// The width that a node has shown to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    width: u64,
    most: u64,
    successes: u32,
}

impl Span {
    /// At first as wide as it ever gets.
    pub(super) fn new(most: u64) -> Self {
        Self { width: most, most, successes: 0 }
    }

    /// How much to ask for.
    pub(super) fn width(&self) -> u64 {
        self.width
    }

    /// The node has answered so much, after it had refused more or not. It grows by a quarter after a while; what was less than
    /// the width shows nothing about the width.
    pub(super) fn answered(&mut self, asked: u64, had_refused: bool) {
        if had_refused {
            (self.width, self.successes) = (asked.max(1), 0);
        } else if asked >= self.width {
            self.successes += 1;
            if self.successes >= SUCCESSES {
                self.width = self.width.saturating_add((self.width / 4).max(1)).min(self.most);
                self.successes = 0;
            }
        }
    }
}

/// What to ask for after this much was refused; `None` if there is no less. The node's [`Span`] changes only once less was
/// answered, because a node that refuses even the least means something else.
pub(super) fn narrower(refused: u64) -> Option<u64> {
    (refused > 1).then_some(refused / 2)
}

/// The first and last block to read next, of so many at most: up to `finalised`, with some behind the cursor again. The last
/// one is after the cursor, whatever the width, if `finalised` is.
pub(super) fn range(cursor: u64, finalised: u64, width: u64) -> (u64, u64) {
    let next = cursor.saturating_add(1);
    let first = next.saturating_sub(OVERLAP.min(width / 2));
    let last = first.saturating_add(width.saturating_sub(1)).min(finalised);
    (first, last.max(next))
}

/// Why a node has not given what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It may be too much at a time.
    TooMuch,
    /// It lacks a block: it is behind, or of another fork.
    NoBlock,
    /// Something else: asking for less would not help.
    Other,
}

impl Refusal {
    /// Reads a failed request.
    pub(super) fn of(error: &TransportError) -> Self {
        match error {
            RpcError::ErrorResp(answer) => Self::of_answer(answer.code, &answer.message),
            RpcError::Transport(TransportErrorKind::HttpError(error)) => {
                Self::of_status(error.status, &error.body)
            }
            RpcError::Transport(TransportErrorKind::HttpErrorWithRetryAfter { .. }) => Self::Other,
            RpcError::Transport(error) if is_too_long(error) => Self::TooMuch,
            // A batch that is refused as a whole.
            RpcError::Transport(TransportErrorKind::MissingBatchResponse(_)) => Self::TooMuch,
            _ => Self::Other,
        }
    }

    /// Of a JSON-RPC error. There are too many wordings of 'too much' to list, so it is all that is nothing else.
    fn of_answer(code: i64, message: &str) -> Self {
        let text = message.to_lowercase();
        let says = |wordings: &[&str]| wordings.iter().any(|wording| text.contains(wording));
        let is_word =
            |word: &str| text.split(|letter: char| !letter.is_alphanumeric()).any(|found| found == word);
        let is_rate = code == 429
            || is_word("rate")
            || says(&[
                "too many requests",
                "per second",
                "/second",
                "per minute",
                "throttl",
                "quota",
                "credits",
            ]);
        let is_late = !says(&["range"]) && says(&["timeout", "timed out"]);
        if says(&["unknown block", "not found", "beyond current head"]) {
            Self::NoBlock
        } else if is_rate || is_late {
            Self::Other
        } else {
            Self::TooMuch
        }
    }

    /// Of an HTTP status.
    fn of_status(status: u16, body: &str) -> Self {
        match status {
            400 | 413 | 422 => Self::of_answer(0, body),
            500 if body.contains("range") => Self::of_answer(0, body),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a span ends that a node refuses above a limit, after some steps.
    fn walk(span: &mut Span, limit: u64) -> (u64, usize) {
        let (mut asked, mut requests) = (span.width(), 1);
        while asked > limit {
            let Some(less) = narrower(asked) else { return (0, requests) };
            (asked, requests) = (less, requests + 1);
        }
        span.answered(asked, requests > 1);
        (asked, requests)
    }

    #[test]
    fn whatever_a_node_allows_is_found_kept_and_left_again() {
        for limit in [1, 2, 3, 63, 499, 500, 999, 1_000, 5_000] {
            let mut span = Span::new(1_000);
            let (asked, requests) = walk(&mut span, limit);
            assert!(
                (1..=limit).contains(&asked) && 2 * asked >= limit.min(1_000) && requests <= 11,
                "{limit}"
            );
            assert_eq!(walk(&mut span, limit), (asked, 1), "the width is remembered");
            // A node that allows everything again is asked for everything again, sooner or later.
            for _ in 0..500 {
                walk(&mut span, u64::MAX);
            }
            assert_eq!(span.width(), 1_000, "{limit}");
        }
    }

    #[test]
    fn a_node_that_refuses_even_one_block_changes_nothing() {
        let mut span = Span::new(1_000);
        assert_eq!(walk(&mut span, 0), (0, 10));
        assert_eq!(span, Span::new(1_000));
    }

    #[test]
    fn a_span_grows_by_a_quarter_after_ten_full_answers_in_a_row() {
        let mut span = Span::new(1_000);
        span.answered(500, true);
        for asked in [500; 9] {
            span.answered(asked, false);
        }
        span.answered(499, false);
        assert_eq!(span.width(), 500, "what is less than the width shows nothing");
        span.answered(500, false);
        assert_eq!(span.width(), 625);
    }

    #[test]
    fn every_range_goes_on_after_the_cursor_and_reads_some_of_it_again() {
        for (cursor, finalised, width, expected) in [
            (1_000, 5_000, 1_000, (937, 1_936)),
            (1_000, 1_032, 1_000, (937, 1_032)),
            (1_000, 5_000, 10, (996, 1_005)),
            (1_000, 5_000, 2, (1_000, 1_001)),
            (1_000, 5_000, 1, (1_001, 1_001)),
            (0, 5_000, 1_000, (0, 999)),
            (10, 11, 1_000, (0, 11)),
            (u64::MAX - 1, u64::MAX, 1_000, (u64::MAX - 64, u64::MAX)),
        ] {
            assert_eq!(range(cursor, finalised, width), expected);
        }
        for width in 1..300 {
            for (cursor, finalised) in [(0, 1), (1, 2), (50, 1_000), (64, 65), (1_000, 1_001), (1_000, 9_000)]
            {
                let (first, last) = range(cursor, finalised, width);
                assert!(
                    first <= cursor + 1 && cursor < last && last <= finalised,
                    "{cursor} {finalised} {width}"
                );
                assert!(last - first < width, "{cursor} {finalised} {width}");
            }
        }
    }

    #[test]
    fn nodes_words_for_too_much_are_told_from_others() {
        for (code, message, refusal) in [
            (-32005, "query returned more than 10000 results", Refusal::TooMuch),
            (-32614, "eth_getLogs is limited to a 10,000 range", Refusal::TooMuch),
            (
                -32602,
                "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range",
                Refusal::TooMuch,
            ),
            (-32600, "block range is too wide", Refusal::TooMuch),
            (-32000, "query timeout exceeded. Consider reducing your block range.", Refusal::TooMuch),
            (
                -32047,
                "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800",
                Refusal::TooMuch,
            ),
            (35, "ranges over 10000 blocks are not supported on freetier", Refusal::TooMuch),
            (-32005, "daily request count exceeded, request rate limited", Refusal::Other),
            (-32005, "rate limit exceeded", Refusal::Other),
            (-32007, "15/second request limit reached", Refusal::Other),
            (429, "Your app has exceeded its compute units per second capacity", Refusal::Other),
            (-32002, "request timed out", Refusal::Other),
            (-32000, "unknown block", Refusal::NoBlock),
            (-32000, "header not found", Refusal::NoBlock),
            (-32602, "block range extends beyond current head block", Refusal::NoBlock),
        ] {
            assert_eq!(Refusal::of_answer(code, message), refusal, "{message}");
        }
        for (status, body, refusal) in [
            (429, "Too Many Requests", Refusal::Other),
            (413, "", Refusal::TooMuch),
            (400, "block range is limited to 500", Refusal::TooMuch),
            (400, "rate limit", Refusal::Other),
            (500, "the range of 1000 blocks is too wide", Refusal::TooMuch),
            (502, "<html>", Refusal::Other),
            (401, "Must be authenticated!", Refusal::Other),
        ] {
            assert_eq!(Refusal::of_status(status, body), refusal, "{status} {body}");
        }
    }
}
