//! Against a fake enclave that says, on each connection, what the test tells it to.

use super::*;
use crate::store::{Place, Store};
use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::identity::{AgreementKey, Identity, SigningKey};
use postern_shared::ids::{Address, ManifestHash, Measurement, MemberId};
use postern_shared::message::Certificates;
use postern_shared::record::{LogHead, LogId, RECORD_VERSION, RecordHeader, Salt, SealedRecord, SlotHeader};
use postern_shared::snp::RawTcb;
use postern_shared::wire::{
    FrameDecoder, Hello, MAX_FRAME, PROTOCOL_VERSION, Recipient, Record, Rejection, encode_frame,
};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The enclave's end of one connection.
struct Wire {
    stream: UnixStream,
    frames: FrameDecoder,
}

impl Wire {
    async fn accept(listener: &UnixListener) -> Self {
        Self { stream: listener.accept().await.unwrap().0, frames: FrameDecoder::default() }
    }

    /// Accepts and says hello.
    async fn greet(listener: &UnixListener) -> Self {
        let mut wire = Self::accept(listener).await;
        Hello::check(&wire.read().await).unwrap();
        wire.write(&Hello::OURS.encode()).await;
        wire
    }

    /// Plays a started enclave up to the first request of the host's own, repeating these outputs once.
    async fn begin(listener: &UnixListener, key: u8, repeated: Vec<NumberedOutput>) -> Self {
        let mut wire = Self::greet(listener).await;
        for asked in [Request::Status, start(), Request::Status] {
            assert_eq!(wire.next().await, asked);
            let about = asked == Request::Status;
            wire.reply(if about { Reply::Status(status(key)) } else { Reply::Done }, vec![]).await;
        }
        assert_eq!(wire.next().await, Request::Resume);
        if let Some(last) = repeated.last().map(|output| output.sequence) {
            wire.reply(Reply::Done, repeated).await;
            assert_eq!(wire.next().await, Request::Acknowledge(last));
            wire.reply(Reply::Done, vec![]).await;
            assert_eq!(wire.next().await, Request::Resume);
        }
        wire.reply(Reply::Done, vec![]).await;
        wire
    }

    async fn read(&mut self) -> Vec<u8> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(body) = self.frames.next_frame().unwrap() {
                return body;
            }
            let count = self.stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "the host closed the connection");
            self.frames.push(&buffer[..count]);
        }
    }

    async fn next(&mut self) -> Request {
        codec::decode(&self.read().await).unwrap()
    }

    async fn write(&mut self, body: &[u8]) {
        self.stream.write_all(&encode_frame(body).unwrap()).await.unwrap();
    }

    async fn reply(&mut self, reply: Reply, outputs: Vec<NumberedOutput>) {
        self.write(&codec::encode(&Response { reply, outputs, more: false })).await;
    }
}

fn start() -> Request {
    let certificates = Certificates { ark: vec![1], ask: vec![2], leaf: vec![3], crl: None };
    Request::Start { manifest: vec![9], epochs: Vec::new(), member: MemberId(1), certificates }
}

fn status(key: u8) -> Box<Status> {
    let identity = Identity {
        member: MemberId(1),
        machine: 0,
        signing: SigningKey([key; 32]),
        agreement: AgreementKey([0; 32]),
        dealing: PublicKey([0; 48]),
        signer: Address([0; 20]),
    };
    Box::new(Status {
        identity: Some(identity),
        manifest: None,
        epoch: 0,
        admitted: vec![MemberId(1)],
        refused: vec![],
        newest_output: 0,
        standing: Standing::Acting,
        incarnation: 0,
        head: LogHead::START,
        waiting: None,
        undecided: Vec::new(),
    })
}

fn send(sequence: u64) -> NumberedOutput {
    let to = Recipient::One(MemberId(2));
    NumberedOutput { sequence, output: Output::Send { to, message: sequence.to_le_bytes().to_vec() } }
}

struct Bench {
    enclave: Arc<Enclave>,
    store: Arc<Store>,
    listener: UnixListener,
    _directory: TempDir,
}

fn bench_at(address: impl FnOnce(PathBuf) -> EnclaveAddress) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("enclave.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let store = Arc::new(Store::open(&Place::Directory(directory.path().to_owned())).unwrap());
    store.set_members(MemberId(1), &[1, 2].map(MemberId)).unwrap();
    let enclave = Arc::new(Enclave::new(address(socket), start(), Arc::clone(&store)));
    Bench { enclave, store, listener, _directory: directory }
}

fn bench() -> Bench {
    bench_at(EnclaveAddress::Unix)
}

