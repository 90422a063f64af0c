//! `postern run`: serves one member's enclave until it is told to stop.
//!
//! Tasks that share nothing but the store, the enclave and the network, so that each can fail and go on by itself:
//! - `nodes` meets the configured nodes before anything is begun, and asks those again that were not as the manifests say;
//! - `events` writes down what pool managers say, looks for what is missing (`reconcile`), and tells the enclave; `validators` looks
//!   at the beacon chain;
//! - `results` acts on what the enclave published; `released` carries released exits to all hosts, and `posting` to the beacon
//!   nodes; `sending` sees to transactions on their way;
//! - `deposits` hands deposits in and compares them with what the chains took, `council` puts epochs in force at pool managers;
//!   `exits` puts on record there that validators have left; all collect what enclaves sign for these (`proofs`), and make a
//!   call if it is their turn (`calls`, and `line` for many at once);
//! - `strangers` looks for deposits that the own enclave knows nothing of; `alerts` are what a person has to look at, `troubles` what is wrong
//!   only for now;
//! - one task for each other member carries messages to it; `peers` answers theirs;
//! - `credentials` finds the certificates for the enclave's reports;
//! - `commands` does what an operator says while the host runs;
//! - `succession` has the enclave hand over to newer code, if there is any;
//! - a ticker lets the enclave look for what it misses; `attendance` has evidence made anew and says who is away;
//!   `report` writes the status file.
//!
//! # State and restart
//! Everything follows from the store. A task that starts again repeats what was not marked as done; the enclave, the
//! contract and the beacon chain each take a repetition for what it is.

mod alerts;
mod attendance;
mod calls;
pub mod commands;
mod council;
mod credentials;
mod deposits;
mod events;
mod exits;
mod files;
mod line;
mod nodes;
mod peers;
mod posting;
mod proofs;
mod reconcile;
mod released;
mod report;
mod results;
mod sending;
mod strangers;
mod succession;
mod troubles;
mod validators;

