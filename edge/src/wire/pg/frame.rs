//! Cuts the byte stream into messages and lets only sane ones through.
//!
//! It stands before `postgres_protocol`, which believes every length: it
//! reserves what it is told, and traps on wasm32 when told 2 GiB. It knows
//! lengths and limits, not which message may come when.

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend::{self as tags, Message};

use crate::limits::{PG_MESSAGE_BYTES_MAX, PG_RESULT_BYTES_MAX};
use crate::wire::WireError;

/// What keeping a row costs beside its bytes: the row itself, as much again
/// where the vector of rows grows, and a buffer of its own when it comes alone.
/// It is charged, because 7 bytes from the network can make a row.
const ROW_BYTES: usize = 3 * size_of::<Bytes>();

/// Bytes that arrived and are not yet a message.
///
/// Invariant after [`Frames::next`] gave `None`: `buffer` is a proper prefix of
/// one message that is within the limits.
#[derive(Default)]
pub(super) struct Frames {
    buffer: BytesMut,
    /// Bytes since [`Frames::start_over`].
    spent: usize,
}

impl Frames {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message ("Messages" → "Message Formats").
    ///
    /// The buffer grows with what arrives, never by what a header announces.
    pub(super) fn next(&mut self) -> Result<Option<Message>, WireError> {
        let Some((&tag, rest)) = self.buffer.split_first() else {
            // Rows still point into the old buffer: go on in a new one rather
            // than keep a large one for a connection that only waits.
            self.buffer = BytesMut::new();
            return Ok(None);
        };
        let Some(length) = rest.first_chunk::<4>() else {
            return Ok(None);
        };
        let bytes = checked_length(tag, u32::from_be_bytes(*length))?;
        let spent = self.spent
            + bytes
            + if tag == tags::DATA_ROW_TAG {
                ROW_BYTES
            } else {
                0
            };
        if spent > PG_RESULT_BYTES_MAX {
            return Err(WireError::Limit("all messages of one answer"));
        }
        if self.buffer.len() < bytes {
            return Ok(None);
        }
        self.spent = spent;
        match Message::parse(&mut self.buffer) {
            Ok(Some(message)) => Ok(Some(message)),
            Ok(None) | Err(_) => Err(WireError::Protocol("a message with a wrong body")),
        }
    }

    /// A statement was answered: the next one has the whole limit again.
    pub(super) fn start_over(&mut self) {
        self.spent = 0;
    }

    /// For the tests of the limits.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.buffer.len()
    }
}

/// The length of a whole message, its tag included.
fn checked_length(tag: u8, length: u32) -> Result<usize, WireError> {
    if !is_backend_tag(tag) {
        return Err(WireError::Protocol("a message of an unknown type"));
    }
    // The length is a signed 32-bit integer that counts itself.
    if length < 4 || length > i32::MAX as u32 {
        return Err(WireError::Protocol("a message with an impossible length"));
    }
    let bytes = usize::try_from(length).map_or(usize::MAX, |length| length.saturating_add(1));
    if bytes > PG_MESSAGE_BYTES_MAX {
        return Err(WireError::Limit("one message"));
    }
    Ok(bytes)
}

fn is_backend_tag(tag: u8) -> bool {
    matches!(
        tag,
        tags::PARSE_COMPLETE_TAG
            | tags::BIND_COMPLETE_TAG
            | tags::CLOSE_COMPLETE_TAG
            | tags::NOTIFICATION_RESPONSE_TAG
            | tags::COPY_DONE_TAG
            | tags::COMMAND_COMPLETE_TAG
            | tags::COPY_DATA_TAG
            | tags::DATA_ROW_TAG
            | tags::ERROR_RESPONSE_TAG
            | tags::COPY_IN_RESPONSE_TAG
            | tags::COPY_OUT_RESPONSE_TAG
            | tags::EMPTY_QUERY_RESPONSE_TAG
            | tags::BACKEND_KEY_DATA_TAG
            | tags::NO_DATA_TAG
            | tags::NOTICE_RESPONSE_TAG
            | tags::AUTHENTICATION_TAG
            | tags::PORTAL_SUSPENDED_TAG
            | tags::PARAMETER_STATUS_TAG
            | tags::PARAMETER_DESCRIPTION_TAG
            | tags::ROW_DESCRIPTION_TAG
            | tags::READY_FOR_QUERY_TAG
    )
}
