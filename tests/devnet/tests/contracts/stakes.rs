//! Whose the ether is, and how it comes back.

use super::chain::{Bench, CHAIN_ID, Chain, DELAYS, DepositBytes, GOVERNOR, STRANGER, manager_code, staker};
use crate::support::dao::Dao;
use crate::support::{ETHER, Pool, PoolManager};
use alloy::eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS as WITHDRAWALS;
use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::{SolCall as _, SolError as _, SolEvent as _};
use revm::primitives::TxKind;

fn claim(pool: u32) -> PoolManager::claimCall {
    PoolManager::claimCall { poolId: pool }
}

fn trigger(pool: u32) -> PoolManager::triggerExitCall {
    PoolManager::triggerExitCall { poolId: pool, proof: Bytes::new() }
}

fn request(pools: Vec<u32>) -> PoolManager::requestPoolExitsCall {
    let (reason, proof) = ("maintenance".into(), Bytes::new());
    PoolManager::requestPoolExitsCall { poolIds: pools, reason, walletProof: proof }
}

fn refund(pool: u32) -> PoolManager::refundPoolCall {
    PoolManager::refundPoolCall { poolId: pool }
}

fn contribution(bench: &mut Bench, pool: u32, who: Address) -> u128 {
    bench.ask(&PoolManager::contributionOfCall { poolId: pool, staker: who }).to()
}

fn claimable(bench: &mut Bench, pool: u32, who: Address) -> u128 {
    bench.ask(&PoolManager::claimableCall { poolId: pool, staker: who }).to()
}

/// What an account gains by a call.
fn gain(bench: &mut Bench, who: Address, call: impl FnOnce(&mut Bench)) -> u128 {
    let before = bench.chain.balance(who);
    call(bench);
    bench.chain.balance(who) - before
}

#[test]
fn stake_fills_pools_and_what_fills_none_comes_back() {
    let mut bench = Bench::new(3);
    bench.stake(staker(0), 20 * ETHER);
    let done = bench.send(staker(1), 50 * ETHER, &PoolManager::stakeCall {}).unwrap();
    let parts: Vec<_> = done
        .logs
        .iter()
        .filter_map(|log| PoolManager::Contributed::decode_log(log).ok())
        .map(|event| (event.poolId, event.amount.to::<u128>() / ETHER))
        .collect();
    assert_eq!(parts, [(1, 12), (2, 32), (3, 6)]);
    let staked = PoolManager::Staked::decode_log(done.logs.last().unwrap()).unwrap();
    assert_eq!((staked.amount, staked.unpooled), (U256::from(50 * ETHER), U256::from(6 * ETHER)));
    assert_eq!(bench.ask(&PoolManager::poolCountCall {}), 2);
    assert_eq!(contribution(&mut bench, 1, staker(0)), 20 * ETHER);
    for pool in [1, 2] {
        assert_eq!(bench.ask(&PoolManager::getPoolAddressCall { poolId: pool }), bench.pool(pool));
    }

    let unstake = |wei: u128| PoolManager::unstakeCall { amount: U256::from(wei) };
    assert!(bench.refusal(staker(1), &unstake(6 * ETHER + 1)).is::<PoolManager::UnstakeAboveContribution>());
    assert!(bench.refusal(staker(0), &unstake(1)).is::<PoolManager::UnstakeAboveContribution>());
    assert!(bench.refusal(staker(1), &unstake(0)).is::<PoolManager::ZeroAmount>());
    assert!(bench.refusal(staker(1), &PoolManager::stakeCall {}).is::<PoolManager::ZeroAmount>());
    let back =
        gain(&mut bench, staker(1), |bench| _ = bench.send(staker(1), 0, &unstake(6 * ETHER)).unwrap());
    assert_eq!(back, 6 * ETHER);
    assert_eq!(bench.chain.balance(bench.manager), 64 * ETHER);

    // Nothing but stake goes in.
    assert!(bench.chain.send_raw(staker(0), TxKind::Call(bench.manager), 1, Bytes::new()).is_err());
}

