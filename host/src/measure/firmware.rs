//! What an OVMF image says about its own launch.
//!
//! 32 bytes before its end, the image has a table of entries that is read backwards: data, length of the whole entry, GUID.
//! The last entry is the table's footer, whose length is that of the table. Other entries say where the further processors
//! start, where hashes of a kernel belong, and where (counted from the end) the SEV metadata lie: the sections of guest
//! memory to prepare and measure. All of it is from EDK II, `OvmfPkg/ResetVector`.

use super::page_chain::PAGE;

/// No OVMF is nearly as big; a disk image given by mistake is.
pub(super) const MAX_IMAGE: usize = 64 << 20;
/// What sections may cover together, in bytes. OVMF asks for less than one MiB.
const MAX_SECTIONS: u64 = 256 << 20;
/// Bytes behind the table: the reset vector.
const RESET_VECTOR: usize = 32;
/// The image ends here.
const FOUR_GIB: u64 = 1 << 32;
const METADATA_SIGNATURE: &[u8; 4] = b"ASEV";
const METADATA_VERSION: u32 = 1;
/// Signature, size, version, number of sections.
const METADATA_HEADER: usize = 16;

const FOOTER: Guid = guid(0x96b582de_1fb2_45f7_baea_a366c55a082d);
const RESET_BLOCK: Guid = guid(0x00f771de_1a7e_4fcb_890e_68c77e2fb44e);
const HASH_TABLE: Guid = guid(0x7255371f_3a3b_4b04_927b_1da6efa8d454);
const METADATA: Guid = guid(0xdc886566_984a_4798_a75e_5585a7bf67cc);

/// A GUID as it lies in memory.
pub(super) type Guid = [u8; 16];

/// Puts a GUID, written as its digits, into memory order: the first three groups are little-endian.
pub(super) const fn guid(digits: u128) -> Guid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = digits.to_be_bytes();
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// Why a file is not a firmware image that can be measured.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// Not whole pages, none, or too many.
    #[error("expected whole pages of {PAGE} bytes and at most {MAX_IMAGE} bytes, found {found} bytes")]
    Size {
        /// The image's size.
        found: usize,
    },
    /// No table at the end: not OVMF, or one without SEV support.
    #[error("no OVMF table {RESET_VECTOR} bytes before the end: not an OVMF image, or cut off")]
    NoTable,
    /// The table's lengths contradict each other.
    #[error("the OVMF table is malformed {offset} bytes after its start")]
    Table {
        /// End of the entry that does not fit, counted from the table's start.
        offset: usize,
    },
    /// The table lacks an entry.
    #[error("the OVMF table has no entry for the {entry}: built without SEV-SNP support")]
    MissingEntry {
        /// What for.
        entry: &'static str,
    },
    /// Readers of the table would differ in which one they take.
    #[error("the OVMF table has more than one entry for the {entry}")]
    DuplicateEntry {
        /// What for.
        entry: &'static str,
    },
    /// An entry is too short for what it should say.
    #[error("the OVMF table's entry for the {entry} is too short: expected {expected} bytes, found {found}")]
    ShortEntry {
        /// What for.
        entry: &'static str,
        /// Bytes wanted.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Further processors would start at zero, which QEMU refuses.
    #[error("the start address of further processors is zero")]
    ResetAddress,
    /// The metadata are not inside the image.
    #[error("the SEV metadata, {from_end} bytes before the end, do not lie inside the image")]
    MetadataPlace {
        /// Where they should start, counted from the image's end.
        from_end: u32,
    },
    /// There are no metadata where they should be.
    #[error(
        "expected SEV metadata `ASEV` of version {METADATA_VERSION}, found {signature:02x?} of version {version}"
    )]
    MetadataFormat {
        /// The first four bytes.
        signature: [u8; 4],
        /// The version.
        version: u32,
    },
    /// The metadata's size and their number of sections contradict each other.
    #[error("the SEV metadata have {sections} sections, which do not fit in their {size} bytes")]
    MetadataSize {
        /// Number of sections.
        sections: u32,
        /// Size with header.
        size: u32,
    },
    /// A section of a kind that is not known: nobody can say how it is measured.
    #[error("section {index} of the SEV metadata is of the unknown kind {kind:#x}")]
    SectionKind {
        /// Which one, from 0.
        index: usize,
        /// Its kind.
        kind: u32,
    },
    /// A section that can't be: not whole pages, more than the one page of its kind, or no guest memory there.
    #[error("section {index} of the SEV metadata, {size:#x} bytes at {address:#x}, can't be prepared")]
    SectionPlace {
        /// Which one, from 0.
        index: usize,
        /// Where it starts.
        address: u32,
        /// How long it is.
        size: u32,
    },
    /// The sections ask for an absurd amount of memory.
    #[error("the sections of the SEV metadata cover more than {MAX_SECTIONS} bytes")]
    Sections,
    /// Not a firmware that checks kernels: QEMU refuses to start a kernel with it.
    #[error(
        "the firmware has no SNP_KERNEL_HASHES section: it can't check a kernel. Use an AmdSev build of OVMF"
    )]
    NoKernelHashes,
    /// The table of hashes does not fit where the firmware wants it.
    #[error("the hash table at {address:#x} ({size} bytes) does not fit in one SNP_KERNEL_HASHES page")]
    HashTable {
        /// Where the firmware wants it.
        address: u32,
        /// How much room there is.
        size: u32,
    },
}

