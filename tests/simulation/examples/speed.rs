//! How long evidence takes: `cargo run --release -p postern-simulation --example speed`.

use std::{hint::black_box, time::Instant};

use postern_attestation::{Expected, Measurement, ReportData, UnverifiedReport, VerifiedChain, verify};
use postern_enclave::platform::Platform;
use postern_simulation::{Machine, SoftwarePsp, trust_anchor};

fn main() {
    let first = Instant::now();
    black_box(SoftwarePsp::new(Machine::default()));
    println!("{:>10.1?}  first chip of the process (reads the intermediate's key)", first.elapsed());

    let data = ReportData([1; 64]);
    let mut seed = 0_u32;
    time("another chip (issues a chain)", 20, || {
        seed += 1;
        let mut chip_seed = [0; 32];
        chip_seed[..4].copy_from_slice(&seed.to_le_bytes());
        SoftwarePsp::new(Machine { chip_seed, ..Machine::default() })
    });
    time("a processor on a known chip", 10_000, || SoftwarePsp::new(Machine::default()));

    let mut psp = SoftwarePsp::new(Machine::default());
    time("a report", 500, || psp.report(&data).unwrap());

    let (report, chain, anchor) = (psp.report(&data).unwrap(), psp.certificate_chain(), trust_anchor());
    let measurements = [Measurement(psp.machine().measurement)];
    let expected = Expected {
        report_data: data,
        measurements: &measurements,
        host_data: [0; 32],
        chip_id: psp.chip_id(),
    };
    time("verify, cold", 200, || verify(&report, &chain, &anchor, &expected, None).unwrap());
    time("  of it the chain", 200, || VerifiedChain::verify(&chain, &anchor, None).unwrap());
    let verified = VerifiedChain::verify(&chain, &anchor, None).unwrap();
    time("verify under a kept chain", 500, || {
        let report = UnverifiedReport::parse(&report).unwrap();
        verified.authenticate(report).unwrap().accept(&expected).unwrap()
    });
}

fn time<T>(what: &str, times: u32, mut run: impl FnMut() -> T) {
    let start = Instant::now();
    for _ in 0..times {
        black_box(run());
    }
    println!("{:>10.1?}  {what}", start.elapsed() / times);
}
