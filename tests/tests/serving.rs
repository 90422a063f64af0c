//! An enclave serves one host after the other; what a host does to its own connection, the next one does not notice.

use postern_enclave::core::Core;
use postern_enclave::shell::{ServeError, serve_each};
use postern_shared::codec;
use postern_shared::wire::{FrameDecoder, Hello, MAX_WRITE, Reply, Request, Response, encode_frame};
use postern_simulation::{Machine, SoftwarePsp};
use std::cell::RefCell;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::rc::Rc;

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

fn host(says: &[&[u8]]) -> Host {
    Host { says: Cursor::new(says.concat()), then: Ok(()), listens: true, heard: Rc::default() }
}

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
    let failed = serve_each(&mut core, accept, |error| {
        ends.push(match error {
            ServeError::Transport(error) => format!("{:?}", error.kind()),
            ServeError::Frame(_) => "frame".into(),
            ServeError::Hello(_) => "hello".into(),
            ServeError::Request(_) => "request".into(),
            ServeError::Truncated => "truncated".into(),
            other => panic!("{other}"),
        });
    });

    assert_eq!(failed.kind(), ErrorKind::OutOfMemory);
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
