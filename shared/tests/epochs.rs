//! What an epoch of the manifest may change, who must sign it, and every way in which one is refused.

use k256::ecdsa::SigningKey;
use postern_shared::bls::PublicKey;
use postern_shared::codec::DecodeError;
use postern_shared::ecdsa::{EthereumSignature, SignatureFault, recover};
use postern_shared::epoch::{
    ChainError, Change, EpochError, EpochMessage, MAX_SIGNED_EPOCH, PoolManager, SignedEpoch,
    WalletSignature, changes, check_returns, follow, pool_managers, quorum,
};
use postern_shared::ethereum::{ForkVersion, Network, Root};
use postern_shared::identity::{self, AgreementKey, EnclaveKeys};
use postern_shared::ids::{Address, ChipId, Digest, ManifestHash, Measurement, MemberId, Nonce};
use postern_shared::manifest::{
    Agreement, Contracts, Cut, History, HostKey, MANIFEST_VERSION, Manifest, ManifestError, Member, Resumed,
    Thresholds,
};
use postern_shared::policy::{AllowedMeasurement, AttestationRules, Floor, Revocation, Rule, Trust};
use postern_shared::record::{LogHead, LogId};
use postern_shared::snp::{Cpuid, Product, TcbVersion};
use postern_shared::witness::{Ballot, Place};
use proptest::prelude::*;
use sha3::{Digest as _, Keccak256};

fn key(id: u16) -> SigningKey {
    let mut scalar = [0; 32];
    scalar[30..].copy_from_slice(&id.to_be_bytes());
    SigningKey::from_slice(&scalar).unwrap()
}

fn account(id: u16) -> Address {
    let point = key(id).verifying_key().to_sec1_point(false);
    let hash: [u8; 32] = Keccak256::digest(&point.as_bytes()[1..]).into();
    Address(hash[12..].try_into().unwrap())
}

/// Number of the key that pays for a member.
const fn paying(id: u16) -> u16 {
    1000 + id
}

fn enclave(id: u16, machine: u8) -> EnclaveKeys {
    let byte = |mark: u8, position: usize| if position.is_multiple_of(2) { id as u8 | mark } else { machine };
    EnclaveKeys {
        signing: identity::SigningKey(std::array::from_fn(|position| byte(0, position))),
        agreement: AgreementKey(std::array::from_fn(|position| byte(0x40, position))),
        dealing: PublicKey(std::array::from_fn(|position| byte(0x80, position))),
        signer: Address(std::array::from_fn(|position| byte(0xc0, position))),
    }
}

/// As before its enclave is named.
fn member(id: u16) -> Member {
    Member {
        id: MemberId(id),
        name: format!("member {id}"),
        wallet: account(paying(id)),
        governance: account(id),
        host_key: HostKey([id as u8; 32]),
        machine: 0,
        enclave: None,
        chip_ids: vec![ChipId([id as u8; 64])],
        operator: true,
        guardian: true,
    }
}

fn genesis() -> Manifest {
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: "DAO".into(),
        epoch: 0,
        leader: MemberId(1),
        history: None,
        network: Network {
            chain_id: 1,
            genesis_fork_version: ForkVersion([0; 4]),
            capella_fork_version: ForkVersion([3, 0, 0, 0]),
            genesis_validators_root: Root([1; 32]),
        },
        contracts: Contracts {
            pool_manager: Address([2; 20]),
            pool_code: Digest([5; 32]),
            start_block: 1_000,
            deposit: Address([3; 20]),
        },
        thresholds: Thresholds { operator: 3, guardian: 2, proof: 3 },
        agreement: Agreement { quorum: 3, automatic_return: false, cut: None },
        attestation: AttestationRules {
            measurements: vec![AllowedMeasurement::new("first", Measurement([4; 48]))],
            ..AttestationRules::strict(Trust::Amd)
        },
        members: (1..=5).map(member).collect(),
    };
    manifest.validate().unwrap();
    manifest
}

/// Epoch 1, which names the enclaves and changes nothing else.
fn founded() -> Manifest {
    next(&genesis(), |_| ())
}

fn joining(id: u16) -> Member {
    Member { enclave: Some(enclave(id, 0)), ..member(id) }
}

fn add(manifest: &mut Manifest, member: Member) {
    manifest.members.push(member);
    manifest.agreement.quorum = 4;
    manifest.thresholds.proof = 4;
}

fn replace(member: &mut Member) {
    member.machine += 1;
    member.enclave = Some(enclave(member.id.0, member.machine as u8));
}

fn resumed(id: u16) -> Resumed {
    let ballot = Ballot { machine: 0, era: 0, incarnation: 3, nonce: Nonce([0x20 | id as u8; 32]) };
    let head = LogHead { number: 100 + u64::from(id), digest: Digest([0x30 | id as u8; 32]) };
    Resumed { member: MemberId(id), ballot, place: Place { log: LogId([0x40 | id as u8; 32]), head } }
}

fn cut(manifest: &mut Manifest, members: &[u16]) {
    let members = members.iter().copied().map(resumed).collect();
    manifest.agreement.cut = Some(Cut { epoch: manifest.epoch, members });
}

/// The epoch after, with something edited. Epoch 1 names all enclaves.
fn next(old: &Manifest, edit: impl FnOnce(&mut Manifest)) -> Manifest {
    let history = Some(History { genesis: old.genesis(), predecessor: old.hash() });
    let mut new = Manifest { epoch: old.epoch + 1, history, ..old.clone() };
    for member in &mut new.members {
        member.enclave.get_or_insert(enclave(member.id.0, 0));
    }
    edit(&mut new);
    new
}

