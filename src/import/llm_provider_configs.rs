//! `llm-provider-configs`: rows of a table `llm_provider_configs`, each a provider.
//!
//! What is accepted stands in `shapes`.

use super::{
    Gathered, Imported, Input, Outcome, Problems, parts, providers,
    table::{self, Row},
};
use crate::{
    domain::record::Spec,
    proto::v1::{HttpMethod, ProviderSpec},
};

/// The format's name.
pub const FORMAT: &str = "llm-provider-configs";

const KNOWN: &[&[&str]] = &[
    &["provider_name"],
    &["display_name"],
    &["description"],
    &["auth_scheme"],
    &["auth_header_template"],
    &["base_url"],
    &["endpoint_path_template"],
    &["http_method"],
    &["additional_headers"],
    &["request_builder_config"],
    &["response_extractor_config"],
    &["default_model"],
    &["supported_models"],
    &["model_capabilities"],
    &["context_window_tokens"],
    &["max_output_tokens_limit"],
    &["is_active"],
    &["is_enabled"],
    // What is sealed is the same as what was opened.
    &["api_key"],
    &["api_key_encrypted"],
];

const SELECT: &str = "is sealed by pgcrypto, which only the database opens; add to the dump \
                      `pgp_sym_decrypt(decode(api_key_encrypted, 'hex'), 'PASSPHRASE') AS api_key`, or without `decode` where the \
                      column holds bytes";

/// Converts dumps.
///
/// # Errors
/// Every row that can't be read.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut made = Gathered::new(FORMAT);
    let rows = table::read(input.files, &mut made)?;
    let mut active = Vec::new();
    for row in &rows {
        active.extend(provider(&mut made, row).filter(|_| row.flag(&["is_active"]) == Some(true)));
    }
    table::leave_out_rest(&mut made, &rows.iter().collect::<Vec<_>>(), KNOWN);
    let note = if active.len() > 1 {
        "several were active; the first that is enabled is, the others are its fallbacks"
    } else {
        ""
    };
    parts::default_router(&mut made, "is_active", parts::Says::Who, &active, note);
    Ok(made.finish())
}

/// Takes one row; the name of its provider.
fn provider(made: &mut Gathered, row: &Row) -> Option<String> {
    let (word, base) = (row.text(&["provider_name"]), row.text(&["base_url"]));
    let Some(id) = word.and_then(parts::id_for) else {
        made.problem(&row.place, "has no `provider_name`; select that column");
        return None;
    };
    let name = format!("providers/{id}");
    let of = |column: &str| row.text(&[column]).unwrap_or_default().to_owned();
    let mut spec = ProviderSpec {
        r#type: parts::type_by(&[word], base).into(),
        display_name: of("display_name"),
        description: of("description"),
        base_url: base.unwrap_or_default().trim_end_matches('/').to_owned(),
        endpoint_path: parts::endpoint(&of("endpoint_path_template")),
        enabled: row.flag(&["is_enabled"]),
        ..ProviderSpec::default()
    };
    let mut notes = Vec::new();
    notes.extend(parts::authenticate(
        &mut spec,
        row.text(&["auth_scheme"]),
        row.text(&["auth_header_template"]),
    ));
    if let Some(word) = row.text(&["http_method"]) {
        let method = HttpMethod::from_str_name(&format!("HTTP_METHOD_{}", word.to_ascii_uppercase()));
        match method {
            Some(method) => spec.method = method.into(),
            None => notes.push("its HTTP method is none of POST, PUT, PATCH and GET; POST is used".into()),
        }
    }
    numbers(made, row, &mut spec);
    documents(made, row, &mut spec);
    parts::default_model(&mut spec, &of("default_model"));
    made.put(&row.place, name.as_str(), Spec::Provider(spec));
    let outcome = if notes.is_empty() { Outcome::Imported } else { Outcome::Changed };
    made.item(&row.place, name.as_str(), outcome, notes.join("; "));
    key(made, row, &name);
    Some(name)
}

fn numbers(made: &mut Gathered, row: &Row, spec: &mut ProviderSpec) {
    for (column, field) in [
        ("context_window_tokens", &mut spec.context_window_tokens),
        ("max_output_tokens_limit", &mut spec.max_output_tokens),
    ] {
        match row.get(&[column]).map(|value| value.whole::<u32>()) {
            None => {}
            Some(Some(number)) => *field = number,
            Some(None) => made.problem(format!("{}, {column}", row.place), "is not a number of tokens"),
        }
    }
}

/// The columns that hold JSON.
fn documents(made: &mut Gathered, row: &Row, spec: &mut ProviderSpec) {
    for column in [
        "additional_headers",
        "supported_models",
        "model_capabilities",
        "request_builder_config",
        "response_extractor_config",
    ] {
        let from = format!("{}, {column}", row.place);
        let document = match row.json(column) {
            Ok(Some(document)) => document,
            Ok(None) => continue,
            Err(what) => {
                made.problem(from, what);
                continue;
            }
        };
        match column {
            "additional_headers" => parts::headers(made, &from, spec, &document),
            "supported_models" => spec.models = parts::models(&document),
            "model_capabilities" => parts::capabilities(made, &from, spec, &document),
            _ => {
                let field = column.trim_end_matches("_config");
                match parts::message_field(spec, field, &document) {
                    Ok(true) => {}
                    Ok(false) => made
                        .left_out(from, "this version has no field for it; the default of the type is used"),
                    Err(what) => made.problem(from, what),
                }
            }
        }
    }
}

fn key(made: &mut Gathered, row: &Row, provider: &str) {
    let from = format!("{}, api_key", row.place);
    match (row.text(&["api_key"]), row.text(&["api_key_encrypted"])) {
        (Some(value), _) if providers::is_no_key(value) => made.left_out(from, providers::PLACEHOLDER),
        (Some(value), _) => {
            if let Some(problem) = providers::key_problem(value) {
                return made.part_problem(from, problem);
            }
            let name = format!("{provider}/apiKeys/llm_provider_configs");
            let spec = providers::api_key(Some(value), "From the table `llm_provider_configs`.");
            made.put(&from, name.as_str(), Spec::ApiKey(spec));
            made.imported(from, name);
        }
        (None, Some(_)) => made.part_problem(format!("{}, api_key_encrypted", row.place), SELECT),
        (None, None) => made.left_out(from, "there is none"),
    }
}
