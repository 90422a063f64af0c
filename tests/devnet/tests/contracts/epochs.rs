//! Members come and go, and the way back when too many enclaves are lost.

use super::chain::{Bench, DELAYS, STRANGER, staker};
use crate::support::dao::{Dao, Place, key, prove};
use crate::support::{ETHER, PoolManager};
use alloy::primitives::{Address, B256, Bytes, keccak256};
use alloy::sol_types::{SolError as _, SolEvent as _};

/// How many epochs a founding or a recovery may skip at most.
const MAX_EPOCH_STEP: u64 = 65_535;

fn propose(bench: &Bench, number: u32, next: &Dao) -> PoolManager::proposeRecoveryCall {
    let digest = bench.place(0).recovery(number, next);
    PoolManager::proposeRecoveryCall {
        proposal: next.proposal(),
        walletProof: bench.dao.wallet_proof(digest, bench.dao.wallet_quorum.into()),
    }
}

fn cancel(bench: &Bench, number: u32, proposed: &Dao) -> PoolManager::cancelRecoveryCall {
    let digest = bench.place(0).cancel_recovery(number, proposed);
    PoolManager::cancelRecoveryCall { proof: bench.dao.enclave_proof(digest) }
}

fn execute(next: &Dao) -> PoolManager::executeRecoveryCall {
    PoolManager::executeRecoveryCall { manifest: next.manifest, newTerms: next.terms() }
}

#[test]
fn a_dao_is_founded_by_all_wallets() {
    let mut bench = Bench::unfounded(4);
    let founded = bench.dao.next();
    let digest = bench.place(0).manifest_epoch(B256::ZERO, &founded);
    let call = |wallets: usize, enclaves| {
        bench.dao.advance(&founded, bench.dao.wallet_proof(digest, wallets), enclaves)
    };
    let (three, all) = (call(3, Bytes::new()), call(4, Bytes::new()));
    let surplus = call(4, founded.enclave_proof(bench.place(0).epoch_applied(&founded)));
    assert!(bench.refusal(STRANGER, &three).is::<PoolManager::ProofLength>());
    assert!(bench.refusal(STRANGER, &surplus).is::<PoolManager::SurplusProof>());
    for epoch in [0, MAX_EPOCH_STEP + 1, u64::MAX] {
        let mut other = all.clone();
        other.change.epoch = epoch;
        let expected = PoolManager::WrongEpoch { expected: 1, actual: epoch };
        assert_eq!(bench.refusal(STRANGER, &other).0, expected.abi_encode());
    }

    let done = bench.send(STRANGER, 0, &all).unwrap();
    let changed: Vec<_> =
        done.logs.iter().filter_map(|log| PoolManager::SignerChanged::decode_log(log).ok()).collect();
    let members: Vec<_> = changed.iter().map(|event| (event.member, event.previous, event.current)).collect();
    let signers = founded.signer_addresses();
    assert_eq!(
        members,
        (1..).zip(&signers).map(|(member, signer)| (member, Address::ZERO, *signer)).collect::<Vec<_>>()
    );
    let advanced = PoolManager::EpochAdvanced::decode_log(done.logs.last().unwrap()).unwrap();
    assert_eq!(
        (advanced.epoch, advanced.manifest, advanced.council),
        (1, founded.manifest, founded.council())
    );

    assert_eq!(bench.ask(&PoolManager::councilHashCall {}), founded.council());
    assert_eq!(bench.ask(&PoolManager::walletsCall {}), founded.wallet_addresses());
    assert_eq!(bench.ask(&PoolManager::signersCall {}), signers);
    assert_eq!(bench.ask(&PoolManager::quorumCall {}), 3);
    assert_eq!(bench.ask(&PoolManager::walletQuorumCall {}), 3);
    assert_eq!(bench.ask(&PoolManager::manifestHashCall {}), founded.manifest);
    // Not a second time.
    assert!(bench.refusal(STRANGER, &all).is::<PoolManager::WrongEpoch>());
}

