//! What members must never decide in two ways, however hosts split them and wallets sign: a pool's key, the next epoch. And
//! once all hosts are honest, it is decided.

use postern_shared::agreement::{Content, Said, Subject};
use postern_shared::codec;
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::message::{PeerMessage, Step};
use postern_shared::wire::{Artifact, Rejection, Reply, Request, Standing};
use postern_tests::attack::statement;
use postern_tests::cluster::{Cluster, Packet, deposit_requested, manifest, pool, pubkey};
use postern_tests::wallets::{next, signed};

const POOL: PoolId = pool(1);

fn step(packet: &Packet) -> Option<Step> {
    statement(packet).map(|said| said.slot.step)
}

fn among(ids: &[u16]) -> impl Fn(&Packet) -> bool + '_ {
    move |packet| ids.contains(&packet.from.0) && ids.contains(&packet.to.0)
}

fn ids(range: core::ops::RangeInclusive<u16>) -> Vec<MemberId> {
    range.map(MemberId).collect()
}

/// Honest hosts from now on: everything that was ever said comes again, what takes too long is given up.
fn honest(cluster: &mut Cluster) {
    for _ in 0..8 {
        for said in cluster.said.clone() {
            for to in cluster.ids().into_iter().filter(|to| *to != said.slot.from) {
                let bytes = codec::encode(&PeerMessage::Broadcast(said.clone()));
                cluster.packets.push_back(Packet { from: said.slot.from, to, bytes });
            }
        }
        for id in cluster.ids() {
            cluster.ask(id, Request::GoOnWithout(Vec::new()));
        }
        cluster.run(2);
        for id in cluster.ids() {
            if let Reply::Status(status) = cluster.ask(id, Request::Status) {
                for (subject, _) in status.undecided {
                    cluster.ask(id, Request::GiveUp(subject));
                }
            }
        }
    }
}

fn keys(cluster: &Cluster, number: u32) -> Vec<postern_shared::bls::PublicKey> {
    let mut keys: Vec<_> = cluster.nodes.iter().filter_map(|node| pubkey(node, pool(number))).collect();
    keys.sort_by_key(|key| key.0);
    keys.dedup();
    keys
}

fn manifests(cluster: &Cluster) -> Vec<Manifest> {
    cluster.nodes.iter().map(|node| node.core.manifest().expect("it was started").clone()).collect()
}

/// Some hosts have one epoch, the others another: one wallet has signed both.
#[test]
fn a_wallet_that_signs_two_epochs_divides_nobody_and_is_convicted() {
    for (members, threshold) in [(3, 2), (4, 2), (5, 3), (7, 4)] {
        let mut cluster = Cluster::launch(manifest(members, threshold, threshold), 54);
        cluster.run(1);
        let first = cluster.manifest.clone();
        let half = members / 2 + 1;
        let (a, b) =
            (next(&first, |next| next.name = "A".into()), next(&first, |next| next.name = "B".into()));
        // As many sign as have to, and one of them signs both.
        let quorum = postern_shared::epoch::quorum(&first) as u16;
        let (one, other) =
            (signed(&first, &a, ids(1..=quorum)), signed(&first, &b, ids(members + 1 - quorum..=members)));
        let twice = ids(members + 1 - quorum..=quorum);
        assert!(!twice.is_empty());
        for id in 1..=members {
            let epoch = if id < half { &one } else { &other };
            assert_eq!(cluster.ask(MemberId(id), Request::Amend(epoch.clone())), Reply::Done);
        }
        honest(&mut cluster);
        let manifests = manifests(&cluster);
        assert!(manifests[0] == a || manifests[0] == b, "{members}: one of them is in force");
        assert!(manifests.iter().all(|manifest| *manifest == manifests[0]), "{members}: and at all the same");
        let forks =
            cluster.nodes.iter().flat_map(|node| &node.artifacts).filter_map(|artifact| match artifact {
                Artifact::Fork(fork) => Some(fork.culprits()),
                _ => None,
            });
        let forks: Vec<_> = forks.collect();
        assert!(!forks.is_empty() && forks.iter().all(|culprits| *culprits == twice), "{members}: {forks:?}");
        // The DAO goes on: with keys, and with the next epoch.
        cluster.observe(deposit_requested(1));
        cluster.run(2);
        assert!(cluster.pubkey(POOL).is_some());
        let third = next(&manifests[0], |next| next.name = "C".into());
        let epoch = signed(&manifests[0], &third, ids(1..=members));
        assert_eq!(cluster.ask(MemberId(2), Request::Amend(epoch)), Reply::Done);
        honest(&mut cluster);
        assert!(
            self::manifests(&cluster).iter().all(|manifest| *manifest == third),
            "one host has it, all get it"
        );
    }
}

