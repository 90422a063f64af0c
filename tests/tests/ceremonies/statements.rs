//! A transcript holds the statements that count, as they were signed, and no others: whoever hands it on can't make it say
//! something else.

use postern_shared::codec;
use postern_shared::court::Conviction;
use postern_shared::dealing::{Commit, Confirm, Verdict};
use postern_shared::events::ChainEvent;
use postern_shared::fault::{Fault, Proof};
use postern_shared::identity::Roster;
use postern_shared::ids::{CeremonyId, Digest, MemberId};
use postern_shared::keygen::{KeygenProceedings, PartialDeposit};
use postern_shared::message::{Broadcast, Slot, Step};
use postern_shared::presign::{Acknowledge, PresignProceedings, Split};
use postern_shared::release::ReleaseProceedings;
use postern_shared::reshare::ReshareProceedings;
use postern_shared::transcript::{Claim, Proceedings, Transcript, TranscriptError};
use postern_tests::attack::{STEPS, deliver_through, ephemeral, proved};
use postern_tests::cluster::{Cluster, ceremony, deposit_requested, exit_requested, kind, manifest, pool};
use postern_tests::corruption::Corrupt;
use std::collections::BTreeSet;
use std::sync::LazyLock;

const CULPRIT: MemberId = MemberId(2);
const VICTIM: MemberId = MemberId(4);

fn beginning() -> Cluster {
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 7);
    cluster.run(0);
    cluster
}

/// The whole life of a pool of a DAO that does not need all its members: so some statements could be spared.
fn lived() -> Cluster {
    let mut cluster = beginning();
    cluster.observe(deposit_requested(1));
    cluster.run(0);
    let pubkey = cluster.pubkey(pool(1)).unwrap();
    cluster.observe(ChainEvent::ValidatorIndexed { pool: pool(1), pubkey, validator_index: 9 });
    cluster.run(0);
    cluster.observe(exit_requested(1));
    cluster.run(0);
    cluster
}

fn published(cluster: &Cluster) -> Vec<Transcript> {
    let transcripts: Vec<Transcript> = cluster.node(MemberId(1)).transcripts().cloned().collect();
    assert_eq!(transcripts.iter().map(kind).collect::<Vec<_>>(), ["keygen", "presign", "release"]);
    transcripts
}

/// A pool of which the culprit says something else to everybody. `attack` hears the others as well.
fn cheated(mut attack: impl FnMut(&Corrupt, &Broadcast) -> Vec<Broadcast>) -> Transcript {
    let mut cluster = beginning();
    let all = cluster.ids();
    let mut deliver = |cluster: &mut Cluster| {
        deliver_through(cluster, &all, |speaker, said, _| {
            let other = attack(speaker, said);
            if said.slot.from == CULPRIT { other } else { vec![said.clone()] }
        });
    };
    cluster.observe(deposit_requested(1));
    deliver(&mut cluster);
    if let Some(pubkey) = cluster.pubkey(pool(1)) {
        cluster.observe(ChainEvent::ValidatorIndexed { pool: pool(1), pubkey, validator_index: 9 });
        deliver(&mut cluster);
    }
    let mut faults = cluster.nodes.iter().flat_map(|node| node.transcripts());
    let found = faults.find(|transcript| transcript.record.fault().is_some()).expect("somebody is convicted");
    assert!(matches!(found.verify(), Ok(Claim::Cheated { culprit: CULPRIT, .. })));
    found.clone()
}

/// Of each ceremony, and of each kind of proof that somebody cheated, one.
static ALL: LazyLock<Vec<Transcript>> =
    LazyLock::new(|| published(&lived()).into_iter().chain(convictions()).collect());

