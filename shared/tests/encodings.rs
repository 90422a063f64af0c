//! Every value has one encoding, nobody's bytes make a decoder panic, and encodings stay what they are.

mod arbitrary;

use arbitrary::any_value;
use postern_shared::agreement::{Attempt, Choice, Content, Said, Subject};
use postern_shared::bls::{DleqProof, G1, PublicKey, Scalar, Signature};
use postern_shared::bytes::{HexError, from_hex, to_hex};
use postern_shared::codec::{self, DecodeError};
use postern_shared::dealing::{Commit, Confirm, Deal, PinnedDeal, SHARE_SIZE, Verdict};
use postern_shared::epoch::SignedEpoch;
use postern_shared::ethereum::{ForkVersion, Network, Root, VoluntaryExit};
use postern_shared::events::{DepositRequest, EventSource};
use postern_shared::fault::{Fault, Proof};
use postern_shared::hash::Transcriber;
use postern_shared::identity::{AgreementKey, Identity, IdentitySignature, Roster, SigningKey};
use postern_shared::ids::*;
use postern_shared::keygen::{KeygenCertificate, KeygenTerms, PartialDeposit};
use postern_shared::manifest::{MAX_MEMBERS, Manifest};
use postern_shared::message::{Broadcast, Challenge, MAX_BODY, PeerMessage, SignedDigest, Slot, Step};
use postern_shared::presign::{Acknowledge, EXIT_SHARE_SIZE, PresignTerms, Split};
use postern_shared::record::{LogHead, LogId};
use postern_shared::release::{ReleaseTerms, Released};
use postern_shared::reshare::{KeyCertificate, ReshareTerms};
use postern_shared::sealed_shares::{EncryptedShare, Opening, Pair, SealedShares, TAG_SIZE};
use postern_shared::transcript::Transcript;
use postern_shared::wire::{Hello, Request, Response};
use postern_shared::witness::{
    Advance, Ballot, Claim, End, InForce, Known, Memory, Note, Noted, Place, SignedNote, Witness,
    WitnessMessage,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Every value comes back from its encoding; nothing may be missing or follow; no other bytes mean the same value.
fn has_one_encoding<T: Serialize + DeserializeOwned + PartialEq + Debug>() {
    let wound = (any::<Index>(), 1u8.., any::<u8>());
    proptest!(ProptestConfig::with_cases(256), |(value in any_value::<T>(), (place, flip, extra) in wound)| {
        let encoded = codec::encode(&value);
        let decoded = codec::decode::<T>(&encoded);
        prop_assert_eq!(decoded.as_ref(), Ok(&value));
        let followed = [&encoded[..], &[extra]].concat();
        prop_assert_eq!(codec::decode::<T>(&followed), Err(DecodeError::Trailing { count: 1 }));
        let place = place.index(encoded.len());
        prop_assert_eq!(codec::decode::<T>(&encoded[..place]), Err(DecodeError::Malformed));
        // A changed byte; and, where the byte ends a number, the number spelt with a zero too many.
        let mut changed = encoded.clone();
        changed[place] ^= flip;
        let mut overlong = encoded;
        overlong[place] |= 0x80;
        overlong.insert(place + 1, 0);
        for other in [changed, overlong] {
            let decoded = codec::decode::<T>(&other);
            prop_assert_ne!(decoded.as_ref(), Ok(&value));
        }
    });
}

#[test]
fn what_hosts_and_enclaves_say_has_one_encoding() {
    has_one_encoding::<Request>();
    has_one_encoding::<Response>();
}

#[test]
fn what_enclaves_say_to_each_other_has_one_encoding() {
    has_one_encoding::<PeerMessage>();
    has_one_encoding::<Commit>();
    has_one_encoding::<Deal>();
    has_one_encoding::<PinnedDeal>();
    has_one_encoding::<Verdict>();
    has_one_encoding::<Confirm>();
    has_one_encoding::<PartialDeposit>();
    has_one_encoding::<Split>();
    has_one_encoding::<Acknowledge>();
    has_one_encoding::<Released>();
}

#[test]
fn what_is_hashed_or_kept_has_one_encoding() {
    has_one_encoding::<Manifest>();
    has_one_encoding::<SignedEpoch>();
    has_one_encoding::<Roster>();
    has_one_encoding::<KeygenTerms>();
    has_one_encoding::<KeygenCertificate>();
    has_one_encoding::<ReshareTerms>();
    has_one_encoding::<KeyCertificate>();
    has_one_encoding::<PresignTerms>();
    has_one_encoding::<ReleaseTerms>();
    has_one_encoding::<Transcript>();
}

#[test]
fn a_number_spelt_longer_than_needed_is_refused_for_that() {
    // 0x80 0x00 spells zero in two bytes.
    assert_eq!(codec::decode::<Request>(&[8, 0]), Ok(Request::Acknowledge(0)));
    assert_eq!(codec::decode::<Request>(&[8, 0x80, 0]), Err(DecodeError::NotCanonical));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn transcripts_survive_their_text(transcript in any_value::<Transcript>()) {
        let text = serde_json::to_string(&transcript).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Transcript>(&text).unwrap(), &transcript);
        prop_assert!(transcript.verify().is_err(), "nobody signed it");
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Manifest::from_canonical(&bytes);
        let _ = Hello::check(&bytes);
        let _ = codec::decode::<Request>(&bytes);
        let _ = codec::decode::<Response>(&bytes);
        let _ = codec::decode::<PeerMessage>(&bytes);
        let _ = codec::decode::<Transcript>(&bytes);
        let _ = serde_json::from_slice::<Transcript>(&bytes);
        let _ = String::from_utf8_lossy(&bytes).parse::<Digest>();
    }

    #[test]
    fn bytes_survive_their_text(bytes in proptest::collection::vec(any::<u8>(), 1..70), place in any::<Index>()) {
        let text = to_hex(&bytes);
        let digits = &text[2..];
        for text in [text.as_str(), digits, &digits.to_uppercase()] {
            prop_assert_eq!(from_hex(text), Ok(bytes.clone()));
        }
        let (expected, found) = (digits.len(), digits.len() - 1);
        prop_assert_eq!(from_hex(&digits[1..]), Err(HexError::Length { expected, found }));
        let position = place.index(digits.len());
        for stranger in ['g', 'G', ' ', '/', ':', '@', '`', '٣'] {
            let wrong: String =
                digits.chars().enumerate().map(|(at, digit)| if at == position { stranger } else { digit }).collect();
            prop_assert_eq!(from_hex(&wrong), Err(HexError::Digit { position }));
        }
    }

    #[test]
    fn names_survive_their_text(
        address in any_value::<Address>(),
        key in any_value::<PublicKey>(),
        pool in any_value::<PoolId>(),
    ) {
        prop_assert_eq!(pool.text().parse(), Ok(pool));
        prop_assert_eq!(address.to_string().parse(), Ok(address));
        let json = serde_json::to_string(&address).unwrap();
        prop_assert_eq!(json.as_str(), format!("\"{address}\""));
        prop_assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        prop_assert!(serde_json::from_str::<Digest>(&json).is_err());
        let shorter = address.to_string()[..40].parse::<Address>();
        prop_assert_eq!(shorter, Err(HexError::Length { expected: 40, found: 38 }));
        prop_assert_eq!(key.to_string().parse::<Signature>(), Err(HexError::Length { expected: 192, found: 96 }));
    }
}

