//! What a stream may and wants to see, judged by the test's own reading of api.md.

use signalbox::proto::v1::{ChangeType, Resource, Selector, selector::Pattern};

use super::resources::kind;

/// The selectors and the rights of one stream.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What it asks for; empty is everything that is granted.
    pub selectors: Vec<Selector>,
    /// What its token reaches; empty is everything.
    pub grants: Vec<Selector>,
    /// Whether secrets are opened.
    pub secrets: bool,
}

impl View {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn of(selectors: Vec<Selector>) -> Self {
        Self { selectors, ..Self::default() }
    }

    /// Whether the view shows a resource.
    pub fn shows(&self, resource: &Resource) -> bool {
        let any =
            |selectors: &[Selector]| selectors.is_empty() || selectors.iter().any(|one| picks(one, resource));
        any(&self.grants) && any(&self.selectors)
    }

    /// What a change is for the view; `None` if it is none of its business.
    pub fn effect(&self, before: Option<&Resource>, now: Option<&Resource>) -> Option<ChangeType> {
        let shows = |resource: Option<&Resource>| resource.is_some_and(|resource| self.shows(resource));
        match (shows(before), shows(now)) {
            (false, true) => Some(ChangeType::Created),
            (true, true) => Some(ChangeType::Updated),
            (true, false) => Some(ChangeType::Deleted),
            (false, false) => None,
        }
    }
}

fn picks(selector: &Selector, resource: &Resource) -> bool {
    let name = &resource.name;
    let pattern = match &selector.pattern {
        None => true,
        Some(Pattern::Name(wanted)) => name == wanted,
        Some(Pattern::Prefix(prefix)) => name.starts_with(prefix.as_str()),
        Some(Pattern::Kind(wanted)) => kind(resource) == wanted,
    };
    pattern && selector.labels.iter().all(|(key, value)| resource.labels.get(key) == Some(value))
}
