//! Whether a person has changed what an import made: then the next import leaves it alone.
//!
//! An importer labels what it makes: [`IMPORTED_FROM`] names the format, [`IMPORTED_AS`] is a digest of the spec as it was
//! imported, with all defaults that this binary knows of its kind and without its secrets. As long as the digest of what is
//! stored is the same, and nobody has given it a label, nobody has edited it. What a store of an older level leaves out of
//! the defaults is filled in before, so that its level makes no difference. Binaries that fill in other defaults come to
//! other digests: then a resource counts as edited, which loses nothing.
//!
//! A digest can't cover a secret, because everybody who reads the resource reads the digest. So what holds a secret counts as
//! edited as soon as it exists.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::merge;
use crate::{
    domain::{FeatureLevel, ResourceName, record::Spec, spec},
    kinds::{
        self, Kind,
        secrets::{SecretView, fill},
    },
    proto::v1::{Resource, secret::State},
};

/// Label with the format that a resource was imported from.
pub const IMPORTED_FROM: &str = "imported-from";
/// Label with the digest of a spec as it was imported.
pub const IMPORTED_AS: &str = "imported-as";

/// Label with what a source says that a model can not do. It is a note to whoever lays one source over another, and not stored.
pub const DENIES: &str = "imported-denies";

/// Labels that importers set; any other is a person's.
const OURS: [&str; 4] = [IMPORTED_FROM, IMPORTED_AS, DENIES, super::catalogue::FACTS_OF];

/// Hexadecimal digits of a digest: enough to tell edits apart, short enough for a label that is read.
const DIGITS: usize = 16;

/// What to do with an imported resource that may exist already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is to be written.
    Write,
    /// It is as it would be.
    Unchanged,
    /// What exists is kept, and why.
    Keep(&'static str),
}

/// Whether a label is one that importers keep their own account in, and nobody filters by.
#[must_use]
pub fn is_ours(label: &str) -> bool {
    OURS.contains(&label)
}

/// Labels a resource as imported from a format.
pub fn stamp(resource: &mut Resource, format: &str) {
    if let Some(digest) = digest(resource) {
        resource.labels.insert(IMPORTED_FROM.to_owned(), format.to_owned());
        resource.labels.insert(IMPORTED_AS.to_owned(), digest);
    }
}

/// Whether nobody has edited what is `stored`, and an import has it again as it is, but for what the secrets are.
#[must_use]
pub fn is_same_but_secrets(imported: &Resource, stored: &Resource) -> bool {
    let mark = stored.labels.get(IMPORTED_AS);
    mark.is_some() && digest(stored).as_ref() == mark && digest(imported).as_ref() == mark
}

/// A changed resource with its label made anew where nobody had edited what is `stored`: what an import does is no edit.
#[must_use]
pub fn restamped(stored: &Resource, mut changed: Resource) -> Resource {
    let mark = stored.labels.get(IMPORTED_AS);
    if mark.is_some() && digest(stored).as_ref() == mark {
        let format = stored.labels.get(IMPORTED_FROM).cloned().unwrap_or_default();
        stamp(&mut changed, &format);
    }
    changed
}

/// What to do with an imported resource where `stored` is what there is of its name now, masked or not, and `has_secrets`
/// says whether a resource beneath it holds a secret.
#[must_use]
pub fn decide(imported: &Resource, stored: Option<&Resource>, has_secrets: bool) -> Decision {
    let Some(stored) = stored else { return Decision::Write };
    let Some(mark) = stored.labels.get(IMPORTED_AS) else {
        return Decision::Keep("it exists, and was not imported");
    };
    let (Some(new), Some(old)) = (&imported.spec, &stored.spec) else { return Decision::Write };
    if digest(stored).as_ref() != Some(mark) {
        return Decision::Keep("it was edited since it was imported");
    }
    if !kinds::secrets::states(new).is_empty() || !kinds::secrets::states(old).is_empty() {
        return Decision::Keep("it exists, and its secret may have been changed");
    }
    if digest(imported).as_ref() == Some(mark) {
        return Decision::Unchanged;
    }
    match has_secrets && moves(imported, old, new) {
        true => Decision::Keep("it exists, and its keys were saved for where it points now"),
        false => Decision::Write,
    }
}

