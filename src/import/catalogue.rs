//! `catalogue`: the models that Signalbox brings along.
//!
//! Its text is written by hand from what the providers publish, and says of which month that is. It holds what is known
//! for sure and leaves out the rest: an empty list of capabilities is unknown, and so is a limit or a price that is not
//! there. Prices are those of the shortest prompts, where longer ones cost more. A model that is already shut down is not in
//! it; one that will be says when. Of reasoning it lists only what a provider of the model's type sends as it is made.
//!
//! What models take of parameters and of reasoning is from:
//! - Claude: platform.claude.com/docs, "Effort" (the levels of each model), "Messages" (temperature is 0 to 1; models after
//!   Opus 4.6 refuse temperature, top_p and top_k; there are no penalties and no seed) and the pages of Sonnet 5 (4.6 still takes
//!   them) and of the 5.5 models (thinking is never off).
//! - Gemini: docs.cloud.google.com, "Thinking" (levels of Gemini 3, budgets of 2.5), and github.com/google-gemini/cookbook/issues/1290
//!   (penalties are refused by every model).
//! - gpt-oss at Groq: console.groq.com/docs, "Reasoning" and the API reference (`include_reasoning`).
//! - Mistral: docs.mistral.ai, "Adjustable reasoning": an effort is none or high.
//! - DeepSeek: api-docs.deepseek.com, "Thinking Mode".
//!
//! Operators' edits survive: what is seeded is labelled as every import is, so that importing a newer catalogue leaves alone
//! what a person has changed.

use serde::Deserialize;
use serde_json::Value;

use super::{Gathered, Imported, Input, Problems};
use crate::{
    domain::{record::Spec, spec},
    proto::v1::ModelSource,
};

/// The format's name.
pub const FORMAT: &str = "catalogue";

/// Label with the month that the facts are of.
pub const FACTS_OF: &str = "facts-of";

/// The catalogue: resources as canonical JSON.
const TEXT: &str = include_str!("catalogue.json");
const PLACE: &str = "catalogue.json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Catalogue {
    facts_of: String,
    resources: Vec<Value>,
}

/// The catalogue as a format, which needs no file.
///
/// # Errors
/// As [`models`].
pub fn convert(_: &Input<'_>) -> Result<Imported, Problems> {
    models()
}

/// The models, labelled, with an item for each.
///
/// # Errors
/// If the catalogue can't be read, which a test prevents.
pub fn models() -> Result<Imported, Problems> {
    let Catalogue { facts_of, resources } = read(TEXT)?;
    let mut made = Gathered::new(FORMAT);
    for entry in &resources {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        match spec::from_json(&entry.to_string()) {
            Ok(Spec::Model(mut model)) => {
                model.source = ModelSource::Starter.into();
                made.put(PLACE, name, Spec::Model(model));
                made.imported(PLACE, name);
            }
            Ok(_) => made.problem(PLACE, format!("{name} is no model")),
            Err(error) => made.problem(PLACE, format!("{name} {error}")),
        }
    }
    let mut imported = made.finish().whole()?;
    for resource in &mut imported.resources {
        resource.labels.insert(FACTS_OF.to_owned(), facts_of.clone());
    }
    Ok(imported)
}

