//! A change of one resource from flags: `path=value`, typed by the field's descriptor.
//!
//! It must not know where values come from or how they are sent.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};

use super::{scalar, schema};
use crate::proto::v1;

/// What is wrong with an assignment.
pub type Wrong = String;

/// One step of a path.
#[derive(Clone, PartialEq)]
enum Step {
    Field(FieldDescriptor),
    Key(String),
}

struct Assignment {
    steps: Vec<Step>,
    /// `None` takes away what is there.
    value: Option<Value>,
}

/// A change of one resource. Not printable: it may hold secrets.
pub struct Edit {
    name: String,
    arm: FieldDescriptor,
    assignments: Vec<Assignment>,
    labels: BTreeMap<String, Option<String>>,
    /// A setting's value of which no type was named.
    untyped: Option<String>,
}

impl Edit {
    /// A change of nothing yet.
    pub fn of(name: &str) -> Result<Self, Wrong> {
        let arm = schema::arm_of_name(name).filter(|_| name.contains('/')).ok_or_else(|| {
            format!("`{name}` is not the name of a resource; give one such as providers/groq or settings/max_retries")
        })?;
        let (assignments, labels) = (Vec::new(), BTreeMap::new());
        Ok(Self { name: name.to_owned(), arm, assignments, labels, untyped: None })
    }

    /// Takes `path=value`; the path may leave the arm out. A list takes one value after the other, and none empties it; without a
    /// value a group of fields or an entry of a map is taken away.
    pub fn field(&mut self, text: &str) -> Result<(), Wrong> {
        let (path, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not PATH=VALUE, for example display_name=Groq"))?;
        let (steps, kind) = self.resolve(path)?;
        if matches!(&kind, Kind::Message(message) if schema::is_secret(message)) {
            return Err(format!(
                "{path}: is a secret; give it with --secret {path}=@FILE, {path}=- or {path}=env:NAME"
            ));
        }
        if let Kind::Message(group) = &kind
            && schema::is_group(group)
        {
            let problem =
                || format!("{path}: is a group of fields; name one of {}", schema::field_names(group));
            return match (value, &steps[..]) {
                (_, [_]) => Err(problem()),
                ("", _) => self.add(path, steps, None),
                _ => Err(problem() + &format!(", or clear it with {path}=")),
            };
        }
        if matches!(steps.last(), Some(Step::Key(_))) && value.is_empty() {
            return self.add(path, steps, None);
        }
        let is_list = matches!(steps.last(), Some(Step::Field(field)) if field.is_list());
        let value = match is_list && value.is_empty() {
            true => Value::List(Vec::new()),
            false => scalar::parse(&kind, value).map_err(|wrong| format!("{path}: {wrong}"))?,
        };
        self.add(path, steps, Some(value))
    }

    /// Takes the value of a secret; without a path it is the only secret of the kind.
    pub fn secret(&mut self, path: Option<&str>, value: &str) -> Result<(), Wrong> {
        let path = path.map_or_else(|| self.only_secret(), |path| Ok(path.to_owned()))?;
        let (steps, kind) = self.resolve(&path)?;
        let Kind::Message(message) = kind else {
            return Err(format!("{path}: is not a secret; use --field"));
        };
        if !schema::is_secret(&message) {
            return Err(format!("{path}: is not a secret; use --field"));
        }
        let secret = v1::Secret { value: Some(value.to_owned()), state: 0 };
        self.add(&path, steps, Some(Value::Message(secret.transcode_to_dynamic())))
    }

    /// Takes the value of a setting. Where no type is named it has the type that is stored, or one that is guessed.
    pub fn setting(&mut self, value: &str, value_type: Option<&str>) -> Result<(), Wrong> {
        if self.arm.name() != "setting" {
            return Err(format!(
                "--value is for settings; {} is of the kind {}: use --field",
                self.name,
                self.arm.name()
            ));
        }
        match value_type {
            Some(value_type) => self.field(&format!("setting.{value_type}_value={value}")),
            None if self.assignments.is_empty() => {
                self.untyped = Some(value.to_owned());
                Ok(())
            }
            None => Err("--value: only one of --value and --field can be set".to_owned()),
        }
    }

    /// The value of which no type was named, as one of the type that is stored.
    fn typed(&self, current: Option<&v1::Resource>) -> Result<Option<Assignment>, Wrong> {
        let Some(value) = &self.untyped else { return Ok(None) };
        let guessed = guess(value);
        let stored = current.and_then(stored_type);
        if stored.as_deref() == Some("secret") {
            return Err(format!(
                "{} is a secret; give its value with --secret - (standard input) or --secret @FILE",
                self.name
            ));
        }
        let field = format!("setting.{}_value", stored.as_deref().unwrap_or(guessed));
        let (steps, kind) = self.resolve(&field)?;
        let value = scalar::parse(&kind, value).map_err(|wrong| match &stored {
            Some(stored) => format!(
                "--value: {wrong}, and {} is of the type {stored}; to change its type give --type {guessed}",
                self.name
            ),
            None => format!("--value: {wrong}"),
        })?;
        Ok(Some(Assignment { steps, value: Some(value) }))
    }

    /// Takes a label: `key=value` sets it, `key-` takes it away.
    pub fn label(&mut self, text: &str) -> Result<(), Wrong> {
        let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            (None, None) => ("", None),
        };
        if key.is_empty() {
            return Err(format!("`{text}` is neither KEY=VALUE nor KEY-"));
        }
        self.labels.insert(key.to_owned(), value);
        Ok(())
    }

