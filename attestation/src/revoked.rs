//! Certificates that AMD has revoked, as far as that is known to this version. A revocation list comes beside evidence, from
//! whoever carries it: it may be missing, or be older than what it should name. These are refused without one.

use postern_shared::snp::Product;
use x509_cert::serial_number::SerialNumber;

/// Product line and serial number, as the line's root counts them.
const REVOKED: [(Product, &[u8]); 1] = [
    // The first ASK of Genoa, of 2022-01-26: named by AMD's list of 2022-10-31 (number 2).
    (Product::Genoa, &[0x02, 0x00, 0x01]),
];

/// Whether the root of `product` is known to have revoked its certificate of this number.
pub(crate) fn is_revoked(product: Product, serial: &SerialNumber) -> bool {
    REVOKED.iter().any(|(line, number)| *line == product && *number == serial.as_bytes())
}
