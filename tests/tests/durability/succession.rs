//! How an enclave ends: newer code takes its state over, or the DAO gives its machine up. There are never two owners.

use postern_shared::agreement::Subject;
use postern_shared::codec;
use postern_shared::epoch::SignedEpoch;
use postern_shared::ids::{ChipId, Measurement, MemberId, Nonce};
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, Challenge, Envelope, PeerMessage, Step};
use postern_shared::policy::AllowedMeasurement;
use postern_shared::record::{RecordKind, SealedError};
use postern_shared::wire::{Rejection, Reply, Request, Response, StaleKind, Standing};
use postern_simulation::Machine;
use postern_tests::cluster::{self, Cluster, deposit_requested, exit_requested, manifest, pool};
use postern_tests::wallets::{next, signed};

const OWN: MemberId = MemberId(2);
const NEWER: [u8; 48] = [0x5b; 48];

/// A DAO of three whose manifest lists newer code from epoch 2 on, which all know.
fn dao() -> (Cluster, Manifest) {
    dao_of(manifest(3, 2, 2))
}

fn dao_of(genesis: Manifest) -> (Cluster, Manifest) {
    let mut cluster = Cluster::launch(genesis, 11);
    cluster.run(1);
    let second = next(&cluster.manifest, |manifest| {
        let newer = AllowedMeasurement {
            name: "newer".into(),
            digest: Measurement(NEWER),
            from_epoch: 2,
            until_epoch: None,
        };
        manifest.attestation.measurements.push(newer);
    });
    cluster.amend(&second);
    (cluster, second)
}

/// The enclave that is to take over, and what its host asks it.
struct Heir {
    node: cluster::Heir,
}

impl Heir {
    fn launch(cluster: &Cluster, measurement: [u8; 48], launch: u64) -> Self {
        let machine = Machine { measurement, launch, ..cluster.node(OWN).machine };
        Self { node: cluster::Heir::launch(machine, launch) }
    }

    fn ask(&mut self, request: Request) -> Response {
        self.node.core.handle(request)
    }

    fn reply(&mut self, request: Request) -> Reply {
        self.ask(request).reply
    }

    /// Up to its question to the enclave that it is to replace.
    fn succeed(&mut self, cluster: &Cluster, epochs: &[SignedEpoch]) -> Result<Challenge, Rejection> {
        let succeed = Request::Succeed {
            manifest: cluster.genesis.to_canonical(),
            epochs: epochs.to_vec(),
            member: OWN,
            certificates: self.node.certificates(),
        };
        let Reply::Challenge(challenge) = accepted(self.reply(succeed))? else { panic!("no challenge") };
        Ok(challenge)
    }

    /// Up to its proof to the enclave that it is to replace.
    fn meet(&mut self, cluster: &mut Cluster) -> Result<Box<Attestation>, Rejection> {
        let epochs = cluster.epochs.clone();
        self.meet_knowing(cluster, &epochs)
    }

    /// The same, if its host gives it these epochs only.
    fn meet_knowing(
        &mut self,
        cluster: &mut Cluster,
        epochs: &[SignedEpoch],
    ) -> Result<Box<Attestation>, Rejection> {
        let challenge = self.succeed(cluster, epochs)?;
        let introduction = accepted(cluster.ask(OWN, Request::Introduce(challenge)))?;
        let Reply::Introduction(introduction) = introduction else { panic!("no introduction") };
        match accepted(self.reply(Request::Meet(introduction)))? {
            Reply::Attestation(proof) => Ok(proof),
            other => panic!("no proof: {other:?}"),
        }
    }

    /// From what was handed over to a state that waits for its peers.
    fn take_over(&mut self, envelope: Envelope, records: &[postern_shared::record::SealedRecord]) -> Reply {
        for request in [Request::TakeOver(envelope), Request::Records(records.to_vec())] {
            let reply = self.reply(request);
            if reply != Reply::Done {
                return reply;
            }
        }
        self.reply(Request::Restored)
    }
}

fn accepted(reply: Reply) -> Result<Reply, Rejection> {
    match reply {
        Reply::Rejected(rejection) => Err(rejection),
        reply => Ok(reply),
    }
}

