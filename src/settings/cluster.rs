//! What a replica is to the others.

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values,
};
use crate::domain::Release;

const ADVERTISE: Opt = Opt::new(
    "advertise",
    "SIGNALBOX_ADVERTISE",
    "cluster.advertise",
    "ADDRESS",
    "Host and port under which others reach this replica and no other one; by default where it listens",
);
const RAISE_FEATURE_LEVEL: Opt = Opt::new(
    "raise-feature-level",
    "SIGNALBOX_RAISE_FEATURE_LEVEL",
    "cluster.raise_feature_level",
    "WHEN",
    "When the store may hold what older binaries don't know: auto (once all replicas do), or manual",
)
.or("auto");

/// The options of this section.
pub static OPTIONS: [&Opt; 2] = [&ADVERTISE, &RAISE_FEATURE_LEVEL];

/// Characters of an address: a host name has 253, a port 5.
const ADDRESS_CHARS: usize = 260;

/// What a replica is to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Under which address it is reached; `None` where it listens.
    pub advertise: Option<String>,
    /// What this binary is. No option: only tests make it another one.
    pub release: Release,
    /// Whether the store's feature level is raised as soon as every replica supports a higher one.
    pub raises_level: bool,
}

impl Cluster {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let advertise = from.optional(&ADVERTISE, values::text);
        let words = [("auto", true), ("manual", false)];
        let raises_level = from.get(&RAISE_FEATURE_LEVEL, |text| values::word(text, &words));
        let release = Release::CURRENT;
        Some(Self { advertise: advertise?, release, raises_level: raises_level? })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let is_address = |text: &String| {
            let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.is_some() && text.len() <= ADDRESS_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let wrong = self.advertise.as_ref().filter(|text| !is_address(text));
        let what = "is not host and port, for example signalbox-0.signalbox:50051";
        wrong.map(|_| Problem::with(&ADVERTISE, what)).into_iter().collect()
    }
}
