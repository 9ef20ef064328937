//! Preferences of other systems as the parameters of templates, by whichever of their names they come.
//!
//! Must not know any table. Whether a value is within its range is the kind's to say; here it has to be of the right type.

use super::tree::Tree;
use crate::{
    proto::v1::{
        ChatParameters, PromptTemplateSpec, ReasoningEffort, ReasoningParameters, ThinkingMode, ToolChoice,
        ToolChoiceMode,
    },
    setting_key,
};

/// Keys of preferences that say the same; the first that is there is taken.
pub const SAME: [&[&str]; 7] = [
    &["max_tokens", "max_output_tokens", "max_completion_tokens"],
    &["stop_sequences", "stop"],
    &["system_prompt", "system_message"],
    &["stream", "streaming"],
    &["reasoning_effort", "effort"],
    &["thinking_mode", "thinking"],
    &["thinking_tokens", "thinking_budget", "budget_tokens"],
];

/// What became of a preference.
pub enum Taken {
    /// It is this field now, by its path beneath the template.
    As(&'static str),
    /// It has a parameter, but its value is not of its type.
    Wrong(String),
    /// There is no parameter for it.
    Unknown,
}

/// Whether there is a parameter for it.
#[must_use]
pub fn is_known(key: &str) -> bool {
    !matches!(take(&mut PromptTemplateSpec::default(), key, &Tree::Null), Taken::Unknown)
}

/// Takes one preference. `null` leaves a parameter unset, which is its default.
pub fn take(spec: &mut PromptTemplateSpec, key: &str, value: &Tree) -> Taken {
    let key = setting_key::normalise(key);
    let (generation, chat, reasoning) = (&mut spec.generation, &mut spec.chat, &mut spec.reasoning);
    let (path, wanted, done) = match key.as_ref() {
        "temperature" => ("generation.temperature", NUMBER, number(value, &mut of(generation).temperature)),
        "top_p" => ("generation.top_p", NUMBER, number(value, &mut of(generation).top_p)),
        "top_k" => ("generation.top_k", WHOLE, whole(value, &mut of(generation).top_k)),
        "max_tokens" | "max_output_tokens" | "max_completion_tokens" => {
            ("generation.max_tokens", WHOLE, whole(value, &mut of(generation).max_tokens))
        }
        "frequency_penalty" => {
            ("generation.frequency_penalty", NUMBER, number(value, &mut of(generation).frequency_penalty))
        }
        "presence_penalty" => {
            ("generation.presence_penalty", NUMBER, number(value, &mut of(generation).presence_penalty))
        }
        "stop" | "stop_sequences" => {
            ("generation.stop_sequences", "a list of texts", texts(value, &mut of(generation).stop_sequences))
        }
        "seed" => ("generation.seed", WHOLE, whole(value, &mut of(generation).seed)),
        "system_prompt" | "system_message" => {
            ("chat.system_prompt", "text", text(value, &mut of(chat).system_prompt))
        }
        "stream" | "streaming" => ("chat.stream", FLAG, flag(value, &mut of(chat).stream)),
        "tool_choice" => {
            let choice = "auto, none or required; a tool by name has to be offered by the template";
            ("chat.tool_choice", choice, tool_choice(value, of(chat)))
        }
        "parallel_tool_calls" => {
            ("chat.parallel_tool_calls", FLAG, flag(value, &mut of(chat).parallel_tool_calls))
        }
        "reasoning_effort" | "effort" => {
            let efforts = "one of none, minimal, low, medium, high, xhigh and max";
            ("reasoning.effort", efforts, effort(value, of(reasoning)))
        }
        "thinking_mode" | "thinking" => {
            let modes = "true, false, or one of disabled, enabled and adaptive";
            ("reasoning.thinking_mode", modes, thinking_mode(value, of(reasoning)))
        }
        "thinking_tokens" | "thinking_budget" | "budget_tokens" => {
            ("reasoning.thinking_tokens", WHOLE, whole(value, &mut of(reasoning).thinking_tokens))
        }
        "chain_of_thought" => {
            ("reasoning.chain_of_thought", FLAG, flag(value, &mut of(reasoning).chain_of_thought))
        }
        _ => return Taken::Unknown,
    };
    match done || *value == Tree::Null {
        true => Taken::As(path),
        false => Taken::Wrong(match value.whole::<i128>().filter(|_| wanted == WHOLE) {
            Some(number) if number < 0 => "is negative, which is out of its range".to_owned(),
            Some(_) => "is greater than its range allows".to_owned(),
            None => format!("is {}, and has to be {wanted}", value.what()),
        }),
    }
}

const NUMBER: &str = "a number";
const WHOLE: &str = "a whole number";
const FLAG: &str = "true or false";

fn of<T: Default>(part: &mut Option<T>) -> &mut T {
    part.get_or_insert_default()
}

fn number(value: &Tree, into: &mut Option<f64>) -> bool {
    let number = value.text().and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite());
    *into = number.or(*into);
    number.is_some()
}

fn whole<T: std::str::FromStr + Copy>(value: &Tree, into: &mut Option<T>) -> bool {
    let number = value.whole::<T>();
    *into = number.or(*into);
    number.is_some()
}