fn convictions() -> Vec<Transcript> {
    let equivocation = cheated(|corrupt, said| match said.slot.step {
        Step::Commit => vec![said.clone(), corrupt.restate(said, &Commit { deal: Digest([1; 32]) })],
        _ => vec![said.clone()],
    });
    let broken = cheated(|corrupt, said| match said.slot.step {
        Step::Commit => vec![corrupt.restate(said, &Commit { deal: Digest([1; 32]) })],
        _ => vec![said.clone()],
    });
    let invalid = cheated(|corrupt, said| match said.slot.step {
        Step::Deal => vec![corrupt.restate(said, &0xffff_u16)],
        _ => vec![said.clone()],
    });
    let partial = cheated(|corrupt, said| match said.slot.step {
        Step::Confirm => {
            let mut confirm: Confirm = codec::decode(&said.body).unwrap();
            confirm.certificate = Digest([1; 32]);
            vec![corrupt.restate(said, &confirm)]
        }
        _ => vec![said.clone()],
    });
    let mut deal = None;
    let accusation = cheated(|corrupt, said| {
        if said.slot.from == VICTIM && said.slot.step == Step::Deal {
            deal = Some(said.signed_digest());
        }
        match (said.slot.from, said.slot.step, deal) {
            (CULPRIT, Step::Verdict, Some(deal)) => {
                let fault = Fault { culprit: VICTIM, proof: Proof::InvalidStatement(deal) };
                vec![corrupt.restate(said, &Verdict::Reject(fault))]
            }
            _ => vec![said.clone()],
        }
    });
    let share = cheated(|corrupt, said| match said.slot.step {
        Step::Split => {
            let mut split: Split = codec::decode(&said.body).unwrap();
            split.sealed.shares.swap(0, 3);
            let shares = split.sealed.shares.clone();
            let ephemeral = ephemeral(corrupt, said.slot);
            split.sealed = proved(corrupt, said.slot, &split.commitments, &ephemeral, shares);
            vec![corrupt.restate(said, &split)]
        }
        _ => vec![said.clone()],
    });
    let all = vec![equivocation, broken, invalid, partial, accusation, share];
    let names: Vec<String> = all.iter().map(|transcript| format!("{:?}", proof(transcript))).collect();
    let kinds: Vec<&str> = names.iter().map(|name| name.split(['(', ' ']).next().unwrap()).collect();
    let expected = [
        "Equivocation",
        "BrokenCommitment",
        "InvalidStatement",
        "InvalidPartial",
        "FalseAccusation",
        "BadShare",
    ];
    assert_eq!(kinds, expected);
    all
}

fn proof(transcript: &Transcript) -> Proof {
    transcript.record.fault().unwrap().proof
}

fn statements(transcript: &mut Transcript) -> &mut Vec<Broadcast> {
    match &mut transcript.record {
        Proceedings::Keygen(KeygenProceedings { statements, .. })
        | Proceedings::Presign(PresignProceedings { statements, .. })
        | Proceedings::Release(ReleaseProceedings { statements, .. })
        | Proceedings::KeygenFault(Conviction { statements, .. })
        | Proceedings::PresignFault(Conviction { statements, .. })
        | Proceedings::Reshare(ReshareProceedings { statements, .. })
        | Proceedings::ReshareFault(Conviction { statements, .. }) => statements,
    }
}

/// The same transcript with other statements.
fn with(transcript: &Transcript, change: impl FnOnce(&mut Vec<Broadcast>)) -> Transcript {
    let mut changed = transcript.clone();
    change(statements(&mut changed));
    changed
}

/// What is said of the same transcript with one statement more.
fn with_more(transcript: &Transcript, said: &Broadcast) -> Result<Claim, TranscriptError> {
    with(transcript, |statements| statements.push(said.clone())).verify()
}

#[test]
fn the_order_of_statements_says_nothing() {
    for transcript in ALL.iter() {
        let claim = transcript.verify();
        assert!(claim.is_ok());
        assert_eq!(with(transcript, |statements| statements.reverse()).verify(), claim);
        assert_eq!(with(transcript, |statements| statements.rotate_left(1)).verify(), claim);
        let mut changed = transcript.clone();
        changed.roster.reverse();
        assert_eq!(changed.verify(), claim);
    }
}

/// One bit of each byte of each statement, and all bits of the signature of one of each step.
#[test]
fn no_bit_of_a_statement_can_be_another() {
    for mut transcript in ALL.iter().cloned() {
        let all = statements(&mut transcript).clone();
        let mut steps = BTreeSet::new();
        for (place, statement) in all.iter().enumerate() {
            // The first is looked at first.
            statements(&mut transcript).swap(0, place);
            let good = codec::encode(statement);
            let signature = good.len() - 64;
            let first = steps.insert(statement.slot.step);
            let bits = (0..good.len() * 8)
                .filter(|bit| (bit / 8 >= signature && first) || bit % 8 == (bit / 8 + place) % 8);
            for bit in bits {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                // What is not even a statement is not a file either.
                let Ok(flipped) = codec::decode::<Broadcast>(&bytes) else { continue };
                statements(&mut transcript)[0] = flipped;
                let verified = transcript.verify();
                let what = (kind(&transcript), statement.slot.step, statement.slot.from, bit);
                assert!(verified.is_err(), "{what:?} can be flipped");
                statements(&mut transcript)[0] = statement.clone();
            }
        }
        assert!(transcript.verify().is_ok(), "all is as it was");
    }
}

