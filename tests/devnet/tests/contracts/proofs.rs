//! What is no proof.

use super::chain::{Bench, DepositBytes, GOVERNOR, STRANGER, deploy_manager, staker};
use super::flaws::{Flaw, Signers};
use crate::support::dao::{Dao, Place, key};
use crate::support::{ETHER, PoolManager};
use alloy::primitives::{B256, Bytes};
use alloy::sol_types::{SolCall as _, SolError as _};
use revm::primitives::TxKind;

/// A call that wants a proof.
struct Case {
    name: &'static str,
    place: Place,
    signers: Signers,
    digest: Box<dyn Fn(&Place) -> B256>,
    call: Box<dyn Fn(Bytes) -> Vec<u8>>,
}

/// Five members in their second epoch: the first one's enclave was replaced, the last one's is not named. Pool 1 is
/// ready, pool 2 has a validator.
fn bench() -> (Bench, Signers) {
    let mut bench = Bench::new(5);
    let old = bench.dao.enclaves[0].clone().unwrap();
    let mut next = bench.dao.next();
    next.enclaves[0] = Some(key(1_100));
    next.enclaves[4] = None;
    bench.advance(next);
    bench.stake(staker(0), 64 * ETHER);
    let call = bench.deposit_call(2, 0);
    bench.send(STRANGER, 0, &call).unwrap();
    let signers = Signers::enclaves(&bench.dao, Some((0, old)));
    (bench, signers)
}

/// The terms that the tests propose.
fn recovered(dao: &Dao) -> Dao {
    let mut next = dao.next();
    next.enclaves[1] = Some(key(1_101));
    next
}

fn propose(dao: &Dao, proof: Bytes) -> PoolManager::proposeRecoveryCall {
    PoolManager::proposeRecoveryCall { proposal: dao.proposal(), walletProof: proof }
}

fn cases(bench: &Bench, enclaves: &Signers) -> Vec<Case> {
    let (dao, next) = (bench.dao.clone(), bench.dao.next());
    let wallets = Signers::wallets(&dao);
    let deposit = DepositBytes::of(bench.manager, 1, 0);
    let root = deposit.root();
    let (manifest, recovery) = (dao.manifest, recovered(&dao));
    let case = |name, place, signers: &Signers, digest, call| {
        let signers = signers.clone();
        Case { name, place, signers, digest, call }
    };
    vec![
        case(
            "depositPool",
            bench.place(1),
            enclaves,
            Box::new(move |place: &Place| place.deposit(root)) as Box<dyn Fn(&Place) -> B256>,
            Box::new(move |proof: Bytes| deposit.call(1, proof).abi_encode())
                as Box<dyn Fn(Bytes) -> Vec<u8>>,
        ),
        case(
            "raiseAttempt",
            bench.place(1).attempt(1),
            enclaves,
            Box::new(|place| place.raise_attempt()),
            Box::new(|proof| PoolManager::raiseAttemptCall { poolId: 1, proof }.abi_encode()),
        ),
        case(
            "triggerExit",
            bench.place(2),
            enclaves,
            Box::new(|place| place.trigger_exit()),
            Box::new(|proof| PoolManager::triggerExitCall { poolId: 2, proof }.abi_encode()),
        ),
        case(
            "reportPoolExited",
            bench.place(2),
            enclaves,
            Box::new(|place| place.pool_exited()),
            Box::new(|proof| PoolManager::reportPoolExitedCall { poolId: 2, proof }.abi_encode()),
        ),
        case(
            "requestPoolExits",
            bench.place(2),
            &wallets,
            Box::new(|place| place.request_exits(&[place.pool, 2], "because")),
            Box::new(|proof| {
                let (ids, reason) = (vec![2, 2], "because".into());
                PoolManager::requestPoolExitsCall { poolIds: ids, reason, walletProof: proof }.abi_encode()
            }),
        ),
        case(
            "proposeRecovery",
            bench.place(0),
            &wallets,
            {
                let next = recovery.clone();
                Box::new(move |place| place.recovery(1, &next))
            },
            {
                let next = recovery.clone();
                Box::new(move |proof| propose(&next, proof).abi_encode())
            },
        ),
        case(
            "advanceEpoch, wallets",
            bench.place(0),
            &wallets,
            {
                let next = next.clone();
                Box::new(move |place| place.manifest_epoch(manifest, &next))
            },
            {
                let (dao, next, place) = (dao.clone(), next.clone(), bench.place(0));
                Box::new(move |proof| {
                    dao.advance(&next, proof, dao.enclave_proof(place.epoch_applied(&next))).abi_encode()
                })
            },
        ),
        case(
            "advanceEpoch, enclaves",
            bench.place(0),
            enclaves,
            {
                let next = next.clone();
                Box::new(move |place| place.epoch_applied(&next))
            },
            {
                let (dao, next, place) = (dao.clone(), next.clone(), bench.place(0));
                Box::new(move |proof| {
                    let wallets = Signers::wallets(&dao).right(place.manifest_epoch(dao.manifest, &next));
                    dao.advance(&next, wallets, proof).abi_encode()
                })
            },
        ),
    ]
}

