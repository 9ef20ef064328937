//! What the parameters of a call have to be, whoever it goes to: their ranges, and what excludes what.
//!
//! Templates, rendering and executors go by it alike. It must not know any provider or model: what these take of it is told by
//! the builder and the catalogue.

use super::{
    call::Call,
    parameters::Parameter,
    problems::{Problem, Problems},
    request::field_of_parameter,
};
use crate::proto::v1::{ReasoningEffort, ReasoningParameters, ThinkingMode, ToolChoiceMode};

/// The lowest and the highest value of a parameter.
pub type Range = (f64, f64);

/// How random an answer is.
pub const TEMPERATURE: Range = (0.0, 2.0);
/// The share of the probability mass that tokens are taken from.
pub const TOP_P: Range = (0.0, 1.0);
/// The number of most probable tokens that are taken from.
pub const TOP_K: Range = (1.0, 1000.0);
/// A penalty on tokens that came already.
pub const PENALTY: Range = (-2.0, 2.0);
/// Tokens of an answer, or of the thoughts before it, at most.
pub const MAX_TOKENS: u32 = 10_000_000;

impl Parameter {
    /// Where its values lie, if it is a number with bounds.
    pub(super) fn range(self) -> Option<Range> {
        match self {
            Self::Temperature => Some(TEMPERATURE),
            Self::TopP => Some(TOP_P),
            Self::TopK => Some(TOP_K),
            Self::FrequencyPenalty | Self::PresencePenalty => Some(PENALTY),
            Self::MaxTokens | Self::ThinkingTokens => Some((1.0, f64::from(MAX_TOKENS))),
            _ => None,
        }
    }
}

/// Notes what is wrong with the parameters of a call.
pub(super) fn check_parameters(call: &Call, problems: &mut Problems) {
    let Call { generation, chat, reasoning, tools, .. } = call;
    let choice = chat.tool_choice.as_ref().map(|choice| choice.mode());
    if choice == Some(ToolChoiceMode::Required) && tools.is_empty() {
        let problem = "must not be TOOL_CHOICE_MODE_REQUIRED where no tool is offered; offer one";
        problems.add("chat.tool_choice.mode", "NOT_ALLOWED", problem);
    }
    for (parameter, given) in [
        (Parameter::Temperature, generation.temperature),
        (Parameter::TopP, generation.top_p),
        (Parameter::TopK, generation.top_k.map(f64::from)),
        (Parameter::MaxTokens, generation.max_tokens.map(f64::from)),
        (Parameter::FrequencyPenalty, generation.frequency_penalty),
        (Parameter::PresencePenalty, generation.presence_penalty),
    ] {
        let Some(((least, most), value)) = parameter.range().zip(given) else { continue };
        if !(least..=most).contains(&value) {
            let problem = format!("must be from {least} to {most}");
            problems.add(field_of_parameter(parameter), "OUT_OF_RANGE", problem);
        }
    }
    for Problem { path, reason, description } in reasoning_problems(reasoning, generation.max_tokens) {
        problems.add(format!("reasoning.{path}"), reason, description);
    }
}

/// What is wrong with reasoning parameters, by paths from these; `max_tokens` is the most that an answer has.
#[must_use]
pub fn reasoning_problems(given: &ReasoningParameters, max_tokens: Option<u32>) -> Vec<Problem> {
    let mut problems = Problems::default();
    let idle = given.effort() == ReasoningEffort::None;
    if idle && matches!(given.thinking_mode(), ThinkingMode::Enabled | ThinkingMode::Adaptive) {
        let problem = "must be THINKING_MODE_DISABLED or left out, because `effort` is REASONING_EFFORT_NONE";
        problems.add("thinking_mode", "NOT_ALLOWED", problem);
    }
    if let Some(tokens) = given.thinking_tokens {
        let within = (1..=MAX_TOKENS).contains(&tokens);
        if !within {
            problems.add("thinking_tokens", "OUT_OF_RANGE", format!("must be from 1 to {MAX_TOKENS}"));
        }
        if idle || given.thinking_mode() == ThinkingMode::Disabled {
            let problem =
                "must be left out, because `effort` or `thinking_mode` says that the model does not think";
            problems.add("thinking_tokens", "NOT_ALLOWED", problem);
        } else if within && max_tokens.is_some_and(|most| tokens >= most) {
            let problem = "must be less than `generation.max_tokens`, which the thoughts are counted against";
            problems.add("thinking_tokens", "OUT_OF_RANGE", problem);
        }
    }
    problems.into_result().err().unwrap_or_default()
}
