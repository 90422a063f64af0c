//! Anybody calls anything in any order, and a model of who owns what must agree after each step.
//!
//! The model is written from the rules alone: it says which calls succeed and what every account then holds, to the wei.
//! So ether that leaves in any other way, a proof that is taken or refused wrongly, or a claim that shrinks is found at
//! the step that does it. Sequences end anywhere, and from there everybody leaves without the enclaves' help.

use super::chain::{Bench, DELAYS, DepositBytes, Done, GOVERNOR, Reverted, STRANGER, staker};
use super::flaws::{Flaw, Signers};
use super::model::{CAPACITY, PoolModel, Random, STAKERS, Status};
use crate::support::dao::{Dao, Key, Place, key, prove};
use crate::support::{DepositContract, ETHER, Pool, PoolManager};
use alloy::eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS as WITHDRAWALS;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::{SolCall, SolEvent as _};
use revm::primitives::TxKind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How many epochs a recovery may skip at most.
const MAX_EPOCH_STEP: u64 = 65_535;
/// A sequence is up to twice as long.
const STEPS: usize = 60;

#[test]
fn no_sequence_of_calls_breaks_a_rule() {
    run(0, 30, 1);
}

/// `POSTERN_SEQUENCES` says how many, `POSTERN_SEED` where to begin.
#[test]
#[ignore = "takes as long as it is told to"]
fn no_long_run_of_sequences_breaks_a_rule() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (count, first) = (number("POSTERN_SEQUENCES", 2_000), number("POSTERN_SEED", 0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    run(first, count, threads);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{count} sequences of {STEPS} steps on average in {seconds:.1} s: {:.0} a second",
        count as f64 / seconds
    );
}

fn run(first: u64, count: u64, threads: usize) {
    let next = AtomicU64::new(first);
    let (took, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let benches = [Bench::new(3), Bench::new(4)];
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let mut world = World::new(benches[(seed % 2) as usize].clone(), seed);
                    for step in 0..1 + world.random.index(2 * STEPS) {
                        world.step();
                        if step % 16 == 0 {
                            world.check_views();
                        }
                    }
                    world.everybody_leaves();
                    world.trace.clear();
                    took.fetch_add(world.took, Ordering::Relaxed);
                    refused.fetch_add(world.refused, Ordering::Relaxed);
                }
            });
        }
    });
    let (took, refused) = (took.into_inner(), refused.into_inner());
    assert!(
        took > 10 * count && refused > 10 * count,
        "{took} calls taken, {refused} refused: too one-sided"
    );
}

#[derive(Debug, Clone)]
struct Waiting {
    number: u32,
    ready_at: u64,
    next: Dao,
}

#[derive(Debug, Clone)]
struct World {
    seed: u64,
    random: Random,
    bench: Bench,
    /// Pool `i + 1`; the last one is not full.
    pools: Vec<PoolModel>,
    governor: Address,
    proposed: Option<Address>,
    retired: Vec<(usize, Key)>,
    waiting: Option<Waiting>,
    proposals: u32,
    fresh_key: u64,
    /// Ether that came to the manager without a call: it never leaves.
    forced: u128,
    fees: u128,
    people: BTreeMap<Address, u128>,
    exits: VecDeque<u32>,
    /// Calls that can succeed only once.
    done: Vec<Vec<u8>>,
    /// What a staker could claim of a pool and has claimed, when it was last looked at.
    entitled: BTreeMap<(u32, usize), u128>,
    trace: Vec<String>,
    took: u64,
    refused: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.trace.is_empty() {
            let last = self.trace.len().saturating_sub(12);
            eprintln!(
                "sequence {}, step {}:\n  {}",
                self.seed,
                self.trace.len(),
                self.trace[last..].join("\n  ")
            );
        }
    }
}

