use super::super::watch::Watch;
use super::super::{SignedVersion, TransactionState};
use super::*;
use postern_shared::ids::Address;

const GWEI: u128 = 1_000_000_000;
const RULES: FeeRules = FeeRules {
    max_fee_per_gas: 200 * GWEI,
    max_priority_fee_per_gas: 5 * GWEI,
    min_priority_fee_per_gas: GWEI / 10,
    raise_after_blocks: 5,
    budget_per_day: u128::MAX,
};
const NONCE: u64 = 4;
/// With its offer of 20.5 gwei and a tip of half a gwei.
const MARKET: Market = Market { base: 10 * GWEI, priority: GWEI / 2 };

fn version(max: u128, priority: u128, why: Why) -> SignedVersion {
    SignedVersion {
        hash: Digest([1; 32]),
        raw: vec![2],
        gas_limit: 100_000,
        max_fee_per_gas: max,
        max_priority_fee_per_gas: priority,
        sent_at_block: Some(90),
        why,
        cancels: false,
    }
}

fn row(versions: Vec<SignedVersion>) -> TransactionRow {
    let row = TransactionRow::new("key", Address([3; 20]), vec![], NONCE);
    TransactionRow { versions, state: TransactionState::Sent, ..row }
}

fn offering(max: u128, priority: u128) -> TransactionRow {
    row(vec![version(max, priority, Why::First)])
}

/// The next transaction, sent by this process, with its patience over.
fn seen() -> Observation {
    Observation {
        finalised: 90,
        receipt: None,
        shown_for: 0,
        displaced_for: None,
        is_next: true,
        newest: Watched { is_taken: true, waited: 5, age: 5, ..Watched::default() },
        affordable: u128::MAX,
        asked: Some(Asked { is_known: true, market: MARKET, nonce: NONCE, is_gap_own: false }),
    }
}

fn asked(edit: impl FnOnce(&mut Asked)) -> Observation {
    let mut asked = Asked { is_known: true, market: MARKET, nonce: NONCE, is_gap_own: false };
    edit(&mut asked);
    Observation { asked: Some(asked), ..seen() }
}

fn newest(edit: impl FnOnce(&mut Watched)) -> Observation {
    let mut seen = seen();
    edit(&mut seen.newest);
    seen
}

fn raise(max: u128, priority: u128, why: Why) -> Action {
    Action::Raise(Raise { fees: Fees { max, priority }, gas_limit: 100_000, why, cancels: false })
}

#[test]
fn a_transaction_that_was_not_sent_by_this_process_is_sent_and_not_twice_at_a_head() {
    let not_taken = |edit: fn(&mut Watched)| {
        newest(|newest| {
            newest.is_taken = false;
            newest.waited = 0;
            edit(newest);
        })
    };
    for (seen, action) in [
        (not_taken(|_| {}), Action::Send),
        (Observation { is_next: false, ..not_taken(|_| {}) }, Action::Send),
        (not_taken(|newest| newest.is_looked_at = true), Action::Stay),
    ] {
        assert_eq!(decide(&offering(GWEI, GWEI), &Observation { asked: None, ..seen }, &RULES), action);
    }
}

#[test]
fn nothing_is_asked_and_nothing_done_before_patience_is_over_or_for_those_that_wait_behind_others() {
    let row = offering(GWEI, GWEI / 10);
    let quiet = |seen: Observation| Observation { asked: None, ..seen };
    let early = quiet(newest(|newest| newest.waited = 4));
    let behind = quiet(Observation { is_next: false, ..seen() });
    let looked_at = quiet(newest(|newest| newest.is_looked_at = true));
    for (seen, action) in [
        (early, Action::Wait(Waiting::Block)),
        (behind, Action::Wait(Waiting::Turn)),
        (looked_at, Action::Stay),
    ] {
        assert!(!asks(&row, &seen, &RULES), "{seen:?}");
        assert_eq!(decide(&row, &seen, &RULES), action, "{seen:?}");
    }
    assert!(asks(&row, &quiet(seen()), &RULES));
}

