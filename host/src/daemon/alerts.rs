//! What a person has to look at: files in `alerts/`, each said once.

use super::{Shared, results};
use crate::chain::execution::Recovery;
use postern_shared::bls::PublicKey;
use postern_shared::ethereum::WithdrawalCredentials;
use postern_shared::ids::{Address, Digest, PoolId};
use serde::Serialize;

/// See the module.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Alert {
    /// The pool manager has taken another key than the pool's enclaves have made: as many as prove a deposit are broken.
    OtherValidator {
        /// The pool.
        pool: PoolId,
        /// What it was given.
        found: PublicKey,
        /// What the enclaves made.
        made: PublicKey,
        /// The transaction that did it, if the node knows.
        transaction: Option<Digest>,
    },
    /// The validator's stake goes elsewhere than to the pool: as many operators as sign have signed another deposit before.
    OtherCredentials {
        /// The pool.
        pool: PoolId,
        /// Its validator.
        validator: PublicKey,
        /// Where its stake goes.
        found: WithdrawalCredentials,
        /// Where it was to go.
        made: WithdrawalCredentials,
    },
    /// Wallets want other members at a pool manager, without their enclaves.
    Recovery {
        /// Which pool manager.
        contract: Address,
        /// What they want.
        recovery: Recovery,
    },
}

impl Alert {
    fn name(&self) -> String {
        match self {
            Self::OtherValidator { pool, .. } => format!("other-validator-pool-{}", pool.text()),
            Self::OtherCredentials { pool, .. } => format!("other-credentials-pool-{}", pool.text()),
            Self::Recovery { contract, recovery } => format!("recovery-{contract}-{}", recovery.number),
        }
    }
}

/// Says it, if it was not said before.
pub(super) fn raise(shared: &Shared, alert: &Alert) {
    let name = format!("{}.json", alert.name());
    if !shared.data_dir.join("alerts").join(&name).exists() {
        tracing::error!(?alert, "ALERT");
        results::write(shared, "alerts", &name, alert);
    }
}
