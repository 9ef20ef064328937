//! The types of providers as data: what is filled in for each when the caller leaves it out, and what other systems call
//! it and its variables.
//!
//! The only place of the engine that names a provider. A type is a row; code reads rows. Server and client share it: what a
//! worker falls back on is what the service would import. Must not know any framework.

pub use crate::choice::type_word as word;
use crate::proto::v1::{AuthScheme, ProviderSpec, ProviderType};

/// What is known of one type.
#[derive(Clone, Copy, Debug)]
pub struct TypeDefaults {
    /// The type.
    pub provider_type: ProviderType,
    /// Where it is, if that is the same for everybody.
    pub base_url: Option<&'static str>,
    /// What its base URL looks like, for errors.
    pub base_url_example: &'static str,
    /// How its key is presented; unspecified where that is for the caller to say.
    pub scheme: AuthScheme,
    /// For the header scheme: the header.
    pub header_template: &'static str,
    /// Path of its completion endpoint; empty where that is for the caller to say.
    pub endpoint_path: &'static str,
    /// Headers that it can't do without.
    pub headers: &'static [(&'static str, &'static str)],
}

/// The row of a type, by its number on the wire; `None` for the unspecified and the unknown.
#[must_use]
pub fn defaults(provider_type: i32) -> Option<&'static TypeDefaults> {
    TYPES.iter().find(|row| i32::from(row.provider_type) == provider_type)
}

/// The type that a word stands for.
#[must_use]
pub fn type_of_word(text: &str) -> Option<ProviderType> {
    TYPES.iter().map(|row| row.provider_type).find(|known| word(*known) == text)
}

/// The words for all types, for an error.
#[must_use]
pub fn words() -> String {
    TYPES.iter().map(|row| format!("`{}`", word(row.provider_type))).collect::<Vec<_>>().join(", ")
}

/// A row that presents the key as a bearer token.
const fn bearer(
    provider_type: ProviderType,
    base_url: &'static str,
    endpoint_path: &'static str,
) -> TypeDefaults {
    TypeDefaults {
        provider_type,
        base_url: Some(base_url),
        base_url_example: base_url,
        scheme: AuthScheme::Bearer,
        header_template: "",
        endpoint_path,
        headers: &[],
    }
}

/// The same row, but everybody has a base URL of their own.
const fn without_base_url(row: TypeDefaults) -> TypeDefaults {
    TypeDefaults { base_url: None, ..row }
}

/// The same row with a header for the key.
const fn with_header(row: TypeDefaults, header_template: &'static str) -> TypeDefaults {
    TypeDefaults { scheme: AuthScheme::Header, header_template, ..row }
}

const CHAT: &str = "/chat/completions";

