//! What a host costs that serves thousands of pools at rest, of which nothing is to come for now: requests to its nodes, processor, memory,
//! disk. The host and everybody's enclaves are real programs; the pools are made up ([`super::crowd`]).

use super::super::kill::binary;
use super::crowd::{Crowd, Node, hash_of, index_of, key_of};
use super::number;
use postern_host::chain::beacon::ValidatorStatus;
use postern_host::chain::execution::Cursor;
use postern_host::chain::transactions::Listed;
use postern_host::demo::{Chains, Cluster, DemoArguments, Kind, MemberFiles, MemberNodes, Victim};
use postern_host::status::{PoolStatus, TranscriptFiles};
use postern_host::store::{Place, Store};
use postern_host::tx::TRANSACTIONS_FILE;
use postern_shared::bls::{PublicKey, Signature};
use postern_shared::ethereum::{DepositData, DepositMessage, WithdrawalCredentials};
use postern_shared::ids::{Digest, PoolId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

/// Nodes of each kind.
const NODES: usize = 3;
/// Of mainnet, in milliseconds.
const SLOT_MS: u64 = 12_000;
const EPOCH_SLOTS: u64 = 32;
/// Of the host, if its configuration does not say otherwise, in milliseconds.
const POLL_MS: u64 = 6_000;
const TICK_MS: u64 = 5_000;
/// Ticks of the kernel's clock in a second.
const TICKS: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(300);
/// The figures that are wanted.
const MOST_REQUESTS: f64 = 20.0;
const MOST_MIB: u64 = 150;
const MOST_PERCENT: f64 = 2.0;
const MOST_KB_A_MINUTE: f64 = 1_000.0;

/// What a process has used.
#[derive(Debug, Clone, Copy)]
struct Usage {
    ticks: f64,
    resident_kib: u64,
    written: u64,
}

impl Usage {
    fn of(pid: Pid) -> Self {
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", pid.as_raw_nonzero());
            fs::read_to_string(path).expect("the process lives")
        };
        let field = |text: &str, name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
        let ticks =
            fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number");
        let (resident_kib, written) = (field(&read("status"), "VmRSS:"), field(&read("io"), "write_bytes:"));
        Self { ticks, resident_kib, written }
    }
}

fn at_rest(pool: PoolId) -> PoolStatus {
    let pubkey = PublicKey(key_of(pool.number));
    let withdrawal_credentials = WithdrawalCredentials([1; 32]);
    let message = DepositMessage { pubkey, withdrawal_credentials, amount: 32_000_000_000 };
    let transcript = |kind: &str| {
        Some(format!("/var/lib/postern/data/transcripts/{kind}-pool-{}.json", pool.text()).into())
    };
    PoolStatus {
        pubkey: Some(pubkey),
        deposit: Some(DepositData { message, signature: Signature([7; 96]) }),
        validator_index: Some(index_of(pool.number)),
        deposit_requested: true,
        beacon_status: Some(ValidatorStatus::ActiveOngoing),
        final_status: Some(ValidatorStatus::ActiveOngoing),
        transcripts: TranscriptFiles {
            keygen: transcript("keygen"),
            presign: transcript("presign"),
            ..TranscriptFiles::default()
        },
        ..PoolStatus::new(pool)
    }
}

/// Has a member's host go at mainnet's pace, divided by `speed`.
fn slow_down(member: &MemberFiles, speed: u64) {
    let text = fs::read_to_string(&member.config).expect("a configuration");
    let mut config: toml::Table = toml::from_str(&text).expect("a configuration");
    let paces = [("poll_ms", POLL_MS / speed), ("tick_ms", TICK_MS / speed)];
    for (field, pace) in
        paces.into_iter().chain([("reattest_s", 21_600), ("turn_s", 90), ("patience_s", 600)])
    {
        config.insert(field.to_owned(), toml::Value::try_from(pace).expect("a number"));
    }
    fs::write(&member.config, toml::to_string(&config).expect("TOML")).expect("a file");
}

fn host_of(cluster: &Cluster, member: usize) -> Pid {
    let pids = fs::read(cluster.data_dir().join("pids.json")).expect("a list of processes");
    let pids: Value = serde_json::from_slice(&pids).expect("JSON");
    let pid = pids["members"][member]["host"].as_i64().expect("a process");
    Pid::from_raw(i32::try_from(pid).expect("a process")).expect("a process")
}

