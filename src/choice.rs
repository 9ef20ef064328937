//! Which provider and which key are meant where a call names none: one rule, which server and client share.
//!
//! Pure functions over messages: whoever asks brings the resources that it may see, and both ends choose alike. Must not
//! know where these come from, nor any framework.

use std::cmp::Reverse;

use crate::proto::v1::{
    ApiKeySpec, AuthScheme, ProviderSpec, ProviderType, Resource, RouterSpec, resource::Spec, secret,
};

/// Name of the router whose primary is the active provider.
pub const DEFAULT_ROUTER: &str = "routers/default";

/// The word for a type, in names and as a key: `google_ai`.
#[must_use]
pub fn type_word(provider_type: ProviderType) -> String {
    let name = provider_type.as_str_name();
    name.strip_prefix("PROVIDER_TYPE_").unwrap_or(name).to_ascii_lowercase()
}

/// The provider that stands for a type: the one that `routers/default` names for it; where it names none, the first
/// enabled one of the type, those that can be called before those that wait for a key, in the router's order (primary,
/// fallbacks) and then by name. A disabled one never is. `has_key` says whether a provider has a key that may be used.
pub fn default_provider<'a>(
    wanted: ProviderType,
    router: Option<&RouterSpec>,
    providers: impl Iterator<Item = &'a Resource>,
    has_key: impl Fn(&str) -> bool,
) -> Option<&'a Resource> {
    let candidates = providers.filter_map(|resource| match &resource.spec {
        Some(Spec::Provider(spec)) if spec.r#type() == wanted && spec.enabled.unwrap_or(true) => {
            Some((resource, spec))
        }
        _ => None,
    });
    let named = router.and_then(|router| router.type_defaults.get(&type_word(wanted)));
    if let Some(named) = named {
        return candidates.map(|(resource, _)| resource).find(|resource| resource.name == *named);
    }
    let place = |name: &str| {
        let order =
            router.into_iter().flat_map(|router| std::iter::once(&router.primary).chain(&router.fallbacks));
        order.into_iter().position(|listed| listed == name).unwrap_or(usize::MAX)
    };
    let waits = |resource: &Resource, spec: &ProviderSpec| !needs_no_key(spec) && !has_key(&resource.name);
    let first = candidates.min_by_key(|(resource, spec)| {
        (waits(resource, spec), place(&resource.name), resource.name.as_str())
    });
    first.map(|(resource, _)| resource)
}

/// Whether a provider is called without a key.
#[must_use]
pub fn needs_no_key(spec: &ProviderSpec) -> bool {
    spec.auth.as_ref().is_some_and(|auth| auth.scheme() == AuthScheme::None)
}

/// The key to use where several of a provider are active: of those that have a value, the one with the highest weight,
/// then the oldest (by create revision), then the first by name.
pub fn active_key<'a>(keys: impl Iterator<Item = &'a Resource>) -> Option<&'a Resource> {
    let usable = keys.filter_map(|resource| match &resource.spec {
        Some(Spec::ApiKey(spec)) if is_usable(spec) => Some((resource, spec.weight.unwrap_or(1))),
        _ => None,
    });
    let order = |(resource, weight): &(&'a Resource, u32)| {
        (Reverse(*weight), resource.create_revision, resource.name.as_str())
    };
    usable.min_by(|one, other| order(one).cmp(&order(other))).map(|(resource, _)| resource)
}