#[test]
fn an_offer_follows_the_market_and_no_further() {
    let (at_market, half) = (20 * GWEI + GWEI / 2, GWEI / 2);
    for (what, row, seen, action) in [
        ("at the market", offering(at_market, half), seen(), Action::Wait(Waiting::Block)),
        ("enough for the next block", offering(11 * GWEI, GWEI), seen(), Action::Wait(Waiting::Block)),
        ("far above the market", offering(150 * GWEI, GWEI / 10), seen(), Action::Wait(Waiting::Block)),
        ("below", offering(2 * GWEI, GWEI / 10), seen(), raise(at_market, half, Why::Market)),
        (
            "a little below: what replaces it",
            offering(20 * GWEI, 4 * GWEI / 10),
            seen(),
            raise(22_500_000_000, half, Why::Market),
        ),
        ("a node forgot it", offering(GWEI, GWEI / 10), asked(|asked| asked.is_known = false), Action::Send),
        (
            "it forgot it again",
            offering(GWEI, GWEI / 10),
            Observation {
                newest: newest(|newest| newest.is_reminded = true).newest,
                ..asked(|asked| asked.is_known = false)
            },
            raise(at_market, half, Why::Market),
        ),
        (
            "its nonce may be used",
            offering(GWEI, GWEI / 10),
            asked(|asked| asked.nonce = NONCE + 1),
            Action::Wait(Waiting::Nonce { blocks: 5 }),
        ),
        (
            "one before it is missing",
            offering(GWEI, GWEI / 10),
            asked(|asked| asked.nonce = NONCE - 1),
            Action::Wait(Waiting::Gap { nonce: NONCE - 1 }),
        ),
    ] {
        assert_eq!(decide(&row, &seen, &RULES), action, "{what}");
    }
}

#[test]
fn what_offers_enough_and_is_not_mined_goes_one_step_above_the_market_and_is_stuck() {
    let late = || newest(|newest| newest.age = 50);
    let stuck = Action::Wait(Waiting::Stuck { blocks: 50 });
    let (max, priority) = (40 * GWEI, GWEI);
    let first = || version(max, priority, Why::First);
    let step = || version(45 * GWEI, 1_125_000_000, Why::Step);
    for (versions, action) in [
        (vec![first()], raise(45 * GWEI, 1_125_000_000, Why::Step)),
        (vec![first(), step()], stuck.clone()),
        (vec![first(), step(), version(50 * GWEI, 2 * GWEI, Why::Refusal)], stuck.clone()),
        // The market came after it, and went.
        (
            vec![first(), step(), version(80 * GWEI, GWEI, Why::Market)],
            raise(90 * GWEI, 1_125_000_000, Why::Step),
        ),
        (vec![version(190 * GWEI, GWEI, Why::First)], stuck.clone()),
    ] {
        assert_eq!(decide(&row(versions.clone()), &late(), &RULES), action, "{versions:?}");
    }
    let gone = Observation { newest: late().newest, ..asked(|asked| asked.nonce = NONCE + 1) };
    assert_eq!(decide(&offering(max, priority), &gone, &RULES), stuck);
    let gap = Observation { newest: late().newest, ..asked(|asked| asked.nonce = NONCE - 1) };
    assert_eq!(decide(&offering(max, priority), &gap, &RULES), Action::Renumber);
    let cancels = SignedVersion { cancels: true, ..version(max, priority, Why::Cancel) };
    let cancelled = TransactionRow { cancel: true, ..row(vec![cancels]) };
    assert_eq!(decide(&cancelled, &gap, &RULES), Action::Drop);
}

#[test]
fn limits_and_budget_hold_and_are_named() {
    let dear = || asked(|asked| asked.market = Market { base: 1_000 * GWEI, priority: 100 * GWEI });
    let limit = |offered| Action::Wait(Waiting::Limit { offered });
    let poor = |affordable| Observation { affordable, ..seen() };
    let worst = (20 * GWEI + GWEI / 2) * 100_000;
    for (what, row, seen, action) in [
        ("up to the limits", offering(GWEI, GWEI), dear(), raise(200 * GWEI, 5 * GWEI, Why::Market)),
        ("no room for a replacement", offering(190 * GWEI, GWEI), dear(), limit(190 * GWEI)),
        ("none for the tip", offering(20 * GWEI, 4_900_000_000), dear(), limit(20 * GWEI)),
        ("just affordable", offering(GWEI, GWEI / 10), poor(worst), {
            raise(20 * GWEI + GWEI / 2, GWEI / 2, Why::Market)
        }),
        ("not affordable", offering(GWEI, GWEI / 10), poor(worst - 1), Action::Wait(Waiting::Budget)),
    ] {
        assert_eq!(decide(&row, &seen, &RULES), action, "{what}");
    }
}