#[test]
fn a_pool_without_a_validator_is_refunded_after_the_delay() {
    let mut bench = Bench::new(3);
    bench.stake(staker(0), 12 * ETHER);
    bench.stake(staker(1), 20 * ETHER);
    assert!(bench.refusal(staker(0), &claim(1)).is::<PoolManager::NothingToClaim>());
    bench.chain.advance(DELAYS.refund - 1);
    assert!(bench.refusal(STRANGER, &refund(1)).is::<PoolManager::TooEarly>());
    assert!(bench.refusal(STRANGER, &refund(2)).is::<PoolManager::WrongStatus>());
    bench.chain.advance(1);
    let deposit = bench.deposit_call(1, 0);
    bench.send(STRANGER, 0, &refund(1)).unwrap();
    assert_eq!(bench.chain.balance(bench.pool(1)), 32 * ETHER);
    // Refunded or deposited, never both.
    assert!(bench.refusal(STRANGER, &deposit).is::<PoolManager::WrongStatus>());
    assert!(bench.refusal(STRANGER, &refund(1)).is::<PoolManager::WrongStatus>());
    assert!(bench.refusal(GOVERNOR, &request(vec![1])).is::<PoolManager::WrongStatus>());
    assert!(bench.refusal(GOVERNOR, &trigger(1)).is::<PoolManager::WrongStatus>());
    for (who, ether) in [(staker(0), 12), (staker(1), 20)] {
        let back = gain(&mut bench, who, |bench| _ = bench.send(who, 0, &claim(1)).unwrap());
        assert_eq!(back, ether * ETHER);
        assert!(bench.refusal(who, &claim(1)).is::<PoolManager::NothingToClaim>());
    }
    assert!(bench.refusal(STRANGER, &claim(1)).is::<PoolManager::NothingToClaim>());

    let mut deposited = Bench::deposited(3);
    deposited.chain.advance(DELAYS.refund);
    assert!(deposited.refusal(STRANGER, &refund(1)).is::<PoolManager::WrongStatus>());
}

#[test]
fn what_comes_back_is_shared_by_contribution() {
    let mut bench = Bench::new(3);
    // An early gift to an address that is known before there is a contract is the stakers' too.
    bench.chain.credit(bench.pool(1), 7);
    bench.stake(staker(0), 10 * ETHER + 1);
    bench.stake(staker(1), 11 * ETHER);
    bench.stake(staker(2), 11 * ETHER - 1);
    assert_eq!(claimable(&mut bench, 1, staker(0)), 0);
    let call = bench.deposit_call(1, 0);
    bench.send(STRANGER, 0, &call).unwrap();

    // Rewards, then what a slashing has left; each claims when it likes.
    let parts = [10 * ETHER + 1, 11 * ETHER, 11 * ETHER - 1];
    let (mut came, mut got) = (7u128, [0u128; 3]);
    for (wei, who) in [(ETHER / 100 + 3, Some(0)), (31 * ETHER + 5, Some(2)), (1, None)] {
        bench.chain.credit(bench.pool(1), wei);
        came += wei;
        for ((number, part), got) in (0..).zip(parts).zip(got) {
            let share = U256::from(part) * U256::from(came) / U256::from(32 * ETHER);
            assert_eq!(claimable(&mut bench, 1, staker(number)), share.to::<u128>() - got);
        }
        if let Some(number) = who {
            let address = staker(number as u8);
            got[number] += gain(&mut bench, address, |bench| _ = bench.send(address, 0, &claim(1)).unwrap());
        }
    }
    for (number, got) in (0..).zip(&mut got) {
        let address = staker(number);
        if claimable(&mut bench, 1, address) > 0 {
            *got += gain(&mut bench, address, |bench| _ = bench.send(address, 0, &claim(1)).unwrap());
        }
    }
    let left = bench.chain.balance(bench.pool(1));
    assert_eq!(got.iter().sum::<u128>() + left, came);
    assert!(left < 3, "only what rounding leaves");
}

/// Has a recovery proposed. Gives the call that puts it in force.
fn propose(bench: &mut Bench, number: u32, next: &Dao) -> PoolManager::executeRecoveryCall {
    let digest = bench.place(0).recovery(number, next);
    let proof = bench.dao.wallet_proof(digest, bench.dao.wallet_quorum.into());
    let proposal = PoolManager::proposeRecoveryCall { proposal: next.proposal(), walletProof: proof };
    bench.send(STRANGER, 0, &proposal).unwrap();
    PoolManager::executeRecoveryCall { manifest: next.manifest, newTerms: next.terms() }
}

