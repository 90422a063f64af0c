//! Any bytes as a report: read or refused, never more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_attestation::{REPORT_LEN, UnverifiedReport};

fuzz_target!(|bytes: &[u8]| {
    match UnverifiedReport::parse(bytes) {
        Ok(report) => {
            assert_eq!(bytes.len(), REPORT_LEN);
            assert!(report.version >= 2 && report.is_known() == (report.version <= 5));
            // Everything that people see of it can be written.
            let _ = format!("{report:?} {} {}", report.policy, report.key_flags.signing_key());
            let tcbs = [report.reported_tcb, report.current_tcb, report.committed_tcb, report.launch_tcb];
            if let Some(product) = report.cpuid.and_then(|cpuid| cpuid.product()) {
                for tcb in tcbs {
                    // A TCB that can be read encodes to the very same bytes.
                    assert!(tcb.decode(product).is_none_or(|read| read.encode(product) == Some(tcb)));
                }
            }
        }
        Err(error) => drop(error.to_string()),
    }
});
