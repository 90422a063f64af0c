use super::super::kds::{KdsFailure, Patience};
use super::super::vectors::{ark, facts, made_up_vlek, set, tcb, vector, when_lists_were_good};
use super::*;
use crate::chain::test_server::{TestRequest, TestServer};
use tempfile::TempDir;

const GENOA: &str = "msft-tav-genoa";

/// AMD's service as far as the vectors go: one Genoa chip, issuers and lists of 2022.
async fn amd() -> TestServer {
    TestServer::start(|request: &TestRequest| {
        let path = request.path.trim_start_matches('/');
        let chain = |product, issuer| {
            let certificates =
                [vector(issuer), ark(product)].map(|der| encoding::to_pem("CERTIFICATE", &der));
            (200, certificates.concat().into_bytes())
        };
        match path {
            "vcek/v1/Genoa/cert_chain" => chain(Product::Genoa, "amd-genoa-ask.der"),
            "vlek/v1/Milan/cert_chain" => chain(Product::Milan, "amd-milan-asvk.der"),
            "vcek/v1/Genoa/crl" => (200, vector("amd-genoa-crl-2022.der")),
            "vlek/v1/Milan/crl" => (200, vector("amd-milan-crl-2022.der")),
            _ if path == vcek(&facts(GENOA)).path() => (200, vector("msft-tav-genoa-vcek.der")),
            _ => (404, Vec::new()),
        }
    })
    .await
}

fn vcek(facts: &ReportFacts) -> VcekId {
    VcekId::new(facts.product, &facts.chip_id, facts.reported_tcb).unwrap()
}

/// A host with an empty cache that may ask nobody.
fn offline() -> (TempDir, CertificateSources) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("cache"));
    (folder, CertificateSources { given: None, table: None, cache, kds: None })
}

/// A host with an empty cache.
fn online(server: &TestServer) -> (TempDir, CertificateSources) {
    let (folder, sources) = offline();
    (folder, CertificateSources { kds: Some(kds(&server.url)), ..sources })
}

fn kds(url: &str) -> Kds {
    let time = Duration::from_millis;
    Kds::new(url, Patience { first: time(5), longest: time(20), total: time(2_000) }).unwrap()
}

/// A table with a leaf, of the kind of its GUID, and perhaps an issuer.
fn table(guid: &str, leaf: &[u8], issuer: &[u8]) -> Option<Vec<u8>> {
    let entry = |guid: &str, offset: usize, content: &[u8]| {
        let numbers = [offset, content.len()].map(|number| u32::try_from(number).unwrap().to_le_bytes());
        [hex::decode(guid).unwrap(), numbers.concat()].concat()
    };
    let issuer_entry = match issuer {
        [] => vec![0; 24],
        _ => entry("4ab7b379bbac4fe4a02f05aef327c782", 72 + leaf.len(), issuer),
    };
    Some([&entry(guid, 72, leaf)[..], &issuer_entry, &[0; 24], leaf, issuer].concat())
}

const TABLE_VCEK: &str = "63da758de6644564adc5f4b93be8accd";
const TABLE_VLEK: &str = "a8074bc2a25a483eaae639c045a0b8a1";

fn milan_vlek_facts() -> ReportFacts {
    let key = EndorsementKey::Vlek;
    // Its chip may be masked: the key is not a chip's.
    ReportFacts { product: Product::Milan, chip_id: [0; 64], reported_tcb: tcb(None, [4, 0, 24, 219]), key }
}

async fn obtained(facts: &ReportFacts, sources: &CertificateSources) -> Certificates {
    obtain(facts, sources, when_lists_were_good()).await.unwrap()
}

async fn refused(facts: &ReportFacts, sources: &CertificateSources) -> CertificatesError {
    obtain(facts, sources, when_lists_were_good()).await.unwrap_err()
}

fn paths(server: &TestServer) -> Vec<String> {
    server.requests().into_iter().map(|request| request.path.trim_start_matches('/').to_owned()).collect()
}

