//! The certificate table of an extended report: what a hypervisor's administrator gave it for its guests.
//!
//! AMD's GHCB specification (56421, `SNP Extended Guest Request`): entries of 24 bytes, each a GUID, an offset and a
//! length (`u32`, little-endian), up to an entry whose GUID is zero; the contents lie behind them. All of it is written
//! by a stranger. Known readers followed offsets out of the buffer, or let a table of 1 MiB claim 46 GiB through entries
//! that overlap.

/// Most entries that are read. The specification knows five kinds.
const MAX_ENTRIES: usize = 8;
/// Bytes of an entry.
const ENTRY: usize = 24;

type Guid = [u8; 16];

/// GUIDs of the specification, in the order in which they are written.
const ARK: Guid = guid(0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae);
const ASK: Guid = guid(0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782);
const VCEK: Guid = guid(0x63da_758d_e664_4564_adc5_f4b9_3be8_accd);
const VLEK: Guid = guid(0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1);
const CRL: Guid = guid(0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea);

const fn guid(number: u128) -> Guid {
    number.to_be_bytes()
}

/// What a table holds: bytes that nobody has looked at yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CertificateTable<'a> {
    /// AMD Root Key.
    pub ark: Option<&'a [u8]>,
    /// AMD SEV Key; over a VLEK, the ASVK under the same GUID.
    pub ask: Option<&'a [u8]>,
    /// Versioned Chip Endorsement Key.
    pub vcek: Option<&'a [u8]>,
    /// Versioned Loaded Endorsement Key.
    pub vlek: Option<&'a [u8]>,
    /// Revocation list.
    pub crl: Option<&'a [u8]>,
}

/// Why a table is refused. Entries are counted from 0.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The bytes end before the entry that ends the table.
    #[error("the table ends within entry {entry}: no entry with a zero GUID before byte {size}")]
    Unterminated {
        /// The entry that is not all there.
        entry: usize,
        /// How many bytes there are.
        size: usize,
    },
    /// More entries than are read.
    #[error("more than {limit} entries")]
    TooManyEntries {
        /// The most that are read.
        limit: usize,
    },
    /// Contents that are not between the entries and the end.
    #[error("entry {entry} has {length} bytes at {offset}, outside of {from}..{to}")]
    Range {
        /// Which.
        entry: usize,
        /// Where its content starts.
        offset: u32,
        /// How long it is.
        length: u32,
        /// Where contents may start.
        from: usize,
        /// Where they must end.
        to: usize,
    },
    /// Two contents share bytes.
    #[error("entries {first} and {second} overlap")]
    Overlap {
        /// The one that starts first.
        first: usize,
        /// The other.
        second: usize,
    },
    /// The same GUID twice.
    #[error("entries {first} and {second} have the same GUID")]
    Duplicate {
        /// The earlier one.
        first: usize,
        /// The later one.
        second: usize,
    },
}

/// An entry as written, nothing checked.
struct Entry {
    guid: Guid,
    offset: u32,
    length: u32,
}

impl Entry {
    /// Reads an entry and gives what comes behind it; nothing if the bytes don't suffice.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (guid, rest) = bytes.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (offset, length) = (u32::from_le_bytes(*offset), u32::from_le_bytes(*length));
        Some((Self { guid: *guid, offset, length }, rest))
    }
}

impl<'a> CertificateTable<'a> {
    /// Reads a table. No bytes at all are a table without entries: that is what an administrator who gave nothing
    /// leaves. Entries of unknown kinds are held to the same rules and left out.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        let mut table = Self::default();
        if bytes.is_empty() {
            return Ok(table);
        }
        let entries = entries(bytes)?;
        let contents = contents(bytes, &entries)?;
        for (second, entry) in entries.iter().enumerate() {
            if let Some(first) = entries.iter().take(second).position(|earlier| earlier.guid == entry.guid) {
                return Err(TableError::Duplicate { first, second });
            }
        }
        for (entry, content) in entries.iter().zip(contents) {
            match entry.guid {
                ARK => table.ark = Some(content),
                ASK => table.ask = Some(content),
                VCEK => table.vcek = Some(content),
                VLEK => table.vlek = Some(content),
                CRL => table.crl = Some(content),
                _ => {}
            }
        }
        Ok(table)
    }
}

