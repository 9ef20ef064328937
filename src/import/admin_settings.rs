//! `admin-settings`: an `admin_settings.json` with the LLM provider that an application uses, or with several.
//!
//! What is accepted stands in `shapes`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Gathered, Imported, Input, Outcome, Problems,
    parts::{self, Says},
    providers,
    tree::{self, Tree, Wiped},
};
use crate::{domain::record::Spec, proto::v1::ProviderSpec, setting_key};

/// The format's name.
pub const FORMAT: &str = "admin-settings";

/// Fields of a provider; a file that has one of them at the top is one provider.
const FIELDS: [&str; 20] = [
    "base_url",
    "api_base",
    "endpoint",
    "endpoint_path",
    "model",
    "default_model",
    "api_key",
    "name",
    "provider",
    "type",
    "display_name",
    "description",
    "enabled",
    "active",
    "models",
    "headers",
    "auth_scheme",
    "auth_header_template",
    "context_window_tokens",
    "max_output_tokens",
];

/// Fields that say the same; the first that is there is taken.
const SAME: [&[&str]; 4] = [
    &["base_url", "api_base"],
    &["endpoint_path", "endpoint"],
    &["default_model", "model"],
    &["name", "provider"],
];

/// Converts files.
///
/// # Errors
/// Everything that is not of the shape, by its path.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut converter = Converter {
        made: Gathered::new(FORMAT),
        order: Vec::new(),
        active: None,
        ids: BTreeMap::new(),
        literal: BTreeSet::new(),
    };
    for file in input.files {
        let documents = tree::parse(file.text.expose().trim_start_matches('\u{FEFF}'), true).map(Wiped);
        match documents.as_ref().map(|documents| documents.0.as_slice()) {
            Ok([settings @ Tree::Map(_)]) => converter.file(&file.name, settings),
            Ok(_) => converter.made.problem(&file.name, "is not one object; see `signalbox explain import`"),
            Err(error) => converter.made.problem(&file.name, format!("is not JSON: {error}")),
        }
    }
    Ok(converter.finish())
}

struct Converter {
    made: Gathered,
    /// Providers with their places, in the order of the file.
    order: Vec<(String, String)>,
    /// The place that says so, and the provider as it is called there.
    active: Option<(String, String)>,
    /// What providers are called here, by what they are called in the files.
    ids: BTreeMap<String, String>,
    /// Ids that providers of the present file have to the letter.
    literal: BTreeSet<String>,
}

/// The value of a field in either spelling.
fn field<'a>(map: &'a Tree, name: &str) -> Option<&'a Tree> {
    let found =
        map.entries().iter().find(|(key, value)| setting_key::normalise(key) == name && *value != Tree::Null);
    found.map(|(_, value)| value)
}

fn text<'a>(map: &'a Tree, names: &[&str]) -> Option<&'a str> {
    let found = names.iter().find_map(|name| field(map, name).and_then(Tree::text));
    found.map(str::trim).filter(|text| !text.is_empty())
}

/// What providers may be called beneath a field: its keys, or the names of its items.
fn names(value: &Tree) -> Vec<&str> {
    match value {
        Tree::Map(map) => map.iter().map(|(name, _)| name.as_str()).collect(),
        Tree::List(list) => list.iter().filter_map(|item| text(item, &["name", "provider"])).collect(),
        _ => Vec::new(),
    }
}

impl Converter {
    fn file(&mut self, file: &str, settings: &Tree) {
        let before = self.order.len();
        self.literal =
            settings.entries().iter().flat_map(|(_, value)| names(value)).filter_map(parts::id_for).collect();
        for (key, value) in settings.entries() {
            let path = format!("{file}: {}", key.escape_debug());
            match (setting_key::normalise(key).as_ref(), value) {
                ("providers" | "llm_providers", Tree::Map(map)) => {
                    for (name, provider) in map {
                        self.provider(&format!("{path}.{}", name.escape_debug()), Some(name), provider);
                    }
                }
                ("providers" | "llm_providers", Tree::List(list)) => {
                    for (index, provider) in list.iter().enumerate() {
                        self.provider(&format!("{path}[{index}]"), None, provider);
                    }
                }
                ("providers" | "llm_providers", other) => {
                    self.made
                        .problem(path, format!("is {}; providers are an object or a list", other.what()));
                }
                ("provider" | "llm" | "llm_provider", Tree::Map(_)) => self.provider(&path, None, value),
                ("active_provider", Tree::Text(name)) => self.active = Some((path, name.clone())),
                // Each is told as a field of the provider.
                _ if is_provider(settings) => {}
                _ => self.made.left_out(path, "is not about a provider"),
            }
        }
        if is_provider(settings) {
            self.provider(file, None, settings);
        }
        if self.order.len() == before && !self.made.has_problems() {
            self.made.problem(file, "holds no provider; the accepted shape is in `signalbox explain import`");
        }
    }

