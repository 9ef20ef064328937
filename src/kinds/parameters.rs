//! Generation, chat and reasoning parameters: their ranges, wherever they stand.
//!
//! Must not know any model; what a model takes of them is `model_fit`'s.

use std::collections::BTreeSet;

use super::{Reference, references, rules::check_choice};
use crate::{
    domain::{KindName, Text, Violations},
    proto::v1::{
        ChatParameters, GenerationParameters, ParameterRange, ParameterSupport, ReasoningEffort,
        ReasoningParameters, ThinkingMode, ToolChoice, ToolChoiceMode,
    },
    wire::{Problem, bounds},
};

pub(super) use bounds::MAX_TOKENS;

/// Characters of a prompt.
pub(super) const PROMPT_CHARS: usize = 65_536;
const MAX_STOP_SEQUENCES: usize = 4;
const STOP_SEQUENCE_CHARS: usize = 256;

/// A generation parameter that is a number within a range.
pub(super) struct Parameter {
    /// Its field, in the parameters and in what a model says of them.
    pub name: &'static str,
    /// The lowest value that any model takes.
    pub least: f64,
    /// The highest.
    pub most: f64,
    /// The value that is given.
    pub given: fn(&GenerationParameters) -> Option<f64>,
    /// What a model says of it.
    pub support: fn(&ParameterSupport) -> Option<&ParameterRange>,
}

/// All of them, in the order of their fields.
pub(super) static PARAMETERS: [Parameter; 5] = [
    Parameter {
        name: "temperature",
        least: bounds::TEMPERATURE.0,
        most: bounds::TEMPERATURE.1,
        given: |given| given.temperature,
        support: |support| support.temperature.as_ref(),
    },
    Parameter {
        name: "top_p",
        least: bounds::TOP_P.0,
        most: bounds::TOP_P.1,
        given: |given| given.top_p,
        support: |support| support.top_p.as_ref(),
    },
    Parameter {
        name: "top_k",
        least: bounds::TOP_K.0,
        most: bounds::TOP_K.1,
        given: |given| given.top_k.map(f64::from),
        support: |support| support.top_k.as_ref(),
    },
    Parameter {
        name: "frequency_penalty",
        least: bounds::PENALTY.0,
        most: bounds::PENALTY.1,
        given: |given| given.frequency_penalty,
        support: |support| support.frequency_penalty.as_ref(),
    },
    Parameter {
        name: "presence_penalty",
        least: bounds::PENALTY.0,
        most: bounds::PENALTY.1,
        given: |given| given.presence_penalty,
        support: |support| support.presence_penalty.as_ref(),
    },
];

impl Parameter {
    /// Whether a value is within the range; a value that is no number is not.
    pub fn holds(&self, value: f64) -> bool {
        (self.least..=self.most).contains(&value)
    }

    /// What is said of a value outside.
    pub fn problem(&self) -> String {
        format!("must be from {} to {}", self.least, self.most)
    }
}

/// Checks the parameters of a call that offers these tools, under the names that calls have for them.
pub fn check_parameters(
    generation: Option<&GenerationParameters>,
    chat: Option<&ChatParameters>,
    reasoning: Option<&ReasoningParameters>,
    tools: &[String],
    violations: &mut Violations,
) {
    if let Some(given) = generation {
        check_generation("generation", given, violations);
    }
    if let Some(given) = chat {
        check_chat("chat", given, tools, violations);
    }
    if let Some(given) = reasoning {
        check_reasoning("reasoning", given, generation.and_then(|given| given.max_tokens), violations);
    }
}