/// Tries every flaw, then the proof that is wanted.
fn try_all(bench: &Bench, case: &Case) {
    let send = |proof: Bytes| {
        let mut bench = bench.clone();
        // The exit's fee; the other calls take no ether.
        let wei = u128::from(case.name == "triggerExit");
        bench.chain.send_raw(STRANGER, TxKind::Call(bench.manager), wei, (case.call)(proof).into())
    };
    let mut made = 0;
    for flaw in Flaw::ALL {
        let Some(proof) = flaw.make(&case.signers, case.place, &case.digest) else { continue };
        let refused = send(proof).expect_err(case.name);
        let expected = match (case.name, flaw) {
            ("triggerExit", Flaw::Empty) => PoolManager::ExitNotRequested::SELECTOR,
            ("requestPoolExits", Flaw::Empty) => PoolManager::OnlyGovernor::SELECTOR,
            _ => flaw.error(),
        };
        assert!(refused.0.starts_with(&expected), "{}, {flaw:?}: {:?}", case.name, refused.0);
        made += 1;
    }
    assert!(made >= 19, "{}: {made} flaws", case.name);
    send(case.signers.right((case.digest)(&case.place))).expect(case.name);
    // Any members will do, as long as they are as many.
    let last: Vec<_> = case.signers.able().split_off(case.signers.able().len() - case.signers.wanted);
    send(crate::support::dao::prove((case.digest)(&case.place), &last)).expect(case.name);
}

#[test]
fn every_call_that_wants_a_proof_refuses_every_other() {
    let (mut bench, enclaves) = bench();
    for case in cases(&bench, &enclaves) {
        try_all(&bench, &case);
    }
    let next = recovered(&bench.dao);
    let proof = Signers::wallets(&bench.dao).right(bench.place(0).recovery(1, &next));
    bench.send(STRANGER, 0, &propose(&next, proof)).unwrap();
    let case = Case {
        name: "cancelRecovery",
        place: bench.place(0),
        signers: enclaves,
        digest: Box::new(move |place| place.cancel_recovery(1, &next)),
        call: Box::new(|proof| PoolManager::cancelRecoveryCall { proof }.abi_encode()),
    };
    try_all(&bench, &case);
}

#[test]
fn a_proof_of_one_statement_proves_no_other() {
    let (bench, enclaves) = bench();
    let cases = cases(&bench, &enclaves);
    for case in &cases {
        for other in &cases {
            let mut bench = bench.clone();
            let proof = other.signers.right((other.digest)(&other.place));
            let result =
                bench.chain.send_raw(STRANGER, TxKind::Call(bench.manager), 1, (case.call)(proof).into());
            // Only the exit takes ether, so only that can succeed here.
            assert_eq!(result.is_ok(), case.name == other.name && case.name == "triggerExit");
            let proof = other.signers.right((other.digest)(&other.place));
            let result =
                bench.chain.send_raw(STRANGER, TxKind::Call(bench.manager), 0, (case.call)(proof).into());
            assert_eq!(result.is_ok(), case.name == other.name && case.name != "triggerExit");
        }
    }
}

#[test]
fn before_the_founding_nothing_is_proven_by_nobody() {
    let mut bench = Bench::unfounded(3);
    let nobody = Bytes::from(vec![0; 32]);
    let refused = bench.refusal(STRANGER, &propose(&bench.dao.next(), nobody));
    assert!(refused.is::<PoolManager::NotFounded>());
    assert!(bench.refusal(staker(0), &PoolManager::stakeCall {}).is::<PoolManager::NotFounded>());
}

