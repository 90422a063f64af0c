//! One request to a node, and what its answer says.

use super::NodeError;
use crate::chain::body::{self, BodyError};
use crate::chain::url::NodeUrl;
use crate::chain::{describe_node_error, shorten};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An error answer of the Beacon API. Nimbus says why only in `stacktraces`.
#[derive(Deserialize)]
struct ErrorAnswer {
    message: String,
    #[serde(default)]
    stacktraces: Option<Vec<serde_json::Value>>,
}

/// Sends a request below a node's URL and understands its answer, of so many bytes at most.
pub(super) async fn answer<T: DeserializeOwned>(
    url: &NodeUrl,
    request: reqwest::RequestBuilder,
    most: usize,
) -> Result<T, NodeError> {
    let (status, body) = read(url, request, most).await?;
    if !(200..300).contains(&status) {
        return Err(NodeError::Status { status, message: api_message(url, &body) });
    }
    serde_json::from_slice(&body).map_err(|error| NodeError::Unreadable(describe_node_error(url, &error)))
}

/// Sends a request and reads its answer, of so many bytes at most.
pub(super) async fn read(
    url: &NodeUrl,
    request: reqwest::RequestBuilder,
    most: usize,
) -> Result<(u16, Vec<u8>), NodeError> {
    let unreachable = |error: reqwest::Error| NodeError::Unreachable(describe_node_error(url, &error));
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    match body::read(response, most).await {
        Ok(body) => Ok((status, body)),
        Err(BodyError::Broken(error)) => Err(unreachable(error)),
        Err(BodyError::TooLong(most)) => Err(NodeError::TooLarge(most)),
    }
}

/// The message of an error answer. `None` if it is not one of the Beacon API: a proxy's page may repeat the path, which may
/// hold an access key. So may the message: it comes without the parts of the node's URL.
pub(super) fn api_message(url: &NodeUrl, body: &[u8]) -> Option<String> {
    let ErrorAnswer { message, stacktraces } = serde_json::from_slice(body).ok()?;
    let stacktraces = stacktraces.unwrap_or_default();
    let details = stacktraces.iter().filter_map(serde_json::Value::as_str);
    let whole = std::iter::once(message.as_str()).chain(details).collect::<Vec<_>>().join(": ");
    Some(shorten(&url.redact(&whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_the_beacon_api_has_a_message() {
        let cases = [
            (r#"{"code":404,"message":"State not found"}"#, Some("State not found")),
            (r#"{"code":400,"message":"invalid","stacktraces":["why",7]}"#, Some("invalid: why")),
            (r#"{"code":400,"message":"invalid","stacktraces":null}"#, Some("invalid")),
            ("<html>/SECRET not found</html>", None),
            ("404 page not found", None),
            (r#"{"error":"no"}"#, None),
            ("", None),
            (r#"{"code":404,"message":"no route for project SECRET"}"#, Some("no route for project …")),
        ];
        let url = NodeUrl::parse("http://a/v3/SECRET").unwrap();
        for (body, expected) in cases {
            assert_eq!(api_message(&url, body.as_bytes()).as_deref(), expected, "{body}");
        }
        let long = serde_json::json!({"message": "\u{1b}x".repeat(10_000)}).to_string();
        assert_eq!(api_message(&url, long.as_bytes()), Some("x".repeat(300)));
    }
}