impl World {
    fn new(bench: Bench, seed: u64) -> Self {
        let mut people = vec![GOVERNOR, STRANGER];
        people.extend((0..STAKERS).map(|number| staker(number as u8)));
        Self {
            seed,
            random: Random(seed),
            pools: vec![PoolModel::default()],
            governor: GOVERNOR,
            proposed: None,
            retired: Vec::new(),
            waiting: None,
            proposals: 0,
            fresh_key: 10_000,
            forced: 0,
            fees: 0,
            people: people.into_iter().map(|person| (person, bench.chain.balance(person))).collect(),
            exits: VecDeque::new(),
            done: Vec::new(),
            entitled: BTreeMap::new(),
            trace: Vec::new(),
            took: 0,
            refused: 0,
            bench,
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..15 => self.stake(),
            15..19 => self.unstake(),
            19..36 => self.deposit(),
            36..40 => self.raise_attempt(),
            40..44 => self.refund(),
            44..49 => self.request_exits(),
            49..56 => self.trigger_exit(),
            56..65 => self.claim(),
            65..67 => self.report_exited(),
            67..70 => self.change_governor(),
            70..76 => self.advance_epoch(),
            76..80 => self.propose_recovery(),
            80..82 => self.cancel_recovery(),
            82..84 => self.execute_recovery(),
            84..90 => self.ether_arrives(),
            90..92 => self.call_a_pool(),
            92..94 => self.replay(),
            _ => {
                let blocks = 1 + self.random.below(6) as u64;
                self.advance(blocks);
            }
        }
        self.check_balances();
    }

    // What people do.

    fn stake(&mut self) {
        let (who, room) = (self.random.index(STAKERS), CAPACITY - self.unfilled().staked());
        let wei = match self.random.below(6) {
            0 => room,
            1 => 1 + self.random.below(3),
            2 if self.pools.len() < 6 => self.random.below(70 * ETHER),
            3 => 0,
            _ => self.random.below(12 * ETHER),
        };
        let call = PoolManager::stakeCall {};
        let allowed = wei > 0 && self.waiting.is_none();
        if self.call("stake", staker(who as u8), wei, &call, allowed).is_none() {
            return;
        }
        *self.person(staker(who as u8)) -= wei;
        let mut left = wei;
        while left > 0 {
            let number = self.bench.chain.number;
            let pool = self.unfilled_mut();
            let part = left.min(CAPACITY - pool.staked());
            pool.contributions[who] += part;
            left -= part;
            if pool.staked() == CAPACITY {
                (pool.status, pool.ready_at) = (Status::Ready, number);
                self.pools.push(PoolModel::default());
            }
        }
    }

    fn unstake(&mut self) {
        let who = self.random.index(STAKERS);
        let there = self.unfilled().contributions[who];
        let wei = match self.random.below(4) {
            0 => there + 1,
            1 => there,
            2 => 0,
            _ => self.random.below(there.max(1)),
        };
        let call = PoolManager::unstakeCall { amount: U256::from(wei) };
        if self.call("unstake", staker(who as u8), 0, &call, wei > 0 && wei <= there).is_some() {
            self.unfilled_mut().contributions[who] -= wei;
            *self.person(staker(who as u8)) += wei;
        }
    }

    fn deposit(&mut self) {
        let id = self.pool_id();
        let attempt = self.pool(id).map_or(0, |pool| pool.attempt);
        let place = self.bench.place(id).attempt(attempt);
        let right = DepositBytes::of(self.bench.manager, id, attempt);
        // What is signed is right or is signed by the wrong ones; what is handed in is what was signed or is not.
        let root = right.root();
        let (proof, proven) = self.enclave_proof(place, &|place| place.deposit(root));
        let mut handed_in = right.clone();
        match self.random.below(8) {
            0 => handed_in.signature[self.random.index(96)] ^= 1,
            1 => handed_in.key[self.random.index(48)] ^= 1,
            2 => handed_in = DepositBytes::of(self.bench.manager, self.pool_id(), attempt),
            _ => {}
        }
        let ready = self.pool(id).is_some_and(|pool| pool.status == Status::Ready);
        let from = self.anybody();
        let call = handed_in.call(id, proof);
        // The root covers the credentials, so that a pool's own number says whose they are.
        let allowed = ready && proven && handed_in.key == right.key && handed_in.signature == right.signature;
        let Some(done) = self.call("depositPool", from, 0, &call, allowed) else { return };
        let deposits: Vec<_> = done.logs.iter().filter(|log| log.address == self.bench.deposits).collect();
        assert_eq!(deposits.len(), 1);
        let event = DepositContract::DepositEvent::decode_log(deposits[0]).unwrap();
        assert_eq!(event.pubkey.as_ref(), right.key, "not the enclaves' key");
        assert_eq!(event.signature.as_ref(), right.signature, "not the enclaves' signature");
        assert_eq!(event.withdrawal_credentials.as_ref(), right.credentials, "not the pool's credentials");
        assert_eq!(event.amount.as_ref(), 32_000_000_000u64.to_le_bytes());
        let pool = self.pool_mut(id);
        (pool.status, pool.key) = (Status::Deposited, Some(right.key));
        self.done.push(call.abi_encode());
    }

