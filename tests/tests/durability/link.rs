//! The host's link to a real enclave over a line that breaks all the time: nothing is lost, and nothing doubles.
//!
//! What fake enclaves do to the link is in `host/src/link/tests.rs`, what hosts do to an enclave in `serving.rs`.

use postern_enclave::coins::Coins;
use postern_enclave::core::Core;
use postern_enclave::keys::IdentityKeys;
use postern_enclave::shell::{Limits, Stream, serve_each};
use postern_host::link::{Enclave, EnclaveAddress};
use postern_host::store::{Place, Store};
use postern_shared::codec;
use postern_shared::ids::{MemberId, Nonce};
use postern_shared::message::PeerMessage;
use postern_shared::wire::{FrameDecoder, Output, Recipient, Reply, Request, Response};
use postern_simulation::{Machine, SoftwarePsp};
use postern_tests::cluster::{MEASUREMENT, manifest};
use postern_tests::wallets::{next, signed};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zeroize::Zeroizing;

const OWN: MemberId = MemberId(1);
const PEER: MemberId = MemberId(2);

/// The enclave's end of a connection that breaks.
struct BadLine {
    stream: UnixStream,
    /// So many answers get through whole, and so many bytes of the next; with none, its request does not either.
    answers: usize,
    rest: usize,
    /// Bytes that go at a time.
    piece: usize,
    tap: Tap,
}

impl BadLine {
    /// How many bytes get through now.
    fn most(&self) -> usize {
        if self.tap.heard < self.answers { self.piece } else { self.piece.min(self.rest) }
    }
}

impl Read for BadLine {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = if self.most() == 0 { 0 } else { out.len().min(self.piece) };
        self.stream.read(&mut out[..most])
    }
}

impl Write for BadLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = bytes.len().min(self.most());
        if most == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = self.stream.write(&bytes[..most])?;
        if self.tap.heard >= self.answers {
            self.rest -= count;
        }
        self.tap.listen(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for BadLine {
    fn set_read_timeout(&mut self, limit: Duration) -> io::Result<()> {
        Stream::set_read_timeout(&mut self.stream, limit)
    }

    fn set_write_timeout(&mut self, limit: Duration) -> io::Result<()> {
        Stream::set_write_timeout(&mut self.stream, limit)
    }
}

impl Drop for BadLine {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Everything that an enclave ever said, by number.
type Said = Arc<Mutex<BTreeMap<u64, Output>>>;

/// Listens to what gets through to the host.
struct Tap {
    frames: FrameDecoder,
    /// Answers, the hello included.
    heard: usize,
    said: Said,
}

impl Tap {
    fn listen(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
        while let Some(body) = self.frames.next_frame().unwrap() {
            self.heard += 1;
            if self.heard == 1 {
                continue;
            }
            let response: Response = codec::decode(&body).unwrap();
            for numbered in response.outputs {
                let earlier = self.said.lock().unwrap().insert(numbered.sequence, numbered.output.clone());
                assert!(earlier.is_none_or(|earlier| earlier == numbered.output), "a number means one thing");
            }
        }
    }
}

/// Member 1's enclave behind a socket, on lines that are bad until they are mended; and the request that starts it.
fn launch(socket: &Path, seed: u64, said: Said, mended: Arc<AtomicBool>) -> Request {
    let manifest = manifest(3, 2, 2);
    let host_data = manifest.hash().0;
    let machine = Machine { chip_seed: [1; 32], measurement: MEASUREMENT, host_data, ..Machine::default() };
    let certificates = SoftwarePsp::new(machine).certificates();
    let listener = UnixListener::bind(socket).unwrap();
    let start =
        Request::Start { manifest: manifest.to_canonical(), epochs: Vec::new(), member: OWN, certificates };
    let begin = start.clone();
    std::thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut core = Core::new(SoftwarePsp::new(machine));
        found(&mut core, begin);
        let accept = || {
            let (stream, _) = listener.accept()?;
            // The first request of the host's own is the fifth or seventh thing that is answered.
            let answers = if mended.load(Ordering::SeqCst) { usize::MAX } else { rng.usize(..14) };
            let (rest, piece) = (rng.usize(..4), 1 << rng.u8(..12));
            let tap = Tap { frames: FrameDecoder::default(), heard: 0, said: Arc::clone(&said) };
            Ok(BadLine { stream, answers, rest, piece, tap })
        };
        serve_each(&mut core, &Limits::default(), accept, |_| {});
    });
    start
}

