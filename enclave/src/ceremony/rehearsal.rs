//! Reshares among enclaves in memory: who says what to whom is up to the test.

use super::Scene;
use super::dealing::HeldKey;
use super::keygen::ValidatorKey;
use super::reshare::{KeyInForce, Reshare, ResharedKey, SavedReshare};
use crate::crypto::coins::Coins;
use crate::crypto::keys::IdentityKeys;
use crate::crypto::secret::SecretBytes;
use crate::crypto::sharing::{self, Polynomial};
use crate::dao::Dao;
use crate::effects::Effects;
use crate::log::change::Genesis;
use postern_attestation::TrustAnchor;
use postern_shared::agreement::Attempt;
use postern_shared::bls::{Commitments, ETHEREUM_DST, G2, Scalar};
use postern_shared::codec;
use postern_shared::dealing::DealtKey;
use postern_shared::ethereum::{ForkVersion, Network, Root};
use postern_shared::identity::{Identity, Roster};
use postern_shared::ids::{
    Address, CeremonyId, ChipId, Digest, ManifestHash, Measurement, MemberId, Nonce, PoolId,
};
use postern_shared::keygen::KeygenCertificate;
use postern_shared::manifest::{
    Agreement, Contracts, History, HostKey, MANIFEST_VERSION, Manifest, Member, Thresholds,
};
use postern_shared::message::{Attestation, Broadcast, Certificates, Evidence, PeerMessage};
use postern_shared::policy::{AllowedMeasurement, AttestationRules, Trust};
use postern_shared::record::LogId;
use postern_shared::reshare::{KeyCertificate, ReshareError, ReshareTerms};
use postern_shared::transcript::{Proceedings, Transcript};
use postern_shared::wire::{Artifact, Notice, Output, Rejection};
use std::collections::{BTreeMap, VecDeque};

pub(super) const POOL: PoolId = PoolId::new(31337, Address([0xaa; 20]), 1);

/// Members by their numbers.
pub(super) fn members(ids: impl IntoIterator<Item = u16>) -> Vec<MemberId> {
    ids.into_iter().map(MemberId).collect()
}

pub(super) fn attempt(number: u32) -> Attempt {
    Attempt { generation: 1, number }
}

/// A key and everybody's shares of it, by member.
pub(super) enum Held {
    /// As keygen makes them.
    First(BTreeMap<MemberId, ValidatorKey>),
    /// Dealt again; observers have no share.
    Again(BTreeMap<MemberId, ResharedKey>),
}

/// What a member signs with.
type Shares = BTreeMap<MemberId, Scalar>;

impl Held {
    /// A key that these have together.
    pub(super) fn new(threshold: usize, operators: Vec<MemberId>) -> Self {
        let coins = Coins::new(seed([77; 32]));
        let secret = coins.scalar("test", b"key");
        let polynomial = Polynomial::sample(secret, threshold, coins.stream("test", b"polynomial")).unwrap();
        let commitments = polynomial.commitments();
        let key = |member: MemberId| HeldKey {
            public: DealtKey {
                certificate: KeygenCertificate {
                    ceremony: CeremonyId([1; 32]),
                    operators: operators.clone(),
                    deals: Digest([2; 32]),
                    commitments: commitments.clone(),
                },
                polynomial: Commitments::decode(&commitments, threshold).unwrap(),
            },
            share: polynomial.evaluate(member).ok().filter(|_| operators.contains(&member)),
        };
        Self::First((1..=40).map(MemberId).map(|member| (member, key(member))).collect())
    }

