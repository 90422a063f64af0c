//! One connection: hello, then one request and one response at a time.

use super::{EnclaveAddress, privileged};
use futures::FutureExt;
use postern_shared::codec::{self, DecodeError};
use postern_shared::wire::{
    FrameDecoder, FrameError, Hello, HelloError, MAX_WRITE, Request, Response, encode_frame,
};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest wait for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for an answer. An enclave works for milliseconds, but while this machine holds requests to the secure processor
/// back, the guest's kernel asks for a minute before it gives up (Linux, `SNP_REQ_MAX_RETRY_DURATION`).
const ANSWER_PATIENCE: Duration = Duration::from_secs(75);

/// Longest line that a user-space vsock device may answer.
const MAX_LINE: usize = 64;

trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// An open connection.
pub struct Connection {
    stream: Box<dyn Transport>,
    frames: FrameDecoder,
}

/// Why a connection is of no use.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The transport failed.
    #[error("{0}")]
    Transport(#[from] io::Error),
    /// This process may not connect to VMs as the host itself.
    #[error(
        "the enclave serves connections from vsock ports below 1024 only, and this process may not use them: \
         it lacks the capability CAP_NET_BIND_SERVICE"
    )]
    NotPrivileged,
    /// Others use all of them.
    #[error("no vsock port below 1024 is free to connect from")]
    NoPrivilegedPort,
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The enclave closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The device between does not connect us.
    #[error("the vsock device answered `{0}` instead of OK")]
    Device(String),
    /// A frame that can't be.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Another version, or another protocol.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// An answer that does not decode.
    #[error("the answer does not decode: {0}")]
    Decode(#[from] DecodeError),
}

async fn patiently<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(patience, answer).await.map_err(|_| LinkError::Timeout(patience))?
}

impl Connection {
    /// Connects and exchanges hellos.
    pub async fn open(address: &EnclaveAddress) -> Result<Self, LinkError> {
        patiently(CONNECT_PATIENCE, Self::open_patiently(address)).await
    }

    async fn open_patiently(address: &EnclaveAddress) -> Result<Self, LinkError> {
        let stream: Box<dyn Transport> = match address {
            EnclaveAddress::Vsock { cid, port } => Box::new(privileged::connect(*cid, *port).await?),
            EnclaveAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
            EnclaveAddress::UnixConnect { path, port } => {
                let mut stream = UnixStream::connect(path).await?;
                stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
                let line = read_line(&mut stream).await?;
                if !line.starts_with("OK ") {
                    return Err(LinkError::Device(line));
                }
                Box::new(stream)
            }
        };
        let mut connection = Self { stream, frames: FrameDecoder::default() };
        connection.write(&Hello::OURS.encode()).await?;
        Hello::check(&connection.read().await?)?;
        Ok(connection)
    }

    /// Asks, and waits for the answer.
    pub async fn call(&mut self, request: &Request) -> Result<Response, LinkError> {
        let exchange = async {
            self.write(&codec::encode(request)).await?;
            Ok(codec::decode(&self.read().await?)?)
        };
        patiently(ANSWER_PATIENCE, exchange).await
    }

    /// Whether the enclave has closed it while nothing was asked. Nothing else can come then.
    pub(super) fn was_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = self.stream.read(&mut byte).now_or_never();
        !self.frames.is_empty() || read.is_some()
    }

    async fn write(&mut self, body: &[u8]) -> Result<(), LinkError> {
        for piece in encode_frame(body)?.chunks(MAX_WRITE) {
            self.stream.write_all(piece).await?;
        }
        Ok(self.stream.flush().await?)
    }

    async fn read(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut buffer = vec![0; MAX_WRITE];
        loop {
            if let Some(body) = self.frames.next_frame()? {
                return Ok(body);
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(LinkError::Closed),
                count => self.frames.push(&buffer[..count]),
            }
        }
    }
}

async fn read_line(stream: &mut UnixStream) -> Result<String, LinkError> {
    let mut line = Vec::new();
    while line.len() < MAX_LINE {
        match stream.read_u8().await? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
