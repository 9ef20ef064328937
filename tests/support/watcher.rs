//! Somebody who watches: keeps its cursor, comes back in every way that a client may, and records what it is sent.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use prost::Message;
use rand::{RngExt, rngs::StdRng};
use signalbox::proto::v1::{
    ListResourcesRequest, Resource, WatchConfigRequest, WatchConfigResponse, watch_config_response::Event,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Code, Status, Streaming};

use super::{
    caller::Caller,
    raw,
    record::{Asked, End, Read, Reader, Seen, Stream, token_of},
    truth::Recorder,
    view::View,
    writer::unknown,
};
use crate::harness::{PATIENCE, until, within};

pub const WATCH: &str = "/signalbox.v1.ConfigService/WatchConfig";
/// No message that the server sends is larger.
const MESSAGE_BYTES: usize = 1 << 20;

/// What a reader keeps between its streams.
#[derive(Clone, Debug)]
pub struct Cursor {
    pub revision: u64,
    pub token: String,
    pub view_id: String,
}

/// How a reader behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Leaves after some messages, and comes back.
    pub restless: bool,
    /// Stops reading until the store has gone on by so many revisions.
    pub slow: Option<u64>,
}

/// Somebody who watches.
pub struct Watcher {
    caller: Caller,
    pub reader: Reader,
    cursor: Option<Cursor>,
    pub rng: StdRng,
    habits: Habits,
    /// A token of another store.
    foreign: String,
}

/// A stream that is open.
pub struct Open {
    asked: Asked,
    messages: Streaming<Bytes>,
    seen: Vec<Seen>,
    pub cursor: Option<Cursor>,
}

impl Open {
    /// Asks for a stream.
    pub async fn ask(
        caller: &Caller,
        view: &View,
        asked: Asked,
        resume: Option<(&str, &str)>,
    ) -> Result<Self, Status> {
        let (token, view_id) = resume.unwrap_or_default();
        let request = WatchConfigRequest {
            selectors: view.selectors.clone(),
            resume_token: token.to_owned(),
            view_id: view_id.to_owned(),
            include_secrets: view.secrets,
            progress_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            worker: None,
            previous_session_id: String::new(),
        };
        let messages = raw::stream(caller, WATCH, request.encode_to_vec().into()).await?;
        Ok(Self { asked, messages, seen: Vec::new(), cursor: None })
    }

    /// A stream from the beginning, on a server that is there.
    pub async fn fresh(caller: &Caller, view: &View) -> Self {
        let opened =
            within(PATIENCE, "the opening of a stream", Self::ask(caller, view, Asked::Nothing, None)).await;
        opened.unwrap_or_else(|status| panic!("the stream does not open: {status:?}"))
    }

    /// A stream from a cursor, on a server that is there.
    pub async fn resumed(caller: &Caller, view: &View, from: &Cursor) -> Self {
        let asked = Asked::Resume { revision: from.revision };
        let opened = Self::ask(caller, view, asked, Some((&from.token, &from.view_id)));
        let opened = within(PATIENCE, "the resumption of a stream", opened).await;
        opened.unwrap_or_else(|status| panic!("the stream does not open: {status:?}"))
    }

    /// The next event. `Err` is the end.
    pub async fn next(&mut self) -> Result<Event, End> {
        let message = timeout(PATIENCE, self.messages.message()).await;
        let message =
            message.unwrap_or_else(|_| panic!("a stream was silent for {PATIENCE:?}, against its heartbeat"));
        let raw = match message {
            Ok(Some(raw)) => raw,
            Ok(None) => return Err(End::Ended(Code::Ok, String::new())),
            Err(status) => return Err(End::Ended(status.code(), status.message().to_owned())),
        };
        assert!(raw.len() <= MESSAGE_BYTES, "a message of {} bytes", raw.len());
        self.seen.push(Seen { at: Instant::now(), raw: raw.clone() });
        let message = WatchConfigResponse::decode(raw).expect("what is sent is a message");
        let event = message.event.expect("an event has content");
        self.follow(&event);
        Ok(event)
    }

