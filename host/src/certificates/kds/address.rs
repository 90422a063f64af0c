//! Where things are at KDS (57230, chapter on the KDS interface).

use postern_shared::snp::{Product, TcbVersion};
use std::fmt;

/// Which key endorses reports: a chip's own, or one that a provider was given for its chips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndorsementKey {
    /// Versioned Chip Endorsement Key, under an ASK.
    Vcek,
    /// Versioned Loaded Endorsement Key, under an ASVK.
    Vlek,
}

impl EndorsementKey {
    /// As in addresses and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        }
    }

    /// What its issuer's files are called.
    pub const fn issuer_name(self) -> &'static str {
        match self {
            Self::Vcek => "ask",
            Self::Vlek => "asvk",
        }
    }

    /// Path of the chain: issuer and ARK, PEM.
    pub fn chain_path(self, product: Product) -> String {
        format!("{}/v1/{product}/cert_chain", self.name())
    }

    /// Path of the revocation list, DER.
    pub fn crl_path(self, product: Product) -> String {
        format!("{}/v1/{product}/crl", self.name())
    }
}

impl fmt::Display for EndorsementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        })
    }
}

/// Why there can be no such VCEK.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VcekIdError {
    /// The platform hides which chip it is (`MASK_CHIP_ID`).
    #[error("the chip id is masked (all zero): its owner must clear MASK_CHIP_ID")]
    Masked,
    /// Bytes that chips of this line don't have.
    #[error("a chip id of {product} has {expected} bytes and zeros after them; this one goes on")]
    ChipId {
        /// The line.
        product: Product,
        /// How many bytes its ids have.
        expected: usize,
    },
    /// Components that this line doesn't have, or lacks.
    #[error("{tcb} is no TCB of {product}: that line has {expected}")]
    Tcb {
        /// The line.
        product: Product,
        /// The components as given.
        tcb: TcbVersion,
        /// Which there must be.
        expected: &'static str,
    },
}

/// Names one VCEK: the key of one chip at one TCB, which never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VcekId {
    product: Product,
    /// Lower-case hexadecimal: 128 digits, 16 on Turin.
    hardware_id: String,
    tcb: TcbVersion,
}

impl VcekId {
    /// Names the key of a chip as reports identify it, at the TCB that they report.
    pub fn new(product: Product, chip_id: &[u8; 64], tcb: TcbVersion) -> Result<Self, VcekIdError> {
        if *chip_id == [0; 64] {
            return Err(VcekIdError::Masked);
        }
        let expected = product.hardware_id_len();
        let (id, rest) = chip_id.split_at_checked(expected).unwrap_or((chip_id, &[]));
        if id.iter().all(|byte| *byte == 0) || rest.iter().any(|byte| *byte != 0) {
            return Err(VcekIdError::ChipId { product, expected });
        }
        // A component too many or too few has no place in the eight bytes of a report.
        if tcb.encode(product).is_none() {
            let expected = match tcb.fmc {
                Some(_) => "bootloader/tee/snp/microcode",
                None => "fmc/bootloader/tee/snp/microcode",
            };
            return Err(VcekIdError::Tcb { product, tcb, expected });
        }
        Ok(Self { product, hardware_id: hex::encode(id), tcb })
    }

    /// The chip's line.
    pub fn product(&self) -> Product {
        self.product
    }

    /// Path and query of the certificate, DER. Levels are decimal, of two digits at least as `snpguest` writes them, so
    /// that mirrors which go by the letter find them.
    pub fn path(&self) -> String {
        let Self { product, hardware_id, tcb } = self;
        let TcbVersion { fmc, bootloader, tee, snp, microcode } = tcb;
        let fmc = fmc.map(|fmc| format!("fmcSPL={fmc:02}&")).unwrap_or_default();
        format!(
            "vcek/v1/{product}/{hardware_id}?{fmc}blSPL={bootloader:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={microcode:02}"
        )
    }

    /// A file name with all that the key depends on, but for the line.
    pub fn file_name(&self) -> String {
        // The TCB's own words, with every component: 1/3/2/5/97.
        format!("vcek-{}-{}.der", self.hardware_id, self.tcb.to_string().replace('/', "-"))
    }
}

