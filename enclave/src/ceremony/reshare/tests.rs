//! Reshares among honest enclaves, and every known attack on them.

use crate::ceremony::rehearsal::{Held, POOL, Stage, attempt, manifest, members, roster, sign, terms};
use crate::ceremony::sealing::seal_shares;
use crate::crypto::sharing::Polynomial;
use postern_shared::bls::{G1, G2, PublicKey, Scalar};
use postern_shared::codec;
use postern_shared::dealing::{
    Certificate as _, Commit, Confirm, DealError, DealingTerms as _, PinnedDeal, Verdict,
};
use postern_shared::fault::{Fault, Proof};
use postern_shared::ids::{Digest, MemberId};
use postern_shared::message::{Broadcast, Slot, Step};
use postern_shared::reshare::{KeyCertificate, ReshareError, ReshareTerms};
use postern_shared::transcript::{Claim, Proceedings, TranscriptError};
use postern_shared::wire::{Notice, Rejection};

const CULPRIT: MemberId = MemberId(2);

/// (t, holders) → (t', operators): the same, more, fewer, others; a threshold that rises or falls.
type Case = (u16, std::ops::RangeInclusive<u16>, u16, std::ops::RangeInclusive<u16>);

const CASES: [Case; 9] = [
    (3, 1..=5, 3, 1..=5),
    (2, 1..=3, 2, 1..=3),
    (3, 1..=5, 3, 1..=7),
    (4, 1..=7, 3, 2..=5),
    (3, 1..=5, 3, 6..=10),
    (3, 1..=5, 4, 3..=8),
    (2, 1..=3, 5, 1..=7),
    (5, 1..=7, 2, 5..=9),
    (2, 3..=5, 2, 1..=3),
];

/// The last so many of some members: dealers need not be the first.
fn last(of: &[MemberId], count: usize) -> Vec<MemberId> {
    of[of.len() - count..].to_vec()
}

/// A run of five, three of whom sign, for themselves; two others look on.
fn refresh(held: &Held) -> Stage<'_> {
    let all = members(1..=5);
    Stage::new(7, held, &all[..3], &all, 3, 0)
}

fn five() -> Held {
    Held::new(3, members(1..=5))
}

/// Runs it among all, checks what came of it, and gives the key with its new shares.
#[track_caller]
fn succeed(stage: &mut Stage<'_>) -> Held {
    stage.run();
    let next = stage.count();
    let Held::Again(keys) = &next else { unreachable!() };
    assert_eq!(keys.len(), stage.runs.len(), "everybody follows, with a part in it or without");
    assert!(stage.convicted(&[]).is_empty());
    let (before, after) = (&stage.terms.before, next.certificate());
    assert_eq!((after.pubkey(), after.generation()), (before.pubkey(), before.generation() + 1));
    assert_eq!(after.operators(), stage.terms.operators);
    assert_eq!(
        next.shares().into_keys().collect::<Vec<_>>(),
        stage.terms.operators,
        "nobody else gets a share"
    );
    next
}

#[track_caller]
fn assert_signs_with_new_shares_only(before: &Held, after: &Held) {
    let (old, new) = (before.shares(), after.shares());
    let certificate = after.certificate();
    let (fewest, new) = (certificate.threshold(), Vec::from_iter(new));
    for begin in 0..=new.len() - fewest {
        assert!(sign(&certificate, &new[begin..begin + fewest]));
        if fewest > 2 {
            assert!(!sign(&certificate, &new[begin..begin + fewest - 1]), "too few");
        }
    }
    // One old share among new ones, whatever count would be enough.
    for size in [before.certificate().threshold(), fewest] {
        let stranger =
            old.iter().find(|(member, _)| new.iter().skip(1).take(size).all(|(id, _)| id != *member));
        let Some((member, share)) = stranger else { continue };
        let mut mixed: Vec<(MemberId, Scalar)> = new.iter().skip(1).take(size - 1).cloned().collect();
        mixed.push((*member, share.clone()));
        assert!(mixed.len() < 2 || !sign(&certificate, &mixed), "old and new shares combine");
    }
}

