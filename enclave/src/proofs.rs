//! What this enclave signs for the pool manager: statements that it knows to be so, each as often as its host likes.
//!
//! # What others can make this enclave do
//! Sign: with its key for proofs, nothing but [`Statement`]s, to pool managers that the DAO has named, in the epoch that each
//! goes by. The digest is computed here.
//! A deposit is signed if the key is the one that the members have agreed on, the credentials are the pool's own, and the key
//! has signed it: all three go into its root, so nobody can deposit anything else with such a proof. Whether it was made
//! already is the contract's to know: a proof is as good after a reorganisation as before.
//! That the DAO wants a validator out is its own host's word, as for a release: as many hosts have to say so as a proof takes
//! enclaves. That a recovery is to be cancelled is anybody's: an enclave that acts is there, which is all that it says, and a DAO
//! whose enclaves are there needs none.

use crate::session::Session;
use crate::started::Started;
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::eip712::Domain;
use postern_shared::epoch::{PoolManager, SignedEpoch};
use postern_shared::ethereum::DepositMessage;
use postern_shared::ids::{Address, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::proof::{Council, Statement};
use postern_shared::wire::{Provable, Rejection};

/// Which of a pool's keys: no pool has had a second one so far.
const ATTEMPT: u16 = 0;

impl Started {
    pub(crate) fn prove(&self, what: &Provable) -> Result<EthereumSignature, Rejection> {
        self.must_act()?;
        self.session.prove(what).ok_or(Rejection::NothingToProve)
    }
}

impl Session {
    fn prove(&self, what: &Provable) -> Option<EthereumSignature> {
        let (contract, statement) = match *what {
            Provable::Deposit { pool, data } => {
                let is_so = self.deposit_message(pool)? == data.message
                    && data.is_signed(self.manifest.network.genesis_fork_version);
                let (number, root) = (pool.number, data.hash_tree_root());
                let statement = Statement::Deposit { pool: number, attempt: ATTEMPT, root };
                (self.contract_of(pool)?, is_so.then_some(statement)?)
            }
            Provable::TriggerExit(pool) => {
                let statement = Statement::TriggerExit { pool: pool.number };
                (self.contract_of(pool)?, self.ledger.wants_out(pool).then_some(statement)?)
            }
            Provable::EpochApplied(ref epoch) => return self.prove_epoch(epoch),
            Provable::CancelRecovery { contract, number } => (contract, Statement::CancelRecovery { number }),
        };
        // In the last epoch that this pool manager can be told of: that is where it stays when the DAO names another.
        let PoolManager { epoch, .. } = *self.pool_manager(contract)?;
        let domain = Domain { chain_id: self.manifest.network.chain_id, verifying_contract: contract };
        (epoch > 0).then(|| self.keys.prove(&statement, &domain, epoch))
    }

    /// Whose pool it is, on this chain.
    fn contract_of(&self, pool: PoolId) -> Option<Address> {
        (pool.chain == self.manifest.network.chain_id).then_some(pool.contract)
    }

    /// To the pool manager that the epoch has followed on: its predecessor's.
    fn prove_epoch(&self, epoch: &SignedEpoch) -> Option<EthereumSignature> {
        let next = Manifest::from_canonical(&epoch.manifest).ok()?;
        let predecessor = next.history?.predecessor;
        if self.agreed.get(&predecessor)?.manifest != next.hash() {
            return None;
        }
        let before = Manifest::from_canonical(self.manifests.get(&predecessor)?).ok()?;
        let statement =
            Statement::EpochApplied { manifest: next.hash(), council: Council::of(&next).digest() };
        Some(self.keys.prove(&statement, &before.domain(), next.epoch))
    }

    /// What the pool's key has to sign, once the members have agreed on the key.
    fn deposit_message(&self, pool: PoolId) -> Option<DepositMessage> {
        let run = self.keygens.get(&pool);
        let open = run.and_then(|run| Some(run.terms().deposit_message(run.key()?.certificate.pubkey())));
        open.or_else(|| self.vault.deposit_message(pool))
    }
}
