//! A TCP connection to a server that a URL names, and a sentence for each way
//! in which that fails.
//!
//! Knows no protocol; TLS is [`edge::host::native::tls`].

use std::fmt;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A server, and which variable named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    variable: &'static str,
    kind: &'static str,
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} at {}:{}", self.kind, self.host, self.port)
    }
}

impl Server {
    /// # Errors
    /// The URL has no host.
    pub fn named(
        variable: &'static str,
        kind: &'static str,
        host: Option<&str>,
        port: u16,
    ) -> Result<Self> {
        let host = host
            .filter(|host| !host.is_empty())
            .with_context(|| format!("{variable} names no host"))?;
        // A URL writes an IPv6 address in brackets, a resolver wants it without.
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            variable,
            kind,
            host,
            port,
        })
    }

    /// The name that the certificate has to carry.
    ///
    /// # Errors
    /// The host is neither a name nor an address.
    pub fn tls_name(&self) -> Result<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).with_context(|| {
            format!(
                "{}: {} cannot be the name in a certificate",
                self.variable, self.host
            )
        })
    }
}

/// # Errors
/// The name is unknown, nobody listens, or nobody answers.
pub async fn connect(server: &Server) -> Result<TcpStream> {
    let Server {
        variable,
        kind,
        host,
        port,
    } = server;
    let addresses: Vec<_> = lookup_host((host.as_str(), *port))
        .await
        .with_context(|| {
            format!("{variable}: the host {host} is unknown: check its spelling and the network")
        })?
        .collect();
    let opened = timeout(CONNECT_WITHIN, TcpStream::connect(addresses.as_slice()))
        .await
        .map_err(|_| anyhow!("{variable}: {host}:{port} does not answer within {CONNECT_WITHIN:?}: is a firewall or the list of trusted addresses in between?"))?;
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            anyhow!("{variable}: {host}:{port} refuses connections: is {kind} running there?")
        }
        _ => anyhow!("{variable}: no connection to {host}:{port}: {error}"),
    })
}
