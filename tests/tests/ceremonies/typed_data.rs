//! What wallets are given to sign (`eth_signTypedData_v4`, EIP-712), read and hashed as they do.

use alloy::primitives::{Address as AlloyAddress, B256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::{SolStruct, eip712_domain};
use alloy_dyn_abi::TypedData;
use postern_host::manifest::{Proposal, typed_data};
use postern_shared::bls::PublicKey;
use postern_shared::ecdsa::{EthereumSignature, recover};
use postern_shared::eip712::Domain;
use postern_shared::epoch::EpochMessage;
use postern_shared::identity::{AgreementKey, EnclaveKeys, SigningKey};
use postern_shared::ids::{Address, Digest, ManifestHash, MemberId};
use postern_tests::cluster::manifest;
use postern_tests::wallets::next;
use serde_json::Value;

sol! {
    struct ManifestEpoch {
        string dao;
        uint64 epoch;
        bytes32 predecessor;
        bytes32 manifest;
        bytes32 council;
        string changes;
    }
}

#[test]
fn wallets_and_we_hash_the_same() {
    let texts = ["", "leader: member 2", "two\nlines", "\"quoted\" \\u{202e}", &"long ".repeat(100)];
    for (number, text) in (0u8..).zip(texts) {
        let message = EpochMessage {
            domain: Domain { chain_id: u64::MAX >> number, verifying_contract: Address([number; 20]) },
            dao: format!("DAO \u{e4} {text}"),
            epoch: u64::MAX >> (8 * number),
            predecessor: ManifestHash([number + 1; 32]),
            manifest: ManifestHash([number + 2; 32]),
            council: Digest([number + 3; 32]),
            changes: text.to_owned(),
        };
        let domain = eip712_domain! {
            name: "Postern",
            version: "1",
            chain_id: message.domain.chain_id,
            verifying_contract: AlloyAddress::from(message.domain.verifying_contract.0),
        };
        let theirs = ManifestEpoch {
            dao: message.dao.clone(),
            epoch: message.epoch,
            predecessor: message.predecessor.0.into(),
            manifest: message.manifest.0.into(),
            council: message.council.0.into(),
            changes: message.changes.clone(),
        };
        let digest = message.digest();
        assert_eq!(theirs.eip712_signing_hash(&domain), B256::from(digest));
        assert_eq!(ManifestEpoch::eip712_encode_type(), EpochMessage::TYPE);
        assert_eq!(domain.encode_type(), Domain::TYPE);
        let typed: TypedData = serde_json::from_value(typed_data(&message)).unwrap();
        assert_eq!(typed.eip712_signing_hash().unwrap(), B256::from(digest));
        let signer = PrivateKeySigner::from_slice(&[number + 1; 32]).unwrap();
        let signature = EthereumSignature(signer.sign_hash_sync(&B256::from(digest)).unwrap().as_bytes());
        assert_eq!(recover(&digest, &signature), Ok(Address(signer.address().into_array())));
    }
}

#[test]
fn a_proposal_has_what_wallets_sign() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proposal.json");
    let first = manifest(3, 2, 2);
    let second = next(&first, |manifest| {
        manifest.leader = MemberId(2);
        for (member, byte) in manifest.members.iter_mut().zip(1..) {
            member.enclave = Some(EnclaveKeys {
                signing: SigningKey([byte; 32]),
                agreement: AgreementKey([byte; 32]),
                dealing: PublicKey([byte; 48]),
                signer: Address([byte | 0x80; 20]),
            });
        }
    });
    Proposal::new(first, second).unwrap().write_new(&path).unwrap();
    let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let typed: TypedData = serde_json::from_value(file["typed_data"].clone()).unwrap();
    let message = Proposal::read(&path).unwrap().message;
    assert_eq!(typed.eip712_signing_hash().unwrap(), B256::from(message.digest()));
}
