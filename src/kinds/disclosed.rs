//! Texts of a resource that everybody who may read it reads, such as descriptions, prompts and labels, searched for credentials
//! that somebody wrote there by mistake.
//!
//! It is said and not refused: a prompt may show what a key looks like. Fields that are for values, and whose kinds know where
//! a secret would belong instead, refuse them themselves.

use super::{credential, reflect, rules::shown};
use crate::domain::record::{Labels, Spec};

/// Fields that are told of.
const NAMED: usize = 5;

/// Warnings of credentials in labels and in the texts of a masked spec, of which `json` is the canonical form; nothing of them is
/// repeated.
#[must_use]
pub fn disclosed(labels: &Labels, spec: &Spec, json: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut look = |path: &str, text: &str| {
        if let Some(found) = credential::shown_plainly(text).filter(|_| warnings.len() < NAMED) {
            warnings.push(format!(
                "{} holds {found}: everybody who may read this resource sees it, and the history keeps it; take it out, make \
                 it invalid where it was issued, and store the new one in a field for secrets",
                shown(path)
            ));
        }
    };
    labels.iter().for_each(|(key, value)| look(&format!("labels.{key}"), value));
    // Most resources have none, and many may be written at once.
    if credential::may_be_shown(json) {
        reflect::visit_texts(&reflect::to_dynamic(spec), &mut look);
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::spec,
        proto::v1::{PromptMessage, PromptTemplateSpec, ProviderSpec, TemplateVariable},
    };

    fn labelled(value: &str) -> Labels {
        [("team".to_owned(), value.to_owned())].into()
    }

    #[test]
    fn regression_credentials_in_free_texts_are_told_by_their_place() {
        let key = "sk-proj-0123456789abcdefCANARY";
        let provider =
            |text: &str| Spec::Provider(ProviderSpec { description: text.to_owned(), ..Default::default() });
        let template = Spec::PromptTemplate(PromptTemplateSpec {
            messages: vec![PromptMessage { role: 2, content: format!("use {key}, please") }],
            variables: vec![TemplateVariable { default_value: Some(key.into()), ..Default::default() }],
            ..Default::default()
        });
        for (labels, spec, places) in [
            (labelled("a"), provider("Groq, for all. Keys begin with sk- or gsk_."), &[][..]),
            (labelled("a"), provider(&format!("the key is {key}")), &["provider.description"]),
            (labelled(key), provider(""), &["labels.team"]),
            (
                labelled("a"),
                template,
                &["prompt_template.messages[0].content", "prompt_template.variables[0].default_value"],
            ),
        ] {
            let warnings = disclosed(&labels, &spec, &spec::to_json(&spec).unwrap());
            assert_eq!(warnings.len(), places.len(), "{warnings:?}");
            for (warning, place) in warnings.iter().zip(places) {
                assert!(warning.starts_with(place) && !warning.contains("CANARY"), "{warning}");
            }
        }
    }
}
