//! No bit of a valid report, nor of its certificates, can be another.
//!
//! Nothing is exempt: what no signature covers (the bytes behind the signed part of a report, the root's signature over
//! itself) is held to zero or compared with what is pinned.

mod common;

use common::{NOW, named, of_their_time};
use postern_attestation::{Time, TrustAnchor, Verifier};
use postern_shared::message::Evidence;

type Part = fn(&mut Evidence) -> &mut Vec<u8>;

const PARTS: [(&str, Part); 4] = [
    ("report", |evidence| &mut evidence.report),
    ("ARK", |evidence| &mut evidence.certificates.ark),
    ("ASK", |evidence| &mut evidence.certificates.ask),
    ("leaf", |evidence| &mut evidence.certificates.leaf),
];

/// Flips bits of each part of both samples that the rules of their time accept; gives how many.
fn flip(bits: impl Fn(usize) -> Vec<u32> + Sync) -> usize {
    let work = |name: &str| {
        let good = named(name).evidence();
        let mut flipped = 0;
        for (part_name, part) in PARTS {
            let mut evidence = good.clone();
            // A verifier of its own for each part: it remembers chains, and must not take another for one of them.
            let mut verifier = Verifier::new(TrustAnchor::amd(), of_their_time(), Time::At(NOW));
            let mut accepts = |evidence: &Evidence| verifier.appraise(evidence, None, None).is_clean();
            assert!(accepts(&good), "{name}");
            for index in 0..part(&mut evidence).len() {
                for bit in bits(index) {
                    part(&mut evidence)[index] ^= 1 << bit;
                    assert!(!accepts(&evidence), "{name}: bit {bit} of byte {index:#x} of the {part_name}");
                    part(&mut evidence)[index] ^= 1 << bit;
                    flipped += 1;
                }
            }
            assert!(accepts(&good), "{name}: what it refused has left no trace");
        }
        flipped
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| work("confai-siena"));
        work("msft-tav-turin") + other.join().expect("no panic")
    })
}

#[test]
fn no_byte_can_be_another() {
    // One bit of every third byte, another bit each time; the report's every byte is among the ignored test's.
    let flipped = flip(|index| if index % 3 == 0 { vec![(index as u32 / 3) % 8] } else { vec![] });
    assert!(flipped > 3_000, "{flipped}");
}

#[test]
#[ignore = "every bit: minutes"]
fn no_bit_can_be_another() {
    let flipped = flip(|_| (0..8).collect());
    println!("{flipped} bits flipped, each refused");
    assert!(flipped > 90_000, "{flipped}");
}
