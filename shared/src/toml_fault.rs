//! What is wrong with a TOML text, said without a word of it: a file with a key may stand where another one was meant.

use alloc::{borrow::ToOwned, format, string::String};

/// Where in a text a byte is: its line and its column, both from 1.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or_default();
    let column = before.chars().rev().take_while(|c| *c != '\n').count();
    (before.matches('\n').count().saturating_add(1), column.saturating_add(1))
}

/// An error without the value that the parser found, which it shows between quotes. The names of fields that are wanted stay.
pub fn describe(error: &toml::de::Error) -> String {
    let message = error.message();
    let shows_a_value =
        ["invalid type", "invalid value", "unknown variant"].iter().any(|kind| message.starts_with(kind));
    let value = match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => Some((first, last)),
        _ if shows_a_value => {
            let mut quotes = message.match_indices('`').map(|(at, _)| at);
            quotes.next().zip(quotes.next())
        }
        _ => None,
    };
    let Some((first, last)) = value else { return message.to_owned() };
    let (head, tail) = (message.get(..=first), message.get(last..));
    format!("{}…{}", head.unwrap_or_default(), tail.unwrap_or_default())
}

/// The same with its place in the text, if it has one.
pub fn describe_in(text: &str, error: &toml::de::Error) -> String {
    let reason = describe(error);
    match error.span() {
        Some(span) => {
            let (line, column) = line_and_column(text, span.start);
            format!("line {line}, column {column}: {reason}")
        }
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only whether it can be read counts")]
    struct Text {
        name: String,
        number: u8,
    }

    #[test]
    fn no_value_is_shown_and_every_field_that_is_wanted_is() {
        for (text, expected) in [
            ("name = 1234567\nnumber = 1", "line 1, column 8: invalid type: integer `…`, expected a string"),
            (
                "name = 'a'\nnumber = \"hunter2\"",
                "line 2, column 10: invalid type: string \"…\", expected u8",
            ),
            (
                "name = 1.5\nnumber = 1",
                "line 1, column 8: invalid type: floating point `…`, expected a string",
            ),
            ("name = 'a'", "line 1, column 1: missing field `number`"),
        ] {
            let error = toml::from_str::<Text>(text).unwrap_err();
            assert_eq!(describe_in(text, &error), expected);
        }
        let key = "5a".repeat(32);
        let said = describe_in(&key, &toml::from_str::<Text>(&key).unwrap_err());
        assert!(said.starts_with("line 1, column ") && !said.contains("5a5a"), "{said}");
    }
}