/// All types.
pub static TYPES: [TypeDefaults; 16] = [
    bearer(ProviderType::Openai, "https://api.openai.com/v1", CHAT),
    TypeDefaults {
        // The API refuses calls that name no version.
        headers: &[("anthropic-version", "2023-06-01")],
        ..with_header(
            bearer(ProviderType::Anthropic, "https://api.anthropic.com/v1", "/messages"),
            "x-api-key: {api_key}",
        )
    },
    without_base_url(with_header(
        bearer(
            ProviderType::AzureOpenai,
            "https://my-resource.openai.azure.com",
            "/openai/v1/chat/completions",
        ),
        "api-key: {api_key}",
    )),
    with_header(
        bearer(
            ProviderType::GoogleAi,
            "https://generativelanguage.googleapis.com",
            "/v1beta/models/{model}:generateContent",
        ),
        "x-goog-api-key: {api_key}",
    ),
    bearer(ProviderType::Groq, "https://api.groq.com/openai/v1", CHAT),
    bearer(ProviderType::Openrouter, "https://openrouter.ai/api/v1", CHAT),
    bearer(ProviderType::Mistral, "https://api.mistral.ai/v1", CHAT),
    bearer(ProviderType::Cohere, "https://api.cohere.com", "/v2/chat"),
    bearer(ProviderType::Together, "https://api.together.xyz/v1", CHAT),
    bearer(ProviderType::Deepseek, "https://api.deepseek.com", CHAT),
    bearer(ProviderType::Xai, "https://api.x.ai/v1", CHAT),
    TypeDefaults {
        scheme: AuthScheme::None,
        ..bearer(ProviderType::Ollama, "http://localhost:11434", "/api/chat")
    },
    bearer(ProviderType::Vllm, "http://localhost:8000/v1", CHAT),
    without_base_url(bearer(
        ProviderType::Bedrock,
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        "/model/{model}/converse",
    )),
    without_base_url(bearer(ProviderType::OpenaiCompatible, "https://llm.example.com/v1", CHAT)),
    TypeDefaults {
        scheme: AuthScheme::Unspecified,
        ..without_base_url(bearer(ProviderType::Custom, "https://llm.example.com/v1", ""))
    },
];

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
    known(ProviderType::AzureOpenai, "azure_openai", "Azure OpenAI", &["azure", "azure_text"],
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

/// The model of a call that names none, of a provider of this type where it always is; empty where none is known.
#[must_use]
pub fn default_model(provider_type: ProviderType) -> &'static str {
    match provider_type {
        ProviderType::Groq => "openai/gpt-oss-120b",
        ProviderType::Openrouter => "openrouter/auto",
        ProviderType::GoogleAi => "gemini-3.5-flash",
        ProviderType::Openai => "gpt-5.4-mini",
        ProviderType::Anthropic => "claude-sonnet-5-5",
        ProviderType::Mistral => "mistral-large-2512",
        ProviderType::Cohere => "command-a-03-2025",
        ProviderType::Deepseek => "deepseek-v4-flash",
        ProviderType::Xai => "grok-4.3",
        _ => "",
    }
}

/// What the names of models begin with that their makers serve themselves, for systems that name a model without a provider.
const MODEL_BEGINNINGS: [(&str, ProviderType); 15] = [
    ("gpt-", ProviderType::Openai),
    ("ft:gpt-", ProviderType::Openai),
    ("chatgpt-", ProviderType::Openai),
    ("o1", ProviderType::Openai),
    ("o3", ProviderType::Openai),
    ("o4", ProviderType::Openai),
    ("text-embedding-", ProviderType::Openai),
    ("dall-e-", ProviderType::Openai),
    ("whisper-", ProviderType::Openai),
    ("tts-", ProviderType::Openai),
    ("claude", ProviderType::Anthropic),
    ("gemini-", ProviderType::GoogleAi),
    ("command", ProviderType::Cohere),
    ("grok-", ProviderType::Xai),
    ("deepseek-", ProviderType::Deepseek),
];

/// The type whose maker serves a model of this name, if its name tells.
#[must_use]
pub fn type_of_model(model: &str) -> Option<ProviderType> {
    MODEL_BEGINNINGS.iter().find(|(beginning, _)| model.starts_with(beginning)).map(|(_, found)| *found)
}

/// Words of a variable's name that say nothing of whose key it holds.
const NEUTRAL: [&str; 18] = [
    "ai",
    "api",
    "key",
    "keys",
    "token",
    "secret",
    "llm",
    "litellm",
    "model",
    "my",
    "our",
    "main",
    "default",
    "prod",
    "production",
    "dev",
    "test",
    "staging",
];

/// Whose key a variable holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Its name says nothing of it.
    Unsaid,
    /// Somebody's who is not known here.
    Somebody,
    /// A provider of this type.
    Type(ProviderType),
}

/// Whose key a variable holds, by its name: `OPENAI_API_KEY`, `PROD_AZURE_KEY`, `FIREWORKS_API_KEY`.
#[must_use]
pub fn owner_of_variable(name: &str) -> Owner {
    if let Some(known) = KNOWN.iter().find(|known| known.keys.contains(&name)) {
        return Owner::Type(known.provider_type);
    }
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    let plain = |text: &str| text.replace('_', "");
    let is_of = |known: &Known, said: &str| {
        let of_type = word(known.provider_type);
        plain(&of_type) == said || known.aliases.iter().chain([&known.id]).any(|alias| plain(alias) == said)
    };
    // The longest first: `azure_openai` is not OpenAI's.
    for length in (1..=3).rev() {
        for said in words.windows(length).map(|words| words.concat()) {
            if let Some(known) = KNOWN.iter().find(|known| is_of(known, &said)) {
                return Owner::Type(known.provider_type);
            }
        }
    }
    let is_neutral = |word: &&str| NEUTRAL.contains(word) || word.bytes().all(|byte| byte.is_ascii_digit());
    if words.iter().all(is_neutral) { Owner::Unsaid } else { Owner::Somebody }
}

