use super::super::vectors::{ark, facts, vector};
use super::*;
use crate::chain::test_server::{TestAnswer, TestRequest, TestServer};
use std::sync::atomic::{AtomicUsize, Ordering};

const PATIENCE: Patience = Patience {
    first: Duration::from_millis(5),
    longest: Duration::from_millis(20),
    total: Duration::from_secs(5),
};

fn kds(server: &TestServer) -> Kds {
    Kds::new(&server.url, PATIENCE).unwrap()
}

fn genoa() -> VcekId {
    let facts = facts("msft-tav-genoa");
    VcekId::new(facts.product, &facts.chip_id, facts.reported_tcb).unwrap()
}

/// Gives these answers in their order, the last one for ever.
async fn server(answers: Vec<TestAnswer>) -> TestServer {
    let asked = AtomicUsize::new(0);
    TestServer::start(move |_| answers[asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)].clone())
        .await
}

fn answer(status: u16) -> TestAnswer {
    TestAnswer::from((status, "<html>an error page"))
}

fn with_header(status: u16, header: String) -> TestAnswer {
    TestAnswer { headers: vec![header], ..answer(status) }
}

fn good() -> TestAnswer {
    TestAnswer::from((200, vector("msft-tav-genoa-vcek.der")))
}

/// How often it was asked, and what came last.
#[track_caller]
fn failed<T>(result: Result<T, KdsError>) -> (u32, KdsFailure) {
    match result {
        Err(KdsError::Failed { attempts, failure, .. }) => (attempts, *failure),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("there was an answer"),
    }
}

