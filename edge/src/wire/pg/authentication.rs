//! Proves to the server who we are and, with SCRAM, that it knows us too.
//!
//! From the StartupMessage to AuthenticationOk. It does not know TLS beyond
//! whether it is on, nor what happens after the server let us in.

use std::{io, mem};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use postgres_protocol::message::backend::{
    AuthenticationMd5PasswordBody, AuthenticationSaslBody, Message,
};
use postgres_protocol::message::frontend;

use super::Login;
use super::scram::{Challenged, Proved, Scram};
use crate::wire::WireError;

/// How far the exchange is.
pub(super) enum Authentication {
    /// The server has not yet said what it wants.
    Unknown,
    /// SCRAM: the server's challenge must come.
    Challenged(Challenged),
    /// SCRAM: the proof is out, the server's signature must come.
    Proved(Proved),
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
        scram: &Scram,
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
            (Self::Unknown, Message::AuthenticationSasl(offer)) => {
                check_offer(&offer)?;
                // Before anything is sent: without a password there is no proof.
                password(login)?;
                let challenged = Challenged::new(scram.nonce);
                let client_first = challenged.client_first();
                frontend::sasl_initial_response(SCRAM_SHA_256, client_first.as_bytes(), output)
                    .map_err(too_long)?;
                (Self::Challenged(challenged), Next::Wait)
            }
            (Self::Challenged(challenged), Message::AuthenticationSaslContinue(challenge)) => {
                let (client_final, proved) =
                    challenged.prove(password(login)?, challenge.data(), scram)?;
                frontend::sasl_response(client_final.as_bytes(), output).map_err(too_long)?;
                (Self::Proved(proved), Next::Follow)
            }
            (Self::Proved(proved), Message::AuthenticationSaslFinal(signature)) => {
                proved.check(signature.data(), scram)?;
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

fn password(login: &Login) -> Result<&str, WireError> {
    login.password.as_deref().ok_or_else(|| {
        WireError::Refused(format!(
            "the server needs a password for user {:?}; set one in the settings of the database",
            login.user
        ))
    })
}

/// Whether the server knows SCRAM without channel binding; an offer of
/// SCRAM-SHA-256-PLUS beside it is passed over.
fn check_offer(offer: &AuthenticationSaslBody) -> Result<(), WireError> {
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
    if offers_scram {
        return Ok(());
    }
    Err(WireError::Security(if offers_plus {
        "the server insists on SCRAM with channel binding"
    } else {
        "the server knows no SASL mechanism that we know"
    }))
}

fn send_md5(
    request: &AuthenticationMd5PasswordBody,
    login: &Login,
    output: &mut BytesMut,
) -> Result<(), WireError> {
    let hash = md5_hash(
        login.user.as_bytes(),
        password(login)?.as_bytes(),
        request.salt(),
    );
    frontend::password_message(hash.as_bytes(), output).map_err(too_long)
}

fn send_clear_text(login: &Login, private: bool, output: &mut BytesMut) -> Result<(), WireError> {
    let password = password(login)?;
    if !private {
        return Err(WireError::Security(
            "the server asks for the password in clear text on a connection without TLS",
        ));
    }
    frontend::password_message(password.as_bytes(), output).map_err(too_long)
}

/// The crate's only complaints about what we send: a NUL byte, or 2 GiB.
fn too_long(_: io::Error) -> WireError {
    WireError::Security("the user, password or database cannot be sent: it contains a NUL byte")
}
