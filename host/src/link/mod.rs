//! The link to the member's own enclave: connects, says hello, starts it, and keeps what it says.
//!
//! # State and restart
//! Every output of the enclave is stored, in one transaction, before anything is done about it, and only then
//! acknowledged. After any break of the connection the link asks the enclave to repeat what was not acknowledged; what
//! was stored already is recognised by its number. So nothing is lost when this process is killed, and nothing doubles.
//! An enclave that starts without memory is handed its sealed state.

mod address;
mod connection;
mod privileged;

pub use address::{AddressError, ENCLAVE_PORT, EnclaveAddress};
pub use connection::{Connection, LinkError};

use crate::store::{Incarnation, Store, StoreError};
use postern_shared::check::Check;
use postern_shared::message::Certificates;
use postern_shared::record::{KeySlot, RecordKind, SealedError};
use postern_shared::wire::{
    HelloError, MAX_FRAME, Notice, NumberedOutput, Output, Rejection, Reply, Request, Response, Standing,
    Status,
};
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, watch};

/// Rounds of asking for repeats after which the enclave is taken for broken.
const MAX_REPEATS: usize = 10_000;

/// Bytes of records that are handed over at a time: one more still fits a frame.
const RECORDS_SIZE: usize = MAX_FRAME / 4;

/// The enclave, as the rest of the host sees it.
pub struct Enclave {
    address: EnclaveAddress,
    start: std::sync::Mutex<Request>,
    store: Arc<Store>,
    session: Mutex<Option<Session>>,
    /// Counts connections: whoever waits learns that the enclave may have forgotten what it was told.
    connections: watch::Sender<u64>,
}

/// An open connection to a started enclave.
struct Session {
    connection: Connection,
    incarnation: Incarnation,
    /// The newest output that came over it.
    newest: Option<u64>,
}

/// Why the enclave could not be asked.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum EnclaveError {
    /// The connection failed.
    #[error("enclave at {address}: {source}")]
    Link {
        /// Where.
        address: String,
        /// How.
        source: LinkError,
    },
    /// The enclave refuses to serve this member under this manifest.
    #[error("the enclave refuses to start: {rejection}{}", named(.checks))]
    Start {
        /// Why.
        rejection: Rejection,
        /// The checks that its own evidence fails.
        checks: Vec<Check>,
    },
    /// The enclave breaks the protocol.
    #[error("the enclave does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// What it said could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn named(checks: &[Check]) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = checks.iter().map(|check| check.name()).collect();
    format!(": {} (`postern attest show ADDRESS --manifest FILE --certs DIR` says more)", names.join(", "))
}

impl EnclaveError {
    /// Whether the enclave can't be expected to answer better later: a person must look.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Start { rejection, .. } => !rejection.is_transient(),
            Self::Link { source, .. } => {
                matches!(source, LinkError::Hello(HelloError::Version { .. }) | LinkError::NotPrivileged)
            }
            Self::Store(_) => true,
            Self::Protocol(_) => false,
        }
    }
}

impl Enclave {
    /// Does not connect yet. `start` is the request that makes the enclave this member's.
    pub fn new(address: EnclaveAddress, start: Request, store: Arc<Store>) -> Self {
        let start = std::sync::Mutex::new(start);
        Self { address, start, store, session: Mutex::new(None), connections: watch::Sender::new(0) }
    }

    /// The certificates that the enclave is started with.
    pub fn certificates(&self) -> Option<Certificates> {
        match &*self.start.lock().unwrap_or_else(PoisonError::into_inner) {
            Request::Start { certificates, .. } => Some(certificates.clone()),
            _ => None,
        }
    }

    /// Other certificates for the next time that it is started.
    pub fn set_certificates(&self, new: Certificates) {
        if let Request::Start { certificates, .. } =
            &mut *self.start.lock().unwrap_or_else(PoisonError::into_inner)
        {
            *certificates = new;
        }
    }

    /// Changes whenever a connection was made anew.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    /// Asks the enclave; connects first if need be. What it wants done is stored when this returns.
    pub async fn ask(&self, request: &Request) -> Result<Reply, EnclaveError> {
        let replies = self.ask_all(std::slice::from_ref(request)).await?;
        replies.into_iter().next().ok_or(EnclaveError::Protocol("no reply"))
    }

