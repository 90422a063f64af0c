use super::*;
use postern_shared::ids::CeremonyId;
use postern_shared::message::Step;

/// A manifest whose first host keys are those of `keys`; nothing else of it matters here.
fn manifest(keys: &[&Keypair]) -> Manifest {
    let others = [(); 3].map(|()| Keypair::generate_ed25519());
    let keys = keys.iter().copied().chain(&others).take(3);
    let toml = keys.enumerate().fold(
        "version = 6\nname = \"test\"\nepoch = 0\nleader = 1\n[network]\nchain_id = 1\n\
         genesis_fork_version = \"0x00000000\"\ncapella_fork_version = \"0x03000000\"\n\
         genesis_validators_root = \"0x0000000000000000000000000000000000000000000000000000000000000000\"\n\
         [contracts]\npool_manager = \"0x0101010101010101010101010101010101010101\"\n\
         pool_code = \"0xc0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0\"\n\
         start_block = 0\ndeposit = \"0x0202020202020202020202020202020202020202\"\n[thresholds]\noperator = 2\nguardian = 2\nproof = 2\n\
         [agreement]\nquorum = 2\n[attestation]\ntrust = \"amd\"\nmeasurements = [{ name = \"test\", digest = \"0x"
            .to_owned()
            + &"11".repeat(48)
            + "\" }]\n",
        |text, (index, key)| {
            let id = index + 1;
            let public = key.public().try_into_ed25519().unwrap().to_bytes();
            format!(
                "{text}[[members]]\nid = {id}\nname = \"{id}\"\nwallet = \"0x{id:040x}\"\n\
                 governance = \"0x11{id:038x}\"\nhost_key = \"0x{}\"\nchip_ids = [\"0x{id:0128x}\"]\n",
                hex::encode(public),
            )
        },
    );
    Manifest::from_toml(&toml).unwrap()
}

