//! Attacks in the making: what corrupted enclaves say in place of their honest words, and who was convicted of it.

use crate::cluster::{Cluster, Packet};
use crate::corruption::Corrupt;
use postern_enclave::sharing::Polynomial;
use postern_shared::bls::{G1, G2, PublicKey, Scalar};
use postern_shared::codec;
use postern_shared::court::{Court, Exhibits, Unproved};
use postern_shared::dealing::{Deal, Verdict, possession_message};
use postern_shared::fault::{Fault, Proof};
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{MemberId, PoolId};
use postern_shared::keygen::KeygenTerms;
use postern_shared::message::{Broadcast, PeerMessage, Slot, Step};
use postern_shared::presign::Split;
use postern_shared::sealed_shares::{EncryptedShare, Pair, SealedShares};
use postern_shared::transcript::Claim;
use postern_shared::wire::{Artifact, Notice, Reply};

/// More packets than any of these runs has: one that never ends is cut off.
const MAX_PACKETS: usize = 20_000;

/// The steps of all ceremonies.
pub const STEPS: [Step; 10] = [
    Step::Commit,
    Step::Deal,
    Step::Verdict,
    Step::Confirm,
    Step::Deposit,
    Step::Split,
    Step::Acknowledge,
    Step::Call,
    Step::Authorise,
    Step::Released,
];

/// A statement as a message.
pub fn message(statement: Broadcast) -> Vec<u8> {
    codec::encode(&PeerMessage::Broadcast(statement))
}

/// The statement that a packet carries.
pub fn statement(packet: &Packet) -> Option<Broadcast> {
    match codec::decode(&packet.bytes) {
        Ok(PeerMessage::Broadcast(statement)) => Some(statement),
        _ => None,
    }
}

/// Delivers all packets. What a culprit's enclave says passes through `attack` for each recipient, which then hears
/// what `attack` gives: the same, something else, several things, or nothing.
pub fn deliver_through(
    cluster: &mut Cluster,
    culprits: &[MemberId],
    mut attack: impl FnMut(&Corrupt, &Broadcast, MemberId) -> Vec<Broadcast>,
) {
    let corrupt: Vec<Corrupt> = culprits.iter().map(|id| Corrupt::of(cluster.node(*id))).collect();
    let mut idle = 0;
    for _ in 0..MAX_PACKETS {
        if idle > cluster.packets.len() {
            return;
        }
        let Some(packet) = cluster.packets.pop_front() else { return };
        let speaker = corrupt.iter().find(|corrupt| corrupt.keys.identity().member == packet.from);
        let waits = |reply| matches!(reply, Reply::Rejected(rejection) if rejection.is_transient());
        let mut waited = false;
        match (speaker, statement(&packet)) {
            (Some(corrupt), Some(said)) => {
                for other in attack(corrupt, &said, packet.to) {
                    waited |= waits(cluster.deliver(Packet { bytes: message(other), ..packet.clone() }));
                }
            }
            _ => waited = waits(cluster.deliver(packet)),
        }
        idle = if waited { idle + 1 } else { 0 };
    }
    panic!("packets without end");
}

/// The terms of the keygen that is under way.
pub fn keygen_terms(cluster: &Cluster, pool: PoolId) -> KeygenTerms {
    cluster.nodes[0].core.keygen(pool).expect("a keygen has started").terms().clone()
}

/// The identities of all members, as a ceremony among all of them knows them.
pub fn roster(cluster: &Cluster) -> Roster {
    Roster::new(cluster.nodes.iter().map(|node| *node.keys().identity()).collect())
}

/// Whether a proof against somebody in a keygen holds for anybody who looks at it and at these statements.
pub fn judge(
    cluster: &Cluster,
    terms: &KeygenTerms,
    fault: &Fault,
    statements: &[Broadcast],
) -> Result<(), Unproved> {
    let (roster, exhibits) = (roster(cluster), Exhibits::new(statements));
    let ceremony = terms.ceremony();
    fault.verify(&Court { ceremony, terms, roster: &roster, statements: &exhibits })
}

/// The ephemeral secret that a dealer's enclave draws for a statement.
pub fn ephemeral(dealer: &Corrupt, slot: Slot) -> Scalar {
    dealer.coins.scalar("postern-ephemeral-v1", &codec::encode(&slot))
}

/// What a corrupted dealer encrypts to one recipient.
pub fn encrypt(
    dealer: &Corrupt,
    slot: Slot,
    recipient: &Identity,
    ephemeral: &Scalar,
    share: &[u8],
) -> EncryptedShare {
    let shared = recipient.dealing.decode().expect("a usable key") * ephemeral;
    let pair = Pair { slot, dealer: dealer.keys.identity(), recipient };
    pair.seal(&(G1::generator() * ephemeral).encode(), &shared, share).expect("a short plaintext")
}

/// Shares that a corrupted dealer has sealed, well or badly, with a proof that holds. `rest` is all else that it says.
pub fn proved(
    dealer: &Corrupt,
    slot: Slot,
    rest: &impl serde::Serialize,
    ephemeral: &Scalar,
    shares: Vec<EncryptedShare>,
) -> SealedShares {
    let blinding = |context: &[u8]| dealer.coins.scalar("attack", context);
    SealedShares::prove(slot, rest, ephemeral, blinding, shares)
}

