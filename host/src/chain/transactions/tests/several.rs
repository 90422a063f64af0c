//! With several nodes, of which one lies or is down.

use super::lies::{nonce, waits};
use super::*;
use crate::chain::execution::Execution;
use crate::chain::profile::Profile;
use std::time::Duration;

/// The first of two can stop nothing, and has nothing signed under a nonce or with a gas limit that is of no use.
#[tokio::test]
async fn one_of_two_or_three_nodes_keeps_no_call_from_being_signed_as_it_has_to_be() {
    let lies = [
        Lie::Status(503),
        Lie::Execution(ExecutionLie::LatestNonceAhead(5)),
        Lie::Execution(ExecutionLie::NonceAhead(5)),
        Lie::Execution(ExecutionLie::EstimateSays("execution reverted")),
        Lie::Execution(ExecutionLie::Estimate(1_000)),
        Lie::Execution(ExecutionLie::Estimate(16_000_000)),
    ];
    // No node takes what has less gas than any transaction needs, whatever the only one says.
    let alone = [(&lies[4], &[][..])];
    let among = lies.iter().flat_map(|lie| [(lie, &["second"][..]), (lie, &["second", "third"])]);
    for (lie, others) in alone.into_iter().chain(among) {
        let bench = Bench::start().await;
        let transactions = bench.open_of(others);
        bench.liar.set(NODE, [lie.clone()]);
        transactions.submit("a", NOBODY, vec![1]).await.unwrap();
        let row = bench.store.row("a");
        assert_eq!(row.nonce, 0, "{lie:?}");
        assert!(row.versions[0].gas_limit > TRANSFER_GAS, "{lie:?}: {}", row.versions[0].gas_limit);
        transactions.submit("b", NOBODY, vec![2]).await.unwrap();
        bench.lie(&[]);
        bench.drive(&transactions, 5).await;
        assert_eq!(nonce(&bench).await, 2, "{lie:?}");
    }
}

#[tokio::test]
async fn the_wallet_is_looked_at_through_the_next_node_and_rows_too() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second"]);
    bench.liar.set(NODE, [Lie::Status(503)]);
    assert!(transactions.look_at_wallet().await.is_err());
    assert_eq!(transactions.look_at_wallet().await.unwrap(), [""; 0]);
    let ahead = || [Lie::Execution(ExecutionLie::LatestNonceAhead(5))];
    bench.liar.set(NODE, []);
    bench.liar.set("second", ahead());
    assert_eq!(transactions.look_at_wallet().await.unwrap(), [""; 0], "one node's word");
    bench.liar.set(NODE, ahead());
    assert_eq!(transactions.look_at_wallet().await.unwrap().len(), 1);
}

/// It refuses what it is sent and shows nothing; the others have taken it and mined it.
#[tokio::test]
async fn a_first_node_that_refuses_and_shows_no_receipt_is_not_asked_for_ever() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second", "third"]);
    bench.lie(&[
        ExecutionLie::SendSays(-32000, "insufficient funds for gas * price + value"),
        ExecutionLie::NoReceipts,
        ExecutionLie::Nonce(0),
    ]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    let outcomes = bench.drive(&transactions, 40 + FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
    bench.lie(&[]);
    assert_eq!(nonce(&bench).await, 1);
}

/// Neither is mined for long. One node says that the first one is, and the next node not that there is something before the second.
#[tokio::test]
async fn the_row_behind_one_with_a_made_up_receipt_keeps_its_nonce() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second", "third"]);
    let swallow = || Lie::Execution(ExecutionLie::SwallowSend);
    for name in [NODE, "second", "third"] {
        bench.liar.set(name, [swallow()]);
    }
    for key in ["a", "b"] {
        transactions.submit(key, NOBODY, vec![1]).await.unwrap();
    }
    bench.drive(&transactions, 60).await;
    bench.liar.set(NODE, [swallow(), Lie::Execution(ExecutionLie::FakeReceipt(true))]);
    bench.drive(&transactions, 30).await;
    let row = bench.store.row("b");
    assert_eq!((row.nonce, row.displaced.len()), (1, 0));
    for name in [NODE, "second", "third"] {
        bench.liar.set(name, []);
    }
    assert_eq!(bench.drive(&transactions, 20 + 2 * FINAL).await.len(), 2);
    assert_eq!(nonce(&bench).await, 2, "each once");
}

