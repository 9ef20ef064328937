//! What a stream is called: clients say by that which one a report is about.

use crate::domain::Epoch;

/// Names the session of a stream in a life of the store; another one in each. Dropped with the stream.
pub type NameSession = Box<dyn FnMut(Epoch) -> String + Send + Sync>;

/// What the stream is called, so that reports can say which one they are about.
pub(super) struct Session {
    name: NameSession,
    /// The name, and the life that it is of.
    current: Option<(Epoch, String)>,
}

impl Session {
    /// What nobody asked to be named.
    pub fn anonymous() -> Self {
        Self { name: Box::new(|_| uuid::Uuid::new_v4().to_string()), current: None }
    }

    /// A session whose names come from `name`.
    pub fn named(name: NameSession) -> Self {
        Self { name, current: None }
    }

    /// The name in this life.
    pub fn in_life(&mut self, epoch: Epoch) -> String {
        match &self.current {
            Some((of, name)) if *of == epoch => name.clone(),
            _ => self.current.insert((epoch, (self.name)(epoch))).1.clone(),
        }
    }
}