/// The entries before the one that ends the table.
fn entries(bytes: &[u8]) -> Result<Vec<Entry>, TableError> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    loop {
        let unterminated = TableError::Unterminated { entry: entries.len(), size: bytes.len() };
        let (entry, behind) = Entry::read(rest).ok_or(unterminated)?;
        if entry.guid == Guid::default() {
            return Ok(entries);
        }
        if entries.len() == MAX_ENTRIES {
            return Err(TableError::TooManyEntries { limit: MAX_ENTRIES });
        }
        entries.push(entry);
        rest = behind;
    }
}

/// The contents of the entries, in the entries' order.
fn contents<'a>(bytes: &'a [u8], entries: &[Entry]) -> Result<Vec<&'a [u8]>, TableError> {
    let from = (entries.len() + 1) * ENTRY;
    let mut contents = Vec::new();
    let mut places = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let (offset, length) = (entry.offset, entry.length);
        let outside = TableError::Range { entry: number, offset, length, from, to: bytes.len() };
        let start = usize::try_from(offset).ok().filter(|start| *start >= from).ok_or(outside)?;
        let end = usize::try_from(length).ok().filter(|length| *length > 0);
        let end = end.and_then(|length| start.checked_add(length)).ok_or(outside)?;
        contents.push(bytes.get(start..end).ok_or(outside)?);
        places.push((start, end, number));
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && start < end
        {
            return Err(TableError::Overlap { first: *first, second: *second });
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::super::vectors::vector;
    use super::*;

    /// Header entries as given, and behind them so many bytes.
    fn raw(entries: &[(Guid, u32, u32)], content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (guid, offset, length) in entries {
            bytes.extend_from_slice(guid);
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(content);
        bytes
    }

    /// A well-formed table.
    fn table(parts: &[(Guid, &[u8])]) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut content = Vec::new();
        for (guid, part) in parts {
            let offset = (parts.len() + 1) * ENTRY + content.len();
            entries.push((*guid, u32::try_from(offset).unwrap(), u32::try_from(part.len()).unwrap()));
            content.extend_from_slice(part);
        }
        entries.push(END);
        raw(&entries, &content)
    }

    const END: (Guid, u32, u32) = ([0; 16], 0, 0);

    #[test]
    fn guids_are_in_the_order_in_which_they_are_written() {
        assert_eq!(hex::encode(VCEK), "63da758de6644564adc5f4b93be8accd");
        assert_eq!(hex::encode(CRL), "92f81bc358114d3d97ffd19f88dc67ea");
    }

    #[test]
    fn a_table_gives_each_certificate_by_its_guid() {
        let (vcek, ask) = (vector("msft-tav-genoa-vcek.der"), vector("amd-genoa-ask.der"));
        let bytes = table(&[(ASK, &ask), ([0x77; 16], b"of a kind that nobody knows"), (VCEK, &vcek)]);
        let found = CertificateTable::parse(&bytes).unwrap();
        let expected = CertificateTable { ask: Some(&ask), vcek: Some(&vcek), ..CertificateTable::default() };
        assert_eq!(found, expected);

        let bytes = table(&[(VLEK, b"vlek"), (ARK, b"ark"), (CRL, b"crl")]);
        let found = CertificateTable::parse(&bytes).unwrap();
        assert_eq!(
            (found.vlek, found.ark, found.crl),
            (Some(&b"vlek"[..]), Some(&b"ark"[..]), Some(&b"crl"[..]))
        );
    }

    #[test]
    fn a_table_may_be_empty_and_padded_with_anything() {
        for bytes in [vec![], raw(&[END], &[]), raw(&[END], &[0xff; 4096])] {
            assert_eq!(CertificateTable::parse(&bytes), Ok(CertificateTable::default()));
        }
    }

    #[test]
    fn every_beginning_of_a_table_is_refused() {
        let bytes = table(&[(VCEK, b"vcek"), (ASK, b"ask")]);
        CertificateTable::parse(&bytes).unwrap();
        for end in 1..bytes.len() {
            CertificateTable::parse(&bytes[..end]).unwrap_err();
        }
    }

    #[test]
    fn a_table_without_an_end_is_refused() {
        let bytes = raw(&[(VCEK, 24, 4)], b"vcek");
        let expected = TableError::Unterminated { entry: 1, size: 28 };
        assert_eq!(CertificateTable::parse(&bytes), Err(expected));
        assert_eq!(
            CertificateTable::parse(&[0xff; ENTRY * 100]),
            Err(TableError::TooManyEntries { limit: 8 })
        );
        assert_eq!(CertificateTable::parse(&[0]), Err(TableError::Unterminated { entry: 0, size: 1 }));
    }

    #[test]
    fn no_more_entries_are_read_than_the_limit() {
        let kinds: Vec<Guid> = (1..=9).map(|kind| [kind; 16]).collect();
        let parts: Vec<(Guid, &[u8])> = kinds.iter().map(|guid| (*guid, &b"x"[..])).collect();
        CertificateTable::parse(&table(&parts[..8])).unwrap();
        assert_eq!(CertificateTable::parse(&table(&parts)), Err(TableError::TooManyEntries { limit: 8 }));
    }

    #[test]
    fn contents_outside_of_the_table_are_refused() {
        // Two entries with their end take 72 bytes, the content as many.
        let attempt = |offset, length| {
            let bytes = raw(&[(VCEK, 72, 1), (ASK, offset, length), END], &[1; 72]);
            CertificateTable::parse(&bytes).map(|table| table.ask.map(<[u8]>::len))
        };
        assert_eq!(attempt(73, 71), Ok(Some(71)));
        for (offset, length) in [
            (73, 72),
            (144, 1),
            (71, 8),
            (0, 144),
            (24, 24),
            (100, 0),
            (100, u32::MAX),
            (u32::MAX, 1),
            (u32::MAX, u32::MAX),
            (0x8000_0000, 0x8000_0000),
        ] {
            let expected = TableError::Range { entry: 1, offset, length, from: 72, to: 144 };
            assert_eq!(attempt(offset, length), Err(expected));
        }
    }

    #[test]
    fn a_small_table_cannot_claim_46_gib_through_overlaps() {
        // A megabyte, and as many entries as fit into half of it, each of which claims the other half.
        let half = 512 * 1024;
        let count = half / ENTRY as u32 - 1;
        let mut entries: Vec<(Guid, u32, u32)> =
            (0..count).map(|number| (guid(u128::from(number) + 1), half, half)).collect();
        entries.push(END);
        let mut bytes = raw(&entries, &[]);
        bytes.resize(2 * half as usize, 0x30);
        assert_eq!(CertificateTable::parse(&bytes), Err(TableError::TooManyEntries { limit: 8 }));

        let few: Vec<_> = entries.into_iter().take(2).chain([END]).collect();
        let mut bytes = raw(&few, &[]);
        bytes.resize(2 * half as usize, 0x30);
        let overlap = TableError::Overlap { first: 0, second: 1 };
        assert_eq!(CertificateTable::parse(&bytes), Err(overlap));
    }

    #[test]
    fn contents_that_share_a_byte_are_refused_and_neighbours_are_not() {
        let attempt =
            |entries: &[(Guid, u32, u32)]| CertificateTable::parse(&raw(entries, &[1; 100])).map(drop);
        attempt(&[(ASK, 82, 10), (VCEK, 72, 10), END]).unwrap();
        let overlap = TableError::Overlap { first: 1, second: 0 };
        assert_eq!(attempt(&[(ASK, 81, 10), (VCEK, 72, 10), END]), Err(overlap));
        assert_eq!(attempt(&[(ASK, 73, 1), (VCEK, 72, 90), END]), Err(overlap));
    }

    #[test]
    fn one_kind_twice_is_refused() {
        let bytes = table(&[(VCEK, b"one"), (ASK, b"ask"), (VCEK, b"two")]);
        let expected = TableError::Duplicate { first: 0, second: 2 };
        assert_eq!(CertificateTable::parse(&bytes), Err(expected));
    }
}