#[test]
fn the_key_stays_and_new_shares_alone_sign_with_it() {
    for (threshold, holders, next, operators) in CASES {
        let (holders, operators) = (members(holders), members(operators));
        let held = Held::new(threshold.into(), holders.clone());
        let dealers = last(&holders, threshold.into());
        let total = holders.iter().chain(&operators).map(|member| member.0).max().unwrap() + 1;
        let mut stage = Stage::new(total, &held, &dealers, &operators, next, 0);
        let after = succeed(&mut stage);
        assert_signs_with_new_shares_only(&held, &after);

        let (_, record) = stage.published.first().cloned().expect("a transcript");
        let claim = stage.transcript(record).verify();
        let KeyCertificate::Reshare(certificate) = after.certificate() else { panic!("not dealt again") };
        let expected = Claim::Reshared {
            pool: POOL,
            before: held.certificate(),
            certificate,
            confirmed: operators.clone(),
            operators,
            threshold: next,
        };
        assert_eq!(claim, Ok(expected));
    }
}

#[test]
fn any_parameters_do() {
    let mut dice = fastrand(0x5e_ed);
    for _ in 0..20 {
        let total = 4 + dice(9);
        let mut any = |least: u16| {
            let mut chosen: Vec<u16> = (1..=total).collect();
            while chosen.len() as u16 > least + dice(total - least + 1) {
                chosen.remove(dice(chosen.len() as u16).into());
            }
            members(chosen)
        };
        let holders = any(2);
        let operators = any(2);
        let threshold = 2 + dice(holders.len() as u16 - 1);
        let next = 2 + dice(operators.len() as u16 - 1);
        let held = Held::new(threshold.into(), holders.clone());
        let mut dealers = holders;
        while dealers.len() > threshold.into() {
            dealers.remove(dice(dealers.len() as u16).into());
        }
        let after = succeed(&mut Stage::new(total, &held, &dealers, &operators, next, 0));
        assert_signs_with_new_shares_only(&held, &after);
    }
}

/// Numbers below a bound, the same every time (splitmix64).
fn fastrand(mut state: u64) -> impl FnMut(u16) -> u16 {
    move |bound| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(bound.max(1))) as u16
    }
}

#[test]
fn a_key_is_dealt_again_and_again() {
    let first = five();
    let second = succeed(&mut refresh(&first));
    let all = members(1..=5);
    let third = succeed(&mut Stage::new(7, &second, &all[2..], &members(3..=7), 4, 0));
    assert_eq!(third.certificate().generation(), 2);
    assert_signs_with_new_shares_only(&second, &third);
    assert_signs_with_new_shares_only(&first, &second);
    // Shares of three generations, of which each has one.
    let share = |held: &Held, member: u16| (MemberId(member), held.shares()[&MemberId(member)].clone());
    assert!(!sign(
        &third.certificate(),
        &[share(&first, 1), share(&second, 2), share(&third, 3), share(&third, 4)]
    ));
}