/// Two hosts hear that enough want an epoch, the others nothing; then the two are gone, and the others have another epoch.
#[test]
fn an_epoch_that_is_in_force_anywhere_is_in_force_everywhere() {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 55);
    cluster.run(1);
    let first = cluster.manifest.clone();
    let (a, b) = (next(&first, |next| next.name = "A".into()), next(&first, |next| next.name = "B".into()));
    let one = signed(&first, &a, ids(1..=5));
    for id in [1, 2, 3] {
        cluster.ask(MemberId(id), Request::Amend(one.clone()));
    }
    // Of the three that adopt it, one hears the other two.
    cluster.carry(2, |packet| {
        let hears = packet.to == MemberId(1) || !matches!(step(packet), Some(Step::Adopt | Step::Decide));
        among(&[1, 2, 3])(packet) && hears
    });
    assert_eq!(manifests(&cluster)[0], a);
    assert_eq!(manifests(&cluster)[1], first);
    let other = signed(&first, &b, ids(1..=5));
    for _ in 0..4 {
        for id in [2, 3, 4, 5] {
            cluster.ask(MemberId(id), Request::Amend(other.clone()));
            cluster.ask(MemberId(id), Request::GiveUp(Subject::Epoch(first.hash())));
        }
        let of_the_decided = |packet: &Packet| {
            statement(packet)
                .and_then(|said| Said::of(&said))
                .is_some_and(|said| matches!(said.content, Content::Decide(..)))
        };
        cluster.carry(2, |packet| among(&[2, 3, 4, 5])(packet) && !of_the_decided(packet));
    }
    assert!(
        manifests(&cluster).iter().all(|manifest| *manifest == a || *manifest == first),
        "never the other"
    );
    honest(&mut cluster);
    assert!(manifests(&cluster).iter().all(|manifest| *manifest == a));
}

/// A member that was away shows itself to one other in the middle of a keygen without it.
#[test]
fn a_late_member_freezes_no_pool() {
    for (members, threshold) in [(5, 3), (7, 3)] {
        let late = MemberId(members);
        let mut cluster = Cluster::launch(manifest(members, threshold, threshold), 47);
        cluster.observe(deposit_requested(1));
        let others: Vec<u16> = (1..members).collect();
        for id in &others {
            cluster.ask(MemberId(*id), Request::GoOnWithout(vec![late]));
        }
        // One verdict is a little late at member 2.
        let late_verdict = |packet: &Packet| {
            packet.to == MemberId(2) && packet.from == MemberId(4) && step(packet) == Some(Step::Verdict)
        };
        cluster.carry(3, |packet| among(&others)(packet) && !late_verdict(packet));
        assert!(
            cluster.said.iter().any(|said| said.slot.step == Step::Confirm && said.slot.from == MemberId(1))
        );
        assert!(
            !cluster.said.iter().any(|said| said.slot.step == Step::Confirm && said.slot.from == MemberId(2))
        );
        cluster.ask(late, Request::Tick);
        cluster.carry(2, among(&[2, members]));
        honest(&mut cluster);
        assert_eq!(keys(&cluster, 1).len(), 1, "{members}");
        assert_eq!(
            cluster.nodes.iter().filter(|node| pubkey(node, POOL).is_some()).count(),
            usize::from(members)
        );
    }
}

