//! The requests to one node.

use super::request;
use super::{ExitOutcome, ExitRefusal, NodeError, StateId, Validator, ValidatorStatus};
use crate::chain::url::NodeUrl;
use postern_shared::bls::{PublicKey, Signature};
use postern_shared::ethereum::{
    DepositData, DepositMessage, ForkVersion, Root, SignedVoluntaryExit, WithdrawalCredentials,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Most bytes of an answer. The largest wanted but the lists, `config/spec`, has about 10 KiB.
const MAX_ANSWER: usize = 256 * 1024;
/// Most bytes of one validator in a list: clients need some 500.
const MAX_VALIDATOR: usize = 2048;
/// Most bytes of the list of pending deposits: some 400 for each, and there were 60,000 on mainnet when most waited.
const MAX_PENDING: usize = 64 << 20;
/// How long a node may take to send that list.
const PENDING_TIMEOUT: Duration = Duration::from_secs(60);
/// Validators asked for in one `GET`: some servers refuse longer URLs.
const GET_CHUNK: usize = 64;
/// Asked for with every list. Every network has it, so a list without it says nothing of the others.
const ALWAYS_THERE: u64 = 0;
/// `FAR_FUTURE_EPOCH` of consensus-specs, which stands for a fork that is not planned.
const FAR_FUTURE_EPOCH: u64 = u64::MAX;

/// Mainnet's epoch.
const LONGEST_EPOCH: Duration = Duration::from_secs(32 * 12);

/// One configured node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Scheme, host and port, and its place if others have the same.
    pub(super) name: String,
    url: NodeUrl,
    client: reqwest::Client,
    /// It has no `POST states/{state_id}/validators`.
    lacks_post: Arc<AtomicBool>,
}

/// What of `config/spec` is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) slots_per_epoch: u64,
    pub(super) slot: Duration,
    /// When the network goes over to Electra, if that is planned.
    pub(super) electra_epoch: Option<u64>,
}

/// Which network a node is of.
pub(super) struct Identity {
    pub(super) genesis_validators_root: Root,
    pub(super) genesis_fork_version: ForkVersion,
    pub(super) capella_fork_version: ForkVersion,
    pub(super) spec: Spec,
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// It does not know all blocks yet, or has not executed them all.
    pub(super) is_syncing: bool,
    pub(super) head_slot: u64,
    pub(super) finalized_slot: u64,
}

#[derive(Deserialize)]
struct Data<T> {
    #[serde(default)]
    execution_optimistic: Option<bool>,
    data: T,
}

#[derive(Deserialize)]
struct Genesis {
    genesis_validators_root: Root,
    genesis_fork_version: ForkVersion,
}

#[derive(Deserialize)]
struct Syncing {
    head_slot: String,
    is_syncing: bool,
    #[serde(default)]
    is_optimistic: Option<bool>,
}

#[derive(Deserialize)]
struct BlockHeader {
    header: SignedHeader,
}

#[derive(Deserialize)]
struct SignedHeader {
    message: HeaderMessage,
}

#[derive(Deserialize)]
struct HeaderMessage {
    slot: String,
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

impl Node {
    /// Does not connect yet.
    pub(super) fn new(name: String, url: NodeUrl, client: reqwest::Client) -> Self {
        Self { name, url, client, lacks_post: Arc::default() }
    }

    /// Which network it is of.
    pub(super) async fn identity(&self) -> Result<Identity, NodeError> {
        let genesis: Data<Genesis> = self.get("eth/v1/beacon/genesis").await?;
        let spec: Data<HashMap<String, serde_json::Value>> = self.get("eth/v1/config/spec").await?;
        let text = |name: &str| spec.data.get(name).and_then(serde_json::Value::as_str);
        let capella = text("CAPELLA_FORK_VERSION")
            .ok_or_else(|| NodeError::Unreadable("no CAPELLA_FORK_VERSION".to_owned()))?;
        let capella_fork_version = capella
            .parse()
            .map_err(|error| NodeError::Unreadable(format!("CAPELLA_FORK_VERSION: {error}")))?;
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let Genesis { genesis_validators_root, genesis_fork_version } = genesis.data;
        Ok(Identity {
            genesis_validators_root,
            genesis_fork_version,
            capella_fork_version,
            spec: Spec::read(number),
        })
    }

