//! A TCP connection to a server that a URL names, TLS settings for it, and a
//! sentence for each way in which that fails.
//!
//! Knows no protocol above TLS.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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

/// TLS that checks the certificate against the machine's roots.
///
/// # Errors
/// The TLS library refuses its own defaults.
pub fn verified() -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(builder()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// TLS that takes any certificate, which is what `sslmode=require` asks for.
///
/// # Errors
/// The TLS library refuses its own defaults.
pub fn unverified() -> Result<ClientConfig> {
    let verifier = Arc::new(AnyCertificate(ring::default_provider()));
    Ok(builder()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    Ok(
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?,
    )
}

/// Checks that the peer owns its certificate, and not whose it is.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: &ServerName,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
