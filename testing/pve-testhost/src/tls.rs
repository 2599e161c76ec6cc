//! The host's own CA and certificate, as every PVE node has.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::files::write_private;

/// The CA's certificate in the data directory.
pub const CA_FILE: &str = "pve-root-ca.pem";
const CERT_FILE: &str = "pve-ssl.pem";
const KEY_FILE: &str = "pve-ssl.key";

/// Make the CA and the certificate of the nodes, which all have one address, unless they exist.
pub fn init(dir: &Path, nodes: &[String]) -> Result<()> {
    if dir.join(CERT_FILE).exists() {
        return Ok(());
    }
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name
        .push(DnType::CommonName, "Proxmox Virtual Environment test host");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut names: Vec<String> = ["127.0.0.1", "::1", "localhost"].map(Into::into).into();
    names.extend_from_slice(nodes);
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name
        .push(DnType::CommonName, nodes[0].as_str());
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf_pem = leaf.signed_by(&key, &issuer)?.pem();

    std::fs::write(dir.join(CA_FILE), ca_pem)?;
    write_private(&dir.join(KEY_FILE), key.serialize_pem().as_bytes())?;
    std::fs::write(dir.join(CERT_FILE), leaf_pem)?;
    Ok(())
}

/// The TLS side of the server (HTTP/1.1 without ALPN), and the certificate's fingerprint as PVE writes it.
pub fn acceptor(dir: &Path) -> Result<(TlsAcceptor, String)> {
    let certificate =
        CertificateDer::from_pem_file(dir.join(CERT_FILE)).context("read the certificate")?;
    let key =
        PrivateKeyDer::from_pem_file(dir.join(KEY_FILE)).context("read the certificate's key")?;
    let fingerprint: Vec<String> = Sha256::digest(&certificate)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), fingerprint.join(":")))
}