fn upgrade(manifest: &mut Manifest) {
    let number = manifest.attestation.measurements.len() as u8;
    let digest = Measurement([0x40 + number; 48]);
    manifest.attestation.measurements.push(AllowedMeasurement::new(format!("image {number}"), digest));
}

fn retire(last: u64) -> impl FnOnce(&mut Manifest) {
    move |manifest| manifest.attestation.measurements[0].until_epoch = Some(last)
}

fn sign_as(id: u16, by: u16, digest: &[u8; 32]) -> WalletSignature {
    let (signature, recovery) = key(by).sign_prehash_recoverable(digest);
    let mut bytes = [0; 65];
    bytes[..64].copy_from_slice(&signature.to_bytes());
    bytes[64] = 27 + recovery.to_byte();
    WalletSignature { member: MemberId(id), signature: EthereumSignature(bytes) }
}

fn signed(old: &Manifest, new: &Manifest, signers: &[u16]) -> SignedEpoch {
    let mut epoch = SignedEpoch::unsigned(new);
    let digest = epoch.message(old).unwrap().digest();
    epoch.signatures = signers.iter().map(|&id| sign_as(id, id, &digest)).collect();
    epoch
}

fn lines(old: &Manifest, new: &Manifest) -> Vec<String> {
    changes(old, new).unwrap().iter().map(Change::to_string).collect()
}

#[test]
fn histories_belong_to_every_epoch_but_the_first() {
    let old = genesis();
    let new = next(&old, upgrade);
    assert_eq!((new.validate(), new.genesis(), old.genesis()), (Ok(()), old.hash(), old.hash()));
    let newer = next(&new, upgrade);
    assert_eq!((newer.validate(), newer.genesis()), (Ok(()), old.hash()));
    let refused = |manifest: Manifest| match manifest.validate() {
        Err(ManifestError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Manifest { epoch: 0, ..new.clone() }), "history");
    assert_eq!(refused(Manifest { history: None, ..new.clone() }), "history");
    assert_eq!(refused(Manifest { epoch: 2, ..new }), "history.predecessor");
    assert_eq!(refused(Manifest { epoch: 1, ..newer }), "history.predecessor");
}

/// Golden lines: they go into wallets' signatures. Fingerprints are computed outside of this code.
#[test]
fn every_change_has_a_line() {
    let old = founded();
    let silicon = Cpuid { family: 0x19, model: 0x11, stepping: 1 };
    let tcb = TcbVersion { fmc: None, bootloader: 9, tee: 0, snp: 21, microcode: 72 };
    let new = next(&old, |new| {
        new.name = "DAO\u{202e}\"".into();
        new.contracts.pool_manager = Address([0xaa; 20]);
        (new.contracts.pool_code, new.contracts.start_block) = (Digest([0xab; 32]), 22_000_000);
        new.leader = MemberId(2);
        new.thresholds = Thresholds { operator: 4, guardian: 3, proof: 4 };
        new.agreement.quorum = 4;
        new.agreement.automatic_return = true;
        cut(new, &[5, 2, 3, 4]);
        retire(2)(new);
        upgrade(new);
        let rules = &mut new.attestation;
        rules.products = vec![Product::Genoa];
        rules.guest_svn = 3;
        rules.revocation = Revocation::Required;
        rules.not_before = 1_700_000_000;
        rules.guest_policy.smt = Rule::Forbidden;
        rules.guest_policy.abi = (1, 55);
        rules.platform.tsme = Rule::Required;
        rules.floors = vec![Floor { tcb: Some(tcb), ..Floor::of(silicon) }];
        rules.relax.floors = vec![Floor { mitigations: Some(5), platform: Some(0), ..Floor::of(silicon) }];
        rules.relax.masked_chip_id = true;
        rules.relax.vlek_providers = vec!["cloud".into()];
        let one = &mut new.members[0];
        replace(one);
        one.chip_ids = vec![ChipId([0x11; 64]), ChipId([0x12; 64])];
        (one.name, one.host_key) = ("one".into(), HostKey([0x14; 32]));
        (one.wallet, one.governance) = (Address([0x13; 20]), Address([0x15; 20]));
        new.members[1].operator = false;
        let mut six = joining(6);
        (six.wallet, six.governance) = (Address([6; 20]), Address([0x16; 20]));
        new.members.push(six);
    });
    let expected = [
        "DAO's name: \"DAO\\u{202e}\\\"\"",
        "pool manager: 0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, pools of code abababababababababababab.., \
         from block 22000000",
        "leader: member 2",
        "operator threshold: 3 -> 4",
        "guardian threshold: 2 -> 3",
        "proof threshold: 3 -> 4",
        "agreement quorum: 3 -> 4",
        "agreement.automatic_return: on (LAXER)",
        "member 5: acts again from record 105 (353535353535353535353535..) of log 454545454545454545454545.., \
         as incarnation 3, 252525252525252525252525..",
        "member 2: acts again from record 102 (323232323232323232323232..) of log 424242424242424242424242.., \
         as incarnation 3, 222222222222222222222222..",
        "member 3: acts again from record 103 (333333333333333333333333..) of log 434343434343434343434343.., \
         as incarnation 3, 232323232323232323232323..",
        "member 4: acts again from record 104 (343434343434343434343434..) of log 444444444444444444444444.., \
         as incarnation 3, 242424242424242424242424..",
        "measurement \"first\": 040404040404040404040404.., until epoch 2",
        "new measurement \"image 1\": 414141414141414141414141.., from epoch 0",
        "attestation.products: Genoa",
        "attestation.guest_svn: 3",
        "attestation.revocation: required",
        "attestation.not_before: 1700000000",
        "attestation.guest_policy.smt: forbidden",
        "attestation.guest_policy.abi: 1.55",
        "attestation.platform.tsme: required",
        "attestation.floors 19/11/1: 9/0/21/72",
        "attestation.relax.masked_chip_id: on (LAXER)",
        "attestation.relax.vlek_providers: \"cloud\"",
        "attestation.relax.floors 19/11/1: mitigations 0x5, platform 0x0 (LAXER)",
        "member 1: machine lost, replaced by number 1",
        "member 1: enclave 0x13ac1ff600cce68cc59456d3f82c218f5d67c5cb3c1c8a7427f84b2d2342bcca",
        "member 1: chips 111111111111111111111111.., 121212121212121212121212..",
        "member 1: name \"one\"",
        "member 1: wallet 0x1313131313131313131313131313131313131313",
        "member 1: governance wallet 0x1515151515151515151515151515151515151515",
        "member 1: host key 141414141414141414141414..",
        "member 2: guardian only",
        "new member 6 \"member 6\": operator and guardian, governance wallet 0x1616161616161616161616161616161616161616, \
         wallet 0x0606060606060606060606060606060606060606, host key 060606060606060606060606.., \
         chips 060606060606060606060606..",
        "member 6: enclave 0x5148b170787951fb619c550ff653c5beabe9e36d286ed01b88d47a1b8ed01cb9",
    ];
    assert_eq!(lines(&old, &new), expected);
    let more = next(&new, |newer| {
        let silicon = Cpuid { stepping: 2, ..silicon };
        newer.attestation.floors.push(Floor { tcb: Some(tcb), ..Floor::of(silicon) });
    });
    assert_eq!(lines(&new, &more), ["attestation.floors 19/11/2: 9/0/21/72"]);
    // Their order means nothing.
    let turned = next(&more, |newer| newer.attestation.floors.reverse());
    assert_eq!(changes(&more, &turned), Err(EpochError::NoChange));
    let floors_gone = next(&new, |newer| newer.attestation.floors.clear());
    assert_eq!(lines(&new, &floors_gone), ["attestation.floors 19/11/1: none"]);
}

