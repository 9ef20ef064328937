//! What is done with providers beyond reading and writing them.

use super::Service;
use crate::{
    domain::{Error, KindName, Principal, ResourceName, Result, Spec},
    kinds,
    proto::v1::{ProviderSpec, RenderRequestRequest, RenderRequestResponse},
    view::State,
    watch::not_granted,
};

impl Service {
    /// Renders what a worker would send to a provider, without any secret. Never waits for the store.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `NotFound`, `FailedPrecondition` when the provider has no request builder.
    pub fn render_request(
        &self,
        caller: &Principal,
        request: &RenderRequestRequest,
    ) -> Result<RenderRequestResponse> {
        let name = parse_provider("name", &request.name)?;
        let state = self.parts.view.state();
        provider_of(caller, &state, "name", &name)?;
        Err(no_builder(&name))
    }
}

/// Reads the name of a provider in a request.
fn parse_provider(field: &str, text: &str) -> Result<ResourceName> {
    match kinds::parse_name(text) {
        Ok((name, kind)) if kind.name().0 == "provider" => Ok(name),
        Ok(_) => Err(Error::invalid(field, "WRONG_KIND", "names no provider; give `providers/{id}`")),
        Err(why) => Err(Error::invalid(field, "INVALID_NAME", why)),
    }
}

/// The provider of this name, if the caller reaches it.
fn provider_of<'s>(
    caller: &Principal,
    state: &'s State,
    field: &str,
    name: &ResourceName,
) -> Result<&'s ProviderSpec> {
    if !caller.reaches(name, KindName("provider")) {
        return Err(not_granted(caller, name.as_str()).at(field));
    }
    match state.get(name.as_str()).map(|entry| &entry.record.spec) {
        Some(Spec::Provider(spec)) => Ok(spec),
        _ => Err(Error::NotFound { name: name.to_string() }.at(field)),
    }
}

fn no_builder(name: &ResourceName) -> Error {
    Error::FailedPrecondition {
        reason: "NO_REQUEST_BUILDER",
        subject: name.to_string(),
        description: format!(
            "{name} has no request builder, so that nothing can be rendered for it; give it one, or a type that has one"
        ),
    }
}