/// The base URL of a type, where a URL leads to the same service and is only cut elsewhere: in front of what the provider's own
/// client adds by itself, or behind the endpoint.
#[must_use]
pub fn own_base_url(provider_type: ProviderType, url: &str) -> Option<&'static str> {
    let row = defaults(provider_type.into())?;
    let own = row.base_url?;
    let (scheme, place) = own.split_once("://")?;
    let origin = scheme.len() + 3 + place.find('/').unwrap_or(place.len());
    let same = url.get(..origin).is_some_and(|given| given.eq_ignore_ascii_case(&own[..origin]));
    let given = url.get(origin..).filter(|_| same)?.trim_end_matches('/');
    let whole = format!("{}{}", &own[origin..], row.endpoint_path);
    whole.strip_prefix(given).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')).then_some(own)
}

/// A base URL as it is to be: that of the type where it leads to its own service, and else without the endpoint path of the type,
/// or the beginning of that up to its version, which would be said twice. `None` where it is so already.
#[must_use]
pub fn recut_base_url(provider_type: ProviderType, url: &str) -> Option<String> {
    if let Some(own) = own_base_url(provider_type, url) {
        return (own != url).then(|| own.to_owned());
    }
    let plain = url.trim_end_matches('/');
    let endpoint = defaults(provider_type.into())?.endpoint_path;
    let beginnings = endpoint.match_indices('/').map(|(at, _)| &endpoint[..at]);
    let mut said = std::iter::once(endpoint).chain(beginnings.filter(|said| ends_in_version(said)));
    let cut = said.find_map(|said| plain.strip_suffix(said).filter(|_| !said.is_empty()))?;
    Some(cut.to_owned())
}

/// Whether a path ends in a version, such as `/v1beta`.
fn ends_in_version(path: &str) -> bool {
    let step = path.rsplit('/').next().unwrap_or_default();
    step.strip_prefix('v').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
}