#[tokio::test]
async fn one_node_s_word_for_a_nonce_that_is_used_makes_no_call_twice() {
    for others in [&["second"][..], &["second", "third"]] {
        let bench = Bench::start().await;
        let transactions = bench.open_of(others);
        transactions.submit("a", NOBODY, vec![1]).await.unwrap();
        transactions.drive().await.unwrap();
        bench.lie(&[ExecutionLie::NonceAhead(5), ExecutionLie::NoReceipts]);
        let mut outcomes = bench.drive(&transactions, 30).await;
        assert_eq!(outcomes.len(), others.len() - 1, "of two nobody can say who is right: {outcomes:?}");
        bench.lie(&[]);
        outcomes.extend(bench.drive(&transactions, 2).await);
        assert!(
            matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]),
            "{outcomes:?}"
        );
        let row = bench.store.row("a");
        assert_eq!((row.nonce, row.displaced.len()), (0, 0));
        assert_eq!(nonce(&bench).await, 1);
    }
}

#[tokio::test]
async fn a_made_up_receipt_ends_nothing_that_others_contradict() {
    for success in [true, false] {
        // Of two nobody can say who lies. One that is down contradicts nobody.
        for (others, ends) in [(&["second"][..], false), (&["second", "third"], true)] {
            let bench = Bench::start().await;
            let transactions = bench.open_of(others);
            transactions.submit("a", NOBODY, vec![1]).await.unwrap();
            bench.lie(&[ExecutionLie::FakeReceipt(success)]);
            let outcomes = bench.drive(&transactions, 5 + FINAL).await;
            assert_eq!(nonce(&bench).await, 1, "it is sent, and once");
            let is_mined = |outcomes: &[Outcome]| matches!(outcomes, [Outcome { state: TransactionState::Mined { block, .. }, .. }] if *block > 1);
            assert!(if ends { is_mined(&outcomes) } else { outcomes.is_empty() }, "{others:?}: {outcomes:?}");
            if !ends {
                let listed = transactions.list().await;
                assert!(listed[0].is_wrong && waits(&listed, "a").contains("disagree"), "{listed:?}");
                bench.lie(&[]);
                let outcomes = bench.drive(&transactions, 2).await;
                assert!(is_mined(&outcomes), "{outcomes:?}");
            }
        }
    }
}

/// Also before anything was sent, and in a block that others can't have finalised: it takes more than half of all nodes.
#[tokio::test]
async fn a_made_up_receipt_ends_nothing_that_others_do_not_show_too() {
    let fake = |success| {
        let lies = [ExecutionLie::LatestAsFinal, ExecutionLie::FakeReceiptAtHead(success)];
        lies.map(Lie::Execution)
    };
    for (success, are_others_down) in [(true, false), (false, false), (true, true), (false, true)] {
        let bench = Bench::start().await;
        let transactions = bench.open_of(&["second", "third"]);
        transactions.submit("a", NOBODY, vec![1]).await.unwrap();
        bench.liar.set(NODE, fake(success));
        let down = if are_others_down { vec![Lie::Status(503)] } else { Vec::new() };
        for other in ["second", "third"] {
            bench.liar.set(other, down.clone());
        }
        assert_eq!(transactions.drive().await.unwrap(), [], "it was never sent");
        for other in ["second", "third"] {
            bench.liar.set(other, []);
        }
        let outcomes = bench.drive(&transactions, 5 + FINAL).await;
        assert!(
            matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { block, .. }, .. }] if *block > 1),
            "{success}, {are_others_down}: {outcomes:?}"
        );
        assert_eq!(nonce(&bench).await, 1, "it is sent, and once");
    }
}

#[tokio::test]
async fn of_two_nodes_one_that_is_down_holds_up_no_end() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second"]);
    bench.liar.set("second", [Lie::Status(503)]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    transactions.drive().await.unwrap();
    let outcomes = bench.drive(&transactions, FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn of_two_nodes_one_that_is_behind_is_waited_for_until_it_stands_still() {
    for place in 0..2 {
        let bench = Bench::start().await;
        let names = [NODE, "second"];
        let urls = names.map(|name| NodeUrl::parse(&bench.liar.url(name)).unwrap());
        let execution = Execution::connect_all(&urls, bench.chain_id, Profile::default()).await.unwrap();
        let execution = execution.looking_every(Duration::ZERO);
        let transactions = bench.open_at(execution.connections());
        transactions.submit("a", NOBODY, vec![1]).await.unwrap();
        transactions.drive().await.unwrap();
        bench.liar.set(names[place], [Lie::Execution(ExecutionLie::Behind(1_000))]);
        bench.devnet.advance(100);
        assert_eq!(bench.drive(&transactions, 3).await, [], "{place}: it may be the one that is right");
        // What the host asks its nodes all the time shows that the head does not move.
        for _ in 0..20 {
            execution.finalised_as_most_say().await.unwrap();
        }
        let outcomes = bench.drive(&transactions, 1).await;
        assert!(
            matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]),
            "{place}: {outcomes:?}"
        );
    }
}

