//! The JSON Schema of a tool's parameters: whether it is one, by the rules of its structure.
//!
//! Checked are the keywords that models and their providers take, of the drafts that they take them from (draft 7 to
//! 2020-12). Other keywords are annotations, as the specification has it. A schema is never resolved: references lead
//! only into the document itself, so that reading one can't lead anywhere, and never round in a circle, which a reader would follow
//! without an end. Patterns are held to what any engine matches in bounded time.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use serde_json::{Map, Value};

use super::{json, pattern, rules::shown};

const SCHEMA_BYTES: usize = 64 * 1024;
const BOUNDS: json::Bounds = json::Bounds { depth: 32, nodes: 5_000 };
/// Schemas that are visited by who follows every reference, at most.
const EXPANDED: u64 = 100_000;
/// What `$schema` may name.
const DIALECTS: [&str; 3] = [
    "json-schema.org/draft-07/schema",
    "json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft/2020-12/schema",
];
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// What the value of a keyword has to be.
#[derive(Clone, Copy)]
enum Form {
    Schema,
    SchemaOrList,
    Schemas,
    SchemaMap,
    Pattern,
    PatternMap,
    Text,
    Flag,
    Number,
    Positive,
    Count,
    Names,
    NamesMap,
    Values,
    Type,
    Reference,
    /// Schemas or lists of names.
    Dependencies,
    /// Says what the whole document is; in a part of it, it would say where references lead from there.
    Document,
    /// Leads on by what is only known where the schema is used.
    Dynamic,
}

/// The keywords that are checked.
const KEYWORDS: [(&str, Form); 58] = [
    ("$anchor", Form::Text),
    ("$comment", Form::Text),
    ("$defs", Form::SchemaMap),
    ("$dynamicAnchor", Form::Dynamic),
    ("$dynamicRef", Form::Dynamic),
    ("$id", Form::Document),
    ("$recursiveAnchor", Form::Dynamic),
    ("$recursiveRef", Form::Dynamic),
    ("$ref", Form::Reference),
    ("$schema", Form::Document),
    ("$vocabulary", Form::Dynamic),
    ("additionalItems", Form::Schema),
    ("additionalProperties", Form::Schema),
    ("allOf", Form::Schemas),
    ("anyOf", Form::Schemas),
    ("contains", Form::Schema),
    ("contentEncoding", Form::Text),
    ("contentMediaType", Form::Text),
    ("contentSchema", Form::Schema),
    ("definitions", Form::SchemaMap),
    ("dependencies", Form::Dependencies),
    ("dependentRequired", Form::NamesMap),
    ("dependentSchemas", Form::SchemaMap),
    ("deprecated", Form::Flag),
    ("description", Form::Text),
    ("else", Form::Schema),
    ("enum", Form::Values),
    ("exclusiveMaximum", Form::Number),
    ("exclusiveMinimum", Form::Number),
    ("format", Form::Text),
    ("if", Form::Schema),
    ("items", Form::SchemaOrList),
    ("maxContains", Form::Count),
    ("maxItems", Form::Count),
    ("maxLength", Form::Count),
    ("maxProperties", Form::Count),
    ("maximum", Form::Number),
    ("minContains", Form::Count),
    ("minItems", Form::Count),
    ("minLength", Form::Count),
    ("minProperties", Form::Count),
    ("minimum", Form::Number),
    ("multipleOf", Form::Positive),
    ("not", Form::Schema),
    ("oneOf", Form::Schemas),
    ("pattern", Form::Pattern),
    ("patternProperties", Form::PatternMap),
    ("prefixItems", Form::Schemas),
    ("properties", Form::SchemaMap),
    ("propertyNames", Form::Schema),
    ("readOnly", Form::Flag),
    ("required", Form::Names),
    ("then", Form::Schema),
    ("title", Form::Text),
    ("type", Form::Type),
    ("unevaluatedItems", Form::Schema),
    ("unevaluatedProperties", Form::Schema),
    ("uniqueItems", Form::Flag),
];

