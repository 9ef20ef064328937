//! What files of models and prices have in common: how an entry is named, and what is told of thousands of them.
//!
//! Must not know any file.

use std::collections::BTreeMap;

use super::{
    Gathered, Imported, Item, Outcome,
    decimal::{self, Price},
    gather, parts, providers,
};
use crate::{
    domain::record::Spec,
    kinds::{model, provider_types},
    proto::v1::{ModelSource, ModelSpec},
};

/// Models of a file.
pub struct ModelFile {
    /// What was made so far.
    pub made: Gathered,
    /// Fields that have no place here, with the number of models that have them.
    dropped: BTreeMap<String, usize>,
    rounded: usize,
}

impl ModelFile {
    /// Nothing yet, of this format.
    #[must_use]
    pub fn new(format: &'static str) -> Self {
        Self { made: Gathered::new(format), dropped: BTreeMap::new(), rounded: 0 }
    }

    /// Notes a field that has no place here.
    pub fn drop_field(&mut self, field: impl Into<String>) {
        *self.dropped.entry(field.into()).or_default() += 1;
    }

    /// The text of a price, of which it is noted if it was rounded. `None` where it is none.
    pub fn price(&mut self, read: Option<Price>) -> Option<String> {
        let price = read?;
        self.rounded += usize::from(price.rounded);
        Some(price.text)
    }

    /// Takes a model of a provider. One that its kind refuses is left out, as is a second one of the same name.
    pub fn put(&mut self, from: &str, provider: &str, model_id: &str, mut spec: ModelSpec) {
        let segment = model::segment_of(model_id);
        let name = format!("models/{provider}/{segment}");
        if model::model_id_of(&segment) != model_id {
            model_id.clone_into(&mut spec.model_id);
        }
        if self.made.has(&name) {
            return self.made.left_out(from, format!("another entry is {name} already"));
        }
        spec.source = ModelSource::Imported.into();
        let spec = Spec::Model(spec);
        if let Some(violation) = gather::violations(&name, &spec).into_iter().next() {
            return self.made.left_out(from, format!("{} {}", violation.field, violation.description));
        }
        self.made.put(from, name.as_str(), spec);
        self.made.imported(from, name);
    }

    /// Everything that is valid, with what was dropped.
    #[must_use]
    pub fn finish(mut self) -> Imported {
        for (field, count) in &self.dropped {
            self.made.left_out(field, format!("has no place in a model; {count} models have it"));
        }
        if self.rounded > 0 {
            let note = format!(
                "{} have more than 9 digits behind the point for a million tokens; rounded",
                self.rounded
            );
            self.made.item("prices", "", Outcome::Changed, note);
        }
        self.made.finish()
    }
}

/// The models of these providers, by their words, and an item that counts the others.
///
/// # Errors
/// When nothing is of one of them.
pub fn only(mut imported: Imported, words: &[String]) -> Result<Imported, String> {
    let prefix = |word: &String| provider_segment(word).map(|segment| format!("models/{segment}/"));
    let mut wanted = Vec::new();
    for word in words {
        let is_there = |prefix: &String| imported.resources.iter().any(|one| one.name.starts_with(prefix));
        let found = prefix(word).filter(is_there);
        wanted.push(found.ok_or_else(|| format!("the files have no model of `{}`", word.escape_debug()))?);
    }
    let is_wanted = |name: &str| wanted.iter().any(|prefix| name.starts_with(prefix));
    let before = imported.resources.len();
    imported.resources.retain(|one| is_wanted(&one.name));
    imported.items.retain(|item| item.to.is_empty() || is_wanted(&item.to));
    let others = before - imported.resources.len();
    if others > 0 {
        let why = format!("{others} that were not asked for");
        imported.items.push(Item::new("models of other providers", "", Outcome::LeftOut, why));
    }
    Ok(imported)
}

/// The segment that stands for another system's provider: the word for its type, else its own name as an id.
#[must_use]
pub fn provider_segment(word: &str) -> Option<String> {
    providers::type_of(word).map(provider_types::word).or_else(|| parts::id_for(word))
}

/// A number of tokens: whole, not negative, and no more than fits; files write it as text, too.
#[must_use]
pub fn tokens(text: &str) -> Option<u32> {
    let text = text.trim_matches('"');
    match text.strip_suffix(".0").unwrap_or(text).parse() {
        Ok(tokens) => Some(tokens),
        // 1e6 and 1.28e5 are written by some.
        Err(_) => decimal::of_million(text).and_then(|number| number.text.parse().ok()),
    }
}
