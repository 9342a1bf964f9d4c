//! Proves to the server who we are and, with SCRAM, that it knows us too.
//!
//! From the StartupMessage to AuthenticationOk. It does not know TLS beyond
//! whether it is on, nor what happens after the server let us in.

use std::{io, mem};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{
    AuthenticationMd5PasswordBody, AuthenticationSaslBody, Message,
};
use postgres_protocol::message::frontend;

use super::Login;
use crate::limits::SCRAM_ITERATIONS_MAX;
use crate::wire::WireError;

/// How far the exchange is.
pub(super) enum Authentication {
    /// The server has not yet said what it wants.
    Unknown,
    /// SCRAM: the client-first message is out.
    Challenged(ScramSha256),
    /// SCRAM: the proof is out, the server's signature must come.
    Proved(ScramSha256),
    /// Everything was shown and, with SCRAM, seen: only AuthenticationOk may come.
    Satisfied,
}

/// What the rest of the connection may do after a message.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Nothing yet.
    Wait,
    /// Our last word of the log-in is in the output: statements may follow it.
    Follow,
    /// The server let us in.
    Accepted,
}

impl Authentication {
    /// Takes an authentication request ("Start-up", "SASL Authentication") and
    /// writes the answer.
    pub(super) fn answer(
        &mut self,
        request: Message,
        login: &Login,
        private: bool,
        output: &mut BytesMut,
    ) -> Result<Next, WireError> {
        let (state, next) = match (mem::replace(self, Self::Unknown), request) {
            (Self::Unknown | Self::Satisfied, Message::AuthenticationOk) => {
                (Self::Satisfied, Next::Accepted)
            }
            (_, Message::AuthenticationOk) => {
                return Err(WireError::Security(
                    "the server let us in without showing that it knows the password",
                ));
            }
            (Self::Unknown, Message::AuthenticationSasl(offer)) => (
                Self::Challenged(begin_scram(&offer, login, output)?),
                Next::Wait,
            ),
            (Self::Challenged(scram), Message::AuthenticationSaslContinue(challenge)) => (
                Self::Proved(prove(scram, challenge.data(), output)?),
                Next::Follow,
            ),
            (Self::Proved(mut scram), Message::AuthenticationSaslFinal(signature)) => {
                check_signature(&mut scram, signature.data())?;
                (Self::Satisfied, Next::Wait)
            }
            (Self::Unknown, Message::AuthenticationMd5Password(request)) => {
                send_md5(&request, login, output)?;
                (Self::Satisfied, Next::Follow)
            }
            (Self::Unknown, Message::AuthenticationCleartextPassword) => {
                send_clear_text(login, private, output)?;
                (Self::Satisfied, Next::Follow)
            }
            (Self::Unknown, request) => return Err(unknown_method(&request)),
            _ => return Err(WireError::Protocol("authentication out of order")),
        };
        *self = state;
        Ok(next)
    }
}

fn unknown_method(request: &Message) -> WireError {
    match request {
        Message::AuthenticationGss
        | Message::AuthenticationKerberosV5
        | Message::AuthenticationScmCredential
        | Message::AuthenticationSspi => {
            WireError::Security("the server asks for a log-in that is neither password nor SCRAM")
        }
        _ => WireError::Protocol("authentication out of order"),
    }
}

fn password(login: &Login) -> Result<&[u8], WireError> {
    login.password.as_deref().map(str::as_bytes).ok_or_else(|| {
        WireError::Refused(format!(
            "the server needs a password for user {:?}; set one in the settings of the database",
            login.user
        ))
    })
}

/// Sends SASLInitialResponse.
///
/// We never bind to the channel: the Workers platform does not show the
/// server's certificate. So the GS2 flag is always "n", not "y", which would
/// claim that we could have, and an offer of SCRAM-SHA-256-PLUS is passed over.
fn begin_scram(
    offer: &AuthenticationSaslBody,
    login: &Login,
    output: &mut BytesMut,
) -> Result<ScramSha256, WireError> {
    let mut offers_scram = false;
    let mut offers_plus = false;
    let mut mechanisms = offer.mechanisms();
    while let Some(mechanism) = mechanisms
        .next()
        .map_err(|_| WireError::Protocol("a wrong list of SASL mechanisms"))?
    {
        offers_scram |= mechanism == SCRAM_SHA_256;
        offers_plus |= mechanism == SCRAM_SHA_256_PLUS;
    }
    if !offers_scram {
        return Err(WireError::Security(if offers_plus {
            "the server insists on SCRAM with channel binding"
        } else {
            "the server knows no SASL mechanism that we know"
        }));
    }
    let scram = ScramSha256::new(password(login)?, ChannelBinding::unsupported());
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), output).map_err(too_long)?;
    Ok(scram)
}

/// Sends the proof, once the price of computing it is known to be sane.
fn prove(
    mut scram: ScramSha256,
    server_first: &[u8],
    output: &mut BytesMut,
) -> Result<ScramSha256, WireError> {
    let iterations =
        iterations(server_first).ok_or(WireError::Protocol("a wrong SCRAM challenge"))?;
    if iterations == 0 {
        return Err(WireError::Protocol("a SCRAM challenge without iterations"));
    }
    if iterations > u64::from(SCRAM_ITERATIONS_MAX) {
        return Err(WireError::Limit("SCRAM iterations"));
    }
    scram
        .update(server_first)
        .map_err(|_| WireError::Protocol("a wrong SCRAM challenge"))?;
    frontend::sasl_response(scram.message(), output).map_err(too_long)?;
    Ok(scram)
}

/// The iteration count of a server-first message, which is
/// `r=nonce,s=salt,i=count` (RFC 5802, "Formal Syntax").
fn iterations(server_first: &[u8]) -> Option<u64> {
    let mut attributes = std::str::from_utf8(server_first).ok()?.split(',');
    attributes.next()?.strip_prefix("r=")?;
    attributes.next()?.strip_prefix("s=")?;
    let count = attributes.next()?.strip_prefix("i=")?;
    if attributes.next().is_some() || !count.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    count.parse().ok()
}

/// The server's half of the proof, without which SCRAM proves nothing to us.
fn check_signature(scram: &mut ScramSha256, server_final: &[u8]) -> Result<(), WireError> {
    if server_final.starts_with(b"e=") {
        return Err(WireError::Refused(
            "the server rejected the proof of the password".to_owned(),
        ));
    }
    scram
        .finish(server_final)
        .map_err(|_| WireError::Security("the server does not know the password it asks for"))
}

fn send_md5(
    request: &AuthenticationMd5PasswordBody,
    login: &Login,
    output: &mut BytesMut,
) -> Result<(), WireError> {
    let hash = md5_hash(login.user.as_bytes(), password(login)?, request.salt());
    frontend::password_message(hash.as_bytes(), output).map_err(too_long)
}

fn send_clear_text(login: &Login, private: bool, output: &mut BytesMut) -> Result<(), WireError> {
    let password = password(login)?;
    if !private {
        return Err(WireError::Security(
            "the server asks for the password in clear text on a connection without TLS",
        ));
    }
    frontend::password_message(password, output).map_err(too_long)
}

/// The crate's only complaints about what we send: a NUL byte, or 2 GiB.
fn too_long(_: io::Error) -> WireError {
    WireError::Security("the user, password or database cannot be sent: it contains a NUL byte")
}
