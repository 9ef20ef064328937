//! What is done with providers beyond reading and writing them.

use super::{
    Service,
    fields::{parse_named, parse_unrepeated},
};
use crate::{
    choice::type_word,
    domain::{Error, FieldViolation, KindName, Principal, ResourceName, Result, Spec, Violations, limits},
    kinds,
    proto::v1::{PromptTemplateSpec, ProviderSpec, RenderRequestRequest, RenderRequestResponse, ToolSpec},
    view::{Entry, State},
    watch::not_granted,
    wire,
};

const PROVIDER: KindName = KindName("provider");
const TOOL: KindName = KindName("tool");
/// Tools that a call offers at most.
const MAX_TOOLS: usize = 64;
/// Room for all but the body in the answer of a rendering.
const MARGIN: usize = 64 * 1024;

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
        let names = check(request)?;
        let state = self.parts.view.state();
        let provider = provider_of(caller, &state, "name", &names.provider)?;
        let mut tools = Vec::new();
        for (index, name) in names.tools.iter().enumerate() {
            let spec = tool_of(caller, &state, &format!("tools[{index}]"), name)?;
            tools.push(wire::Tool { name: name.to_string(), spec: spec.clone() });
        }
        let mapping =
            wire::Mapping::of(provider).map_err(|problems| no_mapping(&names.provider, &problems))?;
        // What the model does not take is told beside what the builder lacks: one may be the reason for the other.
        let mut violations = Violations::default();
        violations.extend(misfits(caller, &state, request, &names.provider, provider));
        let call = call(request, tools);
        let rendered = violations.take(mapping.request(&call).map_err(invalid))?;
        let rendered = violations.allow(rendered)?;
        let http = rendered.request;
        let body_json = http.body.map(|body| body.to_string()).unwrap_or_default();
        if body_json.len() > limits::MESSAGE_OUT_BYTES - MARGIN {
            return Err(Error::invalid(
                "messages",
                "TOO_LONG",
                "make a request that is too large for an answer",
            ));
        }
        Ok(RenderRequestResponse {
            method: http.method.into(),
            url: http.url,
            headers: http.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body_json,
            unused_parameters: rendered.unused.into_iter().map(str::to_owned).collect(),
            warnings: mapping.at_odds(&call).into_iter().map(told_odds).collect(),
            revision: state.revision.0,
            revision_token: state.token().to_string(),
        })
    }
}

fn told_odds((one, other): (&str, &str)) -> String {
    format!(
        "`{one}` and `{other}` are both sent, side by side: models take one of the two at most, so leave one out"
    )
}

/// The resources that a rendering is about.
struct Names {
    provider: ResourceName,
    tools: Vec<ResourceName>,
}

/// Reads all of a request that can be judged without looking at any resource.
fn check(request: &RenderRequestRequest) -> Result<Names> {
    let mut violations = Violations::default();
    let provider = violations.take(parse_unrepeated("name", &request.name, PROVIDER.0))?;
    violations.at_most("tools", request.tools.len(), MAX_TOOLS, "tools");
    let mut tools = Vec::new();
    for (index, text) in request.tools.iter().enumerate().take(MAX_TOOLS) {
        let field = format!("tools[{index}]");
        let name = violations.take(parse_named(&field, text, TOOL.0))?;
        if name.as_ref().is_some_and(|name| tools.contains(name)) {
            violations.add(field, "DUPLICATE", "is listed twice");
        }
        tools.extend(name);
    }
    note(wire::check_conversation(&request.messages), &mut violations);
    kinds::check_parameters(
        request.generation.as_ref(),
        request.chat.as_ref(),
        request.reasoning.as_ref(),
        &request.tools,
        &mut violations,
    );
    violations.allow(provider.map(|provider| Names { provider, tools }))
}

