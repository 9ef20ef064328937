//! `litellm-prices`: `model_prices_and_context_window.json`, an object with an object for each model.
//!
//! What is accepted stands in `shapes`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    Imported, Input, Problems, decimal,
    edited::DENIES,
    model_files::{ModelFile, provider_segment, tokens},
};
use crate::kinds::model;
use crate::proto::v1::{Modality, ModelCapability, ModelDeprecation, ModelLimits, ModelPrices, ModelSpec};

/// The format's name.
pub const FORMAT: &str = "litellm-prices";

/// The fields of an entry, each as it stands: numbers to the letter.
pub(super) type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Converts files.
///
/// # Errors
/// When a file is not such an object.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut catalogue = ModelFile::new(FORMAT, input.only);
    let mut denied = BTreeMap::new();
    for file in input.files {
        match serde_json::from_str::<Fields<'_>>(file.text.expose()) {
            Ok(entries) if !entries.values().any(|entry| provider_of(entry).is_some()) => {
                let problem = "is no file of LiteLLM's prices: no entry of it has a `litellm_provider`";
                catalogue.made.problem(&file.name, problem);
            }
            Ok(entries) => {
                for (name, entry) in entries.iter().filter(|(name, _)| *name != "sample_spec") {
                    take(&mut catalogue, name, entry, &mut denied);
                }
            }
            Err(error) => catalogue.made.problem(
                format!("{}, line {}, column {}", file.name, error.line(), error.column()),
                "is not JSON, or no object with an object for each model",
            ),
        }
    }
    let mut imported = catalogue.finish();
    for resource in &mut imported.resources {
        resource.labels.extend(denied.remove(&resource.name).map(|denied| (DENIES.to_owned(), denied)));
    }
    Ok(imported)
}

/// Takes an entry, and notes what it denies by the name of its model.
fn take(catalogue: &mut ModelFile, name: &str, entry: &RawValue, denied: &mut BTreeMap<String, String>) {
    let provider = provider_of(entry);
    let segment = provider.as_deref().and_then(provider_segment);
    if catalogue.passes_over(segment.as_deref(), 1) {
        return;
    }
    let Ok(fields) = serde_json::from_str::<Fields<'_>>(entry.get()) else {
        return catalogue.made.left_out(name, "is no object");
    };
    let Some(segment) = segment else {
        return catalogue.made.left_out(name, "has no `litellm_provider`");
    };
    match spec(catalogue, &fields) {
        Ok(spec) => {
            let prefix = format!("{}/", provider.unwrap_or_default());
            let model_id = name.strip_prefix(&prefix).unwrap_or(name);
            let to = format!("models/{segment}/{}", model::segment_of(model_id));
            if let Some(denies) = denies(&fields).filter(|_| !catalogue.made.has(&to)) {
                denied.insert(to, denies);
            }
            catalogue.put(name, &segment, model_id, spec);
        }
        Err(field) => catalogue.made.left_out(name, format!("`{field}` is not what it has to be")),
    }
}

fn provider_of(entry: &RawValue) -> Option<String> {
    let fields = serde_json::from_str::<Fields<'_>>(entry.get()).ok()?;
    serde_json::from_str(fields.get("litellm_provider")?.get()).ok()
}

fn is_embedding(fields: &Fields<'_>) -> bool {
    fields.get("mode").is_some_and(|mode| mode.get() == "\"embedding\"")
}

