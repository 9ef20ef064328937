//! Credentials in a text that everybody reads, known by their looks: passwords in URLs, webhooks, keys of well-known services.
//!
//! Pure functions over text. What they don't know they let pass; a reference such as `${PASSWORD}` and stars are no password.
//! Must not know whose text it is. What is a credential by its name, `setting_key` says.

use serde_json::Value;

use crate::setting_key;

/// What the keys of well-known services begin with.
const KEY_BEGINNINGS: [&str; 31] = [
    "sk-",
    "csk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "gsk_",
    "xai-",
    "AIza",
    "hf_",
    "r8_",
    "pplx-",
    "tvly-",
    "nvapi-",
    "fw_",
    "lsv2_",
    "jina_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "npm_",
    "whsec_",
    "SG.",
    "sbx_",
    "eyJ",
];
/// Characters of a key behind its beginning at least, one of them a digit: less is an example in a sentence.
const KEY_CHARS: usize = 12;

/// Hosts whose URLs of a path are webhooks: who knows the path may post.
const WEBHOOKS: [(&str, &str); 9] = [
    ("hooks.slack.com", "/"),
    ("discord.com", "/api/webhooks/"),
    ("ptb.discord.com", "/api/webhooks/"),
    ("canary.discord.com", "/api/webhooks/"),
    ("discordapp.com", "/api/webhooks/"),
    (".webhook.office.com", "/webhook"),
    ("outlook.office.com", "/webhook/"),
    ("api.telegram.org", "/bot"),
    ("hooks.zapier.com", "/hooks/"),
];
/// Words for how a credential is presented.
const PRESENTATIONS: [&str; 3] = ["bearer", "basic", "token"];
/// Characters of what is presented at least: less is a word of a sentence.
const PRESENTED_CHARS: usize = 6;
/// What stands between password and place in the addresses of Go's drivers.
const DRIVER_ADDRESSES: [&str; 4] = ["@tcp(", "@tcp6(", "@unix(", "@udp("];
/// What a whole reference to a value, or a stand-in for one, begins and ends with.
const REFERENCES: [(&str, &str); 5] = [("${", "}"), ("{{", "}}"), ("{", "}"), ("<", ">"), ("%", "%")];
/// Documents within texts of documents that are opened.
const NESTED: usize = 4;
/// Digits of a number that may be a secret.
const SECRET_DIGITS: usize = 4;
/// Names of members that say the value of what the object describes.
const VALUE_NAMES: [&str; 6] = ["value", "plain", "secret", "password", "key", "token"];
/// Bytes of a name.
const NAME_BYTES: usize = 256;
/// Parameters of a URL that are credentials although no setting of such a name is.
const PARAMETERS: [&str; 2] = ["sig", "signature"];

const PASSWORD: &str = "a password in a URL";
const WEBHOOK: &str = "the URL of a webhook, which anybody who has it may post to";
const PRESENTED: &str = "what is presented to be let in, such as a bearer token";
const KEY: &str = "what looks like a key";
const PRIVATE_KEY: &str = "a private key";
const CONNECTION: &str = "a password among the words of a connection";
const MEMBER: &str = "a member with the name of a secret";

/// The first credential in a text, in words; nothing of it is repeated. Takes time in step with the length of the text.
#[must_use]
pub fn found_in(text: &str) -> Option<&'static str> {
    shown_plainly(text)
        .or_else(|| is_presented(text).then_some(PRESENTED))
        .or_else(|| text.split_whitespace().any(is_driver_address).then_some(PASSWORD))
        .or_else(|| is_connection(text).then_some(CONNECTION))
}

/// As [`found_in`], but only what is a credential beyond doubt: for texts that people write for people, in which a word such as
/// `password=` is no secret.
#[must_use]
pub fn shown_plainly(text: &str) -> Option<&'static str> {
    urls(text)
        .find_map(|(scheme, rest)| in_url(scheme, rest))
        .or_else(|| text.split(|letter| !is_key_char(letter)).any(is_key).then_some(KEY))
        .or_else(|| {
            (text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----")).then_some(PRIVATE_KEY)
        })
}

