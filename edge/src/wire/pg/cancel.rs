//! A connection whose only message is a CancelRequest ("Canceling Requests in
//! Progress"): over TLS where the statement's own connection is, because the
//! secret key in it lets anybody cancel.
//!
//! The server answers with nothing and closes; whether the request found
//! anything to cancel is never said.

use std::mem;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::{SslMode, encryption};
use crate::wire::{Machine, Wants, WireError};

enum Phase {
    SslAnswer,
    TlsHandshake,
    /// Everything is said; the server closes when it has read it.
    Sent,
}

/// One CancelRequest, from the first byte of its connection on.
pub struct Cancel {
    request: BytesMut,
    output: BytesMut,
    phase: Phase,
}

impl Cancel {
    /// `request` is the message itself, from [`super::Connection::cancel_request`].
    pub fn new(request: BytesMut, ssl: SslMode) -> Self {
        let mut output = BytesMut::new();
        match ssl {
            SslMode::Disable | SslMode::Private => Self {
                request: BytesMut::new(),
                output: request,
                phase: Phase::Sent,
            },
            SslMode::Require | SslMode::VerifyFull => {
                frontend::ssl_request(&mut output);
                Self {
                    request,
                    output,
                    phase: Phase::SslAnswer,
                }
            }
        }
    }
}

impl Machine for Cancel {
    fn take_output(&mut self) -> BytesMut {
        mem::take(&mut self.output)
    }

    fn wants(&self) -> Wants {
        match self.phase {
            Phase::TlsHandshake => Wants::Tls,
            Phase::SslAnswer => Wants::Input,
            Phase::Sent => Wants::Nothing,
        }
    }

    fn handle_input(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        match self.phase {
            Phase::SslAnswer => {
                if encryption::take_answer(bytes)? {
                    self.phase = Phase::TlsHandshake;
                }
                Ok(())
            }
            Phase::TlsHandshake if !bytes.is_empty() => Err(encryption::bytes_before_tls()),
            Phase::Sent if !bytes.is_empty() => {
                Err(WireError::Protocol("an answer to a CancelRequest"))
            }
            _ => Ok(()),
        }
    }

    /// Does nothing unless [`Wants::Tls`] was asked for.
    fn tls_started(&mut self) {
        if matches!(self.phase, Phase::TlsHandshake) {
            self.output = mem::take(&mut self.request);
            self.phase = Phase::Sent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"the request";

    #[test]
    fn a_plain_one_is_sent_at_once() {
        let mut cancel = Cancel::new(REQUEST.into(), SslMode::Disable);
        assert_eq!(cancel.take_output(), REQUEST);
        assert_eq!(cancel.wants(), Wants::Nothing);
    }

    #[test]
    fn over_tls_nothing_secret_leaves_before_it_is_on() {
        let mut cancel = Cancel::new(REQUEST.into(), SslMode::VerifyFull);
        assert_eq!(cancel.take_output(), &[0, 0, 0, 8, 4, 210, 22, 47][..]);
        cancel.tls_started();
        assert!(cancel.take_output().is_empty());
        assert_eq!(cancel.wants(), Wants::Input);
        assert_eq!(cancel.handle_input(b"S"), Ok(()));
        assert_eq!(cancel.wants(), Wants::Tls);
        cancel.tls_started();
        assert_eq!(cancel.take_output(), REQUEST);
        assert_eq!(cancel.wants(), Wants::Nothing);
    }

    #[test]
    fn without_tls_nothing_is_sent() {
        for answer in [&b"N"[..], b"E", b"SX", b"?"] {
            let mut cancel = Cancel::new(REQUEST.into(), SslMode::Require);
            cancel.take_output();
            assert!(cancel.handle_input(answer).is_err());
            cancel.tls_started();
            assert!(cancel.take_output().is_empty());
        }
    }
}