#[tokio::test]
async fn a_vcek_is_asked_for_by_chip_and_level() {
    let server = server(vec![good()]).await;
    assert_eq!(kds(&server).vcek(&genoa()).await.unwrap(), vector("msft-tav-genoa-vcek.der"));
    let requests = server.requests();
    let [TestRequest { method, path, .. }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((method.as_str(), path.clone()), ("GET", format!("/{}", genoa().path())));
}

#[tokio::test]
async fn a_mirror_may_lie_below_a_path() {
    let server = server(vec![good()]).await;
    for url in [format!("{}/amd/kds", server.url), format!("{}/amd/kds/", server.url)] {
        Kds::new(&url, PATIENCE).unwrap().vcek(&genoa()).await.unwrap();
    }
    let path = format!("/amd/kds/{}", genoa().path());
    assert!(server.requests().iter().all(|request| request.path == path));
}

#[tokio::test]
async fn the_issuer_comes_with_the_root_that_is_compiled_in() {
    let chain = vector("amd-genoa-vcek-ask-ark.pem");
    let server = TestServer::start(move |_| (200, chain.clone())).await;
    let kds = kds(&server);
    let (product, key) = (Product::Genoa, EndorsementKey::Vcek);
    let issuer = kds.issuer(product, key, &ark(product)).await.unwrap();
    assert_eq!(issuer, vector("amd-genoa-ask.der"));
    assert_eq!(server.requests()[0].path, "/vcek/v1/Genoa/cert_chain");

    let (attempts, failure) = failed(kds.issuer(Product::Milan, key, &ark(Product::Milan)).await);
    let expected = "AMD's root for Milan".to_owned();
    let found = "another root `ARK-Genoa`".to_owned();
    assert_eq!((attempts, failure), (1, KdsFailure::Foreign { expected, found }));
}

#[tokio::test]
async fn a_list_must_be_of_the_root() {
    let list = vector("amd-genoa-crl-2022.der");
    let server = server(vec![TestAnswer::from((200, list.clone()))]).await;
    let (kds, key) = (kds(&server), EndorsementKey::Vlek);
    let time = Duration::from_secs(5);
    let crl = kds.crl(Product::Genoa, key, &ark(Product::Genoa), time).await.unwrap();
    assert_eq!(crl.der, list);
    assert_eq!(server.requests()[0].path, "/vlek/v1/Genoa/crl");
    let (_, failure) = failed(kds.crl(Product::Milan, key, &ark(Product::Milan), time).await);
    assert!(matches!(failure, KdsFailure::Foreign { .. }), "{failure}");
}

#[tokio::test]
async fn throttling_and_trouble_are_waited_out() {
    let answers =
        vec![answer(429), answer(500), answer(503), with_header(429, "retry-after: 0".to_owned()), good()];
    let server = server(answers).await;
    kds(&server).vcek(&genoa()).await.unwrap();
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn an_answer_that_breaks_http_is_tried_again() {
    // Two lengths.
    let broken = TestAnswer { headers: vec!["content-length: 9000".to_owned()], ..good() };
    let server = server(vec![broken, good()]).await;
    kds(&server).vcek(&genoa()).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn the_service_says_how_long_to_wait() {
    let server = server(vec![with_header(429, "Retry-After: 1".to_owned()), good()]).await;
    let started = Instant::now();
    kds(&server).vcek(&genoa()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn who_is_told_to_wait_longer_than_there_is_time_gives_up_at_once() {
    for seconds in ["60", "18446744073709551615"] {
        let server = server(vec![with_header(429, format!("retry-after: {seconds}"))]).await;
        let (attempts, failure) = failed(kds(&server).vcek(&genoa()).await);
        let wait = Some(Duration::from_secs(seconds.parse().unwrap()));
        assert_eq!((attempts, failure), (1, KdsFailure::Throttled { wait }));
    }
    // A form that is not read, and nonsense, are no orders.
    for value in ["Wed, 21 Oct 2065 07:28:00 GMT", "-1", "soon", ""] {
        let server = server(vec![with_header(503, format!("retry-after: {value}")), good()]).await;
        kds(&server).vcek(&genoa()).await.unwrap();
    }
}

#[tokio::test]
async fn patience_ends() {
    let server = server(vec![answer(429)]).await;
    let patience = Patience { total: Duration::from_secs(1), ..PATIENCE };
    let started = Instant::now();
    let (attempts, failure) = failed(Kds::new(&server.url, patience).unwrap().vcek(&genoa()).await);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(attempts > 2, "{attempts}");
    assert_eq!(failure, KdsFailure::Throttled { wait: None });
}

#[tokio::test]
async fn a_silent_service_takes_no_longer_than_patience() {
    let server = server(vec![TestAnswer { delay: Duration::from_secs(60), ..good() }]).await;
    let patience = Patience { total: Duration::from_millis(200), ..PATIENCE };
    let started = Instant::now();
    let (attempts, failure) = failed(Kds::new(&server.url, patience).unwrap().vcek(&genoa()).await);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!((attempts, failure), (1, KdsFailure::Unreachable("no answer in time".to_owned())));
}

#[tokio::test]
async fn what_will_not_change_is_asked_once() {
    for (status, expected) in [
        (404, KdsFailure::NotFound),
        (400, KdsFailure::Status { status: 400 }),
        (403, KdsFailure::Status { status: 403 }),
        (204, KdsFailure::Status { status: 204 }),
    ] {
        let server = server(vec![answer(status), good()]).await;
        assert_eq!(failed(kds(&server).vcek(&genoa()).await), (1, expected));
    }
    let server = server(vec![answer(200), good()]).await;
    let (attempts, failure) = failed(kds(&server).vcek(&genoa()).await);
    assert!(matches!(failure, KdsFailure::Content(EncodingError::Der { .. })), "{failure}");
    assert_eq!(attempts, 1);
}

#[tokio::test]
async fn huge_answers_are_not_read_to_their_end() {
    let server = server(vec![TestAnswer::from((200, vec![0x30; MAX_CRL + 1]))]).await;
    let (kds, key) = (kds(&server), EndorsementKey::Vcek);
    let too_large = |limit| (1, KdsFailure::TooLarge { limit });
    assert_eq!(failed(kds.vcek(&genoa()).await), too_large(MAX_CERTIFICATES));
    assert_eq!(failed(kds.issuer(Product::Genoa, key, &[]).await), too_large(MAX_CERTIFICATES));
    assert_eq!(failed(kds.crl(Product::Genoa, key, &[], PATIENCE.total).await), too_large(MAX_CRL));
}

#[tokio::test]
async fn redirects_are_followed_within_a_host_only() {
    let moved = |to: &str| with_header(302, format!("location: {to}"));
    let at_home = server(vec![moved("/elsewhere"), good()]).await;
    kds(&at_home).vcek(&genoa()).await.unwrap();
    assert_eq!(at_home.requests()[1].path, "/elsewhere");

    let stranger = server(vec![good()]).await;
    let away = server(vec![moved(&format!("{}/secret", stranger.url))]).await;
    let (attempts, failure) = failed(kds(&away).vcek(&genoa()).await);
    assert_eq!((attempts, failure), (1, KdsFailure::Redirect { to: stranger.url.clone() }));
    assert!(stranger.requests().is_empty());

    let circle = server(vec![moved("/again")]).await;
    let (attempts, failure) = failed(kds(&circle).vcek(&genoa()).await);
    assert!(matches!(failure, KdsFailure::Redirect { .. }), "{failure}");
    assert_eq!((attempts, circle.requests().len()), (1, MAX_REDIRECTS + 1));
}

#[tokio::test]
async fn who_is_offline_is_told_what_was_wanted_from_where() {
    let patience = Patience { total: Duration::from_millis(50), ..PATIENCE };
    let kds = Kds::new("http://user:password@127.0.0.1:1/token/", patience).unwrap();
    let error = kds.vcek(&genoa()).await.unwrap_err().to_string();
    for part in
        ["the VCEK of Genoa chip b1e24a27bbc3a4d5… at TCB 10/0/23/84", "http://127.0.0.1:1:", &genoa().path()]
    {
        assert!(error.contains(part), "`{part}` is not in `{error}`");
    }
    assert!(!error.contains("password") && !error.contains("token"), "{error}");
}

#[test]
fn addresses_are_checked() {
    for url in ["", "kdsintf.amd.com", "ftp://kdsintf.amd.com", "https://kdsintf.amd.com?x=1", "https://a/#b"]
    {
        let error = Kds::new(url, Patience::default()).unwrap_err();
        assert!(matches!(error, KdsError::Url(_)), "{error}");
    }
    Kds::new(AMD_KDS, Patience::default()).unwrap();
}

#[test]
fn jitter_shortens_a_pause_to_no_less_than_half() {
    let pause = Duration::from_secs(8);
    let pauses: Vec<Duration> = (0..100).map(|_| with_jitter(pause)).collect();
    assert!(pauses.iter().all(|found| (pause / 2..=pause).contains(found)));
    assert!(pauses.iter().any(|found| *found != pauses[0]));
}
