//! Providers out of their own environment variables (`GROQ_API_KEY` and so on): what a worker runs on where there is no
//! service.
//!
//! Owns the reading of these variables. What is known of each type is data in `provider_types`, the same that the service
//! imports by. Must not know streams.

use std::sync::Arc;

use super::{entry::Entry, environment::Environment, settings::Overrides, snapshot::Snapshot};
use crate::{
    choice::DEFAULT_ROUTER,
    proto::v1::{
        ApiKeySpec, AuthScheme, HeaderValue, HttpMethod, ProviderAuth, ProviderSpec, ProviderType, Resource,
        RouterSpec, Secret, header_value::Value, resource::Spec,
    },
    provider_types::{
        KNOWN, Known, OLLAMA_CLOUD, TypeDefaults, base_url, default_model, defaults, needs_no_key,
    },
    wire::families,
};

const OPENAI_HEADERS: [(&str, &str); 2] =
    [("OPENAI_ORG_ID", "OpenAI-Organization"), ("OPENAI_PROJECT_ID", "OpenAI-Project")];
const API_VERSION: &str = "OPENAI_API_VERSION";
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Whether a variable is one of these.
pub(super) fn is_looked_at(name: &str) -> bool {
    let of_types = || KNOWN.iter().flat_map(|known| known.keys.iter().chain(known.base_urls));
    name == API_VERSION
        || REGIONS.contains(&name)
        || OPENAI_HEADERS.iter().any(|(known, _)| *known == name)
        || of_types().any(|known| *known == name)
}

/// What the variables say, at revision 0: `providers/{id}` with `apiKeys/env` for each type that has a key, those that run on
/// one's own machines where a variable says where, and `routers/default`, whose primary is the first of them in the documented
/// order.
pub(super) fn snapshot(environment: &Environment, overrides: Arc<Overrides>) -> Snapshot {
    let mut snapshot = Snapshot::new(overrides);
    let mut put = |name: String, spec| {
        let resource = Resource { name, spec: Some(spec), ..Resource::default() };
        snapshot.upsert(Arc::new(Entry::new(resource)));
    };
    let mut primary = None;
    for known in &KNOWN {
        let key = first(environment, known.keys);
        let Some(spec) = provider(known, environment, key.is_some()) else { continue };
        let name = format!("providers/{}", known.id);
        primary.get_or_insert(name.clone());
        if let Some(key) = key {
            let secret = Some(Secret { value: Some(key.to_owned()), ..Secret::default() });
            let key = ApiKeySpec { secret, ..ApiKeySpec::default() };
            put(format!("{name}/apiKeys/env"), Spec::ApiKey(key));
        }
        put(name, Spec::Provider(spec));
    }
    if let Some(primary) = primary {
        let router = RouterSpec { primary, ..RouterSpec::default() };
        put(DEFAULT_ROUTER.to_owned(), Spec::Router(router));
    }
    snapshot
}

/// `None` where nobody says where it is, or where its key is missing.
fn provider(known: &Known, environment: &Environment, has_key: bool) -> Option<ProviderSpec> {
    let of_type = defaults(known.provider_type.into())?;
    let given = first(environment, known.base_urls);
    let keyless = needs_no_key(known.provider_type) && given.is_some();
    if !(has_key || keyless) {
        return None;
    }
    let base = match known.provider_type {
        ProviderType::Bedrock => {
            let region = first(environment, &REGIONS)?;
            format!("https://bedrock-runtime.{region}.amazonaws.com")
        }
        ProviderType::Ollama if given.is_none() => OLLAMA_CLOUD.to_owned(),
        _ => match given {
            Some(given) => base_url(known.provider_type, given),
            None => of_type.base_url?.to_owned(),
        },
    };
    let scheme = match (has_key, of_type.scheme) {
        (false, _) => AuthScheme::None,
        (true, AuthScheme::None) => AuthScheme::Bearer,
        (true, scheme) => scheme,
    };
    // At the own address of its type, as the service does it.
    let is_at_home = given.is_none_or(|given| of_type.base_url == Some(given));
    let model = if is_at_home { default_model(known.provider_type) } else { "" };
    let mut spec = ProviderSpec {
        r#type: known.provider_type.into(),
        base_url: base,
        default_model: model.to_owned(),
        auth: Some(ProviderAuth {
            scheme: scheme.into(),
            header_template: of_type.header_template.to_owned(),
        }),
        endpoint_path: endpoint_path(known, of_type, environment),
        headers: headers(known, of_type, environment),
        method: HttpMethod::Post.into(),
        enabled: Some(true),
        ..ProviderSpec::default()
    };
    families::fill(&mut spec);
    Some(spec)
}

fn endpoint_path(known: &Known, of_type: &TypeDefaults, environment: &Environment) -> String {
    match environment.text(API_VERSION) {
        Some(version) if known.provider_type == ProviderType::AzureOpenai => {
            format!("/openai/deployments/{{model}}/chat/completions?api-version={version}")
        }
        _ => of_type.endpoint_path.to_owned(),
    }
}

