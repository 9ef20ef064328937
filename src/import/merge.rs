//! Facts of one thing from several sources: what one says is laid over what another has said, field by field, so that each keeps
//! what only it knows.
//!
//! Only models have several sources. Must not know any format.

use prost::Message as _;

use super::{
    edited::{self, IMPORTED_FROM},
    gather,
};
use crate::{
    domain::record::Spec,
    proto::v1::{ModelSpec, ParameterSupport, Resource},
};

/// An imported resource laid over what an import has made before, and nobody has edited. `None` where the new one takes the place
/// of the other as a whole.
#[must_use]
pub fn laid_over(stored: &Resource, imported: &Resource) -> Option<Resource> {
    let (Some(Spec::Model(old)), Some(Spec::Model(new))) = (&stored.spec, &imported.spec) else {
        return None;
    };
    let merged = Spec::Model(merge(old, new));
    // What the sources say together may contradict itself.
    if !gather::violations(&imported.name, &merged).is_empty() {
        return None;
    }
    let mut labels = stored.labels.clone();
    labels.extend(imported.labels.clone());
    let mut resource = Resource { labels, spec: Some(merged), ..imported.clone() };
    let format = imported.labels.get(IMPORTED_FROM).cloned().unwrap_or_default();
    edited::stamp(&mut resource, &format);
    // A source that says nothing new leaves no trace.
    if resource.spec == stored.spec {
        resource.labels.clone_from(&stored.labels);
    }
    Some(resource)
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
mod tests {
    use super::*;
    use crate::{
        import::{Decision, decide},
        kinds,
        proto::v1::{ModelCapability, ModelLimits, ModelPrices, ParameterRange, ReasoningSupport},
    };

    fn model(format: &str, spec: ModelSpec) -> Resource {
        let mut resource =
            Resource { name: "models/openai/a".into(), spec: Some(Spec::Model(spec)), ..Resource::default() };
        edited::stamp(&mut resource, format);
        resource
    }

    /// As the planner stores it.
    fn stored(mut resource: Resource) -> Resource {
        let (name, kind) = kinds::parse_name(&resource.name).unwrap();
        kind.fill_defaults(resource.spec.as_mut().unwrap(), &name);
        resource
    }

    fn prices(input: &str, cached: &str) -> ModelSpec {
        let prices = ModelPrices { input: input.into(), cached_input: cached.into(), ..Default::default() };
        ModelSpec { prices: Some(prices), ..Default::default() }
    }

    fn spec(resource: &Resource) -> &ModelSpec {
        match &resource.spec {
            Some(Spec::Model(spec)) => spec,
            _ => panic!("no model"),
        }
    }

    #[test]
    fn what_one_source_does_not_say_the_other_keeps() {
        let first = ModelSpec {
            limits: Some(ModelLimits { context_window_tokens: 8, ..Default::default() }),
            capabilities: vec![ModelCapability::Chat.into(), ModelCapability::Reasoning.into()],
            reasoning: Some(ReasoningSupport { max_thinking_tokens: Some(9), ..Default::default() }),
            ..prices("1", "0.5")
        };
        let first = stored(model("catalogue", first));
        let second = ModelSpec { capabilities: vec![ModelCapability::Tools.into()], ..prices("2", "") };
        let merged = laid_over(&first, &model("litellm-prices", second)).unwrap();
        let found = spec(&merged);
        let prices = found.prices.as_ref().unwrap();
        assert_eq!((prices.input.as_str(), prices.cached_input.as_str()), ("2", "0.5"));
        assert_eq!(found.limits.as_ref().unwrap().context_window_tokens, 8);
        assert_eq!(found.capabilities, [i32::from(ModelCapability::Tools)]);
        assert_eq!(found.reasoning.as_ref().unwrap().max_thinking_tokens, Some(9));
        // It is no edit, for whichever source comes next.
        let merged = stored(merged);
        let third = model("models-dev", prices_of("3"));
        assert_ne!(
            decide(&third, Some(&merged), false),
            Decision::Keep("it was edited since it was imported")
        );
        let merged = stored(laid_over(&merged, &third).unwrap());
        assert_eq!(spec(&merged).prices.as_ref().unwrap().cached_input, "0.5");
        // The same again is no change, down to the labels.
        let again = stored(laid_over(&merged, &third).unwrap());
        assert_eq!((&again.spec, &again.labels), (&merged.spec, &merged.labels));
        assert_eq!(merged.labels[IMPORTED_FROM], "models-dev");
    }

    fn prices_of(input: &str) -> ModelSpec {
        prices(input, "")
    }

    #[test]
    fn a_source_that_says_nothing_new_leaves_no_trace() {
        let first = stored(model("models-dev", prices("1", "0.5")));
        let other = laid_over(&first, &model("litellm-prices", prices("1", ""))).unwrap();
        assert_eq!(other.labels, first.labels);
    }

    #[test]
    fn what_only_makes_sense_together_is_taken_together() {
        let range = |maximum, supported| ParameterRange { maximum, supported, ..Default::default() };
        let parameters = |temperature| ModelSpec {
            parameters: Some(ParameterSupport { temperature: Some(temperature), ..Default::default() }),
            ..Default::default()
        };
        let first = stored(model("catalogue", parameters(range(Some(1.0), None))));
        let merged = laid_over(&first, &model("models-dev", parameters(range(None, Some(false))))).unwrap();
        let found = spec(&merged).parameters.as_ref().unwrap().temperature.unwrap();
        assert_eq!((found.maximum, found.supported), (None, Some(false)));
        let euros = stored(model(
            "catalogue",
            ModelSpec {
                prices: Some(ModelPrices {
                    currency: "EUR".into(),
                    input: "1".into(),
                    output: "2".into(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ));
        let merged = laid_over(&euros, &model("models-dev", prices("3", ""))).unwrap();
        assert_eq!(
            spec(&merged).prices.as_ref().unwrap().output,
            "",
            "a price of another currency says nothing"
        );
    }
}
