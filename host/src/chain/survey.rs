//! What the configured nodes say of the chain, of its network and of the pool managers, before anything is begun: each is asked once, all
//! at the same time.
//!
//! A node that does not answer, or not yet, may be right. One that answers something else than the manifest says is a fault of the
//! configuration, of the manifest or of that node, and is named. Nothing is begun only while no execution node is right, or if there
//! is nothing to wait for. Only the newest manifest's pool manager is held against the chain for that, so that an epoch can correct a
//! wrong one: it is applied while the host is down. What is wrong with those before it is a remark.

use super::beacon::{BeaconError, BeaconNodes, Unfit};
use super::execution::{ChainError, Checked, Execution};
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

    /// Whether waiting for it does not help.
    fn is_hopeless(&self) -> bool {
        match self {
            Self::Execution(error) => !error.is_transient(),
            Self::Beacon(why) => matches!(why, Unfit::WrongNetwork { .. }),
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
    execution: Vec<Option<NodeFault>>,
    beacon: Vec<Option<NodeFault>>,
    remarks: Vec<NodeFault>,
}

/// The contracts of all pool managers that the manifests name, each once, the newest manifest's first.
pub fn contracts(manifests: &[Manifest]) -> Vec<Contracts> {
    let mut all: Vec<Contracts> = Vec::new();
    for Manifest { contracts, .. } in manifests.iter().rev() {
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
    /// Asks all nodes; `contracts` as [`contracts`] gives them.
    pub async fn make(execution: &Execution, beacon: &BeaconNodes, contracts: &[Contracts]) -> Self {
        let (checked, beacon) = tokio::join!(execution.check(contracts), beacon.check());
        let fault = |layer: &str, position: usize, name: &str, error: NodeError| NodeFault {
            field: format!("{layer}.urls[{position}]"),
            name: name.to_owned(),
            error,
        };
        let (mut execution, mut remarks) = (Vec::new(), Vec::new());
        for (position, Checked { name, error, remarks: of_node }) in checked.into_iter().enumerate() {
            let fault = |error| fault("execution", position, &name, NodeError::Execution(error));
            execution.push(error.map(fault));
            remarks.extend(of_node.into_iter().map(fault));
        }
        let beacon = beacon.into_iter().enumerate().map(|(position, (name, unfit))| {
            unfit.map(|why| fault("beacon", position, &name, NodeError::Beacon(why)))
        });
        Self { execution, beacon: beacon.collect(), remarks }
    }

    fn all(&self) -> impl Iterator<Item = &NodeFault> {
        self.execution.iter().chain(&self.beacon).flatten()
    }

    /// What nodes that are right say of pool managers that an epoch has replaced, or of where events begin, and is not as the manifests
    /// say. It keeps nobody from beginning: no epoch can take it back.
    pub fn remarks(&self) -> impl Iterator<Item = &NodeFault> {
        self.remarks.iter()
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
        self.execution.iter().any(Option::is_none)
    }

    /// All faults, if there is nothing to wait for: of one layer no node is right, and more than half say what can't become right. So no
    /// single node among several can keep a host from its work. Of a beacon node that is only another network: a server in its place
    /// that is being mended, or a key that has run out, is waited for.
    ///
    /// # Errors
    /// If so.
    pub fn or_give_up(self) -> Result<Self, WrongNodes> {
        let is_hopeless = |nodes: &[Option<NodeFault>]| {
            let hopeless = nodes.iter().flatten().filter(|fault| fault.error.is_hopeless()).count();
            nodes.iter().all(Option::is_some) && 2 * hopeless > nodes.len()
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
        self.remarks().try_for_each(|remark| writeln!(f, "remark: {remark}"))?;
        let (execution, beacon) = (self.execution.len(), self.beacon.len());
        let verdict =
            if self.is_good() { "all are as the manifest says" } else { "not all can be relied on" };
        writeln!(f, "{execution} execution nodes and {beacon} beacon nodes were asked: {verdict}")
    }
}

#[cfg(all(test, feature = "devnet"))]
mod tests;
