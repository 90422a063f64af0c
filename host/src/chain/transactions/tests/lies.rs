//! With a node that lies, in one way at a time.

use super::*;
use crate::chain::test_server::TestServer;
use alloy::providers::Provider;
use std::collections::BTreeMap;

pub(super) fn waits(listed: &[Listed], key: &str) -> String {
    listed.iter().find(|one| one.key == key).unwrap().waits_for.clone().unwrap_or_default()
}

pub(super) async fn nonce(bench: &Bench) -> u64 {
    let wallet = PrivateKeySigner::from_bytes(&WALLET.into()).unwrap().address();
    bench.provider.get_transaction_count(wallet).await.unwrap()
}

/// Scene M: 72 sends of the same bytes in 20 seconds, or 0.24 gwei that became 6.5 in the same time.
/// Two transactions, of which the second one waits for the first.
async fn send_two(transactions: &Transactions) {
    for key in ["a", "b"] {
        transactions.submit(key, NOBODY, vec![1]).await.unwrap();
    }
    transactions.drive().await.unwrap();
}

#[tokio::test]
async fn no_refusal_takes_the_offer_beyond_twice_the_market() {
    for text in [
        "could not replace existing tx",
        "replacement transaction underpriced",
        "fee too low",
        "computer says no",
    ] {
        let bench = Bench::start().await;
        let transactions = bench.open();
        transactions.submit("a", NOBODY, vec![1]).await.unwrap();
        let first = bench.store.row("a").versions[0].max_fee_per_gas;
        bench.lie(&[ExecutionLie::SendSays(-32000, text)]);
        for _ in 0..10 {
            transactions.drive().await.unwrap();
        }
        assert_eq!(bench.sends(), 1, "once for each head");
        bench.drive(&transactions, 60).await;
        let row = bench.store.row("a");
        assert!(row.versions.len() <= 8, "{text}: {}", row.versions.len());
        let highest = row.versions.iter().map(|version| version.max_fee_per_gas).max().unwrap();
        assert!(highest <= first / 4 * 9, "{text}: {first} became {highest}");
        assert!(bench.sends() <= 61 + row.versions.len());
        assert!(waits(&transactions.list().await, "a").contains("refuses"), "{text}");
        bench.lie(&[]);
        let outcomes = bench.drive(&transactions, FINAL).await;
        assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{text}");
    }
}

#[tokio::test]
async fn a_node_that_swallowed_or_forgot_it_is_told_the_same_again() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::SwallowSend]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    transactions.drive().await.unwrap();
    assert_eq!(bench.store.row("a").state, TransactionState::Sent);
    bench.drive(&transactions, 2).await;
    assert_eq!(bench.sends(), 1, "not before patience is over");
    bench.lie(&[]);
    bench.drive(&transactions, 1).await;
    assert_eq!(bench.sends(), 2);
    let outcomes = bench.drive(&transactions, FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]));
    assert_eq!(bench.store.row("a").versions.len(), 1, "the same bytes, at the same price");
}

#[tokio::test]
async fn only_the_next_transaction_follows_the_market_and_it_is_stuck_after_long() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::SwallowSend]);
    send_two(&transactions).await;
    assert_eq!(waits(&transactions.list().await, "b"), "to be mined");
    bench.lie(&[ExecutionLie::SwallowSend, ExecutionLie::Market(50)]);
    bench.drive(&transactions, 9).await;
    let (a, b) = (bench.store.row("a"), bench.store.row("b"));
    assert_eq!((a.versions.len(), b.versions.len()), (2, 1));
    assert_eq!(a.versions[1].why, Why::Market);
    assert!(a.versions[1].max_fee_per_gas > 10 * a.versions[0].max_fee_per_gas);
    assert_eq!(waits(&transactions.list().await, "b"), "another transaction has to be mined before");
    // Base fees fall, so the offer is far above the market; nobody mines it.
    bench.drive(&transactions, 80).await;
    let (a, b) = (bench.store.row("a"), bench.store.row("b"));
    assert_eq!((a.versions.len(), b.versions.len()), (3, 1), "one step, and no more");
    assert_eq!(a.versions[2].why, Why::Step);
    let listed = transactions.list().await;
    assert!(waits(&listed, "a").starts_with("stuck"), "{listed:?}");
    assert!(listed[0].is_wrong && !listed[1].is_wrong);
    bench.lie(&[]);
    assert_eq!(bench.drive(&transactions, 2 * FINAL).await.len(), 2);
}