impl Bench {
    /// What waits for member 2, as the numbers that `send` wrote.
    fn waiting(&self) -> Vec<u64> {
        let rows = self.store.due(MemberId(2), i64::MAX, 100).unwrap();
        rows.into_iter().map(|row| u64::from_le_bytes(row.message.try_into().unwrap())).collect()
    }

    /// Stores what an enclave has brought.
    fn keep(&self, records: &[Record]) {
        let numbered = |(sequence, record): (u64, &Record)| NumberedOutput {
            sequence,
            output: Output::Store(record.clone()),
        };
        let outputs: Vec<_> = (1..).zip(records).map(numbered).collect();
        let incarnation = Incarnation { signing: SigningKey([7; 32]), number: 0 };
        self.store.keep_outputs(&incarnation, &outputs).unwrap();
    }

    fn ask(&self, request: Request) -> tokio::task::JoinHandle<Result<Reply, EnclaveError>> {
        let enclave = Arc::clone(&self.enclave);
        tokio::spawn(async move { enclave.ask(&request).await })
    }
}

#[tokio::test]
async fn outputs_are_stored_before_they_are_acknowledged() {
    let bench = bench();
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.reply(Reply::Done, vec![send(1), send(2)]).await;
    assert_eq!(wire.next().await, Request::Acknowledge(2));
    assert_eq!(bench.waiting(), [1, 2], "stored when the acknowledgement comes");
    wire.reply(Reply::Done, vec![]).await;
    assert_eq!(asked.await.unwrap().unwrap(), Reply::Done);
}

