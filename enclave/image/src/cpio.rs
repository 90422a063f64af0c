//! The archive that the kernel unpacks into its first file system: `newc` (Linux, `Documentation/driver-api/early-userspace/
//! buffer-format.rst`). Owners, times and device numbers of the machine that makes it are not in it.

/// File types, as in `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// The kernel reads whole blocks.
const BLOCK: usize = 512;

/// An archive that grows, entry by entry; directories before what is in them.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, 2, (0, 0), &[]);
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, FILE | mode, 1, (0, 0), content);
    }

    pub(crate) fn character_device(&mut self, path: &str, mode: u32, number: (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE | mode, 1, number, &[]);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entries = u32::MAX;
        self.entry("TRAILER!!!", 0, 1, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self.bytes
    }

    /// `path` is without the slash at its beginning.
    fn entry(&mut self, path: &str, mode: u32, links: u32, device: (u32, u32), content: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        // Inode, mode, user, group, links, time, size, device that it is on (two), device that it is (two), name's
        // length with its end, checksum (none in this format).
        let size = u32::try_from(content.len()).expect("files are far below 4 GiB");
        let length = path.len() as u32 + 1;
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