#[tokio::test]
async fn a_nonce_that_was_a_lie_is_given_up_once_it_is_sure_to_be_one() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::NonceAhead(5)]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    assert_eq!(bench.store.row("a").nonce, 5);
    bench.lie(&[]);
    bench.drive(&transactions, 10).await;
    assert_eq!(bench.store.row("a").nonce, 5);
    let listed = transactions.list().await;
    assert!(listed[0].is_wrong && waits(&listed, "a").contains("nonce is 0"), "{listed:?}");
    // A new one does not wait for it.
    transactions.submit("b", NOBODY, vec![2]).await.unwrap();
    assert_eq!(bench.store.row("b").nonce, 0);
    let outcomes = bench.drive(&transactions, 60).await;
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    assert_eq!((bench.store.row("a").nonce, nonce(&bench).await), (1, 2));
}

#[tokio::test]
async fn what_a_fake_receipt_kept_from_being_sent_is_sent_before_the_next_one() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    bench.lie(&[ExecutionLie::FakeReceipt(true)]);
    let outcomes = transactions.drive().await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]));
    bench.lie(&[]);
    transactions.submit("b", NOBODY, vec![2]).await.unwrap();
    assert_eq!(bench.store.row("b").nonce, 1);
    let outcomes = bench.drive(&transactions, 5 + FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { key, .. }] if key == "b"), "{outcomes:?}");
    assert_eq!(nonce(&bench).await, 2);
}

#[tokio::test]
async fn a_gap_is_filled_from_its_beginning_and_what_is_final_is_none() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::FakeReceipt(true)]);
    for key in 0..6 {
        transactions.submit(&key.to_string(), NOBODY, vec![1]).await.unwrap();
    }
    assert_eq!(transactions.drive().await.unwrap().len(), 6);
    bench.lie(&[]);
    transactions.submit("b", NOBODY, vec![2]).await.unwrap();
    bench.drive(&transactions, 3).await;
    assert_eq!((bench.sends(), nonce(&bench).await), (1, 0));
    bench.drive(&transactions, 1).await;
    assert_eq!(bench.sends(), 1 + 4, "a few at a time");
    let outcomes = bench.drive(&transactions, 10 + FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { key, .. }] if key == "b"), "{outcomes:?}");
    assert_eq!(nonce(&bench).await, 7);

    let before = bench.sends();
    bench.lie(&[ExecutionLie::LatestNonce(0), ExecutionLie::SwallowSend, ExecutionLie::ForgetSent]);
    transactions.submit("c", NOBODY, vec![3]).await.unwrap();
    bench.drive(&transactions, 10).await;
    let row = bench.store.row("c");
    assert!(waits(&transactions.list().await, "c").contains("nonce is 0"), "{row:?}");
    assert_eq!((row.nonce, bench.sends() - before), (7, 1), "all before it are final");
}