/// Whether [`shown_plainly`] may find something in one of the texts that this one is put together from, with whatever between
/// them. Quick where it does not.
#[must_use]
pub fn may_be_shown(text: &str) -> bool {
    ["://", "-----BEGIN "].iter().chain(&KEY_BEGINNINGS).any(|beginning| text.contains(beginning))
}

/// The first credential in a JSON document, in words: in a text of it, or by the name of a member. A document that can't be
/// read is searched as a text.
#[must_use]
pub fn found_in_json(text: &str) -> Option<&'static str> {
    match serde_json::from_str(text) {
        Ok(value) => in_value(&value, NESTED),
        Err(_) => found_in(text),
    }
}

/// As [`found_in_json`], for a document that stands under a name, which may say that it is one.
#[must_use]
pub fn found_in_member(name: &str, text: &str) -> Option<&'static str> {
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    (is_secret_name(name) && holds_secret(&value)).then_some(MEMBER).or_else(|| found_in_json(text))
}

/// A credential in a value; `nested` is how many documents within texts of documents are still opened.
fn in_value(value: &Value, nested: usize) -> Option<&'static str> {
    match value {
        Value::String(text) => {
            let is_document = nested > 0 && text.trim_start().starts_with(['{', '[']);
            let inner = is_document.then(|| serde_json::from_str(text).ok()).flatten();
            match inner {
                Some(inner) => in_value(&inner, nested - 1),
                None => found_in(text),
            }
        }
        Value::Array(items) => items.iter().find_map(|item| in_value(item, nested)),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let named = is_secret_name(name) && holds_secret(value);
            named.then_some(MEMBER).or_else(|| found_in(name)).or_else(|| in_value(value, nested))
        }),
        _ => None,
    }
}

/// Whether what a member with the name of a secret holds is one. An object is the description of one more often than not, such
/// as a schema: it is one if it says its value.
fn holds_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => is_given(text),
        Value::Number(number) => number.to_string().len() >= SECRET_DIGITS,
        Value::Array(items) => items.iter().any(|item| !item.is_object() && holds_secret(item)),
        Value::Object(members) => members.iter().any(|(name, value)| {
            VALUE_NAMES.contains(&name.to_ascii_lowercase().as_str())
                && !value.is_object()
                && holds_secret(value)
        }),
        Value::Null | Value::Bool(_) => false,
    }
}

/// The scheme before each `://`, and what stands behind it up to the next one: no part of the text is looked at twice.
fn urls(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let schemes = text
        .split("://")
        .map(|part| part.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default());
    schemes.zip(text.split("://").skip(1))
}