    fn provider(&mut self, path: &str, name: Option<&str>, given: &Tree) {
        if !matches!(given, Tree::Map(_)) {
            return self.made.problem(path, format!("is {}; a provider is an object", given.what()));
        }
        let base = text(given, &["base_url", "api_base"]);
        let word = name.or(text(given, &["name", "provider"]));
        let provider_type = parts::type_by(&[text(given, &["type"]), word], base);
        let id = word.map_or_else(|| Some(providers::id_of(provider_type)), |word| self.id(word));
        let Some(id) = id.filter(|_| word.is_some() || base.is_some()) else {
            return self
                .made
                .problem(path, "has neither a name nor a `base_url`, of which its id could be made");
        };
        let name = format!("providers/{id}");
        let mut spec = ProviderSpec {
            r#type: provider_type.into(),
            base_url: base.unwrap_or_default().trim_end_matches('/').to_owned(),
            endpoint_path: text(given, &["endpoint_path", "endpoint"])
                .map(parts::endpoint)
                .unwrap_or_default(),
            display_name: text(given, &["display_name"]).or(word).unwrap_or_default().to_owned(),
            description: text(given, &["description"]).unwrap_or_default().to_owned(),
            models: field(given, "models").map(parts::models).unwrap_or_default(),
            ..ProviderSpec::default()
        };
        let scheme = (text(given, &["auth_scheme"]), text(given, &["auth_header_template"]));
        let note = parts::authenticate(&mut spec, scheme.0, scheme.1);
        parts::default_model(&mut spec, text(given, &["default_model", "model"]).unwrap_or_default());
        self.typed(path, given, &mut spec);
        self.made.put(path, name.as_str(), Spec::Provider(spec));
        let outcome = if note.is_some() { Outcome::Changed } else { Outcome::Imported };
        self.made.item(path, name.as_str(), outcome, note.unwrap_or_default());
        self.key(path, &name, text(given, &["api_key"]));
        if field(given, "active").and_then(Tree::flag) == Some(true) && self.active.is_none() {
            self.active = Some((format!("{path}.active"), word.unwrap_or(&id).to_owned()));
            self.ids.entry(word.unwrap_or(&id).to_owned()).or_insert(id);
        }
        self.order.push((path.to_owned(), name));
    }

    /// The id of a provider by its name. What has other names elsewhere has one here, unless the file has both.
    fn id(&mut self, word: &str) -> Option<String> {
        let own = parts::id_for(word)?;
        let id = parts::known_id(word).filter(|known| !self.literal.contains(known)).unwrap_or(own);
        self.ids.insert(word.to_owned(), id.clone());
        Some(id)
    }

    /// The fields that are no texts, and those that have no place.
    fn typed(&mut self, path: &str, given: &Tree, spec: &mut ProviderSpec) {
        let repeated = parts::repeated(given, &SAME);
        for (key, value) in given.entries().iter().filter(|(_, value)| *value != Tree::Null) {
            let path = format!("{path}.{}", key.escape_debug());
            if let Some(taken) = repeated.get(key.as_str()) {
                self.made.left_out(path, format!("`{}` says the same, and is taken", taken.escape_debug()));
                continue;
            }
            let sound = match setting_key::normalise(key).as_ref() {
                "enabled" => value.flag().map(|flag| spec.enabled = Some(flag)).is_some(),
                "context_window_tokens" => value.whole().map(|n| spec.context_window_tokens = n).is_some(),
                "max_output_tokens" => value.whole().map(|n| spec.max_output_tokens = n).is_some(),
                "headers" => {
                    parts::headers(&mut self.made, &path, spec, value);
                    matches!(value, Tree::Map(_))
                }
                "models" => matches!(value, Tree::List(_)),
                "active" => value.flag().is_some(),
                "providers" | "active_provider" => true,
                name if FIELDS.contains(&name) => value.text().is_some(),
                _ => {
                    self.made.left_out(path, "there is no field for it");
                    continue;
                }
            };
            if !sound {
                self.made.problem(path, format!("is {}, which is not what it takes", value.what()));
            }
        }
    }

    fn key(&mut self, path: &str, provider: &str, value: Option<&str>) {
        let from = format!("{path}.api_key");
        match value {
            None => self.made.left_out(from, "there is none"),
            Some(value) if providers::is_no_key(value) => self.made.left_out(from, providers::PLACEHOLDER),
            Some(value) => match providers::key_problem(value) {
                Some(problem) => self.made.part_problem(from, problem),
                None => {
                    let name = format!("{provider}/apiKeys/admin_settings");
                    let spec = providers::api_key(Some(value), "From admin_settings.json.");
                    self.made.put(&from, name.as_str(), Spec::ApiKey(spec));
                    self.made.imported(from, name);
                }
            },
        }
    }

    fn finish(mut self) -> Imported {
        let named = self.active.take().map(|(path, word)| {
            let id = self
                .ids
                .get(&word)
                .cloned()
                .or_else(|| parts::known_id(&word))
                .or_else(|| parts::id_for(&word));
            (path, format!("providers/{}", id.unwrap_or_default()))
        });
        if let Some((path, name)) = &named
            && !self.order.iter().any(|(_, known)| known == name)
        {
            self.made.problem(path, "names a provider that is not in the file");
        }
        let says = if named.is_some() { Says::Who } else { Says::Nothing };
        if let Some((path, name)) = named.or_else(|| self.order.first().cloned()) {
            parts::default_router(&mut self.made, &path, says, &[name], "");
        }
        self.made.finish()
    }
}

/// Whether the file is a provider itself.
fn is_provider(settings: &Tree) -> bool {
    let has = |name: &str| field(settings, name).is_some();
    let nested = ["providers", "llm_providers", "llm", "llm_provider"].into_iter().any(has)
        || matches!(field(settings, "provider"), Some(Tree::Map(_)));
    !nested && ["base_url", "api_base", "api_key"].into_iter().any(has)
}
