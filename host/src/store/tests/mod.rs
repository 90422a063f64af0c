use super::database::values;
use super::*;
use crate::chain::execution::Cursor;
use crate::chain::transactions::{TransactionRow, TransactionState, TransactionStore};
use postern_shared::bls::PublicKey;
use postern_shared::codec;
use postern_shared::events::{ChainEvent, DepositRequest, EventSource};
use postern_shared::identity::{AgreementKey, Identity, IdentitySignature, SigningKey};
use postern_shared::ids::{Address, CeremonyId, Digest, ManifestHash, Nonce};
use postern_shared::message::{
    Attestation, Broadcast, Certificates, Challenge, EncapsulatedKey, Envelope, EnvelopeHeader, Evidence,
    PeerMessage, Slot, Step,
};
use postern_shared::record::{
    LogHead, LogId, RECORD_VERSION, RecordHeader, RecordKind, Salt, SealedError, SealedRecord,
};
use postern_shared::wire::{CeremonyKind, Notice, NumberedOutput, Output, Recipient, Record};

mod home;
mod log;
mod migration;
mod postgres;
mod prune;
mod sqlite;
mod transfer;

use home::{Home, in_schema, on_both};

const OWN: MemberId = MemberId(1);

fn pool(number: u32) -> PoolId {
    PoolId::new(1, Address([0xaa; 20]), number)
}

fn store(home: &Home) -> Store {
    let store = home.open().unwrap();
    store.set_members(OWN, &[1, 2, 3].map(MemberId)).unwrap();
    store
}

fn enclave(key: u8) -> Incarnation {
    Incarnation { signing: SigningKey([key; 32]), number: 0 }
}

fn send(sequence: u64, to: Recipient) -> NumberedOutput {
    NumberedOutput { sequence, output: Output::Send { to, message: vec![sequence as u8] } }
}

fn waiting(store: &Store, member: u16) -> Vec<Vec<u8>> {
    store.due(MemberId(member), i64::MAX, 100).unwrap().into_iter().map(|row| row.message).collect()
}

fn outputs_are_kept_once_and_survive_reopening(home: &Home) {
    let incarnation = enclave(7);
    let outputs = [send(1, Recipient::Everyone), send(2, Recipient::One(MemberId(3)))];
    {
        let store = store(home);
        store.begin_incarnation(&incarnation).unwrap();
        store.keep_outputs(&incarnation, &outputs).unwrap();
    }
    let store = store(home);
    store.begin_incarnation(&incarnation).unwrap();
    store.keep_outputs(&incarnation, &outputs).unwrap();
    assert_eq!(waiting(&store, 2), [[1]]);
    assert_eq!(waiting(&store, 3), [[1], [2]]);
    assert!(waiting(&store, 1).is_empty(), "nothing to oneself");
}

fn a_new_incarnation_counts_from_one_again(home: &Home) {
    let store = store(home);
    store.begin_incarnation(&enclave(1)).unwrap();
    store.keep_outputs(&enclave(1), &[send(1, Recipient::One(MemberId(2)))]).unwrap();
    store.begin_incarnation(&enclave(2)).unwrap();
    let output = Output::Send { to: Recipient::One(MemberId(2)), message: b"another".to_vec() };
    store.keep_outputs(&enclave(2), &[NumberedOutput { sequence: 1, output }]).unwrap();
    assert_eq!(waiting(&store, 2).len(), 2);
    let stale = store.keep_outputs(&enclave(1), &[send(2, Recipient::Everyone)]);
    assert!(matches!(stale, Err(StoreError::Damaged { .. })));
}

fn a_postponed_message_blocks_no_other(home: &Home) {
    let store = store(home);
    let incarnation = enclave(7);
    store.begin_incarnation(&incarnation).unwrap();
    store.keep_outputs(&incarnation, &[1, 2, 3].map(|n| send(n, Recipient::One(MemberId(2))))).unwrap();
    let rows = store.due(MemberId(2), 0, 100).unwrap();
    store.settle(&[rows[1].id], &[(rows[0].id, 1_000)]).unwrap();
    let due: Vec<i64> = store.due(MemberId(2), 999, 100).unwrap().iter().map(|row| row.id).collect();
    assert_eq!(due, [rows[2].id]);
    assert_eq!(store.due(MemberId(2), 1_000, 100).unwrap()[0].attempts, 1);
    assert_eq!(store.next_due(MemberId(2)).unwrap(), Some(0));
    // The clock was a day ahead: nothing is ever put off so long.
    store.settle(&[], &[(rows[2].id, 24 * 60 * 60 * 1_000)]).unwrap();
    let due: Vec<i64> = store.due(MemberId(2), 999, 100).unwrap().iter().map(|row| row.id).collect();
    assert_eq!(due, [rows[2].id]);
}

