//! Azure OpenAI's addresses as its portal shows them: target URIs, which hold a deployment and a version of the API.
//!
//! Must not know where one stands.

use url::Url;

/// What a target URI is made of.
pub(super) struct Target {
    /// The base URL of its resource.
    pub base_url: String,
    /// The deployment, where it names one.
    pub deployment: Option<String>,
    /// The version of the API, where it names one.
    pub version: Option<String>,
}

const NO_CHAT: &str = "leads to no chat of a deployment; give `https://RESOURCE.openai.azure.com`, or the target URI of one: \
                       `https://RESOURCE.openai.azure.com/openai/deployments/NAME/chat/completions?api-version=VERSION`";

/// The target that a URL is, with the call behind it or without: `https://x.openai.azure.com/openai/deployments/mine` and
/// `https://x.openai.azure.com/openai/responses?api-version=2025-04-01-preview`. Calls go to the chat of a deployment, whichever
/// of the calls is named. `None` where it is no target, or holds more than one does.
///
/// # Errors
/// Where a deployment is called for something that is no chat.
pub(super) fn target(url: &str) -> Result<Option<Target>, &'static str> {
    let Ok(parsed) = Url::parse(url) else { return Ok(None) };
    let Some((prefix, rest)) = parsed.path().split_once("/openai/") else { return Ok(None) };
    let deployment = match rest.trim_end_matches('/') {
        "responses" | "v1/responses" | "v1/chat/completions" => None,
        rest => match rest.strip_prefix("deployments/") {
            Some(named) => {
                let name = named.strip_suffix("/chat/completions").unwrap_or(named);
                Some(Some(name).filter(|name| is_deployment(name)).ok_or(NO_CHAT)?.to_owned())
            }
            None => return Ok(None),
        },
    };
    let holds_more = !parsed.username().is_empty()
        || parsed.password().is_some()
        || parsed.fragment().is_some()
        || parsed.query_pairs().any(|(name, _)| name != "api-version");
    if holds_more {
        return Ok(None);
    }
    let version = parsed.query_pairs().map(|(_, version)| version.into_owned()).find(|text| is_version(text));
    let base_url = format!("{}{prefix}", parsed.origin().ascii_serialization());
    Ok(Some(Target { base_url, deployment, version }))
}

/// The endpoint path of calls of a deployment, which may be `{model}`.
pub(super) fn endpoint(deployment: &str, version: &str) -> String {
    format!("/openai/deployments/{deployment}/chat/completions?api-version={version}")
}

/// Whether it is a version of Azure's API, such as `2024-10-21` or `2025-01-01-preview`.
pub(super) fn is_version(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    date.len() == 10
        && date.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// Whether a deployment may be called so.
fn is_deployment(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
