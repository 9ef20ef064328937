//! What a new store begins with: the starter providers, the catalogue of models, and what was found of providers and
//! databases in the environment.
//!
//! Four providers are always there: Groq, OpenRouter, Google AI, ChatGPT. One that was found under the same name is the
//! starter, with the base URL and the headers that were found. A provider can be called if it has a key, or needs none and
//! was found. Those that can are enabled, and so is the active one; the others wait for their key.
//!
//! The active one is the first that can be called in the order of [`KNOWN`] (Groq, OpenRouter, Google AI, ChatGPT, then
//! Anthropic, Azure OpenAI, Mistral, Cohere, Together, DeepSeek, xAI, Ollama, vLLM, Bedrock), or Groq if none can. It gets no
//! fallbacks: to whom else prompts may go is for an operator to say.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Imported, Item, Problems, catalogue,
    edited::stamp,
    providers::{KNOWN, id_of, row},
};
use crate::{
    domain::record::Spec,
    kinds::provider_types::{default_model, is_at_home},
    proto::v1::{ProviderSpec, ProviderType, Resource, RouterSpec},
};

/// What the labels of the starters say.
pub const FORMAT: &str = "starters";

/// The router whose primary is the active provider.
const ROUTER: &str = "routers/default";

/// A provider that every new store has.
struct Starter {
    provider_type: ProviderType,
}

const STARTERS: [Starter; 4] = [
    Starter { provider_type: ProviderType::Groq },
    Starter { provider_type: ProviderType::Openrouter },
    Starter { provider_type: ProviderType::GoogleAi },
    Starter { provider_type: ProviderType::Openai },
];

/// What a new store begins with.
#[derive(Debug)]
pub struct Beginning {
    /// All resources, by name.
    pub resources: Vec<Resource>,
    /// What became of what was found.
    pub items: Vec<Item>,
    /// The active provider's name.
    pub active: String,
}

/// Puts together what a new store begins with. What was found and is not valid is told, and stops nothing.
///
/// # Errors
/// If the catalogue can't be read.
pub fn begin(found: Imported) -> Result<Beginning, Problems> {
    let Imported { resources, items, .. } = found.without_invalid();
    let mut all: BTreeMap<String, Resource> =
        resources.into_iter().map(|resource| (resource.name.clone(), resource)).collect();
    // A provider is found only if it can be called.
    let callable: BTreeSet<String> =
        all.values().filter(|one| is_provider(one)).map(|one| one.name.clone()).collect();
    let active = KNOWN.iter().map(|known| name_of(known.provider_type)).find(|name| callable.contains(name));
    let active = active.unwrap_or_else(|| name_of(STARTERS[0].provider_type));
    for starter in &STARTERS {
        let name = name_of(starter.provider_type);
        let found = all.remove(&name).and_then(|resource| resource.spec);
        let enabled = callable.contains(&name) || name == active;
        let spec = Spec::Provider(starter.spec(found, enabled));
        all.insert(name.clone(), labelled(name, spec));
    }
    let router =
        RouterSpec { display_name: "Default".into(), primary: active.clone(), ..RouterSpec::default() };
    all.insert(ROUTER.to_owned(), labelled(ROUTER.to_owned(), Spec::Router(router)));
    let models = catalogue::models()?.resources;
    all.extend(models.into_iter().map(|resource| (resource.name.clone(), resource)));
    Ok(Beginning { resources: all.into_values().collect(), items, active })
}

impl Beginning {
    /// The active provider, if calls of it have to name a model.
    #[must_use]
    pub fn without_default_model(&self) -> Option<&str> {
        let is_open = |spec: &Spec| matches!(spec, Spec::Provider(spec) if spec.default_model.is_empty());
        let active = self.resources.iter().find(|one| one.name == self.active)?;
        active.spec.as_ref().filter(|spec| is_open(spec)).map(|_| self.active.as_str())
    }
}

impl Starter {
    fn spec(&self, found: Option<Spec>, enabled: bool) -> ProviderSpec {
        let mut spec = match found {
            Some(Spec::Provider(spec)) => spec,
            _ => ProviderSpec { r#type: self.provider_type.into(), ..ProviderSpec::default() },
        };
        if let Some(known) = row(self.provider_type) {
            known.display_name.clone_into(&mut spec.display_name);
        }
        // What else is served elsewhere nobody knows.
        if is_at_home(&spec) {
            default_model(self.provider_type).clone_into(&mut spec.default_model);
        }
        spec.enabled = Some(enabled);
        spec
    }
}

fn is_provider(resource: &Resource) -> bool {
    matches!(resource.spec, Some(Spec::Provider(_)))
}

fn name_of(provider_type: ProviderType) -> String {
    format!("providers/{}", id_of(provider_type))
}

fn labelled(name: String, spec: Spec) -> Resource {
    let mut resource = Resource { name, spec: Some(spec), ..Resource::default() };
    stamp(&mut resource, FORMAT);
    resource
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        choice::type_word,
        import::{Decision, IMPORTED_AS, IMPORTED_FROM, decide, env},
    };

