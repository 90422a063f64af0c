//! The demo from beginning to end.

use super::chaos::Chaos;
use super::contracts::Treasury;
use super::dao::{self, MemberFiles, MemberKeys};
use super::milestones::{self, Milestone, Track};
use super::processes::{Processes, Victim};
use super::progress;
use super::report::{self, DemoReport, NetworkReport, PoolReport, Timings, TranscriptPaths};
use super::stakers::{self, POOL_CAPACITY, SHARES, Staker, StakerReport, ether, wei};
use super::timeline::Timeline;
use super::{DemoArguments, DemoError, write_file};
use crate::chain::beacon::{BeaconError, BeaconNodes, StateId, Validator, ValidatorStatus};
use crate::chain::execution::Execution;
use crate::chain::profile::PoolEventKind;
use crate::chain::url::NodeUrl;
use crate::output::say;
use alloy::primitives::U256;
use futures::future::try_join_all;
use postern_devnet::Devnet;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::{ForkVersion, Network, Root};
use postern_shared::ids::{Address, Digest, PoolId};
use postern_shared::manifest::{Contracts, Manifest};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How often to look at hosts and chains.
const POLL: Duration = Duration::from_millis(100);
/// What each wallet has from genesis on, in ether; stakers have their stakes on top.
const POCKET_MONEY: u64 = 1_000;
/// Epochs between exit and payout. It is 256 on mainnet: a day, in which nothing happens here.
const WITHDRAWABILITY_DELAY: u64 = 1;

/// Everything that must be ended in order, whatever happens.
#[derive(Default)]
struct Stage {
    devnet: Option<Devnet>,
    processes: Option<Processes>,
}

/// One run.
struct Play<'a> {
    arguments: &'a DemoArguments,
    data_dir: PathBuf,
    timeline: Timeline,
    treasury: Treasury,
    stakers: Vec<Staker>,
    manifest: Manifest,
    members: Vec<MemberFiles>,
    execution: Execution,
    beacon: BeaconNodes,
    pools: Vec<Pool>,
    tracks: Vec<Track>,
    chaos: Chaos,
}

/// What is known of a pool.
struct Pool {
    id: PoolId,
    pubkey: Option<PublicKey>,
    validator: Option<Validator>,
    keygen: Option<PathBuf>,
    presign: Option<PathBuf>,
    release: Option<PathBuf>,
    /// What the beacon chain paid it, in wei.
    paid: Option<U256>,
    /// Whether the contract has on record that the validator has left.
    reported: bool,
    stakers: Vec<StakerReport>,
}

/// Runs the demo and leaves no process behind.
pub(super) async fn run(arguments: &DemoArguments) -> Result<(), DemoError> {
    let mut stage = Stage::default();
    let mut finished = false;
    let result = tokio::select! {
        result = perform(arguments, &mut stage, &mut finished) => result,
        result = interrupted() => match result {
            // Ctrl-C is how `--keep` ends.
            Ok(()) if finished => Ok(()),
            Ok(()) => Err(DemoError::Interrupted),
            Err(source) => Err(DemoError::Process { what: "listening for signals".to_owned(), source }),
        },
    };
    if let Some(processes) = stage.processes {
        processes.stop().await;
    }
    if let Some(devnet) = stage.devnet {
        devnet.shutdown().await;
    }
    result
}

async fn interrupted() -> Result<(), std::io::Error> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminated.recv() => Ok(()),
    }
}

async fn perform(arguments: &DemoArguments, stage: &mut Stage, finished: &mut bool) -> Result<(), DemoError> {
    let mut play = Play::set_up(arguments, stage).await?;
    play.bring_in(stage).await?;
    play.bring_out(stage).await?;
    play.pay_out(stage).await?;
    let report = play.prove(stage)?;
    play.timeline.finish();
    play.summarise(&report);
    if arguments.json {
        say(format_args!("{}\n", serde_json::to_string(&report).unwrap_or_default()))?;
    }
    *finished = true;
    if arguments.keep {
        play.keep(stage).await?;
    }
    Ok(())
}

/// Starts what has died again, and says so.
fn look_after(processes: &mut Processes, timeline: &mut Timeline) -> Result<(), DemoError> {
    for Victim { member, kind } in processes.look_after()? {
        timeline.say(format!("the {kind} of member {member} died and was started again"));
    }
    Ok(())
}

