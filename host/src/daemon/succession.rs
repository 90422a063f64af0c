//! Upgrade: the enclave hands its state over to another one, with newer code, that runs beside it. Both only answer; what
//! one says to the other is carried here.
//!
//! # State and restart
//! The two enclaves know how far they are, and each step may be repeated. What was handed over is stored before the
//! successor is given it; from when the successor has it, it is the enclave ([`choose`]).

use super::credentials::{self, NoReport};
use super::{DaemonError, RETRY, Shared};
use crate::link::{Connection, EnclaveAddress, EnclaveError, LinkError, LogError, hand_over_log};
use crate::store::{Store, StoreError};
use postern_attestation::UnverifiedReport;
use postern_shared::message::{Attestation, Envelope};
use postern_shared::wire::{Rejection, Reply, Request, Standing};
use std::sync::Arc;
use std::time::Duration;

/// How long members may take to remember the end of the log before all is asked again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a hand-over did not come to its end. It is tried again.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Enclave(#[from] EnclaveError),
    #[error("the successor: {0}")]
    Link(#[from] LinkError),
    #[error("the successor: {0}")]
    Report(#[from] NoReport),
    #[error(transparent)]
    Certificates(Box<DaemonError>),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{who} refuses: {rejection}")]
    Refused { who: &'static str, rejection: Rejection },
    #[error("{0} answers another question")]
    Protocol(&'static str),
    #[error("the members take too long to remember the end of the log")]
    TooSlow,
}

const SUCCESSOR: &str = "the successor";
const PREDECESSOR: &str = "the enclave";

/// Which of the two is the member's enclave: the successor, as soon as it has the state.
pub(super) async fn choose(
    enclave: EnclaveAddress,
    successor: Option<&EnclaveAddress>,
    store: &Store,
) -> Result<EnclaveAddress, StoreError> {
    let Some(successor) = successor else { return Ok(enclave) };
    let slot = store.slots()?.into_iter().next();
    let has_state = async {
        let mut connection = Connection::open(successor).await?;
        let standing = match connection.call(&Request::Status).await?.reply {
            Reply::Status(status) => status.standing,
            _ => Standing::Idle,
        };
        let Reply::Report(report) = connection.call(&Request::Report).await?.reply else { return Ok(false) };
        let measurement = UnverifiedReport::parse(&report).ok().map(|report| report.measurement);
        // Started, or to be restored from what it has sealed itself.
        let started = matches!(standing, Standing::Returning { .. } | Standing::Acting | Standing::Stale(_));
        Ok::<_, LinkError>(started || measurement == slot.map(|slot| slot.header.measurement))
    };
    match has_state.await {
        Ok(true) => {
            tracing::info!(%successor, "the successor is the enclave now: it can be configured as `enclave`");
            Ok(successor.clone())
        }
        Ok(false) => Ok(enclave),
        Err(error) => {
            tracing::warn!(%successor, %error, "the successor can't be reached");
            Ok(enclave)
        }
    }
}

/// Hands over, however often it must be tried; the daemon then begins anew with the successor.
pub(super) async fn hand_over(shared: Arc<Shared>, successor: EnclaveAddress) -> DaemonError {
    loop {
        match attempt(&shared, &successor).await {
            Ok(()) => return DaemonError::Again("the enclave has handed over to its successor"),
            Err(NotYet::Store(error)) => return DaemonError::Store(error),
            Err(error) => tracing::warn!(%error, "the enclave has not handed over yet; trying again"),
        }
        tokio::time::sleep(RETRY * 4).await;
    }
}

async fn attempt(shared: &Shared, successor: &EnclaveAddress) -> Result<(), NotYet> {
    let report = credentials::report(successor).await?;
    let certificates = credentials::certificates_for(&report, &shared.certificates)
        .await
        .map_err(|error| NotYet::Certificates(Box::new(error)))?;
    let mut heir = Connection::open(successor).await?;
    let succeed = Request::Succeed {
        manifest: shared.first.to_canonical(),
        epochs: shared.epochs.clone(),
        member: shared.member,
        certificates,
    };
    let Reply::Challenge(challenge) = accepted(SUCCESSOR, heir.call(&succeed).await?.reply)? else {
        return Err(NotYet::Protocol(SUCCESSOR));
    };
    let reply = shared.enclave.ask(&Request::Introduce(challenge)).await?;
    let Reply::Introduction(introduction) = accepted(PREDECESSOR, reply)? else {
        return Err(NotYet::Protocol(PREDECESSOR));
    };
    let reply = heir.call(&Request::Meet(introduction)).await?.reply;
    let Reply::Attestation(proof) = accepted(SUCCESSOR, reply)? else {
        return Err(NotYet::Protocol(SUCCESSOR));
    };
    let envelope = bequest(shared, proof).await?;
    accepted(SUCCESSOR, heir.call(&Request::TakeOver(envelope)).await?.reply)?;
    match hand_over_log(&mut heir, &shared.store).await? {
        Some(rejection) => Err(NotYet::Refused { who: SUCCESSOR, rejection }),
        None => Ok(()),
    }
}

/// From here on the enclave does nothing else. What it gives away leaves it when enough members remember that.
async fn bequest(shared: &Shared, proof: Box<Attestation>) -> Result<Envelope, NotYet> {
    shared.store.forget_inheritance()?;
    accepted(PREDECESSOR, shared.enclave.ask(&Request::HandOver(proof)).await?)?;
    let arrives = async {
        loop {
            if let Some(envelope) = shared.store.inheritance()? {
                return Ok(envelope);
            }
            tokio::time::sleep(RETRY / 4).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrives).await.map_err(|_| NotYet::TooSlow)?
}

fn accepted(who: &'static str, reply: Reply) -> Result<Reply, NotYet> {
    match reply {
        Reply::Rejected(rejection) => Err(NotYet::Refused { who, rejection }),
        reply => Ok(reply),
    }
}
