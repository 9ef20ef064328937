//! Field masks (AIP-134) over the labels and the spec of a resource.
//!
//! Works on descriptors, so that it follows every kind. Must not know what a field means.
//!
//! - Paths go from the resource: `provider.display_name`, `provider.headers.X-Token`, `labels.team`,
//!   `setting.int_value`. What a path names takes the patch's value; where the patch has none, it is cleared, and the
//!   kind's defaults fill it again.
//! - Without paths the populated fields of the patch are taken. Messages are merged field by field; maps, lists,
//!   secrets, messages of other packages and messages that are given empty are replaced whole: `{}` is not nothing. The
//!   kind's own message alone may be empty beside labels.
//! - `*` replaces labels and spec whole. A secret that is left out so, or with the message around it, stays nevertheless: the
//!   engine sees to that ([`secrets::keep_unsaid`](super::secrets::keep_unsaid)), and asks the mask whether it was named.

use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage, Value};

use super::{
    paths::{self, PathError, Step},
    reflect,
    rules::shown,
};
use crate::domain::{
    FieldPath, FieldViolation, KindName, Violations,
    record::{Labels, Spec},
    spec::kind_of,
};

/// Which fields of a resource an update touches.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// Those that the patch has.
    Populated,
    /// All that a caller can set.
    Everything,
    /// Those that paths name; [`Mask::parse`] makes them.
    Paths(Vec<MaskPath>),
}

/// One path of a mask, known to lead to a field that can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskPath(Vec<Step>);

const MAX_PATHS: usize = 1000;

impl MaskPath {
    /// The path as fields are named by.
    fn text(&self) -> String {
        let segment = |step: &Step| match step {
            Step::Field(field) => field.name().to_owned(),
            Step::Key { key, .. } => key.clone(),
        };
        self.0.iter().map(segment).collect::<Vec<_>>().join(".")
    }
}

impl Mask {
    /// Reads the mask of an update of a resource of this kind; `field` is the mask's place in the request.
    ///
    /// # Errors
    /// Every path that names no field, one that can't be set, or one of another kind.
    pub fn parse(paths: &[String], kind: KindName, field: &str) -> Result<Mask, Vec<FieldViolation>> {
        let mut violations = Violations::default();
        violations.at_most(field, paths.len(), MAX_PATHS, "paths");
        match paths {
            [] => return Ok(Mask::Populated),
            [star] if star == "*" => return Ok(Mask::Everything),
            _ => {}
        }
        let mut parsed = Vec::new();
        for (index, path) in paths.iter().enumerate().take(MAX_PATHS) {
            match parse_path(path, kind) {
                Ok(path) => parsed.push(path),
                Err(problem) => violations.add(format!("{field}.paths[{index}]"), "INVALID_MASK", problem),
            }
        }
        let violations = violations.into_vec();
        if violations.is_empty() { Ok(Mask::Paths(parsed)) } else { Err(violations) }
    }

    /// Whether a path of this mask ends at this field.
    #[must_use]
    pub fn names(&self, field: &FieldPath) -> bool {
        let Mask::Paths(paths) = self else { return false };
        paths.iter().any(|path| path.text() == field.0)
    }

    /// The paths of this mask at which `base` has nothing.
    #[must_use]
    pub fn lacking(self, base: (&Labels, &Spec)) -> Mask {
        let Mask::Paths(mut paths) = self else { return Mask::Paths(Vec::new()) };
        let found = reflect::to_dynamic_with(base.0, Some(base.1));
        paths.retain(|path| !has(&found, &path.0));
        reflect::wipe_secrets(found);
        Mask::Paths(paths)
    }

    /// What `base` becomes when the masked fields are taken from `patch`.
    ///
    /// The patch's spec must be of the base's kind or not be given; an arm of another kind is passed over.
    #[must_use]
    pub fn apply(&self, base: (&Labels, &Spec), patch: (&Labels, Option<&Spec>)) -> (Labels, Spec) {
        let patch = (patch.0, patch.1.filter(|spec| kind_of(spec) == kind_of(base.1)));
        let patched = reflect::to_dynamic_with(patch.0, patch.1);
        let mut result = match self {
            Mask::Everything => patched.clone(),
            _ => reflect::to_dynamic_with(base.0, Some(base.1)),
        };
        match self {
            Mask::Everything => {}
            Mask::Populated => merge_resource(&mut result, &patched),
            Mask::Paths(paths) => paths.iter().for_each(|path| copy(&mut result, Some(&patched), &path.0)),
        }
        keep_arm(&mut result, base.1);
        let resource = reflect::from_dynamic(&result);
        reflect::wipe_secrets(result);
        reflect::wipe_secrets(patched);
        (resource.labels, resource.spec.unwrap_or_else(|| base.1.clone()))
    }
}

/// A resource whose spec was cleared has an empty one of the same kind.
fn keep_arm(result: &mut DynamicMessage, base: &Spec) {
    if let Some(arm) = reflect::arm(kind_of(base).0)
        && !result.has_field(&arm)
    {
        result.set_field(&arm, arm.default_value());
    }
}