#[tokio::test]
async fn a_call_that_was_to_be_cancelled_is_not_made_to_fill_a_gap() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    transactions.cancel("a").await.unwrap();
    bench.lie(&[ExecutionLie::FakeReceipt(true)]);
    let outcomes = transactions.drive().await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]));
    bench.lie(&[]);
    transactions.submit("b", NOBODY, vec![2]).await.unwrap();
    let outcomes = bench.drive(&transactions, 5 + FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { key, .. }] if key == "b"), "{outcomes:?}");
    assert_eq!((bench.store.row("b").nonce, nonce(&bench).await), (0, 1));

    // Nor for one that is open already, and comes after it.
    let bench = Bench::start().await;
    let transactions = bench.open();
    for key in ["a", "b"] {
        transactions.submit(key, NOBODY, vec![1]).await.unwrap();
    }
    transactions.cancel("a").await.unwrap();
    let [cancelled, hash] = ["a", "b"].map(|key| bench.store.row(key).versions[0].hash);
    bench.lie(&[ExecutionLie::FailReceiptOf(hash.to_string()), ExecutionLie::FakeReceipt(true)]);
    assert_eq!(transactions.drive().await.unwrap().len(), 1);
    bench.lie(&[]);
    let outcomes = bench.drive(&transactions, 50 + FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { key, .. }] if key == "b"), "{outcomes:?}");
    assert_eq!(bench.store.row("b").nonce, 0);
    assert!(bench.provider.get_transaction_receipt(cancelled.0.into()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_head_that_was_a_lie_is_not_waited_for_before_a_nonce_is_given_up() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    bench.intrude().await;
    bench.devnet.advance(FINAL);
    bench.lie(&[ExecutionLie::HeadAhead(1_000)]);
    transactions.drive().await.unwrap();
    bench.lie(&[]);
    bench.drive(&transactions, 5).await;
    assert_eq!(bench.store.row("a").nonce, 1);
}

/// Scene H: an estimate that is far too low.
#[tokio::test]
async fn a_call_that_ran_out_of_gas_says_so_and_succeeds_with_more() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::Estimate(25_000)]);
    let get_deposit_root = vec![0xc5, 0xf2, 0x89, 0x2f];
    transactions.submit("a", bench.deposit_contract, get_deposit_root.clone()).await.unwrap();
    transactions.drive().await.unwrap();
    let outcomes = bench.drive(&transactions, FINAL).await;
    let [Outcome { state: TransactionState::Reverted { reason, .. }, .. }] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(reason.starts_with("out of gas: it used 31250 of 31250"), "{reason}");
    let row = bench.store.row("a");
    let conclusion = row.conclusion.unwrap();
    assert_eq!(conclusion.gas_used, row.versions[0].gas_limit);
    assert!(conclusion.cost > 0 && conclusion.cost <= row.worst_case());
    let margin = GasMargin { percent: 50, at_least: 200_000 };
    let calldata = get_deposit_root;
    transactions.submit_with("a-2", bench.deposit_contract, calldata, margin).await.unwrap();
    transactions.drive().await.unwrap();
    let outcomes = bench.drive(&transactions, FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn a_market_that_is_a_lie_costs_no_more_than_the_limits_and_the_budget_say() {
    let bench = Bench::start().await;
    bench.lie(&[ExecutionLie::Market(1_000_000)]);
    let transactions = bench.open();
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    let version = bench.store.row("a").versions[0].clone();
    assert_eq!(version.max_fee_per_gas, 200 * GWEI);
    let budget_per_day = version.worst_case() * 2 - 1;
    drop(transactions);

    // What was signed counts after a restart too.
    let poor = bench.open_with(FeeRules { budget_per_day, ..RULES }, Wallet::local(&WALLET).unwrap());
    let error = poor.submit("b", NOBODY, vec![2]).await.unwrap_err();
    assert!(
        matches!(error, TransactionError::OverBudget { left, .. } if left < version.worst_case()),
        "{error}"
    );
    assert_eq!(poor.row("b").await, None);
    let wrong = poor.look_at_wallet().await.unwrap();
    assert!(wrong.len() == 1 && wrong[0].contains("day's budget"), "{wrong:?}");
    // With the market as it is, it fits.
    bench.lie(&[]);
    poor.submit("b", NOBODY, vec![2]).await.unwrap();
    assert_eq!(poor.look_at_wallet().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_the_wallet_lacks_is_named() {
    let bench = Bench::start().await;
    let poor = Wallet::local(&[0x22; 32]).unwrap();
    let transactions = bench.open_with(RULES, poor);
    assert_eq!(transactions.look_at_wallet().await.unwrap(), [""; 0]);
    bench.lie(&[ExecutionLie::Estimate(21_016)]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    let wrong = transactions.look_at_wallet().await.unwrap();
    assert!(wrong.len() == 1 && wrong[0].starts_with("has 0 wei"), "{wrong:?}");
    transactions.drive().await.unwrap();
    let listed = transactions.list().await;
    assert!(listed[0].is_wrong && waits(&listed, "a").starts_with("the wallet can't pay"), "{listed:?}");
}

#[tokio::test]
async fn what_is_cancelled_takes_the_nonce_and_makes_no_call() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::SwallowSend]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    transactions.drive().await.unwrap();
    assert!(matches!(transactions.cancel("b").await, Err(TransactionError::Unknown(_))));
    transactions.cancel("a").await.unwrap();
    assert!(matches!(transactions.retry("a").await, Err(TransactionError::NotToRetry(_))));
    bench.lie(&[]);
    // It outlives a restart.
    let transactions = bench.open();
    let outcomes = bench.drive(&transactions, 2 + FINAL).await;
    assert!(
        matches!(&outcomes[..], [Outcome { state: TransactionState::Cancelled { .. }, .. }]),
        "{outcomes:?}"
    );
    let row = bench.store.row("a");
    assert_eq!(
        (row.versions.len(), row.versions[1].gas_limit, row.versions[1].why),
        (2, 21_000, Why::Cancel)
    );
    assert_eq!(nonce(&bench).await, 1);
    assert!(matches!(transactions.cancel("a").await, Err(TransactionError::Final(_))));
    transactions.retry("a").await.unwrap();
    assert!(bench.store.row("a").retried);
}

/// Such a nonce may never come.
#[tokio::test]
async fn what_is_to_be_cancelled_and_has_a_nonce_that_was_a_lie_ends() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::NonceAhead(5)]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    bench.lie(&[]);
    transactions.cancel("a").await.unwrap();
    let outcomes = bench.drive(&transactions, 50).await;
    assert!(
        matches!(&outcomes[..], [Outcome { state: TransactionState::Cancelled { .. }, .. }]),
        "{outcomes:?}"
    );
    let row = bench.store.row("a");
    assert_eq!((row.versions.len(), row.displaced.len(), row.displaced[0].versions.len()), (0, 1, 2));
    // What may be mined after all counts, and its nonce is free.
    let left = budget::left([&row].into_iter(), None, row.displaced[0].at, &RULES);
    assert_eq!(left, RULES.budget_per_day - row.displaced[0].worst_case());
    transactions.submit("b", NOBODY, vec![1]).await.unwrap();
    assert_eq!(bench.store.row("b").nonce, 0);
}

