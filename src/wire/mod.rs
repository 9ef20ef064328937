//! How providers are spoken to, as data: a [`Mapping`] makes HTTP requests of calls, and reads answers, streams, errors and
//! lists of models, by a provider's configuration alone. What the configuration means stands in `wire.proto`.
//!
//! Pure: it sends nothing, opens nothing, and sees no key. It must not know any provider's name; what is known of the
//! types of providers is data in `families/`. Both ends use it: the kinds to check what is written, the client to call.

mod answer;
pub mod bounds;
mod builder;
mod call;
mod endpoint;
mod extractor;
mod failure;
pub mod families;
mod frames;
mod listing;
mod messages;
mod odds;
mod parameters;
mod path;
mod problems;
mod request;
mod rules;
mod stream;
mod template;
mod waits;
mod words;

use std::sync::Arc;

pub use answer::{Answer, Malformed};
pub use call::{Call, Tool, check_conversation};
pub use endpoint::{is_encoded, neighbour, path_problem};
pub use failure::{Failure, Reason};
pub use listing::{ListedModel, ModelPage};
pub use problems::Problem;
pub use request::{Header, HeaderKind, HttpRequest, Rendered};
pub use stream::{Delta, StreamFailure, StreamReader};
pub use waits::retry_after;
pub use words::{shares, without_keys};

use builder::Builder;
use extractor::Extractor;
use listing::Listing;
use problems::Problems;

use crate::proto::v1::ProviderSpec;

/// How one provider is spoken to.
#[derive(Clone, Debug)]
pub struct Mapping {
    provider: ProviderSpec,
    builder: Builder,
    extractor: Arc<Extractor>,
    listing: Option<Listing>,
}

impl Mapping {
    /// The mapping of a provider; what it leaves out is that of its type, as for providers that were stored before they
    /// held it. A condition that never holds, which was taken once, keeps its entry from being used.
    ///
    /// # Errors
    /// Everything that is wrong with it, by paths from the provider: `REQUIRED` for a part that neither it nor its type has.
    pub fn of(provider: &ProviderSpec) -> Result<Self, Vec<Problem>> {
        let mut provider = provider.clone();
        families::fill(&mut provider);
        let mut problems = Problems::in_use();
        let parts = parse(&provider, &mut problems);
        if parts.builder.is_none() && provider.request_builder.is_none() {
            problems.required("request_builder", "a `version` and a `payload_structure`");
        }
        if parts.extractor.is_none() && provider.response_extractor.is_none() {
            problems.required("response_extractor", "a `version` and `extraction_rules`");
        }
        let Parts { builder, extractor, listing } = parts;
        match (problems.into_result(), builder, extractor) {
            (Ok(()), Some(builder), Some(extractor)) => {
                Ok(Self { provider, builder, extractor: Arc::new(extractor), listing })
            }
            (problems, ..) => Err(problems.err().unwrap_or_default()),
        }
    }

    /// Renders the request for a call.
    ///
    /// # Errors
    /// Everything that is wrong with the call, or that the builder can't express; by paths from [`Call`], under the names
    /// that `RenderRequestRequest` has.
    pub fn request(&self, call: &Call) -> Result<Rendered, Vec<Problem>> {
        request::render(&self.provider, &self.builder, self.extractor.streams(), call)
    }

    /// The parameters of a call that are given and that the builder takes nowhere, by paths as [`Self::request`] has them.
    /// The call may lack its messages.
    #[must_use]
    pub fn not_sent(&self, call: &Call) -> Vec<&'static str> {
        request::not_sent(&self.provider, &self.builder, call)
    }

    /// Pairs of fields that say one thing twice and are both sent, by paths as [`Self::request`] has them: a provider takes one
    /// of the two. The call may lack its messages.
    #[must_use]
    pub fn at_odds(&self, call: &Call) -> Vec<(&'static str, &'static str)> {
        odds::at_odds(&self.builder, call, request::model_of(&self.provider, call))
    }

    /// The conditions under which the builder takes the parameter in this field of a call, where it takes it under some
    /// only, as `thinking_mode=adaptive`.
    #[must_use]
    pub fn taken_with(&self, field: &str) -> Vec<String> {
        request::parameter_of_field(field).map(|found| self.builder.conditions_of(found)).unwrap_or_default()
    }

    /// What is wrong with the budget of thoughts of a call beside the bound that the builder sends by itself, to be read on
    /// from the budget's path. The call may lack its messages.
    #[must_use]
    pub fn budget_problem(&self, call: &Call) -> Option<String> {
        request::budget_problem(&self.builder, call, request::model_of(&self.provider, call))
    }

    /// Reads the answer to a call.
    ///
    /// # Errors
    /// When the body is no answer by the provider's extraction rules.
    pub fn answer(&self, body: &[u8]) -> Result<Answer, Malformed> {
        self.extractor.answer(body)
    }

    /// Reads the streamed answer to a call; `None` where the provider's answers are not streamed.
    #[must_use]
    pub fn stream(&self) -> Option<StreamReader> {
        self.extractor.streams().then(|| StreamReader::new(Arc::clone(&self.extractor)))
    }

    /// Reads an answer whose HTTP status is no success. `key` is the API key that was sent, if any: what looks like a part
    /// of it is not repeated.
    #[must_use]
    pub fn failure(&self, status: u16, body: &[u8], key: Option<&str>) -> Failure {
        self.extractor.failure(status, body, key)
    }

    /// The request for a page of the provider's models, the first one where `page_token` is empty; `None` where they can't
    /// be listed.
    #[must_use]
    pub fn models_request(&self, page_token: &str) -> Option<HttpRequest> {
        self.listing.as_ref().map(|listing| listing.request(&self.provider, page_token))
    }

    /// The request whose answer says whether the key is good, where the list of models does not.
    #[must_use]
    pub fn key_check_request(&self) -> Option<HttpRequest> {
        self.listing.as_ref()?.key_check(&self.provider)
    }

    /// Reads a page of the provider's models.
    ///
    /// # Errors
    /// When the body is no such page.
    pub fn models_page(&self, body: &[u8]) -> Result<ModelPage, Malformed> {
        let malformed = || Malformed::new("there is no model listing to read it by");
        self.listing.as_ref().ok_or_else(malformed)?.page(body)
    }
}

/// Everything that is wrong with how a provider is to be spoken to, by paths from the provider.
#[must_use]
pub fn check(provider: &ProviderSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    parse(provider, &mut problems);
    problems.into_result().err().unwrap_or_default()
}

/// The parts that are there and of which nothing is wrong.
struct Parts {
    builder: Option<Builder>,
    extractor: Option<Extractor>,
    listing: Option<Listing>,
}

fn parse(provider: &ProviderSpec, problems: &mut Problems) -> Parts {
    let builder = provider.request_builder.as_ref();
    let builder = builder.and_then(|builder| Builder::parse(builder, &provider.endpoint_path, problems));
    let extractor = provider.response_extractor.as_ref();
    let extractor = extractor.and_then(|extractor| Extractor::parse(extractor, problems));
    let listing = provider.model_listing.as_ref();
    let listing = listing.and_then(|listing| Listing::parse(listing, problems));
    Parts { builder, extractor, listing }
}

// The vectors are JSON, which the client can't read into messages by itself.
#[cfg(test)]
#[cfg(feature = "server")]
mod check_tests;
#[cfg(test)]
#[cfg(feature = "server")]
pub(crate) mod frame_tests;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
