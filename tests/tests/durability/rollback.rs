//! Old state is noticed, whoever gives it back (invariant I7), and nothing leaves before others remember what it came of.

use postern_shared::agreement::Subject;
use postern_shared::codec;
use postern_shared::ids::{MemberId, Nonce, PoolId};
use postern_shared::message::PeerMessage;
use postern_shared::wire::{Notice, Rejection, Reply, Request, StaleKind, Standing, Status};
use postern_shared::witness::{
    Ballot, InForce, Known, Memory, Note, Noted, SignedNote, Witness, WitnessMessage,
};
use postern_tests::cluster::{Cluster, Heir, Packet, deposit_requested, manifest, pool};

const OWN: MemberId = MemberId(2);
const POOL: PoolId = pool(1);

fn dao(members: u16) -> Cluster {
    let mut cluster = Cluster::launch(manifest(members, 2, 2), 31);
    cluster.run(1);
    cluster
}

/// One whose enclaves find back by themselves if all are there.
fn automatic(members: u16) -> Cluster {
    let mut manifest = manifest(members, 2, 2);
    manifest.agreement.automatic_return = true;
    let mut cluster = Cluster::launch(manifest, 31);
    cluster.run(1);
    cluster
}

fn status(cluster: &mut Cluster, id: MemberId) -> Status {
    match cluster.ask(id, Request::Status) {
        Reply::Status(status) => *status,
        other => panic!("no status: {other:?}"),
    }
}

fn witness(packet: &Packet) -> Option<WitnessMessage> {
    match codec::decode(&packet.bytes) {
        Ok(PeerMessage::Witness(message)) => Some(*message),
        _ => None,
    }
}

fn says_something(packet: &Packet) -> bool {
    matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Broadcast(_) | PeerMessage::Envelope(_)))
}

#[test]
fn every_earlier_state_is_found_to_be_old() {
    let mut cluster = dao(5);
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    let newest = cluster.node(OWN).records.clone();
    // The records at the end, which nobody was told of, are nobody's loss.
    let told = cluster.nodes.iter().filter_map(|node| node.known_head(OWN)).max().expect("they know its log");
    assert!(told > 20);
    for (launch, end) in (1..told).step_by(told as usize / 7).enumerate() {
        assert_eq!(cluster.restore(OWN, launch as u64 + 1, &newest[..end as usize]), Reply::Done);
        let before = cluster.node(MemberId(1)).notices.len();
        cluster.run(1);
        let Standing::Stale(stale) = cluster.standing(OWN) else { panic!("restored from {end} of {told}") };
        assert!(matches!(stale.kind, StaleKind::RolledBack | StaleKind::Forked), "{stale:?}");
        assert!(stale.known >= stale.own);
        assert!(Standing::Stale(stale).to_string().contains("OLD STATE"), "in words too");
        let said = &cluster.node(MemberId(1)).notices[before..];
        assert!(said.iter().any(|notice| matches!(notice, Notice::StalePeer(_))), "its peers say so too");
        for request in
            [Request::Observe(deposit_requested(2)), Request::Tick, Request::GiveUp(Subject::Key(POOL))]
        {
            assert_eq!(cluster.ask(OWN, request), Reply::Rejected(Rejection::Stale));
        }
        assert!(!cluster.packets.iter().any(|packet| packet.from == OWN && says_something(packet)));
    }
    assert_eq!(cluster.restore(OWN, 99, &newest), Reply::Done);
    cluster.run(2);
    assert_eq!(cluster.standing(OWN), Standing::Acting, "with the newest it is itself again");
    cluster.observe(deposit_requested(2));
    cluster.run(1);
    assert!(cluster.pubkey(pool(2)).is_some());
}

#[test]
fn of_two_enclaves_with_one_log_one_acts() {
    let mut cluster = dao(5);
    let machine = cluster.node(OWN).machine;
    let records = cluster.node(OWN).records.clone();
    let (slot, certificates) =
        (cluster.node(OWN).slot.clone().expect("a slot"), cluster.node(OWN).certificates());
    let mut twin = Heir::launch(machine, 77);
    for request in [
        Request::Restore { slot: Box::new(slot), certificates },
        Request::Records(records.clone()),
        Request::Restored,
    ] {
        assert_eq!(twin.core.handle(request).reply, Reply::Done);
    }
    // The host connects one, then the other, again and again.
    let mut twin = Some(twin);
    for _ in 0..4 {
        let first = cluster.adopt(OWN, twin.take().expect("the other one"));
        cluster.run(1);
        twin = Some(Heir { core: first, ..Heir::launch(machine, 78) });
        cluster.observe(deposit_requested(POOL.number));
        cluster.run(1);
    }
    let one = cluster.standing(OWN);
    cluster.adopt(OWN, twin.take().expect("the other one"));
    let other = cluster.standing(OWN);
    let acting = [one, other].iter().filter(|standing| **standing == Standing::Acting).count();
    assert_eq!(acting, 1, "{one:?} and {other:?}");
    assert!(
        [one, other].iter().any(|standing| matches!(standing, Standing::Stale(_))),
        "{one:?} and {other:?}"
    );
}

