//! The dealer's side of sealed shares: one place for every ceremony that deals. See `postern_shared::sealed_shares`.

use crate::crypto::coins::Coins;
use postern_shared::codec;
use postern_shared::identity::Roster;
use postern_shared::ids::MemberId;
use postern_shared::message::Slot;
use postern_shared::sealed_shares::SealedShares;
use serde::Serialize;
use zeroize::Zeroizing;

/// Seals a share to each recipient, in their order: a function of coins, slot and what is dealt, so the same bytes
/// whenever it is asked for. `rest` is all else in the statement of the slot, whose speaker is the dealer. `None` if the roster lacks somebody, or there
/// is no share for somebody.
pub(crate) fn seal_shares(
    coins: &Coins,
    slot: Slot,
    roster: &Roster,
    recipients: &[MemberId],
    rest: &impl Serialize,
    share: impl Fn(MemberId) -> Option<Zeroizing<Vec<u8>>>,
) -> Option<SealedShares> {
    let ephemeral = coins.scalar("postern-ephemeral-v1", &codec::encode(&slot));
    let blinding = |context: &[u8]| coins.scalar("postern-ephemeral-knowledge-v1", context);
    let dealt = |recipient: &MemberId| Some((roster.get(*recipient)?, share(*recipient)?));
    let shares: Vec<_> = recipients.iter().map(dealt).collect::<Option<_>>()?;
    SealedShares::seal(slot, roster.get(slot.from)?, rest, &ephemeral, blinding, shares)
}
