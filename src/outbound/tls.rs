//! TLS of the calls that the server makes: whom they trust, and why a connection is none.
//!
//! Must not know what is spoken over it.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_rustls::TlsConnector;
use url::Host;

use super::Fault;

/// What is said where there is nobody to trust.
pub(super) const NO_AUTHORITY: &str = "this server trusts no authority: install the system's certificates";

/// What of a server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// That a trusted authority made it for this host.
    Full,
    /// That a trusted authority made it.
    Authority,
    /// Nothing: it is encrypted, and that is all.
    Anyone,
}

/// Whom the system trusts.
pub(super) fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}

/// Makes a connector; `None` where there is nobody to trust.
pub(super) fn connector(
    roots: Arc<RootCertStore>,
    trust: Trust,
    protocols: &[&[u8]],
) -> Option<TlsConnector> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = versions.ok()?;
    let mut config = match trust {
        Trust::Anyone => {
            let verifier = Arc::new(Lenient { authorities: None, provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        _ if roots.is_empty() => return None,
        Trust::Full => builder.with_root_certificates(roots).with_no_client_auth(),
        Trust::Authority => {
            let authorities = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            let verifier = Arc::new(Lenient { authorities: Some(authorities.build().ok()?), provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Some(TlsConnector::from(Arc::new(config)))
}

/// The name that a certificate has to be for.
pub(super) fn server_name(host: &Host<String>) -> Result<ServerName<'static>, Fault> {
    match host {
        Host::Domain(name) => {
            ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| Fault::Unsendable)
        }
        Host::Ipv4(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Ipv6(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}

/// Only what can be said in words of our own: the error's text holds what the other side has sent.
pub(super) fn fault(error: &io::Error) -> Fault {
    use CertificateError as Wrong;
    let Some(found) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return Fault::Tls("the connection ended while TLS was agreed on");
    };
    Fault::Tls(match found {
        Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            "its certificate has expired"
        }
        Error::InvalidCertificate(Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) => {
            "its certificate is not valid yet"
        }
        Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => {
            "its certificate is for another host"
        }
        Error::InvalidCertificate(Wrong::UnknownIssuer) => {
            "its certificate is from an authority that is not trusted"
        }
        Error::InvalidCertificate(Wrong::Revoked) => "its certificate is revoked",
        Error::InvalidCertificate(_) => "its certificate can't be used",
        _ => "TLS could not be agreed on: it may speak without TLS, or only an old version",
    })
}

/// Checks less of a certificate than its host, because the configuration says so. That whoever shows it has its key is checked
/// in any case.
#[derive(Debug)]
struct Lenient {
    /// Who has to have made it; `None` for anybody.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last, once the chain is found to be right.
        match authorities.verify_server_cert(certificate, between, name, stapled, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
