//! What is seen of resources and is no part of their configuration: when a key was used, what a test found.

use chrono::{DateTime, Utc};

use super::Uid;

/// Something that was seen of a resource. Of one resource and one matter the newest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The resource, by what it keeps for its whole life.
    pub uid: Uid,
    /// What it is about.
    pub what: Matter,
    /// What was seen, a JSON value without secrets; empty where the time says it all.
    pub value_json: String,
    /// When.
    pub time: DateTime<Utc>,
}

/// What an observation is about: a stable word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matter(pub std::borrow::Cow<'static, str>);

impl Matter {
    /// When an API key was last used.
    pub const LAST_USED: Self = Self(std::borrow::Cow::Borrowed("last_used"));
    /// What the last test of a provider or a database has found.
    pub const TEST: Self = Self(std::borrow::Cow::Borrowed("test"));
    /// How many workers lack the new value of an API key that is being rotated.
    pub const ROTATION: Self = Self(std::borrow::Cow::Borrowed("rotation"));
    /// The models that a provider has listed, the last time that it could be asked.
    pub const MODELS: Self = Self(std::borrow::Cow::Borrowed("models"));
}
