//! The parameters of a call by the names that request builders know them under, and their values.

use std::borrow::Cow;

use serde_json::{Number, Value, json};

use super::{
    call::{Call, Tool},
    problems::list,
    rules::integer,
};
use crate::proto::v1::{ReasoningEffort, ThinkingMode, ToolChoiceMode};

/// A parameter that an entry may take.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Parameter {
    ModelName,
    Messages,
    SystemPrompt,
    Temperature,
    TopP,
    TopK,
    MaxTokens,
    FrequencyPenalty,
    PresencePenalty,
    Seed,
    StopSequences,
    Stream,
    Tools,
    ToolChoice,
    ParallelToolCalls,
    ReasoningEffort,
    ThinkingMode,
    ThinkingTokens,
    ChainOfThought,
}

/// All parameters with their names.
pub(super) const PARAMETERS: [(Parameter, &str); 19] = [
    (Parameter::ModelName, "model_name"),
    (Parameter::Messages, "messages"),
    (Parameter::SystemPrompt, "system_prompt"),
    (Parameter::Temperature, "temperature"),
    (Parameter::TopP, "top_p"),
    (Parameter::TopK, "top_k"),
    (Parameter::MaxTokens, "max_tokens"),
    (Parameter::FrequencyPenalty, "frequency_penalty"),
    (Parameter::PresencePenalty, "presence_penalty"),
    (Parameter::Seed, "seed"),
    (Parameter::StopSequences, "stop_sequences"),
    (Parameter::Stream, "stream"),
    (Parameter::Tools, "tools"),
    (Parameter::ToolChoice, "tool_choice"),
    (Parameter::ParallelToolCalls, "parallel_tool_calls"),
    (Parameter::ReasoningEffort, "reasoning_effort"),
    (Parameter::ThinkingMode, "thinking_mode"),
    (Parameter::ThinkingTokens, "thinking_tokens"),
    (Parameter::ChainOfThought, "chain_of_thought"),
];

