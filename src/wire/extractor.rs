//! Response extractors: from what is stored to rules that can be applied, with everything that is wrong with them.

use std::collections::BTreeMap;

use super::{
    builder::check_version,
    failure::Errors,
    path::Path,
    problems::{Problems, name_problem, shown},
    rules::{Rule, Type, parse_paths},
};
use crate::proto::v1::{ExtractionRule, FrameStreamExtractor, ResponseExtractor, StreamExtractor};

const MAX_RULES: usize = 32;
const END_BYTES: usize = 256;
const MAX_STATUSES: usize = 32;
const CODE_BYTES: usize = 128;
/// The rules that are known, and the types that they have.
const KNOWN: [(&str, Type); 5] = [
    ("text_content", Type::String),
    ("usage_stats", Type::Object),
    ("finish_reason", Type::String),
    ("reasoning_content", Type::String),
    ("tool_calls", Type::Array),
];
const TOOL_CALL_FIELDS: [(&str, Type); 4] =
    [("id", Type::String), ("name", Type::String), ("arguments", Type::Any), ("index", Type::Integer)];

/// Rules by name.
pub(super) type Rules = BTreeMap<String, Rule>;

/// How answers are read.
#[derive(Clone, Debug)]
pub(super) struct Extractor {
    pub rules: Rules,
    pub stream: Option<Stream>,
    pub errors: Errors,
}

/// How streamed answers are read.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub framing: Framing,
    pub rules: Rules,
    /// Empty where no data of its own ends the stream.
    pub end_data: String,
    pub end_paths: Vec<Path>,
    pub error_paths: Vec<Path>,
    /// Statuses by the type or code of an error that has a frame of its own.
    pub error_statuses: BTreeMap<String, u16>,
}

/// What stands between the events of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    ServerSentEvents,
    JsonLines,
    Frames,
}

impl Extractor {
    /// Reads an extractor; `None` where something is wrong with it.
    pub fn parse(wire: &ResponseExtractor, problems: &mut Problems) -> Option<Self> {
        let before = problems.count();
        let field = "response_extractor";
        check_version(&format!("{field}.version"), &wire.version, problems);
        let path = format!("{field}.extraction_rules");
        let rules = parse_rules(&wire.extraction_rules, &path, problems);
        require("text_content", &wire.extraction_rules, &path, problems);
        require("usage_stats", &wire.extraction_rules, &path, problems);
        let stream = wire.stream.as_ref();
        let stream = stream.and_then(|stream| Stream::parse(stream, &format!("{field}.stream"), problems));
        let path = format!("{field}.frame_stream");
        let frames = wire.frame_stream.as_ref();
        let frames = frames.and_then(|frames| Stream::parse_frames(frames, &path, problems));
        if wire.stream.is_some() && wire.frame_stream.is_some() {
            let problem =
                "goes not beside `stream`: answers come as text or in frames; leave one of them out";
            problems.add(path, "NOT_ALLOWED", problem);
        }
        let errors = wire.errors.clone().unwrap_or_default();
        let errors = Errors::parse(&errors, &format!("{field}.errors"), problems);
        (problems.count() == before).then_some(Self { rules, stream: stream.or(frames), errors })
    }

    /// Whether answers may be streamed.
    pub fn streams(&self) -> bool {
        self.stream.is_some()
    }
}

impl Stream {
    fn parse(wire: &StreamExtractor, field: &str, problems: &mut Problems) -> Option<Self> {
        let framing = match wire.framing.as_str() {
            "sse" => Some(Framing::ServerSentEvents),
            "json_lines" => Some(Framing::JsonLines),
            "" => {
                problems.required(format!("{field}.framing"), "`sse` or `json_lines`");
                None
            }
            _ => {
                let problem = "is not known; `sse` and `json_lines` are";
                problems.add(format!("{field}.framing"), "UNKNOWN_VALUE", problem);
                None
            }
        };
        let rules = event_rules(&wire.extraction_rules, field, problems);
        if wire.end_data.len() > END_BYTES || wire.end_data.contains(['\n', '\r']) {
            let problem = format!("must be one line of at most {END_BYTES} bytes");
            problems.add(format!("{field}.end_data"), "INVALID_FORMAT", problem);
        }
        let end_paths = parse_paths(&wire.end_paths, &format!("{field}.end_paths"), false, problems);
        let error_paths = parse_paths(&wire.error_paths, &format!("{field}.error_paths"), false, problems);
        let (end_data, error_statuses) = (wire.end_data.clone(), BTreeMap::new());
        Some(Self { framing: framing?, rules, end_data, end_paths, error_paths, error_statuses })
    }