/// Has the first member's host serve so many pools, and the others be at rest too.
async fn fill(cluster: &mut Cluster, crowd: &Crowd, speed: u64) {
    let members = cluster.members().to_vec();
    members.iter().for_each(|member| slow_down(member, speed));
    let others = members.iter().skip(1).map(|member| Victim { member: member.id.0, kind: Kind::Host });
    cluster.kill(&others.collect::<Vec<_>>()).await.expect("they can be killed");
    kill_process(host_of(cluster, 0), Signal::KILL).expect("it lives");
    let begun = Instant::now();
    let store = loop {
        match Store::open(&Place::Directory(members[0].data.clone())) {
            Ok(store) => break store,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let contract = cluster.manifest().contracts.pool_manager;
    for number in 1..=crowd.pools {
        let pool = cluster.manifest().pool(number);
        store.change_pool(pool, |status| *status = at_rest(pool)).expect("a store");
    }
    crowd.appear();
    let block = crowd.finalised().expect("they are there");
    let cursor = Cursor { block, hash: Digest(hash_of(block)) };
    store.keep_events(&[], Some((contract, cursor))).expect("a store");
    drop(store);
    cluster.look_after().expect("it can be started again");
}

/// Whether one is on its way. Of the founding, whose host makes the call, one is.
fn has_open_transactions(member: &MemberFiles) -> bool {
    let listed = fs::read(member.data.join(TRANSACTIONS_FILE)).unwrap_or_default();
    let listed: Vec<Listed> = serde_json::from_slice(&listed).unwrap_or_default();
    listed.is_empty() || listed.iter().any(|one| !one.state.is_final())
}

/// Whether the host serves, and says that nothing is wrong.
fn serves(member: &MemberFiles) -> bool {
    let run = std::process::Command::new(binary()).args(["status", "--config"]).arg(&member.config).output();
    run.expect("the status").status.success()
}

/// Prints the figures; those that do not depend on the machine must be as wanted.
pub async fn measure() {
    let (speed, pools) = (number("SPEED", 10), u32::try_from(number("REST_POOLS", 10_000)).expect("pools"));
    let slot = Duration::from_millis(SLOT_MS / speed);
    let epoch = slot * u32::try_from(EPOCH_SLOTS).expect("few");
    let arguments = DemoArguments::default();
    let folder = tempfile::tempdir().expect("a folder");
    let chains = Chains::start(&arguments).await.expect("the chains start");
    let crowd = Crowd::new(chains.devnet(), pools, slot);
    let mut nodes = Vec::new();
    for _ in 0..2 * NODES {
        nodes.push(Node::start(&crowd).await);
    }
    let urls: Vec<String> = nodes.iter().map(|node| node.url.clone()).collect();
    let own = MemberNodes { execution: urls[..NODES].to_vec(), beacon: urls[NODES..].to_vec() };
    let mut all = vec![MemberNodes::of(chains.devnet()); arguments.members.into()];
    all[0] = own;
    let cluster = Cluster::start(&arguments, chains, &all, &binary(), folder.path()).await;
    let mut cluster = cluster.expect("the members' programs start");
    let died = |victim: &Victim| panic!("{victim:?} died by itself");
    cluster.found(PATIENCE, died).await.expect("the DAO is founded");
    cluster.wait_for_founding(PATIENCE, died).await.expect("the pool manager is told");
    let member = cluster.members()[0].clone();
    let begun = Instant::now();
    while has_open_transactions(&member) {
        assert!(begun.elapsed() < PATIENCE, "the founding does not get final: {}", member.host_log.display());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    fill(&mut cluster, &crowd, speed).await;
    let begun = Instant::now();
    let last = "POST /eth/v1/beacon/states/head/validators";
    while !nodes[NODES].asked().requests.contains_key(last) {
        assert!(begun.elapsed() < PATIENCE, "the host does not look: {}", member.host_log.display());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // What is done once after a start is over.
    tokio::time::sleep(epoch).await;
    let host = host_of(&cluster, 0);
    nodes.iter().for_each(Node::forget);
    let (before, begun) = (Usage::of(host), Instant::now());
    // In eight epochs validators at rest are looked at once.
    let epochs = u32::try_from(number("EPOCHS", 8)).expect("few");
    tokio::time::sleep(epoch * epochs).await;
    let (after, took) = (Usage::of(host), begun.elapsed());
    let percent = (after.ticks - before.ticks) / TICKS / took.as_secs_f64() * 100.0;
    // Written per minute of the host's own time.
    let kilobytes = (after.written - before.written) as f64 / 1_000.0 / took.as_secs_f64() * 60.0;
    println!("{pools} pools at rest, {epochs} epochs of {epoch:?} ({speed} times mainnet's pace):");
    println!(
        "  {percent:.2} % of a processor, {} MiB, {kilobytes:.0} kB written a minute",
        after.resident_kib / 1024
    );
    for (place, node) in nodes.iter().enumerate() {
        let asked = node.asked();
        let in_an_epoch = |count: usize| count as f64 / f64::from(epochs);
        let requests = in_an_epoch(asked.requests.values().sum());
        let kind = if place < NODES { "execution" } else { "beacon" };
        println!(
            "  {kind} node {}: {requests:.1} requests an epoch, {:.0} calls",
            place % NODES + 1,
            in_an_epoch(asked.calls)
        );
        for (what, count) in &asked.requests {
            println!("    {:.2} {what}", in_an_epoch(*count));
        }
        assert!(requests < MOST_REQUESTS, "too many requests");
    }
    // A status of so many pools is not written often.
    let begun = Instant::now();
    while !serves(&member) {
        assert!(begun.elapsed() < PATIENCE, "something is wrong: see {}", member.host_log.display());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(after.resident_kib / 1024 < MOST_MIB, "too much memory");
    // A debug build, or an hour pressed into minutes, takes more.
    if speed == 1 && !cfg!(debug_assertions) {
        assert!(percent < MOST_PERCENT && kilobytes < MOST_KB_A_MINUTE, "too much work");
    }
    cluster.stop().await;
}
