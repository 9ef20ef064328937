//! Whether a model takes what a template asks of it, by what the catalogue says of the model.
//!
//! What the catalogue does not know is not held against anybody: unset limits, ranges and lists allow everything.

use super::{
    contract::{ModelContract, ProviderContract},
    parameters::PARAMETERS,
};
use crate::{
    domain::{FieldViolation, Violations},
    proto::v1::{
        GenerationParameters, MessageRole, Modality, ModelCapability, ModelSpec, PromptTemplateSpec,
        ReasoningEffort, ReasoningParameters, ReasoningSupport, ThinkingMode,
    },
};

const REASON: &str = "NOT_SUPPORTED";
const MODEL: &str = "prompt_template.model";
/// What stands for the model in a description; [`misfits`] puts its name there.
const THE_MODEL: &str = "the model";
/// Models that are named in an error.
const NAMED: usize = 10;

/// Everything that a model does not take of a template, with what it takes instead, and which model that is.
pub(super) fn misfits(template: &PromptTemplateSpec, model: &ModelContract<'_>) -> Vec<FieldViolation> {
    let mut violations = Violations::default();
    if let Some(problem) = no_chat_model(model) {
        // All else that it does not take follows from that.
        violations.add(MODEL, REASON, problem);
        return violations.into_vec();
    }
    let mut found = held_against(template, model);
    if !template.model.is_empty() {
        for violation in &mut found {
            violation.description = violation.description.replacen(THE_MODEL, &template.model, 1);
        }
    }
    found
}

fn held_against(template: &PromptTemplateSpec, model: &ModelContract<'_>) -> Vec<FieldViolation> {
    let mut violations = Violations::default();
    if let Some(given) = &template.generation {
        check_generation(given, model, &mut violations);
    }
    check_chat(template, model, &mut violations);
    if let Some(given) = &template.reasoning {
        check_reasoning(given, model, &mut violations);
    }
    violations.into_vec()
}

/// Everything that a model does not take of a call, under the names that calls have for them; `template` has the call's
/// parameters and tools, and the model's name.
pub fn misfits_of_call(template: &PromptTemplateSpec, model: &ModelSpec) -> Vec<FieldViolation> {
    let of_call = |violation: FieldViolation| FieldViolation {
        field: violation.field.trim_start_matches("prompt_template.").to_owned(),
        ..violation
    };
    misfits(template, &ModelContract::of(model)).into_iter().map(of_call).collect()
}

/// Whether the provider that a template names may be asked for its model: `models` says which may be used.
pub(super) fn not_offered(
    template: &PromptTemplateSpec,
    provider: &ProviderContract<'_>,
    model: &ModelContract<'_>,
) -> Option<FieldViolation> {
    if provider.models.is_empty() || provider.models.iter().any(|id| id == model.model_id) {
        return None;
    }
    let mut allowed: Vec<String> = provider.models.iter().take(NAMED).cloned().collect();
    if provider.models.len() > NAMED {
        allowed.push(format!("{} more", provider.models.len() - NAMED));
    }
    let problem = format!(
        "must be a model that {} may be asked for: its `models` are {}; add `{}` there, or name another model",
        template.provider,
        allowed.join(", "),
        model.model_id
    );
    let mut violations = Violations::default();
    violations.add(MODEL, "NOT_ALLOWED", problem);
    violations.into_vec().pop()
}