    fn parse_frames(wire: &FrameStreamExtractor, field: &str, problems: &mut Problems) -> Option<Self> {
        let before = problems.count();
        let rules = event_rules(&wire.extraction_rules, field, problems);
        let end_paths = parse_paths(&wire.end_paths, &format!("{field}.end_paths"), false, problems);
        let path = format!("{field}.error_statuses");
        problems.at_most(&path, wire.error_statuses.len(), MAX_STATUSES, "statuses");
        let statuses = wire.error_statuses.iter().take(MAX_STATUSES);
        let error_statuses = statuses.filter_map(|row| parse_status(row, &path, problems)).collect();
        (problems.count() == before).then_some(Self {
            framing: Framing::Frames,
            rules,
            end_data: String::new(),
            end_paths,
            error_paths: Vec::new(),
            error_statuses,
        })
    }
}

fn parse_status(
    (code, status): (&String, &u32),
    path: &str,
    problems: &mut Problems,
) -> Option<(String, u16)> {
    if code.is_empty() || code.len() > CODE_BYTES {
        let problem = format!("has a type of an error that is empty or longer than {CODE_BYTES} bytes");
        problems.add(path, "INVALID_FORMAT", problem);
    }
    let good = u16::try_from(*status).ok().filter(|status| (400..=599).contains(status));
    if good.is_none() {
        let problem = "must be the HTTP status of an error, from 400 to 599, for example 429";
        problems.add(format!("{path}.{}", shown(code)), "OUT_OF_RANGE", problem);
    }
    Some((code.clone(), good?))
}

/// The rules for one event of a stream.
fn event_rules(wire: &BTreeMap<String, ExtractionRule>, field: &str, problems: &mut Problems) -> Rules {
    let path = format!("{field}.extraction_rules");
    let rules = parse_rules(wire, &path, problems);
    require("text_content", wire, &path, problems);
    rules
}

fn require(name: &str, rules: &BTreeMap<String, ExtractionRule>, path: &str, problems: &mut Problems) {
    if !rules.contains_key(name) {
        let example = match name {
            "usage_stats" => {
                "the rule of the tokens used, for example `{\"type\": \"object\", \"paths\": [\"usage\"], \"fields\": \
                 {\"prompt_tokens\": {\"type\": \"integer\", \"paths\": [\"prompt_tokens\"]}}}`"
            }
            _ => {
                "the rule of the text, for example `{\"type\": \"string\", \"paths\": [\"choices[0].message.content\"]}`"
            }
        };
        problems.required(format!("{path}.{name}"), example);
    }
}

fn parse_rules(wire: &BTreeMap<String, ExtractionRule>, path: &str, problems: &mut Problems) -> Rules {
    problems.at_most(path, wire.len(), MAX_RULES, "rules");
    let mut rules = Rules::new();
    for (name, rule) in wire.iter().take(MAX_RULES) {
        let path = format!("{path}.{}", shown(name));
        if let Some(problem) = name_problem(name) {
            problems.add(&path, "INVALID_FORMAT", format!("has a name that {problem}"));
        }
        let Some(rule) = Rule::parse(rule, &path, problems) else { continue };
        check_known(name, &rule, &path, problems);
        rules.insert(name.clone(), rule);
    }
    Rule::acquaint(&mut rules);
    rules
}

/// What is known has the type that everybody relies on.
fn check_known(name: &str, rule: &Rule, path: &str, problems: &mut Problems) {
    let wanted = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, wanted)| *wanted);
    if wanted.is_some_and(|wanted| wanted != rule.of) {
        let types = "`text_content`, `reasoning_content` and `finish_reason` are of type `string`, `usage_stats` is \
                     an `object`, `tool_calls` an `array`";
        problems.add(format!("{path}.type"), "NOT_ALLOWED", format!("is not that of this rule: {types}"));
    } else if wanted.is_some_and(|wanted| wanted != Type::String) && rule.fields.is_empty() {
        let fields = match name {
            "tool_calls" => "`id`, `name`, `arguments` and, in streams, `index`",
            _ => "for example `prompt_tokens` and `completion_tokens`",
        };
        problems.required(format!("{path}.fields"), fields);
    }
    for (field, read) in &rule.fields {
        let path = format!("{path}.fields.{field}");
        let of_call = TOOL_CALL_FIELDS.iter().find(|(known, _)| known == field).map(|(_, wanted)| *wanted);
        match name {
            "usage_stats" if read.of != Type::Integer => {
                problems.add(format!("{path}.type"), "NOT_ALLOWED", "must be `integer`: it counts tokens");
            }
            "tool_calls" if of_call != Some(read.of) => problems.add(
                path,
                "NOT_ALLOWED",
                "must be one of `id` and `name` (string), `arguments` (any) and `index` (integer)",
            ),
            _ => {}
        }
    }
}