    /// Asks several things in order; what they cause is stored together, with one wait for the disk, when this returns.
    ///
    /// After an error none of them counts as answered: the enclave takes each again for what it is.
    pub async fn ask_all(&self, requests: &[Request]) -> Result<Vec<Reply>, EnclaveError> {
        let mut slot = self.session.lock().await;
        // Taken out while in use: a call that is cancelled half-way must not leave a connection out of step.
        // An enclave closes what was idle for long. What it said is stored, so nothing is lost with it.
        let held = slot.take().and_then(|mut held| (!held.connection.was_closed()).then_some(held));
        let mut session = match held {
            Some(session) => session,
            None => self.connect().await?,
        };
        let link = |source| EnclaveError::Link { address: self.address.to_string(), source };
        let (mut replies, mut caused) = (Vec::with_capacity(requests.len()), Vec::new());
        let mut waiting = false;
        for request in requests {
            let Response { reply, outputs, more } = session.connection.call(request).await.map_err(link)?;
            replies.push(reply);
            caused.extend(outputs);
            waiting = more;
        }
        self.keep(&mut session, caused).await?;
        if waiting {
            self.resume(&mut session).await?;
        }
        *slot = Some(session);
        Ok(replies)
    }

    /// Connects now, to fail early.
    pub async fn status(&self) -> Result<Status, EnclaveError> {
        match self.ask(&Request::Status).await? {
            Reply::Status(status) => Ok(*status),
            _ => Err(NO_STATUS),
        }
    }

    async fn connect(&self) -> Result<Session, EnclaveError> {
        let link = |source| EnclaveError::Link { address: self.address.to_string(), source };
        let mut connection = Connection::open(&self.address).await.map_err(link)?;
        let standing = status(&mut connection).await.map_err(link)?.ok_or(NO_STATUS)?.standing;
        let begun = match standing {
            Standing::Idle | Standing::Restoring { .. } | Standing::Succeeding | Standing::Stale(_) => {
                self.begin(&mut connection).await
            }
            Standing::Candidate
            | Standing::Returning { .. }
            | Standing::AwaitingCut
            | Standing::Acting
            | Standing::HandedOver
            | Standing::Replaced => self.start(&mut connection).await,
        };
        begun?;
        self.amend(&mut connection).await?;
        let Status { identity: Some(identity), incarnation, .. } =
            status(&mut connection).await.map_err(link)?.ok_or(NO_STATUS)?
        else {
            return Err(EnclaveError::Protocol("no identity after its start"));
        };
        let incarnation = Incarnation { signing: identity.signing, number: incarnation };
        self.store.begin_incarnation(&incarnation)?;
        let mut session = Session { connection, incarnation, newest: None };
        self.resume(&mut session).await?;
        self.connections.send_modify(|count| *count += 1);
        Ok(session)
    }

    /// Gives an enclave that knows nothing its state back, or starts it if it never had any.
    async fn begin(&self, connection: &mut Connection) -> Result<(), EnclaveError> {
        let slots = self.store.slots()?;
        let mut refused = None;
        for slot in &slots {
            match self.restore(connection, slot).await {
                // The slot before may do: the newest may be of firmware that was taken back.
                Err(EnclaveError::Start {
                    rejection: rejection @ Rejection::Sealed(SealedError::OtherTcb | SealedError::Slot),
                    checks,
                }) => refused = refused.or(Some(EnclaveError::Start { rejection, checks })),
                result => return result,
            }
        }
        match refused {
            Some(error) => Err(error),
            // Only a store without any state may begin anew: an enclave that forgot what it had would be another.
            None => self.start(connection).await,
        }
    }

    async fn start(&self, connection: &mut Connection) -> Result<(), EnclaveError> {
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.must(connection, &start).await
    }

    async fn restore(&self, connection: &mut Connection, slot: &KeySlot) -> Result<(), EnclaveError> {
        let Some(certificates) = self.certificates() else {
            return Err(EnclaveError::Protocol("nothing to restore it with"));
        };
        self.must(connection, &Request::Restore { slot: Box::new(slot.clone()), certificates }).await?;
        let link = |source| EnclaveError::Link { address: self.address.to_string(), source };
        let refused = hand_over_log(connection, &self.store).await.map_err(|error| match error {
            LogError::Link(source) => link(source),
            LogError::Store(error) => error.into(),
        })?;
        if let Some(rejection) = refused {
            return Err(EnclaveError::Start { rejection, checks: Vec::new() });
        }
        tracing::info!("the enclave has its state back, and asks its peers whether it is the newest");
        Ok(())
    }

    /// Tells an enclave that was started long ago what has changed since in the manifest.
    async fn amend(&self, connection: &mut Connection) -> Result<(), EnclaveError> {
        let link = |source| EnclaveError::Link { address: self.address.to_string(), source };
        let epochs = match &*self.start.lock().unwrap_or_else(PoisonError::into_inner) {
            Request::Start { epochs, .. } => epochs.clone(),
            _ => Vec::new(),
        };
        for epoch in epochs {
            let reply = connection.call(&Request::Amend(epoch)).await.map_err(link)?.reply;
            if let Reply::Rejected(rejection) = reply {
                // The members have not agreed yet on one before it.
                if matches!(rejection, Rejection::Behind(_)) {
                    break;
                }
                // It goes on by the manifest that it knows; its peers go on without it.
                tracing::error!(%rejection, "the enclave refuses an epoch of the manifest");
                break;
            }
        }
        Ok(())
    }