fn parse_path(path: &str, kind: KindName) -> Result<MaskPath, String> {
    let segments = paths::split(path);
    let resource = reflect::resource();
    let first = segments.first().and_then(|segment| paths::field(&resource, segment));
    if let Some(first) = &first {
        check_first(first, kind)?;
    } else if path == "*" {
        return Err("`*` replaces everything and must stand alone".into());
    }
    let path = shown(path);
    match paths::resolve(&resource, &segments) {
        Ok(steps) if steps.iter().any(|step| matches!(step, Step::Key { key, .. } if key.is_empty())) => {
            Err(format!("`{path}` lacks the key of the entry that it names"))
        }
        Ok(steps) => Ok(MaskPath(steps)),
        Err(PathError::Unknown { .. }) if first.is_none() => Err(match within(kind, &segments) {
            true => format!("`{path}` names no field; did you mean `{kind}.{path}`?"),
            false => {
                format!("`{path}` names no field; paths begin with `labels` or `{kind}`, or are `*` alone")
            }
        }),
        Err(PathError::Unknown { segment, known }) => {
            let (segment, known) = (shown(&segment), known.join("`, `"));
            Err(format!("`{path}` names no field: there is no `{segment}` there, but `{known}`"))
        }
        Err(PathError::TooDeep { end, secret: true }) => {
            Err(format!("`{path}` goes into a secret, which is one field; end the path with `{end}`"))
        }
        Err(PathError::TooDeep { end, .. }) => {
            Err(format!("`{path}` goes on where nothing follows; end the path with `{end}`"))
        }
    }
}

/// Whether the first segment is the caller's to set, on a resource of this kind.
fn check_first(first: &FieldDescriptor, kind: KindName) -> Result<(), String> {
    let name = first.name();
    if name == "labels" || name == kind.0 {
        return Ok(());
    }
    Err(match first.containing_oneof() {
        Some(_) => format!("names a field of kind `{name}`, but the resource is of kind `{kind}`"),
        None if name == "name" => "names the resource itself; a rename is a delete and a create".into(),
        None if name == "etag" => {
            "is a precondition, not a field to change; set `etag` and leave it out of the mask".into()
        }
        None => format!("`{name}` is set by the server; leave it out of the mask"),
    })
}

/// Whether the segments lead to a field from the kind's own message.
fn within(kind: KindName, segments: &[String]) -> bool {
    let arm = reflect::arm(kind.0).map(|arm| arm.kind());
    arm.as_ref().and_then(|arm| arm.as_message()).is_some_and(|arm| paths::resolve(arm, segments).is_ok())
}

/// Takes over what is populated of a resource. Its arm says of which kind it is, and no more where nothing is in it.
fn merge_resource(base: &mut DynamicMessage, patch: &DynamicMessage) {
    for (field, value) in patch.fields() {
        match (value, base.get_field_mut(&field)) {
            (Value::Message(arm), Value::Message(target)) => merge(target, arm),
            (value, target) => *target = value.clone(),
        }
    }
}

/// Takes over what is populated.
fn merge(base: &mut DynamicMessage, patch: &DynamicMessage) {
    for (field, value) in patch.fields() {
        match value {
            Value::Message(inner)
                if paths::is_open(&inner.descriptor()) && inner.fields().next().is_some() =>
            {
                if let Some(target) = base.get_field_mut(&field).as_message_mut() {
                    merge(target, inner);
                }
            }
            value => base.set_field(&field, value.clone()),
        }
    }
}

/// Whether there is something at a path.
fn has(message: &DynamicMessage, steps: &[Step]) -> bool {
    let Some((Step::Field(field), rest)) = steps.split_first() else { return true };
    let Some(value) = paths::set_value(message, field) else { return false };
    let within = |value: &Value, rest: &[Step]| {
        rest.is_empty() || value.as_message().is_some_and(|message| has(message, rest))
    };
    match (rest, value) {
        ([Step::Key { key, .. }, rest @ ..], Value::Map(entries)) => {
            entries.get(&MapKey::String(key.clone())).is_some_and(|entry| within(entry, rest))
        }
        (rest, value) => within(value, rest),
    }
}

/// Takes over what one path names, or clears it.
fn copy(base: &mut DynamicMessage, patch: Option<&DynamicMessage>, steps: &[Step]) {
    let Some((Step::Field(field), rest)) = steps.split_first() else { return };
    let given = patch.and_then(|patch| paths::set_value(patch, field));
    match (rest, given) {
        ([], Some(value)) => base.set_field(field, value.clone()),
        ([], None) => base.clear_field(field),
        (_, None) if !base.has_field(field) => {}
        ([Step::Key { key, value }, rest @ ..], given) => {
            let given = match given {
                Some(Value::Map(entries)) => entries.get(&MapKey::String(key.clone())),
                _ => None,
            };
            copy_entry(base.get_field_mut(field), key, value, given, rest);
        }
        (rest, given) => {
            if let Some(target) = base.get_field_mut(field).as_message_mut() {
                copy(target, given.and_then(Value::as_message), rest);
            }
        }
    }
}

/// Takes over the entry of a map, or what lies within it.
fn copy_entry(map: &mut Value, key: &str, of: &FieldDescriptor, given: Option<&Value>, rest: &[Step]) {
    let Some(entries) = map.as_map_mut() else { return };
    let key = MapKey::String(key.to_owned());
    match (rest, given) {
        ([], Some(value)) => drop(entries.insert(key, value.clone())),
        ([], None) => drop(entries.remove(&key)),
        (_, None) if !entries.contains_key(&key) => {}
        (rest, given) => {
            let target = entries.entry(key).or_insert_with(|| of.default_value());
            if let Some(target) = target.as_message_mut() {
                copy(target, given.and_then(Value::as_message), rest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
