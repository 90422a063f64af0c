//! The software secure processor.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use p384::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use postern_attestation::{ReportData, SIGNED_LEN, TrustAnchor};
use postern_enclave::platform::{DerivedKey, KeyRequest, Platform, PlatformError};
use postern_shared::{message::Certificates, snp::RawTcb};
use sha2::{Digest, Sha384};

use crate::{
    derived_key::{self, KeyAnswer},
    fields::ReportFields,
    keys,
    machine::Machine,
    randomness::Randomness,
    vcek::Vcek,
};

/// A secure processor in software: the same interface, the same formats, NO SECURITY.
pub struct SoftwarePsp {
    machine: Machine,
    endorsed: Arc<Endorsed>,
    anchor: TrustAnchor,
    randomness: Randomness,
    tamper: Option<Box<Tamper>>,
    refusal: Option<u64>,
    key_answer: KeyAnswer,
    lost: bool,
}

/// Changes a report before it is signed.
type Tamper = dyn FnMut(&mut ReportFields) + Send;

impl SoftwarePsp {
    /// The processor of `machine`, with the operating system's randomness.
    ///
    /// # Panics
    ///
    /// If the machine's CPUID is of no known product line, or its TCB not one of that line.
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            endorsed: Endorsed::of(&machine),
            anchor: keys::trust_anchor(),
            randomness: Randomness::System,
            tamper: None,
            refusal: None,
            key_answer: KeyAnswer::Honest,
            lost: false,
        }
    }

    /// The same with deterministic randomness.
    pub fn seeded(self, seed: [u8; 32]) -> Self {
        Self { randomness: Randomness::Seeded { seed, blocks: 0 }, ..self }
    }

    /// The machine that this is the processor of.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The chip's id, as in reports.
    pub fn chip_id(&self) -> [u8; 64] {
        self.machine.chip_id()
    }

    /// The chain for the chip at its TCB: what a host would fetch from AMD.
    pub fn certificates(&self) -> Certificates {
        self.endorsed.certificates.clone()
    }

    /// The leaf's content, to make a wrong one of it.
    pub fn vcek(&self) -> Vcek {
        Vcek::honest(&self.machine, public_key(&self.endorsed.key))
    }

    /// The chain with another leaf.
    pub fn certificates_with(&self, vcek: &Vcek) -> Certificates {
        Certificates { leaf: vcek.issue(), ..self.certificates() }
    }

    /// From now on changes every report before it is signed: a host's lie that the firmware would certify.
    pub fn tamper(mut self, change: impl FnMut(&mut ReportFields) + Send + 'static) -> Self {
        self.tamper = Some(Box::new(change));
        self
    }

    /// From now on gives no reports but this firmware status, or with none gives them again.
    pub fn refuse_reports(&mut self, status: Option<u64>) {
        self.refusal = status;
    }

    /// From now on the guest has no way to it.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// From now on answers requests for keys like this.
    pub fn answer_keys(&mut self, answer: KeyAnswer) {
        self.key_answer = answer;
    }

    /// Signs any fields with the chip's key.
    pub fn sign(&self, fields: &ReportFields) -> Vec<u8> {
        let mut report = fields.encode();
        let digest = Sha384::digest(&report[..SIGNED_LEN]);
        let signature: Signature =
            self.endorsed.key.sign_prehash(&digest).expect("a SHA-384 digest can be signed");
        let (r, s) = signature.split_bytes();
        fields.complete(&mut report, &r, &s);
        report.to_vec()
    }
}

impl Platform for SoftwarePsp {
    fn report(&mut self, data: &ReportData) -> Result<Vec<u8>, PlatformError> {
        if self.lost {
            return Err(PlatformError::Unreachable);
        }
        if let Some(status) = self.refusal {
            return Err(PlatformError::Report { status });
        }
        let mut fields = ReportFields::honest(&self.machine, data);
        if let Some(tamper) = &mut self.tamper {
            tamper(&mut fields);
        }
        Ok(self.sign(&fields))
    }

    fn derive_key(&mut self, request: &KeyRequest) -> Result<DerivedKey, PlatformError> {
        derived_key::derive(&self.machine, request, self.key_answer)
    }

    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), PlatformError> {
        self.randomness.fill(out)
    }

    fn trust_anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    fn is_lost(&self) -> bool {
        self.lost
    }
}

impl fmt::Debug for SoftwarePsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwarePsp")
            .field("machine", &self.machine)
            .field("tampered", &self.tamper.is_some())
            .field("refusal", &self.refusal)
            .field("key_answer", &self.key_answer)
            .finish_non_exhaustive()
    }
}

/// The key of a chip at a TCB with its chain.
struct Endorsed {
    key: SigningKey,
    certificates: Certificates,
}

/// What makes a chip's key and certificate: seed, CPUID's product line by name, TCB.
type ChipKey = ([u8; 32], &'static str, RawTcb);

/// Chains that were issued in this process. Never emptied: about 5 KB for each chip and TCB.
static ISSUED: LazyLock<Mutex<HashMap<ChipKey, Arc<Endorsed>>>> = LazyLock::new(Mutex::default);

impl Endorsed {
    /// From the cache, or made now.
    fn of(machine: &Machine) -> Arc<Self> {
        let product = machine.product();
        let tcb = machine.tcb.encode(product).expect("the machine's TCB is one of its product line");
        let name = (machine.chip_seed, product.name(), tcb);
        if let Some(found) = ISSUED.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return Arc::clone(found);
        }
        // Made without the lock: two threads may make the same chain, and it will be the same.
        let key = derive(&name);
        let leaf = Vcek::honest(machine, public_key(&key)).issue();
        let certificates = Certificates { ark: keys::ARK.to_vec(), ask: keys::ASK.to_vec(), leaf, crl: None };
        let made = Arc::new(Self { key, certificates });
        let mut issued = ISSUED.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(issued.entry(name).or_insert(made))
    }
}

/// A P-384 key from seed and TCB, as a real VCEK is one of chip secret and TCB.
fn derive((seed, product, tcb): &ChipKey) -> SigningKey {
    (0_u64..)
        .find_map(|attempt| {
            let candidate = Sha384::new()
                .chain_update(b"postern-simulation-vcek")
                .chain_update(seed)
                .chain_update(product)
                .chain_update(tcb.0)
                .chain_update(attempt.to_le_bytes())
                .finalize();
            SigningKey::from_slice(&candidate).ok()
        })
        .expect("almost every 384-bit number is a key")
}

fn public_key(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
}
