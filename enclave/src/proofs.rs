//! What this enclave signs for a pool manager: statements that it knows to be so, each as often as its host likes.
//!
//! # What others can make this enclave do
//! Sign: with its key for proofs, nothing but [statements](postern_shared::proof::Statement), to pool managers that the DAO
//! has named, in epochs that these go or went by. The digest is computed here. An earlier epoch will do: a pool manager can be
//! behind, and what is signed is so still.
//! A deposit is signed if the key is the one that the members have agreed on, the credentials are the pool's own, and the key
//! has signed it: all three go into its root, so nobody can deposit anything else with such a proof. Whether it was made
//! already is the contract's to know: a proof is as good after a reorganisation as before.
//! That the DAO wants a validator out is its own host's word, as for a release: as many hosts have to say so as a proof takes
//! enclaves. That one has left is its own host's word too, which hands on no other host's question before it has looked: it is
//! a line on record, from which nothing follows. That a recovery is to be cancelled is anybody's: an enclave that acts is there, which is all that it says, of a
//! proposal whose terms whoever asks must know. A DAO whose enclaves are there needs none.

use crate::life::Started;
use crate::state::State;
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::eip712::Domain;
use postern_shared::ethereum::DepositData;
use postern_shared::ids::{Address, Digest, ManifestHash, PoolId};
use postern_shared::proof::{Council, ProofRequest, Provable};
use postern_shared::wire::Rejection;

impl Started {
    pub(crate) fn prove(&self, asked: &ProofRequest) -> Result<EthereumSignature, Rejection> {
        self.must_act()?;
        self.state.prove(asked).ok_or(Rejection::NothingToProve)
    }
}

impl State {
    fn prove(&self, &ProofRequest { epoch, what }: &ProofRequest) -> Option<EthereumSignature> {
        let contract = what.contract();
        let is_so = match what {
            Provable::Deposit { pool, data } => self.is_ours(pool) && self.is_deposit(pool, &data),
            Provable::TriggerExit(pool) => self.is_ours(pool) && self.pools.ledger.wants_out(pool),
            Provable::EpochApplied { manifest, council, .. } => {
                self.has_applied(contract, epoch, manifest, council)
            }
            Provable::CancelRecovery { .. } => true,
            Provable::PoolExited(pool) => self.is_ours(pool) && self.pools.deposit_message(pool).is_some(),
        };
        let goes_by = self.dao.pool_manager(contract)?.goes_by(epoch);
        let domain = Domain { chain_id: self.dao.manifest.network.chain_id, verifying_contract: contract };
        (is_so && goes_by).then(|| self.dao.keys.prove(&what.statement(), &domain, epoch))
    }

    /// Whether a pool is on this chain.
    fn is_ours(&self, pool: PoolId) -> bool {
        pool.chain == self.dao.manifest.network.chain_id
    }

    fn is_deposit(&self, pool: PoolId, data: &DepositData) -> bool {
        self.pools.deposit_message(pool) == Some(data.message)
            && data.is_signed(self.dao.manifest.network.genesis_fork_version)
    }

    /// Whether the manifest of this epoch is that one, and followed on one that names the pool manager.
    fn has_applied(&self, contract: Address, epoch: u64, hash: ManifestHash, council: Digest) -> bool {
        let Some(next) = self.dao.manifest_of(hash).filter(|next| next.epoch == epoch) else { return false };
        let before = next.history.and_then(|history| self.dao.manifest_of(history.predecessor));
        before.is_some_and(|before| before.contracts.pool_manager == contract)
            && Council::of(&next).digest() == council
    }
}
