//! The host's beacon side against a node that is not ours: Lodestar, on its minimal preset.
//!
//! Slow; needs `npm ci --ignore-scripts --prefix tests/peers/beacon` first. Fails when the node is missing.

use super::peer::{Peer, installed};
use postern_host::chain::beacon::{BeaconError, BeaconNodes, ExitRefusal, Validator, ValidatorStatus};
use postern_shared::bls::{ETHEREUM_DST, G1, G2, PublicKey, Scalar};
use postern_shared::ethereum::{ForkVersion, Network, Root, SignedVoluntaryExit, VoluntaryExit};
use serde_json::Value;
use sha2::Digest;
use std::path::Path;
use std::time::{Duration, Instant};

/// As many validators as the node has.
const VALIDATORS: u64 = 16;
/// The one that leaves.
const LEAVING: u64 = 5;
/// Minimal preset: eight slots of two seconds.
const EPOCH: Duration = Duration::from_secs(16);
/// Where no node is.
const DOWN: &str = "http://127.0.0.1:1";

struct BeaconNode {
    url: String,
    _peer: Peer,
    _folder: tempfile::TempDir,
}

impl BeaconNode {
    fn start() -> Self {
        installed("beacon", "node_modules/@chainsafe/lodestar");
        let folder = tempfile::tempdir().expect("a directory");
        let (script, directory) = (installed("beacon", "start.mjs"), folder.path().display().to_string());
        let arguments = [script.to_str().expect("a path in UTF-8"), &directory];
        // The script has its own, shorter patience, and more to say.
        let patience = Duration::from_secs(180);
        let (peer, ready) = Peer::start(Path::new("node"), &arguments, patience, |line| {
            serde_json::from_str::<Value>(line).ok()
        });
        println!("Lodestar's first block after {} ms", ready["ready_ms"]);
        let url = ready["url"].as_str().expect("a URL").to_owned();
        Self { url, _peer: peer, _folder: folder }
    }

    /// Asks the node itself, past the host's code.
    async fn get(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("{}/eth/v1/{path}", self.url)).await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["data"].take()
    }

    async fn network(&self) -> Network {
        let (genesis, spec) = (self.get("beacon/genesis").await, self.get("config/spec").await);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Network {
            chain_id: text(&spec["DEPOSIT_CHAIN_ID"]).parse().expect("a number"),
            genesis_fork_version: text(&genesis["genesis_fork_version"]).parse().expect("a version"),
            capella_fork_version: text(&spec["CAPELLA_FORK_VERSION"]).parse().expect("a version"),
            genesis_validators_root: text(&genesis["genesis_validators_root"]).parse().expect("a root"),
        }
    }

    async fn epoch(&self) -> u64 {
        let head = self.get("beacon/headers/head").await;
        let slot: u64 = head["header"]["message"]["slot"].as_str().expect("text").parse().expect("a number");
        slot / 8
    }
}

/// The key of an interop validator: SHA-256 of its little-endian number, as a little-endian integer.
fn interop_key(index: u64) -> Scalar {
    let mut number = [0; 32];
    number[..8].copy_from_slice(&index.to_le_bytes());
    let mut wide = [0; 64];
    wide[..32].copy_from_slice(&sha2::Sha256::digest(number));
    Scalar::from_wide(&wide)
}

fn pubkey(index: u64) -> PublicKey {
    (G1::generator() * &interop_key(index)).encode()
}

fn exit(network: &Network, key: u64, epoch: u64, validator_index: u64) -> SignedVoluntaryExit {
    let message = VoluntaryExit { epoch, validator_index };
    let root = message.signing_root(network.capella_fork_version, network.genesis_validators_root);
    let signature = (G2::hash(&root.0, ETHEREUM_DST) * &interop_key(key)).encode();
    SignedVoluntaryExit { message, signature }
}

async fn refusal(nodes: &BeaconNodes, exit: &SignedVoluntaryExit) -> ExitRefusal {
    match nodes.post_exit(exit).await {
        Err(BeaconError::ExitRefused { refusal, .. }) => refusal,
        other => panic!("the exit should be refused: {other:?}"),
    }
}

/// Asks until the validator has the status, or is beyond it.
async fn follow<A>(status: ValidatorStatus, patience: Duration, ask: impl Fn() -> A)
where
    A: Future<Output = Result<Option<Validator>, BeaconError>>,
{
    let started = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let validator = match ask().await {
            Ok(validator) => validator.expect("it is still there"),
            // A busy node does not always answer in time.
            Err(BeaconError::AllDown(_)) if started.elapsed() < patience => continue,
            Err(error) => panic!("no answer: {error}"),
        };
        assert_eq!(validator.index, LEAVING);
        if validator.status >= status {
            return;
        }
        assert!(started.elapsed() < patience, "still {} after {patience:?}", validator.status);
    }
}