#[tokio::test]
async fn what_kds_gives_is_kept_and_then_found_without_it() {
    let server = amd().await;
    let (folder, mut sources) = online(&server);
    let facts = facts(GENOA);
    let expected = Certificates { crl: Some(vector("amd-genoa-crl-2022.der")), ..set(GENOA) };
    assert_eq!(obtained(&facts, &sources).await, expected);
    let asked = ["vcek/v1/Genoa/crl".to_owned(), "vcek/v1/Genoa/cert_chain".to_owned(), vcek(&facts).path()];
    assert_eq!(paths(&server), asked);

    assert_eq!(obtained(&facts, &sources).await, expected);
    assert_eq!(
        paths(&server).split_off(3),
        ["vcek/v1/Genoa/crl"],
        "by this clock the list comes from the future"
    );
    let list =
        std::fs::File::options().write(true).open(folder.path().join("cache/Genoa/vcek-crl.der")).unwrap();
    list.set_modified(when_lists_were_good()).unwrap();
    assert_eq!(obtained(&facts, &sources).await, expected);
    assert_eq!(paths(&server).len(), 4, "nothing is asked for that was asked for today");
    sources.kds = None;
    assert_eq!(obtained(&facts, &sources).await, expected);
}

#[tokio::test]
async fn a_given_folder_comes_first_and_needs_nobody() {
    for name in ["dstack-milan", "msft-tav-milan", GENOA, "confai-siena", "msft-tav-turin"] {
        let (folder, mut sources) = offline();
        sources.given = Some(set(name));
        assert_eq!(obtained(&facts(name), &sources).await, set(name));
        assert!(!folder.path().join("cache").exists(), "what the user gave is the user's to keep");
    }
}

#[tokio::test]
async fn a_given_folder_without_a_list_gets_one() {
    let server = amd().await;
    let (_folder, mut sources) = online(&server);
    let given = set(GENOA);
    let list = Some(vector("amd-genoa-crl-2022.der"));
    sources.given = Some(given.clone());
    assert_eq!(obtained(&facts(GENOA), &sources).await, Certificates { crl: list.clone(), ..given.clone() });
    assert_eq!(paths(&server), ["vcek/v1/Genoa/crl"]);

    // One that is there is taken; one that is another issuer's, or was due long ago, is not.
    sources.kds = None;
    sources.cache = Cache::new("/nonexistent".into());
    sources.given = Some(Certificates { crl: list.clone(), ..given.clone() });
    assert_eq!(obtained(&facts(GENOA), &sources).await.crl, list);
    let years_later = when_lists_were_good() + Duration::from_secs(3 * 365 * 86_400);
    assert_eq!(obtain(&facts(GENOA), &sources, years_later).await.unwrap().crl, None);
    sources.given = Some(Certificates { crl: Some(vector("amd-milan-crl-2022.der")), ..given });
    assert_eq!(obtained(&facts(GENOA), &sources).await.crl, None);
}

#[tokio::test]
async fn a_given_folder_that_does_not_fit_is_an_error_with_its_reason() {
    let server = amd().await;
    let (_folder, mut sources) = online(&server);
    sources.given = Some(set(GENOA));
    let genoa = facts(GENOA);
    let updated = ReportFacts { reported_tcb: tcb(None, [10, 0, 27, 86]), ..genoa.clone() };
    let error = refused(&updated, &sources).await;
    assert_eq!(
        error.to_string(),
        "the certificates in the given folder don't fit the enclave's report: the leaf is for TCB 10/0/23/84, the report \
         says 10/0/27/86: after a firmware update another VCEK is needed"
    );
    let other_chip = ReportFacts { chip_id: [7; 64], ..genoa.clone() };
    assert_eq!(refused(&other_chip, &sources).await, CertificatesError::Given(Misfit::Chip));
    let (expected, found) = (Product::Milan, Product::Genoa);
    let other_line = ReportFacts { product: expected, ..genoa.clone() };
    assert_eq!(
        refused(&other_line, &sources).await,
        CertificatesError::Given(Misfit::Product { expected, found })
    );
    let (expected, found) = (EndorsementKey::Vlek, EndorsementKey::Vcek);
    let other_key = ReportFacts { key: expected, ..genoa.clone() };
    assert_eq!(
        refused(&other_key, &sources).await,
        CertificatesError::Given(Misfit::Key { expected, found })
    );

    sources.given = Some(Certificates { ask: vector("amd-genoa-ask-revoked.der"), ..set(GENOA) });
    assert!(matches!(refused(&genoa, &sources).await, CertificatesError::Given(Misfit::Revoked)));
}

#[cfg(feature = "devnet")]
#[tokio::test]
async fn a_given_folder_may_have_a_root_of_its_own() {
    let server = amd().await;
    let (_folder, mut sources) = online(&server);
    let psp = postern_simulation::SoftwarePsp::new(postern_simulation::Machine::default());
    let (product, reported_tcb) = (psp.machine().product(), psp.machine().tcb);
    let facts = ReportFacts { product, chip_id: psp.chip_id(), reported_tcb, key: EndorsementKey::Vcek };
    let given = psp.certificates();
    sources.given = Some(given.clone());
    assert_eq!(obtained(&facts, &sources).await, given);
    assert!(server.requests().is_empty(), "AMD has no list for it");
}