/// What the model does not take of a call by what the catalogue says, as a template is held to it. What the caller does not reach
/// tells him nothing.
fn misfits(
    caller: &Principal,
    state: &State,
    request: &RenderRequestRequest,
    name: &ResourceName,
    provider: &ProviderSpec,
) -> Vec<FieldViolation> {
    let id = if request.model.is_empty() { &provider.default_model } else { &request.model };
    let segment = kinds::model::segment_of(id);
    let of_type = type_word(provider.r#type());
    let mut entries = [name.id(), of_type.as_str()]
        .into_iter()
        .filter_map(|owner| state.get(&format!("models/{owner}/{segment}")));
    let reached = |entry: &&Entry| caller.reaches(&entry.record.name, entry.kind());
    let Some(entry) = entries.find(reached) else { return Vec::new() };
    let Spec::Model(model) = &entry.record.spec else { return Vec::new() };
    let asked = PromptTemplateSpec {
        model: entry.record.name.to_string(),
        generation: request.generation.clone(),
        chat: request.chat.clone(),
        reasoning: request.reasoning,
        tools: request.tools.clone(),
        ..PromptTemplateSpec::default()
    };
    kinds::misfits_of_call(&asked, model)
}

fn call(request: &RenderRequestRequest, tools: Vec<wire::Tool>) -> wire::Call {
    let RenderRequestRequest { name: _, model, messages, generation, chat, reasoning, tools: _ } =
        request.clone();
    wire::Call {
        model,
        messages,
        generation: generation.unwrap_or_default(),
        chat: chat.unwrap_or_default(),
        reasoning: reasoning.unwrap_or_default(),
        tools,
    }
}

fn provider_of<'s>(
    caller: &Principal,
    state: &'s State,
    field: &str,
    name: &ResourceName,
) -> Result<&'s ProviderSpec> {
    provider_spec(entry_of(caller, state, field, name, PROVIDER)?)
}

fn tool_of<'s>(
    caller: &Principal,
    state: &'s State,
    field: &str,
    name: &ResourceName,
) -> Result<&'s ToolSpec> {
    match &entry_of(caller, state, field, name, TOOL)?.record.spec {
        Spec::Tool(spec) => Ok(spec),
        _ => Err(Error::internal("a tool holds another kind's spec")),
    }
}

/// A resource, if the caller reaches it.
pub(super) fn entry_of<'s>(
    caller: &Principal,
    state: &'s State,
    field: &str,
    name: &ResourceName,
    kind: KindName,
) -> Result<&'s Entry> {
    if !caller.reaches(name, kind) {
        return Err(not_granted(caller, name.as_str()).at(field));
    }
    state.get(name.as_str()).ok_or_else(|| Error::NotFound { name: name.to_string() }.at(field))
}

/// What a provider holds.
pub(super) fn provider_spec(entry: &Entry) -> Result<&ProviderSpec> {
    match &entry.record.spec {
        Spec::Provider(spec) => Ok(spec),
        _ => Err(Error::internal("a provider holds another kind's spec")),
    }
}

fn note(problems: Vec<wire::Problem>, violations: &mut Violations) {
    for wire::Problem { path, reason, description } in problems {
        violations.add(path, reason, description);
    }
}

/// What is wrong with a call.
fn invalid(problems: Vec<wire::Problem>) -> Error {
    let mut violations = Violations::default();
    note(problems, &mut violations);
    Error::Invalid(violations.into_vec())
}

/// A provider that nothing can be rendered for. It was checked when it was written, so that a part is missing, or its type
/// and its endpoint path do not go together.
pub(super) fn no_mapping(name: &ResourceName, problems: &[wire::Problem]) -> Error {
    let problem = |problem: &wire::Problem| format!("`{}` {}", problem.path, problem.description);
    let problems = problems.iter().map(problem).collect::<Vec<_>>().join("; ");
    Error::FailedPrecondition {
        reason: "NO_REQUEST_BUILDER",
        subject: name.to_string(),
        description: format!("nothing can be rendered for {name}: {problems}"),
    }
}
