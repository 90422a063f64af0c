//! What a joint dealing costs, keygen's and a reshare's, beside commonware's (`feldman_desmedt`, same curve, same backend, same
//! thresholds), timed in the same run.
//!
//! `cargo bench -p postern-tests --features peers --bench dealing` prints medians. Samples of the two sides alternate.
//!
//! The protocols differ in what they do when. *Dealer* is to draw a polynomial, commit to it, and make everybody's share:
//! ours are encrypted and proved in one public statement, commonware's are handed to a channel that encrypts them. *Check* is to
//! judge one deal and the own share of it: ours also decrypts it and, in keygen, checks a proof of possession (a product of
//! pairings, against rogue keys; theirs has none). *Finalize* is to add up good deals to the own share and the public
//! polynomial; theirs also verifies the acknowledgements by which its dealers show that they have dealt, which ours has no
//! need of: in place of them, members confirm with their new shares, which costs each a product of pairings for each other.
//! Reshares: in ours exactly t holders deal, in theirs as many are selected.

use commonware_cryptography::bls12381::dkg::feldman_desmedt::{
    Dealer, DealerPrivMsg, DealerPubMsg, Info, Logs, Output, Player, Reveal,
};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::sharing::Mode;
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::{Signer as _, ed25519};
use commonware_math::algebra::Random as _;
use commonware_parallel::Sequential;
use commonware_utils::ordered::Set;
use commonware_utils::{N3f1, TryCollect as _};
use postern_enclave::ceremony::dealing::{Deals, deal};
use postern_enclave::coins::{CoinStream, Coins};
use postern_enclave::keys::IdentityKeys;
use postern_enclave::sharing::Polynomial;
use postern_shared::agreement::Attempt;
use postern_shared::bls::{Commitments, Scalar};
use postern_shared::dealing::{OpenDeal, share_is_good};
use postern_shared::ethereum::{ForkVersion, Network, Root};
use postern_shared::events::{DepositRequest, EventSource};
use postern_shared::identity::Roster;
use postern_shared::ids::{Address, CeremonyId, Digest, ManifestHash, MemberId, PoolId};
use postern_shared::keygen::{KeygenCertificate, KeygenTerms};
use postern_shared::message::{Broadcast, Slot, Step};
use postern_shared::reshare::{KeyCertificate, ReshareTerms};
use postern_shared::sealed_shares::Pair;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// (threshold, members): the quorums of `N3f1`.
const SIZES: [(u16, u16); 6] = [(3, 4), (5, 7), (9, 13), (14, 20), (34, 50), (67, 100)];

const POOL: PoolId = PoolId::new(1, Address([0xaa; 20]), 1);

fn median(mut samples: Vec<Duration>) -> f64 {
    samples.sort();
    samples[samples.len() / 2].as_secs_f64() * 1e6
}

fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let done = black_box(work());
    (started.elapsed(), done)
}

fn coins(member: u16) -> Coins {
    Coins::new(Zeroizing::new([member as u8; 32]))
}

fn rng(label: &[u8]) -> CoinStream {
    coins(200).stream("bench", label)
}

/// One of ours, as far as all deals.
struct Ours<T> {
    terms: T,
    roster: Roster,
    previous: Option<Commitments>,
    /// The key that is dealt again.
    key: Option<Polynomial>,
    bodies: Vec<Vec<u8>>,
}

impl<T: Deals> Ours<T> {
    fn new(terms: T, roster: Roster, key: Option<Polynomial>) -> Self {
        let previous = terms.dealing().decode_previous().expect("a polynomial");
        let mut ours = Self { terms, roster, previous, key, bodies: Vec::new() };
        ours.bodies = ours.terms.dealing().dealers.iter().map(|dealer| ours.deal(*dealer)).collect();
        ours
    }

    fn deal(&self, dealer: MemberId) -> Vec<u8> {
        let constant = match &self.key {
            Some(key) => key.evaluate(dealer).expect("a share"),
            None => coins(dealer.0).scalar("bench", b"secret"),
        };
        deal(&self.terms, &self.roster, dealer, constant, &coins(dealer.0)).expect("a deal")
    }

    /// Member 1 judges a deal.
    fn check(&self, keys: &IdentityKeys, dealer: MemberId, body: &[u8]) -> (OpenDeal, Scalar) {
        let open = self.terms.check_deal_after(self.previous.as_ref(), dealer, body).expect("a good deal");
        let slot = Slot::of(self.terms.ceremony(), dealer, Step::Deal);
        let dealer = self.roster.get(dealer).expect("a dealer");
        let pair = Pair { slot, dealer, recipient: keys.identity() };
        let plain = keys.open_share(&pair, &open.shares, 0).expect("a share");
        let share = share_is_good(&plain, MemberId(1), &open.commitments).expect("a good share");
        (open, share)
    }

