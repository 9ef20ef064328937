//! `litellm`: the `config.yaml` of LiteLLM's proxy.
//!
//! What is accepted stands in `shapes`.

mod credentials;
mod deployments;
mod headers;
mod routers;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Gathered, Imported, Input, Outcome, Problems, azure,
    gather::Numbered,
    model_files::ModelFile,
    parts,
    tree::{self, Tree, Wiped},
};
use crate::proto::v1::RouterSpec;

/// The format's name.
pub const FORMAT: &str = "litellm";

/// How LiteLLM writes a reference to the environment.
const REFERENCE: &str = "os.environ/";

/// Converts files.
///
/// # Errors
/// Everything that is not of the shape, by its path.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut converter = Converter::new(input);
    for file in input.files {
        let documents = tree::parse(file.text.expose(), false).map(Wiped);
        match documents.as_ref().map(|documents| documents.0.as_slice()) {
            Ok([config @ Tree::Map(_)]) => converter.file(&file.name, config),
            Ok(_) => {
                let what = "is not one YAML map with `model_list`";
                converter.made().problem(&file.name, what);
            }
            Err(error) => converter.made().problem(&file.name, format!("is not YAML: {error}")),
        }
    }
    converter.unused_credentials();
    converter.routers();
    let made_up = converter.made_up;
    Ok(Imported { made_up, ..converter.catalogue.finish() })
}

/// One entry of `model_list` that could be carried over.
struct Deployment {
    place: String,
    /// Its `model_name`.
    group: String,
    /// Its provider, `providers/{id}`.
    provider: String,
    /// Its model as calls carry it; `None` for a pattern of many.
    model_id: Option<String>,
}

struct Converter<'a> {
    input: &'a Input<'a>,
    catalogue: ModelFile,
    /// What entries share, by name.
    known_credentials: BTreeMap<String, credentials::Credential>,
    /// Variables that the file itself sets.
    variables: BTreeMap<String, String>,
    deployments: Vec<Deployment>,
    /// Providers that a pattern lets take any model.
    patterns: BTreeSet<String>,
    /// Providers by what sets them apart.
    providers: BTreeMap<Vec<String>, String>,
    /// The ids that providers are given, and what they were made of.
    made_up: BTreeMap<String, String>,
    numbered: Numbered,
    /// Keys by their provider and by where their value comes from.
    keys: BTreeMap<(String, String), String>,
    /// What all routers have in common.
    routing: RouterSpec,
    /// Groups that stand in for a group, with the path that says so.
    fallbacks: Vec<(String, String, Vec<String>)>,
    default_fallbacks: Option<(String, Vec<String>)>,
}

/// What a value with a reference to the environment stands for.
enum Value {
    /// This text.
    Text(String),
    /// A variable that is not set.
    Unset(String),
}

impl<'a> Converter<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        Self {
            input,
            catalogue: ModelFile::new(FORMAT, &[]),
            known_credentials: BTreeMap::new(),
            variables: BTreeMap::new(),
            deployments: Vec::new(),
            patterns: BTreeSet::new(),
            providers: BTreeMap::new(),
            made_up: BTreeMap::new(),
            numbered: Numbered::default(),
            keys: BTreeMap::new(),
            routing: RouterSpec::default(),
            fallbacks: Vec::new(),
            default_fallbacks: None,
        }
    }

    fn made(&mut self) -> &mut Gathered {
        &mut self.catalogue.made
    }

    fn left_out(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.made().left_out(path, why);
    }

    fn file(&mut self, file: &str, config: &Tree) {
        // First, because entries refer to them.
        for (name, value) in config.get("environment_variables").map(Tree::entries).unwrap_or_default() {
            self.variables.insert(name.clone(), value.text().unwrap_or_default().to_owned());
            self.left_out(
                format!("environment_variables.{}", name.escape_debug()),
                "is for the proxy itself",
            );
        }
        self.credentials(file, config);
        for (key, value) in config.entries() {
            match (key.as_str(), value) {
                ("environment_variables" | "credential_list", _) | (_, Tree::Null) => {}
                ("model_list", Tree::List(entries)) => {
                    for (index, entry) in entries.iter().enumerate() {
                        self.deployment(&format!("model_list[{index}]"), entry);
                    }
                }
                ("model_list", other) => {
                    let what = format!("is {}; it has to be a list of models", other.what());
                    self.made().problem(format!("{file}: model_list"), what);
                }
                ("router_settings" | "litellm_settings", Tree::Map(_)) => self.section(file, key, value),
                ("general_settings", Tree::Map(settings)) => {
                    for (name, _) in settings {
                        let why = "is for the proxy itself, which Signalbox is not";
                        self.left_out(format!("general_settings.{}", name.escape_debug()), why);
                    }
                }
                _ => self.left_out(
                    key.escape_debug().to_string(),
                    "is for the proxy itself, which Signalbox is not",
                ),
            }
        }
        if config.get("model_list").is_none() {
            self.made().problem(file, "has no `model_list`, of which providers, keys and models are made");
        }
    }

    /// What a text stands for; a reference is looked up in the environment, then in the file.
    fn value(&self, text: &str) -> Value {
        let Some(name) = text.trim().strip_prefix(REFERENCE) else {
            return Value::Text(text.trim().to_owned());
        };
        match self.variable(name) {
            Some(value) => Value::Text(value),
            None => Value::Unset(name.to_owned()),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        let outer = (self.input.environment)(name).and_then(|value| value.into_string().ok());
        outer
            .or_else(|| self.variables.get(name).cloned())
            .map(|value| value.trim().to_owned())
            .filter(|v| !v.is_empty())
    }
}
