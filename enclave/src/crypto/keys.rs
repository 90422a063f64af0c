//! The identity's secret keys, and the things that are done with them.

use crate::crypto::coins::Coins;
use ed25519_dalek::Signer;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use k256::elliptic_curve::Generate as _;
use postern_shared::bls::{G1, Scalar};
use postern_shared::codec;
use postern_shared::ecdsa::{self, EthereumSignature};
use postern_shared::eip712::Domain;
use postern_shared::identity::{AgreementKey, Identity, IdentitySignature, SigningKey};
use postern_shared::ids::{Address, CeremonyId, ManifestHash, MemberId, Nonce};
use postern_shared::message::{
    Broadcast, Challenge, EncapsulatedKey, Envelope, EnvelopeHeader, SignedDigest, Slot, Step,
};
use postern_shared::proof::Statement;
use postern_shared::sealed_shares::{CheckedShares, Opening, Pair};
use postern_shared::witness::{Note, SignedNote, Witness, WitnessMessage};
use serde::Serialize;
use zeroize::Zeroizing;

/// HPKE's `info`: separates our envelopes from any other use of the keys.
const ENVELOPE_INFO: &[u8] = b"postern-envelope-v1";

/// This enclave's secrets, lent to whatever speaks for it.
#[derive(Clone, Copy)]
pub(crate) struct Me<'a> {
    pub(crate) keys: &'a IdentityKeys,
    pub(crate) coins: &'a Coins,
}

impl Me<'_> {
    pub(crate) fn id(&self) -> MemberId {
        self.keys.identity().member
    }

    /// Signs a statement for a slot of its own.
    pub(crate) fn state<T: Serialize>(
        &self,
        ceremony: CeremonyId,
        step: Step,
        item: u16,
        body: &T,
    ) -> Broadcast {
        let slot = Slot { ceremony, from: self.id(), step, item };
        self.keys.sign(slot, codec::encode(body))
    }
}

/// The secret side of an [`Identity`].
pub struct IdentityKeys {
    signing: ed25519_dalek::SigningKey,
    agreement: (<X25519HkdfSha256 as Kem>::PrivateKey, <X25519HkdfSha256 as Kem>::PublicKey),
    dealing: Scalar,
    proving: k256::ecdsa::SigningKey,
    identity: Identity,
}

impl IdentityKeys {
    /// The keys that these coins give this member's enclave on this machine.
    pub fn derive(coins: &Coins, member: MemberId, machine: u32) -> Self {
        let signing = ed25519_dalek::SigningKey::from_bytes(&coins.bytes("postern-key-signing-v1", b""));
        let agreement = X25519HkdfSha256::derive_keypair(&coins.bytes("postern-key-agreement-v1", b"")[..]);
        // Of this version: builds before it opened shares without a proof that their dealer knew the ephemeral secret.
        let dealing = coins.scalar("postern-key-dealing-v2", b"");
        let proving =
            k256::ecdsa::SigningKey::generate_from_rng(&mut coins.stream("postern-key-proving-v1", b""));
        let identity = Identity {
            member,
            machine,
            signing: SigningKey(signing.verifying_key().to_bytes()),
            agreement: AgreementKey(agreement.1.to_bytes().into()),
            dealing: (G1::generator() * &dealing).encode(),
            // A key that is one has an account.
            signer: ecdsa::address(proving.verifying_key()).unwrap_or(Address([0; 20])),
        };
        Self { signing, agreement, dealing, proving, identity }
    }

    /// The public side.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Signs a public statement.
    pub fn sign(&self, slot: Slot, body: Vec<u8>) -> Broadcast {
        let signed = SignedDigest::signed_bytes(&slot, &Broadcast::digest_of(&body));
        Broadcast { slot, body, signature: IdentitySignature(self.signing.sign(&signed).to_bytes()) }
    }

    /// Signs where the own log stands, or what it goes on from.
    pub fn sign_note(&self, dao: ManifestHash, note: Note) -> SignedNote {
        let signature = self.signing.sign(&SignedNote::signed_bytes(dao, &note));
        SignedNote { note, signature: IdentitySignature(signature.to_bytes()) }
    }

    /// Signs a question to a member's enclave.
    pub fn sign_challenge(&self, dao: ManifestHash, to: MemberId, nonce: Nonce) -> Challenge {
        let signed = Challenge::signed_bytes(dao, &self.identity, to, &nonce);
        let signature = IdentitySignature(self.signing.sign(&signed).to_bytes());
        Challenge { from: self.identity, to, nonce, signature }
    }

