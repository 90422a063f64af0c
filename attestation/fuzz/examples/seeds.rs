//! Writes what the fuzzers begin with (`seeds/`), from the real vectors and from messages of every kind. To be run again
//! when the form of an input or of a message changes.

use postern_attestation::{Requirements, Silicon};
use postern_attestation_fuzz::{SAMPLES, Sample};
use postern_shared::{
    agreement::Subject,
    bls::{PublicKey, Signature},
    codec::encode,
    ecdsa::EthereumSignature,
    epoch::{SignedEpoch, WalletSignature},
    ethereum::{
        DepositData, DepositMessage, ForkVersion, Network, Root, VALIDATOR_STAKE_GWEI, WithdrawalCredentials,
    },
    events::{ChainEvent, DepositRequest, EventSource},
    identity::{AgreementKey, EnclaveKeys, Identity, IdentitySignature, SigningKey},
    ids::{Address, CeremonyId, ChipId, Digest, ManifestHash, Measurement, MemberId, Nonce, PoolId},
    manifest::{
        Agreement, Contracts, Cut, History, HostKey, MANIFEST_VERSION, Manifest, Member, Resumed, Thresholds,
    },
    message::{
        Attestation, Broadcast, Challenge, EncapsulatedKey, Envelope, EnvelopeHeader, Evidence, PeerMessage,
        Slot, Step,
    },
    policy::{AllowedMeasurement, AttestationRules, Floor, Trust},
    proof::{ProofRequest, Provable},
    record::{
        KeySlot, LogHead, LogId, RECORD_VERSION, RecordHeader, RecordKind, Salt, SealedRecord, SlotHeader,
    },
    snp::RawTcb,
    wire::Request,
    witness::{
        Advance, Ballot, Claim, End, InForce, Known, Memory, Note, Noted, Place, SignedNote, Witness,
        WitnessMessage,
    },
};
use std::{fs, io, path::Path};

type Seeds = Vec<(String, Vec<u8>)>;

fn main() -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let targets = [
        ("parse_report", parse_report()),
        ("appraise", appraise()),
        ("certificates", certificates()),
        ("decode", decode()),
    ];
    for (target, inputs) in targets {
        let folder = seeds.join(target);
        fs::create_dir_all(&folder)?;
        for (name, input) in inputs {
            fs::write(folder.join(name), input)?;
        }
    }
    Ok(())
}

/// One sample of each product line.
const LINES: [u8; 3] = [0, 1, 4];

