//! Replicas of the service: what names one, and which features all of them have.

use std::fmt;

use chrono::TimeDelta;

/// Name of one run of one server; another after each start.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaId(pub String);

/// What a store may hold: kinds, fields and enum values are written only once every live replica knows them, and a
/// binary below the store's level refuses to start.
///
/// Level 1 is the first release. Whoever adds something to the API that an older binary can't hold raises
/// [`FeatureLevel::CURRENT`] once a release, and has the kind say so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FeatureLevel(pub u32);

impl FeatureLevel {
    /// The first release.
    pub const FIRST: Self = Self(1);
    /// The kinds beyond providers, API keys and settings.
    pub const KINDS: Self = Self(2);
    /// How a provider is spoken to: request builders, response extractors, model listings.
    pub const WIRE: Self = Self(3);
    /// Keys that keep the value before for as long as a rotation lasts.
    pub const FLEET: Self = Self(4);
    /// How answers are read that are streamed in frames: `ResponseExtractor.frame_stream`.
    pub const FRAMES: Self = Self(5);
    /// What this binary supports.
    pub const CURRENT: Self = Self::FRAMES;
}

/// What a binary can do with a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Release {
    /// What a store may hold for it.
    pub level: FeatureLevel,
    /// Text of a step of the schema that it knows beyond those of this code. No real binary has one: tests of upgrades
    /// make the next release with it.
    pub further_step: Option<&'static str>,
    /// How far its clock is ahead of the machine's. That of no real binary is: tests of clocks that differ make it so.
    pub clock_ahead: TimeDelta,
}

impl Release {
    /// This binary.
    pub const CURRENT: Self =
        Self { level: FeatureLevel::CURRENT, further_step: None, clock_ahead: TimeDelta::zero() };
}

impl ReplicaId {
    /// A name that no other run has.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}