    /// The first event of a stream that may be refused, with all that the refusal says.
    pub async fn next_or_refusal(&mut self) -> Result<Event, Status> {
        let message = within(PATIENCE, "the first event", self.messages.message()).await?;
        let raw = message.ok_or_else(|| Status::unknown("the stream ended without a word"))?;
        let message = WatchConfigResponse::decode(raw).expect("what is sent is a message");
        Ok(message.event.expect("an event has content"))
    }

    /// Reads until an event is what is waited for.
    pub async fn wait_for(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        within(PATIENCE, what, async {
            loop {
                match self.next().await {
                    Ok(event) if wanted(&event) => return event,
                    Ok(_) => {}
                    Err(end) => panic!("{what}: the stream ended: {end:?}"),
                }
            }
        })
        .await
    }

    /// Reads until everything up to a revision has come.
    pub async fn reach(&mut self, revision: u64) {
        self.wait_for(&format!("revision {revision}"), |event| {
            token_of(event).is_some_and(|(at, _)| at >= revision)
        })
        .await;
    }

    /// Reads to the end.
    pub async fn end(&mut self) -> (Vec<Event>, Code, String) {
        let mut events = Vec::new();
        within(PATIENCE, "the end of a stream", async {
            loop {
                match self.next().await {
                    Ok(event) => events.push(event),
                    Err(End::Ended(code, text)) => return (events, code, text),
                    Err(End::Left) => unreachable!("only a reader leaves"),
                }
            }
        })
        .await
    }

    /// Lets go of what has come so far, where it is not to be judged.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// What is kept of it.
    pub fn record(self, end: End) -> Stream {
        Stream { asked: self.asked, seen: self.seen, end }
    }

    fn follow(&mut self, event: &Event) {
        if let Event::Synced(synced) = event {
            let (token, view_id) = (synced.resume_token.clone(), synced.view_id.clone());
            self.cursor = Some(Cursor { revision: synced.revision, token, view_id });
        } else if let (Some((revision, token)), Some(cursor)) = (token_of(event), &mut self.cursor) {
            (cursor.revision, cursor.token) = (revision, token.to_owned());
        }
    }
}

impl Watcher {
    pub fn new(caller: Caller, reader: Reader, rng: StdRng, habits: Habits, foreign: &str) -> Self {
        let reader = Reader { roams: caller.roams(), ..reader };
        Self { caller, reader, cursor: None, rng, habits, foreign: foreign.to_owned() }
    }

    /// Watches until everything has been seen: `goal` tells the last revision, once it is known.
    pub async fn run(mut self, recorder: Recorder, mut goal: watch::Receiver<Option<u64>>) -> Reader {
        loop {
            let asked = self.whither();
            let resume = self.resume(asked);
            let resume = resume.as_ref().map(|(token, view_id)| (token.as_str(), view_id.as_str()));
            match Open::ask(&self.caller, &self.reader.view, asked, resume).await {
                Ok(open) => {
                    let (stream, cursor) = self.watch(open, &recorder, &mut goal).await;
                    let (end, at) = (stream.end.clone(), cursor.as_ref().map(|cursor| cursor.revision));
                    self.reader.streams.push(stream);
                    self.cursor = cursor.or(self.cursor.take());
                    match end {
                        End::Left if goal.borrow().is_some_and(|goal| at.is_some_and(|at| at >= goal)) => {
                            break;
                        }
                        End::Left => self.caller = self.caller.elsewhere(),
                        End::Ended(
                            Code::Ok | Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal,
                            _,
                        ) => {
                            self.back_off().await;
                        }
                        End::Ended(code, text) => {
                            panic!("{}: the stream ended: {code:?}: {text}", self.reader.name)
                        }
                    }
                }
                Err(status) if unknown(&status) => self.back_off().await,
                Err(status) => panic!("{}: the stream does not open: {status:?}", self.reader.name),
            }
            if self.rng.random_bool(0.5) {
                self.list().await;
            }
        }
        self.list().await;
        self.reader
    }

    async fn back_off(&mut self) {
        sleep(Duration::from_millis(20)).await;
        self.caller = self.caller.reconnected();
    }

