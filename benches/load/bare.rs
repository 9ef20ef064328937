//! The reference: bare tonic, in a process of its own.
//!
//! It speaks the same protos and sends the same bytes down the same streams, with no roles, no filter, no secrets and
//! no database: a write appends 1 KiB to a file, syncs it, and publishes. It is not handicapped: a published message is
//! shared by all streams until tonic encodes it for each of them, where the generated server would have made each
//! stream copy it deeply first.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context as TaskContext, Poll},
};

use futures_util::{Stream, StreamExt, future::BoxFuture, stream};
use prost::Message;
use signalbox::proto::v1::{
    BatchWriteRequest, BatchWriteResponse, Change, ChangeType, Changes, CreateResourceRequest,
    CreateResourceResponse, DeleteResourceRequest, DeleteResourceResponse, DiffRevisionsRequest,
    DiffRevisionsResponse, GetResourceRequest, GetResourceResponse, ListHistoryRequest, ListHistoryResponse,
    ListResourcesRequest, ListResourcesResponse, Resource, RollbackAllRequest, RollbackAllResponse,
    RollbackResourceRequest, RollbackResourceResponse, Snapshot, Synced, UpdateResourceRequest,
    UpdateResourceResponse, WatchConfigRequest, WatchConfigResponse,
    config_service_server::{ConfigService, ConfigServiceServer},
    watch_config_response::Event,
};
use tokio::{
    net::TcpSocket,
    sync::{broadcast, broadcast::error::RecvError, mpsc, oneshot},
};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, EncodeBuf, Encoder},
    server::{Grpc, NamedService, ServerStreamingService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use super::{
    failure::{Context, Outcome},
    link::WATCH_PATH,
};

/// The state that it begins with, an encoded `Snapshot`.
pub const STATE_FILE: &str = "state.bin";
/// Messages that a stream may lag behind before it is ended with an error; as many as Signalbox keeps in its ring.
const RING: usize = 4096;
/// What a write appends to the file before it is published.
const RECORD: [u8; 1024] = [b'x'; 1024];

type Shared = Arc<WatchConfigResponse>;

/// Serves until it is killed. Prints its address when it is ready, as Signalbox does.
pub async fn serve(folder: &Path) -> Outcome<()> {
    let state = fs::read(folder.join(STATE_FILE)).context("the state to begin with")?;
    let Snapshot { revision, resources, .. } = Snapshot::decode(state.as_slice())?;
    let log = File::create(folder.join("log")).context("the log")?;
    let (jobs, queue) = mpsc::channel(1024);
    let bare = Arc::new(Bare {
        published: Mutex::new(Published { revision, ring: VecDeque::new() }),
        live: broadcast::Sender::new(RING),
        resources,
        jobs,
    });
    let publisher = Arc::clone(&bare);
    std::thread::spawn(move || publisher.publish_all(queue, log));

    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(4096)?;
    println!("listening on {}", listener.local_addr()?);
    let inner = ConfigServiceServer::from_arc(Arc::clone(&bare));
    Server::builder()
        .add_service(Watch { inner, bare })
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .context("the reference server")
}

/// The reference server.
struct Bare {
    published: Mutex<Published>,
    live: broadcast::Sender<Shared>,
    resources: Vec<Resource>,
    jobs: mpsc::Sender<Job>,
}

struct Published {
    revision: u64,
    /// The newest messages, for streams that resume.
    ring: VecDeque<(u64, Shared)>,
}

/// A write on its way to the file, and who waits for it.
type Job = (Resource, oneshot::Sender<Result<UpdateResourceResponse, Status>>);

impl Bare {
    /// One write after the other: append, sync, publish, answer.
    fn publish_all(&self, mut jobs: mpsc::Receiver<Job>, mut log: File) {
        while let Some((resource, answer)) = jobs.blocking_recv() {
            let durable = log.write_all(&RECORD).and_then(|()| log.sync_data());
            let answered =
                durable.map(|()| self.publish(resource)).map_err(|error| Status::internal(error.to_string()));
            // A caller that has gone does not want to know.
            let _ = answer.send(answered);
        }
    }

    fn publish(&self, mut resource: Resource) -> UpdateResourceResponse {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.revision += 1;
        let revision = published.revision;
        resource.update_revision = revision;
        resource.version += 1;
        let change = Change {
            r#type: ChangeType::Updated.into(),
            name: resource.name.clone(),
            action: "updated".to_owned(),
            actor: resource.updated_by.clone(),
            time: resource.update_time,
            resource: Some(resource.clone()),
        };
        let resume_token = token(revision);
        let changes = Changes {
            revision,
            changes: vec![change],
            last: true,
            resume_token: resume_token.clone(),
            ..Changes::default()
        };
        let message = Arc::new(WatchConfigResponse { event: Some(Event::Changes(changes)) });
        if published.ring.len() == RING {
            published.ring.pop_front();
        }
        published.ring.push_back((revision, Arc::clone(&message)));
        // Under the lock, so that a stream that opens meanwhile finds it either in the ring or on the channel.
        // Without a receiver there is nobody to tell.
        let _ = self.live.send(message);
        UpdateResourceResponse {
            resource: Some(resource),
            revision,
            revision_token: resume_token,
            ..UpdateResourceResponse::default()
        }
    }

    /// The beginning of a stream, and the channel on which it goes on.
    fn open(&self, request: &WatchConfigRequest) -> (Vec<Shared>, broadcast::Receiver<Shared>) {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let synced = |revision| Event::Synced(Synced { revision, view_id: token(0), ..Synced::default() });
        let wrap = |event| Arc::new(WatchConfigResponse { event: Some(event) });
        let Ok(from) = request.resume_token.parse() else {
            let revision = published.revision;
            let snapshot = Snapshot { revision, resources: self.resources.clone(), last: true };
            return (vec![wrap(Event::Snapshot(snapshot)), wrap(synced(revision))], live);
        };
        let start = published.ring.partition_point(|(revision, _)| *revision <= from);
        let missed = published.ring.range(start..).map(|(_, message)| Arc::clone(message));
        ([wrap(synced(from))].into_iter().chain(missed).collect(), live)
    }
}

/// As long as a token of Signalbox.
fn token(revision: u64) -> String {
    format!("{revision:0>43}")
}

#[tonic::async_trait]
impl ConfigService for Bare {
    type WatchConfigStream = stream::Empty<Result<WatchConfigResponse, Status>>;

    async fn get_resource(
        &self,
        request: Request<GetResourceRequest>,
    ) -> Result<Response<GetResourceResponse>, Status> {
        let name = &request.get_ref().name;
        let resource = self.resources.iter().find(|resource| resource.name == *name).cloned();
        let resource = Some(resource.ok_or_else(|| Status::not_found(name))?);
        let answer =
            GetResourceResponse { resource, revision_token: token(1), ..GetResourceResponse::default() };
        Ok(Response::new(answer))
    }

    async fn update_resource(
        &self,
        request: Request<UpdateResourceRequest>,
    ) -> Result<Response<UpdateResourceResponse>, Status> {
        let written = request.into_inner().resource.unwrap_or_default();
        let known = self.resources.iter().find(|resource| resource.name == written.name).cloned();
        let known = known.ok_or_else(|| Status::not_found(written.name))?;
        let (answer, answered) = oneshot::channel();
        let gone = |_| Status::unavailable("the publisher has ended");
        self.jobs.send((Resource { spec: written.spec, ..known }, answer)).await.map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))?.map(Response::new)
    }

    async fn watch_config(
        &self,
        _request: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        Err(Status::internal("answered by `Watch`, before it comes here"))
    }

    async fn list_resources(
        &self,
        _request: Request<ListResourcesRequest>,
    ) -> Result<Response<ListResourcesResponse>, Status> {
        Err(beyond())
    }

    async fn rollback_resource(
        &self,
        _request: Request<RollbackResourceRequest>,
    ) -> Result<Response<RollbackResourceResponse>, Status> {
        Err(beyond())
    }

    async fn rollback_all(
        &self,
        _request: Request<RollbackAllRequest>,
    ) -> Result<Response<RollbackAllResponse>, Status> {
        Err(beyond())
    }

    async fn create_resource(
        &self,
        _request: Request<CreateResourceRequest>,
    ) -> Result<Response<CreateResourceResponse>, Status> {
        Err(beyond())
    }

    async fn delete_resource(
        &self,
        _request: Request<DeleteResourceRequest>,
    ) -> Result<Response<DeleteResourceResponse>, Status> {
        Err(beyond())
    }

    async fn list_history(
        &self,
        _request: Request<ListHistoryRequest>,
    ) -> Result<Response<ListHistoryResponse>, Status> {
        Err(beyond())
    }

    async fn diff_revisions(
        &self,
        _request: Request<DiffRevisionsRequest>,
    ) -> Result<Response<DiffRevisionsResponse>, Status> {
        Err(beyond())
    }

    async fn batch_write(
        &self,
        _request: Request<BatchWriteRequest>,
    ) -> Result<Response<BatchWriteResponse>, Status> {
        Err(beyond())
    }
}

