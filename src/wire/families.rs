//! What is known of the types of providers: for each a mapping, as data. `build.rs` makes them of `families/*.json`.
//!
//! A file is the JSON of a provider's spec with its type and its mapping, and two things besides: `extends` names another file
//! on which this one is a merge patch (RFC 7396); `alternatives` has, by the end of an endpoint path, the file whose builder
//! and extractor are meant by such a path.

use std::{collections::BTreeMap, sync::LazyLock};

use prost::Message;

use crate::proto::v1::{ProviderSpec, RequestBuilder};

/// A file, as `build.rs` leaves it.
struct File {
    name: &'static str,
    alternatives: &'static [(&'static str, &'static str)],
    /// An encoded `ProviderSpec`.
    spec: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/families.rs"));

/// The mapping of each file, by its name.
static FAMILIES: LazyLock<BTreeMap<&'static str, (ProviderSpec, &'static File)>> = LazyLock::new(|| {
    let read = |file: &'static File| (file.name, (ProviderSpec::decode(file.spec).unwrap_or_default(), file));
    FILES.iter().map(read).collect()
});

/// The names of all families, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.keys().copied()
}

/// Fills in what a provider leaves out of its mapping by what is known of its type and of its endpoint path. Touches nothing
/// that is given.
pub fn fill(provider: &mut ProviderSpec) {
    let Some((own, file)) = of_type(provider.r#type) else { return };
    let mut family = own.clone();
    let path = provider.endpoint_path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let meant = file.alternatives.iter().find(|(end, _)| path.ends_with(end));
    if let Some((alternative, _)) = meant.and_then(|(_, name)| FAMILIES.get(name)) {
        family.request_builder.clone_from(&alternative.request_builder);
        let errors = family.response_extractor.take().and_then(|own| own.errors);
        family.response_extractor.clone_from(&alternative.response_extractor);
        if let Some(extractor) = &mut family.response_extractor {
            extractor.errors = errors;
        }
    }
    if let Some(builder) = family.request_builder.as_mut().filter(|_| provider.endpoint_path.contains(MODEL))
    {
        model_into_path(builder);
    }
    provider.request_builder = provider.request_builder.take().or(family.request_builder);
    provider.response_extractor = provider.response_extractor.take().or(family.response_extractor);
    provider.model_listing = provider.model_listing.take().or(family.model_listing);
}

const MODEL: &str = "{model}";

/// Where the path has a place for the model, it goes there.
fn model_into_path(builder: &mut RequestBuilder) {
    let model = builder.payload_structure.get_mut("model");
    if let Some(model) = model.filter(|model| !model.target.starts_with("url:")) {
        "url:model".clone_into(&mut model.target);
    }
}

fn of_type(provider_type: i32) -> Option<&'static (ProviderSpec, &'static File)> {
    FAMILIES.values().find(|(family, _)| provider_type != 0 && family.r#type == provider_type)
}
