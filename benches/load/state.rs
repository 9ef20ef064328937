//! What the servers hold while they are measured: resources of about 1 KiB, and the tokens to reach them.
//!
//! Signalbox is filled through its own API. What a worker then sees is recorded and given to the reference, so that
//! both send the same bytes.

use super::{
    failure::{Context, Failure, Outcome},
    link::Link,
};
use signalbox::proto::v1::{
    ApiKeySpec, CreateResourceRequest, CreateTokenRequest, ListResourcesRequest, ProviderSpec, ProviderType,
    Resource, Role, Secret, Selector, UpdateResourceRequest, admin_service_client::AdminServiceClient,
    config_service_client::ConfigServiceClient, resource::Spec, selector::Pattern,
};

/// Characters that are written; with the rest of the resource about 1 KiB.
const TEXT: usize = 800;
const PREFIX: &str = "providers/";

/// What is written and sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// Providers, whose description changes.
    Providers,
    /// API keys, whose secret changes, and is opened for the watcher.
    Secrets,
}

/// What a server holds.
pub struct State {
    /// Token of an administrator.
    pub admin_token: String,
    /// Token of a worker who reaches all of it.
    pub worker_token: String,
    /// What it is.
    pub payload: Payload,
    /// What is written to, as the worker sees it.
    pub resources: Vec<Resource>,
}

impl State {
    /// Fills a new Signalbox with so many resources.
    pub async fn make(address: &str, admin_token: &str, payload: Payload, count: usize) -> Outcome<Self> {
        let admin = Link::open(address, admin_token).await?;
        let worker_token = worker_token(&admin, payload).await.context("a token")?;
        create(&admin, payload, count).await.context("resources")?;
        let worker = Link::open(address, &worker_token).await?;
        let request = ListResourcesRequest {
            selectors: vec![everything()],
            page_size: 1000,
            include_secrets: payload == Payload::Secrets,
            ..ListResourcesRequest::default()
        };
        let answer =
            ConfigServiceClient::new(worker.channel()).list_resources(worker.request(request)).await?;
        let mut resources = answer.into_inner().resources;
        resources.retain(|resource| match payload {
            Payload::Providers => matches!(resource.spec, Some(Spec::Provider(_))),
            Payload::Secrets => matches!(resource.spec, Some(Spec::ApiKey(_))),
        });
        if resources.len() != count {
            return Err(Failure::new(format!("the worker sees {} of {count} resources", resources.len())));
        }
        Ok(Self { admin_token: admin_token.to_owned(), worker_token, payload, resources })
    }

    /// The `number`th write to a resource; no two numbers write the same.
    pub fn update(&self, resource: usize, number: usize) -> UpdateResourceRequest {
        let mut resource = self.resources[resource % self.resources.len()].clone();
        // Set, it would be a precondition.
        resource.etag.clear();
        let path = match &mut resource.spec {
            Some(Spec::Provider(spec)) => {
                spec.description = text(number);
                "provider.description"
            }
            Some(Spec::ApiKey(spec)) => {
                spec.secret = Some(Secret { value: Some(text(number)), ..Secret::default() });
                "api_key.secret"
            }
            _ => "",
        };
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
        UpdateResourceRequest { resource: Some(resource), update_mask, ..UpdateResourceRequest::default() }
    }
}

/// What watchers select.
pub fn everything() -> Selector {
    Selector { pattern: Some(Pattern::Prefix(PREFIX.to_owned())), ..Selector::default() }
}

fn text(number: usize) -> String {
    format!("{number:0>TEXT$}")
}

async fn worker_token(admin: &Link, payload: Payload) -> Outcome<String> {
    let request = CreateTokenRequest {
        role: Role::Worker.into(),
        subject: "load".to_owned(),
        grants: vec![everything()],
        include_secrets: payload == Payload::Secrets,
        ttl: Some(prost_types::Duration { seconds: 24 * 3600, nanos: 0 }),
        ..CreateTokenRequest::default()
    };
    let answer = AdminServiceClient::new(admin.channel()).create_token(admin.request(request)).await?;
    Ok(answer.into_inner().token)
}

async fn create(admin: &Link, payload: Payload, count: usize) -> Outcome<()> {
    let provider = |description| {
        Spec::Provider(ProviderSpec {
            r#type: ProviderType::Openai.into(),
            display_name: "Under load".to_owned(),
            description,
            ..ProviderSpec::default()
        })
    };
    let mut specs = Vec::new();
    match payload {
        Payload::Providers => {
            specs.extend((0..count).map(|number| (format!("{PREFIX}load-{number:02}"), provider(text(0)))));
        }
        Payload::Secrets => {
            specs.push((format!("{PREFIX}load"), provider(String::new())));
            specs.extend((0..count).map(|number| {
                let secret = Some(Secret { value: Some(text(0)), ..Secret::default() });
                let key = ApiKeySpec { secret, ..ApiKeySpec::default() };
                (format!("{PREFIX}load/apiKeys/key-{number:02}"), Spec::ApiKey(key))
            }));
        }
    }
    let mut client = ConfigServiceClient::new(admin.channel());
    for (name, spec) in specs {
        let resource = Some(Resource { name, spec: Some(spec), ..Resource::default() });
        let request = CreateResourceRequest { resource, ..CreateResourceRequest::default() };
        client.create_resource(admin.request(request)).await?;
    }
    Ok(())
}