#[test]
fn terms_that_do_not_follow_are_refused() {
    let held = five();
    let all = members(1..=5);
    let of = |dealers: &[MemberId], operators: &[MemberId]| {
        terms(&manifest(7, &members(1..=7), 3), &held, dealers, operators, attempt(0)).map(drop)
    };
    let operators = members(1..=7);
    assert_eq!(of(&all[..3], &operators), Ok(()));
    let dealers = |found| Err(ReshareError::Dealers { expected: 3, found });
    assert_eq!(of(&all[..2], &operators), dealers(2), "fewer than t");
    assert_eq!(of(&all[..4], &operators), dealers(4), "more than t");
    assert_eq!(of(&members([1, 2, 6]), &operators), dealers(2), "one that holds no share");
    assert_eq!(of(&members([1, 3, 2]), &operators), dealers(0), "not ascending");
    assert_eq!(of(&members([1, 2, 2]), &operators), dealers(0), "one twice");
    assert_eq!(
        of(&all[..3], &members([1, 2, 3, 4])),
        Err(ReshareError::Operators),
        "too few of the manifest's"
    );
    assert_eq!(
        of(&all[..3], &members([1, 2, 3, 4, 5, 6, 8])),
        Err(ReshareError::Operators),
        "not the manifest's"
    );
    assert_eq!(of(&all[..3], &members([2, 1, 3, 4, 5, 6])), Err(ReshareError::Operators), "not ascending");

    // A threshold of 1, or of more than there are operators: no manifest has it, and no terms do.
    for threshold in [0, 1, 8] {
        let mut manifest = manifest(7, &operators, 3);
        manifest.thresholds.operator = threshold;
        let refused = terms(&manifest, &held, &all[..3], &operators, attempt(0)).map(drop);
        assert_eq!(refused, Err(ReshareError::Threshold { threshold, operators: 7 }));
    }

    // A certificate that is none.
    let KeyCertificate::Keygen(good) = held.certificate() else { unreachable!() };
    let with = |change: &dyn Fn(&mut postern_shared::keygen::KeygenCertificate)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        let (before, dealers) = (KeyCertificate::Keygen(certificate), all[..3].to_vec());
        let (manifest, roster) = (manifest(5, &all, 3), roster(&all));
        ReshareTerms::new(&manifest, &roster, POOL, before, dealers, all.clone(), attempt(0)).map(drop)
    };
    assert_eq!(with(&|_| ()), Ok(()));
    assert_eq!(with(&|bad| bad.operators = members([0, 1, 2, 3])), Err(ReshareError::Holders));
    assert_eq!(with(&|bad| bad.operators = members([1, 2, 2, 3])), Err(ReshareError::Holders));
    assert_eq!(with(&|bad| bad.operators = members([1, 2])), Err(ReshareError::Holders));
    assert_eq!(with(&|bad| bad.commitments.truncate(1)), Err(ReshareError::Holders));
    assert!(matches!(with(&|bad| bad.commitments[1] = PublicKey([0; 48])), Err(ReshareError::Polynomial(_))));
}

#[test]
fn only_the_key_in_force_is_dealt() {
    let first = five();
    let second = succeed(&mut refresh(&first));
    let all = members(1..=5);
    // Terms of the first generation, where the second is in force; and the other way round.
    for (named, in_force) in [(&first, &second), (&second, &first)] {
        let mut stage = Stage::new(5, in_force, &all[..3], &all, 3, 1);
        (stage.terms, stage.roster) = terms(&stage.manifest, named, &all[..3], &all, attempt(1)).unwrap();
        assert_eq!(stage.start(MemberId(1)), Err(ReshareError::NotInForce));
        assert!(stage.said.is_empty());
    }
}

/// A deal of another polynomial than the culprit's own, well made in all else; if a victim is named, but for its share.
fn deal_but(
    terms: &ReshareTerms,
    constant: &Scalar,
    threshold: usize,
    victim: Option<MemberId>,
) -> PinnedDeal {
    let (_, coins) = Stage::broken(CULPRIT);
    let polynomial = Polynomial::sample(constant.clone(), threshold, coins.stream("attack", b"")).unwrap();
    let commitments = polynomial.commitments();
    let share = |recipient| {
        let good = polynomial.evaluate(recipient).unwrap();
        let share = if victim == Some(recipient) { good + Scalar::from_u64(1) } else { good };
        Some(share.to_secret_bytes())
    };
    let slot = Slot::of(terms.ceremony(), CULPRIT, Step::Deal);
    let participants: Vec<MemberId> = terms.dealers.iter().chain(&terms.operators).copied().collect();
    let sealed =
        seal_shares(&coins, slot, &roster(&participants), &terms.operators, &commitments, share).unwrap();
    PinnedDeal { commitments, sealed }
}

fn deal(terms: &ReshareTerms, constant: &Scalar, threshold: usize) -> PinnedDeal {
    deal_but(terms, constant, threshold, None)
}

/// A statement of the culprit.
fn say<T: serde::Serialize>(terms: &ReshareTerms, step: Step, body: &T) -> Broadcast {
    let (keys, _) = Stage::broken(CULPRIT);
    keys.sign(Slot::of(terms.ceremony(), CULPRIT, step), codec::encode(body))
}

