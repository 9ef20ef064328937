//! The gRPC services: one thin file each. They convert, call a use case, and convert back.
//!
//! It must not know SQL. Errors become statuses in `status`, and nowhere else.

mod admin;
mod anonymous;
mod api_key;
mod config;
mod connection;
mod database;
mod fleet;
mod framework;
mod health;
mod host;
mod media_type;
mod peers;
mod provider;
mod setting;
mod status;
mod transfer;
mod unread;
mod watch;

use std::sync::Arc;

use tonic::service::{Routes, RoutesBuilder, interceptor::InterceptedService};

pub use anonymous::BoundAnonymous;
pub use connection::{ConnectionHandle, prove};
pub use framework::MendStatuses;
pub use health::health;
pub use host::host_fault;
pub use media_type::{Refusal, RefuseOthers, is_grpc};
pub use peers::{PeerPlace, Peers};
pub use status::{refusal, refuse, to_status};
pub use unread::read_on;

use crate::{
    auth::AdminOnly,
    proto::{
        FILE_DESCRIPTOR_SET,
        v1::{
            admin_service_server::AdminServiceServer, api_key_service_server::ApiKeyServiceServer,
            config_service_server::ConfigServiceServer, database_service_server::DatabaseServiceServer,
            fleet_service_server::FleetServiceServer, provider_service_server::ProviderServiceServer,
            setting_service_server::SettingServiceServer,
        },
    },
    service::Service,
};

/// Names of the services, as health checks ask for them.
pub const SERVICES: [&str; 7] = [
    "signalbox.v1.ConfigService",
    "signalbox.v1.ProviderService",
    "signalbox.v1.ApiKeyService",
    "signalbox.v1.DatabaseService",
    "signalbox.v1.SettingService",
    "signalbox.v1.FleetService",
    "signalbox.v1.AdminService",
];

/// How large messages may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// Of a request.
    pub request: usize,
    /// Of an answer.
    pub response: usize,
}

/// The routes of all services; `reflection` adds both versions of the reflection service.
///
/// # Errors
/// When the descriptors that were built in can't be served: a defect.
pub fn routes(
    service: &Arc<Service>,
    limits: MessageLimits,
    reflection: bool,
) -> Result<RoutesBuilder, tonic_reflection::server::Error> {
    let mut routes = Routes::builder();
    let config = ConfigServiceServer::new(config::Config::new(Arc::clone(service)))
        .max_decoding_message_size(limits.request)
        .max_encoding_message_size(limits.response);
    routes.add_service(watch::WatchTransport::new(config, Arc::clone(service), limits.request));
    let provider = ProviderServiceServer::new(provider::Provider::new(Arc::clone(service)))
        .max_decoding_message_size(limits.request)
        .max_encoding_message_size(limits.response);
    routes.add_service(provider);
    let api_key = ApiKeyServiceServer::new(api_key::ApiKey::new(Arc::clone(service)))
        .max_decoding_message_size(limits.request)
        .max_encoding_message_size(limits.response);
    routes.add_service(api_key);
    let database = DatabaseServiceServer::new(database::Database::new(Arc::clone(service)))
        .max_decoding_message_size(limits.request)
        .max_encoding_message_size(limits.response);
    routes.add_service(database);
    let setting = SettingServiceServer::new(setting::Setting::new(Arc::clone(service)))
        .max_decoding_message_size(limits.request)
        .max_encoding_message_size(limits.response);
    routes.add_service(setting);
    let fleet = FleetServiceServer::new(fleet::Fleet::new(Arc::clone(service)))
        .max_decoding_message_size(limits.request)
        .max_encoding_message_size(limits.response);
    routes.add_service(fleet);
    let admin = AdminServiceServer::new(admin::Admin::new(Arc::clone(service)))
        .max_decoding_message_size(limits.request)
        .max_encoding_message_size(limits.response);
    routes.add_service(InterceptedService::new(admin, AdminOnly::new(to_status)));
    if reflection {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // Each version lists the other one too: a client picks by the list.
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
                .include_reflection_service(false)
        };
        routes.add_service(builder().build_v1()?);
        routes.add_service(builder().build_v1alpha()?);
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    /// The README shows what `grpcurl list` answers.
    #[test]
    fn regression_the_readme_lists_every_service() {
        let readme = include_str!("../../README.md");
        for service in super::SERVICES {
            assert!(readme.contains(&format!("\n{service}\n")), "{service}");
        }
    }
}
