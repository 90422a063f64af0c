//! Code that the DAO has retired: it is dealt nothing more, and gets nothing of what its successor writes.

use postern_shared::codec;
use postern_shared::ids::{Measurement, MemberId};
use postern_shared::manifest::Manifest;
use postern_shared::message::PeerMessage;
use postern_shared::policy::AllowedMeasurement;
use postern_shared::record::SealedError;
use postern_shared::wire::{Rejection, Reply, Request, Standing};
use postern_simulation::Machine;
use postern_tests::cluster::{Cluster, Heir, Packet, deposit_requested, manifest, pool, pubkey};
use postern_tests::wallets::next;

const OWN: MemberId = MemberId(2);
const NEWER: [u8; 48] = [0x6b; 48];

fn list_newer(manifest: &mut Manifest) {
    manifest.attestation.measurements.push(AllowedMeasurement {
        name: "newer".into(),
        digest: Measurement(NEWER),
        from_epoch: manifest.epoch,
        until_epoch: None,
    });
}

fn is_evidence(packet: &Packet) -> bool {
    matches!(codec::decode(&packet.bytes), Ok(PeerMessage::Evidence(_)))
}

#[test]
fn whoever_keeps_silent_when_its_code_is_retired_is_cut_off() {
    for members in [3, 5, 7] {
        let mut cluster = Cluster::launch(manifest(members, 2, 2), 56);
        cluster.run(1);
        let retired = next(&cluster.manifest, |next| {
            next.attestation.measurements[0].until_epoch = Some(next.epoch - 1);
            list_newer(next);
        });
        cluster.amend(&retired);
        cluster.observe(deposit_requested(1));
        // Nobody shows evidence any more.
        cluster.carry(3, |packet| !is_evidence(packet));
        assert_eq!(cluster.pubkey(pool(1)), None, "nothing is dealt to retired code");
        for id in cluster.ids() {
            let Reply::Status(status) = cluster.ask(id, Request::Status) else { panic!("no status") };
            assert_eq!(status.admitted, [id]);
            assert_eq!(status.refused.len(), usize::from(members) - 1);
            assert!(status.refused.iter().all(|refused| refused.cut_off));
        }
    }
}

#[test]
fn stricter_rules_cut_off_those_who_do_not_satisfy_them_and_nobody_else() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 57);
    cluster.run(1);
    let elsewhere = next(&cluster.manifest, |next| {
        next.members[1].chip_ids = vec![postern_shared::ids::ChipId([0x77; 64])];
    });
    cluster.amend(&elsewhere);
    let Reply::Status(status) = cluster.ask(MemberId(1), Request::Status) else { panic!("no status") };
    assert_eq!(status.admitted, [MemberId(1), MemberId(3)]);
    // And in a state that is restored, from changes or from a snapshot.
    cluster.crash(MemberId(1), 5);
    let Reply::Status(status) = cluster.ask(MemberId(1), Request::Status) else { panic!("no status") };
    assert_eq!(status.admitted, [MemberId(1), MemberId(3)]);
}

/// The old build on the same chip, with its own slot of then, and all records, the successor's among them.
#[test]
fn old_code_does_not_go_on_with_its_successors_log() {
    for snapshots_after in [None, Some(1)] {
        let mut cluster = Cluster::launch_with(manifest(3, 2, 2), 11, snapshots_after);
        cluster.run(1);
        let second = next(&cluster.manifest, list_newer);
        cluster.amend(&second);
        cluster.observe(deposit_requested(1));
        cluster.run(2);
        cluster.index(pool(1));
        cluster.run(2);
        let old_machine = cluster.node(OWN).machine;
        let old_slot = Box::new(cluster.node(OWN).slot.clone().expect("a slot"));
        let old_certificates = cluster.node(OWN).certificates();
        let machine = Machine { measurement: NEWER, launch: 7, ..old_machine };
        let mut heir = Heir::launch(machine, 7);
        let succeed = Request::Succeed {
            manifest: cluster.genesis.to_canonical(),
            epochs: cluster.epochs.clone(),
            member: OWN,
            certificates: heir.certificates(),
        };
        let Reply::Challenge(challenge) = heir.core.handle(succeed).reply else { panic!("no challenge") };
        let Reply::Introduction(introduction) = cluster.ask(OWN, Request::Introduce(challenge)) else {
            panic!("no introduction")
        };
        let Reply::Attestation(proof) = heir.core.handle(Request::Meet(introduction)).reply else {
            panic!("no proof")
        };
        assert_eq!(cluster.ask(OWN, Request::HandOver(proof)), Reply::Done);
        cluster.run(0);
        let envelope = cluster.node(OWN).handed_over.clone().expect("the keys to the log");
        let before = cluster.node(OWN).records.len();
        let records = cluster.kept(OWN);
        for request in [Request::TakeOver(envelope), Request::Records(records), Request::Restored] {
            assert_eq!(heir.core.handle(request).reply, Reply::Done);
        }
        cluster.adopt(OWN, heir);
        cluster.run(3);
        assert_eq!(cluster.standing(OWN), Standing::Acting);
        cluster.observe(deposit_requested(2));
        cluster.run(2);
        let all = cluster.node(OWN).records.clone();
        let new_slot = cluster.node(OWN).slot.clone().expect("a slot");
        assert_ne!(new_slot.header.log, old_slot.header.log, "its log is another");
        assert!(all[before..].iter().all(|record| record.header.log == new_slot.header.log));
        assert_eq!(
            all[before].header.previous,
            all[before - 1].head().digest,
            "and goes on behind the old one"
        );
        // The old build reads nothing of it.
        let mut old = Heir::launch(Machine { launch: 8, ..old_machine }, 8);
        let restore = |slot| Request::Restore { slot, certificates: old_certificates.clone() };
        assert_eq!(old.core.handle(restore(old_slot.clone())).reply, Reply::Done);
        let refused = old.core.handle(Request::Records(all)).reply;
        assert!(
            matches!(refused, Reply::Rejected(Rejection::Sealed(SealedError::OtherLog { .. }))),
            "{refused:?}"
        );
        let refused = old.core.handle(restore(Box::new(new_slot))).reply;
        assert!(matches!(refused, Reply::Rejected(Rejection::Sealed(_))), "{refused:?}");
        // The successor is restored from its own log, with what was settled before it.
        let kept = cluster.kept(OWN);
        let own_log = cluster.node(OWN).slot.as_ref().map(|slot| slot.header.log);
        let vault = postern_shared::record::RecordKind::Vault;
        let kept: Vec<_> = kept
            .into_iter()
            .filter(|record| Some(record.header.log) == own_log || record.header.kind == vault)
            .collect();
        assert_eq!(cluster.restore(OWN, 9, &kept), Reply::Done);
        cluster.run(3);
        assert_eq!(cluster.standing(OWN), Standing::Acting);
        assert!(pubkey(cluster.node(OWN), pool(1)).is_some());
    }
}
