//! How a beacon node lies, path by path.

use super::{Answer, Behind, Question};
use serde_json::{Value, json};

/// One way.
#[derive(Debug, Clone, PartialEq)]
pub enum BeaconLie {
    /// Has no state, as one says that is not that far yet.
    StateNotFound,
    /// Knows no validator.
    ValidatorNotFound,
    /// Is still syncing, and says so only if asked.
    Syncing,
    /// Has not checked the execution payloads, and says so.
    Optimistic,
    /// Validators are in this status at the head.
    HeadSays(&'static str),
    /// They are in final states.
    FinalSays(&'static str),
    /// Validators have indices that are higher by so much.
    OtherIndex(u64),
    /// Stakes go elsewhere.
    OtherCredentials,
    /// Indices are JSON numbers.
    NumberIndex,
    /// Does not know the route for deposits that wait.
    NoPendingDeposits,
    /// Does not know how to look for many validators.
    NoPost,
    /// Of another network.
    WrongNetwork,
    /// Takes exits, and does nothing with them.
    SwallowExit,
    /// Refuses exits with this status and message.
    ExitSays(u16, &'static str),
    /// So many epochs behind, and does not say so.
    Behind(u64),
}

fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "code": status, "message": message }))
}

pub(super) async fn tell(
    behind: &Behind,
    question: &Question,
    lies: &[&BeaconLie],
) -> Result<Answer, reqwest::Error> {
    let mut question = question.clone();
    for lie in lies {
        if let Some(answer) = before(behind, &mut question, lie).await {
            return Ok(answer);
        }
    }
    let mut answer = behind.ask(&question).await?;
    if let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) {
        lies.iter().for_each(|lie| after(&question.path, &mut body, lie));
        answer.body = body.to_string().into();
    }
    Ok(answer)
}

/// Answers without asking anybody, or makes it another question.
async fn before(behind: &Behind, question: &mut Question, lie: &BeaconLie) -> Option<Answer> {
    let path = question.path.as_str();
    let posted = question.method == "POST";
    let of_state = path.contains("/states/");
    let exits = posted && path.ends_with("/voluntary_exits");
    match lie {
        BeaconLie::StateNotFound if of_state => Some(error(404, "State not found")),
        BeaconLie::ValidatorNotFound if path.contains("/validators/") => {
            Some(error(404, "Validator not found"))
        }
        BeaconLie::NoPendingDeposits if path.ends_with("/pending_deposits") => {
            Some(error(404, "Route not found"))
        }
        BeaconLie::NoPost if posted && path.ends_with("/validators") => {
            Some(error(405, "Method not allowed"))
        }
        BeaconLie::SwallowExit if exits => Some(Answer::json(200, &Value::Null)),
        BeaconLie::ExitSays(status, message) if exits => Some(error(*status, message)),
        BeaconLie::Behind(epochs) => {
            question.path = as_behind(behind, path, *epochs).await?;
            None
        }
        _ => None,
    }
}

/// The path with slots that many epochs ago where it says `head` or `finalized`.
async fn as_behind(behind: &Behind, path: &str, epochs: u64) -> Option<String> {
    let mut path = path.to_owned();
    for name in ["head", "finalized"] {
        let (as_state, as_block) = (format!("/states/{name}/"), format!("/headers/{name}"));
        if !path.contains(&as_state) && !path.ends_with(&as_block) {
            continue;
        }
        let header = behind.get(&format!("/eth/v1/beacon/headers/{name}")).await?;
        let slot: u64 = header["data"]["header"]["message"]["slot"].as_str()?.parse().ok()?;
        let spec = behind.get("/eth/v1/config/spec").await?;
        let epoch: u64 = spec["data"]["SLOTS_PER_EPOCH"].as_str()?.parse().ok()?;
        let slot = slot.saturating_sub(epochs.saturating_mul(epoch));
        path = path.replace(&as_state, &format!("/states/{slot}/"));
        path = path.replace(&as_block, &format!("/headers/{slot}"));
    }
    Some(path)
}

/// Changes what was answered.
fn after(path: &str, body: &mut Value, lie: &BeaconLie) {
    let of_validators = path.contains("/validators");
    match lie {
        BeaconLie::ValidatorNotFound if of_validators && body["data"].is_array() => {
            body["data"] = json!([]);
        }
        BeaconLie::Syncing if path.ends_with("/node/syncing") => {
            body["data"]["is_syncing"] = json!(true);
            body["data"]["sync_distance"] = json!("1000");
        }
        BeaconLie::Optimistic => {
            if path.ends_with("/node/syncing") {
                body["data"]["is_optimistic"] = json!(true);
            } else if body["execution_optimistic"].is_boolean() {
                body["execution_optimistic"] = json!(true);
            }
        }
        BeaconLie::HeadSays(status) if path.contains("/states/head/") => each(body, |found| {
            found["status"] = json!(status);
        }),
        BeaconLie::FinalSays(status) if path.contains("/states/finalized/") => each(body, |found| {
            found["status"] = json!(status);
        }),
        BeaconLie::OtherIndex(more) => each(body, |found| {
            let index = found["index"].as_str().and_then(|index| index.parse::<u64>().ok());
            found["index"] = json!((index.unwrap_or(0) + more).to_string());
        }),
        BeaconLie::NumberIndex => each(body, |found| {
            let index = found["index"].as_str().and_then(|index| index.parse::<u64>().ok());
            found["index"] = json!(index.unwrap_or(0));
        }),
        BeaconLie::OtherCredentials => each(body, |found| {
            found["validator"]["withdrawal_credentials"] = json!(format!("0x01{}", "ee".repeat(31)));
        }),
        BeaconLie::WrongNetwork if path.ends_with("/genesis") => {
            body["data"]["genesis_validators_root"] = json!(format!("0x{}", "dd".repeat(32)));
        }
        _ => {}
    }

    fn each(body: &mut Value, change: impl Fn(&mut Value)) {
        match &mut body["data"] {
            Value::Array(all) => all.iter_mut().filter(|one| one["index"].is_string()).for_each(change),
            one if one["index"].is_string() => change(one),
            _ => {}
        }
    }
}
