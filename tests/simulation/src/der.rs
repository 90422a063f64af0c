//! Just enough DER to write a certificate. Lengths up to 64 KiB, which the caller keeps to.

/// `SEQUENCE`.
pub(crate) const SEQUENCE: u8 = 0x30;
/// `SET`.
pub(crate) const SET: u8 = 0x31;
/// `BOOLEAN`.
pub(crate) const BOOLEAN: u8 = 0x01;
/// `INTEGER`.
pub(crate) const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub(crate) const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
/// `UTF8String`.
pub(crate) const UTF8_STRING: u8 = 0x0C;
/// `IA5String`.
pub(crate) const IA5_STRING: u8 = 0x16;
/// `UTCTime`.
pub(crate) const UTC_TIME: u8 = 0x17;

/// One value: tag, length, and the `parts` one after the other.
pub(crate) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        len @ 0..=0x7F => out.push(len as u8),
        len @ 0x80..=0xFF => out.extend([0x81, len as u8]),
        len @ 0x100..=0xFFFF => out.extend([0x82, (len >> 8) as u8, len as u8]),
        len => panic!("a certificate with {len} bytes in one value"),
    }
    out.extend(content);
    out
}

/// A context-specific, constructed value.
pub(crate) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    value(0xA0 | number, &[content])
}

/// An `INTEGER` from 0 to 255.
pub(crate) fn integer(number: u8) -> Vec<u8> {
    if number < 0x80 { value(INTEGER, &[&[number]]) } else { value(INTEGER, &[&[0, number]]) }
}

/// A `BIT STRING` of whole bytes.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes])
}
