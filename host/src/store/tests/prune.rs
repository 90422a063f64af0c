//! What is over leaves little.

use super::*;
use crate::chain::beacon::ValidatorStatus;
use crate::chain::transactions::Conclusion;
use crate::clock::now;
use postern_shared::ethereum::{SignedVoluntaryExit, VoluntaryExit};
use postern_shared::wire::Artifact;

const DAY: u64 = 24 * 60 * 60;

fn said(ceremony: u8, step: Step) -> Output {
    let slot = Slot { ceremony: CeremonyId([ceremony; 32]), from: MemberId(2), step, item: 0 };
    Output::Store(Record::Broadcast(Broadcast { slot, body: vec![1], signature: IdentitySignature([0; 64]) }))
}

fn of(ceremony: u8, pool: PoolId) -> Output {
    let (ceremony, kind) = (CeremonyId([ceremony; 32]), CeremonyKind::Keygen);
    Output::Notice(Notice::Progress { ceremony, kind, pool, step: Step::Deal, have: 1, of: 5 })
}

fn say(store: &Store, first: u64, outputs: Vec<Output>) {
    store.begin_incarnation(&enclave(7)).unwrap();
    let numbered = (first..).zip(outputs).map(|(sequence, output)| NumberedOutput { sequence, output });
    store.keep_outputs(&enclave(7), &numbered.collect::<Vec<_>>()).unwrap();
}

fn has(store: &Store, ceremony: u8, step: Step) -> bool {
    !store.records(CeremonyId([ceremony; 32]), step, MemberId(2)).unwrap().is_empty()
}

fn withdraw(store: &Store, pool: PoolId) {
    store.change_pool(pool, |status| status.final_status = Some(ValidatorStatus::WithdrawalDone)).unwrap();
}

fn report(store: &Store, pool: PoolId) {
    store.change_pool(pool, |status| status.exit_reported = true).unwrap();
}

fn statements_go_when_their_pool_is_over_and_no_sooner(home: &Home) {
    let store = store(home);
    let (one, two) = (pool(1), pool(2));
    // Ceremony 3 is an agreement: it is of no pool.
    say(
        &store,
        1,
        vec![of(1, one), said(1, Step::Deal), of(2, two), said(2, Step::Deal), said(3, Step::Decide)],
    );
    let there = |store: &Store| {
        [(1, Step::Deal), (2, Step::Deal), (3, Step::Decide)]
            .map(|(ceremony, step)| has(store, ceremony, step))
    };
    withdraw(&store, one);
    report(&store, two);
    assert_eq!(there(&store), [true; 3], "one is not on record yet, the other not withdrawn");
    report(&store, one);
    assert_eq!(there(&store), [false, true, true]);
    // What comes late is found when the host starts.
    say(&store, 6, vec![said(1, Step::Verdict), of(1, one)]);
    assert!(has(&store, 1, Step::Verdict));
    drop(store);
    let store = home.open().unwrap();
    assert!(has(&store, 1, Step::Verdict), "who only looks at a store leaves it as it is");
    store.prune().unwrap();
    assert!(!has(&store, 1, Step::Verdict));
    assert_eq!(there(&store), [false, true, true]);
    withdraw(&store, two);
    assert_eq!(there(&store), [false, false, true]);
    let left = store.query("SELECT count(*) FROM ceremonies", values![]).unwrap();
    assert_eq!(left[0].integer(0).unwrap(), 0);
}

fn a_result_that_is_done_with_leaves_nothing(home: &Home) {
    let store = store(home);
    let message = VoluntaryExit { epoch: 1, validator_index: 2 };
    let signature = postern_shared::bls::Signature([1; 96]);
    let result = |number| {
        Output::Publish(Artifact::Exit {
            pool: pool(number),
            exit: SignedVoluntaryExit { message, signature },
        })
    };
    say(&store, 1, vec![result(1), result(2)]);
    let open = store.open_artifacts().unwrap();
    store.close_artifact(open[0].id).unwrap();
    assert_eq!(store.open_artifacts().unwrap(), open[1..]);
    let rows = store.query("SELECT id FROM artifacts", values![]).unwrap();
    assert_eq!(rows.len(), 1);
    // Its number is not given again: whoever still has it would close another.
    store.close_artifact(open[1].id).unwrap();
    say(&store, 3, vec![result(3)]);
    assert!(store.open_artifacts().unwrap()[0].id > open[1].id);
}

fn transactions_go_when_they_count_for_nothing_any_more(home: &Home) {
    let at = |key: String, nonce, state, at| {
        let conclusion = Some(Conclusion { at, gas_used: 1, cost: 1 });
        TransactionRow { state, conclusion, ..TransactionRow::new(&key, Address([1; 20]), vec![], nonce) }
    };
    let mined = || TransactionState::Mined { hash: Digest([1; 32]), block: 1 };
    let long_ago = now() - 2 * DAY;
    let (over, open) = (pool(1), pool(10));
    let rows = [
        at(format!("deposit-{}-1", over.text()), 1, mined(), long_ago),
        at(format!("deposit-{}-1", open.text()), 2, mined(), long_ago),
        // The day's budget counts it.
        at(format!("exited-{}", over.text()), 3, mined(), now()),
        at(format!("exited-{}-2", over.text()), 4, TransactionState::Sent, long_ago),
        at(format!("epoch-{}-1", over.contract), 5, mined(), long_ago),
        at("deposit-1".to_owned(), 6, mined(), long_ago),
    ];
    {
        let store = store(home);
        rows.iter().for_each(|row| store.save(row).unwrap());
        store.change_pool(open, |status| status.exit_reported = true).unwrap();
        withdraw(&store, over);
    }
    let nonces = |store: &Store| {
        let mut nonces: Vec<u64> = store.load().unwrap().iter().map(|row| row.nonce).collect();
        nonces.sort_unstable();
        nonces
    };
    let store = home.open().unwrap();
    store.prune().unwrap();
    assert_eq!(nonces(&store), [1, 2, 3, 4, 5, 6]);
    report(&store, over);
    store.prune().unwrap();
    assert_eq!(nonces(&store), [2, 3, 4, 5, 6]);
}

fn a_damaged_row_is_named_when_a_host_starts_and_keeps_nobody_from_looking(home: &Home) {
    {
        let store = store(home);
        withdraw(&store, pool(1));
        report(&store, pool(1));
    }
    let named = |refused: StoreError| match refused {
        StoreError::DamagedRow { table, key } => (table, key),
        other => panic!("{other}"),
    };
    let can_be_looked_at = |store: &Store| {
        assert_eq!(store.check_log().unwrap().faults, [LogFault::NoSlot]);
        store.export(&mut Vec::new()).unwrap();
    };
    let transaction = format!("exited-{}", pool(1).text());
    let store = home.open().unwrap();
    store.execute("INSERT INTO transactions VALUES (?1, '{')", values![transaction.as_str()]).unwrap();
    drop(store);
    let store = home.open().unwrap();
    can_be_looked_at(&store);
    assert_eq!(named(store.prune().unwrap_err()), ("transactions", transaction));
    store.execute("UPDATE pools SET status = '{'", values![]).unwrap();
    drop(store);
    let store = home.open().unwrap();
    can_be_looked_at(&store);
    assert_eq!(named(store.prune().unwrap_err()), ("pools", pool(1).text()));
}

on_both!(
    statements_go_when_their_pool_is_over_and_no_sooner,
    a_result_that_is_done_with_leaves_nothing,
    transactions_go_when_they_count_for_nothing_any_more,
    a_damaged_row_is_named_when_a_host_starts_and_keeps_nobody_from_looking,
);
