//! Security patch levels: the same eight bytes mean different things on different product lines.

use core::fmt;

use crate::product::Product;

/// A `TCB_VERSION` as it stands in a report, before the product line is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcbVersion {
    /// First mutable code of the secure processor: only Turin has it.
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
