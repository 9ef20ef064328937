//! The listeners: bound first, each served behind the gate, stopped in two stages.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use rand::RngExt;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{service::RoutesBuilder, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_web::GrpcWebLayer;
use tower::{ServiceBuilder, util::option_layer};

use super::{
    Addresses, AppError,
    certificates::Certificates,
    connections::{self, Admission},
};
use crate::{
    auth::{AuthenticateLayer, Authenticator, Policy},
    grpc,
    http::{self, Bounds, Pages, Rpcs},
    lifecycle::Lifecycle,
    service::Service,
    settings::{LISTENERS, Limits, Opt, Settings},
    telemetry::Metrics,
    watch::Hub,
};

/// Connections of the health listener; probes are few.
const HEALTH_CONNECTIONS: usize = 64;

/// Serves for as long as the process answers.
const LIVENESS: &str = "liveness";

/// A server that listens.
pub(super) struct Running {
    pub addresses: Addresses,
    health: HealthReporter,
    probes: HealthReporter,
    failed: oneshot::Receiver<String>,
}

/// What is served.
pub(super) struct Served {
    pub routes: RoutesBuilder,
    pub service: Arc<Service>,
    pub authenticator: Arc<Authenticator>,
    pub metrics: Metrics,
}

/// Binds the listeners and begins to serve.
pub(super) async fn start(
    settings: &Settings,
    served: Served,
    lifecycle: &Lifecycle,
) -> Result<Running, AppError> {
    let Served { mut routes, service, authenticator, metrics } = served;
    let limits = &settings.limits;
    let (health, health_service) = tonic_health::server::health_reporter();
    // Told apart, because probes are still answered while the server drains.
    let (probes, probe_service) = tonic_health::server::health_reporter();
    for reporter in [&health, &probes] {
        announce(reporter, ServingStatus::Serving).await;
        reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
    }
    routes.add_service(health_service);
    // Everything that can be wrong is found before anybody can connect.
    let certificates = settings.tls.as_ref().map(Certificates::load).transpose()?.map(Arc::new);
    let listen = &settings.listen;
    let listener = bind(LISTENERS.grpc, listen.address, limits.accept_backlog)?;
    let http_listener = listen.http.map(|at| bind(LISTENERS.http, at, limits.accept_backlog)).transpose()?;
    let health_listener = listen.health.map(|at| bind(LISTENERS.health, at, 128)).transpose()?;
    let addresses = Addresses {
        grpc: local(&listener)?,
        http: http_listener.as_ref().map(local).transpose()?,
        health: health_listener.as_ref().map(local).transpose()?,
        tls: settings.tls.is_some(),
    };

    let (died, failed) = oneshot::channel();
    let policy = Policy::Rpcs { reflection: listen.serves_reflection(settings.tls.is_some()) };
    let layer = AuthenticateLayer::new(Arc::clone(&authenticator), policy, grpc::refuse);
    // What stands in front of the services, whichever way a call comes in.
    let before = ServiceBuilder::new()
        .layer(metrics.rpcs.layer(policy.paths()))
        .layer(grpc::BoundAnonymous::default())
        .layer(grpc::MendStatuses { timeout: limits.request_timeout })
        .layer(layer)
        .map_request(grpc::prove);
    let routes = routes.routes().prepare();
    let rpcs = Rpcs::new(before.service(routes.clone()));
    // HTTP/1.1 is for gRPC-Web: everything else that comes by it is refused.
    let router = builder(limits)
        .accept_http1(true)
        .layer(option_layer(http::cors(&listen.cors_origins)))
        .layer(GrpcWebLayer::new())
        .layer(before)
        .add_routes(routes);
    let cut = lifecycle.hard();
    let admission = Admission {
        connections: limits.max_connections,
        unproven: half(limits.max_connections),
        handshake: limits.handshake_timeout,
        silence: limits.keepalive_interval + limits.keepalive_timeout,
        cut,
    };
    let stopping = lifecycle.soft().cancelled_owned();
    let server = match certificates.clone() {
        None => {
            let incoming = connections::plaintext(listener, admission.clone());
            router.serve_with_incoming_shutdown(incoming, stopping).boxed()
        }
        Some(certificates) => {
            lifecycle.spawn(Arc::clone(&certificates).follow());
            let incoming = connections::secured(listener, admission.clone(), move || certificates.acceptor());
            router.serve_with_incoming_shutdown(incoming, stopping).boxed()
        }
    };
    // Pages are shown for as long as streams are: who watches over the server sees it drain.
    let drained = CancellationToken::new();
    let last_stream = drained.clone().drop_guard();
    lifecycle.listen(async move {
        if let Err(error) = server.await {
            // Nobody listens any more only when the server is already stopping.
            let _ = died.send(format!("the gRPC listener died: {error}"));
        }
        drop(last_stream);
    });
    if let Some(listener) = http_listener {
        let pages = http::pages(
            Pages {
                service,
                metrics,
                rpcs,
                max_request: limits.max_request_bytes,
                draining: lifecycle.soft(),
                metrics_anonymous: listen.metrics_anonymous,
                timeout: limits.request_timeout,
                cors_origins: listen.cors_origins.clone(),
            },
            authenticator,
        );
        let (bounds, admission) = (bounds(limits), admission.clone());
        match certificates {
            None => {
                let incoming = connections::plaintext(listener, admission);
                lifecycle.listen(http::serve(incoming, pages, bounds, drained.clone()));
            }
            Some(certificates) => {
                let incoming = connections::secured(listener, admission, move || certificates.acceptor());
                lifecycle.listen(http::serve(incoming, pages, bounds, drained.clone()));
            }
        }
    }
    if let Some(listener) = health_listener {
        let admission =
            Admission { connections: HEALTH_CONNECTIONS, unproven: half(HEALTH_CONNECTIONS), ..admission };
        let mut told = probes.clone();
        let stop = async move {
            drained.cancelled().await;
            end_health_watches(&mut told).await;
        };
        let incoming = connections::plaintext(listener, admission);
        let server =
            builder_of_probes().add_service(probe_service).serve_with_incoming_shutdown(incoming, stop);
        lifecycle.listen(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the health listener died");
            }
        });
    }
    Ok(Running { addresses, health, probes, failed })
}

