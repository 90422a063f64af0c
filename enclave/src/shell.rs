//! The thin loop around the core: frames from one host, one at a time.
//!
//! # Deadlines
//! Whoever is connected keeps all others out, so each thing that the shell waits for has a [`Limits`] of its own: a
//! deadline ends the connection and does nothing else. What is safe never depends on it: the core knows no clock, and the
//! next host is handed all that this one has not acknowledged.

use crate::core::Core;
use crate::machine::platform::Platform;
use postern_shared::codec;
use postern_shared::wire::{FrameDecoder, FrameError, Hello, HelloError, MAX_WRITE, encode_frame};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A socket would take a time-out of nothing for none at all.
const SHORTEST: Duration = Duration::from_millis(1);

/// A connection, and the clock that its deadlines are read from.
pub trait Stream: Read + Write {
    /// Lets a read that has got nothing for so long fail, as [`io::ErrorKind::WouldBlock`] or as `TimedOut`.
    fn set_read_timeout(&mut self, limit: Duration) -> io::Result<()>;

    /// Lets a write that could place nothing for so long fail likewise.
    fn set_write_timeout(&mut self, limit: Duration) -> io::Result<()>;

    /// What time it is.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

#[cfg(unix)]
impl Stream for std::os::unix::net::UnixStream {
    fn set_read_timeout(&mut self, limit: Duration) -> io::Result<()> {
        Self::set_read_timeout(self, Some(limit))
    }

    fn set_write_timeout(&mut self, limit: Duration) -> io::Result<()> {
        Self::set_write_timeout(self, Some(limit))
    }
}

/// How long the shell waits for its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the whole hello, both ways, from when the connection was accepted.
    pub hello: Duration,
    /// For the first byte of the next request.
    pub request: Duration,
    /// For the rest of it, however its bytes come.
    pub frame: Duration,
    /// Until the host has taken the whole answer.
    pub answer: Duration,
}

impl Default for Limits {
    /// An honest host says hello as soon as it has connected, ticks every few seconds, and gives up on an answer after little
    /// more than a minute. One that is idle for longer connects again when it has something to ask.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { hello: seconds(5), request: seconds(60), frame: seconds(20), answer: seconds(20) }
    }
}

/// What a host did not do in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Late {
    /// It did not say hello.
    #[error("say hello")]
    Hello,
    /// It asked nothing.
    #[error("ask anything")]
    Request,
    /// It did not end the request that it had begun.
    #[error("end the request that it had begun")]
    Frame,
    /// It did not take its answer.
    #[error("take the answer")]
    Answer,
}

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
    /// A deadline has passed.
    #[error("the host did not {0} in time")]
    Late(Late),
}

/// Why no host is served any more.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// No more can be accepted.
    #[error("can't accept connections any more: {0}")]
    Accept(#[source] io::Error),
    /// The secure processor can't be reached any more, and the VM is of no more use.
    #[error("the secure processor can't be reached any more: only another VM has a key to it")]
    Lost,
}

/// Serves one host after the other; ends only when no more can be, and says why.
///
/// A host that dies, falls silent or talks nonsense ends its connection, of which `ended` is told, and nothing else.
pub fn serve_each<P: Platform, S: Stream>(
    core: &mut Core<P>,
    limits: &Limits,
    mut accept: impl FnMut() -> io::Result<S>,
    mut ended: impl FnMut(&ServeError),
) -> Ended {
    loop {
        let served = match accept() {
            Ok(stream) => serve(core, limits, stream),
            Err(error) if is_transient(&error) => Err(error.into()),
            Err(error) => return Ended::Accept(error),
        };
        if let Err(error) = served {
            ended(&error);
        }
        if core.is_lost() {
            return Ended::Lost;
        }
    }
}

/// Whether only the connection failed that was to be accepted, or a signal came between.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Serves one host until it disconnects, a deadline passes, or the machine is lost. The core outlives the connection.
pub fn serve<P: Platform>(
    core: &mut Core<P>,
    limits: &Limits,
    stream: impl Stream,
) -> Result<(), ServeError> {
    let mut line = Line { stream, frames: FrameDecoder::default() };
    let hello = line.deadline(Late::Hello, limits.hello);
    line.write(&Hello::OURS.encode(), hello)?;
    if !line.has_begun(hello)? {
        return Ok(());
    }
    Hello::check(&line.read(hello)?)?;
    core.connected();
    while line.has_begun(line.deadline(Late::Request, limits.request))? {
        let request = line.read(line.deadline(Late::Frame, limits.frame))?;
        let response = core.handle(codec::decode(&request)?);
        line.write(&codec::encode(&response), line.deadline(Late::Answer, limits.answer))?;
        if core.is_lost() {
            break;
        }
    }
    Ok(())
}

/// When to stop waiting, and for what.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    missed: Late,
}

impl Deadline {
    /// How long there is still to wait.
    fn left(self, now: Instant) -> Result<Duration, ServeError> {
        let left = self.at.saturating_duration_since(now);
        if left.is_zero() { Err(ServeError::Late(self.missed)) } else { Ok(left.max(SHORTEST)) }
    }

    /// What came of one read or write; none if a signal came between.
    fn judge(self, done: io::Result<usize>) -> Result<Option<usize>, ServeError> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        match done {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == Interrupted => Ok(None),
            Err(error) if matches!(error.kind(), TimedOut | WouldBlock) => Err(ServeError::Late(self.missed)),
            Err(error) => Err(error.into()),
        }
    }
}

/// A connection, and what has come over it beyond the last frame.
struct Line<S> {
    stream: S,
    frames: FrameDecoder,
}

impl<S: Stream> Line<S> {
    fn deadline(&self, missed: Late, limit: Duration) -> Deadline {
        Deadline { at: self.stream.now() + limit, missed }
    }

    /// Waits for the first byte of a frame; false if the other side has closed instead.
    fn has_begun(&mut self, deadline: Deadline) -> Result<bool, ServeError> {
        Ok(!self.frames.is_empty() || self.receive(deadline)?)
    }

    /// Waits for the rest of a frame that has begun. The deadline is for all of it: bytes that drip in do not move it.
    fn read(&mut self, deadline: Deadline) -> Result<Vec<u8>, ServeError> {
        loop {
            if let Some(body) = self.frames.next_frame()? {
                return Ok(body);
            }
            if !self.receive(deadline)? {
                return Err(ServeError::Truncated);
            }
        }
    }

    /// Waits for some bytes; false if the other side has closed instead.
    fn receive(&mut self, deadline: Deadline) -> Result<bool, ServeError> {
        let mut buffer = [0; MAX_WRITE];
        loop {
            self.stream.set_read_timeout(deadline.left(self.stream.now())?)?;
            if let Some(count) = deadline.judge(self.stream.read(&mut buffer))? {
                self.frames.push(buffer.get(..count).unwrap_or_default());
                return Ok(count > 0);
            }
        }
    }

    fn write(&mut self, body: &[u8], deadline: Deadline) -> Result<(), ServeError> {
        for mut piece in encode_frame(body)?.chunks(MAX_WRITE) {
            while !piece.is_empty() {
                self.stream.set_write_timeout(deadline.left(self.stream.now())?)?;
                match deadline.judge(self.stream.write(piece))? {
                    Some(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    Some(count) => piece = piece.get(count..).unwrap_or_default(),
                    None => {}
                }
            }
        }
        self.stream.flush()?;
        Ok(())
    }
}
