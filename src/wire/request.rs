//! Rendering: from a call to the HTTP request that a provider wants, with placeholders for what is secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    builder::{Builder, Entry, Source, Target},
    call::{Call, Tool},
    endpoint,
    parameters::{PARAMETERS, Parameter, chosen_tool},
    path::scalar_text,
    problems::{Problem, Problems, list},
    template::Room,
};
use crate::proto::v1::{AuthScheme, HttpMethod, ProviderSpec, header_value};

/// Stands for the API key.
const KEY: &str = "{api_key}";
/// Stands for the value of a sealed header.
const SECRET: &str = "{secret}";

/// An HTTP request in which nothing is secret.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRequest {
    /// Its method.
    pub method: HttpMethod,
    /// The whole URL.
    pub url: String,
    /// Its headers.
    pub headers: Vec<Header>,
    /// Its JSON body.
    pub body: Option<Value>,
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name, as it is configured.
    pub name: String,
    /// Its value, or what it is once the placeholder is replaced.
    pub value: String,
    /// What is to be put into it.
    pub kind: HeaderKind,
}

/// What a header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    /// Its value.
    Plain,
    /// The text `{api_key}`, once, where the API key belongs.
    ApiKey,
    /// The text `{secret}`: the value is that of the provider's header of this name.
    Secret,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The request.
    pub request: HttpRequest,
    /// Whether the answer is streamed.
    pub streamed: bool,
    /// Parameters that are given and that the builder takes nowhere.
    pub unused: Vec<&'static str>,
}

/// Renders a call. `streams`: whether the provider's answers may be streamed.
pub(super) fn render(
    provider: &ProviderSpec,
    builder: &Builder,
    streams: bool,
    call: &Call,
) -> Result<Rendered, Vec<Problem>> {
    let mut problems = Problems::default();
    call.check(&mut problems);
    let model = model_of(provider, call);
    check_model(provider, model, &mut problems);
    let streamed = call.chat.stream.unwrap_or(false);
    if streamed && !streams {
        let problem = "is true, but the provider's response extractor has neither `stream` nor `frame_stream`: its answers come whole";
        problems.add("chat.stream", "NOT_SUPPORTED", problem);
    }
    let room = Room::default();
    let scene = Scene { call, model, system: !builder.takes(Parameter::SystemPrompt), room: &room };
    let (mut body, mut in_url) = (Map::new(), BTreeMap::new());
    for entry in &builder.entries {
        let Some(value) = scene.value(entry, &mut problems) else { continue };
        match &entry.target {
            Target::Body(names) => put(&mut body, names, value),
            Target::Url(name) => {
                let text = text_of(&value);
                if endpoint::leads_elsewhere(&text) {
                    let problem = "must not be dots alone, because it becomes a segment of the URL's path";
                    problems.add(field_of(entry), "INVALID_FORMAT", problem);
                }
                in_url.insert(name.clone(), text);
            }
        }
    }
    let stream_path = Some(&builder.stream_path).filter(|path| streamed && !path.is_empty());
    let path = stream_path.unwrap_or(&provider.endpoint_path);
    check_path(builder, path, &in_url, &mut problems);
    if let Some(problem) = budget_problem(builder, call, model) {
        problems.add(field_of_parameter(Parameter::ThinkingTokens), "OUT_OF_RANGE", problem);
    }
    if room.is_spent() {
        let problem =
            "make a request that is too large: the provider's request builder repeats what it is given";
        problems.add("messages", "TOO_LONG", problem);
    }
    problems.into_result()?;
    let request = HttpRequest {
        method: method(provider),
        url: endpoint::url(&provider.base_url, path, &in_url),
        headers: headers(provider, true),
        body: Some(Value::Object(body)),
    };
    let unused = unused(builder, call, model).map(|(_, name)| *name).collect();
    Ok(Rendered { request, streamed, unused })
}

/// A path without what belongs into it is that of something else.
fn check_path(builder: &Builder, path: &str, in_url: &BTreeMap<String, String>, problems: &mut Problems) {
    for entry in &builder.entries {
        let Target::Url(name) = &entry.target else { continue };
        let empty = in_url.get(name).is_none_or(String::is_empty);
        // What is always required is told of already.
        if empty && !(entry.required && entry.when.is_none()) && endpoint::holds(path, name) {
            let what =
                format!("the provider's request builder puts it into the URL's path, for `{{{name}}}`");
            let condition = entry.when.as_ref().map(|condition| field_of_parameter(condition.parameter));
            let given = Some(field_of(entry)).filter(|field| !field.is_empty());
            problems.required(given.or(condition).unwrap_or_default(), &what);
        }
    }
}

/// A call, as entries look at it.
struct Scene<'a> {
    call: &'a Call,
    model: &'a str,
    /// Whether system messages are among the others.
    system: bool,
    room: &'a Room,
}

