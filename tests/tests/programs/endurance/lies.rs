//! How members' nodes lie: in every way that the proxy knows.

use postern_devnet::liar::{BeaconLie, ExecutionLie, Liar, Lie};
use postern_devnet::{Devnet, Error};
use postern_host::demo::MemberNodes;
use std::time::Duration;

/// Of each kind; one of them is always wrong.
pub const NODES: usize = 3;

/// One member's nodes: each a proxy in front of the honest ones, so that each has an address of its own.
pub struct Nodes {
    pub execution: Vec<Liar>,
    pub beacon: Vec<Liar>,
    /// What is in force, for people.
    told: [String; 2],
}

/// What a node is called at its proxy.
const NAME: &str = "node";

impl Nodes {
    pub async fn start(devnet: &Devnet) -> Result<Self, Error> {
        let (mut execution, mut beacon) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            for nodes in [&mut execution, &mut beacon] {
                nodes.push(Liar::start(&devnet.execution_url(), &devnet.beacon_url()).await?);
            }
        }
        Ok(Self { execution, beacon, told: Default::default() })
    }

    pub fn urls(&self) -> MemberNodes {
        let urls = |nodes: &[Liar]| nodes.iter().map(|node| node.url(NAME)).collect();
        MemberNodes { execution: urls(&self.execution), beacon: urls(&self.beacon) }
    }

    /// From now on one execution node and one beacon node lie in these ways, and the others do not.
    pub fn change(&mut self, rng: &mut fastrand::Rng) {
        let lies = [execution_lies(), beacon_lies()];
        for ((nodes, lies), told) in [&self.execution, &self.beacon].into_iter().zip(lies).zip(&mut self.told)
        {
            let liar = rng.usize(..NODES);
            let lie = lies[rng.usize(..lies.len())].clone();
            *told = format!("{}: {lie:?}", nodes[liar].url(NAME));
            tell(nodes, liar, &lie);
        }
    }

    /// One execution node and one beacon node lie so; their names, as `status` has them.
    pub fn plant(&mut self, place: usize, execution: &Lie, beacon: &Lie) -> [String; 2] {
        tell(&self.execution, place, std::slice::from_ref(execution));
        tell(&self.beacon, place, std::slice::from_ref(beacon));
        self.told = [format!("{execution:?}"), format!("{beacon:?}")];
        [&self.execution, &self.beacon].map(|nodes| {
            let url = nodes[place].url(NAME);
            url.strip_suffix(&format!("/{NAME}")).expect("a path").to_owned()
        })
    }

    /// All execution nodes tell the same lie.
    pub fn conspire(&mut self, lie: &Lie) {
        self.execution.iter().for_each(|node| node.set(NAME, vec![lie.clone()]));
        self.told = [format!("all: {lie:?}"), String::new()];
    }

    pub fn be_honest(&mut self) {
        self.execution.iter().chain(&self.beacon).for_each(|node| node.set(NAME, Vec::new()));
        self.told = Default::default();
    }

    pub fn told(&self) -> String {
        self.told.join("; ")
    }

    /// How often all were asked something.
    pub fn asked(&self) -> usize {
        self.execution
            .iter()
            .chain(&self.beacon)
            .map(|node| node.all_asked(NAME).values().sum::<usize>())
            .sum()
    }
}

fn tell(nodes: &[Liar], liar: usize, lies: &[Lie]) {
    for (place, node) in nodes.iter().enumerate() {
        node.set(NAME, if place == liar { lies.to_vec() } else { Vec::new() });
    }
}

/// What both kinds do.
fn of_either() -> [Vec<Lie>; 6] {
    [
        vec![Lie::Hang],
        vec![Lie::Slow(Duration::from_secs(2))],
        vec![Lie::Status(429)],
        vec![Lie::Status(503)],
        vec![Lie::HtmlNotFound],
        vec![Lie::Truncated],
    ]
}

fn topic(event: &str) -> [u8; 32] {
    alloy::primitives::keccak256(event).0
}

