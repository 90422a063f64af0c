//! What the demo proved: checks transcripts and signatures once more, offline, and writes it down.

use super::DemoError;
use super::chaos::ChaosReport;
use super::stakers::StakerReport;
use crate::chain::beacon::ValidatorStatus;
use crate::verify::{Proved, verify_files};
use postern_shared::bls::{PublicKey, Signature};
use postern_shared::ethereum::{
    DepositData, ForkVersion, Network, Root, SignedVoluntaryExit, VALIDATOR_STAKE_GWEI, WithdrawalCredentials,
};
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::manifest::Manifest;
use postern_shared::transcript::Claim;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The result of a demo, as `--json` prints it. 64-bit numbers are text, as in the Beacon API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoReport {
    /// Of this format: 3.
    pub version: u32,
    /// The embedded chains.
    pub network: NetworkReport,
    /// How many members.
    pub members: u16,
    /// How many operators sign together.
    pub operator_threshold: u16,
    /// How many guardians release together.
    pub guardian_threshold: u16,
    /// Every pool.
    pub pools: Vec<PoolReport>,
    /// How long it took.
    pub timings_ms: Timings,
    /// Sum of the highest resident sizes of all processes.
    pub peak_rss_kib: u64,
    /// Who was killed on the way.
    pub chaos: ChaosReport,
}

/// What of the network went into signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// EIP-155.
    pub chain_id: u64,
    /// Of the beacon chain.
    pub genesis_validators_root: Root,
    /// Of the beacon chain.
    pub genesis_fork_version: ForkVersion,
    /// Of the beacon chain.
    pub capella_fork_version: ForkVersion,
}

/// One pool's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Its full name.
    pub pool_id: PoolId,
    /// Its validator.
    pub pubkey: PublicKey,
    /// Where its stake goes.
    pub withdrawal_credentials: WithdrawalCredentials,
    /// Its stake.
    pub amount_gwei: String,
    /// Over the deposit message.
    pub deposit_signature: Signature,
    /// `hash_tree_root` of the deposit data.
    pub deposit_data_root: Root,
    /// On the beacon chain.
    pub validator_index: String,
    /// In the form of the Beacon API.
    pub exit: ExitReport,
    /// Who made the key together.
    pub operators: Vec<MemberId>,
    /// Who holds shares of the exit.
    pub guardians: Vec<MemberId>,
    /// At the end.
    pub beacon_status: ValidatorStatus,
    /// Whose stake it was, and what they got back.
    pub stakers: Vec<StakerReport>,
    /// Files.
    pub transcripts: TranscriptPaths,
}

/// `SignedVoluntaryExit` in the form of the Beacon API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// What is signed.
    pub message: ExitMessage,
    /// By the validator's key.
    pub signature: Signature,
}

/// `VoluntaryExit` in the form of the Beacon API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitMessage {
    /// The first epoch in which the exit is valid.
    pub epoch: String,
    /// Whose.
    pub validator_index: String,
}

/// The transcripts of a pool's three ceremonies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptPaths {
    /// Made the key, signed the deposit.
    pub keygen: PathBuf,
    /// Signed the exit and split it.
    pub presign: PathBuf,
    /// Put it together.
    pub release: PathBuf,
}

/// How long each part took, for the slowest pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// From the stake to the signed deposit.
    pub keygen: u64,
    /// From there to the deposit on chain.
    pub deposit: u64,
    /// From there to the presigned exit: most of it is waiting for the validator's index.
    pub presign: u64,
    /// From the request to the validator's leaving.
    pub release: u64,
    /// From there to the stakers' ether: most of it is waiting for the validator's withdrawable epoch.
    pub payout: u64,
    /// From the demo's start to its end.
    pub total: u64,
}

/// Checks a pool's transcripts and what they say about each other and about the chain.
pub(super) fn prove(
    manifest: &Manifest,
    pool: PoolId,
    transcripts: TranscriptPaths,
    validator_index: u64,
    beacon_status: ValidatorStatus,
    stakers: Vec<StakerReport>,
) -> Result<PoolReport, DemoError> {
    let unproved = |reason: String| DemoError::Unproved { what: pool.to_string(), reason };
    let require = |holds: bool, what: &str| if holds { Ok(()) } else { Err(unproved(what.to_owned())) };

    let paths = [&transcripts.keygen, &transcripts.presign, &transcripts.release].map(PathBuf::clone);
    let verified = verify_files(&paths, &[manifest.hash()]).map_err(|error| unproved(error.to_string()))?;
    let claims: Vec<Claim> = verified
        .into_iter()
        .filter_map(|verified| match verified.claim {
            Proved::Claim(claim) => Some(claim),
            Proved::Deposit { .. } => None,
        })
        .collect();
    let [
        Claim::Key { pool: made, certificate, deposit, operators, .. },
        Claim::Presigned { pool: presigned, guardians, .. },
        Claim::Released { pool: released, exit, .. },
    ] = &claims[..]
    else {
        return Err(unproved("the transcripts prove something else".to_owned()));
    };
    let pubkey = certificate.pubkey();
    require([made, presigned, released].iter().all(|of| **of == pool), "a transcript is of another pool")?;
    require(exit.message.validator_index == validator_index, "the exit is of another validator")?;
    check_signatures(&manifest.network, &pubkey, deposit, exit).map_err(unproved)?;

    Ok(PoolReport {
        pool_id: pool,
        pubkey,
        withdrawal_credentials: deposit.message.withdrawal_credentials,
        amount_gwei: deposit.message.amount.to_string(),
        deposit_signature: deposit.signature,
        deposit_data_root: deposit.hash_tree_root(),
        validator_index: validator_index.to_string(),
        exit: ExitReport {
            message: ExitMessage {
                epoch: exit.message.epoch.to_string(),
                validator_index: exit.message.validator_index.to_string(),
            },
            signature: exit.signature,
        },
        operators: operators.clone(),
        guardians: guardians.clone(),
        beacon_status,
        stakers,
        transcripts,
    })
}