    fn raise_attempt(&mut self) {
        let id = self.pool_id();
        let attempt = self.pool(id).map_or(0, |pool| pool.attempt) + 1;
        let place = self.bench.place(id).attempt(attempt);
        let (proof, proven) = self.enclave_proof(place, &|place| place.raise_attempt());
        let ready = self.pool(id).is_some_and(|pool| pool.status == Status::Ready);
        let (from, call) = (self.anybody(), PoolManager::raiseAttemptCall { poolId: id, proof });
        if self.call("raiseAttempt", from, 0, &call, ready && proven).is_some() {
            self.pool_mut(id).attempt = attempt;
            self.done.push(call.abi_encode());
        }
    }

    fn refund(&mut self) {
        let (id, number) = (self.pool_id(), self.bench.chain.number);
        let due = |pool: &PoolModel| pool.status == Status::Ready && number >= pool.ready_at + DELAYS.refund;
        let allowed = self.pool(id).is_some_and(due);
        let (from, call) = (self.anybody(), PoolManager::refundPoolCall { poolId: id });
        if self.call("refundPool", from, 0, &call, allowed).is_some() {
            let pool = self.pool_mut(id);
            pool.status = Status::Refunded;
            pool.income += CAPACITY;
        }
    }

    fn request_exits(&mut self) {
        let from = if self.random.chance(70) { self.governor } else { self.anybody() };
        let ids: Vec<u32> = (0..1 + self.random.below(2)).map(|_| self.pool_id()).collect();
        let all = ids.iter().all(|id| self.pool(*id).is_some_and(PoolModel::has_validator));
        // The governor by itself, or anybody for the wallets. The proof's place says what the last pool is.
        let (first, last) = (&ids[..ids.len() - 1], ids[ids.len() - 1]);
        let (proof, proven) = match self.random.chance(60) {
            true => (Bytes::new(), false),
            false => {
                let place = self.bench.place(last);
                self.proof(Signers::wallets(&self.bench.dao), place, &|place| {
                    place.request_exits(&[first, &[place.pool]].concat(), "because")
                })
            }
        };
        let may = if proof.is_empty() { from == self.governor } else { proven };
        let call = PoolManager::requestPoolExitsCall {
            poolIds: ids.clone(),
            reason: "because".into(),
            walletProof: proof,
        };
        if self.call("requestPoolExits", from, 0, &call, all && may).is_some() {
            let number = self.bench.chain.number;
            for id in ids {
                let pool = self.pool_mut(id);
                pool.status = Status::ExitRequested;
                pool.exit_requested_at.get_or_insert(number);
            }
        }
    }

    fn trigger_exit(&mut self) {
        let (id, from) = (self.pool_id(), self.anybody());
        let place = self.bench.place(id);
        let (proof, proven) = match self.random.chance(60) {
            true => (Bytes::new(), false),
            false => self.enclave_proof(place, &|place| place.trigger_exit()),
        };
        let (fee, number) = (self.fee(), self.bench.chain.number);
        let wei = match self.random.below(4) {
            0 => fee - 1,
            1 => fee,
            _ => fee + self.random.below(ETHER),
        };
        let waited = |pool: &PoolModel| pool.exit_requested_at.is_some_and(|at| number >= at + DELAYS.exit);
        let allowed = self.pool(id).is_some_and(|pool| {
            let may = if proof.is_empty() { from == self.governor || waited(pool) } else { proven };
            pool.has_validator() && may && wei >= fee
        });
        let call = PoolManager::triggerExitCall { poolId: id, proof };
        if self.call("triggerExit", from, wei, &call, allowed).is_some() {
            *self.person(from) -= fee;
            self.fees += fee;
            self.exits.push_back(id);
        }
    }