fn free_address() -> Multiaddr {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

#[tokio::test]
async fn members_answer_each_other_and_strangers_get_nothing() {
    let (one, two, stranger) =
        (Keypair::generate_ed25519(), Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let (first, second) = (free_address(), free_address());
    let (_one, mut questions) = Network::start(&manifest, one, first.clone(), BTreeMap::new()).await.unwrap();
    let addresses = BTreeMap::from([(MemberId(1), first)]);
    let (two, _questions) = Network::start(&manifest, two, second, addresses.clone()).await.unwrap();

    let question =
        Question::FetchRecords { ceremony: CeremonyId([1; 32]), step: Step::Deal, speaker: MemberId(2) };
    let answering = tokio::spawn(async move {
        let incoming = questions.recv().await.unwrap();
        assert_eq!(incoming.from, MemberId(2));
        incoming.answer.send(Answer::Records(Vec::new())).unwrap();
        questions
    });
    assert_eq!(two.ask(MemberId(1), question.clone()).await, Ok(Answer::Records(Vec::new())));
    let mut questions = answering.await.unwrap();
    assert_eq!(two.ask(MemberId(7), question.clone()).await, Err(AskError::NoAddress(MemberId(7))));

    let (outsider, _none) = Network::start(&manifest, stranger, free_address(), addresses).await.unwrap();
    let answer = outsider.ask(MemberId(1), question).await;
    assert!(matches!(answer, Err(AskError::Failed(_))), "{answer:?}");
    assert!(questions.try_recv().is_err(), "a stranger's question is not even seen");
}

#[tokio::test]
async fn a_member_that_floods_takes_nothing_from_the_others() {
    let (one, two, three) =
        (Keypair::generate_ed25519(), Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two, &three]);
    let first = free_address();
    let (_one, mut questions) = Network::start(&manifest, one, first.clone(), BTreeMap::new()).await.unwrap();
    let addresses = BTreeMap::from([(MemberId(1), first)]);
    let (two, _two) = Network::start(&manifest, two, free_address(), addresses.clone()).await.unwrap();
    let (three, _three) = Network::start(&manifest, three, free_address(), addresses).await.unwrap();
    for _ in 0..3 * MAX_OPEN_QUESTIONS {
        let two = two.clone();
        tokio::spawn(async move { two.ask(MemberId(1), Question::Deliver(vec![2])).await });
    }
    // As many as may wait, and none of them is answered.
    let mut flood = Vec::new();
    while flood.len() < MAX_OPEN_QUESTIONS {
        flood.push(questions.recv().await.unwrap());
    }
    let asked = tokio::spawn(async move { three.ask(MemberId(1), Question::Deliver(vec![3])).await });
    let other = questions.recv().await.unwrap();
    assert_eq!(other.from, MemberId(3), "more than {MAX_OPEN_QUESTIONS} questions of one member wait");
    other.answer.send(Answer::Accepted).unwrap();
    assert_eq!(asked.await.unwrap(), Ok(Answer::Accepted));
}

#[tokio::test]
async fn a_connected_member_can_be_asked_without_its_address() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let first = free_address();
    let (one, mut of_one) = Network::start(&manifest, one, first.clone(), BTreeMap::new()).await.unwrap();
    let addresses = BTreeMap::from([(MemberId(1), first)]);
    let (two, mut of_two) = Network::start(&manifest, two, free_address(), addresses).await.unwrap();
    let unknown = one.ask(MemberId(2), Question::Deliver(Vec::new())).await;
    assert_eq!(unknown, Err(AskError::NoAddress(MemberId(2))));
    tokio::spawn(async move {
        loop {
            let incoming = tokio::select! {
                Some(incoming) = of_one.recv() => incoming,
                Some(incoming) = of_two.recv() => incoming,
            };
            let _ = incoming.answer.send(Answer::Accepted);
        }
    });
    assert_eq!(two.ask(MemberId(1), Question::Deliver(Vec::new())).await, Ok(Answer::Accepted));
    assert_eq!(one.ask(MemberId(2), Question::Deliver(Vec::new())).await, Ok(Answer::Accepted));
}

#[tokio::test]
async fn a_member_is_found_by_its_name() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let first = free_address();
    let named: Multiaddr = first.to_string().replace("/ip4/127.0.0.1", "/dns4/localhost").parse().unwrap();
    let (_one, mut questions) = Network::start(&manifest, one, first, BTreeMap::new()).await.unwrap();
    let addresses = BTreeMap::from([(MemberId(1), named)]);
    let (two, _two) = Network::start(&manifest, two, free_address(), addresses).await.unwrap();
    tokio::spawn(async move { questions.recv().await.unwrap().answer.send(Answer::Accepted).unwrap() });
    assert_eq!(two.ask(MemberId(1), Question::Deliver(Vec::new())).await, Ok(Answer::Accepted));
}

