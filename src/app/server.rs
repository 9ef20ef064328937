//! The listeners: bound first, served behind one authentication layer, stopped in two stages.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use rand::RngExt;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};
use tonic::{
    service::RoutesBuilder,
    transport::{
        Certificate, Identity, Server, ServerTlsConfig,
        server::{Connected, TcpConnectInfo},
    },
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{Addresses, AppError};
use crate::{
    auth::{AuthenticateLayer, Authenticator, Policy},
    grpc,
    lifecycle::Lifecycle,
    settings::{Limits, Settings, Tls},
    watch::Hub,
};

/// Pause after a failed accept: mostly the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections of the health listener; probes are few.
const HEALTH_CONNECTIONS: usize = 64;

/// Serves for as long as the process answers.
const LIVENESS: &str = "liveness";

/// A server that listens.
pub(super) struct Running {
    pub addresses: Addresses,
    health: HealthReporter,
    failed: oneshot::Receiver<String>,
}

/// Binds the listeners and begins to serve.
pub(super) async fn start(
    settings: &Settings,
    mut routes: RoutesBuilder,
    authenticator: Arc<Authenticator>,
    lifecycle: &Lifecycle,
) -> Result<Running, AppError> {
    let limits = &settings.limits;
    let (health, health_service) = tonic_health::server::health_reporter();
    announce(&health, ServingStatus::Serving).await;
    health.set_service_status(LIVENESS, ServingStatus::Serving).await;
    routes.add_service(health_service.clone());
    let listener = bind(settings.listen.address, limits.accept_backlog)?;
    let health_listener = settings.listen.health.map(|address| bind(address, 128)).transpose()?;
    let addresses = Addresses {
        grpc: local(&listener)?,
        health: health_listener.as_ref().map(local).transpose()?,
        tls: settings.tls.is_some(),
    };

    let (died, failed) = oneshot::channel();
    let mut builder = builder(limits);
    if let Some(tls) = &settings.tls {
        builder = builder
            .tls_config(tls_config(tls, limits)?)
            .map_err(|error| AppError::Listen(tls_text(&error)))?;
    }
    let incoming = incoming(listener, limits.max_connections);
    let soft = lifecycle.soft();
    let policy = Policy { reflection: settings.listen.serves_reflection(settings.tls.is_some()) };
    let layer = AuthenticateLayer::new(authenticator, policy, grpc::to_status);
    let server = builder
        .layer(grpc::MendStatuses)
        .layer(layer)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming, async move { soft.cancelled().await });
    lifecycle.listen(async move {
        if let Err(error) = server.await {
            // Nobody listens any more only when the server is already stopping.
            let _ = died.send(format!("the gRPC listener died: {error}"));
        }
    });
    if let Some(listener) = health_listener {
        let soft = lifecycle.soft();
        let server = builder_of_probes().add_service(health_service).serve_with_incoming_shutdown(
            incoming_of_probes(listener),
            async move { soft.cancelled().await },
        );
        lifecycle.listen(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the health listener died");
            }
        });
    }
    Ok(Running { addresses, health, failed })
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
        let Running { mut health, failed, .. } = self;
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            Ok(reason) = failed => Err(AppError::Listen(reason)),
        };
        tracing::info!("stopping: streams are told to go");
        announce(&health, ServingStatus::NotServing).await;
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
        .http2_max_pending_accept_reset_streams(Some(100))
        .timeout(limits.request_timeout);
    match age {
        Some(age) => server.max_connection_age(age),
        None => server,
    }
}

fn builder_of_probes() -> Server {
    Server::builder().max_concurrent_streams(16).http2_keepalive_interval(Some(Duration::from_secs(20)))
}

fn tls_config(tls: &Tls, limits: &Limits) -> Result<ServerTlsConfig, AppError> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| AppError::Listen(format!("TLS: {}: {error}", path.display())))
    };
    let identity = Identity::from_pem(read(&tls.cert_file)?, read(&tls.key_file)?);
    let config = ServerTlsConfig::new().identity(identity).timeout(limits.handshake_timeout);
    Ok(match &tls.client_ca_file {
        Some(path) => config.client_ca_root(Certificate::from_pem(read(path)?)),
        None => config,
    })
}

fn tls_text(error: &tonic::transport::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("TLS: the certificate or key can't be used: {error} {cause}")
}

fn bind(address: SocketAddr, backlog: u32) -> Result<TcpListener, AppError> {
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(backlog)
    };
    open().map_err(|error| AppError::Listen(format!("can't listen on {address}: {error}")))
}

fn local(listener: &TcpListener) -> Result<SocketAddr, AppError> {
    listener.local_addr().map_err(|error| AppError::Listen(error.to_string()))
}

/// A connection that holds its place among the open ones.
pub(super) struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

fn incoming_of_probes(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
    incoming(listener, HEALTH_CONNECTIONS)
}

/// Accepts connections. Beyond the limit a new one is closed at once: waiting would hide it from the client.
fn incoming(listener: TcpListener, limit: usize) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(limit));
    stream::unfold((listener, places), async |(listener, places)| {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        let _ = stream.set_nodelay(true);
                        return Some((Ok(Connection { stream, _place: place }), (listener, places)));
                    }
                    Err(_) => tracing::warn!("a connection was refused: too many are open"),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

mod connection {
    //! A [`Connection`] is its stream, in every respect.

    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::{Connected, Connection, TcpConnectInfo};

    impl Connected for Connection {
        type ConnectInfo = TcpConnectInfo;

        fn connect_info(&self) -> TcpConnectInfo {
            self.stream.connect_info()
        }
    }

    impl AsyncRead for Connection {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Connection {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffers: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
        }

        fn is_write_vectored(&self) -> bool {
            self.stream.is_write_vectored()
        }
    }
}