#[test]
fn floors_and_revocation_make_sense_by_themselves() {
    let genoa = Cpuid { family: 0x19, model: 0x11, stepping: 1 };
    let (of, tcb) =
        (Floor::of(genoa), TcbVersion { fmc: None, bootloader: 9, tee: 0, snp: 21, microcode: 72 });
    let venice = Cpuid { family: 0x1A, model: 0x50, stepping: 0 };
    let wrong: [(Vec<Floor>, &str, &str); 5] = [
        (vec![of], "[0].tcb", "a floor that says nothing: tcb, firmware, mitigations or platform wanted"),
        (
            vec![Floor { mitigations: Some(1), ..Floor::of(venice) }],
            "[0].silicon",
            "1a/50/0 is of no known product line",
        ),
        (
            vec![Floor { tcb: Some(TcbVersion { fmc: Some(1), ..tcb }), ..of }],
            "[0].tcb.fmc",
            "Genoa has none, or lacks it",
        ),
        (vec![Floor { platform: Some(0x140), ..of }], "[0].platform", "0x140 has bits without a meaning"),
        (
            vec![Floor { mitigations: Some(1), ..of }, Floor { platform: Some(1), ..of }],
            "[1].silicon",
            "another floor is for the same",
        ),
    ];
    for (floors, at, reason) in wrong {
        for list in ["floors", "relax.floors"] {
            let mut manifest = founded();
            let rules = &mut manifest.attestation;
            *(if list == "floors" { &mut rules.floors } else { &mut rules.relax.floors }) = floors.clone();
            let expected =
                ManifestError::Field { field: format!("attestation.{list}{at}"), reason: reason.into() };
            assert_eq!(manifest.validate(), Err(expected));
        }
    }
    let mut manifest = founded();
    let each = Floor { tcb: Some(tcb), mitigations: Some(!0), platform: Some(0xFF), ..of };
    (manifest.attestation.floors, manifest.attestation.relax.floors) = (vec![each], vec![each]);
    assert_eq!(manifest.validate(), Ok(()));
    // A list is required for what it names: without a date, one from before that would do.
    manifest.attestation.revocation = Revocation::Required;
    let field = |result: Result<(), ManifestError>| match result {
        Err(ManifestError::Field { field, .. }) => Some(field),
        _ => None,
    };
    assert_eq!(field(manifest.validate()).as_deref(), Some("attestation.not_before"));
    manifest.attestation.not_before = 1_700_000_000;
    assert_eq!(manifest.validate(), Ok(()));
}

