//! What it costs that nothing is lost and nothing rolled back: sealing, storing, and being remembered by others; beside what
//! it is for, timed in the same run.
//!
//! `cargo bench -p postern-tests --bench sealing` prints medians.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Nonce};
use postern_host::store::{Incarnation, Place, Store};
use postern_shared::codec;
use postern_shared::identity::SigningKey;
use postern_shared::ids::MemberId;
use postern_shared::message::PeerMessage;
use postern_shared::record::{RecordKind, SealedRecord};
use postern_shared::wire::{NumberedOutput, Output, Record, Reply, Request, Response};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, manifest, pool};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ONE: MemberId = MemberId(1);

/// Statements that each operator makes in a keygen: commit, deal, verdict, confirmation, deposit.
const STEPS: u32 = 5;

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let made = black_box(work());
    (made, started.elapsed())
}

/// Records of an enclave that is told of pools, beside the bare encryption of as many bytes. Both in one thread.
fn throughput() {
    const RECORDS: u32 = 5_000;
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 1);
    snapshots_after(&mut cluster, usize::MAX);
    let (mut whole, mut bare) = (Vec::new(), Vec::new());
    let mut size = 0;
    for round in 0..10 {
        let node = cluster.node_mut(ONE);
        let mut sealed = Vec::new();
        let pools = round * RECORDS + 1..=(round + 1) * RECORDS;
        let (_, spent) = time(|| {
            for pool in pools {
                let response = node.core.handle(Request::Observe(deposit_requested(pool)));
                let last = response.outputs.last().map_or(0, |output| output.sequence);
                node.core.handle(Request::Acknowledge(last));
                sealed.push(response);
            }
        });
        let records: Vec<&SealedRecord> = sealed.iter().flat_map(|one| records(&one.outputs)).collect();
        assert_eq!(records.len(), RECORDS as usize);
        size = records.iter().map(|record| record.ciphertext.len()).sum::<usize>() / records.len();
        whole.push(spent / RECORDS);
        let plaintext = vec![7; size];
        let (_, spent) = time(|| {
            for number in 0..RECORDS {
                // A key for each, as for records.
                let mut key = [0; 32];
                key[..4].copy_from_slice(&number.to_le_bytes());
                let cipher = Aes256Gcm::new(&key.into());
                black_box(
                    cipher.encrypt(&Nonce::<Aes256Gcm>::default(), plaintext.as_slice()).expect("short"),
                );
            }
        });
        bare.push(spent / RECORDS);
    }
    let (whole, bare) = (median(whole), median(bare));
    println!("records of {size} bytes            µs each   records/s");
    for (what, spent) in [("judged, applied and sealed", whole), ("bare AES-256-GCM", bare)] {
        println!("  {what:26} {:9.2} {:11.0}", micros(spent), 1.0 / spent.as_secs_f64());
    }
}

fn snapshots_after(cluster: &mut Cluster, bytes: usize) {
    let mut node = cluster.nodes.remove(0);
    node.core = node.core.with_snapshots_after(bytes);
    cluster.nodes.insert(0, node);
}

fn records(outputs: &[NumberedOutput]) -> impl Iterator<Item = &SealedRecord> {
    outputs.iter().filter_map(|numbered| match &numbered.output {
        Output::Store(Record::Sealed(record)) => Some(&**record),
        _ => None,
    })
}

/// What one member spends on a keygen.
#[derive(Default, Clone, Copy)]
struct Spent {
    /// In requests that are about the ceremony; sealing is part of them.
    ceremony: Duration,
    /// In votes and adoptions, by which members agree that it is the pool's key.
    agreeing: Duration,
    /// In notes of logs: own ones and others'.
    remembering: Duration,
    /// In committing responses to the store.
    storing: Duration,
    records: u32,
    commits: u32,
}

