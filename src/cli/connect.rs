//! The connection to a server: which one, whether to trust it, and with which token.
//!
//! Owns where the command line finds these, and what to do when they are wrong. The connection is the client's.

use std::{
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use super::{
    args::Target,
    failure::{Exit, Failure},
    input,
    session::Session,
};
use crate::{
    client::{ClientOptions, Connection, Error, TokenSource},
    domain::TraceContext,
};

/// Where a server is looked for when nothing is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:50051";

/// A token with white space beside it.
const TOKEN_BYTES: usize = 64 * 1024;

/// Address of the server, and whether somebody named it.
#[must_use]
pub fn address(session: &Session<'_>, target: &Target) -> (String, bool) {
    let from_env = || session.variable("SIGNALBOX_URL").and_then(|url| url.into_string().ok());
    match target.server.clone().or_else(from_env) {
        Some(url) => (url, true),
        None => (DEFAULT_URL.to_owned(), false),
    }
}

/// Connects, or says why not.
pub async fn connect(session: &mut Session<'_>, target: &Target) -> Result<Connection, Failure> {
    let (urls, _) = address(session, target);
    let token = token(session, target)?;
    let mut options = ClientOptions::of_urls(&urls);
    // Whoever runs this verb as a step of something traced names it so; what is no context is nobody's mistake here.
    let [traced, beside] = ["TRACEPARENT", "TRACESTATE"]
        .map(|name| session.variable(name).and_then(|text| text.into_string().ok()).unwrap_or_default());
    if let Some(context) = TraceContext::parse(&traced, &beside) {
        options = options.trace_context(context);
    }
    if let Some(ca_file) = file(session, target.ca_file.as_ref(), "SIGNALBOX_CA_FILE") {
        options = options.ca_file(ca_file);
    }
    if let Some(name) = &target.tls_server_name {
        options = options.tls_server_name(name);
    }
    let certificate = file(session, target.cert_file.as_ref(), "SIGNALBOX_CLIENT_CERT_FILE");
    match (certificate, file(session, target.key_file.as_ref(), "SIGNALBOX_CLIENT_KEY_FILE")) {
        (Some(certificate), Some(key)) => options = options.identity_files(certificate, key),
        (None, None) => {}
        _ => {
            return Err(Failure::usage(
                "--cert-file and --key-file (SIGNALBOX_CLIENT_CERT_FILE, SIGNALBOX_CLIENT_KEY_FILE): give both or neither",
            ));
        }
    }
    let flags = [
        ("--ca-file", target.ca_file.is_some()),
        ("--tls-server-name", target.tls_server_name.is_some()),
        ("--cert-file", target.cert_file.is_some()),
        ("--key-file", target.key_file.is_some()),
    ];
    let given = flags.into_iter().find(|(_, given)| *given);
    if let Some((flag, _)) = given.filter(|_| !urls.contains("https://")) {
        return Err(Failure::usage(format!(
            "{flag}: the server is not asked for TLS; give an https:// address"
        )));
    }
    let Some((source, token)) = token else {
        return Connection::open(&options).await.map_err(|error| explain(&error, "the token"));
    };
    if urls.split(',').any(|url| sends_in_the_clear(url.trim())) {
        session.remark("warning: the token crosses the network in the clear; use https");
    }
    Connection::open(&options.token(token)).await.map_err(|error| explain(&error, source))
}

/// A file from its flag, or from the environment.
fn file(session: &Session<'_>, flag: Option<&PathBuf>, variable: &str) -> Option<PathBuf> {
    flag.cloned().or_else(|| session.variable(variable).map(PathBuf::from))
}

fn sends_in_the_clear(url: &str) -> bool {
    // What is no address is refused by the client.
    let Ok(url) = url::Url::parse(url) else { return false };
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !local
}

/// The token and where it was found. A file that was named must be readable; the default one need not be there.
fn token(session: &mut Session<'_>, target: &Target) -> Result<Option<(&'static str, TokenSource)>, Failure> {
    if let Some(path) = &target.token_file {
        return Ok(Some(("--token-file", token_file(session, "--token-file", path)?)));
    }
    if let Some(token) = session.variable("SIGNALBOX_TOKEN") {
        let token = token.into_string().map_err(|_| Failure::usage("SIGNALBOX_TOKEN: is not valid UTF-8"))?;
        return Ok(Some(("SIGNALBOX_TOKEN", TokenSource::fixed(token.trim()))));
    }
    if let Some(path) = session.variable("SIGNALBOX_TOKEN_FILE") {
        let token = token_file(session, "SIGNALBOX_TOKEN_FILE", Path::new(&path))?;
        return Ok(Some(("SIGNALBOX_TOKEN_FILE", token)));
    }
    let data_dir = session.variable("SIGNALBOX_DATA_DIR").unwrap_or_else(|| "data".into());
    let path = Path::new(&data_dir).join("admin.token");
    let readable = std::fs::File::open(&path).is_ok();
    Ok(readable.then(|| ("admin.token", TokenSource::file(path))))
}

/// A file is read anew for each connection. What is none, such as the pipe of `<(...)`, gives its token once.
fn token_file(session: &mut Session<'_>, place: &str, path: &Path) -> Result<TokenSource, Failure> {
    let kind = std::fs::metadata(path).map(|found| found.file_type());
    if !kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device()) {
        return Ok(TokenSource::file(path));
    }
    let text = input::read_short(session, Some(path), TOKEN_BYTES)
        .map_err(|error| Failure::usage(format!("{place}: can't read {}: {error}", path.display())))?;
    Ok(TokenSource::fixed(text.trim()))
}

