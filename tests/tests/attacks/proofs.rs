//! What an enclave signs for the pool manager, whoever asks and however often: what is so, and nothing else.
//!
//! Found by a hostile reading: the pool manager believed a leader's wallet, which could have any key deposited.

use postern_enclave::coins::Coins;
use postern_enclave::keys::IdentityKeys;
use postern_shared::bls::Signature;
use postern_shared::eip712::Domain;
use postern_shared::ethereum::{DepositData, DepositMessage, WithdrawalCredentials};
use postern_shared::identity::EnclaveKeys;
use postern_shared::ids::{Address, Digest, ManifestHash, MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::proof::{Council, Proof, ProofError, ProofRequest, Provable, Statement};
use postern_shared::wire::{Rejection, Reply, Request};
use postern_tests::cluster::{
    Cluster, POOL_CODE, deposit_requested, deposit_requested_of, exit_requested, manifest, pool,
};
use postern_tests::wallets::{next, signed};
use zeroize::Zeroizing;

const ONE: MemberId = MemberId(1);
const POOL: PoolId = pool(1);

fn with_deposit(members: u16, threshold: u16) -> (Cluster, DepositData) {
    let mut cluster = Cluster::launch(manifest(members, threshold, threshold), 71);
    cluster.run(1);
    cluster.observe(deposit_requested(1));
    cluster.run(1);
    let data = cluster.deposit(POOL).expect("a deposit");
    (cluster, data)
}

fn prove(cluster: &mut Cluster, id: MemberId, what: Provable) -> Reply {
    let epoch = cluster.manifest.epoch;
    cluster.ask(id, Request::Prove(ProofRequest { epoch, what }))
}

fn refuses(cluster: &mut Cluster, what: Provable) {
    refuses_in(cluster, cluster.manifest.epoch, what);
}

fn refuses_in(cluster: &mut Cluster, epoch: u64, what: Provable) {
    for id in cluster.ids() {
        let reply = cluster.ask(id, Request::Prove(ProofRequest { epoch, what }));
        assert_eq!(reply, Reply::Rejected(Rejection::NothingToProve), "{id}: {what:?} in epoch {epoch}");
    }
}

/// Whether an enclave's answer is its own signature of this, in this epoch.
fn proves(cluster: &mut Cluster, id: MemberId, epoch: u64, what: Provable, council: &Council) -> bool {
    let domain = Domain { chain_id: POOL.chain, verifying_contract: what.contract() };
    let digest = what.statement().digest(&domain, epoch);
    let Reply::Proved(signature) = cluster.ask(id, Request::Prove(ProofRequest { epoch, what })) else {
        return false;
    };
    Proof::collect(&digest, &council.signers, 1, &[(id, signature)].into()).is_some()
}

#[test]
fn a_deposit_is_proved_by_all_that_know_its_key_and_goes_to_the_pool() {
    for (members, threshold) in [(3, 2), (4, 3), (5, 3), (7, 4)] {
        let (mut cluster, data) = with_deposit(members, threshold);
        assert_eq!(
            data.message.withdrawal_credentials,
            WithdrawalCredentials::execution(POOL.address(&POOL_CODE))
        );
        let proof = cluster.prove_deposit(POOL, &data).expect("a proof");
        let statement = Statement::Deposit { pool: 1, attempt: 0, root: data.hash_tree_root() };
        let digest = statement.digest(&cluster.manifest.domain(), cluster.manifest.epoch);
        let council = Council::of(&cluster.manifest);
        let wanted = usize::from(council.quorum);
        let signers = Proof::verify(proof.as_bytes(), &digest, &council.signers, wanted).expect("a proof");
        assert_eq!(signers.len(), wanted);
        // The same for whoever asks again: nothing is used up by asking, and it is the same bytes after a restart.
        assert_eq!(cluster.prove_deposit(POOL, &data), Some(proof.clone()));
        let records = cluster.node(ONE).records.clone();
        assert_eq!(cluster.restore(ONE, 1, &records), Reply::Done);
        cluster.run(2);
        assert_eq!(cluster.prove_deposit(POOL, &data), Some(proof));
    }
}

#[test]
fn no_enclave_proves_another_deposit_than_the_one_that_its_key_has_signed() {
    let (mut cluster, data) = with_deposit(5, 3);
    let message = data.message;
    let elsewhere = WithdrawalCredentials::execution(Address([0x66; 20]));
    let (mut compounding, other) = (message.withdrawal_credentials, pool(2));
    compounding.0[0] = 2;
    let with = |message| DepositData { message, ..data };
    for (pool, data) in [
        (POOL, DepositData { signature: Signature([0x55; 96]), ..data }),
        (POOL, with(DepositMessage { withdrawal_credentials: elsewhere, ..message })),
        (POOL, with(DepositMessage { withdrawal_credentials: compounding, ..message })),
        (POOL, with(DepositMessage { amount: 1_000_000_000, ..message })),
        (other, data),
        (PoolId::new(1, POOL.contract, POOL.number), data),
        (PoolId::new(POOL.chain, Address([0xbb; 20]), POOL.number), data),
    ] {
        refuses(&mut cluster, Provable::Deposit { pool, data });
    }
    // A key that was made for another pool, with a good signature of its own.
    cluster.observe(deposit_requested_of(other));
    cluster.run(1);
    let second = cluster.deposit(other).expect("a deposit");
    refuses(&mut cluster, Provable::Deposit { pool: POOL, data: second });
}

#[test]
fn nothing_is_proved_by_an_enclave_that_does_not_act() {
    let mut cluster = Cluster::launch_candidates(manifest(3, 2, 2), 72, None);
    let what = Provable::TriggerExit(POOL);
    assert_eq!(prove(&mut cluster, ONE, what), Reply::Rejected(Rejection::Candidate));
    let (mut cluster, data) = with_deposit(5, 3);
    let records = cluster.node(ONE).records.clone();
    assert_eq!(cluster.restore(ONE, 1, &records), Reply::Done);
    let what = Provable::Deposit { pool: POOL, data };
    assert_eq!(prove(&mut cluster, ONE, what), Reply::Rejected(Rejection::Returning));
}

#[test]
fn an_exit_is_triggered_on_as_many_hosts_word_as_a_proof_takes() {
    let (mut cluster, _) = with_deposit(5, 3);
    let what = Provable::TriggerExit(POOL);
    refuses(&mut cluster, what);
    cluster.ask(ONE, Request::Observe(exit_requested(1)));
    assert!(matches!(prove(&mut cluster, ONE, what), Reply::Proved(_)));
    assert_eq!(prove(&mut cluster, MemberId(2), what), Reply::Rejected(Rejection::NothingToProve));
}

#[test]
fn a_validator_is_proved_to_have_left_only_if_it_is_a_pools_own() {
    let (mut cluster, _) = with_deposit(5, 3);
    let what = Provable::PoolExited(POOL);
    let (epoch, council) = (cluster.manifest.epoch, Council::of(&cluster.manifest));
    for id in cluster.ids() {
        assert!(proves(&mut cluster, id, epoch, what, &council), "{id}");
    }
    refuses(&mut cluster, Provable::PoolExited(pool(2)));
    refuses(&mut cluster, Provable::PoolExited(PoolId::new(1, POOL.contract, POOL.number)));
    refuses(&mut cluster, Provable::PoolExited(PoolId::new(POOL.chain, Address([0xbb; 20]), POOL.number)));
    refuses_in(&mut cluster, epoch + 1, what);
}

#[test]
fn an_epoch_is_proved_once_it_is_in_force_and_only_the_one_that_is() {
    let (mut cluster, _) = with_deposit(5, 3);
    let before = cluster.manifest.clone();
    let applied = |next: &Manifest| Provable::EpochApplied {
        contract: POOL.contract,
        manifest: next.hash(),
        council: Council::of(next).digest(),
    };
    let one = next(&before, |next| next.name = "one".into());
    let other = next(&before, |next| next.name = "other".into());
    refuses_in(&mut cluster, one.epoch, applied(&one));
    cluster.amend(&one);
    cluster.run(2);
    refuses_in(&mut cluster, one.epoch, applied(&other));
    // Of another number, to another contract, with members that are not the manifest's.
    refuses_in(&mut cluster, one.epoch + 1, applied(&one));
    refuses_in(&mut cluster, before.epoch, applied(&one));
    let (manifest, council) = (one.hash(), Council::of(&one).digest());
    let contract = Address([0xbb; 20]);
    refuses_in(&mut cluster, one.epoch, Provable::EpochApplied { contract, manifest, council });
    let contract = POOL.contract;
    let council = Digest([7; 32]);
    refuses_in(&mut cluster, one.epoch, Provable::EpochApplied { contract, manifest, council });
    for id in cluster.ids() {
        assert!(proves(&mut cluster, id, one.epoch, applied(&one), &Council::of(&before)), "{id}");
    }
}

/// A pool manager that no host has told of the last epochs goes by an earlier one: what is so can be proved in that one.
#[test]
fn a_pool_manager_that_is_behind_is_served_in_its_own_epoch() {
    let (mut cluster, data) = with_deposit(5, 3);
    let founded = cluster.manifest.clone();
    for name in ["second", "third"] {
        cluster.amend(&next(&cluster.manifest, |next| next.name = name.into()));
        cluster.run(2);
    }
    assert_eq!(cluster.manifest.epoch, founded.epoch + 2);
    let deposit = Provable::Deposit { pool: POOL, data };
    let (number, manifest, council) = (1, ManifestHash([5; 32]), Digest([6; 32]));
    let objection = Provable::CancelRecovery { contract: POOL.contract, number, manifest, council };
    let newest = cluster.manifest.epoch;
    for what in [deposit, objection] {
        for epoch in founded.epoch..=newest {
            assert!(proves(&mut cluster, ONE, epoch, what, &Council::of(&founded)), "{what:?} in {epoch}");
        }
        refuses_in(&mut cluster, founded.epoch - 1, what);
        refuses_in(&mut cluster, newest + 1, what);
    }
}

/// Of an enclave that acts, and to a pool manager that the DAO has named: that is all that it says.
#[test]
fn enclaves_that_are_there_object_to_others_in_their_place() {
    let (mut cluster, _) = with_deposit(5, 3);
    let (number, manifest, council) = (7, ManifestHash([5; 32]), Digest([6; 32]));
    let objection = |contract| Provable::CancelRecovery { contract, number, manifest, council };
    assert!(cluster.prove(objection(POOL.contract)).is_some());
    refuses(&mut cluster, objection(Address([0xbb; 20])));
    let records = cluster.node(ONE).records.clone();
    assert_eq!(cluster.restore(ONE, 1, &records), Reply::Done);
    assert_eq!(prove(&mut cluster, ONE, objection(POOL.contract)), Reply::Rejected(Rejection::Returning));
}

/// While all is well, one host has objections signed to everything that may ever be proposed, to keep the DAO from its way back
/// once the enclaves are lost. They are good for the proposals that were asked about, and those name enclaves to come.
#[test]
fn no_objection_to_a_proposal_can_be_had_before_its_terms_are_known() {
    let (mut cluster, _) = with_deposit(5, 3);
    let (manifest, council) = (ManifestHash([5; 32]), Digest([6; 32]));
    let contract = POOL.contract;
    let stored = Provable::CancelRecovery { contract, number: 1, manifest, council };
    let proof = cluster.prove(stored).expect("a proof");
    let (domain, epoch) = (cluster.manifest.domain(), cluster.manifest.epoch);
    let signers = Council::of(&cluster.manifest).signers;
    let check = |statement: Statement| {
        Proof::verify(proof.as_bytes(), &statement.digest(&domain, epoch), &signers, 3).is_ok()
    };
    assert!(check(stored.statement()));
    assert!(!check(Statement::CancelRecovery { number: 1, manifest: ManifestHash([4; 32]), council }));
    assert!(!check(Statement::CancelRecovery { number: 1, manifest, council: Digest([4; 32]) }));
    assert!(!check(Statement::CancelRecovery { number: 2, manifest, council }));
}

/// A DAO that takes another pool manager goes on proving deposits to the old one, in the epochs that it is told of.
#[test]
fn a_pool_of_an_earlier_pool_manager_is_proved_to_that_one() {
    let (mut cluster, data) = with_deposit(5, 3);
    let before = cluster.manifest.clone();
    let (new, code) = (Address([0xbb; 20]), Digest([0xc1; 32]));
    let moved = next(&before, |next| (next.contracts.pool_manager, next.contracts.pool_code) = (new, code));
    cluster.amend(&moved);
    cluster.run(2);
    let there = PoolId::new(POOL.chain, new, 1);
    // The new one is told of no epoch yet.
    let deposit = Provable::Deposit { pool: POOL, data };
    let (number, manifest, council) = (1, ManifestHash([5; 32]), Digest([6; 32]));
    let objection = Provable::CancelRecovery { contract: new, number, manifest, council };
    refuses_in(&mut cluster, moved.epoch, objection);
    let later = next(&moved, |next| next.name = "later".into());
    cluster.amend(&later);
    cluster.run(2);
    for epoch in [before.epoch, moved.epoch] {
        assert!(proves(&mut cluster, ONE, epoch, deposit, &Council::of(&moved)), "{epoch}");
    }
    refuses_in(&mut cluster, later.epoch, deposit);
    refuses_in(&mut cluster, moved.epoch, objection);
    assert!(proves(&mut cluster, ONE, later.epoch, objection, &Council::of(&later)));
    // A pool of the new one has its address by the new code.
    cluster.observe(deposit_requested_of(there));
    cluster.run(1);
    let credentials = cluster.deposit(there).expect("a deposit").message.withdrawal_credentials;
    assert_eq!(credentials, WithdrawalCredentials::execution(there.address(&code)));
    // It has missed the epochs since it was left, so it can't be the DAO's again: no epoch could ever be told to it.
    let back = next(&later, |next| next.contracts = before.contracts);
    let epoch = signed(&later, &back, cluster.ids());
    assert_eq!(cluster.ask(ONE, Request::Amend(epoch)), Reply::Rejected(Rejection::InvalidEpoch));
}

/// The pool manager never takes a signer again that was replaced: an epoch that names it would be the last one told to it. An enclave
/// knows that of keys, too, that were replaced before it was there: else some would agree on what others refuse for good.
#[test]
fn a_key_of_a_lost_machine_is_not_named_again_however_late() {
    let (mut cluster, _) = with_deposit(5, 3);
    let lost = cluster.manifest.members[0].enclave.expect("named");
    for (member, launch) in [(ONE, 50), (MemberId(2), 51)] {
        cluster.replace(member, launch);
        cluster.run(4);
    }
    let current = cluster.manifest.clone();
    let coins = Coins::new(Zeroizing::new([7; 32]));
    let fresh = IdentityKeys::derive(&coins, ONE, 2).identity().keys();
    let replaced = |keys: EnclaveKeys| {
        let next =
            next(&current, |next| (next.members[0].machine, next.members[0].enclave) = (2, Some(keys)));
        signed(&current, &next, cluster.ids())
    };
    let back = replaced(EnclaveKeys { signer: lost.signer, ..fresh });
    let good = replaced(fresh);
    for id in cluster.ids() {
        assert_eq!(cluster.newest_manifest(id), current, "{id}");
        let reply = cluster.ask(id, Request::Amend(back.clone()));
        assert_eq!(reply, Reply::Rejected(Rejection::InvalidEpoch), "{id}");
        assert_eq!(cluster.ask(id, Request::Amend(good.clone())), Reply::Done, "{id}");
    }
}

/// As the contract reads them: one set of signers, one sequence of bytes.
#[test]
fn bytes_that_are_no_proof_are_refused() {
    let (mut cluster, data) = with_deposit(5, 3);
    let good = cluster.prove_deposit(POOL, &data).expect("a proof").as_bytes().to_vec();
    let statement = Statement::Deposit { pool: 1, attempt: 0, root: data.hash_tree_root() };
    let (domain, epoch) = (cluster.manifest.domain(), cluster.manifest.epoch);
    let digest = statement.digest(&domain, epoch);
    let signers = Council::of(&cluster.manifest).signers;
    let check = |bytes: &[u8], digest: &[u8; 32]| Proof::verify(bytes, digest, &signers, 3);
    assert_eq!(check(&good, &digest), Ok(vec![ONE, MemberId(2), MemberId(3)]));
    let edit = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        check(&bytes, &digest)
    };
    let wrong = |member| Err(ProofError::Signature(MemberId(member)));
    assert_eq!(edit(Vec::clear), Err(ProofError::Length(0)));
    assert_eq!(edit(|bytes| bytes.truncate(31)), Err(ProofError::Length(31)));
    assert_eq!(edit(|bytes| bytes.push(0)), Err(ProofError::Length(good.len() + 1)));
    assert_eq!(edit(|bytes| bytes.truncate(32 + 130)), Err(ProofError::Length(162)));
    assert_eq!(edit(|bytes| bytes[31] = 0b11), Err(ProofError::Count { wanted: 3, found: 2 }));
    assert_eq!(edit(|bytes| bytes[31] = 0b1111), Err(ProofError::Count { wanted: 3, found: 4 }));
    assert_eq!(edit(|bytes| bytes[31] = 0b1011), wrong(4));
    assert_eq!(edit(|bytes| bytes[31] = 0b10_0011), Err(ProofError::NoMember(MemberId(6))));
    assert_eq!(edit(|bytes| (bytes[0], bytes[31]) = (0x80, 0b11)), Err(ProofError::NoMember(MemberId(256))));
    assert_eq!(edit(|bytes| bytes[32..162].rotate_left(65)), wrong(1));
    assert_eq!(edit(|bytes| bytes[96] ^= 7), wrong(1));
    assert_eq!(edit(|bytes| bytes[40] ^= 1), wrong(1));
    // Of another pool, attempt, root, epoch, contract, chain.
    let others = [
        Statement::Deposit { pool: 2, attempt: 0, root: data.hash_tree_root() },
        Statement::Deposit { pool: 1, attempt: 1, root: data.hash_tree_root() },
        Statement::Deposit { pool: 1, attempt: 0, root: postern_shared::ethereum::Root([1; 32]) },
        Statement::TriggerExit { pool: 1 },
        Statement::PoolExited { pool: 1 },
    ];
    for other in others {
        assert_eq!(check(&good, &other.digest(&domain, epoch)), wrong(1));
    }
    assert_eq!(check(&good, &statement.digest(&domain, epoch + 1)), wrong(1));
    let mut elsewhere = domain;
    elsewhere.chain_id += 1;
    assert_eq!(check(&good, &statement.digest(&elsewhere, epoch)), wrong(1));
    let mut elsewhere = domain;
    elsewhere.verifying_contract.0[19] ^= 1;
    assert_eq!(check(&good, &statement.digest(&elsewhere, epoch)), wrong(1));
}
