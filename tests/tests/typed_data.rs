//! What wallets are given to sign (`eth_signTypedData_v4`, EIP-712), read and hashed as they do.

use alloy_dyn_abi::TypedData;
use postern_host::manifest::typed_data;
use postern_shared::epoch::EpochMessage;
use postern_shared::ids::{Address, ManifestHash};

#[test]
fn wallets_hash_what_enclaves_hash() {
    let texts = ["", "leader: member 2", "two\nlines", "\"quoted\" \\u{202e}", &"long ".repeat(100)];
    for (number, text) in (0u8..).zip(texts) {
        let message = EpochMessage {
            chain_id: u64::MAX >> number,
            verifying_contract: Address([number; 20]),
            dao: format!("DAO \u{e4} {text}"),
            epoch: u64::MAX >> (8 * number),
            predecessor: ManifestHash([number + 1; 32]),
            manifest: ManifestHash([number + 2; 32]),
            changes: text.to_owned(),
        };
        let typed: TypedData = serde_json::from_value(typed_data(&message)).unwrap();
        assert_eq!(typed.eip712_signing_hash().unwrap(), message.digest(), "{text}");
    }
}
