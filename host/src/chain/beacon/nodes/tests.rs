use super::*;
use crate::chain::beacon::test_exits::{NETWORK, signed_exit};
use crate::chain::beacon::test_node::{Lie, TestNode, waiting};
use crate::chain::beacon::{ExitRefusal, ValidatorStatus};
use crate::chain::test_server::TestServer;
use postern_shared::bls::Signature;
use postern_shared::ethereum::{DepositMessage, WithdrawalCredentials};
use tokio::time::sleep;

const DOWN: &str = "http://127.0.0.1:1";
const KEY: PublicKey = PublicKey([0xab; 48]);
const STRANGER: PublicKey = PublicKey([0xcd; 48]);

/// For nodes on this machine that hang on purpose.
const PATIENCE: Patience = Patience {
    request: Duration::from_millis(400),
    connect: Duration::from_millis(400),
    check: Duration::from_secs(2),
    stragglers: Duration::from_millis(100),
};

fn parsed(urls: &[String]) -> Vec<NodeUrl> {
    urls.iter().map(|url| NodeUrl::parse(url).unwrap()).collect()
}

fn over(urls: &[String]) -> BeaconNodes {
    BeaconNodes::with_patience(&parsed(urls), NETWORK, PATIENCE).unwrap()
}

/// Nodes that know one key, each with its lie.
async fn nodes(lies: &[Option<Lie>]) -> (BeaconNodes, Vec<TestNode>) {
    let mut servers = Vec::new();
    for lie in lies {
        servers.push(TestNode::start(&[KEY], *lie).await);
    }
    (over(&servers.iter().map(TestNode::url).collect::<Vec<_>>()), servers)
}

/// Waits for what must come of a check.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come");
}

fn own(status: ValidatorStatus) -> Validator {
    Validator { index: 1, status, withdrawal_credentials: WithdrawalCredentials([1; 32]) }
}

fn seen(found: &HashMap<PublicKey, Found>) -> Option<Validator> {
    match &found[&KEY] {
        Found::There(validator, _) => Some(validator.clone()),
        Found::NotThere | Found::Disputed(_) => None,
    }
}

/// What must come of a question about a validator that is there, and about one that is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The truth.
    True,
    /// What the liar says: there is nobody to contradict it.
    Lied,
    /// Nothing is believed.
    Nothing,
}

/// Each lie: beside nobody, beside one honest node, beside two. And whether the liar is named then.
#[tokio::test]
async fn whoever_lies_in_whichever_way_only_more_than_half_are_believed() {
    use Expected::{Lied, Nothing, True};
    use ValidatorStatus::{ActiveExiting, WithdrawalDone};
    let cases = [
        (Lie::Html404, [Nothing, True, True], true),
        (Lie::State404, [Nothing, True, True], true),
        (Lie::Validator404, [Nothing, True, True], true),
        (Lie::EmptyValidators, [Nothing, True, True], true),
        (Lie::Syncing, [Nothing, True, True], true),
        (Lie::Optimistic, [Nothing, True, True], true),
        (Lie::NumberIndex, [Nothing, True, True], true),
        (Lie::WrongNetwork, [Nothing, True, True], true),
        (Lie::Hang, [Nothing, True, True], true),
        (Lie::FinalSays(WithdrawalDone), [Lied, True, True], false),
        (Lie::FinalSays(ActiveExiting), [Lied, True, True], false),
        (Lie::HeadSays(WithdrawalDone), [True, True, True], false),
        (Lie::OtherIndex, [Lied, Nothing, True], true),
        (Lie::OtherCredentials, [Lied, Nothing, True], true),
        (Lie::NoPost, [True, True, True], false),
        (Lie::NoPendingDeposits, [True, True, True], false),
        (Lie::SwallowExit, [True, True, True], false),
        (Lie::BehindBy(50), [True, True, True], true),
        (Lie::AheadBy(1_000_000), [True, True, True], false),
    ];
    for (lie, expected, is_named) in cases {
        for (honest, expected) in expected.into_iter().enumerate() {
            let lies: Vec<_> = std::iter::once(Some(lie)).chain(vec![None; honest]).collect();
            let (nodes, servers) = nodes(&lies).await;
            let what = format!("{lie:?} beside {honest}");
            let found = nodes.validators(StateId::Finalized, &[KEY, STRANGER]).await;
            match (expected, found) {
                (True, Ok(found)) => {
                    assert_eq!(seen(&found), Some(own(ValidatorStatus::ActiveOngoing)), "{what}");
                    assert_eq!(found[&STRANGER], Found::NotThere, "{what}");
                }
                (Lied, Ok(found)) => {
                    assert!(seen(&found).is_some(), "{what}");
                    assert_ne!(seen(&found), Some(own(ValidatorStatus::ActiveOngoing)), "{what}");
                }
                (Nothing, Ok(found)) => assert!(matches!(found[&KEY], Found::Disputed(_)), "{what}"),
                (Nothing, Err(BeaconError::NoneFit(_))) => assert_eq!(honest, 0, "{what}"),
                (_, found) => panic!("{what}: {found:?}"),
            }
            let wrong =
                nodes.standings().into_iter().find(|node| node.name == servers[0].url()).unwrap().wrong;
            let is_named = is_named && honest + 1 >= needed(lie);
            assert_eq!(wrong.is_some(), is_named, "{what}: {wrong:?}");
            assert!(wrong.is_none_or(|wrong| !wrong.contains("SECRET")), "{what}");
        }
    }
}

