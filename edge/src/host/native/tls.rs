//! TLS for native programs: with the machine's roots, or with any certificate.
//!
//! The roots are looked up once; SSL_CERT_FILE names others.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    WantsVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Begins TLS on a connection to a host.
pub(super) async fn wrap(
    stream: TcpStream,
    host: &str,
    verify: bool,
) -> io::Result<TlsStream<TcpStream>> {
    static VERIFIED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = match (verify, VERIFIED.get()) {
        (true, Some(config)) => Arc::clone(config),
        (true, None) => {
            let made = Arc::new(verified().map_err(io::Error::other)?);
            Arc::clone(VERIFIED.get_or_init(|| made))
        }
        (false, _) => Arc::new(unverified().map_err(io::Error::other)?),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// TLS that checks the certificate against the machine's roots.
///
/// # Errors
/// The TLS library refuses its own defaults.
pub fn verified() -> Result<ClientConfig, Error> {
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
pub fn unverified() -> Result<ClientConfig, Error> {
    let verifier = Arc::new(AnyCertificate(ring::default_provider()));
    Ok(builder()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
