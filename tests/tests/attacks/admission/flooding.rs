//! What it costs to be asked, and to be told, too often.

use super::{PROVER, VERIFIER, status};
use postern_enclave::coins::Coins;
use postern_enclave::core::Core;
use postern_enclave::keys::IdentityKeys;
use postern_shared::codec;
use postern_shared::identity::Identity;
use postern_shared::ids::{MemberId, Nonce};
use postern_shared::message::{Attestation, Challenge, Evidence, PeerMessage};
use postern_shared::wire::{Notice, Output, Recipient, Rejection, Reply, Request, Standing};
use postern_simulation::SoftwarePsp;
use postern_tests::cluster::{Cluster, Packet, manifest};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeroize::Zeroizing;

/// Member 1's enclave by itself, whose processor counts its reports; member 2's is admitted to it.
struct Counted {
    core: Core<SoftwarePsp>,
    reports: Arc<AtomicUsize>,
    cluster: Cluster,
}

impl Counted {
    fn launch() -> Self {
        let cluster = Cluster::launch_candidates(manifest(3, 2, 2), 5, None);
        let reports = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reports);
        let psp = SoftwarePsp::new(cluster.node(VERIFIER).machine).seeded([9; 32]);
        let psp = psp.tamper(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let certificates = psp.certificates();
        let mut counted = Self { core: Core::new(psp), reports, cluster };
        let manifest = counted.cluster.manifest.to_canonical();
        let (reply, _) =
            counted.ask(Request::Start { manifest, epochs: Vec::new(), member: VERIFIER, certificates });
        assert_eq!(reply, Reply::Done);
        // This one is the member's.
        let (Reply::Status(status), _) = counted.ask(Request::Status) else { panic!("no status") };
        let mut founding = counted.cluster.founding();
        founding.members[usize::from(VERIFIER.0) - 1].enclave = status.identity.map(|own| own.keys());
        counted.cluster.amend(&founding);
        let epoch = counted.cluster.epochs[0].clone();
        let (reply, sent) = counted.ask(Request::Amend(epoch));
        assert_eq!(reply, Reply::Done);
        let challenge = sent.into_iter().find_map(|(to, message)| match message {
            PeerMessage::Challenge(challenge) if to == Recipient::One(PROVER) => Some(challenge),
            _ => None,
        });
        let challenge = PeerMessage::Challenge(challenge.expect("a challenge"));
        counted.cluster.packets.clear();
        counted.cluster.ask(PROVER, Request::Deliver(codec::encode(&challenge)));
        let mut packets = std::mem::take(&mut counted.cluster.packets).into_iter();
        let is_evidence = |bytes: &[u8]| matches!(codec::decode(bytes), Ok(PeerMessage::Evidence(_)));
        let answer = packets.find(|packet| is_evidence(&packet.bytes)).expect("an answer");
        assert_eq!(counted.ask(Request::Deliver(answer.bytes)).0, Reply::Done);
        counted.ask(Request::Tick);
        counted
    }

    /// Asks, and gives what is sent because of it.
    fn ask(&mut self, request: Request) -> (Reply, Vec<(Recipient, PeerMessage)>) {
        let response = self.core.handle(request);
        if let Some(last) = response.outputs.last() {
            self.core.handle(Request::Acknowledge(last.sequence));
        }
        let sent = response.outputs.into_iter().filter_map(|numbered| match numbered.output {
            Output::Send { to, message } => Some((to, codec::decode(&message).expect("a message"))),
            _ => None,
        });
        (response.reply, sent.collect())
    }

    /// Delivers the prover's challenges; gives what came of them, and the last reply.
    fn flood(&mut self, challenges: impl Iterator<Item = Challenge>) -> (Cost, Reply) {
        let before = self.reports.load(Ordering::Relaxed);
        let (mut cost, mut last) = (Cost::default(), Reply::Done);
        for challenge in challenges {
            let message = codec::encode(&PeerMessage::Challenge(challenge));
            let (reply, sent) = self.ask(Request::Deliver(message));
            for (to, _) in sent {
                let count = if to == Recipient::One(PROVER) { &mut cost.back } else { &mut cost.to_others };
                *count += 1;
            }
            last = reply;
        }
        cost.reports = self.reports.load(Ordering::Relaxed) - before;
        (cost, last)
    }
}

/// What messages made an enclave do: reports, and what it sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cost {
    reports: usize,
    back: usize,
    to_others: usize,
}

fn nonce(number: u32) -> Nonce {
    let mut nonce = [0x77; 32];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    Nonce(nonce)
}

fn made_up(number: u32, member: MemberId) -> IdentityKeys {
    IdentityKeys::derive(&Coins::new(Zeroizing::new(nonce(number).0)), member, 0)
}

