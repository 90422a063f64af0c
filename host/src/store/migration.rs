//! Stores of earlier versions, made into stores of this one when they are opened.
//!
//! Each step leads from one version to the next, in one transaction with the new number: a host that is killed in the middle finds
//! the old version, and does the step again. There is no way back, and no copy of the old store is kept: a copy that somebody
//! went back to would take the enclave and the wallet back in time. Who wants one exports the store before the new build is started.
//!
//! # What each version had
//! | version | |
//! | --- | --- |
//! | 1 | no log of the enclave: what it knew was gone with its memory |
//! | 2 | `log` and `slots`; pools by their number alone |
//! | 3 | `cursors`, pools by their full names; from its second hour on `records` with `digest`, since two statements can be in one slot |
//! | 4 | `ceremonies`; results that are done with have no row |
//!
//! Builds of one version have also written some rows in more than one form; each step takes all forms that its version had. What it
//! does not take is refused, and nothing is changed: a result that still waits for something to be done, in a form that this build does not
//! know ([`StoreError::Unfinished`]).
//!
//! What the enclave has sealed no host can convert. It stays as it is; an enclave that does not read it says so, and the check of
//! the log does ([`LogFault::Version`](super::LogFault::Version)).

mod step_1;
mod step_2;
mod step_3;

use super::StoreError;
use super::database::Database;
use super::schema::VERSION;
use postern_shared::ids::{Address, PoolId};

/// Whose pools they are in a store that knows them by their number alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberedPools {
    /// EIP-155 chain id.
    pub chain: u64,
    /// The pool manager of then: the only one that there was.
    pub contract: Address,
}

impl NumberedPools {
    fn name(&self, number: u32) -> PoolId {
        PoolId::new(self.chain, self.contract, number)
    }
}

/// Leads from a version to the next.
pub(super) struct Step {
    /// The version that it begins with.
    pub(super) from: i64,
    pub(super) run: fn(&mut Database, Option<NumberedPools>) -> Result<(), StoreError>,
}

/// One for each version before this one, in their order.
pub(super) const STEPS: [Step; 3] = [
    Step { from: 1, run: step_1::run },
    Step { from: 2, run: step_2::run },
    Step { from: 3, run: step_3::run },
];

/// Does all steps from the store's version to this build's.
pub(super) fn upgrade(database: &mut Database, pools: Option<NumberedPools>) -> Result<(), StoreError> {
    let found = database.version()?;
    STEPS.iter().filter(|step| step.from >= found).try_for_each(|step| run_step(database, step, pools))
}

/// Does one step: all of it, with the new version's number, or nothing.
pub(super) fn run_step(
    database: &mut Database,
    Step { from, run }: &Step,
    pools: Option<NumberedPools>,
) -> Result<(), StoreError> {
    database.transaction(|database| {
        run(database, pools)?;
        database.set_version(from + 1)
    })?;
    tracing::info!(from, to = from + 1, "the store was upgraded");
    Ok(())
}

/// Refuses what is newer than this build, and older than its first step.
pub(super) fn check_version(found: i64) -> Result<(), StoreError> {
    let oldest = STEPS.first().map_or(VERSION, |step| step.from);
    if (oldest..=VERSION).contains(&found) {
        return Ok(());
    }
    Err(StoreError::Schema { oldest, newest: VERSION, found })
}
