//! A DAO that lives for a while among nodes of which one of three always lies, at every member: which one and how changes all the time. Hosts
//! are killed, the chains are reorganised, and pools come and go in waves. Whatever happens: each pool is deposited once and for
//! its own key, each wished exit and no other gets on the chain, nobody pays above the limits, and there is no alarm without a
//! cause. In the end some causes are planted, and each must show at the member whose nodes they are.
//!
//! The members' hosts and enclaves are real programs, of the release binary (`cargo build --release` first, or `POSTERN_BIN`).
//! What is so is read from the embedded chains themselves, what is said from what people see: alerts and `postern status`.
//!
//! `POSTERN_ENDURANCE_POOLS`, `_SECONDS` and `_SLOT_MS` say how much, `_SEED` who lies, dies and comes when: the same intentions,
//! not the same run. A run of an hour with 200 pools:
//! `POSTERN_ENDURANCE_POOLS=200 POSTERN_ENDURANCE_SECONDS=3600 cargo test --workspace --test programs -- --ignored --nocapture endurance`

mod at_rest;
mod crowd;
mod lies;
mod truth;

use self::lies::{NODES, Nodes};
use self::truth::Truth;
use super::kill::binary;
use alloy::primitives::{Address, U256};
use postern_devnet::Leftover;
use postern_devnet::liar::{ExecutionLie, Lie};
use postern_host::chain::transactions::FeeRules;
use postern_host::demo::{Chains, Cluster, DemoArguments, Kind, MemberFiles, Victim};
use postern_host::verify::{Proved, verify_files};
use postern_shared::ids::PoolId;
use postern_shared::transcript::Claim;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// For what has to come by itself: generous, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(600);
/// What a pool's life may take more than the chaos lasts.
const PATIENCE_PER_POOL: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);
/// How often is looked at what has become of everything.
const LOOK: Duration = Duration::from_secs(1);
/// How many pools may be on their way to a presigned exit at a time.
const MOST_COMING: usize = 16;
/// How long a reorganisation waits for something to undo.
const STILL: Duration = Duration::from_secs(15);
/// Blocks that a reorganisation leaves.
const DEPTH: Range<u64> = 1..9;
/// What the demo's members may spend on fees in a day, in wei.
const BUDGET: u128 = 10_000_000_000_000_000_000;
const STAKE: u64 = 32;
/// Lines of a log that are shown if something fails.
const TAIL: usize = 12;