    /// Asks what must not be refused.
    async fn must(&self, connection: &mut Connection, request: &Request) -> Result<(), EnclaveError> {
        let link = |source| EnclaveError::Link { address: self.address.to_string(), source };
        let response = connection.call(request).await.map_err(link)?;
        let Reply::Rejected(rejection) = response.reply else { return Ok(()) };
        // The newest: what was not acknowledged before comes again.
        let checks = response.outputs.into_iter().rev().find_map(|numbered| match numbered.output {
            Output::Notice(Notice::Refused(refused)) => Some(refused.checks),
            _ => None,
        });
        Err(EnclaveError::Start { rejection, checks: checks.unwrap_or_default() })
    }

    /// Fetches everything that was said but not acknowledged, `started`'s own outputs included.
    async fn resume(&self, session: &mut Session) -> Result<(), EnclaveError> {
        for _ in 0..MAX_REPEATS {
            let link = |source| EnclaveError::Link { address: self.address.to_string(), source };
            let response = session.connection.call(&Request::Resume).await.map_err(link)?;
            if response.outputs.is_empty() {
                return Ok(());
            }
            self.keep(session, response.outputs).await?;
        }
        Err(EnclaveError::Protocol("it repeats outputs for ever"))
    }

    /// Stores outputs, then acknowledges them.
    async fn keep(&self, session: &mut Session, outputs: Vec<NumberedOutput>) -> Result<(), EnclaveError> {
        let Some(last) = outputs.last().map(|output| output.sequence) else { return Ok(()) };
        check_numbers(session.newest, &outputs)?;
        session.newest = session.newest.max(Some(last));
        // Notices are for people: worth no wait for the disk.
        if outputs.iter().all(|numbered| matches!(numbered.output, Output::Notice(_))) {
            self.store.note(&outputs);
        } else {
            self.store.keep_outputs(&session.incarnation, &outputs)?;
        }
        let link = |source| EnclaveError::Link { address: self.address.to_string(), source };
        match session.connection.call(&Request::Acknowledge(last)).await.map_err(link)?.reply {
            Reply::Rejected(_) => Err(EnclaveError::Protocol("it takes no acknowledgement of what it said")),
            _ => Ok(()),
        }
    }
}

/// Why a log could not be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Gives an enclave that has the key all records; says why it refuses them, if it does.
pub(crate) async fn hand_over_log(
    connection: &mut Connection,
    store: &Store,
) -> Result<Option<Rejection>, LogError> {
    let mut number = 0;
    // What a successor has begun to write, and of which it has not brought the slot, is not the enclave's log yet.
    let counts = store.log_that_counts()?;
    let mut begun = false;
    loop {
        let mut records = store.log(number, RECORDS_SIZE)?;
        let last = records.last().map(|record| record.header.number);
        records.retain(|record| {
            let own = Some(record.header.log) == counts;
            begun |= own;
            // Before it, what was settled in the logs that were handed over.
            own || !begun && record.header.kind == RecordKind::Vault
        });
        let request = last.map_or(Request::Restored, |_| Request::Records(records));
        if let Reply::Rejected(rejection) = connection.call(&request).await?.reply {
            return Ok(Some(rejection));
        }
        match last {
            Some(last) => number = last,
            None => return Ok(None),
        }
    }
}

const NO_STATUS: EnclaveError = EnclaveError::Protocol("no status in answer to a status request");

async fn status(connection: &mut Connection) -> Result<Option<Status>, LinkError> {
    Ok(match connection.call(&Request::Status).await?.reply {
        Reply::Status(status) => Some(*status),
        _ => None,
    })
}

/// Outputs count without gaps; only what was not acknowledged may come again.
fn check_numbers(newest: Option<u64>, outputs: &[NumberedOutput]) -> Result<(), EnclaveError> {
    let numbers = outputs.iter().map(|numbered| numbered.sequence);
    let within =
        numbers.clone().zip(numbers.clone().skip(1)).all(|(one, next)| one.checked_add(1) == Some(next));
    let begins = match (newest, numbers.clone().next()) {
        (Some(newest), Some(first)) => first <= newest.saturating_add(1),
        _ => true,
    };
    if within && begins { Ok(()) } else { Err(EnclaveError::Protocol("gaps between the numbers of outputs")) }
}

#[cfg(test)]
mod tests;