/// Runs a refresh in which the culprit commits to a deal and opens it, and says no more: its own enclave is honest, and would
/// contradict it.
#[track_caller]
fn dealing<'a>(held: &'a Held, deal: &PinnedDeal) -> Stage<'a> {
    let mut stage = refresh(held);
    let deal = say(&stage.terms, Step::Deal, deal);
    let commit = say(&stage.terms, Step::Commit, &Commit { deal: deal.signed_digest().digest });
    stage.run_through(&mut |said, _| match (said.slot.from, said.slot.step) {
        (CULPRIT, Step::Commit) => vec![commit.clone()],
        (CULPRIT, Step::Deal) => vec![deal.clone()],
        (CULPRIT, _) => Vec::new(),
        _ => vec![said.clone()],
    });
    stage
}

/// The culprit is convicted by everybody else, with a proof that holds for anybody, and nothing was made.
#[track_caller]
fn assert_convicted(stage: &Stage<'_>) {
    assert_eq!(stage.convicted(&[CULPRIT]), [CULPRIT]);
    for (member, run) in stage.runs.iter().filter(|(member, _)| **member != CULPRIT) {
        assert!(run.is_aborted() && run.made().is_none(), "{member} goes on");
        assert_eq!(run.convicted().collect::<Vec<_>>(), [CULPRIT]);
        let record = stage.published.iter().find(|(by, _)| by == member).expect("a published proof");
        assert!(matches!(record.1, Proceedings::ReshareFault(_)));
        let claim = stage.transcript(record.1.clone()).verify();
        assert_eq!(claim, Ok(Claim::Cheated { pool: POOL, culprit: CULPRIT }));
    }
}

#[test]
fn a_dealer_that_deals_another_secret_than_its_share_is_convicted() {
    let held = five();
    let stage = refresh(&held);
    let other = deal(&stage.terms, &Scalar::from_u64(5), 3);
    let body = codec::encode(&other);
    assert_eq!(stage.terms.check_deal(CULPRIT, &body).map(drop), Err(DealError::OtherShare));
    assert_convicted(&dealing(&held, &other));
    // Another holder's share, or the same share in another generation, is as wrong.
    let others = deal(&stage.terms, &held.shares()[&MemberId(4)], 3);
    assert_convicted(&dealing(&held, &others));
    // With its own share, the same makes a key.
    let good = deal(&stage.terms, &held.shares()[&CULPRIT], 3);
    assert!(stage.terms.check_deal(CULPRIT, &codec::encode(&good)).is_ok());
    let mut stage = dealing(&held, &good);
    assert!(stage.convicted(&[CULPRIT]).is_empty());
    stage.runs.remove(&CULPRIT);
    assert!(stage.runs.values().all(|run| run.made().is_some()));
}

#[test]
fn a_dealer_that_deals_its_share_of_an_old_generation_is_convicted() {
    let first = five();
    let second = succeed(&mut refresh(&first));
    let stage = refresh(&second);
    assert_convicted(&dealing(&second, &deal(&stage.terms, &first.shares()[&CULPRIT], 3)));
}

#[test]
fn a_polynomial_of_another_degree_is_convicted() {
    let held = five();
    let stage = refresh(&held);
    let share = &held.shares()[&CULPRIT];
    for threshold in [2, 4, 20] {
        assert_convicted(&dealing(&held, &deal(&stage.terms, share, threshold)));
    }
    let mut lower = deal(&stage.terms, share, 3);
    lower.commitments[2] = G1::identity().encode();
    assert_convicted(&dealing(&held, &lower));
    lower.commitments.clear();
    assert_convicted(&dealing(&held, &lower));
}

#[test]
fn a_bad_share_is_opened_and_convicts_its_dealer() {
    let held = five();
    let stage = refresh(&held);
    let victim = MemberId(4);
    let stage = dealing(&held, &deal_but(&stage.terms, &held.shares()[&CULPRIT], 3, Some(victim)));
    assert_convicted(&stage);
    let others = stage.published.iter().filter(|(by, _)| *by != CULPRIT);
    let mut others = others.map(|(_, record)| record);
    let opened = others.all(|record| {
        matches!(record.fault().map(|fault| fault.proof), Some(Proof::BadShare { recipient, .. }) if recipient == victim)
    });
    assert!(opened, "everybody knows it by the one ciphertext that the victim has opened");
}

#[test]
fn a_deal_other_than_the_committed_one_is_convicted() {
    let held = five();
    let mut stage = refresh(&held);
    let commit = say(&stage.terms, Step::Commit, &Commit { deal: Digest([9; 32]) });
    stage.run_through(&mut |said, _| match (said.slot.from, said.slot.step) {
        (CULPRIT, Step::Commit) => vec![commit.clone()],
        _ => vec![said.clone()],
    });
    assert_convicted(&stage);
}