#[test]
fn stakers_are_out_before_a_recovery_is_in() {
    let mut bench = Bench::new(3);
    let mut next = bench.dao.next();
    next.enclaves = (0..3).map(|number| Some(crate::support::dao::key(6_000 + number))).collect();
    // A pool that is full in the block before the proposal is the last that there can be.
    bench.stake(staker(0), 40 * ETHER);
    let execute = propose(&mut bench, 1, &next);

    // Nobody can fill a pool now, and so lock in who could still take the stake back.
    let stake = PoolManager::stakeCall {};
    let refused = bench.chain.refusal(staker(1), bench.manager, 24 * ETHER, &stake);
    assert_eq!(refused.0, PoolManager::RecoveryPending { number: 1 }.abi_encode());

    // A refund is due when half of the delay has passed.
    bench.chain.advance(DELAYS.refund);
    assert!(bench.refusal(STRANGER, &execute).is::<PoolManager::TooEarly>());
    let unstake = PoolManager::unstakeCall { amount: U256::from(8 * ETHER) };
    let back = gain(&mut bench, staker(0), |bench| {
        bench.send(staker(0), 0, &unstake).unwrap();
        bench.send(STRANGER, 0, &refund(1)).unwrap();
        bench.send(staker(0), 0, &claim(1)).unwrap();
    });
    assert_eq!(back, 40 * ETHER);
    bench.chain.advance(DELAYS.refund - 1);
    assert!(bench.refusal(STRANGER, &execute).is::<PoolManager::TooEarly>());
    bench.chain.advance(DELAYS.recovery - 2 * DELAYS.refund + 1);
    assert!(bench.chain.refusal(staker(1), bench.manager, 1, &stake).is::<PoolManager::RecoveryPending>());
    bench.send(STRANGER, 0, &execute).unwrap();
    bench.dao = next;
    bench.stake(staker(1), 1);

    // The same with one that the enclaves object to.
    let next = bench.dao.next();
    propose(&mut bench, 2, &next);
    assert!(bench.chain.refusal(staker(1), bench.manager, 1, &stake).is::<PoolManager::RecoveryPending>());
    let proof = bench.dao.enclave_proof(bench.place(0).cancel_recovery(2, &next));
    bench.send(STRANGER, 0, &PoolManager::cancelRecoveryCall { proof }).unwrap();
    bench.stake(staker(1), 1);
}

#[test]
fn a_requested_exit_cannot_be_withheld() {
    let mut bench = Bench::deposited(3);
    assert!(bench.refusal(STRANGER, &trigger(1)).is::<PoolManager::ExitNotRequested>());
    assert!(bench.refusal(STRANGER, &request(vec![1])).is::<PoolManager::OnlyGovernor>());
    assert!(bench.refusal(GOVERNOR, &request(vec![1, 2])).is::<PoolManager::WrongStatus>());
    let done = bench.send(GOVERNOR, 0, &request(vec![1, 1])).unwrap();
    assert_eq!(done.logs.len(), 4);
    let reason = PoolManager::PoolExitReason::decode_log(&done.logs[1]).unwrap();
    assert_eq!((reason.poolId, reason.reason.as_str()), (1, "maintenance"));

    // Asking again does not begin the delay again.
    bench.chain.advance(DELAYS.exit - 1);
    bench.send(GOVERNOR, 0, &request(vec![1])).unwrap();
    let early = bench.chain.refusal(STRANGER, bench.manager, 1, &trigger(1));
    assert!(early.is::<PoolManager::TooEarly>());
    bench.chain.advance(1);
    bench.send(STRANGER, 1, &trigger(1)).unwrap();
    bench.send(STRANGER, 1, &trigger(1)).unwrap();
    let key = Bytes::copy_from_slice(&DepositBytes::of(bench.manager, 1, 0).key);
    assert_eq!(bench.chain.advance(1), [(bench.pool(1), key.clone()), (bench.pool(1), key)]);
    assert_eq!(bench.ask(&PoolManager::getPoolCall { poolId: 1 }).status, 3);
}

