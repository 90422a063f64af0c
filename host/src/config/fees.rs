//! What transactions may cost: amounts of ether and gwei.

use super::fault::{Faults, FieldError, Reported};
use super::section::Section;
use crate::chain::transactions::FeeRules;
use toml::Value;

/// Decimals of a gwei in wei, and of an ether.
const GWEI: usize = 9;
const ETHER: usize = 18;

/// `[fees]`, all of which may be left out: see [`FeeRules`].
pub(super) fn read(file: &mut Section, faults: &mut Faults) -> Result<FeeRules, Reported> {
    let mut section = file.section("fees", faults)?;
    let usual = FeeRules::default();
    let most = amount(&mut section, "max_fee_gwei", GWEI, usual.max_fee_per_gas, faults);
    let tip = amount(&mut section, "max_priority_fee_gwei", GWEI, usual.max_priority_fee_per_gas, faults);
    let least = amount(&mut section, "min_priority_fee_gwei", GWEI, usual.min_priority_fee_per_gas, faults);
    let blocks = section.optional("raise_after_blocks", faults);
    let blocks = blocks.map(|blocks| blocks.unwrap_or(usual.raise_after_blocks));
    let budget = amount(&mut section, "budget_per_day_eth", ETHER, usual.budget_per_day, faults);
    section.end(faults);
    let most = most.and_then(|most| not_zero("fees.max_fee_gwei", most, faults));
    let tip = tip.and_then(|tip| {
        let is_more = most.is_ok_and(|most| tip > most);
        let error = FieldError::MoreThan("fees.max_fee_gwei");
        if is_more { Err(faults.report("fees.max_priority_fee_gwei", error)) } else { Ok(tip) }
    });
    let least = least.and_then(|least| {
        let is_more = tip.is_ok_and(|tip| least > tip);
        let error = FieldError::MoreThan("fees.max_priority_fee_gwei");
        if is_more { Err(faults.report("fees.min_priority_fee_gwei", error)) } else { Ok(least) }
    });
    let budget = budget.and_then(|budget| not_zero("fees.budget_per_day_eth", budget, faults));
    let blocks = blocks.and_then(|blocks| match blocks {
        0 => Err(faults.report("fees.raise_after_blocks", FieldError::OutOfRange(u64::MAX))),
        blocks => Ok(blocks),
    });
    Ok(FeeRules {
        max_fee_per_gas: most?,
        max_priority_fee_per_gas: tip?,
        min_priority_fee_per_gas: least?,
        raise_after_blocks: blocks?,
        budget_per_day: budget?,
    })
}

fn not_zero(name: &str, amount: u128, faults: &mut Faults) -> Result<u128, Reported> {
    if amount == 0 { Err(faults.report(name, FieldError::Zero)) } else { Ok(amount) }
}

/// A decimal number, written as a number or as text, in the smallest unit, of which `decimals` digits after the point are one.
fn amount(
    section: &mut Section,
    key: &str,
    decimals: usize,
    usual: u128,
    faults: &mut Faults,
) -> Result<u128, Reported> {
    let text = match section.optional::<Value>(key, faults)? {
        None => return Ok(usual),
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Float(number)) => number.to_string(),
        Some(Value::String(text)) => text,
        Some(_) => String::new(),
    };
    faults.check(&section.name(key), exactly(&text, decimals))
}

fn exactly(text: &str, decimals: usize) -> Result<u128, FieldError> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > decimals {
        return Err(FieldError::Amount(decimals));
    }
    format!("{whole}{part:0<decimals$}").parse().map_err(|_| FieldError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<FeeRules, String> {
        let text = format!("[fees]\n{text}");
        let (mut file, mut faults) =
            (Section::whole(Path::new("config.toml"), &text).unwrap(), Faults::default());
        super::read(&mut file, &mut faults).ok().filter(|_| faults.is_empty()).ok_or(faults.to_string())
    }

    #[test]
    fn what_is_left_out_is_as_the_rules_have_it() {
        assert_eq!(read(""), Ok(FeeRules::default()));
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
                "fees.max_fee_gwei`: must not be 0",
            ),
            ("max_fee_gwei = 4", "fees.max_priority_fee_gwei`: more than `fees.max_fee_gwei`"),
            ("min_priority_fee_gwei = 6", "fees.min_priority_fee_gwei`: more than"),
            ("raise_after_blocks = 0", "fees.raise_after_blocks`: must be from 1"),
            ("budget_per_day_eth = 0", "fees.budget_per_day_eth`: must not be 0"),
            ("budget_per_day_eth = \"-1\"", "fees.budget_per_day_eth`: not a decimal"),
            ("budget_per_day_eth = -0.1", "fees.budget_per_day_eth`: not a decimal"),
            ("budget_per_day_eth = \"1e3\"", "fees.budget_per_day_eth`: not a decimal"),
            ("budget_per_day_eth = \"1.\"", "fees.budget_per_day_eth`: not a decimal"),
            ("budget_per_day_eth = inf", "fees.budget_per_day_eth`: not a decimal"),
            ("budget_per_day_eth = [1]", "fees.budget_per_day_eth`: not a decimal"),
            ("max_fee_gwei = \"0.0000000001\"", "at most 9 digits after the point"),
            ("max_fee_gwei = \"99999999999999999999999999999999\"", "too large"),
            ("max_fee = 5", "`fees.max_fee`: unknown"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn an_amount_is_held_against_good_ones_only() {
        let error =
            read("max_fee_gwei = \"x\"\nmin_priority_fee_gwei = 6\nbudget_per_day_eth = 0").unwrap_err();
        let lines: Vec<&str> = error.split("; ").map(|line| line.split(':').next().unwrap()).collect();
        let expected = ["fees.max_fee_gwei", "fees.min_priority_fee_gwei", "fees.budget_per_day_eth"]
            .map(|name| format!("config field `{name}`"));
        assert_eq!(lines, expected);
    }
}
