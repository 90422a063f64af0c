//! Nodes that answer wrongly or not at all, in front of the embedded chains: who is named, and whether a host begins.

use super::*;
use crate::chain::url::NodeUrl;
use crate::demo::contracts::Treasury;
use alloy::primitives::{U256, keccak256};
use alloy::signers::local::PrivateKeySigner;
use postern_devnet::liar::{BeaconLie, ExecutionLie, Liar, Lie};
use postern_devnet::{Clock, Config as ChainConfig, Devnet};
use postern_shared::ethereum::{ForkVersion, Network, Root};
use postern_shared::ids::{Address, Digest};
use std::time::Duration;

const OWNER: [u8; 32] = [0x11; 32];
const GOVERNORS: [[u8; 32]; 3] = [[0x33; 32], [0x34; 32], [0x35; 32]];
/// Nodes of each layer.
const NODES: usize = 3;

struct Bench {
    _devnet: Devnet,
    liar: Liar,
    network: Network,
    contracts: Contracts,
}

impl Bench {
    async fn start() -> Self {
        let owner = PrivateKeySigner::from_bytes(&OWNER.into()).unwrap();
        let prefunded = vec![(owner.address(), U256::from(10).pow(U256::from(21)))];
        let config = ChainConfig {
            clock: Clock::Interval,
            slot: Duration::from_millis(20),
            prefunded,
            ..ChainConfig::default()
        };
        let (chain_id, deposit) = (config.chain_id, config.deposit_contract);
        let (genesis, capella) = (config.genesis_fork_version, config.capella_fork_version);
        let devnet = Devnet::start(config).await.unwrap();
        let wallets =
            GOVERNORS.map(|key| PrivateKeySigner::from_bytes(&key.into()).unwrap().address()).to_vec();
        let treasury =
            Treasury::deploy(&devnet.execution_url(), chain_id, owner, deposit, wallets).await.unwrap();
        let contracts = Contracts {
            pool_manager: Address(treasury.pool_manager().into_array()),
            pool_code: Digest(treasury.pool_code().await.unwrap().0),
            start_block: treasury.deployed_in(),
            deposit: Address(deposit.into_array()),
        };
        let network = Network {
            chain_id,
            genesis_fork_version: ForkVersion(genesis),
            capella_fork_version: ForkVersion(capella),
            genesis_validators_root: Root(devnet.genesis_validators_root()),
        };
        let liar = Liar::start(&devnet.execution_url(), &devnet.beacon_url()).await.unwrap();
        Self { _devnet: devnet, liar, network, contracts }
    }

    /// What is found if these nodes lie so, of both layers together: `e0` is the first execution node.
    async fn survey(&self, lies: &[(&str, Lie)], contracts: &[Contracts]) -> Survey {
        let urls = |layer: &str| -> Vec<NodeUrl> {
            let names = (0..NODES).map(|position| format!("{layer}{position}"));
            names
                .map(|name| {
                    let told = lies.iter().filter(|(of, _)| *of == name).map(|(_, lie)| lie.clone());
                    self.liar.set(&name, told.collect::<Vec<_>>());
                    NodeUrl::parse(&format!("{}?key=SECRET", self.liar.url(&name))).unwrap()
                })
                .collect()
        };
        let execution = Execution::new(&urls("e"), self.network.chain_id, Profile::default()).unwrap();
        let beacon = BeaconNodes::new(&urls("b"), self.network).unwrap();
        Survey::make(&execution, &beacon, contracts).await
    }
}

fn selector(signature: &str) -> [u8; 4] {
    let hash = keccak256(signature);
    [hash[0], hash[1], hash[2], hash[3]]
}

