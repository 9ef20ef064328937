//! What is sent to the methods around the active provider and the keys in use.

use signalbox::proto::v1::{
    ApiKeyUsage, DiscoverModelsRequest, GetActiveApiKeyRequest, GetActiveProviderRequest,
    GetDefaultProviderRequest, ProviderType, RecordApiKeyUsageRequest, RotateApiKeyRequest,
    SetDefaultProviderRequest, SwitchActiveProviderRequest, SwitchFallbacks, TestDatabaseRequest,
    TestProviderRequest, get_active_api_key_request::Whose,
};

use crate::{
    api::secret,
    cases::{Case, case},
};

const GROQ: &str = "providers/groq";
/// A provider on this machine, which the server may not call.
pub const LOCAL: &str = "providers/local";
/// A database on this machine, which the server may not call.
pub const LOCAL_DATABASE: &str = "databases/local";
const KEY: &str = "providers/groq/apiKeys/used";

/// The cases of a method of `ProviderService`.
pub fn of_provider(method: &str) -> Vec<Case> {
    match method.rsplit('.').next() {
        Some("GetActiveProvider") => vec![
            case("plain", true, |_, _| GetActiveProviderRequest::default()),
            case("minimum", false, |canary, _| GetActiveProviderRequest {
                min_revision_token: canary.into(),
            }),
        ],
        Some("SwitchActiveProvider") => vec![
            case("plain", true, |_, _| SwitchActiveProviderRequest {
                provider: GROQ.into(),
                ..Default::default()
            }),
            case("etag", false, |canary, _| SwitchActiveProviderRequest {
                provider: GROQ.into(),
                etag: canary.into(),
                ..Default::default()
            }),
            case("a key for a provider", false, |canary, _| SwitchActiveProviderRequest {
                provider: canary.into(),
                fallbacks: Some(SwitchFallbacks { providers: vec![canary.into()] }),
                ..Default::default()
            }),
        ],
        Some("GetDefaultProvider") => vec![
            case("plain", true, |_, _| GetDefaultProviderRequest {
                r#type: ProviderType::Groq.into(),
                ..Default::default()
            }),
            case("minimum", false, |canary, _| GetDefaultProviderRequest {
                r#type: ProviderType::Groq.into(),
                min_revision_token: canary.into(),
            }),
        ],
        Some("SetDefaultProvider") => vec![
            case("dry run", true, |_, _| SetDefaultProviderRequest {
                r#type: ProviderType::Groq.into(),
                provider: GROQ.into(),
                validate_only: true,
                ..Default::default()
            }),
            case("a key for a provider", false, |canary, _| SetDefaultProviderRequest {
                r#type: ProviderType::Groq.into(),
                provider: canary.into(),
                ..Default::default()
            }),
        ],
        // Nobody is called: this server may not, so that what is opened for a call stays where it is.
        Some("TestProvider") => vec![
            case("refused by the guard", true, |_, _| TestProviderRequest {
                name: LOCAL.into(),
                ..Default::default()
            }),
            case("a key for a model", true, |canary, _| TestProviderRequest {
                name: LOCAL.into(),
                model: canary.into(),
                ..Default::default()
            }),
            case("a key for a name", false, |canary, _| TestProviderRequest {
                name: LOCAL.into(),
                api_key: canary.into(),
                ..Default::default()
            }),
        ],
        Some("DiscoverModels") => vec![
            case("refused by the guard", true, |_, _| DiscoverModelsRequest { names: vec![LOCAL.into()] }),
            case("a key for a name", false, |canary, _| DiscoverModelsRequest { names: vec![canary.into()] }),
        ],
        _ => panic!("{method} has no canary case: write one"),
    }
}

/// The cases of a method of `DatabaseService`.
pub fn of_database(method: &str) -> Vec<Case> {
    match method.rsplit('.').next() {
        // Nobody is called, as above.
        Some("TestDatabase") => vec![
            case("refused by the guard", true, |_, _| TestDatabaseRequest { name: LOCAL_DATABASE.into() }),
            case("a password for a name", false, |canary, _| TestDatabaseRequest { name: canary.into() }),
        ],
        _ => panic!("{method} has no canary case: write one"),
    }
}