/// Whether an imported resource, whose defaults need not be filled in, would send the secrets beneath it elsewhere than the
/// stored one does.
#[must_use]
pub fn moves(imported: &Resource, old: &Spec, new: &Spec) -> bool {
    let Ok((name, kind)) = kinds::parse_name(&imported.name) else { return false };
    let mut new = new.clone();
    merge::rebase(old, &mut new);
    fill_all(kind, &name, &mut new);
    kind.moves_secrets_beneath(old, &new).is_some()
}

/// The spec of a resource with every default; `None` where it has none, or none of its name's kind.
#[must_use]
pub fn filled(resource: &Resource) -> Option<Spec> {
    let (name, kind) = kinds::parse_name(&resource.name).ok()?;
    let mut filled = resource.spec.clone()?;
    if kinds::check_arm(kind, &name, &filled).is_some() {
        return None;
    }
    fill_all(kind, &name, &mut filled);
    Some(filled)
}

/// Whether a masked spec holds a secret.
#[must_use]
pub fn holds_secret(spec: &Spec) -> bool {
    kinds::secrets::states(spec).values().any(|state| *state != State::Absent)
}

/// Every default of a kind, whatever the store's level: what is stored at an older one has the same digest.
fn fill_all(kind: &dyn Kind, name: &ResourceName, spec: &mut Spec) {
    kind.fill_defaults(spec, name);
    kind.fill_newer_defaults(spec, FeatureLevel::CURRENT);
}

