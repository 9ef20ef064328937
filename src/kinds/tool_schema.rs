//! The JSON Schema of a tool's parameters: whether it is one, by the rules of its structure.
//!
//! Checked are the keywords that models and their providers take, of the drafts that they take them from (draft 7 to
//! 2020-12). Other keywords are annotations, as the specification has it. A schema is never resolved: references lead
//! only into the document itself, so that reading one can't lead anywhere, and never round in a circle, which a reader would follow
//! without an end. Patterns are held to what any engine matches in bounded time.

use std::{cell::RefCell, collections::HashSet};

use serde_json::{Map, Value};

use super::{json, pattern, rules::shown};

const SCHEMA_BYTES: usize = 64 * 1024;
const BOUNDS: json::Bounds = json::Bounds { depth: 32, nodes: 5_000 };
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
}

/// The keywords that are checked.
const KEYWORDS: [(&str, Form); 49] = [
    ("$anchor", Form::Text),
    ("$comment", Form::Text),
    ("$defs", Form::SchemaMap),
    ("$id", Form::Text),
    ("$ref", Form::Reference),
    ("$schema", Form::Text),
    ("additionalItems", Form::Schema),
    ("additionalProperties", Form::Schema),
    ("allOf", Form::Schemas),
    ("anyOf", Form::Schemas),
    ("contains", Form::Schema),
    ("contentEncoding", Form::Text),
    ("contentMediaType", Form::Text),
    ("definitions", Form::SchemaMap),
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
    Walk { root: &root, strict, done: RefCell::default() }.schema("", &root)
}

/// One schema and where it is, as a JSON pointer.
struct Walk<'a> {
    root: &'a Value,
    strict: bool,
    /// Schemas of which it is known that they lead into no circle.
    done: RefCell<HashSet<*const Value>>,
}

