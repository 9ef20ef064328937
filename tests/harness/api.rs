//! The typed clients beside a server that runs, and what tests ask of them again and again.

use super::{
    Server,
    calls::{Authorised, Bearer, channel},
};
use signalbox::proto::v1::{
    ApiKeySpec, BatchOperation, BatchWriteRequest, CreateResourceRequest, GetResourceRequest,
    GetStatusRequest, HeaderValue, ProviderSpec, ProviderType, Resource, RouterSpec, Secret, SettingSpec,
    UpdateResourceRequest,
    admin_service_client::AdminServiceClient,
    batch_operation::{Delete, Operation},
    config_service_client::ConfigServiceClient,
    header_value,
    resource::Spec,
    setting_service_client::SettingServiceClient,
    setting_spec,
};

/// The clients, as whoever a token names.
pub struct Api {
    pub config: ConfigServiceClient<Authorised>,
    pub settings: SettingServiceClient<Authorised>,
    pub admin: AdminServiceClient<Authorised>,
}

/// The text of a token that a command line printed.
pub async fn new_token(server: &Server, arguments: &[&str]) -> String {
    let output = server.run(&[&["token", "create", "--ttl", "1h"], arguments].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

impl Api {
    /// As whoever the token names.
    pub async fn with(server: &Server, token: &str) -> Self {
        let bearer = Bearer::new(token);
        let channel = channel(server.address()).await;
        Self {
            config: ConfigServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            settings: SettingServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            admin: AdminServiceClient::with_interceptor(channel, bearer),
        }
    }

    /// As the first administrator.
    pub async fn admin(server: &Server) -> Self {
        Self::with(server, &server.admin_token()).await
    }

    /// As a worker that may read every secret.
    pub async fn worker(server: &Server) -> Self {
        let token = new_token(server, &["--role", "worker", "--selector", "*", "--secrets"]).await;
        Self::with(server, &token).await
    }

    /// Creates a resource, and answers the revision's token.
    pub async fn create(&mut self, name: &str, spec: Spec) -> String {
        let resource = Some(Resource { name: name.to_owned(), spec: Some(spec), ..Default::default() });
        let request = CreateResourceRequest { resource, ..Default::default() };
        self.config.create_resource(request).await.expect(name).into_inner().revision_token
    }

    /// Writes the populated fields of a resource.
    pub async fn update(&mut self, name: &str, spec: Spec) -> String {
        let resource = Some(Resource { name: name.to_owned(), spec: Some(spec), ..Default::default() });
        let request = UpdateResourceRequest { resource, ..Default::default() };
        self.config.update_resource(request).await.expect(name).into_inner().revision_token
    }

    /// The secrets of a resource as this caller sees them.
    pub async fn secrets(&mut self, name: &str, include_secrets: bool) -> Vec<Secret> {
        let request = GetResourceRequest { name: name.to_owned(), include_secrets, ..Default::default() };
        let answer = self.config.get_resource(request).await.expect(name).into_inner();
        secrets_of(&answer.resource.expect("a resource"))
    }

    /// Names that the status tells as undecryptable.
    pub async fn undecryptable(&mut self) -> Vec<String> {
        let status = self.admin.get_status(GetStatusRequest {}).await.expect("a status");
        status.into_inner().undecryptable
    }
}

/// All secrets of a resource, those of headers in the order of their names.
pub fn secrets_of(resource: &Resource) -> Vec<Secret> {
    match resource.spec.clone().expect("a spec") {
        Spec::ApiKey(key) => key.secret.into_iter().collect(),
        Spec::Setting(setting) => match setting.value {
            Some(setting_spec::Value::SecretValue(secret)) => vec![secret],
            _ => vec![],
        },
        Spec::Provider(provider) => {
            let values = provider.headers.into_values().filter_map(|header| match header.value {
                Some(header_value::Value::Secret(secret)) => Some(secret),
                _ => None,
            });
            values.collect()
        }
        other => panic!("no test asks for the secrets of {other:?}"),
    }
}

/// The deletion of all these, in one revision: what refers to each other has to go together. Keys go with their providers.
pub fn deletion_of(resources: &[Resource]) -> BatchWriteRequest {
    let gone = resources.iter().filter(|one| !matches!(one.spec, Some(Spec::ApiKey(_))));
    let delete = |one: &Resource| Delete { name: one.name.clone(), ..Delete::default() };
    let operation = |one| BatchOperation { operation: Some(Operation::Delete(delete(one))) };
    BatchWriteRequest { operations: gone.map(operation).collect(), ..BatchWriteRequest::default() }
}

/// A secret with a value.
pub fn secret(value: &str) -> Secret {
    Secret { value: Some(value.to_owned()), ..Default::default() }
}

/// A provider with secret headers.
pub fn provider(headers: &[(&str, &str)]) -> Spec {
    let header = |value: &str| HeaderValue { value: Some(header_value::Value::Secret(secret(value))) };
    Spec::Provider(ProviderSpec {
        r#type: ProviderType::Groq.into(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), header(value))).collect(),
        ..Default::default()
    })
}

/// A key of a provider.
pub fn api_key(value: &str) -> Spec {
    Spec::ApiKey(ApiKeySpec { secret: Some(secret(value)), ..Default::default() })
}

/// A router to one provider.
pub fn router(primary: &str) -> Spec {
    Spec::Router(RouterSpec { primary: primary.to_owned(), ..Default::default() })
}

/// A setting with a secret value.
pub fn secret_setting(value: &str) -> Spec {
    let value = Some(setting_spec::Value::SecretValue(secret(value)));
    Spec::Setting(SettingSpec { value, ..Default::default() })
}

/// A setting in the clear.
pub fn setting(value: &str) -> Spec {
    let value = Some(setting_spec::Value::StringValue(value.to_owned()));
    Spec::Setting(SettingSpec { value, ..Default::default() })
}
