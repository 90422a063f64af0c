//! A pool is known by chain, contract and number: an epoch that changes the contract leaves the pools of the old one
//! served, and nobody else's pools have anything to do with them.

use postern_shared::bls::PublicKey;
use postern_shared::events::ChainEvent;
use postern_shared::ids::{Address, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::record::{RecordKind, SealedRecord};
use postern_shared::transcript::{Claim, Proceedings, TranscriptError};
use postern_shared::wire::{Rejection, Reply, Request};
use postern_tests::cluster::{
    CHAIN_ID, Cluster, POOL_MANAGER, deposit_requested, deposit_requested_of, exit_requested,
    exit_requested_of, manifest, pool,
};
use postern_tests::wallets::next;

const OTHER: Address = Address([0xbb; 20]);
const VICTIM: MemberId = MemberId(2);

/// A pool of the other contract.
const fn other(number: u32) -> PoolId {
    PoolId::new(CHAIN_ID, OTHER, number)
}

fn dao(seed: u64) -> Cluster {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), seed);
    cluster.run(1);
    cluster
}

/// All enclaves learn of an epoch.
fn amend(cluster: &mut Cluster, change: impl FnOnce(&mut Manifest)) -> Manifest {
    let manifest = next(&cluster.manifest, change);
    cluster.amend(&manifest);
    manifest
}

/// From now on pools are those of the other contract.
fn move_on(cluster: &mut Cluster) -> Manifest {
    amend(cluster, |manifest| manifest.contracts.pool_manager = OTHER)
}

fn indexed(pool: PoolId, pubkey: PublicKey, validator_index: u64) -> ChainEvent {
    ChainEvent::ValidatorIndexed { pool, pubkey, validator_index }
}

/// A pool gets its key, its validator's index and its presigned exit.
fn bring_in(cluster: &mut Cluster, pool: PoolId, validator_index: u64) -> PublicKey {
    cluster.observe(deposit_requested_of(pool));
    cluster.run(1);
    let pubkey = cluster.pubkey(pool).expect("a key");
    cluster.observe(indexed(pool, pubkey, validator_index));
    cluster.run(1);
    pubkey
}

/// The only exit that was released for a pool is its own validator's.
fn assert_released(cluster: &Cluster, pool: PoolId, pubkey: PublicKey, validator_index: u64) {
    let exits = cluster.exits(pool);
    assert_eq!(exits.len(), 1, "{pool}");
    assert_eq!(exits[0].message.validator_index, validator_index, "{pool}");
    let network = cluster.manifest.network;
    let root = exits[0].message.signing_root(network.capella_fork_version, network.genesis_validators_root);
    pubkey.verify(&root.0, &exits[0].signature).expect("signed by the pool's own key");
}

#[test]
fn another_pool_managers_exit_request_of_the_same_number_releases_nothing() {
    // The presigned exit waits among what goes on, or settled in the vault, where a snapshot puts it.
    for snapshots_after in [None, Some(1)] {
        let mut cluster = Cluster::launch_with(manifest(3, 2, 2), 1, snapshots_after);
        cluster.run(1);
        let pubkey = bring_in(&mut cluster, pool(1), 17);
        // Others, until the log has grown enough.
        for number in 2..=4 {
            bring_in(&mut cluster, pool(number), 100 + u64::from(number));
        }
        let vault = |record: &SealedRecord| record.header.kind == RecordKind::Vault;
        assert_eq!(cluster.node(VICTIM).records.iter().any(vault), snapshots_after.is_some());
        move_on(&mut cluster);
        cluster.observe(exit_requested_of(other(1)));
        cluster.run(3);
        assert_eq!((cluster.exits(pool(1)).len(), cluster.exits(other(1)).len()), (0, 0));
        cluster.observe(exit_requested(1));
        cluster.run(1);
        assert_released(&cluster, pool(1), pubkey, 17);
    }
}

#[test]
fn an_epoch_that_changes_the_contract_leaves_the_old_ones_pools_served() {
    let mut cluster = dao(2);
    let old = bring_in(&mut cluster, pool(1), 17);
    cluster.observe(deposit_requested(2));
    let manifest = move_on(&mut cluster);
    cluster.run(1);
    // One number, two contracts, two keys.
    let new = bring_in(&mut cluster, other(1), 18);
    assert_ne!(old, new);
    assert_eq!((cluster.pubkey(pool(1)), cluster.pubkey(other(1))), (Some(old), Some(new)));
    // What had begun before goes on, and what begins afterwards does so too.
    let begun = cluster.pubkey(pool(2)).expect("its deposit was requested before the epoch");
    cluster.observe(indexed(pool(2), begun, 19));
    let late = bring_in(&mut cluster, pool(3), 20);
    for pool in [pool(1), other(1), pool(2), pool(3)] {
        assert!(cluster.exits(pool).is_empty());
        cluster.observe(exit_requested_of(pool));
        cluster.run(1);
    }
    for (pool, pubkey, index) in
        [(pool(1), old, 17), (other(1), new, 18), (pool(2), begun, 19), (pool(3), late, 20)]
    {
        assert_released(&cluster, pool, pubkey, index);
    }
    // Transcripts name the contract, whichever manifest was in force.
    let founded = cluster.founding().hash();
    let known = [founded, manifest.hash()];
    let transcripts = cluster.nodes.iter().flat_map(|node| node.transcripts());
    let named: Vec<PoolId> = transcripts
        .map(|transcript| {
            assert!(known.contains(&transcript.manifest().unwrap().hash()));
            match transcript.verify().expect("published transcripts verify") {
                Claim::Key { pool, .. } | Claim::Presigned { pool, .. } => pool,
                Claim::Released { pool, .. } | Claim::Cheated { pool, .. } | Claim::Reshared { pool, .. } => {
                    pool
                }
            }
        })
        .collect();
    for pool in [pool(1), other(1), pool(2), pool(3)] {
        assert!(named.contains(&pool), "{pool}");
    }
}