/// A credential in what stands behind the `://` of a scheme.
fn in_url(scheme: &str, rest: &str) -> Option<&'static str> {
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '`');
    let url = rest.split(ends).next().unwrap_or_default();
    let (authority, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let shown = match user.split_once(':') {
        Some((_, password)) => is_given(password),
        // Who asks for a page by a long name with digits shows a token.
        None => is_web(scheme) && user.len() >= KEY_CHARS && has_digit(user) && is_given(user),
    };
    if shown {
        return Some(PASSWORD);
    }
    if is_webhook(host, path) {
        return Some(WEBHOOK);
    }
    let parameters = url.split(['?', ';', '&', '#']).skip(1);
    parameters.filter_map(|one| one.split_once('=')).any(is_secret_parameter).then_some(PASSWORD)
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

fn is_webhook(host: &str, path: &str) -> bool {
    let host = host.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let is_at = |known: &str| host == known || (known.starts_with('.') && host.ends_with(known));
    // `/api/v10/webhooks` is `/api/webhooks`.
    let version = path
        .strip_prefix("/api/v")
        .map(|rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    let path = version.map_or_else(|| path.to_owned(), |rest| format!("/api{rest}"));
    WEBHOOKS.iter().any(|(known, begin)| is_at(known) && path.strip_prefix(begin).is_some_and(is_given))
}

/// Whether a text is what a header `Authorization` holds: a word for how, and what is shown.
fn is_presented(text: &str) -> bool {
    let Some((scheme, shown)) = text.trim().split_once(' ') else { return false };
    let shown = shown.trim_start();
    let is_one = !shown.contains(char::is_whitespace) && is_given(shown);
    PRESENTATIONS.iter().any(|known| scheme.eq_ignore_ascii_case(known))
        && is_one
        && ((shown.len() >= PRESENTED_CHARS && has_digit(shown)) || shown.len() >= 2 * KEY_CHARS)
}

/// Whether a word is the address of a database as drivers of Go have it, `user:password@tcp(host:port)/name`, with a password.
fn is_driver_address(word: &str) -> bool {
    let at = DRIVER_ADDRESSES.iter().find_map(|network| word.find(network));
    at.and_then(|at| word[..at].split_once(':')).is_some_and(|(_, password)| is_given(password))
}

/// Whether a text is nothing but the words of a connection, `host=db password=x` or `Server=db;Password=x`, with a password.
fn is_connection(text: &str) -> bool {
    // Space around `=` belongs to it.
    let text = text.split('=').map(str::trim).collect::<Vec<_>>().join("=");
    let between: &[char] = if text.contains(';') { &[';', '\n'] } else { &[' ', '\t', '\n', '\r'] };
    let words = || text.split(between).map(str::trim).filter(|word| !word.is_empty());
    words().all(|word| word.contains('='))
        && words().filter_map(|word| word.split_once('=')).any(is_secret_parameter)
}

fn is_secret_parameter((name, value): (&str, &str)) -> bool {
    is_given(value) && (is_secret_name(name) || PARAMETERS.contains(&name.to_ascii_lowercase().as_str()))
}

fn is_secret_name(name: &str) -> bool {
    // A name is short; what is longer is none.
    name.len() <= NAME_BYTES && setting_key::is_secret(&setting_key::normalise(name))
}

/// Whether there is a value, and no reference to one or what hides one. A reference is the whole of it: a password may begin like
/// one.
fn is_given(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    let refers = REFERENCES.iter().any(|(begin, end)| {
        let inner = value.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        inner.is_some_and(|inner| is_identifier(inner.trim()))
    });
    !refers && value.chars().any(|letter| letter != '*')
}

fn is_identifier(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b' ');
    !name.is_empty() && name.bytes().all(allowed)
}

fn is_key_char(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')
}

fn is_key(word: &str) -> bool {
    let behind = KEY_BEGINNINGS.iter().find_map(|beginning| word.strip_prefix(beginning));
    behind.is_some_and(|behind| behind.len() >= KEY_CHARS && has_digit(behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_looks() {
        for text in [
            "postgres://app:pw@db.example/app",
            "redis://:pw@cache.example:6379/0",
            "use https://me:pw@proxy.example, or none",
            "jdbc:postgresql://db.example/app?user=app&password=pw",
            "https://api.example/v1?api_key=abc",
            "https://x.blob.core.windows.net/a?sv=1&sig=abc",
            "https://hooks.slack.com/services/T0/B0/xyz",
            "https://discord.com/api/webhooks/1/abc",
            "https://acme.webhook.office.com/webhookb2/1@2/IncomingWebhook/3",
            "https://api.telegram.org/bot1:abc/sendMessage",
            "sk-proj-0123456789abcdef",
            "the key is gsk_abcdefgh01234567.",
            "key=AIzaSyA0123456789abcdef",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
            "-----BEGIN RSA PRIVATE KEY-----\nabc",
            "host=db.example user=app password=pw",
            "Server=db.example;Uid=app;Pwd=pw",
            "Server=db.example; User Id=app; Password = pw",
            "host = db.example password = pw",
            "password=hunter2",
            "X_PASSWORD=hunter2",
            "Bearer abc123def",
            "Basic YWRtaW46aHVudGVyMg==",
            "postgres://app:{pw@db.example/app",
            "postgres://app:$CAPS@db.example/app",
            "postgres://app:${X}y@db.example/app",
            "postgres://app:${X:-pw}@db.example/app",
            "app:pw@tcp(db.example:3306)/app",
            "https://ghtoken0123456@git.example/a",
            "https://discord.com/api/v10/webhooks/1/abc",
            "https://HOOKS.slack.com./services/T0/B0/xyz",
            "https://a.example/?next=postgres://app:pw@db.example/app",
        ] {
            assert!(found_in(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_none_passes() {
        for text in [
            "",
            "postgres://app@db.example/app",
            "postgres://app:${DB_PASSWORD}@db.example/app",
            "postgres://app:<password>@db.example/app",
            "postgres://app:***@db.example/app",
            "https://api.groq.com/openai/v1?max_tokens=5",
            "https://hooks.slack.com/",
            "https://discord.com/channels/1",
            "sk-learn",
            "task-0123456789abcdefgh",
            "sk-learn-and-more-words",
            "keys begin with sk- and have 48 characters",
            "openai/gpt-4o-2024-08-06",
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
            "what is your password=? say it",
            "max_tokens=5 temperature=1",
            "a:b@c",
            "https://me@dev.azure.com/org",
            "ssh://git@git.example/a",
            "postgres://app:{{ password }}@db.example/app",
            "bearer tokens are used here",
            "Basic auth",
            "token bucket",
            "temperature=1",
            "retries = 5",
            "://",
            "://@:",
        ] {
            assert_eq!(found_in(text), None, "{text}");
        }
    }

    #[test]
    fn regression_the_search_takes_time_in_step_with_the_text() {
        let texts = ["://", "a://b@", "https://x?a=b&", "://@:", "=", "@tcp(", "sk-1", "[", "{\"a\":"];
        for text in texts.map(|part| part.repeat(64 * 1024 / part.len())) {
            let looked_at: usize = urls(&text).map(|(scheme, rest)| scheme.len() + rest.len()).sum();
            assert!(looked_at <= 2 * text.len(), "{looked_at} bytes of {}", text.len());
            let _ = found_in_json(&text);
        }
    }

    #[test]
    fn what_is_written_for_people_is_searched_for_what_is_beyond_doubt() {
        assert!(shown_plainly("use postgres://app:pw@db.example").is_some());
        assert!(shown_plainly("the key is gsk_abcdefgh01234567.").is_some());
        assert_eq!(shown_plainly("password=hunter2"), None);
    }

    #[test]
    fn json_is_searched_by_text_and_by_member() {
        for text in [
            r#"{"a": [{"b": "postgres://app:pw@db.example/app"}]}"#,
            r#"{"smtp": {"password": "pw"}}"#,
            r#"{"openaiApiKey": "abc"}"#,
            r#"{"password": 12345}"#,
            r#"{"api_keys": ["abc"]}"#,
            r#"{"secrets": {"value": "abc"}}"#,
            r#"{"headers": {"Authorization": "abc"}}"#,
            r#"{"headers": {"Cookie": "session=abc"}}"#,
            r#"{"smtp_pass": "abc", "port": 25}"#,
            r#"{"openai_api_key_2": "abc"}"#,
            r#"{"inner": "{\"password\": \"pw\"}"}"#,
        ] {
            assert!(found_in_json(text).is_some(), "{text}");
        }
        for text in [
            r#"{"password": ""}"#,
            r#"{"password": "${PASSWORD}"}"#,
            r#"{"properties": {"token": {"type": "string"}}, "max_tokens": "5"}"#,
            r#"{"eos_token": "</s>"}"#,
            "{",
        ] {
            assert_eq!(found_in_json(text), None, "{text}");
        }
    }
}