/// Says what is wrong with the schema of a tool's parameters, if anything; the text reads on from the field's path.
pub(super) fn check(text: &str, strict: bool) -> Result<(), String> {
    if text.len() > SCHEMA_BYTES {
        return Err(format!("has {} bytes; at most {SCHEMA_BYTES} are allowed", text.len()));
    }
    json::check(text, BOUNDS)
        .map_err(|error| format!("is not a JSON document that can be taken: {error}"))?;
    let root: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    if root.get("type") != Some(&Value::from("object")) {
        return Err(
            "must be a JSON object with `\"type\": \"object\"`, for example `{\"type\": \"object\", \
                    \"properties\": {\"city\": {\"type\": \"string\"}}}`"
                .to_owned(),
        );
    }
    let schemas = all_schemas(&root);
    Walk { root: &root, schemas, strict, done: RefCell::default() }.document()
}

/// The places of a document that are read as schemas.
fn all_schemas(root: &Value) -> HashSet<*const Value> {
    let (mut found, mut open) = (HashSet::new(), vec![root]);
    while let Some(schema) = open.pop() {
        if found.insert(std::ptr::from_ref(schema)) {
            open.extend(parts_of(schema));
        }
    }
    found
}

/// The schemas that a schema holds.
fn parts_of(schema: &Value) -> Vec<&Value> {
    let Some(object) = schema.as_object() else { return Vec::new() };
    let mut found = Vec::new();
    for (keyword, value) in object {
        match (form_of(keyword), value) {
            (Some(Form::SchemaOrList | Form::Schemas), Value::Array(list)) => found.extend(list),
            (Some(Form::Schema | Form::SchemaOrList), value) => found.push(value),
            (Some(Form::SchemaMap | Form::PatternMap | Form::Dependencies), Value::Object(map)) => {
                // A list of names is none.
                found.extend(map.values().filter(|value| !value.is_array()));
            }
            _ => {}
        }
    }
    found
}

fn form_of(keyword: &str) -> Option<Form> {
    let index = KEYWORDS.binary_search_by_key(&keyword, |(known, _)| known).ok()?;
    KEYWORDS.get(index).map(|(_, form)| *form)
}

/// One schema and where it is, as a JSON pointer.
struct Walk<'a> {
    root: &'a Value,
    /// The places that are read as schemas: only there a reference may lead.
    schemas: HashSet<*const Value>,
    strict: bool,
    /// Schemas of which it is known that they lead into no circle.
    done: RefCell<HashSet<*const Value>>,
}

