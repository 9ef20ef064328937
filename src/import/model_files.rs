//! What files of models and prices have in common: how an entry is named, and what is told of thousands of them.
//!
//! Must not know any file.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Gathered, Imported, Outcome,
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
    /// The segments of the providers whose models are taken; `None` for all.
    wanted: Option<BTreeSet<String>>,
    /// The segments of all providers that the files have models of.
    providers: BTreeSet<String>,
    /// Entries of providers that are not wanted.
    others: usize,
}

impl ModelFile {
    /// Nothing yet, of this format; of the providers of these words only, where there are any.
    #[must_use]
    pub fn new(format: &'static str, only: &[String]) -> Self {
        Self {
            made: Gathered::new(format),
            dropped: BTreeMap::new(),
            rounded: 0,
            wanted: (!only.is_empty())
                .then(|| only.iter().filter_map(|word| provider_segment(word)).collect()),
            providers: BTreeSet::new(),
            others: 0,
        }
    }

    /// Whether entries are passed over, because nobody wants those of their provider, which is `None` where none can be read.
    pub fn passes_over(&mut self, segment: Option<&str>, entries: usize) -> bool {
        self.providers.extend(segment.filter(|_| entries > 0).map(str::to_owned));
        let Some(wanted) = &self.wanted else { return false };
        let passed = !segment.is_some_and(|segment| wanted.contains(segment));
        self.others += if passed { entries } else { 0 };
        passed
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
        if self.others > 0 {
            let why = format!("{} that were not asked for", self.others);
            self.made.left_out("models of other providers", why);
        }
        Imported { providers: self.providers, ..self.made.finish() }
    }
}

/// Checks that files have models of all of these providers, by their words.
///
/// # Errors
/// The first of which there is none, with those that there are: the ones that are called alike, where any are.
pub fn has_all(imported: &Imported, words: &[String]) -> Result<(), String> {
    for word in words {
        let segment = provider_segment(word).ok_or("names no provider; give words such as `openai,groq`")?;
        if imported.providers.contains(&segment) {
            continue;
        }
        let alike: Vec<&str> = imported
            .providers
            .iter()
            .map(String::as_str)
            .filter(|other| other.contains(&segment) || segment.contains(other))
            .collect();
        let known = match alike.is_empty() {
            true => imported.providers.iter().map(String::as_str).collect(),
            false => alike,
        };
        let word = word.escape_debug();
        return Err(format!("the files have no model of `{word}`; they have those of {}", some_of(&known)));
    }
    Ok(())
}

/// The first of many, and how many more there are.
fn some_of(names: &[&str]) -> String {
    let listed = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

/// Providers that an error names: a file has a hundred of them.
const NAMED: usize = 40;

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
