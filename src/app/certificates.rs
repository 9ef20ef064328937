//! The certificate of the listeners, read again when its files change.
//!
//! Connections that are open stay as they are; whoever comes next meets the new certificate. One that can't be used
//! never takes the place of one that can: that would end a service which works. It must not know what is served.

use std::{
    fs::{File, Metadata},
    io::Read as _,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use super::{AppError, validity::Validity};
use crate::{domain::Clock, service::Warnings, settings::Tls, telemetry::CertificateExpiry};

/// How often the files are looked at: there is no portable notice that survives the way Kubernetes swaps mounts.
const LOOK: Duration = Duration::from_secs(1);

/// The largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// The present certificate, with the authorities of clients where these need one.
pub(super) struct Certificates {
    files: Tls,
    present: ArcSwap<Present>,
}

/// What is shown to who connects.
struct Present {
    config: Arc<ServerConfig>,
    /// Unless it can't be read out of the certificate.
    validity: Option<Validity>,
}

/// Who is told of the certificate that is shown.
pub(super) struct Told {
    pub expiry: CertificateExpiry,
    pub warnings: Warnings,
    pub clock: Arc<dyn Clock>,
}

/// What was found when the files were looked at last.
#[derive(Default)]
struct Seen {
    stamps: Vec<Stamp>,
    /// Why they can't be used.
    problem: Option<String>,
}

impl From<CertificateError> for AppError {
    fn from(error: CertificateError) -> Self {
        Self::Tls(error.to_string())
    }
}

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error("the certificate or its key can't be used: {0}")]
    Pair(#[from] rustls::Error),
    #[error("the authorities of clients can't be used: {0}")]
    Authorities(#[from] rustls::server::VerifierBuilderError),
}

/// What tells that a file was replaced.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

impl Certificates {
    /// Reads the certificate for the first time.
    pub fn load(files: &Tls) -> Result<Self, CertificateError> {
        Ok(Self { present: ArcSwap::from_pointee(read(files)?), files: files.clone() })
    }

    /// Agrees on TLS with the present certificate, and on the version of HTTP.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.present.load().config))
    }

    /// Reads the files again whenever one of them has changed, and tells of what is shown. Does not end.
    pub async fn follow(self: Arc<Self>, told: Told) {
        // Begins with a reading, for what changed since the first.
        let (mut seen, mut said) = (Seen::default(), None);
        loop {
            let this = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || this.look(seen)).await;
            match looked {
                Ok(now) => seen = now,
                Err(error) => {
                    tracing::error!(%error, "the TLS certificate is not followed any more");
                    return;
                }
            }
            let warning = self.tell(&told, seen.problem.clone());
            if let Some(text) = warning.as_ref().filter(|_| warning != said) {
                tracing::warn!("{text}");
            }
            said = warning;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gives what the validity is worth a warning of.
    fn tell(&self, told: &Told, problem: Option<String>) -> Option<String> {
        told.warnings.hold("certificate", problem);
        let validity = self.present.load().validity;
        told.expiry.set(validity.map(|validity| validity.not_after));
        let warning = validity.and_then(|validity| validity.warning(told.clock.now()));
        let warning = warning.map(|text| format!("{}: {text}", self.files.cert_file.display()));
        told.warnings.hold("certificate_expiry", warning.clone());
        warning
    }

    /// Reads the files if they are not as they were seen last; gives how they are now.
    fn look(&self, seen: Seen) -> Seen {
        let Tls { cert_file, key_file, client_ca_file } = &self.files;
        // Taken before the reading: what changes during it is seen the next time.
        let stamps: Vec<_> = [Some(cert_file), Some(key_file), client_ca_file.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| std::fs::metadata(path).ok().map(|found| stamp(&found)))
            .collect();
        if stamps == seen.stamps {
            return seen;
        }
        let problem = match read(&self.files) {
            Ok(present) => {
                self.present.store(Arc::new(present));
                if !seen.stamps.is_empty() {
                    tracing::info!(path = %cert_file.display(), "the TLS certificate was read again");
                }
                None
            }
            // Between the new certificate and its key there is a moment when they don't fit.
            Err(error) => {
                tracing::error!(%error, "TLS: the new certificate can't be used; the old one stays");
                Some(format!("TLS: the new certificate can't be used, and the old one stays: {error}"))
            }
        };
        Seen { stamps, problem }
    }
}

fn stamp(found: &Metadata) -> (u64, u64, i64, i64, u64) {
    (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size())
}

fn read(files: &Tls) -> Result<Present, CertificateError> {
    let provider = Arc::new(default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(&contents(&files.key_file)?)
        .map_err(|error| unusable(&files.key_file, format!("holds no private key: {error}")))?;
    let chain = certificates(&files.cert_file)?;
    let validity = chain.first().and_then(|own| Validity::of(own));
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Present { config: Arc::new(config), validity })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(path, "holds no certificate")),
        Err(error) => Err(unusable(path, error)),
    }
}

fn contents(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, CertificateError> {
    // A device may never end.
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let file = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match file {
        Err(error) => Err(unusable(path, error)),
        Ok(_) if bytes.len() as u64 > MAX_BYTES => Err(unusable(path, "it is larger than 1 MiB")),
        Ok(_) => Ok(bytes),
    }
}

fn unusable(path: &Path, problem: impl std::fmt::Display) -> CertificateError {
    CertificateError::File { path: path.display().to_string(), problem: problem.to_string() }
}