#[tokio::test]
async fn a_call_under_another_nonce_has_no_less_gas() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::NonceAhead(5)]);
    let margin = GasMargin { percent: 25, at_least: 300_000 };
    transactions.submit_with("a", NOBODY, vec![1], margin).await.unwrap();
    bench.lie(&[]);
    bench.drive(&transactions, 50).await;
    let row = bench.store.row("a");
    assert_eq!((row.nonce, row.versions[0].gas_limit, row.displaced.len()), (0, 300_000, 1));
}

#[tokio::test]
async fn a_node_that_says_for_ever_that_the_nonce_is_used_is_a_trouble() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::SendSays(-32000, "nonce too low")]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    for (blocks, is_wrong) in [(45, false), (10, true)] {
        bench.drive(&transactions, blocks).await;
        let listed = transactions.list().await;
        assert_eq!(listed[0].is_wrong, is_wrong, "{listed:?}");
    }
}

#[tokio::test]
async fn the_row_behind_one_that_can_not_be_looked_at_is_not_the_next_one() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    bench.lie(&[ExecutionLie::SwallowSend]);
    send_two(&transactions).await;
    let hash = bench.store.row("a").versions[0].hash.to_string();
    let lies = [ExecutionLie::SwallowSend, ExecutionLie::Market(50), ExecutionLie::FailReceiptOf(hash)];
    bench.lie(&lies);
    bench.drive(&transactions, 9).await;
    let listed = transactions.list().await;
    assert!(waits(&listed, "a").contains("receipt"), "{listed:?}");
    assert_eq!(waits(&listed, "b"), "another transaction has to be mined before");
    assert_eq!(bench.store.row("b").versions.len(), 1, "{listed:?}");
}

