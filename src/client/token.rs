//! Where the bearer token comes from.
//!
//! Owns the reading of tokens, anew for each connection so that a rotated one is taken up. Must not know what they say.

use std::{fmt, future::Future, panic::AssertUnwindSafe, path::PathBuf, pin::Pin, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;

use super::{
    error::{BoxError, Error},
    file,
    secret::SecretText,
};

/// The server refuses longer ones.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token, and white space around it.
const MAX_FILE_BYTES: usize = 64 * 1024;

type Reading = Pin<Box<dyn Future<Output = Result<SecretText, BoxError>> + Send>>;

/// Where the bearer token comes from. Asked anew at each connection. Does not print a token.
#[derive(Clone, Default)]
pub struct TokenSource(Source);

/// Whom a token speaks for, as it says itself: nobody has verified it here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) issuer: String,
    pub(super) subject: String,
}

impl Subject {
    /// Reads a JSON web token; nobody for any other text, and for none.
    pub(super) fn of(token: Option<&SecretText>) -> Self {
        token.and_then(|token| Self::read(token.expose())).unwrap_or_default()
    }

    fn read(token: &str) -> Option<Self> {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        Some(Self { issuer: text("iss").unwrap_or_default(), subject: text("sub").unwrap_or_default() })
    }
}

#[derive(Clone, Default)]
enum Source {
    #[default]
    None,
    Fixed(SecretText),
    File(PathBuf),
    Callback(Arc<dyn Fn() -> Reading + Send + Sync>),
}

impl TokenSource {
    /// No token; a server with authentication will refuse the client.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Always this token.
    #[must_use]
    pub fn fixed(token: impl Into<String>) -> Self {
        Self::of(Source::Fixed(SecretText::new(token)))
    }

    /// Whatever the file holds, or somebody writes into the pipe, without surrounding whitespace. At most 64 KiB are read,
    /// and nobody is waited for longer than 5 s.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Source::File(path.into()))
    }

    /// Whatever the callback gives. An error counts as a failed attempt to connect.
    #[must_use]
    pub fn callback<F, R>(callback: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<SecretText, BoxError>> + Send + 'static,
    {
        Self::of(Source::Callback(Arc::new(move || Box::pin(callback()))))
    }

    fn of(source: Source) -> Self {
        Self(source)
    }

    /// Reads the token.
    ///
    /// # Errors
    /// [`Error::Token`] when it can't be read, is empty, or is longer than 8 KiB.
    pub(super) async fn read(&self) -> Result<Option<SecretText>, Error> {
        let token = match &self.0 {
            Source::None => return Ok(None),
            Source::Fixed(token) => token.clone(),
            Source::File(path) => {
                let failed =
                    |error: &dyn fmt::Display| Error::Token(format!("{}: {error}", path.display()).into());
                let bytes = file::read(path, MAX_FILE_BYTES).await.map_err(|error| failed(&error))?;
                let text = std::str::from_utf8(&bytes).map_err(|error| failed(&error))?;
                SecretText::new(text.trim())
            }
            // One that panics must not end the cache.
            Source::Callback(callback) => {
                match AssertUnwindSafe(async { callback().await }).catch_unwind().await {
                    Ok(token) => token.map_err(Error::Token)?,
                    Err(_) => return Err(Error::Token("the callback panicked".into())),
                }
            }
        };
        match token.expose().len() {
            0 => Err(Error::Token("it is empty".into())),
            1..=MAX_TOKEN_BYTES => Ok(Some(token)),
            _ => Err(Error::Token("it is longer than 8 KiB".into())),
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::None => formatter.write_str("none"),
            Source::Fixed(_) => formatter.write_str("fixed"),
            Source::File(path) => write!(formatter, "file {}", path.display()),
            Source::Callback(_) => formatter.write_str("callback"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use base64::Engine as _;

    use super::{Error, Reading, SecretText, Subject, TokenSource, URL_SAFE_NO_PAD};

    async fn read(source: &TokenSource) -> Result<Option<String>, Error> {
        Ok(source.read().await?.map(|token| token.expose().to_owned()))
    }

    #[tokio::test]
    async fn a_file_is_read_again_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let source = TokenSource::file(&path);
        assert!(matches!(read(&source).await, Err(Error::Token(_))));
        for token in ["first", "second"] {
            fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(read(&source).await.unwrap().as_deref(), Some(token));
        }
        fs::write(&path, "\n").unwrap();
        assert!(matches!(read(&source).await, Err(Error::Token(_))));
    }

    #[test]
    fn whom_a_token_speaks_for_is_what_it_says() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        for (token, issuer, subject) in [
            (token(r#"{"iss": "signalbox", "sub": "worker-7", "exp": 1}"#), "signalbox", "worker-7"),
            (token(r#"{"sub": 7}"#), "", ""),
            (token("[]"), "", ""),
            ("opaque".to_owned(), "", ""),
            ("a.!.c".to_owned(), "", ""),
        ] {
            let found = Subject::of(Some(&SecretText::new(token)));
            assert_eq!(found, Subject { issuer: issuer.into(), subject: subject.into() });
        }
        assert_eq!(Subject::of(None), Subject::default());
    }

    #[tokio::test]
    async fn a_callback_is_asked_again_each_time() {
        let calls = Mutex::new(0);
        let source = TokenSource::callback(move || {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            let token = format!("token-{calls}");
            async move { Ok(SecretText::new(token)) }
        });
        assert_eq!(read(&source).await.unwrap().as_deref(), Some("token-1"));
        assert_eq!(read(&source).await.unwrap().as_deref(), Some("token-2"));
    }

    #[tokio::test]
    async fn regression_a_callback_that_panics_is_a_failed_attempt() {
        let source = TokenSource::callback(|| -> Reading { panic!("before it is a future") });
        assert!(matches!(read(&source).await, Err(Error::Token(_))));
        let source = TokenSource::callback(|| async { panic!("while it is one") });
        assert!(matches!(read(&source).await, Err(Error::Token(_))));
    }

    #[tokio::test]
    async fn a_fixed_token_is_not_printed_and_has_a_bound() {
        let source = TokenSource::fixed("sk-canary");
        assert_eq!(format!("{source:?}"), "fixed");
        assert!(read(&source).await.unwrap().is_some());
        assert!(read(&TokenSource::fixed("x".repeat(8_193))).await.is_err());
        assert_eq!(read(&TokenSource::none()).await.unwrap(), None);
    }
}
