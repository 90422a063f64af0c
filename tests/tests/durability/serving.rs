//! An enclave serves one host after the other; what a host does to its own connection, the next one does not notice.

use postern_enclave::core::Core;
use postern_enclave::shell::{Ended, Late, Limits, ServeError, Stream, serve, serve_each};
use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::wire::{
    FrameDecoder, Hello, MAX_WRITE, NumberedOutput, Rejection, Reply, Request, Response, encode_frame,
};
use postern_simulation::{Machine, SoftwarePsp};
use postern_tests::cluster::{MEASUREMENT, manifest};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A host that has said all that it will ever say.
struct Host {
    says: Cursor<Vec<u8>>,
    /// What it does when asked for more.
    then: Result<(), ErrorKind>,
    /// Whether it still takes answers.
    listens: bool,
    heard: Rc<RefCell<Vec<u8>>>,
}

impl Read for Host {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match (self.says.read(out)?, self.then) {
            (0, Err(kind)) => Err(kind.into()),
            (count, _) => Ok(count),
        }
    }
}

impl Write for Host {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        assert!(piece.len() <= MAX_WRITE, "vsock may lose a piece of {} bytes", piece.len());
        if !self.listens {
            return Err(ErrorKind::BrokenPipe.into());
        }
        self.heard.borrow_mut().extend(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Host {
    fn set_read_timeout(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

fn host(says: &[&[u8]]) -> Host {
    Host { says: Cursor::new(says.concat()), then: Ok(()), listens: true, heard: Rc::default() }
}

/// Of hosts that do not let anybody wait.
const PATIENT: Limits = {
    let day = Duration::from_secs(86_400);
    Limits { hello: day, request: day, frame: day, answer: day }
};

fn frame(body: &[u8]) -> Vec<u8> {
    encode_frame(body).expect("a short body")
}

#[test]
fn a_host_ends_only_its_own_connection() {
    let hello = frame(&Hello::OURS.encode());
    let status = frame(&codec::encode(&Request::Status));
    let good = || host(&[&hello, &status]);
    let last = good();
    let heard = Rc::clone(&last.heard);
    let aborted = || io::Error::from(ErrorKind::ConnectionAborted);

    let mut accepted = vec![
        Ok(host(&[])),
        Ok(host(&[&hello])),
        Ok(good()),
        Ok(host(&[&hello[..3]])),
        Ok(host(&[&[0xFF; 64]])),
        Ok(host(&[&frame(b"GET / HTTP/1.1")])),
        Ok(host(&[&hello, &frame(&[0xFF; 3])])),
        Ok(host(&[&hello, &status[..status.len() - 1]])),
        Ok(Host { then: Err(ErrorKind::ConnectionReset), ..good() }),
        Ok(Host { listens: false, ..good() }),
        Err(aborted()),
        Ok(last),
        Err(ErrorKind::OutOfMemory.into()),
        Ok(host(&[])),
    ]
    .into_iter();

    let mut core = Core::new(SoftwarePsp::new(Machine::default()).seeded([0; 32]));
    let mut ends = Vec::new();
    let accept = || accepted.next().expect("nothing is accepted after the listener has died");
    let failed = serve_each(&mut core, &PATIENT, accept, |error| {
        ends.push(match error {
            ServeError::Transport(error) => format!("{:?}", error.kind()),
            ServeError::Frame(_) => "frame".into(),
            ServeError::Hello(_) => "hello".into(),
            ServeError::Request(_) => "request".into(),
            ServeError::Truncated => "truncated".into(),
            other => panic!("{other}"),
        });
    });

    assert!(matches!(failed, Ended::Accept(error) if error.kind() == ErrorKind::OutOfMemory));
    assert_eq!(accepted.len(), 1);
    let expected = [
        "truncated",
        "frame",
        "hello",
        "request",
        "truncated",
        "ConnectionReset",
        "BrokenPipe",
        "ConnectionAborted",
    ];
    assert_eq!(ends, expected);

    // The last host heard what the first would have.
    let mut frames = FrameDecoder::default();
    frames.push(&heard.borrow());
    Hello::check(&frames.next_frame().unwrap().unwrap()).unwrap();
    let response: Response = codec::decode(&frames.next_frame().unwrap().unwrap()).unwrap();
    assert!(matches!(response.reply, Reply::Status(status) if status.identity.is_none()));
    assert!(frames.is_empty());
}

/// A host that takes its time, by a clock of its own: what it says next after so long, and so long for each piece that it
/// takes. When it has said all, it is silent.
struct SlowHost {
    says: VecDeque<(Duration, Vec<u8>)>,
    takes: Duration,
    /// Bytes that it takes at a time.
    piece: usize,
    clock: Rc<Cell<Instant>>,
    limits: (Option<Duration>, Option<Duration>),
    heard: Rc<RefCell<Vec<u8>>>,
}

const SECOND: Duration = Duration::from_secs(1);

impl SlowHost {
    fn new(says: impl IntoIterator<Item = (Duration, Vec<u8>)>) -> Self {
        Self {
            says: says.into_iter().collect(),
            takes: Duration::ZERO,
            piece: usize::MAX,
            clock: Rc::new(Cell::new(Instant::now())),
            limits: (None, None),
            heard: Rc::default(),
        }
    }

    /// Lets so much time pass, or as much as the other side waits.
    fn wait(&self, time: Duration, limit: Option<Duration>) -> io::Result<()> {
        let limit = limit.expect("the enclave waits, and has said for how long");
        self.clock.set(self.clock.get() + time.min(limit));
        if time < limit { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    /// How the connection ends, and when.
    fn serve(self, limits: &Limits) -> (Result<(), ServeError>, Duration) {
        let (clock, begun) = (Rc::clone(&self.clock), self.clock.get());
        let served = serve(&mut idle(), limits, self);
        (served, clock.get() - begun)
    }

    /// How late it is said to be, and when.
    fn late(self) -> (Late, Duration) {
        self.late_within(&Limits::default())
    }

    fn late_within(self, limits: &Limits) -> (Late, Duration) {
        match self.serve(limits) {
            (Err(ServeError::Late(late)), when) => (late, when),
            (other, when) => panic!("{other:?} after {when:?}"),
        }
    }
}

impl Read for SlowHost {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some((after, mut says)) = self.says.pop_front() else {
            self.wait(Duration::MAX, self.limits.0)?;
            unreachable!("it says nothing any more");
        };
        self.wait(after, self.limits.0)?;
        let rest = says.split_off(says.len().min(out.len()));
        if !rest.is_empty() {
            self.says.push_front((Duration::ZERO, rest));
        }
        out[..says.len()].copy_from_slice(&says);
        Ok(says.len())
    }
}

impl Write for SlowHost {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(self.takes, self.limits.1)?;
        let count = bytes.len().min(self.piece);
        self.heard.borrow_mut().extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for SlowHost {
    fn set_read_timeout(&mut self, limit: Duration) -> io::Result<()> {
        self.limits.0 = Some(limit);
        Ok(())
    }

    fn set_write_timeout(&mut self, limit: Duration) -> io::Result<()> {
        self.limits.1 = Some(limit);
        Ok(())
    }

    fn now(&self) -> Instant {
        self.clock.get()
    }
}

fn idle() -> Core<SoftwarePsp> {
    Core::new(SoftwarePsp::new(Machine::default()).seeded([0; 32]))
}

fn at_once(bytes: &[u8]) -> (Duration, Vec<u8>) {
    (Duration::ZERO, bytes.to_vec())
}

/// A byte a second.
fn dripping(bytes: &[u8]) -> impl Iterator<Item = (Duration, Vec<u8>)> {
    bytes.iter().map(|byte| (SECOND, vec![*byte]))
}

fn hello() -> Vec<u8> {
    frame(&Hello::OURS.encode())
}

fn asks(request: &Request) -> Vec<u8> {
    frame(&codec::encode(request))
}

#[test]
fn a_host_that_is_silent_is_dropped_and_the_next_one_is_served() {
    let limits = Limits::default();
    assert_eq!(SlowHost::new([]).late(), (Late::Hello, limits.hello));
    let half = SlowHost::new([(SECOND, hello()[..3].to_vec())]);
    assert_eq!(half.late(), (Late::Hello, limits.hello));
    assert_eq!(SlowHost::new([(SECOND, hello())]).late(), (Late::Request, SECOND + limits.request));
    let status = asks(&Request::Status);
    let half = SlowHost::new([at_once(&hello()), at_once(&status), (SECOND, status[..3].to_vec())]);
    assert_eq!(half.late(), (Late::Frame, SECOND + limits.frame));

    let last = SlowHost::new([at_once(&hello()), at_once(&status)]);
    let heard = Rc::clone(&last.heard);
    let mut accepted = [SlowHost::new([]), SlowHost::new([at_once(&hello())]), last].into_iter();
    let accept = || accepted.next().ok_or_else(|| ErrorKind::OutOfMemory.into());
    let mut ends = Vec::new();
    serve_each(&mut idle(), &limits, accept, |error| ends.push(error.to_string()));
    let late = |what| format!("the host did not {what} in time");
    assert_eq!(ends, [late("say hello"), late("ask anything"), late("ask anything")]);
    assert_eq!(answers(&heard).len(), 1);
}

/// What came after the hello.
fn answers(heard: &RefCell<Vec<u8>>) -> Vec<Response> {
    let mut frames = FrameDecoder::default();
    frames.push(&heard.borrow());
    Hello::check(&frames.next_frame().unwrap().unwrap()).unwrap();
    let mut answers = Vec::new();
    while let Some(body) = frames.next_frame().unwrap() {
        answers.push(codec::decode(&body).unwrap());
    }
    assert!(frames.is_empty());
    answers
}

/// The machine says so at the first request that needs it; what the host asked is answered, and nobody is served after it.
#[test]
fn a_machine_without_its_secure_processor_is_ended_and_a_refusal_ends_nothing() {
    let (hello, report) = (frame(&Hello::OURS.encode()), frame(&codec::encode(&Request::Report)));
    let served = |psp: SoftwarePsp| {
        let hosts = [host(&[&hello, &report, &report]), host(&[&hello, &report])];
        let heard = hosts.each_ref().map(|host| Rc::clone(&host.heard));
        let mut accepted = hosts.into_iter().map(Ok).chain([Err(ErrorKind::OutOfMemory.into())]);
        let ended = serve_each(&mut Core::new(psp), &PATIENT, || accepted.next().unwrap(), |_| {});
        (ended, heard.map(|heard| if heard.borrow().is_empty() { None } else { Some(answers(&heard).len()) }))
    };
    let psp = || SoftwarePsp::new(Machine::default()).seeded([0; 32]);
    let mut lost = psp();
    lost.lose();
    let (ended, heard) = served(lost);
    assert!(matches!(ended, Ended::Lost), "{ended}");
    assert_eq!(heard, [Some(1), None]);

    let mut refusing = psp();
    refusing.refuse_reports(Some(0x16));
    let (ended, heard) = served(refusing);
    assert!(matches!(ended, Ended::Accept(_)), "{ended}");
    assert_eq!(heard, [Some(2), Some(1)]);
}

#[test]
fn bytes_that_drip_in_do_not_move_a_deadline() {
    let limits = Limits::default();
    // There would be enough of them to go on for an hour, and each comes long before any deadline that began with it.
    let long = asks(&Request::Deliver(vec![0; 3600]));
    assert_eq!(SlowHost::new(dripping(&long)).late(), (Late::Hello, limits.hello));
    let host = SlowHost::new([at_once(&hello())].into_iter().chain(dripping(&long)));
    assert_eq!(host.late(), (Late::Frame, SECOND + limits.frame));
    // Nor if it begins in the same piece in which the last request ends.
    let both = [asks(&Request::Status), long[..1].to_vec()].concat();
    let host = SlowHost::new([at_once(&hello()), at_once(&both)].into_iter().chain(dripping(&long[1..])));
    assert_eq!(host.late(), (Late::Frame, limits.frame));
}

#[test]
fn a_host_that_does_not_take_its_answer_is_dropped() {
    let limits = Limits::default();
    let asks = || [at_once(&hello()), at_once(&asks(&Request::Status))];
    let host = SlowHost { takes: SECOND, ..SlowHost::new(asks()) };
    assert_eq!(
        host.late(),
        (Late::Request, 2 * SECOND + limits.request),
        "a slow one may be idle for as long"
    );
    let host = SlowHost { takes: limits.hello, ..SlowHost::new(asks()) };
    assert_eq!(host.late(), (Late::Hello, limits.hello));
    // Byte by byte, each in time.
    let host = SlowHost { takes: SECOND, piece: 1, ..SlowHost::new(asks()) };
    let (hello_takes, heard) = (SECOND * u32::try_from(hello().len()).unwrap(), Rc::clone(&host.heard));
    let limits = Limits { hello: hello_takes + SECOND, ..limits };
    assert_eq!(host.late_within(&limits), (Late::Answer, hello_takes + limits.answer));
    assert!(heard.borrow().len() > hello().len());

    // Over a socket, whose buffer is full at some time.
    let (mut host, enclave) = UnixStream::pair().unwrap();
    let asking = std::thread::spawn(move || {
        host.write_all(&hello()).unwrap();
        let status = frame(&codec::encode(&Request::Status));
        while host.write_all(&status).is_ok() {}
        host
    });
    let limits = Limits { answer: Duration::from_millis(20), ..PATIENT };
    let ended = serve(&mut idle(), &limits, enclave);
    assert!(matches!(ended, Err(ServeError::Late(Late::Answer))), "{ended:?}");
    asking.join().unwrap();
}

#[test]
fn a_silent_socket_is_dropped() {
    let (_host, enclave) = UnixStream::pair().unwrap();
    let limits = Limits { hello: Duration::from_millis(1), ..PATIENT };
    let ended = serve(&mut idle(), &limits, enclave);
    assert!(matches!(ended, Err(ServeError::Late(Late::Hello))), "{ended:?}");
}

#[test]
fn a_host_that_is_slow_within_its_limits_is_served_as_long_as_it_likes() {
    let limits = Limits::default();
    let (idle, status) = (limits.request - SECOND, asks(&Request::Status));
    let says = (0..1000).flat_map(|_| {
        // A frame in two pieces, the second of which comes late, with the next request whole behind it.
        let rest = [&status[4..], &status].concat();
        [(idle, status[..4].to_vec()), (limits.frame - SECOND, rest)]
    });
    let closed = [at_once(&[])];
    let hello = [(limits.hello - SECOND, hello())];
    let host = SlowHost::new(hello.into_iter().chain(says).chain(closed));
    let heard = Rc::clone(&host.heard);
    assert!(matches!(host.serve(&limits), (Ok(()), _)));
    assert_eq!(answers(&heard).len(), 2000);
}

/// An enclave that has said something, and what that was; nobody has acknowledged it.
fn talkative() -> (Core<SoftwarePsp>, Vec<NumberedOutput>) {
    let manifest = manifest(3, 2, 2);
    let host_data = manifest.hash().0;
    let machine = Machine { chip_seed: [1; 32], measurement: MEASUREMENT, host_data, ..Machine::default() };
    let psp = SoftwarePsp::new(machine).seeded([1; 32]);
    let certificates = psp.certificates();
    let mut core = Core::new(psp);
    let (manifest, epochs, member) = (manifest.to_canonical(), Vec::new(), MemberId(1));
    let response = core.handle(Request::Start { manifest, epochs, member, certificates });
    assert_eq!(response.reply, Reply::Done);
    assert!(response.outputs.len() > 1 && !response.more);
    (core, response.outputs)
}

/// What one host asks, in one connection, and is answered.
fn connect(core: &mut Core<SoftwarePsp>, requests: &[Request]) -> Vec<Response> {
    let says: Vec<Vec<u8>> = std::iter::once(hello()).chain(requests.iter().map(asks)).collect();
    let host = host(&says.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let heard = Rc::clone(&host.heard);
    serve(core, &PATIENT, host).unwrap();
    answers(&heard)
}

#[test]
fn what_was_not_handed_out_can_not_be_acknowledged() {
    let (mut core, said) = talkative();
    let last = said.last().unwrap().sequence;
    for beyond in [last + 1, u64::MAX] {
        let refused = core.handle(Request::Acknowledge(beyond));
        assert_eq!(refused.reply, Reply::Rejected(Rejection::NotHandedOut), "{beyond}");
        assert_eq!(core.handle(Request::Resume).outputs, said, "nothing was dropped");
    }
    assert_eq!(core.handle(Request::Acknowledge(last)).reply, Reply::Done);
    assert!(core.handle(Request::Resume).outputs.is_empty());
    // Nor again what is no longer there.
    assert_eq!(core.handle(Request::Acknowledge(last)).reply, Reply::Done);
    assert_eq!(core.handle(Request::Acknowledge(u64::MAX)).reply, Reply::Rejected(Rejection::NotHandedOut));
}

#[test]
fn what_another_host_was_handed_can_not_be_acknowledged() {
    let (mut core, said) = talkative();
    let last = said.last().unwrap().sequence;
    for number in [1, last] {
        // The refusal brings what was said, as any answer does: from then on it can.
        let answered = connect(&mut core, &[Request::Acknowledge(number)]);
        assert_eq!(answered[0].reply, Reply::Rejected(Rejection::NotHandedOut), "{number}");
        assert_eq!(answered[0].outputs, said, "{number}");
    }
    let answered = connect(&mut core, &[Request::Status, Request::Acknowledge(last), Request::Resume]);
    assert_eq!(answered[0].outputs, said, "a new host has been handed nothing yet");
    assert_eq!(answered[1].reply, Reply::Done);
    assert!(answered[2].outputs.is_empty());
}
