//! A program such as a hostile host would have the firmware run before the kernel: it says on the first serial port that it
//! runs. As UEFI wants it (PE32+), and as the ROM of a PCI device.

/// What it says.
pub const CRY: &str = "the host's program runs";

const IMAGE_FILE_MACHINE_X64: u16 = 0x8664;
const APPLICATION: u16 = 10;
const BOOT_SERVICE_DRIVER: u16 = 11;
/// Headers end here, and the code begins, in the file.
const CODE: usize = 0x200;

/// As a program that is started in the place of the kernel.
pub fn program() -> Vec<u8> {
    portable_executable(APPLICATION)
}

/// As a driver in a device's ROM (PCI Firmware Specification 3.0, 5.1; UEFI 2.10, 14.4.2).
pub fn option_rom() -> Vec<u8> {
    const BLOCK: usize = 512;
    const DATA: usize = 0x1c;
    let driver = portable_executable(BOOT_SERVICE_DRIVER);
    let blocks = u16::try_from(1 + driver.len().div_ceil(BLOCK)).unwrap();
    let mut rom = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| rom[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, &[0x55, 0xaa]);
    put(0x02, &blocks.to_le_bytes());
    put(0x04, &0x0ef1u32.to_le_bytes());
    put(0x08, &BOOT_SERVICE_DRIVER.to_le_bytes());
    put(0x0a, &IMAGE_FILE_MACHINE_X64.to_le_bytes());
    put(0x16, &u16::try_from(BLOCK).unwrap().to_le_bytes());
    put(0x18, &u16::try_from(DATA).unwrap().to_le_bytes());
    put(DATA, b"PCIR");
    put(DATA + 0x0a, &0x18u16.to_le_bytes());
    put(DATA + 0x10, &blocks.to_le_bytes());
    // Code for UEFI, in the last image of the ROM.
    put(DATA + 0x14, &[3, 0x80]);
    rom.extend(driver);
    rom.resize(usize::from(blocks) * BLOCK, 0);
    rom
}

/// The least that is one (Microsoft PE Format).
fn portable_executable(subsystem: u16) -> Vec<u8> {
    const BASE: u32 = 0x1000;
    let code = cry();
    let length = u32::try_from(code.len()).unwrap();
    let mut file = vec![0; CODE];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    let (coff, optional) = (0x44, 0x58);
    put(coff, &IMAGE_FILE_MACHINE_X64.to_le_bytes());
    put(coff + 0x02, &1u16.to_le_bytes());
    put(coff + 0x10, &0xf0u16.to_le_bytes());
    put(coff + 0x12, &0x22u16.to_le_bytes());
    put(optional, &0x20bu16.to_le_bytes());
    put(optional + 0x10, &BASE.to_le_bytes());
    put(optional + 0x14, &BASE.to_le_bytes());
    put(optional + 0x20, &0x1000u32.to_le_bytes());
    put(optional + 0x24, &0x200u32.to_le_bytes());
    put(optional + 0x38, &(BASE + 0x1000).to_le_bytes());
    put(optional + 0x3c, &u32::try_from(CODE).unwrap().to_le_bytes());
    put(optional + 0x44, &subsystem.to_le_bytes());
    put(optional + 0x6c, &16u32.to_le_bytes());
    let section = optional + 0xf0;
    put(section, b".text");
    put(section + 0x08, &length.to_le_bytes());
    put(section + 0x0c, &BASE.to_le_bytes());
    put(section + 0x10, &0xe00u32.to_le_bytes());
    put(section + 0x14, &u32::try_from(CODE).unwrap().to_le_bytes());
    put(section + 0x24, &0x6000_0020u32.to_le_bytes());
    file.extend(code);
    file.resize(0x1000, 0);
    file
}

/// Writes [`CRY`] to the serial port, byte by byte, and returns `EFI_SUCCESS`.
fn cry() -> Vec<u8> {
    let mut code = vec![
        0x56, // push rsi
        0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0x48, 0x8d, 0x35, 0x0d, 0x00, 0x00, 0x00, // lea rsi, [rip + 13]
        0xfc, // cld
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz done
        0xee, // out dx, al
        0xeb, 0xf8, // jmp next
        0x31, 0xc0, // done: xor eax, eax
        0x5e, // pop rsi
        0xc3, // ret
    ];
    code.extend(CRY.bytes());
    code.push(0);
    code
}