/// A governor that is lost or idle must not keep the principal in.
#[test]
fn wallets_can_ask_for_exits_in_the_governors_place() {
    let mut bench = Bench::new(3);
    bench.stake(staker(0), 96 * ETHER);
    for pool in [1, 2] {
        let call = bench.deposit_call(pool, 0);
        bench.send(STRANGER, 0, &call).unwrap();
    }
    let proven = |bench: &Bench, signed: &[u32], asked: &[u32]| PoolManager::requestPoolExitsCall {
        walletProof: bench.dao.wallet_proof(bench.place(0).request_exits(signed, "maintenance"), 2),
        ..request(asked.to_vec())
    };
    let right = proven(&bench, &[1, 2], &[1, 2]);
    for asked in [&[1][..], &[2, 1], &[1, 2, 2], &[]] {
        let other = proven(&bench, &[1, 2], asked);
        assert!(bench.refusal(STRANGER, &other).is::<PoolManager::ProofSignature>(), "{asked:?}");
    }
    let other = PoolManager::requestPoolExitsCall { reason: "malice".into(), ..right.clone() };
    assert!(bench.refusal(STRANGER, &other).is::<PoolManager::ProofSignature>());
    let enclaves = bench.dao.enclave_proof(bench.place(0).request_exits(&[1, 2], "maintenance"));
    let enclaves = PoolManager::requestPoolExitsCall { walletProof: enclaves, ..right.clone() };
    assert!(bench.refusal(STRANGER, &enclaves).is::<PoolManager::ProofSignature>());
    // A pool without a validator has nothing to leave.
    assert!(bench.refusal(STRANGER, &proven(&bench, &[3], &[3])).is::<PoolManager::WrongStatus>());

    let done = bench.send(STRANGER, 0, &right).unwrap();
    let asked: Vec<_> =
        done.logs.iter().filter_map(|log| PoolManager::PoolExitRequested::decode_log(log).ok()).collect();
    assert_eq!(asked.iter().map(|event| event.poolId).collect::<Vec<_>>(), [1, 2]);
    let reason = PoolManager::PoolExitReason::decode_log(&done.logs[3]).unwrap();
    assert_eq!((reason.poolId, reason.reason.as_str()), (2, "maintenance"));
    // Once more, which does not begin the delay again, and neither does the governor, who keeps the right.
    bench.chain.advance(DELAYS.exit - 1);
    bench.send(staker(0), 0, &right).unwrap();
    bench.send(GOVERNOR, 0, &request(vec![1, 2])).unwrap();
    assert!(bench.chain.refusal(STRANGER, bench.manager, 1, &trigger(2)).is::<PoolManager::TooEarly>());
    bench.chain.advance(1);
    bench.send(STRANGER, 1, &trigger(2)).unwrap();
    // Not in another epoch.
    bench.advance(bench.dao.next());
    assert!(bench.refusal(STRANGER, &right).is::<PoolManager::ProofSignature>());
}

#[test]
fn the_caller_pays_for_an_exit_and_never_more_than_it_said() {
    let mut bench = Bench::deposited(3);
    bench.chain.credit(bench.pool(1), ETHER);
    // Nothing comes from the pool's ether.
    assert!(bench.refusal(GOVERNOR, &trigger(1)).is::<Pool::FeeAboveMaximum>());
    for _ in 0..60 {
        bench.send(GOVERNOR, 1, &trigger(1)).unwrap();
    }
    bench.chain.advance(1);
    // 58 above the target: e^(58/17), in whole numbers.
    let short = bench.chain.refusal(GOVERNOR, bench.manager, 28, &trigger(1));
    let expected = Pool::FeeAboveMaximum { fee: U256::from(29), maximum: U256::from(28) };
    assert_eq!(short.0, expected.abi_encode());
    let before = bench.chain.balance(GOVERNOR);
    let done = bench.send(GOVERNOR, ETHER, &trigger(1)).unwrap();
    let event = PoolManager::ExitTriggered::decode_log(done.logs.last().unwrap()).unwrap();
    assert_eq!((event.poolId, event.fee), (1, U256::from(29)));
    assert_eq!(before - bench.chain.balance(GOVERNOR), 29);
    assert_eq!(bench.chain.balance(WITHDRAWALS), 60 + 29);
    assert_eq!(bench.chain.balance(bench.pool(1)), ETHER);
    assert_eq!(bench.chain.balance(bench.manager), 0);

    // A caller that takes no ether back cannot leave its surplus behind.
    let deaf = bench.deposits;
    bench.chain.credit(deaf, ETHER);
    let proof = bench.dao.enclave_proof(bench.place(1).trigger_exit());
    let call = PoolManager::triggerExitCall { poolId: 1, proof };
    assert!(bench.chain.refusal(deaf, bench.manager, 30, &call).is::<Pool::TransferFailed>());
    bench.chain.send(deaf, bench.manager, 29, &call).unwrap();
}

