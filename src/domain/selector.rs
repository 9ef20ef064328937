//! Selectors: what a list, a stream or a grant reaches.

use super::{KindName, Labels, ResourceName};

/// What a selector reaches, labels apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Pattern {
    /// Everything.
    All,
    /// One resource.
    Name(ResourceName),
    /// Everything beneath a prefix that ends in `/`.
    Prefix(String),
    /// Everything of one kind.
    Kind(KindName),
}

/// A pattern, narrowed by labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Selector {
    /// What it reaches.
    pub pattern: Pattern,
    /// Labels that a resource must carry, all of them.
    pub labels: Labels,
}

impl Pattern {
    /// Whether the pattern reaches this resource.
    #[must_use]
    pub fn matches(&self, name: &ResourceName, kind: KindName) -> bool {
        match self {
            Pattern::All => true,
            Pattern::Name(wanted) => wanted == name,
            Pattern::Prefix(prefix) => name.as_str().starts_with(prefix.as_str()),
            Pattern::Kind(wanted) => *wanted == kind,
        }
    }

    /// Whether everything that `other` can ever reach is reached by this pattern too.
    ///
    /// `kind_of` tells the kind that a name or prefix is bound to, where all its resources are of one.
    #[must_use]
    pub fn contains(&self, other: &Pattern, kind_of: impl Fn(&Pattern) -> Option<KindName>) -> bool {
        match (self, other) {
            (Pattern::All, _) => true,
            (Pattern::Name(own), Pattern::Name(theirs)) => own == theirs,
            (Pattern::Prefix(own), Pattern::Name(theirs)) => theirs.as_str().starts_with(own.as_str()),
            (Pattern::Prefix(own), Pattern::Prefix(theirs)) => theirs.starts_with(own.as_str()),
            (Pattern::Kind(own), other) => kind_of(other) == Some(*own),
            _ => false,
        }
    }

    /// As the command line and grants write it: a name, `prefix/*`, `kind:provider`, or `*`.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Pattern::All => "*".to_owned(),
            Pattern::Name(name) => name.to_string(),
            Pattern::Prefix(prefix) => format!("{prefix}*"),
            Pattern::Kind(kind) => format!("kind:{kind}"),
        }
    }
}

impl Selector {
    /// A selector without labels.
    #[must_use]
    pub fn of(pattern: Pattern) -> Self {
        Self { pattern, labels: Labels::new() }
    }

    /// Whether the selector picks a resource with these labels.
    #[must_use]
    pub fn matches(&self, name: &ResourceName, kind: KindName, labels: &Labels) -> bool {
        self.pattern.matches(name, kind)
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ResourceName {
        ResourceName::parse(text).unwrap()
    }

    #[test]
    fn a_prefix_ends_at_its_slash() {
        let prefix = Pattern::Prefix("providers/groq/".into());
        assert!(prefix.matches(&name("providers/groq/apiKeys/a"), KindName("api_key")));
        assert!(!prefix.matches(&name("providers/groq2"), KindName("provider")));
        assert!(!prefix.matches(&name("providers/groq"), KindName("provider")));
    }

    #[test]
    fn containment_is_never_wider_than_the_grant() {
        let none = |_: &Pattern| None;
        let providers = Pattern::Prefix("providers/".into());
        assert!(providers.contains(&Pattern::Name(name("providers/groq")), none));
        assert!(providers.contains(&Pattern::Prefix("providers/groq/".into()), none));
        assert!(!providers.contains(&Pattern::All, none));
        assert!(!providers.contains(&Pattern::Kind(KindName("provider")), none));
        assert!(
            !Pattern::Name(name("providers/groq")).contains(&Pattern::Prefix("providers/groq/".into()), none)
        );
        assert!(!Pattern::Kind(KindName("provider")).contains(&providers, none));
    }
}
