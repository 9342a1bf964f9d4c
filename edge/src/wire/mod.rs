//! The two protocols as state machines: bytes in, bytes and replies out.
//!
//! Nothing here reads a socket, a clock or a setting; nothing here is `async`.
//! [`crate::transport`] is the only loop that moves the bytes.

pub mod pg;
pub mod resp;

use std::fmt;

use bytes::BytesMut;

/// What a machine needs before it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Bytes from the peer.
    Input,
    /// The connection wrapped in TLS, confirmed by [`Machine::tls_started`].
    Tls,
    /// Nothing: everything that was submitted has been answered.
    Nothing,
}

/// A client's side of a protocol, without I/O.
///
/// The driver's loop: write [`Machine::take_output`], look at
/// [`Machine::wants`], feed [`Machine::handle_input`], again.
pub trait Machine {
    /// The bytes to write now; empty when there are none.
    fn take_output(&mut self) -> BytesMut;
    /// What has to happen before the machine can go on.
    fn wants(&self) -> Wants;
    /// Takes bytes that arrived, cut anywhere.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit, or refused us for good. The
    /// connection must not be used again.
    fn handle_input(&mut self, bytes: &[u8]) -> Result<(), WireError>;
    /// Says that the connection is now wrapped in TLS.
    fn tls_started(&mut self);
}

/// Why a connection cannot be used any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// The peer sent what the protocol does not allow at this point.
    Protocol(&'static str),
    /// The peer sent more than a named limit of [`crate::limits`] allows.
    Limit(&'static str),
    /// The peer does not let us in: a wrong password, an unknown database.
    Refused(String),
    /// The peer demands, or lacks, what the settings do not allow.
    Security(&'static str),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(what) => write!(f, "the server broke the protocol: {what}"),
            Self::Limit(what) => write!(f, "the server sent more than allowed: {what}"),
            Self::Refused(why) => write!(f, "the server refused the log-in: {why}"),
            Self::Security(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for WireError {}

/// What stands in the place of a server's text that [`gives_away`] a secret.
const WITHHELD: &str = "(its text is withheld: it may repeat the password)";

/// Whether a server's text may repeat a secret.
///
/// Servers cut and escape what they repeat, so that four bytes in a row are
/// enough to tell.
fn gives_away(text: &str, secret: &str) -> bool {
    const TELLING_BYTES: usize = 4;
    let part_bytes = secret.len().min(TELLING_BYTES);
    part_bytes > 0
        && secret.as_bytes().windows(part_bytes).any(|part| {
            let mut shown = text.as_bytes().windows(part_bytes);
            shown.any(|shown| shown == part)
        })
}