/// Checks generation parameters; `path` is theirs.
pub(super) fn check_generation(path: &str, given: &GenerationParameters, violations: &mut Violations) {
    for parameter in &PARAMETERS {
        if (parameter.given)(given).is_some_and(|value| !parameter.holds(value)) {
            violations.add(format!("{path}.{}", parameter.name), "OUT_OF_RANGE", parameter.problem());
        }
    }
    check_tokens(&format!("{path}.max_tokens"), given.max_tokens, violations);
    let (path, stops) = (format!("{path}.stop_sequences"), &given.stop_sequences);
    violations.at_most(&path, stops.len(), MAX_STOP_SEQUENCES, "stop sequences");
    let mut seen = BTreeSet::new();
    for (index, stop) in stops.iter().enumerate().take(MAX_STOP_SEQUENCES) {
        let path = format!("{path}[{index}]");
        violations.required(&path, stop, Text::Value, STOP_SEQUENCE_CHARS);
        if !seen.insert(stop) {
            violations.add(path, "DUPLICATE", "is listed twice; list it once");
        }
    }
}

/// Checks a number of tokens.
pub(super) fn check_tokens(path: &str, tokens: Option<u32>, violations: &mut Violations) {
    if tokens.is_some_and(|tokens| !(1..=MAX_TOKENS).contains(&tokens)) {
        violations.add(path, "OUT_OF_RANGE", format!("must be from 1 to {MAX_TOKENS}"));
    }
}

/// Checks chat parameters; `path` is theirs, and `offered` are the tools that the call offers.
pub(super) fn check_chat(
    path: &str,
    given: &ChatParameters,
    offered: &[String],
    violations: &mut Violations,
) {
    violations.text(&format!("{path}.system_prompt"), &given.system_prompt, Text::Value, PROMPT_CHARS);
    if let Some(choice) = &given.tool_choice {
        check_tool_choice(&format!("{path}.tool_choice"), choice, offered, violations);
    }
}

fn check_tool_choice(path: &str, choice: &ToolChoice, offered: &[String], violations: &mut Violations) {
    let (mode_path, tool_path) = (format!("{path}.mode"), format!("{path}.tool"));
    let mode = ToolChoiceMode::try_from(choice.mode);
    check_choice::<ToolChoiceMode>(violations, &mode_path, choice.mode);
    match mode {
        Err(_) => {}
        Ok(ToolChoiceMode::Unspecified) => violations.add(
            mode_path,
            "REQUIRED",
            "is required: TOOL_CHOICE_MODE_AUTO, TOOL_CHOICE_MODE_NONE, TOOL_CHOICE_MODE_REQUIRED or \
             TOOL_CHOICE_MODE_TOOL",
        ),
        Ok(ToolChoiceMode::Tool) => {
            let named =
                references::check(violations, &tool_path, &choice.tool, KindName("tool"), "tools/search");
            if named && !offered.contains(&choice.tool) {
                violations.add(tool_path, "NOT_ALLOWED", "must be one of the tools in `tools`; add it there");
            }
        }
        Ok(ToolChoiceMode::Required) if offered.is_empty() => violations.add(
            mode_path,
            "NOT_ALLOWED",
            "must not be TOOL_CHOICE_MODE_REQUIRED where no tool is offered; add one to `tools`",
        ),
        Ok(_) if !choice.tool.is_empty() => violations.add(
            tool_path,
            "NOT_ALLOWED",
            "goes with TOOL_CHOICE_MODE_TOOL only; change the mode or leave the tool out",
        ),
        Ok(_) => {}
    }
}

/// The tool that chat parameters name.
pub(super) fn chosen_tool(path: &str, given: Option<&ChatParameters>) -> Option<Reference> {
    let choice = given?.tool_choice.as_ref()?;
    references::reference(format!("{path}.tool_choice.tool"), &choice.tool)
}

/// Checks reasoning parameters; `path` is theirs, and `max_tokens` the most that an answer has.
pub(super) fn check_reasoning(
    path: &str,
    given: &ReasoningParameters,
    max_tokens: Option<u32>,
    violations: &mut Violations,
) {
    check_choice::<ReasoningEffort>(violations, &format!("{path}.effort"), given.effort);
    check_choice::<ThinkingMode>(violations, &format!("{path}.thinking_mode"), given.thinking_mode);
    for Problem { path: field, reason, description } in bounds::reasoning_problems(given, max_tokens) {
        violations.add(format!("{path}.{field}"), reason, description);
    }
}
