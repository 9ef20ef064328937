//! Facts of one thing from several sources: what one says is laid over what another has said, field by field, so that each keeps
//! what only it knows.
//!
//! Models have several sources, and so have providers and who of them is active: a file says little of a provider that is
//! there. Of a model the source that brought it goes first: another one fills in only what that does not say, so that sources
//! don't overwrite each other by turns. The catalogue that comes with this binary is older than any file, and yields to it.
//! Must not know what a format looks like.

use prost::Message as _;

use super::{
    catalogue,
    edited::{self, IMPORTED_FROM},
    env, gather, litellm, litellm_prices, parts, starters,
};
use crate::{
    domain::record::Spec,
    proto::v1::{ModelSpec, ParameterSupport, ProviderSpec, Resource, RouterSpec},
};

/// Fallbacks that a router has at most.
const MAX_FALLBACKS: usize = 16;

/// An imported resource laid over what an import has made before, and nobody has edited; `callable` says of a provider whether
/// it has what calls of it take. `None` where the new one takes the place of the other as a whole.
#[must_use]
pub fn laid_over(stored: &Resource, imported: &Resource, callable: bool) -> Option<Resource> {
    let old = stored.spec.as_ref()?;
    let mut new = imported.spec.clone()?;
    rebase(old, &mut new);
    let only_fills = matches!(new, Spec::Model(_)) && only_fills(stored, imported);
    if let (Spec::Model(old), Spec::Model(new)) = (old, &mut new)
        && is_from(imported, litellm_prices::FORMAT)
    {
        let denies = imported.labels.get(edited::DENIES).map_or("", String::as_str);
        litellm_prices::leave_unsaid(old, new, denies);
    }
    let merged = match (old, &new) {
        (Spec::Model(old), Spec::Model(new)) if only_fills && is_from(stored, litellm_prices::FORMAT) => {
            Spec::Model(merge(new, &litellm_prices::without_guess(old, new)))
        }
        (Spec::Model(old), Spec::Model(new)) if only_fills => Spec::Model(merge(new, old)),
        (Spec::Model(old), Spec::Model(new)) => Spec::Model(merge(old, new)),
        // What is of another type has other defaults for everything.
        (Spec::Provider(old), Spec::Provider(new)) if old.r#type == new.r#type => {
            Spec::Provider(merge_provider((stored, old), (imported, new), callable))
        }
        (Spec::Router(old), Spec::Router(new)) if imported.name == parts::DEFAULT_ROUTER => {
            Spec::Router(merge_router(old, new, is_from(stored, starters::FORMAT)))
        }
        _ => return None,
    };
    // What the sources say together may contradict itself.
    if !gather::violations(&imported.name, &merged).is_empty() {
        return None;
    }
    let mut labels = stored.labels.clone();
    if !only_fills {
        labels.extend(imported.labels.clone());
    }
    labels.remove(edited::DENIES);
    let format = labels.get(IMPORTED_FROM).cloned().unwrap_or_default();
    let mut resource = Resource { labels, spec: Some(merged), ..imported.clone() };
    edited::stamp(&mut resource, &format);
    // A source that says nothing new leaves no trace.
    if resource.spec == stored.spec {
        resource.labels.clone_from(&stored.labels);
    }
    Some(resource)
}

/// Whether what is imported comes from another source than the one that brought what is stored, and yields to it.
fn only_fills(stored: &Resource, imported: &Resource) -> bool {
    stored.labels.get(IMPORTED_FROM) != imported.labels.get(IMPORTED_FROM)
        && !is_from(stored, catalogue::FORMAT)
}

/// What `new` says, and where it says nothing what `old` does. Lists are taken whole, and so is what only makes sense together.
fn merge(old: &ModelSpec, new: &ModelSpec) -> ModelSpec {
    let mut merged = old.clone();
    for (list, given) in [
        (&mut merged.input_modalities, &new.input_modalities),
        (&mut merged.output_modalities, &new.output_modalities),
        (&mut merged.capabilities, &new.capabilities),
    ] {
        if !given.is_empty() {
            list.clear();
        }
    }
    let currency = |model: &ModelSpec| model.prices.as_ref().map(|prices| prices.currency.clone());
    let same = [old, new].map(|model| currency(model).unwrap_or_default().replace("USD", ""));
    if new.prices.is_some() && same[0] != same[1] {
        merged.prices = None;
    }
    if new.reasoning.is_some() {
        merged.reasoning = None;
    }
    if let (Some(old), Some(new)) = (&mut merged.parameters, &new.parameters) {
        forget_ranges(old, new);
    }
    // What was encoded just now can be read.
    let _ = merged.merge(new.encode_to_vec().as_slice());
    merged
}