    /// Signs for the pool manager. The same signature each time (RFC 6979).
    pub fn prove(&self, statement: &Statement, domain: &Domain, epoch: u64) -> EthereumSignature {
        let digest = statement.digest(domain, epoch);
        let (signature, recovery) = self.proving.sign_prehash_recoverable(&digest);
        let mut bytes = [0; 65];
        let (scalars, v) = bytes.split_at_mut(64);
        scalars.copy_from_slice(&signature.to_bytes());
        v.fill(if recovery.is_y_odd() { 28 } else { 27 });
        EthereumSignature(bytes)
    }

    /// Signs something about logs.
    pub fn sign_witness(&self, dao: ManifestHash, witness: Witness) -> WitnessMessage {
        let from = self.identity.member;
        let signature = self.signing.sign(&WitnessMessage::signed_bytes(dao, from, &witness));
        WitnessMessage { from, witness, signature: IdentitySignature(signature.to_bytes()) }
    }

    /// Seals a secret for one enclave. `None` if its key is no usable point.
    pub fn seal(
        &self,
        coins: &Coins,
        header: EnvelopeHeader,
        recipient: &Identity,
        plaintext: &[u8],
    ) -> Option<Envelope> {
        let identity = recipient;
        let recipient = Deserializable::from_bytes(&identity.agreement.0).ok()?;
        let associated = codec::encode(&header);
        // The ephemeral key depends on all that it encrypts and for whom: never one key for two messages or two people.
        let context = codec::encode_secret(&(&associated, identity, plaintext));
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Auth(self.agreement.clone()),
                &recipient,
                ENVELOPE_INFO,
                plaintext,
                &associated,
                &mut coins.stream("postern-envelope-v1", &context),
            )
            .ok()?;
        Some(Envelope { header, encapsulated: EncapsulatedKey(encapsulated.to_bytes().into()), ciphertext })
    }

    /// Opens an envelope from `sender`. `None` if it is not authentic.
    pub fn open(&self, sender: &Identity, envelope: &Envelope) -> Option<Zeroizing<Vec<u8>>> {
        let sender = Deserializable::from_bytes(&sender.agreement.0).ok()?;
        let encapsulated = Deserializable::from_bytes(&envelope.encapsulated.0).ok()?;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Auth(sender),
            &self.agreement.0,
            &encapsulated,
            ENVELOPE_INFO,
            &envelope.ciphertext,
            &codec::encode(&envelope.header),
        )
        .ok()
        .map(Zeroizing::new)
    }

    /// The own share, at `position`, of what a dealer has sealed. `None` if it does not decrypt.
    pub fn open_share(
        &self,
        pair: &Pair<'_>,
        shares: &CheckedShares,
        position: usize,
    ) -> Option<Zeroizing<Vec<u8>>> {
        shares.open(pair, position, |ephemeral| ephemeral * &self.dealing)
    }

    /// Makes the key of one bad share public.
    pub fn disclose(&self, coins: &Coins, pair: &Pair<'_>, shares: &CheckedShares) -> Opening {
        shares.disclose(pair, &self.dealing, |context| coins.scalar("postern-disclose-v1", context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_shared::ids::CeremonyId;
    use postern_shared::message::Step;
    use postern_shared::record::{LogHead, LogId};
    use postern_shared::witness::{Ballot, End, Place};

    fn member(id: u16) -> (Coins, IdentityKeys) {
        let coins = Coins::new(Zeroizing::new([id as u8; 32]));
        let keys = IdentityKeys::derive(&coins, MemberId(id), 0);
        (coins, keys)
    }

    fn header(from: u16, to: u16) -> EnvelopeHeader {
        let slot =
            Slot { ceremony: CeremonyId([9; 32]), from: MemberId(from), step: Step::Authorise, item: 0 };
        EnvelopeHeader { slot, to: MemberId(to) }
    }

    #[test]
    fn an_envelope_opens_for_its_recipient_from_its_sender_and_under_its_header_only() {
        let ((coins, one), (_, two), (_, three)) = (member(1), member(2), member(3));
        let sealed = one.seal(&coins, header(1, 2), two.identity(), b"share").unwrap();
        assert_eq!(two.open(one.identity(), &sealed).unwrap()[..], b"share"[..]);
        assert!(three.open(one.identity(), &sealed).is_none(), "another recipient");
        assert!(two.open(three.identity(), &sealed).is_none(), "another sender");
        assert!(two.open(one.identity(), &Envelope { header: header(1, 3), ..sealed.clone() }).is_none());
        let mut altered = sealed;
        altered.ciphertext[0] ^= 1;
        assert!(two.open(one.identity(), &altered).is_none(), "altered");
    }

    #[test]
    fn a_question_verifies_as_its_asker_put_it_only() {
        let ((_, one), (_, two)) = (member(1), member(2));
        let dao = ManifestHash([5; 32]);
        let asked = one.sign_challenge(dao, MemberId(2), Nonce([6; 32]));
        assert!(asked.verify(dao));
        assert!(!asked.verify(ManifestHash([4; 32])), "in another DAO");
        assert!(!Challenge { from: *two.identity(), ..asked }.verify(dao), "in another's name");
        let other_keys = Identity { agreement: two.identity().agreement, ..asked.from };
        assert!(!Challenge { from: other_keys, ..asked }.verify(dao), "for other keys");
        let other_machine = Identity { machine: 1, ..asked.from };
        assert!(!Challenge { from: other_machine, ..asked }.verify(dao), "for another machine");
        assert!(!Challenge { to: MemberId(3), ..asked }.verify(dao), "to another");
        assert!(!Challenge { nonce: Nonce([7; 32]), ..asked }.verify(dao), "another question");
        // Nothing else that is signed with the key passes for one.
        assert_ne!(
            Challenge::signed_bytes(dao, &asked.from, asked.to, &asked.nonce),
            SignedDigest::signed_bytes(&header(1, 2).slot, &Broadcast::digest_of(&codec::encode(&asked)))
        );
    }

    #[test]
    fn a_note_verifies_for_the_enclave_of_its_member_on_its_machine_only() {
        let ((coins, one), (_, two)) = (member(1), member(2));
        let dao = ManifestHash([5; 32]);
        let ballot = Ballot { machine: 0, era: 0, incarnation: 0, nonce: Nonce([6; 32]) };
        let place = Place { log: LogId([7; 32]), head: LogHead::START };
        let note = Note { member: MemberId(1), ballot, place, acting: true, ends: End::digest(&[]) };
        let signed = one.sign_note(dao, note);
        assert!(signed.verify(dao, one.identity()));
        assert!(!signed.verify(ManifestHash([4; 32]), one.identity()), "in another DAO");
        assert!(!signed.verify(dao, two.identity()), "of another member");
        let next = IdentityKeys::derive(&coins, MemberId(1), 1);
        assert!(!signed.verify(dao, next.identity()), "of another machine");
        assert!(
            !next.sign_note(dao, note).verify(dao, next.identity()),
            "it speaks for its own machine only"
        );
        let later = Note { ballot: Ballot { era: 1, ..ballot }, ..note };
        assert!(!SignedNote { note: later, ..signed }.verify(dao, one.identity()), "another ballot");
        let asking = Note { acting: false, ..note };
        assert!(!SignedNote { note: asking, ..signed }.verify(dao, one.identity()), "who acts does not ask");
    }

    /// A log must give the same account back under every version of what draws the key; and a search for the secret must know it.
    #[test]
    fn the_proving_key_is_the_first_scalar_of_its_coins_and_stays_what_it_is() {
        let (coins, keys) = member(7);
        let mut secret = [0; 32];
        rand_core::Rng::fill_bytes(&mut coins.stream("postern-key-proving-v1", b""), &mut secret);
        let same = k256::ecdsa::SigningKey::from_slice(&secret).unwrap();
        assert_eq!(keys.identity().signer, ecdsa::address(same.verifying_key()).unwrap());
        assert_eq!(keys.identity().signer.to_string(), "0x368cf2b219f1d97014f9f98515a713129b039734");
    }

    #[test]
    fn a_statement_verifies_for_its_speaker_and_slot_only() {
        let ((_, one), (_, two)) = (member(1), member(2));
        let statement = one.sign(header(1, 2).slot, b"body".to_vec());
        assert!(statement.signed_digest().verify(one.identity()));
        assert!(!statement.signed_digest().verify(two.identity()));
        let mut other = statement.clone();
        other.slot.step = Step::Deal;
        assert!(!other.signed_digest().verify(one.identity()));
        let mut altered = statement;
        altered.body.push(0);
        assert!(!altered.signed_digest().verify(one.identity()));
    }
}
