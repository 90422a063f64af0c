//! Other members' hosts, and what the own enclave lacks of theirs.

use super::attendance::Attendance;
use super::{DaemonError, RETRY, Shared, exits, released};
use crate::attest;
use crate::network::{Answer, Incoming, Question};
use crate::store::{Store, StoreError};
use futures::StreamExt;
use postern_shared::codec;
use postern_shared::ids::MemberId;
use postern_shared::manifest::MAX_MEMBERS;
use postern_shared::message::{Broadcast, PeerMessage, Slot};
use postern_shared::proof::{ProofRequest, Provable};
use postern_shared::wire::{Rejection, Reply, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages handed to the enclave with one wait for the disk. Bounds what is held in memory, and how long others wait.
const MAX_TOGETHER: usize = 32;

/// Missing statements looked for after one tick, and how many at a time.
const MAX_LOOKUPS: usize = 64;
const LOOKUPS_AT_ONCE: usize = 8;

/// Members asked for one missing statement after one tick, beside its speaker. Others' turn comes at the next ticks.
const ASKED: usize = 2;

/// Longest time for all lookups after one tick: a peer that does not answer must not keep the ticker waiting.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);

/// Most statements that a speaker makes at one step: one about each member.
const MAX_STATEMENTS: usize = MAX_MEMBERS;

/// Most bytes of statements that are taken from all answers after one tick.
const MAX_FOUND: usize = 16 << 20;

/// Answers questions until the network ends: those that wait at a time together.
pub(super) async fn answer(shared: Arc<Shared>, mut questions: mpsc::Receiver<Incoming>) -> DaemonError {
    let mut waiting = Vec::with_capacity(MAX_TOGETHER);
    while questions.recv_many(&mut waiting, MAX_TOGETHER).await > 0 {
        let (mut messages, mut askers) = (Vec::new(), Vec::new());
        let (mut proofs, mut provers) = (Vec::new(), Vec::new());
        for Incoming { from, question, answer } in waiting.drain(..) {
            match question {
                Question::Deliver(message) => match check_sender(from, &message) {
                    Ok(()) => {
                        messages.push(message);
                        askers.push((from, answer));
                    }
                    Err(rejection) => {
                        tracing::debug!(%from, %rejection, "a message is not handed on");
                        drop(answer.send(Answer::Rejected(rejection)));
                    }
                },
                Question::FetchRecords { ceremony, step, speaker } => {
                    match shared.store.records(ceremony, step, speaker) {
                        // The asker may have gone; it asks again.
                        Ok(records) => drop(answer.send(Answer::records(records))),
                        Err(error) => return error.into(),
                    }
                }
                Question::Prove(asked) => match may_prove(&shared.store, &asked) {
                    Ok(true) => {
                        proofs.push(Request::Prove(asked));
                        provers.push(answer);
                    }
                    Ok(false) => drop(answer.send(Answer::Rejected(Rejection::NothingToProve))),
                    Err(error) => return error.into(),
                },
                Question::Exits(exits) => shared.offers.hand_on(from, exits, answer),
                Question::FetchExits(pools) => match released::known(&shared.store, &pools) {
                    Ok(exits) => drop(answer.send(Answer::Exits(exits))),
                    Err(error) => return error.into(),
                },
            }
        }
        let answers = match deliver(&shared, messages).await {
            Ok(answers) => answers,
            Err(error) => return error,
        };
        for ((from, asker), answer) in askers.into_iter().zip(answers) {
            tracing::trace!(%from, ?answer, "delivered");
            drop(asker.send(answer));
        }
        // After what ceremonies wait for.
        for (prover, answer) in provers.into_iter().zip(prove(&shared, &proofs).await) {
            drop(prover.send(answer));
        }
    }
    DaemonError::Task("the network has ended".to_owned())
}

/// Whether the enclave may be asked: what it takes this host's word for, this host must have seen.
fn may_prove(store: &Store, asked: &ProofRequest) -> Result<bool, StoreError> {
    match asked.what {
        Provable::PoolExited(pool) => exits::may_be_said(store, pool),
        _ => Ok(true),
    }
}

/// Has the enclave sign things for a pool manager, if they are so: whoever asks may have it.
async fn prove(shared: &Shared, asked: &[Request]) -> Vec<Answer> {
    if asked.is_empty() {
        return Vec::new();
    }
    let Ok(replies) = shared.enclave.ask_all(asked).await else {
        return vec![Answer::Unavailable; asked.len()];
    };
    let answer = |reply| match reply {
        Reply::Proved(signature) => Answer::Proved(signature),
        Reply::Rejected(rejection) => Answer::Rejected(rejection),
        _ => Answer::Unavailable,
    };
    replies.into_iter().map(answer).collect()
}

/// A member's host speaks for its own enclave only. Keys are made up easily, and whoever makes some up in another's name
/// would use up the few questions of that member that our enclave answers.
fn check_sender(from: MemberId, message: &[u8]) -> Result<(), Rejection> {
    let message: PeerMessage = codec::decode(message).map_err(|_| Rejection::Malformed)?;
    match message.sender() {
        Some(sender) if sender != from => Err(Rejection::NotAuthentic),
        _ => Ok(()),
    }
}

/// Hands messages to the enclave. When this returns, what they caused is stored: only then may their senders forget
/// them.
async fn deliver(shared: &Shared, messages: Vec<Vec<u8>>) -> Result<Vec<Answer>, DaemonError> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let count = messages.len();
    let requests: Vec<Request> = messages.into_iter().map(Request::Deliver).collect();
    match shared.enclave.ask_all(&requests).await {
        Ok(replies) => Ok(replies
            .into_iter()
            .zip(&requests)
            .map(|(reply, request)| match reply {
                Reply::Rejected(rejection) => {
                    tracing::debug!(%rejection, "the enclave refused a message");
                    if let (Rejection::Evidence, Request::Deliver(message)) = (rejection, request) {
                        explain(shared, message);
                    }
                    Answer::Rejected(rejection)
                }
                _ => Answer::Accepted,
            })
            .collect()),
        Err(error) if error.is_lasting() => Err(DaemonError::Enclave(error)),
        Err(error) => {
            tracing::warn!(%error, "messages could not be handed to the enclave");
            Ok(vec![Answer::Unavailable; count])
        }
    }
}

