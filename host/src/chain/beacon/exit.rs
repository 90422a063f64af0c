//! Whether an exit is a validator's: everything that a beacon node checks of it but time and balance.

use postern_shared::bls::{PublicKey, VerifyError};
use postern_shared::ethereum::{Network, SignedVoluntaryExit};

/// Why an exit is not a validator's.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExitError {
    /// It names another validator.
    #[error("it is of validator {found}, not of {expected}")]
    OtherValidator {
        /// The validator's index.
        expected: u64,
        /// The exit's.
        found: u64,
    },
    /// The validator's key has not signed it for this network.
    #[error(transparent)]
    Signature(#[from] VerifyError),
}

/// Checks an exit against a validator's index, if that is known, and its key. Exits are signed for Capella for ever (EIP-7044).
pub fn verify_exit(
    exit: &SignedVoluntaryExit,
    pubkey: &PublicKey,
    index: Option<u64>,
    network: &Network,
) -> Result<(), ExitError> {
    let found = exit.message.validator_index;
    if let Some(expected) = index.filter(|index| *index != found) {
        return Err(ExitError::OtherValidator { expected, found });
    }
    let root = exit.message.signing_root(network.capella_fork_version, network.genesis_validators_root);
    Ok(pubkey.verify(&root.0, &exit.signature)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use postern_shared::bls::{ETHEREUM_DST, G1, G2, Scalar};
    use postern_shared::ethereum::{ForkVersion, Root, VoluntaryExit};

    /// For tests of everything that has to do with beacon nodes.
    pub(crate) const NETWORK: Network = Network {
        chain_id: 1,
        genesis_fork_version: ForkVersion([0, 0, 0, 1]),
        capella_fork_version: ForkVersion([3, 0, 0, 1]),
        genesis_validators_root: Root([7; 32]),
    };

    /// The public key of a secret number.
    pub(crate) fn pubkey(secret: u64) -> PublicKey {
        (G1::generator() * &Scalar::from_u64(secret)).encode()
    }

    /// The exit of a validator with this secret number, for this network.
    pub(crate) fn signed_exit(secret: u64, validator_index: u64, network: &Network) -> SignedVoluntaryExit {
        let message = VoluntaryExit { epoch: 3, validator_index };
        let root = message.signing_root(network.capella_fork_version, network.genesis_validators_root);
        let signature = (G2::hash(&root.0, ETHEREUM_DST) * &Scalar::from_u64(secret)).encode();
        SignedVoluntaryExit { message, signature }
    }

    #[test]
    fn an_exit_is_of_one_validator_one_key_and_one_network() {
        let good = signed_exit(5, 12, &NETWORK);
        let verify = |exit: &SignedVoluntaryExit, index| verify_exit(exit, &pubkey(5), index, &NETWORK);
        assert_eq!(verify(&good, Some(12)), Ok(()));
        assert_eq!(verify(&good, None), Ok(()));
        assert_eq!(verify(&good, Some(13)), Err(ExitError::OtherValidator { expected: 13, found: 12 }));
        let deneb = Network { capella_fork_version: ForkVersion([4, 0, 0, 1]), ..NETWORK };
        let elsewhere = Network { genesis_validators_root: Root([8; 32]), ..NETWORK };
        let mut later = good;
        later.message.epoch += 1;
        let others =
            [signed_exit(6, 12, &NETWORK), signed_exit(5, 12, &deneb), signed_exit(5, 12, &elsewhere), later];
        for exit in others {
            assert_eq!(verify(&exit, Some(12)), Err(ExitError::Signature(VerifyError::Mismatch)));
        }
    }
}