impl Walk<'_> {
    fn document(&self) -> Result<(), String> {
        self.schema("", self.root)?;
        if self.expanded() > EXPANDED {
            let problem = format!(
                "holds references by which it grows beyond {EXPANDED} schemas where they are followed; refer less often, or \
                 to smaller parts"
            );
            return Err(wrong("", &problem));
        }
        Ok(())
    }

    /// The schemas that are visited by who follows every reference; one into what it stands in counts as one.
    fn expanded(&self) -> u64 {
        let (mut sizes, mut entered) = (HashMap::new(), HashSet::new());
        let mut open = vec![(self.root, false)];
        while let Some((schema, is_left)) = open.pop() {
            let place = std::ptr::from_ref(schema);
            let mut next = parts_of(schema);
            // What is only defined is visited where it is referred to.
            let defined = |map: &Value, part: &Value| {
                map.as_object().is_some_and(|map| map.values().any(|one| std::ptr::eq(one, part)))
            };
            let maps: Vec<&Value> =
                ["$defs", "definitions"].iter().filter_map(|word| schema.get(*word)).collect();
            next.retain(|part| !maps.iter().any(|map| defined(map, part)));
            next.extend(schema.get("$ref").and_then(Value::as_str).and_then(|target| self.meant(target)));
            if is_left {
                let size = |part: &&Value| sizes.get(&std::ptr::from_ref(*part)).copied().unwrap_or(1_u64);
                let size = next.iter().map(size).fold(1_u64, u64::saturating_add);
                sizes.insert(place, size);
            } else if entered.insert(place) {
                open.push((schema, true));
                open.extend(next.into_iter().map(|next| (next, false)));
            }
        }
        sizes.get(&std::ptr::from_ref(self.root)).copied().unwrap_or_default()
    }

    fn schema(&self, at: &str, value: &Value) -> Result<(), String> {
        let object = match value {
            Value::Bool(_) if !at.is_empty() => return Ok(()),
            Value::Object(object) => object,
            _ => return Err(wrong(at, "must be a schema: an object, or true or false")),
        };
        for (keyword, value) in object {
            if let Some(form) = form_of(keyword) {
                self.keyword(&below(at, keyword), form, value)?;
            }
        }
        if self.strict { strict_problem(at, object).map_or(Ok(()), Err) } else { Ok(()) }
    }

    fn keyword(&self, at: &str, form: Form, value: &Value) -> Result<(), String> {
        let right = match (form, value) {
            (Form::Schema, value) => return self.schema(at, value),
            (Form::SchemaOrList | Form::Schemas, Value::Array(list)) => return self.schemas(at, list),
            (Form::SchemaOrList, value) => return self.schema(at, value),
            (Form::SchemaMap, Value::Object(map)) => {
                return map.iter().try_for_each(|(key, value)| self.schema(&below(at, key), value));
            }
            (Form::PatternMap, Value::Object(map)) => {
                return map.iter().try_for_each(|(key, value)| {
                    let at = below(at, key);
                    pattern::problem(key).map_or(Ok(()), |problem| Err(wrong(&at, &problem)))?;
                    self.schema(&at, value)
                });
            }
            (Form::Pattern, Value::String(text)) => {
                return pattern::problem(text).map_or(Ok(()), |problem| Err(wrong(at, &problem)));
            }
            (Form::Reference, Value::String(target)) if self.is_circle(target) => {
                let problem = "leads round in a circle, so that who follows it never comes to an end; let it lead on by a part \
                    of what it describes, such as `properties` or `items`";
                return Err(wrong(at, problem));
            }
            (Form::NamesMap, Value::Object(map)) => {
                return map
                    .iter()
                    .try_for_each(|(key, value)| self.keyword(&below(at, key), Form::Names, value));
            }
            (Form::Dependencies, Value::Object(map)) => {
                return map.iter().try_for_each(|(key, value)| {
                    let form = if value.is_array() { Form::Names } else { Form::Schema };
                    self.keyword(&below(at, key), form, value)
                });
            }
            (Form::Document, Value::String(text)) => match at {
                "/$id" => true,
                "/$schema" => is_dialect(text),
                _ => false,
            },
            (Form::Text, value) => value.is_string(),
            (Form::Flag, value) => value.is_boolean(),
            (Form::Number, value) => value.is_number(),
            (Form::Positive, value) => value.as_f64().is_some_and(|number| number > 0.0),
            (Form::Count, value) => value.as_u64().is_some(),
            (Form::Names, Value::Array(names)) => names.iter().all(Value::is_string) && are_different(names),
            (Form::Values, Value::Array(values)) => !values.is_empty(),
            (Form::Type, Value::Array(types)) => {
                !types.is_empty() && types.iter().all(is_type) && are_different(types)
            }
            (Form::Type, value) => is_type(value),
            (Form::Reference, value) => value.as_str().is_some_and(|target| self.leads_somewhere(target)),
            (
                Form::Schemas
                | Form::SchemaMap
                | Form::Pattern
                | Form::PatternMap
                | Form::NamesMap
                | Form::Names
                | Form::Values
                | Form::Dependencies
                | Form::Document
                | Form::Dynamic,
                _,
            ) => false,
        };
        if right { Ok(()) } else { Err(wrong(at, expected(form))) }
    }

    fn schemas(&self, at: &str, list: &[Value]) -> Result<(), String> {
        if list.is_empty() {
            return Err(wrong(at, expected(Form::Schemas)));
        }
        list.iter()
            .enumerate()
            .try_for_each(|(index, value)| self.schema(&below(at, &index.to_string()), value))
    }

    /// Whether a reference leads to a part of the document, by a JSON pointer.
    fn leads_somewhere(&self, target: &str) -> bool {
        self.meant(target).is_some()
    }

    fn meant(&self, target: &str) -> Option<&Value> {
        let found = self.root.pointer(target.strip_prefix('#')?)?;
        self.schemas.contains(&std::ptr::from_ref(found)).then_some(found)
    }

    /// Whether a reference leads into a circle, by nothing but further schemas of the very same value.
    fn is_circle(&self, target: &str) -> bool {
        let (mut done, mut entered) = (self.done.borrow_mut(), HashSet::new());
        let mut open: Vec<(&Value, bool)> =
            self.meant(target).map(|start| (start, false)).into_iter().collect();
        while let Some((schema, is_left)) = open.pop() {
            let place = std::ptr::from_ref(schema);
            if is_left {
                entered.remove(&place);
                done.insert(place);
            } else if !done.contains(&place) {
                if !entered.insert(place) {
                    return true;
                }
                open.push((schema, true));
                open.extend(self.of_the_same(schema).into_iter().map(|next| (next, false)));
            }
        }
        false
    }

    /// The schemas that a value is held to with this one: by reference, or as parts of it that lead no deeper into the value.
    fn of_the_same<'s>(&'s self, schema: &'s Value) -> Vec<&'s Value> {
        let Some(object) = schema.as_object() else { return Vec::new() };
        let same = |(keyword, value): (&'s String, &'s Value)| match (keyword.as_str(), value) {
            ("$ref", Value::String(target)) => self.meant(target).into_iter().collect(),
            ("allOf" | "anyOf" | "oneOf", Value::Array(list)) => list.iter().collect(),
            ("dependentSchemas" | "dependencies", Value::Object(map)) => map.values().collect(),
            ("not" | "if" | "then" | "else", value) => vec![value],
            _ => Vec::new(),
        };
        object.iter().flat_map(same).collect()
    }
}

