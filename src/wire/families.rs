//! What is known of the types of providers: for each a mapping, as data. `build.rs` makes them of `families/*.json`.
//!
//! A file is the JSON of a provider's spec with its type and its mapping, and five things besides: `sources` says where what it
//! holds is published, for who changes it; `extends` names another file
//! on which this one is a merge patch (RFC 7396); `alternatives` has, by the end of an endpoint path, the file whose builder
//! and extractor are meant by such a path. `call_paths` has the ends of the endpoint paths of calls: what stands before
//! one of them, such as `/openai/v1` where the base URL is the host alone, stands before the paths of the listing and of streams as well. `beside` has the first labels of the type's own hosts, beside which
//! the `host_label` of its listing stands.

use std::{collections::BTreeMap, sync::LazyLock};

use prost::Message;

use crate::proto::v1::{ProviderSpec, RequestBuilder};

/// A file, as `build.rs` leaves it.
struct File {
    name: &'static str,
    alternatives: &'static [(&'static str, &'static str)],
    call_paths: &'static [&'static str],
    beside: &'static [&'static str],
    /// An encoded `ProviderSpec`.
    spec: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/families.rs"));

/// The mapping of each file, by its name.
static FAMILIES: LazyLock<BTreeMap<&'static str, (ProviderSpec, &'static File)>> = LazyLock::new(|| {
    let read = |file: &'static File| (file.name, (ProviderSpec::decode(file.spec).unwrap_or_default(), file));
    FILES.iter().map(read).collect()
});

/// The names of all families, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.keys().copied()
}

/// Fills in what a provider leaves out of its mapping by what is known of its type and of its endpoint path. Touches nothing
/// that is given.
pub fn fill(provider: &mut ProviderSpec) {
    let Some((own, file)) = of_type(provider.r#type) else { return };
    let mut family = own.clone();
    let path = provider.endpoint_path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let meant = file.alternatives.iter().find(|(end, _)| path.ends_with(end));
    if let Some((alternative, _)) = meant.and_then(|(_, name)| FAMILIES.get(name)) {
        family.request_builder.clone_from(&alternative.request_builder);
        let errors = family.response_extractor.take().and_then(|own| own.errors);
        family.response_extractor.clone_from(&alternative.response_extractor);
        if let Some(extractor) = &mut family.response_extractor {
            extractor.errors = errors;
        }
    }
    if let Some(builder) = family.request_builder.as_mut().filter(|_| provider.endpoint_path.contains(MODEL))
    {
        model_into_path(builder);
    }
    if let Some(prefix) = prefix_of(path, file.call_paths) {
        let listing = family.model_listing.iter_mut();
        let of_listing = listing.flat_map(|listing| [&mut listing.path, &mut listing.key_check_path]);
        let of_streams = family.request_builder.iter_mut().map(|builder| &mut builder.stream_endpoint_path);
        for path in of_listing.chain(of_streams).filter(|path| !path.is_empty()) {
            path.insert_str(0, prefix);
        }
    }
    provider.request_builder = provider.request_builder.take().or(family.request_builder);
    provider.response_extractor = provider.response_extractor.take().or(family.response_extractor);
    provider.model_listing = provider.model_listing.take().or(family.model_listing);
}

/// Whether the list of models may be looked for at a host with this first label, beside one with that: the label of the
/// type only beside its own hosts, one that somebody has named beside any.
pub(super) fn is_beside(provider_type: i32, label: &str, first: &str) -> bool {
    let Some((own, file)) = of_type(provider_type) else { return true };
    let of_type = own.model_listing.as_ref().is_some_and(|listing| listing.host_label == label);
    !of_type || file.beside.iter().any(|host| host.eq_ignore_ascii_case(first))
}

/// What stands before a call's own path in an endpoint path, if that has one of these ends. One with a placeholder is of one
/// model, and no place for a list.
fn prefix_of<'path>(path: &'path str, ends: &[&str]) -> Option<&'path str> {
    let prefix = ends.iter().find_map(|end| path.strip_suffix(end))?;
    (!prefix.is_empty() && !prefix.contains('{')).then_some(prefix)
}

const MODEL: &str = "{model}";

/// Where the path has a place for the model, it goes there.
fn model_into_path(builder: &mut RequestBuilder) {
    let model = builder.payload_structure.get_mut("model");
    if let Some(model) = model.filter(|model| !model.target.starts_with("url:")) {
        "url:model".clone_into(&mut model.target);
    }
}

fn of_type(provider_type: i32) -> Option<&'static (ProviderSpec, &'static File)> {
    FAMILIES.values().find(|(family, _)| provider_type != 0 && family.r#type == provider_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::ProviderType;

    fn filled(of: ProviderType, endpoint_path: &str) -> ProviderSpec {
        let mut provider = ProviderSpec {
            r#type: of.into(),
            endpoint_path: endpoint_path.to_owned(),
            ..ProviderSpec::default()
        };
        fill(&mut provider);
        provider
    }

    fn listed_at(of: ProviderType, endpoint_path: &str) -> (String, String) {
        let listing = filled(of, endpoint_path).model_listing.unwrap();
        (listing.path, listing.key_check_path)
    }

    /// A base URL that is the host alone has its version in the endpoint path.
    #[test]
    fn regression_models_are_listed_beneath_the_prefix_of_the_endpoint() {
        for (of, endpoint, list) in [
            (ProviderType::Groq, "/chat/completions", "/models"),
            (ProviderType::Groq, "/openai/v1/responses", "/openai/v1/models"),
            (ProviderType::Groq, "/openai/v1/chat/completions", "/openai/v1/models"),
            (ProviderType::Openai, "/v1/responses/?x=/y", "/v1/models"),
            (ProviderType::OpenaiCompatible, "/own/way", "/models"),
            (ProviderType::OpenaiCompatible, "/m/{model}/chat/completions", "/models"),
            (ProviderType::AzureOpenai, "/openai/v1/chat/completions", "/openai/v1/models"),
            (ProviderType::AzureOpenai, "/openai/deployments/{model}/chat/completions", "/openai/v1/models"),
            (ProviderType::Anthropic, "/v1/messages", "/v1/models?limit=1000"),
            (ProviderType::Cohere, "/v2/chat", "/v1/models?endpoint=chat&page_size=1000"),
        ] {
            assert_eq!(listed_at(of, endpoint).0, list, "{of:?} {endpoint}");
        }
        for (of, endpoint, streamed) in [
            (ProviderType::Bedrock, "/model/{model}/converse", "/model/{model}/converse-stream"),
            (ProviderType::Bedrock, "/aws/model/{model}/converse/", "/aws/model/{model}/converse-stream"),
            (
                ProviderType::GoogleAi,
                "/g/v1beta/models/{model}:generateContent",
                "/g/v1beta/models/{model}:streamGenerateContent?alt=sse",
            ),
        ] {
            assert_eq!(
                filled(of, endpoint).request_builder.unwrap().stream_endpoint_path,
                streamed,
                "{of:?} {endpoint}"
            );
        }
        let router = listed_at(ProviderType::Openrouter, "/api/v1/chat/completions");
        assert_eq!(router, ("/api/v1/models".into(), "/api/v1/key".into()));
    }
}