    /// Reads one stream for a while.
    async fn watch(
        &mut self,
        mut open: Open,
        recorder: &Recorder,
        goal: &mut watch::Receiver<Option<u64>>,
    ) -> (Stream, Option<Cursor>) {
        let patience = if self.habits.restless { self.rng.random_range(0..40) } else { u32::MAX };
        let pause = self.rng.random_range(0..12);
        for count in 0.. {
            let at = open.cursor.as_ref().map_or(0, |cursor| cursor.revision);
            let done = goal.borrow().map(|goal| at >= goal);
            if done == Some(true) || (done.is_none() && count >= patience) {
                break;
            }
            if let (Some(lag), true) = (self.habits.slow, count % 12 == pause) {
                let so_far = || recorder.newest().map_or(0, |(revision, _)| revision);
                let target = so_far() + lag;
                until(PATIENCE, "others go on", || so_far() >= target || goal.borrow().is_some()).await;
            }
            if let Err(end) = open.next().await {
                let cursor = open.cursor.clone();
                return (open.record(end), cursor);
            }
        }
        let cursor = open.cursor.clone();
        (open.record(End::Left), cursor)
    }

    /// Where to go on from: mostly the cursor, sometimes something that the server has to refuse.
    fn whither(&mut self) -> Asked {
        let Some(Cursor { revision, .. }) = &self.cursor else { return Asked::Nothing };
        match self.rng.random_range(0..40) {
            0 => Asked::Nothing,
            1 => Asked::OtherView,
            2 => Asked::OtherStore,
            3 => Asked::OtherHash { revision: *revision },
            4 => Asked::Ahead,
            5 => Asked::Garbage,
            _ => Asked::Resume { revision: *revision },
        }
    }

    fn resume(&self, asked: Asked) -> Option<(String, String)> {
        let cursor = self.cursor.clone()?;
        let with = |token: String| Some((token, cursor.view_id.clone()));
        match asked {
            Asked::Nothing => None,
            Asked::Resume { .. } => with(cursor.token.clone()),
            Asked::OtherView => Some((cursor.token.clone(), "0".repeat(32))),
            Asked::OtherStore => with(self.foreign.clone()),
            Asked::OtherHash { .. } => with(rewritten(&cursor.token, |bytes| bytes[20] ^= 1)),
            Asked::Ahead => with(rewritten(&cursor.token, |bytes| bytes[13] = 1)),
            Asked::Garbage => with("no token at all".to_owned()),
        }
    }

    /// Lists what the view shows, no older than the cursor; or as it was at the cursor.
    async fn list(&mut self) {
        let Some(cursor) = self.cursor.clone() else { return };
        let past = self.rng.random_bool(0.3);
        let page_size = self.rng.random_range(5..60);
        let mut request = ListResourcesRequest {
            selectors: self.reader.view.selectors.clone(),
            page_size,
            revision: if past { cursor.revision } else { 0 },
            min_revision_token: cursor.token,
            include_secrets: self.reader.view.secrets,
            ..Default::default()
        };
        let (mut resources, mut at) = (Vec::<Resource>::new(), None);
        loop {
            let page = match self.caller.config().list_resources(request.clone()).await {
                Ok(page) => page.into_inner(),
                // The server is away, the past is compacted, or the list's revision has gone: none is an answer.
                Err(status) if unknown(&status) => return,
                Err(status) if matches!(status.code(), Code::OutOfRange | Code::FailedPrecondition) => return,
                Err(status) => panic!("{}: a list: {status:?}", self.reader.name),
            };
            assert_eq!(*at.get_or_insert(page.revision), page.revision, "all pages are of one revision");
            resources.extend(page.resources);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let ordered = resources.windows(2).all(|pair| pair[0].name < pair[1].name);
        assert!(ordered, "{}: a list is ordered by name, and names each resource once", self.reader.name);
        let (view, revision) = (self.reader.view.clone(), at.unwrap_or_default());
        let read = Read { view, at_least: cursor.revision, at: request.revision, revision, resources };
        self.reader.reads.push(read);
    }
}

/// A token that was changed by hand: eight bytes of epoch, eight of revision, sixteen of hash.
pub fn rewritten(token: &str, change: impl FnOnce(&mut [u8])) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(token).expect("a token is base64url");
    change(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