fn is_from(resource: &Resource, format: &str) -> bool {
    resource.labels.get(IMPORTED_FROM).is_some_and(|from| from == format)
}

/// A provider with what `new` says of it. LiteLLM names the models that its callers use, which are no reason to take others or
/// the default from a provider that is there.
fn merge_provider(
    (stored, old): (&Resource, &ProviderSpec),
    (imported, new): (&Resource, &ProviderSpec),
    callable: bool,
) -> ProviderSpec {
    let (mut merged, mut new) = (old.clone(), new.clone());
    // Variables say nothing of models: what they bring is the type's, for a provider that has none.
    if is_from(imported, env::FORMAT) && !old.default_model.is_empty() && !is_from(stored, starters::FORMAT) {
        new.default_model.clear();
    }
    if is_from(imported, litellm::FORMAT) {
        let added = std::mem::take(&mut new.models);
        if !old.models.is_empty() {
            new.models.clone_from(&old.models);
            new.models.extend(added.into_iter().filter(|model| !old.models.contains(model)));
        }
        if !old.default_model.is_empty() {
            new.default_model.clear();
        }
    }
    // A file that has no name to show says the id again.
    let shown = parts::known_id(&new.display_name).or_else(|| parts::id_for(&new.display_name));
    if !old.display_name.is_empty() && shown.as_deref() == imported.name.strip_prefix("providers/") {
        new.display_name.clear();
    }
    // A starter waits for its key.
    if callable && is_from(stored, starters::FORMAT) {
        merged.enabled = Some(true);
    }
    // What a path speaks is a default of that path.
    if !new.endpoint_path.is_empty() && new.endpoint_path != old.endpoint_path {
        (merged.request_builder, merged.response_extractor) = (None, None);
    }
    if !new.models.is_empty() {
        merged.models.clear();
    }
    forget_given(&mut merged.auth, &new.auth);
    forget_given(&mut merged.capabilities, &new.capabilities);
    forget_given(&mut merged.request_builder, &new.request_builder);
    forget_given(&mut merged.response_extractor, &new.response_extractor);
    forget_given(&mut merged.model_listing, &new.model_listing);
    // What was encoded just now can be read.
    let _ = merged.merge(new.encode_to_vec().as_slice());
    let default_model = merged.default_model.clone();
    parts::default_model(&mut merged, &default_model);
    merged
}

/// Cuts a provider's URL where the stored one is cut, if it leads beneath the stored base URL: `https://a.example` with
/// `/v1/responses` is the path `/responses` of `https://a.example/v1`. So a key goes to the base URL that it was saved with.
pub(super) fn rebase(old: &Spec, new: &mut Spec) {
    let (Spec::Provider(old), Spec::Provider(new)) = (old, new) else { return };
    if old.base_url.is_empty() || new.base_url.is_empty() || new.endpoint_path.is_empty() {
        return;
    }
    let url = format!("{}{}", new.base_url, new.endpoint_path);
    if let Some(path) = url.strip_prefix(&old.base_url).filter(|path| path.starts_with('/')) {
        path.clone_into(&mut new.endpoint_path);
        new.base_url.clone_from(&old.base_url);
    }
}

fn forget_given<T>(old: &mut Option<T>, new: &Option<T>) {
    if new.is_some() {
        *old = None;
    }
}

/// The router of the active provider, turned to another: as a switch does, the former primary becomes the first fallback. That
/// of a new store is one that nobody chose, and becomes none.
fn merge_router(old: &RouterSpec, new: &RouterSpec, begun: bool) -> RouterSpec {
    let mut merged = old.clone();
    if !new.fallbacks.is_empty() {
        merged.fallbacks.clear();
    } else if new.primary != old.primary {
        if !begun {
            merged.fallbacks.insert(0, old.primary.clone());
        }
        merged.fallbacks.retain(|name| *name != new.primary);
        merged.fallbacks.truncate(MAX_FALLBACKS);
    }
    // What was encoded just now can be read.
    let _ = merged.merge(new.encode_to_vec().as_slice());
    merged
}

fn forget_ranges(old: &mut ParameterSupport, new: &ParameterSupport) {
    for (old, new) in [
        (&mut old.temperature, &new.temperature),
        (&mut old.top_p, &new.top_p),
        (&mut old.top_k, &new.top_k),
        (&mut old.frequency_penalty, &new.frequency_penalty),
        (&mut old.presence_penalty, &new.presence_penalty),
    ] {
        if new.is_some() {
            *old = None;
        }
    }
}

#[cfg(test)]
mod tests;
