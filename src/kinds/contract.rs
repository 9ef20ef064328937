//! What others are held to of a resource: of a model what it takes, of a provider which models it may be asked for.
//!
//! Who judges a spec beside what it refers to is given contracts and no more. So nobody is judged anew where a contract stays as
//! it was, whatever else of the resource changes. Must not hold what only warnings tell of.

use std::collections::BTreeMap;

use crate::proto::v1::{
    ModelSource, ModelSpec, ParameterSupport, ProviderSpec, ProviderType, ReasoningSupport,
};

/// All of a resource by which something that refers to it may be wrong. Two that are equal are judged alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contract<'s> {
    /// Of a model.
    Model(ModelContract<'s>),
    /// Of a provider.
    Provider(ProviderContract<'s>),
}

/// What a spec is held to of all that it refers to, by name.
pub type Contracts<'s> = BTreeMap<&'s str, Contract<'s>>;

/// What a model takes. What the catalogue does not know is not held against anybody.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelContract<'s> {
    /// The id that its provider is asked for.
    pub model_id: &'s str,
    /// Tokens of an answer at most; 0 is unknown.
    pub max_output_tokens: u32,
    /// What it writes; none is unknown.
    pub output_modalities: &'s [i32],
    /// What it can do; none is unknown.
    pub capabilities: &'s [i32],
    /// Which generation parameters it takes.
    pub parameters: Option<&'s ParameterSupport>,
    /// How it can be asked to reason.
    pub reasoning: Option<&'s ReasoningSupport>,
    /// Whether it comes from a foreign catalogue, which need not tell of everything.
    pub imported: bool,
}

/// What a provider may be asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProviderContract<'s> {
    /// Which interface it has.
    pub provider_type: ProviderType,
    /// Ids of the models that may be used; none is any.
    pub models: &'s [String],
}

impl<'s> ModelContract<'s> {
    /// The contract of a model.
    #[must_use]
    pub fn of(spec: &'s ModelSpec) -> Self {
        Self {
            model_id: &spec.model_id,
            max_output_tokens: spec.limits.as_ref().map_or(0, |limits| limits.max_output_tokens),
            output_modalities: &spec.output_modalities,
            capabilities: &spec.capabilities,
            parameters: spec.parameters.as_ref(),
            reasoning: spec.reasoning.as_ref(),
            imported: spec.source() == ModelSource::Imported,
        }
    }
}

impl<'s> ProviderContract<'s> {
    /// The contract of a provider.
    #[must_use]
    pub fn of(spec: &'s ProviderSpec) -> Self {
        Self { provider_type: spec.r#type(), models: &spec.models }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{Modality, ModelCapability, ModelDeprecation, ModelLimits, ModelPrices};

    fn changes_of_model(change: impl FnOnce(&mut ModelSpec)) -> bool {
        let mut after = ModelSpec::default();
        change(&mut after);
        ModelContract::of(&ModelSpec::default()) != ModelContract::of(&after)
    }

    fn changes_of_provider(change: impl FnOnce(&mut ProviderSpec)) -> bool {
        let mut after = ProviderSpec::default();
        change(&mut after);
        ProviderContract::of(&ProviderSpec::default()) != ProviderContract::of(&after)
    }

    #[test]
    fn what_nobody_is_held_to_is_in_no_contract() {
        assert!(!changes_of_model(|spec| {
            (spec.display_name, spec.description) = ("m".into(), "d".into());
            (spec.knowledge_cutoff, spec.release_date) = ("2025".into(), "2025".into());
            spec.prices = Some(ModelPrices { input: "1".into(), ..ModelPrices::default() });
            spec.deprecation = Some(ModelDeprecation { deprecated: true, ..ModelDeprecation::default() });
            spec.limits = Some(ModelLimits { context_window_tokens: 9, ..ModelLimits::default() });
            spec.input_modalities = vec![Modality::Image.into()];
        }));
        assert!(!changes_of_provider(|spec| {
            (spec.display_name, spec.description) = ("p".into(), "d".into());
            (spec.enabled, spec.base_url) = (Some(false), "https://example.com".into());
            spec.default_model = "m".into();
        }));
    }

    #[test]
    fn what_others_are_held_to_is_in_the_contract() {
        assert!(changes_of_model(|spec| spec.model_id = "m".into()));
        assert!(changes_of_model(|spec| {
            spec.limits = Some(ModelLimits { max_output_tokens: 9, ..ModelLimits::default() });
        }));
        assert!(changes_of_model(|spec| spec.output_modalities = vec![Modality::Image.into()]));
        assert!(changes_of_model(|spec| spec.capabilities = vec![ModelCapability::Chat.into()]));
        assert!(changes_of_model(|spec| spec.parameters = Some(ParameterSupport::default())));
        assert!(changes_of_model(|spec| spec.reasoning = Some(ReasoningSupport::default())));
        assert!(changes_of_model(|spec| spec.source = ModelSource::Imported.into()));
        assert!(changes_of_provider(|spec| spec.r#type = ProviderType::Groq.into()));
        assert!(changes_of_provider(|spec| spec.models = vec!["m".into()]));
    }
}