impl Running {
    /// Serves until `shutdown`, then says goodbye to every stream and waits for them, at most for `grace`.
    pub async fn run(
        self,
        hub: Arc<Hub>,
        lifecycle: &Lifecycle,
        grace: Duration,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), AppError> {
        let Running { mut health, probes, failed, .. } = self;
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            Ok(reason) = failed => Err(AppError::Listen(reason)),
        };
        tracing::info!("stopping: streams are told to go");
        announce(&health, ServingStatus::NotServing).await;
        announce(&probes, ServingStatus::NotServing).await;
        end_health_watches(&mut health).await;
        hub.drain();
        if !lifecycle.stop(grace).await {
            tracing::warn!(?grace, "some streams did not end in time, and were dropped");
        }
        outcome
    }
}

/// What is told of the whole, of each service, and of readiness: all have one status.
fn told_of() -> impl Iterator<Item = &'static str> {
    grpc::SERVICES.into_iter().chain(["", "readiness"])
}

async fn announce(health: &HealthReporter, status: ServingStatus) {
    for service in told_of() {
        health.set_service_status(service, status).await;
    }
}

/// Ends the streams of those who watch the health, after the last news: they would hold the stop for as long as it
/// may take.
async fn end_health_watches(health: &mut HealthReporter) {
    for service in told_of().chain([LIVENESS]) {
        health.clear_service_status(service).await;
    }
}

fn builder(limits: &Limits) -> Server {
    let age = limits.connection_max_age.map(|age| {
        // Servers that start together must not drop all their connections together.
        age + rand::rng().random_range(Duration::ZERO..=limits.connection_age_jitter)
    });
    let server = Server::builder()
        .max_concurrent_streams(limits.max_streams_per_connection)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
        .http2_max_header_list_size(limits.header_list_bytes)
        .http2_max_pending_accept_reset_streams(Some(100));
    match age {
        Some(age) => server.max_connection_age(age),
        None => server,
    }
}

/// Of all connections, how many one peer may have without a good token on them.
fn half(connections: usize) -> usize {
    connections.div_ceil(2)
}

fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        header_bytes: limits.header_list_bytes,
        header_time: limits.handshake_timeout,
        streams: limits.max_streams_per_connection,
        keepalive: limits.keepalive_interval,
    }
}

fn builder_of_probes() -> Server {
    Server::builder().max_concurrent_streams(16).http2_keepalive_interval(Some(Duration::from_secs(20)))
}

fn bind(option: &Opt, address: SocketAddr, backlog: u32) -> Result<TcpListener, AppError> {
    connections::bind(address, backlog)
        .map_err(|error| AppError::Listen(format!("{option}: can't listen on {address}: {error}")))
}

fn local(listener: &TcpListener) -> Result<SocketAddr, AppError> {
    listener.local_addr().map_err(|error| AppError::Listen(error.to_string()))
}
