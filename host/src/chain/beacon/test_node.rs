//! A beacon node for tests, which can lie in one way at a time.

use super::test_exits::NETWORK;
use super::{Validator, ValidatorStatus};
use crate::chain::test_server::{TestAnswer, TestRequest, TestServer};
use crate::chain::url::NodeUrl;
use postern_shared::bls::{PublicKey, Signature};
use postern_shared::ethereum::{Root, WithdrawalCredentials};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Slots of an epoch.
pub(crate) const EPOCH: u64 = 32;

/// How a node lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A page instead of any answer.
    Html404,
    /// It has no state.
    State404,
    /// It answers 404 about validators.
    Validator404,
    /// Its lists are empty.
    EmptyValidators,
    /// It says that it is syncing.
    Syncing,
    /// Its answers are from blocks that it has not executed.
    Optimistic,
    /// Its head shows every validator with this status.
    HeadSays(ValidatorStatus),
    /// Its finalised state does.
    FinalSays(ValidatorStatus),
    /// It gives validators another index.
    OtherIndex,
    /// And other credentials.
    OtherCredentials,
    /// It does not know which deposits wait.
    NoPendingDeposits,
    /// It has no `POST states/{state_id}/validators`.
    NoPost,
    /// Its indices are JSON numbers.
    NumberIndex,
    /// It is of another network.
    WrongNetwork,
    /// It takes exits and forgets them.
    SwallowExit,
    /// It answers this to exits.
    ExitSays(u16, &'static str),
    /// It does not answer about validators.
    Hang,
    /// It hangs on exits.
    HangOnExits,
    /// It is slow with exits, and has nothing to say of them.
    SlowExits,
    /// It is so many epochs behind.
    BehindBy(u64),
    /// It says that it is so many epochs ahead.
    AheadBy(u64),
}

/// What a node knows.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// In every state.
    pub(crate) validators: BTreeMap<PublicKey, Validator>,
    /// What waits, as the Beacon API shows it.
    pub(crate) pending: Vec<Value>,
    /// The exits that it has taken.
    pub(crate) exits: Vec<Value>,
    /// `ELECTRA_FORK_EPOCH`, if it is planned.
    pub(crate) electra: Option<u64>,
    /// How it lies.
    pub(crate) lie: Option<Lie>,
}

/// Serves until dropped.
pub(crate) struct TestNode {
    server: TestServer,
    known: Arc<Mutex<Known>>,
}

/// The finalised epoch of honest nodes.
const FINALIZED: u64 = 100;

impl TestNode {
    /// A node that knows validator 0 and these: their keys, with indices from 1 on.
    pub(crate) async fn start(keys: &[PublicKey], lie: Option<Lie>) -> Self {
        let validator = |(index, key): (u64, &PublicKey)| {
            let withdrawal_credentials = WithdrawalCredentials([1; 32]);
            (*key, Validator { index, status: ValidatorStatus::ActiveOngoing, withdrawal_credentials })
        };
        let validators = (1..).zip(keys).map(validator).collect();
        let known = Known { validators, lie, electra: Some(0), ..Known::default() };
        let known = Arc::new(Mutex::new(known));
        let answering = Arc::clone(&known);
        let server = TestServer::start(move |request| answering.lock().unwrap().answer(request)).await;
        Self { server, known }
    }

    /// Where.
    pub(crate) fn url(&self) -> String {
        self.server.url.clone()
    }

    /// The same, as the configuration has it.
    pub(crate) fn node_url(&self) -> NodeUrl {
        NodeUrl::parse(&self.url()).unwrap()
    }

    /// What was asked, in order: method and path.
    pub(crate) fn asked(&self) -> Vec<String> {
        let said = |request: TestRequest| format!("{} {}", request.method, request.path);
        self.server.requests().into_iter().map(said).collect()
    }

    /// What it knows, to change it.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }
}

impl Known {
    fn lies(&self, lie: Lie) -> bool {
        self.lie == Some(lie)
    }

    fn answer(&mut self, request: &TestRequest) -> TestAnswer {
        if self.lies(Lie::Html404) {
            return (404, "<html>/SECRET is not here</html>").into();
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let (_, path) = path.split_once("/eth/v1/").unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["beacon", "genesis"] => data(self.genesis()),
            ["config", "spec"] => data(self.spec()),
            ["node", "syncing"] => data(self.syncing()),
            ["beacon", "headers", "finalized"] => self.located(self.header()),
            ["beacon", "states", state, "validators"] => self.list(request, state, query),
            ["beacon", "states", _, "pending_deposits"] if self.lies(Lie::NoPendingDeposits) => {
                error(404, "Route does not exist")
            }
            ["beacon", "states", _, "pending_deposits"] => self.located(json!(self.pending)),
            ["beacon", "pool", "voluntary_exits"] => self.take_exit(request),
            _ => error(404, "Route does not exist"),
        }
    }

    fn genesis(&self) -> Value {
        let root = if self.lies(Lie::WrongNetwork) { Root([9; 32]) } else { NETWORK.genesis_validators_root };
        json!({
            "genesis_time": "0", "genesis_validators_root": root,
            "genesis_fork_version": NETWORK.genesis_fork_version,
        })
    }

