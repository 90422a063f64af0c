//! What nodes say about gas prices.

use super::chain::{Block, ExecutionChain};
use alloy::consensus::Transaction as _;
use alloy::rpc::types::FeeHistory;

/// The tip that nodes suggest when blocks are not full.
pub const SUGGESTED_TIP: u128 = 1_000_000_000;
/// Blocks in one answer, as in go-ethereum.
const MAX_BLOCKS: u64 = 1024;

/// `eth_gasPrice`: the next base fee and a tip.
pub fn gas_price(chain: &ExecutionChain) -> u128 {
    u128::from(chain.next_base_fee()) + SUGGESTED_TIP
}

/// `eth_feeHistory` of the `count` blocks up to `newest`.
pub fn fee_history(
    chain: &ExecutionChain,
    count: u64,
    newest: &Block,
    percentiles: Option<&[f64]>,
) -> FeeHistory {
    let last = newest.header.number;
    let oldest = (last + 1).saturating_sub(count.min(MAX_BLOCKS));
    let blocks: Vec<&Block> = (oldest..=last).filter_map(|number| chain.block(number)).collect();

    let following = chain.block(last + 1).map_or_else(|| chain.next_base_fee(), Block::base_fee);
    let base_fees = blocks.iter().map(|block| block.base_fee()).chain([following]);
    FeeHistory {
        base_fee_per_gas: base_fees.map(u128::from).collect(),
        gas_used_ratio: blocks
            .iter()
            .map(|block| block.header.gas_used as f64 / block.header.gas_limit as f64)
            .collect(),
        base_fee_per_blob_gas: vec![1; blocks.len() + 1],
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        oldest_block: oldest,
        reward: percentiles.map(|wanted| blocks.iter().map(|block| rewards(block, wanted)).collect()),
    }
}

/// The tips paid at these percentiles of the block's gas.
fn rewards(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let mut tips: Vec<(u128, u64)> = block
        .transactions
        .iter()
        .zip(&block.outcomes)
        .map(|(transaction, outcome)| {
            (transaction.effective_tip_per_gas(block.base_fee()).unwrap_or_default(), outcome.gas_used)
        })
        .collect();
    tips.sort_unstable();
    let at = |percentile: &f64| {
        let threshold = block.header.gas_used as f64 * percentile / 100.0;
        let mut seen = 0u64;
        let reached = tips.iter().find(|(_, gas)| {
            seen += gas;
            seen as f64 >= threshold
        });
        reached.or(tips.last()).map_or(0, |(tip, _)| *tip)
    };
    percentiles.iter().map(at).collect()
}