#[test]
fn what_no_epoch_may_change_is_refused_by_name() {
    type Edit = fn(&mut Manifest);
    let old = founded();
    let id = MemberId;
    let zero = ManifestHash([0; 32]);
    let machine = |member, lowest, highest, found| EpochError::Machine { member, lowest, highest, found };
    let moved = |from, to| EpochError::MemberMoved { from: id(from), to: id(to) };
    let altered = |field| EpochError::MeasurementAltered { name: "first".into(), field };
    let cases: [(Edit, EpochError); 20] = [
        (|_| (), EpochError::NoChange),
        (|new| new.network.chain_id = 5, EpochError::Fixed("network")),
        (|new| new.contracts.deposit = Address([9; 20]), EpochError::Fixed("contracts.deposit")),
        (
            |new| new.contracts.pool_code = Digest([9; 32]),
            EpochError::Fixed("contracts.pool_code without the pool manager"),
        ),
        (
            |new| new.contracts.start_block = 999,
            EpochError::Fixed("contracts.start_block without the pool manager"),
        ),
        (
            |new| new.attestation.trust = Trust::Simulation { root: Digest([1; 32]) },
            EpochError::Fixed("attestation.trust"),
        ),
        (|new| new.members.truncate(4), EpochError::MemberRemoved(id(5))),
        (
            |new| {
                new.members.swap(0, 1);
                let [one, two, ..] = &mut new.members[..] else { return };
                (one.id, two.id) = (MemberId(1), MemberId(2));
                std::mem::swap(&mut one.enclave, &mut two.enclave);
            },
            moved(2, 1),
        ),
        (
            |new| {
                new.members[4].host_key = HostKey([0x77; 32]);
                add(new, Member { host_key: HostKey([5; 32]), ..joining(6) });
            },
            moved(5, 6),
        ),
        (
            |new| {
                new.members[4].governance = account(100);
                add(new, Member { governance: account(5), ..joining(6) });
            },
            moved(5, 6),
        ),
        (|new| new.members[2].machine = 2, machine(id(3), 0, 1, 2)),
        (|new| add(new, Member { machine: 1, ..joining(6) }), machine(id(6), 0, 0, 1)),
        (
            |new| new.attestation.measurements[0].digest = Measurement([9; 48]),
            EpochError::MeasurementRemoved("first".into()),
        ),
        (|new| new.attestation.measurements[0].name = "1st".into(), altered("name")),
        (|new| new.attestation.measurements[0].from_epoch = 1, altered("from_epoch")),
        (
            |new| (new.epoch, new.members[0].enclave) = (0, None),
            EpochError::Manifest(ManifestError::Field {
                field: "history".into(),
                reason: "epoch 0 has none".into(),
            }),
        ),
        (
            |new| {
                new.history = new.history.map(|known| History { genesis: ManifestHash([0; 32]), ..known });
            },
            EpochError::Genesis { expected: old.genesis(), found: zero },
        ),
        (
            |new| {
                new.epoch = 4;
                new.history =
                    new.history.map(|known| History { predecessor: ManifestHash([0; 32]), ..known });
            },
            EpochError::Epoch { expected: 2, found: 4 },
        ),
        (
            |new| new.thresholds.operator = 9,
            EpochError::Manifest(ManifestError::Field {
                field: "thresholds.operator".into(),
                reason: "9 of only 5 operators".into(),
            }),
        ),
        (
            |new| new.version = 1,
            EpochError::Manifest(ManifestError::Field {
                field: "version".into(),
                reason: "this build reads version 6, not 1".into(),
            }),
        ),
    ];
    for (position, (edit, expected)) in cases.into_iter().enumerate() {
        assert_eq!(changes(&old, &next(&old, edit)), Err(expected), "case {position}");
    }
    // With the right genesis, but another before it.
    let one = next(&old, upgrade);
    let other = next(&old, retire(9));
    let two = next(&one, upgrade);
    let expected = EpochError::Predecessor { expected: other.hash(), found: one.hash() };
    assert_eq!(changes(&other, &two), Err(expected));
    // Machines only count up.
    let replaced = next(&old, |new| replace(&mut new.members[0]));
    let back = next(&replaced, |new| new.members[0].machine = 0);
    assert_eq!(changes(&replaced, &back), Err(machine(id(1), 1, 2, 0)));
    // The last epoch there is.
    let mut last = one;
    last.epoch = u64::MAX;
    last.history = Some(History { genesis: old.genesis(), predecessor: ManifestHash([1; 32]) });
    let after = Manifest {
        history: Some(History { genesis: old.genesis(), predecessor: last.hash() }),
        ..last.clone()
    };
    let expected = EpochError::Epoch { expected: u64::MAX, found: u64::MAX };
    assert_eq!(changes(&last, &after), Err(expected));
}

#[test]
fn downgrades_are_refused() {
    let old = genesis();
    let one = next(&old, |new| {
        upgrade(new);
        retire(1)(new);
        new.attestation.guest_svn = 2;
        new.attestation.not_before = 10;
    });
    assert!(changes(&old, &one).is_ok());
    let two = next(&one, upgrade);
    assert!(two.attestation.measurements_at(2).all(|listed| listed.name != "first"));
    let downgrade = |old: &Manifest, edit: fn(&mut Manifest)| match changes(old, &next(old, edit)) {
        Err(EpochError::Downgrade(what)) => what,
        other => panic!("{other:?}"),
    };
    // Retired, or about to be: it does not come back, not even under another name.
    for manifest in [&one, &two] {
        for edit in [(|new| retire(7)(new)) as fn(&mut Manifest), |new| {
            new.attestation.measurements[0].until_epoch = None
        }] {
            assert!(downgrade(manifest, edit).contains("\"first\" was to be retired after epoch 1"));
        }
    }
    let renamed = next(&two, |new| {
        let digest = new.attestation.measurements[0].digest;
        new.attestation.measurements.push(AllowedMeasurement::new("fresh", digest));
    });
    assert!(matches!(changes(&two, &renamed), Err(EpochError::Manifest(_))));
    assert_eq!(downgrade(&two, |new| new.attestation.guest_svn = 1), "guest_svn 1 is below 2");
    assert_eq!(downgrade(&two, |new| new.attestation.not_before = 9), "not_before 9 is before 10");
    // Nor is the past written anew.
    let expected = Err(EpochError::MeasurementAltered { name: "first".into(), field: "until_epoch" });
    assert_eq!(changes(&two, &next(&two, retire(0))), expected);
}