/// Of two hosts only one makes a call.
#[tokio::test]
async fn a_call_that_did_not_fit_in_the_budget_and_is_due_no_more_is_no_trouble() {
    let bench = Bench::start().await;
    let wallet = Wallet::local(&WALLET).unwrap();
    let transactions = bench.open_with(FeeRules { budget_per_day: 1, ..RULES }, wallet);
    for _ in 0..2 {
        assert!(transactions.submit("a", NOBODY, vec![1]).await.is_err());
        for _ in 0..3 {
            let wrong = transactions.look_at_wallet().await.unwrap();
            assert!(wrong.len() == 1 && wrong[0].contains("day's budget"), "{wrong:?}");
        }
    }
    assert_eq!(transactions.look_at_wallet().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_call_that_is_mined_though_it_was_to_be_cancelled_is_mined() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    transactions.drive().await.unwrap();
    bench.devnet.advance(1);
    transactions.cancel("a").await.unwrap();
    let outcomes = bench.drive(&transactions, FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn whatever_a_node_says_open_and_concluded_transactions_stay_within_the_budget() {
    let bench = Bench::start().await;
    let rules = FeeRules { budget_per_day: 1_500_000 * GWEI, ..RULES };
    let mut random = fastrand::Rng::with_seed(7);
    let (mut refused, mut raised, mut signed) = (0, 0, BTreeMap::new());
    let transactions = bench.open_with(rules, Wallet::local(&WALLET).unwrap());
    for number in 0..60 {
        let lies = [
            ExecutionLie::Market(random.u64(1..60)),
            ExecutionLie::SwallowSend,
            ExecutionLie::SendSays(-32000, "replacement transaction underpriced"),
            ExecutionLie::ForgetSent,
            ExecutionLie::Estimate(random.u64(21_000..200_000)),
            ExecutionLie::NonceAhead(random.u64(1..4)),
            ExecutionLie::NoReceipts,
            ExecutionLie::FakeReceipt(random.bool()),
        ];
        let told: Vec<ExecutionLie> = lies.into_iter().filter(|_| random.bool()).collect();
        bench.lie(&told);
        match transactions.submit(&number.to_string(), NOBODY, vec![1]).await {
            Ok(_) => {}
            Err(TransactionError::OverBudget { .. }) => refused += 1,
            Err(TransactionError::Foreign { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        for _ in 0..random.u64(1..8) {
            bench.drive(&transactions, 1).await;
            for row in bench.store.load().unwrap().into_iter().filter(|row| !row.versions.is_empty()) {
                raised = raised.max(row.versions.len());
                // Whatever the row remembers: under each nonce one of its versions may be mined.
                let cost = row.conclusion.map_or(row.worst_case(), |ended| ended.cost);
                signed.insert((row.key, row.nonce), cost);
            }
            let all: u128 = signed.values().sum();
            assert!(all <= rules.budget_per_day, "{number}: {all}");
        }
    }
    let (keys, nonces) = (bench.store.load().unwrap().len(), signed.len());
    assert!(refused > 0 && raised > 1 && nonces > keys, "{refused} {raised} {nonces} {keys}");
}

#[tokio::test]
async fn a_signer_that_does_not_answer_keeps_no_other_transaction_from_being_sent() {
    let bench = Bench::start().await;
    {
        let transactions = bench.open();
        bench.lie(&[ExecutionLie::SwallowSend]);
        for key in ["a", "b"] {
            transactions.submit(key, NOBODY, vec![1]).await.unwrap();
        }
    }
    let signer = TestServer::start(|_| (500, "")).await;
    let own = Address(PrivateKeySigner::from_bytes(&WALLET.into()).unwrap().address().into_array());
    let wallet = Wallet::Remote(RemoteSigner::new(&signer.url, own).unwrap());
    let transactions = bench.open_with(RULES, wallet);
    transactions.cancel("a").await.unwrap();
    transactions.drive().await.unwrap();
    assert!(waits(&transactions.list().await, "a").contains("remote signer"));
    assert_eq!(bench.store.row("b").state, TransactionState::Sent);
    assert!(transactions.look_at_wallet().await.unwrap()[0].contains("remote signer"));
}

#[tokio::test]
async fn only_the_newest_versions_are_asked_about_until_the_nonce_is_used_for_good() {
    let bench = Bench::start().await;
    let transactions = bench.open();
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    transactions.drive().await.unwrap();
    // The node has the first of five versions, and mines it.
    let mut row = bench.store.row("a");
    let first = row.versions[0].clone();
    row.versions.extend((1..5).map(|byte| SignedVersion { hash: Digest([byte; 32]), ..first.clone() }));
    bench.store.save(&row).unwrap();
    let transactions = bench.open();
    bench.devnet.advance(1);
    let asked = || bench.liar.asked(NODE, "eth_getTransactionReceipt");
    let before = asked();
    transactions.drive().await.unwrap();
    assert_eq!(asked() - before, 2);
    bench.devnet.advance(FINAL);
    let outcomes = transactions.drive().await.unwrap();
    assert!(
        matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { hash, .. }, .. }] if *hash == first.hash)
    );
}

#[tokio::test]
async fn a_receipt_of_another_block_or_transaction_is_none() {
    for lie in [ExecutionLie::OtherBlocks, ExecutionLie::OtherReceipts] {
        let bench = Bench::start().await;
        let transactions = bench.open();
        transactions.submit("a", NOBODY, vec![1]).await.unwrap();
        transactions.drive().await.unwrap();
        bench.devnet.advance(FINAL);
        bench.lie(std::slice::from_ref(&lie));
        assert_eq!(transactions.drive().await.unwrap(), [], "{lie:?}");
        bench.lie(&[]);
        let outcomes = transactions.drive().await.unwrap();
        assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{lie:?}");
    }
}

#[test]
fn rows_of_before_are_read() {
    let mut row = TransactionRow::new("a", NOBODY, vec![1], 7);
    row.versions.push(SignedVersion {
        hash: Digest([1; 32]),
        raw: vec![2],
        gas_limit: 1,
        max_fee_per_gas: 5,
        max_priority_fee_per_gas: 1,
        sent_at_block: None,
        why: Why::First,
        cancels: false,
    });
    let mut old = serde_json::to_value(&row).unwrap();
    for name in ["cancel", "retried", "submitted_at", "conclusion", "displaced"] {
        assert!(old.as_object_mut().unwrap().remove(name).is_some());
    }
    for name in ["why", "cancels"] {
        assert!(old["versions"][0].as_object_mut().unwrap().remove(name).is_some());
    }
    assert_eq!(serde_json::from_str::<TransactionRow>(&old.to_string()).unwrap(), row);
}

#[tokio::test]
async fn one_node_of_three_that_lies_or_is_down_costs_nothing() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second", "third"]);
    bench.lie(&[ExecutionLie::Market(1_000), ExecutionLie::SwallowSend, ExecutionLie::ForgetSent]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    assert!(bench.store.row("a").versions[0].max_fee_per_gas < 3 * GWEI, "the market is not its word alone");
    transactions.drive().await.unwrap();
    for other in ["second", "third"] {
        let told = || bench.liar.asked(other, "eth_sendRawTransaction") == 1;
        for _ in 0..100 {
            if told() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(told(), "the other nodes have it too");
    }
    bench.devnet.advance(1);
    assert_eq!(nonce(&bench).await, 1);
    bench.liar.set(NODE, [Lie::Status(503)]);
    bench.devnet.advance(FINAL);
    let outcomes = transactions.drive().await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
}