#[tokio::test]
async fn why_a_member_is_not_reached_is_said() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let nobody = free_address();
    let addresses = BTreeMap::from([(MemberId(2), nobody.clone())]);
    let (one, _one) = Network::start(&manifest, one, free_address(), addresses).await.unwrap();
    let answer = one.ask(MemberId(2), Question::Deliver(Vec::new())).await;
    assert!(matches!(answer, Err(AskError::Failed(_))), "{answer:?}");
    let later = Instant::now() + Duration::from_secs(60);
    let lost = one.reach.lost(later);
    let reason = lost.get(&MemberId(2)).cloned().unwrap_or_default();
    assert!(reason.contains(&nobody.to_string()) && reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn connections_that_say_nothing_are_few_and_keep_nobody_out() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let (first, second) = (free_address(), free_address());
    let known = BTreeMap::from([(MemberId(2), second.clone())]);
    let (_one, mut questions) = Network::start(&manifest, one, first.clone(), known).await.unwrap();
    let port = first.to_string().rsplit('/').next().unwrap().parse().unwrap();
    let mut idle = Vec::new();
    for host in 2..202 {
        // Each from an address of its own.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((std::net::Ipv4Addr::new(127, 0, 1, host), 0).into()).unwrap();
        idle.push(socket.connect((std::net::Ipv4Addr::LOCALHOST, port).into()).await.unwrap());
    }
    let addresses = BTreeMap::from([(MemberId(1), first)]);
    let (two, _two) = Network::start(&manifest, two, second, addresses).await.unwrap();
    let answering =
        tokio::spawn(async move { questions.recv().await.unwrap().answer.send(Answer::Accepted).unwrap() });
    assert_eq!(two.ask(MemberId(1), Question::Deliver(Vec::new())).await, Ok(Answer::Accepted));
    answering.await.unwrap();
    // Those that are held say what the handshake begins with, or nothing; the others are closed.
    let mut held = 0;
    for stream in &mut idle {
        let mut said = Vec::new();
        let wait = Duration::from_millis(20);
        let read = tokio::io::AsyncReadExt::read_to_end(stream, &mut said);
        held += usize::from(tokio::time::timeout(wait, read).await.is_err());
    }
    assert!((1..=32).contains(&held), "{held} idle connections are held");
}

/// Waits until something is so that comes by itself.
async fn until(is_so: impl Fn() -> bool) {
    let come = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), come).await.expect("it has not come");
}

/// Why a member's host counts as lost, if it stays as it is.
fn lost(network: &Network, member: u16) -> Option<String> {
    network.reach.lost(Instant::now() + Duration::from_secs(60)).remove(&MemberId(member))
}

const QUICK: Timing = Timing {
    answer: Duration::from_millis(200),
    idle: Duration::from_millis(200),
    look: Duration::from_millis(50),
};

#[tokio::test]
async fn whether_a_member_is_reached_shows_though_nothing_is_sent() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let second = free_address();
    let addresses = BTreeMap::from([(MemberId(2), second.clone())]);
    let quick = Network::start_with(&manifest, one, free_address(), addresses, QUICK);
    let (one, _questions) = quick.await.unwrap();
    until(|| lost(&one, 2).is_some_and(|reason| reason.contains("refused"))).await;
    // Of one that nobody knows an address of, too; and never of itself.
    until(|| lost(&one, 3).is_some_and(|reason| reason.contains("no address"))).await;
    let there = Network::start(&manifest, two, second, BTreeMap::new()).await.unwrap();
    until(|| lost(&one, 2).is_none()).await;
    drop(there);
    until(|| lost(&one, 2).is_some_and(|reason| reason.contains("refused"))).await;
    assert_eq!(lost(&one, 1), None);
}

/// A machine that lost its power closes no connection.
#[tokio::test]
async fn a_connection_that_is_dead_is_not_taken_for_a_member_for_long() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let (shown, hidden) = (free_address(), free_address());
    let _two = Network::start(&manifest, two, hidden.clone(), BTreeMap::new()).await.unwrap();
    let place = |address: &Multiaddr| {
        let port: u16 = address.to_string().rsplit('/').next().unwrap().parse().unwrap();
        (std::net::Ipv4Addr::LOCALHOST, port)
    };
    let (listener, behind) = (tokio::net::TcpListener::bind(place(&shown)).await.unwrap(), place(&hidden));
    let (dies, dead) = tokio::sync::watch::channel(false);
    let wire = tokio::spawn(async move {
        loop {
            let mut dead = dead.clone();
            let (mut near, _) = tokio::select! {
                _ = dead.wait_for(|dead| *dead) => return,
                accepted = listener.accept() => accepted.unwrap(),
            };
            let mut far = tokio::net::TcpStream::connect(behind).await.unwrap();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    died = async { drop(dead.wait_for(|dead| *dead).await) } => died,
                }
                // Nobody closes it.
                std::future::pending::<()>().await;
            });
        }
    });
    let addresses = BTreeMap::from([(MemberId(2), shown)]);
    let slow = Timing { idle: Duration::from_secs(1), ..QUICK };
    let (one, _questions) =
        Network::start_with(&manifest, one, free_address(), addresses, slow).await.unwrap();
    // It is connected; nothing else says so.
    until(|| lost(&one, 3).is_some()).await;
    assert_eq!(lost(&one, 2), None);
    dies.send(true).unwrap();
    wire.await.unwrap();
    until(|| lost(&one, 2).is_some_and(|reason| reason.contains("refused"))).await;
}