#[test]
fn a_deposit_is_made_once_and_only_with_what_was_signed() {
    let mut bench = Bench::new(3);
    bench.stake(staker(0), 96 * ETHER);
    let right = DepositBytes::of(bench.manager, 1, 0);
    let proof = bench.dao.enclave_proof(bench.place(1).deposit(right.root()));
    let refuse = |bench: &mut Bench, deposit: &DepositBytes, pool| {
        bench.refusal(STRANGER, &deposit.call(pool, proof.clone()))
    };

    // Another key, another signature, another pool.
    let garbage = DepositBytes { signature: [7; 96], ..right.clone() };
    assert!(refuse(&mut bench, &garbage, 1).is::<PoolManager::ProofSignature>());
    let key = DepositBytes { key: [7; 48], ..right.clone() };
    assert!(refuse(&mut bench, &key, 1).is::<PoolManager::ProofSignature>());
    assert!(refuse(&mut bench, &right, 2).is::<PoolManager::ProofSignature>());
    assert!(refuse(&mut bench, &right, 4).is::<PoolManager::WrongStatus>());
    let mut call = right.call(1, proof.clone());
    call.publicKey = Bytes::from_static(&[7; 47]);
    assert!(bench.refusal(STRANGER, &call).is::<PoolManager::PublicKeyLength>());
    call.publicKey = Bytes::copy_from_slice(&right.key);
    call.signature = Bytes::from_static(&[7; 97]);
    assert!(bench.refusal(STRANGER, &call).is::<PoolManager::SignatureLength>());

    // Credentials are never the caller's, nor the enclaves': no other can be expressed, and 0x02 cannot either.
    for (index, byte) in [(0, 2), (1, 1), (31, right.credentials[31] ^ 1)] {
        let mut other = right.clone();
        other.credentials[index] = byte;
        let proof = bench.dao.enclave_proof(bench.place(1).deposit(other.root()));
        assert!(bench.refusal(STRANGER, &other.call(1, proof)).is::<PoolManager::ProofSignature>());
    }

    let done = bench.send(STRANGER, 0, &right.call(1, proof.clone())).unwrap();
    let event = done.logs.iter().find(|log| log.address == bench.deposits).unwrap();
    let event =
        <crate::support::DepositContract::DepositEvent as alloy::sol_types::SolEvent>::decode_log(event);
    let event = event.unwrap();
    assert_eq!(event.pubkey.as_ref(), right.key);
    assert_eq!(event.withdrawal_credentials.as_ref(), right.credentials);
    assert_eq!(event.signature.as_ref(), right.signature);
    assert_eq!(event.amount.as_ref(), 32_000_000_000u64.to_le_bytes());
    assert_eq!(bench.chain.balance(bench.deposits), 32 * ETHER);
    assert!(refuse(&mut bench, &right, 1).is::<PoolManager::WrongStatus>());

    // The same key for another pool, though the enclaves sign it.
    let mut again = DepositBytes::of(bench.manager, 2, 0);
    again.key = right.key;
    let proof = bench.dao.enclave_proof(bench.place(2).deposit(again.root()));
    assert!(bench.refusal(STRANGER, &again.call(2, proof)).is::<PoolManager::PublicKeyAlreadyUsed>());

    // An attempt that was given up.
    let old = bench.deposit_call(3, 0);
    let raise = bench.dao.enclave_proof(bench.place(3).attempt(1).raise_attempt());
    let raise = PoolManager::raiseAttemptCall { poolId: 3, proof: raise };
    bench.send(STRANGER, 0, &raise).unwrap();
    assert_eq!(bench.ask(&PoolManager::attemptOfCall { poolId: 3 }), 1);
    assert!(bench.refusal(STRANGER, &old).is::<PoolManager::ProofSignature>());
    assert!(bench.refusal(STRANGER, &raise).is::<PoolManager::ProofSignature>());
    let next = bench.deposit_call(3, 1);
    bench.send(STRANGER, 0, &next).unwrap();
}

#[test]
fn two_managers_and_two_branches_of_a_chain_have_proofs_of_their_own() {
    let mut bench = Bench::new(3);
    bench.stake(staker(0), 32 * ETHER);
    let call = bench.deposit_call(1, 0);

    let mut other = bench.clone();
    other.manager = deploy_manager(&mut other.chain, other.deposits, other.dao.wallet_addresses());
    let founded = other.dao.clone();
    other.dao = Dao::new(3);
    // Even the founding is bound to the manager.
    let foreign = Dao::new(3).advance_rightly(Place { epoch: 0, ..bench.place(0) }, &founded);
    assert!(other.refusal(STRANGER, &foreign).is::<PoolManager::ProofSignature>());
    other.advance(founded);
    other.stake(staker(0), 32 * ETHER);
    assert!(other.refusal(STRANGER, &call).is::<PoolManager::ProofSignature>());

    // The id is read when it is needed: after a fork of the chain the old id's proofs are worth nothing.
    let mut fork = bench.clone();
    fork.chain.id += 1;
    assert!(fork.refusal(STRANGER, &call).is::<PoolManager::ProofSignature>());
    let call_there = fork.deposit_call(1, 0);
    fork.send(STRANGER, 0, &call_there).unwrap();
    bench.send(STRANGER, 0, &call).unwrap();
}

#[test]
fn a_report_changes_nothing() {
    let mut bench = Bench::deposited(3);
    let report = bench.dao.enclave_proof(bench.place(1).pool_exited());
    let report = PoolManager::reportPoolExitedCall { poolId: 1, proof: report };
    for _ in 0..2 {
        bench.send(STRANGER, 0, &report).unwrap();
    }
    assert_eq!(bench.ask(&PoolManager::getPoolCall { poolId: 1 }).status, 2);
    let call = PoolManager::requestPoolExitsCall {
        poolIds: vec![1],
        reason: String::new(),
        walletProof: Bytes::new(),
    };
    bench.send(GOVERNOR, 0, &call).unwrap();
    bench.send(STRANGER, 0, &report).unwrap();
    bench.send(GOVERNOR, 1, &PoolManager::triggerExitCall { poolId: 1, proof: Bytes::new() }).unwrap();
    let expected = (bench.pool(1), Bytes::copy_from_slice(&DepositBytes::of(bench.manager, 1, 0).key));
    assert_eq!(bench.chain.advance(1), [expected]);
}