impl fmt::Display for VcekId {
    /// With as much of the chip's id as people need to tell chips apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { product, hardware_id, tcb } = self;
        let start = hardware_id.get(..16).unwrap_or(hardware_id);
        write!(f, "the VCEK of {product} chip {start}… at TCB {tcb}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::vectors::{facts, tcb};
    use super::*;

    fn vcek(name: &str) -> VcekId {
        let facts = facts(name);
        VcekId::new(facts.product, &facts.chip_id, facts.reported_tcb).unwrap()
    }

    #[test]
    fn real_chips_have_the_addresses_that_kds_documents() {
        let cases = [
            (
                "dstack-milan",
                "vcek/v1/Milan/38d174589d2dff97a6d40cb9f9d90b9507c027491219083cef3ce73ed18f7289142d941ad61eabecd27d25f268c1095d665f6001358e98a4769c82734a6bb877?blSPL=04&teeSPL=00&snpSPL=23&ucodeSPL=213",
            ),
            (
                "msft-tav-genoa",
                "vcek/v1/Genoa/b1e24a27bbc3a4d58090d8b89851dce3b8031544be249b9ac17132bb222b027622347ee4d0fe4f689efdfc47a68cefc686cbb448d01436506ee1e28010cab7c0?blSPL=10&teeSPL=00&snpSPL=23&ucodeSPL=84",
            ),
            // Siena is sold under another name, and is Genoa to KDS.
            (
                "confai-siena",
                "vcek/v1/Genoa/b5f9a4c8280e63c97d288db6648577dc2b848884aa682d7a227ba40e50deb2b0d112b599d87aaccda78d06f4254b1e81c4d953ef3c699db39d4e06013e9fa4ce?blSPL=10&teeSPL=00&snpSPL=27&ucodeSPL=27",
            ),
            (
                "msft-tav-turin",
                "vcek/v1/Turin/59790fb1c39f35c1?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81",
            ),
        ];
        for (name, path) in cases {
            assert_eq!(vcek(name).path(), path);
        }
    }

    #[test]
    fn levels_are_decimal() {
        let id = VcekId::new(Product::Milan, &[0xfe; 64], tcb(None, [0, 9, 100, 255])).unwrap();
        let (_, query) =
            id.path().split_once('?').map(|(path, query)| (path.len(), query.to_owned())).unwrap();
        assert_eq!(query, "blSPL=00&teeSPL=09&snpSPL=100&ucodeSPL=255");
    }

    #[test]
    fn chains_and_lists_lie_beside_the_keys() {
        let (vcek, vlek) = (EndorsementKey::Vcek, EndorsementKey::Vlek);
        assert_eq!(vcek.chain_path(Product::Milan), "vcek/v1/Milan/cert_chain");
        assert_eq!(vlek.chain_path(Product::Turin), "vlek/v1/Turin/cert_chain");
        assert_eq!(vcek.crl_path(Product::Genoa), "vcek/v1/Genoa/crl");
        assert_eq!(vlek.crl_path(Product::Genoa), "vlek/v1/Genoa/crl");
    }

    #[test]
    fn a_file_name_holds_every_component() {
        assert_eq!(vcek("msft-tav-turin").file_name(), "vcek-59790fb1c39f35c1-1-1-1-4-81.der");
        let chip = facts("msft-tav-turin").chip_id;
        let turin = |fmc, parts| VcekId::new(Product::Turin, &chip, tcb(Some(fmc), parts)).unwrap();
        let reference = turin(1, [1, 1, 4, 81]);
        let others = [
            turin(2, [1, 1, 4, 81]),
            turin(1, [2, 1, 4, 81]),
            turin(1, [1, 2, 4, 81]),
            turin(1, [1, 1, 5, 81]),
            turin(1, [1, 1, 4, 82]),
        ];
        for other in others {
            assert_ne!(other.file_name(), reference.file_name());
            assert_ne!(other.path(), reference.path());
        }
        assert!(vcek("dstack-milan").file_name().len() < 255, "as long as file systems take");
    }

    #[test]
    fn what_can_be_no_vcek_is_refused() {
        let genoa_tcb = tcb(None, [10, 0, 27, 86]);
        let turin_tcb = tcb(Some(1), [1, 1, 4, 81]);
        let (genoa_chip, turin_chip) = (facts("msft-tav-genoa").chip_id, facts("msft-tav-turin").chip_id);
        for (product, tcb) in [(Product::Genoa, genoa_tcb), (Product::Turin, turin_tcb)] {
            assert_eq!(VcekId::new(product, &[0; 64], tcb), Err(VcekIdError::Masked));
        }
        let found = VcekId::new(Product::Turin, &genoa_chip, turin_tcb);
        assert_eq!(found, Err(VcekIdError::ChipId { product: Product::Turin, expected: 8 }));
        let mut tail_only = [0; 64];
        tail_only[63] = 1;
        let found = VcekId::new(Product::Turin, &tail_only, turin_tcb);
        assert_eq!(found, Err(VcekIdError::ChipId { product: Product::Turin, expected: 8 }));

        for (product, chip, tcb) in
            [(Product::Turin, turin_chip, genoa_tcb), (Product::Genoa, genoa_chip, turin_tcb)]
        {
            let error = VcekId::new(product, &chip, tcb).unwrap_err();
            assert!(matches!(error, VcekIdError::Tcb { .. }), "{error}");
        }
        let error = VcekId::new(Product::Turin, &turin_chip, genoa_tcb).unwrap_err().to_string();
        let expected = "10/0/27/86 is no TCB of Turin: that line has fmc/bootloader/tee/snp/microcode";
        assert_eq!(error, expected);
    }
}
