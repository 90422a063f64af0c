//! Who is a member's enclave: the one that the DAO has named, and no other.

use postern_shared::ids::MemberId;
use postern_shared::wire::{Rejection, Reply, Request, Standing};
use postern_tests::cluster::{Cluster, Packet, deposit_requested, exit_requested, manifest, pool, pubkey};
use postern_tests::wallets::signed;

fn among(ids: &[u16]) -> impl Fn(&Packet) -> bool + '_ {
    move |packet| ids.contains(&packet.from.0) && ids.contains(&packet.to.0)
}

#[test]
fn candidates_do_nothing_until_the_dao_names_them() {
    let mut cluster = Cluster::launch_candidates(manifest(3, 2, 2), 1, None);
    for id in cluster.ids() {
        assert_eq!(cluster.standing(id), Standing::Candidate);
        for request in
            [Request::Observe(deposit_requested(1)), Request::Deliver(vec![0]), Request::GoOnWithout(vec![])]
        {
            assert_eq!(cluster.ask(id, request), Reply::Rejected(Rejection::Candidate));
        }
        assert_eq!(cluster.ask(id, Request::Tick), Reply::Done);
    }
    assert!(cluster.packets.is_empty(), "they say nothing to each other");
    // All wallets have to sign: each has compared its own enclave's fingerprint.
    let founding = cluster.founding();
    let two = signed(&cluster.genesis, &founding, [1, 2].map(MemberId));
    assert_eq!(cluster.ask(MemberId(1), Request::Amend(two)), Reply::Rejected(Rejection::InvalidEpoch));
    cluster.amend(&founding);
    cluster.run(1);
    for id in cluster.ids() {
        assert_eq!(cluster.standing(id), Standing::Acting);
    }
}

/// One hostile host of n and a network that is split: two first enclaves, each with one half.
#[test]
fn two_first_enclaves_of_one_member_make_no_two_keys() {
    for (members, threshold) in [(3, 2), (5, 3), (7, 4), (13, 7)] {
        let twin = MemberId(members);
        let mut cluster = Cluster::launch_candidates(manifest(members, threshold, threshold), 45, None);
        let other = cluster.another(twin, 4711, &[]);
        let founding = cluster.founding();
        cluster.amend(&founding);
        let half: Vec<u16> = (1..=members / 2).chain([members]).collect();
        let rest: Vec<u16> = (members / 2 + 1..=members).collect();
        for (side, away) in [(&half, &rest), (&rest, &half)] {
            cluster.observe(deposit_requested(1));
            let away: Vec<MemberId> = away.iter().map(|id| MemberId(*id)).filter(|id| *id != twin).collect();
            for id in side {
                cluster.ask(MemberId(*id), Request::GoOnWithout(away.clone()));
            }
            cluster.carry(4, among(side));
            if std::ptr::eq(side, &half) {
                let mut other = cluster.another(twin, 4711, &[]);
                std::mem::swap(&mut other.core, &mut cluster.node_mut(twin).core);
            }
        }
        drop(other);
        let keys: Vec<_> = cluster.nodes.iter().filter_map(|node| pubkey(node, pool(1))).collect();
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{members} members have two keys");
    }
}

#[test]
fn a_second_first_enclave_is_nobody_and_stops_nobody() {
    let twin = MemberId(5);
    let mut cluster = Cluster::launch_candidates(manifest(5, 3, 3), 46, None);
    let mut other = cluster.another(twin, 4711, &[]);
    let founding = cluster.founding();
    cluster.amend(&founding);
    let epoch = cluster.epochs[0].clone();
    assert_eq!(other.core.handle(Request::Amend(epoch)).reply, Reply::Done);
    // Each is shown to some: one is the member, and the other knows that it is not.
    cluster.carry(2, among(&[1, 2, 5]));
    let first = cluster.adopt(twin, other);
    assert_eq!(cluster.standing(twin), Standing::Replaced);
    cluster.carry(2, among(&[3, 4, 5]));
    std::mem::drop(std::mem::replace(&mut cluster.node_mut(twin).core, first));
    cluster.run(3);
    for number in 1..4 {
        cluster.observe(deposit_requested(number));
        cluster.run(2);
        assert!(cluster.pubkey(pool(number)).is_some(), "keys are made as if nothing had been");
    }
}

#[test]
fn a_dead_enclave_is_not_admitted_as_its_own_successor_by_somebody_who_never_knew_it() {
    let (dead, newcomer) = (MemberId(2), MemberId(3));
    let mut cluster = Cluster::launch(manifest(4, 2, 2), 47);
    cluster.run(2);
    // The newcomer is itself a replacement, and has never met the dead one.
    let old = cluster.twin(dead, 60);
    cluster.launch_anew(dead, 61);
    let named = cluster.replacement(dead);
    cluster.amend(&named);
    cluster.run(3);
    cluster.replace(newcomer, 62);
    let epochs = cluster.epochs.clone();
    let current = cluster.adopt(dead, old);
    for epoch in epochs {
        cluster.ask(dead, Request::Amend(epoch));
    }
    // It goes by the manifest that it knows, until it hears what the others have decided.
    assert!(matches!(cluster.standing(dead), Standing::Returning { .. }));
    cluster.carry(4, among(&[2, 3]));
    assert_eq!(cluster.node(newcomer).core.enclave(dead), None);
    std::mem::drop(std::mem::replace(&mut cluster.node_mut(dead).core, current));
    cluster.run(4);
    assert_eq!(cluster.standing(newcomer), Standing::Acting);
    assert_eq!(cluster.node(newcomer).core.enclave(dead).copied(), cluster.manifest.identity(dead));
}

/// A candidate that was restored may have a twin: it does not act at once, but asks those that do.
#[test]
fn a_candidate_that_was_restarted_before_the_founding_asks_the_others() {
    let again = MemberId(2);
    let mut cluster = Cluster::launch_candidates(manifest(4, 2, 2), 48, None);
    cluster.crash(again, 9);
    let twin = cluster.twin(again, 10);
    let founding = cluster.founding();
    cluster.amend(&founding);
    assert!(matches!(cluster.standing(again), Standing::Returning { .. }));
    cluster.run(3);
    assert_eq!(cluster.standing(again), Standing::Acting);
    // Its twin comes too late.
    let acting = cluster.adopt(again, twin);
    let epoch = cluster.epochs[0].clone();
    cluster.ask(again, Request::Amend(epoch));
    cluster.run(3);
    assert_ne!(cluster.standing(again), Standing::Acting);
    std::mem::drop(std::mem::replace(&mut cluster.node_mut(again).core, acting));
    cluster.observe(deposit_requested(1));
    cluster.run(3);
    let key = cluster.pubkey(pool(1)).expect("a key");
    cluster.observe(postern_shared::events::ChainEvent::ValidatorIndexed {
        pool: pool(1),
        pubkey: key,
        validator_index: 7,
    });
    cluster.run(2);
    cluster.observe(exit_requested(1));
    cluster.run(2);
    assert_eq!(cluster.exits(pool(1)).len(), 1);
}
