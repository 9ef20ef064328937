//! RenderRequest: what a worker would send, to whoever reaches the provider; and what can't be rendered.

use signalbox::proto::v1::{
    ChatMessage, ChatParameters, ChatRole, GenerationParameters, ProviderSpec, ProviderType,
    ReasoningParameters, RenderRequestRequest, RenderRequestResponse, Role, ToolCall, ToolChoice,
    ToolChoiceMode, ToolSpec,
};

use super::*;
use crate::support::caller::Rights;

fn said(role: ChatRole, text: &str) -> ChatMessage {
    ChatMessage { role: role.into(), text: text.to_owned(), ..ChatMessage::default() }
}

fn request(provider: &str) -> RenderRequestRequest {
    RenderRequestRequest {
        name: format!("providers/{provider}"),
        model: "m/1".into(),
        messages: vec![said(ChatRole::User, "Hello")],
        ..RenderRequestRequest::default()
    }
}

fn of_type(name: &str, provider_type: ProviderType) -> Resource {
    let base_url = match provider_type {
        ProviderType::Custom => "https://llm.example.com".into(),
        _ => String::new(),
    };
    let spec = ProviderSpec { r#type: provider_type.into(), base_url, ..ProviderSpec::default() };
    named(name, Spec::Provider(spec))
}

async fn furnished_with_types() -> Server {
    let server = furnished().await;
    let mut writer = Writer::new(server.admin(), Recorder::default());
    let gemini = of_type("providers/gemini", ProviderType::GoogleAi);
    writer.write(Op::Create(gemini.clone())).await;
    // Not that of its type: calls have to name one.
    writer.write(Op::update(gemini, &["provider.default_model"])).await;
    let sealed =
        with_header(of_type("providers/sealed", ProviderType::Groq), "x-team", &format!("{CANARY}-header"));
    writer.write(Op::Create(sealed)).await;
    let mut bare = of_type("providers/bare", ProviderType::Custom);
    if let Some(Spec::Provider(spec)) = &mut bare.spec {
        spec.auth = Some(signalbox::proto::v1::ProviderAuth { scheme: 1, ..Default::default() });
        spec.endpoint_path = "/chat".into();
    }
    writer.write(Op::Create(bare)).await;
    let tool = ToolSpec { description: "Finds.".into(), ..ToolSpec::default() };
    writer.write(Op::Create(named("tools/find", Spec::Tool(tool)))).await;
    server
}

async fn rendered(caller: &Caller, request: RenderRequestRequest) -> RenderRequestResponse {
    caller.provider().render_request(request).await.expect("it is rendered").into_inner()
}

#[tokio::test]
async fn a_request_is_rendered_without_any_secret() {
    let server = furnished_with_types().await;
    let answer = rendered(&server.admin(), request("gemini")).await;
    assert_eq!(answer.url, "https://generativelanguage.googleapis.com/v1beta/models/m%2F1:generateContent");
    assert_eq!(answer.headers["x-goog-api-key"], "{api_key}");
    assert_eq!(answer.body_json, r#"{"contents":[{"parts":[{"text":"Hello"}],"role":"user"}]}"#);
    assert!(answer.unused_parameters.is_empty() && answer.revision > 0 && !answer.revision_token.is_empty());

    let mut asked = request("sealed");
    asked.tools = vec!["tools/find".into()];
    asked.generation = Some(GenerationParameters { top_k: Some(5), ..Default::default() });
    let answer = rendered(&server.admin(), asked).await;
    assert_eq!(answer.headers["Authorization"], "Bearer {api_key}");
    assert_eq!(answer.headers["x-team"], "{secret}");
    assert!(answer.body_json.contains(r#""description":"Finds.","name":"find""#), "{}", answer.body_json);
    assert_eq!(answer.unused_parameters, ["top_k"]);
    assert!(!format!("{answer:?}").contains(CANARY));
}

/// Both were sent without a word, and the provider refused the call.
#[tokio::test]
async fn regression_what_a_call_says_twice_is_warned_of() {
    let server = furnished_with_types().await;
    let mut asked = request("gemini");
    asked.reasoning =
        Some(ReasoningParameters { effort: 2, thinking_tokens: Some(800), ..Default::default() });
    let answer = rendered(&server.admin(), asked).await;
    let [warning] = &answer.warnings[..] else { panic!("{answer:?}") };
    assert!(warning.contains("`reasoning.effort` and `reasoning.thinking_tokens`"), "{warning}");
    assert!(rendered(&server.admin(), request("gemini")).await.warnings.is_empty());
}

#[tokio::test]
async fn who_reaches_a_provider_may_have_it_rendered() {
    let server = furnished_with_types().await;
    for role in [Role::Worker, Role::Viewer] {
        let grants = vec![by_name("providers/gemini")];
        let rights = Rights { role, grants, secrets: false, ttl_seconds: 3600 };
        let caller = server.admin().colleague("somebody", &rights).await;
        rendered(&caller, request("gemini")).await;
        let mut with_tool = request("gemini");
        with_tool.tools = vec!["tools/find".into()];
        for (asked, field) in [(request("a"), "name"), (request("none"), "name"), (with_tool, "tools[0]")] {
            let denied = caller.provider().render_request(asked).await.unwrap_err();
            assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
            let info = denied.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.metadata["field"].as_str()), ("NOT_GRANTED", field));
        }
    }
}

#[tokio::test]
async fn what_can_not_be_rendered_is_refused_with_everything_that_is_wrong() {
    let server = furnished_with_types().await;
    let render = |change: fn(&mut RenderRequestRequest)| {
        let mut asked = request("gemini");
        change(&mut asked);
        Call::Render(asked)
    };
    refused(
        &server,
        vec![
            ("another kind", render(|asked| asked.name = "settings/s".into()), INVALID, "WRONG_KIND", "name"),
            ("no name", render(|asked| asked.name.clear()), INVALID, "INVALID_NAME", "name"),
            ("no message", render(|asked| asked.messages.clear()), INVALID, "REQUIRED", "messages"),
            ("no role", render(|asked| asked.messages[0].role = 0), INVALID, "REQUIRED", "messages[0].role"),
            (
                "no text",
                render(|asked| asked.messages[0].text.clear()),
                INVALID,
                "REQUIRED",
                "messages[0].text",
            ),
            (
                "a result of no call",
                render(|asked| asked.messages.push(said(ChatRole::Tool, "x"))),
                INVALID,
                "UNKNOWN_VALUE",
                "messages[1].tool_call_id",
            ),
            (
                "arguments that are none",
                render(|asked| {
                    let call =
                        ToolCall { id: "1".into(), function_name: "f".into(), arguments_json: "[]".into() };
                    asked
                        .messages
                        .push(ChatMessage { tool_calls: vec![call], ..said(ChatRole::Assistant, "") });
                }),
                INVALID,
                "INVALID_FORMAT",
                "messages[1].tool_calls[0].arguments_json",
            ),
            (
                "a parameter out of range",
                render(|asked| {
                    asked.generation =
                        Some(GenerationParameters { temperature: Some(3.0), ..Default::default() });
                }),
                INVALID,
                "OUT_OF_RANGE",
                "generation.temperature",
            ),
            (
                "a choice that is not offered",
                render(|asked| {
                    let choice = ToolChoice { mode: ToolChoiceMode::Tool.into(), tool: "tools/find".into() };
                    asked.chat = Some(ChatParameters { tool_choice: Some(choice), ..Default::default() });
                }),
                INVALID,
                "NOT_ALLOWED",
                "chat.tool_choice.tool",
            ),
            ("no model", render(|asked| asked.model.clear()), INVALID, "REQUIRED", "model"),
            (
                "an unknown tool",
                render(|asked| asked.tools = vec!["tools/none".into()]),
                Code::NotFound,
                "NOT_FOUND",
                "",
            ),
            (
                "an unknown provider",
                render(|asked| asked.name = "providers/none".into()),
                Code::NotFound,
                "NOT_FOUND",
                "",
            ),
            (
                "a provider without a builder",
                render(|asked| asked.name = "providers/bare".into()),
                Code::FailedPrecondition,
                "NO_REQUEST_BUILDER",
                "",
            ),
        ],
    )
    .await;
    let mut asked = request("gemini");
    asked.name.clear();
    asked.messages[0].role = 0;
    asked.generation = Some(GenerationParameters { top_p: Some(2.0), ..Default::default() });
    let status = server.admin().provider().render_request(asked).await.unwrap_err();
    let found = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<&str> = found.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["name", "messages[0].role", "generation.top_p"]);
}

#[tokio::test]
async fn an_empty_builder_is_refused_naming_its_version() {
    let server = furnished().await;
    let mut empty = of_type("providers/empty", ProviderType::Groq);
    if let Some(Spec::Provider(spec)) = &mut empty.spec {
        spec.request_builder = Some(Default::default());
        spec.response_extractor = Some(Default::default());
    }
    let fields = [
        "request_builder.version",
        "request_builder.payload_structure.messages",
        "response_extractor.version",
    ];
    let case = |field: &str| {
        let field: &'static str = Box::leak(format!("resource.provider.{field}").into_boxed_str());
        ("an empty builder", create(empty.clone()), INVALID, "REQUIRED", field)
    };
    refused(&server, fields.into_iter().map(case).collect()).await;
}