    fn claim(&mut self) {
        let (id, from) = (self.pool_id(), self.anybody());
        let who = (0..STAKERS).find(|number| staker(*number as u8) == from);
        let amount = who.and_then(|who| Some(self.pool(id)?.claimable(who))).unwrap_or(0);
        let call = PoolManager::claimCall { poolId: id };
        if self.call("claim", from, 0, &call, amount > 0).is_some() {
            self.pool_mut(id).claimed[who.unwrap()] += amount;
            *self.person(from) += amount;
        }
    }

    fn report_exited(&mut self) {
        let (id, from) = (self.pool_id(), self.anybody());
        let (proof, proven) = self.enclave_proof(self.bench.place(id), &|place| place.pool_exited());
        let allowed = proven && self.pool(id).is_some_and(PoolModel::has_validator);
        self.call(
            "reportPoolExited",
            from,
            0,
            &PoolManager::reportPoolExitedCall { poolId: id, proof },
            allowed,
        );
    }

    fn change_governor(&mut self) {
        let from = if self.random.chance(50) { self.governor } else { self.anybody() };
        if self.random.chance(50) {
            let proposed = if self.random.chance(80) { self.anybody() } else { Address::ZERO };
            let call = PoolManager::proposeGovernorCall { proposed };
            if self.call("proposeGovernor", from, 0, &call, from == self.governor).is_some() {
                self.proposed = (!proposed.is_zero()).then_some(proposed);
            }
        } else {
            let from = self.proposed.filter(|_| self.random.chance(70)).unwrap_or(from);
            let allowed = self.proposed == Some(from);
            if self.call("acceptGovernor", from, 0, &PoolManager::acceptGovernorCall {}, allowed).is_some() {
                (self.governor, self.proposed) = (from, None);
            }
        }
    }

    fn advance_epoch(&mut self) {
        let (next, place) = (self.next_members(), self.bench.place(0));
        let predecessor = self.bench.dao.manifest;
        let (wallets, by_wallets) = self.proof(Signers::wallets(&self.bench.dao), place, &|place| {
            place.manifest_epoch(predecessor, &next)
        });
        let (enclaves, by_enclaves) = self.enclave_proof(place, &|place| place.epoch_applied(&next));
        let mut call = self.bench.dao.advance(&next, wallets, enclaves);
        let mut stale = false;
        if self.random.chance(5) {
            stale = true;
            call.change.epoch += 1;
        }
        let allowed = by_wallets && by_enclaves && !stale && self.acceptable(&next);
        let from = self.anybody();
        if self.call("advanceEpoch", from, 0, &call, allowed).is_some() {
            self.install(next);
            self.done.push(call.abi_encode());
        }
    }

    fn propose_recovery(&mut self) {
        let (mut next, place, number) = (self.next_members(), self.bench.place(0), self.proposals + 1);
        let now = self.bench.dao.epoch;
        next.epoch = match self.random.below(8) {
            0..3 => now + 1 + self.random.below(10) as u64,
            3 => now + MAX_EPOCH_STEP,
            4 => now + MAX_EPOCH_STEP + 1,
            5 => self.random.below(u128::from(now) + 1) as u64,
            _ => now + 1,
        };
        next.manifest = keccak256(format!("recovery {number} begins epoch {}", next.epoch));
        let (proof, proven) =
            self.proof(Signers::wallets(&self.bench.dao), place, &|place| place.recovery(number, &next));
        let timely = next.epoch > now && next.epoch <= now + MAX_EPOCH_STEP;
        let mut call = PoolManager::proposeRecoveryCall { proposal: next.proposal(), walletProof: proof };
        let other = self.random.chance(5);
        if other {
            call.proposal.epoch += 1;
        }
        let allowed = proven && timely && !other && self.waiting.is_none() && self.acceptable(&next);
        let from = self.anybody();
        if self.call("proposeRecovery", from, 0, &call, allowed).is_some() {
            self.proposals = number;
            let ready_at = self.bench.chain.number + DELAYS.recovery;
            self.waiting = Some(Waiting { number, ready_at, next });
            self.done.push(call.abi_encode());
        }
    }