#[test]
fn one_answer_too_few_and_a_restored_enclave_waits() {
    for members in [3, 5, 6] {
        let mut cluster = dao(members);
        let wanted = cluster.manifest.quorum().to_return();
        cluster.crash(OWN, 1);
        // So many of the others can be reached, and no more.
        let reached: Vec<MemberId> =
            cluster.ids().into_iter().filter(|id| *id != OWN).take(wanted - 1).collect();
        let mut held = Vec::new();
        for _ in 0..4 {
            cluster.ask(OWN, Request::Tick);
            while let Some(packet) = cluster.packets.pop_front() {
                let (from, to) = (packet.from, packet.to);
                let passes =
                    reached.contains(if from == OWN { &to } else { &from }) || from != OWN && to != OWN;
                if passes {
                    let reply = cluster.ask(to, Request::Deliver(packet.bytes.clone()));
                    if matches!(reply, Reply::Rejected(rejection) if rejection.is_transient()) {
                        held.push(packet);
                    }
                } else {
                    held.push(packet);
                }
            }
            cluster.packets.extend(held.drain(..));
        }
        let Standing::Returning { acting, wanted: told, .. } = cluster.standing(OWN) else {
            panic!("it acts on {} answers of {members} members", wanted - 1)
        };
        assert_eq!((usize::from(acting), usize::from(told)), (wanted - 1, wanted), "{members} members");
        // Until then it remembers nothing for others, and takes no part.
        assert_eq!(
            cluster.ask(OWN, Request::Observe(deposit_requested(1))),
            Reply::Rejected(Rejection::Returning)
        );
        cluster.observe(deposit_requested(1));
        let advance = cluster.packets.iter().find(|packet| {
            packet.to == OWN
                && matches!(witness(packet), Some(WitnessMessage { witness: Witness::Advance(_), .. }))
        });
        if let Some(packet) = advance.cloned() {
            let reply = cluster.ask(OWN, Request::Deliver(packet.bytes));
            assert!(
                matches!(reply, Reply::Rejected(Rejection::Returning | Rejection::NotAdmitted(_))),
                "{reply:?}"
            );
        }
        cluster.run(2);
        assert_eq!(cluster.standing(OWN), Standing::Acting);
    }
}

#[test]
fn after_a_power_loss_everywhere_all_have_to_be_there() {
    let mut cluster = automatic(5);
    cluster.observe(deposit_requested(POOL.number));
    let ids = cluster.ids();
    for (launch, id) in ids.iter().enumerate() {
        cluster.crash(*id, launch as u64 + 1);
    }
    // Member 5's machine stays dark for now.
    let dark = MemberId(5);
    let carry = |cluster: &mut Cluster, dark: Option<MemberId>| {
        for _ in 0..3 {
            let ids = cluster.ids();
            ids.into_iter()
                .filter(|id| Some(*id) != dark)
                .for_each(|id| drop(cluster.ask(id, Request::Tick)));
            for _ in 0..cluster.packets.len() * 4 {
                let Some(packet) = cluster.packets.pop_front() else { break };
                if Some(packet.from) == dark || Some(packet.to) == dark {
                    cluster.packets.push_back(packet);
                } else {
                    cluster.deliver(packet);
                }
            }
        }
    };
    carry(&mut cluster, Some(dark));
    for id in &ids {
        assert!(matches!(cluster.standing(*id), Standing::Returning { .. }), "{id}");
    }
    carry(&mut cluster, None);
    cluster.run(1);
    for id in &ids {
        assert_eq!(cluster.standing(*id), Standing::Acting, "{id}");
    }
    cluster.observe(deposit_requested(POOL.number));
    cluster.run(1);
    assert!(cluster.pubkey(POOL).is_some());
}

#[test]
fn hosts_that_use_a_power_loss_to_take_a_minority_back_are_found_out() {
    for members in [3_u16, 5, 6] {
        let mut cluster = automatic(members);
        cluster.observe(deposit_requested(POOL.number));
        cluster.run(1);
        let back: Vec<MemberId> = cluster.ids().into_iter().take(usize::from(members) / 2).collect();
        for (launch, id) in cluster.ids().into_iter().enumerate() {
            let records = cluster.node(id).records.clone();
            let end = if back.contains(&id) { records.len() / 2 } else { records.len() };
            assert_eq!(cluster.restore(id, launch as u64 + 1, &records[..end]), Reply::Done);
        }
        cluster.run(3);
        for id in back {
            let found = cluster.standing(id);
            assert!(matches!(found, Standing::Stale(_)), "{id} of {members}: {found:?}");
        }
    }
}

