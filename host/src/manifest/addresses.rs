//! What people mistype in a manifest: addresses and keys, before enclaves and contracts go by them.
//!
//! Not a rule of the manifest itself: by that, enclaves would refuse one that they have accepted before.

use alloy::primitives::Address as AlloyAddress;
use postern_shared::ids::Address;
use postern_shared::manifest::Manifest;
use toml::Value;

/// What is wrong with an address or a key.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MistypedError {
    /// Capital letters are a checksum (EIP-55), and it is another one.
    #[error("{field}: {found} has a typing error: its capital letters are no EIP-55 checksum of it")]
    Checksum {
        /// Where.
        field: String,
        /// What is there.
        found: String,
    },
    /// Nobody's.
    #[error("{field}: all zeros")]
    Zero {
        /// Where.
        field: String,
    },
}

/// Looks through a manifest's text, and what it says.
pub(crate) fn check(text: &str, manifest: &Manifest) -> Result<(), MistypedError> {
    if let Ok(written) = toml::from_str::<Value>(text) {
        checksums("", &written)?;
    }
    let zero =
        |field: String, is_zero: bool| if is_zero { Err(MistypedError::Zero { field }) } else { Ok(()) };
    let none = Address([0; 20]);
    for (index, member) in manifest.members.iter().enumerate() {
        zero(format!("members[{index}].wallet"), member.wallet == none)?;
        zero(format!("members[{index}].host_key"), member.host_key.0 == [0; 32])?;
    }
    zero("contracts.pool_manager".to_owned(), manifest.contracts.pool_manager == none)?;
    zero("contracts.deposit".to_owned(), manifest.contracts.deposit == none)
}

/// Whether whatever looks like an address with capital letters has the right ones.
fn checksums(field: &str, value: &Value) -> Result<(), MistypedError> {
    let inner = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    match value {
        Value::String(text) => {
            let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40);
            let is_mixed = digits.is_some_and(|digits| {
                digits.contains(|digit: char| digit.is_ascii_uppercase())
                    && digits.contains(|digit: char| digit.is_ascii_lowercase())
            });
            match is_mixed && AlloyAddress::parse_checksummed(text, None).is_err() {
                true => Err(MistypedError::Checksum { field: field.to_owned(), found: text.clone() }),
                false => Ok(()),
            }
        }
        Value::Array(all) => {
            all.iter().enumerate().try_for_each(|(index, one)| checksums(&format!("{field}[{index}]"), one))
        }
        Value::Table(all) => all.iter().try_for_each(|(name, one)| checksums(&inner(name), one)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{manifest, manifest_text};
    use postern_shared::manifest::HostKey;

    #[test]
    fn capital_letters_of_an_address_are_a_checksum() {
        let text = manifest_text();
        assert_eq!(check(&text, &manifest()), Ok(()));
        let wallet = text.lines().find_map(|line| line.strip_prefix("wallet = ")).unwrap().trim_matches('"');
        for unchecked in [wallet.to_lowercase(), format!("0x{}", wallet[2..].to_uppercase())] {
            assert_eq!(check(&text.replace(wallet, &unchecked), &manifest()), Ok(()));
        }
        // One letter's case, which is what one digit's error comes to.
        let place = wallet.rfind(|digit: char| digit.is_ascii_alphabetic()).unwrap();
        let mut wrong = wallet.to_owned();
        let letter = wrong.as_bytes()[place] as char;
        let other = if letter.is_ascii_lowercase() {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        };
        wrong.replace_range(place..=place, &other.to_string());
        let expected =
            MistypedError::Checksum { field: "members[0].wallet".to_owned(), found: wrong.clone() };
        assert_eq!(check(&text.replace(wallet, &wrong), &manifest()), Err(expected));
    }

    #[test]
    fn nothing_is_all_zeros() {
        let refused = |field: &str, edit: fn(&mut Manifest)| {
            let mut edited = manifest();
            edit(&mut edited);
            let expected = MistypedError::Zero { field: field.to_owned() };
            assert_eq!(check("", &edited), Err(expected));
        };
        refused("members[1].wallet", |manifest| manifest.members[1].wallet = Address([0; 20]));
        refused("members[2].host_key", |manifest| manifest.members[2].host_key = HostKey([0; 32]));
        refused("contracts.pool_manager", |manifest| manifest.contracts.pool_manager = Address([0; 20]));
        refused("contracts.deposit", |manifest| manifest.contracts.deposit = Address([0; 20]));
    }
}
