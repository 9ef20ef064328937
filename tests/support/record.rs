//! What a reader was sent, kept raw, to be judged when all is over.

use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use signalbox::proto::v1::{Resource, WatchConfigResponse, watch_config_response::Event};
use tonic::Code;

use super::view::View;

/// One client: a cache and a cursor that live through many streams.
#[derive(Clone, Debug)]
pub struct Reader {
    pub name: String,
    pub view: View,
    /// Whether it moves between several servers.
    pub roams: bool,
    pub streams: Vec<Stream>,
    pub reads: Vec<Read>,
}

/// One stream of it.
#[derive(Clone, Debug)]
pub struct Stream {
    pub asked: Asked,
    pub seen: Vec<Seen>,
    pub end: End,
}

/// Where a stream was asked to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// From the beginning.
    Nothing,
    /// From the reader's own cursor.
    Resume { revision: u64 },
    /// From its cursor, but with the view id of another view.
    OtherView,
    /// With a token of another store.
    OtherStore,
    /// With a token whose hash is not the one of its revision.
    OtherHash { revision: u64 },
    /// With a token of a revision that does not exist yet.
    Ahead,
    /// With something that is no token.
    Garbage,
}

/// One message and when it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub raw: Bytes,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The reader had seen everything, or enough.
    Left,
    /// The server ended it, or the connection broke.
    Ended(Code, String),
}

/// One unary read: a list, or the read of one resource.
#[derive(Clone, Debug)]
pub struct Read {
    /// The selectors that it was narrowed to.
    pub view: View,
    /// The revision of the token that it must not be older than.
    pub at_least: u64,
    /// The revision that was asked for; 0 for the current one.
    pub at: u64,
    /// The revision that was answered.
    pub revision: u64,
    pub resources: Vec<Resource>,
}

/// A reader's streams with their events decoded.
pub type Events = Vec<(Asked, Vec<(Instant, Event)>)>;

impl Reader {
    pub fn new(name: impl Into<String>, view: View) -> Self {
        Self { name: name.into(), view, roams: false, streams: Vec::new(), reads: Vec::new() }
    }

    /// Decodes everything once.
    pub fn events(&self) -> Result<Events, String> {
        let decode = |seen: &Seen| {
            let message = WatchConfigResponse::decode(seen.raw.clone());
            let event =
                message.map_err(|error| error.to_string())?.event.ok_or("an event without content")?;
            Ok((seen.at, event))
        };
        let stream = |stream: &Stream| {
            Ok((stream.asked, stream.seen.iter().map(decode).collect::<Result<_, String>>()?))
        };
        self.streams.iter().map(stream).collect()
    }
}

impl Seen {
    /// A message as it would have come.
    pub fn of(event: Event) -> Self {
        let raw = WatchConfigResponse { event: Some(event) }.encode_to_vec().into();
        Self { at: Instant::now(), raw }
    }

    pub fn event(&self) -> Option<Event> {
        WatchConfigResponse::decode(self.raw.clone()).ok()?.event
    }
}

/// The revision that an event carries; `None` for those that move no cursor.
pub fn revision_of(event: &Event) -> Option<u64> {
    match event {
        Event::Snapshot(event) => Some(event.revision),
        Event::Synced(event) => Some(event.revision),
        Event::Changes(event) => Some(event.revision),
        Event::Progress(event) => Some(event.revision),
        Event::Reset(_) | Event::Revoked(_) | Event::GoingAway(_) => None,
    }
}

/// The token that an event carries, and its revision.
pub fn token_of(event: &Event) -> Option<(u64, &str)> {
    match event {
        Event::Synced(event) => Some((event.revision, &event.resume_token)),
        Event::Changes(event) if event.last => Some((event.revision, &event.resume_token)),
        Event::Progress(event) => Some((event.revision, &event.resume_token)),
        _ => None,
    }
}