#[test]
fn a_statement_more_is_refused() {
    let (cluster, mut second) = (lived(), lived());
    second.observe(deposit_requested(2));
    second.run(0);
    let transcripts = published(&cluster);
    let keygen_of_another_pool = second.nodes[0].transcripts().last().unwrap().clone();
    let speakers: Vec<Corrupt> = cluster.nodes.iter().map(Corrupt::of).collect();
    let larger = Cluster::launch(manifest(6, 3, 3), 7);
    let stranger = Corrupt::of(larger.node(MemberId(6)));
    for mut transcript in ALL.iter().cloned() {
        let (name, run) = (kind(&transcript), ceremony(&transcript));
        let all = statements(&mut transcript).clone();
        for said in &all {
            let Slot { from: member, step, .. } = said.slot;
            assert_eq!(with_more(&transcript, said), Err(TranscriptError::Twice { step, member }));
            // Something else in the same slot, well signed.
            let speaker = speakers.iter().find(|speaker| speaker.keys.identity().member == member).unwrap();
            let refused = with_more(&transcript, &speaker.restate(said, &0));
            let fault = transcript.record.fault().is_some();
            let error = if fault {
                TranscriptError::Unused { step, member }
            } else {
                TranscriptError::Twice { step, member }
            };
            assert_eq!(refused, Err(error), "{name}");
        }
        for mut other in transcripts.iter().cloned().chain([keygen_of_another_pool.clone()]) {
            if ceremony(&other) == run {
                continue;
            }
            for said in statements(&mut other).iter().step_by(3) {
                let Slot { from: member, step, .. } = said.slot;
                let refused = with_more(&transcript, said);
                assert_eq!(refused, Err(TranscriptError::OtherCeremony { step, member }), "{name}");
            }
        }
        let slot = |from, step, item| Slot { ceremony: run, from, step, item };
        for step in STEPS {
            let member = MemberId(6);
            let said = stranger.keys.sign(slot(member, step, 0), vec![0]);
            let refused = with_more(&transcript, &said);
            assert_eq!(refused, Err(TranscriptError::NotAParticipant { step, member }), "{name}");
            for speaker in [&speakers[0], &speakers[3]] {
                let member = speaker.keys.identity().member;
                for item in [0, 2, 6] {
                    let slot = slot(member, step, item);
                    if all.iter().any(|said| said.slot == slot) {
                        continue;
                    }
                    // What another has said there, but for an authorisation: that would be a good one.
                    let like = all.iter().find(|said| said.slot.step == step && step != Step::Authorise);
                    let body = like.map_or_else(|| vec![1], |said| said.body.clone());
                    let said = speaker.keys.sign(slot, body);
                    let refused = with_more(&transcript, &said);
                    let named = match refused {
                        Err(TranscriptError::Unused { step, member }) => (step, member),
                        // It is asked for, and does not count.
                        Err(TranscriptError::Invalid { step, member })
                            if item == 0 && matches!(step, Step::Deposit | Step::Authorise) =>
                        {
                            (step, member)
                        }
                        other => panic!("{name}: {slot:?}: {other:?}"),
                    };
                    assert_eq!(named, (step, member));
                }
            }
        }
    }
}