#[tokio::test]
async fn a_table_is_enough() {
    let (_folder, mut sources) = offline();
    let expected = set(GENOA);
    sources.table = table(TABLE_VCEK, &expected.leaf, &expected.ask);
    assert_eq!(obtained(&facts(GENOA), &sources).await, expected);
    sources.table = None;
    assert_eq!(obtained(&facts(GENOA), &sources).await, expected, "from the cache");
}

#[tokio::test]
async fn a_table_with_a_leaf_alone_saves_asking_for_it() {
    let server = amd().await;
    let (_folder, mut sources) = online(&server);
    sources.table = table(TABLE_VCEK, &set(GENOA).leaf, &[]);
    assert_eq!(obtained(&facts(GENOA), &sources).await.leaf, set(GENOA).leaf);
    assert_eq!(paths(&server), ["vcek/v1/Genoa/crl", "vcek/v1/Genoa/cert_chain"]);
}

#[tokio::test]
async fn a_table_that_is_wrong_is_passed_over() {
    let server = amd().await;
    let (good, other) = (set(GENOA), set("confai-siena"));
    for table in [
        table(TABLE_VCEK, &other.leaf, &good.ask),
        table(TABLE_VCEK, &good.leaf, &vector("amd-genoa-ask-revoked.der")),
        table(TABLE_VCEK, b"garbage", b"garbage"),
        table(TABLE_VLEK, &good.leaf, &good.ask),
        Some(vec![0xff; 100]),
        Some(Vec::new()),
    ] {
        let (_folder, mut sources) = online(&server);
        sources.table = table;
        let found = obtained(&facts(GENOA), &sources).await;
        assert_eq!(Certificates { crl: None, ..found }, good);
        // Neither did it leave anything behind.
        (sources.table, sources.kds) = (None, None);
        assert_eq!(Certificates { crl: None, ..obtained(&facts(GENOA), &sources).await }, good);
    }
}

#[tokio::test]
async fn a_damaged_cache_is_fetched_anew_and_replaced() {
    let server = amd().await;
    let genoa = facts(GENOA);
    let (good, other) = (set(GENOA), set("confai-siena"));
    let flipped = |der: &[u8]| {
        let mut der = der.to_vec();
        *der.last_mut().unwrap() ^= 1;
        der
    };
    let (list, chain) = ("vcek/v1/Genoa/crl".to_owned(), "vcek/v1/Genoa/cert_chain".to_owned());
    let leaf = vcek(&genoa).path();
    for (kept, ask, expected) in [
        (good.leaf.clone(), good.ask.clone(), vec![&list]),
        (flipped(&good.leaf), good.ask.clone(), vec![&list, &leaf]),
        (other.leaf, good.ask.clone(), vec![&list, &leaf]),
        (good.leaf[..700].to_vec(), good.ask.clone(), vec![&list, &leaf]),
        // One can't tell which of the two is wrong: both are fetched.
        (good.leaf.clone(), flipped(&good.ask), vec![&list, &leaf, &chain]),
    ] {
        let (_folder, mut sources) = online(&server);
        sources.cache.keep_vcek(&vcek(&genoa), &kept);
        sources.cache.keep_issuer(Product::Genoa, EndorsementKey::Vcek, &ask);
        let before = server.requests().len();
        let found = obtained(&genoa, &sources).await;
        assert_eq!(Certificates { crl: None, ..found.clone() }, good);
        assert_eq!(paths(&server).split_off(before).iter().collect::<Vec<_>>(), expected);
        sources.kds = None;
        assert_eq!(obtained(&genoa, &sources).await, found);
    }
}

#[tokio::test]
async fn a_kept_list_serves_while_kds_is_down_and_no_longer_than_it_is_good() {
    let server = amd().await;
    let (_folder, mut sources) = online(&server);
    let list = obtained(&facts(GENOA), &sources).await.crl;
    assert!(list.is_some());
    sources.kds = Some(kds("http://127.0.0.1:1"));
    assert_eq!(obtained(&facts(GENOA), &sources).await.crl, list);
    let later = when_lists_were_good() + Duration::from_secs(365 * 86_400);
    assert_eq!(obtain(&facts(GENOA), &sources, later).await.unwrap().crl, None);
    // The service has no newer one either.
    sources.kds = Some(kds(&server.url));
    assert_eq!(obtain(&facts(GENOA), &sources, later).await.unwrap().crl, None);
}