fn each_sample<'a>(
    numbers: impl IntoIterator<Item = u8> + 'a,
) -> impl Iterator<Item = (u8, &'static Sample)> + 'a {
    numbers.into_iter().map(|number| (number, Sample::at(number)))
}

fn parse_report() -> Seeds {
    each_sample(0..10).map(|(number, sample)| (format!("sample-{number}"), sample.report.to_vec())).collect()
}

fn appraise() -> Seeds {
    let input = |head: [u8; 3], parts: [&[u8]; 5]| {
        let length = |part: &[u8]| u16::try_from(part.len()).expect("short").to_le_bytes();
        let parts = parts.into_iter().flat_map(|part| [&length(part), part].concat());
        head.into_iter().chain(parts).collect()
    };
    let reports = each_sample(0..10).map(|(number, sample)| {
        (format!("report-{number}"), input([number, 0, 0], [sample.report, &[], &[], &[], &[]]))
    });
    // The lax rules, with a revocation list, launch and report data.
    let whole = each_sample(LINES).map(|(number, sample)| {
        let parts = [sample.report, sample.ark, sample.ask, sample.leaf, sample.crl.unwrap_or_default()];
        (format!("whole-{number}"), input([number, 0x0C, 0x03], parts))
    });
    reports.chain(whole).collect()
}

fn certificates() -> Seeds {
    // When the revocation lists are in force.
    let time = 1_672_531_200_u64.to_le_bytes();
    let input = |number: u8, flags: u8, bytes: &[u8]| [&[number, flags], &time[..], bytes].concat();
    let leaves = each_sample(0..10)
        .map(|(number, sample)| (format!("leaf-{number}"), input(number, 0x02, sample.leaf)));
    let others = each_sample(LINES).flat_map(|(number, sample)| {
        let seed = |name, flags, bytes| (format!("{name}-{number}"), input(number, flags, bytes));
        let crl = sample.crl.map(|crl| seed("crl", 0x13, crl));
        [seed("ark", 0x08, sample.ark), seed("ask", 0x01, sample.ask)].into_iter().chain(crl)
    });
    leaves.chain(others).collect()
}

fn decode() -> Seeds {
    let (requests, messages) = (requests(), messages());
    let requests = requests.iter().enumerate().map(|(kind, one)| (format!("request-{kind}"), encode(one)));
    let messages = messages.iter().enumerate().map(|(kind, one)| (format!("message-{kind}"), encode(one)));
    let others = [("manifest".into(), manifest().to_canonical()), ("epoch".into(), epoch().to_bytes())];
    requests.chain(messages).chain(others).collect()
}

fn requests() -> Vec<Request> {
    let (member, pool) = (MemberId(1), PoolId::new(1, Address([2; 20]), 300));
    let source = EventSource { block: Digest([7; 32]), log_index: 300 };
    let message = DepositMessage {
        pubkey: PublicKey([9; 48]),
        withdrawal_credentials: WithdrawalCredentials([8; 32]),
        amount: VALIDATOR_STAKE_GWEI,
    };
    let data = DepositData { message, signature: Signature([7; 96]) };
    let certificates = SAMPLES[0].certificates();
    let manifest_hash = manifest().hash();
    let prove = |what| Request::Prove(ProofRequest { epoch: 300, what });
    vec![
        Request::Status,
        Request::Start {
            manifest: manifest().to_canonical(),
            epochs: Vec::new(),
            member,
            certificates: certificates.clone(),
        },
        Request::Observe(ChainEvent::DepositRequested(DepositRequest { source, pool })),
        Request::Observe(ChainEvent::ValidatorIndexed {
            pool,
            pubkey: PublicKey([9; 48]),
            validator_index: 1 << 40,
        }),
        Request::Observe(ChainEvent::ExitRequested { source, pool }),
        Request::Deliver(encode(&messages()[0])),
        Request::GiveUp(Subject::Key(pool)),
        Request::AwaitCut,
        Request::Acknowledge(1 << 20),
        Request::Attest(Nonce([4; 32])),
        Request::Renew(certificates),
        Request::GoOnWithout(vec![MemberId(2), MemberId(300)]),
        Request::Reattest(Some(member)),
        Request::Restore { slot: Box::new(slot()), certificates: SAMPLES[0].certificates() },
        Request::Records(vec![record(RecordKind::Change), record(RecordKind::Snapshot { first: 300 })]),
        Request::Restored,
        Request::Amend(epoch()),
        prove(Provable::Deposit { pool, data }),
        prove(Provable::TriggerExit(pool)),
        prove(Provable::EpochApplied { contract: pool.contract, manifest: manifest_hash, council: Digest([9; 32]) }),
        prove(Provable::CancelRecovery { contract: pool.contract, number: 300, manifest: manifest_hash, council: Digest([9; 32]) }),
    ]
}

fn slot() -> KeySlot {
    let header = SlotHeader {
        version: RECORD_VERSION,
        dao: manifest().hash(),
        member: MemberId(1),
        log: LogId([1; 32]),
        measurement: Measurement([2; 48]),
        policy: 0x3_0000,
        tcb: RawTcb([3; 8]),
        salt: Salt([4; 32]),
    };
    KeySlot { header, ciphertext: vec![5; 48] }
}

fn record(kind: RecordKind) -> SealedRecord {
    let header = RecordHeader {
        version: RECORD_VERSION,
        dao: manifest().hash(),
        member: MemberId(1),
        log: LogId([1; 32]),
        number: 300,
        previous: Digest([2; 32]),
        kind,
        salt: Salt([3; 32]),
    };
    SealedRecord { header, ciphertext: vec![4; 40] }
}

const BALLOT: Ballot = Ballot { machine: 0, era: 1, incarnation: 300, nonce: Nonce([2; 32]) };
const PLACE: Place = Place { log: LogId([1; 32]), head: LogHead { number: 300, digest: Digest([1; 32]) } };

fn witnesses() -> [Witness; 6] {
    let ends = vec![End { ballot: Ballot { incarnation: 299, ..BALLOT }, place: PLACE }];
    let sign = |acting| {
        let note =
            Note { member: MemberId(1), ballot: BALLOT, place: PLACE, acting, ends: End::digest(&ends) };
        SignedNote { note, signature: IdentitySignature([3; 64]) }
    };
    let (signed, asking) = (sign(true), sign(false));
    let (note, by) = (signed.note, signed);
    let in_force = InForce { epoch: 300, manifest: ManifestHash([4; 32]) };
    let memory = |accepted| Memory { promised: signed, accepted };
    let memories = vec![memory(None), memory(Some(signed))];
    [
        Witness::Advance(Advance { note: signed, in_force, ballots: vec![(MemberId(2), BALLOT)] }),
        Witness::Noted(Noted { note, in_force, by, later: vec![signed] }),
        Witness::Unknown(BALLOT),
        Witness::Return(Claim { note: asking, ends }),
        Witness::Known(Known { claim: asking.note, in_force, by, memories, adopted: Vec::new() }),
        Witness::Refused(signed),
    ]
}

fn messages() -> Vec<PeerMessage> {
    let identity = |member| Identity {
        member: MemberId(member),
        machine: 0,
        signing: SigningKey([1; 32]),
        agreement: AgreementKey([2; 32]),
        dealing: PublicKey([3; 48]),
        signer: Address([4; 20]),
    };
    let slot = Slot { ceremony: CeremonyId([6; 32]), from: MemberId(1), step: Step::Deal, item: 0 };
    let nonce = Nonce([4; 32]);
    let told = witnesses().map(|witness| {
        let signature = IdentitySignature([7; 64]);
        PeerMessage::Witness(Box::new(WitnessMessage { from: MemberId(1), witness, signature }))
    });
    let mut messages = vec![
        PeerMessage::Challenge(Challenge {
            from: identity(1),
            to: MemberId(2),
            nonce,
            signature: IdentitySignature([8; 64]),
        }),
        PeerMessage::Evidence(Box::new(Attestation {
            identity: identity(1),
            verifier: Some(identity(2)),
            challenge: nonce,
            response: Nonce([5; 32]),
            evidence: Evidence {
                report: SAMPLES[1].report.to_vec(),
                certificates: SAMPLES[1].certificates(),
            },
        })),
        PeerMessage::Broadcast(Broadcast { slot, body: vec![1; 40], signature: IdentitySignature([2; 64]) }),
        PeerMessage::Envelope(Envelope {
            header: EnvelopeHeader { slot, to: MemberId(2) },
            encapsulated: EncapsulatedKey([3; 32]),
            ciphertext: vec![4; 48],
        }),
    ];
    messages.extend(told);
    messages
}

fn epoch() -> SignedEpoch {
    let signature = WalletSignature { member: MemberId(1), signature: EthereumSignature([27; 65]) };
    SignedEpoch { signatures: vec![signature], ..SignedEpoch::unsigned(&founded()) }
}

/// The epoch that names all enclaves; with a cut, which is of no use there but has a form.
fn founded() -> Manifest {
    let zero = manifest();
    let history = History { genesis: zero.hash(), predecessor: zero.hash() };
    let mut one = Manifest { epoch: 1, history: Some(history), ..zero };
    for (member, id) in one.members.iter_mut().zip(1..) {
        member.enclave = Some(EnclaveKeys {
            signing: SigningKey([id; 32]),
            agreement: AgreementKey([id; 32]),
            dealing: PublicKey([id; 48]),
            signer: Address([id; 20]),
        });
    }
    let resumed = Resumed { member: MemberId(1), ballot: BALLOT, place: PLACE };
    one.agreement.cut = Some(Cut { epoch: 1, members: vec![resumed] });
    one.validate().expect("a manifest");
    one
}

fn floor(kind: &Silicon) -> Floor {
    let Requirements { tcb, firmware, mitigations, platform } = kind.requirements;
    Floor { silicon: kind.first, tcb: Some(tcb), firmware, mitigations: Some(mitigations), platform: Some(platform) }
}

fn manifest() -> Manifest {
    let member = |id: u8| Member {
        id: MemberId(id.into()),
        name: format!("member {id}"),
        wallet: Address([id; 20]),
        governance: Address([id | 0x80; 20]),
        host_key: HostKey([id; 32]),
        machine: 0,
        enclave: None,
        chip_ids: vec![ChipId([id; 64])],
        operator: true,
        guardian: true,
    };
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
            start_block: 22_000_000,
            deposit: Address([3; 20]),
        },
        thresholds: Thresholds { operator: 2, guardian: 2, proof: 2 },
        agreement: Agreement { quorum: 2, automatic_return: false, cut: None },
        attestation: AttestationRules {
            measurements: vec![AllowedMeasurement::new("first", Measurement([4; 48]))],
            floors: postern_attestation::built_in().iter().map(floor).collect(),
            ..AttestationRules::strict(Trust::Amd)
        },
        members: (1..=3).map(member).collect(),
    };
    manifest.validate().expect("a manifest");
    manifest
}
