//! What is sent to each method: requests with a secret where one belongs, and where somebody may put it by mistake.
//! Every method has its cases; a new one without fails the test.

use prost::Message;
use prost_types::FieldMask;
use signalbox::proto::v1::{
    ApiKeySpec, BatchOperation, BatchWriteRequest, ChatMessage, ChatRole, CompactLogRequest,
    CreateResourceRequest, CreateTokenRequest, DeleteResourceRequest, DiffRevisionsRequest,
    ExplainSettingRequest, ExportConfigRequest, GetResourceRequest, GetStatusRequest, HeaderValue,
    ImportConfigRequest, ImportItem, ImportMode, ImportOptions, ListHistoryRequest, ListResourcesRequest,
    ProviderAuth, ProviderSpec, ProviderType, RaiseFeatureLevelRequest, RenderRequestRequest,
    ResolveSettingsRequest, Resource, RevokeTokenRequest, Role, RollbackAllRequest, RollbackResourceRequest,
    Secret, Selector, SettingSpec, UpdateResourceRequest, VerifyLogRequest, WatchConfigRequest,
    batch_operation, header_value, resource::Spec, secret::State, selector::Pattern, setting_spec::Value,
};

use crate::{
    api::{api_key, provider, secret, secret_setting},
    fleet, in_use, kinds,
};

/// Makes a body with this secret and with this number, which no other call has.
type Body = Box<dyn Fn(&str, usize) -> Vec<u8>>;