#[test]
fn without_the_contract_of_eip_7002_no_fee_is_swallowed() {
    let mut bench = Bench::deposited(3);
    bench.chain.remove(WITHDRAWALS);
    let refused = bench.chain.refusal(GOVERNOR, bench.manager, ETHER, &trigger(1));
    assert!(refused.is::<Pool::NoWithdrawalRequests>());
}

#[test]
fn a_pool_obeys_its_manager_alone() {
    let mut bench = Bench::deposited(3);
    let pool = bench.pool(1);
    bench.chain.credit(pool, ETHER);
    for from in [GOVERNOR, STRANGER, staker(0)] {
        let pay = Pool::payCall { to: from, amount: U256::ONE };
        assert!(bench.chain.refusal(from, pool, 0, &pay).is::<Pool::OnlyManager>());
        let exit = Pool::requestExitCall { publicKey: Bytes::from_static(&[0; 48]), surplusTo: from };
        assert!(bench.chain.refusal(from, pool, 1, &exit).is::<Pool::OnlyManager>());
    }
    // Anybody may give.
    bench.chain.send_raw(STRANGER, TxKind::Call(pool), 5, Bytes::new()).unwrap();
    assert_eq!(bench.chain.balance(pool), ETHER + 5);
    // The code behind a pool's address is the one that the manager names.
    let hash = bench.ask(&PoolManager::poolCodeHashCall {});
    assert_eq!(hash, alloy::primitives::keccak256(&*Pool::BYTECODE));
}

#[test]
fn the_governor_hands_over_in_two_steps() {
    let mut bench = Bench::deposited(3);
    let propose = |proposed| PoolManager::proposeGovernorCall { proposed };
    let accept = PoolManager::acceptGovernorCall {};
    assert!(bench.refusal(STRANGER, &propose(STRANGER)).is::<PoolManager::OnlyGovernor>());
    assert!(bench.refusal(STRANGER, &accept).is::<PoolManager::OnlyGovernor>());
    bench.send(GOVERNOR, 0, &propose(staker(1))).unwrap();
    bench.send(GOVERNOR, 0, &propose(staker(2))).unwrap();
    assert!(bench.refusal(staker(1), &accept).is::<PoolManager::OnlyGovernor>());
    bench.send(GOVERNOR, 0, &request(vec![1])).unwrap();
    bench.send(staker(2), 0, &accept).unwrap();
    assert!(bench.refusal(GOVERNOR, &request(vec![1])).is::<PoolManager::OnlyGovernor>());
    assert!(bench.refusal(staker(2), &accept).is::<PoolManager::OnlyGovernor>());
    bench.send(staker(2), 0, &request(vec![1])).unwrap();
    // Zero withdraws a proposal.
    bench.send(staker(2), 0, &propose(staker(3))).unwrap();
    bench.send(staker(2), 0, &propose(Address::ZERO)).unwrap();
    assert!(bench.refusal(staker(3), &accept).is::<PoolManager::OnlyGovernor>());
}

/// A contract that answers every call, and so every payment, by calling the manager with these bytes.
fn echo(chain: &mut Chain, manager: Address, call: &[u8]) -> Address {
    let length = u8::try_from(call.len()).unwrap();
    // CODECOPY of what follows the code, CALL with all gas and no value, STOP.
    let mut runtime = vec![0x60, length, 0x60, 39, 0x5f, 0x39, 0x5f, 0x5f, 0x60, length, 0x5f, 0x5f, 0x73];
    runtime.extend(manager.as_slice());
    runtime.extend([0x5a, 0xf1, 0x50, 0x00, 0x00, 0x00]);
    assert_eq!(runtime.len(), 39);
    runtime.extend(call);
    let size = u8::try_from(runtime.len()).unwrap();
    let mut creation = vec![0x60, size, 0x60, 10, 0x5f, 0x39, 0x60, size, 0x5f, 0xf3];
    creation.extend(runtime);
    chain.deploy(creation.into())
}