#[test]
fn two_deals_of_one_dealer_convict_it() {
    let held = five();
    let mut stage = refresh(&held);
    let share = &held.shares()[&CULPRIT];
    let mut two: Vec<Broadcast> = Vec::new();
    for secret in [share.clone(), Scalar::from_u64(5)] {
        two.push(say(&stage.terms, Step::Deal, &deal(&stage.terms, &secret, 3)));
    }
    stage.run_through(&mut |said, _| match (said.slot.from, said.slot.step) {
        (CULPRIT, Step::Deal) => two.clone(),
        _ => vec![said.clone()],
    });
    assert_convicted(&stage);
}

#[test]
fn deals_that_differ_from_recipient_to_recipient_convict_their_dealer() {
    let held = five();
    let mut stage = refresh(&held);
    let share = &held.shares()[&CULPRIT];
    let other = say(&stage.terms, Step::Deal, &deal(&stage.terms, share, 3));
    let commit = say(&stage.terms, Step::Commit, &Commit { deal: other.signed_digest().digest });
    // Members 1 and 3 are told the one, whoever else there is the other: each for itself finds nothing wrong with it.
    stage.run_through(&mut |said, to| match (said.slot.from, said.slot.step, to.0) {
        (CULPRIT, Step::Commit, 4..) => vec![commit.clone()],
        (CULPRIT, Step::Deal, 4..) => vec![other.clone()],
        (CULPRIT, Step::Verdict, _) => Vec::new(),
        _ => vec![said.clone()],
    });
    assert_convicted(&stage);
}

#[test]
fn whoever_is_no_dealer_deals_nothing() {
    let held = five();
    let mut stage = refresh(&held);
    // Member 5 holds a share and gets one, but was not named as a dealer; member 6 has no part in it.
    let (five, _) = Stage::broken(MemberId(5));
    let (six, _) = Stage::broken(MemberId(6));
    let ceremony = stage.terms.ceremony();
    let body = codec::encode(&deal(&stage.terms, &held.shares()[&CULPRIT], 3));
    stage.run();
    for step in [Step::Commit, Step::Deal] {
        stage.hand(MemberId(1), five.sign(Slot::of(ceremony, MemberId(5), step), body.clone()));
        stage.hand(MemberId(1), six.sign(Slot::of(ceremony, MemberId(6), step), body.clone()));
    }
    let refused: Vec<_> = stage.refused.iter().map(|(from, _, why)| (from.0, *why)).collect();
    let expected = [(5, Rejection::Invalid), (6, Rejection::NotAuthentic)];
    assert_eq!(refused, [expected, expected].concat());
    assert!(stage.convicted(&[]).is_empty());
}

#[test]
fn what_was_said_in_another_ceremony_is_not_said_in_this_one() {
    let held = five();
    let all = members(1..=5);
    let mut other = Stage::new(5, &held, &all[..3], &all, 3, 1);
    other.run();
    let mut stage = refresh(&held);
    assert_ne!(stage.terms.ceremony(), other.terms.ceremony(), "an attempt is another ceremony");
    let replayed: Vec<Broadcast> = other.said.clone();
    for member in all.iter().copied() {
        stage.start(member).unwrap();
    }
    for said in replayed.iter().filter(|said| said.slot.from != MemberId(1)) {
        // As it is, and as if it had been said here.
        stage.hand(MemberId(1), said.clone());
        let mut moved = said.clone();
        moved.slot.ceremony = stage.terms.ceremony();
        stage.hand(MemberId(1), moved);
    }
    assert!(stage.refused.iter().all(|(.., why)| *why == Rejection::NotAuthentic));
    assert_eq!(stage.refused.len(), 2 * replayed.iter().filter(|said| said.slot.from != MemberId(1)).count());
    // Its own speaker may sign a deal of another attempt, or one of keygen, anew: the proof of knowledge holds only there.
    let dealt =
        replayed.iter().find(|said| (said.slot.from, said.slot.step) == (CULPRIT, Step::Deal)).unwrap();
    assert!(stage.terms.check_deal(CULPRIT, &dealt.body).is_err());
    assert!(other.terms.check_deal(CULPRIT, &dealt.body).is_ok());
    let moved: PinnedDeal = codec::decode(&dealt.body).unwrap();
    drop(stage);
    assert_convicted(&dealing(&held, &moved));
}

