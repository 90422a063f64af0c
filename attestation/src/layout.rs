//! Reading fixed fields out of hostile bytes without indexing.

/// The `N` bytes at `offset`, if there are so many.
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    let (_, tail) = bytes.split_at_checked(offset)?;
    tail.first_chunk::<N>().copied()
}

/// The little-endian `u32` at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

/// The little-endian `u64` at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}

/// The place of the first byte in `start..end` that is not zero (or is missing).
pub(crate) fn first_non_zero(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    (start..end).find(|&offset| bytes.get(offset) != Some(&0))
}