    fn cancel_recovery(&mut self) {
        let (number, mut proposed) = match &self.waiting {
            Some(waiting) => (waiting.number, waiting.next.clone()),
            None => (self.proposals, self.next_members()),
        };
        // An objection to that number, from before anybody knew what would be proposed.
        let known = !self.random.chance(20);
        if !known {
            match self.random.chance(50) {
                true => proposed.manifest = self.bench.dao.manifest,
                false => proposed.quorum += 1,
            }
        }
        let place = self.bench.place(0);
        let (proof, proven) = self.enclave_proof(place, &|place| place.cancel_recovery(number, &proposed));
        let allowed = proven && known && self.waiting.is_some();
        let (from, call) = (self.anybody(), PoolManager::cancelRecoveryCall { proof });
        if self.call("cancelRecovery", from, 0, &call, allowed).is_some() {
            self.waiting = None;
            self.done.push(call.abi_encode());
        }
    }

    fn execute_recovery(&mut self) {
        let mut proposed = match &self.waiting {
            Some(waiting) => waiting.next.clone(),
            None => self.next_members(),
        };
        let other = self.random.chance(20);
        if other {
            proposed.quorum += 1;
        }
        if let Some(waiting) = &self.waiting
            && self.bench.chain.number < waiting.ready_at
            && self.random.chance(50)
        {
            self.advance(waiting.ready_at - self.bench.chain.number);
        }
        let number = self.bench.chain.number;
        let due = self.waiting.as_ref().is_some_and(|waiting| number >= waiting.ready_at);
        let call =
            PoolManager::executeRecoveryCall { manifest: proposed.manifest, newTerms: proposed.terms() };
        let from = self.anybody();
        if self.call("executeRecovery", from, 0, &call, due && !other).is_some() {
            self.install(proposed);
            self.done.push(call.abi_encode());
        }
    }

    fn ether_arrives(&mut self) {
        let manager = self.bench.manager;
        match self.random.below(8) {
            // A transfer is refused; a block's tips or a contract that destroys itself cannot be.
            0 => {
                let from = self.anybody();
                let result = self.bench.chain.send_raw(from, TxKind::Call(manager), 1, Bytes::new());
                assert!(result.is_err(), "the manager took a transfer");
            }
            1 => {
                self.bench.chain.credit(manager, 3);
                self.forced += 3;
            }
            // Rewards, the stake itself, or what a slashing has left of it; early gifts too.
            kind => {
                let id = 1 + self.random.index(self.pools.len() + 1) as u32;
                let wei = match kind {
                    2..5 => self.random.below(ETHER / 10),
                    5 => 1 + self.random.below(2),
                    6 => CAPACITY,
                    _ => 16 * ETHER + self.random.below(16 * ETHER),
                };
                self.trace.push(format!("{wei} wei arrive at pool {id}"));
                if id as usize <= self.pools.len() {
                    self.bench.chain.credit(self.bench.pool(id), wei);
                    self.pool_mut(id).income += wei;
                }
            }
        }
    }

    fn call_a_pool(&mut self) {
        let (id, from) = (1 + self.random.index(self.pools.len()) as u32, self.anybody());
        if self.pool(id).is_none_or(|pool| pool.status == Status::None) {
            return;
        }
        let pool = self.bench.pool(id);
        let pay = Pool::payCall { to: from, amount: U256::from(1) };
        assert!(self.bench.chain.send(from, pool, 0, &pay).is_err(), "a pool obeyed a stranger");
        let exit = Pool::requestExitCall { publicKey: vec![0; 48].into(), surplusTo: from };
        assert!(self.bench.chain.send(from, pool, 1, &exit).is_err(), "a pool obeyed a stranger");
        self.refused += 2;
    }