#[test]
fn shares_of_two_attempts_do_not_combine() {
    let held = five();
    let all = members(1..=5);
    let one = succeed(&mut refresh(&held));
    let other = succeed(&mut Stage::new(5, &held, &all[1..4], &all, 3, 1));
    let (certificate, one, other) = (one.certificate(), one.shares(), other.shares());
    let of = |shares: &std::collections::BTreeMap<MemberId, Scalar>, id: u16| {
        (MemberId(id), shares[&MemberId(id)].clone())
    };
    assert!(sign(&certificate, &[of(&one, 1), of(&one, 2), of(&one, 3)]));
    assert!(!sign(&certificate, &[of(&one, 1), of(&one, 2), of(&other, 3)]));
    assert!(!sign(&certificate, &[of(&other, 1), of(&one, 2), of(&other, 3)]));
}

#[test]
fn a_confirmation_with_another_share_is_dropped_and_convicts() {
    let first = five();
    let all = members(1..=5);
    let mut stage = refresh(&first);
    // The culprit confirms with its old share: what a member that did not change its share would say.
    let old = first.shares()[&CULPRIT].clone();
    stage.run_through(&mut |said, _| match (said.slot.from, said.slot.step) {
        (CULPRIT, Step::Confirm) => {
            let mut confirm: Confirm = codec::decode(&said.body).unwrap();
            confirm.partial = (G2::generator() * &old).encode();
            let (keys, _) = Stage::broken(CULPRIT);
            vec![keys.sign(said.slot, codec::encode(&confirm))]
        }
        _ => vec![said.clone()],
    });
    // The four others are enough: the run ends well, and the cheat has a name.
    assert_eq!(stage.convicted(&[CULPRIT]), [CULPRIT]);
    let next = stage.count();
    assert_eq!(next.certificate().pubkey(), first.certificate().pubkey());
    let without: Vec<MemberId> = all.iter().copied().filter(|member| *member != CULPRIT).collect();
    let (_, record) = stage
        .published
        .iter()
        .find(|(by, record)| *by != CULPRIT && matches!(record, Proceedings::Reshare(_)))
        .cloned()
        .unwrap();
    match stage.transcript(record).verify() {
        Ok(Claim::Reshared { confirmed, .. }) => assert_eq!(confirmed, without),
        other => panic!("{other:?}"),
    }
    for (by, record) in stage.published.clone() {
        let claim = stage.transcript(record).verify();
        assert!(claim.is_ok(), "{by}: {claim:?}");
    }
}

#[test]
fn one_silent_operator_holds_up_nothing_and_comes_late() {
    let held = five();
    let silent = MemberId(5);
    let mut stage = refresh(&held);
    assert_eq!(stage.terms.confirmations, 4);
    let mut withheld = Vec::new();
    stage.run_through(&mut |said, to| {
        if said.slot.from == silent || to == silent {
            withheld.push((to, said.clone()));
            return Vec::new();
        }
        vec![said.clone()]
    });
    for member in 1..=4 {
        let run = &stage.runs[&MemberId(member)];
        assert!(run.made().is_some(), "{member} waits for the silent one");
        assert_eq!(run.confirmed(), members(1..=4));
    }
    // It hears everything later, and reads its own share from the deals. Its confirmation is noted, too.
    for (to, said) in withheld {
        stage.hand(to, said);
    }
    stage.deliver(&mut |said, _| vec![said.clone()]);
    assert_eq!(stage.runs[&MemberId(1)].confirmed(), members(1..=5));
    let next = stage.count();
    assert!(next.shares().contains_key(&silent));
    assert_signs_with_new_shares_only(&held, &next);
}

