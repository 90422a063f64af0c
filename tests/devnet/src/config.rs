//! What a development network is made of.

use alloy::primitives::{Address, U256, address};
use std::time::Duration;

/// The address of the deposit contract on mainnet, and here too unless configured otherwise.
pub const MAINNET_DEPOSIT_CONTRACT: Address = address!("00000000219ab540356cBB839Cbe05303d7705Fa");

const GWEI_PER_ETHER: u64 = 1_000_000_000;

/// Who moves the chain on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// A new slot every [`Config::slot`].
    Interval,
    /// Slots come only from [`crate::Devnet::advance`]: a test decides what happens between two blocks.
    Manual,
}

/// How the beacon node answers when it is handed an exit that it has already accepted. Real clients differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatedExit {
    /// 200, and nothing happens (Lighthouse).
    Accepted,
    /// 400 `VOLUNTARY_EXIT_ERROR_ALREADY_EXISTS` (Lodestar).
    Refused,
}

/// The parameters of a development network. Names and rules are those of Ethereum; only the sizes are small.
#[derive(Debug, Clone)]
pub struct Config {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Who moves the chain on.
    pub clock: Clock,
    /// The length of a slot. Blocks carry the time in whole seconds, so short slots share a timestamp.
    pub slot: Duration,
    /// `SLOTS_PER_EPOCH`; at least 1.
    pub slots_per_epoch: u64,
    /// Accounts with a balance in the genesis block.
    pub prefunded: Vec<(Address, U256)>,
    /// Where the deposit contract stands. It is there from genesis on.
    pub deposit_contract: Address,
    /// Gas limit of every block.
    pub block_gas_limit: u64,
    /// TCP port of the execution node on 127.0.0.1; 0 takes a free one.
    pub execution_port: u16,
    /// TCP port of the beacon node on 127.0.0.1; 0 takes a free one.
    pub beacon_port: u16,
    /// `GENESIS_FORK_VERSION`: the domain of deposit signatures.
    pub genesis_fork_version: [u8; 4],
    /// `CAPELLA_FORK_VERSION`: the domain of voluntary exits, for ever (EIP-7044).
    pub capella_fork_version: [u8; 4],
    /// How many validators are active at genesis. Validator `i` has the interop key of that number.
    pub genesis_validators: u64,
    /// `SHARD_COMMITTEE_PERIOD`: how many epochs a validator must have been active before it may leave.
    pub shard_committee_period: u64,
    /// `MAX_SEED_LOOKAHEAD`: activations and exits take effect one epoch more than this later.
    pub max_seed_lookahead: u64,
    /// `MIN_VALIDATOR_WITHDRAWABILITY_DELAY`: how many epochs after its exit a validator's balance may be withdrawn.
    pub min_validator_withdrawability_delay: u64,
    /// `MAX_WITHDRAWALS_PER_PAYLOAD`: how many withdrawals one block pays; at least 1.
    pub max_withdrawals_per_payload: u64,
    /// `MAX_VALIDATORS_PER_WITHDRAWALS_SWEEP`: how many validators one block visits to find them; at least 1.
    pub max_validators_per_withdrawals_sweep: u64,
    /// `MIN_PER_EPOCH_CHURN_LIMIT_ELECTRA` in Gwei.
    pub min_per_epoch_churn_limit: u64,
    /// `MAX_PER_EPOCH_ACTIVATION_EXIT_CHURN_LIMIT` in Gwei.
    pub max_per_epoch_activation_exit_churn_limit: u64,
    /// `CHURN_LIMIT_QUOTIENT`; at least 1.
    pub churn_limit_quotient: u64,
    /// What a repeated exit is answered.
    pub repeated_exit: RepeatedExit,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chain_id: 70_700,
            clock: Clock::Interval,
            slot: Duration::from_millis(250),
            slots_per_epoch: 4,
            prefunded: Vec::new(),
            deposit_contract: MAINNET_DEPOSIT_CONTRACT,
            block_gas_limit: 36_000_000,
            execution_port: 0,
            beacon_port: 0,
            genesis_fork_version: [0x00, 0x07, 0x07, 0x00],
            capella_fork_version: [0x03, 0x07, 0x07, 0x00],
            genesis_validators: 16,
            shard_committee_period: 2,
            max_seed_lookahead: 1,
            min_validator_withdrawability_delay: 4,
            max_withdrawals_per_payload: 4,
            max_validators_per_withdrawals_sweep: 16,
            min_per_epoch_churn_limit: 128 * GWEI_PER_ETHER,
            max_per_epoch_activation_exit_churn_limit: 256 * GWEI_PER_ETHER,
            churn_limit_quotient: 65_536,
            repeated_exit: RepeatedExit::Accepted,
        }
    }
}

impl Config {
    /// The first slot of an epoch.
    pub(crate) fn start_slot(&self, epoch: u64) -> u64 {
        epoch.saturating_mul(self.slots_per_epoch)
    }

    /// The epoch that a slot is in.
    pub(crate) fn epoch_of(&self, slot: u64) -> u64 {
        slot / self.slots_per_epoch.max(1)
    }

    /// The version of the fork with this number (0 is phase0, 3 Capella, 5 Electra). Forks without a version of their
    /// own in the configuration follow the custom of the public networks: the first byte counts.
    pub(crate) fn fork_version(&self, fork: u8) -> [u8; 4] {
        match fork {
            0 => self.genesis_fork_version,
            3 => self.capella_fork_version,
            _ => {
                let [_, rest @ ..] = self.genesis_fork_version;
                [fork, rest[0], rest[1], rest[2]]
            }
        }
    }

    /// Whether the chain can be run with these numbers.
    pub(crate) fn validate(&self) -> Result<(), crate::Error> {
        let positive = [
            ("slots_per_epoch", self.slots_per_epoch),
            ("churn_limit_quotient", self.churn_limit_quotient),
            ("min_per_epoch_churn_limit", self.min_per_epoch_churn_limit),
            ("max_withdrawals_per_payload", self.max_withdrawals_per_payload),
            ("max_validators_per_withdrawals_sweep", self.max_validators_per_withdrawals_sweep),
            ("block_gas_limit", self.block_gas_limit),
            ("genesis_validators", self.genesis_validators),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(crate::Error::ZeroParameter(name));
        }
        if self.slot.is_zero() && self.clock == Clock::Interval {
            return Err(crate::Error::ZeroParameter("slot"));
        }
        Ok(())
    }
}
