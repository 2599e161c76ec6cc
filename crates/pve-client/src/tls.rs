//! Believing a server: roots, or pinned fingerprints, or anything. The certificate that
//! was not believed is remembered, so that an error can show its fingerprint.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{Error, Tls};

/// A certificate that was presented and not believed.
#[derive(Clone, Debug)]
pub(crate) struct Rejected {
    pub fingerprint: String,
    pub reason: String,
}

/// The last rejected certificate.
pub(crate) type LastRejected = Arc<Mutex<Option<Rejected>>>;

#[derive(Debug)]
enum Belief {
    Roots(Arc<WebPkiServerVerifier>),
    Pinned(Vec<[u8; 32]>),
    Anything,
}

#[derive(Debug)]
struct Verifier {
    belief: Belief,
    provider: Arc<CryptoProvider>,
    rejected: LastRejected,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut hash = [0; 32];
        hash.copy_from_slice(::ring::digest::digest(&::ring::digest::SHA256, end_entity).as_ref());
        let verdict = match &self.belief {
            Belief::Roots(webpki) => webpki.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            Belief::Pinned(known) if known.contains(&hash) => Ok(ServerCertVerified::assertion()),
            Belief::Pinned(_) => Err(rustls::Error::General(
                "its fingerprint is not the one given".into(),
            )),
            Belief::Anything => Ok(ServerCertVerified::assertion()),
        };
        if let Err(error) = &verdict {
            *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) = Some(Rejected {
                fingerprint: show_fingerprint(&hash),
                reason: reason(error),
            });
        }
        verdict
    }

    // Whoever presents the certificate must hold its key: this is checked whatever is believed.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A rejection in words that say what to look at.
fn reason(error: &rustls::Error) -> String {
    use rustls::CertificateError as E;
    match error {
        rustls::Error::InvalidCertificate(E::UnknownIssuer) => {
            "it is not signed by a trusted authority".into()
        }
        rustls::Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => {
            "it has expired".into()
        }
        rustls::Error::InvalidCertificate(
            E::NotValidForName | E::NotValidForNameContext { .. },
        ) => "it is for another name".into(),
        rustls::Error::General(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The TLS configuration for `tls`, and where it notes a rejected certificate.
pub(crate) fn config(tls: &Tls) -> Result<(ClientConfig, LastRejected), Error> {
    let provider = Arc::new(ring::default_provider());
    let rejected = LastRejected::default();
    let belief = match tls {
        Tls::Insecure => Belief::Anything,
        Tls::Fingerprint(list) => Belief::Pinned(
            list.iter()
                .map(|text| parse_fingerprint(text))
                .collect::<Result<_, _>>()?,
        ),
        Tls::System => {
            let found = rustls_native_certs::load_native_certs();
            let why = found
                .errors
                .first()
                .map(|e| format!(": {e}"))
                .unwrap_or_default();
            roots(
                found.certs,
                &provider,
                &format!("the system's certificate store holds no usable root{why}"),
            )?
        }
        Tls::CaFile(path) => {
            let unreadable = |e| Error::Settings(format!("ca_path {}: {e}", path.display()));
            let certs = CertificateDer::pem_file_iter(path)
                .map_err(unreadable)?
                .collect::<Result<Vec<_>, _>>()
                .map_err(unreadable)?;
            roots(
                certs,
                &provider,
                &format!("ca_path {} holds no usable certificate", path.display()),
            )?
        }
    };
    let verifier = Verifier {
        belief,
        provider: provider.clone(),
        rejected: rejected.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Settings(format!("TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((config, rejected))
}

/// The TLS configuration of a client that believes the system's authorities (`SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name others), for requests to servers that are not PVE.
///
/// # Errors
/// [`Error::Settings`] when the system has none.
pub fn system_tls() -> Result<ClientConfig, Error> {
    config(&Tls::System).map(|(config, _)| config)
}

fn roots(
    certs: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
    none: &str,
) -> Result<Belief, Error> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certs);
    if store.is_empty() {
        return Err(Error::Settings(none.to_string()));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map(Belief::Roots)
        .map_err(|e| Error::Settings(format!("TLS: {e}")))
}

fn parse_fingerprint(text: &str) -> Result<[u8; 32], Error> {
    let digits: String = text
        .chars()
        .filter(|c| *c != ':' && !c.is_whitespace())
        .collect();
    let mut hash = [0; 32];
    hex::decode_to_slice(digits, &mut hash).map_err(|_| {
        Error::Settings(format!(
            "'{text}' is not a SHA-256 fingerprint (64 hex digits, with or without colons)"
        ))
    })?;
    Ok(hash)
}

fn show_fingerprint(hash: &[u8; 32]) -> String {
    hash.iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}

/// A SHA-256 fingerprint as PVE shows it (`AA:BB:...`), from that or from plain hex digits.
///
/// # Errors
/// [`Error::Settings`] when it is neither.
pub fn normalise_fingerprint(text: &str) -> Result<String, Error> {
    parse_fingerprint(text).map(|hash| show_fingerprint(&hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_in_any_spelling() {
        let shown = vec!["AB"; 32].join(":");
        assert_eq!(normalise_fingerprint(&"ab".repeat(32)).unwrap(), shown);
        assert_eq!(normalise_fingerprint(&shown).unwrap(), shown);
        assert!(normalise_fingerprint("ab:cd").is_err());
        assert!(normalise_fingerprint("").is_err());
    }
}