/// The cases of a method of `ApiKeyService`.
pub fn of_key(method: &str) -> Vec<Case> {
    match method.rsplit('.').next() {
        Some("RotateApiKey") => vec![
            case("rotated", true, |canary, _| RotateApiKeyRequest {
                name: KEY.into(),
                secret: Some(secret(canary)),
                ..Default::default()
            }),
            case("leaked", true, |canary, _| RotateApiKeyRequest {
                name: KEY.into(),
                secret: Some(secret(canary)),
                revoke_previous: true,
                ..Default::default()
            }),
            case("kept for a minute", true, |canary, _| RotateApiKeyRequest {
                name: KEY.into(),
                secret: Some(secret(canary)),
                timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
                ..Default::default()
            }),
            case("two things at once", false, |canary, _| RotateApiKeyRequest {
                name: KEY.into(),
                secret: Some(secret(canary)),
                retire_now: true,
                revoke_previous: true,
                ..Default::default()
            }),
            case("while it is being rotated", false, |canary, _| RotateApiKeyRequest {
                name: KEY.into(),
                secret: Some(secret(canary)),
                ..Default::default()
            }),
            case("dry run", true, |canary, _| RotateApiKeyRequest {
                name: KEY.into(),
                secret: Some(secret(canary)),
                retire_now: true,
                validate_only: true,
                ..Default::default()
            }),
            case("with a line break", false, |canary, _| RotateApiKeyRequest {
                name: KEY.into(),
                secret: Some(secret(&format!("{canary}\n"))),
                ..Default::default()
            }),
            case("missing", false, |canary, n| RotateApiKeyRequest {
                name: format!("{GROQ}/apiKeys/none{n}"),
                secret: Some(secret(canary)),
                ..Default::default()
            }),
            case("a key for a name", false, |canary, _| RotateApiKeyRequest {
                name: canary.into(),
                secret: Some(secret(canary)),
                ..Default::default()
            }),
            case("name of another kind", false, |canary, _| RotateApiKeyRequest {
                name: GROQ.into(),
                secret: Some(secret(canary)),
                ..Default::default()
            }),
        ],
        Some("GetActiveApiKey") => vec![
            case("masked", true, |_, _| GetActiveApiKeyRequest {
                whose: Some(Whose::Provider(GROQ.into())),
                ..Default::default()
            }),
            case("by type", true, |_, _| GetActiveApiKeyRequest {
                whose: Some(Whose::Type(ProviderType::Groq.into())),
                ..Default::default()
            }),
            case("with secrets", false, |_, _| GetActiveApiKeyRequest {
                whose: Some(Whose::Provider(GROQ.into())),
                include_secrets: true,
                ..Default::default()
            }),
            // A key where the name of its provider belongs.
            case("a key for a name", false, |canary, _| GetActiveApiKeyRequest {
                whose: Some(Whose::Provider(canary.into())),
                include_secrets: true,
                ..Default::default()
            }),
            case("minimum", false, |canary, _| GetActiveApiKeyRequest {
                whose: Some(Whose::Provider(GROQ.into())),
                min_revision_token: canary.into(),
                ..Default::default()
            }),
        ],
        Some("RecordApiKeyUsage") => vec![
            case("used", true, |_, _| usage(KEY.into())),
            case("gone", true, |_, n| usage(format!("{GROQ}/apiKeys/none{n}"))),
            case("bad name", false, |_, n| usage(format!("ä {n}"))),
            case("a key for a name", false, |canary, _| usage(canary.into())),
            case("a key for an id", false, |canary, _| usage(format!("{GROQ}/apiKeys/{canary}/x"))),
        ],
        _ => panic!("{method} has no canary case: write one"),
    }
}

fn usage(name: String) -> RecordApiKeyUsageRequest {
    RecordApiKeyUsageRequest { usages: vec![ApiKeyUsage { name, last_used_at: None }] }
}