/// The enclave names the checks that evidence failed; with the same code this host says what was expected and found.
fn explain(shared: &Shared, message: &[u8]) {
    let Ok(PeerMessage::Evidence(attestation)) = codec::decode(message) else { return };
    let member = attestation.identity.member;
    match attest::explain(&shared.manifest, &attestation) {
        Ok(findings) => {
            let reasons: Vec<String> = findings.iter().map(ToString::to_string).collect();
            for reason in &reasons {
                tracing::warn!(%member, reason, "evidence refused");
            }
            shared.store.explain_refusal(member, reasons);
        }
        Err(error) => tracing::warn!(%member, %error, "evidence refused"),
    }
}

/// Ticks for ever; after each tick looks for what the enclave says it misses.
pub(super) async fn tick(shared: Arc<Shared>) -> DaemonError {
    let mut round = 0;
    let mut attendance = Attendance::default();
    loop {
        match shared.enclave.ask(&Request::Tick).await {
            Ok(_) => {
                let found = find_missing(&shared, round).await.into_iter().map(PeerMessage::Broadcast);
                let messages: Vec<_> = found.map(|message| codec::encode(&message)).collect();
                for some in messages.chunks(MAX_TOGETHER) {
                    if let Err(error) = deliver(&shared, some.to_vec()).await {
                        return error;
                    }
                }
                if let Err(error) = attendance.check(&shared).await {
                    return error;
                }
                round += 1;
                tokio::time::sleep(shared.tick).await;
            }
            Err(error) if error.is_lasting() => return DaemonError::Enclave(error),
            Err(error) => {
                tracing::warn!(%error, "the enclave can't be reached");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Asks other hosts for statements that the own enclave misses.
///
/// Any of those hosts may answer nothing or nonsense, so none is relied on: with every round it is others' turn, and
/// what any of them has is handed in. The enclave tells good from bad.
async fn find_missing(shared: &Shared, round: usize) -> Vec<Broadcast> {
    let mut missing = shared.store.take_missing();
    if missing.is_empty() {
        return Vec::new();
    }
    let start = round.wrapping_mul(MAX_LOOKUPS) % missing.len();
    missing.rotate_left(start);
    missing.truncate(MAX_LOOKUPS);
    let others: Vec<MemberId> =
        shared.manifest.members.iter().map(|member| member.id).filter(|id| *id != shared.member).collect();
    let lookups = missing.into_iter().flat_map(|(ceremony, step, speaker)| {
        let question = Question::FetchRecords { ceremony, step, speaker };
        turn(&others, speaker, round).into_iter().map(move |asked| (asked, question.clone()))
    });
    let mut answers = futures::stream::iter(lookups)
        .map(|(asked, question)| async move {
            let answer = shared.network.ask(asked, question.clone()).await;
            (question, answer)
        })
        .buffer_unordered(LOOKUPS_AT_ONCE);
    let mut found: Vec<Broadcast> = Vec::new();
    let collect = async {
        let mut left = MAX_FOUND;
        while let Some((question, answer)) = answers.next().await {
            if let Ok(Answer::Records(records)) = answer {
                let wanted = records.into_iter().filter(|record| answers_question(record, &question));
                for record in wanted.take(MAX_STATEMENTS) {
                    if record.body.len() <= left && !found.contains(&record) {
                        left -= record.body.len();
                        found.push(record);
                    }
                }
            }
        }
    };
    // What has come by then is used; the rest is asked for again.
    let _ = tokio::time::timeout(LOOKUP_PATIENCE, collect).await;
    found
}

fn answers_question(record: &Broadcast, asked: &Question) -> bool {
    let Slot { ceremony, from, step, .. } = record.slot;
    *asked == Question::FetchRecords { ceremony, step, speaker: from }
}

/// Whom to ask in a round: the speaker itself, and some of the others in turn.
fn turn(others: &[MemberId], speaker: MemberId, round: usize) -> Vec<MemberId> {
    let rest: Vec<MemberId> = others.iter().copied().filter(|member| *member != speaker).collect();
    // Beginning at another one for each speaker, so that not all questions of a round go to the same hosts.
    let round = round.wrapping_add(usize::from(speaker.0));
    let in_turn =
        rest.iter().cycle().skip(round.wrapping_mul(ASKED) % rest.len().max(1)).take(ASKED.min(rest.len()));
    others.iter().filter(|member| **member == speaker).chain(in_turn).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;
    use postern_shared::bls::PublicKey;
    use postern_shared::identity::{AgreementKey, Identity, IdentitySignature, SigningKey};
    use postern_shared::ids::{Address, CeremonyId, ManifestHash, Nonce, PoolId};
    use postern_shared::message::{
        Attestation, Certificates, Challenge, EncapsulatedKey, Envelope, EnvelopeHeader, Evidence, Step,
    };
    use postern_shared::record::{LogHead, LogId};
    use postern_shared::witness::{
        Ballot, End, InForce, Note, Noted, Place, SignedNote, Witness, WitnessMessage,
    };

    #[test]
    fn everybody_has_a_turn_and_the_speaker_always() {
        let others = [2, 3, 4, 5, 6].map(MemberId);
        let mut asked = std::collections::BTreeSet::new();
        for round in 0..3 {
            let turn = turn(&others, MemberId(4), round);
            assert_eq!(turn.len(), 1 + ASKED);
            assert_eq!(turn[0], MemberId(4));
            asked.extend(turn);
        }
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), others);
        assert_eq!(turn(&others[..1], MemberId(2), 7), [MemberId(2)]);
        // The own statement, which an enclave that started anew may miss.
        assert_eq!(turn(&others[..1], MemberId(1), 7), [MemberId(2)]);
        assert!(turn(&[], MemberId(1), 7).is_empty());
    }

    #[test]
    fn a_member_speaks_for_its_own_enclave_only_and_hands_on_statements_of_all() {
        let (ceremony, nonce, signature) = (CeremonyId([1; 32]), Nonce([2; 32]), IdentitySignature([0; 64]));
        let (two, three) = (MemberId(2), MemberId(3));
        let identity = Identity {
            member: two,
            machine: 0,
            signing: SigningKey([3; 32]),
            agreement: AgreementKey([4; 32]),
            dealing: PublicKey([5; 48]),
            signer: Address([6; 20]),
        };
        let slot = Slot { ceremony, from: two, step: Step::Authorise, item: 0 };
        let certificates = Certificates { ark: vec![], ask: vec![], leaf: vec![], crl: None };
        let ballot = Ballot { machine: 0, era: 0, incarnation: 0, nonce };
        let place = Place { log: LogId([6; 32]), head: LogHead::START };
        let note = Note { member: two, ballot, place, acting: true, ends: End::digest(&[]) };
        let by = SignedNote { note, signature };
        let in_force = InForce { epoch: 0, manifest: ManifestHash([7; 32]) };
        let own = [
            PeerMessage::Challenge(Challenge { from: identity, to: three, nonce, signature }),
            PeerMessage::Evidence(Box::new(Attestation {
                identity,
                verifier: None,
                challenge: nonce,
                response: nonce,
                evidence: Evidence { report: vec![], certificates },
            })),
            PeerMessage::Envelope(Envelope {
                header: EnvelopeHeader { slot, to: three },
                encapsulated: EncapsulatedKey([0; 32]),
                ciphertext: vec![],
            }),
            PeerMessage::Witness(Box::new(WitnessMessage {
                from: two,
                witness: Witness::Noted(Noted { note, in_force, by, later: vec![] }),
                signature,
            })),
        ];
        for message in own.iter().map(codec::encode) {
            assert_eq!(check_sender(two, &message), Ok(()));
            assert_eq!(check_sender(three, &message), Err(Rejection::NotAuthentic));
        }
        let statement = codec::encode(&PeerMessage::Broadcast(Broadcast { slot, body: vec![], signature }));
        assert_eq!(check_sender(two, &statement), Ok(()));
        assert_eq!(check_sender(three, &statement), Ok(()), "its speaker's host may withhold it");
        assert_eq!(check_sender(two, &[0xff]), Err(Rejection::Malformed));
    }

    #[test]
    fn the_enclave_is_asked_whether_a_validator_has_left_only_if_this_host_has_seen_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&store::Place::Directory(folder.path().to_owned())).unwrap();
        let [left, stays, unknown] = [1, 2, 3].map(|number| PoolId::new(1, Address([2; 20]), number));
        for pool in [left, stays] {
            store.change_pool(pool, |status| status.has_left = pool == left).unwrap();
        }
        let may = |what| may_prove(&store, &ProofRequest { epoch: 1, what }).unwrap();
        assert!(may(Provable::PoolExited(left)));
        assert!(!may(Provable::PoolExited(stays)));
        assert!(!may(Provable::PoolExited(unknown)));
        assert!(may(Provable::TriggerExit(unknown)), "the enclave itself knows the wish, or not");
    }

    #[test]
    fn an_answer_to_another_question_is_not_handed_on() {
        let slot = Slot { ceremony: CeremonyId([1; 32]), from: MemberId(2), step: Step::Deal, item: 0 };
        let record = Broadcast { slot, body: vec![], signature: IdentitySignature([0; 64]) };
        let asked = |step, speaker| Question::FetchRecords { ceremony: slot.ceremony, step, speaker };
        assert!(answers_question(&record, &asked(Step::Deal, MemberId(2))));
        assert!(!answers_question(&record, &asked(Step::Deal, MemberId(3))));
        assert!(!answers_question(&record, &asked(Step::Commit, MemberId(2))));
    }
}
