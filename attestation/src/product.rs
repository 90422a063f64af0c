//! Which product line a processor belongs to.

use core::fmt;

/// A product line: it has its own root, its own TCB layout, its own form of hardware id.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

impl fmt::Display for Cpuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}/{:02x}/{}", self.family, self.model, self.stepping)
    }
}