#[test]
fn the_text_of_a_refusal_moves_the_offer_after_patience_and_not_beyond_twice_the_market() {
    let refused = |refusal, waited| {
        newest(|newest| {
            newest.is_taken = false;
            newest.refusal = Some(refusal);
            newest.waited = waited;
        })
    };
    let other = || SendRefusal::Other("no".to_owned());
    let low = || SendRefusal::FeesTooLow("low".to_owned());
    let unsent = |max: u128| {
        let version = SignedVersion { sent_at_block: None, ..version(max, GWEI, Why::Market) };
        row(vec![version])
    };
    // A node may hold the one before.
    let held = |held: u128, max: u128| {
        let mut row = unsent(max);
        row.versions.insert(0, version(held, GWEI, Why::First));
        row
    };
    let bumped = 1_125_000_000;
    // It went beyond twice the market already, for a node that has taken it meanwhile.
    let above = || row(vec![version(40 * GWEI, GWEI, Why::First), version(45 * GWEI, GWEI, Why::Refusal)]);
    for (what, row, seen, action) in [
        ("one that went above", above(), refused(SendRefusal::ReplacementUnderpriced, 5), Action::Send),
        ("underpriced", unsent(30 * GWEI), refused(SendRefusal::ReplacementUnderpriced, 5), {
            raise(33_750_000_000, bumped, Why::Refusal)
        }),
        ("unknown", unsent(30 * GWEI), refused(other(), 5), raise(33_750_000_000, bumped, Why::Refusal)),
        ("too low", unsent(GWEI), refused(low(), 5), raise(20 * GWEI + GWEI / 2, bumped, Why::Refusal)),
        ("beyond twice the market", unsent(40 * GWEI), refused(other(), 5), Action::Send),
        ("a replacement", held(40 * GWEI, 40 * GWEI), refused(other(), 5), {
            raise(45 * GWEI, bumped, Why::Refusal)
        }),
        ("one that replaces already", held(40 * GWEI, 45 * GWEI), refused(other(), 5), Action::Send),
        ("used", unsent(GWEI), refused(SendRefusal::NonceTooLow, 5), Action::Send),
        ("poor", unsent(GWEI), refused(SendRefusal::InsufficientFunds("no".to_owned()), 5), Action::Send),
    ] {
        assert_eq!(decide(&row, &seen, &RULES), action, "{what}");
    }
    let early = refused(SendRefusal::ReplacementUnderpriced, 4);
    assert!(!asks(&unsent(GWEI), &Observation { asked: None, ..early.clone() }, &RULES));
    assert_eq!(decide(&unsent(GWEI), &Observation { asked: None, ..early }, &RULES), Action::Send);
    let behind = Observation { is_next: false, ..refused(SendRefusal::ReplacementUnderpriced, 5) };
    assert_eq!(decide(&unsent(GWEI), &behind, &RULES), Action::Send);
}

#[test]
fn only_a_finalised_receipt_concludes() {
    let receipt = |block| Receipt { hash: Digest([1; 32]), block, success: true, gas_used: 1, price: 1 };
    let at = |block| Observation { receipt: Some(receipt(block)), ..seen() };
    let row = offering(GWEI, GWEI);
    assert_eq!(decide(&row, &at(91), &RULES), Action::Wait(Waiting::Finality { blocks: 0 }));
    for (blocks, is_wrong) in [(159, false), (160, true)] {
        let Action::Wait(waiting) = decide(&row, &Observation { shown_for: blocks, ..at(91) }, &RULES) else {
            panic!("not waited for")
        };
        assert_eq!(
            (waiting.is_wrong(), waiting.may_be_a_node_s_fault()),
            (is_wrong, is_wrong),
            "{waiting:?}"
        );
    }
    assert_eq!(decide(&row, &at(90), &RULES), Action::Conclude(receipt(90)));
    let both = Observation { displaced_for: Some(9), ..at(90) };
    assert_eq!(decide(&row, &both, &RULES), Action::Conclude(receipt(90)));
}

#[test]
fn a_lost_nonce_is_given_up_only_after_patience() {
    let after = |blocks| Observation { displaced_for: Some(blocks), ..seen() };
    let row = offering(GWEI, GWEI);
    assert_eq!(decide(&row, &after(4), &RULES), Action::Wait(Waiting::Nonce { blocks: 4 }));
    assert_eq!(decide(&row, &after(5), &RULES), Action::Renumber);
    let cancelled = TransactionRow { cancel: true, ..row };
    assert_eq!(decide(&cancelled, &after(5), &RULES), Action::Drop);
}

#[test]
fn a_final_transaction_is_left_alone() {
    let state = TransactionState::Mined { hash: Digest([1; 32]), block: 5 };
    let done = TransactionRow { state, ..offering(GWEI, GWEI) };
    assert!(!asks(&done, &Observation { asked: None, ..seen() }, &RULES));
    assert_eq!(decide(&done, &seen(), &RULES), Action::Stay);
}

