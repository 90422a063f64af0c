//! The host's beacon side against a node that is not ours: Lodestar, on its minimal preset.
//!
//! Slow; needs `npm ci --ignore-scripts --prefix tests/peers/beacon` first. Fails when the node is missing.

use super::peer::{Peer, installed};
use postern_host::chain::beacon::{
    BeaconError, BeaconNodes, ExitOutcome, ExitRefusal, StateId, ValidatorStatus,
};
use postern_host::chain::url::NodeUrl;
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

fn over(urls: &[&str], network: Network) -> BeaconNodes {
    let urls: Vec<NodeUrl> = urls.iter().map(|url| NodeUrl::parse(url).expect("a URL")).collect();
    BeaconNodes::new(&urls, network).expect("nodes")
}

async fn refusal(nodes: &BeaconNodes, exit: &SignedVoluntaryExit) -> ExitRefusal {
    match nodes.post_exit(&nodes.names()[0], exit).await {
        Ok(ExitOutcome::Refused(refusal)) => refusal,
        other => panic!("the exit should be refused: {other:?}"),
    }
}

/// Asks until the validator has the status, or is beyond it.
async fn follow(nodes: &BeaconNodes, state: StateId, status: ValidatorStatus, patience: Duration) {
    let started = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let validator = match nodes.validator(state, &pubkey(LEAVING)).await {
            Ok(validator) => validator.expect("it is still there"),
            // A busy node does not always answer in time, and is left alone for a while then.
            Err(BeaconError::NoneFit(_)) if started.elapsed() < patience => continue,
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
    let network = node.network().await;
    let nodes = over(&[&node.url], network);

    identity(&node, &network).await;
    validators(&nodes, &node, &network).await;
    refusals(&nodes, &node, &network).await;

    // One node that is down keeps nothing from happening; a repetition is no failure.
    let with_one_down = over(&[DOWN, &node.url], network);
    let good = exit(&network, LEAVING, node.epoch().await, LEAVING);
    for _ in 0..2 {
        let posted = with_one_down.post_exit(&with_one_down.names()[1], &good).await;
        assert_eq!(posted, Ok(ExitOutcome::Taken));
        with_one_down.post_exit(DOWN, &good).await.expect_err("nobody is there");
    }
    let exiting = ValidatorStatus::ActiveExiting;
    follow(&with_one_down, StateId::Head, exiting, 4 * EPOCH).await;
    let again = nodes.post_exit(&nodes.names()[0], &good).await;
    assert_eq!(again, Ok(ExitOutcome::Taken), "the same exit, when the validator is leaving already");
    println!("leaving in the head state in epoch {}", node.epoch().await);
    follow(&nodes, StateId::Finalized, exiting, 8 * EPOCH).await;
    println!("leaving in the finalised state in epoch {}", node.epoch().await);

    drop(node);
    let gone = nodes.validator(StateId::Head, &pubkey(LEAVING)).await;
    assert!(matches!(gone, Err(BeaconError::NoneFit(_))), "the node should be gone: {gone:?}");
}

/// The node is of our network, and of no other.
async fn identity(node: &BeaconNode, network: &Network) {
    assert_eq!(network.capella_fork_version, ForkVersion([3, 0, 0, 1]), "the minimal preset's");
    let check = async |network: Network| over(&[&node.url], network).check().await;
    let (_, why) = check(*network).await.remove(0);
    assert_eq!(why, None);
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
        let (_, why) = check(other).await.remove(0);
        let error = why.expect(differs).to_string();
        assert!(error.contains(&format!("its {differs} is {ours}")), "{error}");
    }
}

/// Every interop validator by its key, in the head and in the finalised state, and none that is not there.
async fn validators(nodes: &BeaconNodes, node: &BeaconNode, network: &Network) {
    let stranger = pubkey(VALIDATORS);
    for state in [StateId::Head, StateId::Finalized] {
        for index in 0..VALIDATORS {
            let found = nodes.validator(state, &pubkey(index)).await.expect("an answer");
            let known = found.map(|found| (found.index, found.status));
            assert_eq!(known, Some((index, ValidatorStatus::ActiveOngoing)));
        }
        assert_eq!(nodes.validator(state, &stranger).await.expect("an answer"), None);
    }
    let nobody = over(&[DOWN], *network);
    let down = nobody.validator(StateId::Head, &stranger).await;
    assert!(matches!(down, Err(BeaconError::NoneFit(_))), "`not there` is not `not known`: {down:?}");
    // What is not the API at all.
    let elsewhere = over(&[&format!("{}/elsewhere", node.url)], *network);
    let found = elsewhere.validator(StateId::Head, &stranger).await;
    assert!(matches!(found, Err(BeaconError::NoneFit(_))), "{found:?}");
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
    assert!(!early.is_success());

    let unknown = refusal(nodes, &exit(network, VALIDATORS, epoch, VALIDATORS)).await;
    println!("an exit of a validator that is not there: {unknown}");
    assert!(!unknown.is_success() && unknown != ExitRefusal::InvalidSignature);

    for key in [LEAVING, LEAVING + 1] {
        let validator = nodes.validator(StateId::Head, &pubkey(key)).await.expect("an answer");
        assert_eq!(validator.map(|validator| validator.status), Some(ValidatorStatus::ActiveOngoing));
    }
}
