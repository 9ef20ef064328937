//! Schemas that are taken, and those that are not.

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
            Form::PatternMap => {
                (&["{}", r#"{"^a": true}"#], &["[]", r#"{"a": 1}"#, r#"{"(a+)+$": true}"#, r#"{"[": true}"#])
            }
            Form::Flag => (&["true"], &["\"true\"", "0"]),
            Form::Number => (&["-1.5", "0"], &["\"1\"", "true"]),
            Form::Positive => (&["0.01"], &["0", "-1", "\"1\""]),
            Form::Count => (&["0", "10"], &["-1", "1.5", "\"1\""]),
            Form::Dependencies => {
                (&["{}", r#"{"a": ["b"], "c": true}"#], &["[]", r#"{"a": 1}"#, r#"{"a": [1]}"#])
            }
            Form::Document => (&[], &["\"a\"", "\"https://json-schema.org/draft/2020-12/schema\"", "1"]),
            Form::Dynamic => (&[], &["\"#\"", "true"]),
            Form::Names => (&["[]", r#"["a", "b"]"#], &[r#"["a", "a"]"#, "[1]", "{}"]),
            Form::NamesMap => (&[r#"{"a": ["b"]}"#], &["[]", r#"{"a": 1}"#]),
            Form::Values => (&["[1, null]"], &["[]", "1"]),
            Form::Type => {
                (&["\"null\"", r#"["string", "null"]"#], &["\"str\"", "[]", "1", r#"["null", "null"]"#])
            }
            Form::Reference => {
                (&["\"#/$defs/a\"", "\"#\""], &["\"https://a.example/x\"", "\"#/$defs/b\"", "\"other\"", "1"])
            }
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
    for text in [nested(32), nested(20_000), wide, long, r#"{"type": "object", "type": "object"}"#.into()] {
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
fn regression_references_lead_to_schemas_and_grow_no_forest() {
    let with = |part: &str| check(&whole(part), false);
    assert_eq!(with(r#""$schema": "http://json-schema.org/draft-07/schema#", "$id": "a""#), Ok(()));
    assert!(with(r#""$schema": "https://a.example/mine""#).is_err());
    // What stands where no schema is read is not held to anything.
    assert!(
        with(r##""default": {"pattern": "(a+)+$"}, "properties": {"x": {"$ref": "#/default"}}"##).is_err()
    );
    assert!(with(r##""x-y": {"a": true}, "properties": {"x": {"$ref": "#/x-y/a"}}"##).is_err());
    for keyword in ["unevaluatedProperties", "contentSchema"] {
        assert!(with(&format!(r#""{keyword}": {{"pattern": "(a+)+$"}}"#)).is_err(), "{keyword}");
    }
    assert!(with(r#""dependencies": {"a": {"pattern": "(a+)+$"}}"#).is_err());
    let doubled = |count: usize| {
        let one = |place: usize| {
            let to = format!(r##"{{"$ref": "#/definitions/d{}"}}"##, place + 1);
            format!(r#""d{place}": {{"properties": {{"a": {to}, "b": {to}}}}}"#)
        };
        let all: Vec<String> = (0..count).map(one).collect();
        format!(
            r##""definitions": {{{}, "d{count}": true}}, "items": {{"$ref": "#/definitions/d0"}}"##,
            all.join(", ")
        )
    };
    assert_eq!(with(&doubled(10)), Ok(()));
    let told = with(&doubled(40)).err().unwrap_or_default();
    assert!(told.contains("grows beyond 100000 schemas"), "{told}");
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
