//! The thin loop around the core: frames from one host, one at a time.

use crate::core::Core;
use crate::platform::Platform;
use postern_shared::codec;
use postern_shared::wire::{FrameDecoder, FrameError, Hello, HelloError, MAX_WRITE, encode_frame};
use std::io::{self, Read, Write};

/// Why a host's connection ended.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Transport(#[from] io::Error),
    /// A frame that can't be.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The host speaks another version, or another protocol.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// A request that does not decode.
    #[error("a request does not decode: {0}")]
    Request(#[from] codec::DecodeError),
    /// The connection ended in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Truncated,
}

/// Serves one host after the other; ends only when no more can be accepted, and says why.
///
/// A host that dies or talks nonsense ends its connection, of which `ended` is told, and nothing else.
pub fn serve_each<P: Platform, S: Read + Write>(
    core: &mut Core<P>,
    mut accept: impl FnMut() -> io::Result<S>,
    mut ended: impl FnMut(&ServeError),
) -> io::Error {
    loop {
        let served = match accept() {
            Ok(stream) => serve(core, stream),
            Err(error) if is_transient(&error) => Err(error.into()),
            Err(error) => return error,
        };
        if let Err(error) = served {
            ended(&error);
        }
    }
}

/// Whether only the connection failed that was to be accepted, or a signal came between.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Serves one host until it disconnects. The core outlives the connection.
pub fn serve<P: Platform>(core: &mut Core<P>, mut stream: impl Read + Write) -> Result<(), ServeError> {
    let mut frames = Frames::default();
    write_frame(&mut stream, &Hello::OURS.encode())?;
    let Some(hello) = frames.read(&mut stream)? else { return Ok(()) };
    Hello::check(&hello)?;
    while let Some(body) = frames.read(&mut stream)? {
        let response = core.handle(codec::decode(&body)?);
        write_frame(&mut stream, &codec::encode(&response))?;
    }
    Ok(())
}

#[derive(Default)]
struct Frames {
    decoder: FrameDecoder,
    partial: bool,
}

impl Frames {
    /// The next body; `None` when the other side has closed between two frames.
    fn read(&mut self, stream: &mut impl Read) -> Result<Option<Vec<u8>>, ServeError> {
        let mut buffer = [0; MAX_WRITE];
        loop {
            if let Some(body) = self.decoder.next_frame()? {
                self.partial = !self.decoder.is_empty();
                return Ok(Some(body));
            }
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return if self.partial { Err(ServeError::Truncated) } else { Ok(None) };
            }
            self.decoder.push(buffer.get(..count).unwrap_or_default());
            self.partial = true;
        }
    }
}

fn write_frame(stream: &mut impl Write, body: &[u8]) -> Result<(), ServeError> {
    for piece in encode_frame(body)?.chunks(MAX_WRITE) {
        stream.write_all(piece)?;
    }
    stream.flush()?;
    Ok(())
}
