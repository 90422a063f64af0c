//! Voluntary exits at the beacon node: every refusal, and what is accepted.

mod support;

use postern_devnet::beacon::chain::genesis_key;
use postern_devnet::{Clock, Config, RepeatedExit};
use serde_json::{Value, json};
use support::{ETHER, Key, Net, STAKE_GWEI, exit_json};

const PATH: &str = "/eth/v1/beacon/pool/voluntary_exits";

async fn refused(net: &Net, exit: &postern_shared::ethereum::SignedVoluntaryExit) -> String {
    let (status, answer) = net.post_beacon(PATH, &exit_json(exit)).await;
    assert_eq!((status, &answer["code"]), (400, &json!(400)));
    let message = answer["message"].as_str().unwrap();
    let frame = "BAD_REQUEST: Invalid object: gossip verification failed: ExitValidationError(Invalid(";
    message.strip_prefix(frame).unwrap().strip_suffix("))").unwrap().to_owned()
}

#[tokio::test]
async fn each_rule_has_its_refusal() {
    let net = Net::start().await;
    let genesis = |index: u64| Key(genesis_key(index));

    // Epoch 0: nobody has been on duty for SHARD_COMMITTEE_PERIOD.
    let early = refused(&net, &genesis(0).exit(&net, 0, 0)).await;
    assert_eq!(early, "TooYoungToExit { current_epoch: Epoch(0), earliest_exit_epoch: Epoch(2) }");
    net.advance_epochs(3);
    assert_eq!(
        refused(&net, &genesis(0).exit(&net, 9, 0)).await,
        "FutureEpoch { state: Epoch(3), exit: Epoch(9) }"
    );
    assert_eq!(refused(&net, &genesis(0).exit(&net, 0, 99)).await, "ValidatorUnknown(99)");
    assert_eq!(refused(&net, &genesis(1).exit(&net, 0, 0)).await, "BadSignature");

    // The signature must be in the Capella domain (EIP-7044), not in another fork's.
    assert_eq!(refused(&net, &genesis(0).exit_under([5, 7, 7, 0], &net, 0, 0)).await, "BadSignature");

    // Nothing of that went into the pool.
    assert_eq!(net.beacon(PATH).await.1["data"], json!([]));

    // Accepted once; the very same exit once more is no mistake; another one for a validator that leaves is.
    let exit = genesis(0).exit(&net, 0, 0);
    assert_eq!(net.post_beacon(PATH, &exit_json(&exit)).await.0, 200);
    assert_eq!(net.post_beacon(PATH, &exit_json(&exit)).await.0, 200);
    assert_eq!(net.beacon(PATH).await.1["data"].as_array().unwrap().len(), 1);
    net.devnet.advance(1);
    assert_eq!(net.status("0").await, "active_exiting");
    assert_eq!(net.post_beacon(PATH, &exit_json(&exit)).await.0, 200);
    assert_eq!(refused(&net, &genesis(0).exit(&net, 1, 0)).await, "AlreadyInitiatedExit(0)");
    net.advance_epochs(3);
    assert_eq!(net.status("0").await, "exited_unslashed");
    assert_eq!(refused(&net, &genesis(0).exit(&net, 1, 0)).await, "NotActive(0)");
}

#[tokio::test]
async fn a_validator_that_waits_for_duty_cannot_leave() {
    let net = Net::start().await;
    let key = Key::new(7);
    let data = key.deposit(&net.config, [1; 32], STAKE_GWEI);
    let contract = support::DepositContract::new(net.config.deposit_contract, net.provider(&net.owner));
    let deposit = contract.deposit(
        data.message.pubkey.0.to_vec().into(),
        data.message.withdrawal_credentials.0.to_vec().into(),
        data.signature.0.to_vec().into(),
        data.hash_tree_root().0.into(),
    );
    let _pending = deposit.value(alloy::primitives::U256::from(32 * ETHER)).send().await.unwrap();
    while net.status("16").await == "none" {
        net.devnet.advance(1);
    }
    assert_eq!(net.status("16").await, "pending_initialized");
    assert_eq!(refused(&net, &key.exit(&net, 0, 16)).await, "NotActive(16)");
    // The finalised state is older: it does not know the validator yet.
    let (status, answer) = net.beacon("/eth/v1/beacon/states/finalized/validators/16").await;
    assert_eq!((status, &answer["code"]), (404, &json!(404)));
}