/// How a section is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SectionKind {
    SecMemory,
    Secrets,
    Cpuid,
    SvsmCaa,
    KernelHashes,
}

impl SectionKind {
    fn parse(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::SecMemory,
            2 => Self::Secrets,
            3 => Self::Cpuid,
            4 => Self::SvsmCaa,
            0x10 => Self::KernelHashes,
            _ => return None,
        })
    }

    fn is_one_page(self) -> bool {
        matches!(self, Self::Secrets | Self::Cpuid | Self::KernelHashes)
    }
}

/// A part of guest memory that must be prepared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    pub(super) address: u32,
    /// Whole pages.
    pub(super) size: u32,
    pub(super) kind: SectionKind,
}

/// An OVMF image whose tables are sound.
#[derive(Debug, Clone)]
pub struct Firmware {
    image: Vec<u8>,
    reset_address: u32,
    sections: Vec<Section>,
    /// Address and size of the area for a kernel's hashes.
    hash_area: Option<(u32, u32)>,
}

impl Firmware {
    /// Reads the tables of an image.
    pub fn parse(image: Vec<u8>) -> Result<Self, FirmwareError> {
        if image.is_empty() || !image.len().is_multiple_of(PAGE) || image.len() > MAX_IMAGE {
            return Err(FirmwareError::Size { found: image.len() });
        }
        let table = Table::find(&image)?;
        let reset_address =
            table.required::<4>(&RESET_BLOCK, "SEV-ES reset block").map(u32::from_le_bytes)?;
        if reset_address == 0 {
            return Err(FirmwareError::ResetAddress);
        }
        let from_end = table.required::<4>(&METADATA, "SEV metadata").map(u32::from_le_bytes)?;
        let sections = sections(&image, from_end)?;
        let hash_area = table.optional::<8>(&HASH_TABLE, "kernel hashes")?.map(|area| {
            let area = u64::from_le_bytes(area);
            (area as u32, (area >> 32) as u32)
        });
        Ok(Self { image, reset_address, sections, hash_area })
    }

    /// The whole image.
    pub(super) fn image(&self) -> &[u8] {
        &self.image
    }

    /// Where in guest memory the image starts.
    pub(super) fn address(&self) -> u64 {
        FOUR_GIB - self.image.len() as u64
    }

    /// Where all vCPUs but the first start.
    pub(super) fn reset_address(&self) -> u32 {
        self.reset_address
    }

    /// What to prepare, in the order of the metadata, which is that of the measurement.
    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Where in memory it looks for the table of hashes, if it does.
    pub fn hash_table_address(&self) -> Option<u32> {
        Some(self.hash_area?.0)
    }

    /// Where in the page for hashes a table of `len` bytes goes.
    pub(super) fn hashes_offset(&self, len: usize) -> Result<usize, FirmwareError> {
        let mut pages = self.sections.iter().filter(|section| section.kind == SectionKind::KernelHashes);
        let (Some(page), Some((address, size))) = (pages.next(), self.hash_area) else {
            return Err(FirmwareError::NoKernelHashes);
        };
        let offset = address.checked_sub(page.address).map(|offset| offset as usize);
        match offset {
            Some(offset) if offset + len <= PAGE && len <= size as usize && pages.next().is_none() => {
                Ok(offset)
            }
            _ => Err(FirmwareError::HashTable { address, size }),
        }
    }
}

