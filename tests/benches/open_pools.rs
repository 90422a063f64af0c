//! What one event costs an enclave, however many pools are open.
//!
//! `cargo bench -p postern-tests --bench open_pools` prints medians. Half a minute, most of it for the pools' own deals.

use postern_shared::codec;
use postern_shared::dealing::Commit;
use postern_shared::ids::{Digest, MemberId};
use postern_shared::message::{PeerMessage, Slot, Step};
use postern_shared::wire::{Reply, Request};
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, manifest, pool};
use std::time::{Duration, Instant};

const ONE: MemberId = MemberId(1);
const TWO: MemberId = MemberId(2);

/// Events of each kind, each about another pool.
const EVENTS: u32 = 10;

/// Whatever it was answered is taken note of, as a host does.
fn ask(cluster: &mut Cluster, request: Request) -> (Reply, Duration) {
    let core = &mut cluster.node_mut(ONE).core;
    let started = Instant::now();
    let response = core.handle(request);
    let spent = started.elapsed();
    let last = response.outputs.last().map_or(0, |output| output.sequence);
    core.handle(Request::Acknowledge(last));
    (response.reply, spent)
}

/// The median of what these requests take, all of which must be granted.
fn median(cluster: &mut Cluster, requests: Vec<Request>) -> f64 {
    let mut samples: Vec<Duration> = requests
        .into_iter()
        .map(|request| {
            let (reply, spent) = ask(cluster, request);
            assert_eq!(reply, Reply::Done);
            spent
        })
        .collect();
    samples.sort();
    samples[samples.len() / 2].as_secs_f64() * 1e6
}

/// A member's enclave that knows so many pools, whose keys are being made.
fn with_open_pools(pools: u32) -> Cluster {
    let mut cluster = Cluster::launch_with(manifest(3, 2, 2), 1, Some(usize::MAX));
    cluster.run(0);
    for number in 1..=pools {
        assert_eq!(ask(&mut cluster, Request::Observe(deposit_requested(number))).0, Reply::Done);
    }
    cluster
}

/// What another operator says next in a pool's keygen.
fn commit(cluster: &Cluster, number: u32) -> Request {
    let ceremony = cluster.node(ONE).core.keygen(pool(number)).expect("it has begun").terms().ceremony();
    let body = codec::encode(&Commit { deal: Digest([7; 32]) });
    let statement = cluster.node(TWO).keys().sign(Slot::of(ceremony, TWO, Step::Commit), body);
    Request::Deliver(codec::encode(&PeerMessage::Broadcast(statement)))
}

fn main() {
    println!("µs each        an event known already   the DAO's wish   a peer's statement");
    for pools in [10, 1_000, 10_000] {
        let mut cluster = with_open_pools(pools);
        let known = (1..=EVENTS).map(|number| Request::Observe(deposit_requested(number))).collect();
        let wishes = (1..=EVENTS).map(|number| Request::Observe(exit_requested(number))).collect();
        let commits = (1..=EVENTS).map(|number| commit(&cluster, number)).collect();
        println!(
            "  {pools:6} open {:24.1} {:16.1} {:20.1}",
            median(&mut cluster, known),
            median(&mut cluster, wishes),
            median(&mut cluster, commits),
        );
    }
}