/// The digest of a resource's spec, and of the labels that somebody gave it; `None` where it has none, or none of its name's kind.
fn digest(resource: &Resource) -> Option<String> {
    let mut filled = filled(resource)?;
    fill(&mut filled, |_| SecretView::Absent);
    let mut text = spec::to_json(&filled).ok()?;
    for (key, value) in resource.labels.iter().filter(|(key, _)| !OURS.contains(&key.as_str())) {
        let _ = write!(text, "\n{key}={value}");
    }
    Some(hex::encode(Sha256::digest(text)).chars().take(DIGITS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{ApiKeySpec, ModelSpec, ProviderSpec, ProviderType, Secret};

    fn imported(name: &str, spec: Spec) -> Resource {
        let mut resource = Resource { name: name.into(), spec: Some(spec), ..Resource::default() };
        stamp(&mut resource, "test");
        resource
    }

    fn model(name: &str) -> Resource {
        imported(
            "models/openai/a",
            Spec::Model(ModelSpec { display_name: name.into(), ..Default::default() }),
        )
    }

    fn stored(resource: Resource, change: impl FnOnce(&mut Spec)) -> Resource {
        stored_at(FeatureLevel::CURRENT, resource, change)
    }

    /// As the planner stores it at a level.
    fn stored_at(level: FeatureLevel, mut resource: Resource, change: impl FnOnce(&mut Spec)) -> Resource {
        let (name, kind) = kinds::parse_name(&resource.name).unwrap();
        let spec = resource.spec.as_mut().unwrap();
        kind.fill_defaults(spec, &name);
        kind.fill_newer_defaults(spec, level);
        kinds::secrets::mask(spec);
        change(spec);
        resource
    }

    #[test]
    fn what_nobody_edited_is_written_again() {
        let first = stored(model("one"), |_| ());
        assert_eq!(decide(&model("one"), None, true), Decision::Write);
        assert_eq!(decide(&model("one"), Some(&first), true), Decision::Unchanged);
        assert_eq!(decide(&model("two"), Some(&first), true), Decision::Write);
    }

    #[test]
    fn edits_stay() {
        let edited = stored(model("one"), |spec| {
            if let Spec::Model(model) = spec {
                model.description = "ours".into();
            }
        });
        assert_eq!(
            decide(&model("two"), Some(&edited), true),
            Decision::Keep("it was edited since it was imported")
        );
        let mut marked = stored(model("one"), |_| ());
        marked.labels.insert("team".into(), "a".into());
        assert_eq!(
            decide(&model("two"), Some(&marked), true),
            Decision::Keep("it was edited since it was imported")
        );
        let mut own = stored(model("one"), |_| ());
        own.labels.clear();
        assert_eq!(
            decide(&model("one"), Some(&own), true),
            Decision::Keep("it exists, and was not imported")
        );
    }

    #[test]
    fn secrets_that_exist_are_never_replaced() {
        let key = |value: &str| {
            let secret = Some(Secret { value: Some(value.into()), state: 0 });
            imported("providers/a/apiKeys/b", Spec::ApiKey(ApiKeySpec { secret, ..Default::default() }))
        };
        let first = stored(key("one"), |_| ());
        assert_eq!(key("one").labels, key("two").labels, "the digest tells nothing of a secret");
        assert!(matches!(decide(&key("two"), Some(&first), true), Decision::Keep(_)));
    }

    fn provider(url: &str) -> Resource {
        let spec =
            ProviderSpec { r#type: ProviderType::Openai.into(), base_url: url.into(), ..Default::default() };
        imported("providers/a", Spec::Provider(spec))
    }

    #[test]
    fn regression_the_defaults_of_a_newer_level_are_no_edit() {
        for level in [FeatureLevel::FIRST, FeatureLevel::WIRE, FeatureLevel::CURRENT] {
            let first = stored_at(level, provider(""), |_| ());
            assert_eq!(decide(&provider(""), Some(&first), true), Decision::Unchanged, "{level}");
            let mut renamed = provider("");
            if let Some(Spec::Provider(spec)) = &mut renamed.spec {
                spec.default_model = "m2".into();
            }
            stamp(&mut renamed, "test");
            assert_eq!(decide(&renamed, Some(&first), true), Decision::Write, "{level}");
            let edited = stored_at(level, provider(""), |spec| {
                if let Spec::Provider(spec) = spec {
                    spec.endpoint_path = "/ours".into();
                }
            });
            assert!(matches!(decide(&renamed, Some(&edited), true), Decision::Keep(_)), "{level}");
        }
    }

    #[test]
    fn regression_a_provider_without_a_key_may_move() {
        let first = stored(provider(""), |_| ());
        assert_eq!(decide(&provider("https://b.example/v1"), Some(&first), false), Decision::Write);
    }

    #[test]
    fn regression_a_base_url_that_is_cut_elsewhere_is_the_same_place() {
        let first = stored(provider(""), |_| ());
        for (url, path, stays) in [
            ("https://api.openai.com", "/v1/responses", true),
            ("https://api.openai.com/v1/beta", "/responses", true),
            ("https://api.openai.com", "/v10/responses", false),
            ("https://api.openai.com", "", false),
            ("https://api.openai.com.b.example", "/v1/responses", false),
            ("http://api.openai.com", "/v1/responses", false),
        ] {
            let mut new = provider(url);
            if let Some(Spec::Provider(spec)) = &mut new.spec {
                spec.endpoint_path = path.into();
            }
            stamp(&mut new, "test");
            let decision = decide(&new, Some(&first), true);
            assert_eq!(decision == Decision::Write, stays, "{url} {path}: {decision:?}");
        }
    }

    #[test]
    fn a_provider_does_not_move_away_from_its_keys() {
        let first = stored(provider(""), |_| ());
        assert_eq!(decide(&provider("https://api.openai.com/v1"), Some(&first), true), Decision::Unchanged);
        assert!(matches!(decide(&provider("https://b.example/v1"), Some(&first), true), Decision::Keep(_)));
    }
}
