//! Standard output, which may be a pipe that nobody reads any more, or a file on a full disk.

use std::fmt::Arguments;
use std::io::{self, Write};

/// What was to be said could not be written.
#[derive(Debug, thiserror::Error)]
#[error("standard output: {0}")]
pub struct OutputError(#[source] io::Error);

impl OutputError {
    /// Whether whoever reads has read enough, as in `postern status | head`.
    pub fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes this, with the line's end if it is to be one.
pub fn say(text: Arguments<'_>) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).map_err(OutputError)
}