#[test]
fn a_founding_names_all_enclaves_and_is_signed_by_all() {
    let (zero, one) = (genesis(), founded());
    let expected = [
        "member 1: enclave 0xb7d9537e0b83d4be0a2cdb8a36787c8454a0bb304c9befdd61c366f7cd3b2140",
        "member 2: enclave 0x4dc0fd71c6671fe678793a0666eb1af7123902dcc0936c73bae22f0f005744e8",
        "member 3: enclave 0x5a6e9fe26c0f69cbe7b0c5b5335b56be9c6107110eb6cf86cefa14901f47bd71",
        "member 4: enclave 0x92e5209e15c4e97217ddc6bf7c4aeb91a118d7ed743da42aa4e40a7df46791b4",
        "member 5: enclave 0xde10a5d3916592fda232fc2ff1f81b95511dc8d2f5cd92139c5da18dcd5c0ca9",
    ];
    assert_eq!(lines(&zero, &one), expected);
    assert!(one.is_founded() && !zero.is_founded());
    assert_eq!(one.identity(MemberId(2)), Some(enclave(2, 0).identity(MemberId(2), 0)));
    assert_eq!((zero.identity(MemberId(2)), one.identity(MemberId(9))), (None, None));
    assert_eq!(signed(&zero, &one, &[3, 1, 2, 5, 4]).verify(&zero), Ok(one));
    let too_few = signed(&zero, &founded(), &[1, 2, 3, 4]).verify(&zero);
    assert_eq!(too_few, Err(EpochError::TooFewSigners { needed: 5, found: 4 }));
}

#[test]
fn an_enclave_changes_exactly_with_its_machine() {
    let old = founded();
    let changed = next(&old, |new| new.members[2].enclave = Some(enclave(3, 1)));
    assert_eq!(changes(&old, &changed), Err(EpochError::Enclave(MemberId(3))));
    let kept = next(&old, |new| new.members[2].machine = 1);
    assert_eq!(changes(&old, &kept), Err(EpochError::Enclave(MemberId(3))));
    let one_key = next(&old, |new| {
        new.members[2].enclave = Some(EnclaveKeys { dealing: enclave(3, 1).dealing, ..enclave(3, 0) });
    });
    assert_eq!(changes(&old, &one_key), Err(EpochError::Enclave(MemberId(3))));
    let replaced = next(&old, |new| replace(&mut new.members[2]));
    let identity = enclave(3, 1).identity(MemberId(3), 1);
    let expected = [Change::MachineReplaced { member: MemberId(3), machine: 1 }, Change::Enclave(identity)];
    assert_eq!(changes(&old, &replaced).as_deref(), Ok(&expected[..]));
    // While nobody has an enclave yet, a machine may be another one by the time of the founding.
    let founded_later = next(&genesis(), |new| replace(&mut new.members[2]));
    assert!(changes(&genesis(), &founded_later).is_ok());
}

#[test]
fn a_cut_names_all_whose_machines_stay_and_only_those_and_stays_until_the_next() {
    let old = founded();
    let refused = |old: &Manifest, edit: &dyn Fn(&mut Manifest)| changes(old, &next(old, edit)).unwrap_err();
    let wrong = |id| EpochError::Cut { epoch: 2, member: MemberId(id) };
    assert_eq!(refused(&old, &|new| cut(new, &[1, 2, 3, 5])), wrong(4));
    assert_eq!(refused(&old, &|new| cut(new, &[])), wrong(1));
    let replaced = |listed: &'static [u16]| {
        move |new: &mut Manifest| {
            replace(&mut new.members[1]);
            cut(new, listed);
        }
    };
    assert_eq!(refused(&old, &replaced(&[1, 2, 3, 4, 5])), wrong(2));
    let two = next(&old, replaced(&[1, 3, 4, 5]));
    assert_eq!((changes(&old, &two).is_ok(), two.era(), old.era()), (true, 2, 0));
    // It is made in the epoch that it names.
    let late = |new: &mut Manifest| {
        cut(new, &[1, 2, 3, 4, 5]);
        new.agreement.cut.as_mut().unwrap().epoch = 1;
    };
    assert_eq!(refused(&old, &late), EpochError::Fixed("agreement.cut"));
    let three = next(&two, upgrade);
    assert_eq!((changes(&two, &three).is_ok(), three.era()), (true, 2), "it stays");
    let gone = refused(&two, &|new| new.agreement.cut = None);
    assert_eq!(gone, EpochError::Fixed("agreement.cut"));
    let altered =
        refused(&two, &|new| new.agreement.cut.as_mut().unwrap().members[0].ballot.incarnation += 1);
    assert_eq!(altered, EpochError::Fixed("agreement.cut"));
    let stale = |new: &mut Manifest| cut(new, &[1, 2, 3, 4, 5]);
    let wrong = |id| EpochError::Cut { epoch: 3, member: MemberId(id) };
    assert_eq!(refused(&two, &stale), wrong(1), "of an era that is over");
    let current = |new: &mut Manifest| {
        stale(new);
        for resumed in &mut new.agreement.cut.as_mut().unwrap().members {
            resumed.ballot.era = 2;
        }
    };
    assert_eq!(refused(&two, &current), wrong(2), "of a machine that is lost");
    let again = next(&two, |new| {
        current(new);
        new.agreement.cut.as_mut().unwrap().members[1].ballot.machine = 1;
    });
    assert_eq!((changes(&two, &again).is_ok(), again.era()), (true, 3));
}

