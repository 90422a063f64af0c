//! JSON-RPC over HTTP, to a server that may answer with as much as it likes. Alloy's own transport reads all of it into memory.

use super::body::{self, BodyError};
use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Url};
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// Alloy's transport, which reads answers of so many bytes at most.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    url: Url,
    most: usize,
}

impl Http {
    /// `most` is in bytes, for one answer: a batch has one.
    pub(crate) fn new(client: Client, url: Url, most: usize) -> Self {
        Self { client, url, most }
    }

    async fn ask(self, request: RequestPacket) -> TransportResult<ResponsePacket> {
        let sent = self.client.post(self.url).headers(request.headers()).json(&request).send();
        let response = sent.await.map_err(TransportErrorKind::custom)?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
        let body = body::read(response, self.most).await.map_err(TransportErrorKind::custom)?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| TransportError::deser_err(error, String::from_utf8_lossy(&body)));
        }
        // Some servers give the errors of JSON-RPC a status of HTTP too.
        match serde_json::from_slice::<ResponsePacket>(&body) {
            Ok(answer) if answer.is_error() => Ok(answer),
            _ => {
                let body = String::from_utf8_lossy(&body).into_owned();
                Err(TransportErrorKind::http_error_with_retry_after(status.as_u16(), body, retry_after))
            }
        }
    }
}

impl Service<RequestPacket> for Http {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().ask(request))
    }
}

/// Whether a request failed because its answer was longer than what is read.
pub(crate) fn is_too_long(error: &TransportErrorKind) -> bool {
    match error {
        TransportErrorKind::Custom(error) => {
            matches!(error.downcast_ref(), Some(BodyError::TooLong(_)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::test_server::{TestAnswer, TestServer};
    use alloy::rpc::client::RpcClient;
    use alloy::transports::RpcError;

    const MOST: usize = 100;

    async fn asked(answer: TestAnswer) -> Result<String, TransportError> {
        let server = TestServer::start(move |_| answer.clone()).await;
        let http = Http::new(Client::new(), server.url.parse().unwrap(), MOST);
        RpcClient::new(http, false).request_noparams("eth_anything").await
    }

    fn result(length: usize) -> String {
        let empty = r#"{"jsonrpc":"2.0","id":0,"result":""}"#;
        empty.replace(r#""""#, &format!("\"{}\"", "x".repeat(length - empty.len())))
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_the_limit_and_no_further() {
        let said = asked(TestAnswer::from((200, result(MOST)))).await.unwrap();
        assert!(said.len() < MOST && said.chars().all(|letter| letter == 'x'));
        for (status, length) in [(200, MOST + 1), (200, 5_000_000), (500, 5_000_000)] {
            let error = asked(TestAnswer::from((status, result(length)))).await.unwrap_err();
            assert!(matches!(&error, RpcError::Transport(kind) if is_too_long(kind)), "{error}");
            assert_eq!(error.to_string(), "an answer of more than 100 bytes");
        }
    }

    #[tokio::test]
    async fn an_error_is_understood_whatever_the_status() {
        let refusal = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32005,"message":"too much"}}"#;
        for status in [200, 400, 500] {
            let error = asked(TestAnswer::from((status, refusal))).await.unwrap_err();
            assert_eq!(error.as_error_resp().map(|answer| answer.code), Some(-32005), "{status}");
        }
        for (headers, waits) in [(vec![], None), (vec!["retry-after: 7".to_owned()], Some(7))] {
            let page = TestAnswer { headers, ..TestAnswer::from((503, "<html>")) };
            let RpcError::Transport(error) = asked(page).await.unwrap_err() else { panic!("no status") };
            assert_eq!(error.as_http_error().map(|error| error.status), Some(503));
            assert_eq!(error.retry_after(), waits.map(Duration::from_secs));
        }
        assert!(asked(TestAnswer::from((200, "<html>"))).await.unwrap_err().is_deser_error());
    }
}
