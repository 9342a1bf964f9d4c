//! The boundary to the platform: the only things that the edge asks of it.
//!
//! A host knows sockets, clocks and timers. It knows no path, tier or protocol.

#[cfg(any(test, target_arch = "wasm32"))]
mod alarms;
#[cfg(all(feature = "native", not(target_arch = "wasm32")))]
pub mod native;
#[cfg(target_arch = "wasm32")]
pub mod worker;

use std::future::Future;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::limits::{DISCARDED_BODY_BYTES_MAX, LOG_LINE_CHARS_MAX, REQUEST_BODY_BYTES_MAX};
use crate::route::{Request, Response};
use crate::transport::Kept;

/// Where a store listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// When and how strictly TLS begins on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// With the first byte; the certificate is checked.
    AtOnce,
    /// Later, by [`Host::start_tls`]; `verify` says whether the certificate is
    /// checked. Workers always check it.
    Later { verify: bool },
}

/// What the edge needs of a platform.
pub trait Host: Clone + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Wall clock, in ms since 1970. It may stand still between I/O, as on Workers.
    fn now_ms(&self) -> u64;
    fn sleep(&self, duration_ms: u64) -> impl Future<Output = ()>;
    /// Opens a connection.
    ///
    /// # Errors
    /// The name is unknown, nobody listens, or TLS failed.
    fn connect(
        &self,
        address: &Address,
        tls: Tls,
    ) -> impl Future<Output = io::Result<Self::Stream>>;
    /// Wraps a connection that was opened with [`Tls::Later`].
    ///
    /// # Errors
    /// The handshake failed or the certificate is not good.
    fn start_tls(
        &self,
        stream: Self::Stream,
        address: &Address,
        tls: Tls,
    ) -> impl Future<Output = io::Result<Self::Stream>>;
    /// The connections that outlive a request, where the platform lets them.
    fn kept(&self) -> Option<&Kept<Self>> {
        None
    }
    /// Hands a request on to the gateway with this number.
    ///
    /// # Errors
    /// It cannot be asked, or there is none on this platform.
    fn relay(&self, _shard: u64, _request: Request) -> impl Future<Output = io::Result<Response>> {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
    /// Runs work after the answer was sent.
    fn defer(&self, work: impl Future<Output = ()> + 'static);
    /// Unguessable bytes.
    fn random(&self) -> [u8; 16];
    /// Unicode's normal form NFKC of a text.
    fn nfkc(text: &str) -> String;
    /// Writes a line where the operator looks. Never contains a secret.
    fn print(&self, line: &str);
    /// Prints a text as one line, however it is made: servers have a say in it.
    fn log(&self, text: &str) {
        self.print(&one_line(text));
    }
}

/// A request body as it arrives. Over the limit it is only counted.
#[cfg_attr(not(any(feature = "native", target_arch = "wasm32")), allow(dead_code))]
#[derive(Default)]
struct Body {
    kept: Vec<u8>,
    seen: usize,
}

#[cfg_attr(not(any(feature = "native", target_arch = "wasm32")), allow(dead_code))]
impl Body {
    /// False: it is of no use to read on.
    fn take(&mut self, chunk: &[u8]) -> bool {
        self.seen = self.seen.saturating_add(chunk.len());
        if self.seen <= REQUEST_BODY_BYTES_MAX {
            self.kept.extend_from_slice(chunk);
        } else {
            self.kept = Vec::new();
        }
        self.seen <= DISCARDED_BODY_BYTES_MAX
    }

    /// None: it was larger than the limit.
    fn finish(self) -> Option<Bytes> {
        (self.seen <= REQUEST_BODY_BYTES_MAX).then(|| Bytes::from(self.kept))
    }
}

/// A text as one line of a log: without what would begin another line or steer
/// a terminal, and cut where it is longer than anybody reads.
fn one_line(text: &str) -> String {
    text.chars()
        .take(LOG_LINE_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg_attr(not(any(feature = "native", target_arch = "wasm32")), allow(dead_code))]
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without randomness no id is unguessable: better no answer than a bad one.
    #[allow(clippy::expect_used)]
    getrandom::fill(&mut bytes).expect("the platform has a source of randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_cannot_write_lines_into_the_log() {
        assert_eq!(one_line("ERR a\r\nb\u{1b}[2J"), "ERR a  b [2J");
        assert_eq!(one_line(&"a".repeat(5000)).len(), LOG_LINE_CHARS_MAX);
    }
}