/// A name for the report, whether it may be written, and the resource with a secret and a number.
pub type Row = (&'static str, bool, fn(&str, usize) -> Resource);

/// A request, with a name for the report and the secret in it.
pub struct Case {
    pub what: &'static str,
    /// Its body.
    pub body: Body,
    /// Whether it is done when an administrator asks; such a case shows that the failing ones fail for their reason.
    pub succeeds: bool,
}

pub fn case<M: Message>(
    what: &'static str,
    succeeds: bool,
    make: impl Fn(&str, usize) -> M + 'static,
) -> Case {
    Case { what, body: Box::new(move |canary, number| make(canary, number).encode_to_vec()), succeeds }
}

/// The cases of a method, by its full name.
pub fn of(method: &str) -> Vec<Case> {
    match method {
        "signalbox.v1.ConfigService.CreateResource" => create(),
        "signalbox.v1.ConfigService.UpdateResource" => update(),
        "signalbox.v1.ConfigService.BatchWrite" => batch(),
        "signalbox.v1.ConfigService.DeleteResource" => vec![
            case("etag", false, |canary, _| DeleteResourceRequest {
                name: "settings/pass".into(),
                etag: canary.into(),
                ..Default::default()
            }),
            case("dry run", true, |_, _| DeleteResourceRequest {
                name: "settings/pass".into(),
                validate_only: true,
                ..Default::default()
            }),
        ],
        "signalbox.v1.ConfigService.GetResource" => vec![
            case("secrets", true, |_, _| GetResourceRequest {
                name: "settings/pass".into(),
                ..Default::default()
            }),
            case("minimum", false, |canary, _| GetResourceRequest {
                name: "settings/pass".into(),
                min_revision_token: canary.into(),
                ..Default::default()
            }),
            case("of the past with secrets", false, |_, _| GetResourceRequest {
                name: "settings/pass".into(),
                revision: 1,
                include_secrets: true,
                ..Default::default()
            }),
        ],
        "signalbox.v1.ConfigService.ListResources" => vec![
            case("all", true, |_, _| ListResourcesRequest { page_size: 1000, ..Default::default() }),
            case("page", false, |canary, _| ListResourcesRequest {
                page_token: canary.into(),
                ..Default::default()
            }),
            case("minimum", false, |canary, _| ListResourcesRequest {
                min_revision_token: canary.into(),
                ..Default::default()
            }),
            case("filter by a secret", false, |canary, _| ListResourcesRequest {
                filter: format!("api_key.secret.value = \"{canary}\""),
                ..Default::default()
            }),
        ],
        "signalbox.v1.ConfigService.ListHistory" => vec![
            case("with resources", true, |_, _| ListHistoryRequest {
                include_resources: true,
                page_size: 1000,
                ..Default::default()
            }),
            case("actor", true, |canary, _| ListHistoryRequest {
                actor: canary.into(),
                ..Default::default()
            }),
            case("page", false, |canary, _| ListHistoryRequest {
                page_token: canary.into(),
                ..Default::default()
            }),
            case("action that is none", false, |canary, _| ListHistoryRequest {
                action: format!("{canary}\n"),
                ..Default::default()
            }),
        ],
        "signalbox.v1.ConfigService.DiffRevisions" => vec![
            case("all", true, |_, _| DiffRevisionsRequest { from_revision: 1, ..Default::default() }),
            case("ahead", false, |_, _| DiffRevisionsRequest {
                from_revision: 1 << 40,
                ..Default::default()
            }),
            case("page", false, |canary, _| DiffRevisionsRequest {
                from_revision: 1,
                page_token: canary.into(),
                ..Default::default()
            }),
        ],
        "signalbox.v1.ConfigService.RollbackResource" => vec![
            case("dry run", true, |_, _| RollbackResourceRequest { validate_only: true, ..back_to_first() }),
            case("etag", false, |canary, _| RollbackResourceRequest {
                etag: canary.into(),
                ..back_to_first()
            }),
            case("a key for a name", false, |canary, _| RollbackResourceRequest {
                name: canary.into(),
                ..back_to_first()
            }),
            case("a reason that is none", false, |canary, _| RollbackResourceRequest {
                reason: format!("{canary}\n"),
                ..back_to_first()
            }),
        ],
        "signalbox.v1.ConfigService.RollbackAll" => vec![
            case("dry run", true, |_, _| RollbackAllRequest {
                revision: 1,
                selectors: vec![named("settings/pass")],
                validate_only: true,
                ..Default::default()
            }),
            case("a key for a selector", false, |canary, _| RollbackAllRequest {
                revision: 1,
                selectors: vec![named(canary)],
                ..Default::default()
            }),
        ],
        "signalbox.v1.ConfigService.WatchConfig" => vec![
            case("all", true, |_, _| WatchConfigRequest::default()),
            case("token and view", true, |canary, _| WatchConfigRequest {
                resume_token: canary.into(),
                view_id: canary.into(),
                ..Default::default()
            }),
            case("with secrets", false, |_, _| WatchConfigRequest {
                include_secrets: true,
                ..Default::default()
            }),
        ],
        "signalbox.v1.ProviderService.RenderRequest" => render(),
        method if method.starts_with("signalbox.v1.ProviderService.") => in_use::of_provider(method),
        method if method.starts_with("signalbox.v1.ApiKeyService.") => in_use::of_key(method),
        method if method.starts_with("signalbox.v1.DatabaseService.") => in_use::of_database(method),
        method if method.starts_with("signalbox.v1.FleetService.") => fleet::of(method),
        "signalbox.v1.SettingService.ResolveSettings" => vec![
            case("plain", true, |_, _| ResolveSettingsRequest { user: "alice".into(), ..Default::default() }),
            case("with secrets", false, |_, _| ResolveSettingsRequest {
                include_secrets: true,
                ..Default::default()
            }),
            case("a secret as a default", false, |canary, _| ResolveSettingsRequest {
                defaults: [("pass".to_owned(), setting_spec(secret_setting(canary)))].into(),
                ..Default::default()
            }),
            case("page", false, |canary, _| ResolveSettingsRequest {
                page_token: canary.into(),
                ..Default::default()
            }),
        ],
        "signalbox.v1.SettingService.ExplainSetting" => vec![
            case("plain", true, |_, _| ExplainSettingRequest { key: "pass".into(), ..Default::default() }),
            case("with secrets", false, |_, _| ExplainSettingRequest {
                key: "pass".into(),
                include_secrets: true,
                ..Default::default()
            }),
            case("a secret as the default", false, |canary, _| ExplainSettingRequest {
                key: "pass".into(),
                default_setting: Some(setting_spec(secret_setting(canary))),
                ..Default::default()
            }),
        ],
        "signalbox.v1.AdminService.GetStatus" => vec![case("plain", true, |_, _| GetStatusRequest {})],
        "signalbox.v1.AdminService.VerifyLog" => vec![
            case("plain", true, |_, _| VerifyLogRequest::default()),
            case("anchor", false, |canary, _| VerifyLogRequest { anchor_token: canary.into() }),
        ],
        "signalbox.v1.AdminService.RaiseFeatureLevel" => {
            vec![case("plain", true, |_, _| RaiseFeatureLevelRequest {})]
        }
        "signalbox.v1.AdminService.CompactLog" => {
            vec![case("ahead", false, |_, _| CompactLogRequest { revision: 1 << 40 })]
        }
        "signalbox.v1.AdminService.CreateToken" => vec![
            case("made", true, |_, number| token(&format!("somebody-{number}"), vec![])),
            case("grants labels", false, |canary, _| {
                let labels = [("x".to_owned(), canary.to_owned())].into();
                token(
                    "somebody",
                    vec![Selector { pattern: Some(Pattern::Prefix("settings/".into())), labels }],
                )
            }),
            case("control character", false, |canary, _| token(&format!("{canary}\n"), vec![])),
        ],
        "signalbox.v1.AdminService.RevokeToken" => vec![
            case("plain", true, |_, number| RevokeTokenRequest {
                token_id: format!("id-{number}"),
                ..Default::default()
            }),
            // A whole token where its id belongs: longer than any id.
            case("token for an id", false, |canary, _| RevokeTokenRequest {
                token_id: format!("eyJhbGciOiJIUzI1NiJ9.{canary}.{}", "A".repeat(256)),
                ..Default::default()
            }),
        ],
        "signalbox.v1.AdminService.ImportConfig" => import(),
        "signalbox.v1.AdminService.ExportConfig" => vec![
            case("without secrets", true, |_, _| ExportConfigRequest::default()),
            case("sealed", true, |_, _| ExportConfigRequest {
                export_key: "JTPpiDpDHqVmKNlJyKIJaRwUYDRtZsM5jO2yE6wzPTk=".into(),
                ..Default::default()
            }),
            case("key that is none", false, |canary, _| ExportConfigRequest {
                export_key: canary.into(),
                ..Default::default()
            }),
        ],
        other => panic!("{other} has no canary case: write one"),
    }
}

fn render() -> Vec<Case> {
    let request = |name: &str, text: &str| RenderRequestRequest {
        name: name.into(),
        messages: vec![ChatMessage { role: ChatRole::User.into(), text: text.into(), ..Default::default() }],
        ..Default::default()
    };
    vec![
        case("rendered", true, move |_, _| RenderRequestRequest {
            model: "m".into(),
            ..request("providers/groq", "x")
        }),
        case("a result of no call", false, move |canary, _| {
            let mut wrong = request("providers/groq", canary);
            wrong.messages[0].tool_call_id = canary.to_owned();
            wrong
        }),
        case("no messages", false, move |canary, _| RenderRequestRequest {
            model: canary.to_owned(),
            messages: Vec::new(),
            ..request("providers/groq", "x")
        }),
        case("missing", false, move |canary, n| request(&format!("providers/none{n}"), canary)),
        case("name of another kind", false, move |canary, n| request(&format!("settings/s{n}"), canary)),
        case("bad name", false, move |canary, n| request(&format!("ä {n}"), canary)),
    ]
}

fn setting_spec(spec: Spec) -> SettingSpec {
    match spec {
        Spec::Setting(setting) => setting,
        other => panic!("{other:?} is no setting"),
    }
}

fn token(subject: &str, grants: Vec<Selector>) -> CreateTokenRequest {
    let ttl = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let role = Role::Viewer.into();
    CreateTokenRequest { role, subject: subject.to_owned(), grants, ttl, ..Default::default() }
}

pub fn resource(name: String, spec: Spec) -> Resource {
    Resource { name, spec: Some(spec), ..Default::default() }
}

/// Resources with a secret in them, the right ones first. Each is created, updated and written in a batch.
pub fn resources() -> Vec<Row> {
    fn header(name: &str, value: header_value::Value) -> Spec {
        let headers = [(name.to_owned(), HeaderValue { value: Some(value) })].into();
        Spec::Provider(ProviderSpec { r#type: ProviderType::Groq.into(), headers, ..Default::default() })
    }
    fn with_url(url: String) -> Spec {
        Spec::Provider(ProviderSpec {
            r#type: ProviderType::Groq.into(),
            base_url: url,
            ..Default::default()
        })
    }
    fn text(value: Value) -> Spec {
        Spec::Setting(SettingSpec { value: Some(value), ..Default::default() })
    }
    let mut rows: Vec<Row> = vec![
        ("key", true, |canary, n| resource(format!("providers/groq/apiKeys/k{n}"), api_key(canary))),
        ("header", true, |canary, n| resource(format!("providers/p{n}"), provider(&[("x-tenant", canary)]))),
        ("setting", true, |canary, n| resource(format!("settings/s{n}"), secret_setting(canary))),
        ("setting of a user", true, |canary, n| {
            resource(format!("users/u{n}/settings/s"), secret_setting(canary))
        }),
        ("too long", false, |canary, n| {
            resource(format!("settings/s{n}"), secret_setting(&canary.repeat(64 * 1024 / canary.len() + 1)))
        }),
        ("with a NUL", false, |canary, n| {
            resource(format!("settings/s{n}"), secret_setting(&format!("{canary}\0")))
        }),
        ("with an unknown state", false, |canary, n| {
            let secret = Some(Secret { value: Some(canary.to_owned()), state: 42 });
            let weight = Some(0);
            resource(
                format!("providers/groq/apiKeys/k{n}"),
                Spec::ApiKey(ApiKeySpec { secret, weight, ..Default::default() }),
            )
        }),
        ("beside a wrong field", false, |canary, n| {
            let spec =
                ApiKeySpec { secret: Some(secret(canary)), weight: Some(1_000_000), ..Default::default() };
            resource(format!("providers/groq/apiKeys/k{n}"), Spec::ApiKey(spec))
        }),
        ("parent missing", false, |canary, n| {
            resource(format!("providers/none{n}/apiKeys/k"), api_key(canary))
        }),
        ("name of another kind", false, |canary, n| resource(format!("providers/p{n}"), api_key(canary))),
        ("bad name", false, |canary, n| resource(format!("settings/ä {n}"), secret_setting(canary))),
        ("credential header in the clear", false, |canary, n| {
            resource(
                format!("providers/p{n}"),
                header("Authorization", header_value::Value::Plain(canary.into())),
            )
        }),
        ("header that is none", false, |canary, n| {
            resource(format!("providers/p{n}"), header("x bad", header_value::Value::Secret(secret(canary))))
        }),
        ("URL with credentials", false, |canary, n| {
            resource(format!("providers/p{n}"), with_url(format!("https://me:{canary}@example.com/v1")))
        }),
        ("URL with a query", false, |canary, n| {
            resource(format!("providers/p{n}"), with_url(format!("https://example.com/v1?key={canary}")))
        }),
        ("header template with the key", false, |canary, n| {
            let auth = Some(ProviderAuth { scheme: 3, header_template: format!("x-api-key: {canary}") });
            let spec = ProviderSpec { r#type: ProviderType::Groq.into(), auth, ..Default::default() };
            resource(format!("providers/p{n}"), Spec::Provider(spec))
        }),
        ("secret setting in the clear", false, |canary, n| {
            resource(format!("users/u{n}/settings/openai_api_key"), text(Value::StringValue(canary.into())))
        }),
        ("secret setting as JSON", false, |canary, n| {
            let json = format!("{{\"key\": \"{canary}\"}}");
            resource(format!("users/u{n}/settings/openai_api_key"), text(Value::JsonValue(json)))
        }),
        ("broken JSON", false, |canary, n| {
            resource(format!("settings/s{n}"), text(Value::JsonValue(format!("{{\"key\": \"{canary}\""))))
        }),
    ];
    rows.extend(kinds::rows());
    rows
}

fn create() -> Vec<Case> {
    let all = resources().into_iter().map(|(what, succeeds, make)| {
        case(what, succeeds, move |canary, n| CreateResourceRequest {
            resource: Some(make(canary, n)),
            ..Default::default()
        })
    });
    let mut cases: Vec<Case> = all.collect();
    let pass = |canary: &str| Some(resource("settings/pass".into(), secret_setting(canary)));
    cases.extend([
        case("duplicate", false, move |canary, _| CreateResourceRequest {
            resource: pass(canary),
            ..Default::default()
        }),
        case("dry run", true, |canary, n| CreateResourceRequest {
            resource: Some(resource(format!("settings/s{n}"), secret_setting(canary))),
            validate_only: true,
            ..Default::default()
        }),
        case("request id used for another", false, |canary, n| CreateResourceRequest {
            resource: Some(resource(format!("settings/s{n}"), secret_setting(canary))),
            request_id: "used".into(),
            ..Default::default()
        }),
    ]);
    cases
}

fn update() -> Vec<Case> {
    let all = resources().into_iter().map(|(what, succeeds, make)| {
        case(what, succeeds, move |canary, n| UpdateResourceRequest {
            resource: Some(make(canary, n)),
            allow_missing: true,
            ..Default::default()
        })
    });
    let mut cases: Vec<Case> = all.collect();
    let masked = |what, succeeds, paths: &'static [&'static str], etag: &'static str| {
        case(what, succeeds, move |canary: &str, _| UpdateResourceRequest {
            resource: Some(Resource {
                etag: etag.to_owned(),
                ..resource("settings/pass".into(), secret_setting(canary))
            }),
            update_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
            ..Default::default()
        })
    };
    cases.extend([
        masked("rotated", true, &["setting.secret_value"], ""),
        masked("mask of no field", false, &["setting.nothing"], ""),
        masked("mask of another arm", false, &["provider.display_name"], ""),
        masked("mask into the secret", false, &["setting.secret_value.value.x"], ""),
        masked("wrong etag", false, &["*"], "0000-stale"),
        case("etag", false, |canary, _| UpdateResourceRequest {
            resource: Some(Resource {
                etag: canary.to_owned(),
                ..resource("settings/pass".into(), secret_setting(canary))
            }),
            ..Default::default()
        }),
        case("missing", false, |canary, n| UpdateResourceRequest {
            resource: Some(resource(format!("settings/none{n}"), secret_setting(canary))),
            ..Default::default()
        }),
        case("kept where nothing is", false, |_, _| UpdateResourceRequest {
            resource: Some(resource(
                "settings/open".into(),
                Spec::Setting(SettingSpec {
                    value: Some(Value::SecretValue(Secret { value: None, state: State::Present.into() })),
                    ..Default::default()
                }),
            )),
            ..Default::default()
        }),
    ]);
    cases
}

fn import() -> Vec<Case> {
    let items = |resources: Vec<Resource>| {
        let item = |resource| ImportItem { resource: Some(resource), ..Default::default() };
        ImportConfigRequest { items: resources.into_iter().map(item).collect(), ..Default::default() }
    };
    let all = resources().into_iter().map(|(what, succeeds, make)| {
        case(what, succeeds, move |canary, n| {
            items(vec![resource(format!("settings/beside{n}"), secret_setting(canary)), make(canary, n)])
        })
    });
    let mut cases: Vec<Case> = all.collect();
    cases.push(case("rotated", true, move |canary, _| ImportConfigRequest {
        options: Some(ImportOptions { mode: ImportMode::Replace.into(), ..Default::default() }),
        ..items(vec![resource("settings/pass".into(), secret_setting(canary))])
    }));
    cases
}

fn back_to_first() -> RollbackResourceRequest {
    RollbackResourceRequest { name: "providers/groq".into(), revision: 1, ..Default::default() }
}

fn named(name: &str) -> Selector {
    Selector { pattern: Some(Pattern::Name(name.into())), ..Default::default() }
}

fn batch() -> Vec<Case> {
    let one = |resource| BatchOperation {
        operation: Some(batch_operation::Operation::Create(batch_operation::Create {
            resource: Some(resource),
        })),
    };
    let all = resources().into_iter().map(|(what, succeeds, make)| {
        case(what, succeeds, move |canary, n| BatchWriteRequest {
            operations: vec![
                one(resource(format!("settings/beside{n}"), secret_setting(canary))),
                one(make(canary, n)),
            ],
            ..Default::default()
        })
    });
    let mut cases: Vec<Case> = all.collect();
    cases.push(case("twice the same", false, move |canary, n| {
        let twice = resource(format!("settings/s{n}"), secret_setting(canary));
        BatchWriteRequest { operations: vec![one(twice.clone()), one(twice)], ..Default::default() }
    }));
    cases
}