#[test]
fn what_members_can_not_agree_on_is_refused_by_its_field() {
    type Edit = fn(&mut Manifest);
    let field = |manifest: Manifest| match manifest.validate() {
        Err(ManifestError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let cases: [(Edit, &str); 13] = [
        (|one| one.agreement.quorum = 2, "agreement.quorum"),
        (|one| one.agreement.quorum = 5, "agreement.quorum"),
        (|one| one.agreement.quorum = 0, "agreement.quorum"),
        (|one| cut(one, &[1, 2, 3, 4, 6]), "agreement.cut.members[4].member"),
        (|one| cut(one, &[1, 2, 2]), "agreement.cut.members[2].member"),
        (
            |one| {
                cut(one, &[1]);
                one.agreement.cut.as_mut().unwrap().epoch = 2;
            },
            "agreement.cut.epoch",
        ),
        (
            |one| {
                cut(one, &[1]);
                one.agreement.cut.as_mut().unwrap().epoch = 0;
            },
            "agreement.cut.epoch",
        ),
        (|one| one.members[3].enclave = None, "members[3].enclave"),
        (
            |one| {
                let taken = enclave(1, 0).agreement;
                one.members[3].enclave = Some(EnclaveKeys { agreement: taken, ..enclave(4, 0) });
            },
            "members[3].enclave",
        ),
        (|one| one.members[3].governance = account(1), "members[3].governance"),
        (|one| one.members[3].wallet = account(4), "members[3].wallet"),
        (|one| one.members[0].wallet = account(5), "members[0].wallet"),
        (|one| one.members.truncate(2), "members"),
    ];
    for (position, (edit, expected)) in cases.into_iter().enumerate() {
        assert_eq!(field(next(&genesis(), edit)), expected, "case {position}");
    }
    let mut zero = genesis();
    zero.members[1].enclave = Some(enclave(2, 0));
    assert_eq!(field(zero), "members[1].enclave");
}

#[test]
fn after_the_founding_a_quorum_is_a_majority_and_reaches_both_thresholds() {
    assert_eq!(quorum(&genesis()), 5, "all found");
    let mut manifest = founded();
    assert_eq!(quorum(&manifest), 3);
    manifest.thresholds.guardian = 5;
    assert_eq!(quorum(&manifest), 5);
    manifest.members.truncate(4);
    manifest.thresholds = Thresholds { operator: 2, guardian: 2, proof: 3 };
    assert_eq!(quorum(&manifest), 3, "half is not enough");
}

#[test]
fn a_chain_is_followed_from_any_of_its_manifests() {
    let zero = genesis();
    let one = next(&zero, |new| {
        upgrade(new);
        new.members[0].governance = account(100);
    });
    let two = next(&one, |new| replace(&mut new.members[3]));
    // The wallets are those of the manifest before: the new one of member 1 counts only afterwards.
    let mut second = signed(&one, &two, &[2, 3]);
    let digest = second.message(&one).unwrap().digest();
    second.signatures.push(sign_as(1, 100, &digest));
    let chain = [signed(&zero, &one, &[5, 1, 3, 2, 4]), second];
    assert_eq!(follow(&zero, &chain), Ok(two.clone()));
    assert_eq!(follow(&one, &chain[1..]), Ok(two));
    assert_eq!(follow(&zero, &[]), Ok(zero.clone()));
    let expected = EpochError::Epoch { expected: 1, found: 2 };
    assert_eq!(follow(&zero, &chain[1..]), Err(ChainError { epoch: 1, source: expected }));
    let expected = EpochError::Epoch { expected: 2, found: 1 };
    let repeated = [chain[0].clone(), chain[0].clone()];
    assert_eq!(follow(&zero, &repeated), Err(ChainError { epoch: 2, source: expected }));
}

#[test]
fn the_pool_managers_of_a_chain_are_each_named_once() {
    let managers = |start: &Manifest, epochs: &[SignedEpoch]| {
        postern_shared::epoch::chain(start, epochs).map(|manifests| pool_managers(&manifests))
    };
    let to = |old: &Manifest, byte| {
        next(old, |new| {
            (new.contracts.pool_manager, new.contracts.pool_code) = (Address([byte; 20]), Digest([byte; 32]));
            new.contracts.start_block = 100 * u64::from(byte);
        })
    };
    let zero = genesis();
    let one = to(&zero, 0xbb);
    let two = to(&one, 0xcc);
    let three = to(&two, 2);
    let all = [1, 2, 3, 4, 5];
    let chain = [(&zero, &one), (&one, &two), (&two, &three)].map(|(old, new)| signed(old, new, &all));
    let manager = |place, code, since, epoch| PoolManager {
        contract: Address([place; 20]),
        pool_code: Digest([code; 32]),
        start_block: if code == 5 { 1_000 } else { 100 * u64::from(code) },
        since,
        epoch,
    };
    let (b, c) = (0xbb, 0xcc);
    assert_eq!(managers(&zero, &[]), Ok(vec![manager(2, 5, 0, 0)]));
    // Each learns of the epoch that names another in its place, and of none after that, until it is named again.
    let two_on = vec![manager(2, 5, 0, 1), manager(b, b, 1, 2), manager(c, c, 2, 0)];
    assert_eq!(managers(&zero, &chain[..2]), Ok(two_on));
    let all_of_them = vec![manager(2, 5, 0, 1), manager(b, b, 1, 2), manager(c, c, 2, 3)];
    assert_eq!(managers(&zero, &chain), Ok(all_of_them));
    // Whoever begins later knows nothing of what was before.
    let later = vec![manager(b, b, 1, 2), manager(c, c, 2, 3), manager(2, 2, 3, 0)];
    assert_eq!(managers(&one, &chain[1..]), Ok(later));
    assert!(managers(&zero, &chain[1..]).is_err());
    let goes_by =
        |number| (0..5).filter(|epoch| manager(b, b, 1, number).goes_by(*epoch)).collect::<Vec<_>>();
    assert_eq!((goes_by(0), goes_by(2), goes_by(4)), (vec![], vec![2], vec![2, 3, 4]));
}

/// The pool manager remembers whom it knew: it takes no signer again, and has missed what came after it was left.
#[test]
fn what_was_replaced_does_not_come_back() {
    let (zero, one) = (genesis(), founded());
    let two = next(&one, |new| {
        replace(&mut new.members[1]);
        new.contracts.pool_manager = Address([0xbb; 20]);
    });
    let chain = [zero, one.clone(), two.clone()];
    let known = || {
        chain.iter().flat_map(|manifest| {
            manifest.members.iter().filter_map(|member| manifest.identity(member.id)).collect::<Vec<_>>()
        })
    };
    let check = |change: &dyn Fn(&mut Manifest)| {
        check_returns(known(), &pool_managers(&chain), &two, &next(&two, change))
    };
    assert_eq!(check(&|new| new.name = "another".to_owned()), Ok(()));
    assert_eq!(check(&|new| new.contracts.pool_manager = Address([0xcc; 20])), Ok(()));
    assert_eq!(check(&|new| replace(&mut new.members[1])), Ok(()));
    let old = one.members[1].enclave.unwrap();
    let edits: [fn(&mut EnclaveKeys, EnclaveKeys); 4] = [
        |keys, old| keys.signing = old.signing,
        |keys, old| keys.agreement = old.agreement,
        |keys, old| keys.dealing = old.dealing,
        |keys, old| keys.signer = old.signer,
    ];
    for edit in edits {
        for position in [1, 2] {
            let back = check(&|new| {
                replace(&mut new.members[position]);
                edit(new.members[position].enclave.as_mut().unwrap(), old);
            });
            assert_eq!(back, Err(EpochError::KeyReturns(two.members[position].id)));
        }
    }
    let first = one.contracts.pool_manager;
    assert_eq!(check(&|new| new.contracts.pool_manager = first), Err(EpochError::ManagerReturns(first)));
}

#[test]
fn signatures_that_do_not_count_are_refused_by_name() {
    let old = founded();
    let new = next(&old, upgrade);
    let good = signed(&old, &new, &[1, 2, 3]);
    assert_eq!(good.verify(&old), Ok(new.clone()));
    let with = |signature: WalletSignature| {
        let mut epoch = good.clone();
        epoch.signatures[2] = signature;
        epoch.verify(&old)
    };
    let digest = good.message(&old).unwrap().digest();
    let third = good.signatures[2];
    assert_eq!(
        signed(&old, &new, &[1, 2]).verify(&old),
        Err(EpochError::TooFewSigners { needed: 3, found: 2 })
    );
    assert_eq!(
        SignedEpoch::unsigned(&new).verify(&old),
        Err(EpochError::TooFewSigners { needed: 3, found: 0 })
    );
    assert_eq!(with(good.signatures[0]), Err(EpochError::SignedTwice(MemberId(1))));
    for stranger in [0, 6] {
        assert_eq!(with(sign_as(stranger, 3, &digest)), Err(EpochError::UnknownSigner(MemberId(stranger))));
    }
    let (member, expected) = (MemberId(3), account(3));
    // Another member's, or the own one that only pays.
    for by in [4, paying(3)] {
        let found = account(by);
        assert_eq!(with(sign_as(3, by, &digest)), Err(EpochError::OtherWallet { member, expected, found }));
    }
    // The other v is the signature of another key, or of none.
    let mut other_v = third;
    other_v.signature.0[64] ^= 27 ^ 28;
    assert!(matches!(
        with(other_v),
        Err(EpochError::OtherWallet { .. } | EpochError::Signature { fault: SignatureFault::NoKey, .. })
    ));
    let fault = |edit: &dyn Fn(&mut [u8; 65])| {
        let mut signature = third;
        edit(&mut signature.signature.0);
        match with(signature) {
            Err(EpochError::Signature { member: MemberId(3), fault }) => fault,
            other => panic!("{other:?}"),
        }
    };
    for v in [0, 1, 26, 29, 255] {
        assert_eq!(fault(&|bytes| bytes[64] = v), SignatureFault::V(v));
    }
    assert_eq!(fault(&|bytes| bytes[..32].fill(0)), SignatureFault::Range);
    assert_eq!(fault(&|bytes| bytes[32..64].fill(0)), SignatureFault::Range);
    assert_eq!(fault(&|bytes| bytes[..32].fill(0xff)), SignatureFault::Range);
    // What anybody can make of a good signature: the negative s, with the other v.
    let malleable = |bytes: &mut [u8; 65]| {
        let signature = k256::ecdsa::Signature::from_slice(&bytes[..64]).unwrap();
        let (r, s) = signature.split_scalars();
        let high = k256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        bytes[..64].copy_from_slice(&high.to_bytes());
        bytes[64] ^= 27 ^ 28;
    };
    assert_eq!(fault(&malleable), SignatureFault::HighS);
}

#[test]
fn a_signature_is_good_for_one_epoch_of_one_dao_on_one_chain() {
    let old = founded();
    let signatures = signed(&old, &next(&old, upgrade), &[1, 2, 3]).signatures;
    let elsewhere = |edit: fn(&mut Manifest)| {
        let mut other = old.clone();
        edit(&mut other);
        let new = next(&other, upgrade);
        SignedEpoch { manifest: new.to_canonical(), signatures: signatures.clone() }.verify(&other)
    };
    assert!(elsewhere(|_| ()).is_ok());
    let edits: [fn(&mut Manifest); 4] = [
        |other| other.network.chain_id = 17_000,
        |other| other.contracts.pool_manager = Address([9; 20]),
        |other| other.name = "another DAO".into(),
        |other| other.thresholds.guardian = 3,
    ];
    for edit in edits {
        assert!(matches!(elsewhere(edit), Err(EpochError::OtherWallet { member: MemberId(1), .. })));
    }
    let other = next(&old, |new| new.leader = MemberId(2));
    let taken = SignedEpoch { manifest: other.to_canonical(), signatures }.verify(&old);
    assert!(matches!(taken, Err(EpochError::OtherWallet { .. })));
}

/// Every part of the message counts, so that a wallet's display can't be parted from what is signed.
#[test]
fn every_part_of_the_message_is_signed() {
    let old = founded();
    let message = EpochMessage::new(&old, &next(&old, upgrade)).unwrap();
    let edits: [fn(&mut EpochMessage); 8] = [
        |message| message.domain.chain_id += 1,
        |message| message.domain.verifying_contract.0[0] ^= 1,
        |message| message.dao.push(' '),
        |message| message.epoch += 1,
        |message| message.predecessor.0[0] ^= 1,
        |message| message.manifest.0[0] ^= 1,
        |message| message.council.0[0] ^= 1,
        |message| message.changes.push(' '),
    ];
    for edit in edits {
        let mut other = message.clone();
        edit(&mut other);
        assert_ne!(other.digest(), message.digest());
    }
}

/// EIP-712's own example key and address (`cow`), and a signature of go-ethereum's test of `Ecrecover`.
#[test]
fn wallets_are_recovered_as_others_recover_them() {
    let digest = hex::decode("ce0677bb30baa8cf067c88db9811f4333d131bf8bcf12fe7065d211dce971008").unwrap();
    let signature = hex::decode(
        "90f27b8b488db00b00606796d2987f6a5f59ae62ea05effe84fef5b8b0e549984a691139ad57a3f0b906637673aa2f63d1f55cb1a69199d4009eea23ceaddc9301",
    );
    let mut signature: [u8; 65] = signature.unwrap().try_into().unwrap();
    signature[64] += 27;
    let found = recover(&digest.try_into().unwrap(), &EthereumSignature(signature)).unwrap();
    let public = hex::decode(
        "e32df42865e97135acfb65f3bae71bdc86f4d49150ad6a440b6f15878109880a0a2b2667f7e725ceea70c673093bf67663e0312623c8e091b13cf2c0f11ef652",
    );
    let hash = Keccak256::digest(public.unwrap());
    assert_eq!(found.0[..], hash[12..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_a_signed_epoch_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(epoch) = SignedEpoch::from_bytes(&bytes) {
            prop_assert_eq!(epoch.to_bytes(), bytes);
            prop_assert!(epoch.verify(&founded()).is_err());
        }
    }

    #[test]
    fn no_altered_byte_of_a_signed_epoch_goes_unnoticed(place in any::<prop::sample::Index>(), flip in 1u8..) {
        let old = founded();
        let mut bytes = signed(&old, &next(&old, upgrade), &[1, 2, 3]).to_bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        let verified = SignedEpoch::from_bytes(&bytes).and_then(|epoch| epoch.verify(&old));
        prop_assert!(verified.is_err());
        prop_assert!(SignedEpoch::from_bytes(&bytes[..place]).is_err());
    }
}

#[test]
fn a_signed_epoch_has_one_form_and_a_longest_one() {
    let old = founded();
    let epoch = signed(&old, &next(&old, upgrade), &[1, 2, 3]);
    let bytes = epoch.to_bytes();
    assert_eq!(SignedEpoch::from_bytes(&bytes), Ok(epoch));
    let trailing = EpochError::Decode(DecodeError::Trailing { count: 1 });
    assert_eq!(SignedEpoch::from_bytes(&[&bytes[..], &[0]].concat()), Err(trailing));
    let long = vec![0; MAX_SIGNED_EPOCH + 1];
    assert_eq!(SignedEpoch::from_bytes(&long), Err(EpochError::TooLong(long.len())));
}