impl Scene<'_> {
    /// What an entry makes of the call; `None` where nothing is to be sent.
    fn value(&self, entry: &Entry, problems: &mut Problems) -> Option<Value> {
        if entry.when.as_ref().is_some_and(|condition| !condition.holds(self.call, self.model)) {
            return None;
        }
        let given = match &entry.source {
            Source::Literal(value) => Some(value.clone()),
            Source::Parameter(Parameter::Messages) if !self.call.messages.is_empty() => {
                Some(entry.format.render(self.call, self.system, self.room, problems))
            }
            Source::Parameter(Parameter::Tools) if !self.call.tools.is_empty() => {
                Some(self.call.tools.iter().filter_map(|tool| self.tool(entry, tool)).collect())
            }
            Source::Parameter(parameter) => parameter.of(self.call, self.model),
        };
        let value = given.or_else(|| entry.default.clone());
        if value.is_none() && entry.required {
            let field = field_of(entry);
            let when = match &entry.when {
                Some(condition) => format!("where `{}`: give it, or leave that out", condition.shown()),
                None if field == "model" => {
                    "always: name one, or give the provider a `default_model`".to_owned()
                }
                None => "always".to_owned(),
            };
            let what = format!("the provider's request builder sends `{}` {when}", entry.key);
            problems.required(field, &what);
        }
        let value = self.replaced(entry, value?, problems)?;
        match &entry.template {
            Some(template) => template.fill(&[("value", Some(value))], self.room),
            None => Some(value),
        }
    }

    fn tool(&self, entry: &Entry, tool: &Tool) -> Option<Value> {
        let spec = &tool.spec;
        let values = [
            ("name", Some(json!(spec.function_name))),
            ("description", (!spec.description.is_empty()).then(|| json!(spec.description))),
            ("parameters", serde_json::from_str(&spec.parameters_schema).ok()),
            ("strict", spec.strict.then_some(Value::Bool(true))),
        ];
        entry.item.as_ref()?.fill(&values, self.room)
    }

    /// The value by the entry's replacements; `None` where it is left out.
    fn replaced(&self, entry: &Entry, value: Value, problems: &mut Problems) -> Option<Value> {
        if entry.values.is_empty() {
            return Some(value);
        }
        let word = scalar_text(&value)?;
        let plain = match &entry.source {
            Source::Parameter(parameter) => parameter.plain(&word),
            Source::Literal(_) => word,
        };
        let Some(template) = entry.values.get(plain.as_ref()) else {
            let known = list(entry.values.keys().map(String::as_str));
            let problem = format!("is not known to the provider's request builder, which takes {known}");
            problems.add(field_of(entry), "NOT_SUPPORTED", problem);
            return None;
        };
        let tool = chosen_tool(self.call).map(|tool| json!(tool.spec.function_name));
        template.fill(&[("tool", tool)], self.room).filter(|value| !value.is_null())
    }
}

/// The URL, method and headers of a request without a body to another path of the provider.
pub(super) fn get(provider: &ProviderSpec, base_url: &str, path: &str) -> HttpRequest {
    HttpRequest {
        method: HttpMethod::Get,
        url: endpoint::url(base_url, path, &BTreeMap::new()),
        headers: headers(provider, false),
        body: None,
    }
}

fn method(provider: &ProviderSpec) -> HttpMethod {
    match provider.method() {
        HttpMethod::Unspecified => HttpMethod::Post,
        method => method,
    }
}

/// The model that a call goes to.
pub(super) fn model_of<'a>(provider: &'a ProviderSpec, call: &'a Call) -> &'a str {
    if call.model.is_empty() { &provider.default_model } else { &call.model }
}

fn check_model(provider: &ProviderSpec, model: &str, problems: &mut Problems) {
    if !provider.models.is_empty() && !model.is_empty() && !provider.models.iter().any(|known| known == model)
    {
        let problem =
            "must be one of the provider's `models`; add it there, or leave these empty to allow any";
        problems.add("model", "NOT_ALLOWED", problem);
    }
}

