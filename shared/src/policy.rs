//! Which enclaves a DAO accepts: the `[attestation]` part of its manifest.
//!
//! The default is strict; whatever makes it laxer is a field of [`Relaxations`]. `attestation/POLICY.md` explains every
//! field in a line, and `postern-attestation` judges by it.

use crate::bytes::byte_newtype;
use crate::ids::{Digest, Measurement};
use crate::snp::{Cpuid, FirmwareVersion, Product, TcbVersion};
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Most entries of any list of the rules.
pub const MAX_ENTRIES: usize = 64;

byte_newtype!(
    /// SHA-384 of an ID block's signing key, or of its author's, as in a report.
    KeyDigest, 48
);

/// By whom and over what an enclave's report must speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestationRules {
    /// Whose root signs the reports.
    pub trust: Trust,
    /// The enclave images that may take part.
    pub measurements: Vec<AllowedMeasurement>,
    /// Product lines that may take part.
    #[serde(default = "default_products")]
    pub products: Vec<Product>,
    /// Floors that are higher than the built-in ones, or for silicon that has none.
    #[serde(default)]
    pub floors: Vec<Floor>,
    /// What the guest policy must say besides what it always must.
    #[serde(default)]
    pub guest_policy: GuestPolicyRules,
    /// What the platform must say of itself besides what it always must.
    #[serde(default)]
    pub platform: PlatformRules,
    /// Lowest security version of the guest, from its ID block.
    #[serde(default)]
    pub guest_svn: u32,
    /// SHA-384 of keys that may sign ID blocks. With none listed, a guest must have been launched without an ID block.
    #[serde(default)]
    pub id_keys: Vec<KeyDigest>,
    /// SHA-384 of keys that may certify ID keys. With none listed, an ID key must have no author.
    #[serde(default)]
    pub author_keys: Vec<KeyDigest>,
    /// Whether AMD's revocation list must come with evidence.
    #[serde(default)]
    pub revocation: Revocation,
    /// When these rules were written, in unix seconds: an enclave has no clock, but knows that it is not earlier.
    /// Certificates and revocation lists that had expired by then are refused.
    #[serde(default)]
    pub not_before: u64,
    /// What is not strict.
    #[serde(default)]
    pub relax: Relaxations,
}

/// Whose root signs reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// AMD's, pinned in the code.
    Amd,
    /// A software secure processor's, by the SHA-256 of its root certificate. It protects nothing.
    Simulation {
        /// SHA-256 of the root certificate's DER form.
        root: Digest,
    },
}

/// An enclave image, and from which manifest epoch to which it may take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedMeasurement {
    /// What people call it, for example its version and the machine type.
    pub name: String,
    /// The launch digest.
    pub digest: Measurement,
    /// First epoch of the manifest in which it may take part.
    #[serde(default)]
    pub from_epoch: u64,
    /// Last epoch, if it is known.
    #[serde(default)]
    pub until_epoch: Option<u64>,
}

/// The least that a machine must be, for one kind of silicon: patch levels of different silicon can't be compared, not even
/// within a product line, and AMD numbers mitigations for each family by itself. A part that is not given changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The silicon.
    pub silicon: Cpuid,
    /// Security patch levels, component by component.
    #[serde(default)]
    pub tcb: Option<TcbVersion>,
    /// Lowest version of the SNP firmware: some repairs move only this.
    #[serde(default)]
    pub firmware: Option<FirmwareVersion>,
    /// Bits that must be set in the mitigation vectors, at launch and now.
    #[serde(default)]
    pub mitigations: Option<u64>,
    /// Bits that must be set in the platform information.
    #[serde(default)]
    pub platform: Option<u64>,
}

/// What a bit must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// It does not matter.
    #[default]
    Any,
    /// It must be set.
    Required,
    /// It must not be set.
    Forbidden,
}