#[tokio::test]
async fn a_connection_lost_half_way_is_made_anew_and_resumed() {
    let bench = bench();
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![send(1)]).await;
    assert_eq!(wire.next().await, Request::Tick);
    // The answer never arrives whole: what it caused must come again.
    let answer = codec::encode(&Response { reply: Reply::Done, outputs: vec![send(2)], more: false });
    wire.stream.write_all(&encode_frame(&answer).unwrap()[..7]).await.unwrap();
    drop(wire);
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, EnclaveError::Link { source: LinkError::Closed, .. }), "{error}");
    assert_eq!(bench.waiting(), [1]);

    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![send(1), send(2)]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.reply(Reply::Done, vec![]).await;
    asked.await.unwrap().unwrap();
    assert_eq!(bench.waiting(), [1, 2], "the repeated output counts once");
    assert_eq!(*bench.enclave.connections().borrow(), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_request() {
    let bench = bench();
    for connection in 1..=3 {
        let mut asked = bench.ask(Request::Tick);
        let mut wire = tokio::select! {
            wire = Wire::begin(&bench.listener, 7, vec![]) => wire,
            ended = &mut asked => panic!("connection {connection}: {ended:?}"),
        };
        assert_eq!(wire.next().await, Request::Tick);
        wire.reply(Reply::Done, vec![]).await;
        assert_eq!(asked.await.unwrap().unwrap(), Reply::Done, "connection {connection}");
        drop(wire);
        // Lets the runtime look at its sockets.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(*bench.enclave.connections().borrow(), 3);
}

#[tokio::test]
async fn a_refused_acknowledgement_is_no_success() {
    let bench = bench();
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.reply(Reply::Done, vec![send(1)]).await;
    assert_eq!(wire.next().await, Request::Acknowledge(1));
    wire.reply(Reply::Rejected(Rejection::NotHandedOut), vec![]).await;
    assert!(matches!(asked.await.unwrap(), Err(EnclaveError::Protocol(_))));
}

#[tokio::test]
async fn an_enclave_that_started_anew_counts_from_one_again() {
    let bench = bench();
    let asked = bench.ask(Request::Status);
    let mut wire = Wire::begin(&bench.listener, 7, vec![send(1), send(2)]).await;
    assert_eq!(wire.next().await, Request::Status);
    drop(wire);
    asked.await.unwrap().unwrap_err();
    bench
        .store
        .settle(
            &bench.store.due(MemberId(2), 0, 9).unwrap().iter().map(|row| row.id).collect::<Vec<_>>(),
            &[],
        )
        .unwrap();

    let asked = bench.ask(Request::Status);
    let mut wire = Wire::begin(&bench.listener, 8, vec![send(1)]).await;
    assert_eq!(wire.next().await, Request::Status);
    wire.reply(Reply::Status(status(8)), vec![]).await;
    asked.await.unwrap().unwrap();
    assert_eq!(bench.waiting(), [1]);
}

#[tokio::test]
async fn another_version_is_refused_with_both_numbers() {
    let bench = bench();
    let asked = bench.ask(Request::Status);
    let mut wire = Wire::accept(&bench.listener).await;
    wire.write(&Hello { version: 77 }.encode()).await;
    let error = asked.await.unwrap().unwrap_err();
    let expected = format!("this side speaks protocol version {PROTOCOL_VERSION}, the other side version 77");
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert!(error.is_lasting());
}

#[tokio::test]
async fn a_stranger_at_the_socket_is_told_from_an_enclave() {
    let bench = bench();
    let asked = bench.ask(Request::Status);
    let mut wire = Wire::accept(&bench.listener).await;
    wire.write(b"SSH-2.0").await;
    let error = asked.await.unwrap().unwrap_err();
    assert!(error.to_string().ends_with("the other side does not speak Postern's protocol"), "{error}");
}

#[tokio::test]
async fn an_oversized_frame_is_refused_from_its_length() {
    let bench = bench();
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![]).await;
    assert_eq!(wire.next().await, Request::Tick);
    let length = u32::try_from(MAX_FRAME + 1).unwrap().to_le_bytes();
    wire.stream.write_all(&length).await.unwrap();
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, EnclaveError::Link { source: LinkError::Frame(_), .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_does_not_decode_costs_the_connection() {
    let bench = bench();
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.write(&[0xff; 20]).await;
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, EnclaveError::Link { source: LinkError::Decode(_), .. }), "{error}");
    // The next request comes over a new connection.
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.reply(Reply::Done, vec![]).await;
    asked.await.unwrap().unwrap();
}

#[tokio::test]
async fn gaps_between_outputs_are_not_acknowledged() {
    let bench = bench();
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![send(1)]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.reply(Reply::Done, vec![send(3)]).await;
    assert!(matches!(asked.await.unwrap(), Err(EnclaveError::Protocol(_))));
    assert_eq!(bench.waiting(), [1]);
    assert!(check_numbers(None, &[send(5), send(6)]).is_ok());
    assert!(check_numbers(Some(5), &[send(5), send(6)]).is_ok());
    assert!(check_numbers(Some(u64::MAX), &[send(u64::MAX), send(0)]).is_err());
}

#[tokio::test]
async fn a_refused_start_is_lasting() {
    let bench = bench();
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::greet(&bench.listener).await;
    assert_eq!(wire.next().await, Request::Status);
    wire.reply(Reply::Status(Box::new(Status { standing: Standing::Idle, ..*status(7) })), vec![]).await;
    assert_eq!(wire.next().await, start());
    wire.reply(Reply::Rejected(Rejection::StartedOtherwise), vec![]).await;
    let error = asked.await.unwrap().unwrap_err();
    let expected =
        "the enclave refuses to start: the enclave was started already, with another manifest or member";
    assert_eq!(error.to_string(), expected);
    assert!(error.is_lasting());
}

#[tokio::test]
async fn a_user_space_vsock_device_is_told_the_port() {
    let bench = bench_at(|path| EnclaveAddress::UnixConnect { path, port: 5_000 });
    for (answer, accepted) in [("OK 1073741824\n", true), ("ERR no such port\n", false)] {
        let asked = bench.ask(Request::Status);
        let mut wire = Wire::accept(&bench.listener).await;
        let mut line = [0; 13];
        wire.stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"CONNECT 5000\n");
        wire.stream.write_all(answer.as_bytes()).await.unwrap();
        if accepted {
            Hello::check(&wire.read().await).unwrap();
            drop(wire);
            asked.await.unwrap().unwrap_err();
        } else {
            let error = asked.await.unwrap().unwrap_err().to_string();
            assert!(error.ends_with("the vsock device answered `ERR no such port` instead of OK"), "{error}");
        }
    }
}

