//! Bytes as hexadecimal digits, as ids, tokens and hashes are written.

use xxhash_rust::xxh3::xxh3_64;

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for half in [byte >> 4, byte & 0xF] {
            let first = if half < 10 { b'0' } else { b'a' - 10 };
            text.push(char::from(first + half));
        }
    }
    text
}

/// How many digits a [`checksum`] has.
pub const CHECKSUM_DIGITS: usize = 16;

/// Tells bytes from others, always the same (XXH3, 64 bits); no secret and no seal:
/// who wants to can make others that have it too.
pub fn checksum(bytes: &[u8]) -> String {
    hex(&xxh3_64(bytes).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(hex(&[0, 9, 10, 0x7f, 0xff]), "00090a7fff");
    }

    #[test]
    fn a_checksum_is_that_of_the_specification() {
        // Of nothing, from the tests of the reference implementation.
        assert_eq!(checksum(b""), "2d06800538d394c2");
        assert_eq!(checksum(b"[1,2]").len(), CHECKSUM_DIGITS);
    }
}
