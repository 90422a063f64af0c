//! The hashes of kernel, initrd and command line that QEMU leaves for the firmware, which compares them before it starts
//! the kernel. So a launch digest over the page of hashes covers all three.

use super::firmware::{Guid, guid};
use super::page_chain::PAGE;
use sha2::{Digest, Sha256};

const TABLE: Guid = guid(0x9438d606_4f22_4cc9_b479_a793d411fd21);
const COMMAND_LINE: Guid = guid(0x97d02dd8_bd20_4c94_aa78_e7714d36ab2a);
const INITRD: Guid = guid(0x44baf731_3a2f_4bd7_9af1_41e29169781d);
const KERNEL: Guid = guid(0x4de79437_abd2_427f_b835_d5b172d2045b);

/// GUID and length.
const HEADER_LEN: usize = 18;
const ENTRY_LEN: usize = HEADER_LEN + 32;
/// The table without its padding: this is what it says of itself.
const UNPADDED_LEN: usize = HEADER_LEN + 3 * ENTRY_LEN;
/// The table as QEMU writes it.
pub(super) const TABLE_LEN: usize = UNPADDED_LEN.next_multiple_of(16);

/// Why there can be no hashes of a kernel.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Nothing to start.
    #[error("the kernel is empty")]
    Empty,
    /// QEMU would take what is before it.
    #[error("the command line has a NUL character at position {position}")]
    Nul {
        /// Where, in bytes.
        position: usize,
    },
    /// Some tools trim the command line and some don't, so that two people would expect two digests of one guest.
    #[error("the command line starts or ends with white space: {found:?}")]
    Untrimmed {
        /// The first or last character.
        found: char,
    },
}

/// SHA-256 of a kernel, its initrd and its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelHashes {
    kernel: [u8; 32],
    initrd: [u8; 32],
    command_line: [u8; 32],
}

impl KernelHashes {
    /// Hashes what QEMU is given as `-kernel`, `-initrd` and `-append`; what is not given is empty.
    pub fn new(kernel: &[u8], initrd: &[u8], command_line: &str) -> Result<Self, KernelError> {
        if kernel.is_empty() {
            return Err(KernelError::Empty);
        }
        if let Some(position) = command_line.find('\0') {
            return Err(KernelError::Nul { position });
        }
        let mut ends = command_line.chars().next().into_iter().chain(command_line.chars().next_back());
        if let Some(found) = ends.find(|end| end.is_whitespace()) {
            return Err(KernelError::Untrimmed { found });
        }
        Ok(Self {
            kernel: Sha256::digest(kernel).into(),
            initrd: Sha256::digest(initrd).into(),
            // As the string that the kernel gets, with its end.
            command_line: Sha256::new().chain_update(command_line).chain_update([0]).finalize().into(),
        })
    }

    /// What QEMU leaves for the firmware.
    pub fn table(&self) -> Vec<u8> {
        let header = |guid: Guid, length: usize| [&guid[..], &(length as u16).to_le_bytes()].concat();
        let mut table = header(TABLE, UNPADDED_LEN);
        for (guid, hash) in [(COMMAND_LINE, self.command_line), (INITRD, self.initrd), (KERNEL, self.kernel)]
        {
            table.extend(header(guid, ENTRY_LEN));
            table.extend(hash);
        }
        table
    }

    /// The page with the table at `offset`, which leaves room for [`TABLE_LEN`] bytes, and zeros around it.
    pub(super) fn page(&self, offset: usize) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page.iter_mut().skip(offset).zip(self.table()).for_each(|(to, from)| *to = from);
        page
    }
}
