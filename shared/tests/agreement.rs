//! How many members it takes to agree, and what a claim of a restored enclave contains.

use postern_shared::codec;
use postern_shared::identity::IdentitySignature;
use postern_shared::ids::{Digest, ManifestHash, MemberId, Nonce};
use postern_shared::manifest::{MAX_MEMBERS, MIN_MEMBERS, Quorum, Resumed};
use postern_shared::message::PeerMessage;
use postern_shared::record::{LogHead, LogId};
use postern_shared::witness::{
    Advance, Ballot, Claim, End, InForce, Known, MAX_ENDS, Memory, Note, Noted, Place, SignedNote, Witness,
    WitnessMessage,
};

#[test]
fn any_two_that_agree_share_more_members_than_may_be_broken() {
    for members in MIN_MEMBERS..=MAX_MEMBERS {
        assert_eq!(Quorum::new(members, members / 2), None, "half of {members}");
        assert_eq!(Quorum::new(members, members), None, "all of {members}");
        for size in members / 2 + 1..members {
            let quorum = Quorum::new(members, size).unwrap();
            // One that acts, and those that remember for it; those that let one in again, which is not among them.
            let acting = quorum.to_act() + 1;
            assert_eq!((acting, quorum.members(), quorum.is_automatic()), (size, members, false));
            assert!(2 * acting - members > quorum.broken(), "{size} of {members}");
            let others = members - 1;
            let told = quorum.to_act() + quorum.to_return() - others;
            assert!(told > quorum.broken(), "what was remembered is told: {size} of {members}");
            assert!(quorum.to_return() <= others, "{size} of {members} can return");
            assert_eq!(quorum.away(), members - acting);
            assert_eq!(quorum.away_at_return(), others - quorum.to_return());
        }
    }
}

const LOG: LogId = LogId([1; 32]);

fn ballot(machine: u32, era: u64, incarnation: u64) -> Ballot {
    Ballot { machine, era, incarnation, nonce: Nonce([incarnation as u8; 32]) }
}

fn place(number: u64) -> Place {
    Place { log: LOG, head: LogHead { number, digest: Digest([number as u8; 32]) } }
}

fn note(ballot: Ballot, place: Place, acting: bool, ends: &[End]) -> SignedNote {
    let note = Note { member: MemberId(1), ballot, place, acting, ends: End::digest(ends) };
    SignedNote { note, signature: IdentitySignature([0; 64]) }
}

fn claim(own: Ballot, ends: &[End]) -> Claim {
    let newest = ends.last().map_or(place(0), |end| end.place);
    Claim { note: note(own, newest, false, ends), ends: ends.to_vec() }
}

#[test]
fn a_claim_is_whole_with_the_very_ends_that_its_note_binds() {
    let ends =
        [End { ballot: ballot(0, 0, 0), place: place(7) }, End { ballot: ballot(0, 0, 1), place: place(9) }];
    let good = claim(ballot(0, 0, 2), &ends);
    assert!(good.is_whole());
    assert!(!Claim { ends: ends[..1].to_vec(), ..good.clone() }.is_whole(), "one is missing");
    assert!(
        !Claim { ends: ends.iter().rev().copied().collect(), ..good.clone() }.is_whole(),
        "in another order"
    );
    let acting = note(ballot(0, 0, 2), place(9), true, &ends);
    assert!(!Claim { note: acting, ..good }.is_whole(), "who acts claims nothing");
    let most = vec![ends[0]; MAX_ENDS];
    assert!(claim(ballot(0, 0, 2), &most).is_whole());
    assert!(!claim(ballot(0, 0, 2), &[&most[..], &ends[..1]].concat()).is_whole());
}

#[test]
fn a_claim_contains_what_its_log_goes_on_from_and_no_more() {
    let first = ballot(1, 2, 0);
    let claim = claim(ballot(1, 2, 1), &[End { ballot: first, place: place(7) }]);
    let acted = |ballot, place| note(ballot, place, true, &[]).note;
    for number in [0, 6, 7] {
        assert!(claim.contains(&acted(first, place(number))), "{number}");
    }
    assert!(!claim.contains(&acted(first, place(8))), "it acted further");
    let twin = Ballot { nonce: Nonce([9; 32]), ..first };
    assert!(!claim.contains(&acted(twin, place(3))), "another copy");
    let elsewhere = Place { log: LogId([2; 32]), ..place(3) };
    assert!(!claim.contains(&acted(first, elsewhere)), "another log");
    assert!(!claim.contains(&acted(ballot(1, 2, 2), place(3))), "a later copy");
    assert!(claim.contains(&acted(ballot(1, 2, 1), place(99))), "itself");
    // Given up by an epoch: the machine, or what was before a cut.
    assert!(claim.contains(&acted(ballot(0, 2, 5), place(99))));
    assert!(claim.contains(&acted(ballot(1, 1, 5), place(99))));
    assert!(!claim.contains(&acted(ballot(1, 3, 0), place(1))));
}

#[test]
fn after_a_cut_only_the_copy_that_it_names_and_what_goes_on_from_there_may_act() {
    let (named, at) = (ballot(0, 1, 3), place(50));
    let resumed = Resumed { member: MemberId(1), ballot: named, place: at };
    assert!(claim(named, &[]).goes_on_from(&resumed));
    let twin = Ballot { nonce: Nonce([0; 32]), ..named };
    assert!(!claim(twin, &[]).goes_on_from(&resumed), "another copy of the same log");
    let on = |own, end| claim(own, &[End { ballot: named, place: end }]).goes_on_from(&resumed);
    assert!(on(ballot(0, 2, 4), at));
    assert!(!on(ballot(0, 2, 4), place(49)), "from before");
    assert!(!on(ballot(0, 1, 2), at), "an earlier copy");
    assert!(on(ballot(1, 0, 0), place(1)), "on another machine");
    let from_nothing = Resumed { place: Place { log: LOG, head: LogHead::START }, ..resumed };
    assert!(claim(ballot(0, 2, 4), &[]).goes_on_from(&from_nothing));
}

/// What `postern-enclave` takes of its peers.
const MAX_MESSAGE: usize = 96 << 10;

#[test]
fn the_longest_claims_and_answers_are_heard() {
    let ballot = Ballot { machine: u32::MAX, era: u64::MAX, incarnation: u64::MAX, nonce: Nonce([0xff; 32]) };
    let place = place(u64::MAX);
    let ends = vec![End { ballot, place }; MAX_ENDS];
    let signed = note(ballot, place, true, &ends);
    let in_force = InForce { epoch: u64::MAX, manifest: ManifestHash([0xff; 32]) };
    let member = MemberId(u16::MAX);
    let memories = vec![Memory { promised: signed, accepted: Some(signed) }; MAX_MEMBERS];
    let said = [
        Witness::Return(claim(ballot, &ends)),
        Witness::Known(Known { claim: signed.note, in_force, by: signed, memories, adopted: vec![] }),
        Witness::Advance(Advance { note: signed, in_force, ballots: vec![(member, ballot); MAX_MEMBERS] }),
        Witness::Noted(Noted { note: signed.note, in_force, by: signed, later: vec![signed; MAX_MEMBERS] }),
    ];
    for witness in said {
        let message = WitnessMessage { from: member, witness, signature: IdentitySignature([0; 64]) };
        let size = codec::encode(&PeerMessage::Witness(Box::new(message))).len();
        assert!(size <= MAX_MESSAGE, "{size} bytes");
    }
}