/// What an entry says of its model.
///
/// # Errors
/// The field that can't be read.
pub(super) fn spec(catalogue: &mut ModelFile, fields: &Fields<'_>) -> Result<ModelSpec, String> {
    let mut model = ModelSpec::default();
    let (mut limits, mut prices) = (ModelLimits::default(), ModelPrices::default());
    for (field, raw) in fields {
        let text = raw.get();
        if text == "null" {
            continue;
        }
        let wrong = || field.clone();
        match field.as_str() {
            "litellm_provider" | "mode" => {}
            "max_input_tokens" => limits.max_input_tokens = tokens(text).ok_or_else(wrong)?,
            "max_output_tokens" => limits.max_output_tokens = tokens(text).ok_or_else(wrong)?,
            // The older field, which says the same.
            "max_tokens" if fields.contains_key("max_output_tokens") => {}
            // Of what makes no text it is what goes in.
            "max_tokens" if is_embedding(fields) => {
                limits.max_input_tokens = tokens(text).ok_or_else(wrong)?
            }
            "max_tokens" => limits.max_output_tokens = tokens(text).ok_or_else(wrong)?,
            "deprecation_date" => {
                let date = serde_json::from_str(text).map_err(|_| wrong())?;
                model.deprecation = Some(ModelDeprecation { date, ..ModelDeprecation::default() });
            }
            _ => match price_field(&mut prices, field) {
                Some(into) => {
                    let price = decimal::per_million(text.trim_matches('"'));
                    *into = catalogue.price(price).ok_or_else(wrong)?;
                }
                None if field.starts_with("supports_") => flag(catalogue, &mut model, field, text),
                None => catalogue.drop_field(field),
            },
        }
    }
    mode(&mut model, fields);
    // That is LiteLLM's word for it; where more may come out than goes in, it is none.
    if limits.max_output_tokens <= limits.max_input_tokens {
        limits.context_window_tokens = limits.max_input_tokens;
    }
    model.limits = (limits != ModelLimits::default()).then_some(limits);
    model.prices = (prices != ModelPrices::default()).then_some(prices);
    Ok(model)
}

/// What an entry says that its model can not do: the lists of a model have no place for that, and what a list lacks may be
/// unknown. As a label's value: `c5 i2` denies a capability and a form of what goes in.
fn denies(fields: &Fields<'_>) -> Option<String> {
    let denied = fields.iter().filter(|(_, raw)| raw.get() == "false").flat_map(|(field, _)| {
        let capability = capability(field).map(|one| format!("c{}", i32::from(one)));
        let form = |forms: &[(&str, Modality)], list: &str| {
            let form = forms.iter().find(|(name, _)| name == field);
            form.map(|(_, form)| format!("{list}{}", i32::from(*form)))
        };
        [capability, form(&INPUT, "i"), form(&OUTPUT, "o")].into_iter().flatten()
    });
    let denied: Vec<String> = denied.collect();
    (!denied.is_empty()).then(|| denied.join(" "))
}

/// Takes from a new entry what it only seems to say, beside what is known of the model. The file has no words for most
/// capabilities and forms of content: what it does not name is not denied, unless the entry `denies` it. What goes in is the
/// context window only where nobody has told that.
pub(super) fn leave_unsaid(old: &ModelSpec, new: &mut ModelSpec, denies: &str) {
    for (list, known, said) in [
        ("c", &old.capabilities, &mut new.capabilities),
        ("i", &old.input_modalities, &mut new.input_modalities),
        ("o", &old.output_modalities, &mut new.output_modalities),
    ] {
        let is_denied = |one: &i32| denies.split(' ').any(|denied| denied == format!("{list}{one}"));
        if !said.is_empty() {
            said.retain(|one| !known.contains(one));
            // In the order that is there: a list that is only turned round would be told as a change.
            said.splice(..0, known.iter().copied().filter(|one| !is_denied(one)));
        }
    }
    let told =
        old.limits.as_ref().is_some_and(|limits| limits.context_window_tokens > 0 && !is_guess(limits));
    if let Some(limits) = new.limits.as_mut().filter(|_| told) {
        limits.context_window_tokens = 0;
    }
}

/// What this file has brought, without the context window that it only seems to say where `new` tells one.
pub(super) fn without_guess(old: &ModelSpec, new: &ModelSpec) -> ModelSpec {
    let mut old = old.clone();
    let told = new.limits.as_ref().is_some_and(|limits| limits.context_window_tokens > 0);
    if let Some(limits) = old.limits.as_mut().filter(|limits| told && is_guess(limits)) {
        limits.context_window_tokens = 0;
    }
    old
}