    /// What was proven once is proven no more.
    fn replay(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let (from, call) = (self.anybody(), self.random.pick(&self.done));
        let result =
            self.bench.chain.send_raw(from, TxKind::Call(self.bench.manager), 0, call.clone().into());
        assert!(result.is_err(), "a call succeeded twice: {}", Bytes::from(call));
        self.refused += 1;
    }

    fn advance(&mut self, blocks: u64) {
        self.trace.push(format!("{blocks} blocks"));
        for (pool, key) in self.bench.chain.advance(blocks) {
            let id = self.exits.pop_front().expect("an exit that nobody asked for");
            assert_eq!(pool, self.bench.pool(id));
            assert_eq!(Some(key.as_ref()), self.pool(id).unwrap().key.as_ref().map(|key| &key[..]));
        }
    }

    // What they need for it.

    /// The number of a pool, often of one that there is.
    fn pool_id(&mut self) -> u32 {
        if self.random.chance(92) {
            1 + self.random.index(self.pools.len()) as u32
        } else {
            self.random.index(self.pools.len() + 2) as u32
        }
    }

    fn anybody(&mut self) -> Address {
        let people: Vec<Address> = self.people.keys().copied().collect();
        self.random.pick(&people)
    }

    fn enclave_proof(&mut self, place: Place, digest: &dyn Fn(&Place) -> B256) -> (Bytes, bool) {
        let retired = match self.retired.is_empty() {
            true => None,
            false => Some(self.random.pick(&self.retired)),
        };
        self.proof(Signers::enclaves(&self.bench.dao, retired), place, digest)
    }

    /// A proof, and whether it is one.
    fn proof(&mut self, signers: Signers, place: Place, digest: &dyn Fn(&Place) -> B256) -> (Bytes, bool) {
        if self.random.chance(35) {
            let flaw = self.random.pick(&Flaw::ALL);
            if let Some(proof) = flaw.make(&signers, place, digest) {
                self.trace.push(format!("  with a flaw: {flaw:?}"));
                return (proof, false);
            }
        }
        let mut able = signers.able();
        while able.len() > signers.wanted {
            able.remove(self.random.index(able.len()));
        }
        (prove(digest(&place), &able), true)
    }

    /// Members of the next epoch: mostly possible ones.
    fn next_members(&mut self) -> Dao {
        let mut next = self.bench.dao.next();
        self.fresh_key += 1;
        let (fresh, member) = (key(self.fresh_key), self.random.index(next.wallets.len()));
        match self.random.below(14) {
            0..4 => next.enclaves[member] = Some(fresh),
            4 => next.enclaves[member] = None,
            5 => next.wallets[member] = fresh,
            6 => next.quorum = 1 + self.random.below(5) as u16,
            7 => next.wallet_quorum = 1 + self.random.below(5) as u16,
            8 if next.wallets.len() < 5 => {
                next.wallets.push(fresh.clone());
                next.enclaves.push(self.random.chance(50).then(|| key(self.fresh_key + 1_000_000)));
                (next.quorum, next.wallet_quorum) = (3, 3);
            }
            9 => next.enclaves.swap(0, 1),
            10 => next.enclaves[member] = self.retired.last().map(|(_, key)| key.clone()),
            11 => next.enclaves[member] = Some(next.wallets[0].clone()),
            12 => _ = (next.wallets.pop(), next.enclaves.pop()),
            _ => {}
        }
        next
    }

    /// The rules for members, from their description.
    fn acceptable(&self, next: &Dao) -> bool {
        let (now, count) = (&self.bench.dao, next.wallets.len());
        let wallets: BTreeSet<Address> = next.wallet_addresses().into_iter().collect();
        let signers: Vec<Address> = next.able().iter().map(|(_, key)| key.address()).collect();
        let distinct: BTreeSet<Address> = signers.iter().copied().collect();
        let known = |address: Address| {
            let retired = self.retired.iter().any(|(_, key)| key.address() == address);
            retired || now.signer_addresses().contains(&address)
        };
        let stays = |index: usize, address: Address| now.signer_addresses().get(index) == Some(&address);
        let (quorum, wallet_quorum) = (usize::from(next.quorum), usize::from(next.wallet_quorum));
        count >= now.wallets.len()
            && next.enclaves.len() == count
            && wallets.len() == count
            && distinct.len() == signers.len()
            && distinct.is_disjoint(&wallets)
            && next.able().iter().all(|(index, key)| stays(*index, key.address()) || !known(key.address()))
            && (2..=signers.len()).contains(&quorum)
            && 2 * quorum > count
            && wallet_quorum <= count
            && 2 * wallet_quorum > count
    }

