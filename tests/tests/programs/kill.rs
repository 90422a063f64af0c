//! `kill -9` of hosts and enclaves at any moment of the demo: every pool still completes, nothing happens twice, nothing is
//! left over, and every enclave's log is whole. With stores in files, and in PostgreSQL (under `tests/postgres.sh`).
//!
//! Slow; runs the release binary (`cargo build --release` first, or `POSTERN_BIN`). `POSTERN_KILL_RUNS` sets how many
//! demos of each kind. Times are not repeated with a seed, so a seed gives the same intentions and not the same run.
//!
//! Some moments are too short to hit: that what the enclave repeats is not stored twice, `durability/link.rs` shows.

use super::view::View;
use postern_host::chain::beacon::ValidatorStatus;
use postern_host::chain::transactions::{TransactionRow, TransactionState};
use postern_host::status::PoolStatus;
use postern_shared::codec;
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::record::{LogHead, SealedRecord};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const MEMBERS: u16 = 5;
const POOLS: usize = 2;
const LEADER: u16 = 1;

/// The demo gives up on a process that it has restarted more often than 20 times.
const MAX_KILLS_OF_ONE: usize = 18;

/// A member's processes, as the demo lists them.
const HOST: &str = "host";
const ENCLAVE: &str = "enclave";

/// For one demo, which takes 12 s when nobody is killed; and for what is still on its way at its end.
const PATIENCE: Duration = Duration::from_secs(600);
const SETTLING: Duration = Duration::from_secs(30);

/// The program of these tests.
pub(super) fn binary() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/postern");
    let binary = std::env::var_os("POSTERN_BIN").map_or(built, PathBuf::from);
    assert!(binary.exists(), "{} is missing: run `cargo build --release` first", binary.display());
    binary
}

/// Names the PostgreSQL for the hosts' stores.
const SERVER: &str = "POSTERN_POSTGRES";