/// All but one have confirmed when the last machine dies; or it confirms to one member only.
#[test]
fn a_machine_that_dies_in_the_middle_of_a_keygen_freezes_no_pool_and_makes_no_second_key() {
    for confirms_to in [None, Some(MemberId(1))] {
        let dead = MemberId(5);
        let mut cluster = Cluster::launch(manifest(5, 3, 3), 48);
        cluster.run(1);
        cluster.observe(deposit_requested(1));
        cluster.carry(2, |packet| {
            let last_word = packet.from == dead && step(packet).is_some_and(|step| step >= Step::Confirm);
            !last_word || Some(packet.to) == confirms_to
        });
        assert_eq!(cluster.pubkey(POOL), None);
        // It is gone, with all that its host had.
        cluster.said.retain(|said| said.slot.from != dead || said.slot.step < Step::Confirm);
        let living: Vec<u16> = (1..5).collect();
        for _ in 0..8 {
            for said in cluster.said.clone() {
                for to in living.iter().map(|id| MemberId(*id)).filter(|to| *to != said.slot.from) {
                    let bytes = codec::encode(&PeerMessage::Broadcast(said.clone()));
                    cluster.packets.push_back(Packet { from: said.slot.from, to, bytes });
                }
            }
            cluster.carry(2, |packet| {
                let dead_says = statement(packet).is_some_and(|said| said.slot.from == dead);
                among(&living)(packet) || dead_says && packet.to != dead
            });
            for id in &living {
                cluster.ask(MemberId(*id), Request::GoOnWithout(vec![dead]));
                cluster.ask(MemberId(*id), Request::GiveUp(Subject::Key(POOL)));
            }
            // Evidence of the dead one is worth nothing any more.
            cluster.said.retain(|said| said.slot.from != dead || said.slot.step < Step::Confirm);
        }
        let found = keys(&cluster, 1);
        assert!(found.len() <= 1, "two keys");
    }
}

#[test]
fn no_share_signs_a_deposit_before_a_quorum_has_adopted_the_key() {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 49);
    cluster.run(1);
    cluster.observe(deposit_requested(1));
    cluster.carry(3, |packet| !matches!(step(packet), Some(Step::Adopt | Step::Decide)));
    let count = |cluster: &Cluster, step| cluster.said.iter().filter(|said| said.slot.step == step).count();
    assert_eq!((count(&cluster, Step::Adopt), count(&cluster, Step::Deposit)), (5, 0));
    honest(&mut cluster);
    assert_eq!(keys(&cluster, 1).len(), 1);
    assert_eq!(count(&cluster, Step::Deposit), 5);
}

/// One member alone has seen that the key is decided; the others give up as often as their hosts like.
#[test]
fn what_is_decided_anywhere_is_decided_everywhere() {
    for seed in 60..64 {
        let mut cluster = Cluster::launch(manifest(5, 3, 3), seed);
        cluster.run(1);
        cluster.observe(deposit_requested(1));
        let decides = MemberId(1 + (seed % 5) as u16);
        let hides = |packet: &Packet| {
            matches!(step(packet), Some(Step::Adopt | Step::Decide)) && packet.to != decides
        };
        cluster.carry(3, |packet| !hides(packet));
        let key = pubkey(cluster.node(decides), POOL);
        // It has decided, so its share signs; without the others' it is no deposit.
        assert_eq!(key, None);
        let said =
            |cluster: &Cluster| cluster.said.iter().filter(|said| said.slot.step == Step::Deposit).count();
        assert_eq!(said(&cluster), 1);
        for _ in 0..4 {
            for id in cluster.ids().into_iter().filter(|id| *id != decides) {
                cluster.ask(id, Request::GiveUp(Subject::Key(POOL)));
            }
            let of_others = |packet: &Packet| packet.from != decides && packet.to != decides;
            cluster.carry(3, |packet| of_others(packet) && step(packet) != Some(Step::Decide));
        }
        honest(&mut cluster);
        assert_eq!(keys(&cluster, 1).len(), 1, "{seed}");
        let terms =
            |node: &postern_tests::cluster::Node| node.core.keygen(POOL).map(|run| run.terms().ceremony());
        let first = terms(&cluster.nodes[0]);
        assert!(cluster.nodes.iter().all(|node| terms(node) == first), "{seed}: and of one run");
    }
}

