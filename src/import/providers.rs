//! What is known of types of providers where configuration comes from elsewhere: the words that other systems use for them,
//! and the variables that hold their keys.
//!
//! Rows of data, as `kinds::provider_types` has them; it must not know any format.

use crate::{
    crypto::is_ciphertext,
    kinds::provider_types,
    proto::v1::{ApiKeySpec, ProviderType, Secret, secret::State},
};

/// What other systems say of one type.
pub struct Known {
    /// The type.
    pub provider_type: ProviderType,
    /// The id that its provider gets where nothing else names it.
    pub id: &'static str,
    /// Its name for people.
    pub display_name: &'static str,
    /// Other words for it, beside the word for the type.
    pub aliases: &'static [&'static str],
    /// Variables with its key; the first that is set wins.
    pub keys: &'static [&'static str],
    /// Variables with its base URL; the first that is set wins.
    pub base_urls: &'static [&'static str],
}

const fn known(
    provider_type: ProviderType,
    id: &'static str,
    display_name: &'static str,
    aliases: &'static [&'static str],
    keys: &'static [&'static str],
    base_urls: &'static [&'static str],
) -> Known {
    Known { provider_type, id, display_name, aliases, keys, base_urls }
}

/// All types that have a name of their own elsewhere.
#[rustfmt::skip]
pub static KNOWN: [Known; 14] = [
    known(ProviderType::Groq, "groq", "Groq", &[], &["GROQ_API_KEY"], &["GROQ_BASE_URL"]),
    known(ProviderType::Openrouter, "openrouter", "OpenRouter", &["open_router"], &["OPENROUTER_API_KEY"],
        &["OPENROUTER_BASE_URL"]),
    known(ProviderType::GoogleAi, "google_ai", "Google AI (Gemini)", &["gemini", "google", "google_genai", "google_ai_studio"],
        &["GOOGLE_API_KEY", "GEMINI_API_KEY"], &["GEMINI_BASE_URL"]),
    known(ProviderType::Openai, "chatgpt", "ChatGPT (OpenAI)", &["chatgpt", "open_ai", "text_completion_openai"],
        &["OPENAI_API_KEY"], &["OPENAI_BASE_URL"]),
    known(ProviderType::Anthropic, "anthropic", "Anthropic", &["claude"], &["ANTHROPIC_API_KEY"], &["ANTHROPIC_BASE_URL"]),
    known(ProviderType::AzureOpenai, "azure_openai", "Azure OpenAI", &["azure", "azure_ai", "azure_text"],
        &["AZURE_OPENAI_API_KEY"], &["AZURE_OPENAI_ENDPOINT"]),
    known(ProviderType::Mistral, "mistral", "Mistral", &["mistralai", "mistral_ai"], &["MISTRAL_API_KEY"],
        &["MISTRAL_BASE_URL"]),
    known(ProviderType::Cohere, "cohere", "Cohere", &["cohere_chat"], &["CO_API_KEY", "COHERE_API_KEY"], &["COHERE_BASE_URL"]),
    known(ProviderType::Together, "together", "Together", &["together_ai", "togetherai"], &["TOGETHER_API_KEY"],
        &["TOGETHER_BASE_URL"]),
    known(ProviderType::Deepseek, "deepseek", "DeepSeek", &["deep_seek"], &["DEEPSEEK_API_KEY"], &["DEEPSEEK_BASE_URL"]),
    known(ProviderType::Xai, "xai", "xAI", &["grok", "x_ai"], &["XAI_API_KEY"], &["XAI_BASE_URL"]),
    known(ProviderType::Ollama, "ollama", "Ollama", &["ollama_chat"], &["OLLAMA_API_KEY"], &["OLLAMA_HOST"]),
    known(ProviderType::Vllm, "vllm", "vLLM", &["hosted_vllm"], &["VLLM_API_KEY"], &["VLLM_BASE_URL"]),
    known(ProviderType::Bedrock, "bedrock", "AWS Bedrock", &["amazon_bedrock", "bedrock_converse", "aws_bedrock", "aws"],
        &["AWS_BEARER_TOKEN_BEDROCK"], &[]),
];

/// The row of a type; none for types that are called after what they speak.
#[must_use]
pub fn row(provider_type: ProviderType) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.provider_type == provider_type)
}

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

/// Whether a value is what people leave in files that they copied.
#[must_use]
pub fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let word: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    word.contains("yourapikey")
        || word.contains("yourkey")
        || lower.starts_with("your")
        || lower.contains("...")
        || (lower.starts_with('<') && lower.ends_with('>'))
        || ["changeme", "replaceme", "todo", "none", "null", "dummy", "placeholder"].contains(&word.as_str())
        || (word.len() > 2 && word.chars().all(|letter| letter == 'x'))
}

/// What is wrong with a key that goes into a header, if anything.
#[must_use]
pub fn key_problem(value: &str) -> Option<&'static str> {
    if is_ciphertext(value) {
        return Some("is ciphertext, and no key as a provider takes it; give the key itself");
    }
    value
        .bytes()
        .any(|byte| !byte.is_ascii_graphic())
        .then_some("may hold only visible ASCII characters; check it for spaces, quotes and line breaks")
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
        for value in ["your-api-key-here", "YOUR_KEY", "<key>", "sk-...", "xxxx", "changeme"] {
            assert!(is_placeholder(value), "{value}");
        }
        for value in ["sk-proj-abc", "gsk_1", "AIzaSy0", "xai-abcx"] {
            assert!(!is_placeholder(value) && key_problem(value).is_none(), "{value}");
        }
        for value in ["a b", "ä", "x\n", "gAAAAAB", "\\xc30d04", "c30d04070302"] {
            assert!(key_problem(value).is_some(), "{value:?}");
        }
    }
}
