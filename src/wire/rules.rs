//! Extraction rules: from what is stored to rules that can be applied, and what they find in a document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    answer::Malformed,
    path::Path,
    problems::{Problems, list, name_problem, shown},
};
use crate::proto::v1::{ExtractionField, ExtractionRule};

const MAX_PATHS: usize = 8;
const MAX_FIELDS: usize = 16;
const MAX_VALUES: usize = 64;
const VALUE_CHARS: usize = 200;
/// The field that only says which element of a stream goes on.
pub(super) const INDEX: &str = "index";

/// The type of what a rule reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Any,
    Array,
    Object,
}

const TYPES: [(&str, Type); 7] = [
    ("string", Type::String),
    ("integer", Type::Integer),
    ("number", Type::Number),
    ("boolean", Type::Boolean),
    ("any", Type::Any),
    ("array", Type::Array),
    ("object", Type::Object),
];

/// A rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub of: Type,
    paths: Vec<Path>,
    pub fields: BTreeMap<String, Field>,
    values: BTreeMap<String, String>,
    /// The paths of the rules beside it.
    beside: Vec<Path>,
    /// The paths of all its fields.
    within: Vec<Path>,
}

/// A part of an object.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub of: Type,
    paths: Vec<Path>,
}

impl Rule {
    /// Reads a rule; `None` where something is wrong with it.
    pub fn parse(wire: &ExtractionRule, path: &str, problems: &mut Problems) -> Option<Self> {
        let before = problems.count();
        let of = parse_type(&wire.r#type, &TYPES, &format!("{path}.type"), problems);
        let composed = matches!(of, None | Some(Type::Object | Type::Array));
        if !composed && !wire.fields.is_empty() {
            let problem = "belong to the types `object` and `array` only";
            problems.add(format!("{path}.fields"), "NOT_ALLOWED", problem);
        }
        let whole = of == Some(Type::Object) && !wire.fields.is_empty();
        let paths = parse_paths(&wire.paths, &format!("{path}.paths"), !whole, problems);
        problems.at_most(&format!("{path}.fields"), wire.fields.len(), MAX_FIELDS, "fields");
        let mut fields = BTreeMap::new();
        for (name, field) in wire.fields.iter().take(MAX_FIELDS) {
            let path = format!("{path}.fields.{}", shown(name));
            if let Some(problem) = name_problem(name) {
                problems.add(&path, "INVALID_FORMAT", format!("has a name that {problem}"));
            }
            fields.extend(Field::parse(field, &path, problems).map(|field| (name.clone(), field)));
        }
        check_values(&wire.values, of, &format!("{path}.values"), problems);
        let (values, beside) = (wire.values.clone(), Vec::new());
        let within = fields.values().flat_map(|field: &Field| field.paths.iter().cloned()).collect();
        (problems.count() == before).then_some(Self { of: of?, paths, fields, values, beside, within })
    }

    /// Lets each rule know what the others read: what is opened by one of them is nothing strange to it.
    pub fn acquaint(rules: &mut BTreeMap<String, Self>) {
        let paths: Vec<Path> = rules.values().flat_map(|rule| rule.paths.iter().cloned()).collect();
        for rule in rules.values_mut() {
            rule.beside.clone_from(&paths);
        }
    }

    /// What the rule finds in a document.
    pub fn read(&self, document: &Value) -> Result<Option<Value>, Malformed> {
        match self.of {
            Type::Object if !self.fields.is_empty() => self.object(document),
            Type::Array => Ok(self.array(document)),
            _ => Ok(first(&self.paths, &self.beside, self.of, document)?.map(|value| self.translated(value))),
        }
    }

    fn object(&self, document: &Value) -> Result<Option<Value>, Malformed> {
        let found = match self.paths.is_empty() {
            true => Some(document.clone()),
            false => first(&self.paths, &self.beside, Type::Object, document)?,
        };
        let Some(found) = found else { return Ok(None) };
        let object = self.fields_of(&found)?;
        Ok((!object.is_empty()).then_some(Value::Object(object)))
    }

    fn array(&self, document: &Value) -> Option<Value> {
        for path in &self.paths {
            let mut elements = Vec::new();
            for found in path.find(document) {
                match found {
                    Value::Array(list) => elements.extend(list),
                    value => elements.push(value),
                }
            }
            let read: Vec<Value> = elements.into_iter().filter_map(|element| self.element(element)).collect();
            if !read.is_empty() {
                return Some(Value::Array(read));
            }
        }
        None
    }

    /// An element, if there is anything in it. One with a field of another type says nothing.
    fn element(&self, element: &Value) -> Option<Value> {
        if self.fields.is_empty() {
            return Some(element.clone());
        }
        let object = self.fields_of(element).ok()?;
        object.keys().any(|name| name != INDEX).then_some(Value::Object(object))
    }

    fn fields_of(&self, value: &Value) -> Result<Map<String, Value>, Malformed> {
        let mut object = Map::new();
        for (name, field) in &self.fields {
            if let Some(value) = first(&field.paths, &self.within, field.of, value)? {
                object.insert(name.clone(), value);
            }
        }
        Ok(object)
    }

    fn translated(&self, value: Value) -> Value {
        match value.as_str().and_then(|text| self.values.get(text)) {
            Some(text) => json!(text),
            None => value,
        }
    }
}

impl Field {
    fn parse(wire: &ExtractionField, path: &str, problems: &mut Problems) -> Option<Self> {
        let of = parse_type(&wire.r#type, &TYPES[..5], &format!("{path}.type"), problems);
        let paths = parse_paths(&wire.paths, &format!("{path}.paths"), true, problems);
        Some(Self { of: of?, paths })
    }
}

impl Type {
    /// What the values that a path has found are as this type; `None` where they are of another.
    fn of(self, found: &[&Value]) -> Option<Value> {
        let first = *found.first()?;
        match self {
            Self::String => {
                let texts: Option<Vec<&str>> = found.iter().map(|value| value.as_str()).collect();
                texts.map(|texts| json!(texts.concat()))
            }
            Self::Integer => integer(first).map(Value::from),
            Self::Number => first.is_number().then(|| first.clone()),
            Self::Boolean => first.is_boolean().then(|| first.clone()),
            Self::Object => first.is_object().then(|| first.clone()),
            Self::Any => Some(first.clone()),
            Self::Array => None,
        }
    }
}

/// The first value of a type that one of the paths leads to. A list of parts that are read beside it, thoughts for example,
/// is no value of another type, nor is a list of none.
fn first(paths: &[Path], beside: &[Path], of: Type, document: &Value) -> Result<Option<Value>, Malformed> {
    let mut other = false;
    for path in paths {
        let found = path.find(document);
        if let Some(value) = of.of(&found) {
            return Ok(Some(value));
        }
        let empty = found.iter().all(|value| value.as_array().is_some_and(Vec::is_empty));
        let opened = || beside.iter().any(|further| path.is_opened_by(further, document));
        other |= !empty && !opened();
    }
    if other { Err(Malformed::new("holds a value of another type")) } else { Ok(None) }
}

/// A whole number, however it is written.
pub(super) fn integer(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|number| number as i64))
}