    fn beginning(variables: &[(&str, &str)]) -> Beginning {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let found = env::convert(env::Variables::of_environment(&lookup)).whole();
        found.and_then(begin).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn provider<'a>(beginning: &'a Beginning, id: &str) -> &'a ProviderSpec {
        let name = format!("providers/{id}");
        let found = beginning.resources.iter().find(|one| one.name == name).and_then(|one| one.spec.as_ref());
        match found {
            Some(Spec::Provider(spec)) => spec,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn enabled(beginning: &Beginning) -> Vec<&str> {
        let on =
            |one: &&Resource| matches!(&one.spec, Some(Spec::Provider(spec)) if spec.enabled != Some(false));
        beginning.resources.iter().filter(on).map(|one| one.name.trim_start_matches("providers/")).collect()
    }

    #[test]
    fn without_any_key_groq_is_active_and_the_others_wait() {
        let beginning = beginning(&[]);
        assert_eq!(beginning.active, "providers/groq");
        assert_eq!(enabled(&beginning), ["groq"]);
        let names = |prefix| beginning.resources.iter().filter(move |one| one.name.starts_with(prefix));
        assert_eq!(names("providers/").count(), 4);
        assert!(names("models/").count() > 30);
        assert_eq!(provider(&beginning, "chatgpt").r#type(), ProviderType::Openai);
        let router = names("routers/default").next().and_then(|one| one.spec.as_ref());
        assert!(
            matches!(router, Some(Spec::Router(one)) if one.primary == "providers/groq" && one.fallbacks.is_empty())
        );
        for resource in &beginning.resources {
            assert!(resource.labels.contains_key(IMPORTED_AS), "{}", resource.name);
        }
    }

    #[test]
    fn the_first_that_has_a_key_is_active_unless_groq_has_one() {
        for (keys, active, on) in [
            (&["OPENAI_API_KEY"][..], "chatgpt", &["chatgpt"][..]),
            (&["GROQ_API_KEY", "OPENAI_API_KEY"], "groq", &["chatgpt", "groq"]),
            (&["ANTHROPIC_API_KEY", "GEMINI_API_KEY"], "google_ai", &["anthropic", "google_ai"]),
            (&["OPENROUTER_API_KEY", "GEMINI_API_KEY"], "openrouter", &["google_ai", "openrouter"]),
            (&["MISTRAL_API_KEY", "ANTHROPIC_API_KEY"], "anthropic", &["anthropic", "mistral"]),
            (&["OLLAMA_HOST"], "ollama", &["ollama"]),
            (&["OPENAI_BASE_URL"], "groq", &["groq"]),
        ] {
            let url = "http://llm.example:8000";
            let value = |key: &str| if key.ends_with("KEY") { "gsk-0123456789" } else { url };
            let set: Vec<_> = keys.iter().map(|key| (*key, value(key))).collect();
            let beginning = beginning(&set);
            assert_eq!(beginning.active, format!("providers/{active}"), "{keys:?}");
            assert_eq!(enabled(&beginning), on, "{keys:?}");
        }
    }

    #[test]
    fn a_starter_that_was_found_keeps_where_it_is() {
        let set = [("OPENAI_API_KEY", "sk-0123456789"), ("OPENAI_BASE_URL", "https://llm.example/v1")];
        let beginning = beginning(&set);
        let chatgpt = provider(&beginning, "chatgpt");
        assert_eq!(
            (chatgpt.base_url.as_str(), chatgpt.default_model.as_str()),
            ("https://llm.example/v1", "")
        );
        assert_eq!(provider(&beginning, "groq").default_model, "openai/gpt-oss-120b");
        let key = beginning.resources.iter().find(|one| one.name == "providers/chatgpt/apiKeys/env");
        assert_eq!(key.map(|key| key.labels[IMPORTED_FROM].as_str()), Some("env"));
    }

    /// What the label of a starter says holds for the spec that it was given, also where one was found.
    #[test]
    fn nobody_has_edited_a_starter_yet() {
        let beginning = beginning(&[("GROQ_API_KEY", "gsk-0123456789")]);
        for resource in beginning.resources.iter().filter(|one| !one.name.contains("/apiKeys/")) {
            assert_eq!(decide(resource, Some(resource), true), Decision::Unchanged, "{}", resource.name);
        }
    }

    #[test]
    fn the_default_models_are_in_the_catalogue_where_it_has_models_of_the_type() {
        let beginning = beginning(&[]);
        let models: Vec<&str> = beginning.resources.iter().map(|one| one.name.as_str()).collect();
        for known in &KNOWN {
            let beneath = format!("models/{}/", type_word(known.provider_type));
            let model = default_model(known.provider_type);
            let named = format!("{beneath}{}", model.replace('/', "+"));
            let is_known = models.iter().any(|name| name.starts_with(&beneath));
            assert_eq!(is_known, models.contains(&named.as_str()), "{named}");
        }
        for (id, model) in [
            ("groq", "openai/gpt-oss-120b"),
            ("openrouter", "openrouter/auto"),
            ("google_ai", "gemini-3.5-flash"),
            ("chatgpt", "gpt-5.4-mini"),
        ] {
            assert_eq!(provider(&beginning, id).default_model, model);
        }
    }

    /// A call of the provider that is active from the start on named no model, and failed.
    #[test]
    fn regression_a_provider_that_is_found_alone_has_a_default_model() {
        for (key, id) in
            [("ANTHROPIC_API_KEY", "anthropic"), ("MISTRAL_API_KEY", "mistral"), ("XAI_API_KEY", "xai")]
        {
            let beginning = beginning(&[(key, "sk-0123456789")]);
            assert_eq!(beginning.active, format!("providers/{id}"));
            assert!(!provider(&beginning, id).default_model.is_empty(), "{id}");
            assert_eq!(beginning.without_default_model(), None);
        }
        let beginning = beginning(&[("OLLAMA_HOST", "http://llm.example:8000")]);
        assert_eq!(beginning.without_default_model(), Some("providers/ollama"));
    }
}
