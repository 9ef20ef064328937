//! `provider-configs` and `api-keys`: rows of the tables `provider_configs` and `api_keys`, in one file or in several.
//!
//! What is accepted stands in `shapes`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Gathered, Imported, Input, Outcome, Problems,
    parts::{self, Column, Says},
    providers, settings_table,
    table::{self, Row},
    tree::Tree,
};
use crate::{
    domain::record::Spec,
    kinds::provider_types,
    proto::v1::{ProviderSpec, ProviderType},
    setting_key,
};

/// The format's name.
pub const FORMAT: &str = "provider-configs";
/// The same format by the name of its other table.
pub const KEYS: &str = "api-keys";

/// Keys of `settings` that say the same; the first that is there is taken.
const SAME: [&[&str]; 6] = [
    &["base_url", "api_base", "endpoint", "url"],
    &["default_model", "model"],
    &["enabled", "is_enabled"],
    &["context_window_tokens", "context_window"],
    &["models", "supported_models"],
    &["headers", "additional_headers"],
];

/// Converts dumps.
///
/// # Errors
/// Every row that can't be read.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut made = Gathered::new(FORMAT);
    let rows = table::read(input.files, &mut made)?;
    let mut converter = Converter {
        input,
        made,
        first: BTreeMap::new(),
        default: BTreeMap::new(),
        order: Vec::new(),
        refused: BTreeSet::new(),
    };
    let (keys, configs): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.has("encrypted_key") || row.has("key_name"));
    configs.iter().for_each(|row| converter.provider(row));
    keys.iter().for_each(|row| converter.key(row));
    let known: [&[&str]; 4] = [&["provider_type"], &["name"], &["is_default"], &["settings"]];
    table::leave_out_rest(&mut converter.made, &configs, &known);
    let known: [&[&str]; 5] =
        [&["provider_type"], &["key_name"], &["encrypted_key", "api_key"], &["is_active"], &["last_used_at"]];
    table::leave_out_rest(&mut converter.made, &keys, &known);
    converter.router();
    Ok(converter.made.finish())
}

struct Converter<'a> {
    input: &'a Input<'a>,
    made: Gathered,
    /// The first provider of each type, by the type's word.
    first: BTreeMap<String, String>,
    /// The default provider of each type.
    default: BTreeMap<String, String>,
    /// Defaults in the order in which they stand: where, the type's word, the provider.
    order: Vec<(String, String, String)>,
    /// Types of which a row is not valid: where its keys go nobody knows.
    refused: BTreeSet<String>,
}

