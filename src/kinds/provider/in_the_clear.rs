//! Credentials in fields of a provider that everybody who may read it reads, where the key or a secret header belongs instead.
//!
//! Must not know what a credential looks like, nor the fields that other checks look through: plain headers and queries.

use crate::{
    domain::Violations,
    kinds::{credential, rules::shown},
    proto::v1::{ProviderSpec, RequestEntry},
};

const LITERAL: &str = "literal:";

/// Refuses what holds a credential; nothing of it is repeated.
pub(super) fn check(spec: &ProviderSpec, violations: &mut Violations) {
    let mut refuse = |path: String, found: Option<&'static str>| {
        if let Some(found) = found {
            let problem = format!(
                "must not hold {found}, which everybody who may read this provider sees; store it as an API key, which \
                 `auth` says the header of, or as the secret of a header"
            );
            violations.add(path, "SECRET_REQUIRED", problem);
        }
    };
    let template = spec.auth.as_ref().map(|auth| auth.header_template.as_str()).unwrap_or_default();
    let value = template.split_once(':').map_or(template, |(_, value)| value);
    refuse("provider.auth.header_template".into(), credential::found_in(value));
    // What is no URL at all is told by the check of its form, as is one with a user or a query.
    if super::url_problem(&spec.base_url).is_none() {
        refuse("provider.base_url".into(), credential::found_in(&spec.base_url));
    }
    let path = spec.endpoint_path.split('?').next().unwrap_or_default();
    refuse("provider.endpoint_path".into(), credential::shown_plainly(path));
    refuse("provider.default_model".into(), credential::found_in(&spec.default_model));
    for (index, model) in spec.models.iter().enumerate().take(super::MAX_MODELS) {
        refuse(format!("provider.models[{index}]"), credential::found_in(model));
    }
    for (key, entry) in spec.request_builder.iter().flat_map(|builder| &builder.payload_structure) {
        let path = format!("provider.request_builder.payload_structure.{}", shown(key));
        let literal = entry.source.strip_prefix(LITERAL).and_then(|text| found_under(key, entry, text));
        refuse(format!("{path}.source"), literal);
        refuse(format!("{path}.default_json"), found_under(key, entry, &entry.default_json));
    }
}

/// A credential in a document that goes into requests under the name of its entry, or where its target says.
fn found_under(key: &str, entry: &RequestEntry, document: &str) -> Option<&'static str> {
    let target = entry.target.rsplit('.').next().unwrap_or_default();
    [key, target].into_iter().find_map(|name| credential::found_in_member(name, document))
}
