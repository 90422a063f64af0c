//! Golden bytes of the report data: whoever changes them cuts new enclaves off from old ones.

use postern_attestation::{Binding, ReportData};

const BINDING: Binding<'_> =
    Binding { identity: b"identity", prover: 1, verifier: 0x0203, manifest_hash: [4; 32], nonce: [5; 32] };

#[test]
fn report_data_is_pinned() {
    // printf 'postern-report-data-v1\x08\0\0\0\0\0\0\0identity\x01\0\x03\x02' + 32 × 04 + 32 × 05, through
    // sha512sum.
    assert_eq!(BINDING.report_data().to_string(), GOLDEN);
}

const GOLDEN: &str = "37408ee73746a7f1c33ecd50fc2198185aedab362c48df9bcd67fdc7c85cac64dba37bad66e3e29521a16b9467ccc3f17b7520a8d733f5be525f7952ae32a844";

#[test]
fn every_part_counts() {
    let all: Vec<ReportData> = [
        BINDING,
        Binding { identity: b"identitz", ..BINDING },
        Binding { identity: b"identity\x01", ..BINDING },
        Binding { prover: 0x0203, verifier: 1, ..BINDING },
        Binding { prover: 2, ..BINDING },
        Binding { verifier: 3, ..BINDING },
        Binding { manifest_hash: [5; 32], ..BINDING },
        Binding { nonce: [4; 32], ..BINDING },
    ]
    .iter()
    .map(Binding::report_data)
    .collect();
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
}
