//! Credentials in a text that everybody reads, known by their looks: passwords in URLs, webhooks, keys of well-known services.
//!
//! Pure functions over text. What they don't know they let pass; a reference such as `${PASSWORD}` and stars are no password.
//! Must not know whose text it is. What is a credential by its name, `setting_key` says.

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
/// Parameters of a URL that are credentials although no setting of such a name is.
const PARAMETERS: [&str; 3] = ["sig", "signature", "pwd"];

const PASSWORD: &str = "a password in a URL";
const WEBHOOK: &str = "the URL of a webhook, which anybody who has it may post to";
const KEY: &str = "what looks like a key";
const PRIVATE_KEY: &str = "a private key";
const CONNECTION: &str = "a password among the words of a connection";
const MEMBER: &str = "a member with the name of a secret";

/// The first credential in a text, in words; nothing of it is repeated.
#[must_use]
pub fn found_in(text: &str) -> Option<&'static str> {
    text.match_indices("://")
        .find_map(|(at, separator)| in_url(&text[at + separator.len()..]))
        .or_else(|| text.split(|letter| !is_key_char(letter)).any(is_key).then_some(KEY))
        .or_else(|| {
            (text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----")).then_some(PRIVATE_KEY)
        })
        .or_else(|| is_connection(text).then_some(CONNECTION))
}

/// The first credential in a JSON document, in words: in a text of it, or by the name of a member. A document that can't be
/// read is searched as a text.
#[must_use]
pub fn found_in_json(text: &str) -> Option<&'static str> {
    match serde_json::from_str(text) {
        Ok(value) => in_value(&value),
        Err(_) => found_in(text),
    }
}

fn in_value(value: &serde_json::Value) -> Option<&'static str> {
    match value {
        serde_json::Value::String(text) => found_in(text),
        serde_json::Value::Array(items) => items.iter().find_map(in_value),
        serde_json::Value::Object(members) => members.iter().find_map(|(name, value)| {
            let named = value.as_str().is_some_and(|text| is_given(text) && is_secret_name(name));
            named.then_some(MEMBER).or_else(|| found_in(name)).or_else(|| in_value(value))
        }),
        _ => None,
    }
}

/// A credential in what stands behind `://`.
fn in_url(rest: &str) -> Option<&'static str> {
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '`');
    let url = rest.split(ends).next().unwrap_or_default();
    let (authority, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.split_once(':').is_some_and(|(_, password)| is_given(password)) {
        return Some(PASSWORD);
    }
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let is_at = |known: &str| host == known || (known.starts_with('.') && host.ends_with(known));
    let is_webhook = |begin: &str| path.strip_prefix(begin).is_some_and(is_given);
    if WEBHOOKS.iter().any(|(known, begin)| is_at(known) && is_webhook(begin)) {
        return Some(WEBHOOK);
    }
    let parameters = url.split(['?', ';', '&', '#']).skip(1);
    parameters.filter_map(|one| one.split_once('=')).any(is_secret_parameter).then_some(PASSWORD)
}

/// Whether a text is the words of a connection, `host=db password=x` or `Server=db;Password=x`, with a password.
fn is_connection(text: &str) -> bool {
    let words = || text.split([';', ' ', '\t', '\n']).map(str::trim).filter(|word| !word.is_empty());
    words().count() > 1
        && words().all(|word| word.contains('='))
        && words().filter_map(|word| word.split_once('=')).any(is_secret_parameter)
}

fn is_secret_parameter((name, value): (&str, &str)) -> bool {
    is_given(value) && (is_secret_name(name) || PARAMETERS.contains(&name.to_ascii_lowercase().as_str()))
}

fn is_secret_name(name: &str) -> bool {
    setting_key::is_secret(&setting_key::normalise(name))
}

/// Whether there is a value, and no reference to one or what hides one.
fn is_given(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    let upper = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let refers = value.starts_with("${")
        || value.starts_with("{")
        || value.strip_prefix('$').is_some_and(upper)
        || (value.starts_with('<') && value.ends_with('>'))
        || (value.starts_with('%') && value.ends_with('%') && value.len() > 1);
    !refers && value.chars().any(|letter| letter != '*')
}

fn is_key_char(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')
}

fn is_key(word: &str) -> bool {
    let behind = KEY_BEGINNINGS.iter().find_map(|beginning| word.strip_prefix(beginning));
    behind.is_some_and(|behind| behind.len() >= KEY_CHARS && behind.bytes().any(|byte| byte.is_ascii_digit()))
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
            "://",
            "://@:",
        ] {
            assert_eq!(found_in(text), None, "{text}");
        }
    }

    #[test]
    fn json_is_searched_by_text_and_by_member() {
        for text in [
            r#"{"a": [{"b": "postgres://app:pw@db.example/app"}]}"#,
            r#"{"smtp": {"password": "pw"}}"#,
            r#"{"openaiApiKey": "abc"}"#,
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