fn news_are_taken_to_heart_but_not_kept(home: &Home) {
    let store = store(home);
    let (ceremony, pool) = (CeremonyId([1; 32]), pool(4));
    let progress =
        Notice::Progress { ceremony, kind: CeremonyKind::Keygen, pool, step: Step::Deal, have: 2, of: 5 };
    let missing = Notice::Missing { ceremony, step: Step::Deal, member: MemberId(2) };
    let outputs = [progress, missing.clone(), missing]
        .map(|notice| NumberedOutput { sequence: 1, output: Output::Notice(notice) });
    store.note(&outputs);
    assert_eq!(store.news().progress[&pool].have, 2);
    assert_eq!(store.take_missing().len(), 1);
    assert!(store.take_missing().is_empty());
}

fn a_store_serves_one_process_at_a_time(home: &Home) {
    let first = store(home);
    assert!(matches!(home.open(), Err(StoreError::InUse { .. })));
    drop(first);
    home.open().unwrap();
}

fn a_repeated_message_waits_once(home: &Home) {
    let store = store(home);
    let incarnation = enclave(7);
    store.begin_incarnation(&incarnation).unwrap();
    let to = Recipient::One(MemberId(2));
    let again = |sequence| NumberedOutput { sequence, output: Output::Send { to, message: vec![1] } };
    store.keep_outputs(&incarnation, &[again(1)]).unwrap();
    store.keep_outputs(&incarnation, &[again(2), again(3)]).unwrap();
    let rows = store.due(MemberId(2), 0, 100).unwrap();
    assert_eq!(rows.len(), 1);
    store.settle(&[rows[0].id], &[]).unwrap();
    store.keep_outputs(&incarnation, &[again(4)]).unwrap();
    assert_eq!(waiting(&store, 2), [[1]], "what was delivered can be said again");
}

fn a_member_that_stays_away_does_not_fill_the_disk(home: &Home) {
    let store = store(home);
    let incarnation = enclave(7);
    store.begin_incarnation(&incarnation).unwrap();
    let to = Recipient::One(MemberId(2));
    let slot = |item| Slot { ceremony: CeremonyId([1; 32]), from: OWN, step: Step::Authorise, item };
    let statement = |sequence: u64| {
        let body = sequence.to_le_bytes().to_vec();
        let said = Broadcast { slot: slot(0), body, signature: IdentitySignature([0; 64]) };
        let message = codec::encode(&PeerMessage::Broadcast(said));
        NumberedOutput { sequence, output: Output::Send { to, message } }
    };
    let secret = codec::encode(&PeerMessage::Envelope(Envelope {
        header: EnvelopeHeader { slot: slot(0), to: MemberId(2) },
        encapsulated: EncapsulatedKey([0; 32]),
        ciphertext: vec![1],
    }));
    let output = Output::Send { to, message: secret.clone() };
    let most = u64::from(outputs::MAX_WAITING);
    let mut said = vec![NumberedOutput { sequence: 1, output }];
    said.extend((2..=most + 6).map(statement));
    store.keep_outputs(&incarnation, &said).unwrap();
    let rows = store.due(MemberId(2), 0, usize::MAX >> 1).unwrap();
    assert_eq!(rows.len() as u64, most + 1);
    assert!(rows[0].message == secret && !rows[0].replaceable, "a secret is said once, so it is kept");
    assert!(rows[1].replaceable);
    let Output::Send { message, .. } = statement(7).output else { unreachable!() };
    assert_eq!(rows[1].message, message, "the oldest statements were forgotten");
}

fn of_questions_and_answers_only_the_newest_waits(home: &Home) {
    let store = store(home);
    let incarnation = enclave(7);
    store.begin_incarnation(&incarnation).unwrap();
    let identity = Identity {
        member: OWN,
        machine: 0,
        signing: SigningKey([1; 32]),
        agreement: AgreementKey([2; 32]),
        dealing: PublicKey([3; 48]),
        signer: Address([4; 20]),
    };
    let answer = |nonce: u8| {
        let certificates = Certificates { ark: vec![], ask: vec![], leaf: vec![], crl: None };
        codec::encode(&PeerMessage::Evidence(Box::new(Attestation {
            identity,
            verifier: None,
            challenge: Nonce([nonce; 32]),
            response: Nonce([0; 32]),
            evidence: Evidence { report: vec![], certificates },
        })))
    };
    let question = |nonce: u8| {
        let (nonce, signature) = (Nonce([nonce; 32]), IdentitySignature([0; 64]));
        codec::encode(&PeerMessage::Challenge(Challenge {
            from: identity,
            to: MemberId(2),
            nonce,
            signature,
        }))
    };
    let statement = |item| {
        let slot = Slot { ceremony: CeremonyId([1; 32]), from: OWN, step: Step::Authorise, item };
        let said = Broadcast { slot, body: vec![], signature: IdentitySignature([0; 64]) };
        codec::encode(&PeerMessage::Broadcast(said))
    };
    let (two, three) = (Recipient::One(MemberId(2)), Recipient::One(MemberId(3)));
    let said = [
        (two, answer(1)),
        (three, answer(1)),
        (two, question(1)),
        (two, statement(1)),
        (two, answer(2)),
        (two, question(2)),
        (two, statement(2)),
        (two, answer(2)),
    ];
    let outputs = said
        .into_iter()
        .zip(1..)
        .map(|((to, message), sequence)| NumberedOutput { sequence, output: Output::Send { to, message } });
    store.keep_outputs(&incarnation, &outputs.collect::<Vec<_>>()).unwrap();
    assert_eq!(waiting(&store, 2), [statement(1), answer(2), question(2), statement(2)]);
    assert_eq!(waiting(&store, 3), [answer(1)], "another's");
    assert!(store.due(MemberId(2), 0, 100).unwrap().iter().all(|row| row.replaceable));
}