fn number(name: &str, otherwise: u64) -> u64 {
    let name = format!("POSTERN_ENDURANCE_{name}");
    std::env::var(&name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// When what happens next; seconds.
struct Pace {
    lies: Range<u64>,
    kills: Range<u64>,
    reorganisations: Range<u64>,
    exits: Range<u64>,
}

impl Pace {
    fn of(seconds: u64) -> Self {
        if seconds < 300 {
            Self { lies: 3..8, kills: 4..9, reorganisations: 8..16, exits: 1..4 }
        } else {
            Self { lies: 5..25, kills: 5..25, reorganisations: 45..75, exits: 2..20 }
        }
    }
}

/// Waits for a random moment, again and again.
struct Timer(Instant);

impl Timer {
    fn rings(&mut self, rng: &mut fastrand::Rng, pause: &Range<u64>) -> bool {
        let now = Instant::now();
        let rings = now >= self.0;
        if rings {
            self.0 = now + Duration::from_millis(rng.u64(pause.start * 1000..pause.end * 1000));
        }
        rings
    }
}

/// What is known of a pool that is staked.
#[derive(Default, Clone)]
struct Pool {
    /// Of its validator, by the pool manager.
    key: Option<Vec<u8>>,
    is_wished_out: bool,
}

#[derive(Debug, Default)]
struct Counts {
    lies: usize,
    kills: usize,
    reorganisations: usize,
    returned: usize,
    lost: usize,
    /// What hosts had to complain about on the way, by kind.
    troubles: BTreeMap<String, usize>,
}

struct Run {
    seed: u64,
    rng: fastrand::Rng,
    started: Instant,
    seconds: u64,
    wanted: u32,
    cluster: Cluster,
    nodes: Vec<Nodes>,
    truth: Truth,
    pools: BTreeMap<u32, Pool>,
    /// Exits that waited for a block when they were last counted.
    waiting_exits: usize,
    counts: Counts,
    folder: PathBuf,
}

impl Run {
    async fn start() -> Self {
        let (seed, seconds) = (number("SEED", fastrand::u64(..1_000_000)), number("SECONDS", 30));
        let mut arguments = DemoArguments::default();
        arguments.pools = u32::try_from(number("POOLS", 3)).expect("a number of pools");
        arguments.slot_ms = number("SLOT_MS", if seconds < 300 { 200 } else { 400 });
        arguments.validate().expect("a cluster that can be");
        println!("seed {seed}: {} pools, {seconds} s, slots of {} ms", arguments.pools, arguments.slot_ms);
        // Kept if the test fails, for its logs.
        let folder = tempfile::tempdir().expect("a folder").keep();
        let chains = Chains::start(&arguments).await.expect("the chains start");
        let mut nodes = Vec::new();
        for _ in 0..arguments.members {
            nodes.push(Nodes::start(chains.devnet()).await.expect("proxies start"));
        }
        let urls: Vec<_> = nodes.iter().map(Nodes::urls).collect();
        let cluster = Cluster::start(&arguments, chains, &urls, &binary(), &folder).await;
        let mut cluster = cluster.expect("the members' programs start");
        let died = |victim: &Victim| panic!("{victim:?} died by itself");
        cluster.found(PATIENCE, died).await.expect("the DAO is founded");
        let truth = Truth::new(cluster.devnet(), cluster.manifest());
        let (rng, started) = (fastrand::Rng::with_seed(seed), Instant::now());
        let (wanted, pools, counts) = (arguments.pools, BTreeMap::new(), Counts::default());
        let mut run = Self {
            seed,
            rng,
            started,
            seconds,
            wanted,
            cluster,
            nodes,
            truth,
            pools,
            waiting_exits: 0,
            counts,
            folder,
        };
        run.change_lies();
        // From here on somebody always lies: the pool manager is told of the epoch all the same.
        run.cluster.wait_for_founding(PATIENCE, died).await.expect("the pool manager is told");
        run.say("the DAO is founded");
        run
    }

    fn say(&self, text: impl AsRef<str>) {
        println!("{:7.1} s  {}", self.started.elapsed().as_secs_f64(), text.as_ref());
    }

    fn members(&self) -> &[MemberFiles] {
        self.cluster.members()
    }

    fn id(&self, number: u32) -> PoolId {
        self.cluster.manifest().pool(number)
    }

    fn change_lies(&mut self) {
        for nodes in &mut self.nodes {
            nodes.change(&mut self.rng);
        }
        self.counts.lies += 2 * self.nodes.len();
    }

    /// Chaos until the time is over and all pools have been through their lives.
    async fn live(&mut self) {
        let pace = Pace::of(self.seconds);
        let now = Instant::now();
        let mut lies: Vec<Timer> = self.nodes.iter().map(|_| Timer(now)).collect();
        let [mut kills, mut reorganisations, mut exits, mut looks] = [0; 4].map(|_| Timer(now));
        // None before anything has happened.
        reorganisations.rings(&mut self.rng, &pace.reorganisations);
        let (mut next_stake, mut reorganise_by, mut kill_next) = (now, None, false);
        let deadline = now + Duration::from_secs(self.seconds) + PATIENCE + PATIENCE_PER_POOL * self.wanted;
        let mut is_done = false;
        while !is_done || self.started.elapsed() < Duration::from_secs(self.seconds) {
            assert!(Instant::now() < deadline, "not all pools get through: {:?}", self.behind().await);
            assert_eq!(self.cluster.look_after().expect("processes"), [], "died by itself");
            for (member, timer) in lies.iter_mut().enumerate() {
                if timer.rings(&mut self.rng, &pace.lies) {
                    self.nodes[member].change(&mut self.rng);
                    self.counts.lies += 2;
                }
            }
            kill_next |= kills.rings(&mut self.rng, &pace.kills);
            if kill_next && self.all_serve() {
                kill_next = false;
                self.kill_a_host().await;
            }
            if reorganisations.rings(&mut self.rng, &pace.reorganisations) {
                reorganise_by = Some(Instant::now() + STILL);
            }
            if let Some(by) = reorganise_by
                && (self.stirs().await || Instant::now() >= by)
            {
                reorganise_by = None;
                self.reorganise();
            }
            if Instant::now() >= next_stake {
                next_stake += self.stake().await;
            }
            if exits.rings(&mut self.rng, &pace.exits) {
                self.wish_for_exits().await;
            }
            if looks.0 <= Instant::now() {
                looks.0 = Instant::now() + LOOK;
                is_done = self.look().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether every host has come back since it was killed: a ceremony takes all members, and a busy machine long to start one.
    fn all_serve(&self) -> bool {
        let read = |path: PathBuf| -> Value {
            serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default()
        };
        let pids = read(self.cluster.data_dir().join("pids.json"));
        self.members().iter().enumerate().all(|(place, member)| {
            let status = read(member.data.join("status.json"));
            status["pid"] == pids["members"][place]["host"] && status["enclave_answers"] == true
        })
    }

    async fn kill_a_host(&mut self) {
        let member = self.rng.u16(1..=u16::try_from(self.nodes.len()).expect("few"));
        let victim = Victim { member, kind: Kind::Host };
        self.cluster.kill(&[victim]).await.expect("it can be killed");
        self.counts.kills += 1;
    }

    /// Whether there is something to undo: a transaction in the newest block, or an exit that no longer waits for one.
    async fn stirs(&mut self) -> bool {
        let before = std::mem::replace(&mut self.waiting_exits, self.truth.waiting_exits().await);
        self.waiting_exits < before || self.truth.has_transactions().await
    }

    /// What stakers and the treasury have sent comes again, as nodes see to; of the members' transactions and exits, half is lost.
    fn reorganise(&mut self) {
        let members = &self.cluster.manifest().members;
        let wallets: BTreeSet<Address> =
            members.iter().map(|member| Address::from(member.wallet.0)).collect();
        let rng = &mut self.rng;
        let depth = rng.u64(DEPTH);
        let done = self.cluster.devnet().reorganise(depth, |leftover| match leftover {
            Leftover::Transaction { sender, .. } => wallets.contains(sender) && rng.bool(),
            Leftover::Exit { .. } => rng.bool(),
        });
        self.counts.reorganisations += 1;
        self.counts.returned += done.returned;
        self.counts.lost += done.lost;
        self.say(format!("{done:?}"));
    }

    /// A wave of new pools, if not too many are on their way. How long until the next one.
    async fn stake(&mut self) -> Duration {
        let staked = u32::try_from(self.pools.len()).expect("few");
        let left = self.wanted - staked;
        let progress = self.cluster.progress();
        let is_coming =
            |number: &&u32| progress.get(&self.id(**number)).is_none_or(|known| known.presign.is_none());
        let coming = self.pools.keys().filter(is_coming).count();
        if left == 0 || coming >= MOST_COMING {
            return LOOK;
        }
        let wave = self.rng.u32(1..=(self.wanted / 20).clamp(1, 8)).min(left);
        self.cluster.stake(wave).await.expect("stakers can stake");
        self.pools.extend((staked + 1..=staked + wave).map(|number| (number, Pool::default())));
        self.say(format!("{} pools are staked", staked + wave));
        // All are there when two thirds of the time are over.
        Duration::from_millis(self.seconds * 1000 * 2 / 3 * u64::from(wave) / u64::from(self.wanted))
    }

    /// The treasury wants some of those out that can go.
    async fn wish_for_exits(&mut self) {
        let (progress, validators) = (self.cluster.progress(), self.truth.validators().await);
        let is_over = self.started.elapsed() > Duration::from_secs(self.seconds) * 5 / 6;
        let mut wished = Vec::new();
        for (number, pool) in &self.pools {
            let can_go = !pool.is_wished_out
                && progress.get(&self.id(*number)).is_some_and(|known| known.presign.is_some())
                && pool
                    .key
                    .as_ref()
                    .and_then(|key| validators.get(key))
                    .is_some_and(|validator| validator.status == "active_ongoing");
            if can_go && (is_over || self.rng.u8(..3) == 0) {
                wished.push(*number);
            }
        }
        if wished.is_empty() {
            return;
        }
        // Before they can be seen on the chain.
        for number in &wished {
            self.pools.get_mut(number).expect("a pool").is_wished_out = true;
        }
        let ids: Vec<PoolId> = wished.iter().map(|number| self.id(*number)).collect();
        self.cluster.request_exits(&ids).await.expect("the treasury can ask");
        self.say(format!("pools {wished:?} are to leave"));
    }

    /// Checks what must hold at any time; whether all pools are through.
    async fn look(&mut self) -> bool {
        for member in self.members() {
            assert_eq!(alerts(member), [""; 0], "an alarm of {}", member.id);
        }
        self.note_troubles();
        for number in self.truth.pools_with("PoolDeposited(uint32)").await {
            let key = self.truth.pool(number).await.key;
            let known = self.pools.get_mut(&number).expect("a pool that was staked");
            let known = known.key.get_or_insert_with(|| key.clone());
            assert_eq!(*known, key, "pool {number} has another key than it had");
        }
        let deposited: Vec<Vec<u8>> = self.truth.deposits().await.into_iter().map(|(key, _)| key).collect();
        let keys: BTreeSet<&Vec<u8>> = deposited.iter().collect();
        assert_eq!(keys.len(), deposited.len(), "a key was deposited twice");
        let validators = self.truth.validators().await;
        for (number, pool) in self.pools.iter().filter(|(_, pool)| !pool.is_wished_out) {
            let found = pool.key.as_ref().and_then(|key| validators.get(key));
            let stays = found
                .is_none_or(|found| found.status.starts_with("pending") || found.status == "active_ongoing");
            assert!(stays, "nobody wanted pool {number} to leave: {found:?}");
        }
        let left = self.pools.values().filter(|pool| {
            pool.key
                .as_ref()
                .and_then(|key| validators.get(key))
                .is_some_and(|found| found.status == "withdrawal_done")
        });
        left.count() == self.wanted as usize && self.behind().await.is_empty()
    }

    /// The pools of which it is not on record that their validators have left.
    async fn behind(&self) -> Vec<u32> {
        let reported: BTreeSet<u32> = self.truth.pools_with("PoolExited(uint32)").await.into_iter().collect();
        (1..=self.wanted).filter(|number| !reported.contains(number)).collect()
    }

    fn note_troubles(&mut self) {
        let mut found = Vec::new();
        for member in self.members() {
            let status = fs::read(member.data.join("status.json")).unwrap_or_default();
            let status: Value = serde_json::from_slice(&status).unwrap_or_default();
            let troubles = status["troubles"].as_array().cloned().unwrap_or_default();
            found.extend(troubles.iter().map(|trouble| match &trouble["subject"] {
                Value::Object(named) => named.keys().next().cloned().unwrap_or_default(),
                subject => subject.as_str().unwrap_or_default().to_owned(),
            }));
        }
        for kind in found {
            *self.counts.troubles.entry(kind).or_default() += 1;
        }
    }

    /// Waits until `postern status` finds nothing wrong at any member: all nodes are honest.
    async fn wait_for_peace(&mut self) {
        self.nodes.iter_mut().for_each(Nodes::be_honest);
        self.wait("peace", |run| {
            let mut wrong = Vec::new();
            for member in run.members() {
                let (code, status) = status(member);
                wrong.extend((code != 0).then(|| format!("{}: {}", member.id, status["findings"])));
            }
            wrong
        })
        .await;
    }

    /// Waits until nothing is missing any more.
    async fn wait(&mut self, what: &str, mut missing: impl FnMut(&Self) -> Vec<String>) {
        let begun = Instant::now();
        loop {
            let lacking = missing(self);
            if lacking.is_empty() {
                return self.say(format!("{what}: after {:.1} s", begun.elapsed().as_secs_f64()));
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {lacking:#?}");
            tokio::time::sleep(LOOK / 2).await;
        }
    }

    /// What must hold in the end, by the chains.
    async fn check_pools(&self) {
        let wanted: Vec<u32> = (1..=self.wanted).collect();
        for event in ["PoolDepositRequested(uint32)", "PoolDeposited(uint32)", "PoolExitRequested(uint32)"] {
            let mut pools = self.truth.pools_with(event).await;
            pools.sort_unstable();
            assert_eq!(pools, wanted, "{event}");
        }
        let (deposits, validators) = (self.truth.deposits().await, self.truth.validators().await);
        assert_eq!(deposits.len(), wanted.len(), "deposits");
        let progress = self.cluster.progress();
        let manifests = [self.cluster.manifest().hash()];
        for number in wanted {
            let pool = self.truth.pool(number).await;
            let mut credentials = [&[1; 1][..], &[0; 11], pool.address.as_slice()].concat();
            credentials.truncate(32);
            let deposit = (pool.key.clone(), credentials.clone());
            assert_eq!(
                deposits.iter().filter(|found| **found == deposit).count(),
                1,
                "deposit of pool {number}"
            );
            let validator = validators.get(&pool.key).expect("a validator");
            assert_eq!(validator.credentials, credentials, "pool {number}");
            assert_eq!(
                (validator.status.as_str(), validator.balance),
                ("withdrawal_done", 0),
                "pool {number}"
            );
            let stake = U256::from(STAKE) * U256::from(10).pow(U256::from(18));
            assert!(self.truth.balance(pool.address).await >= stake, "pool {number} was not paid");
            // The key is the one that its enclaves have made, as anybody can check.
            let transcript = progress.get(&self.id(number)).and_then(|known| known.keygen.clone());
            let transcript = transcript.expect("a transcript of the keygen");
            let verified = verify_files(&[transcript], &manifests).expect("a transcript that verifies");
            let [Proved::Claim(Claim::Key { pool: of, certificate, .. })] =
                &verified.iter().map(|one| &one.claim).collect::<Vec<_>>()[..]
            else {
                panic!("pool {number}: another transcript");
            };
            assert_eq!((*of, &certificate.pubkey().0[..]), (self.id(number), &pool.key[..]), "pool {number}");
        }
    }

    /// Nobody has offered more than the limits, or spent more than the budget.
    async fn check_fees(&self) {
        let members = &self.cluster.manifest().members;
        let wallets: BTreeSet<Address> =
            members.iter().map(|member| Address::from(member.wallet.0)).collect();
        let rules = FeeRules::default();
        for (wallet, paid) in self.truth.paid(&wallets).await {
            self.say(format!("{wallet}: {paid:?}"));
            assert!(paid.max_fee <= rules.max_fee_per_gas, "{wallet}: {paid:?}");
            assert!(paid.max_priority_fee <= rules.max_priority_fee_per_gas, "{wallet}: {paid:?}");
            assert!(paid.cost <= BUDGET, "{wallet}: {paid:?}");
        }
    }

    fn check_logs(&self) {
        for member in self.members() {
            let log = fs::read_to_string(&member.host_log).expect("a log");
            let bad: Vec<&str> =
                log.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).collect();
            assert_eq!(bad, [""; 0], "the log of {}", member.id);
        }
    }

    /// One node of each kind lies at every member, at each in another way: exactly these are named, each at its member.
    async fn plant_lies(&mut self) {
        let mut planted = Vec::new();
        for (nodes, (execution, beacon)) in self.nodes.iter_mut().zip(lies::seen_through()) {
            planted.push(nodes.plant(self.rng.usize(..NODES), &execution, &beacon));
        }
        self.wait("each node that lies is named at its member, and no other", |run| {
            let mut missing = Vec::new();
            for (member, names) in run.members().iter().zip(&planted) {
                let (code, status) = status(member);
                let findings = status["findings"].to_string();
                let all = findings.matches("http://").count();
                let named = names.iter().all(|name| findings.contains(name.as_str()));
                let is_right = named && code == 6 && all >= names.len();
                missing
                    .extend((!is_right).then(|| format!("{}: {names:?} in {code}: {findings}", member.id)));
            }
            missing
        })
        .await;
        for (member, names) in self.members().iter().zip(&planted) {
            let (_, status) = status(member);
            for finding in status["findings"].as_array().expect("findings") {
                let reason = finding["reason"].as_str().expect("text");
                assert!(names.iter().any(|name| reason.contains(name)), "{}: false: {reason}", member.id);
            }
            assert_eq!(alerts(member), [""; 0], "a false alarm of {}", member.id);
        }
        self.wait_for_peace().await;
    }

    /// All nodes of one member say that a final block is another: a person is called. What the person does then sets it right.
    async fn plant_another_chain(&mut self) {
        let victim = self.rng.usize(..self.nodes.len());
        self.nodes[victim].conspire(&Lie::Execution(ExecutionLie::OtherBlocks));
        self.wait("an alert of the one that is lied to", |run| {
            let (code, status) = status(&run.members()[victim]);
            let findings = status["findings"].to_string();
            let is_said = code != 0 && findings.contains("alerts/finalised-block-changed-");
            if is_said { Vec::new() } else { vec![format!("{code}: {findings}")] }
        })
        .await;
        self.nodes[victim].be_honest();
        for (place, member) in self.members().iter().enumerate() {
            assert_eq!(alerts(member).is_empty(), place != victim, "{}: {:?}", member.id, alerts(member));
        }
        let member = &self.members()[victim];
        let rescan =
            Command::new(binary()).args(["rescan", "--from", "1", "--config"]).arg(&member.config).output();
        assert!(rescan.expect("rescan").status.success());
        fs::remove_dir_all(member.data.join("alerts")).expect("somebody has looked");
        self.wait_for_peace().await;
    }

    async fn end(self) {
        let asked: usize = self.nodes.iter().map(Nodes::asked).sum();
        let Self { seed, counts, wanted, started, cluster, folder, .. } = self;
        let took = started.elapsed().as_secs_f64();
        println!("seed {seed}: {wanted} pools in {took:.1} s, {asked} requests to nodes; {counts:?}");
        cluster.stop().await;
        let _ = fs::remove_dir_all(folder);
    }

    /// For whoever looks at a failure.
    fn describe(&self) {
        eprintln!(
            "POSTERN_ENDURANCE_SEED={} after {:.1} s; {:?}",
            self.seed,
            self.started.elapsed().as_secs_f64(),
            self.counts
        );
        for (member, nodes) in self.members().iter().zip(&self.nodes) {
            eprintln!("{}: {}", member.id, nodes.told());
            let log = fs::read_to_string(&member.host_log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            lines.iter().rev().take(TAIL).rev().for_each(|line| eprintln!("    {line}"));
        }
        eprintln!("all of it: {}", self.folder.display());
    }
}

/// The names of a member's alerts.
fn alerts(member: &MemberFiles) -> Vec<String> {
    let entries = fs::read_dir(member.data.join("alerts")).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// What `postern status --json` says of a member, and what it ends with.
fn status(member: &MemberFiles) -> (i32, Value) {
    let run = Command::new(binary()).args(["status", "--json", "--config"]).arg(&member.config).output();
    let run = run.expect("the status");
    let status = serde_json::from_slice(&run.stdout).unwrap_or_default();
    (run.status.code().unwrap_or(-1), status)
}

#[test]
#[ignore = "long: run by the slow suites"]
fn whoever_lies_and_dies_each_pool_gets_in_and_out_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut run = runtime.block_on(Run::start());
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            run.live().await;
            run.say("all pools are through");
            run.wait_for_peace().await;
            run.check_pools().await;
            run.check_fees().await;
            run.check_logs();
            run.plant_lies().await;
            run.plant_another_chain().await;
        });
    }));
    if let Err(panic) = lived {
        run.describe();
        std::panic::resume_unwind(panic);
    }
    runtime.block_on(run.end());
}

/// `POSTERN_ENDURANCE_SPEED` is how many times faster than mainnet's everything goes (10 unless given), `_REST_POOLS` how many pools there are.
/// `_EPOCHS` for how long it is measured. Processor and disk are held against what is wanted in release, at mainnet's pace (1).
#[test]
#[ignore = "measures for six minutes"]
fn ten_thousand_pools_at_rest_by_hand() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(at_rest::measure());
}
