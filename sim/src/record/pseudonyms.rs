//! Other names for ids, by which nobody is known and everybody known again.
//!
//! A keyed hash, as the edge makes of the ids in its trace lines: without the key
//! nobody can try whose it is.

use anyhow::{Result, anyhow};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Of a hash: two of a million ids share one once in 37 million recordings.
const KEPT_BYTES: usize = 8;
const KEY_BYTES: usize = 32;

pub struct Pseudonyms(Hmac<Sha256>);

impl Pseudonyms {
    pub fn keyed(key: &[u8]) -> Self {
        // It takes keys of any length: longer ones are hashed.
        #[allow(clippy::expect_used)]
        Self(Hmac::new_from_slice(key).expect("HMAC takes any key"))
    }

    /// # Errors
    /// The system has no randomness.
    pub fn drawn() -> Result<Self> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|error| {
            anyhow!("the system gives no random key ({error}): give one with --key")
        })?;
        Ok(Self::keyed(&key))
    }

    /// 16 hexadecimal digits; nobody stays nobody.
    pub fn of(&self, id: &str) -> String {
        if id.is_empty() {
            return String::new();
        }
        let hash = self.0.clone().chain_update(id).finalize().into_bytes();
        let kept = hash.iter().take(KEPT_BYTES);
        kept.map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_beginning_of_hmac_sha_256() {
        // RFC 4231, test case 2.
        let pseudonyms = Pseudonyms::keyed(b"Jefe");
        assert_eq!(
            pseudonyms.of("what do ya want for nothing?"),
            "5bdcc146bf60754e"
        );
        assert_eq!(pseudonyms.of(""), "");
    }

    #[test]
    fn a_drawn_key_is_another_each_time() -> Result<()> {
        assert_ne!(Pseudonyms::drawn()?.of("a"), Pseudonyms::drawn()?.of("a"));
        Ok(())
    }
}
