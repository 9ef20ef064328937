//! Fields of a request by their path, and which of them a query can give.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value};
use serde_json::Value as Json;

use super::{
    json,
    route::{Body, Collection, Route},
};
use crate::{
    domain::{KindName, Pattern, Violations},
    kinds,
    proto::v1::{Resource, Selector, selector},
};

const FIELD_MASK: &str = "google.protobuf.FieldMask";
const SELECTOR: &str = "signalbox.v1.Selector";
/// Messages within the request whose fields a query can give: `worker.id`.
const DEEPEST: usize = 2;

/// The way from a request to one of its fields.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) struct Path(Vec<FieldDescriptor>);

impl Path {
    /// Finds a field, each step in either spelling; a list, a map or what is no message ends the way.
    pub fn find(input: &MessageDescriptor, text: &str) -> Option<Self> {
        let mut message = Some(input.clone());
        let mut steps = Vec::new();
        for key in text.split('.') {
            let field = json::field_named(&message?, key)?;
            message = match field.kind() {
                Kind::Message(inner) if !field.is_list() && !field.is_map() => Some(inner),
                _ => None,
            };
            steps.push(field);
        }
        Some(Self(steps))
    }

    /// As errors name it.
    pub fn name(&self) -> String {
        self.0.iter().map(|field| field.name().to_owned()).collect::<Vec<_>>().join(".")
    }

    /// Where it ends; there always is a step.
    pub fn last(&self) -> Option<&FieldDescriptor> {
        self.0.last()
    }

    pub fn is_list(&self) -> bool {
        self.last().is_some_and(FieldDescriptor::is_list)
    }

    /// The text at its end; empty where nothing is.
    pub fn text(&self, message: &DynamicMessage) -> String {
        let [way @ .., last] = self.0.as_slice() else { return String::new() };
        let mut message = message.clone();
        for step in way {
            match message.take_field(step) {
                Some(Value::Message(inner)) => message = inner,
                _ => return String::new(),
            }
        }
        message.get_field(last).as_str().unwrap_or_default().to_owned()
    }

    /// What is set already where only one of several can be.
    pub fn rival(&self, message: &mut DynamicMessage) -> Option<String> {
        self.within(message, |message, last| json::rival(message, last)).flatten()
    }

    /// Sets the field, and the messages on the way.
    pub fn put(&self, message: &mut DynamicMessage, value: Value) {
        self.within(message, |message, last| message.set_field(last, value));
    }

    fn within<T>(
        &self,
        message: &mut DynamicMessage,
        change: impl FnOnce(&mut DynamicMessage, &FieldDescriptor) -> T,
    ) -> Option<T> {
        let (last, way) = self.0.split_last()?;
        let mut message = message;
        for step in way {
            message = message.get_field_mut(step).as_message_mut()?;
        }
        Some(change(message, last))
    }
}

/// The parameters that a route's query may have: fields that a text can give, and that neither path nor body does. What holds
/// a secret is none: addresses end up in logs.
pub(in crate::http) fn parameters(route: &Route) -> Vec<Path> {
    let mut all = Vec::new();
    if route.body != Body::Whole {
        gather(&route.rpc.input(), &mut Vec::new(), &mut all);
    }
    let body = match &route.body {
        Body::Field(field) => field.as_str(),
        _ => "",
    };
    let in_path = |path: &Path| {
        route.variable.as_ref().is_some_and(|variable| variable.field == path.name() && !path.is_list())
    };
    all.retain(|path| path.0.first().is_some_and(|first| first.name() != body) && !in_path(path));
    // A list that the path adds to is not narrowed by adding more.
    all.retain(|path| route.variable.as_ref().is_none_or(|variable| variable.field != path.name()));
    all
}

fn gather(message: &MessageDescriptor, way: &mut Vec<FieldDescriptor>, into: &mut Vec<Path>) {
    for field in message.fields().filter(|field| !field.is_map()) {
        way.push(field.clone());
        match field.kind() {
            Kind::Message(inner)
                if inner.package_name() == "google.protobuf" || inner.full_name() == SELECTOR =>
            {
                into.push(Path(way.clone()));
            }
            Kind::Message(inner) if !field.is_list() && way.len() < DEEPEST && !holds_secret(&inner) => {
                gather(&inner, way, into);
            }
            Kind::Message(_) => {}
            _ => into.push(Path(way.clone())),
        }
        way.pop();
    }
}

/// Whether a message is a secret, or a resource, which may hold one.
fn holds_secret(message: &MessageDescriptor) -> bool {
    message.full_name() == "signalbox.v1.Secret" || *message == Resource::default().descriptor()
}

