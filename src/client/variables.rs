//! Providers out of their own environment variables (`GROQ_API_KEY` and so on): what a worker runs on where there is no
//! service.
//!
//! Owns the reading of these variables. What is known of each type is data in `provider_types`, the same that the service
//! imports by. Must not know streams.

use std::sync::Arc;

use super::{entry::Entry, options::Environment, settings::Overrides, snapshot::Snapshot};
use crate::{
    choice::DEFAULT_ROUTER,
    proto::v1::{
        ApiKeySpec, AuthScheme, HeaderValue, HttpMethod, ProviderAuth, ProviderSpec, ProviderType, Resource,
        RouterSpec, Secret, header_value::Value, resource::Spec,
    },
    provider_types::{KNOWN, Known, TypeDefaults, defaults},
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

/// What the variables say, at revision 0: `providers/{id}` with `apiKeys/env` for each type that has a key, and
/// `routers/default`, whose primary is the first of them in the documented order.
pub(super) fn snapshot(environment: &Environment, overrides: Arc<Overrides>) -> Snapshot {
    let mut snapshot = Snapshot::new(overrides);
    let mut put = |name: String, spec| {
        let resource = Resource { name, spec: Some(spec), ..Resource::default() };
        snapshot.upsert(Arc::new(Entry::new(resource)));
    };
    let mut primary = None;
    for known in &KNOWN {
        let Some(key) = first(environment, known.keys) else { continue };
        let Some(spec) = provider(known, environment) else { continue };
        let name = format!("providers/{}", known.id);
        primary.get_or_insert(name.clone());
        let secret = Some(Secret { value: Some(key.to_owned()), ..Secret::default() });
        let key = ApiKeySpec { secret, ..ApiKeySpec::default() };
        put(format!("{name}/apiKeys/env"), Spec::ApiKey(key));
        put(name, Spec::Provider(spec));
    }
    if let Some(primary) = primary {
        let router = RouterSpec { primary, ..RouterSpec::default() };
        put(DEFAULT_ROUTER.to_owned(), Spec::Router(router));
    }
    snapshot
}

/// `None` where nobody says where it is, or where it takes no key.
fn provider(known: &Known, environment: &Environment) -> Option<ProviderSpec> {
    let of_type = defaults(known.provider_type.into()).filter(|row| row.scheme != AuthScheme::None)?;
    let base_url = match known.provider_type {
        ProviderType::Bedrock => {
            let region = first(environment, &REGIONS)?;
            format!("https://bedrock-runtime.{region}.amazonaws.com")
        }
        _ => first(environment, known.base_urls).or(of_type.base_url)?.to_owned(),
    };
    let mut spec = ProviderSpec {
        r#type: known.provider_type.into(),
        base_url,
        auth: Some(ProviderAuth {
            scheme: of_type.scheme.into(),
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
        for known in KNOWN.iter().filter(|known| known.provider_type != ProviderType::Ollama) {
            let mut vars = vec![(known.keys[0], "k"), ("AWS_REGION", "eu-west-1")];
            vars.extend(known.base_urls.first().map(|name| (*name, "https://p.example")));
            let found = read(&vars);
            let provider = found.provider(known.id).unwrap_or_else(|| panic!("{} is there", known.id));
            assert!(wire::Mapping::of(provider.spec()).is_ok(), "{}", known.id);
        }
        assert!(read(&[("OLLAMA_API_KEY", "k")]).is_empty());
    }
}
