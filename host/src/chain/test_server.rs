//! A small HTTP server for tests of clients: one closure answers everything.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as a test sees it.
#[derive(Debug, Clone)]
pub(crate) struct TestRequest {
    /// `GET` or `POST`.
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// As text.
    pub(crate) body: String,
}

/// Serves until dropped.
pub(crate) struct TestServer {
    /// Where.
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<TestRequest>>>,
    task: tokio::task::JoinHandle<()>,
}

/// An answer as a test gives it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestAnswer {
    /// Such as 200.
    pub(crate) status: u16,
    /// Beside those that every answer has: `name: value`.
    pub(crate) headers: Vec<String>,
    /// What is sent.
    pub(crate) body: Vec<u8>,
    /// How long the client has to wait for it.
    pub(crate) delay: Duration,
}

impl<B: Into<Vec<u8>>> From<(u16, B)> for TestAnswer {
    fn from((status, body): (u16, B)) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }
}

type Answer = dyn Fn(&TestRequest) -> TestAnswer + Send + Sync;

impl TestServer {
    /// Answers every request by what the closure says.
    pub(crate) async fn start<A: Into<TestAnswer>>(
        answer: impl Fn(&TestRequest) -> A + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let answer: Arc<Answer> = Arc::new(move |request| answer(request).into());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move { serve(stream, &seen, answer.as_ref()).await });
            }
        });
        Self { url, requests, task }
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<TestRequest> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request, one answer, one connection.
async fn serve(mut stream: TcpStream, seen: &Mutex<Vec<TestRequest>>, answer: &Answer) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let (head, body_start) = loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break (String::from_utf8_lossy(&bytes[..end]).into_owned(), end + 4);
        }
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    while bytes.len() < body_start + length.unwrap_or(0) {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..count]);
    }
    let mut words = head.split(' ');
    let request = TestRequest {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        body: String::from_utf8_lossy(&bytes[body_start..]).into_owned(),
    };
    let TestAnswer { status, headers, body, delay } = answer(&request);
    seen.lock().unwrap().push(request);
    tokio::time::sleep(delay).await;
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n");
    headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
    let head = format!("{head}content-length: {}\r\n\r\n", body.len());
    // The client may hang up in the middle of an answer that is too large for it.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
}