#[tokio::test]
async fn every_node_that_answers_wrongly_is_named_and_only_a_majority_keeps_a_host_from_beginning() {
    let bench = Bench::start().await;
    let chain = || Lie::Execution(ExecutionLie::WrongChain(5));
    let call = |signature: &str, answer: &[u8]| {
        Lie::Execution(ExecutionLie::CallSays(selector(signature), answer.to_vec()))
    };
    let deposit = || call("depositContract()", &[&[0; 12][..], &[0xee; 20]].concat());
    let code = || call("poolCodeHash()", &[0xcc; 32]);
    let nothing = || call("poolCodeHash()", &[]);
    let network = || Lie::Beacon(BeaconLie::WrongNetwork);
    let down = || Lie::Status(503);
    // Who lies how; who is named as wrong, with a word of it; who does not answer; whether a host begins, waits or gives up.
    type Case<'a> = (Vec<(&'a str, Lie)>, Vec<(&'a str, &'a str)>, Vec<&'a str>, Option<bool>);
    let cases: Vec<Case> = vec![
        (vec![], vec![], vec![], Some(true)),
        (vec![("e1", chain())], vec![("execution.urls[1]", "is of chain 5")], vec![], Some(true)),
        (vec![("e2", deposit())], vec![("execution.urls[2]", "deposits at 0xeeee")], vec![], Some(true)),
        (vec![("e0", code())], vec![("execution.urls[0]", "by code 0xcccc")], vec![], Some(true)),
        (vec![("e0", nothing())], vec![("execution.urls[0]", "`poolCodeHash`")], vec![], Some(true)),
        (vec![("b1", network())], vec![("beacon.urls[1]", "another network")], vec![], Some(true)),
        (vec![("b0", Lie::HtmlNotFound)], vec![("beacon.urls[0]", "status 404")], vec![], Some(true)),
        (
            vec![("e0", down()), ("b2", down())],
            vec![],
            vec!["execution.urls[0]", "beacon.urls[2]"],
            Some(true),
        ),
        // One of each kind at once.
        (
            vec![("e0", chain()), ("e1", deposit()), ("b0", network()), ("b1", down())],
            vec![
                ("execution.urls[0]", "is of chain 5"),
                ("execution.urls[1]", "deposits at"),
                ("beacon.urls[0]", "another network"),
            ],
            vec!["beacon.urls[1]"],
            Some(true),
        ),
        // None is right, and most are wrong: there is nothing to wait for.
        (
            vec![("e0", chain()), ("e1", code()), ("e2", down()), ("b2", network())],
            vec![
                ("execution.urls[0]", "is of chain 5"),
                ("execution.urls[1]", "by code"),
                ("beacon.urls[2]", "another network"),
            ],
            vec!["execution.urls[2]"],
            None,
        ),
        (
            vec![("b0", network()), ("b1", network()), ("b2", network())],
            vec![
                ("beacon.urls[0]", "another network"),
                ("beacon.urls[1]", "another network"),
                ("beacon.urls[2]", "another network"),
            ],
            vec![],
            None,
        ),
        // Those that are down may be right.
        (
            vec![("e0", chain()), ("e1", down()), ("e2", down())],
            vec![("execution.urls[0]", "is of chain 5")],
            vec!["execution.urls[1]", "execution.urls[2]"],
            Some(false),
        ),
    ];
    for (lies, wrong, silent, begins) in cases {
        let survey = bench.survey(&lies, std::slice::from_ref(&bench.contracts)).await;
        let shown = survey.to_string();
        assert!(!shown.contains("SECRET"), "{shown}");
        assert_eq!(survey.is_good(), lies.is_empty(), "{lies:?}: {shown}");
        let named: Vec<&str> = survey.faults().map(|fault| fault.field.as_str()).collect();
        assert_eq!(named, wrong.iter().map(|(field, _)| *field).collect::<Vec<_>>(), "{lies:?}: {shown}");
        for (fault, (_, word)) in survey.faults().zip(&wrong) {
            assert!(fault.to_string().contains(word), "{fault}");
        }
        let unanswered: Vec<&str> = survey.unanswered().map(|fault| fault.field.as_str()).collect();
        assert_eq!(unanswered, silent, "{lies:?}: {shown}");
        match survey.or_give_up() {
            Ok(survey) => assert_eq!(Some(survey.may_begin()), begins, "{lies:?}"),
            Err(WrongNodes(faults)) => {
                assert_eq!(begins, None, "{lies:?}");
                assert_eq!(faults.len(), wrong.len(), "all of both layers: {lies:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_the_manifests_say_of_contracts_is_held_against_the_chain() {
    let bench = Bench::start().await;
    let good = || bench.contracts.clone();
    let nobody = Address([0x77; 20]);
    let cases = [
        (vec![Contracts { pool_manager: nobody, ..good() }], "there is no contract at 0x7777"),
        // A contract, and no pool manager.
        (vec![Contracts { pool_manager: good().deposit, ..good() }], "`depositContract`"),
        (vec![Contracts { deposit: nobody, ..good() }], "deposits at"),
        (vec![Contracts { pool_code: Digest([7; 32]), ..good() }], "by code"),
    ];
    for (contracts, word) in cases {
        let survey = bench.survey(&[], &contracts).await;
        let faults: Vec<String> = survey.faults().map(ToString::to_string).collect();
        assert_eq!(faults.len(), NODES, "{word}: {faults:?}");
        assert!(faults.iter().all(|fault| fault.contains(word)), "{word}: {faults:?}");
        assert!(survey.or_give_up().is_err());
    }
}

#[tokio::test]
async fn a_start_block_that_is_too_late_and_earlier_pool_managers_keep_nobody_from_beginning() {
    let bench = Bench::start().await;
    let good = || bench.contracts.clone();
    let nobody = || Contracts { pool_manager: Address([0x77; 20]), ..good() };
    let cases = [
        (vec![Contracts { start_block: 1 << 40, ..good() }], "start_block"),
        (vec![good(), nobody()], "there is no contract at 0x7777"),
    ];
    for (contracts, word) in cases {
        let survey = bench.survey(&[], &contracts).await.or_give_up().unwrap();
        assert!(survey.is_good() && survey.may_begin(), "{word}: {survey}");
        let remarks: Vec<String> = survey.remarks().map(ToString::to_string).collect();
        assert_eq!(remarks.len(), NODES, "{word}: {remarks:?}");
        assert!(remarks.iter().all(|remark| remark.contains(word)), "{word}: {remarks:?}");
    }
}

#[tokio::test]
async fn beacon_nodes_that_are_being_mended_are_waited_for() {
    let bench = Bench::start().await;
    let broken = || vec![("b0", Lie::HtmlNotFound), ("b1", Lie::Status(403)), ("b2", Lie::HtmlNotFound)];
    let survey = bench.survey(&broken(), std::slice::from_ref(&bench.contracts)).await;
    assert_eq!(survey.faults().count(), NODES, "{survey}");
    assert!(survey.or_give_up().unwrap().may_begin());
}

#[tokio::test]
async fn a_node_with_another_pool_manager_stays_named_until_it_has_the_right_one() {
    let bench = Bench::start().await;
    let code = Lie::Execution(ExecutionLie::CallSays(selector("poolCodeHash()"), vec![0xcc; 32]));
    bench.liar.set("e0", vec![code]);
    let url = NodeUrl::parse(&bench.liar.url("e0")).unwrap();
    let execution = Execution::new(&[url], bench.network.chain_id, Profile::default()).unwrap();
    let trouble = || execution.troubles().into_values().next().flatten();
    execution.check(std::slice::from_ref(&bench.contracts)).await;
    // One that rests is asked if there is no other.
    let error = execution.finalised().await.unwrap_err();
    assert!(matches!(error, ChainError::OtherManager { .. }), "{error}");
    assert!(trouble().is_some_and(|trouble| trouble.contains("by code 0xcccc")));
    bench.liar.set("e0", vec![]);
    execution.finalised().await.unwrap();
    assert_eq!(trouble(), None);
}

/// As long as it is so: what a node says of an earlier pool manager, also one that could not be asked before anything was begun.
#[tokio::test]
async fn a_node_that_is_not_as_the_manifests_say_is_a_trouble_until_it_is() {
    let bench = Bench::start().await;
    let good = || bench.contracts.clone();
    let contracts = [good(), Contracts { pool_code: Digest([7; 32]), ..good() }];
    let start =
        async || Liar::start(&bench._devnet.execution_url(), &bench._devnet.beacon_url()).await.unwrap();
    let liars = [start().await, start().await];
    let urls = liars.each_ref().map(|liar| NodeUrl::parse(&liar.url("node")).unwrap());
    let execution = Execution::new(&urls, bench.network.chain_id, Profile::default()).unwrap();
    let said = || {
        let troubles = execution.troubles();
        urls.each_ref().map(|url| troubles[url.name()].clone().unwrap_or_default())
    };
    liars[1].set("node", [Lie::Status(503)]);
    execution.check(&contracts).await;
    let down = said()[1].clone();
    assert!(said()[0].contains("by code") && !down.is_empty(), "{:?}", said());
    // It is right in all that it is asked for, and so is the other one once it is there.
    liars[1].set("node", []);
    execution.finalised().await.unwrap();
    execution.check_remarks(&contracts).await;
    assert!(said()[0].contains("by code") && said()[1] == down, "it rests: {:?}", said());
    execution.check(&[]).await;
    assert!(said()[0].contains("by code") && said()[1].is_empty(), "{:?}", said());
    execution.check_remarks(&contracts).await;
    assert!(said().iter().all(|said| said.contains("by code")), "{:?}", said());
    let asked = || liars.each_ref().map(|liar| liar.asked("node", "eth_getCode"));
    execution.check_remarks(&[good(), good()]).await;
    assert_eq!(said(), ["", ""]);
    let before = asked();
    execution.check_remarks(&contracts).await;
    assert_eq!(asked(), before, "nothing more is to be heard");
}
