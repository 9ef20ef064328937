//! Models of the catalogue: `models/{provider}/{model}`.
//!
//! A model's id may hold `/`, which a segment of a name can't. In a name `+` stands for it, and [`ModelSpec::model_id`]
//! keeps the id as calls carry it: filled in from the name, given where a name can't hold it. [`segment_of`] is the way
//! back. What the catalogue says of a model is held against templates by `model_fit`.

use super::{
    CheckContext, Contract, Kind, Outlook, Reference, Remark, Says, Turn,
    contract::ModelContract,
    parameters::{PARAMETERS, Parameter, check_tokens},
    provider_types::type_of_word,
    references,
    rules::{DESCRIPTION_CHARS, NAME_CHARS, check_choice, check_choices, date_problem, decimal_problem},
};
pub use crate::model_id::{model_id_of, segment_of};
use crate::{
    domain::{FeatureLevel, FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::{
        Modality, ModelCapability, ModelDeprecation, ModelLimits, ModelPrices, ModelSource, ModelSpec,
        ParameterRange, ParameterSupport, ReasoningEffort, ReasoningSupport, ThinkingMode,
    },
};

/// The kind `model`.
pub struct Model;

const NAME: KindName = KindName("model");
/// Tokens of a limit, and more than any model has.
const MOST_TOKENS: u32 = 1_000_000_000;
const MOST_STOP_SEQUENCES: u32 = 64;

impl Kind for Model {
    fn name(&self) -> KindName {
        NAME
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["models/{provider}/{model}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, name: &ResourceName) {
        let Spec::Model(spec) = spec else { return };
        if spec.model_id.is_empty() {
            spec.model_id = model_id_of(name.id());
        }
        if spec.source == i32::from(ModelSource::Unspecified) {
            spec.source = ModelSource::Operator.into();
        }
        if let Some(prices) = spec.prices.as_mut().filter(|prices| prices.currency.is_empty()) {
            "USD".clone_into(&mut prices.currency);
        }
        if let Some(support) = &mut spec.parameters {
            ranges_mut(support).into_iter().flatten().for_each(|range| {
                range.supported.get_or_insert(true);
            });
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::Model(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        check_texts(spec, &mut violations);
        check_limits(spec.limits.as_ref(), &mut violations);
        check_choices::<Modality>(&mut violations, "model.input_modalities", &spec.input_modalities);
        check_choices::<Modality>(&mut violations, "model.output_modalities", &spec.output_modalities);
        check_choices::<ModelCapability>(&mut violations, "model.capabilities", &spec.capabilities);
        check_prices(spec.prices.as_ref(), &mut violations);
        check_date("model.knowledge_cutoff", &spec.knowledge_cutoff, &mut violations);
        check_date("model.release_date", &spec.release_date, &mut violations);
        check_deprecation(context.name, spec.deprecation.as_ref(), &mut violations);
        check_parameters(spec.parameters.as_ref(), &mut violations);
        check_reasoning(spec.reasoning.as_ref(), &mut violations);
        check_choice::<ModelSource>(&mut violations, "model.source", spec.source);
        violations.into_vec()
    }

    fn warnings(&self, _before: Option<&Spec>, after: &Spec) -> Vec<String> {
        let Spec::Model(spec) = after else { return Vec::new() };
        [limits_crossed(spec), reasoning_not_listed(spec)].into_iter().flatten().collect()
    }

    fn refers_to(&self) -> &'static [KindName] {
        &[NAME]
    }

    fn references(&self, spec: &Spec) -> Vec<Reference> {
        let Spec::Model(ModelSpec { deprecation: Some(deprecation), .. }) = spec else { return Vec::new() };
        references::reference("model.deprecation.replacement", &deprecation.replacement).into_iter().collect()
    }

    fn contract<'s>(&self, spec: &'s Spec) -> Option<Contract<'s>> {
        let Spec::Model(spec) = spec else { return None };
        Some(Contract::Model(ModelContract::of(spec)))
    }

    fn turns_warnings(&self, before: &Spec, after: &Spec) -> bool {
        let (Spec::Model(before), Spec::Model(after)) = (before, after) else { return false };
        before.deprecation != after.deprecation
    }

    fn remarks(&self, turn: &Turn<'_>, outlook: &dyn Outlook) -> Vec<Remark> {
        of_nobody(turn, outlook).into_iter().collect()
    }
}

/// A new model that no provider here can be asked for. Who brings a foreign catalogue knows that it has more than that.
fn of_nobody(turn: &Turn<'_>, outlook: &dyn Outlook) -> Option<Remark> {
    let (None, Some(Spec::Model(spec))) = (turn.before, turn.after) else { return None };
    let owner = turn.name.as_str().split('/').nth(1)?;
    let provider = format!("providers/{owner}");
    let known = spec.source() != ModelSource::Operator
        || type_of_word(owner).is_some()
        || outlook.find(&provider).is_some();
    let text = format!(
        "`{owner}` is neither the id of a provider nor a type, so that no provider's calls are held against {}: models \
         are named `models/PROVIDER/MODEL`, for example `models/openai/gpt-4.1`",
        turn.name
    );
    (!known).then_some(Remark { because: provider, says: Says::Warning(text) })
}

fn check_texts(spec: &ModelSpec, violations: &mut Violations) {
    let path = "model.model_id";
    violations.required(path, &spec.model_id, Text::Line, NAME_CHARS);
    if spec.model_id.contains(char::is_whitespace) {
        violations.add(path, "INVALID_FORMAT", "must not hold white space; give the id as calls carry it");
    }
    violations.text("model.display_name", &spec.display_name, Text::Line, NAME_CHARS);
    violations.text("model.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
}

fn check_limits(limits: Option<&ModelLimits>, violations: &mut Violations) {
    let Some(limits) = limits else { return };
    for (field, tokens) in [
        ("context_window_tokens", limits.context_window_tokens),
        ("max_input_tokens", limits.max_input_tokens),
        ("max_output_tokens", limits.max_output_tokens),
    ] {
        if tokens > MOST_TOKENS {
            let problem = format!("must be at most {MOST_TOKENS}; 0 is unknown");
            violations.add(format!("model.limits.{field}"), "OUT_OF_RANGE", problem);
        }
    }
}

fn check_prices(prices: Option<&ModelPrices>, violations: &mut Violations) {
    let Some(prices) = prices else { return };
    if prices.currency.len() != 3 || !prices.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let problem = "must be the ISO 4217 code of a currency, three capital letters such as `USD`";
        violations.add("model.prices.currency", "INVALID_FORMAT", problem);
    }
    for (field, price) in [
        ("input", &prices.input),
        ("output", &prices.output),
        ("cached_input", &prices.cached_input),
        ("cache_write", &prices.cache_write),
        ("reasoning", &prices.reasoning),
        ("audio_input", &prices.audio_input),
        ("audio_output", &prices.audio_output),
    ] {
        if let Some(problem) = decimal_problem(price).filter(|_| !price.is_empty()) {
            violations.add(format!("model.prices.{field}"), "INVALID_FORMAT", problem);
        }
    }
}

fn check_date(path: &str, date: &str, violations: &mut Violations) {
    if let Some(problem) = date_problem(date).filter(|_| !date.is_empty()) {
        violations.add(path, "INVALID_FORMAT", problem);
    }
}

fn check_deprecation(name: &ResourceName, given: Option<&ModelDeprecation>, violations: &mut Violations) {
    let Some(deprecation) = given else { return };
    check_date("model.deprecation.date", &deprecation.date, violations);
    let (path, replacement) = ("model.deprecation.replacement", &deprecation.replacement);
    if replacement == name.as_str() {
        violations.add(path, "NOT_ALLOWED", "must be another model than this one");
    } else if !replacement.is_empty() {
        references::check(violations, path, replacement, NAME, "models/openai/gpt-4.1");
    }
}

fn check_parameters(support: Option<&ParameterSupport>, violations: &mut Violations) {
    let Some(support) = support else { return };
    for parameter in &PARAMETERS {
        if let Some(range) = (parameter.support)(support) {
            check_range(parameter, range, violations);
        }
    }
    if support.max_stop_sequences.is_some_and(|most| most > MOST_STOP_SEQUENCES) {
        let problem = format!("must be from 0 to {MOST_STOP_SEQUENCES}");
        violations.add("model.parameters.max_stop_sequences", "OUT_OF_RANGE", problem);
    }
}

fn check_range(parameter: &Parameter, range: &ParameterRange, violations: &mut Violations) {
    let path = format!("model.parameters.{}", parameter.name);
    for (field, value) in [("minimum", range.minimum), ("maximum", range.maximum)] {
        let Some(value) = value else { continue };
        let path = format!("{path}.{field}");
        if !parameter.holds(value) {
            violations.add(path, "OUT_OF_RANGE", parameter.problem());
        } else if range.supported == Some(false) {
            let problem = "must be left out, because `supported` is false; change one of the two";
            violations.add(path, "NOT_ALLOWED", problem);
        }
    }
    if let (Some(minimum), Some(maximum)) = (range.minimum, range.maximum)
        && minimum > maximum
    {
        violations.add(format!("{path}.minimum"), "OUT_OF_RANGE", "must not be larger than `maximum`");
    }
}

fn check_reasoning(support: Option<&ReasoningSupport>, violations: &mut Violations) {
    let Some(support) = support else { return };
    check_choices::<ReasoningEffort>(violations, "model.reasoning.efforts", &support.efforts);
    check_choices::<ThinkingMode>(violations, "model.reasoning.thinking_modes", &support.thinking_modes);
    let path = "model.reasoning.min_thinking_tokens";
    check_tokens(path, support.min_thinking_tokens, violations);
    check_tokens("model.reasoning.max_thinking_tokens", support.max_thinking_tokens, violations);
    if let (Some(least), Some(most)) = (support.min_thinking_tokens, support.max_thinking_tokens)
        && least > most
    {
        violations.add(path, "OUT_OF_RANGE", "must not be larger than `max_thinking_tokens`");
    }
}

fn ranges_mut(support: &mut ParameterSupport) -> [Option<&mut ParameterRange>; 5] {
    let ParameterSupport { temperature, top_p, top_k, frequency_penalty, presence_penalty, .. } = support;
    [temperature, top_p, top_k, frequency_penalty, presence_penalty].map(Option::as_mut)
}

fn limits_crossed(spec: &ModelSpec) -> Option<String> {
    let limits = spec.limits.as_ref().filter(|limits| limits.context_window_tokens > 0)?;
    let window = limits.context_window_tokens;
    (limits.max_input_tokens > window || limits.max_output_tokens > window)
        .then(|| "`limits` let more in or out than `context_window_tokens` holds".to_owned())
}

fn reasoning_not_listed(spec: &ModelSpec) -> Option<String> {
    let listed = spec.capabilities.contains(&ModelCapability::Reasoning.into());
    (spec.reasoning.is_some() && !spec.capabilities.is_empty() && !listed).then(|| {
        "`reasoning` is set, but MODEL_CAPABILITY_REASONING is not in `capabilities`: templates that reason are \
         refused"
            .to_owned()
    })
}

#[cfg(test)]
pub(super) mod tests;