    /// How far it is.
    pub(super) async fn progress(&self) -> Result<Progress, NodeError> {
        let syncing: Data<Syncing> = self.get("eth/v1/node/syncing").await?;
        let finalized: Data<BlockHeader> = self.get("eth/v1/beacon/headers/finalized").await?;
        Ok(Progress {
            is_syncing: syncing.data.is_syncing
                || syncing.data.is_optimistic == Some(true)
                || finalized.execution_optimistic == Some(true),
            head_slot: number("head_slot", &syncing.data.head_slot)?,
            finalized_slot: number("slot", &finalized.data.header.message.slot)?,
        })
    }

    /// Those of these validators that a state has: who is missing is not there.
    pub(super) async fn validators(
        &self,
        state: StateId,
        keys: &[PublicKey],
    ) -> Result<HashMap<PublicKey, Validator>, NodeError> {
        let url = self.url.below(&format!("eth/v1/beacon/states/{state}/validators"));
        if !self.lacks_post.load(Ordering::Relaxed) {
            let request = self.client.post(url.clone()).json(&serde_json::json!({ "ids": ids(keys) }));
            match self.list(request, keys).await {
                // Or it has no such state: then it says so again.
                Err(NodeError::Status { status: 404 | 405, .. }) => {}
                answer => return answer,
            }
        }
        let mut found = HashMap::new();
        for some in keys.chunks(GET_CHUNK).chain(keys.is_empty().then_some(&[][..])) {
            let mut url = url.clone();
            // One pair for each, as the specification has it: not every node reads a list with commas.
            url.query_pairs_mut().extend_pairs(ids(some).iter().map(|id| ("id", id)));
            found.extend(self.list(self.client.get(url), some).await?);
        }
        self.lacks_post.store(true, Ordering::Relaxed);
        Ok(found)
    }

