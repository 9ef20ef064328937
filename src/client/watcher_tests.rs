//! The watcher and its handle against a scripted server, in paused time: no sockets, and no wait takes real time.

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
}

/// One attempt to open a stream.
struct Open {
    at: Instant,
    request: WatchConfigRequest,
    endpoint: usize,
}

impl Transport for Script {
    async fn open(&mut self, request: WatchConfigRequest) -> Result<EventStream, Error> {
        let open = Open { at: Instant::now(), request, endpoint: self.endpoint };
        self.opens.send(open).map_err(|_| Error::Ended)?;
        self.answers.recv().await.unwrap_or(Err(Error::Ended))
    }

    fn rotate(&mut self) {
        self.endpoint += 1;
    }
}

/// The test's end of the script.
struct Server {
    opens: mpsc::UnboundedReceiver<Open>,
    answers: mpsc::UnboundedSender<Result<EventStream, Error>>,
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
    let script = Script { opens: opens_in, answers: answers_out, endpoint: 0 };
    (Client::over(script, options, Clock(paused)).unwrap(), Server { opens, answers })
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
async fn a_server_that_went_away_early_is_not_asked_before_its_time() {
    let (_client, mut server, peer) = ready().await;
    let began = Instant::now();
    peer.go_away(8);
    peer.fail(Status::unavailable("bye"));
    let (open, _peer) = server.accept().await;
    assert!(open.at - began >= Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_always_goes_away_is_not_asked_in_a_tight_loop() {
    let (_client, mut server) = start(&options());
    let began = Instant::now();
    for _ in 0..40 {
        let (_, peer) = server.accept().await;
        peer.go_away(0);
    }
    assert!(Instant::now() - began > Duration::from_secs(20));
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
async fn what_happens_is_told_to_the_metrics_hook_and_its_panics_are_borne() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let (client, mut server) = start(&options().metrics(move |metric| {
        heard.lock().unwrap().push(metric);
        assert!(metric != Metric::Changes(1), "the hook panics");
    }));
    let (_, peer) = server.accept().await;
    peer.sync(5);
    client.wait_ready(LONG).await.unwrap();
    peer.change("a", 6);
    peer.send(Event::Revoked(Revoked { names: vec!["settings/a".to_owned()], revision: 9 }));
    peer.send(Event::Reset(Reset::default()));
    until(&client, |status| status.resets == 1).await;
    peer.sync(9);
    peer.progress(9, vec![1; 16]);
    let (_, _peer) = server.accept().await;
    let told = told.lock().unwrap();
    for metric in [
        Metric::Revision(6),
        Metric::Changes(1),
        Metric::Revoked,
        Metric::Resets(1),
        Metric::Reconnects(0),
        Metric::DigestMismatches(1),
    ] {
        assert!(told.contains(&metric), "{metric:?} in {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_delay_is_longer_than_the_ceiling_and_a_stream_that_lived_resets_it() {
    let (_client, mut server) = start(&options());
    let mut last = server.refuse(Error::Ended).await.at;
    for failures in 0_u32..40 {
        let open = server.refuse(Error::Ended).await;
        let cap = (BACKOFF_FLOOR * 2_u32.saturating_pow(failures.min(10))).min(BACKOFF_CEILING);
        assert!(open.at - last <= cap + Duration::from_millis(2), "{:?}", open.at - last);
        last = open.at;
    }
    let (_, peer) = server.accept().await;
    peer.sync(5);
    tokio::time::sleep(BACKOFF_CEILING).await;
    let began = Instant::now();
    drop(peer);
    let open = server.refuse(Error::Ended).await;
    assert!(open.at - began <= BACKOFF_FLOOR + Duration::from_millis(2));
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_told_at_once_and_tried_again_slowly() {
    for status in [Status::permission_denied("no"), Status::invalid_argument("what")] {
        let (client, mut server) = start(&options());
        let first = server.refuse(status).await;
        let error = client.wait_ready(LONG).await.unwrap_err();
        assert!(error.is_fatal());
        assert!(client.status().last_error.unwrap().is_fatal());
        let (open, peer) = server.accept().await;
        let waited = open.at - first.at;
        assert!(
            waited >= FATAL_DELAY && waited <= FATAL_DELAY + FATAL_DELAY / 10 + BACKOFF_FLOOR,
            "{waited:?}"
        );
        peer.sync(5);
        until(&client, |status| status.ready).await;
        assert!(client.status().last_error.is_none());
        client.wait_ready(LONG).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_not_fatal() {
    let (client, mut server, peer) = ready().await;
    peer.fail(Status::unauthenticated("expired"));
    let began = Instant::now();
    let open = server.refuse(Status::unauthenticated("expired")).await;
    assert!(open.at - began < Duration::from_secs(1));
    assert_eq!(open.request.resume_token, "token-5");
    let (_, peer) = server.accept().await;
    peer.synced(5);
    until(&client, |status| status.last_error.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_the_server_asks_for_is_kept() {
    let (client, mut server) = start(&options());
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
    let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
    let first = server.refuse(status).await;
    let second = server.refuse(Error::Ended).await;
    assert!(second.at - first.at >= Duration::from_secs(7));
    let error = client.wait_ready(Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }) && !error.is_fatal());
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

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_and_resynced() {
    let (client, mut server) = start(&options().event_queue(4));
    let (_, peer) = server.accept().await;
    peer.sync(5);
    client.wait_ready(LONG).await.unwrap();
    let mut subscription = client.subscribe();
    for revision in 6..=30 {
        peer.change("a", revision);
    }
    client.wait_revision(30, LONG).await.unwrap();
    assert!(matches!(subscription.next().await, Some(Update::Lagged { missed: 21 })));
    let Some(Update::Resync(snapshot)) = subscription.next().await else { panic!("no resync") };
    assert_eq!(snapshot.revision(), 30);
    peer.change("a", 31);
    let Some(Update::Changes(set)) = subscription.next().await else { panic!("no changes") };
    assert_eq!(set.snapshot.revision(), 31, "what the resync holds does not come again");
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_or_lags_hears_what_follows() {
    let (client, mut server) = start(&options().event_queue(2));
    let (_, peer) = server.accept().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let values = Arc::new(Mutex::new(Vec::new()));
    let (counted, collected) = (calls.clone(), values.clone());
    client
        .on_change(Selector::all(), move |event| {
            assert_ne!(counted.fetch_add(1, Ordering::SeqCst), 0, "the first call panics");
            collected.lock().unwrap().push(event.revision);
        })
        .forever();
    let heard = |revision: u64| {
        let values = values.clone();
        async move {
            while values.lock().unwrap().last() != Some(&revision) {
                tokio::task::yield_now().await;
            }
        }
    };
    peer.sync(5);
    client.wait_ready(LONG).await.unwrap();
    peer.change("b", 6);
    heard(6).await;
    // The runtime has one thread, so that all of these are published before the callback's turn.
    for revision in 7..=40 {
        peer.change("b", revision);
    }
    heard(40).await;
    assert!(calls.load(Ordering::SeqCst) < 30, "a callback that lags is given differences");
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_everything() {
    let (client, mut server, peer) = ready().await;
    let mut subscription = client.subscribe();
    let clone = client.clone();
    drop(client);
    peer.change("a", 6);
    assert!(subscription.next().await.is_some(), "a clone keeps it alive");
    drop(clone);
    assert!(subscription.next().await.is_none());
    assert!(server.opens.recv().await.is_none());
    assert!(peer.0.is_closed());
}

#[test]
fn no_runtime_is_an_error_and_not_a_panic() {
    assert!(matches!(Client::connect(options()), Err(Error::NoRuntime)));
}

fn wary() -> ClientOptions {
    options().validate(|snapshot| match snapshot.setting_int("a") {
        Ok(Some(5 | 7)) => Err("a prime".to_owned()),
        Ok(Some(8)) => panic!("sk-canary"),
        _ => Ok(()),
    })
}

#[tokio::test(start_paused = true)]
async fn a_first_state_that_is_not_accepted_leaves_nothing_to_read() {
    let (client, mut server) = start(&wary());
    let (_, peer) = server.accept().await;
    peer.sync(5);
    let error = client.wait_ready(Duration::from_secs(1)).await.unwrap_err();
    assert!(
        error.to_string().contains("revision 5 is not accepted: a prime") && !error.is_fatal(),
        "{error}"
    );
    assert!(!client.status().loaded && client.setting_int("a").unwrap().is_none());
    peer.change("a", 6);
    client.wait_ready(LONG).await.unwrap();
    assert_eq!((client.setting_int("a").unwrap(), client.status().rejection), (Some(6), None));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_accepted_is_told_and_what_was_accepted_is_served_on() {
    let (client, mut server) = start(&wary());
    let (_, peer) = server.accept().await;
    peer.sync(6);
    client.wait_ready(LONG).await.unwrap();
    for (revision, reason) in [(7, "a prime"), (8, "the validation panicked")] {
        peer.change("a", revision);
        until(&client, |status| status.rejection.as_ref().is_some_and(|why| why.revision == revision)).await;
        let status = client.status();
        assert_eq!(status.rejection.unwrap().reason, reason);
        assert!(status.ready && status.revision == 6 && status.last_error.is_none());
        assert_eq!(client.setting_int("a").unwrap(), Some(6));
    }
    let refused = client.clear_cache(Duration::from_secs(1));
    let serve_anew = async {
        let (open, peer) = server.accept().await;
        assert_eq!(open.request.resume_token, "");
        peer.sync(7);
        peer
    };
    let (refused, peer) = tokio::join!(refused, serve_anew);
    assert!(refused.unwrap_err().to_string().contains("revision 7 is not accepted"));
    peer.change("a", 9);
    client.wait_revision(9, LONG).await.unwrap();
    assert_eq!(client.status().rejection, None);
}