/// What providers ask of every object of a strict schema.
fn strict_problem(at: &str, object: &Map<String, Value>) -> Option<String> {
    if object.get("type") != Some(&Value::from("object")) {
        return None;
    }
    if object.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Some(wrong(at, "must have `\"additionalProperties\": false`, because `strict` is true"));
    }
    let required = object.get("required").and_then(Value::as_array);
    let listed = |name: &String| required.is_some_and(|required| required.iter().any(|given| given == name));
    let properties = object.get("properties").and_then(Value::as_object);
    let complete = properties.is_none_or(|properties| properties.keys().all(listed));
    (!complete).then(|| wrong(at, "must list all of its properties in `required`, because `strict` is true"))
}

fn is_dialect(text: &str) -> bool {
    let text = text.strip_suffix('#').unwrap_or(text);
    let place = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    place.is_some_and(|place| DIALECTS.contains(&place))
}

fn is_type(value: &Value) -> bool {
    value.as_str().is_some_and(|word| TYPES.contains(&word))
}

fn are_different(values: &[Value]) -> bool {
    let mut texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    texts.sort_unstable();
    texts.windows(2).all(|pair| pair[0] != pair[1])
}

fn expected(form: Form) -> &'static str {
    match form {
        Form::Schema | Form::SchemaOrList => "must be a schema",
        Form::Schemas => "must be a list of at least one schema",
        Form::SchemaMap | Form::PatternMap => "must be an object that holds schemas",
        Form::Text | Form::Pattern => "must be text",
        Form::Flag => "must be true or false",
        Form::Number => "must be a number",
        Form::Positive => "must be a number above 0",
        Form::Count => "must be a whole number from 0 on",
        Form::Names => "must be a list of names, each once",
        Form::NamesMap => "must be an object that holds lists of names",
        Form::Values => "must be a list of at least one value",
        Form::Type => {
            "must be one of `array`, `boolean`, `integer`, `null`, `number`, `object`, `string`, or a list of some of them"
        }
        Form::Reference => {
            "must lead into the same document, such as `#/$defs/city`, to a schema that is there"
        }
        Form::Dependencies => "must be an object that holds schemas or lists of names",
        Form::Document => {
            "may only stand at the top: `$id` as a text, `$schema` as draft-07, 2019-09 or 2020-12 of json-schema.org"
        }
        Form::Dynamic => {
            "leads where only the use of the schema tells, which not every reader follows; use `$ref` and `$defs`"
        }
    }
}

fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", shown(key).replace('~', "~0").replace('/', "~1"))
}

/// What is wrong at a place, which is named by its keys.
fn wrong(at: &str, problem: &str) -> String {
    const PLACE_CHARS: usize = 200;
    let place: String = at.chars().take(PLACE_CHARS).collect();
    let place = if place.is_empty() { "the schema itself" } else { &place };
    format!("is not a JSON Schema that can be taken: `{place}` {problem}")
}

#[cfg(test)]
mod tests;
