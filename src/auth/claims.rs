//! The claims of a verified token (RFC 7519): those that every token has to have, checked by our own clock.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::domain::Error;

/// The payload of a token.
pub(super) type Claims = Map<String, Value>;

/// Bytes of a subject or token id; they stand in logs and in the history.
const NAME_BYTES: usize = 256;

/// The registered claims, checked.
pub(super) struct Registered {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audiences: Vec<String>,
    pub(super) token_id: Option<String>,
    pub(super) issued_at: Option<DateTime<Utc>>,
    pub(super) expires_at: DateTime<Utc>,
}

/// What the registered claims have to be.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) audiences: &'a [String],
    pub(super) now: DateTime<Utc>,
    /// How far `nbf` may lie ahead.
    pub(super) leeway: Duration,
}

/// A token that is no good, with what is wrong with it.
pub(super) fn invalid(description: impl Into<String>) -> Error {
    Error::Unauthenticated { reason: "TOKEN_INVALID", description: description.into() }
}

/// A token whose time is over.
pub(super) fn expired() -> Error {
    Error::Unauthenticated {
        reason: "TOKEN_EXPIRED",
        description: "the token has expired; get a new one".into(),
    }
}

/// What a text that is a whole token says is its id (`jti`): nobody has verified it. `None` where it is no token; an empty id where
/// it tells none that could be one.
#[must_use]
pub fn told_id(text: &str) -> Option<String> {
    let mut parts = text.trim().split('.').map(|part| {
        let json = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Claims>(&json).ok()
    });
    let (header, claims) = (parts.next()??, parts.next()?.unwrap_or_default());
    if !header.contains_key("alg") || parts.count() != 1 {
        return None;
    }
    let id = claims.get("jti").and_then(Value::as_str).unwrap_or_default();
    let is_id = id.len() <= NAME_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic());
    Some(if is_id { id.to_owned() } else { String::new() })
}

impl Registered {
    /// Checks `iss`, `aud`, `sub`, `exp` and `nbf`. Time comes last, so that `TOKEN_EXPIRED` means: good until then.
    ///
    /// # Errors
    /// `TOKEN_INVALID` with the claim that is missing or wrong, or `TOKEN_EXPIRED`.
    pub(super) fn check(claims: &Claims, expected: &Expected<'_>) -> Result<Self, Error> {
        let issuer = text(claims, "iss")?.ok_or_else(|| missing("iss"))?;
        if issuer != expected.issuer {
            return Err(invalid("the token's issuer (iss) is not one that this server trusts with this key"));
        }
        let audiences = texts(claims, "aud")?.ok_or_else(|| missing("aud"))?;
        if !audiences.iter().any(|audience| expected.audiences.contains(audience)) {
            return Err(invalid("the token is meant for another audience (aud) than this server"));
        }
        let subject = name(claims, "sub")?.ok_or_else(|| missing("sub"))?;
        let token_id = name(claims, "jti")?;
        let issued_at = time(claims, "iat")?;
        let expires_at = time(claims, "exp")?.ok_or_else(|| missing("exp"))?;
        if let Some(not_before) = time(claims, "nbf")?
            && expected.now + expected.leeway < not_before
        {
            return Err(invalid("the token is not valid yet (nbf)"));
        }
        // Otherwise no revocation of its subject would ever reach it.
        if issued_at.is_some_and(|issued_at| expected.now + expected.leeway < issued_at) {
            return Err(invalid(
                "the token says that it was issued in the future (iat): either the clock of this server is behind, or that of \
                 who made the token is ahead",
            ));
        }
        if expected.now >= expires_at {
            return Err(expired());
        }
        Ok(Self { issuer, subject, audiences, token_id, issued_at, expires_at })
    }
}

/// A claim that is a text or a list of texts; `None` if it is absent.
pub(super) fn texts(claims: &Claims, claim: &str) -> Result<Option<Vec<String>>, Error> {
    let list = match claims.get(claim) {
        None => return Ok(None),
        Some(Value::String(one)) => Some(vec![one.clone()]),
        Some(Value::Array(list)) => {
            list.iter().map(|each| each.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        }
        Some(_) => None,
    };
    list.map(Some).ok_or_else(|| malformed(claim))
}

fn text(claims: &Claims, claim: &str) -> Result<Option<String>, Error> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(malformed(claim)),
    }
}

/// A text that is shown to people: not empty, not long, nothing that would break a line of a log.
fn name(claims: &Claims, claim: &str) -> Result<Option<String>, Error> {
    let fits =
        |name: &String| !name.is_empty() && name.len() <= NAME_BYTES && !name.chars().any(char::is_control);
    match text(claims, claim)? {
        Some(name) if !fits(&name) => Err(malformed(claim)),
        name => Ok(name),
    }
}

/// A NumericDate: seconds since 1970, whole or not.
fn time(claims: &Claims, claim: &str) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let time = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => DateTime::from_timestamp(seconds, 0),
        // Rounded down, for `exp` to the safe side. Out of range, the cast saturates and the conversion refuses.
        #[allow(clippy::cast_possible_truncation, reason = "saturates")]
        (None, Some(seconds)) => DateTime::from_timestamp_millis((seconds * 1000.0).floor() as i64),
        (None, None) => None,
    };
    time.map(Some).ok_or_else(|| malformed(claim))
}

fn missing(claim: &str) -> Error {
    invalid(format!("the token lacks the claim `{claim}`"))
}

fn malformed(claim: &str) -> Error {
    invalid(format!("the token's claim `{claim}` is malformed"))
}