/// A key is made and its exit split; then member 2's enclave has handed over to newer code, which has not begun yet.
fn handed_over() -> (Cluster, Heir, Envelope) {
    let (mut cluster, _) = dao();
    cluster.observe(deposit_requested(1));
    cluster.run(1);
    cluster.index(pool(1));
    cluster.run(2);
    let mut heir = Heir::launch(&cluster, NEWER, 7);
    let proof = heir.meet(&mut cluster).expect("they meet");
    assert_eq!(cluster.ask(OWN, Request::HandOver(proof)), Reply::Done);
    assert_eq!(cluster.standing(OWN), Standing::HandedOver);
    assert_eq!(cluster.node(OWN).handed_over, None, "nothing leaves before the others remember the end");
    cluster.run(0);
    let envelope = cluster.node(OWN).handed_over.clone().expect("the key to the log");
    (cluster, heir, envelope)
}

/// What of the log is for the successor: it can't read another build's changes.
fn bequest(cluster: &Cluster) -> Vec<postern_shared::record::SealedRecord> {
    cluster.kept(OWN)
}

#[test]
fn newer_code_goes_on_where_the_old_has_ended() {
    let (mut cluster, mut heir, envelope) = handed_over();
    let identity = *cluster.node(OWN).keys().identity();
    let records = bequest(&cluster);
    assert_eq!(heir.take_over(envelope, &records), Reply::Done);
    let old = cluster.adopt(OWN, heir.node);
    cluster.run(2);
    assert_eq!(cluster.standing(OWN), Standing::Acting);
    assert_eq!(*cluster.node(OWN).keys().identity(), identity);
    // It has what the old one had: its share of the exit, and with member 3 cut off it must give it.
    for id in [MemberId(1), OWN] {
        cluster.ask(id, exit(1));
    }
    cluster.packets.retain(|packet| packet.from != MemberId(3) && packet.to != MemberId(3));
    cluster.run(12);
    assert_eq!(cluster.exits(pool(1)).len(), 1);
    // The old one answers for nothing any more.
    let mut old = old;
    for request in
        [exit(1), Request::Tick, Request::Observe(deposit(2)), Request::GiveUp(Subject::Key(pool(1)))]
    {
        let Response { reply, outputs, .. } = old.handle(request.clone());
        let refused = reply == Reply::Rejected(Rejection::HandedOver) || request == Request::Tick;
        assert!(refused, "{request:?}: {reply:?}");
        assert!(outputs.iter().all(|numbered| !says_something(&numbered.output)), "{request:?}");
    }
}

fn exit(pool: u32) -> Request {
    Request::Observe(exit_requested(pool))
}

fn deposit(pool: u32) -> postern_shared::events::ChainEvent {
    deposit_requested(pool)
}

fn says_something(output: &postern_shared::wire::Output) -> bool {
    use postern_shared::wire::Output;
    match output {
        Output::Send { message, .. } => {
            matches!(codec::decode(message), Ok(PeerMessage::Broadcast(_) | PeerMessage::Envelope(_)))
        }
        Output::Publish(_) => true,
        _ => false,
    }
}

#[test]
fn the_old_enclave_restored_from_any_record_is_old() {
    let (mut cluster, mut heir, envelope) = handed_over();
    let before = cluster.node(OWN).records.clone();
    assert_eq!(heir.take_over(envelope, &bequest(&cluster)), Reply::Done);
    let old_slot = cluster.node(OWN).slot.clone();
    cluster.adopt(OWN, heir.node);
    cluster.run(2);
    assert_eq!(cluster.standing(OWN), Standing::Acting);
    let newer = cluster.node(OWN).machine;
    // The host keeps the old image and the old slot, and starts it again.
    let machine = Machine { measurement: cluster::MEASUREMENT, launch: 20, ..newer };
    for (launch, end) in [(20, before.len()), (21, before.len() - 3), (22, before.len() / 2)] {
        cluster.node_mut(OWN).machine = Machine { launch, ..machine };
        cluster.node_mut(OWN).slot = old_slot.clone();
        assert_eq!(cluster.restore(OWN, launch, &before[..end]), Reply::Done);
        cluster.run(2);
        let found = cluster.standing(OWN);
        let Standing::Stale(stale) = found else { panic!("it does not know that it is old: {found:?}") };
        assert!(matches!(stale.kind, StaleKind::RolledBack | StaleKind::Superseded), "{stale:?}");
        assert_eq!(cluster.ask(OWN, exit(1)), Reply::Rejected(Rejection::Stale));
    }
}

