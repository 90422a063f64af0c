//! As much of SSZ as the chain's own containers need.

use sha2::{Digest as _, Sha256};

/// One leaf or node of a Merkle tree.
pub type Chunk = [u8; 32];

/// SHA-256 of two nodes.
pub fn hash_pair(left: &Chunk, right: &Chunk) -> Chunk {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

/// A number as a leaf.
pub fn number(value: u64) -> Chunk {
    let mut chunk = [0; 32];
    chunk[..8].copy_from_slice(&value.to_le_bytes());
    chunk
}

/// A byte vector, cut into leaves.
pub fn bytes(value: &[u8]) -> Chunk {
    let chunks: Vec<Chunk> = value
        .chunks(32)
        .map(|part| {
            let mut chunk = [0; 32];
            chunk[..part.len()].copy_from_slice(part);
            chunk
        })
        .collect();
    container(&chunks)
}

/// A container of these field roots: a tree just large enough.
pub fn container(fields: &[Chunk]) -> Chunk {
    merkleize(fields, fields.len().next_power_of_two().trailing_zeros())
}

/// A list of composite elements with a limit of `2^depth`.
pub fn list(roots: &[Chunk], depth: u32) -> Chunk {
    hash_pair(&merkleize(roots, depth), &number(roots.len() as u64))
}

/// The root of a tree of this depth whose further leaves are zero.
fn merkleize(leaves: &[Chunk], depth: u32) -> Chunk {
    let mut level = leaves.to_vec();
    let mut empty = [0; 32];
    for _ in 0..depth {
        level = level.chunks(2).map(|pair| hash_pair(&pair[0], pair.get(1).unwrap_or(&empty))).collect();
        empty = hash_pair(&empty, &empty);
    }
    level.first().copied().unwrap_or(empty)
}
