//! The configured nodes: met before anything is begun, and looked after as long as one is not as the manifests say.

use super::report::Starting;
use super::{DaemonError, RETRY, Shared};
use crate::chain::beacon::BeaconNodes;
use crate::chain::execution::Execution;
use crate::chain::survey::{self, Survey};
use crate::config::Config;
use crate::status::Subject;
use std::sync::Arc;
use std::time::Duration;

/// How often a node is asked again that was not as the manifests say, or could not be asked: it costs a few requests for each pool manager.
const ASK_AGAIN: Duration = Duration::from_mins(5);

/// Waits for an execution node that is as the manifest says; gives up if there is nothing to wait for. Those that can't be used now, or
/// say something else than the manifests, are troubles, which `events` and `validators` show.
pub(super) async fn meet(
    config: &Config,
    execution: &Execution,
    beacon: &BeaconNodes,
    starting: &Starting,
) -> Result<(), DaemonError> {
    let contracts = survey::contracts(&config.manifests);
    let names = config.execution_urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    loop {
        let survey = Survey::make(execution, beacon, &contracts).await.or_give_up()?;
        if survey.may_begin() {
            survey.faults().for_each(|fault| tracing::warn!(%fault, "a node can't be used"));
            survey.unanswered().for_each(|fault| tracing::warn!(%fault, "a node can't be used yet"));
            survey.remarks().for_each(|remark| tracing::warn!(%remark, "not as the manifests say"));
            return Ok(());
        }
        let reasons = survey.reasons();
        tracing::warn!(reasons, "no execution node can be used; waiting");
        starting.waits_for(Subject::ExecutionNode(names.clone()), reasons);
        tokio::time::sleep(RETRY).await;
    }
}

/// Asks nodes again, for ever, whose remarks are still to be shown, or still to be heard. What they say is shown by `events`.
pub(super) async fn look_after(shared: Arc<Shared>) -> DaemonError {
    let contracts = survey::contracts(&shared.manifests);
    loop {
        tokio::time::sleep(ASK_AGAIN).await;
        shared.execution.check_remarks(&contracts).await;
    }
}
