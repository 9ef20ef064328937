//! The server: gRPC on a listener of its own, HTTP on the one that is lent to it, both behind the gate, stopped in two
//! stages.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::FutureExt;
use rand::RngExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{service::RoutesBuilder, transport::Server};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceBuilder, util::option_layer};

use super::{
    Addresses, AppError, connections,
    probes::{self, Probes},
};
use crate::{
    auth::{AuthenticateLayer, Authenticator, Policy},
    grpc,
    http::{self, Pages, Rpcs},
    lifecycle::{Lifecycle, Phase, Standing},
    service::Service,
    settings::{LISTENERS, Limits, Settings},
    telemetry::Metrics,
    watch::Hub,
};

/// A server that listens.
pub(super) struct Running {
    pub addresses: Addresses,
    standing: Standing,
    failed: oneshot::Receiver<String>,
}

/// What is served.
pub(super) struct Served {
    pub routes: RoutesBuilder,
    pub service: Arc<Service>,
    pub authenticator: Arc<Authenticator>,
    pub metrics: Metrics,
}

/// Binds the listener of gRPC, takes over that of HTTP, and begins to serve.
pub(super) async fn start(
    settings: &Settings,
    served: Served,
    probes: &Probes,
    lifecycle: &Lifecycle,
) -> Result<Running, AppError> {
    let Served { mut routes, service, authenticator, metrics } = served;
    let limits = &settings.limits;
    // Its watches end when no more calls are taken: they would hold the stop for as long as it may take.
    routes.add_service(grpc::health(&probes.standing, lifecycle.soft()));
    let listen = &settings.listen;
    let listener = probes::bind(LISTENERS.grpc, listen.address, limits.accept_backlog)?;
    let grpc_address = probes::local(&listener)?;
    let (died, failed) = oneshot::channel();
    let policy = Policy::Rpcs { reflection: listen.serves_reflection(settings.tls.is_some()) };
    let layer = AuthenticateLayer::new(Arc::clone(&authenticator), policy, grpc::refuse);
    let measure = metrics.rpcs.layer(policy.paths());
    // What stands in front of the services, whichever way a call comes in.
    let before = ServiceBuilder::new()
        .layer(measure.clone())
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
        .layer(grpc::RefuseOthers::new(measure.layer(grpc::Refusal)))
        .layer(GrpcWebLayer::new())
        .layer(before)
        .add_routes(routes);
    let (listener, cut) = (Arc::new(listener), lifecycle.hard());
    let admission = probes::admission(limits, limits.max_connections, metrics.given_up.clone());
    let stopping = lifecycle.soft().cancelled_owned();
    let server = match probes.certificates.clone() {
        None => {
            let incoming = connections::plaintext(listener, admission, cut);
            router.serve_with_incoming_shutdown(incoming, stopping).boxed()
        }
        Some(certificates) => {
            let incoming = connections::secured(listener, admission, cut, move || certificates.acceptor());
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
    let http = probes.lend(drained.clone());
    if let Some(listener) = &http {
        let pages = http::pages(
            Pages {
                service,
                metrics,
                rpcs,
                max_request: limits.max_request_bytes,
                standing: probes.standing.clone(),
                draining: lifecycle.soft(),
                metrics_anonymous: listen.metrics_anonymous,
                timeout: limits.request_timeout,
                cors_origins: listen.cors_origins.clone(),
                scheme: if settings.tls.is_some() { "https" } else { "http" },
            },
            authenticator,
        );
        lifecycle.listen(listener.serve(pages, lifecycle.hard(), drained));
    }
    let addresses = Addresses {
        grpc: grpc_address,
        http: http.map(|listener| listener.address),
        health: probes.health,
        tls: settings.tls.is_some(),
    };
    Ok(Running { addresses, standing: probes.standing.clone(), failed })
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
        let Running { standing, failed, .. } = self;
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            Ok(reason) = failed => Err(AppError::Listen(reason)),
            () = lifecycle.broken() => Err(AppError::Broken),
        };
        standing.set(Phase::Draining);
        tracing::info!("stopping: streams are told to go");
        hub.drain();
        if !lifecycle.stop(grace).await {
            tracing::warn!(?grace, "some streams did not end in time, and were dropped");
        }
        outcome
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
