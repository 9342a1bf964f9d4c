//! Commands as bytes ("Sending commands to a Valkey server").
//!
//! What is deliberately not known here: which commands exist. Nothing is checked
//! either: arguments are binary-safe, so that no value can become a command.

use std::fmt;

use bytes::{Buf, BytesMut};

const CRLF: &[u8] = b"\r\n";
/// Room for `*`, the ten digits of a `u32`, and CRLF.
const HEADER_BYTES: usize = 13;
/// Room for `$`, the twenty digits of the longest length, and two times CRLF.
const ARGUMENT_OVERHEAD_BYTES: usize = 25;
/// Room left behind a large argument for the small ones that follow a value
/// (`PX 60000 NX`): without it they would double a buffer of ten megabytes.
const TAIL_BYTES: usize = 128;

/// One command: its arguments, the first of which is its name.
#[derive(Clone)]
pub struct Command {
    arguments: u32,
    /// The arguments, encoded, behind `HEADER_BYTES` of room for their count.
    /// The room is there so that a large value is copied once only.
    encoded: BytesMut,
}

impl Command {
    pub fn new(name: &str) -> Self {
        Self::with_room(name, TAIL_BYTES)
    }

    /// With room for as many bytes before anything has to be moved.
    pub fn with_room(name: &str, bytes: usize) -> Self {
        let mut encoded = BytesMut::with_capacity(bytes);
        encoded.resize(HEADER_BYTES, 0);
        Self {
            arguments: 0,
            encoded,
        }
        .arg(name)
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        let arg = arg.as_ref();
        let needed = arg.len().saturating_add(ARGUMENT_OVERHEAD_BYTES);
        if self.encoded.capacity() - self.encoded.len() < needed {
            self.encoded.reserve(needed.saturating_add(TAIL_BYTES));
        }
        let mut digits = itoa::Buffer::new();
        let length = digits.format(arg.len()).as_bytes();
        for part in [b"$", length, CRLF, arg, CRLF] {
            self.encoded.extend_from_slice(part);
        }
        self.arguments = self.arguments.saturating_add(1);
        self
    }

    #[must_use]
    pub fn number(self, n: u64) -> Self {
        self.arg(itoa::Buffer::new().format(n))
    }

    /// How many bytes it is, or a few more.
    pub fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The command as it goes to the server.
    pub(super) fn into_bytes(mut self) -> BytesMut {
        let mut digits = itoa::Buffer::new();
        let count = digits.format(self.arguments).as_bytes();
        let unused = HEADER_BYTES.saturating_sub(1 + count.len() + CRLF.len());
        self.encoded.advance(unused);
        let header = [b"*", count, CRLF].into_iter().flatten();
        for (room, byte) in self.encoded.iter_mut().zip(header) {
            *room = *byte;
        }
        self.encoded
    }

    #[cfg(test)]
    pub(super) fn encoded_address(&self) -> usize {
        self.encoded.as_ptr().addr()
    }
}

/// Says how large the command is and not what it holds: that is a user's data,
/// or our password.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("arguments", &self.arguments)
            .field("bytes", &self.encoded.len())
            .finish()
    }
}