    fn finalize(&self, deals: &[(Digest, &Commitments)], shares: &[Scalar]) -> Scalar {
        black_box(self.terms.add_up(deals).expect("a key"));
        let weights = self.terms.dealing().weights().expect("dealers");
        shares.iter().zip(&weights).fold(Scalar::zero(), |sum, (share, weight)| sum + share.clone() * weight)
    }
}

fn members(count: u16) -> Vec<MemberId> {
    (1..=count).map(MemberId).collect()
}

fn identities(count: u16) -> Roster {
    let identity = |member: MemberId| *IdentityKeys::derive(&coins(member.0), member, 0).identity();
    Roster::new(members(count).into_iter().map(identity).collect())
}

fn network() -> Network {
    Network {
        chain_id: POOL.chain,
        genesis_fork_version: ForkVersion([0; 4]),
        capella_fork_version: ForkVersion([0; 4]),
        genesis_validators_root: Root([0; 32]),
    }
}

fn keygen(threshold: u16, count: u16) -> Ours<KeygenTerms> {
    let roster = identities(count);
    let terms = KeygenTerms {
        manifest: ManifestHash([0; 32]),
        roster: roster.digest(),
        network: network(),
        request: DepositRequest { pool: POOL, source: EventSource { block: Digest([0; 32]), log_index: 0 } },
        pool_code: Digest([0; 32]),
        operators: members(count),
        threshold,
        attempt: Attempt { generation: 0, number: 0 },
    };
    Ours::new(terms, roster, None)
}

fn reshare(threshold: u16, count: u16) -> Ours<ReshareTerms> {
    let (roster, operators) = (identities(count), members(count));
    let secret = coins(0).scalar("bench", b"key");
    let key = Polynomial::sample(secret, threshold.into(), rng(b"key")).expect("a threshold");
    let terms = ReshareTerms {
        manifest: ManifestHash([0; 32]),
        roster: roster.digest(),
        network: network(),
        pool: POOL,
        before: KeyCertificate::Keygen(KeygenCertificate {
            ceremony: CeremonyId([0; 32]),
            operators: operators.clone(),
            deals: Digest([0; 32]),
            commitments: key.commitments(),
        }),
        dealers: members(threshold),
        operators,
        threshold,
        confirmations: count,
        attempt: Attempt { generation: 0, number: 0 },
    };
    Ours::new(terms, roster, Some(key))
}

type Key = ed25519::PublicKey;
type TheirOutput = Output<MinPk, Key>;

/// One of theirs.
struct Theirs {
    info: Info<MinPk, Key>,
    members: Vec<ed25519::PrivateKey>,
    /// What is dealt again, by member.
    shares: Option<BTreeMap<Key, Share>>,
}

type Dealt = (Dealer<MinPk, ed25519::PrivateKey>, DealerPubMsg<MinPk>, Vec<(Key, DealerPrivMsg)>);

impl Theirs {
    fn new(members: Vec<ed25519::PrivateKey>, previous: Option<(TheirOutput, BTreeMap<Key, Share>)>) -> Self {
        let all: Set<Key> =
            members.iter().map(|member| member.public_key()).try_collect().expect("each once");
        let (round, output, shares) = match previous {
            Some((output, shares)) => (1, Some(output), Some(shares)),
            None => (0, None, None),
        };
        let info =
            Info::new::<N3f1>(b"bench", round, output, Mode::NonZeroCounter, Reveal::V1, all.clone(), all);
        Self { info: info.expect("a round"), members, shares }
    }

    fn deal(&self, dealer: &ed25519::PrivateKey) -> Dealt {
        let share = self.shares.as_ref().map(|shares| shares[&dealer.public_key()].clone());
        let mut rng = rng(b"deal");
        Dealer::start::<N3f1>(&mut rng, self.info.clone(), dealer.clone(), share).expect("a deal")
    }

    fn player(&self, member: &ed25519::PrivateKey) -> Player<MinPk, ed25519::PrivateKey> {
        Player::new(self.info.clone(), member.clone()).expect("a player")
    }