#[test]
fn an_interrupted_hand_over_is_repeated() {
    let (mut cluster, heir, envelope) = handed_over();
    // The successor is lost before it has begun; its keys were only for this.
    drop((heir, envelope));
    let mut heir = Heir::launch(&cluster, NEWER, 8);
    let proof = heir.meet(&mut cluster).expect("they meet");
    assert_eq!(cluster.ask(OWN, Request::HandOver(proof)), Reply::Done);
    cluster.run(1);
    // Or the old one is, and is restored: it can do nothing but hand over again.
    cluster.crash(OWN, 9);
    cluster.run(2);
    assert_eq!(cluster.ask(OWN, exit(1)), Reply::Rejected(Rejection::HandedOver));
    let mut heir = Heir::launch(&cluster, NEWER, 10);
    let proof = heir.meet(&mut cluster).expect("they meet");
    cluster.node_mut(OWN).handed_over = None;
    assert_eq!(cluster.ask(OWN, Request::HandOver(proof)), Reply::Done);
    cluster.run(1);
    let envelope = cluster.node(OWN).handed_over.clone().expect("the key to the log");
    assert_eq!(heir.take_over(envelope, &bequest(&cluster)), Reply::Done);
    cluster.adopt(OWN, heir.node);
    cluster.run(2);
    assert_eq!(cluster.standing(OWN), Standing::Acting);
}

#[test]
fn a_hand_over_answers_only_questions_that_their_askers_have_signed() {
    let (mut cluster, _) = dao();
    let mut heir = Heir::launch(&cluster, NEWER, 7);
    let challenge = heir.succeed(&cluster, &cluster.epochs).expect("a question");
    let not_authentic = Reply::Rejected(Rejection::NotAuthentic);
    let altered = Challenge { nonce: Nonce([1; 32]), ..challenge };
    assert_eq!(cluster.ask(OWN, Request::Introduce(altered)), not_authentic);
    let Reply::Introduction(introduction) = cluster.ask(OWN, Request::Introduce(challenge)) else {
        panic!("no introduction")
    };
    let mut altered = introduction.clone();
    altered.challenge.nonce = Nonce([1; 32]);
    assert_eq!(heir.reply(Request::Meet(altered)), not_authentic);
    assert!(matches!(heir.reply(Request::Meet(introduction)), Reply::Attestation(_)));
}

/// Firmware whose reports are of a later version than old code knows must not keep that from handing over to new code: the
/// same processor signs for both.
#[test]
fn newer_code_takes_over_on_firmware_that_older_code_does_not_know() {
    let (mut cluster, _) = dao();
    // Firmware may be replaced under a running guest.
    cluster.node_mut(OWN).machine.report_version = 6;
    let mut heir = Heir::launch(&cluster, NEWER, 7);
    let proof = heir.meet(&mut cluster).expect("they meet");
    assert_eq!(cluster.ask(OWN, Request::HandOver(proof)), Reply::Done);
    // Another processor of the member's is not the one that the old code runs on, and is judged like anybody's.
    let spare = Machine { chip_seed: [0x99; 32], ..Machine::default() };
    let mut genesis = manifest(3, 2, 2);
    genesis.members[1].chip_ids.push(ChipId(spare.chip_id()));
    let (mut cluster, _) = dao_of(genesis);
    for (version, expected) in [(6, Reply::Rejected(Rejection::Evidence)), (5, Reply::Done)] {
        let machine = cluster.node(OWN).machine;
        let machine =
            Machine { chip_seed: spare.chip_seed, report_version: version, measurement: NEWER, ..machine };
        let mut heir = Heir { node: cluster::Heir::launch(machine, 7) };
        let proof = heir.meet(&mut cluster).expect("it accepts the one that it replaces");
        assert_eq!(cluster.ask(OWN, Request::HandOver(proof)), expected, "version {version}");
    }
}