fn what_was_not_committed_was_never_said(home: &Home) {
    let store = store(home);
    let incarnation = enclave(7);
    store.begin_incarnation(&incarnation).unwrap();
    let slot = Slot { ceremony: CeremonyId([1; 32]), from: MemberId(1), step: Step::Deal, item: 0 };
    let statement = Broadcast { slot, body: vec![1], signature: IdentitySignature([0; 64]) };
    let outputs = [
        send(1, Recipient::Everyone),
        NumberedOutput { sequence: 2, output: Output::Store(Record::Broadcast(statement.clone())) },
    ];
    // The third output can't be stored: then the others must not be either, nor their numbers count as reached.
    let [first, second] = outputs.clone();
    let gap = log::sealed(3, &log::log(&[RecordKind::Change; 2])[1]);
    assert!(store.keep_outputs(&incarnation, &[first, second, gap]).is_err());
    assert!(waiting(&store, 2).is_empty());
    assert!(store.records(slot.ceremony, slot.step, slot.from).unwrap().is_empty());
    store.keep_outputs(&incarnation, &outputs).unwrap();
    assert_eq!(waiting(&store, 2), [[1]]);
    assert_eq!(store.records(slot.ceremony, slot.step, slot.from).unwrap(), [statement]);
}

fn events_and_cursor_are_kept_together_and_once(home: &Home) {
    let source = EventSource { block: Digest([1; 32]), log_index: 3 };
    let event = ChainEvent::ExitRequested { source, pool: pool(4) };
    let cursor = Cursor { block: 9, hash: Digest([9; 32]) };
    let (contract, other) = (event.pool().contract, Address([5; 20]));
    let further = Cursor { block: 10, hash: Digest([10; 32]) };
    {
        let store = store(home);
        let deposit = ChainEvent::DepositRequested(DepositRequest { source, pool: pool(4) });
        assert_eq!(store.keep_events(&[event], Some((contract, cursor))).unwrap(), [event]);
        assert_eq!(store.keep_events(&[], Some((other, further))).unwrap(), []);
        assert_eq!(store.keep_events(&[event, deposit], None).unwrap(), [deposit], "what is new");
    }
    let store = store(home);
    assert_eq!(store.cursor(contract).unwrap(), Some(cursor));
    assert_eq!(store.cursor(other).unwrap(), Some(further), "each contract has its own");
    assert_eq!(store.cursor(Address([6; 20])).unwrap(), None);
    let events = store.events_after(0).unwrap();
    let [first, second] = &events[..] else { panic!("{events:?}") };
    assert!(first.event == event && matches!(second.event, ChainEvent::DepositRequested(_)));
    assert!(store.events_after(second.id).unwrap().is_empty());
    assert!(store.pools().unwrap()[0].exit_requested && store.pools().unwrap()[0].deposit_requested);
}

fn pools_of_one_number_and_two_contracts_are_two(home: &Home) {
    let store = store(home);
    let other = PoolId { contract: Address([0xbb; 20]), ..pool(2) };
    for id in [other, pool(10), pool(2)] {
        store.change_pool(id, |_| {}).unwrap();
    }
    let source = EventSource { block: Digest([1; 32]), log_index: 3 };
    store.keep_events(&[ChainEvent::ExitRequested { source, pool: other }], None).unwrap();
    let pools = store.pools().unwrap();
    let found: Vec<_> = pools.iter().map(|status| (status.pool_id, status.exit_requested)).collect();
    assert_eq!(found, [(pool(2), false), (pool(10), false), (other, true)]);
}

fn transactions_survive_reopening_in_their_newest_form(home: &Home) {
    let mut row = TransactionRow::new("deposit-1", Address([1; 20]), vec![1, 2], 7);
    {
        let store = store(home);
        store.save(&row).unwrap();
        row.state = TransactionState::Mined { hash: Digest([2; 32]), block: u64::MAX };
        store.save(&row).unwrap();
    }
    assert_eq!(store(home).load().unwrap(), [row]);
}

on_both!(
    outputs_are_kept_once_and_survive_reopening,
    a_new_incarnation_counts_from_one_again,
    a_postponed_message_blocks_no_other,
    news_are_taken_to_heart_but_not_kept,
    a_store_serves_one_process_at_a_time,
    a_repeated_message_waits_once,
    a_member_that_stays_away_does_not_fill_the_disk,
    of_questions_and_answers_only_the_newest_waits,
    what_was_not_committed_was_never_said,
    events_and_cursor_are_kept_together_and_once,
    pools_of_one_number_and_two_contracts_are_two,
    transactions_survive_reopening_in_their_newest_form,
);