/// What is well signed and asked for, but about something else, makes the whole transcript say nothing: not less.
#[test]
fn a_statement_that_does_not_count_is_refused() {
    let cluster = lived();
    let transcripts = published(&cluster);
    let speaker = |said: &Broadcast| Corrupt::of(cluster.node(said.slot.from));
    let restated = |step, said: &Broadcast| match step {
        Step::Acknowledge => speaker(said).restate(said, &Acknowledge::Good(Digest([1; 32]))),
        Step::Authorise => speaker(said).keys.sign(said.slot, vec![1]),
        _ => {
            let PartialDeposit { mut partial } = codec::decode(&said.body).unwrap();
            partial.0[95] ^= 1;
            speaker(said).restate(said, &PartialDeposit { partial })
        }
    };
    for (mut transcript, step) in
        transcripts.into_iter().zip([Step::Deposit, Step::Acknowledge, Step::Authorise])
    {
        let all = statements(&mut transcript).clone();
        for (place, said) in all.iter().enumerate().filter(|(_, said)| said.slot.step == step) {
            let other = with(&transcript, |statements| statements[place] = restated(step, said));
            let member = said.slot.from;
            assert_eq!(other.verify(), Err(TranscriptError::Invalid { step, member }));
            if step == Step::Acknowledge {
                // Of a guardian all that it acknowledges, or nothing.
                let without = with(&transcript, |statements| drop(statements.remove(place)));
                assert_eq!(without.verify(), Err(TranscriptError::Unused { step, member }));
            }
        }
        // A guardian or depositor that is not needed may be left out: then less is proved.
        let spared = with(&transcript, |statements| {
            statements.retain(|said| said.slot.step != step || said.slot.from != MemberId(1));
        });
        let needed = all.iter().filter(|said| said.slot.step == step).map(|said| said.slot.from);
        let needed = needed.collect::<BTreeSet<_>>().len() == 3;
        assert_eq!(spared.verify().is_err(), needed, "{}", kind(&spared));
    }
}

#[test]
fn who_does_not_take_part_is_not_in_the_roster() {
    for transcript in ALL.iter() {
        let mut twice = transcript.clone();
        twice.roster.push(transcript.roster[2].clone());
        assert_eq!(twice.verify(), Err(TranscriptError::AttestedTwice { member: MemberId(3) }));
        // Of another enclave, which would be that of a roster if it came first.
        let mut other = transcript.clone();
        let mut another = transcript.roster[2].clone();
        another.identity.machine += 1;
        other.roster.push(another);
        assert_eq!(other.verify(), Err(TranscriptError::AttestedTwice { member: MemberId(3) }));
    }
    let presign = &ALL[1];
    let Proceedings::Presign(record) = &presign.record else { panic!("a presign") };
    let mut terms = record.terms.clone();
    let roster = Roster::new(presign.roster.iter().map(|attested| attested.identity).collect());
    assert_eq!(terms.roster, roster.digest());
    // All five are in the roster that these name, and four take part.
    terms.operators.pop();
    terms.guardians.pop();
    let record = Proceedings::Presign(PresignProceedings { terms, ..record.clone() });
    let refused = Transcript { record, ..presign.clone() }.verify();
    assert_eq!(refused, Err(TranscriptError::Terms { what: "participants" }));
}

/// A guardian that acknowledges some splits only, or authorises in other words, leaves nothing in what honest enclaves publish.
#[test]
fn enclaves_publish_what_counts_and_nothing_else() {
    let mut cluster = beginning();
    cluster.observe(deposit_requested(1));
    cluster.run(0);
    let pubkey = cluster.pubkey(pool(1)).unwrap();
    cluster.observe(ChainEvent::ValidatorIndexed { pool: pool(1), pubkey, validator_index: 9 });
    let attack = |corrupt: &Corrupt, said: &Broadcast, _| {
        vec![match said.slot.step {
            // Two splits are left that it holds, and three sign together.
            Step::Acknowledge if matches!(said.slot.item, 1 | 4 | 5) => {
                corrupt.restate(said, &Acknowledge::Good(Digest([1; 32])))
            }
            Step::Authorise => corrupt.keys.sign(said.slot, vec![1]),
            _ => said.clone(),
        }]
    };
    deliver_through(&mut cluster, &[CULPRIT], attack);
    cluster.run(1);
    cluster.observe(exit_requested(1));
    deliver_through(&mut cluster, &[CULPRIT], attack);
    cluster.run(1);
    let honest = cluster.nodes.iter().filter(|node| node.id != CULPRIT);
    let mut runs: BTreeSet<(&str, CeremonyId)> = BTreeSet::new();
    for mut transcript in honest.flat_map(|node| node.transcripts()).cloned() {
        transcript.verify().unwrap_or_else(|error| panic!("{}: {error}", kind(&transcript)));
        runs.insert((kind(&transcript), ceremony(&transcript)));
        if kind(&transcript) == "presign" {
            let spoke = |said: &Broadcast| said.slot.from == CULPRIT && said.slot.step == Step::Acknowledge;
            assert!(!statements(&mut transcript).iter().any(spoke));
        }
    }
    assert_eq!(runs.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["keygen", "presign", "release"]);
}
