//! What a new store begins with, as a table for the log: names and variables, and nothing of a value.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Item, Outcome, catalogue::FACTS_OF, env, providers::KNOWN, starters::Beginning};
use crate::{
    domain::record::Spec,
    proto::v1::{ProviderSpec, Resource},
};

/// The whole table, several lines.
#[must_use]
pub fn table(beginning: &Beginning) -> String {
    let providers = providers(beginning);
    let models: Vec<&Resource> =
        beginning.resources.iter().filter(|one| one.name.starts_with("models/")).collect();
    let facts_of = models.first().and_then(|one| one.labels.get(FACTS_OF)).map_or("", String::as_str);
    let mut text = format!("{:<24} {:<7} {:<8} key from\n", "provider", "active", "enabled");
    let yes = |is: bool| if is { "yes" } else { "-" };
    for (name, spec) in &providers {
        let key = key_from(&beginning.items, name).unwrap_or("-");
        let (active, enabled) = (yes(**name == beginning.active), yes(spec.enabled != Some(false)));
        let _ = writeln!(text, "{name:<24} {active:<7} {enabled:<8} {key}");
    }
    let _ =
        writeln!(text, "total: {} providers, {} models (facts of {facts_of})", providers.len(), models.len());
    let of = |outcome| beginning.items.iter().filter(move |item| item.outcome == outcome);
    list(&mut text, "taken over:", beginning.items.iter().filter(is_taken));
    list(&mut text, "not valid, and not taken over:", of(Outcome::Refused));
    let (known, other): (Vec<&Item>, Vec<&Item>) =
        of(Outcome::LeftOut).partition(|item| is_known(&item.from));
    list(&mut text, "not taken over:", known.into_iter());
    if !other.is_empty() {
        let _ = writeln!(text, "other variables, which are none of those that are read: {}", other.len());
    }
    text.trim_end().to_owned()
}

/// Why the write was made, for the history: the variables that something was taken over from.
#[must_use]
pub fn reason(beginning: &Beginning, most_chars: usize) -> String {
    let mut text = String::from("first start: starter providers and the catalogue of models");
    let mut from: Vec<&str> = Vec::new();
    for item in beginning.items.iter().filter(is_taken) {
        let variable = variable(&item.from);
        if !from.contains(&variable) {
            from.push(variable);
        }
    }
    if !from.is_empty() {
        let _ = write!(text, "; {}", from.join(", "));
    }
    text.chars().take(most_chars).collect()
}

/// What was not valid, for whoever looks after the server; `None` where all was.
#[must_use]
pub fn refused(beginning: &Beginning) -> Option<String> {
    let refused = beginning.items.iter().filter(|item| item.outcome == Outcome::Refused);
    let told: Vec<String> = refused.map(|item| format!("{}: {}", item.from, item.note)).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn is_taken(item: &&Item) -> bool {
    !matches!(item.outcome, Outcome::LeftOut | Outcome::Refused)
}

fn list<'a>(text: &mut String, title: &str, items: impl Iterator<Item = &'a Item>) {
    let mut lines = items.map(|item| format!("  {item}")).peekable();
    if lines.peek().is_some() {
        let _ = writeln!(text, "{title}\n{}", lines.collect::<Vec<_>>().join("\n"));
    }
}

/// The providers in the order in which the active one is looked for.
fn providers(beginning: &Beginning) -> Vec<(&str, &ProviderSpec)> {
    let found: BTreeMap<&str, &ProviderSpec> = beginning
        .resources
        .iter()
        .filter_map(|one| match &one.spec {
            Some(Spec::Provider(spec)) => Some((one.name.as_str(), spec)),
            _ => None,
        })
        .collect();
    let in_order =
        KNOWN.iter().filter_map(|known| found.get_key_value(format!("providers/{}", known.id).as_str()));
    in_order.map(|(name, spec)| (*name, *spec)).collect()
}

fn key_from<'a>(items: &'a [Item], provider: &str) -> Option<&'a str> {
    let beneath = format!("{provider}/apiKeys/");
    items.iter().filter(is_taken).find(|item| item.to.starts_with(&beneath)).map(|item| item.from.as_str())
}

/// The variable of an item, without the place where it stands.
fn variable(from: &str) -> &str {
    from.split_once(' ').map_or(from, |(name, _)| name)
}

fn is_known(from: &str) -> bool {
    env::names().any(|name| name == variable(from))
}