#[test]
fn too_few_confirmations_make_nothing() {
    let held = five();
    let mut stage = refresh(&held);
    stage.run_through(&mut |said, _| match (said.slot.from.0, said.slot.step) {
        (4 | 5, Step::Confirm) => Vec::new(),
        _ => vec![said.clone()],
    });
    for member in 1..=3 {
        assert!(stage.runs[&MemberId(member)].made().is_none());
    }
    stage.with(MemberId(1), |run, scene| run.unwrap().on_tick(scene));
    assert_eq!(missing(&stage, Step::Confirm), members([4, 5]));
    // Nor can it be put in force.
    stage.with(MemberId(1), |run, scene| run.unwrap().count(scene));
    assert!(stage.runs[&MemberId(1)].key().is_none());
}

/// Whom member 1 says to be waiting for.
fn missing(stage: &Stage<'_>, wanted: Step) -> Vec<MemberId> {
    let listed = stage.notices.iter().filter_map(|(by, notice)| match notice {
        Notice::Missing { step, member, .. } if (*by, *step) == (MemberId(1), wanted) => Some(*member),
        _ => None,
    });
    listed.collect()
}

#[test]
fn a_silent_dealer_is_listed_and_convicts_nobody() {
    let held = five();
    for step in [Step::Commit, Step::Deal] {
        let mut stage = refresh(&held);
        stage.run_through(&mut |said, _| {
            let silent = said.slot.from == CULPRIT && said.slot.step == step;
            if silent { Vec::new() } else { vec![said.clone()] }
        });
        stage.with(MemberId(1), |run, scene| run.unwrap().on_tick(scene));
        assert_eq!(missing(&stage, step), [CULPRIT]);
        assert!(stage.runs.iter().all(|(member, run)| *member == CULPRIT || run.made().is_none()));
        assert!(stage.convicted(&[]).is_empty());
    }
}

#[test]
fn no_deal_is_shown_before_all_commitments_are_in() {
    let held = five();
    let mut stage = refresh(&held);
    stage.run_through(&mut |said, to| {
        let withheld = (said.slot.from, said.slot.step, to) == (MemberId(3), Step::Commit, MemberId(1));
        if withheld { Vec::new() } else { vec![said.clone()] }
    });
    let shown = |by| stage.said.iter().any(|said| (said.slot.from, said.slot.step) == (by, Step::Deal));
    assert!(shown(MemberId(2)) && !shown(MemberId(1)));
}

#[test]
fn a_false_accusation_convicts_the_accuser() {
    let held = five();
    let mut stage = refresh(&held);
    let terms = stage.terms.clone();
    let mut dealt = None;
    stage.run_through(&mut |said, _| {
        if (said.slot.from, said.slot.step) == (MemberId(1), Step::Deal) {
            dealt = Some(said.signed_digest());
        }
        match (said.slot.from, said.slot.step) {
            (CULPRIT, Step::Verdict) => {
                let fault = Fault { culprit: MemberId(1), proof: Proof::InvalidStatement(dealt.unwrap()) };
                vec![say(&terms, Step::Verdict, &Verdict::Reject(fault))]
            }
            _ => vec![said.clone()],
        }
    });
    assert_eq!(stage.convicted(&[CULPRIT]), [CULPRIT]);
}

#[test]
fn a_machine_that_starts_again_says_the_same() {
    let held = five();
    // A dealer that gets no share, operators that deal and that do not, and an observer.
    let (dealers, operators) = (members(1..=3), members(2..=6));
    let mut once = Stage::new(7, &held, &dealers, &operators, 3, 0);
    let first = succeed(&mut once);
    let mut again = Stage::new(7, &held, &dealers, &operators, 3, 0);
    again.restarting = true;
    let second = succeed(&mut again);
    assert_eq!(once.said, again.said, "byte for byte, in order");
    assert_eq!(first.certificate(), second.certificate());
    assert!(first.shares() == second.shares());
    // And once it counts.
    for member in 1..=7 {
        again.restart(MemberId(member));
        assert!(again.runs[&MemberId(member)].key().is_some());
    }
    // Begun from nothing, with the same coins, its first words are the same.
    let mut anew = Stage::new(7, &held, &dealers, &operators, 3, 0);
    anew.start(MemberId(2)).unwrap();
    assert!(once.said.contains(&anew.said[0]));
}

