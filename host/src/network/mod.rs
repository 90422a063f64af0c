//! The network between members' hosts: libp2p, with the keys that the manifest names and nobody else.
//!
//! Hosts trust each other with nothing; what they carry protects itself. These questions are all that they ask: 'hand this
//! to your enclave', 'which statements of this speaker do you have', for when a relay has lost a copy, 'have your enclave
//! sign this for the pool manager', 'keep and post these exits', and 'which exits of these pools do you have'.

mod outbox;
mod protocol;

pub use outbox::carry;
pub use protocol::{Answer, MAX_EXITS, Question, ReleasedExit};

use futures::StreamExt;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::request_response::{self, Event, Message, OutboundRequestId, ProtocolSupport, ResponseChannel};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use postern_shared::ids::MemberId;
use postern_shared::manifest::Manifest;
use protocol::PostcardCodec;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

const PROTOCOL: &str = "/postern/3";

/// A peer that has not answered by then is asked again later.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections without traffic are kept this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Questions that may wait to be sent, and to be answered.
const QUEUE: usize = 256;

/// Questions of one member that may wait to be answered: a member that floods us takes nothing from the others.
const MAX_OPEN_QUESTIONS: usize = 16;

/// Streams that one connection may have open, and connections that one member may: they bound what is held in memory.
const MAX_STREAMS: usize = 32;
const MAX_CONNECTIONS: u32 = 4;

type Behaviour = request_response::Behaviour<PostcardCodec>;

/// Why the network could not be set up.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A member's host key in the manifest is none.
    #[error("the manifest's host_key of {0} is no Ed25519 key")]
    HostKey(MemberId),
    /// The transport could not be set up.
    #[error("network: {0}")]
    Transport(String),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {reason}")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// Why.
        reason: String,
    },
}

/// Why a peer gave no answer.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No address of it is known.
    #[error("no address of {0} is configured")]
    NoAddress(MemberId),
    /// It can't be reached, or did not answer.
    #[error("{0}")]
    Failed(String),
    /// The network has ended.
    #[error("the network has ended")]
    Ended,
}

/// A question of another member's host.
pub struct Incoming {
    /// Who asks: proved by its key.
    pub from: MemberId,
    /// What.
    pub question: Question,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// Asks other members' hosts.
#[derive(Clone)]
pub struct Network {
    outgoing: mpsc::Sender<Outgoing>,
}

struct Outgoing {
    to: MemberId,
    question: Question,
    answer: oneshot::Sender<Result<Answer, AskError>>,
}

impl Network {
    /// Listens, and serves until every clone of the handle and the receiver of questions are dropped.
    pub async fn start(
        manifest: &Manifest,
        key: Keypair,
        listen: Multiaddr,
        addresses: BTreeMap<MemberId, Multiaddr>,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), NetworkError> {
        let mut peers = BTreeMap::new();
        for member in &manifest.members {
            let key = ed25519::PublicKey::try_from_bytes(&member.host_key.0)
                .map_err(|_| NetworkError::HostKey(member.id))?;
            peers.insert(member.id, PublicKey::from(key).to_peer_id());
        }
        let mut swarm = build(key)?;
        swarm
            .listen_on(listen.clone())
            .map_err(|error| NetworkError::Listen { address: listen.clone(), reason: error.to_string() })?;
        // The address is bound when the first event says so; only then may peers rely on it.
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { .. } => break,
                SwarmEvent::ListenerError { error, .. } => {
                    return Err(NetworkError::Listen { address: listen, reason: error.to_string() });
                }
                SwarmEvent::ListenerClosed { reason, .. } => {
                    return Err(NetworkError::Listen { address: listen, reason: format!("{reason:?}") });
                }
                _ => {}
            }
        }
        let (outgoing, to_send) = mpsc::channel(QUEUE);
        let (to_answer, incoming) = mpsc::channel(QUEUE);
        let open =
            peers.keys().map(|member| (*member, Arc::new(Semaphore::new(MAX_OPEN_QUESTIONS)))).collect();
        let driver = Driver { swarm, peers, addresses, open, to_send, to_answer, waiting: HashMap::new() };
        tokio::spawn(driver.run());
        Ok((Self { outgoing }, incoming))
    }

    /// Asks a member's host.
    pub async fn ask(&self, to: MemberId, question: Question) -> Result<Answer, AskError> {
        let (answer, answered) = oneshot::channel();
        self.outgoing.send(Outgoing { to, question, answer }).await.map_err(|_| AskError::Ended)?;
        answered.await.map_err(|_| AskError::Ended)?
    }
}