/// What a connection that was cut may be due to, which only who dialled can tell: TLS on one side alone, and a missing
/// certificate, show no sooner than in the first call.
pub fn advise(failure: Failure, session: &Session<'_>, target: &Target) -> Failure {
    if !matches!(failure, Failure::Lost(_)) {
        return failure;
    }
    let certificate = file(session, target.cert_file.as_ref(), "SIGNALBOX_CLIENT_CERT_FILE");
    let hint = match address(session, target).0.contains("https://") {
        false => "if the server speaks TLS, its address begins with https://",
        true if certificate.is_none() => {
            "if the server asks for a certificate, --cert-file and --key-file name one and its key"
        }
        true => "is the server still running, and is the certificate one that it accepts?",
    };
    Failure::told(failure.exit(), format!("{failure}\nhint: {hint}"))
}

/// What the user can do about it; `token` is where the token was found.
fn explain(error: &Error, token: &str) -> Failure {
    match error {
        Error::Options(what) => {
            Failure::usage(format!("--server (SIGNALBOX_URL): {what}; give an address such as {DEFAULT_URL}"))
        }
        Error::Token(_) => Failure::usage(format!("{token}: {error}")),
        Error::CaFile { .. } => Failure::usage(format!("--ca-file (SIGNALBOX_CA_FILE): {error}")),
        Error::IdentityFile { .. } => Failure::usage(format!(
            "--cert-file, --key-file (SIGNALBOX_CLIENT_CERT_FILE, SIGNALBOX_CLIENT_KEY_FILE): {error}"
        )),
        Error::Connect { cause, .. } if cause.contains("UnknownIssuer") => Failure::told(
            Exit::Unavailable,
            format!(
                "{error}\nhint: nobody that is trusted here has signed the server's certificate; --ca-file or \
                 SIGNALBOX_CA_FILE name the authority that did"
            ),
        ),
        Error::Connect { cause, .. } if cause.contains("not valid for name") => Failure::told(
            Exit::Unavailable,
            format!(
                "{error}\nhint: the certificate is for another name than the address; --tls-server-name says which, where \
                 the server is reached through a forwarded port"
            ),
        ),
        Error::Connect { cause, .. } if cause.contains("InvalidContentType") => Failure::told(
            Exit::Unavailable,
            format!(
                "{error}\nhint: what answers there speaks no TLS; its address begins with http://, or is another one"
            ),
        ),
        // As `openssl req -x509` makes one.
        Error::Connect { cause, .. } if cause.contains("CaUsedAsEndEntity") => Failure::told(
            Exit::Unavailable,
            format!(
                "{error}\nhint: the server shows the certificate of an authority as its own; one for a server has \
                 `basicConstraints = CA:FALSE`, and may then be named by --ca-file as well"
            ),
        ),
        Error::Connect { cause, .. } if cause.contains("invalid peer certificate") => Failure::told(
            Exit::Unavailable,
            format!(
                "{error}\nhint: the server is there, and its certificate is not taken: --ca-file (SIGNALBOX_CA_FILE) names \
                 whose certificates are, --tls-server-name whom they are for"
            ),
        ),
        _ => Failure::told(
            Exit::Unavailable,
            format!(
                "{error}\nhint: is the server running (`signalbox serve`), and is this its address? --server or \
                 SIGNALBOX_URL name another"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the server runs was asked of somebody whom it had just answered.
    #[test]
    fn regression_a_certificate_that_is_not_taken_is_told_with_what_to_do() {
        let told = |cause: &str| {
            let (endpoint, cause) =
                ("https://127.0.0.1:1".to_owned(), format!("invalid peer certificate: {cause}"));
            explain(&Error::Connect { endpoint, cause }, "").to_string()
        };
        for (cause, hint) in [
            ("Other(OtherError(CaUsedAsEndEntity))", "CA:FALSE"),
            ("UnsupportedSignatureAlgorithmForPublicKeyContext { .. }", "--ca-file"),
            ("Expired", "--ca-file"),
            ("UnknownIssuer", "SIGNALBOX_CA_FILE name the authority"),
        ] {
            let text = told(cause);
            assert!(text.contains(hint) && !text.contains("is the server running"), "{text}");
        }
        let cause = "received corrupt message of type InvalidContentType".to_owned();
        let text =
            explain(&Error::Connect { endpoint: "https://127.0.0.1:1".to_owned(), cause }, "").to_string();
        assert!(text.contains("begins with http://"), "{text}");
    }
}