fn beyond() -> Status {
    Status::unimplemented("bare tonic is a reference for writes, reads of one resource and watches only")
}

/// Answers `WatchConfig` with shared messages, and hands everything else to the generated server.
#[derive(Clone)]
struct Watch {
    inner: ConfigServiceServer<Bare>,
    bare: Arc<Bare>,
}

impl NamedService for Watch {
    const NAME: &'static str = <ConfigServiceServer<Bare> as NamedService>::NAME;
}

impl tower::Service<http::Request<Body>> for Watch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        tower::Service::<http::Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != WATCH_PATH {
            return self.inner.call(request);
        }
        let streams = Streams(Arc::clone(&self.bare));
        Box::pin(async move { Ok(Grpc::new(SharedCodec).server_streaming(streams, request).await) })
    }
}

/// Opens streams, as the generated server would.
struct Streams(Arc<Bare>);

impl ServerStreamingService<WatchConfigRequest> for Streams {
    type Response = Shared;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Shared, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<WatchConfigRequest>) -> Self::Future {
        let (first, live) = self.0.open(request.get_ref());
        let live = stream::unfold(live, async |mut live| match live.recv().await {
            Ok(message) => Some((Ok(message), live)),
            Err(RecvError::Lagged(missed)) => {
                Some((Err(Status::data_loss(format!("{missed} missed"))), live))
            }
            Err(RecvError::Closed) => None,
        });
        std::future::ready(Ok(Response::new(Box::pin(stream::iter(first).map(Ok).chain(live)))))
    }
}

/// tonic's plain codec, on messages that are shared until they are encoded.
struct SharedCodec;

impl Codec for SharedCodec {
    type Encode = Shared;
    type Decode = WatchConfigRequest;
    type Encoder = Self;
    type Decoder = <ProstCodec<WatchConfigResponse, WatchConfigRequest> as Codec>::Decoder;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<WatchConfigResponse, WatchConfigRequest>::default().decoder()
    }
}

impl Encoder for SharedCodec {
    type Item = Shared;
    type Error = Status;

    fn encode(&mut self, message: Shared, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}