/// One member's keygen with everything that keeps it safe, and how much of the time is for what.
fn keygen(members: u16, threshold: u16, seed: u64) -> Spent {
    let mut cluster = Cluster::launch(manifest(members, threshold, threshold), seed);
    cluster.run(0);
    let directory = tempfile::tempdir().expect("a folder");
    let store = Store::open(&Place::Directory(directory.path().to_owned())).expect("a store");
    let incarnation = Incarnation { signing: SigningKey([1; 32]), number: 0 };
    store.begin_incarnation(&incarnation).expect("a new store");
    store.set_members(ONE, &cluster.ids()).expect("a new store");
    let mut spent = Spent::default();
    let mut ask = |cluster: &mut Cluster, id: MemberId, request: Request| {
        let part: fn(&mut Spent) -> &mut Duration = match &request {
            Request::Deliver(bytes) => match codec::decode(bytes) {
                Ok(PeerMessage::Witness(_)) => |spent| &mut spent.remembering,
                Ok(PeerMessage::Broadcast(said)) if said.slot.step.is_of_an_agreement() => {
                    |spent| &mut spent.agreeing
                }
                _ => |spent| &mut spent.ceremony,
            },
            _ => |spent| &mut spent.ceremony,
        };
        let (response, took) = time(|| cluster.node_mut(id).core.handle(request));
        if id == ONE {
            *part(&mut spent) += took;
            spent.records += records(&response.outputs).count() as u32;
            if response.outputs.iter().any(|numbered| !matches!(numbered.output, Output::Notice(_))) {
                spent.storing +=
                    time(|| store.keep_outputs(&incarnation, &response.outputs).expect("stored")).1;
                spent.commits += 1;
            }
        }
        let Response { reply, .. } = &response;
        let refused = matches!(reply, Reply::Rejected(rejection) if rejection.is_transient());
        cluster.keep(id, response);
        refused
    };
    for id in cluster.ids() {
        ask(&mut cluster, id, Request::Observe(deposit_requested(1)));
    }
    while let Some(packet) = cluster.packets.pop_front() {
        let Packet { to, bytes, .. } = packet.clone();
        if ask(&mut cluster, to, Request::Deliver(bytes)) {
            cluster.packets.push_back(packet);
        }
    }
    assert!(cluster.pubkey(pool(1)).is_some());
    spent
}

fn latency() {
    println!(
        "\nkeygen, one member, ms per step     ceremony   + agreeing   + remembering   + storing   records   commits"
    );
    for (threshold, members) in [(3, 5), (5, 7), (9, 13)] {
        let samples: Vec<Spent> = (0..5).map(|seed| keygen(members, threshold, seed)).collect();
        let of = |part: fn(&Spent) -> Duration| {
            median(samples.iter().map(part).collect()).as_secs_f64() * 1e3 / f64::from(STEPS)
        };
        println!(
            "  t = {threshold:2}, n = {members:2} {:29.2} {:12.2} {:15.2} {:11.2} {:9} {:9}",
            of(|spent| spent.ceremony),
            of(|spent| spent.agreeing),
            of(|spent| spent.remembering),
            of(|spent| spent.storing),
            samples[0].records / STEPS,
            samples[0].commits / STEPS,
        );
    }
    println!(
        "  Sealing is within the first three: a record takes what the table above says. A step waits for one more"
    );
    println!(
        "  round trip to half of the others. Messages grow with n: a note to and an answer from each other member."
    );
}

/// What the vault keeps of a pool.
fn settled() {
    println!("\nsettled pool, bytes in the log");
    for (threshold, members) in [(3, 5), (5, 7)] {
        let mut cluster = Cluster::launch(manifest(members, threshold, threshold), 1);
        cluster.run(0);
        for number in 1..=3 {
            cluster.observe(deposit_requested(number));
            cluster.run(0);
            cluster.index(pool(number));
            cluster.run(1);
        }
        snapshots_after(&mut cluster, 0);
        cluster.ask(ONE, Request::Observe(deposit_requested(4)));
        let vault = cluster.node(ONE).records.iter().filter(|record| record.header.kind == RecordKind::Vault);
        let bytes: usize = vault.map(|record| record.ciphertext.len()).sum();
        println!("  t = {threshold}, n = {members} {:20}", bytes / 3);
    }
}

fn main() {
    throughput();
    latency();
    settled();
}