#[test]
fn whoever_calls_back_while_it_is_paid_gains_nothing() {
    let mut bench = Bench::new(3);
    let manager = bench.manager;
    let again = PoolManager::unstakeCall { amount: U256::from(4 * ETHER) };
    let unstaker = echo(&mut bench.chain, manager, &again.abi_encode());
    bench.chain.credit(unstaker, 100 * ETHER);
    bench.stake(unstaker, 4 * ETHER);
    bench.stake(staker(0), 4 * ETHER);
    bench.send(unstaker, 0, &again).unwrap();
    assert_eq!((bench.chain.balance(unstaker), bench.chain.balance(manager)), (100 * ETHER, 4 * ETHER));
    bench.send(staker(0), 0, &again).unwrap();

    let claimer = echo(&mut bench.chain, manager, &claim(1).abi_encode());
    bench.chain.credit(claimer, 8 * ETHER);
    bench.stake(claimer, 8 * ETHER);
    bench.stake(staker(0), 24 * ETHER);
    let call = bench.deposit_call(1, 0);
    bench.send(STRANGER, 0, &call).unwrap();
    bench.chain.credit(bench.pool(1), 32 * ETHER);
    // The surplus of an exit is the payment, and a claim the answer to it; then a claim answered by a claim.
    let proof = bench.dao.enclave_proof(bench.place(1).trigger_exit());
    bench.chain.credit(claimer, 10);
    bench.send(claimer, 10, &PoolManager::triggerExitCall { poolId: 1, proof }).unwrap();
    assert_eq!(bench.chain.balance(claimer), 8 * ETHER + 9);
    bench.chain.credit(bench.pool(1), 32 * ETHER);
    bench.send(claimer, 0, &claim(1)).unwrap();
    assert_eq!(bench.chain.balance(claimer), 16 * ETHER + 9);
    assert_eq!(bench.chain.balance(bench.pool(1)), 48 * ETHER);
    assert_eq!(claimable(&mut bench, 1, staker(0)), 48 * ETHER);
}

#[test]
fn the_code_fits_on_a_chain() {
    assert_eq!(Bench::unfounded(3).chain.id, CHAIN_ID);
    assert!(PoolManager::DEPLOYED_BYTECODE.len() <= 24_576);
}

/// Stakers can be out before wallets alone have put others in the enclaves' place, and no delay lasts for ever.
#[test]
fn delays_that_would_keep_stakers_in_are_refused() {
    let mut bench = Bench::new(3);
    let mut refusal = |exit, refund, recovery| {
        let wallets = (1..=3).map(Address::repeat_byte).collect();
        let delays = PoolManager::Delays { exit, refund, recovery };
        let code = manager_code(Address::repeat_byte(9), wallets, delays);
        bench.chain.send_raw(STRANGER, TxKind::Create, 0, code).err()
    };
    assert!(refusal(5, 6, 12).is_none());
    let most = u64::from(u32::MAX);
    assert!(refusal(most, most / 2, most).is_none());
    for (exit, refund, recovery) in [(0, 6, 12), (5, 0, 12), (5, 6, 0)] {
        assert!(
            refusal(exit, refund, recovery).is_some_and(|reverted| reverted.is::<PoolManager::ZeroDelay>())
        );
    }
    for (refund, recovery) in [(6, 11), (6, 6), (7, 6), (most / 2 + 1, most), (most, most)] {
        let reverted = refusal(5, refund, recovery);
        assert!(reverted.is_some_and(|reverted| reverted.is::<PoolManager::RecoveryTooSoon>()));
    }
    for (exit, refund, recovery) in [
        (most + 1, 6, 12),
        (5, 6, most + 1),
        (5, most + 1, most),
        // Twice as much would be nothing, or less than the other one.
        (5, 1 << 63, 12),
        (5, u64::MAX, u64::MAX),
    ] {
        let reverted = refusal(exit, refund, recovery);
        assert!(reverted.is_some_and(|reverted| reverted.is::<PoolManager::DelayTooLong>()));
    }
}
