//! The network between members' hosts: libp2p, with the keys that the manifest names and nobody else.
//!
//! Hosts trust each other with nothing; what they carry protects itself. These questions are all that they ask: 'hand this
//! to your enclave', 'which statements of this speaker do you have', for when a relay has lost a copy, 'have your enclave
//! sign this for the pool manager', 'keep and post these exits', and 'which exits of these pools do you have'.

//!
//! # What a peer can make this host hold
//! A member: [`MAX_CONNECTIONS`] connections with [`MAX_STREAMS`] streams each, of which every one holds a question of at most
//! 1 MiB: 32 MiB; and the answers to this host's own [`MAX_OPEN_QUESTIONS`] questions, of at most 4 MiB each. A stranger: a
//! handshake, one of so many as the `crowd` may have at a time.

pub mod address;
mod crowd;
mod names;
mod outbox;
mod protocol;
mod reach;

pub use outbox::carry;
pub use protocol::{Answer, MAX_EXITS, Question, ReleasedExit};

use crowd::Crowd;
use futures::StreamExt;
use libp2p::core::upgrade::Version;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::request_response::{
    self, Event, Message, OutboundFailure, OutboundRequestId, ProtocolSupport, ResponseChannel,
};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{self, ConnectionId, DialError, ListenError, NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, Transport, allow_block_list, connection_limits, dns, noise,
    tcp, yamux,
};
use postern_shared::ids::MemberId;
use postern_shared::manifest::{Manifest, Member};
use protocol::PostcardCodec;
use reach::{Reach, Strangers};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::MissedTickBehavior;

const PROTOCOL: &str = "/postern/3";

/// How long things take.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// A peer that has not answered by then is asked again later.
    answer: Duration,
    /// Connections without traffic are kept this long.
    idle: Duration,
    /// How often those are dialled that are not connected: that one is not reached shows even if there is nothing to tell it. A
    /// connection that is only dead is taken for one until it has been idle for so long, or a question times out and nothing has
    /// come by it since.
    look: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(20),
            idle: Duration::from_secs(120),
            look: Duration::from_secs(30),
        }
    }
}

/// Questions that may wait to be sent, and to be answered.
const QUEUE: usize = 256;

/// A connection that is not made by then is none: the handshake included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Questions of one member that may wait to be answered, and to one: a member that floods us takes nothing from the others.
const MAX_OPEN_QUESTIONS: usize = 8;

/// Streams that one connection may have open, and connections that one member may have.
const MAX_STREAMS: usize = 16;
const MAX_CONNECTIONS: u32 = 2;

/// Handshakes at a time, of whoever.
const MAX_HANDSHAKES: u32 = 128;

#[derive(NetworkBehaviour)]
struct Behaviour {
    crowd: Crowd,
    limits: connection_limits::Behaviour,
    members: allow_block_list::Behaviour<allow_block_list::AllowedPeers>,
    questions: request_response::Behaviour<PostcardCodec>,
}

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
    /// Room for questions to each member.
    room: Arc<BTreeMap<MemberId, Semaphore>>,
    reach: Reach,
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
        Self::start_with(manifest, key, listen, addresses, Timing::default()).await
    }

    async fn start_with(
        manifest: &Manifest,
        key: Keypair,
        listen: Multiaddr,
        addresses: BTreeMap<MemberId, Multiaddr>,
        timing: Timing,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), NetworkError> {
        let peers = manifest.members.iter().map(|member| Ok((member.id, peer_of(member)?)));
        let peers: BTreeMap<MemberId, PeerId> = peers.collect::<Result<_, NetworkError>>()?;
        let places: Vec<(PeerId, Option<&Multiaddr>)> =
            peers.iter().map(|(member, peer)| (*peer, addresses.get(member))).collect();
        let mut swarm = build(key, &places, timing)?;
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
        let room = || Semaphore::new(MAX_OPEN_QUESTIONS);
        let open = peers.keys().map(|member| (*member, Arc::new(room()))).collect();
        let outbound = Arc::new(peers.keys().map(|member| (*member, room())).collect());
        let reach = Reach::default();
        let (to_find, found) = mpsc::channel(QUEUE);
        let named = places.iter().filter_map(|(peer, address)| Some((*peer, (*address)?.clone())));
        tokio::spawn(names::follow(named.collect(), to_find));
        let driver = Driver {
            swarm,
            peers,
            addresses,
            open,
            to_send,
            to_answer,
            waiting: HashMap::new(),
            heard: HashMap::new(),
            reach: reach.clone(),
            strangers: Strangers::default(),
            found,
            look: timing.look,
        };
        tokio::spawn(driver.run());
        Ok((Self { outgoing, room: outbound, reach }, incoming))
    }

    /// Members' hosts that could not be reached for a while, and why.
    pub fn lost(&self) -> BTreeMap<MemberId, String> {
        self.reach.lost(Instant::now())
    }

    /// Asks a member's host, when fewer than a few questions to it are open.
    pub async fn ask(&self, to: MemberId, question: Question) -> Result<Answer, AskError> {
        let room = self.room.get(&to).ok_or(AskError::NoAddress(to))?;
        let _room = room.acquire().await.map_err(|_| AskError::Ended)?;
        let (answer, answered) = oneshot::channel();
        self.outgoing.send(Outgoing { to, question, answer }).await.map_err(|_| AskError::Ended)?;
        answered.await.map_err(|_| AskError::Ended)?
    }
}

