//! How much an enclave can hold. Slow; `cargo test --release -p postern-enclave -- --ignored --nocapture`.

use crate::log::journal::{Content, Journal, LogName, Reader, VaultContent};
use crate::log::seal::LogKeys;
use crate::machine::platform::{DerivedKey, KeyRequest, Platform, PlatformError};
use crate::pools::vault::{Settled, Vault, VaultHead};
use postern_attestation::{ReportData, TrustAnchor};
use postern_shared::ids::{Address, ManifestHash, MemberId, PoolId};
use postern_shared::record::{LogHead, LogId, Salt};
use std::time::{Duration, Instant};

const POOLS: u32 = 100_000;
const POOLS_IN_RECORD: u32 = 64;

/// What a pool's settled state takes, as `tests/benches/sealing.rs` finds it: three of five members act, or five of seven.
const SIZES: [(&str, usize); 2] = [("3 of 5", 1_800), ("5 of 7", 3_100)];

/// The VM's memory is 512 MiB; the rest is for the kernel, the code, and ceremonies that go on.
const MOST_MEMORY: usize = 400 << 20;

/// A machine that only gives randomness, and the same every time.
struct Dice(u64);

impl Platform for Dice {
    fn report(&mut self, _: &ReportData) -> Result<Vec<u8>, PlatformError> {
        Err(PlatformError::Unreachable)
    }

    fn derive_key(&mut self, _: &KeyRequest) -> Result<DerivedKey, PlatformError> {
        Err(PlatformError::Unreachable)
    }

    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), PlatformError> {
        self.0 += 1;
        out.iter_mut().zip(self.0.to_le_bytes().into_iter().cycle()).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn trust_anchor(&self) -> &TrustAnchor {
        unreachable!("nobody is verified")
    }
}

/// Highest resident size of this process, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<usize>().unwrap() << 10
}

#[test]
#[ignore = "long: run in release by the slow suites"]
fn a_hundred_thousand_settled_pools_fit_the_vm() {
    for (who, size) in SIZES {
        let name = LogName { dao: ManifestHash([1; 32]), member: MemberId(1), log: LogId([2; 32]) };
        // The same dice give the same key twice: one writes, one reads, and no record is kept.
        let mut journal = Journal::new(LogKeys::draw(&mut Dice(0)).unwrap(), name, LogHead::START);
        let mut reader = Reader::new(LogKeys::draw(&mut Dice(0)).unwrap(), name);
        let mut vault = Vault::default();
        let (mut sealing, mut reading, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
        let mut follows = VaultHead::START;
        for first in (0..POOLS).step_by(POOLS_IN_RECORD as usize) {
            let pools = first..(first + POOLS_IN_RECORD).min(POOLS);
            let id = |number| PoolId::new(31337, Address([0xaa; 20]), number);
            let settled: Vec<Settled> = pools.map(|pool| Settled::of_size(id(pool), size)).collect();
            let head = follows.with(&settled);
            let begun = Instant::now();
            let salt = Salt([first as u8; 32]);
            let record = journal.vault(&VaultContent { follows, settled }, salt).unwrap();
            sealing += begun.elapsed();
            follows = head;
            bytes += record.ciphertext.len();
            let begun = Instant::now();
            let Content::Vault(VaultContent { settled, .. }) = reader.read(&record).unwrap() else {
                panic!("it was a vault record")
            };
            vault.keep(settled);
            reading += begun.elapsed();
        }
        assert_eq!((vault.len(), vault.head()), (POOLS as usize, follows));
        println!(
            "{who}: {POOLS} pools of {size} bytes: sealed {} MiB in {:.1} s, unsealed in {:.1} s; {} MiB at most in memory",
            bytes >> 20,
            sealing.as_secs_f64(),
            reading.as_secs_f64(),
            peak() >> 20,
        );
        assert!(peak() < MOST_MEMORY, "{} bytes", peak());
    }
}
