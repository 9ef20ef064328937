//! Prompt templates: `promptTemplates/{id}`.
//!
//! Must not know how a template is filled; it sees to it that what a text leaves open is declared, that parameters are
//! within their ranges, and that the model which is named takes them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CheckContext, Contract, Contracts, Kind, Outlook, Reference, Remark, Says, Targets, Turn,
    contract::ModelContract,
    credential, json, model, model_fit,
    parameters::{PROMPT_CHARS, check_chat, check_generation, check_reasoning, chosen_tool},
    provider_types::{defaults, type_of_word},
    references,
    rules::{DESCRIPTION_CHARS, NAME_CHARS, check_choice},
    template_text::{BraceError, Usage, is_name, single_braced, usages},
};
use crate::{
    choice::type_word,
    domain::{FeatureLevel, FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::{
        MessageRole, ModelSpec, PromptMessage, PromptTemplateSpec, ProviderSpec, ProviderType,
        TemplateVariable, ThinkingMode, VariableType,
    },
    wire,
};

/// The kind `prompt_template`.
pub struct PromptTemplate;

const MAX_MESSAGES: usize = 64;
const MAX_VARIABLES: usize = 100;
const MAX_TOOLS: usize = 128;
const DEFAULT_CHARS: usize = 4096;
const JSON: json::Bounds = json::Bounds { depth: 64, nodes: 10_000 };

impl Kind for PromptTemplate {
    fn name(&self) -> KindName {
        KindName("prompt_template")
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["promptTemplates/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        let Spec::PromptTemplate(spec) = spec else { return };
        spec.chat.get_or_insert_default().parallel_tool_calls.get_or_insert(true);
        for variable in &mut spec.variables {
            if variable.r#type == i32::from(VariableType::Unspecified) {
                variable.r#type = VariableType::String.into();
            }
            variable.required.get_or_insert(variable.default_value.is_none());
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::PromptTemplate(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        violations.text("prompt_template.display_name", &spec.display_name, Text::Line, NAME_CHARS);
        violations.text("prompt_template.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        check_template(spec, &mut violations);
        check_messages(spec, &mut violations);
        check_variables(&spec.variables, &mut violations);
        check_usages(spec, &mut violations);
        check_all_parameters(spec, &mut violations);
        check_named(spec, &mut violations);
        violations.into_vec()
    }

    fn warnings(&self, _before: Option<&Spec>, after: &Spec) -> Vec<String> {
        let Spec::PromptTemplate(spec) = after else { return Vec::new() };
        let used: BTreeSet<&str> =
            texts(spec).filter_map(|(_, text)| usages(text).ok()).flatten().map(|usage| usage.name).collect();
        let unused = |(index, variable): (usize, &TemplateVariable)| {
            (!used.contains(variable.name.as_str()))
                .then(|| format!("`prompt_template.variables[{index}]` is declared, but no text uses it"))
        };
        let unused = spec.variables.iter().enumerate().filter_map(unused);
        let foreign = texts(spec).filter_map(|(path, text)| {
            // What may be a secret in the wrong place is not repeated.
            let name = single_braced(text).filter(|name| credential::found_in(name).is_none())?;
            Some(format!(
                "`{path}` has `{{{name}}}`, which is sent as it stands: a variable has two braces, `{{{{{name}}}}}`, and is \
                 declared in `variables`"
            ))
        });
        unused.chain(foreign).collect()
    }

    fn refers_to(&self) -> &'static [KindName] {
        &[KindName("provider"), KindName("model"), KindName("tool")]
    }

    fn references(&self, spec: &Spec) -> Vec<Reference> {
        let Spec::PromptTemplate(spec) = spec else { return Vec::new() };
        let named = [("provider", &spec.provider), ("model", &spec.model)]
            .into_iter()
            .filter_map(|(field, name)| references::reference(format!("prompt_template.{field}"), name));
        let tools = spec.tools.iter().enumerate().filter_map(|(index, name)| {
            references::reference(format!("prompt_template.tools[{index}]"), name)
        });
        named.chain(tools).chain(chosen_tool("prompt_template.chat", spec.chat.as_ref())).collect()
    }

    fn check_targets(&self, spec: &Spec, contracts: &Contracts<'_>) -> Vec<FieldViolation> {
        let Spec::PromptTemplate(spec) = spec else { return Vec::new() };
        let Some(Contract::Model(model)) = contracts.get(spec.model.as_str()) else { return Vec::new() };
        let mut violations = model_fit::misfits(spec, model);
        if let Some(Contract::Provider(provider)) = contracts.get(spec.provider.as_str()) {
            violations.extend(model_fit::not_offered(spec, provider, model));
        }
        violations
    }

    fn warn_of_targets(&self, spec: &Spec, targets: &Targets<'_>) -> Vec<String> {
        let Spec::PromptTemplate(spec) = spec else { return Vec::new() };
        let model = match targets.get(spec.model.as_str()) {
            Some(Spec::Model(model)) => Some(model),
            _ => None,
        };
        let provider = match targets.get(spec.provider.as_str()) {
            Some(Spec::Provider(provider)) => Some(provider),
            _ => None,
        };
        let mut warnings: Vec<String> = model.and_then(deprecated).into_iter().collect();
        if let (Some(_), Some(provider)) = (model, provider) {
            warnings.extend(of_another_provider(spec, provider.r#type()));
        }
        warnings.extend(function_named_twice(spec, targets));
        let assumed = provider.is_none().then(|| maker_of(spec)).flatten();
        if let Some(provider) = provider.or(assumed.as_ref()) {
            warnings.extend(not_sent(spec, provider, model, targets));
        }
        warnings
    }

    fn judges(&self) -> &'static [KindName] {
        &[KindName("model"), KindName("provider")]
    }

    fn remarks(&self, turn: &Turn<'_>, outlook: &dyn Outlook) -> Vec<Remark> {
        match turn.after {
            Some(Spec::PromptTemplate(spec)) => of_default_model(spec, outlook).unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// What the default model of the provider does not take, where the template names no model. Said and not refused: another
/// one may become the default, and a caller may name one.
fn of_default_model(spec: &PromptTemplateSpec, outlook: &dyn Outlook) -> Option<Vec<Remark>> {
    if spec.provider.is_empty() || !spec.model.is_empty() {
        return None;
    }
    let Some(Spec::Provider(provider)) = outlook.find(&spec.provider) else { return None };
    let owner = spec.provider.rsplit('/').next()?;
    let segment = model::segment_of(&provider.default_model);
    let names = [owner, &type_word(provider.r#type())].map(|owner| format!("models/{owner}/{segment}"));
    let (name, model) = names.into_iter().find_map(|name| match outlook.find(&name) {
        Some(Spec::Model(model)) if model.model_id == provider.default_model => Some((name, model)),
        _ => None,
    })?;
    let remark = |FieldViolation { field, description, .. }: FieldViolation| Remark {
        because: name.clone(),
        says: Says::Warning(format!(
            "`{field}` {description}: {name} is the default model of {}, which calls go to",
            spec.provider
        )),
    };
    Some(model_fit::misfits(spec, &ModelContract::of(model)).into_iter().map(remark).collect())
}

fn check_template(spec: &PromptTemplateSpec, violations: &mut Violations) {
    let path = "prompt_template.template";
    if spec.template.is_empty() && spec.messages.is_empty() {
        let problem =
            "is required where there are no messages: write the prompt, for example `Summarise: {{text}}`";
        violations.add(path, "REQUIRED", problem);
    }
    violations.text(path, &spec.template, Text::Value, PROMPT_CHARS);
}

fn check_messages(spec: &PromptTemplateSpec, violations: &mut Violations) {
    violations.at_most("prompt_template.messages", spec.messages.len(), MAX_MESSAGES, "messages");
    let prompted = spec.chat.as_ref().is_some_and(|chat| !chat.system_prompt.is_empty());
    for (index, PromptMessage { role, content }) in spec.messages.iter().enumerate().take(MAX_MESSAGES) {
        let path = format!("prompt_template.messages[{index}].role");
        check_choice::<MessageRole>(violations, &path, *role);
        match MessageRole::try_from(*role) {
            Ok(MessageRole::Unspecified) => {
                let problem = "is required: MESSAGE_ROLE_SYSTEM, MESSAGE_ROLE_USER or MESSAGE_ROLE_ASSISTANT";
                violations.add(path, "REQUIRED", problem);
            }
            Ok(MessageRole::System) if prompted => {
                let problem =
                    "must not be MESSAGE_ROLE_SYSTEM beside `chat.system_prompt`; keep one of the two";
                violations.add(path, "NOT_ALLOWED", problem);
            }
            _ => {}
        }
        let path = format!("prompt_template.messages[{index}].content");
        violations.required(&path, content, Text::Value, PROMPT_CHARS);
    }
}

fn check_variables(variables: &[TemplateVariable], violations: &mut Violations) {
    violations.at_most("prompt_template.variables", variables.len(), MAX_VARIABLES, "variables");
    let mut seen = BTreeSet::new();
    for (index, variable) in variables.iter().enumerate().take(MAX_VARIABLES) {
        let path = format!("prompt_template.variables[{index}]");
        if !is_name(&variable.name) {
            let problem =
                "must begin with a letter or `_` and go on with letters, digits and `_`, at most 64 in ASCII";
            violations.add(format!("{path}.name"), "INVALID_FORMAT", problem);
        } else if !seen.insert(&variable.name) {
            violations.add(format!("{path}.name"), "DUPLICATE", "is declared twice; declare it once");
        }
        check_choice::<VariableType>(violations, &format!("{path}.type"), variable.r#type);
        check_default(&path, variable, violations);
        violations.text(
            &format!("{path}.description"),
            &variable.description,
            Text::Prose,
            DESCRIPTION_CHARS,
        );
    }
}

fn check_default(path: &str, variable: &TemplateVariable, violations: &mut Violations) {
    let Some(value) = &variable.default_value else { return };
    if variable.required == Some(true) {
        let problem = "must be false or left out where there is a `default_value`";
        violations.add(format!("{path}.required"), "NOT_ALLOWED", problem);
    }
    let path = format!("{path}.default_value");
    violations.text(&path, value, Text::Value, DEFAULT_CHARS);
    let (right, wanted) = match variable.r#type() {
        VariableType::Unspecified | VariableType::String => return,
        VariableType::Integer => (value.parse::<i64>().is_ok(), "a whole number such as `5`"),
        VariableType::Number => (value.parse::<f64>().is_ok_and(f64::is_finite), "a number such as `0.5`"),
        VariableType::Boolean => (matches!(value.as_str(), "true" | "false"), "`true` or `false`"),
        VariableType::Json => (json::check(value, JSON).is_ok(), "a JSON document such as `[\"a\"]`"),
    };
    if !right {
        violations.add(path, "INVALID_FORMAT", format!("must be {wanted}, because of the variable's type"));
    }
}

/// The texts that may use variables, with their paths.
fn texts(spec: &PromptTemplateSpec) -> impl Iterator<Item = (String, &str)> {
    let template = ("prompt_template.template".to_owned(), spec.template.as_str());
    let messages = spec.messages.iter().enumerate().take(MAX_MESSAGES).map(|(index, message)| {
        (format!("prompt_template.messages[{index}].content"), message.content.as_str())
    });
    let system = spec
        .chat
        .iter()
        .map(|chat| ("prompt_template.chat.system_prompt".to_owned(), chat.system_prompt.as_str()));
    std::iter::once(template).chain(messages).chain(system)
}

fn check_usages(spec: &PromptTemplateSpec, violations: &mut Violations) {
    let declared: BTreeSet<&str> = spec.variables.iter().map(|variable| variable.name.as_str()).collect();
    for (path, text) in texts(spec) {
        match usages(text) {
            Err(BraceError::Unclosed(at)) => {
                let problem = format!(
                    "opens `{{{{` at character {at} and never closes it; end the variable with `}}}}`, or write \
                     `{{{{\"{{{{\"}}}}` for two opening braces"
                );
                violations.add(path, "INVALID_FORMAT", problem);
            }
            Err(BraceError::NoName(at)) => {
                let problem = format!(
                    "has something between the braces at character {at} that is no variable; variables are letters, \
                     digits and `_`, and `{{{{\"{{{{\"}}}}` stands for two opening braces"
                );
                violations.add(path, "INVALID_FORMAT", problem);
            }
            Ok(found) => check_declared(&path, &found, &declared, violations),
        }
    }
}

fn check_declared(path: &str, found: &[Usage<'_>], declared: &BTreeSet<&str>, violations: &mut Violations) {
    let mut missed = BTreeSet::new();
    let undeclared = found.iter().filter(|usage| !declared.contains(usage.name));
    for Usage { name, at } in undeclared.filter(|usage| missed.insert(usage.name)).take(MAX_VARIABLES) {
        // What may be a secret in the wrong place is not repeated.
        let named = match credential::found_in(name) {
            None => format!("`{{{{{name}}}}}`"),
            Some(_) => "a variable".to_owned(),
        };
        let problem =
            format!("uses {named} at character {at}, which is not in `variables`; declare it there");
        violations.add(path, "UNDECLARED_VARIABLE", problem);
    }
}

fn check_all_parameters(spec: &PromptTemplateSpec, violations: &mut Violations) {
    if let Some(given) = &spec.generation {
        check_generation("prompt_template.generation", given, violations);
    }
    if let Some(given) = &spec.chat {
        check_chat("prompt_template.chat", given, &spec.tools, violations);
    }
    if let Some(given) = &spec.reasoning {
        let most = spec.generation.as_ref().and_then(|given| given.max_tokens);
        check_reasoning("prompt_template.reasoning", given, most, violations);
    }
}

fn check_named(spec: &PromptTemplateSpec, violations: &mut Violations) {
    for (field, name, kind, example) in [
        ("provider", &spec.provider, "provider", "providers/groq"),
        ("model", &spec.model, "model", "models/openai/gpt-4.1"),
    ] {
        if !name.is_empty() {
            let path = format!("prompt_template.{field}");
            references::check(violations, &path, name, KindName(kind), example);
        }
    }
    violations.at_most("prompt_template.tools", spec.tools.len(), MAX_TOOLS, "tools");
    let mut seen = BTreeSet::new();
    for (index, tool) in spec.tools.iter().enumerate().take(MAX_TOOLS) {
        let path = format!("prompt_template.tools[{index}]");
        references::check(violations, &path, tool, KindName("tool"), "tools/search");
        if !seen.insert(tool) {
            violations.add(path, "DUPLICATE", "is listed twice; list it once");
        }
    }
}

/// Said and not refused: a gateway serves the models of others.
fn of_another_provider(spec: &PromptTemplateSpec, provider_type: ProviderType) -> Option<String> {
    let owner = spec.model.split('/').nth(1)?;
    let id = spec.provider.rsplit('/').next()?;
    let word = type_word(provider_type);
    (owner != id && owner != word).then(|| {
        format!(
            "`prompt_template.model` is a model of `{owner}`, and {} is of the type `{word}`: calls fail unless it serves \
             that model",
            spec.provider
        )
    })
}

/// Said and not refused: the tools have their names for themselves, and one may get another.
fn function_named_twice(spec: &PromptTemplateSpec, targets: &Targets<'_>) -> Vec<String> {
    let mut named = BTreeMap::new();
    let mut warnings = Vec::new();
    for (index, name) in spec.tools.iter().enumerate() {
        let Some(Spec::Tool(tool)) = targets.get(name.as_str()) else { continue };
        if let Some(other) = named.insert(&tool.function_name, name).filter(|other| *other != name) {
            warnings.push(format!(
                "`prompt_template.tools[{index}]` has the function name `{}`, as {other} has: providers refuse a call with both",
                tool.function_name
            ));
        }
    }
    warnings
}

/// The provider that a template's model is asked of, where only its type is known: as one of the type is made.
fn maker_of(spec: &PromptTemplateSpec) -> Option<ProviderSpec> {
    let provider_type = type_of_word(spec.model.split('/').nth(1)?)?;
    let endpoint_path = defaults(provider_type.into())?.endpoint_path.to_owned();
    let mut provider = ProviderSpec { r#type: provider_type.into(), endpoint_path, ..Default::default() };
    wire::families::fill(&mut provider);
    Some(provider)
}

/// Said and not refused: the builder may get a place for it, and the template may go to another provider.
fn not_sent(
    spec: &PromptTemplateSpec,
    provider: &ProviderSpec,
    model: Option<&ModelSpec>,
    targets: &Targets<'_>,
) -> Vec<String> {
    // What is wrong with a mapping is told where it is written.
    let Ok(mapping) = wire::Mapping::of(provider) else { return Vec::new() };
    let tool = |name: &String| match targets.get(name.as_str()) {
        Some(Spec::Tool(tool)) => Some(wire::Tool { name: name.clone(), spec: tool.clone() }),
        _ => None,
    };
    let call = wire::Call {
        model: model.map(|model| model.model_id.clone()).unwrap_or_default(),
        messages: Vec::new(),
        generation: spec.generation.clone().unwrap_or_default(),
        chat: spec.chat.clone().unwrap_or_default(),
        reasoning: spec.reasoning.unwrap_or_default(),
        tools: spec.tools.iter().filter_map(tool).collect(),
    };
    let whose = match spec.provider.as_str() {
        "" => format!("a provider of the type `{}` as it is made", type_word(provider.r#type())),
        name => name.to_owned(),
    };
    let newer = as_made_now(provider).map(|mapping| mapping.not_sent(&call));
    let told = |field: &'static str| {
        // The builder is kept with the provider, so that a newer one of its type is not taken by itself.
        let mended = match &newer {
            Some(unsent) if !unsent.contains(&field) => {
                "; that of its type has one now: clear `request_builder` to take it (`--field request_builder=` does)"
            }
            _ => "",
        };
        let why = match &mapping.taken_with(field)[..] {
            [] => format!("has no place for it{mended}"),
            conditions => format!("takes it only with `{}`", conditions.join("` or `")),
        };
        format!("`prompt_template.{field}` is not sent by {whose}: its request builder {why}")
    };
    // Parallel calls are filled in, which stands for nothing, and a mode follows from a budget.
    let asked = |field: &&str| match *field {
        "chat.parallel_tool_calls" => false,
        "reasoning.thinking_mode" => call.reasoning.thinking_mode() != ThinkingMode::Unspecified,
        _ => true,
    };
    let budget = mapping.budget_problem(&call).map(|problem| {
        format!(
            "`prompt_template.reasoning.thinking_tokens` {problem}: calls of {whose} without one are refused"
        )
    });
    let odds = mapping.at_odds(&call).into_iter().map(|(one, other)| {
        format!(
            "`prompt_template.{one}` and `prompt_template.{other}` are both sent by {whose}, side by side: models take one of the \
             two at most, so leave one out"
        )
    });
    mapping.not_sent(&call).into_iter().filter(asked).map(told).chain(budget).chain(odds).collect()
}

/// How a provider would be spoken to if it were made now.
fn as_made_now(provider: &ProviderSpec) -> Option<wire::Mapping> {
    wire::Mapping::of(&ProviderSpec { request_builder: None, ..provider.clone() }).ok()
}

fn deprecated(model: &ModelSpec) -> Option<String> {
    let deprecation = model.deprecation.as_ref().filter(|deprecation| deprecation.deprecated)?;
    let replacement = match deprecation.replacement.as_str() {
        "" => String::new(),
        replacement => format!("; {replacement} is to replace it"),
    };
    Some(format!("`prompt_template.model` names a deprecated model{replacement}"))
}

#[cfg(test)]
pub(super) mod tests;
