//! What a worker wants to see, and what a callback wants to hear of.
//!
//! Owns kinds and selectors as a client uses them. Must not know streams or the cache.

use std::collections::BTreeMap;

use crate::proto::v1::{
    Resource, Selector as WireSelector, resource::Spec, selector::Pattern as WirePattern,
};

// `Kind`, with the arms of the API: made by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/client_kinds.rs"));

impl Kind {
    /// The kind of a resource; `None` when this version of the client does not know it.
    #[must_use]
    pub fn of(resource: &Resource) -> Option<Self> {
        resource.spec.as_ref().map(Self::of_spec)
    }
}

/// Picks resources by name, prefix or kind, narrowed by labels. The default picks everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Selector {
    pattern: Pattern,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Pattern {
    #[default]
    All,
    Name(String),
    Prefix(String),
    Kind(Kind),
}

impl Selector {
    /// Everything; on a stream, everything that the token is granted.
    pub fn all() -> Self {
        Self::default()
    }

    /// Exactly this resource.
    pub fn name(name: impl Into<String>) -> Self {
        Self::with_pattern(Pattern::Name(name.into()))
    }

    /// Everything beneath; a `/` is put at the end where there is none, so that `providers/groq` never reaches
    /// `providers/groq2`.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        let mut prefix = prefix.into();
        if !prefix.ends_with('/') {
            prefix.push('/');
        }
        Self::with_pattern(Pattern::Prefix(prefix))
    }

    /// Everything of a kind.
    pub fn kind(kind: Kind) -> Self {
        Self::with_pattern(Pattern::Kind(kind))
    }

    /// Only resources that carry this label too.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// The sort of its pattern, and the pattern.
    pub(super) fn pattern_words(&self) -> (&'static str, &str) {
        match &self.pattern {
            Pattern::All => ("all", ""),
            Pattern::Name(name) => ("name", name),
            Pattern::Prefix(prefix) => ("prefix", prefix),
            Pattern::Kind(kind) => ("kind", kind.as_str()),
        }
    }

    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Whether the resource is picked.
    #[must_use]
    pub fn matches(&self, resource: &Resource) -> bool {
        let named = match &self.pattern {
            Pattern::All => true,
            Pattern::Name(name) => resource.name == *name,
            Pattern::Prefix(prefix) => resource.name.starts_with(prefix.as_str()),
            Pattern::Kind(kind) => Kind::of(resource) == Some(*kind),
        };
        named && self.labels.iter().all(|(key, value)| resource.labels.get(key) == Some(value))
    }

    fn with_pattern(pattern: Pattern) -> Self {
        Self { pattern, labels: BTreeMap::new() }
    }
}

impl From<Selector> for WireSelector {
    fn from(selector: Selector) -> Self {
        let pattern = match selector.pattern {
            Pattern::All => None,
            Pattern::Name(name) => Some(WirePattern::Name(name)),
            Pattern::Prefix(prefix) => Some(WirePattern::Prefix(prefix)),
            Pattern::Kind(kind) => Some(WirePattern::Kind(kind.as_str().to_owned())),
        };
        Self { pattern, labels: selector.labels }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Selector, Spec, WirePattern, WireSelector};
    use crate::proto::v1::{ProviderSpec, Resource};

    fn provider(name: &str) -> Resource {
        Resource {
            name: name.to_owned(),
            labels: [("team".to_owned(), "search".to_owned())].into(),
            spec: Some(Spec::Provider(ProviderSpec::default())),
            ..Resource::default()
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let selector = Selector::prefix("providers/groq");
        assert!(selector.matches(&provider("providers/groq/apiKeys/prod")));
        assert!(!selector.matches(&provider("providers/groq2/apiKeys/prod")));
        assert!(!selector.matches(&provider("providers/groq")));
    }

    #[test]
    fn labels_narrow() {
        let resource = provider("providers/groq");
        assert!(Selector::kind(Kind::Provider).label("team", "search").matches(&resource));
        assert!(!Selector::kind(Kind::Provider).label("team", "chat").matches(&resource));
        assert!(!Selector::kind(Kind::Setting).matches(&resource));
        assert!(Selector::name("providers/groq").matches(&resource));
    }

    #[test]
    fn travels_as_the_api_has_it() {
        let wire = WireSelector::from(Selector::kind(Kind::ApiKey).label("a", "b"));
        assert_eq!(wire.pattern, Some(WirePattern::Kind("api_key".to_owned())));
        assert_eq!(wire.labels.len(), 1);
        assert_eq!(WireSelector::from(Selector::all()), WireSelector::default());
    }
}