/// The first text among what paths lead to; numbers count where `numbers`.
pub(super) fn first_text(paths: &[Path], document: &Value, numbers: bool) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if numbers => Some(number.to_string()),
        _ => None,
    };
    paths.iter().flat_map(|path| path.find(document)).find_map(text)
}

/// The first whole number that is not negative among what paths lead to.
pub(super) fn first_count(paths: &[Path], document: &Value) -> Option<u64> {
    let mut found = paths.iter().flat_map(|path| path.find(document));
    found.find_map(|value| integer(value).and_then(|number| u64::try_from(number).ok()))
}

/// Reads paths, of which some must be there where they are `required`.
pub(super) fn parse_paths(
    wire: &[String],
    field: &str,
    required: bool,
    problems: &mut Problems,
) -> Vec<Path> {
    if required && wire.is_empty() {
        problems.required(field, "at least one path, for example `choices[0].message.content`");
    }
    problems.at_most(field, wire.len(), MAX_PATHS, "paths");
    let parse = |(index, text): (usize, &String)| {
        problems.take(&format!("{field}[{index}]"), "INVALID_FORMAT", Path::parse(text))
    };
    wire.iter().enumerate().take(MAX_PATHS).filter_map(parse).collect()
}

fn parse_type(text: &str, known: &[(&str, Type)], path: &str, problems: &mut Problems) -> Option<Type> {
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, found)| *found);
    if found.is_none() {
        let words = list(known.iter().map(|(word, _)| *word));
        match text {
            "" => problems.required(path, &format!("one of {words}")),
            _ => problems.add(path, "UNKNOWN_VALUE", format!("is no type; {words} are")),
        }
    }
    found
}

fn check_values(values: &BTreeMap<String, String>, of: Option<Type>, path: &str, problems: &mut Problems) {
    if !values.is_empty() && of.is_some_and(|of| of != Type::String) {
        problems.add(path, "NOT_ALLOWED", "go with the type `string` only");
    }
    problems.at_most(path, values.len(), MAX_VALUES, "values");
    let long = |text: &String| text.chars().count() > VALUE_CHARS;
    if values.iter().any(|(from, to)| long(from) || long(to)) {
        problems.add(path, "TOO_LONG", format!("have a text of more than {VALUE_CHARS} characters"));
    }
}
