//! Beacon nodes behind the proxy that lies, in front of the embedded chain: what is believed, and where an exit goes.

use crate::chain::beacon::{BeaconNodes, ExitOutcome, Found, StateId, ValidatorStatus};
use crate::chain::url::NodeUrl;
use postern_devnet::beacon::chain::genesis_key;
use postern_devnet::liar::{BeaconLie, Liar, Lie};
use postern_devnet::{Clock, Config, Devnet};
use postern_shared::bls::{ETHEREUM_DST, G1, G2, PublicKey};
use postern_shared::ethereum::{ForkVersion, Network, Root, SignedVoluntaryExit, VoluntaryExit};

/// Of the validators that are there from the beginning, the one that is asked about.
const INDEX: u64 = 3;
/// Enough slots for finality to be further than nodes may be behind.
const SLOTS: u64 = 64;
const STRANGER: PublicKey = PublicKey([0xcd; 48]);

struct Bench {
    devnet: Devnet,
    liar: Liar,
    network: Network,
}

impl Bench {
    async fn start() -> Self {
        let config = Config { clock: Clock::Manual, ..Config::default() };
        let [genesis, capella] = [config.genesis_fork_version, config.capella_fork_version].map(ForkVersion);
        let chain_id = config.chain_id;
        let devnet = Devnet::start(config).await.unwrap();
        devnet.advance(SLOTS);
        let liar = Liar::start(&devnet.execution_url(), &devnet.beacon_url()).await.unwrap();
        let network = Network {
            chain_id,
            genesis_fork_version: genesis,
            capella_fork_version: capella,
            genesis_validators_root: Root(devnet.genesis_validators_root()),
        };
        Self { devnet, liar, network }
    }

    fn over(&self, urls: &[String]) -> BeaconNodes {
        let urls: Vec<NodeUrl> = urls.iter().map(|url| NodeUrl::parse(url).unwrap()).collect();
        BeaconNodes::new(&urls, self.network).unwrap()
    }

    /// One node that lies in this way, and so many that do not.
    fn beside(&self, lie: &Lie, honest: usize) -> BeaconNodes {
        self.liar.set("liar", vec![lie.clone()]);
        let names =
            std::iter::once("liar".to_owned()).chain((0..honest).map(|node| format!("honest-{node}")));
        self.over(&names.map(|name| self.liar.url(&name)).collect::<Vec<_>>())
    }

    fn exit(&self) -> SignedVoluntaryExit {
        let message = VoluntaryExit { epoch: 0, validator_index: INDEX };
        let Network { capella_fork_version, genesis_validators_root, .. } = self.network;
        let root = message.signing_root(capella_fork_version, genesis_validators_root);
        let signature = (G2::hash(&root.0, ETHEREUM_DST) * &genesis_key(INDEX)).encode();
        SignedVoluntaryExit { message, signature }
    }
}

fn key() -> PublicKey {
    (G1::generator() * &genesis_key(INDEX)).encode()
}

/// What is believed beside one honest node (`None`: nothing), and whether the liar is named. Beside two, it is always the truth.
#[tokio::test]
async fn one_node_that_lies_makes_nobody_believe_it() {
    let bench = Bench::start().await;
    let beacon = Lie::Beacon;
    let cases = [
        (Lie::HtmlNotFound, true, true),
        (Lie::Status(503), true, true),
        (Lie::Truncated, true, true),
        (beacon(BeaconLie::StateNotFound), true, true),
        (beacon(BeaconLie::ValidatorNotFound), true, true),
        (beacon(BeaconLie::OtherIndex(1000)), true, true),
        (beacon(BeaconLie::Syncing), true, true),
        (beacon(BeaconLie::Optimistic), true, true),
        (beacon(BeaconLie::NumberIndex), true, true),
        (beacon(BeaconLie::WrongNetwork), true, true),
        (beacon(BeaconLie::NoPost), true, false),
        (beacon(BeaconLie::HeadSays("active_exiting")), true, false),
        (beacon(BeaconLie::FinalSays("withdrawal_done")), true, false),
        (beacon(BeaconLie::OtherCredentials), false, true),
    ];
    for (lie, is_believed, is_named) in cases {
        for honest in [1, 2] {
            let nodes = bench.beside(&lie, honest);
            let found = nodes.validators(StateId::Finalized, &[key(), STRANGER]).await.unwrap();
            match &found[&key()] {
                Found::There(validator, _) => {
                    assert!(is_believed || honest == 2, "{lie:?} beside {honest}");
                    let seen = (validator.index, validator.status);
                    assert_eq!(seen, (INDEX, ValidatorStatus::ActiveOngoing), "{lie:?} beside {honest}");
                }
                other => assert!(!is_believed && honest == 1, "{lie:?} beside {honest}: {other:?}"),
            }
            assert_eq!(found[&STRANGER], Found::NotThere, "{lie:?} beside {honest}");
            let wrong = nodes.standings().remove(0).wrong;
            assert_eq!(wrong.is_some(), is_named, "{lie:?} beside {honest}: {wrong:?}");
        }
    }
    let nodes = bench.beside(&beacon(BeaconLie::Behind(8)), 2);
    nodes.check().await;
    let wrong = nodes.standings().remove(0).wrong;
    assert!(wrong.is_some_and(|wrong| wrong.contains("is behind")));
}

#[tokio::test]
async fn an_exit_gets_on_the_chain_through_the_node_that_does_not_refuse_or_swallow_it() {
    let bench = Bench::start().await;
    let teku = "Exit is not the first one for validator 3.";
    let cases = [
        (BeaconLie::SwallowExit, true),
        (BeaconLie::ExitSays(400, teku), true),
        (BeaconLie::ExitSays(400, "no"), false),
    ];
    for (lie, is_taken) in cases {
        let nodes = bench.beside(&Lie::Beacon(lie.clone()), 1);
        nodes.check().await;
        let names = nodes.names();
        let liars = nodes.post_exit(&names[0], &bench.exit()).await.unwrap();
        assert_eq!(liars == ExitOutcome::Taken, is_taken, "{lie:?}");
        assert_eq!(nodes.post_exit(&names[1], &bench.exit()).await, Ok(ExitOutcome::Taken), "{lie:?}");
    }
    bench.devnet.advance(1);
    let nodes = bench.over(&[bench.liar.url("honest-0")]);
    let seen = nodes.validator(StateId::Head, &key()).await.unwrap().unwrap();
    assert_eq!(seen.status, ValidatorStatus::ActiveExiting);
}

/// Scene J: providers' keys in the query, on every request.
#[tokio::test]
async fn a_provider_that_wants_its_key_in_the_query_gets_it_on_every_request() {
    let bench = Bench::start().await;
    bench.liar.set("provider", vec![Lie::NeedsQuery("apikey=SECRET")]);
    let url = bench.liar.url("provider");
    let nodes = bench.over(&[format!("{url}?apikey=SECRET")]);
    assert!(nodes.validator(StateId::Finalized, &key()).await.unwrap().is_some());
    assert!(nodes.pending_deposits(&[key()].into()).await.unwrap().is_empty());
    assert_eq!(nodes.post_exit(&nodes.names()[0], &bench.exit()).await, Ok(ExitOutcome::Taken));
    let without = bench.over(&[url]);
    assert!(without.validator(StateId::Finalized, &key()).await.is_err());
}
