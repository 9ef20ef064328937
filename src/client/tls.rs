//! What TLS is set up with: the authorities, and this client's certificate with its key.
//!
//! Owns the reading of these files, and what is wrong with them in words: a handshake would only say that there is none. Must not
//! know whom they are shown to.

use std::{io, path::Path};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use zeroize::Zeroizing;

use super::{error::Error, file, options::ClientOptions};

/// Certificates of all authorities there are take less.
const MAX_PEM_BYTES: usize = 4 * 1024 * 1024;

/// Whom to trust, and what to show. The files are read anew, so that they can be replaced.
///
/// # Errors
/// [`Error::CaFile`] or [`Error::IdentityFile`] for a file that can't be used.
pub(super) async fn config(options: &ClientOptions) -> Result<ClientTlsConfig, Error> {
    let tls = match &options.ca_file {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(path) => {
            let pem = read_certificates(path).await;
            let pem = pem.map_err(|cause| Error::CaFile { path: path.clone(), cause })?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&*pem))
        }
    };
    let tls = match &options.tls_server_name {
        None => tls,
        Some(name) => tls.domain_name(name),
    };
    let (Some(cert_file), Some(key_file)) = (&options.cert_file, &options.key_file) else {
        return Ok(tls);
    };
    let refused = |path: &Path, cause| Error::IdentityFile { path: path.to_owned(), cause };
    let certificate = read_certificates(cert_file).await.map_err(|cause| refused(cert_file, cause))?;
    let key = file::read(key_file, MAX_PEM_BYTES).await.map_err(|cause| refused(key_file, cause))?;
    check_pair(&certificate, &key).map_err(|cause| refused(key_file, cause))?;
    Ok(tls.identity(Identity::from_pem(&*certificate, &*key)))
}

async fn read_certificates(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let pem = file::read(path, MAX_PEM_BYTES).await?;
    if !CertificateDer::pem_slice_iter(&pem).any(|certificate| certificate.is_ok()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no certificate in PEM"));
    }
    Ok(pem)
}

/// Whether a key can be used, and is that of the certificate.
fn check_pair(certificates: &[u8], key: &[u8]) -> io::Result<()> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let chain = CertificateDer::pem_slice_iter(certificates).filter_map(Result::ok).collect();
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| wrong("it holds no private key in PEM".into()))?;
    match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(wrong("it is not the key of the certificate".into())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::{ClientOptions, Error, config};

    #[tokio::test]
    async fn files_that_cannot_be_used_are_told_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap().signing_key;
        let (text, certificate) = (file("text", "no certificate\n"), file("cert", &cert.pem()));
        let (key, other) = (file("key", &signing_key.serialize_pem()), file("other", &other.serialize_pem()));
        let options = || ClientOptions::new("https://localhost:1");
        config(&options().ca_file(&certificate).identity_files(&certificate, &key)).await.unwrap();
        for path in [&text, &key] {
            let error = config(&options().ca_file(path)).await.unwrap_err();
            assert!(matches!(&error, Error::CaFile { path: named, .. } if named == path), "{error}");
            assert!(error.to_string().contains("no certificate"), "{error}");
        }
        for (certificate, key, wrong, told) in [
            (&text, &key, &text, "it holds no certificate"),
            (&certificate, &text, &text, "it holds no private key"),
            (&certificate, &other, &other, "not the key of the certificate"),
        ] {
            let error = config(&options().identity_files(certificate, key)).await.unwrap_err();
            assert!(matches!(&error, Error::IdentityFile { path, .. } if path == wrong), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
