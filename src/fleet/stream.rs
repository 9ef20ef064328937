//! A worker's stream that this replica serves: it enters the fleet when it opens, and ends with it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Fleet, name::Whose, view::View};
use crate::domain::{Epoch, Labels, Principal, Selector, Session, SessionId};

/// What a worker says of itself when its stream opens.
#[derive(Clone, Default)]
pub struct Hello {
    /// Its id.
    pub worker: String,
    /// Its labels.
    pub labels: Labels,
    /// Version of its client.
    pub client_version: String,
    /// Whether it never reports.
    pub silent: bool,
    /// Name of the session that it had before; may be empty.
    pub previous: String,
}

/// A stream that is open. Its session ends when this is dropped.
pub struct Stream {
    fleet: Arc<Fleet>,
    principal: Principal,
    hello: Hello,
    view: View,
    secrets: bool,
    /// Whether it is a worker's, which others are told of.
    counts: bool,
    /// The session in whose place its own begins.
    previous: Option<SessionId>,
    /// The id and the name of the session that it begins with.
    first: Option<(SessionId, String)>,
    session: Option<SessionId>,
    /// There is no room for its session.
    uncounted: Option<Uncounted>,
}

/// A stream that is not counted, for as long as it is not.
struct Uncounted(Arc<Fleet>);

impl Uncounted {
    fn new(fleet: &Arc<Fleet>) -> Self {
        // Told once, and not by each of thousands: the metric tells how many they are.
        if fleet.uncounted.fetch_add(1, Relaxed) == 0 {
            tracing::warn!("there are too many workers: some are served, and not counted");
        }
        Self(Arc::clone(fleet))
    }
}

impl Drop for Uncounted {
    fn drop(&mut self) {
        self.0.uncounted.fetch_sub(1, Relaxed);
    }
}

impl Fleet {
    /// A stream of a caller. Only one that `counts` is a worker's.
    #[must_use]
    pub fn stream(self: &Arc<Self>, principal: &Principal, hello: Hello, counts: bool) -> Stream {
        // A session that nobody knows is waited for by nobody, and one of another subject is none of the caller's business.
        let previous = match self.names.whose(&hello.previous, principal) {
            Whose::Own(previous) => Some(previous),
            Whose::Foreign | Whose::Unknown => None,
        };
        let first = Some(self.names.give(principal));
        let (fleet, principal, view) = (Arc::clone(self), principal.clone(), View::of(&[]));
        let (secrets, session, uncounted) = (false, None, None);
        Stream { fleet, principal, hello, view, secrets, counts, previous, first, session, uncounted }
    }
}

impl Stream {
    /// It shows what these selectors reach.
    #[must_use]
    pub fn showing(mut self, selectors: &[Selector], secrets: bool) -> Self {
        (self.view, self.secrets) = (View::of(selectors), secrets);
        self
    }

    /// Name of the session that it begins with, once it enters; empty when it has.
    #[must_use]
    pub fn first_name(&self) -> &str {
        self.first.as_ref().map_or("", |(_, name)| name)
    }

    /// Begins a session in a life of the store, in the place of the one before. Gives its name.
    pub fn enter(&mut self, epoch: Epoch) -> String {
        let (id, name) = self.first.take().unwrap_or_else(|| self.fleet.names.give(&self.principal));
        if let Some(before) = self.session.take().or_else(|| self.previous.take()) {
            self.fleet.known.lock().end(&before);
            self.fleet.leave(before);
        }
        self.uncounted = None;
        if !self.counts {
            return name;
        }
        let Hello { worker, labels, client_version, silent, previous: _ } = self.hello.clone();
        let session = Session {
            id: id.clone(),
            replica: self.fleet.own.clone(),
            epoch,
            subject: self.principal.subject.clone(),
            worker,
            labels,
            client_version,
            view: self.view.text.to_string(),
            secrets: self.secrets,
            silent,
        };
        let has_room = self.fleet.known.lock().open(session, self.view.clone());
        if has_room {
            self.session = Some(id);
        } else {
            self.uncounted = Some(Uncounted::new(&self.fleet));
        }
        self.fleet.ring();
        name
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.fleet.known.lock().end(&session);
            self.fleet.ring();
        }
    }
}