#[test]
fn older_unlisted_and_strange_code_gets_nothing() {
    let (mut cluster, _) = dao();
    // As old as the enclave itself.
    let mut twin = Heir::launch(&cluster, cluster::MEASUREMENT, 7);
    let refused = twin.meet(&mut cluster).map(|_| ());
    assert_eq!(refused, Err(Rejection::NoUpgrade));
    // Listed only in an epoch that it does not know, or nowhere.
    let founding = cluster.epochs[..1].to_vec();
    let mut early = Heir::launch(&cluster, NEWER, 8);
    assert_eq!(early.meet_knowing(&mut cluster, &founding).map(|_| ()), Err(Rejection::OwnEvidence));
    let mut strange = Heir::launch(&cluster, [0x77; 48], 9);
    assert_eq!(strange.meet(&mut cluster).map(|_| ()), Err(Rejection::OwnEvidence));
    // On a chip that is not the member's.
    let mut elsewhere = Heir::launch(&cluster, NEWER, 10);
    elsewhere.node = cluster::Heir::launch(
        Machine { chip_seed: [0x99; 32], measurement: NEWER, ..cluster.node(OWN).machine },
        10,
    );
    assert_eq!(elsewhere.meet(&mut cluster).map(|_| ()), Err(Rejection::OwnEvidence));
    // A proof for another question.
    let mut heir = Heir::launch(&cluster, NEWER, 11);
    let proof = heir.meet(&mut cluster).expect("they meet");
    let mut other = Heir::launch(&cluster, NEWER, 12);
    other.meet(&mut cluster).expect("they meet");
    assert_eq!(cluster.ask(OWN, Request::HandOver(proof)), Reply::Rejected(Rejection::StaleEvidence));
    assert_eq!(cluster.standing(OWN), Standing::Acting, "nothing has happened");
    // Newer code does not go back to older.
    let (mut cluster, mut heir, envelope) = handed_over();
    assert_eq!(heir.take_over(envelope, &bequest(&cluster)), Reply::Done);
    cluster.adopt(OWN, heir.node);
    cluster.run(2);
    let mut older = Heir::launch(&cluster, cluster::MEASUREMENT, 13);
    let refused = older.meet(&mut cluster).map(|_| ());
    assert_eq!(refused, Err(Rejection::NoUpgrade), "downgrade");
}

#[test]
fn what_is_handed_over_opens_only_whole_and_for_one() {
    let (cluster, mut heir, envelope) = handed_over();
    let records = bequest(&cluster);
    // Another successor, though it has met nobody or the same enclave.
    let mut other = Heir::launch(&cluster, NEWER, 30);
    assert_eq!(other.reply(Request::TakeOver(envelope.clone())), Reply::Rejected(Rejection::NoSuccession));
    let mut altered = envelope.clone();
    altered.ciphertext[0] ^= 1;
    assert_eq!(heir.reply(Request::TakeOver(altered)), Reply::Rejected(Rejection::NotAuthentic));
    // Records that end earlier: an earlier snapshot would do for a rollback.
    let end = records.len() - 1;
    assert!(matches!(records[end].header.kind, RecordKind::Snapshot { .. }));
    let refused = heir.take_over(envelope.clone(), &records[..end]);
    assert!(
        matches!(
            refused,
            Reply::Rejected(Rejection::Sealed(SealedError::HandedOverAt { .. } | SealedError::Incomplete))
        ),
        "{refused:?}"
    );
}

#[test]
fn changes_of_another_build_are_not_read() {
    let (cluster, mut heir, envelope) = handed_over();
    let whole = cluster.node(OWN).records.clone();
    let incomplete = Reply::Rejected(Rejection::Sealed(SealedError::Incomplete));
    assert_eq!(heir.take_over(envelope, &whole), incomplete);
}

