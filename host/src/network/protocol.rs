//! What hosts say to each other, as bytes on a stream: one length-limited `postcard` value each way.

use futures::prelude::*;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use postern_shared::bytes::variable;
use postern_shared::codec;
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::ethereum::SignedVoluntaryExit;
use postern_shared::ids::{CeremonyId, MemberId, PoolId};
use postern_shared::message::{Broadcast, Step};
use postern_shared::proof::ProofRequest;
use postern_shared::wire::Rejection;
use serde::{Deserialize, Serialize};
use std::io;

/// Longest question, in bytes. Enclaves refuse messages above 1 MiB, so there is no use in carrying one.
const MAX_QUESTION: u64 = (1 << 20) + 1024;

/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// Most bytes of statements in one answer.
const MAX_RECORDS: usize = 3 << 20;

/// Most exits in one question or answer: each has to be verified.
pub const MAX_EXITS: usize = 256;

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
    /// Have your enclave sign this for the pool manager.
    Prove(ProofRequest),
    /// Keep these and post them: exits are public once they are released.
    Exits(Vec<ReleasedExit>),
    /// Which exits of these pools do you have?
    FetchExits(Vec<PoolId>),
}

/// A pool's exit that enclaves have released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedExit {
    /// The pool.
    pub pool: PoolId,
    /// Its validator's exit.
    pub exit: SignedVoluntaryExit,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The enclave took the message.
    Accepted,
    /// The enclave did not.
    Rejected(Rejection),
    /// The enclave can't be reached now.
    Unavailable,
    /// These.
    Records(Vec<Broadcast>),
    /// Your enclave's signature.
    Proved(EthereumSignature),
    /// The exits of these pools are kept here.
    Kept(Vec<PoolId>),
    /// These.
    Exits(Vec<ReleasedExit>),
}

impl Answer {
    /// An answer with as many of the records as fit.
    pub fn records(mut records: Vec<Broadcast>) -> Self {
        let mut left = MAX_RECORDS;
        let fitting = records.iter().take_while(|record| {
            let size = codec::encode(*record).len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        });
        let count = fitting.count();
        records.truncate(count);
        Self::Records(records)
    }
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
        read(io, MAX_QUESTION).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, MAX_ANSWER).await
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
async fn read<V, T>(io: &mut T, limit: u64) -> io::Result<V>
where
    V: Serialize + serde::de::DeserializeOwned,
    T: AsyncRead + Unpin + Send,
{
    let mut bytes = Vec::new();
    io.take(limit + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    codec::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::identity::IdentitySignature;
    use postern_shared::message::Slot;

    async fn transfer(question: &Question) -> io::Result<Question> {
        let protocol = StreamProtocol::new("/test");
        let mut bytes = futures::io::Cursor::new(Vec::new());
        PostcardCodec.write_request(&protocol, &mut bytes, question.clone()).await?;
        bytes.set_position(0);
        PostcardCodec.read_request(&protocol, &mut bytes).await
    }

    #[tokio::test]
    async fn an_overlong_question_is_refused() {
        let fitting = Question::Deliver(vec![7; 1 << 20]);
        assert_eq!(transfer(&fitting).await.unwrap(), fitting);
        let error = transfer(&Question::Deliver(vec![7; 2 << 20])).await.unwrap_err();
        assert_eq!(error.to_string(), "message too long");
    }

    #[tokio::test]
    async fn garbage_and_truncated_questions_are_refused() {
        let whole = codec::encode(&Question::Deliver(vec![1, 2, 3]));
        for bytes in [&whole[..3], &[][..], &[0xff; 9][..], &[&whole[..], &[0]].concat()[..]] {
            let read = PostcardCodec.read_request(&StreamProtocol::new("/test"), &mut { bytes }).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn an_answer_holds_what_fits() {
        let slot = Slot { ceremony: CeremonyId([1; 32]), from: MemberId(2), step: Step::Deal, item: 0 };
        let record = Broadcast { slot, body: vec![0; 1 << 20], signature: IdentitySignature([0; 64]) };
        let Answer::Records(records) = Answer::records(vec![record; 5]) else { panic!("no records") };
        assert_eq!(records.len(), 2);
        assert!((codec::encode(&Answer::Records(records)).len() as u64) < MAX_ANSWER);
    }
}
