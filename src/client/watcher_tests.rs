//! The watcher and its handle against a scripted server, in paused time: no sockets, and no wait takes real time.

#[path = "watcher_tests/delays.rs"]
mod delays;
#[path = "watcher_tests/disk.rs"]
mod disk;
#[path = "watcher_tests/lookout.rs"]
mod lookout;
#[path = "watcher_tests/metrics.rs"]
mod metrics;
#[path = "watcher_tests/subscribers.rs"]
mod subscribers;
#[path = "watcher_tests/validation.rs"]
mod validation;

use std::sync::{
    LazyLock, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{
    client::{
        Client, ClientOptions, EventKind, Metric, Selector, Update,
        clock::{Clock, Moment},
        token::Subject,
    },
    proto::v1::{
        Change, ChangeType, Changes, GoingAway, Progress, Reset, Resource, Revoked, SettingSpec, Snapshot,
        Synced, WatchConfigResponse, resource::Spec, setting_spec::Value,
    },
};

type Message = Result<WatchConfigResponse, Status>;
const LONG: Duration = Duration::from_secs(3_600);

/// The client's end of the script.
struct Script {
    opens: mpsc::UnboundedSender<Open>,
    answers: mpsc::UnboundedReceiver<Result<EventStream, Error>>,
    endpoint: usize,
    /// Whether there is a server that hears of the store, for who looks.
    better: watch::Receiver<bool>,
    /// Each stream that was opened has one of its own: as many `+` as its number.
    subject: Subject,
}

/// One attempt to open a stream.
struct Open {
    at: Instant,
    request: WatchConfigRequest,
    endpoint: usize,
}

impl Transport for Script {
    type Found = ();

    async fn open(&mut self, request: WatchConfigRequest) -> Result<EventStream, Error> {
        let open = Open { at: Instant::now(), request, endpoint: self.endpoint };
        self.opens.send(open).map_err(|_| Error::Ended)?;
        let stream = self.answers.recv().await.unwrap_or(Err(Error::Ended))?;
        self.subject.subject.push('+');
        Ok(stream)
    }

    fn subject(&self) -> &Subject {
        &self.subject
    }

    fn rotate(&mut self) {
        self.endpoint += 1;
    }

    fn look(&self, _: Duration) -> Looking<()> {
        let mut better = self.better.clone();
        Box::pin(async move { assert!(better.wait_for(|better| *better).await.is_ok()) })
    }

    fn go_to(&mut self, (): ()) {}
}

/// The test's end of the script.
struct Server {
    opens: mpsc::UnboundedReceiver<Open>,
    answers: mpsc::UnboundedSender<Result<EventStream, Error>>,
    /// Whether another server hears of the store; so it is unless a test says otherwise.
    better: watch::Sender<bool>,
}

impl Server {
    /// Accepts the next stream.
    async fn accept(&mut self) -> (Open, Peer) {
        let open = self.opens.recv().await.unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        self.answers.send(Ok(Box::pin(UnboundedReceiverStream::new(receiver)))).unwrap();
        (open, Peer(sender))
    }

    /// Refuses the next stream.
    async fn refuse(&mut self, error: impl Into<Error>) -> Open {
        let open = self.opens.recv().await.unwrap();
        self.answers.send(Err(error.into())).unwrap();
        open
    }
}

/// The server's end of one stream; dropping it ends the stream.
struct Peer(mpsc::UnboundedSender<Message>);

impl Peer {
    fn send(&self, event: Event) {
        self.0.send(Ok(WatchConfigResponse { event: Some(event) })).unwrap();
    }

    fn fail(self, status: Status) {
        self.0.send(Err(status)).unwrap();
    }

    fn sync(&self, revision: u64) {
        let resources = vec![resource("a", revision)];
        self.send(Event::Snapshot(Snapshot { revision, resources, last: true }));
        self.synced(revision);
    }

    fn synced(&self, revision: u64) {
        let resume_token = format!("token-{revision}");
        self.send(Event::Synced(Synced { revision, resume_token, ..Synced::default() }));
    }

    fn change(&self, key: &str, revision: u64) {
        let resource = resource(key, revision);
        let change = Change {
            r#type: ChangeType::Updated.into(),
            name: resource.name.clone(),
            resource: Some(resource),
            ..Change::default()
        };
        let resume_token = format!("token-{revision}");
        self.send(Event::Changes(Changes {
            revision,
            changes: vec![change],
            last: true,
            resume_token,
            ..Changes::default()
        }));
    }

    fn progress(&self, revision: u64, digest: Vec<u8>) {
        let resume_token = format!("token-{revision}");
        self.send(Event::Progress(Progress { revision, resume_token, digest, ..Progress::default() }));
    }

    fn go_away(&self, seconds: i64) {
        let reconnect_after = Some(prost_types::Duration { seconds, nanos: 0 });
        self.send(Event::GoingAway(GoingAway { reason: "drain".to_owned(), reconnect_after }));
    }
}

fn resource(key: &str, revision: u64) -> Resource {
    Resource {
        name: format!("settings/{key}"),
        update_revision: revision,
        spec: Some(Spec::Setting(SettingSpec {
            value: Some(Value::IntValue(revision.try_into().unwrap())),
            ..SettingSpec::default()
        })),
        ..Resource::default()
    }
}

/// The runtime's clock, which stands still.
fn paused() -> Moment {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    let start = Instant::from_std(*START);
    Moment::from_bits(i64::try_from((Instant::now() - start).as_nanos()).unwrap())
}

fn options() -> ClientOptions {
    ClientOptions::new("http://unused")
}

fn start(options: &ClientOptions) -> (Client, Server) {
    let (opens_in, opens) = mpsc::unbounded_channel();
    let (answers, answers_out) = mpsc::unbounded_channel();
    let (better, better_out) = watch::channel(true);
    let subject = Subject::default();
    let script = Script { opens: opens_in, answers: answers_out, endpoint: 0, better: better_out, subject };
    (Client::over(script, options, Clock(paused)).unwrap(), Server { opens, answers, better })
}

async fn ready() -> (Client, Server, Peer) {
    let (client, mut server) = start(&options());
    let (_, peer) = server.accept().await;
    peer.sync(5);
    client.wait_ready(LONG).await.unwrap();
    (client, server, peer)
}

/// Waits for a condition on the status; it is re-evaluated whenever the watcher records something.
async fn until(client: &Client, condition: impl Fn(&crate::client::Status) -> bool) {
    while !condition(&client.status()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_getters_subscribers_and_callbacks() {
    let (client, _server, peer) = ready().await;
    assert_eq!(client.setting_int("a").unwrap(), Some(5));
    let mut subscription = client.subscribe();
    assert_eq!(subscription.start().revision(), 5);
    let (told, mut heard) = mpsc::unbounded_channel();
    let _callback = client.on_change(Selector::name("settings/b"), move |event| {
        told.send((event.kind, event.name.clone(), event.revision)).unwrap();
    });
    peer.change("a", 6);
    peer.change("b", 7);
    client.wait_revision(7, LONG).await.unwrap();
    assert_eq!(client.setting_int("b").unwrap(), Some(7));
    for revision in [6, 7] {
        let Some(Update::Changes(set)) = subscription.next().await else { panic!("no changes") };
        assert_eq!(set.snapshot.revision(), revision);
    }
    let expected = (EventKind::Created, "settings/b".to_owned(), 7);
    assert_eq!(heard.recv().await.unwrap(), expected, "and nothing of settings/a");
    let error = client.wait_revision(8, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, Error::RevisionNotReached { wanted: 8, reached: 7 }));
}

/// No goodbye could be said for a session that was just being opened, and the service waited a minute for this worker.
#[tokio::test(start_paused = true)]
async fn regression_who_closes_waits_for_the_name_of_his_session() {
    for synced in [true, false] {
        let (client, mut server) = start(&options());
        let (_, peer) = server.accept().await;
        let (closing, began) = (client.clone(), Instant::now());
        let closed = tokio::spawn(async move { closing.close().await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!closed.is_finished());
        if synced {
            peer.sync(5);
        }
        closed.await.unwrap();
        assert!(began.elapsed() <= Duration::from_millis(1_500), "and not for long");
        assert_eq!(client.status().loaded, synced);
    }
    let (client, mut server) = start(&options());
    server.refuse(Error::Ended).await;
    until(&client, |status| status.last_error.is_some()).await;
    let began = Instant::now();
    client.close().await;
    assert!(began.elapsed() < Duration::from_millis(500), "who does not answer is not waited for");
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_is_resumed_from_its_token() {
    let (client, mut server, peer) = ready().await;
    peer.change("a", 6);
    drop(peer);
    let (open, peer) = server.accept().await;
    assert_eq!((open.request.resume_token.as_str(), open.endpoint), ("token-6", 1));
    assert_eq!(client.setting_int("a").unwrap(), Some(6), "served while nobody is there");
    assert!(matches!(client.status().last_error.as_deref(), Some(Error::Ended)));
    peer.change("a", 7);
    peer.synced(7);
    client.wait_revision(7, LONG).await.unwrap();
    until(&client, |status| status.last_error.is_none()).await;
    assert_eq!(client.status().reconnects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_is_heard_out_and_left_on_time() {
    let (client, mut server, peer) = ready().await;
    let began = Instant::now();
    peer.go_away(3);
    peer.change("a", 6);
    client.wait_revision(6, LONG).await.unwrap();
    let (open, _peer) = server.accept().await;
    let waited = open.at - began;
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_millis(3_200), "{waited:?}");
    assert_eq!((open.request.resume_token.as_str(), open.endpoint), ("token-6", 1));
    assert!(client.status().last_error.is_none(), "an orderly end is no error");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_stream_after_three_intervals() {
    let (client, mut server, peer) = ready().await;
    peer.progress(6, Vec::new());
    client.wait_revision(6, LONG).await.unwrap();
    let began = Instant::now();
    let (open, _second) = server.accept().await;
    let waited = open.at - began;
    assert!(waited >= Duration::from_secs(15) && waited < Duration::from_millis(15_200), "{waited:?}");
    assert!(matches!(client.status().last_error.as_deref(), Some(Error::Silent(_))));
    // The second stream is silent from its start, where a server may take longer.
    let began = Instant::now();
    let (open, _third) = server.accept().await;
    assert!(open.at - began >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_stream_and_its_freshness() {
    let (client, mut server, peer) = ready().await;
    for revision in 6..60 {
        tokio::time::advance(Duration::from_secs(14)).await;
        peer.progress(revision, client.snapshot().digest().to_bytes().to_vec());
        client.wait_revision(revision, LONG).await.unwrap();
        assert!(!client.status().stale);
    }
    assert!(server.opens.try_recv().is_err(), "no second stream");
}

#[tokio::test(start_paused = true)]
async fn regression_an_outage_makes_stale_and_unready_and_is_served_through() {
    let (client, mut server, peer) = ready().await;
    drop(peer);
    let began = Instant::now();
    let mut attempts = 0;
    while began.elapsed() < Duration::from_secs(29) {
        server.refuse(Status::unavailable("down")).await;
        attempts += 1;
    }
    until(&client, |status| status.stale).await;
    assert!(began.elapsed() >= Duration::from_secs(29));
    assert!(!client.status().ready && client.status().loaded);
    assert_eq!(client.setting_int("a").unwrap(), Some(5));
    assert!((5..60).contains(&attempts), "{attempts} attempts in 30 s");
}

/// Somebody else's replica, or one that was paused, resumes the stream at once and has not heard of the store for long.
#[tokio::test(start_paused = true)]
async fn regression_a_resumed_stream_confirms_nothing_until_its_first_heartbeat() {
    let (client, mut server, peer) = ready().await;
    drop(peer);
    tokio::time::advance(Duration::from_secs(40)).await;
    let (_, peer) = server.accept().await;
    peer.synced(5);
    until(&client, |status| status.last_error.is_none() && status.reconnects == 1).await;
    assert!(client.status().stale && !client.status().ready);
    let old = Some(prost_types::Duration { seconds: 25, nanos: 0 });
    let beat = Progress { revision: 5, confirmed_age: old, ..Progress::default() };
    peer.send(Event::Progress(beat.clone()));
    until(&client, |status| status.ready).await;
    assert!(client.status().confirmed_age.unwrap() >= Duration::from_secs(25));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(!client.status().ready, "the replica's age counts with the own");
    peer.send(Event::Progress(Progress { confirmed_age: None, ..beat }));
    until(&client, |status| status.ready).await;
}

/// A paused process finds heartbeats in its socket that were true when they were sent.
#[tokio::test(start_paused = true)]
async fn regression_what_has_waited_while_the_process_stood_still_confirms_nothing() {
    let (client, mut server, peer) = ready().await;
    peer.progress(5, Vec::new());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!client.status().ready);
    let (open, peer) = server.accept().await;
    assert!(!client.status().ready && open.request.resume_token == "token-5");
    assert!(matches!(client.status().last_error.as_deref(), Some(Error::Silent(_))));
    peer.synced(5);
    peer.progress(5, Vec::new());
    until(&client, |status| status.ready).await;
}

#[tokio::test(start_paused = true)]
async fn regression_a_state_of_another_life_is_not_fresh() {
    let (client, _server, peer) = ready().await;
    peer.send(Event::Reset(Reset { reason: ResetReason::Lagged.into(), ..Reset::default() }));
    until(&client, |status| status.resets == 1).await;
    assert!(client.status().ready);
    peer.send(Event::Reset(Reset { reason: ResetReason::OtherStore.into(), ..Reset::default() }));
    until(&client, |status| status.resets == 2).await;
    assert!(!client.status().ready && client.status().loaded);
    peer.sync(2);
    until(&client, |status| status.ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_cleared_cache_is_filled_by_a_new_snapshot() {
    let (client, mut server, _peer) = ready().await;
    let waiting = client.clone();
    let cleared = tokio::spawn(async move { waiting.clear_cache(LONG).await });
    let (open, peer) = server.accept().await;
    assert_eq!(open.request.resume_token, "");
    assert_eq!(client.setting_int("a").unwrap(), Some(5), "served on");
    assert!(!cleared.is_finished());
    peer.sync(6);
    cleared.await.unwrap().unwrap();
    assert_eq!(client.setting_int("a").unwrap(), Some(6));
    let error = client.clear_cache(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_drifted_cache_heals_itself() {
    let (client, mut server, peer) = ready().await;
    peer.progress(6, vec![1; 16]);
    let (open, peer) = server.accept().await;
    assert_eq!(open.request.resume_token, "", "a snapshot is asked for");
    assert_eq!(client.status().digest_mismatches, 1);
    assert!(!client.status().ready, "known to be wrong is not fresh");
    assert_eq!(client.setting_int("a").unwrap(), Some(5));
    peer.sync(6);
    client.wait_revision(6, LONG).await.unwrap();
    assert_eq!(client.setting_int("a").unwrap(), Some(6));
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_counted_and_served_through() {
    let (client, _server, peer) = ready().await;
    peer.send(Event::Reset(Reset::default()));
    until(&client, |status| status.resets == 1).await;
    assert!(client.status().ready);
    assert_eq!(client.setting_int("a").unwrap(), Some(5));
    peer.sync(9);
    client.wait_revision(9, LONG).await.unwrap();
}

#[test]
fn no_runtime_is_an_error_and_not_a_panic() {
    assert!(matches!(Client::connect(options()), Err(Error::NoRuntime)));
}