/// Bits of the guest policy (56860, guest policy structure). Debugging, migration agents and CXL are always forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestPolicyRules {
    /// Bit 16: the guest may run with simultaneous multithreading.
    pub smt: Rule,
    /// Bit 20: the guest runs on one socket only.
    pub single_socket: Rule,
    /// Bit 22: memory is encrypted with AES-256 in XTS mode.
    pub mem_aes_256_xts: Rule,
    /// Bit 23: power measurement (RAPL) must be off.
    pub rapl_dis: Rule,
    /// Bit 24: the host can't read ciphertext of the guest's memory.
    pub ciphertext_hiding: Rule,
    /// Bit 25: the guest's pages can't be swapped or moved.
    pub page_swap_disable: Rule,
    /// Lowest major and minor ABI version that the guest demands (bits 15:0).
    pub abi: (u8, u8),
}

/// Bits of the platform information (56860, `PLATFORM_INFO`). The memory alias check is always required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlatformRules {
    /// Bit 0: simultaneous multithreading is on.
    pub smt: Rule,
    /// Bit 1: transparent memory encryption is on.
    pub tsme: Rule,
    /// Bit 2: memory has error correction.
    pub ecc: Rule,
    /// Bit 3: power measurement (RAPL) is off.
    pub rapl_disabled: Rule,
    /// Bit 4: ciphertext hiding is on.
    pub ciphertext_hiding: Rule,
    /// Bit 6: the IOMMU can't write to guest memory.
    pub iommu_write_safe: Rule,
    /// Bit 7: trusted I/O is on.
    pub tio: Rule,
}

/// Whether AMD's revocation list must come with evidence. One that comes is always obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// It may.
    #[default]
    WhenSupplied,
    /// It must.
    Required,
}

/// What a DAO may give up, each by its name. All off by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relaxations {
    /// Accept reports that hide their chip's identity, of members without `chip_ids` too: those then no longer show on
    /// whose machine they run. Where a member lists chips, the certificate must still name one of them.
    pub masked_chip_id: bool,
    /// Accept keys that AMD lends to these cloud providers (VLEK), by their `CSP_ID`, of members without `chip_ids` too:
    /// such a key works on any of the provider's chips. No other chip's key is accepted for that.
    pub vlek_providers: Vec<String>,
    /// Accept firmware that is not committed: the host can go back to an older one.
    pub provisional_firmware: bool,
    /// Accept machines that have not completed the memory alias check (BadRAM, AMD-SB-3015).
    pub missing_alias_check: bool,
    /// Platform information bits that this version does not know and accepts nevertheless.
    pub unknown_platform_bits: u64,
    /// Floors of which each part that is given replaces what else would hold, lower or not; the other parts stay.
    pub floors: Vec<Floor>,
}

impl Floor {
    /// Bits of the platform information that have a meaning, and that a floor may ask for.
    pub const PLATFORM_BITS: u64 = 0xFF;

    /// A floor that asks for nothing yet.
    pub const fn of(silicon: Cpuid) -> Self {
        Self { silicon, tcb: None, firmware: None, mitigations: None, platform: None }
    }

    /// Checks it by itself; names the part and what is wrong with it.
    fn validate(&self) -> Result<(), (&'static str, String)> {
        let Self { silicon, tcb, firmware, mitigations, platform } = *self;
        let Some(product) = silicon.product() else {
            return Err(("silicon", format!("{silicon} is of no known product line")));
        };
        if tcb.is_some_and(|tcb| tcb.encode(product).is_none()) {
            return Err(("tcb.fmc", format!("{product} has none, or lacks it")));
        }
        if let Some(bits) = platform.filter(|bits| bits & !Self::PLATFORM_BITS != 0) {
            return Err(("platform", format!("{bits:#x} has bits without a meaning")));
        }
        if (tcb, firmware, mitigations, platform) == (None, None, None, None) {
            return Err((
                "tcb",
                "a floor that says nothing: tcb, firmware, mitigations or platform wanted".into(),
            ));
        }
        Ok(())
    }
}

fn default_products() -> Vec<Product> {
    // Not Milan: its root seed was extracted by software (arXiv 2605.12990), and no firmware takes that back.
    [Product::Genoa, Product::Turin].into()
}

impl AllowedMeasurement {
    /// An image that may take part in every epoch.
    pub fn new(name: impl Into<String>, digest: Measurement) -> Self {
        Self { name: name.into(), digest, from_epoch: 0, until_epoch: None }
    }
}

