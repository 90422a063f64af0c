//! The life of a pool among honest enclaves and hosts.

use postern_shared::events::ChainEvent;
use postern_shared::transcript::Claim;
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, kind, manifest, pool};

fn through_life(members: u16, operator: u16, guardian: u16) {
    let pool = pool(1);
    let mut cluster = Cluster::launch(manifest(members, operator, guardian), 1);
    cluster.run(0);
    cluster.observe(deposit_requested(1));
    cluster.run(0);
    let pubkey = cluster.pubkey(pool).expect("a key is made");
    cluster.observe(ChainEvent::ValidatorIndexed { pool, pubkey, validator_index: 17 });
    cluster.run(0);
    assert!(cluster.exits(pool).is_empty(), "nothing is released before the DAO wants it");
    cluster.observe(exit_requested(1));
    cluster.run(0);

    let exits = cluster.exits(pool);
    assert_eq!(exits.len(), 1, "an exit is released");
    let network = cluster.manifest.network;
    let root = exits[0].message.signing_root(network.capella_fork_version, network.genesis_validators_root);
    pubkey.verify(&root.0, &exits[0].signature).expect("the exit verifies under the validator's key");
    for node in &cluster.nodes {
        let kinds: Vec<_> = node.transcripts().map(kind).collect();
        assert_eq!(kinds, ["keygen", "presign", "release"]);
    }
    for claim in cluster.claims() {
        match claim {
            Claim::Key { certificate, threshold, operators, .. } => {
                assert_eq!(certificate.pubkey(), pubkey);
                assert_eq!((threshold, operators.len()), (operator, usize::from(members)));
            }
            Claim::Presigned { certificate, guardians, .. } => {
                assert_eq!(certificate.pubkey(), pubkey);
                assert_eq!(guardians.len(), usize::from(members));
            }
            Claim::Released { exit, guardians, .. } => {
                assert_eq!(exit, exits[0]);
                assert!(guardians.len() >= usize::from(guardian));
            }
            other => panic!("nobody cheated: {other:?}"),
        }
    }
}

#[test]
fn three_of_five() {
    through_life(5, 3, 3);
}

#[test]
fn different_thresholds_for_operators_and_guardians() {
    through_life(4, 3, 2);
    through_life(3, 2, 3);
}
