//! The demo from beginning to end.

use super::chaos::Chaos;
use super::cluster::{Chains, Cluster, MemberNodes};
use super::milestones::{self, Milestone, Track};
use super::processes::Victim;
use super::report::{self, DemoReport, NetworkReport, PoolReport, Timings, TranscriptPaths};
use super::stakers::{POOL_CAPACITY, StakerReport, ether};
use super::timeline::Timeline;
use super::{DemoArguments, DemoError};
use crate::chain::beacon::{Found, StateId, Validator, ValidatorStatus};
use crate::chain::profile::PoolEventKind;
use crate::output::say;
use alloy::primitives::U256;
use futures::future::try_join_all;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::Network;
use postern_shared::ids::PoolId;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How often to look at hosts and chains.
const POLL: Duration = Duration::from_millis(100);

/// One run.
struct Play<'a> {
    arguments: &'a DemoArguments,
    cluster: &'a mut Cluster,
    timeline: Timeline,
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
    let mut stage = None;
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
    if let Some(cluster) = stage {
        cluster.stop().await;
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

async fn perform(
    arguments: &DemoArguments,
    stage: &mut Option<Cluster>,
    finished: &mut bool,
) -> Result<(), DemoError> {
    let timeline = Timeline::new(arguments.json);
    let cluster = stage.insert(set_up(arguments, &timeline).await?);
    let mut play = Play::begin(arguments, timeline, cluster).await?;
    play.bring_in().await?;
    play.bring_out().await?;
    play.pay_out().await?;
    let report = play.prove()?;
    play.timeline.finish();
    play.summarise(&report);
    if arguments.json {
        say(format_args!("{}\n", serde_json::to_string(&report).unwrap_or_default()))?;
    }
    *finished = true;
    if arguments.keep {
        play.keep().await?;
    }
    Ok(())
}

/// Chains, contract, manifest, members' processes.
async fn set_up(arguments: &DemoArguments, timeline: &Timeline) -> Result<Cluster, DemoError> {
    let data_dir = arguments.make_data_dir()?;
    timeline.say(format!("data directory {}", data_dir.display()));
    timeline.say("the enclaves are simulated: they run the real code and protect nothing");
    let chains = Chains::start(arguments).await?;
    let devnet = chains.devnet();
    let (execution, beacon) = (devnet.execution_url(), devnet.beacon_url());
    timeline.say(format!("execution chain at {execution}, beacon chain at {beacon}"));
    let nodes = vec![MemberNodes::of(devnet); arguments.members.into()];
    let this = std::env::current_exe();
    let this =
        this.map_err(|source| DemoError::Process { what: "finding this program".to_owned(), source })?;
    let cluster = Cluster::start(arguments, chains, &nodes, &this, &data_dir).await?;
    timeline.say(format!("pool manager deployed at {}", cluster.treasury.pool_manager()));
    timeline.say(format!(
        "{} members started, each an enclave and a host; {} operators sign, {} guardians release",
        arguments.members, arguments.operator_threshold, arguments.guardian_threshold
    ));
    Ok(cluster)
}

fn restarted(Victim { member, kind }: &Victim) -> String {
    format!("the {kind} of member {member} died and was started again")
}

impl<'a> Play<'a> {
    /// Founds the DAO.
    async fn begin(
        arguments: &'a DemoArguments,
        mut timeline: Timeline,
        cluster: &'a mut Cluster,
    ) -> Result<Self, DemoError> {
        cluster.found(arguments.patience(), |died| timeline.say(restarted(died))).await?;
        timeline.say("the DAO is founded: all members have signed which enclaves are theirs");
        let manifest = cluster.manifest();
        let ids: Vec<PoolId> = (1..=arguments.pools).map(|number| manifest.pool(number)).collect();
        timeline.add_pools(&ids);
        let pools: Vec<Pool> = ids.into_iter().map(Pool::new).collect();
        let tracks = vec![Track::default(); pools.len()];
        Ok(Self { arguments, cluster, timeline, pools, tracks, chaos: Chaos::new(arguments) })
    }

    /// From stake to an active validator with a presigned exit.
    async fn bring_in(&mut self) -> Result<(), DemoError> {
        let timeline = &self.timeline;
        self.cluster
            .wait_for_founding(self.arguments.patience(), |died| timeline.say(restarted(died)))
            .await?;
        self.timeline.say("the pool manager knows the DAO's wallets and enclaves, and takes stake");
        for staker in &self.cluster.stakers {
            self.timeline.say(format!(
                "{} stakes {} ETH for each pool",
                staker.address(),
                ether(staker.share())
            ));
        }
        self.cluster.stake(self.arguments.pools).await?;
        for position in 0..self.pools.len() {
            self.reach(position, Milestone::Staked);
        }
        self.wait_for(&[Milestone::Active, Milestone::Presigned]).await
    }

    /// From the request to a leaving validator.
    async fn bring_out(&mut self) -> Result<(), DemoError> {
        self.chaos.last_act();
        let pools: Vec<PoolId> = self.pools.iter().map(|pool| pool.id).collect();
        self.cluster.request_exits(&pools).await?;
        for position in 0..self.pools.len() {
            self.reach(position, Milestone::ExitRequested);
        }
        self.wait_for(&[Milestone::Released, Milestone::Exiting]).await
    }

    /// From a leaving validator to ether in the stakers' hands.
    async fn pay_out(&mut self) -> Result<(), DemoError> {
        self.wait_for(&[Milestone::PaidOut, Milestone::Reported]).await?;
        for position in 0..self.pools.len() {
            let pool = &mut self.pools[position];
            let paid = pool.paid.unwrap_or_default();
            pool.stakers =
                try_join_all(self.cluster.stakers.iter().map(|staker| staker.claim(pool.id, paid))).await?;
            self.reach(position, Milestone::Claimed);
        }
        Ok(())
    }

    /// Watches until every pool has these milestones.
    async fn wait_for(&mut self, wanted: &[Milestone]) -> Result<(), DemoError> {
        let patience = self.arguments.patience();
        let mut deadline = Instant::now() + patience;
        loop {
            for died in self.cluster.look_after()? {
                self.timeline.say(restarted(&died));
            }
            let victims = self.chaos.victims();
            for Victim { member, kind } in &victims {
                self.timeline.say(format!("the {kind} of member {member} is killed, and started again"));
            }
            self.cluster.kill(&victims).await?;
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
                    data_dir: self.cluster.data_dir().to_owned(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Looks at hosts and chains; whether there is news.
    async fn observe(&mut self) -> Result<bool, DemoError> {
        let mut progress = self.cluster.progress();
        for pool in &mut self.pools {
            let known = progress.remove(&pool.id).unwrap_or_default();
            pool.keygen = pool.keygen.take().or(known.keygen);
            pool.presign = pool.presign.take().or(known.presign);
            pool.release = pool.release.take().or(known.release);
            self.timeline.at(pool.id, known.activity);
            if pool.pubkey.is_none() && pool.keygen.is_some() {
                pool.pubkey = self.cluster.execution.pool(pool.id, false).await?.pubkey;
            }
        }
        let keys: Vec<PublicKey> =
            self.pools.iter().filter(|pool| pool.paid.is_none()).filter_map(|pool| pool.pubkey).collect();
        let found = self.cluster.beacon.validators(StateId::Head, &keys).await?;
        let mut news = false;
        for position in 0..self.pools.len() {
            let pool = &mut self.pools[position];
            if let Some(Found::There(validator, _)) = pool.pubkey.and_then(|key| found.get(&key)) {
                pool.validator = Some(validator.clone());
            }
            // Anybody may send ether to a pool; only what covers the stake is the payout.
            if pool.paid.is_none() && pool.status() == Some(ValidatorStatus::WithdrawalDone) {
                let balance = self.cluster.treasury.balance_of(pool.id).await?;
                pool.paid = (balance >= POOL_CAPACITY).then_some(balance);
            }
            if !pool.reported && pool.status().is_some_and(ValidatorStatus::has_exited) {
                let found = self.cluster.execution.transaction_of(PoolEventKind::Exited, pool.id, 0).await?;
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
    fn prove(&mut self) -> Result<DemoReport, DemoError> {
        let pools = self.pools.iter().map(|pool| self.prove_pool(pool)).collect::<Result<Vec<_>, _>>()?;
        let between = |from, to| millis(milestones::between(&self.tracks, from, to));
        let Network { chain_id, genesis_fork_version, capella_fork_version, genesis_validators_root } =
            self.cluster.manifest.network;
        let network =
            NetworkReport { chain_id, genesis_validators_root, genesis_fork_version, capella_fork_version };
        let peak_rss_kib = self.cluster.peak_memory();
        Ok(DemoReport {
            version: 3,
            network,
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
            peak_rss_kib,
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
        let report = report::prove(&self.cluster.manifest, pool.id, paths, index, status, stakers)?;
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
    async fn keep(&mut self) -> Result<(), DemoError> {
        let devnet = self.cluster.devnet();
        eprintln!("running until Ctrl-C:");
        eprintln!("  execution chain  {}", devnet.execution_url());
        eprintln!("  beacon chain     {}", devnet.beacon_url());
        eprintln!("  members          {}", self.cluster.data_dir().display());
        loop {
            tokio::time::sleep(POLL).await;
            for died in self.cluster.look_after()? {
                eprintln!("{}", restarted(&died));
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
