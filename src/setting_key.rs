//! The names of settings: their one spelling, and which of them are secrets by their name alone.
//!
//! Pure functions over text, which server and client share: what one stores the other has to find. Must not know specs
//! or any framework.
//!
//! # Normalisation
//!
//! A key is cut into words, the words are put into lower case and joined by `_`. A word ends
//!
//! - at `_` and `-`, however many stand there;
//! - between a lower-case letter or digit and an upper-case letter: `maxRetries` is `max_retries`, `gpt4Turbo` is
//!   `gpt4_turbo`;
//! - before the last letter of a run of upper-case letters, where a lower-case letter follows: `HTTPTimeout` is
//!   `http_timeout`, `openAIKey` is `open_ai_key`. A plural `s` belongs to its acronym: `allowedURLs` is
//!   `allowed_urls`.
//!
//! `.`, `:`, `@` and `+` stay as they are and separate parts that are treated alone. The result normalises to itself.

use std::borrow::Cow;

/// Variables with this prefix override the setting that the rest of their name names.
pub const ENVIRONMENT_PREFIX: &str = "SIGNALBOX_SETTING_";

/// What separates parts.
const PART_ENDS: [char; 4] = ['.', ':', '@', '+'];

/// Suffixes, whole words, that make a key a secret.
const SECRET_ENDINGS: [&str; 32] = [
    "api_key",
    "api_keys",
    "access_keys",
    "private_keys",
    "secrets",
    "pwd",
    "db_pass",
    "database_pass",
    "smtp_pass",
    "mail_pass",
    "ssh_pass",
    "ldap_pass",
    "bind_dn_pass",
    "redis_pass",
    "mysql_pass",
    "postgres_pass",
    "apikey",
    "access_key",
    "secret_key",
    "private_key",
    "signing_key",
    "encryption_key",
    "master_key",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "credential",
    "credentials",
    "secret_access_key",
    "service_account_json",
];

/// Keys that hold a secret although their ending does not say so.
const SECRET_KEYS: [&str; 5] =
    ["aws_bearer_token_bedrock", "authorization", "proxy_authorization", "cookie", "set_cookie"];

/// Names of services whose `<service>_key` is an API key.
const SECRET_SERVICES: [&str; 21] = [
    "openai",
    "open_ai",
    "anthropic",
    "claude",
    "azure",
    "azure_openai",
    "google",
    "google_ai",
    "gemini",
    "groq",
    "openrouter",
    "open_router",
    "mistral",
    "cohere",
    "together",
    "deepseek",
    "deep_seek",
    "xai",
    "bedrock",
    "aws",
    "huggingface",
];

/// Tokens that a model reads or a list hands out, and nobody has to hide.
const PUBLIC_TOKENS: [&str; 14] = [
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "sep_token",
    "cls_token",
    "mask_token",
    "stop_token",
    "start_token",
    "end_token",
    "special_token",
    "page_token",
    "resume_token",
    "per_token",
];

/// The one spelling of a setting's key; see the module for the rules.
#[must_use]
pub fn normalise(key: &str) -> Cow<'_, str> {
    // Nearly every key comes in its normal form, and a worker reads settings often.
    if is_normal(key) {
        return Cow::Borrowed(key);
    }
    let mut result = String::with_capacity(key.len() + 8);
    let mut rest = key;
    while let Some(end) = rest.find(PART_ENDS) {
        push_part(&mut result, &rest[..end]);
        result.push_str(&rest[end..=end]);
        rest = &rest[end + 1..];
    }
    push_part(&mut result, rest);
    Cow::Owned(result)
}

fn is_normal(key: &str) -> bool {
    !key.contains(|letter: char| letter.is_ascii_uppercase() || letter == '-')
        && !key.contains("__")
        && !key.split(PART_ENDS).any(|part| part.starts_with('_') || part.ends_with('_'))
}

/// Whether a normalised key takes only a secret.
///
/// It does if it ends, in whole words, in one of `api_key`, `secret`, `password`, `token` and their like
/// (`max_tokens` does not, nor do the tokens of a tokenizer such as `eos_token`), or is `<service>_key` for a
/// well-known service.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    // A second key is no less one: `openai_api_key_2`.
    let key = key.trim_end_matches(|letter: char| letter.is_ascii_digit()).trim_end_matches('_');
    // `openai.api.key` is no less a key for its dots.
    says_secret(key) || says_secret(&key.replace(PART_ENDS, "_"))
}