impl AttestationRules {
    /// The strictest rules there are without knowing the DAO: nothing relaxed, no measurement.
    pub fn strict(trust: Trust) -> Self {
        Self {
            trust,
            measurements: Vec::new(),
            products: default_products(),
            floors: Vec::new(),
            guest_policy: GuestPolicyRules::default(),
            platform: PlatformRules::default(),
            guest_svn: 0,
            id_keys: Vec::new(),
            author_keys: Vec::new(),
            revocation: Revocation::default(),
            not_before: 0,
            relax: Relaxations::default(),
        }
    }

    /// The images that may take part in an epoch.
    pub fn measurements_at(&self, epoch: u64) -> impl Iterator<Item = &AllowedMeasurement> {
        self.measurements.iter().filter(move |listed| {
            listed.from_epoch <= epoch && listed.until_epoch.is_none_or(|last| epoch <= last)
        })
    }

    /// Whether an image that may take part in an epoch may take over from another: one that is as old or older.
    pub fn is_upgrade(&self, from: Measurement, to: Measurement, epoch: u64) -> bool {
        let first = |digest| self.measurements_at(epoch).find(|listed| listed.digest == digest);
        match (first(from), first(to)) {
            (Some(from), Some(to)) => from.digest != to.digest && from.from_epoch <= to.from_epoch,
            _ => false,
        }
    }

    /// Whether members need not name their chips: with keys that belong to no chip, or chips that hide.
    pub fn chips_may_hide(&self) -> bool {
        self.relax.masked_chip_id || !self.relax.vlek_providers.is_empty()
    }

    /// Checks what can be checked by itself; names the field and what is wrong with it.
    pub(crate) fn validate(&self, epoch: u64) -> Result<(), (String, String)> {
        let field = |name: &str, reason: String| Err((format!("attestation.{name}"), reason));
        let lists = [
            ("measurements", self.measurements.len(), 1),
            ("products", self.products.len(), 1),
            ("floors", self.floors.len(), 0),
            ("id_keys", self.id_keys.len(), 0),
            ("author_keys", self.author_keys.len(), 0),
            ("relax.vlek_providers", self.relax.vlek_providers.len(), 0),
            ("relax.floors", self.relax.floors.len(), 0),
        ];
        for (name, found, least) in lists {
            if !(least..=MAX_ENTRIES).contains(&found) {
                return field(name, format!("{least} to {MAX_ENTRIES} wanted, {found} found"));
            }
        }
        for (position, listed) in self.measurements.iter().enumerate() {
            let at = |part: &str| format!("measurements[{position}].{part}");
            crate::manifest::check_name(&listed.name).map_err(|reason| (at("name"), reason))?;
            let mut earlier = self.measurements.iter().take(position);
            if earlier.any(|other| other.name == listed.name || other.digest == listed.digest) {
                return field(&at("name"), "another measurement has the same name or digest".into());
            }
            if listed.until_epoch.is_some_and(|last| last < listed.from_epoch) {
                return field(&at("until_epoch"), "before from_epoch".into());
            }
        }
        if self.measurements_at(epoch).next().is_none() {
            return field("measurements", format!("none may take part in epoch {epoch}"));
        }
        for (name, floors) in [("floors", &self.floors), ("relax.floors", &self.relax.floors)] {
            for (position, floor) in floors.iter().enumerate() {
                let at = |part: &str| format!("{name}[{position}].{part}");
                floor.validate().or_else(|(part, reason)| field(&at(part), reason))?;
                if floors.iter().take(position).any(|other| other.silicon == floor.silicon) {
                    return field(&at("silicon"), "another floor is for the same".into());
                }
            }
        }
        // A list is required because of what it names. Without a date, one from before that would do.
        if self.revocation == Revocation::Required && self.not_before == 0 {
            return field(
                "not_before",
                "a date is needed where revocation is required: else any old list would do".into(),
            );
        }
        if !self.author_keys.is_empty() && self.id_keys.is_empty() {
            return field("author_keys", "without id_keys".into());
        }
        Ok(())
    }
}
