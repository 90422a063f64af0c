//! What hosts say to each other, as bytes on a stream: one length-limited `postcard` value each way.

use futures::prelude::*;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use postern_shared::bytes::variable;
use postern_shared::codec;
use postern_shared::ids::{CeremonyId, MemberId};
use postern_shared::message::{Broadcast, Step};
use serde::{Deserialize, Serialize};
use std::io;

/// Longest question or answer, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Hand this message to your enclave.
    Deliver(#[serde(with = "variable")] Vec<u8>),
    /// Which statements of this speaker at this step do you have?
    FetchRecords {
        /// Of which ceremony.
        ceremony: CeremonyId,
        /// Which step.
        step: Step,
        /// Whose.
        speaker: MemberId,
    },
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The enclave took the message.
    Accepted,
    /// It did not.
    Rejected {
        /// Whether it may later.
        transient: bool,
    },
    /// These.
    Records(Vec<Broadcast>),
}

/// The stream's codec.
#[derive(Debug, Clone, Copy)]
pub struct PostcardCodec;

impl Codec for PostcardCodec {
    type Protocol = StreamProtocol;
    type Request = Question;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Question>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, question: Question) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&codec::encode(&question)).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Answer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&codec::encode(&answer)).await
    }
}

/// Reads to the end of the stream: the behaviour closes each direction after one value.
async fn read<V, T>(io: &mut T) -> io::Result<V>
where
    V: Serialize + serde::de::DeserializeOwned,
    T: AsyncRead + Unpin + Send,
{
    let mut bytes = Vec::new();
    io.take(MAX_SIZE + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    codec::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