/// The table's entries.
struct Table<'a>(Vec<Entry<'a>>);

struct Entry<'a> {
    guid: Guid,
    data: &'a [u8],
}

impl<'a> Table<'a> {
    fn find(image: &'a [u8]) -> Result<Self, FirmwareError> {
        let end = image.len().saturating_sub(RESET_VECTOR);
        let before = image.get(..end).unwrap_or_default();
        if !before.ends_with(&FOOTER) {
            return Err(FirmwareError::NoTable);
        }
        let (_, Entry { data: mut rest, .. }) =
            split_last_entry(before).ok_or(FirmwareError::Table { offset: 0 })?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (before, entry) =
                split_last_entry(rest).ok_or(FirmwareError::Table { offset: rest.len() })?;
            entries.push(entry);
            rest = before;
        }
        Ok(Self(entries))
    }

    /// The first bytes of an entry's data.
    fn optional<const N: usize>(
        &self,
        guid: &Guid,
        entry: &'static str,
    ) -> Result<Option<[u8; N]>, FirmwareError> {
        let mut found = self.0.iter().filter(|entry| entry.guid == *guid);
        let Some(Entry { data, .. }) = found.next() else {
            return Ok(None);
        };
        if found.next().is_some() {
            return Err(FirmwareError::DuplicateEntry { entry });
        }
        let short = FirmwareError::ShortEntry { entry, expected: N, found: data.len() };
        data.first_chunk().copied().map(Some).ok_or(short)
    }

    fn required<const N: usize>(&self, guid: &Guid, entry: &'static str) -> Result<[u8; N], FirmwareError> {
        self.optional(guid, entry)?.ok_or(FirmwareError::MissingEntry { entry })
    }
}

/// Splits off the entry that ends where `bytes` end from what is before it.
fn split_last_entry(bytes: &[u8]) -> Option<(&[u8], Entry<'_>)> {
    let (body, guid) = bytes.split_last_chunk::<16>()?;
    let (body, length) = body.split_last_chunk::<2>()?;
    let start = bytes.len().checked_sub(usize::from(u16::from_le_bytes(*length)))?;
    let (before, data) = body.split_at_checked(start)?;
    Some((before, Entry { guid: *guid, data }))
}

/// The sections that the metadata list.
fn sections(image: &[u8], from_end: u32) -> Result<Vec<Section>, FirmwareError> {
    let place = FirmwareError::MetadataPlace { from_end };
    let start = image.len().checked_sub(from_end as usize).ok_or(place)?;
    let metadata = image.get(start..).unwrap_or_default();
    let (signature, fields) = metadata.split_first_chunk::<4>().ok_or(place)?;
    let [size, version, count] = words(fields.first_chunk().ok_or(place)?);
    if signature != METADATA_SIGNATURE || version != METADATA_VERSION {
        return Err(FirmwareError::MetadataFormat { signature: *signature, version });
    }
    let table = metadata.get(..size as usize).ok_or(place)?.get(METADATA_HEADER..).unwrap_or_default();
    let (listed, _) = table.as_chunks();
    let listed = listed.get(..count as usize).ok_or(FirmwareError::MetadataSize { sections: count, size })?;

    let below_image = FOUR_GIB - image.len() as u64;
    let mut total = 0;
    let mut sections = Vec::with_capacity(listed.len());
    for (index, [address, size, kind]) in listed.iter().map(words).enumerate() {
        let kind = SectionKind::parse(kind).ok_or(FirmwareError::SectionKind { index, kind })?;
        let whole_pages = address.is_multiple_of(PAGE as u32) && size.is_multiple_of(PAGE as u32) && size > 0;
        let end = u64::from(address) + u64::from(size);
        if !whole_pages || end > below_image || (kind.is_one_page() && size as usize != PAGE) {
            return Err(FirmwareError::SectionPlace { index, address, size });
        }
        total += u64::from(size);
        if total > MAX_SECTIONS {
            return Err(FirmwareError::Sections);
        }
        sections.push(Section { address, size, kind });
    }
    Ok(sections)
}

/// Three little-endian numbers.
fn words(bytes: &[u8; 12]) -> [u32; 3] {
    std::array::from_fn(|index| {
        let start = index * 4;
        u32::from_le_bytes([bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3]])
    })
}