    /// As a member has it in force.
    pub(super) fn of(&self, member: MemberId) -> KeyInForce<'_> {
        match self {
            Self::First(keys) => KeyInForce::from(&keys[&member]),
            Self::Again(keys) => KeyInForce::from(&keys[&member]),
        }
    }

    pub(super) fn certificate(&self) -> KeyCertificate {
        let any = match self {
            Self::First(keys) => keys.keys().next(),
            Self::Again(keys) => keys.keys().next(),
        };
        self.of(*any.unwrap()).certificate().clone()
    }

    /// All shares.
    pub(super) fn shares(&self) -> Shares {
        let shares: Vec<(MemberId, Option<Scalar>)> = match self {
            Self::First(keys) => keys.iter().map(|(member, key)| (*member, key.share.clone())).collect(),
            Self::Again(keys) => keys.iter().map(|(member, key)| (*member, key.share.clone())).collect(),
        };
        shares.into_iter().filter_map(|(member, share)| Some((member, share?))).collect()
    }
}

/// Whether these shares together sign under the key.
pub(super) fn sign(certificate: &KeyCertificate, shares: &[(MemberId, Scalar)]) -> bool {
    let partials: Vec<(MemberId, G2)> =
        shares.iter().map(|(member, share)| (*member, G2::hash(b"exit", ETHEREUM_DST) * share)).collect();
    let whole = sharing::combine(&partials, partials.len());
    whole.is_ok_and(|whole| certificate.pubkey().unwrap().verify(b"exit", &whole.encode()).is_ok())
}

fn seed(bytes: [u8; 32]) -> zeroize::Zeroizing<[u8; 32]> {
    zeroize::Zeroizing::new(bytes)
}

fn coins(member: u16) -> Coins {
    Coins::new(seed([member as u8; 32]))
}

fn keys(member: u16) -> IdentityKeys {
    IdentityKeys::derive(&coins(member), MemberId(member), 0)
}

/// A manifest of so many members, of whom these hold shares of keys from now on.
pub(super) fn manifest(total: u16, operators: &[MemberId], threshold: u16) -> Manifest {
    let member = |id: u16| Member {
        id: MemberId(id),
        name: format!("member {id}"),
        wallet: Address([id as u8; 20]),
        governance: Address([id as u8 + 100; 20]),
        host_key: HostKey([id as u8; 32]),
        machine: 0,
        enclave: Some(keys(id).identity().keys()),
        chip_ids: vec![ChipId([id as u8; 64])],
        operator: operators.contains(&MemberId(id)),
        guardian: true,
    };
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: "test".into(),
        epoch: 1,
        leader: MemberId(1),
        history: Some(History { genesis: ManifestHash([3; 32]), predecessor: ManifestHash([3; 32]) }),
        network: Network {
            chain_id: POOL.chain,
            genesis_fork_version: ForkVersion([0x10, 0, 0, 0x38]),
            capella_fork_version: ForkVersion([0x40, 0, 0, 0x38]),
            genesis_validators_root: Root([0x77; 32]),
        },
        contracts: Contracts {
            pool_manager: POOL.contract,
            pool_code: Digest([0xc0; 32]),
            start_block: 1,
            deposit: Address([0xdd; 20]),
        },
        thresholds: Thresholds { operator: threshold, guardian: 2, proof: total },
        agreement: Agreement { quorum: total / 2 + 1, automatic_return: false, cut: None },
        attestation: AttestationRules {
            measurements: vec![AllowedMeasurement::new("simulated enclave", Measurement([0x5a; 48]))],
            ..AttestationRules::strict(Trust::Simulation { root: Digest([4; 32]) })
        },
        members: (1..=total).map(member).collect(),
    };
    manifest.validate().expect("a manifest");
    manifest
}

/// The identities of some.
pub(super) fn roster(members: &[MemberId]) -> Roster {
    Roster::new(members.iter().map(|member| *keys(member.0).identity()).collect())
}

/// What a test does with a statement on its way to one member: hand it on, or others in its place, or nothing.
pub(super) type Way<'a> = dyn FnMut(&Broadcast, MemberId) -> Vec<Broadcast> + 'a;

