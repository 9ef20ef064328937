//! Rules between resources that are no references: a change, and the state as the whole write will leave it.

use std::collections::BTreeSet;

use crate::domain::{ResourceName, record::Spec};

/// The state as it will be once the whole write is done, whatever the order within it.
pub trait Outlook {
    /// The content of a resource, if it is there then. What it answers holds until the write is made, also against
    /// writers at the same time.
    fn find(&self, name: &str) -> Option<&Spec>;
    /// Whether something beneath a prefix has such a content. That there is one holds until the write is made; that there is
    /// none does not, so that it serves for warnings.
    fn any_beneath(&self, prefix: &str, such: &dyn Fn(&Spec) -> bool) -> bool;
    /// The names beneath a prefix that have such a content. Nothing of it holds until the write is made: it serves for warnings.
    fn all_beneath(&self, prefix: &str, such: &dyn Fn(&Spec) -> bool) -> BTreeSet<ResourceName>;
}

/// What a write does to one resource.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// The resource.
    pub name: &'a ResourceName,
    /// Its content now; `None` for a creation.
    pub before: Option<&'a Spec>,
    /// Its content then; `None` for a deletion.
    pub after: Option<&'a Spec>,
}

/// What a rule has to say of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The other resource that it is about: who does not reach that one is not told of it.
    pub because: String,
    /// What it says.
    pub says: Says,
}

/// Whether a turn is refused, or only remarked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// It must not be.
    Refused {
        /// The field of the resource that it is about; empty for the whole of it.
        field: String,
        /// Stable word.
        reason: &'static str,
        /// Name of the resource that it is about.
        subject: String,
        /// What is wrong and what to do.
        description: String,
    },
    /// It may be, and this is worth knowing.
    Warning(String),
}