/// Whether a key is active and has a value, as far as its masked form tells.
#[must_use]
pub fn is_usable(spec: &ApiKeySpec) -> bool {
    let present = |secret: &crate::proto::v1::Secret| secret.state() == secret::State::Present;
    spec.active.unwrap_or(true) && spec.secret.as_ref().is_some_and(present)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Secret;

    fn key(name: &str, create_revision: u64, change: impl FnOnce(&mut ApiKeySpec)) -> Resource {
        let secret = Some(Secret { value: None, state: secret::State::Present.into() });
        let mut spec = ApiKeySpec { secret, ..ApiKeySpec::default() };
        change(&mut spec);
        let name = format!("providers/groq/apiKeys/{name}");
        Resource { name, create_revision, spec: Some(Spec::ApiKey(spec)), ..Resource::default() }
    }

    fn chosen(keys: &[Resource]) -> Option<&str> {
        active_key(keys.iter()).and_then(|key| key.name.rsplit('/').next())
    }

    #[test]
    fn weight_then_age_then_name() {
        let mut keys = vec![key("b", 5, |_| ()), key("a", 5, |_| ())];
        assert_eq!(chosen(&keys), Some("a"));
        keys.push(key("c", 4, |_| ()));
        assert_eq!(chosen(&keys), Some("c"));
        keys.push(key("d", 9, |spec| spec.weight = Some(2)));
        assert_eq!(chosen(&keys), Some("d"));
        keys.push(key("e", 1, |spec| (spec.weight, spec.active) = (Some(9), Some(false))));
        keys.push(key("f", 1, |spec| (spec.weight, spec.secret) = (Some(9), None)));
        for state in [secret::State::Missing, secret::State::Undecryptable, secret::State::Absent] {
            let secret = Some(Secret { value: None, state: state.into() });
            keys.push(key("g", 1, |spec| (spec.weight, spec.secret) = (Some(9), secret)));
        }
        assert_eq!(chosen(&keys), Some("d"));
        assert_eq!(chosen(&[]), None);
    }

    fn provider(id: &str, provider_type: ProviderType, enabled: Option<bool>) -> Resource {
        let spec = ProviderSpec { r#type: provider_type.into(), enabled, ..ProviderSpec::default() };
        Resource { name: format!("providers/{id}"), spec: Some(Spec::Provider(spec)), ..Resource::default() }
    }

    #[test]
    fn what_is_named_for_a_type_comes_before_what_is_of_it() {
        let openai = ProviderType::Openai;
        let providers = [
            provider("a", openai, None),
            provider("b", openai, None),
            provider("c", openai, Some(true)),
            provider("d", ProviderType::Groq, None),
            provider("off", ProviderType::Mistral, Some(false)),
        ];
        let chosen = |wanted, router: Option<&RouterSpec>| {
            default_provider(wanted, router, providers.iter(), |_| true).map(|found| found.name.clone())
        };
        assert_eq!(chosen(openai, None).as_deref(), Some("providers/a"));
        let mut router = RouterSpec {
            primary: "providers/d".into(),
            fallbacks: vec!["providers/c".into(), "providers/b".into()],
            ..RouterSpec::default()
        };
        assert_eq!(chosen(openai, Some(&router)).as_deref(), Some("providers/c"));
        router.type_defaults.insert("openai".into(), "providers/b".into());
        assert_eq!(chosen(openai, Some(&router)).as_deref(), Some("providers/b"));
        // What is named and not to be seen is not replaced by another.
        router.type_defaults.insert("openai".into(), "providers/hidden".into());
        assert_eq!(chosen(openai, Some(&router)), None);
        assert_eq!(chosen(ProviderType::Mistral, None), None);
    }

    #[test]
    fn regression_a_provider_that_waits_for_a_key_stands_behind_one_that_has_one() {
        let groq = ProviderType::Groq;
        let mut providers = vec![provider("a", groq, None), provider("b", groq, None)];
        let router = RouterSpec { primary: "providers/a".into(), ..RouterSpec::default() };
        let chosen = |providers: &[Resource], with_key: &[&str]| {
            let has_key = |name: &str| with_key.contains(&name);
            default_provider(groq, Some(&router), providers.iter(), has_key).map(|found| found.name.clone())
        };
        assert_eq!(chosen(&providers, &["providers/b"]).as_deref(), Some("providers/b"));
        assert_eq!(chosen(&providers, &["providers/a", "providers/b"]).as_deref(), Some("providers/a"));
        assert_eq!(chosen(&providers, &[]).as_deref(), Some("providers/a"));
        // What needs none waits for none.
        if let Some(Spec::Provider(spec)) = &mut providers[1].spec {
            spec.auth.get_or_insert_default().scheme = AuthScheme::None.into();
        }
        assert_eq!(chosen(&providers, &[]).as_deref(), Some("providers/b"));
    }
}