/// A machine is replaced after its enclave has adopted a key that few know of. The new one knows nothing, and says nothing.
#[test]
fn a_newcomer_helps_nobody_to_a_second_key() {
    for (members, threshold) in [(3, 2), (4, 2), (5, 3), (7, 4)] {
        let mut cluster = Cluster::launch(manifest(members, threshold, threshold), 70);
        cluster.run(1);
        cluster.observe(deposit_requested(1));
        // A quorum adopts the key, and nobody hears of it.
        let quorum = cluster.manifest.quorum().to_act() as u16 + 1;
        let knows = |id: MemberId| id.0 <= quorum;
        cluster.carry(3, |packet| match step(packet) {
            Some(Step::Vote) => knows(packet.to),
            Some(Step::Adopt | Step::Decide) => false,
            _ => true,
        });
        let adopts = cluster.said.iter().filter(|said| said.slot.step == Step::Adopt);
        assert_eq!(adopts.count(), usize::from(quorum), "{members}");
        let lost = MemberId(quorum);
        cluster.replace(lost, 4712);
        cluster.run(2);
        assert_eq!(cluster.standing(lost), Standing::Acting, "{members}");
        cluster.observe(deposit_requested(1));
        // What was adopted is never proposed again as if it had not been, whoever gives up and whoever is away.
        for without in 1..=members {
            let rest: Vec<u16> = (1..=members).filter(|id| *id != without || *id == lost.0).collect();
            for id in &rest {
                cluster.ask(MemberId(*id), Request::GiveUp(Subject::Key(POOL)));
            }
            cluster.carry(2, among(&rest));
        }
        honest(&mut cluster);
        let runs: Vec<_> =
            cluster.said.iter().filter(|said| said.slot.step == Step::Adopt).filter_map(Said::of).collect();
        let mut values: Vec<_> = runs
            .iter()
            .filter(|said| matches!(said.subject, Subject::Key(_)))
            .filter_map(|said| match said.content {
                Content::Adopt(choice) => Some(choice.value),
                _ => None,
            })
            .collect();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 1, "{members}: one choice was ever adopted");
    }
}

#[test]
fn nothing_can_be_given_up_that_is_not_to_be_decided() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 71);
    cluster.run(1);
    let refused = Reply::Rejected(Rejection::NothingToLeave);
    let subjects =
        [Subject::Key(POOL), Subject::Epoch(cluster.manifest.hash()), Subject::Epoch(cluster.genesis.hash())];
    for subject in subjects {
        assert_eq!(cluster.ask(MemberId(1), Request::GiveUp(subject)), refused);
    }
    cluster.observe(deposit_requested(1));
    assert_eq!(cluster.ask(MemberId(1), Request::GiveUp(Subject::Key(POOL))), Reply::Done);
    assert_eq!(
        cluster.ask(MemberId(1), Request::GiveUp(Subject::Key(POOL))),
        refused,
        "it has left, and waits for others"
    );
    honest(&mut cluster);
    assert_eq!(keys(&cluster, 1).len(), 1);
    assert_eq!(cluster.ask(MemberId(1), Request::GiveUp(Subject::Key(POOL))), refused);
}
