//! The boundary to the platform: the only things that the edge asks of it.
//!
//! A host knows sockets, clocks and timers. It knows no path, tier or protocol.

#[cfg(all(feature = "native", not(target_arch = "wasm32")))]
pub mod native;
#[cfg(target_arch = "wasm32")]
pub mod worker;

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

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
    /// Runs work after the answer was sent.
    fn defer(&self, work: impl Future<Output = ()> + 'static);
    /// Unguessable bytes.
    fn random(&self) -> [u8; 16];
    /// One line for the operator. Never contains a secret.
    fn log(&self, line: &str);
}
