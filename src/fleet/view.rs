//! What a worker's stream shows, as it is told to other replicas: its effective selectors as text, bounded.
//!
//! Where they are too many to be told, more is told than is shown: then a worker counts as behind until it reports, and
//! never as up to date because something was left out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Labels, Pattern, Selector},
    kinds,
};

/// Bytes of a view's text.
const MOST_BYTES: usize = 16 * 1024;

/// What a stream shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// As text, by which equal ones are found.
    pub text: Arc<str>,
    /// The effective selectors.
    pub selectors: Arc<[Selector]>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    pattern: String,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
}

impl View {
    /// What these selectors show; without labels, or everything, where it would be too long otherwise.
    #[must_use]
    pub fn of(selectors: &[Selector]) -> Self {
        let bare = || selectors.iter().map(|selector| Selector::of(selector.pattern.clone())).collect();
        let candidates: [&dyn Fn() -> Vec<Selector>; 2] = [&|| selectors.to_vec(), &bare];
        for candidate in candidates {
            let selectors = candidate();
            let text = write(&selectors);
            if text.len() <= MOST_BYTES {
                return Self { text: text.into(), selectors: selectors.into() };
            }
        }
        Self::everything()
    }

    /// Reads what [`View::text`] holds. What can't be read may show everything.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let written: Option<Vec<Written>> = serde_json::from_str(text).ok();
        let selectors = written.and_then(|written| {
            let selector = |Written { pattern, labels }| {
                kinds::parse_pattern(&pattern).map(|pattern| Selector { pattern, labels })
            };
            written.into_iter().map(selector).collect::<Option<Vec<_>>>()
        });
        match selectors {
            Some(selectors) => Self { text: text.into(), selectors: selectors.into() },
            None => Self::everything(),
        }
    }

    /// Whether it may show something that these selectors reach.
    #[must_use]
    pub fn overlaps<'a>(&self, patterns: impl IntoIterator<Item = &'a Pattern> + Clone) -> bool {
        self.selectors.iter().any(|selector| {
            let overlaps = |pattern: &Pattern| selector.pattern.overlaps(pattern, kinds::kind_of_pattern);
            patterns.clone().into_iter().any(overlaps)
        })
    }

    /// Whether everything that it shows is within these grants.
    #[must_use]
    pub fn is_within(&self, grants: &[Pattern]) -> bool {
        self.selectors.iter().all(|selector| within(selector, grants))
    }

    fn everything() -> Self {
        let selectors = vec![Selector::of(Pattern::All)];
        Self { text: write(&selectors).into(), selectors: selectors.into() }
    }
}

/// Whether everything that a selector reaches is within these grants.
#[must_use]
pub fn within(selector: &Selector, grants: &[Pattern]) -> bool {
    grants.iter().any(|grant| grant.contains(&selector.pattern, kinds::kind_of_pattern))
}

fn write(selectors: &[Selector]) -> String {
    let written = |selector: &Selector| Written {
        pattern: selector.pattern.to_text(),
        labels: selector.labels.clone(),
    };
    // Texts and maps of texts always have a form in JSON.
    serde_json::to_string(&selectors.iter().map(written).collect::<Vec<_>>()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(pattern: &str, labels: &[(&str, &str)]) -> Selector {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Selector { pattern: kinds::parse_pattern(pattern).unwrap(), labels }
    }

    #[test]
    fn a_view_reads_back() {
        let view = View::of(&[selector("providers/*", &[("team", "x")]), selector("kind:setting", &[])]);
        assert_eq!(View::read(&view.text), view);
        assert_eq!(View::read("no JSON"), View::everything());
        assert_eq!(View::read(r#"[{"pattern":"nothing/*"}]"#), View::everything());
    }

    #[test]
    fn what_is_too_long_to_be_told_is_told_wider() {
        let long = "x".repeat(100);
        let labels: Vec<(&str, &str)> = vec![("team", &long)];
        let many: Vec<Selector> = (0..120).map(|i| selector(&format!("settings/s{i}"), &labels)).collect();
        let view = View::of(&many);
        assert!(
            view.selectors.iter().all(|selector| selector.labels.is_empty()) && view.selectors.len() == 120
        );
        let longer: Vec<Selector> =
            (0..120).map(|i| selector(&format!("promptTemplates/{long}{i}"), &[])).collect();
        let longer: Vec<Selector> = longer.iter().cycle().take(240).cloned().collect();
        assert_eq!(View::of(&longer), View::everything());
    }

    #[test]
    fn a_view_without_anything_overlaps_nothing() {
        let all = [Pattern::All];
        assert!(!View::of(&[]).overlaps(&all));
        assert!(View::of(&[selector("settings/a", &[])]).overlaps(&all));
        assert!(View::of(&[selector("settings/a", &[])]).is_within(&[Pattern::Prefix("settings/".into())]));
        assert!(!View::of(&[selector("*", &[])]).is_within(&[Pattern::Prefix("settings/".into())]));
    }
}