#[tokio::test]
async fn a_node_may_mind_repeated_exits() {
    let config = Config { clock: Clock::Manual, repeated_exit: RepeatedExit::Refused, ..Config::default() };
    let net = Net::start_with(config).await;
    net.advance_epochs(2);
    let exit = exit_json(&Key(genesis_key(3)).exit(&net, 0, 3));
    assert_eq!(net.post_beacon(PATH, &exit).await.0, 200);
    let (status, answer) = net.post_beacon(PATH, &exit).await;
    assert_eq!((status, &answer["message"]), (400, &json!("VOLUNTARY_EXIT_ERROR_ALREADY_EXISTS")));
}

#[tokio::test]
async fn malformed_bodies_are_the_callers_fault() {
    let net = Net::start().await;
    for body in [
        json!({}),
        json!([]),
        json!({ "message": { "epoch": 1, "validator_index": "1" }, "signature": "0x" }),
    ] {
        assert_eq!(net.post_beacon(PATH, &body).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn the_rest_interface_answers_as_the_specification_says() {
    let net = Net::start().await;
    net.advance_epochs(5);
    let get = async |path: &str| {
        let (status, answer) = net.beacon(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    let genesis = get("/eth/v1/beacon/genesis").await;
    let root = format!("0x{}", hex::encode(net.devnet.genesis_validators_root()));
    assert_eq!(genesis["data"]["genesis_validators_root"], root);
    assert_eq!(genesis["data"]["genesis_fork_version"], "0x00070700");
    assert_eq!(get("/eth/v1/config/spec").await["data"]["CAPELLA_FORK_VERSION"], "0x03070700");
    assert_eq!(get("/eth/v1/config/spec").await["data"]["SLOTS_PER_EPOCH"], "4");
    assert_eq!(get("/eth/v1/config/fork_schedule").await["data"].as_array().unwrap().len(), 6);
    assert_eq!(get("/eth/v1/config/deposit_contract").await["data"]["chain_id"], "70700");
    assert_eq!(get("/eth/v1/node/syncing").await["data"]["head_slot"], "20");
    assert_eq!(get("/eth/v1/beacon/states/head/fork").await["data"]["current_version"], "0x05070700");
    let checkpoints = get("/eth/v1/beacon/states/head/finality_checkpoints").await;
    assert_eq!(checkpoints["data"]["finalized"]["epoch"], "3");
    assert_eq!(checkpoints["data"]["current_justified"]["epoch"], "4");

    let finalized = get("/eth/v1/beacon/headers/finalized").await;
    assert_eq!(finalized["data"]["header"]["message"]["slot"], "12");
    assert_eq!(finalized["data"]["root"], checkpoints["data"]["finalized"]["root"]);
    assert_eq!(finalized["finalized"], true);
    let by_root = format!("/eth/v1/beacon/headers/{}", finalized["data"]["root"].as_str().unwrap());
    assert_eq!(get(&by_root).await["data"], finalized["data"]);
    let head = get("/eth/v1/beacon/headers/head").await;
    assert_eq!(head["finalized"], false);
    let parent = get("/eth/v1/beacon/headers/19").await;
    assert_eq!(head["data"]["header"]["message"]["parent_root"], parent["data"]["root"]);

    let base = "/eth/v1/beacon/states/head/validators";
    let count = async |query: &str| get(&format!("{base}{query}")).await["data"].as_array().unwrap().len();
    assert_eq!(count("").await, 16);
    assert_eq!(count("?id=1,2&id=99&id=2").await, 2);
    assert_eq!(count("?status=active").await, 16);
    assert_eq!(count("?status=active_exiting,exited").await, 0);
    let (_, posted) = net.post_beacon(base, &json!({ "ids": ["3"], "statuses": null })).await;
    assert_eq!(posted["data"][0]["validator"]["exit_epoch"], u64::MAX.to_string());

    for (path, status) in [
        ("/eth/v1/beacon/headers/21", 404),
        ("/eth/v1/beacon/headers/tail", 400),
        ("/eth/v1/beacon/states/0x00/fork", 400),
        ("/eth/v1/beacon/states/head/validators/99", 404),
        ("/eth/v1/beacon/states/head/validators/x", 400),
        ("/eth/v1/beacon/states/head/validators?status=asleep", 400),
        ("/eth/v9/anything", 404),
    ] {
        let (found, answer) = net.beacon(path).await;
        assert_eq!((found, &answer["code"]), (status, &Value::from(status)), "{path}");
        assert!(answer["message"].is_string());
    }
}
