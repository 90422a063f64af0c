//! Any bytes as what strangers send: manifests and their epochs, requests, messages. What decodes encodes to the very same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_shared::codec;
use postern_shared::epoch::SignedEpoch;
use postern_shared::manifest::Manifest;
use postern_shared::message::{Attestation, PeerMessage};
use postern_shared::wire::Request;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::from_canonical(bytes) {
        assert_eq!(manifest.to_canonical(), bytes);
    }
    if let Ok(epoch) = SignedEpoch::from_bytes(bytes) {
        assert_eq!(epoch.to_bytes(), bytes);
    }
    if let Ok(request) = codec::decode::<Request>(bytes) {
        assert_eq!(codec::encode(&request), bytes);
    }
    if let Ok(message) = codec::decode::<PeerMessage>(bytes) {
        assert_eq!(codec::encode(&message), bytes);
    }
    if let Ok(attestation) = codec::decode::<Attestation>(bytes) {
        assert_eq!(codec::encode(&attestation), bytes);
    }
});
