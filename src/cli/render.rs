//! `render`: the request that a worker would send to a provider, without any secret; nothing is sent.

use serde_json::Value;

use super::{
    args::{Render, Target},
    connect::connect,
    edit::Edit,
    failure::{Failure, Outcome},
    session::{Session, canonical},
    switch::whole_name,
    text::printable,
};
use crate::proto::v1::{
    ChatMessage, ChatRole, PromptTemplateSpec, RenderRequestRequest, RenderRequestResponse, resource::Spec,
};

/// What parameters are read as: a template has all of them.
const PARAMETERS_OF: &str = "promptTemplates/render";
const GREETING: &str = "Hello";

/// Renders a request.
pub async fn render(session: &mut Session<'_>, target: &Target, args: &Render) -> Outcome {
    let PromptTemplateSpec { generation, chat, reasoning, .. } = parameters(&args.fields)?;
    let text = args.message.as_deref().unwrap_or(GREETING).to_owned();
    let request = RenderRequestRequest {
        name: whole_name(&args.provider),
        model: args.model.clone().unwrap_or_default(),
        messages: vec![ChatMessage { role: ChatRole::User.into(), text, ..ChatMessage::default() }],
        generation,
        chat,
        reasoning,
        tools: args.tools.clone(),
    };
    let mut connection = connect(session, target).await?;
    let answer = connection.providers.render_request(request).await?.into_inner();
    let unused: Vec<String> = answer
        .unused_parameters
        .iter()
        .map(|name| {
            format!(
                "`{name}` is not sent: in a call like this the provider's request builder takes it nowhere"
            )
        })
        .collect();
    session.warn(&unused);
    session.warn(&answer.warnings);
    if session.document(&canonical(&answer)?)? {
        return Ok(());
    }
    session.line(&told(&answer))
}

/// The parameters that flags give.
fn parameters(fields: &[String]) -> Result<PromptTemplateSpec, Failure> {
    let mut edit = Edit::of(PARAMETERS_OF).map_err(Failure::usage)?;
    for field in fields {
        let known = ["generation.", "chat.", "reasoning."].iter().any(|group| field.starts_with(group));
        if !known {
            let what = "--field takes generation.NAME=VALUE, chat.NAME=VALUE or reasoning.NAME=VALUE, for example \
                        generation.temperature=0.2";
            return Err(Failure::usage(what));
        }
        edit.field(field).map_err(Failure::usage)?;
    }
    let (resource, _) = edit.build(None).map_err(Failure::usage)?;
    match resource.spec {
        Some(Spec::PromptTemplate(spec)) => Ok(spec),
        _ => Ok(PromptTemplateSpec::default()),
    }
}

/// As it goes over the wire, the body in lines.
fn told(answer: &RenderRequestResponse) -> String {
    let method = answer.method().as_str_name().trim_start_matches("HTTP_METHOD_");
    let mut lines = vec![format!("{method} {}", printable(&answer.url))];
    let mut headers: Vec<_> = answer.headers.iter().collect();
    headers.sort();
    lines.extend(headers.iter().map(|(name, value)| printable(&format!("{name}: {value}"))));
    let body: Option<Value> = serde_json::from_str(&answer.body_json).ok();
    if let Some(body) = body.and_then(|body| serde_json::to_string_pretty(&body).ok()) {
        lines.extend([String::new(), body]);
    }
    lines.join("\n")
}