fn read(text: &str) -> Result<Catalogue, Problems> {
    serde_json::from_str(text).map_err(|error| Problems::one(PLACE, error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        domain::ResourceName,
        kinds::{
            Kind as _, Targets, contracts, model::Model, prompt_template::PromptTemplate,
            provider_types::type_of_word,
        },
        proto::v1::{
            ChatParameters, GenerationParameters, ModelCapability, ModelSpec, PromptTemplateSpec,
            ReasoningEffort, ReasoningParameters, ThinkingMode,
        },
    };

    fn model(name: &str) -> ModelSpec {
        let imported = models().unwrap_or_else(|problems| panic!("{problems}"));
        let found = imported.resources.into_iter().find(|one| one.name == name);
        let Some(Spec::Model(model)) = found.and_then(|one| one.spec) else { panic!("{name}") };
        model
    }

    /// The checks of the kind are a part of it: what they refuse is a problem of the catalogue.
    #[test]
    fn the_catalogue_is_what_the_kind_takes() {
        let imported = models().unwrap_or_else(|problems| panic!("{problems}"));
        assert!((30..200).contains(&imported.resources.len()), "{}", imported.resources.len());
        for resource in &imported.resources {
            assert!(resource.labels.contains_key(FACTS_OF), "{}", resource.name);
            let Some(spec @ Spec::Model(model)) = &resource.spec else { panic!("{}", resource.name) };
            assert_eq!(model.source(), ModelSource::Starter);
            assert!(model.limits.is_some() && !model.input_modalities.is_empty(), "{}", resource.name);
            let word = resource.name.split('/').nth(1).unwrap();
            assert!(type_of_word(word).is_some(), "{} is not beneath the word for a type", resource.name);
            assert_eq!(Model.warnings(None, spec), Vec::<String>::new(), "{}", resource.name);
        }
    }

    /// Without it an effort or a budget that the model does not have would go through to the provider, which refuses it.
    #[test]
    fn regression_every_model_that_reasons_says_how() {
        let imported = models().unwrap_or_else(|problems| panic!("{problems}"));
        let mut reasoning = 0;
        for resource in &imported.resources {
            let Some(Spec::Model(model)) = &resource.spec else { panic!("{}", resource.name) };
            let reasons = model.capabilities.contains(&ModelCapability::Reasoning.into());
            let chats = reasons || model.capabilities.is_empty();
            assert!(
                !reasons || model.reasoning.is_some(),
                "{} says not how it can be asked to",
                resource.name
            );
            assert!(chats || model.reasoning.is_none(), "{} does not reason", resource.name);
            reasoning += usize::from(reasons);
        }
        assert!(reasoning > 20, "{reasoning}");
    }

    #[test]
    fn regression_what_models_take_of_reasoning_is_what_their_providers_publish() {
        use ReasoningEffort::{High, Low, Max, Medium, Minimal, Xhigh};
        let support = |name| model(name).reasoning.unwrap_or_else(|| panic!("{name}"));
        let opus = support("models/anthropic/claude-opus-5-5");
        assert_eq!(opus.thinking_modes().collect::<Vec<_>>(), [ThinkingMode::Adaptive]);
        assert_eq!((opus.min_thinking_tokens, opus.max_thinking_tokens), (None, None), "it takes no budget");
        let haiku = support("models/anthropic/claude-haiku-4-5");
        assert_eq!((haiku.efforts.len(), haiku.min_thinking_tokens), (0, Some(1024)));
        let small = support("models/openai/gpt-5-nano");
        assert_eq!((small.efforts().next(), small.efforts.len()), (Some(Minimal), 4));
        let efforts = |name| support(name).efforts().collect::<Vec<_>>();
        let known = [Low, Medium, High, Xhigh, Max];
        assert_eq!(efforts("models/anthropic/claude-opus-4-8"), known);
        assert_eq!(
            efforts("models/anthropic/claude-sonnet-4-6"),
            [Low, Medium, High, Max],
            "xhigh came later"
        );
        assert_eq!(efforts("models/google_ai/gemini-3.5-flash"), [Minimal, Low, Medium, High]);
        assert_eq!(efforts("models/mistral/mistral-small-2603"), [ReasoningEffort::None, High]);
        assert_eq!(efforts("models/deepseek/deepseek-v4-pro"), [Low, High, Max]);
        let lite = support("models/google_ai/gemini-2.5-flash-lite");
        assert_eq!((lite.min_thinking_tokens, lite.max_thinking_tokens), (Some(512), Some(24576)));
    }

    /// Their providers refuse the call.
    #[test]
    fn regression_what_a_model_does_not_take_of_parameters_is_refused() {
        let asked = GenerationParameters {
            temperature: Some(1.5),
            top_k: Some(5),
            seed: Some(4),
            frequency_penalty: Some(1.0),
            ..Default::default()
        };
        for (name, refused) in [
            ("models/anthropic/claude-haiku-4-5", vec!["temperature", "frequency_penalty", "seed"]),
            ("models/anthropic/claude-opus-5-5", vec!["temperature", "top_k", "frequency_penalty", "seed"]),
            ("models/google_ai/gemini-3.5-flash", vec!["frequency_penalty"]),
            ("models/openai/gpt-4o", vec![]),
        ] {
            let spec = Spec::Model(model(name));
            let template = PromptTemplateSpec {
                model: name.to_owned(),
                generation: Some(asked.clone()),
                ..Default::default()
            };
            let targets = Targets::from([(ResourceName::parse(name).unwrap(), &spec)]);
            let found = PromptTemplate.check_targets(&Spec::PromptTemplate(template), &contracts(&targets));
            let fields = found.iter().map(|found| found.field.rsplit('.').next().unwrap());
            assert_eq!(fields.collect::<Vec<_>>(), refused, "{name}");
        }
    }

    /// Everything that a template may ask of the model by its entry, one at a time.
    fn asked_of(name: &str, model: &ModelSpec) -> Vec<PromptTemplateSpec> {
        let support = model.reasoning.clone().unwrap_or_default();
        let efforts =
            support.efforts.iter().map(|&effort| ReasoningParameters { effort, ..Default::default() });
        let modes = support
            .thinking_modes
            .iter()
            .map(|&thinking_mode| ReasoningParameters { thinking_mode, ..Default::default() });
        let budget = support.max_thinking_tokens.or(support.min_thinking_tokens);
        let budget = budget.map(|_| ReasoningParameters { thinking_tokens: budget, ..Default::default() });
        let shown = support.chain_of_thought.filter(|shown| *shown);
        let shown = shown.map(|_| ReasoningParameters { chain_of_thought: shown, ..Default::default() });
        let asked = efforts.chain(modes).chain(budget).chain(shown);
        let asked = asked.map(|reasoning| (Some(reasoning), None));
        let streams = model.capabilities.contains(&ModelCapability::Streaming.into());
        let streamed = streams.then(|| ChatParameters { stream: Some(true), ..Default::default() });
        asked
            .chain(streamed.map(|chat| (None, Some(chat))))
            .map(|(reasoning, chat)| PromptTemplateSpec {
                model: name.to_owned(),
                reasoning,
                chat,
                ..Default::default()
            })
            .collect()
    }

    /// What the catalogue lets a template ask for would otherwise be left out of the calls, and nobody would know.
    #[test]
    fn regression_what_a_model_takes_is_sent_by_a_provider_of_its_type_as_it_is_made() {
        let imported = models().unwrap_or_else(|problems| panic!("{problems}"));
        let (mut lost, mut asked) = (BTreeSet::new(), 0);
        for resource in &imported.resources {
            let Some(spec @ Spec::Model(model)) = &resource.spec else { panic!("{}", resource.name) };
            let name = ResourceName::parse(&resource.name).unwrap();
            for template in asked_of(&resource.name, model) {
                let (template, targets) =
                    (Spec::PromptTemplate(template), Targets::from([(name.clone(), spec)]));
                let found = PromptTemplate.check_targets(&template, &contracts(&targets));
                assert_eq!(found, [], "{}", resource.name);
                let warnings = PromptTemplate.warn_of_targets(&template, &targets);
                let unsent = warnings.into_iter().filter(|warning| warning.contains("is not sent"));
                lost.extend(unsent.map(|warning| format!("{}: {warning}", resource.name)));
                asked += 1;
            }
        }
        assert!(lost.is_empty(), "{lost:#?}");
        assert!(asked > 60, "{asked}");
    }

    #[test]
    fn nothing_in_the_catalogue_is_overlooked() {
        let Catalogue { resources, .. } = read(TEXT).unwrap_or_else(|problems| panic!("{problems}"));
        for entry in resources {
            let spec = spec::from_json(&entry.to_string()).unwrap();
            let read = spec::to_value(&spec).unwrap();
            assert_eq!(read["model"], entry["model"], "{}", entry["name"]);
        }
    }

    #[test]
    fn replacements_are_in_the_catalogue() {
        let imported = models().unwrap_or_else(|problems| panic!("{problems}"));
        let names: BTreeSet<&str> = imported.resources.iter().map(|one| one.name.as_str()).collect();
        for resource in &imported.resources {
            for reference in Model.references(resource.spec.as_ref().unwrap()) {
                assert!(names.contains(ResourceName::as_str(&reference.name)), "{}", resource.name);
            }
        }
    }

    #[test]
    fn a_month_is_given() {
        let Catalogue { facts_of, .. } = read(TEXT).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(crate::kinds::rules::date_problem(&facts_of).is_none(), "{facts_of}");
        assert!(read("{\"factsOf\": \"2026-08\", \"resources\": [], \"more\": 1}").is_err());
    }
}
