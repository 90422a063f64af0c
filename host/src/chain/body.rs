//! Reads the body of an HTTP answer, and no more of it than fits: who answers decides how long it is.

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection failed before its end. (Its own words would name the URL.)
    #[error("the answer breaks off")]
    Broken(#[from] reqwest::Error),
    /// It is longer than what may be read, in bytes.
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
}

/// Reads a body of so many bytes at most. What is longer is not read to its end: the connection is closed.
pub(crate) async fn read(mut response: reqwest::Response, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        if body.len() + part.len() > most {
            return Err(BodyError::TooLong(most));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}