fn build(key: Keypair) -> Result<Swarm<Behaviour>, NetworkError> {
    let transport = |error: &dyn std::fmt::Display| NetworkError::Transport(error.to_string());
    let config = request_response::Config::default()
        .with_request_timeout(REQUEST_TIMEOUT)
        .with_max_concurrent_streams(MAX_STREAMS);
    let protocols = [(StreamProtocol::new(PROTOCOL), ProtocolSupport::Full)];
    Ok(SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| transport(&error))?
        .with_behaviour(|_| Behaviour::with_codec(PostcardCodec, protocols, config))
        .map_err(|error| transport(&error))?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(IDLE_TIMEOUT))
        .build())
}

/// Owns the swarm.
struct Driver {
    swarm: Swarm<Behaviour>,
    peers: BTreeMap<MemberId, PeerId>,
    addresses: BTreeMap<MemberId, Multiaddr>,
    /// Room for each member's questions.
    open: BTreeMap<MemberId, Arc<Semaphore>>,
    to_send: mpsc::Receiver<Outgoing>,
    to_answer: mpsc::Sender<Incoming>,
    waiting: HashMap<OutboundRequestId, oneshot::Sender<Result<Answer, AskError>>>,
}

impl Driver {
    async fn run(mut self) {
        let (answers, mut answered) = mpsc::channel::<(ResponseChannel<Answer>, Answer)>(QUEUE);
        loop {
            tokio::select! {
                outgoing = self.to_send.recv() => match outgoing {
                    Some(outgoing) => self.send(outgoing),
                    None => return,
                },
                Some((channel, answer)) = answered.recv() => {
                    // Fails when the asker has gone; it asks again.
                    let _ = self.swarm.behaviour_mut().send_response(channel, answer);
                }
                event = self.swarm.select_next_some() => self.on_event(event, &answers),
            }
        }
    }

    fn send(&mut self, Outgoing { to, question, answer }: Outgoing) {
        let Some(peer) = self.peers.get(&to) else {
            let _ = answer.send(Err(AskError::NoAddress(to)));
            return;
        };
        // A member whose address is not configured can still be asked while it is connected to us.
        let addresses: Vec<Multiaddr> = self.addresses.get(&to).cloned().into_iter().collect();
        if addresses.is_empty() && !self.swarm.is_connected(peer) {
            let _ = answer.send(Err(AskError::NoAddress(to)));
            return;
        }
        let id = self.swarm.behaviour_mut().send_request_with_addresses(peer, question, addresses);
        self.waiting.insert(id, answer);
    }

    fn on_event(
        &mut self,
        event: SwarmEvent<Event<Question, Answer>>,
        answers: &mpsc::Sender<(ResponseChannel<Answer>, Answer)>,
    ) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } if self.member(&peer_id).is_none() => {
                tracing::warn!(%peer_id, "a stranger connected; disconnecting");
                let _ = self.swarm.disconnect_peer_id(peer_id);
            }
            SwarmEvent::ConnectionEstablished { connection_id, num_established, .. }
                if num_established.get() > MAX_CONNECTIONS =>
            {
                self.swarm.close_connection(connection_id);
            }
            SwarmEvent::Behaviour(Event::Message { peer, message, .. }) => match message {
                Message::Request { request, channel, .. } => {
                    self.on_question(peer, request, channel, answers)
                }
                Message::Response { request_id, response } => {
                    if let Some(asker) = self.waiting.remove(&request_id) {
                        let _ = asker.send(Ok(response));
                    }
                }
            },
            SwarmEvent::Behaviour(Event::OutboundFailure { request_id, error, .. }) => {
                if let Some(asker) = self.waiting.remove(&request_id) {
                    let _ = asker.send(Err(AskError::Failed(error.to_string())));
                }
            }
            _ => {}
        }
    }

    fn on_question(
        &self,
        peer: PeerId,
        question: Question,
        channel: ResponseChannel<Answer>,
        answers: &mpsc::Sender<(ResponseChannel<Answer>, Answer)>,
    ) {
        let Some(from) = self.member(&peer) else { return };
        // When too many wait already the question is dropped; its asker asks again.
        let room = self.open.get(&from).and_then(|open| Arc::clone(open).try_acquire_owned().ok());
        let Some(room) = room else { return };
        let (answer, answered) = oneshot::channel();
        if self.to_answer.try_send(Incoming { from, question, answer }).is_err() {
            return;
        }
        let answers = answers.clone();
        tokio::spawn(async move {
            if let Ok(answer) = answered.await {
                let _ = answers.send((channel, answer)).await;
            }
            drop(room);
        });
    }

    fn member(&self, peer: &PeerId) -> Option<MemberId> {
        self.peers.iter().find(|(_, known)| *known == peer).map(|(member, _)| *member)
    }
}

#[cfg(test)]
mod tests;