/// Sets a field from the texts of a query; what is wrong with them is noted.
pub(super) fn put_texts(
    message: &mut DynamicMessage,
    path: &Path,
    texts: Vec<String>,
    violations: &mut Violations,
) {
    let Some(field) = path.last() else { return };
    let name = path.name();
    if texts.len() > 1 && !field.is_list() {
        violations.add(name, "CONFLICT", "stands twice; give it once");
        return;
    }
    let value = match field.kind() {
        Kind::Message(inner) if inner.full_name() == FIELD_MASK => {
            texts.first().map(|text| mask(&inner, text))
        }
        Kind::Message(inner) if inner.full_name() == SELECTOR => selectors(&inner, &texts, &name, violations),
        kind => {
            let mut json = texts.into_iter().map(|text| as_json(&kind, text));
            let json =
                if field.is_list() { Json::Array(json.collect()) } else { json.next().unwrap_or_default() };
            json::read_field(field, json, &name, violations)
        }
    };
    match (value, path.rival(message)) {
        (Some(_), Some(rival)) => {
            violations.add(name, "CONFLICT", format!("stands beside `{rival}`; only one of them can be set"));
        }
        (Some(value), None) => path.put(message, value),
        (None, _) => {}
    }
}

/// Canonical JSON takes everything but flags as text.
fn as_json(kind: &Kind, text: String) -> Json {
    match (kind, text.as_str()) {
        (Kind::Bool, "true") => Json::Bool(true),
        (Kind::Bool, "false") => Json::Bool(false),
        _ => Json::String(text),
    }
}

/// A mask over a resource. Its JSON form can't hold what a map's key may be, so paths are taken as they are written; what is
/// the name of a field in JSON becomes its name in the proto files.
fn mask(descriptor: &MessageDescriptor, text: &str) -> Value {
    let path = |path: &str| {
        let mut message = Some(Resource::default().descriptor());
        let steps = path.split('.').map(|step| {
            let field = message.take().and_then(|message| json::field_named(&message, step));
            message = field
                .as_ref()
                .filter(|field| !field.is_map())
                .and_then(|field| field.kind().as_message().cloned());
            field.map_or_else(|| step.to_owned(), |field| field.name().to_owned())
        });
        Value::String(steps.collect::<Vec<_>>().join("."))
    };
    let mut mask = DynamicMessage::new(descriptor.clone());
    let paths = text.split(',').map(str::trim).filter(|path| !path.is_empty()).map(path);
    mask.set_field_by_name("paths", Value::List(paths.collect()));
    Value::Message(mask)
}

/// Selectors as tokens and the command line write them.
fn selectors(
    descriptor: &MessageDescriptor,
    texts: &[String],
    name: &str,
    violations: &mut Violations,
) -> Option<Value> {
    let read = |(index, text): (usize, &String)| match kinds::parse_pattern(text) {
        Some(pattern) => Some(dynamic(descriptor, &of_pattern(pattern))),
        None => {
            let description = "must be `*`, a prefix such as `providers/*`, `kind:provider`, or a name";
            violations.add(format!("{name}[{index}]"), "INVALID_NAME", description);
            None
        }
    };
    texts
        .iter()
        .enumerate()
        .map(read)
        .collect::<Vec<_>>()
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .map(Value::List)
}

fn of_pattern(pattern: Pattern) -> Selector {
    let pattern = match pattern {
        Pattern::All => None,
        Pattern::Name(name) => Some(selector::Pattern::Name(name.to_string())),
        Pattern::Prefix(prefix) => Some(selector::Pattern::Prefix(prefix)),
        Pattern::Kind(kind) => Some(selector::Pattern::Kind(kind.to_string())),
    };
    Selector { pattern, ..Selector::default() }
}

fn dynamic(descriptor: &MessageDescriptor, selector: &Selector) -> Value {
    let mut message = DynamicMessage::new(descriptor.clone());
    // Its own descriptor's: nothing can be lost.
    let _ = message.transcode_from(selector);
    Value::Message(message)
}

/// Adds the selector of a name, or of all that stands in it.
pub(super) fn add_selector(message: &mut DynamicMessage, path: &Path, name: String, collection: bool) {
    let selector = match collection {
        true => Collection::selector(&name),
        false => Selector { pattern: Some(selector::Pattern::Name(name)), ..Selector::default() },
    };
    path.within(message, |message, last| {
        if let (Kind::Message(descriptor), Value::List(list)) = (last.kind(), message.get_field_mut(last)) {
            list.push(dynamic(&descriptor, &selector));
        }
    });
}

/// Narrows a list to one kind. `OR` binds tighter than `AND` in a filter, so that no parentheses are needed.
pub(super) fn narrow(message: &mut DynamicMessage, kind: KindName) {
    let Some(path) = Path::find(&message.descriptor(), "filter") else { return };
    let own = format!("kind = {kind}");
    let filter = match path.text(message) {
        given if given.trim().is_empty() => own,
        given => format!("{given} AND {own}"),
    };
    path.put(message, Value::String(filter));
}