#[tokio::test]
async fn a_first_node_that_stands_still_is_not_asked() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second", "third"]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    bench.lie(&[ExecutionLie::Behind(1_000), ExecutionLie::NoReceipts]);
    let outcomes = bench.drive(&transactions, 12 + FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn a_node_that_finalises_nothing_is_a_trouble_and_holds_up_no_end() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second", "third"]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    bench.lie(&[ExecutionLie::FinalBehind(1_000)]);
    transactions.drive().await.unwrap();
    for (blocks, is_wrong) in [(100, false), (100, true)] {
        // The blocks count from when the receipt was first seen.
        bench.drive(&transactions, 1).await;
        bench.devnet.advance(blocks);
        assert_eq!(bench.drive(&transactions, 1).await, []);
        let listed = transactions.list().await;
        assert_eq!((listed[0].is_wrong, waits(&listed, "a").contains("not final")), (is_wrong, true));
    }
    let outcomes = bench.drive(&transactions, 1).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn a_node_that_rests_is_asked_nothing_and_one_that_hangs_rests() {
    let bench = Bench::start().await;
    let nodes = [NODE, "second", "third"].map(|name| bench.node_of(name));
    let transactions = bench.open_at(nodes.to_vec());
    bench.liar.set("third", [Lie::Hang]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    let trouble = nodes[2].trouble().unwrap();
    assert!(trouble.contains("no answer in time"), "{trouble}");
    nodes[2].fail_often();
    let asked = bench.liar.asked("third", "eth_chainId");
    transactions.drive().await.unwrap();
    let outcomes = bench.drive(&transactions, FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
    assert_eq!(bench.liar.asked("third", "eth_chainId"), asked);
    // It is as if it were not there, and counts as configured: one of three is not most.
    transactions.submit("b", NOBODY, vec![2]).await.unwrap();
    transactions.drive().await.unwrap();
    nodes[1].fail_often();
    assert_eq!(bench.drive(&transactions, FINAL).await, []);
}

#[tokio::test]
async fn a_first_node_that_rests_is_passed_over() {
    let bench = Bench::start().await;
    let nodes = [NODE, "second"].map(|name| bench.node_of(name));
    let transactions = bench.open_at(nodes.to_vec());
    nodes[0].fail_often();
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    assert_eq!(transactions.look_at_wallet().await.unwrap(), [""; 0]);
    assert_eq!(bench.liar.asked(NODE, "eth_estimateGas"), 0);
}

#[tokio::test]
async fn what_a_transaction_has_cost_is_not_one_node_s_word() {
    for (lies, is_sure) in [(vec![], true), (vec![ExecutionLie::Paid(1)], false)] {
        let bench = Bench::start().await;
        let transactions = bench.open_of(&["second"]);
        bench.lie(&lies);
        transactions.submit("a", NOBODY, vec![1]).await.unwrap();
        transactions.drive().await.unwrap();
        let outcomes = bench.drive(&transactions, FINAL).await;
        assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{lies:?}");
        let row = bench.store.row("a");
        let cost = row.conclusion.unwrap().cost;
        assert_eq!((cost == row.worst_case(), cost > u128::from(TRANSFER_GAS)), (!is_sure, true), "{row:?}");
    }
}

/// A call that would be refused, or that the budget has no room for, is nobody's fault: the first node goes on being asked. One node's
/// word is not enough for either.
#[tokio::test]
async fn a_call_that_can_not_be_made_turns_no_node_and_takes_most_of_them() {
    let reverts = || Lie::Execution(ExecutionLie::EstimateSays("execution reverted"));
    let dear = || Lie::Execution(ExecutionLie::Estimate(16_000_000));
    for lie in [reverts(), dear()] {
        let (says, down) = (|| vec![lie.clone()], || vec![Lie::Status(503)]);
        // What each node says, and whether the call can be made.
        for (nodes, is_made) in [
            (vec![says()], false),
            (vec![says(), says()], false),
            (vec![says(), down()], false),
            (vec![says(), vec![]], true),
            (vec![says(), says(), vec![]], false),
            (vec![says(), vec![], vec![]], true),
            (vec![says(), vec![], down()], true),
        ] {
            let bench = Bench::start().await;
            let names = [NODE, "second", "third"];
            let connections = names.iter().zip(&nodes).map(|(name, lies)| {
                bench.liar.set(name, lies.clone());
                bench.node_of(name)
            });
            let rules = FeeRules { budget_per_day: 1_000_000 * GWEI, ..RULES };
            let store = Arc::clone(&bench.store) as Arc<dyn TransactionStore>;
            let wallet = Wallet::local(&WALLET).unwrap();
            let transactions =
                Transactions::open(connections.collect(), bench.chain_id, wallet, rules, store).unwrap();
            let submitted = transactions.submit("a", NOBODY, vec![1]).await;
            assert_eq!(submitted.is_ok(), is_made, "{nodes:?}: {submitted:?}");
            let asked = bench.liar.asked(NODE, "eth_getBalance");
            let _ = transactions.look_at_wallet().await;
            assert!(bench.liar.asked(NODE, "eth_getBalance") > asked, "{nodes:?}: {submitted:?}");
        }
    }
}

/// A row that has lost its nonce does not end by the word of one node for what its call would do.
#[tokio::test]
async fn one_node_s_word_that_a_call_would_revert_ends_none_that_has_lost_its_nonce() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second", "third"]);
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    bench.intrude().await;
    bench.devnet.advance(FINAL);
    bench.lie(&[ExecutionLie::EstimateSays("execution reverted")]);
    let outcomes = bench.drive(&transactions, 20 + FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
    assert_eq!((bench.store.row("a").nonce, nonce(&bench).await), (1, 2));
}

#[tokio::test]
async fn a_node_of_another_chain_has_no_say_in_the_market() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second"]);
    let lies = [ExecutionLie::WrongChain(99), ExecutionLie::Market(0)];
    bench.liar.set("second", lies.map(Lie::Execution));
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    assert!(bench.store.row("a").versions[0].max_fee_per_gas > GWEI);
}

#[tokio::test]
async fn a_node_that_rests_has_no_say_in_the_market_unless_all_rest() {
    let bench = Bench::start().await;
    let nodes = [NODE, "second", "third"].map(|name| bench.node_of(name));
    let transactions = bench.open_at(nodes.to_vec());
    // Two of three make a market.
    let dear = [Lie::Execution(ExecutionLie::Market(20))];
    bench.liar.set("second", dear.clone());
    bench.liar.set("third", dear);
    transactions.submit("dear", NOBODY, vec![1]).await.unwrap();
    let asked = || bench.liar.asked("second", "eth_feeHistory");
    nodes[1..].iter().for_each(Connection::fail_often);
    let before = asked();
    transactions.submit("cheap", NOBODY, vec![1]).await.unwrap();
    assert_eq!(asked(), before, "it is let alone");
    nodes[0].fail_often();
    transactions.submit("all rest", NOBODY, vec![1]).await.unwrap();
    assert!(asked() > before);
    let offers = ["dear", "cheap", "all rest"].map(|key| bench.store.row(key).versions[0].max_fee_per_gas);
    assert!(offers[0] > 2 * offers[1] && offers[0] == offers[2], "{offers:?}");
}

#[tokio::test]
async fn a_node_of_another_chain_has_no_say_in_what_was_lost_or_how_it_ended() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second", "third"]);
    let lies = [ExecutionLie::NonceAhead(5), ExecutionLie::NoReceipts];
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    transactions.drive().await.unwrap();
    bench.devnet.advance(2 * FINAL);
    bench.lie(&lies);
    let of_another = [&lies[..], &[ExecutionLie::WrongChain(99)]].concat();
    bench.liar.set("second", of_another.into_iter().map(Lie::Execution).collect::<Vec<_>>());
    bench.drive(&transactions, 15).await;
    assert_eq!(bench.store.row("a").displaced.len(), 0);

    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second"]);
    let lies = [ExecutionLie::NoReceipts, ExecutionLie::WrongChain(99)];
    bench.liar.set("second", lies.map(Lie::Execution));
    transactions.submit("a", NOBODY, vec![1]).await.unwrap();
    transactions.drive().await.unwrap();
    let outcomes = bench.drive(&transactions, FINAL).await;
    assert!(matches!(&outcomes[..], [Outcome { state: TransactionState::Mined { .. }, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn what_one_node_says_of_the_chain_is_not_held_against_another_node_s_rows() {
    let bench = Bench::start().await;
    let transactions = bench.open_of(&["second"]);
    for key in ["a", "b"] {
        transactions.submit(key, NOBODY, vec![1]).await.unwrap();
    }
    transactions.drive().await.unwrap();
    bench.devnet.advance(1);
    let hash = bench.store.row("a").versions[0].hash.to_string();
    bench.lie(&[ExecutionLie::LatestAsFinal, ExecutionLie::FailReceiptOf(hash)]);
    assert_eq!(transactions.drive().await.unwrap(), [], "it is not final");
    assert_eq!(waits(&transactions.list().await, "b"), "mined; its block is not final yet");
}
