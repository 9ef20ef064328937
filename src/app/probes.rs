//! What answers probes for as long as the process lives: from before the store is opened until after it is closed.
//!
//! The listener for probes is served from here to the end. That of HTTP is lent to the server in between: nobody who
//! connects is refused meanwhile, because it is the same listener all the time. It must not know how the process is;
//! it is told.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use futures_util::FutureExt;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::transport::Server;

use super::{
    AppError,
    certificates::Certificates,
    connections::{self, Admission},
};
use crate::{
    grpc,
    http::{self, Bounds},
    lifecycle::Standing,
    settings::{LISTENERS, Limits, Opt, Settings},
    telemetry::{ConnectionsGivenUp, Metrics},
};

/// Connections of the listener for probes; these are few.
const CONNECTIONS: usize = 64;
/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The listeners that probes reach.
pub(super) struct Probes {
    /// What is told.
    pub standing: Standing,
    /// The certificate of all listeners but that for probes.
    pub certificates: Option<Arc<Certificates>>,
    /// Address of the listener for probes.
    pub health: Option<SocketAddr>,
    http: Option<Arc<HttpListener>>,
    pages: Router,
    /// When the server takes over.
    lent: CancellationToken,
    end: CancellationToken,
    tasks: TaskTracker,
    _end: DropGuard,
}

/// The listener of HTTP.
pub(super) struct HttpListener {
    pub address: SocketAddr,
    socket: Arc<TcpListener>,
    certificates: Option<Arc<Certificates>>,
    admission: Admission,
    bounds: Bounds,
}

impl Probes {
    /// Binds the listeners, and begins to answer.
    pub fn open(settings: &Settings, metrics: &Metrics) -> Result<Self, AppError> {
        let (listen, limits) = (&settings.listen, &settings.limits);
        let standing = Standing::default();
        let certificates = settings.tls.as_ref().map(Certificates::load).transpose()?.map(Arc::new);
        let admission = |connections| admission(limits, connections, metrics.given_up.clone());
        let bound = |at| {
            let admission = admission(limits.max_connections);
            HttpListener::bind(at, limits, (certificates.clone(), admission)).map(Arc::new)
        };
        let http = listen.http.map(bound).transpose()?;
        let health = listen.health.map(|at| bind(LISTENERS.health, at, 128)).transpose()?;
        let end = CancellationToken::new();
        let probes = Self {
            pages: http::probes(&standing, limits.request_timeout, &listen.cors_origins),
            standing,
            certificates,
            health: health.as_ref().map(local).transpose()?,
            http,
            lent: end.child_token(),
            tasks: TaskTracker::new(),
            _end: end.clone().drop_guard(),
            end,
        };
        if let Some(http) = &probes.http {
            probes.tasks.spawn(http.serve(
                probes.pages.clone(),
                CancellationToken::new(),
                probes.lent.clone(),
            ));
        }
        if let Some(listener) = health {
            probes.tasks.spawn(probes.answer(listener, admission(CONNECTIONS)));
        }
        Ok(probes)
    }

    /// Serves the listener for probes, to the end.
    fn answer(&self, listener: TcpListener, admission: Admission) -> impl Future<Output = ()> + Send + use<> {
        let incoming = connections::plaintext(Arc::new(listener), admission, CancellationToken::new());
        let server = Server::builder()
            .max_concurrent_streams(16)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .layer(grpc::RefuseOthers::but_grpc(grpc::Refusal))
            .add_service(grpc::health(&self.standing, self.end.clone()))
            .serve_with_incoming_shutdown(incoming, self.end.clone().cancelled_owned());
        async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the health listener died");
            }
        }
    }

    /// Leaves the HTTP listener to the server, which stops to accept on it at `drained`.
    pub fn lend(&self, drained: CancellationToken) -> Option<Arc<HttpListener>> {
        let http = self.http.as_ref()?;
        self.lent.cancel();
        let (listener, pages, end) = (Arc::clone(http), self.pages.clone(), self.end.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = drained.cancelled() => listener.serve(pages, CancellationToken::new(), end.clone()).await,
                () = end.cancelled() => {}
            }
        });
        Some(Arc::clone(http))
    }

    /// Stops to answer: the process ends.
    pub async fn close(self) {
        self.end.cancel();
        self.tasks.close();
        if timeout(LAST_ANSWERS, self.tasks.wait()).await.is_err() {
            tracing::debug!("somebody who probes did not go in time");
        }
    }
}

impl HttpListener {
    fn bind(
        at: SocketAddr,
        limits: &Limits,
        (certificates, admission): (Option<Arc<Certificates>>, Admission),
    ) -> Result<Self, AppError> {
        let socket = bind(LISTENERS.http, at, limits.accept_backlog)?;
        Ok(Self {
            address: local(&socket)?,
            socket: Arc::new(socket),
            certificates,
            admission,
            bounds: Bounds {
                header_bytes: limits.header_list_bytes,
                header_time: limits.handshake_timeout,
                streams: limits.max_streams_per_connection,
                keepalive: limits.keepalive_interval,
            },
        })
    }

    /// Serves a router to who connects until `stop`, and then until the requests that are under way are answered; `cut`
    /// cuts them.
    pub fn serve(
        &self,
        router: Router,
        cut: CancellationToken,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (socket, admission, bounds) = (Arc::clone(&self.socket), self.admission.clone(), self.bounds);
        match self.certificates.clone() {
            None => http::serve(connections::plaintext(socket, admission, cut), router, bounds, stop).boxed(),
            Some(certificates) => {
                let acceptor = move || certificates.acceptor();
                http::serve(connections::secured(socket, admission, cut, acceptor), router, bounds, stop)
                    .boxed()
            }
        }
    }
}

/// What finding a stalled watcher takes at most, and cutting it.
const STALL_MARGIN: Duration = Duration::from_secs(5);

/// How connections are admitted, so many at once.
pub(super) fn admission(limits: &Limits, connections: usize, given_up: ConnectionsGivenUp) -> Admission {
    Admission {
        connections,
        unproven: connections.div_ceil(2),
        handshake: limits.handshake_timeout,
        // A watcher that does not read acknowledges nothing either. It is first cut as that, so that it is told and counted.
        silence: (limits.keepalive_interval + limits.keepalive_timeout)
            .max(limits.stream_stall_timeout + STALL_MARGIN),
        given_up,
    }
}

/// Binds a listener, or says which option names an address that can't be had.
pub(super) fn bind(option: &Opt, address: SocketAddr, backlog: u32) -> Result<TcpListener, AppError> {
    connections::bind(address, backlog)
        .map_err(|error| AppError::Listen(format!("{option}: can't listen on {address}: {error}")))
}

/// Where a listener is.
pub(super) fn local(listener: &TcpListener) -> Result<SocketAddr, AppError> {
    listener.local_addr().map_err(|error| AppError::Listen(error.to_string()))
}