/// Waits until every member has an enclave that the DAO can name, and names them. Under fire, one that was there a moment ago
/// may not answer just now.
async fn name_enclaves(
    stage: &mut Stage,
    timeline: &mut Timeline,
    first: &Manifest,
    members: &[MemberFiles],
    patience: Duration,
    data_dir: &Path,
) -> Result<Manifest, DemoError> {
    let deadline = Instant::now() + patience;
    loop {
        let refused = match dao::named(first, members) {
            Ok(named) => return Ok(named),
            Err(refused) => refused,
        };
        if let Some(processes) = &mut stage.processes {
            look_after(processes, timeline)?;
        }
        if Instant::now() > deadline {
            return Err(DemoError::TooSlow {
                what: format!("an enclave for every member ({refused})"),
                seconds: patience.as_secs(),
                data_dir: data_dir.to_owned(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

impl<'a> Play<'a> {
    /// Chains, contract, manifest, members' processes.
    async fn set_up(arguments: &'a DemoArguments, stage: &mut Stage) -> Result<Self, DemoError> {
        let mut timeline = Timeline::new(arguments.json);
        let data_dir = arguments.make_data_dir()?;
        timeline.say(format!("data directory {}", data_dir.display()));
        timeline.say("the enclaves are simulated: they run the real code and protect nothing");

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
        let devnet = stage.devnet.insert(Devnet::start(config).await?);
        let (execution_url, beacon_url) = (devnet.execution_url(), devnet.beacon_url());
        timeline.say(format!("execution chain at {execution_url}, beacon chain at {beacon_url}"));

        let wallets = keys.iter().map(MemberKeys::governance_address).collect::<Result<_, _>>()?;
        let treasury = Treasury::deploy(&execution_url, chain_id, owner, deposit_contract, wallets).await?;
        timeline.say(format!("pool manager deployed at {}", treasury.pool_manager()));
        let stakers: Vec<Staker> =
            signers.into_iter().map(|(signer, share)| treasury.staker(signer, share)).collect();

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
        let manifest = dao::manifest(arguments, network, contracts, &keys)?;
        let manifest_file = data_dir.join("manifest.toml");
        write_file(&manifest_file, manifest.to_toml()?)?;
        let urls = dao::Urls { execution: execution_url.clone(), beacon: beacon_url.clone() };
        let members = dao::write_members(&data_dir, &manifest, &keys, &urls, arguments)?;
        stage.processes = Some(Processes::start(&members, data_dir.join("pids.json"))?);
        timeline.say(format!(
            "{} members started, each an enclave and a host; {} operators sign, {} guardians release",
            arguments.members, arguments.operator_threshold, arguments.guardian_threshold
        ));

        let named =
            name_enclaves(stage, &mut timeline, &manifest, &members, arguments.patience(), &data_dir).await?;
        let manifest = dao::found(&manifest, named, &keys, &members)?;
        timeline.say("the DAO is founded: all members have signed which enclaves are theirs");

        let execution = Execution::connect(&execution_url, chain_id).await?;
        let beacon_url = NodeUrl::parse(&beacon_url).map_err(BeaconError::Url)?;
        let beacon = BeaconNodes::new(&[beacon_url], network)?;
        let ids: Vec<PoolId> = (1..=arguments.pools).map(|number| manifest.pool(number)).collect();
        timeline.add_pools(&ids);
        let pools: Vec<Pool> = ids.into_iter().map(Pool::new).collect();
        let tracks = vec![Track::default(); pools.len()];
        Ok(Self {
            arguments,
            data_dir,
            timeline,
            treasury,
            stakers,
            manifest,
            members,
            execution,
            beacon,
            pools,
            tracks,
            chaos: Chaos::new(arguments),
        })
    }

    /// From stake to an active validator with a presigned exit.
    async fn bring_in(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        self.wait_for_founding(stage).await?;
        for staker in &self.stakers {
            self.timeline.say(format!(
                "{} stakes {} ETH for each pool",
                staker.address(),
                ether(staker.share())
            ));
        }
        stakers::stake(&self.stakers, self.arguments.pools).await?;
        for position in 0..self.pools.len() {
            self.reach(position, Milestone::Staked);
        }
        self.wait_for(stage, &[Milestone::Active, Milestone::Presigned]).await
    }

    /// The pool manager takes stake once it knows the enclaves: a host tells it.
    async fn wait_for_founding(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        let (patience, contract) = (self.arguments.patience(), self.manifest.contracts.pool_manager);
        let deadline = Instant::now() + patience;
        while self.execution.in_force_at(contract).await?.epoch == 0 {
            if let Some(processes) = &mut stage.processes {
                look_after(processes, &mut self.timeline)?;
            }
            if Instant::now() > deadline {
                return Err(DemoError::TooSlow {
                    what: "the founding of the DAO at the pool manager".to_owned(),
                    seconds: patience.as_secs(),
                    data_dir: self.data_dir.clone(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        self.timeline.say("the pool manager knows the DAO's wallets and enclaves, and takes stake");
        Ok(())
    }

    /// From the request to a leaving validator.
    async fn bring_out(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        self.chaos.last_act();
        for position in 0..self.pools.len() {
            self.treasury.request_exit(self.pools[position].id).await?;
            self.reach(position, Milestone::ExitRequested);
        }
        self.wait_for(stage, &[Milestone::Released, Milestone::Exiting]).await
    }

    /// From a leaving validator to ether in the stakers' hands.
    async fn pay_out(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        self.wait_for(stage, &[Milestone::PaidOut, Milestone::Reported]).await?;
        for position in 0..self.pools.len() {
            let pool = &mut self.pools[position];
            let paid = pool.paid.unwrap_or_default();
            pool.stakers =
                try_join_all(self.stakers.iter().map(|staker| staker.claim(pool.id, paid))).await?;
            self.reach(position, Milestone::Claimed);
        }
        Ok(())
    }

    /// Watches until every pool has these milestones.
    async fn wait_for(&mut self, stage: &mut Stage, wanted: &[Milestone]) -> Result<(), DemoError> {
        let patience = self.arguments.patience();
        let mut deadline = Instant::now() + patience;
        loop {
            if let Some(processes) = &mut stage.processes {
                look_after(processes, &mut self.timeline)?;
                let victims = self.chaos.victims();
                for Victim { member, kind } in &victims {
                    self.timeline.say(format!("the {kind} of member {member} is killed, and started again"));
                }
                processes.kill(&victims).await?;
            }
            if self.observe().await? {
                deadline = Instant::now() + patience;
            }
            let missing =
                wanted.iter().find(|milestone| !self.tracks.iter().all(|track| track.has(**milestone)));
            let Some(missing) = missing else {
                if self.chaos.is_over() {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
                continue;
            };
            if Instant::now() > deadline {
                return Err(DemoError::TooSlow {
                    what: format!("`{}`", missing.describe()),
                    seconds: patience.as_secs(),
                    data_dir: self.data_dir.clone(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Looks at hosts and chains; whether there is news.
    async fn observe(&mut self) -> Result<bool, DemoError> {
        let mut news = false;
        for position in 0..self.pools.len() {
            let pool = &mut self.pools[position];
            let progress = progress::read(&self.members, pool.id);
            pool.keygen = progress.keygen.or(pool.keygen.take());
            pool.presign = progress.presign.or(pool.presign.take());
            pool.release = progress.release.or(pool.release.take());
            self.timeline.at(pool.id, progress.activity);
            if pool.pubkey.is_none() {
                pool.pubkey = self.execution.pool(pool.id, false).await?.pubkey;
            }
            if let Some(pubkey) = &pool.pubkey {
                pool.validator =
                    self.beacon.validator(StateId::Head, pubkey).await?.or(pool.validator.take());
            }
            // Anybody may send ether to a pool; only what covers the stake is the payout.
            if pool.paid.is_none() && pool.status() == Some(ValidatorStatus::WithdrawalDone) {
                let balance = self.treasury.balance_of(pool.id).await?;
                pool.paid = (balance >= POOL_CAPACITY).then_some(balance);
            }
            if !pool.reported && pool.status().is_some_and(ValidatorStatus::has_exited) {
                let found = self.execution.transaction_of(PoolEventKind::Exited, pool.id, 0).await?;
                pool.reported = found.is_some();
            }
            for milestone in pool.milestones() {
                news |= self.reach(position, milestone);
            }
        }
        Ok(news)
    }

    fn reach(&mut self, position: usize, milestone: Milestone) -> bool {
        let track = &mut self.tracks[position];
        let news = track.reach(milestone, Instant::now());
        if news {
            self.timeline.reached(self.pools[position].id, milestone, track.count());
        }
        news
    }

    /// Checks everything once more, from the transcripts alone.
    fn prove(&self, stage: &mut Stage) -> Result<DemoReport, DemoError> {
        let pools = self.pools.iter().map(|pool| self.prove_pool(pool)).collect::<Result<Vec<_>, _>>()?;
        let between = |from, to| millis(milestones::between(&self.tracks, from, to));
        let network = &self.manifest.network;
        Ok(DemoReport {
            version: 3,
            network: NetworkReport {
                chain_id: network.chain_id,
                genesis_validators_root: network.genesis_validators_root,
                genesis_fork_version: network.genesis_fork_version,
                capella_fork_version: network.capella_fork_version,
            },
            members: self.arguments.members,
            operator_threshold: self.arguments.operator_threshold,
            guardian_threshold: self.arguments.guardian_threshold,
            pools,
            timings_ms: Timings {
                keygen: between(Milestone::Staked, Milestone::KeyMade),
                deposit: between(Milestone::KeyMade, Milestone::Deposited),
                presign: between(Milestone::Deposited, Milestone::Presigned),
                release: between(Milestone::ExitRequested, Milestone::Exiting),
                payout: between(Milestone::Exiting, Milestone::Claimed),
                total: millis(self.timeline.elapsed()),
            },
            peak_rss_kib: stage.processes.as_mut().map_or(0, Processes::peak_memory),
            chaos: self.chaos.report(),
        })
    }

    fn prove_pool(&self, pool: &Pool) -> Result<PoolReport, DemoError> {
        let unproved =
            |reason: &str| DemoError::Unproved { what: pool.id.to_string(), reason: reason.to_owned() };
        let (Some(keygen), Some(presign), Some(release)) =
            (pool.keygen.clone(), pool.presign.clone(), pool.release.clone())
        else {
            return Err(unproved("a transcript is missing"));
        };
        let validator = pool.validator.as_ref().ok_or_else(|| unproved("no validator"))?;
        let paths = TranscriptPaths { keygen, presign, release };
        let (index, status, stakers) = (validator.index, validator.status, pool.stakers.clone());
        let report = report::prove(&self.manifest, pool.id, paths, index, status, stakers)?;
        if Some(report.pubkey) != pool.pubkey {
            return Err(unproved("the contract has another validator than the transcripts"));
        }
        Ok(report)
    }

    fn summarise(&self, report: &DemoReport) {
        let timings = &report.timings_ms;
        self.timeline.print("");
        for pool in &report.pools {
            self.timeline
                .print(&format!("{}: validator {} {}", pool.pool_id, pool.validator_index, pool.pubkey));
            self.timeline.print("  verified offline, from transcripts and attestation evidence alone:");
            self.timeline.print(&format!(
                "    the key was made by {} attested enclaves, any {} of which can sign: {}",
                pool.operators.len(),
                report.operator_threshold,
                pool.transcripts.keygen.display()
            ));
            self.timeline.print(&format!(
                "    its exit was signed and split among {} guardians, any {} of which can release it: {}",
                pool.guardians.len(),
                report.guardian_threshold,
                pool.transcripts.presign.display()
            ));
            self.timeline
                .print(&format!("    the guardians released it: {}", pool.transcripts.release.display()));
            self.timeline.print(&format!(
                "  the deposit's and the exit's signatures verify; the validator is {} on the beacon chain",
                pool.beacon_status
            ));
            for staker in &pool.stakers {
                let ether = |wei: &str| wei.parse().map_or_else(|_| wei.to_owned(), ether);
                self.timeline.print(&format!(
                    "  {} brought {} ETH and got {} ETH back",
                    staker.address,
                    ether(&staker.contribution_wei),
                    ether(&staker.claimed_wei)
                ));
            }
        }
        self.timeline.print(&format!(
            "keygen {} ms, deposit {} ms, presign {} ms, release {} ms, payout {} ms, total {} ms; {} MiB in all processes",
            timings.keygen,
            timings.deposit,
            timings.presign,
            timings.release,
            timings.payout,
            timings.total,
            report.peak_rss_kib / 1024
        ));
    }

    /// Leaves everything running until a signal comes.
    async fn keep(&self, stage: &mut Stage) -> Result<(), DemoError> {
        if let Some(devnet) = &stage.devnet {
            eprintln!("running until Ctrl-C:");
            eprintln!("  execution chain  {}", devnet.execution_url());
            eprintln!("  beacon chain     {}", devnet.beacon_url());
            eprintln!("  members          {}", self.data_dir.display());
        }
        loop {
            tokio::time::sleep(POLL).await;
            if let Some(processes) = &mut stage.processes {
                for Victim { member, kind } in processes.look_after()? {
                    eprintln!("the {kind} of member {member} died and was started again");
                }
            }
        }
    }
}

impl Pool {
    fn new(id: PoolId) -> Self {
        Self {
            id,
            pubkey: None,
            validator: None,
            keygen: None,
            presign: None,
            release: None,
            paid: None,
            reported: false,
            stakers: Vec::new(),
        }
    }

    fn status(&self) -> Option<ValidatorStatus> {
        self.validator.as_ref().map(|validator| validator.status)
    }

    /// What is reached by what is known.
    fn milestones(&self) -> impl Iterator<Item = Milestone> + use<> {
        let (status, active) = (self.status(), ValidatorStatus::ActiveOngoing);
        [
            (Milestone::KeyMade, self.keygen.is_some()),
            (Milestone::Deposited, self.pubkey.is_some()),
            (Milestone::Active, status.is_some_and(|status| status >= active)),
            (Milestone::Presigned, self.presign.is_some()),
            (Milestone::Released, self.release.is_some()),
            (Milestone::Exiting, status.is_some_and(ValidatorStatus::is_leaving)),
            (Milestone::PaidOut, self.paid.is_some()),
            (Milestone::Reported, self.reported),
        ]
        .into_iter()
        .filter_map(|(milestone, reached)| reached.then_some(milestone))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