/// A demo that runs until it is dropped.
struct Demo {
    process: Child,
    started: Instant,
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
    manifest: Manifest,
    /// The execution node's.
    url: String,
    stores: BTreeMap<u16, View>,
    kills: BTreeMap<(u16, &'static str), usize>,
    /// The processes that were killed: it takes a while until they are gone.
    killed: HashSet<Pid>,
}

impl Demo {
    fn start(postgres: Option<&str>) -> Self {
        // Kept if the test fails, for its logs.
        let folder = tempfile::tempdir().expect("a folder").keep();
        let file = |name| File::create(folder.join(name)).expect("a file");
        let process = Command::new(binary())
            // A child of this test that dies with it, and its own children with it.
            .args(["demo", "--child-of", &std::process::id().to_string(), "--"])
            .args(["demo", "--json", "--keep", "--step-timeout", "180"])
            .args(["--pools", &POOLS.to_string(), "--data-dir", "demo"])
            .args(postgres.iter().flat_map(|url| ["--postgres", url]))
            .current_dir(&folder)
            .stdout(file("report.json"))
            .stderr(file("story.txt"))
            .spawn()
            .expect("the demo starts");
        let started = Instant::now();
        while !folder.join("demo/pids.json").exists() {
            assert!(started.elapsed() < SETTLING, "the demo does not start: see {}", folder.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = |path| fs::read_to_string(folder.join(path)).expect("a file of the demo");
        let manifest = Manifest::from_toml(&text("demo/manifest.toml")).expect("a manifest");
        let config: toml::Table = text("demo/member-1/config.toml").parse().expect("a configuration");
        let url = config["execution"]["urls"][0].as_str().expect("a node").to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (stores, kills, killed) = (BTreeMap::new(), BTreeMap::new(), HashSet::new());
        Self { process, started, folder, runtime, manifest, url, stores, kills, killed }
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.folder.join(path)).expect("a file of the demo")
    }

    /// What the demo has proved, once it has.
    fn report(&self) -> Option<Value> {
        serde_json::from_str(&self.text("report.json")).ok()
    }

    /// The process that is a member's host or enclave now, if it is alive.
    fn process(&self, member: u16, kind: &str) -> Option<Pid> {
        let pids: Value = serde_json::from_str(&self.text("demo/pids.json")).expect("a list of processes");
        let members = pids["members"].as_array().expect("members");
        let pid = members.iter().find(|entry| entry["member"] == member)?[kind].as_i64()?;
        // `pid (name) state parent …`: the list may name one that has ended.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (fields.next()?, fields.next()?);
        let alive = state != "Z" && parent.parse().ok() == pids["demo"].as_i64();
        Pid::from_raw(pid.try_into().ok()?).filter(|_| alive)
    }

    /// One column of a member's store; nothing while there is no store.
    fn column(&mut self, member: u16, sql: &str) -> Option<Vec<Vec<u8>>> {
        if !self.stores.contains_key(&member) {
            self.stores.insert(member, View::open(&self.folder.join("demo"), member)?);
        }
        self.stores.get_mut(&member)?.column(sql)
    }

    /// What a member's host knows of its transactions.
    fn transactions(&mut self, member: u16) -> Option<Vec<TransactionRow>> {
        let bodies = self.column(member, "SELECT body FROM transactions")?;
        Some(bodies.iter().map(|body| serde_json::from_slice(body).expect("a transaction")).collect())
    }

    /// Whether nothing is still to follow from a result, and all transactions are final.
    fn is_settled(&mut self, member: u16) -> bool {
        let open = self.column(member, "SELECT artifact FROM artifacts");
        let rows = self.transactions(member);
        open.is_some_and(|open| open.is_empty())
            && rows.is_some_and(|rows| rows.iter().all(|row| row.state.is_final()))
    }

    /// What came of what a member's enclave has published, in words. The results themselves are forgotten once they are done with.
    fn results(&mut self, member: u16) -> Vec<String> {
        let transcripts = self.folder.join(format!("demo/member-{member}/data/transcripts"));
        let names =
            fs::read_dir(transcripts).into_iter().flatten().map(|entry| entry.expect("a file").file_name());
        let kind = |name: &str| name.split_once("-pool-").map(|(kind, _)| kind.to_owned());
        let mut results: Vec<String> = names.filter_map(|name| kind(name.to_str()?)).collect();
        for status in self.column(member, "SELECT status FROM pools").expect("a table") {
            let PoolStatus { pool_id: PoolId { number, .. }, deposit, is_released_here, .. } =
                serde_json::from_slice(&status).expect("a pool");
            results.extend(deposit.map(|_| format!("deposit of pool {number}")));
            results.extend(is_released_here.then(|| format!("exit of pool {number}")));
        }
        results.sort();
        results
    }

    /// What must have come of it in the end, at every member: whoever hears of a released exit has it, and what proves it.
    fn expected_results() -> Vec<String> {
        let of_pool = |pool| {
            let transcripts = ["keygen", "presign", "release"].map(str::to_owned);
            [format!("deposit of pool {pool}"), format!("exit of pool {pool}")].into_iter().chain(transcripts)
        };
        let mut expected: Vec<String> = (1..=POOLS).flat_map(of_pool).collect();
        expected.sort();
        expected
    }

    /// Asks the execution node.
    fn rpc(&self, method: &str, params: Value) -> Value {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let ask = async { reqwest::Client::new().post(&self.url).json(&call).send().await?.json().await };
        let answer: reqwest::Result<Value> = self.runtime.block_on(ask);
        let mut answer = answer.expect("the demo's own execution node answers");
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    /// How many transactions of a member's wallet the node has, mined or not.
    fn sent(&self, member: u16) -> usize {
        let wallet = self.manifest.member(MemberId(member)).expect("a member").wallet;
        let count = self.rpc("eth_getTransactionCount", json!([wallet.to_string(), "pending"]));
        let digits = count.as_str().expect("a number").trim_start_matches("0x");
        usize::from_str_radix(digits, 16).expect("a number")
    }

    /// Lets time pass until something holds; what must hold at any time is looked at meanwhile.
    fn wait(&mut self, most: Duration, mut until: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < most && !until(self) {
            assert!(self.started.elapsed() < PATIENCE, "the demo hangs");
            let ended = self.process.try_wait().expect("the demo is ours");
            assert!(ended.is_none(), "the demo ended too early: {ended:?}");
            // In this order: what was sent had been stored before.
            for member in 1..=MEMBERS {
                let sent = self.sent(member);
                if let Some(stored) = self.transactions(member).map(|stored| stored.len()) {
                    assert!(
                        sent <= stored,
                        "member {member} has sent {sent} transactions, {stored} are stored"
                    );
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills a member's host or enclave if it is alive, and if the demo will start it again.
    fn kill(&mut self, member: u16, kind: &'static str) {
        let kills = self.kills.get(&(member, kind)).copied().unwrap_or_default();
        let process = self.process(member, kind).filter(|_| kills < MAX_KILLS_OF_ONE);
        if let Some(process) = process.filter(|process| self.killed.insert(*process)) {
            kill_process(process, Signal::KILL).expect("it was alive");
            self.kills.insert((member, kind), kills + 1);
        }
    }

    /// Kills members' processes of these kinds until the demo has its report.
    fn under_fire(&mut self, kinds: &[&[&'static str]], rng: &mut fastrand::Rng) -> Value {
        loop {
            // The leader more often than others: it is the one that sends transactions.
            let member = if rng.u8(..3) == 0 { LEADER } else { rng.u16(1..=MEMBERS) };
            let done = |demo: &mut Self| demo.report().is_some();
            self.wait(Duration::from_millis(rng.u64(..600)), done);
            // Half of them while they wait to store something: what they did before is lost with them.
            let lock = if rng.bool() { View::open(&self.folder.join("demo"), member) } else { None };
            let lock = lock.map(|mut view| {
                view.lock();
                view
            });
            if lock.is_some() {
                self.wait(Duration::from_millis(rng.u64(..600)), done);
            }
            if let Some(report) = self.report() {
                return report;
            }
            for kind in kinds[rng.usize(..kinds.len())] {
                self.kill(member, kind);
            }
            drop(lock);
        }
    }

    /// Waits until every host is back, has all results and nothing left to do.
    fn settle(&mut self) {
        for member in 1..=MEMBERS {
            let settled = |demo: &mut Self| demo.process(member, HOST).is_some() && demo.is_settled(member);
            let expected = Self::expected_results();
            self.wait(SETTLING, |demo| settled(demo) && demo.results(member) == expected);
            assert!(settled(self), "member {member} has something left over");
        }
    }

    /// What must hold in the end, whoever was killed.
    fn check(&mut self, report: &Value) {
        let pools = report["pools"].as_array().expect("pools");
        assert_eq!(pools.len(), POOLS);
        for pool in pools {
            let status: ValidatorStatus =
                serde_json::from_value(pool["beacon_status"].clone()).expect("a status");
            assert!(status.is_leaving(), "{pool}");
        }

        // On the chain: a deposit for each pool, and nothing else ever sent.
        let contract = self.manifest.contracts.deposit.to_string();
        let filter = json!([{ "address": contract, "fromBlock": "0x0", "toBlock": "latest" }]);
        assert_eq!(self.rpc("eth_getLogs", filter).as_array().map(Vec::len), Some(POOLS), "deposits");

        // In the stores and beside them: each result.
        let (mut mined, mut reverted) = (Vec::new(), Vec::new());
        for member in 1..=MEMBERS {
            assert_eq!(self.results(member), Self::expected_results(), "results of member {member}");
            let rows = self.transactions(member).expect("a table");
            assert_eq!(self.sent(member), rows.len(), "transactions of member {member}");
            for row in rows {
                match row.state {
                    TransactionState::Mined { .. } => mined.push(row.key),
                    TransactionState::Reverted { .. } => reverted.push(row.key),
                    open => panic!("{}: {open:?}", row.key),
                }
            }
            self.check_log(member);
            let log = self.text(&format!("demo/member-{member}/host.log"));
            let bad = log.lines().find(|line| line.contains("ERROR") || line.contains("panicked"));
            assert_eq!(bad, None, "log of member {member}");
        }

        // Each call was made once. If the host was dead whose turn it was, another may have made it first: then its own did nothing;
        // but that a validator has left is put on record as often as it is proved, and two hosts may do so in one moment.
        mined.sort_unstable();
        mined.dedup_by(|one, other| one == other && one.starts_with("exited-"));
        assert_eq!(
            mined.len(),
            1 + 2 * POOLS,
            "the founding, a deposit and an exit for each pool: {mined:?}"
        );
        assert!(mined.windows(2).all(|pair| pair[0] != pair[1]), "{mined:?}");
        assert!(reverted.iter().all(|key| mined.contains(key)), "{reverted:?} beside {mined:?}");

        // Nobody ever died by itself. The demo tells of a restart just after it.
        let kills = self.kills.values().sum::<usize>();
        let restarts = |demo: &Self| demo.text("story.txt").matches("died and was started again").count();
        self.wait(SETTLING, |demo| restarts(demo) >= kills);
        assert_eq!(restarts(self), kills, "restarts");
    }

    /// The enclave's log: each record follows on the one before, and begins with the enclave, so nothing was ever lost.
    fn check_log(&mut self, member: u16) {
        let rows = self.column(member, "SELECT record FROM log ORDER BY number").expect("a table");
        let mut head = LogHead::START;
        for bytes in rows {
            let record: SealedRecord = codec::decode(&bytes).expect("a record");
            record.follows(head).expect("the next record of the log");
            assert_eq!(record.header.member, MemberId(member));
            head = record.head();
        }
        assert!(head.number > 0);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("killed, by member: {:?}; logs: {}", self.kills, self.folder.display());
            eprintln!("{}", self.text("story.txt"));
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn run(kinds: &[&[&'static str]], postgres: Option<&str>) {
    let runs = std::env::var("POSTERN_KILL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(4);
    let (mut restarts, begun) = (0, Instant::now());
    for seed in 0..runs {
        let mut demo = Demo::start(postgres);
        let report = demo.under_fire(kinds, &mut fastrand::Rng::with_seed(seed));
        demo.settle();
        demo.check(&report);
        println!("seed {seed}: killed {:?}; {:.1} s", demo.kills, demo.started.elapsed().as_secs_f64());
        let kills = demo.kills.values().sum::<usize>();
        assert!(kills >= 10, "too few kills to mean anything");
        restarts += kills;
    }
    println!("{restarts} restarts in {runs} demos and {:.0} s", begun.elapsed().as_secs_f64());
}

const BOTH: &[&[&str]] = &[&[ENCLAVE], &[ENCLAVE], &[HOST], &[ENCLAVE, HOST]];

#[test]
#[ignore = "long: run by the slow suites"]
fn hosts_may_be_killed_at_any_moment() {
    run(&[&[HOST]], None);
}

#[test]
#[ignore = "long: run by the slow suites"]
fn enclaves_may_be_killed_at_any_moment_and_their_hosts_with_them() {
    run(BOTH, None);
}

#[test]
#[ignore = "long, and needs PostgreSQL: run by the slow suites"]
fn hosts_and_enclaves_may_be_killed_at_any_moment_with_their_stores_in_postgres() {
    let url = std::env::var(SERVER).unwrap_or_else(|_| panic!("{SERVER} is not set: see tests/postgres.sh"));
    run(BOTH, Some(&url));
}