#[test]
fn a_dao_may_be_founded_in_any_epoch() {
    // It has lived elsewhere before: its wallets signed an epoch and a predecessor that this chain does not know.
    let mut bench = Bench::unfounded(3);
    bench.dao.epoch = MAX_EPOCH_STEP - 1;
    bench.dao.manifest = keccak256("elsewhere");
    let founded = bench.dao.next();
    let digest = bench.place(0).manifest_epoch(bench.dao.manifest, &founded);
    let call = bench.dao.advance(&founded, bench.dao.wallet_proof(digest, 3), Bytes::new());
    bench.send(STRANGER, 0, &call).unwrap();
    assert_eq!(bench.ask(&PoolManager::epochCall {}), MAX_EPOCH_STEP);
    bench.dao = founded;
    bench.advance(bench.dao.next());
}

#[test]
fn the_next_epoch_wants_wallets_and_enclaves_and_follows_the_last() {
    let mut bench = Bench::new(3);
    let next = bench.dao.next();
    let right = bench.dao.advance_rightly(bench.place(0), &next);
    let mut wallets_alone = right.clone();
    wallets_alone.enclaveProof = Bytes::new();
    assert!(bench.refusal(STRANGER, &wallets_alone).is::<PoolManager::ProofLength>());
    let mut enclaves_alone = right.clone();
    enclaves_alone.walletProof = Bytes::new();
    assert!(bench.refusal(STRANGER, &enclaves_alone).is::<PoolManager::ProofLength>());
    let skipping = Dao { epoch: 3, ..next.clone() };
    let place = Place { epoch: 2, ..bench.place(0) };
    let skip = bench.dao.advance_rightly(place, &skipping);
    assert!(bench.refusal(STRANGER, &skip).is::<PoolManager::WrongEpoch>());
    let beside = Dao { manifest: B256::repeat_byte(7), ..bench.dao.clone() };
    let beside = beside.advance_rightly(bench.place(0), &next);
    assert!(bench.refusal(STRANGER, &beside).is::<PoolManager::WrongPredecessor>());
    // The terms are part of what was signed, the words about them too.
    let mut other_terms = right.clone();
    other_terms.change.terms.quorum = 3;
    assert!(bench.refusal(STRANGER, &other_terms).is::<PoolManager::ProofSignature>());
    let mut other_words = right.clone();
    other_words.change.changes = "nothing".into();
    assert!(bench.refusal(STRANGER, &other_words).is::<PoolManager::ProofSignature>());
    bench.send(STRANGER, 0, &right).unwrap();
    assert!(bench.refusal(STRANGER, &right).is::<PoolManager::WrongEpoch>());
}

