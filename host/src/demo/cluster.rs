//! A DAO on this machine: the embedded chains, and a host and a simulated enclave for each member. The demo plays on it, and tests
//! that need whole programs.

use super::contracts::Treasury;
use super::dao::{self, MemberFiles, MemberKeys};
use super::processes::{Processes, Victim};
use super::progress::{self, PoolProgress};
use super::stakers::{self, SHARES, Staker, wei};
use super::{DemoArguments, DemoError, write_file};
use crate::chain::beacon::{BeaconError, BeaconNodes};
use crate::chain::execution::Execution;
use crate::chain::url::NodeUrl;
use postern_devnet::Devnet;
use postern_shared::ethereum::{ForkVersion, Network, Root};
use postern_shared::ids::{Address, Digest, PoolId};
use postern_shared::manifest::{Contracts, Manifest};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What each wallet has from genesis on, in ether; stakers have their stakes on top.
const POCKET_MONEY: u64 = 1_000;
/// Epochs between exit and payout. It is 256 on mainnet: a day, in which nothing happens here.
const WITHDRAWABILITY_DELAY: u64 = 1;
/// How often to look at what is waited for.
const POLL: Duration = Duration::from_millis(100);

/// The nodes that a member's host is given, by their URLs.
#[derive(Debug, Clone)]
pub struct MemberNodes {
    /// Execution nodes.
    pub execution: Vec<String>,
    /// Beacon nodes.
    pub beacon: Vec<String>,
}

impl MemberNodes {
    /// The embedded chains' own nodes.
    pub fn of(devnet: &Devnet) -> Self {
        Self { execution: vec![devnet.execution_url()], beacon: vec![devnet.beacon_url()] }
    }
}

/// The chains before there are members: everybody's wallet has ether, and the pool manager is deployed.
pub struct Chains {
    devnet: Devnet,
    keys: Vec<MemberKeys>,
    treasury: Treasury,
    stakers: Vec<Staker>,
    network: Network,
    contracts: Contracts,
}

impl Chains {
    /// Starts them.
    pub async fn start(arguments: &DemoArguments) -> Result<Self, DemoError> {
        let keys = MemberKeys::make(arguments.members)?;
        let owner = dao::fresh_signer()?;
        let mut prefunded = vec![(owner.address(), wei(POCKET_MONEY))];
        let mut signers = Vec::new();
        for share in SHARES {
            let signer = dao::fresh_signer()?;
            prefunded.push((signer.address(), wei(share * u64::from(arguments.pools) + POCKET_MONEY)));
            signers.push((signer, share));
        }
        for (member, _) in keys.iter().zip(1..).filter(|(_, id)| arguments.poor != Some(*id)) {
            prefunded.push((member.wallet_address()?, wei(POCKET_MONEY)));
        }
        let config = postern_devnet::Config {
            slot: arguments.slot(),
            prefunded,
            min_validator_withdrawability_delay: WITHDRAWABILITY_DELAY,
            ..Default::default()
        };
        let (chain_id, deposit_contract) = (config.chain_id, config.deposit_contract);
        let (genesis, capella) = (config.genesis_fork_version, config.capella_fork_version);
        let devnet = Devnet::start(config).await?;
        let wallets = keys.iter().map(MemberKeys::governance_address).collect::<Result<_, _>>()?;
        let url = devnet.execution_url();
        let treasury = Treasury::deploy(&url, chain_id, owner, deposit_contract, wallets).await?;
        let stakers = signers.into_iter().map(|(signer, share)| treasury.staker(signer, share)).collect();
        let network = Network {
            chain_id,
            genesis_fork_version: ForkVersion(genesis),
            capella_fork_version: ForkVersion(capella),
            genesis_validators_root: Root(devnet.genesis_validators_root()),
        };
        let contracts = Contracts {
            pool_manager: Address(treasury.pool_manager().into_array()),
            pool_code: Digest(treasury.pool_code().await?.0),
            start_block: treasury.deployed_in(),
            deposit: Address(deposit_contract.into_array()),
        };
        Ok(Self { devnet, keys, treasury, stakers, network, contracts })
    }

    /// Both nodes.
    pub fn devnet(&self) -> &Devnet {
        &self.devnet
    }
}

/// See the module. Dropping it kills everything.
pub struct Cluster {
    data_dir: PathBuf,
    devnet: Devnet,
    processes: Processes,
    keys: Vec<MemberKeys>,
    pub(super) treasury: Treasury,
    pub(super) stakers: Vec<Staker>,
    /// The first one until the DAO is founded.
    pub(super) manifest: Manifest,
    pub(super) members: Vec<MemberFiles>,
    pub(super) execution: Execution,
    pub(super) beacon: BeaconNodes,
}

