//! Tools that models may call: `tools/{id}`.
//!
//! Must not know how a tool is carried out; it sees to the form in which models are told of it.

use super::{
    CheckContext, Kind,
    rules::{DESCRIPTION_CHARS, NAME_CHARS},
    switched, tool_schema,
};
use crate::{
    domain::{Action, FeatureLevel, FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::ToolSpec,
};

/// The kind `tool`.
pub struct Tool;

const FUNCTION_NAME_BYTES: usize = 64;
/// A tool without parameters.
const NO_PARAMETERS: &str =
    r#"{"type": "object", "properties": {}, "required": [], "additionalProperties": false}"#;

impl Kind for Tool {
    fn name(&self) -> KindName {
        KindName("tool")
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["tools/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, name: &ResourceName) {
        let Spec::Tool(spec) = spec else { return };
        spec.enabled.get_or_insert(true);
        if spec.function_name.is_empty() {
            spec.function_name = function_name_of(name.id());
        }
        if spec.parameters_schema.is_empty() {
            NO_PARAMETERS.clone_into(&mut spec.parameters_schema);
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::Tool(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        violations.text("tool.display_name", &spec.display_name, Text::Line, NAME_CHARS);
        violations.text("tool.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        if !is_function_name(&spec.function_name) {
            let problem =
                "must be 1 to 64 letters, digits, `_` and `-` in ASCII, which is what models can call";
            violations.add("tool.function_name", "INVALID_FORMAT", problem);
        }
        if let Err(problem) = tool_schema::check(&spec.parameters_schema, spec.strict) {
            violations.add("tool.parameters_schema", "INVALID_FORMAT", problem);
        }
        violations.into_vec()
    }

    fn action(&self, before: &Spec, after: &Spec, rotated: bool) -> Action {
        switched(is_enabled(before), is_enabled(after), rotated)
    }

    fn warnings(&self, _before: Option<&Spec>, after: &Spec) -> Vec<String> {
        let silent = matches!(after, Spec::Tool(ToolSpec { description, .. }) if description.is_empty());
        let told =
            || "`tool.description` is empty: models are not told what the tool does and when to call it";
        silent.then(|| told().to_owned()).into_iter().collect()
    }
}

fn function_name_of(id: &str) -> String {
    let letter = |letter: char| if is_function_letter(letter) { letter } else { '_' };
    id.chars().take(FUNCTION_NAME_BYTES).map(letter).collect()
}

fn is_function_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= FUNCTION_NAME_BYTES && name.chars().all(is_function_letter)
}

fn is_function_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

fn is_enabled(spec: &Spec) -> bool {
    matches!(spec, Spec::Tool(spec) if spec.enabled.unwrap_or(true))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kinds::{
        DISABLED, ENABLED, UPDATED,
        tests::{plan, wrong},
    };

    const NAME: &str = "tools/weather.now";

    fn spec(change: impl FnOnce(&mut ToolSpec)) -> Spec {
        let mut tool = ToolSpec { description: "Tells the weather.".into(), ..Default::default() };
        change(&mut tool);
        Spec::Tool(tool)
    }

    #[track_caller]
    fn good(change: impl FnOnce(&mut ToolSpec)) {
        assert_eq!(plan(NAME, spec(change), None).1, []);
    }

    #[track_caller]
    fn bad(path: &str, change: impl FnOnce(&mut ToolSpec)) {
        assert_eq!(wrong(NAME, spec(change)), [format!("tool.{path}")]);
    }

    #[test]
    fn fields() {
        let (Spec::Tool(filled), violations) = plan(NAME, spec(|_| ()), None) else { panic!() };
        assert_eq!(violations, []);
        assert_eq!((filled.function_name.as_str(), filled.enabled), ("weather_now", Some(true)));
        assert_eq!(filled.parameters_schema, NO_PARAMETERS);

        good(|tool| tool.display_name = "Weather".into());
        bad("display_name", |tool| tool.display_name = "x".repeat(201));
        good(|tool| tool.description = "one\ntwo".into());
        bad("description", |tool| tool.description = "x".repeat(4097));
        good(|tool| tool.function_name = "get-weather_2".into());
        for name in ["a b", "a.b", "ä", &"x".repeat(65)] {
            bad("function_name", |tool| tool.function_name = name.to_owned());
        }
        good(|tool| tool.parameters_schema = r#"{"type": "object"}"#.into());
        bad("parameters_schema", |tool| tool.parameters_schema = "{}".into());
        good(|tool| tool.strict = true);
        bad("parameters_schema", |tool| {
            (tool.strict, tool.parameters_schema) = (true, r#"{"type": "object"}"#.into());
        });
        good(|tool| tool.enabled = Some(false));
    }

    #[test]
    fn actions_and_warnings() {
        let (on, off) = (spec(|_| ()), spec(|tool| tool.enabled = Some(false)));
        assert_eq!(Tool.action(&on, &off, false), DISABLED);
        assert_eq!(Tool.action(&off, &on, false), ENABLED);
        assert_eq!(Tool.action(&on, &on, false), UPDATED);
        assert_eq!(Tool.warnings(None, &on).len(), 0);
        assert_eq!(Tool.warnings(None, &spec(|tool| tool.description.clear())).len(), 1);
    }

    pub(in crate::kinds) fn any_tool() -> impl Strategy<Value = ToolSpec> {
        let schema = prop_oneof![
            Just(""),
            Just("{}"),
            Just(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#)
        ];
        ("[a-z ]{0,6}", "[a-z.]{0,4}", schema, any::<bool>(), any::<Option<bool>>()).prop_map(
            |(description, function_name, schema, strict, enabled)| ToolSpec {
                description,
                function_name,
                parameters_schema: schema.to_owned(),
                strict,
                enabled,
                ..Default::default()
            },
        )
    }

    proptest! {
        #[test]
        fn every_id_has_a_name_that_models_can_call(id in "[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}") {
            prop_assert!(is_function_name(&function_name_of(&id)));
        }
    }
}
