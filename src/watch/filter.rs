//! What one stream shows: its effective selectors, judged once when it opens.

use sha2::{Digest, Sha256};

use crate::{
    domain::{Error, KindName, LoggedChange, Pattern, Principal, Record, ResourceName, Result, Selector},
    kinds,
    view::{Entry, Reveal},
};

/// The effective filter of a stream.
#[derive(Debug, Clone)]
pub struct Filter {
    selectors: Vec<Selector>,
    /// Whether secrets are opened.
    pub reveal: Reveal,
    /// Fingerprint of selectors, grants and reveal: streams with the same one show the same.
    pub view_id: String,
}

/// What a change is for one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Effect {
    /// It comes into view.
    Created,
    /// It was in view and still is.
    Updated,
    /// It leaves the view.
    Removed,
}

impl Filter {
    /// Checks what a caller asks for against what its token grants.
    ///
    /// No selector means everything that is granted. Containment is judged without labels: these only narrow.
    ///
    /// # Errors
    /// `PermissionDenied`, naming what is granted.
    pub fn authorise(principal: &Principal, selectors: Vec<Selector>, include_secrets: bool) -> Result<Self> {
        let reveal = authorise_secrets(principal, include_secrets)?;
        // Without a pattern a selector picks whatever is granted, so it can't reach beyond.
        for selector in selectors.iter().filter(|selector| selector.pattern != Pattern::All) {
            let granted = |grant: &Pattern| grant.contains(&selector.pattern, kinds::kind_of_pattern);
            if !principal.grants.iter().any(granted) {
                return Err(not_granted(principal, &selector.pattern.to_text()));
            }
        }
        let view_id = fingerprint(&selectors, &principal.grants, reveal);
        let everything = Selector::of(Pattern::All);
        let asked = if selectors.is_empty() { vec![everything] } else { selectors };
        let selectors = asked.into_iter().flat_map(|selector| within_grants(selector, principal)).collect();
        Ok(Self { selectors, reveal, view_id })
    }

    /// Whether the stream shows this resource.
    #[must_use]
    pub fn shows(&self, entry: &Entry) -> bool {
        self.matches(&entry.record)
    }

    /// Whether the stream shows a resource with these contents.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.selectors.iter().any(|selector| selector.matches(&record.name, record.kind, &record.labels))
    }

    /// The effective selectors.
    #[must_use]
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// What the effective selectors reach, labels apart.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.selectors.iter().map(|selector| &selector.pattern)
    }

    /// Whether a resource of this name can be in view, with some labels.
    #[must_use]
    pub fn reaches(&self, name: &ResourceName, kind: KindName) -> bool {
        self.patterns().any(|pattern| pattern.matches(name, kind))
    }

    /// Whether a selector picks this name whatever its labels are.
    #[must_use]
    pub fn picks(&self, name: &ResourceName, kind: KindName) -> bool {
        self.selectors
            .iter()
            .any(|selector| selector.labels.is_empty() && selector.pattern.matches(name, kind))
    }

    /// What a change is for this stream; `None` if it concerns nothing that the stream shows or showed.
    #[must_use]
    pub fn effect(&self, change: &LoggedChange) -> Option<Effect> {
        effect(&self.selectors, change)
    }

    /// The effective selectors as text, for the audit.
    #[must_use]
    pub fn describe(&self) -> String {
        self.selectors.iter().map(|selector| selector.pattern.to_text()).collect::<Vec<_>>().join(", ")
    }
}

/// What a change is for who sees what these selectors reach.
pub(super) fn effect(selectors: &[Selector], change: &LoggedChange) -> Option<Effect> {
    let matches =
        |labels| selectors.iter().any(|selector| selector.matches(&change.name, change.kind, labels));
    let before = change.previous.as_ref().is_some_and(|previous| matches(&previous.labels));
    let now = change.record.as_ref().is_some_and(|record| matches(&record.labels));
    match (before, now) {
        (false, true) => Some(Effect::Created),
        (true, true) => Some(Effect::Updated),
        (true, false) => Some(Effect::Removed),
        (false, false) => None,
    }
}

/// A selector without a pattern, spelt out as the grants that it stands for.
fn within_grants(selector: Selector, principal: &Principal) -> Vec<Selector> {
    if selector.pattern != Pattern::All {
        return vec![selector];
    }
    let narrowed = |pattern: &Pattern| Selector { pattern: pattern.clone(), labels: selector.labels.clone() };
    principal.grants.iter().map(narrowed).collect()
}

/// Whether the caller may have secrets opened, if it asks for that.
///
/// # Errors
/// `PermissionDenied` when it asks without the right.
pub fn authorise_secrets(principal: &Principal, include_secrets: bool) -> Result<Reveal> {
    match (include_secrets, principal.reads_secrets) {
        (false, _) => Ok(Reveal::Masked),
        (true, true) => Ok(Reveal::Plain),
        (true, false) => Err(Error::PermissionDenied {
            reason: "SECRETS_DENIED",
            description: "include_secrets needs a worker token with the scope secrets:read".into(),
        }),
    }
}

/// The error for a name or selector beyond the grants.
#[must_use]
pub fn not_granted(principal: &Principal, wanted: &str) -> Error {
    Error::PermissionDenied {
        reason: "NOT_GRANTED",
        description: format!(
            "{wanted} is not granted to {}; granted: {}",
            principal.subject,
            principal.granted()
        ),
    }
}

fn fingerprint(selectors: &[Selector], grants: &[Pattern], reveal: Reveal) -> String {
    let mut lines: Vec<String> = selectors.iter().map(|selector| format!("s {selector:?}")).collect();
    lines.extend(grants.iter().map(|grant| format!("g {grant:?}")));
    lines.sort_unstable();
    lines.dedup();
    lines.push(format!("{reveal:?}"));
    hex::encode(&Sha256::digest(lines.join("\n"))[..16])
}