    fn spec(&self) -> Value {
        let mut spec = json!({
            "CAPELLA_FORK_VERSION": NETWORK.capella_fork_version, "BLOB_SCHEDULE": [{"EPOCH": "1"}],
            "SLOTS_PER_EPOCH": EPOCH.to_string(), "SECONDS_PER_SLOT": "12",
        });
        if let Some(epoch) = self.electra {
            spec["ELECTRA_FORK_EPOCH"] = json!(epoch.to_string());
        }
        spec
    }

    fn finalized_slot(&self) -> u64 {
        EPOCH
            * match self.lie {
                Some(Lie::BehindBy(epochs)) => FINALIZED - epochs,
                Some(Lie::AheadBy(epochs)) => FINALIZED + epochs,
                _ => FINALIZED,
            }
    }

    fn syncing(&self) -> Value {
        json!({
            "head_slot": (self.finalized_slot() + 2 * EPOCH).to_string(), "sync_distance": "0",
            "is_syncing": self.lies(Lie::Syncing), "is_optimistic": false, "el_offline": false,
        })
    }

    fn header(&self) -> Value {
        json!({"root": Root([1; 32]), "header": {"message": {"slot": self.finalized_slot().to_string()}}})
    }

    fn list(&self, request: &TestRequest, state: &str, query: &str) -> TestAnswer {
        let ids: Vec<String> = match request.method.as_str() {
            "POST" if self.lies(Lie::NoPost) => return error(405, "Method not allowed"),
            "POST" => {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                body["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
            }
            _ => {
                let ids = query.split('&').find_map(|pair| pair.strip_prefix("id=")).unwrap_or_default();
                ids.replace("%2C", ",").split(',').map(str::to_owned).collect()
            }
        };
        match self.lie {
            Some(Lie::State404) => return error(404, "State not found"),
            Some(Lie::Validator404) => return error(404, "Validator not found"),
            Some(Lie::Hang) => {
                return TestAnswer { status: 200, delay: Duration::from_secs(600), ..TestAnswer::default() };
            }
            Some(Lie::EmptyValidators) => return self.located(json!([])),
            _ => {}
        }
        let shown = ids.iter().filter_map(|id| match id.as_str() {
            "0" => Some(self.show(&PublicKey([0xc0; 48]), &self.first(), state)),
            id => {
                let key = id.parse().unwrap();
                Some(self.show(&key, self.validators.get(&key)?, state))
            }
        });
        self.located(shown.collect())
    }

    fn first(&self) -> Validator {
        let withdrawal_credentials = WithdrawalCredentials([0; 32]);
        Validator { index: 0, status: ValidatorStatus::ActiveOngoing, withdrawal_credentials }
    }

    fn show(&self, key: &PublicKey, validator: &Validator, state: &str) -> Value {
        let Validator { mut index, mut status, mut withdrawal_credentials } = validator.clone();
        match self.lie {
            Some(Lie::HeadSays(says)) if state == "head" => status = says,
            Some(Lie::FinalSays(says)) if state == "finalized" => status = says,
            Some(Lie::OtherIndex) if index > 0 => index += 1000,
            Some(Lie::OtherCredentials) => withdrawal_credentials = WithdrawalCredentials([6; 32]),
            _ => {}
        }
        let index = if self.lies(Lie::NumberIndex) { json!(index) } else { json!(index.to_string()) };
        let validator = json!({
            "pubkey": key, "withdrawal_credentials": withdrawal_credentials, "slashed": false,
        });
        json!({"index": index, "balance": "32000000000", "status": status, "validator": validator})
    }

    fn take_exit(&mut self, request: &TestRequest) -> TestAnswer {
        match self.lie {
            Some(Lie::ExitSays(status, "")) => (status, "").into(),
            Some(Lie::ExitSays(status, message)) => error(status, message),
            Some(Lie::SwallowExit) => (200, "").into(),
            Some(Lie::SlowExits) => {
                TestAnswer { status: 503, delay: Duration::from_millis(300), ..TestAnswer::default() }
            }
            Some(Lie::HangOnExits) => {
                TestAnswer { status: 200, delay: Duration::from_secs(600), ..TestAnswer::default() }
            }
            _ => {
                self.exits.push(serde_json::from_str(&request.body).unwrap());
                (200, "").into()
            }
        }
    }

    fn located(&self, data: Value) -> TestAnswer {
        let optimistic = self.lies(Lie::Optimistic);
        (200, json!({"execution_optimistic": optimistic, "finalized": true, "data": data}).to_string()).into()
    }
}

fn data(data: Value) -> TestAnswer {
    (200, json!({ "data": data }).to_string()).into()
}

fn error(status: u16, message: &str) -> TestAnswer {
    (status, json!({"code": status, "message": message}).to_string()).into()
}

/// A deposit as the list of those that wait shows it.
pub(crate) fn waiting(pubkey: PublicKey, credentials: u8, amount: &str) -> Value {
    json!({
        "pubkey": pubkey, "withdrawal_credentials": WithdrawalCredentials([credentials; 32]), "amount": amount,
        "signature": Signature([0xcd; 96]), "slot": "7",
    })
}