fn no_chat_model(model: &ModelContract<'_>) -> Option<&'static str> {
    let writes = model.output_modalities;
    if lacks(model, ModelCapability::Chat) {
        return Some("must be a model that chats: MODEL_CAPABILITY_CHAT is not in its capabilities");
    }
    let silent = !writes.is_empty() && !writes.contains(&Modality::Text.into());
    silent.then_some("must be a model that writes text: MODALITY_TEXT is not in its output_modalities")
}

fn check_generation(given: &GenerationParameters, model: &ModelContract<'_>, violations: &mut Violations) {
    let path = |field: &str| format!("prompt_template.generation.{field}");
    let most = model.max_output_tokens;
    if most > 0 && given.max_tokens.is_some_and(|tokens| tokens > most) {
        violations.add(path("max_tokens"), REASON, format!("must be at most {most}, which the model gives"));
    }
    let Some(support) = model.parameters else { return };
    for parameter in &PARAMETERS {
        let (Some(value), Some(range)) = ((parameter.given)(given), (parameter.support)(support)) else {
            continue;
        };
        let least = range.minimum.unwrap_or(parameter.least);
        let most = range.maximum.unwrap_or(parameter.most);
        if range.supported == Some(false) {
            violations.add(
                path(parameter.name),
                REASON,
                "must be left out, because the model does not take it",
            );
        } else if !(least..=most).contains(&value) {
            let problem = format!("must be from {least} to {most}, which the model takes");
            violations.add(path(parameter.name), REASON, problem);
        }
    }
    if let Some(most) = support.max_stop_sequences
        && given.stop_sequences.len() > most as usize
    {
        let problem = format!("must be at most {most}, which the model takes");
        violations.add(path("stop_sequences"), REASON, problem);
    }
    if given.seed.is_some() && support.seed == Some(false) {
        violations.add(path("seed"), REASON, "must be left out, because the model does not take it");
    }
}

/// Only what the template asks for itself: what is filled in stands for nothing where there are no tools.
fn check_chat(template: &PromptTemplateSpec, model: &ModelContract<'_>, violations: &mut Violations) {
    if !template.tools.is_empty() && lacks(model, ModelCapability::Tools) {
        let problem = "must be empty, because the model calls no tools: MODEL_CAPABILITY_TOOLS is not in its capabilities";
        violations.add("prompt_template.tools", REASON, problem);
    }
    let parallel = template.chat.as_ref().and_then(|chat| chat.parallel_tool_calls).unwrap_or_default();
    // Catalogues that are imported do not all tell of it.
    let known = !model.imported && !lacks(model, ModelCapability::Tools);
    if !template.tools.is_empty() && parallel && known && lacks(model, ModelCapability::ParallelToolCalls) {
        let problem = "must be false, because the model calls one tool at a time: \
                       MODEL_CAPABILITY_PARALLEL_TOOL_CALLS is not in its capabilities";
        violations.add("prompt_template.chat.parallel_tool_calls", REASON, problem);
    }
    check_system_prompts(template, model, violations);
    let streamed = template.chat.as_ref().and_then(|chat| chat.stream).unwrap_or_default();
    if streamed && lacks(model, ModelCapability::Streaming) {
        let problem = "must be false, because the model does not stream: MODEL_CAPABILITY_STREAMING is not in its capabilities";
        violations.add("prompt_template.chat.stream", REASON, problem);
    }
}

fn check_system_prompts(
    template: &PromptTemplateSpec,
    model: &ModelContract<'_>,
    violations: &mut Violations,
) {
    if !lacks(model, ModelCapability::SystemPrompt) {
        return;
    }
    const PROBLEM: &str =
        "because the model takes no system prompt: MODEL_CAPABILITY_SYSTEM_PROMPT is not in its capabilities";
    if template.chat.as_ref().is_some_and(|chat| !chat.system_prompt.is_empty()) {
        let problem = format!("must be left out, {PROBLEM}; say it in the prompt itself");
        violations.add("prompt_template.chat.system_prompt", REASON, problem);
    }
    for (index, message) in template.messages.iter().enumerate() {
        if message.role() == MessageRole::System {
            let path = format!("prompt_template.messages[{index}].role");
            violations.add(path, REASON, format!("must be MESSAGE_ROLE_USER, {PROBLEM}"));
        }
    }
}

fn check_reasoning(given: &ReasoningParameters, model: &ModelContract<'_>, violations: &mut Violations) {
    // A model that can't think is not to be told about it, but for that it should not.
    let idle = matches!(given.effort(), ReasoningEffort::Unspecified | ReasoningEffort::None)
        && matches!(given.thinking_mode(), ThinkingMode::Unspecified | ThinkingMode::Disabled)
        && given.thinking_tokens.is_none()
        && !given.chain_of_thought.unwrap_or_default();
    if lacks(model, ModelCapability::Reasoning) {
        if !idle {
            let problem = "must be left out, because the model does not reason: MODEL_CAPABILITY_REASONING is not in \
                           its capabilities";
            violations.add("prompt_template.reasoning", REASON, problem);
        }
        return;
    }
    if let Some(support) = model.reasoning {
        check_support(given, support, violations);
    }
    if let Some(problem) = given.thinking_tokens.and_then(|tokens| budget_problem(tokens, model)) {
        violations.add("prompt_template.reasoning.thinking_tokens", REASON, problem);
    }
}

fn check_support(given: &ReasoningParameters, support: &ReasoningSupport, violations: &mut Violations) {
    let efforts: Vec<&str> = support.efforts().map(|effort| effort.as_str_name()).collect();
    if given.effort() != ReasoningEffort::Unspecified && !support.efforts.contains(&given.effort) {
        violations.add("prompt_template.reasoning.effort", REASON, one_of(&efforts));
    }
    let modes: Vec<&str> = support.thinking_modes().map(|mode| mode.as_str_name()).collect();
    if given.thinking_mode() != ThinkingMode::Unspecified
        && !support.thinking_modes.contains(&given.thinking_mode)
    {
        violations.add("prompt_template.reasoning.thinking_mode", REASON, one_of(&modes));
    }
    if given.chain_of_thought == Some(true) && support.chain_of_thought == Some(false) {
        let problem = "must be false, because the model does not show its chain of thought";
        violations.add("prompt_template.reasoning.chain_of_thought", REASON, problem);
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => "must be left out, because `reasoning` of the model lists none that it takes".to_owned(),
        words => format!("must be one of {}, which the model takes", words.join(", ")),
    }
}

/// What is wrong with a budget of thoughts, by what the model says of budgets and of the length of its answers, of which
/// thoughts are a part.
fn budget_problem(tokens: u32, model: &ModelContract<'_>) -> Option<String> {
    let most = model.max_output_tokens;
    let unsupported = model.reasoning.and_then(|support| unsupported_budget(tokens, support));
    let no_room = || {
        (most > 0 && tokens >= most)
            .then(|| format!("must be less than {most}, which the model gives with its thoughts among them"))
    };
    unsupported.or_else(no_room)
}

fn unsupported_budget(tokens: u32, support: &ReasoningSupport) -> Option<String> {
    match (support.min_thinking_tokens, support.max_thinking_tokens) {
        (None, None) => Some("must be left out, because the model takes no budget".to_owned()),
        (Some(least), None) if tokens < least => {
            Some(format!("must be at least {least}, which the model takes"))
        }
        (None, Some(most)) if tokens > most => Some(format!("must be at most {most}, which the model takes")),
        (Some(least), Some(most)) if !(least..=most).contains(&tokens) => {
            Some(format!("must be from {least} to {most}, which the model takes"))
        }
        _ => None,
    }
}

/// Whether the catalogue says what the model can do, and this is not among it.
fn lacks(model: &ModelContract<'_>, capability: ModelCapability) -> bool {
    !model.capabilities.is_empty() && !model.capabilities.contains(&capability.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{
        ChatParameters, ModelLimits, ModelSource, ParameterRange, ParameterSupport, ProviderSpec,
    };

    /// A model that takes something of everything, but no penalties.
    fn model() -> ModelSpec {
        let none = Some(ParameterRange { supported: Some(false), ..Default::default() });
        ModelSpec {
            limits: Some(ModelLimits { max_output_tokens: 4096, ..Default::default() }),
            capabilities: vec![ModelCapability::Chat.into(), ModelCapability::Reasoning.into()],
            parameters: Some(ParameterSupport {
                temperature: Some(ParameterRange {
                    supported: Some(true),
                    minimum: None,
                    maximum: Some(1.0),
                }),
                frequency_penalty: none,
                max_stop_sequences: Some(1),
                seed: Some(false),
                ..Default::default()
            }),
            reasoning: Some(ReasoningSupport {
                efforts: vec![ReasoningEffort::Low.into(), ReasoningEffort::High.into()],
                max_thinking_tokens: Some(1000),
                chain_of_thought: Some(false),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn wrong(model: &ModelSpec, change: impl FnOnce(&mut PromptTemplateSpec)) -> Vec<(String, String)> {
        let mut template = PromptTemplateSpec::default();
        change(&mut template);
        let found = misfits(&template, &ModelContract::of(model)).into_iter();
        found
            .map(|violation| {
                assert_eq!(violation.reason, "NOT_SUPPORTED");
                (violation.field.replace("prompt_template.", ""), violation.description)
            })
            .collect()
    }

    #[test]
    fn what_a_model_does_not_take_is_refused_with_what_it_takes() {
        let generation = |change: fn(&mut GenerationParameters)| {
            wrong(&model(), |template| change(template.generation.get_or_insert_default()))
        };
        let reasoning = |change: fn(&mut ReasoningParameters)| {
            wrong(&model(), |template| change(template.reasoning.get_or_insert_default()))
        };
        for (found, field, words) in [
            (generation(|given| given.max_tokens = Some(4097)), "generation.max_tokens", "at most 4096"),
            (generation(|given| given.temperature = Some(1.5)), "generation.temperature", "from 0 to 1,"),
            (
                generation(|given| given.frequency_penalty = Some(0.0)),
                "generation.frequency_penalty",
                "left out",
            ),
            (
                generation(|given| given.stop_sequences = vec!["a".into(), "b".into()]),
                "generation.stop_sequences",
                "at most 1",
            ),
            (generation(|given| given.seed = Some(1)), "generation.seed", "left out"),
            (
                reasoning(|given| given.set_effort(ReasoningEffort::Medium)),
                "reasoning.effort",
                "one of REASONING_EFFORT_LOW, REASONING_EFFORT_HIGH",
            ),
            (
                reasoning(|given| given.set_thinking_mode(ThinkingMode::Enabled)),
                "reasoning.thinking_mode",
                "left out",
            ),
            (
                reasoning(|given| given.thinking_tokens = Some(1001)),
                "reasoning.thinking_tokens",
                "at most 1000",
            ),
            (
                reasoning(|given| given.chain_of_thought = Some(true)),
                "reasoning.chain_of_thought",
                "be false",
            ),
            (wrong(&model(), |template| template.tools = vec!["tools/a".into()]), "tools", "be empty"),
            (
                wrong(&model(), |template| {
                    template.chat = Some(ChatParameters { stream: Some(true), ..Default::default() });
                }),
                "chat.stream",
                "be false",
            ),
        ] {
            let [(path, description)] = &found[..] else { panic!("{field}: {found:?}") };
            assert_eq!(path, field);
            assert!(description.contains(words), "{field}: {description}");
        }
        assert_eq!(generation(|given| (given.temperature, given.max_tokens) = (Some(1.0), Some(4096))), []);
        assert_eq!(reasoning(|given| (given.effort, given.thinking_tokens) = (3, Some(1000))), []);
    }

    #[test]
    fn regression_a_budget_of_thoughts_leaves_room_for_an_answer() {
        let mut model = model();
        model.reasoning = Some(ReasoningSupport { min_thinking_tokens: Some(100), ..Default::default() });
        let budget = |model: &ModelSpec, tokens: u32| {
            wrong(model, |template| {
                template.reasoning =
                    Some(ReasoningParameters { thinking_tokens: Some(tokens), ..Default::default() });
            })
        };
        let [(path, told)] = &budget(&model, 4096)[..] else { panic!("one is wrong") };
        assert!(path == "reasoning.thinking_tokens" && told.contains("less than 4096"), "{path}: {told}");
        assert_eq!(budget(&model, 4095), []);
        model.reasoning = None;
        assert_eq!(budget(&model, 4096).len(), 1, "nothing is said of budgets, but of answers");
        model.limits = None;
        assert_eq!(budget(&model, 4096), []);
    }

    #[test]
    fn regression_system_prompts_and_parallel_calls_are_held_against_the_model() {
        use crate::proto::v1::PromptMessage;
        let mut model = ModelSpec {
            capabilities: vec![ModelCapability::Chat.into(), ModelCapability::Tools.into()],
            ..Default::default()
        };
        let given = |template: &mut PromptTemplateSpec| {
            template.tools = vec!["tools/a".into()];
            template.chat = Some(ChatParameters {
                system_prompt: "Be brief.".into(),
                parallel_tool_calls: Some(true),
                ..Default::default()
            });
            template.messages =
                vec![PromptMessage { role: MessageRole::System.into(), content: "Be brief.".into() }];
        };
        let fields =
            |model: &ModelSpec| wrong(model, given).into_iter().map(|(field, _)| field).collect::<Vec<_>>();
        assert_eq!(fields(&model), ["chat.parallel_tool_calls", "chat.system_prompt", "messages[0].role"]);
        let without = |template: &mut PromptTemplateSpec| {
            template.chat = Some(ChatParameters { parallel_tool_calls: Some(true), ..Default::default() });
        };
        assert_eq!(
            wrong(&model, without),
            [],
            "what is filled in stands for nothing where there are no tools"
        );
        model.source = ModelSource::Imported.into();
        model.capabilities.push(ModelCapability::SystemPrompt.into());
        assert_eq!(wrong(&model, given), [], "an imported catalogue may not tell of parallel calls");
    }

    #[test]
    fn what_is_not_known_is_not_refused() {
        let everything = |template: &mut PromptTemplateSpec| {
            template.generation =
                Some(GenerationParameters { temperature: Some(2.0), seed: Some(1), ..Default::default() });
            template.chat = Some(ChatParameters { stream: Some(true), ..Default::default() });
            template.tools = vec!["tools/a".into()];
            template.reasoning =
                Some(ReasoningParameters { effort: 5, thinking_tokens: Some(9), ..Default::default() });
        };
        assert_eq!(wrong(&ModelSpec::default(), everything), []);
        let mut plain = ModelSpec { capabilities: vec![ModelCapability::Chat.into()], ..Default::default() };
        let fields: Vec<String> = wrong(&plain, everything).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["tools", "chat.stream", "reasoning"]);
        plain.reasoning = Some(ReasoningSupport::default());
        let idle = |template: &mut PromptTemplateSpec| {
            template.reasoning = Some(ReasoningParameters { thinking_mode: 1, ..Default::default() });
        };
        assert_eq!(wrong(&plain, idle), [], "a model that can't think may be told not to");
    }

    #[test]
    fn regression_a_template_is_for_a_model_that_chats() {
        let embeds =
            ModelSpec { capabilities: vec![ModelCapability::Embeddings.into()], ..Default::default() };
        let streamed = |template: &mut PromptTemplateSpec| {
            template.chat = Some(ChatParameters { stream: Some(true), ..Default::default() });
        };
        let [(path, told)] = &wrong(&embeds, streamed)[..] else { panic!("one is enough") };
        assert!(path == "model" && told.contains("MODEL_CAPABILITY_CHAT"), "{path}: {told}");
        let draws = ModelSpec { output_modalities: vec![Modality::Image.into()], ..Default::default() };
        assert_eq!(wrong(&draws, |_| ())[0].0, "model");
        let both = vec![Modality::Image.into(), Modality::Text.into()];
        assert_eq!(wrong(&ModelSpec { output_modalities: both, ..Default::default() }, |_| ()), []);
    }

    #[test]
    fn regression_the_models_of_the_provider_are_those_that_may_be_used() {
        let template = PromptTemplateSpec { provider: "providers/groq".into(), ..Default::default() };
        let model = ModelSpec { model_id: "meta/c".into(), ..Default::default() };
        let told = |models: &[&str]| {
            let models = models.iter().map(|id| (*id).to_owned()).collect();
            let provider = ProviderSpec { models, ..Default::default() };
            not_offered(&template, &ProviderContract::of(&provider), &ModelContract::of(&model))
        };
        assert_eq!((told(&[]), told(&["a", "meta/c"])), (None, None));
        let violation = told(&["a", "b"]).unwrap();
        assert_eq!((violation.field.as_str(), violation.reason), ("prompt_template.model", "NOT_ALLOWED"));
        assert!(violation.description.contains("providers/groq") && violation.description.contains("a, b;"));
        let many: Vec<String> = (0..12).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(told(&many).unwrap().description.contains("9, 2 more;"));
    }

    #[test]
    fn budgets_have_one_bound_or_two() {
        let problem = |tokens, least, most| {
            let support = ReasoningSupport {
                min_thinking_tokens: least,
                max_thinking_tokens: most,
                ..Default::default()
            };
            unsupported_budget(tokens, &support).unwrap_or_default()
        };
        assert!(problem(1, None, None).contains("no budget"));
        assert!(problem(1, Some(2), None).contains("at least 2"));
        assert!(problem(4, Some(2), Some(3)).contains("from 2 to 3"));
        assert_eq!(
            problem(3, Some(2), Some(3)) + &problem(3, Some(2), None) + &problem(3, None, Some(3)),
            ""
        );
    }
}
