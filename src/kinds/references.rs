//! References between resources: how a field names another resource, and who may refer to what.

use std::collections::{BTreeMap, BTreeSet};

use super::{Contracts, Kind, kind_named, parse_name, registry};
use crate::domain::{FieldPath, KindName, ResourceName, Violations, record::Spec, spec};

/// A resource that another one needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field that names it.
    pub field: FieldPath,
    /// Its name.
    pub name: ResourceName,
}

/// What a spec refers to, by name; all of it is there.
pub type Targets<'a> = BTreeMap<ResourceName, &'a Spec>;

/// The contracts of all that a spec refers to, as far as it is held to any.
#[must_use]
pub fn contracts<'t>(targets: &'t Targets<'_>) -> Contracts<'t> {
    let contract = |(name, target): (&'t ResourceName, &&'t Spec)| {
        Some((name.as_str(), kind_named(spec::kind_of(target))?.contract(target)?))
    };
    targets.iter().filter_map(contract).collect()
}

/// The kinds whose resources may refer to one of this kind.
pub fn referring_to(kind: KindName) -> impl Iterator<Item = &'static dyn Kind> {
    registry().iter().copied().filter(move |other| other.refers_to().contains(&kind))
}

/// The prefixes that all names of a kind begin with: what stands before the first placeholder.
pub fn prefixes_of(kind: &dyn Kind) -> impl Iterator<Item = &'static str> {
    kind.patterns().iter().map(|pattern| pattern.split('{').next().unwrap_or_default())
}

/// The resources that a spec came to refer to, or ceased to: those that a field of it names on one side only.
#[must_use]
pub fn turned(kind: &dyn Kind, before: Option<&Spec>, after: Option<&Spec>) -> BTreeSet<ResourceName> {
    let of = |spec: Option<&Spec>| -> BTreeSet<(FieldPath, ResourceName)> {
        let references = spec.map(|spec| kind.references(spec)).unwrap_or_default();
        references.into_iter().map(|reference| (reference.field, reference.name)).collect()
    };
    of(before).symmetric_difference(&of(after)).map(|(_, name)| name.clone()).collect()
}

/// The reference that a field makes, if it names a resource at all; whether it may is [`check`]'s to say.
pub(super) fn reference(field: impl Into<String>, text: &str) -> Option<Reference> {
    let (name, _) = parse_name(text).ok()?;
    Some(Reference { field: FieldPath(field.into()), name })
}

/// Checks that a field names a resource of this kind, and says whether it does. Whether there is one is the engine's to
/// find out.
pub(super) fn check(
    violations: &mut Violations,
    field: &str,
    text: &str,
    kind: KindName,
    example: &str,
) -> bool {
    let named = parse_name(text).is_ok_and(|(name, found)| found.name() == kind && name.as_str() == text);
    if !named {
        let pattern = kind_named(kind).and_then(|kind| kind.patterns().first()).copied().unwrap_or_default();
        let problem = format!("must be the whole name of a resource, `{pattern}`, for example `{example}`");
        violations.add(field, "INVALID_NAME", problem);
    }
    named
}