#[tokio::test]
async fn what_several_requests_cause_is_acknowledged_once_and_stored_first() {
    let bench = bench();
    let enclave = Arc::clone(&bench.enclave);
    let asked = tokio::spawn(async move {
        enclave.ask_all(&[Request::Deliver(vec![1]), Request::Deliver(vec![2]), Request::Tick]).await
    });
    let mut wire = Wire::begin(&bench.listener, 7, vec![]).await;
    assert_eq!(wire.next().await, Request::Deliver(vec![1]));
    wire.reply(Reply::Done, vec![send(1)]).await;
    assert_eq!(wire.next().await, Request::Deliver(vec![2]));
    wire.reply(Reply::Rejected(Rejection::TooEarly), vec![]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.reply(Reply::Done, vec![send(2)]).await;
    assert_eq!(wire.next().await, Request::Acknowledge(2));
    assert_eq!(bench.waiting(), [1, 2]);
    assert!(!asked.is_finished(), "no reply before what it caused is stored and acknowledged");
    wire.reply(Reply::Done, vec![]).await;
    let replies = [Reply::Done, Reply::Rejected(Rejection::TooEarly), Reply::Done];
    assert_eq!(asked.await.unwrap().unwrap(), replies);
}

#[tokio::test]
async fn a_connection_lost_between_requests_answers_none_of_them() {
    let bench = bench();
    let enclave = Arc::clone(&bench.enclave);
    let asked = tokio::spawn(async move { enclave.ask_all(&[Request::Tick, Request::Tick]).await });
    let mut wire = Wire::begin(&bench.listener, 7, vec![]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.reply(Reply::Done, vec![send(1)]).await;
    assert_eq!(wire.next().await, Request::Tick);
    drop(wire);
    assert!(matches!(asked.await.unwrap(), Err(EnclaveError::Link { .. })));
    assert!(bench.waiting().is_empty());
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::begin(&bench.listener, 7, vec![send(1)]).await;
    assert_eq!(wire.next().await, Request::Tick);
    wire.reply(Reply::Done, vec![]).await;
    asked.await.unwrap().unwrap();
    assert_eq!(bench.waiting(), [1]);
}

#[tokio::test]
async fn an_enclave_that_waits_for_an_epoch_is_not_restored() {
    for standing in [Standing::Candidate, Standing::AwaitingCut] {
        let bench = bench();
        bench.store.begin_incarnation(&Incarnation { signing: SigningKey([7; 32]), number: 0 }).unwrap();
        bench.keep(&[Record::Slot(Box::new(slot()))]);
        let asked = bench.ask(Request::Tick);
        let mut wire = Wire::greet(&bench.listener).await;
        assert_eq!(wire.next().await, Request::Status);
        wire.reply(Reply::Status(Box::new(Status { standing, ..*status(7) })), vec![]).await;
        assert_eq!(wire.next().await, start());
        drop(wire);
        asked.await.unwrap().unwrap_err();
    }
}

/// As it is found after a successor has failed in the middle of its first snapshot.
#[tokio::test]
async fn what_a_successor_has_begun_is_not_given_to_the_enclave() {
    let bench = bench();
    bench.store.begin_incarnation(&Incarnation { signing: SigningKey([7; 32]), number: 0 }).unwrap();
    let one = record(LOG, LogHead::START, RecordKind::Vault);
    let two = record(LOG, one.head(), RecordKind::Change);
    let three = record(LogId([3; 32]), two.head(), RecordKind::Part);
    let sealed = |one: &SealedRecord| Record::Sealed(Box::new(one.clone()));
    bench.keep(&[Record::Slot(Box::new(slot())), sealed(&one), sealed(&two), sealed(&three)]);
    let asked = bench.ask(Request::Tick);
    let mut wire = Wire::greet(&bench.listener).await;
    assert_eq!(wire.next().await, Request::Status);
    wire.reply(Reply::Status(Box::new(Status { standing: Standing::Idle, ..*status(7) })), vec![]).await;
    let Request::Restore { slot: given, .. } = wire.next().await else { panic!("not restored") };
    assert_eq!(*given, slot());
    wire.reply(Reply::Done, vec![]).await;
    assert_eq!(wire.next().await, Request::Records(vec![one, two]));
    wire.reply(Reply::Done, vec![]).await;
    assert_eq!(wire.next().await, Request::Restored);
    drop(wire);
    asked.await.unwrap().unwrap_err();
}

const LOG: LogId = LogId([2; 32]);

fn slot() -> KeySlot {
    let header = SlotHeader {
        version: RECORD_VERSION,
        dao: ManifestHash([1; 32]),
        member: MemberId(1),
        log: LOG,
        measurement: Measurement([3; 48]),
        policy: 0,
        tcb: RawTcb([0; 8]),
        salt: Salt([4; 32]),
    };
    KeySlot { header, ciphertext: vec![5; 48] }
}

fn record(log: LogId, previous: LogHead, kind: RecordKind) -> SealedRecord {
    let header = RecordHeader {
        version: RECORD_VERSION,
        dao: ManifestHash([1; 32]),
        member: MemberId(1),
        log,
        number: previous.number + 1,
        previous: previous.digest,
        kind,
        salt: Salt([6; 32]),
    };
    SealedRecord { header, ciphertext: vec![7; 40] }
}
