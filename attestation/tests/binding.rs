//! Golden bytes of the report data: whoever changes them cuts new enclaves off from old ones.

use postern_attestation::{Binding, ReportData};
use postern_shared::bls::PublicKey;
use postern_shared::identity::{AgreementKey, Identity, SigningKey};
use postern_shared::ids::{Address, ManifestHash, MemberId, Nonce};

const fn identity(member: u16) -> Identity {
    Identity {
        member: MemberId(member),
        machine: 7,
        signing: SigningKey([1; 32]),
        agreement: AgreementKey([2; 32]),
        dealing: PublicKey([3; 48]),
        signer: Address([8; 20]),
    }
}

const PROVER: Identity = identity(1);
const VERIFIER: Identity = identity(2);
const BINDING: Binding<'_> = Binding {
    manifest: ManifestHash([4; 32]),
    prover: &PROVER,
    verifier: Some(&VERIFIER),
    challenge: Nonce([5; 32]),
    response: Nonce([6; 32]),
};

#[test]
fn report_data_is_pinned() {
    // python3 -c "import hashlib;p=lambda b:len(b).to_bytes(8,'little')+b;i=lambda n:bytes([n,7])+b'\1'*32+b'\2'*32+b'\3'*48+b'\x08'*20;
    // print(hashlib.sha512(b''.join(map(p,[b'postern-report-data-v1',b'\4'*32,b'prover',i(1),b'\6'*32,b'verifier',i(2),
    // b'\5'*32]))).hexdigest())"
    assert_eq!(BINDING.report_data().to_string(), GOLDEN);
}

const GOLDEN: &str = "1534e3154c60a979defa634e031e37e1c9ea5749d02f542e661a695a41bbe9fafca317469020c6ff438234b31c5522268e735003ed58b5f04880c80fe1cbc9dc";

#[test]
fn every_part_counts_and_in_its_role() {
    let all: Vec<ReportData> = [
        BINDING,
        Binding { manifest: ManifestHash([5; 32]), ..BINDING },
        Binding { prover: &VERIFIER, ..BINDING },
        Binding { verifier: Some(&PROVER), ..BINDING },
        Binding { prover: &VERIFIER, verifier: Some(&PROVER), ..BINDING },
        Binding { verifier: None, ..BINDING },
        Binding { challenge: Nonce([6; 32]), ..BINDING },
        Binding { response: Nonce([5; 32]), ..BINDING },
        Binding { challenge: Nonce([6; 32]), response: Nonce([5; 32]), ..BINDING },
        Binding { prover: &Identity { machine: 8, ..PROVER }, ..BINDING },
        Binding { prover: &Identity { signing: SigningKey([9; 32]), ..PROVER }, ..BINDING },
        Binding { prover: &Identity { agreement: AgreementKey([9; 32]), ..PROVER }, ..BINDING },
        Binding { prover: &Identity { dealing: PublicKey([9; 48]), ..PROVER }, ..BINDING },
        Binding { prover: &Identity { signer: Address([9; 20]), ..PROVER }, ..BINDING },
        Binding { verifier: Some(&Identity { machine: 8, ..VERIFIER }), ..BINDING },
        Binding { verifier: Some(&Identity { signing: SigningKey([9; 32]), ..VERIFIER }), ..BINDING },
    ]
    .iter()
    .map(Binding::report_data)
    .collect();
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
}