#[tokio::test]
async fn a_member_that_sends_one_question_away_or_leaves_it_is_reached_as_long_as_it_answers_others() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let second = free_address();
    let (_two, mut questions) =
        Network::start(&manifest, two, second.clone(), BTreeMap::new()).await.unwrap();
    let (leaves, mut left) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Incoming { question, answer, .. }) = questions.recv().await {
            match question {
                Question::Deliver(message) if message == b"leave" => leaves.send(answer).unwrap(),
                Question::Deliver(message) if message == b"send away" => drop(answer),
                _ => drop(answer.send(Answer::Accepted)),
            }
        }
    });
    let addresses = BTreeMap::from([(MemberId(2), second)]);
    let hour = Duration::from_secs(3600);
    let timing = Timing { answer: Duration::from_secs(2), look: hour, idle: hour };
    let (one, _questions) =
        Network::start_with(&manifest, one, free_address(), addresses, timing).await.unwrap();
    let ask = async |message: &[u8]| one.ask(MemberId(2), Question::Deliver(message.to_vec())).await;
    while ask(b"take").await.is_err() {}
    // Again, if this machine is so slow that it was given up before another one was answered.
    loop {
        let other = async {
            let answer = left.recv().await;
            while ask(b"take").await.is_err() {}
            answer
        };
        let (unanswered, other) = (std::pin::pin!(ask(b"leave")), std::pin::pin!(other));
        match futures::future::select(unanswered, other).await {
            futures::future::Either::Left(_) => while ask(b"take").await.is_err() {},
            futures::future::Either::Right((_answer, unanswered)) => {
                assert!(unanswered.await.is_err());
                break;
            }
        }
    }
    assert_eq!(lost(&one, 2), None);
    assert!(ask(b"send away").await.is_err());
    assert_eq!(lost(&one, 2), None);
}

/// Something is always to be sent, so it is never idle.
#[tokio::test]
async fn a_connection_that_is_dead_and_in_use_is_made_again() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let (shown, hidden) = (free_address(), free_address());
    let (_two, mut questions) =
        Network::start(&manifest, two, hidden.clone(), BTreeMap::new()).await.unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = questions.recv().await {
            let _ = incoming.answer.send(Answer::Accepted);
        }
    });
    let place = |address: &Multiaddr| {
        let port: u16 = address.to_string().rsplit('/').next().unwrap().parse().unwrap();
        (std::net::Ipv4Addr::LOCALHOST, port)
    };
    let (listener, behind) = (tokio::net::TcpListener::bind(place(&shown)).await.unwrap(), place(&hidden));
    // Those that are there when it is cut carry nothing any more and stay open; later ones do.
    let (cut, is_cut) = tokio::sync::watch::channel(());
    tokio::spawn(async move {
        loop {
            let mut is_cut = is_cut.clone();
            is_cut.mark_unchanged();
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = tokio::net::TcpStream::connect(behind).await.unwrap();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = is_cut.changed() => std::future::pending().await,
                }
            });
        }
    });
    let addresses = BTreeMap::from([(MemberId(2), shown)]);
    let timing = Timing { idle: Duration::from_secs(3600), ..QUICK };
    let (one, _questions) =
        Network::start_with(&manifest, one, free_address(), addresses, timing).await.unwrap();
    let answered = async || {
        let mut asked: futures::stream::FuturesUnordered<_> =
            (0..3).map(|_| one.ask(MemberId(2), Question::Deliver(Vec::new()))).collect();
        while asked.next().await.expect("some are always asked") != Ok(Answer::Accepted) {
            asked.push(one.ask(MemberId(2), Question::Deliver(Vec::new())));
        }
    };
    let limit = Duration::from_secs(120);
    tokio::time::timeout(limit, answered()).await.expect("not connected");
    cut.send(()).unwrap();
    tokio::time::timeout(limit, answered()).await.expect("the dead connection is kept");
}

