//! The host's beacon side against a node that is not ours: Lodestar, on its minimal preset.
//!
//! Slow; needs `npm ci --ignore-scripts --prefix tests/peers/beacon` first. Fails when the node is missing.

use postern_host::chain::beacon::{BeaconError, BeaconNodes, ExitRefusal, ValidatorStatus};
use postern_shared::bls::{ETHEREUM_DST, G1, G2, PublicKey, Scalar};
use postern_shared::ethereum::{ForkVersion, Network, Root, SignedVoluntaryExit, VoluntaryExit};
use serde_json::Value;
use sha2::Digest;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Capella's version on the minimal preset.
const CAPELLA: ForkVersion = ForkVersion([3, 0, 0, 1]);

/// Ends with the test: its start script ends with its standard input.
struct BeaconNode {
    process: Child,
    input: Option<ChildStdin>,
    url: String,
    genesis: Value,
}

impl Drop for BeaconNode {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

impl BeaconNode {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/beacon");
        let lodestar = folder.join("node_modules/@chainsafe/lodestar");
        assert!(
            lodestar.exists(),
            "Lodestar is missing: run `npm ci --ignore-scripts --prefix tests/peers/beacon` first"
        );
        let held: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<String> =
            held.iter().map(|port| port.local_addr().unwrap().port().to_string()).collect();
        drop(held);
        let mut process = Command::new("node")
            .arg("start.mjs")
            .args(ports)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed for this test");
        let input = process.stdin.take();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the beacon node starts");
        let url = ready["url"].as_str().unwrap().to_owned();
        Self { process, input, url, genesis: ready["genesis"].clone() }
    }

    fn network(&self) -> Network {
        let field = |name: &str| self.genesis[name].as_str().unwrap().to_owned();
        Network {
            chain_id: 1,
            genesis_fork_version: field("genesis_fork_version").parse().unwrap(),
            capella_fork_version: CAPELLA,
            genesis_validators_root: field("genesis_validators_root").parse().unwrap(),
        }
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

fn exit(network: &Network, key: &Scalar, message: VoluntaryExit) -> SignedVoluntaryExit {
    let root = message.signing_root(network.capella_fork_version, network.genesis_validators_root);
    SignedVoluntaryExit { message, signature: (G2::hash(&root.0, ETHEREUM_DST) * key).encode() }
}

async fn refusal(nodes: &BeaconNodes, exit: &SignedVoluntaryExit) -> ExitRefusal {
    match nodes.post_exit(exit).await {
        Err(BeaconError::ExitRefused { refusal, .. }) => refusal,
        other => panic!("the exit should be refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: needs Lodestar from npm; run by the slow suites"]
async fn an_exit_is_posted_to_lodestar_and_followed() {
    let node = BeaconNode::start();
    let network = node.network();
    let nodes = BeaconNodes::new(std::slice::from_ref(&node.url)).unwrap();

    nodes.check_network(&network).await.unwrap();
    let others = [
        Network { genesis_validators_root: Root([1; 32]), ..network },
        Network { genesis_fork_version: ForkVersion([9; 4]), ..network },
        Network { capella_fork_version: ForkVersion([9; 4]), ..network },
    ];
    for other in others {
        let refused = nodes.check_network(&other).await;
        assert!(matches!(refused, Err(BeaconError::WrongNetwork { .. })), "{refused:?}");
    }

    let index = 5;
    let validator = nodes.head_validator(&pubkey(index)).await.unwrap().expect("an interop validator");
    assert_eq!((validator.index, validator.status), (index, ValidatorStatus::ActiveOngoing));
    let finalised =
        nodes.finalized_validator(&pubkey(index)).await.unwrap().expect("it is there from genesis");
    assert_eq!(finalised.index, index);
    assert_eq!(nodes.head_validator(&pubkey(1_000)).await.unwrap(), None);

    // Refusals, in the node's own words and status.
    let message = VoluntaryExit { epoch: 0, validator_index: index };
    let wrong_key = exit(&network, &interop_key(6), message);
    assert_eq!(refusal(&nodes, &wrong_key).await, ExitRefusal::InvalidSignature);
    let wrong_fork = Network { capella_fork_version: ForkVersion([2, 0, 0, 1]), ..network };
    let wrong_fork = exit(&wrong_fork, &interop_key(index), message);
    assert_eq!(refusal(&nodes, &wrong_fork).await, ExitRefusal::InvalidSignature);
    let future = exit(&network, &interop_key(index), VoluntaryExit { epoch: 1_000_000, ..message });
    let refused = refusal(&nodes, &future).await;
    assert!(!refused.is_success() && refused != ExitRefusal::InvalidSignature, "{refused:?}");

    // The good one, twice: a repetition is no failure.
    let good = exit(&network, &interop_key(index), message);
    assert_eq!(nodes.post_exit(&good).await.unwrap().accepted.len(), 1);
    assert_eq!(nodes.post_exit(&good).await.unwrap().accepted.len(), 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let validator = nodes.head_validator(&pubkey(index)).await.unwrap().expect("it is still there");
        if validator.status == ValidatorStatus::ActiveExiting {
            break;
        }
        assert!(Instant::now() < deadline, "still {}", validator.status);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
