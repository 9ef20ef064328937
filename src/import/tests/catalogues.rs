//! Files of models and prices.

use super::*;
use crate::proto::v1::{Modality, ModelCapability, ModelSource};

#[test]
fn prices_of_litellm_are_exact() {
    let imported = import("litellm-prices", &["model_prices.json"]);
    let model = spec_of!(imported, Model, "models/openai/gpt-4o");
    let prices = model.prices.as_ref().unwrap();
    assert_eq!(
        (prices.input.as_str(), prices.output.as_str(), prices.cached_input.as_str()),
        ("2.5", "10", "1.25")
    );
    let limits = model.limits.as_ref().unwrap();
    assert_eq!((limits.max_input_tokens, limits.max_output_tokens), (128_000, 16_384));
    assert_eq!(model.source(), ModelSource::Imported);
    for capability in
        [ModelCapability::Chat, ModelCapability::Streaming, ModelCapability::Tools, ModelCapability::Vision]
    {
        assert!(model.capabilities.contains(&capability.into()), "{capability:?}");
    }
    let small = spec_of!(imported, Model, "models/groq/llama-3.1-8b-instant");
    assert_eq!(small.prices.as_ref().unwrap().input, "0.05");
    assert!(!small.capabilities.contains(&ModelCapability::Reasoning.into()));
    let gemini = spec_of!(imported, Model, "models/google_ai/gemini-2.5-flash");
    assert_eq!(gemini.prices.as_ref().unwrap().audio_input, "1");
    assert_eq!(gemini.deprecation.as_ref().unwrap().date, "2026-06-17");
    assert!(gemini.input_modalities.contains(&Modality::Pdf.into()));
    let embedding = spec_of!(imported, Model, "models/openai/text-embedding-3-small");
    assert_eq!(embedding.capabilities, [i32::from(ModelCapability::Embeddings)]);
    assert_eq!(embedding.prices.as_ref().unwrap().output, "0");
    assert!(spec_of!(imported, Model, "models/together/meta-llama+Llama-3.3-70B").model_id.is_empty());
    let stranger = spec_of!(imported, Model, "models/someone_else/someone+model-x");
    assert_eq!(stranger.prices.as_ref().unwrap().input, "0.18");
    assert_eq!(imported.resources.len(), 6);
}

#[test]
fn what_prices_of_litellm_can_not_say_here_is_named() {
    let imported = import("litellm-prices", &["model_prices.json"]);
    let expected = [
        "bad/date",
        "bad/price",
        "no-provider",
        "not-an-object",
        "input_cost_per_token_batches",
        "output_vector_size",
        "supports_tool_choice",
    ];
    assert_eq!(left_out(&imported), expected);
    assert!(told(&imported, "bad/price").contains("`input_cost_per_token` is not what it has to be"));
    assert!(told(&imported, "bad/date").contains("model.deprecation.date must be a date"));
    assert!(told(&imported, "output_vector_size").contains("1 models have it"));
    assert!(told(&imported, "prices").contains("changed: 1 have more than 9 digits"));
    assert!(problems("litellm-prices", "{\n\"a\": {,}\n}").starts_with("file, line 2, column "));
}

#[test]
fn regression_what_a_price_file_denies_goes_along_with_it() {
    let text = r#"{"gpt-x": {"litellm_provider": "openai", "mode": "chat", "supports_vision": false,
        "supports_pdf_input": true, "supports_audio_output": false, "supports_tool_choice": false}}"#;
    let file = File { name: "file".to_owned(), text: text.into() };
    let imported = run("litellm-prices", &[file], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let of = |capability: ModelCapability, form: Modality| (i32::from(capability), i32::from(form));
    let ((vision, image), audio) = (of(ModelCapability::Vision, Modality::Image), i32::from(Modality::Audio));
    assert_eq!(imported.resources[0].labels[DENIES], format!("o{audio} c{vision} i{image}"));
}

#[test]
fn models_dev() {
    let imported = import("models-dev", &["models_dev.json"]);
    let model = spec_of!(imported, Model, "models/openai/gpt-4o");
    assert_eq!((model.display_name.as_str(), model.knowledge_cutoff.as_str()), ("GPT-4o", "2023-09"));
    let prices = model.prices.as_ref().unwrap();
    assert_eq!(
        (prices.input.as_str(), prices.output.as_str(), prices.cached_input.as_str()),
        ("2.5", "10", "1.25")
    );
    assert_eq!(model.limits.as_ref().unwrap().context_window_tokens, 128_000);
    for capability in [ModelCapability::Tools, ModelCapability::JsonSchema, ModelCapability::Vision] {
        assert!(model.capabilities.contains(&capability.into()));
    }
    let reasoning = spec_of!(imported, Model, "models/openai/o3");
    assert!(reasoning.deprecation.as_ref().unwrap().deprecated);
    let temperature = reasoning.parameters.as_ref().and_then(|support| support.temperature.as_ref());
    assert_eq!(temperature.and_then(|range| range.supported), Some(false));
    find(&imported, "models/bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0");
    find(&imported, "models/new-provider/m+2");
    let expected = [
        "New Provider/m/1",
        "broken",
        "attachment",
        "cost.context_over_200k",
        "modalities.input: hologram",
        "open_weights",
    ];
    assert_eq!(left_out(&imported), expected);
}

/// The real files have some thousands; their import has to be a matter of a moment.
#[test]
fn thousands_of_models_are_taken() {
    let entry = |index: usize| {
        format!(
            "\"groq/m-{index}\": {{\"litellm_provider\": \"groq\", \"mode\": \"chat\", \"input_cost_per_token\": {index}e-9}}"
        )
    };
    let text = format!("{{{}}}", (0..5000).map(entry).collect::<Vec<_>>().join(","));
    let files = [File { name: "file".to_owned(), text: text.into() }];
    let imported = run("litellm-prices", &files, &|_| None).unwrap();
    assert_eq!((imported.resources.len(), imported.count(Outcome::Imported)), (5000, 5000));
    assert_eq!(spec_of!(imported, Model, "models/groq/m-1234").prices.as_ref().unwrap().input, "1.234");
}

/// A file of the wrong kind is refused as a whole, rather than found to have nothing in it.
#[test]
fn regression_files_of_prices_and_of_models_are_not_taken_for_each_other() {
    for (format, files) in [("models-dev", "model_prices.json"), ("litellm-prices", "models_dev.json")] {
        let problems = run(format, &[fixture(files)], &|_| None).err().map(|problems| problems.to_string());
        assert!(problems.as_ref().is_some_and(|text| text.contains(files)), "{format}: {problems:?}");
    }
    assert!(problems("models-dev", "{}").contains("no provider with an object `models`"));
    assert!(problems("litellm-prices", "{}").contains("no entry of it has a `litellm_provider`"));
}

#[test]
fn regression_the_tokens_of_an_embedding_are_what_goes_in() {
    let text = r#"{"e": {"litellm_provider": "openai", "mode": "embedding", "max_tokens": 8191},
        "c": {"litellm_provider": "openai", "mode": "chat", "max_tokens": 4096}}"#;
    let files = [File { name: "file".into(), text: text.into() }];
    let imported = run("litellm-prices", &files, &|_| None).unwrap();
    let limits = |name: &str| spec_of!(imported, Model, name).limits.unwrap();
    let (embedding, chat) = (limits("models/openai/e"), limits("models/openai/c"));
    assert_eq!((embedding.max_input_tokens, embedding.max_output_tokens), (8191, 0));
    assert_eq!((chat.max_input_tokens, chat.max_output_tokens), (0, 4096));
}
