//! Files with a secret key: 32 bytes in hexadecimal, on one line, for nobody else to read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Why a file gives no key. Nothing of what is in it is shown.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// Others may have read the key, or put another one there.
    #[error("others can read or write it (mode {mode:03o}): chmod 600")]
    Exposed {
        /// Its permissions.
        mode: u32,
    },
    /// What is in it is no text.
    #[error("not UTF-8 text")]
    NotText,
    /// Something else than hexadecimal digits is in it.
    #[error("character {place} is no hexadecimal digit")]
    NoDigit {
        /// Counted from 1, after a `0x` if there is one.
        place: usize,
    },
    /// Too many digits, or too few.
    #[error("{found} hexadecimal digits where 64 are wanted")]
    Length {
        /// How many there are.
        found: usize,
    },
}

/// Reads one.
pub fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let bytes = Zeroizing::new(std::fs::read(path)?);
    let mode = std::fs::metadata(path)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { mode });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyFileError::NotText)?;
    // Editors on Windows begin text with a mark.
    let digits = text.trim_start_matches('\u{feff}').trim();
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(digits);
    if let Some(place) = digits.chars().position(|digit| !digit.is_ascii_hexdigit()) {
        return Err(KeyFileError::NoDigit { place: place.saturating_add(1) });
    }
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, &mut *key).map_err(|_| KeyFileError::Length { found: digits.len() })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn read_of(content: &[u8], mode: u32) -> Result<[u8; 32], String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        read(file.path()).map(|key| *key).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_read_as_editors_leave_it_and_what_is_wrong_is_said_without_it() {
        let digits = "5a".repeat(32);
        for text in [
            digits.clone(),
            format!("0x{digits}\n"),
            format!("0X{}\r\n", digits.to_uppercase()),
            format!("\u{feff}{digits}\r\n"),
            format!("  {digits}  \n\n"),
        ] {
            assert_eq!(read_of(text.as_bytes(), 0o600), Ok([0x5a; 32]), "{text:?}");
        }
        assert_eq!(read_of(digits.as_bytes(), 0o400), Ok([0x5a; 32]));
        for (content, mode, expected) in [
            (digits.as_bytes(), 0o644, "others can read or write it (mode 644): chmod 600"),
            (digits.as_bytes(), 0o620, "others can read or write it (mode 620): chmod 600"),
            (&digits.as_bytes()[1..], 0o600, "63 hexadecimal digits where 64 are wanted"),
            (&digits.repeat(2).into_bytes(), 0o600, "128 hexadecimal digits where 64 are wanted"),
            (b"", 0o600, "0 hexadecimal digits where 64 are wanted"),
            (b"5a5a\"", 0o600, "character 5 is no hexadecimal digit"),
            (b"\xff\xfe5\x00a\x00", 0o600, "not UTF-8 text"),
        ] {
            assert_eq!(read_of(content, mode), Err(expected.to_owned()));
        }
    }
}