/// A run among enclaves.
pub(super) struct Stage<'a> {
    pub(super) manifest: Manifest,
    pub(super) roster: Roster,
    pub(super) terms: ReshareTerms,
    held: &'a Held,
    daos: BTreeMap<MemberId, Dao>,
    pub(super) runs: BTreeMap<MemberId, Reshare>,
    queue: VecDeque<(MemberId, Broadcast)>,
    /// All that enclaves said themselves, in order.
    pub(super) said: Vec<Broadcast>,
    pub(super) notices: Vec<(MemberId, Notice)>,
    pub(super) published: Vec<(MemberId, Proceedings)>,
    /// What was refused, of whom, to whom.
    pub(super) refused: Vec<(MemberId, MemberId, Rejection)>,
    /// Whether each machine is saved and restored after everything that it hears.
    pub(super) restarting: bool,
}

/// Terms that follow from a manifest, with their roster.
pub(super) fn terms(
    manifest: &Manifest,
    held: &Held,
    dealers: &[MemberId],
    operators: &[MemberId],
    attempt: Attempt,
) -> Result<(ReshareTerms, Roster), ReshareError> {
    let participants: Vec<MemberId> = dealers.iter().chain(operators).copied().collect();
    let roster = roster(&participants);
    let (dealers, operators) = (dealers.to_vec(), operators.to_vec());
    let terms = ReshareTerms::new(manifest, &roster, POOL, held.certificate(), dealers, operators, attempt)?;
    Ok((terms, roster))
}

impl<'a> Stage<'a> {
    /// All members of a DAO, ready to reshare to its operators; each is handed the key as it has it.
    pub(super) fn new(
        total: u16,
        held: &'a Held,
        dealers: &[MemberId],
        operators: &[MemberId],
        threshold: u16,
        number: u32,
    ) -> Self {
        let manifest = manifest(total, operators, threshold);
        let (terms, roster) = terms(&manifest, held, dealers, operators, attempt(number)).expect("terms");
        let dao = |id: u16| {
            let genesis = Genesis {
                manifest: manifest.to_canonical(),
                member: MemberId(id),
                machine: 0,
                seed: SecretBytes::of(&[id as u8; 32]),
                nonce: Nonce([0; 32]),
                log: LogId([0; 32]),
                pool_managers: Vec::new(),
                voters: Vec::new(),
                identities: Vec::new(),
            };
            (MemberId(id), Dao::begin(&genesis, TrustAnchor::custom("test", Vec::new())).expect("a DAO"))
        };
        let daos = (1..=total).map(dao).collect();
        Self {
            manifest,
            roster,
            terms,
            held,
            daos,
            runs: BTreeMap::new(),
            queue: VecDeque::new(),
            said: Vec::new(),
            notices: Vec::new(),
            published: Vec::new(),
            refused: Vec::new(),
            restarting: false,
        }
    }

    /// The keys and coins of a member's enclave, in an attacker's hands.
    pub(super) fn broken(member: MemberId) -> (IdentityKeys, Coins) {
        (keys(member.0), coins(member.0))
    }