/// Whether a URL is where Google speaks the OpenAI protocol.
#[must_use]
pub fn is_googles_openai(url: &str) -> bool {
    let google = defaults(ProviderType::GoogleAi.into()).and_then(|row| row.base_url).unwrap_or_default();
    url.strip_prefix(google).is_some_and(|path| {
        path.strip_prefix("/v1beta/openai").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whether a provider is the service that its type is called after, rather than one that somebody else runs.
#[must_use]
pub fn is_at_home(spec: &ProviderSpec) -> bool {
    spec.base_url.is_empty() || defaults(spec.r#type).is_some_and(|row| row.base_url == Some(&spec.base_url))
}

/// Where Ollama is for those who have a key for it, and say nothing else.
pub const OLLAMA_CLOUD: &str = "https://ollama.com";

/// Whether it runs on one's own machines, where it needs no key.
#[must_use]
pub fn needs_no_key(provider_type: ProviderType) -> bool {
    matches!(provider_type, ProviderType::Ollama | ProviderType::Vllm)
}

/// The base URL that a variable means.
#[must_use]
pub fn base_url(provider_type: ProviderType, text: &str) -> String {
    let text = text.trim_end_matches('/');
    if provider_type != ProviderType::Ollama {
        return text.to_owned();
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    // Where it listens on every address, it is called on this machine.
    let rest = rest.strip_prefix("0.0.0.0").map_or(rest.to_owned(), |rest| format!("127.0.0.1{rest}"));
    let rest = if rest.starts_with(':') { format!("127.0.0.1{rest}") } else { rest };
    let port = rest.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    // Without a scheme the port is its own; with one it is the scheme's.
    if port || text.contains("://") {
        format!("{scheme}://{rest}")
    } else {
        format!("{scheme}://{rest}:11434")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_row() {
        let all = (1..).map_while(|number| ProviderType::try_from(number).ok());
        let found: Vec<ProviderType> =
            all.filter_map(|one| defaults(one.into())).map(|row| row.provider_type).collect();
        assert_eq!(found.len(), TYPES.len());
        assert!(defaults(0).is_none());
        assert!(defaults(17).is_none(), "a new type needs a row");
    }

    #[test]
    fn regression_a_base_url_is_known_however_it_is_cut() {
        let anthropic = Some("https://api.anthropic.com/v1");
        let google = Some("https://generativelanguage.googleapis.com");
        for (of, url, own) in [
            (ProviderType::Anthropic, "https://api.anthropic.com", anthropic),
            (ProviderType::Anthropic, "https://API.anthropic.com/v1/", anthropic),
            (ProviderType::Anthropic, "https://api.anthropic.com/v1/messages", anthropic),
            (ProviderType::Anthropic, "https://api.anthropic.com.evil.example", None),
            (ProviderType::Anthropic, "https://api.anthropic.com/v1/mess", None),
            (ProviderType::Anthropic, "https://api.anthropic.com/v2", None),
            (ProviderType::Anthropic, "http://api.anthropic.com", None),
            (ProviderType::Groq, "https://api.groq.com", Some("https://api.groq.com/openai/v1")),
            (ProviderType::GoogleAi, "https://generativelanguage.googleapis.com/v1beta", google),
            (ProviderType::GoogleAi, "https://generativelanguage.googleapis.com/v1beta/openai", None),
            (ProviderType::Deepseek, "https://api.deepseek.com/v1", None),
            (ProviderType::AzureOpenai, "https://my-resource.openai.azure.com", None),
        ] {
            assert_eq!(own_base_url(of, url), own, "{url}");
        }
    }

    #[test]
    fn regression_an_endpoint_in_a_base_url_is_not_said_twice() {
        for (of, url, cut) in [
            (
                ProviderType::Openai,
                "https://api.openai.com/v1/chat/completions",
                Some("https://api.openai.com/v1"),
            ),
            (
                ProviderType::OpenaiCompatible,
                "https://c.example/v1/chat/completions/",
                Some("https://c.example/v1"),
            ),
            (ProviderType::OpenaiCompatible, "https://c.example/v1/", None),
            (ProviderType::OpenaiCompatible, "https://c.example/v1", None),
            (ProviderType::OpenaiCompatible, "https://c.example/chat", None),
            (
                ProviderType::Anthropic,
                "https://proxy.example/anthropic/v1/messages",
                Some("https://proxy.example/anthropic/v1"),
            ),
            (ProviderType::GoogleAi, "https://proxy.example/v1beta", Some("https://proxy.example")),
            (
                ProviderType::AzureOpenai,
                "https://x.openai.azure.com/openai/v1/",
                Some("https://x.openai.azure.com"),
            ),
            (ProviderType::AzureOpenai, "https://x.openai.azure.com", None),
            (ProviderType::Custom, "https://x.example/chat/completions", None),
        ] {
            assert_eq!(recut_base_url(of, url).as_deref(), cut, "{url}");
        }
        for (url, is) in [
            ("https://generativelanguage.googleapis.com/v1beta/openai/", true),
            ("https://generativelanguage.googleapis.com/v1beta/openai", true),
            ("https://generativelanguage.googleapis.com/v1beta/openaix", false),
            ("https://generativelanguage.googleapis.com", false),
        ] {
            assert_eq!(is_googles_openai(url), is, "{url}");
        }
    }

    #[test]
    fn every_type_has_its_word() {
        assert_eq!(type_of_word("google_ai"), Some(ProviderType::GoogleAi));
        assert!(TYPES.iter().all(|row| type_of_word(&word(row.provider_type)) == Some(row.provider_type)));
        for text in ["", "unspecified", "OPENAI", "PROVIDER_TYPE_OPENAI"] {
            assert_eq!(type_of_word(text), None, "{text:?}");
        }
        assert!(words().starts_with("`openai`, `anthropic`"));
    }
}