/// A statement of a corrupted enclave in a keygen.
pub fn say<T: serde::Serialize>(corrupt: &Corrupt, terms: &KeygenTerms, step: Step, body: &T) -> Broadcast {
    let from = corrupt.keys.identity().member;
    corrupt.keys.sign(Slot { ceremony: terms.ceremony(), from, step, item: 0 }, codec::encode(body))
}

/// A verdict that accuses somebody of a false accusation.
pub fn counter_accusation(corrupt: &Corrupt, terms: &KeygenTerms, accusation: &Broadcast) -> Broadcast {
    let proof = Proof::FalseAccusation(accusation.signed_digest());
    let fault = Fault { culprit: accusation.slot.from, proof };
    say(corrupt, terms, Step::Verdict, &Verdict::Reject(fault))
}

/// A deal of these coefficients, well-formed and honest in all else.
pub fn deal(cluster: &Cluster, terms: &KeygenTerms, dealer: &Corrupt, coefficients: &[Scalar]) -> Deal {
    let (ceremony, id) = (terms.ceremony(), dealer.keys.identity().member);
    let slot = Slot::of(ceremony, id, Step::Deal);
    let ephemeral = ephemeral(dealer, slot);
    let share = |recipient: &MemberId| {
        let index = Scalar::from_u64(recipient.0.into());
        let share = coefficients.iter().rev().fold(Scalar::zero(), |sum, next| sum * &index + next);
        let recipient = *cluster.node(*recipient).keys().identity();
        encrypt(dealer, slot, &recipient, &ephemeral, &share.to_bytes())
    };
    let shares: Vec<EncryptedShare> = terms.operators.iter().map(share).collect();
    let commitments: Vec<PublicKey> =
        coefficients.iter().map(|one| (G1::generator() * one).encode()).collect();
    let possession = coefficients
        .first()
        .map(|secret| (possession_message(ceremony, id, &(G1::generator() * secret)) * secret).encode());
    let rest = (commitments, possession.expect("a constant term"));
    let sealed = proved(dealer, slot, &rest, &ephemeral, shares);
    let (commitments, possession) = rest;
    Deal { commitments, possession, sealed }
}

/// An operator's share of the key that this keygen has made, as all dealers' coins tell it.
pub fn key_share(cluster: &Cluster, terms: &KeygenTerms, of: MemberId) -> Scalar {
    terms.operators.iter().fold(Scalar::zero(), |sum, dealer| {
        let (coins, ceremony) = (cluster.node(*dealer).coins(), terms.ceremony());
        let dealt = Polynomial::sample(
            coins.scalar("postern-keygen-secret-v1", &ceremony.0),
            terms.threshold.into(),
            coins.stream("postern-keygen-polynomial-v1", &ceremony.0),
        );
        sum + dealt.expect("a polynomial").evaluate(of).expect("a share")
    })
}

/// A good split of a partial exit signature by the polynomial that these coefficients give, whatever the split that its
/// operator has made before.
pub fn split(
    operator: &Corrupt,
    slot: Slot,
    roster: &Roster,
    (key, message): (&Scalar, &G2),
    coefficients: &[Scalar],
) -> Split {
    let commitments: Vec<PublicKey> =
        coefficients.iter().map(|one| (G1::generator() * one).encode()).collect();
    let ephemeral = operator.coins.scalar("attack-split", &codec::encode(&commitments));
    let share = |recipient: &Identity| {
        let index = Scalar::from_u64(recipient.member.0.into());
        let blinding = coefficients.iter().rev().fold(Scalar::zero(), |sum, next| (sum + next) * &index);
        encrypt(operator, slot, recipient, &ephemeral, &(message * &(key.clone() + blinding)).encode().0)
    };
    let shares = roster.identities().iter().map(share).collect();
    let sealed = proved(operator, slot, &commitments, &ephemeral, shares);
    Split { commitments, sealed }
}

/// Signed deposits that enclaves published.
pub fn deposits(cluster: &Cluster) -> usize {
    let artifacts = cluster.nodes.iter().flat_map(|node| &node.artifacts);
    artifacts.filter(|artifact| matches!(artifact, Artifact::Deposit { .. })).count()
}

/// Who is convicted by published transcripts, all of which must verify.
pub fn culprits(cluster: &Cluster) -> Vec<MemberId> {
    let cheats = cluster.claims().into_iter().filter_map(|claim| match claim {
        Claim::Cheated { culprit, .. } => Some(culprit),
        _ => None,
    });
    let mut named: Vec<MemberId> = cheats.collect();
    named.sort();
    named.dedup();
    named
}

/// Whom an enclave's notices call a cheat.
pub fn named(cluster: &Cluster, by: MemberId) -> Vec<MemberId> {
    let faults = cluster.node(by).notices.iter().filter_map(|notice| match notice {
        Notice::Fault { culprit, .. } => Some(*culprit),
        _ => None,
    });
    let mut named: Vec<MemberId> = faults.collect();
    named.sort();
    named.dedup();
    named
}