#[test]
fn terms_that_would_end_the_dao_are_refused_whoever_signs_them() {
    let mut bench = Bench::new(4);
    let mut next = bench.dao.next();
    next.enclaves[2] = Some(key(1_200));
    bench.advance(next);

    type Change = fn(&mut Dao);
    let refused: [(Change, [u8; 4]); 16] = [
        (|dao| _ = (dao.wallets.pop(), dao.enclaves.pop()), PoolManager::MemberCount::SELECTOR),
        (
            |dao| dao.wallets.extend((0..37).map(|number| key(3_000 + number))),
            PoolManager::MemberCount::SELECTOR,
        ),
        (|dao| _ = dao.enclaves.pop(), PoolManager::SignerCount::SELECTOR),
        (|dao| dao.enclaves.push(None), PoolManager::SignerCount::SELECTOR),
        (|dao| dao.quorum = 0, PoolManager::QuorumOutOfRange::SELECTOR),
        (|dao| dao.quorum = 2, PoolManager::QuorumOutOfRange::SELECTOR),
        (|dao| dao.quorum = 5, PoolManager::QuorumOutOfRange::SELECTOR),
        (|dao| (dao.enclaves[0], dao.enclaves[1]) = (None, None), PoolManager::QuorumOutOfRange::SELECTOR),
        (|dao| dao.wallet_quorum = 2, PoolManager::WalletQuorumOutOfRange::SELECTOR),
        (|dao| dao.wallet_quorum = 5, PoolManager::WalletQuorumOutOfRange::SELECTOR),
        (|dao| dao.wallets[1] = dao.wallets[0].clone(), PoolManager::WalletRefused::SELECTOR),
        (|dao| dao.enclaves[1] = dao.enclaves[0].clone(), PoolManager::SignerRefused::SELECTOR),
        (|dao| dao.enclaves[1] = Some(dao.wallets[3].clone()), PoolManager::SignerRefused::SELECTOR),
        (|dao| dao.wallets[3] = dao.enclaves[1].clone().unwrap(), PoolManager::SignerRefused::SELECTOR),
        // Retired in the epoch before; and one that moves would have to be retired and accepted at once.
        (|dao| dao.enclaves[2] = Some(key(1_002)), PoolManager::SignerRefused::SELECTOR),
        (|dao| dao.enclaves.swap(0, 1), PoolManager::SignerRefused::SELECTOR),
    ];
    for (number, (change, error)) in refused.into_iter().enumerate() {
        let mut next = bench.dao.next();
        change(&mut next);
        let advance = bench.dao.advance_rightly(bench.place(0), &next);
        let refusal = bench.refusal(STRANGER, &advance);
        assert!(refusal.0.starts_with(&error), "{number}: {:?}", refusal.0);
        // A recovery that could never be executed would be in the way of all others.
        let refusal = bench.refusal(STRANGER, &propose(&bench, 1, &next));
        assert!(refusal.0.starts_with(&error), "{number}: {:?}", refusal.0);
    }
    let mut zero_wallet = bench.dao.advance_rightly(bench.place(0), &bench.dao.next());
    zero_wallet.change.terms.wallets[0] = Address::ZERO;
    let terms = &zero_wallet.change.terms;
    let council = {
        use alloy::sol_types::SolValue as _;
        keccak256(
            (terms.quorum, terms.walletQuorum, terms.wallets.clone(), terms.signers.clone())
                .abi_encode_params(),
        )
    };
    let (epoch, manifest) = (zero_wallet.change.epoch, zero_wallet.change.manifest);
    let digest = bench.place(0).digest(&crate::support::dao::ManifestEpoch {
        dao: zero_wallet.change.dao.clone(),
        epoch,
        predecessor: bench.dao.manifest,
        manifest,
        council,
        changes: zero_wallet.change.changes.clone(),
    });
    zero_wallet.walletProof = bench.dao.wallet_proof(digest, 3);
    let digest = bench.place(0).digest(&crate::support::dao::EpochApplied { epoch, manifest, council });
    zero_wallet.enclaveProof = bench.dao.enclave_proof(digest);
    assert!(bench.refusal(STRANGER, &zero_wallet).is::<PoolManager::WalletRefused>());

    // What may change: more members, other wallets, an enclave not named, other quorums.
    let mut next = bench.dao.next();
    next.wallets.extend((0..36).map(|number| key(3_000 + number)));
    next.enclaves.extend((0..36).map(|number| Some(key(4_000 + number))));
    next.wallets[0] = key(5_000);
    next.enclaves[3] = None;
    (next.quorum, next.wallet_quorum) = (39, 40);
    bench.advance(next);
    bench.advance(bench.dao.next());
}

#[test]
fn a_signer_that_was_replaced_signs_no_more() {
    let mut bench = Bench::new(3);
    bench.stake(staker(0), 32 * ETHER);
    let old = bench.dao.clone();
    let in_flight = bench.deposit_call(1, 0);
    let mut next = bench.dao.next();
    next.enclaves[0] = Some(key(1_100));
    bench.advance(next);
    // A proof of the epoch before is void, whoever signed it, and the old signer is unknown in the new one.
    assert!(bench.refusal(STRANGER, &in_flight).is::<PoolManager::ProofSignature>());
    let digest = bench.place(1).attempt(1).raise_attempt();
    let call = |signers: &[(usize, crate::support::dao::Key)]| PoolManager::raiseAttemptCall {
        poolId: 1,
        proof: prove(digest, signers),
    };
    assert!(bench.refusal(STRANGER, &call(&old.able()[..2])).is::<PoolManager::ProofSignature>());
    assert!(bench.ask(&PoolManager::retiredCall { signer: old.signer_addresses()[0] }));
    bench.send(STRANGER, 0, &call(&bench.dao.able()[..2])).unwrap();
    let again = bench.deposit_call(1, 1);
    bench.send(STRANGER, 0, &again).unwrap();
}

