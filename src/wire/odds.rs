//! What a call says twice: settings that go side by side into one object, of which a provider takes one.
//!
//! A builder has no words for "only without", so that both are sent. It goes by where things go, and by no provider's name.

use super::{
    builder::{Builder, Entry, Source, Target},
    call::Call,
    parameters::Parameter,
    request::field_of_parameter,
};

/// The pairs of fields of a call that are at odds in what the builder makes of it, by paths from [`Call`].
pub(super) fn at_odds(builder: &Builder, call: &Call, model: &str) -> Vec<(&'static str, &'static str)> {
    let used = |entry: &&Entry| entry.when.as_ref().is_none_or(|condition| condition.holds(call, model));
    let given = |entry: &&Entry| match &entry.source {
        Source::Parameter(parameter) => parameter.of(call, model).is_some() || entry.default.is_some(),
        Source::Literal(_) => true,
    };
    let used: Vec<&Entry> = builder.entries.iter().filter(used).filter(given).collect();
    let mut pairs = Vec::new();
    for one in &used {
        for other in used.iter().filter(|other| are_beside(&one.target, &other.target)) {
            let Some(how_much) = amount(other, call) else { continue };
            let contradicts = match one.source {
                Source::Parameter(Parameter::ReasoningEffort) => true,
                Source::Parameter(Parameter::ChainOfThought) => {
                    call.reasoning.chain_of_thought == Some(true) && wants(other, "disabled")
                }
                _ => false,
            };
            if let (true, Source::Parameter(said)) = (contradicts, &one.source) {
                pairs.push((field_of_parameter(*said), field_of_parameter(how_much)));
            }
        }
    }
    pairs
}

/// The parameter by which an entry says how much is thought, other than by an effort: the budget, or the mode that stands for one.
fn amount(entry: &Entry, call: &Call) -> Option<Parameter> {
    let by_mode = || {
        let condition = entry.when.as_ref()?;
        (condition.parameter == Parameter::ThinkingMode).then_some(Parameter::ThinkingMode)
    };
    match entry.source {
        Source::Parameter(Parameter::ThinkingTokens) if call.reasoning.thinking_tokens.is_some() => {
            Some(Parameter::ThinkingTokens)
        }
        Source::Parameter(Parameter::ThinkingTokens) | Source::Literal(_) => by_mode(),
        Source::Parameter(_) => None,
    }
}

fn wants(entry: &Entry, text: &str) -> bool {
    entry.when.as_ref().is_some_and(|condition| condition.text.as_deref() == Some(text))
}

/// Whether two values go into one object, which is not the whole body.
fn are_beside(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Body(one), Target::Body(other)) => match (one.split_last(), other.split_last()) {
            (Some((name, within)), Some((other, beside))) => {
                !within.is_empty() && within == beside && name != other
            }
            _ => false,
        },
        _ => false,
    }
}