    /// The deposits of these keys that wait; `None` if it does not know the question.
    pub(super) async fn pending_deposits(
        &self,
        of: &BTreeSet<PublicKey>,
    ) -> Result<Option<Vec<DepositData>>, NodeError> {
        let mut found = Vec::new();
        // In this order: what has left the head's list in between was final before, and so is in the other one, or a validator there.
        for state in [StateId::Head, StateId::Finalized] {
            let url = self.url.below(&format!("eth/v1/beacon/states/{state}/pending_deposits"));
            let request = self.client.get(url).timeout(PENDING_TIMEOUT);
            let answer: Data<Vec<PendingDeposit>> = match self.answer(request, MAX_PENDING).await {
                Ok(answer) => answer,
                Err(NodeError::Status { status: 400 | 404 | 405 | 501, .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            if answer.execution_optimistic == Some(true) {
                return Err(NodeError::Optimistic);
            }
            for deposit in answer.data.into_iter().filter(|deposit| of.contains(&deposit.pubkey)) {
                let PendingDeposit { pubkey, withdrawal_credentials, amount, signature } = deposit;
                let amount = number("amount", &amount)?;
                let message = DepositMessage { pubkey, withdrawal_credentials, amount };
                found.push(DepositData { message, signature });
            }
        }
        Ok(Some(found))
    }

    /// Hands in an exit. An error without a message of the Beacon API says nothing of the exit.
    pub(super) async fn post_exit(&self, exit: &SignedVoluntaryExit) -> Result<ExitOutcome, NodeError> {
        let url = self.url.below("eth/v1/beacon/pool/voluntary_exits");
        let request = self.client.post(url).json(&exit_json(exit));
        let (status, body) = request::read(&self.url, request, MAX_ANSWER).await?;
        if (200..300).contains(&status) {
            return Ok(ExitOutcome::Taken);
        }
        let message = request::api_message(&self.url, &body).filter(|message| !message.is_empty());
        let Some(message) = message else { return Err(NodeError::Status { status, message }) };
        // Any status can carry a refusal.
        let refusal = ExitRefusal::from_message(&message);
        Ok(if refusal.is_success() { ExitOutcome::Taken } else { ExitOutcome::Refused(refusal) })
    }

    /// Sends a request for a list of these validators and of the one that is always there.
    async fn list(
        &self,
        request: reqwest::RequestBuilder,
        keys: &[PublicKey],
    ) -> Result<HashMap<PublicKey, Validator>, NodeError> {
        let most = MAX_ANSWER + keys.len().saturating_mul(MAX_VALIDATOR);
        let Data { execution_optimistic, data } =
            self.answer::<Data<Vec<ValidatorAnswer>>>(request, most).await?;
        if execution_optimistic == Some(true) {
            return Err(NodeError::Optimistic);
        }
        let asked: BTreeSet<&PublicKey> = keys.iter().collect();
        let mut found = HashMap::new();
        let mut has_first = false;
        for ValidatorAnswer { index, status, validator } in data {
            let ValidatorDetails { pubkey, withdrawal_credentials } = validator;
            let index = number("index", &index)?;
            has_first |= index == ALWAYS_THERE;
            if asked.contains(&pubkey) {
                let validator = Validator { index, status, withdrawal_credentials };
                // The one that is always there may be asked for by its key too, and comes twice then.
                if found.insert(pubkey, validator.clone()).is_some_and(|known| known != validator) {
                    return Err(NodeError::Unreadable(format!("validator {pubkey} in two ways")));
                }
            } else if index != ALWAYS_THERE {
                return Err(NodeError::Unreadable(format!("validator {pubkey} was not asked")));
            }
        }
        if has_first { Ok(found) } else { Err(NodeError::Incomplete) }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NodeError> {
        self.answer(self.client.get(self.url.below(path)), MAX_ANSWER).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        most: usize,
    ) -> Result<T, NodeError> {
        request::answer(&self.url, request, most).await
    }
}

impl Spec {
    /// Without a value, or with one that can't be, mainnet's: it only decides how often things are done.
    fn read(number: impl Fn(&str) -> Option<u64>) -> Self {
        let milliseconds =
            number("SLOT_DURATION_MS").or_else(|| number("SECONDS_PER_SLOT")?.checked_mul(1000));
        let slot = milliseconds.filter(|slot| (1..=600_000).contains(slot));
        let slots_per_epoch = number("SLOTS_PER_EPOCH").filter(|slots| (1..=1024).contains(slots));
        Self {
            slots_per_epoch: slots_per_epoch.unwrap_or(32),
            slot: Duration::from_millis(slot.unwrap_or(12_000)),
            electra_epoch: number("ELECTRA_FORK_EPOCH").filter(|epoch| *epoch != FAR_FUTURE_EPOCH),
        }
    }

    /// How long an epoch lasts; never longer than mainnet's, so that no node can have the host wait for days before it looks again.
    pub(super) fn epoch(&self) -> Duration {
        let epoch = self.slot.saturating_mul(u32::try_from(self.slots_per_epoch).unwrap_or(u32::MAX));
        epoch.min(LONGEST_EPOCH)
    }
}

/// As a request names validators: by their keys, and the one that is always there.
fn ids(keys: &[PublicKey]) -> Vec<String> {
    keys.iter().map(ToString::to_string).chain([ALWAYS_THERE.to_string()]).collect()
}

fn number(name: &str, text: &str) -> Result<u64, NodeError> {
    text.parse().map_err(|_| NodeError::Unreadable(format!("`{name}` is not a number")))
}

/// The Beacon API's form of a signed exit.
fn exit_json(exit: &SignedVoluntaryExit) -> serde_json::Value {
    serde_json::json!({
        "message": {
            "epoch": exit.message.epoch.to_string(),
            "validator_index": exit.message.validator_index.to_string(),
        },
        "signature": exit.signature.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_node_s_word_makes_an_epoch_longer_than_mainnet_s() {
        let epoch = |slot: u64, slots: u64| {
            let number = |name: &str| match name {
                "SLOT_DURATION_MS" => Some(slot),
                "SLOTS_PER_EPOCH" => Some(slots),
                _ => None,
            };
            Spec::read(number).epoch().as_millis()
        };
        assert_eq!(epoch(600_000, 1024), 384_000);
        assert_eq!(epoch(12_000, 32), 384_000);
        assert_eq!(epoch(5_000, 16), 80_000);
    }
}