fn put(body: &mut Map<String, Value>, names: &[String], value: Value) {
    match names {
        [] => {}
        [name] => drop(body.insert(name.clone(), value)),
        [name, rest @ ..] => {
            let inner = body.entry(name).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// A value as it stands in a URL.
fn text_of(value: &Value) -> String {
    scalar_text(value).map_or_else(|| value.to_string(), |text| text.into_owned())
}

fn headers(provider: &ProviderSpec, with_body: bool) -> Vec<Header> {
    let mut headers: Vec<Header> = key_header(provider).into_iter().collect();
    for (name, header) in &provider.headers {
        let (value, kind) = match &header.value {
            Some(header_value::Value::Plain(text)) => (text.clone(), HeaderKind::Plain),
            Some(header_value::Value::Secret(_)) => (SECRET.to_owned(), HeaderKind::Secret),
            None => continue,
        };
        headers.push(Header { name: name.clone(), value, kind });
    }
    if with_body && !headers.iter().any(|header| header.name.eq_ignore_ascii_case("content-type")) {
        let (name, value) = ("Content-Type".to_owned(), "application/json".to_owned());
        headers.push(Header { name, value, kind: HeaderKind::Plain });
    }
    headers.sort_by(|one, other| one.name.cmp(&other.name));
    headers
}

fn key_header(provider: &ProviderSpec) -> Option<Header> {
    let auth = provider.auth.as_ref()?;
    let (name, value) = match auth.scheme() {
        AuthScheme::Bearer => ("Authorization", format!("Bearer {KEY}")),
        AuthScheme::Header => {
            let (name, value) = auth.header_template.split_once(':')?;
            (name, value.trim_start_matches(' ').to_owned())
        }
        AuthScheme::None | AuthScheme::Unspecified => return None,
    };
    Some(Header { name: name.to_owned(), value, kind: HeaderKind::ApiKey })
}

/// What is wrong with a budget of thoughts beside the bound of the answer that the builder sends where a call has none.
pub(super) fn budget_problem(builder: &Builder, call: &Call, model: &str) -> Option<String> {
    let tokens = call.reasoning.thinking_tokens?;
    let bound = match call.generation.max_tokens {
        None => builder.default_in(Parameter::MaxTokens, call, model)?.as_u64()?,
        Some(_) => return None,
    };
    let sent = builder.takes_in(Parameter::ThinkingTokens, call, model);
    (sent && u64::from(tokens) >= bound).then(|| {
        format!(
            "must be less than {bound}, which the provider's request builder sends as the most tokens of an answer, thoughts \
             among them, where there is no `generation.max_tokens`; give that as well, larger than the budget"
        )
    })
}

/// The fields of a call that are given and that the builder takes nowhere.
pub(super) fn not_sent(provider: &ProviderSpec, builder: &Builder, call: &Call) -> Vec<&'static str> {
    let model = model_of(provider, call);
    let fields = unused(builder, call, model).map(|(parameter, _)| field_of_parameter(*parameter));
    fields.filter(|field| *field != "model").collect()
}

fn unused<'c>(
    builder: &'c Builder,
    call: &'c Call,
    model: &'c str,
) -> impl Iterator<Item = &'static (Parameter, &'static str)> + 'c {
    let told = move |parameter| match parameter {
        // System messages are among the others where they have no entry of their own.
        Parameter::SystemPrompt => true,
        Parameter::Stream if !builder.stream_path.is_empty() => true,
        _ => builder.takes_in(parameter, call, model),
    };
    let given = PARAMETERS.iter().filter(move |(parameter, _)| parameter.of(call, model).is_some());
    given.filter(move |(parameter, _)| !told(*parameter))
}

/// The parameter whose field this is.
pub(super) fn parameter_of_field(field: &str) -> Option<Parameter> {
    let mut all = PARAMETERS.iter().map(|(parameter, _)| *parameter);
    all.find(|parameter| field_of_parameter(*parameter) == field)
}

/// The field of a call from which an entry's value comes.
fn field_of(entry: &Entry) -> &'static str {
    let Source::Parameter(parameter) = entry.source else { return "" };
    field_of_parameter(parameter)
}

/// The field of a call that a parameter is.
pub(super) fn field_of_parameter(parameter: Parameter) -> &'static str {
    match parameter {
        Parameter::ModelName => "model",
        Parameter::Messages => "messages",
        Parameter::SystemPrompt => "chat.system_prompt",
        Parameter::Temperature => "generation.temperature",
        Parameter::TopP => "generation.top_p",
        Parameter::TopK => "generation.top_k",
        Parameter::MaxTokens => "generation.max_tokens",
        Parameter::FrequencyPenalty => "generation.frequency_penalty",
        Parameter::PresencePenalty => "generation.presence_penalty",
        Parameter::Seed => "generation.seed",
        Parameter::StopSequences => "generation.stop_sequences",
        Parameter::Stream => "chat.stream",
        Parameter::Tools => "tools",
        Parameter::ToolChoice => "chat.tool_choice",
        Parameter::ParallelToolCalls => "chat.parallel_tool_calls",
        Parameter::ReasoningEffort => "reasoning.effort",
        Parameter::ThinkingMode => "reasoning.thinking_mode",
        Parameter::ThinkingTokens => "reasoning.thinking_tokens",
        Parameter::ChainOfThought => "reasoning.chain_of_thought",
    }
}
