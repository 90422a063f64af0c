//! How many members of a committee are enough.

/// The least number of members that may make a key, or deal one again, without the others: ⌈(n+t)/2⌉ of n with a
/// threshold of t.
///
/// Any two such sets have t members in common, of whom one is honest whatever t-1 others are. So two committees of the same
/// operators can't each make a key for a pool, and two different outcomes of one dealing can't both be confirmed. With one
/// fewer, two sets could have only broken members in common.
///
/// It is t + w for w = ⌈(n-t)/2⌉: of those that have confirmed a key, w may withhold their shares for good, and t are left
/// that sign. The other ⌊(n-t)/2⌋ may be silent and hold up nothing. They have lost nothing: deals are public, and each
/// reads its own share from them when it comes back. If n is t+1, nobody may be silent: with fewer confirmations, the key
/// would be lost with any one share.
pub fn least(members: usize, threshold: usize) -> usize {
    members.saturating_add(threshold).div_ceil(2)
}
