//! The certificate of the gRPC listener.

use std::path::PathBuf;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values,
};

const CERT_FILE: Opt = Opt::new(
    "tls-cert-file",
    "SIGNALBOX_TLS_CERT_FILE",
    "tls.cert_file",
    "FILE",
    "PEM file with the certificate chain of the gRPC listener",
);
const KEY_FILE: Opt = Opt::new(
    "tls-key-file",
    "SIGNALBOX_TLS_KEY_FILE",
    "tls.key_file",
    "FILE",
    "PEM file with the private key of the certificate",
);
const CLIENT_CA_FILE: Opt = Opt::new(
    "tls-client-ca-file",
    "SIGNALBOX_TLS_CLIENT_CA_FILE",
    "tls.client_ca_file",
    "FILE",
    "PEM file with the authorities of client certificates, which are then required",
);

/// The options of this section.
pub static OPTIONS: [&Opt; 3] = [&CERT_FILE, &KEY_FILE, &CLIENT_CA_FILE];

/// The certificate of the gRPC listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with its private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities of client certificates, which are then required.
    pub client_ca_file: Option<PathBuf>,
}

impl Tls {
    /// Reads the section; `Some(None)` is plaintext.
    pub fn read(from: &mut Reader<'_>) -> Option<Option<Self>> {
        let cert_file = from.optional(&CERT_FILE, values::path);
        let key_file = from.optional(&KEY_FILE, values::path);
        let client_ca_file = from.optional(&CLIENT_CA_FILE, values::path);
        let missing = match (cert_file?, key_file?, client_ca_file?) {
            (None, None, None) => return Some(None),
            (Some(cert_file), Some(key_file), client_ca_file) => {
                return Some(Some(Self { cert_file, key_file, client_ca_file }));
            }
            (None, ..) => &CERT_FILE,
            (Some(_), None, _) => &KEY_FILE,
        };
        from.complain(Problem::with(missing, "is missing; TLS needs both the certificate and its key"));
        None
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let Self { cert_file, key_file, client_ca_file } = self;
        let client_ca =
            client_ca_file.as_deref().and_then(|path| Problem::unless_file(&CLIENT_CA_FILE, path));
        [Problem::unless_file(&CERT_FILE, cert_file), Problem::unless_file(&KEY_FILE, key_file), client_ca]
            .into_iter()
            .flatten()
            .collect()
    }
}