#[test]
fn a_recovery_waits_and_the_enclaves_can_object() {
    let mut bench = Bench::new(3);
    let mut next = bench.dao.next();
    (next.enclaves[0], next.enclaves[1]) = (Some(key(1_100)), Some(key(1_101)));
    assert!(bench.refusal(STRANGER, &execute(&next)).is::<PoolManager::NoSuchRecovery>());
    assert!(bench.refusal(STRANGER, &cancel(&bench, 1, &next)).is::<PoolManager::NoSuchRecovery>());

    let first = propose(&bench, 1, &next);
    let done = bench.send(STRANGER, 0, &first).unwrap();
    let proposed = PoolManager::RecoveryProposed::decode_log(&done.logs[0]).unwrap();
    assert_eq!((proposed.number, proposed.epoch, proposed.next), (1, 1, 2));
    let pending = bench.ask(&PoolManager::pendingRecoveryCall {});
    assert_eq!((pending.number, pending.readyAt), (1, bench.chain.number + DELAYS.recovery));
    assert_eq!(pending.epoch, 2);
    assert_eq!((pending.manifest, pending.council), (next.manifest, next.council()));
    assert!(bench.refusal(STRANGER, &propose(&bench, 2, &next)).is::<PoolManager::RecoveryAlreadyPending>());
    bench.send(STRANGER, 0, &cancel(&bench, 1, &next)).unwrap();

    // The wallets' signatures proposed once, and the enclaves' objection was to that proposal.
    assert!(bench.refusal(STRANGER, &first).is::<PoolManager::ProofSignature>());
    bench.send(STRANGER, 0, &propose(&bench, 2, &next)).unwrap();
    assert!(bench.refusal(STRANGER, &cancel(&bench, 1, &next)).is::<PoolManager::ProofSignature>());
    bench.chain.advance(DELAYS.recovery - 1);
    assert!(bench.refusal(STRANGER, &execute(&next)).is::<PoolManager::TooEarly>());
    bench.chain.advance(1);
    let mut other = next.clone();
    other.enclaves[2] = Some(key(1_102));
    assert!(bench.refusal(STRANGER, &execute(&other)).is::<PoolManager::NoSuchRecovery>());
    let mut other = next.clone();
    other.manifest = B256::ZERO;
    assert!(bench.refusal(STRANGER, &execute(&other)).is::<PoolManager::NoSuchRecovery>());
    bench.send(STRANGER, 0, &execute(&next)).unwrap();
    assert!(bench.refusal(STRANGER, &execute(&next)).is::<PoolManager::NoSuchRecovery>());
    assert_eq!(bench.ask(&PoolManager::epochCall {}), 2);
    assert_eq!(bench.ask(&PoolManager::councilHashCall {}), next.council());
    assert!(bench.ask(&PoolManager::retiredCall { signer: key(1_000).address() }));

    // The retired cannot come back by another recovery either.
    bench.dao = next;
    let mut back = bench.dao.next();
    back.enclaves[0] = Some(key(1_000));
    assert!(bench.refusal(STRANGER, &propose(&bench, 3, &back)).is::<PoolManager::SignerRefused>());
    bench.advance(bench.dao.next());
}