/// Under which name a member's host is known.
pub fn peer_of(member: &Member) -> Result<PeerId, NetworkError> {
    let key = ed25519::PublicKey::try_from_bytes(&member.host_key.0);
    Ok(PublicKey::from(key.map_err(|_| NetworkError::HostKey(member.id))?).to_peer_id())
}

fn build(
    key: Keypair,
    members: &[(PeerId, Option<&Multiaddr>)],
    timing: Timing,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let failed = |error: &dyn Display| NetworkError::Transport(error.to_string());
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    // Names are looked up where the system says: whoever uses none needs no such place.
    let found = if members.iter().any(|(_, address)| address.is_some_and(address::is_name)) {
        dns::tokio::Transport::system(tcp).map_err(|error| failed(&error))?.boxed()
    } else {
        tcp.boxed()
    };
    let mut streams = yamux::Config::default();
    streams.set_max_num_streams(2 * MAX_STREAMS);
    let transport = found
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).map_err(|error| failed(&error))?)
        .multiplex(streams)
        .timeout(CONNECTION_TIMEOUT)
        .boxed();
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_HANDSHAKES))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS));
    let mut allowed = allow_block_list::Behaviour::default();
    for (peer, _) in members {
        allowed.allow_peer(*peer);
    }
    let config = request_response::Config::default()
        .with_request_timeout(timing.answer)
        .with_max_concurrent_streams(MAX_STREAMS);
    let protocols = [(StreamProtocol::new(PROTOCOL), ProtocolSupport::Full)];
    let behaviour = Behaviour {
        crowd: Crowd::new(members.iter().copied()),
        limits: connection_limits::Behaviour::new(limits),
        members: allowed,
        questions: request_response::Behaviour::with_codec(PostcardCodec, protocols, config),
    };
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(timing.idle);
    Ok(Swarm::new(transport, behaviour, key.public().to_peer_id(), config))
}

/// A question that is not answered yet.
struct Asked {
    at: Instant,
    answer: oneshot::Sender<Result<Answer, AskError>>,
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
    waiting: HashMap<OutboundRequestId, Asked>,
    /// When a question or an answer last came by a connection.
    heard: HashMap<ConnectionId, Instant>,
    reach: Reach,
    strangers: Strangers,
    /// Where members' names lead.
    found: mpsc::Receiver<(PeerId, Vec<IpAddr>)>,
    look: Duration,
}

impl Driver {
    async fn run(mut self) {
        let (answers, mut answered) = mpsc::channel::<(ResponseChannel<Answer>, Answer)>(QUEUE);
        let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + self.look, self.look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                outgoing = self.to_send.recv() => match outgoing {
                    Some(outgoing) => self.send(outgoing),
                    None => return,
                },
                Some((channel, answer)) = answered.recv() => {
                    // Fails when the asker has gone; it asks again.
                    let _ = self.swarm.behaviour_mut().questions.send_response(channel, answer);
                }
                Some((peer, places)) = self.found.recv() => {
                    self.swarm.behaviour_mut().crowd.found(peer, places);
                }
                _ = looks.tick() => self.look(),
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
        let id = self.swarm.behaviour_mut().questions.send_request_with_addresses(peer, question, addresses);
        self.waiting.insert(id, Asked { at: Instant::now(), answer });
    }

