//! A throw-away certificate authority and one server certificate of it, for tests
//! of TLS without a network and without other programs.
//!
//! Nothing is kept: the authority's key ends with the call.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// All three as PEM.
#[derive(Debug)]
pub struct Certificate {
    /// What a client has to trust.
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

/// Makes a certificate for these names and IP addresses.
///
/// # Errors
/// A name is none.
pub fn make(hosts: Vec<String>, expired: bool) -> Result<Certificate> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority
        .distinguished_name
        .push(DnType::CommonName, "Shepherd Edge test authority");
    authority.not_before = date_time_ymd(2020, 1, 1);
    authority.not_after = date_time_ymd(2120, 1, 1);
    let signed = authority.self_signed(&authority_key)?;

    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(hosts).context("not a host name or IP address")?;
    server
        .distinguished_name
        .push(DnType::CommonName, "Shepherd Edge test server");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.not_before = date_time_ymd(2020, 1, 1);
    server.not_after = date_time_ymd(if expired { 2021 } else { 2120 }, 1, 1);
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok(Certificate {
        authority: signed.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}