/// Enclaves sign an objection to whatever their hosts say was proposed. It has to be of no use to whoever collects such
/// objections while all is well, for the day on which the enclaves are lost.
#[test]
fn a_recovery_that_is_not_known_yet_cannot_be_objected_to() {
    let mut bench = Bench::new(3);
    let mut next = bench.dao.next();
    next.enclaves[0] = Some(key(1_100));
    let known = [
        // All that can be known before: the number, the manifest's text perhaps, the members in force.
        Dao { manifest: B256::ZERO, ..next.clone() },
        Dao { manifest: bench.dao.manifest, ..next.clone() },
        Dao { enclaves: bench.dao.enclaves.clone(), ..next.clone() },
        bench.dao.clone(),
    ];
    let collected: Vec<_> = known.iter().map(|known| cancel(&bench, 1, known)).collect();
    let numbers_alone = bench.place(0).digest(&by_number::CancelRecovery { epoch: 1, number: 1 });
    let numbers_alone = PoolManager::cancelRecoveryCall { proof: bench.dao.enclave_proof(numbers_alone) };
    bench.send(STRANGER, 0, &propose(&bench, 1, &next)).unwrap();
    for call in collected.iter().chain([&numbers_alone]) {
        assert!(bench.refusal(STRANGER, call).is::<PoolManager::ProofSignature>());
    }
    bench.send(STRANGER, 0, &cancel(&bench, 1, &next)).unwrap();
}

mod by_number {
    alloy::sol! {
        struct CancelRecovery {
            uint64 epoch;
            uint32 number;
        }
    }
}

/// The enclaves have gone on without the contract, which nobody has told of it. A recovery brings the two together again.
#[test]
fn a_recovery_says_which_epoch_begins() {
    let mut bench = Bench::new(3);
    let recovered = |bench: &Bench, epoch| Dao { epoch, ..bench.dao.next() };
    for epoch in [0, 1, 2 + MAX_EPOCH_STEP, u64::MAX - 1, u64::MAX] {
        let refusal = bench.refusal(STRANGER, &propose(&bench, 1, &recovered(&bench, epoch)));
        assert_eq!(refusal.0, PoolManager::WrongEpoch { expected: 2, actual: epoch }.abi_encode());
    }
    // The epoch is part of what the wallets signed.
    let mut other = propose(&bench, 1, &recovered(&bench, 2));
    other.proposal.epoch = 3;
    assert!(bench.refusal(STRANGER, &other).is::<PoolManager::ProofSignature>());

    let mut epoch = 1;
    for (number, step) in [(1, 1), (2, 5), (3, MAX_EPOCH_STEP), (4, MAX_EPOCH_STEP)] {
        epoch += step;
        let next = recovered(&bench, epoch);
        let done = bench.send(STRANGER, 0, &propose(&bench, number, &next)).unwrap();
        let proposed = PoolManager::RecoveryProposed::decode_log(&done.logs[0]).unwrap();
        assert_eq!((proposed.epoch, proposed.next), (epoch - step, epoch));
        assert_eq!(bench.ask(&PoolManager::pendingRecoveryCall {}).epoch, epoch);
        bench.chain.advance(DELAYS.recovery);
        let done = bench.send(STRANGER, 0, &execute(&next)).unwrap();
        let executed = PoolManager::RecoveryExecuted::decode_log(&done.logs[0]).unwrap();
        assert_eq!((executed.number, executed.epoch), (number, epoch));
        let advanced = PoolManager::EpochAdvanced::decode_log(done.logs.last().unwrap()).unwrap();
        assert_eq!((advanced.epoch, bench.ask(&PoolManager::epochCall {})), (epoch, epoch));
        bench.dao = next;
    }
    bench.advance(bench.dao.next());
}

#[test]
fn an_epoch_drops_the_recovery_that_waits() {
    let mut bench = Bench::new(3);
    let mut taken_over = bench.dao.next();
    taken_over.enclaves[0] = Some(key(1_100));
    bench.send(STRANGER, 0, &propose(&bench, 1, &taken_over)).unwrap();
    bench.advance(bench.dao.next());
    bench.chain.advance(10);
    assert!(bench.refusal(STRANGER, &execute(&taken_over)).is::<PoolManager::NoSuchRecovery>());
    assert_eq!(bench.ask(&PoolManager::pendingRecoveryCall {}).number, 0);
}
