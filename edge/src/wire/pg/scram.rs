//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the texts that both sides exchange, and
//! what one log-in leaves to the next.
//!
//! It does not know the frames around the texts, nor where a nonce comes from,
//! nor how long the isolate lives that remembers the keys.

use std::cell::RefCell;
use std::rc::Rc;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::digest::array::Array;
use sha2::{Digest, Sha256};

use super::saslprep::saslprep;
use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_SALT_BYTES_MAX};
use crate::wire::WireError;

/// We never bind to the channel: the Workers platform does not show the
/// server's certificate. So the flag is "n", not "y", which would claim that we
/// could have.
const GS2_HEADER: &str = "n,,";

const WRONG_CHALLENGE: WireError = WireError::Protocol("a wrong SCRAM challenge");
const UNKNOWN_PASSWORD: WireError =
    WireError::Security("the server does not know the password it asks for");

/// What SCRAM takes from outside of the machine.
#[derive(Clone)]
pub struct Scram {
    /// Unguessable, and another for each connection.
    pub nonce: [u8; 16],
    /// Unicode's normal form NFKC.
    pub nfkc: fn(&str) -> String,
    /// What log-ins before this one have left.
    pub remembered: Rc<RememberedKeys>,
}

/// The keys of the last log-in in which both sides have shown that they know
/// the password: deriving them costs thousands of rounds of SHA-256, and a
/// server asks the same of a user each time.
///
/// They are found by all that they are derived from, so that another password
/// or salt never finds them.
#[derive(Default)]
pub struct RememberedKeys {
    last: RefCell<Option<(Secret, Keys)>>,
    #[cfg(test)]
    pub(super) derivations: std::cell::Cell<usize>,
}

impl RememberedKeys {
    /// Two log-ins at once may both derive: neither waits for the other.
    fn of(&self, secret: &Secret, nfkc: fn(&str) -> String) -> Keys {
        match &*self.last.borrow() {
            Some((known, keys)) if known == secret => return *keys,
            _ => {}
        }
        #[cfg(test)]
        self.derivations.set(self.derivations.get() + 1);
        Keys::derive(secret, nfkc)
    }

    fn remember(&self, secret: Secret, keys: Keys) {
        self.last.replace(Some((secret, keys)));
    }

    /// For when a log-in has failed, for whatever reason.
    pub(super) fn forget(&self) {
        self.last.take();
    }
}

/// All that the keys are derived from.
#[derive(PartialEq, Eq)]
struct Secret {
    password: String,
    salt: Vec<u8>,
    iterations: u32,
}

/// ClientKey and ServerKey (RFC 5802, "SCRAM Algorithm Overview").
#[derive(Clone, Copy)]
struct Keys {
    client: [u8; 32],
    server: [u8; 32],
}

impl Keys {
    fn derive(secret: &Secret, nfkc: fn(&str) -> String) -> Self {
        let password = saslprep(&secret.password, nfkc);
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(
            password.as_bytes(),
            &secret.salt,
            secret.iterations,
        );
        let key = |name| hmac(&salted, name).finalize().into_bytes().into();
        Self {
            client: key("Client Key"),
            server: key("Server Key"),
        }
    }

    /// ClientProof.
    fn proof(&self, auth_message: &str) -> [u8; 32] {
        let stored_key = Sha256::digest(self.client).into();
        let mut proof = self.client;
        let signature = hmac(&stored_key, auth_message).finalize().into_bytes();
        for (byte, other) in proof.iter_mut().zip(signature) {
            *byte ^= other;
        }
        proof
    }

    /// Whether this is ServerSignature, found out in constant time.
    fn have_signed(&self, auth_message: &str, signature: &[u8]) -> bool {
        let expected = hmac(&self.server, auth_message);
        expected.verify_slice(signature).is_ok()
    }
}

/// HMAC fills a key up with zeros until it is a block; one that is as long as a
/// block cannot be of a wrong length.
fn hmac(key: &[u8; 32], text: &str) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    <Hmac<Sha256> as KeyInit>::new(&Array(block)).chain_update(text)
}

/// The client-first message is out.
pub(super) struct Challenged {
    nonce: String,
}

impl Challenged {
    pub(super) fn new(nonce: [u8; 16]) -> Self {
        Self {
            nonce: BASE64_STANDARD.encode(nonce),
        }
    }

    pub(super) fn client_first(&self) -> String {
        format!("{GS2_HEADER}{}", self.client_first_bare())
    }

