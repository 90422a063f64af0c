//! AMD's words: product lines, silicon, security patch levels, firmware versions.
//!
//! In comments, 56860 is AMD's publication on the SEV-SNP firmware ABI, 57230 that on VCEK certificates and KDS.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A product line: it has its own root, its own TCB layout, its own form of hardware id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Product {
    /// Zen 3: Milan, Milan-X.
    Milan,
    /// Zen 4: Genoa, Genoa-X, Bergamo, Siena.
    Genoa,
    /// Zen 5.
    Turin,
}

impl Product {
    /// AMD's name of the line, as in the certificates.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// How many bytes of `CHIP_ID` identify the chip; the rest is zero (57230, table of VCEK extensions).
    pub const fn hardware_id_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }

    /// The version that a VCEK of this line gives for the structure of its own extensions.
    pub const fn struct_version(self) -> u8 {
        match self {
            Self::Milan | Self::Genoa => 0,
            Self::Turin => 1,
        }
    }

    /// The line that a VCEK's product name belongs to: `Milan-B0` carries a stepping, `Genoa` sometimes none.
    pub fn from_certificate_name(name: &str) -> Option<Self> {
        let line = name.split_once('-').map_or(name, |(line, _)| line);
        [Self::Milan, Self::Genoa, Self::Turin].into_iter().find(|product| product.name() == line)
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the processor says of itself: combined family, combined model, stepping (56860, report from version 3
/// on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpuid {
    /// Combined family: 0x19 is Zen 3 and Zen 4, 0x1A is Zen 5.
    pub family: u8,
    /// Combined model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

impl Cpuid {
    /// The product line of this silicon, none if we don't know it: an unknown TCB layout must be refused, not
    /// guessed.
    pub const fn product(self) -> Option<Product> {
        match (self.family, self.model) {
            (0x19, 0x00..=0x0F) => Some(Product::Milan),
            (0x19, 0x10..=0x1F | 0xA0..=0xAF) => Some(Product::Genoa),
            (0x1A, 0x00..=0x11) => Some(Product::Turin),
            _ => None,
        }
    }

    /// AMD's name of a line that we know of and don't support. Venice's TCB has another layout than those above: it is
    /// called by its own name, and shown in nobody else's layout.
    pub const fn unsupported_line(self) -> Option<&'static str> {
        match (self.family, self.model) {
            (0x1A, 0x50..=0x57 | 0x90..=0xAF | 0xC0..=0xC7) => Some("Venice"),
            _ => None,
        }
    }
}

impl fmt::Display for Cpuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}/{:02x}/{}", self.family, self.model, self.stepping)
    }
}

/// A `TCB_VERSION` as it stands in a report, before the product line is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawTcb(pub [u8; 8]);

impl RawTcb {
    /// Reads the components by the layout of `product`; none if a reserved byte is set.
    pub fn decode(self, product: Product) -> Option<TcbVersion> {
        let [b0, b1, b2, b3, b4, b5, b6, microcode] = self.0;
        let (reserved, version) = match product {
            Product::Milan | Product::Genoa => {
                ([b2, b3, b4, b5], TcbVersion { fmc: None, bootloader: b0, tee: b1, snp: b6, microcode })
            }
            Product::Turin => {
                ([b4, b5, b6, 0], TcbVersion { fmc: Some(b0), bootloader: b1, tee: b2, snp: b3, microcode })
            }
        };
        (reserved == [0; 4]).then_some(version)
    }
}

impl fmt::Display for RawTcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", u64::from_le_bytes(self.0))
    }
}

/// Security patch levels, component by component.
///
/// There is no order on purpose: a floor is a floor on every component, and comparing tuples or the `u64`
/// would let a new bootloader excuse old microcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbVersion {
    /// First mutable code of the secure processor: only Turin has it.
    #[serde(default)]
    pub fmc: Option<u8>,
    /// Bootloader of the secure processor.
    pub bootloader: u8,
    /// Operating system of the secure processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores.
    pub microcode: u8,
}

impl TcbVersion {
    /// The components by their names, in the order in which they are written.
    pub const fn components(&self) -> [(&'static str, Option<u8>); 5] {
        [
            ("FMC", self.fmc),
            ("bootloader", Some(self.bootloader)),
            ("TEE", Some(self.tee)),
            ("SNP", Some(self.snp)),
            ("microcode", Some(self.microcode)),
        ]
    }

    /// Each component that is below that of `floor`: its name, what it is, what it should be. A component that only one
    /// of the two has is below.
    pub fn below(
        &self,
        floor: &Self,
    ) -> impl Iterator<Item = (&'static str, Option<u8>, Option<u8>)> + use<> {
        self.components()
            .into_iter()
            .zip(floor.components())
            .map(|((name, found), (_, least))| (name, found, least))
            .filter(|(_, found, least)| match (found, least) {
                (Some(found), Some(least)) => found < least,
                (None, None) => false,
                _ => true,
            })
    }

    /// Whether every component is at least that of `floor`.
    pub fn reaches(&self, floor: &Self) -> bool {
        self.below(floor).next().is_none()
    }

    /// The higher of both, component by component.
    pub fn raised_to(&self, other: &Self) -> Self {
        Self {
            fmc: self.fmc.max(other.fmc),
            bootloader: self.bootloader.max(other.bootloader),
            tee: self.tee.max(other.tee),
            snp: self.snp.max(other.snp),
            microcode: self.microcode.max(other.microcode),
        }
    }

    /// The eight bytes of a report; none if `product` has no such components.
    pub fn encode(&self, product: Product) -> Option<RawTcb> {
        let Self { fmc, bootloader, tee, snp, microcode } = *self;
        match (product, fmc) {
            (Product::Milan | Product::Genoa, None) => {
                Some(RawTcb([bootloader, tee, 0, 0, 0, 0, snp, microcode]))
            }
            (Product::Turin, Some(fmc)) => Some(RawTcb([fmc, bootloader, tee, snp, 0, 0, 0, microcode])),
            _ => None,
        }
    }
}

impl fmt::Display for TcbVersion {
    /// `[fmc/]bootloader/tee/snp/microcode`, decimal as in KDS addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "{fmc}/")?;
        }
        write!(f, "{}/{}/{}/{}", self.bootloader, self.tee, self.snp, self.microcode)
    }
}

/// A version of the SNP firmware. Ordered: a later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareVersion {
    /// Major version of the ABI.
    pub major: u8,
    /// Minor version of the ABI.
    pub minor: u8,
    /// Build number.
    pub build: u8,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}