    fn install(&mut self, next: Dao) {
        for (index, key) in self.bench.dao.able() {
            if next.enclaves.get(index).and_then(Option::as_ref) != Some(&key) {
                self.retired.push((index, key));
            }
        }
        self.bench.dao = next;
        self.waiting = None;
        let council = self.bench.ask(&PoolManager::councilHashCall {});
        assert_eq!(council, self.bench.dao.council());
        assert_eq!(self.bench.ask(&PoolManager::epochCall {}), self.bench.dao.epoch);
    }

    fn fee(&mut self) -> u128 {
        U256::from_be_slice(&self.bench.chain.read(WITHDRAWALS)).to()
    }

    fn unfilled(&self) -> &PoolModel {
        self.pools.last().unwrap()
    }

    fn unfilled_mut(&mut self) -> &mut PoolModel {
        self.pools.last_mut().unwrap()
    }

    fn pool(&self, id: u32) -> Option<&PoolModel> {
        self.pools.get((id as usize).checked_sub(1)?)
    }

    fn pool_mut(&mut self, id: u32) -> &mut PoolModel {
        &mut self.pools[id as usize - 1]
    }

    fn person(&mut self, address: Address) -> &mut u128 {
        self.people.get_mut(&address).unwrap()
    }

    /// Makes a call and compares its success with what the model expects.
    fn call<C: SolCall>(
        &mut self,
        name: &str,
        from: Address,
        wei: u128,
        call: &C,
        allowed: bool,
    ) -> Option<Done> {
        self.trace
            .push(format!("{name} by {from}, {wei} wei: {}", if allowed { "succeeds" } else { "fails" }));
        match (self.bench.send(from, wei, call), allowed) {
            (Ok(done), true) => {
                self.took += 1;
                Some(done)
            }
            (Err(_), false) => {
                self.refused += 1;
                None
            }
            (Ok(_), false) => panic!("{name} succeeds and should not"),
            (Err(Reverted(data)), true) => panic!("{name} fails and should not: {data}"),
        }
    }

    // What must hold.

    /// Every account holds what the model says, to the wei.
    fn check_balances(&self) {
        let chain = &self.bench.chain;
        let held: u128 = self
            .pools
            .iter()
            .filter(|pool| matches!(pool.status, Status::None | Status::Ready))
            .map(PoolModel::staked)
            .sum();
        assert_eq!(chain.balance(self.bench.manager), held + self.forced, "the manager");
        let deposited = self.pools.iter().filter(|pool| pool.has_validator()).count() as u128;
        assert_eq!(chain.balance(self.bench.deposits), deposited * CAPACITY, "the deposit contract");
        assert_eq!(chain.balance(WITHDRAWALS), self.fees, "the contract of EIP-7002");
        for (person, balance) in &self.people {
            assert_eq!(chain.balance(*person), *balance, "{person}");
        }
        for (id, pool) in (1..).zip(&self.pools) {
            assert!(pool.paid() <= pool.income, "more is claimed than came");
            assert_eq!(chain.balance(self.bench.pool(id)), pool.income - pool.paid(), "pool {id}");
            if pool.status != Status::None {
                assert_eq!(pool.staked(), CAPACITY, "a full pool's contributions");
            }
        }
    }