    /// Whether the current resource is needed: for parts of maps, or for the type of a setting.
    #[must_use]
    pub fn needs_current(&self) -> bool {
        self.untyped.is_some() || self.rewrites_maps()
    }

    /// Whether it changes parts of maps, which the server only takes whole.
    #[must_use]
    pub fn rewrites_maps(&self) -> bool {
        !self.labels.is_empty() || self.assignments.iter().any(|assignment| crosses_map(&assignment.steps))
    }

    /// The resource and the mask to send.
    pub fn build(&self, current: Option<&v1::Resource>) -> Result<(v1::Resource, Vec<String>), Wrong> {
        let mut message =
            v1::Resource { name: self.name.clone(), ..Default::default() }.transcode_to_dynamic();
        let typed = self.typed(current)?;
        let current = current.map(ReflectMessage::transcode_to_dynamic);
        let mut mask = BTreeSet::new();
        for assignment in self.assignments.iter().chain(&typed) {
            let fields = masked_fields(&assignment.steps);
            let new = mask.insert(fields.iter().map(|field| field.name()).collect::<Vec<_>>().join("."));
            if let Some(current) = current.as_ref().filter(|_| new && crosses_map(&assignment.steps)) {
                copy(current, &mut message, &fields);
            }
            match &assignment.value {
                Some(value) => apply(&mut message, &assignment.steps, value.clone()),
                None => clear(&mut message, &assignment.steps),
            }
        }
        let mut resource: v1::Resource = message.transcode_to().map_err(|error| error.to_string())?;
        if !self.labels.is_empty() {
            mask.insert("labels".to_owned());
            resource.labels = self.merged_labels(current.as_ref());
        }
        Ok((resource, mask.into_iter().collect()))
    }

    fn merged_labels(&self, current: Option<&DynamicMessage>) -> BTreeMap<String, String> {
        let current: Option<v1::Resource> = current.and_then(|current| current.transcode_to().ok());
        let mut labels = current.map(|current| current.labels).unwrap_or_default();
        for (key, value) in &self.labels {
            match value {
                Some(value) => drop(labels.insert(key.clone(), value.clone())),
                None => drop(labels.remove(key)),
            }
        }
        labels
    }

    fn add(&mut self, path: &str, steps: Vec<Step>, value: Option<Value>) -> Result<(), Wrong> {
        let Some(Step::Field(last)) = steps.iter().rev().find(|step| matches!(step, Step::Field(_))) else {
            return Err(format!("{path}: names no field"));
        };
        let repeats = last.is_list();
        for other in &self.assignments {
            if other.steps == steps && !repeats {
                return Err(format!("{path}: is given twice"));
            }
            let clears =
                |one: &Option<Value>, whole: &[Step], part: &[Step]| one.is_none() && part.starts_with(whole);
            if clears(&other.value, &other.steps, &steps) || clears(&value, &steps, &other.steps) {
                return Err(format!(
                    "{path}: what is cleared and a part of it that is set contradict each other; give one of them, or one after \
                     the other"
                ));
            }
            if excludes(&other.steps, &steps) {
                return Err(format!("{path}: only one of its alternatives can be set, and two are given"));
            }
        }
        self.assignments.push(Assignment { steps, value });
        Ok(())
    }