impl Walk<'_> {
    fn schema(&self, at: &str, value: &Value) -> Result<(), String> {
        let object = match value {
            Value::Bool(_) if !at.is_empty() => return Ok(()),
            Value::Object(object) => object,
            _ => return Err(wrong(at, "must be a schema: an object, or true or false")),
        };
        for (keyword, value) in object {
            let known = KEYWORDS.binary_search_by_key(&keyword.as_str(), |(known, _)| known);
            if let Ok(index) = known {
                self.keyword(&below(at, keyword), KEYWORDS[index].1, value)?;
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
                | Form::Values,
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
        self.root.pointer(target.strip_prefix('#')?)
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
            ("dependentSchemas", Value::Object(map)) => map.values().collect(),
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
            "must lead into the same document, such as `#/$defs/city`, to something that is there"
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(part: &str) -> String {
        format!(r#"{{"type": "object", "$defs": {{"a": {{"type": "string"}}}}, {part}}}"#)
    }

    #[test]
    fn the_keywords_are_in_order() {
        assert!(KEYWORDS.is_sorted_by_key(|(keyword, _)| *keyword), "they are searched by halves");
    }

    #[test]
    fn every_keyword_takes_its_form_only() {
        let (schema, list) = (r#"{"type": "string"}"#, r#"[{"type": "string"}, true]"#);
        for (keyword, form) in KEYWORDS {
            let (right, wrong): (&[&str], &[&str]) = match form {
                Form::Schema => (&[schema, "true"], &["1", "\"a\"", list, "null"]),
                Form::SchemaOrList => (&[schema, list], &["1", "[]", "[1]"]),
                Form::Schemas => (&[list], &["[]", schema, "[null]"]),
                Form::SchemaMap => (&["{}", r#"{"a": {"type": "null"}}"#], &["[]", r#"{"a": 1}"#, "1"]),
                Form::Text => (&["\"a\""], &["1", "null"]),
                Form::Pattern => (&["\"^a+$\""], &["1", "null", "\"(a+)+$\"", "\"(\"", r#""(a)\\1""#]),
                Form::PatternMap => (
                    &["{}", r#"{"^a": true}"#],
                    &["[]", r#"{"a": 1}"#, r#"{"(a+)+$": true}"#, r#"{"[": true}"#],
                ),
                Form::Flag => (&["true"], &["\"true\"", "0"]),
                Form::Number => (&["-1.5", "0"], &["\"1\"", "true"]),
                Form::Positive => (&["0.01"], &["0", "-1", "\"1\""]),
                Form::Count => (&["0", "10"], &["-1", "1.5", "\"1\""]),
                Form::Names => (&["[]", r#"["a", "b"]"#], &[r#"["a", "a"]"#, "[1]", "{}"]),
                Form::NamesMap => (&[r#"{"a": ["b"]}"#], &["[]", r#"{"a": 1}"#]),
                Form::Values => (&["[1, null]"], &["[]", "1"]),
                Form::Type => {
                    (&["\"null\"", r#"["string", "null"]"#], &["\"str\"", "[]", "1", r#"["null", "null"]"#])
                }
                Form::Reference => (
                    &["\"#/$defs/a\"", "\"#\""],
                    &["\"https://a.example/x\"", "\"#/$defs/b\"", "\"other\"", "1"],
                ),
            };
            for (values, accepted) in [(right, true), (wrong, false)] {
                for value in values {
                    let text = whole(&format!(r#""properties": {{"x": {{"{keyword}": {value}}}}}"#));
                    let found = check(&text, false);
                    assert_eq!(found.is_ok(), accepted, "{keyword}: {value}: {found:?}");
                    if let Err(problem) = found {
                        assert!(problem.contains(&format!("`/properties/x/{keyword}")), "{problem}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_schema_is_an_object_of_bounded_size() {
        let nested = |depth: usize| {
            let inner = r#"{"not": "#.repeat(depth);
            format!(r#"{{"type": "object", "not": {inner}true{}}}"#, "}".repeat(depth))
        };
        assert_eq!(check(&nested(30), false), Ok(()));
        let wide = whole(&format!(r#""enum": [{}1]"#, "1,".repeat(5_000)));
        let long = whole(&format!(r#""title": "{}""#, "x".repeat(65_536)));
        for text in
            ["", "{", "[]", "true", "\"object\"", "{}", r#"{"type": "string"}"#, r#"{"type": ["object"]}"#]
        {
            assert!(check(text, false).is_err(), "{text}");
        }
        for text in [nested(32), nested(20_000), wide, long, r#"{"type": "object", "type": "object"}"#.into()]
        {
            assert!(check(&text, false).is_err(), "{text:.60}");
        }
        assert_eq!(check(&whole(r#""x-unknown": {"properties": 1}"#), false), Ok(()));
    }

    #[test]
    fn regression_no_reference_leads_round_in_a_circle() {
        let told = |defs: &str| {
            let text = format!(
                r##"{{"type": "object", "$defs": {{{defs}}}, "properties": {{"x": {{"$ref": "#/$defs/a"}}}}}}"##
            );
            check(&text, false).err().unwrap_or_default()
        };
        for circle in [
            r##""a": {"$ref": "#/$defs/a"}"##,
            r##""a": {"$ref": "#/$defs/b"}, "b": {"allOf": [true, {"$ref": "#/$defs/a"}]}"##,
            r##""a": {"anyOf": [{"not": {"$ref": "#/$defs/a"}}]}"##,
            r##""a": {"if": true, "then": {"dependentSchemas": {"k": {"$ref": "#/$defs/a"}}}}"##,
        ] {
            let told = told(circle);
            assert!(told.contains("/$ref` leads round in a circle"), "{circle}: {told}");
        }
        for tree in [
            r##""a": {"properties": {"next": {"$ref": "#/$defs/a"}}}"##,
            r##""a": {"type": "array", "items": {"$ref": "#/$defs/a"}}"##,
            r##""a": {"anyOf": [{"$ref": "#/$defs/b"}, {"$ref": "#/$defs/b"}]}, "b": {"type": "null"}"##,
        ] {
            assert_eq!(told(tree), "", "{tree}");
        }
        assert!(check(r##"{"type": "object", "$ref": "#"}"##, false).is_err());
        let chain: Vec<String> =
            (0..1500).map(|place| format!(r##""d{place}": {{"$ref": "#/$defs/d{}"}}"##, place + 1)).collect();
        let chain = format!(r#"{}, "d1500": true, "a": true"#, chain.join(", "));
        assert_eq!(told(&chain), "", "a long way round is none");
    }

    #[test]
    fn a_strict_schema_leaves_nothing_open() {
        let strict = |text: &str| check(text, true).err().unwrap_or_default();
        let inner = |required: &str| {
            format!(
                r#"{{"type": "object", "additionalProperties": false, "required": ["a"], "properties": {{"a":
                   {{"type": "object", "additionalProperties": false, "required": [{required}], "properties": {{"b": {{}}}}}}}}}}"#
            )
        };
        assert_eq!(strict(&inner("\"b\"")), "");
        assert!(strict(&inner("")).contains("`/properties/a` must list all"));
        assert!(
            strict(r#"{"type": "object"}"#).contains("`the schema itself` must have `\"additionalProperties")
        );
        assert_eq!(check(&inner(""), false), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in "\\PC{0,60}", strict in any::<bool>()) {
            let _ = check(&text, strict);
            let _ = check(&whole(&format!("\"properties\": {text:?}")), strict);
        }
    }
}
