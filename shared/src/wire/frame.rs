//! Frames: a little-endian `u32` length, then so many bytes.

use alloc::vec::Vec;

/// Longest body of a frame, in bytes.
pub const MAX_FRAME: usize = 4 << 20;

/// Longest piece to hand to the transport in one write, in bytes: vsock on some kernels loses larger ones.
pub const MAX_WRITE: usize = 16 << 10;

const LENGTH_SIZE: usize = 4;

/// A body that can't be framed.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than allowed. Nothing after it can be trusted: close the connection.
    #[error("frame of {found} bytes, at most {MAX_FRAME} are allowed")]
    TooLong {
        /// The length announced.
        found: usize,
    },
}

/// Puts a length before a body.
pub fn encode_frame(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong { found: body.len() };
    let length = u32::try_from(body.len()).map_err(|_| too_long)?;
    if body.len() > MAX_FRAME {
        return Err(too_long);
    }
    Ok(length.to_le_bytes().iter().chain(body).copied().collect())
}

/// Cuts a stream of bytes into frames. Holds at most one frame and what came in the same piece.
#[derive(Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
}

impl FrameDecoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes the next whole body, if there is one. An announced length that is too long is refused before its bytes
    /// are waited for.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH_SIZE>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong { found: length });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let mut body: Vec<u8> = self.buffer.drain(..LENGTH_SIZE + length).collect();
        body.drain(..LENGTH_SIZE);
        Ok(Some(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_fragmentation() {
        let bodies: [&[u8]; 3] = [b"", b"one", &[7; 70_000]];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| encode_frame(body).unwrap()).collect();
        for piece in [1, 3, 16 << 10, stream.len()] {
            let mut decoder = FrameDecoder::default();
            let mut found = Vec::new();
            for bytes in stream.chunks(piece) {
                decoder.push(bytes);
                while let Some(body) = decoder.next_frame().unwrap() {
                    found.push(body);
                }
            }
            assert_eq!(found, bodies);
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_from_its_length_alone() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong { found: u32::MAX as usize }));
        assert!(encode_frame(&alloc::vec![0; MAX_FRAME + 1]).is_err());
    }

    #[test]
    fn a_truncated_frame_gives_nothing() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&encode_frame(b"whole").unwrap()[..7]);
        assert_eq!(decoder.next_frame(), Ok(None));
    }
}