    fn only_secret(&self) -> Result<String, Wrong> {
        let message = schema::message_of(&self.arm).ok_or("has no fields")?;
        let holds_secret = |field: &FieldDescriptor| {
            !field.is_map() && schema::message_of(field).is_some_and(|inner| schema::is_secret(&inner))
        };
        let secrets: Vec<String> =
            message.fields().filter(holds_secret).map(|field| field.name().to_owned()).collect();
        // Of several it is the one that is called so: those beside it are not for a caller to set.
        let meant = match secrets.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|name| *name == "secret"),
        };
        match meant {
            Some(only) => Ok(format!("{}.{only}", self.arm.name())),
            None => Err(format!("which secret of {}? Give PATH=@FILE, PATH=- or PATH=env:NAME", self.name)),
        }
    }

    fn resolve(&self, path: &str) -> Result<(Vec<Step>, Kind), Wrong> {
        let segments: Vec<&str> = path.split('.').collect();
        let first = segments.first().copied().unwrap_or_default();
        let message = schema::message_of(&self.arm).ok_or_else(|| format!("{path}: has no fields"))?;
        let mut steps = vec![Step::Field(self.arm.clone())];
        let own = schema::field(&message, first);
        let names_arm = match &segments[..] {
            _ if first != self.arm.name() && first != self.arm.json_name() => false,
            // A kind may have a field of its own name: then the arm's is meant only where it leads on to a field.
            [_] => own.is_none(),
            [_, next, ..] => own.is_none() || schema::field(&message, next).is_some(),
            [] => false,
        };
        if !names_arm && own.is_none() {
            let other = schema::field(&schema::resource(), first);
            return Err(not_in_arm(path, &self.name, other.as_ref(), &message));
        }
        let kind = descend(&message, if names_arm { &segments[1..] } else { &segments }, path, &mut steps)?;
        Ok((steps, kind))
    }
}

fn not_in_arm(path: &str, name: &str, other: Option<&FieldDescriptor>, message: &MessageDescriptor) -> Wrong {
    match other.map(FieldDescriptor::name) {
        Some("labels") => format!("{path}: labels are set with --label KEY=VALUE"),
        Some("etag") => format!("{path}: is the write's precondition; give it with --etag"),
        Some(field) if schema::OUTPUT_ONLY.contains(&field) => format!("{path}: is filled in by the server"),
        _ => format!("{path}: {name} has no such field; it has {}", schema::field_names(message)),
    }
}

/// Follows a path through messages and maps, down to the kind of its value.
fn descend(
    message: &MessageDescriptor,
    segments: &[&str],
    path: &str,
    steps: &mut Vec<Step>,
) -> Result<Kind, Wrong> {
    let Some((first, rest)) = segments.split_first() else {
        return Ok(Kind::Message(message.clone()));
    };
    let field = schema::field(message, first).ok_or_else(|| {
        format!("{path}: there is no field `{first}`; there are {}", schema::field_names(message))
    })?;
    steps.push(Step::Field(field.clone()));
    if field.is_map() {
        return descend_map(&field, rest, path, steps);
    }
    end_or_descend(field.kind(), field.is_list(), rest, path, steps)
}

fn descend_map(
    field: &FieldDescriptor,
    rest: &[&str],
    path: &str,
    steps: &mut Vec<Step>,
) -> Result<Kind, Wrong> {
    let Some(entry) = schema::message_of(field) else { return Err(format!("{path}: is not a map")) };
    let kind = entry.map_entry_value_field().kind();
    let is_group = matches!(&kind, Kind::Message(message) if !schema::is_well_known(message));
    // A plain value ends the path, so that its key may hold dots.
    let (key, rest) = match (rest.split_first(), is_group) {
        (Some((key, rest)), true) => ((*key).to_owned(), rest),
        (Some(_), false) => (rest.join("."), &[][..]),
        (None, _) => (String::new(), rest),
    };
    if key.is_empty() {
        return Err(format!("{path}: is a map; name the entry, as in {path}.KEY"));
    }
    steps.push(Step::Key(key));
    end_or_descend(kind, false, rest, path, steps)
}