#[test]
fn events_of_an_unknown_contract_or_chain_are_refused_and_change_nothing() {
    let mut cluster = dao(3);
    let pubkey = bring_in(&mut cluster, pool(1), 17);
    let status = |cluster: &mut Cluster| cluster.ask(VICTIM, Request::Status);
    let before = (status(&mut cluster), cluster.node(VICTIM).records.len());
    let elsewhere = |number| PoolId { chain: 1, ..pool(number) };
    let events =
        |pool: PoolId| [deposit_requested_of(pool), indexed(pool, pubkey, 17), exit_requested_of(pool)];
    for number in [1, 2] {
        for (pool, rejection) in [
            (other(number), Rejection::OtherContract(OTHER)),
            (elsewhere(number), Rejection::OtherChain(1)),
            (PoolId { chain: 1, ..other(number) }, Rejection::OtherChain(1)),
        ] {
            assert!(!rejection.is_transient());
            for event in events(pool) {
                for id in cluster.ids() {
                    assert_eq!(cluster.ask(id, Request::Observe(event)), Reply::Rejected(rejection));
                }
            }
        }
    }
    assert!(cluster.packets.is_empty(), "nothing was said");
    assert_eq!((status(&mut cluster), cluster.node(VICTIM).records.len()), before);
    cluster.run(2);
    assert!(cluster.exits(pool(1)).is_empty());
    // Once the enclave has learnt of the epoch that names the contract, the same event is news.
    move_on(&mut cluster);
    assert_eq!(cluster.ask(VICTIM, Request::Observe(deposit_requested_of(other(2)))), Reply::Done);
    let chain = Rejection::OtherChain(1);
    let event = deposit_requested_of(PoolId { chain: 1, ..other(2) });
    assert_eq!(cluster.ask(VICTIM, Request::Observe(event)), Reply::Rejected(chain));
}

#[test]
fn earlier_contracts_survive_restarts_from_changes_and_from_snapshots() {
    for snapshots_after in [None, Some(1)] {
        let mut cluster = Cluster::launch_with(manifest(3, 2, 2), 4, snapshots_after);
        cluster.run(1);
        move_on(&mut cluster);
        amend(&mut cluster, |manifest| manifest.contracts.pool_manager = Address([0xcc; 20]));
        cluster.run(1);
        for number in 2..=4 {
            bring_in(&mut cluster, pool(number), 100 + u64::from(number));
        }
        for id in cluster.ids() {
            let kept = cluster.kept(id);
            assert_eq!(kept[0].header.number > 1, snapshots_after.is_some(), "where the state begins");
            assert_eq!(cluster.restore(id, 1, &kept), Reply::Done);
            cluster.run(2);
        }
        for contract in [POOL_MANAGER, OTHER, Address([0xcc; 20])] {
            let pool = PoolId { contract, ..pool(1) };
            let pubkey = bring_in(&mut cluster, pool, 17);
            cluster.observe(exit_requested_of(pool));
            cluster.run(1);
            assert_released(&cluster, pool, pubkey, 17);
        }
    }
}

#[test]
fn an_enclave_that_begins_at_a_later_epoch_serves_the_contracts_of_all_before() {
    let mut cluster = dao(5);
    move_on(&mut cluster);
    cluster.replace(VICTIM, 40);
    cluster.run(2);
    let unknown = PoolId { contract: Address([0xcc; 20]), ..pool(1) };
    let event = deposit_requested_of(unknown);
    let rejection = Rejection::OtherContract(unknown.contract);
    assert_eq!(cluster.ask(VICTIM, Request::Observe(event)), Reply::Rejected(rejection));
    for pool in [pool(1), other(1)] {
        let pubkey = bring_in(&mut cluster, pool, 17);
        cluster.observe(exit_requested_of(pool));
        cluster.run(1);
        assert_released(&cluster, pool, pubkey, 17);
    }
}

#[test]
fn a_transcript_of_a_pool_on_another_chain_than_its_manifests_proves_nothing() {
    let mut cluster = dao(6);
    bring_in(&mut cluster, pool(1), 17);
    cluster.observe(exit_requested(1));
    cluster.run(1);
    let mut seen = 0;
    for mut transcript in cluster.node(MemberId(1)).transcripts().cloned() {
        transcript.verify().expect("as it was published");
        match &mut transcript.record {
            Proceedings::Keygen(record) => record.terms.request.pool.chain = 1,
            Proceedings::Presign(record) => record.terms.pool.chain = 1,
            Proceedings::Release(record) => record.terms.presign.pool.chain = 1,
            Proceedings::KeygenFault(record) => record.terms.request.pool.chain = 1,
            Proceedings::PresignFault(record) => record.terms.pool.chain = 1,
            Proceedings::Reshare(record) => record.terms.pool.chain = 1,
            Proceedings::ReshareFault(record) => record.terms.pool.chain = 1,
        }
        let expected = TranscriptError::Terms { what: "chain of the pool" };
        assert_eq!(transcript.verify(), Err(expected));
        seen += 1;
    }
    assert_eq!(seen, 3);
}
