//! Request builders: from what is stored to entries that can be rendered, with everything that is wrong with them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    call::Call,
    endpoint::{holds, path_problem},
    messages::Format,
    parameters::{PARAMETERS, Parameter},
    path::scalar_text,
    problems::{Problems, list, name_problem, shown},
    template::{Template, document},
};
use crate::proto::v1::{RequestBuilder, RequestEntry};

/// The version of the language.
pub(super) const VERSION: &str = "1.0";
const MAX_ENTRIES: usize = 64;
const MAX_VALUES: usize = 32;
const TARGET_BYTES: usize = 256;
/// The entries that every builder has.
const REQUIRED: [(&str, &str); 2] = [
    ("model", "the entry of the model, for example `{\"source\": \"param:model_name\", \"required\": true}`"),
    ("messages", "the entry of the conversation, for example `{\"source\": \"param:messages\"}`"),
];

/// A request builder.
#[derive(Clone, Debug)]
pub(super) struct Builder {
    pub entries: Vec<Entry>,
    /// Empty where it is the path of other calls.
    pub stream_path: String,
}

/// One value of a request.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub source: Source,
    pub required: bool,
    pub target: Target,
    pub default: Option<Value>,
    pub values: BTreeMap<String, Template>,
    pub item: Option<Template>,
    pub template: Option<Template>,
    pub when: Option<Condition>,
    pub format: Format,
}

/// When an entry is used: a parameter has a value other than false, or this one, in its plain form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub parameter: Parameter,
    pub text: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Parameter(Parameter),
    Literal(Value),
}

/// Where a value goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Body(Vec<String>),
    Url(String),
}

impl Builder {
    /// Reads a builder for a provider with this endpoint path; `None` where something is wrong with it.
    pub fn parse(wire: &RequestBuilder, endpoint_path: &str, problems: &mut Problems) -> Option<Self> {
        let before = problems.count();
        check_version("request_builder.version", &wire.version, problems);
        let field = "request_builder.payload_structure";
        problems.at_most(field, wire.payload_structure.len(), MAX_ENTRIES, "entries");
        for (key, what) in REQUIRED {
            match wire.payload_structure.get(key) {
                None => problems.required(format!("{field}.{key}"), what),
                Some(entry) if !entry.when.is_empty() => {
                    let problem = "must be left out, because every call has this entry";
                    problems.add(format!("{field}.{key}.when"), "NOT_ALLOWED", problem);
                }
                Some(_) => {}
            }
        }
        check_sources(field, wire, problems);
        let mut entries = Vec::new();
        for (key, entry) in wire.payload_structure.iter().take(MAX_ENTRIES) {
            let path = format!("{field}.{}", shown(key));
            entries.extend(Entry::parse(key, entry, &path, problems));
        }
        // Where an entry could not be read, its target is not known.
        if entries.len() == wire.payload_structure.len() {
            check_targets(field, &entries, problems);
            check_paths(endpoint_path, &wire.stream_endpoint_path, &entries, problems);
        }
        let stream_path = wire.stream_endpoint_path.clone();
        (problems.count() == before).then_some(Self { entries, stream_path })
    }

    /// Whether an entry that is used in a call takes this parameter, or is used for the value that it has.
    pub fn takes_in(&self, parameter: Parameter, call: &Call, model: &str) -> bool {
        let taken = |entry: &Entry| {
            let holds = entry.when.as_ref().is_none_or(|condition| condition.holds(call, model));
            let decides = || entry.when.as_ref().is_some_and(|condition| condition.wants_of(parameter));
            holds && (entry.source == Source::Parameter(parameter) || decides())
        };
        self.entries.iter().any(taken)
    }

    /// What an entry that is used in a call sends where the call has no such parameter.
    pub fn default_in(&self, parameter: Parameter, call: &Call, model: &str) -> Option<&Value> {
        let used = |entry: &&Entry| {
            entry.source == Source::Parameter(parameter)
                && entry.when.as_ref().is_none_or(|condition| condition.holds(call, model))
        };
        self.entries.iter().filter(used).find_map(|entry| entry.default.as_ref())
    }