#[test]
fn nothing_leaves_that_nobody_remembers() {
    let mut cluster = dao(5);
    cluster.observe(deposit_requested(POOL.number));
    // One member too few says that it remembers.
    let allowed = cluster.manifest.quorum().to_act() - 1;
    let mut noted: std::collections::BTreeMap<MemberId, std::collections::BTreeSet<MemberId>> =
        Default::default();
    for _ in 0..3 {
        cluster.ids().into_iter().for_each(|id| drop(cluster.ask(id, Request::Tick)));
        while let Some(packet) = cluster.packets.pop_front() {
            if let Some(WitnessMessage { witness: Witness::Noted(_), .. }) = witness(&packet) {
                let from = noted.entry(packet.to).or_default();
                if from.len() >= allowed && !from.contains(&packet.from) {
                    continue;
                }
                from.insert(packet.from);
            }
            assert!(!says_something(&packet), "member {} has said something", packet.from.0);
            cluster.ask(packet.to, Request::Deliver(packet.bytes));
        }
    }
    assert!(cluster.said.is_empty() && cluster.nodes.iter().all(|node| node.artifacts.is_empty()));
}

#[test]
fn a_peer_that_lies_about_a_log_proves_nothing() {
    let mut cluster = dao(3);
    let liar = MemberId(3);
    let dao = cluster.manifest.genesis();
    let own = *cluster.node(OWN).keys().identity();
    cluster.crash(OWN, 1);
    let known = cluster.packets.iter().find_map(|packet| match witness(packet) {
        Some(WitnessMessage { from: OWN, witness: Witness::Return(claim), .. }) => Some(claim.note),
        _ => None,
    });
    let claim = known.expect("it asks");
    let Note { ballot, place, .. } = claim.note;
    let forged = Note { ballot: Ballot { incarnation: 9, ..ballot }, acting: true, ..claim.note };
    let keys = cluster.node(liar).keys();
    // Signed by the liar in the other's name; the other's own claim with another number under its signature; an older note.
    let mut stretched = claim;
    stretched.note.place.head.number += 10;
    let in_force = InForce { epoch: cluster.manifest.epoch, manifest: cluster.manifest.hash() };
    let own_ballot = Ballot { machine: 0, era: 0, incarnation: 0, nonce: Nonce([9; 32]) };
    let by = Note { member: liar, ballot: own_ballot, place, acting: true, ends: claim.note.ends };
    let by: SignedNote = keys.sign_note(dao, by);
    for lie in [keys.sign_note(dao, forged), stretched, claim] {
        let memories = vec![Memory { promised: lie, accepted: Some(lie) }];
        let witness = Witness::Known(Known { claim: claim.note, in_force, by, memories, adopted: vec![] });
        for witness in [witness, Witness::Refused(lie)] {
            let message = keys.sign_witness(dao, witness);
            let bytes = codec::encode(&PeerMessage::Witness(Box::new(message)));
            cluster.ask(OWN, Request::Deliver(bytes));
            assert!(matches!(cluster.standing(OWN), Standing::Returning { .. }), "not stale, and not let in");
        }
    }
    // In another's name, or from nobody.
    let noted = Noted { note: claim.note, in_force, by, later: Vec::new() };
    let message = keys.sign_witness(dao, Witness::Noted(noted));
    let posing = WitnessMessage { from: MemberId(1), ..message };
    let bytes = codec::encode(&PeerMessage::Witness(Box::new(posing)));
    assert_eq!(cluster.ask(OWN, Request::Deliver(bytes)), Reply::Rejected(Rejection::NotAuthentic));
    assert_eq!(status(&mut cluster, OWN).identity, Some(own));
    cluster.run(2);
    assert_eq!(cluster.standing(OWN), Standing::Acting);
}

/// Its host lets more wait than one record lets out, and what comes after that must not leave with it.
#[test]
fn what_comes_after_a_noted_place_does_not_leave_with_it() {
    let mut cluster = dao(3);
    for number in 100..500 {
        cluster.ask(OWN, Request::Observe(deposit_requested(number)));
    }
    let mut last = None;
    // One message about logs at a time; in between it is told of one more pool.
    for number in 600..640 {
        let about_own =
            |packet: &Packet| (packet.from == OWN || packet.to == OWN) && witness(packet).is_some();
        let Some(position) = cluster.packets.iter().position(about_own) else { break };
        let packet = cluster.packets.remove(position).expect("it is there");
        cluster.ask(packet.to, Request::Deliver(packet.bytes));
        if let Some((number, record)) = last {
            let keygen = cluster.node(OWN).core.keygen(pool(number)).expect("it began").terms().ceremony();
            let left = cluster.said.iter().any(|said| said.slot.ceremony == keygen && said.slot.from == OWN);
            let noted = cluster.nodes.iter().filter_map(|node| node.known_head(OWN)).max();
            assert!(!left || noted >= Some(record), "{number} left at {record}; noted {noted:?}");
        }
        if last.is_none_or(|(number, _)| {
            cluster.said.iter().any(|said| {
                Some(said.slot.ceremony)
                    == cluster.node(OWN).core.keygen(pool(number)).map(|keygen| keygen.terms().ceremony())
            })
        }) {
            cluster.ask(OWN, Request::Observe(deposit_requested(number)));
            last = Some((number, status(&mut cluster, OWN).head.number));
        }
    }
    assert!(last.is_some());
}