/// What any consensus client checks of a deposit and an exit.
fn check_signatures(
    network: &Network,
    pubkey: &PublicKey,
    deposit: &DepositData,
    exit: &SignedVoluntaryExit,
) -> Result<(), String> {
    if deposit.message.pubkey != *pubkey || deposit.message.amount != VALIDATOR_STAKE_GWEI {
        return Err("the deposit is of another key or amount".to_owned());
    }
    let root = deposit.message.signing_root(network.genesis_fork_version);
    pubkey.verify(&root.0, &deposit.signature).map_err(|error| format!("deposit: {error}"))?;
    let root = exit.message.signing_root(network.capella_fork_version, network.genesis_validators_root);
    pubkey.verify(&root.0, &exit.signature).map_err(|error| format!("exit: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_its_documented_form() {
        let report = DemoReport {
            version: 3,
            network: NetworkReport {
                chain_id: 70_700,
                genesis_validators_root: Root([1; 32]),
                genesis_fork_version: ForkVersion([0, 7, 7, 0]),
                capella_fork_version: ForkVersion([3, 7, 7, 0]),
            },
            members: 5,
            operator_threshold: 3,
            guardian_threshold: 3,
            pools: vec![PoolReport {
                pool_id: PoolId::new(70_700, postern_shared::ids::Address([7; 20]), 1),
                pubkey: PublicKey([2; 48]),
                withdrawal_credentials: WithdrawalCredentials([3; 32]),
                amount_gwei: "32000000000".to_owned(),
                deposit_signature: Signature([4; 96]),
                deposit_data_root: Root([5; 32]),
                validator_index: "16".to_owned(),
                exit: ExitReport {
                    message: ExitMessage { epoch: "9".to_owned(), validator_index: "16".to_owned() },
                    signature: Signature([6; 96]),
                },
                operators: vec![MemberId(1), MemberId(2)],
                guardians: vec![MemberId(1)],
                beacon_status: ValidatorStatus::WithdrawalDone,
                stakers: vec![StakerReport {
                    address: postern_shared::ids::Address([8; 20]),
                    contribution_wei: "20000000000000000000".to_owned(),
                    claimed_wei: "20000000000000000001".to_owned(),
                }],
                transcripts: TranscriptPaths { keygen: "a".into(), presign: "b".into(), release: "c".into() },
            }],
            timings_ms: Timings { keygen: 1, deposit: 2, presign: 3, release: 4, payout: 5, total: 15 },
            peak_rss_kib: 77,
            chaos: ChaosReport { kills_host: 1, kills_enclave: 2 },
        };
        let hex = |byte: &str, length| format!("0x{}", byte.repeat(length));
        let expected = serde_json::json!({
            "version": 3,
            "network": {
                "chain_id": 70_700,
                "genesis_validators_root": hex("01", 32),
                "genesis_fork_version": "0x00070700",
                "capella_fork_version": "0x03070700",
            },
            "members": 5,
            "operator_threshold": 3,
            "guardian_threshold": 3,
            "pools": [{
                "pool_id": format!("70700-{}-1", hex("07", 20)),
                "pubkey": hex("02", 48),
                "withdrawal_credentials": hex("03", 32),
                "amount_gwei": "32000000000",
                "deposit_signature": hex("04", 96),
                "deposit_data_root": hex("05", 32),
                "validator_index": "16",
                "exit": {"message": {"epoch": "9", "validator_index": "16"}, "signature": hex("06", 96)},
                "operators": [1, 2],
                "guardians": [1],
                "beacon_status": "withdrawal_done",
                "stakers": [{
                    "address": hex("08", 20),
                    "contribution_wei": "20000000000000000000",
                    "claimed_wei": "20000000000000000001",
                }],
                "transcripts": {"keygen": "a", "presign": "b", "release": "c"},
            }],
            "timings_ms": {"keygen": 1, "deposit": 2, "presign": 3, "release": 4, "payout": 5, "total": 15},
            "peak_rss_kib": 77,
            "chaos": {"kills_host": 1, "kills_enclave": 2},
        });
        assert_eq!(serde_json::to_value(report).unwrap(), expected);
    }
}
