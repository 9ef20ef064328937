//! Target URIs as Azure's portal shows them, which hold a deployment and a version of the API. Must not know an entry.

use url::Url;

/// What a target URI is made of.
pub(super) struct Target {
    /// The base URL of its resource.
    pub base_url: String,
    deployment: String,
    version: Option<String>,
}

/// The target that a URL is: `https://x.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-10-21`.
pub(super) fn target(url: &str) -> Option<Target> {
    let parsed = Url::parse(url).ok()?;
    let (prefix, rest) = parsed.path().split_once("/openai/deployments/")?;
    let (deployment, call) = rest.split_once('/')?;
    if call != "chat/completions" || deployment.is_empty() {
        return None;
    }
    let version = parsed.query_pairs().find(|(name, _)| name == "api-version");
    let base_url = format!("{}{prefix}", parsed.origin().ascii_serialization());
    let version =
        version.map(|(_, version)| version.into_owned()).filter(|version| super::is_version(version));
    Some(Target { base_url, deployment: deployment.to_owned(), version })
}

/// The endpoint path of calls of a model; empty where no version is said. A deployment that is called otherwise than the model
/// stands in it by its name.
pub(super) fn endpoint(target: Option<&Target>, version: &str, model_id: &str) -> String {
    let version = target.and_then(|target| target.version.as_deref()).unwrap_or(version);
    if version.is_empty() {
        return String::new();
    }
    let other = target.map(|target| target.deployment.as_str()).filter(|deployment| *deployment != model_id);
    let deployment = other.unwrap_or("{model}");
    format!("/openai/deployments/{deployment}/chat/completions?api-version={version}")
}