#[test]
fn a_member_makes_no_other_enclave_report_for_a_third_one_or_often_for_itself() {
    let mut counted = Counted::launch();
    let dao = counted.cluster.manifest.genesis();
    let (own, third) = (counted.cluster.node(PROVER).keys(), counted.cluster.node(MemberId(3)).keys());
    // In the third one's name: it would be sent evidence.
    let forged = |number| {
        let challenge = own.sign_challenge(dao, VERIFIER, nonce(number));
        Challenge { from: *third.identity(), ..challenge }
    };
    let not_authentic = Reply::Rejected(Rejection::NotAuthentic);
    let nothing = Cost::default;
    assert_eq!(counted.flood((0..4_000).map(forged)), (nothing(), not_authentic.clone()));
    // In its own name.
    let too_often = Reply::Rejected(Rejection::TooOften);
    let asked = |number| own.sign_challenge(dao, VERIFIER, nonce(number));
    let one = || Cost { reports: 1, back: 1, to_others: 0 };
    assert_eq!(counted.flood((0..3_000).map(asked)), (one(), too_often.clone()));
    // With keys that it makes up: one is answered, like its own after it was launched again; and is asked itself.
    let other = |number| made_up(number % 7, PROVER).sign_challenge(dao, VERIFIER, nonce(number));
    assert_eq!(counted.flood((0..2_000).map(other)), (Cost { back: 2, ..one() }, too_often));
    // The same again, which was answered.
    assert_eq!(counted.flood((0..1_000).map(|_| asked(0))), (nothing(), Reply::Done));
    // After a tick what was asked before is answered by what was reported before, and anything else by a new report.
    counted.ask(Request::Tick);
    assert_eq!(counted.flood((0..100).map(|_| asked(0))), (Cost { reports: 0, ..one() }, Reply::Done));
    counted.ask(Request::Tick);
    assert_eq!(counted.flood([asked(5_000)].into_iter()), (one(), Reply::Done));
    // Without a right signature nothing is.
    let altered = |number| Challenge { nonce: nonce(number + 1), ..asked(number) };
    counted.ask(Request::Tick);
    assert_eq!(counted.flood((0..10).map(altered)), (nothing(), not_authentic));
}

/// Puts ahead of everything that is on its way what a member's host makes up in all others' names.
fn flood(cluster: &mut Cluster, flooding: MemberId, first: u32) {
    let (dao, keys) = (cluster.manifest.genesis(), cluster.node(flooding).keys());
    let identities: Vec<Identity> = cluster.nodes.iter().map(|node| *node.keys().identity()).collect();
    for number in first..first + 10 {
        for (name, to) in identities.iter().flat_map(|name| identities.iter().map(move |to| (name, to))) {
            if name.member == to.member || name.member == flooding || to.member == flooding {
                continue;
            }
            let other = made_up(number, name.member);
            let evidence = Attestation {
                identity: *other.identity(),
                verifier: Some(*to),
                challenge: nonce(number),
                response: nonce(number),
                evidence: Evidence {
                    report: vec![0; 1184],
                    certificates: cluster.node(to.member).certificates(),
                },
            };
            for message in [
                PeerMessage::Challenge(other.sign_challenge(dao, to.member, nonce(number))),
                PeerMessage::Challenge(Challenge {
                    from: *name,
                    ..keys.sign_challenge(dao, to.member, nonce(number))
                }),
                PeerMessage::Evidence(Box::new(evidence)),
            ] {
                let bytes = codec::encode(&message);
                cluster.packets.push_front(Packet { from: flooding, to: to.member, bytes });
            }
        }
    }
}

#[test]
fn an_enclave_that_starts_again_is_admitted_by_all_while_another_floods_in_its_name() {
    let (flooding, victim) = (MemberId(4), PROVER);
    for is_new_machine in [false, true] {
        let mut cluster = Cluster::launch(manifest(4, 2, 2), 5);
        cluster.run(2);
        let before: Vec<usize> = cluster.nodes.iter().map(|node| node.notices.len()).collect();
        if is_new_machine {
            cluster.replace(victim, 9);
        } else {
            cluster.crash(victim, 1);
        }
        for round in 0..5 {
            for id in cluster.ids() {
                cluster.ask(id, Request::Tick);
            }
            flood(&mut cluster, flooding, round * 1_000);
            cluster.run(0);
        }
        assert_eq!(status(&mut cluster, victim).standing, Standing::Acting, "{is_new_machine}");
        for id in [1, 3].map(MemberId) {
            let since = before[usize::from(id.0) - 1];
            let admitted = &cluster.node(id).notices[since..];
            assert!(admitted.contains(&Notice::Admitted(victim)), "{id}, {is_new_machine}");
            let identity = *cluster.node(victim).keys().identity();
            assert_eq!(cluster.node(id).core.enclave(victim), Some(&identity));
        }
    }
}
