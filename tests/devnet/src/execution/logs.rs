//! `eth_getLogs`.

use super::chain::{Block, ExecutionChain};
use super::rpc_error::RpcError;
use super::views;
use alloy::eips::BlockNumberOrTag;
use alloy::rpc::types::{Filter, FilterBlockOption, Log};

/// More than this many logs are refused, as public nodes do.
const MAX_LOGS: usize = 10_000;

/// All logs that fit the filter, in the order of the chain.
pub fn get_logs(chain: &ExecutionChain, filter: &Filter) -> Result<Vec<Log>, RpcError> {
    let (from, to) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = chain.block_by_hash(&hash).ok_or_else(|| RpcError::refused("unknown block"))?;
            (block.header.number, block.header.number)
        }
        FilterBlockOption::Range { from_block, to_block } => {
            // Two numbers turned round are a mistake. A range that ends at a tag may well be empty for now.
            if let (Some(from), Some(to)) = filter.extract_block_range()
                && from > to
            {
                return Err(RpcError::refused("invalid block range params"));
            }
            (number(chain, from_block), number(chain, to_block).min(chain.head().header.number))
        }
    };
    let blocks = (from..=to).filter_map(|number| chain.block(number));
    let mut found = Vec::new();
    for block in blocks.filter(|block| filter.matches_bloom(block.header.logs_bloom)) {
        found.extend(matching(block, filter));
        if found.len() > MAX_LOGS {
            return Err(RpcError::refused(format!("query returned more than {MAX_LOGS} results")));
        }
    }
    Ok(found)
}

fn matching(block: &Block, filter: &Filter) -> impl Iterator<Item = Log> {
    (0..block.transactions.len())
        .flat_map(|index| views::logs(block, index))
        .filter(|log| filter.matches(&log.inner))
}

fn number(chain: &ExecutionChain, tag: Option<BlockNumberOrTag>) -> u64 {
    match tag.unwrap_or(BlockNumberOrTag::Latest) {
        BlockNumberOrTag::Number(number) => number,
        BlockNumberOrTag::Earliest => 0,
        BlockNumberOrTag::Finalized => chain.finalized(),
        BlockNumberOrTag::Safe => chain.safe(),
        BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => chain.head().header.number,
    }
}