fn flag(value: &Tree, into: &mut Option<bool>) -> bool {
    let flag = value.flag();
    *into = flag.or(*into);
    flag.is_some()
}

fn text(value: &Tree, into: &mut String) -> bool {
    let Tree::Text(text) = value else { return false };
    text.clone_into(into);
    true
}

fn texts(value: &Tree, into: &mut Vec<String>) -> bool {
    let found: Vec<String> = match value {
        Tree::Text(text) => vec![text.clone()],
        Tree::List(items) => items.iter().filter_map(Tree::text).map(str::to_owned).collect(),
        _ => return false,
    };
    let all = !matches!(value, Tree::List(items) if items.len() != found.len());
    if all {
        *into = found;
    }
    all
}

fn effort(value: &Tree, into: &mut ReasoningParameters) -> bool {
    let name = format!("REASONING_EFFORT_{}", value.text().unwrap_or_default().to_ascii_uppercase());
    let effort =
        ReasoningEffort::from_str_name(&name).filter(|effort| *effort != ReasoningEffort::Unspecified);
    into.effort = effort.map_or(into.effort, i32::from);
    effort.is_some()
}

fn thinking_mode(value: &Tree, into: &mut ReasoningParameters) -> bool {
    let word = value.text().unwrap_or_default().to_ascii_uppercase();
    let mode = match value.flag() {
        Some(true) => Some(ThinkingMode::Enabled),
        Some(false) => Some(ThinkingMode::Disabled),
        None => ThinkingMode::from_str_name(&format!("THINKING_MODE_{word}"))
            .filter(|mode| *mode != ThinkingMode::Unspecified),
    };
    into.thinking_mode = mode.map_or(into.thinking_mode, i32::from);
    mode.is_some()
}

fn tool_choice(value: &Tree, into: &mut ChatParameters) -> bool {
    let mode = match value.text() {
        Some("auto") => ToolChoiceMode::Auto,
        Some("none") => ToolChoiceMode::None,
        Some("required" | "any") => ToolChoiceMode::Required,
        _ => return false,
    };
    into.tool_choice = Some(ToolChoice { mode: mode.into(), tool: String::new() });
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::GenerationParameters;

    #[test]
    fn regression_a_whole_number_out_of_range_is_told_as_that() {
        let told = |text: &str| {
            let value = Tree::Number(text.into());
            match take(&mut PromptTemplateSpec::default(), "top_k", &value) {
                Taken::Wrong(what) => what,
                Taken::As(_) | Taken::Unknown => String::new(),
            }
        };
        assert!(told("-1").contains("is negative"), "{}", told("-1"));
        assert!(told("5000000000").contains("is greater"), "{}", told("5000000000"));
        assert!(told("1.5").contains("has to be a whole number"), "{}", told("1.5"));
    }

    /// Every field of the three messages has a preference that leads to it.
    #[test]
    fn every_parameter_can_come_as_a_preference() {
        use prost_reflect::ReflectMessage as _;
        let samples: Vec<(&str, Tree)> = vec![
            ("temperature", Tree::Number("0.5".into())),
            ("topP", Tree::Number("0.5".into())),
            ("topK", Tree::Number("5".into())),
            ("maxTokens", Tree::Number("5".into())),
            ("frequencyPenalty", Tree::Number("0.5".into())),
            ("presencePenalty", Tree::Number("0.5".into())),
            ("stopSequences", Tree::List(vec![Tree::Text("x".into())])),
            ("seed", Tree::Number("5".into())),
            ("systemPrompt", Tree::Text("x".into())),
            ("stream", Tree::Bool(true)),
            ("toolChoice", Tree::Text("auto".into())),
            ("parallelToolCalls", Tree::Bool(false)),
            ("reasoningEffort", Tree::Text("high".into())),
            ("thinkingMode", Tree::Bool(true)),
            ("thinkingTokens", Tree::Number("5".into())),
            ("chainOfThought", Tree::Bool(true)),
        ];
        let mut spec = PromptTemplateSpec::default();
        for (key, value) in &samples {
            assert!(matches!(take(&mut spec, key, value), Taken::As(_)), "{key}");
            assert!(matches!(take(&mut spec, &setting_key::normalise(key), value), Taken::As(_)), "{key}");
            assert!(matches!(take(&mut spec, key, &Tree::Map(Vec::new())), Taken::Wrong(_)), "{key}");
            assert!(matches!(take(&mut spec, key, &Tree::Null), Taken::As(_)), "{key}");
        }
        let parts = [
            spec.generation.clone().unwrap_or_default().transcode_to_dynamic(),
            spec.chat.clone().unwrap_or_default().transcode_to_dynamic(),
            spec.reasoning.unwrap_or_default().transcode_to_dynamic(),
        ];
        for part in parts {
            for field in part.descriptor().fields() {
                assert!(part.has_field(&field), "{} has no preference", field.full_name());
            }
        }
        assert_eq!(GenerationParameters::default().descriptor().fields().len(), 8);
        assert!(matches!(take(&mut spec, "favouriteColour", &Tree::Null), Taken::Unknown));
    }
}
