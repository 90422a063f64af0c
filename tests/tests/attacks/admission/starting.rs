//! What an enclave starts for, and with which evidence of its own.

use super::{PROVER, VERIFIER, admitted, provers_machine};
use postern_attestation::ReportData;
use postern_enclave::core::Core;
use postern_enclave::platform::{Platform, PlatformError};
use postern_shared::ids::{Digest, MemberId};
use postern_shared::manifest::Manifest;
use postern_shared::message::Certificates;
use postern_shared::policy::Trust;
use postern_shared::wire::{Rejection, Reply, Request, Standing};
use postern_simulation::{Machine, ReportFields, SoftwarePsp};
use postern_tests::cluster::{Cluster, manifest};

/// A core on a machine, not started yet.
fn fresh(machine: Machine) -> (Core<SoftwarePsp>, Certificates) {
    let psp = SoftwarePsp::new(machine);
    let certificates = psp.certificates();
    (Core::new(psp), certificates)
}

fn start(
    core: &mut Core<impl Platform>,
    manifest: &Manifest,
    member: MemberId,
    certificates: &Certificates,
) -> Reply {
    let manifest = manifest.to_canonical();
    core.handle(Request::Start { manifest, epochs: Vec::new(), member, certificates: certificates.clone() })
        .reply
}

#[test]
fn an_enclave_starts_only_for_the_dao_chip_and_root_that_it_was_launched_for() {
    let good = manifest(3, 2, 2);
    let machine = provers_machine();
    let (mut core, certificates) = fresh(machine);
    assert_eq!(core.handle(Request::Tick).reply, Reply::Rejected(Rejection::NotStarted));
    let mut other = good.clone();
    other.name = "another DAO".into();
    assert_eq!(start(&mut core, &other, PROVER, &certificates), Reply::Rejected(Rejection::OwnEvidence));
    assert_eq!(start(&mut core, &good, MemberId(3), &certificates), Reply::Rejected(Rejection::OwnEvidence));
    let stranger = MemberId(4);
    assert_eq!(
        start(&mut core, &good, stranger, &certificates),
        Reply::Rejected(Rejection::NotAMember(stranger))
    );
    let mut amd = good.clone();
    amd.attestation.trust = Trust::Amd;
    assert_eq!(start(&mut core, &amd, PROVER, &certificates), Reply::Rejected(Rejection::WrongTrust));
    let mut another_root = good.clone();
    another_root.attestation.trust = Trust::Simulation { root: Digest([1; 32]) };
    assert_eq!(
        start(&mut core, &another_root, PROVER, &certificates),
        Reply::Rejected(Rejection::WrongTrust)
    );
    let garbage = Request::Start {
        manifest: vec![1, 2, 3],
        epochs: Vec::new(),
        member: PROVER,
        certificates: certificates.clone(),
    };
    assert_eq!(core.handle(garbage).reply, Reply::Rejected(Rejection::InvalidManifest));
    // None of this has left a trace.
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Done);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Done, "the same again is harmless");
    assert_eq!(start(&mut core, &other, PROVER, &certificates), Reply::Rejected(Rejection::StartedOtherwise));
    assert_eq!(
        start(&mut core, &good, MemberId(3), &certificates),
        Reply::Rejected(Rejection::StartedOtherwise)
    );
}

#[test]
fn an_enclave_whose_own_report_would_not_do_does_not_start() {
    let good = manifest(3, 2, 2);
    let debuggable = SoftwarePsp::new(provers_machine()).tamper(|fields| fields.policy |= 1 << 19);
    let certificates = debuggable.certificates();
    let mut core = Core::new(debuggable);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Rejected(Rejection::OwnEvidence));
    let mut silent = SoftwarePsp::new(provers_machine());
    silent.refuse_reports(Some(0x15));
    assert_eq!(silent.report(&ReportData([0; 64])), Err(PlatformError::Report { status: 0x15 }));
    let mut core = Core::new(silent);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Rejected(Rejection::Platform));
}

/// Firmware counts the version of reports up when it adds a field.
const LATER: u32 = 6;

#[test]
fn an_enclave_starts_on_firmware_whose_reports_are_of_a_later_version() {
    let good = manifest(3, 2, 2);
    let machine = Machine { report_version: LATER, ..provers_machine() };
    let (mut core, certificates) = fresh(machine);
    assert_eq!(start(&mut core, &good, PROVER, &certificates), Reply::Done);
    // What every version says is judged as ever; and before version 2 nothing is known.
    let lies: [fn(&mut ReportFields); 4] = [
        |fields| fields.policy |= 1 << 19,
        |fields| fields.host_data[0] ^= 1,
        |fields| fields.launch_tcb.0[7] -= 1,
        |fields| fields.version = 1,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let liar = SoftwarePsp::new(machine).tamper(lie);
        let certificates = liar.certificates();
        let reply = start(&mut Core::new(liar), &good, PROVER, &certificates);
        let refused = [Rejection::OwnEvidence, Rejection::Platform].map(Reply::Rejected);
        assert!(refused.contains(&reply), "{number}: {reply:?}");
    }
    // Bits that the later version has given a meaning are not reserved any more.
    let extended = SoftwarePsp::new(machine).tamper(|fields| {
        fields.flips.push((0x210, 0xFF));
        fields.platform_info |= 1 << 9;
    });
    assert_eq!(start(&mut Core::new(extended), &good, PROVER, &certificates), Reply::Done);
}

#[test]
fn new_firmware_takes_no_log_away_and_peers_accept_what_their_code_knows() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    cluster.run(1);
    cluster.node_mut(PROVER).machine.report_version = LATER;
    cluster.crash(PROVER, 1);
    cluster.run(3);
    // Its log is opened; but who has restarted must prove itself to others before they confirm where it stands.
    let waits = cluster.standing(PROVER);
    assert!(matches!(waits, Standing::Returning { acting: 0, wanted: 2, .. }), "{waits:?}");
    // It is not cut off, since anybody could bring such a report: what it has shown before still counts.
    let Reply::Status(status) = cluster.ask(VERIFIER, Request::Status) else { panic!("no status") };
    assert!(status.refused.is_empty());
    assert_eq!(admitted(&mut cluster, VERIFIER).len(), 3);
    // Nothing was lost by that: with reports that they know it is itself again.
    cluster.node_mut(PROVER).machine.report_version = 5;
    cluster.crash(PROVER, 2);
    cluster.run(3);
    assert_eq!(cluster.standing(PROVER), Standing::Acting);
}

#[test]
fn new_certificates_are_taken_only_if_they_still_satisfy_the_manifest() {
    let mut cluster = Cluster::launch(manifest(3, 2, 2), 5);
    let good = cluster.node(PROVER).certificates();
    let foreign = cluster.node(VERIFIER).certificates();
    assert_eq!(cluster.ask(PROVER, Request::Renew(foreign)), Reply::Rejected(Rejection::OwnEvidence));
    assert_eq!(cluster.ask(PROVER, Request::Renew(good)), Reply::Done);
    cluster.run(1);
    assert_eq!(admitted(&mut cluster, VERIFIER).len(), 3, "the refused ones are not handed on");
}