fn end_or_descend(
    kind: Kind,
    list: bool,
    rest: &[&str],
    path: &str,
    steps: &mut Vec<Step>,
) -> Result<Kind, Wrong> {
    match &kind {
        Kind::Message(_) if list => Err(format!("{path}: is a list of groups; give it in a file with -f")),
        Kind::Message(message) if schema::is_group(message) => descend(message, rest, path, steps),
        Kind::Message(message) if schema::is_secret(message) && !rest.is_empty() => {
            Err(format!("{path}: is part of a secret; name the secret itself with --secret"))
        }
        _ if rest.is_empty() => Ok(kind),
        _ => Err(format!("{path}: `{}` lies beneath a single value", rest.join("."))),
    }
}

/// The fields that the mask names: up to the first map, because the server takes maps whole.
fn masked_fields(steps: &[Step]) -> Vec<FieldDescriptor> {
    steps
        .iter()
        .map_while(|step| if let Step::Field(field) = step { Some(field.clone()) } else { None })
        .collect()
}

fn crosses_map(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Key(_)))
}

/// Whether two paths part at the alternatives of a `oneof`.
fn excludes(one: &[Step], other: &[Step]) -> bool {
    let parting = one.iter().zip(other).find(|(one, other)| one != other);
    let Some((Step::Field(one), Step::Field(other))) = parting else { return false };
    schema::real_oneof(one).is_some_and(|oneof| schema::real_oneof(other) == Some(oneof))
}

fn copy(from: &DynamicMessage, to: &mut DynamicMessage, fields: &[FieldDescriptor]) {
    let Some((field, rest)) = fields.split_first().filter(|(field, _)| from.has_field(field)) else { return };
    if rest.is_empty() {
        return to.set_field(field, from.get_field(field).into_owned());
    }
    if let (Some(from), Some(to)) =
        (from.get_field(field).as_message(), to.get_field_mut(field).as_message_mut())
    {
        copy(from, to, rest);
    }
}

fn apply(message: &mut DynamicMessage, steps: &[Step], value: Value) {
    let Some((Step::Field(field), rest)) = steps.split_first() else { return };
    match (message.get_field_mut(field), rest) {
        (Value::List(list), []) => match value {
            Value::List(whole) => *list = whole,
            item => list.push(item),
        },
        (place, []) => *place = value,
        (Value::Map(map), [Step::Key(key)]) => drop(map.insert(MapKey::String(key.clone()), value)),
        (Value::Map(map), [Step::Key(key), rest @ ..]) => {
            let Some(entry) = schema::message_of(field) else { return };
            let empty = || Value::default_value(&entry.map_entry_value_field().kind());
            if let Value::Message(inner) = map.entry(MapKey::String(key.clone())).or_insert_with(empty) {
                apply(inner, rest, value);
            }
        }
        (Value::Message(inner), rest) => apply(inner, rest, value),
        _ => {}
    }
}

/// Takes away what is at a path; the mask names it still.
fn clear(message: &mut DynamicMessage, steps: &[Step]) {
    let Some((Step::Field(field), rest)) = steps.split_first() else { return };
    if rest.is_empty() {
        return message.clear_field(field);
    }
    match (message.get_field_mut(field), rest) {
        (Value::Map(map), [Step::Key(key)]) => drop(map.remove(&MapKey::String(key.clone()))),
        (Value::Map(map), [Step::Key(key), rest @ ..]) => {
            if let Some(Value::Message(inner)) = map.get_mut(&MapKey::String(key.clone())) {
                clear(inner, rest);
            }
        }
        (Value::Message(inner), rest) => clear(inner, rest),
        _ => {}
    }
}

/// The type of a setting's value: `int`.
fn stored_type(current: &v1::Resource) -> Option<String> {
    let Some(v1::resource::Spec::Setting(setting)) = &current.spec else { return None };
    let spec = setting.transcode_to_dynamic();
    let set = spec.fields().map(|(field, _)| field).find(|field| schema::real_oneof(field).is_some());
    set.and_then(|field| field.name().strip_suffix("_value").map(str::to_owned))
}

/// The type that a value of a setting looks like.
fn guess(value: &str) -> &'static str {
    let starts_as_number = value.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let is_json =
        value.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
    match value {
        "true" | "false" => "bool",
        _ if value.parse::<i64>().is_ok() => "int",
        _ if starts_as_number && value.parse::<f64>().is_ok_and(f64::is_finite) => "float",
        _ if starts_as_number && humantime::parse_duration(value).is_ok() => "duration",
        _ if is_json => "json",
        _ => "string",
    }
}
