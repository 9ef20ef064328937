//! What is meant where a call names no provider or key: the active provider, the default of a type, the key to use.
//!
//! Owns nothing: the rules are `choice`'s, which the server asks as well; here they read one snapshot.

use super::{
    getters::{ApiKey, Provider},
    handle::Client,
    snapshot::Snapshot,
};
use crate::{
    choice::{self, DEFAULT_ROUTER},
    proto::v1::{ProviderType, RouterSpec, resource::Spec},
};

impl Snapshot {
    /// The active provider: the primary of `routers/default`. `None` while there is none, or where the client does not see
    /// the router and the provider.
    #[must_use]
    pub fn active_provider(&self) -> Option<Provider> {
        self.with_default_router(|router| self.provider_named(&router.primary))?
    }

    /// The providers to ask when the active one fails, in their order; those that the client does not see are left out.
    #[must_use]
    pub fn fallback_providers(&self) -> Vec<Provider> {
        let fallbacks = self.with_default_router(|router| {
            router.fallbacks.iter().filter_map(|name| self.provider_named(name)).collect()
        });
        fallbacks.unwrap_or_default()
    }

    /// The provider that stands for a type: the one that `routers/default` names for it; where it names none, the first
    /// enabled one of the type, those that can be called before those that wait for a key, in the router's order and then
    /// by name.
    #[must_use]
    pub fn default_provider(&self, of: ProviderType) -> Option<Provider> {
        let providers: Vec<_> = self.held_providers().collect();
        let seen = || providers.iter().map(|held| &*held.entry.resource);
        let has_key = |name: &str| self.key_of(name.strip_prefix("providers/").unwrap_or(name)).is_some();
        let choose = |router: Option<&RouterSpec>| {
            choice::default_provider(of, router, seen(), has_key).map(|found| found.name.clone())
        };
        let chosen =
            self.with_default_router(|router| choose(Some(router))).unwrap_or_else(|| choose(None))?;
        self.provider_named(&chosen)
    }

    /// The key to use of a provider, by its id: of those that are active, were not revoked and have a value, the one with
    /// the highest weight, then the oldest, then the first by name.
    ///
    /// A client without secrets is given the key that one with secrets would use.
    #[must_use]
    pub fn active_api_key(&self, provider: &str) -> Option<ApiKey> {
        self.api_key(provider, &self.key_of(provider)?)
    }

    /// The id of that key.
    fn key_of(&self, provider: &str) -> Option<String> {
        let keys: Vec<_> = self.held_api_keys(provider).filter(|held| !held.revoked).collect();
        let chosen = choice::active_key(keys.iter().map(|held| &*held.entry.resource))?;
        chosen.name.rsplit('/').next().map(str::to_owned)
    }

    fn provider_named(&self, name: &str) -> Option<Provider> {
        self.provider(name.strip_prefix("providers/")?)
    }

    fn with_default_router<T>(&self, read: impl FnOnce(&RouterSpec) -> T) -> Option<T> {
        let resource = self.get(DEFAULT_ROUTER)?;
        match &resource.spec {
            Some(Spec::Router(spec)) => Some(read(spec)),
            _ => None,
        }
    }
}

impl Client {
    /// See [`Snapshot::active_provider`].
    #[must_use]
    pub fn active_provider(&self) -> Option<Provider> {
        self.snapshot().active_provider()
    }

    /// See [`Snapshot::fallback_providers`].
    #[must_use]
    pub fn fallback_providers(&self) -> Vec<Provider> {
        self.snapshot().fallback_providers()
    }

    /// See [`Snapshot::default_provider`].
    #[must_use]
    pub fn default_provider(&self, of: ProviderType) -> Option<Provider> {
        self.snapshot().default_provider(of)
    }

    /// See [`Snapshot::active_api_key`].
    #[must_use]
    pub fn active_api_key(&self, provider: &str) -> Option<ApiKey> {
        self.snapshot().active_api_key(provider)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        client::entry::Entry,
        proto::v1::{ApiKeySpec, ProviderSpec, Resource, Secret},
    };

    fn put(snapshot: &mut Snapshot, name: &str, create_revision: u64, spec: Spec) {
        let resource =
            Resource { name: name.to_owned(), create_revision, spec: Some(spec), ..Resource::default() };
        snapshot.upsert(Arc::new(Entry::new(resource)));
    }

    fn provider(of: ProviderType) -> Spec {
        Spec::Provider(ProviderSpec { r#type: of.into(), ..ProviderSpec::default() })
    }

    fn key(weight: u32) -> Spec {
        let secret = Some(Secret { value: Some("sk-1".into()), ..Secret::default() });
        Spec::ApiKey(ApiKeySpec { secret, weight: Some(weight), ..ApiKeySpec::default() })
    }

    #[test]
    fn the_router_says_which_provider_and_the_rule_which_key() {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.active_provider().is_none() && snapshot.fallback_providers().is_empty());
        put(&mut snapshot, "providers/a", 1, provider(ProviderType::Groq));
        put(&mut snapshot, "providers/b", 1, provider(ProviderType::Groq));
        let by_type = |snapshot: &Snapshot| {
            snapshot.default_provider(ProviderType::Groq).map(|found| found.id().to_owned())
        };
        assert_eq!(by_type(&snapshot).as_deref(), Some("a"));
        let router = RouterSpec {
            primary: "providers/b".into(),
            fallbacks: vec!["providers/a".into(), "providers/unseen".into()],
            ..RouterSpec::default()
        };
        put(&mut snapshot, DEFAULT_ROUTER, 2, Spec::Router(router));
        assert_eq!(snapshot.active_provider().unwrap().id(), "b");
        let fallbacks = snapshot.fallback_providers();
        assert_eq!(fallbacks.iter().map(Provider::id).collect::<Vec<_>>(), ["a"]);
        assert_eq!(by_type(&snapshot).as_deref(), Some("b"));

        assert!(snapshot.active_api_key("b").is_none());
        put(&mut snapshot, "providers/b/apiKeys/young", 5, key(1));
        put(&mut snapshot, "providers/b/apiKeys/zold", 3, key(1));
        assert_eq!(snapshot.active_api_key("b").unwrap().id(), "zold");
        put(&mut snapshot, "providers/b/apiKeys/heavy", 9, key(2));
        assert_eq!(snapshot.active_api_key("b").unwrap().secret().unwrap().expose(), "sk-1");
        assert_eq!(snapshot.active_api_key("b").unwrap().id(), "heavy");
        snapshot.revoked.insert("providers/b/apiKeys/heavy".into(), 9);
        assert_eq!(snapshot.active_api_key("b").unwrap().id(), "zold");
    }
}