impl Cluster {
    /// Starts every member's enclave and host from `program`, which is `postern`, with files below `data_dir`, an empty directory.
    /// The first one of `nodes` is for member 1, and so on. MUST be polled on a thread that outlives this value: children die with it.
    pub async fn start(
        arguments: &DemoArguments,
        chains: Chains,
        nodes: &[MemberNodes],
        program: &Path,
        data_dir: &Path,
    ) -> Result<Self, DemoError> {
        let Chains { devnet, keys, treasury, stakers, network, contracts } = chains;
        let manifest = dao::manifest(arguments, network, contracts, &keys)?;
        write_file(&data_dir.join("manifest.toml"), manifest.to_toml()?)?;
        let members = dao::write_members(data_dir, &manifest, &keys, nodes, arguments)?;
        let execution = Execution::connect(&devnet.execution_url(), network.chain_id).await?;
        let beacon_url = NodeUrl::parse(&devnet.beacon_url()).map_err(BeaconError::Url)?;
        let beacon = BeaconNodes::new(&[beacon_url], network)?;
        let processes = Processes::start(program, &members, data_dir.join("pids.json"))?;
        let data_dir = data_dir.to_owned();
        Ok(Self {
            data_dir,
            devnet,
            processes,
            keys,
            treasury,
            stakers,
            manifest,
            members,
            execution,
            beacon,
        })
    }

    /// Both chains.
    pub fn devnet(&self) -> &Devnet {
        &self.devnet
    }

    /// Everybody's files are below this.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// In force: the first one until the DAO is founded.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where each member's files are, in the order of their numbers.
    pub fn members(&self) -> &[MemberFiles] {
        &self.members
    }

    /// Waits until every member has an enclave that the DAO can name, and founds it: all governance wallets sign. Under fire, one that
    /// was there a moment ago may not answer just now. Processes that die meanwhile are started again, and told of.
    pub async fn found(
        &mut self,
        patience: Duration,
        mut died: impl FnMut(&Victim),
    ) -> Result<(), DemoError> {
        let deadline = Instant::now() + patience;
        let named = loop {
            let refused = match dao::named(&self.manifest, &self.members) {
                Ok(named) => break named,
                Err(refused) => refused,
            };
            let what = || format!("an enclave for every member ({refused})");
            self.pause(deadline, patience, &mut died, what).await?;
        };
        self.manifest = dao::found(&self.manifest, named, &self.keys, &self.members)?;
        Ok(())
    }

    /// Waits until the pool manager takes stake: a host has told it of the enclaves.
    pub async fn wait_for_founding(
        &mut self,
        patience: Duration,
        mut died: impl FnMut(&Victim),
    ) -> Result<(), DemoError> {
        let (deadline, contract) = (Instant::now() + patience, self.manifest.contracts.pool_manager);
        while self.execution.in_force_at(contract).await?.epoch == 0 {
            let what = || "the founding of the DAO at the pool manager".to_owned();
            self.pause(deadline, patience, &mut died, what).await?;
        }
        Ok(())
    }

    async fn pause(
        &mut self,
        deadline: Instant,
        patience: Duration,
        died: &mut impl FnMut(&Victim),
        what: impl FnOnce() -> String,
    ) -> Result<(), DemoError> {
        self.look_after()?.iter().for_each(died);
        if Instant::now() > deadline {
            let (what, seconds, data_dir) = (what(), patience.as_secs(), self.data_dir.clone());
            return Err(DemoError::TooSlow { what, seconds, data_dir });
        }
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    /// Stakes for so many more pools.
    pub async fn stake(&self, pools: u32) -> Result<(), DemoError> {
        stakers::stake(&self.stakers, pools).await
    }

    /// Has the treasury ask for the exits of pools.
    pub async fn request_exits(&self, pools: &[PoolId]) -> Result<(), DemoError> {
        self.treasury.request_exits(pools).await
    }

    /// What the members' hosts say of all pools.
    pub fn progress(&self) -> BTreeMap<PoolId, PoolProgress> {
        progress::read(&self.members)
    }

    /// Starts dead processes again, and says which they were.
    pub fn look_after(&mut self) -> Result<Vec<Victim>, DemoError> {
        self.processes.look_after()
    }

    /// Kills processes with `kill -9`, and when all are dead starts them again.
    pub async fn kill(&mut self, victims: &[Victim]) -> Result<(), DemoError> {
        self.processes.kill(victims).await
    }

    /// Sum of the highest resident sizes of this process and all children so far, in KiB.
    pub fn peak_memory(&mut self) -> u64 {
        self.processes.peak_memory()
    }

    /// Asks all to end, and waits until they have.
    pub async fn stop(self) {
        self.processes.stop().await;
        self.devnet.shutdown().await;
    }
}
