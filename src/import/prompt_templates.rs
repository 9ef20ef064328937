//! `prompt-templates`: rows of a table of prompt templates with a JSON column `llm_preferences`.
//!
//! What is accepted stands in `shapes`.

use std::collections::BTreeSet;

use super::{
    Gathered, Imported, Input, Outcome, Problems, gather, parts,
    preferences::{self, Taken},
    table::{self, Row},
    tree::Tree,
};
use crate::{
    domain::record::Spec,
    kinds::{self, credential},
    proto::v1::{PromptTemplateSpec, SettingSpec, TemplateVariable, setting_spec::Value},
    setting_key,
};

/// The format's name.
pub const FORMAT: &str = "prompt-templates";

/// Converts dumps.
///
/// # Errors
/// Every row that can't be read.
pub fn convert(input: &Input<'_>) -> Result<Imported, Problems> {
    let mut made = Gathered::new(FORMAT);
    let rows = table::read(input.files, &mut made)?;
    rows.iter().for_each(|row| template(&mut made, row));
    let known: [&[&str]; 9] = [
        &["name"],
        &["title"],
        &["display_name"],
        &["description"],
        &["template", "content", "prompt", "prompt_text", "body", "text"],
        &["system_prompt", "system_message"],
        &["variables"],
        &["llm_preferences"],
        &["preferences"],
    ];
    table::leave_out_rest(&mut made, &rows.iter().collect::<Vec<_>>(), &known);
    Ok(made.finish())
}

fn template(made: &mut Gathered, row: &Row) {
    let Some(wanted) = row.text(&["name", "title", "id"]).and_then(parts::id_for) else {
        return made
            .problem(&row.place, "has no `name` of which its id could be made; select that column or `id`");
    };
    let id = made.free_id("promptTemplates", &wanted);
    let of = |columns: &[&str]| row.text(columns).unwrap_or_default().to_owned();
    let mut spec = PromptTemplateSpec {
        display_name: of(&["display_name", "title", "name"]),
        description: of(&["description"]),
        template: of(&["template", "content", "prompt", "prompt_text", "body", "text"]),
        ..PromptTemplateSpec::default()
    };
    spec.chat.get_or_insert_default().system_prompt = of(&["system_prompt", "system_message"]);
    let mut notes = Vec::new();
    match row.json("variables") {
        Ok(variables) => declare(&mut spec, &names(variables.as_ref()), &mut notes),
        Err(what) => return made.problem(&row.place, what),
    }
    let column = if row.has("llm_preferences") { "llm_preferences" } else { "preferences" };
    let name = format!("promptTemplates/{id}");
    match row.json(column) {
        Ok(Some(given @ Tree::Map(_))) => prefer(made, row, (column, &given), &name, &mut spec),
        Ok(None) => {}
        Ok(Some(_)) => made.item(
            format!("{}, {column}", row.place),
            name.as_str(),
            Outcome::Defaulted,
            "is no object; the defaults are used",
        ),
        Err(what) => made.item(
            format!("{}, {column}", row.place),
            name.as_str(),
            Outcome::Defaulted,
            format!("{what}; the defaults are used"),
        ),
    }
    let outcome = if notes.is_empty() { Outcome::Imported } else { Outcome::Changed };
    made.item(&row.place, name.as_str(), outcome, notes.join("; "));
    made.put(&row.place, name, Spec::PromptTemplate(spec));
}

/// Takes preferences; each is told.
fn prefer(
    made: &mut Gathered,
    row: &Row,
    (column, given): (&str, &Tree),
    name: &str,
    spec: &mut PromptTemplateSpec,
) {
    let mut unmapped = Vec::new();
    let mut parameters = Vec::new();
    let repeated = parts::repeated(given, &preferences::SAME);
    for (key, value) in given.entries() {
        let from = format!("{}, {column}.{}", row.place, key.escape_debug());
        if let Some(taken) = repeated.get(key.as_str()).filter(|_| preferences::is_known(key)) {
            made.left_out(from, format!("`{}` says the same, and is taken", taken.escape_debug()));
            continue;
        }
        match preferences::take(&mut spec.clone(), key, value) {
            Taken::Unknown if names_secret(key) => made.left_out(from, SECRET),
            Taken::Unknown => unmapped.push((key.clone(), without_secrets(made, &from, value))),
            Taken::Wrong(what) => {
                made.item(from, name, Outcome::Defaulted, format!("{what}; the default is used"))
            }
            Taken::As(field) => parameters.push(Parameter { from, key, value, field }),
        }
    }
    agree(made, name, spec, parameters);
    if unmapped.is_empty() {
        return;
    }
    let setting =
        format!("settings/prompt_templates.{}.preferences", name.rsplit('/').next().unwrap_or_default());
    let setting = kinds::parse_name(&setting).map_or(setting, |(name, _)| name.to_string());
    for (key, _) in &unmapped {
        let from = format!("{}, {column}.{}", row.place, key.escape_debug());
        made.item(from, setting.as_str(), Outcome::Changed, "is no parameter; it is kept in a setting");
    }
    let description = format!("Preferences of {name} that are no parameters.");
    let value = Some(Value::JsonValue(Tree::Map(unmapped).to_json()));
    made.put(&row.place, setting, Spec::Setting(SettingSpec { value, description }));
}

