//! What is known of types of providers where configuration comes from elsewhere: the words that other systems use for them,
//! and the variables that hold their keys.
//!
//! The rows are those of `provider_types`; it must not know any format.

pub use crate::kinds::provider_types::{KNOWN, Known, row};
use crate::{
    crypto::is_ciphertext,
    kinds::provider_types,
    proto::v1::{ApiKeySpec, ProviderType, Secret, secret::State},
};

/// The type that another system's word stands for, whatever its case and separators.
#[must_use]
pub fn type_of(word: &str) -> Option<ProviderType> {
    let word = word.trim().to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    provider_types::type_of_word(&word).or_else(|| {
        KNOWN.iter().find(|known| known.aliases.contains(&word.as_str())).map(|known| known.provider_type)
    })
}

/// The id of the provider of a type where nothing else names it.
#[must_use]
pub fn id_of(provider_type: ProviderType) -> String {
    row(provider_type).map_or_else(|| provider_types::word(provider_type), |known| known.id.to_owned())
}

/// A key with its value, or one that is missing it.
#[must_use]
pub fn api_key(value: Option<&str>, description: &str) -> ApiKeySpec {
    let state = if value.is_some() { State::Unspecified } else { State::Missing };
    let secret = Some(Secret { value: value.map(str::to_owned), state: state.into() });
    ApiKeySpec { secret, description: description.to_owned(), ..ApiKeySpec::default() }
}

/// What a report says of one.
pub const PLACEHOLDER: &str = "holds a placeholder, or a reference to where the key is, and no key";

/// What references to secret stores begin with, which something else resolves.
const REFERENCES: [&str; 8] =
    ["op://", "vault:", "ref+", "arn:aws:", "aws-sm:", "gcp-sm:", "doppler:", "infisical:"];

/// Words that stand for a key in what people copy, as a whole value.
const STAND_INS: [&str; 15] = [
    "changeme",
    "replaceme",
    "replacethis",
    "todo",
    "tbd",
    "none",
    "null",
    "dummy",
    "placeholder",
    "example",
    "redacted",
    "secret",
    "apikey",
    "key",
    "token",
];

/// Whether a value can be no provider's key: a placeholder, or a reference that something else resolves.
#[must_use]
pub fn is_no_key(value: &str) -> bool {
    let lower = value.trim().to_ascii_lowercase();
    is_placeholder(value) || REFERENCES.iter().any(|store| lower.starts_with(store))
}

/// Whether a value is what people leave in files that they copied.
#[must_use]
pub fn is_placeholder(value: &str) -> bool {
    let lower = value.trim().to_ascii_lowercase();
    let word: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    let words = || lower.split(|letter: char| !letter.is_ascii_alphanumeric());
    let crossed_out = |word: &str| word.len() > 2 && word.bytes().all(|letter| letter == b'x');
    let embraced = |begin: &str, end: char| lower.starts_with(begin) && lower.ends_with(end);
    STAND_INS.contains(&word.as_str())
        || words().any(|word| matches!(word, "your" | "changeme" | "placeholder") || crossed_out(word))
        || ["yourapikey", "yourkey", "insertkey", "apikeyhere", "keyhere"]
            .iter()
            .any(|part| word.contains(part))
        || lower.starts_with("your")
        || ["...", "\u{2026}", "***"].iter().any(|part| lower.contains(part))
        || embraced("<", '>')
        || embraced("`", '`')
        || is_reference(value)
}

/// Whether a value refers to where another one is, as shells and templates do: `$NAME`, `${NAME}`, `$(command)`, `{{ name }}`.
#[must_use]
pub fn is_reference(value: &str) -> bool {
    let value = value.trim();
    let embraced = |begin: &str, end: char| value.starts_with(begin) && value.ends_with(end);
    embraced("${", '}') || embraced("{{", '}') || embraced("$(", ')') || is_variable(value)
}

/// Whether a value refers to a variable as a shell does: `$OPENAI_API_KEY`.
fn is_variable(value: &str) -> bool {
    value.strip_prefix('$').is_some_and(|name| {
        name.starts_with(|letter: char| letter.is_ascii_uppercase())
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    })
}

/// What is wrong with a key that goes into a header, if anything.
#[must_use]
pub fn key_problem(value: &str) -> Option<&'static str> {
    if is_ciphertext(value) {
        return Some("is ciphertext, and no key as a provider takes it; give the key itself");
    }
    let is_part = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`');
    (!value.bytes().all(is_part)).then_some(
        "may hold only visible ASCII characters and no quotes; check it for spaces, quotes and line breaks",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_systems() {
        for (word, expected) in [
            ("openai", Some(ProviderType::Openai)),
            ("OpenAI", Some(ProviderType::Openai)),
            ("azure", Some(ProviderType::AzureOpenai)),
            ("gemini", Some(ProviderType::GoogleAi)),
            ("together_ai", Some(ProviderType::Together)),
            ("amazon-bedrock", Some(ProviderType::Bedrock)),
            ("custom", Some(ProviderType::Custom)),
            ("unheard_of", None),
            ("", None),
        ] {
            assert_eq!(type_of(word), expected, "{word}");
        }
        assert_eq!(id_of(ProviderType::Openai), "chatgpt");
        assert_eq!(id_of(ProviderType::Custom), "custom");
    }

    #[test]
    fn every_type_with_a_service_behind_it_has_a_row() {
        let without = [ProviderType::OpenaiCompatible, ProviderType::Custom];
        for row in &provider_types::TYPES {
            assert_eq!(super::row(row.provider_type).is_none(), without.contains(&row.provider_type));
        }
    }

    #[test]
    fn placeholders_are_no_keys() {
        for value in [
            "your-api-key-here",
            "YOUR_KEY",
            "<key>",
            "sk-...",
            "xxxx",
            "changeme",
            "sk-ant-xxx",
            "sk-XXXXXXXX",
            "gsk_your_groq_key",
            "...",
            "sk-\u{2026}",
            "********",
            "${OPENAI_API_KEY}",
            "{{ key }}",
            "sk-ant-api03-xxxx",
            "change-me",
            "insert-key-here",
            "TODO",
            " <your key> ",
            "$(cat /run/key)",
            "`cat key`",
            "$OPENAI_API_KEY",
        ] {
            assert!(is_placeholder(value), "{value}");
        }
        for value in ["sk-proj-abc", "gsk_1", "AIzaSy0", "xai-abcx", "sk-0xxx1", "sk-key", "sk-test"] {
            assert!(!is_placeholder(value) && key_problem(value).is_none(), "{value}");
        }
        for value in ["op://vault/item/field", "vault:secret/data/llm#key", "sk-..."] {
            assert!(is_no_key(value), "{value}");
        }
        assert!(!is_no_key("sk-proj-abc") && !is_placeholder("arn:aws:iam::1:role/x"));
        assert!(!is_placeholder("$2b$10$abc") && !is_placeholder("$ecret"));
        for value in ["sk-\"unclosed", "'sk-1", "a b", "ä", "x\n", "gAAAAAB", "\\xc30d04", "c30d04070302"] {
            assert!(key_problem(value).is_some(), "{value:?}");
        }
    }
}