#[test]
fn a_pools_name_is_one_text_that_people_and_scripts_read() {
    let text = "1-0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-1000";
    assert_eq!((fixed::POOL.text().as_str(), text.parse()), (text, Ok(fixed::POOL)));
    assert_eq!(serde_json::to_string(&fixed::POOL).unwrap(), format!("\"{text}\""));
    assert_eq!(fixed::POOL.to_string(), "pool 1000 of 0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    // As wallets write addresses.
    assert_eq!(text.replace("aaaa", "AaAa").parse(), Ok(fixed::POOL));
    for (from, to) in [
        ("1-0x", "01-0x"),
        ("1-0x", "+1-0x"),
        ("1-0x", "0x"),
        ("1-0x", "1-"),
        ("0xaa", "0x"),
        ("-1000", ""),
        ("-1000", "-1000-1"),
        ("-1000", "-01000"),
        ("-1000", "-4294967296"),
        ("-1000", "--1000"),
        (text, "1000"),
        (text, ""),
    ] {
        let other = text.replacen(from, to, 1);
        assert_eq!(other.parse::<PoolId>(), Err(PoolNameError), "{other}");
        assert!(serde_json::from_str::<PoolId>(&format!("\"{other}\"")).is_err());
    }
}

/// Golden bytes. If one of these changes, enclaves of two builds no longer understand each other: say so in the protocol
/// version, and think of every DAO that runs the old one.
#[test]
fn encodings_that_enclaves_rely_on_have_not_changed() {
    assert_eq!(hex::encode(Hello::OURS.encode()), "706f737465726e000700");
    assert_eq!(hex::encode(codec::encode(&Request::Acknowledge(300))), "08ac02");
    for (step, number) in fixed::STEPS.into_iter().zip(0u8..) {
        assert_eq!(codec::encode(&step), [number]);
    }
    let pool = hex::encode(codec::encode(&fixed::POOL));
    assert_eq!(pool, format!("01{}e807", "aa".repeat(20)));
    let slot = hex::encode(codec::encode(&fixed::SLOT));
    assert_eq!(slot, format!("{}ac020602", "07".repeat(32)));
    let signature = IdentitySignature([0x11; 64]);
    let broadcast = Broadcast { slot: fixed::SLOT, body: b"body".to_vec(), signature };
    let message = hex::encode(codec::encode(&PeerMessage::Broadcast(broadcast)));
    assert_eq!(message, format!("02{slot}04626f6479{}", "11".repeat(64)));
    let (from, nonce) = (fixed::identity(1), Nonce([9; 32]));
    let challenge = Challenge { from, to: MemberId(300), nonce, signature };
    let message = hex::encode(codec::encode(&PeerMessage::Challenge(challenge)));
    let from = format!("01ac02{}{}{}{}", "01".repeat(32), "11".repeat(32), "21".repeat(48), "41".repeat(20));
    assert_eq!(message, format!("00{from}ac02{}{}", "09".repeat(32), "11".repeat(64)));
}

/// Golden hashes, computed outside of this code from the formats' descriptions. If one of these changes, transcripts of
/// the past no longer verify, and enclaves of two builds give one ceremony two names.
#[test]
fn hashes_that_transcripts_rely_on_have_not_changed() {
    let found = |digest: [u8; 32]| hex::encode(digest);
    assert_eq!(
        found(Transcriber::new("label").bytes(b"x").number(1).finish().0),
        "1dfe6c3edd9d14196cb3f5b416118acbef3227e5e3e52407cce34c508b86b8b1"
    );
    assert_eq!(
        found(SignedDigest::signed_bytes(&fixed::SLOT, &Broadcast::digest_of(b"body"))),
        "a67f6dbbc99b02fdb1e042cf6972ce19210bb2da82cc9674cbb61ba2d34a2d64"
    );
    let (dao, from) = (ManifestHash([1; 32]), fixed::identity(1));
    assert_eq!(
        found(Challenge::signed_bytes(dao, &from, MemberId(300), &Nonce([9; 32]))),
        "f299d6dd15dcc7f73c0c53d0ed0b7959dd8e06fa3d2ea8bc99e8bf5bb49b433e"
    );
    assert_eq!(
        found(Roster::new([2, 1, 2].map(fixed::identity).to_vec()).digest().0),
        "ed1470f002cca82d77239a470f9f9e1b09dabd230bff52265f7853668fa7c12f"
    );
    assert_eq!(
        found(fixed::keygen_terms().ceremony().0),
        "4d7faf78a8f7bf2ac6aa3c974829885ca90818fec2fa7bb773b8fc476fff403c"
    );
    assert_eq!(
        found(fixed::certificate().digest().0),
        "9732f49a3472248c2f42dc2523cee3af27db2b41abcff3185c320624ead56530"
    );
    assert_eq!(
        found(fixed::release_terms().presign.ceremony().0),
        "49e6950a7f18a3d3fbcffa3ebda1a47bd409e5fb759690c4a9a1bfb90fbb6d9c"
    );
    assert_eq!(
        found(fixed::release_terms().ceremony().0),
        "a8a0a623b7fe6e16a917d22b0a5482d540fee0ae0e1b50a404de2ab7f29bced8"
    );
    // What people compare before they sign.
    assert_eq!(
        found(from.fingerprint().0),
        "a7dbd036cd3136f26a2023a037550916872a4b89b494a5fb0a6737f831ef1585"
    );
    let (dealer, recipient) = (fixed::identity(2), fixed::identity(1));
    let pair = Pair { slot: fixed::SLOT, dealer: &dealer, recipient: &recipient };
    let share = pair.seal(&G1::generator().encode(), &G1::generator(), b"share").unwrap();
    assert_eq!(hex::encode(&share.0), "c3b306b98b1c555e4fb92fe6c67313639b5ffe6cc0");
    // With 1 for both secrets: two numbers, the challenge and one more than it.
    let one = || Scalar::from_u64(1);
    let sealed = SealedShares::prove(fixed::SLOT, &"rest", &one(), |_| one(), vec![share]);
    let challenge = "4ad15154974135aab8addc3f65da5f71691c8a80e22e649c6f1e0ef3200ea8a2";
    let response = "4ad15154974135aab8addc3f65da5f71691c8a80e22e649c6f1e0ef3200ea8a3";
    assert_eq!(hex::encode(codec::encode(&sealed.knowledge)), [challenge, response].concat());
}

/// Golden too: who signs otherwise is heard by nobody that decides whether an old state may act.
#[test]
fn what_members_say_in_agreements_is_encoded_and_placed_as_before() {
    let (key, epoch) = (Subject::Key(fixed::POOL), Subject::Epoch(ManifestHash([1; 32])));
    let found = |ceremony: CeremonyId| hex::encode(ceremony.0);
    let attempt = Attempt { generation: 1, number: 2 };
    assert_eq!(found(key.ceremony()), "c0ac845859d25c3c53592ab71be2934bed566eaaec93f163bc5b18aca9963d94");
    assert_eq!(found(epoch.ceremony()), "3a34b4cb0037ccf0405beffd9ace9b2cb7b8f697718b17eb9a379e1a7303804a");
    assert_eq!(
        found(key.attempt(attempt)),
        "21fb9cb4c42ae0975fffe57a657067d02f967b519980ab46e43bede5edff330e"
    );
    let choice = Choice { value: Digest([4; 32]), origin: Attempt { number: 0, ..attempt } };
    let pool = format!("01{}e807", "aa".repeat(20));
    let said = |content| hex::encode(codec::encode(&Said { subject: key, attempt, content }));
    assert_eq!(said(Content::Vote(choice)), format!("01{pool}010201{}0100", "04".repeat(32)));
    assert_eq!(said(Content::Quit(None)), format!("01{pool}01020300"));
}

#[test]
fn what_members_remember_for_each_other_is_encoded_and_signed_as_before() {
    let (dao, member) = (ManifestHash([1; 32]), MemberId(300));
    let (signed, end) = (fixed::note(true), fixed::END);
    let ballot = format!("ac02028001{}", "09".repeat(32));
    let place = format!("{}ac02{}", "0a".repeat(32), "0b".repeat(32));
    assert_eq!(hex::encode(codec::encode(&end)), format!("{ballot}{place}"));
    let ends = "4cd48731ee1ac6e00dc3e20930f2081a3ec3ad1675536cb175872fd75eeb55a2";
    assert_eq!(hex::encode(End::digest(&[end]).0), ends);
    assert_eq!(
        hex::encode(End::digest(&[]).0),
        "f739c3f88d8ec105b821355dd784dc62db1a387022f78f3f6312b79069c8b3e9"
    );
    assert_eq!(hex::encode(codec::encode(&signed.note)), format!("ac02{ballot}{place}01{ends}"));
    assert_eq!(
        hex::encode(SignedNote::signed_bytes(dao, &signed.note)),
        "04efa109dac0363ed962d5ab4c307d5bcbe19740d17a4f497591ecd259aecf9c"
    );
    let in_force = InForce { epoch: 300, manifest: ManifestHash([0x0c; 32]) };
    let (note, ballot, by) = (signed.note, end.ballot, signed);
    let memory = |accepted| Memory { promised: signed, accepted };
    let memories = vec![memory(None), memory(Some(signed))];
    let said = [
        (
            Witness::Advance(Advance { note: signed, in_force, ballots: vec![(member, ballot)] }),
            "50a5e33fce87058020c0412c3704a7d021110927e2ad6d1011cd4515e8896a3d",
        ),
        (
            Witness::Noted(Noted { note, in_force, by, later: vec![signed] }),
            "72decc109d85d9f0186a0409c598ce6bf348c08fc9232f32a38188da6e8412ea",
        ),
        (Witness::Unknown(ballot), "9c611aa64bd2b2437bd2a22a0b55f2fb33dfe1f781efde4e94de555f84067568"),
        (
            Witness::Return(Claim { note: fixed::note(false), ends: vec![end] }),
            "849343a34dc2cf500ff303793c59deb771e96f2bc38ac258cf873c02b9425159",
        ),
        (
            Witness::Known(Known { claim: note, in_force, by, memories, adopted: vec![] }),
            "f263cf4ce81827874eb7bad0ea7f479123b369616d2d1e4193758f9d6ba707fb",
        ),
        (Witness::Refused(signed), "581aea7c51faae1e75f23cf5b51eff7c008f3a06cfe5ff679ee2e47776c93ad0"),
    ];
    for (position, (witness, expected)) in said.into_iter().enumerate() {
        let found = WitnessMessage::signed_bytes(dao, member, &witness);
        assert_eq!(hex::encode(found), expected, "kind {position}");
    }
}

/// The limit on statements is none to the largest DAO, and no statement of a corrupted enclave that passes for well-formed
/// is longer than an honest one.
#[test]
fn the_longest_honest_statements_are_heard() {
    let members = MAX_MEMBERS;
    let signed = SignedDigest {
        slot: Slot { from: MemberId(u16::MAX), ..fixed::SLOT },
        digest: Digest([0; 32]),
        signature: IdentitySignature([0; 64]),
    };
    let sealed = |size: usize| {
        let shares = vec![EncryptedShare(vec![0; size + TAG_SIZE]); members];
        SealedShares::prove(fixed::SLOT, &(), &Scalar::from_u64(1), |_| Scalar::from_u64(1), shares)
    };
    let points = |count| vec![PublicKey([0; 48]); count];
    let possession = Signature([0; 96]);
    let deal = Deal { commitments: points(members), possession, sealed: sealed(SHARE_SIZE) };
    let split = Split { commitments: points(members - 1), sealed: sealed(EXIT_SHARE_SIZE) };
    let opening = Opening {
        shared: PublicKey([0; 48]),
        proof: DleqProof::prove(&Scalar::from_u64(1), &G1::generator(), &Scalar::from_u64(1), b""),
    };
    let recipient = MemberId(u16::MAX);
    let bad_share = Proof::BadShare { statement: signed, recipient, opening };
    let proofs = [
        Proof::Equivocation(signed, signed),
        Proof::BrokenCommitment { commit: signed, deal: signed },
        Proof::InvalidStatement(signed),
        bad_share,
        Proof::InvalidPartial { verdict: signed, statement: signed },
        Proof::FalseAccusation(signed),
    ];
    // Whatever it is about, an accusation takes a few hundred bytes.
    for proof in proofs {
        let size = codec::encode(&Verdict::Reject(Fault { culprit: recipient, proof })).len();
        assert!(size <= 300, "{size} bytes");
    }
    let accept = codec::encode(&Verdict::Accept(vec![signed; members])).len();
    let bad = codec::encode(&Acknowledge::Bad { split: signed, opening }).len();
    let sizes = [codec::encode(&deal).len(), accept, codec::encode(&split).len(), bad];
    println!("deal, acceptance, split, complaint of {members} members: {sizes:?} bytes");
    assert!(sizes.iter().all(|size| *size <= MAX_BODY), "{sizes:?}");
}

/// Values that never change.
mod fixed {
    use super::*;

    pub const STEPS: [Step; 17] = {
        use Step::*;
        let ceremonies = [Commit, Deal, Verdict, Confirm, Deposit, Split, Acknowledge, Call, Authorise];
        let [a, b, c, d, e, f, g, h, i] = ceremonies;
        [a, b, c, d, e, f, g, h, i, HandOver, Propose, Vote, Adopt, Quit, Decide, Share, Released]
    };
    pub const SLOT: Slot =
        Slot { ceremony: CeremonyId([7; 32]), from: MemberId(300), step: Step::Acknowledge, item: 2 };
    const MANIFEST: ManifestHash = ManifestHash([1; 32]);
    const ROSTER: Digest = Digest([2; 32]);
    const SOURCE: EventSource = EventSource { block: Digest([0xb0; 32]), log_index: 128 };
    pub const POOL: PoolId = PoolId::new(1, Address([0xaa; 20]), 1000);
    const NETWORK: Network = Network {
        chain_id: 1,
        genesis_fork_version: ForkVersion([0; 4]),
        capella_fork_version: ForkVersion([3, 0, 0, 0]),
        genesis_validators_root: Root([0x4b; 32]),
    };

    pub fn identity(member: u8) -> Identity {
        Identity {
            member: MemberId(member.into()),
            machine: 300,
            signing: SigningKey([member; 32]),
            agreement: AgreementKey([member | 0x10; 32]),
            dealing: PublicKey([member | 0x20; 48]),
            signer: Address([member | 0x40; 20]),
        }
    }

    pub const END: End = End {
        ballot: Ballot { machine: 300, era: 2, incarnation: 128, nonce: Nonce([9; 32]) },
        place: Place { log: LogId([0x0a; 32]), head: LogHead { number: 300, digest: Digest([0x0b; 32]) } },
    };

    pub fn note(acting: bool) -> SignedNote {
        let End { ballot, place } = END;
        let note = Note { member: MemberId(300), ballot, place, acting, ends: End::digest(&[END]) };
        SignedNote { note, signature: IdentitySignature([0x11; 64]) }
    }

    pub fn keygen_terms() -> KeygenTerms {
        KeygenTerms {
            manifest: MANIFEST,
            roster: ROSTER,
            network: NETWORK,
            request: DepositRequest { source: SOURCE, pool: POOL },
            pool_code: Digest([0xc0; 32]),
            operators: [1, 2, 200].map(MemberId).to_vec(),
            threshold: 2,
            attempt: Attempt { generation: 1, number: 2 },
        }
    }

    pub fn certificate() -> KeygenCertificate {
        let commitments = vec![PublicKey([5; 48]), PublicKey([6; 48])];
        let operators = [1, 2, 200].map(MemberId).to_vec();
        KeygenCertificate { ceremony: CeremonyId([3; 32]), operators, deals: Digest([4; 32]), commitments }
    }

    pub fn release_terms() -> ReleaseTerms {
        let presign = PresignTerms {
            manifest: MANIFEST,
            roster: ROSTER,
            network: NETWORK,
            pool: POOL,
            certificate: certificate(),
            operators: [1, 2].map(MemberId).to_vec(),
            guardians: [1, 200].map(MemberId).to_vec(),
            guardian_threshold: 2,
            exit: VoluntaryExit { epoch: 194_048, validator_index: 1_234_567 },
        };
        ReleaseTerms { presign, source: SOURCE }
    }
}