impl Parameter {
    /// The parameter with this name.
    pub fn named(name: &str) -> Option<Self> {
        PARAMETERS.iter().find(|(_, known)| *known == name).map(|(parameter, _)| *parameter)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        PARAMETERS.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| *name)
    }

    /// What its values look like as text, where this text never is one.
    pub fn never_is(self, text: &str) -> Option<String> {
        let words: Vec<String> = match self {
            Self::Stream | Self::ParallelToolCalls | Self::ChainOfThought => {
                ["true", "false"].map(str::to_owned).into()
            }
            Self::Messages | Self::Tools => vec!["true".to_owned()],
            Self::ToolChoice => ["auto", "none", "required", "tool"].map(str::to_owned).into(),
            Self::ThinkingMode => ["disabled", "enabled", "adaptive"].map(str::to_owned).into(),
            Self::ReasoningEffort => {
                (1..).map_while(|effort| ReasoningEffort::try_from(effort).ok()).filter_map(word).collect()
            }
            Self::Temperature | Self::TopP | Self::FrequencyPenalty | Self::PresencePenalty => {
                return self.out_of_range(number_of(text), "a number");
            }
            Self::TopK | Self::MaxTokens | Self::Seed | Self::ThinkingTokens => {
                return self.out_of_range(whole_of(text).map(|number| number as f64), "a whole number");
            }
            Self::StopSequences => return Some("nothing, with no `=`: it is a list".to_owned()),
            Self::ModelName | Self::SystemPrompt => return None,
        };
        (!words.iter().any(|word| word == text)).then(|| list(words.iter().map(String::as_str)))
    }

    /// What its values are, where this one is none or lies outside.
    fn out_of_range(self, value: Option<f64>, what: &str) -> Option<String> {
        match (value, self.range()) {
            (Some(_), None) => None,
            (None, None) => Some(format!("{what}, such as `5`")),
            (Some(value), Some((least, most))) if (least..=most).contains(&value) => None,
            (_, Some((least, most))) => Some(format!("{what} from {least} to {most}")),
        }
    }

    /// A value as text in the one form that it is compared in: a number is the same however it is written.
    pub fn plain(self, text: &str) -> Cow<'_, str> {
        let number = match self {
            Self::Temperature | Self::TopP | Self::FrequencyPenalty | Self::PresencePenalty => {
                // The sum makes one of both zeros.
                number_of(text).map(|number| (number + 0.0).to_string())
            }
            Self::TopK | Self::MaxTokens | Self::Seed | Self::ThinkingTokens => {
                whole_of(text).map(|number| number.to_string())
            }
            _ => None,
        };
        number.map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// Its value in a call, as it is before an entry makes something of it. Of messages and tools it only says that there
    /// are any: their form is the entry's.
    pub fn of(self, call: &Call, model: &str) -> Option<Value> {
        let Call { messages, generation, chat, reasoning, tools, .. } = call;
        let offered = !tools.is_empty();
        match self {
            Self::ModelName => (!model.is_empty()).then(|| json!(model)),
            Self::Messages => (!messages.is_empty()).then_some(Value::Bool(true)),
            Self::SystemPrompt => {
                let texts: Vec<&str> = call.system_texts().collect();
                (!texts.is_empty()).then(|| json!(texts.join("\n\n")))
            }
            Self::Temperature => number(generation.temperature),
            Self::TopP => number(generation.top_p),
            Self::TopK => generation.top_k.map(Value::from),
            Self::MaxTokens => generation.max_tokens.map(Value::from),
            Self::FrequencyPenalty => number(generation.frequency_penalty),
            Self::PresencePenalty => number(generation.presence_penalty),
            Self::Seed => generation.seed.map(Value::from),
            Self::StopSequences => {
                let stops = &generation.stop_sequences;
                (!stops.is_empty()).then(|| json!(stops))
            }
            Self::Stream => chat.stream.map(Value::from),
            Self::Tools => offered.then_some(Value::Bool(true)),
            Self::ToolChoice if offered => tool_choice(call).map(Value::from),
            Self::ParallelToolCalls if offered => chat.parallel_tool_calls.map(Value::from),
            Self::ToolChoice | Self::ParallelToolCalls => None,
            Self::ReasoningEffort => word(reasoning.effort()).map(Value::from),
            Self::ThinkingMode => thinking_mode(reasoning.thinking_mode(), reasoning.thinking_tokens),
            Self::ThinkingTokens => reasoning.thinking_tokens.map(Value::from),
            Self::ChainOfThought => reasoning.chain_of_thought.map(Value::from),
        }
    }
}

/// The tool that a call wants called, if it names one that it offers.
pub(super) fn chosen_tool(call: &Call) -> Option<&Tool> {
    let choice = call.chat.tool_choice.as_ref()?;
    call.tools.iter().find(|tool| tool.name == choice.tool)
}

/// The number that a text is in JSON.
fn number_of(text: &str) -> Option<f64> {
    serde_json::from_str::<Number>(text).ok()?;
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// The whole number that a text is in JSON, however it is written.
fn whole_of(text: &str) -> Option<i64> {
    serde_json::from_str::<Number>(text).ok().and_then(|number| integer(&Value::Number(number)))
}

/// A number that JSON has.
fn number(number: Option<f64>) -> Option<Value> {
    number.filter(|number| number.is_finite()).map(Value::from)
}

fn tool_choice(call: &Call) -> Option<&'static str> {
    match call.chat.tool_choice.as_ref()?.mode() {
        ToolChoiceMode::Unspecified => None,
        ToolChoiceMode::Auto => Some("auto"),
        ToolChoiceMode::None => Some("none"),
        ToolChoiceMode::Required => Some("required"),
        ToolChoiceMode::Tool => Some("tool"),
    }
}

fn word(effort: ReasoningEffort) -> Option<String> {
    let word = effort.as_str_name().strip_prefix("REASONING_EFFORT_")?;
    (effort != ReasoningEffort::Unspecified).then(|| word.to_ascii_lowercase())
}

fn thinking_mode(mode: ThinkingMode, tokens: Option<u32>) -> Option<Value> {
    match mode {
        ThinkingMode::Unspecified => tokens.map(|_| json!("enabled")),
        ThinkingMode::Disabled => Some(json!("disabled")),
        ThinkingMode::Enabled => Some(json!("enabled")),
        ThinkingMode::Adaptive => Some(json!("adaptive")),
    }
}