#[test]
fn an_epoch_counts_only_with_a_quorum_and_in_its_turn() {
    let (mut cluster, second) = dao();
    let third = next(&second, |manifest| manifest.name = "renamed".into());
    let one = signed(&second, &third, [MemberId(1)]);
    assert_eq!(cluster.ask(OWN, Request::Amend(one)), Reply::Rejected(Rejection::InvalidEpoch));
    let mut forged = signed(&second, &third, [MemberId(1), MemberId(3)]);
    forged.signatures[0].member = MemberId(2);
    assert_eq!(cluster.ask(OWN, Request::Amend(forged)), Reply::Rejected(Rejection::InvalidEpoch));
    let fourth = next(&third, |manifest| manifest.name = "again".into());
    let early = signed(&third, &fourth, [MemberId(1), MemberId(3)]);
    assert_eq!(cluster.ask(OWN, Request::Amend(early.clone())), Reply::Rejected(Rejection::Behind(4)));
    let good = signed(&second, &third, [MemberId(1), MemberId(3)]);
    for epoch in [good.clone(), early, good] {
        for id in cluster.ids() {
            assert_eq!(cluster.ask(id, Request::Amend(epoch.clone())), Reply::Done, "and again is harmless");
        }
        cluster.run(1);
    }
    // It survives, like everything.
    cluster.crash(OWN, 5);
    assert_eq!(cluster.newest_manifest(OWN).name, "again");
}

#[test]
fn a_lost_machine_is_replaced_and_its_enclave_is_dead_for_good() {
    let (mut cluster, second) = dao();
    cluster.observe(deposit_requested(1));
    cluster.run(1);
    let old = *cluster.node(OWN).keys().identity();
    let (records, slot) = (cluster.node(OWN).records.clone(), cluster.node(OWN).slot.clone());
    // A fresh enclave is not let in as long as the DAO counts on the old one, however well it is measured.
    cluster.launch_anew(OWN, 40);
    cluster.run(1);
    assert_eq!(cluster.standing(OWN), Standing::Candidate);
    let admitted = |cluster: &mut Cluster| match cluster.ask(MemberId(1), Request::Status) {
        Reply::Status(status) => status.admitted,
        other => panic!("no status: {other:?}"),
    };
    let known = cluster.node(MemberId(1)).core.enclave(OWN).copied();
    assert_eq!(known, Some(old), "the old one is the member");
    let third = cluster.replacement(OWN);
    cluster.sign(&third);
    let epoch = signed(&second, &third, [MemberId(1), MemberId(3)]);
    for id in [MemberId(1), MemberId(3)] {
        assert_eq!(cluster.ask(id, Request::Amend(epoch.clone())), Reply::Done);
    }
    cluster.run(1);
    assert_eq!(admitted(&mut cluster), [MemberId(1), MemberId(3)]);
    // Another candidate than the one that the DAO has named is nobody.
    let named = cluster.node(OWN).records.clone();
    let named_slot = cluster.node(OWN).slot.clone();
    cluster.launch_anew(OWN, 41);
    cluster.run(2);
    assert_eq!(cluster.standing(OWN), Standing::Candidate);
    cluster.node_mut(OWN).slot = named_slot;
    assert_eq!(cluster.restore(OWN, 43, &named), Reply::Done);
    assert_eq!(cluster.ask(OWN, Request::Amend(epoch)), Reply::Done);
    cluster.run(3);
    assert_eq!(cluster.standing(OWN), Standing::Acting);
    let new = cluster.manifest.identity(OWN).expect("it is named");
    assert_ne!(new, old);
    assert_eq!(cluster.node(MemberId(1)).core.enclave(OWN), Some(&new));
    // The DAO goes on with it: new keys, and exits of old ones by those that have shares.
    cluster.observe(deposit_requested(2));
    cluster.run(2);
    assert!(cluster.pubkey(pool(2)).is_some());
    // The old one learns of it, and does nothing; and whoever has not heard of it is not let in.
    cluster.node_mut(OWN).slot = slot;
    assert_eq!(cluster.restore(OWN, 42, &records), Reply::Done);
    cluster.run(1);
    assert_ne!(cluster.standing(OWN), Standing::Acting);
    assert_eq!(cluster.node(MemberId(1)).core.enclave(OWN), Some(&new));
    let epoch = signed(&second, &third, [MemberId(1), MemberId(3)]);
    assert_eq!(cluster.ask(OWN, Request::Amend(epoch)), Reply::Done);
    // Its host has what the others have decided, and hands it in.
    let all: Vec<_> = cluster.said.iter().filter(|said| said.slot.step == Step::Decide).cloned().collect();
    for said in all {
        cluster.ask(OWN, Request::Deliver(codec::encode(&PeerMessage::Broadcast(said))));
    }
    assert_eq!(cluster.standing(OWN), Standing::Replaced);
    assert_eq!(cluster.ask(OWN, exit(1)), Reply::Rejected(Rejection::Replaced));
}
