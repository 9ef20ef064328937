//! Azure OpenAI's addresses as its portal shows them: target URIs, which hold a deployment and a version of the API.
//!
//! Must not know where one stands.

use url::Url;

use super::{gather::cut, parts};
use crate::proto::v1::{ProviderSpec, ProviderType};

/// A deployment that is called as the model of the call.
pub(super) const MODEL: &str = "{model}";

/// The ends of the hosts that are Azure's own.
const HOSTS: [&str; 5] = [
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".openai.azure.us",
    ".openai.azure.cn",
];

/// What a target URI is made of.
pub(super) struct Target {
    /// The base URL of its resource.
    pub base_url: String,
    /// The deployment, where it names one.
    pub deployment: Option<String>,
    /// The version of the API, where it names one.
    pub version: Option<String>,
    /// Whether it is an address of the v1 API, which calls no deployment by its path and has no versions.
    is_v1: bool,
    /// Whether it names a version that is no date.
    has_other_version: bool,
}

impl Target {
    /// What a report says of it, where calls go by a version or not.
    pub fn told(&self, goes_by_version: bool) -> String {
        let mut told = cut(&self.base_url);
        if self.has_other_version {
            told.push_str("; its `api-version` is no date, such as `2024-10-21`, and is not taken");
        }
        if self.is_v1 && goes_by_version {
            told.push_str(
                "; it is an address of the v1 API, but a version is given too: calls go to deployments at that version; leave \
                 the version out to have them go to the v1 API",
            );
        }
        told
    }

    /// Lays what it says into a new provider, which gets this name; what a report says of it. Whether its deployment becomes the
    /// default model depends on what is stored.
    pub fn lay_into(self, spec: &mut ProviderSpec, name: &str, goes_by_version: bool) -> String {
        let mut told = self.told(goes_by_version);
        if let Some(deployment) = &self.deployment {
            told.push_str(&format!(
                "; its deployment `{deployment}` is the default model, unless {name} is there and has one, which stays: \
                 `signalbox set {name} --field default_model={deployment}` changes that"
            ));
        }
        spec.default_model = self.deployment.unwrap_or_default();
        spec.endpoint_path = self.version.map(|version| endpoint(MODEL, &version)).unwrap_or_default();
        spec.base_url = self.base_url;
        told
    }
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
    let path = format!("{}/", parsed.path().trim_end_matches('/'));
    let Some((prefix, rest)) = path.split_once("/openai/") else { return Ok(None) };
    let rest = rest.trim_end_matches('/');
    let deployment = match rest {
        // A gateway may have a path of that name before what Azure has there.
        "" if is_azures(&parsed) => None,
        "deployments" | "responses" | "v1" | "v1/responses" | "v1/chat/completions" => None,
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
    let versions: Vec<String> = parsed.query_pairs().map(|(_, version)| version.into_owned()).collect();
    let version = versions.iter().find(|text| is_version(text)).cloned();
    Ok(Some(Target {
        base_url: format!("{}{prefix}", parsed.origin().ascii_serialization()),
        deployment,
        has_other_version: version.is_none() && !versions.is_empty(),
        version,
        is_v1: rest == "v1" || rest.starts_with("v1/"),
    }))
}

/// Takes the base URL of a provider apart where it is a target, and no path of its own goes with it. A deployment that is not
/// called as the default model stands in the path by its name, since calls went there whatever their model. What is told of it;
/// `None` where it is none.
///
/// # Errors
/// Where a deployment is called for something that is no chat.
pub(super) fn settle(spec: &mut ProviderSpec) -> Result<Option<String>, &'static str> {
    if spec.r#type() != ProviderType::AzureOpenai || !spec.endpoint_path.is_empty() {
        return Ok(None);
    }
    let Some(target) = target(&spec.base_url)? else { return Ok(None) };
    let mut told = target.told(target.version.is_some());
    spec.base_url.clone_from(&target.base_url);
    let given = spec.default_model.clone();
    let mut called = MODEL;
    match target.deployment.as_deref() {
        Some(deployment) if given.is_empty() => {
            parts::default_model(spec, deployment);
            told.push_str(&format!("; its deployment `{deployment}` is the default model"));
        }
        Some(deployment) if given != deployment => match target.version {
            Some(_) => called = deployment,
            // It is not named: it is stored nowhere, so that nothing has checked that it is no key.
            None => told.push_str(
                "; the deployment that it names is not taken: the model is another one, and without an `api-version` calls \
                 name their deployment as the model",
            ),
        },
        _ => {}
    }
    if let Some(version) = &target.version {
        spec.endpoint_path = endpoint(called, version);
    }
    Ok(Some(told))
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

/// Whether a URL leads to Azure itself.
fn is_azures(url: &Url) -> bool {
    url.host_str().is_some_and(|host| HOSTS.iter().any(|end| host.ends_with(end)))
}

/// Whether a deployment may be called so.
fn is_deployment(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