#[tokio::test]
async fn a_member_that_does_not_answer_is_not_reached_until_something_comes_from_it() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let (first, second) = (free_address(), free_address());
    let timing = Timing { look: Duration::from_secs(3600), idle: Duration::from_secs(3600), ..QUICK };
    let of = |member, address: &Multiaddr| BTreeMap::from([(MemberId(member), address.clone())]);
    let (one, mut of_one) =
        Network::start_with(&manifest, one, first.clone(), of(2, &second), timing).await.unwrap();
    let (two, mut of_two) = Network::start(&manifest, two, second.clone(), of(1, &first)).await.unwrap();
    let (unanswered, asked) =
        tokio::join!(of_two.recv(), one.ask(MemberId(2), Question::Deliver(Vec::new())));
    assert!(unanswered.is_some() && matches!(asked, Err(AskError::Failed(_))), "{asked:?}");
    until(|| lost(&one, 2).is_some()).await;
    tokio::spawn(async move {
        while let Some(question) = of_one.recv().await {
            question.answer.send(Answer::Accepted).unwrap();
        }
    });
    // The first one gives up a connection on which nothing was answered, and what is on its way by it: that is sent again.
    let answered =
        async { while two.ask(MemberId(1), Question::Deliver(Vec::new())).await != Ok(Answer::Accepted) {} };
    tokio::time::timeout(Duration::from_secs(60), answered).await.expect("it is answered");
    assert_eq!(lost(&one, 2), None);
}

#[tokio::test]
async fn strangers_that_never_stop_keep_no_member_out_that_has_a_name() {
    let (one, two) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let manifest = manifest(&[&one, &two]);
    let (first, second) = (free_address(), free_address());
    let named = second.to_string().replace("/ip4/127.0.0.1", "/dns4/localhost").parse().unwrap();
    // It never dials the member itself.
    let timing = Timing { look: Duration::from_secs(3600), ..Timing::default() };
    let known = BTreeMap::from([(MemberId(2), named)]);
    let (_one, mut questions) =
        Network::start_with(&manifest, one, first.clone(), known, timing).await.unwrap();
    let port: u16 = first.to_string().rsplit('/').next().unwrap().parse().unwrap();
    let crowd: Vec<_> = (2..42)
        .map(|host| {
            tokio::spawn(async move {
                loop {
                    let socket = tokio::net::TcpSocket::new_v4().unwrap();
                    socket.bind((std::net::Ipv4Addr::new(127, 0, 2, host), 0).into()).unwrap();
                    let Ok(mut idle) = socket.connect((std::net::Ipv4Addr::LOCALHOST, port).into()).await
                    else {
                        continue;
                    };
                    // Until it is sent away.
                    let _ = tokio::io::copy(&mut idle, &mut tokio::io::sink()).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    let addresses = BTreeMap::from([(MemberId(1), first)]);
    let (two, _two) = Network::start(&manifest, two, second, addresses).await.unwrap();
    tokio::spawn(async move { questions.recv().await.unwrap().answer.send(Answer::Accepted).unwrap() });
    let answered = async {
        while two.ask(MemberId(1), Question::Deliver(Vec::new())).await != Ok(Answer::Accepted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), answered).await.expect("it is kept out");
    crowd.iter().for_each(tokio::task::JoinHandle::abort);
}
