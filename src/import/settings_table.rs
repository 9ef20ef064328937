//! `settings`: rows of a table `settings` whose `setting_type` says what their JSON column `config` is.
//!
//! What is accepted stands in `shapes`.

use super::{
    Gathered, Imported, Input, Outcome, Problems, databases,
    parts::{self, Column, Says},
    providers,
    table::{self, Row},
    tree::Tree,
};
use crate::{
    domain::record::Spec,
    proto::v1::{DatabaseSpec, ProviderSpec},
};

/// The format's name.
pub const FORMAT: &str = "settings";

/// Converts dumps.
///
/// # Errors
/// Every row that can't be read.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut made = Gathered::new(FORMAT);
    let rows = table::read(input.files, &mut made)?;
    let mut converter = Converter { input, made, primaries: Vec::new(), fallbacks: Vec::new() };
    rows.iter().for_each(|row| converter.row(row));
    let known: [&[&str]; 4] =
        [&["setting_type", "type"], &["config"], &["name", "key"], &["enabled", "is_enabled", "is_active"]];
    table::leave_out_rest(&mut converter.made, &rows.iter().collect::<Vec<_>>(), &known);
    converter.router();
    Ok(converter.made.finish())
}

struct Converter<'a> {
    input: &'a Input<'a>,
    made: Gathered,
    primaries: Vec<String>,
    fallbacks: Vec<String>,
}

