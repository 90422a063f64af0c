//! What transactions may cost, as the file says it: amounts of ether and gwei.

use super::{ConfigError, field};
use crate::chain::transactions::FeeRules;
use serde::{Deserialize, Serialize};

/// Decimals of a gwei in wei, and of an ether.
const GWEI: usize = 9;
const ETHER: usize = 18;

/// `[fees]`: all of it may be left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeesConfig {
    /// Never offer more than this for a unit of gas, in gwei.
    pub max_fee_gwei: Amount,
    /// Never offer the block's maker more than this for a unit of gas, in gwei.
    pub max_priority_fee_gwei: Amount,
    /// Offer the block's maker at least this for a unit of gas, in gwei.
    pub min_priority_fee_gwei: Amount,
    /// Blocks to wait for a transaction to be mined before anything is done about it.
    pub raise_after_blocks: u64,
    /// Most that transactions may cost in 24 hours, in ether. What is on its way counts with the most that it may cost.
    pub budget_per_day_eth: Amount,
}

/// A decimal number, written as a number or as text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// As in `5`.
    Integer(u64),
    /// As in `0.1`.
    Float(f64),
    /// As in `"0.1"`.
    Text(String),
}

impl Default for FeesConfig {
    fn default() -> Self {
        let text = |amount: &str| Amount::Text(amount.to_owned());
        Self {
            max_fee_gwei: Amount::Integer(200),
            max_priority_fee_gwei: Amount::Integer(5),
            min_priority_fee_gwei: text("0.1"),
            raise_after_blocks: 5,
            budget_per_day_eth: text("0.1"),
        }
    }
}

impl Amount {
    /// In the smallest unit, of which `decimals` digits after the point are one.
    fn read(&self, name: &str, decimals: usize) -> Result<u128, ConfigError> {
        let text = match self {
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        };
        let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > decimals {
            let reason =
                format_args!("`{text}` is no decimal number with at most {decimals} digits after the point");
            return field(name, reason);
        }
        let digits = format!("{whole}{part:0<decimals$}");
        digits.parse().or_else(|_| field(name, format_args!("`{text}` is too large")))
    }
}

impl FeesConfig {
    /// The rules, if they make sense.
    pub(super) fn read(&self) -> Result<FeeRules, ConfigError> {
        let rules = FeeRules {
            max_fee_per_gas: self.max_fee_gwei.read("fees.max_fee_gwei", GWEI)?,
            max_priority_fee_per_gas: self.max_priority_fee_gwei.read("fees.max_priority_fee_gwei", GWEI)?,
            min_priority_fee_per_gas: self.min_priority_fee_gwei.read("fees.min_priority_fee_gwei", GWEI)?,
            raise_after_blocks: self.raise_after_blocks,
            budget_per_day: self.budget_per_day_eth.read("fees.budget_per_day_eth", ETHER)?,
        };
        if rules.raise_after_blocks == 0 {
            return field("fees.raise_after_blocks", "must not be 0");
        }
        if rules.budget_per_day == 0 {
            return field("fees.budget_per_day_eth", "must not be 0: nothing could be sent");
        }
        if rules.max_priority_fee_per_gas > rules.max_fee_per_gas {
            return field(
                "fees.max_priority_fee_gwei",
                "more than `fees.max_fee_gwei`, of which it is a part",
            );
        }
        if rules.min_priority_fee_per_gas > rules.max_priority_fee_per_gas {
            return field("fees.min_priority_fee_gwei", "more than `fees.max_priority_fee_gwei`");
        }
        if rules.max_fee_per_gas == 0 {
            return field("fees.max_fee_gwei", "must not be 0: nothing could be sent");
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FeeRules, String> {
        let config: FeesConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.read().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_is_as_the_rules_have_it() {
        assert_eq!(read(""), Ok(FeeRules::default()));
        let written = toml::to_string(&FeesConfig::default()).unwrap();
        assert_eq!(read(&written), Ok(FeeRules::default()));
    }

    #[test]
    fn amounts_are_numbers_or_text_and_exact() {
        for (written, wei) in [
            ("0.1", 100_000_000_000_000_000),
            ("\"0.1\"", 100_000_000_000_000_000),
            ("2", 2_000_000_000_000_000_000),
            ("\"0.000000000000000001\"", 1),
            ("\"12.5\"", 12_500_000_000_000_000_000),
        ] {
            let rules = read(&format!("budget_per_day_eth = {written}")).unwrap();
            assert_eq!(rules.budget_per_day, wei, "{written}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
        for (text, said) in [
            (
                "max_fee_gwei = 0\nmax_priority_fee_gwei = 0\nmin_priority_fee_gwei = 0",
                "fees.max_fee_gwei`: must",
            ),
            ("max_fee_gwei = 4", "fees.max_priority_fee_gwei`: more than"),
            ("min_priority_fee_gwei = 6", "fees.min_priority_fee_gwei`: more than"),
            ("raise_after_blocks = 0", "fees.raise_after_blocks`: must not be 0"),
            ("budget_per_day_eth = 0", "fees.budget_per_day_eth`: must not be 0"),
            ("budget_per_day_eth = \"-1\"", "fees.budget_per_day_eth`: `-1` is no decimal"),
            ("budget_per_day_eth = -0.1", "fees.budget_per_day_eth`: `-0.1` is no decimal"),
            ("budget_per_day_eth = \"1e3\"", "fees.budget_per_day_eth`: `1e3` is no decimal"),
            ("budget_per_day_eth = \"1.\"", "fees.budget_per_day_eth`: `1.` is no decimal"),
            ("budget_per_day_eth = inf", "fees.budget_per_day_eth`: `inf` is no decimal"),
            ("max_fee_gwei = \"0.0000000001\"", "at most 9 digits after the point"),
            ("max_fee_gwei = \"99999999999999999999999999999999\"", "is too large"),
            ("max_fee = 5", "unknown field `max_fee`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