    /// The contract's views agree with the model.
    fn check_views(&mut self) {
        for (id, pool) in (1..).zip(self.pools.clone()) {
            let seen = self.bench.ask(&PoolManager::getPoolCall { poolId: id });
            assert_eq!(seen.status, pool.status as u8);
            assert_eq!(seen.publicKey.as_ref(), pool.key.as_ref().map_or(&[][..], |key| &key[..]));
            assert_eq!(self.bench.ask(&PoolManager::attemptOfCall { poolId: id }), pool.attempt);
            for number in 0..STAKERS {
                let staker = staker(number as u8);
                let seen = self.bench.ask(&PoolManager::contributionOfCall { poolId: id, staker });
                assert_eq!(seen.to::<u128>(), pool.contributions[number]);
                let seen = self.bench.ask(&PoolManager::claimableCall { poolId: id, staker });
                assert_eq!(seen.to::<u128>(), pool.claimable(number));
                let entitled = seen.to::<u128>() + pool.claimed[number];
                let before = self.entitled.insert((id, number), entitled).unwrap_or(0);
                assert!(entitled >= before, "what a staker is entitled to shrinks");
            }
        }
        for (_, key) in &self.retired {
            assert!(self.bench.ask(&PoolManager::retiredCall { signer: key.address() }));
        }
    }

    /// From here everybody gets out what is theirs. Nobody of the DAO helps but the governor, who asks for the exits, or
    /// the wallets, who do it in the governor's place.
    fn everybody_leaves(&mut self) {
        self.check_views();
        for number in 0..STAKERS {
            let (who, wei) = (staker(number as u8), self.unfilled().contributions[number]);
            if wei > 0 {
                self.call("unstake", who, 0, &PoolManager::unstakeCall { amount: U256::from(wei) }, true);
                self.unfilled_mut().contributions[number] = 0;
                *self.person(who) += wei;
            }
        }
        let full = 1..self.pools.len() as u32;
        let asked_for: Vec<u32> =
            full.clone().filter(|id| self.pool(*id).is_some_and(PoolModel::has_validator)).collect();
        let (from, proof) = match self.random.chance(50) {
            true => (self.governor, Bytes::new()),
            false => {
                let digest = self.bench.place(0).request_exits(&asked_for, "the end");
                (STRANGER, Signers::wallets(&self.bench.dao).right(digest))
            }
        };
        let call = PoolManager::requestPoolExitsCall {
            poolIds: asked_for.clone(),
            reason: "the end".into(),
            walletProof: proof,
        };
        self.call("requestPoolExits", from, 0, &call, true);
        self.advance(DELAYS.refund.max(DELAYS.exit));
        for id in full.clone() {
            if self.pool(id).unwrap().status == Status::Ready {
                self.call("refundPool", STRANGER, 0, &PoolManager::refundPoolCall { poolId: id }, true);
                let pool = self.pool_mut(id);
                pool.status = Status::Refunded;
                pool.income += CAPACITY;
            }
        }
        for id in asked_for {
            let fee = self.fee();
            let call = PoolManager::triggerExitCall { poolId: id, proof: Bytes::new() };
            self.call("triggerExit", STRANGER, ETHER, &call, true);
            *self.person(STRANGER) -= fee;
            self.fees += fee;
            self.exits.push_back(id);
            self.pool_mut(id).status = Status::ExitRequested;
            // The beacon chain pays out what a slashing has left, or all.
            let wei = CAPACITY - self.random.below(2) * self.random.below(ETHER);
            self.bench.chain.credit(self.bench.pool(id), wei);
            self.pool_mut(id).income += wei;
        }
        self.advance(1 + self.exits.len() as u64 / 16);
        assert!(self.exits.is_empty(), "a request got lost");
        for id in full {
            for number in 0..STAKERS {
                let (who, wei) = (staker(number as u8), self.pool(id).unwrap().claimable(number));
                if wei > 0 {
                    self.call("claim", who, 0, &PoolManager::claimCall { poolId: id }, true);
                    self.pool_mut(id).claimed[number] += wei;
                    *self.person(who) += wei;
                }
            }
            self.check_balances();
            let left = self.bench.chain.balance(self.bench.pool(id));
            assert!(left < STAKERS as u128, "more than rounding is left in pool {id}: {left} wei");
        }
        assert_eq!(self.bench.chain.balance(self.bench.manager), self.forced);
        self.check_views();
    }
}
