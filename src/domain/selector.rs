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

    /// Whether there may be something that both patterns reach. Where that can't be told, it is so.
    #[must_use]
    pub fn overlaps(&self, other: &Pattern, kind_of: impl Fn(&Pattern) -> Option<KindName>) -> bool {
        match (self, other) {
            (Pattern::All, _) | (_, Pattern::All) => true,
            (Pattern::Kind(_), _) | (_, Pattern::Kind(_)) => match (kind_of(self), kind_of(other)) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            },
            (Pattern::Name(one), Pattern::Name(other)) => one == other,
            (Pattern::Prefix(prefix), Pattern::Name(name))
            | (Pattern::Name(name), Pattern::Prefix(prefix)) => name.as_str().starts_with(prefix.as_str()),
            (Pattern::Prefix(one), Pattern::Prefix(other)) => {
                one.starts_with(other.as_str()) || other.starts_with(one.as_str())
            }
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
    fn what_overlaps_is_found_from_both_sides() {
        let kind_of = |pattern: &Pattern| match pattern {
            Pattern::Kind(kind) => Some(*kind),
            Pattern::Name(_) => Some(KindName("provider")),
            _ => None,
        };
        let groq = Pattern::Name(name("providers/groq"));
        let prefix = |text: &str| Pattern::Prefix(text.into());
        for (one, other, overlap) in [
            (&groq, &groq, true),
            (&groq, &Pattern::Name(name("providers/groq2")), false),
            (&groq, &prefix("providers/"), true),
            (&groq, &prefix("providers/groq/"), false),
            (&prefix("providers/groq/"), &prefix("providers/"), true),
            (&prefix("providers/groq/"), &prefix("providers/groq2/"), false),
            (&groq, &Pattern::Kind(KindName("provider")), true),
            (&groq, &Pattern::Kind(KindName("setting")), false),
            (&prefix("settings/"), &Pattern::Kind(KindName("provider")), true),
            (&Pattern::All, &groq, true),
        ] {
            assert_eq!(one.overlaps(other, kind_of), overlap, "{one:?} {other:?}");
            assert_eq!(other.overlaps(one, kind_of), overlap, "{other:?} {one:?}");
        }
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