fn execution_lies() -> Vec<Vec<Lie>> {
    use ExecutionLie::{
        Behind, CallSays, Estimate, FakeReceipt, ForgedLog, ForgetSent, HeadAhead, LatestAsFinal,
        LatestNonceAhead, LogsOfFork, LogsWithout, MalformedLogs, Market, MixedBackends, NoFinalised, NoLogs,
        NoReceipts, NonceAhead, OtherBlocks, RangeLimit, SendSays, SwallowSend, WrongChain,
    };
    let get_pool = topic("getPool(uint32)");
    let selector = [get_pool[0], get_pool[1], get_pool[2], get_pool[3]];
    // There is no such pool: no address, no status, no key.
    let nothing = [[0; 32].as_slice(), &[0; 32], &word(96), &[0; 32]].concat();
    // Pool 1 is to leave, in a block that is none.
    let forged = serde_json::json!({
        "address": format!("0x{}", "77".repeat(20)), "topics": [hex_of(&topic("PoolExitRequested(uint32)"))],
        "data": hex_of(&word(1)), "blockNumber": "0x1", "blockHash": hex_of(&[7; 32]),
        "transactionHash": hex_of(&[8; 32]), "transactionIndex": "0x0", "logIndex": "0x0", "removed": false,
    });
    let lies = [
        NoLogs,
        LogsWithout(topic("PoolDepositRequested(uint32)")),
        LogsWithout(topic("PoolExitRequested(uint32)")),
        LogsOfFork,
        ForgedLog(forged),
        MalformedLogs,
        RangeLimit(1),
        RangeLimit(10),
        Behind(3),
        Behind(200),
        LatestAsFinal,
        CallSays(selector, nothing),
        MixedBackends(50),
        WrongChain(1),
        OtherBlocks,
        NoFinalised,
        Estimate(60_000),
        Market(1_000),
        SwallowSend,
        ForgetSent,
        SendSays(-32000, "replacement transaction underpriced"),
        SendSays(-32000, "could not replace existing tx"),
        SendSays(-32000, "nonce too low: next nonce 900, tx nonce 1"),
        FakeReceipt(true),
        FakeReceipt(false),
        NonceAhead(3),
        LatestNonceAhead(3),
        NoReceipts,
        HeadAhead(100),
    ];
    let mut all: Vec<Vec<Lie>> = lies.into_iter().map(|lie| vec![Lie::Execution(lie)]).collect();
    // Several at a time, as one that is no node at all has them.
    let several = [SwallowSend, ForgetSent, NoReceipts, Market(1_000)];
    all.push(several.into_iter().map(Lie::Execution).collect());
    all.extend(of_either());
    all
}

fn beacon_lies() -> Vec<Vec<Lie>> {
    use BeaconLie::{
        Behind, ExitSays, FinalSays, HeadSays, NoPendingDeposits, NoPost, NumberIndex, Optimistic,
        OtherCredentials, OtherIndex, StateNotFound, SwallowExit, Syncing, ValidatorNotFound, WrongNetwork,
    };
    let lies = [
        StateNotFound,
        ValidatorNotFound,
        Syncing,
        Optimistic,
        HeadSays("active_exiting"),
        HeadSays("withdrawal_done"),
        FinalSays("active_exiting"),
        FinalSays("withdrawal_done"),
        FinalSays("active_ongoing"),
        OtherIndex(1),
        OtherCredentials,
        NumberIndex,
        NoPendingDeposits,
        NoPost,
        WrongNetwork,
        SwallowExit,
        ExitSays(400, "BadSignature"),
        ExitSays(400, "Exit is not the first one for validator"),
        ExitSays(500, "internal error"),
        Behind(10),
    ];
    let mut all: Vec<Vec<Lie>> = lies.into_iter().map(|lie| vec![Lie::Beacon(lie)]).collect();
    let several = [SwallowExit, HeadSays("active_exiting"), FinalSays("active_exiting")];
    all.push(several.into_iter().map(Lie::Beacon).collect());
    all.extend(of_either());
    all
}

/// Lies that show at the node that tells them, whatever else is going on: for an execution node, for a beacon node.
pub fn seen_through() -> [(Lie, Lie); 5] {
    [
        (Lie::Status(503), Lie::Beacon(BeaconLie::Syncing)),
        (Lie::HtmlNotFound, Lie::Status(503)),
        (Lie::Truncated, Lie::HtmlNotFound),
        (Lie::Execution(ExecutionLie::OtherBlocks), Lie::Truncated),
        (Lie::Execution(ExecutionLie::NoFinalised), Lie::Beacon(BeaconLie::Behind(10))),
    ]
}

fn word(number: u8) -> [u8; 32] {
    let mut word = [0; 32];
    word[31] = number;
    word
}

fn hex_of(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}