/// How many nodes there must be for a liar to be named: some lies show only beside others.
fn needed(lie: Lie) -> usize {
    match lie {
        Lie::OtherIndex | Lie::OtherCredentials => 2,
        Lie::BehindBy(_) => 3,
        _ => 1,
    }
}

#[tokio::test]
async fn what_nobody_can_say_is_not_taken_for_nothing_there() {
    for lie in [Lie::Html404, Lie::State404, Lie::Validator404, Lie::EmptyValidators, Lie::Syncing] {
        let (nodes, _servers) = nodes(&[Some(lie)]).await;
        let found = nodes.validator(StateId::Finalized, &KEY).await;
        assert!(matches!(found, Err(BeaconError::NoneFit(_))), "{lie:?}: {found:?}");
    }
    let (honest, _server) = nodes(&[None]).await;
    assert_eq!(honest.validator(StateId::Finalized, &STRANGER).await.unwrap(), None);
    let found = over(&[DOWN.to_owned()]).validator(StateId::Head, &KEY).await.unwrap_err();
    assert!(matches!(&found, BeaconError::NoneFit(_)) && found.to_string().contains(DOWN), "{found}");
}

#[tokio::test]
async fn a_node_that_begins_to_lie_while_it_counts_stops_counting() {
    let (nodes, servers) = nodes(&[None, None]).await;
    assert!(nodes.validator(StateId::Finalized, &KEY).await.unwrap().is_some());
    for lie in [Lie::EmptyValidators, Lie::State404, Lie::Optimistic, Lie::NumberIndex] {
        servers[0].known().lie = Some(lie);
        // The other one's word alone: the liar's is no answer.
        assert!(nodes.validator(StateId::Finalized, &KEY).await.unwrap().is_some(), "{lie:?}");
        assert!(nodes.standings()[0].wrong.is_some(), "{lie:?}");
        servers[0].known().lie = None;
        until(|| nodes.standings()[0].wrong.is_none()).await;
        assert!(nodes.validator(StateId::Finalized, &KEY).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_node_that_comes_back_as_one_of_another_network_does_not_count() {
    let (nodes, servers) = nodes(&[None, None]).await;
    nodes.check().await;
    servers[0].known().lie = Some(Lie::State404);
    nodes.validator(StateId::Head, &KEY).await.unwrap();
    servers[0].known().lie = Some(Lie::WrongNetwork);
    let is_named = |wrong: String| wrong.contains("another network");
    until(|| nodes.standings()[0].wrong.clone().is_some_and(is_named)).await;
    assert!(!nodes.is_taker(&servers[0].url()) && nodes.is_taker(&servers[1].url()));
}

#[tokio::test]
async fn a_node_that_hangs_costs_time_once_and_with_a_majority_none() {
    let (two, servers) = nodes(&[None, None]).await;
    two.check().await;
    servers[1].known().lie = Some(Lie::Hang);
    let mut waits = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        assert!(two.validator(StateId::Finalized, &KEY).await.unwrap().is_some());
        waits.push(begun.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
    assert!(waits[0] >= PATIENCE.request, "{waits:?}");
    assert!(waits[1..].iter().all(|wait| *wait < PATIENCE.request / 2), "{waits:?}");

    let (three, servers) = nodes(&[None, None, None]).await;
    three.check().await;
    servers[1].known().lie = Some(Lie::Hang);
    let begun = Instant::now();
    assert!(three.validator(StateId::Finalized, &KEY).await.unwrap().is_some());
    assert!(begun.elapsed() < PATIENCE.request / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nodes_of_another_network_are_named_and_stop_nothing() {
    let (mixed, servers) = nodes(&[Some(Lie::WrongNetwork), None]).await;
    mixed.check().await;
    let standings = mixed.standings();
    assert!(standings[0].wrong.as_ref().unwrap().contains("genesis_validators_root"), "{standings:?}");
    assert_eq!(standings[1], NodeStanding { name: servers[1].url(), wrong: None });
    let (wrong, _servers) = nodes(&[Some(Lie::WrongNetwork), Some(Lie::WrongNetwork)]).await;
    let found = wrong.check().await;
    let is_named = |why: &Option<Unfit>| matches!(why, Some(Unfit::WrongNetwork { .. }));
    assert!(found.len() == 2 && found.iter().all(|(_, why)| is_named(why)), "{found:?}");
}

#[tokio::test]
async fn validators_are_asked_for_together_with_and_without_post() {
    let keys: Vec<PublicKey> = (0..150u8).map(|number| PublicKey([number; 48])).collect();
    for (lie, first, requests) in [(None, "POST", 1), (Some(Lie::NoPost), "GET", 3)] {
        let server = TestNode::start(&keys, lie).await;
        let nodes = over(&[format!("{}/", server.url())]);
        nodes.check().await;
        for _ in 0..2 {
            let before = server.asked().len();
            let found = nodes.validators(StateId::Finalized, &keys).await.unwrap();
            assert_eq!(found.len(), keys.len());
            assert!(found.values().all(|found| matches!(found, Found::There(..))));
            let asked = &server.asked()[before..];
            assert_eq!(asked.len(), requests, "{asked:?}");
            let path = format!("{first} /eth/v1/beacon/states/finalized/validators");
            assert!(asked.iter().all(|asked| asked.starts_with(&path)), "{asked:?}");
        }
    }
}

#[tokio::test]
async fn the_query_and_the_path_of_a_url_are_kept_and_shown_to_nobody() {
    let server = TestNode::start(&[KEY], Some(Lie::NoPost)).await;
    let nodes = over(&[format!("{}/SECRET/?apikey=SECRET", server.url())]);
    assert!(nodes.validator(StateId::Finalized, &KEY).await.unwrap().is_some());
    nodes.post_exit(&nodes.names()[0], &signed_exit(1, 1, &NETWORK)).await.unwrap();
    for asked in server.asked() {
        assert!(asked.contains(" /SECRET/eth/v1/") && asked.contains("?apikey=SECRET"), "{asked}");
    }
    assert!(!format!("{nodes:?}").contains("SECRET"));
    let echo = TestServer::start(|request| {
        (404, serde_json::json!({"code": 404, "message": format!("no {}", request.path)}).to_string())
    });
    let echo = echo.await;
    let nodes = over(&[format!("{}/SECRET?key=SECRET", echo.url)]);
    let error = nodes.validator(StateId::Head, &KEY).await.unwrap_err().to_string();
    assert!(error.contains("status 404") && !error.contains("SECRET"), "{error}");
}

#[test]
fn nodes_are_told_apart_by_names_without_secrets() {
    assert!(matches!(BeaconNodes::new(&[], NETWORK), Err(BeaconError::NoNodes)));
    let names = |urls: &[&str]| {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        BeaconNodes::new(&parsed(&urls), NETWORK).unwrap().names()
    };
    assert_eq!(names(&["https://user:SECRET@node.example:5052/key"]), ["https://node.example:5052"]);
    assert_eq!(names(&["http://node/a", "http://node/b"]), ["http://node", "http://node (2)"]);
}

#[tokio::test]
async fn deposits_that_wait_are_those_of_the_key_at_any_node() {
    let (nodes, servers) = nodes(&[Some(Lie::NoPendingDeposits), None]).await;
    servers[1].known().pending = vec![waiting(STRANGER, 1, "5"), waiting(KEY, 1, "1000000000")];
    let found = nodes.pending_deposits(&BTreeSet::from([KEY])).await.unwrap();
    let withdrawal_credentials = WithdrawalCredentials([1; 32]);
    let message = DepositMessage { pubkey: KEY, withdrawal_credentials, amount: 1_000_000_000 };
    // Once as the head has it, once as the newest finalised state has.
    assert_eq!(found, [DepositData { message, signature: Signature([0xcd; 96]) }; 2]);
    let asked = servers[1].asked();
    let path = |state| format!("GET /eth/v1/beacon/states/{state}/pending_deposits");
    assert_eq!(asked[asked.len() - 2..], [path("head"), path("finalized")]);
}

/// Before stake is paid: half of the nodes must have answered, and silence is an answer only before Electra.
#[tokio::test]
async fn too_few_answers_about_deposits_that_wait_are_none() {
    let silent = Some(Lie::NoPendingDeposits);
    type Case<'a> = (&'a [Option<Lie>], Option<u64>, bool);
    let cases: [Case<'_>; 11] = [
        (&[None], Some(0), true),
        (&[None, silent], Some(0), true),
        (&[None, silent, silent], Some(0), false),
        (&[None, None, silent], Some(0), true),
        (&[silent], Some(0), false),
        (&[silent, silent], Some(0), false),
        (&[silent], None, true),
        (&[silent, silent], Some(1_000_000), true),
        (&[silent, Some(Lie::Syncing), Some(Lie::Html404)], None, false),
        (&[None, Some(Lie::Syncing), Some(Lie::Html404)], Some(0), false),
        (&[None, Some(Lie::Optimistic), None], Some(0), true),
    ];
    for (lies, electra, expected) in cases {
        let (nodes, servers) = nodes(lies).await;
        servers.iter().for_each(|server| server.known().electra = electra);
        let found = nodes.pending_deposits(&BTreeSet::from([KEY])).await;
        assert_eq!(found.is_ok(), expected, "{lies:?}, {electra:?}: {found:?}");
        assert!(found.is_ok() || matches!(found, Err(BeaconError::TooFew { .. })), "{found:?}");
    }
    let (nodes, servers) = nodes(&[None]).await;
    servers[0].known().pending = vec![waiting(KEY, 1, "much")];
    assert!(nodes.pending_deposits(&BTreeSet::from([KEY])).await.is_err());
}

/// A quorum of those that happen to answer is none: half of the configured nodes must say it, and it is said how many do.
#[tokio::test]
async fn what_fewer_than_half_of_the_configured_nodes_say_is_not_believed() {
    let down = Some(Lie::Html404);
    for (lies, agreed) in [
        (vec![None], Some(1)),
        (vec![None, down], Some(1)),
        (vec![None, down, down], None),
        (vec![None, None, down], Some(2)),
        (vec![None, None, down, down], Some(2)),
        (vec![None, None, down, down, down], None),
        (vec![None, None, None], Some(2)),
    ] {
        let (nodes, servers) = nodes(&lies).await;
        let found = nodes.validators(StateId::Finalized, &[KEY, STRANGER]).await.unwrap();
        match (&found[&KEY], agreed) {
            (Found::There(_, votes), Some(agreed)) => {
                assert!(votes.agreed >= agreed && votes.configured == lies.len(), "{lies:?}: {votes:?}");
                assert_eq!(votes.are_most(), 2 * votes.agreed > lies.len(), "{lies:?}");
                assert_eq!(found[&STRANGER], Found::NotThere, "{lies:?}");
            }
            (Found::Disputed(answers), None) => {
                assert!(answers.starts_with("only ") && answers.contains(&servers[0].url()), "{answers}");
                assert!(matches!(found[&STRANGER], Found::Disputed(_)), "{lies:?}");
            }
            (found, _) => panic!("{lies:?}: {found:?}"),
        }
    }
}

/// Once for each node, so that a person knows why nothing is deposited.
#[tokio::test]
async fn a_node_that_does_not_say_which_deposits_wait_is_named_until_it_does() {
    let (nodes, servers) = nodes(&[Some(Lie::NoPendingDeposits), None]).await;
    let keys = BTreeSet::from([KEY]);
    let wrong = |nodes: &BeaconNodes| nodes.standings()[0].wrong.clone();
    nodes.pending_deposits(&keys).await.unwrap();
    assert!(wrong(&nodes).is_some_and(|wrong| wrong.contains("`pending_deposits`")));
    servers[0].known().lie = None;
    nodes.pending_deposits(&keys).await.unwrap();
    assert_eq!(wrong(&nodes), None);
}

#[tokio::test]
async fn an_exit_is_taken_refused_or_not_answered() {
    let exit = signed_exit(1, 1, &NETWORK);
    let refused = |refusal| Some(ExitOutcome::Refused(refusal));
    let cases = [
        (None, Some(ExitOutcome::Taken)),
        (Some(Lie::SwallowExit), Some(ExitOutcome::Taken)),
        (Some(Lie::ExitSays(400, "Exit is not the first one for validator 1.")), Some(ExitOutcome::Taken)),
        (Some(Lie::ExitSays(500, "VOLUNTARY_EXIT_ERROR_ALREADY_EXISTS")), Some(ExitOutcome::Taken)),
        (Some(Lie::ExitSays(400, "Invalid(FutureEpoch { … })")), refused(ExitRefusal::FutureEpoch)),
        (
            Some(Lie::ExitSays(500, "VOLUNTARY_EXIT_ERROR_INVALID_SIGNATURE")),
            refused(ExitRefusal::InvalidSignature),
        ),
        (Some(Lie::ExitSays(400, "no")), refused(ExitRefusal::Other("no".to_owned()))),
        (Some(Lie::ExitSays(502, "")), None),
        (Some(Lie::Html404), None),
        (Some(Lie::HangOnExits), None),
    ];
    for (lie, expected) in cases {
        let (nodes, servers) = nodes(&[lie]).await;
        assert_eq!(nodes.post_exit(&servers[0].url(), &exit).await.ok(), expected, "{lie:?}");
    }
    let (nodes, servers) = nodes(&[None]).await;
    nodes.post_exit(&servers[0].url(), &exit).await.unwrap();
    let message = serde_json::json!({"epoch": "3", "validator_index": "1"});
    let body = serde_json::json!({"message": message, "signature": exit.signature});
    assert_eq!(servers[0].known().exits, [body]);
}

#[tokio::test]
async fn exits_are_handed_to_nodes_of_the_network_that_can_be_reached() {
    let takers = |nodes: &BeaconNodes| {
        nodes.names().into_iter().filter(|name| nodes.is_taker(name)).collect::<Vec<_>>()
    };
    let (nodes, servers) =
        nodes(&[None, Some(Lie::Syncing), Some(Lie::Html404), Some(Lie::WrongNetwork), Some(Lie::Hang)])
            .await;
    assert_eq!(takers(&nodes), [""; 0], "nobody is known yet");
    nodes.check().await;
    assert_eq!(takers(&nodes), [servers[0].url(), servers[1].url(), servers[4].url()]);
    servers[0].known().lie = Some(Lie::HangOnExits);
    nodes.post_exit(&servers[0].url(), &signed_exit(1, 1, &NETWORK)).await.unwrap_err();
    assert_eq!(takers(&nodes), [servers[1].url(), servers[4].url()], "it rests");
}

#[tokio::test]
async fn huge_and_foreign_answers_are_no_votes() {
    let (nodes, servers) = nodes(&[None, None]).await;
    nodes.check().await;
    let huge = TestServer::start(|_| (200, " ".repeat(3 << 20))).await;
    let (_, why) = over(std::slice::from_ref(&huge.url)).check().await.remove(0);
    assert!(
        why.is_some_and(|why| why.is_wrong_answer() && why.to_string().contains("an answer of more than"))
    );
    // Another validator under the key that was asked for.
    servers[0].known().validators.get_mut(&KEY).unwrap().index = 77;
    let found = nodes.validators(StateId::Finalized, &[KEY]).await.unwrap();
    let Found::Disputed(answers) = &found[&KEY] else { panic!("{found:?}") };
    assert!(answers.contains(&format!("{}: index 77", servers[0].url())), "{answers}");
    assert!(answers.contains(&format!("{}: index 1", servers[1].url())), "{answers}");
}

/// Nobody may ever ask about that again: of a validator that is gone for good, for instance.
#[test]
fn what_a_node_has_said_that_can_not_be_so_is_shown_for_a_while() {
    let (epoch, now) = (Duration::from_secs(384), Instant::now());
    let told = |lie: &str, at| Some(Told { lie: lie.to_owned(), at });
    let lies =
        Lies { of_exits: told("late", now + epoch), of_deposits: told("early", now), of_validators: None };
    assert_eq!(lies.shown(epoch, now + epoch), Some("late"));
    let lies = Lies { of_exits: None, ..lies };
    assert_eq!(lies.shown(epoch, now + epoch * 15), Some("early"));
    assert_eq!(lies.shown(epoch, now + epoch * 16), None);
    assert_eq!(Lies::default().shown(epoch, now), None);
}