/// Whether the context window may be what goes in.
fn is_guess(limits: &ModelLimits) -> bool {
    limits.context_window_tokens == limits.max_input_tokens
}

fn price_field<'a>(prices: &'a mut ModelPrices, field: &str) -> Option<&'a mut String> {
    Some(match field {
        "input_cost_per_token" => &mut prices.input,
        "output_cost_per_token" => &mut prices.output,
        "cache_read_input_token_cost" => &mut prices.cached_input,
        "cache_creation_input_token_cost" => &mut prices.cache_write,
        "output_cost_per_reasoning_token" => &mut prices.reasoning,
        "input_cost_per_audio_token" => &mut prices.audio_input,
        "output_cost_per_audio_token" => &mut prices.audio_output,
        _ => return None,
    })
}

/// The flags that are about forms of what goes in, and of what comes out.
const INPUT: [(&str, Modality); 4] = [
    ("supports_vision", Modality::Image),
    ("supports_audio_input", Modality::Audio),
    ("supports_video_input", Modality::Video),
    ("supports_pdf_input", Modality::Pdf),
];
const OUTPUT: [(&str, Modality); 1] = [("supports_audio_output", Modality::Audio)];

/// The capability that a flag is about.
fn capability(field: &str) -> Option<ModelCapability> {
    Some(match field {
        "supports_function_calling" => ModelCapability::Tools,
        "supports_parallel_function_calling" => ModelCapability::ParallelToolCalls,
        "supports_vision" => ModelCapability::Vision,
        "supports_response_schema" => ModelCapability::JsonSchema,
        "supports_reasoning" => ModelCapability::Reasoning,
        "supports_prompt_caching" => ModelCapability::PromptCaching,
        "supports_web_search" => ModelCapability::WebSearch,
        "supports_computer_use" => ModelCapability::ComputerUse,
        "supports_code_execution" => ModelCapability::CodeExecution,
        _ => return None,
    })
}

fn flag(catalogue: &mut ModelFile, model: &mut ModelSpec, field: &str, text: &str) {
    let Some(capability) = capability(field) else {
        let is_read_elsewhere = INPUT.iter().chain(&OUTPUT).any(|(name, _)| *name == field)
            || ["supports_system_messages", "supports_native_streaming"].contains(&field);
        if !is_read_elsewhere {
            catalogue.drop_field(field);
        }
        return;
    };
    if text == "true" {
        model.capabilities.push(capability.into());
    }
}

/// What a model does by its mode, and by the flags that are about forms of content.
fn mode(model: &mut ModelSpec, fields: &Fields<'_>) {
    let says = |field: &str, value: &str| fields.get(field).is_some_and(|raw| raw.get() == value);
    let on = |field: &str| says(field, "true");
    let mode: String =
        fields.get("mode").and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let (mut input, mut output) = (vec![Modality::Text], Vec::new());
    match mode.as_str() {
        "chat" | "responses" => {
            // Every one of them streams; the file has flags only for what is rare.
            let always = [ModelCapability::Chat, ModelCapability::Streaming];
            model.capabilities.extend(always.map(i32::from));
            if !says("supports_system_messages", "false") {
                model.capabilities.push(ModelCapability::SystemPrompt.into());
            }
            output.push(Modality::Text);
        }
        "completion" => output.push(Modality::Text),
        "embedding" => model.capabilities.push(ModelCapability::Embeddings.into()),
        "image_generation" => output.push(Modality::Image),
        "audio_speech" => output.push(Modality::Audio),
        "audio_transcription" => (input, output) = (vec![Modality::Audio], vec![Modality::Text]),
        _ => {
            // What is not known is not said: a list would exclude everything else.
            model.capabilities.clear();
            return;
        }
    }
    for (forms, list) in [(&INPUT[..], &mut input), (&OUTPUT[..], &mut output)] {
        for (field, form) in forms {
            if on(field) && !list.contains(form) {
                list.push(*form);
            }
        }
    }
    model.input_modalities = input.into_iter().map(i32::from).collect();
    model.output_modalities = output.into_iter().map(i32::from).collect();
}