fn says_secret(key: &str) -> bool {
    let ends_in = |word: &&str| {
        key.strip_suffix(*word)
            .is_some_and(|rest| rest.is_empty() || (rest.ends_with('_') || rest.ends_with(PART_ENDS)))
    };
    if PUBLIC_TOKENS.iter().any(&ends_in) {
        return false;
    }
    SECRET_ENDINGS.iter().any(&ends_in)
        || SECRET_KEYS.iter().any(|known| key.rsplit(PART_ENDS).next() == Some(*known))
        || key.strip_suffix("_key").is_some_and(|service| {
            SECRET_SERVICES.iter().any(|known| service.rsplit(PART_ENDS).next() == Some(*known))
        })
}

fn push_part(result: &mut String, part: &str) {
    let chars: Vec<char> = part.chars().collect();
    let start = result.len();
    for (index, &letter) in chars.iter().enumerate() {
        let separator = matches!(letter, '_' | '-');
        let begins_word = !separator && index > 0 && word_begins(&chars, index);
        if (separator || begins_word) && result.len() > start && !result.ends_with('_') {
            result.push('_');
        }
        if !separator {
            result.push(letter.to_ascii_lowercase());
        }
    }
    if result.len() > start && result.ends_with('_') {
        result.pop();
    }
}

/// Whether a word begins at `index`, which is neither the first letter nor a separator.
fn word_begins(chars: &[char], index: usize) -> bool {
    let upper = |at: usize| chars.get(at).is_some_and(char::is_ascii_uppercase);
    let lower = |at: usize| chars.get(at).is_some_and(char::is_ascii_lowercase);
    if !upper(index) {
        return false;
    }
    let previous_small = lower(index - 1) || chars[index - 1].is_ascii_digit();
    let plural = chars.get(index + 1) == Some(&'s') && !lower(index + 2);
    previous_small || (upper(index - 1) && lower(index + 1) && !plural)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_for_all() {
        for (key, normal) in [
            ("max_retries", "max_retries"),
            ("maxRetries", "max_retries"),
            ("MaxRetries", "max_retries"),
            ("max-retries", "max_retries"),
            ("MAX_RETRIES", "max_retries"),
            ("Max_Retries", "max_retries"),
            ("max__retries_", "max_retries"),
            ("HTTPTimeout", "http_timeout"),
            ("timeoutHTTP", "timeout_http"),
            ("openAIKey", "open_ai_key"),
            ("openaiApiKey", "openai_api_key"),
            ("OPENAI_API_KEY", "openai_api_key"),
            ("gpt4Turbo", "gpt4_turbo"),
            ("topP", "top_p"),
            ("aB", "a_b"),
            ("A", "a"),
            ("allowedURLs", "allowed_urls"),
            ("URLsAllowed", "urls_allowed"),
            ("llm.maxRetries", "llm.max_retries"),
            ("llm._x", "llm.x"),
            ("openaiAPIKey", "openai_api_key"),
            ("top2Results", "top2_results"),
        ] {
            assert_eq!(normalise(key), normal, "{key}");
        }
    }

    #[test]
    fn secrets_are_known_by_name() {
        for key in [
            "openai_api_key",
            "api_key",
            "azure_api_key",
            "smtp_password",
            "password",
            "client_secret",
            "github_token",
            "open_ai_key",
            "aws_secret_access_key",
            "aws_bearer_token_bedrock",
            "llm.openai_api_key",
            "llm.groq_key",
            "openai_api_key_2",
            "api_keys",
            "secrets",
            "db_pass",
            "smtp_pass",
            "pwd",
            "authorization",
            "http.authorization",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "max_tokens",
            "eos_token",
            "first_pass",
            "require_authorization",
            "cost_per_token",
            "sort_key",
            "cache_key",
            "secretary",
            "monkey",
            "",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }

    proptest! {
        #[test]
        fn normal_keys_stay(key in "\\PC{0,40}") {
            let normal = normalise(&key);
            prop_assert_eq!(normalise(&normal), normal.as_ref());
            prop_assert_eq!(is_normal(&key), normal == key);
            prop_assert!(!normal.contains(|letter: char| letter.is_ascii_uppercase() || letter == '-'));
        }

        #[test]
        fn camel_case_comes_back(words in proptest::collection::vec("[a-z]{2,6}", 1..5)) {
            let camel: String = words.iter().enumerate().map(|(index, word)| match index {
                0 => word.clone(),
                _ => word[..1].to_uppercase() + &word[1..],
            }).collect();
            prop_assert_eq!(normalise(&camel), words.join("_"));
        }
    }
}