impl Converter<'_> {
    fn provider(&mut self, row: &Row) {
        let Some((word, provider_type)) = self.type_of(row) else { return };
        let settings = match row.json("settings") {
            Ok(settings) => settings.unwrap_or(Tree::Null),
            Err(what) => {
                self.refused.insert(word);
                return self.made.problem(&row.place, what);
            }
        };
        let Some(wanted) = row.text(&["name"]).and_then(parts::id_for) else {
            self.refused.insert(word);
            return self
                .made
                .problem(&row.place, "has no `name` of which its id could be made; select that column");
        };
        let id = self.made.free_id("providers", &wanted);
        let name = format!("providers/{id}");
        let mut spec = ProviderSpec {
            r#type: provider_type.into(),
            display_name: row.text(&["name"]).unwrap_or_default().to_owned(),
            ..ProviderSpec::default()
        };
        let mut default_model = String::new();
        let repeated = parts::repeated(&settings, &SAME);
        for (key, value) in settings.entries() {
            let from = format!("{}, settings.{}", row.place, key.escape_debug());
            if let Some(taken) = repeated.get(key.as_str()) {
                self.made.left_out(from, format!("`{}` says the same, and is taken", taken.escape_debug()));
                continue;
            }
            self.setting(&from, &mut spec, &mut default_model, (&setting_key::normalise(key), value));
        }
        parts::default_model(&mut spec, &default_model);
        let enabled = spec.enabled.unwrap_or(true);
        self.made.put(&row.place, name.as_str(), Spec::Provider(spec));
        self.made.imported(&row.place, name.as_str());
        self.first.entry(word.clone()).or_insert_with(|| name.clone());
        if row.flag(&["is_default"]) == Some(true) {
            self.default(format!("{}, is_default", row.place), word, name, enabled);
        }
    }

    fn default(&mut self, from: String, word: String, name: String, enabled: bool) {
        if !enabled {
            return self.made.left_out(from, "it is disabled, and a disabled provider is no default");
        }
        if self.default.contains_key(&word) {
            return self.made.left_out(from, "its type has a default already");
        }
        self.default.insert(word.clone(), name.clone());
        self.order.push((from, word, name));
    }

    fn type_of(&mut self, row: &Row) -> Option<(String, ProviderType)> {
        let Some(word) = row.text(&["provider_type"]) else {
            self.made.problem(&row.place, "has no `provider_type`; select that column");
            return None;
        };
        let Some(provider_type) = providers::type_of(word) else {
            let what =
                format!("has a `provider_type` that is unknown; known are {}", provider_types::words());
            self.made.problem(&row.place, what);
            return None;
        };
        Some((provider_types::word(provider_type), provider_type))
    }

    fn setting(
        &mut self,
        from: &str,
        spec: &mut ProviderSpec,
        default_model: &mut String,
        (key, value): (&str, &Tree),
    ) {
        let number = |into: &mut u32| value.whole().map(|number| *into = number).is_some();
        let text = |into: &mut String| value.text().map(|text| text.trim().clone_into(into)).is_some();
        let taken = match key {
            "base_url" | "api_base" | "endpoint" | "url" => text(&mut spec.base_url),
            "endpoint_path" => value.text().map(|path| spec.endpoint_path = parts::endpoint(path)).is_some(),
            "model" | "default_model" => text(default_model),
            "description" => text(&mut spec.description),
            "display_name" => text(&mut spec.display_name),
            "enabled" | "is_enabled" => value.flag().map(|flag| spec.enabled = Some(flag)).is_some(),
            "context_window_tokens" | "context_window" => number(&mut spec.context_window_tokens),
            "max_output_tokens" => number(&mut spec.max_output_tokens),
            "models" | "supported_models" => {
                spec.models = parts::models(value);
                matches!(value, Tree::List(_))
            }
            "headers" | "additional_headers" => {
                parts::headers(&mut self.made, from, spec, value);
                matches!(value, Tree::Map(_))
            }
            "capabilities" => {
                parts::capabilities(&mut self.made, from, spec, value);
                true
            }
            key if setting_key::is_secret(key) => {
                self.made.left_out(
                    from,
                    "is a secret outside the table of keys; store it as a key of the provider",
                );
                return;
            }
            _ => {
                self.made.left_out(from, "there is no field for it");
                return;
            }
        };
        if !taken {
            self.made.problem(from, format!("is {}, which is not what it takes", value.what()));
        }
    }

    fn key(&mut self, row: &Row) {
        let Some((word, provider_type)) = self.type_of(row) else { return };
        let Some(id) = row.text(&["key_name"]).and_then(parts::id_for) else {
            return self.made.problem(&row.place, "has no `key_name`; select that column");
        };
        let columns = [("encrypted_key", Column::Sealed), ("api_key", Column::Plain)];
        let given = columns.into_iter().find_map(|(name, column)| Some((name, column, row.text(&[name])?)));
        let Some((column_name, column, stored)) = given else {
            return self.made.problem(format!("{}, encrypted_key", row.place), "is empty");
        };
        let opened = match parts::open(self.input.keys, stored, column) {
            Ok(opened) => opened,
            Err(what) => return self.made.problem(format!("{}, {column_name}", row.place), what),
        };
        if providers::is_no_key(opened.value.expose()) {
            return self.made.left_out(format!("{}, {column_name}", row.place), providers::PLACEHOLDER);
        }
        if self.refused.contains(&word) {
            let why = "goes with a row of provider_configs that is not valid";
            return self.made.left_out(&row.place, why);
        }
        if row.get(&["last_used_at"]).is_some() {
            let why = "is not stored with a key; its use is recorded anew from now on";
            self.made.left_out(format!("{}, last_used_at", row.place), why);
        }
        let provider = match self.default.get(&word).or(self.first.get(&word)) {
            Some(name) => name.clone(),
            None => self.provider_for_keys(row, &word, provider_type),
        };
        let mut spec = providers::api_key(Some(opened.value.expose()), "From the table `api_keys`.");
        spec.active = row.flag(&["is_active"]);
        let name = format!("{provider}/apiKeys/{id}");
        self.made.put(&row.place, name.as_str(), Spec::ApiKey(spec));
        settings_table::told(&mut self.made, row.place.clone(), name, opened.clear);
    }

    fn provider_for_keys(&mut self, row: &Row, word: &str, provider_type: ProviderType) -> String {
        let name = format!("providers/{}", self.made.free_id("providers", &providers::id_of(provider_type)));
        let display_name = providers::row(provider_type).map_or(word, |known| known.display_name).to_owned();
        let spec = ProviderSpec { r#type: provider_type.into(), display_name, ..ProviderSpec::default() };
        self.made.put(&row.place, name.as_str(), Spec::Provider(spec));
        let note = "no row of provider_configs is of its type; its keys go to the provider that the type is known by";
        self.made.item(&row.place, name.as_str(), Outcome::Changed, note);
        self.first.insert(word.to_owned(), name.clone());
        name
    }

    /// Where nothing says who is active, the defaults go into the router that is there.
    fn router(&mut self) {
        let order = std::mem::take(&mut self.order);
        let Some((_, _, primary)) = order.first() else { return };
        let note = match order.len() {
            1 => "nothing there says which provider is active; the default is",
            _ => "nothing there says which provider is active; the first default is",
        };
        parts::default_router(
            &mut self.made,
            "is_default",
            Says::Nothing,
            std::slice::from_ref(primary),
            note,
        );
        for (from, word, _) in &order {
            self.made.fills(from, parts::DEFAULT_ROUTER, format!("router.type_defaults.{word}"));
        }
        if let Some(Spec::Router(router)) = self.made.get_mut(parts::DEFAULT_ROUTER) {
            router.type_defaults = std::mem::take(&mut self.default);
        }
    }
}