use self::calls::Turns;
use self::events::Followed;
use self::posting::Posts;
use self::released::{Offers, Refused};
use self::report::Starting;
use self::troubles::Troubles;
use crate::certificates::{CertificateSources, CertificatesError, FactsError};
use crate::chain::beacon::{BeaconError, BeaconNodes};
use crate::chain::execution::{ChainError, Execution};
use crate::chain::profile::Profile;
use crate::chain::survey::WrongNodes;
use crate::chain::transactions::{TransactionError, Transactions};
use crate::config::Config;
use crate::link::{Enclave, EnclaveError};
use crate::manifest::{ManifestFileError, awaits_cut, load_epochs};
use crate::network::{self, Network, NetworkError};
use crate::presence::{self, PresenceError};
use crate::status::Subject;
use crate::store::{NumberedPools, Store, StoreError};
use crate::{blocking, whole_file};
use postern_shared::epoch::SignedEpoch;
use postern_shared::ids::MemberId;
use postern_shared::manifest::Manifest;
use postern_shared::policy::Trust;
use postern_shared::wire::{Reply, Request};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Wait before the enclave or a chain node is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Why the daemon could not start, or had to end.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// This is not the only host, or can't say that it runs.
    #[error("data directory: {0}")]
    Presence(#[from] PresenceError),
    /// The store failed: without it nothing is safe to do.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The enclave's report is none.
    #[error("the enclave's report: {0}")]
    Report(#[from] postern_attestation::ReportError),
    /// No certificates can belong to it.
    #[error("the enclave's report: {0}")]
    Facts(#[from] FactsError),
    /// There are none.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// The enclave refuses to serve.
    #[error(transparent)]
    Enclave(EnclaveError),
    /// The execution node is unusable.
    #[error(transparent)]
    Chain(ChainError),
    /// The beacon nodes are unusable.
    #[error(transparent)]
    Beacon(BeaconError),
    /// The nodes answer something else than the manifest says.
    #[error(transparent)]
    Nodes(#[from] WrongNodes),
    /// The wallet is unusable.
    #[error(transparent)]
    Transactions(#[from] TransactionError),
    /// The daemon must begin anew: what it works with is another.
    #[error("{0}: beginning anew")]
    Again(&'static str),
    /// The epochs of the manifest can't be read.
    #[error(transparent)]
    Manifest(#[from] ManifestFileError),
    /// A task ended that must not.
    #[error("a task ended: {0}")]
    Task(String),
}

/// What all tasks share.
pub(crate) struct Shared {
    manifest: Manifest,
    /// The manifest before all epochs, these, and all manifests with the first.
    first: Manifest,
    epochs: Vec<SignedEpoch>,
    manifests: Vec<Manifest>,
    member: MemberId,
    data_dir: PathBuf,
    store: Arc<Store>,
    enclave: Enclave,
    network: Network,
    execution: Execution,
    beacon: BeaconNodes,
    transactions: Transactions,
    poll: Duration,
    tick: Duration,
    reattest: Duration,
    patience: Duration,
    turn: Duration,
    certificates: CertificateSources,
    turns: Turns,
    troubles: Troubles,
    posts: Posts,
    offers: Offers,
    refused: Refused,
    followed: Followed,
}

/// Runs until something fails for good, or the future is dropped.
pub async fn run(config: Config) -> Result<(), DaemonError> {
    let _presence = presence::take(&config.data_dir)?;
    whole_file::tidy(&config.data_dir);
    let pools =
        NumberedPools { chain: config.first.network.chain_id, contract: config.first.contracts.pool_manager };
    let store = Arc::new(Store::open_of(&config.store, pools)?);
    store.prune()?;
    let members: Vec<MemberId> = config.manifest.members.iter().map(|member| member.id).collect();
    store.set_members(config.member, &members)?;
    let starting = Starting::begin(&config);
    let network = config.manifest.network;
    let execution = Execution::new(&config.execution_urls, network.chain_id, Profile::default());
    let execution = execution.map_err(DaemonError::Chain)?;
    let beacon = BeaconNodes::new(&config.beacon_urls, network).map_err(DaemonError::Beacon)?;
    nodes::meet(&config, &execution, &beacon, &starting).await?;
    let transactions = Transactions::open(
        execution.connections(),
        config.manifest.network.chain_id,
        config.wallet,
        config.fees,
        Arc::clone(&store) as _,
    )?;
    starting.waits_for(Subject::Enclave, "not reached yet");
    let enclave = succession::choose(config.enclave.clone(), config.successor.as_ref(), &store).await?;
    starting.waits_for(Subject::Enclave, "no certificates for its reports yet");
    let certificates = credentials::find(&enclave, &config.certificates).await?;
    let start = Request::Start {
        manifest: config.first.to_canonical(),
        epochs: config.epochs.clone(),
        member: config.member,
        certificates,
    };
    let (network, questions) =
        Network::start(&config.manifest, config.host_key, config.listen, config.peers).await?;
    let (offers, offered) = Offers::new();
    let shared = Arc::new(Shared {
        enclave: Enclave::new(enclave.clone(), start, Arc::clone(&store)),
        manifest: config.manifest,
        first: config.first,
        epochs: config.epochs,
        manifests: config.manifests,
        member: config.member,
        data_dir: config.data_dir,
        store,
        network,
        execution,
        beacon,
        transactions,
        poll: config.poll,
        tick: config.tick,
        reattest: config.reattest,
        patience: config.patience,
        turn: config.turn,
        certificates: config.certificates,
        turns: Turns::default(),
        troubles: Troubles::default(),
        posts: Posts::default(),
        offers,
        refused: Refused::default(),
        followed: Followed::default(),
    });
    tracing::info!(member = %shared.member, dao = shared.manifest.name, manifest = %shared.manifest.hash(), "serving");

    if shared.manifest.attestation.trust != Trust::Amd {
        tracing::warn!(
            "the manifest trusts a SIMULATED root: enclaves are not real, and nothing is protected"
        );
    }
    let mut tasks = JoinSet::new();
    for member in members.into_iter().filter(|member| *member != shared.member) {
        let (store, network) = (Arc::clone(&shared.store), shared.network.clone());
        tasks.spawn(async move { DaemonError::Store(network::carry(store, network, member).await) });
    }
    tasks.spawn(peers::answer(Arc::clone(&shared), questions));
    tasks.spawn(peers::tick(Arc::clone(&shared)));
    tasks.spawn(attendance::attest(Arc::clone(&shared)));
    tasks.spawn(nodes::look_after(Arc::clone(&shared)));
    tasks.spawn(events::follow(Arc::clone(&shared)));
    tasks.spawn(events::tell(Arc::clone(&shared)));
    tasks.spawn(commands::follow(Arc::clone(&shared)));
    tasks.spawn(validators::follow(Arc::clone(&shared)));
    tasks.spawn(results::act(Arc::clone(&shared)));
    tasks.spawn(released::keep(Arc::clone(&shared), offered));
    tasks.spawn(released::hand_out(Arc::clone(&shared)));
    tasks.spawn(released::fetch(Arc::clone(&shared)));
    tasks.spawn(posting::follow(Arc::clone(&shared)));
    tasks.spawn(sending::follow(Arc::clone(&shared)));
    tasks.spawn(deposits::follow(Arc::clone(&shared)));
    tasks.spawn(exits::follow(Arc::clone(&shared)));
    tasks.spawn(strangers::follow(Arc::clone(&shared)));
    tasks.spawn(council::follow(Arc::clone(&shared)));
    tasks.spawn(report::write(Arc::clone(&shared), starting));
    tasks.spawn(watch_epochs(Arc::clone(&shared)));
    if let Some(successor) = config.successor.filter(|successor| *successor != enclave) {
        tasks.spawn(succession::hand_over(Arc::clone(&shared), successor));
    }
    // Tasks end only when something failed for good; the others are ended with this one.
    match tasks.join_next().await {
        Some(Ok(error)) => Err(error),
        Some(Err(error)) => Err(DaemonError::Task(error.to_string())),
        None => Ok(()),
    }
}

/// Ends when the manifest has a new epoch: too much depends on it to be changed on the way.
async fn watch_epochs(shared: Arc<Shared>) -> DaemonError {
    loop {
        match blocking::run(|| load_epochs(&shared.data_dir, &shared.first)) {
            Ok(kept) if kept.epochs.len() != shared.epochs.len() => {
                return DaemonError::Again("the manifest has a new epoch");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the manifest's epochs can't be read"),
        }
        hand_in_next(&shared).await;
        if blocking::run(|| awaits_cut(&shared.data_dir))
            && let Ok(Reply::Rejected(rejection)) = shared.enclave.ask(&Request::AwaitCut).await
        {
            tracing::warn!(%rejection, "the enclave does not wait for a cut");
        }
        tokio::time::sleep(RETRY * 4).await;
    }
}

/// Hands the enclave the epoch after the one that it goes by, if there is one: it takes them one after the other, as the
/// members agree on them.
async fn hand_in_next(shared: &Shared) {
    let Ok(status) = shared.enclave.status().await else { return };
    let known = status.epoch.saturating_sub(shared.first.epoch);
    let next = usize::try_from(known).ok().and_then(|known| shared.epochs.get(known));
    let Some(next) = next else { return };
    if let Ok(Reply::Rejected(rejection)) = shared.enclave.ask(&Request::Amend(next.clone())).await {
        tracing::warn!(%rejection, "the enclave refuses an epoch of the manifest");
    }
}

#[cfg(all(test, feature = "devnet"))]
mod tests;