fn headers(
    known: &Known,
    of_type: &TypeDefaults,
    environment: &Environment,
) -> std::collections::BTreeMap<String, HeaderValue> {
    let named = OPENAI_HEADERS.into_iter().filter(|_| known.provider_type == ProviderType::Openai);
    let named = named.filter_map(|(variable, name)| Some((name, environment.text(variable)?)));
    let all = of_type.headers.iter().copied().chain(named);
    let plain = |text: &str| HeaderValue { value: Some(Value::Plain(text.to_owned())) };
    all.map(|(name, text)| (name.to_owned(), plain(text))).collect()
}

fn first<'e>(environment: &'e Environment, names: &[&str]) -> Option<&'e str> {
    names.iter().find_map(|name| environment.text(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn read(vars: &[(&str, &str)]) -> Snapshot {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        snapshot(&Environment::from_vars(vars), Arc::default())
    }

    #[test]
    fn the_first_with_a_key_is_active() {
        let found = read(&[
            ("MISTRAL_API_KEY", " sk-m \n"),
            ("ANTHROPIC_API_KEY", "sk-a"),
            ("GROQ_API_KEY", "  "),
            ("OPENAI_ORG_ID", "org-1"),
            ("MISTRAL_BASE_URL", "https://m.example"),
        ]);
        assert_eq!(found.active_provider().unwrap().id(), "anthropic");
        let header = found.provider("anthropic").unwrap().header("anthropic-version").unwrap();
        assert_eq!(header.unwrap().expose(), "2023-06-01");
        assert_eq!(found.active_api_key("mistral").unwrap().secret().unwrap().expose(), "sk-m");
        assert_eq!(found.provider("mistral").unwrap().spec().base_url, "https://m.example");
        assert!(found.provider("groq").is_none() && found.revision() == 0);
        assert!(read(&[("SIGNALBOX_URL", "x")]).is_empty());
    }

    #[test]
    fn what_needs_a_place_of_its_own_is_left_out_without_one() {
        let alone = read(&[("AZURE_OPENAI_API_KEY", "k"), ("AWS_BEARER_TOKEN_BEDROCK", "k")]);
        assert!(alone.is_empty());
        let placed = read(&[
            ("AZURE_OPENAI_API_KEY", "k"),
            ("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com"),
            ("OPENAI_API_VERSION", "2024-10-21"),
            ("AWS_BEARER_TOKEN_BEDROCK", "k"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
        ]);
        let azure = placed.provider("azure_openai").unwrap();
        assert!(azure.spec().endpoint_path.ends_with("{model}/chat/completions?api-version=2024-10-21"));
        let bedrock = placed.provider("bedrock").unwrap();
        assert_eq!(bedrock.spec().base_url, "https://bedrock-runtime.eu-west-1.amazonaws.com");
    }

    /// Whatever has a key and a place can be called.
    #[test]
    fn every_type_can_be_spoken_to() {
        for known in &KNOWN {
            let mut vars = vec![(known.keys[0], "k"), ("AWS_REGION", "eu-west-1")];
            vars.extend(known.base_urls.first().map(|name| (*name, "https://p.example")));
            let found = read(&vars);
            let provider = found.provider(known.id).unwrap_or_else(|| panic!("{} is there", known.id));
            assert!(wire::Mapping::of(provider.spec()).is_ok(), "{}", known.id);
        }
    }

    #[test]
    fn regression_ollama_is_found_without_a_key() {
        let found = read(&[("OLLAMA_HOST", "0.0.0.0")]);
        let ollama = found.active_provider().unwrap();
        assert_eq!((ollama.id(), ollama.spec().base_url.as_str()), ("ollama", "http://127.0.0.1:11434"));
        assert_eq!(ollama.spec().auth.as_ref().unwrap().scheme(), AuthScheme::None);
        assert!(found.active_api_keys("ollama").is_empty());
        let cloud = read(&[("OLLAMA_API_KEY", "k")]);
        assert_eq!(cloud.provider("ollama").unwrap().spec().base_url, OLLAMA_CLOUD);
        assert_eq!(cloud.active_api_keys("ollama").len(), 1);
        assert!(read(&[("GROQ_BASE_URL", "https://llm.example")]).is_empty());
    }

    #[test]
    fn a_call_needs_no_model_where_the_first_start_knows_one() {
        assert!(!read(&[("GROQ_API_KEY", "k")]).provider("groq").unwrap().spec().default_model.is_empty());
        let elsewhere = read(&[("GROQ_API_KEY", "k"), ("GROQ_BASE_URL", "https://llm.example")]);
        assert!(elsewhere.provider("groq").unwrap().spec().default_model.is_empty());
    }
}