fn keys_of(member: MemberId) -> IdentityKeys {
    IdentityKeys::derive(&Coins::new(Zeroizing::new([member.0 as u8; 32])), member, 0)
}

/// Starts the enclave, and names it and two others as the members'.
fn found(core: &mut Core<SoftwarePsp>, begin: Request) {
    assert_eq!(core.handle(begin).reply, Reply::Done);
    let Reply::Status(status) = core.handle(Request::Status).reply else { panic!("no status") };
    let first = manifest(3, 2, 2);
    let founding = next(&first, |next| {
        for member in &mut next.members {
            let others = *keys_of(member.id).identity();
            let own = status.identity.filter(|own| own.member == member.id);
            member.enclave = Some(own.unwrap_or(others).keys());
        }
    });
    let epoch = signed(&first, &founding, (1..=3).map(MemberId));
    assert_eq!(core.handle(Request::Amend(epoch)).reply, Reply::Done);
}

/// A question of member 2's enclave, every one with an answer of its own.
fn challenge(number: u64) -> Request {
    let keys = keys_of(PEER);
    let mut nonce = [0; 32];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    let challenge = keys.sign_challenge(manifest(3, 2, 2).hash(), OWN, Nonce(nonce));
    Request::Deliver(codec::encode(&PeerMessage::Challenge(challenge)))
}

/// What the store has for member 2 now, which is then delivered: were it stored again, it would be sent again.
fn deliver(store: &Store, delivered: &mut BTreeMap<Vec<u8>, usize>) {
    let due = store.due(PEER, i64::MAX, 10_000).unwrap();
    store.settle(&due.iter().map(|row| row.id).collect::<Vec<_>>(), &[]).unwrap();
    due.into_iter().for_each(|row| *delivered.entry(row.message).or_default() += 1);
}

#[tokio::test]
async fn on_a_line_that_always_breaks_nothing_is_lost_and_nothing_doubles() {
    for seed in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&Place::Directory(folder.path().join("data"))).unwrap());
        store.set_members(OWN, &[OWN, PEER]).unwrap();
        let (said, mended) = (Said::default(), Arc::<AtomicBool>::default());
        let socket = folder.path().join("enclave.sock");
        let start = launch(&socket, seed, Arc::clone(&said), Arc::clone(&mended));
        let enclave = Enclave::new(EnclaveAddress::Unix(socket), start, Arc::clone(&store));

        let (mut delivered, mut breaks) = (BTreeMap::new(), 0);
        for number in 0..84 {
            // One question is answered between two ticks.
            let requests = [challenge(number), Request::Tick];
            loop {
                let asked = enclave.ask_all(&requests).await;
                deliver(&store, &mut delivered);
                match asked {
                    Ok(replies) => {
                        assert!(replies.iter().all(|reply| *reply == Reply::Done), "{replies:?}");
                        break;
                    }
                    Err(error) => assert!(!error.is_lasting(), "seed {seed}: {error}"),
                }
                breaks += 1;
                assert!(breaks < 5_000, "seed {seed}: no progress");
            }
        }
        assert!(breaks > 20, "seed {seed}: the line broke only {breaks} times");
        mended.store(true, Ordering::SeqCst);
        let status = match enclave.status().await {
            Ok(status) => status,
            // That was the last of the bad ones.
            Err(_) => enclave.status().await.unwrap(),
        };
        deliver(&store, &mut delivered);

        let said = said.lock().unwrap();
        assert!(
            said.keys().copied().eq(1..=status.newest_output),
            "seed {seed}: the tap has missed something"
        );
        let mut sent: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for output in said.values() {
            if let Output::Send { to: Recipient::One(PEER), message } = output {
                *sent.entry(message.clone()).or_default() += 1;
            }
        }
        assert!(sent.len() > 80, "seed {seed}: only {} messages", sent.len());
        assert!(sent.keys().eq(delivered.keys()), "seed {seed}: lost or invented");
        // Fewer than the enclave said are right: what still waits is not stored a second time.
        assert!(delivered.iter().all(|(message, count)| *count <= sent[message]), "seed {seed}: doubled");
        println!(
            "seed {seed}: the line broke {breaks} times during {} outputs, {} messages",
            said.len(),
            sent.len()
        );
    }
}
