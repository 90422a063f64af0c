//! Requests to one node, and to all of them at once.

use super::majority::{Verdict, decide};
use super::{BeaconError, ExitPosted, ExitRefusal, NodeError, Validator, ValidatorStatus};
use crate::chain::describe_error;
use postern_shared::bls::{PublicKey, Signature};
use postern_shared::ethereum::{
    DepositData, DepositMessage, ForkVersion, Network, Root, SignedVoluntaryExit, WithdrawalCredentials,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a node may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Most bytes of an answer. The largest wanted but one, `config/spec`, has about 10 KiB.
const MAX_ANSWER: usize = 256 * 1024;
/// Most bytes of the list of pending deposits: some 400 for each, and there were 60,000 on mainnet when most waited.
const MAX_PENDING: usize = 64 << 20;
/// How long a node may take to send that list.
const PENDING_TIMEOUT: Duration = Duration::from_secs(60);

/// The configured beacon nodes.
#[derive(Debug, Clone)]
pub struct BeaconNodes {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    /// Scheme, host and port: no user, password or path, which may hold a provider's access key.
    name: String,
    base: reqwest::Url,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Genesis {
    genesis_validators_root: Root,
    genesis_fork_version: ForkVersion,
}

#[derive(Deserialize)]
struct ValidatorAnswer {
    index: String,
    status: ValidatorStatus,
    validator: ValidatorDetails,
}

#[derive(Deserialize)]
struct ValidatorDetails {
    pubkey: PublicKey,
    withdrawal_credentials: WithdrawalCredentials,
}

#[derive(Deserialize)]
struct PendingDeposit {
    pubkey: PublicKey,
    withdrawal_credentials: WithdrawalCredentials,
    amount: String,
    signature: Signature,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    message: String,
}

impl BeaconNodes {
    /// Does not connect yet.
    pub fn new(urls: &[String]) -> Result<Self, BeaconError> {
        if urls.is_empty() {
            return Err(BeaconError::NoNodes);
        }
        let client = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| BeaconError::Client(error.to_string()))?;
        let nodes = urls.iter().map(|url| Node::new(url, client.clone())).collect::<Result<_, _>>()?;
        Ok(Self { nodes })
    }

    /// Refuses nodes of another network, by name. Nodes that are down are skipped with a warning.
    pub async fn check_network(&self, network: &Network) -> Result<(), BeaconError> {
        for (node, (genesis, capella)) in self.ask_all(Node::network).await? {
            let fields = [
                (
                    "genesis_validators_root",
                    network.genesis_validators_root.to_string(),
                    genesis.genesis_validators_root.to_string(),
                ),
                (
                    "genesis_fork_version",
                    network.genesis_fork_version.to_string(),
                    genesis.genesis_fork_version.to_string(),
                ),
                ("CAPELLA_FORK_VERSION", network.capella_fork_version.to_string(), capella.to_string()),
            ];
            for (field, expected, found) in fields {
                if expected != found {
                    return Err(BeaconError::WrongNetwork { node, field, expected, found });
                }
            }
        }
        Ok(())
    }

    /// The validator in the newest finalised state, as more than half of the nodes that answer say; `None` when it is
    /// not there (yet). A node that says something else is named in a warning.
    pub async fn finalized_validator(&self, pubkey: &PublicKey) -> Result<Option<Validator>, BeaconError> {
        let pubkey = *pubkey;
        let ask = move |node: Node| async move { node.validator("finalized", &pubkey).await };
        let answers = self.ask_all(ask).await?;
        match decide(&answers) {
            Verdict::Agreed { answer, dissenters } => {
                for (node, other) in dissenters {
                    let (agreed, other) = (describe(answer.as_ref()), describe(other.as_ref()));
                    tracing::warn!(%pubkey, node, agreed, other, "a beacon node contradicts the others");
                }
                Ok(answer)
            }
            Verdict::Split => {
                let parts =
                    answers.iter().map(|(node, answer)| format!("{node}: {}", describe(answer.as_ref())));
                let answers = parts.collect::<Vec<_>>().join("; ");
                Err(BeaconError::Disagreement { subject: format!("validator {pubkey}"), answers })
            }
        }
    }

    /// The validator in the head state. Heads differ between honest nodes, so the furthest status counts: this is for
    /// showing and for waiting, not for what must not be wrong.
    pub async fn head_validator(&self, pubkey: &PublicKey) -> Result<Option<Validator>, BeaconError> {
        let pubkey = *pubkey;
        let ask = move |node: Node| async move { node.validator("head", &pubkey).await };
        let answers = self.ask_all(ask).await?;
        Ok(answers.into_iter().filter_map(|(_, answer)| answer).max_by_key(|validator| validator.status))
    }

    /// The deposits of these keys that wait at the head, or in the newest finalised state: a deposit is applied once it is final, so
    /// what this does not show is a final validator by the time that it returns, if it ever was there. As any node says: whether a key
    /// has signed them is for the caller to see, so no node can make one up. A node that does not know the question, which came with
    /// Electra, says nothing.
    ///
    /// # Errors
    /// If nobody says anything, and some node may only be down.
    pub async fn pending_deposits(&self, of: &BTreeSet<PublicKey>) -> Result<Vec<DepositData>, BeaconError> {
        let answers = self.ask_all(|node: Node| node.pending_deposits(of.clone())).await?;
        let silent = answers.iter().filter(|(_, answer)| answer.is_none()).count();
        if silent == answers.len() && silent < self.nodes.len() {
            return Err(BeaconError::NoAnswer("which deposits wait"));
        }
        Ok(answers.into_iter().filter_map(|(_, deposits)| deposits).flatten().collect())
    }

    /// Posts an exit to every node. Success when one takes it or knows it.
    pub async fn post_exit(&self, exit: &SignedVoluntaryExit) -> Result<ExitPosted, BeaconError> {
        let exit = *exit;
        let answers = self.ask_all(move |node: Node| async move { node.post_exit(&exit).await }).await?;
        let mut posted = ExitPosted { accepted: Vec::new(), refused: Vec::new() };
        for (node, answer) in answers {
            match answer {
                Ok(()) => posted.accepted.push(node),
                Err(refusal) if refusal.is_success() => posted.accepted.push(node),
                Err(refusal) => posted.refused.push((node, refusal)),
            }
        }
        if posted.accepted.is_empty()
            && let Some((node, refusal)) = posted.refused.iter().max_by_key(|(_, refusal)| refusal.weight())
        {
            return Err(BeaconError::ExitRefused { refusal: refusal.clone(), node: node.clone() });
        }
        Ok(posted)
    }

    /// Asks all nodes at once; at least one answer, in the order of the configuration.
    async fn ask_all<T, F, A>(&self, ask: F) -> Result<Vec<(String, T)>, BeaconError>
    where
        F: Fn(Node) -> A,
        A: Future<Output = Result<T, NodeError>> + Send + 'static,
        T: Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for (position, node) in self.nodes.iter().enumerate() {
            let (name, answer) = (node.name.clone(), ask(node.clone()));
            tasks.spawn(async move { (position, name, answer.await) });
        }
        let mut finished = tasks.join_all().await;
        finished.sort_by_key(|(position, ..)| *position);
        let (mut answers, mut errors) = (Vec::new(), Vec::new());
        for (_, node, answer) in finished {
            match answer {
                Ok(answer) => answers.push((node, answer)),
                Err(error) => {
                    tracing::warn!(node, %error, "a beacon node gives no usable answer");
                    errors.push((node, error));
                }
            }
        }
        if answers.is_empty() { Err(BeaconError::AllDown(errors)) } else { Ok(answers) }
    }
}

