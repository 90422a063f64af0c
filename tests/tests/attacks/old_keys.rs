//! A key's own holders and threshold judge it, whatever roles and thresholds the manifest gives later.

use postern_shared::ids::{MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::transcript::Claim;
use postern_shared::wire::{Reply, Request};
use postern_tests::attack::roster;
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, kind, manifest, pool};
use postern_tests::wallets::{next, signed, with_wallets};

const POOL: PoolId = pool(1);

/// Makes a key, changes the manifest, and takes the key's exit the whole way.
#[track_caller]
fn exits_after(members: u16, threshold: u16, change: impl FnOnce(&mut Manifest)) {
    let first = with_wallets(manifest(members, threshold, threshold));
    let mut cluster = Cluster::launch(first.clone(), 55);
    cluster.run(1);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    let second = next(&first, change);
    let epoch = signed(&first, &second, cluster.ids());
    for id in cluster.ids() {
        assert_eq!(cluster.ask(id, Request::Amend(epoch.clone())), Reply::Done);
    }
    cluster.index(POOL);
    cluster.run(3);
    cluster.observe(exit_requested(POOL.number));
    cluster.run(3);
    assert_eq!(cluster.exits(POOL).len(), 1);
    let verified = cluster.nodes[0].transcripts().filter(|transcript| kind(transcript) == "presign");
    let claims: Vec<Claim> =
        verified.map(|transcript| transcript.verify(Some(second.hash())).expect("it verifies")).collect();
    assert!(matches!(&claims[..], [Claim::Presigned { .. }]), "{claims:?}");
}

#[test]
fn an_operator_that_gives_up_its_role_still_signs_the_exits_of_keys_that_it_holds() {
    for (members, threshold) in [(3, 2), (5, 3)] {
        exits_after(members, threshold, |manifest| {
            manifest.members.last_mut().unwrap().operator = false;
        });
    }
}

#[test]
fn a_key_is_presigned_by_its_own_threshold_after_the_manifests_is_raised_or_lowered() {
    for operator in [2, 4, 5] {
        exits_after(5, 3, |manifest| manifest.thresholds.operator = operator);
    }
}

#[test]
fn fewer_holders_than_the_keys_own_threshold_presign_nothing() {
    // Thresholds are lowered to two, but this key was made for four.
    let first = with_wallets(manifest(5, 4, 3));
    let mut cluster = Cluster::launch(first.clone(), 56);
    cluster.run(1);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    let second = next(&first, |manifest| {
        manifest.thresholds.operator = 2;
        // Two machines are lost, and with them two shares of the key.
        manifest.members[3].machine = 1;
        manifest.members[4].machine = 1;
    });
    let epoch = signed(&first, &second, cluster.ids());
    for id in [1, 2, 3].map(MemberId) {
        assert_eq!(cluster.ask(id, Request::Amend(epoch.clone())), Reply::Done);
    }
    for id in [4, 5].map(MemberId) {
        cluster.launch_anew(id, 9, std::slice::from_ref(&second));
    }
    cluster.run(4);
    let before = roster(&cluster);
    assert_eq!(before.members().count(), 5);
    cluster.index(POOL);
    cluster.run(3);
    assert!(cluster.nodes.iter().all(|node| node.transcripts().all(|one| kind(one) != "presign")));
}