impl Converter<'_> {
    fn row(&mut self, row: &Row) {
        let config = match row.json("config") {
            Ok(config) => config.unwrap_or(Tree::Null),
            Err(what) => return self.made.problem(&row.place, what),
        };
        match row.text(&["setting_type", "type"]) {
            Some("llm_provider") => self.provider(row, &config),
            Some("database") => self.database(row, &config),
            Some(other) => {
                let why = format!(
                    "is of the type `{}`; llm_provider and database are imported",
                    other.escape_debug()
                );
                self.made.left_out(&row.place, why);
            }
            None => self.made.problem(&row.place, "has no `setting_type`; select that column and `config`"),
        }
    }

    fn provider(&mut self, row: &Row, config: &Tree) {
        let (word, base) = (text(config, "provider"), text(config, "base_url"));
        let name = row.text(&["name", "key"]).or(text(config, "name")).or(word);
        let Some(wanted) = name.and_then(parts::id_for) else {
            let what = "has neither a `name` nor a `provider` in its config, of which its id could be made";
            return self.made.problem(&row.place, what);
        };
        let id = self.made.free_id("providers", &wanted);
        let mut spec = ProviderSpec {
            r#type: parts::type_by(&[word], base).into(),
            display_name: row.text(&["name"]).or(word).unwrap_or_default().to_owned(),
            base_url: base.unwrap_or_default().to_owned(),
            enabled: row.flag(&["enabled", "is_enabled", "is_active"]),
            models: config.get("models").map(parts::models).unwrap_or_default(),
            ..ProviderSpec::default()
        };
        let default = text(config, "default_model").or(text(config, "model")).map(str::to_owned);
        let default = default.or(spec.models.first().cloned()).unwrap_or_default();
        parts::default_model(&mut spec, &default);
        let name = format!("providers/{id}");
        self.made.put(&row.place, name.as_str(), Spec::Provider(spec));
        self.made.imported(&row.place, name.as_str());
        self.key(row, config, &name);
        if config.get("is_primary").and_then(Tree::flag) == Some(true) {
            self.primaries.push(name);
        } else if config.get("is_fallback").and_then(Tree::flag) == Some(true) {
            self.fallbacks.push(name);
        }
        let known = [
            "provider",
            "api_key",
            "base_url",
            "models",
            "is_primary",
            "is_fallback",
            "name",
            "default_model",
            "model",
        ];
        self.leave_out_rest(row, config, &known);
    }

    fn key(&mut self, row: &Row, config: &Tree, provider: &str) {
        let from = format!("{}, api_key", row.place);
        let Some(stored) = text(config, "api_key") else {
            return self.made.left_out(from, "there is none");
        };
        match parts::open(self.input.keys, stored, Column::Plain) {
            Err(what) => self.made.part_problem(from, what),
            Ok(opened) if providers::is_no_key(opened.value.expose()) => {
                self.made.left_out(from, providers::PLACEHOLDER)
            }
            Ok(opened) => {
                let spec = providers::api_key(Some(opened.value.expose()), "From the table `settings`.");
                let name = format!("{provider}/apiKeys/settings");
                self.made.put(&from, name.as_str(), Spec::ApiKey(spec));
                told(&mut self.made, from, name, opened.clear);
            }
        }
    }

    fn database(&mut self, row: &Row, config: &Tree) {
        let Some(database_type) = text(config, "type").and_then(databases::type_of) else {
            let what = "has no `type` in its config that is known, such as `postgresql` or `redis`";
            return self.made.problem(&row.place, what);
        };
        let name = row.text(&["name", "key"]).or(text(config, "name")).or(text(config, "type"));
        let wanted = name.and_then(parts::id_for).unwrap_or_else(|| "main".to_owned());
        let id = self.made.free_id("databases", &wanted);
        let port = config.get("port").map(|port| port.whole::<u32>().ok_or("has a `port` that is no number"));
        let port = match port.transpose() {
            Ok(port) => port.unwrap_or_default(),
            Err(what) => return self.made.problem(&row.place, what),
        };
        let of = |key: &str| config.get(key).and_then(Tree::text).unwrap_or_default().to_owned();
        let mut spec = DatabaseSpec {
            r#type: database_type.into(),
            display_name: row.text(&["name"]).unwrap_or_default().to_owned(),
            host: of("host"),
            port,
            database: of("database"),
            user: text(config, "user").or(text(config, "username")).unwrap_or_default().to_owned(),
            enabled: row.flag(&["enabled", "is_enabled", "is_active"]),
            ..DatabaseSpec::default()
        };
        let (from, name) = (format!("{}, password", row.place), format!("databases/{id}"));
        match text(config, "password").map(|stored| parts::open(self.input.keys, stored, Column::Plain)) {
            Some(Err(what)) => return self.made.problem(from, what),
            Some(Ok(opened)) => {
                spec.password = databases::secret(opened.value.expose().to_owned());
                told(&mut self.made, from, name.clone(), opened.clear);
            }
            None => {}
        }
        let mut notes = Vec::new();
        databases::fill_tls(&mut spec, &mut notes);
        let outcome = if notes.is_empty() { Outcome::Imported } else { Outcome::Changed };
        self.made.put(&row.place, name.as_str(), Spec::Database(spec));
        self.made.item(&row.place, name, outcome, notes.join("; "));
        let known = ["type", "host", "port", "database", "user", "username", "password", "name"];
        self.leave_out_rest(row, config, &known);
    }

    fn leave_out_rest(&mut self, row: &Row, config: &Tree, known: &[&str]) {
        for (key, _) in config.entries().iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            self.made.left_out(format!("{}, {}", row.place, key.escape_debug()), "there is no field for it");
        }
    }

    fn router(&mut self) {
        let note = match self.primaries.len() {
            0 if self.fallbacks.is_empty() => return,
            0 => "none was the primary; the first fallback is",
            1 => "",
            _ => "several were the primary; the first is, the others come right behind it",
        };
        let says = if self.primaries.is_empty() { Says::Nothing } else { Says::Who };
        let order: Vec<String> = self.primaries.drain(..).chain(self.fallbacks.drain(..)).collect();
        parts::default_router(&mut self.made, "is_primary and is_fallback", says, &order, note);
    }
}

/// Tells of a secret, which may have lain there for everybody to read.
pub(super) fn told(made: &mut Gathered, from: String, name: String, clear: bool) {
    match clear {
        true => made.item(
            from,
            name,
            Outcome::Changed,
            "was stored in the clear; consider it known, and rotate it",
        ),
        false => made.imported(from, name),
    }
}

fn text<'a>(config: &'a Tree, key: &str) -> Option<&'a str> {
    config.get(key).and_then(Tree::text).filter(|text| !text.trim().is_empty())
}