/// A preference that is a parameter.
struct Parameter<'t> {
    from: String,
    key: &'t str,
    value: &'t Tree,
    /// Its path beneath the template.
    field: &'static str,
}

/// Takes parameters, but for those that the kind refuses, each by itself or beside another: these are told, and their defaults
/// are used.
fn agree(made: &mut Gathered, name: &str, spec: &mut PromptTemplateSpec, mut all: Vec<Parameter<'_>>) {
    let before = spec.clone();
    loop {
        spec.clone_from(&before);
        for parameter in &all {
            preferences::take(spec, parameter.key, parameter.value);
        }
        let violations = gather::violations(name, &Spec::PromptTemplate(spec.clone()));
        let refused = violations.into_iter().find_map(|violation| {
            let named = violation.field.strip_prefix("prompt_template.")?;
            // The last of those that it names gives way.
            let at =
                all.iter().rposition(|one| named.starts_with(one.field) || one.field.starts_with(named))?;
            Some((at, violation))
        });
        let Some((at, violation)) = refused else { break };
        let note = format!("{}; the default is used", violation.description);
        made.item(all.remove(at).from, name, Outcome::Defaulted, note);
    }
    for parameter in all {
        made.imported(parameter.from, name);
    }
}

/// Why a preference is left out.
const SECRET: &str = "is a secret by its name, and preferences are not sealed; store it as a key of a provider or as a secret setting";

/// The same of one that is a secret by its value.
const SHOWN: &str = "holds a credential, and preferences are not sealed; store it as a key of a provider or as a secret setting";

/// Whether a key is the name of a secret, however its words are joined, or of a header that carries one.
fn names_secret(key: &str) -> bool {
    let words = key.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    setting_key::is_secret(&setting_key::normalise(&words)) || kinds::carries_credentials(key.trim())
}

/// A value without what is a secret by its name; each is told.
fn without_secrets(made: &mut Gathered, from: &str, value: &Tree) -> Tree {
    match value {
        Tree::Map(map) => {
            let mut kept = Vec::with_capacity(map.len());
            for (key, value) in map {
                let from = format!("{from}.{}", key.escape_debug());
                match names_secret(key) {
                    true => made.left_out(from, SECRET),
                    false => kept.push((key.clone(), without_secrets(made, &from, value))),
                }
            }
            Tree::Map(kept)
        }
        Tree::List(list) => {
            let item =
                |(index, item): (usize, &Tree)| without_secrets(made, &format!("{from}[{index}]"), item);
            Tree::List(list.iter().enumerate().map(item).collect())
        }
        Tree::Text(text) if credential::found_in(text).is_some() => {
            made.left_out(from, SHOWN);
            Tree::Null
        }
        other => other.clone(),
    }
}

/// The names of a list of names, of a list of objects with a name, or of a map.
fn names(variables: Option<&Tree>) -> Vec<String> {
    let Some(variables) = variables else { return Vec::new() };
    let name = |item: &Tree| item.text().or(item.get("name").and_then(Tree::text)).map(str::to_owned);
    let of_list = variables.items().iter().filter_map(name);
    of_list.chain(variables.entries().iter().map(|(name, _)| name.clone())).collect()
}

/// Declares the variables that the texts use.
fn declare(spec: &mut PromptTemplateSpec, listed: &[String], notes: &mut Vec<String>) {
    let single = listed.iter().fold(false, |found, name| {
        let (one, two) = (format!("{{{name}}}"), format!("{{{{{name}}}}}"));
        let mut found = found;
        let chat = spec.chat.get_or_insert_default();
        for text in [&mut spec.template, &mut chat.system_prompt] {
            // What is doubled already stays so.
            let doubled = text.replace(&two, "\u{0}");
            if doubled.contains(&one) {
                found = true;
            }
            *text = doubled.replace(&one, &two).replace('\u{0}', &two);
        }
        found
    });
    if single {
        notes.push("its variables stand in double braces from now on".to_owned());
    }
    let mut used = BTreeSet::new();
    let chat = spec.chat.get_or_insert_default();
    for text in [&spec.template, &chat.system_prompt] {
        used.extend(text.split("{{").skip(1).filter_map(|rest| {
            let name = rest.split_once("}}")?.0.trim();
            let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            (!name.is_empty() && letters && !name.starts_with(|first: char| first.is_ascii_digit()))
                .then(|| name.to_owned())
        }));
    }
    let variable = |name: String| TemplateVariable { name, ..TemplateVariable::default() };
    spec.variables = used.into_iter().map(variable).collect();
    let unused: Vec<&String> =
        listed.iter().filter(|name| !spec.variables.iter().any(|variable| variable.name == **name)).collect();
    if !unused.is_empty() {
        notes.push(format!("{} of its variables are used nowhere, and are not declared", unused.len()));
    }
}