impl Node {
    fn new(url: &str, client: reqwest::Client) -> Result<Self, BeaconError> {
        let invalid = |reason: String| BeaconError::Url { url: url.to_owned(), reason };
        let mut base: reqwest::Url = url.parse().map_err(|error| invalid(format!("{error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(invalid(format!("scheme `{}`, not http or https", base.scheme())));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
        let name = format!("{}://{}{port}", base.scheme(), base.host_str().unwrap_or_default());
        Ok(Self { name, base, client })
    }

    async fn network(self) -> Result<(Genesis, ForkVersion), NodeError> {
        let genesis: Data<Genesis> = self.get("eth/v1/beacon/genesis").await?;
        let spec: Data<HashMap<String, serde_json::Value>> = self.get("eth/v1/config/spec").await?;
        let capella = spec.data.get("CAPELLA_FORK_VERSION").and_then(serde_json::Value::as_str);
        let capella = capella.ok_or_else(|| NodeError::Unreadable("no CAPELLA_FORK_VERSION".to_owned()))?;
        let capella = capella
            .parse()
            .map_err(|error| NodeError::Unreadable(format!("CAPELLA_FORK_VERSION: {error}")))?;
        Ok((genesis.data, capella))
    }

    async fn validator(&self, state: &str, pubkey: &PublicKey) -> Result<Option<Validator>, NodeError> {
        let path = format!("eth/v1/beacon/states/{state}/validators/{pubkey}");
        let answer: Data<ValidatorAnswer> = match self.get(&path).await {
            Ok(answer) => answer,
            Err(NodeError::Status { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if answer.data.validator.pubkey != *pubkey {
            return Err(NodeError::Unreadable(format!(
                "validator {} was not asked",
                answer.data.validator.pubkey
            )));
        }
        let index = answer.data.index.parse();
        let index = index.map_err(|_| NodeError::Unreadable(format!("index `{}`", answer.data.index)))?;
        let withdrawal_credentials = answer.data.validator.withdrawal_credentials;
        Ok(Some(Validator { index, status: answer.data.status, withdrawal_credentials }))
    }

    async fn pending_deposits(self, of: BTreeSet<PublicKey>) -> Result<Option<Vec<DepositData>>, NodeError> {
        let mut found = Vec::new();
        // In this order: what has left the head's list in between was final before, and so is in the other one, or a validator there.
        for state in ["head", "finalized"] {
            let url = self.url(&format!("eth/v1/beacon/states/{state}/pending_deposits"))?;
            let request = self.client.get(url).timeout(PENDING_TIMEOUT);
            let answer: Data<Vec<PendingDeposit>> = match answer(request, MAX_PENDING).await {
                Ok(answer) => answer,
                Err(NodeError::Status { status: 400 | 404 | 405 | 501, .. }) => {
                    tracing::warn!(node = self.name, "a beacon node does not say which deposits wait");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            for deposit in answer.data.into_iter().filter(|deposit| of.contains(&deposit.pubkey)) {
                let PendingDeposit { pubkey, withdrawal_credentials, amount, signature } = deposit;
                let unreadable = |_| NodeError::Unreadable(format!("a deposit of `{amount}` Gwei"));
                let amount = amount.parse().map_err(unreadable)?;
                let message = DepositMessage { pubkey, withdrawal_credentials, amount };
                found.push(DepositData { message, signature });
            }
        }
        Ok(Some(found))
    }

    async fn post_exit(&self, exit: &SignedVoluntaryExit) -> Result<Result<(), ExitRefusal>, NodeError> {
        let url = self.url("eth/v1/beacon/pool/voluntary_exits")?;
        let request = self.client.post(url).json(&exit_json(exit));
        let (status, body) = read(request, MAX_ANSWER).await?;
        if (200..300).contains(&status) {
            return Ok(Ok(()));
        }
        // Any status can carry a refusal; without a message there is only the body's text.
        let message = message_of(&body);
        match ExitRefusal::from_message(&message) {
            ExitRefusal::Other(_) if message.is_empty() => Err(NodeError::Status { status, message }),
            refusal => Ok(Err(refusal)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NodeError> {
        answer(self.client.get(self.url(path)?), MAX_ANSWER).await
    }

    fn url(&self, path: &str) -> Result<reqwest::Url, NodeError> {
        self.base.join(path).map_err(|error| NodeError::Unreachable(error.to_string()))
    }
}

/// Sends a request and understands its answer, of so many bytes at most.
async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder, most: usize) -> Result<T, NodeError> {
    let (status, body) = read(request, most).await?;
    if !(200..300).contains(&status) {
        return Err(NodeError::Status { status, message: message_of(&body) });
    }
    serde_json::from_slice(&body).map_err(|error| NodeError::Unreadable(error.to_string()))
}

/// Sends a request and reads its answer, of so many bytes at most.
async fn read(request: reqwest::RequestBuilder, most: usize) -> Result<(u16, Vec<u8>), NodeError> {
    let unreachable = |error: reqwest::Error| NodeError::Unreachable(describe_error(&error));
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unreachable)? {
        if body.len() + part.len() > most {
            return Err(NodeError::TooLarge(most));
        }
        body.extend_from_slice(&part);
    }
    Ok((status, body))
}

/// An error answer's `message`, or the beginning of what came instead.
fn message_of(body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorAnswer>(body) {
        Ok(answer) => answer.message,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned(),
    }
}

/// The Beacon API's form of a signed exit.
pub(crate) fn exit_json(exit: &SignedVoluntaryExit) -> serde_json::Value {
    serde_json::json!({
        "message": {
            "epoch": exit.message.epoch.to_string(),
            "validator_index": exit.message.validator_index.to_string(),
        },
        "signature": exit.signature.to_string(),
    })
}

fn describe(validator: Option<&Validator>) -> String {
    validator.map_or_else(
        || "unknown".to_owned(),
        |validator| format!("index {} {}", validator.index, validator.status),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::test_server::{TestRequest, TestServer};
    use postern_shared::ethereum::VoluntaryExit;

    const CREDENTIALS: WithdrawalCredentials = WithdrawalCredentials([1; 32]);
    const PUBKEY: PublicKey = PublicKey([0xab; 48]);
    const DOWN: &str = "http://127.0.0.1:1";
    const NETWORK: Network = Network {
        chain_id: 1,
        genesis_fork_version: ForkVersion([0, 0, 0, 1]),
        capella_fork_version: ForkVersion([3, 0, 0, 1]),
        genesis_validators_root: Root([7; 32]),
    };

    fn nodes(servers: &[&TestServer]) -> BeaconNodes {
        let urls: Vec<String> = servers.iter().map(|server| server.url.clone()).collect();
        BeaconNodes::new(&urls).unwrap()
    }

    fn network_answer(request: &TestRequest, root: Root) -> (u16, String) {
        let body = match request.path.as_str() {
            "/eth/v1/beacon/genesis" => serde_json::json!({"data": {
                "genesis_time": "0", "genesis_validators_root": root, "genesis_fork_version": "0x00000001",
            }}),
            "/eth/v1/config/spec" => serde_json::json!({"data": {
                "CAPELLA_FORK_VERSION": "0x03000001", "BLOB_SCHEDULE": [{"EPOCH": "1"}],
            }}),
            _ => return (404, String::new()),
        };
        (200, body.to_string())
    }

    fn validator_answer(index: u64, status: &str) -> (u16, String) {
        let validator = serde_json::json!({
            "pubkey": PUBKEY,
            "withdrawal_credentials": CREDENTIALS,
            "slashed": false,
        });
        let data = serde_json::json!({"index": index.to_string(), "status": status, "validator": validator});
        (200, serde_json::json!({"execution_optimistic": false, "data": data}).to_string())
    }

    async fn validator_node(index: u64, status: &'static str) -> TestServer {
        TestServer::start(move |_| validator_answer(index, status)).await
    }

    async fn exit_node(status: u16, message: &'static str) -> TestServer {
        let body = serde_json::json!({"statusCode": status, "message": message}).to_string();
        TestServer::start(move |_| (status, body.clone())).await
    }

    fn exit() -> SignedVoluntaryExit {
        let message = VoluntaryExit { epoch: 3, validator_index: 12 };
        SignedVoluntaryExit { message, signature: Signature([0xcd; 96]) }
    }

    #[tokio::test]
    async fn nodes_of_the_network_are_accepted_and_down_ones_skipped() {
        let good = TestServer::start(|request| network_answer(request, Root([7; 32]))).await;
        let nodes = BeaconNodes::new(&[DOWN.to_owned(), good.url.clone()]).unwrap();
        nodes.check_network(&NETWORK).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_of_another_network_is_named() {
        let good = TestServer::start(|request| network_answer(request, Root([7; 32]))).await;
        let other = TestServer::start(|request| network_answer(request, Root([8; 32]))).await;
        let error = nodes(&[&good, &other]).check_network(&NETWORK).await.unwrap_err();
        let BeaconError::WrongNetwork { node, field, expected, found } = error else { panic!("{error}") };
        assert_eq!((node.as_str(), field), (other.url.as_str(), "genesis_validators_root"));
        assert_eq!((expected, found), (Root([7; 32]).to_string(), Root([8; 32]).to_string()));
    }

    #[tokio::test]
    async fn a_lying_node_is_outvoted() {
        let (first, liar) =
            (validator_node(5, "active_ongoing").await, validator_node(6, "active_ongoing").await);
        let second = validator_node(5, "active_ongoing").await;
        let found = nodes(&[&first, &liar, &second]).finalized_validator(&PUBKEY).await.unwrap();
        let status = ValidatorStatus::ActiveOngoing;
        assert_eq!(found, Some(Validator { index: 5, status, withdrawal_credentials: CREDENTIALS }));
        let asked = &liar.requests()[0];
        let path = format!("/eth/v1/beacon/states/finalized/validators/{PUBKEY}");
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", path.as_str()));
    }

    #[tokio::test]
    async fn without_a_majority_nothing_is_believed() {
        let (first, second) =
            (validator_node(5, "active_ongoing").await, validator_node(6, "active_ongoing").await);
        let error = nodes(&[&first, &second]).finalized_validator(&PUBKEY).await.unwrap_err();
        let BeaconError::Disagreement { answers, .. } = &error else { panic!("{error}") };
        assert!(answers.contains(&format!("{}: index 5", first.url)), "{answers}");
        assert!(answers.contains(&format!("{}: index 6", second.url)), "{answers}");
    }

    #[tokio::test]
    async fn an_unknown_validator_is_none_and_not_an_error() {
        let node = exit_node(404, "Validator not found").await;
        assert_eq!(nodes(&[&node]).finalized_validator(&PUBKEY).await.unwrap(), None);
    }

    #[tokio::test]
    async fn garbage_huge_and_foreign_answers_are_no_votes() {
        let garbage = TestServer::start(|_| (200, "<html>".to_owned())).await;
        let huge = TestServer::start(|_| (200, " ".repeat(MAX_ANSWER + 1))).await;
        let good = validator_node(5, "pending_queued").await;
        let found = nodes(&[&garbage, &huge, &good]).finalized_validator(&PUBKEY).await.unwrap();
        assert_eq!(found.map(|validator| validator.index), Some(5));

        let error =
            nodes(&[&garbage, &huge, &good]).finalized_validator(&PublicKey([1; 48])).await.unwrap_err();
        let BeaconError::AllDown(errors) = &error else { panic!("{error}") };
        assert!(matches!(errors[0].1, NodeError::Unreadable(_)));
        assert_eq!(errors[1].1, NodeError::TooLarge(MAX_ANSWER));
        assert!(matches!(errors[2].1, NodeError::Unreadable(_)), "an answer about another validator");
    }

    #[tokio::test]
    async fn deposits_that_wait_are_those_of_the_key_at_any_node() {
        let deposit = |pubkey: PublicKey, amount: &str| {
            serde_json::json!({
                "pubkey": pubkey, "withdrawal_credentials": CREDENTIALS, "amount": amount,
                "signature": Signature([0xcd; 96]), "slot": "7",
            })
        };
        let list =
            serde_json::json!({"data": [deposit(PublicKey([1; 48]), "5"), deposit(PUBKEY, "1000000000")]});
        let electra = TestServer::start(move |_| (200, list.to_string())).await;
        let deneb = exit_node(404, "Route does not exist").await;
        let own = BTreeSet::from([PUBKEY]);
        let found = nodes(&[&deneb, &electra]).pending_deposits(&own).await.unwrap();
        let message =
            DepositMessage { pubkey: PUBKEY, withdrawal_credentials: CREDENTIALS, amount: 1_000_000_000 };
        // Once as the head has it, once as the newest finalised state has.
        assert_eq!(found, [DepositData { message, signature: Signature([0xcd; 96]) }; 2]);
        let paths: Vec<String> = electra.requests().iter().map(|request| request.path.clone()).collect();
        let path = |state| format!("/eth/v1/beacon/states/{state}/pending_deposits");
        assert_eq!(paths, [path("head"), path("finalized")]);
        // A network before Electra has none; but who is down may be one that has.
        assert_eq!(nodes(&[&deneb]).pending_deposits(&own).await.unwrap(), []);
        let one_down = BeaconNodes::new(&[deneb.url.clone(), DOWN.to_owned()]).unwrap();
        assert!(matches!(one_down.pending_deposits(&own).await, Err(BeaconError::NoAnswer(_))));

        let list = serde_json::json!({"data": [deposit(PUBKEY, "much")]});
        let strange = TestServer::start(move |_| (200, list.to_string())).await;
        assert!(matches!(nodes(&[&strange]).pending_deposits(&own).await, Err(BeaconError::AllDown(_))));
    }

    #[tokio::test]
    async fn all_nodes_down_is_an_error_that_names_them() {
        let nodes = BeaconNodes::new(&[DOWN.to_owned()]).unwrap();
        let error = nodes.head_validator(&PUBKEY).await.unwrap_err();
        assert!(matches!(&error, BeaconError::AllDown(_)));
        assert!(error.to_string().contains(DOWN), "{error}");
    }

    #[tokio::test]
    async fn the_head_is_the_furthest_that_any_node_knows() {
        let (first, second) =
            (validator_node(5, "active_ongoing").await, validator_node(5, "active_exiting").await);
        let found = nodes(&[&first, &second]).head_validator(&PUBKEY).await.unwrap().unwrap();
        assert_eq!(found.status, ValidatorStatus::ActiveExiting);
        assert!(found.status.is_leaving() && !found.status.has_exited());
    }

    #[tokio::test]
    async fn one_accepting_node_is_enough_and_the_others_are_named() {
        let (good, bad) = (exit_node(200, "").await, exit_node(400, "Invalid(FutureEpoch { … })").await);
        let posted = nodes(&[&bad, &good]).post_exit(&exit()).await.unwrap();
        assert_eq!(posted.accepted, std::slice::from_ref(&good.url));
        assert_eq!(posted.refused, [(bad.url.clone(), ExitRefusal::FutureEpoch)]);
        let request = &good.requests()[0];
        assert_eq!(request.path, "/eth/v1/beacon/pool/voluntary_exits");
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        let message = serde_json::json!({"epoch": "3", "validator_index": "12"});
        assert_eq!(body, serde_json::json!({"message": message, "signature": Signature([0xcd; 96])}));
    }

    #[tokio::test]
    async fn refusals_are_read_from_the_text_whatever_the_status() {
        for status in [400, 500] {
            let node = exit_node(status, "VOLUNTARY_EXIT_ERROR_INVALID_SIGNATURE").await;
            let error = nodes(&[&node]).post_exit(&exit()).await.unwrap_err();
            let BeaconError::ExitRefused { refusal, node: name } = error else { panic!("{error}") };
            assert_eq!((refusal, name), (ExitRefusal::InvalidSignature, node.url.clone()));

            let known = exit_node(status, "VOLUNTARY_EXIT_ERROR_ALREADY_EXISTS").await;
            assert_eq!(
                nodes(&[&known]).post_exit(&exit()).await.unwrap().accepted,
                std::slice::from_ref(&known.url)
            );
        }
    }

    #[test]
    fn urls_are_checked_and_their_secrets_not_shown() {
        assert!(matches!(BeaconNodes::new(&[]), Err(BeaconError::NoNodes)));
        assert!(matches!(BeaconNodes::new(&["ftp://x".to_owned()]), Err(BeaconError::Url { .. })));
        assert!(matches!(BeaconNodes::new(&["nonsense".to_owned()]), Err(BeaconError::Url { .. })));
        let nodes = BeaconNodes::new(&["https://user:secret@node.example:5052/key".to_owned()]).unwrap();
        assert_eq!(nodes.nodes[0].name, "https://node.example:5052");
        assert_eq!(nodes.nodes[0].url("eth/v1").unwrap().path(), "/key/eth/v1");
    }
}
