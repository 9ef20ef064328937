//! Which model a provider is asked for, where a call names one and another provider steps in.
//!
//! Owns that rule, which `tests/vectors/routing.json` holds in every language. Must not know keys or HTTP.

use crate::{
    choice::type_word,
    client::{Model, Provider, Snapshot},
};

/// The model that a provider is asked for: the call's own where it is meant for this one or is known to be had here, else the
/// provider's default. One that has no default is asked for the call's.
///
/// `meant` is the id of the provider that the call is for: the one that it names, else the router's primary.
pub(super) fn asked_for<'a>(
    snapshot: &Snapshot,
    provider: &'a Provider,
    wanted: &'a str,
    meant: &str,
) -> &'a str {
    let default = provider.spec().default_model.as_str();
    if wanted.is_empty() {
        return default;
    }
    let has = || {
        provider.spec().models.iter().any(|model| model == wanted)
            || known(snapshot, provider, wanted).is_some()
    };
    if default.is_empty() || provider.id() == meant || has() { wanted } else { default }
}

/// The catalogue's entry of a model, by the provider's id or by its type.
pub(super) fn known(snapshot: &Snapshot, provider: &Provider, model: &str) -> Option<Model> {
    let by_type = || snapshot.model(&type_word(provider.spec().r#type()), model);
    snapshot.model(provider.id(), model).or_else(by_type)
}