    /// Has an enclave do something, and takes what comes of it.
    pub(super) fn with<T>(
        &mut self,
        member: MemberId,
        work: impl FnOnce(Option<&mut Reshare>, &mut Scene<'_>) -> T,
    ) -> T {
        let mut effects = Effects::default();
        let done =
            work(self.runs.get_mut(&member), &mut Scene { dao: &self.daos[&member], effects: &mut effects });
        let (gated, free) = effects.into_parts();
        for output in gated.into_iter().chain(free) {
            match output {
                Output::Send { message, .. } => {
                    let Ok(PeerMessage::Broadcast(said)) = codec::decode(&message) else { continue };
                    self.said.push(said.clone());
                    let others = self.daos.keys().filter(|other| **other != member);
                    self.queue.extend(others.map(|other| (*other, said.clone())));
                }
                Output::Publish(Artifact::Transcript(transcript)) => {
                    self.published.push((member, transcript.record));
                }
                Output::Notice(notice) => self.notices.push((member, notice)),
                _ => {}
            }
        }
        done
    }

    /// Begins the run at a member.
    pub(super) fn start(&mut self, member: MemberId) -> Result<(), ReshareError> {
        let (terms, roster, key) = (self.terms.clone(), self.roster.clone(), self.held.of(member));
        let run = self.with(member, |_, scene| Reshare::start(terms, roster, &key, scene))?;
        self.runs.insert(member, run);
        Ok(())
    }

    /// Begins the run everywhere, and delivers everything as it is.
    pub(super) fn run(&mut self) {
        self.run_through(&mut |said, _| vec![said.clone()]);
    }

    /// The same, through something in between.
    pub(super) fn run_through(&mut self, way: &mut Way<'_>) {
        for member in self.daos.keys().copied().collect::<Vec<_>>() {
            self.start(member).expect("the key in force");
        }
        self.deliver(way);
    }

    /// Delivers everything that is on its way.
    pub(super) fn deliver(&mut self, way: &mut Way<'_>) {
        while let Some((to, said)) = self.queue.pop_front() {
            for said in way(&said, to) {
                self.hand(to, said);
            }
        }
    }

    /// Hands an enclave what is authentic.
    pub(super) fn hand(&mut self, to: MemberId, said: Broadcast) {
        let from = said.slot.from;
        let authentic = said.slot.ceremony == self.terms.ceremony()
            && self.roster.get(from).is_some_and(|speaker| said.signed_digest().verify(speaker));
        let taken = if authentic {
            self.with(to, |run, scene| run.map_or(Ok(()), |run| run.on_statement(said, scene)))
        } else {
            Err(Rejection::NotAuthentic)
        };
        if let Err(rejection) = taken {
            self.refused.push((from, to, rejection));
        }
        if self.restarting {
            self.restart(to);
        }
    }

    /// Saves a machine, and makes it again of what was saved.
    pub(super) fn restart(&mut self, member: MemberId) {
        let Some(run) = self.runs.remove(&member) else { return };
        let saved = codec::encode_secret(&run.save());
        let statements: Vec<Broadcast> = run.statements().cloned().collect();
        drop(run);
        let saved: SavedReshare = codec::decode(&saved).expect("what was saved");
        let key = self.held.of(member);
        let run = self.with(member, |_, scene| Reshare::restore(saved, statements, &key, scene));
        self.runs.insert(member, run.expect("the same run"));
    }

    /// Has everybody use what was made, as if the members had agreed on it. Gives the key as all have it then.
    pub(super) fn count(&mut self) -> Held {
        for member in self.daos.keys().copied().collect::<Vec<_>>() {
            self.with(member, |run, scene| run.into_iter().for_each(|run| run.count(scene)));
        }
        let key = |(member, run): (&MemberId, &Reshare)| {
            let key = run.key()?;
            let share = key.share.clone();
            Some((*member, HeldKey { public: key.public.clone(), share }))
        };
        Held::Again(self.runs.iter().filter_map(key).collect())
    }

    /// A record as it would be published, with the identities of its roster. The evidence is not what these tests are about.
    pub(super) fn transcript(&self, record: Proceedings) -> Transcript {
        let attested = |identity: &Identity| Attestation {
            identity: *identity,
            verifier: None,
            challenge: Nonce([0; 32]),
            response: Nonce([0; 32]),
            evidence: Evidence {
                report: Vec::new(),
                certificates: Certificates { ark: Vec::new(), ask: Vec::new(), leaf: Vec::new(), crl: None },
            },
        };
        let roster = self.roster.identities().iter().map(attested).collect();
        Transcript { manifest: self.manifest.to_canonical(), roster, record }
    }

    /// Who was convicted, as those see it who are not the culprits.
    pub(super) fn convicted(&self, culprits: &[MemberId]) -> Vec<MemberId> {
        let named = self.notices.iter().filter_map(|(by, notice)| match notice {
            Notice::Fault { culprit, .. } if !culprits.contains(by) => Some(*culprit),
            _ => None,
        });
        let mut named: Vec<MemberId> = named.collect();
        named.sort();
        named.dedup();
        named
    }
}