    /// Everything up to the last step, for these players.
    fn run(
        &self,
        players: &[ed25519::PrivateKey],
    ) -> (Vec<Player<MinPk, ed25519::PrivateKey>>, Logs<MinPk, Key, N3f1>) {
        let mut logs = Logs::new(self.info.clone());
        let mut all: BTreeMap<Key, _> =
            self.members.iter().map(|member| (member.public_key(), self.player(member))).collect();
        for member in &self.members {
            let (mut dealer, public, shares) = self.deal(member);
            for (to, share) in shares {
                let player = all.get_mut(&to).expect("a player");
                let taken = player.dealer_message::<N3f1>(member.public_key(), public.clone(), share);
                let acknowledged = taken.expect("a good deal").expect("new");
                dealer.receive_player_ack(to, acknowledged).expect("good");
            }
            let (by, log) = dealer.finalize::<N3f1>().check(&self.info).expect("signed");
            logs.record(by, log);
        }
        let players = players.iter().filter_map(|player| all.remove(&player.public_key())).collect();
        (players, logs)
    }
}

/// Medians of dealer, check and finalize, ours and theirs.
fn compare<T: Deals>(ours: &Ours<T>, theirs: &Theirs, samples: usize) -> [(f64, f64); 3] {
    let keys = IdentityKeys::derive(&coins(1), MemberId(1), 0);
    let dealers = ours.terms.dealing().dealers.to_vec();
    let checked: Vec<(OpenDeal, Scalar)> =
        dealers.iter().zip(&ours.bodies).map(|(dealer, body)| ours.check(&keys, *dealer, body)).collect();
    let deals: Vec<(Digest, &Commitments)> = ours
        .bodies
        .iter()
        .zip(&checked)
        .map(|(body, (open, _))| (Broadcast::digest_of(body), &open.commitments))
        .collect();
    let shares: Vec<Scalar> = checked.iter().map(|(_, share)| share.clone()).collect();

    let (first, member) = (&theirs.members[0], &theirs.members[1]);
    let (_, public, private) = theirs.deal(first);
    let (_, private) = private.into_iter().find(|(to, _)| *to == member.public_key()).expect("a share");
    let (_, logs) = theirs.run(&[]);

    let mut timed: [(Vec<Duration>, Vec<Duration>); 3] = Default::default();
    for _ in 0..samples {
        timed[0].0.push(time(|| ours.deal(dealers[0])).0);
        timed[0].1.push(time(|| theirs.deal(first)).0);
        timed[1].0.push(time(|| ours.check(&keys, dealers[0], &ours.bodies[0])).0);
        let mut player = theirs.player(member);
        let (public, private) = (public.clone(), private.clone());
        timed[1].1.push(time(|| player.dealer_message::<N3f1>(first.public_key(), public, private)).0);
    }
    // A player of theirs ends with its finalize: what it has heard is made again each time.
    for _ in 0..samples.min(5) {
        timed[2].0.push(time(|| ours.finalize(&deals, &shares)).0);
        let mut player = theirs.player(member);
        for dealer in &theirs.members {
            let (_, public, shares) = theirs.deal(dealer);
            let (_, share) = shares.into_iter().find(|(to, _)| *to == member.public_key()).expect("a share");
            player.dealer_message::<N3f1>(dealer.public_key(), public, share).expect("a good deal");
        }
        let (logs, mut rng) = (logs.clone(), rng(b"finalize"));
        timed[2].1.push(time(|| player.finalize::<N3f1>(&mut rng, logs, &Sequential).expect("a share")).0);
    }
    timed.map(|(ours, theirs)| (median(ours), median(theirs)))
}

fn print(what: &str, threshold: u16, count: u16, medians: [(f64, f64); 3]) {
    print!("  {what:8} t = {threshold:2}, n = {count:3}");
    for (ours, theirs) in medians {
        print!(" {ours:11.0} {theirs:9.0} {:6.2}", theirs / ours);
    }
    println!();
}

fn main() {
    println!(
        "                               dealer µs    theirs  times    check µs    theirs  times finalize µs   theirs  times"
    );
    for (threshold, count) in SIZES {
        let samples = if count > 20 { 5 } else { 21 };
        let members: Vec<ed25519::PrivateKey> =
            (0..count).map(|id| ed25519::PrivateKey::random(rng(&id.to_le_bytes()))).collect();
        let first = Theirs::new(members.clone(), None);
        print("keygen", threshold, count, compare(&keygen(threshold, count), &first, samples));
        let (players, logs) = first.run(&members);
        let mut output = None;
        let mut shares = BTreeMap::new();
        for (member, player) in members.iter().zip(players) {
            let mut rng = rng(b"finalize");
            let (made, share) =
                player.finalize::<N3f1>(&mut rng, logs.clone(), &Sequential).expect("a share");
            output = Some(made);
            shares.insert(member.public_key(), share);
        }
        let again = Theirs::new(members, output.map(|output| (output, shares)));
        print("reshare", threshold, count, compare(&reshare(threshold, count), &again, samples));
    }
}
