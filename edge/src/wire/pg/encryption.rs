//! The server's answer to an SSLRequest ("SSL Session Encryption"), the same on
//! every connection. It does not know what is to be said after it.

use crate::wire::WireError;

/// The one byte after SSLRequest: true when TLS may begin, false when it has
/// not come yet.
///
/// Anything behind it was not protected by TLS and must not be taken for
/// something that was (CVE-2021-23222). An error text here is nobody's: it is
/// not shown.
pub(super) fn take_answer(bytes: &[u8]) -> Result<bool, WireError> {
    match bytes {
        [] => Ok(false),
        b"S" => Ok(true),
        [b'S', ..] => Err(bytes_before_tls()),
        [b'N', ..] => Err(WireError::Security("the server does not offer TLS")),
        [b'E', ..] => Err(WireError::Refused(
            "the server answered the request for TLS with an error".to_owned(),
        )),
        _ => Err(WireError::Protocol("a wrong answer to the request for TLS")),
    }
}

pub(super) fn bytes_before_tls() -> WireError {
    WireError::Security("the server, or someone before it, sent bytes before TLS was on")
}
