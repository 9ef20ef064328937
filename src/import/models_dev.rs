//! `models-dev`: the `api.json` of models.dev, an object of providers, each with an object `models`.
//!
//! What is accepted stands in `shapes`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    Imported, Input, Problems, decimal,
    model_files::{ModelFile, provider_segment, tokens},
};
use crate::proto::v1::{
    Modality, ModelCapability, ModelDeprecation, ModelLimits, ModelPrices, ModelSpec, ParameterRange,
    ParameterSupport,
};

/// The format's name.
pub const FORMAT: &str = "models-dev";

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Converts files.
///
/// # Errors
/// When a file is not such an object.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut catalogue = ModelFile::new(FORMAT, input.only);
    for file in input.files {
        match serde_json::from_str::<Fields<'_>>(file.text.expose()) {
            Ok(providers) if providers.values().all(|provider| models_of(provider).is_none()) => {
                let problem = "is no api.json of models.dev: it has no provider with an object `models`";
                catalogue.made.problem(&file.name, problem);
            }
            Ok(providers) => {
                providers.iter().for_each(|(id, provider)| take_provider(&mut catalogue, id, provider))
            }
            Err(error) => catalogue.made.problem(
                format!("{}, line {}, column {}", file.name, error.line(), error.column()),
                "is not JSON, or no object with an object for each provider",
            ),
        }
    }
    Ok(catalogue.finish())
}

fn take_provider(catalogue: &mut ModelFile, id: &str, provider: &RawValue) {
    let (models, segment) = (models_of(provider), provider_segment(id));
    if catalogue.passes_over(segment.as_deref(), models.as_ref().map_or(0, BTreeMap::len)) {
        return;
    }
    let (Some(models), Some(segment)) = (models, segment) else {
        return catalogue.made.left_out(id, "has no object `models`, or an id of which no name can be made");
    };
    for (model_id, model) in &models {
        let from = format!("{id}/{model_id}");
        match fields(model).map(|model| spec(catalogue, model_id, &model)) {
            None => catalogue.made.left_out(from, "is no object"),
            Some(Err(field)) => catalogue.made.left_out(from, format!("`{field}` is not what it has to be")),
            Some(Ok(spec)) => catalogue.put(&from, &segment, model_id, spec),
        }
    }
}

fn models_of(provider: &RawValue) -> Option<Fields<'_>> {
    fields(provider)?.get("models").copied().and_then(fields)
}

fn fields(raw: &RawValue) -> Option<Fields<'_>> {
    serde_json::from_str(raw.get()).ok()
}

fn spec(catalogue: &mut ModelFile, model_id: &str, given: &Fields<'_>) -> Result<ModelSpec, String> {
    let mut model = ModelSpec::default();
    for (field, raw) in given {
        let raw: &RawValue = raw;
        let text = || serde_json::from_str::<String>(raw.get()).map_err(|_| field.clone());
        match field.as_str() {
            "id" | "last_updated" | "tool_call" | "reasoning" | "structured_output" => {}
            _ if raw.get() == "null" => {}
            "name" => model.display_name = text()?,
            "knowledge" => model.knowledge_cutoff = text()?,
            "release_date" => model.release_date = text()?,
            "status" if text()? == "deprecated" => {
                model.deprecation =
                    Some(ModelDeprecation { deprecated: true, ..ModelDeprecation::default() });
            }
            "temperature" if raw.get() == "false" => {
                let none = ParameterRange { supported: Some(false), ..ParameterRange::default() };
                model.parameters = Some(ParameterSupport { temperature: Some(none), ..Default::default() });
            }
            "temperature" => {}
            "modalities" => modalities(catalogue, &mut model, raw),
            "limit" => model.limits = Some(limits(catalogue, raw)?),
            "cost" => model.prices = Some(prices(catalogue, raw)?),
            _ => catalogue.drop_field(field),
        }
    }
    capabilities(&mut model, model_id, given);
    Ok(model)
}

fn modalities(catalogue: &mut ModelFile, model: &mut ModelSpec, raw: &RawValue) {
    let given: BTreeMap<String, Vec<String>> = serde_json::from_str(raw.get()).unwrap_or_default();
    for (side, words) in given {
        let into = match side.as_str() {
            "input" => &mut model.input_modalities,
            "output" => &mut model.output_modalities,
            _ => continue,
        };
        for word in words {
            match Modality::from_str_name(&format!("MODALITY_{}", word.to_ascii_uppercase())) {
                Some(modality) if !into.contains(&modality.into()) => into.push(modality.into()),
                Some(_) => {}
                None => catalogue.drop_field(format!("modalities.{side}: {}", word.escape_debug())),
            }
        }
    }
}

fn limits(catalogue: &mut ModelFile, raw: &RawValue) -> Result<ModelLimits, String> {
    let mut limits = ModelLimits::default();
    for (field, raw) in fields(raw).ok_or("limit")? {
        let into = match field.as_str() {
            "context" => &mut limits.context_window_tokens,
            "input" => &mut limits.max_input_tokens,
            "output" => &mut limits.max_output_tokens,
            _ => {
                catalogue.drop_field(format!("limit.{field}"));
                continue;
            }
        };
        *into = tokens(raw.get()).ok_or_else(|| format!("limit.{field}"))?;
    }
    Ok(limits)
}

fn prices(catalogue: &mut ModelFile, raw: &RawValue) -> Result<ModelPrices, String> {
    let mut prices = ModelPrices::default();
    for (field, raw) in fields(raw).ok_or("cost")? {
        let into = match field.as_str() {
            "input" => &mut prices.input,
            "output" => &mut prices.output,
            "cache_read" => &mut prices.cached_input,
            "cache_write" => &mut prices.cache_write,
            "reasoning" => &mut prices.reasoning,
            "input_audio" => &mut prices.audio_input,
            "output_audio" => &mut prices.audio_output,
            _ => {
                catalogue.drop_field(format!("cost.{field}"));
                continue;
            }
        };
        let price = decimal::of_million(raw.get());
        *into = catalogue.price(price).ok_or_else(|| format!("cost.{field}"))?;
    }
    Ok(prices)
}

/// Only where something is said of a model: a list would exclude everything else.
fn capabilities(model: &mut ModelSpec, model_id: &str, given: &Fields<'_>) {
    let on = |field: &str| given.get(field).is_some_and(|raw| raw.get() == "true");
    if model_id.to_ascii_lowercase().contains("embed") {
        model.capabilities = vec![ModelCapability::Embeddings.into()];
        return;
    }
    if !model.output_modalities.contains(&Modality::Text.into()) {
        return;
    }
    let mut all = vec![ModelCapability::Chat, ModelCapability::Streaming, ModelCapability::SystemPrompt];
    let reads_images = model.input_modalities.contains(&Modality::Image.into());
    for (says, capability) in [
        (on("tool_call"), ModelCapability::Tools),
        (on("reasoning"), ModelCapability::Reasoning),
        (on("structured_output"), ModelCapability::JsonSchema),
        (reads_images, ModelCapability::Vision),
    ] {
        if says {
            all.push(capability);
        }
    }
    model.capabilities = all.into_iter().map(i32::from).collect();
}