#[test]
fn two_members_without_a_share_follow() {
    let held = five();
    // Member 1 deals and gets nothing, member 7 does neither.
    let mut stage = Stage::new(7, &held, &members(1..=3), &members(2..=6), 3, 0);
    let next = succeed(&mut stage);
    assert_eq!(next.shares().into_keys().collect::<Vec<_>>(), members(2..=6));
    let said_by = |member: u16| -> Vec<Step> {
        stage.said.iter().filter(|said| said.slot.from.0 == member).map(|said| said.slot.step).collect()
    };
    assert_eq!(said_by(1), [Step::Commit, Step::Deal]);
    assert_eq!(said_by(4), [Step::Verdict, Step::Confirm]);
    assert!(said_by(7).is_empty());
    assert_eq!(stage.runs[&MemberId(7)].confirmed(), members(2..=6));
}

#[test]
fn proceedings_that_prove_less_are_refused() {
    let held = five();
    let mut stage = refresh(&held);
    succeed(&mut stage);
    let (_, record) = stage.published.first().cloned().unwrap();
    let Proceedings::Reshare(good) = record else { panic!("no reshare") };
    let verify = |record| stage.transcript(Proceedings::Reshare(record)).verify().map(drop);
    assert_eq!(verify(good.clone()), Ok(()));

    let mut few = good.clone();
    few.confirmed.truncate(3);
    assert_eq!(verify(few), Err(TranscriptError::TooFew { expected: 4, found: 3 }));
    let mut twice = good.clone();
    twice.confirmed = members([1, 2, 3, 3]);
    assert_eq!(verify(twice), Err(TranscriptError::Terms { what: "who has confirmed" }));
    let mut strangers = good.clone();
    strangers.confirmed = members([1, 2, 3, 4, 6]);
    assert_eq!(verify(strangers), Err(TranscriptError::Terms { what: "who has confirmed" }));
    for step in [Step::Commit, Step::Deal, Step::Verdict, Step::Confirm] {
        let mut lacking = good.clone();
        lacking.statements.retain(|said| (said.slot.from, said.slot.step) != (CULPRIT, step));
        assert_eq!(verify(lacking), Err(TranscriptError::Missing { step, member: CULPRIT }));
    }
    // Terms of which a part does not follow from the manifest.
    let changes: [&dyn Fn(&mut ReshareTerms); 5] = [
        &|terms| terms.threshold = 2,
        &|terms| terms.confirmations = 3,
        &|terms| terms.dealers.push(MemberId(4)),
        &|terms| terms.operators.truncate(4),
        &|terms| terms.roster = Digest([0; 32]),
    ];
    for change in changes {
        let mut other = good.clone();
        change(&mut other.terms);
        let refused = verify(other).unwrap_err();
        assert!(matches!(refused, TranscriptError::Terms { .. } | TranscriptError::Reshare(_)), "{refused}");
    }
    // Another key before: the deals' constants are not its shares.
    let mut other = good.clone();
    let KeyCertificate::Keygen(before) = &mut other.terms.before else { unreachable!() };
    before.commitments.swap(0, 1);
    assert!(verify(other).is_err());
}

#[test]
fn the_generation_is_in_what_confirmations_sign() {
    let first = five();
    let KeyCertificate::Reshare(certificate) = succeed(&mut refresh(&first)).certificate() else {
        panic!("not dealt again")
    };
    let mut other = certificate.clone();
    other.generation += 1;
    assert_ne!(certificate.digest(), other.digest());
    assert!(certificate.confirm_message() != other.confirm_message());
}

#[test]
fn what_makes_another_key_is_not_certified() {
    let held = five();
    let stage = refresh(&held);
    let deals: Vec<_> = stage
        .terms
        .dealers
        .iter()
        .map(|dealer| {
            let secret = if *dealer == CULPRIT { Scalar::from_u64(5) } else { held.shares()[dealer].clone() };
            let deal = deal(&stage.terms, &secret, 3);
            postern_shared::bls::Commitments::decode(&deal.commitments, 3).unwrap()
        })
        .collect();
    let deals: Vec<(Digest, &postern_shared::bls::Commitments)> =
        deals.iter().map(|commitments| (Digest([0; 32]), commitments)).collect();
    let refused = stage.terms.add_up(&deals).map(drop);
    assert_eq!(refused, Err(postern_shared::dealing::CertificateError::OtherKey));
}
