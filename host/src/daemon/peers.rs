//! Other members' hosts, and what the own enclave lacks of theirs.

use super::{DaemonError, RETRY, Shared, is_fatal};
use crate::network::{Answer, Incoming, Question};
use postern_shared::codec;
use postern_shared::ids::{CeremonyId, MemberId};
use postern_shared::message::{PeerMessage, Step};
use postern_shared::wire::{Reply, Request};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Statements fetched from peers after one tick.
const MAX_FETCHES: usize = 64;

/// Answers questions until the network ends.
pub(super) async fn answer(shared: Arc<Shared>, mut questions: mpsc::Receiver<Incoming>) -> DaemonError {
    while let Some(Incoming { from, question, answer }) = questions.recv().await {
        let answered = match question {
            Question::Deliver(message) => match deliver(&shared, message).await {
                Ok(answer) => answer,
                Err(error) => return error,
            },
            Question::FetchRecords { ceremony, step, speaker } => {
                match shared.store.records(ceremony, step, speaker) {
                    Ok(records) => Answer::Records(records),
                    Err(error) => return error.into(),
                }
            }
        };
        tracing::trace!(%from, ?answered, "answered");
        // The asker may have gone; it asks again.
        let _ = answer.send(answered);
    }
    DaemonError::Task("the network has ended".to_owned())
}

async fn deliver(shared: &Shared, message: Vec<u8>) -> Result<Answer, DaemonError> {
    match shared.enclave.ask(&Request::Deliver(message)).await {
        Ok(Reply::Rejected(rejection)) => {
            tracing::debug!(%rejection, "the enclave refused a message");
            Ok(Answer::Rejected { transient: rejection.is_transient() })
        }
        Ok(_) => Ok(Answer::Accepted),
        Err(error) if is_fatal(&error) => Err(DaemonError::Enclave(error)),
        Err(error) => {
            tracing::warn!(%error, "a message could not be handed to the enclave");
            Ok(Answer::Rejected { transient: true })
        }
    }
}

/// Ticks for ever; after each tick fetches what the enclave says it misses.
pub(super) async fn tick(shared: Arc<Shared>) -> DaemonError {
    loop {
        match shared.enclave.ask(&Request::Tick).await {
            Ok(_) => {
                for (ceremony, step, speaker) in shared.store.take_missing().into_iter().take(MAX_FETCHES) {
                    if let Err(error) = fetch(&shared, ceremony, step, speaker).await {
                        return error;
                    }
                }
                tokio::time::sleep(shared.tick).await;
            }
            Err(error) if is_fatal(&error) => return DaemonError::Enclave(error),
            Err(error) => {
                tracing::warn!(%error, "the enclave can't be reached");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Asks other hosts for statements until one has them.
async fn fetch(
    shared: &Shared,
    ceremony: CeremonyId,
    step: Step,
    speaker: MemberId,
) -> Result<(), DaemonError> {
    let others = shared.manifest.members.iter().map(|member| member.id).filter(|id| *id != shared.member);
    for member in others {
        let question = Question::FetchRecords { ceremony, step, speaker };
        let Ok(Answer::Records(records)) = shared.network.ask(member, question).await else { continue };
        if records.is_empty() {
            continue;
        }
        for record in records {
            deliver(shared, codec::encode(&PeerMessage::Broadcast(record))).await?;
        }
        return Ok(());
    }
    Ok(())
}