    /// PostgreSQL has the user from the StartupMessage and reads none here.
    fn client_first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes the server-first message. Gives the client-final message and what
    /// has to come of it.
    pub(super) fn prove(
        &self,
        password: &str,
        server_first: &[u8],
        scram: &Scram,
    ) -> Result<(String, Proved), WireError> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| WRONG_CHALLENGE)?;
        let (nonce, salt, iterations) = challenge(server_first).ok_or(WRONG_CHALLENGE)?;
        if !nonce.starts_with(&self.nonce) {
            return Err(WRONG_CHALLENGE);
        }
        let secret = Secret {
            password: password.to_owned(),
            salt: sane_salt(salt)?,
            iterations: sane_iterations(iterations)?,
        };
        let keys = scram.remembered.of(&secret, scram.nfkc);
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(GS2_HEADER));
        let auth_message = format!(
            "{},{server_first},{without_proof}",
            self.client_first_bare()
        );
        let proof = BASE64_STANDARD.encode(keys.proof(&auth_message));
        let proved = Proved {
            auth_message,
            secret,
            keys,
        };
        Ok((format!("{without_proof},p={proof}"), proved))
    }
}

/// The client-final message is out, with the proof that we know the password.
pub(super) struct Proved {
    auth_message: String,
    secret: Secret,
    keys: Keys,
}

impl Proved {
    /// Takes the server-final message: the server's half of the proof, without
    /// which SCRAM proves nothing to us.
    pub(super) fn check(self, server_final: &[u8], scram: &Scram) -> Result<(), WireError> {
        if server_final.starts_with(b"e=") {
            return Err(WireError::Refused(
                "the server rejected the proof of the password".to_owned(),
            ));
        }
        let signature = server_final
            .strip_prefix(b"v=")
            .and_then(|signature| BASE64_STANDARD.decode(signature).ok())
            .ok_or(UNKNOWN_PASSWORD)?;
        if !self.keys.have_signed(&self.auth_message, &signature) {
            return Err(UNKNOWN_PASSWORD);
        }
        scram.remembered.remember(self.secret, self.keys);
        Ok(())
    }
}

/// Nonce, salt and iteration count of a server-first message, which is
/// `r=nonce,s=salt,i=count` ("Formal Syntax"; there are no extensions yet).
fn challenge(server_first: &str) -> Option<(&str, &str, u64)> {
    let mut attributes = server_first.split(',');
    let nonce = attributes.next()?.strip_prefix("r=")?;
    let salt = attributes.next()?.strip_prefix("s=")?;
    let count = attributes.next()?.strip_prefix("i=")?;
    let is_well_formed = attributes.next().is_none()
        && nonce.bytes().all(|byte| byte.is_ascii_graphic())
        && count.bytes().all(|byte| byte.is_ascii_digit());
    is_well_formed.then_some((nonce, salt, count.parse().ok()?))
}

fn sane_salt(salt: &str) -> Result<Vec<u8>, WireError> {
    let salt = BASE64_STANDARD.decode(salt).map_err(|_| WRONG_CHALLENGE)?;
    if salt.len() > SCRAM_SALT_BYTES_MAX {
        return Err(WireError::Limit("the salt of SCRAM"));
    }
    Ok(salt)
}

/// The price of the proof, before it is paid.
fn sane_iterations(iterations: u64) -> Result<u32, WireError> {
    match u32::try_from(iterations) {
        Ok(0) => Err(WireError::Protocol("a SCRAM challenge without iterations")),
        Ok(iterations) if iterations <= SCRAM_ITERATIONS_MAX => Ok(iterations),
        _ => Err(WireError::Limit("SCRAM iterations")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, "SCRAM-SHA-256 and SCRAM-SHA-256-PLUS".
    #[test]
    fn the_example_of_the_rfc() {
        let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (nonce, salt, iterations) = challenge(server_first).unwrap();
        let secret = Secret {
            password: "pencil".to_owned(),
            salt: sane_salt(salt).unwrap(),
            iterations: sane_iterations(iterations).unwrap(),
        };
        let auth_message = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{server_first},c=biws,r={nonce}");
        let keys = Keys::derive(&secret, str::to_owned);
        assert_eq!(
            BASE64_STANDARD.encode(keys.proof(&auth_message)),
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let signature = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        let signature = BASE64_STANDARD.decode(signature).unwrap();
        assert!(keys.have_signed(&auth_message, &signature));
        assert!(!keys.have_signed(&auth_message, &signature[1..]));
        assert!(!keys.have_signed(&auth_message, &[]));
    }
}
