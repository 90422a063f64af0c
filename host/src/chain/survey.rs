//! What the configured nodes say of the chain, of its network and of the pool managers, before anything is begun: each is asked once, all
//! at the same time.
//!
//! A node that does not answer, or not yet, may be right. One that answers something else than the manifest says is a fault of the
//! configuration, of the manifest or of that node, and is named. Nothing is begun only while no execution node is right, or if there
//! is nothing to wait for.

use super::beacon::{BeaconError, BeaconNodes, Unfit};
use super::execution::{ChainError, Execution};
use super::profile::Profile;
use crate::config::Config;
use postern_shared::manifest::{Contracts, Manifest};
use std::fmt::{Display, Formatter, Result as Written};

/// Why a node can't be relied on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An execution node.
    #[error(transparent)]
    Execution(ChainError),
    /// A beacon node.
    #[error(transparent)]
    Beacon(Unfit),
}

impl NodeError {
    /// Whether the node has answered, and something wrong.
    fn is_fault(&self) -> bool {
        match self {
            Self::Execution(error) => !error.is_transient(),
            Self::Beacon(why) => why.is_wrong_answer(),
        }
    }
}

/// What one node says that can't be relied on.
#[derive(Debug, thiserror::Error)]
#[error("config field `{field}`, {name}: {error}")]
pub struct NodeFault {
    /// Its place in the configuration.
    pub field: String,
    /// Scheme, host and port.
    pub name: String,
    /// Why.
    #[source]
    pub error: NodeError,
}

/// Nodes that answer something wrong.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct WrongNodes(pub Vec<NodeFault>);

/// What was found, by layer and node: a node without anything is right.
#[derive(Debug)]
pub struct Survey {
    execution: Vec<Vec<NodeFault>>,
    beacon: Vec<Vec<NodeFault>>,
}

/// The contracts of all pool managers that the manifests name, each once.
pub fn contracts(manifests: &[Manifest]) -> Vec<Contracts> {
    let mut all: Vec<Contracts> = Vec::new();
    for Manifest { contracts, .. } in manifests {
        if !all.iter().any(|known| known.pool_manager == contracts.pool_manager) {
            all.push(contracts.clone());
        }
    }
    all
}

/// Asks the nodes of a configuration.
///
/// # Errors
/// If there is no client to ask them with.
pub async fn survey(config: &Config) -> Result<Survey, WrongClient> {
    let network = config.manifest.network;
    let execution = Execution::new(&config.execution_urls, network.chain_id, Profile::default())?;
    let beacon = BeaconNodes::new(&config.beacon_urls, network)?;
    Ok(Survey::make(&execution, &beacon, &contracts(&config.manifests)).await)
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum WrongClient {
    /// For execution nodes.
    #[error(transparent)]
    Execution(#[from] ChainError),
    /// For beacon nodes.
    #[error(transparent)]
    Beacon(#[from] BeaconError),
}

impl Survey {
    /// Asks all nodes.
    pub async fn make(execution: &Execution, beacon: &BeaconNodes, contracts: &[Contracts]) -> Self {
        let (execution, beacon) = tokio::join!(execution.check(contracts), beacon.check());
        let faults = |layer: &str, position: usize, name: &str, errors: Vec<NodeError>| {
            let fault = |error| NodeFault {
                field: format!("{layer}.urls[{position}]"),
                name: name.to_owned(),
                error,
            };
            errors.into_iter().map(fault).collect::<Vec<_>>()
        };
        let execution = execution.into_iter().enumerate().map(|(position, (name, errors))| {
            faults("execution", position, &name, errors.into_iter().map(NodeError::Execution).collect())
        });
        let beacon = beacon.into_iter().enumerate().map(|(position, (name, unfit))| {
            faults("beacon", position, &name, unfit.into_iter().map(NodeError::Beacon).collect())
        });
        Self { execution: execution.collect(), beacon: beacon.collect() }
    }

    fn all(&self) -> impl Iterator<Item = &NodeFault> {
        self.execution.iter().chain(&self.beacon).flatten()
    }

    /// What nodes answer that is wrong.
    pub fn faults(&self) -> impl Iterator<Item = &NodeFault> {
        self.all().filter(|fault| fault.error.is_fault())
    }

    /// The nodes that do not answer, or not yet.
    pub fn unanswered(&self) -> impl Iterator<Item = &NodeFault> {
        self.all().filter(|fault| !fault.error.is_fault())
    }

    /// Everything that is wrong, in one line.
    pub fn reasons(&self) -> String {
        self.all().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// Whether every node is right.
    pub fn is_good(&self) -> bool {
        self.all().next().is_none()
    }

    /// Whether an execution node is right. Beacon nodes may come later.
    pub fn may_begin(&self) -> bool {
        self.execution.iter().any(Vec::is_empty)
    }

    /// All faults, if there is nothing to wait for: of one layer no node is right, and more than half are wrong. So no single node among
    /// several can keep a host from its work.
    ///
    /// # Errors
    /// If so.
    pub fn or_give_up(self) -> Result<Self, WrongNodes> {
        let is_hopeless = |nodes: &[Vec<NodeFault>]| {
            let is_wrong = |faults: &&Vec<NodeFault>| faults.iter().any(|fault| fault.error.is_fault());
            let wrong = nodes.iter().filter(is_wrong).count();
            nodes.iter().all(|faults| !faults.is_empty()) && 2 * wrong > nodes.len()
        };
        if !is_hopeless(&self.execution) && !is_hopeless(&self.beacon) {
            return Ok(self);
        }
        let all = self.execution.into_iter().chain(self.beacon).flatten();
        Err(WrongNodes(all.filter(|fault| fault.error.is_fault()).collect()))
    }
}

impl Display for Survey {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        self.faults().try_for_each(|fault| writeln!(f, "WRONG: {fault}"))?;
        self.unanswered().try_for_each(|fault| writeln!(f, "no answer: {fault}"))?;
        let (execution, beacon) = (self.execution.len(), self.beacon.len());
        let verdict =
            if self.is_good() { "all are as the manifest says" } else { "not all can be relied on" };
        writeln!(f, "{execution} execution nodes and {beacon} beacon nodes were asked: {verdict}")
    }
}

#[cfg(all(test, feature = "devnet"))]
mod tests;