    /// The conditions under which this parameter is taken, where there is none without one.
    pub fn conditions_of(&self, parameter: Parameter) -> Vec<String> {
        let taking = self.entries.iter().filter(|entry| entry.source == Source::Parameter(parameter));
        let conditions = taking.map(|entry| entry.when.as_ref().map(Condition::shown));
        conditions.collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    /// Whether an entry takes this parameter.
    pub fn takes(&self, parameter: Parameter) -> bool {
        self.entries.iter().any(|entry| entry.source == Source::Parameter(parameter))
    }
}

/// The conversation and the model of a call are what the call says.
fn check_sources(field: &str, wire: &RequestBuilder, problems: &mut Problems) {
    // What is no source at all is told with the entry.
    let source_of = |key: &str| {
        let text = &wire.payload_structure.get(key)?.source;
        source(text).ok()
    };
    if source_of("messages").is_some_and(|found| found != Source::Parameter(Parameter::Messages)) {
        let problem = "must be `param:messages`: a call is nothing without its conversation";
        problems.add(format!("{field}.messages.source"), "NOT_ALLOWED", problem);
    }
    let model = source_of("model");
    if matches!(model, Some(Source::Parameter(parameter)) if parameter != Parameter::ModelName) {
        let problem = "must be `param:model_name`, or a `literal:` where there is one model only";
        problems.add_as_written(format!("{field}.model.source"), "NOT_ALLOWED", problem);
    }
}

impl Entry {
    fn parse(key: &str, wire: &RequestEntry, path: &str, problems: &mut Problems) -> Option<Self> {
        let before = problems.count();
        if let Some(problem) = name_problem(key) {
            problems.add(path, "INVALID_FORMAT", format!("has a key that {problem}"));
        }
        let source = problems.take(&format!("{path}.source"), "INVALID_FORMAT", source(&wire.source));
        let target =
            problems.take(&format!("{path}.target"), "INVALID_FORMAT", Target::parse(key, &wire.target));
        let default = optional(&wire.default_json, document);
        let default = problems.take(&format!("{path}.default_json"), "INVALID_FORMAT", default);
        let template = optional(&wire.template_json, |text| Template::parse(text, &["value"]));
        let template = problems.take(&format!("{path}.template_json"), "INVALID_FORMAT", template);
        let parameter = match source {
            Some(Source::Parameter(parameter)) => Some(parameter),
            _ => None,
        };
        let item = item(parameter, &wire.item_json, &format!("{path}.item_json"), problems);
        let values = values(parameter, &wire.values, &format!("{path}.values"), problems);
        let when = when(&wire.when, &format!("{path}.when"), problems);
        let format = format(parameter, wire, &format!("{path}.message_format"), problems);
        let parts = (problems.count() == before).then_some((source?, target?, default?, template?));
        let (source, target, default, template) = parts?;
        let (key, required) = (key.to_owned(), wire.required);
        Some(Self { key, source, required, target, default, values, item, template, when, format })
    }

    /// Whether no call can use both.
    fn excludes(&self, other: &Self) -> bool {
        let both = self.when.as_ref().zip(other.when.as_ref());
        both.is_some_and(|(one, other)| one.excludes(other))
    }
}

impl Condition {
    /// Whether it holds for a call.
    pub fn holds(&self, call: &Call, model: &str) -> bool {
        let Some(value) = self.parameter.of(call, model) else { return false };
        match &self.text {
            Some(text) => scalar_text(&value).is_some_and(|found| self.parameter.plain(&found) == *text),
            None => value != Value::Bool(false),
        }
    }

    /// Whether it wants a certain value of this parameter.
    fn wants_of(&self, parameter: Parameter) -> bool {
        self.parameter == parameter && self.text.is_some()
    }

    /// Whether both want another value of one parameter.
    fn excludes(&self, other: &Self) -> bool {
        other.wants_of(self.parameter) && self.text.is_some() && self.text != other.text
    }

    /// As it is written.
    pub fn shown(&self) -> String {
        let name = self.parameter.name();
        self.text.as_ref().map_or_else(|| name.to_owned(), |text| format!("{name}={text}"))
    }
}

impl Target {
    fn parse(key: &str, text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Body(vec![key.to_owned()]));
        }
        if text.len() > TARGET_BYTES {
            return Err(format!("has {} bytes; at most {TARGET_BYTES} are allowed", text.len()));
        }
        let form = "must be names with dots between them, such as `generationConfig.temperature`, or `url:model` for the \
                    `{model}` in the endpoint path; a name has letters, digits, `_` and `-`";
        let (url, text) = text.strip_prefix("url:").map_or((false, text), |name| (true, name));
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        match names.iter().all(|name| name_problem(name).is_none()) {
            true if !url => Ok(Self::Body(names)),
            true if names.len() == 1 => Ok(Self::Url(text.to_owned())),
            _ => Err(form.into()),
        }
    }

    /// Whether two values can't go to both.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Body(one), Self::Body(other)) => one.starts_with(other) || other.starts_with(one),
            (Self::Url(one), Self::Url(other)) => one == other,
            _ => false,
        }
    }
}

/// Checks the version of a builder or an extractor.
pub(super) fn check_version(path: &str, version: &str, problems: &mut Problems) {
    match version {
        VERSION => {}
        "" => problems.required(path, "`1.0` is the version of this language"),
        _ => problems.add(path, "UNKNOWN_VALUE", "is not known; `1.0` is the version of this language"),
    }
}

fn source(text: &str) -> Result<Source, String> {
    let known = || list(PARAMETERS.iter().map(|(_, name)| *name));
    if let Some(name) = text.strip_prefix("param:") {
        let parameter = Parameter::named(name).map(Source::Parameter);
        return parameter
            .ok_or_else(|| format!("names no parameter; behind `param:` comes one of {}", known()));
    }
    match text.strip_prefix("literal:") {
        Some(text) => document(text).map(Source::Literal),
        None => Err(
            "must be `param:` and the name of a parameter, for example `param:model_name`, or `literal:` \
                     and a JSON document"
                .into(),
        ),
    }
}