/// One test, because the node takes its time to start.
#[tokio::test]
#[ignore = "slow: needs Lodestar from npm; run by the slow suites"]
async fn an_exit_is_posted_to_lodestar_and_followed_until_it_is_final() {
    let node = BeaconNode::start();
    let nodes = BeaconNodes::new(std::slice::from_ref(&node.url)).expect("a URL");
    let network = node.network().await;

    identity(&nodes, &network).await;
    validators(&nodes, &node).await;
    refusals(&nodes, &node, &network).await;

    // One node that is down keeps nothing from happening; a repetition is no failure.
    let with_one_down = BeaconNodes::new(&[DOWN.to_owned(), node.url.clone()]).expect("URLs");
    let good = exit(&network, LEAVING, node.epoch().await, LEAVING);
    for _ in 0..2 {
        let posted = with_one_down.post_exit(&good).await.expect("a good exit");
        assert_eq!((posted.accepted, posted.refused), (vec![node.url.clone()], vec![]));
    }
    let key = pubkey(LEAVING);
    follow(ValidatorStatus::ActiveExiting, 4 * EPOCH, || nodes.head_validator(&key)).await;
    assert!(nodes.post_exit(&good).await.is_ok(), "the same exit, when the validator is leaving already");
    println!("leaving in the head state in epoch {}", node.epoch().await);
    follow(ValidatorStatus::ActiveExiting, 8 * EPOCH, || nodes.finalized_validator(&key)).await;
    println!("leaving in the finalised state in epoch {}", node.epoch().await);

    drop(node);
    let gone = nodes.head_validator(&key).await;
    assert!(matches!(gone, Err(BeaconError::AllDown(_))), "the node should be gone: {gone:?}");
}

/// The node is of our network, and of no other.
async fn identity(nodes: &BeaconNodes, network: &Network) {
    assert_eq!(network.capella_fork_version, ForkVersion([3, 0, 0, 1]), "the minimal preset's");
    nodes.check_network(network).await.expect("our own network");
    let others = [
        (
            "genesis_validators_root",
            Network { genesis_validators_root: Root([1; 32]), ..*network },
            network.genesis_validators_root.to_string(),
        ),
        (
            "genesis_fork_version",
            Network { genesis_fork_version: ForkVersion([9; 4]), ..*network },
            network.genesis_fork_version.to_string(),
        ),
        (
            "CAPELLA_FORK_VERSION",
            Network { capella_fork_version: ForkVersion([9; 4]), ..*network },
            network.capella_fork_version.to_string(),
        ),
    ];
    for (differs, other, ours) in others {
        match nodes.check_network(&other).await {
            Err(BeaconError::WrongNetwork { field, found, .. }) => {
                assert_eq!((field, found), (differs, ours));
            }
            result => panic!("another {differs}: {result:?}"),
        }
    }
}

/// Every interop validator by its key, in the head and in the finalised state, and none that is not there.
async fn validators(nodes: &BeaconNodes, node: &BeaconNode) {
    for index in 0..VALIDATORS {
        let expected = Some((index, ValidatorStatus::ActiveOngoing));
        let known = |found: Option<Validator>| found.map(|found| (found.index, found.status));
        let key = pubkey(index);
        assert_eq!(known(nodes.head_validator(&key).await.expect("an answer")), expected);
        assert_eq!(known(nodes.finalized_validator(&key).await.expect("an answer")), expected);
    }
    let stranger = pubkey(VALIDATORS);
    assert_eq!(nodes.head_validator(&stranger).await.expect("an answer"), None);
    assert_eq!(nodes.finalized_validator(&stranger).await.expect("an answer"), None);

    let nobody = BeaconNodes::new(&[DOWN.to_owned()]).expect("a URL");
    let down = nobody.head_validator(&stranger).await;
    assert!(matches!(down, Err(BeaconError::AllDown(_))), "`not there` is not `not known`: {down:?}");
    // What is not the API at all.
    let elsewhere = BeaconNodes::new(&[format!("{}/elsewhere", node.url)]).expect("a URL");
    let network = elsewhere.check_network(&node.network().await).await;
    assert!(matches!(network, Err(BeaconError::AllDown(_))), "{network:?}");
}

/// What a node must not take, it does not, and we understand why.
async fn refusals(nodes: &BeaconNodes, node: &BeaconNode, network: &Network) {
    let epoch = node.epoch().await;
    let wrong_key = exit(network, LEAVING + 1, epoch, LEAVING);
    assert_eq!(refusal(nodes, &wrong_key).await, ExitRefusal::InvalidSignature);

    let bellatrix = Network { capella_fork_version: ForkVersion([2, 0, 0, 1]), ..*network };
    let wrong_fork = exit(&bellatrix, LEAVING, epoch, LEAVING);
    assert_eq!(refusal(nodes, &wrong_fork).await, ExitRefusal::InvalidSignature);

    let elsewhere = Network { genesis_validators_root: Root([1; 32]), ..*network };
    let wrong_network = exit(&elsewhere, LEAVING, epoch, LEAVING);
    assert_eq!(refusal(nodes, &wrong_network).await, ExitRefusal::InvalidSignature);

    // Lodestar's pool does not say what exactly is invalid, so we must not read more into it: it may be taken later.
    let early = refusal(nodes, &exit(network, LEAVING, epoch + 1_000, LEAVING)).await;
    assert_eq!(early, ExitRefusal::Other("VOLUNTARY_EXIT_ERROR_INVALID".to_owned()));
    assert!(early.is_transient() && !early.is_success());

    let unknown = refusal(nodes, &exit(network, VALIDATORS, epoch, VALIDATORS)).await;
    println!("an exit of a validator that is not there: {unknown}");
    assert!(!unknown.is_success() && unknown != ExitRefusal::InvalidSignature);

    for key in [LEAVING, LEAVING + 1] {
        let validator = nodes.head_validator(&pubkey(key)).await.expect("an answer");
        assert_eq!(validator.map(|validator| validator.status), Some(ValidatorStatus::ActiveOngoing));
    }
}
