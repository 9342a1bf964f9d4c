//! What tells bytes from others: for entity tags, and for copies that may be damaged.

use xxhash_rust::xxh3::xxh3_64;

/// How many characters a [`checksum`] has.
pub const CHECKSUM_BYTES: usize = 16;

/// Always the same for the same bytes (XXH3, 64 bits), in hexadecimal digits; no secret
/// and no seal: who wants to can make others that have it too.
pub fn checksum(bytes: &[u8]) -> String {
    const_hex::encode(xxh3_64(bytes).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_that_of_the_specification() {
        // Of nothing, from the tests of the reference implementation.
        assert_eq!(checksum(b""), "2d06800538d394c2");
        assert_eq!(checksum(b"[1,2]").len(), CHECKSUM_BYTES);
    }
}