    /// Dials those that are not connected.
    fn look(&mut self) {
        let own = *self.swarm.local_peer_id();
        let is_away = |peer: &PeerId| *peer != own && !self.swarm.is_connected(peer);
        let away: Vec<(MemberId, PeerId)> = self
            .peers
            .iter()
            .filter_map(|(member, peer)| is_away(peer).then_some((*member, *peer)))
            .collect();
        for (member, peer) in away {
            let Some(address) = self.addresses.get(&member) else {
                let reason = "no address of it is configured, and it does not connect".to_owned();
                self.reach.failed(member, Instant::now(), reason);
                continue;
            };
            let dial = DialOpts::peer_id(peer).addresses(vec![address.clone()]).build();
            match self.swarm.dial(dial) {
                // What becomes of it is an event, as of one that is dialled already.
                Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
                Err(error) => self.reach.failed(member, Instant::now(), why(&error)),
            }
        }
    }

    fn on_event(
        &mut self,
        event: SwarmEvent<BehaviourEvent>,
        answers: &mpsc::Sender<(ResponseChannel<Answer>, Answer)>,
    ) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                if let Some(member) = self.member(&peer_id) {
                    self.reach.connected(member);
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.heard.remove(&connection_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                if let Some(member) = self.member(&peer)
                    && !self.swarm.is_connected(&peer)
                {
                    self.reach.failed(member, Instant::now(), why(&error));
                }
            }
            // Who is no member, or has not ended its handshake.
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                if let Some(count) = self.strangers.knock(Instant::now()) {
                    let reason = refusal(&error);
                    tracing::warn!(from = %send_back_addr, count, reason, "strangers connect, and are sent away");
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Questions(Event::Message {
                peer,
                connection_id,
                message,
            })) => {
                self.heard.insert(connection_id, Instant::now());
                if let Some(member) = self.member(&peer) {
                    self.reach.connected(member);
                }
                match message {
                    Message::Request { request, channel, .. } => {
                        self.on_question(peer, request, channel, answers)
                    }
                    Message::Response { request_id, response } => {
                        if let Some(asked) = self.waiting.remove(&request_id) {
                            let _ = asked.answer.send(Ok(response));
                        }
                    }
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Questions(Event::OutboundFailure {
                peer,
                connection_id,
                request_id,
                error,
            })) => {
                let asked = self.waiting.remove(&request_id);
                let is_lost = match &error {
                    // Why it could not be dialled is known better already.
                    OutboundFailure::DialFailure => false,
                    OutboundFailure::Timeout => asked.as_ref().is_some_and(|asked| {
                        self.heard.get(&connection_id).is_none_or(|heard| *heard < asked.at)
                    }),
                    OutboundFailure::ConnectionClosed | OutboundFailure::UnsupportedProtocols => true,
                    // It sent this question away.
                    OutboundFailure::Io(_) => false,
                };
                if is_lost && matches!(error, OutboundFailure::Timeout) {
                    // It may be dead. As long as something is to be sent it would never be idle, and nobody would dial anew.
                    self.swarm.close_connection(connection_id);
                }
                if let Some(member) = self.member(&peer).filter(|_| is_lost) {
                    self.reach.failed(member, Instant::now(), error.to_string());
                }
                if let Some(asked) = asked {
                    let _ = asked.answer.send(Err(AskError::Failed(error.to_string())));
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

/// Why a host can't be reached: of every address that was tried what went wrong at its bottom.
fn why(error: &DialError) -> String {
    let DialError::Transport(tried) = error else { return error.to_string().replace('\n', " ") };
    let each = tried.iter().map(|(address, error)| {
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        format!("{address}: {}", cause.to_string().replace('\n', " "))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Why somebody was sent away.
fn refusal(error: &ListenError) -> &'static str {
    match error {
        ListenError::Denied { .. } => "no member, or too many at a time",
        _ => "no handshake",
    }
}

#[cfg(test)]
mod tests;