#[test]
fn what_is_to_be_cancelled_is_replaced_at_once_by_a_transfer() {
    let row = TransactionRow { cancel: true, ..offering(40 * GWEI, GWEI) };
    let fresh = Observation { is_next: false, asked: None, ..newest(|newest| newest.waited = 0) };
    assert!(asks(&row, &fresh, &RULES));
    let fees = Fees { max: 45 * GWEI, priority: 1_125_000_000 };
    let cancel = Raise { fees, gas_limit: TRANSFER_GAS, why: Why::Cancel, cancels: true };
    let answered = Observation { asked: seen().asked, ..fresh };
    assert_eq!(decide(&row, &answered, &RULES), Action::Raise(cancel));
    // Once it is, the transfer follows the market.
    let mut cancelled = row;
    cancelled.versions.push(SignedVersion { cancels: true, ..version(2 * GWEI, GWEI, Why::Cancel) });
    let Action::Raise(raise) = decide(&cancelled, &seen(), &RULES) else { panic!("not raised") };
    assert!(raise.cancels && raise.gas_limit == TRANSFER_GAS && raise.why == Why::Market);
}

/// Sequences of whatever a node may answer, at random, always the same ones.
#[cfg(feature = "devnet")]
#[test]
fn no_sequence_of_answers_takes_an_offer_beyond_the_limits_or_the_market() {
    let mut highest = 0;
    for seed in 0..2_000 {
        highest = highest.max(any_sequence(seed, false)).max(any_sequence(seed, true));
    }
    assert!(highest > 0, "some were raised");
}

/// How often the offer was raised. The market may be constant: then only what is made of refusals can take the offer higher.
#[cfg(feature = "devnet")]
fn any_sequence(seed: u64, is_constant: bool) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let span = 1 << random.u32(1..11);
    let market = |random: &mut fastrand::Rng| Market {
        base: random.u128(1..=u128::from(span as u64)) * GWEI / 4,
        priority: random.u128(0..8 * GWEI),
    };
    // Of several, what would be offered without limits.
    let unlimited = FeeRules { max_fee_per_gas: u128::MAX, max_priority_fee_per_gas: u128::MAX, ..RULES };
    let first = market(&mut random);
    let constant = first;
    let (mut highest, offer) = (first.offer(&unlimited).max, first.offer(&RULES));
    let first = SignedVersion { sent_at_block: None, ..version(offer.max, offer.priority, Why::First) };
    let mut row = row(vec![first]);
    let (mut head, mut raised_at, mut raised) = (100_u64, None, 0);
    let mut watch = Watch::new(Digest([1; 32]), head);
    for _ in 0..400 {
        head = if random.u8(..) == 0 { random.u64(..) } else { head.saturating_add(random.u64(0..8)) };
        let newest = watch.look(head);
        let affordable = random.u128(0..=highest * 200_000);
        let is_next = random.u8(0..8) > 0;
        let mut seen = Observation { newest, affordable, is_next, asked: None, ..seen() };
        if asks(&row, &seen, &RULES) {
            let market = if is_constant { constant } else { market(&mut random) };
            highest = highest.max(market.offer(&unlimited).max);
            seen.asked = Some(Asked { is_known: random.bool(), market, nonce: NONCE, is_gap_own: false });
            watch.looked_at(head);
        }
        match decide(&row, &seen, &RULES) {
            Action::Send => {
                watch.looked_at(head);
                match random.u8(0..6) {
                    0 => watch.refused(SendRefusal::ReplacementUnderpriced),
                    1 => watch.refused(SendRefusal::FeesTooLow(String::new())),
                    2 => watch.refused(SendRefusal::Other(String::new())),
                    3 => watch.refused(SendRefusal::NonceTooLow),
                    _ => {
                        watch.taken(head);
                        row.versions.last_mut().unwrap().sent_at_block.get_or_insert(head);
                    }
                }
            }
            Action::Raise(Raise { fees, gas_limit, why, .. }) => {
                assert!(fees.max <= RULES.max_fee_per_gas && fees.priority <= RULES.max_priority_fee_per_gas);
                assert!(fees.priority <= fees.max, "{fees:?}");
                assert!(fees.max <= highest / 4 * 9 + 9, "seed {seed}: {fees:?}, the market was {highest}");
                assert!(fees.worst_case(gas_limit) <= affordable, "seed {seed}");
                let before = row.versions.last().unwrap().fees();
                assert!(fees.max >= before.bumped().max && fees.priority >= before.bumped().priority);
                let waited =
                    raised_at.is_none_or(|at: u64| head < at || head - at >= RULES.raise_after_blocks);
                assert!(waited, "seed {seed}: raised twice within patience");
                (raised_at, raised) = (Some(head), raised + 1);
                let version = version(fees.max, fees.priority, why);
                row.versions.push(SignedVersion { sent_at_block: None, ..version });
                watch = Watch::new(Digest([1; 32]), head);
            }
            _ => {}
        }
    }
    raised
}