/// Reads a text that may be left out.
fn optional<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn item(parameter: Option<Parameter>, text: &str, path: &str, problems: &mut Problems) -> Option<Template> {
    if parameter != Some(Parameter::Tools) {
        if !text.is_empty() {
            problems.add(path, "NOT_ALLOWED", "goes with the source `param:tools` only");
        }
        return None;
    }
    if text.is_empty() {
        problems.required(path, "the template of a tool, for example `{\"name\": \"{name}\"}`");
        return None;
    }
    let template = Template::parse(text, &["name", "description", "parameters", "strict"]);
    problems.take(path, "INVALID_FORMAT", template)
}

fn values(
    parameter: Option<Parameter>,
    wire: &BTreeMap<String, String>,
    path: &str,
    problems: &mut Problems,
) -> BTreeMap<String, Template> {
    if wire.is_empty() {
        return BTreeMap::new();
    }
    let listed = [Parameter::Messages, Parameter::Tools, Parameter::StopSequences];
    if parameter.is_none_or(|parameter| listed.contains(&parameter)) {
        problems.add(path, "NOT_ALLOWED", "go with parameters that have one scalar value only");
    }
    problems.at_most(path, wire.len(), MAX_VALUES, "values");
    let known: &[&str] = if parameter == Some(Parameter::ToolChoice) { &["tool"] } else { &[] };
    let mut read = BTreeMap::new();
    for (value, text) in wire.iter().take(MAX_VALUES) {
        let path = format!("{path}.{}", shown(value));
        let Some(template) = problems.take(&path, "INVALID_FORMAT", Template::parse(text, known)) else {
            continue;
        };
        let plain = parameter.map_or(value.as_str().into(), |parameter| parameter.plain(value));
        if read.insert(plain.into_owned(), template).is_some() {
            problems.add_as_written(
                path,
                "DUPLICATE",
                "is the same number as another one; leave one of them out",
            );
        }
    }
    read
}

fn when(text: &str, path: &str, problems: &mut Problems) -> Option<Condition> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let found = Parameter::named(name);
    if found.is_none() && !text.is_empty() {
        let known = list(PARAMETERS.iter().map(|(_, name)| *name));
        problems.add(path, "UNKNOWN_VALUE", format!("names no parameter; one of {known} is wanted"));
    }
    if value.is_some_and(|value| value.is_empty() || value.len() > TARGET_BYTES) {
        let problem = "must have 1 to 256 bytes behind the `=`, for example `thinking_mode=enabled`";
        problems.add(path, "INVALID_FORMAT", problem);
    } else if let Some(wanted) = found.zip(value).and_then(|(parameter, value)| parameter.never_is(value)) {
        let problem = format!("never holds, because `{name}` never is that: behind the `=` belongs {wanted}");
        problems.add_as_written(path, "UNKNOWN_VALUE", problem);
    }
    found.map(|parameter| Condition {
        parameter,
        text: value.map(|value| parameter.plain(value).into_owned()),
    })
}

fn format(parameter: Option<Parameter>, wire: &RequestEntry, path: &str, problems: &mut Problems) -> Format {
    match &wire.message_format {
        Some(_) if parameter.is_some_and(|parameter| parameter != Parameter::Messages) => {
            problems.add(path, "NOT_ALLOWED", "goes with the source `param:messages` only");
            Format::default()
        }
        Some(format) => Format::parse(format, path, problems),
        None => Format::default(),
    }
}

fn check_targets(field: &str, entries: &[Entry], problems: &mut Problems) {
    for (index, entry) in entries.iter().enumerate() {
        let meets = |other: &&Entry| other.target.meets(&entry.target) && !other.excludes(entry);
        let taken = entries[..index].iter().find(meets);
        if let Some(other) = taken {
            let problem = format!("is the target of `{}` as well, or lies within it or around it", other.key);
            problems.add(format!("{field}.{}.target", entry.key), "DUPLICATE", problem);
        }
    }
}

/// A placeholder of a path has an entry, and an entry that goes into the path has a placeholder in it.
fn check_paths(endpoint: &str, stream: &str, entries: &[Entry], problems: &mut Problems) {
    let in_url = |entry: &Entry| match &entry.target {
        Target::Url(name) => Some((entry.key.clone(), name.clone())),
        Target::Body(_) => None,
    };
    let wanted: Vec<(String, String)> = entries.iter().filter_map(in_url).collect();
    let names: Vec<&str> = wanted.iter().map(|(_, name)| name.as_str()).collect();
    for (field, path) in [("endpoint_path", endpoint), ("request_builder.stream_endpoint_path", stream)] {
        if path.is_empty() {
            continue;
        }
        if let Some((reason, problem)) = path_problem(path, &names) {
            problems.add(field, reason, problem);
        }
        for (key, name) in wanted.iter().filter(|(_, name)| !holds(path, name)) {
            let problem = format!("must hold `{{{name}}}`, because `payload_structure.{key}` goes there");
            problems.add(field, "REQUIRED", problem);
        }
    }
}
