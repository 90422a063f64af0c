//! A key's own holders and threshold judge it, whatever roles and thresholds the manifest gives later.

use postern_shared::ids::{MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::transcript::Claim;
use postern_tests::attack::roster;
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, kind, manifest, pool};
use postern_tests::wallets::next;

const POOL: PoolId = pool(1);

/// Makes a key, changes the manifest, and takes the key's exit the whole way.
#[track_caller]
fn exits_after(members: u16, threshold: u16, change: impl FnOnce(&mut Manifest)) {
    let mut cluster = Cluster::launch(manifest(members, threshold, threshold), 55);
    cluster.run(1);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    let second = next(&cluster.manifest, change);
    cluster.amend(&second);
    cluster.index(POOL);
    cluster.run(3);
    cluster.observe(exit_requested(POOL.number));
    cluster.run(3);
    assert_eq!(cluster.exits(POOL).len(), 1);
    let presigns = cluster.nodes[0].transcripts().filter(|transcript| kind(transcript) == "presign");
    let claims: Vec<Claim> = presigns
        .map(|transcript| {
            assert_eq!(transcript.manifest().expect("a manifest").hash(), second.hash());
            transcript.verify().expect("it verifies")
        })
        .collect();
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
        exits_after(5, 3, |manifest| {
            (manifest.thresholds.operator, manifest.thresholds.proof) = (operator, operator.max(3));
        });
    }
}

#[test]
fn fewer_holders_than_the_keys_own_threshold_presign_nothing() {
    // Thresholds are lowered to two, but this key was made for four.
    let mut cluster = Cluster::launch(manifest(5, 4, 3), 56);
    cluster.run(1);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    // Two machines are lost, and with them two shares of the key.
    cluster.replace(MemberId(4), 9);
    cluster.run(3);
    cluster.replace(MemberId(5), 10);
    let second = next(&cluster.manifest, |manifest| manifest.thresholds.operator = 2);
    cluster.amend(&second);
    cluster.run(4);
    let before = roster(&cluster);
    assert_eq!(before.members().count(), 5);
    cluster.index(POOL);
    cluster.run(3);
    assert!(cluster.nodes.iter().all(|node| node.transcripts().all(|one| kind(one) != "presign")));
}