#[tokio::test]
async fn an_issuer_that_amd_revoked_does_not_fit() {
    let crl = Some(vector("amd-genoa-crl-2022.der"));
    let leaf = made_up_vlek("amd-genoa-ask-revoked.der");
    let revoked = vector("amd-genoa-ask-revoked.der");
    let set = Certificates { ark: ark(Product::Genoa), ask: revoked, leaf, crl };
    let facts = ReportFacts { key: EndorsementKey::Vlek, ..facts(GENOA) };
    assert_eq!(check(&set, &facts), Err(Misfit::Revoked));
    // Its successor has the same name, and another number; of this leaf it knows nothing.
    let successor = Certificates { ask: vector("amd-genoa-ask.der"), ..set.clone() };
    assert!(matches!(check(&successor, &facts), Err(Misfit::Chain(_))));
    assert!(matches!(check(&Certificates { crl: None, ..set }, &facts), Err(Misfit::Chain(_))));
}

#[tokio::test]
async fn a_vlek_comes_from_a_table_and_only_its_issuer_from_kds() {
    let server = amd().await;
    let (_folder, mut sources) = online(&server);
    let facts = milan_vlek_facts();
    assert_eq!(refused(&facts, &sources).await, CertificatesError::NoVlek);
    assert_eq!(paths(&server), ["vlek/v1/Milan/crl"]);

    // No real VLEK is at hand, and one that the issuer never signed is passed over.
    for issuer in ["amd-milan-asvk.der", "amd-turin-asvk.der"] {
        sources.table = table(TABLE_VLEK, &made_up_vlek(issuer), &[]);
        let error = refused(&facts, &sources).await;
        assert!(matches!(error, CertificatesError::Misfit(Misfit::Chain(_))), "{error}");
    }
}

#[tokio::test]
async fn who_is_offline_is_told_what_is_missing_and_what_to_do() {
    let (_folder, sources) = offline();
    assert_eq!(
        refused(&facts(GENOA), &sources).await.to_string(),
        "the VCEK of Genoa chip b1e24a27bbc3a4d5… at TCB 10/0/23/84 is not at hand, and the host is offline by its \
         configuration; fetch the certificates where there is a network (`snpguest fetch`) and give the folder"
    );
}

#[tokio::test]
async fn who_cannot_reach_kds_is_told_the_same() {
    let (_folder, mut sources) = offline();
    sources.kds = Some(kds("http://127.0.0.1:1"));
    sources.cache.keep_issuer(Product::Genoa, EndorsementKey::Vcek, &set(GENOA).ask);
    let error = refused(&facts(GENOA), &sources).await.to_string();
    for part in ["the VCEK of Genoa chip b1e24a27bbc3a4d5…", "http://127.0.0.1:1", "`snpguest fetch`"] {
        assert!(error.contains(part), "`{part}` is not in `{error}`");
    }
}

#[tokio::test]
async fn a_chip_that_kds_does_not_know_is_said_so() {
    let server = amd().await;
    let (_folder, sources) = online(&server);
    let error = refused(&facts("confai-siena"), &sources).await;
    let CertificatesError::Kds(KdsError::Failed { failure, attempts: 1, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(**failure, KdsFailure::NotFound);
}

#[tokio::test]
async fn a_mirror_that_mixes_up_chips_is_noticed_and_not_kept() {
    let server = TestServer::start(|request: &TestRequest| match request.path.as_str() {
        "/vcek/v1/Genoa/cert_chain" => (200, vector("amd-genoa-vcek-ask-ark.pem")),
        "/vcek/v1/Genoa/crl" => (404, Vec::new()),
        _ => (200, vector("confai-siena-vcek.der")),
    })
    .await;
    let (_folder, sources) = online(&server);
    assert_eq!(refused(&facts(GENOA), &sources).await, CertificatesError::Misfit(Misfit::Chip));
    assert_eq!(sources.cache.vcek(&vcek(&facts(GENOA))), None);
}

#[tokio::test]
async fn a_masked_chip_has_no_vcek_to_ask_for() {
    let server = amd().await;
    let (_folder, sources) = online(&server);
    let masked = ReportFacts { chip_id: [0; 64], ..facts(GENOA) };
    assert_eq!(refused(&masked, &sources).await, CertificatesError::Vcek(VcekIdError::Masked));
    assert_eq!(paths(&server), ["vcek/v1/Genoa/crl"]);
}
